//! `data` blocks: the type of a raw example, the fields made from it, splits and settings.
//!
//! The expressions of a block are elaborated for one example, into a graph of its own whose inputs are the tensors of
//! the raw example; `recipe` puts the axis `N` in front. `augment` acts only when the graph is made for training, and
//! only there random numbers may be drawn, keyed by `$draw`. Nothing here opens a file: a source is a name with
//! arguments.

mod text;

use super::recipe::copy::ancestors;
use super::recipe::names;
use super::scope::{Frame, FrameKind};
use super::value::Value;
use super::{Elaborator, Options, program};
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::syntax::ast::{Arg, Data, Expr, ExprKind, Ident, Stmt, StmtKind, Target, Type, TypeKind};
use nnc_graph::{DType, Graph, Op, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// What a `data` block says, for whoever opens the files.
#[derive(Clone, PartialEq, Debug)]
pub struct DataInfo {
    /// Its name.
    pub name: String,
    /// The tensors of one raw example, in order.
    pub raw: Vec<RawField>,
    /// Where the examples come from: `train` first, then `test` when it has files of its own.
    pub splits: Vec<Split>,
    /// The part of train held out for validation.
    pub validation: Option<Holdout>,
    /// The part of train held out for testing, when `test` has no files.
    pub test: Option<Holdout>,
    /// Names of the classes.
    pub classes: Option<Vec<String>>,
    /// Whether some field is augmented in training.
    pub augmented: bool,
}

impl DataInfo {
    /// Whether the examples are windows of a text.
    pub fn is_text(&self) -> bool {
        self.splits.first().is_some_and(|split| split.source.function == TEXT)
    }

    /// How many different characters a text has.
    pub fn vocabulary(&self) -> Option<usize> {
        let declared = self.splits.first().and_then(|split| split.source.vocabulary())?;
        usize::try_from(declared).ok()
    }
}

impl SourceCall {
    /// How many different characters a text is declared to have.
    fn vocabulary(&self) -> Option<i64> {
        self.arguments.iter().find_map(|(name, value)| match value {
            Literal::Int(count) if name.as_deref() == Some(VOCABULARY) => Some(*count),
            _ => None,
        })
    }
}

/// One tensor of a raw example.
#[derive(Clone, PartialEq, Debug)]
pub struct RawField {
    /// The derived field that is made from it alone, as `image`; else `train.0`.
    pub name: String,
    /// Its type in one example.
    pub ty: TensorType,
}

/// One split with files of its own.
#[derive(Clone, PartialEq, Debug)]
pub struct Split {
    /// `train` or `test`.
    pub name: String,
    /// What opens it.
    pub source: SourceCall,
}

/// A call of a data source: `idx("images.gz", "labels.gz")`.
#[derive(Clone, PartialEq, Debug)]
pub struct SourceCall {
    /// `idx`, `csv`, `npy`, `npz`, `images` or `text`.
    pub function: String,
    /// In order, with the names of named ones.
    pub arguments: Vec<(Option<String>, Literal)>,
    /// Where it stands.
    pub span: Span,
}

/// An argument of a data source.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the names are those of the values")]
pub enum Literal {
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(String),
    List(Vec<Literal>),
}

/// A part of train that is held out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Holdout {
    /// `0.1`: this fraction, chosen by the seed.
    Fraction(f64),
    /// `0.1` of a text: this fraction, its end.
    Tail(f64),
    /// `every(5)`: rows 0, 5, 10, ...
    Every(i64),
}

/// The settings that a block understands beside its fields.
const SETTINGS: [&str; 4] = ["train", "test", "validation", "classes"];

/// The data sources, each with its options; and those that are still to come.
const SOURCES: [(&str, &[SourceOption]); 6] = [
    ("idx", &[]),
    ("csv", &[("header", Takes::Bool), ("separator", Takes::Letter)]),
    ("npy", &[]),
    ("npz", &[("arrays", Takes::Names)]),
    ("images", &[]),
    (TEXT, &[(VOCABULARY, Takes::Count)]),
];
/// The source whose examples are windows of characters.
const TEXT: &str = "text";
/// Its option that says how many different characters there are.
const VOCABULARY: &str = "vocabulary";

/// An option of a data source, and what it takes.
type SourceOption = (&'static str, Takes);

/// What an option of a data source takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    Bool,
    Letter,
    Names,
    Count,
}

impl Takes {
    fn fits(self, literal: &Literal) -> bool {
        match (self, literal) {
            (Self::Bool, Literal::Bool(_)) => true,
            (Self::Letter, Literal::Str(text)) => text.len() == 1,
            (Self::Names, Literal::List(items)) => items.iter().all(|item| matches!(item, Literal::Str(_))),
            (Self::Count, Literal::Int(count)) => *count >= 1,
            (Self::Bool | Self::Letter | Self::Names | Self::Count, _) => false,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Bool => "`true` or `false`",
            Self::Letter => "one letter, as `\";\"`",
            Self::Names => "a list of names, as `[\"x\", \"y\"]`",
            Self::Count => "a whole number from 1 on",
        }
    }
}

const LATER_SOURCES: [&str; 3] = ["wav", "safetensors", "synthetic"];

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
    block.check_used(used);
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
    leaves: Vec<(ValueId, TensorType)>,
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
            StmtKind::Step { .. } | StmtKind::Names(_) => self.plain_statement(stmt),
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
        let new = self.elaborator.eval(value);
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

    fn setting(&mut self, name: &Ident, ty: Option<&'p Type>, value: &Expr) {
        if let Some(before) = self.parts.seen.insert(name.text.clone(), name.span) {
            let message = format!("`{}` is set twice", name.text);
            return self.elaborator.report(Diagnostic::new(Code::E0202, name.span, message).with(before, "first here"));
        }
        match (name.text.as_str(), ty) {
            ("train", Some(ty)) => self.train(ty, value),
            ("train", None) => {
                let help = "write `train: (u8[28, 28], u8) = idx(...)`: the type of one raw example";
                self.fail_with_help(Code::E0502, name.span, "`train` needs a type", help);
            }
            ("test", Some(ty)) => self.test_split(name, ty, value),
            ("classes", None) => self.parts.classes = self.classes(value),
            ("test", None) => self.parts.test = self.holdout(value),
            ("validation", None) => self.parts.validation = self.holdout(value),
            (word, _) => {
                let message = format!("`{word}` is a setting and has no type");
                self.fail(Code::E0501, ty.map_or(name.span, |ty| ty.span), message);
            }
        }
    }

    fn train(&mut self, ty: &'p Type, value: &Expr) {
        self.parts.train = Some((ty.clone(), ty.span));
        if let Some(source) = self.source(value) {
            self.parts.splits.insert(0, Split { name: "train".to_owned(), source });
        }
        let Some(types) = self.raw_types(ty) else {
            self.elaborator.bind_name(&Ident { text: "train".to_owned(), span: ty.span }, Value::Poison);
            return;
        };
        let is_tuple = matches!(ty.kind, TypeKind::Tuple(_));
        let mut values = Vec::with_capacity(types.len());
        for (at, raw) in types.into_iter().enumerate() {
            let name = if is_tuple { format!("train.{at}") } else { "train".to_owned() };
            let leaf = self.elaborator.graph.emit(Op::Input { name: name.clone(), ty: raw.clone() }, &[]);
            self.source_names.push(name);
            self.leaves.push((leaf, raw.clone()));
            values.push(Value::Tensor(self.in_program_float(leaf, raw.dtype)));
        }
        let value = if is_tuple { Value::tuple(values) } else { values.swap_remove(0) };
        self.elaborator.bind_name(&Ident { text: "train".to_owned(), span: ty.span }, value);
    }

    /// Files hold f32 whatever the program computes in.
    fn in_program_float(&mut self, leaf: ValueId, dtype: DType) -> ValueId {
        let float = self.elaborator.options.float;
        if dtype == DType::F32 && float != DType::F32 {
            return self.elaborator.graph.emit(Op::Cast(float), &[leaf]);
        }
        leaf
    }

    /// The types of the tensors of a raw example, as a file has them.
    fn raw_types(&mut self, ty: &Type) -> Option<Vec<TensorType>> {
        let parts: Vec<&Type> = match &ty.kind {
            TypeKind::Tuple(parts) => parts.iter().collect(),
            TypeKind::Named { .. } | TypeKind::List(_) | TypeKind::Function(..) | TypeKind::Error => vec![ty],
        };
        let mut types = Vec::with_capacity(parts.len());
        for part in parts {
            let mut found = self.elaborator.tensor_type(part)?;
            if let TypeKind::Named { name, .. } = &part.kind {
                found.dtype = DType::from_name(&name.text).unwrap_or(found.dtype);
            }
            if !found.shape.is_bound() {
                let message = format!("the sizes of a raw example are numbers, and this is {found}");
                self.fail(Code::E0308, part.span, message);
                return None;
            }
            types.push(found);
        }
        Some(types)
    }

    fn test_split(&mut self, name: &Ident, ty: &'p Type, value: &Expr) {
        let source = self.source(value);
        let types = self.raw_types(ty);
        let Some((train, place)) = self.parts.train.clone() else {
            return self.fail(Code::E0502, name.span, "`test` comes after `train`, whose type it has");
        };
        let wanted: Vec<TensorType> = self.leaves.iter().map(|(_, ty)| ty.clone()).collect();
        let is_tuple = |ty: &Type| matches!(ty.kind, TypeKind::Tuple(_));
        let agrees = types.as_ref().is_none_or(|types| *types == wanted) && is_tuple(&train) == is_tuple(ty);
        if !agrees && !wanted.is_empty() {
            let diagnostic = Diagnostic::new(Code::E0502, ty.span, "examples of `test` have the type of `train`");
            return self.elaborator.report(diagnostic.with(place, "which is this"));
        }
        if let Some(source) = source {
            self.parts.splits.push(Split { name: "test".to_owned(), source });
        }
    }

    /// `idx("images.gz", "labels.gz")`.
    fn source(&mut self, expr: &Expr) -> Option<SourceCall> {
        let ExprKind::Call(callee, arguments) = &expr.kind else {
            self.fail_with_help(Code::E0501, expr.span, "a data source is called here", "write `csv(\"table.csv\")`");
            return None;
        };
        let ExprKind::Name(function) = &callee.kind else {
            self.fail(Code::E0501, callee.span, "a data source is called by its name");
            return None;
        };
        let Some((_, options)) = SOURCES.iter().find(|(name, _)| name == function) else {
            self.unknown_source(function, callee.span);
            return None;
        };
        let mut found = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let option = self.source_option(function, options, argument)?;
            let literal = self.literal(&argument.value)?;
            if let Some((name, takes)) = option.filter(|(_, takes)| !takes.fits(&literal)) {
                self.fail(Code::E0501, argument.value.span, format!("`{name}` takes {}", takes.in_words()));
                return None;
            }
            found.push((option.map(|(name, _)| name.to_owned()), literal));
        }
        let files = found.iter().filter(|(name, _)| name.is_none());
        if let Some((_, wrong)) = files.clone().find(|(_, literal)| !matches!(literal, Literal::Str(_))) {
            let message = format!("`{function}` takes the names of files, not {wrong:?}");
            self.fail(Code::E0501, expr.span, message);
            return None;
        }
        if files.count() == 0 {
            self.fail(Code::E0501, expr.span, format!("`{function}` needs the name of a file or folder"));
            return None;
        }
        if function == "npz" && !found.iter().any(|(name, _)| name.is_some()) {
            let help = "write `npz(\"data.npz\", arrays=[\"x\", \"y\"])`";
            self.fail_with_help(Code::E0501, expr.span, "`npz` needs the names of the arrays, one a field", help);
            return None;
        }
        Some(SourceCall { function: function.clone(), arguments: found, span: expr.span })
    }

    fn unknown_source(&mut self, name: &str, span: Span) {
        if LATER_SOURCES.contains(&name) {
            return self.fail(Code::E0701, span, format!("the data source `{name}` is not supported yet"));
        }
        let known = SOURCES.iter().map(|(name, _)| *name);
        let help = match closest(name, known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        };
        self.fail_with_help(Code::E0501, span, format!("there is no data source `{name}`"), help);
    }

    fn source_option(
        &mut self,
        function: &str,
        options: &[SourceOption],
        argument: &Arg,
    ) -> Option<Option<SourceOption>> {
        let Some(name) = &argument.name else { return Some(None) };
        if let Some(&known) = options.iter().find(|(option, _)| *option == name.text) {
            return Some(Some(known));
        }
        let message = format!("`{function}` has no option `{}`", name.text);
        match closest(&name.text, options.iter().map(|(option, _)| *option)) {
            Some(meant) => self.fail_with_help(Code::E0501, name.span, message, format!("did you mean `{meant}`?")),
            None => self.fail(Code::E0501, name.span, message),
        }
        None
    }

    fn literal(&mut self, expr: &Expr) -> Option<Literal> {
        let value = self.elaborator.eval(expr);
        self.literal_of(value, expr.span)
    }

    fn literal_of(&mut self, value: Value, span: Span) -> Option<Literal> {
        match value {
            Value::Int(dim) => dim.as_number().map(Literal::Int),
            Value::Float(number) => number.map(Literal::Float),
            Value::Bool(truth) => truth.map(Literal::Bool),
            Value::Str(text) => text.map(|text| Literal::Str(text.to_string())),
            Value::List(items) => {
                items.iter().map(|item| self.literal_of(item.clone(), span)).collect::<Option<_>>().map(Literal::List)
            }
            other => self.elaborator.mismatch(&other, "a string, number, bool or a list of them", span),
        }
    }

    /// `0.1`, or `every(5)`.
    fn holdout(&mut self, expr: &Expr) -> Option<Holdout> {
        let help = "write a fraction such as `0.1`, or `every(5)`";
        if let ExprKind::Call(callee, arguments) = &expr.kind
            && matches!(&callee.kind, ExprKind::Name(name) if name == "every")
        {
            let number = match &arguments[..] {
                [Arg { name: None, value }] => self.elaborator.eval(value),
                _ => Value::Poison,
            };
            return match number {
                Value::Int(n) if n.as_number().is_some_and(|n| n >= 2) => n.as_number().map(Holdout::Every),
                _ => {
                    self.fail_with_help(Code::E0501, expr.span, "`every` takes a whole number from 2 on", help);
                    None
                }
            };
        }
        match self.elaborator.eval(expr) {
            Value::Float(Some(part)) if part > 0.0 && part < 1.0 => Some(Holdout::Fraction(part)),
            Value::Poison => None,
            other => {
                let found = self.elaborator.describe(&other);
                self.fail_with_help(Code::E0501, expr.span, format!("this is {found}, not a part of the data"), help);
                None
            }
        }
    }

    fn classes(&mut self, expr: &Expr) -> Option<Vec<String>> {
        let value = self.elaborator.eval(expr);
        let Value::List(items) = &value else {
            return self.elaborator.mismatch(&value, "a list of names", expr.span);
        };
        let mut classes = Vec::with_capacity(items.len());
        for item in items.iter() {
            classes.push(self.elaborator.text(item, expr.span)?.to_string());
        }
        Some(classes)
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
        let raw = self.raw_names();
        let info = DataInfo {
            name: self.data.name.text.clone(),
            raw,
            splits: self.parts.splits,
            validation: self.parts.validation,
            test: self.parts.test,
            classes: self.parts.classes,
            augmented: self.parts.augmented,
        };
        let failed = self.elaborator.report.has_errors();
        let diagnostics = self.elaborator.report.into_diagnostics();
        let example = Example { info, graph: self.elaborator.graph, fields: self.parts.fields };
        ((!failed).then_some(example), diagnostics)
    }

    /// A raw tensor has the name of the first field that is made from it alone.
    fn raw_names(&self) -> Vec<RawField> {
        let graph = &self.elaborator.graph;
        let made_from = |value: ValueId| -> Vec<usize> {
            let needed = ancestors(graph, &[value]);
            let leaves = self.leaves.iter().enumerate();
            leaves.filter(|(_, (leaf, _))| needed.contains(&graph.value(*leaf).node)).map(|(at, _)| at).collect()
        };
        let sources: Vec<Vec<usize>> = self.parts.plain.iter().map(|&value| made_from(value)).collect();
        let name_of = |at: usize| {
            let field = sources.iter().position(|made_from| made_from[..] == [at]);
            field.map_or(self.source_names[at].clone(), |field| self.parts.fields[field].name.clone())
        };
        let typed = self.leaves.iter().enumerate();
        typed.map(|(at, (_, ty))| RawField { name: name_of(at), ty: ty.clone() }).collect()
    }
}
