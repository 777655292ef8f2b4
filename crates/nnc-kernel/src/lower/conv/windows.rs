//! The matrix of windows of an image ("im2col", Chellapilla, Puri, Simard 2006), packed for a matrix product.
//!
//! Its columns are the places of the output, in rows of windows; k runs over (channel, tap). One channel at a time is
//! copied into a padded block in the first cache, and for each tap the runs of its windows go to their places in the
//! panels. Rows of windows and panels come together again after a [`Unit`] of both; what is copied within a unit is
//! laid out in line.

use super::blocks::common_divisor;
use super::image::{self, Axis, Channels, Padded};
use crate::ir::{Builder, Elem, Memory, Value};
use crate::lower::matmul::pack::Packed;
use crate::lower::matmul::tile::Tile;
use crate::lower::memory::{BufferId, KernelDraft};
use crate::lower::window::load_pairs;
use nnc_opt::fuse::Layout;

/// The most panels of a unit, which are laid out in line.
const MOST_PANELS: usize = 16;
/// The most elements of a padded channel.
const MOST_PADDED: usize = 64 << 10;

/// An image whose windows are multiplied.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Where it lies.
    pub buffer: BufferId,
    /// The memory of its parameter.
    pub memory: Memory,
    /// `[image, channel, row, column]`.
    pub layout: Layout,
    /// Vertical and horizontal.
    pub axes: [Axis; 2],
}

/// Rows of windows after which a panel begins with a row again; or all rows, if these are few panels.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// Rows of windows.
    pub lines: usize,
    /// Windows in a row.
    pub row: usize,
}

/// A run of windows that lie side by side in the image and in a panel.
struct Run {
    /// Row of windows, within the unit, and window within it.
    from: (usize, usize),
    /// Panel, and column within it.
    to: (usize, usize),
    length: usize,
}

impl Unit {
    /// For panels of a tile's width.
    pub fn new([vertical, horizontal]: [Axis; 2], tile: &Tile) -> Self {
        let (row, panel) = (horizontal.windows, tile.columns());
        let all = (vertical.windows * row).div_ceil(panel);
        let lines = if all <= MOST_PANELS { vertical.windows } else { panel / common_divisor(panel, row) };
        Self { lines: lines.min(vertical.windows), row }
    }

    /// Its columns, whole panels.
    pub fn columns(&self, tile: &Tile) -> usize {
        (self.lines * self.row).next_multiple_of(tile.columns())
    }

    fn runs(&self, panel: usize) -> Vec<Run> {
        let mut runs = Vec::new();
        let (mut at, end) = (0, self.lines * self.row);
        while at < end {
            let length = (self.row - at % self.row).min(panel - at % panel);
            runs.push(Run { from: (at / self.row, at % self.row), to: (at / panel, at % panel), length });
            at += length;
        }
        runs
    }
}

impl Windows {
    /// Whether windows of such axes can be packed so.
    pub fn fit(axes: [Axis; 2], tile: &Tile) -> bool {
        let unit = Unit::new(axes, tile);
        let padded = axes[0].reach(axes[0].windows) * axes[1].reach(axes[1].windows);
        unit.columns(tile) / tile.columns() <= MOST_PANELS && padded <= MOST_PADDED
    }

    /// All windows.
    pub fn columns(&self) -> usize {
        self.axes[0].windows * self.axes[1].windows
    }

    /// Taps of a channel.
    pub fn taps(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps
    }

    /// Room for a padded channel with so many rows of windows.
    pub fn scratch(&self, draft: &mut KernelDraft, tile: &Tile, lines: usize, elem: Elem) -> Padded {
        let [vertical, horizontal] = self.axes;
        let (height, width) = (vertical.reach(lines), horizontal.reach(horizontal.windows));
        // What the last vector of the last row reads past it.
        let slack = usize::from(tile.lanes) * horizontal.step;
        Padded { memory: draft.builder.scratch(elem, height * width + slack), height, width }
    }

    /// Packs the windows of `columns`, whole units but the last, for the terms of some channels; the first term of the
    /// first column goes to `first`.
    pub fn pack(
        &self,
        b: &mut Builder,
        (batch, tile): (&[Value], &Tile),
        (columns, terms): ((Value, Value), (Value, Value)),
        padded: Padded,
        (to, first): (&Packed, Value),
    ) {
        let unit = Unit::new(self.axes, tile);
        let (row, taps) = (b.index(unit.row as i64), b.index(self.taps() as i64));
        let line = b.div(columns.0, row);
        let corner = [b.mul_index(line, self.axes[0].step as i64), b.index(0)];
        let (from, end) = (b.div(terms.0, taps), b.div(terms.1, taps));
        let one = b.index(1);
        b.for_loop(from, end, one, &[], |b, channel, _| {
            let start =
                b.affine(&[(batch[0], self.layout.strides[0]), (channel, self.layout.strides[1])], self.layout.offset);
            let strides = [self.layout.strides[1], self.layout.strides[2], self.layout.strides[3]];
            let source = Channels { memory: self.memory, first: start, strides, count: one };
            let zero = b.index(0);
            image::pad(b, &source, self.axes, (&padded, zero), corner, tile.lanes);
            let before = b.sub(channel, from);
            let target = b.affine(&[(first, 1), (before, self.taps() as i64 * to.row)], 0);
            let count = b.sub(columns.1, columns.0);
            self.channel(b, (&unit, tile), count, padded, (to, target));
            vec![]
        });
    }

    /// The windows of the padded channel.
    fn channel(
        &self,
        b: &mut Builder,
        (unit, tile): (&Unit, &Tile),
        columns: Value,
        padded: Padded,
        (to, first): (&Packed, Value),
    ) {
        let [vertical, horizontal] = self.axes;
        let runs = unit.runs(tile.columns());
        let (zero, many) = (b.index(0), b.index((unit.lines * unit.row) as i64));
        b.for_each(vertical.taps as i64, |b, i| {
            b.for_each(horizontal.taps as i64, |b, j| {
                let (down, across) = ((vertical.dilation * padded.width) as i64, horizontal.dilation as i64);
                let source = b.affine(&[(i, down), (j, across)], 0);
                let target = b.affine(&[(first, 1), (i, horizontal.taps as i64 * to.row), (j, to.row)], 0);
                b.for_loop(zero, columns, many, &[], |b, column, _| {
                    let number = b.div(column, many);
                    let step = (unit.lines * vertical.step * padded.width) as i64;
                    let source = b.affine(&[(source, 1), (number, step)], 0);
                    let target = b.affine(&[(target, 1), (column, to.column)], 0);
                    for run in &runs {
                        self.run(b, (padded, source), (to, target), run, tile);
                    }
                    vec![]
                });
            });
        });
    }

    /// Copies a run in vectors that may reach past it, but not past the panel: what they write there is overwritten by
    /// the next run.
    fn run(&self, b: &mut Builder, from: (Padded, Value), to: (&Packed, Value), run: &Run, tile: &Tile) {
        let [vertical, horizontal] = self.axes;
        let line = run.from.0 * vertical.step * from.0.width + run.from.1 * horizontal.step;
        let place = run.to.0 * tile.columns() * to.0.column as usize + run.to.1;
        let room = tile.columns() - run.to.1;
        let mut at = 0;
        while at < run.length {
            let fits = |width: &u8| at + usize::from(*width) <= room;
            let width = [tile.lanes, 4, 2, 1].into_iter().filter(|width| *width <= tile.lanes).find(fits).unwrap_or(1);
            let source = b.add_index(from.1, (line + at * horizontal.step) as i64);
            let stride = b.index(horizontal.step as i64);
            let value = match horizontal.step {
                2 if width > 1 => load_pairs(b, from.0.memory, source, width).0,
                _ => b.load_strided(from.0.memory, source, stride, width),
            };
            let target = b.add_index(to.1, (place + at) as i64);
            b.store(to.0.memory, target, value);
            at += usize::from(width);
        }
    }
}
