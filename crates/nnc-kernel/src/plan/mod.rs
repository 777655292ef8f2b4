//! The execution plan: the order of groups, the life of buffers, and their places in one arena.
//!
//! - [`schedule`]: an order of the groups in which parameters, states and carried values can be updated in place.
//! - [`abreast`]: light launches side by side.
//! - [`arena`]: live ranges of buffers in launches, in-place reuse, and offsets.
//! - [`made`]: a check that what is read has been made.
//! - [`reuse`]: memory of packed weights for other packed weights.
//! - [`shared`]: launches that prepare the same become one.
//! - [`recompute`]: which values are computed again instead of kept.
//! - [`stages`]: loops whose inner loops run side by side.
//! - [`run`]: a whole lowered program on the kernel interpreter, for tests and for `--engine=interp`.

mod abreast;
mod arena;
mod assemble;
mod made;
pub mod recompute;
mod reuse;
pub mod run;
mod schedule;
mod shared;
mod stages;

pub use assemble::assemble;
pub use schedule::Schedule;

use crate::lower::{Alternatives, BufferId, Held, Pending};
use crate::program::Program;
use nnc_graph::{Graph, NodeId, Op, Tensor, TensorType};
use std::cmp::Reverse;
use std::ops::{Range, RangeInclusive};

/// Launches in their order, before they have addresses.
#[derive(Debug, Default)]
pub struct Line {
    /// What makes [`Home::Lasting`](crate::lower::Home::Lasting) buffers, before everything else, and not in every run.
    pub prepare: Vec<Pending>,
    /// What runs.
    pub launches: Vec<Pending>,
    /// What of it runs again and again, as in [`Program::loops`].
    pub loops: Vec<Repeat>,
}

/// A loop before it has addresses.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// Places in [`Line::launches`].
    pub launches: Range<usize>,
    /// How often.
    pub steps: u64,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// Where the number of the step is written, if a launch reads it.
    pub index: Option<BufferId>,
    /// As in [`Loop::stages`](crate::program::Loop::stages).
    pub stages: Vec<u32>,
}

/// What an external buffer is to the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// An input, by name.
    Input(String),
    /// A parameter, by path: read, and written in place where it is updated.
    Param(String),
    /// A state, by path, as a parameter.
    State(String),
    /// Data known to the compiler.
    Constant(Tensor),
    /// A result, by name.
    Output(String),
    /// `i32[4]`: zero before a run; after it the first number is 0 or a code (`lower::STATUS_INDEX`,
    /// `lower::STATUS_SLICE`) and the second the node that found the index out of range.
    Status,
}

/// How a program uses an external.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Only reads it.
    Read,
    /// Only writes it.
    Write,
    /// Both.
    ReadWrite,
}

/// A buffer that the caller provides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct External {
    /// What it is.
    pub role: Role,
    /// Type of the tensor in it, row-major.
    pub ty: TensorType,
    /// Its size.
    pub bytes: usize,
    /// How it is used.
    pub access: Access,
}

/// What one launch does, for `explain` and `bench`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelReport {
    /// The kernel's name.
    pub name: String,
    /// The group it runs, as a place in the partition of the graph or the body; `None` for copies.
    pub group: Option<usize>,
    /// The loops around it, as nodes: each but the first a node of the body of the one before.
    pub scans: Vec<NodeId>,
    /// How often it runs in one run of the program; 0 for what is prepared once.
    pub runs: u64,
    /// The nodes it computes, of the graph or of the body of the last of `scans`.
    pub nodes: Vec<NodeId>,
    /// Arithmetic operations of one launch, roughly.
    pub flops: u64,
    /// Bytes of the buffers it reads and writes in one launch, each counted once.
    pub bytes: u64,
    /// Bytes of the buffer of each of the kernel's parameters.
    pub sizes: Vec<u64>,
    /// Number of tasks of each phase.
    pub tasks: Vec<u64>,
    /// How the work is cut, in words: register tile, blocks, algorithm; empty where there is nothing to tell.
    pub how: String,
    /// Other ways to cut it, if it was lowered with a tuning.
    pub alternatives: Option<Alternatives>,
    /// Phases, tasks and scratch in words.
    pub schedule: String,
}

impl KernelReport {
    /// The graph whose nodes it computes: `graph`, or the body of a loop in it.
    pub fn graph<'g>(&self, graph: &'g Graph) -> &'g Graph {
        body(graph, &self.scans)
    }
}

/// A graph as kernels and launches over one arena.
#[derive(Clone, PartialEq, Debug)]
pub struct Lowered {
    /// What code is made of. Buffer 0 is the arena, buffer `1 + i` is `externals[i]`.
    pub program: Program,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Scratch memory that each thread needs.
    pub scratch_bytes: usize,
    /// What the caller provides.
    pub externals: Vec<External>,
    /// One entry for each launch.
    pub report: Vec<KernelReport>,
    /// What lies in the arena over time.
    pub in_arena: Vec<ArenaBuffer>,
    /// What fills the arena when it is fullest.
    pub peak: Peak,
}

/// What the arena holds when most of it is in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peak {
    /// The launch, as a place in [`Lowered::report`].
    pub launch: usize,
    /// Largest first.
    pub buffers: Vec<ArenaBuffer>,
}

/// A buffer of the arena.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArenaBuffer {
    /// What it takes.
    pub bytes: usize,
    /// The value that it holds; none for what only a kernel needs.
    pub holds: Option<Held>,
    /// The launches from the first to the last that need it; without the last where another buffer takes its place
    /// then.
    pub needed: RangeInclusive<usize>,
}

impl Peak {
    /// The launch, of so many, at which the buffers in use are largest together, and these.
    fn of(in_arena: &[ArenaBuffer], launches: usize) -> Self {
        let in_use = in_use(in_arena, launches);
        let most = in_use.iter().enumerate().max_by_key(|&(at, bytes)| (bytes, Reverse(at)));
        let launch = most.map_or(0, |(at, _)| at);
        let mut buffers: Vec<ArenaBuffer> =
            in_arena.iter().filter(|buffer| buffer.needed.contains(&launch)).cloned().collect();
        buffers.sort_by_key(|buffer| Reverse(buffer.bytes));
        Self { launch, buffers }
    }

    /// Bytes that are in use then: no arena can be smaller.
    pub fn bytes(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.bytes).sum()
    }
}

/// For each of so many launches the bytes of the buffers that are in use.
pub fn in_use(in_arena: &[ArenaBuffer], launches: usize) -> Vec<usize> {
    let mut change = vec![0isize; launches + 1];
    for buffer in in_arena {
        change[*buffer.needed.start()] += buffer.bytes as isize;
        change[buffer.needed.end() + 1] -= buffer.bytes as isize;
    }
    let sums = change.iter().scan(0, |sum: &mut isize, change| {
        *sum += change;
        Some(sum.unsigned_abs())
    });
    sums.take(launches).collect()
}

impl Held {
    /// The graph that the value is of: `graph`, or the body of a loop in it.
    pub fn graph<'g>(&self, graph: &'g Graph) -> &'g Graph {
        body(graph, &self.scans)
    }
}

/// The body of the last of some loops, each but the first a node of the body of the one before.
fn body<'g>(graph: &'g Graph, scans: &[NodeId]) -> &'g Graph {
    scans.iter().fold(graph, |graph, &id| match &graph.node(id).op {
        Op::Scan(scan) => &scan.body,
        _ => graph,
    })
}
