//! The walk over a `train` block.
//!
//! Statements are executed in order, in a frame that sees the fields of the data block, the model or the layers, and
//! `N`. Ordinary statements go the way of every body; those of recipes are here. A model that the block is named after
//! has one instance, whose paths have no prefix; whatever else such a block uses lives under `recipe.`.

use super::answers::{AnswerInfo, Asked};
use super::average::Averaged;
use super::prune::{Derivative, Pruning, Trained};
use super::quantise::Quantisation;
use super::settings::{Settings, Stop};
use super::step::Steps;
use super::{Accumulation, MetricInfo, Purpose, RecipeInfo, names};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::elaborate::data::{self, DataInfo, Example};
use crate::elaborate::program::{ItemId, Program};
use crate::elaborate::scope::{Frame, FrameKind, RECIPE};
use crate::elaborate::store::Resident;
use crate::elaborate::value::{Args, Callable, Value};
use crate::elaborate::vectorise::{Lane, vectorise};
use crate::elaborate::weight_names::Pretrained;
use crate::elaborate::{Elaborator, Options};
use crate::syntax::ast::{Block, Body, Expr, ExprKind, FunctionKind, Ident, Stmt, StmtKind, Target, Train};
use nnc_graph::{DType, Dim, Op, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a `minimize` minimises.
pub(super) struct Loss {
    /// The step that it stands in.
    pub step: Option<String>,
    pub value: ValueId,
}

impl Loss {
    /// What it is called: `loss`, in a step `NAME.loss`.
    pub fn name(&self) -> String {
        self.step.as_ref().map_or("loss".to_owned(), |step| format!("{step}.loss"))
    }
}

/// A metric with its value.
pub(super) struct Metric {
    pub info: MetricInfo,
    pub value: ValueId,
}

/// An answer with its value.
pub(super) struct Answer {
    pub name: String,
    pub value: Value,
}

/// A recipe under elaboration.
pub(crate) struct Builder<'p> {
    pub elaborator: Elaborator<'p>,
    pub(super) item: ItemId,
    pub(super) train: &'p Train,
    pub(super) purpose: Purpose,
    pub(super) n: Dim,
    pub(super) settings: Settings,
    pub(super) data: Option<DataInfo>,
    /// One, or one for each step that is done.
    pub(super) losses: Vec<Loss>,
    pub(super) steps: Steps,
    pub(super) accumulations: Vec<Accumulation>,
    pub(super) metrics: Vec<Metric>,
    /// Metrics that are matrices, with their values.
    pub(super) matrices: Vec<(String, ValueId)>,
    pub(super) answers: Vec<Answer>,
    /// Whether `--set` is said of this recipe.
    pub(super) is_set: bool,
    /// Which answers with parameters are made.
    pub(super) asked: Asked,
    /// What those that were made take.
    pub(super) answer_infos: Vec<AnswerInfo>,
    /// New values of parameters by path.
    pub(super) new_parameters: BTreeMap<String, ValueId>,
    /// What `prune` says.
    pub(super) pruning: Option<Pruning>,
    /// What `quantise` says.
    pub(super) quantisation: Option<Quantisation>,
    /// The layers that it may round.
    pub(super) rounded: Vec<String>,
    /// How long axes of parameters are that lost channels.
    pub(super) left: BTreeMap<String, BTreeMap<usize, usize>>,
    /// Of parameters that products read, the axis of outputs; not known yet in a first elaboration.
    pub(super) outputs: Option<BTreeMap<String, usize>>,
    /// The share of weights that go, where masks are chosen.
    pub(super) pruned_share: Option<ValueId>,
    /// The number of scores that are no finite numbers, there.
    pub(super) unjudged: Option<ValueId>,
    /// The derivatives that the choice of masks may read.
    pub(super) derivatives: Vec<Derivative>,
    /// What the `minimize` of the recipe trains.
    pub(super) trained_weights: Vec<Trained>,
    /// Parameters that are the mean of what is trained.
    pub(super) averaged: Vec<Averaged>,
    /// Paths of parameters that some `minimize` reaches; `None` when one of them has errors.
    pub(super) trained: Option<BTreeSet<String>>,
    /// Whether the block is named after a model.
    pub(super) is_model: bool,
    /// Names read anywhere in the block.
    read: BTreeSet<String>,
    /// Names of metrics and answers with their places.
    taken: BTreeMap<String, Span>,
    /// Where the `minimize` of the recipe, or of the step at hand, stands.
    pub(super) minimized: Option<Span>,
    /// What the block does not say, with advice.
    missing: Vec<(&'static str, &'static str)>,
}

impl<'p> Builder<'p> {
    pub fn new(
        program: &'p Program,
        options: &'p Options,
        (item, train): (ItemId, &'p Train),
        purpose: Purpose,
        n: Dim,
    ) -> Self {
        let mut elaborator = Elaborator::new(program, options, &train.name.text);
        elaborator.training = purpose == Purpose::Train;
        let mut read = BTreeSet::new();
        names::read_in_block(&train.body, &mut read);
        Self {
            elaborator,
            item,
            train,
            purpose,
            n,
            settings: Settings::default(),
            data: None,
            losses: Vec::new(),
            steps: Steps::default(),
            accumulations: Vec::new(),
            metrics: Vec::new(),
            matrices: Vec::new(),
            answers: Vec::new(),
            is_set: true,
            asked: Asked::No,
            answer_infos: Vec::new(),
            new_parameters: BTreeMap::new(),
            pruning: None,
            quantisation: None,
            rounded: Vec::new(),
            left: BTreeMap::new(),
            outputs: None,
            pruned_share: None,
            unjudged: None,
            derivatives: Vec::new(),
            trained_weights: Vec::new(),
            averaged: Vec::new(),
            trained: Some(BTreeSet::new()),
            is_model: false,
            read,
            taken: BTreeMap::new(),
            minimized: None,
            missing: Vec::new(),
        }
    }

    /// Executes the block.
    pub fn run(&mut self) {
        if self.open().is_none() {
            return;
        }
        for stmt in &self.train.body.stmts {
            self.statement(stmt);
        }
        self.close();
        self.elaborator.leave();
    }

    /// Names that `--set` may set.
    pub fn settable(&self) -> impl Iterator<Item = &str> {
        self.settings.settable.iter().map(String::as_str)
    }

    /// What the block says; `None` when it is not complete.
    pub fn info(&self) -> Option<RecipeInfo> {
        let pictures = self.train.body.stmts.iter().filter_map(|stmt| match &stmt.kind {
            StmtKind::Picture { name, .. } => Some(name.text.clone()),
            _ => None,
        });
        let states = self.elaborator.store.entries().iter().filter(|entry| entry.kind == Resident::State);
        Some(RecipeInfo {
            name: self.train.name.text.clone(),
            model: self.train.name.text.clone(),
            data: self.train.data.text.clone(),
            epochs: self.settings.epochs?,
            batch: self.settings.batch?,
            stop_early: self.settings.stop_early.as_ref().and_then(Stop::info),
            steps: self.steps.declared.clone(),
            accumulations: self.accumulations.clone(),
            prune: self.pruning.as_ref().map(Pruning::info),
            quantise: self.quantise_info(),
            metrics: self.metrics.iter().map(|metric| metric.info.clone()).collect(),
            matrices: self.matrices.iter().map(|(name, _)| name.clone()).collect(),
            states: states.map(|entry| entry.path.clone()).collect(),
            answers: self.answers_told(),
            pictures: pictures.collect(),
            seed: self.settings.seed,
            settings: self.settings.settable.clone(),
            pretrained: Pretrained::default(),
            followers: self.elaborator.followers.iter().map(|it| (it.path.clone(), it.leader.clone())).collect(),
        })
    }

    /// Names of the answers in order of declaration; `result` when there is none.
    pub(super) fn answer_names(&self) -> impl Iterator<Item = &str> {
        let declared = |stmt: &'p Stmt| match &stmt.kind {
            StmtKind::Answer { name, .. } => Some(name.text.as_str()),
            _ => None,
        };
        let stmts = &self.train.body.stmts;
        let result = (!stmts.iter().any(|stmt| declared(stmt).is_some())).then_some("result");
        stmts.iter().filter_map(declared).chain(result)
    }

    /// Opens the frame: sizes, fields, the model.
    fn open(&mut self) -> Option<()> {
        let train = self.train;
        let program = self.elaborator.program;
        let (data_item, block) = program.find_data(self.item.module, &train.data.text)?;
        let training = self.purpose == Purpose::Train;
        let (example, reported) = data::elaborate(program, self.elaborator.options, (data_item, block), None, training);
        let Some(example) = example else {
            reported.into_iter().for_each(|diagnostic| self.elaborator.report.add(diagnostic));
            return None;
        };
        let model = program.find_function(self.item.module, &train.name.text);
        let model = model.filter(|id| program.function(*id).is_some_and(|f| f.kind == FunctionKind::Model));
        self.is_model = model.is_some();
        let path = if self.is_model { RECIPE } else { "" };
        let mut frame = Frame::new(FrameKind::Recipe, &train.name.text, path, self.item.module, Span::default());
        frame.declared = train.name.span;
        for (name, &size) in &self.elaborator.options.bind {
            frame.bind(name, Value::int(size), train.name.span);
        }
        frame.bind("N", Value::Int(self.n.clone()), train.name.span);
        self.elaborator.push(frame);
        self.bind_fields(&example, block.name.span);
        self.data = Some(example.info);
        self.bind_model(model)
    }

    /// Puts the axis `N` in front of the fields and binds them.
    fn bind_fields(&mut self, example: &Example, span: Span) {
        let mut lanes: BTreeMap<String, Lane> = BTreeMap::new();
        let mut raw = example.info.raw.iter();
        for (_, node) in example.graph.nodes() {
            let Op::Input { name, ty } = &node.op else { continue };
            let lane = match name.as_str() {
                "$draw" => {
                    let ty = TensorType::new(DType::I64, vec![self.n.clone()]);
                    Lane { value: self.elaborator.input(name, ty), batched: true }
                }
                _ if let Some(lesson) = example.info.lessons.iter().find(|lesson| lesson.path == *name) => {
                    Lane { value: self.elaborator.taught_state(lesson, span), batched: false }
                }
                _ if name.starts_with('$') => Lane { value: self.elaborator.input(name, ty.clone()), batched: false },
                _ => {
                    let Some(field) = raw.next() else { continue };
                    let ty = TensorType::new(ty.dtype, [vec![self.n.clone()], ty.shape.to_vec()].concat());
                    Lane { value: self.elaborator.input(&field.name, ty), batched: true }
                }
            };
            lanes.insert(name.clone(), lane);
        }
        let mut leaf = |_: &mut nnc_graph::Graph, op: &Op| match op {
            Op::Input { name, .. } => lanes.get(name).copied().ok_or_else(|| format!("no input `{name}`")),
            other => Err(format!("`{}` in a data block", other.name())),
        };
        let wanted: Vec<ValueId> = example.fields.iter().map(|field| field.value).collect();
        match vectorise(&example.graph, &wanted, &mut self.elaborator.graph, &self.n, &mut leaf) {
            Ok(values) => {
                for (field, value) in example.fields.iter().zip(values) {
                    let name = Ident { text: field.name.clone(), span: field.span };
                    self.elaborator.bind_name(&name, Value::Tensor(value));
                }
            }
            Err(reason) => {
                let message = format!("the data has no batched form: {reason}");
                self.elaborator.fail(Code::E0301, span, message, None);
            }
        }
    }

    /// Binds the name of the block to the one instance of its model.
    fn bind_model(&mut self, model: Option<ItemId>) -> Option<()> {
        let train = self.train;
        let Some(model) = model else {
            if train.arguments.is_some() {
                let message = format!("there is no model `{}`", train.name.text);
                self.elaborator.fail(Code::E0201, train.name.span, message, None);
            }
            return Some(());
        };
        let items = self.elaborator.eval_arguments(train.arguments.as_deref().unwrap_or_default());
        let callee = Value::Function(Rc::new(Callable::Item(model)));
        let args = Args { items, expected: None };
        let layer = self.elaborator.layer_of(&train.name.text, "", &callee, args, train.name.span)?;
        if let Some(frame) = self.elaborator.frames.last_mut() {
            frame.bind(&train.name.text, Value::Layer(Rc::new(layer)), train.name.span);
        }
        Some(())
    }

    pub(super) fn statement(&mut self, stmt: &'p Stmt) {
        match &stmt.kind {
            StmtKind::Bind { targets, value, .. } => self.bind(stmt, targets, value),
            StmtKind::Minimize(minimize) => {
                if let Some(before) = self.minimized.replace(stmt.span) {
                    let diagnostic = Diagnostic::new(Code::E0107, stmt.span, "there is a `minimize` already");
                    let help = "add up the losses, or put each `minimize` into a `step NAME { ... }`";
                    return self.elaborator.report(diagnostic.with(before, "the first").help(help));
                }
                self.minimize(minimize, stmt.span);
            }
            StmtKind::Metric { name, value } => self.metric(name, value),
            StmtKind::Answer { name, params, result, body } => match (params, body) {
                (None, Body::Expr(value)) => self.answer(name, result.as_ref(), value),
                (Some(_), _) | (None, Body::Block(_)) => {
                    self.answer_of(name, params.as_deref().unwrap_or_default(), result.as_ref(), body);
                }
            },
            StmtKind::Picture { name, value } => self.picture(name, value),
            StmtKind::Step { name, every, body } => self.step(name, every.as_ref(), body),
            StmtKind::Expr(Expr { kind: ExprKind::Call(callee, arguments), span }) if is_name(callee, "stop_early") => {
                self.stop_early(arguments, *span);
            }
            StmtKind::Expr(Expr { kind: ExprKind::Call(callee, arguments), span }) if is_name(callee, "prune") => {
                self.prune(arguments, *span);
            }
            StmtKind::Expr(Expr { kind: ExprKind::Call(callee, arguments), span }) if is_name(callee, "quantise") => {
                self.quantise(arguments, *span);
            }
            StmtKind::If { .. } | StmtKind::For { .. } => {
                self.elaborator.exec(stmt);
                if has_minimize(stmt) {
                    // Which was reported, so that nothing is told of what it would have trained.
                    self.trained = None;
                }
            }
            StmtKind::Expr(_) | StmtKind::Layer(_) => {
                self.elaborator.exec(stmt);
            }
            StmtKind::Param(_) | StmtKind::State(_) | StmtKind::Update { .. } | StmtKind::Return(_) => {
                self.elaborator.exec(stmt);
            }
            StmtKind::Yield(_) | StmtKind::Augment { .. } | StmtKind::Names(_) | StmtKind::Error => {
                self.elaborator.exec(stmt);
            }
        }
    }

    fn bind(&mut self, stmt: &'p Stmt, targets: &[Target], value: &Expr) {
        if let [Target::Name(name)] = targets {
            if self.setting(name, value) {
                return;
            }
            if !self.read.contains(&name.text) && !name.text.starts_with('_') {
                self.unused(name);
            }
        }
        self.elaborator.exec(stmt);
    }

    /// Takes a name for a metric or answer.
    pub(super) fn take(&mut self, name: &Ident, reserved: &str) {
        if name.text == reserved {
            let message = format!("`{reserved}` is there already");
            self.elaborator.fail(Code::E0202, name.span, message, None);
        }
        let key = format!("{reserved} {}", name.text);
        if let Some(before) = self.taken.insert(key, name.span) {
            let diagnostic = Diagnostic::new(Code::E0202, name.span, format!("`{}` is declared twice", name.text));
            self.elaborator.report(diagnostic.with(before, "first here"));
        }
    }

    /// A value as a float scalar.
    pub(super) fn scalar(&mut self, value: &Value, span: Span, what: &str) -> Option<ValueId> {
        let float = self.elaborator.options.float;
        let tensor = self.elaborator.tensor(value, None, span)?;
        let ty = self.elaborator.ty(tensor).clone();
        if ty.shape.rank() == 0 {
            let graph = &mut self.elaborator.graph;
            return Some(if ty.dtype == float { tensor } else { graph.emit(Op::Cast(float), &[tensor]) });
        }
        let diagnostic = Diagnostic::new(Code::E0311, span, format!("{what} is a scalar, and this is {ty}"));
        let diagnostic = self.elaborator.with_birth(diagnostic, tensor, span);
        self.elaborator.report(diagnostic.help("take the mean of it: `mean(...)`"));
        None
    }

    /// What is missing, and what the block answers when it does not say.
    fn close(&mut self) {
        self.check_settings();
        if self.minimized.is_none() && self.steps.declared.is_empty() && self.trained.is_some() {
            let help = "write `minimize LOSS using adam(lr=1e-3)`";
            self.missing("nothing is minimised here", help);
        }
        self.check_steps();
        if self.purpose == Purpose::Train && self.steps.due.is_none() {
            self.check_followers();
        }
        self.move_ranges();
        self.apply_pruning();
        if self.purpose == Purpose::Train {
            self.report_unreached();
        }
        if self.purpose == Purpose::Answer {
            self.answer_with_model();
        }
        self.report_missing();
    }

    /// Notes something that the block does not say.
    pub(super) fn missing(&mut self, message: &'static str, help: &'static str) {
        self.missing.push((message, help));
    }

    fn report_missing(&mut self) {
        let Some(((first, help), more)) = self.missing.split_first() else { return };
        let mut diagnostic = Diagnostic::new(Code::E0602, self.train.name.span, *first).help(*help);
        for (message, help) in more {
            diagnostic = diagnostic.note(format!("{message}: {help}"));
        }
        self.elaborator.report(diagnostic);
    }

    /// Whether a `minimize` is evaluated for an answer: only when the model may be used in it alone.
    pub(super) fn needs_loss(&self) -> bool {
        match self.purpose {
            Purpose::Train | Purpose::Evaluate => true,
            Purpose::Answer => !self.train.body.stmts.iter().any(|stmt| matches!(stmt.kind, StmtKind::Answer { .. })),
            Purpose::Picture => false,
        }
    }
}

pub(super) fn is_name(expr: &Expr, name: &str) -> bool {
    matches!(&expr.kind, ExprKind::Name(found) if found == name)
}

/// Whether a `minimize` stands under an `if` or `for`.
fn has_minimize(stmt: &Stmt) -> bool {
    let within = |block: &Block| block.stmts.iter().any(has_minimize);
    match &stmt.kind {
        StmtKind::Minimize(_) => true,
        StmtKind::If { branches, otherwise } => branches.iter().map(|(_, block)| block).chain(otherwise).any(within),
        StmtKind::For { body, .. } => within(body),
        _ => false,
    }
}
