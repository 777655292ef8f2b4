//! A run-time update in place: the new part is written, the rest stays where it is.
//!
//! As with a cache of keys and values that is carried through a loop: a step costs what it adds, not what is there.

use super::evaluate::{Point, offset};
use super::frame::{Axes, Frame, Read, Walk};
use super::indexed::bounded_start;
use super::loops::{Split, coordinates, span, widths};
use super::map::TASK_WORK;
use super::memory::{KernelDraft, Place, Source};
use super::{LowerError, Lowering};
use crate::ir::{Builder, Direction, Elem, Value};
use nnc_graph::{NodeId, Op, ValueId};
use nnc_opt::fuse::Group;
use std::collections::BTreeSet;

/// Lowers a map group that is one update whose result is to lie where its first operand does. Gives whether it is one.
///
/// # Errors
/// A bug in the compiler.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<bool, LowerError> {
    let [id] = group.nodes[..] else { return Ok(false) };
    let node = lowering.graph.node(id);
    let Op::DynamicUpdate { axes } = &node.op else { return Ok(false) };
    let (whole, result) = (node.operands[0], node.results[0]);
    let Source::Stored(place) = lowering.source(whole)? else { return Ok(false) };
    let stays = place.layout.is_contiguous() && place.layout.offset == 0;
    if !stays || lowering.is_constant(whole) {
        return Ok(false);
    }
    if lowering.written_in_place.contains(&result) && !lowering.planned.contains_key(&result) {
        lowering.planned.insert(result, place.buffer);
    }
    if lowering.planned.get(&result) != Some(&place.buffer) {
        return Ok(false);
    }
    let place = lowering.store(result)?;
    write(lowering, (id, axes), place)?;
    Ok(true)
}

fn write(lowering: &mut Lowering<'_>, (id, axes): (NodeId, &[usize]), whole: Place) -> Result<(), LowerError> {
    let node = lowering.graph.node(id);
    let (part, starts) = (node.operands[1], &node.operands[2..]);
    let dims = lowering.graph.ty(part).shape.sizes();
    let lasts = axes.iter().map(|&axis| (whole.layout.dims[axis] - dims[axis]) as i64);
    let starts: Vec<_> = starts.iter().copied().zip(lasts).collect();
    let mut draft = KernelDraft::new("update");
    let reads = [part].into_iter().chain(starts.iter().map(|start| start.0));
    let reads: Vec<_> = reads.map(|value| (value, lowering.source(value))).collect();
    let mut frame = Frame::new(lowering, &mut draft, BTreeSet::new(), &[], Axes::apart(&dims))?;
    for (value, source) in reads {
        frame.reads.insert(value, Read::of(&mut draft, &source?));
    }
    let status = lowering.status();
    frame.status = Some(draft.param(status, Elem::I32, Direction::Out));
    let memory = draft.param(whole.buffer, whole.elem, Direction::InOut);
    let to = Walk { memory, strides: whole.layout.strides.clone(), offset: 0 };
    let update = Update { frame: &frame, dims: &dims, part, starts: &starts, axes, to, id };
    let elements: usize = dims.iter().product();
    let inner = dims.last().copied().unwrap_or(1);
    let split = Split::even(elements / inner, TASK_WORK / 2 / inner, 1);
    let lanes = lowering.lanes_of(whole.elem);
    draft.builder.phase(split.tasks(), |b, task| {
        let rows = split.bounds(b, task);
        update.rows(b, rows, &widths(inner, lanes));
    });
    lowering.launch(draft, &frame, 2 * elements)
}

struct Update<'a, 'g> {
    frame: &'a Frame<'g>,
    dims: &'a [usize],
    part: ValueId,
    /// For each axis the start, and the largest one.
    starts: &'a [(ValueId, i64)],
    axes: &'a [usize],
    to: Walk,
    id: NodeId,
}

impl Update<'_, '_> {
    fn rows(&self, b: &mut Builder, (start, end): (Value, Value), widths: &[u8]) {
        let scalar = Point { coordinates: vec![], vector: 0, lanes: 1 };
        let mut moved = b.index(0);
        for (&axis, &(start, last)) in self.axes.iter().zip(self.starts) {
            let start = self.frame.load(b, &scalar, &self.frame.reads[&start], None);
            let first = bounded_start(b, start, last, (self.frame.status, self.id));
            let along = b.mul_index(first, self.to.strides[axis]);
            moved = b.add(moved, along);
        }
        let Some((&inner, outer)) = self.dims.split_last() else { return self.element(b, &[], 1, moved) };
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, row, _| {
            let outer = coordinates(b, row, outer);
            let range = (b.index(0), b.index(inner as i64));
            span(b, range, widths, |b, column, lanes| self.element(b, &[&outer[..], &[column]].concat(), lanes, moved));
            vec![]
        });
    }

    fn element(&self, b: &mut Builder, coordinates: &[Value], lanes: u8, moved: Value) {
        let vector = coordinates.len().saturating_sub(1);
        let point = Point { coordinates: coordinates.to_vec(), vector, lanes };
        let value = self.frame.load(b, &point, &self.frame.reads[&self.part], None);
        let place = offset(b, &point, &self.to, Some(moved));
        b.store(self.to.memory, place, value);
    }
}
