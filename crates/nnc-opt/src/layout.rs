//! Channels side by side: convolutions of images `[N, C, ...X]` become ones of `[N, ...X, C]`, and what lies between them
//! follows.
//!
//! With the channels of a place side by side, vectors lie along channels whatever the image's size, stride and padding,
//! and the windows of a convolution are runs of memory that need no laying out (Georganas et al., "Anatomy of
//! High-Performance Deep Learning Convolutions on SIMD Architectures", 2018). A convolution of single places is a `dot`.
//!
//! Each value of the old graph has a plain form, a form with channels last, or both. A transpose makes one of the other
//! where it is needed, for nothing where the reader goes by strides. Convolutions make the second form; elementwise nodes,
//! pooling, concatenation, padding, slices and sums take it where an operand has it; everything else asks for the plain
//! form.
//!
//! Only for graphs that update nothing: there the weights are brought into their order once. On entry a verified graph
//! without `grad`; on exit the same results, but for the order in which the terms of a convolution are added: taps first,
//! then channels. It takes no fuel, as it is one decision.

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{
    ConvAttributes, Dim, Graph, Node, NodeId, Op, Shape, TensorType, ValueId, WindowAttributes, channels_first,
    channels_last,
};

/// Below so many output channels vectors along them are mostly empty.
const FEW_CHANNELS: usize = 8;

/// The graph with channels last wherever convolutions are; `None` if it has none of use.
pub fn move_channels(graph: &Graph) -> Option<Graph> {
    if !graph.nodes().any(|(_, node)| is_convertible(graph, node)) {
        return None;
    }
    let mut unlimited = Fuel::new(None);
    let rewriter = Rewriter::new(graph, &mut unlimited);
    let mut layout = Layout { rewriter, last: vec![None; graph.value_count()] };
    for (id, node) in graph.nodes() {
        layout.rewriter.at(id);
        match layout.convert(node) {
            Some(value) => layout.last[node.results[0].index()] = Some(value),
            None if layout.reduce(node) => {}
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
    let (Some(rows), Some(channels), Some(groups)) = (w[0].as_number(), w[1].as_number(), at.groups.as_number()) else {
        return false;
    };
    let few = rows < FEW_CHANNELS as i64;
    at.stride.len() <= 2 && !few && (groups == 1 || (channels == 1 && rows == groups))
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
        if !node.operands.iter().any(|operand| self.last[operand.index()].is_some()) {
            return None;
        }
        if let Op::ConvInputGrad { attributes, .. } = &node.op
            && spreads_places(
                attributes,
                [node.operands[0], node.operands[1], node.results[0]].map(|v| &old.ty(v).shape),
            )
        {
            return Some(self.spreading(node));
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
                Some(self.window(x, *op, attributes, &old.ty(node.results[0]).shape))
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

    /// Windows `[N, ...X, C]`, as windows of one channel whose last axis is the channels.
    fn window(&mut self, x: ValueId, op: nnc_graph::WindowOp, at: &WindowAttributes, result: &Shape) -> ValueId {
        let one_channel = |shape: &[Dim]| {
            let dims = [&shape[..1], &[Dim::from(1i64)], &shape[1..]].concat();
            Op::Reshape(dims.into())
        };
        let with = |list: &[Dim], last: i64| [list, &[Dim::from(last)]].concat();
        let attributes = WindowAttributes {
            size: with(&at.size, 1),
            stride: with(&at.stride, 1),
            low: with(&at.low, 0),
            high: with(&at.high, 0),
        };
        let shape = self.rewriter.ty(x).shape.0.clone();
        let image = self.rewriter.emit(one_channel(&shape), &[x]);
        let windows = self.rewriter.emit(Op::Window { op, attributes }, &[image]);
        self.rewriter.emit(Op::Reshape(permuted(&result.0).into()), &[windows])
    }

    /// A transpose of a convolution as a product of places by (block, channel), and the blocks side by side.
    fn spreading(&mut self, node: &Node) -> ValueId {
        let (dy, w) = (self.with_channels_last(node.operands[0]), self.plain(node.operands[1]));
        let from = self.rewriter.ty(dy).shape.0.clone();
        let kernel = self.rewriter.ty(w).shape.0.clone();
        let product = |dims: &[Dim]| dims.iter().fold(Dim::from(1i64), |product, dim| product * dim.clone());
        let reshape = |dims: Vec<Dim>| Op::Reshape(dims.into());
        let rows = self.rewriter.emit(reshape(vec![product(&from[..3]), from[3].clone()]), &[dy]);
        let w = self.rewriter.emit(Op::Transpose(vec![0, 2, 3, 1]), &[w]);
        let w = self.rewriter.emit(reshape(vec![kernel[0].clone(), product(&kernel[1..])]), &[w]);
        let blocks = self.rewriter.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[rows, w]);
        let [channels, high, wide] = [1, 2, 3].map(|axis| kernel[axis].clone());
        let apart = [&from[..3], &[high.clone(), wide.clone(), channels.clone()]].concat();
        let blocks = self.rewriter.emit(reshape(apart), &[blocks]);
        let blocks = self.rewriter.emit(Op::Transpose(vec![0, 1, 3, 2, 4, 5]), &[blocks]);
        let together = vec![from[0].clone(), from[1].clone() * high, from[2].clone() * wide, channels];
        self.rewriter.emit(reshape(together), &[blocks])
    }

    fn convolution(&mut self, node: &Node, at: &ConvAttributes) -> ValueId {
        let x = self.with_channels_last(node.operands[0]);
        let w = self.plain(node.operands[1]);
        let old = self.rewriter.old();
        let TensorType { shape: kernel, .. } = old.ty(node.operands[1]).clone();
        if !is_of_places(at, &kernel) {
            return self.rewriter.emit(Op::ConvLast(at.clone()), &[x, w]);
        }
        let places = self.rewriter.ty(x).shape.clone();
        let (inner, channels) = (places.rank() - 1, kernel[1].clone());
        let count = places.0[..inner].iter().fold(Dim::from(1i64), |product, dim| product * dim.clone());
        let x = self.rewriter.emit(Op::Reshape(vec![count, channels.clone()].into()), &[x]);
        let w = self.rewriter.emit(Op::Reshape(vec![kernel[0].clone(), channels].into()), &[w]);
        let y = self.rewriter.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![1] }, &[x, w]);
        let result = [&places.0[..inner], &[kernel[0].clone()]].concat();
        self.rewriter.emit(Op::Reshape(result.into()), &[y])
    }
}

/// Whether the transpose of a convolution makes of each place a block of its own, and nothing but these blocks.
fn spreads_places(at: &ConvAttributes, [dy, kernel, dx]: [&Shape; 3]) -> bool {
    let all = |list: &[Dim], number: i64| list.iter().all(|dim| dim.is(number));
    let is_flat = all(&at.low, 0) && all(&at.high, 0) && all(&at.dilation, 1) && at.groups.is(1);
    let is_whole = (2..dx.rank()).all(|axis| dx[axis] == dy[axis].clone() * kernel[axis].clone());
    is_flat && is_whole && at.stride.len() == 2 && at.stride[..] == kernel.0[2..]
}

/// Whether each result of a convolution is made of one place of the image, and every place is used.
fn is_of_places(at: &ConvAttributes, kernel: &Shape) -> bool {
    let all = |list: &[Dim], number: i64| list.iter().all(|dim| dim.is(number));
    at.groups.is(1) && all(&kernel.0[2..], 1) && all(&at.stride, 1) && all(&at.low, 0) && all(&at.high, 0)
}
