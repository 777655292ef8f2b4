//! Channels through what moves elements: reshape, broadcast, slice, padding, concatenation, indexing.
//!
//! A reshape that splits or merges axes keeps one of them as channels, the outermost that may be pruned: the channels
//! of `[N, C, H, W]` in front of a dense layer, the heads of `[N, T, heads, width]`. The others stay whole, so that
//! what is left has a shape of its own again.

use super::known::Known;
use super::labels::{Axis, Fixed, Label, Labels};
use nnc_graph::{Shape, SliceRange};
use std::ops::Range;

/// The same elements in another shape.
pub fn reshape(x: &Known, sizes: &[usize], labels: &mut Labels) -> Known {
    let from: Vec<usize> = x.axes.iter().map(Vec::len).collect();
    let mut made = Known { zero: x.zero, ..Known::default() };
    for (old, new) in factors(&from, sizes) {
        let large = |range: Range<usize>, sizes: &[usize]| range.filter(|&axis| sizes[axis] > 1).collect::<Vec<_>>();
        let (sources, targets) = (large(old.clone(), &from), large(new.clone(), sizes));
        let (channel, along, vanishes) = match (sources.as_slice(), targets.as_slice()) {
            ([], _) | (_, []) => (None, Axis::new(), false),
            (several, &[target]) => {
                let (source, along) = merge(&x.axes, several, labels);
                (Some(target), along, x.vanishes[source])
            }
            (&[source, ref rest @ ..], &[target, ..]) => {
                rest.iter().for_each(|&axis| labels.fix_axis(&x.axes[axis], Fixed::Mixed));
                let along = outermost(&x.axes[source], sizes[target], labels);
                (Some(target), along, x.vanishes[source])
            }
        };
        let single = old.clone().next().filter(|_| old.len() == 1 && new.len() == 1);
        for axis in new {
            let (kept, vanishes) = match (channel == Some(axis), single) {
                (true, _) => (along.clone(), vanishes),
                (false, Some(source)) => (x.axes[source].clone(), x.vanishes[source]),
                (false, None) if sizes[axis] == 1 => (Fixed::Places.axis(1), false),
                (false, None) => (Fixed::Mixed.axis(sizes[axis]), false),
            };
            made.axes.push(kept);
            made.vanishes.push(vanishes);
        }
    }
    made
}

/// The shortest runs of axes of two shapes that have as many elements, in their order. An axis of one position is a run
/// of its own where the other shape has none there.
fn factors(from: &[usize], to: &[usize]) -> Vec<(Range<usize>, Range<usize>)> {
    let (mut runs, mut i, mut j) = (Vec::new(), 0, 0);
    while i < from.len() || j < to.len() {
        let (first, second) = (i, j);
        match (from.get(i), to.get(j)) {
            (Some(1), next) if next != Some(&1) => i += 1,
            (next, Some(1)) if next != Some(&1) => j += 1,
            (old, new) => {
                let (mut a, mut b) = (old.copied().unwrap_or(1), new.copied().unwrap_or(1));
                (i, j) = (i + 1, j + 1);
                while a != b {
                    let (product, shape, at) = if a < b { (&mut a, from, &mut i) } else { (&mut b, to, &mut j) };
                    *product *= shape[*at];
                    *at += 1;
                }
            }
        }
        runs.push((first..i, second..j));
    }
    runs
}

/// The labels of the outermost of some axes, of `size` positions, that others become of which `source` is the
/// outermost: runs of the longer go together with positions of the shorter. Where neither size divides the other, both
/// stay whole.
fn outermost(source: &Axis, size: usize, labels: &mut Labels) -> Axis {
    if size.is_multiple_of(source.len()) {
        let run = size / source.len();
        return source.iter().flat_map(|&label| std::iter::repeat_n(label, run)).collect();
    }
    if !source.len().is_multiple_of(size) {
        labels.fix_axis(source, Fixed::Mixed);
        return Fixed::Mixed.axis(size);
    }
    let run = source.len() / size;
    for run in source.chunks_exact(run) {
        run.iter().for_each(|&label| labels.join(run[0], label));
    }
    source.iter().copied().step_by(run).collect()
}

/// The outermost of some axes that may be pruned, and the labels it gives to the one that they become.
fn merge(axes: &[Axis], sources: &[usize], labels: &mut Labels) -> (usize, Axis) {
    let chosen = sources.iter().position(|&axis| !labels.is_fixed(&axes[axis])).unwrap_or_default();
    let (outer, rest) = sources.split_at(chosen);
    let (kept, inner) = (rest[0], &rest[1..]);
    outer.iter().chain(inner).for_each(|&axis| labels.fix_axis(&axes[axis], Fixed::Mixed));
    let product = |sources: &[usize]| sources.iter().map(|&axis| axes[axis].len()).product::<usize>();
    let run = |&label: &Label| std::iter::repeat_n(label, product(inner));
    let once: Axis = axes[kept].iter().flat_map(run).collect();
    (kept, once.repeat(product(outer)))
}

/// What is repeated is new along the axes that it is repeated along.
pub fn broadcast(x: &Known, shape: &Shape, axes: &[usize], labels: &mut Labels) -> Known {
    let mut made = Known { zero: x.zero, ..Known::default() };
    for (axis, size) in shape.sizes().into_iter().enumerate() {
        let source = axes.iter().position(|&to| to == axis).filter(|&from| x.axes[from].len() == size);
        made.axes.push(source.map_or_else(|| labels.fresh(size), |from| x.axes[from].clone()));
        made.vanishes.push(source.is_some_and(|from| x.vanishes[from]));
    }
    made
}

/// A range keeps its labels; what is taken in larger steps stays whole.
pub fn slice(x: &Known, ranges: &[SliceRange], labels: &mut Labels) -> Known {
    let mut made = x.clone();
    for (axis, range) in made.axes.iter_mut().zip(ranges) {
        let (start, size) = (range.start.size() as i64, range.size.size() as i64);
        if range.step.abs() != 1 && size > 1 {
            labels.fix_axis(axis, Fixed::Stepped);
        }
        *axis = (0..size).map(|at| axis[(start + at * range.step) as usize]).collect();
    }
    made
}

/// What is filled in goes along with nothing by itself.
pub fn pad((x, fill): (&Known, &Known), (low, high): (&[usize], &[usize]), labels: &mut Labels) -> Known {
    let mut made = x.clone();
    for (axis, (&low, &high)) in made.axes.iter_mut().zip(low.iter().zip(high)) {
        *axis = [labels.fresh(low), std::mem::take(axis), labels.fresh(high)].concat();
    }
    let is_padded = low.iter().chain(high).any(|&size| size > 0);
    made.vanishes.iter_mut().for_each(|vanishes| *vanishes &= !is_padded || fill.zero);
    made.zero &= fill.zero;
    made
}

/// Labels follow one another along one axis, and are the same along the others.
pub fn concat(parts: &[&Known], axis: usize, labels: &mut Labels) -> Known {
    let mut made = parts[0].clone();
    for part in &parts[1..] {
        let others = (0..part.axes.len()).filter(|&other| other != axis);
        others.for_each(|other| labels.join_axes(&part.axes[other], &parts[0].axes[other]));
    }
    made.axes[axis] = parts.iter().flat_map(|part| &part.axes[axis]).copied().collect();
    for (at, vanishes) in made.vanishes.iter_mut().enumerate() {
        *vanishes = parts.iter().all(|part| part.vanishes_along(at));
    }
    made.zero = parts.iter().all(|part| part.zero);
    made
}

/// Positions that a number picks stay; the further axes of the indices come in their place.
pub fn gather(x: &Known, indices: &Known, axis: usize, batch: usize, labels: &mut Labels) -> Known {
    labels.fix_axis(&x.axes[axis], Fixed::Numbered);
    (0..batch).for_each(|shared| labels.join_axes(&x.axes[shared], &indices.axes[shared]));
    let new = indices.with_axes(batch..indices.axes.len());
    let (before, after) = (x.with_axes(0..axis), x.with_axes(axis + 1..x.axes.len()));
    Known {
        axes: [before.axes, new.axes, after.axes].concat(),
        vanishes: [before.vanishes, vec![false; new.vanishes.len()], after.vanishes].concat(),
        zero: x.zero,
    }
}

#[cfg(test)]
mod tests {
    use super::factors;

    #[test]
    fn runs_of_axes_have_as_many_elements() {
        assert_eq!(factors(&[2, 3, 4], &[2, 12]), [(0..1, 0..1), (1..3, 1..2)]);
        assert_eq!(factors(&[6, 4], &[2, 3, 4]), [(0..1, 0..2), (1..2, 2..3)]);
        assert_eq!(factors(&[4, 6], &[6, 4]), [(0..2, 0..2)]);
        assert_eq!(factors(&[1, 8], &[8]), [(0..1, 0..0), (1..2, 0..1)]);
        assert_eq!(factors(&[8], &[8, 1]), [(0..1, 0..1), (1..1, 1..2)]);
        assert_eq!(factors(&[1, 5], &[1, 5]), [(0..1, 0..1), (1..2, 1..2)]);
        assert_eq!(factors(&[], &[1, 1]), [(0..0, 0..1), (0..0, 1..2)]);
    }
}
