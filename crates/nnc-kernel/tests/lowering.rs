//! Lowered graphs on the kernel interpreter against the graph interpreter: every op and random graphs, fused and
//! unfused, and the same bits whatever the width of the machine.

use nnc_graph::testing::{GraphOptions, graph_of_one_op, op_names, random_graph_with, random_inputs};
use nnc_graph::{DType, Graph, OutputKind, Tensor, interpret};
use nnc_kernel::ir::{Target, verify};
use nnc_kernel::plan::run::{Finished, run};
use nnc_kernel::{LowerError, lower};
use nnc_opt::fuse::{FuseOptions, partition};
use std::collections::BTreeMap;

fn lowered_run(graph: &Graph, given: &BTreeMap<String, Tensor>, fuse: &FuseOptions, lanes: u8) -> Result<Finished, String> {
    let grouped = partition(graph, fuse);
    let lowered = lower(graph, &grouped, &Target { f32_lanes: lanes }).map_err(|error| match error {
        LowerError::Unsupported(what) => format!("unsupported: {what}"),
        bug @ LowerError::Bug(_) => bug.to_string(),
    })?;
    verify::verify_program(&lowered.program).map_err(|found| {
        let lines: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    run(&lowered, given).map_err(|error| error.to_string())
}

/// The largest difference allowed between an engine that works in `dtype` and the interpreter.
fn close(ours: &Tensor, expected: &Tensor) -> Result<(), String> {
    if ours.ty() != expected.ty() {
        return Err(format!("{} instead of {}", ours.ty(), expected.ty()));
    }
    let scale = match ours.dtype() {
        DType::F32 => 2e-5,
        DType::F64 => 1e-10,
        _ => return if ours == expected { Ok(()) } else { Err(format!("{:?} != {:?}", ours.to_f64(), expected.to_f64())) },
    };
    let (ours, expected) = (ours.to_f64(), expected.to_f64());
    let largest = expected.iter().filter(|x| x.is_finite()).fold(1.0f64, |most, x| most.max(x.abs()));
    for (at, (x, y)) in ours.iter().zip(&expected).enumerate() {
        let same = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= scale * largest;
        if !same {
            return Err(format!("element {at}: {x} instead of {y}"));
        }
    }
    Ok(())
}

/// Checks one graph in every way. Gives what went wrong.
fn check(graph: &Graph, seed: u64) -> Result<(), String> {
    let given = random_inputs(graph, seed);
    let expected = interpret::run(graph, &given).map_err(|error| format!("interpreter: {error}"))?;
    for (fused, options) in [("fused", FuseOptions::ALL), ("unfused", FuseOptions::NONE)] {
        let mut first: Option<Finished> = None;
        for lanes in [4, 8, 16] {
            let run = lowered_run(graph, &given, &options, lanes).map_err(|what| format!("{fused}, {lanes} lanes: {what}"))?;
            for output in graph.outputs() {
                let ours = match output.kind {
                    OutputKind::Result => run.outputs.get(&output.name),
                    OutputKind::Update(_) => run.updated.get(&output.name),
                };
                let ours = ours.ok_or_else(|| format!("no output `{}`", output.name))?;
                let wanted = expected.value(output.value);
                close(ours, wanted).map_err(|what| format!("{fused}, {lanes} lanes, `{}`: {what}", output.name))?;
            }
            if run.status != [0; 4] {
                return Err(format!("status {:?}", run.status));
            }
            match &first {
                None => first = Some(run),
                Some(first) if *first != run => return Err(format!("{fused}: other bits with {lanes} lanes")),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

fn check_seeds(name: &str, seeds: std::ops::Range<u64>, make: impl Fn(u64) -> Graph) {
    for seed in seeds {
        let graph = make(seed);
        if let Err(what) = check(&graph, seed) {
            panic!("{name}, seed {seed}: {what}\n{}", nnc_graph::text::print(&graph));
        }
    }
}

#[test]
fn every_op_computes_what_the_interpreter_does() {
    let mut failures = Vec::new();
    for name in op_names() {
        for seed in 0..40 {
            let options = GraphOptions { ops: 1, ..GraphOptions::default() };
            let graph = graph_of_one_op(name, seed, &options).expect("a known name");
            if let Err(what) = check(&graph, seed) {
                failures.push(format!("{name}, seed {seed}: {what}\n{}", nnc_graph::text::print(&graph)));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} ops fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn random_graphs_compute_what_the_interpreter_does() {
    check_seeds("random graph", 0..120, |seed| random_graph_with(seed, &GraphOptions::default()));
}

#[test]
fn random_graphs_in_f64() {
    let options = GraphOptions { float: DType::F64, ..GraphOptions::default() };
    check_seeds("random f64 graph", 0..40, |seed| random_graph_with(seed, &options));
}
