//! The parts of a built executable, as a library.
//!
//! `nnc build` makes an executable from this crate's program and appends compiled code, weights
//! and a [`Manifest`]. What does not belong to the executable alone is shared with `nnc run`, so
//! that both give and print the same: [`Engine`] loops rows over the compiled program,
//! [`present`] and [`json`] print answers.
//!
//! It is kept small: the program weighs under 1 MB with all its decoders.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod bench;
mod encoding;
mod engine;
pub mod help;
mod input;
pub mod json;
pub mod manifest;
pub mod number;
mod outside;
pub mod present;

pub use engine::{Engine, EngineError, Weights};
pub use input::{decode, given, read_port};
pub use manifest::Manifest;
pub use outside::Outside;
pub use present::Answer;
