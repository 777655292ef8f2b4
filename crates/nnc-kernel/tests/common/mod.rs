//! Running a lowered graph on the kernel interpreter and comparing it with the graph interpreter.
#![allow(dead_code, reason = "each test file uses a part")]

use nnc_graph::testing::random_inputs;
use nnc_graph::{DType, Graph, Op, OutputKind, Stored, Tensor, UnaryOp, ValueId, interpret};
use nnc_kernel::ir::Target;
use nnc_kernel::plan::run::{Finished, run};
use nnc_kernel::program::verify::verify_program;
use nnc_kernel::{LowerError, lower};
use nnc_opt::fuse::{FuseOptions, partition};
use std::collections::BTreeMap;

/// What a lowered graph computes of given inputs.
pub fn lowered_run(
    graph: &Graph,
    given: &BTreeMap<String, Tensor>,
    fuse: &FuseOptions,
    lanes: u8,
) -> Result<Finished, String> {
    let grouped = partition(graph, fuse);
    let lowered = lower(graph, &grouped, &Target::new(lanes)).map_err(|error| match error {
        LowerError::Unsupported(what) => format!("unsupported: {what}"),
        bug @ LowerError::Bug(_) => bug.to_string(),
    })?;
    verify_program(&lowered.program).map_err(|found| {
        let lines: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    run(&lowered, given).map_err(|error| error.to_string())
}

/// Whether a graph has products by four bits, beside which kernels keep activations to 2^-14.
fn is_coarse(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| match &node.op {
        Op::DotStored(stored) => matches!(stored, Stored::Nibbles { .. }),
        Op::Scan(scan) => is_coarse(&scan.body),
        _ => false,
    })
}

/// Checks the difference between an engine and the interpreter, of what a graph computes that is coarse or not.
fn close(ours: &Tensor, expected: &Tensor, is_coarse: bool) -> Result<(), String> {
    if ours.ty() != expected.ty() {
        return Err(format!("{} instead of {}", ours.ty(), expected.ty()));
    }
    let scale = match ours.dtype() {
        DType::F32 if is_coarse => 2e-4,
        DType::F32 => 2e-5,
        DType::F64 => 1e-10,
        _ => {
            return if ours == expected {
                Ok(())
            } else {
                Err(format!("{:?} != {:?}", ours.to_f64(), expected.to_f64()))
            };
        }
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
pub fn check(graph: &Graph, seed: u64) -> Result<(), String> {
    check_widths(graph, seed, &[4, 8, 16])
}

/// As [`check_widths`], of one draw, and fails with the graph.
pub fn holds(graph: Graph, widths: &[u8]) {
    if let Err(what) = check_widths(&graph, 7, widths) {
        panic!("{what}\n{}", nnc_graph::text::print(&graph));
    }
}

/// Gives out a value, and what an epilogue makes of it.
pub fn put_out(graph: &mut Graph, value: ValueId) {
    let y = graph.emit(Op::Unary(UnaryOp::Abs), &[value]);
    graph.add_output("y", y, OutputKind::Result);
    graph.add_output("raw", value, OutputKind::Result);
}

/// As [`check`], with vectors of these widths.
pub fn check_widths(graph: &Graph, seed: u64, widths: &[u8]) -> Result<(), String> {
    let given = random_inputs(graph, seed);
    let expected = interpret::run(graph, &given).map_err(|error| format!("interpreter: {error}"))?;
    for (fused, options) in [("fused", FuseOptions::ALL), ("unfused", FuseOptions::NONE)] {
        let mut first: Option<Finished> = None;
        for &lanes in widths {
            let run = lowered_run(graph, &given, &options, lanes)
                .map_err(|what| format!("{fused}, {lanes} lanes: {what}"))?;
            for output in graph.outputs() {
                let ours = match output.kind {
                    OutputKind::Result => run.outputs.get(&output.name),
                    OutputKind::Update(_) => run.updated.get(&output.name),
                };
                let ours = ours.ok_or_else(|| format!("no output `{}`", output.name))?;
                let wanted = expected.value(output.value);
                close(ours, wanted, is_coarse(graph))
                    .map_err(|what| format!("{fused}, {lanes} lanes, `{}`: {what}", output.name))?;
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
