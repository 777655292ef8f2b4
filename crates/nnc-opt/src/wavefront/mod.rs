//! Loops that follow one another become one loop over blocks of steps, so that they can run side by side.
//!
//! The layers of a recurrent network are loops of which each reads, in a step, what the one before stacked in that
//! step:
//!
//! ```text
//! a = scan(x)                        for each block:  a' = scan(block of x)
//! z = a @ w                    →                      z' = a' @ w
//! b = scan(z)                                         b' = scan(z')
//! ```
//!
//! On a second processor the first loop can then be a block ahead of the second one: a wavefront (Lamport, "The
//! Parallel Execution of DO Loops", 1974). Who runs what, and when, the plan decides (`nnc-kernel`); here the loops
//! only get the form in which it can. The order of every sum stays, so do the bits.
//!
//! What lies between two loops goes into the block where it treats steps one by one ([`blocked`] knows the ops that
//! do), and so does the product that the first loop scans. The rest is captured, or scanned block by block. Loops whose
//! body reads the number of the step, or that begin with what another one of the chain ends with, are left; so are
//! heavy steps, whose products are worth all threads by themselves, and graphs that update parameters, where weights
//! would be packed in every block.
//!
//! Cost: for each pair of loops the nodes of the graph.

mod blocked;
mod chain;

use crate::rewrite::{Fuel, Rewriter};
use chain::{Chain, Read};
use nnc_graph::{BodyTypes, Dim, Graph, Node, Op, Scan, Shape, TensorType, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The graph with its chains of loops that do at least so much work, in operations of products, made loops over blocks,
/// if it has any.
pub fn block_loops(graph: &Graph, least_work: usize) -> Option<Graph> {
    if !graph.keeps_parameters() {
        return None;
    }
    let mut made = rewritten(graph, &chain::find(graph, least_work)?);
    while let Some(chain) = chain::find(&made, least_work) {
        made = rewritten(&made, &chain);
    }
    Some(made)
}

/// The graph with one chain as a loop over blocks, behind everything that does not follow from it.
fn rewritten(graph: &Graph, chain: &Chain) -> Graph {
    let follows = chain.follows(graph);
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, _) in graph.nodes().filter(|(id, _)| !follows[id.index()]) {
        rewriter.copy(id);
    }
    rewriter.at(chain.scans[chain.scans.len() - 1]);
    emit(&mut rewriter, chain);
    for (id, _) in graph.nodes().filter(|(id, _)| follows[id.index()] && !chain.scans.contains(id)) {
        rewriter.copy(id);
    }
    rewriter.finish()
}

/// Emits the loop over blocks, and lets its results stand for those of the chain's loops.
fn emit(rewriter: &mut Rewriter<'_>, chain: &Chain) {
    let graph = rewriter.old();
    let scanned: Vec<ValueId> = chain
        .reads
        .iter()
        .filter_map(|(&value, read)| match *read {
            Read::Scanned(axis) => Some(in_blocks(rewriter, value, axis, chain)),
            Read::Captured | Read::Constant | Read::Made(_) => None,
        })
        .collect();
    let carried: Vec<ValueId> = chain.carried(graph).map(|value| rewriter.value(value)).collect();
    let captured: Vec<ValueId> = chain.captured().map(|value| rewriter.value(value)).collect();
    let body = Body::new(graph, chain).finish();
    let (carries, slices) = (carried.len(), scanned.len());
    let length = Dim::from(chain.steps / chain.block);
    let scan = Scan { body: Arc::new(body), length, reverse: chain.reverse, carries, slices };
    let mut results = rewriter.graph_mut().emit_all(Op::Scan(scan), &[carried, scanned, captured].concat()).into_iter();
    for (node, scan) in chain.loops(graph) {
        let last = node.results[..scan.carries].iter().zip(results.by_ref());
        last.for_each(|(&old, new)| rewriter.replace(old, new));
    }
    for (node, scan) in chain.loops(graph) {
        for &old in &node.results[scan.carries..] {
            let Some(blocks) = results.next() else { return };
            let whole = rewriter.emit(Op::Reshape(graph.ty(old).shape.clone()), &[blocks]);
            rewriter.replace(old, whole);
        }
    }
}

/// A value with its steps, which lie along `axis`, cut into blocks along two axes in front.
fn in_blocks(rewriter: &mut Rewriter<'_>, old: ValueId, axis: usize, chain: &Chain) -> ValueId {
    let mut value = rewriter.value(old);
    let mut shape = rewriter.ty(value).shape.0.clone();
    if axis > 0 {
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.remove(axis);
        order.insert(0, axis);
        value = rewriter.emit(Op::Transpose(order), &[value]);
        let steps = shape.remove(axis);
        shape.insert(0, steps);
    }
    shape.splice(..1, [Dim::from(chain.steps / chain.block), Dim::from(chain.block)]);
    rewriter.emit(Op::Reshape(Shape(shape)), &[value])
}

/// The body of a loop over blocks in the making.
struct Body<'g> {
    graph: &'g Graph,
    chain: &'g Chain,
    new: Graph,
    /// For values of the graph what the body has in their place: a block of it, or the whole.
    made: BTreeMap<ValueId, ValueId>,
    /// The inputs that are carried, in order.
    carried: std::ops::Range<u32>,
}

impl<'g> Body<'g> {
    /// A body that has its inputs.
    fn new(graph: &'g Graph, chain: &'g Chain) -> Self {
        let ty = |value: ValueId| graph.ty(value).clone();
        let carries: Vec<TensorType> = chain.carried(graph).map(ty).collect();
        let scanned: Vec<(ValueId, usize)> = chain.scanned().collect();
        let block = |&(value, axis): &(ValueId, usize)| {
            let mut shape = graph.ty(value).shape.0.clone();
            shape.remove(axis);
            shape.insert(0, Dim::from(chain.block));
            TensorType::new(graph.ty(value).dtype, shape)
        };
        let slices: Vec<TensorType> = scanned.iter().map(block).collect();
        let captures: Vec<TensorType> = chain.captured().map(ty).collect();
        let carried = 1..1 + carries.len() as u32;
        let types = BodyTypes { carries, slices, captures };
        let mut new = graph.successor();
        Scan::add_inputs(&mut new, &types);
        let mut body = Self { graph, chain, new, made: BTreeMap::new(), carried };
        let mut next = body.carried.end;
        for (value, axis) in scanned {
            let turned = body.turned_back(ValueId(next), axis);
            body.made.insert(value, turned);
            next += 1;
        }
        body.made.extend(chain.captured().zip((next..).map(ValueId)));
        body
    }

    /// A scanned block with its steps along `axis` again.
    fn turned_back(&mut self, block: ValueId, axis: usize) -> ValueId {
        if axis == 0 {
            return block;
        }
        let order = (1..=axis).chain([0]).chain(axis + 1..self.new.ty(block).shape.rank()).collect();
        self.new.emit(Op::Transpose(order), &[block])
    }

    /// The body with what a block computes: the loops in their order, and what they read before them.
    fn finish(mut self) -> Graph {
        let (mut last, mut stacked) = (Vec::new(), Vec::new());
        let graph = self.graph;
        for (id, node) in graph.nodes() {
            self.new.set_origin(node.origin);
            match (&node.op, self.chain.reads.get(node.results.first().unwrap_or(&ValueId(0)))) {
                (Op::Scan(scan), _) if self.chain.scans.contains(&id) => {
                    let results = self.inner(node, scan);
                    last.extend_from_slice(&results[..scan.carries]);
                    stacked.extend_from_slice(&results[scan.carries..]);
                }
                (op, Some(Read::Constant)) => {
                    let value = self.new.emit(op.clone(), &[]);
                    self.made.insert(node.results[0], value);
                }
                (op, Some(&Read::Made(axis))) => {
                    let operands: Vec<ValueId> = node.operands.iter().map(|operand| self.made[operand]).collect();
                    let value = self.new.emit(blocked::resized(op, axis, self.chain.block), &operands);
                    self.made.insert(node.results[0], value);
                }
                _ => {}
            }
        }
        Scan::outputs(&mut self.new, &last, &stacked);
        self.new
    }

    /// One loop of the chain over the steps of a block.
    fn inner(&mut self, node: &Node, scan: &Scan) -> Vec<ValueId> {
        let carried: Vec<ValueId> = self.carried.by_ref().take(scan.carries).map(ValueId).collect();
        let others = node.operands[scan.carries..].iter().map(|operand| self.made[operand]);
        let operands: Vec<ValueId> = carried.into_iter().chain(others).collect();
        let scan = Scan { length: Dim::from(self.chain.block), ..scan.clone() };
        let results = self.new.emit_all(Op::Scan(scan), &operands);
        self.made.extend(node.results.iter().copied().zip(results.iter().copied()));
        results
    }
}
