//! `nnc eval FILE --weights W`.

use crate::arguments::Eval;
use crate::terminal::{self, GOOD, STRONG};
use crate::{Failure, output, setup};
use nnc_driver::{Dataset, DriverError, Learned, Project, Session, Wanted, learned};
use serde_json::{Map, Value, json};

pub(crate) fn run(options: &Eval) -> Result<(), Failure> {
    setup::refuse_batch_size(&options.file)?;
    let (project, loaded) = setup::weighted(&options.file, Some(&options.weights))?;
    let recipe = setup::recipe(&project, &options.file)?;
    let seed = learned::seed(project.recipe(Some(recipe))?, &loaded);
    let mut session = Session::without_files(&project, recipe, setup::compiler(&options.engine)?, seed)?;
    session.load_exactly(&options.weights, &loaded)?;
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
    if options.engine.time_passes {
        let rows = Project::batch(session.recipe()).min(part.rows.len().max(1));
        output::remark(terminal::passes(&session.evaluation_program(rows)?.log).trim_end());
    }
    if options.json {
        let values: Map<String, Value> = metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        return output::line(&json!({"test": values, "examples": part.rows.len()}).to_string());
    }
    let (rows, metrics) = (terminal::counted(part.rows.len(), "example"), terminal::metrics(&metrics));
    output::line(&format!("{GOOD}test{GOOD:#} on {rows}: {STRONG}{metrics}{STRONG:#}"))
}
