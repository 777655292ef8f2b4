//! Execution of statements: bindings, parameters and state, `if` and `for` on compile-time values.
//!
//! `if` and `for` open no scope. A condition that is unknown, which happens only while a body is checked on its own or
//! after an error, takes both branches from one state and merges what they bound: a name that has one type in both
//! keeps it, one that differs becomes poison.

use super::scope::{Binding, Frame, FrameKind};
use super::store::{Entry, Resident};
use super::value::{Args, Layer, Value};
use super::{Elaborator, UNROLLED};
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::syntax::ast::{
    Block, Declaration, Expr, ExprKind, Ident, LayerStmt, Stmt, StmtKind, Target, Type,
};
use nnc_graph::{Op, TensorType, ValueId};
use std::rc::Rc;

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
            if let Flow::Returned(value) = self.exec(stmt) {
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
            StmtKind::Return(value) => return self.exec_return(value),
            StmtKind::If { branches, otherwise } => return self.exec_if(branches, otherwise.as_ref()),
            StmtKind::For { target, over, body } => return self.exec_for(target, over, body),
            StmtKind::Expr(expr) => self.exec_expr(expr),
            StmtKind::Yield(value) => self.report(
                Diagnostic::new(Code::E0701, stmt.span, "`yield` belongs into a `scan`, which is not supported yet")
                    .with(value.span, ""),
            ),
            StmtKind::Minimize(_) | StmtKind::Metric { .. } | StmtKind::Answer { .. } | StmtKind::Step { .. } => {
                self.report(Diagnostic::new(Code::E0107, stmt.span, "this belongs into a `train` block"));
            }
            StmtKind::Augment { .. } => {
                self.report(Diagnostic::new(Code::E0107, stmt.span, "this belongs into a `data` block"));
            }
            StmtKind::Error => {}
        }
        Flow::Next
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
        let result = self.frames.last().and_then(|frame| frame.item).and_then(|item| self.program.function(item));
        let Some(function) = result else {
            self.report(Diagnostic::new(Code::E0107, expr.span, "`return` belongs into a `fn` or `model`"));
            return Flow::Next;
        };
        let expected = function.result.as_ref().and_then(|ty| self.quiet_type(ty));
        let value = self.eval_expected(expr, expected.as_ref());
        Flow::Returned(self.check_result(function, value, expr.span))
    }

    fn exec_if(&mut self, branches: &[(Expr, Block)], otherwise: Option<&Block>) -> Flow {
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
            None => self.exec_both(block, rest, otherwise),
        }
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
        let taken = self.exec_block(block);
        let after = self.frames.last_mut().map(|frame| std::mem::replace(frame, before));
        let after_states = self.store.snapshot();
        self.store.restore(&states);
        let other = self.exec_if(rest, otherwise);
        self.unknown_branches -= 1;
        let Some(after) = after else { return Flow::Next };
        match (taken, other) {
            (Flow::Returned(a), Flow::Returned(b)) => Flow::Returned(self.merge(a, b)),
            (Flow::Returned(_), Flow::Next) => Flow::Next,
            (Flow::Next, Flow::Returned(_)) => {
                self.store.restore(&after_states);
                self.replace_frame(after);
                Flow::Next
            }
            (Flow::Next, Flow::Next) => {
                self.merge_frame(after);
                self.merge_states(&after_states);
                Flow::Next
            }
        }
    }

    fn replace_frame(&mut self, frame: Frame) {
        if let Some(last) = self.frames.last_mut() {
            *last = frame;
        }
    }

    fn merge_frame(&mut self, taken: Frame) {
        let Some(mut frame) = self.frames.pop() else { return };
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
            let merged: Vec<ValueId> =
                taken.iter().zip(&now).zip(self.store.entries()).map(|((a, b), e)| if a == b { *a } else { e.leaf }).collect();
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

    fn exec_for(&mut self, target: &Ident, over: &Expr, body: &Block) -> Flow {
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
                self.report(Diagnostic::new(Code::E0308, over.span, message));
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

    /// `param` or `state`.
    fn declare(&mut self, declaration: &Declaration, kind: Resident) {
        let Declaration { name, ty, init } = declaration;
        let value = self.resident(name, ty, init, kind);
        let Some(frame) = self.frames.last_mut() else { return };
        match value {
            Some((path, Resident::State, _)) => frame.bind_state(&name.text, &path, name.span),
            Some((_, Resident::Parameter, leaf)) => frame.bind(&name.text, Value::Tensor(leaf), name.span),
            None => frame.bind(&name.text, Value::Poison, name.span),
        }
    }

    fn resident(&mut self, name: &Ident, ty: &Type, init: &Expr, kind: Resident) -> Option<(String, Resident, ValueId)> {
        let frame = self.frames.last()?;
        let (allowed, word) = match kind {
            Resident::Parameter => (frame.kind.owns_parameters(), "param"),
            Resident::State => (frame.kind.owns_state(), "state"),
        };
        if !allowed {
            let message = format!("a `{}` cannot own a `{word}`", frame.kind.word());
            let diagnostic = Diagnostic::new(Code::E0401, name.span, message);
            let help = if frame.kind == FrameKind::Function { "declare it as a `model`" } else { "put it into a `model`" };
            self.report(diagnostic.help(help));
            return None;
        }
        let path = frame.path_of(&name.text);
        let ty = self.tensor_type(ty)?;
        self.take_path(&path, &name.text, name.span)?;
        if let Some(known) = self.store.get(&path) {
            let (leaf, place) = (known.leaf, known.span);
            if self.ty(leaf) == &ty {
                return Some((path, kind, leaf));
            }
            if self.unknown_branches == 0 {
                self.report_disagreement(&path, leaf, &ty, name.span, place);
                return None;
            }
        }
        let leaf = self.new_leaf(&path, &ty, kind, name.span)?;
        let first = self.first_value(&path, init, &ty);
        let entry = Entry { path: path.clone(), kind, ty, leaf, current: leaf, first, span: name.span };
        self.store.insert(entry);
        Some((path, kind, leaf))
    }

    fn new_leaf(&mut self, path: &str, ty: &TensorType, kind: Resident, span: Span) -> Option<ValueId> {
        let (path, ty) = (path.to_owned(), ty.clone());
        let op = match kind {
            Resident::Parameter => Op::Param { path, ty },
            Resident::State => Op::State { path, ty },
        };
        Some(self.emit_all(op, &[], span)?[0])
    }

    fn take_path(&mut self, path: &str, name: &str, span: Span) -> Option<()> {
        match self.frames.last_mut()?.take(path, span) {
            Ok(()) => Some(()),
            Err(before) => {
                let message = format!("`{name}` names a parameter, state, layer or use twice");
                self.report(Diagnostic::new(Code::E0403, span, message).with(before, "first here"));
                None
            }
        }
    }

    fn report_disagreement(&mut self, path: &str, leaf: ValueId, ty: &TensorType, span: Span, place: Span) {
        let message = format!("`{path}` is {} since the first use of this layer, here it would be {ty}", self.ty(leaf));
        let diagnostic = Diagnostic::new(Code::E0404, span, message);
        let diagnostic = if place == span { diagnostic } else { diagnostic.with(place, "declared here") };
        self.report(diagnostic.help("uses of one layer share its parameters: make a second layer"));
    }

    /// Evaluates an initialiser into the graph of first values.
    fn first_value(&mut self, path: &str, init: &Expr, ty: &TensorType) -> Option<ValueId> {
        std::mem::swap(&mut self.graph, &mut self.first_values);
        let outer = self.initialising.replace(self.frames.len().wrapping_sub(1));
        let outer_path = std::mem::replace(&mut self.initial_path, path.to_owned());
        let value = self.eval_expected(init, Some(ty));
        let first = self.fit_first(&value, path, ty, init.span);
        self.initial_path = outer_path;
        self.initialising = outer;
        std::mem::swap(&mut self.graph, &mut self.first_values);
        first
    }

    fn fit_first(&mut self, value: &Value, path: &str, ty: &TensorType, span: Span) -> Option<ValueId> {
        let tensor = self.tensor(value, Some(ty.dtype), span)?;
        let found = self.ty(tensor).clone();
        if found == *ty {
            return Some(tensor);
        }
        if found.shape.rank() == 0 && found.dtype == ty.dtype {
            return Some(self.graph.broadcast_scalar(tensor, &ty.shape));
        }
        let agrees = found.dtype == ty.dtype
            && found.shape.rank() == ty.shape.rank()
            && found.shape.iter().zip(ty.shape.iter()).all(|(a, b)| self.dims_agree(a, b));
        if !agrees {
            let message = format!("the first value is {found}, but `{path}` is {ty}");
            self.report(Diagnostic::new(Code::E0302, span, message));
        }
        None
    }

    fn exec_update(&mut self, target: &Ident, expr: &Expr) {
        let value = self.eval(expr);
        let Some(frame) = self.frames.last() else { return };
        let state = frame.bindings.get(&target.text).and_then(|binding| binding.state.clone());
        match state {
            Some(path) => self.update_state(&path, &value, expr.span),
            None if frame.kind == FrameKind::Optimizer && frame.first_parameter.as_ref() == Some(&target.text) => {
                self.update_first(target, &value, expr.span);
            }
            None => self.report_no_state(target),
        }
    }

    fn update_state(&mut self, path: &str, value: &Value, span: Span) {
        let Some(ty) = self.store.get(path).map(|entry| entry.ty.clone()) else { return };
        let Some(new) = self.updated(value, &ty, path, span) else { return };
        // To gradients a state is constant, also the one just written.
        let is_model = self.frames.last().is_some_and(|frame| frame.kind == FrameKind::Model);
        let new = if is_model { self.graph.add1(Op::StopGradient, &[new]).unwrap_or(new) } else { new };
        if let Some(entry) = self.store.get_mut(path) {
            entry.current = new;
        }
    }

    fn update_first(&mut self, target: &Ident, value: &Value, span: Span) {
        let known = self.frames.last().and_then(|frame| frame.bindings.get(&target.text)).map(|b| b.value.clone());
        let Some(Value::Tensor(old)) = known else { return };
        let ty = self.ty(old).clone();
        let Some(new) = self.updated(value, &ty, &target.text, span) else { return };
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(&target.text, Value::Tensor(new), target.span);
        }
    }

    /// The new value of a state; a number is repeated over its shape.
    fn updated(&mut self, value: &Value, ty: &TensorType, name: &str, span: Span) -> Option<ValueId> {
        let tensor = self.tensor(value, Some(ty.dtype), span)?;
        let found = self.ty(tensor).clone();
        if found == *ty {
            return Some(tensor);
        }
        if !matches!(value, Value::Tensor(_)) {
            return Some(self.graph.broadcast_scalar(tensor, &ty.shape));
        }
        let may_agree = found.shape.rank() == ty.shape.rank()
            && found.dtype == ty.dtype
            && found.shape.iter().zip(ty.shape.iter()).all(|(a, b)| self.dims_agree(a, b));
        if !may_agree {
            let message = format!("`{name}` is {ty}, and this is {found}");
            let diagnostic = self.with_birth(Diagnostic::new(Code::E0302, span, message), tensor, span);
            self.report(diagnostic);
        }
        None
    }

    fn report_no_state(&mut self, target: &Ident) {
        let message = format!("`{}` is no state, and `<-` writes one", target.text);
        let mut diagnostic = Diagnostic::new(Code::E0405, target.span, message);
        if let Some(frame) = self.frames.last() {
            let states = frame.bindings.iter().filter(|(_, b)| b.state.is_some()).map(|(name, _)| name.as_str());
            diagnostic = match closest(&target.text, states) {
                Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
                None if frame.bindings.contains_key(&target.text) => diagnostic.help("bind a value with `=`"),
                None => diagnostic,
            };
        }
        self.report(diagnostic);
    }

    fn exec_layer(&mut self, stmt: &LayerStmt) {
        if let Some((_, place)) = &stmt.from {
            self.report(Diagnostic::new(Code::E0701, *place, "`layer ... from` is not supported yet"));
        }
        if let Some(place) = stmt.frozen {
            self.report(Diagnostic::new(Code::E0701, place, "`frozen` is not supported yet"));
        }
        let layer = self.make_layer(&stmt.name, &stmt.value);
        let value = layer.map_or(Value::Poison, |layer| Value::Layer(Rc::new(layer)));
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(&stmt.name.text, value, stmt.name.span);
        }
    }

    fn make_layer(&mut self, name: &Ident, expr: &Expr) -> Option<Layer> {
        let frame = self.frames.last()?;
        if !frame.kind.owns_models() {
            let message = format!("a `{}` cannot own a layer", frame.kind.word());
            self.report(Diagnostic::new(Code::E0401, name.span, message).help("declare it as a `model`"));
            return None;
        }
        let (callee, arguments) = match &expr.kind {
            ExprKind::Call(callee, arguments) => (&**callee, arguments.as_slice()),
            _ => (expr, &[][..]),
        };
        let value = self.eval_callee(callee)?;
        let items = self.eval_arguments(arguments);
        let path = self.frames.last()?.path_of(&name.text);
        self.take_path(&path, &name.text, name.span)?;
        self.layer_of(&name.text, &path, &value, Args { items, expected: None }, expr.span)
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
            StmtKind::Step { .. } | StmtKind::Expr(_) | StmtKind::Error => {}
        }
    }
}
