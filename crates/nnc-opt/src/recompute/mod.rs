//! Values that are computed again instead of kept: the rewrite, and what follows from the graph alone.
//!
//! A value that the forward pass makes and the backward pass reads lies in memory in between. If it is *dropped*, its
//! late readers get a copy of it, made anew just before the first of them: by copies of the nodes that it comes from,
//! as far back as values that are still there ([`sources()`]). The copies are the same ops on the same operands, so the
//! bits are the same. Which values are dropped is a matter of bytes and of the order of kernels, which others know
//! (`nnc_kernel::plan::recompute`).
//!
//! What is cheap, such as elementwise work, each late reader that can take it into its kernel computes for itself; all
//! else is made once. The copies stand in program order where they are first needed, and kernels are ordered by that.
//! **Invariant**: nothing merges equal nodes after this pass.
//!
//! Sources: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost", 2016; Kumar et al., "Efficient
//! rematerialization for deep networks", 2019.

mod sources;

pub use sources::{Sources, is_cheap, sources};

use crate::fuse::{Class, Partition, Views, class};
use crate::rewrite::{Fuel, Rewriter};
use crate::{dce, rewrite, tidy};
use nnc_graph::{Graph, Node, NodeId, Op, ValueId};
use std::collections::BTreeMap;

/// A value that is computed again; times are places in the order of kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dropped {
    /// What is made first is read up to here, and later readers get the copy.
    pub until: usize,
    /// When the copy is made.
    pub again: usize,
}

/// Which values are computed again.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Choice {
    /// The values, none of them a view.
    pub dropped: BTreeMap<ValueId, Dropped>,
    /// For each node when it runs.
    pub times: Vec<usize>,
}

/// A graph with copies in it.
#[derive(Clone, Debug)]
pub struct Recomputed {
    /// The graph.
    pub graph: Graph,
    /// What is what.
    pub copies: Copies,
}

/// Which nodes are copies, made late, of nodes before them: each with the node that it is a copy of, or, where nothing
/// needs that any more, the one before it. Copies share no kernel with nodes that stand before what they are copies of.
pub type Copies = BTreeMap<NodeId, NodeId>;

/// The graph in which late readers of dropped values get copies.
pub fn recompute(graph: &Graph, partition: &Partition, choice: &Choice) -> Recomputed {
    let mut unlimited = Fuel::new(None);
    let rewriter = Rewriter::new(graph, &mut unlimited);
    let (views, stored) = (Views::new(graph), partition.stored(graph));
    let group_of = partition.group_of(graph);
    let (made, copies) = (BTreeMap::new(), Copies::new());
    let mut copier = Copier { graph, views, stored, choice, rewriter, made, copies };
    for (id, node) in graph.nodes() {
        let reader = Reader { time: choice.times[id.index()], owner: Owner::of(node, group_of[id.index()]) };
        copier.copy(id, node, reader);
    }
    let (graph, copies) = (copier.rewriter.finish(), copier.copies);
    tidied(without_dead(Recomputed { graph, copies }))
}

/// Without what only dropped values needed.
fn without_dead(Recomputed { graph, copies }: Recomputed) -> Recomputed {
    let live = dce::live_nodes(&graph);
    let kept = live.iter().scan(0u32, |kept, &live| {
        *kept += u32::from(live);
        Some(*kept)
    });
    // A node that is gone counts as the last one kept before it.
    let place: Vec<NodeId> = kept.map(|kept| NodeId(kept.saturating_sub(1))).collect();
    let copies = copies.into_iter().filter(|(copy, _)| live[copy.index()]);
    let copies = copies.map(|(copy, of)| (place[copy.index()], place[of.index()])).collect();
    let graph = dce::eliminate_dead_code(&graph, &mut Fuel::new(None));
    Recomputed { graph, copies }
}

/// With loops that stack only what is read: what the first does and what its copy does differ.
fn tidied(Recomputed { graph, copies }: Recomputed) -> Recomputed {
    if !graph.nodes().any(|(_, node)| matches!(node.op, Op::Scan(_))) {
        return Recomputed { graph, copies };
    }
    let made = tidy::tidy_loops(&graph, &mut Fuel::new(None));
    let made = rewrite::everywhere(&made, &mut Fuel::new(None), &dce::eliminate_dead_code);
    let is_same = |(a, b): (&Node, &Node)| a.op.name() == b.op.name();
    let stays = made.node_count() == graph.node_count()
        && graph.nodes().zip(made.nodes()).all(|((_, a), (_, b))| is_same((a, b)));
    Recomputed { graph: if stays { made } else { graph }, copies }
}

/// Who a copy is made for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owner {
    /// The kernel of a group, which computes it for itself.
    Group(usize),
    /// Every late reader.
    All,
}

impl Owner {
    /// Who computes cheap operands of a node: its group, if that can take them in.
    fn of(node: &Node, group: usize) -> Self {
        match class(&node.op) {
            Class::Pointwise | Class::Reduce => Self::Group(group),
            Class::Leaf | Class::View | Class::Indexed | Class::Anchor | Class::Loop => Self::All,
        }
    }
}

/// Who reads a value, and when.
#[derive(Clone, Copy, Debug)]
struct Reader {
    time: usize,
    owner: Owner,
}

/// The new graph in the making.
struct Copier<'a> {
    graph: &'a Graph,
    views: Views,
    stored: Vec<bool>,
    choice: &'a Choice,
    rewriter: Rewriter<'a>,
    /// Copies by node.
    made: BTreeMap<(NodeId, Owner), Vec<ValueId>>,
    copies: Copies,
}

impl Copier<'_> {
    /// Copies a node of the old graph; what it reads late is made anew.
    fn copy(&mut self, id: NodeId, node: &Node, reader: Reader) {
        if class(&node.op) == Class::View && self.views.base(node.results[0]) != node.results[0] {
            self.rewriter.copy(id);
            return;
        }
        let operands: Vec<ValueId> = node.operands.iter().map(|&operand| self.operand(operand, reader)).collect();
        let results = self.emit(id, node, &operands);
        node.results.iter().zip(results).for_each(|(&old, new)| self.rewriter.replace(old, new));
    }

    fn emit(&mut self, id: NodeId, node: &Node, operands: &[ValueId]) -> Vec<ValueId> {
        self.rewriter.at(id);
        self.rewriter.graph_mut().emit_all(node.op.clone(), operands)
    }

    /// The new value that a reader gets for an old one: what was made first, or a copy.
    fn operand(&mut self, value: ValueId, reader: Reader) -> ValueId {
        match self.is_late(self.views.base(value), reader.time) {
            true => self.again(value, reader),
            false => self.rewriter.value(value),
        }
    }

    fn is_late(&self, base: ValueId, time: usize) -> bool {
        self.choice.dropped.get(&base).is_some_and(|dropped| time > dropped.until)
    }

    /// A copy of a dropped value, of a view of one, or of what lies between dropped values and those that are there.
    fn again(&mut self, value: ValueId, reader: Reader) -> ValueId {
        let definition = self.graph.value(value).node;
        let node = self.graph.node(definition);
        let owner = if is_cheap(&node.op) { reader.owner } else { Owner::All };
        let time = match (owner, self.choice.dropped.get(&value)) {
            (Owner::All, Some(dropped)) => dropped.again,
            (Owner::All, None) | (Owner::Group(_), _) => reader.time,
        };
        let place = node.results.iter().position(|&result| result == value).unwrap_or_default();
        if let Some(results) = self.made.get(&(definition, owner)) {
            return results[place];
        }
        let reader = Reader { time, owner };
        let operands: Vec<ValueId> = node.operands.iter().map(|&operand| self.source(operand, reader)).collect();
        let results = self.emit(definition, node, &operands);
        let made = results[place];
        let original = self.rewriter.value(value);
        let (copy, original) = (self.rewriter.graph().value(made).node, self.rewriter.graph().value(original).node);
        self.copies.insert(copy, original);
        self.made.insert((definition, owner), results);
        made
    }

    /// What a copy reads for an old value.
    fn source(&mut self, value: ValueId, reader: Reader) -> ValueId {
        let base = self.views.base(value);
        let is_between = !self.stored[base.index()] && is_cheap(&self.graph.definition(base).op);
        match self.is_late(base, reader.time) || is_between {
            true => self.again(value, reader),
            false => self.rewriter.value(value),
        }
    }
}
