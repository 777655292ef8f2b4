//! Loops whose stages run at the same time.
//!
//! Neighbouring stages form a group for each thread, and a group is a task of a launch of the pool. It goes through the
//! steps, and through its stages in each; before a step it waits until the group before has ended that step, which it
//! sees by a counter.
//!
//! **No deadlock.** A group waits only for the one before. No thread has more than one group of its own, and the thread
//! that launches takes tasks from the first on, its own and then those of others, so when it takes a group, those
//! before have been taken; the first group that is not done waits for nobody and runs, or will be taken by that thread,
//! which never waits for a group behind its own. A pool that is taken runs all groups one after the other, each to its
//! end, which is right, too: what a stage hands on is there for every step.

use crate::abi::{Context, Part, StageFn};
use crate::pool::{Counter, Pool, spin_until};
use crate::seat::{Job, Parts};
use std::sync::atomic::Ordering;

/// Most groups: more threads than this do not help a loop.
const MOST_GROUPS: usize = 16;

/// A loop that runs.
struct Pipeline {
    context: *mut Context,
    stages: *const StageFn,
    count: usize,
    steps: u64,
    groups: usize,
    /// How many steps each group has ended.
    ended: [Counter; MOST_GROUPS],
}

/// Runs a loop on a pool. `scratch` is the memory of thread 0; that of thread `i` lies `i * scratch_stride` bytes
/// further.
///
/// # Safety
/// For the length of this call: `stages` has `count` functions that may be called with `context` and the numbers below
/// `steps` as [`Table::pipeline`](crate::abi::Table::pipeline) tells, from any thread, and the scratch memory has a
/// place for each thread of the pool that is used by nothing else.
pub(crate) unsafe fn run(
    pool: &Pool,
    context: *mut Context,
    (stages, count): (*const StageFn, usize),
    steps: u64,
    (scratch, scratch_stride): (*mut u8, usize),
) {
    let groups = pool.threads().min(count).clamp(1, MOST_GROUPS);
    let ended = Default::default();
    let pipeline = Pipeline { context, stages, count, steps, groups, ended };
    let args = [std::ptr::from_ref(&pipeline).cast_mut().cast::<u8>()];
    let parts = Parts::One(Part { kernel: run_groups, args: args.as_ptr(), tasks: groups as u64, work: 1 });
    let job = Job { parts, scratch, scratch_stride };
    // SAFETY: `run_groups` reads the pipeline, which outlives the launch, and calls what the caller vouches for.
    unsafe { pool.launch(job) };
}

/// The kernel of such a launch: its tasks are groups.
unsafe extern "C" fn run_groups(args: *const *mut u8, begin: u64, end: u64, scratch: *mut u8) {
    // SAFETY: `run` passes a pipeline that lives until all tasks are done, and nobody writes it but by its atomics.
    let pipeline = unsafe { &*(*args).cast::<Pipeline>() };
    for group in begin..end {
        // SAFETY: passed on to the caller of `run`.
        unsafe { pipeline.run_group(group as usize, scratch) };
    }
}

impl Pipeline {
    /// All steps of a group.
    ///
    /// # Safety
    /// As [`run`], with scratch memory of this thread.
    unsafe fn run_group(&self, group: usize, scratch: *mut u8) {
        let first = |group: usize| (group * self.count).div_ceil(self.groups);
        for step in 0..self.steps {
            if let Some(before) = group.checked_sub(1) {
                self.wait(before, step);
            }
            for stage in first(group)..first(group + 1) {
                // SAFETY: `stage` is below `count`; the stage before has ended this step, as it is in this group, or in
                // the one before, which was waited for.
                unsafe { (*self.stages.add(stage))(self.context, step, scratch) };
            }
            self.ended[group].0.store(step + 1, Ordering::Release);
        }
    }

    /// Waits until a group has ended a step. Another thread runs it at this moment, so this is short unless the system
    /// has taken that thread's processor away.
    fn wait(&self, group: usize, step: u64) {
        let has_ended = || self.ended[group].0.load(Ordering::Acquire) > step;
        while !spin_until(has_ended) {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;
    use std::sync::atomic::AtomicU64;

    const STEPS: usize = 200;

    /// What the stages of a test work on: for each step what the stage before left there.
    struct Board {
        rows: [[AtomicU64; STEPS]; 3],
    }

    /// Adds one to what the stage before left in this step, and what this stage left in the step before.
    unsafe fn stage<const AT: usize>(context: *mut Context, step: u64) {
        // SAFETY: the tests put a board where the runtime's state would be.
        let board = unsafe { &*(*context).runtime.cast::<Board>() };
        let step = step as usize;
        let of = |stage: usize, step: usize| board.rows[stage][step].load(Ordering::Relaxed);
        let handed = if AT == 0 { 1 } else { of(AT - 1, step) + 1 };
        let kept = if step == 0 { 0 } else { of(AT, step - 1) };
        board.rows[AT][step].store(handed + kept, Ordering::Relaxed);
    }

    unsafe extern "C" fn first(context: *mut Context, step: u64, _: *mut u8) {
        // SAFETY: as `stage`.
        unsafe { stage::<0>(context, step) }
    }

    unsafe extern "C" fn second(context: *mut Context, step: u64, _: *mut u8) {
        // SAFETY: as `stage`.
        unsafe { stage::<1>(context, step) }
    }

    unsafe extern "C" fn third(context: *mut Context, step: u64, _: *mut u8) {
        // SAFETY: as `stage`.
        unsafe { stage::<2>(context, step) }
    }

    /// What the last stage leaves, on so many threads.
    fn last_row(pool: &Pool) -> Vec<u64> {
        let board = Board { rows: [const { [const { AtomicU64::new(0) }; STEPS] }; 3] };
        let runtime = std::ptr::from_ref(&board).cast_mut().cast();
        let mut context = Context { table: std::ptr::null(), buffers: std::ptr::null(), runtime, prepare: 0 };
        let stages: [StageFn; 3] = [first, second, third];
        let scratch = (std::ptr::null_mut(), 0);
        // SAFETY: the stages use the board alone, by atomics.
        unsafe { run(pool, &raw mut context, (stages.as_ptr(), 3), STEPS as u64, scratch) };
        board.rows[2].iter().map(|cell| cell.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn stages_wait_for_each_other_on_any_number_of_threads() {
        let mut expected = vec![vec![0; STEPS]; 3];
        for step in 0..STEPS {
            for stage in 0..3 {
                let handed = if stage == 0 { 1 } else { expected[stage - 1][step] + 1 };
                expected[stage][step] = handed + if step == 0 { 0 } else { expected[stage][step - 1] };
            }
        }
        for threads in 1..=5 {
            let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
            for _ in 0..50 {
                assert_eq!(last_row(&pool), expected[2], "{threads} threads");
            }
        }
    }

    #[test]
    fn loops_of_several_threads_share_a_pool() {
        let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
        let alone = last_row(&pool);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| assert_eq!(last_row(&pool), alone)));
            }
        });
    }
}
