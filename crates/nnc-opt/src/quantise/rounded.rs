//! Which values of a graph a file has integers for. Whoever reads one otherwise than by a product of integers, as a
//! product in a loop or one of a program whose activations nobody looked at, reads the floats that the integers stand
//! for: so a file needs no floats beside them.

use super::Layer;
use super::fingerprint::fingerprints;
use super::sites::name;
use crate::constants::weights;
use nnc_graph::{DType, Graph, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// A value that integers stand for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rounded {
    /// What they are called: [`super::Site::name`].
    pub name: String,
    /// The axis along which output channels lie.
    pub channel_axis: usize,
}

/// The values that integers of these layers stand for.
pub(super) fn rounded_values(graph: &Graph, layers: &[Layer]) -> BTreeMap<ValueId, Rounded> {
    let names: BTreeSet<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    let constants = weights(graph);
    let marks = fingerprints(graph);
    let could_be = |value: &ValueId| {
        let ty = graph.ty(*value);
        constants[value.index()] && ty.dtype == DType::F32 && ty.shape.rank() > 1
    };
    let rounded = |value: ValueId| {
        // Transposes of convolutions have their channels along the second axis.
        (0..2)
            .filter_map(|channel_axis| Some(Rounded { name: name(graph, &marks, value, channel_axis)?, channel_axis }))
            .find(|rounded| names.contains(rounded.name.as_str()))
    };
    let values = graph.nodes().flat_map(|(_, node)| node.results.iter().copied()).filter(could_be);
    values.filter_map(|value| Some((value, rounded(value)?))).collect()
}
