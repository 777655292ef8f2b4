//! What the array formats (`idx`, `npy`) have in common: an array of a dtype and a shape, held to
//! a declared field before anything of its size is trusted.

use std::path::Path;

use crate::error::{DataError, ErrorKind, Place, Result};
use crate::types::{Batching, Column, DType, Dims, FieldType};

/// What a file's header says about the array that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The type of an element.
    pub dtype: DType,
    /// The extents, outermost first.
    pub shape: Vec<u64>,
    /// The length of the header in bytes.
    pub length: usize,
    /// Whether elements are stored with the most significant byte first.
    pub big_endian: bool,
    /// Whether the first extent runs fastest.
    pub fortran: bool,
}

impl Header {
    /// The number of rows of the declared field `ty`, if dtype and shape agree with it.
    pub(crate) fn rows(&self, ty: &FieldType, batching: Batching, path: &Path) -> Result<usize> {
        if self.dtype != ty.dtype {
            let message = format!("has dtype {}, but the field is declared {ty}", self.dtype);
            let help = match batching {
                Batching::Rows => {
                    format!("declare it {}, or convert the file", FieldType::new(self.dtype, ty.dims.clone()))
                }
                Batching::RowsOrOne | Batching::One => format!("convert it to {} before it is saved", ty.dtype),
            };
            return Err(DataError::new(ErrorKind::WrongType, path, message).help(help));
        }
        let rows = rows_of(&self.shape, ty, batching).ok_or_else(|| self.wrong_shape(ty, batching, path))?;
        if rows == 0 {
            return Err(DataError::new(ErrorKind::Empty, path, "has no rows"));
        }
        Ok(rows)
    }

    /// The fault of a shape that is not the declared one.
    fn wrong_shape(&self, ty: &FieldType, batching: Batching, path: &Path) -> DataError {
        let extents: Vec<String> = ty.dims.iter().map(usize::to_string).collect();
        let rows = [&["rows".to_owned()], extents.as_slice()].concat();
        let expected = match batching {
            Batching::Rows => Dims(&rows).to_string(),
            Batching::RowsOrOne => format!("{} or {}", Dims(&ty.dims), Dims(&rows)),
            Batching::One => Dims(&ty.dims).to_string(),
        };
        let message = format!("has the shape {}, but a field declared {ty} needs {expected}", Dims(&self.shape));
        let help = match (batching, self.declarable()) {
            (Batching::Rows, Some(ty)) => format!("declare it {ty}, or reshape the array before it is saved"),
            (Batching::Rows, None) | (Batching::RowsOrOne | Batching::One, _) => {
                "reshape the array before it is saved".to_owned()
            }
        };
        DataError::new(ErrorKind::WrongShape, path, message).help(help)
    }

    /// The type that a field of this array would be declared with, if it has rows.
    fn declarable(&self) -> Option<FieldType> {
        let extents = self.shape.get(1..)?;
        let dims: Option<Vec<usize>> = extents.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let ty = FieldType::new(self.dtype, dims?);
        ty.row_bytes().map(|_| ty)
    }

    /// Turns the whole file `content` into a column of `rows` rows.
    ///
    /// The header's size is held to the file's before memory is taken; the elements stay where
    /// they are, so a plain array costs no second copy.
    pub(crate) fn column(&self, mut content: Vec<u8>, ty: &FieldType, rows: usize, path: &Path) -> Result<Column> {
        let found = content.len().saturating_sub(self.length);
        let expected = ty.row_bytes().and_then(|size| size.checked_mul(rows));
        if expected != Some(found) {
            return Err(self.wrong_length(expected, found, path));
        }
        content.drain(..self.length);
        if self.big_endian {
            swap_bytes(&mut content, ty.dtype.size());
        }
        if self.fortran && self.shape.len() > 1 {
            content = row_major(&content, &self.shape, ty.dtype.size());
        }
        let column = Column::new(ty.clone(), rows, content);
        check_bools(&column, path)?;
        Ok(column)
    }

    /// The fault of a file that is shorter or longer than its header says.
    fn wrong_length(&self, expected: Option<usize>, found: usize, path: &Path) -> DataError {
        let claim = format!("{}{}", self.dtype, Dims(&self.shape));
        let end = Place::Byte((self.length + found) as u64);
        match expected {
            Some(expected) if found > expected => {
                let message = format!("has {} bytes too many after {claim}", found - expected);
                DataError::new(ErrorKind::Malformed, path, message).at(end)
            }
            Some(expected) => {
                let message = format!(
                    "the file is cut off: its header promises {claim}, {expected} bytes, and {found} are there"
                );
                DataError::new(ErrorKind::Truncated, path, message).at(end).help("download or copy the file again")
            }
            None => {
                let message = format!("the header claims an impossible size, {claim}");
                DataError::new(ErrorKind::Malformed, path, message)
            }
        }
    }
}

/// The number of rows that `shape` has of `ty`, if it has the right extents.
fn rows_of(shape: &[u64], ty: &FieldType, batching: Batching) -> Option<usize> {
    let is_field = |extents: &[u64]| extents.iter().copied().eq(ty.dims.iter().map(|&dim| dim as u64));
    if batching != Batching::Rows && is_field(shape) {
        return Some(1);
    }
    let (&rows, extents) = shape.split_first()?;
    let rows = usize::try_from(rows).ok()?;
    (is_field(extents) && (batching != Batching::One || rows == 1)).then_some(rows)
}

/// Reverses the bytes of each element.
fn swap_bytes(bytes: &mut [u8], size: usize) {
    if size > 1 {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
}

/// Copies an array whose first extent runs fastest into one whose last extent does.
///
/// The product of `shape` and `size` must be the length of `bytes`.
fn row_major(bytes: &[u8], shape: &[u64], size: usize) -> Vec<u8> {
    let shape: Vec<usize> = shape.iter().map(|&dim| dim as usize).collect();
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size;
    for &dim in &shape {
        strides.push(stride);
        stride *= dim;
    }
    let mut result = Vec::with_capacity(bytes.len());
    let mut index = vec![0usize; shape.len()];
    let mut offset = 0;
    while result.len() < bytes.len() {
        result.extend_from_slice(&bytes[offset..offset + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            offset -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    result
}

/// Refuses bools that are neither 0 nor 1, which compiled code relies on.
fn check_bools(column: &Column, path: &Path) -> Result<()> {
    if column.ty.dtype != DType::Bool {
        return Ok(());
    }
    let Some(position) = column.bytes.iter().position(|&byte| byte > 1) else {
        return Ok(());
    };
    let size = column.bytes.len() / column.rows;
    let message = format!("expected a bool, the byte 0 or 1, found {}", column.bytes[position]);
    Err(DataError::new(ErrorKind::BadValue, path, message).at(Place::Row((position / size) as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_first() {
        let image = FieldType::new(DType::U8, [2, 3]);
        assert_eq!(rows_of(&[7, 2, 3], &image, Batching::Rows), Some(7));
        assert_eq!(rows_of(&[2, 3], &image, Batching::Rows), None);
        assert_eq!(rows_of(&[2, 3], &image, Batching::RowsOrOne), Some(1));
        assert_eq!(rows_of(&[6], &image, Batching::RowsOrOne), None);
        assert_eq!([2, 1].map(|rows| rows_of(&[rows, 2, 3], &image, Batching::One)), [None, Some(1)]);
        assert_eq!(rows_of(&[2, 3], &image, Batching::One), Some(1));
        let scalar = FieldType::scalar(DType::U8);
        assert_eq!(rows_of(&[7], &scalar, Batching::Rows), Some(7));
        assert_eq!(rows_of(&[], &scalar, Batching::RowsOrOne), Some(1));
        assert_eq!(rows_of(&[7, 1], &scalar, Batching::Rows), None);
    }

    #[test]
    fn fortran_order_is_turned_round() {
        // Row-major [[0, 1, 2], [3, 4, 5]], stored column by column.
        assert_eq!(row_major(&[0, 3, 1, 4, 2, 5], &[2, 3], 1), [0, 1, 2, 3, 4, 5]);
        let pairs = [0, 0, 1, 1, 2, 2, 3, 3];
        assert_eq!(row_major(&pairs, &[2, 2], 2), [0, 0, 2, 2, 1, 1, 3, 3]);
    }

    #[test]
    fn bytes_are_swapped_within_elements() {
        let mut bytes = [1, 2, 3, 4];
        swap_bytes(&mut bytes, 2);
        assert_eq!(bytes, [2, 1, 4, 3]);
    }
}
