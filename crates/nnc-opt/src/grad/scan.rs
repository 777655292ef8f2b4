//! The derivative of a loop is a loop that walks back.
//!
//! The body of the backward loop is the derivative of one step: it carries the cotangents of what the loop carries, and
//! takes for each step the cotangents of what was stacked. Of the step's own values it needs some again: what only
//! moves elements is made anew, everything else is stacked by the forward loop, which becomes a second loop with more
//! results ([`share`] makes one of the two). Captured values, the same in every step, get the sum of their cotangents
//! over the steps. A sum of products is one product that also contracts the steps, and a sum of sums is one sum, both
//! behind the loop; what is neither is carried along. (Griewank and Walther, "Evaluating Derivatives", 2nd ed., ch. 4;
//! for the products behind the loop: Appleyard, Kočiský, Blunsom 2016.)

use super::builder::Builder;
use super::pull_back;
use crate::rewrite::{Fuel, Rewriter, with_results};
use crate::simplify::matching::number;
use nnc_graph::{BodyTypes, Graph, Node, NodeId, Op, ReduceOp, Scan, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The cotangents of a loop's operands, where they are wanted and not 0.
pub fn vjp(
    graph: &mut Graph,
    (scan, operands, results): (&Scan, &[ValueId], &[ValueId]),
    cotangents: &[Option<ValueId>],
    wanted: &[bool],
) -> Vec<Option<ValueId>> {
    let step = Step::new(scan, cotangents, wanted);
    let plan = Plan::new(&step);
    let saved = plan.saved_by_forward(graph, (scan, operands, results));
    let backward = plan.emit(graph, (scan, operands), cotangents, &saved);
    let mut parts = vec![None; operands.len()];
    for (part, &wrt) in step.wrt.iter().enumerate() {
        parts[wrt.index() - 1] = plan.part(graph, part, &backward, (scan, operands, &saved));
    }
    // A carried value whose first one is not differentiated by took part only for the steps behind it.
    parts.iter_mut().zip(wanted).filter(|(_, wanted)| !**wanted).for_each(|(part, _)| *part = None);
    parts
}

/// The derivative of one step: the body, and behind it its cotangents.
struct Step<'s> {
    scan: &'s Scan,
    graph: Graph,
    /// How many nodes the body has.
    forward: usize,
    /// The inputs of the body that are differentiated by.
    wrt: Vec<ValueId>,
    /// Their cotangents.
    cotangents: Vec<Option<ValueId>>,
    /// For each float carried value the cotangent of its next one.
    of_next: BTreeMap<usize, ValueId>,
    /// For each stacked value with a cotangent, that.
    of_stacked: BTreeMap<usize, ValueId>,
}

impl<'s> Step<'s> {
    fn new(scan: &'s Scan, cotangents: &[Option<ValueId>], wanted: &[bool]) -> Self {
        let mut graph = (*scan.body).clone();
        let forward = graph.node_count();
        let mut seeds = Vec::new();
        let mut seed = |graph: &mut Graph, value: ValueId| {
            let ty = graph.ty(value).clone();
            let cotangent = graph.emit(Op::Input { name: format!("cotangent {}", seeds.len()), ty }, &[]);
            seeds.push((value, cotangent));
            cotangent
        };
        let is_float = |graph: &Graph, value: ValueId| graph.ty(value).dtype.is_float();
        let next: Vec<_> = scan.next().into_iter().enumerate().filter(|&(_, value)| is_float(&graph, value)).collect();
        let of_next = next.into_iter().map(|(at, value)| (at, seed(&mut graph, value))).collect();
        let stacked = scan.stacked().into_iter().enumerate();
        let stacked = stacked.filter(|&(at, _)| cotangents[scan.carries + at].is_some());
        let of_stacked = stacked.map(|(at, value)| (at, seed(&mut graph, value))).collect();
        let inputs = (0..wanted.len()).map(|at| (at, ValueId(1 + at as u32)));
        let wrt: Vec<ValueId> = inputs
            .filter(|&(at, input)| is_float(&graph, input) && (at < scan.carries || wanted[at]))
            .map(|(_, input)| input)
            .collect();
        let cotangents = pull_back(&mut graph, &seeds, &wrt, usize::MAX);
        Self { scan, graph, forward, wrt, cotangents, of_next, of_stacked }
    }

    fn is_forward(&self, value: ValueId) -> bool {
        self.graph.value(value).node.index() < self.forward
    }

    /// The place of an input of the body among the operands of the loop.
    fn operand(&self, value: ValueId) -> Option<usize> {
        let last = self.scan.carries + self.scan.slices + self.scan.captures();
        (1..=last).contains(&value.index()).then(|| value.index() - 1)
    }

    fn is_slice(&self, value: ValueId) -> bool {
        self.operand(value).is_some_and(|at| (self.scan.carries..self.scan.carries + self.scan.slices).contains(&at))
    }

    fn is_capture(&self, value: ValueId) -> bool {
        self.operand(value).is_some_and(|at| at >= self.scan.carries + self.scan.slices)
    }

    /// Whether the backward step makes a value of the forward step anew from its operands.
    fn is_made_anew(&self, value: ValueId) -> bool {
        matches!(
            self.graph.definition(value).op,
            Op::Constant(_)
                | Op::Extent { .. }
                | Op::Iota { .. }
                | Op::Cast(_)
                | Op::Reshape(_)
                | Op::Transpose(_)
                | Op::Broadcast { .. }
                | Op::Slice(_)
        )
    }

    /// Whether a value differs from step to step and has a stack: what is no capture and not made anew.
    fn stacks(&self, value: ValueId) -> bool {
        !self.is_forward(value) || !(self.is_capture(value) || self.is_made_anew(value) || value == self.scan.index())
    }
}

/// A value of every step, stacked: by the forward or by the backward loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stacked(ValueId);

/// The cotangent of a captured value, as the sum over all steps.
#[derive(Debug)]
enum Total {
    /// A product that contracts the steps too.
    Dot(Op, Stacked, Stacked),
    /// A sum over the steps too, of these axes of a step's value.
    Sum(Stacked, Vec<usize>),
    /// A linear op of another total.
    Through(Op, Box<Total>),
    /// Two totals added.
    Both(Box<Total>, Box<Total>),
    /// Carried by the backward loop, as the accumulator with that number.
    Carried(usize),
}

/// What the two loops stack and carry.
struct Plan<'s> {
    step: &'s Step<'s>,
    /// For each captured value among [`Step::wrt`] its total, by its place there.
    totals: BTreeMap<usize, Total>,
    /// Values of the forward step that the forward loop stacks, or the slices that it takes.
    saved: Vec<ValueId>,
    /// Values of the backward step that it stacks.
    stacked: Vec<ValueId>,
    /// Cotangents that it adds up.
    accumulated: Vec<ValueId>,
    /// Nodes of the backward body.
    nodes: BTreeSet<NodeId>,
}

impl<'s> Plan<'s> {
    fn new(step: &'s Step<'s>) -> Self {
        let mut plan = Self {
            step,
            totals: BTreeMap::new(),
            saved: vec![],
            stacked: vec![],
            accumulated: vec![],
            nodes: BTreeSet::new(),
        };
        for (part, (&wrt, &cotangent)) in step.wrt.iter().zip(&step.cotangents).enumerate() {
            let Some(cotangent) = cotangent else { continue };
            if step.is_capture(wrt) {
                let total = plan.total(cotangent);
                plan.totals.insert(part, total);
            } else if step.is_slice(wrt) {
                plan.stack(cotangent);
            }
        }
        let carried = step.wrt.iter().zip(&step.cotangents).filter(|(wrt, _)| wrt.index() <= step.scan.carries);
        let carried: Vec<ValueId> = carried.filter_map(|(_, cotangent)| *cotangent).collect();
        let roots = [carried, plan.stacked.clone(), plan.accumulated.clone()].concat();
        roots.into_iter().for_each(|root| plan.need(root));
        plan
    }

    fn total(&mut self, cotangent: ValueId) -> Total {
        let node = self.step.graph.definition(cotangent).clone();
        if self.step.is_forward(cotangent) {
            return self.accumulate(cotangent);
        }
        match &node.op {
            Op::Dot { batch: 0, .. } if node.operands.iter().all(|&operand| self.step.stacks(operand)) => {
                Total::Dot(node.op.clone(), self.stack(node.operands[0]), self.stack(node.operands[1]))
            }
            Op::Reduce { op: ReduceOp::Sum, axes } if self.step.stacks(node.operands[0]) => {
                Total::Sum(self.stack(node.operands[0]), axes.clone())
            }
            Op::Transpose(_) | Op::Reshape(_) => {
                Total::Through(node.op.clone(), Box::new(self.total(node.operands[0])))
            }
            Op::Binary(nnc_graph::BinaryOp::Add) => {
                let (first, second) = (self.total(node.operands[0]), self.total(node.operands[1]));
                Total::Both(Box::new(first), Box::new(second))
            }
            _ => self.accumulate(cotangent),
        }
    }

    fn accumulate(&mut self, cotangent: ValueId) -> Total {
        self.accumulated.push(cotangent);
        Total::Carried(self.accumulated.len() - 1)
    }

    /// Sees to it that a value is stacked.
    fn stack(&mut self, value: ValueId) -> Stacked {
        let list = if self.step.is_forward(value) { &mut self.saved } else { &mut self.stacked };
        if !list.contains(&value) {
            list.push(value);
        }
        Stacked(value)
    }

    /// Sees to it that the backward step has a value.
    fn need(&mut self, value: ValueId) {
        let step = self.step;
        if step.is_forward(value) {
            let is_there = value == step.scan.index() || step.is_capture(value);
            if !is_there && !step.is_made_anew(value) {
                self.stack(value);
                return;
            }
            if is_there {
                return;
            }
        }
        let node = step.graph.value(value).node;
        if self.nodes.insert(node) {
            step.graph.node(node).operands.clone().into_iter().for_each(|operand| self.need(operand));
        }
    }

    /// The stacks of [`Plan::saved`] in the outer graph: scanned operands, results of the loop, or of a second loop
    /// that stacks more.
    fn saved_by_forward(
        &self,
        graph: &mut Graph,
        (scan, operands, results): (&Scan, &[ValueId], &[ValueId]),
    ) -> BTreeMap<ValueId, ValueId> {
        let mut found = BTreeMap::new();
        let known = scan.stacked();
        let mut more = Vec::new();
        for &value in &self.saved {
            if self.step.is_slice(value) {
                found.extend(self.step.operand(value).map(|at| (value, operands[at])));
            } else if let Some(at) = known.iter().position(|&stacked| stacked == value) {
                found.insert(value, results[scan.carries + at]);
            } else {
                more.push(value);
            }
        }
        if more.is_empty() {
            return found;
        }
        let forward = with_stacked(scan, &[known.clone(), more.clone()].concat());
        let results = graph.emit_all(Op::Scan(forward), operands);
        found.extend(more.iter().enumerate().map(|(at, &value)| (value, results[scan.carries + known.len() + at])));
        found
    }

    /// Appends the backward loop, and gives its results.
    fn emit(
        &self,
        graph: &mut Graph,
        (scan, operands): (&Scan, &[ValueId]),
        cotangents: &[Option<ValueId>],
        saved: &BTreeMap<ValueId, ValueId>,
    ) -> Vec<ValueId> {
        let step = self.step;
        let inner = &step.graph;
        let ty = |value: ValueId| inner.ty(value).clone();
        let captured: Vec<ValueId> =
            (0..scan.captures()).map(|at| scan.capture(at)).filter(|&capture| self.reads(capture)).collect();
        let carried: Vec<ValueId> = step.of_next.keys().map(|&at| scan.carry(at)).collect();
        let types = BodyTypes {
            carries: carried.iter().chain(&self.accumulated).map(|&value| ty(value)).collect(),
            slices: self.saved.iter().chain(step.of_stacked.values()).map(|&value| ty(value)).collect(),
            captures: captured.iter().map(|&value| ty(value)).collect(),
        };
        let mut body = Scan::inputs("backward", &types);
        let loop_of = |body: Graph| Scan {
            body: Arc::new(body),
            length: scan.length.clone(),
            reverse: !scan.reverse,
            carries: types.carries.len(),
            slices: types.slices.len(),
        };
        let shape_of_body = loop_of(body.clone());
        let mut map = BTreeMap::from([(scan.index(), shape_of_body.index())]);
        map.extend(step.of_next.values().enumerate().map(|(at, &value)| (value, shape_of_body.carry(at))));
        let slices = self.saved.iter().chain(step.of_stacked.values()).enumerate();
        map.extend(slices.map(|(at, &value)| (value, shape_of_body.slice(at))));
        map.extend(captured.iter().enumerate().map(|(at, &value)| (value, shape_of_body.capture(at))));
        self.copy_nodes(&mut body, &mut map);
        let next: Vec<ValueId> = self.next(&mut body, &map, &shape_of_body);
        let stacked: Vec<ValueId> = self.stacked.iter().map(|value| map[value]).collect();
        Scan::outputs(&mut body, &next, &stacked);
        let first = |graph: &mut Graph, ty: &TensorType| graph.splat(ty, 0.0);
        let mut given = Vec::new();
        for (&at, ty) in step.of_next.keys().zip(&types.carries) {
            given.push(cotangents[at].unwrap_or_else(|| first(graph, ty)));
        }
        for ty in &types.carries[step.of_next.len()..] {
            given.push(first(graph, ty));
        }
        given.extend(self.saved.iter().map(|value| saved[value]));
        given.extend(step.of_stacked.keys().filter_map(|&at| cotangents[scan.carries + at]));
        given.extend(captured.iter().filter_map(|&capture| step.operand(capture).map(|at| operands[at])));
        graph.emit_all(Op::Scan(loop_of(body)), &given)
    }

    /// Whether a node of the backward body has the value as an operand, or it is a result itself.
    fn reads(&self, value: ValueId) -> bool {
        let by_node = |&id: &NodeId| self.step.graph.node(id).operands.contains(&value);
        self.accumulated.contains(&value)
            || self.step.cotangents.contains(&Some(value))
            || self.nodes.iter().any(by_node)
    }

    fn copy_nodes(&self, body: &mut Graph, map: &mut BTreeMap<ValueId, ValueId>) {
        for &id in &self.nodes {
            let node: &Node = self.step.graph.node(id);
            if node.results.iter().all(|result| map.contains_key(result)) {
                continue;
            }
            let operands: Vec<ValueId> = node.operands.iter().map(|operand| map[operand]).collect();
            let results = body.add(node.op.clone(), &operands);
            let results = results.unwrap_or_else(|error| panic!("compiler bug: the derivative of a loop: {error}"));
            map.extend(node.results.iter().copied().zip(results));
        }
    }

    /// The cotangents that the backward body carries on, and its accumulators with the step's share.
    fn next(&self, body: &mut Graph, map: &BTreeMap<ValueId, ValueId>, backward: &Scan) -> Vec<ValueId> {
        let step = self.step;
        let mut next = Vec::new();
        for &at in step.of_next.keys() {
            let carry = step.scan.carry(at);
            let part = step.wrt.iter().position(|&wrt| wrt == carry);
            let cotangent = part.and_then(|part| step.cotangents[part]).map(|value| map[&value]);
            next.push(cotangent.unwrap_or_else(|| body.splat(step.graph.ty(carry), 0.0)));
        }
        for (at, &value) in self.accumulated.iter().enumerate() {
            let so_far = backward.carry(step.of_next.len() + at);
            next.push(self.added(body, so_far, (value, map)));
        }
        next
    }

    /// An accumulator with a step's share. One that is 0 but for a part, as that of a value which each step reads one
    /// row of, is added where that part is: the rest is not touched.
    fn added(
        &self,
        body: &mut Graph,
        so_far: ValueId,
        (share, map): (ValueId, &BTreeMap<ValueId, ValueId>),
    ) -> ValueId {
        let node = self.step.graph.definition(share);
        let is_of_zeros = |at: usize| number(&self.step.graph, node.operands[at]) == Some(0.0);
        let operand = |at: usize| map[&node.operands[at]];
        let starts = || (2..node.operands.len()).map(operand);
        match &node.op {
            Op::DynamicUpdate { axes } if is_of_zeros(0) => {
                let shape = body.ty(operand(1)).shape.clone();
                let part = axes.iter().zip(starts()).fold(so_far, |part, (&axis, start)| {
                    body.emit(Op::DynamicSlice { axis, size: shape[axis].clone() }, &[part, start])
                });
                let part = Builder::new(body).add(part, operand(1));
                body.emit(node.op.clone(), &[so_far, part].into_iter().chain(starts()).collect::<Vec<_>>())
            }
            Op::ScatterAdd { .. } if is_of_zeros(0) => body.emit(node.op.clone(), &[so_far, operand(1), operand(2)]),
            _ => Builder::new(body).add(so_far, map[&share]),
        }
    }

    /// The cotangent of [`Step::wrt`]'s entry `part` by the results of the backward loop.
    fn part(
        &self,
        graph: &mut Graph,
        part: usize,
        backward: &[ValueId],
        (scan, operands, saved): (&Scan, &[ValueId], &BTreeMap<ValueId, ValueId>),
    ) -> Option<ValueId> {
        let (step, wrt) = (self.step, self.step.wrt[part]);
        let cotangent = step.cotangents[part]?;
        if wrt.index() <= scan.carries {
            let at = step.of_next.keys().position(|&at| scan.carry(at) == wrt)?;
            return Some(backward[at]);
        }
        let outer = Outer { plan: self, backward, saved, operands };
        Some(match self.totals.get(&part) {
            Some(total) => outer.total(graph, total),
            None => outer.stack(Stacked(cotangent)),
        })
    }
}

/// What the totals are made of in the outer graph.
struct Outer<'a> {
    plan: &'a Plan<'a>,
    backward: &'a [ValueId],
    saved: &'a BTreeMap<ValueId, ValueId>,
    operands: &'a [ValueId],
}

impl Outer<'_> {
    fn stack(&self, value: Stacked) -> ValueId {
        let (plan, Stacked(value)) = (self.plan, value);
        if plan.step.is_forward(value) {
            let scanned = plan.step.operand(value).filter(|_| plan.step.is_slice(value)).map(|at| self.operands[at]);
            return scanned.unwrap_or_else(|| self.saved[&value]);
        }
        let carried = plan.step.of_next.len() + plan.accumulated.len();
        let at = plan.stacked.iter().position(|&stacked| stacked == value);
        self.backward[carried + at.unwrap_or_else(|| unreachable!("compiler bug: a total of what is not stacked"))]
    }

    fn total(&self, graph: &mut Graph, total: &Total) -> ValueId {
        match total {
            Total::Dot(op, a, b) => {
                let (a, b) = (self.stack(*a), self.stack(*b));
                graph.emit(over_steps(op), &[a, b])
            }
            Total::Sum(x, axes) => {
                let x = self.stack(*x);
                Builder::new(graph).sum(x, with_steps(axes))
            }
            Total::Through(op, inner) => {
                let inner = self.total(graph, inner);
                graph.emit(op.clone(), &[inner])
            }
            Total::Both(first, second) => {
                let (first, second) = (self.total(graph, first), self.total(graph, second));
                Builder::new(graph).add(first, second)
            }
            Total::Carried(at) => self.backward[self.plan.step.of_next.len() + at],
        }
    }
}

/// Axes of a step's value, and the steps, in its stack.
fn with_steps(axes: &[usize]) -> Vec<usize> {
    std::iter::once(0).chain(axes.iter().map(|axis| axis + 1)).collect()
}

/// The product of two stacks that is the sum of the steps' products.
fn over_steps(op: &Op) -> Op {
    match op {
        Op::Dot { a_axes, b_axes, .. } => Op::Dot { batch: 0, a_axes: with_steps(a_axes), b_axes: with_steps(b_axes) },
        other => unreachable!("compiler bug: `{}` is no product", other.name()),
    }
}

/// The loop with other values stacked.
fn with_stacked(scan: &Scan, stacked: &[ValueId]) -> Scan {
    let mut body = with_results(&scan.body, &[]);
    Scan::outputs(&mut body, &scan.next(), stacked);
    Scan { body: Arc::new(body), ..scan.clone() }
}

/// The graph in which loops with the same steps over the same operands are one, which stacks what any of them does.
pub fn share(graph: &Graph) -> Graph {
    let loops: Vec<(NodeId, &Node, &Scan)> = graph
        .nodes()
        .filter_map(|(id, node)| match &node.op {
            Op::Scan(scan) => Some((id, node, scan)),
            _ => None,
        })
        .collect();
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        let Op::Scan(scan) = &node.op else {
            rewriter.copy(id);
            continue;
        };
        let twins: Vec<_> = loops.iter().filter(|(_, other, body)| are_twins((node, scan), (other, body))).collect();
        if twins.first().is_some_and(|(first, ..)| *first < id) {
            continue; // its results were mapped with those of the first
        }
        let mut stacked: Vec<ValueId> = Vec::new();
        for value in twins.iter().flat_map(|(_, _, twin)| twin.stacked()) {
            if !stacked.contains(&value) {
                stacked.push(value);
            }
        }
        let operands = rewriter.operands(node);
        rewriter.at(id);
        let results = rewriter.graph_mut().emit_all(Op::Scan(with_stacked(scan, &stacked)), &operands);
        for (_, twin, body) in twins {
            let places =
                body.stacked().into_iter().filter_map(|value| stacked.iter().position(|&known| known == value));
            let places = (0..scan.carries).chain(places.map(|at| scan.carries + at));
            twin.results.iter().zip(places).for_each(|(&old, at)| rewriter.replace(old, results[at]));
        }
    }
    rewriter.finish()
}

fn are_twins((node, scan): (&Node, &Scan), (other, twin): (&Node, &Scan)) -> bool {
    let outline = |scan: &Scan| (scan.length.clone(), scan.reverse, scan.carries, scan.slices);
    node.operands == other.operands
        && outline(scan) == outline(twin)
        && scan.next() == twin.next()
        && scan.body.nodes().eq(twin.body.nodes())
}
