//! The position of the first largest element along an axis; NaN counts as largest.

use super::anchor::stored;
use super::evaluate::Point;
use super::frame::{Axes, Frame};
use super::loops::{Split, coordinates};
use super::memory::{KernelDraft, Place};
use super::{LowerError, Lowering};
use crate::ir::{Builder, Direction, Elem, Memory, Type, Value};
use nnc_graph::NodeId;
use nnc_opt::fuse::Group;
use std::collections::BTreeSet;

/// Elements that make a task.
const TASK_ELEMENTS: usize = 1 << 15;

/// So many vectors in a line are worth one search for each lane.
const LEAST_VECTORS: usize = 4;

/// Lowers an argmax.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group, anchor: NodeId, axis: usize) -> Result<(), LowerError> {
    let node = lowering.graph.node(anchor);
    let x = stored(lowering, node.operands[0], &lowering.graph.ty(node.operands[0]).shape.sizes())?;
    let mut draft = KernelDraft::new("argmax");
    let axes = Axes::apart(&group.domain);
    let frame = Frame::new(lowering, &mut draft, BTreeSet::new(), &group.outputs, axes)?;
    let memory = draft.param(x.buffer, x.elem, Direction::In);
    let (size, results) = (x.layout.dims[axis], group.domain.iter().product::<usize>());
    let lanes = lowering.lanes_of(x.elem);
    let split = Split::new(results, TASK_ELEMENTS / size, 1);
    draft.builder.phase(split.tasks(), |b, task| {
        let (start, end) = split.bounds(b, task);
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, number, _| {
            let at = coordinates(b, number, &group.domain);
            let best = search(b, memory, (&x, axis), &at, lanes);
            let point = Point { coordinates: at, vector: 0, lanes: 1 };
            let best = b.convert(best, Elem::I32);
            for &output in &group.outputs {
                frame.write(b, &point, output, best);
            }
            vec![]
        });
    });
    lowering.launch(draft, &frame, size * results)
}

/// The index of the first largest element of a line.
fn search(b: &mut Builder, memory: Memory, (x, axis): (&Place, usize), at: &[Value], lanes: u8) -> Value {
    let mut strides = x.layout.strides.clone();
    let along = strides.remove(axis);
    let terms: Vec<(Value, i64)> = at.iter().copied().zip(strides).collect();
    let line = b.affine(&terms, x.layout.offset);
    let size = x.layout.dims[axis];
    if along == 1 && x.elem.size() == Elem::I32.size() && size >= LEAST_VECTORS * usize::from(lanes) {
        return search_in_vectors(b, memory, line, (size, lanes));
    }
    let first = b.load(memory, line, 1);
    let (start, end, step) = (b.index(1), b.index(x.layout.dims[axis] as i64), b.index(1));
    let zero = b.index(0);
    b.for_loop(start, end, step, &[first, zero], |b, index, best| {
        let place = b.affine(&[(line, 1), (index, along)], 0);
        let value = b.load(memory, place, 1);
        let larger = is_larger(b, value, best[0]);
        vec![b.select(larger, value, best[0]), b.select(larger, index, best[1])]
    })[1]
}

/// The same of elements that lie side by side: each lane keeps the first largest of its own, and the first of the
/// largest of these is the one.
fn search_in_vectors(b: &mut Builder, memory: Memory, line: Value, (size, lanes): (usize, u8)) -> Value {
    let whole = (size - size % usize::from(lanes)) as i64;
    let first = b.load(memory, line, lanes);
    let places = b.iota(Type::vector(Elem::I32, lanes));
    let (start, end, step) = (b.index(i64::from(lanes)), b.index(whole), b.index(i64::from(lanes)));
    let found = b.for_loop(start, end, step, &[first, places], |b, index, best| {
        let place = b.add(line, index);
        let value = b.load(memory, place, lanes);
        let from = b.convert(index, Elem::I32);
        let from = b.splat(from, lanes);
        let at = b.add(from, places);
        let larger = is_larger(b, value, best[0]);
        vec![b.select(larger, value, best[0]), b.select(larger, at, best[1])]
    });
    let mut best = [b.extract(found[0], 0), b.extract(found[1], 0)];
    for lane in 1..lanes {
        let next = [b.extract(found[0], lane), b.extract(found[1], lane)];
        let larger = is_larger(b, next[0], best[0]);
        let smaller = is_larger(b, best[0], next[0]);
        let (either, before) = (b.or(larger, smaller), b.lt(next[1], best[1]));
        let equal = b.not(either);
        let sooner = b.and(equal, before);
        let wins = b.or(larger, sooner);
        best = [b.select(wins, next[0], best[0]), b.select(wins, next[1], best[1])];
    }
    let place = b.convert(best[1], Elem::I64);
    let (start, end, step) = (b.index(whole), b.index(size as i64), b.index(1));
    b.for_loop(start, end, step, &[best[0], place], |b, index, best| {
        let place = b.add(line, index);
        let value = b.load(memory, place, 1);
        let larger = is_larger(b, value, best[0]);
        vec![b.select(larger, value, best[0]), b.select(larger, index, best[1])]
    })[1]
}

/// Whether `value` takes the place of the largest so far: it is larger, or the first NaN.
pub fn is_larger(b: &mut Builder, value: Value, best: Value) -> Value {
    let at_most = b.le(value, best);
    let more = b.not(at_most);
    if !b.type_of(value).elem.is_float() {
        return more;
    }
    let number = b.eq(best, best);
    b.and(more, number)
}
