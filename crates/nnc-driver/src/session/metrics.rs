//! What programs tell: losses and metrics, their means over a split, and those that are matrices.

use crate::compiled::CompiledGraph;
use nnc_graph::tensor;
use nnc_lang::elaborate::RecipeInfo;
use serde::{Deserialize, Serialize};

/// Means over a split: every loss and every metric, in the order of the recipe.
pub type Metrics = Vec<(String, f64)>;

/// A metric that is a square matrix, such as how many examples of one class were taken for another, over a split.
#[derive(Clone, PartialEq, Debug)]
pub struct Matrix {
    /// What the metric is called.
    pub name: String,
    /// How many rows and columns it has.
    pub size: usize,
    /// The sums over all examples, row after row.
    pub values: Vec<f64>,
}

/// A sum over examples; of an accumulating metric its last value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sum {
    /// Of which loss or metric.
    pub name: String,
    /// The sum of the means of batches, each times its examples.
    pub sum: f64,
    /// The examples; 0 for what no step has told of yet.
    pub rows: u64,
}

/// Means weighted by the size of each batch; an accumulating metric keeps its last value. What only some steps tell of
/// is the mean over their batches.
#[derive(Clone, Debug)]
pub struct Means {
    sums: Vec<Sum>,
    accumulates: Vec<String>,
}

impl Means {
    /// Nothing added yet.
    pub fn new(recipe: &RecipeInfo) -> Self {
        let accumulating = recipe.metrics.iter().filter(|metric| metric.accumulates);
        Self {
            sums: recipe.measured().map(|name| Sum { name, sum: 0.0, rows: 0 }).collect(),
            accumulates: accumulating.map(|metric| metric.name.clone()).collect(),
        }
    }

    /// Continues from former sums.
    pub fn restore(&mut self, sums: &[Sum]) {
        for sum in &mut self.sums {
            if let Some(former) = sums.iter().find(|former| former.name == sum.name) {
                sum.clone_from(former);
            }
        }
    }

    /// The sums so far.
    pub fn parts(&self) -> &[Sum] {
        &self.sums
    }

    /// Adds the means of a batch of `rows`.
    pub fn add(&mut self, metrics: &Metrics, rows: usize) {
        for (name, value) in metrics {
            let Some(sum) = self.sums.iter_mut().find(|sum| sum.name == *name) else { continue };
            sum.sum = if self.accumulates.contains(name) { *value } else { sum.sum + value * rows as f64 };
            sum.rows += rows as u64;
        }
    }

    /// The means, of what was told of.
    pub fn finish(&self) -> Metrics {
        let mean = |Sum { name, sum, rows }: &Sum| {
            (name.clone(), if self.accumulates.contains(name) { *sum } else { sum / *rows as f64 })
        };
        self.sums.iter().filter(|sum| sum.rows > 0).map(mean).collect()
    }
}

/// Adds what a batch gave to the matrices so far.
pub(super) fn add_matrices(matrices: &mut Vec<Matrix>, program: &CompiledGraph, recipe: &RecipeInfo) {
    for (at, name) in recipe.matrices.iter().enumerate() {
        let (Some(ty), Some(bytes)) = (program.output_type(name), program.output(name)) else { continue };
        if matrices.len() <= at {
            let values = vec![0.0; ty.shape.elements().size()];
            matrices.push(Matrix { name: name.clone(), size: ty.shape.sizes()[0], values });
        }
        let elements = bytes.chunks_exact(ty.dtype.size()).map(|element| tensor::decode(ty.dtype, element));
        matrices[at].values.iter_mut().zip(elements).for_each(|(sum, value)| *sum += value);
    }
}
