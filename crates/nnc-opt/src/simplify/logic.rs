//! Rules of truth values and of `select`.

use super::matching::{splat, unary};
use super::{Rule, Term};
use nnc_graph::{BinaryOp, CompareOp, DType, Graph, Op, UnaryOp, ValueId};

/// Of negation.
pub const NOT: &[Rule] = &[
    Rule { name: "not not x = x", apply: double_not },
    Rule { name: "not (a == b) = (a != b), and the other way; orders only of integers", apply: not_of_compare },
];

/// Of conjunction and disjunction.
pub const BINARY: &[Rule] = &[
    Rule { name: "x and x = x or x = x", apply: idempotence },
    Rule { name: "x and true = x, x and false = false, x or false = x, x or true = true", apply: with_constant },
];

/// Of `select`.
pub const SELECT: &[Rule] = &[
    Rule { name: "select(true, a, b) = a; select(false, a, b) = b", apply: constant_condition },
    Rule { name: "select(c, x, x) = x", apply: equal_branches },
    Rule { name: "select(not c, a, b) = select(c, b, a)", apply: negated_condition },
    Rule { name: "select(c, true, false) = c", apply: condition_itself },
    Rule { name: "select(c, select(c, a, _), select(c, _, b)) = select(c, a, b)", apply: same_condition_inside },
];

fn truth(graph: &Graph, value: ValueId) -> Option<bool> {
    let tensor = splat(graph, value)?;
    (tensor.dtype() == DType::Bool).then(|| tensor.bytes()[0] != 0)
}

fn double_not(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    if *op != Op::Unary(UnaryOp::Not) {
        return None;
    }
    unary(graph, x[0], UnaryOp::Not).map(Term::Value)
}

fn not_of_compare(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let node = graph.definition(x[0]);
    let (Op::Unary(UnaryOp::Not), Op::Compare(compare)) = (op, &node.op) else { return None };
    let float = graph.ty(node.operands[0]).dtype.is_float();
    let opposite = match compare {
        CompareOp::Eq => CompareOp::Ne,
        CompareOp::Ne => CompareOp::Eq,
        // With a NaN both are false.
        CompareOp::Lt | CompareOp::Le | CompareOp::Gt | CompareOp::Ge if float => return None,
        CompareOp::Lt => CompareOp::Ge,
        CompareOp::Le => CompareOp::Gt,
        CompareOp::Gt => CompareOp::Le,
        CompareOp::Ge => CompareOp::Lt,
    };
    Some(Term::op(Op::Compare(opposite), &node.operands))
}

fn idempotence(_: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let logical = matches!(op, Op::Binary(BinaryOp::And | BinaryOp::Or));
    (logical && x[0] == x[1]).then_some(Term::Value(x[0]))
}

fn with_constant(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let absorbs = match op {
        Op::Binary(BinaryOp::And) => false,
        Op::Binary(BinaryOp::Or) => true,
        _ => return None,
    };
    let (constant, other) = match (truth(graph, x[0]), truth(graph, x[1])) {
        (Some(truth), _) => ((truth, x[0]), x[1]),
        (None, Some(truth)) => ((truth, x[1]), x[0]),
        (None, None) => return None,
    };
    Some(Term::Value(if constant.0 == absorbs { constant.1 } else { other }))
}

fn constant_condition(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    debug_assert_eq!(*op, Op::Select);
    truth(graph, x[0]).map(|holds| Term::Value(if holds { x[1] } else { x[2] }))
}

fn equal_branches(_: &Graph, _: &Op, x: &[ValueId]) -> Option<Term> {
    (x[1] == x[2]).then_some(Term::Value(x[1]))
}

fn negated_condition(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    unary(graph, x[0], UnaryOp::Not).map(|condition| Term::op(op.clone(), &[condition, x[2], x[1]]))
}

fn condition_itself(graph: &Graph, _: &Op, x: &[ValueId]) -> Option<Term> {
    (truth(graph, x[1]) == Some(true) && truth(graph, x[2]) == Some(false)).then_some(Term::Value(x[0]))
}

fn same_condition_inside(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let branch = |value: ValueId, position: usize| {
        let node = graph.definition(value);
        (node.op == Op::Select && node.operands[0] == x[0]).then(|| node.operands[position])
    };
    let (a, b) = (branch(x[1], 1), branch(x[2], 2));
    if a.is_none() && b.is_none() {
        return None;
    }
    Some(Term::op(op.clone(), &[x[0], a.unwrap_or(x[1]), b.unwrap_or(x[2])]))
}
