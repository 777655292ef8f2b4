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
//!
//! # What compiles well
//!
//! Backends keep the order of operations of a block: write them in the order in which registers should live and die.
//! The builder hoists what a loop does not change, shares index arithmetic, and puts constants at the head of the
//! phase.
//!
//! On 128-bit machines (`f32_lanes: 4`, Cranelift) there are 16 registers of 4 f32 lanes, and a value of 8 lanes takes
//! two. A fused multiply-add overwrites one of its *factors* there, not the sum, and a load folds into it or into a
//! broadcast only if its result has a single use. So for a matrix product:
//! - **8 to 12 rows by one vector** of 4 columns, unrolled 8 times over `k` (twice is far worse than 4 times): load the
//!   vector of the right operand once, and for each row `load_splat` from the packed left operand and one `fma(splat,
//!   vector, sum)`. The splat is a single broadcast from memory that becomes the new sum: two instructions for each
//!   `fma`, no copies.
//! - **4 rows by two vectors**, unrolled 4 times, is as good and wants fewer broadcasts. The splat of a row, used
//!   twice, costs a copy. With 5 rows or more by two vectors (10 sums and up), or 4 by three, registers are spilled.
//! - Sums rotate through registers, and the moves at the end of a loop's round bring them back: unroll (in the body, by
//!   hand, or by [`For::unroll`]) until they do not count.
//! - Both panels packed for the tile, `[k][rows]` and `[k][columns of one tile]`, addressed as `k * columns +
//!   constant`: the constant is part of the address and costs nothing, the product is one instruction a round. Do not
//!   carry a second index for each stream. Panels wider than a tile use a part of each cache line, and rows a multiple
//!   of 4096 bytes apart fall into one set of the first cache, which has eight or twelve ways.
//!
//! With AVX2 (`f32_lanes: 8`) there are 16 registers of 8 lanes, with AVX-512 (`f32_lanes: 16`) 32 of 16. A fused
//! multiply-add overwrites the *sum* there, so one repeated element serves several vectors of columns: **6 rows by two
//! vectors or 4 by three** with 16 registers, **14 by two** with 32. Constants cost no register: they are read from
//! memory by the instruction that uses them.
//!
//! These tiles run at the FMA peak of a core (the example `microkernel` of `nnc-codegen` measures them). Elsewhere:
//! - Elementwise loops: 8 lanes are better than 4, since two independent chains hide latency; 16 pays for short bodies.
//! - `max(x, constant)` and `min(x, constant)` are one instruction; with a variable second operand three, for NaN.
//! - Conversions among f32, i32, i16, i8, u8, bf16 and f16 are vector instructions; those between f64 and i32 or i64,
//!   and between i64 and f32, go lane by lane. So do integer division (unless by a constant power of two), shifts by an
//!   amount that is not constant, `look_up`, strided and indexed access.
//! - A tail or a mask is a loop over lanes by way of the stack: keep it out of inner loops, or split the
//!   range.
//! - Index division by a constant is a machine division: compute it once for each task or row, not for each element.

mod builder;
pub(crate) mod fold;
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

/// What the lowering may know of the machine, which changes no result, and what it is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The vector width `V` in f32 lanes: 4, 8 or 16.
    pub f32_lanes: u8,
    /// Whether one instruction adds four products of bytes to each lane of 32 bits ([`Op::DotI8`]); else it takes a
    /// few.
    pub has_byte_products: bool,
    /// Whether convolutions may go by Winograd's form where the shape says that it is faster: it rounds in other
    /// places.
    pub winograd: bool,
}

impl Target {
    /// A machine with vectors of so many f32, and everything allowed. Those of 512 bits all multiply bytes at once; of
    /// the narrower ones only some do.
    pub fn new(f32_lanes: u8) -> Self {
        Self { f32_lanes, has_byte_products: f32_lanes == 16, winograd: true }
    }

    /// Whether loads may leave lanes out at no cost.
    pub fn has_masked_moves(&self) -> bool {
        self.f32_lanes > 4
    }

    /// Whether stores may leave lanes out at no cost, too: those of AVX2 are slow on many cores, and know only lanes of
    /// 32 and 64 bits.
    pub fn has_masked_stores(&self) -> bool {
        self.f32_lanes > 8
    }

    /// How many vectors its registers hold: 32 of 512 bits, 16 of the narrower ones.
    pub fn registers(&self) -> usize {
        if self.f32_lanes == 16 { 32 } else { 16 }
    }
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
