//! What moves elements: reshapes, slices, pieces put together, gathers.

use super::super::generator::{Fact, Generator};
use super::rounded;
use crate::{DType, Dim, Op, Shape, SliceRange, TensorType, ValueId};

pub(super) fn any(g: &mut Generator) -> ValueId {
    if g.rng.one_in(4) { g.integer() } else { g.float() }
}

pub(super) fn reshape(g: &mut Generator) {
    let x = any(g);
    let elements = g.ty(x).shape.elements();
    let size = elements.size();
    let divisors: Vec<usize> = (1..=size).filter(|d| size.is_multiple_of(*d)).collect();
    let outer = g.rng.choose(&divisors);
    let dims = match g.rng.int(0, 2) {
        0 => vec![size],
        1 => vec![outer, size / outer],
        _ => vec![outer, 1, size / outer],
    };
    g.move_elements(Op::Reshape(Shape::of(&dims)), &[x]);
}

pub(super) fn transpose(g: &mut Generator) {
    let x = any(g);
    let mut permutation: Vec<usize> = (0..g.ty(x).shape.rank()).collect();
    for last in (1..permutation.len()).rev() {
        let other = g.rng.index(last + 1);
        permutation.swap(last, other);
    }
    g.move_elements(Op::Transpose(permutation), &[x]);
}

pub(super) fn broadcast(g: &mut Generator) {
    let x = any(g);
    let mut shape = Vec::new();
    let mut axes = Vec::new();
    for dim in g.ty(x).shape.iter() {
        if shape.len() + 1 < 4 && g.rng.one_in(3) {
            shape.push(Dim::from(g.rng.int(1, 3)));
        }
        axes.push(shape.len());
        shape.push(if dim.is(1) { Dim::from(g.rng.int(1, 3)) } else { dim.clone() });
    }
    if shape.len() < 3 {
        shape.push(Dim::from(g.rng.int(1, 3)));
    }
    g.move_elements(Op::Broadcast { shape: shape.into(), axes }, &[x]);
}

pub(super) fn slice(g: &mut Generator) {
    let x = any(g);
    let mut ranges = Vec::new();
    for dim in g.ty(x).shape.iter() {
        let step = g.rng.choose(&[1, 1, 1, 2, -1, -2]);
        let length = dim.size() as i64;
        let size = g.rng.int(1, 1 + (length - 1) / i64::abs(step));
        let reach = (size - 1) * i64::abs(step);
        let low = g.rng.int(0, length - 1 - reach);
        let start = if step > 0 { low } else { low + reach };
        ranges.push(SliceRange { start: start.into(), size: size.into(), step });
    }
    g.move_elements(Op::Slice(ranges), &[x]);
}

pub(super) fn pad(g: &mut Generator) {
    let x = any(g);
    let ty = g.ty(x);
    let value = g.of_type(&TensorType::scalar(ty.dtype));
    let draw = |g: &mut Generator| (0..ty.shape.rank()).map(|_| Dim::from(g.rng.int(0, 2))).collect::<Vec<_>>();
    let (low, high) = (draw(g), draw(g));
    let (a, b) = (g.fact(x), g.fact(value));
    let fact = Fact { bound: a.bound.max(b.bound), exact: a.exact && b.exact };
    g.emit(Op::Pad { low, high }, &[x, value], fact);
}

pub(super) fn concat(g: &mut Generator) {
    let first = g.float_with_axes();
    let ty = g.ty(first);
    let axis = g.rng.index(ty.shape.rank());
    let mut parts = vec![first];
    let mut fact = g.fact(first);
    for _ in 0..g.rng.int(0, 2) {
        let mut shape = ty.shape.to_vec();
        shape[axis] = g.rng.int(1, 3).into();
        let part = g.of_type(&TensorType::new(ty.dtype, shape));
        let of_part = g.fact(part);
        fact = Fact { bound: fact.bound.max(of_part.bound), exact: fact.exact && of_part.exact };
        parts.push(part);
    }
    g.emit(Op::Concat { axis }, &parts, fact);
}

/// A run-time start from which `size` elements fit into `length`.
pub(super) fn start(g: &mut Generator, size: i64, length: i64) -> ValueId {
    g.indices(&TensorType::scalar(DType::I64), length - size + 1)
}

pub(super) fn dynamic_slice(g: &mut Generator) {
    let x = g.float_with_axes();
    let shape = g.ty(x).shape;
    let axis = g.rng.index(shape.rank());
    let length = shape[axis].size() as i64;
    let size = g.rng.int(1, length);
    let start = start(g, size, length);
    g.move_elements(Op::DynamicSlice { axis, size: size.into() }, &[x, start]);
}

pub(super) fn dynamic_update(g: &mut Generator) {
    let x = g.float_with_axes();
    let ty = g.ty(x);
    let first = g.rng.index(ty.shape.rank());
    let mut axes = vec![first];
    axes.extend((0..ty.shape.rank()).find(|&axis| axis != first).filter(|_| g.rng.one_in(2)));
    let mut shape = ty.shape.to_vec();
    let mut starts = Vec::new();
    for &axis in &axes {
        let length = ty.shape[axis].size() as i64;
        let size = g.rng.int(1, length);
        shape[axis] = size.into();
        starts.push(start(g, size, length));
    }
    let value = g.of_type(&TensorType::new(ty.dtype, shape));
    let (a, b) = (g.fact(x), g.fact(value));
    let fact = Fact { bound: a.bound.max(b.bound), exact: a.exact && b.exact };
    g.emit(Op::DynamicUpdate { axes }, &[&[x, value][..], &starts].concat(), fact);
}

/// A float value, indices into it, and the axis and batch they are for.
pub(super) fn indexed(g: &mut Generator) -> (ValueId, ValueId, usize, usize) {
    let x = g.float_with_axes();
    let shape = g.ty(x).shape;
    let axis = g.rng.index(shape.rank());
    let batch = g.rng.index(axis + 1);
    let mut index_shape = shape[..batch].to_vec();
    let further = g.rng.index(3).min(3 - shape.rank() + 1);
    index_shape.extend(g.shape(further).0);
    let dtype = g.rng.choose(&[DType::I32, DType::I64]);
    let indices = g.indices(&TensorType::new(dtype, index_shape), shape[axis].size() as i64);
    (x, indices, axis, batch)
}

pub(super) fn gather(g: &mut Generator) {
    let (x, indices, axis, batch) = indexed(g);
    g.move_elements(Op::Gather { axis, batch }, &[x, indices]);
}

pub(super) fn scatter_add(g: &mut Generator) {
    let (x, indices, axis, batch) = indexed(g);
    let types = [g.ty(x), g.ty(indices)];
    let updates = crate::infer(&Op::Gather { axis, batch }, &types).expect("drawn to fit")[0].clone();
    let count = updates.shape.elements().size() as f64;
    let updates = g.of_type(&updates);
    let bound = g.fact(x).bound + g.fact(updates).bound * count;
    g.emit(Op::ScatterAdd { axis, batch }, &[x, indices, updates], rounded(bound));
}
