//! The curves of a run as SVG: a panel for each loss and metric, against the steps.
//!
//! Thin and pale the means over a few steps, on top of them what the epochs gave, in training and validation. The
//! picture has no background, and its colours stand out from a light page as from a dark one. Quantities that fall by
//! far, as a loss does, have a logarithmic axis.

use nnc_driver::Metrics;
use nnc_driver::train::History;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

const PANEL: (u32, u32) = (480, 320);
const HEAD: u32 = 36;
pub(super) const GREY: RGBColor = RGBColor(128, 128, 128);
pub(super) const TRAIN: RGBColor = RGBColor(61, 130, 196);
const VALIDATION: RGBColor = RGBColor(224, 122, 47);
/// A quantity whose largest value is this many times the smallest has a logarithmic axis.
const FAR: f64 = 30.0;
/// A curve of more epochs than this has no dots.
const DOTS: usize = 50;
/// Letters and figures.
pub(super) const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A curve of one quantity.
struct Curve {
    points: Vec<(f64, f64)>,
    colour: RGBColor,
    /// Pale curves lie below.
    pale: bool,
}

/// What is drawn in a panel.
struct Panel<'h> {
    name: &'h str,
    curves: Vec<Curve>,
}

/// The picture of a run of the recipe `title`.
///
/// # Errors
/// The picture cannot be laid out.
pub(super) fn draw(title: &str, history: &History) -> Result<String, Box<dyn std::error::Error>> {
    let panels = panels(history);
    let columns = panels.len().clamp(1, 2) as u32;
    let rows = (panels.len() as u32).div_ceil(columns).max(1);
    let mut svg = String::new();
    {
        let size = (PANEL.0 * columns, HEAD + PANEL.1 * rows);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let (head, body) = root.split_vertically(HEAD);
        draw_head(&head, title, history)?;
        for (area, panel) in body.split_evenly((rows as usize, columns as usize)).iter().zip(&panels) {
            draw_panel(area, panel)?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// A panel for each quantity that some step or epoch tells of, in the order of the recipe.
fn panels(history: &History) -> Vec<Panel<'_>> {
    let epochs = history.rows.iter().flat_map(|row| row.train.iter().chain(row.validation.iter().flatten()));
    let steps = history.trace.points.iter().flat_map(|point| &point.train);
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in epochs.chain(steps) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.into_iter().map(|name| Panel { name, curves: curves(history, name) }).collect()
}

fn curves(history: &History, name: &str) -> Vec<Curve> {
    let value = |metrics: &Metrics| {
        metrics.iter().find(|(found, _)| found == name).map(|&(_, value)| value).filter(|value| value.is_finite())
    };
    let steps = history.trace.points.iter();
    let steps = steps.filter_map(|point| Some((point.iteration as f64, value(&point.train)?))).collect();
    let train = history.rows.iter();
    let train = train.filter_map(|row| Some((row.iteration as f64, value(&row.train)?))).collect();
    let validation = history.rows.iter();
    let validation =
        validation.filter_map(|row| Some((row.iteration as f64, value(row.validation.as_ref()?)?))).collect();
    let drawn = [(steps, TRAIN, true), (train, TRAIN, false), (validation, VALIDATION, false)];
    drawn.map(|(points, colour, pale)| Curve { points, colour, pale }).into()
}

/// The title, and what the colours mean.
fn draw_head(area: &Area<'_>, title: &str, history: &History) -> Drawn {
    let text =
        |size: u32, colour: RGBColor| (FONT, size).into_font().color(&colour).pos(Pos::new(HPos::Left, VPos::Center));
    let middle = HEAD as i32 / 2 + 4;
    area.draw(&Text::new(title.to_owned(), (16, middle), text(17, GREY)))?;
    let mut labels = vec![("train", TRAIN)];
    if history.rows.iter().any(|row| row.validation.is_some()) {
        labels.push(("validation", VALIDATION));
    }
    let mut right = area.dim_in_pixel().0 as i32 - 16;
    for (label, colour) in labels.into_iter().rev() {
        right -= 22 + 7 * label.len() as i32;
        area.draw(&Circle::new((right, middle), 4, colour.filled()))?;
        area.draw(&Text::new(label, (right + 9, middle), text(13, GREY)))?;
        right -= 14;
    }
    Ok(())
}

fn draw_panel(area: &Area<'_>, panel: &Panel<'_>) -> Drawn {
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for &(_, value) in points() {
        (low, high) = (low.min(value), high.max(value));
    }
    let last = points().map(|&(step, _)| step).fold(1.0, f64::max);
    if low > high {
        return Ok(());
    }
    if low > 0.0 && high / low >= FAR {
        return draw_axes(area, panel, 0.0..last, (low / 1.2..high * 1.2).log_scale());
    }
    // A curve that does not move stands in the middle.
    let margin = if low == high { 0.5 * low.abs().max(1e-3) } else { 0.06 * (high - low) };
    let lowest = if low >= 0.0 { (low - margin).max(0.0) } else { low - margin };
    draw_axes(area, panel, 0.0..last, lowest..high + margin)
}

fn draw_axes<Y>(area: &Area<'_>, panel: &Panel<'_>, steps: Range<f64>, values: Y) -> Drawn
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let label = |size: u32| (FONT, size).into_font().color(&GREY);
    let mut chart = ChartBuilder::on(area)
        .caption(panel.name, label(15))
        .margin(14)
        .x_label_area_size(34)
        .y_label_area_size(56)
        .build_cartesian_2d(steps, values)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .x_labels(6)
        .y_labels(7)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|value| short(*value))
        .label_style(label(12))
        .axis_style(GREY)
        .bold_line_style(GREY.mix(0.25))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for curve in &panel.curves {
        let colour = curve.colour.mix(if curve.pale { 0.4 } else { 1.0 });
        let width = if curve.pale { 1 } else { 2 };
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(width)))?;
        if !curve.pale && curve.points.len() <= DOTS {
            let dots = curve.points.iter().map(|&point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots)?;
        }
    }
    Ok(())
}

/// A number at an axis: `0.05`, `1200`, `3e-6`.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e5).contains(&size) => format!("{}", (value * 1e4).round() / 1e4),
        _ => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnc_driver::train::Row;

    fn history(rows: usize) -> History {
        let row = |at: usize| {
            let loss = vec![("loss".to_owned(), 2.0 / (1 + 20 * at) as f64)];
            let accuracy = ("accuracy".to_owned(), 1.0 - 0.5 / (1 + at) as f64);
            let train = [loss.clone(), vec![accuracy]].concat();
            Row { epoch: at as u64 + 1, iteration: 10 * (at as u64 + 1), train, validation: Some(loss) }
        };
        History { rows: (0..rows).map(row).collect(), ..History::default() }
    }

    #[test]
    fn every_quantity_has_a_panel_and_every_epoch_a_dot() {
        let svg = draw("Digits", &history(5)).unwrap();
        for word in ["<svg", "Digits", "loss", "accuracy", "validation", "step"] {
            assert!(svg.contains(word), "{word}\n{svg}");
        }
        // Train and validation of the loss, train of the accuracy, and two in the head.
        assert_eq!(svg.matches("<circle").count(), 3 * 5 + 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_run_of_one_epoch_and_an_empty_one_are_drawn() {
        for rows in [0, 1] {
            assert!(draw("Digits", &history(rows)).unwrap().contains("</svg>"));
        }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut history = history(3);
        history.rows[1].train[0].1 = f64::NAN;
        history.rows[2].train[0].1 = f64::INFINITY;
        let svg = draw("Digits", &history).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn numbers_at_an_axis_are_short() {
        let shown = [0.0, 0.25, 0.1 + 0.2, 1200.0, -3.0, 3.2e-6].map(short);
        assert_eq!(shown, ["0", "0.25", "0.3", "1200", "-3", "3e-6"]);
    }
}
