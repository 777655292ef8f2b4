//! Scores of attention made again where the derivative needs them, so that no matrix of them is kept for it.
//!
//! The derivative of attention reads the forward pass's scores, their exponentials and the weights. If these are one
//! kernel's own ([`crate::fuse::attention`]) they are not in memory; the derivative makes them anew out of queries,
//! keys and what is kept for each row, its maximum and its sum, by the same operations, so with the same bits (Dao,
//! "FlashAttention-2", 2023, by the logarithm of the sum). That is one product more, and far less memory.
//!
//! A mask that follows from places, as a causal one, is computed for each element as well: what is elementwise work on
//! vectors is done after they are repeated, not before, so that no table of all pairs is kept.
//!
//! Scores that are small stay in the caches from one pass to the other, and are kept ([`FuseOptions::kept_scores`])
//! unless a mask of places hides a part of them.
//!
//! On exit the graph computes the same values. Whether it is worth it is for fusion to say: what was rewritten stands
//! only where all its products become part of attention groups. Cost: one partition for each try, and each leaves out a
//! place.

use crate::fuse::attention::reads_columns;
use crate::fuse::{Class, FuseOptions, GroupKind, Reach, Views, class, partition};
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{BinaryOp, Graph, Node, NodeId, Op, UnaryOp, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// The graph with scores made again and masks computed for each element; `None` if nothing changes.
pub fn rescore(graph: &Graph, options: &FuseOptions) -> Option<Graph> {
    if !options.attention {
        return None;
    }
    let views = Views::new(graph);
    let mut sites = find(graph, &views);
    sites.retain(|site| site.late.is_empty() || site.is_worth_a_product(options));
    while sites.iter().any(|site| site.changes) {
        let (made, dots) = Remaker::new(graph, &views, &sites).run();
        let groups = partition(&made, options);
        let of = groups.group_of(&made);
        let is_inside = |dot: &ValueId| groups.groups[of[made.value(*dot).node.index()]].kind == GroupKind::Attention;
        let stand: Vec<bool> = dots.iter().map(|dots| dots.iter().all(is_inside)).collect();
        if stand.iter().all(|&stands| stands) {
            return Some(made);
        }
        let mut stands = stand.into_iter();
        sites.retain(|_| stands.next() == Some(true));
    }
    None
}

/// Attention in the forward pass.
struct Site {
    /// All that is as large as the matrix: products, and elementwise work up to the weights.
    inside: BTreeSet<NodeId>,
    /// What else reads a value of these, and comes after: it gets them made again.
    late: BTreeSet<NodeId>,
    /// Masks that it reads repeated.
    tables: BTreeSet<NodeId>,
    /// The size of the matrix.
    bytes: usize,
    /// Whether there is anything to be made again, or a mask to be computed for each element.
    changes: bool,
}

/// The places where a product reads what is elementwise work on another.
fn find(graph: &Graph, views: &Views) -> Vec<Site> {
    let mut taken: BTreeSet<NodeId> = BTreeSet::new();
    let mut sites = Vec::new();
    for (id, node) in graph.nodes().filter(|(_, node)| matches!(node.op, Op::Dot { .. })) {
        let reads = (0..2).find(|&operand| reads_columns(graph, views, node, operand));
        let Some(inside) = reads.and_then(|operand| inside(graph, views, node.operands[operand])) else { continue };
        if inside.iter().any(|node| taken.contains(node)) {
            continue;
        }
        taken.extend(&inside);
        sites.extend(Site::new(graph, views, id, inside));
    }
    sites
}

/// The elementwise work, as large as `matrix`, that it follows from, and the products of that size; `None` without any.
fn inside(graph: &Graph, views: &Views, matrix: ValueId) -> Option<BTreeSet<NodeId>> {
    let size = |value: ValueId| graph.ty(value).shape.elements().size();
    let full = size(matrix);
    let mut inside = BTreeSet::new();
    let mut pending = vec![matrix];
    while let Some(value) = pending.pop() {
        let base = views.base(value);
        let (id, op) = (graph.value(base).node, &graph.definition(base).op);
        let belongs =
            class(op) == Class::Pointwise || matches!(op, Op::Dot { .. } | Op::Iota { .. } | Op::Random { .. });
        if !belongs || size(base) != full || views.reach(value) != Reach::Same || !inside.insert(id) {
            continue;
        }
        if class(op) == Class::Pointwise {
            pending.extend(&graph.node(id).operands);
        }
    }
    let has_product = inside.iter().any(|&id| matches!(graph.node(id).op, Op::Dot { .. }));
    let is_elementwise = class(&graph.definition(views.base(matrix)).op) == Class::Pointwise;
    (has_product && is_elementwise).then_some(inside)
}

impl Site {
    /// Around the product `reader`; `None` if no rows are reduced, or a value that is made again is put out.
    fn new(graph: &Graph, views: &Views, reader: NodeId, inside: BTreeSet<NodeId>) -> Option<Self> {
        let source = |value: ValueId| graph.value(views.base(value)).node;
        let holds = |value: ValueId| inside.contains(&source(value));
        let reads = |node: &Node| node.operands.iter().any(|&operand| holds(operand));
        let after = after(graph, reader);
        let is_forward = |id: NodeId, node: &Node| {
            let reads = |operand| holds(node.operands[operand]) && reads_columns(graph, views, node, operand);
            matches!(node.op, Op::Dot { .. }) && !after[id.index()] && (0..node.operands.len()).any(reads)
        };
        let forward = graph.nodes().filter(|(id, node)| is_forward(*id, node)).map(|(id, _)| id).chain([reader]);
        let before = before(graph, forward);
        let is_reduction =
            |(id, node): (NodeId, &Node)| matches!(node.op, Op::Reduce { .. }) && before[id.index()] && reads(node);
        if !graph.nodes().any(is_reduction) || graph.outputs().iter().any(|output| holds(output.value)) {
            return None;
        }
        let operands = inside.iter().flat_map(|&id| &graph.node(id).operands);
        let tables: BTreeSet<NodeId> =
            operands.filter(|&&operand| is_table(graph, views, operand)).map(|&operand| source(operand)).collect();
        let is_late = |id: NodeId, node: &Node| class(&node.op) != Class::View && !before[id.index()] && reads(node);
        let late: BTreeSet<NodeId> = graph.nodes().filter(|(id, node)| is_late(*id, node)).map(|(id, _)| id).collect();
        let changes = !late.is_empty() || !tables.is_empty();
        let dot = inside.iter().map(|&id| graph.node(id)).find(|node| matches!(node.op, Op::Dot { .. }));
        let bytes = dot.map_or(0, |dot| graph.ty(dot.results[0]).bytes());
        Some(Self { inside, late, tables, bytes, changes })
    }
}

impl Site {
    /// Whether the product that makes scores again is paid for: by the memory, or by what a mask of places hides, which
    /// no kernel needs to compute then.
    fn is_worth_a_product(&self, options: &FuseOptions) -> bool {
        self.bytes > options.kept_scores || !self.tables.is_empty()
    }
}

/// For each node whether it follows from `first`, or is it.
fn after(graph: &Graph, first: NodeId) -> Vec<bool> {
    let mut after = vec![false; graph.node_count()];
    for (id, node) in graph.nodes() {
        let follows = node.operands.iter().any(|&operand| after[graph.value(operand).node.index()]);
        after[id.index()] = id == first || follows;
    }
    after
}

/// For each node whether one of `last` follows from it, or is it.
fn before(graph: &Graph, last: impl Iterator<Item = NodeId>) -> Vec<bool> {
    let mut before = vec![false; graph.node_count()];
    last.for_each(|id| before[id.index()] = true);
    for (id, node) in graph.nodes().rev() {
        if before[id.index()] {
            node.operands.iter().for_each(|&operand| before[graph.value(operand).node.index()] = true);
        }
    }
    before
}

/// Whether a value is repeated elementwise work that has more elements than all that it follows from.
fn is_table(graph: &Graph, views: &Views, value: ValueId) -> bool {
    let base = views.base(value);
    let size = |value: ValueId| graph.ty(value).shape.elements().size();
    let mut sources = BTreeSet::new();
    let is_work = size(base) < size(value) && is_cheap(&graph.definition(base).op);
    is_work && collect_sources(graph, views, base, &mut sources) && size(base) > sources.into_iter().map(size).sum()
}

/// What elementwise work follows from; whether all of it is cheap.
fn collect_sources(graph: &Graph, views: &Views, value: ValueId, sources: &mut BTreeSet<ValueId>) -> bool {
    let base = views.base(value);
    let node = graph.definition(base);
    if class(&node.op) != Class::Pointwise {
        sources.insert(base);
        return true;
    }
    is_cheap(&node.op) && node.operands.iter().all(|&operand| collect_sources(graph, views, operand, sources))
}

/// Whether an op is no more work than a read.
fn is_cheap(op: &Op) -> bool {
    match op {
        Op::Compare(_) | Op::Select | Op::Cast(_) => true,
        Op::Unary(op) => matches!(op, UnaryOp::Not | UnaryOp::Neg | UnaryOp::Abs),
        Op::Binary(op) => matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Add | BinaryOp::Sub),
        _ => false,
    }
}

/// Writes the new graph.
struct Remaker<'a> {
    graph: &'a Graph,
    views: &'a Views,
    sites: &'a [Site],
    /// What stands for a value inside of a site for those that come after.
    again: BTreeMap<ValueId, ValueId>,
    /// Repeated values whose work is done after they are repeated, by the place in `sites` and whether it is for what
    /// comes after: no kernel reads another one's.
    spread: BTreeMap<(ValueId, usize, bool), ValueId>,
}

impl<'a> Remaker<'a> {
    fn new(graph: &'a Graph, views: &'a Views, sites: &'a [Site]) -> Self {
        Self { graph, views, sites, again: BTreeMap::new(), spread: BTreeMap::new() }
    }

    /// The new graph, and for each site the products that are to be part of a group.
    fn run(mut self) -> (Graph, Vec<Vec<ValueId>>) {
        let mut unlimited = Fuel::new(None);
        let mut rewriter = Rewriter::new(self.graph, &mut unlimited);
        for (id, node) in self.graph.nodes() {
            let Some(place) = self.place(id) else {
                rewriter.copy(id);
                continue;
            };
            let given: Vec<ValueId> =
                node.operands.iter().map(|&operand| self.given(&mut rewriter, operand, place)).collect();
            rewriter.at(id);
            let results = rewriter.graph_mut().emit_all(node.op.clone(), &given);
            node.results.iter().zip(results).for_each(|(&old, new)| rewriter.replace(old, new));
        }
        let dots = |site: &Site| -> Vec<ValueId> {
            let all = site.inside.iter().map(|&id| self.graph.node(id));
            let results = all.filter(|node| matches!(node.op, Op::Dot { .. })).map(|node| node.results[0]);
            let made = |result: ValueId| [Some(rewriter.value(result)), self.again.get(&result).copied()];
            results.flat_map(made).flatten().collect()
        };
        let dots = self.sites.iter().map(dots).collect();
        (rewriter.finish(), dots)
    }

    /// The site that a node belongs to, and whether it comes after: it reads a value of that, or a mask of that beside
    /// what follows from such a node by elementwise work.
    fn place(&self, id: NodeId) -> Option<(usize, bool)> {
        let position = |holds: &dyn Fn(&Site) -> bool| self.sites.iter().position(holds);
        if let Some(site) = position(&|site| site.inside.contains(&id)) {
            return Some((site, false));
        }
        let source = |&operand: &ValueId| self.graph.value(self.views.base(operand)).node;
        let operands = &self.graph.node(id).operands;
        let is_after = |id: NodeId| position(&|site| site.late.contains(&id)).map(|site| (site, true));
        if !operands.iter().any(|operand| self.sites.iter().any(|site| site.tables.contains(&source(operand)))) {
            return is_after(id);
        }
        let mut seen = BTreeSet::new();
        let mut pending = vec![id];
        while let Some(at) = pending.pop() {
            let node = self.graph.node(at);
            if class(&node.op) == Class::Pointwise && seen.insert(at) {
                if let Some(place) = is_after(at) {
                    return Some(place);
                }
                pending.extend(node.operands.iter().map(source));
            }
        }
        None
    }

    fn is_inside(&self, value: ValueId) -> bool {
        let base = self.graph.value(self.views.base(value)).node;
        self.sites.iter().any(|site| site.inside.contains(&base))
    }

    /// What a node inside of a site, or one that comes after, reads for an operand.
    fn given(&mut self, rewriter: &mut Rewriter<'_>, value: ValueId, (site, is_late): (usize, bool)) -> ValueId {
        if is_late && self.is_inside(value) {
            self.make_again(rewriter, value, site)
        } else if is_table(self.graph, self.views, value) {
            self.spread(rewriter, value, (site, is_late))
        } else {
            rewriter.value(value)
        }
    }

    /// A value inside of a site, or a view of one, made again.
    fn make_again(&mut self, rewriter: &mut Rewriter<'_>, value: ValueId, site: usize) -> ValueId {
        if let Some(&made) = self.again.get(&value) {
            return made;
        }
        let id = self.graph.value(value).node;
        let node = self.graph.node(id);
        let given: Vec<ValueId> =
            node.operands.iter().map(|&operand| self.given(rewriter, operand, (site, true))).collect();
        rewriter.at(id);
        let made = rewriter.emit(node.op.clone(), &given);
        self.again.insert(value, made);
        made
    }

    /// A repeated value, repeated before the work is done.
    fn spread(&mut self, rewriter: &mut Rewriter<'_>, value: ValueId, (site, is_late): (usize, bool)) -> ValueId {
        if let Some(&made) = self.spread.get(&(value, site, is_late)) {
            return made;
        }
        let made = self.under_views(rewriter, value, &[]);
        self.spread.insert((value, site, is_late), made);
        made
    }

    /// Cheap elementwise work on operands that have gone through views, the innermost first.
    fn under_views(&self, rewriter: &mut Rewriter<'_>, value: ValueId, views: &[Op]) -> ValueId {
        let id = self.graph.value(value).node;
        let node = self.graph.node(id);
        if self.views.base(value) != value {
            let views = [std::slice::from_ref(&node.op), views].concat();
            return self.under_views(rewriter, node.operands[0], &views);
        }
        if class(&node.op) != Class::Pointwise {
            let source = rewriter.value(value);
            return views.iter().fold(source, |value, view| rewriter.emit(view.clone(), &[value]));
        }
        let operands: Vec<ValueId> =
            node.operands.iter().map(|&operand| self.under_views(rewriter, operand, views)).collect();
        rewriter.at(id);
        rewriter.emit(node.op.clone(), &operands)
    }
}
