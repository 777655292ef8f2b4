//! What is made ahead of where it is used: once, before the first run, or before the first step of a loop.
//!
//! A program that updates no parameter reads its weights as they were given. Whatever follows from them, and from
//! states that it does not update either, is the same in every run, so its launches go to
//! [`crate::plan::Line::prepare`] and its memory is [`Home::Lasting`]. The caller asks for them anew when it has
//! changed the parameters.
//!
//! Inside of a loop only captured values are brought into another order ahead, as `nnc_opt::tidy` has moved out what
//! else is the same in every step: once if they are the same in every run, else before the first step.

use super::memory::{BufferId, Home, Source};
use super::{LowerError, Lowering, indexed, map};
use nnc_graph::{Graph, Op, ValueId};
use nnc_opt::fuse::{Class, Group, GroupKind, class};

/// When something runs that is made for others to use, the earliest last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Where it is used.
    InPlace,
    /// Before the first step of the innermost loop.
    BeforeLoop,
    /// Before the first run, for all of them.
    Once,
}

/// For each value of a graph whether it may be made once; what may fail tells so in every run. `captured` tells it of
/// the inputs of a body. [`Lowering::settle`] takes out what is made in every run all the same.
pub fn constants(graph: &Graph, captured: impl Fn(ValueId) -> bool) -> Vec<bool> {
    let may_fail = |op: &Op| indexed::may_fail(op) || matches!(op, Op::ScatterAdd { .. });
    nnc_opt::constants::constants(graph, captured, may_fail)
}

impl Lowering<'_> {
    /// Whether a value is the same in every run.
    pub fn is_constant(&self, value: ValueId) -> bool {
        self.holds(&self.constants, value)
    }

    /// Whether a value is the same in every step of the innermost loop, if not in every run.
    pub fn is_fixed(&self, value: ValueId) -> bool {
        self.is_constant(value) || self.holds(&self.fixed, value)
    }

    /// Whether something holds of a value, and of all that it is a view of. Views have no kernel, so the schedule may
    /// put them before the groups that make what they are views of.
    fn holds(&self, of: &[bool], mut value: ValueId) -> bool {
        while of[value.index()] {
            let node = self.graph.definition(value);
            if class(&node.op) != Class::View {
                return true;
            }
            value = node.operands[0];
        }
        false
    }

    /// When what follows from a value alone is made.
    pub fn stage_of(&self, value: ValueId) -> Stage {
        match (self.is_constant(value), self.is_fixed(value)) {
            (true, _) => Stage::Once,
            (false, true) => Stage::BeforeLoop,
            (false, false) => Stage::InPlace,
        }
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

    /// Decides whether a group, whose operands' kernels are decided, is computed once. If it is not, because it shares
    /// a kernel with what changes or is given out, neither is what follows from it.
    pub fn settle(&mut self, group: &Group) -> bool {
        if matches!(group.kind, GroupKind::Leaf | GroupKind::View) {
            return false;
        }
        let prepared = self.is_prepared(group);
        for &result in group.nodes.iter().flat_map(|&id| &self.graph.node(id).results) {
            self.constants[result.index()] &= prepared;
            self.fixed[result.index()] = false;
        }
        prepared
    }

    /// Makes something at a stage, or as early as what it is a part of.
    pub fn preparing<T>(
        &mut self,
        stage: Stage,
        make: impl FnOnce(&mut Self) -> Result<T, LowerError>,
    ) -> Result<T, LowerError> {
        if stage <= self.stage {
            return make(self);
        }
        let before = std::mem::replace(&mut self.stage, stage);
        let around = match stage {
            Stage::InPlace | Stage::Once => 0,
            Stage::BeforeLoop => self.scans.len() - 1,
        };
        let around = self.scans[..around].to_vec();
        let scans = std::mem::replace(&mut self.scans, around);
        // A group of a body is none of the graph around it.
        let group = if scans.is_empty() { self.group } else { self.group.take() };
        let made = make(self);
        (self.stage, self.scans, self.group) = (before, scans, group);
        made
    }

    /// Memory for what is made now: it lasts if that is made once.
    pub fn memory(&mut self, bytes: usize) -> BufferId {
        let buffer = self.temporary(bytes);
        if self.stage == Stage::Once {
            self.buffers[buffer.index()].home = Home::Lasting;
        }
        buffer
    }

    /// A copy, in row-major order, of what lies at `source` under `dims`: `value`, or a part of it. It is made as
    /// early as the value allows.
    pub fn copied(&mut self, value: ValueId, source: Source, dims: &[usize]) -> Result<BufferId, LowerError> {
        let bytes = dims.iter().product::<usize>() * source.elem().size();
        self.preparing(self.stage_of(value), |lowering| {
            let buffer = lowering.memory(bytes);
            map::copy_as(lowering, value, source, (dims, buffer))?;
            Ok(buffer)
        })
    }
}
