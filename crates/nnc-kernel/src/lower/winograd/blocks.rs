//! Which tiles of a convolution by Winograd's form are transformed and multiplied together.
//!
//! A task that has a block of tiles for itself does all three steps of it: what it transforms stays in its own cache,
//! and threads meet only at the end; but every block reads all kernels. Steps of all tiles, each a phase, read the
//! kernels once, and wait for one another; what a step makes goes from core to core. The first of the least
//! [`Costs::time`] is taken. Sums are the same either way.

use crate::ir::Target;
use crate::lower::loops::Split;
use crate::lower::matmul::tasks::longest;
use crate::lower::matmul::tile::Tile;
use crate::lower::matmul::words::Factors;
use crate::lower::winograd::Tiles;

/// Elements of the transforms of a block, about: they share the second cache with some of the kernels.
const BLOCK: usize = 56 << 10;
/// The most elements of transformed kernels that each block reads anew.
const KERNELS: usize = 160 << 10;
/// Transforming a vector, in or out, for each place of a tile, as all times here in multiply-adds of a vector.
const TRANSFORM: f64 = 7.0;
/// Loading a vector of the kernels from the second cache, beside what multiplying hides.
const READ: f64 = 0.5;
/// A task besides what it does.
const TASK: f64 = 300.0;
/// A phase after another.
const PHASE: f64 = 2000.0;
/// Loading a vector that another core has made.
const HANDED: f64 = 15.0;
/// The most images whose tasks are looked at one by one.
const SIMULATED: usize = 8;

/// A block of tiles: some lines of tiles of an image, or some whole images.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Images of a block.
    pub images: Split,
    /// Lines of tiles of a block.
    pub lines: Split,
    /// Whether a task owns one; else there is one, of all tiles.
    pub is_own: bool,
}

impl Block {
    /// How many there are.
    pub fn count(&self) -> usize {
        (self.images.tasks() * self.lines.tasks()) as usize
    }
}

/// What the costs of a block follow from.
pub struct Costs {
    /// The size of tiles.
    pub tiles: Tiles,
    /// Images.
    pub images: usize,
    /// Tiles down and across an image.
    pub grid: [usize; 2],
    /// Channels that are summed over.
    pub channels: usize,
    /// Output channels.
    pub columns: usize,
    /// Lanes of a vector.
    pub lanes: u8,
    /// The machine.
    pub target: Target,
}

impl Costs {
    /// The best block.
    pub fn block(&self) -> Block {
        let [down, across] = self.grid;
        let all =
            Block { images: Split::new(self.images, self.images, 1), lines: Split::new(down, down, 1), is_own: false };
        if self.tiles.places() * self.channels * self.columns > KERNELS {
            return all;
        }
        let most = (BLOCK / (self.tiles.places() * (self.channels + self.columns)) / across).max(1);
        let of_lines = (down.div_ceil(most)..=down).map(|cuts| (1, down.div_ceil(cuts)));
        let of_images = (2..=most / down).map(|together| (together, down));
        let own = of_lines.chain(of_images).map(|(together, lines)| Block {
            images: Split::new(self.images, together, 1),
            lines: Split::new(down, lines, 1),
            is_own: true,
        });
        own.chain([all]).min_by(|a, b| self.time(a).total_cmp(&self.time(b))).unwrap_or(all)
    }

    /// The register tile for the products of so many tiles, and the time of one step of k.
    fn tile(&self, tiles: usize) -> (Tile, f64) {
        let (tile, cost) =
            Tile::choose_among(tiles, self.columns, (self.lanes, Factors::One), (self.target, &|_| true));
        (tile.narrowed(self.columns, self.target), cost)
    }

    /// The register tile of the products of a block.
    pub fn register_tile(&self, block: &Block) -> Tile {
        self.tile((block.images.grain * block.lines.grain) as usize * self.grid[1]).0
    }

    /// The time of both transforms and the products of some lines of tiles.
    fn of_lines(&self, lines: usize) -> f64 {
        let tiles = lines * self.grid[1];
        let transforms = (tiles * (self.channels + self.columns)) as f64 / f64::from(self.lanes) * TRANSFORM;
        let products = self.channels as f64 * self.tile(tiles).1;
        self.tiles.places() as f64 * (transforms + products)
    }

    /// The time on two, four and eight threads together.
    fn time(&self, block: &Block) -> f64 {
        let on: [f64; 3] = match block.is_own {
            true => {
                let tasks = self.tasks(block);
                // Of many images some are looked at, and stand for all.
                let share = block.count() as f64 / tasks.len() as f64;
                [2, 4, 8].map(|threads| longest(&tasks, threads) * share)
            }
            false => [2.0, 4.0, 8.0].map(|threads| self.of_phases(threads)),
        };
        on.iter().sum()
    }

    /// The time of each block of some images.
    fn tasks(&self, block: &Block) -> Vec<f64> {
        let read = READ * self.vectors(self.channels * self.columns);
        let (images, lines) = (block.images.grain as usize, block.lines.grain as usize);
        let down = self.grid[0];
        let each = |image: usize| {
            let together = images.min(self.images - image);
            let of = move |line: usize| self.of_lines(together * lines.min(down - line)) + read + TASK;
            (0..down).step_by(lines).map(of)
        };
        (0..self.images).step_by(images).take(SIMULATED).flat_map(each).collect()
    }

    /// The time of three phases of all tiles.
    fn of_phases(&self, threads: f64) -> f64 {
        let lines = self.images * self.grid[0];
        let made = self.vectors(lines * self.grid[1] * (self.channels + self.columns));
        let handed = HANDED * made * (1.0 - 1.0 / threads);
        (self.of_lines(lines) + handed) / threads + 2.0 * PHASE
    }

    /// So many elements for each place of a tile, in vectors.
    fn vectors(&self, elements: usize) -> f64 {
        (self.tiles.places() * elements) as f64 / f64::from(self.lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(tiles: Tiles, images: usize, windows: usize, channels: usize) -> Block {
        let grid = [tiles.along(windows); 2];
        let target = Target::new(16);
        Costs { tiles, images, grid, channels, columns: channels, lanes: 16, target }.block()
    }

    /// Of a small image, too, two threads have one block each at least, and equally many lines.
    #[test]
    fn small_images_are_split() {
        for (tiles, windows, channels) in [(Tiles::Four, 16, 32), (Tiles::Two, 8, 64), (Tiles::Four, 32, 16)] {
            let block = block(tiles, 1, windows, channels);
            assert!(block.is_own && block.lines.tasks().is_multiple_of(2), "{windows}, {channels}: {block:?}");
        }
    }

    /// Kernels that do not stay in the second cache are read once for all tiles; transforms of a block do stay.
    #[test]
    fn blocks_fit_the_cache() {
        assert!(!block(Tiles::Four, 1, 14, 256).is_own);
        for images in [1, 3, 64] {
            let block = block(Tiles::Four, images, 56, 64);
            assert!(block.is_own && block.lines.grain * 14 * 36 * 128 <= 2 * BLOCK as i64, "{images}: {block:?}");
        }
        let together = block(Tiles::Two, 64, 6, 32);
        assert!(together.is_own && together.images.grain > 1, "{together:?}");
    }
}
