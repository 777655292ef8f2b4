//! Quantisation after training: which products are done with integers, by what was observed on real examples.
//!
//! 1. [`observe`]: the inference graph runs on calibration examples, and each product's activations get a range.
//! 2. [`weights`]: weights, with what normalisation multiplies them by, are rounded channel by channel.
//! 3. [`timing`]: a product stays as it is where integers measure slower.
//! 4. The metric is taken on examples that were not trained on. If it drops by more than is allowed, products go back to
//!    floats, those first that cost most by themselves.
//! 5. [`mod@file`]: weights, scales and ranges are written; whoever reads them compiles the same integers.
//!
//! A model without a recipe has no metric: [`quantise_model`] looks at one call. The rewrite itself is
//! [`nnc_opt::quantise`].

pub mod file;
pub mod observe;
mod timing;
mod weights;

use crate::compiled::{CompiledGraph, Compiler};
use crate::dataset::{Dataset, Part};
use crate::error::DriverError;
use crate::project::Project;
use crate::session::{Metrics, Session, fill};
use crate::store::Store;
use nnc_data::Batches;
use nnc_graph::{Graph, Tensor, TensorType};
use nnc_lang::elaborate::{DataInfo, RecipeInfo};
use nnc_opt::pipeline;
use nnc_opt::quantise::{Layer, Range, Site, scales_path, sites, weights_path};
use observe::{Examples, Method};
use std::collections::BTreeMap;
pub use timing::Times;
use weights::Quantised;

/// What is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// How ranges are chosen.
    pub method: Method,
    /// Calibration examples, about.
    pub examples: usize,
    /// The metric that counts; the first of the recipe, or else its loss.
    pub metric: Option<String>,
    /// How much it may drop: points of a hundred, of a loss per cent.
    pub max_drop: f64,
    /// Whether products are measured; else none stays a float for being slower.
    pub measure: bool,
}

/// Why a product stays one of floats.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Reason {
    /// Its activations were nothing but zeros on all calibration examples.
    NeverExercised,
    /// Its activations or weights held what is no finite number.
    NotFinite,
    /// Too few terms or channels for integers to serve.
    Small,
    /// Integers measured slower.
    Slower,
    /// The metric dropped too much with it.
    Accuracy,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NeverExercised => "its inputs were all 0",
            Self::NotFinite => "holds no finite numbers",
            Self::Small => "few terms",
            Self::Slower => "int8 is slower",
            Self::Accuracy => "costs too much accuracy",
        })
    }
}

/// What became of a product.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Elements of its weights.
    pub elements: usize,
    /// Multiply-adds for an example.
    pub products: usize,
    /// The range of its activations if it is quantised, or why it is not.
    pub choice: Result<Range, Reason>,
    /// What was measured.
    pub times: Option<Times>,
    /// How much the metric drops with this product alone quantised, if that was asked.
    pub drop: Option<f64>,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// What was measured; nothing where there is no recipe.
    pub measured: Option<Measured>,
    /// Calibration examples.
    pub calibrated_on: usize,
    /// Seconds of all kernels of a run, if times were asked for.
    pub times: Option<Times>,
    /// Bytes of all tensors that inference reads, before and after.
    pub bytes: [usize; 2],
    /// The products in program order.
    pub rows: Vec<Row>,
}

/// A metric before and after.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    /// What it is called.
    pub metric: String,
    /// With floats, and in the end.
    pub values: [f64; 2],
    /// Examples that it was taken on.
    pub examples: usize,
}

impl Measured {
    /// By how much it dropped: points of a hundred, or per cent of a loss.
    pub fn drop(&self) -> f64 {
        drop_of(&self.metric, self.values[0], self.values[1])
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
type Wanted = BTreeMap<String, TensorType>;

/// Fewer terms than this, or fewer output channels than a vector has lanes, are no work for integers.
const LEAST_TERMS: usize = 16;
const LEAST_CHANNELS: usize = 8;

/// Points that the metric drops; of what is better when small, per cent of it that it grows.
fn drop_of(metric: &str, before: f64, after: f64) -> f64 {
    match is_loss(metric) {
        true => 100.0 * (after - before) / before.abs().max(1e-12),
        false => 100.0 * (before - after),
    }
}

/// Whether a measure is better when it is small, by its name.
fn is_loss(metric: &str) -> bool {
    ["loss", "error", "perplexity", "bits"].iter().any(|word| metric.contains(word))
}

/// Quantises the products of a recipe's inference. `told` hears what is being done.
///
/// # Errors
/// An unknown metric, no examples, no products, or what cannot be compiled or run.
pub fn quantise(
    (project, recipe): (&Project, &RecipeInfo),
    compiler: &Compiler,
    tensors: &BTreeMap<String, Tensor>,
    dataset: &Dataset,
    (request, told): (&Request, &mut dyn FnMut(&str)),
) -> Result<Outcome, DriverError> {
    let metric = metric(recipe, request)?;
    let measured = dataset.validation.as_ref().or(dataset.test.as_ref()).unwrap_or(&dataset.train).clone();
    let mut trial = Trial { project, recipe, compiler, tensors, part: measured, metric: &metric };
    told("measuring the floats");
    let before = trial.run(&[], &BTreeMap::new())?;
    told("looking at activations");
    let mut candidates = trial.candidates(dataset, request)?;
    if request.measure {
        told("timing each product");
        candidates.time(compiler)?;
    }
    told("measuring the integers");
    let after = trial.take_back(&mut candidates, (before, request.max_drop), told)?;
    let measured = Measured { values: [before, after], examples: trial.part.rows.len(), metric: metric.clone() };
    let store = trial.floats();
    candidates.outcome((project, store), (request, compiler), Some(measured), |project| file::wanted(project, recipe))
}

/// Quantises the products of a model by itself, whose weights are in `store`, by what one call with `inputs` shows. No metric
/// is taken.
///
/// # Errors
/// An input that the model does not have, no products, or what cannot be compiled or run.
pub fn quantise_model(
    project: &Project,
    graph: &Graph,
    compiler: &Compiler,
    (mut store, inputs): (Store, &BTreeMap<String, Vec<u8>>),
    (request, rows): (&Request, usize),
) -> Result<Outcome, DriverError> {
    let float = pipeline::inference(graph).map_err(|error| DriverError::Internal(error.to_string()))?;
    let mut examples = OneCall { inputs, is_given: false };
    let mut candidates = candidates(float, rows, (compiler, &mut store), (&mut examples, rows), request)?;
    if request.measure {
        candidates.time(compiler)?;
    }
    let wanted = |project: &Project| Ok(Store::wanted(&project.inference(Ok(graph.clone()))?));
    candidates.outcome((project, store), (request, compiler), None, wanted)
}

/// The measure that counts.
fn metric(recipe: &RecipeInfo, request: &Request) -> Result<String, DriverError> {
    let known: Vec<String> = recipe.measured().collect();
    let first = || recipe.metrics.first().map(|metric| metric.name.clone()).or_else(|| known.first().cloned());
    match &request.metric {
        Some(name) if known.contains(name) => Ok(name.clone()),
        Some(name) => {
            let listed = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Err(DriverError::Usage(format!("--metric {name}: the recipe measures {listed}")))
        }
        None => first().ok_or_else(|| DriverError::Usage("the recipe measures nothing".to_owned())),
    }
}

/// One product that may be quantised.
struct Candidate {
    site: Site,
    made: Option<(Range, Quantised)>,
    row: Row,
}

struct Candidates {
    graph: Graph,
    all: Vec<Candidate>,
    calibrated_on: usize,
}

impl Candidates {
    /// Leaves alone what integers do slower.
    fn time(&mut self, compiler: &Compiler) -> Result<(), DriverError> {
        for candidate in self.all.iter_mut().filter(|candidate| candidate.row.choice.is_ok()) {
            let times = timing::measure(&self.graph, &candidate.site, compiler)?;
            candidate.row.times = Some(times);
            if times.integers > times.float {
                candidate.row.choice = Err(Reason::Slower);
            }
        }
        Ok(())
    }

    /// What is written and told: `wanted` says what a project's inference reads.
    fn outcome(
        self,
        (project, mut store): (&Project, Store),
        (request, compiler): (&Request, &Compiler),
        measured: Option<Measured>,
        wanted: impl Fn(&Project) -> Result<Wanted, DriverError>,
    ) -> Result<Outcome, DriverError> {
        let layers = self.layers();
        layers.iter().map(file::range_tensor).for_each(|(path, tensor)| store.insert(&path, &tensor));
        self.tensors().iter().for_each(|(path, tensor)| store.insert(path, tensor));
        let bytes = |wanted: &Wanted| wanted.values().map(TensorType::bytes).sum();
        let before = bytes(&wanted(project)?);
        let wanted = wanted(&Project { quantised: layers, ..project.clone() })?;
        let (times, calibrated_on) = (self.whole_times(request, compiler)?, self.calibrated_on);
        let rows = self.all.into_iter().map(|candidate| candidate.row).collect();
        let report = Report { measured, calibrated_on, times, bytes: [before, bytes(&wanted)], rows };
        Ok(Outcome { report, store, wanted })
    }

    /// Times of the whole network, if they were asked for.
    fn whole_times(&self, request: &Request, compiler: &Compiler) -> Result<Option<Times>, DriverError> {
        let layers = self.layers();
        match request.measure && !layers.is_empty() {
            true => timing::measure_all(&self.graph, &layers, compiler).map(Some),
            false => Ok(None),
        }
    }

    /// Those that are quantised.
    fn layers(&self) -> Vec<Layer> {
        let layer = |candidate: &Candidate| {
            let input = candidate.row.choice.ok()?;
            Some(Layer { name: candidate.site.name.clone(), input })
        };
        self.all.iter().filter_map(layer).collect()
    }

    /// The tensors of all that could be quantised.
    fn tensors(&self) -> BTreeMap<String, Tensor> {
        let made = self.all.iter().filter_map(|candidate| Some((&candidate.site.name, &candidate.made.as_ref()?.1)));
        let both = made.flat_map(|(name, made)| {
            [(weights_path(name), made.weights.clone()), (scales_path(name), made.scales.clone())]
        });
        both.collect()
    }
}

/// Every product with its range and its integers, or why it has none. `rows` are the examples of a call.
fn candidates(
    graph: Graph,
    rows: usize,
    (compiler, store): (&Compiler, &mut Store),
    (examples, calibrated_on): (&mut dyn Examples, usize),
    request: &Request,
) -> Result<Candidates, DriverError> {
    let sites = sites(&graph);
    if sites.is_empty() {
        let message = "this network has no product of activations by weights outside of loops";
        return Err(DriverError::Usage(message.to_owned()));
    }
    let seen = observe::observe(&graph, &sites, request.method, (compiler, store), examples)?;
    let floats = weights::floats(&graph, &sites, (compiler, store))?;
    let candidate = |(site, weights): (Site, Tensor)| {
        let range = seen.get(&site.input).and_then(|seen| seen.range(request.method));
        let made = range.and_then(|range| Some((range, weights::quantise(&site, &weights, range)?)));
        let choice = match &made {
            _ if site.depth < LEAST_TERMS || site.channels < LEAST_CHANNELS => Err(Reason::Small),
            Some((range, _)) => Ok(*range),
            None if seen.get(&site.input).is_some_and(|seen| seen.most == 0.0) => Err(Reason::NeverExercised),
            None => Err(Reason::NotFinite),
        };
        let (name, elements, products) = (site.name.clone(), weights.elements(), site.products / rows);
        Candidate { made, row: Row { name, elements, products, choice, times: None, drop: None }, site }
    };
    let all = sites.into_iter().zip(floats).map(candidate).collect();
    Ok(Candidates { all, graph, calibrated_on })
}

/// A recipe whose metric is taken with these or those products quantised.
struct Trial<'a> {
    project: &'a Project,
    recipe: &'a RecipeInfo,
    compiler: &'a Compiler,
    tensors: &'a BTreeMap<String, Tensor>,
    part: Part,
    metric: &'a str,
}

impl Trial<'_> {
    /// The metric with such layers.
    fn run(&mut self, layers: &[Layer], made: &BTreeMap<String, Tensor>) -> Result<f64, DriverError> {
        let project = Project { quantised: layers.to_vec(), ..self.project.clone() };
        let mut session = Session::without_files(&project, &self.recipe.name, self.compiler.clone(), 0)?;
        for (path, tensor) in self.tensors.iter().chain(made) {
            session.store_mut().insert(path, tensor);
        }
        let metrics: Metrics = session.evaluate(&self.part)?;
        let value = metrics.iter().find(|(name, _)| name == self.metric).map(|(_, value)| *value);
        value.ok_or_else(|| DriverError::Internal(format!("`{}` was not measured", self.metric)))
    }

    /// Every product with its range and its integers, or why it has none.
    fn candidates(&self, dataset: &Dataset, request: &Request) -> Result<Candidates, DriverError> {
        let data = self.project.data(&self.recipe.data)?;
        let rows = Project::batch(self.recipe).min(dataset.train.rows.len()).max(1);
        let graph = self.project.graph(self.project.unit.evaluate(&self.recipe.name, rows))?;
        let graph = pipeline::inference(&graph).map_err(|error| DriverError::Internal(error.to_string()))?;
        let mut store = self.floats();
        let mut examples = OfData::new(data, dataset, (request.examples, rows))?;
        let count = examples.count();
        candidates(graph, rows, (self.compiler, &mut store), (&mut examples, count), request)
    }

    /// Takes products back to floats until the metric is good enough, those first that cost most by themselves. Gives the
    /// metric.
    fn take_back(
        &mut self,
        candidates: &mut Candidates,
        (before, max_drop): (f64, f64),
        told: &mut dyn FnMut(&str),
    ) -> Result<f64, DriverError> {
        let made = candidates.tensors();
        let mut value = self.run(&candidates.layers(), &made)?;
        if drop_of(self.metric, before, value) <= max_drop {
            return Ok(value);
        }
        told("looking for the products that cost most");
        for at in 0..candidates.all.len() {
            let Ok(input) = candidates.all[at].row.choice else { continue };
            let alone = [Layer { name: candidates.all[at].site.name.clone(), input }];
            let with = self.run(&alone, &made)?;
            candidates.all[at].row.drop = Some(drop_of(self.metric, before, with));
        }
        let mut order: Vec<usize> = (0..candidates.all.len()).collect();
        let cost = |at: &usize| candidates.all[*at].row.drop.unwrap_or(f64::NEG_INFINITY);
        order.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
        for at in order {
            if candidates.all[at].row.choice.is_err() {
                continue;
            }
            candidates.all[at].row.choice = Err(Reason::Accuracy);
            value = self.run(&candidates.layers(), &made)?;
            if drop_of(self.metric, before, value) <= max_drop {
                break;
            }
        }
        Ok(value)
    }

    /// The weights as they were given.
    fn floats(&self) -> Store {
        Store::of(self.tensors.iter().map(|(path, tensor)| (path.as_str(), tensor)))
    }
}

/// What a model is given for one call.
struct OneCall<'a> {
    inputs: &'a BTreeMap<String, Vec<u8>>,
    is_given: bool,
}

impl Examples for OneCall<'_> {
    fn rewind(&mut self) -> Result<(), DriverError> {
        self.is_given = false;
        Ok(())
    }

    fn fill(&mut self, program: &mut CompiledGraph) -> Result<bool, DriverError> {
        for (name, bytes) in self.inputs {
            let Some(input) = program.input_mut(name) else { continue };
            if input.len() != bytes.len() {
                let (found, wanted) = (bytes.len(), input.len());
                return Err(DriverError::Usage(format!("--input {name} has {found} bytes, a call takes {wanted}")));
            }
            input.copy_from_slice(bytes);
        }
        Ok(!std::mem::replace(&mut self.is_given, true))
    }
}

/// Examples of a data set, spread over what is trained on, a batch at a time.
struct OfData<'a> {
    data: &'a DataInfo,
    part: Part,
    size: usize,
    batches: Batches,
}

impl<'a> OfData<'a> {
    fn new(data: &'a DataInfo, dataset: &Dataset, (examples, size): (usize, usize)) -> Result<Self, DriverError> {
        let all = &dataset.train.rows;
        let wanted = examples.max(size).min(all.len()) / size.max(1) * size;
        if wanted == 0 {
            return Err(DriverError::Usage("there are no examples to calibrate on".to_owned()));
        }
        let rows = (0..wanted).map(|at| all[at * all.len() / wanted]).collect();
        let part = dataset.train.with_rows(rows);
        let batches = batches(&part, size)?;
        Ok(Self { data, part, size, batches })
    }

    fn count(&self) -> usize {
        self.part.rows.len()
    }
}

fn batches(part: &Part, size: usize) -> Result<Batches, DriverError> {
    Ok(Batches::new(part.table.clone(), part.rows.clone(), size, 0)?)
}

impl Examples for OfData<'_> {
    fn rewind(&mut self) -> Result<(), DriverError> {
        self.batches = batches(&self.part, self.size)?;
        Ok(())
    }

    fn fill(&mut self, program: &mut CompiledGraph) -> Result<bool, DriverError> {
        let Some(batch) = self.batches.next_batch()? else { return Ok(false) };
        fill(program, self.data, batch)?;
        Ok(true)
    }
}
