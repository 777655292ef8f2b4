//! A recipe whose metric is taken with these or those products quantised.

use crate::compiled::Compiler;
use crate::dataset::{Dataset, Part};
use crate::error::DriverError;
use crate::project::Project;
use crate::quantise::candidates::Candidates;
use crate::quantise::examples::OfData;
use crate::quantise::{Drift, Reason, Request};
use crate::session::{Metrics, Session};
use crate::store::Store;
use crate::train::Better;
use nnc_graph::Tensor;
use nnc_lang::elaborate::RecipeInfo;
use nnc_opt::quantise::Layer;
use std::collections::BTreeMap;

/// A recipe with the weights that it is tried with.
pub struct Trial<'a> {
    pub(super) project: &'a Project,
    pub(super) recipe: &'a RecipeInfo,
    pub(super) compiler: &'a Compiler,
    /// As they were given.
    pub(super) tensors: &'a BTreeMap<String, Tensor>,
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
        let metrics: Metrics = self.session(&project, made)?.evaluate(&self.part)?;
        let value = metrics.iter().find(|(name, _)| name == self.metric).map(|(_, value)| *value);
        value.ok_or_else(|| DriverError::Internal(format!("`{}` was not measured", self.metric)))
    }

    /// Every product with its range and its integers, or why it has none. Activations are looked at in the evaluation and
    /// in all answers that are made of examples alone.
    ///
    /// # Errors
    /// No examples, no products, or what cannot be compiled or run.
    pub fn candidates(&self, dataset: &Dataset, request: &Request) -> Result<Candidates, DriverError> {
        let data = self.project.data(&self.recipe.data)?;
        let rows = Project::batch(self.recipe).min(dataset.train.rows.len()).max(1);
        let (unit, name) = (&self.project.unit, self.recipe.name.as_str());
        let answers = self.answers().map(|answer| unit.answer(name, Some(answer), rows));
        let inference = |made| Project::before_rounding(&self.project.graph(made)?);
        let graphs: Result<Vec<_>, _> =
            std::iter::once(unit.evaluate(name, rows)).chain(answers).map(inference).collect();
        let mut store = self.floats();
        let mut examples = OfData::new(data, dataset, (request.examples, rows))?;
        let count = examples.count();
        Candidates::new(
            graphs?,
            rows,
            (self.compiler, &mut store),
            (&mut examples, count),
            (request, &self.project.rounded),
        )
    }

    /// Takes products back to floats until the metric is good enough, those first that cost most by themselves. Gives the
    /// metric.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn take_back(
        &self,
        candidates: &mut Candidates,
        (before, max_drop): (f64, f64),
        told: &mut dyn FnMut(&str),
    ) -> Result<f64, DriverError> {
        let made = candidates.tensors();
        let drop = |value: f64| Better::of(self.metric).worse_by(before, value);
        let mut value = self.run(&candidates.layers(), &made)?;
        if drop(value) <= max_drop {
            return Ok(value);
        }
        told("looking for the products that cost most");
        for candidate in &mut candidates.all {
            let Some(alone) = candidate.layer() else { continue };
            candidate.row.drop = Some(drop(self.run(&[alone], &made)?));
        }
        let cost = |at: usize| candidates.all[at].row.drop;
        let mut order: Vec<usize> = (0..candidates.all.len()).filter(|&at| cost(at).is_some()).collect();
        order.sort_by(|&a, &b| cost(b).unwrap_or_default().total_cmp(&cost(a).unwrap_or_default()));
        for at in order {
            candidates.refuse(at, Reason::Accuracy);
            value = self.run(&candidates.layers(), &made)?;
            if drop(value) <= max_drop {
                break;
            }
        }
        Ok(value)
    }

    /// How far answers are from those of floats, on one batch of what the metric is taken on.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn drifts(&self, candidates: &Candidates) -> Result<Vec<Drift>, DriverError> {
        let made = candidates.tensors();
        let (floats, integers) = (self.with(&[]), self.with(&candidates.layers()));
        let (mut floats, mut integers) = (self.session(&floats, &made)?, self.session(&integers, &made)?);
        let mut found = Vec::new();
        for answer in self.answers() {
            let (floats, integers) = (floats.answer(answer, &self.part)?, integers.answer(answer, &self.part)?);
            let pairs = floats.iter().zip(&integers).filter(|((_, float), _)| float.dtype().is_float());
            found.extend(pairs.map(|((name, float), (_, integer))| drift(name, &float.to_f64(), &integer.to_f64())));
        }
        Ok(found)
    }

    /// The names of the answers that are made of examples alone.
    fn answers(&self) -> impl Iterator<Item = &str> {
        let plain = self.recipe.answers.iter().filter(|answer| answer.parameters.is_none());
        plain.map(|answer| answer.name.as_str())
    }

    /// The project with such layers of integers.
    fn with(&self, layers: &[Layer]) -> Project {
        Project { quantised: layers.to_vec(), ..self.project.clone() }
    }

    /// A session with all tensors there are.
    fn session<'p>(
        &'p self,
        project: &'p Project,
        made: &BTreeMap<String, Tensor>,
    ) -> Result<Session<'p>, DriverError> {
        let mut session = Session::without_files(project, &self.recipe.name, self.compiler.clone(), 0)?;
        for (path, tensor) in self.tensors.iter().chain(made) {
            session.store_mut().insert(path, tensor);
        }
        Ok(session)
    }

    /// The weights as they were given.
    pub fn floats(&self) -> Store {
        Store::of(self.tensors.iter().map(|(path, tensor)| (path.as_str(), tensor)))
    }
}

fn drift(name: &str, floats: &[f64], integers: &[f64]) -> Drift {
    let magnitude = floats.iter().fold(0.0, |largest: f64, value| largest.max(value.abs())).max(1e-30);
    let differences = || floats.iter().zip(integers).map(|(float, integer)| (float - integer).abs() / magnitude);
    let largest = differences().fold(0.0, |largest: f64, difference| match difference.is_nan() {
        true => f64::INFINITY,
        false => largest.max(difference),
    });
    let mean = differences().sum::<f64>() / floats.len().max(1) as f64;
    Drift { answer: name.to_owned(), largest, mean }
}
