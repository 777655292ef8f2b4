//! Common subexpression elimination: nodes with equal op and equal operands become one.
//!
//! Value numbering in one walk in program order (Cocke and Schwartz, "Programming Languages and Their Compilers",
//! 1970): operands are already numbered when a node is reached, so equal nodes have equal keys. Leaves are unique by
//! name and are left alone. `Random` is a pure function of its operands and may be shared like any other op. Each node
//! merged is one rewrite.

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Graph, Op, ValueId};
use std::collections::HashMap;

/// The graph with every node computed once.
pub fn eliminate_common_subexpressions(graph: &Graph, fuel: &mut Fuel) -> Graph {
    let mut rewriter = Rewriter::new(graph, fuel);
    // Looked up only, never iterated.
    let mut known: HashMap<(&Op, Vec<ValueId>), Vec<ValueId>> = HashMap::new();
    for (id, node) in graph.nodes() {
        if node.op.is_leaf() {
            rewriter.copy(id);
            continue;
        }
        let key = (&node.op, rewriter.operands(node));
        match known.get(&key) {
            Some(results) if rewriter.spend() => {
                node.results.iter().zip(results).for_each(|(&old, &new)| rewriter.replace(old, new));
            }
            Some(_) | None => {
                let results = rewriter.copy(id);
                known.insert(key, results);
            }
        }
    }
    rewriter.finish()
}
