//! Elements chosen at run time: by index, by a run-time start, by class number.

use super::{Builtin, Call, emit};
use crate::diagnostic::Code;
use crate::elaborate::value::Value;
use nnc_graph::{CompareOp, DType, Dim, Op, Shape, TensorType, ValueId};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "take",
        parameters: &["x", "indices", "axis?"],
        doc: "The entries of one axis of `x` (the first) that `indices` (i32 or i64) name; it becomes their axes.",
        run: take,
    },
    Builtin {
        name: "pick",
        parameters: &["x", "indices", "axis?"],
        doc: "One entry of an axis of `x` (the last) for each place of the other axes: `[...B, C], i32[...B] -> [...B]`.",
        run: pick,
    },
    Builtin {
        name: "take_along",
        parameters: &["x", "indices", "axis?"],
        doc: "Entries of one axis of `x` (the last), for each place of the other axes those that its own `indices` name: `[...B, C], i32[...B, K] -> [...B, K]`.",
        run: take_along,
    },
    Builtin {
        name: "scatter_add",
        parameters: &["x", "indices", "updates", "axis?"],
        doc: "`x` plus each of the updates at its index: the transpose of `take`.",
        run: scatter_add,
    },
    Builtin {
        name: "slice",
        parameters: &["x", "at", "size", "axis?"],
        doc: "`size` entries of an axis (the first) from a start that may be known only at run time.",
        run: slice,
    },
    Builtin {
        name: "update",
        parameters: &["x", "value", "at", "axis?"],
        doc: "`x` with `value` written over it from a start on an axis (the first) that may be known only at run time.",
        run: update,
    },
    Builtin {
        name: "one_hot",
        parameters: &["index", "size"],
        doc: "1 at the index, 0 elsewhere, as f32: `i32[...B] -> f32[...B, size]`.",
        run: one_hot,
    },
];

/// An argument as a tensor of indices.
fn indices(call: &mut Call<'_, '_>, at: usize) -> Option<ValueId> {
    let x = call.tensor(at)?;
    let ty = call.ty(x);
    if matches!(ty.dtype, DType::I32 | DType::I64) {
        return Some(x);
    }
    let message = format!("indices are i32 or i64, not {ty}");
    call.fail_with_help(Code::E0304, at, message, "convert them: `i32(...)`".to_owned())
}

/// A tensor, indices into it, and the axis that they count along.
fn indexed(call: &mut Call<'_, '_>, axis: i64) -> Option<(ValueId, ValueId, usize)> {
    let (x, indices) = (call.tensor(0)?, indices(call, 1)?);
    let axis = call.axis(2, call.rank(x), axis)?;
    Some((x, indices, axis))
}

fn take(call: &mut Call<'_, '_>) -> Option<Value> {
    let (x, indices, axis) = indexed(call, 0)?;
    call.emit(Op::Gather { axis, batch: 0 }, &[x, indices]).map(Value::Tensor)
}

fn pick(call: &mut Call<'_, '_>) -> Option<Value> {
    let (x, indices, axis) = indexed(call, -1)?;
    let (others, shape) = others(call, x, axis);
    let (ty, found) = (call.ty(x), call.ty(indices));
    if found.shape != shape {
        let wanted = TensorType::new(found.dtype, shape);
        return call.fail(Code::E0305, 1, format!("`pick` from {ty} along axis {axis} takes {wanted}, not {found}"));
    }
    let batch = others.len();
    let last = emit::transpose(&mut call.elaborator.graph, x, [others, vec![axis]].concat());
    call.emit(Op::Gather { axis: batch, batch }, &[last, indices]).map(Value::Tensor)
}

fn take_along(call: &mut Call<'_, '_>) -> Option<Value> {
    let (x, indices, axis) = indexed(call, -1)?;
    let (order, shape) = others(call, x, axis);
    let (ty, found, batch) = (call.ty(x), call.ty(indices), order.len());
    if found.shape.rank() != batch + 1 || others(call, indices, axis).1 != shape {
        let message = format!("`take_along` takes indices with the axes of {ty}, but for axis {axis}, not {found}");
        return call.fail(Code::E0305, 1, message);
    }
    // The axis stands last while entries are taken.
    let order = [order, vec![axis]].concat();
    let mut back: Vec<usize> = (0..batch).collect();
    back.insert(axis, batch);
    let graph = &mut call.elaborator.graph;
    let [last, indices] = [x, indices].map(|value| emit::transpose(graph, value, order.clone()));
    let taken = call.emit(Op::Gather { axis: batch, batch }, &[last, indices])?;
    Some(Value::Tensor(emit::transpose(&mut call.elaborator.graph, taken, back)))
}

/// The axes of `x` but for one, and their dims.
fn others(call: &Call<'_, '_>, x: ValueId, axis: usize) -> (Vec<usize>, Shape) {
    let shape = call.ty(x).shape;
    let others: Vec<usize> = (0..shape.rank()).filter(|&other| other != axis).collect();
    let dims = others.iter().map(|&other| shape[other].clone()).collect();
    (others, Shape(dims))
}

fn scatter_add(call: &mut Call<'_, '_>) -> Option<Value> {
    let x = call.tensor(0)?;
    let indices = indices(call, 1)?;
    let dtype = call.ty(x).dtype;
    let updates = call.tensor_as(2, Some(dtype))?;
    let rank = call.rank(x);
    let axis = call.axis(3, rank, 0)?;
    call.emit(Op::ScatterAdd { axis, batch: 0 }, &[x, indices, updates]).map(Value::Tensor)
}

/// Where a slice starts: a number known now, or a scalar i64.
enum Start {
    Known(Dim),
    RunTime(ValueId),
}

fn start(call: &mut Call<'_, '_>, at: usize) -> Option<Start> {
    if let Value::Int(dim) = call.value(at) {
        return Some(Start::Known(dim));
    }
    let value = call.tensor(at)?;
    let ty = call.ty(value);
    if ty.shape.rank() != 0 || !ty.dtype.is_int() {
        let message = format!("the place is an integer scalar, not {ty}");
        return call.fail_with_help(Code::E0304, at, message, "convert it: `i64(...)`".to_owned());
    }
    Some(Start::RunTime(emit::cast(&mut call.elaborator.graph, value, DType::I64)))
}

/// Reports a range that is known not to lie within an axis.
fn check_range(call: &mut Call<'_, '_>, at: usize, start: &Dim, size: &Dim, dim: &Dim) -> Option<()> {
    let end = (start.clone() + size.clone() - dim.clone()).as_number();
    let outside = start.as_number().is_some_and(|n| n < 0) || end.is_some_and(|over| over > 0);
    if outside || size.as_number().is_some_and(|n| n < 1) {
        return call.fail(Code::E0307, at, format!("{size} entries from {start} on do not lie within {dim}"));
    }
    Some(())
}

fn slice(call: &mut Call<'_, '_>) -> Option<Value> {
    let x = call.tensor(0)?;
    let (place, size) = (start(call, 1)?, call.dim(2)?);
    let ty = call.ty(x);
    let axis = call.axis(3, ty.shape.rank(), 0)?;
    match place {
        Start::Known(from) => {
            check_range(call, 1, &from, &size, &ty.shape[axis])?;
            Some(Value::Tensor(emit::slice_axis(&mut call.elaborator.graph, x, axis, from, size)))
        }
        Start::RunTime(from) => {
            check_range(call, 2, &Dim::from(0i64), &size, &ty.shape[axis])?;
            call.emit(Op::DynamicSlice { axis, size }, &[x, from]).map(Value::Tensor)
        }
    }
}

fn update(call: &mut Call<'_, '_>) -> Option<Value> {
    let x = call.tensor(0)?;
    let ty = call.ty(x);
    let value = call.tensor_as(1, Some(ty.dtype))?;
    let place = start(call, 2)?;
    let axis = call.axis(3, ty.shape.rank(), 0)?;
    let found = call.ty(value);
    if found.shape.rank() == ty.shape.rank() {
        let from = if let Start::Known(from) = &place { from.clone() } else { Dim::from(0i64) };
        check_range(call, 2, &from, &found.shape[axis].clone(), &ty.shape[axis])?;
    }
    let at = match place {
        Start::Known(from) => emit::extent(&mut call.elaborator.graph, DType::I64, &from),
        Start::RunTime(from) => from,
    };
    call.emit(Op::DynamicUpdate { axes: vec![axis] }, &[x, value, at]).map(Value::Tensor)
}

fn one_hot(call: &mut Call<'_, '_>) -> Option<Value> {
    let index = call.tensor(0)?;
    let size = call.size(1)?;
    let ty = call.ty(index);
    if !ty.dtype.is_int() {
        let message = format!("an index is an integer, not {ty}");
        return call.fail_with_help(Code::E0304, 0, message, "convert it: `i32(...)`".to_owned());
    }
    let rank = ty.shape.rank();
    // Small numbers, such as u8, may name the first of more places than they count.
    let holds = |dtype: &DType| size.as_number().is_none_or(|size| size - 1 <= *dtype.whole_numbers().end());
    let dtype = [ty.dtype, DType::I32].into_iter().find(holds).unwrap_or(DType::I64);
    let index = emit::cast(&mut call.elaborator.graph, index, dtype);
    let shape = Shape([ty.shape.to_vec(), vec![size]].concat());
    let wide = call.emit(Op::Broadcast { shape: shape.clone(), axes: (0..rank).collect() }, &[index])?;
    let place = call.emit(Op::Iota { ty: TensorType::new(dtype, shape), axis: rank }, &[])?;
    let hit = call.emit(Op::Compare(CompareOp::Eq), &[wide, place])?;
    let float = call.elaborator.options.float;
    call.emit(Op::Cast(float), &[hit]).map(Value::Tensor)
}
