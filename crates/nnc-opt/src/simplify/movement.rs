//! Rules of ops that move elements. They go towards one form: a broadcast reads a value without axes of size 1, a
//! transpose stands inside a broadcast, and no two ops of a kind follow each other.

use super::matching::{broadcast, number, repeated, splat, without_ones};
use super::{Rule, Term};
use nnc_graph::{Dim, Graph, Op, Shape, SliceRange, ValueId};

/// Of reshape.
pub const RESHAPE: &[Rule] = &[
    Rule { name: "reshape to the shape it has", apply: no_reshape },
    Rule { name: "reshape(reshape(x)) = reshape(x)", apply: reshape_of_reshape },
    Rule { name: "reshape(broadcast(scalar)) = broadcast(scalar)", apply: reshape_of_repetition },
];

/// Of transpose.
pub const TRANSPOSE: &[Rule] = &[
    Rule { name: "transpose that moves nothing", apply: no_transpose },
    Rule { name: "transpose(transpose(x)) = transpose(x)", apply: transpose_of_transpose },
    Rule { name: "transpose that moves axes of size 1 = reshape", apply: transpose_of_ones },
    Rule { name: "transpose(broadcast(x)) = broadcast(transpose(x))", apply: transpose_of_broadcast },
];

/// Of broadcast.
pub const BROADCAST: &[Rule] = &[
    Rule { name: "broadcast to the shape it has", apply: no_broadcast },
    Rule { name: "broadcast(broadcast(x)) = broadcast(x)", apply: broadcast_of_broadcast },
    Rule { name: "broadcast(x with axes of size 1) = broadcast(reshape(x))", apply: broadcast_of_ones },
];

/// Of slice.
pub const SLICE: &[Rule] = &[
    Rule { name: "slice of everything", apply: no_slice },
    Rule { name: "slice(slice(x)) = slice(x)", apply: slice_of_slice },
    Rule { name: "slice(concat(..., x, ...)) = x where it is exactly x", apply: slice_of_concat },
    Rule { name: "slice(pad(x)) = x where it is exactly x", apply: slice_of_pad },
    Rule { name: "slice(broadcast(scalar)) = broadcast(scalar)", apply: slice_of_repetition },
];

/// Of a slice with a run-time start.
pub const DYNAMIC_SLICE: &[Rule] =
    &[Rule { name: "dynamic_slice at a known start = slice, where it fits", apply: slice_at_known }];

/// Of an update with a run-time start.
pub const DYNAMIC_UPDATE: &[Rule] =
    &[Rule { name: "dynamic_update of everything at 0 = the new value", apply: update_of_everything }];

/// Of pad.
pub const PAD: &[Rule] = &[Rule { name: "pad by nothing", apply: no_pad }];

/// Of concatenation.
pub const CONCAT: &[Rule] = &[Rule { name: "concat(x) = x", apply: no_concat }];

fn no_reshape(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Reshape(shape) = op else { return None };
    (graph.ty(x[0]).shape == *shape).then_some(Term::Value(x[0]))
}

fn reshape_of_reshape(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let inner = graph.definition(x[0]);
    matches!(inner.op, Op::Reshape(_)).then(|| Term::op(op.clone(), &inner.operands))
}

fn reshape_of_repetition(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Reshape(shape) = op else { return None };
    let (source, ..) = broadcast(graph, x[0])?;
    (graph.ty(source).shape.rank() == 0).then(|| repeated(Term::Value(source), shape))
}

fn no_transpose(_: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Transpose(permutation) = op else { return None };
    permutation.iter().copied().eq(0..permutation.len()).then_some(Term::Value(x[0]))
}

fn transpose_of_transpose(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let inner = graph.definition(x[0]);
    let (Op::Transpose(outer), Op::Transpose(first)) = (op, &inner.op) else { return None };
    let both = outer.iter().map(|&axis| first[axis]).collect();
    Some(Term::op(Op::Transpose(both), &inner.operands))
}

fn transpose_of_ones(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Transpose(permutation) = op else { return None };
    let shape = &graph.ty(x[0]).shape;
    let moving: Vec<usize> = permutation.iter().copied().filter(|&axis| !shape[axis].is(1)).collect();
    let result = permutation.iter().map(|&axis| shape[axis].clone()).collect();
    moving.is_sorted().then(|| Term::op(Op::Reshape(Shape(result)), &x[..1]))
}

fn transpose_of_broadcast(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Transpose(permutation) = op else { return None };
    let (source, shape, axes) = broadcast(graph, x[0])?;
    let place = |axis: usize| permutation.iter().position(|&from| from == axis);
    let placed: Vec<usize> = axes.iter().map(|&axis| place(axis)).collect::<Option<_>>()?;
    // The source's axes in the order of their new places.
    let mut order: Vec<usize> = (0..placed.len()).collect();
    order.sort_by_key(|&axis| placed[axis]);
    let shape = permutation.iter().map(|&axis| shape[axis].clone()).collect::<Vec<Dim>>().into();
    let axes = order.iter().map(|&axis| placed[axis]).collect();
    let source = Term::op(Op::Transpose(order), &[source]);
    Some(Term::Op(Op::Broadcast { shape, axes }, vec![source]))
}

fn no_broadcast(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Broadcast { shape, .. } = op else { return None };
    (graph.ty(x[0]).shape == *shape).then_some(Term::Value(x[0]))
}

fn broadcast_of_broadcast(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Broadcast { shape, axes } = op else { return None };
    let (source, _, first) = broadcast(graph, x[0])?;
    let axes = first.iter().map(|&axis| axes[axis]).collect();
    Some(Term::op(Op::Broadcast { shape: shape.clone(), axes }, &[source]))
}

fn broadcast_of_ones(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Broadcast { shape, axes } = op else { return None };
    let source = &graph.ty(x[0]).shape;
    let kept: Vec<usize> = (0..source.rank()).filter(|&axis| !source[axis].is(1)).collect();
    if kept.len() == source.rank() {
        return None;
    }
    let axes = kept.iter().map(|&axis| axes[axis]).collect();
    let squeezed = Term::op(Op::Reshape(Shape(without_ones(source))), &x[..1]);
    Some(Term::Op(Op::Broadcast { shape: shape.clone(), axes }, vec![squeezed]))
}

fn no_slice(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Slice(ranges) = op else { return None };
    let whole =
        |(range, dim): (&SliceRange, &Dim)| range.start.is(0) && range.size == *dim && (range.step == 1 || dim.is(1));
    ranges.iter().zip(graph.ty(x[0]).shape.iter()).all(whole).then_some(Term::Value(x[0]))
}

fn slice_of_slice(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let inner = graph.definition(x[0]);
    let (Op::Slice(outer), Op::Slice(first)) = (op, &inner.op) else { return None };
    let along = |(outer, first): (&SliceRange, &SliceRange)| SliceRange {
        start: first.start.clone() + Dim::from(first.step) * outer.start.clone(),
        size: outer.size.clone(),
        step: first.step * outer.step,
    };
    Some(Term::op(Op::Slice(outer.iter().zip(first).map(along).collect()), &inner.operands))
}

/// Whether ranges are `size` elements from `start` on each axis, one after the other.
fn is_range(ranges: &[SliceRange], start: impl Fn(usize) -> Dim, shape: &Shape) -> bool {
    let fits = |(axis, range): (usize, &SliceRange)| {
        range.step == 1 && range.size == shape[axis] && range.start == start(axis)
    };
    ranges.iter().enumerate().all(fits)
}

fn slice_of_concat(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let inner = graph.definition(x[0]);
    let (Op::Slice(ranges), Op::Concat { axis }) = (op, &inner.op) else { return None };
    let mut before = Dim::from(0);
    for &part in &inner.operands {
        let shape = &graph.ty(part).shape;
        if is_range(ranges, |at| if at == *axis { before.clone() } else { Dim::from(0) }, shape) {
            return Some(Term::Value(part));
        }
        before = before + shape[*axis].clone();
    }
    None
}

fn slice_of_pad(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let inner = graph.definition(x[0]);
    let (Op::Slice(ranges), Op::Pad { low, .. }) = (op, &inner.op) else { return None };
    let source = inner.operands[0];
    is_range(ranges, |axis| low[axis].clone(), &graph.ty(source).shape).then_some(Term::Value(source))
}

fn slice_of_repetition(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Slice(ranges) = op else { return None };
    let scalar = splat(graph, x[0])?;
    let shape = Shape(ranges.iter().map(|range| range.size.clone()).collect());
    Some(repeated(Term::Op(Op::Constant(scalar.clone()), Vec::new()), &shape))
}

fn no_pad(_: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Pad { low, high } = op else { return None };
    low.iter().chain(high).all(|dim| dim.is(0)).then_some(Term::Value(x[0]))
}

fn no_concat(_: &Graph, _: &Op, x: &[ValueId]) -> Option<Term> {
    (x.len() == 1).then_some(Term::Value(x[0]))
}

fn slice_at_known(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::DynamicSlice { axis, size } = op else { return None };
    let shape = &graph.ty(x[0]).shape;
    let (start, length) = (number(graph, x[1])?, (shape[*axis].as_number()?, size.as_number()?));
    let fits = start >= 0.0 && start + length.1 as f64 <= length.0 as f64;
    let range = |at: usize, dim: &Dim| match at == *axis {
        true => SliceRange { start: Dim::from(start as i64), size: size.clone(), step: 1 },
        false => SliceRange { start: Dim::from(0i64), size: dim.clone(), step: 1 },
    };
    let ranges = shape.iter().enumerate().map(|(at, dim)| range(at, dim)).collect();
    fits.then(|| Term::op(Op::Slice(ranges), &x[..1]))
}

fn update_of_everything(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::DynamicUpdate { .. } = op else { return None };
    let whole = graph.ty(x[0]).shape == graph.ty(x[1]).shape;
    let at_zero = x[2..].iter().all(|&start| number(graph, start) == Some(0.0));
    (whole && at_zero).then_some(Term::Value(x[1]))
}
