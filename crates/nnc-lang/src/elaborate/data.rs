//! `data` blocks: the type of a raw example, the fields made from it, splits and settings.

use crate::diagnostic::Span;
use nnc_graph::TensorType;

/// What a `data` block says, for whoever opens the files.
#[derive(Clone, Debug)]
pub struct DataInfo {
    /// Its name.
    pub name: String,
    /// The tensors of one raw example, in order.
    pub raw: Vec<RawField>,
    /// Where the examples come from: `train` first, then `test` when it has files of its own.
    pub splits: Vec<Split>,
    /// The part of train held out for validation.
    pub validation: Option<Holdout>,
    /// The part of train held out for testing, when `test` has no files.
    pub test: Option<Holdout>,
    /// Names of the classes.
    pub classes: Option<Vec<String>>,
    /// Whether some field is augmented in training.
    pub augmented: bool,
}

/// One tensor of a raw example.
#[derive(Clone, PartialEq, Debug)]
pub struct RawField {
    /// The derived field that is made from it alone, as `image`; else `train.0`.
    pub name: String,
    /// Its type in one example.
    pub ty: TensorType,
}

/// One split with files of its own.
#[derive(Clone, Debug)]
pub struct Split {
    /// `train` or `test`.
    pub name: String,
    /// What opens it.
    pub source: SourceCall,
}

/// A call of a data source: `idx("images.gz", "labels.gz")`.
#[derive(Clone, Debug)]
pub struct SourceCall {
    /// `idx`, `csv`, `npy`, `npz` or `images`.
    pub function: String,
    /// In order, with the names of named ones.
    pub arguments: Vec<(Option<String>, Literal)>,
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
}

/// A part of train that is held out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Holdout {
    /// `0.1`: this fraction, chosen by the seed.
    Fraction(f64),
    /// `every(5)`: rows 0, 5, 10, ...
    Every(i64),
}
