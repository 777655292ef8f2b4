//! `step NAME [every K] { ... }`: training that alternates.
//!
//! The steps of a recipe are parts of one program, in their order, on one batch. A step sees what the recipe bound
//! before it, and parameters and states as the steps before it left them. What its `minimize` and its models change
//! takes effect at its end, unless its loss is no finite number: then it changes nothing. Derivatives end at
//! parameters, so no step is differentiated by way of another's update.
//!
//! A step of every k-th iteration is no part of the program of the others. In it `iteration` and `iterations` count how
//! often it is done.

use super::Purpose;
use super::build::{Builder, Loss};
use super::minimize::choose;
use super::output::is_finite;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::elaborate::Elaborator;
use crate::elaborate::builtins::emit;
use crate::elaborate::scope::{Frame, FrameKind};
use crate::elaborate::store::Entry;
use crate::syntax::ast::{Block, Expr, ExprKind, Ident, Stmt, StmtKind};
use nnc_graph::{BinaryOp, CompareOp, DType, Op, TensorType, ValueId};
use std::collections::BTreeSet;

/// A `step` block of a recipe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepInfo {
    /// Its name.
    pub name: String,
    /// It is done in every so many iterations.
    pub every: i64,
}

impl StepInfo {
    /// Whether it is done in an iteration, counted from 0: in the last one of every [`Self::every`].
    pub fn is_due(&self, iteration: i64) -> bool {
        (iteration + 1) % self.every == 0
    }

    /// What its loss is called.
    pub fn loss(&self) -> String {
        format!("{}.loss", self.name)
    }
}

/// What the losses of a recipe are called: `loss`, or `NAME.loss` of each of its steps.
pub(super) fn loss_names(steps: &[StepInfo]) -> Vec<String> {
    match steps {
        [] => vec!["loss".to_owned()],
        steps => steps.iter().map(StepInfo::loss).collect(),
    }
}

/// What the paths of what steps own themselves begin with.
const STEP: &str = "step";

/// The steps of a recipe under elaboration.
#[derive(Default)]
pub(super) struct Steps {
    /// In order.
    pub declared: Vec<StepInfo>,
    /// The one whose body is executed.
    pub open: Option<String>,
    /// Those that the program does; all of them without a list.
    pub due: Option<BTreeSet<String>>,
    /// New values that their step has guarded already.
    pub settled: BTreeSet<ValueId>,
}

impl Elaborator<'_> {
    /// In every how many iterations something is done: `what` says that, `least` how it is written of every one.
    pub(super) fn every(&mut self, expr: &Expr, what: &str, least: &str) -> Option<i64> {
        let value = self.eval(expr);
        let every = self.known_int(&value, expr.span)?;
        if every >= 1 {
            return Some(every);
        }
        let message = format!("{what} in every iteration or fewer of them: at least `{least}`, not {every}");
        self.fail(Code::E0601, expr.span, message, None);
        None
    }
}

impl<'p> Builder<'p> {
    pub(super) fn step(&mut self, name: &'p Ident, every: Option<&'p Expr>, body: &'p Block) {
        if self.steps.open.is_some() {
            return self.elaborator.fail(Code::E0107, name.span, "a `step` stands in no other step", None);
        }
        self.take(name, "$step");
        let every =
            every.map_or(Some(1), |every| self.elaborator.every(every, "a step is done", "every 1")).unwrap_or(1);
        let is_first = self.steps.declared.is_empty();
        self.steps.declared.push(StepInfo { name: name.text.clone(), every });
        let is_due = self.steps.due.as_ref().is_none_or(|due| due.contains(&name.text));
        if !is_due || !self.needs_loss() {
            return;
        }
        let Some(frame) = self.step_frame(name, is_first) else { return };
        let before = self.elaborator.store.snapshot();
        let outer = self.minimized.take();
        self.elaborator.push(frame);
        let former = (every > 1).then(|| self.slow_down(every));
        self.steps.open = Some(name.text.clone());
        body.stmts.iter().for_each(|stmt| self.step_statement(stmt));
        self.steps.open = None;
        self.elaborator.inputs.extend(former.into_iter().flatten());
        self.elaborator.leave();
        let minimized = std::mem::replace(&mut self.minimized, outer);
        if every > 1 {
            self.check_followed_in_step(before.len(), name.span);
        }
        if minimized.is_none() && self.trained.is_some() {
            let message = format!("the step `{}` minimises nothing", name.text);
            let help = "write `minimize LOSS over LAYER using adam(lr=1e-3)` in it".to_owned();
            self.elaborator.fail(Code::E0602, name.span, message, Some(help));
        }
        if self.purpose == Purpose::Train {
            self.settle(&before, &name.text);
        }
    }

    /// From here on `iteration` and `iterations` are those of something that is done in every `every`-th iteration.
    /// Gives what they were.
    pub(super) fn slow_down(&mut self, every: i64) -> [(String, ValueId); 2] {
        let scalar = TensorType::scalar(DType::I64);
        let elaborator = &mut self.elaborator;
        let former =
            ["$iteration", "$iterations"].map(|name| (name.to_owned(), elaborator.input(name, scalar.clone())));
        let count = emit::int(&mut elaborator.graph, DType::I64, every);
        for (name, value) in &former {
            let quotient = emit::binary(&mut elaborator.graph, BinaryOp::Div, *value, count);
            elaborator.inputs.insert(name.clone(), quotient);
        }
        former
    }

    /// Whether an iteration, counted from 0, is the last one of every so many.
    pub(super) fn is_last_of(&mut self, iteration: ValueId, every: i64) -> ValueId {
        let graph = &mut self.elaborator.graph;
        let [every, one, zero] = [every, 1, 0].map(|number| emit::int(graph, DType::I64, number));
        let next = emit::binary(graph, BinaryOp::Add, iteration, one);
        let rest = emit::binary(graph, BinaryOp::Rem, next, every);
        graph.emit(Op::Compare(CompareOp::Eq), &[rest, zero])
    }

    /// Whether the step at hand rests in some iterations.
    pub(super) fn is_seldom(&self) -> bool {
        self.steps.open.is_some() && self.steps.declared.last().is_some_and(|step| step.every > 1)
    }

    /// A frame that sees what the recipe has bound so far. What the body binds ends with it.
    fn step_frame(&mut self, name: &Ident, is_first: bool) -> Option<Frame> {
        let module = self.item.module;
        let outer = self.elaborator.frames.last_mut()?;
        let parent = outer.path_of(STEP);
        if is_first && let Err(before) = outer.take(&parent, name.span) {
            let message = format!("`{STEP}` is where steps keep what they own");
            let diagnostic = Diagnostic::new(Code::E0403, before, message).with(name.span, "of which this is one");
            self.elaborator.report(diagnostic.help("give the layer another name"));
            return None;
        }
        let path = format!("{parent}.{}", name.text);
        let mut frame = Frame::new(FrameKind::Recipe, &name.text, &path, module, Span::default());
        frame.declared = name.span;
        (frame.bindings, frame.unbound) = (outer.bindings.clone(), outer.unbound.clone());
        Some(frame)
    }

    fn step_statement(&mut self, stmt: &'p Stmt) {
        let word = match &stmt.kind {
            StmtKind::Answer { .. } => "answer",
            StmtKind::Picture { .. } => "picture",
            StmtKind::Expr(Expr { kind: ExprKind::Call(callee, _), .. })
                if super::build::is_name(callee, "stop_early") =>
            {
                "stop_early"
            }
            StmtKind::Expr(Expr { kind: ExprKind::Call(callee, _), .. }) if super::build::is_name(callee, "prune") => {
                "prune"
            }
            StmtKind::Expr(Expr { kind: ExprKind::Call(callee, _), .. })
                if super::build::is_name(callee, "quantise") =>
            {
                "quantise"
            }
            _ => return self.statement(stmt),
        };
        let message = format!("`{word}` stands in the recipe itself, not in a step");
        self.elaborator.fail(Code::E0107, stmt.span, message, None);
    }

    /// Lets take effect what a step has changed, if its loss is finite.
    fn settle(&mut self, before: &[ValueId], step: &str) {
        let new_parameters = std::mem::take(&mut self.new_parameters);
        let Some(loss) = self.losses.iter().find(|loss| loss.step.as_deref() == Some(step)) else { return };
        let guard = is_finite(&mut self.elaborator.graph, loss.value);
        let entries: Vec<Entry> = self.elaborator.store.entries().to_vec();
        for (at, entry) in entries.iter().enumerate() {
            let former = before.get(at).copied().unwrap_or(entry.leaf);
            let new = new_parameters.get(&entry.path).copied().unwrap_or(entry.current);
            let now = if entry.frozen { former } else { new };
            if now == former {
                if let Some(entry) = self.elaborator.store.get_mut(&entry.path) {
                    entry.current = former;
                }
                continue;
            }
            let graph = &mut self.elaborator.graph;
            let chosen = choose(graph, guard, now, former);
            let settled = graph.emit(Op::StopGradient, &[chosen]);
            self.steps.settled.insert(settled);
            if let Some(entry) = self.elaborator.store.get_mut(&entry.path) {
                entry.current = settled;
            }
        }
    }

    /// Whether what stands in steps goes together with what stands around them.
    pub(super) fn check_steps(&mut self) {
        let Some(first) = self.steps.declared.first() else { return };
        if let Some(place) = self.minimized {
            let message = "in a recipe with steps, `minimize` stands in them";
            let help = format!("put it into a step, as `{}` is one", first.name);
            self.elaborator.fail(Code::E0107, place, message, Some(help));
        }
        if self.steps.declared.iter().all(|step| step.every > 1) {
            let message = "in some iterations no step is done";
            let help = "leave `every` out of the step that is done most often".to_owned();
            self.elaborator.fail(Code::E0601, self.train.name.span, message, Some(help));
        }
    }

    /// The loss of the `minimize` at hand.
    pub(super) fn add_loss(&mut self, value: ValueId) {
        self.losses.push(Loss { step: self.steps.open.clone(), value });
    }
}
