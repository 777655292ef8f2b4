//! Prints the answers of a program for people. `nnc run` and built executables share it, so that
//! both print the same.
//!
//! A classifier's single row is printed as bars of its most probable classes, many rows as one
//! line each; other answers as their numbers, long ones shortened with their least, greatest and
//! mean value.

use crate::manifest::{Port, Reading};
use crate::number::{Number, significant};
use nnc_data::{Alphabet, Vocabulary};
use std::io::{self, Write};
use std::path::Path;

/// The longest bar, in characters.
const BAR: usize = 24;
/// Arrays with more elements per row than this are shortened.
const SHOWN: usize = 32;
/// How many classes are printed for one row, and for each of many.
const TOP: (usize, usize) = (5, 1);
/// How many elements a shortened array begins with.
const SHOWN_FIRST: usize = 8;

/// What the numbers of answers are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Names<'a> {
    /// The classes of classifiers; may be empty.
    pub classes: &'a [String],
    /// What texts are made of.
    pub alphabet: Alphabet<'a>,
    /// What number words and tokens.
    pub vocabularies: &'a [Vocabulary],
}

/// An answer with its values for a number of rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What it is.
    pub port: Port,
    /// Rows; 1 if the port is not batched.
    pub rows: usize,
    /// The elements: row-major, little-endian.
    pub bytes: Vec<u8>,
}

/// A class with its probability.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ranked {
    /// The index along the last dim.
    pub class: usize,
    /// From 0 to 1; NaN if a score is.
    pub probability: f64,
}

impl Answer {
    /// The dims of the whole array.
    pub fn dims(&self) -> Vec<usize> {
        self.port.dims(self.rows)
    }

    /// The type of the whole, such as `f32[2, 10]`.
    pub fn type_text(&self) -> String {
        nnc_data::FieldType::new(self.port.row.dtype, self.dims()).to_string()
    }

    /// The elements in order.
    pub fn numbers(&self) -> impl Iterator<Item = Number> {
        Number::read_all(self.port.row.dtype, &self.bytes)
    }

    /// Writes the whole to a file: as `.npy`, or a text as such unless the file is called so.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path, names: Names<'_>) -> nnc_data::Result<()> {
        let texts = self.texts(names);
        if texts.is_empty() || path.extension().is_some_and(|extension| extension == "npy") {
            return nnc_data::write_npy(path, self.port.row.dtype, &self.dims(), &self.bytes);
        }
        nnc_data::write_atomically(path, |file| texts.iter().try_for_each(|text| writeln!(file, "{text}")))
    }

    /// Whether it is text.
    pub fn is_text(&self) -> bool {
        matches!(self.port.reading, Reading::Text | Reading::Words(_))
    }

    /// Of an answer that is text, that of each vector along the last dim; a number that stands for nothing gives
    /// U+FFFD. Words and tokens of a table end at the mark of the end of a text.
    pub fn texts(&self, names: Names<'_>) -> Vec<String> {
        let table = match self.port.reading {
            Reading::Text => None,
            Reading::Words(table) => match names.vocabularies.get(table) {
                Some(table) => Some(table),
                None => return Vec::new(),
            },
            Reading::Values | Reading::Logits | Reading::Probabilities => return Vec::new(),
            Reading::Characters | Reading::Option | Reading::Sound(_) => return Vec::new(),
        };
        let length = self.port.row.dims.last().copied().unwrap_or(1).max(1);
        let whole = |number| match number {
            Number::Int(number) => usize::try_from(number).ok(),
            _ => None,
        };
        let numbers: Vec<Option<usize>> = self.numbers().map(whole).collect();
        let text = |vector: &[Option<usize>]| match table {
            Some(table) => table.text(vector.iter().copied()),
            None => names.alphabet.text(vector.iter().copied()),
        };
        numbers.chunks(length).map(text).collect()
    }

    /// For a classifier, the `top` most probable classes of each vector along the last dim, the
    /// lower index first among equals; nothing for other answers.
    pub fn ranked(&self, top: usize) -> Vec<Vec<Ranked>> {
        let classes = self.port.row.dims.last().copied().unwrap_or(0);
        let is_scores = match self.port.reading {
            Reading::Values | Reading::Characters => return Vec::new(),
            Reading::Text | Reading::Option => return Vec::new(),
            Reading::Words(_) | Reading::Sound(_) => return Vec::new(),
            Reading::Logits => true,
            Reading::Probabilities => false,
        };
        if classes == 0 {
            return Vec::new();
        }
        let numbers: Vec<f64> = self.numbers().map(Number::as_f64).collect();
        numbers.chunks_exact(classes).map(|vector| rank(vector, is_scores, top)).collect()
    }
}

fn rank(vector: &[f64], is_scores: bool, top: usize) -> Vec<Ranked> {
    let probabilities = if is_scores { softmax(vector) } else { vector.to_vec() };
    let mut order: Vec<usize> = (0..vector.len()).collect();
    order.sort_by(|&a, &b| vector[b].total_cmp(&vector[a]));
    let ranked = order.into_iter().map(|class| Ranked { class, probability: probabilities[class] });
    ranked.take(top).collect()
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - greatest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// The name of class `index`: from the list, or the index itself.
pub fn class_name(classes: &[String], index: usize) -> String {
    classes.get(index).cloned().unwrap_or_else(|| index.to_string())
}

/// The name of class `index` for people: what would break a line, or could not be seen, is quoted and escaped.
pub fn shown_name(classes: &[String], index: usize) -> String {
    let name = class_name(classes, index);
    if name.trim().is_empty() || name.chars().any(char::is_control) { format!("{name:?}") } else { name }
}

/// How many classes are printed for each of so many rows, unless something else is asked for.
pub fn default_top(rows: usize) -> usize {
    if rows == 1 { TOP.0 } else { TOP.1 }
}

/// Prints all answers; of a classifier the `top` most probable classes.
///
/// # Errors
/// Those of `to`.
pub fn write_text(to: &mut dyn Write, answers: &[Answer], names: Names<'_>, top: usize) -> io::Result<()> {
    let classes = names.classes;
    for answer in answers {
        match answer.ranked(top).as_slice() {
            [] if answer.is_text() => write_texts(to, answer, names, answers.len() == 1)?,
            [] => write_values(to, answer)?,
            [only] => write_bars(to, &answer.port.name, only, classes)?,
            many => write_classes(to, answer, many, classes)?,
        }
    }
    Ok(())
}

/// Texts as they are; where there are several, each behind a line that says which.
fn write_texts(to: &mut dyn Write, answer: &Answer, names: Names<'_>, alone: bool) -> io::Result<()> {
    let (name, dims) = (&answer.port.name, answer.dims());
    let texts = answer.texts(names);
    let leading = &dims[..dims.len() - usize::from(!answer.port.row.dims.is_empty())];
    for (position, text) in texts.iter().enumerate() {
        match (alone, texts.len()) {
            (true, 1) => {}
            (false, 1) => writeln!(to, "{name}:")?,
            (_, _) => writeln!(to, "{name} {}:", index_text(position, leading))?,
        }
        writeln!(to, "{}", printable(text))?;
    }
    Ok(())
}

/// A text for a terminal: what would move its cursor or change its colours is escaped.
pub fn printable(text: &str) -> String {
    let escaped = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    text.chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        if escaped(letter) {
            shown.extend(letter.escape_default())
        } else {
            shown.push(letter)
        }
        shown
    })
}

/// One vector of classes: the winner, then bars.
fn write_bars(to: &mut dyn Write, name: &str, ranked: &[Ranked], classes: &[String]) -> io::Result<()> {
    let label = |ranked: &Ranked| shown_name(classes, ranked.class);
    let width = ranked.iter().map(|ranked| label(ranked).chars().count()).max().unwrap_or(0);
    if let Some(best) = ranked.first() {
        writeln!(to, "{name}: {}", label(best))?;
    }
    for ranked in ranked {
        let (label, bar) = (label(ranked), bar(ranked.probability));
        writeln!(to, "  {label:<width$}  {bar:<BAR$}  {:>7}", percent(ranked.probability))?;
    }
    Ok(())
}

/// A line for each vector of classes.
fn write_classes(to: &mut dyn Write, answer: &Answer, vectors: &[Vec<Ranked>], classes: &[String]) -> io::Result<()> {
    writeln!(to, "{}:", answer.port.name)?;
    let dims = answer.dims();
    let leading = &dims[..dims.len().saturating_sub(1)];
    for (position, ranked) in vectors.iter().enumerate() {
        let texts: Vec<String> = ranked
            .iter()
            .map(|ranked| format!("{} ({})", shown_name(classes, ranked.class), percent(ranked.probability)))
            .collect();
        writeln!(to, "  {}: {}", index_text(position, leading), texts.join(", "))?;
    }
    Ok(())
}

/// Numbers: on one line if there is one row, else a line for each.
fn write_values(to: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    let name = &answer.port.name;
    if !answer.port.batched || answer.rows == 1 {
        return writeln!(to, "{name}: {}", row_text(&answer.port, &answer.bytes));
    }
    writeln!(to, "{name}: {}", answer.type_text())?;
    for (row, bytes) in answer.bytes.chunks_exact(answer.port.row_bytes().max(1)).enumerate() {
        writeln!(to, "  {row}: {}", row_text(&answer.port, bytes))?;
    }
    Ok(())
}

/// The numbers of one row, in brackets by their dims.
fn row_text(port: &Port, bytes: &[u8]) -> String {
    let numbers: Vec<Number> = Number::read_all(port.row.dtype, bytes).collect();
    if numbers.len() <= SHOWN {
        return nested(&port.row.dims, &numbers);
    }
    let first: Vec<String> = numbers.iter().take(SHOWN_FIRST).map(Number::to_string).collect();
    format!("{} {}: {}, ...", port.row, statistics(&numbers), first.join(", "))
}

fn statistics(numbers: &[Number]) -> String {
    let values = || numbers.iter().map(|number| number.as_f64());
    let least = values().fold(f64::INFINITY, f64::min);
    let greatest = values().fold(f64::NEG_INFINITY, f64::max);
    #[allow(clippy::cast_precision_loss, reason = "a count")]
    let mean = values().sum::<f64>() / numbers.len() as f64;
    format!("(min {}, max {}, mean {})", significant(least), significant(greatest), significant(mean))
}

fn nested(dims: &[usize], numbers: &[Number]) -> String {
    match dims {
        [] => numbers.first().map(Number::to_string).unwrap_or_default(),
        [_, inner @ ..] => {
            let size = inner.iter().product::<usize>().max(1);
            let parts: Vec<String> = numbers.chunks(size).map(|part| nested(inner, part)).collect();
            format!("[{}]", parts.join(", "))
        }
    }
}

/// The place of the vector at `position` among `dims`: `3` or `3, 0`.
fn index_text(position: usize, dims: &[usize]) -> String {
    let mut rest = position;
    let mut places: Vec<String> = Vec::new();
    for &dim in dims.iter().rev() {
        places.push((rest % dim.max(1)).to_string());
        rest /= dim.max(1);
    }
    places.reverse();
    places.join(", ")
}

fn percent(probability: f64) -> String {
    format!("{:.2} %", probability * 100.0)
}

/// A bar of eighths of a character.
fn bar(probability: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 8 * BAR")]
    let eighths = (probability.clamp(0.0, 1.0) * 8.0 * BAR as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nnc_data::{DType, FieldType, WordTable};

    pub(crate) fn answer(dims: &[usize], rows: usize, reading: Reading, values: &[f32]) -> Answer {
        let row = FieldType::new(DType::F32, dims);
        let port = Port { name: "y".into(), row, batched: true, reading, default: Vec::new(), bound: None };
        Answer { port, rows, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    fn text(answer: Answer, classes: &[&str]) -> String {
        let classes: Vec<String> = classes.iter().map(|&class| class.into()).collect();
        let mut to = Vec::new();
        let names = Names { classes: &classes, alphabet: Alphabet::Characters(&classes), vocabularies: &[] };
        write_text(&mut to, &[answer], names, 2).unwrap();
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn one_row_of_classes_has_bars() {
        let scores = answer(&[3], 1, Reading::Probabilities, &[0.25, 0.0, 0.75]);
        assert_eq!(
            text(scores, &["cat", "dog", "horse"]),
            "y: horse\n  horse  ██████████████████        75.00 %\n  cat    ██████                    25.00 %\n"
        );
    }

    #[test]
    fn a_class_that_is_a_space_or_a_line_end_is_quoted() {
        let scores = answer(&[2], 2, Reading::Logits, &[60.0, 0.0, 0.0, 60.0]);
        assert_eq!(
            text(scores, &[" ", "\n"]),
            "y:\n  0: \" \" (100.00 %), \"\\n\" (0.00 %)\n  1: \"\\n\" (100.00 %), \" \" (0.00 %)\n"
        );
    }

    #[test]
    fn many_rows_of_classes_have_a_line_each() {
        let scores = answer(&[2], 2, Reading::Logits, &[0.0, 0.0, -40.0, 60.0]);
        assert_eq!(text(scores, &[]), "y:\n  0: 0 (50.00 %), 1 (50.00 %)\n  1: 1 (100.00 %), 0 (0.00 %)\n");
        let words = answer(&[2, 2], 1, Reading::Logits, &[0.0, 0.0, -40.0, 60.0]);
        assert!(text(words, &[]).contains("\n  0, 1: 1 (100.00 %)"));
    }

    #[test]
    fn values_are_nested_and_long_ones_shortened() {
        assert_eq!(text(answer(&[], 1, Reading::Values, &[0.5]), &[]), "y: 0.5\n");
        assert_eq!(text(answer(&[2, 2], 1, Reading::Values, &[1.0, 2.0, 3.0, 4.0]), &[]), "y: [[1, 2], [3, 4]]\n");
        assert_eq!(text(answer(&[1], 2, Reading::Values, &[1.0, 2.0]), &[]), "y: f32[2, 1]\n  0: [1]\n  1: [2]\n");
        let long: Vec<f32> = (0..40u8).map(f32::from).collect();
        assert_eq!(
            text(answer(&[40], 1, Reading::Values, &long), &[]),
            "y: f32[40] (min 0, max 39, mean 19.5): 0, 1, 2, 3, 4, 5, 6, 7, ...\n"
        );
    }

    #[test]
    fn strange_scores_do_not_panic() {
        for scores in [[f32::NAN, 1.0], [f32::INFINITY, f32::INFINITY], [f32::NEG_INFINITY; 2]] {
            assert!(!text(answer(&[2], 1, Reading::Logits, &scores), &[]).is_empty());
        }
    }

    fn letters(dims: &[usize], rows: usize, numbers: &[i32]) -> Answer {
        let row = FieldType::new(DType::I32, dims);
        let port =
            Port { name: "y".into(), row, batched: true, reading: Reading::Text, default: Vec::new(), bound: None };
        Answer { port, rows, bytes: numbers.iter().flat_map(|number| number.to_le_bytes()).collect() }
    }

    #[test]
    fn texts_are_printed_as_they_are() {
        let characters = ["\n", "a", "\u{1b}", "é"];
        assert_eq!(text(letters(&[4], 1, &[1, 0, 3, 2]), &characters), "a\né\\u{1b}\n");
        assert_eq!(text(letters(&[2], 2, &[1, 1, 3, 9]), &characters), "y 0:\naa\ny 1:\né\u{fffd}\n");
        assert_eq!(text(letters(&[], 2, &[-1, 1]), &characters), "y 0:\n\u{fffd}\ny 1:\na\n");
    }

    #[test]
    fn words_are_printed_up_to_the_end_of_their_text() {
        let words = ["<pad>", "<unk>", "<start>", "<end>", "a", "man", "."].map(str::to_owned).to_vec();
        let table = [Vocabulary::Words(WordTable::new(words, true).unwrap())];
        let names = Names { classes: &[], alphabet: Alphabet::Characters(&[]), vocabularies: &table };
        let port = Port { reading: Reading::Words(0), ..letters(&[6], 1, &[]).port };
        let spoken = |numbers: &[i32]| Answer { port: port.clone(), ..letters(&[6], 1, numbers) }.texts(names);
        assert_eq!(spoken(&[2, 4, 5, 6, 3, 4]), ["a man ."]);
        assert_eq!(spoken(&[4, 1, 0, 9, -1, 0]), ["a <unk> \u{fffd} \u{fffd}"]);
        assert_eq!(spoken(&[3, 5, 5, 5, 5, 5]), [""]);
    }

    #[test]
    fn the_first_of_equals_wins() {
        let ranked = answer(&[3], 1, Reading::Logits, &[1.0, 2.0, 2.0]).ranked(3);
        let order: Vec<usize> = ranked[0].iter().map(|ranked| ranked.class).collect();
        assert_eq!(order, [1, 2, 0]);
    }
}
