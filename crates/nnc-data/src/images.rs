//! A folder, or an archive, of images: one folder per class, or labels in the names of the files.
//!
//! Each image is read as the module `picture` says, on all cores; how files are found and numbered is in `examples`.
//! Where one field is declared there are no labels, and images may also lie in the folder itself. Of two folders each
//! fills one field, by pairs of one name: images and their masks.

use std::path::{Path, PathBuf};

use crate::error::{DataError, ErrorKind, Result};
use crate::examples::Examples;
use crate::picture;
use crate::table;
use crate::types::{FieldType, Table};

/// Reads the images below `folder`; `fields` is `(image)` or `(image, label)`. The label is what stands for `{}` in the
/// form `label` of a file's name, else the folder.
///
/// # Errors
/// A missing or empty folder, images beside folders, a file that is no image or of another size,
/// more classes than the label can count, a name without a label.
pub fn open(folder: &Path, fields: &[FieldType], label: Option<&str>) -> Result<Table> {
    table::check_fields(fields, folder)?;
    if fields.len() > 2 {
        table::check_count(2, fields, folder, "column")?;
    }
    let examples = Examples::list("image", folder, label, fields.len() == 2)?;
    let image = &fields[0];
    let labels = fields.get(1).map(|ty| examples.labels(ty)).transpose()?;
    let images = examples.decode(image, |content, path, bytes| picture::decode_into(content, path, image, bytes))?;
    let columns = std::iter::once(images).chain(labels).collect();
    let classes = (!examples.classes.is_empty()).then(|| examples.classes.clone());
    let (rows, names, remarks) = (examples.list.len(), examples.names(), examples.remarks().collect());
    Ok(Table { columns, rows, classes, names, remarks, ..Table::default() })
}

/// Reads a folder for each field, all with files of the same names but for their endings: images with their masks.
///
/// # Errors
/// As [`open`]; a file without its partner.
pub fn open_aligned(folders: &[PathBuf], fields: &[FieldType]) -> Result<Table> {
    let first = folders.first().map_or(Path::new("images"), PathBuf::as_path);
    table::check_count(folders.len(), fields, first, "folder")?;
    let mut columns = Vec::with_capacity(fields.len());
    let mut names: Vec<String> = Vec::new();
    let mut remarks: Vec<String> = Vec::new();
    for (folder, ty) in folders.iter().zip(fields) {
        let examples = Examples::list("image", folder, None, false)?;
        let found = examples.names();
        if columns.is_empty() {
            names = found;
        } else if let Some(message) = first_difference(&names, &found, first) {
            let error = DataError::new(ErrorKind::Mismatch, folder, message);
            return Err(error.help("an image and its mask have the same name, but for the ending"));
        }
        remarks.extend(examples.remarks());
        columns.push(examples.decode(ty, |content, path, bytes| picture::decode_into(content, path, ty, bytes))?);
    }
    Ok(Table { columns, rows: names.len(), names, remarks, ..Table::default() })
}

/// What is in one list of names and not in the other, without regard to endings.
fn first_difference(wanted: &[String], found: &[String], first: &Path) -> Option<String> {
    let stems = |names: &[String]| -> Vec<String> {
        names.iter().map(|name| Path::new(name).with_extension("").to_string_lossy().into_owned()).collect()
    };
    let (wanted, found) = (stems(wanted), stems(found));
    if wanted == found {
        return None;
    }
    if let Some(missing) = wanted.iter().find(|&name| !found.contains(name)) {
        return Some(format!("has no partner of `{missing}` in `{}`", first.display()));
    }
    if let Some(more) = found.iter().find(|&name| !wanted.contains(name)) {
        return Some(format!("has `{more}`, which `{}` lacks", first.display()));
    }
    Some(format!("has the images of `{}` in another order, or some twice", first.display()))
}
