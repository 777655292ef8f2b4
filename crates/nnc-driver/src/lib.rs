//! The compiler and trainer as a library.
//!
//! ```text
//! Project ─ Session ─┬─ train ──→ checkpoints, metrics.csv, report
//!  (a file)  (its     ├─ evaluate
//!             weights └─ deploy ─→ nnc run, native executable
//!             and programs)
//! ```
//! | module | what it does |
//! | --- | --- |
//! | [`project`], `reads` | reads and checks a file and what it uses; all the files that it reads |
//! | [`compiled`] | a graph to something that runs, native or interpreted |
//! | [`session`] | a recipe in memory: weights, programs by batch size, steps, evaluation |
//! | [`dataset`], `synthetic`, [`learned`] | the sources of a `data` block, opened or made, and split; what they teach |
//! | [`mod@train`] | epochs, early stopping, checkpoints, resume |
//! | [`store`], [`checkpoint`] | resident tensors, and their files |
//! | [`pretrained`], `follow` | weights from elsewhere, by the names that models say; layers that begin as others |
//! | [`mod@prune`] | weights that are set to zero, and their masks; channels that go |
//! | [`answer`], `sizes` | what is deployed: a recipe's answer, or a model by itself; the sizes of what it takes |
//! | [`deploy`], [`executable`] | an answer with its weights, as an engine or an executable file |
//! | [`mod@narrow`] | matrices of weights in few bits |
//! | [`mod@quantise`] | products of integers, chosen on real examples |
//! | [`mod@restore`] | the floats that integers or few bits stand for, to be trained further |
//! | [`report`] | the JSON report of a run |
//! | [`stage`], [`mod@bench`] | the programs of a file by name; fused against unfused |
//! | [`mod@compress`] | pruning, other numbers and both, in search of a network that is fast and good enough |
//! | [`mod@compare`], [`form`] | the weights of several files beside each other; what is in a file |
//! | [`mod@fit`] | programs that fit into so much memory |
//! | [`mod@profile`], [`roofline`] | the time of each kernel; what the machine can do |
//! | [`mod@tune`] | schedules that are measured, and kept |
//!
//! **Invariant**: nothing here prints to the terminal.
#![forbid(unsafe_code)]

pub mod answer;
mod at_once;
pub mod bench;
pub mod checkpoint;
pub mod compare;
pub mod compiled;
pub mod compress;
pub mod dataset;
pub mod deploy;
mod error;
pub mod executable;
mod externals;
pub mod fit;
mod follow;
pub mod form;
mod index_fault;
mod index_graph;
mod layout;
pub mod learned;
mod lessons;
pub mod narrow;
mod plain;
pub mod pretrained;
pub mod profile;
pub mod project;
pub mod prune;
pub mod quantise;
mod reads;
pub mod report;
pub mod restore;
pub mod roofline;
pub mod session;
mod sizes;
mod spares;
mod spelling;
pub mod stage;
pub mod store;
mod synthetic;
pub mod train;
pub mod tune;
mod turn;
pub mod units;

pub use compiled::{CompiledGraph, Compiler, Engine};
pub use dataset::{Dataset, Wanted};
pub use error::DriverError;
pub use index_fault::IndexFault;
pub use learned::Learned;
pub use project::Project;
pub use session::{Matrix, Metrics, Session};
