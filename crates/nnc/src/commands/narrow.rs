//! `nnc quantise FILE --weights W --weights-only FORM -o OUT`: weights of few bits.

use super::quantise::{alone, examples, max_drop, refuse_without_recipe, warn_of_split};
use crate::arguments::{Bits, Quantise};
use crate::terminal::{self, QUIET, STRONG};
use crate::{Failure, output, setup};
use nnc_driver::checkpoint::Checkpoint;
use nnc_driver::narrow::{Outcome, Reason, Report, Request, Row, narrow, narrow_model, stage, without_groups};
use nnc_driver::quantise::Measured;
use nnc_driver::{Compiler, DriverError, Project};
use serde_json::{Value, json};
use std::num::NonZeroUsize;

pub(crate) fn run(
    (options, bits): (&Quantise, Bits),
    (project, compiler): (&Project, &Compiler),
    loaded: Checkpoint,
) -> Result<(), Failure> {
    let request = request(options, bits)?;
    if !project.rounded.is_empty() {
        let message =
            "these weights were trained with rounding, activations too: quantise them without `--weights-only`";
        return Err(Failure::Message(message.to_owned()));
    }
    let metadata = loaded.metadata.clone();
    let outcome = match project.unit.recipes.is_empty() {
        true => of_model((project, compiler), options, request, loaded)?,
        false => of_recipe(options, request, (project, compiler), &loaded)?,
    };
    stage(&options.output, &outcome, metadata.as_deref())?.commit().map_err(DriverError::from)?;
    warn_of_split(outcome.report.measured.as_ref());
    warn(&outcome.report, options);
    if options.json {
        return output::json_of(as_json(&outcome.report), &options.output);
    }
    output::print(&shown(&outcome.report))?;
    output::wrote(&options.output, "")
}

/// Terms that share a scale, at most, unless it is said.
const DEFAULT_GROUP: usize = 64;

fn request(options: &Quantise, bits: Bits) -> Result<Request, Failure> {
    let form = bits.stored(options.group.map_or(DEFAULT_GROUP, NonZeroUsize::get));
    match (options.group, form.group()) {
        (Some(group), None) => {
            let name = form.name();
            Err(Failure::Message(format!("--group {group}: {name} has no scales to share; this is for int8 and int4")))
        }
        (None, None) if options.examples.is_some() => {
            let name = form.name();
            Err(Failure::Message(format!("--examples: {name} is rounded to the nearest; this is for int8 and int4")))
        }
        _ => {
            Ok(Request { form, is_exact: options.group.is_some(), measure: !options.all, examples: examples(options) })
        }
    }
}

fn warn(report: &Report, options: &Quantise) {
    for row in report.rows.iter().filter(|row| row.choice == Err(Reason::NotFinite)) {
        let file = options.weights.display();
        terminal::print_warning(&format!("`{}` of {file} holds a NaN or an infinity; it stays f32", row.path));
    }
    if let Some(which) = without_groups(&report.rows) {
        let said = options.group.map_or_else(String::new, |group| format!("--group {group}: "));
        terminal::print_warning(&format!("{said}what has no whole groups stays f32: {which}"));
    }
    if report.rows.iter().any(|row| row.choice.is_ok()) {
        return;
    }
    let slower = report.rows.iter().any(|row| row.choice == Err(Reason::Slower));
    let advice = match slower {
        true => "`--all` does not ask for the time, for a file that is small",
        false => "`--max-drop` allows for more, a smaller `--group` is finer",
    };
    terminal::print_warning(&format!("nothing is stored in few bits; {advice}"));
}

/// A recipe, held to its metric.
fn of_recipe(
    options: &Quantise,
    request: Request,
    (project, compiler): (&Project, &Compiler),
    loaded: &Checkpoint,
) -> Result<Outcome, Failure> {
    let (recipe, session, dataset) = setup::opened(project, options.into(), compiler, loaded)?;
    let metric = nnc_driver::quantise::metric(recipe, options.metric.as_deref())?;
    let how = (request, metric.as_str(), max_drop(options));
    let told = &mut told();
    narrow((project, recipe), compiler, session.store(), &dataset, how, told).map_err(|error| of_file(error, options))
}

/// A model by itself.
fn of_model(
    (project, compiler): (&Project, &Compiler),
    options: &Quantise,
    request: Request,
    mut loaded: Checkpoint,
) -> Result<Outcome, Failure> {
    refuse_without_recipe(options)?;
    let places = (&options.file, options.weights.as_path());
    let (graphs, store) = setup::opened_model(project, places, &mut loaded, None)?;
    let told = &mut told();
    narrow_model((project, &graphs.graph), compiler, request, &store, told).map_err(|error| of_file(error, options))
}

/// Shows what is being done until it is dropped.
fn told() -> impl FnMut(&str) {
    let bar = terminal::spinner();
    move |what| bar.set_message(what.to_owned())
}

/// What is wrong with the weights, with their file.
fn of_file(error: DriverError, options: &Quantise) -> Failure {
    match error {
        DriverError::Usage(reason) => DriverError::Weights { path: options.weights.clone(), reason }.into(),
        error => error.into(),
    }
}

fn shown(report: &Report) -> String {
    let heading = ["matrix", "shape", "elements", "as", "f32", "stored", "rounding error", "why"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let measured = report.measured.as_ref();
    lines.extend(report.rows.iter().map(|row| line(row, measured)));
    let metric = measured.map_or_else(String::new, |measured| {
        let ([before, after], on) = (measured.values, terminal::counted(measured.examples, "example"));
        let by = report.rounded_by.map(|examples| terminal::counted(examples, "example"));
        let by = by.map_or_else(String::new, |examples| format!("; weights rounded by {examples}"));
        format!("{STRONG}{}{STRONG:#} {before:.4} -> {after:.4} on {on}{by}\n", measured.metric)
    });
    let [from, to] = report.bytes;
    let share = 100.0 * to as f64 / from.max(1) as f64;
    let [from, to] = [from, to].map(|bytes| terminal::bytes(bytes as u64));
    terminal::table(&lines) + &metric + &format!("{QUIET}weights{QUIET:#} {from} -> {to} ({share:.1} %)\n")
}

fn line(row: &Row, measured: Option<&Measured>) -> Vec<String> {
    let (kind, why) = match row.choice {
        Ok(form) => (form.to_string(), String::new()),
        Err(reason) => ("f32".to_owned(), reason.to_string()),
    };
    let error = row.error.map_or(String::new(), |error| format!("{:.2} %", 100.0 * error));
    let time = |seconds: Option<f64>| seconds.map_or(String::new(), terminal::duration);
    let [float, stored] = [row.times.map(|times| times.float), row.times.map(|times| times.integers)].map(time);
    let shape = row.dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let count = row.dims.iter().product::<usize>() as u64;
    let elements = if row.dims.is_empty() { String::new() } else { terminal::grouped(count) };
    vec![
        row.path.clone(),
        shape,
        elements,
        kind,
        float,
        stored,
        error,
        (why + &alone(row.drop, measured)).trim().to_owned(),
    ]
}

fn as_json(report: &Report) -> Value {
    let rows = report.rows.iter().map(|row| {
        let choice = match row.choice {
            Ok(form) => json!({"bits": form.bits(), "group": form.group()}),
            Err(reason) => json!({"f32": reason.to_string()}),
        };
        let times = row.times.map(|times| json!({"f32": times.float, "stored": times.integers}));
        json!({"path": row.path, "dims": row.dims, "choice": choice, "seconds": times, "error": row.error, "drop": row.drop})
    });
    let measured = report.measured.as_ref().map(|measured| {
        json!({"metric": measured.metric, "before": measured.values[0], "after": measured.values[1],
               "drop": measured.drop(), "examples": measured.examples, "held_out": measured.held_out})
    });
    json!({"measured": measured, "rounded_by": report.rounded_by, "bytes": report.bytes, "matrices": rows.collect::<Vec<_>>()})
}
