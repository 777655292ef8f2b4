//! What a recipe shows for its work: `answer NAME = EXPR`, `picture NAME = EXPR`, and what it answers without saying
//! so.

use super::Purpose;
use super::build::{Answer, Builder};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::elaborate::value::Value;
use crate::syntax::ast::{Expr, Ident, StmtKind, Type};

impl Builder<'_> {
    /// `answer NAME = EXPR`.
    pub(super) fn answer(&mut self, name: &Ident, result: Option<&Type>, value: &Expr) {
        self.take(name, "$");
        if self.purpose != Purpose::Answer {
            return;
        }
        self.elaborator.begin_own("answer");
        let mut found = self.elaborator.eval(value);
        self.elaborator.own = None;
        if let Some(ty) = result {
            found = self.elaborator.fit_annotation(ty, &found, value.span);
        }
        self.put_answer(name, found, value.span);
    }

    /// Takes the value of an answer.
    pub(super) fn put_answer(&mut self, name: &Ident, found: Value, span: Span) {
        let is_tensor = match &found {
            Value::Tuple(items) | Value::List(items) => items.iter().all(|item| matches!(item, Value::Tensor(_))),
            other => matches!(other, Value::Tensor(_) | Value::Poison),
        };
        if !is_tensor {
            let shown = self.elaborator.describe(&found);
            let message = format!("an answer is a tensor or a tuple of tensors, and this is {shown}");
            self.elaborator.fail(Code::E0311, span, message, None);
        }
        self.answers.push(Answer { name: name.text.clone(), value: found });
    }

    /// `picture NAME = EXPR`: kept beside the answers, in a graph of its own.
    pub(super) fn picture(&mut self, name: &Ident, value: &Expr) {
        self.take(name, "$picture");
        if self.purpose != Purpose::Picture {
            return;
        }
        self.elaborator.begin_own("picture");
        let found = self.elaborator.eval(value);
        self.elaborator.own = None;
        let Value::Tensor(tensor) = found else {
            if !found.is_poison() {
                let message = format!("a picture is a tensor, and this is {}", self.elaborator.describe(&found));
                self.elaborator.fail(Code::E0311, value.span, message, None);
            }
            return;
        };
        let ty = self.elaborator.ty(tensor).clone();
        let channels = |axis: usize| ty.shape[axis].as_number().is_none_or(|count| matches!(count, 1 | 3));
        let is_picture = match ty.shape.rank() {
            2 => true,
            rank @ 3..=5 => channels(rank - 3),
            _ => false,
        };
        if !is_picture {
            let message = format!("this is {ty}, and a picture is [count, 1, H, W], or with 3 for colour");
            let diagnostic = Diagnostic::new(Code::E0311, value.span, message);
            let diagnostic = self.elaborator.with_birth(diagnostic, tensor, value.span);
            let help = "[H, W] and [1, H, W] are one picture, [rows, columns, 1, H, W] is a sheet of so many";
            return self.elaborator.report(diagnostic.help(help));
        }
        self.answers.push(Answer { name: name.text.clone(), value: found });
    }

    /// What a recipe answers that does not say it: what its model gives.
    pub(super) fn answer_with_model(&mut self) {
        if self.train.body.stmts.iter().any(|stmt| matches!(stmt.kind, StmtKind::Answer { .. })) {
            return;
        }
        let model = &self.train.name.text;
        let first = self.elaborator.layers.iter().find(|layer| layer.path.is_empty() && layer.model == *model);
        match first.map(|layer| layer.output) {
            Some(output) => {
                self.answers.push(Answer { name: "result".to_owned(), value: Value::Tensor(output) });
            }
            // The model may have been used, and have an error.
            None if self.elaborator.report.has_errors() => {}
            None => self.missing("this recipe does not say what it answers", "write `answer NAME = EXPRESSION`"),
        }
    }
}
