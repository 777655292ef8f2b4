//! The data of a recipe: sources opened, held to their declared types, and split.

use crate::error::DriverError;
use crate::learned::Learned;
use crate::synthetic;
use nnc_data::csv::CsvOptions;
use nnc_data::text::TextOptions;
use nnc_data::wav::WavOptions;
use nnc_data::{DType, FieldType, Source, Split, Table, Unit, WordOptions, balanced_order, epoch_order, pattern};
use nnc_graph::TensorType;
use nnc_lang::elaborate::{DataInfo, Holdout, Literal, SourceCall, TextUnit};
use nnc_runtime::memory;
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
    /// Other rows of the same table.
    pub(crate) fn with_rows(&self, rows: Vec<u64>) -> Self {
        Self { rows, ..self.clone() }
    }

    fn whole(table: Table, files: &[PathBuf]) -> Self {
        Self { rows: (0..table.rows as u64).collect(), table: Arc::new(table), files: files.into() }
    }

    /// The rows in the order of an epoch: by chance, and with `balance` each value of that field equally often.
    pub fn order(&self, balance: Option<usize>, seed: u64, epoch: u32) -> Vec<u64> {
        let Some(column) = balance.and_then(|at| self.table.columns.get(at)) else {
            return epoch_order(&self.rows, seed, epoch);
        };
        let class = |&row: &u64| -> i64 {
            let bytes = column.row(usize::try_from(row).expect("a row of the table"));
            let mut wide = [0; 8];
            wide[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
            i64::from_le_bytes(wide)
        };
        let classes: Vec<i64> = self.rows.iter().map(class).collect();
        balanced_order(&self.rows, &classes, seed, epoch)
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
    /// What numbers stand for.
    pub learned: Learned,
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

    /// What pictures of an epoch are made from, and compressed weights are measured on: examples that were not trained
    /// on, when there are any.
    pub fn shown(&self) -> &Part {
        self.validation.as_ref().or(self.test.as_ref()).unwrap_or(&self.train)
    }

    /// Whether some examples are not trained on.
    pub fn holds_out(&self) -> bool {
        self.validation.is_some() || self.test.is_some()
    }

    /// What is worth telling of the files that were opened, a line each.
    pub fn remarks(&self) -> Vec<&str> {
        let mut remarks: Vec<&str> = Vec::new();
        for remark in self.parts().flat_map(|part| &part.table.remarks) {
            if !remarks.contains(&remark.as_str()) {
                remarks.push(remark);
            }
        }
        remarks
    }

    /// Opens the sources of a `data` block; relative paths start at `root`. Texts are numbered by the characters, words
    /// or tokens that weights `learned`, when there are any; else they teach their own.
    ///
    /// # Errors
    /// [`DriverError::Data`] with file and place; [`DriverError::Usage`] when there is no such split.
    pub fn open(
        info: &DataInfo,
        root: &Path,
        seed: u64,
        wanted: Wanted,
        learned: &Learned,
    ) -> Result<Self, DriverError> {
        let fields: Vec<FieldType> = info.raw.iter().map(|field| field_type(&field.ty)).collect();
        let open = |name: &str, known: &Learned| -> Result<Option<Part>, DriverError> {
            let Some(split) = info.splits.iter().find(|split| split.name == name) else { return Ok(None) };
            let words = words(info, &Words { known, seed });
            open_source(info, &split.source, root, (known, words), &fields)
                .map(|(table, files)| Some(Part::whole(table, &files)))
        };
        let teaches = info.is_text() && learned.classes.is_none();
        let needs_train = wanted == Wanted::All || teaches || learned.vocabularies.len() != info.tables.len();
        if !needs_train && let Some(test) = open("test", learned)? {
            return Ok(Self { learned: taught(info, &test), train: test.clone(), validation: None, test: Some(test) });
        }
        let mut train = open("train", learned)?
            .ok_or_else(|| DriverError::Usage(format!("data `{}` has no `train: ... = ...` source", info.name)))?;
        check_names(info, &train)?;
        let own = Learned { classes: train.table.classes.clone(), ..taught(info, &train) };
        let (mut test, mut validation) = (open("test", &own)?, open("validation", &own)?);
        for (name, part) in [("test", &test), ("validation", &validation)] {
            check_same_classes(own.classes.as_deref(), name, part.as_ref())?;
        }
        if let Some(holdout) = &info.test {
            test = Some(hold_out(&mut train, holdout, seed)?);
        }
        if let Some(holdout) = &info.validation {
            validation = Some(hold_out(&mut train, holdout, seed)?);
        }
        Ok(Self { learned: taught(info, &train), train, validation, test })
    }
}

/// The examples of a source, and the files they are read or made from.
fn open_source(
    info: &DataInfo,
    call: &SourceCall,
    root: &Path,
    (known, words): (&Learned, WordOptions),
    fields: &[FieldType],
) -> Result<(Table, Vec<PathBuf>), DriverError> {
    let Some(maker) = &call.maker else {
        let source = source(info, call, root, (known, words))?;
        check_memory(source.files())?;
        return Ok((source.open(fields)?, source.files().to_vec()));
    };
    let Some(from) = &maker.from else { return Ok((synthetic::make(call, maker, fields, None)?, Vec::new())) };
    let taken: Vec<FieldType> = maker.takes.iter().map(|(_, ty)| field_type(ty)).collect();
    let (table, files) = open_source(info, from, root, (known, WordOptions::default()), &taken)?;
    Ok((synthetic::make(call, maker, fields, Some(&table))?, files))
}

/// Refuses files that are larger than the memory: they are read whole.
fn check_memory(files: &[PathBuf]) -> Result<(), DriverError> {
    let sizes = files.iter().filter_map(|path| path.metadata().ok()).filter(std::fs::Metadata::is_file);
    let bytes = sizes.map(|file| file.len()).fold(0, u64::saturating_add);
    memory::check(usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(|error| {
        let names = files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        DriverError::Usage(format!("{names}: {error}; files are read whole, so split them into smaller ones"))
    })
}

/// What the files of a part taught, and the block says.
fn taught(info: &DataInfo, part: &Part) -> Learned {
    let classes = info.classes.clone().or_else(|| part.table.classes.clone());
    Learned { classes, vocabularies: part.table.vocabularies.clone() }
}

/// Holds the names that the block gives to the classes that folders, or names of files, tell.
fn check_names(info: &DataInfo, train: &Part) -> Result<(), DriverError> {
    match (&info.classes, &train.table.classes) {
        (Some(declared), Some(found)) if declared.len() != found.len() => Err(DriverError::Usage(format!(
            "{}: there are {} classes ({}), and `classes` of `{}` names {}",
            train.file(None).display(),
            found.len(),
            found.join(", "),
            info.name,
            declared.len()
        ))),
        _ => Ok(()),
    }
}

fn check_same_classes(learned: Option<&[String]>, name: &str, part: Option<&Part>) -> Result<(), DriverError> {
    match (learned, part.and_then(|part| part.table.classes.as_deref())) {
        (Some(learned), Some(found)) if found != learned => Err(DriverError::Usage(format!(
            "the classes of train ({}) and {name} ({}) differ",
            learned.join(", "),
            found.join(", ")
        ))),
        _ => Ok(()),
    }
}

/// Takes a part of the rows out of `from`.
fn hold_out(from: &mut Part, holdout: &Holdout, seed: u64) -> Result<Part, DriverError> {
    let split = match by_place(holdout) {
        Ok(split) => split,
        Err(patterns) => return hold_out_named(from, patterns),
    };
    let parts = split.apply(from.rows.len(), seed)?;
    let pick = |places: &[u64]| places.iter().map(|&place| from.rows[place as usize]).collect::<Vec<_>>();
    let (kept, held) = (pick(&parts.kept), pick(&parts.held));
    from.rows = kept;
    Ok(Part { table: from.table.clone(), rows: held, files: from.files.clone() })
}

/// The split of rows by their places, or else the forms of names.
fn by_place(holdout: &Holdout) -> Result<Split, &[String]> {
    match holdout {
        Holdout::Fraction(fraction) => Ok(Split::Fraction(*fraction)),
        Holdout::Tail(fraction) => Ok(Split::Tail(*fraction)),
        Holdout::Every(step) => Ok(Split::Every(usize::try_from(*step).expect("the front end takes `every` from 2"))),
        Holdout::Named(patterns) => Err(patterns),
    }
}

/// Takes the rows out of `from` whose files have such names.
fn hold_out_named(from: &mut Part, patterns: &[String]) -> Result<Part, DriverError> {
    let is_named = |pattern: &str, row: u64| {
        let name = usize::try_from(row).ok().and_then(|row| from.table.names.get(row));
        name.is_some_and(|name| pattern::matches(pattern, name))
    };
    if let Some(idle) = patterns.iter().find(|text| !from.rows.iter().any(|&row| is_named(text, row))) {
        let example = from.table.names.first().map_or(String::new(), |name| format!(" (the first is `{name}`)"));
        let folder = from.file(None).display();
        return Err(DriverError::Usage(format!("{folder}: no file that is left has a name like `{idle}`{example}")));
    }
    let is_held = |row: &u64| patterns.iter().any(|text| is_named(text, *row));
    let (held, kept): (Vec<u64>, Vec<u64>) = from.rows.iter().copied().partition(is_held);
    if kept.is_empty() {
        return Err(DriverError::Usage(format!("{}: `named` leaves nothing to train on", from.file(None).display())));
    }
    from.rows = kept;
    Ok(Part { table: from.table.clone(), rows: held, files: from.files.clone() })
}

/// The data crate's form of a declared type.
pub fn field_type(ty: &TensorType) -> FieldType {
    let dtype: DType = ty.dtype.name().parse().expect("both crates know the same dtypes");
    FieldType::new(dtype, ty.shape.sizes())
}

/// How texts are numbered.
struct Words<'a> {
    /// By what is known, if there is something.
    known: &'a Learned,
    /// Else by what stays of the source, when parts are held out with this seed.
    seed: u64,
}

/// The source that a call in a `data` block names; texts are numbered by what is `known`.
fn source(
    info: &DataInfo,
    call: &SourceCall,
    root: &Path,
    (known, words): (&Learned, WordOptions),
) -> Result<Source, DriverError> {
    let mut paths = Vec::new();
    let mut names = Vec::new();
    let mut csv = CsvOptions::default();
    let (mut rate, mut label) = (0, None);
    for (name, value) in &call.arguments {
        match (name.as_deref(), value) {
            (None, Literal::Str(text)) => paths.push(root.join(text)),
            (Some("header"), Literal::Bool(header)) => csv.header = Some(*header),
            (Some("quotes"), Literal::Bool(quotes)) => csv.quotes = Some(*quotes),
            (Some("separator"), Literal::Str(text)) if text.len() == 1 => csv.separator = text.as_bytes()[0],
            (Some("arrays" | "tensors"), Literal::List(items)) => names.extend(items.iter().filter_map(text_of)),
            (Some("label"), Literal::Str(text)) => label = Some(text.clone()),
            (Some("rate"), Literal::Int(samples)) => rate = u32::try_from(*samples).unwrap_or(u32::MAX),
            (Some("vocabulary" | "lowercase"), _) => {}
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
        "csv" => Ok(Source::Csv(one(paths)?, csv, words)),
        "npz" => Ok(Source::Npz(one(paths)?, names)),
        "safetensors" => Ok(Source::Safetensors(one(paths)?, names)),
        "images" => Ok(Source::Images(paths, label)),
        "wav" => Ok(Source::Wav(one(paths)?, WavOptions { rate, label })),
        "text" if info.is_text() => {
            let vocabulary = info.vocabulary().unwrap_or(0);
            Ok(Source::Text(one(paths)?, TextOptions { vocabulary, known: known.classes.clone() }))
        }
        "text" if info.is_running_tokens() => Ok(Source::Running(one(paths)?, words)),
        "text" => Ok(Source::Lines(paths, words)),
        other => Err(DriverError::Usage(format!("`{other}` is no data source"))),
    }
}

/// The data crate's form of what texts are taken apart into.
pub fn unit(info: &DataInfo) -> Unit {
    match info.unit {
        Some(TextUnit::Tokens) => Unit::Tokens,
        Some(TextUnit::Words) | None => Unit::Words,
    }
}

/// Which fields are words or tokens, and how they are numbered.
fn words(info: &DataInfo, numbered: &Words<'_>) -> WordOptions {
    let known = &numbered.known.vocabularies;
    let held_out = [&info.test, &info.validation].into_iter().flatten();
    WordOptions {
        tables: info.raw.iter().map(|field| field.table).collect(),
        unit: unit(info),
        sizes: info.tables.clone(),
        lowercase: info.is_lowercase(),
        known: (!known.is_empty()).then(|| known.clone()),
        held_out: (held_out.filter_map(|holdout| by_place(holdout).ok()).collect(), numbered.seed),
    }
}

fn text_of(literal: &Literal) -> Option<String> {
    match literal {
        Literal::Str(text) => Some(text.clone()),
        Literal::Int(_) | Literal::Float(_) | Literal::Bool(_) | Literal::List(_) => None,
    }
}
