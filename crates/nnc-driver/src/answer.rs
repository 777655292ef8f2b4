//! What `run`, `build` and `bench` compile: a recipe's answer, or a model by itself when the file has no recipe.

use crate::checkpoint::Checkpoint;
use crate::deploy::{Subject, classes_of};
use crate::error::DriverError;
use crate::project::Project;
use crate::store::{Mismatch, RESERVED, Store};
use nnc_graph::Graph;
use std::path::Path;

/// The graphs of an answer for `rows` rows and for one more.
#[derive(Debug)]
pub struct AnswerGraphs {
    name: String,
    source: String,
    classes: Vec<String>,
    /// Whether the inputs are windows of a text.
    text: bool,
    rows: usize,
    /// For `rows` rows.
    pub graph: Graph,
    wider: Graph,
}

impl AnswerGraphs {
    /// The answer called `answer` of the recipe called `only`; each may be left out when there is one.
    ///
    /// # Errors
    /// Diagnostics, or a name that the file does not have.
    pub fn new(project: &Project, only: Option<&str>, answer: Option<&str>, rows: usize) -> Result<Self, DriverError> {
        let source = project.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if project.unit.recipes.is_empty() {
            let model = model_name(project, only)?;
            let make = |rows: usize| project.graph(project.unit.model(&model, &crate::stage::batch_of(rows)));
            let (graph, wider) = (make(rows)?, make(rows + 1)?);
            return Ok(Self { name: model, source, classes: Vec::new(), text: false, rows, graph, wider });
        }
        let recipe = project.recipe(only)?;
        if let Some(answer) = answer.filter(|answer| !recipe.answers.iter().any(|known| known == answer)) {
            let known = recipe.answers.join("`, `");
            return Err(DriverError::Usage(format!(
                "recipe `{}` has no answer `{answer}`; it has `{known}`",
                recipe.name
            )));
        }
        let data = project.data(&recipe.data)?;
        let (classes, text) = (data.classes.clone().unwrap_or_default(), data.is_text());
        let make = |rows: usize| project.graph(project.unit.answer(&recipe.name, answer, rows));
        let (graph, wider) = (make(rows)?, make(rows + 1)?);
        Ok(Self { name: recipe.model.clone(), source, classes, text, rows, graph, wider })
    }

    /// What is deployed; class names and characters that the checkpoint learned are taken when the file has none.
    pub fn subject(&self, checkpoint: &Checkpoint) -> Subject<'_> {
        let learned = || classes_of(checkpoint).unwrap_or_default();
        let classes = if self.classes.is_empty() { learned() } else { self.classes.clone() };
        Subject {
            name: self.name.clone(),
            source: self.source.clone(),
            text: self.text && !classes.is_empty(),
            classes,
            graph: &self.graph,
            wider: &self.wider,
            rows: self.rows,
        }
    }

    /// A store with the tensors that the answer needs.
    ///
    /// # Errors
    /// [`DriverError::Weights`] that lists the tensors which differ.
    pub fn store(&self, checkpoint: &Checkpoint, path: &Path) -> Result<Store, DriverError> {
        let mut store = Store::default();
        let mut mismatches = Vec::new();
        for (name, wanted) in Store::wanted(&self.graph) {
            match checkpoint.tensors.get(&name) {
                Some(tensor) if tensor.ty() == wanted => store.insert(&name, tensor),
                Some(tensor) => mismatches.push(Mismatch::Different { path: name, wanted, found: tensor.ty() }),
                None => mismatches.push(Mismatch::Missing { path: name, wanted }),
            }
        }
        if mismatches.is_empty() {
            return Ok(store);
        }
        let known = Store::wanted(&self.graph);
        let others = checkpoint.tensors.iter().filter(|(name, _)| !name.starts_with(RESERVED));
        let unknown = others.filter(|(name, _)| !known.contains_key(*name));
        mismatches.extend(unknown.map(|(path, found)| Mismatch::Unknown { path: path.clone(), found: found.ty() }));
        let reason = format!("these are the weights of another model:{}", listed(&mismatches));
        Err(DriverError::Weights { path: path.to_owned(), reason })
    }
}

/// Mismatches, one a line, the first dozen of them.
pub fn listed(mismatches: &[Mismatch]) -> String {
    let shown: String = mismatches.iter().take(12).map(|mismatch| format!("\n  {mismatch}")).collect();
    let more = mismatches.len().saturating_sub(12);
    if more > 0 { format!("{shown}\n  ... and {more} more") } else { shown }
}

/// The model called `only`, or the last one that the file declares.
///
/// # Errors
/// [`DriverError::Usage`] that lists what there is.
pub fn model_name(project: &Project, only: Option<&str>) -> Result<String, DriverError> {
    let models = &project.unit.models;
    let found = match only {
        Some(name) => models.iter().find(|model| model.name == name),
        None => models.last(),
    };
    found.map(|model| model.name.clone()).ok_or_else(|| {
        let names = models.iter().map(|model| format!("`{}`", model.name)).collect::<Vec<_>>().join(", ");
        let file = project.path.display();
        DriverError::Usage(match only {
            Some(name) if !names.is_empty() => format!("{file} has no model `{name}`; it has {names}"),
            Some(_) | None => format!("{file} has no model"),
        })
    })
}
