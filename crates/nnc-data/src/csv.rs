//! Tables of numbers as text (RFC 4180, with a separator of choice).
//!
//! Each line is one example, and its cells fill the declared fields in order: `f32[64]` takes 64
//! consecutive cells, a scalar or a text one. Cells are read as the module `number` says, texts as `words`. The first
//! line is taken for a header if none of its cells is a number, so that a first line with one damaged cell
//! is reported, not skipped; an option says otherwise, and where all fields are texts there is none. Blank lines are
//! skipped, and so is a byte order mark. A cell that begins with `"` is quoted, as the module `quotes` says, but where tabs
//! separate the cells: such files are plain text, in which marks are letters (IANA, `text/tab-separated-values`).

use std::path::Path;

use csv::{ByteRecord, Reader, ReaderBuilder};

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Place, Result};
use crate::number;
use crate::quotes;
use crate::table;
use crate::types::{Column, FieldType, Table};
use crate::words::{self, Texts, WordOptions};

/// How the text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvOptions {
    /// Whether the first line names the columns; `None` looks whether it holds a number.
    pub header: Option<bool>,
    /// The character between cells.
    pub separator: u8,
    /// Whether a `"` at its beginning quotes a cell; `None`: unless tabs separate the cells.
    pub quotes: Option<bool>,
}

impl CsvOptions {
    fn has_quotes(&self) -> bool {
        self.quotes.unwrap_or(self.separator != b'\t')
    }
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions { header: None, separator: b',', quotes: None }
    }
}

/// Reads the file `path`, which may be packed with gzip.
///
/// # Errors
/// A missing file, a line with too few or too many cells, a cell that is no number of the
/// declared dtype: with line and column.
pub fn open(path: &Path, fields: &[FieldType], options: &CsvOptions, words: &WordOptions) -> Result<Table> {
    let content = content::read_file(path, Role::Source)?;
    decode_with_words(&content, path, fields, options, words)
}

/// Decodes the unpacked `content` of the file `path`, held to the declared `fields`.
///
/// # Errors
/// As [`open`].
pub fn decode(content: &[u8], path: &Path, fields: &[FieldType], options: &CsvOptions) -> Result<Table> {
    decode_with_words(content, path, fields, options, &WordOptions::default())
}

/// As [`decode`], with fields that are texts.
///
/// # Errors
/// As [`open`].
pub fn decode_with_words(
    content: &[u8],
    path: &Path,
    fields: &[FieldType],
    options: &CsvOptions,
    words: &WordOptions,
) -> Result<Table> {
    table::check_fields(fields, path)?;
    check_separator(options.separator, path)?;
    check_text(content, path)?;
    let text = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content);
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(options.separator).quoting(options.has_quotes());
    let mut lines = Lines { text, path, options, names: Vec::new(), long: Vec::new() };
    let sinks = fields.iter().enumerate().map(|(at, ty)| Sink::new(ty, words, at, path));
    let (sinks, numbers) = lines.read(&mut builder.from_reader(text), sinks.collect())?;
    let remark = lines.remark(numbers.len());
    let mut table = finish(sinks, numbers, words)?;
    table.remarks.extend(remark);
    Ok(table)
}

/// The table of what was read.
fn finish(sinks: Vec<Sink<'_>>, lines: Vec<u64>, options: &WordOptions) -> Result<Table> {
    let (mut columns, mut texts) = (Vec::with_capacity(sinks.len()), Vec::new());
    for sink in sinks {
        match sink {
            Sink::Numbers(column) => columns.push(Some(column)),
            Sink::Words(found) => {
                columns.push(None);
                texts.push(found);
            }
        }
    }
    // Without the feature no field is a text, and a program carries nothing of them.
    let has_texts = cfg!(feature = "text") && !texts.is_empty();
    let numbered = if has_texts { words::number(&texts, &lines, options)? } else { words::Numbered::default() };
    let mut of_texts = numbered.columns.into_iter();
    let columns = columns.into_iter().filter_map(|column| column.or_else(|| of_texts.next())).collect();
    let (vocabularies, remarks) = (numbered.vocabularies, numbered.remarks);
    let tables = options.tables.clone();
    Ok(Table { columns, rows: lines.len(), lines, tables, vocabularies, remarks, ..Table::default() })
}

/// What the cells of a field go into.
enum Sink<'a> {
    Numbers(Column),
    Words(Texts<'a>),
}

impl<'a> Sink<'a> {
    fn new(ty: &FieldType, words: &WordOptions, at: usize, path: &'a Path) -> Self {
        match words.table(at) {
            Some(table) => Self::Words(Texts { path, ty: ty.clone(), table, unit: words.unit, rows: Vec::new() }),
            None => Self::Numbers(Column::new(ty.clone(), 0, Vec::new())),
        }
    }

    /// How many cells of a line are its.
    fn cells(&self) -> Option<usize> {
        match self {
            Self::Numbers(column) => column.ty.elements(),
            Self::Words(_) => Some(1),
        }
    }

    /// What is declared, for a message.
    fn declared(&self) -> String {
        match self {
            Self::Numbers(column) => column.ty.to_string(),
            Self::Words(texts) => format!("{}[{}]", texts.unit.plural(), texts.ty.elements().unwrap_or(0)),
        }
    }
}

/// Refuses separators that could be part of a cell or of a line end.
fn check_separator(separator: u8, path: &Path) -> Result<()> {
    let is_free = matches!(separator, b'\t' | b' '..=b'~') && !separator.is_ascii_alphanumeric();
    if is_free && !b"\"+-.".contains(&separator) {
        return Ok(());
    }
    let message = format!("cells cannot be separated by `{}`", separator.escape_ascii());
    let error = DataError::new(ErrorKind::BadRequest, path, message);
    Err(error.help("usual separators are `,`, `;` and `\\t`"))
}

/// Refuses what is evidently no text.
fn check_text(content: &[u8], path: &Path) -> Result<()> {
    let Some(name) = content::sniff(content).name() else { return Ok(()) };
    let message = format!("is {name}, text with numbers is expected here");
    Err(DataError::new(ErrorKind::Malformed, path, message))
}

/// The lines of one file, and what is needed to say where a fault is.
struct Lines<'a> {
    text: &'a [u8],
    path: &'a Path,
    options: &'a CsvOptions,
    /// The names of the columns; none without a header.
    names: Vec<String>,
    /// The lines on which rows begin that go over several.
    long: Vec<u64>,
}

impl Lines<'_> {
    /// Reads all lines into sinks; gives these, and the number of the line of each row.
    fn read<'s>(&mut self, reader: &mut Reader<&[u8]>, mut sinks: Vec<Sink<'s>>) -> Result<(Vec<Sink<'s>>, Vec<u64>)> {
        let mut record = ByteRecord::new();
        let mut is_first = true;
        let mut numbers = Vec::new();
        let (mut line, mut counted) = (1, 0);
        while self.advance(reader, &mut record)? {
            let may_be_header = std::mem::take(&mut is_first);
            let start = self.start(&record);
            let end = (reader.position().byte() as usize).clamp(start, self.text.len());
            let is_long = self.check_quotes(start, end)?;
            self.check_count(&record, &sinks)?;
            if may_be_header && self.is_header(&record, &sinks) {
                self.names = record.iter().map(excerpt).collect();
                continue;
            }
            self.push_row(&record, &mut sinks).map_err(|error| self.may_lack_header(error, numbers.is_empty()))?;
            line += line_ends(&self.text[counted..start]);
            counted = start;
            numbers.push(line);
            self.long.extend(is_long.then_some(line));
        }
        if numbers.is_empty() {
            let found = if is_first { "is empty" } else { "has a header and no rows" };
            return Err(DataError::new(ErrorKind::Empty, self.path, found));
        }
        for sink in &mut sinks {
            if let Sink::Numbers(column) = sink {
                column.rows = numbers.len();
                column.bytes.shrink_to_fit();
            }
        }
        Ok((sinks, numbers))
    }

    /// Reads the next line into `record`; `false` at the end.
    fn advance(&self, reader: &mut Reader<&[u8]>, record: &mut ByteRecord) -> Result<bool> {
        reader.read_byte_record(record).map_err(|cause| {
            let message = format!("cannot be split into cells: {cause}");
            DataError::new(ErrorKind::Malformed, self.path, message)
        })
    }

    /// Whether a quoted cell of the record at these places of the text goes over the end of a line.
    fn check_quotes(&self, start: usize, end: usize) -> Result<bool> {
        let record = &self.text[start..end];
        if !self.options.has_quotes() || !record.contains(&b'"') {
            return Ok(false);
        }
        quotes::check(record, self.options.separator).map_err(|fault| {
            let line_at = |place: usize| line_ends(&self.text[..start + place]) + 1;
            let place = Place::Cell {
                line: line_at(fault.opens),
                column: fault.column + 1,
                name: self.names.get(fault.column).cloned(),
            };
            let message = match fault.closes {
                Some(closes) => {
                    let line = line_at(closes);
                    format!("the cell begins with `\"`, and goes on behind the next one, on line {line}")
                }
                None => "the cell begins with `\"`, and none closes it".to_owned(),
            };
            let error = DataError::new(ErrorKind::Malformed, self.path, message).at(place);
            error.help("`\"\"` is a mark in a quoted cell; with `quotes=false` all marks are letters")
        })
    }

    /// What is told of rows that go over several lines: a mark may have been meant as a letter.
    fn remark(&self, rows: usize) -> Option<String> {
        let (first, path) = (self.long.first()?, self.path.display());
        let count = self.long.len();
        let what = "go over several lines, as a cell that begins with `\"` ends at the next one: the first from line";
        Some(format!("{path}: {count} of {rows} rows {what} {first} on"))
    }

    /// A fault of the first row, where the line before was taken for a header without being asked for.
    fn may_lack_header(&self, error: DataError, is_first_row: bool) -> DataError {
        if !is_first_row || self.names.is_empty() || self.options.header.is_some() {
            return error;
        }
        let header =
            "the line before was taken for a header, as no cell of it is a number (`header=false` if it is none)";
        let help = error.help.as_ref().map_or(header.to_owned(), |help| format!("{help}; {header}"));
        error.help(help)
    }

    /// Whether the first line names the columns.
    fn is_header(&self, record: &ByteRecord, sinks: &[Sink<'_>]) -> bool {
        let is_name = |cell: &[u8]| !number::looks_like_number(&String::from_utf8_lossy(cell));
        let has_numbers = sinks.iter().any(|sink| matches!(sink, Sink::Numbers(_)));
        self.options.header.unwrap_or_else(|| has_numbers && record.iter().all(is_name))
    }

    /// Checks that the cells of one line fill the fields.
    fn check_count(&self, record: &ByteRecord, sinks: &[Sink<'_>]) -> Result<()> {
        let expected = sinks.iter().try_fold(0usize, |sum, sink| sum.checked_add(sink.cells()?));
        if expected == Some(record.len()) {
            return Ok(());
        }
        Err(self.wrong_count(record, sinks))
    }

    /// Appends the cells of one line to the sinks.
    fn push_row(&self, record: &ByteRecord, sinks: &mut [Sink<'_>]) -> Result<()> {
        let mut index = 0;
        for sink in sinks {
            for _ in 0..sink.cells().unwrap_or(0) {
                match sink {
                    Sink::Numbers(column) => self.push_cell(record, index, column)?,
                    Sink::Words(texts) => texts.rows.push(self.text_of(record, index)?),
                }
                index += 1;
            }
        }
        Ok(())
    }

    /// A cell that is a text.
    fn text_of(&self, record: &ByteRecord, index: usize) -> Result<String> {
        String::from_utf8(record[index].to_vec()).map_err(|_| {
            let message = format!("is no text in UTF-8: `{}`", excerpt(&record[index]));
            let error = DataError::new(ErrorKind::Malformed, self.path, message).at(self.place(record, index));
            error.help("convert it, as with `iconv -f latin1 -t utf-8`")
        })
    }

    /// Where a cell is.
    fn place(&self, record: &ByteRecord, index: usize) -> Place {
        Place::Cell { line: self.line(record), column: index + 1, name: self.names.get(index).cloned() }
    }

    /// Appends one cell to its column.
    fn push_cell(&self, record: &ByteRecord, index: usize, column: &mut Column) -> Result<()> {
        let cell = &record[index];
        let dtype = column.ty.dtype;
        let text = std::str::from_utf8(cell).map_err(|_| number::NumberFault::NotNumber);
        let pushed = text.and_then(|text| number::push_text(text, dtype, &mut column.bytes));
        pushed.map_err(|fault| {
            let expected = number::expectation(dtype);
            let message = format!("expected {expected}, found `{}`", excerpt(cell));
            let error = DataError::new(ErrorKind::BadValue, self.path, message).at(self.place(record, index));
            match fault.help(dtype).or_else(|| self.may_be_quoted(cell)) {
                Some(help) => error.help(help),
                None => error,
            }
        })
    }

    /// The fault of a line with another number of cells than the fields take.
    fn wrong_count(&self, record: &ByteRecord, sinks: &[Sink<'_>]) -> DataError {
        let fields: Vec<String> = sinks.iter().map(Sink::declared).collect();
        let sizes = sinks.iter().filter_map(Sink::cells);
        let expected = sizes.fold(0usize, usize::saturating_add);
        let found = record.len();
        let message = format!(
            "has {found} cell{}, but the declared ({}) takes {expected}",
            if found == 1 { "" } else { "s" },
            fields.join(", ")
        );
        let error = DataError::new(ErrorKind::WrongShape, self.path, message).at(Place::Line(self.line(record)));
        let quoted = record.iter().find_map(|cell| self.may_be_quoted(cell));
        match quoted.or_else(|| self.other_separator(record)) {
            Some(help) => error.help(help),
            None => error,
        }
    }

    /// Advice where a mark begins a cell and is taken for a letter.
    fn may_be_quoted(&self, cell: &[u8]) -> Option<String> {
        let is_letter = !self.options.has_quotes() && cell.starts_with(b"\"");
        is_letter.then(|| "`\"` is a letter here: with `quotes=true` it quotes the cell that it begins".to_owned())
    }

    /// Advice where a line of one cell holds a separator: another usual one, or within marks the own one.
    fn other_separator(&self, record: &ByteRecord) -> Option<String> {
        let cell = record.iter().next().filter(|_| record.len() == 1)?;
        let usual = [(b',', ","), (b';', ";"), (b'\t', "\\t"), (b' ', " ")];
        if cell.contains(&self.options.separator) {
            return Some("the cell begins with `\"`, and so ends at the next one: look for what is missing".to_owned());
        }
        let (_, name) = usual.iter().find(|(byte, _)| cell.contains(byte))?;
        Some(format!("if cells are separated by `{name}`, say so with `separator=\"{name}\"`"))
    }

    /// The number of the line on which `record` begins, from 1.
    ///
    /// Counted when it is needed: the reader's own count leaves out blank lines before a record.
    fn line(&self, record: &ByteRecord) -> u64 {
        line_ends(&self.text[..self.start(record)]) + 1
    }

    /// Where the first cell of `record` begins in the text, after blank lines.
    fn start(&self, record: &ByteRecord) -> usize {
        let start = record.position().map_or(0, |position| position.byte() as usize).min(self.text.len());
        start + self.text[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
    }
}

fn line_ends(text: &[u8]) -> u64 {
    text.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// The beginning of a cell, fit for a message of one line.
fn excerpt(cell: &[u8]) -> String {
    const LONGEST: usize = 40;
    let text = String::from_utf8_lossy(&cell[..cell.len().min(4 * LONGEST)]);
    let text = text.trim();
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().count() > LONGEST {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests;
