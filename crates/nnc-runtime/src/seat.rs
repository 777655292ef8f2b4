//! What a thread of the pool has of a launch: its chunks, and what it needs to run them.
//!
//! Each thread has a cache line ([`Seat`]) with a 64-bit word, the cursor: the number of the launch (upper bits), the
//! first of the thread's chunks that are left, and how many are ([`CHUNK_BITS`] each). A chunk is claimed from either
//! end with compare-and-swap. What the launch is about lies beside it in atomics, so that what a thread needs to begin
//! comes from the launching core at once:
//! - The job is written before the cursor is published with `Release`, and the cursor is read with `Acquire`. So a
//!   claimer sees the job of the launch whose number it swapped, or a later one.
//! - It is none later: that would be written only after all chunks of this launch are reported as done, and the claimed
//!   one is not.
//!
//! So a thread that wakes late touches nothing of a launch that has returned. The number of the
//! launch has 32 bits; a claimer would have to stall between its read and its swap for exactly
//! 2^32 launches, which take hours, to be fooled.

use crate::abi::{KernelFn, Part};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// How many low bits of a cursor count the chunks that are left; as many more say which is the first.
const CHUNK_BITS: u32 = 16;
const CHUNK_MASK: u64 = (1 << CHUNK_BITS) - 1;

/// The most chunks of a launch.
pub(crate) const MOST_CHUNKS: u64 = CHUNK_MASK;

/// A launch: kernels that may run side by side, and the scratch memory of each thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub parts: Parts,
    /// Scratch of thread 0; that of thread `i` lies `i * scratch_stride` bytes further.
    pub scratch: *mut u8,
    pub scratch_stride: usize,
}

/// The kernels of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parts {
    /// Mostly there is one.
    One(Part),
    /// So many, in a list.
    Many(*const Part, usize),
}

impl Job {
    /// Its parts.
    ///
    /// # Safety
    /// A list of parts is there as long as what is returned, and nobody writes it.
    pub unsafe fn parts(&self) -> &[Part] {
        match &self.parts {
            Parts::One(part) => std::slice::from_ref(part),
            // SAFETY: passed on to the caller.
            Parts::Many(list, count) => unsafe { std::slice::from_raw_parts(*list, *count) },
        }
    }

    /// Runs the chunk at `place` of so many, as thread `slot`.
    ///
    /// # Safety
    /// A list of parts is there, its kernels may be called for any tasks, at the same time as for other ones, and the
    /// scratch memory has a place for `slot` that nobody else uses now.
    pub unsafe fn run(&self, place: u64, line: Line, slot: usize) {
        let scratch = self.scratch.wrapping_add(slot * self.scratch_stride);
        let (from, to) = (line.start(place), line.start(place + 1));
        let mut before = 0;
        // SAFETY: passed on to the caller.
        for part in unsafe { self.parts() } {
            let tasks_before = |at: u64| at.saturating_sub(before).div_ceil(part.work).min(part.tasks);
            let (begin, end) = (tasks_before(from), tasks_before(to));
            if begin < end {
                // SAFETY: passed on to the caller.
                unsafe { (part.kernel)(part.args, begin, end, scratch) }
            }
            before += part.length();
        }
    }
}

/// The tasks of a launch in one line, cut into chunks.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Line {
    /// The work of all tasks.
    pub length: u64,
    /// How many there are.
    pub chunks: u64,
}

impl Line {
    /// Where a chunk begins: those tasks are in it that begin there or later, and before the next chunk does.
    fn start(self, chunk: u64) -> u64 {
        // `chunk * length / chunks`, rounded down, which would overflow where a launch takes minutes.
        let (whole, rest) = (self.length / self.chunks, self.length % self.chunks);
        chunk * whole + chunk * rest / self.chunks
    }
}

/// The place of a thread: the chunks that are its own, and the launch that they are of, field by field. What a launch
/// of one part needs is on the first of its two cache lines.
#[derive(Default)]
#[repr(C, align(128))]
pub(crate) struct Seat {
    cursor: AtomicU64,
    /// Null for a list of parts.
    kernel: AtomicPtr<()>,
    args: AtomicPtr<*mut u8>,
    tasks: AtomicU64,
    work: AtomicU64,
    chunks: AtomicU64,
    scratch: AtomicPtr<u8>,
    scratch_stride: AtomicUsize,
    list: AtomicPtr<Part>,
    count: AtomicUsize,
    length: AtomicU64,
}

impl Seat {
    /// Publishes a launch, with `left` chunks from `first` on.
    pub fn publish(&self, job: &Job, line: Line, (first, left): (u64, u64)) {
        match job.parts {
            Parts::One(part) => {
                self.kernel.store(part.kernel as *mut (), Ordering::Relaxed);
                self.args.store(part.args.cast_mut(), Ordering::Relaxed);
                self.tasks.store(part.tasks, Ordering::Relaxed);
                self.work.store(part.work, Ordering::Relaxed);
            }
            Parts::Many(list, count) => {
                self.kernel.store(std::ptr::null_mut(), Ordering::Relaxed);
                self.list.store(list.cast_mut(), Ordering::Relaxed);
                self.count.store(count, Ordering::Relaxed);
                self.length.store(line.length, Ordering::Relaxed);
            }
        }
        self.chunks.store(line.chunks, Ordering::Relaxed);
        self.scratch.store(job.scratch, Ordering::Relaxed);
        self.scratch_stride.store(job.scratch_stride, Ordering::Relaxed);
        let launch = self.launch().wrapping_add(1);
        self.cursor.store((launch << (2 * CHUNK_BITS)) | (first << CHUNK_BITS) | left, Ordering::SeqCst);
    }

    /// The launch that a chunk was claimed of here.
    pub fn job(&self) -> (Job, Line) {
        let kernel = self.kernel.load(Ordering::Relaxed);
        let (parts, length) = if kernel.is_null() {
            let list = Parts::Many(self.list.load(Ordering::Relaxed), self.count.load(Ordering::Relaxed));
            (list, self.length.load(Ordering::Relaxed))
        } else {
            let part = Part {
                // SAFETY: the only values stored besides null are `KernelFn`s.
                kernel: unsafe { std::mem::transmute::<*mut (), KernelFn>(kernel) },
                args: self.args.load(Ordering::Relaxed),
                tasks: self.tasks.load(Ordering::Relaxed),
                work: self.work.load(Ordering::Relaxed),
            };
            (Parts::One(part), part.length())
        };
        let (scratch, scratch_stride) =
            (self.scratch.load(Ordering::Relaxed), self.scratch_stride.load(Ordering::Relaxed));
        (Job { parts, scratch, scratch_stride }, Line { length, chunks: self.chunks.load(Ordering::Relaxed) })
    }

    /// The number of the launch that was published last.
    pub fn launch(&self) -> u64 {
        self.cursor.load(Ordering::Relaxed) >> (2 * CHUNK_BITS)
    }

    /// Whether chunks are left.
    pub fn has_work(&self) -> bool {
        self.cursor.load(Ordering::SeqCst) & CHUNK_MASK != 0
    }

    /// A chunk that is now the caller's: the first or the last of those that are left.
    pub fn claim(&self, is_first: bool) -> Option<u64> {
        let mut cursor = self.cursor.load(Ordering::Acquire);
        loop {
            let left = cursor & CHUNK_MASK;
            if left == 0 {
                return None;
            }
            let first = (cursor >> CHUNK_BITS) & CHUNK_MASK;
            let (taken, rest) = match is_first {
                true => (first, cursor + (1 << CHUNK_BITS) - 1),
                false => (first + left - 1, cursor - 1),
            };
            let swapped = self.cursor.compare_exchange_weak(cursor, rest, Ordering::AcqRel, Ordering::Acquire);
            match swapped {
                Ok(_) => return Some(taken),
                Err(current) => cursor = current,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has which tasks depends on their number and their work alone.
    #[test]
    fn a_line_is_cut_by_work() {
        let line = Line { length: 100, chunks: 4 };
        assert_eq!([0, 1, 2, 3, 4].map(|chunk| line.start(chunk)), [0, 25, 50, 75, 100]);
        let line = Line { length: 10, chunks: 4 };
        assert_eq!([0, 1, 2, 3, 4].map(|chunk| line.start(chunk)), [0, 2, 5, 7, 10]);
        let line = Line { length: u64::MAX, chunks: MOST_CHUNKS };
        assert_eq!(line.start(MOST_CHUNKS), u64::MAX);
    }
}
