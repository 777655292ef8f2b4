//! The functions in f64.

use super::single::log_specials;
use super::{copy_sign, polynomial};
use crate::ir::{Builder, Elem, Value};

/// Added to a small number it leaves the nearest integer in the low bits: 1.5 * 2^52.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts, the first of 33 bits (fdlibm).
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// π/2 in three parts of 53 bits.
const HALF_PI: [f64; 3] = [std::f64::consts::FRAC_PI_2, 6.123_233_995_736_766e-17, -1.497_384_904_859_183_3e-33];
/// `(e^r - 1 - r) / r²` for |r| ≤ ln 2 / 2, to 5e-20 of the result.
const EXP: [f64; 11] = [
    0.5,
    0.166_666_666_666_666_82,
    0.041_666_666_666_666_095,
    0.008_333_333_333_317_034,
    0.001_388_888_888_911_564,
    0.000_198_412_698_963_834_16,
    2.480_158_692_661_155e-5,
    2.755_723_486_222_548e-6,
    2.755_758_186_654_658e-7,
    2.511_203_675_810_230_5e-8,
    2.082_662_151_812_205_7e-9,
];
/// Of fdlibm's `e_log.c`: with s = f / (2 + f), ln(1 + f) = f - s (f - R), R = s² Σ c_i s^2i.
const LOG: [f64; 7] = [
    6.666_666_666_666_735e-1,
    3.999_999_999_940_942e-1,
    2.857_142_874_366_239e-1,
    2.222_219_843_214_978_4e-1,
    1.818_357_216_161_805e-1,
    1.531_383_769_920_937_3e-1,
    1.479_819_860_511_658_6e-1,
];
/// `(tanh x / x - 1) / x²` in x², for |x| ≤ 0.625, to 4e-19 of the result.
const TANH: [f64; 12] = [
    -0.333_333_333_333_333_15,
    0.133_333_333_333_297_42,
    -0.053_968_253_966_058_96,
    0.021_869_488_468_716_614,
    -0.008_863_234_312_593_718,
    0.003_592_113_999_987_92,
    -0.001_455_725_948_734_017_3,
    0.000_589_451_801_455_784_2,
    -0.000_237_011_736_502_261_38,
    9.155_842_204_571_235e-5,
    -3.018_723_008_605_371e-5,
    6.042_472_240_233_363e-6,
];
/// `erf x / x - 1` in x², for |x| ≤ 1, to 1.3e-19 of the result.
const ERF: [f64; 13] = [
    0.128_379_167_095_512_6,
    -0.376_126_389_031_837_5,
    0.112_837_916_709_548_57,
    -0.026_866_170_645_072_896,
    0.005_223_977_624_780_868,
    -0.000_854_832_697_874_226_1,
    0.000_120_553_310_369_005_77,
    -1.492_559_350_688_875_2e-5,
    1.646_097_281_664_690_9e-6,
    -1.635_002_521_537_597e-7,
    1.465_787_977_467_242_4e-8,
    -1.136_566_564_118_705_7e-9,
    5.945_261_124_619_931e-11,
];
/// `e^(x²) erfc x` in t = (x - 2) / (x + 2), for 1 ≤ x ≤ 6, to 7e-20 of erf.
const ERFCX: [f64; 15] = [
    0.255_395_676_310_505_75,
    -0.427_185_847_413_958_43,
    0.241_658_194_242_471_23,
    -0.078_978_581_015_672_96,
    0.003_732_892_403_734_938,
    0.006_997_461_728_277_113,
    -0.000_847_143_258_245_418_9,
    -0.000_981_976_507_987_338_7,
    4.355_755_912_015_345e-5,
    0.000_174_354_477_195_357_2,
    2.747_890_949_766_843_8e-5,
    -2.759_211_912_559_991e-5,
    -1.364_240_785_974_309_4e-5,
    1.780_746_069_052_334_7e-6,
    2.986_049_118_187_144_3e-6,
];
/// Of fdlibm's `k_sin.c`: (sin x / x - 1) / x² in x², for |x| ≤ π/4.
const SIN: [f64; 6] = [
    -1.666_666_666_666_663_2e-1,
    8.333_333_333_322_49e-3,
    -1.984_126_982_985_795e-4,
    2.755_731_370_707_006_8e-6,
    -2.505_076_025_340_686_3e-8,
    1.589_690_995_211_55e-10,
];
/// Of fdlibm's `k_cos.c`: (cos x - 1 + x²/2) / x⁴ in x², for |x| ≤ π/4.
const COS: [f64; 6] = [
    4.166_666_666_666_66e-2,
    -1.388_888_888_887_411e-3,
    2.480_158_728_947_673e-5,
    -2.755_731_435_139_066_3e-7,
    2.087_572_321_298_175e-9,
    -1.135_964_755_778_819_5e-11,
];

/// `e^x`, its scale in two factors as in f32.
pub(super) fn exp(b: &mut Builder, x: Value) -> Value {
    let ty = b.type_of(x);
    let integers = ty.with_elem(Elem::I64);
    let (least, most) = (b.number(ty, -746.0), b.number(ty, 710.0));
    let x = b.max(x, least);
    let x = b.min(x, most);
    let (per_octave, round) = (b.number(ty, std::f64::consts::LOG2_E), b.number(ty, ROUND));
    let shifted = b.fma(x, per_octave, round);
    let n = b.sub(shifted, round);
    let (high, low) = (b.number(ty, -LN_2_HIGH), b.number(ty, -LN_2_LOW));
    let r = b.fma(n, high, x);
    let r = b.fma(n, low, r);
    let q = polynomial(b, r, &EXP);
    let square = b.mul(r, r);
    let tail = b.fma(q, square, r);
    let one = b.number(ty, 1.0);
    let p = b.add(tail, one);
    let bits = b.bitcast(shifted, Elem::I64);
    let zero = b.constant(integers, ROUND.to_bits());
    let n = b.sub(bits, zero);
    let one = b.constant(integers, 1);
    let half = b.sar(n, one);
    let rest = b.sub(n, half);
    let (first, second) = (power_of_two(b, half), power_of_two(b, rest));
    let scaled = b.mul(p, first);
    b.mul(scaled, second)
}

/// `2^n` for -1022 ≤ n ≤ 1023.
fn power_of_two(b: &mut Builder, n: Value) -> Value {
    let ty = b.type_of(n);
    let (bias, place) = (b.constant(ty, 1023), b.constant(ty, 52));
    let exponent = b.add(n, bias);
    let bits = b.shl(exponent, place);
    b.bitcast(bits, Elem::F64)
}

pub(super) fn log(b: &mut Builder, x: Value) -> Value {
    let ty = b.type_of(x);
    let integers = ty.with_elem(Elem::I64);
    let least_normal = b.number(ty, f64::MIN_POSITIVE);
    let is_small = b.lt(x, least_normal);
    let raise = b.number(ty, 18_014_398_509_481_984.0);
    let raised = b.mul(x, raise);
    let normal = b.select(is_small, raised, x);
    // x = m * 2^e with √½ ≤ m < √2.
    let bits = b.bitcast(normal, Elem::I64);
    let (root_half, place) = (b.constant(integers, 0x3fe6_a09e_667f_3bcd), b.constant(integers, 52));
    let above = b.sub(bits, root_half);
    let e = b.sar(above, place);
    let exponent = b.shl(e, place);
    let mantissa = b.sub(bits, exponent);
    let m = b.bitcast(mantissa, Elem::F64);
    // The integer as a float, by its bits under those of a large number.
    let round = b.constant(integers, ROUND.to_bits());
    let e = b.add(e, round);
    let e = b.bitcast(e, Elem::F64);
    let (none, lowered) = (b.number(ty, ROUND), b.number(ty, ROUND + 54.0));
    let origin = b.select(is_small, lowered, none);
    let e = b.sub(e, origin);
    let (one, two, half) = (b.number(ty, 1.0), b.number(ty, 2.0), b.number(ty, 0.5));
    let f = b.sub(m, one);
    let denominator = b.add(two, f);
    let s = b.div(f, denominator);
    let z = b.mul(s, s);
    let p = polynomial(b, z, &LOG);
    let r = b.mul(p, z);
    let square = b.mul(f, f);
    let half_square = b.mul(square, half);
    let (high, low) = (b.number(ty, LN_2_HIGH), b.number(ty, LN_2_LOW));
    let inner = b.add(half_square, r);
    let small = b.mul(e, low);
    let tail = b.fma(s, inner, small);
    let tail = b.sub(half_square, tail);
    let tail = b.sub(tail, f);
    let large = b.mul(e, high);
    let result = b.sub(large, tail);
    log_specials(b, ty, x, result)
}

/// A polynomial up to 0.625, `1 - 2 / (e^2x + 1)` beyond.
pub(super) fn tanh(b: &mut Builder, x: Value) -> Value {
    let ty = b.type_of(x);
    let square = b.mul(x, x);
    let p = polynomial(b, square, &TANH);
    let cube = b.mul(square, x);
    let near = b.fma(p, cube, x);
    let a = b.abs(x);
    let (border, most) = (b.number(ty, 0.625), b.number(ty, 20.0));
    let (one, two) = (b.number(ty, 1.0), b.number(ty, 2.0));
    let clamped = b.min(a, most);
    let twice = b.add(clamped, clamped);
    let e = exp(b, twice);
    let denominator = b.add(e, one);
    let quotient = b.div(two, denominator);
    let far = b.sub(one, quotient);
    let far = copy_sign(b, far, x);
    let is_near = b.lt(a, border);
    b.select(is_near, near, far)
}

pub(super) fn sigmoid(b: &mut Builder, x: Value) -> Value {
    super::single::sigmoid(b, x)
}

/// A polynomial up to 1, `1 - e^(-x²) h(x)` beyond.
pub(super) fn erf(b: &mut Builder, x: Value) -> Value {
    let ty = b.type_of(x);
    let square = b.mul(x, x);
    let p = polynomial(b, square, &ERF);
    let near = b.fma(p, x, x);
    let a = b.abs(x);
    let (one, two, most) = (b.number(ty, 1.0), b.number(ty, 2.0), b.number(ty, 6.0));
    let clamped = b.min(a, most);
    let clamped = b.max(clamped, one);
    let (above, below) = (b.sub(clamped, two), b.add(clamped, two));
    let t = b.div(above, below);
    let h = polynomial(b, t, &ERFCX);
    let square = b.mul(clamped, clamped);
    let minus = b.neg(square);
    let e = exp(b, minus);
    let complement = b.mul(e, h);
    let far = b.sub(one, complement);
    let far = copy_sign(b, far, x);
    let is_near = b.lt(a, one);
    b.select(is_near, near, far)
}

pub(super) fn rem(b: &mut Builder, x: Value, y: Value) -> Value {
    let quotient = b.div(x, y);
    let whole = b.floor(quotient);
    let part = b.mul(whole, y);
    b.sub(x, part)
}

pub(super) fn sin(b: &mut Builder, x: Value) -> Value {
    turn(b, x, 0)
}

pub(super) fn cos(b: &mut Builder, x: Value) -> Value {
    turn(b, x, 1)
}

/// `sin(x + quarters * π/2)`.
fn turn(b: &mut Builder, x: Value, quarters: u64) -> Value {
    let ty = b.type_of(x);
    let integers = ty.with_elem(Elem::I64);
    let (per_quarter, round) = (b.number(ty, std::f64::consts::FRAC_2_PI), b.number(ty, ROUND));
    let shifted = b.fma(x, per_quarter, round);
    let n = b.sub(shifted, round);
    let mut r = x;
    for part in HALF_PI {
        let part = b.number(ty, -part);
        r = b.fma(n, part, r);
    }
    let square = b.mul(r, r);
    let (s, c) = (polynomial(b, square, &SIN), polynomial(b, square, &COS));
    let cube = b.mul(square, r);
    let sine = b.fma(s, cube, r);
    let (one, half) = (b.number(ty, 1.0), b.number(ty, -0.5));
    let fourth = b.mul(square, square);
    let tail = b.mul(c, fourth);
    let tail = b.fma(square, half, tail);
    let cosine = b.add(one, tail);
    let bits = b.bitcast(shifted, Elem::I64);
    let quarters = b.constant(integers, quarters);
    let quadrant = b.add(bits, quarters);
    let (one, two, zero) = (b.constant(integers, 1), b.constant(integers, 2), b.constant(integers, 0));
    let odd = b.and(quadrant, one);
    let is_odd = b.ne(odd, zero);
    let value = b.select(is_odd, cosine, sine);
    let lower = b.and(quadrant, two);
    let is_lower = b.ne(lower, zero);
    let minus = b.neg(value);
    let value = b.select(is_lower, minus, value);
    let (limit, nan) = (b.number(ty, 2_251_799_813_685_248.0), b.number(ty, f64::NAN));
    let a = b.abs(x);
    let in_range = b.lt(a, limit);
    b.select(in_range, value, nan)
}

/// `e^(y ln |x|)` with the sign of an odd integer power of a negative number.
pub(super) fn pow(b: &mut Builder, x: Value, y: Value) -> Value {
    let ty = b.type_of(x);
    let (zero, one, half, nan) = (b.zero(ty), b.number(ty, 1.0), b.number(ty, 0.5), b.number(ty, f64::NAN));
    let a = b.abs(x);
    let logarithm = log(b, a);
    let exponent = b.mul(y, logarithm);
    let magnitude = exp(b, exponent);
    let whole = b.trunc(y);
    let is_whole = b.eq(whole, y);
    // An even number is twice a whole one.
    let halved = b.mul(y, half);
    let half_whole = b.trunc(halved);
    let is_odd = b.ne(half_whole, halved);
    let is_odd = b.and(is_odd, is_whole);
    let signed = copy_sign(b, magnitude, x);
    let result = b.select(is_odd, signed, magnitude);
    // A finite negative base with a fraction as exponent has no real power.
    let is_negative = b.lt(x, zero);
    let minus_infinity = b.number(ty, f64::NEG_INFINITY);
    let is_finite = b.gt(x, minus_infinity);
    let is_fraction = b.not(is_whole);
    let has_none = b.and(is_negative, is_fraction);
    let has_none = b.and(has_none, is_finite);
    let result = b.select(has_none, nan, result);
    // x = 1 and y = 0 give 1 whatever the other is, and |x| = 1 does for infinite y.
    let is_one = b.eq(x, one);
    let is_zero = b.eq(y, zero);
    let far = b.abs(y);
    let infinity = b.number(ty, f64::INFINITY);
    let is_far = b.eq(far, infinity);
    let is_unit = b.eq(a, one);
    let is_limit = b.and(is_far, is_unit);
    let is_certain = b.or(is_one, is_zero);
    let is_certain = b.or(is_certain, is_limit);
    b.select(is_certain, one, result)
}
