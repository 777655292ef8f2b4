//! Rules of the convolution and its two transposes. The three are one trilinear form of input, weights and output,
//! so the derivative of any by an operand is another of them.

use super::builder::Builder;
use super::rules::Site;
use nnc_graph::{ConvAttributes, Dim, Op, ValueId};

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
