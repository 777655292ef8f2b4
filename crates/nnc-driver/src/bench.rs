//! Fused against unfused, and against each kind of fusion switched off: the same program several times, timed in
//! alternating rounds.
//!
//! Inputs are random bytes for u8, small positive numbers for floats and zeros for other integers; weights are freshly
//! initialised. Alternation cancels what drifts on a machine; the figures are medians with quartiles.

use crate::checkpoint::Checkpoint;
use crate::compiled::{CompiledGraph, Compiler, RunError};
use crate::error::DriverError;
use crate::project::Project;
use crate::prune;
use crate::stage::{self, Which};
use crate::store::Store;
use nnc_graph::{DType, Graph, Op, TensorType, tensor};
use nnc_opt::fuse::FuseOptions;
use nnc_opt::pipeline;
use serde::Serialize;
use std::path::Path;
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
    /// With one kind of fusion switched off, for each kind; empty unless that was asked for.
    pub ablations: Vec<Ablation>,
}

/// A program without one kind of fusion.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Ablation {
    /// The kind that is off.
    pub without: &'static str,
    /// What is left.
    pub side: Side,
    /// How many times faster the program is with that kind, by medians.
    pub speed_up: f64,
}

/// Of which program, and how, a comparison is made.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The recipe, if there are several.
    pub only: Option<&'a str>,
    /// Which program.
    pub which: Which,
    /// Examples in a run, if it is not the recipe's own number.
    pub rows: Option<usize>,
    /// About how long each variant runs.
    pub time: Duration,
    /// Whether each kind of fusion is switched off in turn.
    pub ablate: bool,
    /// The weights, if they are not to be made up.
    pub weights: Option<(&'a Path, &'a Checkpoint)>,
}

/// Compares a program with its unfused form, and with variants that lack one kind of fusion if that is wanted.
///
/// # Errors
/// Diagnostics, or what cannot be compiled.
pub fn compare(project: &Project, wanted: Wanted<'_>, compiler: &Compiler) -> Result<Comparison, DriverError> {
    let Wanted { only, which, rows, .. } = wanted;
    let graph = stage::graph(project, only, which, rows)?;
    let mut variants = vec![FuseOptions::ALL, FuseOptions::NONE];
    let kinds: &[_] = if wanted.ablate { &FuseOptions::without_each() } else { &[] };
    variants.extend(kinds.iter().map(|(_, options)| *options));
    let store = || stage::store(project, only, (&graph, rows), compiler, wanted.weights);
    let (mut programs, mut kinds) = (Vec::new(), kinds.iter().map(|&(kind, _)| kind).collect::<Vec<_>>());
    let specialised = prune::specialised(&graph, &store()?);
    for fuse in variants {
        // What is compared with may take what it needs.
        let max_memory = compiler.passes.max_memory.filter(|_| fuse == FuseOptions::ALL);
        let passes = pipeline::Options { fuse, max_memory, ..compiler.passes.clone() };
        let mut program = Compiler { passes, ..compiler.clone() }.compile(&specialised)?;
        fill_inputs(&mut program);
        programs.push((program, store()?));
    }
    if has_sparse(&specialised, &graph) {
        let mut program = compiler.compile(&graph)?;
        fill_inputs(&mut program);
        programs.push((program, store()?));
        kinds.push(SPARSE);
    }
    let times = alternate(&mut programs, wanted.time)?;
    let mut sides = programs.iter().zip(&times).map(|((program, _), times)| side(program, times));
    let (Some(fused), Some(unfused)) = (sides.next(), sides.next()) else {
        return Err(DriverError::Internal("a comparison of nothing".to_owned()));
    };
    let speed_up = |other: &Side| other.median / fused.median.max(1e-12);
    let ablations = kinds.iter().zip(sides);
    let ablations = ablations.map(|(&without, side)| Ablation { without, speed_up: speed_up(&side), side }).collect();
    let rows = rows.unwrap_or(match (which, project.unit.recipes.is_empty()) {
        (Which::Train | Which::Evaluate, false) => Project::batch(project.recipe(only)?),
        _ => 1,
    });
    let program = match which {
        Which::Train if !project.unit.recipes.is_empty() => "training step",
        Which::Evaluate => "evaluation",
        Which::Init => "initialisation",
        Which::Train | Which::Answer => "answer",
    };
    let (program, rounds, speed_up) = (program.to_owned(), times[0].len(), speed_up(&unfused));
    Ok(Comparison { program, rows, rounds, fused, unfused, speed_up, ablations })
}

/// What a program is without that knows nothing of the zeros of its weights.
const SPARSE: &str = "sparse kernels";

/// Whether parameters of a graph are constants of its specialised form.
fn has_sparse(specialised: &Graph, graph: &Graph) -> bool {
    let parameters = |graph: &Graph| graph.nodes().filter(|(_, node)| matches!(node.op, Op::Param { .. })).count();
    parameters(specialised) < parameters(graph)
}

/// At least this many rounds, whatever the time.
const LEAST_ROUNDS: usize = 7;

/// Seconds of each run, for each program.
pub(crate) fn alternate(programs: &mut [(CompiledGraph, Store)], time: Duration) -> Result<Vec<Vec<f64>>, DriverError> {
    let mut times = vec![Vec::new(); programs.len()];
    let started = Instant::now();
    let mut round = 0;
    while round <= LEAST_ROUNDS || started.elapsed() < time * programs.len() as u32 {
        for ((program, store), times) in programs.iter_mut().zip(&mut times) {
            let before = Instant::now();
            program.run(store).map_err(failed)?;
            // The first round warms the caches.
            if round > 0 {
                times.push(before.elapsed().as_secs_f64());
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
        kernels: report.iter().filter(|kernel| kernel.runs > 0).count(),
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
