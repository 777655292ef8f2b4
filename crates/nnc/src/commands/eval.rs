//! `nnc eval FILE --weights W`.

use crate::arguments::Eval;
use crate::terminal::{self, GOOD, STRONG};
use crate::{Failure, output, setup};
use nnc_driver::checkpoint;
use nnc_driver::{Dataset, DriverError, Learned, Session, Wanted};
use serde_json::{Map, Value, json};
use std::path::Path;

pub(crate) fn run(options: &Eval) -> Result<(), Failure> {
    setup::refuse_batch_size(&options.file)?;
    let (project, loaded) = setup::weighted(&options.file, Some(&options.weights))?;
    let recipe = setup::recipe(&project, &options.file)?;
    let seed = project.recipe(Some(recipe))?.seed.unwrap_or(0);
    let mut session = Session::without_files(&project, recipe, setup::compiler(&options.engine)?, seed)?;
    load_exactly(&mut session, &options.weights, &loaded)?;
    session.fix_weights();
    let learned = Learned::of(&loaded);
    let root = options.data.as_deref().unwrap_or(project.folder());
    let dataset = Dataset::open(session.data(), root, seed as u64, Wanted::Test, &learned)?;
    let part = dataset.test.ok_or_else(|| {
        DriverError::Usage(format!(
            "data `{}` has no test split: add `test: ... = ...` or `test = 0.2`",
            session.data().name
        ))
    })?;
    let metrics = session.evaluate(&part)?;
    if options.json {
        let values: Map<String, Value> = metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        return output::line(&json!({"test": values, "examples": part.rows.len()}).to_string());
    }
    let (rows, metrics) = (terminal::counted(part.rows.len(), "example"), terminal::metrics(&metrics));
    output::line(&format!("{GOOD}test{GOOD:#} on {rows}: {STRONG}{metrics}{STRONG:#}"))
}

/// Loads weights that must fit the model tensor by tensor.
pub(crate) fn load_exactly(
    session: &mut Session<'_>,
    weights: &Path,
    loaded: &checkpoint::Checkpoint,
) -> Result<(), Failure> {
    let mismatches = session.load_weights(&loaded.tensors);
    if mismatches.is_empty() {
        session.adopt_ranges(&loaded.tensors);
        return Ok(());
    }
    let listed = nnc_driver::pretrained::listed(&mismatches);
    let message = format!("{} holds the weights of another model:{listed}", weights.display());
    Err(Failure::Message(message))
}
