//! The transpose of a convolution in its weights.
//!
//! `dw[co, ci, kh, kw] = Σ_(image, place) dy[image, co, place] * x[image, ci, window of place at tap]`. Rows of the
//! product are (ci, kh, kw): each begins at its own place of the padded image (a plane further for each channel of a
//! tap, or found in a table when channels are few), and k walks the image from there, so no matrix of windows is made.
//! Columns are the channels of `dy`, packed so that they lie side by side for each place. Images (and pieces of their
//! rows, where those are long) are cut into parts, their number given by the shape; each part keeps its own sums, and a
//! second phase adds them in order and transposes. Where the channels of `dy` lie side by side, [`super::weight_last`]
//! does it, and of single channels [`crate::lower::depthwise::weight`].

use super::blocks::common_divisor;
use super::image::{self, Axis, Channels, Padded};
use super::spatial::Spatial;
use super::spatial_sizes;
use super::weight_last;
use crate::ir::{Builder, Direction, Elem, Memory, Value};
use crate::lower::anchor::stored;
use crate::lower::depthwise;
use crate::lower::evaluate::Point;
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{Split, coordinates};
use crate::lower::matmul::pack::{self, Matrix, Packed};
use crate::lower::matmul::product::{Lies, Product, Range, RowSource, Sink, Target};
use crate::lower::matmul::tile::{Level, Tile};
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::{LowerError, Lowering};
use nnc_graph::{ConvAttributes, NodeId};
use nnc_opt::fuse::Group;
use std::fmt;

/// Elements of the packed cotangent, about.
const PACKED: usize = 48 << 10;
/// Elements of the padded image, about.
const PADDED: usize = 48 << 10;
/// Windows of a row that are always packed together.
const SHORT_ROW: usize = 64;
/// Elements of the sums of all parts, about: they go to memory and back.
const SUMS: usize = 8 << 20;
/// The most parts.
const PARTS: usize = 16;
/// Multiply-adds of a part.
const PART_PRODUCTS: usize = 1 << 20;

/// Lowers the transpose of a convolution in its weights.
///
/// # Errors
/// More than two spatial axes, or a bug in the compiler.
pub fn lower(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    attributes: &ConvAttributes,
) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let (x, dy, dw) = (node.operands[0], node.operands[1], node.results[0]);
    let (in_sizes, taps, out_sizes) =
        (spatial_sizes(lowering, x), spatial_sizes(lowering, dw), spatial_sizes(lowering, dy));
    let spatial = Spatial::new(attributes, &in_sizes, &taps, &out_sizes)?;
    let dims = graph.ty(dw).shape.sizes();
    let (columns, channels) = (dims[0] / spatial.groups, dims[1]);
    let axes = spatial.forward();
    let images = graph.ty(x).shape.sizes()[0];
    let image = stored(lowering, x, &[images, spatial.groups, channels, axes[0].source, axes[1].source])?;
    let cotangent = stored(lowering, dy, &[images, spatial.groups, columns, axes[0].windows * axes[1].windows])?;
    let is_single = spatial.groups > 1 && channels == 1 && columns == 1;
    let is_last = spatial.groups == 1 && cotangent.layout.strides[2] == 1;
    match with_channels_last((&image, &cotangent), axes) {
        Some(operands) if is_single && operands.is_dense_by_channel() => {
            return depthwise::weight::emit(lowering, group, anchor, &operands);
        }
        Some(operands) if is_last && operands.is_dense() => {
            return weight_last::emit(lowering, group, anchor, operands);
        }
        Some(_) | None => {}
    }
    let mut draft = KernelDraft::new("conv_weight_grad");
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let elem = image.elem;
    let blocks = Blocks::new(lowering, &image, axes, columns, elem);
    draft.how = blocks.to_string();
    let bytes = blocks.parts.tasks() as usize * blocks.part() as usize * elem.size();
    let partial = draft.param(lowering.temporary(bytes), elem, Direction::InOut);
    let memories = Memories::new(&mut draft, &blocks, (&image, &cotangent), partial, elem);
    let outputs = &group.outputs;
    let target = Target { frame: &frame, result: dw, outputs, row_axis: 1, column_axis: 0, spill: None, kept: None };
    let body = Body { blocks: &blocks, image: &image, cotangent: &cotangent, axes: blocks.axes, memories };
    let counts = [blocks.parts.tasks() as usize, blocks.groups, blocks.channels.tasks() as usize];
    draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
        let at = coordinates(b, task, &counts);
        body.task(b, &at);
    });
    let lines = Split::new(blocks.groups * blocks.rows, 1 + (1 << 16) / (columns * counts[0] * 4), 1);
    draft.builder.phase(lines.tasks(), |b, task| body.add_parts(b, &target, lines, task));
    let work = 2 * images * blocks.groups * columns * blocks.rows * axes[0].windows * axes[1].windows;
    lowering.launch_with(draft, &frame, work, &[image.buffer, cotangent.buffer])
}

/// An image `[image, group, channel, line, column]` and a cotangent `[image, group, channel, place]`, all channels
/// last.
fn with_channels_last((image, cotangent): (&Place, &Place), axes: [Axis; 2]) -> Option<weight_last::Operands> {
    let cut = |place: &Place, [high, wide]: [usize; 2]| -> Option<Place> {
        let [images, groups, channels] = [0, 1, 2].map(|axis| place.layout.dims[axis]);
        let layout = place.layout.reshape(&[images, groups * channels, high, wide])?.transpose(&[0, 2, 3, 1]);
        Some(Place { layout, ..place.clone() })
    };
    let image = cut(image, axes.map(|axis| axis.source))?;
    let cotangent = cut(cotangent, axes.map(|axis| axis.windows))?;
    Some(weight_last::Operands { image, cotangent, axes }.upright())
}

/// Units in parts, for so many multiply-adds and sums in all: by the shape alone, whatever the width of vectors.
pub fn parts(units: usize, products: usize, sums: usize) -> Split {
    let most = (SUMS / sums.max(1)).clamp(1, PARTS);
    Split::new(units, units.div_ceil((products / PART_PRODUCTS).clamp(1, most)), 1)
}

/// How the work is cut.
struct Blocks {
    tile: Tile,
    groups: usize,
    taps: usize,
    /// Rows of the product for a group: channels and taps.
    rows: usize,
    /// Columns of the product: channels of the cotangent.
    columns: usize,
    /// Pieces of images.
    parts: Split,
    /// Whole images that are laid out at a time: several, when they are small.
    together: usize,
    /// Windows of a row.
    pieces: Split,
    /// The axes, a row of windows as long as a piece.
    axes: [Axis; 2],
    /// Windows in a whole row.
    row_windows: usize,
    /// Channels of the image for one task.
    channels: Split,
    /// Rows of windows that are packed at a time: one, when rows are cut into pieces.
    lines: Split,
    height: usize,
    width: usize,
    /// Whether sums are ordered (tap, channel), a product for each tap; else (channel, tap), found in the table.
    by_tap: bool,
    all_channels: usize,
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, parts) = (if self.by_tap { "taps" } else { "channels" }, self.parts.tasks());
        write!(f, "{}, rows by {rows}, {} places at a time, {parts} parts", self.tile, self.together * self.places())?;
        if self.groups > 1 { write!(f, ", {} groups", self.groups) } else { Ok(()) }
    }
}

impl Blocks {
    fn new(lowering: &Lowering<'_>, image: &Place, axes: [Axis; 2], columns: usize, elem: Elem) -> Self {
        let [vertical, horizontal] = axes;
        let [images, groups, channels] = [0, 1, 2].map(|axis| image.layout.dims[axis]);
        let taps = vertical.taps * horizontal.taps;
        let rows = channels * taps;
        let by_tap = channels >= 8;
        let tile_rows = if by_tap { channels } else { rows };
        let tile = Tile::choose(tile_rows, columns, lowering.lanes_of(elem), lowering.target);
        let products = images * groups * rows * columns * vertical.windows * horizontal.windows;
        // About, and the same for every width of vectors.
        let packed_place = columns + 16;
        let pieces = Split::new(horizontal.windows, (PACKED / packed_place).max(SHORT_ROW), 1);
        let units = images * pieces.tasks() as usize;
        let parts = parts(units, products, groups * rows * columns);
        let row_windows = horizontal.windows;
        let horizontal = Axis { windows: pieces.grain as usize, ..horizontal };
        let width = horizontal.reach(horizontal.windows);
        let lines = if pieces.tasks() == 1 { PACKED / (horizontal.windows * packed_place) } else { 1 };
        let lines = Split::new(vertical.windows, lines, 1);
        let height = vertical.reach(lines.grain as usize);
        let together = match pieces.tasks() * lines.tasks() {
            1 => (PACKED / (vertical.windows * row_windows * packed_place)).clamp(1, parts.grain as usize),
            _ => 1,
        };
        // Blocks of channels begin at whole tiles.
        let unit = if by_tap { tile.rows } else { tile.rows / common_divisor(tile.rows, taps) };
        let all_channels = channels;
        let blocks = channels.div_ceil((PADDED / (height * width * together)).max(1));
        let channels = Split::new(channels, channels.div_ceil(blocks), unit);
        Self {
            tile,
            groups,
            taps,
            rows,
            columns,
            parts,
            together,
            pieces,
            axes: [vertical, horizontal],
            row_windows,
            channels,
            lines,
            height,
            width,
            by_tap,
            all_channels,
        }
    }

    /// Elements between rows of the packed cotangent and of the sums.
    fn stride(&self) -> i64 {
        (self.columns.next_multiple_of(self.tile.columns()) + 16) as i64
    }

    /// Windows of an image that are packed at a time.
    fn places(&self) -> usize {
        self.lines.grain as usize * self.axes[1].windows
    }

    /// Elements of an image's padded channels.
    fn padded_image(&self) -> i64 {
        self.channels.grain * (self.height * self.width) as i64
    }

    /// Elements of a part's sums.
    fn part(&self) -> i64 {
        self.groups as i64 * self.rows as i64 * self.stride()
    }
}

struct Memories {
    image: Memory,
    cotangent: Memory,
    partial: Memory,
    padded: Padded,
    packed: Memory,
    table: Memory,
}

impl Memories {
    fn new(
        draft: &mut KernelDraft,
        blocks: &Blocks,
        (image, cotangent): (&Place, &Place),
        partial: Memory,
        elem: Elem,
    ) -> Self {
        let slack = usize::from(blocks.tile.lanes);
        let channels = blocks.channels.grain as usize;
        let packed = blocks.together * blocks.places() * blocks.stride() as usize;
        Self {
            image: draft.param(image.buffer, elem, Direction::In),
            cotangent: draft.param(cotangent.buffer, elem, Direction::In),
            partial,
            padded: Padded {
                memory: draft.builder.scratch(elem, blocks.together * blocks.padded_image() as usize + slack),
                height: blocks.height,
                width: blocks.width,
            },
            packed: draft.builder.scratch(elem, packed),
            table: draft.builder.scratch(Elem::I64, channels * blocks.taps + blocks.tile.rows),
        }
    }
}

struct Body<'a> {
    blocks: &'a Blocks,
    image: &'a Place,
    cotangent: &'a Place,
    axes: [Axis; 2],
    memories: Memories,
}

impl Body<'_> {
    /// `at` is part, group, block of channels.
    fn task(&self, b: &mut Builder, at: &[Value]) {
        let blocks = self.blocks;
        let units = blocks.parts.bounds(b, at[0]);
        let channels = blocks.channels.bounds(b, at[2]);
        let count = b.sub(channels.1, channels.0);
        let rows = b.mul_index(count, blocks.taps as i64);
        let zero = b.index(0);
        let stride = blocks.stride();
        let of_channel = if blocks.by_tap { stride } else { blocks.taps as i64 * stride };
        let terms = [(at[0], blocks.part()), (at[1], blocks.rows as i64 * stride), (channels.0, of_channel)];
        let origin = b.affine(&terms, 0);
        if blocks.by_tap {
            b.for_each(blocks.taps as i64, |b, tap| {
                let origin = b.affine(&[(origin, 1), (tap, blocks.all_channels as i64 * stride)], 0);
                self.clear_sums(b, origin, count);
            });
        } else {
            self.fill_table(b, count);
            self.clear_sums(b, origin, rows);
        }
        let columns = b.index(blocks.columns as i64);
        let range = Range { rows: (zero, rows), columns: (zero, columns) };
        let (one, step) = (b.index(1), b.index(blocks.together as i64));
        let pieces = b.index(blocks.pieces.tasks() as i64);
        b.for_loop(units.0, units.1, step, &[], |b, unit, _| {
            let end = b.add(unit, step);
            let end = b.min(end, units.1);
            let images = if blocks.together == 1 { one } else { b.sub(end, unit) };
            let (image, piece) = (b.div(unit, pieces), b.rem(unit, pieces));
            let piece = blocks.pieces.bounds(b, piece);
            b.for_each(blocks.lines.tasks() as i64, |b, block| {
                let lines = blocks.lines.bounds(b, block);
                b.for_loop(zero, images, one, &[], |b, number, _| {
                    let image = b.add(image, number);
                    self.fill(b, (image, at[1], number), (channels.0, count), (lines, piece));
                    vec![]
                });
                let (many, windows) = (b.sub(lines.1, lines.0), b.sub(piece.1, piece.0));
                let levels = self.levels(images, many, windows);
                if blocks.by_tap {
                    self.multiply_by_tap(b, &levels, count, origin);
                } else {
                    let rows = RowSource::Table(self.memories.table, zero);
                    self.product(&levels, rows, zero).run(b, range, &Sink::Sum(self.memories.partial, origin, stride));
                }
            });
            vec![]
        });
    }

    fn product<'l>(&self, levels: &'l [Level], rows: RowSource, zero: Value) -> Product<'l> {
        let rows_of_c = if self.blocks.by_tap { self.blocks.all_channels } else { self.blocks.rows };
        Product {
            tile: self.blocks.tile,
            rows: rows_of_c,
            columns: self.blocks.columns,
            a: (self.memories.padded.memory, rows),
            b: (self.memories.packed, zero, self.packed().column),
            gathered: None,
            lies: Lies::Packed,
            levels,
        }
    }

    /// How the cotangent is packed: a row for each place.
    fn packed(&self) -> Packed {
        Packed::panels(
            self.memories.packed,
            (self.blocks.together * self.blocks.places()) as i64,
            self.blocks.tile.columns() as i64,
        )
    }

    /// One product for each tap: its rows, the channels, lie a plane apart.
    fn multiply_by_tap(&self, b: &mut Builder, levels: &[Level], channels: Value, origin: Value) {
        let [vertical, horizontal] = self.axes;
        let plane = self.memories.padded.plane() as i64;
        let down = (vertical.dilation * self.blocks.width) as i64;
        let stride = self.blocks.stride();
        let tap_rows = self.blocks.all_channels as i64 * stride;
        let zero = b.index(0);
        let columns = b.index(self.blocks.columns as i64);
        b.for_each(vertical.taps as i64, |b, i| {
            b.for_each(horizontal.taps as i64, |b, j| {
                let first = b.affine(&[(i, down), (j, horizontal.dilation as i64)], 0);
                let tap = b.affine(&[(i, horizontal.taps as i64), (j, 1)], 0);
                let origin = b.affine(&[(origin, 1), (tap, tap_rows)], 0);
                let range = Range { rows: (zero, channels), columns: (zero, columns) };
                let product = self.product(levels, RowSource::Even(first, plane), zero);
                product.run(b, range, &Sink::Sum(self.memories.partial, origin, stride));
            });
        });
    }

    fn levels(&self, images: Value, lines: Value, windows: Value) -> [Level; 3] {
        let [vertical, horizontal] = self.axes;
        let place = self.blocks.tile.columns() as i64;
        let down = (vertical.step * self.blocks.width) as i64;
        let of_image = self.blocks.places() as i64 * place;
        [
            Level { count: images, a: self.blocks.padded_image(), b: of_image },
            Level { count: lines, a: down, b: horizontal.windows as i64 * place },
            Level { count: windows, a: horizontal.step as i64, b: place },
        ]
    }

    /// Where each row of the product begins in the padded image.
    fn fill_table(&self, b: &mut Builder, channels: Value) {
        let [vertical, horizontal] = self.axes;
        let table = self.memories.table;
        let (zero, one) = (b.index(0), b.index(1));
        b.for_loop(zero, channels, one, &[], |b, channel, _| {
            b.for_each(vertical.taps as i64, |b, i| {
                b.for_each(horizontal.taps as i64, |b, j| {
                    let taps = self.blocks.taps as i64;
                    let place = b.affine(&[(channel, taps), (i, horizontal.taps as i64), (j, 1)], 0);
                    let plane = self.memories.padded.plane() as i64;
                    let down = (vertical.dilation * self.blocks.width) as i64;
                    let offset = b.affine(&[(channel, plane), (i, down), (j, horizontal.dilation as i64)], 0);
                    b.store(table, place, offset);
                });
            });
            vec![]
        });
    }

    fn clear_sums(&self, b: &mut Builder, origin: Value, rows: Value) {
        let count = b.mul_index(rows, self.blocks.stride());
        image::clear(b, self.memories.partial, origin, count, self.blocks.tile.lanes);
    }

    /// Lays out some rows of windows of an image: the padded channels, and the cotangent by place. `at` is image,
    /// group, and the place among the images that are laid out.
    fn fill(
        &self,
        b: &mut Builder,
        at: (Value, Value, Value),
        (channel, count): (Value, Value),
        (lines, piece): ((Value, Value), (Value, Value)),
    ) {
        let [vertical, horizontal] = self.axes;
        let lanes = self.blocks.tile.lanes;
        let x = &self.image.layout;
        let terms = [(at.0, x.strides[0]), (at.1, x.strides[1]), (channel, x.strides[2])];
        let first = b.affine(&terms, x.offset);
        let strides = [x.strides[2], x.strides[3], x.strides[4]];
        let channels = Channels { memory: self.memories.image, first, strides, count };
        let corner = [b.mul_index(lines.0, vertical.step as i64), b.mul_index(piece.0, horizontal.step as i64)];
        let first = b.mul_index(at.2, self.blocks.padded_image());
        image::pad(b, &channels, self.axes, (&self.memories.padded, first), corner, lanes);
        let dy = &self.cotangent.layout;
        let row = self.blocks.row_windows as i64 * dy.strides[3];
        let terms = [(at.0, dy.strides[0]), (at.1, dy.strides[1]), (lines.0, row), (piece.0, dy.strides[3])];
        let first = b.affine(&terms, dy.offset);
        let matrix = Matrix { memory: self.memories.cotangent, first, row: dy.strides[3], column: dy.strides[2] };
        let (many, windows) = (b.sub(lines.1, lines.0), b.sub(piece.1, piece.0));
        let places = b.mul(many, windows);
        let columns = b.index(self.blocks.columns as i64);
        let packed = self.packed();
        let row = b.mul_index(at.2, self.blocks.places() as i64);
        let first = b.mul_index(row, packed.row);
        pack::pack(b, &matrix, (places, columns), (&packed, first), &[lanes]);
    }

    /// Adds the parts of some rows of the product in order, and the epilogue.
    fn add_parts(&self, b: &mut Builder, target: &Target<'_, '_>, lines: Split, task: Value) {
        let blocks = self.blocks;
        let (start, end) = lines.bounds(b, task);
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, line, _| {
            let rows = b.index(blocks.rows as i64);
            let (group, row) = (b.div(line, rows), b.rem(line, rows));
            let line = if blocks.by_tap { self.line_by_tap(b, group, row) } else { line };
            let first = b.mul_index(line, blocks.stride());
            let column = b.mul_index(group, blocks.columns as i64);
            let parts = (self.memories.partial, first, blocks.part(), blocks.parts.tasks());
            add_line(b, target, (row, column), blocks.columns, parts, blocks.tile.lanes);
            vec![]
        });
    }

    /// Where the sums of row (channel, tap) of a group lie, counted in lines.
    fn line_by_tap(&self, b: &mut Builder, group: Value, row: Value) -> Value {
        let taps = b.index(self.blocks.taps as i64);
        let (channel, tap) = (b.div(row, taps), b.rem(row, taps));
        b.affine(&[(group, self.blocks.rows as i64), (tap, self.blocks.all_channels as i64), (channel, 1)], 0)
    }
}

/// Adds the parts of a row of the product from a column on, and the epilogue. `parts` are the memory, where the row
/// lies in the first part, elements from part to part, and their number.
pub fn add_line(
    b: &mut Builder,
    target: &Target<'_, '_>,
    at: (Value, Value),
    columns: usize,
    parts: (Memory, Value, i64, u64),
    lanes: u8,
) {
    let zero = b.index(0);
    let point = Point { coordinates: vec![zero, zero], vector: 0, lanes: 1 };
    let range = (zero, b.index(columns as i64));
    target.line_of_parts(b, &point, at, range, parts, lanes);
}
