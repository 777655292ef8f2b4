//! Which products of a graph can be quantised: those of activations by what follows from parameters.
//!
//! The programs of a file share one set of quantised weights, so a product needs a name that means the same in all of
//! them: it says what is computed for the weights, from which parameters ([`Site::name`]). Where another program makes
//! something else of a parameter, say without the normalisation that is folded into it here, the name is another one.

use super::MOST_TERMS;
use super::fingerprint::fingerprints;
use crate::constants::weights;
use crate::products::multiply_adds;
use crate::simplify::matching::number;
use nnc_graph::{BinaryOp, Dim, Graph, Node, NodeId, Op, ReduceOp, ValueId, WindowOp};
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
    /// What these are computed by, as a number that is the same in every build.
    pub mark: u64,
    /// Its weights, which follow from parameters alone.
    pub weights: ValueId,
    /// The axis of the weights along which output channels lie.
    pub channel_axis: usize,
    /// Output channels.
    pub channels: usize,
    /// Groups of channels that are made of channels of their own; 1 but for convolutions.
    pub groups: usize,
    /// Elements of the weights.
    pub elements: usize,
    /// Terms of a sum; of the transpose of a convolution, where they differ, those of a mean one.
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
        self.has_few_terms() || self.channels < LEAST_CHANNELS
    }

    /// Whether its sums are too short for integers to serve, however many there are.
    pub fn has_few_terms(&self) -> bool {
        self.depth < LEAST_TERMS && !self.is_single
    }

    /// The output channel that an element of its weights belongs to, by its place in row-major order. `dims` are those of
    /// the weights.
    pub fn channel_of(&self, dims: &[usize], at: usize) -> usize {
        let inner: usize = dims[self.channel_axis + 1..].iter().product();
        at / inner % self.channels
    }

    /// The parameter that its weights follow from, the largest of them.
    pub fn layer(&self) -> &str {
        self.name.split('@').next().unwrap_or(&self.name)
    }
}

/// The products of a graph whose dims are bound, in program order. Those inside of loops are none.
pub fn sites(graph: &Graph) -> Vec<Site> {
    let constants = weights(graph);
    let marks = fingerprints(graph);
    graph.nodes().filter_map(|(id, _)| site(graph, &constants, &marks, id)).collect()
}

/// Where the activations of products come from: the values that are rounded for them.
pub struct Sources<'g> {
    graph: &'g Graph,
    learned: Vec<bool>,
}

impl<'g> Sources<'g> {
    /// Those of a graph.
    pub fn new(graph: &'g Graph) -> Self {
        let mut learned = vec![false; graph.value_count()];
        for (_, node) in graph.nodes() {
            let is_resident = matches!(node.op, Op::Param { .. } | Op::State { .. });
            let follows = is_resident || node.operands.iter().any(|operand| learned[operand.index()]);
            node.results.iter().for_each(|result| learned[result.index()] = follows);
        }
        Self { graph, learned }
    }

    /// Whether a value follows from parameters or states. What does not is data, which others may read to the bit: as
    /// targets, as numbers of classes or of rows of a table.
    pub fn is_learned(&self, value: ValueId) -> bool {
        self.learned[value.index()]
    }

    /// The values that `value` is taken of by moving and comparing elements alone, each once: where activations are
    /// rounded. Of data that is what is cut out of it, as the rest may be of quite another size.
    pub fn roots(&self, value: ValueId) -> Vec<ValueId> {
        let (mut waiting, mut seen, mut found) = (vec![value], BTreeSet::new(), Vec::new());
        while let Some(value) = waiting.pop() {
            let value = self.origin(value);
            if !seen.insert(value) {
                continue;
            }
            let node = self.graph.definition(value);
            match &node.op {
                Op::Concat { .. } => waiting.extend(&node.operands),
                _ => found.push(value),
            }
        }
        found
    }

    /// The values that `value` is taken of by sums, scaled by numbers, as means over places are, and that nobody reads
    /// for anything else: these may be bytes without a reader of floats noticing.
    pub fn summands(&self, value: ValueId) -> Vec<ValueId> {
        let found = self.roots(value).into_iter().filter_map(|root| {
            let node = self.graph.definition(self.unscaled(root));
            is_sum(&node.op).then(|| self.origin(node.operands[0]))
        });
        let found: BTreeSet<ValueId> = found.filter(|&summand| self.is_learned(summand)).collect();
        let is_only_summed = |summand: &ValueId| {
            std::iter::once(*summand).chain(self.roots(*summand)).all(|part| self.is_only_summed(part))
        };
        found.into_iter().filter(is_only_summed).collect()
    }

    /// What a value is a multiple of by numbers, behind moves of one value.
    fn unscaled(&self, value: ValueId) -> ValueId {
        let value = self.origin(value);
        let node = self.graph.definition(value);
        let is_number = |at: usize| number(self.graph, node.operands[at]).is_some();
        match node.op {
            Op::Binary(BinaryOp::Mul | BinaryOp::Div) if is_number(1) => self.unscaled(node.operands[0]),
            Op::Binary(BinaryOp::Mul) if is_number(0) => self.unscaled(node.operands[1]),
            _ => value,
        }
    }

    /// Whether all that is made of a value is sums, behind moves and joins of elements.
    fn is_only_summed(&self, value: ValueId) -> bool {
        let is_given_out = self.graph.outputs().iter().any(|output| output.value == value);
        let readers = self.graph.users(self.graph.value(value).node);
        let is_summed = |reader: &NodeId| {
            let node = self.graph.node(*reader);
            let passes_on = moves(&node.op) || matches!(node.op, Op::Concat { .. });
            is_sum(&node.op) || passes_on && self.is_only_summed(node.results[0])
        };
        !is_given_out && !readers.is_empty() && readers.iter().all(is_summed)
    }

    /// The concatenation or other value that `value` is taken of by moves of one value.
    pub(super) fn origin(&self, mut value: ValueId) -> ValueId {
        loop {
            let node = self.graph.definition(value);
            let is_cut_of_data = matches!(node.op, Op::Slice(_)) && !self.is_learned(value);
            if !moves(&node.op) || is_cut_of_data {
                return value;
            }
            value = node.operands[0];
        }
    }
}

/// Whether every element of the result is an element of the one operand.
pub(super) fn moves(op: &Op) -> bool {
    match op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) => true,
        Op::Window { op, .. } => *op == WindowOp::Max,
        _ => false,
    }
}

/// Whether every element of the result is a sum of elements of the one operand.
fn is_sum(op: &Op) -> bool {
    match op {
        Op::Reduce { op, .. } => *op == ReduceOp::Sum,
        Op::Window { op, .. } => *op == WindowOp::Sum,
        _ => false,
    }
}

fn site(graph: &Graph, constants: &[bool], marks: &[u64], id: NodeId) -> Option<Site> {
    let node = graph.node(id);
    let channel_axis = channel_axis(graph, node)?;
    let [input, weights] = [node.operands[0], node.operands[1]];
    let is_float = graph.ty(weights).dtype == nnc_graph::DType::F32;
    if !is_float || constants[input.index()] || !constants[weights.index()] || has_many_terms(graph, node) {
        return None;
    }
    let sizes = graph.ty(weights).shape.sizes();
    let elements: usize = sizes.iter().product();
    let channels = sizes[channel_axis];
    let depth = elements.checked_div(channels)?.div_ceil(phases(&node.op));
    let name = name(graph, marks, weights, channel_axis)?;
    let groups = if let Op::Conv(at) = &node.op { at.groups.size() } else { 1 };
    let is_single = groups > 1 && sizes[1] == 1;
    let (mark, products) = (marks[input.index()], multiply_adds(graph, node)?);
    Some(Site {
        name,
        node: id,
        input,
        mark,
        weights,
        channel_axis,
        channels,
        groups,
        elements,
        depth,
        is_single,
        products,
    })
}

/// The axis of a product's result along which output channels lie.
pub fn result_channels(graph: &Graph, product: &Node) -> usize {
    match product.op {
        Op::Dot { .. } => graph.ty(product.results[0]).shape.rank() - 1,
        _ => 1,
    }
}

/// The axis of a product's weights along which output channels lie, if it is of a kind that can be quantised.
fn channel_axis(graph: &Graph, node: &Node) -> Option<usize> {
    match &node.op {
        Op::Conv(_) => Some(0),
        Op::ConvInputGrad { attributes, .. } if attributes.groups.is(1) => Some(1),
        Op::Dot { batch: 0, a_axes, b_axes } if a_axes.len() == 1 && is_matrix(graph, node.operands[1]) => {
            Some(1 - b_axes[0])
        }
        _ => None,
    }
}

/// Whether a product of such a kind has sums of more terms than are sure to fit i32.
pub(super) fn has_many_terms(graph: &Graph, node: &Node) -> bool {
    let Some(channel_axis) = channel_axis(graph, node) else { return false };
    let sizes = graph.ty(node.operands[1]).shape.sizes();
    let taps = |stride: &[Dim]| -> usize {
        sizes[2..].iter().zip(stride).map(|(size, stride)| size.div_ceil(stride.size())).product()
    };
    let terms = match &node.op {
        Op::ConvInputGrad { attributes, .. } => sizes[0] * taps(&attributes.stride),
        _ => sizes.iter().enumerate().filter(|(axis, _)| *axis != channel_axis).map(|(_, size)| size).product(),
    };
    terms > MOST_TERMS
}

/// How many kinds of results a product has, each of other taps of the kernel: those of the transpose of a convolution
/// with a stride.
fn phases(op: &Op) -> usize {
    match op {
        Op::ConvInputGrad { attributes, .. } => attributes.stride.iter().map(Dim::size).product(),
        _ => 1,
    }
}

/// What weights are called whose output channels lie along an axis: [`Site::name`]. By custom these are the columns of
/// a matrix, and of the kernels of a convolution the first axis.
pub(super) fn name(graph: &Graph, marks: &[u64], weights: ValueId, channel_axis: usize) -> Option<String> {
    let path = largest_parameter(graph, weights)?;
    let custom = usize::from(is_matrix(graph, weights));
    Some(match graph.definition(weights).op {
        Op::Param { .. } if channel_axis == custom => path.to_owned(),
        _ => format!("{path}@{:08x}", folded(marks[weights.index()] ^ channel_axis as u64)),
    })
}

/// 64 bits in 32.
fn folded(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

pub(super) fn is_matrix(graph: &Graph, value: ValueId) -> bool {
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
