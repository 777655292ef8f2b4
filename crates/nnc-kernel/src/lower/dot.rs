//! Contractions: a batch of matrix products, operands by strides.
//!
//! Rows are the free axes of `a`, columns those of `b` (or the other way round when there are too few columns for a
//! vector). A task owns a block of the result and packs the block of B that it needs; each element of C is the sum over k in
//! order, by fused multiply-adds. Only if there are few results and many terms is k cut, into parts of a length that the
//! shape alone decides, and a second phase adds the parts in order.

use super::evaluate::Point;
use super::frame::{Axes, Frame};
use super::loops::{Split, coordinates};
use super::memory::{KernelDraft, Place, Source, elem};
use super::pack::{self, Matrix, Packed};
use super::product::{Product, Range, RowSource, Sink, Target};
use super::tile::{Level, Tile};
use super::{LowerError, Lowering, map};
use crate::ir::{Builder, Direction, Elem, Memory, Value};
use nnc_graph::{NodeId, Op, ValueId};
use nnc_opt::fuse::{Group, Layout};

/// Elements of a packed block of B.
const PACKED: usize = 48 << 10;
/// The most terms that are added without leaving the registers.
const DEPTH: usize = 512;
/// Multiply-adds of a task that is worth waking a thread for.
const TASK_PRODUCTS: usize = 1 << 20;
/// The tasks that a large product is cut into at least.
const TASKS: usize = 12;

/// Lowers a dot with its epilogue.
///
/// # Errors
/// An element that kernels do not multiply yet, or a bug in the compiler.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group, anchor: NodeId) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let Op::Dot { batch, a_axes, b_axes } = &node.op else { return Err(LowerError::bug("a dot that is none")) };
    let batch_dims = graph.ty(node.operands[0]).shape.sizes()[..*batch].to_vec();
    let a = matrix_operand(lowering, node.operands[0], *batch, a_axes)?;
    let b = matrix_operand(lowering, node.operands[1], *batch, b_axes)?;
    let mut draft = KernelDraft::new("dot");
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let elem = elem(graph.ty(node.results[0]).dtype)?;
    let (a_memory, b_memory) = (draft.param(a.buffer, elem, Direction::In), draft.param(b.buffer, elem, Direction::In));
    let (rows, columns, depth) = (a.layout.dims[*batch], b.layout.dims[*batch], a.layout.dims[*batch + 1]);
    let lanes = lowering.lanes_of(elem);
    let flip = columns < usize::from(lanes) && rows > columns;
    let (left, right) = ((a_memory, a.layout.clone()), (b_memory, b.layout.clone()));
    let (left, right) = if flip { (right, left) } else { (left, right) };
    let (rows, columns) = if flip { (columns, rows) } else { (rows, columns) };
    let shape = Shape::new(lowering, &batch_dims, (rows, columns, depth), elem, right.1.strides[*batch] == 1);
    let plan = Plan { shape, left, right, batch: *batch, flip, elem };
    plan.emit(lowering, &mut draft, &frame, node.results[0], &group.outputs)?;
    let work = 2 * plan.shape.batch * rows * columns * depth;
    lowering.launch_with(draft, &frame, work, &[a.buffer, b.buffer])
}

/// An operand as `[batch..., free, contracted]` by strides, copied if strides cannot say it.
fn matrix_operand(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    batch: usize,
    contracted: &[usize],
) -> Result<Place, LowerError> {
    let dims = lowering.graph.ty(value).shape.sizes();
    let free: Vec<usize> = (batch..dims.len()).filter(|axis| !contracted.contains(axis)).collect();
    let order: Vec<usize> = (0..batch).chain(free.iter().copied()).chain(contracted.iter().copied()).collect();
    let size = |axes: &[usize]| axes.iter().map(|&axis| dims[axis]).product::<usize>();
    let shape = [&dims[..batch], &[size(&free), size(contracted)]].concat();
    let elem = elem(lowering.graph.ty(value).dtype)?;
    let source = lowering.source(value)?;
    if let Source::Stored(place) = &source
        && let Some(layout) = place.layout.transpose(&order).reshape(&shape)
    {
        return Ok(Place { layout, ..place.clone() });
    }
    // Elements that lie side by side stay so, and are copied as vectors.
    let lies_free = |place: &Place| free.iter().any(|&axis| place.layout.strides[axis] == 1 && dims[axis] > 1);
    let free_last = matches!(&source, Source::Stored(place) if lies_free(place));
    let copied: Vec<usize> = match free_last {
        true => (0..batch).chain(contracted.iter().copied()).chain(free.iter().copied()).collect(),
        false => order,
    };
    let ordered = match source {
        Source::Stored(place) => Source::Stored(Place { layout: place.layout.transpose(&copied), ..place }),
        uniform @ Source::Uniform(..) => uniform,
    };
    let buffer = lowering.temporary(size(&copied) * elem.size());
    let copied_dims: Vec<usize> = copied.iter().map(|&axis| dims[axis]).collect();
    map::copy_as(lowering, value, ordered, (&copied_dims, buffer))?;
    let layout = match free_last {
        true => {
            let swapped: Vec<usize> = (0..batch).chain([batch + 1, batch]).collect();
            Layout::contiguous(&[&dims[..batch], &[size(contracted), size(&free)]].concat()).transpose(&swapped)
        }
        false => Layout::contiguous(&shape),
    };
    Ok(Place { buffer, elem, layout })
}

/// Sizes of a product and of its blocks.
struct Shape {
    batch: usize,
    rows: usize,
    columns: usize,
    depth: usize,
    tile: Tile,
    /// Columns of a packed block, a multiple of the tile's.
    block_columns: usize,
    /// Rows of a block, a multiple of the tile's.
    block_rows: usize,
    /// How k is cut into blocks within a part.
    block_depth: usize,
    /// How k is cut into parts, by the shape alone.
    parts: Split,
    /// Whether B is read where it is.
    direct: bool,
}

impl Shape {
    fn new(
        lowering: &Lowering<'_>,
        batch: &[usize],
        (rows, columns, depth): (usize, usize, usize),
        elem: Elem,
        side_by_side: bool,
    ) -> Self {
        let batch: usize = batch.iter().product();
        let tile = Tile::choose(rows, columns, lowering.lanes_of(elem), lowering.target);
        let parts = parts(batch * rows * columns, depth);
        let part = parts.grain as usize;
        let block_depth = part.div_ceil(part.div_ceil(DEPTH));
        let limit = columns.next_multiple_of(tile.columns());
        let mut block_columns = (PACKED / block_depth / tile.columns() * tile.columns()).clamp(tile.columns(), limit);
        let wanted = (batch * rows * columns * depth / TASK_PRODUCTS).min(TASKS);
        let others = batch * parts.tasks() as usize;
        let tasks = |block: usize| columns.div_ceil(block) * others;
        while tasks(block_columns) < wanted && block_columns > 4 * tile.columns() {
            block_columns = (block_columns / 2).next_multiple_of(tile.columns());
        }
        let row_blocks = wanted.div_ceil(tasks(block_columns)).max(1);
        let at_most = 256;
        let block_rows = rows.div_ceil(row_blocks).clamp(1, at_most.max(tile.rows)).next_multiple_of(tile.rows);
        let direct = side_by_side && columns.is_multiple_of(usize::from(tile.lanes)) && rows <= 2 * tile.rows;
        Self { batch, rows, columns, depth, tile, block_columns, block_rows, block_depth, parts, direct }
    }

    /// Elements between the rows of a packed block: one cache line more than needed, so that a power of two does not
    /// map every row to the same lines of the cache.
    fn stride(&self) -> usize {
        self.block_columns + 64 / 4
    }
}

/// Parts of k: when there are few results and many terms. A function of the shape alone.
fn parts(results: usize, depth: usize) -> Split {
    let products = results.saturating_mul(depth);
    if results > 1 << 16 || depth < 4096 || products < 8 * TASK_PRODUCTS {
        return Split::new(depth, depth, 1);
    }
    let count = (depth / 1024).min(16);
    Split::new(depth, depth.div_ceil(count), 16)
}

/// A product and its operands: rows and columns are those of tiles.
struct Plan {
    shape: Shape,
    left: (Memory, Layout),
    right: (Memory, Layout),
    batch: usize,
    flip: bool,
    elem: Elem,
}

impl Plan {
    fn emit(
        &self,
        lowering: &mut Lowering<'_>,
        draft: &mut KernelDraft,
        frame: &Frame<'_>,
        result: ValueId,
        outputs: &[ValueId],
    ) -> Result<(), LowerError> {
        let shape = &self.shape;
        let spill = Some(draft.builder.scratch(self.elem, shape.tile.rows * shape.tile.columns()));
        let (row_axis, column_axis) =
            if self.flip { (self.batch + 1, self.batch) } else { (self.batch, self.batch + 1) };
        let target = Target { frame, result, outputs, row_axis, column_axis, spill };
        let packed = if shape.direct {
            self.right.0
        } else {
            draft.builder.scratch(self.elem, shape.block_depth * shape.stride())
        };
        let deep = shape.parts.tasks() > 1 || shape.block_depth < shape.depth || !target.is_short();
        let sums = deep.then(|| draft.builder.scratch(self.elem, shape.block_rows * shape.stride()));
        let partial = (shape.parts.tasks() > 1).then(|| {
            let bytes = shape.parts.tasks() as usize * shape.batch * shape.rows * self.row_stride() * self.elem.size();
            draft.param(lowering.temporary(bytes), self.elem, Direction::InOut)
        });
        let side_by_side = self.left.1.strides[self.batch] == 1 && self.left.1.strides[self.batch + 1] != 1;
        let gathered = (side_by_side && shape.columns >= 8 * shape.tile.columns())
            .then(|| draft.builder.scratch(self.elem, shape.block_depth * shape.tile.rows));
        let memory = Memories { packed, gathered, sums, partial };
        let row_blocks = Split::new(shape.rows, shape.block_rows, 1);
        let column_blocks = Split::new(shape.columns, shape.block_columns, 1);
        let counts = [shape.parts.tasks(), shape.batch as u64, row_blocks.tasks(), column_blocks.tasks()];
        draft.builder.phase(counts.iter().product(), |b, task| {
            let at = coordinates(b, task, &counts.map(|count| count as usize));
            let block = Block {
                part: at[0],
                batch: at[1],
                rows: row_blocks.bounds(b, at[2]),
                columns: column_blocks.bounds(b, at[3]),
            };
            self.block(b, &target, &memory, &block);
        });
        if let Some(partial) = partial {
            let lines =
                Split::new(shape.batch * shape.rows, 1 + (1 << 16) / (shape.columns * shape.parts.tasks() as usize), 1);
            draft.builder.phase(lines.tasks(), |b, task| self.add_parts(b, &target, partial, lines, task));
        }
        Ok(())
    }

    fn row_stride(&self) -> usize {
        self.shape.columns.next_multiple_of(usize::from(self.shape.tile.lanes))
    }

    /// The point of a batch number, its row and column still 0.
    fn point(&self, b: &mut Builder, frame: &Frame<'_>, batch: Value) -> Point {
        let zero = b.index(0);
        let mut at = coordinates(b, batch, &frame.axes.dims[..self.batch]);
        at.extend([zero, zero]);
        Point { coordinates: at, vector: self.batch + 1, lanes: 1 }
    }

    fn base(&self, b: &mut Builder, layout: &Layout, point: &Point) -> Value {
        let terms: Vec<(Value, i64)> =
            point.coordinates[..self.batch].iter().copied().zip(layout.strides.iter().copied()).collect();
        b.affine(&terms, layout.offset)
    }

    fn block(&self, b: &mut Builder, target: &Target<'_, '_>, memory: &Memories, block: &Block) {
        let shape = &self.shape;
        let point = self.point(b, target.frame, block.batch);
        let operands = (self.base(b, &self.left.1, &point), self.base(b, &self.right.1, &point));
        let range = Range { rows: block.rows, columns: block.columns };
        let Some(sums) = memory.sums else {
            let (zero, depth) = (b.index(0), b.index(shape.depth as i64));
            let levels = [self.level(depth)];
            let product = self.product(b, memory, operands, block, (zero, depth), &levels);
            return product.run(b, range, &Sink::Epilogue(target, point, zero));
        };
        // Sums stay in scratch memory from one block of k to the next.
        let stride = shape.stride() as i64;
        pack::clear(b, sums, shape.block_rows * shape.stride(), shape.tile.lanes);
        let (start, end) = shape.parts.bounds(b, block.part);
        let step = b.index(shape.block_depth as i64);
        let origin = self.sums_origin(b, block, stride);
        b.for_loop(start, end, step, &[], |b, from, _| {
            let to = b.add(from, step);
            let to = b.min(to, end);
            let count = b.sub(to, from);
            let levels = [self.level(count)];
            let product = self.product(b, memory, operands, block, (from, count), &levels);
            product.run(b, range, &Sink::Sum(sums, origin, stride));
            vec![]
        });
        self.finish_sums(b, target, (sums, origin, stride), memory, block, &point);
    }

    /// Where row 0 and column 0 of C would lie in the sums of a block.
    fn sums_origin(&self, b: &mut Builder, block: &Block, stride: i64) -> Value {
        b.affine(&[(block.rows.0, -stride), (block.columns.0, -1)], 0)
    }

    fn finish_sums(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        (sums, origin, stride): (Memory, Value, i64),
        memory: &Memories,
        block: &Block,
        point: &Point,
    ) {
        let lanes = self.shape.tile.lanes;
        let step = b.index(1);
        b.for_loop(block.rows.0, block.rows.1, step, &[], |b, row, _| {
            match memory.partial {
                None => {
                    let zero = b.index(0);
                    let line = b.affine(&[(origin, 1), (row, stride)], 0);
                    target.line(b, point, (row, zero), block.columns, (sums, line), &[lanes, 1]);
                }
                Some(partial) => {
                    let line = self.partial_line(b, block.part, block.batch, row);
                    let from = b.affine(&[(origin, 1), (row, stride)], 0);
                    pack::copy_line(b, (sums, from), (partial, line), block.columns, lanes);
                }
            }
            vec![]
        });
    }

    /// Where a row of a part begins.
    fn partial_line(&self, b: &mut Builder, part: Value, batch: Value, row: Value) -> Value {
        let line = self.row_stride() as i64;
        let matrix = line * self.shape.rows as i64;
        b.affine(&[(part, matrix * self.shape.batch as i64), (batch, matrix), (row, line)], 0)
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
            let part = (shape.batch * shape.rows * self.row_stride()) as i64;
            let range = (b.index(0), b.index(shape.columns as i64));
            target.line_of_parts(
                b,
                &point,
                (row, zero),
                range,
                (partial, first, part, shape.parts.tasks()),
                shape.tile.lanes,
            );
            vec![]
        });
    }

    /// How B is packed.
    fn packed(&self, memory: Memory) -> Packed {
        Packed::panels(memory, self.shape.block_depth as i64, self.shape.tile.columns() as i64)
    }

    fn level(&self, count: Value) -> Level {
        let a = self.left.1.strides[self.batch + 1];
        let b = if self.shape.direct { self.right.1.strides[self.batch + 1] } else { self.shape.tile.columns() as i64 };
        Level { count, a, b }
    }

    /// The product of a block over `count` terms from `from` on; packs B.
    fn product<'l>(
        &self,
        b: &mut Builder,
        memory: &Memories,
        (left, right): (Value, Value),
        block: &Block,
        (from, count): (Value, Value),
        levels: &'l [Level],
    ) -> Product<'l> {
        let shape = &self.shape;
        let strides = |layout: &Layout| (layout.strides[self.batch], layout.strides[self.batch + 1]);
        let ((left_row, left_k), (right_column, right_k)) = (strides(&self.left.1), strides(&self.right.1));
        let a = b.affine(&[(left, 1), (from, left_k)], 0);
        let first = b.affine(&[(right, 1), (from, right_k), (block.columns.0, right_column)], 0);
        let columns = b.sub(block.columns.1, block.columns.0);
        let at = if shape.direct {
            first
        } else {
            let matrix = Matrix { memory: self.right.0, first, row: right_k, column: right_column };
            let zero = b.index(0);
            pack::pack(b, &matrix, (count, columns), (&self.packed(memory.packed), zero), shape.tile.lanes);
            b.index(0)
        };
        Product {
            tile: shape.tile,
            rows: shape.rows,
            columns: shape.columns,
            a: (self.left.0, RowSource::Even(a, left_row)),
            b: (memory.packed, at, if shape.direct { 1 } else { self.packed(memory.packed).column }),
            gathered: memory.gathered,
            levels,
        }
    }
}

/// The memory of a task.
struct Memories {
    packed: Memory,
    gathered: Option<Memory>,
    sums: Option<Memory>,
    partial: Option<Memory>,
}

/// What a task computes.
struct Block {
    part: Value,
    batch: Value,
    rows: (Value, Value),
    columns: (Value, Value),
}
