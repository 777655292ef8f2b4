//! The commands that make a trained network smaller or faster.

use super::{FileOptions, IsaOptions, PassOptions};
use crate::values;
use clap::{Args, ValueEnum};
use nnc_graph::Stored;
use nnc_opt::prune::{Block, Scope};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Set the weights that count least to zero, or take whole channels and heads out.
///
/// The result is a file of weights like any other, with what was pruned beside them. `nnc train FILE --init OUT` trains
/// it further, keeps the zeros, and does not bring back channels.
#[derive(Args, Debug)]
pub struct Prune {
    #[command(flatten)]
    pub file: FileOptions,
    /// The weights: a checkpoint or any safetensors file.
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: PathBuf,
    /// The share of the weights that go.
    #[arg(long, value_name = "SHARE", default_value = "0.9", value_parser = values::sparsity, allow_negative_numbers = true)]
    pub sparsity: f64,
    /// Take channels, hidden units and heads out, until this share of the multiply-adds is gone, those first that are worth
    /// least.
    #[arg(long, value_name = "SHARE", value_parser = values::sparsity, allow_negative_numbers = true, conflicts_with_all = ["sparsity", "block"])]
    pub channels: Option<f64>,
    /// With `--channels`: where channels go, a multiple of so many stays, or of half as many where there are few.
    #[arg(long, value_name = "N", default_value = "16", value_parser = values::multiple, requires = "channels")]
    pub multiple: usize,
    /// With `--channels`: of those that are worth as much take those first that take longest, in a run of one example, or of
    /// 64 with `--bind N=64`. The network is faster, and has less left to learn with.
    #[arg(long, requires = "channels", conflicts_with = "sparsity")]
    pub by_time: bool,
    /// What goes or stays together: so many neighbouring inputs by so many neighbouring outputs, as `1x16`.
    #[arg(long, value_name = "RxC", default_value = "1x1", value_parser = values::block)]
    pub block: Block,
    /// What the share is a share of: all weights or groups of channels together, or each by itself.
    #[arg(long, value_name = "SCOPE", default_value = "global", value_parser = values::scope())]
    pub scope: Scope,
    /// Prune only these parameters or those of these layers, or only channels that these have [default: every factor of
    /// a product].
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub over: Vec<String>,
    /// The file of pruned weights to write.
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// In how many bits weights are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Bits {
    /// The upper halves of floats.
    Bf16,
    /// Integers of eight bits, a scale for each group.
    Int8,
    /// Integers of four bits, a scale for each group.
    Int4,
}

impl Bits {
    /// The form of such bits, where there are groups of so many terms.
    pub fn stored(self, group: usize) -> Stored {
        match self {
            Self::Bf16 => Stored::Bf16,
            Self::Int8 => Stored::Bytes { group },
            Self::Int4 => Stored::Nibbles { group },
        }
    }
}

/// How the range of activations is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Calibration {
    /// All that was seen.
    #[value(name = "minmax")]
    MinMax,
    /// All but the largest magnitudes.
    Percentile,
    /// The least squared error of rounding and of what is cut off.
    Mse,
    /// What tells most of the histogram, by relative entropy.
    Entropy,
}

/// Do the products of trained weights with integers of eight bits.
///
/// Activations are looked at on real examples, weights are rounded channel by channel. A product stays f32 where int8
/// measures slower, or costs more of the metric than is allowed. The file is smaller, and `eval`, `run`, `build`,
/// `bench`, `profile` and `explain` take it like any other.
#[derive(Args, Debug)]
pub struct Quantise {
    #[command(flatten)]
    pub file: FileOptions,
    /// The weights: a checkpoint or any safetensors file.
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: PathBuf,
    /// Folder that the data paths start at [default: the file's own].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// For a model without a recipe: what one call is given, as `name=path`.
    #[arg(short, long, value_name = "NAME=VALUE", num_args = 1..)]
    pub input: Vec<String>,
    /// The file of quantised weights to write.
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Store the weights alone in few bits, in float products: for networks that are bound by memory.
    #[arg(long, value_name = "FORM", conflicts_with_all = ["input", "range", "percentile"])]
    pub weights_only: Option<Bits>,
    /// Neighbouring terms that share a scale, with `--weights-only int8` or `int4` [default: the most up to
    /// 64 that a matrix has whole groups of].
    #[arg(long, value_name = "N", requires = "weights_only", value_parser = values::group, allow_negative_numbers = true)]
    pub group: Option<NonZeroUsize>,
    /// How the range of activations is chosen.
    #[arg(long, value_name = "METHOD", default_value = "mse")]
    pub range: Calibration,
    /// The share of what is not 0 that `--range percentile` keeps, in per cent [default: 99.99].
    #[arg(long, value_name = "PERCENT", value_parser = values::percentile, allow_negative_numbers = true)]
    pub percentile: Option<f64>,
    /// Calibration examples, taken from those that were trained on [default: 512].
    #[arg(long, value_name = "N", value_parser = values::examples, allow_negative_numbers = true)]
    pub examples: Option<NonZeroUsize>,
    /// The metric that counts [default: the first of the recipe, or its loss].
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// How many points of a hundred the metric may drop; a loss, by how many per cent it may grow [default: 0.5].
    #[arg(long, value_name = "POINTS", value_parser = values::points, allow_negative_numbers = true)]
    pub max_drop: Option<f64>,
    /// Quantise products that are slower with integers, too, or by weights of few bits; nothing is timed.
    #[arg(long)]
    pub all: bool,
    /// Threads to use [default: all].
    #[arg(long, value_name = "N", value_parser = values::threads, allow_negative_numbers = true)]
    pub threads: Option<NonZeroUsize>,
    #[command(flatten)]
    pub isa: IsaOptions,
    #[command(flatten)]
    pub passes: PassOptions,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Search for a faster network that is about as good: pruned, of other numbers, or both.
///
/// Networks with something taken out are trained on by the recipe. Choices are made by the validation split, or without
/// one by the test split; of what meets the target the network that loses least is written.
#[derive(Args, Debug)]
pub struct Compress {
    #[command(flatten)]
    pub file: FileOptions,
    /// The weights: a checkpoint or any safetensors file of floats.
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: PathBuf,
    /// Folder that the data paths start at [default: the file's own].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How many times as fast the answer has to be.
    #[arg(long, value_name = "TIMES", default_value = "2", value_parser = values::speed_up, allow_negative_numbers = true)]
    pub target_speedup: f64,
    /// How many points of a hundred the metric may drop; a loss, by how many per cent it may grow.
    #[arg(long, value_name = "POINTS", default_value = "0.5", value_parser = values::points, allow_negative_numbers = true)]
    pub max_drop: f64,
    /// Epochs of training after something was taken out; 0 for none [default: a fifth of the recipe's].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::epochs)]
    pub epochs: Option<u64>,
    /// The metric that counts [default: the first of the recipe, or its loss].
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// Which answer is timed, when the recipe has several.
    #[arg(long, value_name = "NAME")]
    pub answer: Option<String>,
    /// Examples in a run that is timed.
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::rows, allow_negative_numbers = true)]
    pub rows: usize,
    /// Terms that share a scale, of weights of few bits; fewer where a matrix has no whole groups of so many.
    #[arg(long, value_name = "N", default_value = "64", value_parser = values::group, allow_negative_numbers = true)]
    pub group: NonZeroUsize,
    /// The file of weights to write.
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Write every network that was made into this folder, too.
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
    /// Draw the metric of all networks against their time.
    #[arg(long, value_name = "FILE.svg", value_parser = values::plot)]
    pub plot: Option<PathBuf>,
    /// How long to time, in seconds, for each network.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = values::seconds, allow_negative_numbers = true)]
    pub seconds: Duration,
    /// Threads to use [default: all].
    #[arg(long, value_name = "N", value_parser = values::threads, allow_negative_numbers = true)]
    pub threads: Option<NonZeroUsize>,
    #[command(flatten)]
    pub isa: IsaOptions,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}
