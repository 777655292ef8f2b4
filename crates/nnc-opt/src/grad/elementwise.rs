//! Rules of elementwise ops. `y` is the result and `d` its cotangent.

use super::builder::Builder;
use super::rules::Site;
use nnc_graph::{BinaryOp, CompareOp, Op, UnaryOp, ValueId};

pub(super) fn unary(b: &mut Builder<'_>, site: &Site<'_>, op: UnaryOp) -> Option<ValueId> {
    let (x, y, d) = (site.operand(), site.result, site.cotangent);
    let factor = match op {
        UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Not => return None,
        UnaryOp::Neg => return Some(b.neg(d)),
        UnaryOp::Log => return Some(b.div(d, x)),
        UnaryOp::Sqrt => {
            let twice = b.scale(y, 2.0);
            return Some(b.div(d, twice));
        }
        UnaryOp::Cos => {
            let sine = b.unary(UnaryOp::Sin, x);
            b.neg(sine)
        }
        UnaryOp::Abs => b.unary(UnaryOp::Sign, x),
        UnaryOp::Exp => y,
        UnaryOp::Sin => b.unary(UnaryOp::Cos, x),
        UnaryOp::Tanh => {
            let square = b.mul(y, y);
            one_minus(b, square)
        }
        UnaryOp::Sigmoid => {
            let rest = one_minus(b, y);
            b.mul(y, rest)
        }
        UnaryOp::Erf => {
            let square = b.mul(x, x);
            let exponent = b.neg(square);
            let bell = b.unary(UnaryOp::Exp, exponent);
            b.scale(bell, std::f64::consts::FRAC_2_SQRT_PI)
        }
        UnaryOp::Rsqrt => {
            let square = b.mul(y, y);
            let cube = b.mul(square, y);
            b.scale(cube, -0.5)
        }
    };
    Some(b.mul(d, factor))
}

fn one_minus(b: &mut Builder<'_>, x: ValueId) -> ValueId {
    let one = b.number(x, 1.0);
    b.sub(one, x)
}

pub(super) fn binary(b: &mut Builder<'_>, site: &Site<'_>, op: BinaryOp) -> Option<ValueId> {
    let (x, y, d) = (site.operands[0], site.operands[1], site.cotangent);
    let by_first = site.wanted == 0;
    Some(match op {
        BinaryOp::And | BinaryOp::Or => return None,
        BinaryOp::Add => d,
        BinaryOp::Sub if by_first => d,
        BinaryOp::Sub => b.neg(d),
        BinaryOp::Mul => b.mul(d, if by_first { y } else { x }),
        BinaryOp::Div if by_first => b.div(d, y),
        BinaryOp::Div => {
            let quotient = b.div(site.result, y);
            let product = b.mul(d, quotient);
            b.neg(product)
        }
        BinaryOp::Rem if by_first => d,
        BinaryOp::Rem => {
            let quotient = b.div(x, y);
            let whole = b.unary(UnaryOp::Floor, quotient);
            let product = b.mul(d, whole);
            b.neg(product)
        }
        BinaryOp::Pow if by_first => pow_by_base(b, x, y, d),
        BinaryOp::Pow => pow_by_exponent(b, site),
        BinaryOp::Max => extreme(b, site, CompareOp::Gt),
        BinaryOp::Min => extreme(b, site, CompareOp::Lt),
    })
}

/// `d * y * x^(y - 1)`, and 0 where `y` is 0.
fn pow_by_base(b: &mut Builder<'_>, x: ValueId, y: ValueId, d: ValueId) -> ValueId {
    let one = b.number(y, 1.0);
    let less = b.sub(y, one);
    let power = b.binary(BinaryOp::Pow, x, less);
    let factor = b.mul(y, power);
    let product = b.mul(d, factor);
    let (constant, zero) = (b.is(y, 0.0), b.zeros(d));
    b.select(constant, zero, product)
}

/// `d * x^y * log(x)`, and 0 where `x` is 0 and `y` is not negative. The logarithm never sees that 0, so that the
/// derivative of this is free of NaN as well.
fn pow_by_exponent(b: &mut Builder<'_>, site: &Site<'_>) -> ValueId {
    let (x, y) = (site.operands[0], site.operands[1]);
    let zero = b.zeros(x);
    let base_is_zero = b.is(x, 0.0);
    let not_negative = b.compare(CompareOp::Ge, y, zero);
    let flat = b.binary(BinaryOp::And, base_is_zero, not_negative);
    let one = b.number(x, 1.0);
    let base = b.select(flat, one, x);
    let logarithm = b.unary(UnaryOp::Log, base);
    let factor = b.mul(site.result, logarithm);
    let product = b.mul(site.cotangent, factor);
    b.select(flat, zero, product)
}

/// All to the operand that wins, half to each where they are equal; a NaN in either hands the cotangent to both.
/// Against a constant bound nothing where they are equal.
fn extreme(b: &mut Builder<'_>, site: &Site<'_>, wins: CompareOp) -> ValueId {
    let (mine, other) = (site.operand(), site.operands[1 - site.wanted]);
    if b.is_constant(other) {
        let wins = b.compare(wins, mine, other);
        let zero = b.zeros(site.cotangent);
        return b.select(wins, site.cotangent, zero);
    }
    let half = b.scale(site.cotangent, 0.5);
    let equal = b.compare(CompareOp::Eq, mine, other);
    let loses = b.compare(wins, other, mine);
    let zero = b.zeros(site.cotangent);
    let shared = b.select(equal, half, site.cotangent);
    b.select(loses, zero, shared)
}

pub(super) fn select(b: &mut Builder<'_>, site: &Site<'_>) -> Option<ValueId> {
    let (condition, d) = (site.operands[0], site.cotangent);
    let zero = b.zeros(d);
    match site.wanted {
        1 => Some(b.select(condition, d, zero)),
        2 => Some(b.select(condition, zero, d)),
        _ => None,
    }
}

pub(super) fn cast(b: &mut Builder<'_>, site: &Site<'_>) -> Option<ValueId> {
    let dtype = b.ty(site.operand()).dtype;
    Some(b.emit(Op::Cast(dtype), &[site.cotangent]))
}
