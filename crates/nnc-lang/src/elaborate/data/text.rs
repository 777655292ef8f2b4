//! What holds of a block whose examples are windows of a text, in characters or in byte-pair tokens: how many there are
//! is declared, parts of it are its ends, and what the numbers stand for is its own to say.

use super::source::{TEXT, VOCABULARY};
use super::{Block, Holdout, TextUnit};
use crate::diagnostic::{Code, Diagnostic};
use nnc_graph::{DType, TensorType};

impl Block<'_> {
    /// Checks the block when its train or its test is a text, and makes its fractions tails.
    pub(super) fn check_text(&mut self) {
        if self.parts.splits.first().is_none_or(|split| split.name != "train") {
            return;
        }
        let of_tokens = self.is_running_tokens();
        if !of_tokens && self.leaves.iter().any(|(_, raw)| raw.unit.is_some()) {
            return;
        }
        let texts: Vec<bool> = self.parts.splits.iter().map(|split| split.source.function == TEXT).collect();
        match texts.iter().position(|&is_text| is_text != texts[0]) {
            None if !texts[0] => return,
            // `words` checks the tables of tokens.
            None if of_tokens => {}
            None => self.check_other_texts(),
            Some(at) => {
                let (train, test) = (&self.parts.splits[0].source, &self.parts.splits[at].source);
                let own = if of_tokens { "tokens" } else { "characters" };
                let message = format!("a text is numbered by the {own} of `train`: both are a `text`, or none");
                let diagnostic = Diagnostic::new(Code::E0502, test.span, message).with(train.span, "`train` is this");
                return self.elaborator.report(diagnostic);
            }
        }
        match of_tokens {
            true => self.check_tokens(),
            false => self.check_window(),
        }
        if let Some(&span) = self.parts.seen.get("classes") {
            let own = if of_tokens { "tokens" } else { "characters" };
            self.fail(Code::E0501, span, format!("the classes of a text are its {own}"));
        }
        let (test, validation) = (self.parts.test.take(), self.parts.validation.take());
        self.parts.test = self.tail("test", test);
        self.parts.validation = self.tail("validation", validation);
    }

    /// The type of an example, and the number of characters.
    fn check_window(&mut self) {
        let Some((_, place)) = self.parts.train else { return };
        let source = self.parts.splits[0].source.clone();
        let Some(vocabulary) = source.vocabulary() else {
            let message = format!("`{TEXT}` needs `{VOCABULARY}`, the number of different characters");
            let help = "write `text(\"input.txt\", vocabulary=65)`; a wrong number is met with the right one";
            return self.fail_with_help(Code::E0501, source.span, message, help);
        };
        let is_window =
            |ty: &TensorType| ty.shape.rank() == 1 && ty.shape[0].as_number().is_some_and(|length| length >= 2);
        let window = match &self.leaves[..] {
            [(_, raw)] if is_window(&raw.ty) => raw.ty.dtype,
            // The type itself is wrong.
            [] => return,
            _ => {
                let help = "write `train: i32[65] = text(...)`: the numbers of 65 characters in a row";
                let message = "an example of a text is two or more characters in a row";
                return self.fail_with_help(Code::E0502, place, message, help);
            }
        };
        let most = match window {
            DType::U8 => 1 << 8,
            DType::I8 => 1 << 7,
            DType::I16 => 1 << 15,
            DType::I32 | DType::I64 => i64::from(u32::from(char::MAX)),
            DType::F32 | DType::F16 | DType::Bf16 | DType::F64 | DType::Bool => 0,
        };
        if vocabulary > most {
            let message = format!("{} does not hold the numbers of {vocabulary} characters", window.name());
            self.fail_with_help(Code::E0502, place, message, "declare it i32");
        }
    }

    /// Whether tokens are the only tensor of an example, which a `text` of one file gives in windows.
    pub(super) fn is_running_tokens(&self) -> bool {
        matches!(&self.leaves[..], [(_, raw)] if raw.unit == Some(TextUnit::Tokens))
    }

    /// A window in tokens holds two or more.
    fn check_tokens(&mut self) {
        let Some((_, place)) = self.parts.train else { return };
        let length = self.leaves.first().and_then(|(_, raw)| raw.ty.shape.first()?.as_number());
        if length.is_some_and(|length| length < 2) {
            let message = "an example of a running text is two or more tokens in a row";
            self.fail_with_help(Code::E0502, place, message, "write `train: tokens[65] = text(...)`");
        }
    }

    /// Other files are numbered by the characters of `train`.
    fn check_other_texts(&mut self) {
        let train = self.parts.splits[0].source.clone();
        for split in self.parts.splits.clone().into_iter().skip(1) {
            if split.source.vocabulary().is_some_and(|count| train.vocabulary() != Some(count)) {
                let message = format!("`{}` has the {VOCABULARY} of `train`", split.name);
                let diagnostic = Diagnostic::new(Code::E0502, split.source.span, message);
                let diagnostic = diagnostic.with(train.span, "which is this");
                self.elaborator.report(diagnostic.help(format!("leave `{VOCABULARY}` out here")));
            }
        }
    }

    /// A part of a text is its end: windows chosen one by one would have their neighbours in train.
    fn tail(&mut self, name: &str, holdout: Option<Holdout>) -> Option<Holdout> {
        match holdout {
            Some(Holdout::Fraction(part) | Holdout::Tail(part)) => Some(Holdout::Tail(part)),
            Some(Holdout::Every(_) | Holdout::Named(_)) => {
                let span = self.parts.seen.get(name).copied().unwrap_or(self.data.name.span);
                let help = "write a fraction such as `0.1`: the end of the text";
                self.fail_with_help(Code::E0501, span, format!("`{name}` of a text is no row here and there"), help);
                None
            }
            None => None,
        }
    }
}
