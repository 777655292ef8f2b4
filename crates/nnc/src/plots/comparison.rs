//! Networks beside each other as SVG: a measure against the time of a run, a dot for each file of weights.
//!
//! The picture has no background, as that of the curves.

use super::curves::{FONT, GREY, TRAIN, short};
use crate::Failure;
use nnc_driver::{DriverError, Project};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::ops::Range;
use std::path::Path;

/// A network.
pub(crate) struct Point {
    /// What it is called.
    pub(crate) label: String,
    /// Seconds of a run.
    pub(crate) seconds: f64,
    /// The measure.
    pub(crate) value: f64,
    /// Whether it stands out: others have an empty dot.
    pub(crate) is_best: bool,
}

/// What a network is to reach: seconds of a run at most, and a measure.
pub(crate) struct Limits {
    /// Seconds of a run.
    pub(crate) seconds: f64,
    /// The measure.
    pub(crate) value: f64,
}

/// Writes the picture of some networks of a project, as [`draw`] makes it.
///
/// # Errors
/// It cannot be laid out or written; an earlier one then stands.
pub(crate) fn write(
    plot: &Path,
    (project, measure): (&Project, &str),
    points: &[Point],
    limits: Option<&Limits>,
) -> Result<(), Failure> {
    let title = project.path.file_name().unwrap_or_default().to_string_lossy();
    let svg = draw(&title, measure, points, limits).map_err(|error| Failure::Message(format!("no plot: {error}")))?;
    Ok(nnc_data::write_atomically(plot, |to| to.write_all(svg.as_bytes())).map_err(DriverError::from)?)
}

/// Width and height of the picture.
const SIZE: (u32, u32) = (640, 420);
/// Pixels from a line of words to the next.
const LINE: i32 = 14;
/// Dots whose heights differ by less than this share of the picture's are at one.
const NEAR: f64 = 0.04;

/// The picture of some networks by a measure called `measure`; those whose measure is no finite number are left out.
/// Lines show the limits, if there are some.
///
/// # Errors
/// The picture cannot be laid out.
fn draw(title: &str, measure: &str, points: &[Point], limits: Option<&Limits>) -> Result<String, Box<dyn Error>> {
    let points: Vec<&Point> = points.iter().filter(|point| point.value.is_finite()).collect();
    let milliseconds = |point: &Point| point.seconds * 1e3;
    let limit = |of: fn(&Limits) -> f64| limits.into_iter().map(of);
    let times = span(points.iter().map(|point| milliseconds(point)).chain(limit(|limits| limits.seconds * 1e3)));
    let values = span(points.iter().map(|point| point.value).chain(limit(|limits| limits.value)));
    let middle = (times.start + times.end) / 2.0;
    let is_right = |point: &Point| milliseconds(point) > middle;
    let near = NEAR * (values.end - values.start);
    // Words of dots at one height lie below each other.
    let line = |at: usize| {
        let is_met =
            |other: &&&Point| is_right(other) == is_right(points[at]) && (other.value - points[at].value).abs() < near;
        points[..at].iter().filter(is_met).count() as i32
    };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let label = |size: u32| (FONT, size).into_font().color(&GREY);
        let mut chart = ChartBuilder::on(&root)
            .caption(title, label(17))
            .margin(14)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(times.clone(), values.clone())?;
        chart
            .configure_mesh()
            .x_desc("milliseconds of a run")
            .y_desc(measure)
            .x_label_formatter(&|time| short(*time))
            .y_label_formatter(&|value| short(*value))
            .label_style(label(12))
            .axis_style(GREY)
            .bold_line_style(GREY.mix(0.25))
            .light_line_style(TRANSPARENT)
            .draw()?;
        if let Some(limits) = limits {
            let (time, value) = (limits.seconds * 1e3, limits.value);
            let lines = [[(time, values.start), (time, values.end)], [(times.start, value), (times.end, value)]];
            let dashed = |line: [(f64, f64); 2]| DashedPathElement::new(line, 4, 4, GREY.mix(0.8));
            chart.draw_series(lines.map(dashed))?;
        }
        chart.draw_series(points.iter().enumerate().map(|(at, &point)| {
            // Words grow away from the nearer edge.
            let (side, shift) = if is_right(point) { (HPos::Right, -9) } else { (HPos::Left, 9) };
            let words = label(12).pos(Pos::new(side, VPos::Center));
            EmptyElement::at((milliseconds(point), point.value))
                + Circle::new((0, 0), 5, if point.is_best { TRAIN.filled() } else { TRAIN.into() })
                + Text::new(point.label.clone(), (shift, LINE * line(at)), words)
        }))?;
        root.present()?;
    }
    Ok(svg)
}

/// What an axis shows of some values: all of them, and a margin.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    match high - low {
        width if width > 0.0 => low - 0.12 * width..high + 0.12 * width,
        _ if low.is_finite() => low - 0.5 * low.abs().max(1e-6)..low + 0.5 * low.abs().max(1e-6),
        _ => 0.0..1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(label: &str, seconds: f64, value: f64) -> Point {
        Point { label: label.to_owned(), seconds, value, is_best: true }
    }

    #[test]
    fn every_network_has_a_dot_and_its_name() {
        let points = [point("dense", 2e-3, 0.98), point("small", 1e-3, 0.97), point("lost", 1e-3, f64::NAN)];
        let svg = draw("Digits", "accuracy", &points, None).unwrap();
        for word in ["Digits", "accuracy", "milliseconds", "dense", "small"] {
            assert!(svg.contains(word), "{word}\n{svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("lost"), "{svg}");
    }

    #[test]
    fn limits_are_in_the_picture() {
        let points = [Point { is_best: false, ..point("dense", 2e-3, 0.98) }, point("small", 1.9e-3, 0.97)];
        let limits = Limits { seconds: 1e-3, value: 0.975 };
        let svg = draw("Digits", "accuracy", &points, Some(&limits)).unwrap();
        let without = draw("Digits", "accuracy", &points, None).unwrap();
        assert!(svg.matches("<polyline").count() > without.matches("<polyline").count(), "{svg}");
        assert_eq!(
            svg.matches("fill=\"none\" stroke").count() - svg.matches("<polyline fill=\"none\" stroke").count(),
            1
        );
    }

    #[test]
    fn names_of_dots_at_one_height_lie_below_each_other() {
        let points = [point("a", 2e-3, 0.98), point("b", 2.01e-3, 0.98), point("c", 1e-3, 0.9)];
        let svg = draw("Digits", "accuracy", &points, None).unwrap();
        let height = |name: &str| {
            let before = svg.split(&format!("\n{name}\n")).next().unwrap();
            before.rsplit(" y=\"").next().unwrap().split('"').next().unwrap().parse::<i32>().unwrap()
        };
        assert_eq!(height("b") - height("a"), LINE);
    }

    #[test]
    fn one_network_and_none_are_drawn() {
        for points in [&[point("only", 1e-3, 0.5)][..], &[]] {
            assert!(draw("Digits", "accuracy", points, None).unwrap().contains("</svg>"));
        }
    }
}
