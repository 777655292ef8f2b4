//! How a product is cut into tasks: for each way to cut it, the time that several threads would take.
//!
//! Times are in tiles, the time of one register tile with all of its terms. The pool hands tasks out in chunks; a
//! product is cut so that two threads, above all, are done at the same time, and that little is packed twice.

use super::tile::Tile;
use std::collections::VecDeque;

/// The fewest tiles of rows that make a task.
const LEAST_TILES: usize = 3;
/// Chunks of tasks that the pool hands out to each thread.
const CHUNKS: usize = 16;
/// The most products of a batch whose tasks are looked at one by one.
const SIMULATED: usize = 4;
/// Packing a panel of B takes as long as multiplying it by so many rows for each lane of a vector.
const PACK_ROWS: f64 = 1.0;
/// Reading a panel of B that another core may have packed, beside packing it: its lines come from that core's cache.
const READ_COST: f64 = 2.0;
/// Reading a tile's rows of A from far away.
const ROWS_COST: f64 = 0.3;
/// A task besides what it does, in tiles.
const TASK_COST: f64 = 0.5;
/// Rows that packing a block of B for is little work.
pub const FEW_ROWS: i64 = 192;

/// What the size of tasks is chosen by.
pub struct Work {
    /// Products, and parts of k.
    pub others: usize,
    /// Units of columns.
    pub units: usize,
    /// Panels of a unit.
    pub panels: usize,
    /// Rows of C, in tiles.
    pub tiles: usize,
    /// Into how many tasks rows are cut at least.
    pub least_cuts: usize,
    /// The most units whose packed block stays in the second cache.
    pub most_units: usize,
    /// Whether B is packed.
    pub packs: bool,
    /// The register tile.
    pub tile: Tile,
    /// The most tasks that are worth their threads.
    pub wanted: usize,
}

impl Work {
    /// Tiles of rows and units of columns of a task, those of the least [`Work::cost`] first; there is one at least.
    pub fn ranked(&self) -> Vec<(usize, usize)> {
        let most = self.wanted.div_ceil(self.others).max(1);
        let mut found: Vec<(f64, (usize, usize))> = Vec::new();
        let mut before = 0;
        for column_cuts in self.units.div_ceil(self.most_units)..=self.units {
            let units = self.units.div_ceil(column_cuts);
            let columns = self.units.div_ceil(units);
            if std::mem::replace(&mut before, units) == units {
                continue;
            }
            if columns > most && !found.is_empty() {
                break;
            }
            let row_cuts = most.div_ceil(columns).min(self.tiles.div_ceil(LEAST_TILES)).max(self.least_cuts);
            for cuts in self.least_cuts..=row_cuts {
                let tiles = self.tiles.div_ceil(cuts);
                found.push((self.cost(units, tiles), (tiles, units)));
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut ranked: Vec<(usize, usize)> = found.into_iter().map(|(_, cut)| cut).collect();
        ranked.dedup();
        if ranked.is_empty() {
            ranked.push((self.tiles.div_ceil(self.least_cuts), self.most_units.min(self.units)));
        }
        ranked
    }

    /// The time that packing a panel takes, in tiles of it.
    fn pack(&self) -> f64 {
        PACK_ROWS * f64::from(self.tile.lanes) / self.tile.rows as f64
    }

    /// The time of such tasks on two, four and eight threads, beside what it would be at best.
    fn cost(&self, units: usize, tiles: usize) -> f64 {
        let shared = self.packs && tiles < self.tiles && tiles * self.tile.rows < FEW_ROWS as usize;
        let others = self.others.min(SIMULATED);
        let all = (others * self.units * self.panels) as f64;
        let best = all * self.tiles as f64;
        let before = if shared { self.pack() * all + TASK_COST } else { 0.0 };
        let pack = match (self.packs, shared) {
            (true, true) => READ_COST * self.pack(),
            (true, false) => self.pack(),
            (false, _) => 0.0,
        };
        let mut tasks = Vec::new();
        for _ in 0..others {
            for row in (0..self.tiles).step_by(tiles) {
                let tiles = tiles.min(self.tiles - row) as f64;
                let of = |column: usize| (units.min(self.units - column) * self.panels) as f64;
                let columns = (0..self.units).step_by(units).map(of);
                tasks.extend(columns.map(|panels| tiles * (panels + ROWS_COST) + pack * panels + TASK_COST));
            }
        }
        let on = |threads: usize| (longest(&tasks, threads) + before / threads as f64) * threads as f64 / best;
        2.0 * on(2) + on(4) + 0.5 * on(8)
    }
}

/// The time until the last of some threads is done with tasks, which the pool hands out in a few chunks for each; every
/// other thread takes them from the end.
pub fn longest(tasks: &[f64], threads: usize) -> f64 {
    let mut busy = vec![0.0; threads];
    let chunks = tasks.chunks(tasks.len().div_ceil(threads * CHUNKS).max(1));
    let mut left: VecDeque<f64> = chunks.map(|chunk| chunk.iter().sum()).collect();
    while !left.is_empty() {
        let first = (0..threads).reduce(|best, other| if busy[other] < busy[best] { other } else { best }).unwrap_or(0);
        let taken = if first.is_multiple_of(2) { left.pop_front() } else { left.pop_back() };
        busy[first] += taken.unwrap_or(0.0);
    }
    busy.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::matmul::words::Factors;

    /// How much longer two threads take than if every one had half of the work.
    fn imbalance(work: &Work) -> f64 {
        let (tiles, units) = work.ranked()[0];
        let parts = |total: usize, grain: usize| -> Vec<usize> {
            (0..total).step_by(grain).map(|start| grain.min(total - start)).collect()
        };
        let mut tasks = Vec::new();
        for _ in 0..work.others {
            for rows in parts(work.tiles, tiles) {
                tasks.extend(parts(work.units, units).into_iter().map(|units| (rows * units * work.panels) as f64));
            }
        }
        2.0 * longest(&tasks, 2) / tasks.iter().sum::<f64>()
    }

    /// Small tasks at the end are not left for it: the second thread begins with them.
    #[test]
    fn every_other_thread_takes_tasks_from_the_end() {
        let tasks = [4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 2.0, 2.0];
        assert_eq!(longest(&tasks, 1), 28.0);
        assert_eq!(longest(&tasks, 2), 16.0);
        assert_eq!(longest(&tasks[2..6], 2), 8.0);
        assert_eq!(longest(&[], 2), 0.0);
    }

    /// Of products from ResNet-50 at batch 1, in tiles of 6 x 16.
    #[test]
    fn two_threads_get_about_the_same() {
        let work = |units, panels, tiles, most_units| Work {
            others: 1,
            units,
            panels,
            tiles,
            least_cuts: 1,
            most_units,
            packs: true,
            tile: Tile { rows: 6, vectors: 2, lanes: 8, last: 8, factors: Factors::One },
            wanted: 32,
        };
        let cases = [
            (64, 1, 171, 4),
            (28, 7, 11, 1),
            (7, 7, 22, 1),
            (1, 13, 43, 1),
            (1, 4, 86, 1),
            (196, 1, 11, 16),
            (4, 1, 342, 4),
        ];
        for (units, panels, tiles, most_units) in cases {
            let found = imbalance(&work(units, panels, tiles, most_units));
            assert!(found < 1.15, "{units} units of {panels} panels, {tiles} tiles: {found}");
        }
    }
}
