//! The masks of files that layers name (`layer enc = Encoder() from "enc.safetensors"`): what went there stays away in
//! further training. A mask goes the way of its tensor: it is cut and turned as that is. A sum keeps what one of its
//! terms keeps, and has no mask if one of them has none.

use crate::pretrained::{Taking, made};
use nnc_graph::Tensor;
use nnc_lang::elaborate::weight_names::Source;
use nnc_opt::prune::{mask_path, masked_parameter};
use std::collections::BTreeMap;

/// The masks that parameters have by a file, of those that take a tensor of it.
pub fn masks<'p>(
    taking: &Taking<'_>,
    paths: impl Iterator<Item = &'p str>,
    tensors: &BTreeMap<String, Tensor>,
) -> Vec<(String, Tensor)> {
    let own = tensors.iter().filter_map(|(path, mask)| Some((masked_parameter(path)?.to_owned(), mask.clone())));
    let known: BTreeMap<String, Tensor> = own.collect();
    let mask = |path: &str| {
        let sources = taking.names.sources(taking.root, path);
        let is_there = |source: &&Source| source.terms.iter().all(|term| tensors.contains_key(&term.name));
        let source = sources.iter().find(is_there)?;
        let is_pruned = source.terms.iter().all(|term| known.contains_key(&term.name));
        let mask = is_pruned.then(|| made(source, &known).ok())??;
        Some((mask_path(path), mask.into_tensor().into_owned()))
    };
    if known.is_empty() { Vec::new() } else { paths.filter_map(mask).collect() }
}
