//! The execution plan: the order of groups, the life of buffers, and their places in one arena.
//!
//! - [`schedule`]: an order of the groups in which parameters and states can be updated in place.
//! - [`arena`]: live ranges of buffers in launches, in-place reuse, and offsets.
//! - [`run`]: a whole lowered program on the kernel interpreter, for tests and for `--engine=interp`.

mod arena;
mod assemble;
pub mod run;
mod schedule;

pub use assemble::assemble;
pub use schedule::Schedule;

use crate::program::Program;
use nnc_graph::{NodeId, Tensor, TensorType};

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
    /// The group it runs, as a place in the partition; `None` for copies.
    pub group: Option<usize>,
    /// The nodes it computes.
    pub nodes: Vec<NodeId>,
    /// Arithmetic operations, roughly.
    pub flops: u64,
    /// Bytes of the buffers it reads and writes, each counted once.
    pub bytes: u64,
    /// Number of tasks of each phase.
    pub tasks: Vec<u64>,
    /// Phases, tasks and scratch in words.
    pub schedule: String,
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
}
