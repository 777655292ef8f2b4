//! Host tensors: constants of a graph, and the data the interpreter computes with.
//!
//! Data is row-major, contiguous, little endian. Cheap to clone: the bytes are shared.

use crate::{DType, Shape, TensorType};
use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What owns the bytes of a tensor: a `Vec`, or a buffer of whoever made them.
pub trait Storage: Any + Send + Sync {
    /// The bytes; always the same ones.
    fn bytes(&self) -> &[u8];
}

impl<T: AsRef<[u8]> + Any + Send + Sync> Storage for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}

/// Shared bytes, whoever owns them: equal when they are the same numbers.
#[derive(Clone)]
struct Bytes(Arc<dyn Storage>);

impl Bytes {
    fn get(&self) -> &[u8] {
        self.0.as_ref().bytes()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Bytes {}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A tensor on the host. `bytes.len() == dtype.size() * product(dims)` always holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    bytes: Bytes,
}

impl Tensor {
    /// A tensor from its bytes; `None` when their number does not fit.
    pub fn from_bytes(dtype: DType, dims: &[usize], bytes: impl Storage) -> Option<Self> {
        let elements = dims.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
        let fits = elements.checked_mul(dtype.size())? == bytes.bytes().len();
        fits.then(|| Self { dtype, dims: dims.to_vec(), bytes: Bytes(Arc::new(bytes)) })
    }

    /// The owner of the bytes, where it is a `T` and no other tensor shares it.
    ///
    /// # Errors
    /// The tensor as it was, where it is not.
    pub fn into_owner<T: Storage>(mut self) -> Result<T, Self> {
        let is_alone = |owner: &mut dyn Storage| (owner as &dyn Any).is::<T>();
        if !Arc::get_mut(&mut self.bytes.0).is_some_and(is_alone) {
            return Err(self);
        }
        let owner: Arc<dyn Any + Send + Sync> = self.bytes.0;
        let owner = owner.downcast::<T>().ok().and_then(Arc::into_inner);
        Ok(owner.expect("it is a `T` that nobody shares"))
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
        Self { dtype: DType::I64, dims: Vec::new(), bytes: Bytes(Arc::new(value.to_le_bytes())) }
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
        self.bytes().len() / self.dtype.size()
    }

    /// The data.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get()
    }

    /// Its type, with a bound shape.
    pub fn ty(&self) -> TensorType {
        TensorType { dtype: self.dtype, shape: Shape::of(&self.dims) }
    }

    /// Every element as `f64` (an `i64` beyond 2⁵³ is rounded; use [`Tensor::to_i64`] for it).
    pub fn to_f64(&self) -> Vec<f64> {
        self.bytes().chunks_exact(self.dtype.size()).map(|element| decode(self.dtype, element)).collect()
    }

    /// Every element as `i64`; floats are truncated.
    pub fn to_i64(&self) -> Vec<i64> {
        if self.dtype != DType::I64 {
            return self.to_f64().into_iter().map(|value| value as i64).collect();
        }
        self.bytes()
            .chunks_exact(8)
            .map(|e| i64::from_le_bytes([e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]]))
            .collect()
    }
}

/// Appends `value` as one element: floats round to nearest even, integers truncate and saturate, a bool is `value !=
/// 0`.
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

/// Whether the bytes of a float are a zero of either sign, as what a mask was multiplied with: all bits but the sign's
/// are zero.
pub fn is_zero(element: &[u8]) -> bool {
    match element.split_last() {
        Some((last, rest)) => last & 0x7f == 0 && rest.iter().all(|&byte| byte == 0),
        None => true,
    }
}

/// How many elements of floats of this dtype are zeros of either sign, as [`is_zero`] tells of one.
///
/// # Panics
/// If the dtype is no float.
pub fn count_zeros(dtype: DType, bytes: &[u8]) -> usize {
    let (halves, words, longs) = (bytes.as_chunks().0, bytes.as_chunks().0, bytes.as_chunks().0);
    match dtype {
        DType::F16 | DType::Bf16 => halves.iter().filter(|half| u16::from_le_bytes(**half) << 1 == 0).count(),
        DType::F32 => words.iter().filter(|word| u32::from_le_bytes(**word) << 1 == 0).count(),
        DType::F64 => longs.iter().filter(|long| u64::from_le_bytes(**long) << 1 == 0).count(),
        DType::I8 | DType::U8 | DType::I16 | DType::I32 | DType::I64 | DType::Bool => panic!("{dtype} is no float"),
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

/// Whether no element is a NaN or an infinity: no exponent has all its bits. As fast as memory, for weights are large.
pub fn is_finite(dtype: DType, bytes: &[u8]) -> bool {
    /// Elements that are looked at before it is asked whether one was found.
    const BLOCK: usize = 1 << 12;
    fn holds<const SIZE: usize>(bytes: &[u8], is_special: impl Fn([u8; SIZE]) -> bool) -> bool {
        let (elements, _) = bytes.as_chunks::<SIZE>();
        elements.chunks(BLOCK).all(|block| !block.iter().fold(false, |found, &element| found | is_special(element)))
    }
    let within = |mask: u16| move |element: [u8; 2]| u16::from_le_bytes(element) & mask == mask;
    match dtype {
        DType::F32 => holds(bytes, |element| u32::from_le_bytes(element) & 0x7f80_0000 == 0x7f80_0000),
        DType::F64 => {
            let mask = 0x7ff0_0000_0000_0000;
            holds(bytes, |element| u64::from_le_bytes(element) & mask == mask)
        }
        DType::F16 => holds(bytes, within(0x7c00)),
        DType::Bf16 => holds(bytes, within(0x7f80)),
        DType::I8 | DType::U8 | DType::I16 | DType::I32 | DType::I64 | DType::Bool => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_finite_number_is_found_wherever_it_is() {
        for dtype in DType::ALL {
            let mut values = vec![1.0; 10_000];
            assert!(is_finite(dtype, Tensor::from_f64(dtype, &[10_000], &values).bytes()), "{dtype}");
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                values[9_999] = bad;
                assert_eq!(is_finite(dtype, Tensor::from_f64(dtype, &[10_000], &values).bytes()), !dtype.is_float());
            }
        }
    }

    #[test]
    fn the_owner_of_bytes_comes_out_where_nobody_shares_them() {
        let tensor = Tensor::from_bytes(DType::U8, &[2], vec![1u8, 2]).unwrap();
        let shared = tensor.clone();
        let tensor = tensor.into_owner::<Vec<u8>>().unwrap_err();
        assert_eq!((&tensor, tensor.bytes()), (&shared, &[1, 2][..]));
        drop(shared);
        let tensor = tensor.into_owner::<[u8; 2]>().unwrap_err();
        assert_eq!(tensor.into_owner::<Vec<u8>>().unwrap(), [1, 2]);
    }

    #[test]
    fn zeros_are_counted_as_each_is_told() {
        let values = [0.0, -0.0, 1.0, -1e-4, 0.0, f64::NAN, 3.0];
        for dtype in [DType::F16, DType::Bf16, DType::F32, DType::F64] {
            let tensor = Tensor::from_f64(dtype, &[7], &values);
            let zeros = tensor.bytes().chunks_exact(dtype.size()).filter(|element| is_zero(element)).count();
            assert_eq!((count_zeros(dtype, tensor.bytes()), zeros), (3, 3), "{dtype}");
        }
    }

    #[test]
    fn bytes_are_equal_whoever_owns_them() {
        let one = Tensor::from_bytes(DType::U8, &[2], vec![1u8, 2]).unwrap();
        let other = Tensor::from_bytes(DType::U8, &[2], [1u8, 2]).unwrap();
        assert_eq!(one, other);
        assert_ne!(one, Tensor::from_bytes(DType::U8, &[2], [1u8, 3]).unwrap());
        assert_eq!(Tensor::from_bytes(DType::U8, &[3], [1u8, 2]), None);
    }
}
