//! Reductions over axes: `axis=-1`, `axis=[0, 2]`, `axis=all_but(1)`, or all axes; `keep=true` leaves them with size 1.

use super::{Builtin, Call, emit, numbers};
use crate::diagnostic::Code;
use crate::elaborate::value::Value;
use nnc_graph::{BinaryOp, DType, Dim, Op, ReduceOp, UnaryOp, ValueId};

macro_rules! reduction {
    ($name:literal, $op:ident, $doc:literal) => {
        Builtin {
            name: $name,
            parameters: &["x", "axis?", "keep?"],
            doc: $doc,
            run: |call| reduction(call, ReduceOp::$op),
        }
    };
}

pub(super) const TABLE: &[Builtin] = &[
    reduction!("sum", Sum, "The sum over the axes, or of a list of numbers."),
    reduction!("max", Max, "The largest element over the axes, or of a list of numbers; NaN if one is."),
    reduction!("min", Min, "The smallest element over the axes, or of a list of numbers; NaN if one is."),
    reduction!("prod", Product, "The product over the axes, or of a list of numbers."),
    reduction!("any", Any, "Whether some element over the axes holds."),
    reduction!("all", All, "Whether every element over the axes holds."),
    Builtin {
        name: "mean",
        parameters: &["x", "axis?", "keep?"],
        doc: "The arithmetic mean over the axes; of a bool the share that holds, as f32.",
        run: mean,
    },
    Builtin {
        name: "argmax",
        parameters: &["x", "axis?", "keep?"],
        doc: "The position of the first largest element along one axis (the last), as i32.",
        run: |call| argmax(call, false),
    },
    Builtin {
        name: "argmin",
        parameters: &["x", "axis?", "keep?"],
        doc: "The position of the first smallest element along one axis (the last), as i32.",
        run: |call| argmax(call, true),
    },
    Builtin {
        name: "all_but",
        parameters: &["axis"],
        doc: "Every axis but one, as the `axis` of a reduction.",
        run: |call| {
            let axis = call.int(0)?.clamp(-super::call::ALL_BUT_REACH, super::call::ALL_BUT_REACH);
            Some(Value::int(super::call::ALL_BUT + axis))
        },
    },
];

fn reduction(call: &mut Call<'_, '_>, op: ReduceOp) -> Option<Value> {
    if let (Value::List(items), false, Some(scalar)) = (call.value(0), call.has(1), of_scalars(op))
        && !call.value(0).has_tensor()
    {
        return match numbers::fold(scalar, &items) {
            Some(value) => Some(value),
            None => {
                let name = &call.builtin.name;
                call.fail(
                    Code::E0311,
                    0,
                    format!("`{name}` of a list that is empty, not of numbers, or gives too large a number"),
                )
            }
        };
    }
    refuse_two(call, op)?;
    let x = call.tensor(0)?;
    let ty = call.ty(x);
    let logical = matches!(op, ReduceOp::Any | ReduceOp::All);
    if logical != (ty.dtype == DType::Bool) {
        let (wanted, help) =
            if logical { ("bool", "compare it: `x != 0`") } else { ("numbers", "convert it first: `f32(...)`") };
        let message = format!("`{}` works on {wanted}, not on {ty}", call.builtin.name);
        return call.fail_with_help(Code::E0304, 0, message, help.to_owned());
    }
    let axes = call.axes(1, ty.shape.rank())?;
    let keep = call.truth_or(2, false)?;
    let y = reduced(call, op, x, &axes, keep)?;
    Some(Value::Tensor(y))
}

/// Reports `max(a, b)`, of which other languages give the larger one.
fn refuse_two(call: &mut Call<'_, '_>, op: ReduceOp) -> Option<()> {
    let of_two = match op {
        ReduceOp::Max => "maximum",
        ReduceOp::Min => "minimum",
        ReduceOp::Sum | ReduceOp::Product | ReduceOp::Any | ReduceOp::All => return Some(()),
    };
    let is_number = matches!(call.value(0), Value::Int(_) | Value::Float(_));
    if !call.has(1) || !is_number && !matches!(call.value(1), Value::Tensor(_) | Value::Float(_)) {
        return Some(());
    }
    let name = call.builtin.name;
    let message = format!("`{name}` is over axes of one tensor, or of a list of numbers");
    call.fail_with_help(Code::E0311, 1, message, format!("of two it is `{of_two}(a, b)`"))
}

fn of_scalars(op: ReduceOp) -> Option<BinaryOp> {
    match op {
        ReduceOp::Sum => Some(BinaryOp::Add),
        ReduceOp::Product => Some(BinaryOp::Mul),
        ReduceOp::Max => Some(BinaryOp::Max),
        ReduceOp::Min => Some(BinaryOp::Min),
        ReduceOp::Any | ReduceOp::All => None,
    }
}

fn reduced(call: &mut Call<'_, '_>, op: ReduceOp, x: ValueId, axes: &[usize], keep: bool) -> Option<ValueId> {
    if axes.is_empty() {
        return Some(x);
    }
    let y = call.emit(Op::Reduce { op, axes: axes.to_vec() }, &[x])?;
    Some(if keep { kept(call, x, y, axes) } else { y })
}

/// `y` with the axes of `x` that it lost, each of size 1.
fn kept(call: &mut Call<'_, '_>, x: ValueId, y: ValueId, axes: &[usize]) -> ValueId {
    let mut shape = call.ty(x).shape.to_vec();
    for &axis in axes {
        shape[axis] = Dim::from(1i64);
    }
    emit::reshape(&mut call.elaborator.graph, y, shape)
}

fn mean(call: &mut Call<'_, '_>) -> Option<Value> {
    if let (Value::List(items), false) = (call.value(0), call.value(0).has_tensor()) {
        let total = numbers::fold(BinaryOp::Add, &items)?;
        return match items.len() {
            0 => call.fail(Code::E0311, 0, "the mean of an empty list"),
            count => Some(Value::Float(numbers::as_float(&total).map(|total| total / count as f64))),
        };
    }
    let mut x = call.tensor(0)?;
    let ty = call.ty(x);
    if ty.dtype == DType::Bool {
        let float = call.elaborator.options.float;
        x = call.emit(Op::Cast(float), &[x])?;
    } else if !ty.dtype.is_float() {
        let message = format!("`mean` works on floats and bool, not on {ty}");
        return call.fail_with_help(Code::E0304, 0, message, "convert it first: `mean(f32(...))`".to_owned());
    }
    let axes = call.axes(1, ty.shape.rank())?;
    let keep = call.truth_or(2, false)?;
    let total = reduced(call, ReduceOp::Sum, x, &axes, keep)?;
    let count = axes.iter().fold(Dim::from(1i64), |count, &axis| count * ty.shape[axis].clone());
    if count.is(1) {
        return Some(Value::Tensor(total));
    }
    let total_ty = call.ty(total);
    let graph = &mut call.elaborator.graph;
    let count = emit::extent(graph, total_ty.dtype, &count);
    let count = emit::stretch(graph, count, &total_ty.shape);
    call.emit(Op::Binary(BinaryOp::Div), &[total, count]).map(Value::Tensor)
}

fn argmax(call: &mut Call<'_, '_>, smallest: bool) -> Option<Value> {
    let x = call.tensor(0)?;
    let ty = call.ty(x);
    if ty.dtype == DType::Bool {
        let message = format!("`{}` works on numbers, not on {ty}", call.builtin.name);
        return call.fail_with_help(Code::E0304, 0, message, "convert it first: `i32(...)`".to_owned());
    }
    let axis = call.axis(1, ty.shape.rank(), -1)?;
    let keep = call.truth_or(2, false)?;
    let ordered = if smallest { reversed(call, x)? } else { x };
    let y = call.emit(Op::ArgMax { axis }, &[ordered])?;
    Some(Value::Tensor(if keep { kept(call, x, y, &[axis]) } else { y }))
}

/// What is in the other order: `-x`, of integers `-1 - x`, as the least has no negative.
fn reversed(call: &mut Call<'_, '_>, x: ValueId) -> Option<ValueId> {
    let ty = call.ty(x);
    if ty.dtype.is_float() {
        return call.emit(Op::Unary(UnaryOp::Neg), &[x]);
    }
    let wide = if ty.dtype == DType::I64 { x } else { call.emit(Op::Cast(DType::I64), &[x])? };
    let wide_ty = call.ty(wide);
    let last = call.elaborator.graph.splat(&wide_ty, -1.0);
    call.emit(Op::Binary(BinaryOp::Sub), &[last, wide])
}
