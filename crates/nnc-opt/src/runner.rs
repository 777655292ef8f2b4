//! Runs passes: name, time, verification, dump if changed, fuel.
//!
//! A pass is a function `(&Graph, &mut Fuel) -> Graph`, or one that may give nothing and counts as one rewrite;
//! everything around it is here, once.

use crate::OptError;
use crate::rewrite::Fuel;
use nnc_graph::{Graph, verify};
use std::time::{Duration, Instant};

/// What is known of one run of one pass.
#[derive(Clone, Debug)]
pub struct PassRecord {
    /// The pass's name.
    pub pass: &'static str,
    /// How long it took, without verification and dump.
    pub time: Duration,
    /// Rewrites that it made.
    pub rewrites: u64,
    /// Nodes that it was given.
    pub nodes_before: usize,
    /// Nodes that it left.
    pub nodes_after: usize,
    /// Whether it gave another graph than it was given.
    pub changed: bool,
    /// The graph after it in text form, when dumps were asked for and it changed something.
    pub dump: Option<String>,
}

/// What every pass did, in the order in which they ran, and how long took what came behind them.
#[derive(Clone, Debug, Default)]
pub struct PassLog {
    /// One entry for each run of a pass.
    pub records: Vec<PassRecord>,
    /// Steps from the optimised graph to code, by whoever takes them.
    pub later: Vec<(&'static str, Duration)>,
}

impl PassLog {
    /// Rewrites made by all passes together: what `--fuel` counts.
    pub fn rewrites(&self) -> u64 {
        self.records.iter().map(|record| record.rewrites).sum()
    }

    /// Time spent in all passes and later steps together.
    pub fn time(&self) -> Duration {
        let passes: Duration = self.records.iter().map(|record| record.time).sum();
        passes + self.later.iter().map(|(_, time)| *time).sum::<Duration>()
    }

    /// Takes a step behind the passes, and notes how long it took.
    pub fn step<T>(&mut self, name: &'static str, step: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let made = step();
        self.later.push((name, start.elapsed()));
        made
    }
}

/// Runs passes one after the other.
#[derive(Debug)]
pub struct Runner {
    fuel: Fuel,
    verify: bool,
    dump: bool,
    log: PassLog,
}

impl Runner {
    /// A runner that makes at most `fuel` rewrites, checks each graph if `verify`, and keeps its text if `dump`.
    pub fn new(fuel: Option<u64>, verify: bool, dump: bool) -> Self {
        Self { fuel: Fuel::new(fuel), verify, dump, log: PassLog::default() }
    }

    /// Runs one pass on a graph and notes what it did.
    ///
    /// # Errors
    /// The rules that the new graph breaks: the pass has a bug.
    pub fn run(
        &mut self,
        name: &'static str,
        graph: &Graph,
        pass: impl FnOnce(&Graph, &mut Fuel) -> Graph,
    ) -> Result<Graph, OptError> {
        let (start, spent) = (Instant::now(), self.fuel.spent());
        let next = pass(graph, &mut self.fuel);
        self.note(name, (start.elapsed(), spent), graph, &next)?;
        Ok(next)
    }

    /// Runs a pass that changes a graph as a whole or not at all, which is one rewrite; notes it and gives the new
    /// graph if it did.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_whole(
        &mut self,
        name: &'static str,
        graph: &Graph,
        pass: impl FnOnce(&Graph) -> Option<Graph>,
    ) -> Result<Option<Graph>, OptError> {
        let (start, spent) = (Instant::now(), self.fuel.spent());
        let Some(next) = pass(graph).filter(|_| self.fuel.spend()) else { return Ok(None) };
        self.note(name, (start.elapsed(), spent), graph, &next)?;
        Ok(Some(next))
    }

    /// Checks what a pass made of a graph and notes it, with the time it took and the rewrites before it.
    fn note(
        &mut self,
        name: &'static str,
        (time, spent): (Duration, u64),
        graph: &Graph,
        next: &Graph,
    ) -> Result<(), OptError> {
        self.check(name, next)?;
        let changed = !same(graph, next);
        self.log.records.push(PassRecord {
            pass: name,
            time,
            rewrites: self.fuel.spent() - spent,
            nodes_before: graph.node_count(),
            nodes_after: next.node_count(),
            changed,
            dump: (self.dump && changed).then(|| nnc_graph::text::print(next)),
        });
        Ok(())
    }

    /// Verifies a graph, if that is wanted.
    ///
    /// # Errors
    /// The rules that it breaks, blamed on `pass`.
    pub fn check(&self, pass: &str, graph: &Graph) -> Result<(), OptError> {
        if !self.verify {
            return Ok(());
        }
        verify::verify(graph).map_err(|problems| OptError { pass: pass.to_owned(), problems })
    }

    /// Number of rewrites made so far.
    pub fn rewrites(&self) -> u64 {
        self.fuel.spent()
    }

    /// The log of everything that ran.
    pub fn into_log(self) -> PassLog {
        self.log
    }
}

/// Whether two graphs have the same nodes and outputs.
fn same(a: &Graph, b: &Graph) -> bool {
    a.node_count() == b.node_count()
        && a.outputs() == b.outputs()
        && a.nodes().zip(b.nodes()).all(|((_, x), (_, y))| x == y)
}
