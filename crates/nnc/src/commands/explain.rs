//! `nnc explain FILE`.

use crate::arguments::Explain;
use crate::terminal::{self, CAREFUL, GOOD, QUIET, STRONG};
use crate::{Failure, output, setup};
use nnc_driver::compiled;
use nnc_driver::profile;
use nnc_driver::prune;
use nnc_driver::{DriverError, stage};
use nnc_graph::{Graph, NodeId};
use nnc_kernel::predict::{Machine, Prediction, predict};
use nnc_kernel::{Lowered, PeakBuffer};
use nnc_opt::Optimised;
use nnc_opt::fuse::Verdict;
use serde_json::{Value, json};
use std::num::NonZeroUsize;

pub(crate) fn run(options: &Explain) -> Result<(), Failure> {
    let (project, loaded) = setup::weighted(&options.file, options.weights.as_deref())?;
    let program = setup::program(options.program, &project)?;
    let rows = setup::rows(&options.file)?;
    let graph = stage::graph(&project, options.file.only.as_deref(), program, rows)?;
    let graph = match &options.weights {
        Some(path) => {
            let compiler = setup::native(None, options.isa.isa, options.passes)?;
            let (only, weights) = (options.file.only.as_deref(), Some((path.as_path(), &loaded)));
            prune::specialised(&graph, &stage::store(&project, only, (&graph, rows), &compiler, weights)?)
        }
        None => graph,
    };
    let passes = setup::passes(options.passes, None);
    let optimised = nnc_opt::optimise(&graph, &passes)
        .map_err(|error| Failure::Driver(DriverError::Internal(error.to_string())))?;
    let lowered = compiled::lower(&optimised, options.isa.isa, None)?;
    let threads = options.threads.map_or(1, NonZeroUsize::get);
    let predictions = predict(&lowered, &Machine::of(&options.isa.isa.target()), threads);
    if options.json {
        return output::line(&format!("{:#}", as_json(&optimised, &lowered, (&predictions, threads))));
    }
    output::print(&shown(&optimised, &lowered, (&predictions, threads)))
}

fn shown(optimised: &Optimised, lowered: &Lowered, (predictions, threads): (&[Prediction], usize)) -> String {
    let runs = lowered.report.iter().zip(predictions).map(|(kernel, each)| kernel.runs as f64 * each.seconds);
    let mut text = format!(
        "{STRONG}{}{STRONG:#}, arena {}; predicted for {} of a processor as Zen 4: {} a run\n",
        terminal::counted(lowered.report.len(), "kernel launch").replace("launchs", "launches"),
        terminal::bytes(lowered.arena_bytes as u64),
        terminal::counted(threads, "thread"),
        terminal::duration(runs.sum()),
    );
    let heading = ["kernel", "flops", "bytes", "tasks", "predicted", "GFLOP/s", "bound by", "computes", "how"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (kernel, prediction) in lowered.report.iter().zip(predictions) {
        let tasks: Vec<String> = kernel.tasks.iter().map(u64::to_string).collect();
        rows.push(vec![
            terminal::repeated(&kernel.name, kernel.runs),
            terminal::grouped(kernel.flops),
            terminal::bytes(kernel.bytes),
            tasks.join("+"),
            terminal::duration(prediction.seconds * kernel.runs.max(1) as f64),
            format!("{:.1}", prediction.gflops),
            prediction.bound.name().to_owned(),
            computes(kernel.graph(&optimised.graph), &kernel.nodes),
            kernel.how.clone(),
        ]);
    }
    text += &terminal::table(&rows);
    text += &memory(optimised, lowered);
    text += &format!("\n{STRONG}fusions{STRONG:#}\n");
    for decision in optimised.partition.all_decisions() {
        let mark = if decision.verdict == Verdict::Done {
            format!("{GOOD}done{GOOD:#}   ")
        } else {
            format!("{CAREFUL}refused{CAREFUL:#}")
        };
        text += &format!("{mark} {} {QUIET}{}{QUIET:#}\n", decision.what, decision.why);
    }
    text
}

/// The most buffers that are shown.
const SHOWN_BUFFERS: usize = 8;

/// What fills the arena when it is fullest.
fn memory(optimised: &Optimised, lowered: &Lowered) -> String {
    let peak = &lowered.peak;
    let Some(kernel) = lowered.report.get(peak.launch).filter(|_| !peak.buffers.is_empty()) else {
        return String::new();
    };
    let bytes = |buffers: &[PeakBuffer]| terminal::bytes(buffers.iter().map(|buffer| buffer.bytes as u64).sum());
    let number = |at: usize| (at + 1).to_string();
    let mut text = format!(
        "\n{STRONG}memory{STRONG:#}: fullest in launch {} (`{}`), with {} in use\n",
        number(peak.launch),
        kernel.name,
        bytes(&peak.buffers)
    );
    let (shown, rest) = peak.buffers.split_at(peak.buffers.len().min(SHOWN_BUFFERS));
    let mut rows = vec![["bytes", "needed by launches", "holds"].map(str::to_owned).to_vec()];
    for buffer in shown {
        let needed = format!("{} to {}", number(*buffer.needed.start()), number(*buffer.needed.end()));
        rows.push(vec![terminal::bytes(buffer.bytes as u64), needed, held(&optimised.graph, buffer)]);
    }
    text += &terminal::table(&rows);
    if !rest.is_empty() {
        text += &format!("{QUIET}and {} more, {}{QUIET:#}\n", rest.len(), bytes(rest));
    }
    text
}

/// Type, operation and library function of what a buffer holds.
fn held(graph: &Graph, buffer: &PeakBuffer) -> String {
    let Some(held) = &buffer.holds else { return "what a kernel works with".to_owned() };
    profile::described(held.graph(graph), held.value)
}

/// The ops of a kernel, counted, with the library functions they come from.
fn computes(graph: &Graph, nodes: &[NodeId]) -> String {
    let mut ops: Vec<(&str, usize)> = Vec::new();
    let mut functions: Vec<&str> = Vec::new();
    for node in nodes.iter().map(|&id| graph.node(id)) {
        match ops.iter_mut().find(|(name, _)| *name == node.op.name()) {
            Some((_, count)) => *count += 1,
            None => ops.push((node.op.name(), 1)),
        }
        let function = node.origin.map(|id| graph.origin(id).function.as_str());
        functions.extend(function.filter(|function| !functions.contains(function)));
    }
    let counted =
        |(name, count): &(&str, usize)| if *count == 1 { (*name).to_owned() } else { format!("{name} x{count}") };
    let ops: Vec<String> = ops.iter().map(counted).collect();
    format!("{} ({})", ops.join(" "), functions.join(", "))
}

fn as_json(optimised: &Optimised, lowered: &Lowered, (predictions, threads): (&[Prediction], usize)) -> Value {
    let kernels = lowered.report.iter().zip(predictions).map(|(kernel, prediction)| {
        json!({
            "kernel": kernel.name,
            "runs": kernel.runs,
            "flops": kernel.flops,
            "bytes": kernel.bytes,
            "tasks": kernel.tasks,
            "how": kernel.how,
            "schedule": kernel.schedule,
            "predicted_seconds": prediction.seconds,
            "predicted_gflops": prediction.gflops,
            "predicted": profile::in_parts(prediction),
            "loops": kernel.scans.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "nodes": kernel.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let buffers = lowered.peak.buffers.iter().map(|buffer| {
        json!({
            "bytes": buffer.bytes,
            "first_launch": buffer.needed.start(),
            "last_launch": buffer.needed.end(),
            "holds": held(&optimised.graph, buffer),
        })
    });
    let peak = json!({ "launch": lowered.peak.launch, "buffers": buffers.collect::<Vec<_>>() });
    let decisions = optimised.partition.all_decisions().into_iter();
    let decisions = decisions.map(|decision| json!({"done": decision.verdict == Verdict::Done, "kind": decision.kind, "what": decision.what, "why": decision.why}));
    json!({
        "arena_bytes": lowered.arena_bytes,
        "predicted_for_threads": threads,
        "peak": peak,
        "kernels": kernels.collect::<Vec<_>>(),
        "fusions": decisions.collect::<Vec<_>>(),
    })
}
