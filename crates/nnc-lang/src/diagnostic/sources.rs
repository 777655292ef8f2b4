//! Texts by file.

use super::{FileId, Span};

/// The texts that spans point into.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(String, String)>,
}

/// A place as people count: lines and columns from 1, columns in characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located {
    /// Name of the file.
    pub file: String,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Sources {
    /// Adds a file.
    pub fn add(&mut self, name: &str, text: &str) -> FileId {
        self.files.push((name.to_owned(), text.to_owned()));
        FileId((self.files.len() - 1) as u32)
    }

    /// The name of a file.
    pub fn name(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("", |(name, _)| name)
    }

    /// The text of a file.
    pub fn text(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("", |(_, text)| text)
    }

    /// The text of a span.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file).get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// The text of the line that `place` names, as `file:line`.
    pub fn line(&self, place: &str) -> Option<Span> {
        let (name, line) = place.rsplit_once(':')?;
        let before = line.parse::<usize>().ok()?.checked_sub(1)?;
        let at = self.files.iter().position(|(file, _)| file == name)?;
        let lines = || self.files[at].1.split_inclusive('\n');
        let found = lines().nth(before)?;
        let start = lines().take(before).map(str::len).sum::<usize>() + found.len() - found.trim_start().len();
        let [start, end] = [start, start + found.trim().len()].map(|at| u32::try_from(at).unwrap_or(u32::MAX));
        Some(Span { file: FileId(at as u32), start, end })
    }

    /// Line and column of the start of a span.
    pub fn locate(&self, span: Span) -> Located {
        let text = self.text(span.file);
        let before = text.get(..(span.start as usize).min(text.len())).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Located {
            file: self.name(span.file).to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
