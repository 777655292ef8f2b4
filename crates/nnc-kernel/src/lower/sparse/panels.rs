//! Rows by a sparse matrix, vectors along its columns: blocks of neighbouring columns, and elements that are looked up.
//!
//! A bundle of lists gives a panel of columns each. For a few rows of A the sums of all its panels stay in registers
//! while the steps of the lists are walked: an entry's elements are loaded once for all rows. A block repeats A's
//! element at its k; a look-up takes A's elements of its window by their places there.

use super::cost::TILE_ROWS;
use super::lists::{Form, LOOKED_UP};
use crate::ir::{Builder, Direction, Elem, Memory, Type, Value};
use crate::lower::Lowering;
use crate::lower::evaluate::Point;
use crate::lower::loops::Split;
use crate::lower::matmul::product::{RowSource, Target, in_tiles};
use crate::lower::matmul::tile::{Rows, Tile};
use crate::lower::matmul::words::Factors;
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::sparse::{Sizes, Tables, origin};

/// Rows of a tile of look-ups.
const LOOK_UP_ROWS: usize = 8;
/// Entries of a task.
const TASK_ENTRIES: usize = 1 << 12;
/// The most tasks that bundles are cut into.
const MOST_TASKS: usize = 8;
/// Multiply-adds of a task.
const TASK_PRODUCTS: usize = 1 << 19;

/// Builds the kernel's phase.
pub fn emit(
    lowering: &Lowering<'_>,
    draft: &mut KernelDraft,
    target: Target<'_, '_>,
    shape: &Sizes,
    (a, tables): (&Place, &Tables),
) {
    let [down, along] = [a.layout.strides[0], a.layout.strides[1]];
    let panels = Panels::new(lowering, *shape, tables, along);
    let target = Target { spill: Some(panels.spill(draft)), ..target };
    let memory = draft.param(a.buffer, a.elem, Direction::In);
    let (rows, bundles) = panels.tasks();
    draft.builder.phase(rows.tasks() * bundles.tasks(), |b, task| {
        let count = b.index(bundles.tasks() as i64);
        let (row, bundle) = (b.div(task, count), b.rem(task, count));
        let (rows, bundles) = (rows.bounds(b, row), bundles.bounds(b, bundle));
        let first = b.index(a.layout.offset);
        let block = Block { a: (memory, RowSource::Even(first, down)), point: origin(b), first: b.index(0) };
        panels.rows(b, &target, &block, rows, bundles);
    });
}

/// The loops over panels of columns.
pub struct Panels<'a> {
    shape: Sizes,
    tile: Tile,
    tables: &'a Tables,
    /// Elements of A for each step of an index.
    along: i64,
}

/// Rows that panels are multiplied with.
pub struct Block {
    /// Memory of A, and its rows.
    pub a: (Memory, RowSource),
    /// The coordinates of the block.
    pub point: Point,
    /// The row of the result that the first one is.
    pub first: Value,
}

impl<'a> Panels<'a> {
    /// Of a product with so many rows in all blocks of the same point.
    pub fn new(lowering: &Lowering<'_>, shape: Sizes, tables: &'a Tables, along: i64) -> Self {
        let (lanes, most_rows) = match tables.form {
            Form::LookUp => (LOOKED_UP as u8, LOOK_UP_ROWS),
            Form::Blocks(_) | Form::Elements => (lowering.lanes_of(Elem::F32), TILE_ROWS),
        };
        let width = tables.form.width();
        let lanes = lanes.min(width as u8);
        let (rows, vectors) = (shape.rows.min(most_rows), width / usize::from(lanes));
        Self { shape, tile: Tile { rows, vectors, lanes, last: lanes, factors: Factors::One }, tables, along }
    }

    /// Room for a tile.
    pub fn spill(&self, draft: &mut KernelDraft) -> Memory {
        draft.builder.scratch(Elem::F32, self.tile.rows * self.tile.columns())
    }

    /// Rows of a tile.
    pub fn tile_rows(&self) -> usize {
        self.tile.rows
    }

    /// How rows and bundles are cut into tasks.
    fn tasks(&self) -> (Split, Split) {
        let entries = self.tables.bundles * self.tables.together;
        let products = self.shape.rows * self.shape.columns * self.shape.depth;
        let wanted = (products / TASK_PRODUCTS).clamp(1, 32);
        let tiles = self.shape.rows.div_ceil(self.tile.rows);
        let row_tasks = wanted.min(tiles);
        let bundle_tasks = match row_tasks {
            1 => (self.shape.columns * self.shape.depth / 8 / TASK_ENTRIES).clamp(1, MOST_TASKS).min(entries),
            _ => 1,
        };
        let rows = Split::new(self.shape.rows, tiles.div_ceil(row_tasks) * self.tile.rows, self.tile.rows);
        (rows, Split::new(self.tables.bundles, self.tables.bundles.div_ceil(bundle_tasks), 1))
    }

    /// Some rows, a tile's at a time.
    pub fn rows(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        block: &Block,
        rows: (Value, Value),
        bundles: (Value, Value),
    ) {
        in_tiles(b, rows, (self.shape.rows, self.tile.rows), |b, row, rows| {
            self.bundles(b, (target, block), Tile { rows, ..self.tile }, row, bundles);
        });
    }

    /// A tile's rows by some bundles.
    fn bundles(
        &self,
        b: &mut Builder,
        (target, block): (&Target<'_, '_>, &Block),
        tile: Tile,
        row: Value,
        bundles: (Value, Value),
    ) {
        let rows = block.a.1.starts(b, row, tile.rows);
        let row = b.add(row, block.first);
        let together = self.tables.together;
        let one = b.index(1);
        b.for_loop(bundles.0, bundles.1, one, &[], |b, bundle, _| {
            let (start, end) = self.tables.steps(b, bundle);
            let zero = b.zero(Type::vector(Elem::F32, tile.lanes));
            let sums = vec![zero; together * tile.rows * tile.vectors];
            let sums =
                b.for_loop(start, end, one, &sums, |b, step, sums| self.step(b, tile, (block.a.0, &rows), step, sums));
            let each = tile.rows * tile.vectors;
            for (at, sums) in sums.chunks(each).enumerate() {
                let list = b.affine(&[(bundle, together as i64)], at as i64);
                self.finish(b, (target, &block.point), tile, (row, list), sums);
            }
            vec![]
        });
    }

    /// One step of every list of a bundle.
    fn step(&self, b: &mut Builder, tile: Tile, a: (Memory, &Rows), step: Value, sums: &[Value]) -> Vec<Value> {
        let together = self.tables.together;
        let each = tile.rows * tile.vectors;
        let mut next = Vec::with_capacity(sums.len());
        for (at, sums) in sums.chunks(each).enumerate() {
            let entry = b.affine(&[(step, together as i64)], at as i64);
            let index = self.tables.index(b, entry);
            let elements = b.mul_index(entry, tile.columns() as i64);
            let places = (self.tables.form == Form::LookUp).then(|| self.tables.places(b, entry, tile.lanes));
            let vector = |b: &mut Builder, vector: usize| {
                let place = b.add_index(elements, vector as i64 * i64::from(tile.lanes));
                b.load(self.tables.elements, place, tile.lanes)
            };
            if tile.rows == 1 {
                // Read but once, a vector is an operand of its multiply-add.
                let x = self.factor(b, tile, (a, 0), index, places);
                for (at, &sum) in sums.iter().enumerate() {
                    let vector = vector(b, at);
                    next.push(b.fma(x, vector, sum));
                }
                continue;
            }
            let vectors: Vec<Value> = (0..tile.vectors).map(|at| vector(b, at)).collect();
            for row in 0..tile.rows {
                let x = self.factor(b, tile, (a, row), index, places);
                let sums = sums[row * tile.vectors..][..tile.vectors].iter().zip(&vectors);
                next.extend(sums.map(|(&sum, &vector)| b.fma(x, vector, sum)));
            }
        }
        next
    }

    /// A's element at a k in every lane, or the elements of a window at their places.
    fn factor(
        &self,
        b: &mut Builder,
        tile: Tile,
        ((memory, rows), row): ((Memory, &Rows), usize),
        index: Value,
        places: Option<Value>,
    ) -> Value {
        let (first, moved) = match rows {
            Rows::Even(first, step) => (*first, row as i64 * step),
            Rows::Lines(first, spacing) => (*first, spacing.offset(row)),
            Rows::Each(starts) => (starts[row], 0),
        };
        let place = b.affine(&[(first, 1), (index, self.along)], moved);
        match places {
            None => b.load_splat(memory, place, tile.lanes),
            Some(places) => {
                let window = b.load(memory, place, tile.lanes);
                b.look_up(window, places)
            }
        }
    }

    /// The epilogue of a panel; the last one may have fewer columns, and lists that fill up a bundle have none.
    fn finish(
        &self,
        b: &mut Builder,
        (target, point): (&Target<'_, '_>, &Point),
        tile: Tile,
        (row, list): (Value, Value),
        sums: &[Value],
    ) {
        let (full, rest) = (self.shape.columns / tile.columns(), self.shape.columns % tile.columns());
        let column = b.mul_index(list, tile.columns() as i64);
        let whole = b.index(full as i64);
        let is_whole = b.lt(list, whole);
        b.if_then(is_whole, |b| target.finish(b, tile, point, (row, column), tile.columns(), sums));
        if rest > 0 {
            let is_last = b.eq(list, whole);
            b.if_then(is_last, |b| target.finish(b, tile, point, (row, column), rest, sums));
        }
    }
}
