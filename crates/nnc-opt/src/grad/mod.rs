//! Gradients: expansion of [`Op::Grad`] by reverse mode on the graph itself.
//!
//! The algorithm is reverse accumulation (Griewank and Walther, "Evaluating Derivatives", 2nd ed., ch. 3): from the
//! loss backwards each node hands the cotangent of its result on to its operands by its vector-Jacobian product, and a
//! value that is used several times adds up what it gets ([`shares`]). The products are a table, [`rules`], one rule an
//! op, grouped by operator in the files beside it; a rule emits plain ops, so the result can be differentiated again: an
//! inner `grad` comes before an outer one in program order and is plain when that one is reached.
//!
//! Only nodes on a path from what is differentiated by to the loss take part. Comparisons, `argmax`, integers, `sign`,
//! `floor`, `ceil` and `round`, and whatever stands behind `stop_gradient` have derivative 0, as states have unless one
//! is named itself. A loss that does not depend on a value has the derivative 0 by it.
//!
//! Conventions where a derivative does not exist, which are PyTorch's:
//! - `abs` at 0: 0. `sqrt` at 0: infinite (and NaN times a cotangent of 0).
//! - `max(a, b)` and `min(a, b)` at `a == b`: half to each; but 0 where `b` is a constant, which is then a bound, so
//!   that `relu(x) = max(x, 0)` has the derivative 0 at 0. Reductions by `max` and `min`: equal shares to all extremes.
//! - `pow(a, b)`: by `a` is 0 where `b` is 0; by `b` is 0 where `a` is 0 and `b` is not negative.
//! - `rem(a, b)`: 1 by `a`, `-floor(a / b)` by `b`. A maximum window: all to the first maximum.
//!
//! On exit there is neither `Grad` nor `StopGradient` left. A node of the derivative has the origin of the node it is
//! the derivative of. Cost: linear in the nodes before each `grad`, and so exponential in how deep they are nested:
//! [`outgrows`] tells beforehand.

mod builder;
mod contraction;
mod convolution;
mod elementwise;
mod indexing;
mod readable;
mod reduction;
pub mod rules;
mod scan;
mod shape;
mod shares;
mod window;

use crate::rewrite::{Fuel, Rewriter, with_body};
use builder::Builder;
use nnc_graph::{Graph, NodeId, Op, Origin, ValueId};
pub use readable::{ReadableError, readable};
use rules::Site;
use shares::Shares;
use std::collections::BTreeMap;

/// Whether a graph has a `grad` or a `stop_gradient`.
pub fn is_needed(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| match &node.op {
        Op::Scan(scan) => is_needed(&scan.body),
        op => matches!(op, Op::Grad | Op::StopGradient),
    })
}

/// The graph with every `grad` expanded and every `stop_gradient` gone. It must happen, so it takes no fuel.
pub fn expand(graph: &Graph) -> Graph {
    match expand_grads(graph, usize::MAX) {
        Ok(plain) => remove_stops(&scan::share(&plain)),
        Err(TooLarge(_)) => unreachable!("compiler bug: a graph with more nodes than there are numbers"),
    }
}

/// The first `grad` whose expansion would leave a graph, or the body of a loop in it, with more than `most` nodes: the
/// outer [`Option`]; the inner one is where it comes from.
pub fn outgrows(graph: &Graph, most: usize) -> Option<Option<Origin>> {
    // A derivative has at most about ten times the nodes of what it is taken of.
    let (mut nodes, mut grads) = (0, 0);
    count(graph, &mut nodes, &mut grads);
    if nodes.saturating_mul(10usize.saturating_pow(grads)) <= most {
        return None;
    }
    expand_grads(graph, most).err().map(|TooLarge(origin)| origin)
}

fn count(graph: &Graph, nodes: &mut usize, grads: &mut u32) {
    for (_, node) in graph.nodes() {
        *nodes += 1;
        *grads += u32::from(node.op == Op::Grad);
        if let Op::Scan(scan) = &node.op {
            count(&scan.body, nodes, grads);
        }
    }
}

/// What becomes too large by a `grad`, which comes from there.
struct TooLarge(Option<Origin>);

fn expand_grads(graph: &Graph, most: usize) -> Result<Graph, TooLarge> {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        if let Op::Scan(scan) = &node.op {
            let body = expand_grads(&scan.body, most)?;
            rewriter.copy_as(id, with_body(scan, |_| body));
            continue;
        }
        if node.op != Op::Grad {
            rewriter.copy(id);
            continue;
        }
        let operands = rewriter.operands(node);
        rewriter.at(id);
        let before = rewriter.graph().node_count();
        let gradients = gradients_within(rewriter.graph_mut(), operands[0], &operands[1..], most);
        if is_larger(rewriter.graph(), before, most) {
            return Err(TooLarge(graph.origin_of(node).cloned()));
        }
        node.results.iter().zip(gradients).for_each(|(&old, new)| rewriter.replace(old, new));
    }
    Ok(rewriter.finish())
}

/// Whether a graph has more than `most` nodes, or the body of a loop among those from `first` on.
fn is_larger(graph: &Graph, first: usize, most: usize) -> bool {
    let has_large_body = |at: usize| match &graph.node(NodeId(at as u32)).op {
        Op::Scan(scan) => scan.body.node_count() > most,
        _ => false,
    };
    graph.node_count() > most || (first..graph.node_count()).any(has_large_body)
}

fn remove_stops(graph: &Graph) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        if node.op == Op::StopGradient {
            let value = rewriter.value(node.operands[0]);
            rewriter.replace(node.results[0], value);
        } else if let Op::Scan(scan) = &node.op {
            rewriter.copy_as(id, with_body(scan, remove_stops));
        } else {
            rewriter.copy(id);
        }
    }
    rewriter.finish()
}

/// Appends to a graph without `Grad` the derivative of the scalar `loss` by each value of `wrt`, and gives them.
pub fn gradients(graph: &mut Graph, loss: ValueId, wrt: &[ValueId]) -> Vec<ValueId> {
    gradients_within(graph, loss, wrt, usize::MAX)
}

/// As [`gradients`], but given up where the graph has more than `most` nodes: what it gives is then of no use.
fn gradients_within(graph: &mut Graph, loss: ValueId, wrt: &[ValueId], most: usize) -> Vec<ValueId> {
    let dtype = graph.ty(loss).dtype;
    let one = graph.scalar(dtype, 1.0);
    let cotangents = pull_back(graph, &[(loss, one)], wrt, most);
    let zero = |graph: &mut Graph, value: ValueId| {
        let ty = graph.ty(value).clone();
        graph.splat(&ty, 0.0)
    };
    wrt.iter().zip(cotangents).map(|(&value, found)| found.unwrap_or_else(|| zero(graph, value))).collect()
}

/// Appends what the cotangents of some values, given as `(value, cotangent)`, make of each value of `wrt`; `None` is 0.
/// Given up as [`gradients_within`] says.
fn pull_back(graph: &mut Graph, seeds: &[(ValueId, ValueId)], wrt: &[ValueId], most: usize) -> Vec<Option<ValueId>> {
    let depends = dependent_values(graph, wrt);
    let (mut shares, mut cotangents) = (Shares::default(), BTreeMap::new());
    for &(value, cotangent) in seeds.iter().filter(|(value, _)| depends[value.index()]) {
        shares.add(graph, value, cotangent);
    }
    let last = shares.last(graph).map_or(0, |node| node.0);
    let here = graph.set_origin(None);
    // Everything a value depends on was appended before it.
    for at in (0..=last).rev() {
        let before = graph.node_count();
        take(graph, NodeId(at), &mut shares, &mut cotangents);
        propagate(graph, NodeId(at), &depends, (&cotangents, &mut shares));
        if is_larger(graph, before, most) {
            break;
        }
    }
    graph.set_origin(here);
    name_cotangents(graph, &cotangents);
    wrt.iter().map(|value| cotangents.get(value).copied()).collect()
}

/// Takes the cotangents of a node's results, which all that use them have had a share in.
fn take(graph: &mut Graph, id: NodeId, shares: &mut Shares, cotangents: &mut BTreeMap<ValueId, ValueId>) {
    graph.set_origin(graph.node(id).origin);
    for result in graph.node(id).results.clone() {
        let cotangent = shares.take(graph, result);
        cotangents.extend(cotangent.map(|cotangent| (result, cotangent)));
    }
}

/// Calls the cotangent of a value with a name `d_` and that name. One cotangent may belong to several values, as to
/// both terms of a sum and the sum itself: the last of them gives the name.
fn name_cotangents(graph: &mut Graph, cotangents: &BTreeMap<ValueId, ValueId>) {
    for (&value, &cotangent) in cotangents.iter().rev() {
        let name =
            graph.value(value).name.clone().or_else(|| graph.definition(value).op.leaf_name().map(str::to_owned));
        if let Some(name) = name
            && graph.value(cotangent).name.is_none()
        {
            graph.set_name(cotangent, &format!("d_{name}"));
        }
    }
}

/// For each value, whether a derivative by one of `wrt` can flow through it.
fn dependent_values(graph: &Graph, wrt: &[ValueId]) -> Vec<bool> {
    let mut depends = vec![false; graph.value_count()];
    wrt.iter().for_each(|value| depends[value.index()] = true);
    for (_, node) in graph.nodes() {
        let flows = node.op != Op::StopGradient && node.operands.iter().any(|operand| depends[operand.index()]);
        for &result in &node.results {
            depends[result.index()] |= flows && graph.ty(result).dtype.is_float();
        }
    }
    depends
}

/// Hands the cotangent of a node's result on to those operands that matter.
fn propagate(
    graph: &mut Graph,
    id: NodeId,
    depends: &[bool],
    (cotangents, shares): (&BTreeMap<ValueId, ValueId>, &mut Shares),
) {
    if let Op::Scan(_) = &graph.node(id).op {
        return propagate_scan(graph, id, depends, (cotangents, shares));
    }
    // Every op but `grad`, which is gone, and `scan` has one result.
    let result = graph.node(id).results[0];
    let Some(&cotangent) = cotangents.get(&result) else { return };
    let node = graph.node(id).clone();
    for (wanted, operand) in node.operands.iter().enumerate() {
        if !depends[operand.index()] {
            continue;
        }
        if let Op::Slice(_) = node.op {
            shares.add_slice(*operand, id, cotangent);
            continue;
        }
        let site = Site { op: &node.op, operands: &node.operands, result, cotangent, wanted };
        let Some(part) = rules::vjp(&mut Builder::new(graph), &site) else { continue };
        shares.add(graph, *operand, part);
    }
}

fn propagate_scan(
    graph: &mut Graph,
    id: NodeId,
    depends: &[bool],
    (cotangents, shares): (&BTreeMap<ValueId, ValueId>, &mut Shares),
) {
    let node = graph.node(id).clone();
    let Op::Scan(scan) = &node.op else { return };
    let given: Vec<Option<ValueId>> = node.results.iter().map(|result| cotangents.get(result).copied()).collect();
    if given.iter().all(Option::is_none) {
        return;
    }
    let wanted: Vec<bool> = node.operands.iter().map(|operand| depends[operand.index()]).collect();
    let parts = scan::vjp(graph, (scan, &node.operands, &node.results), &given, &wanted);
    for (&operand, part) in node.operands.iter().zip(parts) {
        part.into_iter().for_each(|part| shares.add(graph, operand, part));
    }
}
