//! The programs of a recipe, compiled on first use.

use super::metrics::Metrics;
use crate::compiled::{CompiledGraph, Compiler};
use crate::error::DriverError;
use crate::index_graph::index_graph;
use crate::project::Project;
use crate::prune;
use crate::quantise::looked::Make;
use crate::quantise::trained;
use crate::store::Store;
use nnc_lang::elaborate::RecipeInfo;
use nnc_opt::prune::UNJUDGED;
use nnc_opt::quantise::{RANGE, Range};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Which of a recipe's programs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Purpose {
    /// With the steps that are due: a place in [`Programs::turns`].
    Train(usize),
    Evaluate,
    Indices,
    Answer(Option<String>),
    Picture,
}

/// The programs of a recipe, compiled on first use.
#[derive(Debug)]
pub(super) struct Programs<'a> {
    pub(super) project: &'a Project,
    pub(super) recipe: &'a RecipeInfo,
    pub(super) compiler: Compiler,
    /// Parameters whose pruned elements stay 0.
    pub(super) masked: BTreeSet<String>,
    /// Whether the weights stay what they are, so that programs are compiled for them alone.
    pub(super) fixed: bool,
    /// What training steps were asked for: each the steps of the recipe that are due.
    turns: Vec<BTreeSet<String>>,
    /// How programs that update no parameter round, as the store says: by layer, of training that rounded.
    rounded: BTreeMap<String, Range>,
    /// The version of the store that `rounded` was taken from.
    followed: Option<u64>,
    pub(super) compiled: BTreeMap<(Purpose, usize), Ready>,
    pub(super) compile_time: Duration,
}

/// A compiled program and what it tells of.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) program: CompiledGraph,
    /// The losses, then the metrics that it gives, as they were last read.
    told: Metrics,
    /// How many of them are losses.
    losses: usize,
}

impl Ready {
    fn new(program: CompiledGraph, recipe: &RecipeInfo) -> Self {
        let tells = |name: &String| program.scalar(name).is_some();
        let losses = recipe.losses().iter().filter(|name| tells(name)).count();
        let told = recipe.measured().filter(tells).map(|name| (name, 0.0)).collect();
        Self { program, told, losses }
    }

    /// The losses and metrics of the last run.
    pub(super) fn tell(&mut self) -> &Metrics {
        for (name, value) in &mut self.told {
            *value = self.program.scalar(name).unwrap_or(*value);
        }
        &self.told
    }

    /// The losses and metrics as they were last read.
    pub(super) fn told(&self) -> &Metrics {
        &self.told
    }

    /// Refuses scores that are no finite numbers, by which the last run, that of an iteration, was to prune: it changed
    /// nothing.
    pub(super) fn judged(&self, iteration: i64) -> Result<(), DriverError> {
        let Some(count) = self.program.scalar(UNJUDGED).filter(|count| *count > 0.0) else { return Ok(()) };
        Err(DriverError::Usage(format!(
            "{count} of the scores that `prune` chooses by are no finite numbers in iteration {}; its update was \
             withheld\n  `by` has to give a finite number for every weight that is left",
            iteration + 1
        )))
    }

    /// Of the losses and metrics as they were last read, the first loss that is no finite number.
    pub(super) fn bad_loss(&self) -> Option<(&str, f64)> {
        let mut losses = self.told[..self.losses].iter();
        losses.find(|(_, value)| !value.is_finite()).map(|(name, value)| (name.as_str(), *value))
    }
}

impl<'a> Programs<'a> {
    /// None compiled yet.
    pub(super) fn new(
        project: &'a Project,
        recipe: &'a RecipeInfo,
        compiler: Compiler,
        masked: BTreeSet<String>,
    ) -> Self {
        Self {
            project,
            recipe,
            compiler,
            masked,
            fixed: false,
            turns: Vec::new(),
            rounded: BTreeMap::new(),
            followed: None,
            compiled: BTreeMap::new(),
            compile_time: Duration::ZERO,
        }
    }

    /// The training step of an iteration, of so many.
    pub(super) fn due(&mut self, iteration: i64, iterations: i64) -> Purpose {
        self.known(iteration, iterations).unwrap_or_else(|| self.turn(self.recipe.due(iteration, iterations)))
    }

    /// As [`Self::due`], if one like it was asked for before.
    pub(super) fn known(&self, iteration: i64, iterations: i64) -> Option<Purpose> {
        let due = || self.recipe.due_names(iteration, iterations);
        let is_same = |turn: &BTreeSet<String>| due().count() == turn.len() && due().all(|name| turn.contains(name));
        self.turns.iter().position(is_same).map(Purpose::Train)
    }

    /// The training step in which these steps of the recipe are due.
    pub(super) fn turn(&mut self, due: BTreeSet<String>) -> Purpose {
        let known = self.turns.iter().position(|turn| *turn == due);
        Purpose::Train(known.unwrap_or_else(|| {
            self.turns.push(due);
            self.turns.len() - 1
        }))
    }

    pub(super) fn get(&mut self, purpose: Purpose, rows: usize, store: &Store) -> Result<&mut Ready, DriverError> {
        let is_inference = matches!(purpose, Purpose::Evaluate | Purpose::Answer(_) | Purpose::Picture);
        if is_inference {
            self.follow_ranges(store)?;
        }
        let vacant = match self.compiled.entry((purpose, rows)) {
            Entry::Occupied(compiled) => return Ok(compiled.into_mut()),
            Entry::Vacant(vacant) => vacant,
        };
        let (unit, name) = (&self.project.unit, self.recipe.name.as_str());
        let project = self.project;
        let inference = |what: &str, make: Make<'_>| project.rounding((what, make, rows), &self.rounded);
        let mut graph = match &vacant.key().0 {
            Purpose::Train(turn) => project.training(unit.train_steps(name, rows, &self.turns[*turn]), self.recipe)?,
            Purpose::Indices => project.graph(unit.evaluate(name, rows))?,
            Purpose::Evaluate => inference("the evaluation", &|rows| unit.evaluate(name, rows))?,
            Purpose::Picture => inference("the pictures", &|rows| unit.pictures(name, rows))?,
            Purpose::Answer(answer) => {
                let what = answer.as_ref().map_or("the answer".to_owned(), |name| format!("the answer `{name}`"));
                inference(&what, &|rows| unit.answer(name, answer.as_deref(), rows))?
            }
        };
        if vacant.key().0 == Purpose::Indices {
            graph = index_graph(&graph, &self.recipe.data)
                .ok_or_else(|| DriverError::Internal("no index comes from data".to_owned()))?;
        }
        if matches!(vacant.key().0, Purpose::Train(_)) && !self.masked.is_empty() {
            graph = nnc_opt::prune::hold(&graph, &self.masked, &|path| self.recipe.leader(path));
        }
        if self.fixed {
            graph = prune::specialised(&graph, store);
        }
        let compiled = self.compiler.compile(&graph)?;
        self.compile_time += compiled.compile_time;
        Ok(vacant.insert(Ready::new(compiled, self.recipe)))
    }

    /// Lets go of the programs whose ranges are no longer those of the store.
    fn follow_ranges(&mut self, store: &Store) -> Result<(), DriverError> {
        if self.followed == Some(store.version()) {
            return Ok(());
        }
        let kept = store.iter().filter(|(path, _)| path.starts_with(RANGE));
        let kept = kept.filter_map(|(path, _)| Some((path.to_owned(), store.tensor(path)?))).collect();
        let rounded = trained::ranges(&kept).map_err(DriverError::Usage)?;
        self.followed = Some(store.version());
        if rounded != self.rounded {
            self.compiled.retain(|(purpose, _), _| matches!(purpose, Purpose::Train(_) | Purpose::Indices));
            self.rounded = rounded;
        }
        Ok(())
    }
}
