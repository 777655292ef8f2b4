//! `nnc quantise FILE --weights W --data DIR -o OUT`.

use crate::arguments::{Calibration, Quantise};
use crate::given::Givens;
use crate::terminal::{self, GOOD, QUIET, STRONG};
use crate::{Failure, output, setup};
use indicatif::{ProgressBar, ProgressStyle};
use nnc_driver::answer::AnswerGraphs;
use nnc_driver::checkpoint::Checkpoint;
use nnc_driver::deploy::Deployment;
use nnc_driver::quantise::observe::Method;
use nnc_driver::quantise::{Outcome, Reason, Report, Request, Row, file, quantise, quantise_model};
use nnc_driver::{Compiler, Dataset, DriverError, Learned, Project, Session, dataset, executable};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

/// Terms that share a scale, unless it is said.
const DEFAULT_GROUP: usize = 64;

pub(crate) fn run(options: &Quantise) -> Result<(), Failure> {
    let inputs: [&Path; 2] = [&options.file.file, &options.weights];
    executable::check_target(&options.output, &inputs).map_err(|error| error.to_string())?;
    let (project, loaded) = setup::weighted(&options.file, Some(&options.weights))?;
    let compiler = setup::native(options.threads, options.isa.isa, options.passes)?;
    setup::refuse_quantised(&options.weights, &loaded)?;
    if let Some(bits) = options.weights_only {
        let form = bits.stored(options.group.map_or(DEFAULT_GROUP, NonZeroUsize::get));
        return super::narrow::run(options, form, (&project, &compiler), loaded);
    }
    let metadata = loaded.metadata.clone();
    let outcome = match project.unit.recipes.is_empty() {
        true => of_model(&project, options, &compiler, loaded)?,
        false => of_recipe(&project, options, &compiler, &loaded)?,
    };
    file::stage(&options.output, &outcome, metadata.as_deref())?.commit().map_err(DriverError::from)?;
    let report = outcome.report;
    warn(&report);
    if options.json {
        return output::line(&format!("{:#}", as_json(&report)));
    }
    output::print(&shown(&report))?;
    output::line(&format!("{GOOD}wrote{GOOD:#} {STRONG}{}{STRONG:#}", options.output.display()))
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
    setup::refuse_batch_size(&options.file)?;
    let recipe = project.recipe(options.file.only.as_deref())?;
    let mut session = Session::without_files(project, &recipe.name, compiler.clone(), 0)?;
    super::eval::load_exactly(&mut session, &options.weights, loaded)?;
    let root = options.data.as_deref().unwrap_or(project.folder());
    let dataset = Dataset::open(
        session.data(),
        root,
        recipe.seed.unwrap_or(0) as u64,
        dataset::Wanted::All,
        &Learned::of(loaded),
    )?;
    let request = request(options);
    let bar = spinner();
    let mut told = |what: &str| bar.set_message(what.to_owned());
    let outcome = quantise((project, recipe), compiler, &loaded.tensors, &dataset, (&request, &mut told))?;
    bar.finish_and_clear();
    Ok(outcome)
}

/// A model by itself, calibrated on one call.
fn of_model(
    project: &Project,
    options: &Quantise,
    compiler: &Compiler,
    mut loaded: Checkpoint,
) -> Result<Outcome, Failure> {
    let rows = setup::rows(&options.file)?.unwrap_or(1);
    let graphs = AnswerGraphs::new(project, options.file.only.as_deref(), None, rows)?;
    let store = setup::weights(project, &graphs, Some(&options.weights), &mut loaded)?;
    let deployment = Deployment::new(&graphs.subject(&loaded), &store, compiler)?;
    let columns = Givens::new(&options.input).columns(deployment.manifest())?;
    let names = deployment.manifest().inputs.iter().map(|port| port.name.clone());
    let inputs = names.zip(columns.into_iter().map(|column| column.bytes.to_vec())).collect();
    let request = request(options);
    Ok(quantise_model(project, &graphs.graph, compiler, (store, &inputs), (&request, rows))?)
}

fn request(options: &Quantise) -> Request {
    let method = match options.range {
        Calibration::MinMax => Method::MinMax,
        Calibration::Percentile => Method::Percentile(options.percentile / 100.0),
        Calibration::Entropy => Method::Entropy,
    };
    let (examples, metric) = (options.examples.get(), options.metric.clone());
    Request { method, examples, metric, max_drop: options.max_drop, measure: !options.all }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(
        ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// An answer whose elements moved further than this in the mean, of its largest magnitude, is worth a warning.
const FAR: f64 = 0.05;

fn warn(report: &Report) {
    for row in &report.rows {
        let layer = &row.layer;
        match row.choice {
            Err(Reason::NeverExercised) => terminal::print_warning(&format!(
                "the calibration examples never exercise `{layer}`: its inputs were all 0"
            )),
            Err(Reason::NotFinite) => terminal::print_warning(&format!(
                "the inputs of `{layer}` hold a NaN or an infinity on calibration examples; it stays f32"
            )),
            Err(Reason::WeightsNotFinite) => {
                terminal::print_warning(&format!("the weights of `{layer}` hold a NaN or an infinity; it stays f32"));
            }
            Ok(_) | Err(Reason::NotTrained | Reason::Small | Reason::Slower | Reason::Accuracy) => {}
        }
    }
    for drift in report.answers.iter().filter(|drift| drift.mean > FAR) {
        let (answer, mean) = (&drift.answer, 100.0 * drift.mean);
        terminal::print_warning(&format!(
            "answer `{answer}` moves by {mean:.0} % of its largest magnitude in the mean"
        ));
    }
    if report.rows.iter().all(|row| row.choice.is_err()) {
        let slower = report.rows.iter().any(|row| row.choice == Err(Reason::Slower));
        let advice = if slower { "; `--all` does not ask for the time, for a file that is small" } else { "" };
        terminal::print_warning(&format!("nothing is quantised{advice}"));
    }
}

fn shown(report: &Report) -> String {
    let heading = ["layer", "weights", "multiply-adds", "as", "f32", "int8", "why"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    lines.extend(report.rows.iter().map(line));
    let calibrated = report.calibrated_on.map_or_else(
        || "ranges as they were trained".to_owned(),
        |examples| format!("calibrated on {}", terminal::counted(examples, "example")),
    );
    let metric = report.measured.as_ref().map_or_else(String::new, |measured| {
        let ([before, after], on) = (measured.values, terminal::counted(measured.examples, "example"));
        format!("{STRONG}{}{STRONG:#} {before:.4} -> {after:.4} on {on}; {calibrated}\n", measured.metric)
    });
    let [from, to] = report.bytes;
    let share = 100.0 * to as f64 / from.max(1) as f64;
    let size = format!(
        "{QUIET}weights{QUIET:#} {} -> {} ({share:.1} %)\n",
        terminal::bytes(from as u64),
        terminal::bytes(to as u64)
    );
    let time = report.times.map_or_else(String::new, |times| {
        let [float, integers] = [times.float, times.integers].map(terminal::duration);
        format!("{QUIET}a run{QUIET:#} {float} -> {integers} ({:.2}x)\n", times.float / times.integers)
    });
    let moved = report.answers.iter().fold(String::new(), |text, drift| {
        let [mean, largest] = [drift.mean, drift.largest].map(|share| 100.0 * share);
        let name = &drift.answer;
        text + &format!("{QUIET}answer{QUIET:#} {name} moves by {mean:.2} % in the mean, {largest:.1} % at most\n")
    });
    terminal::table(&lines) + &metric + &moved + &size + &time
}

fn line(row: &Row) -> Vec<String> {
    let time = |seconds: Option<f64>| seconds.map_or(String::new(), terminal::duration);
    let (kind, why) = match row.choice {
        Ok(range) => ("int8", if range.signed { "-128 to 127" } else { "0 to 255" }.to_owned()),
        Err(reason) => ("f32", reason.to_string()),
    };
    let drop = row.drop.map_or(String::new(), |drop| format!(" ({drop:+.2} alone)"));
    vec![
        row.layer.clone(),
        terminal::grouped(row.elements as u64),
        terminal::grouped(row.products as u64),
        kind.to_owned(),
        time(row.times.map(|times| times.float)),
        time(row.times.map(|times| times.integers)),
        why + &drop,
    ]
}

fn as_json(report: &Report) -> Value {
    let rows = report.rows.iter().map(|row| {
        let choice = match row.choice {
            Ok(range) => json!({"int8": {"scale": range.scale, "signed": range.signed}}),
            Err(reason) => json!({"f32": reason.to_string()}),
        };
        let times = row.times.map(|times| json!({"f32": times.float, "int8": times.integers}));
        json!({"layer": row.layer, "name": row.name, "weights": row.elements, "products": row.products, "choice": choice,
               "seconds": times, "drop": row.drop})
    });
    let measured = report.measured.as_ref().map(|measured| {
        json!({"metric": measured.metric, "f32": measured.values[0], "int8": measured.values[1],
               "drop": measured.drop(), "examples": measured.examples})
    });
    let times = report.times.map(|times| json!({"f32": times.float, "int8": times.integers}));
    let answers = report
        .answers
        .iter()
        .map(|drift| json!({"answer": drift.answer, "largest": drift.largest, "mean": drift.mean}));
    json!({
        "measured": measured, "answers": answers.collect::<Vec<_>>(), "seconds": times, "calibrated_on": report.calibrated_on, "bytes": report.bytes,
        "layers": rows.collect::<Vec<_>>(),
    })
}
