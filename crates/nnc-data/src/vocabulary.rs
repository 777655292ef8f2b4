//! What numbers the parts of texts: a table of words, or one of byte-pair tokens.
//!
//! The first numbers of either are marks, which stand for no part of a text.

use crate::token_table::TokenTable;
use crate::word_table::WordTable;

/// What the first numbers stand for: padding behind a text, a word outside of the table, the beginning and the end of a
/// text.
pub const MARKS: [&str; 4] = ["<pad>", "<unk>", "<start>", "<end>"];
/// The number of padding, behind a text.
pub const PADDING: usize = 0;
/// The number of every word outside of the table.
pub const UNKNOWN: usize = 1;

/// The number of the end of a text.
pub const END: usize = 3;

/// What a text is taken apart into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Words and marks of punctuation, see [`WordTable`].
    #[default]
    Words,
    /// Byte-pair tokens, see [`TokenTable`].
    Tokens,
}

impl Unit {
    /// What several are called.
    pub fn plural(self) -> &'static str {
        match self {
            Unit::Words => "words",
            Unit::Tokens => "tokens",
        }
    }
}

/// A table that numbers the parts of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vocabulary {
    /// Of words.
    Words(WordTable),
    /// Of byte-pair tokens.
    Tokens(TokenTable),
}

impl Vocabulary {
    /// What it numbers.
    pub fn unit(&self) -> Unit {
        match self {
            Vocabulary::Words(_) => Unit::Words,
            Vocabulary::Tokens(_) => Unit::Tokens,
        }
    }

    /// How many numbers there are, the marks among them.
    pub fn size(&self) -> usize {
        match self {
            Vocabulary::Words(table) => table.words().len(),
            Vocabulary::Tokens(table) => table.size(),
        }
    }

    /// The table, if it is one of words.
    pub fn words(&self) -> Option<&WordTable> {
        match self {
            Vocabulary::Words(table) => Some(table),
            Vocabulary::Tokens(_) => None,
        }
    }

    /// The table, if it is one of byte-pair tokens.
    pub fn tokens(&self) -> Option<&TokenTable> {
        match self {
            Vocabulary::Words(_) => None,
            Vocabulary::Tokens(table) => Some(table),
        }
    }

    /// The text that numbers stand for, up to the mark of its end, as [`WordTable::text`] and [`TokenTable::text`] say.
    pub fn text(&self, numbers: impl Iterator<Item = Option<usize>>) -> String {
        let inside = numbers.take_while(|&number| number != Some(END));
        match self {
            Vocabulary::Words(table) => table.text(inside),
            Vocabulary::Tokens(table) => table.text(inside),
        }
    }

    /// Appends the numbers of the first `length` parts of `text` as i32, and padding behind them.
    #[cfg(any(feature = "csv", feature = "text"))]
    pub(crate) fn push(&self, text: &str, length: usize, bytes: &mut Vec<u8>) -> Pushed {
        match self {
            Vocabulary::Words(table) => table.push(text, length, bytes),
            Vocabulary::Tokens(table) => table.push(text, length, bytes),
        }
    }
}

/// How a text went into a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pushed {
    /// How many words or tokens the text has.
    pub(crate) units: usize,
    /// How many of the row are not in the table.
    pub(crate) unknown: usize,
}

/// Appends a number as i32.
pub(crate) fn push_number(number: usize, bytes: &mut Vec<u8>) {
    let number = i32::try_from(number).expect("a table has at most 2^31 entries");
    bytes.extend(number.to_le_bytes());
}
