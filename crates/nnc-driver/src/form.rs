//! In which form the weights of a file are: what they are stored as, which products they do with integers, their zeros.

use crate::narrow;
use crate::store::RESERVED;
use nnc_graph::Tensor;
use nnc_opt::prune::channels::recorded_axis;
use nnc_opt::prune::masked_parameter;
use nnc_opt::quantise::Layer;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is in a file of weights.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Form {
    /// In words: `f32`, `int8 3 of 4`, `int4 weights`, `f32, pruned`, `f32, fewer channels`.
    pub words: String,
    /// The share of zeros among the elements of weights with two axes or more, from 0 to 1.
    pub zeros: f64,
    /// Bytes of the network's tensors, without what training keeps beside them.
    pub bytes: usize,
}

impl Form {
    /// That of the tensors of a file, with the layers that they have as integers, for a network with such products.
    pub fn of(tensors: &BTreeMap<String, Tensor>, layers: &[Layer], products: &BTreeSet<String>) -> Self {
        let network = || tensors.iter().filter(|(path, _)| !path.starts_with(RESERVED)).map(|(_, tensor)| tensor);
        let quantised = layers.iter().filter(|layer| products.contains(&layer.name)).count();
        let stored = narrow::file::matrices(tensors).unwrap_or_default();
        let mut words = vec![match (quantised, stored.first()) {
            (0, Some(matrix)) => format!("{} weights", matrix.form.name()),
            (0, None) => most_common_dtype(network()),
            (_, _) => format!("int8 {quantised} of {}", products.len()),
        }];
        if tensors.keys().any(|path| recorded_axis(path).is_some()) {
            words.push("fewer channels".to_owned());
        }
        if tensors.keys().any(|path| masked_parameter(path).is_some()) {
            words.push("pruned".to_owned());
        }
        let weights = || network().filter(|tensor| tensor.dims().len() > 1);
        let zeros: usize = weights().map(zeros).sum();
        let elements: usize = weights().map(Tensor::elements).sum();
        let bytes = network().map(|tensor| tensor.bytes().len()).sum();
        Self { words: words.join(", "), zeros: zeros as f64 / elements.max(1) as f64, bytes }
    }
}

/// The dtype of the most elements.
fn most_common_dtype<'t>(tensors: impl Iterator<Item = &'t Tensor>) -> String {
    let mut elements: BTreeMap<&str, usize> = BTreeMap::new();
    tensors.for_each(|tensor| *elements.entry(tensor.dtype().name()).or_default() += tensor.elements());
    elements.into_iter().max_by_key(|(_, elements)| *elements).map_or("nothing", |(name, _)| name).to_owned()
}

/// Elements that are 0, of whatever sign.
fn zeros(tensor: &Tensor) -> usize {
    let (size, dtype) = (tensor.dtype().size(), tensor.dtype());
    tensor.bytes().chunks_exact(size).filter(|element| nnc_graph::tensor::decode(dtype, element) == 0.0).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnc_graph::DType;
    use nnc_opt::quantise::Range;

    #[test]
    fn a_form_says_what_is_in_a_file() {
        let tensor = |dtype: DType, values: &[f64]| Tensor::from_f64(dtype, &[values.len() / 2, 2], values);
        let mut tensors = BTreeMap::from([
            ("a.w".to_owned(), tensor(DType::F32, &[1.0, 0.0, -0.0, 3.0])),
            ("$optimizer.a.w.m".to_owned(), tensor(DType::F32, &[0.0; 8])),
        ]);
        let products = BTreeSet::from(["a.w", "b.w"].map(str::to_owned));
        let form = Form::of(&tensors, &[], &products);
        assert_eq!((form.words.as_str(), form.zeros, form.bytes), ("f32", 0.5, 16));
        tensors.insert("$prune.a.w.mask".to_owned(), tensor(DType::Bool, &[1.0, 0.0, 0.0, 1.0]));
        tensors.insert("b.w.q8".to_owned(), tensor(DType::I8, &[5.0, 0.0]));
        let range = Range { scale: 1.0, signed: false };
        let layer = Layer { name: "b.w".to_owned(), input: range, summands: None, marks: BTreeSet::new() };
        let form = Form::of(&tensors, &[layer], &products);
        assert_eq!((form.words.as_str(), form.zeros, form.bytes), ("int8 1 of 2, pruned", 0.5, 18));
    }
}
