//! The commands and their options.

mod compression;

pub use compression::{Bits, Calibration, Compress, Prune, Quantise};

use crate::values::{self, Processor};
use clap::{Args, Parser, Subcommand, ValueEnum};
use nnc_driver::Engine;
use nnc_driver::stage::Which;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// A neural-network compiler: from a `.nn` file to a trained network and a native executable.
///
/// A `.nn` file holds a model, its data and its training recipe. Start with `nnc new mynet`, then `nnc train mynet.nn`.
#[derive(Parser, Debug)]
#[command(name = "nnc", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Arguments {
    /// When to colour the output (`NO_COLOR` is respected).
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: Colour,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Colour {
    /// When the output is a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Write a small `.nn` file to start from.
    New(New),
    /// Check files: names, shapes, recipes. Needs no data.
    Check(Check),
    /// Show a model layer by layer: output shape, parameters, multiply-adds, bytes.
    Show(Show),
    /// Format files in place.
    Fmt(Fmt),
    /// Train a recipe, and measure the result on the test split.
    ///
    /// The run's folder holds `last.safetensors`, `best.safetensors`, `metrics.csv`, its curves as `curves.svg`, and
    /// events for TensorBoard. A run that was stopped, by Ctrl-C or worse, goes on with `--resume` and ends with the
    /// same bits as one that was not.
    Train(Train),
    /// Measure trained weights on the test split.
    Eval(Eval),
    /// Run a network on an image, a CSV or an array.
    Run(Run),
    /// Write a native executable that needs nothing else.
    Build(Build),
    /// Set the weights that count least to zero.
    Prune(Prune),
    /// Do the products of trained weights with integers of eight bits.
    Quantise(Quantise),
    /// Search for a faster network that is about as good: pruned, of other numbers, or both.
    Compress(Compress),
    /// Print the derivative of the loss as a person would write it.
    Grad(Grad),
    /// Print the program at a stage of the compiler.
    Dump(Dump),
    /// Time the fused program against the same one unfused.
    Bench(Bench),
    /// Time each kernel of a program, beside what this machine can do at best.
    ///
    /// What is predicted follows from the code. The roofline is the least time in which the machine can do the
    /// arithmetic, or move the bytes of the kernel's buffers; from and to memory, or the caches if they hold all of
    /// them. Its limits are measured.
    Profile(Profile),
    /// Tell what a program is made of, without running it: its kernels, how long they are predicted to take, what fills
    /// the memory, which operations were fused, which were not, and why.
    ///
    /// Each line of the first table is a kernel. `tasks` are counted by phase: `7+4` are seven that all threads share,
    /// and when they are done four. `layout` tells how the images lie that it reads: channel by channel, or the
    /// channels of a place side by side. `how` tells how the work is cut; it is empty where elements are computed one
    /// after the other. `once` are kernels that run before the first run, as those that pack weights for others. Times
    /// are predicted from the code for a processor as Zen 4. With `--tune` the schedules are those that `run --tune`
    /// takes.
    Explain(Explain),
    /// Train the handwritten digits that ship with nnc, build the executable, and run it.
    Demo(Demo),
}

/// Options about the file and what stays open in it.
#[derive(Args, Clone, Debug)]
pub struct FileOptions {
    /// The `.nn` file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The recipe or model, when the file has several.
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Sizes of dims that the file leaves open, as `N=64`.
    #[arg(long, value_name = "DIM=SIZE", num_args = 1..)]
    pub bind: Vec<String>,
    /// Settings of the recipe, as `epochs=3 batch=128`, or of the model, where there is no recipe.
    #[arg(long, value_name = "NAME=VALUE", num_args = 1..)]
    pub set: Vec<String>,
    /// What `f32` in the file means.
    #[arg(long, value_name = "DTYPE", default_value = "f32", value_parser = ["f32", "f64"])]
    pub dtype: String,
}

/// Options about what runs the program.
#[derive(Args, Clone, Debug)]
pub struct EngineOptions {
    /// Threads to use, at most as many as may run at once; any number gives the same bits [default: all].
    #[arg(long, value_name = "N", value_parser = values::threads, allow_negative_numbers = true)]
    pub threads: Option<NonZeroUsize>,
    /// What runs the program: native code, the same bits from each instruction set, or the interpreter.
    #[arg(long, visible_alias = "isa", value_name = "ENGINE", default_value = "native", value_parser = values::engine())]
    pub engine: Engine,
    #[command(flatten)]
    pub passes: PassOptions,
    /// Stop the optimiser after this many rewrites, to find the one that breaks a program. What code cannot do without
    /// is no rewrite: derivatives, and f32 in the place of floats of 16 bits.
    #[arg(long, value_name = "N", hide = true, value_parser = values::rewrites, allow_negative_numbers = true)]
    pub fuel: Option<u64>,
    /// Print how long each pass of the compiler took, and what came behind: lowering, code generation, linking.
    #[arg(long)]
    pub time_passes: bool,
}

/// Options about what the compiler does to a program.
#[derive(Args, Clone, Copy, Default, Debug)]
pub struct PassOptions {
    /// Build the same program without fusing operations.
    #[arg(long)]
    pub no_fuse: bool,
    /// Add the terms of every convolution directly, never by Winograd's form, whose rounding errors are larger.
    #[arg(long)]
    pub no_winograd: bool,
    /// The most memory that each program may work in, as 512MB, 2GiB, 1e9 or 1000000 bytes: weights, states, inputs,
    /// results and what lies between. Values are computed again instead of kept until it is enough; the results have
    /// the same bits.
    #[arg(long, value_name = "BYTES", value_parser = values::memory, allow_negative_numbers = true)]
    pub max_memory: Option<NonZeroUsize>,
}

/// Options about schedules that are measured.
#[derive(Args, Clone, Copy, Default, Debug)]
pub struct TuneOptions {
    /// Measure other schedules of the products for no longer than that, take the fastest, and keep them in the user's
    /// cache (`NNC_CACHE`, or `nnc` in `XDG_CACHE_HOME` or `~/.cache`) for other runs with this option; 0 takes what is
    /// there. What the time was too short for is not kept. Every schedule gives the same bits.
    #[arg(long, value_name = "SECONDS", value_parser = values::tuning, allow_negative_numbers = true)]
    pub tune: Option<Duration>,
}

/// Options about the machine that code is made for.
#[derive(Args, Clone, Debug)]
pub struct IsaOptions {
    /// What native code is made for; each gives the same bits.
    #[arg(long, visible_alias = "engine", value_name = "ISA", default_value = "native", value_parser = values::backend())]
    pub isa: Engine,
}

/// Write a small `.nn` file to start from.
#[derive(Args, Debug)]
pub struct New {
    /// Name of the project: `NAME.nn` is written; an existing file is never touched.
    pub name: String,
}

/// Check files: names, shapes, recipes. Needs no data.
#[derive(Args, Debug)]
pub struct Check {
    /// The `.nn` files.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Print the diagnostics as JSON.
    #[arg(long)]
    pub json: bool,
    /// Sizes of dims that the files leave open, as `N=64`.
    #[arg(long, value_name = "DIM=SIZE", num_args = 1..)]
    pub bind: Vec<String>,
}

/// Show a model layer by layer.
#[derive(Args, Debug)]
pub struct Show {
    #[command(flatten)]
    pub file: FileOptions,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Format files in place.
#[derive(Args, Debug)]
pub struct Fmt {
    /// The `.nn` files.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Change nothing; fail when a file is not formatted.
    #[arg(long)]
    pub check: bool,
}

/// The options of `train`.
#[derive(Args, Debug)]
pub struct Train {
    #[command(flatten)]
    pub file: FileOptions,
    #[command(flatten)]
    pub tuning: TuneOptions,
    #[command(flatten)]
    pub engine: EngineOptions,
    /// Folder that the data paths start at [default: the file's own].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Seed of everything random: weights, order, dropout, augmentation [default: the recipe's, or 0].
    #[arg(long, value_name = "N", value_parser = values::seed, allow_negative_numbers = true)]
    pub seed: Option<i64>,
    /// The run's folder [default: a new one below `runs/`].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue the run in the folder.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Start from these weights; tensors that do not match are listed and keep their initial values.
    #[arg(long, value_name = "WEIGHTS", conflicts_with = "resume")]
    pub init: Option<PathBuf>,
    /// Write a checkpoint after every so many steps, too.
    #[arg(long, value_name = "STEPS", value_parser = values::steps, allow_negative_numbers = true)]
    pub checkpoint_every: Option<NonZeroU64>,
    /// Write a report of the run as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Measure trained weights on the test split.
#[derive(Args, Debug)]
pub struct Eval {
    #[command(flatten)]
    pub file: FileOptions,
    #[command(flatten)]
    pub engine: EngineOptions,
    /// The weights: a checkpoint or any safetensors file.
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: PathBuf,
    /// Folder that the data paths start at [default: the file's own].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Run a network on an image, a CSV or an array.
#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    pub file: FileOptions,
    #[command(flatten)]
    pub tuning: TuneOptions,
    #[command(flatten)]
    pub engine: EngineOptions,
    /// The weights: a checkpoint or any safetensors file [default: the files that `layer ... from` names].
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: Option<PathBuf>,
    /// Inputs as `name=path`, or the path alone when there is one input: PNG, JPEG, WAV, CSV, .npy, idx or text;
    /// words may stand there themselves. For a parameter that is text: the text itself, as `prompt="ROMEO:"`, or `@`
    /// and a file.
    #[arg(short, long, value_name = "NAME=VALUE", num_args = 1..)]
    pub input: Vec<String>,
    /// Write the answer as `.npy`, or as pictures to a name that ends with `.png`; a text as such, unless FILE ends in
    /// `.npy`.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Which answer, when the recipe has several; `--set` gives its parameters.
    #[arg(long, value_name = "NAME")]
    pub answer: Option<String>,
    /// What random numbers are drawn by.
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::seed, allow_negative_numbers = true)]
    pub seed: i64,
    /// How many classes to print for a row [default: 5 for one row, 1 for each of many].
    #[arg(long, value_name = "N", value_parser = values::classes, allow_negative_numbers = true)]
    pub top: Option<NonZeroUsize>,
    /// Print values and statistics of a named value inside, as `conv2d_1.y`; repeat for more.
    #[arg(long, value_name = "PATH")]
    pub watch: Vec<String>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Write a native executable that needs nothing else.
#[derive(Args, Debug)]
pub struct Build {
    #[command(flatten)]
    pub file: FileOptions,
    #[command(flatten)]
    pub tuning: TuneOptions,
    /// What native code is made for; each gives the same bits. Of several, as `avx512,avx2`, the executable takes the
    /// best that its machine has.
    #[arg(long, visible_alias = "engine", value_name = "ISA,...", default_value = "native", value_delimiter = ',',
          value_parser = values::processor())]
    pub isa: Vec<Processor>,
    #[command(flatten)]
    pub passes: PassOptions,
    /// The weights: a checkpoint or any safetensors file [default: the files that `layer ... from` names].
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: Option<PathBuf>,
    /// The executable to write.
    #[arg(short, long, value_name = "EXE")]
    pub output: PathBuf,
    /// Which answer, when the recipe has several.
    #[arg(long, value_name = "NAME")]
    pub answer: Option<String>,
}

/// Print the derivative of the loss by each parameter, as a person would write it.
#[derive(Args, Debug)]
pub struct Grad {
    #[command(flatten)]
    pub file: FileOptions,
    /// Only the derivative by this parameter, as `dense_1.w`.
    #[arg(long, value_name = "PATH")]
    pub by: Option<String>,
}

/// A stage of the compiler.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Stage {
    /// The syntax tree.
    Ast,
    /// The graph as the front end made it.
    Graph,
    /// The graph after all passes, with its fusion groups.
    Opt,
    /// The loop kernels and the plan.
    Kernel,
    /// Cranelift's intermediate code.
    Clif,
    /// Machine code.
    Asm,
}

/// Print the program at a stage of the compiler.
#[derive(Args, Debug)]
pub struct Dump {
    #[command(flatten)]
    pub file: FileOptions,
    /// The weights, whose form the program takes [default: first values].
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub tuning: TuneOptions,
    #[command(flatten)]
    pub isa: IsaOptions,
    /// Which stage.
    #[arg(long, value_name = "STAGE")]
    pub at: Stage,
    /// Which program [default: train; with quantised weights answer].
    #[arg(long, value_name = "PROGRAM", value_parser = values::program())]
    pub program: Option<Which>,
    #[command(flatten)]
    pub passes: PassOptions,
    /// Stop the optimiser after this many rewrites. What code cannot do without is no rewrite: derivatives, and f32 in
    /// the place of floats of 16 bits.
    #[arg(long, value_name = "N", value_parser = values::rewrites, allow_negative_numbers = true)]
    pub fuel: Option<u64>,
    /// Print how long each pass of the compiler took, and lowering.
    #[arg(long)]
    pub time_passes: bool,
}

/// Time the fused program against the same one unfused, in alternating runs; or the weights of several files.
#[derive(Args, Debug)]
pub struct Bench {
    #[command(flatten)]
    pub file: FileOptions,
    #[command(flatten)]
    pub tuning: TuneOptions,
    #[command(flatten)]
    pub isa: IsaOptions,
    /// The weights, which may have zeros that kernels leave out, or products of integers [default: first values].
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: Option<PathBuf>,
    /// Threads to use, at most as many as may run at once [default: all].
    #[arg(long, value_name = "N", value_parser = values::threads, allow_negative_numbers = true)]
    pub threads: Option<NonZeroUsize>,
    /// The most memory that the fused programs may work in, as 512MB: values are computed again instead of kept.
    #[arg(long, value_name = "BYTES", value_parser = values::memory, allow_negative_numbers = true, conflicts_with = "compare")]
    pub max_memory: Option<NonZeroUsize>,
    /// Switch each kind of fusion off in turn, too, to see what it is worth.
    #[arg(long)]
    pub ablate: bool,
    /// Compare the answer with the weights of these files, and those of `--weights` first, by form, size, time, and
    /// measure on the test split; no fusion is switched off.
    #[arg(long, value_name = "WEIGHTS", num_args = 1.., requires = "weights", conflicts_with = "ablate")]
    pub compare: Vec<PathBuf>,
    /// With `--compare`: which answer, when the recipe has several.
    #[arg(long, value_name = "NAME", requires = "compare")]
    pub answer: Option<String>,
    /// With `--compare`: folder that the data paths start at [default: the file's own, if they are there].
    #[arg(long, value_name = "DIR", requires = "compare")]
    pub data: Option<PathBuf>,
    /// With `--compare`: the measure that is told [default: the first metric of the recipe, or its loss].
    #[arg(long, value_name = "NAME", requires = "compare")]
    pub metric: Option<String>,
    /// With `--compare`: draw the measure against the time.
    #[arg(long, value_name = "FILE.svg", requires = "compare", value_parser = values::plot)]
    pub plot: Option<PathBuf>,
    /// How long to measure, in seconds, for each program.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = values::seconds, allow_negative_numbers = true)]
    pub seconds: Duration,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The options of `profile`.
#[derive(Args, Debug)]
pub struct Profile {
    #[command(flatten)]
    pub file: FileOptions,
    #[command(flatten)]
    pub tuning: TuneOptions,
    #[command(flatten)]
    pub isa: IsaOptions,
    /// The weights, which may have zeros that kernels leave out, or products of integers [default: first values].
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: Option<PathBuf>,
    /// Which program [default: train; with quantised weights answer].
    #[arg(long, value_name = "PROGRAM", value_parser = values::program())]
    pub program: Option<Which>,
    /// Threads to use, at most as many as may run at once [default: all].
    #[arg(long, value_name = "N", value_parser = values::threads, allow_negative_numbers = true)]
    pub threads: Option<NonZeroUsize>,
    /// How long to measure, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = values::seconds, allow_negative_numbers = true)]
    pub seconds: Duration,
    #[command(flatten)]
    pub passes: PassOptions,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write a file for Chrome's trace viewer too.
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
}

/// The options of `explain`.
#[derive(Args, Debug)]
pub struct Explain {
    #[command(flatten)]
    pub file: FileOptions,
    #[command(flatten)]
    pub tuning: TuneOptions,
    #[command(flatten)]
    pub isa: IsaOptions,
    /// The weights, which may have zeros that kernels leave out, or products of integers [default: first values].
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: Option<PathBuf>,
    /// Which program [default: train; with quantised weights answer].
    #[arg(long, value_name = "PROGRAM", value_parser = values::program())]
    pub program: Option<Which>,
    /// Threads that times are predicted for [default: 1].
    #[arg(long, value_name = "N", value_parser = values::threads, allow_negative_numbers = true)]
    pub threads: Option<NonZeroUsize>,
    #[command(flatten)]
    pub passes: PassOptions,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Train the handwritten digits that ship with nnc, build the executable, and run it.
#[derive(Args, Debug)]
pub struct Demo {
    /// Folder to work in [default: a new one below `runs/`].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
