//! Cutting a body out of the graph it was evaluated in.

use nnc_graph::{BodyTypes, Graph, NodeId, Op, Scan, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Which nodes make the body.
pub struct Cut {
    /// The number of the step, what is carried, slices: as the body was evaluated on them.
    stand_ins: Vec<ValueId>,
    /// What the body gives: next carried values, then what is stacked.
    ends: Vec<ValueId>,
    /// The nodes of the body.
    nodes: BTreeSet<NodeId>,
    /// Values that it reads from outside.
    captures: Vec<ValueId>,
}

impl Cut {
    /// The part of the nodes from `begin` on that the ends need and that depends on a stand-in. Constants come along,
    /// so that rules which look for them find them. So does all that a derivative in the body goes through, wherever it
    /// was made: what is captured is a leaf there, that nothing is derived through.
    pub fn new(graph: &Graph, begin: NodeId, stand_ins: &[ValueId], ends: &[ValueId]) -> Self {
        let mut inside = dependents(graph, begin, stand_ins);
        loop {
            let cut = Self::of(graph, &inside, stand_ins, ends);
            let known = inside.len();
            let grads = cut.nodes.iter().map(|&id| graph.node(id)).filter(|node| node.op == Op::Grad);
            for grad in grads {
                // Each by itself: one may follow from another.
                grad.operands[1..].iter().for_each(|&wrt| inside.extend(between(graph, wrt, grad.operands[0])));
            }
            if inside.len() == known {
                return cut;
            }
        }
    }

    /// What the ends need, of values that belong into the body.
    fn of(graph: &Graph, inside: &BTreeSet<ValueId>, stand_ins: &[ValueId], ends: &[ValueId]) -> Self {
        let mut cut =
            Self { stand_ins: stand_ins.to_vec(), ends: ends.to_vec(), nodes: BTreeSet::new(), captures: vec![] };
        let mut open = ends.to_vec();
        let mut seen = BTreeSet::new();
        while let Some(value) = open.pop() {
            if stand_ins.contains(&value) || !seen.insert(value) {
                continue;
            }
            if inside.contains(&value) || is_constant(graph, value) {
                let id = graph.value(value).node;
                cut.nodes.insert(id);
                open.extend(graph.node(id).operands.iter().copied());
            } else {
                cut.captures.push(value);
            }
        }
        cut.captures.sort_unstable();
        cut
    }

    /// The body as a graph of its own, and what it captures.
    pub fn body(self, graph: &Graph, carries: usize) -> (Graph, Vec<ValueId>) {
        let ty = |&value: &ValueId| graph.ty(value).clone();
        let types = BodyTypes {
            carries: self.stand_ins[1..=carries].iter().map(ty).collect(),
            slices: self.stand_ins[1 + carries..].iter().map(ty).collect(),
            captures: self.captures.iter().map(ty).collect(),
        };
        let mut body = Scan::inputs("body", &types);
        let inputs = self.stand_ins.iter().chain(&self.captures).copied();
        let mut map: BTreeMap<ValueId, ValueId> = inputs.zip((0..).map(ValueId)).collect();
        for &id in &self.nodes {
            let node = graph.node(id);
            let origin = graph.origin_of(node).map(|origin| body.intern_origin(origin.clone()));
            body.set_origin(origin);
            let operands: Vec<ValueId> = node.operands.iter().map(|operand| map[operand]).collect();
            let results = body.add(node.op.clone(), &operands);
            let results = results.unwrap_or_else(|error| panic!("compiler bug: cutting out {id}: {error}"));
            for (&old, new) in node.results.iter().zip(results) {
                if let Some(name) = &graph.value(old).name {
                    body.set_name(new, name);
                }
                map.insert(old, new);
            }
        }
        body.set_origin(None);
        let ends: Vec<ValueId> = self.ends.iter().map(|end| map[end]).collect();
        let (next, stacked) = ends.split_at(carries);
        Scan::outputs(&mut body, next, stacked);
        (body, self.captures)
    }
}

/// The values from `begin` on that follow from one of some, and these.
fn dependents(graph: &Graph, begin: NodeId, of: &[ValueId]) -> BTreeSet<ValueId> {
    let mut depends: BTreeSet<ValueId> = of.iter().copied().collect();
    for (_, node) in graph.nodes().skip(begin.index()) {
        let is_one = node.results.iter().any(|result| of.contains(result));
        if !is_one && !node.op.is_leaf() && node.operands.iter().any(|operand| depends.contains(operand)) {
            depends.extend(node.results.iter().copied());
        }
    }
    depends
}

/// The values by way of which `to` follows from a value, `to` among them; that one itself is not.
fn between(graph: &Graph, from: ValueId, to: ValueId) -> Vec<ValueId> {
    let after = dependents(graph, graph.value(from).node, &[from]);
    let is_way = |value: &ValueId| after.contains(value) && *value != from;
    let (mut open, mut found) = (vec![to], BTreeSet::new());
    while let Some(value) = open.pop() {
        if is_way(&value) && found.insert(value) {
            open.extend(&graph.definition(value).operands);
        }
    }
    found.into_iter().collect()
}

/// Whether a value is data, perhaps repeated or converted.
fn is_constant(graph: &Graph, value: ValueId) -> bool {
    let node = graph.definition(value);
    match node.op {
        Op::Constant(_) | Op::Extent { .. } | Op::Iota { .. } => true,
        Op::Broadcast { .. } | Op::Cast(_) | Op::Reshape(_) => is_constant(graph, node.operands[0]),
        _ => false,
    }
}
