//! The same network with the weights of several files: how large each is, how fast, and how good.
//!
//! Answers are timed in alternating rounds on made-up inputs, as [`mod@crate::bench`] does; a measure is taken on the
//! test split, as `nnc eval` does. Each file is read as every other command reads it: the programs of one with integers
//! have integers, zeros are compiled into kernels.

use crate::answer::AnswerGraphs;
use crate::bench::{alternate, fill_inputs, quantile};
use crate::checkpoint::Checkpoint;
use crate::compiled::{CompiledGraph, Compiler};
use crate::dataset::{self, Dataset};
use crate::error::DriverError;
use crate::form::Form;
use crate::learned::{self, Learned};
use crate::project::Project;
use crate::prune;
use crate::session::{Metrics, Session};
use crate::store::Store;
use nnc_graph::{DType, Graph};
use nnc_lang::elaborate::RecipeInfo;
use nnc_opt::products::Product;
use nnc_opt::quantise::{Site, sites};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// What is compared, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The recipe or the model, if there are several.
    pub only: Option<&'a str>,
    /// The answer, if there are several.
    pub answer: Option<&'a str>,
    /// Examples in a run.
    pub rows: usize,
    /// About how long the answer of each file runs.
    pub time: Duration,
}

/// A file of weights, as far as it was measured. Times are in seconds of a run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// The file.
    pub weights: String,
    /// What is in it.
    pub form: Form,
    /// Bytes of the network's tensors, as a share of those of the first file.
    pub size: f64,
    /// Median of the rounds.
    pub median: f64,
    /// Lower quartile.
    pub low: f64,
    /// Upper quartile.
    pub high: f64,
    /// How many times faster than the first file it is, by medians.
    pub speed_up: f64,
    /// Losses and metrics on the test split, if they were taken.
    pub metrics: Option<BTreeMap<String, f64>>,
}

/// Weights of a file.
pub type Weights<'a> = (&'a Path, &'a Checkpoint);

/// Times the answer with the weights of each file.
///
/// # Errors
/// Diagnostics, weights of another model or of other settings, or what cannot be compiled.
pub fn compare(
    project: &Project,
    files: &[Weights<'_>],
    wanted: Wanted<'_>,
    compiler: &Compiler,
) -> Result<Vec<Row>, DriverError> {
    let (mut forms, mut programs) = (Vec::new(), Vec::new());
    for &(path, loaded) in files {
        let project = project.clone().with_file(wanted.only, (path, loaded))?;
        let graphs = AnswerGraphs::new(&project, wanted.only, wanted.answer, wanted.rows)?;
        forms.push(form(&project, loaded, &graphs.graph, wanted)?);
        programs.push(answer(&graphs, (path, loaded), compiler)?);
    }
    let times = alternate(&mut programs, wanted.time)?;
    let medians: Vec<f64> = times.iter().map(|times| quantile(times, 0.5)).collect();
    let first = forms.first().map_or(1, |form| form.bytes).max(1) as f64;
    let row = |(at, form): (usize, Form)| Row {
        weights: files[at].0.display().to_string(),
        size: form.bytes as f64 / first,
        form,
        median: medians[at],
        low: quantile(&times[at], 0.25),
        high: quantile(&times[at], 0.75),
        speed_up: medians[0] / medians[at].max(1e-12),
        metrics: None,
    };
    Ok(forms.into_iter().enumerate().map(row).collect())
}

/// The form of a file, for an answer of it: what integers are in it, or what it rounds as it was trained to.
fn form(project: &Project, loaded: &Checkpoint, answer: &Graph, wanted: Wanted<'_>) -> Result<Form, DriverError> {
    let products = products(project, answer, wanted)?;
    let served = |site: &&Site| !site.is_small() && project.rounded.contains_key(site.layer());
    let rounded: BTreeSet<String> = products.iter().filter(served).map(|site| site.name.clone()).collect();
    let own = project.quantised.iter().map(|layer| layer.name.clone());
    let names: BTreeSet<String> = products.into_iter().map(|site| site.name).collect();
    Ok(Form::of(&loaded.tensors, &own.chain(rounded).collect(), &names))
}

/// The products that could be done with integers, of an answer where some are: with a normalisation folded in, the
/// names of their weights tell the channels that are left. An answer that nobody looked at has none, whatever
/// is in the file.
fn products(project: &Project, answer: &Graph, wanted: Wanted<'_>) -> Result<Vec<Site>, DriverError> {
    let is_of_bytes = |product: &Product<'_>| product.graph.ty(product.node.operands[0]).dtype == DType::U8;
    if !nnc_opt::products::products(answer).iter().any(is_of_bytes) {
        return Ok(Vec::new());
    }
    let of_floats = Project { quantised: Vec::new(), stored: Vec::new(), rounded: BTreeMap::new(), ..project.clone() };
    let floats = AnswerGraphs::new(&of_floats, wanted.only, wanted.answer, wanted.rows)?;
    Ok(sites(&Project::before_rounding(&floats.graph)?))
}

/// The answer, compiled for weights as `nnc run` does.
fn answer(
    graphs: &AnswerGraphs,
    (path, loaded): Weights<'_>,
    compiler: &Compiler,
) -> Result<(CompiledGraph, Store), DriverError> {
    let store = graphs.store(&mut loaded.clone(), path, compiler.threads())?;
    let mut program = compiler.compile(&prune::specialised(&graphs.graph, &store))?;
    fill_inputs(&mut program);
    Ok((program, store))
}

/// Losses and metrics of a recipe with the weights of a file, on its test split; nothing if the data have none.
///
/// # Errors
/// Data that cannot be read, diagnostics, weights of another model or of other settings, or what cannot be compiled.
pub fn measure(
    project: &Project,
    recipe: &RecipeInfo,
    (path, loaded): Weights<'_>,
    (root, compiler): (&Path, &Compiler),
) -> Result<Option<(Metrics, usize)>, DriverError> {
    let project = project.clone().with_file(Some(&recipe.name), (path, loaded))?;
    let seed = learned::seed(recipe, loaded);
    let data = project.data(&recipe.data)?;
    let dataset = Dataset::open(data, root, seed as u64, dataset::Wanted::Test, &Learned::of(loaded))?;
    let Some(part) = dataset.test else { return Ok(None) };
    let mut session = Session::without_files(&project, &recipe.name, compiler.clone(), seed)?;
    session.load_exactly(path, loaded)?;
    session.fix_weights();
    Ok(Some((session.evaluate(&part)?, part.rows.len())))
}
