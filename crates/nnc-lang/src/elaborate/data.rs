//! `data` blocks: the type of a raw example, the fields made from it, splits and settings.
//!
//! The expressions of a block are elaborated for one example, into a graph of its own whose inputs are the tensors of
//! the raw example; `recipe` puts the axis `N` in front. `augment` acts only when the graph is made for training, and
//! only there random numbers may be drawn, keyed by `$draw`. Nothing here opens a file: a source is a name with
//! arguments.

mod at_once;
mod info;
mod learn;
mod raw;
mod setting;
mod source;
mod synthetic;
mod text;
mod words;

pub use info::{DataInfo, Holdout, Literal, RawField, SourceCall, Split, TextUnit};
pub(crate) use learn::Taught;
pub(crate) use learn::differing_lessons;
pub use learn::{Lesson, Statistic};
pub use synthetic::Maker;

use super::recipe::copy::ancestors;
use super::recipe::names;
use super::scope::{Frame, FrameKind};
use super::value::Value;
use super::{Elaborator, Options, program};
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::syntax::ast::{Data, Expr, Ident, Stmt, StmtKind, Target, Type};
use nnc_graph::{Graph, Op, ValueId};
use raw::RawType;
use std::collections::{BTreeMap, BTreeSet};

/// The settings that a block understands beside its fields.
const SETTINGS: [&str; 5] = ["train", "test", "validation", "classes", "balance"];

/// A `data` block, elaborated for one example.
pub(crate) struct Example {
    /// What it says.
    pub info: DataInfo,
    /// The example's graph; its inputs have the names of `info.raw`, and `$seed` and `$draw` where it draws.
    pub graph: Graph,
    /// What a recipe sees: names and values of the fields, in order of declaration.
    pub fields: Vec<Field>,
}

/// A field of a `data` block.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Its name.
    pub name: String,
    /// Its value, augmented in training.
    pub value: ValueId,
    /// Where it is declared.
    pub span: Span,
}

/// Elaborates a block. `used` are the names that recipes on it read; without any, nothing is called unused.
pub(crate) fn elaborate(
    program: &program::Program,
    options: &Options,
    (item, data): (program::ItemId, &Data),
    used: Option<&BTreeSet<String>>,
    training: bool,
) -> (Option<Example>, Vec<Diagnostic>) {
    let mut elaborator = Elaborator::new(program, options, &data.name.text);
    elaborator.training = training;
    elaborator.taught = Some(Vec::new());
    let mut frame = Frame::new(FrameKind::Data, &data.name.text, "", item.module, Span::default());
    frame.declared = data.name.span;
    for (name, &size) in &options.bind {
        frame.bind(name, Value::int(size), data.name.span);
    }
    elaborator.push(frame);
    let mut block = Block { elaborator, data, leaves: Vec::new(), source_names: Vec::new(), parts: Parts::default() };
    for stmt in &data.body.stmts {
        block.statement(stmt);
    }
    // What a file shares by `use` is for other programs, too.
    block.check_used(used.filter(|_| item.module == program::ModuleId(0)));
    block.finish()
}

/// What was found so far.
#[derive(Default)]
struct Parts {
    train: Option<(Type, Span)>,
    splits: Vec<Split>,
    validation: Option<Holdout>,
    test: Option<Holdout>,
    classes: Option<Vec<String>>,
    augmented: bool,
    /// The raw tensor whose values are to come equally often.
    balance: Option<usize>,
    /// Settings with their places.
    seen: BTreeMap<String, Span>,
    fields: Vec<Field>,
    /// Values of the fields before augmentation.
    plain: Vec<ValueId>,
    /// Names bound to compile-time values.
    others: Vec<Ident>,
}

/// A block under elaboration.
struct Block<'p> {
    elaborator: Elaborator<'p>,
    data: &'p Data,
    /// The inputs of the example's graph, with their types in a file.
    leaves: Vec<(ValueId, RawType)>,
    /// `train.0`, `train.1`, ...
    source_names: Vec<String>,
    parts: Parts,
}

impl<'p> Block<'p> {
    fn fail(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.elaborator.report(Diagnostic::new(code, span, message));
    }

    fn fail_with_help(&mut self, code: Code, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.elaborator.report(Diagnostic::new(code, span, message).help(help));
    }

    fn statement(&mut self, stmt: &'p Stmt) {
        match &stmt.kind {
            StmtKind::Bind { targets, ty, value } => match &targets[..] {
                [Target::Name(name)] if SETTINGS.contains(&name.text.as_str()) => {
                    self.setting(name, ty.as_ref(), value);
                }
                _ => self.plain_statement(stmt),
            },
            StmtKind::Augment { name, value } => self.augment(name, value),
            StmtKind::Error => {}
            StmtKind::If { .. } | StmtKind::For { .. } | StmtKind::Expr(_) | StmtKind::Param(_) => {
                self.plain_statement(stmt);
            }
            StmtKind::State(_) | StmtKind::Update { .. } | StmtKind::Layer(_) | StmtKind::Return(_) => {
                self.plain_statement(stmt);
            }
            StmtKind::Yield(_) | StmtKind::Minimize(_) | StmtKind::Metric { .. } | StmtKind::Answer { .. } => {
                self.plain_statement(stmt);
            }
            StmtKind::Step { .. } | StmtKind::Picture { .. } | StmtKind::Names(_) => self.plain_statement(stmt),
        }
    }

    /// A statement of the ordinary language; what it binds to a tensor is a field.
    fn plain_statement(&mut self, stmt: &'p Stmt) {
        self.elaborator.exec(stmt);
        let StmtKind::Bind { targets, .. } = &stmt.kind else { return };
        for target in targets {
            let Target::Name(name) = target else { continue };
            let frame = self.elaborator.frames.last();
            let value = frame.and_then(|frame| frame.bindings.get(&name.text)).map(|binding| binding.value.clone());
            match value {
                Some(Value::Tensor(value)) => self.field(name, value),
                Some(Value::Poison) | None => {}
                Some(_) => self.parts.others.push(name.clone()),
            }
        }
    }

    fn field(&mut self, name: &Ident, value: ValueId) {
        if self.draws(value) {
            let message = format!("`{}` would differ from run to run: it draws random numbers", name.text);
            let help = format!("put it behind `augment {} = ...`, which acts in training only", name.text);
            self.fail_with_help(Code::E0501, name.span, message, help);
        }
        let field = Field { name: name.text.clone(), value, span: name.span };
        match self.parts.fields.iter().position(|known| known.name == name.text) {
            Some(at) => {
                self.parts.fields[at] = field;
                self.parts.plain[at] = value;
            }
            None => {
                self.parts.fields.push(field);
                self.parts.plain.push(value);
            }
        }
    }

    /// Whether a value that is no augmented field's depends on random numbers.
    fn draws(&self, value: ValueId) -> bool {
        let graph = &self.elaborator.graph;
        let augmented: Vec<ValueId> = self.parts.fields.iter().map(|field| field.value).collect();
        let known = ancestors(graph, &augmented);
        let mut nodes = ancestors(graph, &[value]).into_iter().filter(|id| !known.contains(id));
        nodes.any(|id| matches!(graph.node(id).op, Op::Random { .. }))
    }

    fn augment(&mut self, name: &Ident, value: &Expr) {
        let Some(at) = self.parts.fields.iter().position(|field| field.name == name.text) else {
            let fields = self.parts.fields.iter().map(|field| field.name.as_str());
            let mut diagnostic = Diagnostic::new(Code::E0201, name.span, format!("there is no field `{}`", name.text));
            if let Some(meant) = closest(&name.text, fields) {
                diagnostic = diagnostic.help(format!("did you mean `{meant}`?"));
            }
            return self.elaborator.report(diagnostic);
        };
        self.parts.augmented = true;
        if !self.elaborator.training {
            return;
        }
        let taught = self.elaborator.taught.take();
        let new = self.elaborator.eval(value);
        self.elaborator.taught = taught;
        let Some(new) = self.elaborator.tensor(&new, None, value.span) else { return };
        let wanted = self.elaborator.ty(self.parts.plain[at]).clone();
        let found = self.elaborator.ty(new).clone();
        if found != wanted {
            let message = format!("`{}` is {wanted}, augmented it would be {found}", name.text);
            let diagnostic = Diagnostic::new(Code::E0302, value.span, message);
            return self.elaborator.report(diagnostic.with(self.parts.fields[at].span, format!("{wanted} from here")));
        }
        self.parts.fields[at].value = new;
        self.elaborator.bind_name(name, Value::Tensor(new));
    }
    /// What nothing reads is a mistake: a setting that is spelt wrong, or a field that was forgotten.
    fn check_used(&mut self, used: Option<&BTreeSet<String>>) {
        let mut read = BTreeSet::new();
        names::read_in_block(&self.data.body, &mut read);
        for name in std::mem::take(&mut self.parts.others) {
            if read.contains(&name.text) {
                continue;
            }
            let message = format!("`data` has no setting `{}`, and nothing reads it", name.text);
            match closest(&name.text, SETTINGS) {
                Some(meant) => {
                    self.fail_with_help(Code::E0501, name.span, message, format!("did you mean `{meant}`?"));
                }
                None => self.fail(Code::E0501, name.span, message),
            }
        }
        let Some(used) = used else { return };
        for field in self.parts.fields.clone() {
            if !read.contains(&field.name) && !used.contains(&field.name) {
                let message = format!("no recipe reads the field `{}`", field.name);
                self.fail(Code::E0604, field.span, message);
            }
        }
    }

    fn finish(mut self) -> (Option<Example>, Vec<Diagnostic>) {
        if self.parts.train.is_none() && !self.parts.seen.contains_key("train") {
            let help = "write `train: (u8[28, 28], u8) = idx(...)`";
            self.fail_with_help(Code::E0502, self.data.name.span, "this block has no `train`", help);
        }
        self.check_text();
        let tables = self.check_words();
        self.check_files();
        let raw = self.raw_fields(&tables);
        let lessons = self.lessons();
        let info = DataInfo {
            name: self.data.name.text.clone(),
            raw,
            unit: tables.unit,
            tables: tables.sizes,
            splits: self.parts.splits,
            validation: self.parts.validation,
            test: self.parts.test,
            classes: self.parts.classes,
            augmented: self.parts.augmented,
            balance: self.parts.balance,
            lessons,
        };
        let failed = self.elaborator.report.has_errors();
        let diagnostics = self.elaborator.report.into_diagnostics();
        let example = Example { info, graph: self.elaborator.graph, fields: self.parts.fields };
        ((!failed).then_some(example), diagnostics)
    }
}
