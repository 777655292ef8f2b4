//! Launches as they are made: where each belongs, and which buffers may take another's place.

use super::memory::KernelDraft;
use super::prepare::Stage;
use super::{BufferId, LowerError, Lowering, Pending, frame};
use crate::ir::KernelBuilder;

impl Lowering<'_> {
    /// Appends the launch of a kernel that computes a frame.
    pub fn launch(&mut self, draft: KernelDraft, frame: &frame::Frame<'_>, work: usize) -> Result<(), LowerError> {
        self.launch_with(draft, frame, work, &[])
    }

    /// As [`Self::launch`], of a kernel whose members have different numbers of elements.
    pub fn launch_counted(
        &mut self,
        draft: KernelDraft,
        frame: &frame::Frame<'_>,
        work: usize,
        flops: usize,
    ) -> Result<(), LowerError> {
        self.launch(draft, frame, work)?;
        self.count(flops);
        Ok(())
    }

    /// Says how many operations the last launch is reported with, if they are others than those that it is cut by.
    pub fn count(&mut self, flops: usize) {
        let launch = self.launches().last_mut().expect("one was just appended");
        launch.flops = flops;
    }

    /// As [`Self::launch`]; `fixed` buffers are read at other points too, so nothing may take their place.
    pub fn launch_with(
        &mut self,
        draft: KernelDraft,
        frame: &frame::Frame<'_>,
        work: usize,
        fixed: &[BufferId],
    ) -> Result<(), LowerError> {
        let buffer_of = |memory: crate::ir::Memory, draft: &KernelDraft| match memory.base {
            crate::ir::Base::Param(param) => Some(draft.args[param.index()].0),
            crate::ir::Base::Scratch(_) => None,
        };
        let mut replaceable = Vec::new();
        for (&value, write) in &frame.writes {
            for memory in frame.replaceable(value) {
                let pair = (buffer_of(write.memory, &draft), buffer_of(memory, &draft));
                if let (Some(output), Some(operand)) = pair
                    && !fixed.contains(&operand)
                {
                    replaceable.push((output, operand));
                }
            }
        }
        self.append(draft, replaceable, work)
    }

    /// Appends the launch of a kernel.
    pub fn append(
        &mut self,
        draft: KernelDraft,
        replaceable: Vec<(BufferId, BufferId)>,
        work: usize,
    ) -> Result<(), LowerError> {
        let scratch = draft.builder.scratch_bytes();
        if scratch > KernelBuilder::MOST_SCRATCH {
            return Err(LowerError::Unsupported(format!("a kernel with {} GB of scratch memory", scratch >> 30)));
        }
        let (how, alternatives) = (draft.how.clone(), draft.alternatives.clone());
        let (kernel, args) = draft.finish();
        let (group, scans) = (self.group, self.scans.clone());
        self.launches().push(Pending { kernel, args, replaceable, group, scans, work, how, alternatives, flops: work });
        Ok(())
    }

    /// Says more of how the last launch does its work.
    pub fn remark(&mut self, what: &str) {
        if let Some(launch) = self.launches().last_mut() {
            launch.how = format!("{}; {what}", launch.how);
        }
    }

    /// The launches that what is made now is a part of.
    pub fn launches(&mut self) -> &mut Vec<Pending> {
        match self.stage {
            Stage::InPlace => &mut self.line.launches,
            Stage::BeforeLoop => &mut self.ahead,
            Stage::Once => &mut self.line.prepare,
        }
    }
}
