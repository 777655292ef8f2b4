//! Operands of a product, and how it is cut: register tile, blocks for the caches, tasks.
//!
//! All of it follows from the shapes and the target; nothing from the number of threads.

use super::product::{Gather, Lies};
use super::tasks::{FEW_ROWS, Work};
use super::tile::{self, Tile};
use super::words::Factors;
use crate::ir::{Elem, Memory, Target};
use crate::lower::Lowering;
use crate::lower::conv::blocks::common_divisor;
use crate::lower::conv::windows::{Unit, Windows};
use crate::lower::loops::Split;
use crate::lower::memory::BufferId;
use crate::lower::tuning::{self, Alternatives};
use nnc_opt::fuse::Layout;
use std::fmt;

/// Elements of a packed block of B, about: half of the second cache.
pub const PACKED: usize = 64 << 10;
/// The most terms of a packed block: enough to add without leaving the registers, and so few that a task has the
/// columns that a tile's rows of A, brought together once, are worth.
const SLAB: usize = 256;
/// The most elements of a panel of B with all terms, for which they are added without leaving the registers.
const WHOLE: usize = PACKED + PACKED / 4;
/// The fewest rows that read such a panel.
const WHOLE_ROWS: usize = 64;
/// Multiply-adds of a task that is worth waking a thread for.
const TASK_PRODUCTS: usize = 1 << 20;
/// As [`TASK_PRODUCTS`], of a task without which a thread would have nothing to do.
const FIRST_PRODUCTS: usize = 1 << 18;
/// The most tasks of those.
const FIRST_TASKS: usize = 4;
/// As [`TASK_PRODUCTS`], of products that read B but once.
const STREAMED_PRODUCTS: usize = 1 << 16;
/// The most tasks of those: each reads long runs of memory.
const STREAMED_TASKS: usize = 16;
/// Bytes that stay in the first cache beside the rows of A of a tile.
const NEAR: usize = 1 << 14;
/// Elements of a B that comes from memory; for so few rows of A it is read row by row, not along the columns of a tile.
pub const STREAMED: usize = 1 << 19;
/// Few rows of A.
const STREAMED_ROWS: usize = 4;
/// Rows of B that are read side by side.
const STREAMED_DEPTH: usize = 16;
/// The most tasks that a product is cut into for the sake of threads.
const TASKS: usize = 32;
/// Rows so many bytes apart, or a multiple of that, share the lines of the first cache.
pub const SHARED_LINES: usize = 4096;
/// So many that share lines stay in it, beside a panel of B: its ways but one.
const WAYS: usize = 7;
/// The most rows whose sums wait in memory for the next block of k.
const WAITING_ROWS: usize = 256;

/// An operand: its buffer, and its elements as `[batch..., free, contracted]` by strides.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Where it lies.
    pub buffer: BufferId,
    /// The memory of its parameter.
    pub memory: Memory,
    /// Its elements.
    pub layout: Layout,
}

/// The right operand.
#[derive(Clone, Debug)]
pub enum Right {
    /// A matrix by strides.
    Strided(Operand),
    /// The windows of an image: k runs over channels and taps.
    Windows(Windows),
}

/// What is multiplied: rows of C are those of `left`, columns those of `right`.
pub struct Operands {
    /// A.
    pub left: Operand,
    /// B.
    pub right: Right,
    /// How many of the axes are batch axes.
    pub batch: usize,
    /// Whether the result has the columns before the rows.
    pub flip: bool,
    /// Type of the elements.
    pub elem: Elem,
}

impl Operands {
    /// Rows and columns of C.
    fn size(&self) -> (usize, usize) {
        (self.left.layout.dims[self.batch], self.right.columns(self.batch))
    }

    /// A tile, no wider than it must be where columns lie by strides.
    fn narrowed(&self, tile: Tile, target: Target) -> Tile {
        match &self.right {
            Right::Strided(_) => tile.narrowed(self.size().1, target),
            Right::Windows(_) => tile,
        }
    }

    /// The parts that k is cut into, by the shape alone.
    fn parts(&self) -> Split {
        let (rows, columns) = self.size();
        let (batch, depth) = (&self.left.layout.dims[..self.batch], self.left.layout.dims[self.batch + 1]);
        match &self.right {
            Right::Strided(_) => parts(batch.iter().product::<usize>() * rows * columns, depth),
            Right::Windows(_) => Split::new(depth, depth, 1),
        }
    }

    /// Whether a tile adds all terms of a part at a time, though they are many: a panel of B and the rows of A, which
    /// are read where they lie, stay in the caches meanwhile. Sums then need not wait in memory, so that a task may have
    /// as many rows as there are, and columns are packed less often.
    fn adds_all(&self, tile: &Tile) -> bool {
        let (strides, part) = (&self.left.layout.strides[self.batch..], self.parts().grain as usize);
        let apart = strides[0].unsigned_abs() as usize * self.elem.size();
        matches!(self.right, Right::Strided(_))
            && strides[1] == 1
            && part > SLAB
            && part * tile.columns() <= WHOLE
            && self.size().0 >= WHOLE_ROWS
            && tile.rows <= tile::most_rows(apart)
    }

    /// All that choices depend on, in words.
    fn key(&self, target: Target) -> String {
        let right = match &self.right {
            Right::Strided(right) => format!("{:?}", right.layout),
            Right::Windows(windows) => format!("windows {:?} of {:?}", windows.axes, windows.layout),
        };
        let (elem, lanes, left) = (self.elem, target.f32_lanes, &self.left.layout);
        format!("dot of {elem}, {lanes} lanes, {} batch axes, flipped {}: {left:?} by {right}", self.batch, self.flip)
    }
}

impl Right {
    /// Its buffer.
    pub fn buffer(&self) -> BufferId {
        match self {
            Self::Strided(operand) => operand.buffer,
            Self::Windows(windows) => windows.buffer,
        }
    }

    /// The memory of its parameter.
    pub fn memory(&self) -> Memory {
        match self {
            Self::Strided(operand) => operand.memory,
            Self::Windows(windows) => windows.memory,
        }
    }

    /// Columns of C; `axis` is the axis of free elements.
    pub fn columns(&self, axis: usize) -> usize {
        match self {
            Self::Strided(operand) => operand.layout.dims[axis],
            Self::Windows(windows) => windows.columns(),
        }
    }

    /// Whether a tile may read B where it is: all of its vectors are full, or the machine masks moves.
    pub fn is_side_by_side(&self, axis: usize, tile: &Tile, target: Target) -> bool {
        match self {
            Self::Strided(operand) => {
                let rest = operand.layout.dims[axis] % tile.columns();
                let is_full = rest == 0 || tile.part(rest).columns() == rest;
                operand.layout.strides[axis] == 1 && (is_full || target.has_masked_moves())
            }
            Self::Windows(_) => false,
        }
    }

    /// Whether B is one panel, all of which stays in the first cache where it lies, however many rows it is read for.
    fn is_near(&self, axis: usize, tile: &Tile, elem: Elem) -> bool {
        match self {
            Self::Strided(operand) => {
                let (columns, depth) = (operand.layout.dims[axis], operand.layout.dims[axis + 1]);
                let apart = operand.layout.strides[axis + 1].unsigned_abs() as usize;
                columns <= tile.columns() && depth * apart * elem.size() <= NEAR
            }
            Self::Windows(_) => false,
        }
    }

    /// Columns and terms that are packed together.
    pub fn units(&self, tile: &Tile) -> (usize, usize) {
        match self {
            Self::Strided(_) => (tile.columns(), 1),
            Self::Windows(windows) => (Unit::new(windows.axes, tile).columns(tile), windows.taps()),
        }
    }
}

/// Sizes of a product and of its blocks.
pub struct Shape {
    /// Products.
    pub batch: usize,
    /// Rows of C.
    pub rows: usize,
    /// Columns of C.
    pub columns: usize,
    /// Terms of a sum.
    pub depth: usize,
    /// The register tile.
    pub tile: Tile,
    /// Columns that are packed together, a multiple of the tile's.
    pub unit: usize,
    /// Rows of a task.
    pub row_blocks: Split,
    /// Columns of a task.
    pub column_blocks: Split,
    /// How k is cut into parts, by the shape alone.
    pub parts: Split,
    /// Terms of a packed block.
    pub slab: usize,
    /// Terms that a tile adds at a time.
    pub block_depth: usize,
    /// How B lies when it is multiplied.
    pub lies: Lies,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, columns) = (self.row_blocks.grain, self.column_blocks.grain);
        let packed = match (self.lies, self.shares_packed()) {
            (Lies::InPlace, _) => "read in place",
            (Lies::FarAway, _) => "read in place, the next columns asked for",
            (Lies::Packed, true) => "packed by all",
            (Lies::Packed, false) => "packed by each",
        };
        write!(f, "{}, {rows} rows x {columns} columns a task, {} terms at a time, {packed}", self.tile, self.slab)
    }
}

impl Shape {
    /// The shape of a product, and its blocks for the machine that `lowering` is for. Where that has a tuning it is the
    /// one that is named there, and what it was chosen from is told, too.
    pub fn new(lowering: &Lowering<'_>, operands: &Operands) -> (Self, Option<Alternatives>) {
        let Some(tuning) = lowering.tuning else {
            let (shape, work) = Self::uncut(operands, Self::tile(lowering, operands), lowering.target);
            return (shape.cut(work.ranked()[0]), None);
        };
        let tiles = Self::tiles(lowering, operands);
        let ranked = tuning::ranked(&tiles, |tile| Self::uncut(operands, tile, lowering.target).1.ranked());
        let found = tuning.take(operands.key(lowering.target), ranked);
        let choice = found.ranked[found.taken];
        let tile = tiles.iter().find(|tile| choice.is_of(tile)).copied().unwrap_or(tiles[0]);
        (Self::uncut(operands, tile, lowering.target).0.cut((choice.rows, choice.columns)), Some(found))
    }

    /// The register tile of least cost, of those that add all terms at a time if one does.
    fn tile(lowering: &Lowering<'_>, operands: &Operands) -> Tile {
        let (rows, columns) = operands.size();
        let (elements, target) = ((lowering.lanes_of(operands.elem), Factors::One), lowering.target);
        let adds_all = |tile: &Tile| operands.adds_all(tile);
        let ranked = || Tile::ranked_among(rows, columns, elements, (target, &|_| true)).into_iter();
        let has_many_terms = operands.parts().grain as usize > SLAB;
        let whole = has_many_terms.then(|| ranked().map(|(tile, _)| tile).find(adds_all)).flatten();
        operands.narrowed(whole.unwrap_or_else(|| Tile::choose_for(rows, columns, elements, target)), target)
    }

    /// The register tiles of least cost, that of [`Self::tile`] first.
    fn tiles(lowering: &Lowering<'_>, operands: &Operands) -> Vec<Tile> {
        let (rows, columns) = operands.size();
        let elements = (lowering.lanes_of(operands.elem), Factors::One);
        let ranked = Tile::ranked_among(rows, columns, elements, (lowering.target, &|_| true));
        tuning::distinct(ranked.into_iter().map(|(tile, _)| operands.narrowed(tile, lowering.target)))
    }

    /// The shape with a tile, in one task, and what tasks are chosen by.
    fn uncut(operands: &Operands, tile: Tile, target: Target) -> (Self, Work) {
        let axis = operands.batch;
        let left = &operands.left.layout;
        let batch: usize = left.dims[..axis].iter().product();
        let (rows, columns) = operands.size();
        let depth = left.dims[axis + 1];
        let few = rows <= 2 * tile.rows || operands.right.is_near(axis, &tile, operands.elem);
        let direct = few && operands.right.is_side_by_side(axis, &tile, target);
        let (unit, step) = operands.right.units(&tile);
        let parts = operands.parts();
        let part = parts.grain as usize;
        let slab = match direct || operands.adds_all(&tile) {
            true => part,
            false => part.div_ceil(part.div_ceil(SLAB)).next_multiple_of(step).min(part),
        };
        let streams = direct && rows <= STREAMED_ROWS && depth * columns >= STREAMED;
        let lies = match (direct, streams) {
            (false, _) => Lies::Packed,
            (true, false) => Lies::InPlace,
            (true, true) => Lies::FarAway,
        };
        let block_depth = if streams { STREAMED_DEPTH.min(part) } else { slab };
        let products = batch * rows * columns * depth;
        let wanted = match direct {
            true => (products / STREAMED_PRODUCTS).min(STREAMED_TASKS),
            false => (products / FIRST_PRODUCTS).min(FIRST_TASKS).max((products / TASK_PRODUCTS).min(TASKS)),
        };
        let work = Work {
            others: batch * parts.tasks() as usize,
            units: columns.div_ceil(unit).max(1),
            panels: columns.min(unit).div_ceil(tile.columns()).max(1),
            tiles: rows.div_ceil(tile.rows).max(1),
            least_cuts: if slab < part { rows.div_ceil(WAITING_ROWS) } else { 1 },
            most_units: if direct { usize::MAX } else { (PACKED / slab.max(1) / unit).max(1) },
            packs: !direct,
            tile,
            wanted: wanted.max(1),
        };
        let (row_blocks, column_blocks) = (Split::new(rows, rows, tile.rows), Split::new(columns, columns, unit));
        let shape =
            Self { batch, rows, columns, depth, tile, unit, row_blocks, column_blocks, parts, slab, block_depth, lies };
        (shape, work)
    }

    /// The same with so many tiles of rows and units of columns in a task.
    fn cut(self, (tiles, units): (usize, usize)) -> Self {
        let column_blocks = Split::new(self.columns, units * self.unit, self.unit);
        let row_blocks = Split::new(self.rows, tiles * self.tile.rows, self.tile.rows);
        Self { row_blocks, column_blocks, ..self }
    }

    /// Elements between rows of sums: a cache line more than needed, so that a power of two does not map every row to
    /// the same lines of the cache.
    pub fn stride(&self) -> usize {
        self.block_columns() + 16
    }

    /// Columns of a task, whole panels.
    pub fn block_columns(&self) -> usize {
        (self.column_blocks.grain as usize).next_multiple_of(self.unit)
    }

    /// Rows of windows that are packed together at most, if columns are windows.
    pub fn block_lines(&self, operands: &Operands) -> usize {
        let Right::Windows(windows) = &operands.right else { return 0 };
        let unit = Unit::new(windows.axes, &self.tile);
        let columns = if self.shares_packed() { self.packed_columns() } else { self.block_columns() };
        columns / self.unit * unit.lines
    }

    /// How a tile's rows of A are brought together, if the columns of a task are worth it.
    pub fn gather(&self, operands: &Operands) -> Option<Gather> {
        let strides = &operands.left.layout.strides[operands.batch..];
        let (row, term) = (strides[0], strides[1]);
        if row == 1 && term != 1 {
            return (self.columns >= 8 * self.tile.columns()).then_some(Gather::Turned);
        }
        let stride = self.block_depth.next_multiple_of(16) as i64 + 16;
        let sets = SHARED_LINES / common_divisor(row.unsigned_abs() as usize * operands.elem.size(), SHARED_LINES);
        let is_crowded = self.tile.rows > WAYS * sets;
        (term == 1 && row >= stride && self.rows > self.tile.rows && is_crowded).then_some(Gather::Lines(stride))
    }

    /// Whether B is read where it is.
    pub fn is_in_place(&self) -> bool {
        self.lies != Lies::Packed
    }

    /// Terms of a part of k.
    pub fn part(&self) -> usize {
        self.parts.grain as usize
    }

    /// Whether every tile adds equally many terms at a time.
    pub fn has_equal_blocks(&self) -> bool {
        [(self.depth, self.part()), (self.part(), self.slab), (self.slab, self.block_depth)]
            .iter()
            .all(|(whole, part)| whole.is_multiple_of(*part))
    }

    /// All columns, whole units.
    pub fn packed_columns(&self) -> usize {
        self.columns.next_multiple_of(self.unit)
    }

    /// Whether all of B is packed before the product: tasks with few rows do not pack for themselves.
    pub fn shares_packed(&self) -> bool {
        !self.is_in_place() && self.row_blocks.tasks() > 1 && self.row_blocks.grain < FEW_ROWS
    }
}

/// Parts of k: when there are few results and many terms. A function of the shape alone.
pub fn parts(results: usize, depth: usize) -> Split {
    let products = results.saturating_mul(depth);
    if results > 1 << 16 || depth < 4096 || products < 8 << 20 {
        return Split::new(depth, depth, 1);
    }
    let count = (depth / 1024).min(16);
    Split::new(depth, depth.div_ceil(count), 16)
}
