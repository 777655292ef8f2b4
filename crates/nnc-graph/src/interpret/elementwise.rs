//! Elementwise ops. `f64` functions come from the platform's `libm`; `erf` from its definition, see [`erf`].

use super::array::{Array, Data};
use crate::{BinaryOp, CompareOp, DType, UnaryOp};

pub(super) fn unary(op: UnaryOp, x: &Array) -> Array {
    let data = match &x.data {
        Data::Float(values) => Data::Float(values.iter().map(|&v| unary_float(op, v)).collect()),
        Data::Int(values) => Data::Int(values.iter().map(|&v| unary_int(op, v)).collect()),
    };
    Array { dtype: x.dtype, dims: x.dims.clone(), data }
}

fn unary_float(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sign if x == 0.0 => 0.0,
        UnaryOp::Sign if x.is_nan() => x,
        UnaryOp::Sign => x.signum(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Erf => erf(x),
        UnaryOp::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => 1.0 / x.sqrt(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Not => f64::from(u8::from(x == 0.0)),
    }
}

fn unary_int(op: UnaryOp, x: i64) -> i64 {
    match op {
        UnaryOp::Neg => x.wrapping_neg(),
        UnaryOp::Abs => x.wrapping_abs(),
        UnaryOp::Sign => x.signum(),
        UnaryOp::Not => i64::from(x == 0),
        UnaryOp::Exp | UnaryOp::Log | UnaryOp::Tanh | UnaryOp::Erf | UnaryOp::Sigmoid | UnaryOp::Sqrt => float_only(),
        UnaryOp::Rsqrt | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => float_only(),
    }
}

fn float_only() -> i64 {
    unreachable!("a verified graph applies it to floats only")
}

pub(super) fn binary(op: BinaryOp, a: &Array, b: &Array) -> Array {
    let data = match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) => {
            Data::Float(a.iter().zip(b).map(|(&a, &b)| binary_float(op, a, b)).collect())
        }
        (Data::Int(a_values), Data::Int(b)) => {
            Data::Int(a_values.iter().zip(b).map(|(&x, &y)| binary_int(op, x, y)).collect())
        }
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("one dtype"),
    };
    Array { dtype: a.dtype, dims: a.dims.clone(), data }
}

fn binary_float(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Rem => a - (a / b).floor() * b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Max | BinaryOp::Min if a.is_nan() || b.is_nan() => f64::NAN,
        BinaryOp::Max => a.max(b),
        BinaryOp::Min => a.min(b),
        BinaryOp::And | BinaryOp::Or => unreachable!("a verified graph applies it to bool and integers only"),
    }
}

fn binary_int(op: BinaryOp, a: i64, b: i64) -> i64 {
    let floor_div = |a: i64, b: i64| {
        if b == 0 {
            return 0;
        }
        let quotient = a.wrapping_div(b);
        if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
    };
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div => floor_div(a, b),
        BinaryOp::Rem if b == 0 => 0,
        BinaryOp::Rem => a.wrapping_sub(floor_div(a, b).wrapping_mul(b)),
        BinaryOp::Max => a.max(b),
        BinaryOp::Min => a.min(b),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Pow => float_only(),
    }
}

pub(super) fn compare(op: CompareOp, a: &Array, b: &Array) -> Array {
    let values = match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) => a.iter().zip(b).map(|(a, b)| holds(op, a, b)).collect(),
        (Data::Int(a), Data::Int(b)) => a.iter().zip(b).map(|(a, b)| holds(op, a, b)).collect(),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("one dtype"),
    };
    Array::ints(DType::Bool, &a.dims, values)
}

fn holds<T: PartialOrd>(op: CompareOp, a: &T, b: &T) -> i64 {
    i64::from(match op {
        CompareOp::Eq => a == b,
        CompareOp::Ne => a != b,
        CompareOp::Lt => a < b,
        CompareOp::Le => a <= b,
        CompareOp::Gt => a > b,
        CompareOp::Ge => a >= b,
    })
}

pub(super) fn select(condition: &Array, a: &Array, b: &Array) -> Array {
    let chosen = condition.to_ints();
    let data = match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) => Data::Float(choose(&chosen, a, b)),
        (Data::Int(a), Data::Int(b)) => Data::Int(choose(&chosen, a, b)),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("one dtype"),
    };
    Array { dtype: a.dtype, dims: a.dims.clone(), data }
}

fn choose<T: Copy>(chosen: &[i64], a: &[T], b: &[T]) -> Vec<T> {
    chosen.iter().zip(a.iter().zip(b)).map(|(&c, (&a, &b))| if c != 0 { a } else { b }).collect()
}

pub(super) fn cast(x: &Array, to: DType) -> Array {
    if to == DType::Bool {
        let values = x.to_floats().into_iter().map(|value| i64::from(value != 0.0)).collect();
        return Array::ints(to, &x.dims, values);
    }
    if to.is_float() {
        return Array::floats(to, &x.dims, x.to_floats());
    }
    let values = match &x.data {
        Data::Float(values) => values.iter().map(|&value| saturate(value, to)).collect(),
        Data::Int(values) => values.clone(),
    };
    Array::ints(to, &x.dims, values)
}

/// Truncates toward zero and saturates; NaN becomes 0.
fn saturate(value: f64, to: DType) -> i64 {
    match to {
        DType::I8 => i64::from(value as i8),
        DType::U8 => i64::from(value as u8),
        DType::I16 => i64::from(value as i16),
        DType::I32 => i64::from(value as i32),
        DType::I64 | DType::F32 | DType::F64 | DType::F16 | DType::Bf16 | DType::Bool => value as i64,
    }
}

/// The error function to about 1e-15: its Taylor series for |x| < 2.5, the continued fraction of `erfc` beyond
/// (Abramowitz and Stegun 7.1.5 and 7.1.14).
pub(super) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if x.is_nan() || a == 0.0 {
        return x;
    }
    let scale = std::f64::consts::FRAC_2_SQRT_PI;
    if a < 2.5 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return scale * sum;
    }
    if a > 6.0 {
        return x.signum();
    }
    let tail = (1..=80).rev().fold(a, |fraction, k| a + f64::from(k) / 2.0 / fraction);
    x.signum() * (1.0 - scale / 2.0 * (-a * a).exp() / tail)
}
