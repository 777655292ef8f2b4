//! What a `data` block says, for whoever opens the files.

use super::source::{LOWERCASE, RATE, TEXT, VOCABULARY, WAV};
use super::{Lesson, Maker};
use crate::diagnostic::Span;
use nnc_graph::TensorType;

/// What a `data` block says, for whoever opens the files.
#[derive(Clone, PartialEq, Debug)]
pub struct DataInfo {
    /// Its name.
    pub name: String,
    /// The tensors of one raw example, in order.
    pub raw: Vec<RawField>,
    /// What texts that are cells, lines or windows are taken apart into, if there are some.
    pub unit: Option<TextUnit>,
    /// How many numbers each table of words or tokens has, the marks among them.
    pub tables: Vec<usize>,
    /// Where the examples come from: `train` first, then `validation` and `test` when they have files of their own.
    pub splits: Vec<Split>,
    /// The part of train held out for validation.
    pub validation: Option<Holdout>,
    /// The part of train held out for testing, when `test` has no files.
    pub test: Option<Holdout>,
    /// Names of the classes.
    pub classes: Option<Vec<String>>,
    /// Whether some field is augmented in training.
    pub augmented: bool,
    /// The raw tensor, a whole number, each value of which comes equally often in an epoch.
    pub balance: Option<usize>,
    /// Statistics of the examples that are trained on, each of which may need the ones before.
    pub lessons: Vec<Lesson>,
}

impl DataInfo {
    /// Whether the examples are windows of a text, in characters.
    pub fn is_text(&self) -> bool {
        self.unit.is_none() && self.is_of_source(TEXT)
    }

    /// Whether the examples are windows of a text, in byte-pair tokens.
    pub fn is_running_tokens(&self) -> bool {
        self.unit == Some(TextUnit::Tokens) && self.raw.len() == 1 && self.is_of_source(TEXT)
    }

    fn is_of_source(&self, name: &str) -> bool {
        self.splits.first().is_some_and(|split| split.source.function == name)
    }

    /// Whether words are numbered without regard to capital letters.
    pub fn is_lowercase(&self) -> bool {
        let arguments = self.splits.first().map(|split| &split.source.arguments[..]).unwrap_or_default();
        arguments.iter().any(|(name, value)| name.as_deref() == Some(LOWERCASE) && *value == Literal::Bool(true))
    }

    /// How many samples of a second sounds have, if the examples are such.
    pub fn rate(&self) -> Option<u32> {
        let sounds = self.splits.first().filter(|split| split.source.function == WAV)?;
        match sounds.source.option(RATE) {
            Some(Literal::Int(rate)) => u32::try_from(*rate).ok(),
            _ => None,
        }
    }

    /// How many different characters a text has.
    pub fn vocabulary(&self) -> Option<usize> {
        let declared = self.splits.first().filter(|_| self.is_text()).and_then(|split| split.source.vocabulary())?;
        usize::try_from(declared).ok()
    }
}

impl SourceCall {
    /// How many different characters a text is declared to have.
    pub(super) fn vocabulary(&self) -> Option<i64> {
        match self.option(VOCABULARY) {
            Some(Literal::Int(count)) => Some(*count),
            _ => None,
        }
    }

    /// The value of a named argument.
    pub fn option(&self, wanted: &str) -> Option<&Literal> {
        self.arguments.iter().find_map(|(name, value)| (name.as_deref() == Some(wanted)).then_some(value))
    }
}

/// What a text of a raw example is taken apart into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextUnit {
    /// `words[T]`: words and marks of punctuation.
    Words,
    /// `tokens[T]`: byte-pair tokens.
    Tokens,
}

impl TextUnit {
    /// The name of its type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Tokens => "tokens",
        }
    }

    /// The unit whose type is called `name`.
    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Words, Self::Tokens].into_iter().find(|unit| unit.name() == name)
    }
}

/// One tensor of a raw example.
#[derive(Clone, PartialEq, Debug)]
pub struct RawField {
    /// The derived field that is made from it alone, as `image`; else `train.0`.
    pub name: String,
    /// Its type in one example.
    pub ty: TensorType,
    /// The table of words or tokens that its numbers come from, as an index into [`DataInfo::tables`]; none for plain
    /// numbers.
    pub table: Option<usize>,
}

/// One split with files of its own.
#[derive(Clone, PartialEq, Debug)]
pub struct Split {
    /// `train`, `validation` or `test`.
    pub name: String,
    /// What opens it.
    pub source: SourceCall,
}

/// A call of a data source: `idx("images.gz", "labels.gz")`.
#[derive(Clone, PartialEq, Debug)]
pub struct SourceCall {
    /// `idx`, `csv`, `npy`, `npz`, `images`, `text`, `wav` or `synthetic`.
    pub function: String,
    /// In order, with the names of named ones.
    pub arguments: Vec<(Option<String>, Literal)>,
    /// How `synthetic` makes its examples.
    pub maker: Option<Maker>,
    /// Where it stands.
    pub span: Span,
}

/// An argument of a data source.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the names are those of the values")]
pub enum Literal {
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(String),
    List(Vec<Literal>),
}

/// A part of train that is held out.
#[derive(Clone, PartialEq, Debug)]
pub enum Holdout {
    /// `0.1`: this fraction, chosen by the seed.
    Fraction(f64),
    /// `0.1` of a text: this fraction, its end.
    Tail(f64),
    /// `every(5)`: rows 0, 5, 10, ...
    Every(i64),
    /// `named("*_theo_*")`: the examples whose file has such a name.
    Named(Vec<String>),
}
