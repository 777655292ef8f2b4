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
    #[serde(with = "crate::plain::number")]
    pub sum: f64,
    /// The examples; 0 for what no step has told of yet.
    pub rows: u64,
}

/// Makes `to` hold these means, in the memory that it has.
pub(crate) fn copy<'m>(from: impl Iterator<Item = (&'m str, f64)>, to: &mut Metrics) {
    let mut count = 0;
    for (name, value) in from {
        match to.get_mut(count) {
            Some(entry) if entry.0 == name => entry.1 = value,
            Some(entry) => *entry = (name.to_owned(), value),
            None => to.push((name.to_owned(), value)),
        }
        count += 1;
    }
    to.truncate(count);
}

/// Means weighted by the size of each batch; an accumulating metric keeps its last value. What only some steps tell of
/// is the mean over their batches.
#[derive(Clone, Debug)]
pub struct Means<'r> {
    recipe: &'r RecipeInfo,
    sums: Vec<Sum>,
}

impl<'r> Means<'r> {
    /// Nothing added yet.
    pub fn new(recipe: &'r RecipeInfo) -> Self {
        Self { recipe, sums: recipe.measured().map(|name| Sum { name, sum: 0.0, rows: 0 }).collect() }
    }

    /// What was added before, in its memory; nothing if there are no sums.
    pub(crate) fn with_sums(recipe: &'r RecipeInfo, sums: Vec<Sum>) -> Self {
        if sums.is_empty() { Self::new(recipe) } else { Self { recipe, sums } }
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

    /// The sums so far, given back.
    pub(crate) fn into_parts(self) -> Vec<Sum> {
        self.sums
    }

    /// Adds the means of a batch of `rows`.
    pub fn add<'m>(&mut self, metrics: impl IntoIterator<Item = &'m (String, f64)>, rows: usize) {
        for (name, value) in metrics {
            let accumulates = self.accumulates(name);
            let Some(sum) = self.sums.iter_mut().find(|sum| sum.name == *name) else { continue };
            sum.sum = if accumulates { *value } else { sum.sum + value * rows as f64 };
            sum.rows += rows as u64;
        }
    }

    /// The means, of what was told of.
    pub fn finish(&self) -> Metrics {
        self.told().map(|(name, mean)| (name.to_owned(), mean)).collect()
    }

    /// As [`Self::finish`], in the memory of former ones.
    pub(crate) fn finish_into(&self, to: &mut Metrics) {
        copy(self.told(), to);
    }

    fn told(&self) -> impl Iterator<Item = (&str, f64)> {
        self.sums.iter().filter(|sum| sum.rows > 0).map(|Sum { name, sum, rows }| {
            (name.as_str(), if self.accumulates(name) { *sum } else { sum / *rows as f64 })
        })
    }

    fn accumulates(&self, name: &str) -> bool {
        self.recipe.metrics.iter().any(|metric| metric.accumulates && metric.name == name)
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
