//! What holds of fields that are words or tokens: their source, and the tables that number them.
//!
//! `vocabulary=10000` is one table for all such fields, `vocabulary=[8000, 6000]` one for each.

use super::source::{CSV, LOWERCASE, TEXT, VOCABULARY};
use super::{Block, Literal, SourceCall, TextUnit};
use crate::diagnostic::Code;

/// The numbers of a table that stand for no word: padding, a word outside of the table, the beginning, the end.
const MARKS: usize = 4;
/// How many numbers a table of tokens has without any merge: the marks and the bytes.
const LEAST_TOKENS: usize = MARKS + 256;

/// The tables of a block.
pub(super) struct Tables {
    /// What the texts are taken apart into, if there are some.
    pub(super) unit: Option<TextUnit>,
    /// How many numbers each has.
    pub(super) sizes: Vec<usize>,
    /// For each raw tensor its table, if it is a text.
    pub(super) of_fields: Vec<Option<usize>>,
}

impl Block<'_> {
    /// Checks fields of words or tokens, and gives them their tables.
    pub(super) fn check_words(&mut self) -> Tables {
        let units: Vec<Option<TextUnit>> = self.leaves.iter().map(|(_, raw)| raw.unit).collect();
        let count = units.iter().flatten().count();
        let unit = units.iter().copied().flatten().next();
        let mut tables = Tables { unit, sizes: Vec::new(), of_fields: vec![None; units.len()] };
        let Some(source) = self.parts.splits.first().map(|split| split.source.clone()) else { return tables };
        if units.is_empty() {
            // The type itself is wrong.
            return tables;
        }
        let Some(unit) = unit else {
            self.refuse_word_options(&source);
            return tables;
        };
        let place = self.parts.train.as_ref().map_or(source.span, |(_, span)| *span);
        let name = unit.name();
        if source.function != CSV && source.function != TEXT {
            let message = format!("`{}` has no {name}", source.function);
            let help = format!("{name} are cells of a `csv`, or lines of a `text`");
            self.fail_with_help(Code::E0502, place, message, help);
            return tables;
        }
        if source.function == TEXT && count < units.len() {
            let help = "a table with a text in each row is a `csv`";
            let message = format!("the lines of a text are {name}, in every field");
            self.fail_with_help(Code::E0502, place, message, help);
            return tables;
        }
        if units.iter().flatten().any(|&other| other != unit) {
            let help = "declare all of them as `words[...]`, or all as `tokens[...]`";
            self.fail_with_help(Code::E0502, place, "the texts of an example are words or tokens, not both", help);
            return tables;
        }
        self.check_other_splits(unit);
        tables.sizes = self.table_sizes(&source, count, unit);
        let shared = tables.sizes.len() == 1;
        let fields = tables.of_fields.iter_mut().zip(&units).filter(|(_, unit)| unit.is_some());
        for (next, (field, _)) in fields.enumerate() {
            *field = Some(if shared { 0 } else { next });
        }
        tables
    }

    fn table_sizes(&mut self, source: &SourceCall, count: usize, unit: TextUnit) -> Vec<usize> {
        let name = unit.name();
        let sizes: Vec<i64> = match source.option(VOCABULARY) {
            Some(Literal::Int(size)) => vec![*size],
            Some(Literal::List(items)) => items.iter().filter_map(int_of).collect(),
            _ => {
                let message = format!("{name} need `{VOCABULARY}`, how many numbers there are for them");
                let help = match unit {
                    TextUnit::Words => "write `vocabulary=10000`: the most frequent words of `train`, and 4 marks",
                    TextUnit::Tokens => "write `vocabulary=2000`: 4 marks, the 256 bytes, and what `train` has often",
                };
                self.fail_with_help(Code::E0501, source.span, message, help);
                return Vec::new();
            }
        };
        if sizes.len() != 1 && sizes.len() != count {
            let fields = if count == 1 { "field" } else { "fields" };
            let message = format!("{} sizes of tables for {count} {fields} of {name}", sizes.len());
            let help = "write one number for a table that they share, or a list with one for each";
            self.fail_with_help(Code::E0501, source.span, message, help);
        }
        let (least, one) = match unit {
            TextUnit::Words => (MARKS + 1, "a word"),
            TextUnit::Tokens => (LEAST_TOKENS, "the tokens of single bytes"),
        };
        if let Some(small) = sizes.iter().find(|&&size| size < least as i64) {
            let message = format!("a table of {small} numbers has no room for {one}");
            let mut help = format!("{MARKS} of them are marks: padding, a word outside of the table, beginning, end");
            if unit == TextUnit::Tokens {
                help = format!("{help}; and 256 are bytes, of which every text is made: write {LEAST_TOKENS} or more");
            }
            self.fail_with_help(Code::E0501, source.span, message, help);
        }
        if let Some(large) = sizes.iter().find(|&&size| size > i64::from(i32::MAX)) {
            self.fail(Code::E0501, source.span, format!("{large} {name} have no numbers in i32"));
        }
        if unit == TextUnit::Tokens && source.option(LOWERCASE).is_some() {
            let help = "leave it out: tokens give the text back as it is";
            self.fail_with_help(Code::E0501, source.span, format!("`{LOWERCASE}` is about words"), help);
        }
        sizes.into_iter().filter_map(|size| usize::try_from(size).ok()).collect()
    }

    /// The tables are those of `train`.
    fn check_other_splits(&mut self, unit: TextUnit) {
        for split in self.parts.splits.clone().into_iter().skip(1) {
            if let Some(name) = [VOCABULARY, LOWERCASE].into_iter().find(|name| split.source.option(name).is_some()) {
                let message = format!("`{}` has the {name} of `train`", split.name);
                self.fail_with_help(Code::E0502, split.source.span, message, format!("leave `{name}` out here"));
            }
            if split.source.function != CSV && split.source.function != TEXT {
                let message =
                    format!("`{}` has no {}, which `{}` takes", split.source.function, unit.name(), split.name);
                self.fail(Code::E0502, split.source.span, message);
            }
        }
    }

    /// Options about words, where there are none.
    fn refuse_word_options(&mut self, source: &SourceCall) {
        let of_characters = source.function == TEXT;
        let useless = [VOCABULARY, LOWERCASE]
            .into_iter()
            .find(|name| source.option(name).is_some() && !(of_characters && *name == VOCABULARY));
        if let Some(name) = useless {
            let message = format!("`{name}` is about texts, and no field is `words[...]` or `tokens[...]`");
            let help = "declare the text as `words[50]`: at most 50 words";
            self.fail_with_help(Code::E0501, source.span, message, help);
        }
    }
}

fn int_of(literal: &Literal) -> Option<i64> {
    match literal {
        Literal::Int(number) => Some(*number),
        Literal::Float(_) | Literal::Bool(_) | Literal::Str(_) | Literal::List(_) => None,
    }
}
