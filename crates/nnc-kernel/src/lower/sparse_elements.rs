//! Rows by a sparse matrix, element by element, vectors along the rows.
//!
//! A task has a block of rows and some columns. It transposes its rows of A to `[k][row]`, so that a k is a few vectors of
//! rows; each element of the matrix is repeated in a vector and multiplied with them. Many terms are taken a slab at a
//! time, whose rows stay in the first cache; the sums wait in memory meanwhile. The lists of several columns are walked
//! together, so that eight sums hide the latency of a multiply-add; columns stand in the order of their numbers of terms,
//! so that lists which are walked together are about equally long. What comes out, `[column][row]`, is transposed back
//! in registers, where a short epilogue follows at once. (Elsen, Dukhan, Gale, Simonyan, "Fast Sparse ConvNets", 2020.)

use super::Lowering;
use super::evaluate::Known;
use super::loops::{Split, span, widths_of};
use super::memory::{KernelDraft, Place};
use super::pack::{self, Matrix, Packed};
use super::product::Target;
use super::sparse::{Sizes, Tables, number, origin};
use super::sparse_lists::Lists;
use super::sparse_pattern::Pattern;
use crate::ir::{Builder, Direction, Elem, Memory, Type, Value};

/// Multiply-adds of a task.
const TASK_PRODUCTS: usize = 1 << 18;
/// Rows that a block has about, for the number of tasks, which does not depend on the machine.
const USUAL_ROWS: usize = 16;
/// The most terms whose rows stay in the first cache.
const SLAB: usize = 256;
/// The most tasks of a block of rows, and the fewest columns of one: each transposes the rows anew.
const MOST_CUTS: usize = 4;
const LEAST_COLUMNS: usize = 64;

/// How a product is cut.
pub struct Blocks {
    shape: Sizes,
    columns: Split,
    /// Terms that are taken at a time.
    slabs: Split,
    /// Vectors of rows of a block.
    vectors: usize,
}

impl Blocks {
    /// The blocks of a product with so many elements in its matrix.
    pub fn new(shape: &Sizes, elements: usize) -> Self {
        let wanted = (shape.rows * elements / TASK_PRODUCTS).clamp(1, 16);
        let most = (shape.columns / LEAST_COLUMNS).clamp(1, MOST_CUTS);
        let cuts = wanted.div_ceil(shape.rows.div_ceil(USUAL_ROWS)).min(most);
        let columns = Split::new(shape.columns, shape.columns.div_ceil(cuts), 16);
        let slabs = Split::new(shape.depth, shape.depth.div_ceil(shape.depth.div_ceil(SLAB)), 8);
        Self { shape: *shape, columns, slabs, vectors: vectors(shape.rows) }
    }

    /// The lists of each task's columns after those of the one before, slab by slab, and for each list its column within
    /// the task's.
    pub fn lists(&self, pattern: &Pattern, together: usize) -> (Lists, Vec<usize>) {
        let (grain, slab) = (self.columns.grain as usize, self.slabs.grain as usize);
        let (mut all, mut order) = (Vec::new(), Vec::new());
        for first in (0..self.columns.tasks() as usize).map(|cut| cut * grain) {
            for start in (0..pattern.depth).step_by(slab) {
                let list = |column: usize| (column, pattern.terms_within(column, start..start + slab));
                let mut lists: Vec<(usize, Vec<usize>)> = (first..first + grain).map(list).collect();
                lists.sort_by_key(|(_, terms)| std::cmp::Reverse(terms.len()));
                lists.resize(grain.next_multiple_of(together), (first + grain, Vec::new()));
                order.extend(lists.iter().map(|(column, _)| column - first));
                all.extend(lists.into_iter().map(|(column, terms)| (column, start, terms)));
            }
        }
        (Lists::of_elements(&all, together), order)
    }
}

/// Vectors of rows of a block, of eight lanes: as many as the rows fill, up to four.
pub fn vectors(rows: usize) -> usize {
    match rows {
        0..=8 => 1,
        9..=16 => 2,
        _ => 4,
    }
}

/// Builds the kernel's phase.
pub fn emit(
    lowering: &Lowering<'_>,
    draft: &mut KernelDraft,
    target: &Target<'_, '_>,
    blocks: &Blocks,
    (a, tables, order): (&Place, &Tables, Memory),
) {
    let lanes = lowering.lanes_of(Elem::F32);
    let height = blocks.vectors * usize::from(lanes);
    let grain = blocks.columns.grain as usize;
    let stride = grain.next_multiple_of(usize::from(lanes)) + 16;
    let scratch = |draft: &mut KernelDraft, elements| draft.builder.scratch(Elem::F32, elements);
    let body = Body {
        blocks,
        lanes,
        height,
        stride,
        a: (a, draft.param(a.buffer, a.elem, Direction::In)),
        tables,
        order,
        turned: scratch(draft, blocks.slabs.grain as usize * height),
        // A column more than there are, for lists that fill up a bundle.
        sums: scratch(draft, (grain.next_multiple_of(usize::from(lanes)) + 1) * height),
        lines: scratch(draft, height * stride),
    };
    let rows = Split::new(blocks.shape.rows, height, 1);
    let cuts = blocks.columns.tasks();
    draft.builder.phase(rows.tasks() * cuts, |b, task| {
        let count = b.index(cuts as i64);
        let (row, cut) = (b.div(task, count), b.rem(task, count));
        let rows = rows.bounds(b, row);
        body.task(b, target, rows, cut);
    });
}

struct Body<'a> {
    blocks: &'a Blocks,
    lanes: u8,
    /// Rows of a block.
    height: usize,
    /// Elements between rows of finished sums.
    stride: usize,
    a: (&'a Place, Memory),
    tables: &'a Tables,
    /// For each list its column within the task's.
    order: Memory,
    /// A block of A as `[k][row]`.
    turned: Memory,
    /// Sums as `[column][row]`.
    sums: Memory,
    /// The same as `[row][column]`.
    lines: Memory,
}

impl Body<'_> {
    fn cuts(&self) -> usize {
        self.blocks.columns.tasks() as usize
    }

    /// Whether sums wait in memory for the terms of another slab.
    fn has_slabs(&self) -> bool {
        self.blocks.slabs.tasks() > 1
    }

    fn task(&self, b: &mut Builder, target: &Target<'_, '_>, rows: (Value, Value), cut: Value) {
        let count = b.sub(rows.1, rows.0);
        if self.has_slabs() {
            let columns = (self.blocks.columns.grain as usize + 1) * self.height;
            pack::clear(b, self.sums, columns, self.lanes);
        }
        let (zero, one, slabs) = (b.index(0), b.index(1), b.index(self.blocks.slabs.tasks() as i64));
        let bundles = (self.tables.bundles / self.cuts()) as i64;
        let of_slab = bundles / self.blocks.slabs.tasks() as i64;
        b.for_loop(zero, slabs, one, &[], |b, slab, _| {
            let terms = self.blocks.slabs.bounds(b, slab);
            self.turn(b, rows.0, count, terms);
            let first = b.affine(&[(cut, bundles), (slab, of_slab)], 0);
            let end = b.add_index(first, of_slab);
            b.for_loop(first, end, one, &[], |b, bundle, _| {
                self.bundle(b, bundle);
                vec![]
            });
            vec![]
        });
        let columns = self.blocks.columns.bounds(b, cut);
        let all = b.index(self.height as i64);
        if !target.is_short() {
            return self.finish_by_lines(b, target, (rows.0, count), columns);
        }
        if self.blocks.shape.rows.is_multiple_of(self.height) {
            return self.finish(b, target, rows.0, columns);
        }
        let is_whole = b.eq(count, all);
        b.if_else(
            is_whole,
            |b| {
                self.finish(b, target, rows.0, columns);
                vec![]
            },
            |b| {
                self.finish_by_lines(b, target, (rows.0, count), columns);
                vec![]
            },
        );
    }

    /// The epilogue of whole vectors of rows, from registers; of the columns that make no vector by way of memory.
    fn finish(&self, b: &mut Builder, target: &Target<'_, '_>, row: Value, columns: (Value, Value)) {
        let (width, step) = (b.sub(columns.1, columns.0), b.index(i64::from(self.lanes)));
        let vectors = b.div(width, step);
        let whole = b.mul(vectors, step);
        let end = b.add(columns.0, whole);
        b.for_loop(columns.0, end, step, &[], |b, column, _| {
            let mut point = origin(b);
            point.lanes = self.lanes;
            point.coordinates[target.column_axis] = column;
            let mut known = Known::default();
            target.frame.hoist_lanes(b, &point, &mut known, |axis| axis == target.row_axis);
            let from = b.sub(column, columns.0);
            for vector in 0..self.blocks.vectors {
                let first = vector as i64 * i64::from(self.lanes);
                let place = b.affine(&[(from, self.height as i64)], first);
                let sums: Vec<Value> = (0..i64::from(self.lanes))
                    .map(|line| {
                        let place = b.add_index(place, line * self.height as i64);
                        b.load(self.sums, place, self.lanes)
                    })
                    .collect();
                for (line, sum) in b.transpose(&sums).into_iter().enumerate() {
                    let row = b.add_index(row, first + line as i64);
                    target.at(b, &point, (row, column), self.lanes, &known, sum);
                }
            }
            vec![]
        });
        let rest = b.lt(end, columns.1);
        b.if_then(rest, |b| {
            let all = b.index(self.height as i64);
            self.finish_by_lines(b, target, (row, all), (end, columns.1));
        });
    }

    /// The epilogue of some columns, line by line, transposed in memory.
    fn finish_by_lines(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        (first, count): (Value, Value),
        columns: (Value, Value),
    ) {
        let (zero, one, width) = (b.index(0), b.index(1), b.sub(columns.1, columns.0));
        let grain = b.index(self.blocks.columns.grain);
        let from = b.rem(columns.0, grain);
        self.turn_back(b, count, (from, width));
        let (point, widths) = (origin(b), widths_of(b, width, self.lanes));
        b.for_loop(zero, count, one, &[], |b, at, _| {
            let (row, line) = (b.add(first, at), b.mul_index(at, self.stride as i64));
            target.line(b, &point, (row, columns.0), (zero, width), (self.lines, line), &widths);
            vec![]
        });
    }

    /// Some terms of the rows of A from `row` on, as `[k][row]`.
    fn turn(&self, b: &mut Builder, row: Value, count: Value, terms: (Value, Value)) {
        let layout = &self.a.0.layout;
        let [down, along] = [layout.strides[0], layout.strides[1]];
        let first = b.affine(&[(row, down), (terms.0, along)], layout.offset);
        let terms = b.sub(terms.1, terms.0);
        if along != 1 {
            return self.turn_some(b, first, (count, terms));
        }
        let all = b.index(self.height as i64);
        let is_whole = b.eq(count, all);
        b.if_else(
            is_whole,
            |b| {
                self.turn_whole(b, first, down, terms);
                vec![]
            },
            |b| {
                self.turn_some(b, first, (count, terms));
                vec![]
            },
        );
    }

    /// As [`Self::turn`], of any number of rows by any strides.
    fn turn_some(&self, b: &mut Builder, first: Value, (count, terms): (Value, Value)) {
        let layout = &self.a.0.layout;
        let [down, along] = [layout.strides[0], layout.strides[1]];
        let from = Matrix { memory: self.a.1, first, row: along, column: down };
        let (depth, height) = (self.blocks.slabs.grain, self.height as i64);
        let zero = b.index(0);
        pack::pack(b, &from, (terms, count), (&Packed::panels(self.turned, depth, height), zero), self.lanes);
    }

    /// As many rows as a block has, whose terms lie side by side: squares are transposed in registers.
    fn turn_whole(&self, b: &mut Builder, first: Value, down: i64, terms: Value) {
        let zero = b.index(0);
        let widths = widths_of(b, terms, self.lanes);
        span(b, (zero, terms), &widths, |b, k, width| {
            let (source, target) = (b.add(first, k), b.mul_index(k, self.height as i64));
            for square in (0..self.height).step_by(usize::from(width)) {
                let lines: Vec<Value> = (square as i64..square as i64 + i64::from(width))
                    .map(|line| {
                        let place = b.add_index(source, line * down);
                        b.load(self.a.1, place, width)
                    })
                    .collect();
                for (line, value) in b.transpose(&lines).into_iter().enumerate() {
                    let place = b.add_index(target, (line * self.height + square) as i64);
                    b.store(self.turned, place, value);
                }
            }
        });
    }

    /// The sums of some of the task's columns, as `[row][column]`.
    fn turn_back(&self, b: &mut Builder, count: Value, (column, width): (Value, Value)) {
        let (zero, first) = (b.index(0), b.mul_index(column, self.height as i64));
        let from = Matrix { memory: self.sums, first, row: 1, column: self.height as i64 };
        let to = Packed { memory: self.lines, row: self.stride as i64, column: 1, panel: self.stride as i64 };
        pack::pack(b, &from, (count, width), (&to, zero), self.lanes);
    }

    /// Adds the terms of the lists of a bundle to the sums of their columns.
    fn bundle(&self, b: &mut Builder, bundle: Value) {
        let together = self.tables.together;
        let (start, end) = self.tables.steps(b, bundle);
        let places: Vec<Value> = (0..together)
            .flat_map(|at| {
                let list = b.affine(&[(bundle, together as i64)], at as i64);
                let column = number(b, self.order, list);
                let first = b.mul_index(column, self.height as i64);
                let vectors = 0..self.blocks.vectors as i64;
                vectors.map(|vector| b.add_index(first, vector * i64::from(self.lanes))).collect::<Vec<_>>()
            })
            .collect();
        let zero = b.zero(Type::vector(Elem::F32, self.lanes));
        let sums: Vec<Value> = match self.has_slabs() {
            true => places.iter().map(|&place| b.load(self.sums, place, self.lanes)).collect(),
            false => vec![zero; places.len()],
        };
        let one = b.index(1);
        let sums = b.for_loop(start, end, one, &sums, |b, step, sums| self.step(b, step, sums));
        places.into_iter().zip(sums).for_each(|(place, sum)| b.store(self.sums, place, sum));
    }

    /// One step of every list of a bundle.
    fn step(&self, b: &mut Builder, step: Value, sums: &[Value]) -> Vec<Value> {
        let together = self.tables.together;
        let mut next = Vec::with_capacity(sums.len());
        for (at, sums) in sums.chunks(self.blocks.vectors).enumerate() {
            let entry = b.affine(&[(step, together as i64)], at as i64);
            let index = self.tables.index(b, entry);
            let element = b.load_splat(self.tables.elements, entry, self.lanes);
            for (vector, &sum) in sums.iter().enumerate() {
                let place = b.affine(&[(index, self.height as i64)], (vector * usize::from(self.lanes)) as i64);
                let x = b.load(self.turned, place, self.lanes);
                next.push(b.fma(element, x, sum));
            }
        }
        next
    }
}
