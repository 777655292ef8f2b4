//! The walk that follows channels through graphs: from leaves to outputs, and through the bodies of loops.
//!
//! Several graphs share one table of parameters and states, so that what one program joins is joined in all.
//! On entry verified graphs with bound dims, `grad` not expanded.

use super::known::Known;
use super::labels::{Axis, Fixed, Label, Labels};
use super::rules;
use nnc_graph::{Graph, Node, NodeId, Op, OutputKind, Scan, ValueId};
use std::collections::BTreeMap;

/// The labels of a graph's values.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// Of each value, along each axis.
    pub values: Vec<Vec<Axis>>,
    /// Of the bodies of loops.
    pub bodies: BTreeMap<NodeId, Traced>,
}

/// What is followed through all graphs.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    /// Which labels stay or go together.
    pub labels: Labels,
    /// The labels of each parameter and state, by path.
    pub residents: BTreeMap<String, Vec<Axis>>,
}

impl Channels {
    /// Follows channels through a graph.
    pub fn trace(&mut self, graph: &Graph) -> Traced {
        self.walk(graph, &[]).0
    }

    /// The labels of a parameter or state; the first program that has it tells them.
    fn resident(&mut self, path: &str, sizes: &[usize]) -> Known {
        let mut known = Known::weight(sizes, &mut self.labels);
        match self.residents.get(path) {
            Some(axes) => known.axes.clone_from(axes),
            None => drop(self.residents.insert(path.to_owned(), known.axes.clone())),
        }
        known
    }

    /// Follows channels through a graph whose first inputs, those of a body, are known.
    fn walk(&mut self, graph: &Graph, inputs: &[Known]) -> (Traced, Vec<Known>) {
        let mut known: Vec<Known> = Vec::with_capacity(graph.value_count());
        let mut bodies = BTreeMap::new();
        for (id, node) in graph.nodes() {
            let results = self.results(graph, node, &known, inputs.get(id.index()));
            let (results, body) = match &node.op {
                Op::Scan(scan) => self.scan(scan, node, &known),
                _ => (results, None),
            };
            known.extend(results);
            bodies.extend(body.map(|body| (id, body)));
        }
        if inputs.is_empty() {
            self.outputs(graph, &known);
        }
        let values = known.iter().map(|value| value.axes.clone()).collect();
        (Traced { values, bodies }, known)
    }

    fn results(&mut self, graph: &Graph, node: &Node, known: &[Known], input: Option<&Known>) -> Vec<Known> {
        let operands: Vec<&Known> = node.operands.iter().map(|operand| &known[operand.index()]).collect();
        let one = match &node.op {
            Op::Input { ty, .. } => input.cloned().unwrap_or_else(|| Known::fixed(&ty.shape.sizes(), Fixed::Input)),
            Op::Param { path, ty } | Op::State { path, ty } => self.resident(path, &ty.shape.sizes()),
            Op::Grad => return operands[1..].iter().map(|&by| derivative(by)).collect(),
            Op::Scan(_) => return Vec::new(),
            op => rules::apply(op, graph.ty(node.results[0]), &operands, &mut self.labels),
        };
        vec![one]
    }

    /// A loop: what is carried has the same channels in every step.
    fn scan(&mut self, scan: &Scan, node: &Node, known: &[Known]) -> (Vec<Known>, Option<Traced>) {
        let operand = |at: usize| &known[node.operands[at].index()];
        let slices = scan.carries..scan.carries + scan.slices;
        let mut inputs = vec![Known::default()];
        for at in 0..node.operands.len() {
            let whole = operand(at);
            inputs.push(match at {
                _ if slices.contains(&at) => {
                    self.labels.fix_axis(&whole.axes[0], Fixed::Places);
                    whole.with_axes(1..whole.axes.len())
                }
                // What a step makes of it is not known yet.
                _ if at < scan.carries => Known::solid(whole.axes.clone()),
                _ => whole.clone(),
            });
        }
        let (body, inside) = self.walk(&scan.body, &inputs);
        let mut results = Vec::new();
        for (at, next) in scan.next().into_iter().enumerate() {
            inputs[1 + at].join(&inside[next.index()], &mut self.labels);
            results.push(inputs[1 + at].clone());
        }
        for value in scan.stacked() {
            let mut stacked = inside[value.index()].clone();
            stacked.axes.insert(0, Fixed::Places.axis(scan.length.size()));
            stacked.vanishes.insert(0, false);
            results.push(stacked);
        }
        (results, Some(body))
    }

    /// What is given away stays, but for what only a pass takes; what is written has the channels of what it is written
    /// to.
    fn outputs(&mut self, graph: &Graph, known: &[Known]) {
        for output in graph.outputs() {
            let value = &known[output.value.index()];
            match output.kind {
                OutputKind::Result if output.name.starts_with('$') => {}
                OutputKind::Result => value.fix(&mut self.labels, Fixed::Output),
                OutputKind::Update(target) => value.join(&known[target.index()], &mut self.labels),
            }
        }
    }
}

/// A derivative has the channels of what it is taken by; what goes has none.
fn derivative(by: &Known) -> Known {
    Known { axes: by.axes.clone(), vanishes: vec![true; by.axes.len()], zero: false }
}

impl Traced {
    /// The labels of a value along its axes.
    pub fn axes(&self, value: ValueId) -> &[Axis] {
        &self.values[value.index()]
    }

    /// Calls `visit` with each axis of each value, bodies included.
    pub fn each_axis<'t>(&'t self, visit: &mut dyn FnMut(&'t [Label])) {
        self.values.iter().flatten().for_each(|axis| visit(axis));
        self.bodies.values().for_each(|body| body.each_axis(visit));
    }
}
