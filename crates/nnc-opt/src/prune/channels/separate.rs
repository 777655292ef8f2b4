//! `separate`: a number that is repeated over a shape is repeated anew for each reader.
//!
//! Such a value has no channels of its own. If layers shared it, as recurrent ones do the zeros that they begin with,
//! their channels would belong together by it. Equal nodes become one again in the pipeline.

use crate::rewrite::{Fuel, Rewriter, everywhere};
use nnc_graph::{Graph, Op};

/// The graph with a node of its own for each operand that is one number everywhere.
pub fn separate(graph: &Graph) -> Graph {
    everywhere(graph, &mut Fuel::new(None), &separated)
}

fn is_one_number(op: &Op) -> bool {
    matches!(op, Op::Broadcast { axes, .. } if axes.is_empty())
}

fn separated(graph: &Graph, fuel: &mut Fuel) -> Graph {
    let mut rewriter = Rewriter::new(graph, fuel);
    for (id, node) in graph.nodes() {
        for &operand in &node.operands {
            let made_by = graph.value(operand).node;
            if is_one_number(&graph.node(made_by).op) {
                rewriter.copy(made_by);
            }
        }
        rewriter.copy(id);
    }
    rewriter.finish()
}
