//! Folding of index arithmetic (i64 scalars) while a body is built.
//!
//! Exact: i64 arithmetic wraps, so sums re-associate. A chain of constant additions becomes one, which the builder then
//! moves into the constant part of an [`super::Address`].

use super::statement::{BinaryOp, CompareOp};

/// `a op b` on indices, by the rules of [`BinaryOp`].
pub fn binary(op: BinaryOp, a: i64, b: i64) -> i64 {
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div => floor_div(a, b),
        BinaryOp::Rem => a.wrapping_sub(floor_div(a, b).wrapping_mul(b)).wrapping_mul(i64::from(b != 0)),
        BinaryOp::Min => a.min(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl => a << (b & 63),
        BinaryOp::Shr => ((a as u64) >> (b & 63)) as i64,
        BinaryOp::Sar => a >> (b & 63),
    }
}

/// The quotient rounded toward negative infinity; 0 if `b` is 0; the least by -1 wraps.
pub fn floor_div(a: i64, b: i64) -> i64 {
    if b == 0 {
        return 0;
    }
    let quotient = a.wrapping_div(b);
    let rest = a.wrapping_rem(b);
    if rest != 0 && (rest < 0) != (b < 0) { quotient - 1 } else { quotient }
}

/// `a op b` on indices.
pub fn compare(op: CompareOp, a: i64, b: i64) -> bool {
    match op {
        CompareOp::Eq => a == b,
        CompareOp::Ne => a != b,
        CompareOp::Lt => a < b,
        CompareOp::Le => a <= b,
        CompareOp::Gt => a > b,
        CompareOp::Ge => a >= b,
    }
}

/// What `x op constant` is known to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    /// `x` itself.
    Same,
    /// A number.
    Number(i64),
}

/// The identities `x op constant` that hold for every `x`.
pub fn identity(op: BinaryOp, constant: i64) -> Option<Identity> {
    use Identity::{Number, Same};
    match (op, constant) {
        (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Or | BinaryOp::Xor, 0) => Some(Same),
        (BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar, 0) => Some(Same),
        (BinaryOp::Mul | BinaryOp::Div, 1) | (BinaryOp::And, -1) => Some(Same),
        (BinaryOp::Mul | BinaryOp::And | BinaryOp::Div | BinaryOp::Rem, 0) | (BinaryOp::Rem, 1) => Some(Number(0)),
        (BinaryOp::Min, i64::MAX) | (BinaryOp::Max, i64::MIN) => Some(Same),
        _ => None,
    }
}

/// Whether `a op b == b op a` on integers.
pub fn commutes(op: BinaryOp) -> bool {
    match op {
        BinaryOp::Add
        | BinaryOp::Mul
        | BinaryOp::Min
        | BinaryOp::Max
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor => true,
        BinaryOp::Sub | BinaryOp::Div | BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => false,
    }
}
