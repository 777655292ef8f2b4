//! Single numbers: read from an array's bytes, and printed for people and for programs.

use nnc_data::DType;
use std::fmt;

/// Digits that a person gets to see.
const SIGNIFICANT: i32 = 6;

/// One element of an array.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Number {
    /// A float of 16 or 32 bits.
    Single(f32),
    /// A float of 64 bits.
    Double(f64),
    /// An integer.
    Int(i64),
    /// A truth value.
    Bool(bool),
}

impl Number {
    /// Reads the element that begins at the first of `bytes` (little-endian, at least
    /// [`DType::size`] of them; missing ones count as zeros).
    pub fn read(dtype: DType, bytes: &[u8]) -> Self {
        let mut word = [0u8; 8];
        for (to, from) in word.iter_mut().zip(bytes.iter().take(dtype.size())) {
            *to = *from;
        }
        let bits = u64::from_le_bytes(word);
        let [low @ .., _, _, _, _] = word;
        let bits32 = u32::from_le_bytes(low);
        match dtype {
            DType::F32 => Self::Single(f32::from_bits(bits32)),
            DType::F16 => Self::Single(half_to_single(bits32)),
            DType::Bf16 => Self::Single(f32::from_bits(bits32 << 16)),
            DType::F64 => Self::Double(f64::from_bits(bits)),
            DType::I8 => Self::Int(i64::from(i8::from_le_bytes([word[0]]))),
            DType::U8 => Self::Int(i64::from(word[0])),
            DType::I16 => Self::Int(i64::from(i16::from_le_bytes([word[0], word[1]]))),
            DType::I32 => Self::Int(i64::from(i32::from_le_bytes(low))),
            DType::I64 => Self::Int(i64::from_le_bytes(word)),
            DType::Bool => Self::Bool(word[0] != 0),
        }
    }

    /// All elements of an array.
    pub fn read_all(dtype: DType, bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.chunks_exact(dtype.size()).map(move |element| Self::read(dtype, element))
    }

    /// The value, if it is of a whole-number dtype.
    pub fn whole(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            Self::Single(_) | Self::Double(_) | Self::Bool(_) => None,
        }
    }

    /// The value as f64; large integers are rounded.
    #[allow(clippy::cast_precision_loss, reason = "for display and statistics only")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Single(value) => f64::from(value),
            Self::Double(value) => value,
            Self::Int(value) => value as f64,
            Self::Bool(value) => f64::from(u8::from(value)),
        }
    }

    /// As JSON: the shortest text that reads back as the same value; `null` for what JSON lacks
    /// (infinities and NaN).
    pub fn to_json(self) -> String {
        let finite = self.as_f64().is_finite();
        let plain = (1e-5..1e16).contains(&self.as_f64().abs()) || self.as_f64() == 0.0;
        match self {
            Self::Single(value) if finite && plain => value.to_string(),
            Self::Single(value) if finite => format!("{value:e}"),
            Self::Double(value) if finite && plain => value.to_string(),
            Self::Double(value) if finite => format!("{value:e}"),
            Self::Single(_) | Self::Double(_) => "null".into(),
            Self::Int(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
        }
    }
}

/// For people: floats with six significant digits.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(value) => f.pad(&significant(f64::from(*value))),
            Self::Double(value) => f.pad(&significant(*value)),
            Self::Int(value) => f.pad(&value.to_string()),
            Self::Bool(value) => f.pad(if *value { "true" } else { "false" }),
        }
    }
}

/// `value` with six significant digits, without zeros at the end.
pub fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    #[allow(clippy::cast_possible_truncation, reason = "a decimal exponent is small")]
    let exponent = value.abs().log10().floor() as i32;
    if !(-5..=SIGNIFICANT).contains(&exponent) {
        return format!("{value:.4e}");
    }
    let decimals = usize::try_from(SIGNIFICANT - 1 - exponent).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// The bytes of the scalar that `text` is, if the dtype holds it: any finite number for floats, `true` or `false` for
/// bool.
pub fn parse(dtype: DType, text: &str) -> Option<Vec<u8>> {
    let whole = |least: i64, most: i64| text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
    let float = || text.parse::<f64>().ok().filter(|number| number.is_finite());
    Some(match dtype {
        // By way of f64, as the compiler does.
        DType::F32 => {
            #[allow(clippy::cast_possible_truncation, reason = "rounded")]
            let number = float()? as f32;
            if !number.is_finite() {
                return None;
            }
            number.to_le_bytes().to_vec()
        }
        DType::F64 => float()?.to_le_bytes().to_vec(),
        DType::I8 | DType::U8 => {
            let (least, most) = if dtype == DType::I8 { (-128, 127) } else { (0, 255) };
            whole(least, most)?.to_le_bytes()[..1].to_vec()
        }
        DType::I16 => whole(i64::from(i16::MIN), i64::from(i16::MAX))?.to_le_bytes()[..2].to_vec(),
        DType::I32 => whole(i64::from(i32::MIN), i64::from(i32::MAX))?.to_le_bytes()[..4].to_vec(),
        DType::I64 => whole(i64::MIN, i64::MAX)?.to_le_bytes().to_vec(),
        DType::Bool => vec![u8::from(text.parse::<bool>().ok()?)],
        DType::F16 | DType::Bf16 => return None,
    })
}

/// IEEE 754 binary16 to binary32, exactly: subnormals are scaled, the rest is rebiased.
fn half_to_single(bits: u32) -> f32 {
    let sign = (bits & 0x8000) << 16;
    let (exponent, fraction) = ((bits >> 10) & 0x1f, bits & 0x3ff);
    let magnitude = match exponent {
        0 => (f32::from_bits(0x3380_0000) * small_int(fraction)).to_bits(),
        31 => 0x7f80_0000 | (fraction << 13),
        _ => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

#[allow(clippy::cast_precision_loss, reason = "below 1024")]
fn small_int(value: u32) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_dtype() {
        assert_eq!(Number::read(DType::F32, &1.5f32.to_le_bytes()), Number::Single(1.5));
        assert_eq!(Number::read(DType::F64, &(-2.5f64).to_le_bytes()), Number::Double(-2.5));
        assert_eq!(Number::read(DType::Bf16, &0x3fc0u16.to_le_bytes()), Number::Single(1.5));
        assert_eq!(Number::read(DType::I8, &[0xff, 9]), Number::Int(-1));
        assert_eq!(Number::read(DType::U8, &[0xff]), Number::Int(255));
        assert_eq!(Number::read(DType::I32, &(-7i32).to_le_bytes()), Number::Int(-7));
        assert_eq!(Number::read(DType::I64, &i64::MIN.to_le_bytes()), Number::Int(i64::MIN));
        assert_eq!(Number::read(DType::Bool, &[1]), Number::Bool(true));
        assert_eq!(Number::read_all(DType::U8, &[1, 2]).count(), 2);
    }

    #[test]
    fn scalars_are_read_as_their_dtype() {
        assert_eq!(parse(DType::F32, "0.8"), Some(0.8f32.to_le_bytes().to_vec()));
        assert_eq!(parse(DType::I8, "-3"), Some(vec![253]));
        assert_eq!(parse(DType::I32, "-2"), Some((-2i32).to_le_bytes().to_vec()));
        assert_eq!(parse(DType::Bool, "true"), Some(vec![1]));
        for (dtype, text) in [
            (DType::F32, "nan"),
            (DType::F32, "1e99"),
            (DType::U8, "256"),
            (DType::I32, "1.5"),
            (DType::Bool, "1"),
            (DType::I64, ""),
        ] {
            assert_eq!(parse(dtype, text), None, "{text}");
        }
    }

    #[test]
    fn halves_are_exact() {
        let half = |bits: u16| Number::read(DType::F16, &bits.to_le_bytes()).as_f64();
        assert_eq!(half(0x3c00), 1.0);
        assert_eq!(half(0xc000), -2.0);
        assert_eq!(half(0x7bff), 65504.0);
        assert_eq!(half(0x0001), 2f64.powi(-24));
        assert_eq!(half(0x03ff), 1023.0 * 2f64.powi(-24));
        assert_eq!(half(0x0400), 2f64.powi(-14));
        assert_eq!(half(0x7c00), f64::INFINITY);
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn people_see_six_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-0.123_456_78, "-0.123457"),
            (123.456_789, "123.457"),
            (1_234_567.8, "1234568"),
            (12_345_678.0, "1.2346e7"),
            (1e-9, "1.0000e-9"),
            (0.000_012_5, "0.0000125"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(significant(value), text);
        }
        assert_eq!(format!("{:>4}", Number::Int(7)), "   7");
    }

    #[test]
    fn json_reads_back() {
        for value in [0.1f32, -3.25, 1e-40, f32::MAX, 16_777_217.0] {
            assert_eq!(Number::Single(value).to_json().parse(), Ok(value));
        }
        assert_eq!(Number::Single(f32::NAN).to_json(), "null");
        assert_eq!(Number::Double(f64::INFINITY).to_json(), "null");
        assert_eq!(Number::Single(-0.0).to_json(), "-0");
        assert_eq!(Number::Bool(true).to_json(), "true");
    }
}
