//! The thread pool that runs the launches of compiled programs.
//!
//! A launch is cut into chunks of equal numbers of tasks; threads take chunks one after the other
//! until none is left, every other thread from the end: so what a thread has made is mostly what it
//! reads in the next launch. Else, who runs which chunk is left to chance: kernels give the same bits
//! for any partition. The thread that launches takes part, and returns when the last chunk is done.
//!
//! One launch runs at a time. A launch that finds the pool taken (by another program, or because
//! it was made from inside a kernel) runs alone on its own thread, which cannot deadlock.
//!
//! **The cursor.** One 64-bit word holds the number of the launch (upper bits), the first of the
//! chunks that are left, and how many are ([`CHUNK_BITS`] each). A thread claims the first or the
//! last with compare-and-swap. What the launch is about lies beside it in atomics. A claimer reads the word,
//! then the job, then swaps:
//! - The job it read is not older than the word: the job is written before the word is published
//!   with `Release`, and the word is read with `Acquire`.
//! - Nor is it younger: a later launch writes its job only after it saw all chunks of this one
//!   done, so after the word reached "none left". A claimer that reads such a write (`Release` to
//!   `Acquire`) can then no longer swap the older word, and drops what it read.
//!
//! So a thread that wakes late touches nothing of a launch that has returned. The number of the
//! launch has 32 bits; a claimer would have to stall between its read and its swap for exactly
//! 2^32 launches, which take hours, to be fooled.
//!
//! **Waiting.** An idle worker spins for some microseconds, since the next launch usually follows
//! at once, and then sleeps on a condition variable. A sleeper announces itself before it looks
//! at the cursor a last time, and a launcher publishes the cursor before it looks for sleepers,
//! both sequentially consistent, so one of the two sees the other.

use crate::abi::KernelFn;
use crate::cpu;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many low bits of the cursor count the chunks that are left; as many more say which is the first.
const CHUNK_BITS: u32 = 16;
const CHUNK_MASK: u64 = (1 << CHUNK_BITS) - 1;

/// Chunks per thread: enough that a thread which is late or slow costs little.
const CHUNKS_PER_THREAD: u64 = 16;

/// How long a thread spins before it sleeps.
const SPIN: Duration = Duration::from_micros(40);

/// A launch: a kernel, its arguments, the number of its tasks, and the scratch memory of each
/// thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub kernel: KernelFn,
    pub args: *const *mut u8,
    pub tasks: u64,
    /// Scratch of thread 0; that of thread `i` lies `i * scratch_stride` bytes further.
    pub scratch: *mut u8,
    pub scratch_stride: usize,
}

impl Job {
    /// Runs the tasks `begin..end` as thread `slot`.
    ///
    /// # Safety
    /// The kernel may be called with `args` for any part of its tasks, at the same time as for
    /// other parts, and the scratch memory has a place for `slot` that nobody else uses now.
    unsafe fn run(&self, begin: u64, end: u64, slot: usize) {
        let scratch = self.scratch.wrapping_add(slot * self.scratch_stride);
        // SAFETY: passed on to the caller.
        unsafe { (self.kernel)(self.args, begin, end, scratch) }
    }
}

/// The current [`Job`], field by field, with the chunk size. See the module's doc for the order
/// of accesses.
#[derive(Default)]
struct SharedJob {
    kernel: AtomicPtr<()>,
    args: AtomicPtr<*mut u8>,
    tasks: AtomicU64,
    scratch: AtomicPtr<u8>,
    scratch_stride: AtomicUsize,
    chunk: AtomicU64,
}

impl SharedJob {
    fn store(&self, job: &Job, chunk: u64) {
        self.kernel.store(job.kernel as *mut (), Ordering::Release);
        self.args.store(job.args.cast_mut(), Ordering::Release);
        self.tasks.store(job.tasks, Ordering::Release);
        self.scratch.store(job.scratch, Ordering::Release);
        self.scratch_stride.store(job.scratch_stride, Ordering::Release);
        self.chunk.store(chunk, Ordering::Release);
    }

    /// The job and the chunk size, possibly of mixed launches until a chunk is claimed. `None`
    /// before the first launch.
    fn load(&self) -> Option<(Job, u64)> {
        let kernel = self.kernel.load(Ordering::Acquire);
        if kernel.is_null() {
            return None;
        }
        let job = Job {
            // SAFETY: the only values stored besides null are `KernelFn`s.
            kernel: unsafe { std::mem::transmute::<*mut (), KernelFn>(kernel) },
            args: self.args.load(Ordering::Acquire),
            tasks: self.tasks.load(Ordering::Acquire),
            scratch: self.scratch.load(Ordering::Acquire),
            scratch_stride: self.scratch_stride.load(Ordering::Acquire),
        };
        Some((job, self.chunk.load(Ordering::Acquire)))
    }
}

#[derive(Default)]
struct Shared {
    cursor: AtomicU64,
    job: SharedJob,
    /// Chunks of the current launch that are done.
    done: AtomicU64,
    /// Workers that sleep or are about to.
    sleepers: AtomicUsize,
    /// Whether the launcher sleeps or is about to.
    launcher_sleeps: AtomicBool,
    stop: AtomicBool,
    sleep: Mutex<()>,
    work_came: Condvar,
    work_ended: Condvar,
}

/// Threads that run the launches of any number of programs.
pub struct Pool {
    shared: Arc<Shared>,
    /// Held by the launch that runs.
    gate: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool that computes with `threads` threads, the launching one among them.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn new(threads: NonZeroUsize) -> io::Result<Self> {
        let mut pool = Self { shared: Arc::default(), gate: Mutex::new(()), workers: Vec::new() };
        for slot in 1..threads.get() {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("nnc-worker-{slot}"));
            pool.workers.push(builder.spawn(move || shared.work(slot))?);
        }
        Ok(pool)
    }

    /// A pool with as many threads as this process may use at once, or `requested` if that is
    /// less. See [`cpu::available_threads`].
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn with_limit(requested: Option<NonZeroUsize>) -> io::Result<Self> {
        let available = cpu::available_threads();
        Self::new(requested.map_or(available, |requested| requested.min(available)))
    }

    /// How many threads compute.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs all tasks of `job` and returns when they are done.
    ///
    /// # Safety
    /// For the length of this call: the kernel may be called with the job's `args` for any parts
    /// of its tasks from several threads at once, and the scratch memory holds
    /// [`Self::threads`] times its stride and is used by nothing else.
    pub(crate) unsafe fn launch(&self, job: Job) {
        if job.tasks == 0 {
            return;
        }
        if job.tasks > 1 && !self.workers.is_empty() {
            let gate = match self.gate.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(_held) = gate {
                // SAFETY: passed on to the caller; the gate is held.
                return unsafe { self.launch_on_all(&job) };
            }
        }
        // SAFETY: passed on to the caller; slot 0 is the launching thread's.
        unsafe { job.run(0, job.tasks, 0) }
    }

    /// # Safety
    /// As [`Self::launch`], and the gate is held.
    unsafe fn launch_on_all(&self, job: &Job) {
        let shared = &*self.shared;
        let wanted = (self.threads() as u64 * CHUNKS_PER_THREAD).min(CHUNK_MASK);
        let chunk = job.tasks.div_ceil(wanted);
        let chunks = job.tasks.div_ceil(chunk);
        shared.job.store(job, chunk);
        shared.done.store(0, Ordering::Release);
        let launch = (shared.cursor.load(Ordering::Relaxed) >> (2 * CHUNK_BITS)).wrapping_add(1);
        shared.cursor.store((launch << (2 * CHUNK_BITS)) | chunks, Ordering::SeqCst);
        shared.wake_workers(chunks - 1);
        // SAFETY: the caller keeps the job valid until this function returns, which is after its
        // last chunk is done.
        unsafe { shared.run_chunks(0) };
        shared.wait_until_done(chunks);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.lock());
        self.shared.work_came.notify_all();
        for worker in self.workers.drain(..) {
            // A worker cannot panic: a panic in a kernel has already ended the process.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the worker in `slot`.
    fn work(&self, slot: usize) {
        while !self.stop.load(Ordering::SeqCst) {
            if self.has_work() || spin_until(|| self.has_work()) {
                // SAFETY: a claimed chunk belongs to a launch that has not returned, whose caller
                // vouches for the job (see `Pool::launch`); this worker alone has this slot.
                unsafe { self.run_chunks(slot) };
            } else {
                self.sleep_until_work();
            }
        }
    }

    fn has_work(&self) -> bool {
        self.cursor.load(Ordering::SeqCst) & CHUNK_MASK != 0
    }

    /// Claims and runs chunks until none is left.
    ///
    /// # Safety
    /// As [`Pool::launch`], for each launch whose chunks can be claimed, with `slot` ours alone.
    unsafe fn run_chunks(&self, slot: usize) {
        while let Some((job, begin, end, chunks)) = self.claim(slot) {
            // SAFETY: passed on to the caller; no other thread claimed this chunk.
            unsafe { job.run(begin, end, slot) };
            let is_last = self.done.fetch_add(1, Ordering::SeqCst) + 1 == chunks;
            if is_last && self.launcher_sleeps.load(Ordering::SeqCst) {
                drop(self.lock());
                self.work_ended.notify_all();
            }
        }
    }

    /// A chunk that is now that of the thread in `slot`: its job, tasks `begin..end`, and the launch's number of chunks.
    fn claim(&self, slot: usize) -> Option<(Job, u64, u64, u64)> {
        let mut cursor = self.cursor.load(Ordering::Acquire);
        loop {
            let left = cursor & CHUNK_MASK;
            if left == 0 {
                return None;
            }
            let (job, chunk) = self.job.load()?;
            let first = (cursor >> CHUNK_BITS) & CHUNK_MASK;
            let (taken, rest) = match slot % 2 {
                0 => (first, cursor + (1 << CHUNK_BITS) - 1),
                _ => (first + left - 1, cursor - 1),
            };
            let swapped = self.cursor.compare_exchange_weak(cursor, rest, Ordering::AcqRel, Ordering::Acquire);
            match swapped {
                Ok(_) => {
                    let chunks = job.tasks.div_ceil(chunk);
                    let begin = taken * chunk;
                    return Some((job, begin, job.tasks.min(begin + chunk), chunks));
                }
                Err(current) => cursor = current,
            }
        }
    }

    /// Wakes as many sleeping workers as there is work for.
    fn wake_workers(&self, useful: u64) {
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers == 0 {
            return;
        }
        drop(self.lock());
        if useful >= sleepers as u64 {
            return self.work_came.notify_all();
        }
        for _ in 0..useful {
            self.work_came.notify_one();
        }
    }

    fn sleep_until_work(&self) {
        let mut guard = self.lock();
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !self.has_work() && !self.stop.load(Ordering::SeqCst) {
            guard = self.work_came.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wait_until_done(&self, chunks: u64) {
        let is_done = || self.done.load(Ordering::SeqCst) == chunks;
        if is_done() || spin_until(is_done) {
            return;
        }
        self.launcher_sleeps.store(true, Ordering::SeqCst);
        let mut guard = self.lock();
        while !is_done() {
            guard = self.work_ended.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.launcher_sleeps.store(false, Ordering::SeqCst);
    }
}

/// Spins until `ready` or the time for it is over; tells which.
pub(crate) fn spin_until(ready: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::AlignedBuffer;

    /// Adds to each task's number the sum of its digits of work, using the scratch memory.
    unsafe extern "C" fn square(args: *const *mut u8, begin: u64, end: u64, scratch: *mut u8) {
        for task in begin..end {
            // SAFETY: the tests pass a buffer of one u64 per task and 8 bytes of scratch.
            unsafe {
                let scratch = scratch.cast::<u64>();
                scratch.write(task);
                let out = (*args).cast::<u64>().add(usize::try_from(task).unwrap());
                out.write(out.read() + scratch.read() * scratch.read());
            }
        }
    }

    fn run(pool: &Pool, tasks: u64) -> AlignedBuffer {
        let mut out = AlignedBuffer::zeroed(usize::try_from(tasks).unwrap() * 8);
        let mut scratch = AlignedBuffer::zeroed(pool.threads() * 128);
        let args = [out.bytes_mut().as_mut_ptr()];
        let job = Job {
            kernel: square,
            args: args.as_ptr(),
            tasks,
            scratch: scratch.bytes_mut().as_mut_ptr(),
            scratch_stride: 128,
        };
        // SAFETY: `square` writes each task's own number only; scratch has a place per thread.
        unsafe { pool.launch(job) };
        out
    }

    fn assert_squares(out: &AlignedBuffer) {
        for (task, &value) in out.as_slice::<u64>().iter().enumerate() {
            assert_eq!(value, (task * task) as u64);
        }
    }

    #[test]
    fn every_task_runs_once_for_any_size() {
        for threads in 1..=4 {
            let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
            assert_eq!(pool.threads(), threads);
            for tasks in (0..70).chain([1000, 4096, 4097]) {
                assert_squares(&run(&pool, tasks));
            }
        }
    }

    #[test]
    fn many_launches_in_a_row() {
        let pool = Pool::new(NonZeroUsize::new(3).unwrap()).unwrap();
        for round in 0..20_000 {
            assert_squares(&run(&pool, 2 + round % 40));
        }
    }

    #[test]
    fn launches_after_the_workers_slept() {
        let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            assert_squares(&run(&pool, 64));
        }
    }

    #[test]
    fn launches_from_several_threads_at_once() {
        let pool = Pool::new(NonZeroUsize::new(3).unwrap()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..2000).for_each(|round| assert_squares(&run(&pool, round % 99))));
            }
        });
    }

    #[test]
    fn a_kernel_may_launch() {
        unsafe extern "C" fn outer(args: *const *mut u8, begin: u64, end: u64, _: *mut u8) {
            for _ in begin..end {
                // SAFETY: the test passes the address of the pool.
                let pool = unsafe { &*(*args).cast::<Pool>() };
                assert_squares(&run(pool, 50));
            }
        }
        let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
        let args = [std::ptr::from_ref(&pool).cast_mut().cast::<u8>()];
        let scratch = std::ptr::null_mut();
        let args = args.as_ptr();
        // SAFETY: `outer` reads the pool only and uses no scratch.
        unsafe { pool.launch(Job { kernel: outer, args, tasks: 30, scratch, scratch_stride: 0 }) };
    }

    #[test]
    fn a_limit_is_respected() {
        assert_eq!(Pool::with_limit(NonZeroUsize::new(1)).unwrap().threads(), 1);
        let all = Pool::with_limit(None).unwrap().threads();
        assert_eq!(all, cpu::available_threads().get());
    }
}
