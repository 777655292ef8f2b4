//! Programs that fit into so much memory: values are computed again instead of kept until they do.
//!
//! What counts is what a program works in: weights, states, inputs, results, the arena, the scratch memory of the
//! threads. Data sets, machine code and the weights' file do not, nor do other programs.
//!
//! What is dropped is planned from the lives of values in the program that keeps all (`nnc_kernel::plan::recompute`).
//! The plan knows neither how kernels are fused anew nor what is made in place, so what comes of it is lowered and
//! measured, and planned for less where that was not enough.

use crate::compiled::{Engine, has_examples, lower};
use crate::error::DriverError;
use crate::layout::runtime_layout;
use crate::units::{bytes, bytes_or_more};
use nnc_graph::{Graph, NodeId};
use nnc_kernel::{ArenaBuffer, KernelReport, Lowered, Role, Tuning, plan::recompute};
use nnc_opt::{Optimised, pipeline};
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Instant;

/// How often a plan is made for less than before.
const TRIES: usize = 6;

/// The most tensors that an error names.
const NAMED: usize = 8;

/// A graph that is ready for code to be made of it.
#[derive(Debug)]
pub struct Fitted {
    /// The graph and its groups.
    pub optimised: Optimised,
    /// Its kernels and their plan.
    pub lowered: Lowered,
    /// Bytes of the arena if nothing were computed again.
    pub arena_of_all: usize,
}

/// Lowers a graph for an engine whose code so many threads run, within the memory that `passes` allow, by the schedules
/// that `tuning` knows. The time that it takes is noted in the log of the passes.
///
/// # Errors
/// [`DriverError::Usage`] for what the backend does not support, [`DriverError::Memory`] if it cannot fit.
pub fn fit(
    optimised: Optimised,
    engine: (Engine, NonZeroUsize),
    passes: &pipeline::Options,
    tuning: Option<&Tuning>,
) -> Result<Fitted, DriverError> {
    let start = Instant::now();
    let mut fitted = fit_for(optimised, engine, passes, tuning)?;
    fitted.optimised.log.later.push(("lowering", start.elapsed()));
    Ok(fitted)
}

/// As [`fit`], which measures it.
fn fit_for(
    optimised: Optimised,
    (engine, threads): (Engine, NonZeroUsize),
    passes: &pipeline::Options,
    tuning: Option<&Tuning>,
) -> Result<Fitted, DriverError> {
    let lowered = lower(&optimised, engine, tuning)?;
    let arena_of_all = lowered.arena_bytes;
    let total = |lowered: &Lowered| runtime_layout(lowered).total_bytes(threads.get());
    let Some(most) = passes.max_memory.filter(|most| total(&lowered) > *most) else {
        return Ok(Fitted { optimised, lowered, arena_of_all });
    };
    let wanted = most.saturating_sub(total(&lowered) - lowered.arena_bytes);
    let mut budget = wanted;
    let mut best: Option<(Optimised, Lowered)> = None;
    for attempt in 1..=TRIES {
        if attempt == TRIES {
            budget = 0;
        }
        let plan = recompute::plan(&optimised.graph, &optimised.partition, &lowered, budget);
        let made = pipeline::recomputed(&optimised, &plan.choice, passes);
        let made = made.map_err(|error| DriverError::Internal(error.to_string()))?;
        let found = lower(&made, engine, tuning)?;
        let excess = total(&found).saturating_sub(most);
        if excess == 0 {
            return Ok(Fitted { optimised: made, lowered: found, arena_of_all });
        }
        if best.as_ref().is_none_or(|(_, best)| total(&found) < total(best)) {
            best = Some((made, found));
        }
        if budget == 0 {
            break;
        }
        // At last, the least that there is.
        budget = if plan.bytes > budget { 0 } else { budget.saturating_sub(excess) };
    }
    let (graph, least) = best.filter(|(_, best)| total(best) < total(&lowered)).unwrap_or((optimised, lowered));
    Err(DriverError::Memory(Box::new(MemoryFault::new(&graph.graph, &least, (most, threads.get())))))
}

/// A program that does not fit into the memory that it may have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryFault {
    /// The program's name.
    pub program: String,
    /// What it may have, in bytes.
    pub asked: usize,
    /// The least that it was made to need, in bytes.
    pub least: usize,
    /// Of that, weights and states.
    pub resident: usize,
    /// Of that, inputs, results and constants.
    pub passed: usize,
    /// Of that, scratch memory of threads.
    pub scratch: usize,
    /// Of that, the arena.
    pub arena: usize,
    /// The kernel that runs when the arena is fullest.
    pub kernel: String,
    /// What lies there then, largest first; not all of it.
    pub culprits: Vec<Culprit>,
    /// How many bytes more lie there.
    pub others: usize,
    /// Whether it works on examples, of which there may be fewer at a time.
    pub has_examples: bool,
}

/// A tensor that memory is needed for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Culprit {
    /// What it takes, in bytes.
    pub bytes: usize,
    /// Type and operation.
    pub what: String,
    /// The use of a layer that made it, as `conv2d_1`; empty where there is none.
    pub layer: String,
    /// `file:line` of the source; empty where there is none.
    pub place: String,
}

impl Culprit {
    /// What lies in a buffer while `kernel` runs.
    pub fn new(graph: &Graph, buffer: &ArenaBuffer, kernel: Option<&KernelReport>) -> Self {
        let node = |graph: &Graph, id: NodeId| {
            let origin = graph.origin_of(graph.node(id));
            let place = origin.map(|origin| origin.place.clone()).unwrap_or_default();
            (origin.map(|origin| origin.path.clone()).unwrap_or_default(), place)
        };
        let (what, (layer, place)) = match (&buffer.holds, kernel) {
            (Some(held), _) => {
                let graph = held.graph(graph);
                let definition = graph.value(held.value).node;
                let what = format!("{} {}", graph.ty(held.value), graph.node(definition).op.name());
                (what, node(graph, definition))
            }
            (None, Some(kernel)) => {
                let first = kernel.nodes.first().map(|&id| node(kernel.graph(graph), id));
                (format!("what `{}` works with", kernel.name), first.unwrap_or_default())
            }
            (None, None) => ("what a kernel works with".to_owned(), (String::new(), String::new())),
        };
        Self { bytes: buffer.bytes, what, layer, place }
    }
}

impl MemoryFault {
    fn new(graph: &Graph, lowered: &Lowered, (asked, threads): (usize, usize)) -> Self {
        let of = |is_wanted: &dyn Fn(&Role) -> bool| {
            let wanted = lowered.externals.iter().filter(|external| is_wanted(&external.role));
            wanted.map(|external| external.bytes).sum::<usize>()
        };
        let resident = of(&|role| matches!(role, Role::Param(_) | Role::State(_)));
        let passed = of(&|role| !matches!(role, Role::Param(_) | Role::State(_)));
        let scratch = lowered.scratch_bytes * threads;
        let peak = &lowered.peak;
        let kernel = lowered.report.get(peak.launch);
        let (named, rest) = peak.buffers.split_at(peak.buffers.len().min(NAMED));
        Self {
            program: graph.name.clone(),
            asked,
            least: resident + passed + scratch + lowered.arena_bytes,
            resident,
            passed,
            scratch,
            arena: lowered.arena_bytes,
            kernel: kernel.map(|kernel| kernel.name.clone()).unwrap_or_default(),
            culprits: named.iter().map(|buffer| Culprit::new(graph, buffer, kernel)).collect(),
            others: rest.iter().map(|buffer| buffer.bytes).sum(),
            has_examples: has_examples(graph),
        }
    }
}

impl fmt::Display for MemoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |number: usize| bytes(number as u64);
        let (program, asked, least) = (&self.program, size(self.asked), bytes_or_more(self.least as u64));
        writeln!(f, "`{program}` does not fit into {asked}: it needs {least}, with all computed again that may be")?;
        let parts = [
            ("weights and states", self.resident),
            ("inputs, results, constants", self.passed),
            ("scratch memory of threads", self.scratch),
            ("arena", self.arena),
        ];
        parts.iter().try_for_each(|(name, bytes)| writeln!(f, "  {:>9}  {name}", size(*bytes)))?;
        if !self.culprits.is_empty() {
            writeln!(f, "the arena is fullest while `{}` runs, with", self.kernel)?;
        }
        for culprit in &self.culprits {
            let words = [culprit.what.as_str(), &culprit.layer, &culprit.place];
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            writeln!(f, "  {:>9}  {}", size(culprit.bytes), words.join("  "))?;
        }
        if self.others > 0 {
            writeln!(f, "  {:>9}  others", size(self.others))?;
        }
        match self.has_examples {
            true => write!(
                f,
                "try fewer examples at a time (`--set batch=N`, `--bind N=...`), smaller tensors, or more memory"
            ),
            false => write!(f, "it works on no examples: try smaller layers, or more memory"),
        }
    }
}

/// A value that is computed again, for reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Again {
    /// Its size in bytes.
    pub bytes: usize,
    /// Type, operation, and library function.
    pub what: String,
    /// Launches that compute it.
    pub launches: Vec<usize>,
}

impl Fitted {
    /// The values that are computed again, largest first; views and what is computed on the way to others included.
    pub fn again(&self) -> Vec<Again> {
        let graph = &self.optimised.graph;
        let mut found: Vec<Again> = self.optimised.copies.keys().map(|&id| self.copy(graph, id)).collect();
        found.retain(|again| !again.launches.is_empty());
        found.sort_by_key(|again| std::cmp::Reverse(again.bytes));
        found
    }

    fn copy(&self, graph: &Graph, id: NodeId) -> Again {
        let value = graph.node(id).results[0];
        let launches = self.lowered.report.iter().enumerate();
        let computes = |kernel: &KernelReport| {
            kernel.scans.first() == Some(&id) || kernel.scans.is_empty() && kernel.nodes.contains(&id)
        };
        let launches = launches.filter(|(_, kernel)| computes(kernel)).map(|(at, _)| at).collect();
        Again { bytes: graph.ty(value).bytes(), what: crate::profile::described(graph, value), launches }
    }
}
