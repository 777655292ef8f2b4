//! The binary interface between compiled code and the runtime.
//!
//! Compiled code has no external symbol: everything it needs of the outside comes through the
//! [`Context`] that its entry receives. So the same bytes serve the JIT and a built executable.
//!
//! A program has one entry ([`EntryFn`]) and any number of kernels ([`KernelFn`]). The entry is
//! straight-line code: it fills an array of buffer addresses for each kernel of a launch and calls
//! [`Table::launch`]; the runtime splits the launch's tasks among threads.
//!
//! All calls follow the C convention of the host (System V on x86-64 Linux). The layout of the
//! structures is fixed: compiled code reads the fields at the offsets given in [`offset`].

use std::ffi::c_void;

/// What compiled code receives: valid for the length of one call of the entry.
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    /// The runtime's functions.
    pub table: *const Table,
    /// Addresses of the program's buffers: 0 is the arena, then the externals in the order of
    /// [`crate::Layout::externals`]. Each is aligned to at least 64 bytes.
    pub buffers: *const *mut u8,
    /// The runtime's own state; opaque to compiled code.
    pub runtime: *mut c_void,
    /// Not 0 if what lasts from run to run has to be made.
    pub prepare: u64,
}

/// The runtime's functions, as compiled code calls them.
#[repr(C)]
#[derive(Debug)]
pub struct Table {
    /// Runs all tasks of so many kernels, of different ones at the same time, and returns when all are done. The parts
    /// are only read.
    pub launch: unsafe extern "C" fn(*mut Context, parts: *const Part, count: u64),
    /// The scratch memory of the thread that runs the entry (of [`crate::Layout::scratch_bytes`]
    /// bytes). It must not be held over a launch, which uses the same memory.
    pub scratch: unsafe extern "C" fn(*mut Context) -> *mut u8,
    /// Called before each launch by code that is made to be measured, with the launch's number, and at the end.
    pub mark: unsafe extern "C" fn(*mut Context, launch: u64),
    /// Tells that an external, by its place in [`crate::Layout::externals`], is not read again while what was made of
    /// it lasts.
    pub spend: unsafe extern "C" fn(*mut Context, external: u64),
    /// Puts pages of an external that is not read again while what was made of it lasts in the place of pages of the
    /// arena, which nothing has touched: so many bytes, `from` bytes from the start of the one, `to` bytes from that of
    /// the other, all of them multiples of [`crate::HUGE_PAGE`]. What the arena's pages hold then means nothing; the
    /// runtime may as well leave everything where it is.
    pub reuse: unsafe extern "C" fn(*mut Context, external: u64, from: u64, to: u64, bytes: u64),
    /// Runs so many steps of a loop with so many stages, on as many threads as there are, and returns when all are
    /// done: a stage begins a step when the stage before has ended it, and steps of a stage follow one another.
    pub pipeline: unsafe extern "C" fn(*mut Context, stages: *const StageFn, count: u64, steps: u64),
}

/// A kernel in a launch.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What runs.
    pub kernel: KernelFn,
    /// Addresses that the kernel understands; they are only read.
    pub args: *const *mut u8,
    /// It runs over the tasks `0..tasks`.
    pub tasks: u64,
    /// What one of them takes, at least 1, in any unit that is the same for all parts of a launch.
    pub work: u64,
}

impl Part {
    /// The work of all tasks.
    pub(crate) fn length(&self) -> u64 {
        self.tasks * self.work
    }
}

/// A kernel: runs the tasks `begin..end` using this thread's scratch memory. Any partition of
/// the tasks gives the same bits.
pub type KernelFn = unsafe extern "C" fn(args: *const *mut u8, begin: u64, end: u64, scratch: *mut u8);

/// A stage of a loop: one step of it, counted from 0 in the order of their execution, using this thread's scratch
/// memory. Different stages may run at the same time, the later one in an earlier step.
pub type StageFn = unsafe extern "C" fn(*mut Context, step: u64, scratch: *mut u8);

/// The entry of a compiled program.
pub type EntryFn = unsafe extern "C" fn(*mut Context);

/// Byte offsets of the fields that compiled code loads, on a 64-bit host.
pub mod offset {
    use super::{Context, Part, Table};
    use std::mem::offset_of;

    /// Of [`Context::table`].
    pub const CONTEXT_TABLE: usize = offset_of!(Context, table);
    /// Of [`Context::buffers`].
    pub const CONTEXT_BUFFERS: usize = offset_of!(Context, buffers);
    /// Of [`Context::prepare`].
    pub const CONTEXT_PREPARE: usize = offset_of!(Context, prepare);
    /// Of [`Table::launch`].
    pub const TABLE_LAUNCH: usize = offset_of!(Table, launch);
    /// Of [`Table::scratch`].
    pub const TABLE_SCRATCH: usize = offset_of!(Table, scratch);
    /// Of [`Table::mark`].
    pub const TABLE_MARK: usize = offset_of!(Table, mark);
    /// Of [`Table::spend`].
    pub const TABLE_SPEND: usize = offset_of!(Table, spend);
    /// Of [`Table::reuse`].
    pub const TABLE_REUSE: usize = offset_of!(Table, reuse);
    /// Of [`Table::pipeline`].
    pub const TABLE_PIPELINE: usize = offset_of!(Table, pipeline);
    /// Of [`Part::kernel`].
    pub const PART_KERNEL: usize = offset_of!(Part, kernel);
    /// Of [`Part::args`].
    pub const PART_ARGS: usize = offset_of!(Part, args);
    /// Of [`Part::tasks`].
    pub const PART_TASKS: usize = offset_of!(Part, tasks);
    /// Of [`Part::work`].
    pub const PART_WORK: usize = offset_of!(Part, work);
    /// Bytes of a [`Part`].
    pub const PART_BYTES: usize = size_of::<Part>();
}
