//! A recipe's network in other forms: weights of floats to weights of what was asked, step by step.

use super::variant::{Cut, Numbers};
use super::{Given, Told};
use crate::checkpoint::Checkpoint;
use crate::dataset::Part;
use crate::error::DriverError;
use crate::narrow::{self, narrow};
use crate::project::Project;
use crate::prune::channels::{self, prune_channels};
use crate::prune::{self, prune};
use crate::quantise::held::measure;
use crate::quantise::observe::Method;
use crate::quantise::{self, file, quantise};
use crate::session::Session;
use crate::train::{Event, Observer, TrainOptions, train};
use nnc_lang::elaborate::Better;
use nnc_opt::prune::{Block, Scope};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// What the number of channels that stay is a multiple of: they fill vectors.
const MULTIPLE: usize = 16;
/// Inputs and outputs of a block: what kernels leave out best.
const BLOCK: Block = Block { rows: 1, columns: 16 };
/// Calibration examples, about, as `nnc quantise` takes unless it is told.
const EXAMPLES: usize = 512;

/// What makes the forms.
#[derive(Clone, Copy)]
pub struct Maker<'a> {
    pub given: Given<'a>,
    /// The metric that counts.
    pub metric: &'a str,
    /// What the data were split by.
    pub seed: i64,
    /// Epochs of training after something was taken out.
    pub epochs: u64,
}

impl Maker<'_> {
    /// What errors call weights that are in no file.
    const PLACE: &'static str = "what was made of the weights";

    /// Which of two values of the metric is the better one.
    pub fn better(&self) -> Better {
        self.given.recipe.better(self.metric)
    }

    fn project(&self, weights: &Checkpoint) -> Result<Project, DriverError> {
        let name = Some(self.given.recipe.name.as_str());
        self.given.project.clone().with_file(name, (Path::new(Self::PLACE), weights))
    }

    /// A session with some weights, of a project that is as they ask for. Floats have their masks, too, for what
    /// becomes of them.
    fn session<'p>(&self, project: &'p Project, weights: &Checkpoint) -> Result<Session<'p>, DriverError> {
        let (name, compiler) = (&self.given.recipe.name, self.given.compiler.clone());
        let recipe = &project.recipe(Some(name))?.name;
        let mut session = Session::without_files(project, recipe, compiler, self.seed)?;
        session.load_exactly(Path::new(Self::PLACE), weights)?;
        if project.has_floats() {
            session.adopt_masks(&weights.tensors).map_err(DriverError::Usage)?;
        }
        Ok(session)
    }

    /// The metric of some weights on a part of the data.
    pub fn value(&self, weights: &Checkpoint, part: &Part) -> Result<f64, DriverError> {
        let project = self.project(weights)?;
        let mut session = self.session(&project, weights)?;
        session.fix_weights();
        measure(&mut session, part, self.metric)
    }

    /// Weights with less in them, not trained since, and what was taken out: channels go by so many at once, and what
    /// may not go stays, so that it is not quite what was asked for.
    pub fn cut(&self, weights: &Checkpoint, cut: Cut) -> Result<(Checkpoint, Cut), DriverError> {
        let project = self.project(weights)?;
        let mut session = self.session(&project, weights)?;
        let scope = Scope::Global;
        let zeros = |sparsity, block| prune::Request { sparsity, block, scope, over: Vec::new() };
        let done = match cut {
            Cut::Nothing => cut,
            Cut::Channels(share) => {
                let request = channels::Request { share, scope, multiple: MULTIPLE, over: Vec::new(), timed: None };
                let [before, after] = prune_channels(&mut session, &project, &request)?.multiply_adds;
                Cut::Channels(1.0 - after as f64 / before.max(1) as f64)
            }
            Cut::Elements(share) => {
                Cut::Elements(zero_share(&prune(&mut session, &project, &zeros(share, Block::ELEMENT))?))
            }
            Cut::Blocks(share) => Cut::Blocks(zero_share(&prune(&mut session, &project, &zeros(share, BLOCK))?)),
        };
        Ok((Checkpoint::of(prune::kept(session.store()), weights.metadata.clone()), done))
    }

    /// Weights trained further, with what is gone held so.
    pub fn train(
        &self,
        weights: &Checkpoint,
        cut: Cut,
        told: &mut dyn FnMut(Told<'_>),
    ) -> Result<Checkpoint, DriverError> {
        let mut project = self.project(weights)?;
        let own = |recipe: &&mut nnc_lang::elaborate::RecipeInfo| recipe.name == self.given.recipe.name;
        // What is gone is what was cut: the recipe takes nothing more.
        project.unit.recipes.iter_mut().filter(own).for_each(|recipe| {
            recipe.epochs = self.epochs as i64;
            recipe.prune = None;
        });
        let mut session = self.session(&project, weights)?;
        let mut heard = Heard { cut, told };
        let (options, never) = (TrainOptions::default(), AtomicBool::new(false));
        train(&mut session, self.given.dataset, &options, &mut heard, &never)?;
        Ok(Checkpoint::of(prune::kept(session.store()), weights.metadata.clone()))
    }

    /// Weights of other numbers, as far as the metric gets worse by no more than `max_drop`; the reasons, if all stays
    /// floats.
    pub fn renumbered(
        &self,
        weights: &Checkpoint,
        numbers: Numbers,
        max_drop: f64,
        told: &mut dyn FnMut(Told<'_>),
    ) -> Result<Result<Checkpoint, String>, DriverError> {
        let project = self.project(weights)?;
        let recipe = project.recipe(Some(&self.given.recipe.name))?;
        let (compiler, dataset) = (self.given.compiler, self.given.dataset);
        match numbers {
            Numbers::Floats => Ok(Ok(weights.clone())),
            Numbers::Integers => {
                let metric = Some(self.metric.to_owned());
                let method = Method::default();
                // All products: what that is worth is measured of the whole, for as many rows as are asked for.
                let request = quantise::Request { method, examples: EXAMPLES, metric, max_drop, measure: false };
                let session = self.session(&project, weights)?;
                let heard = &mut |what: &str| told(Told::Doing(what));
                let outcome = quantise((&project, recipe), compiler, session.store(), dataset, (&request, heard))?;
                let rows = outcome.report.rows.iter().map(|row| row.choice.map(drop).map_err(|why| why.to_string()));
                let tables = &outcome.report.tables;
                let tables = tables.iter().map(|row| row.choice.map(drop).map_err(|why| why.to_string()));
                let made = || Checkpoint::of(file::kept(&outcome), weights.metadata.clone());
                Ok(reasons(rows.chain(tables)).map_or_else(|| Ok(made()), Err))
            }
            Numbers::Stored(form) => {
                let session = self.session(&project, weights)?;
                let request = narrow::Request { form, is_exact: false, measure: false, examples: EXAMPLES };
                let how = (request, self.metric, max_drop);
                let heard = &mut |what: &str| told(Told::Doing(what));
                let outcome = narrow((&project, recipe), compiler, session.store(), dataset, how, heard)?;
                let rows = outcome.report.rows.iter().map(|row| row.choice.map(drop).map_err(|why| why.to_string()));
                let made = || Checkpoint::of(outcome.store.iter(), weights.metadata.clone());
                Ok(reasons(rows).map_or_else(|| Ok(made()), Err))
            }
        }
    }
}

/// Why each of some stays a float, once each in the order that they are told; nothing if one does not stay so.
fn reasons(choices: impl Iterator<Item = Result<(), String>>) -> Option<String> {
    let mut told: Vec<String> = Vec::new();
    for choice in choices {
        let why = choice.err()?;
        if !told.contains(&why) {
            told.push(why);
        }
    }
    Some(told.join(", "))
}

/// The share of zeros among the elements of weights with two axes or more, as [`Form`](crate::form::Form) counts them:
/// what was left alone, say for being smaller than a block, counts as whole.
fn zero_share(rows: &[prune::Row]) -> f64 {
    let matrices = rows.iter().filter(|row| row.dims.len() > 1);
    let (zeros, elements) = matrices.fold((0, 0), |all, row| {
        let pruned = row.pruned.as_ref().copied().unwrap_or(0);
        (all.0 + pruned, all.1 + row.elements)
    });
    zeros as f64 / elements.max(1) as f64
}

/// Tells of a training how far it is.
struct Heard<'a> {
    cut: Cut,
    told: &'a mut dyn FnMut(Told<'_>),
}

impl Observer for Heard<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Step { epoch, epochs, step, steps, .. } = event {
            let (done, of) = (epoch * *steps as u64 + *step as u64, epochs * *steps as u64);
            (self.told)(Told::Training { cut: self.cut, done, of });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::{LeftAlone, Row};

    #[test]
    fn reasons_are_told_once() {
        let no = |why: &str| Err(why.to_owned());
        let all = [no("few terms"), no("few channels"), no("few terms")];
        assert_eq!(reasons(all.iter().cloned()).as_deref(), Some("few terms, few channels"));
        assert_eq!(reasons(all.into_iter().chain([Ok(())])), None);
    }

    #[test]
    fn what_is_left_alone_counts_as_whole() {
        let row = |dims: &[usize], pruned| Row {
            path: "w".to_owned(),
            dims: dims.to_vec(),
            elements: dims.iter().product(),
            pruned,
        };
        let small = row(&[4, 10], Err(LeftAlone::SmallerThanBlock));
        let rows = [row(&[10, 16], Ok(100)), small, row(&[16], Err(LeftAlone::Vector))];
        assert_eq!(zero_share(&rows), 0.5);
    }
}
