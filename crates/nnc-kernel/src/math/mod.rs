//! Elementary functions and random numbers, expanded in the kernel IR, so that every backend computes the same bits.
//!
//! Every function takes any number of lanes of f32 or f64 and is free of branches. Accuracy, in units in the last place
//! of the result, over all arguments, denormals included (checked by the example `ulp` of `nnc-codegen`):
//!
//! | | f32 | f64 |
//! | --- | --- | --- |
//! | [`exp`], [`log`], [`tanh`], [`sigmoid`], [`erf`] | 2 | 4 |
//! | [`sin`], [`cos`] | 1 for arguments up to 2^20 | 4 for arguments up to 2^20 |
//! | [`pow`] | 1 | relative error up to (2 + abs(y ln x)) * 2^-52 |
//! | [`rsqrt`] | 1.5 (a root and a division, each rounded) | 1.5 |
//!
//! Of larger arguments of sine and cosine the error grows in proportion (the reduction uses π/2 to 159 bits, but
//! counts quarter turns in 53); from 2^51 on the result is NaN.
//!
//! Sources: the argument reductions are those of Cody and Waite, "Software Manual for the Elementary Functions" (1980);
//! the logarithm and the sine in f64 follow fdlibm (Sun Microsystems, 1993). The other polynomials are minimax fits of
//! our own (Remez exchange in 50 digits), weighted for the relative error of the result.

mod double;
mod random;
mod single;

pub use random::{threefry2x32, uniform, uniform_f32};

use crate::ir::{Builder, Elem, Type, Value};

/// The type of an argument, which is f32 or f64.
fn float_type(b: &Builder, x: Value) -> Type {
    let ty = b.type_of(x);
    assert!(ty.elem.is_float(), "elementary functions take f32 and f64, not {ty}");
    ty
}

macro_rules! by_width {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            pub fn $name(b: &mut Builder, x: Value) -> Value {
                match float_type(b, x).elem {
                    Elem::F64 => double::$name(b, x),
                    _ => single::$name(b, x),
                }
            }
        )*
    };
}

by_width!(
    /// `e^x`.
    exp,
    /// The natural logarithm: -inf at zeros, NaN below.
    log,
    /// The hyperbolic tangent.
    tanh,
    /// `1 / (1 + e^-x)`, accurate also where the result is small.
    sigmoid,
    /// The error function.
    erf,
    /// The sine.
    sin,
    /// The cosine.
    cos,
);

/// `1 / sqrt(x)`, by a true square root and a division.
pub fn rsqrt(b: &mut Builder, x: Value) -> Value {
    let one = b.number(float_type(b, x), 1.0);
    let root = b.sqrt(x);
    b.div(one, root)
}

/// `x^y` with the special cases of IEEE 754's `pow`: 1 if `x` is 1 or `y` is 0; for negative `x` NaN unless `y` is an
/// integer. In f32 it is computed in f64.
pub fn pow(b: &mut Builder, x: Value, y: Value) -> Value {
    if float_type(b, x).elem == Elem::F64 {
        return double::pow(b, x, y);
    }
    let (x, y) = (b.convert(x, Elem::F64), b.convert(y, Elem::F64));
    let power = double::pow(b, x, y);
    b.convert(power, Elem::F32)
}

/// `x - floor(x / y) * y`, with the sign of `y`. In f32 it is computed in f64, as the definition is, so that a quotient
/// neither overflows nor loses its last digits.
pub fn rem(b: &mut Builder, x: Value, y: Value) -> Value {
    if float_type(b, x).elem == Elem::F64 {
        return double::rem(b, x, y);
    }
    let (x, y) = (b.convert(x, Elem::F64), b.convert(y, Elem::F64));
    let rest = double::rem(b, x, y);
    b.convert(rest, Elem::F32)
}

/// `Σ c[i] x^i` by Horner's rule with fused steps.
fn polynomial(b: &mut Builder, x: Value, coefficients: &[f64]) -> Value {
    let ty = b.type_of(x);
    let mut steps = coefficients.iter().rev();
    let first = steps.next().copied().unwrap_or(0.0);
    let mut sum = b.number(ty, first);
    for &coefficient in steps {
        let coefficient = b.number(ty, coefficient);
        sum = b.fma(sum, x, coefficient);
    }
    sum
}

/// `magnitude` (not negative) with the sign of `sign`.
fn copy_sign(b: &mut Builder, magnitude: Value, sign: Value) -> Value {
    let ty = b.type_of(sign);
    let integer = if ty.elem == Elem::F64 { Elem::I64 } else { Elem::I32 };
    let upper = b.constant(ty.with_elem(integer), 1 << (ty.elem.bits() - 1));
    let (magnitude, sign) = (b.bitcast(magnitude, integer), b.bitcast(sign, integer));
    let sign = b.and(sign, upper);
    let bits = b.or(magnitude, sign);
    b.bitcast(bits, ty.elem)
}
