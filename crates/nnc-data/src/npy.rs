//! NumPy's array format, `.npy` (NumPy enhancement proposal 1, versions 1.0 to 3.0).
//!
//! The magic `\x93NUMPY`, a version, the length of the header, and the header: a Python dict
//! literal with the keys `descr`, `fortran_order` and `shape`. The header is read by a scanner for
//! exactly that, in the module `dict`, in linear time. The crate `npyz` parses any Python literal,
//! with time exponential in the depth of brackets (0.9: a header of 50 bytes keeps it busy for
//! minutes), and a program must answer bad files; it is the oracle of the tests instead.
//!
//! An array of bf16, a dtype NumPy lacks, is written and read as `V2`, as the package `ml_dtypes` does.

mod dict;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Place, Result};
use crate::layout::Header;
use crate::table;
use crate::types::{Batching, Column, DType, FieldType, Table};
use crate::write::write_atomically;

const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest header that is read. NumPy itself refuses more than 10,000 bytes.
const LONGEST_HEADER: usize = 10_000;

/// Reads one file per field.
///
/// # Errors
/// A file that is missing, cut off, of another format, or not of the declared type; files whose
/// numbers of rows differ.
pub fn open(files: &[PathBuf], fields: &[FieldType]) -> Result<Table> {
    table::from_files(files, fields, "npy", |path, ty| {
        let content = content::read_file(path, Role::Source)?;
        decode(content, path, ty, Batching::Rows)
    })
}

/// Decodes the `content` of the file `path`, held to the declared type `ty`.
///
/// # Errors
/// As [`open`].
pub fn decode(content: Vec<u8>, path: &Path, ty: &FieldType, batching: Batching) -> Result<Column> {
    let header = parse_header(&content, path)?;
    let rows = header.rows(ty, batching, path)?;
    header.column(content, ty, rows, path)
}

/// The dims of the array in the file `path`.
///
/// # Errors
/// Its header is damaged, or has dims that no machine can address.
pub(crate) fn dims(content: &[u8], path: &Path) -> Result<Vec<usize>> {
    let shape = parse_header(content, path)?.shape;
    let dims: Option<Vec<usize>> = shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    dims.ok_or_else(|| DataError::new(ErrorKind::Malformed, path, "the header claims an impossible size"))
}

/// Reads everything before the elements.
fn parse_header(content: &[u8], path: &Path) -> Result<Header> {
    if !content.starts_with(MAGIC) {
        let message = format!("is no .npy file: it {}", content::first_bytes(content));
        let error = DataError::new(ErrorKind::Malformed, path, message);
        return Err(error.help("write it with `numpy.save`"));
    }
    let (start, length) = match content[MAGIC.len()..] {
        [1, 0, low, high, ..] => (10, usize::from(u16::from_le_bytes([low, high]))),
        [2 | 3, 0, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        [major, minor, _, _, ..] if !matches!(major, 1..=3) || minor != 0 => {
            let message = format!("is of the .npy version {major}.{minor}, 1.0 to 3.0 are read");
            let error = DataError::new(ErrorKind::Unsupported, path, message);
            return Err(error.at(Place::Byte(6)));
        }
        _ => return Err(cut_off(content, path)),
    };
    if length > LONGEST_HEADER {
        let message = format!("claims a header of {length} bytes, {LONGEST_HEADER} are read at most");
        let error = DataError::new(ErrorKind::Malformed, path, message);
        return Err(error.at(Place::Byte(8)));
    }
    let text = content.get(start..start + length);
    let text = text.ok_or_else(|| cut_off(content, path))?;
    let entries = dict::parse(text).map_err(|fault| {
        let place = Place::Byte((start + fault.offset) as u64);
        DataError::new(ErrorKind::Malformed, path, fault.message).at(place)
    })?;
    let (dtype, big_endian) = dtype_of(&entries.descr, path)?;
    Ok(Header { dtype, shape: entries.shape, length: start + length, big_endian, fortran: entries.fortran_order })
}

/// The fault of a file that ends within its header.
fn cut_off(content: &[u8], path: &Path) -> DataError {
    DataError::new(ErrorKind::Truncated, path, "the file is cut off in its header")
        .at(Place::Byte(content.len() as u64))
        .help("download or copy the file again")
}

/// The dtype that `descr` stands for, and whether it is big endian.
fn dtype_of(descr: &str, path: &Path) -> Result<(DType, bool)> {
    let code = descr.trim_start_matches(['<', '>', '|', '=']);
    let dtype = match code {
        "f4" => DType::F32,
        "f2" => DType::F16,
        "V2" => DType::Bf16,
        "f8" => DType::F64,
        "i1" => DType::I8,
        "u1" => DType::U8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "b1" => DType::Bool,
        _ => {
            let message = format!("has elements of NumPy's type `{descr}`, which is not read");
            let error = DataError::new(ErrorKind::Unsupported, path, message);
            return Err(error.help("convert it with `.astype(...)` to one of f4 f2 f8 i1 u1 i2 i4 i8 b1"));
        }
    };
    Ok((dtype, descr.starts_with('>')))
}

/// How NumPy names `dtype` in a header.
fn descr_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::Bf16 => "<V2",
        DType::F64 => "<f8",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::Bool => "|b1",
    }
}

/// Writes an array (row-major, little endian) as `.npy` to `to`.
///
/// # Errors
/// Those of `to`; `InvalidInput` where `bytes` is not as long as `dtype` and `dims` say.
pub fn encode_npy(to: &mut dyn Write, dtype: DType, dims: &[usize], bytes: &[u8]) -> io::Result<()> {
    let size = dims.iter().try_fold(dtype.size(), |size, &dim| size.checked_mul(dim));
    if size != Some(bytes.len()) {
        let message = format!("{} bytes do not fill {dtype} of {dims:?}", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let extents: String = dims.iter().map(|dim| format!("{dim}, ")).collect();
    let shape = match dims {
        [only] => format!("({only},)"),
        _ => format!("({})", extents.trim_end_matches(", ")),
    };
    let mut header = format!("{{'descr': '{}', 'fortran_order': False, 'shape': {shape}, }}", descr_of(dtype));
    // The elements begin at a multiple of 64 bytes, and the header ends with a line end.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(io::Error::other)?;
    to.write_all(MAGIC)?;
    to.write_all(&[1, 0])?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(header.as_bytes())?;
    to.write_all(bytes)
}

/// Writes an array (row-major, little endian) to the file `path`: whole, or not at all.
///
/// # Errors
/// The folder is missing, read-only or full; `bytes` is not as long as `dtype` and `dims` say.
pub fn write_npy(path: &Path, dtype: DType, dims: &[usize], bytes: &[u8]) -> Result<()> {
    write_atomically(path, |file| encode_npy(file, dtype, dims, bytes))
}
