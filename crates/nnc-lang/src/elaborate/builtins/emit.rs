//! Small pieces of graph that several primitives are made of. Whatever is asked for here is known to fit.

use nnc_graph::{BinaryOp, DType, Dim, Graph, Op, Shape, SliceRange, Tensor, TensorType, ValueId};

/// The type of a value.
pub(crate) fn ty(graph: &Graph, value: ValueId) -> TensorType {
    graph.ty(value).clone()
}

/// A scalar constant, exact also for an `i64` beyond 2⁵³.
pub(crate) fn int(graph: &mut Graph, dtype: DType, number: i64) -> ValueId {
    if dtype == DType::I64 {
        return graph.emit(Op::Constant(Tensor::scalar_i64(number)), &[]);
    }
    graph.scalar(dtype, number as f64)
}

/// The scalar that an integer stands for: a constant, or the extent it will be.
pub(crate) fn extent(graph: &mut Graph, dtype: DType, number: &Dim) -> ValueId {
    match number.as_number() {
        Some(number) => int(graph, dtype, number),
        None => graph.emit(Op::Extent { dim: number.clone(), dtype }, &[]),
    }
}

/// `x` as `dtype`; nothing when it is that already.
pub(crate) fn cast(graph: &mut Graph, x: ValueId, dtype: DType) -> ValueId {
    if graph.ty(x).dtype == dtype { x } else { graph.emit(Op::Cast(dtype), &[x]) }
}

/// What floats of these values are added up in: f64 if one of them is, else f32, which is more exact than halves.
pub(crate) fn joint_float(graph: &Graph, values: impl IntoIterator<Item = ValueId>) -> DType {
    let is_wide = values.into_iter().any(|value| graph.ty(value).dtype == DType::F64);
    if is_wide { DType::F64 } else { DType::F32 }
}

/// `x` as `shape`; nothing when it is that already.
pub(crate) fn reshape(graph: &mut Graph, x: ValueId, shape: Vec<Dim>) -> ValueId {
    let shape = Shape(shape);
    if graph.ty(x).shape == shape { x } else { graph.emit(Op::Reshape(shape), &[x]) }
}

/// `x` with its axes in another order; nothing when it is the same.
pub(crate) fn transpose(graph: &mut Graph, x: ValueId, permutation: Vec<usize>) -> ValueId {
    if permutation.iter().copied().eq(0..permutation.len()) { x } else { graph.emit(Op::Transpose(permutation), &[x]) }
}

/// `x` repeated over `shape`, its axes being the last ones of it.
pub(crate) fn stretch(graph: &mut Graph, x: ValueId, shape: &[Dim]) -> ValueId {
    let from = ty(graph, x).shape;
    if *from == *shape {
        return x;
    }
    let missing = shape.len() - from.rank();
    let axes = (missing..shape.len()).collect();
    graph.emit(Op::Broadcast { shape: Shape(shape.to_vec()), axes }, &[x])
}

/// Elementwise `a` and `b`, which have one type.
pub(crate) fn binary(graph: &mut Graph, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
    graph.emit(Op::Binary(op), &[a, b])
}

/// Elementwise `x` and a number of its dtype.
pub(crate) fn binary_number(graph: &mut Graph, op: BinaryOp, x: ValueId, number: f64) -> ValueId {
    let ty = ty(graph, x);
    let number = graph.splat(&ty, number);
    graph.emit(Op::Binary(op), &[x, number])
}

/// The scalar constant that a value is everywhere, if it is only repeated and moved.
pub(crate) fn everywhere(graph: &Graph, mut x: ValueId) -> Option<ValueId> {
    loop {
        let node = graph.definition(x);
        match &node.op {
            Op::Constant(tensor) => return tensor.dims().is_empty().then_some(x),
            Op::Broadcast { .. } | Op::Reshape(_) | Op::Transpose(_) => x = node.operands[0],
            _ => return None,
        }
    }
}

/// The range that is a whole axis.
pub(crate) fn whole(dim: &Dim) -> SliceRange {
    SliceRange { start: Dim::from(0i64), size: dim.clone(), step: 1 }
}

/// `x` without the other positions of one axis: `size` from `start` on.
pub(crate) fn slice_axis(graph: &mut Graph, x: ValueId, axis: usize, start: Dim, size: Dim) -> ValueId {
    let mut ranges: Vec<SliceRange> = ty(graph, x).shape.iter().map(whole).collect();
    ranges[axis] = SliceRange { start, size, step: 1 };
    graph.emit(Op::Slice(ranges), &[x])
}
