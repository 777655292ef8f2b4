//! Convolutions with more than two spatial axes become two-dimensional ones, which are what kernels are made of.
//!
//! A convolution is a sum over the taps of its first spatial axis, and each tap reads a strided slice of the padded
//! input along that axis. The slices are stacked as further channels, and the places of the axis become images:
//!
//! ```text
//! x [N, C, D, ...X]           -> pad D, slice for each tap, stack -> [N, C, KD, D', ...X]
//!                             -> transpose, reshape               -> [N*D', C*KD, ...X]
//! w [Co, C/groups, KD, ...K]  -> reshape                          -> [Co, C/groups*KD, ...K]
//! conv                                                            -> [N*D', Co, ...Y]
//!                             -> reshape, transpose               -> [N, Co, D', ...Y]
//! ```
//!
//! Channels of a group stay together, since a channel's taps follow each other. One axis goes after the other until two
//! are left. The two transposes of a convolution are linear in what they are computed from, so they are the derivatives
//! of the form above.
//!
//! On entry any verified graph, `grad` among it or not; on exit no convolution has more than two spatial axes whose
//! taps, strides and dilations are numbers. It must happen, so it takes no fuel. Each axis copies the input once for
//! each of its taps.

use crate::grad;
use crate::rewrite::{Fuel, Rewriter, with_body};
use nnc_graph::{
    BinaryOp, ConvAttributes, Dim, Graph, Node, NodeId, Op, ReduceOp, Shape, SliceRange, TensorType, ValueId,
};

/// The spatial axes that kernels know.
const KNOWN: usize = 2;
/// Axes before the spatial ones: image and channel.
const OUTER: usize = 2;

/// The graph with every convolution in at most two spatial axes.
pub fn unfold_convolutions(graph: &Graph) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        if let Op::Scan(scan) = &node.op {
            rewriter.copy_as(id, with_body(scan, unfold_convolutions));
            continue;
        }
        match unfolded(&mut rewriter, id, node) {
            Some(value) => rewriter.replace(node.results[0], value),
            None => {
                rewriter.copy(id);
            }
        }
    }
    rewriter.finish()
}

/// What stands for a convolution or a transpose of one; `None` where the node stays.
fn unfolded(rewriter: &mut Rewriter<'_>, id: NodeId, node: &Node) -> Option<ValueId> {
    let (Op::Conv(at) | Op::ConvInputGrad { attributes: at, .. } | Op::ConvWeightGrad { attributes: at, .. }) =
        &node.op
    else {
        return None;
    };
    let result = rewriter.old().ty(node.results[0]).clone();
    let operands = rewriter.operands(node);
    rewriter.at(id);
    let graph = rewriter.graph_mut();
    let [first, second] = [operands[0], operands[1]];
    match node.op {
        Op::ConvInputGrad { .. } => {
            is_foldable(at, &graph.ty(second).shape)?;
            let x = graph.splat(&result, 0.0);
            let output = graph.ty(first).shape.clone();
            let y = convolve(graph, x, second, at, &output[OUTER..]);
            Some(cotangent(graph, y, first, x))
        }
        Op::ConvWeightGrad { .. } => {
            is_foldable(at, &result.shape)?;
            let w = graph.splat(&result, 0.0);
            let output = graph.ty(second).shape.clone();
            let y = convolve(graph, first, w, at, &output[OUTER..]);
            Some(cotangent(graph, y, second, w))
        }
        _ => {
            is_foldable(at, &graph.ty(second).shape)?;
            Some(convolve(graph, first, second, at, &result.shape[OUTER..]))
        }
    }
}

/// Whether there are axes to be unfolded, and what must be known of them is.
fn is_foldable(at: &ConvAttributes, kernel: &Shape) -> Option<()> {
    let spare = at.stride.len().checked_sub(KNOWN).filter(|&spare| spare > 0)?;
    let known = |dims: &[Dim]| dims[..spare].iter().all(|dim| dim.as_number().is_some());
    (known(&at.stride) && known(&at.dilation) && known(&kernel[OUTER..])).then_some(())
}

/// The convolution of `x` and `w`, whose result has the spatial sizes `output`.
fn convolve(graph: &mut Graph, x: ValueId, w: ValueId, at: &ConvAttributes, output: &[Dim]) -> ValueId {
    if output.len() <= KNOWN {
        return graph.emit(Op::Conv(at.clone()), &[x, w]);
    }
    let images = graph.ty(x).shape[0].clone();
    let stacked = stack_taps(graph, x, w, at, &output[0]);
    let weights = graph.ty(w).shape.clone();
    let inner = [&[weights[0].clone(), weights[1].clone() * weights[2].clone()], &weights[OUTER + 1..]].concat();
    let weights = graph.emit(Op::Reshape(inner.into()), &[w]);
    let y = convolve(graph, stacked, weights, &without_first(at), &output[1..]);
    let found = graph.ty(y).shape.clone();
    let apart = [&[images, output[0].clone()], &found[1..]].concat();
    let y = graph.emit(Op::Reshape(apart.into()), &[y]);
    graph.emit(Op::Transpose(exchanged(OUTER + output.len(), &[0, 2, 1])), &[y])
}

/// `[N, C, D, ...X]` as `[N*D', C*KD, ...X]`: what each place of the first spatial axis is computed from.
fn stack_taps(graph: &mut Graph, x: ValueId, w: ValueId, at: &ConvAttributes, output: &Dim) -> ValueId {
    let number = |dim: &Dim| dim.as_number().expect("it was looked at before");
    let taps = number(&graph.ty(w).shape[OUTER]);
    let padded = pad_first(graph, x, at);
    let slices: Vec<ValueId> = (0..taps)
        .map(|tap| {
            let start = Dim::from(tap * number(&at.dilation[0]));
            let range = SliceRange { start, size: output.clone(), step: number(&at.stride[0]) };
            slice_first(graph, padded, range)
        })
        .collect();
    let stacked = graph.emit(Op::Concat { axis: OUTER }, &slices);
    let rank = graph.ty(stacked).shape.rank();
    let images_first = graph.emit(Op::Transpose(exchanged(rank, &[0, 3, 1, 2])), &[stacked]);
    let apart = graph.ty(images_first).shape.clone();
    let product = |a: usize, b: usize| apart[a].clone() * apart[b].clone();
    let together = [&[product(0, 1), product(2, 3)], &apart[4..]].concat();
    graph.emit(Op::Reshape(together.into()), &[images_first])
}

/// Zeros at the ends of the first spatial axis.
fn pad_first(graph: &mut Graph, x: ValueId, at: &ConvAttributes) -> ValueId {
    if at.low[0].is(0) && at.high[0].is(0) {
        return x;
    }
    let TensorType { dtype, shape } = graph.ty(x).clone();
    let along = |dim: &Dim| {
        let mut dims = vec![Dim::from(0i64); shape.rank()];
        dims[OUTER] = dim.clone();
        dims
    };
    let (low, high) = (along(&at.low[0]), along(&at.high[0]));
    let zero = graph.scalar(dtype, 0.0);
    graph.emit(Op::Pad { low, high }, &[x, zero])
}

/// A range of the first spatial axis, with an axis of size 1 before it.
fn slice_first(graph: &mut Graph, x: ValueId, range: SliceRange) -> ValueId {
    let shape = graph.ty(x).shape.clone();
    let whole = |dim: &Dim| SliceRange { start: Dim::from(0i64), size: dim.clone(), step: 1 };
    let mut ranges: Vec<SliceRange> = shape.iter().map(whole).collect();
    ranges[OUTER] = range;
    let slice = graph.emit(Op::Slice(ranges), &[x]);
    let shape = graph.ty(slice).shape.clone();
    let wider = [&shape[..OUTER], &[Dim::from(1i64)], &shape[OUTER..]].concat();
    graph.emit(Op::Reshape(wider.into()), &[slice])
}

/// The derivative of `sum(y * dy)` by `of`.
fn cotangent(graph: &mut Graph, y: ValueId, dy: ValueId, of: ValueId) -> ValueId {
    let weighted = graph.emit(Op::Binary(BinaryOp::Mul), &[y, dy]);
    let axes = (0..graph.ty(y).shape.rank()).collect();
    let sum = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes }, &[weighted]);
    grad::gradients(graph, sum, &[of])[0]
}

/// The geometry of the axes after the first.
fn without_first(at: &ConvAttributes) -> ConvAttributes {
    let rest = |dims: &[Dim]| dims[1..].to_vec();
    ConvAttributes {
        stride: rest(&at.stride),
        low: rest(&at.low),
        high: rest(&at.high),
        dilation: rest(&at.dilation),
        groups: at.groups.clone(),
    }
}

/// The permutation of `rank` axes that begins so and leaves the others where they are.
fn exchanged(rank: usize, first: &[usize]) -> Vec<usize> {
    first.iter().copied().chain(first.len()..rank).collect()
}
