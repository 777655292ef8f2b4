//! Reads what goes into a program, as its port says. `nnc run` and built executables share it.

use crate::manifest::{Port, Reading};
use nnc_data::{Column, Result, read_input, read_text_input};
use std::path::Path;

/// The rows that the file `path` (`-` is standard input) holds for `port`; `classes` are those of the manifest.
///
/// # Errors
/// The file cannot be read, or does not hold what the port takes.
pub fn read_port(path: &Path, port: &Port, classes: &[String]) -> Result<Column> {
    match port.reading {
        Reading::Characters => read_text_input(path, &port.row, classes),
        Reading::Values | Reading::Logits | Reading::Probabilities => read_input(path, &port.row),
    }
}
