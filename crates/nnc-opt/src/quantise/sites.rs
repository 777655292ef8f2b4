//! Which products of a graph can be quantised: those of activations by what follows from parameters.
//!
//! The programs of a file share one set of quantised weights, so a product needs a name that means the same in all of
//! them: it says what is computed for the weights, from which parameters ([`Site::name`]). Where another program makes
//! something else of a parameter, say without the normalisation that is folded into it here, the name is another one.

use crate::constants::constants;
use nnc_graph::{Graph, NodeId, Op, ValueId, fnv1a};
use std::collections::BTreeSet;

/// A product that can be quantised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// What its weights are: the path of the parameter if they are nothing else, and channels lie where they do by
    /// custom; else the largest parameter they follow from, `@`, and eight digits that stand for what is computed.
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
    /// Whether it is a convolution whose output channels are each made of one channel of the image.
    pub is_single: bool,
    /// Multiply-adds of the whole product.
    pub products: usize,
}

/// Fewer terms than this, or fewer output channels than a vector has lanes, are no work for integers.
const LEAST_TERMS: usize = 16;
const LEAST_CHANNELS: usize = 8;

impl Site {
    /// Whether it is too small for integers to serve.
    pub fn is_small(&self) -> bool {
        self.depth < LEAST_TERMS && !self.is_single || self.channels < LEAST_CHANNELS
    }

    /// The parameter that its weights follow from, the largest of them.
    pub fn layer(&self) -> &str {
        self.name.split('@').next().unwrap_or(&self.name)
    }
}

/// The products of a graph whose dims are bound, in program order. Those inside of loops are none.
pub fn sites(graph: &Graph) -> Vec<Site> {
    let constants = constants(graph, |_| false, |_| false);
    graph.nodes().filter_map(|(id, _)| site(graph, &constants, id)).collect()
}

/// The values that `value` is taken of by moving and comparing elements alone, each once: where activations are rounded.
pub fn roots(graph: &Graph, value: ValueId) -> Vec<ValueId> {
    let (mut waiting, mut seen, mut found) = (vec![value], BTreeSet::new(), Vec::new());
    while let Some(value) = waiting.pop() {
        let value = origin(graph, value);
        if !seen.insert(value) {
            continue;
        }
        let node = graph.definition(value);
        match &node.op {
            Op::Concat { .. } => waiting.extend(&node.operands),
            _ => found.push(value),
        }
    }
    found
}

/// The concatenation or other value that `value` is taken of by moves of one value.
pub(super) fn origin(graph: &Graph, mut value: ValueId) -> ValueId {
    loop {
        let node = graph.definition(value);
        if !moves(&node.op) || matches!(node.op, Op::Concat { .. }) {
            return value;
        }
        value = node.operands[0];
    }
}

/// Whether every element of the result is an element of the operands, or 0.
pub(super) fn moves(op: &Op) -> bool {
    match op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Concat { .. } => true,
        Op::Window { op, .. } => *op == nnc_graph::WindowOp::Max,
        _ => false,
    }
}

fn site(graph: &Graph, constants: &[bool], id: NodeId) -> Option<Site> {
    let node = graph.node(id);
    let custom = if matches!(node.op, Op::Conv(_)) { 0 } else { 1 };
    let channel_axis = match &node.op {
        Op::Conv(_) => custom,
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
    let path = largest_parameter(graph, weights)?;
    let name = match graph.definition(weights).op {
        Op::Param { .. } if channel_axis == custom => path.to_owned(),
        _ => format!("{path}@{:08x}", fingerprint(graph, weights, channel_axis)),
    };
    let is_single = matches!(&node.op, Op::Conv(at) if !at.groups.is(1)) && sizes[1] == 1;
    Some(Site { name, node: id, input, weights, channel_axis, channels, depth, is_single, products: results * depth })
}

fn is_matrix(graph: &Graph, value: ValueId) -> bool {
    graph.ty(value).shape.rank() == 2
}

/// The values that a value follows from, itself among them, in program order.
fn ancestors(graph: &Graph, value: ValueId) -> BTreeSet<ValueId> {
    let (mut waiting, mut seen) = (vec![value], BTreeSet::new());
    while let Some(value) = waiting.pop() {
        if seen.insert(value) {
            waiting.extend(&graph.definition(value).operands);
        }
    }
    seen
}

/// The parameter with the most elements that a value follows from, as weights are larger than what is multiplied with
/// them; of several the first by name.
fn largest_parameter(graph: &Graph, value: ValueId) -> Option<&str> {
    let parameters = ancestors(graph, value).into_iter().filter_map(|value| match &graph.definition(value).op {
        Op::Param { path, ty } => Some((std::cmp::Reverse(ty.shape.elements().size()), path.as_str())),
        _ => None,
    });
    parameters.min().map(|(_, path)| path)
}

/// A number that stands for what is computed for a value, whatever else its graph holds: ops, operands and types, the
/// hash of Fowler, Noll and Vo folded to 32 bits.
fn fingerprint(graph: &Graph, value: ValueId, channel_axis: usize) -> u32 {
    let ancestors = ancestors(graph, value);
    let mut hashes: Vec<u64> = vec![0; graph.value_count()];
    for (_, node) in graph.nodes().filter(|(_, node)| node.results.iter().any(|result| ancestors.contains(result))) {
        let op = match &node.op {
            Op::Constant(tensor) => fnv1a(tensor.bytes().iter().copied()),
            op => fnv1a(format!("{op:?}").bytes()),
        };
        for (at, result) in node.results.iter().enumerate() {
            let operands = node.operands.iter().flat_map(|operand| hashes[operand.index()].to_le_bytes());
            let ty = format!("{at} {}", graph.ty(*result));
            hashes[result.index()] = fnv1a(op.to_le_bytes().into_iter().chain(operands).chain(ty.bytes()));
        }
    }
    let whole = hashes[value.index()] ^ channel_axis as u64;
    (whole ^ whole >> 32) as u32
}
