//! What makes up for rounding in the mean: a number for each channel of a product's results.
//!
//! Rounding is not noise alone. Activations behind a relu crowd above 0, so that more of them are rounded down than up,
//! and the weights of a channel are rounded alike each time; what a product is off by has a mean, which a mean over
//! places leaves while it takes the noise away. So the difference of the means over some examples is added to the
//! results, channel by channel (M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, "Data-Free Quantization Through
//! Weight Equalization and Bias Correction", ICCV 2019, section 4.2 and appendix D, the form by examples).
//!
//! It has to go in the order of the program: what a product is off by is of its own making only once the products
//! before it are set right. So there is a run over the examples for each level of products, those of a level being such
//! as do not follow from one another; a product whose weights are used several times is set right at its last use.

use crate::compiled::{CompiledGraph, Compiler};
use crate::error::DriverError;
use crate::quantise::examples::{Examples, run_all};
use crate::store::Store;
use nnc_graph::{DType, Graph, NodeId, Op, ReduceOp, Tensor, ValueId};
use nnc_opt::quantise::{Layer, Site, quantise, result_channels, shifts_path};
use nnc_opt::rewrite::with_results;
use std::collections::{BTreeMap, BTreeSet};

/// A product that is set right.
struct Product<'c> {
    layer: Layer,
    sites: &'c [Site],
    /// How many products come one after another up to its last use.
    level: usize,
    /// How many results a channel has in a run, at all uses.
    results: usize,
    /// What is added, by channel.
    shift: Vec<f64>,
}

/// What is to be added to the results of each of some products, f32 with a number for each output channel, in their
/// order. `store` has all that the graph reads, and the integers of the layers.
///
/// # Errors
/// What cannot be compiled or run.
pub fn find(
    graph: &Graph,
    products: Vec<(Layer, &[Site])>,
    (compiler, store): (&Compiler, &mut Store),
    examples: &mut dyn Examples,
) -> Result<Vec<Tensor>, DriverError> {
    let levels = levels(graph, &products);
    let mut products: Vec<Product<'_>> =
        products.into_iter().map(|(layer, sites)| Product::new(graph, &levels, (layer, sites))).collect();
    products.iter().for_each(|product| product.keep(store));
    let floats = with_sums(graph, &products);
    let layers: Vec<Layer> = products.iter().map(|product| product.layer.clone()).collect();
    let wanted = means(&mut compiler.compile(&floats)?, &products, (store, examples))?;
    let mut integers = compiler.compile(&quantise(&floats, &layers))?;
    let occupied: BTreeSet<usize> = products.iter().map(|product| product.level).collect();
    for level in occupied {
        let found = means(&mut integers, &products, (store, examples))?;
        let both = wanted.iter().zip(&found);
        for (product, (wanted, found)) in products.iter_mut().zip(both).filter(|(product, _)| product.level == level) {
            let off = wanted.iter().zip(found).map(|(wanted, found)| wanted - found);
            product.shift = off.map(|off| if off.is_finite() { off } else { 0.0 }).collect();
            product.keep(store);
        }
    }
    Ok(products.iter().map(Product::tensor).collect())
}

impl<'c> Product<'c> {
    fn new(graph: &Graph, levels: &BTreeMap<NodeId, usize>, (layer, sites): (Layer, &'c [Site])) -> Self {
        let level = sites.iter().map(|site| levels[&site.node]).max().unwrap_or_default();
        let elements = |site: &Site| graph.ty(graph.node(site.node).results[0]).shape.sizes().iter().product::<usize>();
        let channels = sites[0].channels;
        let results = sites.iter().map(elements).sum::<usize>() / channels.max(1);
        let layer = Layer { is_shifted: true, ..layer };
        Self { layer, sites, level, results, shift: vec![0.0; channels] }
    }

    fn tensor(&self) -> Tensor {
        Tensor::from_f64(DType::F32, &[self.shift.len()], &self.shift)
    }

    fn keep(&self, store: &mut Store) {
        store.insert(&shifts_path(&self.layer.name), &self.tensor());
    }

    /// What the sums of its channels are called, and where the results are that they are of.
    fn sums(&self) -> impl Iterator<Item = (String, &Site)> {
        self.sites.iter().enumerate().map(|(at, site)| (format!("{}:{at}", self.layer.name), site))
    }
}

/// How many of some products come one after another up to each of them.
fn levels(graph: &Graph, products: &[(Layer, &[Site])]) -> BTreeMap<NodeId, usize> {
    let chosen: BTreeSet<NodeId> = products.iter().flat_map(|(_, sites)| *sites).map(|site| site.node).collect();
    let (mut of_values, mut found) = (vec![0; graph.value_count()], BTreeMap::new());
    for (id, node) in graph.nodes() {
        let before = node.operands.iter().map(|operand| of_values[operand.index()]).max().unwrap_or(0);
        let level = before + usize::from(chosen.contains(&id));
        node.results.iter().for_each(|result| of_values[result.index()] = level);
        if chosen.contains(&id) {
            found.insert(id, level);
        }
    }
    found
}

/// The graph that gives out the sum of each channel of the results of products, and nothing else.
fn with_sums(graph: &Graph, products: &[Product<'_>]) -> Graph {
    let mut summed = graph.clone();
    let mut results: Vec<(String, ValueId)> = Vec::new();
    for (name, site) in products.iter().flat_map(Product::sums) {
        let node = graph.node(site.node);
        let rank = graph.ty(node.results[0]).shape.rank();
        let channels = result_channels(graph, node);
        let axes = (0..rank).filter(|&axis| axis != channels).collect();
        results.push((name, summed.emit(Op::Reduce { op: ReduceOp::Sum, axes }, &[node.results[0]])));
    }
    with_results(&summed, &results)
}

/// The mean of each channel of the results of products, over all examples and all uses.
fn means(
    program: &mut CompiledGraph,
    products: &[Product<'_>],
    (store, examples): (&mut Store, &mut dyn Examples),
) -> Result<Vec<Vec<f64>>, DriverError> {
    let mut sums: Vec<Vec<f64>> = products.iter().map(|product| vec![0.0; product.shift.len()]).collect();
    let mut runs = 0.0;
    run_all(program, (store, examples), &mut |program| {
        runs += 1.0;
        for (product, sums) in products.iter().zip(&mut sums) {
            for tensor in product.sums().filter_map(|(name, _)| program.output_tensor(&name)) {
                sums.iter_mut().zip(tensor.to_f64()).for_each(|(sum, value)| *sum += value);
            }
        }
    })?;
    for (product, sums) in products.iter().zip(&mut sums) {
        let terms = runs * product.results as f64;
        sums.iter_mut().for_each(|sum| *sum /= terms.max(1.0));
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiled::Engine;
    use crate::quantise::examples::OneCall;
    use crate::quantise::weights;
    use nnc_graph::{BinaryOp, OutputKind, Shape, TensorType};
    use nnc_opt::pipeline;
    use nnc_opt::quantise::{Range, scales_path, sites, weights_path};
    use nnc_runtime::Pool;
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    const ROWS: usize = 4;
    const WIDTH: usize = 32;
    const DEPTH: usize = 5;

    fn ty(dims: &[usize]) -> TensorType {
        TensorType::new(DType::F32, Shape::of(dims))
    }

    /// Layers one after another, with and without a bias, and the tensors that they read.
    fn network() -> (Graph, Store) {
        let (mut graph, mut store) = (Graph::new("deep"), Store::default());
        let mut x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[ROWS, WIDTH]) }, &[]);
        for layer in 0..DEPTH {
            let (w, b) = (format!("{layer}.w"), format!("{layer}.b"));
            let number = |at: usize| ((at + 1) * (layer + 7919) % 2003) as f64 / 4004.0 - 0.2;
            store.insert(
                &w,
                &Tensor::from_f64(DType::F32, &[WIDTH; 2], &(0..WIDTH * WIDTH).map(number).collect::<Vec<_>>()),
            );
            let w = graph.emit(Op::Param { path: w, ty: ty(&[WIDTH; 2]) }, &[]);
            x = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
            if layer % 2 == 0 {
                store.insert(&b, &Tensor::from_f64(DType::F32, &[WIDTH], &[0.1; WIDTH]));
                let b = graph.emit(Op::Param { path: b, ty: ty(&[WIDTH]) }, &[]);
                let b = graph.emit(Op::Broadcast { shape: Shape::of(&[ROWS, WIDTH]), axes: vec![1] }, &[b]);
                x = graph.emit(Op::Binary(BinaryOp::Add), &[x, b]);
            }
            let zero = graph.splat(&ty(&[ROWS, WIDTH]), 0.0);
            x = graph.emit(Op::Binary(BinaryOp::Max), &[x, zero]);
        }
        graph.add_output("y", x, OutputKind::Result);
        (graph, store)
    }

    fn results(graph: &Graph, compiler: &Compiler, store: &mut Store, inputs: &BTreeMap<String, Vec<u8>>) -> Vec<f64> {
        let mut program = compiler.compile(graph).unwrap();
        OneCall::new(inputs).fill(&mut program).unwrap();
        program.run(store).unwrap();
        program.output_tensor("y").unwrap().to_f64()
    }

    /// All examples are alike, so that all that rounding does is done to the mean.
    #[test]
    fn what_is_rounded_alike_everywhere_is_made_up_for_in_all_depth() {
        let pool = Arc::new(Pool::new(NonZeroUsize::MIN).unwrap());
        let compiler = Compiler { engine: Engine::host(), pool, passes: pipeline::Options::default(), tuning: None };
        let (graph, mut store) = network();
        let found = sites(&graph);
        let products = |most: f32| {
            let layer = move |site: &Site| Layer::new(&*site.name, Range::covering(0.0, most).unwrap());
            found.iter().map(move |site| (layer(site), std::slice::from_ref(site))).collect::<Vec<_>>()
        };
        for site in &found {
            let made = weights::quantise(site, &store.tensor(&site.name).unwrap()).unwrap();
            store.insert(&weights_path(&site.name), &made.weights);
            store.insert(&scales_path(&site.name), &made.scales);
        }
        let row = |at: usize| 0.3 + 0.017 * (at % WIDTH) as f32;
        let bytes = (0..ROWS * WIDTH).flat_map(|at| row(at).to_le_bytes()).collect();
        let inputs = BTreeMap::from([("x".to_owned(), bytes)]);
        let wanted = results(&graph, &compiler, &mut store, &inputs);
        let off = |found: Vec<f64>| wanted.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let layers = products(8.0).into_iter().map(|(layer, _)| layer).collect::<Vec<_>>();
        let before = off(results(&quantise(&graph, &layers), &compiler, &mut store, &inputs));
        let shifts = find(&graph, products(8.0), (&compiler, &mut store), &mut OneCall::new(&inputs)).unwrap();
        layers.iter().zip(&shifts).for_each(|(layer, shift)| store.insert(&shifts_path(&layer.name), shift));
        let shifted: Vec<Layer> = layers.into_iter().map(|layer| Layer { is_shifted: true, ..layer }).collect();
        let after = off(results(&quantise(&graph, &shifted), &compiler, &mut store, &inputs));
        assert!(before > 1e-3 && after < 1e-5, "off by {before}, then by {after}");
    }
}
