//! How a convolution is cut into tasks and passes.
//!
//! A task has some output channels and some rows of windows of one image; where a row is long, or rows are too few to
//! give every thread work (a sound has one row), a task has one piece of one row. Within a task channels are taken in
//! blocks, so that the matrix of windows stays in the second cache. Everything follows from the shapes and the target,
//! nothing from the number of threads.

use super::image::Axis;
use crate::ir::Target;
use crate::lower::loops::Split;
use crate::lower::matmul::tile::Tile;
use crate::lower::memory::Place;
use std::fmt;

/// Elements of the matrix of windows in scratch memory, about.
const PACKED: usize = 64 << 10;
/// The most terms that are added without leaving the registers.
const DEPTH: usize = 640;
/// Multiply-adds of a task that is worth waking a thread for.
const TASK_PRODUCTS: usize = 1 << 20;
/// The tasks that a large convolution is cut into at least.
const TASKS: usize = 12;

/// A whole convolution.
pub struct Whole<'a> {
    /// Vertical and horizontal.
    pub axes: [Axis; 2],
    /// Output channels of a group.
    pub rows: usize,
    /// Channels of a group that are summed over.
    pub channels: usize,
    /// `[image, group, channel, row, column]`.
    pub image: &'a Place,
}

/// How a convolution is cut into tasks and passes.
pub struct Blocks {
    /// The register tile.
    pub tile: Tile,
    /// Images.
    pub images: usize,
    /// Channel groups.
    pub groups: usize,
    /// Taps of a channel.
    pub taps: usize,
    /// The axes, a row of windows as long as a piece.
    pub axes: [Axis; 2],
    /// Windows in a whole row.
    pub row_windows: usize,
    /// Rows of windows; one by one when they are cut into pieces.
    pub lines: Split,
    /// Windows of a row.
    pub pieces: Split,
    /// Rows of the product.
    pub rows: Split,
    /// Channels laid out at a time.
    pub channels: usize,
    /// Channels of a group.
    pub all_channels: usize,
    /// Rows of the padded block.
    pub height: usize,
    /// Columns of the padded block.
    pub width: usize,
    /// Whether the padded block is the matrix of windows.
    pub direct: bool,
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, lines, windows) = (self.rows.grain, self.lines.grain, self.axes[1].windows);
        let of = if self.direct { "the padded image" } else { "laid out windows" };
        write!(f, "{}, {rows} channels x {lines} lines of {windows} windows a task, {of}", self.tile)?;
        if self.groups > 1 { write!(f, ", {} groups", self.groups) } else { Ok(()) }
    }
}

impl Blocks {
    /// The blocks of a convolution for vectors of so many lanes.
    pub fn new(whole: &Whole<'_>, lanes: u8, target: Target) -> Self {
        let [vertical, horizontal] = whole.axes;
        let (images, groups) = (whole.image.layout.dims[0], whole.image.layout.dims[1]);
        let taps = vertical.taps * horizontal.taps;
        let row_windows = horizontal.windows;
        let total = whole.rows * whole.channels * taps * vertical.windows * row_windows;
        let wanted = (images * groups * total / TASK_PRODUCTS).min(TASKS);
        let cuts = wanted.div_ceil(images * groups).max(1);
        let piece = row_windows.div_ceil(cuts.div_ceil(vertical.windows)).clamp(1, (PACKED / taps).max(1));
        let tile = Self::tile(whole, piece, (lanes, target));
        let pieces = Split::new(row_windows, piece, tile.columns());
        let horizontal = Axis { windows: pieces.grain as usize, ..horizontal };
        let (windows, width) = (horizontal.windows, horizontal.reach(horizontal.windows));
        let direct = is_direct(vertical, horizontal);
        let lines = match pieces.tasks() {
            1 => Self::lines(vertical.windows, (windows, taps), cuts, (direct, &tile)),
            _ => Split::new(vertical.windows, 1, 1),
        };
        let row_cuts = wanted.div_ceil(images * groups * (lines.tasks() * pieces.tasks()) as usize).max(1);
        let rows = Split::new(whole.rows, whole.rows.div_ceil(row_cuts), tile.rows);
        let height = vertical.reach(lines.grain as usize);
        let most = match direct {
            true => PACKED / (height * width),
            false => (PACKED / (lines.grain as usize * windows) / taps).min(DEPTH / taps),
        };
        let channels = whole.channels.div_ceil(whole.channels.div_ceil(most.clamp(1, whole.channels)));
        Self {
            tile,
            images,
            groups,
            taps,
            axes: [vertical, horizontal],
            row_windows,
            lines,
            pieces,
            rows,
            channels,
            all_channels: whole.channels,
            height,
            width,
            direct,
        }
    }

    /// The register tile, when a row of windows is so long.
    fn tile(whole: &Whole<'_>, windows: usize, (lanes, target): (u8, Target)) -> Tile {
        let [vertical, horizontal] = whole.axes;
        let horizontal = Axis { windows, ..horizontal };
        let row = if is_direct(vertical, horizontal) { horizontal.reach(windows) } else { windows };
        Tile::choose(whole.rows, vertical.windows * row, lanes, target)
    }

    /// Rows of windows, uncut. Blocks begin at whole tiles: they come in multiples that make whole tiles.
    fn lines(all: usize, (windows, taps): (usize, usize), cuts: usize, (direct, tile): (bool, &Tile)) -> Split {
        let unit = if direct { 1 } else { tile.columns() / common_divisor(tile.columns(), windows) };
        let at_most = (PACKED / taps / windows).max(unit);
        Split::new(all, all.div_ceil(cuts).min(at_most), unit)
    }

    /// Columns of the whole product that blocks are cut from.
    pub fn columns(&self) -> usize {
        if self.pieces.tasks() == 1 { self.axes[0].windows * self.row_windows } else { self.row_windows }
    }

    /// Columns of the product of a task.
    pub fn task_columns(&self) -> usize {
        let (lines, windows) = (self.lines.grain as usize, self.axes[1].windows);
        if self.direct { (lines - 1) * self.width + windows } else { lines * windows }
    }

    /// Whether channels are taken in several blocks, so that sums stay in memory between them.
    pub fn is_deep(&self) -> bool {
        self.channels < self.all_channels
    }

    /// Elements between rows of the matrix of windows and of the sums: whole tiles, and no power of two, in which rows
    /// would share the lines of a cache.
    pub fn stride(&self) -> usize {
        let columns = self.task_columns().next_multiple_of(self.tile.columns());
        columns.next_multiple_of(16) + 16
    }
}

/// Whether the padded block serves as the matrix of windows: steps of one, and few columns between rows for nothing.
pub fn is_direct(vertical: Axis, horizontal: Axis) -> bool {
    let width = horizontal.reach(horizontal.windows);
    vertical.step == 1 && horizontal.step == 1 && 4 * width <= 5 * horizontal.windows
}

/// The greatest common divisor.
pub fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
