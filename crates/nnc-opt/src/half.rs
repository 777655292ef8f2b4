//! Floats of 16 bits are stored; what is computed of them is computed in f32.
//!
//! No kernel adds or multiplies `f16` or `bf16`. Whatever an op takes of them becomes f32 in front of it, and what it
//! gives is rounded behind it, to nearest, ties to even. A sum, difference, product, quotient or root is then what one
//! rounding of the exact result gives, since f32 has at least two digits more than twice as many as either (S.
//! Figueroa, "When is double rounding innocuous?", SIGNUM Newsletter 30, 1995). Functions such as `exp` and reductions
//! are rounded twice, as is a number of another dtype that is cast to 16 bits: it goes by way of f32.
//!
//! On entry a verified graph without `grad`; on exit only leaves, views, loops, stored matrices, ops that read one
//! element for each that they give, casts to f32, and casts to 16 bits, have values of 16 bits. Derivatives were taken
//! before: they are rounded like the rest.

use crate::rewrite::{Fuel, Rewriter, with_body};
use nnc_graph::{DType, Graph, Node, NodeId, Op, TensorType, ValueId};
use std::collections::BTreeMap;

/// Whether a graph has arithmetic on floats of 16 bits.
pub fn is_needed(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| match &node.op {
        Op::Scan(scan) => is_needed(&scan.body),
        _ => !stays(graph, node),
    })
}

/// Whether kernels do this as it is.
fn stays(graph: &Graph, node: &Node) -> bool {
    let half = |value: &ValueId| graph.ty(*value).dtype.is_half();
    let of_single = |value: &ValueId| graph.ty(*value).dtype == DType::F32;
    match &node.op {
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) | Op::DotStored(_) => true,
        Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast { .. } | Op::Slice(_) | Op::Gather { .. } => true,
        Op::Cast(DType::F32) => true,
        Op::Cast(to) if to.is_half() => node.operands.iter().all(of_single),
        _ => !node.operands.iter().chain(&node.results).any(half),
    }
}

/// The graph without arithmetic on floats of 16 bits.
pub fn widen_half(graph: &Graph) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    let mut wide = BTreeMap::new();
    for (id, node) in graph.nodes() {
        match &node.op {
            Op::Scan(scan) => _ = rewriter.copy_as(id, with_body(scan, widen_half)),
            _ if stays(graph, node) => _ = rewriter.copy(id),
            _ => in_single(&mut rewriter, id, node, &mut wide),
        }
    }
    rewriter.finish()
}

/// Puts in what stands for a node: its op in f32, between casts. `wide` knows the new values that are f32 already.
fn in_single(rewriter: &mut Rewriter<'_>, id: NodeId, node: &Node, wide: &mut BTreeMap<ValueId, ValueId>) {
    rewriter.at(id);
    let mut operands = rewriter.operands(node);
    for operand in &mut operands {
        if rewriter.ty(*operand).dtype.is_half() {
            *operand = *wide.entry(*operand).or_insert_with(|| rewriter.emit(Op::Cast(DType::F32), &[*operand]));
        }
    }
    let op = single(&node.op);
    let made = rewriter.graph_mut().add(op, &operands);
    let made = made.unwrap_or_else(|error| panic!("compiler bug: {id} in f32: {error}"));
    for (&old, value) in node.results.iter().zip(made) {
        let dtype = rewriter.old().ty(old).dtype;
        let value = if dtype.is_half() { rewriter.emit(Op::Cast(dtype), &[value]) } else { value };
        rewriter.replace(old, value);
    }
}

/// The op, giving f32 where it says itself that it gives 16 bits.
fn single(op: &Op) -> Op {
    match op {
        Op::Cast(to) if to.is_half() => Op::Cast(DType::F32),
        Op::Extent { dim, dtype } if dtype.is_half() => Op::Extent { dim: dim.clone(), dtype: DType::F32 },
        Op::Iota { ty, axis } if ty.dtype.is_half() => {
            Op::Iota { ty: TensorType::new(DType::F32, ty.shape.clone()), axis: *axis }
        }
        other => other.clone(),
    }
}
