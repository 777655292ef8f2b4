//! What a derivative in the body of a `scan` does not see: the ways by which something from outside of the loop reaches
//! a loss from earlier steps.
//!
//! A step differentiates what it computes itself; what is carried into it is a leaf there. So `grad(loss, wrt=x)` would
//! be less than that of the unrolled loop where the loss reads a carry that depends on `x`, by its first value or by
//! its update. Such a derivative is refused (E0204), and so is one by a tensor of which the loss reads the slice that
//! the loop walks. A value that the step makes is another one in each step: nothing of it comes from an earlier one.

use super::{Carried, Sliced};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::elaborate::Elaborator;
use nnc_graph::{NodeId, Op, UnaryOp, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// What the bodies of loops differentiate, and where they have what they read from.
#[derive(Debug, Default)]
pub struct Earlier {
    /// The derivatives in bodies, in order.
    grads: Vec<Taken>,
    /// Of what stands in a body for a carried value or a slice, the values outside that it is one after the other.
    sources: BTreeMap<ValueId, Vec<ValueId>>,
}

/// A derivative that a body takes.
#[derive(Debug)]
struct Taken {
    loss: ValueId,
    by: Vec<ValueId>,
    span: Span,
}

/// Where in [`Earlier`] a loop begins.
#[derive(Clone, Copy)]
pub(super) struct Begin {
    grads: usize,
    /// The unknown branches so far.
    branches: usize,
    /// The first node of its body.
    pub(super) node: NodeId,
}

impl Elaborator<'_> {
    /// Remembers a derivative that the body of a loop takes.
    pub(in crate::elaborate) fn note_grad(&mut self, loss: ValueId, by: &[ValueId], span: Span) {
        if self.in_scan() {
            self.earlier.grads.push(Taken { loss, by: by.to_vec(), span });
        }
    }

    /// A loop whose body begins with the next node.
    pub(super) fn begin_loop(&self) -> Begin {
        let node = NodeId(self.graph.node_count() as u32);
        Begin { grads: self.earlier.grads.len(), branches: self.branched, node }
    }

    /// What stands in a body for a value from outside.
    pub(super) fn stands_for(&mut self, stand_in: ValueId, outside: ValueId) {
        self.earlier.sources.entry(stand_in).or_default().push(outside);
    }

    /// Reports the derivatives of a body that would lack what came by way of earlier steps.
    pub(super) fn refuse_earlier(&mut self, begin: Begin, carried: &[Carried<'_>], slices: &[Sliced<'_>]) {
        if self.generic && self.branched != begin.branches {
            return; // Of two branches that no use takes both, one may carry and the other differentiate.
        }
        let mut found: Vec<Diagnostic> = Vec::new();
        for taken in &self.earlier.grads[begin.grads..] {
            let read = self.reached_from(&[taken.loss]);
            let outside: Vec<ValueId> = taken.by.iter().copied().filter(|&by| self.is_outside(by, begin)).collect();
            let lost = |stand_in: ValueId| {
                let sources = self.earlier.sources.get(&stand_in).filter(|_| read.contains(&stand_in))?;
                let reached = self.reached_from(sources);
                outside.iter().copied().find(|by| reached.contains(by))
            };
            let carry = carried.iter().find_map(|carried| Some((carried, lost(carried.stand_in)?)));
            if let Some((carried, by)) = carry {
                found.push(self.by_way_of_carry(taken, by, carried));
                continue;
            }
            let slice = slices.iter().find_map(|sliced| Some((sliced, lost(sliced.stand_in)?)));
            found.extend(slice.map(|(sliced, by)| self.by_way_of_slice(taken, by, sliced)));
        }
        found.into_iter().for_each(|diagnostic| self.report(diagnostic));
    }

    /// Whether a value is one and the same in every step: it was made before the loop, or is a leaf.
    fn is_outside(&self, value: ValueId, begin: Begin) -> bool {
        self.graph.value(value).node < begin.node || self.graph.definition(value).op.is_leaf()
    }

    /// The values that a derivative of these leads to, these among them; in loops by way of all steps before.
    fn reached_from(&self, from: &[ValueId]) -> BTreeSet<ValueId> {
        let (mut open, mut found) = (from.to_vec(), BTreeSet::new());
        while let Some(value) = open.pop() {
            if !self.ty(value).dtype.is_float() || !found.insert(value) {
                continue;
            }
            let node = self.graph.definition(value);
            match (self.earlier.sources.get(&value), &node.op) {
                (Some(sources), _) => open.extend(sources),
                (None, Op::StopGradient) => {}
                (None, Op::Unary(UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round)) => {}
                (None, _) => open.extend(&node.operands),
            }
        }
        found
    }

    fn by_way_of_carry(&self, taken: &Taken, by: ValueId, carried: &Carried<'_>) -> Diagnostic {
        let (by, name) = (self.name_of(by), &carried.name.text);
        let message = format!("{by} reaches this loss from earlier steps too, by way of the carry `{name}`");
        let help = format!(
            "a `grad` in the body is of this step alone: write `stop_gradient({name})` in the loss where `{name}` is \
             meant as a constant, or differentiate what the `scan` gives"
        );
        let diagnostic = Diagnostic::new(Code::E0204, taken.span, message);
        diagnostic.with(carried.name.span, format!("`{name}` comes from the step before")).help(help)
    }

    fn by_way_of_slice(&self, taken: &Taken, by: ValueId, sliced: &Sliced<'_>) -> Diagnostic {
        let (by, name) = (self.name_of(by), &sliced.name.text);
        let message = format!("{by} reaches this loss also by way of `{name}`, which a step only has a slice of");
        let help = format!("differentiate by `{name}`, or write `stop_gradient({name})` in the loss");
        let diagnostic = Diagnostic::new(Code::E0204, taken.span, message);
        diagnostic.with(sliced.name.span, format!("`{name}` is a slice of it")).help(help)
    }

    /// What a message calls a value.
    fn name_of(&self, value: ValueId) -> String {
        let named = self.named.get(&value).map(|name| format!("`{name}`"));
        named.unwrap_or_else(|| match &self.graph.definition(value).op {
            Op::Param { path, .. } => format!("`{path}`"),
            _ => "what this is differentiated by".to_owned(),
        })
    }
}
