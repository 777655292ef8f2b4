//! What a person sees: colours, errors, numbers, tables.

use crate::arguments::Colour;
use crate::output;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use nnc_driver::Metrics;
use nnc_lang::diagnostic::{Diagnostic, Severity, Sources, render};
use nnc_lang::elaborate::{Better, DropUnit, LEAST_OF_PER_CENT};
use nnc_opt::PassLog;
use nnc_stub::present::printable;
use std::time::Duration;

pub(crate) use nnc_driver::units::bytes;

pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const CAREFUL: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const QUIET: Style = AnsiColor::BrightBlack.on_default();
pub(crate) const STRONG: Style = Style::new().bold();

/// Fixes when output is coloured.
pub(crate) fn choose_colours(colour: Colour) {
    match colour {
        Colour::Auto => {}
        Colour::Always => anstream::ColorChoice::Always.write_global(),
        Colour::Never => anstream::ColorChoice::Never.write_global(),
    }
}

/// An error in one paragraph.
pub(crate) fn print_error(message: &str) {
    output::remark(&format!("{BAD}error{BAD:#}: {}", printable(message)));
}

/// A warning in one line.
pub(crate) fn print_warning(message: &str) {
    output::remark(&format!("{CAREFUL}warning{CAREFUL:#}: {message}"));
}

/// Diagnostics with their source, and a count.
pub(crate) fn print_diagnostics(diagnostics: &[Diagnostic], sources: &Sources) {
    // `anstream` takes the colours out again where they do not belong.
    let mut text = render(diagnostics, sources, true);
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity() == Severity::Error).count();
    if errors > 0 {
        text += &format!("{BAD}{}{BAD:#}\n", counted(errors, "error"));
    }
    output::remark(text.trim_end_matches('\n'));
}

/// A line that says what is being done, while it is.
pub(crate) fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let bar = ProgressBar::new_spinner();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{} {what}s", grouped(count as u64)) }
}

/// A kernel's name, and how often it runs in a run if that is not once; what runs once for all runs is never run again.
pub(crate) fn repeated(name: &str, runs: u64) -> String {
    match runs {
        0 => format!("{name}, once"),
        1 => name.to_owned(),
        _ => format!("{} x {name}", grouped(runs)),
    }
}

/// `1 234 567`, with thin groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}

/// `12.3 µs`.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), s % 60.0),
    }
}

/// `loss 0.0431  accuracy 98.71 %`.
pub(crate) fn metrics(metrics: &Metrics) -> String {
    let one = |(name, value): &(String, f64)| format!("{name} {}", metric(name, *value));
    metrics.iter().map(one).collect::<Vec<_>>().join("  ")
}

/// A rate between 0 and 1 as per cent, by its name; other values with four significant digits.
pub(crate) fn metric(name: &str, value: f64) -> String {
    let rate = ["accuracy", "precision", "recall"].iter().any(|word| name.contains(word));
    match value {
        value if rate => format!("{:.2} %", value * 100.0),
        value if value == 0.0 || (1e-3..1e5).contains(&value.abs()) => format!("{value:.4}"),
        value => format!("{value:.3e}"),
    }
}

/// By how much a measure got worse that was `before`: in points or per cent, but of what was 0 in itself.
pub(crate) fn drop(better: Better, before: f64, drop: f64) -> String {
    match better.unit(before) {
        DropUnit::Points | DropUnit::PerCent => format!("{drop:+.2}"),
        DropUnit::OfItself => format!("{:+.4} from 0", drop / 100.0 * LEAST_OF_PER_CENT),
    }
}

/// Columns as wide as their widest cell: the first to the left, the others to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let fill = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            match column {
                0 => line += &format!("{cell}{fill}"),
                _ => line += &format!("  {fill}{cell}"),
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// What each pass took, and what it did.
pub(crate) fn passes(log: &PassLog) -> String {
    let mut rows = vec![["pass", "time", "rewrites", "nodes"].map(str::to_owned).to_vec()];
    for record in &log.records {
        let nodes = format!("{} -> {}", record.nodes_before, record.nodes_after);
        let time = duration(record.time.as_secs_f64());
        rows.push(vec![record.pass.to_owned(), time, record.rewrites.to_string(), nodes]);
    }
    rows.extend(log.later.iter().map(|(step, time)| vec![(*step).to_owned(), duration(time.as_secs_f64())]));
    rows.push(vec!["all".to_owned(), duration(log.time().as_secs_f64()), log.rewrites().to_string()]);
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
        assert_eq!(bytes(1_404), "1.4 kB");
        assert_eq!(duration(0.000_012_34), "12.3 µs");
        assert_eq!(duration(125.0), "2 min 05 s");
        assert_eq!(metric("accuracy", 0.98714), "98.71 %");
        assert_eq!(metric("loss", 0.043_12), "0.0431");
        let told = |name: &str, before: f64, after: f64| {
            let better = Better::of(name);
            drop(better, before, better.worse_by(before, after))
        };
        assert_eq!(told("accuracy", 0.9, 0.89), "+1.00");
        assert_eq!(
            (told("error", 0.5, 0.51), told("error", 0.0, 0.0)),
            ("+2.00".to_owned(), "+0.0000 from 0".to_owned())
        );
        assert_eq!(
            (told("error", 0.0, 0.25), told("reward", 0.0, 0.25)),
            ("+0.2500 from 0".to_owned(), "-0.2500 from 0".to_owned())
        );
        assert_eq!(counted(1, "error"), "1 error");
    }
}
