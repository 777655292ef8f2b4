//! Host tensors: constants of a graph, and the data the interpreter computes with.
//!
//! Data is row-major, contiguous, little endian. Cheap to clone: the bytes are shared.

use crate::{DType, Shape, TensorType};
use std::sync::Arc;

/// A tensor on the host. `bytes.len() == dtype.size() * product(dims)` always holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    bytes: Arc<[u8]>,
}

impl Tensor {
    /// A tensor from its bytes; `None` when their number does not fit.
    pub fn from_bytes(dtype: DType, dims: &[usize], bytes: impl Into<Arc<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        let elements = dims.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
        let fits = elements.checked_mul(dtype.size())? == bytes.len();
        fits.then(|| Self { dtype, dims: dims.to_vec(), bytes })
    }

    /// A tensor from numbers, each converted as [`encode`] does.
    ///
    /// # Panics
    /// If the number of values is not the product of `dims`.
    pub fn from_f64(dtype: DType, dims: &[usize], values: &[f64]) -> Self {
        let mut bytes = Vec::with_capacity(values.len() * dtype.size());
        for &value in values {
            encode(dtype, value, &mut bytes);
        }
        Self::from_bytes(dtype, dims, bytes).expect("one value for each element")
    }

    /// A scalar.
    pub fn scalar(dtype: DType, value: f64) -> Self {
        Self::from_f64(dtype, &[], &[value])
    }

    /// A scalar integer, exact over all of `i64`.
    pub fn scalar_i64(value: i64) -> Self {
        Self { dtype: DType::I64, dims: Vec::new(), bytes: value.to_le_bytes().to_vec().into() }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes of the axes, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The data.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its type, with a bound shape.
    pub fn ty(&self) -> TensorType {
        TensorType { dtype: self.dtype, shape: Shape::of(&self.dims) }
    }

    /// Every element as `f64` (an `i64` beyond 2⁵³ is rounded; use [`Tensor::to_i64`] for it).
    pub fn to_f64(&self) -> Vec<f64> {
        self.bytes.chunks_exact(self.dtype.size()).map(|element| decode(self.dtype, element)).collect()
    }

    /// Every element as `i64`; floats are truncated.
    pub fn to_i64(&self) -> Vec<i64> {
        if self.dtype != DType::I64 {
            return self.to_f64().into_iter().map(|value| value as i64).collect();
        }
        self.bytes
            .chunks_exact(8)
            .map(|e| i64::from_le_bytes([e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]]))
            .collect()
    }
}

/// Appends `value` as one element: floats round to nearest even, integers truncate and saturate, a bool is `value != 0`.
pub fn encode(dtype: DType, value: f64, into: &mut Vec<u8>) {
    match dtype {
        DType::F32 => into.extend((value as f32).to_le_bytes()),
        DType::F64 => into.extend(value.to_le_bytes()),
        DType::F16 => into.extend(half::f16::from_f64(value).to_le_bytes()),
        DType::Bf16 => into.extend(half::bf16::from_f64(value).to_le_bytes()),
        DType::I8 => into.extend((value as i8).to_le_bytes()),
        DType::U8 => into.push(value as u8),
        DType::I16 => into.extend((value as i16).to_le_bytes()),
        DType::I32 => into.extend((value as i32).to_le_bytes()),
        DType::I64 => into.extend((value as i64).to_le_bytes()),
        DType::Bool => into.push(u8::from(value != 0.0)),
    }
}

/// Whether the bytes of a float are a zero of either sign, as what a mask was multiplied with: all bits but the sign's are zero.
pub fn is_zero(element: &[u8]) -> bool {
    match element.split_last() {
        Some((last, rest)) => last & 0x7f == 0 && rest.iter().all(|&byte| byte == 0),
        None => true,
    }
}

/// One element as `f64`; `element` has `dtype.size()` bytes.
pub fn decode(dtype: DType, element: &[u8]) -> f64 {
    let word = |n: usize| -> u64 { element.iter().take(n).rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte)) };
    match dtype {
        DType::F32 => f64::from(f32::from_bits(word(4) as u32)),
        DType::F64 => f64::from_bits(word(8)),
        DType::F16 => half::f16::from_bits(word(2) as u16).to_f64(),
        DType::Bf16 => half::bf16::from_bits(word(2) as u16).to_f64(),
        DType::I8 => f64::from(word(1) as u8 as i8),
        DType::U8 => f64::from(word(1) as u8),
        DType::I16 => f64::from(word(2) as u16 as i16),
        DType::I32 => f64::from(word(4) as u32 as i32),
        DType::I64 => word(8) as i64 as f64,
        DType::Bool => f64::from(u8::from(word(1) != 0)),
    }
}
