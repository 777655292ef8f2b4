//! Execution of statements: dispatch, bindings, `return`.

use super::Elaborator;
use super::scope::FrameKind;
use super::store::Resident;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{Block, Expr, Ident, Stmt, StmtKind, Target, Type};
use nnc_graph::ValueId;

/// How a statement ended.
#[derive(Clone, Debug)]
pub enum Flow {
    /// The next one follows.
    Next,
    /// `return` was met; the value fits the declared result.
    Returned(Value),
}

impl Elaborator<'_> {
    /// Executes a block.
    pub fn exec_block(&mut self, block: &Block) -> Flow {
        for stmt in &block.stmts {
            let flow = self.exec(stmt);
            if std::mem::take(&mut self.refused) {
                return Flow::Returned(Value::Poison);
            }
            if let Flow::Returned(value) = flow {
                return Flow::Returned(value);
            }
        }
        Flow::Next
    }

    /// Executes a statement of a body. Those that only `data` and `train` blocks have are refused (E0107).
    pub fn exec(&mut self, stmt: &Stmt) -> Flow {
        match &stmt.kind {
            StmtKind::Bind { targets, ty, value } => self.exec_bind(targets, ty.as_ref(), value),
            StmtKind::Param(declaration) => self.declare(declaration, Resident::Parameter),
            StmtKind::State(declaration) => self.declare(declaration, Resident::State),
            StmtKind::Update { target, value } => self.exec_update(target, value),
            StmtKind::Layer(layer) => self.exec_layer(layer),
            StmtKind::Names(rules) => self.exec_names(rules, stmt.span),
            StmtKind::Return(value) => return self.exec_return(value),
            StmtKind::If { branches, otherwise } => return self.exec_if(branches, otherwise.as_ref()),
            StmtKind::For { target, over, body } => return self.exec_for(target, over, body),
            StmtKind::Expr(expr) => self.exec_expr(expr),
            StmtKind::Yield(value) => self.exec_yield(value, stmt.span),
            StmtKind::Minimize(_) => self.misplaced("minimize", stmt.span),
            StmtKind::Metric { .. } => self.misplaced("metric", stmt.span),
            StmtKind::Answer { .. } => self.misplaced("answer", stmt.span),
            StmtKind::Picture { .. } => self.misplaced("picture", stmt.span),
            StmtKind::Step { .. } => self.misplaced("step", stmt.span),
            StmtKind::Augment { .. } => {
                self.report(Diagnostic::new(Code::E0107, stmt.span, "this belongs into a `data` block"));
            }
            StmtKind::Error => {}
        }
        Flow::Next
    }

    /// A statement of a recipe that does not stand in the block of one itself.
    fn misplaced(&mut self, word: &str, span: Span) {
        let frame = self.frames.last().filter(|frame| frame.kind == FrameKind::Recipe);
        let Some(is_in_answer) = frame.map(|frame| frame.answer.is_some()) else {
            return self.report(Diagnostic::new(Code::E0107, span, "this belongs into a `train` block"));
        };
        let inside = if is_in_answer { "an `answer`" } else { "an `if` or a `for`" };
        let place =
            if matches!(word, "minimize" | "metric") { "the recipe or a step itself" } else { "the recipe itself" };
        let message = format!("`{word}` stands in {place}, not in {inside}");
        let diagnostic = Diagnostic::new(Code::E0107, span, message);
        self.report(match (is_in_answer, word) {
            (true, _) => diagnostic,
            (false, "step") => diagnostic.help("write the `if` in the step"),
            (false, _) => diagnostic.help(format!(
                "bind what differs under `if`, and write `{word}` behind it; what a `for` repeats is written out"
            )),
        });
    }

    fn exec_bind(&mut self, targets: &[Target], ty: Option<&Type>, expr: &Expr) {
        let expected = ty.and_then(|ty| self.quiet_type(ty));
        let mut value = self.eval_expected(expr, expected.as_ref());
        if let Some(ty) = ty {
            value = self.fit_annotation(ty, &value, expr.span);
        }
        match targets {
            [target] => self.bind_target(target, value),
            targets => self.bind_parts(targets, &value, expr.span),
        }
    }

    fn bind_parts(&mut self, targets: &[Target], value: &Value, span: Span) {
        let parts: Vec<Value> = match value {
            Value::Tuple(items) | Value::List(items) if items.len() == targets.len() => items.to_vec(),
            Value::Poison => vec![Value::Poison; targets.len()],
            other => {
                let message = format!("{} names for {}", targets.len(), self.describe(other));
                self.report(Diagnostic::new(Code::E0311, span, message));
                vec![Value::Poison; targets.len()]
            }
        };
        for (target, part) in targets.iter().zip(parts) {
            self.bind_target(target, part);
        }
    }

    fn bind_target(&mut self, target: &Target, value: Value) {
        let Target::Name(name) = target else { return };
        self.bind_name(name, value);
    }

    /// Binds a name in the innermost frame, and tells the graph the user's name for the value.
    pub fn bind_name(&mut self, name: &Ident, value: Value) {
        if let Value::Tensor(tensor) = value {
            self.name_value(tensor, name);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(&name.text, value, name.span);
        }
    }

    fn name_value(&mut self, tensor: ValueId, name: &Ident) {
        if self.initialising.is_some() {
            return;
        }
        let Some(frame) = self.frames.last() else { return };
        if !self.program.is_library(name.span) {
            self.named.insert(tensor, name.text.clone());
        }
        if !self.graph.definition(tensor).op.is_leaf() {
            self.graph.set_name(tensor, &frame.path_of(&name.text));
        }
    }

    fn exec_expr(&mut self, expr: &Expr) {
        let value = self.eval(expr);
        if !value.is_poison() {
            let diagnostic = Diagnostic::new(Code::W0001, expr.span, "this value is not used");
            self.report(diagnostic.help("bind it to a name, or to `_`"));
        }
    }

    fn exec_return(&mut self, expr: &Expr) -> Flow {
        if self.is_body_of_scan() {
            let diagnostic = Diagnostic::new(Code::E0107, expr.span, "`return` stands in the body of a `scan`");
            self.report(diagnostic.help("`yield` gives what is stacked; carried values are the result anyway"));
            return Flow::Next;
        }
        let answer = self.frames.last().and_then(|frame| frame.answer.clone());
        let item = self.frames.last().and_then(|frame| frame.item).and_then(|item| self.program.function(item));
        let Some(function) = item.or(answer.as_deref()) else {
            self.report(Diagnostic::new(Code::E0107, expr.span, "`return` belongs into a `fn` or `model`"));
            return Flow::Next;
        };
        let expected = function.result.as_ref().and_then(|ty| self.quiet_type(ty));
        let value = self.eval_expected(expr, expected.as_ref());
        Flow::Returned(self.check_result(function, value, expr.span))
    }
}
