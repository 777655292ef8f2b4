//! Elementwise ops in the kernel IR, on any number of lanes.

use crate::ir::{Builder, Elem, Type, Value};
use crate::math;
use nnc_graph::{BinaryOp, CompareOp, Op, UnaryOp};

/// The result of an elementwise op on operands of equally many lanes.
///
/// # Panics
/// On ops that are not elementwise: a bug in the compiler.
pub fn compute(b: &mut Builder, op: &Op, operands: &[Value]) -> Value {
    match (op, operands) {
        (Op::Unary(op), &[x]) => unary(b, *op, x),
        (Op::Binary(op), &[x, y]) => binary(b, *op, x, y),
        (Op::Compare(op), &[x, y]) => compare(b, *op, x, y),
        (Op::Select, &[mask, x, y]) => b.select(mask, x, y),
        (Op::Cast(dtype), &[x]) => {
            let elem = super::memory::elem(*dtype);
            b.convert(x, elem)
        }
        (Op::StopGradient, &[x]) => x,
        _ => panic!("compiler bug: `{}` is not elementwise", op.name()),
    }
}

fn unary(b: &mut Builder, op: UnaryOp, x: Value) -> Value {
    match op {
        UnaryOp::Neg => b.neg(x),
        UnaryOp::Abs => b.abs(x),
        UnaryOp::Sign => sign(b, x),
        UnaryOp::Exp => math::exp(b, x),
        UnaryOp::Log => math::log(b, x),
        UnaryOp::Tanh => math::tanh(b, x),
        UnaryOp::Erf => math::erf(b, x),
        UnaryOp::Sigmoid => math::sigmoid(b, x),
        UnaryOp::Sqrt => b.sqrt(x),
        UnaryOp::Rsqrt => {
            let root = b.sqrt(x);
            let one = b.number(b.type_of(x), 1.0);
            b.div(one, root)
        }
        UnaryOp::Sin => math::sin(b, x),
        UnaryOp::Cos => math::cos(b, x),
        UnaryOp::Floor => b.floor(x),
        UnaryOp::Ceil => b.ceil(x),
        UnaryOp::Round => b.nearest(x),
        UnaryOp::Not => b.not(x),
    }
}

/// -1, 0 or 1; NaN stays, and so does nothing else: -0 becomes 0.
fn sign(b: &mut Builder, x: Value) -> Value {
    let ty = b.type_of(x);
    let (zero, one) = (b.zero(ty), b.number(ty, 1.0));
    let is_zero = b.eq(x, zero);
    let rest = b.select(is_zero, zero, x);
    let positive = b.gt(x, zero);
    let upper = b.select(positive, one, rest);
    if ty.elem == Elem::U8 {
        return upper;
    }
    let minus = b.number(ty, -1.0);
    let negative = b.lt(x, zero);
    b.select(negative, minus, upper)
}

fn binary(b: &mut Builder, op: BinaryOp, x: Value, y: Value) -> Value {
    match op {
        BinaryOp::Add => b.add(x, y),
        BinaryOp::Sub => b.sub(x, y),
        BinaryOp::Mul => b.mul(x, y),
        BinaryOp::Div => b.div(x, y),
        BinaryOp::Rem if b.type_of(x).elem.is_float() => math::rem(b, x, y),
        BinaryOp::Rem => b.rem(x, y),
        BinaryOp::Pow => math::pow(b, x, y),
        BinaryOp::Max => b.max(x, y),
        BinaryOp::Min => b.min(x, y),
        BinaryOp::And => b.and(x, y),
        BinaryOp::Or => b.or(x, y),
    }
}

fn compare(b: &mut Builder, op: CompareOp, x: Value, y: Value) -> Value {
    let number = |b: &mut Builder, v: Value| match b.type_of(v).elem {
        Elem::Bool => b.convert(v, Elem::U8),
        _ => v,
    };
    let (x, y) = (number(b, x), number(b, y));
    match op {
        CompareOp::Eq => b.eq(x, y),
        CompareOp::Ne => b.ne(x, y),
        CompareOp::Lt => b.lt(x, y),
        CompareOp::Le => b.le(x, y),
        CompareOp::Gt => b.gt(x, y),
        CompareOp::Ge => b.ge(x, y),
    }
}

/// `first + factor * lane` as integers of `elem`, in `lanes` lanes.
pub fn progression(b: &mut Builder, first: Value, factor: i64, lanes: u8, elem: Elem) -> Value {
    let first = b.convert(first, elem);
    let ty = Type::vector(elem, lanes);
    let first = b.splat(first, lanes);
    if lanes == 1 || factor == 0 {
        return first;
    }
    let numbers = b.iota(ty);
    let factor = b.number(ty, factor as f64);
    let steps = b.mul(numbers, factor);
    b.add(first, steps)
}
