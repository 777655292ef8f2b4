//! The doors of the front end: [`check`] a file, and make the graphs of a checked one.

use super::given::{self, Given};
use super::program::{ItemId, ModuleId, Program};
use super::root::ModelInfo;
use super::value::Value;
use super::weight_names::Pretrained;
use super::{DataInfo, Elaborator, RecipeInfo};
use crate::diagnostic::{Code, Diagnostic, Severity, Sources, Span};
use crate::syntax::ast::{FunctionKind, ItemKind};
use crate::syntax::on_large_stack;
use nnc_graph::{DType, Graph, OutputKind, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Finds the files that `use` names.
pub trait Loader: Sync {
    /// The text of a file; the path is as seen from the folder of the file that is checked.
    ///
    /// # Errors
    /// Why it cannot be read, for the user.
    fn load(&self, path: &str) -> Result<String, String>;

    /// What a file is told by, however a path to it is spelt: two paths of one identity are one file.
    fn identity(&self, path: &str) -> String {
        path.to_owned()
    }
}

/// What the caller asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sizes of dims that are still names: `--bind N=1`.
    pub bind: BTreeMap<String, i64>,
    /// Settings of recipes: `--set epochs=3`.
    pub set: BTreeMap<String, String>,
    /// The recipe that they are for; all recipes without a name, or by one that no recipe has.
    pub only: Option<String>,
    /// What `f32` in the source means: F32, or F64.
    pub float: DType,
}

impl Default for Options {
    fn default() -> Self {
        Self { bind: BTreeMap::new(), set: BTreeMap::new(), only: None, float: DType::F32 }
    }
}

/// What came of a file.
#[derive(Debug)]
pub struct Checked {
    /// What it declares; `None` when there are errors.
    pub unit: Option<Unit>,
    /// Errors and warnings in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts the diagnostics point into.
    pub sources: Sources,
}

/// A checked file.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The models of files it uses, then its own, in order.
    pub models: Vec<ModelInfo>,
    /// Its data blocks.
    pub data: Vec<DataInfo>,
    /// Its recipes.
    pub recipes: Vec<RecipeInfo>,
    /// The layers that recipes with `quantise` round, by the name of the recipe: the parameters that products are by.
    /// Whoever knows products says so; the training step then has ranges of them.
    pub rounded: BTreeMap<String, Vec<String>>,
    /// Of parameters that lost channels, how many are left along each such axis. Whoever knows the weights says so; the
    /// choice of what is pruned while training is then made of what is left.
    pub left: BTreeMap<String, BTreeMap<usize, usize>>,
    /// Of the parameters that products read, by the name of the recipe, the axis of their outputs, along which blocks
    /// of weights lie that go together. Whoever knows products says so.
    pub outputs: BTreeMap<String, BTreeMap<String, usize>>,
    pub(super) program: Arc<Program>,
    pub(super) options: Options,
}

/// Checks a file: syntax, names, types and shapes of every body, recipes and data.
pub fn check(name: &str, text: &str, loader: &dyn Loader, options: &Options) -> Checked {
    on_large_stack(|| Ok(check_here(name, text, loader, options))).unwrap_or_else(|diagnostics| {
        let mut sources = Sources::default();
        sources.add(name, text);
        Checked { unit: None, diagnostics, sources }
    })
}

/// As [`check`], on a stack that is large already.
fn check_here(name: &str, text: &str, loader: &dyn Loader, options: &Options) -> Checked {
    let (mut program, parsed) = Program::load(name, text, loader);
    program.given = Given::new(options, &mut program.sources);
    let program = Arc::new(program);
    let (unit, mut diagnostics) = check_program(&program, options, &parsed);
    let mut all = parsed;
    all.append(&mut diagnostics);
    crate::diagnostic::sort(&mut all);
    let failed = all.iter().any(|diagnostic| diagnostic.severity() == Severity::Error);
    Checked { unit: if failed { None } else { unit }, diagnostics: all, sources: program.sources.clone() }
}

fn check_program(program: &Arc<Program>, options: &Options, parsed: &[Diagnostic]) -> (Option<Unit>, Vec<Diagnostic>) {
    let mut elaborator = Elaborator::new(program, options, "check");
    for (id, item) in program.user_items() {
        if let ItemKind::Function(function) = &item.kind {
            elaborator.check_item(id);
            super::unused::check_function(function, &mut elaborator.report);
        }
    }
    let syntax_is_sound = !parsed.iter().any(|diagnostic| diagnostic.severity() == Severity::Error);
    let models = models(&mut elaborator);
    let (data, recipes) = (Vec::new(), Vec::new());
    let (rounded, left, outputs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut unit =
        Unit { models, data, recipes, rounded, left, outputs, program: Arc::clone(program), options: options.clone() };
    let mut diagnostics = elaborator.report.into_diagnostics();
    if syntax_is_sound {
        diagnostics.extend(given::unknown_dims(program, options));
        let (data, recipes, more) = super::check_blocks(program, options);
        unit.data = data;
        unit.recipes = recipes;
        let known: Vec<(Code, Span)> = diagnostics.iter().map(|d| (d.code, d.primary.span)).collect();
        diagnostics.extend(more.into_iter().filter(|d| !known.contains(&(d.code, d.primary.span))));
    }
    (Some(unit), diagnostics)
}

fn models(elaborator: &mut Elaborator<'_>) -> Vec<ModelInfo> {
    let program = elaborator.program;
    let is_model = |(id, item): (ItemId, &'_ _)| -> Option<ItemId> {
        let item: &crate::syntax::ast::Item = item;
        matches!(&item.kind, ItemKind::Function(function) if function.kind == FunctionKind::Model).then_some(id)
    };
    let ids = program.user_items().filter_map(is_model);
    let (own, used): (Vec<ItemId>, Vec<ItemId>) = ids.partition(|id| id.module == ModuleId(0));
    used.into_iter().chain(own).filter_map(|id| elaborator.model_info(id)).collect()
}

impl Unit {
    /// Whether the options say the size of a dim.
    pub fn is_bound(&self, dim: &str) -> bool {
        self.options.bind.contains_key(dim)
    }

    /// The size that the options say of a dim.
    pub fn said_size(&self, dim: &str) -> Option<i64> {
        self.options.bind.get(dim).copied()
    }

    /// The files that it uses and those that its layers begin with, whether a recipe needs them or not; the paths are
    /// as seen from its own folder.
    pub fn named_files(&self) -> impl Iterator<Item = &str> {
        self.program.used_files().chain(self.program.weight_files())
    }

    /// Runs one elaboration on a stack that is large enough; what it reports becomes the error.
    ///
    /// # Errors
    /// Everything that was reported, when an error is among it.
    pub(super) fn elaborate<T: Send>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Elaborator<'_>) -> Option<T> + Send,
    ) -> Result<T, Vec<Diagnostic>> {
        on_large_stack(|| {
            let mut elaborator = Elaborator::new(&self.program, &self.options, name);
            let made = work(&mut elaborator);
            let diagnostics = elaborator.report.into_diagnostics();
            let failed = diagnostics.iter().any(|diagnostic| diagnostic.severity() == Severity::Error);
            match made.filter(|_| !failed) {
                Some(made) => Ok(made),
                None => Err(diagnostics),
            }
        })
    }

    /// A model by itself, outside training: inputs by argument name, the output `result` (`result.0` and so on for a
    /// tuple). Dims that are names are bound by `bind`, then by the options, then to 1. Tensors with a default have it.
    ///
    /// # Errors
    /// Diagnostics, when a bound size does not fit or there is no such model.
    pub fn model(&self, model: &str, bind: &BTreeMap<String, i64>) -> Result<Graph, Vec<Diagnostic>> {
        Ok(self.model_with_weights(model, bind, &BTreeSet::new())?.0)
    }

    /// As [`Unit::model`], with the files of weights that its layers begin with, and the names in them. Of the tensors
    /// with a default those called `given` are inputs all the same.
    ///
    /// # Errors
    /// As [`Unit::model`].
    pub fn model_with_weights(
        &self,
        model: &str,
        bind: &BTreeMap<String, i64>,
        given: &BTreeSet<String>,
    ) -> Result<(Graph, Pretrained), Vec<Diagnostic>> {
        self.elaborate(model, |elaborator| {
            elaborator.build_model(model, bind, given)?;
            Some((std::mem::take(&mut elaborator.graph), std::mem::take(&mut elaborator.pretrained)))
        })
    }

    /// The first values of a model's parameters and state: input `$seed`, one output for each path.
    ///
    /// # Errors
    /// As [`Unit::model`].
    pub fn model_init(&self, model: &str) -> Result<Graph, Vec<Diagnostic>> {
        self.elaborate(model, |elaborator| {
            elaborator.build_model(model, &BTreeMap::new(), &BTreeSet::new())?;
            elaborator.finish_first_values();
            Some(std::mem::take(&mut elaborator.first_values))
        })
    }

    /// What each layer of a model gives and costs, in the order of the program. Dims as in [`Unit::model`].
    ///
    /// # Errors
    /// As [`Unit::model`].
    pub fn layers(&self, model: &str, bind: &BTreeMap<String, i64>) -> Result<Vec<LayerFacts>, Vec<Diagnostic>> {
        self.elaborate(model, |elaborator| {
            elaborator.build_model(model, bind, &BTreeSet::new())?;
            super::facts::layers(elaborator).or_else(|| elaborator.report_too_large(model))
        })
    }
}

pub use super::facts::LayerFacts;

impl Elaborator<'_> {
    /// Reports a model whose sizes have more bits than any number.
    fn report_too_large<T>(&mut self, model: &str) -> Option<T> {
        let program = self.program;
        let function = program.find_function(ModuleId(0), model).and_then(|item| program.function(item))?;
        let message = format!("`{model}` is too large to be counted: a size, or what it costs, has more than 63 bits");
        self.report(Diagnostic::new(Code::E0309, function.signature, message));
        None
    }

    /// Declares the tensors of a value as outputs.
    pub fn put_out(&mut self, name: &str, value: &Value) {
        match value {
            Value::Tensor(tensor) => self.graph.add_output(name, *tensor, OutputKind::Result),
            Value::Tuple(items) | Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.put_out(&format!("{name}.{at}"), item);
                }
            }
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
                if let Some(tensor) = self.tensor(value, None, Span::default()) {
                    self.graph.add_output(name, tensor, OutputKind::Result);
                }
            }
            Value::Str(_) | Value::Function(_) | Value::Layer(_) | Value::Poison => {}
        }
    }

    /// Declares an output of the graph of first values for each parameter and state.
    pub fn finish_first_values(&mut self) {
        let outputs: Vec<(String, ValueId)> =
            self.store.entries().iter().filter_map(|entry| Some((entry.path.clone(), entry.first?))).collect();
        for (path, value) in outputs {
            self.first_values.add_output(&path, value, OutputKind::Result);
        }
        self.first_values.name.push_str(".init");
    }
}
