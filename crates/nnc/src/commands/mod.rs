//! One file for each command.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod check;
mod compare;
pub(crate) mod compress;
pub(crate) mod demo;
pub(crate) mod dump;
pub(crate) mod eval;
pub(crate) mod explain;
mod explain_bytes;
mod explain_zeros;
pub(crate) mod fmt;
pub(crate) mod grad;
pub(crate) mod narrow;
pub(crate) mod new;
pub(crate) mod profile;
pub(crate) mod prune;
pub(crate) mod prune_channels;
pub(crate) mod quantise;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod train;
