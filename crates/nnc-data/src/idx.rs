//! The `idx` format of the original MNIST files (Y. LeCun, C. Cortes, C. Burges).
//!
//! Two zero bytes, a code for the dtype, the number of extents; then each extent as a big-endian
//! u32, then the elements, big endian, row-major. One file per field; gzip is unpacked by content.

use std::path::{Path, PathBuf};

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Place, Result};
use crate::layout::Header;
use crate::table;
use crate::types::{Batching, Column, DType, FieldType, Table};

/// Reads one file per field.
///
/// # Errors
/// A file that is missing, cut off, of another format, or not of the declared type; files whose
/// numbers of rows differ.
pub fn open(files: &[PathBuf], fields: &[FieldType]) -> Result<Table> {
    table::from_files(files, fields, "idx", |path, ty| {
        let content = content::read_file(path, Role::Source)?;
        decode(content, path, ty, Batching::Rows)
    })
}

/// Decodes the unpacked `content` of the file `path`, held to the declared type `ty`.
///
/// # Errors
/// As [`open`].
pub fn decode(content: Vec<u8>, path: &Path, ty: &FieldType, batching: Batching) -> Result<Column> {
    let header = parse_header(&content, path)?;
    let rows = header.rows(ty, batching, path)?;
    header.column(content, ty, rows, path)
}

/// Reads the magic number and the extents.
fn parse_header(content: &[u8], path: &Path) -> Result<Header> {
    let [0, 0, code, rank, extents @ ..] = content else {
        let message = format!("is no idx file: it {}", content::first_bytes(content));
        return Err(DataError::new(ErrorKind::Malformed, path, message)
            .help("an idx file begins with 00 00, a dtype and a number of dims"));
    };
    let dtype = dtype_of(*code, path)?;
    let length = 4 + 4 * usize::from(*rank);
    if content.len() < length {
        let message = format!("the file is cut off in its header, which takes {length} bytes");
        return Err(DataError::new(ErrorKind::Truncated, path, message)
            .at(Place::Byte(content.len() as u64))
            .help("download or copy the file again"));
    }
    let shape = extents[..length - 4]
        .chunks_exact(4)
        .map(|bytes| bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
        .collect();
    Ok(Header { dtype, shape, length, big_endian: true, fortran: false })
}

/// The dtype that the third byte stands for.
fn dtype_of(code: u8, path: &Path) -> Result<DType> {
    match code {
        0x08 => Ok(DType::U8),
        0x09 => Ok(DType::I8),
        0x0B => Ok(DType::I16),
        0x0C => Ok(DType::I32),
        0x0D => Ok(DType::F32),
        0x0E => Ok(DType::F64),
        _ => {
            let message = format!("is no idx file: {code:#04x} stands for no dtype");
            let error = DataError::new(ErrorKind::Unsupported, path, message);
            Err(error.at(Place::Byte(2)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 9, 8, 7, 6];

    fn image() -> FieldType {
        FieldType::new(DType::U8, [1, 2])
    }

    fn fault(content: &[u8], ty: &FieldType) -> DataError {
        decode(content.to_vec(), Path::new("a.idx"), ty, Batching::Rows).unwrap_err()
    }

    #[test]
    fn reads_rows() {
        let column = decode(IMAGES.to_vec(), Path::new("a"), &image(), Batching::Rows).unwrap();
        assert_eq!((column.rows, column.bytes.as_slice()), (2, &[9, 8, 7, 6][..]));
        assert_eq!(column.row(1), [7, 6]);
    }

    #[test]
    fn big_endian_elements_are_turned_round() {
        let content = [&[0, 0, 0x0C, 1, 0, 0, 0, 1][..], &5i32.to_be_bytes()].concat();
        let ty = FieldType::scalar(DType::I32);
        let column = decode(content, Path::new("a"), &ty, Batching::Rows).unwrap();
        assert_eq!(column.bytes, 5i32.to_le_bytes());
    }

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(fault(b"1,2,3\n", &image()).kind, ErrorKind::Malformed);
        assert_eq!(fault(&IMAGES[..10], &image()).kind, ErrorKind::Truncated);
        assert_eq!(fault(&IMAGES[..19], &image()).kind, ErrorKind::Truncated);
        assert_eq!(fault(&[IMAGES, &[0]].concat(), &image()).kind, ErrorKind::Malformed);
        let float = FieldType::new(DType::F32, [1, 2]);
        assert_eq!(fault(IMAGES, &float).kind, ErrorKind::WrongType);
        let square = FieldType::new(DType::U8, [2, 2]);
        let error = fault(IMAGES, &square);
        assert_eq!(error.kind, ErrorKind::WrongShape);
        assert!(error.message.contains("[2, 1, 2]"), "{error}");
        assert!(error.message.contains("[rows, 2, 2]"), "{error}");
    }

    #[test]
    fn a_huge_header_takes_no_memory() {
        let header = [&[0, 0, 8, 3][..], &[0xFF; 4], &[0, 0, 0, 1, 0, 0, 0, 2]].concat();
        assert_eq!(fault(&header, &image()).kind, ErrorKind::Truncated);
    }
}
