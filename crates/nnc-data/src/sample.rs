//! Samples of images, and indices of classes and characters, into the bytes of a declared dtype; exact, or refused.

use crate::types::DType;

/// Appends a sample of an 8-bit image, 0 to 255, as `dtype`; `false` where it cannot hold it.
#[cfg(feature = "image")]
pub(crate) fn push_sample(sample: u8, dtype: DType, bytes: &mut Vec<u8>) -> bool {
    match dtype {
        DType::U8 => bytes.push(sample),
        DType::F32 => bytes.extend(f32::from(sample).to_le_bytes()),
        DType::F64 => bytes.extend(f64::from(sample).to_le_bytes()),
        DType::F16 => bytes.extend(half::f16::from(sample).to_le_bytes()),
        DType::Bf16 => bytes.extend(half::bf16::from(sample).to_le_bytes()),
        DType::I16 => bytes.extend(i16::from(sample).to_le_bytes()),
        DType::I32 => bytes.extend(i32::from(sample).to_le_bytes()),
        DType::I64 => bytes.extend(i64::from(sample).to_le_bytes()),
        DType::I8 | DType::Bool => return false,
    }
    true
}

/// Appends an index as `dtype`; `false` where it cannot hold it exactly.
pub(crate) fn push_index(index: usize, dtype: DType, bytes: &mut Vec<u8>) -> bool {
    /// Appends `value` if the index fitted.
    fn push<const SIZE: usize>(value: Option<[u8; SIZE]>, bytes: &mut Vec<u8>) -> bool {
        value.map(|value| bytes.extend(value)).is_some()
    }
    match dtype {
        DType::U8 => push(u8::try_from(index).ok().map(u8::to_le_bytes), bytes),
        DType::I8 => push(i8::try_from(index).ok().map(i8::to_le_bytes), bytes),
        DType::I16 => push(i16::try_from(index).ok().map(i16::to_le_bytes), bytes),
        DType::I32 => push(i32::try_from(index).ok().map(i32::to_le_bytes), bytes),
        DType::I64 => push(i64::try_from(index).ok().map(i64::to_le_bytes), bytes),
        DType::F32 | DType::F16 | DType::Bf16 | DType::F64 | DType::Bool => false,
    }
}
