//! Several arrays in one file: a zip archive of `.npy` files, as `numpy.savez` and
//! `numpy.savez_compressed` make.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Result};
use crate::npy;
use crate::table;
use crate::types::{Batching, Column, FieldType, Table};

/// Reads the arrays `names` of the file `path`, one per declared field.
///
/// # Errors
/// A missing or damaged file, an array that is not there or not of the declared type; arrays
/// whose numbers of rows differ.
pub fn open(path: &Path, names: &[String], fields: &[FieldType]) -> Result<Table> {
    let content = content::read_raw(path, Role::Source)?;
    decode(&content, path, names, fields)
}

/// Decodes the `content` of the file `path`.
///
/// # Errors
/// As [`open`].
pub fn decode(content: &[u8], path: &Path, names: &[String], fields: &[FieldType]) -> Result<Table> {
    table::check_count(names.len(), fields, path, "array")?;
    let mut archive = ZipArchive::new(Cursor::new(content)).map_err(|cause| damaged(path, &cause))?;
    let columns = names
        .iter()
        .zip(fields)
        .map(|(name, ty)| read_array(&mut archive, path, name, ty))
        .collect::<Result<Vec<Column>>>()?;
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    table::from_columns(columns, &quoted, path)
}

/// Reads one array.
fn read_array(archive: &mut ZipArchive<Cursor<&[u8]>>, path: &Path, name: &str, ty: &FieldType) -> Result<Column> {
    let member = format!("{name}.npy");
    let Some(index) = archive.index_for_name(&member) else {
        return Err(no_array(archive, path, name));
    };
    let mut content = Vec::new();
    let unpacked = archive.by_index(index).map_err(|cause| damaged(path, &cause)).and_then(|mut file| {
        let read = file.read_to_end(&mut content);
        read.map_err(|cause| damaged(path, &ZipError::Io(cause)))
    });
    unpacked.and_then(|_| npy::decode(content, path, ty, Batching::Rows)).map_err(|error| error.within(name))
}

/// The fault of an array that the archive does not have.
fn no_array(archive: &ZipArchive<Cursor<&[u8]>>, path: &Path, name: &str) -> DataError {
    let array_name = |name: Cow<'_, str>| name.strip_suffix(".npy").map(str::to_owned);
    let names = archive.file_names().flatten().filter_map(array_name).collect();
    DataError::no_array(path, name, names, "write it with `numpy.savez`")
}

/// The fault of an archive that cannot be read.
fn damaged(path: &Path, cause: &ZipError) -> DataError {
    let message = format!("the archive cannot be read: {cause}");
    DataError::new(ErrorKind::Malformed, path, message).help("write or download it again")
}
