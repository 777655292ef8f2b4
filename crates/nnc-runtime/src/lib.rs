//! What compiled programs run on: buffers, threads, mapped files and the calling of machine code.
//!
//! This is the only crate of the workspace with `unsafe`; every block says why it holds.
//! It depends on no other `nnc` crate.
//!
//! - [`abi`]: the interface that compiled code is made against.
//! - [`Program`]: compiled [`Code`] with its memory and its [`Pool`] of threads; [`Program::run`]
//!   checks that what it is given fits before any compiled code runs.
//! - [`AlignedBuffer`], [`MappedFile`]: memory that programs read and write.
//! - [`image`]: the code and weights inside a built executable.
//! - [`cpu`], [`memory`]: what this machine offers.
//!
//! **Trust.** Machine code cannot be checked here. The constructors of [`Code`] say what the
//! compiler vouches for; everything after that is safe.
//!
//! **Invariant.** No page is ever writable and executable at once. No panic crosses into compiled
//! code: it ends the process. The number of threads never changes a result.

#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

pub mod abi;
mod buffer;
mod code;
mod control_group;
pub mod cpu;
pub mod image;
#[cfg(feature = "jit")]
mod jit;
mod map;
pub mod memory;
mod pipeline;
mod pool;
mod program;
mod seat;

pub use buffer::{ALIGNMENT, AlignedBuffer, Element, HUGE_PAGE};
pub use code::{Code, OutsideCode};
#[cfg(feature = "jit")]
pub use jit::JitError;
pub use map::MappedFile;
pub use pool::Pool;
pub use program::{ExternalBuffer, Layout, Mark, Program, ProgramError};
