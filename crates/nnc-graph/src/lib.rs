//! The tensor graph of `nnc`: one SSA IR between the front end and the kernels.
//!
//! A [`Graph`] is a list of nodes in program order. A node applies an [`Op`] to ordered operands and defines one or
//! more values; a value has a [`TensorType`], that is a [`DType`] and a [`Shape`] whose dims may still be symbolic
//! ([`Dim`]). The map of the crate:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`dtype`], [`dim`], [`shape`] | types of values |
//! | [`op`] | the closed set of operations and the facts about them |
//! | [`mod@infer`] | result types from operand types; the only place that knows an op's typing rule |
//! | [`scan`] | loops: the body of a scan |
//! | [`graph`] | nodes, values, outputs, origins; petgraph stays inside |
//! | [`tensor`] | host data: constants, and what the interpreter computes with |
//! | [`verify`] | the rules a graph keeps |
//! | [`text`] | print and parse; `print(parse(s)) == s` |
//! | [`hash`] | a hash that is the same in every build |
//! | [`interpret`] | the definition of what a graph means |
//! | `testing` | random graphs, behind the feature of that name |
//!
//! **Invariant**: a graph holds no pass and no device memory; nothing here reads a file.
#![forbid(unsafe_code)]

pub mod dim;
pub mod dtype;
pub mod graph;
pub mod hash;
pub mod infer;
pub mod interpret;
pub mod op;
pub mod scan;
pub mod shape;
pub mod stored;
pub mod tensor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod verify;

pub use dim::Dim;
pub use dtype::DType;
pub use graph::{Graph, Node, NodeId, Origin, OriginId, Output, OutputKind, Value, ValueId};
pub use hash::fnv1a;
pub use infer::{TypeError, infer};
pub use op::{BinaryOp, CompareOp, ConvAttributes, Op, ReduceOp, SliceRange, UnaryOp, WindowAttributes, WindowOp};
pub use op::{channels_first, channels_last};
pub use scan::{BodyTypes, Scan};
pub use shape::{Shape, TensorType};
pub use stored::Stored;
pub use tensor::{Tensor, is_zero};
