//! What activations are like on real examples, and the range that each is quantised by.
//!
//! It is all that was seen, or a part of it that a [`Histogram`] of magnitudes says.

use crate::compiled::{CompiledGraph, Compiler};
use crate::error::DriverError;
use crate::quantise::examples::{Examples, run_all};
use crate::quantise::histogram::Histogram;
use crate::store::Store;
use nnc_graph::{Graph, ValueId};
use nnc_opt::quantise::{Range, Sources, sites};
use nnc_opt::rewrite::with_results;
use std::collections::{BTreeMap, BTreeSet};

/// How a range is chosen.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub enum Method {
    /// Everything that was seen.
    MinMax,
    /// All but the largest magnitudes: this share of what is not 0, from 0 to 1.
    Percentile(f64),
    /// The least squared error of rounding and of what is cut off.
    #[default]
    SquaredError,
    /// The least relative entropy.
    Entropy,
}

/// The least and the largest of some elements; of none, infinities of the wrong sign. A NaN makes both ends one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ends {
    /// The least element.
    pub least: f32,
    /// The largest.
    pub most: f32,
}

impl Ends {
    /// Those of nothing.
    const NONE: Self = Self { least: f32::INFINITY, most: f32::NEG_INFINITY };

    /// The ends of the elements of both.
    fn and(self, other: Self) -> Self {
        Self {
            least: if other.least < self.least || other.least.is_nan() { other.least } else { self.least },
            most: if other.most > self.most || other.most.is_nan() { other.most } else { self.most },
        }
    }

    /// The largest magnitude.
    pub fn magnitude(self) -> f32 {
        if self.least.is_nan() { f32::NAN } else { self.most.max(-self.least) }
    }
}

/// What was seen of a tensor of activations.
#[derive(Clone, Default, Debug)]
pub struct Observation {
    /// What each program showed, in their order.
    pub by_program: Vec<Ends>,
    /// How large they are, where somebody asked.
    pub histogram: Histogram,
}

impl Observation {
    /// What all programs showed.
    pub fn ends(&self) -> Ends {
        self.by_program.iter().fold(Ends::NONE, |all, &ends| all.and(ends))
    }

    fn extend(&mut self, program: usize, values: impl Iterator<Item = f32>) {
        let known = self.by_program.len().max(program + 1);
        self.by_program.resize(known, Ends::NONE);
        let ends = &mut self.by_program[program];
        *ends = values.fold(*ends, |ends, value| ends.and(Ends { least: value, most: value }));
    }

    fn count(&mut self, values: impl Iterator<Item = f32>) {
        let largest = self.ends().magnitude();
        self.histogram.count(values, largest);
    }

    /// The range that a method chooses; `None` for what is no finite number, or nothing but zeros.
    pub fn range(&self, method: Method) -> Option<Range> {
        let ends = self.ends();
        let whole = Range::covering(ends.least, ends.most)?;
        let levels = whole.levels() as usize;
        let share = match method {
            Method::MinMax => 1.0,
            Method::Percentile(share) => self.histogram.below(share),
            Method::SquaredError => self.histogram.least_error(levels),
            Method::Entropy => self.histogram.least_entropy(levels),
        };
        let limit = (f64::from(ends.magnitude()) * share) as f32;
        Range::covering(ends.least.max(-limit), ends.most.min(limit))
    }
}

/// What is looked at for a product.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Its activations.
    Input,
    /// What these are sums of: [`Sources::summands`].
    Summands,
}

/// What was seen, by the names of sites.
pub type Observations = BTreeMap<(String, Role), Observation>;

/// What activations are like: all that is rounded for a site, in any of some graphs. A graph that is only one of
/// several programs may lack inputs that others have.
///
/// # Errors
/// What cannot be compiled or run.
pub fn observe<'g>(
    graphs: impl Iterator<Item = &'g Graph>,
    method: Method,
    (compiler, store): (&Compiler, &mut Store),
    examples: &mut dyn Examples,
) -> Result<Observations, DriverError> {
    let mut found = Observations::new();
    let mut programs = Vec::new();
    for graph in graphs {
        let looked = Looked::new(graph);
        found.extend(looked.sought().map(|sought| (sought.clone(), Observation::default())));
        programs.push((compiler.compile(&looked.graph)?, looked));
    }
    let passes: &[Look] = if method == Method::MinMax { &[Look::Ends] } else { &[Look::Ends, Look::Counts] };
    for look in passes {
        for (at, (program, looked)) in programs.iter_mut().enumerate() {
            run_all(program, (store, examples), &mut |program| looked.look((program, at), *look, &mut found))?;
        }
    }
    Ok(found)
}

/// A graph that gives out the roots of its sites' activations, and what these are sums of.
struct Looked {
    graph: Graph,
    /// The name of each of these results, and what is rounded there.
    sites_of: BTreeMap<String, BTreeSet<(String, Role)>>,
}

impl Looked {
    fn new(graph: &Graph) -> Self {
        let mut by_value: BTreeMap<ValueId, BTreeSet<(String, Role)>> = BTreeMap::new();
        let sources = Sources::new(graph);
        for site in sites(graph) {
            let read = sources.roots(site.input).into_iter().map(|root| (root, Role::Input));
            let summed = sources.summands(site.input).into_iter().map(|summand| (summand, Role::Summands));
            for (value, role) in read.chain(summed) {
                by_value.entry(value).or_default().insert((site.name.clone(), role));
            }
        }
        let results: Vec<(String, ValueId)> = by_value.keys().map(|&value| (value.to_string(), value)).collect();
        let sites_of = by_value.into_iter().map(|(value, names)| (value.to_string(), names)).collect();
        Self { graph: with_results(graph, &results), sites_of }
    }

    fn sought(&self) -> impl Iterator<Item = &(String, Role)> {
        self.sites_of.values().flatten()
    }

    /// Adds what a run of a program gave, which is the so-manieth of them.
    fn look(&self, (program, at): (&CompiledGraph, usize), look: Look, found: &mut Observations) {
        for (result, sought) in &self.sites_of {
            let Some(bytes) = program.output(result) else { continue };
            let floats = || bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            for of in sought {
                let Some(seen) = found.get_mut(of) else { continue };
                match look {
                    Look::Ends => seen.extend(at, floats()),
                    Look::Counts => seen.count(floats()),
                }
            }
        }
    }
}

/// What a pass over the examples finds.
#[derive(Clone, Copy)]
enum Look {
    Ends,
    Counts,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[f32]) -> Observation {
        let mut seen = Observation::default();
        seen.extend(0, values.iter().copied());
        seen.count(values.iter().copied());
        seen
    }

    #[test]
    fn ranges_hold_what_was_seen() {
        let range = seen(&[-1.0, 2.54]).range(Method::MinMax).unwrap();
        assert!(range.signed && (range.scale - 0.02).abs() < 1e-6);
        let range = seen(&[0.0, 51.0]).range(Method::MinMax).unwrap();
        assert!(!range.signed && (range.scale - 0.2).abs() < 1e-6);
    }

    #[test]
    fn nothing_and_nonsense_have_no_range() {
        assert_eq!(seen(&[0.0, 0.0]).range(Method::MinMax), None);
        assert_eq!(seen(&[0.0, f32::NAN]).range(Method::MinMax), None);
        assert_eq!(seen(&[1.0, f32::INFINITY]).range(Method::MinMax), None);
        assert_eq!(seen(&[]).range(Method::MinMax), None);
    }

    #[test]
    fn what_each_program_showed_is_known() {
        let mut seen = Observation::default();
        seen.extend(2, [3.0, -4.0].into_iter());
        seen.extend(0, [1.0].into_iter());
        assert_eq!(seen.by_program[1], Ends::NONE);
        assert_eq!((seen.by_program[2].magnitude(), seen.ends()), (4.0, Ends { least: -4.0, most: 3.0 }));
        seen.extend(1, [f32::NAN].into_iter());
        assert!(seen.ends().magnitude().is_nan());
    }

    /// Numbers of the normal distribution (Box and Muller), spread evenly: the same in each run.
    fn normal(count: usize) -> impl Iterator<Item = f32> {
        let even = move |at: usize| (at as f32 + 0.5) / count as f32;
        let turn = |at: usize| (at as f64 * 0.618_033_988_749_895).fract() as f32 * std::f32::consts::TAU;
        (0..count).map(move |at| (-2.0 * even(at).ln()).sqrt() * turn(at).cos())
    }

    /// Activations as networks have them.
    fn activations() -> Vec<(&'static str, Vec<f32>)> {
        let (count, every) = (60_000, |at: usize, nth: usize| at.is_multiple_of(nth));
        let relu =
            |zeros: usize| normal(count).enumerate().map(move |(at, x)| if at % 20 < zeros { 0.0 } else { x.abs() });
        let even = move |at: usize| at as f32 / count as f32;
        let gelu = |x: f32| x * 0.5 * (1.0 + (0.8 * (x + 0.044_715 * x.powi(3))).tanh());
        vec![
            ("gaussian", normal(count).collect()),
            ("of few examples", normal(2000).collect()),
            ("uniform", (0..count).map(even).collect()),
            ("uniform of both signs", (0..count).map(|at| 2.0 * even(at) - 1.0).collect()),
            ("half of it zeros", relu(10).collect()),
            ("hardly anything but zeros", relu(19).collect()),
            (
                "zeros and some large ones",
                relu(12).enumerate().map(|(at, x)| if every(at, 9000) { 4.0 * x } else { x }).collect(),
            ),
            ("gelu", normal(count).map(|x| gelu(2.0 * x)).collect()),
            ("exponential", (0..count).map(|at| -(even(at) + 0.5 / count as f32).ln()).collect()),
            ("shares", normal(count).map(|x| 1.0 / (1.0 + (4.0 - 3.0 * x).exp())).collect()),
        ]
    }

    /// The mean squared error of activations by a range.
    fn error(values: &[f32], range: Range) -> f64 {
        let least = if range.signed { -128.0 } else { 0.0 };
        let rounded = |x: f32| (x / range.scale).round_ties_even().clamp(least, range.levels()) * range.scale;
        values.iter().map(|&x| f64::from(x - rounded(x)).powi(2)).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn every_method_finds_a_range_that_loses_little() {
        for (name, values) in activations() {
            let seen = seen(&values);
            let whole = seen.range(Method::MinMax).unwrap();
            let shrunk = (1..=100).map(|part| Range { scale: whole.scale * part as f32 / 100.0, ..whole });
            let least = shrunk.map(|range| error(&values, range)).fold(f64::MAX, f64::min);
            let methods = [
                (Method::MinMax, 2.0),
                (Method::Percentile(0.9999), 2.5),
                (Method::SquaredError, 1.05),
                (Method::Entropy, 2.0),
            ];
            for (method, most) in methods {
                let found = error(&values, seen.range(method).unwrap()) / least;
                assert!(found < most, "{name} by {method:?}: {found:.2} times the least error");
            }
        }
    }

    #[test]
    fn one_outlier_does_not_decide() {
        let mut values: Vec<f32> = (0..100_000).map(|at| at as f32 / 100_000.0).collect();
        values.push(100.0);
        let all = seen(&values);
        assert!(all.range(Method::Percentile(0.999)).unwrap().scale < 2.0 / 255.0);
        assert!(all.range(Method::Entropy).unwrap().scale < 30.0 / 255.0);
    }
}
