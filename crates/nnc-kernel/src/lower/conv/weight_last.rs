//! The transpose of a convolution in its weights, of images whose channels lie side by side.
//!
//! `dw[co, ci, kh, kw] = Σ_(image, place) dy[image, place, co] * x[image, place at tap, ci]`. Columns of the product
//! are the channels of `dy`. Its rows are, for each line of taps, the run of elements that a window has in one line of
//! the image, (kw, ci), or, where that is of no use, the channels of a tap; k walks the places. A block of lines is
//! copied with zeros around it, its cotangent into panels, and added to the sums of the part. Images, or blocks of
//! lines of one, are cut into parts, their number given by the shape; a second phase adds the sums of parts in order
//! and transposes.

use super::image::{self, Axis};
use super::lines_last::Lines;
use super::weight;
use crate::ir::{self, Builder, Direction, Memory, Value};
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{Split, coordinates};
use crate::lower::matmul::pack::{self, Matrix, Packed};
use crate::lower::matmul::product::{Lies, Product, Range, RowSource, Sink, Target};
use crate::lower::matmul::tile::{Level, Tile};
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::{LowerError, Lowering};
use nnc_graph::NodeId;
use nnc_opt::fuse::Group;

/// Places of a block, about: a panel of their cotangent and the lines that a tile reads share the first cache.
const PLACES: usize = 160;
/// Elements of the padded lines, about.
const PADDED: usize = 48 << 10;
/// Places so far apart, or a multiple of it, share the lines of a cache.
const CACHE_WAY: usize = 64;

/// What is multiplied.
pub struct Operands {
    /// `[image, line, column, channel]`.
    pub image: Place,
    /// `[image, line, column, channel]`, channels side by side.
    pub cotangent: Place,
    /// Vertical and horizontal.
    pub axes: [Axis; 2],
}

impl Operands {
    /// With a single line stood up, since blocks are cut between lines.
    pub fn upright(self) -> Self {
        let [vertical, horizontal] = self.axes;
        if !image::is_line(self.axes) {
            return self;
        }
        let turned = |place: Place| Place { layout: place.layout.transpose(&[0, 2, 1, 3]), ..place };
        Self { image: turned(self.image), cotangent: turned(self.cotangent), axes: [horizontal, vertical] }
    }
}

/// Lowers a transpose of one group.
///
/// # Errors
/// A bug in the compiler.
pub fn emit(lowering: &mut Lowering<'_>, group: &Group, anchor: NodeId, operands: Operands) -> Result<(), LowerError> {
    let elem = operands.image.elem;
    let shape = Shape::new(&operands, lowering.lanes_of(elem), lowering.target);
    let mut draft = KernelDraft::new("conv_weight_grad");
    draft.how = shape.to_string();
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let image = draft.param(operands.image.buffer, elem, Direction::In);
    let cotangent = draft.param(operands.cotangent.buffer, elem, Direction::In);
    let parts = shape.parts.tasks() as usize;
    let bytes = parts * shape.part() as usize * elem.size();
    let body = Body {
        shape: &shape,
        image: (&operands.image, image),
        cotangent: (&operands.cotangent, cotangent),
        partial: draft.param(lowering.temporary(bytes), elem, Direction::InOut),
        padded: draft.builder.scratch(elem, shape.together * shape.padded_elements() + usize::from(shape.tile.lanes)),
        packed: draft.builder.scratch(elem, shape.together * shape.places() * shape.stride() as usize),
    };
    let outputs = &group.outputs;
    let result = lowering.graph.node(anchor).results[0];
    let target = Target { frame: &frame, result, outputs, row_axis: 1, column_axis: 0, spill: None, kept: None };
    draft.builder.phase(parts as u64, |b, task| body.task(b, task));
    let lines = Split::new(shape.rows(), 1 + (1 << 16) / (shape.columns * parts * 4), 1);
    draft.builder.phase(lines.tasks(), |b, task| body.add_parts(b, &target, lines, task));
    let work = 2 * shape.images * shape.columns * shape.rows() * shape.axes[0].windows * shape.axes[1].windows;
    lowering.launch_with(draft, &frame, work, &[operands.image.buffer, operands.cotangent.buffer])
}

/// Elements of the copy from place to place.
fn place_elements(channels: usize) -> usize {
    if channels.is_multiple_of(CACHE_WAY) { channels + 16 } else { channels }
}

/// Lines of windows of a block.
fn lines_of_block([vertical, horizontal]: [Axis; 2], channels: usize) -> usize {
    let line = horizontal.reach(horizontal.windows) * place_elements(channels);
    let fits = |lines: &usize| lines * horizontal.windows <= PLACES && vertical.reach(*lines) * line <= PADDED;
    (1..=vertical.windows).rev().find(fits).unwrap_or(1)
}

impl Operands {
    /// Whether a block multiplies enough of what it copies.
    pub fn is_dense(&self) -> bool {
        image::is_dense(self.axes, lines_of_block(self.axes, self.image.layout.dims[3]))
    }
}

/// How the work is cut.
struct Shape {
    images: usize,
    axes: [Axis; 2],
    channels: usize,
    /// Channels of the cotangent.
    columns: usize,
    tile: Tile,
    /// Whether the taps of a line are one run of rows.
    in_runs: bool,
    /// Elements of the copy from place to place.
    place: usize,
    /// Lines of windows of a block.
    lines: Split,
    /// Whole images that are laid out at a time: several, when they are small.
    together: usize,
    /// Blocks of all images, cut into parts.
    parts: Split,
    height: usize,
    width: usize,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, parts) = (if self.in_runs { "lines of taps" } else { "taps" }, self.parts.tasks());
        write!(f, "{}, rows by {rows}, {} places at a time, {parts} parts", self.tile, self.together * self.places())
    }
}

impl Shape {
    fn new(operands: &Operands, lanes: u8, target: ir::Target) -> Self {
        let axes = operands.axes;
        let [vertical, horizontal] = axes;
        let layout = &operands.image.layout;
        let (images, channels, columns) = (layout.dims[0], layout.dims[3], operands.cotangent.layout.dims[3]);
        let place = place_elements(channels);
        let in_runs = horizontal.dilation == 1 && place == channels;
        let run = if in_runs { horizontal.taps * channels } else { channels };
        let tile = Tile::choose(run, columns, lanes, target).narrowed(columns, target);
        let width = horizontal.reach(horizontal.windows);
        let padded = |lines: usize| vertical.reach(lines) * width * place;
        let lines = Split::new(vertical.windows, lines_of_block(axes, channels), 1);
        let blocks = lines.tasks() as usize;
        let sums = vertical.taps * horizontal.taps * channels * columns;
        let products = images * vertical.windows * horizontal.windows * sums;
        let parts = weight::parts(images * blocks, products, sums);
        let whole = vertical.windows * horizontal.windows;
        let together = match blocks {
            1 => (PLACES / whole).min(PADDED / padded(vertical.windows)).clamp(1, parts.grain as usize),
            _ => 1,
        };
        let height = vertical.reach(lines.grain as usize);
        Self { images, axes, channels, columns, tile, in_runs, place, lines, together, parts, height, width }
    }

    /// Rows of the product: (kh, kw, channel).
    fn rows(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps * self.channels
    }

    /// Rows of one product.
    fn run(&self) -> usize {
        if self.in_runs { self.axes[1].taps * self.channels } else { self.channels }
    }

    /// Elements between rows of the sums.
    fn stride(&self) -> i64 {
        (self.columns.next_multiple_of(self.tile.columns()) + 16) as i64
    }

    /// Elements of a part's sums.
    fn part(&self) -> i64 {
        self.rows() as i64 * self.stride()
    }

    /// Places of a block.
    fn places(&self) -> usize {
        self.lines.grain as usize * self.axes[1].windows
    }

    /// Elements of the padded lines of a block.
    fn padded_elements(&self) -> usize {
        self.height * self.width * self.place
    }
}

struct Body<'a> {
    shape: &'a Shape,
    image: (&'a Place, Memory),
    cotangent: (&'a Place, Memory),
    /// The sums of parts: `[part, row, column]`.
    partial: Memory,
    padded: Memory,
    packed: Memory,
}

impl Body<'_> {
    fn task(&self, b: &mut Builder, part: Value) {
        let shape = self.shape;
        let units = shape.parts.bounds(b, part);
        let origin = b.mul_index(part, shape.part());
        let all = b.index(shape.part());
        image::clear(b, self.partial, origin, all, shape.tile.lanes);
        let (zero, one, step) = (b.index(0), b.index(1), b.index(shape.together as i64));
        let blocks = b.index(shape.lines.tasks() as i64);
        b.for_loop(units.0, units.1, step, &[], |b, unit, _| {
            let end = b.add(unit, step);
            let end = b.min(end, units.1);
            let images = if shape.together == 1 { one } else { b.sub(end, unit) };
            let (image, block) = (b.div(unit, blocks), b.rem(unit, blocks));
            let lines = shape.lines.bounds(b, block);
            b.for_loop(zero, images, one, &[], |b, number, _| {
                let image = b.add(image, number);
                self.copy(b, (image, number), lines.0);
                self.pack(b, (image, number), lines);
                vec![]
            });
            let count = b.sub(lines.1, lines.0);
            let levels = self.levels(b, images, count);
            self.multiply(b, &levels, origin);
            vec![]
        });
    }

    /// Copies the lines that a block of windows reads; `at` is image, and its place among those laid out.
    fn copy(&self, b: &mut Builder, at: (Value, Value), line: Value) {
        let shape = self.shape;
        let layout = &self.image.0.layout;
        let first = b.affine(&[(at.0, layout.strides[0])], layout.offset);
        let lines = Lines {
            image: self.image,
            axes: shape.axes,
            height: shape.height,
            width: shape.width,
            column: shape.place,
            lanes: shape.tile.lanes,
        };
        let channels = b.index(shape.channels as i64);
        let to = b.mul_index(at.1, shape.padded_elements() as i64);
        lines.copy(b, (first, channels), line, (self.padded, to));
    }

    /// Packs the cotangent of a block: a row for each place.
    fn pack(&self, b: &mut Builder, at: (Value, Value), lines: (Value, Value)) {
        let shape = self.shape;
        let dy = &self.cotangent.0.layout;
        let packed = self.panels();
        let (zero, one) = (b.index(0), b.index(1));
        let (columns, windows) = (b.index(shape.columns as i64), b.index(shape.axes[1].windows as i64));
        let block = b.mul_index(at.1, shape.places() as i64 * packed.row);
        let count = b.sub(lines.1, lines.0);
        b.for_loop(zero, count, one, &[], |b, line, _| {
            let from = b.add(lines.0, line);
            let first = b.affine(&[(at.0, dy.strides[0]), (from, dy.strides[1])], dy.offset);
            let matrix = Matrix { memory: self.cotangent.1, first, row: dy.strides[2], column: dy.strides[3] };
            let to = b.affine(&[(block, 1), (line, shape.axes[1].windows as i64 * packed.row)], 0);
            pack::pack(b, &matrix, (windows, columns), (&packed, to), &shape.tile.widths());
            vec![]
        });
    }

    fn panels(&self) -> Packed {
        let shape = self.shape;
        Packed::panels(self.packed, (shape.together * shape.places()) as i64, shape.tile.columns() as i64)
    }

    fn levels(&self, b: &mut Builder, images: Value, lines: Value) -> Vec<Level> {
        let shape = self.shape;
        let [vertical, horizontal] = shape.axes;
        let row = shape.tile.columns() as i64;
        let windows = b.index(horizontal.windows as i64);
        let all = [
            Level { count: images, a: shape.padded_elements() as i64, b: shape.places() as i64 * row },
            Level {
                count: lines,
                a: (vertical.step * shape.width * shape.place) as i64,
                b: horizontal.windows as i64 * row,
            },
            Level { count: windows, a: (horizontal.step * shape.place) as i64, b: row },
        ];
        let ones = [shape.together == 1, shape.lines.grain == 1, false];
        all.into_iter().zip(ones).filter(|(_, one)| !one).map(|(level, _)| level).collect()
    }

    /// A product for each line of taps, or for each tap, added to the sums from `origin` on.
    fn multiply(&self, b: &mut Builder, levels: &[Level], origin: Value) {
        let shape = self.shape;
        let [vertical, horizontal] = shape.axes;
        let (stride, run) = (shape.stride(), shape.run() as i64);
        let across = if shape.in_runs { 1 } else { horizontal.taps as i64 };
        let down = (vertical.dilation * shape.width * shape.place) as i64;
        let zero = b.index(0);
        let range = Range { rows: (zero, b.index(run)), columns: (zero, b.index(shape.columns as i64)) };
        b.for_each(vertical.taps as i64, |b, i| {
            b.for_each(across, |b, j| {
                let first = b.affine(&[(i, down), (j, (horizontal.dilation * shape.place) as i64)], 0);
                let product = Product {
                    tile: shape.tile,
                    rows: shape.run(),
                    columns: shape.columns,
                    a: (self.padded, RowSource::Even(first, 1)),
                    b: (self.packed, zero, self.panels().column),
                    gathered: None,
                    lies: Lies::Packed,
                    levels,
                };
                let origin = b.affine(&[(origin, 1), (i, across * run * stride), (j, run * stride)], 0);
                product.run(b, range, &Sink::Sum(self.partial, origin, stride));
            });
        });
    }

    /// Adds the parts of some rows of the result in order, and the epilogue.
    fn add_parts(&self, b: &mut Builder, target: &Target<'_, '_>, lines: Split, task: Value) {
        let shape = self.shape;
        let taps = shape.axes[0].taps * shape.axes[1].taps;
        let (start, end) = lines.bounds(b, task);
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, row, _| {
            let at = coordinates(b, row, &[shape.channels, taps]);
            let line = b.affine(&[(at[1], shape.channels as i64), (at[0], 1)], 0);
            let first = b.mul_index(line, shape.stride());
            let parts = (self.partial, first, shape.part(), shape.parts.tasks());
            let column = b.index(0);
            weight::add_line(b, target, (row, column), shape.columns, parts, shape.tile.lanes);
            vec![]
        });
    }
}
