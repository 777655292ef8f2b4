//! Reads what goes into a program, as its port says. `nnc run` and built executables share it.

use crate::manifest::{Port, Reading};
use nnc_data::{Column, Given, Result};
use std::path::Path;

/// What `value` gives for the port `name`: a file (`-` is standard input); for a text the text itself, or `@` and a file.
///
/// # Errors
/// The file cannot be read.
pub fn given(name: &str, value: &Path, reading: Reading) -> Result<Given> {
    if reading != Reading::Text {
        return Given::read(value);
    }
    let text = value.to_string_lossy();
    match text.strip_prefix('@') {
        Some(file) => Given::read(Path::new(file)),
        None => Ok(Given::text(name, &text)),
    }
}

/// The rows that are given for `port`; `classes` are those of the manifest.
///
/// # Errors
/// It is not what the port takes.
pub fn decode(given: Given, port: &Port, classes: &[String]) -> Result<Column> {
    match port.reading {
        Reading::Text => given.decode_text(&port.row, classes),
        Reading::Characters => given.decode_windows(&port.row, classes),
        Reading::Values | Reading::Logits | Reading::Probabilities | Reading::Option => given.decode(&port.row),
    }
}

/// The rows that `value` gives for `port`, as [`given`] and [`decode`] say.
///
/// # Errors
/// As theirs.
pub fn read_port(value: &Path, port: &Port, classes: &[String]) -> Result<Column> {
    decode(given(&port.name, value, port.reading)?, port, classes)
}
