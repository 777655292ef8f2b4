//! Rules of arithmetic on numbers.

use super::matching::{constant, is, number, unary};
use super::{Rule, Term};
use nnc_graph::{BinaryOp, DType, Graph, Op, UnaryOp, ValueId};

/// Of one operand.
pub const UNARY: &[Rule] = &[
    Rule { name: "--x = x", apply: double_negation },
    Rule { name: "abs(-x) = abs(abs(x)) = abs(x)", apply: abs_of_sign_change },
];

/// Of two operands.
pub const BINARY: &[Rule] = &[
    Rule { name: "x * 1 = 1 * x = x / 1 = x - 0 = x + -0 = x; for integers x + 0 = x", apply: neutral_element },
    Rule { name: "integers: x * 0 = 0, x - x = 0", apply: integer_zero },
    Rule { name: "x * -1 = x / -1 = -x", apply: times_minus_one },
    Rule { name: "x + -y = x - y; -x + y = y - x; x - -y = x + y", apply: signs_of_a_sum },
    Rule { name: "-x * y = x * -y = -(x * y), and of quotients", apply: signs_of_a_product },
    Rule { name: "x / 2^k = x * 2^-k", apply: division_by_power_of_two },
    Rule { name: "x ** 0 = 1, x ** 1 = x, x ** -1 = 1 / x, and 2, 3, 4 multiplied out", apply: small_power },
    Rule { name: "max(x, x) = min(x, x) = x", apply: extreme_of_one },
];

fn double_negation(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    if *op != Op::Unary(UnaryOp::Neg) {
        return None;
    }
    unary(graph, x[0], UnaryOp::Neg).map(Term::Value)
}

fn abs_of_sign_change(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    // The negative of an unsigned number is another positive one.
    if *op != Op::Unary(UnaryOp::Abs) || graph.ty(x[0]).dtype == DType::U8 {
        return None;
    }
    let inner = unary(graph, x[0], UnaryOp::Neg).or_else(|| unary(graph, x[0], UnaryOp::Abs))?;
    Some(Term::op(op.clone(), &[inner]))
}

fn neutral_element(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Binary(binary) = op else { return None };
    let float = graph.ty(x[0]).dtype.is_float();
    let keeps_first = match binary {
        BinaryOp::Mul | BinaryOp::Div => is(graph, x[1], 1.0),
        BinaryOp::Sub => is(graph, x[1], 0.0),
        BinaryOp::Add => is(graph, x[1], if float { -0.0 } else { 0.0 }),
        _ => false,
    };
    let keeps_second = match binary {
        BinaryOp::Mul => is(graph, x[0], 1.0),
        BinaryOp::Add => is(graph, x[0], if float { -0.0 } else { 0.0 }),
        _ => false,
    };
    match (keeps_first, keeps_second) {
        (true, _) => Some(Term::Value(x[0])),
        (_, true) => Some(Term::Value(x[1])),
        (false, false) => None,
    }
}

fn integer_zero(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let ty = graph.ty(x[0]);
    let zero = match op {
        _ if !ty.dtype.is_int() => false,
        Op::Binary(BinaryOp::Mul) => is(graph, x[0], 0.0) || is(graph, x[1], 0.0),
        Op::Binary(BinaryOp::Sub) => x[0] == x[1],
        _ => false,
    };
    zero.then(|| constant(ty, 0.0))
}

fn times_minus_one(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let negated = match op {
        Op::Binary(BinaryOp::Mul | BinaryOp::Div) if is(graph, x[1], -1.0) => x[0],
        Op::Binary(BinaryOp::Mul) if is(graph, x[0], -1.0) => x[1],
        _ => return None,
    };
    // An integer quotient by -1 overflows at the least integer as a negation does, but -1 of a `u8` is no -1.
    Some(Term::op(Op::Unary(UnaryOp::Neg), &[negated]))
}

fn signs_of_a_sum(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let negated = |value| unary(graph, value, UnaryOp::Neg);
    match op {
        Op::Binary(BinaryOp::Add) => match (negated(x[1]), negated(x[0])) {
            (Some(y), _) => Some(Term::op(Op::Binary(BinaryOp::Sub), &[x[0], y])),
            (None, Some(y)) => Some(Term::op(Op::Binary(BinaryOp::Sub), &[x[1], y])),
            (None, None) => None,
        },
        Op::Binary(BinaryOp::Sub) => negated(x[1]).map(|y| Term::op(Op::Binary(BinaryOp::Add), &[x[0], y])),
        _ => None,
    }
}

/// Outwards, where it meets a sum or another sign. Not for integer quotients: they round downwards.
fn signs_of_a_product(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let applies = match op {
        Op::Binary(BinaryOp::Mul) => true,
        Op::Binary(BinaryOp::Div) => graph.ty(x[0]).dtype.is_float(),
        _ => false,
    };
    if !applies {
        return None;
    }
    let (a, b) = (unary(graph, x[0], UnaryOp::Neg), unary(graph, x[1], UnaryOp::Neg));
    let product = Term::op(op.clone(), &[a.unwrap_or(x[0]), b.unwrap_or(x[1])]);
    match (a, b) {
        (Some(_), Some(_)) => Some(product),
        (Some(_), None) | (None, Some(_)) => Some(Term::Op(Op::Unary(UnaryOp::Neg), vec![product])),
        (None, None) => None,
    }
}

fn division_by_power_of_two(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let ty = graph.ty(x[0]);
    if *op != Op::Binary(BinaryOp::Div) || !ty.dtype.is_float() {
        return None;
    }
    let divisor = number(graph, x[1])?;
    // Powers whose reciprocal every float dtype but the narrowest holds exactly.
    let exponent = divisor.abs().log2();
    let exact = exponent.fract() == 0.0 && exponent.abs() <= 14.0;
    exact.then(|| Term::Op(Op::Binary(BinaryOp::Mul), vec![Term::Value(x[0]), constant(ty, 1.0 / divisor)]))
}

fn small_power(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    if *op != Op::Binary(BinaryOp::Pow) {
        return None;
    }
    let base = || Term::Value(x[0]);
    let product = |a: Term, b: Term| Term::Op(Op::Binary(BinaryOp::Mul), vec![a, b]);
    let exponent = number(graph, x[1])?;
    Some(match exponent {
        0.0 => constant(graph.ty(x[0]), 1.0),
        1.0 => base(),
        -1.0 => Term::Op(Op::Binary(BinaryOp::Div), vec![constant(graph.ty(x[0]), 1.0), base()]),
        2.0 => product(base(), base()),
        3.0 => product(product(base(), base()), base()),
        4.0 => product(product(base(), base()), product(base(), base())),
        _ => return None,
    })
}

fn extreme_of_one(_: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let extreme = matches!(op, Op::Binary(BinaryOp::Max | BinaryOp::Min));
    (extreme && x[0] == x[1]).then_some(Term::Value(x[0]))
}
