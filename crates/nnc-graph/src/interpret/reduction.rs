//! Reductions: sums and products in `f64` or wrapped `i64`, in row-major order.

use super::array::{Array, Data, indices, ravel};
use crate::{DType, ReduceOp};

/// For every element of `x` in order, the position of its result.
fn targets(x: &Array, axes: &[usize], dims: &[usize]) -> impl Iterator<Item = usize> {
    indices(&x.dims).map(move |index| {
        let kept: Vec<usize> = (0..index.len()).filter(|axis| !axes.contains(axis)).map(|axis| index[axis]).collect();
        ravel(&kept, dims)
    })
}

pub(super) fn reduce(op: ReduceOp, x: &Array, axes: &[usize], dims: &[usize]) -> Array {
    let elements = dims.iter().product();
    match &x.data {
        Data::Float(values) => {
            let mut y = vec![float_identity(op); elements];
            targets(x, axes, dims).zip(values).for_each(|(to, &value)| y[to] = join_floats(op, y[to], value));
            Array::floats(x.dtype, dims, y)
        }
        Data::Int(values) => {
            let mut y = vec![int_identity(op, x.dtype); elements];
            targets(x, axes, dims).zip(values).for_each(|(to, &value)| y[to] = join_ints(op, y[to], value));
            Array::ints(x.dtype, dims, y)
        }
    }
}

fn float_identity(op: ReduceOp) -> f64 {
    match op {
        ReduceOp::Sum | ReduceOp::Any => 0.0,
        ReduceOp::Product | ReduceOp::All => 1.0,
        ReduceOp::Max => f64::NEG_INFINITY,
        ReduceOp::Min => f64::INFINITY,
    }
}

fn int_identity(op: ReduceOp, dtype: DType) -> i64 {
    let bits = 8 * dtype.size() as u32;
    let (least, largest) = match dtype {
        DType::U8 => (0, 255),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
        DType::Bool | DType::F32 | DType::F64 | DType::F16 | DType::Bf16 => (0, 1),
    };
    match op {
        ReduceOp::Sum | ReduceOp::Any => 0,
        ReduceOp::Product | ReduceOp::All => 1,
        ReduceOp::Max => least,
        ReduceOp::Min => largest,
    }
}

fn join_floats(op: ReduceOp, a: f64, b: f64) -> f64 {
    match op {
        ReduceOp::Sum => a + b,
        ReduceOp::Product => a * b,
        ReduceOp::Max | ReduceOp::Min if a.is_nan() || b.is_nan() => f64::NAN,
        ReduceOp::Max => a.max(b),
        ReduceOp::Min => a.min(b),
        ReduceOp::Any | ReduceOp::All => unreachable!("a verified graph applies it to bool only"),
    }
}

fn join_ints(op: ReduceOp, a: i64, b: i64) -> i64 {
    match op {
        ReduceOp::Sum => a.wrapping_add(b),
        ReduceOp::Product => a.wrapping_mul(b),
        ReduceOp::Max => a.max(b),
        ReduceOp::Min => a.min(b),
        ReduceOp::Any => a | b,
        ReduceOp::All => a & b,
    }
}

pub(super) fn argmax(x: &Array, axis: usize, dims: &[usize]) -> Array {
    match &x.data {
        Data::Float(values) => {
            let larger = |value: f64, best: f64| !best.is_nan() && (value.is_nan() || value > best);
            first_best(x, (axis, dims), values, larger)
        }
        Data::Int(values) => first_best(x, (axis, dims), values, |value, best| value > best),
    }
}

/// Along an axis, the place of the first element that none behind it takes the place of.
fn first_best<T: Copy>(
    x: &Array,
    (axis, dims): (usize, &[usize]),
    values: &[T],
    takes: impl Fn(T, T) -> bool,
) -> Array {
    let mut best: Vec<Option<(T, i64)>> = vec![None; dims.iter().product()];
    let axes = [axis];
    let places: Vec<usize> = targets(x, &axes, dims).collect();
    for ((index, to), &value) in indices(&x.dims).zip(places).zip(values) {
        if best[to].is_none_or(|(so_far, _)| takes(value, so_far)) {
            best[to] = Some((value, index[axis] as i64));
        }
    }
    Array::ints(DType::I32, dims, best.into_iter().map(|found| found.map_or(0, |(_, at)| at)).collect())
}
