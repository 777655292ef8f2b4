//! Which values are the same in every run of a graph that updates nothing: those that follow from parameters, states
//! and constants alone.

use nnc_graph::{Graph, Op, ValueId};

/// For each value of a graph whether it is the same in every run. `captured` tells it of the inputs of a body, `varies`
/// of ops that must run every time all the same.
pub fn constants(graph: &Graph, captured: impl Fn(ValueId) -> bool, varies: impl Fn(&Op) -> bool) -> Vec<bool> {
    let mut constant = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let is_constant = match &node.op {
            Op::Param { .. } | Op::State { .. } | Op::Constant(_) | Op::Extent { .. } => true,
            Op::Input { .. } => captured(node.results[0]),
            Op::Scan(_) => false,
            op => !varies(op) && node.operands.iter().all(|operand| constant[operand.index()]),
        };
        node.results.iter().for_each(|result| constant[result.index()] = is_constant);
    }
    constant
}
