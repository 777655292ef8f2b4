//! Text into the bytes of a declared dtype, strictly: what does not fit is refused, never rounded
//! into range.
//!
//! Text for a float may be any finite decimal; it is rounded to nearest (f16 and bf16 through
//! f64). Text for an integer must be a whole number without a decimal point. `true` and `false`
//! in any case, 0 and 1 are bools. Missing, infinite and not-a-number cells are refused, because
//! they would only surface later, as a loss that is not a number.

use crate::types::DType;

/// Why a text is not a number of the declared dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberFault {
    /// There is nothing.
    Missing,
    /// It is no number at all.
    NotNumber,
    /// It is `nan` or `inf`.
    NotFinite,
    /// It lies outside what the dtype can hold.
    OutOfRange,
    /// It has a fraction or an exponent where a whole number is declared.
    NotWhole,
}

impl NumberFault {
    /// What to try, where something is likely.
    pub(crate) fn help(self, dtype: DType) -> Option<String> {
        match self {
            NumberFault::Missing => Some("fill the cell or remove the row".to_owned()),
            NumberFault::NotFinite => Some("replace it or remove the row".to_owned()),
            NumberFault::NotWhole => {
                Some(format!("declare the field as a float and cast it, `{dtype}(...)`, in the data block"))
            }
            NumberFault::OutOfRange => Some("declare a wider dtype".to_owned()),
            NumberFault::NotNumber => None,
        }
    }
}

/// What a cell of `dtype` should hold, for a message.
pub(crate) fn expectation(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "a finite number for f32",
        DType::F16 => "a number for f16 (up to 65504)",
        DType::Bf16 => "a finite number for bf16",
        DType::F64 => "a finite number for f64",
        DType::I8 => "a whole number for i8 (-128 to 127)",
        DType::U8 => "a whole number for u8 (0 to 255)",
        DType::I16 => "a whole number for i16 (-32768 to 32767)",
        DType::I32 => "a whole number for i32",
        DType::I64 => "a whole number for i64",
        DType::Bool => "0, 1, true or false for bool",
    }
}

/// Appends the number that `text` says to `bytes`, as little endian `dtype`.
pub(crate) fn push_text(text: &str, dtype: DType, bytes: &mut Vec<u8>) -> Result<(), NumberFault> {
    let text = text.trim();
    if text.is_empty() {
        return Err(NumberFault::Missing);
    }
    match dtype {
        DType::F32 => bytes.extend(finite(text, text.parse::<f32>().ok(), |v| v.is_finite())?.to_le_bytes()),
        DType::F64 => bytes.extend(double(text)?.to_le_bytes()),
        DType::F16 => {
            let value = Some(half::f16::from_f64(double(text)?));
            bytes.extend(finite(text, value, |v| v.is_finite())?.to_le_bytes());
        }
        DType::Bf16 => {
            let value = Some(half::bf16::from_f64(double(text)?));
            bytes.extend(finite(text, value, |v| v.is_finite())?.to_le_bytes());
        }
        DType::I8 => bytes.extend(narrow::<i8>(text)?.to_le_bytes()),
        DType::U8 => bytes.extend(narrow::<u8>(text)?.to_le_bytes()),
        DType::I16 => bytes.extend(narrow::<i16>(text)?.to_le_bytes()),
        DType::I32 => bytes.extend(narrow::<i32>(text)?.to_le_bytes()),
        DType::I64 => bytes.extend(whole(text)?.to_le_bytes()),
        DType::Bool => bytes.push(u8::from(boolean(text)?)),
    }
    Ok(())
}

/// Whether `text` reads as a number or truth value of any dtype; a header cell does not.
pub(crate) fn looks_like_number(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.parse::<f64>().is_ok() || boolean(text).is_ok()
}

/// `value` if it was parsed and is finite.
fn finite<T>(text: &str, value: Option<T>, is_finite: impl Fn(&T) -> bool) -> Result<T, NumberFault> {
    let value = value.ok_or(NumberFault::NotNumber)?;
    let says_digits = text.bytes().any(|byte| byte.is_ascii_digit());
    match (is_finite(&value), says_digits) {
        (true, _) => Ok(value),
        (false, true) => Err(NumberFault::OutOfRange),
        (false, false) => Err(NumberFault::NotFinite),
    }
}

/// `text` as a finite f64.
fn double(text: &str) -> Result<f64, NumberFault> {
    finite(text, text.parse::<f64>().ok(), |v| v.is_finite())
}

/// `text` as an integer of 64 bits.
fn whole(text: &str) -> Result<i64, NumberFault> {
    use std::num::IntErrorKind;

    text.parse::<i64>().map_err(|cause| match cause.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => NumberFault::OutOfRange,
        _ => match double(text) {
            Ok(_) => NumberFault::NotWhole,
            Err(fault) => fault,
        },
    })
}

/// `text` as a narrower integer.
fn narrow<T: TryFrom<i64>>(text: &str) -> Result<T, NumberFault> {
    T::try_from(whole(text)?).map_err(|_| NumberFault::OutOfRange)
}

/// `text` as a truth value.
fn boolean(text: &str) -> Result<bool, NumberFault> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("1") || is("true") {
        Ok(true)
    } else if is("0") || is("false") {
        Ok(false)
    } else {
        Err(NumberFault::NotNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, dtype: DType) -> Result<Vec<u8>, NumberFault> {
        let mut bytes = Vec::new();
        push_text(text, dtype, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn floats_are_rounded_to_nearest() {
        assert_eq!(parse(" 0.1 ", DType::F32), Ok(0.1f32.to_le_bytes().to_vec()));
        assert_eq!(parse("-1e3", DType::F64), Ok((-1000f64).to_le_bytes().to_vec()));
        assert_eq!(parse("1.5", DType::F16), Ok(0x3E00u16.to_le_bytes().to_vec()));
        assert_eq!(parse("1.5", DType::Bf16), Ok(0x3FC0u16.to_le_bytes().to_vec()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(parse("256", DType::U8), Err(NumberFault::OutOfRange));
        assert_eq!(parse("-1", DType::U8), Err(NumberFault::OutOfRange));
        assert_eq!(parse("-129", DType::I8), Err(NumberFault::OutOfRange));
        assert_eq!(parse("99999999999999999999", DType::I64), Err(NumberFault::OutOfRange));
        assert_eq!(parse("1e39", DType::F32), Err(NumberFault::OutOfRange));
        assert_eq!(parse("70000", DType::F16), Err(NumberFault::OutOfRange));
        assert_eq!(parse("1.0", DType::U8), Err(NumberFault::NotWhole));
        assert_eq!(parse("", DType::F32), Err(NumberFault::Missing));
        assert_eq!(parse("nan", DType::F32), Err(NumberFault::NotFinite));
        assert_eq!(parse("-inf", DType::I32), Err(NumberFault::NotFinite));
        assert_eq!(parse("six", DType::F32), Err(NumberFault::NotNumber));
        assert_eq!(parse("0x10", DType::I32), Err(NumberFault::NotNumber));
        assert_eq!(parse("2", DType::Bool), Err(NumberFault::NotNumber));
    }

    #[test]
    fn bools_have_four_spellings() {
        for (text, value) in [("True", 1), ("1", 1), ("FALSE", 0), ("0", 0)] {
            assert_eq!(parse(text, DType::Bool), Ok(vec![value]));
        }
    }
}
