//! The transpose in the weights of a convolution of single channels.
//!
//! `dw[c, kh, kw] = Σ_(image, place) dy[image, place, c] * x[image, place at tap, c]`. There is no product in it: each
//! channel has sums of its own, one for each tap. Vectors lie along channels. A task has some channels, and walks the
//! windows of some lines, a few at a time, with the sums of all taps in registers, so that an element that several
//! windows share is read once; of large kernels it has a slab of taps at a time. Where windows reach outside of the
//! image, or channels do not lie side by side, it copies some lines. Lines are cut into blocks and those into parts by
//! the shape alone; a second phase adds the sums of parts in order.

use super::last::{TOGETHER, VECTORS};
use crate::ir::{self, Builder, Direction, Memory, Value};
use crate::lower::conv;
use crate::lower::conv::image::{self, Axis};
use crate::lower::conv::lines_last::{Lines, Windows};
use crate::lower::conv::weight_last::Operands;
use crate::lower::evaluate::Point;
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{Split, coordinates, span, widths_of};
use crate::lower::matmul::product::{Target, in_tiles};
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::{LowerError, Lowering};
use nnc_graph::NodeId;
use nnc_opt::fuse::Group;
use std::fmt;

/// Elements of a padded block, about, with so many channels.
const PADDED: usize = 16 << 10;
/// Channels that a task has, about, whatever the width of vectors.
const CHANNELS: usize = 32;
/// Multiply-adds of a part.
const PART_PRODUCTS: usize = 1 << 18;
/// The most parts of all channels.
const PARTS: usize = 16;

impl Operands {
    /// Lines of windows of a block: as many as fit, blocks being about alike.
    fn lines_of_block(&self) -> usize {
        let [vertical, horizontal] = self.axes;
        let width = horizontal.reach(horizontal.windows);
        let fits = |lines: &usize| vertical.reach(*lines) * width * CHANNELS <= PADDED;
        let most = (1..=vertical.windows).rev().find(fits).unwrap_or(1);
        vertical.windows.div_ceil(vertical.windows.div_ceil(most))
    }

    /// Whether a block of single channels multiplies enough of what it copies.
    pub fn is_dense_by_channel(&self) -> bool {
        image::is_dense(self.axes, self.lines_of_block())
    }
}

/// Lowers a transpose of as many groups as there are channels.
///
/// # Errors
/// A bug in the compiler.
pub fn emit(lowering: &mut Lowering<'_>, group: &Group, anchor: NodeId, operands: &Operands) -> Result<(), LowerError> {
    let elem = operands.image.elem;
    let shape = Shape::new(operands, lowering.lanes_of(elem), lowering.target);
    let mut draft = KernelDraft::new("conv_weight_grad");
    draft.how = shape.to_string();
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let (image, cotangent) = (&operands.image, &operands.cotangent);
    let [x, dy] = [image, cotangent].map(|place| draft.param(place.buffer, elem, Direction::In));
    let grain = shape.channels.grain as usize;
    let room = |draft: &mut KernelDraft, places: usize| draft.builder.scratch(elem, places * grain);
    let parts = shape.parts.tasks();
    let sums = match parts {
        1 => room(&mut draft, shape.taps()),
        _ => draft.param(lowering.temporary(parts as usize * shape.part() * elem.size()), elem, Direction::InOut),
    };
    let body = Body {
        image: (image, x),
        cotangent: (cotangent, dy),
        padded: (!shape.direct).then(|| room(&mut draft, shape.height * shape.width)),
        copied: (cotangent.layout.strides[3] != 1).then(|| room(&mut draft, shape.places())),
        sums,
        shape: &shape,
    };
    let result = lowering.graph.node(anchor).results[0];
    let outputs = &group.outputs;
    let target = Target { frame: &frame, result, outputs, row_axis: 1, column_axis: 0, spill: None, kept: None };
    let counts = [parts as usize, shape.channels.tasks() as usize];
    draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
        let at = coordinates(b, task, &counts);
        body.task(b, &target, (at[0], at[1]));
    });
    if parts > 1 {
        draft.builder.phase(shape.taps() as u64, |b, tap| body.add_parts(b, &target, tap));
    }
    let places = shape.images * shape.axes[0].windows * shape.axes[1].windows;
    let work = 2 * places * shape.part();
    lowering.launch_with(draft, &frame, work, &[image.buffer, cotangent.buffer])
}

/// How the work is cut.
struct Shape {
    images: usize,
    /// Vertical and horizontal.
    axes: [Axis; 2],
    /// Channels of a task.
    channels: Split,
    lanes: u8,
    /// Rows and columns of taps whose sums are in registers at a time.
    slab: [usize; 2],
    /// Lines of windows of a block.
    lines: Split,
    /// Blocks of all images, cut into parts.
    parts: Split,
    /// Whether windows are read where the image lies.
    direct: bool,
    height: usize,
    width: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([rows, columns], channels, lines) = (self.slab, self.channels.grain, self.lines.grain);
        let from = if self.direct { "windows in place" } else { "padded lines" };
        write!(f, "sums of {rows} x {columns} taps, {channels} channels a task, {lines} lines at a time, {from}")?;
        write!(f, ", {} parts, channels last", self.parts.tasks())
    }
}

/// The largest parts of about one size, at most `most`, in which `count` is cut.
fn evenly(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most.max(1)))
}

impl Shape {
    fn new(operands: &Operands, lanes: u8, target: ir::Target) -> Self {
        let axes = operands.axes;
        let [vertical, horizontal] = axes;
        let layout = &operands.image.layout;
        let (images, channels) = (layout.dims[0], layout.dims[3]);
        let lines = Split::new(vertical.windows, operands.lines_of_block(), 1);
        let blocks = images * lines.tasks() as usize;
        let products = images * vertical.windows * horizontal.windows * vertical.taps * horizontal.taps * channels;
        let most = PARTS.div_ceil(channels.div_ceil(CHANNELS));
        let parts = Split::new(blocks, blocks.div_ceil((products / PART_PRODUCTS).clamp(1, most)), 1);
        // Besides the sums there are the cotangents of some windows, and an element of the image or two.
        let room = target.registers() - TOGETHER - 2;
        let columns = evenly(horizontal.taps, room);
        let rows = if columns < horizontal.taps { 1 } else { evenly(vertical.taps, room / columns) };
        Self {
            images,
            axes,
            channels: Split::new(channels, VECTORS * usize::from(lanes), usize::from(lanes)),
            lanes,
            slab: [rows, columns],
            lines,
            parts,
            direct: axes.iter().all(Axis::is_inside) && layout.strides[3] == 1,
            height: vertical.reach(lines.grain as usize),
            width: horizontal.reach(horizontal.windows),
        }
    }

    fn taps(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps
    }

    /// Elements of a part's sums, `[tap, channel]`.
    fn part(&self) -> usize {
        self.taps() * self.channels.total as usize
    }

    /// Windows of a block.
    fn places(&self) -> usize {
        self.lines.grain as usize * self.axes[1].windows
    }

    /// Elements of the sums from tap to tap.
    fn tap(&self) -> i64 {
        if self.parts.tasks() == 1 { self.channels.grain } else { self.channels.total }
    }
}

struct Body<'a> {
    shape: &'a Shape,
    image: (&'a Place, Memory),
    cotangent: (&'a Place, Memory),
    /// Room for the lines of the image that a block reads.
    padded: Option<Memory>,
    /// Room for those of the cotangent, if its channels do not lie side by side.
    copied: Option<Memory>,
    /// The sums of all parts, `[part, tap, channel]`, or of the task.
    sums: Memory,
}

/// A vector of channels of a block.
struct Vector<'w> {
    /// Windows of the image and of the cotangent.
    from: [&'w Windows; 2],
    /// How far from where these begin.
    channel: Value,
    lanes: u8,
    /// Where the sums of its first tap lie.
    sums: Value,
    /// Lines of windows.
    lines: Value,
}

impl Body<'_> {
    /// `at` is part, block of channels.
    fn task(&self, b: &mut Builder, target: &Target<'_, '_>, at: (Value, Value)) {
        let shape = self.shape;
        let units = shape.parts.bounds(b, at.0);
        let channels = shape.channels.bounds(b, at.1);
        let (zero, one, count) = (b.index(0), b.index(1), b.sub(channels.1, channels.0));
        let widths = widths_of(b, count, shape.lanes);
        let is_whole = shape.parts.tasks() == 1;
        let origin = if is_whole { zero } else { b.affine(&[(at.0, shape.part() as i64), (channels.0, 1)], 0) };
        b.for_each(shape.taps() as i64, |b, tap| {
            let first = b.affine(&[(origin, 1), (tap, shape.tap())], 0);
            image::clear(b, self.sums, first, count, shape.lanes);
        });
        let blocks = b.index(shape.lines.tasks() as i64);
        b.for_loop(units.0, units.1, one, &[], |b, unit, _| {
            let (image, block) = (b.div(unit, blocks), b.rem(unit, blocks));
            let lines = shape.lines.bounds(b, block);
            let from = self.windows(b, image, lines.0, (channels.0, count));
            let lines = b.sub(lines.1, lines.0);
            span(b, (zero, count), &widths, |b, channel, lanes| {
                let sums = b.add(origin, channel);
                let vector = Vector { from: [&from[0], &from[1]], channel, lanes, sums, lines };
                self.add_block(b, &vector);
            });
            vec![]
        });
        if is_whole {
            let point = Point { coordinates: vec![zero, zero], vector: 0, lanes: 1 };
            b.for_each(shape.taps() as i64, |b, tap| {
                let line = b.mul_index(tap, shape.tap());
                target.line(b, &point, (tap, channels.0), (zero, count), (self.sums, line), &widths);
            });
        }
    }

    /// Where the windows of some lines from `line` on are read for some channels: in the image, and of single elements
    /// in the cotangent.
    fn windows(&self, b: &mut Builder, image: Value, line: Value, (channel, count): (Value, Value)) -> [Windows; 2] {
        let shape = self.shape;
        let column = shape.channels.grain as usize;
        let lines = |image, axes, height, width| Lines { image, axes, height, width, column, lanes: shape.lanes };
        let of_image = lines(self.image, shape.axes, shape.height, shape.width);
        let single = shape.axes.map(|axis| Axis {
            source: axis.windows,
            insert: 1,
            low: 0,
            taps: 1,
            dilation: 1,
            windows: axis.windows,
            step: 1,
        });
        let of_cotangent = lines(self.cotangent, single, shape.lines.grain as usize, shape.axes[1].windows);
        [(of_image, self.padded), (of_cotangent, self.copied)].map(|(lines, room)| {
            let layout = &lines.image.0.layout;
            let first = b.affine(&[(image, layout.strides[0]), (channel, layout.strides[3])], layout.offset);
            lines.windows(b, (first, count), line, room)
        })
    }

    /// Adds a block to the sums of all taps of a vector, a slab after the other.
    fn add_block(&self, b: &mut Builder, vector: &Vector<'_>) {
        let shape = self.shape;
        let [vertical, horizontal] = shape.axes;
        let [rows, columns] = shape.slab;
        let [zero, down, across] = [0, vertical.taps, horizontal.taps].map(|taps| b.index(taps as i64));
        in_tiles(b, (zero, down), (vertical.taps, rows), |b, i, rows| {
            in_tiles(b, (zero, across), (horizontal.taps, columns), |b, j, columns| {
                self.add_slab(b, vector, (i, j), [rows, columns]);
            });
        });
    }

    /// Adds a block to the sums of some rows and columns of taps, the first of which is `tap`.
    fn add_slab(&self, b: &mut Builder, vector: &Vector<'_>, tap: (Value, Value), slab: [usize; 2]) {
        let shape = self.shape;
        let [vertical, horizontal] = shape.axes;
        let [image, cotangent] = vector.from;
        let row = horizontal.taps as i64 * shape.tap();
        let first = b.affine(&[(vector.sums, 1), (tap.0, row), (tap.1, shape.tap())], 0);
        let mut places = Vec::new();
        for i in 0..slab[0] as i64 {
            places.extend((0..slab[1] as i64).map(|j| b.add_index(first, i * row + j * shape.tap())));
        }
        let sums: Vec<Value> = places.iter().map(|&place| b.load(self.sums, place, vector.lanes)).collect();
        let down = vertical.dilation as i64 * image.line;
        let along = horizontal.dilation as i64 * image.column;
        let x = b.affine(&[(image.first, 1), (vector.channel, 1), (tap.0, down), (tap.1, along)], 0);
        let dy = b.add(cotangent.first, vector.channel);
        let (zero, one) = (b.index(0), b.index(1));
        let windows = horizontal.windows;
        let whole = windows - windows % TOGETHER;
        let (end, step) = (b.index(whole as i64), b.index(TOGETHER as i64));
        let sums = b.for_loop(zero, vector.lines, one, &sums, |b, line, sums| {
            let x = b.affine(&[(x, 1), (line, vertical.step as i64 * image.line)], 0);
            let dy = b.affine(&[(dy, 1), (line, cotangent.line)], 0);
            let some = |b: &mut Builder, column: Value, count: usize, sums: &[Value]| {
                let x = b.affine(&[(x, 1), (column, horizontal.step as i64 * image.column)], 0);
                let dy = b.affine(&[(dy, 1), (column, cotangent.column)], 0);
                self.add_windows(b, vector, [x, dy], (slab, count), sums.to_vec())
            };
            let sums = b.for_loop(zero, end, step, sums, |b, column, sums| some(b, column, TOGETHER, sums));
            if whole < windows { some(b, end, windows - whole, &sums) } else { sums }
        });
        for (place, sum) in places.into_iter().zip(sums) {
            b.store(self.sums, place, sum);
        }
    }

    /// Adds `count` windows side by side to the sums of a slab of taps.
    fn add_windows(
        &self,
        b: &mut Builder,
        vector: &Vector<'_>,
        [x, dy]: [Value; 2],
        ([rows, columns], count): ([usize; 2], usize),
        mut sums: Vec<Value>,
    ) -> Vec<Value> {
        let [vertical, horizontal] = self.shape.axes;
        let [image, cotangent] = vector.from;
        let load = |b: &mut Builder, from: &Windows, first: Value, moved: i64| {
            let place = b.add_index(first, moved);
            b.load(from.memory, place, vector.lanes)
        };
        let cotangents: Vec<Value> =
            (0..count as i64).map(|window| load(b, cotangent, dy, window * cotangent.column)).collect();
        for i in 0..rows {
            let row = (i * vertical.dilation) as i64 * image.line;
            for (place, meets) in (Axis { taps: columns, ..horizontal }).meetings(count) {
                let element = load(b, image, x, row + place as i64 * image.column);
                for (window, j) in meets {
                    let sum = &mut sums[i * columns + j];
                    *sum = b.fma(cotangents[window], element, *sum);
                }
            }
        }
        sums
    }

    /// Adds the parts of a tap's sums in order, and the epilogue.
    fn add_parts(&self, b: &mut Builder, target: &Target<'_, '_>, tap: Value) {
        let shape = self.shape;
        let first = b.mul_index(tap, shape.tap());
        let parts = (self.sums, first, shape.part() as i64, shape.parts.tasks());
        let column = b.index(0);
        conv::weight::add_line(b, target, (tap, column), shape.channels.total as usize, parts, shape.lanes);
    }
}
