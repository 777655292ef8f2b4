//! Fused against unfused: the same program twice, timed in alternating rounds.
//!
//! Inputs are random bytes for u8, small positive numbers for floats and zeros for other integers; weights are freshly
//! initialised. Alternation cancels what drifts on a machine; the figures are medians with quartiles.

use crate::compiled::{CompiledGraph, Compiler, RunError};
use crate::error::DriverError;
use crate::project::Project;
use crate::session::initial_store;
use crate::stage::{self, Which};
use crate::store::Store;
use nnc_graph::{DType, TensorType, tensor};
use nnc_opt::fuse::FuseOptions;
use nnc_opt::pipeline;
use serde::Serialize;
use std::time::{Duration, Instant};

/// One side of a comparison. Times are in seconds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Side {
    /// Median of the rounds.
    pub median: f64,
    /// Lower quartile.
    pub low: f64,
    /// Upper quartile.
    pub high: f64,
    /// Kernels launched in a run.
    pub kernels: usize,
    /// Bytes that the kernels read and write in a run.
    pub bytes: u64,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Time to compile.
    pub compile: f64,
}

/// A program, fused and unfused.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// Which program.
    pub program: String,
    /// Examples in a run.
    pub rows: usize,
    /// Rounds timed.
    pub rounds: usize,
    /// As `nnc` compiles it.
    pub fused: Side,
    /// With one kernel for each operation.
    pub unfused: Side,
    /// How many times faster the fused one is, by medians.
    pub speed_up: f64,
}

/// Compares a program with its unfused form for about `time` each.
///
/// # Errors
/// Diagnostics, or what cannot be compiled.
pub fn compare(
    project: &Project,
    only: Option<&str>,
    which: Which,
    rows: Option<usize>,
    compiler: &Compiler,
    time: Duration,
) -> Result<Comparison, DriverError> {
    let graph = stage::graph(project, only, which, rows)?;
    let init = stage::graph(project, only, Which::Init, rows)?;
    let mut stores = [initial_store(compiler, &init, 0)?, initial_store(compiler, &init, 0)?];
    let plain = pipeline::Options { fuse: FuseOptions::NONE, ..compiler.passes.clone() };
    let unfused = Compiler { passes: plain, ..compiler.clone() };
    let mut programs = [compiler.compile(&graph)?, unfused.compile(&graph)?];
    programs.iter_mut().for_each(fill_inputs);
    let times = alternate(&mut programs, &mut stores, time)?;
    let rounds = times[0].len();
    let [fused, unfused] = [side(&programs[0], &times[0]), side(&programs[1], &times[1])];
    let rows = rows.unwrap_or(match (which, project.unit.recipes.is_empty()) {
        (Which::Train | Which::Evaluate, false) => Project::batch(project.recipe(only)?),
        _ => 1,
    });
    let speed_up = unfused.median / fused.median.max(1e-12);
    let program = match which {
        Which::Train if !project.unit.recipes.is_empty() => "training step",
        Which::Evaluate => "evaluation",
        Which::Init => "initialisation",
        Which::Train | Which::Answer => "answer",
    };
    Ok(Comparison { program: program.to_owned(), rows, rounds, fused, unfused, speed_up })
}

/// At least this many rounds, whatever the time.
const LEAST_ROUNDS: usize = 7;

/// Seconds of each run, for each program.
fn alternate(
    programs: &mut [CompiledGraph; 2],
    stores: &mut [Store; 2],
    time: Duration,
) -> Result<[Vec<f64>; 2], DriverError> {
    let mut times = [Vec::new(), Vec::new()];
    let started = Instant::now();
    let mut round = 0;
    while round <= LEAST_ROUNDS || started.elapsed() < time * 2 {
        for (at, (program, store)) in programs.iter_mut().zip(stores.iter_mut()).enumerate() {
            let before = Instant::now();
            program.run(store).map_err(failed)?;
            // The first round warms the caches.
            if round > 0 {
                times[at].push(before.elapsed().as_secs_f64());
            }
        }
        round += 1;
    }
    Ok(times)
}

fn side(program: &CompiledGraph, times: &[f64]) -> Side {
    let at = |share: f64| quantile(times, share);
    let report = program.lowered().map_or(&[][..], |lowered| &lowered.report);
    Side {
        median: at(0.5),
        low: at(0.25),
        high: at(0.75),
        kernels: report.len(),
        bytes: report.iter().map(|kernel| kernel.bytes * kernel.runs).sum(),
        arena_bytes: program.arena_bytes(),
        compile: program.compile_time.as_secs_f64(),
    }
}

/// Why a program stopped on made-up inputs. They are numbers from 0 to 1, and indices of 0, which lie in any range.
pub(crate) fn failed(error: RunError) -> DriverError {
    match error {
        RunError::OutOfRange(_) => DriverError::Usage(format!("{error}, in a run on made-up inputs")),
        RunError::NotResident(_) => DriverError::Internal(error.to_string()),
        RunError::Internal(why) => DriverError::Internal(why),
    }
}

/// The value below which a share of the values lies; 0.5 gives the median. There is at least one value.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Puts in what a run can work on.
pub(crate) fn fill_inputs(program: &mut CompiledGraph) {
    let inputs: Vec<(String, TensorType)> = program.inputs().map(|(name, ty)| (name.to_owned(), ty.clone())).collect();
    for (name, ty) in inputs {
        let Some(bytes) = program.input_mut(&name) else { continue };
        // A multiplicative generator (Lehmer): any spread of values does.
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut next = move || {
            state = state.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(1);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        let mut values = Vec::with_capacity(bytes.len());
        while values.len() < bytes.len() {
            let value = match ty.dtype {
                DType::U8 if ty.shape.rank() > 1 => (next() * 255.0).floor(),
                dtype if dtype.is_float() => next(),
                _ => 0.0,
            };
            tensor::encode(ty.dtype, value, &mut values);
        }
        bytes.copy_from_slice(&values);
    }
    program.set_i64("$iterations", 1000);
}
