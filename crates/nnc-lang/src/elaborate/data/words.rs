//! What holds of fields that are words: their source, and the tables that number them.
//!
//! `vocabulary=10000` is one table for all such fields, `vocabulary=[8000, 6000]` one for each.

use super::source::{CSV, LOWERCASE, TEXT, VOCABULARY};
use super::{Block, Literal, SourceCall};
use crate::diagnostic::Code;

/// The numbers of a table that stand for no word: padding, a word outside of the table, the beginning, the end.
const MARKS: usize = 4;

/// The tables of a block.
pub(super) struct Tables {
    /// How many numbers each has.
    pub(super) sizes: Vec<usize>,
    /// For each raw tensor its table, if it is words.
    pub(super) of_fields: Vec<Option<usize>>,
}

impl Block<'_> {
    /// Checks fields of words, and gives them their tables.
    pub(super) fn check_words(&mut self) -> Tables {
        let words: Vec<bool> = self.leaves.iter().map(|(_, raw)| raw.words).collect();
        let count = words.iter().filter(|&&is_words| is_words).count();
        let mut tables = Tables { sizes: Vec::new(), of_fields: vec![None; words.len()] };
        let Some(source) = self.parts.splits.first().map(|split| split.source.clone()) else { return tables };
        if words.is_empty() {
            // The type itself is wrong.
            return tables;
        }
        if count == 0 {
            self.refuse_word_options(&source);
            return tables;
        }
        let place = self.parts.train.as_ref().map_or(source.span, |(_, span)| *span);
        if source.function != CSV && source.function != TEXT {
            let message = format!("`{}` has no words", source.function);
            let help = "words are cells of a `csv`, or lines of a `text`";
            self.fail_with_help(Code::E0502, place, message, help);
            return tables;
        }
        if source.function == TEXT && count < words.len() {
            let help = "a table with a text in each row is a `csv`";
            self.fail_with_help(Code::E0502, place, "the lines of a text are words, in every field", help);
            return tables;
        }
        self.check_other_splits();
        tables.sizes = self.table_sizes(&source, count);
        let shared = tables.sizes.len() == 1;
        let fields = tables.of_fields.iter_mut().zip(&words).filter(|(_, is_words)| **is_words);
        for (next, (field, _)) in fields.enumerate() {
            *field = Some(if shared { 0 } else { next });
        }
        tables
    }

    fn table_sizes(&mut self, source: &SourceCall, count: usize) -> Vec<usize> {
        let sizes: Vec<i64> = match source.option(VOCABULARY) {
            Some(Literal::Int(size)) => vec![*size],
            Some(Literal::List(items)) => items.iter().filter_map(int_of).collect(),
            _ => {
                let message = format!("words need `{VOCABULARY}`, how many numbers there are for them");
                let help = "write `vocabulary=10000`: the most frequent words of `train`, and 4 marks";
                self.fail_with_help(Code::E0501, source.span, message, help);
                return Vec::new();
            }
        };
        if sizes.len() != 1 && sizes.len() != count {
            let message = format!("{} sizes of tables for {count} fields of words", sizes.len());
            let help = "write one number for a table that they share, or a list with one for each";
            self.fail_with_help(Code::E0501, source.span, message, help);
        }
        if let Some(small) = sizes.iter().find(|&&size| size <= MARKS as i64) {
            let message = format!("a table of {small} numbers has no room for a word");
            let help = format!("{MARKS} of them are marks: padding, a word outside of the table, beginning, end");
            self.fail_with_help(Code::E0501, source.span, message, help);
        }
        if let Some(large) = sizes.iter().find(|&&size| size > i64::from(i32::MAX)) {
            self.fail(Code::E0501, source.span, format!("{large} words have no numbers in i32"));
        }
        sizes.into_iter().filter_map(|size| usize::try_from(size).ok()).collect()
    }

    /// The tables are those of `train`.
    fn check_other_splits(&mut self) {
        for split in self.parts.splits.clone().into_iter().skip(1) {
            if let Some(name) = [VOCABULARY, LOWERCASE].into_iter().find(|name| split.source.option(name).is_some()) {
                let message = format!("`{}` has the {name} of `train`", split.name);
                self.fail_with_help(Code::E0502, split.source.span, message, format!("leave `{name}` out here"));
            }
            if split.source.function != CSV && split.source.function != TEXT {
                let message = format!("`{}` has no words, which `{}` takes", split.source.function, split.name);
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
            let message = format!("`{name}` is about words, and no field is `words[...]`");
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
