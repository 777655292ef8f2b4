//! Quantisation after training: which products are done with integers, by what was observed on real examples.
//!
//! 1. [`observe`]: the inference graph runs on calibration examples, and each product's activations get a range, by
//!    what they are like ([`mod@histogram`]). What was trained with rounding has its ranges already.
//! 2. [`weights`]: weights, with what normalisation multiplies them by, are rounded channel by channel.
//! 3. [`timing`]: a product stays as it is where integers measure slower, and the whole network where they do.
//! 4. `rounding`: weights become the whole numbers that results change least with, by what they are multiplied with
//!    (`moments`, `source`, `cholesky`).
//! 5. `shifts`: what rounding takes from the results of a product in the mean is added to them.
//! 6. The metric is taken on examples that were not trained on. If it drops by more than is allowed, products go back
//!    to floats, those first that cost most by themselves.
//! 7. Tables whose rows are picked by number are stored in eight bits ([`narrow::tables`]), held to the metric too.
//! 8. [`mod@file`]: weights, scales and ranges are written; whoever reads them compiles the same integers.
//!
//! [`mod@examples`] has what programs run on meanwhile, [`mod@candidates`] the products with what is chosen for each,
//! `rows` what is told of them and of those that cannot be quantised, [`looked`] which programs their ranges hold for,
//! [`trained`] ranges that a training found, [`mod@drift`] what became of answers, [`mod@trial`] a recipe with some of
//! them quantised, `held` what goes back for the metric's sake. A model without a recipe has no metric:
//! [`quantise_model`] looks at one call. The rewrite itself is [`nnc_opt::quantise`].

mod candidates;
mod cholesky;
mod drift;
pub(crate) mod examples;
pub mod file;
pub(crate) mod held;
mod histogram;
pub mod looked;
pub(crate) mod moments;
pub mod observe;
pub(crate) mod rounding;
mod rows;
mod shifts;
mod source;
pub(crate) mod timing;
pub mod trained;
mod trial;
mod weights;

use crate::answer::AnswerGraphs;
use crate::compiled::Compiler;
use crate::dataset::Dataset;
use crate::error::DriverError;
use crate::narrow;
use crate::narrow::tables::Tables;
use crate::project::Project;
use crate::store::Store;
pub use candidates::LEAST_EXAMPLES;
use candidates::{Candidates, Refinement};
pub use drift::{Drift, Moved};
use examples::OneCall;
use looked::Program;
use nnc_graph::TensorType;
use nnc_lang::elaborate::{Better, RecipeInfo};
use nnc_opt::quantise::{Range, Unserved};
use observe::Method;
use std::collections::BTreeMap;
pub use timing::Times;
use trial::Trial;

/// What is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// How ranges are chosen.
    pub method: Method,
    /// Calibration examples, about.
    pub examples: usize,
    /// The metric that counts; the first of the recipe, or else its loss.
    pub metric: Option<String>,
    /// How much it may get worse: [`Better::worse_by`].
    pub max_drop: f64,
    /// Whether products are measured; else none stays a float for being slower.
    pub measure: bool,
}

/// Why a product stays one of floats.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Reason {
    /// Its activations were nothing but zeros on all calibration examples.
    NeverExercised,
    /// Its activations were so small on all calibration examples that a step between two of them is no normal number.
    Vanishing,
    /// Its activations held what is no finite number.
    NotFinite,
    /// Its weights held what is no finite number.
    WeightsNotFinite,
    /// It was not rounded in the training that others were rounded in.
    NotTrained,
    /// Too few terms for integers to serve.
    FewTerms,
    /// Too few output channels for integers to serve.
    FewChannels,
    /// Integers measured slower.
    Slower,
    /// The whole network measured slower with integers, whatever its products do by themselves.
    NetworkSlower,
    /// The metric dropped too much with it.
    Accuracy,
    /// It is none of the products that can be quantised.
    Unserved(Unserved),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = match self {
            Self::Unserved(why) => return std::fmt::Display::fmt(why, f),
            Self::NeverExercised => "its inputs were all 0",
            Self::Vanishing => "its inputs are almost 0",
            Self::NotFinite => "its inputs hold what is no finite number",
            Self::WeightsNotFinite => "its weights hold what is no finite number",
            Self::NotTrained => "trained in floats",
            Self::FewTerms => "few terms",
            Self::FewChannels => "few channels",
            Self::Slower => "int8 is slower",
            Self::NetworkSlower => "the network is slower with int8",
            Self::Accuracy => "costs more than `--max-drop`",
        };
        f.write_str(why)
    }
}

/// What became of a product.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The name of its weights: [`nnc_opt::quantise::Site::name`]. Of what cannot be quantised the path of a parameter,
    /// or without one where in the source it comes from.
    pub name: String,
    /// The same as short as it is among the others: the layer, where it has one quantised parameter.
    pub layer: String,
    /// Elements of its weights; 0 where both factors are activations, or one is a constant.
    pub elements: usize,
    /// Multiply-adds for an example.
    pub products: usize,
    /// The range of its activations if it is quantised, or why it is not.
    pub choice: Result<Range, Reason>,
    /// The program that makes its range wide, if there is one.
    pub widened: Option<Widened>,
    /// What was measured.
    pub times: Option<Times>,
    /// How much the metric drops with this product alone quantised, if that was asked.
    pub drop: Option<f64>,
}

/// A program that makes a range much wider than the evaluation would have it.
#[derive(Clone, PartialEq, Debug)]
pub struct Widened {
    /// What it is called.
    pub by: String,
    /// How many times as large its activations are.
    pub times: f32,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// What was measured; nothing where there is no recipe.
    pub measured: Option<Measured>,
    /// Calibration examples; none where ranges are those of the training.
    pub calibrated_on: Option<usize>,
    /// Whether weights became the numbers that results change least with, not each the nearest.
    pub are_fitted: bool,
    /// Whether what rounding takes from results in the mean is added to them.
    pub are_shifted: bool,
    /// What became of the answers.
    pub answers: Vec<Drift>,
    /// Seconds of all kernels of a run, if times were asked for: with the products that are quantised, or, where all
    /// stay floats as the network would be slower, with those that it was measured with.
    pub times: Option<Times>,
    /// Examples of such a run.
    pub run: usize,
    /// Bytes of all tensors that inference reads, before and after.
    pub bytes: [usize; 2],
    /// The products in program order.
    pub rows: Vec<Row>,
    /// The tables whose rows are picked by number.
    pub tables: Vec<narrow::Row>,
}

impl Report {
    /// Whether anything is quantised.
    pub fn is_any(&self) -> bool {
        self.rows.iter().any(|row| row.choice.is_ok()) || self.tables.iter().any(|row| row.choice.is_ok())
    }
}

/// A metric before and after.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    /// What it is called.
    pub metric: String,
    /// Which of two values is the better one.
    pub better: Better,
    /// With floats, and in the end.
    pub values: [f64; 2],
    /// Examples that it was taken on.
    pub examples: usize,
    /// Whether these were held out when the weights were trained; else it tells little.
    pub held_out: bool,
}

impl Measured {
    /// By how much it got worse: [`Better::worse_by`].
    pub fn drop(&self) -> f64 {
        self.better.worse_by(self.values[0], self.values[1])
    }
}

/// Quantised weights, ready to be written.
#[derive(Debug)]
pub struct Outcome {
    /// What was chosen.
    pub report: Report,
    /// All tensors, with the integers and ranges of what is quantised.
    pub store: Store,
    /// The tensors that inference reads.
    pub wanted: Wanted,
}

/// Types of tensors by path.
pub type Wanted = BTreeMap<String, TensorType>;

/// Quantises the products of a recipe's inference, of a session's weights. `told` hears what is being done.
///
/// # Errors
/// An unknown metric, no examples, no products, or what cannot be compiled or run.
pub fn quantise(
    (project, recipe): (&Project, &RecipeInfo),
    compiler: &Compiler,
    weights: &Store,
    dataset: &Dataset,
    (request, told): (&Request, &mut dyn FnMut(&str)),
) -> Result<Outcome, DriverError> {
    let metric = metric(recipe, request.metric.as_deref())?;
    let trial = Trial { project, recipe, compiler, weights, part: dataset.shown().clone(), metric: &metric };
    told("measuring the floats");
    let before = trial.run(&[], &BTreeMap::new())?;
    check_value(recipe, &metric, before)?;
    told("looking at activations");
    let mut candidates = trial.candidates(dataset, request)?;
    if request.measure {
        told("timing each product");
        candidates.time(compiler, weights)?;
    }
    trial.refine(&mut candidates, (dataset, request.examples), told)?;
    told("measuring the integers");
    let after = trial.take_back(&mut candidates, (before, request.max_drop), told)?;
    let held_out = dataset.holds_out();
    let examples = trial.part.rows.len();
    let integers = trial.with(&candidates.layers());
    let tensors = trial.floats_and(&candidates.tensors());
    let how = (metric.as_str(), before, request.max_drop);
    let held = Tables::held((&integers, recipe), (compiler, &trial.part), &tensors, how)?;
    let (tables, after) = held.unwrap_or_else(|| (Tables::default(), after));
    let better = recipe.better(&metric);
    let measured = Measured { values: [before, after], examples, held_out, metric: metric.clone(), better };
    let (store, mut answers) = (trial.floats(), trial.drifts((&candidates, &tables), &dataset.train)?);
    if !candidates.layers().is_empty() {
        answers.extend(file::drifts(&trial.with(&candidates.layers()), recipe)?);
    }
    let mut outcome = candidates.outcome((project, store), tables, |project| file::wanted(project, recipe))?;
    (outcome.report.measured, outcome.report.answers) = (Some(measured), answers);
    Ok(outcome)
}

/// Quantises the products of a model by itself, whose weights are in `store`, by what one call with `inputs` of so many
/// rows shows: as it is called, and without the inputs that have a default. No metric is taken.
///
/// # Errors
/// An input that the model does not have, no products, or what cannot be compiled or run.
pub fn quantise_model(
    (project, model): (&Project, &AnswerGraphs),
    compiler: &Compiler,
    (mut store, inputs): (Store, &BTreeMap<String, Vec<u8>>),
    (request, rows): (&Request, usize),
) -> Result<Outcome, DriverError> {
    let (make, plain) = (|rows: usize| model.made(project, rows), |rows: usize| model.made_by_defaults(project, rows));
    let mut programs = vec![Program::new(project, model.called(), &make, rows)?];
    if has_plain(project, model, rows) {
        programs.push(Program::new(project, "what the defaults give".to_owned(), &plain, rows)?);
    }
    let is_called_otherwise = programs.len() > 1;
    let mut examples = OneCall::new(inputs);
    let mut candidates =
        Candidates::new(programs, rows, (compiler, &mut store), (&mut examples, rows), (request, &project.rounded))?;
    if request.measure {
        candidates.time(compiler, &store)?;
    }
    for refinement in [Refinement::Weights, Refinement::Means] {
        candidates.refine(refinement, (compiler, &store), (&mut examples, rows))?;
    }
    let floats = store.tensors().map(|(path, tensor)| (path.to_owned(), tensor)).collect();
    let tables = Tables::of(&project.graph(make(rows))?, &floats)?;
    let integers = Project { quantised: candidates.layers(), stored: tables.matrices.clone(), ..project.clone() };
    let read = |project: &Project| project.rounded_graph(make(rows));
    let graphs = [read(project)?, read(&integers)?];
    let wanted = |project: &Project| -> Result<Wanted, DriverError> {
        let mut wanted = Store::wanted(&read(project)?);
        if is_called_otherwise {
            wanted.extend(Store::wanted(&project.rounded_graph(plain(rows))?));
        }
        Ok(wanted)
    };
    let mut outcome = candidates.outcome((project, store), tables, wanted)?;
    outcome.report.answers = drift::of_call(&graphs, (compiler, &mut outcome.store), inputs)?;
    Ok(outcome)
}

/// Whether a model is given what has a default, and can be made without it: dims may be open that it alone tells.
fn has_plain(project: &Project, model: &AnswerGraphs, rows: usize) -> bool {
    model.is_given_more() && model.made_by_defaults(project, rows).is_ok()
}

/// Refuses a measure that is no finite number with the weights that are given: nothing is as good as that, or worse.
///
/// # Errors
/// [`DriverError::Usage`] with its value, and what else the recipe measures.
pub fn check_value(recipe: &RecipeInfo, metric: &str, value: f64) -> Result<(), DriverError> {
    if value.is_finite() {
        return Ok(());
    }
    let others = recipe.measured().filter(|name| name != metric).map(|name| format!("`{name}`"));
    let others = others.collect::<Vec<_>>().join(", ");
    let help = if others.is_empty() { String::new() } else { format!(": choose another by `--metric`, of {others}") };
    Err(DriverError::Usage(format!(
        "`{metric}` is {value} with the weights that are given, so that it says of none whether they are as good{help}"
    )))
}

/// The measure that counts: the one that is asked for, else the first metric of a recipe, else its loss.
///
/// # Errors
/// [`DriverError::Usage`] that lists what the recipe measures.
pub fn metric(recipe: &RecipeInfo, asked: Option<&str>) -> Result<String, DriverError> {
    let known: Vec<String> = recipe.measured().collect();
    let first = || recipe.metrics.first().map(|metric| metric.name.clone()).or_else(|| known.first().cloned());
    match asked {
        Some(name) if known.iter().any(|known| known == name) => Ok(name.to_owned()),
        Some(name) => {
            let listed = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Err(DriverError::Usage(format!("--metric {name}: the recipe measures {listed}")))
        }
        None => first().ok_or_else(|| DriverError::Usage("the recipe measures nothing".to_owned())),
    }
}
