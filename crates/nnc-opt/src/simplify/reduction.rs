//! Rules of reductions. The terms of a sum are never reordered: that would change its rounding.

use super::matching::{broadcast, constant};
use super::{Rule, Term};
use nnc_graph::{BinaryOp, DType, Graph, Op, ReduceOp, Shape, TensorType, ValueId};

/// All of them.
pub const RULES: &[Rule] = &[
    Rule { name: "reduce over no axes, or over axes of size 1 = reshape", apply: over_ones },
    Rule { name: "reduce(broadcast(x)) over new axes", apply: over_repetition },
    Rule { name: "max(max(x)) = max(x), and min, any, all", apply: reduce_of_reduce },
];

fn over_ones(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Reduce { axes, .. } = op else { return None };
    let shape = &graph.ty(x[0]).shape;
    if !axes.iter().all(|&axis| shape[axis].is(1)) {
        return None;
    }
    let kept = (0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis].clone()).collect();
    Some(Term::op(Op::Reshape(Shape(kept)), x))
}

/// Reduces each axis along which a broadcast repeats its operand: an extreme of equal values is that value, and their
/// sum is the value times their number, which is exact where the rounding of the sum is (integers and narrow floats
/// are summed wider; otherwise only a power of two).
fn over_repetition(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Reduce { op: reduce, axes } = op else { return None };
    let (source, shape, places) = broadcast(graph, x[0])?;
    let repeated = |axis: &usize| !places.contains(axis);
    if axes.is_empty() || !axes.iter().all(repeated) {
        return None;
    }
    let rest: Vec<usize> = (0..shape.rank()).filter(|axis| !axes.contains(axis)).collect();
    let kept = Shape(rest.iter().map(|&axis| shape[axis].clone()).collect());
    let places = places.iter().map(|place| rest.iter().position(|axis| axis == place)).collect::<Option<Vec<_>>>()?;
    let ty = TensorType::new(graph.ty(source).dtype, kept.clone());
    let once = Term::op(Op::Broadcast { shape: kept, axes: places }, &[source]);
    match reduce {
        ReduceOp::Max | ReduceOp::Min | ReduceOp::Any | ReduceOp::All => Some(once),
        ReduceOp::Product => None,
        ReduceOp::Sum => {
            let count = axes.iter().try_fold(1i64, |product, &axis| product.checked_mul(shape[axis].as_number()?))?;
            let exact = matches!(ty.dtype, DType::F32 | DType::I32 | DType::I64) && count < 1 << 24;
            let count_term = constant(&ty, count as f64);
            let product = Term::Op(Op::Binary(BinaryOp::Mul), vec![once, count_term]);
            (exact || (count.count_ones() == 1 && count < 1 << 7)).then_some(product)
        }
    }
}

fn reduce_of_reduce(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let inner = graph.definition(x[0]);
    let (Op::Reduce { op: outer, axes }, Op::Reduce { op: first, axes: gone }) = (op, &inner.op) else { return None };
    let exact = match outer {
        ReduceOp::Max | ReduceOp::Min | ReduceOp::Any | ReduceOp::All => outer == first,
        ReduceOp::Sum | ReduceOp::Product => false,
    };
    if !exact {
        return None;
    }
    let rank = graph.ty(inner.operands[0]).shape.rank();
    let left: Vec<usize> = (0..rank).filter(|axis| !gone.contains(axis)).collect();
    let mut all: Vec<usize> = axes.iter().map(|&axis| left[axis]).chain(gone.iter().copied()).collect();
    all.sort_unstable();
    Some(Term::op(Op::Reduce { op: *outer, axes: all }, &inner.operands))
}
