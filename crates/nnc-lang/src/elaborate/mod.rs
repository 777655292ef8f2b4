//! From the tree to the graph: one evaluator that runs a program at compile time and emits nodes.
//!
//! A body is elaborated once on its own, with its dims and compile-time parameters as distinct unknowns (`generic`),
//! and again at each use with what the use says. Both go the same way through the code; there is no typed tree.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`value`] | what an expression evaluates to |
//! | [`program`] | the files of a program and the names they declare |
//! | [`scope`] | names in a body, and the frame of a call |
//! | [`types`], `dims`, `annotation` | types in the source: unification with values, dims and their names |
//! | `expression`, `statement`, `branch` | evaluation |
//! | `call`, `arguments`, `result`, `grad` | calls: parameters, models and layers, results |
//! | `scan` | loops that the program runs |
//! | `resident` | `param`, `state`, `layer` |
//! | [`store`] | parameters and state by path, with their initialisers |
//! | `coerce` | literals that meet tensors; compile-time values out of expressions |
//! | [`report`] | diagnostics: where an error is shown, what is already known |
//! | `habits` | what stands here for names of Python and PyTorch |
//! | `given` | options beside the file, as text that diagnostics point into |
//! | `generic`, `duties`, `unused` | the check of a body on its own; what an optimizer and a metric owe; what nothing reads |
//! | `entry`, `root`, `facts` | `check`, `Unit`; a model by itself; what each layer costs |
//! | `outside` | what `--set` gives |
//! | `builtins`, `operators`, `indexing` | the primitives a body is made of |
//! | [`weight_names`] | what weights a program begins with, and what their tensors are called |
//! | `bounds` | how much an elaboration may do |
//! | `blocks`, `data`, `recipe`, [`vectorise`] | the `data` and `train` blocks |
//!
//! **Invariants.** No input panics or hangs: calls, unrolled loops and the work in all are bounded. [`Value::Poison`]
//! is silent: an error is reported once, where it was made. Same source, same graph, node by node.

mod annotation;
mod arguments;
mod blocks;
mod bounds;
mod branch;
mod call;
mod coerce;
mod dims;
mod duties;
mod entry;
mod expression;
mod facts;
mod generic;
mod given;
mod grad;
mod habits;
pub mod program;
pub mod report;
mod resident;
mod result;
mod scan;
pub mod scope;
mod statement;
pub mod store;
pub mod types;
mod unused;
pub mod value;
pub mod vectorise;
pub mod weight_names;

mod builtins;
mod data;
mod indexing;
mod operators;
mod outside;
mod recipe;
mod root;

use crate::diagnostic::Span;
use nnc_graph::{DType, Dim, Graph, Op, Origin, OutputKind, TensorType, ValueId, fnv1a};
use program::Program;
use scope::Frame;
use std::collections::BTreeMap;
use std::rc::Rc;
use store::Store;
use value::Value;

use blocks::check_blocks;
pub use bounds::NODES;
pub use builtins::{Builtin, all as primitives};
pub use data::{DataInfo, Holdout, Lesson, Literal, Maker, RawField, SourceCall, Split, Statistic, TextUnit};
pub use entry::{Checked, LayerFacts, Loader, Options, Unit, check};
pub use recipe::{
    Accumulation, AnswerInfo, Better, Direction, DropUnit, LEAST_OF_PER_CENT, MetricInfo, ParameterInfo, ParameterKind,
    PruneInfo, QuantiseInfo, RecipeInfo, StepInfo, StopEarly,
};
pub use root::ModelInfo;

/// A use of a function or model that the user's own source shows: what an error about its result can tell.
#[derive(Clone, Debug)]
pub struct UseFact {
    /// What was called.
    pub callee: String,
    /// The call, without what was piped into it.
    pub span: Span,
    /// Its first tensor argument.
    pub input: Option<ValueId>,
}

/// A use of a model inside a model.
#[derive(Clone, Debug)]
pub struct LayerUse {
    /// Its path.
    pub path: String,
    /// The model it uses.
    pub model: String,
    /// What it gives.
    pub output: ValueId,
}

/// One elaboration: a graph under construction, and all that is known on the way.
pub struct Elaborator<'p> {
    /// The files.
    pub program: &'p Program,
    /// What the caller asked for.
    pub options: &'p Options,
    /// The graph under construction.
    pub graph: Graph,
    /// Parameters and state.
    pub store: Store,
    /// The calls in progress, outermost first.
    pub frames: Vec<Frame>,
    /// Whether this is a training step: what `training` is.
    pub training: bool,
    /// Whether a body is checked on its own, with unknown dims and arguments.
    pub generic: bool,
    /// What was reported.
    pub report: report::Report,
    /// The graph of initialisers; swapped with `graph` while one is evaluated.
    pub first_values: Graph,
    /// While an initialiser is evaluated, the frame that it stands in.
    pub initialising: Option<usize>,
    /// Uses of models in order of completion, for the table of layers.
    pub layers: Vec<LayerUse>,
    /// What training made, which answers and pictures are held to.
    pub(crate) made: Rc<resident::Made>,
    /// While an answer or a picture is evaluated, the layers that it makes itself.
    pub(crate) own: Option<resident::OwnLayers>,
    /// Files of weights, and the names in them.
    pub pretrained: weight_names::Pretrained,
    /// Layers that follow others in training.
    pub(crate) followers: Vec<recipe::follow::Follower>,
    /// Whether a frozen layer is evaluated.
    frozen: bool,
    /// Whether `training` is unknown: both of its branches are checked.
    pub training_unknown: bool,
    /// How many branches of unknown conditions the evaluator is in.
    unknown_branches: usize,
    /// How many of them hang on an unknown `==` or `!=`.
    compared_branches: usize,
    /// Whether a `require` of the statement at hand does not hold: its body ends there.
    pub(crate) refused: bool,
    /// The path of the parameter whose initialiser is evaluated.
    initial_path: String,
    /// The scans whose bodies are evaluated, outermost first.
    scans: Vec<scan::OpenScan>,
    /// What their bodies differentiate.
    earlier: scan::Earlier,
    /// Branches of unknown conditions so far.
    branched: usize,
    /// Whether something was left out that only the sizes of dims decide: what follows from it is not known.
    pub(crate) undecided: bool,
    /// Turns of loops so far.
    unrolled: usize,
    /// The user's expression that gave a value.
    born: BTreeMap<ValueId, Span>,
    /// The user's name for a value, the latest.
    named: BTreeMap<ValueId, String>,
    /// The call that gave a value.
    uses: BTreeMap<ValueId, UseFact>,
    /// Statistics of examples that were asked for, where that may be.
    taught: Option<Vec<data::Taught>>,
    /// Inputs of `graph` made on demand: `$seed`, `$iteration`.
    inputs: BTreeMap<String, ValueId>,
    /// How many random streams each path has.
    streams: BTreeMap<String, u64>,
    depth: usize,
    spent: bounds::Spent,
    unknowns: usize,
}

impl<'p> Elaborator<'p> {
    /// An elaboration with an empty graph called `name`.
    pub fn new(program: &'p Program, options: &'p Options, name: &str) -> Self {
        Self {
            program,
            options,
            graph: Graph::new(name),
            store: Store::default(),
            frames: Vec::new(),
            training: false,
            generic: false,
            report: report::Report::default(),
            first_values: Graph::new(name),
            initialising: None,
            layers: Vec::new(),
            made: Rc::default(),
            own: None,
            pretrained: weight_names::Pretrained::default(),
            followers: Vec::new(),
            frozen: false,
            training_unknown: false,
            unknown_branches: 0,
            compared_branches: 0,
            refused: false,
            initial_path: String::new(),
            scans: Vec::new(),
            earlier: scan::Earlier::default(),
            branched: 0,
            undecided: false,
            unrolled: 0,
            born: BTreeMap::new(),
            named: BTreeMap::new(),
            uses: BTreeMap::new(),
            taught: None,
            inputs: BTreeMap::new(),
            streams: BTreeMap::new(),
            depth: 0,
            spent: bounds::Spent::default(),
            unknowns: 0,
        }
    }

    /// What `name` means as a dtype in source: `f32` is what the options say.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        match DType::from_name(name) {
            Some(DType::F32) => Some(self.options.float),
            other => other,
        }
    }

    /// The type of a graph value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.graph.ty(value)
    }

    /// Adds a node with one result; an operand that does not fit is reported (E0301). What cannot be decided
    /// before names are bound gives [`Value::Poison`] in silence.
    pub fn emit(&mut self, op: Op, operands: &[ValueId], span: Span) -> Value {
        match self.emit_all(op, operands, span) {
            Some(results) => Value::Tensor(results[0]),
            None => Value::Poison,
        }
    }

    /// Adds a node, as [`Elaborator::emit`]; `None` after an error.
    pub fn emit_all(&mut self, op: Op, operands: &[ValueId], span: Span) -> Option<Vec<ValueId>> {
        let former = self.is_line_of_user(span).then(|| self.enter_origin_at(span));
        let made = self.graph.add(op.clone(), operands);
        if let Some(former) = former {
            self.graph.set_origin(former);
        }
        match made {
            Ok(results) => Some(results),
            Err(_) if self.undecidable(&op, operands) => {
                self.undecided = true;
                None
            }
            Err(error) => {
                self.report_type_error(&error, operands, span);
                None
            }
        }
    }

    /// Whether a node comes from its own line: one that the body of a user's model or block makes. The nodes of a
    /// function come from where it is called, all of them, as they are one step there.
    fn is_line_of_user(&self, span: Span) -> bool {
        let is_function = self.frames.last().is_none_or(|frame| frame.kind == scope::FrameKind::Function);
        !is_function && span != Span::default() && !self.program.is_library(span)
    }

    /// An input of the graph, made when it is first asked for.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let key = if self.initialising.is_some() { format!("init {name}") } else { name.to_owned() };
        if let Some(&known) = self.inputs.get(&key) {
            return known;
        }
        let value = self.graph.emit(Op::Input { name: name.to_owned(), ty }, &[]);
        self.inputs.insert(key, value);
        value
    }

    /// A stream number that no other random call site, use or initialiser has: a hash of the path and of how many
    /// streams the path had before (FNV-1a, 64 bits). In a step of a recipe others are no matter: which of them the
    /// program has changes nothing.
    pub fn next_stream(&mut self) -> u64 {
        let step = self.frames.get(1).filter(|frame| frame.kind == scope::FrameKind::Recipe);
        let path = self.frames.last().map(|frame| frame.path_of("")).unwrap_or_default();
        let key = match (self.initialising, step) {
            (Some(_), _) => format!("init {}", self.initial_path),
            (None, Some(step)) => format!("step {} {path}", step.name),
            (None, None) => path,
        };
        let count = self.streams.entry(key.clone()).or_insert(0);
        *count += 1;
        fnv1a(key.bytes().chain(count.to_le_bytes()))
    }

    /// The operands of a random op: the seed, and the counter. That is 0 in an initialiser, the example's number in a
    /// `data` block, else the step's number; in a `scan` its upper half is the number of the loop's step.
    pub fn random_operands(&mut self) -> [ValueId; 2] {
        let number = TensorType::scalar(DType::I64);
        let seed = self.input("$seed", number.clone());
        let of_example = self.frames.first().is_some_and(|frame| frame.kind == scope::FrameKind::Data);
        let counter = match (self.initialising, of_example) {
            (Some(_), _) => self.graph.emit(Op::Constant(nnc_graph::Tensor::scalar_i64(0)), &[]),
            (None, true) => self.input("$draw", number),
            (None, false) => self.input("$iteration", number),
        };
        let step = if self.initialising.is_some() { None } else { self.step_number() };
        let Some(step) = step else { return [seed, counter] };
        let upper = self.graph.emit(Op::Constant(nnc_graph::Tensor::scalar_i64(1 << 32)), &[]);
        let step = self.graph.emit(Op::Binary(nnc_graph::BinaryOp::Mul), &[step, upper]);
        [seed, self.graph.emit(Op::Binary(nnc_graph::BinaryOp::Add), &[counter, step])]
    }

    /// A dim that stands for nothing but itself.
    pub fn fresh_dim(&mut self) -> Dim {
        self.unknowns += 1;
        Dim::name(&format!("?{}", self.unknowns))
    }

    /// A tensor of which only the type is known, for a body that is checked on its own.
    pub fn unknown_tensor(&mut self, ty: TensorType) -> Value {
        self.unknowns += 1;
        let name = format!("?{}", self.unknowns);
        match self.graph.add1(Op::Input { name, ty }, &[]) {
            Ok(value) => Value::Tensor(value),
            Err(_) => Value::Poison,
        }
    }

    /// Where the user's source made this value.
    pub fn birthplace(&self, value: ValueId) -> Option<Span> {
        self.born.get(&value).copied()
    }

    /// Nodes from here on come from the body of the innermost frame. Gives the former origin, to be put back.
    fn enter_origin(&mut self) -> Option<nnc_graph::OriginId> {
        self.enter_origin_at(self.user_span())
    }

    /// As [`Self::enter_origin`], of nodes that a place of its own in the user's source makes.
    fn enter_origin_at(&mut self, place: Span) -> Option<nnc_graph::OriginId> {
        let Some(frame) = self.frames.last() else { return self.graph.set_origin(None) };
        let origin = Origin {
            function: frame.name.clone(),
            path: frame.path_of("").trim_end_matches('.').to_owned(),
            place: self.program.place(place),
        };
        let id = self.graph.intern_origin(origin);
        self.graph.set_origin(Some(id))
    }

    /// Ends the graph: what `<-` wrote becomes updates.
    pub fn finish_updates(&mut self) {
        for entry in self.store.entries() {
            if entry.current != entry.leaf && !entry.frozen {
                self.graph.add_output(&entry.path, entry.current, OutputKind::Update(entry.leaf));
            }
        }
    }
}

#[cfg(test)]
mod tests;
