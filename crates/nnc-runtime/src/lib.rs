//! What compiled programs run on: buffers, threads, mapped files and the calling of machine code.
//!
//! This is the only crate of the workspace with `unsafe`; every block says why it holds.
//! It depends on no other `nnc` crate.
//!
//! - [`abi`]: the interface that compiled code is made against.

#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

pub mod abi;
