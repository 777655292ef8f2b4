//! Text for models of byte-pair tokens: windows of consecutive tokens, each as its number.
//!
//! As in a text of characters ([`crate::text`]), a window is one example, and begins with the last token of the one
//! before. The table of tokens is learned from what is trained on: where the end of the file is held out, from as many
//! of its bytes before that end.

use std::path::Path;

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Result};
use crate::split::Split;
use crate::table;
use crate::text::{utf8, whole};
use crate::token_table::TokenTable;
use crate::types::{Column, DType, FieldType, Table};
use crate::vocabulary::{Vocabulary, push_number};
use crate::words::{self, WordOptions};

/// Reads the file `path`, which may be packed with gzip.
///
/// # Errors
/// A missing or empty file, one that is no UTF-8 or has fewer tokens than one window, known tables of another kind or
/// size.
pub fn open(path: &Path, fields: &[FieldType], options: &WordOptions) -> Result<Table> {
    let content = content::read_file(path, Role::Source)?;
    decode(&content, path, fields, options)
}

/// Decodes the unpacked `content` of the file `path`; the one declared field is a window.
///
/// # Errors
/// As [`open`].
pub fn decode(content: &[u8], path: &Path, fields: &[FieldType], options: &WordOptions) -> Result<Table> {
    table::check_fields(fields, path)?;
    let ([ty], &[size]) = (fields, &options.sizes[..]) else {
        let message = format!("a running text fills one field, {} are declared", fields.len());
        return Err(DataError::new(ErrorKind::BadRequest, path, message));
    };
    let text = utf8(content, path)?;
    let vocabularies = match &options.known {
        Some(known) => words::known_tables(known, path, options)?,
        None => {
            let taught = words::taught([trained_on(text, options)].into_iter(), size, options);
            vec![taught.ok_or_else(|| words::no_table(path, size, options.unit))?]
        }
    };
    let Some(tokens) = vocabularies.first().and_then(Vocabulary::tokens) else {
        return Err(DataError::new(ErrorKind::BadRequest, path, "a running text is read by tokens"));
    };
    let (column, lines) = windows(text, path, ty, tokens)?;
    let rows = column.rows;
    Ok(Table { columns: vec![column], rows, lines, vocabularies, ..Table::default() })
}

/// Decodes an input for a program: windows of a text, by the tokens that its training taught.
///
/// # Errors
/// As [`open`].
pub(crate) fn decode_input(content: &[u8], path: &Path, ty: &FieldType, tokens: &TokenTable) -> Result<Column> {
    Ok(windows(utf8(content, path)?, path, ty, tokens)?.0)
}

/// Decodes a whole text as one row of `ty`; a shorter one stands at its end, with line ends before it.
///
/// # Errors
/// As [`crate::Given::decode_text`].
pub(crate) fn decode_whole(content: &[u8], path: &Path, ty: &FieldType, tokens: &TokenTable) -> Result<Column> {
    let text = whole(content, path)?;
    check_dtype(ty, path)?;
    let (numbers, length) = (tokens.numbers(text), ty.dims.iter().product::<usize>());
    let count = numbers.len();
    if count > length {
        let message = format!("has {count} token{}, and at most {length} are taken", if count == 1 { "" } else { "s" });
        return Err(DataError::new(ErrorKind::WrongShape, path, message));
    }
    let mut bytes = Vec::with_capacity(length * ty.dtype.size());
    (count..length).for_each(|_| push_number(TokenTable::of_byte(b'\n'), &mut bytes));
    numbers.iter().for_each(|&number| push_number(number as usize, &mut bytes));
    Ok(Column::new(ty.clone(), 1, bytes))
}

/// The part of a text that teaches: what stays when its ends are held out.
fn trained_on<'t>(text: &'t str, options: &WordOptions) -> &'t str {
    let kept = |share: f64, split: &Split| match split {
        Split::Tail(fraction) => share * (1.0 - fraction),
        Split::Fraction(_) | Split::Every(_) => share,
    };
    let share = options.held_out.0.iter().fold(1.0, kept);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the length")]
    let end = (text.len() as f64 * share) as usize;
    &text[..text.floor_char_boundary(end)]
}

/// The windows of a text, and the line that each begins on.
fn windows(text: &str, path: &Path, ty: &FieldType, tokens: &TokenTable) -> Result<(Column, Vec<u64>)> {
    check_dtype(ty, path)?;
    let length = match ty.dims[..] {
        [length] if length >= 2 => length,
        _ => {
            let message = format!("an example of a text is two or more tokens in a row, not {ty}");
            return Err(DataError::new(ErrorKind::WrongType, path, message));
        }
    };
    let (numbers, stride) = (tokens.numbers(text), length - 1);
    let rows = numbers.len().saturating_sub(1) / stride;
    if rows == 0 {
        let count = numbers.len();
        let message = format!("has {count} token{}, one example takes {length}", if count == 1 { "" } else { "s" });
        return Err(DataError::new(ErrorKind::Empty, path, message).help("give a longer text"));
    }
    let mut bytes = Vec::with_capacity(rows * length * ty.dtype.size());
    let (mut lines, mut line) = (Vec::with_capacity(rows), 1);
    for row in 0..rows {
        lines.push(line);
        let window = &numbers[row * stride..row * stride + length];
        window.iter().for_each(|&number| push_number(number as usize, &mut bytes));
        line += window[..stride].iter().map(|&number| tokens.line_ends(number)).sum::<u64>();
    }
    Ok((Column::new(ty.clone(), rows, bytes), lines))
}

fn check_dtype(ty: &FieldType, path: &Path) -> Result<()> {
    if ty.dtype == DType::I32 {
        return Ok(());
    }
    let message = format!("tokens are numbers in i32, not {ty}");
    Err(DataError::new(ErrorKind::WrongType, path, message))
}

#[cfg(all(test, feature = "merges"))]
mod tests {
    use super::*;
    use crate::vocabulary::Unit;

    const TEXT: &str = "one fish\ntwo fish\nred fish\nblue fish\n";

    fn options(size: usize, held_out: Vec<Split>, known: Option<Vec<Vocabulary>>) -> WordOptions {
        let tables = vec![Some(0)];
        WordOptions { tables, unit: Unit::Tokens, sizes: vec![size], known, held_out: (held_out, 0), lowercase: false }
    }

    fn read(text: &str, length: usize, options: &WordOptions) -> Result<Table> {
        decode(text.as_bytes(), Path::new("a.txt"), &[FieldType::new(DType::I32, [length])], options)
    }

    fn numbers(table: &Table) -> Vec<i32> {
        let bytes = table.columns[0].bytes.chunks(4);
        bytes.map(|number| i32::from_le_bytes(number.try_into().unwrap())).collect()
    }

    #[test]
    fn windows_share_one_token() {
        let table = read(TEXT, 4, &options(270, Vec::new(), None)).unwrap();
        let tokens = table.vocabularies[0].tokens().unwrap();
        let whole: Vec<i32> = tokens.numbers(TEXT).into_iter().map(|number| number as i32).collect();
        let expected: Vec<i32> = (0..table.rows).flat_map(|row| whole[row * 3..row * 3 + 4].to_vec()).collect();
        assert_eq!(numbers(&table), expected);
        assert_eq!(table.rows, (whole.len() - 1) / 3);
        assert!(
            table.lines.is_sorted() && table.lines[0] == 1 && *table.lines.last().unwrap() >= 4,
            "{:?}",
            table.lines
        );
    }

    #[test]
    fn what_is_held_out_teaches_nothing() {
        let text = format!("{TEXT}{}", "zebra zebra zebra zebra\n".repeat(4));
        let names = |held_out| {
            let table = read(&text, 4, &options(300, held_out, None)).unwrap();
            table.vocabularies[0].tokens().unwrap().names()
        };
        assert!(names(Vec::new()).contains(&" zebra".to_owned()));
        assert!(!names(vec![Split::Tail(0.5), Split::Tail(0.5)]).iter().any(|name| name.contains("zeb")));
    }

    #[test]
    fn a_known_table_is_kept() {
        let table = read(TEXT, 4, &options(270, Vec::new(), None)).unwrap();
        let known = Some(table.vocabularies.clone());
        let other = read("nothing of this was there, Ω\n", 3, &options(270, Vec::new(), known.clone())).unwrap();
        assert_eq!(other.vocabularies, table.vocabularies);
        let error = read(TEXT, 4, &options(261, Vec::new(), known.clone())).unwrap_err().to_string();
        assert!(error.contains("tokens, and [261] are declared"), "{error}");
        let words = WordOptions { unit: Unit::Words, ..options(270, Vec::new(), known) };
        let error = read(TEXT, 4, &words).unwrap_err().to_string();
        assert!(error.contains("tokens, and [270] words are declared"), "{error}");
    }

    #[test]
    fn faults_say_what_is_wrong() {
        let fault =
            |text: &str, length, size| read(text, length, &options(size, Vec::new(), None)).unwrap_err().to_string();
        assert!(fault("", 4, 300).contains("is empty"));
        assert!(fault("ab", 4, 300).contains("has 2 tokens, one example takes 4"));
        assert!(fault("abc", 1, 300).contains("two or more tokens"));
        assert!(fault("abc", 2, 259).contains("has no text for a table of 259 tokens"));
    }

    #[test]
    fn a_whole_text_stands_at_the_end() {
        let table = TokenTable::new(Vec::new()).unwrap();
        let row = |text: &str, length| {
            decode_whole(text.as_bytes(), Path::new("prompt"), &FieldType::new(DType::I32, [length]), &table)
        };
        assert_eq!(row("ab", 4).unwrap().bytes, [14, 14, 101, 102].map(i32::to_le_bytes).concat());
        assert!(row("abc", 2).unwrap_err().to_string().contains("prompt: has 3 tokens, and at most 2 are taken"));
        assert!(row("", 2).unwrap_err().to_string().contains("give at least one character"));
    }
}
