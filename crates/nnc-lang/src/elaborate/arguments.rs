//! Arguments of a call: which parameter each belongs to, and their values in the frame of the callee.
//!
//! Compile-time arguments bind first, so that the dims of tensor parameters may use them; then tensors unify with their
//! types and bind dims; then defaults, which may use both.

use super::Elaborator;
use super::dims::Equation;
use super::types::{Misfit, is_tensor};
use super::value::{Args, Argument, Value};
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::syntax::ast::{DimExpr, Expr, ExprKind, Function, Param, TypeKind, UnaryOperator};

/// For each parameter the argument it gets.
pub type Matched = Vec<Option<Argument>>;

impl Elaborator<'_> {
    /// Assigns arguments to parameters by position, then by name. Settings alone (`layer enc = Encoder(64)`) skip the
    /// tensor parameters.
    pub(super) fn match_arguments(
        &mut self,
        function: &Function,
        args: &Args,
        span: Span,
        settings_only: bool,
    ) -> Option<Matched> {
        let mut matched: Matched = vec![None; function.params.len()];
        let takes = |param: &Param| !(settings_only && is_tensor(&param.ty));
        let mut positions = (0..function.params.len()).filter(|&at| takes(&function.params[at]));
        let mut ok = true;
        let mut named_before = false;
        for argument in &args.items {
            let at = match &argument.name {
                Some((name, place)) => {
                    named_before = true;
                    self.named_parameter(function, name, *place, settings_only)
                }
                None if named_before => {
                    let message = "a positional argument cannot follow a named one";
                    self.report(Diagnostic::new(Code::E0204, argument.span, message));
                    None
                }
                None => positions.next().or_else(|| {
                    self.report_too_many(function, args, argument.span);
                    None
                }),
            };
            let Some(at) = at else {
                ok = false;
                continue;
            };
            if let Some(before) = &matched[at] {
                let message = format!("`{}` is given twice", function.params[at].name.text);
                let diagnostic = Diagnostic::new(Code::E0204, argument.span, message).with(before.span, "first here");
                self.report(diagnostic);
                ok = false;
                continue;
            }
            matched[at] = Some(argument.clone());
        }
        ok = ok && (settings_only || self.all_given(function, &matched, span));
        ok.then_some(matched)
    }

    fn named_parameter(&mut self, function: &Function, name: &str, place: Span, settings_only: bool) -> Option<usize> {
        let found = function.params.iter().position(|param| param.name.text == name);
        if let Some(at) = found {
            if settings_only && is_tensor(&function.params[at].ty) {
                let message = format!("`{name}` is an input of `{}`, given where it is used", function.name.text);
                self.report(Diagnostic::new(Code::E0204, place, message));
                return None;
            }
            return Some(at);
        }
        let message = format!("`{}` has no argument `{name}`", function.name.text);
        let mut diagnostic = Diagnostic::new(Code::E0204, place, message);
        let names = function.params.iter().map(|param| param.name.text.as_str());
        diagnostic = match closest(name, names) {
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None => diagnostic.help(self.signature_help(function)),
        };
        self.report(diagnostic);
        None
    }

    fn report_too_many(&mut self, function: &Function, args: &Args, span: Span) {
        let (takes, given) = (function.params.len(), args.items.len());
        let noun = if takes == 1 { "argument" } else { "arguments" };
        let message = format!("`{}` takes {takes} {noun}, and {given} are given", function.name.text);
        let help = self.signature_help(function);
        self.report(Diagnostic::new(Code::E0204, span, message).help(help));
    }

    fn all_given(&mut self, function: &Function, matched: &Matched, span: Span) -> bool {
        let missing: Vec<String> = function
            .params
            .iter()
            .zip(matched)
            .filter(|(param, given)| given.is_none() && param.default.is_none())
            .map(|(param, _)| format!("`{}`", param.name.text))
            .collect();
        if missing.is_empty() {
            return true;
        }
        let message = format!("`{}` also needs {}", function.name.text, missing.join(" and "));
        let help = self.signature_help(function);
        self.report(Diagnostic::new(Code::E0204, span, message).help(help));
        false
    }

    fn signature_help(&self, function: &Function) -> String {
        let words: Vec<&str> = self.program.text(function.signature).split_whitespace().collect();
        format!("its signature is `{}`", words.join(" "))
    }

    /// Binds the matched arguments in the innermost frame, which is the callee's. False after an error.
    pub(super) fn bind_arguments(&mut self, function: &Function, matched: &Matched, span: Span) -> bool {
        let mut ok = true;
        let mut later: Vec<Equation> = Vec::new();
        let pairs = || function.params.iter().zip(matched);
        for (param, argument) in pairs().filter(|(param, _)| !is_tensor(&param.ty)) {
            match (argument, &param.default) {
                (Some(argument), _) => ok &= self.bind_argument(function, param, argument, &mut later),
                // A size that an input has is what the input says: `image: f32[N, 3, side, side], side: int = 224`.
                (None, Some(default)) if is_literal(default) && !is_size_of_input(function, param) => {
                    self.bind_default(param, default, &mut later);
                }
                (None, _) => {}
            }
        }
        // Tensors before numbers: a number takes the shape that others bind.
        for numbers in [false, true] {
            for (param, argument) in pairs().filter(|(param, _)| is_tensor(&param.ty)) {
                if let Some(argument) = argument.as_ref().filter(|argument| is_number(&argument.value) == numbers) {
                    ok &= self.bind_argument(function, param, argument, &mut later);
                }
            }
        }
        ok &= self.settle(function, later, span);
        if matched.iter().flatten().any(|argument| argument.value.is_poison()) {
            return ok; // the dims that defaults use may not be bound
        }
        for (param, _) in pairs().filter(|(_, argument)| argument.is_none()) {
            if let Some(default) = param.default.as_ref().filter(|_| !self.has_binding(&param.name.text)) {
                let mut later = Vec::new();
                self.bind_default(param, default, &mut later);
                ok &= self.settle(function, later, span);
            }
        }
        ok
    }

    /// Binds those compile-time arguments that are given.
    pub(super) fn bind_arguments_only(&mut self, function: &Function, matched: &Matched) {
        for (param, argument) in function.params.iter().zip(matched) {
            if let Some(argument) = argument.as_ref().filter(|_| !is_tensor(&param.ty)) {
                self.bind_argument(function, param, argument, &mut Vec::new());
            }
        }
    }

    pub(super) fn has_binding(&self, name: &str) -> bool {
        self.frames.last().is_some_and(|frame| frame.bindings.contains_key(name))
    }

    fn bind_argument(
        &mut self,
        function: &Function,
        param: &Param,
        argument: &Argument,
        later: &mut Vec<Equation>,
    ) -> bool {
        let (value, ok) = match self.fit(&param.ty, &argument.value, argument.span, later) {
            Ok(value) => (value, true),
            Err(misfit) => {
                self.report_misfit(function, param, argument, misfit);
                (Value::Poison, false)
            }
        };
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(&param.name.text, value, argument.span);
        }
        ok
    }

    pub(super) fn bind_default(&mut self, param: &Param, default: &Expr, later: &mut Vec<Equation>) {
        let value = self.eval(default);
        let value = match self.fit(&param.ty, &value, default.span, later) {
            Ok(value) => value,
            Err(misfit) => {
                let (wanted, found) = (self.show_type(&param.ty), self.describe(&value));
                let message = format!("the default of `{}` is {found}, not {wanted}", param.name.text);
                self.report_with(Diagnostic::new(Code::E0303, default.span, message), misfit, default.span);
                Value::Poison
            }
        };
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(&param.name.text, value, param.name.span);
        }
    }

    fn report_misfit(&mut self, function: &Function, param: &Param, argument: &Argument, misfit: Misfit) {
        let found = self.describe(&argument.value);
        let wanted = self.program.text(param.ty.span).to_owned();
        let (callee, name) = (&function.name.text, &param.name.text);
        let code = misfit.code.unwrap_or(Code::E0303);
        let message = format!("`{callee}` takes {wanted} as `{name}`, and this is {found}");
        let mut diagnostic = Diagnostic::new(code, argument.span, message);
        if let Value::Tensor(tensor) = argument.value {
            diagnostic = self.with_birth(diagnostic, tensor, argument.span);
            if !is_tensor(&param.ty) {
                diagnostic =
                    diagnostic.help("a compile-time value is wanted; a tensor is only known when the program runs");
            }
        }
        self.report_with(diagnostic, misfit, argument.span);
    }

    /// Reports a misfit with its reason and its places.
    pub(super) fn report_with(&mut self, mut diagnostic: Diagnostic, misfit: Misfit, span: Span) {
        if !misfit.reason.is_empty() && diagnostic.primary.text.is_empty() {
            diagnostic = diagnostic.label(misfit.reason);
        }
        for (place, text) in misfit.labels {
            let known = diagnostic.secondary.iter().any(|label| label.span == place);
            if place != span && place != Span::default() && !known {
                diagnostic = diagnostic.with(place, text);
            }
        }
        if let Some(help) = misfit.help.filter(|_| diagnostic.help.is_none()) {
            diagnostic = diagnostic.help(help);
        }
        self.report(diagnostic);
    }

    /// Solves what had to wait for other arguments.
    pub(super) fn settle(&mut self, function: &Function, later: Vec<Equation>, span: Span) -> bool {
        match self.solve(later) {
            Ok(()) => true,
            Err((misfit, place)) => {
                let code = misfit.code.unwrap_or(Code::E0303);
                let message = format!("`{}`: {}", function.name.text, misfit.reason);
                let diagnostic = Diagnostic::new(code, if place == Span::default() { span } else { place }, message);
                self.report_with(diagnostic, Misfit { reason: String::new(), ..misfit }, place);
                false
            }
        }
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_))
}

/// Whether a compile-time parameter stands alone as a dim of an input.
fn is_size_of_input(function: &Function, param: &Param) -> bool {
    let is_it = |dim: &DimExpr| matches!(dim, DimExpr::Expr(Expr { kind: ExprKind::Name(name), .. }) if *name == param.name.text);
    function.params.iter().any(|input| match &input.ty.kind {
        TypeKind::Named { dims: Some(dims), .. } if input.default.is_none() => dims.iter().any(is_it),
        TypeKind::Named { .. } | TypeKind::Tuple(_) | TypeKind::List(_) => false,
        TypeKind::Function(..) | TypeKind::Error => false,
    })
}

/// Whether a default depends on nothing.
pub(super) fn is_literal(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Bool(_) | ExprKind::Str(_) => true,
        ExprKind::Unary(UnaryOperator::Neg, inner) | ExprKind::Paren(inner) => is_literal(inner),
        ExprKind::List(items) => items.iter().all(is_literal),
        _ => false,
    }
}
