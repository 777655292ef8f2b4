//! How a convolution with channels last is cut: register tile, slabs of terms, tasks.
//!
//! All of it follows from the shapes and the target; nothing from the number of threads.

use super::blocks::common_divisor;
use super::image::{self, Axis};
use super::last::Operands;
use crate::ir::{Elem, Target};
use crate::lower::loops::Split;
use crate::lower::matmul::shape::{PACKED, SHARED_LINES};
use crate::lower::matmul::tasks::longest;
use crate::lower::matmul::tile::{self, Tile};
use crate::lower::tuning::{self, Alternatives, Tuning};
use std::fmt;

/// The most terms that are added at a time: a panel of weights stays in the first cache or streams from the second.
const SLAB: usize = 1280;
/// The most elements of a task's windows that are read for one slab, and so for each panel again, and of a padded
/// block: they stay in the second cache, or stream from the third with few bytes for a multiply-add.
const WINDOWS: usize = 128 << 10;
/// Multiply-adds of a task that is worth waking a thread for.
const TASK_PRODUCTS: usize = 1 << 20;
/// The most tasks that are made for the sake of threads.
const TASKS: usize = 32;
/// The most images whose tasks are looked at one by one.
const SIMULATED: usize = 4;
/// Reading a panel of weights that lies far away, in rows of a tile that are multiplied by it meanwhile.
const READ_COST: f64 = 5.0;
/// The same where it was asked for while the panel before it was multiplied.
const ASKED_COST: f64 = 1.5;
/// A task besides what it does, in tiles.
const TASK_COST: f64 = 0.5;
/// Reading a tile's windows for the first panel.
const WINDOW_COST: f64 = 0.1;
/// Copying an element, in multiply-adds of a vector.
const COPY_COST: f64 = 0.4;

/// Ways of a set of the first cache that rows of windows may take, half of them.
const FREE_WAYS: usize = 4;
/// Bytes of a line of the caches.
const LINE: usize = 64;

/// Elements of the result that a task keeps for the windows over it, about: they stay in the second cache.
const KEPT: usize = 48 << 10;

/// How much more a tile may cost whose rows are evenly spaced.
const EVEN: f64 = 1.08;

/// Whether tiles of so many rows have them in the same places of one or several lines of windows.
pub fn is_even(windows: usize, rows: usize) -> bool {
    windows.is_multiple_of(rows) || rows.is_multiple_of(windows)
}

/// Elements from place to place of a padded block whose rows of windows are read together: a cache line more than the
/// channels where so many rows would lie in so few sets of the first cache that they fill half of its ways.
fn place(horizontal: Axis, channels: usize, (elem, rows): (Elem, usize)) -> usize {
    let apart = horizontal.step * channels * elem.size();
    let sets = SHARED_LINES / common_divisor(apart, SHARED_LINES);
    if rows > FREE_WAYS * sets { channels + LINE / elem.size() } else { channels }
}

/// Which terms are added at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slabs {
    /// All of them.
    Whole,
    /// Those of a line of taps.
    Lines,
    /// Those of a tap.
    Taps,
    /// So many channels of a tap.
    Channels(usize),
}

impl Slabs {
    fn new([vertical, horizontal]: [Axis; 2], channels: usize) -> Self {
        let line = horizontal.taps * channels;
        match () {
            () if vertical.taps * line <= SLAB => Self::Whole,
            () if line <= SLAB && vertical.taps > 1 => Self::Lines,
            () if channels <= SLAB && vertical.taps * horizontal.taps > 1 => Self::Taps,
            () => {
                let parts = channels.div_ceil(SLAB);
                let divides = (parts..=channels).find(|parts| channels.is_multiple_of(*parts)).unwrap_or(channels);
                Self::Channels(channels / divides)
            }
        }
    }

    /// Whether there is more than one.
    pub fn is_cut(self) -> bool {
        self != Self::Whole
    }
}

/// Sizes of a convolution and of its blocks.
pub struct Shape {
    /// Images.
    pub images: usize,
    /// Vertical and horizontal.
    pub axes: [Axis; 2],
    /// Channels that are summed over.
    pub channels: usize,
    /// Output channels.
    pub columns: usize,
    /// The register tile.
    pub tile: Tile,
    /// Which terms are added at a time.
    pub slabs: Slabs,
    /// Lines of the output that are made: those of which windows over it are, if there are any.
    pub all_lines: usize,
    /// Lines from window to window over the output; a task has those of whole windows.
    pub window: Option<usize>,
    /// Lines of the output of a task.
    pub lines: Split,
    /// Output channels of a task.
    pub column_blocks: Split,
    /// Whether windows are read where the image lies.
    pub direct: bool,
    /// Lines of a padded block.
    pub height: usize,
    /// Places of a line of a padded block.
    pub width: usize,
    /// Elements from place to place of a padded block.
    pub place: usize,
    /// Whether a task goes through its panels one after the other, and not through its rows.
    pub by_panels: bool,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lines, columns) = (self.lines.grain, self.column_blocks.grain);
        let kept = if self.window.is_some() { ", windows of the result" } else { "" };
        let from = if self.direct { "windows in place" } else { "padded lines" };
        let order = if self.by_panels { ", panel by panel" } else { "" };
        let terms = self.slab();
        write!(
            f,
            "{}, {lines} lines x {columns} columns a task, {terms} terms at a time{order}, {from}{kept}",
            self.tile
        )
    }
}

/// Whether windows are read where the image lies.
pub fn is_direct(operands: &Operands) -> bool {
    let layout = &operands.image.layout;
    operands.axes.iter().all(Axis::is_inside) && (layout.strides[3] == 1 || layout.dims[3] == 1)
}

impl Operands {
    /// All that choices depend on, in words.
    fn key(&self, pooled: Option<(usize, usize)>, target: Target) -> String {
        let (image, weights) = (&self.image.layout, &self.weights.layout.dims);
        let (elem, lanes) = (self.image.elem, target.f32_lanes);
        let factors = self.factors;
        let windows = pooled.map_or(String::new(), |(step, lines)| format!(", windows {step} apart of {lines} lines"));
        format!("conv of {elem}{factors}, {lanes} lanes: {:?} of {image:?} by {weights:?}{windows}", self.axes)
    }
}

/// The register tiles, the one that is chosen first; only that one unless others are asked for. Of windows in place,
/// rows must not crowd the lines of a cache; where lines of windows lie apart, a tile that does not reach from one into
/// the next finds its rows by a single address, which is worth a little.
fn tiles(
    operands: &Operands,
    (direct, others): (bool, bool),
    (places, columns): (usize, usize),
    (lanes, target): (u8, Target),
) -> Vec<Tile> {
    let [_, horizontal] = operands.axes;
    let strides = &operands.image.layout.strides;
    let along = if horizontal.windows > 1 { 1 } else { 0 };
    let apart = strides[along + 1].unsigned_abs() as usize * operands.axes[along].step * operands.image.elem.size();
    let most_rows = if direct { tile::most_rows(apart) } else { usize::MAX };
    let elements = (lanes, operands.factors);
    let among = |fits: &dyn Fn(usize) -> bool| {
        Tile::choose_among(places, columns, elements, (target, &|rows| rows <= most_rows && fits(rows)))
    };
    let (any, least) = among(&|_| true);
    let (even, cost) = among(&|rows| is_even(horizontal.windows, rows));
    let tile = if horizontal.windows > 1 && cost <= EVEN * least { even } else { any };
    let ranked = match others {
        true => Tile::ranked_among(places, columns, elements, (target, &|rows| rows <= most_rows)),
        false => vec![],
    };
    let tiles = std::iter::once(tile).chain(ranked.into_iter().map(|(tile, _)| tile));
    tuning::distinct(tiles.map(|tile| tile.narrowed(columns, target)))
}

impl Shape {
    /// The shape of a convolution, and its blocks. If there are windows over its result, it is with the lines from one
    /// to the next and how many there are of which windows are. With a tuning it is the one that is named there, and
    /// what it was chosen from is told, too.
    pub fn new(
        (operands, pooled): (&Operands, Option<(usize, usize)>),
        lanes: u8,
        target: Target,
        tuning: Option<&Tuning>,
    ) -> (Self, Option<Alternatives>) {
        let shape = |tile: Tile| Self::uncut(operands, pooled, tile);
        let size = (operands.axes[0].windows * operands.axes[1].windows, operands.weights.layout.dims[0]);
        let tiles = tiles(operands, (is_direct(operands), tuning.is_some()), size, (lanes, target));
        let Some(tuning) = tuning else {
            let shape = shape(tiles[0]);
            let cut = shape.ranked()[0];
            return (shape.cut(cut), None);
        };
        let ranked = tuning::ranked(&tiles, |tile| shape(tile).ranked());
        let found = tuning.take(operands.key(pooled, target), ranked);
        let choice = found.ranked[found.taken];
        let tile = tiles.iter().find(|tile| choice.is_of(tile)).copied().unwrap_or(tiles[0]);
        (shape(tile).cut((choice.rows, choice.columns)), Some(found))
    }

    /// The shape with a tile, in one task.
    fn uncut(operands: &Operands, pooled: Option<(usize, usize)>, tile: Tile) -> Self {
        let axes = operands.axes;
        let all_lines = pooled.map_or(axes[0].windows, |(_, lines)| lines);
        let layout = &operands.image.layout;
        let (images, channels) = (layout.dims[0], layout.dims[3]);
        let columns = operands.weights.layout.dims[0];
        Self {
            images,
            axes,
            channels,
            columns,
            tile,
            slabs: Slabs::new(axes, channels),
            all_lines,
            window: pooled.map(|(step, _)| step),
            lines: Split::new(all_lines, all_lines, 1),
            column_blocks: Split::new(columns, columns, tile.columns()),
            direct: is_direct(operands),
            height: axes[0].reach(all_lines),
            width: axes[1].reach(axes[1].windows),
            place: place(axes[1], channels, (operands.image.elem, tile.rows)),
            by_panels: false,
        }
    }

    /// The same with so many lines and panels of columns in a task.
    fn cut(self, (lines, panels): (usize, usize)) -> Self {
        let width = self.tile.columns();
        let by_panels = self.goes_by_panels(lines);
        let lines = Split::new(self.all_lines, lines, 1);
        let height = self.axes[0].reach(lines.grain as usize);
        Self { lines, by_panels, column_blocks: Split::new(self.columns, panels * width, width), height, ..self }
    }

    /// Terms of a sum.
    pub fn depth(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps * self.channels
    }

    /// Places of the output.
    pub fn places(&self) -> usize {
        self.axes[0].windows * self.axes[1].windows
    }

    /// Lines of windows over the output of a task.
    pub fn lines_of_windows(&self) -> Split {
        let step = self.window.unwrap_or(1);
        Split::new(self.all_lines.div_ceil(step), (self.lines.grain as usize).div_ceil(step), 1)
    }

    /// Rows of the product of a task.
    pub fn block_rows(&self) -> usize {
        self.lines.grain as usize * self.axes[1].windows
    }

    /// Elements of a padded block.
    pub fn padded_elements(&self) -> usize {
        self.height * self.width * self.place
    }

    /// Elements between rows of sums: a cache line more than needed, so that a power of two does not map every row to
    /// the same lines of the cache.
    pub fn sums_stride(&self) -> usize {
        (self.column_blocks.grain as usize).next_multiple_of(self.tile.columns()) + 16
    }

    /// The fewest lines that a task may have, unless it has all: whole tiles of rows, and whole windows.
    fn unit(&self) -> usize {
        let (rows, row, step) = (self.tile.rows, self.axes[1].windows, self.window.unwrap_or(1));
        (step..=rows * step).step_by(step).find(|lines| (lines * row).is_multiple_of(rows)).unwrap_or(rows * step)
    }

    /// Whether what so many lines and columns of a task give stays in the second cache, where windows are over it.
    fn is_kept(&self, lines: usize, panels: usize) -> bool {
        self.window.is_none() || lines * self.axes[1].windows * panels * self.tile.columns() <= KEPT
    }

    /// Tiles of rows of a task.
    pub fn passes(&self) -> usize {
        self.block_rows().div_ceil(self.tile.rows)
    }

    /// Terms of a slab.
    pub fn slab(&self) -> usize {
        match self.slabs {
            Slabs::Whole => self.depth(),
            Slabs::Lines => self.axes[1].taps * self.channels,
            Slabs::Taps => self.channels,
            Slabs::Channels(count) => count,
        }
    }

    /// Elements of the windows of so many lines that are read for a slab.
    fn window_elements(&self, lines: usize) -> usize {
        match self.slabs {
            Slabs::Whole if self.direct => lines * self.axes[1].windows * self.channels,
            Slabs::Whole => self.axes[0].reach(lines) * self.width * self.channels,
            Slabs::Lines => lines * self.width * self.channels,
            Slabs::Taps => lines * self.axes[1].windows * self.channels,
            Slabs::Channels(count) => lines * self.axes[1].windows * count,
        }
    }

    /// Whether tasks of so many lines go through their panels one after the other. Weights that do not stay in the
    /// second cache then come but once for each task, and are asked for in time; the windows stay.
    fn goes_by_panels(&self, lines: usize) -> bool {
        self.depth() * self.columns > PACKED && self.window_elements(lines) <= WINDOWS
    }

    /// The time of all tiles of so many rows, in full tiles.
    fn tiles(&self, rows: usize) -> f64 {
        (rows / self.tile.rows) as f64 + self.tile.share(rows % self.tile.rows)
    }

    /// Lines and panels of output channels of a task, those of the least [`Self::cost`] first; there is one at least.
    fn ranked(&self) -> Vec<(usize, usize)> {
        let width = self.tile.columns();
        let panels = self.columns.div_ceil(width);
        let most_panels = (PACKED / self.slab() / width).clamp(1, panels);
        let all_lines = self.all_lines;
        let unit = self.unit().min(all_lines);
        let work = self.images * self.places() * self.columns * self.depth();
        let wanted = (work / TASK_PRODUCTS).clamp(1, TASKS).div_ceil(self.images).max(1);
        let padded = |lines: usize| self.axes[0].reach(lines) * self.width * self.channels;
        let lines_of = |cuts: usize| all_lines.div_ceil(cuts).next_multiple_of(unit).min(all_lines);
        let fits = |lines: usize| self.direct || padded(lines) <= WINDOWS;
        // Where even the smallest blocks are too large and mostly copy, it is for the costs to say how large they are.
        let most_cuts = all_lines.div_ceil(unit);
        let smallest = if image::is_dense(self.axes, lines_of(most_cuts)) { most_cuts } else { 1 };
        let least_line_cuts = (1..=most_cuts).find(|&cuts| fits(lines_of(cuts))).unwrap_or(smallest);
        let most_panel_cuts = panels.min(panels.div_ceil(most_panels).max(2 * wanted));
        let mut found: Vec<(f64, (usize, usize))> = Vec::new();
        for panel_cuts in 1..=most_panel_cuts {
            let panels = panels.div_ceil(panel_cuts);
            let is_kept = |&cuts: &usize| self.is_kept(lines_of(cuts), panels);
            let least_line_cuts = (least_line_cuts..=most_cuts).find(is_kept).unwrap_or(least_line_cuts);
            let most_line_cuts = (2 * wanted / panel_cuts).max(least_line_cuts);
            for line_cuts in least_line_cuts..=most_line_cuts {
                let candidate = (lines_of(line_cuts), panels);
                let stays = candidate.1 <= most_panels || self.goes_by_panels(candidate.0);
                if stays && !found.iter().any(|(_, other)| *other == candidate) {
                    found.push((self.cost(candidate.0, candidate.1), candidate));
                }
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut ranked: Vec<(usize, usize)> = found.into_iter().map(|(_, cut)| cut).collect();
        if ranked.is_empty() {
            ranked.push((lines_of(least_line_cuts), most_panels));
        }
        ranked
    }

    /// The time of such tasks on two, four and eight threads, beside what it would be at best.
    fn cost(&self, lines_of_task: usize, panels_of_task: usize) -> f64 {
        let panels = self.columns.div_ceil(self.tile.columns());
        let tile_time = (self.depth() * self.tile.rows * self.tile.vectors) as f64;
        let mut tasks = Vec::new();
        for line in (0..self.all_lines).step_by(lines_of_task) {
            let lines = lines_of_task.min(self.all_lines - line);
            let copied = self.axes[0].reach(lines) * self.width * self.channels;
            let copy = if self.direct { 0.0 } else { COPY_COST * copied as f64 / tile_time };
            let rows = lines * self.axes[1].windows;
            let tiles = self.tiles(rows);
            let is_asked_for = self.goes_by_panels(lines_of_task) && rows > self.tile.rows;
            let read = if is_asked_for { ASKED_COST } else { READ_COST } / self.tile.rows as f64;
            for panel in (0..panels).step_by(panels_of_task) {
                let panels = panels_of_task.min(panels - panel) as f64;
                tasks.push(tiles * (panels + WINDOW_COST) + read * panels + TASK_COST + copy);
            }
        }
        let images = self.images.min(SIMULATED);
        let tasks: Vec<f64> = (0..images).flat_map(|_| tasks.iter().copied()).collect();
        let best = images as f64 * panels as f64 * self.places() as f64 / self.tile.rows as f64;
        let on = |threads: usize| longest(&tasks, threads) * threads as f64 / best;
        2.0 * on(2) + on(4) + 0.5 * on(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::matmul::words::Factors;
    use crate::lower::memory::{BufferId, Place};
    use nnc_opt::fuse::Layout;

    /// A 3 x 3 convolution with so many windows in a line and a column, channels, output channels, and a stride.
    fn conv(windows: usize, channels: usize, columns: usize, step: usize) -> Operands {
        let source = windows * step;
        let axis = Axis { source, insert: 1, low: 1, taps: 3, dilation: 1, windows, step };
        let place = |dims: &[usize]| Place { buffer: BufferId(0), elem: Elem::F32, layout: Layout::contiguous(dims) };
        Operands {
            image: place(&[1, source, source, channels]),
            weights: place(&[columns, 9, channels]),
            axes: [axis, axis],
            has_images: true,
            factors: Factors::One,
        }
    }

    /// How much longer two threads take than if each had half of the work.
    fn imbalance(shape: &Shape) -> f64 {
        let mut tasks = Vec::new();
        for line in (0..shape.lines.total).step_by(shape.lines.grain as usize) {
            let lines = shape.lines.grain.min(shape.lines.total - line);
            for column in (0..shape.column_blocks.total).step_by(shape.column_blocks.grain as usize) {
                let columns = shape.column_blocks.grain.min(shape.column_blocks.total - column);
                tasks.push((lines * columns) as f64);
            }
        }
        2.0 * longest(&tasks, 2) / tasks.iter().sum::<f64>()
    }

    /// Those of ResNet-50 at batch 1: two threads get the same, and weights that do not stay in the second cache are
    /// read panel by panel and asked for in time.
    #[test]
    fn convolutions_of_a_network_are_cut_evenly() {
        let cases = [(56, 64, 1), (28, 128, 1), (28, 128, 2), (14, 256, 1), (14, 256, 2), (7, 512, 1), (7, 512, 2)];
        for (windows, channels, step) in cases {
            for lanes in [8, 16] {
                let operands = conv(windows, channels, channels, step);
                let (shape, _) = Shape::new((&operands, None), lanes, Target::new(lanes), None);
                let name = format!("{windows} x {windows}, {channels} channels, stride {step}, {lanes} lanes: {shape}");
                assert!(imbalance(&shape) < 1.05, "{name}");
                let is_large = 9 * channels * channels > PACKED;
                assert_eq!(shape.by_panels, is_large, "{name}");
                assert!(!is_large || shape.passes() > 1, "{name}");
            }
        }
    }

    /// Rows whose distance is a power of two share few sets of the first cache, unless a line more lies between them.
    #[test]
    fn rows_that_share_sets_are_moved_apart() {
        let place = |channels: usize, step: usize, rows: usize| {
            let axis = Axis { source: 14, insert: 1, low: 1, taps: 3, dilation: 1, windows: 7, step };
            super::place(axis, channels, (Elem::F32, rows))
        };
        assert_eq!(place(512, 1, 14), 528, "two sets");
        assert_eq!(place(512, 2, 7), 528, "one set");
        assert_eq!(place(256, 1, 14), 256, "four sets have room for fourteen");
        assert_eq!(place(512, 1, 7), 512);
        assert_eq!(place(500, 2, 14), 500);
    }

    #[test]
    fn tiles_are_even_within_lines_and_over_whole_lines() {
        for (windows, rows) in [(28, 14), (7, 14), (7, 7), (1, 6)] {
            assert!(is_even(windows, rows), "{windows}, {rows}");
        }
        for (windows, rows) in [(7, 6), (10, 14)] {
            assert!(!is_even(windows, rows), "{windows}, {rows}");
        }
    }
}
