//! How long a product takes by floats and by integers, measured: its kernel, after one that makes its activations.

use crate::bench::{failed, fill_inputs};
use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::store::Store;
use nnc_graph::{BinaryOp, DType, Graph, Op, OutputKind, TensorType, UnaryOp, channels_first, channels_last};
use nnc_kernel::KernelReport;
use nnc_opt::quantise::{Layer, Range, Site, quantise, sites};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long each form is run, about.
const TIME: Duration = Duration::from_millis(30);
/// At least so often.
const LEAST_RUNS: usize = 5;

/// Seconds of a product.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Times {
    /// By floats.
    pub float: f64,
    /// By integers.
    pub integers: f64,
}

/// Measures the product of a site: the least time of some runs that take turns.
///
/// # Errors
/// What cannot be compiled or run.
pub fn measure(graph: &Graph, site: &Site, compiler: &Compiler) -> Result<Times, DriverError> {
    let (floats, rounded) = (alone(graph, site, false), alone(graph, site, true));
    let range = Range { scale: 1.0 / 64.0, signed: false };
    let integers = match sites(&rounded).first() {
        Some(only) => quantise(&rounded, &[Layer { name: only.name.clone(), input: range, marks: BTreeSet::new() }]),
        None => return Err(DriverError::Internal("a product that is none".to_owned())),
    };
    compare([&floats, &integers], compiler, product_seconds)
}

/// Measures a whole graph, and the same with such layers of integers.
///
/// # Errors
/// What cannot be compiled or run.
pub fn measure_all(graph: &Graph, layers: &[Layer], compiler: &Compiler) -> Result<Times, DriverError> {
    compare([graph, &quantise(graph, layers)], compiler, all_seconds)
}

/// The least of what `seconds` says of some runs that take turns.
fn compare(
    graphs: [&Graph; 2],
    compiler: &Compiler,
    seconds: fn(&[KernelReport], &[Duration]) -> f64,
) -> Result<Times, DriverError> {
    let mut programs = Vec::new();
    for graph in graphs {
        let mut program = compiler.compile_to_measure(graph)?;
        fill_inputs(&mut program);
        let mut zeros = Store::default();
        zeros.hold_to(&Store::wanted(graph));
        programs.push((program, zeros, f64::INFINITY));
    }
    let started = Instant::now();
    let mut runs = 0;
    while runs < LEAST_RUNS || started.elapsed() < 2 * TIME {
        for (program, store, least) in &mut programs {
            let times = program.run_timed(store).map_err(failed)?;
            let report = program.lowered().map_or(&[][..], |lowered| &lowered.report);
            *least = least.min(seconds(report, &times));
        }
        runs += 1;
    }
    Ok(Times { float: programs[0].2, integers: programs[1].2 })
}

/// Seconds of the kernel that has most to do.
fn product_seconds(report: &[KernelReport], times: &[Duration]) -> f64 {
    let in_each_run = report.iter().zip(times).filter(|(kernel, _)| kernel.runs > 0);
    let product = in_each_run.max_by_key(|(kernel, _)| kernel.flops);
    product.map_or(f64::INFINITY, |(_, time)| time.as_secs_f64())
}

/// Seconds of all kernels of a run.
fn all_seconds(report: &[KernelReport], times: &[Duration]) -> f64 {
    report.iter().zip(times).filter(|(kernel, _)| kernel.runs > 0).map(|(_, time)| time.as_secs_f64()).sum()
}

/// The product by itself, of activations that another kernel makes, followed by a relu. Channels come and go side by side, as
/// they lie inside of a network, and results are bytes where they would be.
fn alone(graph: &Graph, site: &Site, rounded: bool) -> Graph {
    let node = graph.node(site.node);
    let ty = graph.ty(site.input);
    let rank = ty.shape.rank();
    let is_conv = matches!(node.op, Op::Conv(_));
    let dims = |order: Vec<usize>| order.into_iter().map(|axis| ty.shape[axis].clone()).collect::<Vec<_>>();
    let given = if is_conv { TensorType::new(ty.dtype, dims(channels_last(rank))) } else { ty.clone() };
    let mut alone = Graph::new("product");
    let mut x = alone.emit(Op::Input { name: "x".to_owned(), ty: given }, &[]);
    if is_conv {
        x = alone.emit(Op::Transpose(channels_first(rank)), &[x]);
    }
    let x = alone.emit(Op::Unary(UnaryOp::Abs), &[x]);
    let w = alone.emit(Op::Param { path: "product.w".to_owned(), ty: graph.ty(site.weights).clone() }, &[]);
    let y = alone.emit(node.op.clone(), &[x, w]);
    let zero = alone.splat(&alone.ty(y).clone(), 0.0);
    let mut y = alone.emit(Op::Binary(BinaryOp::Max), &[y, zero]);
    if rounded {
        y = alone.emit(Op::Unary(UnaryOp::Round), &[y]);
        y = alone.emit(Op::Cast(DType::U8), &[y]);
    }
    if is_conv {
        y = alone.emit(Op::Transpose(channels_last(rank)), &[y]);
    }
    alone.add_output("y", y, OutputKind::Result);
    alone
}
