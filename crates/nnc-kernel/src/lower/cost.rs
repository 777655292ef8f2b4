//! A rough count of the work of an op at one point, in simple arithmetic operations: it decides how much makes a task
//! and what is worth keeping, and is what reports call flops.

use nnc_graph::{BinaryOp, Graph, Node, NodeId, Op, UnaryOp};

/// Operations for one element of the result.
pub fn of(op: &Op) -> usize {
    match op {
        Op::Unary(op) => unary(*op),
        Op::Binary(BinaryOp::Pow) => 40,
        Op::Binary(BinaryOp::Div | BinaryOp::Rem) => 4,
        Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Reduce { .. } => 1,
        Op::Random { .. } => 80,
        Op::Gather { .. } | Op::DynamicSlice { .. } | Op::DynamicUpdate { .. } => 4,
        Op::Iota { .. } | Op::Pad { .. } | Op::Concat { .. } => 2,
        _ => 0,
    }
}

fn unary(op: UnaryOp) -> usize {
    match op {
        UnaryOp::Exp | UnaryOp::Log | UnaryOp::Tanh | UnaryOp::Erf => 20,
        UnaryOp::Sigmoid | UnaryOp::Sin | UnaryOp::Cos => 25,
        UnaryOp::Sqrt => 4,
        UnaryOp::Rsqrt => 8,
        UnaryOp::Sign => 3,
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Not => 1,
    }
}

/// Of several nodes on all of their elements, each as many as it has: those of a reduction's operand, its own of what
/// works on the result.
pub fn in_all(graph: &Graph, nodes: &[NodeId]) -> usize {
    let elements = |node: &Node| {
        let value = if matches!(node.op, Op::Reduce { .. }) { node.operands[0] } else { node.results[0] };
        graph.ty(value).shape.elements().size()
    };
    nodes.iter().map(|&id| of(&graph.node(id).op) * elements(graph.node(id))).sum()
}

/// Of several nodes at one point; at least 1.
pub fn of_nodes(graph: &Graph, nodes: &[NodeId]) -> usize {
    nodes.iter().map(|&node| of(&graph.node(node).op)).sum::<usize>().max(1)
}
