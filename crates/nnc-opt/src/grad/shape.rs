//! Rules of ops that move elements: each is linear, and its rule is its transpose.

use super::builder::Builder;
use super::rules::Site;
use nnc_graph::{DType, Dim, Op, Shape, SliceRange, TensorType, ValueId};

pub(super) fn reshape(b: &mut Builder<'_>, site: &Site<'_>) -> ValueId {
    let shape = b.shape(site.operand());
    b.reshape(site.cotangent, shape)
}

pub(super) fn transpose(b: &mut Builder<'_>, site: &Site<'_>, permutation: &[usize]) -> ValueId {
    let mut inverse = vec![0; permutation.len()];
    permutation.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
    b.transpose(site.cotangent, inverse)
}

/// Sums over the repeated axes, new ones and stretched ones.
pub(super) fn broadcast(b: &mut Builder<'_>, site: &Site<'_>, axes: &[usize]) -> ValueId {
    let (from, to) = (b.shape(site.operand()), b.shape(site.cotangent));
    let kept = |axis: usize| axes.iter().position(|&at| at == axis).is_some_and(|at| from[at] == to[axis]);
    let summed = (0..to.rank()).filter(|&axis| !kept(axis)).collect();
    let sum = b.sum(site.cotangent, summed);
    if b.shape(sum) == from { sum } else { b.reshape(sum, from) }
}

/// Puts the elements back where they were read, zeros elsewhere: turn around, spread by the step, pad.
pub(super) fn slice(b: &mut Builder<'_>, site: &Site<'_>, ranges: &[SliceRange]) -> ValueId {
    let input = b.shape(site.operand());
    let turned = turn_around(b, site.cotangent, ranges);
    let spread = (0..ranges.len()).fold(turned, |d, axis| dilate(b, d, axis, ranges[axis].step.abs()));
    let first = |range: &SliceRange| {
        let reach = Dim::from(range.step) * (range.size.clone() - Dim::from(1));
        if range.step < 0 { range.start.clone() + reach } else { range.start.clone() }
    };
    let low: Vec<Dim> = ranges.iter().map(first).collect();
    let sizes = b.shape(spread);
    let high = (0..ranges.len()).map(|i| input[i].clone() - low[i].clone() - sizes[i].clone()).collect();
    b.pad_zeros(spread, low, high)
}

fn turn_around(b: &mut Builder<'_>, d: ValueId, ranges: &[SliceRange]) -> ValueId {
    if ranges.iter().all(|range| range.step > 0) {
        return d;
    }
    let walk = |range: &SliceRange| {
        let backwards = range.step < 0;
        let start = if backwards { range.size.clone() - Dim::from(1) } else { Dim::from(0) };
        SliceRange { start, size: range.size.clone(), step: if backwards { -1 } else { 1 } }
    };
    b.emit(Op::Slice(ranges.iter().map(walk).collect()), &[d])
}

/// `step - 1` zeros between neighbours along an axis: each element becomes a row of its own, padded, and the zeros
/// after the last are cut off.
fn dilate(b: &mut Builder<'_>, d: ValueId, axis: usize, step: i64) -> ValueId {
    let shape = b.shape(d);
    if step == 1 || shape[axis].is(1) {
        return d;
    }
    let (gap, size) = (Dim::from(step), shape[axis].clone());
    let mut rows = shape.to_vec();
    rows.insert(axis + 1, Dim::from(1));
    let rank = rows.len();
    let rows = b.reshape(d, Shape(rows));
    let mut high = vec![Dim::from(0); rank];
    high[axis + 1] = Dim::from(step - 1);
    let padded = b.pad_zeros(rows, vec![Dim::from(0); rank], high);
    let mut flat = shape.to_vec();
    flat[axis] = size.clone() * gap.clone();
    let flat = b.reshape(padded, Shape(flat));
    b.slice_axis(flat, axis, Dim::from(0), (size - Dim::from(1)) * gap + Dim::from(1))
}

pub(super) fn pad(b: &mut Builder<'_>, site: &Site<'_>, low: &[Dim], high: &[Dim]) -> ValueId {
    let shape = b.shape(site.operands[0]);
    if site.wanted == 0 {
        let range = |(low, size): (&Dim, &Dim)| SliceRange { start: low.clone(), size: size.clone(), step: 1 };
        return b.emit(Op::Slice(low.iter().zip(shape.iter()).map(range).collect()), &[site.cotangent]);
    }
    // The filling is at every place that a mask of `x`'s places, padded with truth, shows.
    let no = b.emit(Op::Constant(nnc_graph::Tensor::scalar(DType::Bool, 0.0)), &[]);
    let yes = b.emit(Op::Constant(nnc_graph::Tensor::scalar(DType::Bool, 1.0)), &[]);
    let inside = TensorType::new(DType::Bool, shape);
    let inside = b.emit(Op::Broadcast { shape: inside.shape, axes: Vec::new() }, &[no]);
    let filled = b.emit(Op::Pad { low: low.to_vec(), high: high.to_vec() }, &[inside, yes]);
    let zero = b.zeros(site.cotangent);
    let shares = b.select(filled, site.cotangent, zero);
    let axes = (0..low.len()).collect();
    b.sum(shares, axes)
}

pub(super) fn concat(b: &mut Builder<'_>, site: &Site<'_>, axis: usize) -> ValueId {
    let along = |b: &Builder<'_>, part: ValueId| b.shape(part)[axis].clone();
    let before = site.operands[..site.wanted].iter().fold(Dim::from(0), |sum, &part| sum + along(b, part));
    let size = along(b, site.operand());
    b.slice_axis(site.cotangent, axis, before, size)
}
