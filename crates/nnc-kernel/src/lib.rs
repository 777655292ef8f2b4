//! Fused graph to loop kernels and an execution plan.
//!
//! - [`ir`]: the kernel IR with builder, verifier, text form and interpreter.
//! - [`math`]: elementary functions and random numbers, expanded in the kernel IR.
//! - [`program`]: what code generation takes: kernels and launches.
#![forbid(unsafe_code)]

pub mod ir;
pub mod math;
pub mod program;
