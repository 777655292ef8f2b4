//! The kernel IR: loop nests over memory with explicit vector statements.
//!
//! A [`Kernel`] has parameters (base addresses with an element type), scratch memory for each thread, and one or more
//! [`Phase`]s. A phase is a parallel range of tasks: any partition of it among threads gives the same bits; between
//! phases stands a barrier. The body of a phase is structured ([`Block`]): SSA values with a [`Type`], `for`, `if`,
//! loads, stores and lane operations. There is no tensor operation and no allocation.
//!
//! Vectors have any power of two of lanes; a backend splits what its registers do not hold. So one kernel runs on every
//! backend, and gives the same bits on each.
//!
//! - [`Builder`] makes bodies, folding index arithmetic on the way; [`KernelBuilder`] makes kernels.
//! - [`verify`] states and checks the rules; a verified kernel never makes a backend fail.
//! - [`text`] prints and parses; `print(parse(s)) == s`.
//! - [`interpret`] is the definition of the meaning, with every access checked.

mod builder;
mod fold;
pub mod interpret;
pub mod scalar;
mod statement;
pub mod text;
mod types;
pub mod verify;

pub use builder::{Builder, KernelBuilder, Memory};
pub use statement::{
    Access, Address, Base, BinaryOp, Block, CompareOp, Direction, For, If, Op, Param, ReduceOp, Statement, Store,
    UnaryOp,
};
pub use types::{Elem, ParamId, Type, Value};

/// What the lowering may know of the machine: nothing that changes results.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The vector width `V` in f32 lanes: 4, 8 or 16.
    pub f32_lanes: u8,
}

/// A loop kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kernel {
    /// For people; no part of the meaning.
    pub name: String,
    /// The memory it works on.
    pub params: Vec<Param>,
    /// Bytes of scratch memory that each thread needs, aligned to 64.
    pub scratch: u32,
    /// Parallel ranges, one after the other.
    pub phases: Vec<Phase>,
}

/// A parallel range: `body` runs once for each `task` in `0..tasks`, in any order, on any thread.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Phase {
    /// How many tasks.
    pub tasks: u64,
    /// The task's number, an index.
    pub task: Value,
    /// The type of every value.
    pub types: Vec<Type>,
    /// What a task does; without results.
    pub body: Block,
}

impl Phase {
    /// The type of a value.
    pub fn type_of(&self, value: Value) -> Type {
        self.types[value.index()]
    }
}

impl Kernel {
    /// Whether the two do the same, whatever they and their parameters are called: then one copy of code serves both.
    pub fn same_code(&self, other: &Self) -> bool {
        let shape = |kernel: &Self| kernel.params.iter().map(|p| (p.elem, p.direction)).collect::<Vec<_>>();
        self.scratch == other.scratch && self.phases == other.phases && shape(self) == shape(other)
    }
}
