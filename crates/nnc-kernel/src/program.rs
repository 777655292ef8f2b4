//! A compiled plan as code generation sees it: kernels, and the straight line of launches.
//!
//! Buffer 0 is the arena; then come the externals in the plan's order. The entry made of a program runs the launches
//! one after the other; each runs the phases of its kernel with a barrier after each.

use crate::ir::Kernel;

/// Everything that one entry function runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Program {
    /// The kernels that launches refer to. Equal ones may occur; code is made once for each that differs.
    pub kernels: Vec<Kernel>,
    /// In order of execution.
    pub launches: Vec<Launch>,
}

/// One run of a kernel: all its phases in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Launch {
    /// A place in [`Program::kernels`].
    pub kernel: u32,
    /// The memory of each of the kernel's parameters.
    pub args: Vec<ArgRef>,
    /// Whether it is too small for the pool: then the calling thread runs every task.
    pub serial: bool,
}

/// A place in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ArgRef {
    /// 0 is the arena, then the externals.
    pub buffer: u32,
    /// Bytes from the buffer's start; a multiple of the size of the parameter's element.
    pub offset: u64,
}

impl Program {
    /// Bytes of scratch memory that each thread needs.
    pub fn scratch_bytes(&self) -> u32 {
        self.kernels.iter().map(|kernel| kernel.scratch).max().unwrap_or(0)
    }
}
