//! The same elements in another arrangement: shapes, order of axes, joining, padding.

use super::{Builtin, Call, emit};
use crate::diagnostic::Code;
use crate::elaborate::report::is_divided;
use crate::elaborate::value::Value;
use nnc_graph::{Dim, Op, Shape, TensorType, ValueId};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "reshape",
        parameters: &["x", "shape"],
        doc: "The same elements in row-major order; one dim may be -1 and is worked out.",
        run: reshape,
    },
    Builtin {
        name: "transpose",
        parameters: &["x", "axes?"],
        doc: "Axis `i` of the result is axis `axes[i]` of `x`; without `axes` their order is reversed.",
        run: transpose,
    },
    Builtin { name: "swap", parameters: &["x", "a", "b"], doc: "`x` with two of its axes exchanged.", run: swap },
    Builtin {
        name: "broadcast_to",
        parameters: &["x", "shape"],
        doc: "`x` repeated: missing leading dims, and dims that are a literal 1, stretch.",
        run: broadcast_to,
    },
    Builtin {
        name: "on_axis",
        parameters: &["v", "x", "axis?"],
        doc: "A vector viewed as lying along one axis of `x` (the last), with a literal 1 everywhere else.",
        run: on_axis,
    },
    Builtin {
        name: "concat",
        parameters: &["parts", "axis?"],
        doc: "Tensors joined end to end along an axis they have (the first).",
        run: concat,
    },
    Builtin {
        name: "stack",
        parameters: &["parts", "axis?"],
        doc: "Tensors of one type joined along a new axis (the first).",
        run: stack,
    },
    Builtin {
        name: "split",
        parameters: &["x", "parts", "axis?"],
        doc: "A tuple of so many equal parts along an axis (the last), or of parts of the sizes in a list.",
        run: split,
    },
    Builtin {
        name: "pad",
        parameters: &["x", "by", "axis?", "value?"],
        doc: "`by` (or `[before, after]`) more elements at both ends of the axes (all of them), filled with `value` (0).",
        run: pad,
    },
    Builtin {
        name: "shape",
        parameters: &["x"],
        doc: "The dims of a tensor, as a list of ints known at compile time.",
        run: |call| {
            let x = call.tensor(0)?;
            Some(Value::list(call.ty(x).shape.iter().cloned().map(Value::Int).collect()))
        },
    },
    Builtin {
        name: "len",
        parameters: &["list"],
        doc: "How many entries a list or a tuple has, or how long a string or a tensor's first axis is.",
        run: len,
    },
];

fn reshape(call: &mut Call<'_, '_>) -> Option<Value> {
    let x = call.tensor(0)?;
    let mut shape = call.dims(1)?;
    let ty = call.ty(x);
    let open: Vec<usize> = (0..shape.len()).filter(|&at| shape[at].is(-1)).collect();
    if let [at] = open[..] {
        let known = shape.iter().enumerate().filter(|&(other, _)| other != at);
        let known = known.fold(Dim::from(1i64), |product, (_, dim)| product * dim.clone());
        let total = ty.shape.elements();
        match total.floor_div(&known) {
            Some(dim) if dim.clone() * known.clone() == total || known.as_number().is_none() => shape[at] = dim,
            _ => {
                let message = format!("{ty} has {total} elements, which do not divide into rows of {known}");
                return call.fail(Code::E0301, 1, message);
            }
        }
    } else if open.len() > 1 {
        return call.fail(Code::E0301, 1, "only one dim can be worked out, so only one may be -1");
    }
    call.are_sizes(1, &shape)?;
    if ty.shape == Shape(shape.clone()) {
        return Some(Value::Tensor(x));
    }
    call.emit(Op::Reshape(Shape(shape)), &[x]).map(Value::Tensor)
}

fn transpose(call: &mut Call<'_, '_>) -> Option<Value> {
    let x = call.tensor(0)?;
    let rank = call.rank(x);
    if !call.has(1) {
        return permuted(call, x, (0..rank).rev().collect());
    }
    let (value, span) = call.operand(1);
    let Value::List(items) = value else {
        return call.elaborator.mismatch(&value, "a list of axes", span);
    };
    let mut permutation = Vec::with_capacity(items.len());
    for item in items.iter() {
        let axis = call.elaborator.known_int(item, span)?;
        permutation.push(if axis < 0 { axis + rank as i64 } else { axis });
    }
    let mut sorted = permutation.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..rank as i64) {
        let message = format!("{permutation:?} does not name each axis of {} once", call.ty(x));
        return call.fail(Code::E0307, 1, message);
    }
    permuted(call, x, permutation.into_iter().map(|axis| axis as usize).collect())
}

fn permuted(call: &mut Call<'_, '_>, x: ValueId, permutation: Vec<usize>) -> Option<Value> {
    Some(Value::Tensor(emit::transpose(&mut call.elaborator.graph, x, permutation)))
}

fn swap(call: &mut Call<'_, '_>) -> Option<Value> {
    let x = call.tensor(0)?;
    let rank = call.rank(x);
    let (a, b) = (call.axis(1, rank, 0)?, call.axis(2, rank, 0)?);
    let mut permutation: Vec<usize> = (0..rank).collect();
    permutation.swap(a, b);
    permuted(call, x, permutation)
}

fn broadcast_to(call: &mut Call<'_, '_>) -> Option<Value> {
    let x = call.tensor(0)?;
    let Shape(shape) = call.shape(1)?;
    let ty = call.ty(x);
    let missing = shape.len().checked_sub(ty.shape.rank());
    let fits = missing
        .is_some_and(|missing| ty.shape.iter().zip(&shape[missing..]).all(|(from, to)| from == to || from.is(1)));
    if !fits {
        let target = TensorType::new(ty.dtype, shape);
        return call.fail(Code::E0305, 0, format!("{ty} does not stretch to {target}"));
    }
    Some(Value::Tensor(emit::stretch(&mut call.elaborator.graph, x, &shape)))
}

fn on_axis(call: &mut Call<'_, '_>) -> Option<Value> {
    let (v, x) = (call.tensor(0)?, call.tensor(1)?);
    let (tv, tx) = (call.ty(v), call.ty(x));
    let axis = call.axis(2, tx.shape.rank(), -1)?;
    if tv.shape.rank() != 1 {
        return call.fail(Code::E0305, 0, format!("`on_axis` places a vector, not {tv}"));
    }
    if tv.shape[0] != tx.shape[axis] && !tv.shape[0].is(1) {
        let message = format!("a vector of {} does not lie along axis {axis} of {tx}", tv.shape[0]);
        return call.fail(Code::E0305, 0, message);
    }
    let mut shape = vec![Dim::from(1i64); tx.shape.rank()];
    shape[axis] = tv.shape[0].clone();
    Some(Value::Tensor(emit::reshape(&mut call.elaborator.graph, v, shape)))
}

/// The tensors of a list or tuple.
fn parts(call: &mut Call<'_, '_>) -> Option<Vec<ValueId>> {
    let (value, span) = call.operand(0);
    let (Value::List(items) | Value::Tuple(items)) = &value else {
        if let Value::Tensor(one) = value {
            let (name, ty) = (call.builtin.name, call.ty(one));
            let message = format!("`{name}` joins the tensors of a list, and this is {ty}");
            return call.fail_with_help(Code::E0311, 0, message, format!("write `{name}([a, b], axis=0)`"));
        }
        return call.elaborator.mismatch(&value, "a list of tensors", span);
    };
    if items.is_empty() {
        return call.fail(Code::E0311, 0, "an empty list cannot be joined");
    }
    let first = items.iter().find_map(|item| if let Value::Tensor(x) = item { Some(*x) } else { None });
    let dtype = first.map(|x| call.elaborator.ty(x).dtype);
    items.iter().map(|item| call.elaborator.tensor(item, dtype, span)).collect()
}

fn concat(call: &mut Call<'_, '_>) -> Option<Value> {
    let parts = parts(call)?;
    let rank = call.rank(parts[0]);
    let axis = call.axis(1, rank, 0)?;
    if let [one] = parts[..] {
        return Some(Value::Tensor(one));
    }
    call.emit(Op::Concat { axis }, &parts).map(Value::Tensor)
}

fn stack(call: &mut Call<'_, '_>) -> Option<Value> {
    let parts = parts(call)?;
    let rank = call.rank(parts[0]);
    let axis = call.axis(1, rank + 1, 0)?;
    let first = call.ty(parts[0]);
    for &part in &parts[1..] {
        let ty = call.ty(part);
        let agree = ty.dtype == first.dtype
            && ty.shape.rank() == first.shape.rank()
            && ty.shape.iter().zip(first.shape.iter()).all(|(a, b)| call.elaborator.dims_agree(a, b));
        if !agree {
            return call.fail(
                Code::E0301,
                0,
                format!("`stack` joins tensors of one type, and these are {first} and {ty}"),
            );
        }
    }
    let mut widened = Vec::with_capacity(parts.len());
    for part in parts {
        let mut shape = call.ty(part).shape.to_vec();
        shape.insert(axis.min(shape.len()), Dim::from(1i64));
        widened.push(emit::reshape(&mut call.elaborator.graph, part, shape));
    }
    call.emit(Op::Concat { axis }, &widened).map(Value::Tensor)
}

fn split(call: &mut Call<'_, '_>) -> Option<Value> {
    let x = call.tensor(0)?;
    let ty = call.ty(x);
    let axis = call.axis(2, ty.shape.rank(), -1)?;
    let sizes = sizes(call, &ty.shape[axis])?;
    let mut start = Dim::from(0i64);
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        parts.push(Value::Tensor(emit::slice_axis(&mut call.elaborator.graph, x, axis, start.clone(), size.clone())));
        start = start + size;
    }
    Some(Value::tuple(parts))
}

/// The sizes of the parts that `dim` is split into.
fn sizes(call: &mut Call<'_, '_>, dim: &Dim) -> Option<Vec<Dim>> {
    if let Value::List(_) = call.value(1) {
        let sizes = call.dims(1)?;
        let total = sizes.iter().cloned().fold(Dim::from(0i64), |total, size| total + size);
        let positive = sizes.iter().all(|size| size.as_number().is_none_or(|n| n > 0));
        if total != *dim || !positive {
            return call.fail(Code::E0301, 1, format!("parts of at least 1 that add up to {dim} are needed"));
        }
        return Some(sizes);
    }
    let count = call.int(1)?;
    let size = if (1..=4096).contains(&count) { dim.floor_div(&Dim::from(count)) } else { None };
    // Where a name is left in the division, it is decided when that is bound.
    match size {
        Some(size) if is_divided(&size) || size.clone() * Dim::from(count) == *dim => Some(vec![size; count as usize]),
        _ => call.fail(Code::E0301, 1, format!("{dim} does not split into {count} equal parts")),
    }
}

fn pad(call: &mut Call<'_, '_>) -> Option<Value> {
    let x = call.tensor(0)?;
    let ty = call.ty(x);
    let by = call.dims(1)?;
    let (before, after) = match &by[..] {
        [both] => (both.clone(), both.clone()),
        [before, after] => (before.clone(), after.clone()),
        _ => return call.fail(Code::E0311, 1, "one number, or [before, after]"),
    };
    if by.iter().any(|dim| dim.as_number().is_some_and(|n| n < 0)) {
        return call.fail(Code::E0309, 1, "a padding is not negative");
    }
    let axes = call.axes(2, ty.shape.rank())?;
    let value = match call.has(3) {
        true => call.tensor_as(3, Some(ty.dtype))?,
        false => call.elaborator.graph.scalar(ty.dtype, 0.0),
    };
    let along = |by: &Dim| -> Vec<Dim> {
        (0..ty.shape.rank()).map(|axis| if axes.contains(&axis) { by.clone() } else { Dim::from(0i64) }).collect()
    };
    call.emit(Op::Pad { low: along(&before), high: along(&after) }, &[x, value]).map(Value::Tensor)
}

fn len(call: &mut Call<'_, '_>) -> Option<Value> {
    let (value, span) = call.operand(0);
    match &value {
        Value::List(items) | Value::Tuple(items) => Some(Value::int(items.len() as i64)),
        Value::Str(text) => text.as_ref().map(|text| Value::int(text.chars().count() as i64)),
        Value::Tensor(x) if call.rank(*x) > 0 => Some(Value::Int(call.ty(*x).shape[0].clone())),
        Value::Tensor(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Function(_) | Value::Layer(_) => {
            call.elaborator.mismatch(&value, "a list", span)
        }
        Value::Poison => None,
    }
}
