//! Graph to graph: what `nnc` does between the front end and the kernels.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`pipeline`] | the passes in their order: one function to read |
//! | [`runner`] | runs a pass: timing, verification, dumps, fuel |
//! | [`rewrite`] | the patch API that every pass builds its new graph through |
//! | [`unfold`] | convolutions in more than two spatial axes become two-dimensional |
//! | `looked_up` | products of looked-up rows that are looked up themselves |
//! | [`grad`] | expansion of `grad`: a table of vector-Jacobian products |
//! | [`mod@half`] | floats of 16 bits computed in f32 |
//! | [`simplify`] | exact local rules, grouped by operator |
//! | [`fold`] | constants computed at compile time |
//! | [`cse`] | equal nodes become one |
//! | [`dce`] | nodes that no output needs go |
//! | [`mod@put_back`] | updates of parts that become updates of the whole |
//! | [`tidy`] | loops without what no step needs, or every step would do alike |
//! | [`quantise`] | lossy, only when asked: products of eight-bit integers |
//! | [`narrow`] | lossy, only when asked: weights that are stored in few bits |
//! | `parameters` | parameters followed to what reads them |
//! | [`mod@products`] | every product of a graph, with what it multiplies |
//! | [`prune`] | weights that go, and how they stay away; never part of the pipeline |
//! | [`fuse`] | which nodes share a kernel |
//! | `rescore` | scores of attention that are made again for the derivative |
//! | `wavefront` | loops that follow one another, made one loop over blocks of steps |
//! | [`recompute`] | values that are computed again instead of kept |
//! | [`mod@rows`] | whether the rows of a batch are computed independently of one another |
//!
//! **Invariant**: a pass is a free function from one graph to another; it edits nothing in place, it reads no file, and
//! it knows neither loops nor bytes. The interpreter's results before and after are the same bits, unless a flag that
//! is off by default says otherwise. Rounded in other places are floats of 16 bits, as [`mod@half`] says, what `absorb`
//! moves into weights, and derivatives by tables, as `looked_up` says.
#![forbid(unsafe_code)]

mod absorb;
pub mod constants;
pub mod cse;
pub mod dce;
mod error;
pub mod fold;
pub mod fuse;
pub mod grad;
pub mod half;
pub mod layout;
mod looked_up;
pub mod narrow;
mod parameters;
pub mod pipeline;
pub mod products;
pub mod prune;
pub mod put_back;
pub mod quantise;
pub mod recompute;
mod rescore;
pub mod rewrite;
pub mod rows;
pub mod runner;
pub mod simplify;
pub mod tidy;
pub mod unfold;
mod wavefront;

pub use error::OptError;
pub use pipeline::{Optimised, Options, optimise};
pub use rewrite::{Fuel, Rewriter};
pub use runner::{PassLog, PassRecord};
