//! A compiled plan as code generation sees it: kernels, and the line of launches, parts of which are loops.
//!
//! Buffer 0 is the arena; then come the externals in the plan's order. The first launches may prepare what lasts, such
//! as packed weights. The entry made of a program runs the others one after the other, those of a loop again and again;
//! each runs the phases of its kernel with a barrier after each.

pub mod verify;

use crate::ir::{Kernel, Phase};
use std::collections::BTreeSet;
use std::ops::Range;

/// The pages that [`Reuse`] is about, in bytes: the larger ones of x86-64, of which large buffers are made.
pub const PAGE: usize = 2 << 20;

/// Everything that one entry function runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Program {
    /// The kernels that launches refer to. Equal ones may occur; code is made once for each that differs.
    pub kernels: Vec<Kernel>,
    /// In order of execution.
    pub launches: Vec<Launch>,
    /// How many of them, from the first on, make what lasts from run to run as long as parameters and states stay as
    /// they are: they run when the caller asks for it, the first time at the latest. No loop reaches into them.
    pub prepare: usize,
    /// Which of them run side by side, since none reads or writes what another writes: ranges of launches of one phase
    /// each that lie apart, in order, within no loop with stages and across the bounds of none. Running them one after
    /// the other is always right.
    pub abreast: Vec<Range<usize>>,
    /// Which of them run again and again: ranges that lie within one another or apart, by where they start, outer ones
    /// first.
    pub loops: Vec<Loop>,
    /// Pages that change their place between launches that prepare, in the order of these.
    pub reused: Vec<Reuse>,
}

/// Pages of an external that is read no more, in the place of pages of the arena that nothing has touched yet. What
/// they hold there means nothing. Leaving it undone is always right; all sizes are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reuse {
    /// Behind this launch, which is the last to read the external.
    pub after: usize,
    /// Its place in the plan's externals, counted from 0.
    pub external: u32,
    /// Where they begin in it.
    pub from: usize,
    /// Where they begin in the arena.
    pub to: usize,
    /// How many they are; a multiple of [`PAGE`], as the places are.
    pub bytes: usize,
}

/// Launches that run again and again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Loop {
    /// Places in [`Program::launches`]; at least one.
    pub launches: Range<usize>,
    /// How often, ≥ 1.
    pub steps: u64,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// Where the number of the step is written before it, as i64.
    pub index: Option<ArgRef>,
    /// For each launch the stage that it belongs to, if stages may run at the same time: a stage begins a step when the
    /// one before has ended it. An inner loop is a part of one stage. Empty if every step is one line; running them so
    /// is always right. Only outermost loops have stages, and no index then; their launches are serial.
    pub stages: Vec<u32>,
}

impl Loop {
    /// How many stages there are, at least 1.
    pub fn stage_count(&self) -> u32 {
        self.stages.iter().max().map_or(1, |last| last + 1)
    }
}

/// One run of a kernel: all its phases in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Launch {
    /// A place in [`Program::kernels`].
    pub kernel: u32,
    /// The memory of each of the kernel's parameters.
    pub args: Vec<ArgRef>,
    /// Whether it is too small for the pool by itself: then the calling thread runs every task.
    pub serial: bool,
    /// What it takes, in a unit that all launches share, at least 1.
    pub work: u64,
}

impl Launch {
    /// What a task of a phase takes, at least 1.
    pub fn work_of_task(&self, phase: &Phase) -> u64 {
        (self.work / phase.tasks.max(1)).max(1)
    }

    /// The buffers that it is given; one may come several times.
    fn buffers(&self) -> impl Iterator<Item = u32> {
        self.args.iter().map(|arg| arg.buffer)
    }
}

/// A place in a buffer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ArgRef {
    /// 0 is the arena, then the externals.
    pub buffer: u32,
    /// Bytes from the buffer's start; a multiple of the size of the parameter's element.
    pub offset: u64,
    /// How the place moves with the steps of the loops around.
    pub strides: Vec<Stride>,
}

/// How a place moves with the steps of a loop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stride {
    /// How many loops stand around the one that is meant.
    pub depth: u32,
    /// Bytes from step to step; a multiple of the size of the parameter's element.
    pub bytes: i64,
}

impl ArgRef {
    /// A place that does not move.
    pub fn new(buffer: u32, offset: u64) -> Self {
        Self { buffer, offset, strides: Vec::new() }
    }

    /// The place in one step of the loops around, the outermost first.
    ///
    /// # Panics
    /// If there are fewer loops than it moves with, or the place lies before the buffer: a bug in the plan.
    pub fn at(&self, steps: &[u64]) -> Self {
        let moved = self.strides.iter().map(|stride| stride.bytes * steps[stride.depth as usize] as i64).sum();
        let offset = self.offset.checked_add_signed(moved).expect("a place in the buffer");
        Self::new(self.buffer, offset)
    }
}

impl Program {
    /// How often each launch runs in a run: the product of the steps of the loops around it, and 0 for what is
    /// prepared.
    pub fn runs(&self) -> Vec<u64> {
        let around = |at: usize| self.loops.iter().filter(move |each| each.launches.contains(&at));
        let runs = |at: usize| if at < self.prepare { 0 } else { around(at).map(|each| each.steps).product() };
        (0..self.launches.len()).map(runs).collect()
    }

    /// For each launch that prepares, the externals that nothing after it reads while what was made of them lasts:
    /// their places in the plan's externals, counted from 0.
    pub fn spent(&self) -> Vec<Vec<u32>> {
        let mut needed: BTreeSet<u32> = self.launches[self.prepare..].iter().flat_map(Launch::buffers).collect();
        needed.extend(self.loops.iter().filter_map(|each| Some(each.index.as_ref()?.buffer)));
        // The arena is never given up.
        needed.insert(0);
        let preparing = self.launches[..self.prepare].iter().rev();
        let mut spent: Vec<Vec<u32>> = preparing
            .map(|launch| launch.buffers().filter(|&buffer| needed.insert(buffer)).map(|buffer| buffer - 1).collect())
            .collect();
        spent.reverse();
        spent
    }

    /// The launches that run together with this one, which is the first of them.
    pub fn together(&self, first: usize) -> Range<usize> {
        let known = self.abreast.binary_search_by_key(&first, |range| range.start);
        known.map_or(first..first + 1, |at| self.abreast[at].clone())
    }

    /// The stage that a launch belongs to, counted from 0, and how many its loop has; none if the loops around it run
    /// step after step.
    pub fn stage(&self, launch: usize) -> Option<(u32, u32)> {
        let staged = self.loops.iter().find(|each| !each.stages.is_empty() && each.launches.contains(&launch))?;
        Some((staged.stages[launch - staged.launches.start], staged.stage_count()))
    }

    /// Bytes of scratch memory that each thread needs.
    pub fn scratch_bytes(&self) -> u32 {
        self.kernels.iter().map(|kernel| kernel.scratch).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_is_spent_by_the_last_launch_that_prepares_from_it() {
        let launch = |buffers: &[u32]| Launch {
            kernel: 0,
            args: buffers.iter().map(|&buffer| ArgRef::new(buffer, 0)).collect(),
            serial: true,
            work: 1,
        };
        let launches = vec![launch(&[1, 2, 0]), launch(&[1, 1, 0]), launch(&[3, 0]), launch(&[0, 2, 4])];
        let index = Some(ArgRef::new(3, 0));
        let each = Loop { launches: 3..4, steps: 2, reverse: false, index, stages: vec![] };
        let program = Program { launches, prepare: 3, loops: vec![each], ..Program::default() };
        assert_eq!(program.spent(), [vec![], vec![0], vec![]]);
        assert_eq!(Program { loops: Vec::new(), ..program.clone() }.spent(), [vec![], vec![0], vec![2]]);
        assert!(Program { prepare: 0, ..program }.spent().is_empty());
    }
}
