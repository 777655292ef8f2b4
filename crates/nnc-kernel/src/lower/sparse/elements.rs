//! Rows by a sparse matrix, element by element, vectors along the rows.
//!
//! A task has a block of rows and some columns. It transposes its rows of A to `[k][row]`, so that a k is a few vectors
//! of rows; each element of the matrix is repeated in a vector and multiplied with them. Many terms are taken a slab at
//! a time, whose rows stay in the caches; the sums wait in memory meanwhile. The lists of several columns are walked
//! together, so that several sums hide the latency of a multiply-add; columns stand in the order of their numbers of
//! terms, so that lists which are walked together are about equally long. What comes out, `[column][row]`, is
//! transposed back in registers, where a short epilogue follows at once. (Elsen, Dukhan, Gale, Simonyan, "Fast Sparse
//! ConvNets", 2020.)
//!
//! Rows of A are those of a matrix ([`super::rows`]) or the windows of an image ([`super::planes`]): where the vector
//! of a term lies is a number of the tables, and the same for both.

use super::lists::Lists;
use super::pattern::Pattern;
use super::turn::{self, ROWS};
use crate::ir::{Builder, Elem, Memory, Type, Value};
use crate::lower::Lowering;
use crate::lower::evaluate::{Known, Point};
use crate::lower::loops::{Split, span, widths_of};
use crate::lower::matmul::pack::{self, Packed};
use crate::lower::matmul::product::Target;
use crate::lower::memory::KernelDraft;
use crate::lower::sparse::{Sizes, Tables, number};

/// Multiply-adds of a task.
const TASK_PRODUCTS: usize = 1 << 18;
/// Rows that a block has about, for the number of tasks, which does not depend on the machine.
const USUAL_ROWS: usize = 16;
/// The most terms that are taken at a time.
const SLAB: usize = 256;
/// Columns whose sums are finished at a time, while they stay in the first cache; a multiple of all lists of a bundle.
const CHUNK: usize = 24;
/// Bytes of turned rows that stay in the first cache, and how much longer loads take that do not.
const FIRST_CACHE: usize = 28 << 10;
const FAR_COST: f64 = 1.15;
/// The most tasks of a block of rows, and the fewest columns of one: each transposes the rows anew.
const MOST_CUTS: usize = 4;
const LEAST_COLUMNS: usize = 64;
/// Rows of the widest vector, which blocks consist of.
pub const UNIT: usize = 16;
/// The most of them in a block.
pub const MOST_UNITS: usize = 7;
/// What an element of the matrix costs besides its multiply-adds of a block, in those of [`UNIT`] rows.
const ELEMENT_COST: f64 = 0.7;

/// How the columns and terms of a product are cut.
pub struct Blocks {
    columns: Split,
    /// Terms that are taken at a time.
    slabs: Split,
    /// Rows of a block, with what lies between them.
    pub height: usize,
}

impl Blocks {
    /// The blocks of a product of rows by so many elements.
    pub fn of_rows(shape: &Sizes, elements: usize) -> Self {
        let slabs = Split::new(shape.depth, slab(shape.depth), 1);
        Self { columns: columns(shape, elements), slabs, height: block_rows(shape.rows, shape.depth) }
    }

    /// Those of a product whose terms are taken at once, with so many rows in a block.
    pub fn whole(shape: &Sizes, elements: usize, height: usize) -> Self {
        Self { columns: columns(shape, elements), slabs: Split::new(shape.depth, shape.depth, 1), height }
    }

    /// How many lists are walked side by side: enough sums to hide the latency of each, and few enough for the
    /// registers.
    pub fn together(&self) -> usize {
        match self.height {
            0..=8 => 8,
            9..=16 => 4,
            17..=32 => 3,
            _ => 2,
        }
    }

    /// What an element of the matrix costs for so many rows, as in [`element_cost`].
    pub fn cost(&self, rows: usize) -> f64 {
        let block = |rows: usize| element_cost(rows, rows * self.terms(), 1.0);
        rows.div_ceil(self.height) as f64 * block(self.height.min(rows))
    }

    /// Columns whose sums are finished at a time: where they wait for the terms of another slab, all of the task.
    fn chunk(&self) -> Split {
        let columns = self.columns.grain as usize;
        Split::new(columns, if self.slabs.tasks() > 1 { columns } else { CHUNK }, 1)
    }

    /// The most terms that are taken at a time.
    pub fn terms(&self) -> usize {
        self.slabs.grain as usize
    }

    /// How many tasks a block of rows has.
    pub fn cuts(&self) -> u64 {
        self.columns.tasks()
    }

    /// The lists of each task's columns after those of the one before, slab by slab and chunk by chunk, and for each
    /// list its column within the chunk.
    pub fn lists(&self, pattern: &Pattern) -> (Lists, Vec<usize>) {
        let (grain, slab) = (self.columns.grain as usize, self.terms());
        let (chunk, together) = (self.chunk().grain as usize, self.together());
        let (mut all, mut order) = (Vec::new(), Vec::new());
        for task in (0..self.cuts() as usize).map(|cut| cut * grain) {
            for start in (0..pattern.depth).step_by(slab) {
                for first in (task..task + grain).step_by(chunk) {
                    let columns = first..(first + chunk).min(task + grain);
                    let list = |column: usize| (column, pattern.terms_within(column, start..start + slab));
                    let mut lists: Vec<(usize, Vec<usize>)> = columns.map(list).collect();
                    lists.sort_by_key(|(_, terms)| std::cmp::Reverse(terms.len()));
                    lists.resize(lists.len().next_multiple_of(together), (first + chunk, Vec::new()));
                    order.extend(lists.iter().map(|(column, _)| column - first));
                    all.extend(lists.into_iter().map(|(column, terms)| (column, start, terms)));
                }
            }
        }
        (Lists::of_elements(&all, together), order)
    }
}

/// The columns of a task.
fn columns(shape: &Sizes, elements: usize) -> Split {
    let wanted = (shape.rows * elements / TASK_PRODUCTS).clamp(1, 16);
    let most = (shape.columns / LEAST_COLUMNS).clamp(1, MOST_CUTS);
    let cuts = wanted.div_ceil(shape.rows.div_ceil(USUAL_ROWS)).min(most);
    Split::new(shape.columns, shape.columns.div_ceil(cuts), 16)
}

/// Terms that are taken at a time.
fn slab(depth: usize) -> usize {
    depth.div_ceil(depth.div_ceil(SLAB).max(1))
}

/// Rows of a block of a product with so many rows and terms, so that the last one is nearly full and their terms are
/// near.
fn block_rows(rows: usize, depth: usize) -> usize {
    if rows <= UNIT {
        return rows.next_multiple_of(UNIT / 2);
    }
    let units = rows.div_ceil(UNIT);
    let of = |of_block: usize| {
        units.div_ceil(of_block) as f64 * element_cost(UNIT * of_block, UNIT * of_block * slab(depth), 1.0)
    };
    UNIT * (1..=MOST_UNITS).min_by(|a, b| of(*a).total_cmp(&of(*b))).unwrap_or(MOST_UNITS)
}

/// What an element of the matrix costs for a block of so many rows, of which so many turned elements are read, in
/// multiply-adds of [`UNIT`] rows; `load` is how much longer one takes for where its rows lie.
pub fn element_cost(rows: usize, turned: usize, load: f64) -> f64 {
    let far = if 4 * turned > FIRST_CACHE { FAR_COST } else { 1.0 };
    rows.div_ceil(UNIT) as f64 * far * load + ELEMENT_COST
}

/// A run of sums that belong to rows of the result which follow one another.
pub struct Run {
    /// Its first place among the sums of a column.
    pub first: Value,
    /// How many.
    pub count: Value,
    /// Its first row.
    pub row: Value,
}

/// The rows of A of a task.
pub trait Source {
    /// Brings the terms of a range to where the tables say.
    fn turn(&self, b: &mut Builder, to: Memory, terms: (Value, Value));
    /// How many places of a column have sums, with what lies between runs.
    fn places(&self) -> Value;
    /// Calls `body` for all runs.
    fn each_run(&self, b: &mut Builder, body: &mut dyn FnMut(&mut Builder, Run));
}

/// A kernel's loops over columns and terms.
pub struct Body<'a> {
    blocks: &'a Blocks,
    lanes: u8,
    /// Vectors of rows that are done together.
    vectors: usize,
    /// Elements between the sums of columns.
    height: usize,
    /// Elements between rows of finished sums.
    stride: usize,
    tables: &'a Tables,
    /// For each list its column within the task's.
    order: Memory,
    /// A block of A, `[k][row]`.
    turned: Memory,
    /// Sums as `[column][row]`.
    sums: Memory,
    /// The same as `[row][column]`.
    lines: Memory,
}

impl<'a> Body<'a> {
    /// With scratch memory for the blocks; `turned` elements of it for the rows of A.
    pub fn new(
        lowering: &Lowering<'_>,
        draft: &mut KernelDraft,
        blocks: &'a Blocks,
        (tables, order): (&'a Tables, Memory),
        turned: usize,
    ) -> Self {
        let lanes = lowering.lanes_of(Elem::F32);
        let all = blocks.height.div_ceil(usize::from(lanes));
        // Sums, an element, and one to spare.
        let most = (lowering.target.registers() - 2) / tables.together;
        let groups = all.div_ceil(most.min(MOST_UNITS));
        let vectors = all.div_ceil(groups);
        let height = groups * vectors * usize::from(lanes);
        let chunk = blocks.chunk().grain as usize;
        let stride = chunk.next_multiple_of(usize::from(lanes)) + 16;
        let scratch = |draft: &mut KernelDraft, elements| draft.builder.scratch(Elem::F32, elements);
        Self {
            blocks,
            lanes,
            vectors,
            height,
            stride,
            tables,
            order,
            // The last vector may reach beyond the rows of the last term.
            turned: scratch(draft, turned + height),
            // A column more than there are, for lists that fill up a bundle.
            sums: scratch(draft, (chunk + usize::from(lanes)) * height),
            lines: scratch(draft, blocks.height * stride),
        }
    }

    /// Whether sums wait in memory for the terms of another slab.
    fn has_slabs(&self) -> bool {
        self.blocks.slabs.tasks() > 1
    }

    /// All of a task: rows of a source by the columns of a cut.
    pub fn task(&self, b: &mut Builder, to: (&Target<'_, '_>, &Point), source: &dyn Source, cut: Value) {
        let columns = self.blocks.columns.bounds(b, cut);
        let chunk = self.blocks.chunk();
        let steps = |columns: i64| (columns as usize).div_ceil(self.tables.together) as i64;
        let all = self.tables.bundles as i64 / self.blocks.cuts() as i64;
        let first = b.mul_index(cut, all);
        let (zero, one) = (b.index(0), b.index(1));
        if self.has_slabs() {
            pack::clear(b, self.sums, chunk.grain as usize * self.height, self.lanes);
            b.for_each(self.blocks.slabs.tasks() as i64, |b, slab| {
                let terms = self.blocks.slabs.bounds(b, slab);
                source.turn(b, self.turned, terms);
                let of_slab = steps(chunk.grain);
                let first = b.affine(&[(first, 1), (slab, of_slab)], 0);
                let end = b.add_index(first, of_slab);
                self.bundles(b, source, (first, end));
            });
            return self.finish(b, to, source, columns);
        }
        let terms = self.blocks.slabs.bounds(b, zero);
        source.turn(b, self.turned, terms);
        let (last, chunks) = (b.add_index(first, all), b.index(chunk.tasks() as i64));
        b.for_loop(zero, chunks, one, &[], |b, at, _| {
            let (start, end) = chunk.bounds(b, at);
            let (start, end) = (b.add(columns.0, start), b.add(columns.0, end));
            let end = b.min(end, columns.1);
            let first = b.affine(&[(first, 1), (at, steps(chunk.grain))], 0);
            let next = b.add_index(first, steps(chunk.grain));
            let next = b.min(next, last);
            self.bundles(b, source, (first, next));
            self.finish(b, to, source, (start, end));
            vec![]
        });
    }

    /// The sums of some bundles, a few vectors of rows at a time.
    fn bundles(&self, b: &mut Builder, source: &dyn Source, (first, end): (Value, Value)) {
        let (zero, one) = (b.index(0), b.index(1));
        let group = b.index((self.vectors * usize::from(self.lanes)) as i64);
        b.for_loop(zero, source.places(), group, &[], |b, place, _| {
            b.for_loop(first, end, one, &[], |b, bundle, _| {
                self.bundle(b, bundle, place);
                vec![]
            });
            vec![]
        });
    }

    /// The epilogue of some columns.
    fn finish(&self, b: &mut Builder, to: (&Target<'_, '_>, &Point), source: &dyn Source, columns: (Value, Value)) {
        source.each_run(b, &mut |b, run| match to.0.is_short() {
            true => self.finish_run(b, to, &run, columns),
            false => self.finish_by_lines(b, to, &run, columns),
        });
    }

    /// The epilogue of a run, from registers.
    fn finish_run(
        &self,
        b: &mut Builder,
        (target, point): (&Target<'_, '_>, &Point),
        run: &Run,
        columns: (Value, Value),
    ) {
        let zero = b.index(0);
        let square = self.lanes.min(ROWS);
        span(b, columns, &[square, 1], |b, column, width| {
            let mut point = Point { lanes: width, ..point.clone() };
            point.coordinates[target.column_axis] = column;
            let mut known = Known::default();
            target.frame.hoist_lanes(b, &point, &mut known, |axis| axis == target.row_axis);
            let from = b.sub(column, columns.0);
            let from = b.affine(&[(from, self.height as i64), (run.first, 1)], 0);
            let rows_at_once = if width == square { vec![4, 1] } else { vec![1] };
            span(b, (zero, run.count), &rows_at_once, |b, at, rows| {
                let (from, row) = (b.add(from, at), b.add(run.row, at));
                let sums = match rows {
                    1 => {
                        let step = b.index(self.height as i64);
                        vec![b.load_strided(self.sums, from, step, width)]
                    }
                    _ => turn::columns(b, (self.sums, from, self.height as i64), width),
                };
                for (line, sum) in sums.into_iter().enumerate() {
                    let row = b.add_index(row, line as i64);
                    target.at(b, &point, (row, column), width, &known, sum);
                }
            });
        });
    }

    /// The epilogue of a run, line by line, transposed in memory.
    fn finish_by_lines(
        &self,
        b: &mut Builder,
        (target, point): (&Target<'_, '_>, &Point),
        run: &Run,
        columns: (Value, Value),
    ) {
        let (zero, one, width) = (b.index(0), b.index(1), b.sub(columns.1, columns.0));
        let from = pack::Matrix { memory: self.sums, first: run.first, row: 1, column: self.height as i64 };
        let stride = self.stride as i64;
        let to = Packed { memory: self.lines, row: stride, column: 1, panel: stride };
        pack::pack(b, &from, (run.count, width), (&to, zero), &[self.lanes]);
        let widths = widths_of(b, width, self.lanes);
        b.for_loop(zero, run.count, one, &[], |b, at, _| {
            let (row, line) = (b.add(run.row, at), b.mul_index(at, stride));
            target.line(b, point, (row, columns.0), (zero, width), (self.lines, line), &widths);
            vec![]
        });
    }

    /// Adds the terms of the lists of a bundle to the sums of their columns, of some vectors of rows from a place on.
    fn bundle(&self, b: &mut Builder, bundle: Value, place: Value) {
        let together = self.tables.together;
        let (start, end) = self.tables.steps(b, bundle);
        let places: Vec<Value> = (0..together)
            .flat_map(|at| {
                let list = b.affine(&[(bundle, together as i64)], at as i64);
                let column = number(b, self.order, list);
                let first = b.affine(&[(column, self.height as i64), (place, 1)], 0);
                let vectors = 0..self.vectors as i64;
                vectors.map(|vector| b.add_index(first, vector * i64::from(self.lanes))).collect::<Vec<_>>()
            })
            .collect();
        let zero = b.zero(Type::vector(Elem::F32, self.lanes));
        let sums: Vec<Value> = match self.has_slabs() {
            true => places.iter().map(|&place| b.load(self.sums, place, self.lanes)).collect(),
            false => vec![zero; places.len()],
        };
        let one = b.index(1);
        let sums = b.for_loop(start, end, one, &sums, |b, step, sums| self.step(b, step, place, sums));
        places.into_iter().zip(sums).for_each(|(place, sum)| b.store(self.sums, place, sum));
    }

    /// One step of every list of a bundle.
    fn step(&self, b: &mut Builder, step: Value, place: Value, sums: &[Value]) -> Vec<Value> {
        let together = self.tables.together;
        let mut next = Vec::with_capacity(sums.len());
        for (at, sums) in sums.chunks(self.vectors).enumerate() {
            let entry = b.affine(&[(step, together as i64)], at as i64);
            let index = self.tables.index(b, entry);
            let element = b.load_splat(self.tables.elements, entry, self.lanes);
            let first = b.add(index, place);
            for (vector, &sum) in sums.iter().enumerate() {
                let place = b.add_index(first, (vector * usize::from(self.lanes)) as i64);
                let x = b.load(self.turned, place, self.lanes);
                next.push(b.fma(element, x, sum));
            }
        }
        next
    }
}
