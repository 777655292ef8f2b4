//! The patch API: how a pass makes a new graph out of an old one.
//!
//! A pass walks the old graph in program order and, for each node, either copies it or builds something else and
//! says which new value stands for each old one. The [`Rewriter`] keeps that mapping, carries names and origins over,
//! and maps the outputs in the end, also the parameter or state that an update writes.
//!
//! On entry the old graph is verified; every value that an output or a copied node uses must be mapped before it is
//! used. Cost: linear in the number of nodes.

use nnc_graph::{Graph, Node, NodeId, Op, Output, OutputKind, Scan, TensorType, ValueId};
use std::sync::Arc;

/// How many rewrites may still be made: the means to find the rewrite that breaks something by bisection.
#[derive(Clone, Debug)]
pub struct Fuel {
    left: Option<u64>,
    spent: u64,
}

impl Fuel {
    /// As many rewrites as `limit` says; `None` is any number.
    pub fn new(limit: Option<u64>) -> Self {
        Self { left: limit, spent: 0 }
    }

    /// Whether one more rewrite may be made; if so it counts.
    pub fn spend(&mut self) -> bool {
        if self.left == Some(0) {
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        self.spent += 1;
        true
    }

    /// Number of rewrites made.
    pub fn spent(&self) -> u64 {
        self.spent
    }
}

/// A new graph in the making; see the module.
pub struct Rewriter<'a> {
    old: &'a Graph,
    new: Graph,
    map: Vec<Option<ValueId>>,
    fuel: &'a mut Fuel,
}

impl<'a> Rewriter<'a> {
    /// Starts with an empty graph that has the old one's name and origins.
    pub fn new(old: &'a Graph, fuel: &'a mut Fuel) -> Self {
        Self { old, new: old.successor(), map: vec![None; old.value_count()], fuel }
    }

    /// The graph that is read. The reference outlives the rewriter's own borrow, so nodes can be walked while writing.
    pub fn old(&self) -> &'a Graph {
        self.old
    }

    /// The graph as far as it is written.
    pub fn graph(&self) -> &Graph {
        &self.new
    }

    /// The graph that is written, for what the rewriter has no method for.
    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.new
    }

    /// Asks for one rewrite; see [`Fuel::spend`].
    pub fn spend(&mut self) -> bool {
        self.fuel.spend()
    }

    /// The new value that stands for an old one.
    ///
    /// # Panics
    /// If none does yet: a bug in the pass.
    pub fn value(&self, old: ValueId) -> ValueId {
        self.map[old.index()].unwrap_or_else(|| panic!("compiler bug: {old} is used before it is mapped"))
    }

    /// The new value that stands for an old one, if one does yet.
    pub fn mapped(&self, old: ValueId) -> Option<ValueId> {
        self.map[old.index()]
    }

    /// The new values that stand for a node's operands.
    pub fn operands(&self, node: &Node) -> Vec<ValueId> {
        node.operands.iter().map(|&operand| self.value(operand)).collect()
    }

    /// The op and the operands of the new node that defines a new value.
    pub fn definition(&self, new: ValueId) -> (&Op, &[ValueId]) {
        let node = self.new.definition(new);
        (&node.op, &node.operands)
    }

    /// The type of a new value.
    pub fn ty(&self, new: ValueId) -> &TensorType {
        self.new.ty(new)
    }

    /// Nodes emitted from here on come from where the old node does.
    pub fn at(&mut self, node: NodeId) {
        self.new.set_origin(self.old.node(node).origin);
    }

    /// Appends a node with one result to the new graph, at the current origin.
    pub fn emit(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.new.emit(op, operands)
    }

    /// Copies an old node with its operands mapped, its origin and its results' names.
    ///
    /// # Panics
    /// If the mapped operands no longer fit the op: a bug in the pass.
    pub fn copy(&mut self, node: NodeId) -> Vec<ValueId> {
        self.copy_as(node, self.old.node(node).op.clone())
    }

    /// As [`Rewriter::copy`], with another op of the same type.
    ///
    /// # Panics
    /// As [`Rewriter::copy`].
    pub fn copy_as(&mut self, node: NodeId, op: Op) -> Vec<ValueId> {
        self.at(node);
        let old = self.old.node(node);
        let operands = self.operands(old);
        let results =
            self.new.add(op, &operands).unwrap_or_else(|error| panic!("compiler bug: copying {node}: {error}"));
        for (&from, &to) in old.results.iter().zip(&results) {
            self.replace(from, to);
        }
        results
    }

    /// From here on `new` stands for `old`; it gets the user's name unless it has one, or is a leaf or a constant.
    pub fn replace(&mut self, old: ValueId, new: ValueId) {
        self.map[old.index()] = Some(new);
        let op = &self.new.definition(new).op;
        let fixed = (op.is_leaf() || matches!(op, Op::Constant(_))) && *op != self.old.definition(old).op;
        if let Some(name) = &self.old.value(old).name
            && self.new.value(new).name.is_none()
            && !fixed
        {
            self.new.set_name(new, name);
        }
    }

    /// Declares the old graph's outputs on the new values and gives the new graph.
    pub fn finish(self) -> Graph {
        self.finish_with(|_| true)
    }

    /// As [`Rewriter::finish`], with some of the outputs.
    pub fn finish_with(mut self, is_kept: impl Fn(&Output) -> bool) -> Graph {
        for output in self.old.outputs().iter().filter(|output| is_kept(output)) {
            let kind = match output.kind {
                OutputKind::Result => OutputKind::Result,
                OutputKind::Update(target) => OutputKind::Update(self.value(target)),
            };
            let value = self.value(output.value);
            self.new.add_output(&output.name, value, kind);
        }
        self.new.set_origin(None);
        self.new
    }

    /// Gives the new graph with results of its own instead of the old graph's outputs: new values, by name.
    pub fn finish_on(mut self, results: &[(String, ValueId)]) -> Graph {
        for (name, value) in results {
            self.new.add_output(name, *value, OutputKind::Result);
        }
        self.new.set_origin(None);
        self.new
    }

    /// As [`Rewriter::finish_on`], of old values.
    pub fn finish_with_results(self, results: &[(String, ValueId)]) -> Graph {
        let results: Vec<_> = results.iter().map(|(name, old)| (name.clone(), self.value(*old))).collect();
        self.finish_on(&results)
    }
}

/// The graph with other results instead of its outputs: values of it, by name. Every id stays.
pub fn with_results(graph: &Graph, results: &[(String, ValueId)]) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    graph.nodes().for_each(|(id, _)| drop(rewriter.copy(id)));
    rewriter.finish_with_results(results)
}

/// A pass on a graph and on the bodies of its loops, from the outside in.
pub fn everywhere(graph: &Graph, fuel: &mut Fuel, pass: &impl Fn(&Graph, &mut Fuel) -> Graph) -> Graph {
    let graph = pass(graph, fuel);
    if !graph.nodes().any(|(_, node)| matches!(node.op, Op::Scan(_))) {
        return graph;
    }
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(&graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        match &node.op {
            Op::Scan(scan) => rewriter.copy_as(id, with_body(scan, |body| everywhere(body, fuel, pass))),
            _ => rewriter.copy(id),
        };
    }
    rewriter.finish()
}

/// A loop whose body went through a pass.
pub fn with_body(scan: &Scan, pass: impl FnOnce(&Graph) -> Graph) -> Op {
    Op::Scan(Scan { body: Arc::new(pass(&scan.body)), ..scan.clone() })
}
