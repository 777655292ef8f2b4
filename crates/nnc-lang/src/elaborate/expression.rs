//! Evaluation of expressions.
//!
//! Depth and work are counted here (`bounds`), since every other part of the evaluator comes through
//! [`Elaborator::eval`].

use super::Elaborator;
use super::bounds::UNROLLED;
use super::builtins;
use super::indexing::Index;
use super::operators::Operator;
use super::value::{Args, Argument, Callable, Value};
use crate::diagnostic::suggest::as_close;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{Arg, BinaryOperator, Expr, ExprKind, Ident, IndexItem, UnaryOperator};
use nnc_graph::{BinaryOp, CompareOp, DType, Dim, TensorType, UnaryOp};
use std::rc::Rc;

/// Names that a recipe's step gives as run-time scalars.
const STEP_SCALARS: [&str; 3] = ["iteration", "iterations", "epoch"];

/// A call as it is written.
pub(super) struct CallSite<'a> {
    pub callee: &'a Expr,
    pub arguments: &'a [Arg],
    /// What is piped in.
    pub piped: Option<&'a Expr>,
    /// `as stem`.
    pub name: Option<&'a Ident>,
    /// The call without what is piped in.
    pub span: Span,
    pub expected: Option<TensorType>,
}

impl Elaborator<'_> {
    /// Evaluates an expression; [`Value::Poison`] after an error.
    pub fn eval(&mut self, expr: &Expr) -> Value {
        self.eval_expected(expr, None)
    }

    /// Evaluates an expression whose context wants a tensor of a certain type: what `zeros()` is shaped by.
    pub fn eval_expected(&mut self, expr: &Expr, expected: Option<&TensorType>) -> Value {
        if !self.may_go_on(expr.span) {
            return Value::Poison;
        }
        self.depth += 1;
        let value = self.eval_kind(expr, expected);
        self.depth -= 1;
        value
    }

    /// Flat dispatch over the kinds of expression.
    fn eval_kind(&mut self, expr: &Expr, expected: Option<&TensorType>) -> Value {
        match &expr.kind {
            ExprKind::Int(number) => Value::int(*number),
            ExprKind::Float(number) => Value::float(*number),
            ExprKind::Str(text) => Value::str(text),
            ExprKind::Bool(truth) => Value::Bool(Some(*truth)),
            ExprKind::Name(name) => self.eval_name(name, expr.span),
            ExprKind::Field(base, field) => self.eval_field(base, field),
            ExprKind::List(items) => self.eval_list(items, expr.span),
            ExprKind::Tuple(items) => {
                let tuple = Value::tuple(items.iter().map(|item| self.eval(item)).collect());
                self.counted(tuple, expr.span)
            }
            ExprKind::Paren(inner) => self.eval_expected(inner, expected),
            ExprKind::Call(..) | ExprKind::Pipe(..) => self.eval_use(expr, None, expected),
            ExprKind::As(inner, name) => self.eval_use(inner, Some(name), expected),
            ExprKind::Index(base, items) => self.eval_index(base, items, expr.span),
            ExprKind::Unary(operator, inner) => self.eval_unary(*operator, inner, expr.span, expected),
            ExprKind::Binary(operator, a, b) => self.eval_binary(*operator, a, b, expr.span, expected),
            ExprKind::Range(from, to) => self.eval_range(from, to, expr.span),
            ExprKind::Spread(name) => {
                self.report(Diagnostic::new(Code::E0311, name.span, "`...` stands only in a list or a type"));
                Value::Poison
            }
            ExprKind::Scan(scan) => self.eval_scan(scan, expr.span),
            ExprKind::Error => Value::Poison,
        }
    }

    fn eval_name(&mut self, name: &str, span: Span) -> Value {
        let inner = self.frames.len().wrapping_sub(1);
        if let Some(binding) = self.frames.get(inner).and_then(|frame| frame.bindings.get(name)) {
            let value = match binding.state.as_ref().and_then(|path| self.store.get(path)) {
                Some(entry) => Value::Tensor(entry.current),
                None => binding.value.clone(),
            };
            if self.initialising == Some(inner) && value.has_tensor() {
                let message = format!("a first value cannot depend on `{name}`, which is known only at run time");
                self.report(Diagnostic::new(Code::E0401, span, message));
                return Value::Poison;
            }
            return value;
        }
        self.eval_global(name, span)
    }

    fn eval_global(&mut self, name: &str, span: Span) -> Value {
        if name == "training" {
            return Value::Bool((!self.training_unknown).then_some(self.training));
        }
        if let Some(frame) = self.frames.last()
            && let Some(&place) = frame.unbound.get(name)
        {
            let message = format!("`{name}` is not bound on the path taken here");
            self.report(Diagnostic::new(Code::E0203, span, message).with(place, "bound only here"));
            return Value::Poison;
        }
        if STEP_SCALARS.contains(&name) {
            return Value::Tensor(self.input(&format!("${name}"), TensorType::scalar(DType::I64)));
        }
        match self.find_callable(name) {
            Some(callable) => Value::Function(Rc::new(callable)),
            None => self.unknown_name(name, span),
        }
    }

    /// The function, model or primitive called `name`, as the body sees it.
    pub(super) fn find_callable(&self, name: &str) -> Option<Callable> {
        let item = self.frames.last().and_then(|frame| self.program.find_function(frame.file, name));
        item.map(Callable::Item).or_else(|| {
            let primitive = if name == "grad" { Some("grad") } else { builtins::find(name) };
            primitive.map(Callable::Builtin)
        })
    }

    /// Reports a name that nothing binds, with the closest one that is bound.
    pub(super) fn unknown_name(&mut self, name: &str, span: Span) -> Value {
        let mut diagnostic = Diagnostic::new(Code::E0201, span, format!("there is no `{name}` here"));
        let mut known: Vec<&str> = builtins::names().chain(["grad", "training"]).chain(STEP_SCALARS).collect();
        if let Some(frame) = self.frames.last() {
            known.extend(frame.bindings.keys().map(String::as_str));
            known.extend(self.program.function_names(frame.file));
        }
        if let Some(instead) = super::habits::instead_of(name) {
            self.report(diagnostic.help(instead));
            return Value::Poison;
        }
        let meant: Vec<String> = as_close(name, known).iter().map(|meant| format!("`{meant}`")).collect();
        if !meant.is_empty() {
            diagnostic = diagnostic.help(format!("did you mean {}?", meant.join(" or ")));
        }
        self.report(diagnostic);
        Value::Poison
    }

    fn eval_field(&mut self, base: &Expr, field: &Ident) -> Value {
        let value = self.eval(base);
        match (&value, field.text.parse::<usize>()) {
            (Value::Poison, _) => Value::Poison,
            (Value::Tuple(items), Ok(at)) if at < items.len() => items[at].clone(),
            (Value::Tuple(items), _) => {
                let message = format!("`.{}` of a tuple of {}", field.text, items.len());
                self.report(Diagnostic::new(Code::E0307, field.span, message));
                Value::Poison
            }
            _ => {
                let message = format!("{} has no parts such as `.{}`", self.describe(&value), field.text);
                let diagnostic = Diagnostic::new(Code::E0311, base.span, message);
                self.report(match self.instead_of_method(&value, base, &field.text) {
                    Some(help) => diagnostic.help(help),
                    None => diagnostic,
                });
                Value::Poison
            }
        }
    }

    /// What stands for a method or an attribute of a tensor, as other languages have them.
    fn instead_of_method(&self, value: &Value, base: &Expr, field: &str) -> Option<String> {
        let Value::Tensor(_) = value else { return None };
        let base = match &base.kind {
            ExprKind::Name(name) => name,
            _ => "x",
        };
        match field {
            "shape" => {
                Some(format!("a dim is a name in the type, as `N` in `f32[N, D]`; `shape({base})` lists them all"))
            }
            "size" => {
                Some(format!("a dim is a name in the type, as `N` in `f32[N, D]`; `len({base})` is the first one"))
            }
            "T" => Some(format!("write `transpose({base})`")),
            _ if self.find_callable(field).is_some() => {
                Some(format!("write `{field}({base}, ...)` or `{base} |> {field}(...)`"))
            }
            _ => None,
        }
    }

    fn eval_list(&mut self, items: &[Expr], span: Span) -> Value {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match &item.kind {
                ExprKind::Spread(name) => match self.rest_dims(name) {
                    Some(dims) => values.extend(dims.into_iter().map(Value::Int)),
                    None => return Value::Poison,
                },
                _ => values.push(self.eval(item)),
            }
        }
        // A list whose dims are unknown must not look as if they were known.
        if values.iter().any(Value::is_poison) { Value::Poison } else { self.counted(Value::list(values), span) }
    }

    fn eval_range(&mut self, from: &Expr, to: &Expr, span: Span) -> Value {
        let Some((from, to)) = self.range_bounds(from, to) else { return Value::Poison };
        let (Some(first), Some(end)) = (from.as_number(), to.as_number()) else {
            if !self.generic {
                self.report(Diagnostic::new(Code::E0308, span, "the ends of a range must be known at compile time"));
            }
            return Value::Poison;
        };
        if end.saturating_sub(first) > UNROLLED as i64 {
            let message = format!("a range of more than {UNROLLED} numbers");
            self.report(Diagnostic::new(Code::E0406, span, message));
            return Value::Poison;
        }
        self.counted(Value::list((first..end).map(Value::int).collect()), span)
    }

    /// The ends of a range, which may be symbolic.
    pub(super) fn range_bounds(&mut self, from: &Expr, to: &Expr) -> Option<(Dim, Dim)> {
        let (first, end) = (self.eval(from), self.eval(to));
        let first = self.dim(&first, from.span);
        let end = self.dim(&end, to.span);
        Some((first?, end?))
    }

    fn eval_index(&mut self, base: &Expr, items: &[IndexItem], span: Span) -> Value {
        let value = self.eval(base);
        let mut indices = Vec::with_capacity(items.len());
        for item in items {
            indices.push(match item {
                IndexItem::At(at) => Index::At(self.eval(at), at.span),
                IndexItem::Range(from, to, place) => {
                    let from = from.as_ref().map(|from| self.eval(from));
                    let to = to.as_ref().map(|to| self.eval(to));
                    Index::Range(from, to, *place)
                }
                IndexItem::All(place) => Index::All(*place),
                IndexItem::New(place) => Index::New(*place),
                IndexItem::Rest(place) => Index::Rest(*place),
            });
        }
        let result = self.index(&(value, base.span), &indices, span);
        self.born_at(&result, span);
        result
    }

    fn eval_unary(
        &mut self,
        operator: UnaryOperator,
        inner: &Expr,
        span: Span,
        expected: Option<&TensorType>,
    ) -> Value {
        let value = self.eval_expected(inner, expected);
        let operator = match operator {
            UnaryOperator::Neg => UnaryOp::Neg,
            UnaryOperator::Not => UnaryOp::Not,
        };
        let result = self.unary(operator, &(value, inner.span), span);
        self.born_at(&result, span);
        result
    }

    fn eval_binary(
        &mut self,
        operator: BinaryOperator,
        a: &Expr,
        b: &Expr,
        span: Span,
        expected: Option<&TensorType>,
    ) -> Value {
        let left = self.eval_expected(a, expected);
        if let Value::Bool(Some(truth)) = left {
            // As in Python: the right side of a settled `and` or `or` is not looked at.
            let settled = operator == BinaryOperator::And && !truth || operator == BinaryOperator::Or && truth;
            if settled {
                return left;
            }
        }
        let right = self.eval_expected(b, expected);
        let result = self.binary(operator_of(operator), &(left, a.span), &(right, b.span), span);
        self.born_at(&result, span);
        result
    }

    /// A call or pipe, with the name that `as` gives to it.
    fn eval_use(&mut self, expr: &Expr, name: Option<&Ident>, expected: Option<&TensorType>) -> Value {
        let expected = expected.cloned();
        match &expr.kind {
            ExprKind::Paren(inner) => self.eval_use(inner, name, expected.as_ref()),
            ExprKind::Call(callee, arguments) => {
                self.eval_call(&CallSite { callee, arguments, piped: None, name, span: expr.span, expected })
            }
            ExprKind::Pipe(from, into) => {
                let (into, name) = match &into.kind {
                    ExprKind::As(inner, own) => (&**inner, Some(own)),
                    _ => (&**into, name),
                };
                let (callee, arguments): (&Expr, &[Arg]) = match &into.kind {
                    ExprKind::Call(callee, arguments) => (callee, arguments),
                    _ => (into, &[]),
                };
                self.eval_call(&CallSite { callee, arguments, piped: Some(from), name, span: into.span, expected })
            }
            _ => {
                if let Some(name) = name {
                    self.report(Diagnostic::new(Code::E0403, name.span, "`as` names the use of a model"));
                }
                self.eval_expected(expr, expected.as_ref())
            }
        }
    }

    fn eval_call(&mut self, site: &CallSite<'_>) -> Value {
        // Text order, so that models are counted and state is updated as the reader sees it.
        let piped = site.piped.map(|from| Argument { name: None, value: self.eval(from), span: from.span });
        let callee = self.eval_callee(site.callee);
        let mut items: Vec<Argument> = piped.into_iter().collect();
        items.extend(self.eval_arguments(site.arguments));
        let Some(callee) = callee else { return Value::Poison };
        let args = Args { items, expected: site.expected.clone() };
        self.call(&callee, args, site.span, site.name)
    }

    /// Evaluates arguments in order.
    pub fn eval_arguments(&mut self, arguments: &[Arg]) -> Vec<Argument> {
        let evaluate = |argument: &Arg| {
            let name = argument.name.as_ref().map(|name| (name.text.clone(), name.span));
            Argument { name, value: self.eval(&argument.value), span: argument.value.span }
        };
        arguments.iter().map(evaluate).collect()
    }

    /// What stands before the brackets of a call. A name bound to something that cannot be called is skipped.
    pub(super) fn eval_callee(&mut self, callee: &Expr) -> Option<Value> {
        let ExprKind::Name(name) = &callee.kind else {
            let value = self.eval(callee);
            return (!value.is_poison()).then_some(value);
        };
        let bound = self.frames.last().and_then(|frame| frame.bindings.get(name)).map(|b| (b.value.clone(), b.span));
        if let Some((value @ (Value::Function(_) | Value::Layer(_)), _)) = bound {
            return Some(value);
        }
        if let Some(callable) = self.find_callable(name) {
            return Some(Value::Function(Rc::new(callable)));
        }
        if name == "real" {
            let real = self.frames.last().and_then(|frame| frame.real).unwrap_or(self.options.float);
            let cast = builtins::find(real.name())?;
            return Some(Value::Function(Rc::new(Callable::Builtin(cast))));
        }
        match (self.eval_name(name, callee.span), bound) {
            (Value::Poison, _) | (_, None) => {}
            (value, Some((_, place))) => {
                let message = format!("`{name}` is {} and cannot be called", self.describe(&value));
                self.report(Diagnostic::new(Code::E0206, callee.span, message).with(place, "bound here"));
            }
        }
        None
    }

    /// Notes the user's expression that gave a value.
    pub(super) fn born_at(&mut self, value: &Value, span: Span) {
        if self.initialising.is_some() || self.program.is_library(span) {
            return;
        }
        match value {
            Value::Tensor(tensor) => {
                self.born.insert(*tensor, span);
            }
            Value::Tuple(items) => items.iter().for_each(|item| self.born_at(item, span)),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Str(_) | Value::List(_) => {}
            Value::Function(_) | Value::Layer(_) | Value::Poison => {}
        }
    }
}

/// The operator of the tree as the evaluator's.
fn operator_of(operator: BinaryOperator) -> Operator {
    match operator {
        BinaryOperator::Add => Operator::Binary(BinaryOp::Add),
        BinaryOperator::Sub => Operator::Binary(BinaryOp::Sub),
        BinaryOperator::Mul => Operator::Binary(BinaryOp::Mul),
        BinaryOperator::Div => Operator::Binary(BinaryOp::Div),
        BinaryOperator::Rem => Operator::Binary(BinaryOp::Rem),
        BinaryOperator::MatMul => Operator::MatMul,
        BinaryOperator::Pow => Operator::Binary(BinaryOp::Pow),
        BinaryOperator::Eq => Operator::Compare(CompareOp::Eq),
        BinaryOperator::Ne => Operator::Compare(CompareOp::Ne),
        BinaryOperator::Lt => Operator::Compare(CompareOp::Lt),
        BinaryOperator::Le => Operator::Compare(CompareOp::Le),
        BinaryOperator::Gt => Operator::Compare(CompareOp::Gt),
        BinaryOperator::Ge => Operator::Compare(CompareOp::Ge),
        BinaryOperator::And => Operator::Binary(BinaryOp::And),
        BinaryOperator::Or => Operator::Binary(BinaryOp::Or),
    }
}
