//! The one door to the terminal: every command writes its results and its remarks through it.
//!
//! Results go to standard output, everything else to standard error, so that results can be piped. A result that cannot
//! be written is a [`Failure::Output`]: a reader that closed the pipe ends the command quietly, a full disk is an
//! error. A remark that cannot be written is dropped, as there is no place left to tell. Colours are for terminals;
//! `NO_COLOR` and `--color` are respected (by `anstream`).

use crate::Failure;
use crate::terminal::{self, GOOD, STRONG};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;

/// Writes a result to standard output, at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write(&mut anstream::stdout().lock(), text).map_err(Failure::Output)
}

/// Writes a result and ends the line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Says that a file of weights was written, how large it is, and what it is.
pub(crate) fn wrote(path: &Path, what: &str) -> Result<(), Failure> {
    let size = terminal::bytes(file_bytes(path));
    line(&format!("{GOOD}wrote{GOOD:#} {STRONG}{}{STRONG:#} ({size}){what}", path.display()))
}

/// Writes what is told of a file of weights as JSON, with its size.
pub(crate) fn json_of(mut told: Value, path: &Path) -> Result<(), Failure> {
    told["file_bytes"] = json!(file_bytes(path));
    line(&format!("{told:#}"))
}

/// The size of a file that was just written.
fn file_bytes(path: &Path) -> u64 {
    path.metadata().map_or(0, |file| file.len())
}

/// Writes a remark and ends the line.
pub(crate) fn remark(text: &str) {
    let _ = write(&mut anstream::stderr().lock(), &format!("{text}\n"));
}

fn write(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}
