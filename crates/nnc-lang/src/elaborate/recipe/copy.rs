//! Part of one graph copied into another: what an output needs, and nothing else.

use nnc_graph::{Graph, NodeId, Op, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Copies what `wanted` need into `target`. `leaf` may give a value of the target that stands for an input, parameter
/// or state of the source; else the leaf is copied, once for each name or path.
pub(crate) fn copy(
    source: &Graph,
    wanted: &[ValueId],
    target: &mut Graph,
    leaf: &mut dyn FnMut(&mut Graph, &Op) -> Option<ValueId>,
) -> Vec<ValueId> {
    let needed = ancestors(source, wanted);
    let mut copies: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for (id, node) in source.nodes().filter(|(id, _)| needed.contains(id)) {
        let replaced = if node.op.is_leaf() { leaf(target, &node.op) } else { None };
        if let Some(value) = replaced {
            copies.insert(node.results[0], value);
            continue;
        }
        let origin = source.origin_of(node).map(|origin| target.intern_origin(origin.clone()));
        let former = target.set_origin(origin);
        let operands: Vec<ValueId> = node.operands.iter().map(|operand| copies[operand]).collect();
        let results = target.add(node.op.clone(), &operands);
        target.set_origin(former);
        let results = results.unwrap_or_else(|error| panic!("compiler bug: copy of {id}: {error}"));
        for (&old, new) in node.results.iter().zip(results) {
            if let Some(name) = &source.value(old).name {
                target.set_name(new, name);
            }
            copies.insert(old, new);
        }
    }
    wanted.iter().map(|value| copies[value]).collect()
}

/// The nodes that the values depend on.
pub(crate) fn ancestors(graph: &Graph, values: &[ValueId]) -> BTreeSet<NodeId> {
    walk(graph, values, |_| true)
}

/// The nodes that the values depend on by derivative: what lies behind a `stop_gradient`, or has no derivative, is left
/// out.
pub(crate) fn differentiable_ancestors(graph: &Graph, values: &[ValueId]) -> BTreeSet<NodeId> {
    walk(graph, values, |op| !matches!(op, Op::StopGradient | Op::Compare(_) | Op::ArgMax { .. }))
}

fn walk(graph: &Graph, values: &[ValueId], passes: impl Fn(&Op) -> bool) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    let mut stack: Vec<NodeId> = values.iter().map(|&value| graph.value(value).node).collect();
    while let Some(id) = stack.pop() {
        if found.insert(id) && passes(&graph.node(id).op) {
            stack.extend(graph.node(id).operands.iter().map(|&operand| graph.value(operand).node));
        }
    }
    found
}
