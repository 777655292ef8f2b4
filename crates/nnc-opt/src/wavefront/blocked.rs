//! Ops that treat the steps along one axis of their result by themselves, so that a block of steps is enough for a
//! block.

use nnc_graph::{Dim, Graph, Node, Op, Shape};

/// For each operand of a node the axis along which the steps lie that the result has along `axis`; none in it for an
/// operand that every step reads whole. None if the op mixes steps, or nothing is known of it.
pub fn operands(graph: &Graph, node: &Node, axis: usize) -> Option<Vec<Option<usize>>> {
    let all = || Some(vec![Some(axis); node.operands.len()]);
    let shape = |at: usize| &graph.ty(node.operands[at]).shape;
    match &node.op {
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::StopGradient => all(),
        Op::Reshape(new) => same_axis(shape(0), new, axis).map(|axis| vec![Some(axis)]),
        Op::Transpose(order) => Some(vec![Some(order[axis])]),
        Op::Broadcast { shape: new, axes } => {
            let from = axes.iter().position(|&to| to == axis);
            Some(vec![from.filter(|&from| shape(0)[from] == new[axis])])
        }
        Op::Slice(ranges) => {
            let range = &ranges[axis];
            let is_whole = range.step == 1 && range.start.is(0) && range.size == shape(0)[axis];
            is_whole.then(|| vec![Some(axis)])
        }
        Op::Concat { axis: joined } => all().filter(|_| *joined != axis),
        Op::Reduce { axes, .. } => Some(vec![free(shape(0).rank(), axes).nth(axis)]),
        Op::Dot { batch, a_axes, b_axes } => Some(of_dot((shape(0), shape(1)), *batch, (a_axes, b_axes), axis)),
        Op::Input { .. }
        | Op::Param { .. }
        | Op::State { .. }
        | Op::Constant(_)
        | Op::Extent { .. }
        | Op::Iota { .. }
        | Op::Random { .. }
        | Op::Pad { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Gather { .. }
        | Op::ScatterAdd { .. }
        | Op::ArgMax { .. }
        | Op::DotStored(_)
        | Op::Conv(_)
        | Op::ConvLast(_)
        | Op::ConvInputGrad { .. }
        | Op::ConvInputGradLast { .. }
        | Op::ConvWeightGrad { .. }
        | Op::Window { .. }
        | Op::WindowGrad { .. }
        | Op::WindowPick(_)
        | Op::Grad
        | Op::Scan(_) => None,
    }
}

/// The axes of so many that are not among `taken`.
fn free(rank: usize, taken: &[usize]) -> impl Iterator<Item = usize> {
    (0..rank).filter(|axis| !taken.contains(axis))
}

/// The axis of what is reshaped that is axis `axis` of the result, if one is.
fn same_axis(old: &Shape, new: &Shape, axis: usize) -> Option<usize> {
    let before = |shape: &Shape, axis: usize| shape[..axis].iter().map(Dim::size).product::<usize>();
    let outer = before(new, axis);
    (0..old.rank()).find(|&at| old[at] == new[axis] && before(old, at) == outer)
}

/// As [`operands`], of a contraction: batch axes come first, then the free ones of either operand.
fn of_dot(
    (a, b): (&Shape, &Shape),
    batch: usize,
    (a_axes, b_axes): (&[usize], &[usize]),
    axis: usize,
) -> Vec<Option<usize>> {
    if axis < batch {
        return vec![Some(axis); 2];
    }
    let of_a: Vec<usize> = free(a.rank(), a_axes).skip(batch).collect();
    match (axis - batch).checked_sub(of_a.len()) {
        None => vec![Some(of_a[axis - batch]), None],
        Some(at) => vec![None, free(b.rank(), b_axes).skip(batch).nth(at)],
    }
}

/// The op that makes `block` steps along an axis of its result.
pub fn resized(op: &Op, axis: usize, block: usize) -> Op {
    let resized = |shape: &Shape| {
        let mut shape = shape.clone();
        shape.0[axis] = Dim::from(block);
        shape
    };
    match op {
        Op::Reshape(shape) => Op::Reshape(resized(shape)),
        Op::Broadcast { shape, axes } => Op::Broadcast { shape: resized(shape), axes: axes.clone() },
        Op::Slice(ranges) => {
            let mut ranges = ranges.clone();
            ranges[axis].size = Dim::from(block);
            Op::Slice(ranges)
        }
        other => other.clone(),
    }
}
