//! What is made once, before the first run, and lasts: values that depend on parameters and constants alone, and such
//! values brought into another order.
//!
//! A program that updates nothing reads its parameters and states as they were given. Whatever follows from them alone is
//! the same in every run, so its launches go to [`crate::plan::Line::prepare`] and its memory is [`Home::Lasting`]. The
//! caller asks for them anew when it has changed the parameters. Inside of a loop only the order of captured values is
//! prepared, as `nnc_opt::tidy` has moved out what else is the same in every step.

use super::memory::{BufferId, Home, Source};
use super::{LowerError, Lowering, indexed, map};
use nnc_graph::{Graph, Op, ValueId};
use nnc_opt::fuse::{Group, GroupKind};

/// For each value of a graph whether it may be made once; what may fail tells so in every run. `captured` tells it of the
/// inputs of a body. [`Lowering::settle`] takes out what is made in every run all the same.
pub fn constants(graph: &Graph, captured: impl Fn(ValueId) -> bool) -> Vec<bool> {
    let may_fail = |op: &Op| indexed::may_fail(op) || matches!(op, Op::ScatterAdd { .. });
    nnc_opt::constants::constants(graph, captured, may_fail)
}

impl Lowering<'_> {
    /// Whether a value is the same in every run.
    pub fn is_constant(&self, value: ValueId) -> bool {
        self.constants[value.index()]
    }

    /// Whether a group is computed once: all of it follows from what is made once, and none of it is given out.
    fn is_prepared(&self, group: &Group) -> bool {
        let is_inside = |value: &ValueId| self.is_constant(*value) && !self.planned.contains_key(value);
        self.scans.is_empty()
            && group.kind != GroupKind::Loop
            && group.outputs.iter().all(is_inside)
            && self.reads_constants(group)
    }

    /// Whether everything that a group reads is made once.
    fn reads_constants(&self, group: &Group) -> bool {
        let operands = group.nodes.iter().flat_map(|&id| &self.graph.node(id).operands);
        let is_own = |value: ValueId| group.nodes.contains(&self.graph.value(value).node);
        operands.filter(|operand| !is_own(**operand)).all(|&operand| self.is_constant(operand))
    }

    /// Decides whether a group, whose operands' groups are decided, is computed once. If it is not, because it shares a
    /// kernel with what changes or is given out, neither is what follows from it.
    pub fn settle(&mut self, group: &Group) -> bool {
        let prepared = self.is_prepared(group);
        let lasts = match group.kind {
            GroupKind::Leaf => true,
            GroupKind::View => self.reads_constants(group),
            _ => prepared,
        };
        if !lasts {
            let results = group.nodes.iter().flat_map(|&id| &self.graph.node(id).results);
            results.for_each(|result| self.constants[result.index()] = false);
        }
        prepared
    }

    /// Makes something that is computed once if `once` says so.
    pub fn preparing<T>(
        &mut self,
        once: bool,
        make: impl FnOnce(&mut Self) -> Result<T, LowerError>,
    ) -> Result<T, LowerError> {
        if !once {
            return make(self);
        }
        let prepares = std::mem::replace(&mut self.prepares, true);
        let scans = std::mem::take(&mut self.scans);
        // A group of a body is none of the graph around it.
        let group = if scans.is_empty() { self.group } else { self.group.take() };
        let made = make(self);
        (self.prepares, self.scans, self.group) = (prepares, scans, group);
        made
    }

    /// Memory for what is made now: it lasts if that is made once.
    pub fn memory(&mut self, bytes: usize) -> BufferId {
        let buffer = self.temporary(bytes);
        if self.prepares {
            self.buffers[buffer.index()].home = Home::Lasting;
        }
        buffer
    }

    /// A copy, in row-major order, of what lies at `source` under `dims`: `value`, or a part of it. It is made once if the
    /// value is constant.
    pub fn copied(&mut self, value: ValueId, source: Source, dims: &[usize]) -> Result<BufferId, LowerError> {
        let bytes = dims.iter().product::<usize>() * source.elem().size();
        self.preparing(self.is_constant(value), |lowering| {
            let buffer = lowering.memory(bytes);
            map::copy_as(lowering, value, source, (dims, buffer))?;
            Ok(buffer)
        })
    }
}
