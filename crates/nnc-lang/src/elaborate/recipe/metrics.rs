//! `metric NAME = EXPR`: means over examples, metrics that accumulate, matrices.

use super::build::{Builder, Metric};
use super::{METRIC_PREFIX, MetricInfo, Purpose};
use crate::diagnostic::Span;
use crate::elaborate::program::ItemId;
use crate::elaborate::value::{Args, Argument, Callable, Value};
use crate::syntax::ast::{Arg, Expr, ExprKind, FunctionKind, Ident};
use nnc_graph::ValueId;

impl Builder<'_> {
    /// `metric NAME = EXPR`: a mean, a use of a `metric` declaration, or a matrix that is shown as it is.
    pub(super) fn metric(&mut self, name: &Ident, value: &Expr) {
        self.take(name, "loss");
        if matches!(self.purpose, Purpose::Answer | Purpose::Picture) {
            return;
        }
        let (result, accumulates) = match self.accumulating(value) {
            Some((item, args)) => (self.apply_metric(name, item, &args, value.span), true),
            None => (self.elaborator.eval(value), false),
        };
        if let Some(matrix) = self.square(&result).filter(|_| !accumulates) {
            return self.matrices.push((name.text.clone(), matrix));
        }
        let Some(scalar) = self.scalar(&result, value.span, "a metric") else { return };
        let info = MetricInfo { name: name.text.clone(), accumulates };
        self.metrics.push(Metric { info, value: scalar });
    }

    /// A value that is a square matrix of floats.
    fn square(&self, value: &Value) -> Option<ValueId> {
        let Value::Tensor(tensor) = value else { return None };
        let ty = self.elaborator.ty(*tensor);
        let is_square = ty.shape.rank() == 2 && ty.shape[0] == ty.shape[1] && ty.shape.is_bound();
        (is_square && ty.dtype == self.elaborator.options.float).then_some(*tensor)
    }

    /// A use of a `metric` declaration, with its arguments.
    fn accumulating(&mut self, value: &Expr) -> Option<(ItemId, Args)> {
        let (piped, callee, arguments): (Option<&Expr>, &Expr, &[Arg]) = match &value.kind {
            ExprKind::Call(callee, arguments) => (None, callee, arguments),
            ExprKind::Pipe(from, into) => match &into.kind {
                ExprKind::Call(callee, arguments) => (Some(from), callee, arguments),
                _ => (Some(from), into, &[]),
            },
            _ => return None,
        };
        let ExprKind::Name(name) = &callee.kind else { return None };
        let item = match self.elaborator.find_callable(name) {
            Some(Callable::Item(item)) => item,
            Some(Callable::Builtin(_) | Callable::Opaque(_)) | None => return None,
        };
        self.elaborator.program.function(item).filter(|function| function.kind == FunctionKind::Metric)?;
        let piped = piped.map(|from| Argument { name: None, value: self.elaborator.eval(from), span: from.span });
        let mut items: Vec<Argument> = piped.into_iter().collect();
        items.extend(self.elaborator.eval_arguments(arguments));
        Some((item, Args { items, expected: None }))
    }

    fn apply_metric(&mut self, name: &Ident, item: ItemId, args: &Args, span: Span) -> Value {
        let path = format!("{METRIC_PREFIX}{}", name.text);
        self.elaborator.apply(item, args, &path, span)
    }
}
