//! The part of a program that says whether indices from data are in range, as a graph of its own.
//!
//! An index that depends on the examples alone, not on weights or chance, can be looked at before anything is computed
//! with it: labels and tokens are. The graph computes every such index and compares it with its bounds; its result
//! [`OUTSIDE`] is whether one of the batch is out of range. What the indices do not need is dead code, so a pass over
//! the data costs little more than reading the labels.
//!
//! Some of these indices are numbers of the data block as they are, others the model computes from them. [`HELD`] is
//! whether one of the former is out of range: then the fault is the data's.

use nnc_graph::{BinaryOp, CompareOp, DType, Graph, Node, Op, OutputKind, ReduceOp, TensorType, ValueId};
use nnc_opt::{Fuel, Rewriter};
use std::collections::BTreeMap;

/// The result's name: `bool[]`.
pub(crate) const OUTSIDE: &str = "outside";
/// The name of another result, `bool[]`, that is there if the data hold indices.
pub(crate) const HELD: &str = "held";

/// The graph that looks at the indices of `graph`; `None` when none of them depends on the examples alone. `data` is
/// the name of the block that the examples are from.
pub(crate) fn index_graph(graph: &Graph, data: &str) -> Option<Graph> {
    let known = known_values(graph);
    let held_values = held_values(graph, &known, data);
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    let (mut outside, mut held): (Option<ValueId>, Option<ValueId>) = (None, None);
    for (id, node) in graph.nodes() {
        rewriter.copy(id);
        for (index, most) in bounded(graph, node).into_iter().filter(|(index, _)| known[index.index()]) {
            let is_held = held_values[index.index()];
            let index = rewriter.value(index);
            let found = any_outside(rewriter.graph_mut(), index, most);
            let mut either = |before: Option<ValueId>| match before {
                Some(before) => rewriter.emit(Op::Binary(BinaryOp::Or), &[before, found]),
                None => found,
            };
            outside = Some(either(outside));
            if is_held {
                held = Some(either(held));
            }
        }
    }
    rewriter.graph_mut().add_output(OUTSIDE, outside?, OutputKind::Result);
    if let Some(held) = held {
        rewriter.graph_mut().add_output(HELD, held, OutputKind::Result);
    }
    Some(rewriter.finish_with_results(&[]))
}

/// The inputs that are indices as a whole, as they are or in another order: all their numbers are below this.
pub(crate) fn input_bounds(graph: &Graph) -> BTreeMap<String, i64> {
    bounds(graph, |_| true)
}

/// The inputs that are labels, of whole numbers that pick from what the examples make, as a loss picks the score of the
/// right class; and how many there are to pick from.
pub(crate) fn label_bounds(graph: &Graph) -> BTreeMap<String, i64> {
    let mut made = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let is_input = matches!(&node.op, Op::Input { name, .. } if !name.starts_with('$'));
        let is_made = is_input || node.operands.iter().any(|operand| made[operand.index()]);
        node.results.iter().for_each(|result| made[result.index()] = is_made);
    }
    bounds(graph, |node| made[node.operands[0].index()])
}

/// The least bound of each input that is an index of one of the nodes that `counts`.
fn bounds(graph: &Graph, counts: impl Fn(&Node) -> bool) -> BTreeMap<String, i64> {
    let mut whole: Vec<Option<&str>> = vec![None; graph.value_count()];
    let mut found: BTreeMap<String, i64> = BTreeMap::new();
    for (_, node) in graph.nodes() {
        let of_input = match &node.op {
            Op::Input { name, ty } => (ty.dtype.is_int() && !name.starts_with('$')).then_some(name.as_str()),
            Op::Cast(dtype) if dtype.is_int() => whole[node.operands[0].index()],
            Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast { .. } | Op::StopGradient => {
                whole[node.operands[0].index()]
            }
            _ => None,
        };
        node.results.iter().for_each(|result| whole[result.index()] = of_input);
        for (index, most) in bounded(graph, node).into_iter().filter(|_| counts(node)) {
            let Some(name) = whole[index.index()] else { continue };
            let bound = found.entry(name.to_owned()).or_insert(i64::MAX);
            *bound = (*bound).min(most + 1);
        }
    }
    found
}

/// For each value, whether it depends on the examples alone.
fn known_values(graph: &Graph) -> Vec<bool> {
    let mut known = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let is_known = match &node.op {
            Op::Input { name, .. } => !name.starts_with('$'),
            Op::Param { .. } | Op::State { .. } | Op::Random { .. } | Op::Grad => false,
            _ => node.operands.iter().all(|operand| known[operand.index()]),
        };
        node.results.iter().for_each(|result| known[result.index()] = is_known);
    }
    known
}

/// For each value, whether it holds numbers of the data block, at most in another order: what a model computes is its
/// own.
fn held_values(graph: &Graph, known: &[bool], data: &str) -> Vec<bool> {
    let mut held = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let of_block = graph.function_of(node) == Some(data);
        let of_operands = node.operands.iter().any(|operand| held[operand.index()]);
        let is_held = match &node.op {
            Op::Input { .. } => true,
            op => (of_block || moves(op)) && of_operands,
        };
        node.results.iter().for_each(|result| held[result.index()] = is_held && known[result.index()]);
    }
    held
}

/// Whether an op leaves numbers what they are.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Cast(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Broadcast { .. }
            | Op::Slice(_)
            | Op::Pad { .. }
            | Op::Concat { .. }
            | Op::StopGradient
    )
}

/// The operands of an op that stop the step when they are out of range, and the largest that is not.
fn bounded(graph: &Graph, node: &Node) -> Vec<(ValueId, i64)> {
    let size = |operand: usize, axis: usize| graph.ty(node.operands[operand]).shape[axis].as_number();
    let one = |most: Option<i64>| most.map(|most| (node.operands[1], most)).into_iter().collect();
    match &node.op {
        Op::Gather { axis, .. } | Op::ScatterAdd { axis, .. } => one(size(0, *axis).map(|size| size - 1)),
        Op::DynamicSlice { axis, size: taken } => {
            one(size(0, *axis).zip(taken.as_number()).map(|(size, taken)| size - taken))
        }
        Op::DynamicUpdate { axes } => {
            let most = |axis: usize| Some(size(0, axis)? - size(1, axis)?);
            let starts = axes.iter().zip(&node.operands[2..]);
            starts.filter_map(|(&axis, &start)| Some((start, most(axis)?))).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether an element lies outside of `0..=most`.
fn any_outside(graph: &mut Graph, index: ValueId, most: i64) -> ValueId {
    let ty = graph.ty(index).clone();
    let mut bound = |number: i64, op: CompareOp| {
        let limit = graph.splat(&TensorType::new(DType::I64, ty.shape.clone()), number as f64);
        let wide = graph.emit(Op::Cast(DType::I64), &[index]);
        graph.emit(Op::Compare(op), &[wide, limit])
    };
    let (below, above) = (bound(0, CompareOp::Lt), bound(most, CompareOp::Gt));
    let either = graph.emit(Op::Binary(BinaryOp::Or), &[below, above]);
    let axes = (0..ty.shape.rank()).collect();
    graph.emit(Op::Reduce { op: ReduceOp::Any, axes }, &[either])
}
