//! Parts of a whole that are made where they lie in it: a concatenation of values that kernels of this graph make costs
//! no kernel, if all of them can write, and all who read them can read, along the strides of the whole.
//!
//! What a part may be: made by a map, or by a product, a convolution or windows, whose epilogues write along any
//! strides; neither put out nor made once. Who reads it must find views of it, and see it along the axes of a domain,
//! by strides alone. A concatenation that is itself a part has its parts in the larger whole. A whole is made of parts
//! altogether or not at all.

use super::memory::{Place, Source, elem};
use super::{LowerError, Lowering};
use nnc_graph::{Graph, Node, Op, ValueId};
use nnc_opt::fuse::{Class, Group, GroupKind, Layout, Partition, Reach, Views, class};
use std::collections::{BTreeMap, BTreeSet};

/// Where the parts of wholes are.
#[derive(Debug, Default)]
pub struct Parts {
    /// By part: the whole whose memory it is in, and where.
    placed: BTreeMap<ValueId, (ValueId, Layout)>,
    /// Concatenations that their parts make up.
    joined: BTreeSet<ValueId>,
}

impl Lowering<'_> {
    /// What of a graph lies in a whole.
    pub fn parts_of(&self, partition: &Partition) -> Parts {
        let views = Views::new(self.graph);
        let search = Search { lowering: self, partition, group_of: partition.group_of(self.graph), views };
        let mut parts = Parts::default();
        // The larger wholes come later.
        for group in partition.groups.iter().rev() {
            let Some((node, axis)) = concatenation(self.graph, group) else { continue };
            let result = node.results[0];
            let (whole, layout) = match parts.placed.get(&result) {
                Some((whole, layout)) => (*whole, layout.clone()),
                None => (result, Layout::contiguous(&self.graph.ty(result).shape.sizes())),
            };
            let Some(found) = search.parts(node, axis, &layout) else { continue };
            parts.joined.insert(result);
            parts.placed.extend(found.into_iter().map(|(part, layout)| (part, (whole, layout))));
        }
        parts
    }

    /// The place in its whole of a value that is a part.
    pub fn placed(&mut self, value: ValueId) -> Result<Option<Place>, LowerError> {
        let Some((whole, layout)) = self.parts.placed.get(&value).cloned() else { return Ok(None) };
        let Source::Stored(Place { buffer, .. }) = self.whole(whole)? else {
            return Err(LowerError::bug("a part of what is stored nowhere"));
        };
        Ok(Some(Place { buffer, elem: elem(self.graph.ty(value).dtype), layout }))
    }

    /// Whether a group is a concatenation that its parts make up; then it is known where it lies.
    pub fn is_joined(&mut self, group: &Group) -> Result<bool, LowerError> {
        let Some((node, _)) = concatenation(self.graph, group) else { return Ok(false) };
        let result = node.results[0];
        let joined = self.parts.joined.contains(&result);
        if joined {
            self.whole(result)?;
        }
        Ok(joined)
    }

    fn whole(&mut self, whole: ValueId) -> Result<Source, LowerError> {
        match &self.sources[whole.index()] {
            Some(source) => Ok(source.clone()),
            None => Ok(Source::Stored(self.store(whole)?)),
        }
    }
}

/// The node of a group that is nothing but a concatenation, and its axis.
fn concatenation<'g>(graph: &'g Graph, group: &Group) -> Option<(&'g Node, usize)> {
    let [only] = group.nodes[..] else { return None };
    let node = graph.node(only);
    match node.op {
        Op::Concat { axis } if group.kind == GroupKind::Map => Some((node, axis)),
        _ => None,
    }
}

/// What is asked of the groups of a graph.
struct Search<'a, 'g> {
    lowering: &'a Lowering<'g>,
    partition: &'a Partition,
    group_of: Vec<usize>,
    views: Views,
}

impl Search<'_, '_> {
    /// Where the operands of a concatenation lie in it, which has that layout, if all of them may.
    fn parts(&self, node: &Node, axis: usize, whole: &Layout) -> Option<Vec<(ValueId, Layout)>> {
        let graph = self.lowering.graph;
        let mut found: Vec<(ValueId, Layout)> = Vec::new();
        let mut start = 0;
        for &operand in &node.operands {
            let dims = graph.ty(operand).shape.sizes();
            let range = |(at, &size): (usize, &usize)| if at == axis { (start, size, 1) } else { (0, size, 1) };
            let ranges: Vec<_> = dims.iter().enumerate().map(range).collect();
            start += dims[axis] as i64;
            let part = self.views.base(operand);
            let layout = whole.slice(&ranges).reshape(&graph.ty(part).shape.sizes())?;
            let fits = self.views.reach(operand) == Reach::Same
                && found.iter().all(|(other, _)| *other != part)
                && self.is_written_along(part, &layout)
                && self.is_read_along(part, &layout, node.results[0]);
            found.push(fits.then_some((part, layout))?);
        }
        Some(found)
    }

    /// Whether a value is made by a kernel that writes along any strides, in every run.
    fn is_written_along(&self, part: ValueId, layout: &Layout) -> bool {
        let graph = self.lowering.graph;
        let group = &self.partition.groups[self.group_of[graph.value(part).node.index()]];
        let is_free = !self.lowering.is_constant(part) && !self.lowering.planned.contains_key(&part);
        let is_update = group.nodes.iter().any(|&id| matches!(graph.node(id).op, Op::DynamicUpdate { .. }));
        let writes = match group.kind {
            GroupKind::Map => true,
            GroupKind::Anchor => group.anchor.is_some_and(|id| {
                matches!(graph.node(id).op, Op::Dot { .. } | Op::Conv(_) | Op::ConvLast(_) | Op::Window { .. })
            }),
            GroupKind::Pooled => layout.elements() == group.domain.iter().product::<usize>(),
            GroupKind::Leaf | GroupKind::View | GroupKind::Copy | GroupKind::Reduce => false,
            GroupKind::Rows | GroupKind::Attention | GroupKind::Loop => false,
        };
        is_free && !is_update && writes && layout.reshape(&group.domain).is_some()
    }

    /// Whether all that reads a value besides the concatenation `whole` can do so by strides.
    fn is_read_along(&self, part: ValueId, layout: &Layout, whole: ValueId) -> bool {
        let graph = self.lowering.graph;
        let mut layouts: BTreeMap<ValueId, Layout> = BTreeMap::from([(part, layout.clone())]);
        for (id, node) in graph.nodes() {
            let operands = node.operands.iter().filter(|operand| layouts.contains_key(operand));
            let read: Vec<ValueId> = operands.copied().collect();
            if read.is_empty() || node.results.contains(&whole) {
                continue;
            }
            let group = &self.partition.groups[self.group_of[id.index()]];
            match (class(&node.op), group.kind) {
                (Class::View, GroupKind::View) => match layouts[&read[0]].view(&node.op) {
                    Some(view) => _ = layouts.insert(node.results[0], view),
                    None => return false,
                },
                (Class::View, GroupKind::Copy) => {}
                (Class::Anchor, GroupKind::Anchor | GroupKind::Pooled) => {}
                (Class::Pointwise, GroupKind::Map | GroupKind::Anchor) => {
                    if !read.iter().all(|value| layouts[value].reshape(&group.domain).is_some()) {
                        return false;
                    }
                }
                _ => return false,
            }
        }
        true
    }
}
