//! Quantisation, a lossy stage that is only run when asked: products of floats become products of small integers.
//!
//! `y = x * w` with `x ≈ s q` and `w ≈ t v`, where `q` and `v` are integers of eight bits, is `s t (q * v)`, and the
//! product of integers is exact (Jacob et al., "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", 2018). Both scales are symmetric: activations have one for the tensor, weights
//! one for each output channel. `q = clamp(round(x / s))`, ties to even.
//!
//! Activations are unsigned bytes, as the instructions want them that multiply bytes: of those with a sign `q + 128` is
//! kept, and 128 times the sum of a channel's weights is taken off its sums. Weights go from -64 to 64: then two
//! products fit 16 bits, and a machine without instructions for it adds them exactly in three steps for 32 of them. It
//! costs one of eight bits of the weights' resolution.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`mod@sites`] | which products of a graph can be quantised, and what they are called |
//! | [`mod@left_out`] | the products of a graph that cannot, and why |
//! | `fingerprint` | numbers for what values are computed by |
//! | [`mod@rounded`] | which values of a graph there are integers for |
//! | [`mod@apply`] | the rewrite |
//! | [`mod@crossings`] | where a quantised network leaves bytes |
//! | `pool` | sums of what is rounded, in whole numbers |
//! | [`mod@weights`] | weights in whole numbers, computed by a graph |
//! | [`mod@restore`] | the parameters that integers stand for, to train them further |
//! | [`mod@fake`] | a training step that rounds as the rewrite will |
//!
//! **Contract.** On entry a graph as [`crate::pipeline::inference`] gives it; on exit one in which each named product
//! takes u8 by i8 tensors, its weights are the parameter `NAME.q8` (i8) and their scales `NAME.scale` (f32, one for
//! each output channel); whoever else reads these weights reads the floats that the integers stand for. What is added to
//! the results of a layer with a shift is the parameter `NAME.shift` (f32, one for each output channel). A layer's range
//! holds for all of its uses; a value that several layers read is rounded once, by a range that covers those of all.
//! Products and sums are exact from there; compiled engines give the same bits, the interpreter's f64 may round a tie
//! between two bytes to the other. How far the results are from those before is measured, not promised.

use std::collections::BTreeSet;

mod apply;
mod crossings;
mod fake;
mod fingerprint;
mod left_out;
mod pool;
mod restore;
mod rounded;
mod sites;
mod weights;

pub use apply::{floats_of_integers, quantise, quantise_floats};
pub use crossings::{Change, Crossing, crossings};
pub use fake::{RANGE, SIGN, TOP, fake_quantise, layers_to_round};
pub use left_out::{LeftOut, Unserved, left_out};
pub use restore::restored;
pub use sites::{Site, Sources, result_channels, sites};

/// Terms that kernels multiply at a time.
pub const WORD: usize = 4;

/// The largest magnitude of a weight.
pub const WEIGHT_LEVELS: f32 = 64.0;

/// The most terms of a sum that surely fits i32: bytes go up to 255.
const MOST_TERMS: usize = i32::MAX as usize / (255 * WEIGHT_LEVELS as usize);

/// What stands for 0 where activations have a sign.
const MIDDLE: f32 = 128.0;

/// How a tensor of activations is quantised.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Range {
    /// The distance of neighbouring numbers.
    pub scale: f32,
    /// Whether there are negative ones: then they go from -128 to 127, else from 0 to 255.
    pub signed: bool,
}

impl Range {
    /// The range that holds `least` and `most`; `None` if they are not finite, or there is nothing but zeros.
    pub fn covering(least: f32, most: f32) -> Option<Self> {
        let signed = least < 0.0;
        let magnitude = most.max(-least);
        let scale = magnitude / Self { scale: 1.0, signed }.levels();
        (magnitude.is_finite() && scale > 0.0 && scale.is_normal()).then_some(Self { scale, signed })
    }

    /// The range that covers both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let signed = self.signed || other.signed;
        let joint = |range: Self| match range.signed == signed {
            true => range.scale,
            false => range.scale * range.levels() / Self { scale: 1.0, signed }.levels(),
        };
        Self { scale: joint(self).max(joint(other)), signed }
    }

    /// The largest number.
    pub fn levels(self) -> f32 {
        if self.signed { 127.0 } else { 255.0 }
    }

    /// What stands for 0.
    fn zero(self) -> f32 {
        if self.signed { MIDDLE } else { 0.0 }
    }
}

/// A product that is quantised.
#[derive(Clone, PartialEq, Debug)]
pub struct Layer {
    /// What it is called: [`Site::name`].
    pub name: String,
    /// How its activations are quantised.
    pub input: Range,
    /// How what they are sums of is quantised, if nobody else reads it ([`Sources::summands`]) and that is known.
    pub summands: Option<Range>,
    /// For which activations: the [`Site::mark`] of all that the ranges were found for.
    pub marks: BTreeSet<u64>,
    /// Whether its results are shifted ([`shifts_path`]).
    pub is_shifted: bool,
}

impl Layer {
    /// One of which nothing is known but the range of its activations.
    pub fn new(name: impl Into<String>, input: Range) -> Self {
        Self { name: name.into(), input, summands: None, marks: BTreeSet::new(), is_shifted: false }
    }

    /// The parameter that its weights follow from, the largest of them: [`Site::layer`].
    pub fn parameter(&self) -> &str {
        self.name.split('@').next().unwrap_or(&self.name)
    }
}

/// What the path of a layer's weights ends with.
pub const INTEGERS: &str = ".q8";

/// The path of a layer's weights, i8 of the shape that they have in the graph.
pub fn weights_path(name: &str) -> String {
    format!("{name}{INTEGERS}")
}

/// The path of the scales of a layer's weights, f32 with one for each output channel.
pub fn scales_path(name: &str) -> String {
    format!("{name}.scale")
}

/// The path of what is added to a layer's results, f32 with one number for each output channel: what rounding takes
/// from them in the mean.
pub fn shifts_path(name: &str) -> String {
    format!("{name}.shift")
}
