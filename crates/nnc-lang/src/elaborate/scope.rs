//! Names in a body, and the frame of a call.
//!
//! A body has one flat scope: `if` and `for` open none. Every call of a `fn` or `model` has a frame; the frame of a
//! model also knows where its parameters live and counts the models used in it, from which their paths are made.

use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, Span};
use std::collections::BTreeMap;

/// Where the recipe of a model keeps the layers that it makes itself; the model's own have no prefix.
pub const RECIPE: &str = "recipe";

/// What a body may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// Pure: no parameters, no state, no models.
    Function,
    /// May own parameters, state and models.
    Model,
    /// Owns state and rewrites its first argument.
    Optimizer,
    /// Owns state.
    Metric,
    /// A `train` block: owns models.
    Recipe,
    /// A `data` block: pure, of one example.
    Data,
}

impl FrameKind {
    /// The keyword it is declared with.
    pub fn word(self) -> &'static str {
        match self {
            Self::Function => "fn",
            Self::Model => "model",
            Self::Optimizer => "optimizer",
            Self::Metric => "metric",
            Self::Recipe => "train",
            Self::Data => "data",
        }
    }

    /// The article before that word.
    pub fn article(self) -> &'static str {
        match self {
            Self::Optimizer => "an",
            Self::Function | Self::Model | Self::Metric | Self::Recipe | Self::Data => "a",
        }
    }

    /// Whether models may be used in it.
    pub fn owns_models(self) -> bool {
        matches!(self, Self::Model | Self::Recipe)
    }

    /// Whether it may declare `param`.
    pub fn owns_parameters(self) -> bool {
        matches!(self, Self::Model)
    }

    /// Whether it may declare `state`.
    pub fn owns_state(self) -> bool {
        matches!(self, Self::Model | Self::Optimizer | Self::Metric)
    }
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its value; for a state the value is looked up by path.
    pub value: Value,
    /// Where it was bound.
    pub span: Span,
    /// The path of the state it names.
    pub state: Option<String>,
}

/// One call in progress.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What the body may do.
    pub kind: FrameKind,
    /// The name of the function or model.
    pub name: String,
    /// Where its parameters live; empty at the top.
    pub path: String,
    /// The file whose names the body sees.
    pub file: super::program::ModuleId,
    /// Names bound so far.
    pub bindings: BTreeMap<String, Binding>,
    /// Names bound on some path only, with the place: reading one is an error of its own.
    pub unbound: BTreeMap<String, Span>,
    /// The place of the call; the default span when nothing calls it.
    pub call_site: Span,
    /// Where the body is declared.
    pub declared: Span,
    /// The item whose body this is.
    pub item: Option<super::program::ItemId>,
    /// The name of the first parameter: what an optimizer rewrites.
    pub first_parameter: Option<String>,
    /// The answer whose body is evaluated in this frame of a recipe.
    pub answer: Option<std::rc::Rc<crate::syntax::ast::Function>>,
    /// Whether a `return` before may have ended the body, which only a use of it decides.
    pub may_be_over: bool,
    /// What `real` stands for here.
    pub real: Option<nnc_graph::DType>,
    /// Uses so far of each callee under each prefix of the frame.
    counters: BTreeMap<String, u32>,
    /// Names given to parameters, states, layers and uses, with their places.
    taken: BTreeMap<String, Span>,
    /// Prefixes of the loops the body is in: `block[0]`.
    loops: Vec<String>,
}

impl Frame {
    /// A frame with nothing bound.
    pub fn new(kind: FrameKind, name: &str, path: &str, file: super::program::ModuleId, call_site: Span) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            path: path.to_owned(),
            file,
            call_site,
            declared: Span::default(),
            item: None,
            first_parameter: None,
            answer: None,
            may_be_over: false,
            real: None,
            bindings: BTreeMap::new(),
            unbound: BTreeMap::new(),
            counters: BTreeMap::new(),
            taken: BTreeMap::new(),
            loops: Vec::new(),
        }
    }

    /// Binds a name; the newer binding holds from here on.
    pub fn bind(&mut self, name: &str, value: Value, span: Span) {
        self.unbound.remove(name);
        self.bindings.insert(name.to_owned(), Binding { value, span, state: None });
    }

    /// Binds the name of a state.
    pub fn bind_state(&mut self, name: &str, path: &str, span: Span) {
        let binding = Binding { value: Value::Poison, span, state: Some(path.to_owned()) };
        self.unbound.remove(name);
        self.bindings.insert(name.to_owned(), binding);
    }

    /// The full path of `name` where the body is now: in a loop `block[0].name`.
    pub fn path_of(&self, name: &str) -> String {
        let parts = std::iter::once(&self.path).filter(|path| !path.is_empty()).chain(&self.loops);
        let mut path = parts.fold(String::new(), |path, part| path + part + ".");
        path.push_str(name);
        path
    }

    /// The path of a further use of `callee`: `conv2d_2`.
    pub fn count_use(&mut self, callee: &str, span: Span) -> String {
        loop {
            let counter = self.counters.entry(self.path_of(callee)).or_insert(0);
            *counter += 1;
            let name = format!("{callee}_{counter}");
            let path = self.path_of(&name);
            if self.take(&path, span).is_ok() {
                return path;
            }
        }
    }

    /// Takes a path for a parameter, state, layer or named use.
    ///
    /// # Errors
    /// The place where it was taken before.
    pub fn take(&mut self, path: &str, span: Span) -> Result<(), Span> {
        match self.taken.insert(path.to_owned(), span) {
            Some(before) => Err(before),
            None => Ok(()),
        }
    }

    /// What is wrong with a name whose path was taken before, at this place.
    pub fn taken_before(&self, (name, span): (&str, Span), before: Span) -> Diagnostic {
        if self.path.is_empty() && name == RECIPE && self.kind == FrameKind::Model {
            let message = format!("`{RECIPE}` is where the recipe of a model keeps what it makes itself");
            let diagnostic = Diagnostic::new(Code::E0403, span, message).with(before, "this recipe");
            return diagnostic.help("give it another name");
        }
        let message = format!("`{name}` names a parameter, state, layer or use twice");
        Diagnostic::new(Code::E0403, span, message).with(before, "first here")
    }

    /// Enters a loop; gives the name that its iterations carry: `block`, then `block_2`.
    pub fn open_loop(&mut self) -> String {
        let counter = self.counters.entry(self.path_of("for")).or_insert(0);
        *counter += 1;
        if *counter == 1 { "block".to_owned() } else { format!("block_{counter}") }
    }

    /// Begins iteration `index` of a loop.
    pub fn begin_iteration(&mut self, name: &str, index: usize) {
        self.loops.push(format!("{name}[{index}]"));
    }

    /// Ends the iteration that was begun last.
    pub fn end_iteration(&mut self) {
        self.loops.pop();
    }
}
