//! How long a product takes by floats and by integers, measured: its kernel, after one that makes its activations.

use crate::bench::{failed, fill_inputs};
use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::prune;
use crate::quantise::weights::Quantised;
use crate::store::Store;
use nnc_graph::{BinaryOp, DType, Graph, Op, OutputKind, Tensor, TensorType, UnaryOp, channels_first, channels_last};
use nnc_kernel::KernelReport;
use nnc_opt::fuse::{self, Class};
use nnc_opt::quantise::{Layer, Range, Site, quantise, scales_path, sites, weights_path};
use std::time::{Duration, Instant};

/// How long each form is run, about.
const TIME: Duration = Duration::from_millis(30);
/// At least so often.
const LEAST_RUNS: usize = 5;
/// The path of the weights of a product by itself.
const WEIGHTS: &str = "product.w";

/// Seconds of a product.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Times {
    /// By floats.
    pub float: f64,
    /// By integers, or by a matrix of few bits.
    pub integers: f64,
}

/// Measures the product of a site by its weights, as floats and in integers: the least time of some runs that take
/// turns.
///
/// # Errors
/// What cannot be compiled or run.
pub fn measure(
    (graph, site): (&Graph, &Site),
    weights: (&Tensor, &Quantised),
    compiler: &Compiler,
) -> Result<Times, DriverError> {
    let [floats, integers] = &product(graph, site, weights)?;
    compare([Form::of(floats), Form::of(integers)], compiler, Scope::Product)
}

/// Measures a whole graph, and the same with such layers of integers. The store has all that both read.
///
/// # Errors
/// What cannot be compiled or run.
pub fn measure_all(
    graph: &Graph,
    layers: &[Layer],
    (compiler, store): (&Compiler, &Store),
) -> Result<Times, DriverError> {
    let quantised = quantise(graph, layers);
    compare([Form { graph, store }, Form { graph: &quantised, store }], compiler, Scope::Run)
}

/// What of a run counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// The product with all that is done for it.
    Product,
    /// All kernels.
    Run,
}

impl Scope {
    fn seconds(self, graph: &Graph, report: &[KernelReport], times: &[Duration]) -> f64 {
        match self {
            Self::Product => product_seconds(graph, report, times),
            Self::Run => all_seconds(report, times),
        }
    }
}

/// A program, and the weights that it is run with.
pub(crate) struct Form<'f> {
    graph: &'f Graph,
    store: &'f Store,
}

impl<'f> Form<'f> {
    /// That of a graph with what it reads.
    pub(crate) fn new(graph: &'f Graph, store: &'f Store) -> Self {
        Self { graph, store }
    }

    fn of((graph, store): &'f (Graph, Store)) -> Self {
        Self { graph, store }
    }

    /// The program as it is compiled where it is used, which is for these weights, and what it reads of them.
    fn specialised(&self) -> (Graph, Store) {
        let graph = prune::specialised(self.graph, self.store);
        let wanted = Store::wanted(&graph);
        let mut read = Store::default();
        let there = wanted.keys().filter_map(|path| Some((path, self.store.tensor(path)?)));
        there.for_each(|(path, tensor)| read.insert(path, &tensor));
        read.hold_to(&wanted);
        (graph, read)
    }
}

/// The least seconds, in such a scope, of some runs that take turns.
///
/// # Errors
/// What cannot be compiled or run.
pub(crate) fn compare(forms: [Form<'_>; 2], compiler: &Compiler, scope: Scope) -> Result<Times, DriverError> {
    let mut programs = Vec::new();
    for form in forms {
        let (graph, store) = form.specialised();
        let mut program = compiler.compile_to_measure(&graph)?;
        fill_inputs(&mut program);
        programs.push((program, store, f64::INFINITY));
    }
    let started = Instant::now();
    let mut runs = 0;
    while runs < LEAST_RUNS || started.elapsed() < 2 * TIME {
        for (program, store, least) in &mut programs {
            let times = program.run_timed(store).map_err(failed)?;
            let report = program.lowered().map_or(&[][..], |lowered| &lowered.report);
            *least = least.min(scope.seconds(&program.graph, report, &times));
        }
        runs += 1;
    }
    Ok(Times { float: programs[0].2, integers: programs[1].2 })
}

/// Seconds of a product with all that is done for it, such as bringing its activations into order: of all kernels but
/// the one that makes these.
fn product_seconds(graph: &Graph, report: &[KernelReport], times: &[Duration]) -> f64 {
    let makes = |kernel: &KernelReport| {
        let mut ops = kernel.nodes.iter().map(|&id| &kernel.graph(graph).node(id).op);
        ops.clone().any(|op| *op == Op::Unary(UnaryOp::Abs)) && !ops.any(|op| fuse::class(op) == Class::Anchor)
    };
    let in_each_run = report.iter().zip(times).filter(|(kernel, _)| kernel.runs > 0 && !makes(kernel));
    in_each_run.map(|(_, time)| time.as_secs_f64()).sum()
}

/// Seconds of all kernels of a run.
fn all_seconds(report: &[KernelReport], times: &[Duration]) -> f64 {
    report.iter().zip(times).filter(|(kernel, _)| kernel.runs > 0).map(|(_, time)| time.as_secs_f64()).sum()
}

/// What is measured of a site: its product by floats, and by integers, each with its weights.
fn product(
    graph: &Graph,
    site: &Site,
    (floats, integers): (&Tensor, &Quantised),
) -> Result<[(Graph, Store); 2], DriverError> {
    let (plain, rounded) = (alone(graph, site, false), alone(graph, site, true));
    let only = sites(&rounded).into_iter().next();
    let name = only.ok_or_else(|| DriverError::Internal("a product that is none".to_owned()))?.name;
    let parts = [(scales_path(&name), &integers.scales), (weights_path(&name), &integers.weights)];
    let parts = Store::of(parts.iter().map(|(path, tensor)| (path.as_str(), *tensor)));
    let range = Range { scale: 1.0 / 64.0, signed: false };
    let quantised = quantise(&rounded, &[Layer::new(name, range)]);
    Ok([(plain, Store::of([(WEIGHTS, floats)].into_iter())), (quantised, parts)])
}

/// The product by itself, of activations that another kernel makes, followed by a relu. Channels come and go side by
/// side, as they lie inside of a network, and results are bytes where they would be.
fn alone(graph: &Graph, site: &Site, rounded: bool) -> Graph {
    let node = graph.node(site.node);
    let ty = graph.ty(site.input);
    let rank = ty.shape.rank();
    let is_conv = matches!(node.op, Op::Conv(_) | Op::ConvInputGrad { .. });
    let dims = |order: Vec<usize>| order.into_iter().map(|axis| ty.shape[axis].clone()).collect::<Vec<_>>();
    let given = if is_conv { TensorType::new(ty.dtype, dims(channels_last(rank))) } else { ty.clone() };
    let mut alone = Graph::new("product");
    let x = alone.emit(Op::Input { name: "x".to_owned(), ty: given }, &[]);
    // What is rounded is this value, as it lies.
    let mut x = alone.emit(Op::Unary(UnaryOp::Abs), &[x]);
    if is_conv {
        x = alone.emit(Op::Transpose(channels_first(rank)), &[x]);
    }
    let w = alone.emit(Op::Param { path: WEIGHTS.to_owned(), ty: graph.ty(site.weights).clone() }, &[]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantise::weights;
    use nnc_graph::Shape;

    /// `y = x * w` of 64 rows, and its site.
    fn dense(terms: usize, columns: usize) -> (Graph, Site) {
        let mut graph = Graph::new("dense");
        let x = graph
            .emit(Op::Input { name: "x".to_owned(), ty: TensorType::new(DType::F32, Shape::of(&[64, terms])) }, &[]);
        let ty = TensorType::new(DType::F32, Shape::of(&[terms, columns]));
        let w = graph.emit(Op::Param { path: "dense.w".to_owned(), ty }, &[]);
        let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
        graph.add_output("y", y, OutputKind::Result);
        let site = sites(&graph).remove(0);
        (graph, site)
    }

    /// A matrix of which one element in twenty is not zero.
    fn pruned(terms: usize, columns: usize) -> Tensor {
        let value = |at: usize| if at.is_multiple_of(20) { 0.5 + at as f64 } else { 0.0 };
        Tensor::from_f64(DType::F32, &[terms, columns], &(0..terms * columns).map(value).collect::<Vec<_>>())
    }

    fn weights_of(graph: &Graph) -> usize {
        graph.nodes().filter(|(_, node)| matches!(&node.op, Op::Param { .. })).count()
    }

    #[test]
    fn a_pruned_product_is_measured_as_it_is_compiled() {
        let (graph, site) = dense(128, 64);
        let floats = pruned(128, 64);
        let integers = weights::quantise(&site, &floats).unwrap();
        let [plain, quantised] = &product(&graph, &site, (&floats, &integers)).unwrap();
        let (plain, _) = Form::of(plain).specialised();
        assert_eq!(weights_of(&plain), 0, "zeros are known to the compiler");
        let (quantised, store) = Form::of(quantised).specialised();
        assert_eq!(weights_of(&quantised), 2, "integers and scales are read");
        assert_eq!(store.tensor("product.w.q8"), Some(integers.weights));
    }

    #[test]
    fn a_pruned_network_is_measured_as_it_is_compiled() {
        let (graph, site) = dense(128, 64);
        let floats = pruned(128, 64);
        let made = weights::quantise(&site, &floats).unwrap();
        let tensors = [("dense.w", &floats), ("dense.w.q8", &made.weights), ("dense.w.scale", &made.scales)];
        let store = Store::of(tensors.into_iter());
        let (plain, read) = Form { graph: &graph, store: &store }.specialised();
        assert_eq!((weights_of(&plain), read.iter().count()), (0, 0));
        let input = Range { scale: 1.0, signed: false };
        let layer = Layer::new(site.name, input);
        let quantised = quantise(&graph, &[layer]);
        let (quantised, read) = Form { graph: &quantised, store: &store }.specialised();
        assert_eq!((weights_of(&quantised), read.iter().count()), (2, 2));
    }

    #[test]
    fn dense_weights_are_read() {
        let (graph, site) = dense(16, 16);
        let floats = Tensor::from_f64(DType::F32, &[16, 16], &[0.5; 256]);
        let integers = weights::quantise(&site, &floats).unwrap();
        let [plain, _] = &product(&graph, &site, (&floats, &integers)).unwrap();
        let (plain, store) = Form::of(plain).specialised();
        assert_eq!((weights_of(&plain), store.tensor(WEIGHTS)), (1, Some(floats)));
    }
}
