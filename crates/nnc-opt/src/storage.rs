//! Floats of 16 bits, f16 and bf16, are stored and moved as they are, and computed with in f32.
//!
//! ```text
//! y = op(a, b) : f16   ->   y = cast_f16(op(cast_f32(a), cast_f32(b)))
//! ```
//!
//! Each node rounds once, from f32; a sum is rounded after its last term. For `+`, `-`, `*`, `/` and the square root that is
//! what rounding the exact result gives (S. Figueroa, "When is double rounding innocuous?", SIGNUM 1995): f32 has more than
//! twice the bits of either. A conversion from or to another dtype than f32 goes by way of it.
//!
//! On entry a verified graph without `grad`; on exit values of these dtypes are leaves, constants, what loops carry, results of
//! views and of rows that are picked by number, and of casts from f32; only those read them, casts to f32, and products by
//! stored matrices. It must happen, so it takes no fuel. Cost: linear in the number of nodes.

use crate::rewrite::{Fuel, Rewriter, with_body};
use nnc_graph::{DType, Graph, Node, NodeId, Op, TensorType, ValueId};

/// Whether a dtype is for storage alone.
fn is_stored(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::Bf16)
}

/// The graph that computes in f32 what it has of floats of 16 bits; nothing where it has none.
pub fn compute_in_f32(graph: &Graph) -> Option<Graph> {
    computes_in_16_bits(graph).then(|| rewritten(graph))
}

fn computes_in_16_bits(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| match &node.op {
        Op::Scan(scan) => computes_in_16_bits(&scan.body),
        _ => is_computed(graph, node),
    })
}

/// Whether a node does more with such floats than storage allows.
fn is_computed(graph: &Graph, node: &Node) -> bool {
    let stored = |value: &ValueId| is_stored(graph.ty(*value).dtype);
    match &node.op {
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) | Op::DotStored(_) | Op::Scan(_) => {
            false
        }
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Gather { .. } => false,
        Op::Cast(to) => {
            let from = graph.ty(node.operands[0]).dtype;
            is_stored(from) && *to != DType::F32 || is_stored(*to) && from != DType::F32
        }
        _ => node.operands.iter().chain(&node.results).any(stored),
    }
}

fn rewritten(graph: &Graph) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        match &node.op {
            Op::Scan(scan) => drop(rewriter.copy_as(id, with_body(scan, rewritten))),
            _ if is_computed(graph, node) => compute(&mut rewriter, id, node),
            _ => drop(rewriter.copy(id)),
        }
    }
    rewriter.finish()
}

/// Emits a node on f32, with conversions around it.
fn compute(rewriter: &mut Rewriter<'_>, id: NodeId, node: &Node) {
    rewriter.at(id);
    let mut operands = rewriter.operands(node);
    for operand in &mut operands {
        if is_stored(rewriter.ty(*operand).dtype) {
            *operand = rewriter.emit(Op::Cast(DType::F32), &[*operand]);
        }
    }
    let results = match in_f32(&node.op) {
        // The conversions of its operand and its result are all that it does.
        Op::Cast(DType::F32) if rewriter.ty(operands[0]).dtype == DType::F32 => operands,
        op => rewriter.graph_mut().emit_all(op, &operands),
    };
    for (&old, &new) in node.results.iter().zip(&results) {
        let dtype = rewriter.old().ty(old).dtype;
        let new = if is_stored(dtype) { rewriter.emit(Op::Cast(dtype), &[new]) } else { new };
        rewriter.replace(old, new);
    }
}

/// The op with f32 in place of the dtypes that it names.
fn in_f32(op: &Op) -> Op {
    match op {
        Op::Extent { dim, dtype } if is_stored(*dtype) => Op::Extent { dim: dim.clone(), dtype: DType::F32 },
        Op::Iota { ty, axis } if is_stored(ty.dtype) => {
            Op::Iota { ty: TensorType::new(DType::F32, ty.shape.clone()), axis: *axis }
        }
        Op::Cast(to) if is_stored(*to) => Op::Cast(DType::F32),
        other => other.clone(),
    }
}
