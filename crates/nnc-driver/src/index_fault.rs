//! An index in the data that lies outside of what it is an index of: most often a label.

use crate::dataset::Part;
use crate::error::DriverError;
use nnc_data::{DataError, ErrorKind, Place, Table};
use std::fmt;

/// Which example has an index out of range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexFault {
    /// The index and its bound, as `: 12 is not in 0..10`; may be empty.
    pub detail: String,
    /// The raw field that holds it, by position and name, when it is one alone.
    pub field: Option<(usize, String)>,
    /// The row of the table.
    pub row: u64,
    /// When the index is no part of the data, but made by the model from it: the operation, and where it stands.
    pub made_by: Option<String>,
}

impl fmt::Display for IndexFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in example {}", self.message(), self.row)
    }
}

impl IndexFault {
    fn message(&self) -> String {
        match (&self.made_by, &self.field) {
            (Some(place), _) => {
                let help = "keep it in range, as with `clip(index, 0, size - 1)`";
                format!("the model makes an index that is out of range{} ({place}; {help})", self.detail)
            }
            (None, Some((_, name))) => format!("`{name}` holds an index that is out of range{}", self.detail),
            (None, None) => format!("an index is out of range{}", self.detail),
        }
    }

    /// The same fault with the file that the example is read from.
    pub fn in_files(&self, part: &Part) -> DataError {
        let file = part.file(self.field.as_ref().map(|(at, _)| *at));
        let place = self.place(&part.table);
        let from_zero = matches!(place, Place::Row(_));
        let error = DataError::new(ErrorKind::BadValue, file, self.message()).at(place);
        match &part.table.classes {
            Some(characters) if !part.table.lines.is_empty() => {
                error.help(format!("the text has {} different characters: give the model as many", characters.len()))
            }
            Some(folders) => error.help(format!("the classes that are there: {}", folders.join(", "))),
            None if self.is_of_words(&part.table) => error.help("give the model as many numbers as `vocabulary` says"),
            None => {
                let help = "number what is there from 0, or let the model tell more apart";
                let rows = if from_zero { "; rows of examples are counted from 0" } else { "" };
                error.help(format!("{help}{rows}"))
            }
        }
    }

    /// Whether the field that holds it is words or tokens.
    fn is_of_words(&self, table: &Table) -> bool {
        // A source of text alone has one column, which no table is named for.
        let is_text = |at: usize| table.tables.get(at).map_or(!table.vocabularies.is_empty(), Option::is_some);
        self.field.as_ref().is_some_and(|(at, _)| is_text(*at))
    }

    /// Where the index stands: in text by its line, and by its column when the field has one cell.
    fn place(&self, table: &Table) -> Place {
        let row = usize::try_from(self.row).expect("a row of the table");
        let Some(&line) = table.lines.get(row) else { return Place::Row(self.row) };
        let cells = |at: usize| match table.tables.get(at) {
            Some(Some(_)) => 1,
            Some(None) | None => table.columns[at].ty.elements().unwrap_or(1),
        };
        match &self.field {
            Some((at, _)) if cells(*at) == 1 => {
                let before: usize = (0..*at).map(cells).sum();
                Place::Cell { line, column: before + 1, name: None }
            }
            Some(_) | None => Place::Line(line),
        }
    }
}

impl DriverError {
    /// The same error, with the file when it is about what an example of `part` holds.
    #[must_use]
    pub fn in_files(self, part: &Part) -> Self {
        match self {
            Self::Index(fault) if fault.made_by.is_none() => Self::Data(fault.in_files(part)),
            other => other,
        }
    }
}
