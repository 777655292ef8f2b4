//! Which values follow from parameters, states and constants alone: those of one run ([`weights`]), and those that are
//! the same in every run ([`constants`]), as they follow from nothing that the graph updates.

use nnc_graph::{Graph, Op, ValueId};

/// For each value of a graph whether it is the same in every run. `captured` tells it of the inputs of a body, `varies`
/// of ops that must run every time all the same.
pub fn constants(graph: &Graph, captured: impl Fn(ValueId) -> bool, varies: impl Fn(&Op) -> bool) -> Vec<bool> {
    let updated: Vec<ValueId> = graph.updated().collect();
    following(graph, |leaf| !updated.contains(&leaf), captured, varies)
}

/// For each value of a graph whether it follows from parameters, states and constants alone, also where a training step
/// changes them from run to run.
pub fn weights(graph: &Graph) -> Vec<bool> {
    following(graph, |_| true, |_| false, |_| false)
}

/// For each value whether it follows from constants, and from those parameters and states that `lasts` names, alone.
fn following(
    graph: &Graph,
    lasts: impl Fn(ValueId) -> bool,
    captured: impl Fn(ValueId) -> bool,
    varies: impl Fn(&Op) -> bool,
) -> Vec<bool> {
    let mut constant = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let is_constant = match &node.op {
            Op::Param { .. } | Op::State { .. } => lasts(node.results[0]),
            Op::Constant(_) | Op::Extent { .. } => true,
            Op::Input { .. } => captured(node.results[0]),
            Op::Scan(_) => false,
            op => !varies(op) && node.operands.iter().all(|operand| constant[operand.index()]),
        };
        node.results.iter().for_each(|result| constant[result.index()] = is_constant);
    }
    constant
}
