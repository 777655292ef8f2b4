//! What a value is computed from when it is computed again.

use crate::fuse::{Class, Views, class};
use nnc_graph::{Graph, NodeId, Op, ValueId};

/// Whether a node does so little for each element that it is computed again with whatever reads it. What writes into
/// another value's place is not.
pub fn is_cheap(op: &Op) -> bool {
    match class(op) {
        Class::Pointwise | Class::View => true,
        Class::Indexed => !matches!(op, Op::DynamicUpdate { .. }),
        Class::Leaf | Class::Reduce | Class::Anchor | Class::Loop => false,
    }
}

/// How a value is computed again.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Sources {
    /// What is read: leaves, values that are stored, and results of what is not cheap; in no view.
    pub values: Vec<ValueId>,
    /// The nodes that are computed, the value's own among them.
    pub nodes: Vec<NodeId>,
}

/// From what a value is computed again, when of `stored` values and of what is not cheap the first result is read.
pub fn sources(graph: &Graph, views: &Views, stored: &[bool], value: ValueId) -> Sources {
    let mut found = Sources::default();
    let mut pending = vec![graph.value(value).node];
    while let Some(id) = pending.pop() {
        if found.nodes.contains(&id) {
            continue;
        }
        found.nodes.push(id);
        for base in graph.node(id).operands.iter().map(|&operand| views.base(operand)) {
            if !stored[base.index()] && is_cheap(&graph.definition(base).op) {
                pending.push(graph.value(base).node);
            } else if !found.values.contains(&base) {
                found.values.push(base);
            }
        }
    }
    found
}
