//! Which loops follow one another step by step, and what a block of their steps reads.

use super::blocked;
use nnc_graph::{Graph, Node, NodeId, Op, Scan, ValueId};
use std::collections::BTreeMap;

/// Most multiply-adds of a step, twice, that one thread is to do: heavier products are worth all threads.
const LIGHT_STEP: usize = 1 << 20;
/// Most bytes that a loop may capture: a thread alone is to find them in its own cache, as threads that share a step do
/// of more.
const MOST_CAPTURED: usize = 1 << 19;
/// Fewest steps of a block: products of fewer rows make less of a core.
const LEAST_BLOCK: usize = 8;
/// Fewest blocks: the last loop waits for the first block of the first one, which does nothing in the last block.
const LEAST_BLOCKS: usize = 4;

/// Loops that become one over blocks.
#[derive(Clone, Debug)]
pub struct Chain {
    /// In program order; each reads what an earlier one stacks.
    pub scans: Vec<NodeId>,
    /// Steps of each.
    pub steps: usize,
    /// Steps of a block; divides them.
    pub block: usize,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// What else a block needs, by value.
    pub reads: BTreeMap<ValueId, Read>,
}

/// How a block comes by a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// Its steps along the axis are cut into blocks.
    Scanned(usize),
    /// It reads the whole.
    Captured,
    /// It makes the constant itself.
    Constant,
    /// It computes its steps, which lie along the axis.
    Made(usize),
}

/// The first chain of a graph with at least so much work, in operations of products.
pub fn find(graph: &Graph, least_work: usize) -> Option<Chain> {
    let candidates: Vec<NodeId> =
        graph.nodes().filter(|(_, node)| loop_of(node).is_some_and(is_light)).map(|(id, _)| id).collect();
    let chains = candidates.iter().enumerate().filter_map(|(at, &first)| {
        let start = Chain::start(graph, first)?;
        let longer = |chain: Chain, &next: &NodeId| chain.extended(graph, next).unwrap_or(chain);
        Some(candidates[at + 1..].iter().fold(start, longer))
    });
    let mut chains = chains.filter(|chain| chain.scans.len() > 1 && chain.work(graph) >= least_work);
    chains.next()
}

fn loop_of(node: &Node) -> Option<&Scan> {
    match &node.op {
        Op::Scan(scan) => Some(scan),
        _ => None,
    }
}

/// Whether a loop may be a part of a chain: its steps are light, have no loops, and do not know their number. Every dim
/// is bound.
fn is_light(scan: &Scan) -> bool {
    let body = &scan.body;
    let reads_index = body.nodes().any(|(_, node)| node.operands.contains(&scan.index()))
        || body.outputs().iter().any(|output| output.value == scan.index());
    let has_loop = body.nodes().any(|(_, node)| loop_of(node).is_some());
    let captured: usize = (0..scan.captures()).map(|at| body.ty(scan.capture(at)).bytes()).sum();
    let is_light = step_work(scan) <= LIGHT_STEP && captured <= MOST_CAPTURED;
    scan.length.as_number().is_some() && !reads_index && !has_loop && is_light
}

/// Operations of the products of a step.
fn step_work(scan: &Scan) -> usize {
    let body = &scan.body;
    let work = |node: &Node| match &node.op {
        Op::Dot { a_axes, .. } => {
            let a = &body.ty(node.operands[0]).shape;
            let terms: usize = a_axes.iter().map(|&axis| a[axis].size()).product();
            2 * terms * body.ty(node.results[0]).shape.elements().size()
        }
        _ => 0,
    };
    body.nodes().map(|(_, node)| work(node)).sum()
}

/// The least number of steps that makes a good block, if one divides them.
fn block_of(steps: usize) -> Option<usize> {
    (LEAST_BLOCK..=steps / LEAST_BLOCKS).find(|block| steps.is_multiple_of(*block))
}

impl Chain {
    /// A chain of one loop.
    fn start(graph: &Graph, first: NodeId) -> Option<Self> {
        let scan = loop_of(graph.node(first))?;
        let steps = scan.length.size();
        let block = block_of(steps)?;
        let empty = Self { scans: vec![], steps, block, reverse: scan.reverse, reads: BTreeMap::new() };
        empty.with(graph, first)
    }

    /// The chain with one more loop, if that walks the same way and reads what the others stack step by step alone.
    fn extended(&self, graph: &Graph, next: NodeId) -> Option<Self> {
        let node = graph.node(next);
        let scan = loop_of(node)?;
        let follows = self.follows(graph);
        let is_next = follows[next.index()] && scan.length.is(self.steps as i64) && scan.reverse == self.reverse;
        is_next.then(|| self.with(graph, next)).flatten()
    }

    fn with(&self, graph: &Graph, next: NodeId) -> Option<Self> {
        let node = graph.node(next);
        let scan = loop_of(node)?;
        let mut search = Search { graph, follows: self.follows(graph), chain: self.clone() };
        let (carried, rest) = node.operands.split_at(scan.carries);
        let (slices, captures) = rest.split_at(scan.slices);
        if carried.iter().any(|&value| search.does_follow(value)) {
            return None;
        }
        slices.iter().try_for_each(|&value| search.blocks(value, 0, true))?;
        captures.iter().try_for_each(|&value| search.whole(value))?;
        let mut chain = search.chain;
        chain.scans.push(next);
        Some(chain)
    }

    /// The loops in their order.
    pub fn loops<'g>(&self, graph: &'g Graph) -> impl Iterator<Item = (&'g Node, &'g Scan)> {
        self.scans.iter().filter_map(|&id| Some((graph.node(id), loop_of(graph.node(id))?)))
    }

    /// The first carried values of all loops.
    pub fn carried(&self, graph: &Graph) -> impl Iterator<Item = ValueId> {
        self.loops(graph).flat_map(|(node, scan)| node.operands[..scan.carries].iter().copied())
    }

    /// What is scanned block by block, and the axis of its steps.
    pub fn scanned(&self) -> impl Iterator<Item = (ValueId, usize)> {
        self.reads.iter().filter_map(|(&value, read)| match *read {
            Read::Scanned(axis) => Some((value, axis)),
            Read::Captured | Read::Constant | Read::Made(_) => None,
        })
    }

    /// What every block reads whole.
    pub fn captured(&self) -> impl Iterator<Item = ValueId> {
        self.reads.iter().filter(|(_, read)| **read == Read::Captured).map(|(&value, _)| value)
    }

    /// For each node whether it is one of the loops, or needs what they give.
    pub fn follows(&self, graph: &Graph) -> Vec<bool> {
        let mut follows = vec![false; graph.node_count()];
        for (id, node) in graph.nodes() {
            let needs = node.operands.iter().any(|&operand| follows[graph.value(operand).node.index()]);
            follows[id.index()] = needs || self.scans.contains(&id);
        }
        follows
    }

    /// Operations of the products of all steps.
    fn work(&self, graph: &Graph) -> usize {
        self.loops(graph).map(|(_, scan)| self.steps * step_work(scan)).sum()
    }
}

/// The search for what a block reads when a chain gets one more loop.
struct Search<'g> {
    graph: &'g Graph,
    follows: Vec<bool>,
    chain: Chain,
}

impl Search<'_> {
    fn does_follow(&self, value: ValueId) -> bool {
        self.follows[self.graph.value(value).node.index()]
    }

    /// Sees to it that a block has its steps of a value, which lie along `axis`. What does not follow from the chain is
    /// computed in the block only if nothing else wants it, up to the next product (`is_near`).
    fn blocks(&mut self, value: ValueId, axis: usize, is_near: bool) -> Option<()> {
        if let Some(known) = self.chain.reads.get(&value) {
            return matches!(*known, Read::Scanned(along) | Read::Made(along) if along == axis).then_some(());
        }
        let (graph, id) = (self.graph, self.graph.value(value).node);
        let node = graph.node(id);
        if self.chain.scans.contains(&id) {
            let is_stack = loop_of(node).is_some_and(|scan| node.results[scan.carries..].contains(&value));
            return (is_stack && axis == 0).then_some(());
        }
        let rule = blocked::operands(graph, node, axis);
        let is_own = is_near && rule.is_some() && graph.users(id).len() == 1;
        if !self.does_follow(value) && !is_own {
            self.chain.reads.insert(value, Read::Scanned(axis));
            return Some(());
        }
        let is_near = is_near && !matches!(node.op, Op::Dot { .. });
        for (&operand, along) in node.operands.iter().zip(rule?) {
            match along {
                Some(axis) => self.blocks(operand, axis, is_near)?,
                None => self.whole(operand)?,
            }
        }
        self.chain.reads.insert(value, Read::Made(axis));
        Some(())
    }

    /// Sees to it that a block can read the whole of a value.
    fn whole(&mut self, value: ValueId) -> Option<()> {
        let read = match self.graph.definition(value).op {
            Op::Constant(_) => Read::Constant,
            _ => Read::Captured,
        };
        let known = *self.chain.reads.entry(value).or_insert(read);
        (known == read && !self.does_follow(value)).then_some(())
    }
}
