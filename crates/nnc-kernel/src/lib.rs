//! Fused graph to loop kernels and an execution plan.
//!
//! - [`ir`]: the kernel IR with builder, verifier, text form and interpreter.
//! - [`math`]: elementary functions and random numbers, expanded in the kernel IR.
//! - [`program`]: what code generation takes: kernels and launches.
//! - [`mod@lower`]: from a grouped graph to kernels; [`plan`]: their order, memory, and a run of it all by
//!   interpreters.
//! - [`mod@predict`]: how long kernels take, from their code and a description of the processor.
#![forbid(unsafe_code)]

pub mod ir;
pub mod lower;
pub mod math;
pub mod plan;
pub mod predict;
pub mod program;

pub use lower::{Alternatives, Choice, Held, LowerError, Tuning, lower, lower_with};
pub use plan::{Access, ArenaBuffer, External, KernelReport, Lowered, Peak, Role};
