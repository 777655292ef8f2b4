//! In which form the weights of a file are: what they are stored as, which products they do with integers, their zeros.

use crate::narrow;
use crate::quantise::file;
use crate::store::RESERVED;
use nnc_graph::stored::NIBBLE_ZERO;
use nnc_graph::{Stored, Tensor};
use nnc_opt::narrow::Matrix;
use nnc_opt::prune::channels::recorded_axis;
use nnc_opt::prune::masked_parameter;
use nnc_opt::quantise::weights_path;
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
    /// That of the tensors of a file, with the layers that are integers in it or rounded by it, for a program with such
    /// products that integers may do: none, where it was not looked at, and computes in floats.
    pub fn of(tensors: &BTreeMap<String, Tensor>, layers: &BTreeSet<String>, products: &BTreeSet<String>) -> Self {
        let network = || tensors.iter().filter(|(path, _)| !path.starts_with(RESERVED)).map(|(_, tensor)| tensor);
        let quantised = layers.intersection(products).count();
        let stored = narrow::file::matrices(tensors).unwrap_or_default();
        let mut words = vec![match (quantised, layers.is_empty(), stored.first()) {
            (0, false, _) => "int8 weights".to_owned(),
            (0, true, Some(matrix)) => format!("{} weights", matrix.form.name()),
            (0, true, None) => most_common_dtype(network()),
            (_, _, _) => format!("int8 {quantised} of {}", products.len()),
        }];
        if tensors.keys().any(|path| recorded_axis(path).is_some()) {
            words.push("fewer channels".to_owned());
        }
        if tensors.keys().any(|path| masked_parameter(path).is_some()) {
            words.push("pruned".to_owned());
        }
        let (zeros, elements) = zeros_of_weights(tensors, &stored);
        let bytes = network().map(|tensor| tensor.bytes().len()).sum();
        Self { words: words.join(", "), zeros: zeros as f64 / elements.max(1) as f64, bytes }
    }
}

/// The share of zeros of what a file has as integers or in few bits, by path.
pub fn zeros_of_numbers(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, f64> {
    let stored = narrow::file::matrices(tensors).unwrap_or_default();
    let share = |path: String, is_of_halves: bool| {
        let (zeros, elements) = counted(tensors.get(&path)?, is_of_halves);
        Some((path, zeros as f64 / elements.max(1) as f64))
    };
    let layers = file::layers(tensors).unwrap_or_default();
    let integers = layers.iter().filter_map(|layer| share(weights_path(&layer.name), false));
    integers.chain(stored.iter().filter_map(|matrix| share(matrix.stored_path(), is_of_halves(matrix)))).collect()
}

/// Zeros and elements of a tensor of weights.
fn counted(tensor: &Tensor, is_of_halves: bool) -> (usize, usize) {
    match is_of_halves {
        true => (zero_halves(tensor), 2 * tensor.elements()),
        false => (zeros(tensor), tensor.elements()),
    }
}

/// Zeros and elements of the weights with two axes or more, however they are stored: scales of groups are none.
fn zeros_of_weights(tensors: &BTreeMap<String, Tensor>, stored: &[Matrix]) -> (usize, usize) {
    let scales: BTreeSet<String> = stored.iter().map(Matrix::scales_path).collect();
    let halves: BTreeSet<String> =
        stored.iter().filter(|matrix| is_of_halves(matrix)).map(Matrix::stored_path).collect();
    let is_weight = |(path, tensor): &(&String, &Tensor)| {
        !path.starts_with(RESERVED) && tensor.dims().len() > 1 && !scales.contains(*path)
    };
    tensors.iter().filter(is_weight).fold((0, 0), |sum, (path, tensor)| {
        let (zeros, elements) = counted(tensor, halves.contains(path));
        (sum.0 + zeros, sum.1 + elements)
    })
}

fn is_of_halves(matrix: &Matrix) -> bool {
    match matrix.form {
        Stored::Nibbles { .. } => true,
        Stored::Bf16 | Stored::Bytes { .. } => false,
    }
}

/// Elements of four bits that are 0.
fn zero_halves(tensor: &Tensor) -> usize {
    let halves = tensor.bytes().iter().flat_map(|byte| [byte & 15, byte >> 4]);
    halves.filter(|half| i64::from(*half) == NIBBLE_ZERO).count()
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

    #[test]
    fn a_form_says_what_is_in_a_file() {
        let tensor = |dtype: DType, values: &[f64]| Tensor::from_f64(dtype, &[values.len() / 2, 2], values);
        let mut tensors = BTreeMap::from([
            ("a.w".to_owned(), tensor(DType::F32, &[1.0, 0.0, -0.0, 3.0])),
            ("$optimizer.a.w.m".to_owned(), tensor(DType::F32, &[0.0; 8])),
        ]);
        let products = BTreeSet::from(["a.w", "b.w"].map(str::to_owned));
        let form = Form::of(&tensors, &BTreeSet::new(), &products);
        assert_eq!((form.words.as_str(), form.zeros, form.bytes), ("f32", 0.5, 16));
        tensors.insert("$prune.a.w.mask".to_owned(), tensor(DType::Bool, &[1.0, 0.0, 0.0, 1.0]));
        tensors.insert("b.w.q8".to_owned(), tensor(DType::I8, &[5.0, 0.0]));
        let form = Form::of(&tensors, &BTreeSet::from(["b.w".to_owned()]), &products);
        assert_eq!((form.words.as_str(), form.zeros, form.bytes), ("int8 1 of 2, pruned", 0.5, 18));
    }

    #[test]
    fn zeros_of_four_bits_are_eights_and_scales_are_no_weights() {
        let matrix =
            Matrix { path: "a.w".to_owned(), terms_axis: 0, form: Stored::Nibbles { group: 8 }, by_floats: false };
        let bytes = vec![0x88, 0x80, 0x08, 0x00, 0x8f, 0x11, 0x77, 0x08];
        let (record, numbers) = narrow::file::record(&matrix);
        let tensors = BTreeMap::from([
            (matrix.stored_path(), Tensor::from_bytes(DType::U8, &[8, 1], bytes).expect("eight bytes")),
            (matrix.scales_path(), Tensor::from_f64(DType::F32, &[2, 1], &[0.0, 0.0])),
            (record, numbers),
        ]);
        let form = Form::of(&tensors, &BTreeSet::new(), &BTreeSet::new());
        assert_eq!((form.words.as_str(), form.zeros), ("int4 weights", 6.0 / 16.0));
    }
}
