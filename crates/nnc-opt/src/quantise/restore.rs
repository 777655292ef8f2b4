//! The way back from integers to parameters, so that a network that was quantised is trained further.
//!
//! What integers stand for is what a product multiplies by, and that need not be the parameter itself: it may be
//! turned, and what normalisation multiplies with is folded in. Moves are undone by moves, a factor by a division, from
//! the product back to the parameter. Where a factor is 0 the parameter could be anything, and becomes 0.

use super::apply::without_unread;
use super::sites::{Site, sites};
use super::{Layer, scales_path, weights_path};
use crate::dce::eliminate_dead_code;
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{BinaryOp, CompareOp, DType, Graph, Op, Shape, TensorType, ValueId};
use std::collections::BTreeSet;

/// A graph whose results are the parameters, by path, that the integers of some layers stand for: of what those are
/// computed from, and of what else was folded into them. `graph` is the one that the layers were found in, of floats.
///
/// # Errors
/// The first parameter whose way to its product cannot be gone back.
pub fn restored(graph: &Graph, layers: &[&Layer]) -> Result<Graph, String> {
    let sites = sites(graph);
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    graph.nodes().for_each(|(id, _)| drop(rewriter.copy(id)));
    let (mut results, mut done) = (Vec::new(), BTreeSet::new());
    for layer in layers {
        let Some(site) = sites.iter().find(|site| site.name == layer.name) else { continue };
        if done.insert(site.layer().to_owned()) {
            let value = parameter(&mut rewriter, site).ok_or_else(|| site.layer().to_owned())?;
            results.push((site.layer().to_owned(), value));
        }
    }
    let graph = rewriter.finish_on(&results);
    Ok(without_unread(&eliminate_dead_code(&graph, &mut Fuel::new(None))))
}

/// The parameter that the weights of a product follow from; nothing if there is an op between them that cannot be
/// undone.
fn parameter(rewriter: &mut Rewriter<'_>, site: &Site) -> Option<ValueId> {
    let graph = rewriter.old();
    let follows = followers(graph, site.layer());
    let (mut old, mut new) = (site.weights, integers(rewriter, site));
    loop {
        let node = graph.definition(old);
        let first = *node.operands.first().unwrap_or(&old);
        (old, new) = match &node.op {
            Op::Param { path, .. } if path == site.layer() => return Some(new),
            Op::StopGradient => (first, new),
            Op::Transpose(order) => {
                let back = (0..order.len()).filter_map(|axis| order.iter().position(|&from| from == axis)).collect();
                (first, rewriter.emit(Op::Transpose(back), &[new]))
            }
            Op::Reshape(_) => (first, rewriter.emit(Op::Reshape(graph.ty(first).shape.clone()), &[new])),
            Op::Binary(op @ (BinaryOp::Mul | BinaryOp::Div)) => {
                let [a, b] = [node.operands[0], node.operands[1]];
                match (op, [a, b].map(|operand| follows[operand.index()])) {
                    (BinaryOp::Div, [true, false]) => {
                        let factor = rewriter.value(b);
                        (a, rewriter.emit(Op::Binary(BinaryOp::Mul), &[new, factor]))
                    }
                    (BinaryOp::Mul, [true, false]) => (a, divided(rewriter, new, b)),
                    (BinaryOp::Mul, [false, true]) => (b, divided(rewriter, new, a)),
                    _ => return None,
                }
            }
            _ => return None,
        };
    }
}

/// What the integers of a product's weights stand for.
fn integers(rewriter: &mut Rewriter<'_>, site: &Site) -> ValueId {
    let shape = rewriter.old().ty(site.weights).shape.clone();
    let scales = TensorType::new(DType::F32, Shape(vec![shape[site.channel_axis].clone()]));
    let weights = TensorType::new(DType::I8, shape.clone());
    let weights = rewriter.emit(Op::Param { path: weights_path(&site.name), ty: weights }, &[]);
    let scales = rewriter.emit(Op::Param { path: scales_path(&site.name), ty: scales }, &[]);
    let numbers = rewriter.emit(Op::Cast(DType::F32), &[weights]);
    let scales = rewriter.emit(Op::Broadcast { shape, axes: vec![site.channel_axis] }, &[scales]);
    rewriter.emit(Op::Binary(BinaryOp::Mul), &[numbers, scales])
}

/// A product without one of its factors, an old value; 0 where that is 0.
fn divided(rewriter: &mut Rewriter<'_>, product: ValueId, factor: ValueId) -> ValueId {
    let factor = rewriter.value(factor);
    let ty = rewriter.ty(factor).clone();
    let [zeros, ones] = [0.0, 1.0].map(|number| rewriter.graph_mut().splat(&ty, number));
    let is_zero = rewriter.emit(Op::Compare(CompareOp::Eq), &[factor, zeros]);
    let divisor = rewriter.emit(Op::Select, &[is_zero, ones, factor]);
    let quotient = rewriter.emit(Op::Binary(BinaryOp::Div), &[product, divisor]);
    rewriter.emit(Op::Select, &[is_zero, zeros, quotient])
}

/// For each value whether it follows from a parameter.
fn followers(graph: &Graph, parameter: &str) -> Vec<bool> {
    let mut follows = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let is_it = matches!(&node.op, Op::Param { path, .. } if path == parameter);
        let does = is_it || node.operands.iter().any(|operand| follows[operand.index()]);
        node.results.iter().for_each(|result| follows[result.index()] = does);
    }
    follows
}
