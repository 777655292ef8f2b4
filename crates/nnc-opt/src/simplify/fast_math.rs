//! Rules that hold for real numbers but not for every float: off unless `fast_math` is set.
//!
//! They may change the sign of a zero, and they forget infinities and NaN.

use super::matching::{constant, number};
use super::{Rule, Term};
use nnc_graph::{BinaryOp, Graph, Op, UnaryOp, ValueId};

/// All of them; they match binary ops.
pub const RULES: &[Rule] = &[
    Rule { name: "x + 0 = x - 0 = x", apply: plus_zero },
    Rule { name: "x * 0 = 0", apply: times_zero },
    Rule { name: "x - x = 0", apply: minus_itself },
    Rule { name: "x / c = x * (1 / c)", apply: division_by_constant },
    Rule { name: "x ** 0.5 = sqrt(x)", apply: root },
    Rule { name: "x + x = 2 * x", apply: twice },
    Rule { name: "(x * a) * b = x * (a * b)", apply: product_of_constants },
];

fn is_zero(graph: &Graph, value: ValueId) -> bool {
    number(graph, value) == Some(0.0)
}

fn plus_zero(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    match op {
        Op::Binary(BinaryOp::Add | BinaryOp::Sub) if is_zero(graph, x[1]) => Some(Term::Value(x[0])),
        Op::Binary(BinaryOp::Add) if is_zero(graph, x[0]) => Some(Term::Value(x[1])),
        _ => None,
    }
}

fn times_zero(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let zero = *op == Op::Binary(BinaryOp::Mul) && (is_zero(graph, x[0]) || is_zero(graph, x[1]));
    zero.then(|| constant(graph.ty(x[0]), 0.0))
}

fn minus_itself(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    (*op == Op::Binary(BinaryOp::Sub) && x[0] == x[1]).then(|| constant(graph.ty(x[0]), 0.0))
}

fn division_by_constant(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let ty = graph.ty(x[0]);
    if *op != Op::Binary(BinaryOp::Div) || !ty.dtype.is_float() {
        return None;
    }
    let divisor = number(graph, x[1]).filter(|divisor| *divisor != 0.0)?;
    Some(Term::Op(Op::Binary(BinaryOp::Mul), vec![Term::Value(x[0]), constant(ty, 1.0 / divisor)]))
}

fn root(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let half = *op == Op::Binary(BinaryOp::Pow) && number(graph, x[1]) == Some(0.5);
    half.then(|| Term::op(Op::Unary(UnaryOp::Sqrt), &x[..1]))
}

fn twice(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let ty = graph.ty(x[0]);
    let same = *op == Op::Binary(BinaryOp::Add) && x[0] == x[1] && ty.dtype.is_float();
    same.then(|| Term::Op(Op::Binary(BinaryOp::Mul), vec![constant(ty, 2.0), Term::Value(x[0])]))
}

fn product_of_constants(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let ty = graph.ty(x[0]);
    if *op != Op::Binary(BinaryOp::Mul) || !ty.dtype.is_float() {
        return None;
    }
    let scaled = |product: ValueId| {
        let node = graph.definition(product);
        let [a, b] = node.operands[..] else { return None };
        let multiplied = node.op == *op;
        multiplied.then(|| number(graph, a).map(|by| (b, by)).or_else(|| number(graph, b).map(|by| (a, by))))?
    };
    let by_number = |product: ValueId, factor: ValueId| Some((scaled(product)?, number(graph, factor)?));
    let ((source, a), b) = by_number(x[0], x[1]).or_else(|| by_number(x[1], x[0]))?;
    Some(Term::Op(op.clone(), vec![constant(ty, a * b), Term::Value(source)]))
}
