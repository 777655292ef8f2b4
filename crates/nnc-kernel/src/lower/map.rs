//! Elementwise kernels: every member at every point, the innermost axis in vectors.

use super::evaluate::{Known, Point};
use super::frame::{Axes, Frame, Read, Walk};
use super::loops::{Split, coordinates, span, widths};
use super::matmul::interleave;
use super::memory::{BufferId, KernelDraft, Place, Source};
use super::{LowerError, Lowering, cost, turn};
use crate::ir::{Builder, Direction, Value};
use nnc_graph::ValueId;
use nnc_opt::fuse::Group;
use std::collections::{BTreeMap, BTreeSet};

/// Work, in elements times operations, that is worth a task of its own.
pub const TASK_WORK: usize = 1 << 17;

/// Lowers a map group.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<(), LowerError> {
    let mut draft = KernelDraft::new("map");
    let members = group.nodes.iter().copied().collect();
    let axes = Axes { classes: vec![0; group.domain.len()], dims: group.domain.clone() };
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, axes)?;
    let work = cost::of_nodes(lowering.graph, &group.nodes);
    emit(lowering, draft, &frame, &group.outputs, work)
}

/// Copies a value into a buffer, in row-major order.
pub fn copy(lowering: &mut Lowering<'_>, value: ValueId, source: Source, to: BufferId) -> Result<(), LowerError> {
    let dims = lowering.graph.ty(value).shape.sizes();
    copy_as(lowering, value, source, (&dims, to))
}

/// Copies what lies at `source`, which has size `dims`, into a buffer in row-major order: `value`, or a part of it.
pub fn copy_as(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    source: Source,
    (dims, to): (&[usize], BufferId),
) -> Result<(), LowerError> {
    let elem = source.elem();
    let mut axes = Axes { classes: vec![0; dims.len()], dims: dims.to_vec() };
    let mut target = nnc_opt::fuse::Layout::contiguous(dims);
    let mut from = match &source {
        Source::Stored(place) => place.layout.clone(),
        Source::Uniform(..) => nnc_opt::fuse::Layout { strides: vec![0; dims.len()], ..target.clone() },
    };
    super::frame::join_axes(&mut axes, vec![&mut target.strides, &mut from.strides]);
    if let Source::Stored(place) = &source {
        let place = Place { layout: from.clone(), ..place.clone() };
        if interleave::fits(&place, &axes.dims) {
            return interleave::copy(lowering, &place, (&axes.dims, to));
        }
        if let Some(across) = turn::axis(lowering, &place, &axes.dims) {
            return turn::copy(lowering, (&place, across), (&axes.dims, to));
        }
    }
    let mut draft = KernelDraft::new("copy");
    let read = match source {
        Source::Uniform(elem, bits) => Read::Uniform(elem, bits),
        Source::Stored(place) => {
            let memory = draft.param(place.buffer, place.elem, Direction::In);
            Read::Memory(Walk { memory, strides: from.strides, offset: from.offset })
        }
    };
    let memory = draft.param(to, elem, Direction::Out);
    let write = Walk { memory, strides: target.strides, offset: 0 };
    let frame = Frame {
        graph: lowering.graph,
        target: lowering.target,
        members: BTreeSet::new(),
        axes,
        reads: BTreeMap::from([(value, read)]),
        indexed: BTreeMap::new(),
        coordinates: BTreeMap::new(),
        writes: BTreeMap::from([(value, write)]),
        steps: BTreeMap::new(),
        status: None,
    };
    emit(lowering, draft, &frame, &[value], 2)
}

/// Builds the kernel of a frame whose outputs are all of full size. `work` is the cost of a point.
fn emit(
    lowering: &mut Lowering<'_>,
    mut draft: KernelDraft,
    frame: &Frame<'_>,
    outputs: &[ValueId],
    work: usize,
) -> Result<(), LowerError> {
    // Two vectors at a time: independent chains hide the latency of each.
    let lanes = 2 * lowering.lanes(&frame.members);
    let dims = &frame.axes.dims;
    let inner = dims.last().copied().unwrap_or(1);
    let rows: usize = dims.iter().rev().skip(1).product();
    let last = dims.len().saturating_sub(1);
    let body = if dims.is_empty() {
        Body { frame, outputs, ends: vec![1], lanes: 1 }
    } else {
        Body::new(frame, outputs, (last, lanes), rows > 1)
    };
    let grain = (TASK_WORK / work.max(1)).max(64);
    if rows == 1 {
        let split = Split::even(inner, grain, 64);
        draft.builder.phase(split.tasks(), |b, task| body.flat(b, task, split));
    } else {
        let split = Split::even(rows, grain / inner, 1);
        draft.builder.phase(split.tasks(), |b, task| body.rows(b, task, split));
    }
    lowering.launch(draft, frame, inner * rows * work)
}

/// A line is cut into at most so many pieces where what it reads changes.
const MOST_PIECES: usize = 8;

struct Body<'a, 'g> {
    frame: &'a Frame<'g>,
    outputs: &'a [ValueId],
    /// Where the pieces of a line end.
    ends: Vec<usize>,
    lanes: u8,
}

impl<'a, 'g> Body<'a, 'g> {
    /// With lines along the axis `last`, whole ones or not.
    fn new(frame: &'a Frame<'g>, outputs: &'a [ValueId], (last, lanes): (usize, u8), is_whole: bool) -> Self {
        let (size, ends) = (frame.axes.dims[last], frame.seams_along(last));
        let plain = frame.lanes_along(last, lanes, false);
        match is_whole && plain < lanes && ends.len() <= MOST_PIECES {
            true => Self { frame, outputs, lanes: frame.lanes_along(last, lanes, true), ends },
            false => Self { frame, outputs, lanes: plain, ends: vec![size] },
        }
    }

    /// A part of the only axis.
    fn flat(&self, b: &mut Builder, task: Value, split: Split) {
        let range = split.bounds(b, task);
        let scalar = Point { coordinates: vec![b.index(0); self.frame.axes.dims.len()], vector: 0, lanes: 1 };
        let mut known = Known::default();
        self.frame.hoist(b, &scalar, &mut known, |_| true);
        if self.frame.axes.dims.is_empty() {
            self.frame.evaluate_and_write(b, &scalar, &mut known, self.outputs);
        } else {
            self.line(b, &known, &[], range);
        }
    }

    /// Some of the rows that the innermost axis makes.
    fn rows(&self, b: &mut Builder, task: Value, split: Split) {
        let dims = &self.frame.axes.dims;
        let last = dims.len() - 1;
        let scalar = Point { coordinates: vec![b.index(0); dims.len()], vector: last, lanes: 1 };
        let mut known = Known::default();
        self.frame.hoist(b, &scalar, &mut known, |_| true);
        let (start, end) = split.bounds(b, task);
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, row, _| {
            let outer = coordinates(b, row, &dims[..last]);
            let mut known = known.clone();
            let first = Point { coordinates: [&outer[..], &[b.index(0)]].concat(), vector: last, lanes: 1 };
            self.frame.hoist(b, &first, &mut known, |axis| axis == last);
            let mut start = b.index(0);
            for &end in &self.ends {
                let end = b.index(end as i64);
                self.line(b, &known, &outer, (start, end));
                start = end;
            }
            vec![]
        });
    }

    /// The innermost axis at fixed outer coordinates.
    fn line(&self, b: &mut Builder, known: &Known, outer: &[Value], range: (Value, Value)) {
        // A part of a line is whole vectors but for the line's own rest.
        let whole = self.ends.last().copied().unwrap_or(1);
        let count = b.sub(range.1, range.0);
        let widths = widths(b.known_index(count).map_or(whole, |count| count as usize), self.lanes);
        span(b, range, &widths, |b, at, lanes| {
            let coordinates = [outer, &[at]].concat();
            let point = Point { coordinates, vector: outer.len(), lanes };
            self.frame.evaluate_and_write(b, &point, &mut known.clone(), self.outputs);
        });
    }
}
