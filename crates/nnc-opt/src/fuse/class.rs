//! What each op is to fusion: one table.

use nnc_graph::Op;

/// The role an op may play in a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// Stands for something outside, or data: no kernel.
    Leaf,
    /// Another layout of its operand.
    View,
    /// Each element from the same element of the operands.
    Pointwise,
    /// Each element by itself, but from other places of some operands ([`is_point_operand`] tells which).
    Indexed,
    /// A reduction over axes.
    Reduce,
    /// Has a kernel of its own.
    Anchor,
    /// Runs a graph of its own again and again.
    Loop,
}

/// The class of an op.
pub fn class(op: &Op) -> Class {
    match op {
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) | Op::Extent { .. } => Class::Leaf,
        Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast { .. } | Op::Slice(_) => Class::View,
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::StopGradient => Class::Pointwise,
        Op::Iota { .. } | Op::Random { .. } | Op::Pad { .. } | Op::Concat { .. } => Class::Indexed,
        Op::DynamicSlice { .. } | Op::DynamicUpdate { .. } | Op::Gather { .. } => Class::Indexed,
        Op::Reduce { .. } => Class::Reduce,
        Op::ScatterAdd { .. } | Op::ArgMax { .. } | Op::Dot { .. } | Op::Conv(_) => Class::Anchor,
        Op::ConvLast(_) | Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. } => Class::Anchor,
        Op::ConvWeightGrad { .. } | Op::Window { .. } => Class::Anchor,
        Op::DotStored(_) | Op::WindowGrad { .. } | Op::WindowPick(_) | Op::Grad => Class::Anchor,
        Op::Scan(_) => Class::Loop,
    }
}

/// Whether the op reads its operands at the point that it computes, so that they may be members of its group.
pub fn is_point_operand(op: &Op) -> bool {
    class(op) == Class::Pointwise
}
