//! Channels side by side: convolutions of images `[N, C, ...X]` become ones of `[N, ...X, C]`, and what lies between
//! them follows.
//!
//! With the channels of a place side by side, vectors lie along channels whatever the image's size, stride and padding,
//! and the windows of a convolution are runs of memory that need no laying out (Georganas et al., "Anatomy of
//! High-Performance Deep Learning Convolutions on SIMD Architectures", 2018). A convolution of single places is a
//! `dot`.
//!
//! Each value of the old graph has a plain form, a form with channels last, or both. A transpose makes one of the other
//! where it is needed, for nothing where the reader goes by strides. Convolutions and their transposes in the image
//! ([`transposed`]) make the second form; elementwise nodes, pooling, concatenation, padding, slices and sums take it
//! where an operand has it; everything else asks for the plain form. Transposes in the weights become products where
//! they are ([`weights`]), and else are left to kernels, which look at how their operands lie.
//!
//! On entry a verified graph without `grad`; on exit the same results, but for the order in which the terms of a
//! convolution are added: taps first, then channels. It takes no fuel, as it is one decision.

mod order;
mod transposed;
mod weights;

pub use order::Order;

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{
    ConvAttributes, Dim, Graph, Node, NodeId, Op, Shape, ValueId, WindowAttributes, channels_first, channels_last,
};

/// Below so many output channels vectors along them are mostly empty.
const FEW_CHANNELS: usize = 8;

/// The graph with channels last wherever convolutions are; `None` if it has none of use.
pub fn move_channels(graph: &Graph) -> Option<Graph> {
    if !graph.nodes().any(|(_, node)| is_convertible(graph, node) || transposed::is_convertible(graph, node)) {
        return None;
    }
    let mut unlimited = Fuel::new(None);
    let rewriter = Rewriter::new(graph, &mut unlimited);
    let mut layout = Layout { rewriter, last: vec![None; graph.value_count()] };
    for (id, node) in graph.nodes() {
        layout.rewriter.at(id);
        match layout.convert(node) {
            Some(value) => layout.last[node.results[0].index()] = Some(value),
            None if layout.reduce(node) || layout.weight_grad(node) => {}
            None => layout.keep(id, node),
        }
    }
    for output in graph.outputs() {
        layout.plain(output.value);
    }
    Some(layout.rewriter.finish())
}

/// Whether a node is a convolution that is better off with channels last: of one group or of single channels, with
/// output channels enough.
fn is_convertible(graph: &Graph, node: &Node) -> bool {
    let Op::Conv(at) = &node.op else { return false };
    let w = &graph.ty(node.operands[1]).shape;
    let Some(rows) = w[0].as_number() else { return false };
    let few = rows < FEW_CHANNELS as i64;
    at.stride.len() <= 2 && !few && (at.groups.is(1) || is_single(at, w))
}

/// Whether each output channel of a convolution is made of one channel, and each channel is for one.
fn is_single(at: &ConvAttributes, kernel: &Shape) -> bool {
    at.groups.as_number().is_some_and(|groups| kernel[0].is(groups)) && kernel[1].is(1)
}

/// Where an axis is with channels last.
fn moved(axis: usize, rank: usize) -> usize {
    match axis {
        0 => 0,
        1 => rank - 1,
        _ => axis - 1,
    }
}

/// A list with an entry for each axis, in the other order.
fn permuted<T: Clone>(list: &[T]) -> Vec<T> {
    channels_last(list.len()).into_iter().map(|axis| list[axis].clone()).collect()
}

struct Layout<'a> {
    rewriter: Rewriter<'a>,
    /// The form with channels last, by old value.
    last: Vec<Option<ValueId>>,
}

impl Layout<'_> {
    /// The plain form of an old value.
    fn plain(&mut self, old: ValueId) -> ValueId {
        if let Some(value) = self.rewriter.mapped(old) {
            return value;
        }
        let last = self.last[old.index()].unwrap_or_else(|| panic!("compiler bug: {old} has no form"));
        let rank = self.rewriter.ty(last).shape.rank();
        let value = self.rewriter.emit(Op::Transpose(channels_first(rank)), &[last]);
        self.rewriter.replace(old, value);
        value
    }

    /// The form with channels last of an old value of rank 3 at least.
    fn with_channels_last(&mut self, old: ValueId) -> ValueId {
        if let Some(value) = self.last[old.index()] {
            return value;
        }
        let plain = self.plain(old);
        let rank = self.rewriter.ty(plain).shape.rank();
        let value = self.rewriter.emit(Op::Transpose(channels_last(rank)), &[plain]);
        self.last[old.index()] = Some(value);
        value
    }

    fn all_with_channels_last(&mut self, node: &Node) -> Vec<ValueId> {
        node.operands.iter().map(|&operand| self.with_channels_last(operand)).collect()
    }

    fn keep(&mut self, id: NodeId, node: &Node) {
        for &operand in &node.operands {
            self.plain(operand);
        }
        self.rewriter.copy(id);
    }

    /// What stands for a node, with channels last; `None` where it stays plain.
    fn convert(&mut self, node: &Node) -> Option<ValueId> {
        let old = self.rewriter.old();
        if is_convertible(old, node) {
            let Op::Conv(attributes) = &node.op else { return None };
            return Some(self.convolution(node, attributes));
        }
        if let Op::ConvInputGrad { attributes, .. } = &node.op {
            return self.transposed(node, attributes);
        }
        if !node.operands.iter().any(|operand| self.last[operand.index()].is_some()) {
            return None;
        }
        let rank = old.ty(node.operands[0]).shape.rank();
        let follows = |op: Op, layout: &mut Self| {
            let operands = layout.all_with_channels_last(node);
            Some(layout.rewriter.emit(op, &operands))
        };
        match &node.op {
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::StopGradient => {
                follows(node.op.clone(), self)
            }
            Op::Concat { axis } => follows(Op::Concat { axis: moved(*axis, rank) }, self),
            Op::Slice(ranges) => follows(Op::Slice(permuted(ranges)), self),
            Op::Pad { low, high } => {
                let x = self.with_channels_last(node.operands[0]);
                let filling = self.plain(node.operands[1]);
                Some(self.rewriter.emit(Op::Pad { low: permuted(low), high: permuted(high) }, &[x, filling]))
            }
            Op::Window { op, attributes } => {
                let x = self.with_channels_last(node.operands[0]);
                let op = Op::Window { op: *op, attributes: with_single_channels(attributes) };
                Some(self.windows(op, &[x], &old.ty(node.results[0]).shape))
            }
            Op::WindowGrad { op, attributes, input } => {
                let operands = self.all_with_channels_last(node);
                let result = &old.ty(node.results[0]).shape;
                let input = [&input[..], &[result[1].clone()]].concat();
                let op = Op::WindowGrad { op: *op, attributes: with_single_channels(attributes), input };
                Some(self.windows(op, &operands, result))
            }
            _ => None,
        }
    }

    /// Whether a node is a reduction of a value with channels last whose remaining axes keep their order; then it takes
    /// that form, and its result is plain.
    fn reduce(&mut self, node: &Node) -> bool {
        let Op::Reduce { op, axes } = &node.op else { return false };
        let Some(x) = self.last[node.operands[0].index()] else { return false };
        let rank = self.rewriter.ty(x).shape.rank();
        let left = (0..rank).filter(|axis| !axes.contains(axis)).map(|axis| moved(axis, rank));
        if !left.is_sorted() {
            return false;
        }
        let mut axes: Vec<usize> = axes.iter().map(|&axis| moved(axis, rank)).collect();
        axes.sort_unstable();
        let value = self.rewriter.emit(Op::Reduce { op: *op, axes }, &[x]);
        self.rewriter.replace(node.results[0], value);
        true
    }

    /// An op on windows of `[N, ...X, C]`, as one on windows of one channel whose last axis is the channels.
    fn windows(&mut self, op: Op, operands: &[ValueId], result: &Shape) -> ValueId {
        let one_channel = |layout: &mut Self, value: ValueId| {
            let shape = layout.rewriter.ty(value).shape.0.clone();
            let dims = [&shape[..1], &[Dim::from(1i64)], &shape[1..]].concat();
            layout.rewriter.emit(Op::Reshape(dims.into()), &[value])
        };
        let operands: Vec<ValueId> = operands.iter().map(|&value| one_channel(self, value)).collect();
        let windows = self.rewriter.emit(op, &operands);
        self.rewriter.emit(Op::Reshape(permuted(&result.0).into()), &[windows])
    }

    fn convolution(&mut self, node: &Node, at: &ConvAttributes) -> ValueId {
        let x = self.with_channels_last(node.operands[0]);
        let w = self.plain(node.operands[1]);
        self.convolve(x, w, at)
    }

    /// The convolution of an image with channels last: a product, where each window is one place or the only one.
    fn convolve(&mut self, x: ValueId, w: ValueId, at: &ConvAttributes) -> ValueId {
        let (image, kernel) = (self.rewriter.ty(x).shape.clone(), self.rewriter.ty(w).shape.clone());
        if is_filled(at, [&Shape(permuted_back(&image.0)), &kernel]) {
            return self.whole(x, w, &kernel);
        }
        if !is_of_places(at, &kernel) {
            return self.rewriter.emit(Op::ConvLast(at.clone()), &[x, w]);
        }
        let x = self.places(x);
        let w = self.rewriter.emit(Op::Reshape(vec![kernel[0].clone(), kernel[1].clone()].into()), &[w]);
        let y = self.rewriter.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![1] }, &[x, w]);
        let result = [&image.0[..image.rank() - 1], &[kernel[0].clone()]].concat();
        self.rewriter.emit(Op::Reshape(result.into()), &[y])
    }

    /// The places of images with channels last, a row for each.
    fn places(&mut self, x: ValueId) -> ValueId {
        let dims = self.rewriter.ty(x).shape.0.clone();
        let inner = dims.len() - 1;
        let rows = vec![product(&dims[..inner]), dims[inner].clone()];
        self.rewriter.emit(Op::Reshape(rows.into()), &[x])
    }
}

/// Windows of single elements along a further axis, that of channels.
fn with_single_channels(at: &WindowAttributes) -> WindowAttributes {
    let with = |list: &[Dim], last: i64| [list, &[Dim::from(last)]].concat();
    WindowAttributes {
        size: with(&at.size, 1),
        stride: with(&at.stride, 1),
        low: with(&at.low, 0),
        high: with(&at.high, 0),
    }
}

/// A list with an entry for each axis, channels last, in the plain order.
fn permuted_back<T: Clone>(list: &[T]) -> Vec<T> {
    channels_first(list.len()).into_iter().map(|axis| list[axis].clone()).collect()
}

fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::from(1i64), |product, dim| product * dim.clone())
}

/// Whether a convolution has one window, which is the whole image: `image` is `[N, C, ...X]`.
fn is_filled(at: &ConvAttributes, [image, kernel]: [&Shape; 2]) -> bool {
    let flat = at.groups.is(1) && is_unpadded(at) && all_are(&at.dilation, 1);
    flat && image.0[2..] == kernel.0[2..] && !all_are(&kernel.0[2..], 1)
}

fn all_are(list: &[Dim], number: i64) -> bool {
    list.iter().all(|dim| dim.is(number))
}

fn is_unpadded(at: &ConvAttributes) -> bool {
    all_are(&at.low, 0) && all_are(&at.high, 0)
}

/// Whether each result of a convolution is made of one place of the image, and every place is used.
fn is_of_places(at: &ConvAttributes, kernel: &Shape) -> bool {
    at.groups.is(1) && all_are(&kernel.0[2..], 1) && all_are(&at.stride, 1) && is_unpadded(at)
}
