//! A compiled program and the memory that it runs in.
//!
//! [`Program::run`] is safe because of two things together. What the compiler vouches for: the
//! code of a [`Code`] accesses only the arena, the scratch memory and the externals, each within
//! the sizes in its [`Layout`], and writes no external that is declared read-only. What is checked
//! here at each call: that the externals have just these sizes, and the alignment that vector
//! moves need.

use crate::abi::{Context, EntryFn, Part, StageFn, Table};
use crate::buffer::{ALIGNMENT, AlignedBuffer, HUGE_PAGE, give_back, move_pages};
use crate::code::Code;
use crate::pipeline;
use crate::pool::Pool;
use crate::seat::{Job, Parts};
use std::ffi::c_void;
use std::sync::Arc;
use std::time::Instant;

/// Scratch memory of different threads lies this far apart, in bytes, so that they never share
/// a cache line or the one that the processor fetches beside it.
const SCRATCH_STEP: usize = 128;

/// The memory that a program needs; sizes in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// Size of the arena, which holds all values inside the program.
    pub arena_bytes: usize,
    /// Alignment of the arena; at least [`ALIGNMENT`] is given in any case.
    pub arena_align: usize,
    /// Scratch memory of each thread.
    pub scratch_bytes: usize,
    /// Exact size of each external buffer, in the order of the program's buffers after the arena.
    pub externals: Vec<usize>,
}

/// Memory outside a program that it reads or writes during one run. Must be aligned to
/// [`ALIGNMENT`] bytes, as [`AlignedBuffer`]s and mapped pages are.
#[derive(Debug)]
pub enum ExternalBuffer<'a> {
    /// Only read: possible where the code declares it so (see [`Code::with_read_only`]).
    Shared(&'a [u8]),
    /// Read or written.
    Exclusive(&'a mut [u8]),
    /// Only read, and given up: when the code has made what lasts of it and needs it no more, its pages go where the
    /// arena needs some, or back to the system, and it holds nothing of use. The program must not
    /// [forget](Program::forget) from then on.
    Spent(&'a mut AlignedBuffer),
}

impl ExternalBuffer<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Exclusive(bytes) => bytes,
            Self::Spent(buffer) => buffer.bytes(),
        }
    }

    fn start(&mut self) -> *mut u8 {
        match self {
            Self::Shared(bytes) => bytes.as_ptr().cast_mut(),
            Self::Exclusive(bytes) => bytes.as_mut_ptr(),
            Self::Spent(buffer) => buffer.bytes_mut().as_mut_ptr(),
        }
    }
}

impl<'a> From<&'a AlignedBuffer> for ExternalBuffer<'a> {
    fn from(buffer: &'a AlignedBuffer) -> Self {
        Self::Shared(buffer.bytes())
    }
}

impl<'a> From<&'a mut AlignedBuffer> for ExternalBuffer<'a> {
    fn from(buffer: &'a mut AlignedBuffer) -> Self {
        Self::Exclusive(buffer.bytes_mut())
    }
}

/// Why a program was not run. These are errors of the caller, found before any code runs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProgramError {
    /// Too many or too few external buffers.
    #[error("the program takes {expected} external buffers, not {found}")]
    Count {
        /// How many the layout lists.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A buffer of another size.
    #[error("external buffer {index} has {found} bytes where the program needs {expected}")]
    Size {
        /// Which external.
        index: usize,
        /// Its size in the layout.
        expected: usize,
        /// The size of what was given.
        found: usize,
    },
    /// A buffer whose address is no multiple of [`ALIGNMENT`].
    #[error("external buffer {index} is not aligned to {ALIGNMENT} bytes")]
    Alignment {
        /// Which external.
        index: usize,
    },
    /// A buffer that the program may write was given as read-only.
    #[error("external buffer {index} may be written but was passed as read-only")]
    ReadOnly {
        /// Which external.
        index: usize,
    },
}

/// A compiled program with its arena, its scratch memory and the threads that it runs on.
///
/// What the arena holds between two runs has no meaning but to the code, which may keep there what it made of externals
/// that stay as they are: see [`Program::forget`]. State that lasts is in externals.
#[derive(Debug)]
pub struct Program {
    code: Code,
    arena: AlignedBuffer,
    scratch: AlignedBuffer,
    scratch_stride: usize,
    /// Whether the arena holds what the code keeps there.
    prepared: bool,
    /// Kept to spare an allocation at each run; meaningless between runs.
    addresses: Vec<*mut u8>,
    /// For each external whether its pages may go when it is not needed any more; room that runs share.
    spent: Vec<bool>,
    pool: Arc<Pool>,
}

// SAFETY: all fields but `addresses` are `Send`; its pointers are written anew at the start of
// each run and not used after it.
unsafe impl Send for Program {}

impl Program {
    /// Gives `code` its memory.
    pub fn new(code: Code, pool: Arc<Pool>) -> Self {
        let layout = code.layout();
        let scratch_stride = layout.scratch_bytes.next_multiple_of(SCRATCH_STEP);
        Self {
            arena: AlignedBuffer::with_alignment(layout.arena_bytes, layout.arena_align.max(1)),
            scratch: AlignedBuffer::zeroed(scratch_stride * pool.threads()),
            scratch_stride,
            prepared: false,
            addresses: Vec::with_capacity(layout.externals.len() + 1),
            spent: Vec::new(),
            code,
            pool,
        }
    }

    /// The sizes that the program was compiled for.
    pub fn layout(&self) -> &Layout {
        self.code.layout()
    }

    /// The threads that it runs on.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The arena, as the last run left it: for looking at values inside a program.
    pub fn arena(&self) -> &AlignedBuffer {
        &self.arena
    }

    /// Tells that parameters or states have changed since the last run: what the code has made of them and keeps, such
    /// as packed weights, is made anew in the next one.
    pub fn forget(&mut self) {
        self.prepared = false;
    }

    /// Runs the program once, with the externals in the order of [`Layout::externals`].
    ///
    /// # Errors
    /// If the externals do not fit the layout; then nothing was run.
    pub fn run(&mut self, externals: &mut [ExternalBuffer<'_>]) -> Result<(), ProgramError> {
        self.run_marking(externals, None)
    }

    /// As [`Self::run`]; gives the number of each launch and when it began, and in the end the number of launches and
    /// when the last one ended. Only code that is made to be measured tells it; of other code the list is empty.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_timed(&mut self, externals: &mut [ExternalBuffer<'_>]) -> Result<Vec<Mark>, ProgramError> {
        let mut marks = Vec::with_capacity(1 << 12);
        self.run_marking(externals, Some(&mut marks))?;
        Ok(marks)
    }

    fn run_marking(
        &mut self,
        externals: &mut [ExternalBuffer<'_>],
        marks: Option<&mut Vec<Mark>>,
    ) -> Result<(), ProgramError> {
        self.check(externals)?;
        self.addresses.clear();
        self.addresses.push(self.arena.bytes_mut().as_mut_ptr());
        self.addresses.extend(externals.iter_mut().map(ExternalBuffer::start));
        let is_spent = |external: &ExternalBuffer<'_>| matches!(external, ExternalBuffer::Spent(_));
        self.spent.clear();
        // Only a run that prepares spends anything.
        if !self.prepared {
            self.spent.extend(externals.iter().map(is_spent));
        }
        let mut state = RunState {
            pool: &self.pool,
            spent: &self.spent,
            arena: (self.addresses[0], self.code.layout().arena_bytes),
            starts: self.addresses.get(1..).unwrap_or_default(),
            sizes: &self.code.layout().externals,
            scratch: self.scratch.bytes_mut().as_mut_ptr(),
            scratch_stride: self.scratch_stride,
            marks,
        };
        let mut context = Context {
            table: &TABLE,
            buffers: self.addresses.as_ptr(),
            runtime: std::ptr::from_mut(&mut state).cast::<c_void>(),
            prepare: u64::from(!self.prepared),
        };
        let entry: EntryFn = self.code.entry();
        // SAFETY: the code is alive while `self.code` is. It touches only buffers of the layout,
        // as vouched for when the `Code` was made; the arena and the scratch memory were allocated
        // by that layout, and `check` compared the externals with it. All of them are borrowed
        // until the call returns, exclusively where the code may write. `context` and `state` live
        // as long as the call.
        unsafe { entry(&raw mut context) };
        self.prepared = true;
        Ok(())
    }

    fn check(&self, externals: &[ExternalBuffer<'_>]) -> Result<(), ProgramError> {
        let sizes = &self.code.layout().externals;
        if externals.len() != sizes.len() {
            let (expected, found) = (sizes.len(), externals.len());
            return Err(ProgramError::Count { expected, found });
        }
        for (index, (external, &expected)) in externals.iter().zip(sizes).enumerate() {
            let bytes = external.bytes();
            if bytes.len() != expected {
                return Err(ProgramError::Size { index, expected, found: bytes.len() });
            }
            if expected > 0 && !bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
                return Err(ProgramError::Alignment { index });
            }
            let is_only_read = matches!(external, ExternalBuffer::Shared(_) | ExternalBuffer::Spent(_));
            if is_only_read && !self.code.is_read_only(index) {
                return Err(ProgramError::ReadOnly { index });
            }
        }
        Ok(())
    }
}

/// The number of a launch, and when it began.
pub type Mark = (u64, Instant);

/// What [`Context::runtime`] points to.
struct RunState<'a> {
    pool: &'a Pool,
    scratch: *mut u8,
    scratch_stride: usize,
    /// For each external whether its pages may go when it is not needed any more; empty if none may.
    spent: &'a [bool],
    /// Where the arena begins, and its bytes.
    arena: (*mut u8, usize),
    /// Where each external begins.
    starts: &'a [*mut u8],
    /// The bytes of each external.
    sizes: &'a [usize],
    /// Which launches began, and when.
    marks: Option<&'a mut Vec<Mark>>,
}

static TABLE: Table = Table { launch, scratch, mark, spend, reuse, pipeline };

/// [`Table::launch`]. A panic here ends the process: it cannot unwind into compiled code.
unsafe extern "C" fn launch(context: *mut Context, parts: *const Part, count: u64) {
    // SAFETY: compiled code passes on the context that `Program::run` gave it, which lives until
    // the entry returns, and so does the state it points to.
    let state = unsafe { &*(*context).runtime.cast::<RunState<'_>>() };
    let (scratch, scratch_stride) = (state.scratch, state.scratch_stride);
    let parts = match count {
        // SAFETY: compiled code passes so many parts, which are there until this returns.
        1 => Parts::One(unsafe { *parts }),
        _ => Parts::Many(parts, count as usize),
    };
    // SAFETY: the compiler vouches for the kernels with these arguments and any partition of their
    // tasks; the scratch memory was sized for this pool's threads and belongs to this run alone.
    unsafe { state.pool.launch(Job { parts, scratch, scratch_stride }) };
}

/// [`Table::scratch`].
unsafe extern "C" fn scratch(context: *mut Context) -> *mut u8 {
    // SAFETY: as in `launch`.
    unsafe { (*(*context).runtime.cast::<RunState<'_>>()).scratch }
}

/// [`Table::mark`].
unsafe extern "C" fn mark(context: *mut Context, launch: u64) {
    // SAFETY: as in `launch`; only the thread that runs the entry calls this, and never during a launch, so nobody
    // else looks at the state.
    let state = unsafe { &mut *(*context).runtime.cast::<RunState<'_>>() };
    if let Some(marks) = &mut state.marks {
        marks.push((launch, Instant::now()));
    }
}

/// [`Table::spend`].
unsafe extern "C" fn spend(context: *mut Context, external: u64) {
    // SAFETY: as in `launch`.
    let state = unsafe { &*(*context).runtime.cast::<RunState<'_>>() };
    let external = external as usize;
    if state.spent.get(external) == Some(&true) {
        // SAFETY: the address and the size are those of an external that the caller gave exclusively for this run; no
        // kernel runs while the entry calls this, so nobody else touches it.
        give_back(unsafe { std::slice::from_raw_parts_mut(state.starts[external], state.sizes[external]) });
    }
}

/// [`Table::reuse`].
unsafe extern "C" fn reuse(context: *mut Context, external: u64, from: u64, to: u64, bytes: u64) {
    // SAFETY: as in `launch`.
    let state = unsafe { &*(*context).runtime.cast::<RunState<'_>>() };
    let [external, from, to, bytes] = [external, from, to, bytes].map(|number| number as usize);
    let ((arena, arena_bytes), size) = (state.arena, state.sizes[external]);
    let is_whole = [from, to, bytes].iter().all(|number| number.is_multiple_of(HUGE_PAGE));
    let is_inside = from + bytes <= size && to + bytes <= arena_bytes;
    if state.spent.get(external) == Some(&true) && is_whole && is_inside && bytes > 0 {
        // SAFETY: both are buffers of a huge page or more, so they begin at one and are mappings of their own; the
        // ranges lie in them. The caller gave the external exclusively for this run, and the arena is the program's;
        // no kernel runs while the entry calls this, so nobody else touches them.
        unsafe { move_pages(state.starts[external].add(from), arena.add(to), bytes) };
    }
}

/// [`Table::pipeline`].
unsafe extern "C" fn pipeline(context: *mut Context, stages: *const StageFn, count: u64, steps: u64) {
    // SAFETY: as in `launch`.
    let state = unsafe { &*(*context).runtime.cast::<RunState<'_>>() };
    let scratch = (state.scratch, state.scratch_stride);
    // SAFETY: the compiler vouches for the stages; the scratch memory was sized for this pool's threads and belongs to
    // this run alone.
    unsafe { pipeline::run(state.pool, context, (stages, count as usize), steps, scratch) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    unsafe extern "C" fn add_one(args: *const *mut u8, begin: u64, end: u64, _: *mut u8) {
        for task in begin..end {
            // SAFETY: args are two f32 arrays with an element per task.
            unsafe {
                let task = usize::try_from(task).unwrap();
                let (from, to) = ((*args).cast::<f32>(), (*args.add(1)).cast::<f32>());
                to.add(task).write(from.add(task).read() + 1.0);
            }
        }
    }

    /// External 1 becomes external 0 plus one, by way of the arena.
    unsafe extern "C" fn entry(context: *mut Context) {
        // SAFETY: the tests' layout has an arena and two externals of 400 bytes each.
        unsafe {
            let buffers = (*context).buffers;
            let table = (*context).table;
            let (arena, input, output) = (*buffers, *buffers.add(1), *buffers.add(2));
            assert!(!((*table).scratch)(context).is_null());
            let args = [input, arena];
            let part = Part { kernel: add_one, args: args.as_ptr(), tasks: 100, work: 1 };
            ((*table).launch)(context, &raw const part, 1);
            std::ptr::copy_nonoverlapping(arena, output, 400);
        }
    }

    fn program(threads: usize) -> Program {
        let externals = vec![400, 400];
        let layout = Layout { arena_bytes: 400, arena_align: 64, scratch_bytes: 10, externals };
        // SAFETY: `entry` keeps to this layout and writes external 1 only.
        let code = unsafe { Code::from_entry(entry, layout) }.with_read_only(&[0]);
        Program::new(code, Arc::new(Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()))
    }

    #[test]
    fn runs_on_its_buffers() {
        let values: Vec<f32> = (0..100u8).map(f32::from).collect();
        let input = AlignedBuffer::from_slice(&values);
        for threads in 1..4 {
            let mut output = AlignedBuffer::zeroed(400);
            let mut program = program(threads);
            program.run(&mut [(&input).into(), (&mut output).into()]).unwrap();
            let expected: Vec<f32> = values.iter().map(|value| value + 1.0).collect();
            assert_eq!(output.as_slice::<f32>(), expected);
            assert_eq!(program.arena().as_slice::<f32>(), expected);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut program = program(1);
        let (mut input, mut output) = (AlignedBuffer::zeroed(400), AlignedBuffer::zeroed(400));
        let mut short = AlignedBuffer::zeroed(399);
        let mut long = AlignedBuffer::zeroed(464);
        let mut run = |externals: &mut [ExternalBuffer<'_>]| program.run(externals).unwrap_err();

        assert_eq!(run(&mut []), ProgramError::Count { expected: 2, found: 0 });
        assert_eq!(
            run(&mut [(&mut short).into(), (&mut output).into()]),
            ProgramError::Size { index: 0, expected: 400, found: 399 }
        );
        assert_eq!(
            run(&mut [(&mut input).into(), (&mut long).into()]),
            ProgramError::Size { index: 1, expected: 400, found: 464 }
        );
        let shifted = ExternalBuffer::Exclusive(&mut long.bytes_mut()[4..404]);
        assert_eq!(run(&mut [(&mut input).into(), shifted]), ProgramError::Alignment { index: 1 });
        assert_eq!(run(&mut [(&mut input).into(), (&output).into()]), ProgramError::ReadOnly { index: 1 });
        assert!(output.bytes().iter().all(|&byte| byte == 0));
    }

    /// External 0, of two pages, is copied to the arena where that is asked for, and given up; external 1 becomes its
    /// first number.
    unsafe extern "C" fn preparing_entry(context: *mut Context) {
        // SAFETY: the layout below has these buffers.
        unsafe {
            let buffers = (*context).buffers;
            let (arena, input, output) = (*buffers, *buffers.add(1), *buffers.add(2));
            if (*context).prepare != 0 {
                std::ptr::copy_nonoverlapping(input, arena, 4);
                ((*(*context).table).spend)(context, 0);
            }
            std::ptr::copy_nonoverlapping(arena, output, 4);
        }
    }

    #[test]
    fn what_is_spent_is_given_back_once_it_has_been_read() {
        let bytes = 4 << 20;
        let layout = Layout { arena_bytes: 4, arena_align: 64, scratch_bytes: 0, externals: vec![bytes, 4] };
        // SAFETY: `preparing_entry` keeps to this layout and writes external 1 only.
        let code = unsafe { Code::from_entry(preparing_entry, layout) }.with_read_only(&[0]);
        let mut program = Program::new(code, Arc::new(Pool::new(NonZeroUsize::MIN).unwrap()));
        let mut input = AlignedBuffer::zeroed(bytes);
        let mut output = AlignedBuffer::zeroed(4);
        input.as_mut_slice::<f32>().fill(2.5);
        program.run(&mut [(&mut input).into(), (&mut output).into()]).unwrap();
        assert!(input.as_slice::<f32>().iter().all(|&value| value == 2.5), "it was not given up");
        program.forget();
        program.run(&mut [ExternalBuffer::Spent(&mut input), (&mut output).into()]).unwrap();
        assert!(input.bytes().iter().all(|&byte| byte == 0));
        program.run(&mut [(&input).into(), (&mut output).into()]).unwrap();
        assert_eq!(output.as_slice::<f32>(), [2.5]);
    }

    /// The first page of external 0 goes to the second one of the arena, and the rest is given up.
    unsafe extern "C" fn reusing_entry(context: *mut Context) {
        // SAFETY: the layout below has these pages.
        unsafe {
            let page = HUGE_PAGE as u64;
            ((*(*context).table).reuse)(context, 0, 0, page, page);
            // None of these has the pages that it names.
            ((*(*context).table).reuse)(context, 0, page, 0, page);
            ((*(*context).table).reuse)(context, 0, 0, 2 * page, page);
            ((*(*context).table).spend)(context, 0);
        }
    }

    #[test]
    fn pages_of_what_is_spent_are_reused_and_no_others() {
        let layout = Layout {
            arena_bytes: 2 * HUGE_PAGE + 64,
            arena_align: 64,
            scratch_bytes: 0,
            externals: vec![HUGE_PAGE + 64],
        };
        // SAFETY: `reusing_entry` keeps to this layout and writes nothing.
        let code = unsafe { Code::from_entry(reusing_entry, layout) }.with_read_only(&[0]);
        let mut program = Program::new(code, Arc::new(Pool::new(NonZeroUsize::MIN).unwrap()));
        let mut input = AlignedBuffer::zeroed(HUGE_PAGE + 64);
        input.bytes_mut().fill(3);
        let count = |program: &Program| program.arena().bytes().iter().filter(|&&byte| byte == 3).count();
        program.run(&mut [(&mut input).into()]).unwrap();
        assert_eq!(count(&program), 0, "it was not given up");
        program.forget();
        program.run(&mut [ExternalBuffer::Spent(&mut input)]).unwrap();
        assert_eq!(count(&program), HUGE_PAGE);
        assert!(program.arena().bytes()[HUGE_PAGE..2 * HUGE_PAGE].iter().all(|&byte| byte == 3));
        assert!(input.bytes()[..HUGE_PAGE].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn may_move_to_another_thread() {
        let mut program = program(2);
        let moved = std::thread::spawn(move || {
            let (mut input, mut output) = (AlignedBuffer::zeroed(400), AlignedBuffer::zeroed(400));
            program.run(&mut [(&mut input).into(), (&mut output).into()]).unwrap();
            output.as_slice::<f32>()[99]
        });
        assert_eq!(moved.join().unwrap(), 1.0);
    }
}
