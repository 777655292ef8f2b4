//! Weights of few bits: which matrices are stored in bf16, int8 or int4, held to the metric.
//!
//! What is rounded are weights alone, each to the nearest number, or, where the metric is better so, to those that results
//! change least with on some examples ([`fitted`]). The metric is taken before and after, on examples that were not
//! trained on; if it drops by more than is allowed, matrices go back to floats, those first that cost most by
//! themselves. Before, matrices are left as they are by which a row takes longer in few bits ([`mod@timing`]). The
//! numbers are those of [`nnc_opt::narrow`]; [`mod@file`] has how they are written, [`tables`] the matrices that are
//! stored beside products of integers: tables, and those of loops.

mod chosen;
pub mod file;
mod fitted;
pub mod tables;
#[cfg(test)]
mod tests;
mod timing;

use crate::checkpoint;
use crate::compiled::Compiler;
use crate::dataset::{Dataset, Part};
use crate::error::DriverError;
use crate::learned;
use crate::project::Project;
use crate::prune::channels::records;
use crate::quantise::LEAST_EXAMPLES;
use crate::quantise::examples::OfData;
use crate::quantise::held::{GoesBack, hold, measure};
use crate::quantise::{Measured, Times, check_value};
use crate::session::Session;
use crate::store::{RESERVED, Store};
use chosen::Chosen;
use nnc_data::Staged;
use nnc_graph::{DType, Graph, Op, Stored, Tensor};
use nnc_lang::elaborate::RecipeInfo;
use nnc_opt::narrow::{Candidate, Levels, Matrix, candidates, groups, in_whole_groups, tables as find_tables};
use nnc_opt::prune::masked_parameter;
use std::collections::BTreeMap;
use std::path::Path;

/// Matrices with fewer elements are no work for memory.
const LEAST_ELEMENTS: usize = 4096;

/// Why a matrix stays one of floats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It has too few elements.
    Small,
    /// It has another number of axes, or is that of a convolution.
    NoMatrix,
    /// There is none: both factors of a product differ from run to run, as those of attention scores.
    TwoActivations,
    /// There is none: a product is by a constant of the program.
    Constant,
    /// Its terms are no whole number of groups.
    Group {
        /// How many they are.
        terms: usize,
    },
    /// It holds what is no finite number.
    NotFinite,
    /// The metric dropped too much with it.
    Accuracy,
    /// A row by it measured slower.
    Slower,
    /// There is no product by it, but by what is computed from it.
    Derived,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Small => "few elements",
            Self::NoMatrix => "it is no matrix",
            Self::TwoActivations => "product of two activations",
            Self::Constant => "product by a constant",
            Self::Group { .. } => "its terms are no whole groups",
            Self::NotFinite => "it holds what is no finite number",
            Self::Accuracy => "costs more than `--max-drop`",
            Self::Slower => "slower, even for one row",
            Self::Derived => "multiplied is what is made of it",
        })
    }
}

/// What became of a matrix, or of what could be thought to be one.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The path of the parameter; of a product by none where in the source it comes from.
    pub path: String,
    /// Its dims; none of a product by no parameter.
    pub dims: Vec<usize>,
    /// Multiply-adds of all products by it, of a batch.
    pub products: usize,
    /// How it is stored, or why it is not.
    pub choice: Result<Stored, Reason>,
    /// Whether products read the floats that it stands for: [`Matrix::by_floats`].
    pub by_floats: bool,
    /// The root of the mean squared rounding error, as a share of that of the weights.
    pub error: Option<f64>,
    /// Seconds of a row by it, if that was asked.
    pub times: Option<Times>,
    /// How much the metric drops with this matrix alone stored, if that was asked.
    pub drop: Option<f64>,
}

/// How matrices are to be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What in.
    pub form: Stored,
    /// Whether matrices have groups of just so many terms, or stay as they are; else of as many, or as few less as they
    /// can.
    pub is_exact: bool,
    /// Whether a row by each is measured; else none stays a float for being slower.
    pub measure: bool,
    /// Examples, about, that a recipe's matrices are rounded by; of fewer than [`LEAST_EXAMPLES`] each number is the nearest.
    pub examples: usize,
}

impl Row {
    fn no_matrix(path: &str, dims: &[usize]) -> Self {
        let why = if dims.len() == 2 { Reason::Derived } else { Reason::NoMatrix };
        Self::left_alone(path.to_owned(), dims, why)
    }

    fn left_alone(path: String, dims: &[usize], why: Reason) -> Self {
        let (dims, choice) = (dims.to_vec(), Err(why));
        Self { path, dims, products: 0, choice, by_floats: false, error: None, times: None, drop: None }
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// What was measured; nothing where there is no recipe.
    pub measured: Option<Measured>,
    /// Examples that matrices were rounded by; nothing where each number is the nearest.
    pub rounded_by: Option<usize>,
    /// Bytes of all tensors of weights, before and after.
    pub bytes: [usize; 2],
    /// The matrices in the order of their first products, then products by anything else, then what else is large.
    pub rows: Vec<Row>,
}

/// Stored weights, ready to be written.
#[derive(Debug)]
pub struct Outcome {
    /// What was chosen.
    pub report: Report,
    /// What the file holds.
    pub store: Store,
}

/// A recipe with floats, whose metric is taken with these or those matrices stored.
struct Trial<'a> {
    project: &'a Project,
    recipe: &'a RecipeInfo,
    compiler: &'a Compiler,
    floats: &'a BTreeMap<String, Tensor>,
    part: Part,
    metric: &'a str,
}

impl Trial<'_> {
    fn run(&self, chosen: &Chosen, matrices: &[Matrix]) -> Result<f64, DriverError> {
        let project = Project { stored: matrices.to_vec(), ..self.project.clone() };
        let mut session = Session::without_files(&project, &self.recipe.name, self.compiler.clone(), 0)?;
        session.load_weights(&chosen.tensors(matrices, self.floats));
        measure(&mut session, &self.part, self.metric)
    }

    /// Rounds the chosen matrices by about so many examples, unless the metric is worse for it.
    fn fit(
        &self,
        chosen: &mut Chosen,
        graph: &Graph,
        (dataset, weights): (&Dataset, &Store),
        (examples, rows): (usize, usize),
        told: &mut dyn FnMut(&str),
    ) -> Result<(), DriverError> {
        let asked = examples;
        let mut examples = OfData::new(self.project.data(&self.recipe.data)?, dataset, (asked, rows))?;
        if examples.count().min(asked) < LEAST_EXAMPLES {
            return Ok(());
        }
        let mut store = weights.copied();
        let found = fitted::find(graph, (chosen, self.floats), (self.compiler, &mut store), &mut examples, told)?;
        if found.is_empty() {
            return Ok(());
        }
        told("measuring both roundings");
        let paths = found.keys().cloned().collect();
        let nearest = self.run(chosen, &chosen.matrices())?;
        let before = chosen.exchange(found);
        let fitted = self.run(chosen, &chosen.matrices())?;
        let worse_by = self.recipe.better(self.metric).worse_by(nearest, fitted);
        if worse_by > 0.0 || worse_by.is_nan() {
            chosen.exchange(before);
        } else {
            chosen.fitted = Some((paths, examples.count()));
        }
        Ok(())
    }
}

/// The matrices of a recipe, which may go back to floats.
struct Matrices<'t> {
    trial: &'t Trial<'t>,
    chosen: &'t mut Chosen,
}

impl GoesBack for Matrices<'_> {
    fn all(&mut self) -> Result<f64, DriverError> {
        self.trial.run(self.chosen, &self.chosen.matrices())
    }

    fn alone(&mut self, at: usize) -> Result<Option<f64>, DriverError> {
        let row = &self.chosen.rows[at];
        let matrix = row.choice.ok().map(|_| self.chosen.made[&row.path].0.clone());
        matrix.map(|matrix| self.trial.run(self.chosen, &[matrix])).transpose()
    }

    fn note(&mut self, at: usize, drop: f64) {
        self.chosen.rows[at].drop = Some(drop);
    }

    fn products(&self, at: usize) -> usize {
        self.chosen.rows[at].products
    }

    fn go_back(&mut self, at: usize) {
        self.chosen.rows[at].choice = Err(Reason::Accuracy);
    }
}

/// Stores the matrices of a recipe's products in few bits, as far as `metric` drops by no more than `max_drop`
/// ([`worse_by`](nnc_lang::elaborate::Better::worse_by)). `told` hears what is being done.
///
/// # Errors
/// No matrices, or what cannot be compiled or run.
pub fn narrow(
    (project, recipe): (&Project, &RecipeInfo),
    compiler: &Compiler,
    weights: &Store,
    dataset: &Dataset,
    (request, metric, max_drop): (Request, &str, f64),
    told: &mut dyn FnMut(&str),
) -> Result<Outcome, DriverError> {
    let floats = &floats(project, weights);
    let rows = Project::batch(recipe).min(dataset.train.rows.len()).max(1);
    let graph = project.graph(project.unit.evaluate(&recipe.name, Project::batch(recipe)))?;
    let mut chosen = prepared(&graph, (request, floats), compiler, told)?;
    let part = dataset.shown().clone();
    let trial = Trial { project, recipe, compiler, floats, part, metric };
    told("measuring the floats");
    let before = trial.run(&chosen, &[])?;
    check_value(recipe, metric, before)?;
    if Levels::of(request.form).is_some() {
        let graph = Project::before_rounding(&project.graph(project.unit.evaluate(&recipe.name, rows))?)?;
        trial.fit(&mut chosen, &graph, (dataset, weights), (request.examples, rows), told)?;
    }
    told("measuring what is stored");
    let count = chosen.rows.len();
    let mut matrices = Matrices { trial: &trial, chosen: &mut chosen };
    let better = recipe.better(metric);
    let after = hold(&mut matrices, count, (better, before, max_drop), told)?;
    let examples = trial.part.rows.len();
    let held_out = dataset.holds_out();
    let measured = Measured { metric: metric.to_owned(), better, values: [before, after], examples, held_out };
    Ok(chosen.outcome(floats, Some(measured)))
}

/// Stores the matrices of a model by itself. No metric is taken. `told` hears what is being done.
///
/// # Errors
/// No matrices, or what cannot be compiled or run.
pub fn narrow_model(
    (project, graph): (&Project, &Graph),
    compiler: &Compiler,
    request: Request,
    weights: &Store,
    told: &mut dyn FnMut(&str),
) -> Result<Outcome, DriverError> {
    let floats = floats(project, weights);
    let chosen = prepared(graph, (request, &floats), compiler, told)?;
    Ok(chosen.outcome(&floats, None))
}

/// The weights of a network by path, their masks, and the records of channels that they lost.
fn floats(project: &Project, weights: &Store) -> BTreeMap<String, Tensor> {
    let is_own = |path: &&str| !path.starts_with(RESERVED) || masked_parameter(path).is_some();
    let own = weights.iter().map(|(path, _)| path).filter(is_own);
    let own = own.filter_map(|path| Some((path.to_owned(), weights.tensor(path)?)));
    own.chain(records(&project.channels)).collect()
}

/// The matrices of a graph by the nearest numbers, without those that are slower, if that is asked.
fn prepared(
    graph: &Graph,
    (request, floats): (Request, &BTreeMap<String, Tensor>),
    compiler: &Compiler,
    told: &mut dyn FnMut(&str),
) -> Result<Chosen, DriverError> {
    told("rounding to the nearest numbers");
    let mut chosen = chosen(graph, request, floats)?;
    if request.measure {
        chosen.time(floats, compiler, told)?;
    }
    Ok(chosen)
}

fn chosen(graph: &Graph, request: Request, floats: &BTreeMap<String, Tensor>) -> Result<Chosen, DriverError> {
    let graph = Project::before_rounding(graph)?;
    let found = candidates(&graph).into_iter().chain(find_tables(&graph));
    let stored = |found: Candidate| {
        let whole = || in_whole_groups(request.form, found.dims[found.terms_axis]);
        let form = if request.is_exact { None } else { whole() };
        let matrix = found.stored(form.unwrap_or(request.form));
        (found, matrix)
    };
    let mut chosen = Chosen::new(found.map(stored), floats);
    chosen.add_products(&graph, floats);
    let problem = |message: &str| Err(DriverError::Usage(message.to_owned()));
    if chosen.rows.is_empty() && has_doubles(&graph) {
        return problem("weights of f64 are not stored in few bits: train in f32, without `--dtype f64`");
    }
    if chosen.rows.is_empty() && has_halves(&graph) {
        return problem(
            "weights of 16 bits are not stored in fewer alone: `nnc quantise` without `--weights-only` does",
        );
    }
    if chosen.rows.is_empty() {
        let message =
            "this network has no product by a matrix of weights, and no table: there is nothing to store in few bits";
        return problem(message);
    }
    if chosen.rows.iter().all(|row| row.choice.is_err()) {
        return problem(&format!("no matrix can be stored: {}", why_none(&chosen, floats)));
    }
    Ok(chosen)
}

/// Why none of these is stored.
fn why_none(chosen: &Chosen, floats: &BTreeMap<String, Tensor>) -> String {
    let said = |of: Vec<&str>| of.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    let odd = chosen.rows.iter().filter(|row| row.choice == Err(Reason::NotFinite));
    let odd: Vec<&str> = odd.map(|row| row.path.as_str()).collect();
    let unread = chosen.unread(floats);
    let unread = chosen.others.iter().chain(&unread).filter(|row| row.choice == Err(Reason::Derived));
    let unread: Vec<&str> = unread.map(|row| row.path.as_str()).collect();
    match without_groups(&chosen.rows) {
        Some(which) => format!("their terms are no whole groups: {which}; see `--group`"),
        None if !odd.is_empty() => format!("{} has a NaN or an infinity", said(odd)),
        None if unread.is_empty() => format!("all have fewer than {LEAST_ELEMENTS} elements"),
        None => format!(
            "{}: products read what is made of it, or it holds floats of 16 bits; others have fewer than {LEAST_ELEMENTS} \
             elements",
            said(unread)
        ),
    }
}

/// The matrices that stay as they are for want of whole groups, each with the groups that would do; nothing if there
/// are none.
pub fn without_groups(rows: &[Row]) -> Option<String> {
    let said = |row: &Row| {
        let Err(Reason::Group { terms }) = row.choice else { return None };
        let would: Vec<String> = groups(terms).map(|group| group.to_string()).collect();
        let would = if would.is_empty() { "none".to_owned() } else { would.join(", ") };
        Some(format!("`{}` ({terms} terms; {would} would do)", row.path))
    };
    let all: Vec<String> = rows.iter().filter_map(said).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Whether a graph has parameters of f64, as with `--dtype f64`.
pub(crate) fn has_doubles(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| matches!(&node.op, Op::Param { ty, .. } if ty.dtype == DType::F64))
}

fn has_halves(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| matches!(&node.op, Op::Param { ty, .. } if ty.dtype.is_half()))
}

/// Writes what came of it, with what metadata of the weights inference reads.
///
/// # Errors
/// The file cannot be written; an earlier one then stands.
pub fn stage(path: &Path, outcome: &Outcome, metadata: Option<&str>) -> Result<Staged, DriverError> {
    checkpoint::stage(path, outcome.store.iter(), &learned::to_infer(metadata))
}
