//! What can be wrong with data, said so that a stranger can act on it.
//!
//! Every error names the file and the place in it, what was expected and found, and, where there
//! is a likely remedy, what to try. It prints on one line:
//!
//! ```text
//! digits.csv, line 17, column 3: expected a whole number for u8, found `1.5`; declare the field ...
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

/// The kind of fault, for programs that react to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A file or folder does not exist.
    Missing,
    /// The operating system refused to read.
    Unreadable,
    /// The operating system refused to write.
    Unwritable,
    /// The file ends before its header said it would.
    Truncated,
    /// The content does not follow its format.
    Malformed,
    /// The content has another dtype than declared.
    WrongType,
    /// The content has other extents or another number of columns than declared.
    WrongShape,
    /// A number cannot be read, or does not fit the declared dtype.
    BadValue,
    /// There are no examples.
    Empty,
    /// Files or fields that belong together do not agree.
    Mismatch,
    /// A format, or a form of it, that is not read here.
    Unsupported,
    /// The content is more than the memory that is free holds.
    TooLarge,
    /// The request itself makes no sense, such as a fraction above 1.
    BadRequest,
    /// The prefetching thread ended early.
    Stopped,
}

/// Where in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    Whole,
    /// An offset in bytes, from 0, after decompression.
    Byte(u64),
    /// A line, from 1.
    Line(u64),
    /// A cell of a text table: line and column, from 1, and the name the header gives it.
    Cell {
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: usize,
        /// The name in the header, if there is one.
        name: Option<String>,
    },
    /// An example, from 0.
    Row(u64),
    /// A named part, such as an array in an archive.
    Part(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Whole => Ok(()),
            Place::Byte(offset) => write!(f, ", byte {offset}"),
            Place::Line(line) => write!(f, ", line {line}"),
            Place::Cell { line, column, name } => {
                write!(f, ", line {line}, column {column}")?;
                name.iter().try_for_each(|name| write!(f, " (`{name}`)"))
            }
            Place::Row(row) => write!(f, ", row {row}"),
            Place::Part(name) => write!(f, ", `{name}`"),
        }
    }
}

/// A fault in a data file, or in what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{place}: {message}{}", file.display(), HelpTail(help))]
pub struct DataError {
    /// The kind of fault.
    pub kind: ErrorKind,
    /// The file or folder as the user named it; `standard input` for a pipe.
    pub file: PathBuf,
    /// Where in the file.
    pub place: Place,
    /// What was expected and what was found.
    pub message: String,
    /// What to try, where there is a likely remedy.
    pub help: Option<String>,
}

/// Joins the help to the message.
struct HelpTail<'a>(&'a Option<String>);

impl fmt::Display for HelpTail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl DataError {
    /// A fault of the file as a whole, without help.
    pub fn new(kind: ErrorKind, file: &Path, message: impl Into<String>) -> Self {
        DataError { kind, file: file.to_owned(), place: Place::Whole, message: message.into(), help: None }
    }

    /// The same fault at `place`.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// The same fault with a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The fault of an array `name` that a file of several does not have; `names` are those it has, and `help` is said
    /// if there are none.
    #[cfg(any(feature = "npz", feature = "safetensors"))]
    pub(crate) fn no_array(file: &Path, name: &str, mut names: Vec<String>, help: &str) -> Self {
        const MOST_NAMES: usize = 10;
        let error = DataError::new(ErrorKind::Missing, file, format!("has no array `{name}`"));
        names.sort_unstable();
        names.truncate(MOST_NAMES);
        if names.is_empty() {
            return error.help(help);
        }
        error.help(format!("it has `{}`", names.join("`, `")))
    }

    /// The same fault, in the array `name` of the file.
    #[cfg(any(feature = "npz", feature = "safetensors"))]
    #[must_use]
    pub(crate) fn within(mut self, name: &str) -> Self {
        let place = std::mem::replace(&mut self.place, Place::Whole);
        self.at(Place::Part(format!("{name}{place}")))
    }
}

/// The result of reading data.
pub type Result<T> = std::result::Result<T, DataError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_on_one_line() {
        let error = DataError::new(ErrorKind::BadValue, Path::new("a.csv"), "expected a number")
            .at(Place::Cell { line: 17, column: 3, name: Some("age".into()) })
            .help("fill the cell");
        assert_eq!(error.to_string(), "a.csv, line 17, column 3 (`age`): expected a number; fill the cell");
    }

    #[test]
    fn the_whole_file_has_no_place() {
        let error = DataError::new(ErrorKind::Empty, Path::new("a"), "has no rows");
        assert_eq!(error.to_string(), "a: has no rows");
    }
}
