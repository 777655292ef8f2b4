//! The order of groups, and which updates can be made in place.
//!
//! An update is in place if the group that computes the new value can run after every other reader of the old one, and
//! itself reads the old value only where it writes. The readers then have to come first: those are further edges of the
//! order, added one update at a time as long as no cycle arises. The same holds where a run-time update
//! (`dynamic_update`) follows another, as when each layer writes its part of a cache: all of a chain then lie in one
//! place.
//!
//! Of the groups that can run, one that gives back at least as much memory as it takes runs first, as an optimiser's
//! update does, while its gradient is still in the caches; one that takes next to nothing does not wait, so that
//! nothing waits for it; otherwise the order is that of the partition.

use nnc_graph::{Graph, Op, OutputKind, ValueId};
use nnc_opt::fuse::{Class, Group, GroupKind, Partition, Reach, Views, base, class};
use std::collections::{BTreeMap, BTreeSet};

/// An order of groups.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// Places in the partition, in order of execution; views are left out.
    pub order: Vec<usize>,
    /// The outputs, by place, that are updates in place.
    pub in_place: BTreeSet<usize>,
    /// Results of run-time updates that lie where their first operand does.
    pub written_in_place: BTreeSet<ValueId>,
}

/// The group graph, with the further edges.
struct Edges {
    /// For each group those that must run before it.
    before: Vec<BTreeSet<usize>>,
    /// Whether all of these stand before it in the partition, too.
    are_in_order: bool,
}

impl Edges {
    /// Whether `from` has to run before `to`.
    fn reaches(&self, from: usize, to: usize) -> bool {
        if self.are_in_order && from > to {
            return false;
        }
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

    /// Makes `writer`, which computes what replaces `old`, come after all others that read that, if it can; gives those
    /// that it came after in no case before.
    fn comes_last(
        &mut self,
        graph: &Graph,
        (partition, views): (&Partition, &Views),
        writer: usize,
        old: ValueId,
        readers: &BTreeSet<usize>,
    ) -> Option<Vec<usize>> {
        let others: Vec<usize> = readers.iter().copied().filter(|&reader| reader != writer).collect();
        let nodes = &partition.groups[writer].nodes;
        let fits = !readers.contains(&writer) || reads_in_step(graph, nodes, views, old);
        if !fits || others.iter().any(|&reader| self.reaches(writer, reader)) {
            return None;
        }
        self.are_in_order &= others.iter().all(|&reader| reader < writer);
        let new = others.into_iter().filter(|&reader| self.before[writer].insert(reader));
        Some(new.collect())
    }
}

/// A run-time update that is a group of its own.
#[derive(Clone, Copy)]
struct Link {
    writer: usize,
    result: ValueId,
    /// What it replaces a part of.
    old: ValueId,
}

/// All of a graph.
fn links(graph: &Graph, partition: &Partition, views: &Views) -> Vec<Link> {
    let link = |(writer, group): (usize, &Group)| {
        let &[id] = &group.nodes[..] else { return None };
        let node = graph.node(id);
        let whole = matches!(node.op, Op::DynamicUpdate { .. }).then(|| node.operands[0])?;
        Some(Link { writer, result: node.results[0], old: views.base(whole) })
    };
    partition.groups.iter().enumerate().filter_map(link).collect()
}

/// The links from a leaf to a value; none if the value is no chain of updates of the leaf.
fn chain_to(links: &[Link], mut value: ValueId, leaf: ValueId) -> Vec<Link> {
    let mut chain = Vec::new();
    while value != leaf {
        let Some(link) = links.iter().find(|link| link.result == value) else { return Vec::new() };
        chain.push(*link);
        value = link.old;
    }
    chain
}

/// The updates that are written in place. **Invariant**: of each value at most one update is, after all that read it; a
/// chain from a leaf is as a whole or not at all, since its end lies where the leaf does in any case.
struct Chains {
    /// Results that lie where what they replace lay.
    written: BTreeSet<ValueId>,
    /// Values whose place another has taken.
    replaced: BTreeSet<ValueId>,
}

impl Chains {
    /// Writes links in place, if all can be.
    fn take(
        &mut self,
        graph: &Graph,
        (partition, views): (&Partition, &Views),
        (edges, readers): (&mut Edges, &[BTreeSet<usize>]),
        links: &[Link],
    ) {
        let mut made: Vec<(usize, Vec<usize>)> = Vec::new();
        for link in links {
            let readers = &readers[link.old.index()];
            let is_free = !self.replaced.contains(&link.old);
            let new = is_free.then(|| edges.comes_last(graph, (partition, views), link.writer, link.old, readers));
            match new.flatten() {
                Some(new) => made.push((link.writer, new)),
                None => {
                    made.into_iter().for_each(|(writer, new)| edges.before[writer].retain(|at| !new.contains(at)));
                    return;
                }
            }
        }
        self.written.extend(links.iter().map(|link| link.result));
        self.replaced.extend(links.iter().map(|link| link.old));
    }
}

impl Schedule {
    /// Orders the groups of a graph. `updates` are the outputs, by place, that become the new values of leaves.
    pub fn new(graph: &Graph, partition: &Partition, updates: &BTreeMap<usize, ValueId>) -> Self {
        let group_of = partition.group_of(graph);
        let views = Views::new(graph);
        let producer = |value: ValueId| group_of[graph.value(views.base(value)).node.index()];
        let mut edges = Edges { before: vec![BTreeSet::new(); partition.groups.len()], are_in_order: true };
        for (at, group) in partition.groups.iter().enumerate() {
            for &node in &group.nodes {
                let operands = &graph.node(node).operands;
                edges.before[at].extend(operands.iter().map(|&operand| producer(operand)).filter(|&from| from != at));
            }
            edges.are_in_order &= edges.before[at].last().is_none_or(|&from| from < at);
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
            if edges.comes_last(graph, (partition, &views), writer, leaf, &readers[leaf.index()]).is_some() {
                in_place.insert(at);
            }
        }
        let links = links(graph, partition, &views);
        let mut chains = Chains { written: BTreeSet::new(), replaced: BTreeSet::new() };
        for (&at, &leaf) in updates.iter().filter(|(at, _)| in_place.contains(at)) {
            let chain = chain_to(&links, graph.outputs()[at].value, leaf);
            chains.take(graph, (partition, &views), (&mut edges, &readers), &chain);
        }
        for link in &links {
            let is_output = graph.outputs().iter().any(|output| views.base(output.value) == link.old);
            if computed(graph, link.old) && !is_output {
                chains.take(graph, (partition, &views), (&mut edges, &readers), std::slice::from_ref(link));
            }
        }
        let written_in_place = chains.written;
        let memory = Memory::new(graph, partition, &views, &readers, (&in_place, &written_in_place));
        Self { order: in_order(partition, &edges, memory), in_place, written_in_place }
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

/// Whether the nodes read `leaf` only element by element, in order. What a run-time update leaves is read so, too, and
/// what a scatter-add adds to.
fn reads_in_step(graph: &Graph, nodes: &[nnc_graph::NodeId], views: &Views, leaf: ValueId) -> bool {
    nodes.iter().all(|&id| {
        let node = graph.node(id);
        let mut uses = node.operands.iter().filter(|&&operand| views.base(operand) == leaf);
        let is_left = |operand: ValueId| {
            let reads = node.operands.iter().filter(|&&other| views.base(other) == leaf).count();
            let is_left = matches!(node.op, Op::DynamicUpdate { .. } | Op::ScatterAdd { .. });
            is_left && operand == node.operands[0] && reads == 1
        };
        uses.all(|&operand| {
            (class(&node.op) == Class::Pointwise || is_left(operand)) && views.reach(operand) == Reach::Same
        })
    })
}

/// Bytes that a group may take without a thought: some scalars.
const NEXT_TO_NOTHING: usize = 256;

/// What groups take of the arena, and give back.
struct Memory {
    /// For each group the bytes of what it stores there.
    takes: Vec<usize>,
    /// For each group the values that it reads from there.
    reads: Vec<Vec<ValueId>>,
    /// For each value its bytes in the arena.
    bytes: Vec<usize>,
    /// For each value how many groups have still to read it.
    left: Vec<usize>,
}

impl Memory {
    fn new(
        graph: &Graph,
        partition: &Partition,
        views: &Views,
        readers: &[BTreeSet<usize>],
        (in_place, written_in_place): (&BTreeSet<usize>, &BTreeSet<ValueId>),
    ) -> Self {
        let mut bytes = vec![0; graph.value_count()];
        let stored = partition.groups.iter().flat_map(|group| group.outputs.iter().copied());
        stored.for_each(|value| bytes[value.index()] = graph.ty(value).bytes());
        // What the caller keeps lies elsewhere, what is written in place where another value did.
        written_in_place.iter().for_each(|value| bytes[value.index()] = 0);
        for (at, output) in graph.outputs().iter().enumerate() {
            if in_place.contains(&at) || matches!(output.kind, OutputKind::Result) {
                bytes[views.base(output.value).index()] = 0;
            }
        }
        let mut reads = vec![Vec::new(); partition.groups.len()];
        for (value, groups) in readers.iter().enumerate().filter(|(value, _)| bytes[*value] > 0) {
            groups.iter().for_each(|&at| reads[at].push(ValueId(value as u32)));
        }
        let takes = partition.groups.iter().map(|group| group.outputs.iter().map(|value| bytes[value.index()]).sum());
        Self { takes: takes.collect(), reads, bytes, left: readers.iter().map(BTreeSet::len).collect() }
    }

    /// Whether a group may go first at all.
    fn may_go_first(&self, at: usize) -> bool {
        !self.reads[at].is_empty() || self.takes[at] <= NEXT_TO_NOTHING
    }

    /// Whether a group gives back something, and not less than it takes; or takes next to nothing.
    fn goes_first(&self, at: usize) -> bool {
        let last = self.reads[at].iter().filter(|value| self.left[value.index()] == 1);
        let given: usize = last.map(|value| self.bytes[value.index()]).sum();
        self.takes[at] <= NEXT_TO_NOTHING || (given > 0 && given >= self.takes[at])
    }

    fn run(&mut self, at: usize) {
        self.reads[at].iter().for_each(|value| self.left[value.index()] -= 1);
    }
}

/// Kahn's algorithm; ties are broken by what memory a group takes and gives back, then by the place in the partition.
fn in_order(partition: &Partition, edges: &Edges, mut memory: Memory) -> Vec<usize> {
    let count = partition.groups.len();
    let mut missing: Vec<usize> = edges.before.iter().map(BTreeSet::len).collect();
    let mut followers = vec![Vec::new(); count];
    for (at, before) in edges.before.iter().enumerate() {
        for &from in before {
            followers[from].push(at);
        }
    }
    let mut ready: BTreeSet<usize> = (0..count).filter(|&at| missing[at] == 0).collect();
    let mut eager: BTreeSet<usize> = ready.iter().copied().filter(|&at| memory.may_go_first(at)).collect();
    let mut order = Vec::new();
    while let Some(&first) = ready.first() {
        let at = eager.iter().copied().find(|&at| memory.goes_first(at)).unwrap_or(first);
        ready.remove(&at);
        eager.remove(&at);
        memory.run(at);
        if partition.groups[at].kind != GroupKind::View {
            order.push(at);
        }
        for &follower in &followers[at] {
            missing[follower] -= 1;
            if missing[follower] == 0 {
                ready.insert(follower);
                eager.extend(memory.may_go_first(follower).then_some(follower));
            }
        }
    }
    order
}
