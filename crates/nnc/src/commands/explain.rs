//! `nnc explain FILE`.

use super::{explain_bytes, explain_zeros};
use crate::arguments::Explain;
use crate::terminal::{self, CAREFUL, GOOD, QUIET, STRONG};
use crate::{Failure, output, setup};
use nnc_driver::fit::{Again, Culprit, Fitted};
use nnc_driver::form::zeros_of_numbers;
use nnc_driver::profile;
use nnc_driver::prune;
use nnc_driver::stage;
use nnc_driver::{Compiler, Engine};
use nnc_graph::{Graph, NodeId};
use nnc_kernel::predict::{Machine, Prediction, predict, run_seconds};
use nnc_kernel::{ArenaBuffer, KernelReport, Lowered};
use nnc_opt::Optimised;
use nnc_opt::fuse::Verdict;
use nnc_opt::layout::Order;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

pub(crate) fn run(options: &Explain) -> Result<(), Failure> {
    let (project, loaded) = setup::weighted(&options.file, options.weights.as_deref())?;
    let program = setup::program(options.program, &project)?;
    let rows = setup::rows(&options.file)?;
    let graph = stage::graph(&project, options.file.only.as_deref(), program, rows)?;
    // Times may be predicted for more threads than this machine has; schedules are measured on its own.
    let measuring = options.threads.filter(|_| options.tuning.tune.is_some());
    let mut compiler = setup::native(measuring, options.isa.isa, options.passes)?;
    let weights = options.weights.as_deref().map(|path| (path, &loaded));
    let graph = match weights.is_some() || options.tuning.tune.is_some() {
        true => {
            let only = options.file.only.as_deref();
            // What the weights do not have is computed, on this machine whatever it is that code is shown for.
            let here = Compiler { engine: Engine::host(), ..compiler.clone() };
            let mut store = stage::store(&project, only, (&graph, rows), &here, weights)?;
            setup::tune(options.tuning, &mut compiler, &graph, &mut store)?;
            if weights.is_some() { prune::specialised(&graph, &store) } else { graph }
        }
        false => graph,
    };
    let zeros = zeros_of_numbers(&loaded.tensors);
    let engine = (options.isa.isa, options.threads);
    let fitted = setup::fitted(&graph, engine, &compiler.passes, compiler.tuning.as_deref())?;
    let threads = options.threads.map_or(1, NonZeroUsize::get);
    let predictions = predict(&fitted.lowered, &Machine::of(&options.isa.isa.target()), threads);
    if options.json {
        return output::line(&format!("{:#}", as_json(&fitted, (&predictions, threads), &zeros)));
    }
    output::print(&shown(&fitted, (&predictions, threads), &zeros))
}

fn shown(fitted: &Fitted, (predictions, threads): (&[Prediction], usize), zeros: &BTreeMap<String, f64>) -> String {
    let Fitted { optimised, lowered, .. } = fitted;
    let mut text = format!(
        "{STRONG}{}{STRONG:#}, arena {}; predicted for {} of a processor as Zen 4: {} a run\n",
        terminal::counted(lowered.report.len(), "kernel launch").replace("launchs", "launches"),
        terminal::bytes(lowered.arena_bytes as u64),
        terminal::counted(threads, "thread"),
        terminal::duration(run_seconds(lowered, predictions, threads)),
    );
    let heading =
        ["kernel", "flops", "bytes", "tasks", "predicted", "GFLOP/s", "bound by", "computes", "layout", "how"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (kernel, prediction) in lowered.report.iter().zip(predictions) {
        let tasks: Vec<String> = kernel.tasks.iter().map(u64::to_string).collect();
        rows.push(vec![
            terminal::repeated(&kernel.name, kernel.runs),
            terminal::grouped(kernel.flops),
            terminal::bytes(prediction.traffic.bytes() as u64),
            tasks.join("+"),
            terminal::duration(prediction.seconds * kernel.runs.max(1) as f64),
            format!("{:.1}", prediction.gflops),
            prediction.bound.name().to_owned(),
            computes(&optimised.graph, kernel),
            order(&optimised.graph, kernel).map_or(String::new(), |order| order.name().to_owned()),
            how(kernel, &optimised.graph, zeros),
        ]);
    }
    text += &terminal::table(&rows);
    text += &explain_bytes::shown(optimised);
    text += &memory(optimised, lowered);
    text += &again(fitted);
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

/// How a kernel computes, with the zeros that it multiplies.
fn how(kernel: &KernelReport, graph: &Graph, zeros: &BTreeMap<String, f64>) -> String {
    let note = explain_zeros::note(kernel.graph(graph), &kernel.nodes, zeros);
    kernel.how.clone() + &note.unwrap_or_default()
}

/// The most buffers that are shown.
const SHOWN_BUFFERS: usize = 8;

/// What fills the arena when it is fullest.
fn memory(optimised: &Optimised, lowered: &Lowered) -> String {
    let peak = &lowered.peak;
    let Some(kernel) = lowered.report.get(peak.launch).filter(|_| !peak.buffers.is_empty()) else {
        return String::new();
    };
    let bytes = |buffers: &[ArenaBuffer]| terminal::bytes(buffers.iter().map(|buffer| buffer.bytes as u64).sum());
    let number = |at: usize| (at + 1).to_string();
    let mut text = format!(
        "\n{STRONG}memory{STRONG:#}: fullest in launch {} (`{}`), with {} in use\n",
        number(peak.launch),
        kernel.name,
        bytes(&peak.buffers)
    );
    let (shown, rest) = peak.buffers.split_at(peak.buffers.len().min(SHOWN_BUFFERS));
    let mut rows = vec![["bytes", "needed by launches", "holds", "of", "at"].map(str::to_owned).to_vec()];
    for buffer in shown {
        let needed = format!("{} to {}", number(*buffer.needed.start()), number(*buffer.needed.end()));
        let Culprit { layer, place, .. } = Culprit::new(&optimised.graph, buffer, Some(kernel));
        rows.push(vec![terminal::bytes(buffer.bytes as u64), needed, held(&optimised.graph, buffer), layer, place]);
    }
    text += &terminal::table(&rows);
    if !rest.is_empty() {
        text += &format!("{QUIET}and {} more, {}{QUIET:#}\n", rest.len(), bytes(rest));
    }
    text
}

/// What is computed again to keep within `--max-memory`.
fn again(fitted: &Fitted) -> String {
    let again = fitted.again();
    if again.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{STRONG}computed again{STRONG:#}: {}, instead of an arena of {}\n",
        terminal::counted(again.len(), "operation"),
        terminal::bytes(fitted.arena_of_all as u64)
    );
    let mut rows = vec![["bytes", "in launches", "what"].map(str::to_owned).to_vec()];
    for Again { bytes, what, launches } in again.iter().take(SHOWN_BUFFERS) {
        let launches: Vec<String> = launches.iter().map(|at| (at + 1).to_string()).collect();
        rows.push(vec![terminal::bytes(*bytes as u64), launches.join(", "), what.clone()]);
    }
    text += &terminal::table(&rows);
    let rest = again.len().saturating_sub(SHOWN_BUFFERS);
    if rest > 0 {
        text += &format!("{QUIET}and {rest} more{QUIET:#}\n");
    }
    text
}

/// Type, operation and library function of what a buffer holds.
fn held(graph: &Graph, buffer: &ArenaBuffer) -> String {
    let Some(held) = &buffer.holds else { return "what a kernel works with".to_owned() };
    profile::described(held.graph(graph), held.value)
}

/// Whether a kernel only brings weights into the order that another one reads.
fn is_pack(kernel: &KernelReport) -> bool {
    ["pack", "pack sparse", "kernels"].contains(&kernel.name.as_str())
}

/// In which order the images lie that a kernel reads, if it reads any.
fn order(graph: &Graph, kernel: &KernelReport) -> Option<Order> {
    let graph = kernel.graph(graph);
    kernel.nodes.iter().filter(|_| !is_pack(kernel)).find_map(|&id| Order::of(graph, graph.node(id)))
}

/// What a kernel does: its ops, or that it moves what others compute.
fn computes(graph: &Graph, kernel: &KernelReport) -> String {
    let ops = operations(kernel.graph(graph), &kernel.nodes);
    match (is_pack(kernel), kernel.nodes.is_empty()) {
        (true, true) => "pack".to_owned(),
        (true, false) => format!("pack for {ops}"),
        (false, true) => "copy".to_owned(),
        (false, false) => ops,
    }
}

/// Ops, counted, with the library functions they come from.
fn operations(graph: &Graph, nodes: &[NodeId]) -> String {
    let mut ops: Vec<(&str, usize)> = Vec::new();
    let mut functions: Vec<&str> = Vec::new();
    for node in nodes.iter().map(|&id| graph.node(id)) {
        match ops.iter_mut().find(|(name, _)| *name == node.op.name()) {
            Some((_, count)) => *count += 1,
            None => ops.push((node.op.name(), 1)),
        }
        functions.extend(graph.function_of(node).filter(|function| !functions.contains(function)));
    }
    let counted =
        |(name, count): &(&str, usize)| if *count == 1 { (*name).to_owned() } else { format!("{name} x{count}") };
    let ops: Vec<String> = ops.iter().map(counted).collect();
    match functions.is_empty() {
        true => ops.join(" "),
        false => format!("{} ({})", ops.join(" "), functions.join(", ")),
    }
}

fn as_json(fitted: &Fitted, (predictions, threads): (&[Prediction], usize), zeros: &BTreeMap<String, f64>) -> Value {
    let Fitted { optimised, lowered, arena_of_all } = fitted;
    let kernels = lowered.report.iter().zip(predictions).map(|(kernel, prediction)| {
        json!({
            "kernel": kernel.name,
            "runs": kernel.runs,
            "flops": kernel.flops,
            "bytes": prediction.traffic.bytes() as u64,
            "tasks": kernel.tasks,
            "layout": order(&optimised.graph, kernel).map(Order::name),
            "how": how(kernel, &optimised.graph, zeros),
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
    let again = fitted.again().into_iter();
    let again = again.map(|again| json!({"bytes": again.bytes, "what": again.what, "launches": again.launches}));
    json!({
        "arena_bytes": lowered.arena_bytes,
        "predicted_for_threads": threads,
        "arena_bytes_of_all": arena_of_all,
        "peak": peak,
        "int8": explain_bytes::as_json(optimised),
        "computed_again": again.collect::<Vec<_>>(),
        "kernels": kernels.collect::<Vec<_>>(),
        "fusions": decisions.collect::<Vec<_>>(),
    })
}
