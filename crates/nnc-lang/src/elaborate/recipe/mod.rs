//! `train` blocks: settings, and the graphs of a training step, of evaluation and of answers.
//!
//! One walk over the block serves every graph ([`build`]): it executes the statements in order for a [`Purpose`], on
//! the fields of the data block with the axis `N` in front. What the graph puts out, and nothing else, is then copied
//! into the graph that is handed out ([`output`]).
//!
//! | module | what it does |
//! | --- | --- |
//! | [`build`] | the walk over the block |
//! | [`results`] | answers, pictures |
//! | [`answers`] | answers with parameters or a block |
//! | [`metrics`] | what is measured |
//! | [`settings`] | `epochs`, `batch`, `seed`, `stop_early`, overrides |
//! | [`better`] | which of two values of a measure is the better one |
//! | [`minimize`] | gradients, clipping, optimisers |
//! | [`accumulate`] | updates by the gradients of several steps |
//! | [`average`] | weights that are a running mean |
//! | [`follow`] | layers that follow others |
//! | [`step`] | training that alternates |
//! | [`prune`], [`blocks`], [`quantise`] | weights that go, alone or in blocks, and rounding, while training |
//! | [`output`] | guarded updates, the finished graph |
//! | [`copy`], [`names`] | part of a graph; names in a tree |

mod accumulate;
mod answers;
mod average;
mod better;
mod blocks;
mod build;
pub(crate) mod copy;
pub(crate) mod follow;
mod metrics;
mod minimize;
pub(crate) mod names;
mod output;
mod prune;
mod quantise;
mod results;
mod settings;
mod step;

pub use better::{Better, Direction, DropUnit, LEAST_OF_PER_CENT};
pub use step::StepInfo;

use super::data::{self, DataInfo};
use super::entry::Unit;
use super::outside::unknown_setting;
use super::program::{ItemId, ModuleId, Program};
use super::resident::Made;
use super::root;
use super::weight_names::{Pretrained, is_below};
use super::{Elaborator, Options};
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::syntax::ast::{ItemKind, Train};
use crate::syntax::on_large_stack;
use answers::Asked;
pub use answers::{AnswerInfo, ParameterInfo, ParameterKind};
use build::Builder;
use nnc_graph::{Dim, Graph};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a `train` block says, for whoever runs the training.
#[derive(Clone, PartialEq, Debug)]
pub struct RecipeInfo {
    /// The name behind `train`; of a second recipe of that name `NAME on DATA`.
    pub name: String,
    /// The model it trains, or the recipe's own label.
    pub model: String,
    /// The data block it trains on.
    pub data: String,
    /// Passes over the training split.
    pub epochs: i64,
    /// Examples in a step.
    pub batch: i64,
    /// When to stop before the last epoch.
    pub stop_early: Option<StopEarly>,
    /// Its `step` blocks in order; none when it has one `minimize` of its own.
    pub steps: Vec<StepInfo>,
    /// Each `accumulate` that collects more than one step.
    pub accumulations: Vec<Accumulation>,
    /// Weights go while training.
    pub prune: Option<PruneInfo>,
    /// Products are rounded while training.
    pub quantise: Option<QuantiseInfo>,
    /// In order of declaration.
    pub metrics: Vec<MetricInfo>,
    /// Names of the metrics that are square matrices, added up over a split.
    pub matrices: Vec<String>,
    /// Paths of the states of its network, which no gradient changes: what is kept and is no parameter.
    pub states: BTreeSet<String>,
    /// The answers, in order of declaration; `result` alone when the recipe declares none.
    pub answers: Vec<AnswerInfo>,
    /// Names of the pictures that are drawn at the end of each epoch, in order of declaration.
    pub pictures: Vec<String>,
    /// The seed the recipe sets.
    pub seed: Option<i64>,
    /// What `--set` gives to the training: all but the parameters of answers.
    pub settings: BTreeSet<String>,
    /// Files of weights that layers begin with, and the names in them.
    pub pretrained: Pretrained,
    /// The paths of layers that follow others, and of these: what a training begins with is theirs.
    pub followers: Vec<(String, String)>,
}

impl RecipeInfo {
    /// What its losses are called: `loss`, or `NAME.loss` of each step.
    pub fn losses(&self) -> Vec<String> {
        step::loss_names(&self.steps)
    }

    /// What a step or an evaluation tells of: the losses, then the metrics.
    pub fn measured(&self) -> impl Iterator<Item = String> {
        self.losses().into_iter().chain(self.metrics.iter().map(|metric| metric.name.clone()))
    }

    /// The names of the steps that are done in an iteration, counted from 0, of so many; the choice of what is pruned
    /// is one, and so is the rounding of products.
    pub fn due(&self, iteration: i64, iterations: i64) -> BTreeSet<String> {
        self.due_names(iteration, iterations).map(str::to_owned).collect()
    }

    /// As [`Self::due`], one after the other.
    pub fn due_names(&self, iteration: i64, iterations: i64) -> impl Iterator<Item = &str> {
        let steps = self.steps.iter().filter(move |step| step.is_due(iteration)).map(|step| step.name.as_str());
        let is_due = |prune: &&PruneInfo| (iteration + 1) % prune.every == 0;
        let choice = self.prune.as_ref().filter(is_due).map(|_| prune::CHOICE);
        let rounding = self.rounds(iteration, iterations).then_some(quantise::ROUNDING);
        steps.chain(choice).chain(rounding)
    }

    /// Whether products are rounded in an iteration, counted from 0, of so many.
    pub fn rounds(&self, iteration: i64, iterations: i64) -> bool {
        self.quantise.as_ref().is_some_and(|known| iteration as f64 >= known.start * iterations as f64)
    }

    /// The steps of the recipe, and what else is done beside them from the first iteration on.
    pub fn all_steps(&self) -> BTreeSet<String> {
        let rounding = self.rounds(0, 1).then(|| quantise::ROUNDING.to_owned());
        self.steps.iter().map(|step| step.name.clone()).chain(rounding).collect()
    }

    /// The answer called `name`. Without a name: `None` when the recipe has answers without parameters, which then go
    /// together; else the only one there is.
    ///
    /// # Errors
    /// The name, if there is no such answer; without a name, if there are several to choose from.
    pub fn asked(&self, name: Option<&str>) -> Result<Option<&AnswerInfo>, String> {
        let Some(name) = name else {
            return match self.answers.as_slice() {
                [only] => Ok(Some(only).filter(|only| only.parameters.is_some())),
                several if several.iter().any(|answer| answer.parameters.is_none()) => Ok(None),
                _ => Err(String::new()),
            };
        };
        self.answers.iter().find(|answer| answer.name == name).map(Some).ok_or_else(|| name.to_owned())
    }
}

/// `accumulate=4` of a `minimize`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accumulation {
    /// The `step` that it stands in, if the recipe has such.
    pub step: Option<String>,
    /// It updates after so many steps.
    pub every: i64,
}

/// `prune(cubic(0.9), every=50, block=[1, 16])`.
#[derive(Clone, PartialEq, Debug)]
pub struct PruneInfo {
    /// What goes is chosen after so many steps.
    pub every: i64,
    /// Whether neighbouring weights go together.
    pub has_blocks: bool,
    /// Where the recipe says so.
    pub span: Span,
}

/// `quantise(start=0.5, over=net)`.
#[derive(Clone, PartialEq, Debug)]
pub struct QuantiseInfo {
    /// The share of the training after which products are rounded.
    pub start: f64,
    /// The paths of the layers that it is said of begin with this.
    pub over: String,
    /// Where the recipe says so.
    pub span: Span,
}

impl QuantiseInfo {
    /// Whether it is said of a layer.
    pub fn covers(&self, layer: &str) -> bool {
        is_below(&self.over, layer)
    }
}

/// `stop_early(on=validation.loss, patience=3)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StopEarly {
    /// What is watched: `validation.loss`.
    pub on: String,
    /// How many epochs without an improvement end the training.
    pub patience: i64,
    /// What an improvement is.
    pub better: Direction,
}

/// A metric of a recipe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetricInfo {
    /// Its name.
    pub name: String,
    /// Whether it accumulates over a split instead of being averaged over examples.
    pub accumulates: bool,
}

/// Which graph is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A training step: loss, metrics, updates.
    Train,
    /// Loss and metrics outside training.
    Evaluate,
    /// The answers.
    Answer,
    /// The pictures of an epoch.
    Picture,
}

/// What the blocks of a file declare.
#[derive(Default)]
pub(crate) struct Blocks {
    pub data: Vec<DataInfo>,
    pub recipes: Vec<RecipeInfo>,
    pub diagnostics: Vec<Diagnostic>,
    /// The rules of `names` in the file, and whether each fits something in one of the recipes.
    rules: BTreeMap<Span, bool>,
}

impl Blocks {
    /// Warns about rules that fit nothing in any recipe.
    fn report_idle_rules(&mut self) {
        let idle = std::mem::take(&mut self.rules).into_iter().filter(|(_, fits)| !fits);
        let warning = |(span, _): (Span, bool)| {
            let message = "this rule fits no parameter or state, so it does nothing";
            Diagnostic::new(Code::W0005, span, message)
                .help("our names begin with a layer of the model, as `nnc show` lists them: `conv2d_1.w`")
        };
        self.report(idle.map(warning).collect());
    }

    /// Adds what was not reported yet.
    fn report(&mut self, diagnostics: Vec<Diagnostic>) {
        for diagnostic in diagnostics {
            let place = (diagnostic.code, diagnostic.primary.span);
            if !self.diagnostics.iter().any(|known| (known.code, known.primary.span) == place) {
                self.diagnostics.push(diagnostic);
            }
        }
    }
}

/// Every `train` block of the file that is compiled, with the name its recipe goes by; those of files that it uses are
/// these files' own.
fn recipes(program: &Program) -> Vec<(String, ItemId, &Train)> {
    let mut found: Vec<(String, ItemId, &Train)> = Vec::new();
    for (id, item) in program.user_items() {
        let ItemKind::Train(train) = &item.kind else { continue };
        if id.module != ModuleId(0) {
            continue;
        }
        let short = train.name.text.clone();
        let taken = found.iter().any(|(name, _, _)| *name == short);
        let name = if taken { format!("{short} on {}", train.data.text) } else { short };
        found.push((name, id, train));
    }
    found
}

/// The recipe that `--set` is said of, if it is one alone, with its name.
fn asked_recipe(recipes: &[(String, ItemId, &Train)], options: &Options) -> Option<(String, ItemId)> {
    let only = options.only.as_deref()?;
    let is_it =
        |(name, _, train): &&(String, ItemId, &Train)| name == only || format!("{name} on {}", train.data.text) == only;
    recipes.iter().find(is_it).map(|(name, id, _)| (name.clone(), *id))
}

/// Two recipes of one name on the same data cannot be told apart.
fn same_recipes(program: &Program, recipes: &[(String, ItemId, &Train)]) -> Vec<Diagnostic> {
    let same = |(at, (_, id, train)): (usize, &(String, ItemId, &Train))| {
        let is_same = |other: &&Train| other.name.text == train.name.text && other.data.text == train.data.text;
        let before = recipes[..at].iter().map(|(_, _, other)| *other).find(is_same)?;
        let message = format!("there is a recipe `{}` on `{}` already", train.name.text, train.data.text);
        let diagnostic = Diagnostic::new(Code::E0202, train.name.span, message).with(before.name.span, "the first");
        let model = &train.name.text;
        let help = match program.find_function(id.module, model) {
            Some(_) => format!("give one of them another name, and its model as a layer: `layer net = {model}()`"),
            None => "give one of them another name".to_owned(),
        };
        Some(diagnostic.help(help))
    };
    recipes.iter().enumerate().filter_map(same).collect()
}

/// Checks every `data` and `train` block: with `N` as a name, for each purpose.
pub(crate) fn check(program: &Program, options: &Options) -> Blocks {
    let mut blocks = Blocks::default();
    let recipes = recipes(program);
    let broken = check_data(program, options, &recipes, &mut blocks);
    blocks.report(same_recipes(program, &recipes));
    let asked = asked_recipe(&recipes, options);
    let mut settable = BTreeSet::new();
    let mut all_read = true;
    for (name, id, train) in &recipes {
        let Some((_, data)) = program.find_data(id.module, &train.data.text) else {
            blocks.report(vec![unknown_data(program, *id, train)]);
            all_read = false;
            continue;
        };
        if broken.contains(&data.name.text) {
            all_read = false;
            continue;
        }
        let mut own = BTreeSet::new();
        let is_set = asked.as_ref().is_none_or(|(_, asked)| asked == id);
        let info = check_recipe(program, options, (*id, train, is_set), &mut own, &mut blocks);
        if is_set {
            settable.append(&mut own);
        }
        blocks.recipes.extend(info.map(|info| RecipeInfo { name: name.clone(), ..info }));
    }
    if recipes.is_empty() && !program.has_recipes() {
        settable = root::settable(program);
    }
    let none = match &asked {
        Some((name, _)) if recipes.len() > 1 => &format!("the recipe `{name}` has no"),
        _ if recipes.is_empty() => "no model has a",
        _ => "no recipe has a",
    };
    if all_read {
        let unknown = options.set.iter().filter(|(name, _)| !settable.contains(*name));
        let place = |name: &str, value: &str| program.given.setting(name, value).name;
        blocks
            .report(unknown.map(|(name, value)| unknown_setting(none, name, &settable, place(name, value))).collect());
    }
    // A recipe with errors may use a rule all the same.
    if all_read && blocks.recipes.len() == recipes.len() {
        blocks.report_idle_rules();
    }
    blocks
}

/// Checks the data blocks; gives the names of those that have errors.
fn check_data(
    program: &Program,
    options: &Options,
    recipes: &[(String, ItemId, &Train)],
    blocks: &mut Blocks,
) -> BTreeSet<String> {
    let mut broken = BTreeSet::new();
    for (id, item) in program.user_items() {
        let ItemKind::Data(block) = &item.kind else { continue };
        let mut used = BTreeSet::new();
        let own = recipes.iter().filter(|(_, _, train)| train.data.text == block.name.text);
        own.clone().for_each(|(_, _, train)| names::read_in_block(&train.body, &mut used));
        let used = own.clone().next().map(|_| &used);
        let (example, reported) = data::elaborate(program, options, (id, block), used, false);
        let (augmented, more) = data::elaborate(program, options, (id, block), used, true);
        blocks.report(reported);
        blocks.report(more);
        blocks.report(data::differing_lessons(example.as_ref(), augmented.as_ref()).into_iter().collect());
        match example.filter(|_| augmented.is_some()) {
            Some(example) => blocks.data.push(example.info),
            None => {
                broken.insert(block.name.text.clone());
            }
        }
    }
    broken
}

fn check_recipe(
    program: &Program,
    options: &Options,
    (id, train, is_set): (ItemId, &Train, bool),
    settable: &mut BTreeSet<String>,
    blocks: &mut Blocks,
) -> Option<RecipeInfo> {
    let mut info = None;
    let mut pretrained = Pretrained::default();
    let mut failed = false;
    let mut undecided = false;
    let (mut made, mut paths) = (Rc::<Made>::default(), BTreeSet::new());
    for purpose in [Purpose::Train, Purpose::Evaluate, Purpose::Answer, Purpose::Picture] {
        let mut builder = Builder::new(program, options, (id, train), purpose, Dim::name("N"));
        builder.asked = Asked::Checked;
        builder.is_set = is_set;
        builder.elaborator.made = Rc::clone(&made);
        builder.run();
        settable.extend(builder.settable().map(str::to_owned));
        match (purpose, &mut info) {
            (Purpose::Train, _) => {
                info = builder.info();
                undecided = builder.elaborator.undecided;
                if !builder.elaborator.report.has_errors() {
                    made = Rc::new(builder.made());
                }
            }
            (Purpose::Answer, Some(info)) => info.answers = builder.answers_told(),
            (Purpose::Evaluate | Purpose::Answer | Purpose::Picture, _) => {}
        }
        // Behind a size that `N` decides may be what trains them.
        if !failed && !undecided && matches!(purpose, Purpose::Answer | Purpose::Picture) {
            builder.report_unlearnt(&made);
        }
        paths.extend(builder.elaborator.store.entries().iter().map(|entry| entry.path.clone()));
        pretrained.merge(std::mem::take(&mut builder.elaborator.pretrained));
        failed |= builder.elaborator.report.has_errors();
        blocks.report(builder.elaborator.report.into_diagnostics());
    }
    if failed {
        return None;
    }
    for (span, fits) in pretrained.names.fitting(train.name.span.file, &paths) {
        *blocks.rules.entry(span).or_default() |= fits;
    }
    info.map(|info| RecipeInfo { pretrained, ..info })
}

fn unknown_data(program: &Program, id: ItemId, train: &Train) -> Diagnostic {
    let name = &train.data;
    let diagnostic = Diagnostic::new(Code::E0201, name.span, format!("there is no data block `{}`", name.text));
    let known: Vec<&str> = program
        .user_items()
        .filter(|(other, _)| other.module == id.module)
        .filter_map(
            |(_, item)| if let ItemKind::Data(data) = &item.kind { Some(data.name.text.as_str()) } else { None },
        )
        .collect();
    match closest(&name.text, known) {
        Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
        None => diagnostic,
    }
}

impl Unit {
    /// First values: input `$seed`, one output for each parameter and state by path, those of optimisers and metrics
    /// as well, all of them as they are declared.
    ///
    /// # Errors
    /// Diagnostics, when a bound size does not fit or there is no such recipe.
    pub fn init(&self, recipe: &str) -> Result<Graph, Vec<Diagnostic>> {
        let batch = self.recipes.iter().find(|info| info.name == recipe).map_or(1, |info| info.batch);
        // No size of theirs hangs on it, and of one example alone some models cannot be trained.
        let batch = usize::try_from(batch).unwrap_or(1).max(2);
        on_large_stack(|| {
            let declared = |builder: &mut Builder<'_>| builder.left = BTreeMap::new();
            let train = self.built_with(recipe, Purpose::Train, batch, declared)?;
            // Those with parameters, too: a layer of the recipe may be used in them alone.
            let answer = self.built_as(recipe, Purpose::Answer, batch, Asked::Checked)?;
            Ok(output::first_values(recipe, [&train.elaborator, &answer.elaborator]))
        })
    }

    /// A training step on `n` examples: inputs are the raw fields `[n, ...]` by the name of their [`data::RawField`],
    /// and of `$seed`, `$iteration`, `$iterations`, `$epoch` (i64) and `$draw` (`i64[n]`) those it needs. Outputs: each
    /// of [`RecipeInfo::losses`], each metric (an accumulating one: its value so far), and updates of everything that
    /// changes, each withheld when its loss is not finite. Of a recipe with steps all are done. One that prunes has
    /// inputs and outputs more, `$pruned.PATH.value` and `.gradient`, which a pass takes out, and `$pruned.share`, the
    /// share that goes.
    ///
    /// # Errors
    /// As [`Unit::init`].
    pub fn train_step(&self, recipe: &str, n: usize) -> Result<Graph, Vec<Diagnostic>> {
        on_large_stack(|| Ok(output::train_step(self.built(recipe, Purpose::Train, n)?)))
    }

    /// As [`Unit::train_step`], with those steps of the recipe alone that are [`RecipeInfo::due`].
    ///
    /// # Errors
    /// As [`Unit::init`].
    pub fn train_steps(&self, recipe: &str, n: usize, due: &BTreeSet<String>) -> Result<Graph, Vec<Diagnostic>> {
        on_large_stack(|| {
            Ok(output::train_step(self.built_with(recipe, Purpose::Train, n, |builder| {
                builder.steps.due = Some(due.clone());
            })?))
        })
    }

    /// Loss and metrics of `n` examples outside training: means over the batch, sums for matrices; of an accumulating
    /// metric its value so far, with updates of its state.
    ///
    /// # Errors
    /// As [`Unit::init`].
    pub fn evaluate(&self, recipe: &str, n: usize) -> Result<Graph, Vec<Diagnostic>> {
        on_large_stack(|| Ok(output::evaluate(self.built(recipe, Purpose::Evaluate, n)?)))
    }

    /// What the recipe answers for `n` examples: one answer, or all of them, each an output by its name (a tuple's
    /// parts are `NAME.0` and so on). Its inputs are only the raw fields that it needs.
    ///
    /// # Errors
    /// As [`Unit::init`]; also when there is no such answer.
    pub fn answer(&self, recipe: &str, answer: Option<&str>, n: usize) -> Result<Graph, Vec<Diagnostic>> {
        self.answer_sized(recipe, answer, n, &BTreeMap::new())
    }

    /// As [`Unit::answer`], with sizes for the dims of an answer's parameters that are names. Those parameters are
    /// inputs as well. An answer with parameters is made alone: without a name, the answers that have none are made, or
    /// the only one there is.
    ///
    /// # Errors
    /// As [`Unit::answer`]; also when a size is missing, or a parameter that must be known now.
    pub fn answer_sized(
        &self,
        recipe: &str,
        answer: Option<&str>,
        n: usize,
        sizes: &BTreeMap<String, i64>,
    ) -> Result<Graph, Vec<Diagnostic>> {
        Ok(self.answer_and_parameters(recipe, answer, n, sizes)?.0)
    }

    /// As [`Unit::answer_sized`], with what the answer takes: each value as it is in the graph. [`RecipeInfo::answers`]
    /// has no values of parameters whose name several answers have.
    ///
    /// # Errors
    /// As [`Unit::answer_sized`].
    pub fn answer_and_parameters(
        &self,
        recipe: &str,
        answer: Option<&str>,
        n: usize,
        sizes: &BTreeMap<String, i64>,
    ) -> Result<(Graph, Vec<ParameterInfo>), Vec<Diagnostic>> {
        let info = self.recipes.iter().find(|info| info.name == recipe);
        let asked = info.and_then(|info| info.asked(answer).ok().flatten());
        let asked = asked.filter(|asked| asked.parameters.is_some()).map(|asked| asked.name.clone());
        let answer = answer.or(asked.as_deref());
        let which = asked.clone().map_or(Asked::No, |name| Asked::One(name, sizes.clone()));
        on_large_stack(|| {
            let mut builder = self.built_as(recipe, Purpose::Answer, n, which)?;
            let parameters = std::mem::take(&mut builder.answer_infos).into_iter().filter_map(|info| info.parameters);
            let parameters = parameters.flatten().collect();
            Ok((output::answer(builder, answer)?, parameters))
        })
    }

    /// The pictures that the recipe draws at the end of an epoch, from `n` examples: each an output by its name.
    ///
    /// # Errors
    /// As [`Unit::init`].
    pub fn pictures(&self, recipe: &str, n: usize) -> Result<Graph, Vec<Diagnostic>> {
        on_large_stack(|| output::answer(self.built(recipe, Purpose::Picture, n)?, None))
    }

    /// A recipe elaborated for `n` examples.
    fn built(&self, recipe: &str, purpose: Purpose, n: usize) -> Result<Builder<'_>, Vec<Diagnostic>> {
        self.built_with(recipe, purpose, n, |_| {})
    }

    fn built_as(&self, recipe: &str, purpose: Purpose, n: usize, asked: Asked) -> Result<Builder<'_>, Vec<Diagnostic>> {
        self.built_with(recipe, purpose, n, |builder| builder.asked = asked)
    }

    /// A recipe elaborated for `n` examples by a builder that is prepared so.
    fn built_with(
        &self,
        recipe: &str,
        purpose: Purpose,
        n: usize,
        prepare: impl FnOnce(&mut Builder<'_>),
    ) -> Result<Builder<'_>, Vec<Diagnostic>> {
        let recipes = recipes(&self.program);
        let Some(&(_, id, train)) = recipes.iter().find(|(name, _, _)| name == recipe) else {
            let place = Span { file: self.program.modules[0].file, ..Span::default() };
            return Err(vec![Diagnostic::new(Code::E0201, place, format!("there is no recipe `{recipe}`"))]);
        };
        let mut builder = Builder::new(&self.program, &self.options, (id, train), purpose, Dim::from(n));
        builder.is_set = asked_recipe(&recipes, &self.options).is_none_or(|(_, asked)| asked == id);
        builder.rounded = self.rounded.get(recipe).cloned().unwrap_or_default();
        builder.left.clone_from(&self.left);
        builder.outputs = self.outputs.get(recipe).cloned();
        prepare(&mut builder);
        builder.run();
        if !builder.elaborator.report.has_errors() {
            return Ok(builder);
        }
        let note = match purpose {
            Purpose::Picture => format!("`N` is {n} here: so many examples has the first batch of what is drawn"),
            Purpose::Train | Purpose::Evaluate => format!("`N` is {n} here: so many examples has a batch"),
            Purpose::Answer => format!("`N` is {n} here: so many examples are answered at once"),
        };
        let noted = |diagnostic: Diagnostic| match diagnostic.code.is_about_sizes() {
            true => diagnostic.note(note.clone()),
            false => diagnostic,
        };
        Err(builder.elaborator.report.into_diagnostics().into_iter().map(noted).collect())
    }
}

/// Paths of the compiler's own state: of optimisers, and of metrics.
pub(crate) const OPTIMIZER_PREFIX: &str = "$optimizer.";
/// See [`OPTIMIZER_PREFIX`].
pub(crate) const METRIC_PREFIX: &str = "$metric.";

impl Elaborator<'_> {
    /// Reports an error with a likely fix.
    pub(crate) fn fail(&mut self, code: Code, span: Span, message: impl Into<String>, help: Option<String>) {
        let diagnostic = Diagnostic::new(code, span, message);
        self.report(match help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        });
    }
}
