//! `if` and `for`: decided and unrolled at compile time. They open no scope.
//!
//! A condition that is unknown, which happens only while a body is checked on its own or after an error, takes both
//! branches from one state and merges what they bound: a name that has one type in both keeps it, one that differs
//! becomes poison. A loop whose bounds are unknown is such a branch, with one turn.

use super::Elaborator;
use super::bounds::UNROLLED;
use super::scope::{Binding, Frame};
use super::statement::Flow;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic};
use crate::syntax::ast::{BinaryOperator, Block, Expr, ExprKind, Ident, StmtKind, Target};
use nnc_graph::ValueId;
use std::rc::Rc;

impl Elaborator<'_> {
    pub(super) fn exec_if(&mut self, branches: &[(Expr, Block)], otherwise: Option<&Block>) -> Flow {
        let Some(((condition, block), rest)) = branches.split_first() else {
            return otherwise.map_or(Flow::Next, |block| self.exec_block(block));
        };
        match self.condition(condition) {
            Some(true) => {
                let flow = self.exec_block(block);
                rest.iter().map(|(_, block)| block).chain(otherwise).for_each(|block| self.note_untaken(block));
                flow
            }
            Some(false) => {
                let flow = self.exec_if(rest, otherwise);
                self.note_untaken(block);
                flow
            }
            None => {
                let compares = usize::from(tells_dims(condition));
                self.compared_branches += compares;
                let flow = self.exec_both(block, rest, otherwise);
                self.compared_branches -= compares;
                flow
            }
        }
    }

    /// Whether only a use decides that the statement at hand is reached: it stands in a branch of an unknown condition,
    /// or behind one that returns.
    pub(super) fn may_be_passed_over(&self) -> bool {
        self.unknown_branches > 0 || self.frames.iter().any(|frame| frame.may_be_over)
    }

    /// What a condition is; `None` when it is unknown. One that only the running program knows is reported.
    fn condition(&mut self, condition: &Expr) -> Option<bool> {
        let value = self.eval(condition);
        if let Value::Tensor(tensor) = value {
            let message = format!("`if` decides at compile time, and this is {}", self.ty(tensor));
            let diagnostic = Diagnostic::new(Code::E0308, condition.span, message);
            self.report(diagnostic.help("choose between two values with `where(condition, a, b)`"));
            return None;
        }
        let truth = self.truth(&value, condition.span)?;
        if truth.is_none() && !self.generic {
            let message = "this condition is not known yet: a dim in it is not bound";
            self.report(Diagnostic::new(Code::E0308, condition.span, message));
        }
        truth
    }

    /// Names that a block which was not executed would have bound: reading one is an error of its own.
    fn note_untaken(&mut self, block: &Block) {
        let mut names = Vec::new();
        bound_names(block, &mut names);
        let Some(frame) = self.frames.last_mut() else { return };
        for name in names {
            if !frame.bindings.contains_key(&name.text) {
                frame.unbound.insert(name.text, name.span);
            }
        }
    }

    fn exec_both(&mut self, block: &Block, rest: &[(Expr, Block)], otherwise: Option<&Block>) -> Flow {
        let Some(before) = self.frames.last().cloned() else { return Flow::Next };
        let states = self.store.snapshot();
        self.unknown_branches += 1;
        self.branched += 1;
        let taken = self.exec_block(block);
        let after = self.frames.last_mut().map(|frame| std::mem::replace(frame, before));
        let after_states = self.store.snapshot();
        self.store.restore(&states);
        let other = self.exec_if(rest, otherwise);
        self.unknown_branches -= 1;
        let Some(after) = after else { return Flow::Next };
        match (taken, other) {
            (Flow::Returned(a), Flow::Returned(b)) => Flow::Returned(self.merge(a, b)),
            (Flow::Returned(_), Flow::Next) => self.perhaps_over(),
            (Flow::Next, Flow::Returned(_)) => {
                self.store.restore(&after_states);
                self.replace_frame(after);
                self.perhaps_over()
            }
            (Flow::Next, Flow::Next) => {
                self.merge_frame(after);
                self.merge_states(&after_states);
                Flow::Next
            }
        }
    }

    /// Goes on behind branches of which one has returned.
    fn perhaps_over(&mut self) -> Flow {
        if let Some(frame) = self.frames.last_mut() {
            frame.may_be_over = true;
        }
        Flow::Next
    }

    fn replace_frame(&mut self, frame: Frame) {
        if let Some(last) = self.frames.last_mut() {
            *last = frame;
        }
    }

    fn merge_frame(&mut self, taken: Frame) {
        let Some(mut frame) = self.frames.pop() else { return };
        frame.may_be_over |= taken.may_be_over;
        for (name, binding) in taken.bindings {
            let merged = match frame.bindings.get(&name) {
                Some(other) if other.state.is_some() => other.clone(),
                Some(other) => {
                    let value = self.merge(binding.value, other.value.clone());
                    Binding { value, span: other.span, state: None }
                }
                None => binding,
            };
            frame.unbound.remove(&name);
            frame.bindings.insert(name, merged);
        }
        self.frames.push(frame);
    }

    fn merge_states(&mut self, taken: &[ValueId]) {
        let now = self.store.snapshot();
        let changed = taken.iter().zip(&now).any(|(a, b)| a != b);
        if changed {
            let merged: Vec<ValueId> = taken
                .iter()
                .zip(&now)
                .zip(self.store.entries())
                .map(|((a, b), e)| if a == b { *a } else { e.leaf })
                .collect();
            self.store.restore(&merged);
        }
    }

    /// What a name is after two branches.
    fn merge(&mut self, a: Value, b: Value) -> Value {
        match (a, b) {
            (Value::Tensor(a), Value::Tensor(b)) if a == b => Value::Tensor(a),
            (Value::Tensor(a), Value::Tensor(b)) if self.ty(a) == self.ty(b) => Value::Tensor(b),
            (Value::Int(a), Value::Int(b)) if a == b => Value::Int(a),
            (Value::Int(_), Value::Int(_)) => Value::Int(self.fresh_dim()),
            (Value::Float(a), Value::Float(b)) => Value::Float(a.filter(|_| a == b)),
            (Value::Bool(a), Value::Bool(b)) => Value::Bool(a.filter(|_| a == b)),
            (Value::Str(a), Value::Str(b)) => Value::Str(if a == b { a } else { None }),
            (Value::Tuple(a), Value::Tuple(b)) if a.len() == b.len() => {
                Value::tuple(a.iter().zip(b.iter()).map(|(a, b)| self.merge(a.clone(), b.clone())).collect())
            }
            (Value::List(a), Value::List(b)) if a.len() == b.len() => {
                Value::list(a.iter().zip(b.iter()).map(|(a, b)| self.merge(a.clone(), b.clone())).collect())
            }
            (Value::Function(a), Value::Function(b)) if Rc::ptr_eq(&a, &b) => Value::Function(a),
            (Value::Layer(a), Value::Layer(b)) if a.path == b.path => Value::Layer(a),
            _ => Value::Poison,
        }
    }

    pub(super) fn exec_for(&mut self, target: &Ident, over: &Expr, body: &Block) -> Flow {
        let Some(items) = self.loop_items(over) else { return self.exec_unknown_loop(target, over, body) };
        if items.is_empty() {
            self.note_untaken(body);
        }
        let Some(name) = self.frames.last_mut().map(Frame::open_loop) else { return Flow::Next };
        for (index, item) in items.into_iter().enumerate() {
            self.unrolled += 1;
            if self.unrolled > UNROLLED {
                if self.unrolled > UNROLLED + 1 {
                    return Flow::Next;
                }
                let message = format!("the loops of this program unroll into more than {UNROLLED} turns");
                self.report(Diagnostic::new(Code::E0406, over.span, message));
                return Flow::Next;
            }
            if let Some(frame) = self.frames.last_mut() {
                frame.begin_iteration(&name, index);
                frame.bind(&target.text, item, target.span);
            }
            self.refresh_origin();
            let flow = self.exec_block(body);
            if let Some(frame) = self.frames.last_mut() {
                frame.end_iteration();
            }
            self.refresh_origin();
            if let Flow::Returned(value) = flow {
                return Flow::Returned(value);
            }
        }
        Flow::Next
    }

    /// What a loop walks; `None` when that is unknown, which is reported unless a body is checked on its own.
    fn loop_items(&mut self, over: &Expr) -> Option<Vec<Value>> {
        match self.eval(over) {
            Value::List(items) => Some(items.to_vec()),
            Value::Poison => None,
            Value::Tensor(tensor) => {
                let message = format!("`for` walks ranges and lists at compile time, not {}", self.ty(tensor));
                let help = "`scan row in x axis 0 { ... }` walks an axis of a tensor when the program runs";
                self.report(Diagnostic::new(Code::E0308, over.span, message).help(help));
                None
            }
            other => self.mismatch(&other, "a range such as `0..3`, or a list", over.span),
        }
    }

    /// The body of a loop with unknown bounds, once, as a branch that may be taken.
    fn exec_unknown_loop(&mut self, target: &Ident, over: &Expr, body: &Block) -> Flow {
        let Some(before) = self.frames.last().cloned() else { return Flow::Next };
        let item = match &over.kind {
            ExprKind::Range(..) if self.generic => Value::Int(self.fresh_dim()),
            _ => Value::Poison,
        };
        let Some(frame) = self.frames.last_mut() else { return Flow::Next };
        let name = frame.open_loop();
        frame.begin_iteration(&name, 0);
        frame.bind(&target.text, item, target.span);
        self.unknown_branches += 1;
        let _ = self.exec_block(body);
        self.unknown_branches -= 1;
        if let Some(frame) = self.frames.last_mut() {
            frame.end_iteration();
        }
        self.merge_frame(before);
        Flow::Next
    }
}

/// The names that a block binds, wherever.
fn bound_names(block: &Block, names: &mut Vec<Ident>) {
    for stmt in &block.stmts {
        match &stmt.kind {
            StmtKind::Bind { targets, .. } => {
                names.extend(targets.iter().filter_map(|target| match target {
                    Target::Name(name) => Some(name.clone()),
                    Target::Ignore(_) => None,
                }));
            }
            StmtKind::Param(declaration) | StmtKind::State(declaration) => names.push(declaration.name.clone()),
            StmtKind::Layer(layer) => names.push(layer.name.clone()),
            StmtKind::If { branches, otherwise } => {
                branches.iter().map(|(_, block)| block).chain(otherwise).for_each(|block| bound_names(block, names));
            }
            StmtKind::For { target, body, .. } => {
                names.push(target.clone());
                bound_names(body, names);
            }
            StmtKind::Update { .. } | StmtKind::Return(_) | StmtKind::Yield(_) | StmtKind::Minimize(_) => {}
            StmtKind::Metric { .. } | StmtKind::Answer { .. } | StmtKind::Augment { .. } => {}
            StmtKind::Step { .. } | StmtKind::Picture { .. } | StmtKind::Expr(_) => {}
            StmtKind::Names(_) | StmtKind::Error => {}
        }
    }
}

/// Whether a condition asks if two things are equal. In its branches shapes may fit that do not elsewhere.
fn tells_dims(condition: &Expr) -> bool {
    match &condition.kind {
        ExprKind::Binary(BinaryOperator::Eq | BinaryOperator::Ne, ..) => true,
        ExprKind::Binary(_, a, b) => tells_dims(a) || tells_dims(b),
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => tells_dims(inner),
        _ => false,
    }
}
