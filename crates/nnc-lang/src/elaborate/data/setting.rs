//! The settings of a block: its splits, what is held out, the names of classes.

use super::raw::RawType;
use super::source::{IMAGES, WAV};
use super::synthetic::SYNTHETIC;
use super::{Block, Holdout, Literal, SourceCall, Split};
use crate::diagnostic::{Code, Diagnostic};
use crate::elaborate::value::Value;
use crate::syntax::ast::{Arg, Expr, ExprKind, Ident, Type, TypeKind};
use nnc_graph::Op;

impl<'p> Block<'p> {
    pub(super) fn setting(&mut self, name: &Ident, ty: Option<&'p Type>, value: &Expr) {
        if let Some(before) = self.parts.seen.insert(name.text.clone(), name.span) {
            let message = format!("`{}` is set twice", name.text);
            return self.elaborator.report(Diagnostic::new(Code::E0202, name.span, message).with(before, "first here"));
        }
        match (name.text.as_str(), ty) {
            ("train", Some(ty)) => self.train(ty, value),
            ("train", None) => {
                let help = "write `train: (u8[28, 28], u8) = idx(...)`: the type of one raw example";
                self.fail_with_help(Code::E0502, name.span, "`train` needs a type", help);
            }
            ("test" | "validation", Some(ty)) => self.split_of_files(name, ty, value),
            ("classes", None) => self.parts.classes = self.classes(value),
            ("test", None) => self.parts.test = self.holdout(value),
            ("balance", None) => self.parts.balance = self.balance(value),
            ("validation", None) => self.parts.validation = self.holdout(value),
            (word, _) => {
                let message = format!("`{word}` is a setting and has no type");
                self.fail(Code::E0501, ty.map_or(name.span, |ty| ty.span), message);
            }
        }
    }

    fn train(&mut self, ty: &'p Type, value: &Expr) {
        self.parts.train = Some((ty.clone(), ty.span));
        let types = self.raw_types(ty);
        if let Some(source) = self.source_of("train", value, types.as_deref()) {
            self.parts.splits.insert(0, Split { name: "train".to_owned(), source });
        }
        let Some(types) = types else {
            self.elaborator.bind_name(&Ident { text: "train".to_owned(), span: ty.span }, Value::Poison);
            return;
        };
        let is_tuple = matches!(ty.kind, TypeKind::Tuple(_));
        let mut values = Vec::with_capacity(types.len());
        for (at, raw) in types.into_iter().enumerate() {
            let name = if is_tuple { format!("train.{at}") } else { "train".to_owned() };
            let leaf = self.elaborator.graph.emit(Op::Input { name: name.clone(), ty: raw.ty.clone() }, &[]);
            self.source_names.push(name);
            values.push(Value::Tensor(self.in_program_float(leaf, raw.ty.dtype)));
            self.leaves.push((leaf, raw));
        }
        let value = if is_tuple { Value::tuple(values) } else { values.swap_remove(0) };
        self.elaborator.bind_name(&Ident { text: "train".to_owned(), span: ty.span }, value);
    }

    /// The source of a split, whose examples have these types.
    fn source_of(&mut self, split: &str, expr: &Expr, types: Option<&[RawType]>) -> Option<SourceCall> {
        let mut source = self.source(expr)?;
        if let (ExprKind::Call(_, arguments), SYNTHETIC) = (&expr.kind, source.function.as_str()) {
            self.make(&mut source, arguments, split, types?);
        }
        Some(source)
    }

    /// `test` or `validation` with files of its own.
    fn split_of_files(&mut self, name: &Ident, ty: &'p Type, value: &Expr) {
        let types = self.raw_types(ty);
        let source = self.source_of(&name.text, value, types.as_deref());
        let Some((train, place)) = self.parts.train.clone() else {
            let message = format!("`{}` comes after `train`, whose type it has", name.text);
            return self.fail(Code::E0502, name.span, message);
        };
        let wanted: Vec<RawType> = self.leaves.iter().map(|(_, ty)| ty.clone()).collect();
        let is_tuple = |ty: &Type| matches!(ty.kind, TypeKind::Tuple(_));
        let agrees = types.as_ref().is_none_or(|types| *types == wanted) && is_tuple(&train) == is_tuple(ty);
        if !agrees && !wanted.is_empty() {
            let message = format!("examples of `{}` have the type of `train`", name.text);
            let diagnostic = Diagnostic::new(Code::E0502, ty.span, message);
            return self.elaborator.report(diagnostic.with(place, "which is this"));
        }
        if let Some(source) = source {
            self.parts.splits.push(Split { name: name.text.clone(), source });
        }
    }

    /// `0.1`, or `every(5)`.
    fn holdout(&mut self, expr: &Expr) -> Option<Holdout> {
        let help = "write a fraction such as `0.1`, `every(5)`, or `named(\"*_theo_*\")` for files";
        if let ExprKind::Call(callee, arguments) = &expr.kind
            && matches!(&callee.kind, ExprKind::Name(name) if name == "named")
        {
            return self.named(expr, arguments);
        }
        if let ExprKind::Call(callee, arguments) = &expr.kind
            && matches!(&callee.kind, ExprKind::Name(name) if name == "every")
        {
            let number = match &arguments[..] {
                [Arg { name: None, value }] => self.elaborator.eval(value),
                _ => Value::Poison,
            };
            return match number {
                Value::Int(n) if n.as_number().is_some_and(|n| n >= 2) => n.as_number().map(Holdout::Every),
                _ => {
                    self.fail_with_help(Code::E0501, expr.span, "`every` takes a whole number from 2 on", help);
                    None
                }
            };
        }
        match self.elaborator.eval(expr) {
            Value::Float(Some(part)) if part > 0.0 && part < 1.0 => Some(Holdout::Fraction(part)),
            Value::Poison => None,
            other => {
                let found = self.elaborator.describe(&other);
                self.fail_with_help(Code::E0501, expr.span, format!("this is {found}, not a part of the data"), help);
                None
            }
        }
    }

    /// `named("*_theo_*", "*_george_*")`.
    fn named(&mut self, expr: &Expr, arguments: &[Arg]) -> Option<Holdout> {
        let mut patterns = Vec::with_capacity(arguments.len());
        for argument in arguments {
            match self.literal(&argument.value)? {
                Literal::Str(text) if argument.name.is_none() && !text.is_empty() => patterns.push(text),
                _ => patterns.clear(),
            }
        }
        let source = self.parts.splits.first().map(|split| split.source.function.as_str());
        if patterns.is_empty() || patterns.len() != arguments.len() {
            let help = "write `named(\"*_theo_*\")`: `*` stands for any letters";
            self.fail_with_help(Code::E0501, expr.span, "`named` takes the forms of names of files", help);
            return None;
        }
        if source.is_some_and(|source| source != WAV && source != IMAGES) {
            let message = "examples have files of their own in `images` and `wav` alone";
            self.fail(Code::E0501, expr.span, message);
            return None;
        }
        Some(Holdout::Named(patterns))
    }

    /// `balance = label`: a field that is made from one whole number of the raw example.
    fn balance(&mut self, expr: &Expr) -> Option<usize> {
        let help = "write `balance = label` behind `label: i32 = i32(train.1)`";
        let field = match &expr.kind {
            ExprKind::Name(name) => self.parts.fields.iter().position(|field| field.name == *name),
            _ => None,
        };
        let Some(field) = field else {
            self.fail_with_help(Code::E0501, expr.span, "`balance` takes the name of a field", help);
            return None;
        };
        let made_from = self.made_from(self.parts.plain[field]);
        let is_class = |at: usize| {
            let ty = &self.leaves[at].1.ty;
            ty.shape.rank() == 0 && !ty.dtype.is_float()
        };
        match made_from[..] {
            [leaf] if is_class(leaf) => Some(leaf),
            _ => {
                let message = "examples are balanced by a whole number of the file, and this field is made of more";
                self.fail_with_help(Code::E0501, expr.span, message, help);
                None
            }
        }
    }

    fn classes(&mut self, expr: &Expr) -> Option<Vec<String>> {
        let value = self.elaborator.eval(expr);
        let Value::List(items) = &value else {
            return self.elaborator.mismatch(&value, "a list of names", expr.span);
        };
        let mut classes = Vec::with_capacity(items.len());
        for item in items.iter() {
            let name = self.elaborator.text(item, expr.span)?.to_string();
            if classes.contains(&name) {
                let help = "each number of a label has a name of its own";
                self.fail_with_help(Code::E0501, expr.span, format!("the class `{name}` is named twice"), help);
                return None;
            }
            classes.push(name);
        }
        Some(classes)
    }
}
