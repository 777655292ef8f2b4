//! Loops are tidied: what a step does not need goes, what is the same in every step is computed before the loop.
//!
//! - Carried values, stacked values and operands that nothing needs are dropped. A carried value is needed if its last
//!   one is, or a step's needed results are made from it.
//! - A captured number, or one that every slice is, moves into the body, where other passes see it; operands that are
//!   one value become one.
//! - A node of the body whose operands are all captured is computed before the loop (loop-invariant code motion;
//!   Muchnick, "Advanced Compiler Design and Implementation", §13.2). Views and numbers stay: they cost nothing.
//!
//! Each loop that changes is one rewrite. Cost: linear in the nodes of the body for each carried value.

use crate::fuse::{Class, class};
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{BodyTypes, Graph, Node, NodeId, Op, Scan, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The graph with its own loops tidied; those inside of bodies are left.
pub fn tidy_loops(graph: &Graph, fuel: &mut Fuel) -> Graph {
    let used = used_values(graph);
    let mut rewriter = Rewriter::new(graph, fuel);
    for (id, node) in graph.nodes() {
        let Op::Scan(scan) = &node.op else {
            rewriter.copy(id);
            continue;
        };
        let operands = rewriter.operands(node);
        let plan = Plan::new(scan, &operands, &node.results, &used, rewriter.graph());
        if plan.changes() && rewriter.spend() {
            plan.apply(&mut rewriter, id, node);
        } else {
            rewriter.copy(id);
        }
    }
    rewriter.finish()
}

/// For each value whether a node or an output reads it.
fn used_values(graph: &Graph) -> Vec<bool> {
    let mut used = vec![false; graph.value_count()];
    let read = graph.nodes().flat_map(|(_, node)| node.operands.iter().copied());
    read.chain(graph.outputs().iter().map(|output| output.value)).for_each(|value| used[value.index()] = true);
    used
}

/// What becomes of an operand of the loop.
#[derive(Clone, PartialEq, Debug)]
enum Fate {
    /// It stays.
    Keep,
    /// Nothing needs it.
    Drop,
    /// It is the same value as that operand.
    SameAs(usize),
    /// It is one number everywhere: the op that makes it as a scalar.
    Sink(Op),
}

/// What is to be done with one loop.
struct Plan<'s> {
    scan: &'s Scan,
    /// The loop's operands in the new graph.
    operands: &'s [ValueId],
    /// For each operand.
    fates: Vec<Fate>,
    /// For each stacked value whether it is needed.
    stacked: Vec<bool>,
    /// For each node of the body whether a step needs it.
    live: Vec<bool>,
    /// Nodes of the body that are computed before the loop.
    hoisted: Vec<bool>,
}

impl<'s> Plan<'s> {
    fn new(scan: &'s Scan, operands: &'s [ValueId], results: &[ValueId], used: &[bool], outer: &Graph) -> Self {
        let is_used = |at: usize| used[results[at].index()];
        let stacked: Vec<bool> = (0..scan.stacked().len()).map(|at| is_used(scan.carries + at)).collect();
        let (carried, live) = needed(scan, (0..scan.carries).map(is_used).collect(), &stacked);
        let mut plan = Self { scan, operands, fates: vec![], stacked, live, hoisted: vec![] };
        for at in 0..operands.len() {
            let fate = plan.fate(at, &carried, outer);
            plan.fates.push(fate);
        }
        plan.hoisted = plan.invariants();
        plan
    }

    fn fate(&self, at: usize, carried: &[bool], outer: &Graph) -> Fate {
        if at < self.scan.carries {
            return if carried[at] { Fate::Keep } else { Fate::Drop };
        }
        if !self.live[self.scan.body.value(body_input(at)).node.index()] {
            return Fate::Drop;
        }
        let captures = self.scan.carries + self.scan.slices;
        let alike = if at < captures { self.scan.carries..at } else { captures..at };
        let twin = alike.into_iter().find(|&other| {
            self.operands[other] == self.operands[at] && matches!(self.fates[other], Fate::Keep | Fate::Sink(_))
        });
        match (twin, number(outer, self.operands[at])) {
            (Some(twin), _) => Fate::SameAs(twin),
            (None, Some(number)) => Fate::Sink(number),
            (None, None) => Fate::Keep,
        }
    }

    /// Nodes whose operands are the same in every step and that are worth a place of their own.
    fn invariants(&self) -> Vec<bool> {
        let body = &self.scan.body;
        let mut invariant = vec![false; body.value_count()];
        let captures = self.scan.carries + self.scan.slices..self.operands.len();
        captures.for_each(|at| invariant[body_input(at).index()] = true);
        let mut hoisted = vec![false; body.node_count()];
        for (id, node) in body.nodes().skip(1 + self.operands.len()) {
            if node.operands.iter().all(|operand| invariant[operand.index()]) {
                node.results.iter().for_each(|result| invariant[result.index()] = true);
                let is_cheap =
                    matches!(class(&node.op), Class::View | Class::Leaf) || matches!(node.op, Op::Iota { .. });
                hoisted[id.index()] = !is_cheap && self.live[id.index()];
            }
        }
        hoisted
    }

    fn changes(&self) -> bool {
        self.fates.iter().any(|fate| *fate != Fate::Keep)
            || self.stacked.contains(&false)
            || self.hoisted.contains(&true)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, id: NodeId, node: &Node) {
        rewriter.at(id);
        let hoisted = self.hoist(rewriter);
        let operands: Vec<ValueId> =
            self.kept().map(|at| self.operands[at]).chain(hoisted.iter().map(|&(_, outer)| outer)).collect();
        let inner: Vec<ValueId> = hoisted.iter().map(|&(inner, _)| inner).collect();
        let scan = self.rebuilt(&inner);
        rewriter.at(id);
        let carries = scan.carries;
        let results = rewriter.graph_mut().emit_all(Op::Scan(scan), &operands);
        let kept_carries = (0..self.scan.carries).filter(|&at| self.fates[at] == Fate::Keep);
        let kept_stacked = (0..self.stacked.len()).filter(|&at| self.stacked[at]);
        let stacked = kept_stacked.map(|at| self.scan.carries + at);
        debug_assert_eq!(carries, kept_carries.clone().count());
        kept_carries.chain(stacked).zip(results).for_each(|(at, new)| rewriter.replace(node.results[at], new));
    }

    /// Places of the operands that stay.
    fn kept(&self) -> impl Iterator<Item = usize> {
        (0..self.fates.len()).filter(|&at| self.fates[at] == Fate::Keep)
    }

    /// Computes what is the same in every step before the loop: values of the body that the steps read, and those that
    /// stand for them outside.
    fn hoist(&self, rewriter: &mut Rewriter<'_>) -> Vec<(ValueId, ValueId)> {
        let body = &self.scan.body;
        let mut outside: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        let captures = self.scan.carries + self.scan.slices..self.operands.len();
        outside.extend(captures.map(|at| (body_input(at), self.operands[at])));
        let placed = self.placed_before();
        for (_, node) in body.nodes().skip(1 + self.operands.len()).filter(|(id, _)| placed[id.index()]) {
            let operands: Vec<ValueId> = node.operands.iter().map(|operand| outside[operand]).collect();
            let results = rewriter.graph_mut().emit_all(node.op.clone(), &operands);
            outside.extend(node.results.iter().copied().zip(results));
        }
        let hoisted = body.nodes().filter(|(id, _)| self.hoisted[id.index()]).flat_map(|(_, node)| &node.results);
        let read = hoisted.copied().filter(|&value| self.is_read_inside(value));
        read.map(|value| (value, outside[&value])).collect()
    }

    /// Which nodes have a place before the loop: those that are hoisted, and the views and numbers that they read.
    fn placed_before(&self) -> Vec<bool> {
        let body = &self.scan.body;
        let mut placed = self.hoisted.clone();
        for (id, node) in body.nodes().rev() {
            if placed[id.index()] {
                node.operands.iter().for_each(|&operand| placed[body.value(operand).node.index()] = true);
            }
        }
        placed
    }

    /// Whether the steps themselves read a value.
    fn is_read_inside(&self, value: ValueId) -> bool {
        let body = &self.scan.body;
        let is_inside = |user: &NodeId| self.live[user.index()] && !self.hoisted[user.index()];
        let mut users = body.users(body.value(value).node).into_iter().filter(is_inside);
        users.any(|user| body.node(user).operands.contains(&value))
            || body.outputs().iter().any(|output| output.value == value)
    }

    /// The loop without what goes, and with new captured values for `hoisted` ones of the body.
    fn rebuilt(&self, hoisted: &[ValueId]) -> Scan {
        let body = &self.scan.body;
        let mut unlimited = Fuel::new(None);
        let mut rewriter = Rewriter::new(body, &mut unlimited);
        let captures = self.scan.carries + self.scan.slices;
        let inner = |range: std::ops::Range<usize>| -> Vec<ValueId> {
            range.filter(|&at| self.fates[at] == Fate::Keep).map(body_input).collect()
        };
        let groups = [
            inner(0..self.scan.carries),
            inner(self.scan.carries..captures),
            [inner(captures..self.operands.len()), hoisted.to_vec()].concat(),
        ];
        let types = |values: &[ValueId]| values.iter().map(|&value| body.ty(value).clone()).collect();
        let types = BodyTypes { carries: types(&groups[0]), slices: types(&groups[1]), captures: types(&groups[2]) };
        Scan::add_inputs(rewriter.graph_mut(), &types);
        let old = std::iter::once(self.scan.index()).chain(groups.iter().flatten().copied());
        old.zip((0..).map(ValueId)).for_each(|(old, new)| rewriter.replace(old, new));
        self.sink(&mut rewriter);
        for (id, _) in body.nodes().skip(1 + self.operands.len()) {
            if self.live[id.index()] && !self.hoisted[id.index()] {
                rewriter.copy(id);
            }
        }
        let carried = self.scan.next().into_iter().enumerate().filter(|&(at, _)| self.fates[at] == Fate::Keep);
        let stacked = self.scan.stacked().into_iter().zip(&self.stacked).filter(|(_, needed)| **needed);
        let next = carried.map(|(_, value)| value).enumerate().map(|(at, value)| (format!("next {at}"), value));
        let stacked = stacked.map(|(value, _)| value).enumerate().map(|(at, value)| (format!("stacked {at}"), value));
        let body = rewriter.finish_with_results(&next.chain(stacked).collect::<Vec<_>>());
        let (carries, slices) = (groups[0].len(), groups[1].len());
        Scan { body: Arc::new(body), carries, slices, ..self.scan.clone() }
    }

    /// Makes numbers in the body, and lets operands that are another's twin stand for it.
    fn sink(&self, rewriter: &mut Rewriter<'_>) {
        for (at, fate) in self.fates.iter().enumerate() {
            let value = match fate {
                Fate::Keep | Fate::Drop => continue,
                Fate::SameAs(twin) => rewriter.value(body_input(*twin)),
                Fate::Sink(op) => {
                    let shape = self.scan.body.ty(body_input(at)).shape.clone();
                    let scalar = rewriter.emit(op.clone(), &[]);
                    rewriter.graph_mut().broadcast_scalar(scalar, &shape)
                }
            };
            rewriter.replace(body_input(at), value);
        }
    }
}

/// What the body reads of operand `at` of the loop.
fn body_input(at: usize) -> ValueId {
    ValueId(1 + at as u32)
}

/// The carried values that are needed, and the nodes of the body.
fn needed(scan: &Scan, mut carried: Vec<bool>, stacked: &[bool]) -> (Vec<bool>, Vec<bool>) {
    let body = &scan.body;
    loop {
        let mut live = vec![false; body.node_count()];
        let flags = carried.iter().chain(stacked);
        let roots = body.outputs().iter().zip(flags).filter(|(_, needed)| **needed);
        roots.for_each(|(output, _)| live[body.value(output.value).node.index()] = true);
        for (id, node) in body.nodes().rev() {
            if live[id.index()] {
                node.operands.iter().for_each(|&operand| live[body.value(operand).node.index()] = true);
            }
        }
        let reached: Vec<bool> =
            (0..scan.carries).map(|at| carried[at] || live[body.value(scan.carry(at)).node.index()]).collect();
        if reached == carried {
            return (carried, live);
        }
        carried = reached;
    }
}

/// The op that makes a scalar which `value` repeats, if it is one number known to the compiler.
fn number(graph: &Graph, value: ValueId) -> Option<Op> {
    let mut node = graph.definition(value);
    if let Op::Broadcast { .. } | Op::Reshape(_) = node.op {
        node = graph.definition(node.operands[0]);
    }
    let is_scalar = graph.ty(node.results[0]).shape.rank() == 0;
    (is_scalar && matches!(node.op, Op::Constant(_) | Op::Extent { .. })).then(|| node.op.clone())
}
