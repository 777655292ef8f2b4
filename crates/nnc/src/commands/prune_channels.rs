//! `nnc prune FILE --weights W --channels SHARE -o OUT`.

use crate::arguments::Prune;
use crate::terminal;
use crate::{Failure, output, setup};
use nnc_driver::prune::channels::{Report, Request, Row, prune_channels};
use nnc_driver::prune::stage;
use nnc_driver::{DriverError, Project, Session};
use serde_json::{Value, json};

pub(crate) fn run(
    session: &mut Session<'_>,
    project: &Project,
    (options, share): (&Prune, f64),
    metadata: Option<&str>,
) -> Result<(), Failure> {
    let (scope, multiple, over) = (options.scope, options.multiple, options.over.clone());
    let rows = setup::rows(&options.file)?.unwrap_or(1);
    let timed = options.by_time.then_some(rows);
    let report = prune_channels(session, project, &Request { share, scope, multiple, over, timed })?;
    stage(&options.output, session.store(), metadata)?.commit().map_err(DriverError::from)?;
    if options.json {
        return output::json_of(as_json(&report), &options.output);
    }
    output::print(&shown(&report))?;
    output::wrote(&options.output, "")
}

fn shown(report: &Report) -> String {
    let mut lines = vec![["channels of", "before", "after", "multiply-adds", "after", "left alone"].map(str::to_owned)];
    for row in &report.rows {
        let channels = row.channels.map(|count| in_groups(count, row.width));
        let numbers = numbers(channels, row.multiply_adds, row.stays.is_some());
        let why = row.stays.map_or(String::new(), |stays| stays.to_string());
        let [before, after, cost, cost_after] = numbers;
        lines.push([layers(row), before, after, cost, cost_after, why]);
    }
    let lines: Vec<Vec<String>> = lines.into_iter().map(|line| line.to_vec()).collect();
    let [before, after] = report.multiply_adds;
    let share = |now: f64, then: f64| format!("{:.1} %", 100.0 * now / then.max(1.0));
    let [elements, elements_after] = report.elements.map(|count| terminal::grouped(count as u64));
    let [bytes, bytes_after] = report.bytes.map(|bytes| terminal::bytes(bytes as u64));
    let has_more = report.rows.iter().any(|row| names(row).len() > NAMED);
    let how_all = if has_more { "`--json` names all layers\n" } else { "" };
    terminal::table(&lines)
        + how_all
        + &format!(
            "multiply-adds {} -> {} ({})\n",
            terminal::grouped(before),
            terminal::grouped(after),
            share(after as f64, before as f64)
        )
        + &format!(
            "parameters {elements} -> {elements_after} ({}), {bytes} -> {bytes_after}\n",
            share(report.elements[1] as f64, report.elements[0] as f64)
        )
}

/// Channels and multiply-adds before and after; of what was left alone the channels.
fn numbers([before, after]: [String; 2], costs: [u64; 2], is_left_alone: bool) -> [String; 4] {
    let [cost, cost_after] = costs.map(terminal::grouped);
    match is_left_alone {
        true => [before, String::new(), String::new(), String::new()],
        false => [before, after, cost, cost_after],
    }
}

/// Channels, and in how many groups they are where several go at once.
fn in_groups(count: usize, width: usize) -> String {
    match width {
        1 => terminal::grouped(count as u64),
        _ => format!("{} in {count}", terminal::grouped((count * width) as u64)),
    }
}

/// Layers that a line names.
const NAMED: usize = 2;

/// The first layers that have the channels of a group, and how many more there are.
fn layers(row: &Row) -> String {
    let mut names = names(row);
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}

/// The layers that have the channels of a group.
fn names(row: &Row) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (path, _) in &row.members {
        let layer = path.rsplit_once('.').map_or(path.as_str(), |(layer, _)| layer);
        if !names.contains(&layer) {
            names.push(layer);
        }
    }
    names
}

fn as_json(report: &Report) -> Value {
    let member = |(path, axis): &(String, usize)| json!({"parameter": path, "axis": axis});
    let group = |row: &Row| {
        json!({
            "members": row.members.iter().map(member).collect::<Vec<_>>(),
            "channels": row.channels,
            "channels_of_each": row.width,
            "multiply_adds": row.multiply_adds,
            "left_alone": row.stays.map(|stays| stays.to_string()),
        })
    };
    json!({
        "groups": report.rows.iter().map(group).collect::<Vec<_>>(),
        "multiply_adds": report.multiply_adds,
        "elements": report.elements,
        "bytes": report.bytes,
    })
}
