//! A recipe whose metric is taken with these or those products quantised.

use crate::compiled::Compiler;
use crate::dataset::{Dataset, Part};
use crate::error::DriverError;
use crate::narrow::tables::Tables;
use crate::project::Project;
use crate::quantise::candidates::{Candidates, Refinement};
use crate::quantise::drift::{Drift, Moved, Pairs};
use crate::quantise::examples::OfData;
use crate::quantise::held::{GoesBack, hold, measure};
use crate::quantise::looked::Program;
use crate::quantise::{Reason, Request};
use crate::session::Session;
use crate::store::Store;
use nnc_graph::Tensor;
use nnc_lang::elaborate::RecipeInfo;
use nnc_opt::quantise::Layer;
use std::collections::BTreeMap;

/// What is tried, and whether it begins anew or goes on from what was tried before.
const TRIED: [(bool, Refinement); 3] =
    [(true, Refinement::Means), (true, Refinement::Weights), (false, Refinement::Means)];

/// So many examples tell how far answers move, or a batch if that has more.
const LOOKED_AT: usize = 512;

/// What an answer is: its results by name for each of some batches, or nothing where it wants more examples than there
/// are.
struct Told {
    answer: String,
    batches: Option<Vec<Vec<(String, Tensor)>>>,
}

/// How far answers by integers are from those by floats; `train` is the largest part that they could be made of.
fn drifts(floats: &[Told], integers: &[Told], train: &Part) -> Vec<Drift> {
    let of_answer = |(floats, integers): (&Told, &Told)| match (&floats.batches, &integers.batches) {
        (Some(floats), Some(integers)) => {
            let mut pairs = Pairs::default();
            floats.iter().zip(integers).for_each(|(floats, integers)| pairs.extend(floats, integers));
            pairs.drifts().collect()
        }
        _ => vec![Drift { answer: floats.answer.clone(), moved: Moved::Unknown { rows: train.rows.len() } }],
    };
    floats.iter().zip(integers).flat_map(of_answer).collect()
}

/// A recipe with the weights that it is tried with.
pub struct Trial<'a> {
    pub(super) project: &'a Project,
    pub(super) recipe: &'a RecipeInfo,
    pub(super) compiler: &'a Compiler,
    /// All that stays between runs, with the floats that were given.
    pub(super) weights: &'a Store,
    /// What the metric is taken on.
    pub(super) part: Part,
    pub(super) metric: &'a str,
}

impl Trial<'_> {
    /// The metric with such layers.
    ///
    /// # Errors
    /// What cannot be compiled or run.
    pub fn run(&self, layers: &[Layer], made: &BTreeMap<String, Tensor>) -> Result<f64, DriverError> {
        let project = self.with(layers);
        measure(&mut self.session(&project, made)?, &self.part, self.metric)
    }

    /// Every product with its range and its integers, or why it has none. Activations are looked at in the evaluation,
    /// in all answers that are made of examples alone, and in the pictures.
    ///
    /// # Errors
    /// No examples, no products, or what cannot be compiled or run.
    pub fn candidates(&self, dataset: &Dataset, request: &Request) -> Result<Candidates, DriverError> {
        let data = self.project.data(&self.recipe.data)?;
        let rows = self.rows(dataset);
        let programs = self.programs(rows)?;
        let mut store = self.floats();
        let mut examples = OfData::new(data, dataset, (request.examples, rows))?;
        let count = examples.count();
        Candidates::new(
            programs,
            rows,
            (self.compiler, &mut store),
            (&mut examples, count),
            (request, &self.project.rounded),
        )
    }

    /// Refines what is rounded of the chosen products, by about so many examples: of both refinements, either and none,
    /// what answers move least with. Where most places are padding that no answer reads, none may be best.
    ///
    /// # Errors
    /// What cannot be compiled or run.
    pub fn refine(
        &self,
        candidates: &mut Candidates,
        (dataset, examples): (&Dataset, usize),
        told: &mut dyn FnMut(&str),
    ) -> Result<(), DriverError> {
        // A batch is looked at even if fewer are asked for.
        let asked = examples;
        let mut examples = OfData::new(self.project.data(&self.recipe.data)?, dataset, (asked, self.rows(dataset)))?;
        let count = examples.count().min(asked);
        if !candidates.may_be_refined(count) || candidates.layers().is_empty() {
            return Ok(());
        }
        let (floats, wanted) = (self.floats(), self.told(&self.with(&[]), &BTreeMap::new(), &dataset.train)?);
        let mut best = (self.movement(&wanted, candidates, &dataset.train)?, candidates.refined());
        for (is_anew, refinement) in TRIED {
            if is_anew {
                candidates.refined_by(Vec::new());
            }
            told(refinement.doing());
            candidates.refine(refinement, (self.compiler, &floats), (&mut examples, count))?;
            let moved = self.movement(&wanted, candidates, &dataset.train)?;
            // Where no answer tells, as where all have parameters, more is better.
            if moved <= best.0 {
                best = (moved, candidates.refined());
            }
        }
        candidates.refined_by(best.1);
        Ok(())
    }

    /// How far answers move from those of floats, summed over them.
    fn movement(&self, floats: &[Told], candidates: &Candidates, train: &Part) -> Result<f64, DriverError> {
        let integers = self.told(&self.with(&candidates.layers()), &candidates.tensors(), train)?;
        Ok(drifts(floats, &integers, train).iter().map(|drift| drift.moved.mean()).sum())
    }

    /// Examples of a run over what is trained on.
    fn rows(&self, dataset: &Dataset) -> usize {
        Project::batch(self.recipe).min(dataset.train.rows.len()).max(1)
    }

    /// The programs that are looked at, the evaluation first. Answers that cannot be made of so few examples are none.
    fn programs(&self, rows: usize) -> Result<Vec<Program>, DriverError> {
        let (project, unit, name) = (self.project, &self.project.unit, self.recipe.name.as_str());
        let mut programs =
            vec![Program::new(project, "the evaluation".to_owned(), &|rows| unit.evaluate(name, rows), rows)?];
        for answer in self.answers().filter(|answer| self.has_enough(rows, answer)) {
            let make = |rows: usize| unit.answer(name, Some(answer), rows);
            programs.push(Program::new(project, format!("answer `{answer}`"), &make, rows)?);
        }
        if !self.recipe.pictures.is_empty() {
            programs.push(Program::new(project, "a picture".to_owned(), &|rows| unit.pictures(name, rows), rows)?);
        }
        Ok(programs)
    }

    /// Takes products back to floats until the metric is good enough, those first that cost most by themselves. Gives
    /// the metric.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn take_back(
        &self,
        candidates: &mut Candidates,
        (before, max_drop): (f64, f64),
        told: &mut dyn FnMut(&str),
    ) -> Result<f64, DriverError> {
        let (made, count) = (candidates.tensors(), candidates.all.len());
        let mut products = Products { trial: self, candidates, made };
        hold(&mut products, count, (self.recipe.better(self.metric), before, max_drop), told)
    }

    /// How far answers are from those of floats, on some batches of what the metric is taken on; of what was trained on,
    /// where an answer wants more examples than that has. One that wants still more is left out.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn drifts(
        &self,
        (candidates, tables): (&Candidates, &Tables),
        train: &Part,
    ) -> Result<Vec<Drift>, DriverError> {
        let mut made = candidates.tensors();
        made.extend(tables.tensors.clone());
        let integers = Project { stored: tables.matrices.clone(), ..self.with(&candidates.layers()) };
        let floats = self.told(&self.with(&[]), &BTreeMap::new(), train)?;
        Ok(drifts(&floats, &self.told(&integers, &made, train)?, train))
    }

    /// What answers are, on some batches of what the metric is taken on, or of what was trained on.
    fn told(&self, project: &Project, made: &BTreeMap<String, Tensor>, train: &Part) -> Result<Vec<Told>, DriverError> {
        let mut session = self.session(project, made)?;
        let answer = |answer: &str| {
            let part = [&self.part, train].into_iter().find(|part| self.has_enough(part.rows.len(), answer));
            let batches =
                part.map(|part| self.batches(part).iter().map(|batch| session.answer(answer, batch)).collect());
            Ok(Told { answer: answer.to_owned(), batches: batches.transpose()? })
        };
        self.answers().map(answer).collect()
    }

    /// Whole batches, spread over a split; the split itself where it is no larger than one.
    fn batches(&self, part: &Part) -> Vec<Part> {
        let size = Project::batch(self.recipe).min(part.rows.len()).max(1);
        let all: Vec<&[u64]> = part.rows.chunks_exact(size).collect();
        let wanted = (LOOKED_AT / size).clamp(1, all.len().max(1));
        let chosen = (0..wanted.min(all.len())).map(|at| all[at * all.len() / wanted]);
        chosen.map(|rows| part.with_rows(rows.to_vec())).collect()
    }

    /// Whether an answer can be made of a batch of so many examples, as one with `x[0..8]` cannot of 5. Of a whole
    /// batch each can, or tells why not.
    fn has_enough(&self, examples: usize, answer: &str) -> bool {
        let batch = Project::batch(self.recipe);
        examples >= batch || self.project.unit.answer(&self.recipe.name, Some(answer), examples).is_ok()
    }

    /// The names of the answers that are made of examples alone.
    fn answers(&self) -> impl Iterator<Item = &str> {
        let plain = self.recipe.answers.iter().filter(|answer| answer.parameters.is_none());
        plain.map(|answer| answer.name.as_str())
    }

    /// The project with such layers of integers.
    pub fn with(&self, layers: &[Layer]) -> Project {
        Project { quantised: layers.to_vec(), ..self.project.clone() }
    }

    /// A session with all tensors there are.
    fn session<'p>(
        &'p self,
        project: &'p Project,
        made: &BTreeMap<String, Tensor>,
    ) -> Result<Session<'p>, DriverError> {
        let mut session = Session::without_files(project, &self.recipe.name, self.compiler.clone(), 0)?;
        let store = session.store_mut();
        self.weights.tensors().for_each(|(path, tensor)| store.insert(path, &tensor));
        made.iter().for_each(|(path, tensor)| store.insert(path, tensor));
        Ok(session)
    }

    /// The weights as they were given, with others beside them.
    pub fn floats_and(&self, made: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
        let own = self.weights.tensors().map(|(path, tensor)| (path.to_owned(), tensor));
        own.chain(made.iter().map(|(path, tensor)| (path.clone(), tensor.clone()))).collect()
    }

    /// The weights as they were given, and what else stays between runs.
    pub fn floats(&self) -> Store {
        self.weights.copied()
    }
}

/// The products of a recipe, which may go back to floats.
struct Products<'t> {
    trial: &'t Trial<'t>,
    candidates: &'t mut Candidates,
    made: BTreeMap<String, Tensor>,
}

impl GoesBack for Products<'_> {
    fn all(&mut self) -> Result<f64, DriverError> {
        self.trial.run(&self.candidates.layers(), &self.made)
    }

    fn alone(&mut self, at: usize) -> Result<Option<f64>, DriverError> {
        let layer = self.candidates.all[at].layer();
        layer.map(|layer| self.trial.run(&[layer], &self.made)).transpose()
    }

    fn note(&mut self, at: usize, drop: f64) {
        self.candidates.all[at].row.drop = Some(drop);
    }

    fn products(&self, at: usize) -> usize {
        self.candidates.all[at].row.products
    }

    fn go_back(&mut self, at: usize) {
        self.candidates.refuse(at, Reason::Accuracy);
    }
}
