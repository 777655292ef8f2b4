//! Calls: functions, models and their paths, layers, function-typed parameters.

use super::arguments::Matched;
use super::bounds::CALL_DEPTH;
use super::program::ItemId;
use super::scope::{Frame, FrameKind, RECIPE};
use super::statement::Flow;
use super::types::{FunctionType, is_tensor};
use super::value::{Args, Argument, Callable, Layer, Value};
use super::{Elaborator, LayerUse, UseFact};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{Body, Function, FunctionKind, Ident};
use nnc_graph::{TensorType, ValueId};

impl Elaborator<'_> {
    /// Calls what `callee` is. `name` is what `as` gives to the use of a model.
    pub fn call(&mut self, callee: &Value, args: Args, span: Span, name: Option<&Ident>) -> Value {
        let input = args.items.iter().find_map(|argument| match argument.value {
            Value::Tensor(tensor) => Some(tensor),
            _ => None,
        });
        let result = match callee {
            Value::Function(callable) => match &**callable {
                Callable::Item(item) => self.call_item(*item, &args, span, name),
                Callable::Builtin("grad") => self.grad(&args, span),
                Callable::Builtin(builtin) => self.builtin(builtin, &args, span),
                Callable::Opaque(ty) => self.call_opaque(ty, &args, span),
            },
            Value::Layer(layer) => self.use_layer(layer, &args, span),
            Value::Poison => Value::Poison,
            other => {
                let message = format!("{} cannot be called", self.describe(other));
                self.report(Diagnostic::new(Code::E0206, span, message));
                Value::Poison
            }
        };
        self.note_use(callee, input, &result, span, name);
        result
    }

    /// Remembers the user's call that gave a value.
    fn note_use(&mut self, callee: &Value, input: Option<ValueId>, result: &Value, span: Span, name: Option<&Ident>) {
        let is_model = matches!(callee, Value::Function(callable) if matches!(&**callable, Callable::Item(item)
            if self.program.function(*item).is_some_and(|function| function.kind == FunctionKind::Model)));
        if let Some(name) = name.filter(|_| !is_model) {
            let message = "`as` names the use of a model: this has no parameters to be named";
            self.report(Diagnostic::new(Code::E0403, name.span, message));
        }
        if self.initialising.is_some() || self.program.is_library(span) {
            return;
        }
        self.born_at(result, span);
        if let Value::Tensor(tensor) = result {
            let callee = match callee {
                Value::Function(callable) => match &**callable {
                    Callable::Item(item) => {
                        self.program.function(*item).map(|f| f.name.text.clone()).unwrap_or_default()
                    }
                    Callable::Builtin(name) => (*name).to_owned(),
                    Callable::Opaque(_) => String::new(),
                },
                Value::Layer(layer) => layer.name.clone(),
                _ => String::new(),
            };
            self.uses.insert(*tensor, UseFact { callee, span, input });
        }
    }

    fn call_item(&mut self, item: ItemId, args: &Args, span: Span, name: Option<&Ident>) -> Value {
        let Some(function) = self.program.function(item) else { return Value::Poison };
        match function.kind {
            FunctionKind::Fn => {
                let path = self.frames.last().map(|frame| frame.path_of("")).unwrap_or_default();
                self.apply(item, args, path.trim_end_matches('.'), span)
            }
            FunctionKind::Model => match self.path_of_use(function, span, name) {
                Some(path) => {
                    let result = self.apply(item, args, &path, span);
                    self.note_layer(&path, function, &result);
                    result
                }
                None => Value::Poison,
            },
            FunctionKind::Optimizer => {
                let message = format!("the optimizer `{}` stands only after `using`", function.name.text);
                self.report(Diagnostic::new(Code::E0401, span, message));
                Value::Poison
            }
            FunctionKind::Metric => {
                let message = format!("the metric `{}` stands only after `metric NAME =`", function.name.text);
                self.report(Diagnostic::new(Code::E0401, span, message));
                Value::Poison
            }
        }
    }

    /// The path of a further use of a model; `None` where models cannot be used.
    fn path_of_use(&mut self, function: &Function, span: Span, name: Option<&Ident>) -> Option<String> {
        let frame = self.frames.last_mut()?;
        if !frame.kind.owns_models() || self.initialising.is_some() {
            let who = match self.initialising {
                Some(_) => "a first value".to_owned(),
                None => format!("{} {}", frame.kind.article(), frame.kind.word()),
            };
            let name = &function.name.text;
            let is_of_examples = frame.kind == FrameKind::Data && self.initialising.is_none();
            let (why, help) = match is_of_examples {
                true => (": it is about one example at a time", "use it in the recipe, on the fields of a batch"),
                false => (", which may own parameters", "declare it as a `model`"),
            };
            let message = format!("{who} cannot use the model `{name}`{why}");
            self.report(Diagnostic::new(Code::E0401, span, message).help(help));
            return None;
        }
        let Some(name) = name else {
            let path = frame.count_use(&function.name.text, span);
            self.note_own(&path, &function.name.text, span);
            return Some(path);
        };
        let path = frame.path_of(&name.text);
        match frame.take(&path, name.span) {
            Ok(()) => {
                self.note_own(&path, &name.text, name.span);
                Some(path)
            }
            Err(before) => {
                let diagnostic = frame.taken_before((&name.text, name.span), before);
                self.report(diagnostic);
                None
            }
        }
    }

    /// Applies a function or model at a path: its arguments are matched and bound, its body is evaluated.
    pub fn apply(&mut self, item: ItemId, args: &Args, path: &str, span: Span) -> Value {
        let Some(function) = self.program.function(item) else { return Value::Poison };
        if self.program.is_broken(item) || !self.may_call(item, function, span) {
            return Value::Poison;
        }
        let Some(matched) = self.match_arguments(function, args, span, false) else { return Value::Poison };
        self.enter(item, function, path, span);
        let result = self.apply_matched(function, &matched, args.expected.as_ref(), span);
        self.leave();
        result
    }

    fn apply_matched(
        &mut self,
        function: &Function,
        matched: &Matched,
        expected: Option<&TensorType>,
        span: Span,
    ) -> Value {
        if !self.bind_arguments(function, matched, span) {
            return self.unknown_result(function);
        }
        if matched.iter().flatten().any(|argument| argument.value.is_poison()) {
            return self.unknown_result(function);
        }
        self.bind_expected(function, expected, span);
        self.run_body(function)
    }

    /// What a call gives after an error in its arguments: its declared type when all its dims are known, so that one
    /// mistake is reported once and the next is still found.
    fn unknown_result(&mut self, function: &Function) -> Value {
        match function.result.as_ref().and_then(|ty| self.quiet_type(ty)) {
            Some(ty) if self.generic => self.unknown_tensor(ty),
            _ => Value::Poison,
        }
    }

    /// Evaluates a body in the innermost frame, and holds its result to the declared type.
    pub(super) fn run_body(&mut self, function: &Function) -> Value {
        let expected = function.result.as_ref().and_then(|ty| self.quiet_type(ty));
        match &function.body {
            Body::Expr(expr) => {
                let value = self.eval_expected(expr, expected.as_ref());
                self.check_result(function, value, expr.span)
            }
            Body::Block(block) => match self.exec_block(block) {
                Flow::Returned(value) => value,
                Flow::Next => self.nothing_returned(function),
            },
        }
    }

    fn nothing_returned(&mut self, function: &Function) -> Value {
        if let Some(result) = &function.result {
            let has_error = self.report.has_errors();
            let message = format!("`{}` ends without a `return`", function.name.text);
            if !has_error || self.unknown_branches == 0 {
                self.report(Diagnostic::new(Code::E0407, result.span, message).label("promised here"));
            }
            return Value::Poison;
        }
        Value::tuple(Vec::new())
    }

    /// Opens the frame of a call.
    pub(super) fn enter(&mut self, item: ItemId, function: &Function, path: &str, span: Span) {
        let kind = match function.kind {
            FunctionKind::Fn => FrameKind::Function,
            FunctionKind::Model => FrameKind::Model,
            FunctionKind::Optimizer => FrameKind::Optimizer,
            FunctionKind::Metric => FrameKind::Metric,
        };
        let mut frame = Frame::new(kind, &function.name.text, path, item.module, span);
        frame.declared = self.program.item_span(item);
        frame.item = Some(item);
        if let Some(recipe) = self.frames.first().filter(|outer| path.is_empty() && outer.path == RECIPE) {
            // The one model of a recipe: beside its paths lie those of the recipe.
            let _is_first = frame.take(RECIPE, recipe.declared);
        }
        frame.first_parameter = function.params.first().map(|param| param.name.text.clone());
        self.push(frame);
    }

    /// Opens a frame; nodes from here on come from it.
    pub fn push(&mut self, frame: Frame) {
        self.frames.push(frame);
        self.refresh_origin();
    }

    /// Closes the innermost frame.
    pub fn leave(&mut self) -> Option<Frame> {
        let frame = self.frames.pop();
        self.refresh_origin();
        frame
    }

    fn may_call(&mut self, item: ItemId, function: &Function, span: Span) -> bool {
        let name = &function.name.text;
        if let Some(at) = self.frames.iter().position(|frame| frame.item == Some(item)) {
            let mut diagnostic = Diagnostic::new(Code::E0402, span, format!("`{name}` uses itself"));
            for frame in &self.frames[at + 1..] {
                diagnostic = diagnostic.with(frame.call_site, format!("by way of `{}`", frame.name));
            }
            self.report(diagnostic);
            return false;
        }
        if self.frames.len() >= CALL_DEPTH {
            let message = format!("calls nest deeper than {CALL_DEPTH}");
            self.report(Diagnostic::new(Code::E0406, span, message));
            return false;
        }
        true
    }

    /// Makes a layer: a model with its settings, as named arguments.
    pub fn layer_of(&mut self, name: &str, path: &str, callee: &Value, args: Args, span: Span) -> Option<Layer> {
        let item = match callee {
            Value::Function(callable) => match &**callable {
                Callable::Item(item) => *item,
                Callable::Builtin(_) | Callable::Opaque(_) => return self.mismatch(callee, "a model", span),
            },
            Value::Layer(known) => {
                let message = format!("`{}` is a layer already, which every use of it shares", known.name);
                let help = "call it as it is; for a second one, give the recipe a name that is no model's";
                self.report(Diagnostic::new(Code::E0311, span, message).help(help));
                return None;
            }
            other => return self.mismatch(other, "a model", span),
        };
        let function = self.program.function(item)?;
        if function.kind != FunctionKind::Model {
            let message = format!("`{}` is no model: it has no parameters to share", function.name.text);
            self.report(Diagnostic::new(Code::E0311, span, message));
            return None;
        }
        let matched = self.match_arguments(function, &args, span, true)?;
        let arguments = named(function, matched);
        Some(Layer { name: name.to_owned(), path: path.to_owned(), item, arguments, frozen: false, span })
    }

    /// Uses a layer: its model at its path, so that a further use finds the parameters of the first.
    pub fn use_layer(&mut self, layer: &Layer, args: &Args, span: Span) -> Value {
        let allowed = self.frames.last().is_some_and(|frame| frame.kind.owns_models()) && self.initialising.is_none();
        if !allowed {
            let message = format!("the layer `{}` can be used only in a model or recipe", layer.name);
            let diagnostic = Diagnostic::new(Code::E0401, span, message);
            let function = self.frames.last().filter(|frame| frame.kind == FrameKind::Function);
            let own = function.filter(|frame| !self.program.is_library(frame.declared) && self.initialising.is_none());
            let help = own.map(|frame| format!("declare `{}` as a `model`", frame.name));
            self.report(help.into_iter().fold(diagnostic, Diagnostic::help));
            return Value::Poison;
        }
        let mut items = args.items.clone();
        items.extend(layer.arguments.iter().cloned());
        let args = Args { items, expected: args.expected.clone() };
        let outer = (self.training, self.training_unknown, self.frozen);
        if layer.frozen {
            (self.training, self.training_unknown, self.frozen) = (false, false, true);
        }
        let result = self.apply(layer.item, &args, &layer.path, span);
        (self.training, self.training_unknown, self.frozen) = outer;
        if let Some(function) = self.program.function(layer.item) {
            self.note_layer(&layer.path, function, &result);
        }
        result
    }

    /// A call of a function-typed parameter while a body is checked on its own: its type is all that is known.
    fn call_opaque(&mut self, ty: &FunctionType, args: &Args, span: Span) -> Value {
        if args.items.len() != ty.parameters.len() {
            let message = format!("this function takes {} arguments, not {}", ty.parameters.len(), args.items.len());
            self.report(Diagnostic::new(Code::E0204, span, message));
            return Value::Poison;
        }
        let Some(outer) = self.frames.last() else { return Value::Poison };
        // Dims of the surrounding signature hold in the function type; its own bind anew at each call.
        let frame = outer.clone();
        self.frames.push(frame);
        let mut later = Vec::new();
        for (parameter, argument) in ty.parameters.iter().zip(&args.items) {
            if let Err(misfit) = self.fit(parameter, &argument.value, argument.span, &mut later) {
                let (wanted, found) = (self.show_type(parameter), self.describe(&argument.value));
                let code = misfit.code.unwrap_or(Code::E0303);
                let diagnostic = Diagnostic::new(code, argument.span, format!("expected {wanted}, found {found}"));
                self.report_with(diagnostic, misfit, argument.span);
            }
        }
        let result = self.quiet_type(&ty.result).or_else(|| args.expected.clone());
        self.frames.pop();
        result.map_or(Value::Poison, |ty| self.unknown_tensor(ty))
    }

    /// Nodes from here on come from the body of the innermost frame.
    pub(super) fn refresh_origin(&mut self) {
        self.enter_origin();
    }

    /// Remembers a use of a model, for the table of layers.
    fn note_layer(&mut self, path: &str, function: &Function, result: &Value) {
        if self.initialising.is_none()
            && let Value::Tensor(tensor) = result
        {
            let model = function.name.text.clone();
            self.layers.push(LayerUse { path: path.to_owned(), model, output: *tensor });
        }
    }
}

/// Arguments by the names of their parameters, in the order of declaration.
fn named(function: &Function, matched: Matched) -> Vec<Argument> {
    let pairs = function.params.iter().zip(matched).filter(|(param, _)| !is_tensor(&param.ty));
    pairs
        .filter_map(|(param, argument)| {
            let argument = argument?;
            let name = Some((param.name.text.clone(), argument.span));
            Some(Argument { name, ..argument })
        })
        .collect()
}
