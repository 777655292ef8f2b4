//! Rules of `dot` and the transposes around it. The order in which the terms of a sum are added stays the same.

use super::{Rule, Term};
use nnc_graph::{Graph, Op, ValueId};

/// Of `dot`.
pub const DOT: &[Rule] = &[Rule { name: "dot(transpose(a), b) = dot(a, b) along other axes", apply: dot_of_transpose }];

/// Of a transpose.
pub const TRANSPOSE: &[Rule] = &[Rule { name: "transpose(dot(a, b)) = dot(b, a)", apply: transpose_of_dot }];

/// A transpose that leaves the batch axes in front and the free axes in their order only renames axes.
fn dot_of_transpose(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Dot { batch, a_axes, b_axes } = op else { return None };
    let renamed = |value: ValueId, axes: &[usize]| {
        let node = graph.definition(value);
        let Op::Transpose(permutation) = &node.op else { return None };
        let free = (*batch..permutation.len()).filter(|axis| !axes.contains(axis)).map(|axis| permutation[axis]);
        let fits = permutation[..*batch].iter().copied().eq(0..*batch) && free.is_sorted();
        fits.then(|| (node.operands[0], axes.iter().map(|&axis| permutation[axis]).collect::<Vec<_>>()))
    };
    let (a, b) = (renamed(x[0], a_axes), renamed(x[1], b_axes));
    if a.is_none() && b.is_none() {
        return None;
    }
    let (a, a_axes) = a.unwrap_or_else(|| (x[0], a_axes.clone()));
    let (b, b_axes) = b.unwrap_or_else(|| (x[1], b_axes.clone()));
    Some(Term::op(Op::Dot { batch: *batch, a_axes, b_axes }, &[a, b]))
}

/// A transpose that only exchanges `a`'s free axes with `b`'s.
fn transpose_of_dot(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let inner = graph.definition(x[0]);
    let (Op::Transpose(permutation), Op::Dot { batch, a_axes, b_axes }) = (op, &inner.op) else { return None };
    let a_rank = graph.ty(inner.operands[0]).shape.rank();
    let a_end = a_rank - a_axes.len();
    let exchanged = (0..*batch).chain(a_end..permutation.len()).chain(*batch..a_end);
    let op = Op::Dot { batch: *batch, a_axes: b_axes.clone(), b_axes: a_axes.clone() };
    permutation.iter().copied().eq(exchanged).then(|| Term::op(op, &[inner.operands[1], inner.operands[0]]))
}
