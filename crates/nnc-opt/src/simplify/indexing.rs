//! Rules of ops that are told at run time where.

use super::matching::{constant, is};
use super::{Rule, Term};
use nnc_graph::{BinaryOp, CompareOp, Dim, Graph, Op, TensorType, ValueId};

/// Of scatter-add.
pub const SCATTER_ADD: &[Rule] =
    &[Rule { name: "scatter_add(0, i, u) with one index a row = select(iota == i, 0 + u, 0)", apply: one_of_each_row }];

/// The derivative of picking one element of each row: elementwise work, which shares a kernel with that of softmax.
///
/// An index out of range would name no element and so pass unnoticed. It is refused by the gather whose derivative this
/// is, so the rule asks for it.
fn one_of_each_row(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let &Op::ScatterAdd { axis, batch } = op else { return None };
    let (ty, index, update) = (graph.ty(x[0]), graph.ty(x[1]), graph.ty(x[2]));
    let one_a_row = batch > 0 && index.shape.rank() == batch;
    if !one_a_row || !is(graph, x[0], 0.0) || !is_checked(graph, x[1], &ty.shape[axis]) {
        return None;
    }
    let along = |value: ValueId, axes: Vec<usize>| Term::op(Op::Broadcast { shape: ty.shape.clone(), axes }, &[value]);
    let number = Op::Iota { ty: TensorType::new(index.dtype, ty.shape.clone()), axis };
    let index = along(x[1], (0..batch).collect());
    let here = Term::Op(Op::Compare(CompareOp::Eq), vec![Term::Op(number, Vec::new()), index]);
    // The sum turns -0 into +0, as that of the scatter-add does.
    let sum = Term::Op(Op::Binary(BinaryOp::Add), vec![constant(update, 0.0), Term::Value(x[2])]);
    let axes = (0..ty.shape.rank()).filter(|&other| other != axis).collect();
    let sum = Term::Op(Op::Broadcast { shape: ty.shape.clone(), axes }, vec![sum]);
    Some(Term::Op(Op::Select, vec![here, sum, Term::Value(x[0])]))
}

/// Whether a gather refuses what of `index` does not lie within `size`.
fn is_checked(graph: &Graph, index: ValueId, size: &Dim) -> bool {
    graph.users(graph.value(index).node).into_iter().any(|user| {
        let node = graph.node(user);
        match &node.op {
            Op::Gather { axis, .. } => node.operands[1] == index && graph.ty(node.operands[0]).shape[*axis] == *size,
            _ => false,
        }
    })
}
