//! Sums of activations that are bytes: whole numbers are added, exactly, and their sum is scaled once.
//!
//! What is averaged or added up where a product reads it as well is there as bytes. A sum over axes becomes one of i32.
//! A window's sum becomes a convolution of single channels by ones, which kernels do on bytes.

use super::apply::Integers;
use crate::rewrite::Rewriter;
use nnc_graph::{
    BinaryOp, ConvAttributes, DType, Dim, Node, Op, ReduceOp, Shape, TensorType, ValueId, WindowAttributes, WindowOp,
};

/// So many bytes add up to an i32.
const MOST_TERMS: i64 = 1 << 23;
/// The most axes of a convolution, beside images and channels.
const MOST_SPATIAL: usize = 2;

/// The floats that a node sums up to, of an operand that is `x` as integers; `None` if it is no sum, or not one for
/// integers. In i32, what stands for 0 is taken off.
pub(super) fn sum(rewriter: &mut Rewriter<'_>, node: &Node, x: Integers) -> Option<ValueId> {
    let (sums, terms) = match &node.op {
        Op::Reduce { op: ReduceOp::Sum, axes } => over_axes(rewriter, x, axes)?,
        Op::Window { op: WindowOp::Sum, attributes } => over_windows(rewriter, x, attributes)?,
        _ => return None,
    };
    let excess = terms as f64 * f64::from(x.range.zero());
    let sums = match excess {
        0.0 => sums,
        _ => with_number(rewriter, BinaryOp::Sub, sums, excess),
    };
    let sums = rewriter.emit(Op::Cast(DType::F32), &[sums]);
    Some(with_number(rewriter, BinaryOp::Mul, sums, f64::from(x.range.scale)))
}

/// Sums over axes, and the terms of each.
fn over_axes(rewriter: &mut Rewriter<'_>, x: Integers, axes: &[usize]) -> Option<(ValueId, i64)> {
    let shape = &rewriter.ty(x.value).shape;
    let terms = axes.iter().map(|&axis| shape[axis].as_number()).product::<Option<i64>>()?;
    (terms <= MOST_TERMS).then(|| {
        let wide = rewriter.emit(Op::Cast(DType::I32), &[x.value]);
        (rewriter.emit(Op::Reduce { op: ReduceOp::Sum, axes: axes.to_vec() }, &[wide]), terms)
    })
}

/// Sums of windows, and the places of each, those of its border among them: these hold what stands for 0.
fn over_windows(rewriter: &mut Rewriter<'_>, x: Integers, at: &WindowAttributes) -> Option<(ValueId, i64)> {
    let terms = at.size.iter().map(Dim::as_number).product::<Option<i64>>()?;
    if terms > MOST_TERMS || at.size.len() > MOST_SPATIAL {
        return None;
    }
    let channels = rewriter.ty(x.value).shape[1].clone();
    let one = Dim::from(1i64);
    let taps = [&[channels.clone(), one.clone()], &at.size[..]].concat();
    let ones = rewriter.graph_mut().splat(&TensorType::new(DType::I8, Shape(taps)), 1.0);
    let convolution = ConvAttributes {
        stride: at.stride.clone(),
        low: at.low.clone(),
        high: at.high.clone(),
        dilation: vec![one; at.size.len()],
        groups: channels,
    };
    let (op, x) = x.bordered(rewriter, &convolution);
    Some((rewriter.emit(op, &[x, ones]), terms))
}

fn with_number(rewriter: &mut Rewriter<'_>, op: BinaryOp, x: ValueId, number: f64) -> ValueId {
    let ty = rewriter.ty(x).clone();
    let number = rewriter.graph_mut().splat(&ty, number);
    rewriter.emit(Op::Binary(op), &[x, number])
}
