//! Products by a parameter, perhaps turned.

use nnc_graph::{DType, Graph, Node, Op, ValueId};

/// A product of floats by a parameter.
pub struct Product {
    /// The place of the parameter among the operands.
    pub at: usize,
    /// The axis of it that is summed over.
    pub weights_axis: usize,
    /// That of the floats.
    pub x_axis: usize,
}

impl Product {
    /// The product that a node is, when operands that are parameters, perhaps turned, are known.
    pub fn of(graph: &Graph, node: &Node, is_parameter: impl Fn(ValueId) -> bool) -> Option<Self> {
        let Op::Dot { batch: 0, a_axes, b_axes } = &node.op else { return None };
        let ([a_axis], [b_axis]) = (&a_axes[..], &b_axes[..]) else { return None };
        let at = match [is_parameter(node.operands[0]), is_parameter(node.operands[1])] {
            [false, true] => 1,
            [true, false] => 0,
            [true, true] | [false, false] => return None,
        };
        if graph.ty(node.operands[1 - at]).dtype != DType::F32 {
            return None;
        }
        let (weights_axis, x_axis) = if at == 1 { (*b_axis, *a_axis) } else { (*a_axis, *b_axis) };
        Some(Self { at, weights_axis, x_axis })
    }
}
