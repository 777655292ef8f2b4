//! Text for models of characters: windows of consecutive characters, each as its number.
//!
//! Characters are Unicode scalars, taken as they are, line ends too; only a byte order mark at the beginning is passed
//! over. They are numbered in their order (by scalar value) among those that occur in the file: the vocabulary, which
//! is kept as [`Table::classes`]. Its size is declared, and files are held to it.
//!
//! A window of `length` characters is one example. Each window begins with the last character of the one before, so
//! that with `length - 1` characters as inputs and the ones behind them as targets every character is a target once
//! (but for the first, and what is left at the end of the file and fills no window). So a part of the windows in the
//! order of the file has no target in common with another part.

use std::collections::BTreeSet;
use std::path::Path;

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Place, Result};
use crate::sample;
use crate::table;
use crate::types::{Column, FieldType, Table};

/// What is declared of a text, and what is known of its characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOptions {
    /// How many different characters there are.
    pub vocabulary: usize,
    /// The characters by their numbers, where an earlier text taught them; else this one does.
    pub known: Option<Vec<String>>,
}

/// Reads the file `path`, which may be packed with gzip.
///
/// # Errors
/// A missing or empty file, one that is no UTF-8 or has fewer characters than one window, another number of different
/// characters than declared, a character that is not among the known ones: with its line.
pub fn open(path: &Path, fields: &[FieldType], options: &TextOptions) -> Result<Table> {
    let content = content::read_file(path, Role::Source)?;
    decode(&content, path, fields, options)
}

/// Decodes the unpacked `content` of the file `path`; the one declared field is a window.
///
/// # Errors
/// As [`open`].
pub fn decode(content: &[u8], path: &Path, fields: &[FieldType], options: &TextOptions) -> Result<Table> {
    table::check_fields(fields, path)?;
    let [ty] = fields else {
        let message = format!("a text fills one field, {} are declared", fields.len());
        return Err(DataError::new(ErrorKind::BadRequest, path, message));
    };
    let text = utf8(content, path)?;
    let vocabulary = match &options.known {
        Some(names) => known(names, options.vocabulary, path)?,
        None => taught(text, options.vocabulary, path)?,
    };
    let (column, lines) = windows(text, path, ty, &vocabulary)?;
    let names = vec![String::new()];
    let table = table::from_columns(vec![column], &names, path)?;
    Ok(Table { classes: Some(vocabulary.iter().map(char::to_string).collect()), lines, ..table })
}

/// Decodes an input for a program: windows of a text, by the characters that its training taught.
///
/// # Errors
/// As [`open`].
pub(crate) fn decode_input(content: &[u8], path: &Path, ty: &FieldType, names: &[String]) -> Result<Column> {
    let vocabulary = known(names, names.len(), path)?;
    Ok(windows(utf8(content, path)?, path, ty, &vocabulary)?.0)
}

/// Decodes a whole text as one row of `ty`; a shorter one stands at its end, with line ends (or spaces) before it.
///
/// # Errors
/// As [`crate::Given::decode_text`].
pub(crate) fn decode_whole(content: &[u8], path: &Path, ty: &FieldType, names: &[String]) -> Result<Column> {
    let vocabulary = known(names, names.len(), path)?;
    let text = whole(content, path)?;
    let (length, count) = (ty.dims.iter().product::<usize>(), text.chars().count());
    let padding = ['\n', ' '].iter().find_map(|letter| vocabulary.binary_search(letter).ok());
    if count > length || count < length && padding.is_none() {
        let most = if padding.is_some() { "at most " } else { "" };
        let message =
            format!("has {count} character{}, and {most}{length} are taken", if count == 1 { "" } else { "s" });
        return Err(DataError::new(ErrorKind::WrongShape, path, message));
    }
    let mut bytes = Vec::with_capacity(length * ty.dtype.size());
    for _ in count..length {
        sample::push_index(padding.unwrap_or_default(), ty.dtype, &mut bytes);
    }
    let mut line = 1;
    for character in text.chars() {
        let number = vocabulary.binary_search(&character);
        let number = number.map_err(|_| unknown(character, line, vocabulary.len(), path))?;
        if !sample::push_index(number, ty.dtype, &mut bytes) {
            let message = format!("{} does not hold the numbers of {} characters", ty.dtype, vocabulary.len());
            return Err(DataError::new(ErrorKind::WrongType, path, message));
        }
        line += u64::from(character == '\n');
    }
    Ok(Column::new(ty.clone(), 1, bytes))
}

/// The text that a caller gave as `content`.
pub(crate) fn whole<'a>(content: &'a [u8], path: &Path) -> Result<&'a str> {
    utf8(content, path).map_err(|error| match error.kind {
        ErrorKind::Empty => error.help("give at least one character"),
        _ => error,
    })
}

/// The text that `content` is.
pub(crate) fn utf8<'a>(content: &'a [u8], path: &Path) -> Result<&'a str> {
    let content = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content);
    if content.is_empty() {
        return Err(DataError::new(ErrorKind::Empty, path, "is empty"));
    }
    std::str::from_utf8(content).map_err(|fault| {
        let (place, what) = (fault.valid_up_to(), content::sniff(content));
        if let Some(name) = what.name() {
            let message = format!("is {name}, text in UTF-8 is expected here");
            return DataError::new(ErrorKind::Malformed, path, message);
        }
        let line = content[..place].iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
        let message = format!("is no text in UTF-8: the byte {:02x} has no meaning here", content[place]);
        let error = DataError::new(ErrorKind::Malformed, path, message).at(Place::Line(line));
        error.help("convert it, as with `iconv -f latin1 -t utf-8`")
    })
}

/// The different characters of `text` in their order, held to how many are declared.
fn taught(text: &str, declared: usize, path: &Path) -> Result<Vec<char>> {
    let characters: Vec<char> = text.chars().collect::<BTreeSet<char>>().into_iter().collect();
    let found = characters.len();
    if found == declared {
        return Ok(characters);
    }
    let message = format!(
        "has {found} different character{}, but `vocabulary={declared}` is declared",
        if found == 1 { "" } else { "s" }
    );
    let error = DataError::new(ErrorKind::WrongShape, path, message);
    Err(error.help(format!("write `vocabulary={found}`, and give the model as many")))
}

/// The characters that an earlier text taught; in order, so that they can be searched.
fn known(names: &[String], declared: usize, path: &Path) -> Result<Vec<char>> {
    let refused = |message: String| DataError::new(ErrorKind::Mismatch, path, message);
    let mut characters = Vec::with_capacity(names.len());
    for name in names {
        let mut letters = name.chars();
        match (letters.next(), letters.next()) {
            (Some(only), None) if characters.last().is_none_or(|&before| before < only) => characters.push(only),
            _ => return Err(refused("the weights were trained on something else than a text".to_owned())),
        }
    }
    if characters.len() == declared {
        return Ok(characters);
    }
    let count = characters.len();
    Err(refused(format!("the weights know {count} characters, but `vocabulary={declared}` is declared")))
}

/// The windows of a text, and the line that each begins on.
fn windows(text: &str, path: &Path, ty: &FieldType, vocabulary: &[char]) -> Result<(Column, Vec<u64>)> {
    let length = window_length(ty, vocabulary.len(), path)?;
    let stride = length - 1;
    let count = text.chars().count();
    let rows = count.saturating_sub(1) / stride;
    if rows == 0 {
        let message = format!("has {count} character{}, one example takes {length}", if count == 1 { "" } else { "s" });
        return Err(DataError::new(ErrorKind::Empty, path, message).help("give a longer text"));
    }
    let size = ty.dtype.size();
    let mut numbers = Vec::with_capacity(count * size);
    let mut lines = Vec::with_capacity(rows + 1);
    let mut line = 1;
    for (position, character) in text.chars().enumerate() {
        let Ok(number) = vocabulary.binary_search(&character) else {
            return Err(unknown(character, line, vocabulary.len(), path));
        };
        sample::push_index(number, ty.dtype, &mut numbers);
        if position % stride == 0 && lines.len() < rows {
            lines.push(line);
        }
        line += u64::from(character == '\n');
    }
    let mut bytes = Vec::with_capacity(rows * length * size);
    for row in 0..rows {
        bytes.extend_from_slice(&numbers[row * stride * size..(row * stride + length) * size]);
    }
    Ok((Column::new(ty.clone(), rows, bytes), lines))
}

/// The number of characters of one example, if it is declared as one.
fn window_length(ty: &FieldType, vocabulary: usize, path: &Path) -> Result<usize> {
    let refused =
        |message: String, help: &str| Err(DataError::new(ErrorKind::WrongType, path, message).help(help.to_owned()));
    let Some(&length) = ty.dims.first().filter(|&&length| ty.dims.len() == 1 && length >= 2) else {
        let message = format!("an example of a text is two or more characters in a row, not {ty}");
        return refused(message, "declare it as `i32[65]`: the numbers of 65 characters");
    };
    if !sample::push_index(vocabulary.saturating_sub(1), ty.dtype, &mut Vec::new()) {
        let message = format!("{} does not hold the numbers of {vocabulary} characters", ty.dtype);
        return refused(message, "declare it i32");
    }
    Ok(length)
}

/// The fault of a character that has no number.
fn unknown(character: char, line: u64, vocabulary: usize, path: &Path) -> DataError {
    let (shown, code) = (character.escape_debug(), u32::from(character));
    let message =
        format!("the character `{shown}` (U+{code:04X}) is not among the {vocabulary} that the training text taught");
    DataError::new(ErrorKind::BadValue, path, message).at(Place::Line(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DType;

    fn read(text: &[u8], dtype: DType, length: usize, vocabulary: usize) -> Result<Table> {
        let options = TextOptions { vocabulary, known: None };
        decode(text, Path::new("a.txt"), &[FieldType::new(dtype, [length])], &options)
    }

    fn fault(text: &[u8], length: usize, vocabulary: usize) -> String {
        read(text, DType::I32, length, vocabulary).unwrap_err().to_string()
    }

    #[test]
    fn windows_share_one_character() {
        let table = read("ba\nécab".as_bytes(), DType::U8, 3, 5).unwrap();
        assert_eq!(table.classes.unwrap(), ["\n", "a", "b", "c", "é"]);
        assert_eq!(table.columns[0].bytes, [2, 1, 0, 0, 4, 3, 3, 1, 2]);
        assert_eq!(table.lines, [1, 1, 2]);
    }

    #[test]
    fn what_fills_no_window_is_left() {
        assert_eq!(read(b"abcde", DType::U8, 3, 5).unwrap().rows, 2);
        assert_eq!(read(b"abcdef", DType::U8, 3, 6).unwrap().rows, 2);
        assert_eq!(read(b"abcdefg", DType::I64, 3, 7).unwrap().rows, 3);
        let marked = read(b"\xEF\xBB\xBFabc", DType::I32, 3, 3).unwrap();
        assert_eq!(marked.columns[0].bytes, [0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn every_character_but_the_first_is_a_target_once() {
        let text: String = ('a'..='z').cycle().take(201).collect();
        let table = read(text.as_bytes(), DType::U8, 11, 26).unwrap();
        let targets: Vec<u8> = table.columns[0].bytes.chunks(11).flat_map(|window| &window[1..]).copied().collect();
        let expected: Vec<u8> = text.bytes().skip(1).map(|letter| letter - b'a').collect();
        assert_eq!(targets, expected);
    }

    #[test]
    fn faults_say_what_and_where() {
        assert!(fault(b"", 3, 3).contains("a.txt: is empty"));
        assert!(fault(b"\xEF\xBB\xBF", 3, 3).contains("is empty"));
        assert!(fault(b"ab", 3, 2).contains("has 2 characters, one example takes 3"));
        let several = fault(b"abcabc", 3, 4);
        assert!(several.contains("has 3 different characters, but `vocabulary=4`"), "{several}");
        assert!(several.contains("write `vocabulary=3`"), "{several}");
        let latin = fault(b"abc\nd\xE9f", 3, 4);
        assert!(latin.contains("a.txt, line 2: is no text in UTF-8: the byte e9"), "{latin}");
        assert!(fault(b"\xFF\xFEa\0b\0", 3, 4).contains("is text in UTF-16"));
        assert!(fault(b"\x93NUMPY\x01\0", 3, 4).contains("is an .npy file"));
        assert!(fault(b"abc", 1, 3).contains("two or more characters"));
        let narrow = read("abc".as_bytes(), DType::F32, 3, 3).unwrap_err().to_string();
        assert!(narrow.contains("f32 does not hold the numbers of 3 characters"), "{narrow}");
    }

    #[test]
    fn an_unknown_character_is_named_with_its_line() {
        let field = [FieldType::new(DType::I32, [2])];
        let options = TextOptions { vocabulary: 2, known: Some(vec!["\n".into(), "a".into()]) };
        let error = decode("a\na\na\tb".as_bytes(), Path::new("b.txt"), &field, &options).unwrap_err().to_string();
        assert!(error.contains("b.txt, line 3: the character `\\t` (U+0009)"), "{error}");
        // Fewer characters than are known are no fault, and keep their numbers.
        let table = decode(b"aa", Path::new("b.txt"), &field, &options).unwrap();
        assert_eq!(table.columns[0].bytes, [1, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn weights_of_something_else_are_refused() {
        let refused = |names: &[&str], vocabulary| {
            let known = Some(names.iter().map(|&name| name.to_owned()).collect());
            let options = TextOptions { vocabulary, known };
            let field = [FieldType::new(DType::I32, [2])];
            decode(b"aa", Path::new("b.txt"), &field, &options).unwrap_err().to_string()
        };
        assert!(refused(&["cat", "dog"], 2).contains("something else than a text"));
        assert!(refused(&["b", "a"], 2).contains("something else than a text"));
        assert!(refused(&["a", "b"], 3).contains("know 2 characters, but `vocabulary=3`"));
    }
}
