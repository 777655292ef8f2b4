//! `nnc compress FILE --weights W --data DIR --target-speedup 2 --max-drop 0.5 -o OUT`.

use crate::arguments::{Compress, PassOptions};
use crate::plots::comparison::{self, Limits};
use crate::setup::{self, Trained};
use crate::terminal::{self, QUIET, STRONG};
use crate::{Failure, output};
use nnc_driver::checkpoint::Checkpoint;
use nnc_driver::compress::frontier::Target;
use nnc_driver::compress::{Given, LeftOut, Point, Report, Request, Told, Variant, compress};
use nnc_driver::{DriverError, Project};
use nnc_lang::elaborate::{DropUnit, RecipeInfo};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The share of the recipe's epochs that networks are trained on for, unless it is said.
const EPOCHS: f64 = 0.2;

pub(crate) fn run(options: &Compress) -> Result<(), Failure> {
    let (project, loaded) = setup::weighted(&options.file, Some(&options.weights))?;
    check_targets(options, setup::reads(&project, options.data.as_deref(), [options.weights.as_path()]))?;
    let compiler = setup::native(options.threads, options.isa.isa, PassOptions::default())?;
    setup::refuse_quantised(&options.weights, &loaded)?;
    let Compress { file, weights, data, .. } = options;
    let trained = Trained { file, weights, data: data.as_deref() };
    let (recipe, session, dataset) = setup::opened(&project, trained, &compiler, &loaded)?;
    setup::refuse_not_finite(weights, session.store())?;
    let request = request(options, recipe);
    let given = Given { project: &project, recipe, weights: &loaded, dataset: &dataset, compiler: &compiler };
    let bar = terminal::spinner();
    let mut kept = Ok(());
    let mut told = |told: Told<'_>| match (told, &options.keep) {
        (Told::Made { variant, weights }, Some(folder)) if kept.is_ok() => kept = keep(folder, variant, weights),
        (told, _) => doing(told).into_iter().for_each(|message| bar.set_message(message)),
    };
    let report = compress(given, &request, &mut told)?;
    bar.finish_and_clear();
    tell(&report, (&request, recipe, compiler.pool.threads()), options)?;
    // The network that was asked for comes first: what cannot be written beside it does not cost it.
    let chosen = report.chosen.map(|at| &report.points[at]);
    if let Some(chosen) = chosen {
        chosen.weights.stage_to_infer(&options.output)?.commit().map_err(DriverError::from)?;
        if !options.json {
            output::wrote(&options.output, &format!(": {}", chosen.variant))?;
        }
    }
    kept?;
    if let Some(plot) = &options.plot {
        draw(plot, &project, &report, request.target)?;
    }
    chosen.map(drop).ok_or_else(|| Failure::Message(missed(&report, request.target)))
}

/// Nothing is to be known late that can be known early: where the plot and the folder of all networks go. The folder is
/// made when there is something to put in.
fn check_targets(options: &Compress, mut reads: Vec<PathBuf>) -> Result<(), Failure> {
    setup::check_weights_target(&options.output, &reads)?;
    let named = [Some(&options.output), options.plot.as_ref(), options.keep.as_ref()];
    let places: Vec<PathBuf> = named.into_iter().flatten().filter_map(|path| std::path::absolute(path).ok()).collect();
    if let Some(twice) = (1..places.len()).find(|&at| places[..at].contains(&places[at])) {
        let message = format!("{}: this is to be written twice; choose another name", places[twice].display());
        return Err(Failure::Message(message));
    }
    if let Some(plot) = &options.plot {
        reads.push(options.output.clone());
        setup::check_plot_target(plot, &reads)?;
    }
    let is_used =
        |folder: &&PathBuf| folder.exists() && folder.read_dir().map_or(true, |mut inside| inside.next().is_some());
    if let Some(folder) = options.keep.as_ref().filter(is_used) {
        let message =
            format!("--keep {}: there is something already; name a folder that is new or empty", folder.display());
        return Err(Failure::Message(message));
    }
    let folder = options.keep.as_ref().and_then(|folder| std::path::absolute(folder).ok());
    if let Some(place) = folder.as_deref().and_then(|folder| folder.ancestors().find(|above| above.exists())) {
        nnc_data::check_writable(&place.join("a network")).map_err(DriverError::from)?;
    }
    Ok(())
}

fn request(options: &Compress, recipe: &RecipeInfo) -> Request {
    let share = (EPOCHS * recipe.epochs as f64).ceil() as u64;
    Request {
        target: Target { speed_up: options.target_speedup, max_drop: options.max_drop },
        metric: options.metric.clone(),
        answer: options.answer.clone(),
        rows: options.rows,
        epochs: options.epochs.unwrap_or(share),
        group: options.group.get(),
        time: options.seconds,
    }
}

/// What is said of it on a line that changes.
fn doing(told: Told<'_>) -> Option<String> {
    match told {
        Told::Doing(what) => Some(what.to_owned()),
        Told::Training { cut, done, of } => {
            Some(format!("training {cut}: {:.0} %", 100.0 * done as f64 / of.max(1) as f64))
        }
        Told::Made { .. } => None,
    }
}

/// Writes a network into the folder of all, as soon as it is there.
fn keep(folder: &Path, variant: Variant, weights: &Checkpoint) -> Result<(), DriverError> {
    let failed = |source| DriverError::Io { doing: "create", path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    Ok(weights.stage_to_infer(&folder.join(format!("{}.safetensors", variant.file_stem())))?.commit()?)
}

fn draw(plot: &Path, project: &Project, report: &Report, target: Target) -> Result<(), Failure> {
    let points = report.points.iter().map(|point| comparison::Point {
        label: point.variant.to_string(),
        seconds: point.row.median,
        value: point.value,
        is_best: point.is_on_frontier,
    });
    let (first, metric) = (&report.points[0], report.metric.as_str());
    let value = report.better.after(first.value, target.max_drop);
    let limits = Limits { seconds: first.row.median / target.speed_up, value };
    comparison::write(plot, (project, metric), &points.collect::<Vec<_>>(), Some(&limits))
}

fn tell(
    report: &Report,
    (request, recipe, threads): (&Request, &RecipeInfo, usize),
    options: &Compress,
) -> Result<(), Failure> {
    if !report.held_out {
        terminal::print_warning(
            "the data have neither a validation nor a test split: choices are made by what is trained on, and say little \
             of other examples",
        );
    }
    if options.json {
        return output::line(&format!("{:#}", as_json(report)));
    }
    let answer = request.answer.as_deref().or_else(|| recipe.answers.first().map(|answer| answer.name.as_str()));
    let how = format!(
        "{QUIET}answer{} of {}, {}, alternating runs; {} on {}; {} of training after a cut{QUIET:#}\n",
        answer.map_or_else(String::new, |name| format!(" `{name}`")),
        terminal::counted(request.rows, "example"),
        terminal::counted(threads, "thread"),
        report.metric,
        terminal::counted(report.examples, "example"),
        terminal::counted(request.epochs as usize, "epoch"),
    );
    output::print(&(how + &shown(report)))?;
    let Some(test) = report.test else { return Ok(()) };
    let [given, taken] = test.map(|value| terminal::metric(&report.metric, value));
    output::line(&format!("{STRONG}{}{STRONG:#} of the test split {given} -> {taken}", report.metric))
}

fn shown(report: &Report) -> String {
    let heading = ["network", "as", "size", "", "median", "quartiles", "speed", report.metric.as_str(), "drop", ""];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    lines.extend(report.points.iter().enumerate().map(|(at, point)| line(point, report, at)));
    let left_out = report.left_out.iter();
    let left_out = left_out.map(|LeftOut { network, why }| format!("{QUIET}passed over{QUIET:#} {network}: {why}\n"));
    terminal::table(&lines) + &left_out.collect::<String>()
}

fn line(point: &Point, report: &Report, at: usize) -> Vec<String> {
    let note = match (report.chosen == Some(at), point.is_on_frontier) {
        (true, _) => "taken",
        (false, true) => "frontier",
        (false, false) => "",
    };
    vec![
        point.variant.to_string(),
        point.row.form.words.clone(),
        terminal::bytes(point.row.form.bytes as u64),
        format!("{:.0} %", 100.0 * point.row.size),
        terminal::duration(point.row.median),
        format!("{} .. {}", terminal::duration(point.row.low), terminal::duration(point.row.high)),
        format!("{:.2}x", point.row.speed_up),
        terminal::metric(&report.metric, point.value),
        terminal::drop(report.better, report.points[0].value, point.drop),
        note.to_owned(),
    ]
}

/// What is said when no network meets the target: those that come nearest.
fn missed(report: &Report, target: Target) -> String {
    let Target { speed_up, max_drop } = target;
    let metric = &report.metric;
    let before = report.points[0].value;
    let (points, of) = match (report.better.unit(before), max_drop == 1.0) {
        (DropUnit::Points, true) => ("point", " points"),
        (DropUnit::Points, false) => ("points", " points"),
        (DropUnit::PerCent, _) => ("%", " %"),
        (DropUnit::OfItself, _) => ("%", ""),
    };
    let said = |at: usize| {
        let Point { variant, row, drop, .. } = &report.points[at];
        format!("{variant} ({:.2} times as fast, {}{of})", row.speed_up, terminal::drop(report.better, before, *drop))
    };
    let [fastest, best] = report.nearest.map(|found| found.map(said));
    let fastest = fastest.map_or_else(|| "nothing is".to_owned(), |found| format!("the fastest that is: {found}"));
    let best = best.map_or_else(
        || format!("nothing is {speed_up} times as fast"),
        |found| format!("the best that is so fast loses too much: {found}"),
    );
    format!(
        "no network is {speed_up} times as fast and has {metric} within {max_drop} {points}, so nothing was written\n  within \
         {max_drop} {points}, {fastest}\n  {best}\n  a smaller `--target-speedup`, a larger `--max-drop` or more `--epochs` may \
         do; `--keep FOLDER` writes all networks"
    )
}

fn as_json(report: &Report) -> Value {
    let points = report.points.iter().map(|point| {
        let (network, file) = (point.variant.to_string(), point.variant.file_stem());
        json!({"network": network, "file": file, "measured": point.row, "value": point.value, "drop": point.drop,
               "frontier": point.is_on_frontier})
    });
    let left_out = report.left_out.iter().map(|LeftOut { network, why }| json!({"network": network, "why": why}));
    json!({
        "metric": report.metric, "examples": report.examples, "held_out": report.held_out, "chosen": report.chosen,
        "nearest": report.nearest, "test": report.test, "networks": points.collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
    })
}
