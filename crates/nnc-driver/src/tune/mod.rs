//! Tuning: products measured with other schedules of the same bits, and the fastest of each.
//!
//! All products of a program are tried at once: a program is compiled in which each has its second-ranked schedule, one
//! with the third, and so on, and each is run by turns with the program as it is, so that a disturbance meets both.
//! What seems to win by enough is put together and measured once more before it is believed. Choices are kept in a
//! [`Cache`], also those that changed nothing, so that another run measures nothing again. A product of which the time
//! left a schedule unmeasured is not kept: it has the best of what was measured twice, if anything, and is measured
//! anew when there is more time.

mod cache;

pub use cache::Cache;

use crate::bench::{failed, fill_inputs, quantile};
use crate::compiled::{CompiledGraph, Compiler};
use crate::error::DriverError;
use crate::prune;
use crate::store::Store;
use nnc_graph::Graph;
use nnc_kernel::{Alternatives, Choice, KernelReport, Tuning};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A schedule must be faster by this share to be taken.
const LEAST_GAIN: f64 = 0.03;
/// Rounds that a comparison takes at least; with less time it says nothing.
const LEAST_ROUNDS: usize = 5;

/// A product whose schedule was changed.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Win {
    /// How the work was cut, in words.
    pub before: String,
    /// How it is cut.
    pub after: String,
    /// Launches that it is about.
    pub launches: u64,
    /// Seconds of all of them in a run before, and after; `None` where the cache knew.
    pub seconds: Option<(f64, f64)>,
}

/// What tuning did.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub struct Report {
    /// Products that have other schedules.
    pub products: usize,
    /// Of which the cache knew.
    pub known: usize,
    /// Of which the time left something unmeasured.
    pub left: usize,
    /// Those that are cut otherwise than by themselves.
    pub wins: Vec<Win>,
    /// Why something could not be kept.
    pub warning: Option<String>,
}

/// The choices for the products of a graph: those of the cache, and of others those that win when they are measured. No
/// run is begun after `time`; with no time nothing is measured. Runs write into `store` as the graph does.
///
/// # Errors
/// What cannot be compiled, or a run that fails.
pub fn tune(
    graph: &Graph,
    store: &mut Store,
    compiler: &Compiler,
    (cache, time): (&Cache, Duration),
) -> Result<(Tuning, Report), DriverError> {
    let graph = prune::specialised(graph, store);
    let mut trial = Trial { graph: &graph, compiler, store };
    let mut base = trial.program(&Tuning::default())?;
    let products = products(&base);
    let mut tuning = Tuning::default();
    let mut unknown: Vec<&Alternatives> = vec![];
    for product in products.values() {
        match cache.get(&product.key).filter(|choice| product.ranked.contains(choice)) {
            Some(choice) => tuning.set(&product.key, choice),
            None => unknown.push(product),
        }
    }
    let mut report = Report { products: products.len(), known: products.len() - unknown.len(), ..Report::default() };
    let mut times = BTreeMap::new();
    if !time.is_zero() && unknown.iter().any(|product| product.ranked.len() > 1) {
        let (found, measured) = trial.winners(&mut base, &unknown, time)?;
        for product in unknown {
            let winner = found.get(&product.key);
            let choice = winner.map_or(product.ranked[0], |won| won.choice);
            tuning.set(&product.key, choice);
            times.extend(winner.map(|won| (product.key.clone(), won.seconds)));
            if product.ranked.len() > measured {
                report.left += 1;
            } else if let Err(why) = cache.put(&product.key, choice) {
                report.warning.get_or_insert(why);
            }
        }
    }
    if compiler.passes.max_memory.is_some() && fitting(trial.program(&tuning))?.is_none() {
        return Ok((Tuning::default(), report));
    }
    let tuned = trial.lowered(&tuning)?;
    report.wins = wins(base.lowered().map_or(&[][..], |lowered| &lowered.report), &tuned, &times);
    Ok((tuning, report))
}

/// What was made, or `None` if it did not fit into the memory that it may have: other schedules need other scratch
/// memory.
fn fitting<T>(made: Result<T, DriverError>) -> Result<Option<T>, DriverError> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(DriverError::Memory(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The products of a program by their keys.
fn products(program: &CompiledGraph) -> BTreeMap<String, Alternatives> {
    let report = program.lowered().map_or(&[][..], |lowered| &lowered.report);
    let found = report.iter().filter(|kernel| kernel.runs > 0).filter_map(|kernel| kernel.alternatives.clone());
    found.map(|alternatives| (alternatives.key.clone(), alternatives)).collect()
}

/// What changed between two lowerings of one graph.
fn wins(before: &[KernelReport], after: &[KernelReport], times: &BTreeMap<String, (f64, f64)>) -> Vec<Win> {
    let mut found: BTreeMap<&str, Win> = BTreeMap::new();
    let of = |report: &'_ [KernelReport], key: &str| {
        report.iter().find(|kernel| kernel.alternatives.as_ref().is_some_and(|other| other.key == key)).cloned()
    };
    for kernel in after {
        let Some(taken) = kernel.alternatives.as_ref().filter(|alternatives| alternatives.taken > 0) else { continue };
        let Some(old) = of(before, &taken.key) else { continue };
        let win = found.entry(&taken.key).or_insert_with(|| Win {
            before: old.how,
            after: kernel.how.clone(),
            launches: 0,
            seconds: times.get(&taken.key).copied(),
        });
        win.launches += kernel.runs;
    }
    found.into_values().collect()
}

/// A choice that was faster.
struct Won {
    choice: Choice,
    /// Before and after.
    seconds: (f64, f64),
}

/// What is measured.
struct Trial<'a> {
    graph: &'a Graph,
    compiler: &'a Compiler,
    store: &'a mut Store,
}

impl Trial<'_> {
    fn tuned(&self, tuning: &Tuning) -> Compiler {
        Compiler { tuning: Some(Arc::new(tuning.clone())), ..self.compiler.clone() }
    }

    fn program(&self, tuning: &Tuning) -> Result<CompiledGraph, DriverError> {
        let mut program = self.tuned(tuning).compile_to_measure(self.graph)?;
        fill_inputs(&mut program);
        Ok(program)
    }

    fn lowered(&self, tuning: &Tuning) -> Result<Vec<KernelReport>, DriverError> {
        let compiler = self.tuned(tuning);
        Ok(compiler.lower(&compiler.optimise(self.graph)?)?.report)
    }

    /// The choices that are faster than what products do by themselves, and how many schedules of each were measured.
    fn winners(
        &mut self,
        base: &mut CompiledGraph,
        products: &[&Alternatives],
        time: Duration,
    ) -> Result<(BTreeMap<String, Won>, usize), DriverError> {
        let ranks = products.iter().map(|product| product.ranked.len()).max().unwrap_or(0);
        let end = Instant::now() + time;
        let mut best: BTreeMap<String, Won> = BTreeMap::new();
        let mut measured = 1;
        for rank in 1..ranks {
            let mut tuning = Tuning::default();
            let candidates = products.iter().filter_map(|product| Some((&product.key, *product.ranked.get(rank)?)));
            let candidates: Vec<(&String, Choice)> = candidates.collect();
            candidates.iter().for_each(|(key, choice)| tuning.set(key, *choice));
            // The last of the comparisons is of what won.
            let Some(compared) = fitting(self.compared(base, &tuning, Span::of(end, ranks - rank + 1)))? else {
                measured += 1;
                continue;
            };
            let Some(times) = compared else { break };
            measured += 1;
            for (key, choice) in candidates {
                let Some(&seconds) = times.get(key) else { continue };
                let gain = |seconds: (f64, f64)| seconds.1 / seconds.0.max(1e-12);
                let least = best.get(key).map_or(1.0 - LEAST_GAIN, |won| gain(won.seconds));
                if gain(seconds) < least {
                    best.insert(key.clone(), Won { choice, seconds });
                }
            }
        }
        let is_sure = self.confirm(base, &mut best, Span::of(end, 1))?;
        Ok((best, if is_sure { measured } else { 0 }))
    }

    /// Measures all that won together, and leaves what wins again; says whether there was time for it.
    fn confirm(
        &mut self,
        base: &mut CompiledGraph,
        best: &mut BTreeMap<String, Won>,
        span: Span,
    ) -> Result<bool, DriverError> {
        let mut tuning = Tuning::default();
        best.iter().for_each(|(key, won)| tuning.set(key, won.choice));
        if tuning.is_empty() {
            return Ok(true);
        }
        let compared = fitting(self.compared(base, &tuning, span))?;
        let is_sure = !matches!(compared, Some(None));
        let times = compared.flatten().unwrap_or_default();
        best.retain(|key, won| {
            won.seconds = times.get(key).copied().unwrap_or((0.0, 0.0));
            won.seconds.1 < (1.0 - LEAST_GAIN) * won.seconds.0
        });
        Ok(is_sure)
    }

    /// Seconds of all launches of each product in a run: as it is, and with a tuning. Nothing if there is no time for
    /// enough rounds.
    fn compared(
        &mut self,
        base: &mut CompiledGraph,
        tuning: &Tuning,
        span: Span,
    ) -> Result<Option<Pairs>, DriverError> {
        if span.is_over() {
            return Ok(None);
        }
        let mut other = self.program(tuning)?;
        let mut rounds: [Vec<BTreeMap<String, f64>>; 2] = [vec![], vec![]];
        while rounds[0].len() <= LEAST_ROUNDS || Instant::now() < span.until {
            for (program, rounds) in [&mut *base, &mut other].into_iter().zip(&mut rounds) {
                if rounds.len() <= LEAST_ROUNDS && span.is_over() {
                    return Ok(None);
                }
                rounds.push(by_key(program, self.store)?);
            }
        }
        let median = |rounds: &[BTreeMap<String, f64>], key: &str| {
            // The first round warms the caches.
            let times: Vec<f64> = rounds[1..].iter().filter_map(|round| round.get(key).copied()).collect();
            quantile(&times, 0.5)
        };
        let keys = rounds[0][0].keys().filter(|key| rounds[1][0].contains_key(*key));
        Ok(Some(keys.map(|key| (key.clone(), (median(&rounds[0], key), median(&rounds[1], key)))).collect()))
    }
}

/// By product, its seconds as it is and with a tuning.
type Pairs = BTreeMap<String, (f64, f64)>;

/// The time of a comparison.
#[derive(Clone, Copy)]
struct Span {
    /// When it has had its share.
    until: Instant,
    /// When it stops even if it has not had enough rounds.
    end: Instant,
}

impl Span {
    /// That of the first of so many until `end`, which share the time alike.
    fn of(end: Instant, comparisons: usize) -> Self {
        let now = Instant::now();
        Self { until: now + end.saturating_duration_since(now) / comparisons as u32, end }
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.end
    }
}

/// Seconds of all launches of each product in one run.
fn by_key(program: &mut CompiledGraph, store: &mut Store) -> Result<BTreeMap<String, f64>, DriverError> {
    let times = program.run_timed(store).map_err(failed)?;
    let report = program.lowered().map_or(&[][..], |lowered| &lowered.report);
    let mut sums = BTreeMap::new();
    for (kernel, time) in report.iter().zip(times) {
        if let Some(alternatives) = kernel.alternatives.as_ref().filter(|_| kernel.runs > 0) {
            *sums.entry(alternatives.key.clone()).or_insert(0.0) += time.as_secs_f64();
        }
    }
    Ok(sums)
}
