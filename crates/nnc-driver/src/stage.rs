//! The programs of a file by name, for `dump`, `explain`, `bench` and `grad`, and what they begin with.

use crate::answer::AnswerGraphs;
use crate::checkpoint::Checkpoint;
use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::pretrained::listed;
use crate::project::Project;
use crate::session::initial_store;
use crate::store::{Mismatch, Store};
use nnc_graph::Graph;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which program of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// The training step: forward, backward, optimiser.
    Train,
    /// Loss and metrics.
    Evaluate,
    /// First values of everything resident.
    Init,
    /// The recipe's answer, or the model by itself.
    Answer,
}

impl Which {
    /// The program called so on the command line.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "train" => Self::Train,
            "eval" => Self::Evaluate,
            "init" => Self::Init,
            "answer" => Self::Answer,
            _ => return None,
        })
    }
}

/// The graph of a program for `rows` examples; without `rows` the recipe's batch, or 1 for answers. A file without a
/// recipe has only the model by itself.
///
/// # Errors
/// Diagnostics, or a name that the file does not have.
pub fn graph(project: &Project, only: Option<&str>, which: Which, rows: Option<usize>) -> Result<Graph, DriverError> {
    if project.unit.recipes.is_empty() && which == Which::Init {
        let model = crate::answer::model_name(project, only)?;
        return project.first_values(project.unit.model_init(&model));
    }
    if project.unit.recipes.is_empty() || which == Which::Answer {
        return Ok(AnswerGraphs::new(project, only, None, rows.unwrap_or(1))?.graph);
    }
    let recipe = project.recipe(only)?;
    let rows = rows.unwrap_or(Project::batch(recipe));
    match which {
        Which::Train => project.training(project.unit.train_step(&recipe.name, rows), recipe),
        Which::Init => project.first_values(project.unit.init(&recipe.name)),
        Which::Evaluate => {
            let make = |rows: usize| project.unit.evaluate(&recipe.name, rows);
            project.inference("the evaluation", &make, rows)
        }
        Which::Answer => {
            let make = |rows: usize| project.unit.answer(&recipe.name, None, rows);
            project.inference("the answer", &make, rows)
        }
    }
}

/// First values for a program, whose graph is given, with the weights of a file over them.
///
/// # Errors
/// Diagnostics, what cannot be compiled, or weights that lack a tensor.
pub fn store(
    project: &Project,
    only: Option<&str>,
    (graph, rows): (&Graph, Option<usize>),
    compiler: &Compiler,
    weights: Option<(&Path, &Checkpoint)>,
) -> Result<Store, DriverError> {
    let init = self::graph(project, only, Which::Init, rows)?;
    let mut store = initial_store(compiler, &init, 0)?;
    if !project.has_floats() {
        store.hold_to(&Store::wanted(graph));
    }
    let Some((path, loaded)) = weights else { return Ok(store) };
    let names = match project.unit.recipes.is_empty() {
        true => {
            let model = crate::answer::model_name(project, only)?;
            project
                .checked(project.unit.model_with_weights(&model, &batch_of(rows.unwrap_or(1)), &BTreeSet::new()))?
                .1
                .names
        }
        false => project.recipe(only)?.pretrained.names.clone(),
    };
    let mut mismatches = store.load_weights(&loaded.tensors, &names);
    mismatches.retain(|mismatch| !matches!(mismatch, Mismatch::Unknown { .. }));
    match mismatches.is_empty() {
        true => Ok(store),
        false => {
            let reason = format!("these are the weights of another model:{}", listed(&mismatches));
            Err(DriverError::Weights { path: path.to_owned(), reason })
        }
    }
}

/// `N` bound to a number of rows.
pub(crate) fn batch_of(rows: usize) -> BTreeMap<String, i64> {
    BTreeMap::from([("N".to_owned(), rows as i64)])
}
