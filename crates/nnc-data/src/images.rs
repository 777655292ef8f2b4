//! A folder of images: one folder per class.
//!
//! Folders are sorted by the bytes of their names, and a folder's place is its class; within a
//! class, files are sorted in the same way. Names that begin with a dot are passed over. Each
//! image is read as the module `picture` says, on all cores. Where one field is declared there are
//! no labels, and images may also lie in the folder itself.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Result};
use crate::picture;
use crate::sample;
use crate::table;
use crate::types::{Column, FieldType, Table};

/// The most threads that decode at once.
const MOST_THREADS: usize = 16;

/// An image file and the index of its class.
struct Example {
    path: PathBuf,
    class: usize,
}

/// Reads the images below `folder`; `fields` is `(image)` or `(image, label)`.
///
/// # Errors
/// A missing or empty folder, images beside folders, a file that is no image or of another size,
/// more classes than the label can count.
pub fn open(folder: &Path, fields: &[FieldType]) -> Result<Table> {
    table::check_fields(fields, folder)?;
    let (image, label) = match fields {
        [image] => (image, None),
        [image, label] => (image, Some(label)),
        _ => {
            table::check_count(2, fields, folder, "column")?;
            return Err(no_images(folder));
        }
    };
    let (classes, examples) = list(folder, label.is_some())?;
    let mut columns = Vec::with_capacity(fields.len());
    if let Some(label) = label {
        columns.push(labels(&examples, label, classes.len(), folder)?);
    }
    columns.insert(0, decode_all(&examples, image, folder)?);
    let names = vec![String::new(); columns.len()];
    let mut table = table::from_columns(columns, &names, folder)?;
    table.classes = (!classes.is_empty()).then_some(classes);
    Ok(table)
}

/// The fault of a folder without examples.
fn no_images(folder: &Path) -> DataError {
    let error = DataError::new(ErrorKind::Empty, folder, "has no images");
    error.help("put the images of each class into a folder with its name")
}

/// Lists the classes and all examples, in order.
fn list(folder: &Path, needs_classes: bool) -> Result<(Vec<String>, Vec<Example>)> {
    let (folders, files) = entries(folder)?;
    if let (Some(class), Some(file)) = (folders.first(), files.first()) {
        let message = format!("has both folders (`{}`) and files (`{}`)", file_name(class), file_name(file));
        let error = DataError::new(ErrorKind::Mismatch, folder, message);
        return Err(error.help("keep one folder per class, and nothing beside them"));
    }
    if folders.is_empty() && (needs_classes || files.is_empty()) {
        return Err(no_images(folder));
    }
    if folders.is_empty() {
        let examples = files.into_iter().map(|path| Example { path, class: 0 });
        return Ok((Vec::new(), examples.collect()));
    }
    let mut examples = Vec::new();
    for (class, path) in folders.iter().enumerate() {
        examples.extend(list_class(path, class)?);
    }
    Ok((folders.iter().map(|path| file_name(path)).collect(), examples))
}

/// Lists the examples of one class.
fn list_class(folder: &Path, class: usize) -> Result<impl Iterator<Item = Example> + use<>> {
    let (folders, files) = entries(folder)?;
    if let Some(inner) = folders.first() {
        let message = format!("is the folder of a class, and has a folder `{}` in it", file_name(inner));
        let error = DataError::new(ErrorKind::Mismatch, folder, message);
        let help = format!("if the folders in `{}` are the classes, name that folder", folder.display());
        return Err(error.help(help));
    }
    if files.is_empty() {
        return Err(DataError::new(ErrorKind::Empty, folder, "is the folder of a class without images")
            .help("add images or remove the folder"));
    }
    Ok(files.into_iter().map(move |path| Example { path, class }))
}

/// The folders and the files in `folder`, each sorted by the bytes of their names.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let unreadable = |cause| content::cannot_read(folder, &cause, Role::Source);
    let mut paths = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort_by(|left, right| left.as_os_str().as_encoded_bytes().cmp(right.as_os_str().as_encoded_bytes()));
    Ok(paths.into_iter().partition(|path| path.is_dir()))
}

/// The last part of `path`, for people.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The column of class indices.
fn labels(examples: &[Example], ty: &FieldType, classes: usize, folder: &Path) -> Result<Column> {
    let mut bytes = Vec::new();
    let is_scalar = ty.elements() == Some(1);
    let fits = |bytes: &mut Vec<u8>, class| sample::push_index(class, ty.dtype, bytes);
    if !is_scalar || !examples.iter().all(|example| fits(&mut bytes, example.class)) {
        let message = format!("the index of one of {classes} classes does not fit a label declared {ty}");
        let error = DataError::new(ErrorKind::WrongType, folder, message);
        return Err(error.help("declare the label u8, i32 or i64"));
    }
    Ok(Column { ty: ty.clone(), rows: examples.len(), bytes })
}

/// Decodes all images on several threads, each its own run of rows.
fn decode_all(examples: &[Example], ty: &FieldType, folder: &Path) -> Result<Column> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    let share = examples.len().div_ceil(threads).max(1);
    let parts: Vec<Result<Vec<u8>>> = thread::scope(|scope| {
        let workers: Vec<_> = examples.chunks(share).map(|share| scope.spawn(|| decode_share(share, ty))).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| worker.join().unwrap_or_else(|_| Err(crashed(folder)));
        workers.into_iter().map(join).collect()
    });
    // The first fault in the order of rows, on any number of threads.
    let parts = parts.into_iter().collect::<Result<Vec<Vec<u8>>>>()?;
    Ok(Column { ty: ty.clone(), rows: examples.len(), bytes: parts.concat() })
}

/// Decodes a run of images, one after the other.
fn decode_share(examples: &[Example], ty: &FieldType) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for example in examples {
        let content = content::read_raw(&example.path, Role::Source)?;
        picture::decode_into(&content, &example.path, ty, &mut bytes)?;
    }
    Ok(bytes)
}

/// The fault of a decoder that panicked.
fn crashed(folder: &Path) -> DataError {
    let message = "an image made its decoder fail";
    DataError::new(ErrorKind::Malformed, folder, message)
}
