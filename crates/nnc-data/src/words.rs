//! Fields that are texts: rows of the numbers of their words, or of their byte-pair tokens.

use std::path::Path;

use crate::error::{DataError, ErrorKind, Place, Result};
use crate::split::{self, Split};
use crate::types::{Column, DType, FieldType};
use crate::vocabulary::{Unit, Vocabulary};
use crate::word_table::WordTable;

/// Which fields of a source are texts, and the tables that number them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WordOptions {
    /// For each field the index of its table, if it is a text.
    pub tables: Vec<Option<usize>>,
    /// What the texts are taken apart into.
    pub unit: Unit,
    /// How many numbers each table has at most.
    pub sizes: Vec<usize>,
    /// Whether words are read in small letters.
    pub lowercase: bool,
    /// The tables, where an earlier source taught them; else this one does.
    pub known: Option<Vec<Vocabulary>>,
    /// The parts that are held out of this source, one after the other, with the seed of the run: they teach no words.
    pub held_out: (Vec<Split>, u64),
}

impl WordOptions {
    /// The table of a field.
    pub(crate) fn table(&self, field: usize) -> Option<usize> {
        self.tables.get(field).copied().flatten().filter(|_| cfg!(feature = "text"))
    }
}

/// The texts of one field.
pub(crate) struct Texts<'a> {
    /// The file they are from.
    pub(crate) path: &'a Path,
    /// The type of a row of numbers.
    pub(crate) ty: FieldType,
    /// Which table numbers them.
    pub(crate) table: usize,
    /// What they are taken apart into.
    pub(crate) unit: Unit,
    /// One for each example.
    pub(crate) rows: Vec<String>,
}

/// What became of texts.
#[derive(Default)]
pub(crate) struct Numbered {
    /// A column for each field, in order.
    pub(crate) columns: Vec<Column>,
    /// The tables.
    pub(crate) vocabularies: Vec<Vocabulary>,
    /// What is worth knowing: texts that were cut, words outside of the table.
    pub(crate) remarks: Vec<String>,
}

/// Numbers the words of `fields`, by tables that they teach or that are known. `lines` has the line of each row.
///
/// # Errors
/// A text without words, a field that does not hold the numbers of words, no word at all, known tables of other sizes.
pub(crate) fn number(fields: &[Texts<'_>], lines: &[u64], options: &WordOptions) -> Result<Numbered> {
    let vocabularies = match &options.known {
        Some(known) => same_tables(known, fields, options)?,
        None => learn(fields, options)?,
    };
    let mut numbered = Numbered { columns: Vec::new(), vocabularies, remarks: Vec::new() };
    for texts in fields {
        let vocabulary = &numbered.vocabularies[texts.table];
        let (column, remarks) = number_field(texts, lines, vocabulary)?;
        numbered.columns.push(column);
        numbered.remarks.extend(remarks);
    }
    Ok(numbered)
}

/// The tables that the texts teach, without those that are held out.
fn learn(fields: &[Texts<'_>], options: &WordOptions) -> Result<Vec<Vocabulary>> {
    let (splits, seed) = &options.held_out;
    let kept = split::kept(fields.first().map_or(0, |texts| texts.rows.len()), splits, *seed)?;
    let table = |(index, &size): (usize, &usize)| {
        let of_table = fields.iter().filter(|texts| texts.table == index);
        let rows = of_table.clone().flat_map(|texts| kept.iter().filter_map(|&row| texts.rows.get(row as usize)));
        let texts = rows.map(String::as_str);
        let path = of_table.map(|texts| texts.path).next().unwrap_or(Path::new("words"));
        taught(texts, size, options).ok_or_else(|| no_table(path, size, options.unit))
    };
    options.sizes.iter().enumerate().map(table).collect()
}

/// The table that texts teach; `None` when they teach nothing, or it has no room.
pub(crate) fn taught<'a>(
    texts: impl Iterator<Item = &'a str> + Send,
    size: usize,
    options: &WordOptions,
) -> Option<Vocabulary> {
    match options.unit {
        Unit::Words => WordTable::learn(texts, size, options.lowercase).map(Vocabulary::Words),
        #[cfg(feature = "merges")]
        Unit::Tokens => crate::TokenTable::learn(texts, size).map(Vocabulary::Tokens),
        // A program without the feature reads by tables that it was given.
        #[cfg(not(feature = "merges"))]
        Unit::Tokens => None,
    }
}

/// The fault of texts that teach no table.
pub(crate) fn no_table(path: &Path, size: usize, unit: Unit) -> DataError {
    let message = match unit {
        Unit::Words => format!("has no word for a table of {size}"),
        Unit::Tokens => format!("has no text for a table of {size} tokens"),
    };
    DataError::new(ErrorKind::Empty, path, message)
}

/// The tables that an earlier source taught, if they are those that are declared.
fn same_tables(known: &[Vocabulary], fields: &[Texts<'_>], options: &WordOptions) -> Result<Vec<Vocabulary>> {
    let path = fields.first().map_or(Path::new("words"), |texts| texts.path);
    known_tables(known, path, options)
}

/// Tables that are known, if they are those that are declared.
pub(crate) fn known_tables(known: &[Vocabulary], path: &Path, options: &WordOptions) -> Result<Vec<Vocabulary>> {
    let unit = options.unit;
    let fits = |(vocabulary, &size): (&Vocabulary, &usize)| vocabulary.unit() == unit && vocabulary.size() <= size;
    if known.len() == options.sizes.len() && known.iter().zip(&options.sizes).all(fits) {
        return Ok(known.to_vec());
    }
    let sizes: Vec<usize> = known.iter().map(Vocabulary::size).collect();
    let (declared, found) = (&options.sizes, known.first().map_or(unit, Vocabulary::unit));
    let declared = match found == unit {
        true => format!("{declared:?}"),
        false => format!("{declared:?} {}", unit.plural()),
    };
    let message = format!("the weights have tables of {sizes:?} {}, and {declared} are declared", found.plural());
    Err(DataError::new(ErrorKind::Mismatch, path, message).help("use the weights with the file they were trained with"))
}

fn number_field(texts: &Texts<'_>, lines: &[u64], vocabulary: &Vocabulary) -> Result<(Column, Vec<String>)> {
    let path = texts.path;
    let (length, units) = (row_length(&texts.ty, path)?, vocabulary.unit().plural());
    let mut bytes = Vec::new();
    let size = texts.ty.row_bytes().and_then(|row| row.checked_mul(texts.rows.len()));
    if size.is_none_or(|size| bytes.try_reserve_exact(size).is_err()) {
        let message = format!("{} times {length} {units} take more memory than there is", texts.rows.len());
        return Err(DataError::new(ErrorKind::BadRequest, path, message).help("declare shorter texts"));
    }
    let (mut cut, mut count, mut unknown) = (0, 0, 0);
    for (row, text) in texts.rows.iter().enumerate() {
        let pushed = vocabulary.push(text, length, &mut bytes);
        if pushed.units == 0 {
            let place = lines.get(row).map_or(Place::Row(row as u64), |&line| Place::Line(line));
            let error = DataError::new(ErrorKind::Empty, path, format!("the text has no {units}")).at(place);
            return Err(error.help("fill it or remove the row"));
        }
        cut += usize::from(pushed.units > length);
        count += pushed.units.min(length);
        unknown += pushed.unknown;
    }
    let rows = texts.rows.len();
    let mut remarks = Vec::new();
    if cut > 0 {
        let (which, were) = match rows {
            1 => ("the text has".to_owned(), "was"),
            _ => (format!("{cut} of {rows} texts have"), "were"),
        };
        remarks.push(format!("{}: {which} more than {length} {units}, and {were} cut", path.display()));
    }
    if unknown > 0 {
        let share = 100.0 * unknown as f64 / count as f64;
        let size = vocabulary.size();
        remarks.push(format!("{}: {share:.1} % of the words are not in the table of {size}", path.display()));
    }
    Ok((Column::new(texts.ty.clone(), rows, bytes), remarks))
}

/// How many words a row holds, if it is declared as one.
fn row_length(ty: &FieldType, path: &Path) -> Result<usize> {
    match (&ty.dims[..], ty.dtype) {
        (&[length], DType::I32) => Ok(length),
        _ => {
            let message = format!("words are numbers in i32 along one axis, not {ty}");
            Err(DataError::new(ErrorKind::WrongType, path, message))
        }
    }
}

/// Decodes texts that are given to a program, one a line; `vocabulary` numbers their words.
///
/// # Errors
/// No UTF-8, a line without words.
#[cfg(feature = "text")]
pub(crate) fn decode_input(content: &[u8], path: &Path, ty: &FieldType, vocabulary: &Vocabulary) -> Result<Column> {
    let rows: Vec<String> = crate::text::utf8(content, path)?.lines().map(str::to_owned).collect();
    let lines: Vec<u64> = (1..=rows.len() as u64).collect();
    let texts = Texts { path, ty: ty.clone(), table: 0, unit: vocabulary.unit(), rows };
    let (column, remarks) = number_field(&texts, &lines, vocabulary)?;
    Ok(Column { remarks, ..column })
}
