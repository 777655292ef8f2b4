//! What rules ask of a graph.

use super::Term;
use nnc_graph::{Dim, Graph, Op, Shape, Tensor, TensorType, UnaryOp, ValueId};

/// The operand of a unary op.
pub fn unary(graph: &Graph, value: ValueId, op: UnaryOp) -> Option<ValueId> {
    let node = graph.definition(value);
    (node.op == Op::Unary(op)).then(|| node.operands[0])
}

/// The scalar constant that a value is everywhere.
pub fn splat(graph: &Graph, value: ValueId) -> Option<&Tensor> {
    let node = graph.definition(value);
    match &node.op {
        Op::Constant(tensor) if tensor.dims().is_empty() => Some(tensor),
        Op::Broadcast { .. } => match &graph.definition(node.operands[0]).op {
            Op::Constant(tensor) if tensor.dims().is_empty() => Some(tensor),
            _ => None,
        },
        _ => None,
    }
}

/// The number that a value is everywhere (an `i64` beyond 2⁵³ is none: it would be rounded).
pub fn number(graph: &Graph, value: ValueId) -> Option<f64> {
    let tensor = splat(graph, value)?;
    let number = tensor.to_f64()[0];
    (number.abs() < 9e15 || tensor.dtype().is_float()).then_some(number)
}

/// Whether a value is `number` everywhere; the sign of a zero counts.
pub fn is(graph: &Graph, value: ValueId, expected: f64) -> bool {
    number(graph, value)
        .is_some_and(|found| found == expected && found.is_sign_negative() == expected.is_sign_negative())
}

/// One number everywhere.
pub fn constant(ty: &TensorType, number: f64) -> Term {
    let scalar = Term::Op(Op::Constant(Tensor::scalar(ty.dtype, number)), Vec::new());
    repeated(scalar, &ty.shape)
}

/// A scalar term repeated over a shape.
pub fn repeated(scalar: Term, shape: &Shape) -> Term {
    if shape.rank() == 0 {
        return scalar;
    }
    Term::Op(Op::Broadcast { shape: shape.clone(), axes: Vec::new() }, vec![scalar])
}

/// The operand, shape and axes of a broadcast.
pub fn broadcast(graph: &Graph, value: ValueId) -> Option<(ValueId, &Shape, &[usize])> {
    let node = graph.definition(value);
    match &node.op {
        Op::Broadcast { shape, axes } => Some((node.operands[0], shape, axes)),
        _ => None,
    }
}

/// The dims of a shape that are not a literal 1.
pub fn without_ones(shape: &[Dim]) -> Vec<Dim> {
    shape.iter().filter(|dim| !dim.is(1)).cloned().collect()
}
