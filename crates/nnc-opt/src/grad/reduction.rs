//! Rules of reductions.

use super::builder::Builder;
use super::rules::Site;
use nnc_graph::{CompareOp, Dim, Op, ReduceOp, Shape, ValueId};

pub(super) fn reduce(b: &mut Builder<'_>, site: &Site<'_>, op: ReduceOp, axes: &[usize]) -> Option<ValueId> {
    let shape = b.shape(site.operand());
    match op {
        ReduceOp::Any | ReduceOp::All => None,
        ReduceOp::Sum => Some(b.spread(site.cotangent, &shape, axes)),
        ReduceOp::Max | ReduceOp::Min => Some(extreme(b, site, &shape, axes)),
        ReduceOp::Product => Some(product(b, site, &shape, axes)),
    }
}

/// Equal shares to every element that equals the extreme.
fn extreme(b: &mut Builder<'_>, site: &Site<'_>, shape: &Shape, axes: &[usize]) -> ValueId {
    let (x, dtype) = (site.operand(), b.ty(site.operand()).dtype);
    let best = b.spread(site.result, shape, axes);
    let chosen = b.compare(CompareOp::Eq, x, best);
    let ones = b.emit(Op::Cast(dtype), &[chosen]);
    let count = b.sum(ones, axes.to_vec());
    let share = b.div(site.cotangent, count);
    let share = b.spread(share, shape, axes);
    let zero = b.zeros(x);
    b.select(chosen, share, zero)
}

/// The product of all others for each element. Where sizes are known it is the derivative of the product as a tree,
/// without a division, so it is right at zeros to any order; else `y / x`.
fn product(b: &mut Builder<'_>, site: &Site<'_>, shape: &Shape, axes: &[usize]) -> ValueId {
    let (x, d) = (site.operand(), site.cotangent);
    let length = axes.iter().fold(Dim::from(1), |product, &axis| product * shape[axis].clone());
    let Some(length) = length.as_number() else {
        let numerator = b.mul(d, site.result);
        let numerator = b.spread(numerator, shape, axes);
        return b.div(numerator, x);
    };
    // The reduced axes as one, the last.
    let kept: Vec<usize> = (0..shape.rank()).filter(|axis| !axes.contains(axis)).collect();
    let order: Vec<usize> = kept.iter().chain(axes).copied().collect();
    let ordered = b.transpose(x, order.clone());
    let ordered_shape = b.shape(ordered);
    let last = kept.len();
    let with_last = |size: i64| Shape(ordered_shape[..last].iter().cloned().chain([Dim::from(size)]).collect());
    let rows = b.reshape(ordered, with_last(length));
    let d = b.reshape(d, with_last(1));
    let d = tree(b, rows, d, last, length);
    let d = b.reshape(d, ordered_shape);
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    b.transpose(d, back)
}

/// Derivative of the product over the last axis, taken as pairs of halves: one level here, the rest by recursion.
/// `d` has size 1 along the axis.
fn tree(b: &mut Builder<'_>, x: ValueId, d: ValueId, axis: usize, length: i64) -> ValueId {
    if length == 1 {
        return d;
    }
    let half = length / 2;
    let part = |b: &mut Builder<'_>, v: ValueId, start: i64, size: i64| {
        b.slice_axis(v, axis, Dim::from(start), Dim::from(size))
    };
    let (left, right) = (part(b, x, 0, half), part(b, x, half, half));
    let pairs = b.mul(left, right);
    let odd = length % 2 == 1;
    let next = if odd {
        let rest = part(b, x, length - 1, 1);
        b.emit(Op::Concat { axis }, &[pairs, rest])
    } else {
        pairs
    };
    let d = tree(b, next, d, axis, half + length % 2);
    let d_pairs = part(b, d, 0, half);
    let mut parts = vec![b.mul(d_pairs, right), b.mul(d_pairs, left)];
    if odd {
        parts.push(part(b, d, half, 1));
    }
    b.emit(Op::Concat { axis }, &parts)
}
