//! Shapes and the types of values.

use crate::{DType, Dim};
use std::fmt;
use std::ops::Deref;

/// The dims of a tensor, outermost first; a scalar has none.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// The shape of a scalar.
    pub fn scalar() -> Self {
        Self(Vec::new())
    }

    /// A shape of numbers.
    pub fn of(sizes: &[usize]) -> Self {
        Self(sizes.iter().map(|&size| Dim::from(size)).collect())
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The product of the dims.
    pub fn elements(&self) -> Dim {
        self.0.iter().cloned().fold(Dim::from(1i64), |product, dim| product * dim)
    }

    /// The sizes of a bound shape; see [`Dim::size`] for the panic.
    pub fn sizes(&self) -> Vec<usize> {
        self.0.iter().map(Dim::size).collect()
    }

    /// Whether every dim is a number.
    pub fn is_bound(&self) -> bool {
        self.0.iter().all(|dim| dim.as_number().is_some())
    }
}

impl Deref for Shape {
    type Target = [Dim];
    fn deref(&self) -> &[Dim] {
        &self.0
    }
}

impl From<Vec<Dim>> for Shape {
    fn from(dims: Vec<Dim>) -> Self {
        Self(dims)
    }
}

/// A dtype and a shape: `f32[N, 10]`; a scalar prints as its dtype alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TensorType {
    /// Type of an element.
    pub dtype: DType,
    /// Dims, outermost first.
    pub shape: Shape,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// A scalar of `dtype`.
    pub fn scalar(dtype: DType) -> Self {
        Self { dtype, shape: Shape::scalar() }
    }

    /// Bytes of a bound type.
    pub fn bytes(&self) -> usize {
        self.dtype.size() * self.shape.elements().size()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dtype)?;
        if self.shape.rank() > 0 {
            let dims: Vec<String> = self.shape.iter().map(Dim::to_string).collect();
            write!(f, "[{}]", dims.join(", "))?;
        }
        Ok(())
    }
}
