//! The data of a recipe: sources opened, held to their declared types, and split.

use crate::error::DriverError;
use nnc_data::csv::CsvOptions;
use nnc_data::text::TextOptions;
use nnc_data::{DType, FieldType, Source, Split, Table};
use nnc_graph::TensorType;
use nnc_lang::elaborate::{DataInfo, Holdout, Literal, SourceCall};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a table that belong to one split.
#[derive(Clone, Debug)]
pub struct Part {
    /// The table they are in.
    pub table: Arc<Table>,
    /// Which rows, in order.
    pub rows: Vec<u64>,
    /// The files it is read from: one for each field, or one for all.
    files: Arc<[PathBuf]>,
}

impl Part {
    fn whole(table: Table, files: &[PathBuf]) -> Self {
        Self { rows: (0..table.rows as u64).collect(), table: Arc::new(table), files: files.into() }
    }

    /// The file, or the folder, that a field is read from; the first one when the field is not known.
    pub fn file(&self, field: Option<usize>) -> &Path {
        let own = field.and_then(|field| self.files.get(field));
        own.or(self.files.first()).map_or(Path::new("data"), PathBuf::as_path)
    }
}

/// The splits of a recipe's data.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What is trained on.
    pub train: Part,
    /// What training is watched on.
    pub validation: Option<Part>,
    /// What the result is measured on.
    pub test: Option<Part>,
    /// What numbers stand for: the classes, written in the file or taught by the folders, or the characters of a text.
    pub classes: Option<Vec<String>>,
}

/// Which splits a command needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Every split there is.
    All,
    /// Only what the result is measured on.
    Test,
}

impl Dataset {
    /// The splits that there are.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        [Some(&self.train), self.validation.as_ref(), self.test.as_ref()].into_iter().flatten()
    }

    /// What pictures of an epoch are made from: examples that were not trained on, when there are any.
    pub fn shown(&self) -> &Part {
        self.validation.as_ref().or(self.test.as_ref()).unwrap_or(&self.train)
    }

    /// The files that the splits are read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts().flat_map(|part| part.files.iter().map(PathBuf::as_path))
    }

    /// Opens the sources of a `data` block; relative paths start at `root`. A text is numbered by the characters that
    /// weights `learned`, when there are any; else it teaches its own.
    ///
    /// # Errors
    /// [`DriverError::Data`] with file and place; [`DriverError::Usage`] when there is no such split.
    pub fn open(
        info: &DataInfo,
        root: &Path,
        seed: u64,
        wanted: Wanted,
        learned: Option<&[String]>,
    ) -> Result<Self, DriverError> {
        let fields: Vec<FieldType> = info.raw.iter().map(|field| field_type(&field.ty)).collect();
        let open = |name: &str, characters: Option<&[String]>| -> Result<Option<Part>, DriverError> {
            let Some(split) = info.splits.iter().find(|split| split.name == name) else { return Ok(None) };
            let source = source(&split.source, root, info.vocabulary().unwrap_or(0), characters)?;
            Ok(Some(Part::whole(source.open(&fields)?, source.files())))
        };
        let needs_train = wanted == Wanted::All || info.is_text() && learned.is_none();
        if !needs_train && let Some(test) = open("test", learned)? {
            let classes = info.classes.clone().or_else(|| test.table.classes.clone());
            return Ok(Self { train: test.clone(), validation: None, test: Some(test), classes });
        }
        let mut train = open("train", learned)?
            .ok_or_else(|| DriverError::Usage(format!("data `{}` has no `train: ... = ...` source", info.name)))?;
        let mut test = open("test", train.table.classes.as_deref())?;
        if let Some(holdout) = info.test {
            test = Some(hold_out(&mut train, holdout, seed)?);
        }
        let validation = info.validation.map(|holdout| hold_out(&mut train, holdout, seed)).transpose()?;
        let classes = info.classes.clone().or_else(|| train.table.classes.clone());
        if let (Some(learned), Some(test)) = (&train.table.classes, &test) {
            check_same_classes(learned, test)?;
        }
        Ok(Self { train, validation, test, classes })
    }
}

fn check_same_classes(learned: &[String], test: &Part) -> Result<(), DriverError> {
    match &test.table.classes {
        Some(found) if found != learned => Err(DriverError::Usage(format!(
            "the class folders of train ({}) and test ({}) differ",
            learned.join(", "),
            found.join(", ")
        ))),
        _ => Ok(()),
    }
}

/// Takes a part of the rows out of `from`.
fn hold_out(from: &mut Part, holdout: Holdout, seed: u64) -> Result<Part, DriverError> {
    let split = match holdout {
        Holdout::Fraction(fraction) => Split::Fraction(fraction),
        Holdout::Tail(fraction) => Split::Tail(fraction),
        Holdout::Every(step) => Split::Every(usize::try_from(step).expect("the front end takes `every` from 2")),
    };
    let parts = split.apply(from.rows.len(), seed)?;
    let pick = |places: &[u64]| places.iter().map(|&place| from.rows[place as usize]).collect::<Vec<_>>();
    let (kept, held) = (pick(&parts.kept), pick(&parts.held));
    from.rows = kept;
    Ok(Part { table: from.table.clone(), rows: held, files: from.files.clone() })
}

/// The data crate's form of a declared type.
pub fn field_type(ty: &TensorType) -> FieldType {
    let dtype: DType = ty.dtype.name().parse().expect("both crates know the same dtypes");
    FieldType::new(dtype, ty.shape.sizes())
}

/// The source that a call in a `data` block names; a text has `vocabulary` characters, numbered by `known` ones.
fn source(call: &SourceCall, root: &Path, vocabulary: usize, known: Option<&[String]>) -> Result<Source, DriverError> {
    let path = |text: &str| -> PathBuf { root.join(text) };
    let mut paths = Vec::new();
    let mut names = Vec::new();
    let mut csv = CsvOptions::default();
    for (name, value) in &call.arguments {
        match (name.as_deref(), value) {
            (None, Literal::Str(text)) => paths.push(path(text)),
            (Some("header"), Literal::Bool(header)) => csv.header = Some(*header),
            (Some("separator"), Literal::Str(text)) if text.len() == 1 => csv.separator = text.as_bytes()[0],
            (Some("arrays"), Literal::List(items)) => names.extend(items.iter().filter_map(text_of)),
            (Some("vocabulary"), Literal::Int(_)) => {}
            (name, value) => {
                let name = name.unwrap_or("a positional argument");
                return Err(DriverError::Usage(format!("{}: {name} = {value:?} does not fit", call.function)));
            }
        }
    }
    let one = |paths: Vec<PathBuf>| match <[PathBuf; 1]>::try_from(paths) {
        Ok([path]) => Ok(path),
        Err(paths) => Err(DriverError::Usage(format!("{} takes one path, not {}", call.function, paths.len()))),
    };
    match call.function.as_str() {
        "idx" => Ok(Source::Idx(paths)),
        "npy" => Ok(Source::Npy(paths)),
        "csv" => Ok(Source::Csv(one(paths)?, csv)),
        "npz" => Ok(Source::Npz(one(paths)?, names)),
        "images" => Ok(Source::Images(one(paths)?)),
        "text" => Ok(Source::Text(one(paths)?, TextOptions { vocabulary, known: known.map(<[String]>::to_vec) })),
        other => Err(DriverError::Usage(format!("`{other}` is no data source"))),
    }
}

fn text_of(literal: &Literal) -> Option<String> {
    match literal {
        Literal::Str(text) => Some(text.clone()),
        Literal::Int(_) | Literal::Float(_) | Literal::Bool(_) | Literal::List(_) => None,
    }
}
