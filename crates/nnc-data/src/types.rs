//! The types of raw examples, and the tables they are read into.
//!
//! A data block declares the type of one example, for instance `(u8[28, 28], u8)`: a tuple of
//! [`FieldType`]s. A source is decoded into a [`Table`] with one [`Column`] per field.
//!
//! **Invariants** of a table made by this crate: every column has `table.rows` rows, and holds
//! exactly `rows * row_bytes` bytes, row-major, little endian and contiguous; a `bool` is one
//! byte, 0 or 1.

use std::fmt;
use std::str::FromStr;

use crate::vocabulary::Vocabulary;

/// The type of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// IEEE 754 binary64.
    F64,
    /// 8-bit two's complement.
    I8,
    /// 8-bit unsigned.
    U8,
    /// 16-bit two's complement.
    I16,
    /// 32-bit two's complement.
    I32,
    /// 64-bit two's complement.
    I64,
    /// One byte, 0 or 1.
    Bool,
}

impl DType {
    /// Every dtype, in the order of the language's description.
    pub const ALL: [DType; 10] = [
        DType::F32,
        DType::F16,
        DType::Bf16,
        DType::F64,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::Bool,
    ];

    /// The name used in the language, such as `f32`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::F64 => "f64",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::Bool => "bool",
        }
    }

    /// The size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            DType::I8 | DType::U8 | DType::Bool => 1,
            DType::F16 | DType::Bf16 | DType::I16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::F64 | DType::I64 => 8,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no dtype.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no dtype; there are f32 f16 bf16 f64 i8 u8 i32 i64 bool")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = DType::ALL.into_iter().find(|dtype| dtype.name() == name);
        found.ok_or_else(|| UnknownDType(name.to_owned()))
    }
}

/// Whether an array must have examples along its first axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// The shape is `[rows, ..dims]`.
    Rows,
    /// The shape may also be `[..dims]`: one example.
    RowsOrOne,
    /// The shape is `[..dims]`, or `[1, ..dims]`: there is one.
    One,
}

/// The declared type of one field of one example; a scalar has no dims.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldType {
    /// The type of an element.
    pub dtype: DType,
    /// The extents, outermost first.
    pub dims: Vec<usize>,
}

impl FieldType {
    /// A field of `dtype` with the extents `dims`.
    pub fn new(dtype: DType, dims: impl Into<Vec<usize>>) -> Self {
        FieldType { dtype, dims: dims.into() }
    }

    /// A field that is one number.
    pub fn scalar(dtype: DType) -> Self {
        FieldType::new(dtype, [])
    }

    /// The number of elements in one example, or `None` where it is zero or does not fit.
    pub fn elements(&self) -> Option<usize> {
        let product = self.dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
        (product > 0).then_some(product)
    }

    /// The number of bytes in one example, or `None` where it is zero or does not fit.
    pub fn row_bytes(&self) -> Option<usize> {
        self.elements()?.checked_mul(self.dtype.size())
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dtype.name())?;
        if self.dims.is_empty() {
            return Ok(());
        }
        write!(f, "{}", Dims(&self.dims))
    }
}

/// Prints extents as the language does: `[3, 32, 32]`.
pub(crate) struct Dims<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for Dims<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, dim) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{dim}")?;
        }
        f.write_str("]")
    }
}

/// One field of many examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The type of each row.
    pub ty: FieldType,
    /// The number of examples.
    pub rows: usize,
    /// The elements: row-major, little endian, contiguous.
    pub bytes: Vec<u8>,
    /// What is worth telling of an input, a line each: that it was cut.
    pub remarks: Vec<String>,
}

impl Column {
    /// Rows of elements, of which there is nothing to tell.
    pub fn new(ty: FieldType, rows: usize, bytes: Vec<u8>) -> Self {
        Self { ty, rows, bytes, remarks: Vec::new() }
    }

    /// The bytes of one example.
    ///
    /// # Panics
    /// When `row` is not below `rows`.
    pub fn row(&self, row: usize) -> &[u8] {
        let size = self.bytes.len() / self.rows.max(1);
        &self.bytes[row * size..(row + 1) * size]
    }
}

/// All fields of all examples of one source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// One column per declared field, in the declared order.
    pub columns: Vec<Column>,
    /// The number of examples, the same in every column.
    pub rows: usize,
    /// What numbers stand for, as the source taught it: the names of classes (the folders of `images`), or the
    /// characters of a text.
    pub classes: Option<Vec<String>>,
    /// For `csv` and `text`, the line that each example begins on, from 1; empty for other sources.
    pub lines: Vec<u64>,
    /// The names of the files of the examples, where each has one of its own: with their folders below the source's.
    pub names: Vec<String>,
    /// For each column the table that numbers it, if its rows are texts; empty where there are none.
    pub tables: Vec<Option<usize>>,
    /// The tables that number the words or tokens of texts.
    pub vocabularies: Vec<Vocabulary>,
    /// What is worth telling, a line each: texts that were cut.
    pub remarks: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for dtype in DType::ALL {
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
        assert!("float".parse::<DType>().is_err());
    }

    #[test]
    fn fields_print_as_in_the_language() {
        let image = FieldType::new(DType::U8, [3, 32, 32]);
        assert_eq!(image.to_string(), "u8[3, 32, 32]");
        assert_eq!(FieldType::scalar(DType::I64).to_string(), "i64");
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(FieldType::new(DType::F64, [3, 5]).row_bytes(), Some(120));
        assert_eq!(FieldType::scalar(DType::F16).row_bytes(), Some(2));
        assert_eq!(FieldType::new(DType::U8, [3, 0]).row_bytes(), None);
        assert_eq!(FieldType::new(DType::F64, [usize::MAX]).row_bytes(), None);
        assert_eq!(FieldType::new(DType::U8, [usize::MAX, 2]).elements(), None);
    }
}
