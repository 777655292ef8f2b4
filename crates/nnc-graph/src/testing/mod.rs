//! Random graphs and inputs, and small plain graphs, for the tests of every crate. Behind the feature `testing`.
//!
//! Everything is a function of a seed, so a failing case is named by its number. Two promises make the graphs fit for
//! comparing engines: magnitudes stay moderate (each float value carries a bound, and what grows is squashed), and an
//! op that jumps (a comparison, `floor`, `argmax`, a maximum's place) reads only values that no rounding has touched,
//! so that engines that round differently still take the same side. Indices are always in range.

mod attention;
mod builders;
mod generator;
mod layers;
mod loops;
mod plain;
mod pooled;
mod rng;
mod sparse;

use crate::{DType, Graph, Op, Tensor};
pub use attention::{Attention, Mask};
pub use layers::Layers;
pub use plain::{conv, dot, input, table_update};
pub use pooled::PooledConvolution;
pub use rng::Rng;
pub use sparse::{SparseConvolution, SparseProduct, sparse_convolution, sparse_product};
use std::collections::BTreeMap;

/// What random graphs are made of.
#[derive(Clone, Debug)]
pub struct GraphOptions {
    /// How many ops are drawn; helpers such as clamps and constants come on top.
    pub ops: usize,
    /// The dtype of float values.
    pub float: DType,
    /// Whether casts to f16 and bf16 and back occur.
    pub narrow_floats: bool,
    /// Whether `grad` and `stop_gradient` occur: for what runs before their expansion.
    pub grad: bool,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self { ops: 12, float: DType::F32, narrow_floats: false, grad: false }
    }
}

/// A random graph that can run: every dim bound, no `grad`.
pub fn random_graph(seed: u64) -> Graph {
    random_graph_with(seed, &GraphOptions::default())
}

/// A random graph to order.
pub fn random_graph_with(seed: u64, options: &GraphOptions) -> Graph {
    generator::generate(seed, options)
}

/// Names of the op builders, each of which [`graph_of_one_op`] can be asked for.
pub fn op_names() -> impl Iterator<Item = &'static str> {
    builders::BUILDERS.iter().map(|(name, _)| *name)
}

/// Names of the builders of loops, each of which [`graph_of_one_op`] can be asked for. Random graphs have none.
pub fn loop_names() -> impl Iterator<Item = &'static str> {
    builders::LOOPS.iter().map(|(name, _)| *name)
}

/// A small graph around one op, by its name in [`op_names`] or [`loop_names`]: `None` for an unknown name.
pub fn graph_of_one_op(name: &str, seed: u64, options: &GraphOptions) -> Option<Graph> {
    generator::generate_one(name, seed, options)
}

/// A value for every input, parameter and state: floats in -2..2, small integers, coins.
pub fn random_inputs(graph: &Graph, seed: u64) -> BTreeMap<String, Tensor> {
    let mut rng = Rng::new(seed ^ 0x1D_EA5E);
    let mut given = BTreeMap::new();
    for (_, node) in graph.nodes() {
        if let Op::Input { name, ty } | Op::Param { path: name, ty } | Op::State { path: name, ty } = &node.op {
            let sizes = ty.shape.sizes();
            given.insert(name.clone(), random_tensor(&mut rng, ty.dtype, &sizes));
        }
    }
    given
}

/// A tensor of random values as [`random_inputs`] draws them.
pub fn random_tensor(rng: &mut Rng, dtype: DType, dims: &[usize]) -> Tensor {
    let elements = dims.iter().product();
    let mut draw = || match dtype {
        DType::F32 | DType::F16 | DType::Bf16 | DType::F64 => rng.float(-2.0, 2.0),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => rng.int(-9, 9) as f64,
        DType::U8 => rng.int(0, 9) as f64,
        DType::Bool => rng.int(0, 1) as f64,
    };
    let values: Vec<f64> = (0..elements).map(|_| draw()).collect();
    Tensor::from_f64(dtype, dims, &values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpret;

    #[test]
    fn every_op_is_drawn_and_runs() {
        for name in op_names() {
            for seed in 0..20 {
                let graph = graph_of_one_op(name, seed, &GraphOptions::default()).unwrap();
                interpret::run(&graph, &random_inputs(&graph, seed))
                    .unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
            }
        }
    }

    #[test]
    fn values_stay_moderate() {
        for seed in 0..200 {
            let graph = random_graph(seed);
            let run = interpret::run(&graph, &random_inputs(&graph, seed)).unwrap();
            assert_eq!(run.first_non_finite(&graph), None, "seed {seed}");
        }
    }

    #[test]
    fn a_seed_is_a_graph() {
        let options = GraphOptions { grad: true, ..GraphOptions::default() };
        let (a, b) = (random_graph_with(7, &options), random_graph_with(7, &options));
        assert!(a.nodes().eq(b.nodes()));
        assert_eq!(a.outputs(), b.outputs());
    }
}
