//! Pooling windows and their transposes.

use super::array::{Array, Data, indices, ravel};
use crate::{WindowAttributes, WindowOp};

/// The positions in `x` that a window covers, in row-major order; padding is left out.
fn covered(out: &[usize], x: &[usize], at: &WindowAttributes) -> Vec<usize> {
    let sizes: Vec<usize> = at.size.iter().map(crate::Dim::size).collect();
    let position = |tap: Vec<usize>| {
        let along = |i: usize| {
            let padded = out[i + 2] * at.stride[i].size() + tap[i];
            padded.checked_sub(at.low[i].size()).filter(|&position| position < x[i + 2])
        };
        let spatial: Option<Vec<usize>> = (0..tap.len()).map(along).collect();
        Some(ravel(&[out[..2].to_vec(), spatial?].concat(), x))
    };
    indices(&sizes).filter_map(position).collect()
}

/// The position of the first maximum among `places`; NaN counts as largest.
fn first_maximum(values: &[f64], places: &[usize]) -> Option<usize> {
    let larger = |a: usize, b: usize| !values[a].is_nan() && (values[b].is_nan() || values[b] > values[a]);
    places.iter().copied().reduce(|best, place| if larger(best, place) { place } else { best })
}

pub(super) fn window(op: WindowOp, x: &Array, at: &WindowAttributes, dims: &[usize]) -> Array {
    let values = x.to_floats();
    let of_window = |out: Vec<usize>| {
        let places = covered(&out, &x.dims, at);
        match op {
            WindowOp::Sum => places.iter().map(|&place| values[place]).sum(),
            WindowOp::Max => first_maximum(&values, &places).map_or(f64::NEG_INFINITY, |place| values[place]),
        }
    };
    let of_windows = indices(dims).map(of_window);
    match x.data {
        // The least unsigned number stands for a window of padding alone.
        Data::Int(_) => Array::ints(x.dtype, dims, of_windows.map(|value| value.max(0.0) as i64).collect()),
        Data::Float(_) => Array::floats(x.dtype, dims, of_windows.collect()),
    }
}

pub(super) fn window_grad(op: WindowOp, operands: &[&Array], at: &WindowAttributes, dims: &[usize]) -> Array {
    let dy = operands[operands.len() - 1];
    let (values, cotangents) = (operands[0].to_floats(), dy.to_floats());
    let mut dx = vec![0.0; dims.iter().product()];
    for (out, cotangent) in indices(&dy.dims).zip(cotangents) {
        let places = covered(&out, dims, at);
        match op {
            WindowOp::Sum => places.into_iter().for_each(|place| dx[place] += cotangent),
            WindowOp::Max => first_maximum(&values, &places).into_iter().for_each(|place| dx[place] += cotangent),
        }
    }
    Array::floats(dy.dtype, dims, dx)
}

pub(super) fn window_pick(x: &Array, v: &Array, at: &WindowAttributes, dims: &[usize]) -> Array {
    let (values, source) = (x.to_floats(), v.to_floats());
    let of_window =
        |out: Vec<usize>| first_maximum(&values, &covered(&out, &x.dims, at)).map_or(0.0, |place| source[place]);
    Array::floats(x.dtype, dims, indices(dims).map(of_window).collect())
}
