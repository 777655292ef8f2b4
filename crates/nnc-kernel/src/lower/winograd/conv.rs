//! A 3 x 3 convolution with channels last by [`crate::lower::winograd`]: three steps, and the kernels transformed
//! before.
//!
//! 1. Tiles of the image are transformed: `[place of a tile][tile][channel]`.
//! 2. For each place of a tile, a product of (tiles, channels) by (channels, output channels).
//! 3. The sums, `[place][tile][output channel]`, are transformed back, and go through the epilogue.
//!
//! The first and third go a vector of channels at a time. Either a task does all three for a block of tiles, whose
//! transforms stay in the second cache, or each step is a phase of all tiles, and what the phases hand on lies in the
//! arena ([`super::blocks`]). Windows over the results are taken of whole tiles in registers, if they do not cut
//! through tiles.

use super::blocks::{Block, Costs};
use crate::ir::{Builder, Direction, Elem, Memory, Value};
use crate::lower::conv::image::Axis;
use crate::lower::conv::last::Operands;
use crate::lower::conv::lines_last::Lines;
use crate::lower::conv::pooling::{Outcome, Pool, Pooling};
use crate::lower::evaluate::{Known, Point};
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{Split, coordinates, within};
use crate::lower::matmul::product::{Lies, Product, Range, RowSource, Sink, Target};
use crate::lower::matmul::tile::{Level, Tile};
use crate::lower::memory::{BufferId, KernelDraft, Place};
use crate::lower::winograd::{self, Part, Tiles};
use crate::lower::{LowerError, Lowering};
use nnc_graph::{NodeId, ValueId};
use nnc_opt::fuse::Group;

/// Elements that a task of the first or third phase makes, about.
const TASK: usize = 1 << 15;
/// Multiply-adds of a task of the second phase.
const TASK_PRODUCTS: usize = 1 << 20;
/// Vector registers that a transform needs beside those of the rows that it makes.
const FREE: usize = 4;
/// Elements between planes beside what they hold, so that places of a tile do not share lines of the cache.
const APART: usize = 16;

/// A convolution and its tiles.
struct Shape {
    tiles: Tiles,
    axes: [Axis; 2],
    images: usize,
    channels: usize,
    columns: usize,
    /// The register tile of the products.
    tile: Tile,
    lanes: u8,
    /// Vector registers of the machine.
    registers: usize,
    /// The tiles whose transforms lie in memory at the same time.
    block: Block,
}

impl Shape {
    /// Tiles along both axes.
    fn grid(&self) -> [usize; 2] {
        self.axes.map(|axis| self.tiles.along(axis.windows))
    }

    /// Tiles of a block.
    fn count(&self) -> usize {
        (self.block.images.grain * self.block.lines.grain) as usize * self.grid()[1]
    }

    /// The number within its block of the first tile of a line: `at` is image and line within the block.
    fn number(&self, b: &mut Builder, at: [Value; 2]) -> Value {
        let across = self.grid()[1] as i64;
        b.affine(&[(at[0], self.block.lines.grain * across), (at[1], across)], 0)
    }

    /// Places of the padded lines that a line of tiles reads.
    fn padded_width(&self) -> usize {
        self.grid()[1] * self.tiles.results() + 2
    }

    /// Elements from place to place of transformed tiles of so many channels.
    fn plane(&self, channels: usize) -> usize {
        self.count() * channels + APART
    }

    /// Elements from place to place of the transformed kernels.
    fn kernel_plane(&self) -> usize {
        self.columns.next_multiple_of(self.tile.columns()) * self.channels
    }
}

/// Emits the convolution whose kernels are the value `weights`, and the windows over it if they go with its tiles.
///
/// # Errors
/// A bug in the compiler.
pub fn emit(
    lowering: &mut Lowering<'_>,
    (group, anchor, pooling): (&Group, NodeId, Option<&Pooling>),
    (weights, operands): (ValueId, &Operands),
    tiles: Tiles,
) -> Result<Outcome, LowerError> {
    let fitting = pooling.filter(|pooling| pooling.windows_in(tiles.results()).is_some());
    emit_tiles(lowering, (group, anchor, fitting), (weights, operands), tiles)?;
    Ok(match fitting.is_some() {
        true => Outcome::Done,
        false => Outcome::Apart("by themselves: they cut through the tiles of Winograd's form"),
    })
}

/// Emits the convolution and what windows are given.
fn emit_tiles(
    lowering: &mut Lowering<'_>,
    (group, anchor, pooling): (&Group, NodeId, Option<&Pooling>),
    (weights, operands): (ValueId, &Operands),
    tiles: Tiles,
) -> Result<(), LowerError> {
    let elem = operands.image.elem;
    let (images, channels) = (operands.image.layout.dims[0], operands.image.layout.dims[3]);
    let columns = operands.weights.layout.dims[0];
    let axes = operands.axes;
    let grid = axes.map(|axis| tiles.along(axis.windows));
    let costs =
        Costs { tiles, images, grid, channels, columns, lanes: lowering.lanes_of(elem), target: lowering.target };
    let block = costs.block();
    let lanes = winograd::lanes(channels, columns, lowering.lanes_of(elem));
    let (tile, registers) = (costs.register_tile(&block), lowering.target.registers());
    let shape = Shape { tiles, axes, images, channels, columns, tile, lanes, registers, block };
    let kernels = transform_kernels(lowering, weights, &operands.weights, &shape)?;
    let mut draft = KernelDraft::new("winograd");
    let (edge, count) = (tiles.results(), shape.count());
    let at_once = if block.is_own { " a task" } else { "" };
    draft.how = format!("F({edge} x {edge}, 3 x 3), {count} tiles{at_once}, {}", shape.tile);
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let outputs = pooling.map_or(&group.outputs, |pooling| &pooling.stored);
    let frame = Frame::new(lowering, &mut draft, members, outputs, Axes::apart(&group.domain))?;
    let pool = pooling.map(|pooling| Pool::new(lowering, &mut draft, pooling)).transpose()?;
    let result = lowering.graph.node(anchor).results[0];
    let target = Target { frame: &frame, result, outputs, row_axis: 1, column_axis: 2, spill: None, kept: None };
    let mut between = |channels: usize| {
        let elements = tiles.places() * shape.plane(channels);
        match block.is_own {
            true => draft.builder.scratch(elem, elements),
            false => draft.param(lowering.temporary(elements * elem.size()), elem, Direction::InOut),
        }
    };
    let (transformed, sums) = (between(channels), between(columns));
    let image = draft.param(operands.image.buffer, elem, Direction::In);
    let kernels_memory = draft.param(kernels, elem, Direction::In);
    let rooms = Rooms::new(&mut draft, &shape, elem);
    let image = (&operands.image, image);
    let body = Body { shape: &shape, image, transformed, kernels: kernels_memory, sums, rooms, pool: pool.as_ref() };
    match block.is_own {
        true => body.blocks(&mut draft, &target),
        false => body.phases(&mut draft, &target),
    }
    let all_tiles = shape.images * grid[0] * grid[1];
    let products = 2 * tiles.places() * all_tiles * channels * columns;
    match pool {
        Some(_) => lowering.append(draft, vec![], products),
        None => lowering.launch_with(draft, &frame, products, &[operands.image.buffer, kernels]),
    }
}

/// The kernels, transformed and packed: for each place of a tile the panels of a matrix (channels, output channels).
fn transform_kernels(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    weights: &Place,
    shape: &Shape,
) -> Result<BufferId, LowerError> {
    let (tiles, lanes) = (shape.tiles, shape.lanes);
    let total = tiles.places() * shape.kernel_plane();
    lowering.preparing(lowering.stage_of(value), |lowering| {
        let buffer = lowering.memory(total * weights.elem.size());
        let mut draft = KernelDraft::new("kernels");
        let from = draft.param(weights.buffer, weights.elem, Direction::In);
        let to = draft.param(buffer, weights.elem, Direction::Out);
        let [along, tap, channel] = [0, 1, 2].map(|axis| weights.layout.strides[axis]);
        let panel = shape.tile.columns() as i64;
        draft.builder.phase(shape.columns as u64 / u64::from(lanes), |b, task| {
            let column = b.mul_index(task, i64::from(lanes));
            let width = b.index(panel);
            let within = b.rem(column, width);
            let before = b.sub(column, within);
            b.for_each(shape.channels as i64, |b, at| {
                let first = b.affine(&[(column, along), (at, channel)], weights.layout.offset);
                let element = |b: &mut Builder, row: usize, place: usize| {
                    let place = b.add_index(first, (3 * row + place) as i64 * tap);
                    let stride = b.index(along);
                    b.load_strided(from, place, stride, lanes)
                };
                let target = b.affine(&[(before, shape.channels as i64), (within, 1), (at, panel)], 0);
                let write = |b: &mut Builder, row: usize, values: Vec<Value>| {
                    for (at, value) in values.into_iter().enumerate() {
                        let place = b.add_index(target, ((row * tiles.edge() + at) * shape.kernel_plane()) as i64);
                        b.store(to, place, value);
                    }
                };
                transform(b, (tiles.kernel(), 3), shape.registers, element, write);
            });
        });
        lowering.append(draft, vec![], total * 8)?;
        Ok(buffer)
    })
}

/// A transform of both sides of a square of `size` elements, in registers: for some rows of the result at a time, as
/// many as there is room for, first what columns give for them, then those rows. `write` gets each row of the result
/// and its number.
fn transform(
    b: &mut Builder,
    (parts, size): (&[Part], usize),
    registers: usize,
    element: impl Fn(&mut Builder, usize, usize) -> Value,
    mut write: impl FnMut(&mut Builder, usize, Vec<Value>),
) {
    for group in groups(parts, (registers - FREE) / size) {
        let columns: Vec<Vec<(usize, Value)>> =
            (0..size).map(|column| winograd::apply(b, group, |b, row| element(b, row, column))).collect();
        for at in 0..columns[0].len() {
            let values: Vec<Value> = columns.iter().map(|column| column[at].1).collect();
            let mut results = winograd::apply(b, parts, |_, column| values[column]);
            results.sort_by_key(|&(column, _)| column);
            write(b, columns[0][at].0, results.into_iter().map(|(_, value)| value).collect());
        }
    }
}

/// Runs of parts with so many results together at most, or one part.
fn groups(parts: &[Part], most: usize) -> Vec<&[Part]> {
    let mut groups = vec![];
    let mut rest = parts;
    while !rest.is_empty() {
        let fits = |&count: &usize| rest[..count].iter().map(Part::count).sum::<usize>() <= most;
        let (group, after) = rest.split_at((1..=rest.len()).take_while(fits).last().unwrap_or(1));
        groups.push(group);
        rest = after;
    }
    groups
}

/// Scratch memory, and how many channels go through it at a time.
struct Rooms {
    padded: Memory,
    /// Channels of the image.
    channels: Split,
    /// Output channels.
    columns: Split,
}

impl Rooms {
    fn new(draft: &mut KernelDraft, shape: &Shape, elem: Elem) -> Self {
        let (edge, lanes) = (shape.tiles.edge(), usize::from(shape.lanes));
        let width = shape.padded_width();
        let across = shape.grid()[1];
        let channels = Split::new(shape.channels, (TASK / (edge * width)).max(1), lanes);
        let padded = draft.builder.scratch(elem, edge * width * channels.grain as usize + lanes);
        let columns = Split::new(shape.columns, TASK / (across * shape.tiles.places()), lanes);
        Self { padded, channels, columns }
    }
}

struct Body<'a, 'g> {
    shape: &'a Shape,
    image: (&'a Place, Memory),
    transformed: Memory,
    kernels: Memory,
    sums: Memory,
    rooms: Rooms,
    /// Windows over the results.
    pool: Option<&'a Pool<'a, 'g>>,
}

impl Body<'_, '_> {
    /// A task has a block of tiles.
    fn blocks(&self, draft: &mut KernelDraft, target: &Target<'_, '_>) {
        let shape = self.shape;
        let Block { images, lines, .. } = shape.block;
        draft.builder.phase(shape.block.count() as u64, |b, task| {
            let at = coordinates(b, task, &[images.tasks() as usize, lines.tasks() as usize]);
            let (images, lines) = (images.bounds(b, at[0]), lines.bounds(b, at[1]));
            let each_line = |b: &mut Builder, body: &mut dyn FnMut(&mut Builder, [Value; 2], Value)| {
                let one = b.index(1);
                b.for_loop(images.0, images.1, one, &[], |b, image, _| {
                    b.for_loop(lines.0, lines.1, one, &[], |b, line, _| {
                        let within = [b.sub(image, images.0), b.sub(line, lines.0)];
                        let number = shape.number(b, within);
                        body(b, [image, line], number);
                        vec![]
                    });
                    vec![]
                });
            };
            each_line(b, &mut |b, at, number| {
                b.for_each(self.rooms.channels.tasks() as i64, |b, part| {
                    let channels = self.rooms.channels.bounds(b, part);
                    self.transform_line(b, at, number, channels);
                });
            });
            let zero = b.index(0);
            let (rows, columns) = (b.index(shape.count() as i64), b.index(shape.columns as i64));
            b.for_each(shape.tiles.places() as i64, |b, place| {
                self.multiply(b, place, Range { rows: (zero, rows), columns: (zero, columns) });
            });
            each_line(b, &mut |b, at, number| self.line_back(b, target, at, number, (zero, columns)));
        });
    }

    /// Each step is a phase: first a task has a line of tiles of an image, then some output channels of one place and
    /// some tiles, then some lines of tiles of an image and some output channels.
    fn phases(&self, draft: &mut KernelDraft, target: &Target<'_, '_>) {
        let shape = self.shape;
        let down = shape.grid()[0];
        let counts = |parts: Split| [shape.images, down, parts.tasks() as usize];
        let (first, last) = (counts(self.rooms.channels), counts(self.rooms.columns));
        draft.builder.phase(first.iter().product::<usize>() as u64, |b, task| {
            let at = coordinates(b, task, &first);
            let channels = self.rooms.channels.bounds(b, at[2]);
            let number = shape.number(b, [at[0], at[1]]);
            self.transform_line(b, [at[0], at[1]], number, channels);
        });
        let grain = |products: usize| (TASK_PRODUCTS / products.max(1)).max(1);
        let columns = Split::new(shape.columns, grain(shape.count() * shape.channels), shape.tile.columns());
        let rows = Split::new(shape.count(), grain(shape.channels * columns.grain as usize), shape.tile.rows);
        let counts = [shape.tiles.places(), columns.tasks() as usize, rows.tasks() as usize];
        draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
            let at = coordinates(b, task, &counts);
            let range = Range { columns: columns.bounds(b, at[1]), rows: rows.bounds(b, at[2]) };
            self.multiply(b, at[0], range);
        });
        draft.builder.phase(last.iter().product::<usize>() as u64, |b, task| {
            let at = coordinates(b, task, &last);
            let columns = self.rooms.columns.bounds(b, at[2]);
            let number = shape.number(b, [at[0], at[1]]);
            self.line_back(b, target, [at[0], at[1]], number, columns);
        });
    }

    /// Transforms some channels of a line of tiles of an image, the first of which has a number in its block.
    fn transform_line(&self, b: &mut Builder, at: [Value; 2], number: Value, channels: (Value, Value)) {
        let shape = self.shape;
        let (edge, step, lanes) = (shape.tiles.edge(), shape.tiles.results(), shape.lanes);
        let (width, column) = (shape.padded_width(), self.rooms.channels.grain as usize);
        let (place, _) = self.image;
        let count = b.sub(channels.1, channels.0);
        let strides = &place.layout.strides;
        let first = b.affine(&[(at[0], strides[0]), (channels.0, strides[3])], place.layout.offset);
        let lines = Lines { image: self.image, axes: shape.axes, height: edge, width, column, lanes };
        let line = b.mul_index(at[1], step as i64);
        let (zero, vector) = (b.index(0), b.index(i64::from(lanes)));
        lines.copy(b, (first, count), line, (self.rooms.padded, zero));
        b.for_each(shape.grid()[1] as i64, |b, along| {
            let tile = b.add(number, along);
            b.for_loop(zero, count, vector, &[], |b, channel, _| {
                let from = b.affine(&[(along, (step * column) as i64), (channel, 1)], 0);
                let element = |b: &mut Builder, row: usize, place: usize| {
                    let place = b.add_index(from, ((row * width + place) * column) as i64);
                    b.load(self.rooms.padded, place, lanes)
                };
                let to = b.affine(&[(tile, shape.channels as i64), (channels.0, 1), (channel, 1)], 0);
                let write = |b: &mut Builder, row: usize, values: Vec<Value>| {
                    for (at, value) in values.into_iter().enumerate() {
                        let place = b.add_index(to, ((row * edge + at) * shape.plane(shape.channels)) as i64);
                        b.store(self.transformed, place, value);
                    }
                };
                transform(b, (shape.tiles.input(), edge), shape.registers, element, write);
                vec![]
            });
        });
    }

    /// The product of some tiles by some kernels at a place of the tiles.
    fn multiply(&self, b: &mut Builder, place: Value, range: Range) {
        let shape = self.shape;
        let channels = shape.channels;
        let panel = shape.tile.columns() as i64;
        let levels = [Level { count: b.index(channels as i64), a: 1, b: panel }];
        let image = b.mul_index(place, shape.plane(channels) as i64);
        let terms = [(place, shape.kernel_plane() as i64), (range.columns.0, channels as i64)];
        let kernels = b.affine(&terms, 0);
        let sums = b.mul_index(place, shape.plane(shape.columns) as i64);
        let product = Product {
            tile: shape.tile,
            rows: shape.count(),
            columns: shape.columns,
            a: (self.transformed, RowSource::Even(image, channels as i64)),
            b: (self.kernels, kernels, channels as i64),
            gathered: None,
            lies: Lies::Packed,
            levels: &levels,
        };
        product.run(b, range, &Sink::Store(self.sums, sums, shape.columns as i64));
    }

    /// Transforms the sums of some output channels of a line of tiles back.
    fn line_back(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        [image, line]: [Value; 2],
        number: Value,
        columns: (Value, Value),
    ) {
        let shape = self.shape;
        let lanes = shape.lanes;
        let (zero, vector) = (b.index(0), b.index(i64::from(lanes)));
        b.for_loop(columns.0, columns.1, vector, &[], |b, column, _| {
            let point = Point { coordinates: vec![image, zero, column], vector: 2, lanes };
            let mut known = Known::default();
            target.frame.hoist_lanes(b, &point, &mut known, |axis| axis == target.row_axis);
            b.for_each(shape.grid()[1] as i64, |b, along| {
                let tile = b.add(number, along);
                self.tile(b, target, (&point, &known), ([line, along, tile], column));
            });
            vec![]
        });
    }

    /// The results of a tile for a vector of channels.
    fn tile(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        (point, known): (&Point, &Known),
        ([line, along, tile], column): ([Value; 3], Value),
    ) {
        let shape = self.shape;
        let (edge, results, lanes) = (shape.tiles.edge(), shape.tiles.results(), shape.lanes);
        let from = b.affine(&[(tile, shape.columns as i64), (column, 1)], 0);
        let windows = shape.axes.map(|axis| axis.windows);
        let reach = shape.grid().map(|tiles| tiles * results);
        let (top, left) = (b.mul_index(line, results as i64), b.mul_index(along, results as i64));
        let element = |b: &mut Builder, row: usize, place: usize| {
            let place = b.add_index(from, ((row * edge + place) * shape.plane(shape.columns)) as i64);
            b.load(self.sums, place, lanes)
        };
        let at = |b: &mut Builder, [down, across]: [Value; 2]| {
            (b.affine(&[(down, windows[1] as i64), (across, 1)], 0), column)
        };
        let mut all = vec![Vec::new(); results];
        let write = |b: &mut Builder, row: usize, values: Vec<Value>| {
            if !target.outputs.is_empty() {
                let down = b.add_index(top, row as i64);
                within(b, down, (windows[0], reach[0]), |b| {
                    for (place, &value) in values.iter().enumerate() {
                        let across = b.add_index(left, place as i64);
                        within(b, across, (windows[1], reach[1]), |b| {
                            let place = at(b, [down, across]);
                            target.at(b, point, place, lanes, known, value);
                        });
                    }
                });
            }
            all[row] = values;
        };
        transform(b, (shape.tiles.output(), edge), shape.registers, element, write);
        if let Some(pool) = self.pool {
            pool.tile(b, point, ((line, along), results), |b, place, [row, column]| {
                let place = at(b, place);
                target.value(b, point, place, known, (all[row][column], pool.pooling.value))
            });
        }
    }
}
