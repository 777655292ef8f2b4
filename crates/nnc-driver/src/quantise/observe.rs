//! What activations are like on real examples, and the range that each is quantised by.
//!
//! Three ways to choose it: the least and the largest that was seen; the magnitude that all but a small share stay below; or
//! the one that loses least of the histogram when that is rounded to as many steps, by the relative entropy of Kullback and
//! Leibler (Migacz, "8-bit Inference with TensorRT", 2017).

use crate::bench::failed;
use crate::compiled::{CompiledGraph, Compiler};
use crate::error::DriverError;
use crate::quantise::examples::Examples;
use crate::store::Store;
use nnc_graph::{Graph, ValueId};
use nnc_opt::quantise::{Range, Sources, sites};
use nnc_opt::rewrite::with_results;
use std::collections::{BTreeMap, BTreeSet};

/// How a range is chosen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Method {
    /// Everything that was seen.
    MinMax,
    /// All but the largest magnitudes: this share of the elements, from 0 to 1.
    Percentile(f64),
    /// The least relative entropy.
    Entropy,
}

/// Steps of a histogram.
const BINS: usize = 2048;

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
    /// How many magnitudes lie in each of equal steps up to the largest; empty where nobody asked.
    pub histogram: Vec<u64>,
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
        self.histogram.resize(BINS, 0);
        let steps = BINS as f32 / self.ends().magnitude();
        for value in values {
            self.histogram[((value.abs() * steps) as usize).min(BINS - 1)] += 1;
        }
    }

    /// The range that a method chooses; `None` for what is no finite number, or nothing but zeros.
    pub fn range(&self, method: Method) -> Option<Range> {
        let ends = self.ends();
        let whole = Range::covering(ends.least, ends.most)?;
        let bins = match method {
            Method::MinMax => return Some(whole),
            Method::Percentile(share) => below(&self.histogram, share),
            Method::Entropy => least_entropy(&self.histogram, whole.levels() as usize + 1),
        };
        let limit = ends.magnitude() * bins as f32 / BINS as f32;
        Range::covering(ends.least.max(-limit), ends.most.min(limit))
    }
}

/// How many steps hold this share of what was counted.
fn below(histogram: &[u64], share: f64) -> usize {
    let wanted = share * histogram.iter().sum::<u64>() as f64;
    let mut so_far = 0;
    let enough = histogram.iter().position(|&count| {
        so_far += count;
        so_far as f64 >= wanted
    });
    enough.map_or(BINS, |at| at + 1)
}

/// How many steps a range should hold, so that as many levels tell most of the histogram.
fn least_entropy(histogram: &[u64], levels: usize) -> usize {
    let counts: Vec<f64> = histogram.iter().map(|&count| count as f64).collect();
    let candidates = (levels..=BINS).step_by(8);
    let divergences = candidates.map(|bins| (divergence(&counts, bins, levels), bins));
    divergences.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(BINS, |(_, bins)| bins)
}

/// The relative entropy of the first `bins` steps, what lies beyond counted with the last, against the same in `levels`.
fn divergence(counts: &[f64], bins: usize, levels: usize) -> f64 {
    let total: f64 = counts.iter().sum();
    let beyond: f64 = counts[bins..].iter().sum();
    let mut sum = 0.0;
    for level in 0..levels {
        let (from, to) = (level * bins / levels, (level + 1) * bins / levels);
        let inside = &counts[from..to];
        let occupied = inside.iter().filter(|&&count| count > 0.0).count().max(1);
        let mean = inside.iter().sum::<f64>() / occupied as f64;
        for (at, &count) in (from..to).zip(inside) {
            let reference = if at + 1 == bins { count + beyond } else { count };
            if reference > 0.0 {
                sum += reference / total * (reference / mean.max(1e-9)).ln();
            }
        }
    }
    sum
}

/// What activations are like, by the names of sites: all that is rounded for one, in any of some graphs. A graph that is
/// only one of several programs may lack inputs that others have.
///
/// # Errors
/// What cannot be compiled or run.
pub fn observe<'g>(
    graphs: impl Iterator<Item = &'g Graph>,
    method: Method,
    (compiler, store): (&Compiler, &mut Store),
    examples: &mut dyn Examples,
) -> Result<BTreeMap<String, Observation>, DriverError> {
    let mut found: BTreeMap<String, Observation> = BTreeMap::new();
    let mut programs = Vec::new();
    for graph in graphs {
        let looked = Looked::new(graph);
        found.extend(looked.names().map(|name| (name.to_owned(), Observation::default())));
        programs.push((compiler.compile(&looked.graph)?, looked));
    }
    let passes: &[Look] = if method == Method::MinMax { &[Look::Ends] } else { &[Look::Ends, Look::Counts] };
    for look in passes {
        for (at, (program, looked)) in programs.iter_mut().enumerate() {
            examples.rewind()?;
            while examples.fill(program)? {
                program.run(store).map_err(failed)?;
                looked.look((program, at), *look, &mut found);
            }
        }
    }
    Ok(found)
}

/// A graph that gives out the roots of its sites' activations.
struct Looked {
    graph: Graph,
    /// The name of each of these results, and the sites that are rounded there.
    sites_of: BTreeMap<String, BTreeSet<String>>,
}

impl Looked {
    fn new(graph: &Graph) -> Self {
        let mut by_value: BTreeMap<ValueId, BTreeSet<String>> = BTreeMap::new();
        let sources = Sources::new(graph);
        for site in sites(graph) {
            for root in sources.roots(site.input) {
                by_value.entry(root).or_default().insert(site.name.clone());
            }
        }
        let results: Vec<(String, ValueId)> = by_value.keys().map(|&value| (value.to_string(), value)).collect();
        let sites_of = by_value.into_iter().map(|(value, names)| (value.to_string(), names)).collect();
        Self { graph: with_results(graph, &results), sites_of }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.sites_of.values().flatten().map(String::as_str)
    }

    /// Adds what a run of a program gave, which is the so-manieth of them.
    fn look(&self, (program, at): (&CompiledGraph, usize), look: Look, found: &mut BTreeMap<String, Observation>) {
        for (result, names) in &self.sites_of {
            let Some(bytes) = program.output(result) else { continue };
            let floats = || bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            for name in names {
                let Some(seen) = found.get_mut(name) else { continue };
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

    #[test]
    fn one_outlier_does_not_decide() {
        let mut values: Vec<f32> = (0..100_000).map(|at| at as f32 / 100_000.0).collect();
        values.push(100.0);
        let all = seen(&values);
        assert!(all.range(Method::Percentile(0.999)).unwrap().scale < 2.0 / 255.0);
        assert!(all.range(Method::Entropy).unwrap().scale < 30.0 / 255.0);
    }
}
