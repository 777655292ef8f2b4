//! Rules of pooling windows. The place of a maximum has derivative 0, so by the values alone each is linear.

use super::builder::Builder;
use super::rules::Site;
use nnc_graph::{Op, ValueId, WindowAttributes, WindowOp};

pub(super) fn window(b: &mut Builder<'_>, site: &Site<'_>, op: WindowOp, attributes: &WindowAttributes) -> ValueId {
    let x = site.operand();
    let input = b.shape(x)[2..].to_vec();
    let grad = Op::WindowGrad { op, attributes: attributes.clone(), input };
    match op {
        WindowOp::Max => b.emit(grad, &[x, site.cotangent]),
        WindowOp::Sum => b.emit(grad, &[site.cotangent]),
    }
}

pub(super) fn window_grad(
    b: &mut Builder<'_>,
    site: &Site<'_>,
    op: WindowOp,
    attributes: &WindowAttributes,
) -> Option<ValueId> {
    let attributes = attributes.clone();
    match (op, site.wanted) {
        (WindowOp::Sum, _) => Some(b.emit(Op::Window { op, attributes }, &[site.cotangent])),
        (WindowOp::Max, 0) => None,
        (WindowOp::Max, _) => Some(b.emit(Op::WindowPick(attributes), &[site.operands[0], site.cotangent])),
    }
}

pub(super) fn window_pick(b: &mut Builder<'_>, site: &Site<'_>, attributes: &WindowAttributes) -> Option<ValueId> {
    if site.wanted == 0 {
        return None;
    }
    let (x, attributes) = (site.operands[0], attributes.clone());
    let input = b.shape(x)[2..].to_vec();
    Some(b.emit(Op::WindowGrad { op: WindowOp::Max, attributes, input }, &[x, site.cotangent]))
}
