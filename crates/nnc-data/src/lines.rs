//! Texts by lines: each line is one example, and each file fills one field, so that line `i` of one belongs to line `i`
//! of the other, as in a corpus of translations.

use std::path::{Path, PathBuf};

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Result};
use crate::table;
use crate::text::utf8;
use crate::types::{FieldType, Table};
use crate::words::{self, Texts, WordOptions};

/// Reads one file per field, each of which may be packed with gzip.
///
/// # Errors
/// A file that is missing, empty or no UTF-8, a line without words, files with different numbers of lines.
pub fn open(files: &[PathBuf], fields: &[FieldType], options: &WordOptions) -> Result<Table> {
    let first = files.first().map_or(Path::new("text"), PathBuf::as_path);
    table::check_count(files.len(), fields, first, "file")?;
    let read = |path: &PathBuf| content::read_file(path, Role::Source);
    let contents = files.iter().map(read).collect::<Result<Vec<_>>>()?;
    let named = files.iter().map(PathBuf::as_path).zip(contents.iter().map(Vec::as_slice));
    decode(&named.collect::<Vec<_>>(), fields, options)
}

/// Decodes the unpacked contents of files, one for each field.
///
/// # Errors
/// As [`open`].
pub fn decode(files: &[(&Path, &[u8])], fields: &[FieldType], options: &WordOptions) -> Result<Table> {
    let first = files.first().map_or(Path::new("text"), |(path, _)| path);
    table::check_count(files.len(), fields, first, "file")?;
    let mut texts: Vec<Texts<'_>> = Vec::with_capacity(files.len());
    for (field, (&(path, content), ty)) in files.iter().zip(fields).enumerate() {
        let rows: Vec<String> = utf8(content, path)?.lines().map(str::to_owned).collect();
        let table = options.table(field).ok_or_else(|| {
            let message = "the lines of a text are words or tokens, and the field is declared as something else";
            DataError::new(ErrorKind::BadRequest, path, message)
        })?;
        if let Some(before) = texts.first().filter(|before| before.rows.len() != rows.len()) {
            let (found, wanted) = (rows.len(), before.rows.len());
            let lines = if found == 1 { "line" } else { "lines" };
            let message = format!("has {found} {lines}, but `{}` has {wanted}", before.path.display());
            let error = DataError::new(ErrorKind::Mismatch, path, message);
            return Err(error.help("line by line the files belong together"));
        }
        texts.push(Texts { path, ty: ty.clone(), table, unit: options.unit, rows });
    }
    let rows = texts.first().map_or(0, |texts| texts.rows.len());
    let lines: Vec<u64> = (1..=rows as u64).collect();
    let numbered = words::number(&texts, &lines, options)?;
    let (columns, vocabularies, remarks) = (numbered.columns, numbered.vocabularies, numbered.remarks);
    let tables = options.tables.clone();
    Ok(Table { columns, rows, lines, tables, vocabularies, remarks, ..Table::default() })
}
