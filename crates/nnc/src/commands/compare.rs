//! `nnc bench FILE --weights W --compare V...`.

use crate::arguments::{Bench, PassOptions};
use crate::plots::comparison::{self, Point};
use crate::terminal::{self, GOOD, QUIET, STRONG};
use crate::{Failure, output, setup};
use nnc_driver::checkpoint::{self, Checkpoint};
use nnc_driver::compare::{Row, Wanted, Weights, compare, measure};
use nnc_driver::{Compiler, DriverError, Metrics, Project, quantise};
use nnc_lang::elaborate::RecipeInfo;
use serde_json::json;
use std::path::Path;

/// What is measured of a recipe, beside the time.
struct Measure {
    /// The one that is told.
    name: String,
    /// Examples of the test split.
    examples: usize,
}

pub(crate) fn run(options: &Bench, weights: &Path) -> Result<(), Failure> {
    let paths: Vec<&Path> = [weights].into_iter().chain(options.compare.iter().map(|path| path.as_path())).collect();
    let project = setup::project(&options.file)?;
    if let Some(plot) = &options.plot {
        setup::check_plot_target(plot, &setup::reads(&project, options.data.as_deref(), paths.iter().copied()))?;
    }
    let compiler = setup::native(options.threads, options.isa.isa, PassOptions::default())?;
    let loaded: Vec<Checkpoint> = paths.iter().map(|path| checkpoint::load(path)).collect::<Result<_, _>>()?;
    let files: Vec<Weights<'_>> = paths.iter().copied().zip(&loaded).collect();
    let (only, answer) = (options.file.only.as_deref(), options.answer.as_deref());
    let measured = measured(&project, options, &files, &compiler)?;
    let rows = setup::rows(&options.file)?.unwrap_or(1);
    let wanted = Wanted { only, answer, rows, time: options.seconds };
    let mut found = compare(&project, &files, wanted, &compiler)?;
    let measure = measured.map(|(measure, of_files)| {
        found.iter_mut().zip(of_files).for_each(|(row, metrics)| row.metrics = Some(metrics.into_iter().collect()));
        measure
    });
    if let Some(plot) = &options.plot {
        draw(plot, &project, &found, measure.as_ref())?;
    }
    if options.json {
        let (name, examples) = (measure.as_ref().map(|all| &all.name), measure.as_ref().map(|all| all.examples));
        let told = json!({"rows": rows, "metric": name, "examples": examples, "files": found});
        return output::line(&format!("{told:#}"));
    }
    let title = format!(
        "{QUIET}answer of {}, {}, alternating runs{QUIET:#}\n",
        terminal::counted(rows, "example"),
        terminal::counted(compiler.pool.threads(), "thread")
    );
    output::print(&(title + &shown(&found, measure.as_ref())))?;
    match &options.plot {
        Some(plot) => output::line(&format!("{GOOD}wrote{GOOD:#} {STRONG}{}{STRONG:#}", plot.display())),
        None => Ok(()),
    }
}

/// The measures of each file, if the network has a recipe whose data are there, with a test split.
fn measured(
    project: &Project,
    options: &Bench,
    files: &[Weights<'_>],
    compiler: &Compiler,
) -> Result<Option<(Measure, Vec<Metrics>)>, Failure> {
    let is_asked = options.data.is_some() || options.metric.is_some() || options.plot.is_some();
    if project.unit.recipes.is_empty() {
        return without(is_asked, "there is no recipe that says how good a network is");
    }
    let recipe = project.recipe(options.file.only.as_deref())?;
    let name = quantise::metric(recipe, options.metric.as_deref())?;
    let root = options.data.as_deref().unwrap_or(project.folder());
    let (mut metrics, mut examples) = (Vec::new(), 0);
    for &file in files {
        match measure(project, recipe, file, (root, compiler)) {
            Ok(Some((of_file, count))) => {
                if let (true, Some((_, value))) = (metrics.is_empty(), of_file.iter().find(|(found, _)| *found == name))
                {
                    quantise::check_value(recipe, &name, *value)?;
                }
                metrics.push(of_file);
                examples = count;
            }
            Ok(None) => return without(is_asked, &no_test(recipe)),
            Err(DriverError::Data(error)) => return without(is_asked, &format!("the data cannot be read: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some((Measure { name, examples }, metrics)))
}

fn no_test(recipe: &RecipeInfo) -> String {
    format!("data `{}` has no test split: add `test: ... = ...` or `test = 0.2`", recipe.data)
}

/// No measure, for a reason: a mistake if one was asked for.
fn without<T>(is_asked: bool, why: &str) -> Result<Option<T>, Failure> {
    match is_asked {
        true => Err(Failure::Message(format!("nothing is measured: {why}"))),
        false => {
            output::remark(&format!("times alone: {why}"));
            Ok(None)
        }
    }
}

fn shown(rows: &[Row], measure: Option<&Measure>) -> String {
    let mut heading =
        ["weights", "as", "zeros", "size", "", "median", "quartiles", "speed"].map(str::to_owned).to_vec();
    heading.extend(measure.map(|measure| measure.name.clone()));
    let lines = rows.iter().map(|row| line(row, measure));
    let table = terminal::table(&std::iter::once(heading).chain(lines).collect::<Vec<_>>());
    let note = measure.map_or_else(String::new, |measure| {
        let examples = terminal::counted(measure.examples, "example");
        format!("{STRONG}{}{STRONG:#} on {examples} of the test split\n", measure.name)
    });
    table + &note
}

fn line(row: &Row, measure: Option<&Measure>) -> Vec<String> {
    let mut cells = vec![
        row.weights.clone(),
        row.form.words.clone(),
        format!("{:.1} %", 100.0 * row.form.zeros),
        terminal::bytes(row.form.bytes as u64),
        format!("{:.0} %", 100.0 * row.size),
        terminal::duration(row.median),
        format!("{} .. {}", terminal::duration(row.low), terminal::duration(row.high)),
        format!("{:.2}x", row.speed_up),
    ];
    cells.extend(value(row, measure).map(|(name, value)| terminal::metric(name, value)));
    cells
}

/// The measure that is told, by its name.
fn value<'m>(row: &Row, measure: Option<&'m Measure>) -> Option<(&'m str, f64)> {
    let name = measure?.name.as_str();
    Some((name, *row.metrics.as_ref()?.get(name)?))
}

fn draw(plot: &Path, project: &Project, rows: &[Row], measure: Option<&Measure>) -> Result<(), Failure> {
    let point = |row: &Row| {
        let value = value(row, measure)?.1;
        Some(Point {
            label: format!("{} ({})", row.weights, row.form.words),
            seconds: row.median,
            value,
            is_best: true,
        })
    };
    let points: Vec<Point> = rows.iter().filter_map(point).collect();
    let name = measure.map_or("", |measure| measure.name.as_str());
    comparison::write(plot, (project, name), &points, None)
}
