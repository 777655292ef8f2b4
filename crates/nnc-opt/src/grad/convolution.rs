//! Rules of the convolution and its two transposes. The three are one trilinear form of input, weights and output,
//! so the derivative of any by an operand is another of them.

use super::builder::Builder;
use super::rules::Site;
use nnc_graph::{ConvAttributes, Dim, Op, ValueId, channels_first, channels_last};

fn spatial(b: &Builder<'_>, value: ValueId) -> Vec<Dim> {
    b.shape(value)[2..].to_vec()
}

pub(super) fn conv(b: &mut Builder<'_>, site: &Site<'_>, attributes: &ConvAttributes) -> ValueId {
    let (x, w, d) = (site.operands[0], site.operands[1], site.cotangent);
    let (attributes, sizes) = (attributes.clone(), spatial(b, site.operand()));
    if site.wanted == 0 {
        b.emit(Op::ConvInputGrad { attributes, input: sizes }, &[d, w])
    } else {
        b.emit(Op::ConvWeightGrad { attributes, kernel: sizes }, &[x, d])
    }
}

/// `(x, w) -> y`, channels last: by way of the plain form.
pub(super) fn conv_last(b: &mut Builder<'_>, site: &Site<'_>, attributes: &ConvAttributes) -> ValueId {
    let (x, w, d) = (site.operands[0], site.operands[1], site.cotangent);
    let rank = b.ty(d).shape.rank();
    let (attributes, d) = (attributes.clone(), b.emit(Op::Transpose(channels_first(rank)), &[d]));
    if site.wanted == 0 {
        let sizes = b.ty(x).shape.0[1..rank - 1].to_vec();
        let dx = b.emit(Op::ConvInputGrad { attributes, input: sizes }, &[d, w]);
        return b.emit(Op::Transpose(channels_last(rank)), &[dx]);
    }
    let sizes = spatial(b, w);
    let x = b.emit(Op::Transpose(channels_first(rank)), &[x]);
    b.emit(Op::ConvWeightGrad { attributes, kernel: sizes }, &[x, d])
}

/// `(dy, w) -> dx`; the cotangent has the type of `x`.
pub(super) fn input_grad(b: &mut Builder<'_>, site: &Site<'_>, attributes: &ConvAttributes) -> ValueId {
    let (dy, w, d) = (site.operands[0], site.operands[1], site.cotangent);
    let attributes = attributes.clone();
    if site.wanted == 0 {
        b.emit(Op::Conv(attributes), &[d, w])
    } else {
        let kernel = spatial(b, w);
        b.emit(Op::ConvWeightGrad { attributes, kernel }, &[d, dy])
    }
}

/// `(dy, w) -> dx`, channels last; the cotangent has the type of `x`.
pub(super) fn input_grad_last(b: &mut Builder<'_>, site: &Site<'_>, attributes: &ConvAttributes) -> ValueId {
    let (dy, w, d) = (site.operands[0], site.operands[1], site.cotangent);
    let attributes = attributes.clone();
    if site.wanted == 0 {
        return b.emit(Op::ConvLast(attributes), &[d, w]);
    }
    let (rank, kernel) = (b.ty(d).shape.rank(), spatial(b, w));
    let [d, dy] = [d, dy].map(|image| b.emit(Op::Transpose(channels_first(rank)), &[image]));
    b.emit(Op::ConvWeightGrad { attributes, kernel }, &[d, dy])
}

/// `(x, dy) -> dw`; the cotangent has the type of `w`.
pub(super) fn weight_grad(b: &mut Builder<'_>, site: &Site<'_>, attributes: &ConvAttributes) -> ValueId {
    let (x, dy, d) = (site.operands[0], site.operands[1], site.cotangent);
    let attributes = attributes.clone();
    if site.wanted == 0 {
        let input = spatial(b, x);
        b.emit(Op::ConvInputGrad { attributes, input }, &[dy, d])
    } else {
        b.emit(Op::Conv(attributes), &[x, d])
    }
}
