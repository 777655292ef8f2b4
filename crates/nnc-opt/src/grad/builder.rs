//! The words that rules are written in: ops on values of a graph, with constants that take the type of a value.

use nnc_graph::{
    BinaryOp, CompareOp, Dim, Graph, Op, ReduceOp, Shape, SliceRange, Stored, TensorType, UnaryOp, ValueId,
};

/// Appends ops to a graph.
pub struct Builder<'g> {
    graph: &'g mut Graph,
}

impl<'g> Builder<'g> {
    pub(super) fn new(graph: &'g mut Graph) -> Self {
        Self { graph }
    }

    pub(super) fn emit(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.graph.emit(op, operands)
    }

    pub(super) fn ty(&self, value: ValueId) -> TensorType {
        self.graph.ty(value).clone()
    }

    pub(super) fn shape(&self, value: ValueId) -> Shape {
        self.graph.ty(value).shape.clone()
    }

    pub(super) fn rank(&self, value: ValueId) -> usize {
        self.graph.ty(value).shape.rank()
    }

    /// Whether a value is a constant, perhaps repeated or converted.
    pub(super) fn is_constant(&self, value: ValueId) -> bool {
        let node = self.graph.definition(value);
        match node.op {
            Op::Constant(_) => true,
            Op::Broadcast { .. } | Op::Cast(_) | Op::Reshape(_) => self.is_constant(node.operands[0]),
            _ => false,
        }
    }

    /// One number everywhere, in the type of `like`.
    pub(super) fn number(&mut self, like: ValueId, number: f64) -> ValueId {
        let ty = self.ty(like);
        self.graph.splat(&ty, number)
    }

    pub(super) fn zeros(&mut self, like: ValueId) -> ValueId {
        self.number(like, 0.0)
    }

    pub(super) fn unary(&mut self, op: UnaryOp, x: ValueId) -> ValueId {
        self.emit(Op::Unary(op), &[x])
    }

    /// The matrix that a stored one stands for.
    pub(super) fn floats(&mut self, stored: Stored, operands: &[ValueId]) -> ValueId {
        stored.floats(self.graph, operands)
    }

    pub(super) fn neg(&mut self, x: ValueId) -> ValueId {
        self.unary(UnaryOp::Neg, x)
    }

    pub(super) fn binary(&mut self, op: BinaryOp, x: ValueId, y: ValueId) -> ValueId {
        self.emit(Op::Binary(op), &[x, y])
    }

    pub(super) fn add(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.binary(BinaryOp::Add, x, y)
    }

    pub(super) fn sub(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.binary(BinaryOp::Sub, x, y)
    }

    pub(super) fn mul(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.binary(BinaryOp::Mul, x, y)
    }

    pub(super) fn div(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.binary(BinaryOp::Div, x, y)
    }

    /// `x` times a number.
    pub(super) fn scale(&mut self, x: ValueId, by: f64) -> ValueId {
        let by = self.number(x, by);
        self.mul(x, by)
    }

    pub(super) fn compare(&mut self, op: CompareOp, x: ValueId, y: ValueId) -> ValueId {
        self.emit(Op::Compare(op), &[x, y])
    }

    /// `x == number`.
    pub(super) fn is(&mut self, x: ValueId, number: f64) -> ValueId {
        let number = self.number(x, number);
        self.compare(CompareOp::Eq, x, number)
    }

    pub(super) fn select(&mut self, condition: ValueId, x: ValueId, y: ValueId) -> ValueId {
        self.emit(Op::Select, &[condition, x, y])
    }

    pub(super) fn reshape(&mut self, x: ValueId, shape: Shape) -> ValueId {
        self.emit(Op::Reshape(shape), &[x])
    }

    pub(super) fn transpose(&mut self, x: ValueId, permutation: Vec<usize>) -> ValueId {
        if permutation.iter().copied().eq(0..permutation.len()) {
            return x;
        }
        self.emit(Op::Transpose(permutation), &[x])
    }

    pub(super) fn sum(&mut self, x: ValueId, axes: Vec<usize>) -> ValueId {
        if axes.is_empty() {
            return x;
        }
        self.emit(Op::Reduce { op: ReduceOp::Sum, axes }, &[x])
    }

    /// The result of a reduction over `axes`, repeated over the `shape` that was reduced.
    pub(super) fn spread(&mut self, x: ValueId, shape: &Shape, axes: &[usize]) -> ValueId {
        let kept = (0..shape.rank()).filter(|axis| !axes.contains(axis)).collect();
        self.emit(Op::Broadcast { shape: shape.clone(), axes: kept }, &[x])
    }

    /// `size` elements of one axis from `start`, and all of the others.
    pub(super) fn slice_axis(&mut self, x: ValueId, axis: usize, start: Dim, size: Dim) -> ValueId {
        let whole = |dim: &Dim| SliceRange { start: Dim::from(0), size: dim.clone(), step: 1 };
        let mut ranges: Vec<SliceRange> = self.shape(x).iter().map(whole).collect();
        ranges[axis] = SliceRange { start, size, step: 1 };
        self.emit(Op::Slice(ranges), &[x])
    }

    /// `x` between `low` and `high` zeros on each axis.
    pub(super) fn pad_zeros(&mut self, x: ValueId, low: Vec<Dim>, high: Vec<Dim>) -> ValueId {
        if low.iter().chain(&high).all(|dim| dim.is(0)) {
            return x;
        }
        let dtype = self.ty(x).dtype;
        let zero = self.graph.scalar(dtype, 0.0);
        self.emit(Op::Pad { low, high }, &[x, zero])
    }
}
