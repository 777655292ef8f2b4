//! Pruning: which weights may go, which of them go, and how those that went stay away.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`mod@uses`] | what each parameter of a graph is used for: only matrices that are multiplied may be pruned |
//! | [`mod@select`] | the elements, or blocks of them, that count least |
//! | [`mod@known`] | weights as constants of a graph, so that kernels may leave zeros out |
//! | [`mod@hold`] | a training step that keeps pruned weights at zero |
//! | [`mod@choice`] | a training step that chooses what is pruned |
//! | [`mod@channels`] | whole channels that go, and graphs that get smaller by it |
//!
//! A mask is a state beside its weight: a bool tensor of the weight's shape, at [`mask_path`], true where an element is
//! kept. What is pruned is 0 in the weight itself, so that whoever only reads weights needs no mask. Pruning changes
//! what a network computes; nothing here is part of [`crate::pipeline`].

pub mod channels;
pub mod choice;
pub mod hold;
pub mod known;
pub mod select;
pub mod uses;

pub use choice::{SHARE, with_choice};
pub use hold::hold;
pub use known::known;
pub use select::{Block, Scope, Weight, kept};
pub use uses::{Use, uses};

/// The output of a training step that counts the scores that are no finite numbers, where it makes a choice by them.
pub const UNJUDGED: &str = "$prune.unjudged";
/// What the paths of masks begin with.
pub const PREFIX: &str = "$prune.";
/// What they end with.
const SUFFIX: &str = ".mask";
/// What the paths of scores end with, which a recipe keeps beside masks.
const SCORE: &str = ".score";

/// Where the mask of a parameter lies.
pub fn mask_path(parameter: &str) -> String {
    format!("{PREFIX}{parameter}{SUFFIX}")
}

/// The parameter whose mask lies at a path.
pub fn masked_parameter(path: &str) -> Option<&str> {
    path.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)
}

/// The parameter whose mask, or whose score, lies at a path.
pub fn judged_parameter(path: &str) -> Option<&str> {
    let score = || path.strip_prefix(PREFIX)?.strip_suffix(SCORE);
    masked_parameter(path).or_else(score)
}
