//! Types of what moves elements: reshapes, slices, pieces put together, gathers.

use super::{Checked, axis_of, fault, fault_at, index_scalar};
use crate::{DType, Dim, Shape, SliceRange, TensorType};

pub(super) fn reshape(x: &TensorType, shape: &Shape) -> Checked<TensorType> {
    let (from, to) = (x.shape.elements(), shape.elements());
    if from != to {
        let target = TensorType::new(x.dtype, shape.clone());
        return fault(format!("{x} has {from} elements, {target} has {to}"));
    }
    Ok(TensorType::new(x.dtype, shape.clone()))
}

pub(super) fn transpose(x: &TensorType, permutation: &[usize]) -> Checked<TensorType> {
    let mut sorted = permutation.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..x.shape.rank()) {
        return fault(format!("{permutation:?} is no permutation of the {} axes of {x}", x.shape.rank()));
    }
    Ok(TensorType::new(x.dtype, permutation.iter().map(|&axis| x.shape[axis].clone()).collect::<Vec<_>>()))
}

pub(super) fn broadcast(x: &TensorType, shape: &Shape, axes: &[usize]) -> Checked<TensorType> {
    let increasing = axes.windows(2).all(|pair| pair[0] < pair[1]);
    if axes.len() != x.shape.rank() || !increasing || axes.iter().any(|&axis| axis >= shape.rank()) {
        return fault(format!("axes {axes:?} do not place {x} in rank {}", shape.rank()));
    }
    for (position, &axis) in axes.iter().enumerate() {
        let (from, to) = (&x.shape[position], &shape[axis]);
        if from != to && !from.is(1) {
            return fault(format!("dim {from} of {x} cannot be stretched to {to}"));
        }
    }
    Ok(TensorType::new(x.dtype, shape.clone()))
}

pub(super) fn slice(x: &TensorType, ranges: &[SliceRange]) -> Checked<TensorType> {
    if ranges.len() != x.shape.rank() {
        return fault(format!("{} ranges for {x}", ranges.len()));
    }
    for (range, dim) in ranges.iter().zip(x.shape.iter()) {
        slice_fits(range, dim)?;
    }
    Ok(TensorType::new(x.dtype, ranges.iter().map(|range| range.size.clone()).collect::<Vec<_>>()))
}

pub(super) fn slice_fits(range: &SliceRange, dim: &Dim) -> Checked<()> {
    let (Some(start), Some(size), Some(dim)) = (range.start.as_number(), range.size.as_number(), dim.as_number())
    else {
        return Ok(());
    };
    let last = start.saturating_add(range.step.saturating_mul(size - 1));
    if size < 1 || range.step == 0 || start < 0 || start >= dim || last < 0 || last >= dim {
        return fault(format!("{size} elements from {start} by {} do not lie within {dim}", range.step));
    }
    Ok(())
}

pub(super) fn pad(x: &TensorType, value: &TensorType, low: &[Dim], high: &[Dim]) -> Checked<TensorType> {
    if *value != TensorType::scalar(x.dtype) {
        return fault_at(1, format!("the filling is a scalar {}, not {value}", x.dtype));
    }
    if low.len() != x.shape.rank() || high.len() != x.shape.rank() {
        return fault(format!("{} and {} paddings for {x}", low.len(), high.len()));
    }
    if low.iter().chain(high).any(|dim| dim.as_number().is_some_and(|n| n < 0)) {
        return fault("a padding is negative".to_owned());
    }
    let padded = x.shape.iter().zip(low.iter().zip(high));
    Ok(TensorType::new(x.dtype, padded.map(|(d, (l, h))| d.clone() + l.clone() + h.clone()).collect::<Vec<_>>()))
}

pub(super) fn concat(parts: &[TensorType], axis: usize) -> Checked<TensorType> {
    let first = &parts[0];
    axis_of(first, axis)?;
    let mut total = first.shape[axis].clone();
    for (position, part) in parts.iter().enumerate().skip(1) {
        let others_agree = part.shape.rank() == first.shape.rank()
            && part.dtype == first.dtype
            && (0..first.shape.rank()).all(|i| i == axis || part.shape[i] == first.shape[i]);
        if !others_agree {
            return fault_at(position, format!("{part} does not continue {first} along axis {axis}"));
        }
        total = total + part.shape[axis].clone();
    }
    let mut shape = first.shape.to_vec();
    shape[axis] = total;
    Ok(TensorType::new(first.dtype, shape))
}

pub(super) fn dynamic_update(
    x: &TensorType,
    value: &TensorType,
    starts: &[TensorType],
    axes: &[usize],
) -> Checked<TensorType> {
    starts.iter().enumerate().try_for_each(|(at, start)| index_scalar(2 + at, start))?;
    for (at, &axis) in axes.iter().enumerate() {
        axis_of(x, axis)?;
        if axes[..at].contains(&axis) {
            return fault(format!("axis {axis} is named twice"));
        }
    }
    let agrees = value.dtype == x.dtype
        && value.shape.rank() == x.shape.rank()
        && (0..x.shape.rank()).all(|i| axes.contains(&i) || value.shape[i] == x.shape[i]);
    if agrees { Ok(x.clone()) } else { fault_at(1, format!("{value} is no range of axes {axes:?} of {x}")) }
}

pub(super) fn gather(x: &TensorType, indices: &TensorType, axis: usize, batch: usize) -> Checked<TensorType> {
    axis_of(x, axis)?;
    if !matches!(indices.dtype, DType::I32 | DType::I64) {
        return fault_at(1, format!("indices are i32 or i64, not {indices}"));
    }
    if batch > axis || batch > indices.shape.rank() || x.shape[..batch] != indices.shape[..batch] {
        return fault_at(1, format!("{indices} does not share the first {batch} axes of {x}"));
    }
    let shape = [&x.shape[..axis], &indices.shape[batch..], &x.shape[axis + 1..]].concat();
    Ok(TensorType::new(x.dtype, shape))
}
