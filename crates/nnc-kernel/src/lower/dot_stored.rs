//! Products of rows by a matrix of few bits, which is read but once: what such products are bound by.
//!
//! `y[row, n] = Σ_g scale[g, n] Σ_{k in g} x[row, k] q[k, n]`: the terms of a group are added in order by fused multiply-adds,
//! from 0; the sum of each group is then multiplied by its scale and added to the whole by another. So no element is
//! multiplied by a scale, and the bits of a result depend on the shape alone.
//!
//! A tile of rows by vectors of columns has two sets of sums in registers, of the group and of the whole. A task owns some
//! panels of columns and some rows; panels are outermost, so that each is read from memory once. [`super::stored_panels`] has
//! how they lie there.

use super::anchor::stored;
use super::evaluate::Point;
use super::frame::{Axes, Frame};
use super::loops::{Split, coordinates};
use super::memory::{KernelDraft, Place};
use super::product::{Target, in_tiles};
use super::stored_panels::{self, Reader};
use super::tile::{self, Tile};
use super::words::Factors;
use super::{LowerError, Lowering};
use crate::ir::{self, Builder, Direction, Elem, Memory, Value};
use nnc_graph::{NodeId, Stored};
use nnc_opt::fuse::Group;

/// Multiply-adds of a task that is worth waking a thread for.
const TASK_PRODUCTS: usize = 1 << 17;
/// The most tasks that panels are cut into: each reads long runs of memory.
const MOST_PANEL_TASKS: usize = 8;
/// The most tasks.
const MOST_TASKS: usize = 32;
/// Multiply-adds that are laid out in line, about.
const UNROLLED: usize = 64;
/// Half cycles from a multiply-add to the next that takes its result.
const LATENCY: usize = 8;
/// Half cycles to make floats of an element, about.
const DECODE: usize = 3;

/// Lowers a product with its epilogue.
///
/// # Errors
/// A bug in the compiler.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group, anchor: NodeId, form: Stored) -> Result<(), LowerError> {
    let node = lowering.graph.node(anchor);
    let dims = lowering.graph.ty(node.operands[0]).shape.sizes();
    let columns = lowering.graph.ty(node.results[0]).shape.sizes()[dims.len() - 1];
    let (rows, depth) = (dims[..dims.len() - 1].iter().product(), dims[dims.len() - 1]);
    let x = stored(lowering, node.operands[0], &[rows, depth])?;
    let tile = choose(rows, columns, lowering.target);
    let packed = stored_panels::pack(lowering, form, &node.operands[1..], (depth, columns), tile)?;
    let mut draft = KernelDraft::new("dot_stored");
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let spill = Some(draft.builder.scratch(Elem::F32, tile.rows * tile.columns()));
    let target =
        Target { frame: &frame, result: node.results[0], outputs: &group.outputs, row_axis: 0, column_axis: 1, spill };
    let body = Body {
        form,
        shape: Shape { rows, columns, depth },
        tile,
        x: (draft.param(x.buffer, Elem::F32, Direction::In), x),
        matrix: draft.param(packed.matrix, stored_panels::elem(form), Direction::In),
        scales: packed.scales.map(|scales| draft.param(scales, Elem::F32, Direction::In)),
    };
    body.phase(&mut draft, &target);
    let fixed: Vec<_> = [body.x.1.buffer, packed.matrix].into_iter().chain(packed.scales).collect();
    lowering.launch_with(draft, &frame, 2 * rows * columns * depth, &fixed)
}

/// The tile for so many rows and columns: of those whose two sets of sums fit into the registers with what a step needs, the
/// one with the least [`cost`]; the first of equals.
fn choose(rows: usize, columns: usize, target: ir::Target) -> Tile {
    let (lanes, registers) = (target.f32_lanes, target.registers());
    let most_vectors = columns.div_ceil(usize::from(lanes)).max(1);
    let mut best = Tile { rows: 1, vectors: 1, lanes, last: lanes, factors: Factors::One };
    let mut least = usize::MAX;
    for vectors in 1..=most_vectors.min(8) {
        for high in 1..=rows.clamp(1, 8) {
            if 2 * high * vectors + vectors + 3 > registers {
                continue;
            }
            let tile = Tile { rows: high, vectors, ..best };
            let cost = cost(tile, rows, columns);
            if cost < least {
                (least, best) = (cost, tile);
            }
        }
    }
    best
}

/// Half cycles of a step of k over the whole product, on one, two and four threads that share its panels or its rows.
fn cost(tile: Tile, rows: usize, columns: usize) -> usize {
    let step = (tile.rows * tile.vectors + DECODE * tile.vectors).max(LATENCY) + 1;
    let (tiles, panels) = (rows.div_ceil(tile.rows), columns.div_ceil(tile.columns()));
    let on =
        |threads: usize| (threads * (tiles * panels.div_ceil(threads)).min(panels * tiles.div_ceil(threads))) * step;
    on(1) + 2 * on(2) + on(4)
}

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    depth: usize,
}

struct Body {
    form: Stored,
    shape: Shape,
    tile: Tile,
    x: (Memory, Place),
    matrix: Memory,
    scales: Option<Memory>,
}

/// Where a tile is: its first row and column.
type Corner = (Value, Value);

impl Body {
    /// Terms that share a scale; all of them where there are none.
    fn group(&self) -> usize {
        self.form.group().unwrap_or(self.shape.depth)
    }

    /// How rows and columns are cut into tasks.
    fn tasks(&self) -> (Split, Split) {
        let Shape { rows, columns, depth } = self.shape;
        let panels = columns.div_ceil(self.tile.columns());
        let wanted = (rows * columns * depth / TASK_PRODUCTS).clamp(1, MOST_TASKS);
        let panel_tasks = wanted.min(MOST_PANEL_TASKS).min(panels);
        let grain = panels.div_ceil(panel_tasks) * self.tile.columns();
        let tiles = rows.div_ceil(self.tile.rows);
        let row_tasks = (wanted / panel_tasks).clamp(1, tiles);
        let row_grain = tiles.div_ceil(row_tasks) * self.tile.rows;
        (Split::new(rows, row_grain, self.tile.rows), Split::new(columns, grain, self.tile.columns()))
    }

    fn phase(&self, draft: &mut KernelDraft, target: &Target<'_, '_>) {
        let (rows, columns) = self.tasks();
        draft.how = format!("{} of {}, {} rows x {} columns a task", self.tile, self.form, rows.grain, columns.grain);
        let counts = [rows.tasks() as usize, columns.tasks() as usize];
        draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
            let at = coordinates(b, task, &counts);
            let reader = Reader::new(b, self.form, self.tile.lanes);
            let (rows, columns) = (rows.bounds(b, at[0]), columns.bounds(b, at[1]));
            self.panels(b, (target, &reader), rows, columns);
        });
    }

    /// Panel by panel, the last one with the columns that are left, and of each a tile's rows at a time.
    fn panels(&self, b: &mut Builder, with: (&Target<'_, '_>, &Reader), rows: (Value, Value), columns: (Value, Value)) {
        in_tiles(b, columns, (self.shape.columns, self.tile.columns()), |b, column, width| {
            let vectors = width.div_ceil(usize::from(self.tile.lanes));
            in_tiles(b, rows, (self.shape.rows, self.tile.rows), |b, row, rows| {
                let tile = Tile { rows, vectors, ..self.tile };
                self.tile(b, with, tile, (row, column), width);
            });
        });
    }

    fn tile(
        &self,
        b: &mut Builder,
        (target, reader): (&Target<'_, '_>, &Reader),
        tile: Tile,
        corner: Corner,
        width: usize,
    ) {
        let zeros = tile::zeros(b, tile, self.x.0);
        let zero = b.index(0);
        let sums = match self.scales {
            None => self.group_sums(b, reader, tile, corner, zero),
            Some(scales) => {
                let (one, groups) = (b.index(1), b.index((self.shape.depth / self.group()) as i64));
                b.for_loop(zero, groups, one, &zeros, |b, group, sums| {
                    let parts = self.group_sums(b, reader, tile, corner, group);
                    let scales = self.scales_of(b, scales, tile, (group, corner.1));
                    let added = parts.into_iter().zip(sums).enumerate();
                    added.map(|(at, (part, &sum))| b.fma(part, scales[at % tile.vectors], sum)).collect()
                })
            }
        };
        let zero = b.index(0);
        let point = Point { coordinates: vec![zero, zero], vector: 1, lanes: 1 };
        target.finish(b, tile, &point, corner, width, &sums);
    }

    /// The scales of a group, for each vector of a tile's columns.
    fn scales_of(&self, b: &mut Builder, scales: Memory, tile: Tile, (group, column): (Value, Value)) -> Vec<Value> {
        let groups = (self.shape.depth / self.group()) as i64;
        let first = b.affine(&[(column, groups), (group, self.tile.columns() as i64)], 0);
        let vectors = (0..tile.vectors).map(|vector| {
            let place = b.add_index(first, (vector * usize::from(tile.lanes)) as i64);
            b.load(scales, place, tile.lanes)
        });
        vectors.collect()
    }

    /// The sums of a group, by its number.
    fn group_sums(&self, b: &mut Builder, reader: &Reader, tile: Tile, corner: Corner, group: Value) -> Vec<Value> {
        let terms = stored_panels::terms(self.form);
        let steps = self.group() / terms;
        let layout = &self.x.1.layout;
        let [down, along] = [layout.strides[0], layout.strides[1]];
        let rows = b.affine(&[(corner.0, down), (group, self.group() as i64 * along)], layout.offset);
        let lines = self.shape.depth / terms;
        let panel = b.mul_index(corner.1, lines as i64);
        let width = self.tile.columns() as i64;
        let zeros = tile::zeros(b, tile, self.x.0);
        let (zero, many) = (b.index(0), unroll(steps, tile.rows * tile.vectors * terms));
        let (end, step) = (b.index(steps as i64), b.index(many as i64));
        let first = b.mul_index(group, steps as i64);
        b.for_loop(zero, end, step, &zeros, |b, at, sums| {
            let line = b.add(first, at);
            let place = b.affine(&[(panel, 1), (line, width)], 0);
            let rows = b.affine(&[(rows, 1), (at, along * terms as i64)], 0);
            (0..many).fold(sums.to_vec(), |sums, round| {
                let place = b.add_index(place, round as i64 * width);
                let rows = b.add_index(rows, (round * terms) as i64 * along);
                self.step(b, reader, tile, (rows, place), sums)
            })
        })
    }

    /// The terms of one line of a panel.
    fn step(
        &self,
        b: &mut Builder,
        reader: &Reader,
        tile: Tile,
        (rows, place): (Value, Value),
        mut sums: Vec<Value>,
    ) -> Vec<Value> {
        let layout = &self.x.1.layout;
        let elements: Vec<Value> = (0..tile.vectors)
            .map(|vector| {
                let place = b.add_index(place, (vector * usize::from(tile.lanes)) as i64);
                reader.load(b, self.matrix, place)
            })
            .collect();
        for term in 0..stored_panels::terms(self.form) {
            let factors: Vec<Value> = elements.iter().map(|&elements| reader.floats(b, elements, term)).collect();
            for row in 0..tile.rows {
                let place = b.add_index(rows, row as i64 * layout.strides[0] + term as i64 * layout.strides[1]);
                let x = b.load_splat(self.x.0, place, tile.lanes);
                for (vector, &factor) in factors.iter().enumerate() {
                    let sum = &mut sums[row * tile.vectors + vector];
                    *sum = b.fma(x, factor, *sum);
                }
            }
        }
        sums
    }
}

/// How many of so many steps are laid out in line: a divisor, each step of so many multiply-adds.
fn unroll(steps: usize, products: usize) -> usize {
    let most = (UNROLLED / products.max(1)).clamp(1, 8);
    (1..=most).rev().find(|by| steps.is_multiple_of(*by)).unwrap_or(1)
}
