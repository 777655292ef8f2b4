//! Nodes with a kernel of their own: which file lowers which, and what their operands have in common.

use super::matmul::dot;
use super::memory::{Place, Source, elem};
use super::stored;
use super::{LowerError, Lowering, argmax, conv, scatter, window};
use nnc_graph::{Op, ValueId};
use nnc_opt::fuse::{Group, Layout};

/// Lowers an anchor group.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<(), LowerError> {
    let Some(anchor) = group.anchor else { return Err(LowerError::bug("an anchor group without an anchor")) };
    match &lowering.graph.node(anchor).op {
        Op::Dot { .. } => dot::lower(lowering, group, anchor),
        Op::DotStored(stored) => stored::lower(lowering, group, anchor, *stored),
        Op::ArgMax { axis } => argmax::lower(lowering, group, anchor, *axis),
        Op::ScatterAdd { batch, .. } => scatter::lower(lowering, group, anchor, *batch),
        Op::Window { op, attributes } => window::lower(lowering, group, anchor, window::Kind::Whole(*op), attributes),
        Op::WindowPick(attributes) => window::lower(lowering, group, anchor, window::Kind::Pick, attributes),
        Op::WindowGrad { op, attributes, .. } => window::grad::lower(lowering, group, anchor, *op, attributes),
        Op::Conv(attributes) => conv::lower(lowering, group, anchor, attributes),
        Op::ConvLast(attributes) => conv::last::lower(lowering, group, anchor, attributes),
        Op::ConvInputGrad { attributes, .. } => conv::lower_input_grad(lowering, group, anchor, attributes),
        Op::ConvInputGradLast { attributes, .. } => conv::last::lower_input_grad(lowering, group, anchor, attributes),
        Op::ConvWeightGrad { attributes, .. } => conv::weight::lower(lowering, group, anchor, attributes),
        op => Err(LowerError::Unsupported(format!("{} in kernels", op.name()))),
    }
}

/// An operand in memory under the given dims; copied if it is uniform or strides cannot say it.
pub fn stored(lowering: &mut Lowering<'_>, value: ValueId, dims: &[usize]) -> Result<Place, LowerError> {
    let source = lowering.source(value)?;
    let elem = elem(lowering.graph.ty(value).dtype);
    if let Source::Stored(place) = &source
        && let Some(layout) = place.layout.reshape(dims)
    {
        return Ok(Place { layout, ..place.clone() });
    }
    let sizes = lowering.graph.ty(value).shape.sizes();
    let buffer = lowering.copied(value, source, &sizes)?;
    Ok(Place { buffer, elem, layout: Layout::contiguous(dims) })
}
