//! What can go wrong between a command and its result, in words a stranger can act on.
//!
//! Two kinds are never mixed: mistakes in the user's `.nn` file are diagnostics with places
//! ([`DriverError::Diagnostics`]); [`DriverError::Internal`] is a bug in the compiler and says so.

use crate::index_fault::IndexFault;
use nnc_lang::diagnostic::{Diagnostic, Sources};
use std::io;
use std::path::PathBuf;

/// Why a driver call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The `.nn` file has errors.
    #[error("the file has errors")]
    Diagnostics {
        /// All of them.
        diagnostics: Vec<Diagnostic>,
        /// The texts they point into.
        sources: Box<Sources>,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// `read`, `write` or `create`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Data that cannot be used.
    #[error("{0}")]
    Data(#[from] nnc_data::DataError),
    /// A weights file that cannot be used.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An index in the data that is out of range.
    #[error("{0}")]
    Index(IndexFault),
    /// The loss of a step is no finite number.
    #[error("{0}")]
    NotFinite(Box<crate::train::NotFinite>),
    /// A program does not fit into the memory that it may have.
    #[error("{0}")]
    Memory(Box<crate::fit::MemoryFault>),
    /// A request that does not fit the file or the options.
    #[error("{0}")]
    Usage(String),
    /// A bug in the compiler.
    #[error("this is a bug in nnc, please report it: {0}")]
    Internal(String),
}
