//! Ops whose place is known at run time. An index out of range is a [`Fault`], and is never read or written.

use super::Fault;
use super::array::{Array, Data, indices, ravel};

fn within(index: i64, size: usize) -> Result<usize, Fault> {
    usize::try_from(index).ok().filter(|&at| at < size).ok_or(Fault { index, length: 1, size })
}

/// A start from which `length` elements fit into `size`.
fn start_within(start: &Array, length: usize, size: usize) -> Result<usize, Fault> {
    let index = start.to_ints()[0];
    let fits = usize::try_from(index).ok().filter(|&at| at.checked_add(length).is_some_and(|end| end <= size));
    fits.ok_or(Fault { index, length, size })
}

pub(super) fn dynamic_slice(x: &Array, start: &Array, axis: usize, dims: &[usize]) -> Result<Array, Fault> {
    let start = start_within(start, dims[axis], x.dims[axis])?;
    let source = indices(dims).map(|mut index| {
        index[axis] += start;
        ravel(&index, &x.dims)
    });
    Ok(x.pick(source, dims))
}

pub(super) fn dynamic_update(x: &Array, value: &Array, starts: &[&Array], axes: &[usize]) -> Result<Array, Fault> {
    let mut first = vec![0; x.dims.len()];
    for (&axis, start) in axes.iter().zip(starts) {
        first[axis] = start_within(start, value.dims[axis], x.dims[axis])?;
    }
    let mut y = x.clone();
    let target = indices(&value.dims).map(|mut index| {
        index.iter_mut().zip(&first).for_each(|(at, start)| *at += start);
        ravel(&index, &x.dims)
    });
    value.put(target, &mut y);
    Ok(y)
}

/// The source position in `x` of every element that `gather` gives, in row-major order of the result.
fn gather_positions(x: &Array, at: &Array, axis: usize, batch: usize, dims: &[usize]) -> Result<Vec<usize>, Fault> {
    let chosen = at.to_ints();
    let index_rank = at.dims.len() - batch;
    let position = |index: Vec<usize>| {
        let of_indices: Vec<usize> = index[..batch].iter().chain(&index[axis..axis + index_rank]).copied().collect();
        let along = within(chosen[ravel(&of_indices, &at.dims)], x.dims[axis])?;
        let from: Vec<usize> =
            index[..axis].iter().copied().chain([along]).chain(index[axis + index_rank..].iter().copied()).collect();
        Ok(ravel(&from, &x.dims))
    };
    indices(dims).map(position).collect()
}

pub(super) fn gather(x: &Array, at: &Array, axis: usize, batch: usize, dims: &[usize]) -> Result<Array, Fault> {
    let source = gather_positions(x, at, axis, batch, dims)?;
    Ok(x.pick(source.into_iter(), dims))
}

pub(super) fn scatter_add(x: &Array, at: &Array, updates: &Array, axis: usize, batch: usize) -> Result<Array, Fault> {
    let target = gather_positions(x, at, axis, batch, &updates.dims)?;
    let mut y = x.clone();
    match (&mut y.data, &updates.data) {
        (Data::Float(y), Data::Float(updates)) => target.iter().zip(updates).for_each(|(&to, &u)| y[to] += u),
        (Data::Int(y), Data::Int(updates)) => {
            target.iter().zip(updates).for_each(|(&to, &u)| y[to] = y[to].wrapping_add(u));
        }
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("one dtype"),
    }
    Ok(y)
}
