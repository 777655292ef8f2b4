//! Ops that move elements without computing.

use super::array::{Array, indices, ravel};
use crate::{DType, Dim, SliceRange};

pub(super) fn iota(dtype: DType, dims: &[usize], axis: usize) -> Array {
    let positions = indices(dims).map(|index| index[axis]);
    if dtype.is_float() {
        return Array::floats(dtype, dims, positions.map(|at| at as f64).collect());
    }
    Array::ints(dtype, dims, positions.map(|at| at as i64).collect())
}

pub(super) fn transpose(x: &Array, permutation: &[usize], dims: &[usize]) -> Array {
    let source = indices(dims).map(|index| {
        let mut from = vec![0; index.len()];
        permutation.iter().zip(&index).for_each(|(&axis, &at)| from[axis] = at);
        ravel(&from, &x.dims)
    });
    x.pick(source, dims)
}

pub(super) fn broadcast(x: &Array, axes: &[usize], dims: &[usize]) -> Array {
    let source = indices(dims).map(|index| {
        let from: Vec<usize> =
            axes.iter().zip(&x.dims).map(|(&axis, &size)| if size == 1 { 0 } else { index[axis] }).collect();
        ravel(&from, &x.dims)
    });
    x.pick(source, dims)
}

pub(super) fn slice(x: &Array, ranges: &[SliceRange], dims: &[usize]) -> Array {
    let source = indices(dims).map(|index| {
        let along = |(range, &at): (&SliceRange, &usize)| (range.start.size() as i64 + range.step * at as i64) as usize;
        let from: Vec<usize> = ranges.iter().zip(&index).map(along).collect();
        ravel(&from, &x.dims)
    });
    x.pick(source, dims)
}

pub(super) fn pad(x: &Array, value: &Array, low: &[Dim], dims: &[usize]) -> Array {
    let elements = dims.iter().product();
    let mut y = value.pick(std::iter::repeat_n(0, elements), dims);
    let target = indices(&x.dims).map(|index| {
        let to: Vec<usize> = index.iter().zip(low).map(|(&at, low)| at + low.size()).collect();
        ravel(&to, dims)
    });
    x.put(target, &mut y);
    y
}

pub(super) fn concat(parts: &[&Array], axis: usize, dims: &[usize]) -> Array {
    let mut y = parts[0].pick(std::iter::repeat_n(0, dims.iter().product()), dims);
    let mut start = 0;
    for part in parts {
        let target = indices(&part.dims).map(|mut index| {
            index[axis] += start;
            ravel(&index, dims)
        });
        part.put(target, &mut y);
        start += part.dims[axis];
    }
    y
}
