//! Rows by a sparse matrix, element by element, vectors along the rows.
//!
//! A task has a block of rows and some columns. It transposes its rows of A to `[k][row]`, so that a k is a few vectors of
//! rows; each element of the matrix is repeated in a vector and multiplied with them. The lists of four columns are walked
//! together, so that eight sums hide the latency of a multiply-add; columns of a task stand in the order of their
//! numbers of terms, so that lists which are walked together are about equally long. What comes out, `[column][row]`, is
//! transposed back for the epilogue. (Elsen, Dukhan, Gale, Simonyan, "Fast Sparse ConvNets", 2020.)

use super::Lowering;
use super::loops::{Split, widths_of};
use super::memory::{KernelDraft, Place};
use super::pack::{self, Matrix, Packed};
use super::product::Target;
use super::sparse::{Sizes, Tables, number, origin};
use super::sparse_lists::Lists;
use super::sparse_pattern::Pattern;
use crate::ir::{Builder, Direction, Elem, Memory, Type, Value};

/// Vectors of rows of a block.
const VECTORS: usize = 2;
/// Multiply-adds of a task.
const TASK_PRODUCTS: usize = 1 << 18;
/// Rows that a block has about, for the number of tasks, which does not depend on the machine.
const USUAL_ROWS: usize = 16;
/// The most tasks of a block of rows, and the fewest columns of one: each transposes the rows anew.
const MOST_CUTS: usize = 4;
const LEAST_COLUMNS: usize = 64;

/// How a product is cut.
pub struct Blocks {
    shape: Sizes,
    columns: Split,
}

impl Blocks {
    /// The blocks of a product with so many elements in its matrix.
    pub fn new(shape: &Sizes, elements: usize) -> Self {
        let wanted = (shape.rows * elements / TASK_PRODUCTS).clamp(1, 16);
        let most = (shape.columns / LEAST_COLUMNS).clamp(1, MOST_CUTS);
        let cuts = wanted.div_ceil(shape.rows.div_ceil(USUAL_ROWS)).min(most);
        Self { shape: *shape, columns: Split::new(shape.columns, shape.columns.div_ceil(cuts), 16) }
    }

    /// The lists of each task's columns after those of the one before, and for each list its column within the task's.
    pub fn lists(&self, pattern: &Pattern, together: usize) -> (Lists, Vec<usize>) {
        let grain = self.columns.grain as usize;
        let (mut columns, mut order) = (Vec::new(), Vec::new());
        for block in 0..self.columns.tasks() as usize {
            let mut own: Vec<usize> = (block * grain..(block + 1) * grain).collect();
            own.sort_by_key(|&column| std::cmp::Reverse(pattern.terms_of(column)));
            own.resize(grain.next_multiple_of(together), self.shape.columns.next_multiple_of(grain));
            order.extend(own.iter().map(|&column| (column - block * grain).min(grain)));
            columns.extend(own);
        }
        (Lists::of_columns(pattern, &columns, together), order)
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
    let height = VECTORS * usize::from(lanes);
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
        turned: scratch(draft, blocks.shape.depth * height),
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
    fn task(&self, b: &mut Builder, target: &Target<'_, '_>, rows: (Value, Value), cut: Value) {
        let (zero, count) = (b.index(0), b.sub(rows.1, rows.0));
        self.turn(b, rows.0, count);
        let bundles = self.tables.bundles / self.blocks.columns.tasks() as usize;
        let first = b.mul_index(cut, bundles as i64);
        let (end, one) = (b.add_index(first, bundles as i64), b.index(1));
        b.for_loop(first, end, one, &[], |b, bundle, _| {
            self.bundle(b, bundle);
            vec![]
        });
        let columns = self.blocks.columns.bounds(b, cut);
        let width = b.sub(columns.1, columns.0);
        self.turn_back(b, count, width);
        let (point, widths) = (origin(b), widths_of(b, width, self.lanes));
        b.for_loop(zero, count, one, &[], |b, at, _| {
            let (row, line) = (b.add(rows.0, at), b.mul_index(at, self.stride as i64));
            target.line(b, &point, (row, columns.0), (zero, width), (self.lines, line), &widths);
            vec![]
        });
    }

    /// The rows of A from `row` on, as `[k][row]`.
    fn turn(&self, b: &mut Builder, row: Value, count: Value) {
        let layout = &self.a.0.layout;
        let [down, along] = [layout.strides[0], layout.strides[1]];
        let first = b.affine(&[(row, down)], layout.offset);
        let from = Matrix { memory: self.a.1, first, row: along, column: down };
        let (depth, height) = (self.blocks.shape.depth as i64, self.height as i64);
        let (zero, terms) = (b.index(0), b.index(depth));
        pack::pack(b, &from, (terms, count), (&Packed::panels(self.turned, depth, height), zero), self.lanes);
    }

    /// The sums of the task's columns, as `[row][column]`.
    fn turn_back(&self, b: &mut Builder, count: Value, width: Value) {
        let zero = b.index(0);
        let from = Matrix { memory: self.sums, first: zero, row: 1, column: self.height as i64 };
        let to = Packed { memory: self.lines, row: self.stride as i64, column: 1, panel: self.stride as i64 };
        pack::pack(b, &from, (count, width), (&to, zero), self.lanes);
    }

    /// The sums of the lists of a bundle.
    fn bundle(&self, b: &mut Builder, bundle: Value) {
        let together = self.tables.together;
        let (start, end) = self.tables.steps(b, bundle);
        let (zero, one) = (b.zero(Type::vector(Elem::F32, self.lanes)), b.index(1));
        let sums = b.for_loop(start, end, one, &vec![zero; together * VECTORS], |b, step, sums| {
            self.step(b, step, sums)
        });
        for (at, sums) in sums.chunks(VECTORS).enumerate() {
            let list = b.affine(&[(bundle, together as i64)], at as i64);
            let column = number(b, self.order, list);
            for (vector, &sum) in sums.iter().enumerate() {
                let place = b.affine(&[(column, self.height as i64)], (vector * usize::from(self.lanes)) as i64);
                b.store(self.sums, place, sum);
            }
        }
    }

    /// One step of every list of a bundle.
    fn step(&self, b: &mut Builder, step: Value, sums: &[Value]) -> Vec<Value> {
        let together = self.tables.together;
        let mut next = Vec::with_capacity(sums.len());
        for (at, sums) in sums.chunks(VECTORS).enumerate() {
            let entry = b.affine(&[(step, together as i64)], at as i64);
            let index = self.tables.index(b, entry);
            let element = b.load_splat(self.tables.elements, entry, self.lanes);
            for (vector, &sum) in sums.iter().enumerate() {
                let place = b.affine(&[(index, self.height as i64)], (vector * usize::from(self.lanes)) as i64);
                let x = b.load(self.turned, place, self.lanes);
                next.push(b.fma(x, element, sum));
            }
        }
        next
    }
}
