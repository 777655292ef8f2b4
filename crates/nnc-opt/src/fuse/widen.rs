//! Floats that bytes stand for are made where they are read.
//!
//! Activations of a quantised product are stored as bytes. Where something else reads the floats that these stand for,
//! a few steps of arithmetic by numbers away, as a residual sum does that comes later, storing the floats too would
//! cost four times as much memory traffic again. So the first of these steps, a cast, is kept out of the group that
//! makes the bytes: the reader's group takes it, and reads bytes. What is computed stays the same.
//!
//! Only floats that would be stored are worth it, and only for readers in one group, which can take the steps in.

use super::class::{Class, class};
use super::{Group, Partition};
use crate::simplify::matching::number;
use nnc_graph::{BinaryOp, DType, Graph, Node, NodeId, Op, ValueId};
use std::collections::BTreeSet;

/// The casts of a partition that are better made by the group that reads what follows from them.
pub fn casts_for_readers(graph: &Graph, partition: &Partition) -> BTreeSet<NodeId> {
    let group_of = partition.group_of(graph);
    let is_for_reader = |group: &Group, id: NodeId| {
        let node = graph.node(id);
        is_widening(graph, node)
            && group.outputs.contains(&node.operands[0])
            && is_read_in_one_place(graph, &group_of, group, id)
    };
    let casts = |group: &Group| group.nodes.iter().copied().filter(|&id| is_for_reader(group, id)).collect::<Vec<_>>();
    partition.groups.iter().flat_map(casts).collect()
}

/// Those of some casts from which nothing is stored but what their readers make of it.
pub fn taken_in(graph: &Graph, partition: &Partition, casts: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let stored = partition.stored(graph);
    let is_stored = |id: &NodeId| stored[graph.node(*id).results[0].index()];
    casts.iter().copied().filter(|&cast| !steps(graph, cast).iter().any(is_stored)).collect()
}

fn is_widening(graph: &Graph, node: &Node) -> bool {
    let is_byte = |value: ValueId| matches!(graph.ty(value).dtype, DType::U8 | DType::I8);
    matches!(node.op, Op::Cast(to) if to.size() > 1 && is_byte(node.operands[0]))
}

/// A cast and the arithmetic by numbers that follows from it alone.
fn steps(graph: &Graph, cast: NodeId) -> Vec<NodeId> {
    let mut steps = vec![cast];
    let mut at = 0;
    while let Some(&step) = steps.get(at) {
        at += 1;
        let value = graph.node(step).results[0];
        let more = graph.users(step).into_iter().filter(|&user| is_step(graph, graph.node(user), value));
        let more: Vec<NodeId> = more.filter(|user| !steps.contains(user)).collect();
        steps.extend(more);
    }
    steps
}

fn is_step(graph: &Graph, node: &Node, value: ValueId) -> bool {
    let by_number = |other: ValueId| number(graph, other).is_some();
    match (&node.op, &node.operands[..]) {
        (Op::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul), &[a, b]) => {
            a == value && by_number(b) || b == value && by_number(a)
        }
        _ => false,
    }
}

/// Whether the steps from a cast are in its group, and all that reads them is in another one that could have them
/// instead.
fn is_read_in_one_place(graph: &Graph, group_of: &[usize], group: &Group, cast: NodeId) -> bool {
    let steps = steps(graph, cast);
    let put_out = |id: &NodeId| graph.outputs().iter().any(|output| graph.node(*id).results.contains(&output.value));
    if steps.iter().any(|step| !group.nodes.contains(step) || put_out(step)) {
        return false;
    }
    let users: BTreeSet<NodeId> = steps.iter().flat_map(|&step| graph.users(step)).collect();
    let readers: Vec<NodeId> = users.into_iter().filter(|user| !steps.contains(user)).collect();
    let takes = |id: &NodeId| matches!(class(&graph.node(*id).op), Class::Pointwise | Class::Reduce);
    let places: BTreeSet<usize> = readers.iter().map(|reader| group_of[reader.index()]).collect();
    readers.iter().all(takes) && places.len() == 1 && !places.contains(&group_of[cast.index()])
}
