//! What the caller gives beside the file, `--set` and `--bind`, as text that diagnostics point into.
//!
//! Each option is a source of its own, called `command line`, so that a mistake in it is shown where it was made.

use super::Options;
use super::program::{ItemId, Program};
use super::recipe::names;
use crate::diagnostic::{Code, Diagnostic, FileId, Sources, Span, closest};
use crate::syntax::ast::{Block, FunctionKind, ItemKind, StmtKind, Type};
use std::collections::{BTreeMap, BTreeSet};

/// The options by their words: `--set` and a name.
#[derive(Debug, Default)]
pub struct Given(BTreeMap<(&'static str, String), FileId>);

/// The places of one option, `--set NAME=VALUE`.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// `NAME`.
    pub name: Span,
    /// `VALUE`.
    pub value: Span,
}

impl Given {
    /// Adds the text of every option to the sources.
    pub fn new(options: &Options, sources: &mut Sources) -> Self {
        let settings = options.set.iter().map(|(name, value)| ("--set", name, value.clone()));
        let sizes = options.bind.iter().map(|(name, size)| ("--bind", name, size.to_string()));
        let mut add = |(word, name, value): (&'static str, &String, String)| {
            ((word, name.clone()), sources.add("command line", &format!("{word} {name}={value}\n")))
        };
        Self(settings.chain(sizes).map(&mut add).collect())
    }

    /// Where an option stands; nowhere when it is not given.
    fn place(&self, word: &'static str, name: &str, value: &str) -> Place {
        let file = self.0.get(&(word, name.to_owned())).copied().unwrap_or_default();
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(0);
        let start = length(word) + 1;
        let middle = start + length(name);
        let span = |start: u32, end: u32| Span { file, start, end };
        Place { name: span(start, middle), value: span(middle + 1, middle + 1 + length(value)) }
    }

    /// Where `--set NAME=VALUE` stands.
    pub fn setting(&self, name: &str, value: &str) -> Place {
        self.place("--set", name, value)
    }

    /// Where `--bind NAME=SIZE` stands.
    fn size(&self, name: &str, size: i64) -> Place {
        self.place("--bind", name, &size.to_string())
    }
}

/// An error for each size that is given for a dim which the file does not leave open.
pub(super) fn unknown_dims(program: &Program, options: &Options) -> Vec<Diagnostic> {
    let open = open_dims(program);
    let unknown = options.bind.iter().filter(|(name, _)| !open.contains(*name));
    let fault = |(name, &size): (&String, &i64)| {
        let place = program.given.size(name, size).name;
        let diagnostic = Diagnostic::new(Code::E0201, place, format!("the file leaves no dim `{name}` open"));
        match closest(name, open.iter().map(String::as_str)) {
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None if open.is_empty() => diagnostic,
            None => {
                let listed = open.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                diagnostic.note(format!("there are {listed}"))
            }
        }
    };
    unknown.map(fault).collect()
}

/// Names that a size may be given for: dims in the inputs of models, the batch `N` of a recipe, and what the blocks
/// read without binding it.
fn open_dims(program: &Program) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for (id, item) in program.user_items() {
        match &item.kind {
            ItemKind::Function(function) if function.kind == FunctionKind::Model => {
                let tensors = function.params.iter().filter(|param| super::types::is_tensor(&param.ty));
                let is_parameter = |name: &String| function.params.iter().any(|param| param.name.text == *name);
                open.extend(tensors.flat_map(|param| dims(&param.ty)).filter(|name| !is_parameter(name)));
            }
            ItemKind::Data(data) => open.extend(dims_in_block(program, id, &data.body)),
            ItemKind::Train(train) => {
                open.insert("N".to_owned());
                open.extend(dims_in_block(program, id, &train.body));
            }
            ItemKind::Function(_) | ItemKind::Use(_) => {}
        }
    }
    open
}

/// The capital words that a block reads, without the models among them.
fn dims_in_block(program: &Program, id: ItemId, block: &Block) -> impl Iterator<Item = String> {
    let mut read = BTreeSet::new();
    names::read_in_block(block, &mut read);
    for stmt in &block.stmts {
        match &stmt.kind {
            StmtKind::Bind { ty, .. } => read.extend(ty.iter().flat_map(dims)),
            StmtKind::Answer { params, .. } => {
                read.extend(params.iter().flatten().flat_map(|param| dims(&param.ty)));
            }
            _ => {}
        }
    }
    let is_dim =
        move |name: &String| name.starts_with(char::is_uppercase) && program.find_function(id.module, name).is_none();
    read.into_iter().filter(is_dim)
}

fn dims(ty: &Type) -> impl Iterator<Item = String> {
    let mut names = Vec::new();
    super::dims::dim_names(ty, &mut names);
    names.into_iter().map(|name| name.text)
}
