//! The meaning of each operation on one lane.
//!
//! A lane is its bits in the low part of a u64, zeros above; a bool is 0 or 1.

use super::fold;
use super::statement::{BinaryOp, CompareOp, UnaryOp};
use super::types::Elem;

/// The bits that an element has.
pub fn mask(elem: Elem) -> u64 {
    match elem {
        Elem::Bool => 1,
        _ => u64::MAX >> (64 - elem.bits()),
    }
}

/// An integer or bool lane as a number.
pub fn integer(elem: Elem, bits: u64) -> i64 {
    match elem {
        Elem::I8 => i64::from(bits as i8),
        Elem::I16 => i64::from(bits as i16),
        Elem::I32 => i64::from(bits as i32),
        Elem::U8 | Elem::I64 | Elem::Bool | Elem::F32 | Elem::F64 | Elem::F16 | Elem::Bf16 => bits as i64,
    }
}

fn of_f32(number: f32) -> u64 {
    u64::from(number.to_bits())
}

fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// A number in an element type: rounded to nearest even, or truncated and saturated.
pub fn of_f64(elem: Elem, number: f64) -> u64 {
    match elem {
        Elem::F32 => of_f32(number as f32),
        Elem::F64 => number.to_bits(),
        Elem::F16 => u64::from(half::f16::from_f64(number).to_bits()),
        Elem::Bf16 => u64::from(half::bf16::from_f64(number).to_bits()),
        Elem::I8 => u64::from(number as i8 as u8),
        Elem::U8 => u64::from(number as u8),
        Elem::I16 => u64::from(number as i16 as u16),
        Elem::I32 => u64::from(number as i32 as u32),
        Elem::I64 => number as i64 as u64,
        Elem::Bool => u64::from(number != 0.0),
    }
}

/// A function of one operand.
pub fn unary(elem: Elem, op: UnaryOp, a: u64) -> u64 {
    match elem {
        Elem::F32 => match op {
            UnaryOp::Neg => a ^ (1 << 31),
            UnaryOp::Abs => a & !(1 << 31),
            _ => of_f32(rounding(op, f64::from(f32_of(a))) as f32),
        },
        Elem::F64 => match op {
            UnaryOp::Neg => a ^ (1 << 63),
            UnaryOp::Abs => a & !(1 << 63),
            _ => rounding(op, f64::from_bits(a)).to_bits(),
        },
        _ => {
            let number = integer(elem, a);
            let result = match op {
                UnaryOp::Neg => number.wrapping_neg(),
                UnaryOp::Abs => number.wrapping_abs(),
                UnaryOp::Not => !number,
                UnaryOp::Sqrt | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Nearest => {
                    unreachable!("refused by the verifier")
                }
            };
            result as u64 & mask(elem)
        }
    }
}

/// In f64, from which rounding to f32 is exact for each of these, the square root included (53 ≥ 2 * 24 + 2 bits).
fn rounding(op: UnaryOp, a: f64) -> f64 {
    match op {
        UnaryOp::Sqrt => a.sqrt(),
        UnaryOp::Floor => a.floor(),
        UnaryOp::Ceil => a.ceil(),
        UnaryOp::Trunc => a.trunc(),
        UnaryOp::Nearest => a.round_ties_even(),
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not => unreachable!("refused by the verifier, or done on the bits"),
    }
}

/// A function of two operands.
pub fn binary(elem: Elem, op: BinaryOp, a: u64, b: u64) -> u64 {
    match elem {
        Elem::F32 => match float_binary(op, f32_of(a), f32_of(b)) {
            Some(number) => of_f32(number),
            None => chosen(compare(elem, choice(op), b, a), elem, a, b),
        },
        Elem::F64 => match float_binary(op, f64::from_bits(a), f64::from_bits(b)) {
            Some(number) => number.to_bits(),
            None => chosen(compare(elem, choice(op), b, a), elem, a, b),
        },
        _ => integer_binary(elem, op, a, b) & mask(elem),
    }
}

fn float_binary<T>(op: BinaryOp, a: T, b: T) -> Option<T>
where
    T: std::ops::Add<Output = T> + std::ops::Sub<Output = T> + std::ops::Mul<Output = T> + std::ops::Div<Output = T>,
{
    match op {
        BinaryOp::Add => Some(a + b),
        BinaryOp::Sub => Some(a - b),
        BinaryOp::Mul => Some(a * b),
        BinaryOp::Div => Some(a / b),
        BinaryOp::Min | BinaryOp::Max => None,
        BinaryOp::Rem
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr
        | BinaryOp::Sar => unreachable!("refused by the verifier"),
    }
}

fn choice(op: BinaryOp) -> CompareOp {
    if op == BinaryOp::Min { CompareOp::Lt } else { CompareOp::Gt }
}

/// `b` if it compares as asked or is NaN, else `a`.
fn chosen(compares: bool, elem: Elem, a: u64, b: u64) -> u64 {
    let nan = compare(elem, CompareOp::Ne, b, b);
    if compares || nan { b } else { a }
}

fn integer_binary(elem: Elem, op: BinaryOp, a: u64, b: u64) -> u64 {
    let (x, y) = (integer(elem, a), integer(elem, b));
    let by = (b & u64::from(elem.bits() - 1)) as u32;
    match op {
        BinaryOp::Shl => a << by,
        BinaryOp::Shr => a >> by,
        // The upper bit is repeated for u8 too.
        BinaryOp::Sar => ((a << (64 - elem.bits())) as i64 >> (64 - elem.bits() + by).min(63)) as u64,
        BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::Min
        | BinaryOp::Max
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor => fold::binary(op, x, y) as u64,
    }
}

/// A comparison.
pub fn compare(elem: Elem, op: CompareOp, a: u64, b: u64) -> bool {
    match elem {
        Elem::F32 => ordered(op, f64::from(f32_of(a)).partial_cmp(&f64::from(f32_of(b)))),
        Elem::F64 => ordered(op, f64::from_bits(a).partial_cmp(&f64::from_bits(b))),
        _ => ordered(op, Some(integer(elem, a).cmp(&integer(elem, b)))),
    }
}

fn ordered(op: CompareOp, order: Option<std::cmp::Ordering>) -> bool {
    match op {
        CompareOp::Eq => order.is_some_and(|order| order.is_eq()),
        CompareOp::Ne => order.is_none_or(|order| order.is_ne()),
        CompareOp::Lt => order.is_some_and(|order| order.is_lt()),
        CompareOp::Le => order.is_some_and(|order| order.is_le()),
        CompareOp::Gt => order.is_some_and(|order| order.is_gt()),
        CompareOp::Ge => order.is_some_and(|order| order.is_ge()),
    }
}

/// `a * b + c`, rounded once.
pub fn fma(elem: Elem, a: u64, b: u64, c: u64) -> u64 {
    match elem {
        Elem::F32 => of_f32(f32_of(a).mul_add(f32_of(b), f32_of(c))),
        _ => f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c)).to_bits(),
    }
}

/// A lane of one element as another.
pub fn convert(from: Elem, to: Elem, bits: u64) -> u64 {
    match (from, to) {
        (_, Elem::Bool) if from.is_float() => u64::from(compare(from, CompareOp::Ne, bits, 0)),
        (_, Elem::Bool) => u64::from(bits != 0),
        (Elem::F32, Elem::F16) => u64::from(half::f16::from_f32(f32_of(bits)).to_bits()),
        (Elem::F32, Elem::Bf16) => u64::from(half::bf16::from_f32(f32_of(bits)).to_bits()),
        (Elem::F16, _) => of_f32(half::f16::from_bits(bits as u16).to_f32()),
        (Elem::Bf16, _) => bits << 16,
        (Elem::F32, _) => of_f64(to, f64::from(f32_of(bits))),
        (Elem::F64, _) => of_f64(to, f64::from_bits(bits)),
        (_, Elem::F32) => of_f32(integer(from, bits) as f32),
        (_, Elem::F64) => (integer(from, bits) as f64).to_bits(),
        _ => integer(from, bits) as u64 & mask(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_take_nan_and_the_first_of_two_zeros() {
        let (zero, minus, nan, one) = (0, of_f32(-0.0), of_f32(f32::NAN), of_f32(1.0));
        for op in [BinaryOp::Min, BinaryOp::Max] {
            assert_eq!(binary(Elem::F32, op, zero, minus), zero);
            assert_eq!(binary(Elem::F32, op, minus, zero), minus);
            assert!(f32_of(binary(Elem::F32, op, nan, one)).is_nan());
            assert!(f32_of(binary(Elem::F32, op, one, nan)).is_nan());
        }
    }

    #[test]
    fn integer_division_rounds_down() {
        let divide = |a: i32, b: i32| binary(Elem::I32, BinaryOp::Div, a as u32 as u64, b as u32 as u64) as i32;
        let rest = |a: i32, b: i32| binary(Elem::I32, BinaryOp::Rem, a as u32 as u64, b as u32 as u64) as i32;
        assert_eq!((divide(-7, 2), rest(-7, 2)), (-4, 1));
        assert_eq!((divide(7, -2), rest(7, -2)), (-4, -1));
        assert_eq!((divide(7, 0), rest(7, 0)), (0, 0));
        assert_eq!((divide(i32::MIN, -1), rest(i32::MIN, -1)), (i32::MIN, 0));
    }

    #[test]
    fn shifts_take_the_amount_modulo_the_width() {
        assert_eq!(binary(Elem::U8, BinaryOp::Sar, 0x80, 9), 0xc0);
        assert_eq!(binary(Elem::U8, BinaryOp::Shr, 0x80, 9), 0x40);
        assert_eq!(binary(Elem::I32, BinaryOp::Shl, 1, 33), 2);
    }
}
