//! Forms that a network may be given: what is taken out of it, and what its numbers are.

use nnc_graph::Stored;
use std::fmt;

/// What is taken out, or is to be; shares are from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Cut {
    /// Nothing.
    Nothing,
    /// Channels, until this share of the multiply-adds is gone.
    Channels(f64),
    /// This share of the weights, one by one.
    Elements(f64),
    /// This share of the weights, in blocks of an input by so many outputs as a vector has.
    Blocks(f64),
}

/// What weights, and products, are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbers {
    /// Floats.
    Floats,
    /// Products of integers of eight bits.
    Integers,
    /// Float products by weights of few bits.
    Stored(Stored),
}

/// A form of a network.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Variant {
    /// What is taken out, after which it is trained on.
    pub cut: Cut,
    /// What its numbers are in the end.
    pub numbers: Numbers,
}

impl Cut {
    /// The share that is taken out.
    pub fn share(self) -> f64 {
        match self {
            Self::Nothing => 0.0,
            Self::Channels(share) | Self::Elements(share) | Self::Blocks(share) => share,
        }
    }
}

impl Variant {
    /// The network as it was given.
    pub const GIVEN: Self = Self { cut: Cut::Nothing, numbers: Numbers::Floats };

    /// A name for a file.
    pub fn file_stem(self) -> String {
        let cut = match self.cut {
            Cut::Nothing => "whole".to_owned(),
            Cut::Channels(share) => format!("channels-{}", per_cent(share)),
            Cut::Elements(share) => format!("elements-{}", per_cent(share)),
            Cut::Blocks(share) => format!("blocks-{}", per_cent(share)),
        };
        let numbers = match self.numbers {
            Numbers::Floats => "floats".to_owned(),
            Numbers::Integers => "int8".to_owned(),
            Numbers::Stored(form) => format!("{}-weights", form.name()),
        };
        format!("{cut}-{numbers}")
    }
}

fn per_cent(share: f64) -> i64 {
    (100.0 * share).round() as i64
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Nothing => f.write_str("whole"),
            Self::Channels(share) => write!(f, "channels -{} %", per_cent(share)),
            Self::Elements(share) => write!(f, "elements -{} %", per_cent(share)),
            Self::Blocks(share) => write!(f, "blocks -{} %", per_cent(share)),
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Floats => f.write_str("floats"),
            Self::Integers => f.write_str("int8"),
            Self::Stored(form) => write!(f, "{} weights", form.name()),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.cut, self.numbers)
    }
}
