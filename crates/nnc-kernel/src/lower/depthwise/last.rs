//! Convolutions of single channels with channels last, and their transposes in the image: each output channel is made
//! of one channel of the image.
//!
//! Vectors lie along channels, whatever the image's size and stride. A task has some lines of an image and some
//! channels; where windows reach outside it copies its part with zeros around it. For a vector of channels the taps'
//! weights stay in registers while the windows of a line are computed a few at a time, so that an element that several
//! of them share is read once. The transpose of a convolution with a stride has its windows in phases
//! ([`super::phases`]): a task copies what all of them read, goes through its lines phase by phase, and computes
//! neighbouring windows of all phases together, so that results are written line by line. Terms are added in the order
//! of taps, as everywhere. Bytes become f32 where a task copies its part: their few products and sums are exact, and a
//! step of floats is cheaper than one of wide integers.

use crate::ir::{Builder, Direction, Elem, Memory, Type, Value};
use crate::lower::conv::image::Axis;
use crate::lower::conv::last::Operands;
use crate::lower::conv::lines_last::{Lines, Windows};
use crate::lower::evaluate::{Known, Point};
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{Split, coordinates, span, widths_of};
use crate::lower::matmul::product::Target;
use crate::lower::matmul::words::{Factors, whole};
use crate::lower::memory::{self, KernelDraft, Place, Source};
use crate::lower::{LowerError, Lowering};
use nnc_graph::{DType, Graph, NodeId, Op, ValueId};
use nnc_opt::fuse::{Group, Layout};
use std::collections::BTreeMap;
use std::fmt;

/// Multiply-adds of a task.
const TASK_PRODUCTS: usize = 1 << 17;
/// The most taps whose weights stay in registers.
const MOST_TAPS: usize = 9;
/// Windows that are computed together, at least.
pub const TOGETHER: usize = 4;
/// Vectors of channels of a task: a cache line of each place at least.
pub const VECTORS: usize = 2;
/// Elements of a padded block, about.
const PADDED: usize = 32 << 10;

/// The axis of lines in the domain of such a convolution; places of a line and channels follow.
const LINES: usize = 1;

/// Lowers a convolution whose groups are single channels.
///
/// # Errors
/// A bug in the compiler.
pub fn lower(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    operands: &Operands,
) -> Result<(), LowerError> {
    let node = lowering.graph.node(anchor);
    let elem = operands.weights.elem;
    let lanes = lowering.lanes_of(elem);
    let weights = by_tap(lowering, node.operands[1], &operands.weights)?;
    let mut draft = KernelDraft::new("conv");
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let outputs = &group.outputs;
    let result = if elem.is_float() { as_floats(lowering.graph, group, node.results[0]) } else { node.results[0] };
    let target = Target { frame: &frame, result, outputs, row_axis: 2, column_axis: 3, spill: None, kept: None };
    let blocks = Blocks::new(operands, lanes);
    draft.how = blocks.to_string();
    let padded = (!blocks.direct).then(|| {
        let elements = blocks.height * blocks.width * blocks.channels.grain as usize;
        draft.builder.scratch(elem, elements + usize::from(lanes))
    });
    let body = Body {
        blocks: &blocks,
        image: (&operands.image, draft.param(operands.image.buffer, operands.image.elem, Direction::In)),
        weights: draft.param(weights.buffer, elem, Direction::In),
        padded,
        lanes,
        result: memory::elem(lowering.graph.ty(result).dtype),
    };
    let counts = [blocks.images, blocks.lines.tasks() as usize, blocks.channels.tasks() as usize];
    draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
        let at = coordinates(b, task, &counts);
        body.task(b, &target, &at);
    });
    let [vertical, horizontal] = operands.axes;
    let places = vertical.windows * horizontal.windows * vertical.taps * horizontal.taps;
    let work = 2 * blocks.images * places / blocks.phases() * blocks.channels.total as usize;
    lowering.launch_with(draft, &frame, work, &[operands.image.buffer, weights.buffer])
}

/// The integers of a convolution as floats, if all that its group reads of them is these.
fn as_floats(graph: &Graph, group: &Group, integers: ValueId) -> ValueId {
    let mut readers = group.nodes.iter().map(|&id| graph.node(id)).filter(|node| node.operands.contains(&integers));
    match (readers.next(), readers.next()) {
        (Some(only), None) if only.op == Op::Cast(DType::F32) && !group.outputs.contains(&integers) => only.results[0],
        _ => integers,
    }
}

/// Weights `[channel, tap, 1]` as `[tap, channel]` in order.
fn by_tap(lowering: &mut Lowering<'_>, value: ValueId, weights: &Place) -> Result<Place, LowerError> {
    let [channels, taps] = [weights.layout.dims[0], weights.layout.dims[1]];
    let layout = weights.layout.transpose(&[2, 1, 0]);
    let from = Source::Stored(Place { layout, ..weights.clone() });
    let buffer = lowering.copied(value, from, &[1, taps, channels])?;
    Ok(Place { buffer, elem: weights.elem, layout: Layout::contiguous(&[taps, channels]) })
}

/// How the work is cut into tasks.
struct Blocks {
    axes: [Axis; 2],
    /// Elements of the image side by side.
    elements: [Axis; 2],
    images: usize,
    lines: Split,
    channels: Split,
    direct: bool,
    height: usize,
    width: usize,
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lines, channels, taps) = (self.lines.grain, self.channels.grain, self.taps());
        let from = if self.direct { "windows in place" } else { "padded lines" };
        let (together, [down, across]) = (self.together(), self.axes.map(|axis| axis.insert));
        write!(f, "{taps} taps of {together} windows, {lines} lines x {channels} channels a task, {from}")?;
        if self.phases() > 1 {
            write!(f, ", {down} x {across} phases")?;
        }
        f.write_str(", channels last")
    }
}

impl Blocks {
    fn new(operands: &Operands, lanes: u8) -> Self {
        let layout = &operands.image.layout;
        let axes = operands.axes;
        let elements = axes.map(|axis| axis.side_by_side());
        let channels = Split::new(layout.dims[3], VECTORS * usize::from(lanes), usize::from(lanes));
        let direct = elements.iter().all(Axis::is_inside)
            && layout.strides[3] == 1
            && operands.image.elem == operands.weights.elem;
        let width = elements[1].reach(elements[1].windows);
        let grain = channels.grain as usize;
        let phases = axes[0].insert * axes[1].insert;
        let products = (axes[1].windows * axes[0].taps * axes[1].taps * grain / phases).max(1);
        let height = |lines: usize| elements[0].reach(lines.div_ceil(axes[0].insert));
        let fits = |lines: &usize| direct || height(*lines) * width * grain <= PADDED;
        let wanted = TASK_PRODUCTS.div_ceil(products).clamp(1, axes[0].windows);
        let lines = (1..=wanted).rev().find(fits).unwrap_or(1);
        // Every task begins with the first phase.
        let lines = Split::new(axes[0].windows, lines, axes[0].insert);
        let height = height(lines.grain as usize);
        Self { axes, elements, images: layout.dims[0], lines, channels, direct, height, width }
    }

    /// Phases of windows.
    fn phases(&self) -> usize {
        self.axes[0].insert * self.axes[1].insert
    }

    /// Windows of a line that are computed together: some of each phase.
    fn together(&self) -> usize {
        TOGETHER.next_multiple_of(self.axes[1].insert)
    }

    fn taps(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps
    }
}

struct Body<'a> {
    blocks: &'a Blocks,
    image: (&'a Place, Memory),
    weights: Memory,
    padded: Option<Memory>,
    lanes: u8,
    /// The element of the result.
    result: Elem,
}

impl Body<'_> {
    /// `at` is image, block of lines, block of channels.
    fn task(&self, b: &mut Builder, target: &Target<'_, '_>, at: &[Value]) {
        let lines = self.blocks.lines.bounds(b, at[1]);
        let channels = self.blocks.channels.bounds(b, at[2]);
        let source = self.source(b, at[0], lines, channels);
        let (zero, count) = (b.index(0), b.sub(channels.1, channels.0));
        let widths = widths_of(b, count, self.lanes);
        span(b, (zero, count), &widths, |b, from, lanes| {
            let channel = b.add(channels.0, from);
            let point = Point { coordinates: vec![at[0], zero, zero, channel], vector: target.column_axis, lanes };
            let mut known = Known::default();
            target.frame.hoist_lanes(b, &point, &mut known, |axis| axis == LINES || axis == target.row_axis);
            let vector = Vector { from, channel, lanes, known, point };
            for phase in 0..self.blocks.axes[0].insert {
                self.lines(b, target, (&source, lines), (&vector, phase));
            }
        });
    }

    /// What windows of lines of a phase are multiplied by.
    fn taps(&self, b: &mut Builder, phase: usize, vector: &Vector) -> Taps {
        let [vertical, horizontal] = self.blocks.axes;
        let lines = vertical.meeting(phase);
        let all = lines.iter().flat_map(|&(i, _)| (0..horizontal.taps).map(move |j| i * horizontal.taps + j));
        let fits = lines.len() * horizontal.taps <= MOST_TAPS;
        let kept = fits.then(|| all.map(|tap| (tap, self.weight(b, vector, tap))).collect());
        Taps { lines, kept }
    }

    fn weight(&self, b: &mut Builder, vector: &Vector, tap: usize) -> Value {
        let place = b.add_index(vector.channel, tap as i64 * self.blocks.channels.total);
        b.load(self.weights, place, vector.lanes)
    }

    /// The part of the image that a task reads, copied where it is to be padded.
    fn source(&self, b: &mut Builder, image: Value, lines: (Value, Value), channels: (Value, Value)) -> Windows {
        let place = self.image.0;
        let strides = &place.layout.strides;
        let first = b.affine(&[(image, strides[0]), (channels.0, strides[3])], place.layout.offset);
        let of_image = Lines {
            image: self.image,
            axes: self.blocks.elements,
            height: self.blocks.height,
            width: self.blocks.width,
            column: self.blocks.channels.grain as usize,
            lanes: self.lanes,
        };
        let count = b.sub(channels.1, channels.0);
        let phases = b.index(self.blocks.axes[0].insert as i64);
        let line = b.div(lines.0, phases);
        of_image.windows(b, (first, count), line, self.padded)
    }

    /// All windows of the lines of a phase, of some lines from the first phase on, for a vector of channels.
    fn lines(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        (source, lines): (&Windows, (Value, Value)),
        (vector, phase): (&Vector, usize),
    ) {
        let [vertical, horizontal] = self.blocks.axes;
        let taps = self.taps(b, phase, vector);
        let (windows, together) = (horizontal.windows, self.blocks.together());
        let (zero, one, phases) = (b.index(0), b.index(1), b.index(vertical.insert as i64));
        let count = b.sub(lines.1, lines.0);
        let behind = b.add_index(count, (vertical.insert - 1 - phase) as i64);
        let count = b.div(behind, phases);
        b.for_loop(zero, count, one, &[], |b, at, _| {
            let line = b.affine(&[(lines.0, 1), (at, vertical.insert as i64)], phase as i64);
            let from = b.affine(&[(source.first, 1), (vector.from, 1), (at, vertical.step as i64 * source.line)], 0);
            let whole = windows - windows % together;
            let [end, step] = [whole, together].map(|windows| b.index((windows / horizontal.insert) as i64));
            b.for_loop(zero, end, step, &[], |b, column, _| {
                self.windows(b, target, (source, from), (line, column, together), (vector, &taps));
                vec![]
            });
            if whole < windows {
                self.windows(b, target, (source, from), (line, end, windows - whole), (vector, &taps));
            }
            vec![]
        });
    }

    /// Some windows side by side; `column` counts those of the first phase.
    fn windows(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        (source, from): (&Windows, Value),
        (line, column, count): (Value, Value, usize),
        (vector, taps): (&Vector, &Taps),
    ) {
        let horizontal = self.blocks.axes[1];
        let from = b.affine(&[(from, 1), (column, horizontal.step as i64 * source.column)], 0);
        let column = b.mul_index(column, horizontal.insert as i64);
        let zero = b.zero(Type::vector(source.memory.elem, vector.lanes));
        let mut sums = vec![zero; count];
        for &(i, below) in &taps.lines {
            let row = b.add_index(from, below as i64 * source.line);
            for (place, meets) in horizontal.meetings(count) {
                let place = b.add_index(row, place as i64 * source.column);
                let element = b.load(source.memory, place, vector.lanes);
                for (window, j) in meets {
                    let tap = i * horizontal.taps + j;
                    let factor = match &taps.kept {
                        Some(kept) => kept[&tap],
                        None => self.weight(b, vector, tap),
                    };
                    sums[window] = Factors::One.multiply_add(b, factor, element, sums[window]);
                }
            }
        }
        for (window, sum) in sums.into_iter().enumerate() {
            let sum = if self.result == Elem::I32 && b.type_of(sum).elem == Elem::F32 { whole(b, sum) } else { sum };
            let mut point = vector.point.clone();
            let place = b.add_index(column, window as i64);
            // A long line of windows may have been stood up.
            let place = match target.frame.axes.dims[LINES] {
                1 => b.affine(&[(line, horizontal.windows as i64), (place, 1)], 0),
                _ => {
                    point.coordinates[LINES] = line;
                    place
                }
            };
            target.at(b, &point, (place, vector.channel), vector.lanes, &vector.known, sum);
        }
    }
}

/// A vector of channels of a task.
struct Vector {
    /// The first, counted from the task's first.
    from: Value,
    /// The first.
    channel: Value,
    lanes: u8,
    known: Known,
    point: Point,
}

/// What the windows of a line are multiplied by.
struct Taps {
    /// Lines of taps, in order, and the line of elements that each meets.
    lines: Vec<(usize, usize)>,
    /// Weights by tap, if they stay in registers.
    kept: Option<BTreeMap<usize, Value>>,
}
