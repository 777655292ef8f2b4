//! `nnc prune FILE --weights W -o OUT`.

use crate::arguments::{PassOptions, Prune};
use crate::commands::prune_channels;
use crate::terminal;
use crate::{Failure, output, setup};
use nnc_driver::checkpoint::Checkpoint;
use nnc_driver::prune::{Request, Row, prune, prune_model, stage};
use nnc_driver::store::Store;
use nnc_driver::{DriverError, Engine, Project, Session};
use serde_json::{Value, json};
use std::num::NonZeroUsize;

pub(crate) fn run(options: &Prune) -> Result<(), Failure> {
    let (project, loaded) = setup::weighted(&options.file, Some(&options.weights))?;
    setup::check_weights_target(&options.output, &setup::reads(&project, None, [options.weights.as_path()]))?;
    setup::refuse_quantised(&options.weights, &loaded)?;
    if !project.rounded.is_empty() {
        terminal::print_warning(
            "these weights were trained with rounding; what is written is of floats, to be trained further",
        );
    }
    match project.unit.recipes.is_empty() {
        true => of_model(&project, options, loaded),
        false => of_recipe(&project, options, &loaded),
    }
}

/// The weights of a recipe.
fn of_recipe(project: &Project, options: &Prune, loaded: &Checkpoint) -> Result<(), Failure> {
    let recipe = setup::recipe(project, &options.file)?;
    // Nothing heavy runs here: the session only makes and holds tensors.
    let compiler = setup::native(Some(NonZeroUsize::MIN), Engine::host(), PassOptions::default())?;
    let mut session = Session::without_files(project, recipe, compiler, 0)?;
    session.load_exactly(&options.weights, loaded)?;
    setup::refuse_not_finite(&options.weights, session.store())?;
    session.adopt_masks(&loaded.tensors).map_err(|reason| wrong(options, reason))?;
    let metadata = loaded.metadata.as_deref();
    if let Some(share) = options.channels {
        return prune_channels::run(&mut session, project, (options, share), metadata);
    }
    let rows = prune(&mut session, project, &request(options))?;
    write(options, (&rows, session.store()), metadata)
}

/// The weights of a model by itself: what counts least is told by its size, so that nothing else is needed.
fn of_model(project: &Project, options: &Prune, mut loaded: Checkpoint) -> Result<(), Failure> {
    if options.channels.is_some() {
        let message = "--channels: a model without a recipe has no training that would make good for channels; add a `train` block";
        return Err(Failure::Message(message.to_owned()));
    }
    let places = (&options.file, options.weights.as_path());
    let (graphs, mut store) = setup::opened_model(project, places, &mut loaded, None)?;
    setup::refuse_not_finite(&options.weights, &store)?;
    let rows = prune_model(&mut store, &graphs.graph, &request(options))?;
    write(options, (&rows, &store), loaded.metadata.as_deref())
}

fn wrong(options: &Prune, reason: String) -> DriverError {
    DriverError::Weights { path: options.weights.clone(), reason }
}

fn request(options: &Prune) -> Request {
    let (sparsity, block, scope) = (options.sparsity, options.block, options.scope);
    Request { sparsity, block, scope, over: options.over.clone() }
}

/// Elements, or blocks of them, became zeros.
fn write(options: &Prune, (rows, store): (&[Row], &Store), metadata: Option<&str>) -> Result<(), Failure> {
    stage(&options.output, store, metadata)?.commit().map_err(DriverError::from)?;
    warn(rows, options.sparsity);
    if options.json {
        return output::json_of(as_json(rows), &options.output);
    }
    output::print(&shown(rows))?;
    output::wrote(&options.output, "")
}

/// What was asked for and is not as a person would expect it.
fn warn(rows: &[Row], wanted: f64) {
    for row in rows.iter().filter(|row| row.pruned == Ok(row.elements)) {
        let advice = "`--scope layer` takes the same share of each weight";
        terminal::print_warning(&format!("nothing is left of `{}`; {advice}", row.path));
    }
    let (zeros, elements) = totals(rows);
    if zeros == 0 {
        let count = terminal::counted(elements, "element");
        terminal::print_warning(&format!("nothing is pruned: {wanted} of {count} is less than one, or than a block"));
        return;
    }
    let reached = zeros as f64 / elements.max(1) as f64;
    if (reached - wanted).abs() > 0.01 {
        let [reached, wanted] = [reached, wanted].map(|share| share * 100.0);
        let message = format!("{reached:.1} % of what may be pruned is zero, not {wanted:.1} %");
        terminal::print_warning(&format!("{message}: weights have few blocks, or had zeros before"));
    }
}

/// Zeros and elements of what was pruned.
fn totals(rows: &[Row]) -> (usize, usize) {
    let pruned = rows.iter().filter_map(|row| Some((row.pruned.ok()?, row.elements)));
    pruned.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1))
}

fn shown(rows: &[Row]) -> String {
    let mut lines = vec![["weight", "shape", "elements", "zeros", "left alone"].map(str::to_owned).to_vec()];
    for row in rows {
        let dims: Vec<String> = row.dims.iter().map(usize::to_string).collect();
        let (zeros, why) = match row.pruned {
            Ok(zeros) => (share(zeros, row.elements), String::new()),
            Err(why) => (String::new(), why.to_string()),
        };
        lines.push(vec![row.path.clone(), dims.join("x"), terminal::grouped(row.elements as u64), zeros, why]);
    }
    let (zeros, elements) = totals(rows);
    let all = vec!["pruned".to_owned(), String::new(), terminal::grouped(elements as u64), share(zeros, elements)];
    lines.push(all);
    terminal::table(&lines)
}

fn share(zeros: usize, elements: usize) -> String {
    format!("{:.1} %", 100.0 * zeros as f64 / elements.max(1) as f64)
}

fn as_json(rows: &[Row]) -> Value {
    let one = |row: &Row| match row.pruned {
        Ok(zeros) => json!({"weight": row.path, "shape": row.dims, "elements": row.elements, "zeros": zeros}),
        Err(why) => {
            let why = why.to_string();
            json!({"weight": row.path, "shape": row.dims, "elements": row.elements, "left_alone": why})
        }
    };
    json!({"weights": rows.iter().map(one).collect::<Vec<_>>()})
}
