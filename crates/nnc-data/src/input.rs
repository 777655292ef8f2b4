//! What is given to a program that runs a model: one example, or some.
//!
//! The format is told by content, not by name: `.npy`, `idx`, PNG, JPEG, or text with one example
//! per line, each also packed with gzip. An array must have exactly the declared dtype and the
//! shape of one example, or of examples along a first axis; text and images take the declared
//! dtype.

use std::path::Path;

use crate::content::{self, Format};
use crate::error::{DataError, ErrorKind, Result};
use crate::table;
use crate::types::{Batching, Column, FieldType};
#[cfg(feature = "text")]
use crate::{alphabet::Alphabet, vocabulary::Vocabulary};

/// Decodes `content`, which came from `path`, held to the type `ty` of one example.
///
/// # Errors
/// A format that is not read, damaged content, or content that is not of the declared type.
pub fn decode_input(content: Vec<u8>, path: &Path, ty: &FieldType) -> Result<Column> {
    decode_batched(content, path, ty, Batching::RowsOrOne)
}

/// As [`decode_input`], of an array that may have rows or is one.
pub(crate) fn decode_batched(content: Vec<u8>, path: &Path, ty: &FieldType, batching: Batching) -> Result<Column> {
    table::check_fields(std::slice::from_ref(ty), path)?;
    let content = content::unpack(content, path)?;
    if content.is_empty() {
        return Err(DataError::new(ErrorKind::Empty, path, "is empty"));
    }
    match content::sniff(&content) {
        Format::Npy => decode_npy(content, path, ty, batching),
        Format::Idx => decode_idx(content, path, ty, batching),
        Format::Png | Format::Jpeg => decode_image(&content, path, ty),
        Format::Text => decode_text(&content, path, ty),
        Format::Zip => Err(refused(path, "is a zip archive or .npz file".to_owned())
            .help("save the one array with `numpy.save` as .npy")),
        Format::Gzip => Err(refused(path, "is a gzip file within a gzip file".to_owned())),
        // A line of text may begin with the same letters as another format.
        Format::Foreign(name) => Err(refused(path, format!("is {name}"))),
        Format::Unknown => Err(refused(path, format!("is in no known format: it {}", content::first_bytes(&content)))),
    }
}

/// The fault of a format that is not read.
fn refused(path: &Path, found: String) -> DataError {
    let error = DataError::new(ErrorKind::Unsupported, path, found);
    error.help(format!("give one of: {}", READABLE.join(", ")))
}

/// The formats that this build reads.
const READABLE: &[&str] = &[
    #[cfg(feature = "npy")]
    ".npy",
    #[cfg(feature = "csv")]
    "CSV",
    #[cfg(feature = "image")]
    "PNG",
    #[cfg(feature = "image")]
    "JPEG",
    #[cfg(feature = "idx")]
    "idx",
];

/// Decodes `content`, which came from `path`: a text, cut as [`crate::text`] does, or numbers as `.npy`.
///
/// # Errors
/// A text that is too short or no UTF-8, a character that has no number, an array of another type.
#[cfg(feature = "text")]
pub fn decode_text_input(content: Vec<u8>, path: &Path, ty: &FieldType, alphabet: Alphabet<'_>) -> Result<Column> {
    table::check_fields(std::slice::from_ref(ty), path)?;
    let content = content::unpack(content, path)?;
    if content::sniff(&content) == Format::Npy {
        return decode_npy(content, path, ty, Batching::RowsOrOne);
    }
    match alphabet {
        Alphabet::Characters(names) => crate::text::decode_input(&content, path, ty, names),
        Alphabet::Tokens(tokens) => crate::running::decode_input(&content, path, ty, tokens),
    }
}

/// Decodes `content`, which came from `path`: texts, one a line, or numbers as `.npy`.
///
/// # Errors
/// A line without words or tokens, text that is no UTF-8, an array of another type.
#[cfg(feature = "text")]
pub fn decode_words_input(content: Vec<u8>, path: &Path, ty: &FieldType, vocabulary: &Vocabulary) -> Result<Column> {
    table::check_fields(std::slice::from_ref(ty), path)?;
    let content = content::unpack(content, path)?;
    if content::sniff(&content) == Format::Npy {
        return decode_npy(content, path, ty, Batching::RowsOrOne);
    }
    crate::words::decode_input(&content, path, ty, vocabulary)
}

/// Decodes `content`, which came from `path`: one sound as a WAV file, or numbers in any other format.
///
/// # Errors
/// A damaged file, another rate, as [`decode_input`].
#[cfg(feature = "wav")]
pub fn decode_sound_input(content: Vec<u8>, path: &Path, ty: &FieldType, rate: u32) -> Result<Column> {
    table::check_fields(std::slice::from_ref(ty), path)?;
    let content = content::unpack(content, path)?;
    if content.starts_with(b"RIFF") {
        return crate::wav::decode_input(&content, path, ty, rate);
    }
    decode_input(content, path, ty)
}

#[cfg(feature = "npy")]
fn decode_npy(content: Vec<u8>, path: &Path, ty: &FieldType, batching: Batching) -> Result<Column> {
    crate::npy::decode(content, path, ty, batching)
}

#[cfg(not(feature = "npy"))]
fn decode_npy(_content: Vec<u8>, path: &Path, _ty: &FieldType, _batching: Batching) -> Result<Column> {
    Err(refused(path, "is an .npy file, which this program was built without".to_owned()))
}

#[cfg(feature = "idx")]
fn decode_idx(content: Vec<u8>, path: &Path, ty: &FieldType, batching: Batching) -> Result<Column> {
    crate::idx::decode(content, path, ty, batching)
}

#[cfg(not(feature = "idx"))]
fn decode_idx(_content: Vec<u8>, path: &Path, _ty: &FieldType, _batching: Batching) -> Result<Column> {
    Err(refused(path, "is an idx file, which this program was built without".to_owned()))
}

#[cfg(feature = "csv")]
fn decode_text(content: &[u8], path: &Path, ty: &FieldType) -> Result<Column> {
    let options = crate::csv::CsvOptions::default();
    let decode = |ty: &FieldType| -> Result<Column> {
        let column = crate::csv::decode(content, path, std::slice::from_ref(ty), &options)?.columns.into_iter().next();
        column.ok_or_else(|| DataError::new(ErrorKind::Empty, path, "has no rows"))
    };
    match (decode(ty), ty.dims.split_first()) {
        // A matrix may have a line for each of its rows.
        (Err(error), Some((&lines, rest))) if error.kind == ErrorKind::WrongShape && !rest.is_empty() => {
            let by_line = decode(&FieldType::new(ty.dtype, rest)).ok().filter(|column| column.rows % lines == 0);
            let column = by_line.ok_or(error).map_err(advise)?;
            Ok(Column { ty: ty.clone(), rows: column.rows / lines, ..column })
        }
        (decoded, _) => decoded.map_err(advise),
    }
}

/// Replaces advice that is for the writer of a data block by advice for the giver of an input.
#[cfg(feature = "csv")]
fn advise(mut error: DataError) -> DataError {
    error.help = (error.kind == ErrorKind::WrongShape)
        .then(|| "give one example per line, its numbers separated by commas".to_owned());
    error
}

#[cfg(not(feature = "csv"))]
fn decode_text(_content: &[u8], path: &Path, _ty: &FieldType) -> Result<Column> {
    Err(refused(path, "is text, which this program was built without".to_owned()))
}

#[cfg(feature = "image")]
fn decode_image(content: &[u8], path: &Path, ty: &FieldType) -> Result<Column> {
    let mut bytes = Vec::new();
    crate::picture::decode_into(content, path, ty, &mut bytes)?;
    Ok(Column::new(ty.clone(), 1, bytes))
}

#[cfg(not(feature = "image"))]
fn decode_image(_content: &[u8], path: &Path, _ty: &FieldType) -> Result<Column> {
    Err(refused(path, "is an image, which this program was built without".to_owned()))
}
