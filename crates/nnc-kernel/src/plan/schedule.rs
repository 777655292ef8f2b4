//! The order of groups, and which updates can be made in place.
//!
//! An update is in place if the group that computes the new value can run after every other reader of the old one, and
//! itself reads the old value only where it writes. The readers then have to come first: those are further edges of the
//! order, added one update at a time as long as no cycle arises.

use nnc_graph::{Graph, Op, ValueId};
use nnc_opt::fuse::{Class, GroupKind, Partition, Reach, Views, base, class};
use std::collections::{BTreeMap, BTreeSet};

/// An order of groups.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// Places in the partition, in order of execution; views are left out.
    pub order: Vec<usize>,
    /// The outputs, by place, that are updates in place.
    pub in_place: BTreeSet<usize>,
}

/// The group graph, with the further edges.
struct Edges {
    /// For each group those that must run before it.
    before: Vec<BTreeSet<usize>>,
}

impl Edges {
    /// Whether `from` has to run before `to`.
    fn reaches(&self, from: usize, to: usize) -> bool {
        let mut pending = vec![to];
        let mut seen = BTreeSet::new();
        while let Some(at) = pending.pop() {
            if at == from {
                return true;
            }
            pending.extend(self.before[at].iter().copied().filter(|&next| seen.insert(next)));
        }
        false
    }
}

impl Schedule {
    /// Orders the groups of a graph. `updates` are the outputs, by place, that become the new values of leaves.
    pub fn new(graph: &Graph, partition: &Partition, updates: &BTreeMap<usize, ValueId>) -> Self {
        let group_of = partition.group_of(graph);
        let views = Views::new(graph);
        let producer = |value: ValueId| group_of[graph.value(views.base(value)).node.index()];
        let mut edges = Edges { before: vec![BTreeSet::new(); partition.groups.len()] };
        for (at, group) in partition.groups.iter().enumerate() {
            for &node in &group.nodes {
                let operands = &graph.node(node).operands;
                edges.before[at].extend(operands.iter().map(|&operand| producer(operand)).filter(|&from| from != at));
            }
        }
        let readers = readers(graph, partition, &views);
        let mut in_place = BTreeSet::new();
        let mut updated = BTreeSet::new();
        for (&at, &leaf) in updates {
            let output = &graph.outputs()[at];
            let writer = producer(output.value);
            if !computed(graph, output.value) || !updated.insert(output.value) {
                continue;
            }
            let readers = &readers[leaf.index()];
            let others: Vec<usize> = readers.iter().copied().filter(|&reader| reader != writer).collect();
            let nodes = &partition.groups[writer].nodes;
            let fits = !readers.contains(&writer) || reads_in_step(graph, nodes, &views, leaf);
            if fits && !others.iter().any(|&reader| edges.reaches(writer, reader)) {
                edges.before[writer].extend(others);
                in_place.insert(at);
            }
        }
        Self { order: in_order(partition, &edges), in_place }
    }

    /// Whether a kernel computes `value` itself, so that it can be made where it is wanted.
    pub fn is_computed(&self, graph: &Graph, value: ValueId) -> bool {
        computed(graph, value)
    }

    /// Whether `value` is a leaf, or a view of one.
    pub fn is_leaf(&self, graph: &Graph, value: ValueId) -> bool {
        class(&graph.definition(base(graph, value)).op) == Class::Leaf
    }
}

fn computed(graph: &Graph, value: ValueId) -> bool {
    let op = &graph.definition(value).op;
    let is_copy = matches!(op, Op::Reshape(_)) && base(graph, value) == value;
    is_copy || !matches!(class(op), Class::Leaf | Class::View)
}

/// For each value the groups that read it, through any views.
fn readers(graph: &Graph, partition: &Partition, views: &Views) -> Vec<BTreeSet<usize>> {
    let mut readers = vec![BTreeSet::new(); graph.value_count()];
    for (at, group) in partition.groups.iter().enumerate().filter(|(_, group)| group.kind != GroupKind::View) {
        for operand in group.nodes.iter().flat_map(|&node| &graph.node(node).operands) {
            readers[views.base(*operand).index()].insert(at);
        }
    }
    readers
}

/// Whether the nodes read `leaf` only element by element, in order. What a run-time update leaves is read so, too.
fn reads_in_step(graph: &Graph, nodes: &[nnc_graph::NodeId], views: &Views, leaf: ValueId) -> bool {
    nodes.iter().all(|&id| {
        let node = graph.node(id);
        let mut uses = node.operands.iter().filter(|&&operand| views.base(operand) == leaf);
        let is_left = |operand: ValueId| {
            let reads = node.operands.iter().filter(|&&other| views.base(other) == leaf).count();
            matches!(node.op, Op::DynamicUpdate { .. }) && operand == node.operands[0] && reads == 1
        };
        uses.all(|&operand| {
            (class(&node.op) == Class::Pointwise || is_left(operand)) && views.reach(operand) == Reach::Same
        })
    })
}

/// Kahn's algorithm; ties are broken by the place in the partition.
fn in_order(partition: &Partition, edges: &Edges) -> Vec<usize> {
    let count = partition.groups.len();
    let mut missing: Vec<usize> = edges.before.iter().map(BTreeSet::len).collect();
    let mut followers = vec![Vec::new(); count];
    for (at, before) in edges.before.iter().enumerate() {
        for &from in before {
            followers[from].push(at);
        }
    }
    let mut ready: BTreeSet<usize> = (0..count).filter(|&at| missing[at] == 0).collect();
    let mut order = Vec::new();
    while let Some(at) = ready.pop_first() {
        if partition.groups[at].kind != GroupKind::View {
            order.push(at);
        }
        for &follower in &followers[at] {
            missing[follower] -= 1;
            if missing[follower] == 0 {
                ready.insert(follower);
            }
        }
    }
    order
}
