//! Convolution of images whose channels lie side by side, as a product of windows by packed weights.
//!
//! Rows of the product are the places of the output, columns its channels; k runs over (tap, channel). The terms of a
//! window are runs of memory, so that a tile reads them where they are: no matrix of windows is laid out, whatever the
//! stride and the number of taps. A task owns some lines of one image's output and some of its channels. Where windows
//! reach outside of the image it copies the lines that it needs into scratch memory first, with zeros around them
//! (Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures", 2018).
//!
//! Weights are packed by [`crate::lower::matmul::panels`]. If there are many terms, they are added some taps at a time,
//! so that a task's weights stay in the second cache; sums wait in memory meanwhile. Terms are added in order, whatever
//! the blocks. Windows over the result are taken by the tasks that make it ([`super::pooling`]).

use super::image::{self, Axis};
use super::last_shape::{Shape, Slabs};
use super::lines_last::{Lines, Windows};
use super::pooling::{Outcome, Pool, Pooling};
use super::spatial::Spatial;
use crate::ir::{Builder, Direction, Elem, Memory, Value};
use crate::lower::anchor::stored;
use crate::lower::conv;
use crate::lower::depthwise;
use crate::lower::evaluate::Point;
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::coordinates;
use crate::lower::matmul::pack;
use crate::lower::matmul::panels;
use crate::lower::matmul::product::{Kept, Lies, Product, Range, Sink, Target};
use crate::lower::matmul::tile::Level;
use crate::lower::matmul::words::{self, Factors};
use crate::lower::memory::{self, KernelDraft, Place};
use crate::lower::winograd;
use crate::lower::winograd::Tiles;
use crate::lower::{LowerError, Lowering, sparse};
use nnc_graph::{ConvAttributes, DType, NodeId, ValueId};
use nnc_opt::fuse::{Group, Layout};

/// A convolution with channels last.
pub struct Operands {
    /// `[image, row, column, channel]`.
    pub image: Place,
    /// `[output channel, tap, channel]`.
    pub weights: Place,
    /// Vertical and horizontal.
    pub axes: [Axis; 2],
    /// Whether the domain of the group has an axis for images before those of places and channels.
    pub has_images: bool,
    /// What an element of images and weights is; channels are counted in them.
    pub factors: Factors,
}

/// Rows of a matrix, `[row, term]` with terms side by side, as an image whose windows are its places; `weights` is
/// `[column, term]`.
pub fn of_rows(rows: &Place, weights: &Place, factors: Factors) -> Operands {
    let (count, depth) = (rows.layout.dims[0], rows.layout.dims[1]);
    let axis = |windows: usize| Axis { source: windows, insert: 1, low: 0, taps: 1, dilation: 1, windows, step: 1 };
    let layout = Layout {
        dims: vec![1, count, 1, depth],
        strides: vec![0, rows.layout.strides[0], 0, rows.layout.strides[1]],
        offset: rows.layout.offset,
    };
    let columns = Layout {
        dims: vec![weights.layout.dims[0], 1, depth],
        strides: vec![weights.layout.strides[0], 0, weights.layout.strides[1]],
        offset: weights.layout.offset,
    };
    Operands {
        image: Place { layout, ..rows.clone() },
        weights: Place { layout: columns, ..weights.clone() },
        axes: [axis(count), axis(1)],
        has_images: false,
        factors,
    }
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
    let (w, operands) = operands(lowering, anchor, attributes)?;
    let kernel = graph.ty(w).shape.sizes();
    match attributes.groups.size() {
        1 => lower_product(lowering, (group, anchor, None), (w, &operands)).map(|_| ()),
        groups if is_single(groups, &kernel) => depthwise::last::lower(lowering, group, anchor, &operands),
        groups => conv::lower_grouped_last(lowering, group, anchor, (groups, &operands)),
    }
}

/// Lowers a convolution of one group with the windows over it; where these are to stay apart, its result is stored.
///
/// # Errors
/// As [`lower`].
pub fn lower_with_windows(
    lowering: &mut Lowering<'_>,
    (group, anchor): (&Group, NodeId),
    attributes: &ConvAttributes,
    pooling: &Pooling,
) -> Result<Outcome, LowerError> {
    let (w, operands) = operands(lowering, anchor, attributes)?;
    lower_product(lowering, (group, anchor, Some(pooling)), (w, &operands))
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
    let node = lowering.graph.node(anchor);
    let (dy, w, dx) = (node.operands[0], node.operands[1], node.results[0]);
    let sizes = |value| lowering.graph.ty(value).shape.sizes();
    let (from, kernel, to) = (sizes(dy), sizes(w), sizes(dx));
    let places = 1..from.len() - 1;
    let spatial = Spatial::new(attributes, &to[places.clone()], &kernel[2..], &from[places])?;
    if !is_single(spatial.groups, &kernel) {
        return conv::lower_input_grad_last(lowering, group, anchor, &spatial);
    }
    let axes = spatial.backward();
    let taps = axes[0].taps * axes[1].taps;
    let image = stored(lowering, dy, &[from[0], axes[0].source, axes[1].source, kernel[0]])?;
    let weights = stored(lowering, w, &[kernel[0], taps, 1])?;
    let turned = weights.layout.slice(&[(0, kernel[0], 1), (taps as i64 - 1, taps, -1), (0, 1, 1)]);
    let weights = Place { layout: turned, ..weights };
    let (image, weights, factors) = single_factors(lowering, (dy, &image), (w, &weights))?;
    let operands = Operands { image, weights, axes, has_images: true, factors };
    depthwise::last::lower(lowering, group, anchor, &operands.upright())
}

/// The operands of a convolution of single channels: bytes as floats, if their sums are exact.
fn single_factors(
    lowering: &mut Lowering<'_>,
    (x, image): (ValueId, &Place),
    (w, weights): (ValueId, &Place),
) -> Result<(Place, Place, Factors), LowerError> {
    let taps = weights.layout.dims[1];
    match image.elem == Elem::U8 && words::are_exact_in_floats(taps) {
        true => Ok((image.clone(), words::widened(lowering, w, weights, DType::F32)?, Factors::One)),
        false => words::factors(lowering, (x, image), (w, weights), false),
    }
}

/// Whether each output channel is made of a channel of its own.
fn is_single(groups: usize, kernel: &[usize]) -> bool {
    groups > 1 && kernel[1] == 1 && kernel[0] == groups
}

/// The weights' value, and what is multiplied.
fn operands(
    lowering: &mut Lowering<'_>,
    anchor: NodeId,
    attributes: &ConvAttributes,
) -> Result<(ValueId, Operands), LowerError> {
    let node = lowering.graph.node(anchor);
    let (x, w, y) = (node.operands[0], node.operands[1], node.results[0]);
    let sizes = |value| lowering.graph.ty(value).shape.sizes();
    let (from, kernel, to) = (sizes(x), sizes(w), sizes(y));
    let inner = from.len() - 1;
    let spatial = Spatial::new(attributes, &from[1..inner], &kernel[2..], &to[1..inner])?;
    let axes = spatial.forward();
    let taps = axes[0].taps * axes[1].taps;
    let image = stored(lowering, x, &[from[0], axes[0].source, axes[1].source, from[inner]])?;
    let weights = stored(lowering, w, &[kernel[0], kernel[1], taps])?;
    let weights = Place { layout: weights.layout.transpose(&[0, 2, 1]), ..weights };
    let (image, weights, factors) = match is_single(spatial.groups, &kernel) {
        true => single_factors(lowering, (x, &image), (w, &weights))?,
        false => words::factors(lowering, (x, &image), (w, &weights), spatial.groups == 1)?,
    };
    let operands = Operands { image, weights, axes, has_images: true, factors };
    let operands = match spatial.groups == 1 || kernel[1] == 1 {
        true => operands.upright(),
        false => operands,
    };
    Ok((w, operands))
}

/// Lowers a convolution of one group: by what of its weights is not zero if that is faster than all of them.
fn lower_product(
    lowering: &mut Lowering<'_>,
    (group, anchor, pooling): (&Group, NodeId, Option<&Pooling>),
    (weights, operands): (ValueId, &Operands),
) -> Result<Outcome, LowerError> {
    let tiles = winograd(lowering, operands);
    let dims = &operands.image.layout.dims;
    let columns = operands.weights.layout.dims[0];
    let share = tiles.map_or(1.0, |tiles| tiles.share(operands.axes, dims[0], dims[3], columns));
    let why_dense = match sparse::conv::lower(lowering, (group, anchor), (weights, operands), share)? {
        sparse::Outcome::Done => return Ok(Outcome::Apart("by themselves: the convolution is by sparse weights")),
        sparse::Outcome::Dense(why) => why,
    };
    let outcome = match tiles {
        Some(tiles) => winograd::conv::emit(lowering, (group, anchor, pooling), (weights, operands), tiles)?,
        None => {
            emit(lowering, (group, anchor, pooling), (weights, operands))?;
            Outcome::Done
        }
    };
    why_dense.iter().for_each(|why| lowering.remark(why));
    Ok(outcome)
}

/// Lines from so many windows on are not to be had in one piece.
const LONG: usize = 1 << 10;

impl Operands {
    /// With an image of one long line stood up, since tasks are cut between lines.
    fn upright(self) -> Self {
        let [vertical, horizontal] = self.axes;
        if !image::is_line(self.axes) || horizontal.windows < LONG {
            return self;
        }
        let layout = self.image.layout.transpose(&[0, 2, 1, 3]);
        Self { image: Place { layout, ..self.image }, axes: [horizontal, vertical], ..self }
    }
}

/// The tiles of Winograd's form, if it is allowed and serves.
fn winograd(lowering: &Lowering<'_>, operands: &Operands) -> Option<Tiles> {
    let dims = &operands.image.layout.dims;
    let channels = dims[3];
    let tiles = Tiles::choose(operands.axes, dims[0], channels, operands.weights.layout.dims[0]);
    tiles.filter(|_| operands.image.elem == Elem::F32 && lowering.target.winograd)
}

/// Emits the product of windows by the weights, which are the value or a part of it, and the windows over its result.
///
/// # Errors
/// A bug in the compiler.
pub fn emit(
    lowering: &mut Lowering<'_>,
    (group, anchor, pooling): (&Group, NodeId, Option<&Pooling>),
    (weights, operands): (ValueId, &Operands),
) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let elem = operands.image.elem;
    let pooled = pooling.map(Pooling::lines);
    let (shape, alternatives) =
        Shape::new((operands, pooled), lowering.lanes_of(elem), lowering.target, lowering.tuning);
    let packed = panels::pack(lowering, weights, &operands.weights, shape.tile)?;
    let mut draft = KernelDraft::new(node.op.name().trim_end_matches("_last"));
    draft.how = shape.to_string();
    draft.alternatives = alternatives;
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let outputs = pooling.map_or(&group.outputs, |pooling| &pooling.stored);
    let frame = Frame::new(lowering, &mut draft, members, outputs, Axes::apart(&group.domain))?;
    let pool = pooling.map(|pooling| Pool::new(lowering, &mut draft, pooling)).transpose()?;
    let room = pooling.map(|pooling| {
        let elem = memory::elem(graph.ty(pooling.value).dtype);
        draft.builder.scratch(elem, shape.block_rows() * shape.column_blocks.grain as usize)
    });
    let row_axis = usize::from(operands.has_images);
    let column_axis = row_axis + 1;
    let spill = Some(draft.builder.scratch(elem, shape.tile.rows * shape.tile.columns()));
    let target = Target { frame: &frame, result: node.results[0], outputs, row_axis, column_axis, spill, kept: None };
    let rows = shape.block_rows();
    let body = Body {
        image: (&operands.image, draft.param(operands.image.buffer, elem, Direction::In)),
        weights: draft.param(packed, elem, Direction::In),
        padded: (!shape.direct).then(|| draft.builder.scratch(elem, shape.padded_elements())),
        starts: draft.builder.scratch(Elem::I64, rows),
        sums: shape.slabs.is_cut().then(|| draft.builder.scratch(elem, rows * shape.sums_stride())),
        pool: pool.as_ref().zip(room),
        shape: &shape,
    };
    let counts = [shape.images, shape.lines.tasks() as usize, shape.column_blocks.tasks() as usize];
    draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
        let at = coordinates(b, task, &counts);
        body.task(b, &target, &at);
    });
    let terms = shape.depth() * operands.factors.terms();
    let work = 2 * shape.images * shape.places() * shape.columns * terms;
    match pool {
        Some(_) => lowering.append(draft, vec![], work),
        None => lowering.launch_with(draft, &frame, work, &[operands.image.buffer, packed]),
    }
}

struct Body<'a, 'g> {
    shape: &'a Shape,
    image: (&'a Place, Memory),
    weights: Memory,
    padded: Option<Memory>,
    /// Where the window of each row of a block begins.
    starts: Memory,
    sums: Option<Memory>,
    /// Windows over the result, and room for the lines of a task.
    pool: Option<(&'a Pool<'a, 'g>, Memory)>,
}

impl Body<'_, '_> {
    /// `at` is image, block of lines, block of channels.
    fn task(&self, b: &mut Builder, target: &Target<'_, '_>, at: &[Value]) {
        let shape = self.shape;
        let lines = shape.lines.bounds(b, at[1]);
        let columns = shape.column_blocks.bounds(b, at[2]);
        let Some((pool, memory)) = self.pool else { return self.multiply_lines(b, target, at, (lines, columns)) };
        let row = shape.column_blocks.grain;
        let first = b.affine(&[(lines.0, -(shape.axes[1].windows as i64) * row), (columns.0, -1)], 0);
        let kept = Kept { value: pool.pooling.value, memory, first, row };
        self.multiply_lines(b, &Target { kept: Some(kept), ..*target }, at, (lines, columns));
        let windows = shape.lines_of_windows().bounds(b, at[1]);
        pool.lines(b, (at[0], windows), columns, &kept, shape.tile.lanes);
    }

    /// Some lines and channels of the result.
    fn multiply_lines(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        at: &[Value],
        (lines, columns): ((Value, Value), (Value, Value)),
    ) {
        let shape = self.shape;
        let windows = self.windows(b, at[0], lines.0);
        let count = b.sub(lines.1, lines.0);
        windows.note_starts(b, shape.axes, count, self.starts);
        let row = shape.axes[1].windows as i64;
        let (zero, rows) = (b.index(0), b.mul_index(count, row));
        let images = &at[..target.row_axis];
        let point = Point { coordinates: [images, &[zero, zero]].concat(), vector: target.column_axis, lanes: 1 };
        let first_row = b.mul_index(lines.0, row);
        let range = Range { rows: (zero, rows), columns };
        let Some(sums) = self.sums else {
            let levels = self.levels(b, &windows);
            let product = self.product(b, &windows, (zero, zero), columns.0, &levels);
            let next = self.next_from(b, columns.1, zero);
            return self.multiply(b, &product, range, next, &Sink::Epilogue(target, point, first_row));
        };
        let stride = shape.sums_stride() as i64;
        let origin = b.mul_index(columns.0, -1);
        pack::clear(b, sums, shape.block_rows() * shape.sums_stride(), shape.tile.lanes);
        self.for_each_slab(b, &windows, &mut |b, terms| {
            let levels = self.levels(b, &windows);
            let product = self.product(b, &windows, terms, columns.0, &levels);
            let after = b.add_index(terms.1, shape.slab() as i64);
            let next = self.next_from(b, columns.0, after);
            self.multiply(b, &product, range, next, &Sink::Sum(sums, origin, stride));
        });
        let step = b.index(1);
        let channels = b.sub(columns.1, columns.0);
        let widths = crate::lower::loops::widths_of(b, channels, shape.tile.lanes);
        b.for_loop(zero, rows, step, &[], |b, row, _| {
            let line = b.affine(&[(origin, 1), (row, stride)], 0);
            let place = b.add(row, first_row);
            target.line(b, &point, (place, zero), columns, (sums, line), &widths);
            vec![]
        });
    }

    /// The lines of the image that a task reads, copied where they are to be padded.
    fn windows(&self, b: &mut Builder, image: Value, line: Value) -> Windows {
        let layout = &self.image.0.layout;
        let first = b.affine(&[(image, layout.strides[0])], layout.offset);
        let lines = Lines {
            image: self.image,
            axes: self.shape.axes,
            height: self.shape.height,
            width: self.shape.width,
            column: self.shape.place,
            lanes: self.shape.tile.lanes,
        };
        let all = b.index(self.shape.channels as i64);
        lines.windows(b, (first, all), line, self.padded)
    }

    /// The loops over the terms of a slab.
    fn levels(&self, b: &mut Builder, windows: &Windows) -> Vec<Level> {
        let [vertical, horizontal] = self.shape.axes;
        let channels = self.shape.channels as i64;
        let panel = self.shape.tile.columns() as i64;
        let taps = horizontal.taps as i64;
        let tap = horizontal.dilation as i64 * windows.column;
        let (mut lines, mut columns, mut inner) = match self.shape.slabs {
            Slabs::Whole => (vertical.taps as i64, taps, channels),
            Slabs::Lines => (1, taps, channels),
            Slabs::Taps => (1, 1, channels),
            Slabs::Channels(count) => (1, 1, count as i64),
        };
        // Neighbouring taps whose channels follow one another are one run.
        if columns > 1 && tap == channels && inner == channels {
            (columns, inner) = (1, columns * inner);
        }
        if lines > 1 && columns == 1 && vertical.dilation as i64 * windows.line == inner {
            (lines, inner) = (1, lines * inner);
        }
        let mut level = |count: i64, a: i64, terms: i64| Level { count: b.index(count), a, b: terms * panel };
        let all = [
            level(lines, vertical.dilation as i64 * windows.line, taps * channels),
            level(columns, tap, channels),
            level(inner, 1, 1),
        ];
        let ones = [lines == 1, columns == 1, false];
        all.into_iter().zip(ones).filter(|(_, one)| !one).map(|(level, _)| level).collect()
    }

    /// Calls `body` for each slab with where it begins: elements into the window, and terms.
    fn for_each_slab(&self, b: &mut Builder, windows: &Windows, body: &mut dyn FnMut(&mut Builder, (Value, Value))) {
        let [vertical, horizontal] = self.shape.axes;
        let channels = self.shape.channels as i64;
        let taps = horizontal.taps as i64;
        b.for_each(vertical.taps as i64, |b, i| {
            let moved = b.mul_index(i, vertical.dilation as i64 * windows.line);
            let terms = b.mul_index(i, taps * channels);
            if self.shape.slabs == Slabs::Lines {
                return body(b, (moved, terms));
            }
            b.for_each(taps, |b, j| {
                let moved = b.affine(&[(moved, 1), (j, horizontal.dilation as i64 * windows.column)], 0);
                let terms = b.affine(&[(terms, 1), (j, channels)], 0);
                let Slabs::Channels(count) = self.shape.slabs else { return body(b, (moved, terms)) };
                b.for_each(channels / count as i64, |b, part| {
                    let at = b.mul_index(part, count as i64);
                    let (moved, terms) = (b.add(moved, at), b.add(terms, at));
                    body(b, (moved, terms));
                });
            });
        });
    }

    /// Where the weights of a column lie from some term on.
    fn panels_from(&self, b: &mut Builder, column: Value, terms: Value) -> Value {
        b.affine(&[(column, self.shape.depth() as i64), (terms, self.shape.tile.columns() as i64)], 0)
    }

    /// Where the weights lie that are needed next: those of a column from some term on or, behind the last one, the
    /// first ones again. What lies behind all weights is other threads': to ask for it would take it from their caches.
    fn next_from(&self, b: &mut Builder, column: Value, terms: Value) -> Value {
        let next = self.panels_from(b, column, terms);
        let (first, end) = (b.index(0), b.index((self.shape.columns * self.shape.depth()) as i64));
        let is_over = b.ge(next, end);
        b.select(is_over, first, next)
    }

    /// Computes a block of the product; the weights of the next one lie at `next`.
    fn multiply(&self, b: &mut Builder, product: &Product<'_>, range: Range, next: Value, sink: &Sink<'_, '_>) {
        match self.shape.by_panels {
            true => product.run_by_panels(b, range, (next, self.shape.passes()), sink),
            false => product.run(b, range, sink),
        }
    }

    /// The product of a task from some term on.
    fn product<'l>(
        &self,
        b: &mut Builder,
        windows: &Windows,
        (moved, terms): (Value, Value),
        column: Value,
        levels: &'l [Level],
    ) -> Product<'l> {
        let shape = self.shape;
        let from = b.add(windows.first, moved);
        let depth = shape.depth() as i64;
        let packed = self.panels_from(b, column, terms);
        Product {
            tile: shape.tile,
            rows: shape.all_lines * shape.axes[1].windows,
            columns: shape.columns,
            a: (windows.memory, windows.rows(shape.axes, from, (self.starts, shape.tile.rows))),
            b: (self.weights, packed, depth),
            gathered: None,
            lies: Lies::Packed,
            levels,
        }
    }
}
