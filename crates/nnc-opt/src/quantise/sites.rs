//! Which products of a graph can be quantised: those of activations by what follows from parameters.

use crate::constants::constants;
use nnc_graph::{Graph, NodeId, Op, ValueId};
use std::collections::BTreeMap;

/// A product that can be quantised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// The path of its weights without the last part, as `block[0].conv2d_1`; later products by the same have `#2` and so
    /// on behind it.
    pub name: String,
    /// The product.
    pub node: NodeId,
    /// Its activations.
    pub input: ValueId,
    /// Its weights, which follow from parameters alone.
    pub weights: ValueId,
    /// The axis of the weights along which output channels lie.
    pub channel_axis: usize,
    /// Output channels.
    pub channels: usize,
    /// Terms of a sum.
    pub depth: usize,
    /// Multiply-adds of the whole product.
    pub products: usize,
}

/// The products of a graph whose dims are bound, in program order. Those inside of loops are none.
pub fn sites(graph: &Graph) -> Vec<Site> {
    let constants = constants(graph, |_| false, |_| false);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (id, _) in graph.nodes() {
        let Some(mut site) = site(graph, &constants, id) else { continue };
        let times = seen.entry(site.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            site.name = format!("{}#{times}", site.name);
        }
        found.push(site);
    }
    found
}

fn site(graph: &Graph, constants: &[bool], id: NodeId) -> Option<Site> {
    let node = graph.node(id);
    let channel_axis = match &node.op {
        Op::Conv(_) => 0,
        Op::Dot { batch: 0, a_axes, b_axes } if a_axes.len() == 1 && is_matrix(graph, node.operands[1]) => {
            1 - b_axes[0]
        }
        _ => return None,
    };
    let [input, weights] = [node.operands[0], node.operands[1]];
    let is_float = graph.ty(weights).dtype == nnc_graph::DType::F32;
    if !is_float || constants[input.index()] || !constants[weights.index()] {
        return None;
    }
    let sizes = graph.ty(weights).shape.sizes();
    let elements: usize = sizes.iter().product();
    let results = graph.ty(node.results[0]).shape.elements().size();
    let channels = sizes[channel_axis];
    let depth = elements.checked_div(channels)?;
    let name = parameter(graph, weights)?;
    Some(Site { name, node: id, input, weights, channel_axis, channels, depth, products: results * depth })
}

fn is_matrix(graph: &Graph, value: ValueId) -> bool {
    graph.ty(value).shape.rank() == 2
}

/// The name of the first parameter that a value follows from: the one with the most elements, as weights are larger than
/// what is multiplied with them.
fn parameter(graph: &Graph, value: ValueId) -> Option<String> {
    let mut waiting = vec![value];
    let mut best: Option<(usize, &str)> = None;
    let mut seen = vec![false; graph.value_count()];
    while let Some(value) = waiting.pop() {
        if std::mem::replace(&mut seen[value.index()], true) {
            continue;
        }
        let node = graph.definition(value);
        if let Op::Param { path, ty } = &node.op {
            let elements = ty.shape.elements().size();
            if best.is_none_or(|(most, first)| (elements, first) > (most, path)) {
                best = Some((elements, path));
            }
        }
        waiting.extend(&node.operands);
    }
    let (_, path) = best?;
    Some(path.rsplit_once('.').map_or(path, |(layer, _)| layer).to_owned())
}
