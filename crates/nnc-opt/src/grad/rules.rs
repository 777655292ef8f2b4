//! The table of vector-Jacobian products: one line for each op.

use super::builder::Builder;
use super::{contraction, convolution, elementwise, indexing, reduction, shape, window};
use nnc_graph::{Op, ValueId};

/// One use of a rule: a node, the cotangent of its result, and the operand whose share of it is wanted.
pub struct Site<'a> {
    /// The node's op.
    pub op: &'a Op,
    /// Its operands.
    pub operands: &'a [ValueId],
    /// Its result, which a rule may use instead of computing it again.
    pub result: ValueId,
    /// The derivative of the loss by the result; of the result's type.
    pub cotangent: ValueId,
    /// The position of the operand.
    pub wanted: usize,
}

impl Site<'_> {
    /// The operand whose cotangent is wanted.
    pub fn operand(&self) -> ValueId {
        self.operands[self.wanted]
    }
}

/// The cotangent of the wanted operand, of its type; `None` is 0. Only float operands are asked for.
pub fn vjp(b: &mut Builder<'_>, site: &Site<'_>) -> Option<ValueId> {
    match site.op {
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) => None,
        Op::Extent { .. } | Op::Iota { .. } | Op::Random { .. } => None,
        Op::Compare(_) | Op::ArgMax { .. } | Op::StopGradient => None,
        Op::Unary(op) => elementwise::unary(b, site, *op),
        Op::Binary(op) => elementwise::binary(b, site, *op),
        Op::Select => elementwise::select(b, site),
        Op::Cast(_) => elementwise::cast(b, site),
        Op::Reshape(_) => Some(shape::reshape(b, site)),
        Op::Transpose(permutation) => Some(shape::transpose(b, site, permutation)),
        Op::Broadcast { axes, .. } => Some(shape::broadcast(b, site, axes)),
        Op::Slice(ranges) => Some(shape::slice(b, site, ranges)),
        Op::Pad { low, high } => Some(shape::pad(b, site, low, high)),
        Op::Concat { axis } => Some(shape::concat(b, site, *axis)),
        Op::DynamicSlice { axis, .. } => indexing::dynamic_slice(b, site, *axis),
        Op::DynamicUpdate { axes } => indexing::dynamic_update(b, site, axes),
        Op::Gather { axis, batch } => indexing::gather(b, site, *axis, *batch),
        Op::ScatterAdd { axis, batch } => indexing::scatter_add(b, site, *axis, *batch),
        Op::Reduce { op, axes } => reduction::reduce(b, site, *op, axes),
        Op::Dot { batch, a_axes, b_axes } => Some(contraction::dot(b, site, *batch, a_axes, b_axes)),
        Op::DotStored(stored) => contraction::dot_stored(b, site, *stored),
        Op::Conv(attributes) => Some(convolution::conv(b, site, attributes)),
        Op::ConvLast(attributes) => Some(convolution::conv_last(b, site, attributes)),
        Op::ConvInputGrad { attributes, .. } => Some(convolution::input_grad(b, site, attributes)),
        Op::ConvInputGradLast { attributes, .. } => Some(convolution::input_grad_last(b, site, attributes)),
        Op::ConvWeightGrad { attributes, .. } => Some(convolution::weight_grad(b, site, attributes)),
        Op::Window { op, attributes } => Some(window::window(b, site, *op, attributes)),
        Op::WindowGrad { op, attributes, .. } => window::window_grad(b, site, *op, attributes),
        Op::WindowPick(attributes) => window::window_pick(b, site, attributes),
        Op::Scan(_) => unreachable!("compiler bug: a loop has a rule of its own"),
        Op::Grad => unreachable!("compiler bug: an inner `grad` is expanded before an outer one"),
    }
}
