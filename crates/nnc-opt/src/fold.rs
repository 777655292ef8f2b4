//! Constant folding: a small node whose operands are all constants is computed by the reference interpreter.
//!
//! Only results of at most 4096 elements are folded, so that a graph does not grow by tables; a repeated scalar
//! stays a broadcast, and a constant that holds one number everywhere becomes one. The interpreter defines what an op
//! means, so this is exact. A node that would fail, as by an index out of range, is left for the run.

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Graph, Node, Op, Shape, Tensor, ValueId, interpret};
use std::collections::BTreeMap;

/// Elements of a result that is still folded, and of the operands it may be folded from.
const LARGEST: usize = 4096;

/// The graph with constants computed.
pub fn fold_constants(graph: &Graph, fuel: &mut Fuel) -> Graph {
    let mut rewriter = Rewriter::new(graph, fuel);
    for (id, node) in graph.nodes() {
        let operands = rewriter.operands(node);
        match folded(&rewriter, node, &operands) {
            Some(tensor) if rewriter.spend() => {
                rewriter.at(id);
                let value = emit_constant(&mut rewriter, tensor);
                rewriter.replace(node.results[0], value);
            }
            Some(_) | None => {
                rewriter.copy(id);
            }
        }
    }
    rewriter.finish()
}

/// One number everywhere as a repeated scalar, anything else as it is.
fn emit_constant(rewriter: &mut Rewriter<'_>, tensor: Tensor) -> ValueId {
    match single_number(&tensor) {
        Some(scalar) => {
            let scalar = rewriter.emit(Op::Constant(scalar), &[]);
            let shape = Shape::of(tensor.dims());
            rewriter.graph_mut().broadcast_scalar(scalar, &shape)
        }
        None => rewriter.emit(Op::Constant(tensor), &[]),
    }
}

/// The scalar that a tensor with axes repeats, if it does.
fn single_number(tensor: &Tensor) -> Option<Tensor> {
    let size = tensor.dtype().size();
    let first = tensor.bytes().get(..size)?;
    let repeated = !tensor.dims().is_empty() && tensor.bytes().chunks_exact(size).all(|element| element == first);
    if repeated { Tensor::from_bytes(tensor.dtype(), &[], first.to_vec()) } else { None }
}

fn folded(rewriter: &Rewriter<'_>, node: &Node, operands: &[ValueId]) -> Option<Tensor> {
    match &node.op {
        Op::Constant(tensor) => single_number(tensor).map(|_| tensor.clone()),
        Op::Extent { dim, dtype } => dim.as_number().map(|number| extent(*dtype, number)),
        // What is cheaper to make than to keep stays as it is.
        Op::Broadcast { .. } | Op::Iota { .. } | Op::Grad | Op::Scan(_) => None,
        op if operands.is_empty() || op.is_leaf() => None,
        op => compute(rewriter, op, operands),
    }
}

fn extent(dtype: nnc_graph::DType, number: i64) -> Tensor {
    if dtype == nnc_graph::DType::I64 { Tensor::scalar_i64(number) } else { Tensor::scalar(dtype, number as f64) }
}

/// The result of an op on constants.
fn compute(rewriter: &Rewriter<'_>, op: &Op, operands: &[ValueId]) -> Option<Tensor> {
    let mut graph = Graph::new("fold");
    let mut values = Vec::with_capacity(operands.len());
    for &operand in operands {
        let (Op::Constant(tensor), _) = rewriter.definition(operand) else { return None };
        if tensor.elements() > LARGEST {
            return None;
        }
        values.push(graph.emit(Op::Constant(tensor.clone()), &[]));
    }
    let result = graph.emit(op.clone(), &values);
    let elements = graph.ty(result).shape.elements().as_number()?;
    if elements > LARGEST as i64 {
        return None;
    }
    interpret::run(&graph, &BTreeMap::new()).ok().map(|run| run.value(result).clone())
}
