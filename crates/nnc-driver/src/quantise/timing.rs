//! How long a product takes by floats and by integers, measured: each alone, after a kernel that makes its activations.

use crate::bench::{failed, fill_inputs};
use crate::compiled::{CompiledGraph, Compiler};
use crate::error::DriverError;
use crate::store::Store;
use nnc_graph::{Graph, Op, OutputKind, Tensor, UnaryOp};
use nnc_opt::quantise::{Layer, Range, Site, quantise, sites};
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
    let floats = alone(graph, site);
    let range = Range { scale: 1.0 / 64.0, signed: true };
    let integers = match sites(&floats).first() {
        Some(only) => quantise(&floats, &[Layer { name: only.name.clone(), input: range }]),
        None => return Err(DriverError::Internal("a product that is none".to_owned())),
    };
    let mut programs = Vec::new();
    for graph in [floats, integers] {
        let store = zeros(&graph);
        let mut program = compiler.compile(&graph)?;
        fill_inputs(&mut program);
        programs.push((program, store, f64::INFINITY));
    }
    let started = Instant::now();
    let mut runs = 0;
    while runs < LEAST_RUNS || started.elapsed() < 2 * TIME {
        for (program, store, least) in &mut programs {
            *least = least.min(run(program, store)?);
        }
        runs += 1;
    }
    Ok(Times { float: programs[0].2, integers: programs[1].2 })
}

fn run(program: &mut CompiledGraph, store: &mut Store) -> Result<f64, DriverError> {
    let started = Instant::now();
    program.run(store).map_err(failed)?;
    Ok(started.elapsed().as_secs_f64())
}

/// The product by itself, of activations that another kernel makes.
fn alone(graph: &Graph, site: &Site) -> Graph {
    let node = graph.node(site.node);
    let mut alone = Graph::new("product");
    let x = alone.emit(Op::Input { name: "x".to_owned(), ty: graph.ty(site.input).clone() }, &[]);
    let x = alone.emit(Op::Unary(UnaryOp::Abs), &[x]);
    let w = alone.emit(Op::Param { path: "product.w".to_owned(), ty: graph.ty(site.weights).clone() }, &[]);
    let y = alone.emit(node.op.clone(), &[x, w]);
    alone.add_output("y", y, OutputKind::Result);
    alone
}

fn zeros(graph: &Graph) -> Store {
    let tensors: Vec<(String, Tensor)> = Store::wanted(graph)
        .into_iter()
        .map(|(path, ty)| {
            let bytes = vec![0; ty.bytes()];
            (path, crate::compiled::host_tensor(&ty, &bytes))
        })
        .collect();
    Store::of(tensors.iter().map(|(path, tensor)| (path.as_str(), tensor)))
}
