//! Where the time of a program goes: each kernel launch timed, beside what the machine could do at best.

use crate::bench::{failed, fill_inputs, quantile};
use crate::checkpoint::Checkpoint;
use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::project::Project;
use crate::prune;
use crate::roofline::{Arithmetic, Bound, Roofline};
use crate::stage::{self, Which};
use nnc_graph::{DType, Graph, Op, ValueId};
use nnc_kernel::KernelReport;
use nnc_kernel::predict::{Machine, Prediction, Traffic, predict};
use nnc_opt::fuse::{self, Class};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// A kernel launch.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LaunchProfile {
    /// The kernel's name.
    pub kernel: String,
    /// What it is built around, as a product or a reduction, or else the last that it computes: type, operation and
    /// library function.
    pub computes: String,
    /// How often it runs: 1, or the steps of the loops around it.
    pub runs: u64,
    /// Median seconds of all its runs.
    pub seconds: f64,
    /// Arithmetic operations of all runs, roughly.
    pub flops: u64,
    /// Bytes of its buffers that each run reads and writes, by its code; each byte counts once.
    pub bytes: u64,
    /// Operations a second, in 10^9.
    pub gflops: f64,
    /// Seconds that are predicted from the kernel's code ([`nnc_kernel::predict`]), with the clock and the memory of
    /// this machine.
    pub predicted_seconds: f64,
    /// Operations a second that are predicted, in 10^9.
    pub predicted_gflops: f64,
    /// What the predicted time is made of.
    pub predicted: serde_json::Value,
    /// The least seconds in which this machine can do so much.
    pub least_seconds: f64,
    /// What those are bound by.
    pub bound: Bound,
    /// The least time as per cent of the time it took.
    pub roofline_percent: f64,
    /// Tasks of its phases.
    pub schedule: String,
}

/// A program and its launches.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Profile {
    /// What the machine can do.
    pub roofline: Roofline,
    /// Threads at work.
    pub threads: usize,
    /// The backend.
    pub engine: String,
    /// Runs timed.
    pub rounds: usize,
    /// Seconds of all launches of a run, the median of the runs.
    pub seconds: f64,
    /// Launches that run once, before the first run, and are not among the others: they pack weights and the like.
    pub prepared: usize,
    /// Launches of stages, which run at the same time as others, but are timed one after the other.
    pub staged: usize,
    /// How far the predictions are off.
    pub predictions: Errors,
    /// In the order in which they run.
    pub launches: Vec<LaunchProfile>,
}

/// How far predicted times are off: the larger of predicted and measured over the smaller, minus 1, in per cent.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Errors {
    /// Predicted seconds of a run.
    pub seconds: f64,
    /// Of the whole run.
    pub run_percent: f64,
    /// Of the kernel in the middle.
    pub median_percent: f64,
    /// Of the kernel in the middle if each counts by its time.
    pub weighted_percent: f64,
}

impl Errors {
    fn new(launches: &[LaunchProfile]) -> Self {
        let total = |of: fn(&LaunchProfile) -> f64| launches.iter().map(of).sum::<f64>();
        let (predicted, measured) = (total(|launch| launch.predicted_seconds), total(|launch| launch.seconds));
        let mut each: Vec<(f64, f64)> =
            launches.iter().map(|launch| (off(launch.predicted_seconds, launch.seconds), launch.seconds)).collect();
        each.sort_by(|a, b| a.0.total_cmp(&b.0));
        let percents: Vec<f64> = each.iter().map(|pair| pair.0).collect();
        let mut passed = 0.0;
        let weighted = each.iter().find(|pair| {
            passed += pair.1;
            2.0 * passed >= measured
        });
        Self {
            seconds: predicted,
            run_percent: off(predicted, measured),
            median_percent: if percents.is_empty() { 0.0 } else { quantile(&percents, 0.5) },
            weighted_percent: weighted.map_or(0.0, |pair| pair.0),
        }
    }
}

/// How far a prediction is off, in per cent.
fn off(predicted: f64, measured: f64) -> f64 {
    let (less, more) = (predicted.min(measured).max(1e-12), predicted.max(measured).max(1e-12));
    100.0 * (more / less - 1.0)
}

/// At least this many runs, whatever the time.
const LEAST_ROUNDS: usize = 7;

/// Runs a program for about `time` and profiles it.
///
/// # Errors
/// Diagnostics, or what cannot be compiled.
pub fn profile(
    project: &Project,
    only: Option<&str>,
    which: Which,
    (rows, weights): (Option<usize>, Option<(&Path, &Checkpoint)>),
    compiler: &Compiler,
    time: Duration,
) -> Result<Profile, DriverError> {
    let graph = stage::graph(project, only, which, rows)?;
    let mut store = stage::store(project, only, (&graph, rows), compiler, weights)?;
    let mut program = compiler.compile_to_measure(&prune::specialised(&graph, &store))?;
    fill_inputs(&mut program);
    let roofline = Roofline::measure(compiler)?;
    let mut rounds: Vec<Vec<Duration>> = vec![];
    let started = Instant::now();
    while rounds.len() <= LEAST_ROUNDS || started.elapsed() < time {
        let times = program.run_timed(&mut store).map_err(failed)?;
        rounds.push(times);
    }
    // Other programs may have been at work the first time.
    let roofline = roofline.max(Roofline::measure(compiler)?);
    // The first round warms the caches.
    rounds.remove(0);
    let report = program.lowered().map_or(&[][..], |lowered| &lowered.report);
    let threads = compiler.pool.threads();
    let machine = Machine::of(&compiler.engine.target()).with_rates(roofline.flops, roofline.bytes, threads);
    let predicted = program.lowered().map_or(vec![], |lowered| predict(lowered, &machine, threads));
    let in_each_run = report.iter().enumerate().filter(|(_, kernel)| kernel.runs > 0);
    let launches = in_each_run.map(|(at, kernel)| {
        let times: Vec<f64> = rounds.iter().map(|round| round[at].as_secs_f64()).collect();
        launch(&program.graph, kernel, (quantile(&times, 0.5), &predicted[at]), &roofline)
    });
    let launches: Vec<LaunchProfile> = launches.collect();
    let totals: Vec<f64> = rounds.iter().map(|round| round.iter().sum::<Duration>().as_secs_f64()).collect();
    Ok(Profile {
        roofline,
        threads,
        engine: compiler.engine.name().to_owned(),
        rounds: rounds.len(),
        seconds: quantile(&totals, 0.5),
        prepared: report.iter().filter(|kernel| kernel.runs == 0).count(),
        staged: program
            .lowered()
            .map_or(0, |lowered| (0..report.len()).filter(|&at| lowered.program.stage(at).is_some()).count()),
        predictions: Errors::new(&launches),
        launches,
    })
}

fn launch(
    graph: &Graph,
    kernel: &KernelReport,
    (seconds, prediction): (f64, &Prediction),
    roofline: &Roofline,
) -> LaunchProfile {
    let bytes = prediction.traffic.bytes() as u64;
    let (least, bound) = roofline.seconds((kernel.flops, arithmetic(graph, kernel)), bytes);
    let (flops, least) = (kernel.flops * kernel.runs, least * kernel.runs as f64);
    LaunchProfile {
        kernel: kernel.name.clone(),
        computes: computes(graph, kernel),
        runs: kernel.runs,
        seconds,
        flops,
        bytes,
        gflops: flops as f64 / seconds.max(1e-12) / 1e9,
        predicted_seconds: prediction.seconds * kernel.runs as f64,
        predicted_gflops: prediction.gflops,
        predicted: in_parts(prediction),
        least_seconds: least,
        bound,
        roofline_percent: 100.0 * least / seconds.max(1e-12),
        schedule: kernel.schedule.clone(),
    }
}

/// What a kernel's operations are done on: bytes where it multiplies them.
fn arithmetic(graph: &Graph, kernel: &KernelReport) -> Arithmetic {
    let graph = kernel.graph(graph);
    let multiplies_bytes = kernel.nodes.iter().any(|&id| {
        let node = graph.node(id);
        let is_product = matches!(node.op, Op::Dot { .. } | Op::Conv(_) | Op::ConvLast(_));
        is_product && graph.ty(node.operands[0]).dtype == DType::U8
    });
    if multiplies_bytes { Arithmetic::Bytes } else { Arithmetic::Floats }
}

/// What a predicted time is made of: seconds of instructions and of data, and the bytes by where they come from.
pub fn in_parts(prediction: &Prediction) -> serde_json::Value {
    let Traffic { first, second, shared, memory, .. } = prediction.traffic;
    serde_json::json!({
        "bound": prediction.bound.name(),
        "instructions_seconds": prediction.instructions,
        "data_seconds": prediction.data,
        "bytes": { "first_cache": first, "second_cache": second, "shared_cache": shared, "memory": memory },
    })
}

/// Type, operation and origin of the node that a kernel is about.
fn computes(graph: &Graph, kernel: &KernelReport) -> String {
    let Some(node) = kernel.nodes.iter().max_by_key(|&&id| (weight(&kernel.graph(graph).node(id).op), id)) else {
        return "a copy".to_owned();
    };
    let graph = kernel.graph(graph);
    described(graph, graph.node(*node).results[0])
}

/// Type, operation and library function of a value.
pub fn described(graph: &Graph, value: ValueId) -> String {
    let node = graph.definition(value);
    let (ty, op) = (graph.ty(value), node.op.name());
    match graph.function_of(node).filter(|function| *function != op) {
        Some(function) => format!("{ty} {op} ({function})"),
        None => format!("{ty} {op}"),
    }
}

/// The node of a kernel that says most about it has the greatest.
fn weight(op: &Op) -> u8 {
    match fuse::class(op) {
        // Windows may stand behind a convolution that they are taken of.
        Class::Anchor if matches!(op, Op::Window { .. }) => 2,
        Class::Anchor | Class::Loop => 3,
        Class::Reduce => 2,
        Class::Pointwise | Class::Indexed => 1,
        Class::View | Class::Leaf => 0,
    }
}

impl Profile {
    /// The launches of one run as events of Chrome's trace viewer (`chrome://tracing`, Perfetto): the "Trace Event
    /// Format", complete events, times in microseconds.
    pub fn chrome_trace(&self) -> serde_json::Value {
        let mut at = 0.0;
        let events = self.launches.iter().map(|launch| {
            let began = at;
            at += launch.seconds;
            serde_json::json!({
                "name": launch.kernel, "cat": "kernel", "ph": "X", "pid": 1, "tid": 1,
                "ts": began * 1e6, "dur": launch.seconds * 1e6,
                "args": {
                    "computes": launch.computes, "gflops": launch.gflops, "bytes": launch.bytes,
                    "predicted_us": launch.predicted_seconds * 1e6, "roofline_percent": launch.roofline_percent,
                },
            })
        });
        serde_json::json!({ "displayTimeUnit": "ms", "traceEvents": events.collect::<Vec<_>>() })
    }
}
