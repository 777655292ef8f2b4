//! `nnc quantise FILE --weights W --data DIR -o OUT`.

use crate::arguments::{Calibration, Quantise};
use crate::given::Givens;
use crate::setup::{self, Trained};
use crate::terminal::{self, QUIET, STRONG};
use crate::{Failure, output};
use nnc_data::Column;
use nnc_driver::checkpoint::Checkpoint;
use nnc_driver::deploy::outline;
use nnc_driver::quantise::observe::Method;
use nnc_driver::quantise::{
    Drift, Measured, Moved, Outcome, Reason, Report, Request, Row, Times, file, quantise, quantise_model,
};
use nnc_driver::{Compiler, DriverError, Project, narrow};
use nnc_lang::elaborate::RecipeInfo;
use nnc_stub::manifest::Manifest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

/// The share of magnitudes that a percentile keeps, in per cent, unless it is said.
const DEFAULT_PERCENTILE: f64 = 99.99;
/// Calibration examples, unless it is said.
const DEFAULT_EXAMPLES: usize = 512;
/// How many points of a hundred the metric may drop, unless it is said.
const DEFAULT_DROP: f64 = 0.5;

pub(crate) fn run(options: &Quantise) -> Result<(), Failure> {
    let (project, loaded) = setup::weighted(&options.file, Some(&options.weights))?;
    let given = options.input.iter().map(|given| setup::path_of(given)).chain([options.weights.as_path()]);
    setup::check_weights_target(&options.output, &setup::reads(&project, options.data.as_deref(), given))?;
    let compiler = setup::native(options.threads, options.isa.isa, options.passes)?;
    setup::refuse_quantised(&options.weights, &loaded)?;
    if let Some(bits) = options.weights_only {
        return super::narrow::run((options, bits), (&project, &compiler), loaded);
    }
    let metadata = loaded.metadata.clone();
    let outcome = match project.unit.recipes.is_empty() {
        true => of_model(&project, options, &compiler, loaded)?,
        false => of_recipe(&project, options, &compiler, &loaded)?,
    };
    refuse_nothing_finite(&outcome.report, options)?;
    file::stage(&options.output, &outcome, metadata.as_deref())?.commit().map_err(DriverError::from)?;
    let report = outcome.report;
    warn(&report, &options.weights);
    if options.json {
        return output::json_of(as_json(&report), &options.output);
    }
    output::print(&shown(&report))?;
    output::wrote(&options.output, "")
}

/// A network of which nothing is quantised as its weights are no numbers is damaged.
fn refuse_nothing_finite(report: &Report, options: &Quantise) -> Result<(), DriverError> {
    let is_odd = |row: &&Row| row.choice == Err(Reason::WeightsNotFinite);
    let odd: Vec<String> = report.rows.iter().filter(is_odd).map(|row| format!("`{}`", row.name)).collect();
    match report.is_any() || odd.is_empty() {
        true => Ok(()),
        false => {
            let reason =
                format!("{}: a NaN or an infinity is among these weights, and nothing is quantised", odd.join(", "));
            Err(DriverError::Weights { path: options.weights.clone(), reason })
        }
    }
}

/// A recipe, calibrated on its data and held to its metric.
fn of_recipe(
    project: &Project,
    options: &Quantise,
    compiler: &Compiler,
    loaded: &Checkpoint,
) -> Result<Outcome, Failure> {
    if let Some(input) = options.input.first() {
        return Err(Failure::Message(format!("--input {input}: a recipe is calibrated on its data; see `--data`")));
    }
    let (recipe, session, dataset) = setup::opened(project, options.into(), compiler, loaded)?;
    let request = request(options)?;
    let bar = terminal::spinner();
    let mut told = |what: &str| bar.set_message(what.to_owned());
    let outcome = quantise((project, recipe), compiler, session.store(), &dataset, (&request, &mut told))?;
    bar.finish_and_clear();
    warn_of_losses(recipe, options, &outcome.report);
    Ok(outcome)
}

impl<'o> From<&'o Quantise> for Trained<'o> {
    fn from(options: &'o Quantise) -> Self {
        let Quantise { file, weights, data, .. } = options;
        Self { file, weights, data: data.as_deref() }
    }
}

/// A model by itself, calibrated on one call.
fn of_model(
    project: &Project,
    options: &Quantise,
    compiler: &Compiler,
    mut loaded: Checkpoint,
) -> Result<Outcome, Failure> {
    refuse_without_recipe(options)?;
    let places = (&options.file, options.weights.as_path());
    let mut given = Givens::new(&options.input);
    let (graphs, store) = setup::opened_model(project, places, &mut loaded, Some(&mut given))?;
    let manifest = outline(&graphs.subject(&loaded));
    let columns = given.columns(&manifest)?;
    let rows = rows_given(&manifest, &columns, setup::rows(&options.file)?)?;
    let names = manifest.inputs.iter().map(|port| port.name.clone());
    let inputs = names.zip(columns.into_iter().map(|column| column.bytes.to_vec())).collect();
    let request = request(options)?;
    Ok(quantise_model((project, &graphs), compiler, (store, &inputs), (&request, rows))?)
}

/// Calibration examples, about.
pub(crate) fn examples(options: &Quantise) -> usize {
    options.examples.map_or(DEFAULT_EXAMPLES, NonZeroUsize::get)
}

fn request(options: &Quantise) -> Result<Request, Failure> {
    let method = match (options.range, options.percentile) {
        (Calibration::Percentile, share) => Method::Percentile(share.unwrap_or(DEFAULT_PERCENTILE) / 100.0),
        (Calibration::MinMax | Calibration::Mse | Calibration::Entropy, Some(share)) => {
            let message = format!("--percentile {share}: this is for `--range percentile`, which is another range");
            return Err(Failure::Message(message));
        }
        (Calibration::MinMax, None) => Method::MinMax,
        (Calibration::Mse, None) => Method::SquaredError,
        (Calibration::Entropy, None) => Method::Entropy,
    };
    let (examples, metric) = (examples(options), options.metric.clone());
    Ok(Request { method, examples, metric, max_drop: max_drop(options), measure: !options.all })
}

/// How much the metric may get worse.
pub(super) fn max_drop(options: &Quantise) -> f64 {
    options.max_drop.unwrap_or(DEFAULT_DROP)
}

/// A model without a recipe has neither data nor a metric, and what is said of these would be in vain.
pub(super) fn refuse_without_recipe(options: &Quantise) -> Result<(), Failure> {
    let said = [
        ("--data", options.data.is_some()),
        ("--examples", options.examples.is_some()),
        ("--metric", options.metric.is_some()),
        ("--max-drop", options.max_drop.is_some()),
    ];
    match said.iter().find(|(_, is_said)| *is_said) {
        Some((name, _)) => Err(Failure::Message(format!(
            "{name}: a model without a `train` block has neither data nor a metric; `--input` gives what its ranges are found by"
        ))),
        None => Ok(()),
    }
}

/// The examples of a call, by what is given for it; `said` are those of `--bind`.
fn rows_given(manifest: &Manifest, columns: &[Column], said: Option<usize>) -> Result<usize, Failure> {
    let mut rows = said.map(|rows| ("--bind N".to_owned(), rows));
    for (port, column) in manifest.inputs.iter().zip(columns).filter(|(port, _)| port.batched) {
        match &rows {
            Some((other, rows)) if *rows != column.rows => {
                let found = terminal::counted(column.rows, "row");
                let message = format!("--input {}: these are {found}, and {other} says {rows}", port.name);
                return Err(Failure::Message(message));
            }
            Some(_) => {}
            None => rows = Some((format!("`{}`", port.name), column.rows)),
        }
    }
    Ok(rows.map_or(1, |(_, rows)| rows))
}

/// A loss of one of several steps need not tell how good the answers are.
fn warn_of_losses(recipe: &RecipeInfo, options: &Quantise, report: &Report) {
    let losses = recipe.losses();
    let Some(measured) = &report.measured else { return };
    if options.metric.is_none() && losses.len() > 1 && losses.contains(&measured.metric) {
        terminal::print_warning(&format!(
            "`--max-drop` holds `{}`, the loss of one of several steps ({}), which need not tell how good an answer is: say by \
             `--metric` what counts, or write a `metric` into the recipe",
            measured.metric,
            losses.join(", ")
        ));
    }
}

/// An answer whose elements moved further than this in the mean, of its largest magnitude, is worth a warning.
const FAR: f64 = 0.05;

/// A measure that was taken on what was trained on is worth a warning.
pub(super) fn warn_of_split(measured: Option<&Measured>) {
    if measured.is_some_and(|measured| !measured.held_out) {
        terminal::print_warning(
            "the data have neither a validation nor a test split: the measure is taken on what was trained on, and says \
             little of other examples",
        );
    }
}

fn warn(report: &Report, weights: &Path) {
    for row in &report.rows {
        let layer = &row.layer;
        match row.choice {
            Err(Reason::NeverExercised) => terminal::print_warning(&format!(
                "the calibration examples never exercise `{layer}`: its inputs were all 0"
            )),
            Err(Reason::Vanishing) => terminal::print_warning(&format!(
                "the inputs of `{layer}` are all below 1e-35 on the calibration examples; it stays f32"
            )),
            Err(Reason::NotFinite) => terminal::print_warning(&format!(
                "the inputs of `{layer}` hold a NaN or an infinity on calibration examples; it stays f32"
            )),
            Err(Reason::WeightsNotFinite) => {
                let (file, name) = (weights.display(), &row.name);
                terminal::print_warning(&format!("`{name}` of {file} holds a NaN or an infinity; `{layer}` stays f32"));
            }
            Ok(_)
            | Err(Reason::NotTrained | Reason::FewTerms | Reason::FewChannels | Reason::Accuracy)
            | Err(Reason::Slower | Reason::NetworkSlower)
            | Err(Reason::Unserved(_)) => {}
        }
    }
    warn_of_wide(&report.rows);
    report.answers.iter().for_each(warn_of_answer);
    warn_of_floats(report);
    warn_of_split(report.measured.as_ref());
    if !report.is_any() {
        let is_slower = |row: &Row| matches!(row.choice, Err(Reason::Slower | Reason::NetworkSlower));
        let slower = report.rows.iter().any(is_slower);
        let advice = if slower { "; `--all` does not ask for the time, for a file that is small" } else { "" };
        let ranges = match report.calibrated_on {
            Some(_) => "",
            None => ", with the ranges that they were trained with",
        };
        terminal::print_warning(&format!("nothing is quantised: the file has floats{ranges}{advice}"));
    }
}

/// Floats that stay for answers which nobody could make are a surprise in a file of integers.
fn warn_of_floats(report: &Report) {
    let unknown = |drift: &&Drift| drift.moved == Moved::WeightsAlone { is_known: false };
    let names: Vec<String> = report.answers.iter().filter(unknown).map(|drift| format!("`{}`", drift.answer)).collect();
    if !names.is_empty() {
        let [before, after] = report.bytes;
        terminal::print_warning(&format!(
            "{} cannot be made without values for all settings, so that floats are kept beside integers that may not serve \
             ({:.0} % of the size before): give some by `--set NAME=VALUE`",
            names.join(", "),
            100.0 * after as f64 / before.max(1) as f64,
        ));
    }
}

/// Programs that make ranges wide, each with how many of them and the one that it makes widest: also of what went back
/// to floats, as it may have cost too much for that.
fn warn_of_wide(rows: &[Row]) {
    let mut told: BTreeMap<&str, Vec<(f32, &str)>> = BTreeMap::new();
    let is_meant = |row: &&Row| matches!(row.choice, Ok(_) | Err(Reason::Accuracy));
    for row in rows.iter().filter(is_meant) {
        if let Some(widened) = &row.widened {
            told.entry(&widened.by).or_default().push((widened.times, &row.layer));
        }
    }
    for (program, mut layers) in told {
        layers.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (count, (times, layer)) = (terminal::counted(layers.len(), "range"), layers[0]);
        terminal::print_warning(&format!(
            "{program} makes {count} wider, that of `{layer}` {times:.1} times: integers round everything \
             else by as much larger steps"
        ));
    }
}

fn warn_of_answer(drift: &Drift) {
    let answer = &drift.answer;
    match &drift.moved {
        &Moved::By { lost, .. } if lost > 0 => terminal::print_warning(&format!(
            "answer `{answer}`: {} with floats, or with integers, alone",
            terminal::counted(lost, "NaN")
        )),
        &Moved::By { mean, .. } if mean > FAR => terminal::print_warning(&format!(
            "answer `{answer}` moves by {:.0} % of its largest magnitude in the mean",
            100.0 * mean
        )),
        &Moved::Unknown { rows } => terminal::print_warning(&format!(
            "answer `{answer}` cannot be made of {}, so how far it moves is not known",
            terminal::counted(rows, "example")
        )),
        Moved::Gone { why } => terminal::print_warning(&format!(
            "answer `{answer}` cannot be made of weights that lost channels, and is left out: {why}"
        )),
        Moved::By { .. } | Moved::Changed { .. } | Moved::WeightsAlone { .. } | Moved::Untouched => {}
    }
}

fn shown(report: &Report) -> String {
    let heading = ["layer", "weights", "multiply-adds", "as", "f32", "int8", "why"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let measured = report.measured.as_ref();
    lines.extend(report.rows.iter().map(|row| line(row, measured)));
    lines.extend(report.tables.iter().map(|row| table_line(row, measured)));
    let calibrated = report.calibrated_on.map_or_else(
        || "ranges as they were trained".to_owned(),
        |examples| format!("calibrated on {}", terminal::counted(examples, "example")),
    );
    let refined = [(report.are_fitted, ", weights rounded by them"), (report.are_shifted, ", means set right")];
    let refined: String = refined.iter().filter(|(is_done, _)| *is_done).map(|(_, what)| *what).collect();
    let by_itself = || if refined.is_empty() { String::new() } else { format!("{calibrated}{refined}\n") };
    let metric = measured.map_or_else(by_itself, |measured| {
        let ([before, after], on) = (measured.values, terminal::counted(measured.examples, "example"));
        format!("{STRONG}{}{STRONG:#} {before:.4} -> {after:.4} on {on}; {calibrated}{refined}\n", measured.metric)
    });
    let [from, to] = report.bytes;
    let share = 100.0 * to as f64 / from.max(1) as f64;
    let size = format!(
        "{QUIET}weights{QUIET:#} {} -> {} ({share:.1} %)\n",
        terminal::bytes(from as u64),
        terminal::bytes(to as u64)
    );
    let is_quantised = report.rows.iter().any(|row| row.choice.is_ok());
    let time = report.times.map_or_else(String::new, |times| time_of_run(times, report, is_quantised));
    let moved: String = report.answers.iter().map(moved).collect();
    terminal::table(&lines) + &metric + &moved + &size + &time
}

fn time_of_run(times: Times, report: &Report, is_quantised: bool) -> String {
    let what = if report.measured.is_some() { "an evaluation" } else { "a call" };
    let what = format!("{QUIET}{what} of {}{QUIET:#}", terminal::counted(report.run, "example"));
    let [float, integers] = [times.float, times.integers].map(terminal::duration);
    let ratio = times.float / times.integers;
    match is_quantised {
        true => format!("{what} {float} -> {integers} ({ratio:.2}x)\n"),
        false => format!("{what} {float}; with int8 {integers} ({ratio:.2}x)\n"),
    }
}

fn moved(drift: &Drift) -> String {
    let name = &drift.answer;
    let how = match drift.moved {
        Moved::By { mean, largest, .. } => {
            let [mean, largest] = [mean, largest].map(|share| 100.0 * share);
            format!("moves by {mean:.2} % in the mean, {largest:.1} % at most")
        }
        Moved::Changed { elements, of } => {
            format!("changes in {} of {}", terminal::grouped(elements as u64), terminal::counted(of, "element"))
        }
        Moved::Unknown { .. } => "was not compared".to_owned(),
        Moved::WeightsAlone { .. } => "computes in f32, by the weights that the integers stand for".to_owned(),
        Moved::Untouched => "reads nothing that was rounded".to_owned(),
        Moved::Gone { .. } => "is left out: the weights lost channels that it needs".to_owned(),
    };
    format!("{QUIET}answer{QUIET:#} `{name}` {how}\n")
}

/// How much the measure drops with one alone quantised.
pub(super) fn alone(drop: Option<f64>, measured: Option<&Measured>) -> String {
    let told = |(drop, Measured { better, values, .. }): (f64, &Measured)| {
        format!(" ({} alone)", terminal::drop(*better, values[0], drop))
    };
    drop.zip(measured).map_or_else(String::new, told)
}

fn line(row: &Row, measured: Option<&Measured>) -> Vec<String> {
    let time = |seconds: Option<f64>| seconds.map_or(String::new(), terminal::duration);
    let (kind, why) = match row.choice {
        Ok(range) => {
            ("int8", if range.signed { "-128 to 127" } else { "0 to 255" }.to_owned() + kept_though_slower(row))
        }
        Err(reason) => ("f32", reason.to_string()),
    };
    vec![
        row.layer.clone(),
        if row.elements > 0 { terminal::grouped(row.elements as u64) } else { String::new() },
        terminal::grouped(row.products as u64),
        kind.to_owned(),
        time(row.times.map(|times| times.float)),
        time(row.times.map(|times| times.integers)),
        why + &alone(row.drop, measured),
    ]
}

/// What is told of a quantised product that is slower by itself.
fn kept_though_slower(row: &Row) -> &'static str {
    match row.times {
        Some(times) if times.integers > times.float => "; slower by itself, the network is faster",
        _ => "",
    }
}

fn table_line(row: &narrow::Row, measured: Option<&Measured>) -> Vec<String> {
    let elements = row.dims.iter().product::<usize>() as u64;
    let (kind, why) = match row.choice {
        Ok(_) if row.by_floats => ("int8", "in a loop, multiplied as floats".to_owned()),
        Ok(_) => ("int8", "a scale for each row".to_owned()),
        Err(reason) => ("f32", reason.to_string()),
    };
    let none = String::new;
    vec![
        row.path.clone(),
        terminal::grouped(elements),
        none(),
        kind.to_owned(),
        none(),
        none(),
        why + &alone(row.drop, measured),
    ]
}

fn as_json(report: &Report) -> Value {
    let rows = report.rows.iter().map(|row| {
        let choice = match row.choice {
            Ok(range) => json!({"int8": {"scale": range.scale, "signed": range.signed}}),
            Err(reason) => json!({"f32": reason.to_string()}),
        };
        let times = row.times.map(|times| json!({"f32": times.float, "int8": times.integers}));
        let widened = row.widened.as_ref().map(|widened| json!({"by": widened.by, "times": widened.times}));
        json!({"layer": row.layer, "name": row.name, "weights": row.elements, "products": row.products, "choice": choice,
               "seconds": times, "drop": row.drop, "widened": widened})
    });
    let tables = report.tables.iter().map(|row| {
        let refused = row.choice.err().map(|reason| reason.to_string());
        json!({"path": row.path, "dims": row.dims, "int8": row.choice.is_ok(), "f32": refused, "error": row.error,
               "drop": row.drop, "in_loop": row.by_floats})
    });
    let measured = report.measured.as_ref().map(|measured| {
        json!({"metric": measured.metric, "f32": measured.values[0], "int8": measured.values[1],
               "drop": measured.drop(), "examples": measured.examples, "held_out": measured.held_out})
    });
    let times = report.times.map(|times| json!({"f32": times.float, "int8": times.integers, "examples": report.run}));
    let answers = report.answers.iter().map(|Drift { answer, moved }| match moved {
        Moved::By { mean, largest, lost } => json!({"answer": answer, "largest": largest, "mean": mean, "lost": lost}),
        Moved::Changed { elements, of } => json!({"answer": answer, "changed": elements, "of": of}),
        Moved::Unknown { rows } => json!({"answer": answer, "too_few_examples": rows}),
        Moved::WeightsAlone { is_known } => json!({"answer": answer, "f32_by_rounded_weights": is_known}),
        Moved::Untouched => json!({"answer": answer, "untouched": true}),
        Moved::Gone { why } => json!({"answer": answer, "lost_channels": why}),
    });
    json!({
        "measured": measured, "answers": answers.collect::<Vec<_>>(), "seconds": times, "calibrated_on": report.calibrated_on,
        "weights_rounded_by_examples": report.are_fitted, "means_set_right": report.are_shifted, "bytes": report.bytes,
        "layers": rows.collect::<Vec<_>>(), "tables": tables.collect::<Vec<_>>(),
    })
}
