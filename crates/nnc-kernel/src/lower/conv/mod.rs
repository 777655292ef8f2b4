//! Convolution, and its transpose in the image, as a product by the matrix of windows.
//!
//! Rows of the product are output channels, columns the places of the output, k runs over (channel, tap). [`product`]
//! does it for one group, [`crate::lower::depthwise`] for single channels. What is left is done here: groups, few
//! output channels, and images whose rows do not go well with panels. A task owns some rows of one image's output: it
//! copies the channels it needs into a padded block, and multiplies the weights by its windows. When windows are one
//! step apart, the block itself is the matrix of windows: for each tap it begins elsewhere, and columns run over whole
//! padded rows, a few at each row's end for nothing. Else the matrix is laid out in scratch memory. The transpose is
//! the same with the kernel turned around, the channels exchanged, and zeros between the elements of a strided image.
//! Weights stay where they are, or are brought into the order (channel, tap) once.

pub mod blocks;
pub mod image;
pub mod last;
pub mod last_shape;
pub mod lines_last;
pub mod pooling;
pub mod product;
pub mod spatial;
pub mod weight;
pub mod weight_last;
pub mod windows;

use crate::ir::{Builder, Direction, Memory, Value};
use crate::lower::anchor::stored;
use crate::lower::depthwise;
use crate::lower::evaluate::Point;
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::coordinates;
use crate::lower::matmul::pack;
use crate::lower::matmul::product::{Lies, Product, Range, RowSource, Sink, Target};
use crate::lower::matmul::tile::{Level, Tile};
use crate::lower::matmul::words;
use crate::lower::memory::{KernelDraft, Place, Source};
use crate::lower::{LowerError, Lowering};
use blocks::{Blocks, Whole};
use image::{Axis, Channels, Padded};
use nnc_graph::{ConvAttributes, DType, NodeId, ValueId};
use nnc_opt::fuse::{Group, Layout};
use spatial::Spatial;
use windows::Windows;

/// Below so many output channels it costs more to lay out windows than to compute a few columns for nothing.
const FEW_ROWS: usize = 48;

/// The sizes of `value` beyond its first two axes.
pub fn spatial_sizes(lowering: &Lowering<'_>, value: nnc_graph::ValueId) -> Vec<usize> {
    lowering.graph.ty(value).shape.sizes()[2..].to_vec()
}

/// Lowers a convolution.
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
    let (x, w, y) = (node.operands[0], node.operands[1], node.results[0]);
    let (in_sizes, taps, out_sizes) =
        (spatial_sizes(lowering, x), spatial_sizes(lowering, w), spatial_sizes(lowering, y));
    let spatial = Spatial::new(attributes, &in_sizes, &taps, &out_sizes)?;
    let dims = graph.ty(w).shape.sizes();
    let (rows, channels) = (dims[0] / spatial.groups, dims[1]);
    let weights = stored(lowering, w, &[spatial.groups, rows, channels * taps.iter().product::<usize>()])?;
    let images = graph.ty(x).shape.sizes()[0];
    let axes = spatial.forward();
    let image = stored(lowering, x, &[images, spatial.groups, channels, axes[0].source, axes[1].source])?;
    let (image, weights) =
        (words::widened(lowering, x, &image, DType::I32)?, words::widened(lowering, w, &weights, DType::I32)?);
    emit(lowering, group, anchor, x, Operands { image, weights, axes, rows, channels, last: false })
}

/// Lowers the transpose of a convolution in the image.
///
/// # Errors
/// As [`lower`].
pub fn lower_input_grad(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    attributes: &ConvAttributes,
) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let (dy, w, dx) = (node.operands[0], node.operands[1], node.results[0]);
    let (out_sizes, taps, in_sizes) =
        (spatial_sizes(lowering, dy), spatial_sizes(lowering, w), spatial_sizes(lowering, dx));
    let spatial = Spatial::new(attributes, &in_sizes, &taps, &out_sizes)?;
    let dims = graph.ty(w).shape.sizes();
    let (images, channels) = (graph.ty(dy).shape.sizes()[0], dims[0] / spatial.groups);
    let [high, wide] = spatial.output;
    let image = stored(lowering, dy, &[images, spatial.groups, channels, high, wide])?;
    let operands = transposed(lowering, (dy, image), w, &spatial, false)?;
    emit(lowering, group, anchor, dy, operands)
}

/// Lowers the transpose of a convolution in the image, with channels last, by way of the plain form.
///
/// # Errors
/// A bug in the compiler.
pub fn lower_input_grad_last(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    spatial: &Spatial,
) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let (dy, w) = (node.operands[0], node.operands[1]);
    let (images, outputs) = (graph.ty(dy).shape.sizes()[0], graph.ty(w).shape.sizes()[0]);
    let [high, wide] = spatial.output;
    let image = stored(lowering, dy, &[images, high, wide, spatial.groups, outputs / spatial.groups])?;
    let image = Place { layout: image.layout.transpose(&[0, 3, 4, 1, 2]), ..image };
    let operands = transposed(lowering, (dy, image), w, spatial, true)?;
    emit_blocks(lowering, group, anchor, operands)
}

/// The operands of a transpose; the cotangent is given as `[image, group, channel, row, column]`.
fn transposed(
    lowering: &mut Lowering<'_>,
    (dy, image): (ValueId, Place),
    w: ValueId,
    spatial: &Spatial,
    last: bool,
) -> Result<Operands, LowerError> {
    let (channels, rows) = (image.layout.dims[2], lowering.graph.ty(w).shape.sizes()[1]);
    let weights = turned_weights(lowering, w, [spatial.groups, channels, rows, spatial.taps[0], spatial.taps[1]])?;
    let (image, weights) =
        (words::widened(lowering, dy, &image, DType::I32)?, words::widened(lowering, w, &weights, DType::I32)?);
    Ok(Operands { image, weights, axes: spatial.backward(), rows, channels, last })
}

/// Weights `[group, co, ci, kh, kw]` as `[group, ci, co, kh, kw]` with the taps in reverse.
fn turned_weights(lowering: &mut Lowering<'_>, w: nnc_graph::ValueId, dims: [usize; 5]) -> Result<Place, LowerError> {
    let place = stored(lowering, w, &dims)?;
    let [groups, channels, rows, high, wide] = dims;
    let turned = place.layout.transpose(&[0, 2, 1, 3, 4]).slice(&[
        (0, groups, 1),
        (0, rows, 1),
        (0, channels, 1),
        (high as i64 - 1, high, -1),
        (wide as i64 - 1, wide, -1),
    ]);
    let merged = [groups, rows, channels * high * wide];
    if let Some(layout) = turned.reshape(&merged) {
        return Ok(Place { layout, ..place });
    }
    let from = Source::Stored(Place { layout: turned.clone(), ..place.clone() });
    let buffer = lowering.copied(w, from, &turned.dims)?;
    Ok(Place { buffer, elem: place.elem, layout: Layout::contiguous(&merged) })
}

/// What is multiplied.
pub struct Operands {
    /// `[image, group, channel, row, column]`.
    pub image: Place,
    /// `[group, row, k]`.
    pub weights: Place,
    /// Vertical and horizontal.
    pub axes: [Axis; 2],
    /// Rows of the product: output channels of a group.
    pub rows: usize,
    /// Channels of a group that are summed over.
    pub channels: usize,
    /// Whether the channels of the result are its last axis.
    pub last: bool,
}

/// Lowers a convolution of several groups with channels last, by way of the plain form.
///
/// # Errors
/// A bug in the compiler.
pub fn lower_grouped_last(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    (groups, given): (usize, &last::Operands),
) -> Result<(), LowerError> {
    let layout = &given.image.layout;
    let channels = layout.dims[3] / groups;
    let [images, high, wide] = [0, 1, 2].map(|axis| layout.dims[axis]);
    let image = layout.transpose(&[0, 3, 1, 2]).reshape(&[images, groups, channels, high, wide]);
    let image = image.ok_or_else(|| LowerError::bug("channels that do not divide into groups"))?;
    let weights = &given.weights.layout;
    let (outputs, taps) = (weights.dims[0], weights.dims[1]);
    let rows = outputs / groups;
    let in_order = weights.transpose(&[0, 2, 1]);
    let dims = [groups, rows, channels * taps];
    let weights = match in_order.reshape(&dims) {
        Some(layout) => Place { layout, ..given.weights.clone() },
        None => {
            let value = lowering.graph.node(anchor).operands[1];
            let from = Source::Stored(Place { layout: in_order.clone(), ..given.weights.clone() });
            let buffer = lowering.copied(value, from, &in_order.dims)?;
            Place { buffer, layout: Layout::contiguous(&dims), ..given.weights.clone() }
        }
    };
    let image = Place { layout: image, ..given.image.clone() };
    let operands = Operands { image, weights, axes: given.axes, rows, channels, last: true };
    emit_blocks(lowering, group, anchor, operands)
}

/// `value` is what `operands.image` holds.
fn emit(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    value: ValueId,
    operands: Operands,
) -> Result<(), LowerError> {
    if operands.image.layout.dims[1] == 1 {
        if operands.is_pointwise() {
            return product::lower(lowering, group, anchor, &operands, Some(value));
        }
        let places = operands.axes[0].windows * operands.axes[1].windows;
        let tile = Tile::choose(operands.rows, places, lowering.lanes_of(operands.image.elem), lowering.target);
        let [vertical, horizontal] = operands.axes;
        let stays = operands.rows < FEW_ROWS && blocks::is_direct(vertical, horizontal);
        if !stays && Windows::fit(operands.axes, &tile) {
            return product::lower(lowering, group, anchor, &operands, None);
        }
    }
    emit_blocks(lowering, group, anchor, operands)
}

impl Operands {
    /// Operations.
    fn work(&self) -> usize {
        let [vertical, horizontal] = self.axes;
        let results: usize = self.image.layout.dims[..2].iter().product::<usize>() * self.rows;
        let terms = self.channels * vertical.taps * horizontal.taps;
        2 * results * vertical.windows * horizontal.windows * terms
    }
}

fn emit_blocks(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    operands: Operands,
) -> Result<(), LowerError> {
    let mut draft = KernelDraft::new("conv");
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let elem = operands.image.elem;
    let image = draft.param(operands.image.buffer, elem, Direction::In);
    let weights = draft.param(operands.weights.buffer, elem, Direction::In);
    let whole = Whole { axes: operands.axes, rows: operands.rows, channels: operands.channels, image: &operands.image };
    if !operands.last && depthwise::fits(&whole, lowering.lanes_of(elem)) {
        let result = lowering.graph.node(anchor).results[0];
        let outputs = &group.outputs;
        let target = Target { frame: &frame, result, outputs, row_axis: 1, column_axis: 2, spill: None, kept: None };
        let memories = (image, (weights, &operands.weights));
        depthwise::phase(&mut draft, &whole, &target, memories, lowering.lanes_of(elem));
        let fixed = [operands.image.buffer, operands.weights.buffer];
        return lowering.launch_with(draft, &frame, operands.work(), &fixed);
    }
    let blocks = Blocks::new(&whole, lowering.lanes_of(elem), lowering.target);
    draft.how = blocks.to_string();
    let result = lowering.graph.node(anchor).results[0];
    let spill = Some(draft.builder.scratch(elem, blocks.tile.rows * blocks.tile.columns()));
    let (row_axis, column_axis) = if operands.last { (2, 1) } else { (1, 2) };
    let target = Target { frame: &frame, result, outputs: &group.outputs, row_axis, column_axis, spill, kept: None };
    // What the last vectors of the last row of windows read past the block: nothing of it reaches a result.
    let slack = match blocks.direct {
        true => blocks.tile.columns() + blocks.width,
        false => usize::from(blocks.tile.lanes) * operands.axes[1].step,
    };
    let padded = Padded {
        memory: draft.builder.scratch(elem, blocks.channels * blocks.height * blocks.width + slack),
        height: blocks.height,
        width: blocks.width,
    };
    let packed = match blocks.direct {
        true => padded.memory,
        false => draft.builder.scratch(elem, blocks.channels * blocks.taps * blocks.stride()),
    };
    let rows_of_sums = match (blocks.is_deep(), blocks.direct) {
        (true, _) => Some(blocks.rows.grain as usize),
        (false, true) => Some(blocks.tile.rows),
        (false, false) => None,
    };
    let sums = rows_of_sums.map(|rows| draft.builder.scratch(elem, rows * blocks.stride()));
    let body = Body { operands: &operands, blocks: &blocks, image, weights, padded, packed, sums };
    let parts = [blocks.rows, blocks.lines, blocks.pieces].map(|split| split.tasks() as usize);
    let counts = [blocks.images, blocks.groups, parts[0], parts[1], parts[2]];
    draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
        let at = coordinates(b, task, &counts);
        body.task(b, &target, &at);
    });
    lowering.launch_with(draft, &frame, operands.work(), &[operands.image.buffer, operands.weights.buffer])
}

/// What a task computes.
struct Area {
    rows: (Value, Value),
    lines: (Value, Value),
    /// Of every line.
    piece: (Value, Value),
}

impl Area {
    fn new(b: &mut Builder, blocks: &Blocks, at: &[Value]) -> Self {
        Self {
            rows: blocks.rows.bounds(b, at[2]),
            lines: blocks.lines.bounds(b, at[3]),
            piece: blocks.pieces.bounds(b, at[4]),
        }
    }

    /// The columns of the product, counted through the image's output.
    fn columns(&self, b: &mut Builder, blocks: &Blocks) -> (Value, Value) {
        let row = blocks.row_windows as i64;
        let first = b.affine(&[(self.lines.0, row), (self.piece.0, 1)], 0);
        if blocks.pieces.tasks() == 1 {
            return (first, b.mul_index(self.lines.1, row));
        }
        (first, b.affine(&[(self.lines.0, row), (self.piece.1, 1)], 0))
    }
}

struct Body<'a> {
    operands: &'a Operands,
    blocks: &'a Blocks,
    image: Memory,
    weights: Memory,
    padded: Padded,
    packed: Memory,
    sums: Option<Memory>,
}

impl Body<'_> {
    /// `at` is image, group, block of rows, block of lines, piece of a line.
    fn task(&self, b: &mut Builder, target: &Target<'_, '_>, at: &[Value]) {
        let area = Area::new(b, self.blocks, at);
        let range = Range { rows: area.rows, columns: area.columns(b, self.blocks) };
        let rows = area.rows;
        let zero = b.index(0);
        let point = Point { coordinates: vec![at[0], zero, zero], vector: 2, lanes: 1 };
        let first_row = b.mul_index(at[1], self.operands.rows as i64);
        let channels = b.index(self.blocks.channels as i64);
        let all = b.index(self.blocks.all_channels as i64);
        if self.blocks.direct {
            return self.direct_task(b, target, (at, &area), (&point, first_row));
        }
        let Some(sums) = self.sums else {
            let levels = [self.level(b, all)];
            let product = self.product(b, (at, &area), (zero, all), &levels);
            return product.run(b, range, &Sink::Epilogue(target, point, first_row));
        };
        let stride = self.blocks.stride() as i64;
        pack::clear(b, sums, self.blocks.rows.grain as usize * self.blocks.stride(), self.blocks.tile.lanes);
        let origin = b.affine(&[(rows.0, -stride), (range.columns.0, -1)], 0);
        b.for_loop(zero, all, channels, &[], |b, from, _| {
            let to = b.add(from, channels);
            let to = b.min(to, all);
            let count = b.sub(to, from);
            let levels = [self.level(b, count)];
            let product = self.product(b, (at, &area), (from, count), &levels);
            product.run(b, range, &Sink::Sum(sums, origin, stride));
            vec![]
        });
        let step = b.index(1);
        b.for_loop(rows.0, rows.1, step, &[], |b, row, _| {
            let from = b.affine(&[(origin, 1), (row, stride)], 0);
            let row = b.add(row, first_row);
            target.line(b, &point, (row, zero), range.columns, (sums, from), &[self.blocks.tile.lanes, 1]);
            vec![]
        });
    }

    /// The product of the padded block itself, by way of sums in scratch memory, from which the places that are windows
    /// are taken.
    fn direct_task(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        (at, area): (&[Value], &Area),
        (point, first_row): (&Point, Value),
    ) {
        let blocks = self.blocks;
        let Some(sums) = self.sums else { unreachable!("direct products have memory for sums") };
        let rows = area.rows;
        let stride = blocks.stride() as i64;
        let (zero, all) = (b.index(0), b.index(blocks.all_channels as i64));
        let columns = (zero, b.index(blocks.task_columns() as i64));
        if blocks.is_deep() {
            pack::clear(b, sums, blocks.rows.grain as usize * blocks.stride(), blocks.tile.lanes);
            let origin = b.mul_index(rows.0, -stride);
            let channels = b.index(blocks.channels as i64);
            b.for_loop(zero, all, channels, &[], |b, from, _| {
                let to = b.add(from, channels);
                let to = b.min(to, all);
                let count = b.sub(to, from);
                let levels = self.tap_levels(b, count);
                let product = self.product(b, (at, area), (from, count), &levels);
                product.run(b, Range { rows, columns }, &Sink::Sum(sums, origin, stride));
                vec![]
            });
            return self.finish_windows(b, target, (point, first_row), (rows, area), (sums, origin));
        }
        let levels = self.tap_levels(b, all);
        let product = self.product(b, (at, area), (zero, all), &levels);
        let step = b.index(blocks.tile.rows as i64);
        b.for_loop(rows.0, rows.1, step, &[], |b, row, _| {
            let end = b.add(row, step);
            let some = (row, b.min(end, rows.1));
            let origin = b.mul_index(row, -stride);
            product.run(b, Range { rows: some, columns }, &Sink::Store(sums, origin, stride));
            self.finish_windows(b, target, (point, first_row), (some, area), (sums, origin));
            vec![]
        });
    }

    /// The epilogue of some rows, line of windows by line.
    fn finish_windows(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        (point, first_row): (&Point, Value),
        (rows, area): ((Value, Value), &Area),
        (sums, origin): (Memory, Value),
    ) {
        let blocks = self.blocks;
        let windows = b.sub(area.piece.1, area.piece.0);
        let widths = crate::lower::loops::widths_of(b, windows, blocks.tile.lanes);
        let (zero, step) = (b.index(0), b.index(1));
        let (lines, first_line) = (area.lines, b.mul_index(area.lines.0, -(blocks.width as i64)));
        b.for_loop(rows.0, rows.1, step, &[], |b, row, _| {
            let of_row = b.affine(&[(origin, 1), (row, blocks.stride() as i64), (first_line, 1)], 0);
            let row = b.add(row, first_row);
            b.for_loop(lines.0, lines.1, step, &[], |b, line, _| {
                let from = b.affine(&[(of_row, 1), (line, blocks.width as i64)], 0);
                let column = b.affine(&[(line, blocks.row_windows as i64), (area.piece.0, 1)], 0);
                target.line(b, point, (row, column), (zero, windows), (sums, from), &widths);
                vec![]
            });
            vec![]
        });
    }

    /// The loops over channels and taps in the padded block.
    fn tap_levels(&self, b: &mut Builder, channels: Value) -> Vec<Level> {
        let [vertical, horizontal] = self.blocks.axes;
        let k = self.operands.weights.layout.strides[2];
        let across = horizontal.taps as i64;
        let (high, wide) = (b.index(vertical.taps as i64), b.index(across));
        let row = (self.blocks.width * vertical.dilation) as i64;
        vec![
            Level { count: channels, a: k * self.blocks.taps as i64, b: self.padded.plane() as i64 },
            Level { count: high, a: k * across, b: row },
            Level { count: wide, a: k, b: horizontal.dilation as i64 },
        ]
    }

    fn level(&self, b: &mut Builder, channels: Value) -> Level {
        let count = b.mul_index(channels, self.blocks.taps as i64);
        Level { count, a: self.operands.weights.layout.strides[2], b: self.blocks.stride() as i64 }
    }

    /// The product over some channels; lays out their windows.
    fn product<'l>(
        &self,
        b: &mut Builder,
        (at, area): (&[Value], &Area),
        (from, count): (Value, Value),
        levels: &'l [Level],
    ) -> Product<'l> {
        let [vertical, horizontal] = self.blocks.axes;
        let image = &self.operands.image.layout;
        let lanes = self.blocks.tile.lanes;
        let terms = [(at[0], image.strides[0]), (at[1], image.strides[1]), (from, image.strides[2])];
        let first = b.affine(&terms, image.offset);
        let strides = [image.strides[2], image.strides[3], image.strides[4]];
        let channels = Channels { memory: self.image, first, strides, count };
        let corner =
            [b.mul_index(area.lines.0, vertical.step as i64), b.mul_index(area.piece.0, horizontal.step as i64)];
        let zero = b.index(0);
        image::pad(b, &channels, self.blocks.axes, (&self.padded, zero), corner, lanes);
        if !self.blocks.direct {
            let many = b.sub(area.lines.1, area.lines.0);
            let to = (self.packed, self.blocks.stride() as i64);
            image::windows(b, &self.padded, (count, many), self.blocks.axes, to, lanes);
        }
        let weights = &self.operands.weights.layout;
        let k = weights.strides[2] * self.blocks.taps as i64;
        let a = b.affine(&[(at[1], weights.strides[0]), (from, k)], weights.offset);
        Product {
            tile: self.blocks.tile,
            rows: self.operands.rows,
            columns: if self.blocks.direct { self.blocks.task_columns() } else { self.blocks.columns() },
            a: (self.weights, RowSource::Even(a, weights.strides[1])),
            b: (self.packed, b.index(0), 1),
            gathered: None,
            lies: Lies::Packed,
            levels,
        }
    }
}
