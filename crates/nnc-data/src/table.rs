//! Puts columns together into a table, and checks that they belong together.

use std::path::Path;

use crate::error::{DataError, ErrorKind, Result};
use crate::types::{Column, FieldType, Table};

/// Reads one file per declared field with `read`; `source` is the name of the format.
#[cfg(any(feature = "idx", feature = "npy"))]
pub(crate) fn from_files(
    files: &[std::path::PathBuf],
    fields: &[FieldType],
    source: &str,
    read: impl Fn(&Path, &FieldType) -> Result<Column>,
) -> Result<Table> {
    check_count(files.len(), fields, Path::new(source), "file")?;
    let columns = files.iter().zip(fields).map(|(path, ty)| read(path, ty)).collect::<Result<Vec<Column>>>()?;
    let names: Vec<String> = files.iter().map(|path| format!("`{}`", path.display())).collect();
    let first = files.first().map_or(Path::new(source), |path| path.as_path());
    from_columns(columns, &names, first)
}

/// Checks that there is one of `things` per declared field, and that each field has a size.
#[cfg(any(feature = "idx", feature = "npy", feature = "image", feature = "text"))]
pub(crate) fn check_count(count: usize, fields: &[FieldType], path: &Path, things: &str) -> Result<()> {
    check_fields(fields, path)?;
    if count == fields.len() {
        return Ok(());
    }
    let message = format!(
        "{count} {things}{} given for {} declared field{}",
        if count == 1 { " is" } else { "s are" },
        fields.len(),
        if fields.len() == 1 { "" } else { "s" },
    );
    let help = format!("name one {things} per field, in order");
    Err(DataError::new(ErrorKind::BadRequest, path, message).help(help))
}

/// Checks that there are fields and that each has a size.
pub(crate) fn check_fields(fields: &[FieldType], path: &Path) -> Result<()> {
    if fields.is_empty() {
        let message = "no field is declared";
        return Err(DataError::new(ErrorKind::BadRequest, path, message));
    }
    match fields.iter().find(|ty| ty.row_bytes().is_none()) {
        None => Ok(()),
        Some(ty) => {
            let message = format!("a field cannot be declared {ty}: it has no size, or too large a one");
            Err(DataError::new(ErrorKind::BadRequest, path, message))
        }
    }
}

/// A table of `columns`, which must have equally many rows; `names` say where each came from.
pub(crate) fn from_columns(columns: Vec<Column>, names: &[String], path: &Path) -> Result<Table> {
    let rows = columns.first().map_or(0, |column| column.rows);
    let odd = columns.iter().zip(names).find(|(column, _)| column.rows != rows);
    if let Some((column, name)) = odd {
        let message = format!("{} has {rows} rows, but {name} has {}", names[0], column.rows);
        return Err(
            DataError::new(ErrorKind::Mismatch, path, message).help("every field needs the same number of rows")
        );
    }
    Ok(Table { columns, rows, ..Table::default() })
}
