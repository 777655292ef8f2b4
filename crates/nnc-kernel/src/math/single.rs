//! The functions in f32.

use super::{copy_sign, double, polynomial};
use crate::ir::{Builder, Elem, Type, Value};

/// Added to a small number it leaves the nearest integer in the low bits: 1.5 * 2^23.
const ROUND: f32 = 12_582_912.0;
const LN_2: f32 = std::f32::consts::LN_2;
/// ln 2 - `LN_2`.
const LN_2_REST: f32 = -1.904_654_3e-9;
/// `(e^r - 1 - r) / r²` for |r| ≤ ln 2 / 2, to 3.1e-9 of the result.
const EXP: [f64; 5] = [
    0.499_999_940_395_355_2,
    0.166_665_211_319_923_4,
    0.041_668_388_992_547_99,
    0.008_368_716_575_205_326,
    0.001_381_459_878_757_596,
];
/// `(ln(1 + f) - f + f²/2) / f³` for √½ ≤ 1 + f ≤ √2, to 7.5e-10 of the result.
const LOG: [f64; 9] = [
    0.333_333_134_651_184_1,
    -0.250_000_089_406_967_16,
    0.200_021_192_431_449_9,
    -0.166_679_963_469_505_3,
    0.142_195_522_785_186_77,
    -0.124_055_884_778_499_6,
    0.118_881_590_664_386_75,
    -0.116_756_543_517_112_73,
    0.067_466_497_421_264_65,
];
/// `(tanh x / x - 1) / x²` in x², for |x| ≤ 0.625, to 4.4e-9 of the result.
const TANH: [f64; 5] = [
    -0.333_332_806_825_637_8,
    0.133_314_415_812_492_37,
    -0.053_739_715_367_555_62,
    0.020_639_088_004_827_5,
    -0.005_704_986_862_838_268,
];
/// `erf x / x - 1` in x², for |x| ≤ 0.875, to 8.5e-9 of the result.
const ERF: [f64; 6] = [
    0.128_379_151_225_090_03,
    -0.376_125_514_507_293_7,
    0.112_824_551_761_150_36,
    -0.026_791_462_674_736_977,
    0.005_032_181_274_145_842,
    -0.000_620_325_503_403_583_6,
];
/// `ln erfc x` for 0.875 ≤ x ≤ 4, to 1.9e-9 of erf.
const LN_ERFC: [f64; 7] = [
    -0.000_133_578_170_789_405_7,
    -1.127_936_124_801_635_7,
    -0.636_737_227_439_880_4,
    -0.104_327_477_514_743_8,
    0.022_420_203_313_231_468,
    -0.003_092_288_272_455_334_7,
    0.000_200_995_797_058_567_4,
];

/// `(p, n)` with `e^x = p * 2^n`, `p` about 0.7 to 1.4 and `n` an integer in i32 lanes; for |x| up to 2^20.
fn exp_parts(b: &mut Builder, x: Value) -> (Value, Value) {
    let lanes = b.lanes(x);
    let per_octave = b.f32(std::f32::consts::LOG2_E, lanes);
    let round = b.f32(ROUND, lanes);
    let shifted = b.fma(x, per_octave, round);
    let n = b.sub(shifted, round);
    let (high, low) = (b.f32(-LN_2, lanes), b.f32(-LN_2_REST, lanes));
    let r = b.fma(n, high, x);
    let r = b.fma(n, low, r);
    let q = polynomial(b, r, &EXP);
    let square = b.mul(r, r);
    let tail = b.fma(q, square, r);
    let one = b.f32(1.0, lanes);
    let p = b.add(tail, one);
    let bits = b.bitcast(shifted, Elem::I32);
    let zero = b.i32(ROUND.to_bits() as i32, lanes);
    (p, b.sub(bits, zero))
}

/// `2^n` for -126 ≤ n ≤ 127.
fn power_of_two(b: &mut Builder, n: Value) -> Value {
    let lanes = b.lanes(n);
    let (bias, place) = (b.i32(127, lanes), b.i32(23, lanes));
    let exponent = b.add(n, bias);
    let bits = b.shl(exponent, place);
    b.bitcast(bits, Elem::F32)
}

/// The scale is put on in two factors, so that a denormal result is rounded once and an overflow becomes infinite.
pub(super) fn exp(b: &mut Builder, x: Value) -> Value {
    let lanes = b.lanes(x);
    let (least, most) = (b.f32(-104.0, lanes), b.f32(89.0, lanes));
    let x = b.max(x, least);
    let x = b.min(x, most);
    let (p, n) = exp_parts(b, x);
    let one = b.i32(1, lanes);
    let half = b.sar(n, one);
    let rest = b.sub(n, half);
    let (first, second) = (power_of_two(b, half), power_of_two(b, rest));
    let scaled = b.mul(p, first);
    b.mul(scaled, second)
}

/// `e^x` for -86 ≤ x ≤ 88, where one factor is enough.
fn exp_in_range(b: &mut Builder, x: Value) -> Value {
    let (p, n) = exp_parts(b, x);
    let scale = power_of_two(b, n);
    b.mul(p, scale)
}

pub(super) fn log(b: &mut Builder, x: Value) -> Value {
    let ty = b.type_of(x);
    let lanes = ty.lanes;
    let integers = ty.with_elem(Elem::I32);
    // Denormals are brought into the normal range.
    let least_normal = b.f32(f32::MIN_POSITIVE, lanes);
    let is_small = b.lt(x, least_normal);
    let raise = b.f32(8_388_608.0, lanes);
    let raised = b.mul(x, raise);
    let normal = b.select(is_small, raised, x);
    // x = m * 2^e with √½ ≤ m < √2.
    let bits = b.bitcast(normal, Elem::I32);
    let (root_half, place) = (b.i32(0x3f35_04f3, lanes), b.i32(23, lanes));
    let above = b.sub(bits, root_half);
    let e = b.sar(above, place);
    let exponent = b.shl(e, place);
    let mantissa = b.sub(bits, exponent);
    let m = b.bitcast(mantissa, Elem::F32);
    let (lowered, zero) = (b.i32(23, lanes), b.zero(integers));
    let correction = b.select(is_small, lowered, zero);
    let e = b.sub(e, correction);
    let e = b.convert(e, Elem::F32);
    let one = b.f32(1.0, lanes);
    let f = b.sub(m, one);
    let square = b.mul(f, f);
    let p = polynomial(b, f, &LOG);
    let cube = b.mul(square, f);
    // ln 2 in two parts, the first of few bits, so that its multiples are exact.
    let (high, low) = (b.f32(0.693_359_4, lanes), b.f32(-0.000_212_194_44, lanes));
    let tail = b.mul(cube, p);
    let tail = b.fma(e, low, tail);
    let minus_half = b.f32(-0.5, lanes);
    let tail = b.fma(square, minus_half, tail);
    let sum = b.add(f, tail);
    let result = b.fma(e, high, sum);
    log_specials(b, ty, x, result)
}

/// ln ∞ = ∞, ln 0 = -∞, NaN below zero and for NaN. Serves both widths.
pub(super) fn log_specials(b: &mut Builder, ty: Type, x: Value, result: Value) -> Value {
    let (infinity, minus, nan) = (b.number(ty, f64::INFINITY), b.number(ty, f64::NEG_INFINITY), b.number(ty, f64::NAN));
    let zero = b.zero(ty);
    let is_infinite = b.eq(x, infinity);
    let result = b.select(is_infinite, infinity, result);
    let is_zero = b.eq(x, zero);
    let other = b.select(is_zero, minus, nan);
    let is_positive = b.gt(x, zero);
    b.select(is_positive, result, other)
}

/// A polynomial up to 0.625, `1 - 2 / (e^2x + 1)` beyond.
pub(super) fn tanh(b: &mut Builder, x: Value) -> Value {
    let lanes = b.lanes(x);
    let square = b.mul(x, x);
    let p = polynomial(b, square, &TANH);
    let cube = b.mul(square, x);
    let near = b.fma(p, cube, x);
    let a = b.abs(x);
    let (border, most, one, two) = (b.f32(0.625, lanes), b.f32(10.0, lanes), b.f32(1.0, lanes), b.f32(2.0, lanes));
    let clamped = b.min(a, most);
    let twice = b.add(clamped, clamped);
    let e = exp_in_range(b, twice);
    let denominator = b.add(e, one);
    let quotient = b.div(two, denominator);
    let far = b.sub(one, quotient);
    let far = copy_sign(b, far, x);
    let is_near = b.lt(a, border);
    b.select(is_near, near, far)
}

/// With `e = e^-|x|`, which does not overflow, and `q = e / (1 + e)`: `1 - q` or `e - e q`, the errors of `q` being
/// damped. Serves both widths.
pub(super) fn sigmoid(b: &mut Builder, x: Value) -> Value {
    let ty = b.type_of(x);
    let a = b.abs(x);
    let minus = b.neg(a);
    let e = super::exp(b, minus);
    let (one, zero) = (b.number(ty, 1.0), b.zero(ty));
    let denominator = b.add(one, e);
    let q = b.div(e, denominator);
    let is_positive = b.ge(x, zero);
    let base = b.select(is_positive, one, e);
    let minus = b.neg(q);
    b.fma(minus, base, base)
}

/// A polynomial up to 0.875, `1 - e^q(x)` beyond.
pub(super) fn erf(b: &mut Builder, x: Value) -> Value {
    let lanes = b.lanes(x);
    let square = b.mul(x, x);
    let p = polynomial(b, square, &ERF);
    let near = b.fma(p, x, x);
    let a = b.abs(x);
    let (border, most, one) = (b.f32(0.875, lanes), b.f32(4.0, lanes), b.f32(1.0, lanes));
    let clamped = b.min(a, most);
    let exponent = polynomial(b, clamped, &LN_ERFC);
    let complement = exp_in_range(b, exponent);
    let far = b.sub(one, complement);
    let far = copy_sign(b, far, x);
    let is_near = b.lt(a, border);
    b.select(is_near, near, far)
}

pub(super) fn sin(b: &mut Builder, x: Value) -> Value {
    let x = b.convert(x, Elem::F64);
    let y = double::sin(b, x);
    b.convert(y, Elem::F32)
}

pub(super) fn cos(b: &mut Builder, x: Value) -> Value {
    let x = b.convert(x, Elem::F64);
    let y = double::cos(b, x);
    b.convert(y, Elem::F32)
}
