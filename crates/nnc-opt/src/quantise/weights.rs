//! Weights in whole numbers, as part of a graph: one symmetric scale for each output channel.

use super::WEIGHT_LEVELS;
use nnc_graph::{BinaryOp, CompareOp, Graph, Op, ReduceOp, UnaryOp, ValueId};

/// What weights become. A channel of zeros has scale 0 and numbers 0.
pub(super) struct RoundedWeights {
    /// From -64 to 64, in the dtype and shape of the weights.
    pub numbers: ValueId,
    /// Those of a channel times this are the weights, nearly; one for each channel.
    pub scales: ValueId,
}

/// Appends the nearest whole numbers of `weights`, ties to even, whose output channels lie along an axis.
pub(super) fn rounded_weights(graph: &mut Graph, weights: ValueId, channel_axis: usize) -> RoundedWeights {
    let ty = graph.ty(weights).clone();
    let others = (0..ty.shape.rank()).filter(|&axis| axis != channel_axis).collect();
    let magnitudes = graph.emit(Op::Unary(UnaryOp::Abs), &[weights]);
    let largest = graph.emit(Op::Reduce { op: ReduceOp::Max, axes: others }, &[magnitudes]);
    let channels = graph.ty(largest).clone();
    // A power of two: nothing is rounded here.
    let step = graph.splat(&channels, 1.0 / f64::from(WEIGHT_LEVELS));
    let scales = graph.emit(Op::Binary(BinaryOp::Mul), &[largest, step]);
    let [zeros, ones] = [0.0, 1.0].map(|number| graph.splat(&channels, number));
    let is_something = graph.emit(Op::Compare(CompareOp::Gt), &[scales, zeros]);
    let divisors = graph.emit(Op::Select, &[is_something, scales, ones]);
    let divisors = graph.emit(Op::Broadcast { shape: ty.shape, axes: vec![channel_axis] }, &[divisors]);
    let quotients = graph.emit(Op::Binary(BinaryOp::Div), &[weights, divisors]);
    let numbers = graph.emit(Op::Unary(UnaryOp::Round), &[quotients]);
    RoundedWeights { numbers, scales }
}
