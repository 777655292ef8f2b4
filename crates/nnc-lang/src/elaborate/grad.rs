//! `grad(loss, wrt=x)`: the derivative of a scalar by a tensor, or by a tuple or list of tensors.

use super::Elaborator;
use super::value::{Args, Argument, Value};
use crate::diagnostic::{Code, Diagnostic, Span};
use nnc_graph::{Op, ValueId};

impl Elaborator<'_> {
    /// The derivative as a value of the form of `wrt`.
    pub(super) fn grad(&mut self, args: &Args, span: Span) -> Value {
        let Some((loss, wrt)) = self.grad_arguments(args, span) else { return Value::Poison };
        if loss.value.is_poison() || wrt.value.is_poison() {
            return Value::Poison;
        }
        let Some(loss_value) = self.tensor(&loss.value, None, loss.span) else { return Value::Poison };
        let mut leaves = Vec::new();
        if !self.grad_leaves(&wrt.value, wrt.span, &mut leaves) {
            return Value::Poison;
        }
        self.note_grad(loss_value, &leaves, span);
        let mut operands = vec![loss_value];
        operands.extend(&leaves);
        let Some(results) = self.emit_grad(&operands, span) else { return Value::Poison };
        rebuild(&wrt.value, &mut results.into_iter())
    }

    /// The node of a derivative, which comes from its own place in the user's source: it is told of there when it makes
    /// a program too large.
    pub(super) fn emit_grad(&mut self, operands: &[ValueId], span: Span) -> Option<Vec<ValueId>> {
        let is_own = !self.program.is_library(span);
        let former = is_own.then(|| self.enter_origin_at(span));
        let results = self.emit_all(Op::Grad, operands, span);
        if let Some(former) = former {
            self.graph.set_origin(former);
        }
        results
    }

    fn grad_arguments<'a>(&mut self, args: &'a Args, span: Span) -> Option<(&'a Argument, &'a Argument)> {
        let (mut loss, mut wrt) = (None, None);
        for (position, argument) in args.items.iter().enumerate() {
            let place = match (&argument.name, position) {
                (Some((name, _)), _) if name == "loss" => &mut loss,
                (Some((name, _)), _) if name == "wrt" => &mut wrt,
                (None, 0) => &mut loss,
                (None, 1) => &mut wrt,
                _ => {
                    let diagnostic = Diagnostic::new(Code::E0204, argument.span, "`grad` takes a loss and `wrt`");
                    self.report(diagnostic.help("write `grad(loss, wrt=x)`"));
                    return None;
                }
            };
            if place.replace(argument).is_some() {
                self.report(Diagnostic::new(Code::E0204, argument.span, "this argument is given twice"));
                return None;
            }
        }
        if loss.is_none() || wrt.is_none() {
            let diagnostic = Diagnostic::new(Code::E0204, span, "`grad` takes a loss and what to differentiate by");
            self.report(diagnostic.help("write `grad(loss, wrt=x)`"));
        }
        Some((loss?, wrt?))
    }

    fn grad_leaves(&mut self, wrt: &Value, span: Span, leaves: &mut Vec<ValueId>) -> bool {
        match wrt {
            Value::Tensor(tensor) => {
                leaves.push(*tensor);
                true
            }
            Value::Tuple(items) | Value::List(items) if !items.is_empty() => {
                items.iter().all(|item| self.grad_leaves(item, span, leaves))
            }
            other => {
                self.mismatch::<()>(other, "a tensor, or a list of tensors, to differentiate by", span);
                false
            }
        }
    }
}

/// The results in the form of `wrt`.
fn rebuild(wrt: &Value, results: &mut dyn Iterator<Item = ValueId>) -> Value {
    match wrt {
        Value::Tuple(items) => Value::tuple(items.iter().map(|item| rebuild(item, results)).collect()),
        Value::List(items) => Value::list(items.iter().map(|item| rebuild(item, results)).collect()),
        Value::Tensor(_) => results.next().map_or(Value::Poison, Value::Tensor),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Str(_) => Value::Poison,
        Value::Function(_) | Value::Layer(_) | Value::Poison => Value::Poison,
    }
}
