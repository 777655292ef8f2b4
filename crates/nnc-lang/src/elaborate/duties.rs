//! What an optimizer and a metric owe to the recipe that uses them: the one writes its first parameter, the other
//! returns a scalar. Both are seen where they are declared.

use super::Elaborator;
use super::arguments::Matched;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{Block, Body, Function, FunctionKind, Stmt, StmtKind};

impl Elaborator<'_> {
    /// Reports what a declaration owes; `result` is what its body gave on its own.
    pub(super) fn check_duties(&mut self, function: &Function, result: &Value) {
        match function.kind {
            FunctionKind::Optimizer => self.check_optimizer(function),
            FunctionKind::Metric => self.check_metric(function, result),
            FunctionKind::Fn | FunctionKind::Model => {}
        }
    }

    /// Reports a learning rate that is known to be below 0, by which each step would raise the loss.
    pub(super) fn check_rate(&mut self, function: &Function, matched: &Matched) {
        let given = function.params.iter().zip(matched).filter(|(param, _)| param.name.text == "lr");
        for argument in given.filter_map(|(_, argument)| argument.as_ref()) {
            let is_float = matches!(argument.value, Value::Float(Some(rate)) if rate < 0.0);
            let is_int = matches!(&argument.value, Value::Int(rate) if rate.as_number().is_some_and(|rate| rate < 0));
            if is_float || is_int {
                self.report(Diagnostic::new(Code::E0204, argument.span, "a learning rate, `lr`, is at least 0"));
            }
        }
    }

    fn check_optimizer(&mut self, function: &Function) {
        let name = &function.name;
        let Some(parameter) = function.params.first().map(|param| &param.name.text) else {
            let message = format!("the optimizer `{}` takes no parameter to be trained", name.text);
            let help = "its first two are the parameter and its gradient: `(p: f32[...S], g: f32[...S])`";
            return self.report(Diagnostic::new(Code::E0204, name.span, message).help(help));
        };
        let mut returned = None;
        let mut writes = false;
        visit(&function.body, &mut |stmt| match &stmt.kind {
            StmtKind::Return(value) => returned = returned.or(Some(value.span)),
            StmtKind::Update { target, .. } => writes |= target.text == *parameter,
            _ => {}
        });
        if let Some(place) = returned {
            let message = "an optimizer returns nothing: it writes its first parameter";
            let help = format!("write `{parameter} <- ...`");
            self.report(Diagnostic::new(Code::E0107, place, message).help(help));
        } else if !writes {
            let message = format!("the optimizer `{}` never writes `{parameter}`, so it trains nothing", name.text);
            let help = format!("write `{parameter} <- ...`");
            self.report(Diagnostic::new(Code::E0407, name.span, message).help(help));
        }
    }

    fn check_metric(&mut self, function: &Function, result: &Value) {
        let name = &function.name;
        let mut places: Vec<Span> = Vec::new();
        visit(&function.body, &mut |stmt| {
            if let StmtKind::Return(value) = &stmt.kind {
                places.push(value.span);
            }
        });
        let place = match &function.body {
            Body::Expr(value) => Some(value.span),
            Body::Block(_) => places.first().copied(),
        };
        let Some(place) = place else {
            let message = format!("the metric `{}` ends without a `return`", name.text);
            let help = "return the scalar that is shown, as `return total / count`";
            return self.report(Diagnostic::new(Code::E0407, name.span, message).help(help));
        };
        let is_scalar = match result {
            Value::Tensor(tensor) => self.ty(*tensor).shape.rank() == 0,
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Poison => true,
            Value::Tuple(items) if items.is_empty() => true, // its return is in a branch that is not known yet
            Value::Str(_) | Value::List(_) | Value::Tuple(_) | Value::Function(_) | Value::Layer(_) => false,
        };
        if !is_scalar {
            let message = format!("a metric is a scalar, and this is {}", self.describe(result));
            self.report(Diagnostic::new(Code::E0311, place, message).help("take the mean of it: `mean(...)`"));
        }
    }
}

/// Calls `see` with every statement of a body, those of its branches and loops too.
fn visit(body: &Body, see: &mut dyn FnMut(&Stmt)) {
    if let Body::Block(block) = body {
        visit_block(block, see);
    }
}

fn visit_block(block: &Block, see: &mut dyn FnMut(&Stmt)) {
    for stmt in &block.stmts {
        see(stmt);
        match &stmt.kind {
            StmtKind::If { branches, otherwise } => {
                let blocks = branches.iter().map(|(_, block)| block).chain(otherwise);
                blocks.for_each(|block| visit_block(block, see));
            }
            StmtKind::For { body, .. } => visit_block(body, see),
            _ => {}
        }
    }
}
