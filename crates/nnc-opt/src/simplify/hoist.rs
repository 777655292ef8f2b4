//! Elementwise work on repeated values is done once, before the repetition; and it is done before axes of size 1 are
//! put in, so that these meet the broadcast that they are meant for.

use super::matching::{broadcast, repeated, splat, without_ones};
use super::{Rule, Term};
use nnc_graph::{Graph, Op, Shape, ValueId};

/// All of them.
pub const RULES: &[Rule] = &[
    Rule { name: "f(broadcast(a), broadcast(b)) = broadcast(f(a, b))", apply: before_broadcast },
    Rule {
        name: "f(reshape(a), reshape(b)) = reshape(f(a, b)) where it puts axes of size 1 in",
        apply: before_reshape,
    },
];

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

/// Applies when every operand is a reshape of the same shape that only put axes of size 1 in, or one number.
fn before_reshape(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    if !op.is_elementwise() {
        return None;
    }
    let outer = &graph.ty(x[0]).shape;
    let source = |value: ValueId| {
        let node = graph.definition(value);
        matches!(node.op, Op::Reshape(_)).then(|| node.operands[0])
    };
    let inner = &graph.ty(x.iter().find_map(|&value| source(value))?).shape;
    if inner.rank() >= outer.rank() || without_ones(inner) != without_ones(outer) {
        return None;
    }
    let moved = |&value: &ValueId| match (source(value), splat(graph, value)) {
        (Some(source), _) if graph.ty(source).shape == *inner => Some(Term::Value(source)),
        (_, Some(scalar)) => Some(repeated(Term::Op(Op::Constant(scalar.clone()), Vec::new()), inner)),
        _ => None,
    };
    let work = Term::Op(op.clone(), x.iter().map(moved).collect::<Option<_>>()?);
    Some(Term::Op(Op::Reshape(outer.clone()), vec![work]))
}
