//! Elementwise work on repeated values is done once, before the repetition.

use super::matching::{broadcast, repeated, splat};
use super::{Rule, Term};
use nnc_graph::{Graph, Op, Shape, ValueId};

/// All of them.
pub const RULES: &[Rule] =
    &[Rule { name: "f(broadcast(a), broadcast(b)) = broadcast(f(a, b))", apply: before_broadcast }];

/// Applies when every operand is a broadcast of the same shape along the same axes, or of a scalar constant.
fn before_broadcast(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    if !op.is_elementwise() {
        return None;
    }
    let sources: Vec<(ValueId, &Shape, &[usize])> =
        x.iter().map(|&value| broadcast(graph, value)).collect::<Option<_>>()?;
    // Along which axes the largest of the sources lies; the others lie along the same or are one number.
    let &(widest, shape, axes) = sources.iter().max_by_key(|(source, ..)| graph.ty(*source).shape.rank())?;
    let inner = &graph.ty(widest).shape;
    if inner == shape {
        return None;
    }
    let mut operands = Vec::with_capacity(x.len());
    for (&value, &(source, _, its_axes)) in x.iter().zip(&sources) {
        if its_axes == axes && graph.ty(source).shape == *inner {
            operands.push(Term::Value(source));
        } else {
            let scalar = splat(graph, value)?;
            operands.push(repeated(Term::Op(Op::Constant(scalar.clone()), Vec::new()), inner));
        }
    }
    let work = Term::Op(op.clone(), operands);
    Some(Term::Op(Op::Broadcast { shape: shape.clone(), axes: axes.to_vec() }, vec![work]))
}
