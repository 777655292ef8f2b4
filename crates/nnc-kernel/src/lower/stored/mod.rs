//! Products of rows by a matrix of few bits, which is read but once: what such products are bound by.
//!
//! Of brain floats `y[row, n] = Σ_k x[row, k] w[k, n]`, whose terms are added in order by fused multiply-adds
//! ([`floats`](mod@floats)). Of integers `y[row, n] = Σ_g scale[g, n] Σ_{k in g} x[row, k] q[k, n]`, where `x` is
//! rounded to `2^-20`, beside int4 to `2^-14`, of the largest of its group and products are exact ([`digits`],
//! [`integers`]). Which of them follows from the form, and the order of sums from the shape, so the bits of a result
//! are those of every machine.
//!
//! A tile of rows by vectors of columns has its sums in registers. A task owns some panels of columns and some rows;
//! panels are outermost, so that each is read from memory once. [`panels`] has how they lie there.

pub mod digits;
pub mod floats;
pub mod integers;
pub mod panels;

use crate::ir::{self, Builder, Direction, Elem, Value};
use crate::lower::anchor::stored;
use crate::lower::evaluate::Point;
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{Split, coordinates};
use crate::lower::matmul::product::{Target, in_tiles};
use crate::lower::matmul::tile::Tile;
use crate::lower::matmul::words::Factors;
use crate::lower::memory::{BufferId, KernelDraft};
use crate::lower::{LowerError, Lowering};
use digits::{Cut, Rows};
use floats::Floats;
use integers::Digits;
use nnc_graph::stored::NIBBLES;
use nnc_graph::{NodeId, Stored, ValueId};
use nnc_opt::fuse::Group;
use panels::Reader;

/// Multiply-adds of a task that is worth waking a thread for.
const TASK_PRODUCTS: usize = 1 << 17;
/// The most tasks that panels are cut into: each reads long runs of memory.
const MOST_PANEL_TASKS: usize = 8;
/// Rows of a task that is worth reading its panels again.
const TASK_ROWS: usize = 8;
/// The most tasks.
const MOST_TASKS: usize = 32;
/// Multiply-adds that are laid out in line, about.
const UNROLLED: usize = 64;
/// Half cycles from a multiply-add to the next that takes its result.
const LATENCY: usize = 8;
/// The most terms whose products by a digit are added: the sum fits 32 bits, whatever they are.
const MOST_TERMS: usize = 1 << 17;

/// Where a tile is: its first row and column.
pub type Corner = (Value, Value);

/// Lowers a product with its epilogue.
///
/// # Errors
/// A bug in the compiler.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group, anchor: NodeId, form: Stored) -> Result<(), LowerError> {
    let node = lowering.graph.node(anchor);
    let dims = lowering.graph.ty(node.operands[0]).shape.sizes();
    let columns = lowering.graph.ty(node.results[0]).shape.sizes()[dims.len() - 1];
    let shape = Shape { rows: dims[..dims.len() - 1].iter().product(), columns, depth: dims[dims.len() - 1] };
    let tile = choose(form, shape, lowering.target);
    let mut draft = KernelDraft::new("dot_stored");
    let (terms, fixed) = operands(lowering, &mut draft, (form, &node.operands), shape, tile)?;
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let spill = Some(draft.builder.scratch(Elem::F32, tile.rows * tile.columns()));
    let target = Target {
        frame: &frame,
        result: node.results[0],
        outputs: &group.outputs,
        row_axis: 0,
        column_axis: 1,
        spill,
        kept: None,
    };
    Body { form, shape, tile, terms }.phase(&mut draft, &target);
    lowering.launch_with(draft, &frame, 2 * shape.rows * shape.columns * shape.depth, &fixed)
}

/// Packs a matrix and prepares the rows for it; gives what is multiplied, and the buffers that it is read from.
fn operands(
    lowering: &mut Lowering<'_>,
    draft: &mut KernelDraft,
    (form, operands): (Stored, &[ValueId]),
    shape: Shape,
    tile: Tile,
) -> Result<(Terms, Vec<BufferId>), LowerError> {
    let (reader, group) = match form {
        Stored::Bf16 => return floats(lowering, draft, operands, shape, tile),
        Stored::Bytes { group } => (Reader::Bytes, part_of(group, 1)),
        Stored::Nibbles { group } => (Reader::Nibbles, part_of(group, NIBBLES)),
    };
    let layout = digits::Layout { rows: shape.rows, groups: shape.depth / group, group, cut: reader.cut() };
    let scaled = form.group().map_or(1, |terms| terms / group);
    let matrix = panels::words(lowering, operands[1], reader, (layout, shape.columns), tile)?;
    let scales = (layout.groups / scaled, shape.columns);
    let scales = panels::as_it_is(lowering, operands[2], scales, tile)?;
    let digits = Digits {
        rows: Rows::of(lowering, draft, operands[0], layout, reader.zero())?,
        matrix: draft.param(matrix, Elem::I32, Direction::In),
        reader,
        scales: draft.param(scales, Elem::F32, Direction::In),
        scaled,
        width: tile.columns(),
    };
    Ok((Terms::Digits(digits), vec![matrix, scales]))
}

/// As [`operands`], of brain floats.
fn floats(
    lowering: &mut Lowering<'_>,
    draft: &mut KernelDraft,
    operands: &[ValueId],
    shape: Shape,
    tile: Tile,
) -> Result<(Terms, Vec<BufferId>), LowerError> {
    let x = stored(lowering, operands[0], &[shape.rows, shape.depth])?;
    let matrix = panels::as_it_is(lowering, operands[1], (shape.depth, shape.columns), tile)?;
    let fixed = vec![x.buffer, matrix];
    let floats = Floats {
        x: (draft.param(x.buffer, Elem::F32, Direction::In), x),
        matrix: draft.param(matrix, Elem::Bf16, Direction::In),
        depth: shape.depth,
        width: tile.columns(),
    };
    Ok((Terms::Floats(floats), fixed))
}

/// The largest part of a group that sums hold, a multiple of `unit` terms.
fn part_of(group: usize, unit: usize) -> usize {
    let parts = group.div_ceil(MOST_TERMS)..=group / unit;
    parts
        .map(|parts| group / parts)
        .find(|part| group.is_multiple_of(*part) && part.is_multiple_of(unit))
        .unwrap_or(unit)
}

/// The tile for a product: of those whose sums fit into the registers with what a step needs, the one with the least
/// [`cost`]; the first of equals.
fn choose(form: Stored, shape: Shape, target: ir::Target) -> Tile {
    let lanes = target.f32_lanes;
    let most_vectors = shape.columns.div_ceil(usize::from(lanes)).max(1);
    let mut best = Tile { rows: 1, vectors: 1, lanes, last: lanes, factors: Factors::One };
    let mut least = usize::MAX;
    for vectors in 1..=most_vectors.min(8) {
        for rows in 1..=shape.rows.clamp(1, 8) {
            let tile = Tile { rows, vectors, ..best };
            if registers(form, tile) > target.registers() {
                continue;
            }
            let cost = cost(form, tile, shape);
            if cost < least {
                (least, best) = (cost, tile);
            }
        }
    }
    best
}

/// Registers that a step needs: of sums, of vectors of the matrix as they are stored and read, of rows, and of what is
/// made on the way.
fn registers(form: Stored, tile: Tile) -> usize {
    let sums = tile.rows * tile.vectors;
    match form {
        Stored::Bf16 => sums + tile.vectors + 3,
        Stored::Bytes { .. } => (Cut::FOR_BYTES.digits + 1) * sums + tile.vectors + 2,
        Stored::Nibbles { .. } => (Cut::FOR_NIBBLES.digits + 1) * sums + 2 * tile.vectors + 2,
    }
}

/// Half cycles of a step of a tile: a line of its panel.
fn step(form: Stored, tile: Tile) -> usize {
    let sums = tile.rows * tile.vectors;
    match form {
        Stored::Bf16 => sums + 3 * tile.vectors,
        Stored::Bytes { .. } => Cut::FOR_BYTES.digits * sums,
        Stored::Nibbles { .. } => 2 * Cut::FOR_NIBBLES.digits * sums + 3 * tile.vectors,
    }
}

/// Half cycles of a step over the whole product, on one, two and four threads that share its panels or its rows.
fn cost(form: Stored, tile: Tile, shape: Shape) -> usize {
    let step = step(form, tile).max(LATENCY) + 1;
    let (tiles, panels) = (shape.rows.div_ceil(tile.rows), shape.columns.div_ceil(tile.columns()));
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

/// What is multiplied.
enum Terms {
    Floats(Floats),
    Digits(Digits),
}

impl Terms {
    /// The sums of a tile.
    fn sums(&self, b: &mut Builder, tile: Tile, corner: Corner) -> Vec<Value> {
        match self {
            Self::Floats(floats) => floats.sums(b, tile, corner),
            Self::Digits(digits) => digits.sums(b, tile, corner),
        }
    }

    /// In words.
    fn how(&self) -> &'static str {
        match self {
            Self::Floats(_) => "",
            Self::Digits(_) => " by digits",
        }
    }
}

struct Body {
    form: Stored,
    shape: Shape,
    tile: Tile,
    terms: Terms,
}

impl Body {
    /// How rows and columns are cut into tasks.
    fn tasks(&self) -> (Split, Split) {
        let Shape { rows, columns, depth } = self.shape;
        let panels = columns.div_ceil(self.tile.columns());
        let wanted = (rows * columns * depth / TASK_PRODUCTS).clamp(1, MOST_TASKS);
        let panel_tasks = wanted.min(MOST_PANEL_TASKS).min(panels);
        let grain = panels.div_ceil(panel_tasks) * self.tile.columns();
        let tiles = rows.div_ceil(self.tile.rows);
        let row_tasks = (wanted / panel_tasks).min(rows / TASK_ROWS).clamp(1, tiles);
        let row_grain = tiles.div_ceil(row_tasks) * self.tile.rows;
        (Split::new(rows, row_grain, self.tile.rows), Split::new(columns, grain, self.tile.columns()))
    }

    fn phase(&self, draft: &mut KernelDraft, target: &Target<'_, '_>) {
        let (rows, columns) = self.tasks();
        let (tile, form, how) = (self.tile, self.form, self.terms.how());
        draft.how = format!("{tile} of {form}{how}, {} rows x {} columns a task", rows.grain, columns.grain);
        let counts = [rows.tasks() as usize, columns.tasks() as usize];
        draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
            let at = coordinates(b, task, &counts);
            let (rows, columns) = (rows.bounds(b, at[0]), columns.bounds(b, at[1]));
            self.panels(b, target, rows, columns);
        });
    }

    /// Panel by panel, the last one with the columns that are left, and of each a tile's rows at a time.
    fn panels(&self, b: &mut Builder, target: &Target<'_, '_>, rows: (Value, Value), columns: (Value, Value)) {
        in_tiles(b, columns, (self.shape.columns, self.tile.columns()), |b, column, width| {
            let vectors = width.div_ceil(usize::from(self.tile.lanes));
            in_tiles(b, rows, (self.shape.rows, self.tile.rows), |b, row, rows| {
                let tile = Tile { rows, vectors, ..self.tile };
                let sums = self.terms.sums(b, tile, (row, column));
                let zero = b.index(0);
                let point = Point { coordinates: vec![zero, zero], vector: 1, lanes: 1 };
                target.finish(b, tile, &point, (row, column), width, &sums);
            });
        });
    }
}

/// How many of so many steps are laid out in line: a divisor, each step of so many multiply-adds.
pub fn unroll(steps: usize, products: usize) -> usize {
    let most = (UNROLLED / products.max(1)).clamp(1, 8);
    (1..=most).rev().find(|by| steps.is_multiple_of(*by)).unwrap_or(1)
}
