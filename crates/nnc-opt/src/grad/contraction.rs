//! The rule of `dot`: a contraction of the cotangent with the other operand.

use super::builder::Builder;
use super::rules::Site;
use nnc_graph::{Op, Stored, ValueId};

/// Axes of the result are batch, `a`'s free axes, `b`'s free axes. By `a`: contract `b`'s free axes of the cotangent
/// with those of `b`; by `b`: `a`'s free axes. What comes out has the batch axes, then the wanted operand's free and
/// contracted axes in an order of its own, which a transpose puts right: none is needed for a plain matrix product.
pub(super) fn dot(b: &mut Builder<'_>, site: &Site<'_>, batch: usize, a_axes: &[usize], b_axes: &[usize]) -> ValueId {
    let free = |rank: usize, axes: &[usize]| (batch..rank).filter(|axis| !axes.contains(axis)).collect::<Vec<_>>();
    let a_free = free(b.rank(site.operands[0]), a_axes);
    let b_free = free(b.rank(site.operands[1]), b_axes);
    let result_of_a: Vec<usize> = (batch..batch + a_free.len()).collect();
    let result_of_b: Vec<usize> = (batch + a_free.len()..batch + a_free.len() + b_free.len()).collect();
    // The axes of the wanted operand in the order in which the contraction gives them, after the batch.
    let (product, order) = if site.wanted == 0 {
        let op = Op::Dot { batch, a_axes: result_of_b, b_axes: b_free };
        (b.emit(op, &[site.cotangent, site.operands[1]]), [a_free, partners(b_axes, a_axes)].concat())
    } else {
        let op = Op::Dot { batch, a_axes: a_free, b_axes: result_of_a };
        (b.emit(op, &[site.operands[0], site.cotangent]), [partners(a_axes, b_axes), b_free].concat())
    };
    let mut permutation: Vec<usize> = (0..batch + order.len()).collect();
    order.iter().enumerate().for_each(|(at, &axis)| permutation[axis] = batch + at);
    b.transpose(product, permutation)
}

/// By the activations: the cotangent by the floats that the matrix stands for. What is stored is not differentiated.
pub(super) fn dot_stored(b: &mut Builder<'_>, site: &Site<'_>, stored: Stored) -> Option<ValueId> {
    if site.wanted != 0 {
        return None;
    }
    let w = b.floats(stored, &site.operands[1..]);
    let along = b.rank(site.cotangent) - 1;
    Some(b.emit(Op::Dot { batch: 0, a_axes: vec![along], b_axes: vec![1] }, &[site.cotangent, w]))
}

/// For each of the other operand's contracted axes in increasing order, the wanted operand's axis it is summed against.
fn partners(others: &[usize], mine: &[usize]) -> Vec<usize> {
    let mut pairs: Vec<(usize, usize)> = others.iter().copied().zip(mine.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(_, axis)| axis).collect()
}
