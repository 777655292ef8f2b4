//! The products of attention: those that make a block's matrix, and those that read it.

use super::shape::Shape;
use crate::ir::{Builder, Direction, Elem, Memory, ReduceOp, Type, Value};
use crate::lower::evaluate::Point;
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{coordinates, widths};
use crate::lower::matmul::pack::{self, Matrix, Packed};
use crate::lower::matmul::product::{Gather, Lies, Product, Range, RowSource, Sink, Target};
use crate::lower::matmul::shape::SHARED_LINES;
use crate::lower::matmul::tile::{Level, Tile, most_rows};
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::{LowerError, Lowering};
use nnc_graph::{NodeId, ValueId};
use nnc_opt::fuse::attention::Reader;
use nnc_opt::fuse::{Group, Layout, anchor_domain};

/// An operand in memory, `[batch..., free, contracted]` by strides.
pub struct Operand {
    memory: Memory,
    layout: Layout,
}

impl Operand {
    fn new(draft: &mut KernelDraft, place: &Place) -> Self {
        let memory = draft.param(place.buffer, place.elem, Direction::In);
        Self { memory, layout: place.layout.clone() }
    }

    /// Number of free elements, or of contracted ones.
    fn size(&self, from_last: usize) -> usize {
        self.layout.dims[self.layout.dims.len() - 1 - from_last]
    }

    fn stride(&self, from_last: usize) -> i64 {
        self.layout.strides[self.layout.strides.len() - 1 - from_last]
    }

    /// Whether all its elements in a matrix are numbers within limits: times what makes larger ones infinite, and times
    /// 0, they are 0 exactly if they are.
    pub fn is_small(&self, b: &mut Builder, matrix: Value, (lanes, limits): (u8, Limits)) -> Value {
        // Vectors lie along the axis whose elements are side by side.
        let (outer, inner) = if self.stride(0) == 1 { (1, 0) } else { (0, 1) };
        let first = self.first(b, matrix);
        let (zero, one, wide) = (b.index(0), b.index(1), b.index(i64::from(lanes)));
        let (columns, depth) = (self.size(inner) as i64, self.size(outer) as i64);
        let whole = b.index(columns / i64::from(lanes) * i64::from(lanes));
        let (columns, depth, stride) = (b.index(columns), b.index(depth), b.index(self.stride(inner)));
        let types = [lanes, 1].map(|lanes| Type::vector(self.memory.elem, lanes));
        let initial = types.map(|ty| b.zero(ty));
        let factors = types.map(|ty| b.number(ty, limits.factor));
        let sums = b.for_loop(zero, depth, one, &initial, |b, term, sums| {
            let line = b.affine(&[(first, 1), (term, self.stride(outer))], 0);
            let ranges = [(zero, whole, wide), (whole, columns, one)];
            let add = |b: &mut Builder, at: usize| {
                let (start, end, step) = ranges[at];
                b.for_loop(start, end, step, &[sums[at]], |b, column, sum| {
                    let place = b.affine(&[(line, 1), (column, self.stride(inner))], 0);
                    let value = match self.stride(inner) {
                        1 => b.load(self.memory, place, types[at].lanes),
                        _ => b.load_strided(self.memory, place, stride, types[at].lanes),
                    };
                    let large = b.mul(value, factors[at]);
                    let product = b.mul(large, initial[at]);
                    vec![b.add(sum[0], product)]
                })[0]
            };
            vec![add(b, 0), add(b, 1)]
        });
        let sum = b.reduce(ReduceOp::Add, sums[0]);
        let sum = b.add(sum, sums[1]);
        b.eq(sum, initial[1])
    }

    /// The first element of a matrix.
    fn first(&self, b: &mut Builder, matrix: Value) -> Value {
        let batch = self.layout.dims.len() - 2;
        let at = coordinates(b, matrix, &self.layout.dims[..batch]);
        let terms: Vec<(Value, i64)> = at.into_iter().zip(self.layout.strides.iter().copied()).collect();
        b.affine(&terms, self.layout.offset)
    }
}

/// Numbers by which it is known that a product is finite.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What makes infinite what is larger than an element may be.
    factor: f64,
    /// What no product exceeds whose operands are that small.
    pub product: f64,
}

impl Limits {
    /// For floats of a type: elements below 2^49 have products, of up to 2^21 terms, below 2^120; doubles likewise.
    pub fn of(elem: Elem) -> Self {
        let (most, element) = if elem == Elem::F64 { (1023, 480) } else { (127, 48) };
        let power = |exponent: i32| 2.0f64.powi(exponent);
        Self { factor: power(most - element), product: power(most - 7) }
    }
}

/// A right operand, and where it is packed.
pub struct Factor {
    /// The operand itself.
    pub from: Operand,
    tile: Tile,
    packed: Memory,
    /// Elements from the panels of a matrix to those of the next; 0 if a task has but those of its own.
    step: usize,
}

impl Factor {
    fn new(lowering: &mut Lowering<'_>, draft: &mut KernelDraft, place: &Place, (tile, shape): (Tile, &Shape)) -> Self {
        let from = Operand::new(draft, place);
        let elements = from.size(1).next_multiple_of(tile.columns()) * from.size(0);
        let (packed, step) = if shape.shares_packed() {
            let bytes = shape.matrices.count * elements * shape.elem.size();
            (draft.param(lowering.temporary(bytes), shape.elem, Direction::InOut), elements)
        } else {
            (draft.builder.scratch(shape.elem, elements), 0)
        };
        Self { from, tile, packed, step }
    }

    /// Columns of what it gives.
    fn columns(&self) -> usize {
        self.from.size(1)
    }

    /// Terms of each sum.
    fn depth(&self) -> usize {
        self.from.size(0)
    }

    /// Where the panels of a matrix begin.
    fn start(&self, b: &mut Builder, matrix: Value) -> Value {
        b.mul_index(matrix, self.step as i64)
    }

    /// Packs what belongs to a matrix.
    pub fn pack(&self, b: &mut Builder, matrix: Value) {
        let first = self.from.first(b, matrix);
        let from = Matrix { memory: self.from.memory, first, row: self.from.stride(0), column: self.from.stride(1) };
        let panels = Packed::panels(self.packed, self.depth() as i64, self.tile.columns() as i64);
        let count = (b.index(self.depth() as i64), b.index(self.columns() as i64));
        let start = self.start(b, matrix);
        pack::pack(b, &from, count, (&panels, start), &self.tile.widths());
    }

    /// The loop over so many terms, for a left operand whose terms are `a` elements apart.
    fn level(&self, count: Value, a: i64) -> Level {
        Level { count, a, b: self.tile.columns() as i64 }
    }

    /// All columns.
    fn range(&self, b: &mut Builder) -> (Value, Value) {
        (b.index(0), b.index(self.columns() as i64))
    }
}

/// A product that makes the rows of a block.
pub struct Scores {
    /// Its rows.
    pub left: Operand,
    /// What it is multiplied by.
    pub right: Factor,
    /// Where the rows are left.
    to: Memory,
    gathered: Option<(Memory, Gather)>,
}

impl Scores {
    /// The product of two operands, whose result is left at `to`.
    pub fn new(
        lowering: &mut Lowering<'_>,
        draft: &mut KernelDraft,
        (left, right): &(Place, Place),
        to: Memory,
        shape: &Shape,
    ) -> Self {
        let right = Factor::new(lowering, draft, right, (shape.tile, shape));
        let left = Operand::new(draft, left);
        let bytes = left.stride(1).unsigned_abs() as usize * shape.elem.size();
        let is_crowded = bytes.is_multiple_of(SHARED_LINES) && shape.tile.rows > most_rows(bytes);
        let stride = right.depth().next_multiple_of(16) + 16;
        let gathered = (left.stride(0) == 1 && is_crowded)
            .then(|| (draft.builder.scratch(shape.elem, stride * shape.tile.rows), Gather::Lines(stride as i64)));
        Self { left, right, to, gathered }
    }

    /// Rows of a matrix, the first of which begins at the start of the memory, up to a column.
    pub fn run(&self, b: &mut Builder, shape: &Shape, matrix: Value, (rows, end): ((Value, Value), Value)) {
        let (first, start) = (self.left.first(b, matrix), self.right.start(b, matrix));
        let count = b.index(self.right.depth() as i64);
        let levels = [self.right.level(count, self.left.stride(0))];
        let product = Product {
            tile: shape.tile,
            rows: shape.matrices.rows,
            columns: shape.matrices.columns,
            a: (self.left.memory, RowSource::Even(first, self.left.stride(1))),
            b: (self.right.packed, start, self.right.depth() as i64),
            gathered: self.gathered,
            lies: Lies::Packed,
            levels: &levels,
        };
        let line = b.mul_index(rows.0, -(shape.stride as i64));
        let range = Range { rows, columns: (b.index(0), end) };
        product.run(b, range, &Sink::Store(self.to, line, shape.stride as i64));
    }
}

/// A product that reads a block.
pub struct Mix<'g> {
    /// What the block is multiplied by.
    pub right: Factor,
    from: Memory,
    frame: Frame<'g>,
    result: ValueId,
    outputs: Vec<ValueId>,
    /// Whether the result has the columns before the rows.
    flip: bool,
    spill: Memory,
    /// Along columns the sums so far, and the distance of their rows.
    sums: Option<(Memory, usize)>,
}

impl<'g> Mix<'g> {
    /// The product of a matrix at `from` by an operand.
    ///
    /// # Errors
    /// A bug in the compiler.
    pub fn new(
        lowering: &mut Lowering<'g>,
        draft: &mut KernelDraft,
        (group, reader): (&Group, &Reader),
        (place, from): (&Place, Memory),
        shape: &Shape,
    ) -> Result<Self, LowerError> {
        let graph = lowering.graph;
        let columns = place.layout.dims[place.layout.dims.len() - 2];
        let tile = if reader.along_rows { shape.tile_along_rows(columns) } else { shape.tile_along_columns(columns) };
        let right = Factor::new(lowering, draft, place, (tile, shape));
        let is_own = |id: NodeId| id == reader.dot || reader.epilogue.contains(&id);
        let is_own = |value: &ValueId| is_own(graph.value(*value).node);
        let outputs: Vec<ValueId> = group.outputs.iter().copied().filter(is_own).collect();
        let axes = Axes::apart(&anchor_domain(graph, reader.dot));
        let frame = Frame::new(lowering, draft, reader.epilogue.clone(), &outputs, axes)?;
        let spill = draft.builder.scratch(shape.elem, tile.rows * tile.columns());
        let sums = (!reader.along_rows).then(|| {
            let stride = columns.next_multiple_of(tile.columns()) + 16;
            (draft.builder.scratch(shape.elem, shape.matrices.columns * stride), stride)
        });
        let result = graph.node(reader.dot).results[0];
        Ok(Self { right, from, frame, result, outputs, flip: reader.operand == 1, spill, sums })
    }

    fn target(&self) -> Target<'_, 'g> {
        let first = self.frame.axes.dims.len() - 2;
        let (row_axis, column_axis) = if self.flip { (first + 1, first) } else { (first, first + 1) };
        let (frame, result, outputs) = (&self.frame, self.result, &self.outputs[..]);
        Target { frame, result, outputs, row_axis, column_axis, spill: Some(self.spill), kept: None }
    }

    /// The first point of a matrix.
    fn point(&self, b: &mut Builder, matrix: Value) -> Point {
        let zero = b.index(0);
        let batch = self.frame.axes.dims.len() - 2;
        let mut at = coordinates(b, matrix, &self.frame.axes.dims[..batch]);
        at.extend([zero, zero]);
        Point { coordinates: at, vector: batch + 1, lanes: 1 }
    }

    /// Before the first block.
    pub fn begin(&self, b: &mut Builder, shape: &Shape) {
        if let Some((sums, stride)) = self.sums {
            pack::clear(b, sums, shape.matrices.columns * stride, self.right.tile.lanes);
        }
    }

    /// What a block, up to a column, gives: rows of the result, or terms of all of it.
    pub fn run(&self, b: &mut Builder, shape: &Shape, matrix: Value, (rows, end): ((Value, Value), Value)) {
        let (start, stride) = (self.right.start(b, matrix), shape.stride as i64);
        let columns = self.right.range(b);
        let zero = b.index(0);
        let Some((sums, line)) = self.sums else {
            let levels = [self.right.level(end, 1)];
            let first = b.mul_index(rows.0, -stride);
            let source = RowSource::Even(first, stride);
            let product = self.product((shape.matrices.rows, source), start, &levels);
            let point = self.point(b, matrix);
            return product.run(b, Range { rows, columns }, &Sink::Epilogue(&self.target(), point, zero));
        };
        let count = if shape.has_equal_blocks() { b.index(shape.block as i64) } else { b.sub(rows.1, rows.0) };
        let levels = [self.right.level(count, stride)];
        let start = b.affine(&[(start, 1), (rows.0, self.right.tile.columns() as i64)], 0);
        let product = self.product((shape.matrices.columns, RowSource::Even(zero, 1)), start, &levels);
        // The end is a multiple of the tile's rows, or all.
        product.run(b, Range { rows: (zero, end), columns }, &Sink::Sum(sums, zero, line as i64));
    }

    fn product<'l>(&self, (rows, source): (usize, RowSource), start: Value, levels: &'l [Level]) -> Product<'l> {
        Product {
            tile: self.right.tile,
            rows,
            columns: self.right.columns(),
            a: (self.from, source),
            b: (self.right.packed, start, self.right.depth() as i64),
            gathered: None,
            lies: Lies::Packed,
            levels,
        }
    }

    /// After the last block.
    pub fn finish(&self, b: &mut Builder, shape: &Shape, matrix: Value) {
        let Some((sums, stride)) = self.sums else { return };
        let target = self.target();
        let point = self.point(b, matrix);
        let columns = self.right.range(b);
        let widths = widths(self.right.columns(), self.right.tile.lanes);
        b.for_each(shape.matrices.columns as i64, |b, row| {
            let (zero, line) = (b.index(0), b.mul_index(row, stride as i64));
            target.line(b, &point, (row, zero), columns, (sums, line), &widths);
        });
    }
}
