//! A batch of matrix products `C = A * B`, cut into tasks and blocks for the caches.
//!
//! A task owns a block of C: all its rows by as many panels of columns as keep the packed block of B in the second
//! cache, or, when columns alone make too few tasks, some of the rows as well. It packs the block of B once and walks
//! down the rows, a tile's rows at a time: these stay in the first cache while the panels of B stream by (Goto and van
//! de Geijn 2008, with A and B exchanged). If rows are cut, too, a phase of its own packs all of B for everybody. Where
//! a panel with all terms stays in the second cache, a tile adds them all, and no sums wait in memory ([`shape`]).
//!
//! Each element of C is the sum over k in order, by fused multiply-adds, whatever the blocks. Only if there are few
//! results and many terms is k cut, into parts of a length that the shape alone decides; a last phase adds the parts in
//! order.

pub mod dot;
pub mod interleave;
pub mod pack;
pub mod panels;
pub mod product;
pub mod shape;
pub mod tasks;
pub mod tile;
pub mod words;

use crate::ir::{Builder, Direction, Memory, Value};
use crate::lower::conv::image::Padded;
use crate::lower::evaluate::Point;
use crate::lower::frame::Frame;
use crate::lower::loops::{Split, coordinates, widths_of};
use crate::lower::memory::KernelDraft;
use crate::lower::{LowerError, Lowering};
use nnc_graph::ValueId;
use nnc_opt::fuse::Layout;
use pack::{Matrix, Packed};
use product::{Gather, Product, Range, RowSource, Sink, Target};
use shape::{Operand, Operands, PACKED, Right, Shape};
use tile::Level;

/// Lowers the product whose result is the value `result`, and what `frame` computes of it.
///
/// # Errors
/// A bug in the compiler.
pub fn emit(
    lowering: &mut Lowering<'_>,
    mut draft: KernelDraft,
    frame: &Frame<'_>,
    operands: Operands,
    (result, outputs): (ValueId, &[ValueId]),
) -> Result<(), LowerError> {
    let (shape, alternatives) = Shape::new(lowering, &operands);
    draft.alternatives = alternatives;
    let work = 2 * shape.batch * shape.rows * shape.columns * shape.depth;
    draft.how = shape.to_string();
    let fixed = [operands.left.buffer, operands.right.buffer()];
    let spill = Some(draft.builder.scratch(operands.elem, shape.tile.rows * shape.tile.columns()));
    let (first, second) = (operands.batch, operands.batch + 1);
    let (row_axis, column_axis) = if operands.flip { (second, first) } else { (first, second) };
    let target = Target { frame, result, outputs, row_axis, column_axis, spill, kept: None };
    let plan = Plan::new(lowering, &mut draft, shape, operands, &target);
    plan.phases(&mut draft, &target);
    lowering.launch_with(draft, frame, work, &fixed)
}

/// A product and its memory.
struct Plan {
    shape: Shape,
    operands: Operands,
    /// B, a panel after the other; the operand itself if that is read where it is.
    packed: Memory,
    /// A channel of an image.
    padded: Option<Padded>,
    /// Rows of A, laid out for a tile.
    gathered: Option<(Memory, Gather)>,
    /// Sums of a task or of a tile's rows.
    sums: Option<Memory>,
    /// Sums of all parts.
    partial: Option<Memory>,
}

impl Plan {
    fn new(
        lowering: &mut Lowering<'_>,
        draft: &mut KernelDraft,
        shape: Shape,
        operands: Operands,
        target: &Target<'_, '_>,
    ) -> Self {
        let elem = operands.elem;
        let packed = if shape.is_in_place() {
            operands.right.memory()
        } else if shape.shares_packed() {
            let elements = shape.batch * shape.packed_columns() * shape.depth;
            draft.param(lowering.temporary(elements * elem.size()), elem, Direction::InOut)
        } else {
            draft.builder.scratch(elem, shape.slab * shape.block_columns())
        };
        let is_whole = shape.block_depth == shape.depth;
        let rows_of_sums = match shape.slab < shape.part() {
            true => Some(shape.row_blocks.grain as usize),
            false => (!is_whole || !target.is_short()).then_some(shape.tile.rows),
        };
        let sums = rows_of_sums.map(|rows| draft.builder.scratch(elem, rows * shape.stride()));
        let partial = (shape.parts.tasks() > 1).then(|| {
            let line = shape.columns.next_multiple_of(usize::from(shape.tile.lanes));
            let bytes = shape.parts.tasks() as usize * shape.batch * shape.rows * line * elem.size();
            draft.param(lowering.temporary(bytes), elem, Direction::InOut)
        });
        let gathered = shape.gather(&operands).map(|how| {
            let rows = match how {
                Gather::Turned => shape.block_depth,
                Gather::Lines(stride) => stride as usize,
            };
            (draft.builder.scratch(elem, rows * shape.tile.rows), how)
        });
        let padded = match &operands.right {
            Right::Windows(windows) => Some(windows.scratch(draft, &shape.tile, shape.block_lines(&operands), elem)),
            Right::Strided(_) => None,
        };
        Self { shape, operands, packed, padded, gathered, sums, partial }
    }

    fn phases(&self, draft: &mut KernelDraft, target: &Target<'_, '_>) {
        let shape = &self.shape;
        if shape.shares_packed() {
            self.packing_phase(draft);
        }
        let counts = [
            shape.parts.tasks() as usize,
            shape.batch,
            shape.row_blocks.tasks() as usize,
            shape.column_blocks.tasks() as usize,
        ];
        draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
            let at = coordinates(b, task, &counts);
            let block = Block {
                part: at[0],
                batch: at[1],
                rows: shape.row_blocks.bounds(b, at[2]),
                columns: shape.column_blocks.bounds(b, at[3]),
                point: self.point(b, target.frame, at[1]),
            };
            self.block(b, target, &block);
        });
        if let Some(partial) = self.partial {
            let terms = shape.columns * shape.parts.tasks() as usize;
            let lines = Split::new(shape.batch * shape.rows, 1 + (1 << 16) / terms, 1);
            draft.builder.phase(lines.tasks(), |b, task| self.add_parts(b, target, partial, lines, task));
        }
    }

    /// Packs all of B: a task has some columns of a matrix, or some channels of an image.
    fn packing_phase(&self, draft: &mut KernelDraft) {
        let shape = &self.shape;
        let grain = PACKED / 2;
        let (_, step) = self.operands.right.units(&shape.tile);
        let blocks = match &self.operands.right {
            Right::Strided(_) => Split::new(shape.columns, grain / shape.depth.max(1), shape.tile.columns()),
            Right::Windows(_) => Split::new(shape.depth, grain / shape.packed_columns(), step),
        };
        let counts = [shape.batch, blocks.tasks() as usize];
        draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
            let at = coordinates(b, task, &counts);
            let dims = self.operands.left.layout.dims[..self.operands.batch].to_vec();
            let batch = coordinates(b, at[0], &dims);
            let some = blocks.bounds(b, at[1]);
            let (zero, all) = (b.index(0), (b.index(0), b.index(shape.columns as i64)));
            let (columns, terms) = match &self.operands.right {
                Right::Strided(_) => (some, (zero, b.index(shape.depth as i64))),
                Right::Windows(_) => (all, some),
            };
            let first = self.shared_panels(b, at[0], columns.0);
            let first = b.affine(&[(first, 1), (terms.0, shape.tile.columns() as i64)], 0);
            self.pack(b, &batch, (columns, terms), (&self.panels(shape.depth), first));
        });
    }

    /// Packs some columns and terms, so that the first term of the first column lies at `first`.
    fn pack(
        &self,
        b: &mut Builder,
        batch: &[Value],
        (columns, terms): ((Value, Value), (Value, Value)),
        (to, first): (&Packed, Value),
    ) {
        match (&self.operands.right, self.padded) {
            (Right::Windows(windows), Some(padded)) => {
                windows.pack(b, (batch, &self.shape.tile), (columns, terms), padded, (to, first));
            }
            (Right::Windows(_), None) => unreachable!("windows have room for a channel"),
            (Right::Strided(right), _) => {
                let mut matrix = self.right(b, right, batch, columns.0);
                matrix.first = b.affine(&[(matrix.first, 1), (terms.0, matrix.row)], 0);
                let count = (b.sub(terms.1, terms.0), b.sub(columns.1, columns.0));
                pack::pack(b, &matrix, count, (to, first), &self.shape.tile.widths());
            }
        }
    }

    /// Where the panel of column `first` of a matrix of the batch begins in the packed whole.
    fn shared_panels(&self, b: &mut Builder, batch: Value, first: Value) -> Value {
        let shape = &self.shape;
        let matrix = (shape.packed_columns() * shape.depth) as i64;
        b.affine(&[(batch, matrix), (first, shape.depth as i64)], 0)
    }

    /// Panels of so many terms.
    fn panels(&self, depth: usize) -> Packed {
        Packed::panels(self.packed, depth as i64, self.shape.tile.columns() as i64)
    }

    /// B from its first term and a column on.
    fn right(&self, b: &mut Builder, right: &Operand, batch: &[Value], column: Value) -> Matrix {
        let (along, down) = (right.layout.strides[self.operands.batch], right.layout.strides[self.operands.batch + 1]);
        let base = base(b, &right.layout, batch);
        let first = b.affine(&[(base, 1), (column, along)], 0);
        Matrix { memory: right.memory, first, row: down, column: along }
    }

    /// The point of a batch number, its row and column still 0.
    fn point(&self, b: &mut Builder, frame: &Frame<'_>, batch: Value) -> Point {
        let zero = b.index(0);
        let mut at = coordinates(b, batch, &frame.axes.dims[..self.operands.batch]);
        at.extend([zero, zero]);
        Point { coordinates: at, vector: self.operands.batch + 1, lanes: 1 }
    }

    fn block(&self, b: &mut Builder, target: &Target<'_, '_>, block: &Block) {
        let shape = &self.shape;
        let (start, end) = shape.parts.bounds(b, block.part);
        if shape.slab == shape.part() {
            let from = Terms { first: start, end, packed: self.pack_block(b, block, (start, end)) };
            return self.rows(b, target, block, &from);
        }
        let Some(sums) = self.sums else { unreachable!("sums of several slabs wait in memory") };
        pack::clear(b, sums, shape.row_blocks.grain as usize * shape.stride(), shape.tile.lanes);
        let step = b.index(shape.slab as i64);
        let waiting = self.waiting(b, block, block.rows.0);
        b.for_loop(start, end, step, &[], |b, from, _| {
            let to = b.add(from, step);
            let terms = Terms { first: from, end: b.min(to, end), packed: self.pack_block(b, block, (from, to)) };
            self.add_blocks(b, block, block.rows, &terms, (sums, waiting));
            vec![]
        });
        self.finish_rows(b, target, block, block.rows, (sums, waiting));
    }

    /// All terms of a block, a tile's rows after the other.
    fn rows(&self, b: &mut Builder, target: &Target<'_, '_>, block: &Block, terms: &Terms) {
        let shape = &self.shape;
        let Some(sums) = self.sums else {
            let count = b.sub(terms.end, terms.first);
            let levels = [self.level(count)];
            let zero = b.index(0);
            let product = self.product(b, block, terms, terms.first, &levels);
            let range = Range { rows: block.rows, columns: block.columns };
            return product.run(b, range, &Sink::Epilogue(target, block.point.clone(), zero));
        };
        let step = b.index(shape.tile.rows as i64);
        b.for_loop(block.rows.0, block.rows.1, step, &[], |b, row, _| {
            let end = b.add(row, step);
            let rows = (row, b.min(end, block.rows.1));
            let waiting = self.waiting(b, block, row);
            if shape.block_depth == shape.part() {
                let count = b.sub(terms.end, terms.first);
                let levels = [self.level(count)];
                let product = self.product(b, block, terms, terms.first, &levels);
                let range = Range { rows, columns: block.columns };
                product.run(b, range, &Sink::Store(sums, waiting, shape.stride() as i64));
            } else {
                pack::clear(b, sums, shape.tile.rows * shape.stride(), shape.tile.lanes);
                self.add_blocks(b, block, rows, terms, (sums, waiting));
            }
            self.finish_rows(b, target, block, rows, (sums, waiting));
            vec![]
        });
    }

    /// Where row 0 and column 0 of C would lie in sums whose first row is `row` and whose first column is the block's.
    fn waiting(&self, b: &mut Builder, block: &Block, row: Value) -> Value {
        b.affine(&[(row, -(self.shape.stride() as i64)), (block.columns.0, -1)], 0)
    }

    /// Adds terms to sums in memory, a few at a time.
    fn add_blocks(
        &self,
        b: &mut Builder,
        block: &Block,
        rows: (Value, Value),
        terms: &Terms,
        (sums, waiting): (Memory, Value),
    ) {
        let step = b.index(self.shape.block_depth as i64);
        b.for_loop(terms.first, terms.end, step, &[], |b, from, _| {
            let count = if self.shape.has_equal_blocks() {
                step
            } else {
                let left = b.sub(terms.end, from);
                b.min(left, step)
            };
            let levels = [self.level(count)];
            let product = self.product(b, block, terms, from, &levels);
            let range = Range { rows, columns: block.columns };
            product.run(b, range, &Sink::Sum(sums, waiting, self.shape.stride() as i64));
            vec![]
        });
    }

    /// The epilogue of finished rows; parts of sums go to their place.
    fn finish_rows(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        block: &Block,
        rows: (Value, Value),
        (sums, waiting): (Memory, Value),
    ) {
        let lanes = self.shape.tile.lanes;
        let stride = self.shape.stride() as i64;
        let step = b.index(1);
        let columns = b.sub(block.columns.1, block.columns.0);
        let widths = widths_of(b, columns, lanes);
        b.for_loop(rows.0, rows.1, step, &[], |b, row, _| {
            let line = b.affine(&[(waiting, 1), (row, stride)], 0);
            match self.partial {
                None => {
                    let zero = b.index(0);
                    target.line(b, &block.point, (row, zero), block.columns, (sums, line), &widths);
                }
                Some(partial) => {
                    let to = self.partial_line(b, block.part, block.batch, row);
                    pack::copy_line(b, (sums, line), (partial, to), block.columns, lanes);
                }
            }
            vec![]
        });
    }

    /// Where a row of a part begins.
    fn partial_line(&self, b: &mut Builder, part: Value, batch: Value, row: Value) -> Value {
        let line = (self.partial_size() / self.shape.rows) as i64;
        let matrix = self.partial_size() as i64;
        b.affine(&[(part, matrix * self.shape.batch as i64), (batch, matrix), (row, line)], 0)
    }

    /// Elements of a matrix of sums of one part.
    fn partial_size(&self) -> usize {
        self.shape.columns.next_multiple_of(usize::from(self.shape.tile.lanes)) * self.shape.rows
    }

    /// Adds the parts of some rows in order, and the epilogue.
    fn add_parts(&self, b: &mut Builder, target: &Target<'_, '_>, partial: Memory, lines: Split, task: Value) {
        let shape = &self.shape;
        let (start, end) = lines.bounds(b, task);
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, line, _| {
            let rows = b.index(shape.rows as i64);
            let (batch, row) = (b.div(line, rows), b.rem(line, rows));
            let point = self.point(b, target.frame, batch);
            let zero = b.index(0);
            let first = self.partial_line(b, zero, batch, row);
            let part = (self.partial_size() * shape.batch) as i64;
            let range = (zero, b.index(shape.columns as i64));
            let sums = (partial, first, part, shape.parts.tasks());
            target.line_of_parts(b, &point, (row, zero), range, sums, shape.tile.lanes);
            vec![]
        });
    }

    /// Elements between terms of B.
    fn term(&self) -> i64 {
        match &self.operands.right {
            Right::Strided(right) if self.shape.is_in_place() => right.layout.strides[self.operands.batch + 1],
            Right::Strided(_) | Right::Windows(_) => self.shape.tile.columns() as i64,
        }
    }

    fn level(&self, count: Value) -> Level {
        Level { count, a: self.operands.left.layout.strides[self.operands.batch + 1], b: self.term() }
    }

    /// Packs the block's columns of some terms, unless that is done or not needed; gives where term 0 of its first
    /// column would lie.
    fn pack_block(&self, b: &mut Builder, block: &Block, terms: (Value, Value)) -> Value {
        let shape = &self.shape;
        if let (true, Right::Strided(right)) = (shape.is_in_place(), &self.operands.right) {
            return self.right(b, right, &block.point.coordinates, block.columns.0).first;
        }
        if shape.shares_packed() {
            return self.shared_panels(b, block.batch, block.columns.0);
        }
        let end = shape.parts.bounds(b, block.part).1;
        let terms = (terms.0, b.min(terms.1, end));
        let zero = b.index(0);
        self.pack(b, &block.point.coordinates, (block.columns, terms), (&self.panels(shape.slab), zero));
        b.affine(&[(terms.0, -(shape.tile.columns() as i64))], 0)
    }

    /// The product of a block from term `from` on.
    fn product<'l>(
        &self,
        b: &mut Builder,
        block: &Block,
        terms: &Terms,
        from: Value,
        levels: &'l [Level],
    ) -> Product<'l> {
        let shape = &self.shape;
        let left = &self.operands.left;
        let (row, along) = (left.layout.strides[self.operands.batch], left.layout.strides[self.operands.batch + 1]);
        let base = base(b, &left.layout, &block.point.coordinates);
        let a = b.affine(&[(base, 1), (from, along)], 0);
        let depth = if shape.shares_packed() { shape.depth } else { shape.slab };
        let column = if shape.is_in_place() { 1 } else { self.panels(depth).column };
        let at = b.affine(&[(terms.packed, 1), (from, self.term())], 0);
        Product {
            tile: shape.tile,
            rows: shape.rows,
            columns: shape.columns,
            a: (left.memory, RowSource::Even(a, row)),
            b: (self.packed, at, column),
            gathered: self.gathered,
            lies: shape.lies,
            levels,
        }
    }
}

/// The first element of a matrix of the batch.
fn base(b: &mut Builder, layout: &Layout, batch: &[Value]) -> Value {
    let axes = layout.dims.len() - 2;
    let terms: Vec<(Value, i64)> = batch[..axes].iter().copied().zip(layout.strides.iter().copied()).collect();
    b.affine(&terms, layout.offset)
}

/// What a task computes.
struct Block {
    part: Value,
    batch: Value,
    rows: (Value, Value),
    columns: (Value, Value),
    /// Its batch coordinates; row and column are 0.
    point: Point,
}

/// Terms of a block.
struct Terms {
    first: Value,
    end: Value,
    /// Where term 0 of the block's first column would lie in the packed B.
    packed: Value,
}
