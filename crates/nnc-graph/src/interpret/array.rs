//! What the interpreter computes with: a tensor whose elements are widened to `f64` or `i64`.

use crate::{DType, Tensor, tensor};

/// Elements of a float dtype, or of an integer dtype and bool.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Float(Vec<f64>),
    Int(Vec<i64>),
}

/// A tensor with widened elements in row-major order.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub(crate) dtype: DType,
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Data,
}

impl From<&Tensor> for Array {
    fn from(tensor: &Tensor) -> Self {
        let float = tensor.dtype().is_float();
        let data = if float { Data::Float(tensor.to_f64()) } else { Data::Int(tensor.to_i64()) };
        Self { dtype: tensor.dtype(), dims: tensor.dims().to_vec(), data }
    }
}

impl Array {
    pub(crate) fn floats(dtype: DType, dims: &[usize], values: Vec<f64>) -> Self {
        Self { dtype, dims: dims.to_vec(), data: Data::Float(values) }
    }

    pub(crate) fn ints(dtype: DType, dims: &[usize], values: Vec<i64>) -> Self {
        Self { dtype, dims: dims.to_vec(), data: Data::Int(values) }
    }

    pub(crate) fn scalar(dtype: DType, value: i64) -> Self {
        if dtype.is_float() {
            Self::floats(dtype, &[], vec![value as f64])
        } else {
            Self::ints(dtype, &[], vec![value])
        }
    }

    pub(crate) fn with_dims(self, dims: &[usize]) -> Self {
        Self { dims: dims.to_vec(), ..self }
    }

    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// The elements as floats; integers are converted.
    pub(crate) fn to_floats(&self) -> Vec<f64> {
        match &self.data {
            Data::Float(values) => values.clone(),
            Data::Int(values) => values.iter().map(|&value| value as f64).collect(),
        }
    }

    /// The elements as integers.
    pub(crate) fn to_ints(&self) -> Vec<i64> {
        match &self.data {
            Data::Float(values) => values.iter().map(|&value| value as i64).collect(),
            Data::Int(values) => values.clone(),
        }
    }

    /// An array whose element `i` is this one's element `from[i]`.
    pub(crate) fn pick(&self, from: impl Iterator<Item = usize>, dims: &[usize]) -> Self {
        let data = match &self.data {
            Data::Float(values) => Data::Float(from.map(|at| values[at]).collect()),
            Data::Int(values) => Data::Int(from.map(|at| values[at]).collect()),
        };
        Self { dtype: self.dtype, dims: dims.to_vec(), data }
    }

    /// Writes this array's element `i` at `to[i]` of `target`, which has the same kind of data.
    pub(crate) fn put(&self, to: impl Iterator<Item = usize>, target: &mut Array) {
        match (&self.data, &mut target.data) {
            (Data::Float(values), Data::Float(into)) => to.zip(values).for_each(|(at, &value)| into[at] = value),
            (Data::Int(values), Data::Int(into)) => to.zip(values).for_each(|(at, &value)| into[at] = value),
            (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("one dtype"),
        }
    }

    /// Rounds to the dtype: floats to nearest even, integers wrap.
    pub(crate) fn into_tensor(self, dtype: DType) -> Tensor {
        let mut bytes = Vec::with_capacity(self.elements() * dtype.size());
        match self.data {
            Data::Float(values) => values.into_iter().for_each(|value| tensor::encode(dtype, value, &mut bytes)),
            Data::Int(values) => values.into_iter().for_each(|value| encode_int(dtype, value, &mut bytes)),
        }
        Tensor::from_bytes(dtype, &self.dims, bytes).expect("one element for each position")
    }
}

fn encode_int(dtype: DType, value: i64, into: &mut Vec<u8>) {
    match dtype {
        DType::I8 | DType::U8 => into.push(value as u8),
        DType::I16 => into.extend((value as i16).to_le_bytes()),
        DType::I32 => into.extend((value as i32).to_le_bytes()),
        DType::I64 => into.extend(value.to_le_bytes()),
        DType::Bool => into.push(u8::from(value != 0)),
        DType::F32 | DType::F64 | DType::F16 | DType::Bf16 => tensor::encode(dtype, value as f64, into),
    }
}

/// Row-major strides.
pub(crate) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// Every index of `dims`, in row-major order.
pub(crate) fn indices(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let dims = dims.to_vec();
    (0..dims.iter().product()).map(move |linear| unravel(linear, &dims))
}

/// The index of row-major position `linear`.
pub(crate) fn unravel(mut linear: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for axis in (0..dims.len()).rev() {
        index[axis] = linear % dims[axis];
        linear /= dims[axis];
    }
    index
}

/// The row-major position of an index.
pub(crate) fn ravel(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |linear, (&i, &size)| linear * size + i)
}
