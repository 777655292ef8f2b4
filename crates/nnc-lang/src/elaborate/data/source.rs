//! Calls of data sources: which there are, and what they take.

use super::synthetic::{COUNT, SYNTHETIC};
use super::{Block, Literal, SourceCall};
use crate::diagnostic::{Code, Span, closest};
use crate::elaborate::value::Value;
use crate::syntax::ast::{Arg, Expr, ExprKind};

/// The data sources, each with its options.
const SOURCES: [(&str, &[SourceOption]); 9] = [
    ("idx", &[]),
    (
        CSV,
        &[
            ("header", Takes::Bool),
            ("separator", Takes::Letter),
            ("quotes", Takes::Bool),
            (VOCABULARY, Takes::Counts),
            (LOWERCASE, Takes::Bool),
        ],
    ),
    ("npy", &[]),
    ("npz", &[("arrays", Takes::Names)]),
    ("safetensors", &[("tensors", Takes::Names)]),
    (IMAGES, &[("label", Takes::Pattern)]),
    (TEXT, &[(VOCABULARY, Takes::Counts), (LOWERCASE, Takes::Bool)]),
    (WAV, &[(RATE, Takes::Rate), ("label", Takes::Pattern)]),
    (SYNTHETIC, &[(COUNT, Takes::Count)]),
];
/// The source of tables as text.
pub(super) const CSV: &str = "csv";
/// The source whose examples are windows of characters, or lines of words.
pub(super) const TEXT: &str = "text";
/// Its option that says how many samples a second has.
pub(super) const RATE: &str = "rate";
/// The source of pictures.
pub(super) const IMAGES: &str = "images";
/// The source of sounds.
pub(super) const WAV: &str = "wav";
/// The option that says how many different characters there are, or how many numbers a table of words has.
pub(super) const VOCABULARY: &str = "vocabulary";
/// The option that makes words equal that differ in capital letters alone.
pub(super) const LOWERCASE: &str = "lowercase";

/// An option of a data source, and what it takes.
type SourceOption = (&'static str, Takes);

/// What an option of a data source takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    Bool,
    Letter,
    Names,
    Rate,
    Count,
    Counts,
    Pattern,
}

impl Takes {
    fn fits(self, literal: &Literal) -> bool {
        match (self, literal) {
            (Self::Bool, Literal::Bool(_)) => true,
            (Self::Letter, Literal::Str(text)) => text.len() == 1,
            (Self::Names, Literal::List(items)) => items.iter().all(|item| matches!(item, Literal::Str(_))),
            (Self::Rate, Literal::Int(rate)) => (1..=i64::from(u32::MAX)).contains(rate),
            (Self::Count | Self::Counts, Literal::Int(count)) => *count >= 1,
            (Self::Counts, Literal::List(items)) => items.iter().all(|item| Self::Count.fits(item)),
            (Self::Pattern, Literal::Str(text)) => text.matches("{}").count() == 1,
            (Self::Bool | Self::Letter | Self::Names | Self::Rate | Self::Count, _) => false,
            (Self::Counts | Self::Pattern, _) => false,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Bool => "`true` or `false`",
            Self::Letter => "one letter, as `\";\"`",
            Self::Names => "a list of names, as `[\"x\", \"y\"]`",
            Self::Rate => "a whole number from 1 to 4294967295",
            Self::Count => "a whole number from 1 on",
            Self::Counts => "a whole number from 1 on, or a list of them",
            Self::Pattern => "the form of a file's name with `{}` for the label, as `\"{}_*.wav\"`",
        }
    }
}

impl Block<'_> {
    /// `idx("images.gz", "labels.gz")`.
    pub(super) fn source(&mut self, expr: &Expr) -> Option<SourceCall> {
        let ExprKind::Call(callee, arguments) = &expr.kind else {
            self.fail_with_help(Code::E0501, expr.span, "a data source is called here", "write `csv(\"table.csv\")`");
            return None;
        };
        let ExprKind::Name(function) = &callee.kind else {
            self.fail(Code::E0501, callee.span, "a data source is called by its name");
            return None;
        };
        let Some((_, options)) = SOURCES.iter().find(|(name, _)| name == function) else {
            self.unknown_source(function, callee.span);
            return None;
        };
        let mut found = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let option = self.source_option(function, options, argument)?;
            if function == SYNTHETIC && option.is_none() {
                continue;
            }
            let literal = self.literal(&argument.value)?;
            if let Some((name, takes)) = option.filter(|(_, takes)| !takes.fits(&literal)) {
                self.fail(Code::E0501, argument.value.span, format!("`{name}` takes {}", takes.in_words()));
                return None;
            }
            if option.is_none() && !matches!(literal, Literal::Str(_)) {
                let shown = self.elaborator.program.text(argument.value.span);
                let message = format!("`{function}` takes the names of files or folders, not `{shown}`");
                self.fail(Code::E0501, argument.value.span, message);
                return None;
            }
            let name = option.map(|(name, _)| name.to_owned());
            if name.is_some() && found.iter().any(|(before, _)| *before == name) {
                self.fail(Code::E0501, argument.value.span, format!("`{}` is there already", name.unwrap_or_default()));
                return None;
            }
            found.push((name, literal));
        }
        let call = SourceCall { function: function.clone(), arguments: found, maker: None, span: expr.span };
        if function == SYNTHETIC {
            return self.checked_synthetic(call, arguments);
        }
        let found = &call.arguments;
        let count = found.iter().filter(|(name, _)| name.is_none()).count();
        if function == IMAGES && count > 1 && found.iter().any(|(name, _)| name.is_some()) {
            let message = "`label` is about one folder; of several each fills a field, and none is a label";
            self.fail(Code::E0501, expr.span, message);
            return None;
        }
        if count == 0 {
            self.fail(Code::E0501, expr.span, format!("`{function}` needs the name of a file or folder"));
            return None;
        }
        if let [(names, Takes::Names)] = *options
            && !found.iter().any(|(name, _)| name.is_some())
        {
            let help = format!("write `{function}(\"data.{function}\", {names}=[\"x\", \"y\"])`");
            let message = format!("`{function}` needs the names of the {names}, one a field");
            self.fail_with_help(Code::E0501, expr.span, message, help);
            return None;
        }
        if function == WAV && !found.iter().any(|(name, _)| name.as_deref() == Some(RATE)) {
            let help = "write `wav(\"sounds\", rate=16000)`; a wrong rate is met with the right one";
            self.fail_with_help(Code::E0501, expr.span, "`wav` needs `rate`, the samples of a second", help);
            return None;
        }
        Some(call)
    }

    /// `synthetic(FUNCTION, SOURCE, count=N)`: what it is given; how examples are made is added when their type is
    /// known.
    fn checked_synthetic(&mut self, call: SourceCall, arguments: &[Arg]) -> Option<SourceCall> {
        let mut unnamed = arguments.iter().filter(|argument| argument.name.is_none()).skip(1);
        if let Some(Arg { value: Expr { kind: ExprKind::Int(_), span }, .. }) = unnamed.next() {
            let count = self.elaborator.program.text(*span);
            let message = "a number here says nothing: the second is a data source";
            self.fail_with_help(Code::E0501, *span, message, format!("write `count={count}`"));
            return None;
        }
        let help = "write `synthetic(FUNCTION, count=1000)`, or `synthetic(FUNCTION, idx(\"images.gz\"))`";
        let given = arguments.iter().filter(|argument| argument.name.is_none()).count();
        let message = match given {
            0 => "`synthetic` needs what makes an example",
            1 if call.count().is_none() => "`synthetic` needs `count`, how many examples it makes",
            1 | 2 => return Some(call),
            _ => "`synthetic` takes a function and one source",
        };
        self.fail_with_help(Code::E0501, call.span, message, help);
        None
    }

    /// Each source names as many files as it reads for the declared fields.
    pub(super) fn check_files(&mut self) {
        let fields = self.leaves.len();
        let is_lines = self.leaves.iter().any(|(_, raw)| raw.unit.is_some()) && !self.is_running_tokens();
        if fields == 0 {
            // The type itself is wrong.
            return;
        }
        for source in self.parts.splits.clone().into_iter().map(|split| split.source) {
            let named = source.arguments.iter().filter(|(name, _)| name.is_none()).count();
            let (fits, takes) = match source.function.as_str() {
                "idx" | "npy" => (named == fields, "one file for each field"),
                TEXT if is_lines => (named == fields, "one file for each field"),
                IMAGES => (named == 1 || named == fields, "one folder, or one for each field"),
                SYNTHETIC => (true, ""),
                _ => (named == 1, "one file"),
            };
            if !fits {
                let (are, is) = (if named == 1 { "is" } else { "are" }, if fields == 1 { "is" } else { "are" });
                let message =
                    format!("`{}` takes {takes}: {named} {are} named, and {fields} {is} declared", source.function);
                self.fail(Code::E0502, source.span, message);
            }
        }
    }

    fn unknown_source(&mut self, name: &str, span: Span) {
        let known = SOURCES.iter().map(|(name, _)| *name);
        let help = match closest(name, known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        };
        self.fail_with_help(Code::E0501, span, format!("there is no data source `{name}`"), help);
    }

    fn source_option(
        &mut self,
        function: &str,
        options: &[SourceOption],
        argument: &Arg,
    ) -> Option<Option<SourceOption>> {
        let Some(name) = &argument.name else { return Some(None) };
        if let Some(&known) = options.iter().find(|(option, _)| *option == name.text) {
            return Some(Some(known));
        }
        let message = format!("`{function}` has no option `{}`", name.text);
        match closest(&name.text, options.iter().map(|(option, _)| *option)) {
            Some(meant) => self.fail_with_help(Code::E0501, name.span, message, format!("did you mean `{meant}`?")),
            None => self.fail(Code::E0501, name.span, message),
        }
        None
    }

    pub(super) fn literal(&mut self, expr: &Expr) -> Option<Literal> {
        let value = self.elaborator.eval(expr);
        self.literal_of(value, expr.span)
    }

    fn literal_of(&mut self, value: Value, span: Span) -> Option<Literal> {
        match value {
            Value::Int(dim) => dim.as_number().map(Literal::Int),
            Value::Float(number) => number.map(Literal::Float),
            Value::Bool(truth) => truth.map(Literal::Bool),
            Value::Str(text) => text.map(|text| Literal::Str(text.to_string())),
            Value::List(items) => {
                items.iter().map(|item| self.literal_of(item.clone(), span)).collect::<Option<_>>().map(Literal::List)
            }
            other => self.elaborator.mismatch(&other, "a string, number, bool or a list of them", span),
        }
    }
}
