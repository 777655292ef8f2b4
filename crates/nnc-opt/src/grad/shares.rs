//! Cotangents in the making: what the users of a value hand on to it, until all have.
//!
//! The share of a slice is 0 outside of it. Slices that cut a value to pieces, as the gates of a recurrent layer cut a
//! product, together have one share, the concatenation of theirs: no sum, so that -0 stays what it is. Of others each is
//! padded, and all shares are added up in the order in which they came.

use super::builder::Builder;
use super::rules::{self, Site};
use nnc_graph::{Dim, Graph, NodeId, Op, Shape, SliceRange, ValueId};
use std::collections::BTreeMap;

/// What one or several users hand on.
#[derive(Clone, Copy, Debug)]
enum Share {
    /// The cotangent of all of the value.
    Whole(ValueId),
    /// The cotangent of a slice of it, by its node.
    Slice(NodeId, ValueId),
}

/// The shares of values whose users have not all been asked.
#[derive(Debug, Default)]
pub(super) struct Shares(BTreeMap<ValueId, Vec<Share>>);

impl Shares {
    /// Adds a share of all of a value.
    pub(super) fn add(&mut self, graph: &mut Graph, value: ValueId, share: ValueId) {
        let shares = self.0.entry(value).or_default();
        match shares.last_mut() {
            Some(Share::Whole(so_far)) => *so_far = Builder::new(graph).add(*so_far, share),
            Some(Share::Slice(..)) | None => shares.push(Share::Whole(share)),
        }
    }

    /// Adds the share of a slice, which has that cotangent.
    pub(super) fn add_slice(&mut self, value: ValueId, slice: NodeId, cotangent: ValueId) {
        self.0.entry(value).or_default().push(Share::Slice(slice, cotangent));
    }

    /// The cotangent of a value all of whose users have been asked; none is 0.
    pub(super) fn take(&mut self, graph: &mut Graph, value: ValueId) -> Option<ValueId> {
        let mut shares = self.0.remove(&value)?;
        if let Some(joined) = joined(graph, value, &shares) {
            // It comes where the first slice did.
            let first = shares.iter().position(|share| matches!(share, Share::Slice(..)));
            shares.insert(first.unwrap_or_default(), Share::Whole(joined));
            shares.retain(|share| matches!(share, Share::Whole(_)));
        }
        let here = graph.set_origin(None);
        let mut sum: Option<ValueId> = None;
        for share in shares {
            let share = match share {
                Share::Whole(share) => share,
                Share::Slice(slice, cotangent) => padded(graph, slice, cotangent),
            };
            graph.set_origin(here);
            sum = Some(sum.map_or(share, |sum| Builder::new(graph).add(sum, share)));
        }
        graph.set_origin(here);
        sum
    }

    /// The largest node that makes a value with shares.
    pub(super) fn last(&self, graph: &Graph) -> Option<NodeId> {
        self.0.keys().map(|&value| graph.value(value).node).max()
    }
}

/// The share of a slice by its rule.
fn padded(graph: &mut Graph, slice: NodeId, cotangent: ValueId) -> ValueId {
    let node = graph.node(slice).clone();
    graph.set_origin(node.origin);
    let site = Site { op: &node.op, operands: &node.operands, result: node.results[0], cotangent, wanted: 0 };
    rules::vjp(&mut Builder::new(graph), &site).unwrap_or_else(|| unreachable!("compiler bug: slices have a rule"))
}

/// The concatenation of the slices' cotangents, if they cut the value to pieces along an axis.
fn joined(graph: &mut Graph, value: ValueId, shares: &[Share]) -> Option<ValueId> {
    let slices = shares.iter().filter_map(|share| match share {
        Share::Slice(slice, cotangent) => Some((*slice, *cotangent)),
        Share::Whole(_) => None,
    });
    let slices: Vec<(NodeId, ValueId)> = slices.collect();
    let shape = &graph.ty(value).shape;
    let ranges = |slice: NodeId| match &graph.node(slice).op {
        Op::Slice(ranges) => &ranges[..],
        other => unreachable!("compiler bug: `{}` is no slice", other.name()),
    };
    if slices.len() < 2 {
        return None;
    }
    let (axis, order) = (0..shape.rank()).find_map(|axis| {
        let along: Option<Vec<&SliceRange>> =
            slices.iter().map(|&(slice, _)| along(ranges(slice), shape, axis)).collect();
        Some((axis, in_order(&along?, &shape[axis])?))
    })?;
    let parts: Vec<ValueId> = order.into_iter().map(|at| slices[at].1).collect();
    let here = graph.set_origin(graph.node(slices[0].0).origin);
    let joined = graph.emit(Op::Concat { axis }, &parts);
    graph.set_origin(here);
    Some(joined)
}

/// The range of an axis, if a slice takes neighbours there, and all of the other axes.
fn along<'r>(ranges: &'r [SliceRange], shape: &Shape, axis: usize) -> Option<&'r SliceRange> {
    let is_whole = |at: usize| ranges[at].start.is(0) && ranges[at].size == shape[at] && ranges[at].step == 1;
    let fits = ranges[axis].step == 1 && (0..shape.rank()).all(|at| at == axis || is_whole(at));
    fits.then_some(&ranges[axis])
}

/// The order in which ranges follow one another from 0 to `size`, if they do. Sizes may be unknown.
fn in_order(ranges: &[&SliceRange], size: &Dim) -> Option<Vec<usize>> {
    let mut left: Vec<usize> = (0..ranges.len()).collect();
    let (mut order, mut end) = (Vec::new(), Dim::from(0));
    while !left.is_empty() {
        let next = left.iter().position(|&at| ranges[at].start == end)?;
        let next = left.remove(next);
        end = end + ranges[next].size.clone();
        order.push(next);
    }
    (end == *size).then_some(order)
}
