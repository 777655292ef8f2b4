//! How attention is cut: register tile, rows of a block, rows of a task. All of it follows from shapes and the target.

use crate::ir::{Elem, Target};
use crate::lower::Lowering;
use crate::lower::accumulate::LANES;
use crate::lower::loops::Split;
use crate::lower::matmul::tile::Tile;
use crate::lower::matmul::words::Factors;
use crate::lower::memory::elem;
use nnc_graph::NodeId;
use nnc_opt::fuse::attention::{Matrices, Roles};
use std::fmt;

/// Bytes of a block's matrices, about: a part of the second cache, beside the packed operands.
const BLOCK_BYTES: usize = 192 << 10;
/// The same where sums along columns are read and written again for every block.
const SUMMED_BYTES: usize = 384 << 10;
/// The most rows of a block: more share nothing that is worth it.
const MOST_ROWS: usize = 64;
/// Blocks of a matrix at least, if some keys are hidden from each.
const LEAST_BLOCKS: usize = 12;
/// The most tasks that matrices are cut into for the sake of threads.
const TASKS: usize = 16;
/// The fewest rows of a task whose keys another one packs.
const LEAST_ROWS: usize = 28;

/// Sizes of the matrices inside and of their blocks.
pub struct Shape {
    /// The matrices.
    pub matrices: Matrices,
    /// Type of the elements.
    pub elem: Elem,
    /// Lanes of a vector.
    pub lanes: u8,
    target: Target,
    /// The register tile of the products that make them.
    pub tile: Tile,
    /// Rows of a block.
    pub block: usize,
    /// Rows of a task, a whole number of blocks.
    pub tasks: Split,
    /// Elements between rows of a block: a cache line more than needed, so that a power of two does not map every row
    /// to the same lines of the cache.
    pub stride: usize,
    /// If keys are left out for some blocks: what their number is a multiple of, a whole number of panels and of blocks
    /// of a reduction.
    pub unit: Option<usize>,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packed = if self.shares_packed() { "packed by all" } else { "packed by each" };
        let (block, rows) = (self.block, self.tasks.grain);
        write!(f, "{}, {block} of {rows} rows a task at a time, {} keys, {packed}", self.tile, self.matrices.columns)?;
        if self.unit.is_some() { write!(f, ", hidden keys left out") } else { Ok(()) }
    }
}

impl Shape {
    /// The shape of a group whose dots make `matrices`; `kept` of them are in memory at a time, and there may be a mask
    /// behind which keys can be left out.
    pub fn new(lowering: &Lowering<'_>, roles: &Roles, matrices: Matrices, (kept, has_horizon): (usize, bool)) -> Self {
        let result = |dot: NodeId| lowering.graph.node(dot).results[0];
        let elem = roles.scores.first().map_or(Elem::F32, |&dot| elem(lowering.graph.ty(result(dot)).dtype));
        let (lanes, target) = (lowering.lanes_of(elem), lowering.target);
        let Matrices { count, rows, columns } = matrices;
        let tile = Tile::choose(rows, columns, lanes, target).narrowed(columns, target);
        let stride = columns.next_multiple_of(tile.columns()) + 16;
        // Sums along columns are over all rows in order.
        let is_whole = roles.readers.iter().any(|reader| !reader.along_rows);
        let cuts = if is_whole { 1 } else { (TASKS / count).clamp(1, rows.div_ceil(LEAST_ROWS)) };
        let unit = Some(least_common_multiple(LANES, tile.columns())).filter(|unit| has_horizon && 2 * unit <= columns);
        let bytes = if is_whole { SUMMED_BYTES } else { BLOCK_BYTES };
        let most = (bytes / (stride * elem.size() * kept)).clamp(1, MOST_ROWS);
        let most = unit.map_or(most, |_| most.min(rows / LEAST_BLOCKS)) / tile.rows * tile.rows;
        let task = rows.div_ceil(cuts).next_multiple_of(tile.rows);
        let blocks = task.div_ceil(most.max(tile.rows));
        let block = task.div_ceil(blocks).next_multiple_of(tile.rows);
        let tasks = Split::new(rows, task, block);
        Self { matrices, elem, lanes, target, tile, block, tasks, stride, unit }
    }

    /// The tile of a product of rows of a block by a matrix of so many columns.
    pub fn tile_along_rows(&self, columns: usize) -> Tile {
        let fits = |rows: usize| self.tile.rows.is_multiple_of(rows);
        let among = (self.target, &fits as &dyn Fn(usize) -> bool);
        let tile = Tile::choose_among(self.matrices.rows, columns, (self.lanes, Factors::One), among).0;
        tile.narrowed(columns, self.target)
    }

    /// The tile of a product of the columns of a block by a matrix of so many columns.
    pub fn tile_along_columns(&self, columns: usize) -> Tile {
        // No tile of rows reaches beyond keys that are left out.
        let fits = |rows: usize| self.unit.is_none_or(|unit| unit.is_multiple_of(rows));
        let among = (self.target, &fits as &dyn Fn(usize) -> bool);
        let tile = Tile::choose_among(self.matrices.columns, columns, (self.lanes, Factors::One), among).0;
        tile.narrowed(columns, self.target)
    }

    /// Whether right operands are packed before the tasks that share them.
    pub fn shares_packed(&self) -> bool {
        self.tasks.tasks() > 1
    }

    /// Whether every block has as many rows.
    pub fn has_equal_blocks(&self) -> bool {
        self.matrices.rows.is_multiple_of(self.block)
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    (1..=b).map(|times| a * times).find(|multiple| multiple.is_multiple_of(b)).unwrap_or(a * b)
}
