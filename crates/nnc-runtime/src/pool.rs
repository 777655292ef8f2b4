//! The thread pool that runs the launches of compiled programs.
//!
//! A launch is a list of kernels that may run side by side ([`Part`]s). Their tasks lie in one line, each as long as
//! the work that it stands for, and the line is cut into chunks of about equal length. Every thread has a run of
//! neighbouring chunks of its own: so small kernels share a chunk, and what a thread has made in one launch is mostly
//! what it reads in the next one and in the next step. Every other thread takes its own from the end. A thread that is
//! done takes of what others have left, at the other end. Who runs which chunk is therefore not certain: kernels give
//! the same bits for any partition. The thread that launches takes part, and returns when the last chunk is done.
//!
//! One launch runs at a time. A launch that finds the pool taken (by another program, or because
//! it was made from inside a kernel) runs alone on its own thread, which cannot deadlock.
//!
//! **Waiting.** An idle worker spins for some microseconds on its own cursor, which every launch changes, since the
//! next one usually follows at once, and then sleeps on a condition variable. A sleeper announces itself before it
//! looks at all cursors a last time, and a launcher publishes the cursors before it looks for sleepers, both
//! sequentially consistent, so one of the two sees the other.

use crate::abi::Part;
use crate::cpu;
use crate::seat::{Job, Line, MOST_CHUNKS, Seat};
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Chunks per thread: enough that a thread which is late or slow costs little.
const CHUNKS_PER_THREAD: u64 = 16;

/// How long a thread spins before it sleeps.
const SPIN: Duration = Duration::from_micros(40);

/// A counter on a cache line of its own, and on the one that the processor fetches beside it.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Counter(pub AtomicU64);

struct Shared {
    seats: Vec<Seat>,
    /// Chunks of the current launch that are done.
    done: Counter,
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
        let shared = Arc::new(Shared::new(threads.get()));
        let mut pool = Self { shared, gate: Mutex::new(()), workers: Vec::new() };
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
    /// For the length of this call: a list of parts is there; their kernels may be called with their `args` for any
    /// tasks from several threads at once; and the scratch memory holds
    /// [`Self::threads`] times its stride and is used by nothing else.
    pub(crate) unsafe fn launch(&self, job: Job) {
        // SAFETY: passed on to the caller.
        let parts = unsafe { job.parts() };
        let tasks: u64 = parts.iter().map(|part| part.tasks).sum();
        if tasks == 0 {
            return;
        }
        let length = parts.iter().map(Part::length).sum();
        if tasks > 1 && !self.workers.is_empty() {
            let gate = match self.gate.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(_held) = gate {
                let wanted = (self.threads() as u64 * CHUNKS_PER_THREAD).min(MOST_CHUNKS);
                // SAFETY: passed on to the caller; the gate is held.
                return unsafe { self.launch_on_all(&job, Line { length, chunks: tasks.min(wanted) }) };
            }
        }
        // SAFETY: passed on to the caller; slot 0 is the launching thread's.
        unsafe { job.run(0, Line { length, chunks: 1 }, 0) }
    }

    /// # Safety
    /// As [`Self::launch`], and the gate is held.
    unsafe fn launch_on_all(&self, job: &Job, line: Line) {
        let shared = &*self.shared;
        shared.done.0.store(0, Ordering::Release);
        let threads = self.threads() as u64;
        // Workers first: they begin while others are told.
        for (slot, seat) in shared.seats.iter().enumerate().rev() {
            let first = |slot: u64| (slot * line.chunks).div_ceil(threads);
            let first_and_left = (first(slot as u64), first(slot as u64 + 1) - first(slot as u64));
            seat.publish(job, line, first_and_left);
        }
        shared.wake_workers(line.chunks - 1);
        // SAFETY: the caller keeps the job valid until this function returns, which is after its
        // last chunk is done.
        unsafe { shared.run_chunks(0) };
        shared.wait_until_done(line.chunks);
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
    fn new(threads: usize) -> Self {
        Self {
            seats: (0..threads).map(|_| Seat::default()).collect(),
            done: Counter::default(),
            sleepers: AtomicUsize::default(),
            launcher_sleeps: AtomicBool::default(),
            stop: AtomicBool::default(),
            sleep: Mutex::default(),
            work_came: Condvar::default(),
            work_ended: Condvar::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the worker in `slot`.
    fn work(&self, slot: usize) {
        let seat = &self.seats[slot];
        let mut last = seat.launch();
        while !self.stop.load(Ordering::SeqCst) {
            // Others may have chunks of a launch that has none for this seat.
            let came = || seat.has_work() || seat.launch() != last;
            if !came() && !spin_until(came) {
                self.sleep_until_work();
            }
            last = seat.launch();
            // SAFETY: a claimed chunk belongs to a launch that has not returned, whose caller
            // vouches for the job (see `Pool::launch`); this worker alone has this slot.
            unsafe { self.run_chunks(slot) };
        }
    }

    /// Claims and runs chunks until none is left: those of the seat in `slot`, then those of others.
    ///
    /// # Safety
    /// As [`Pool::launch`], for each launch whose chunks can be claimed, with `slot` ours alone.
    unsafe fn run_chunks(&self, slot: usize) {
        for turn in 0..self.seats.len() {
            let owner = (slot + turn) % self.seats.len();
            let seat = &self.seats[owner];
            // Others' from the end that they come to last.
            let is_first = owner.is_multiple_of(2) == (turn == 0);
            let (mut ran, mut chunks) = (0, 0);
            while let Some(chunk) = seat.claim(is_first) {
                let (job, line) = seat.job();
                // SAFETY: passed on to the caller; no other thread claimed this chunk.
                unsafe { job.run(chunk, line, slot) };
                (ran, chunks) = (ran + 1, line.chunks);
            }
            if ran > 0 {
                self.report(ran, chunks);
            }
        }
    }

    /// Tells that so many chunks of a launch are done.
    fn report(&self, ran: u64, chunks: u64) {
        let is_last = self.done.0.fetch_add(ran, Ordering::SeqCst) + ran == chunks;
        if is_last && self.launcher_sleeps.load(Ordering::SeqCst) {
            drop(self.lock());
            self.work_ended.notify_all();
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

    /// Sleeps until some thread has chunks that are left: fewer may have been woken than there are.
    fn sleep_until_work(&self) {
        let mut guard = self.lock();
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !self.seats.iter().any(Seat::has_work) && !self.stop.load(Ordering::SeqCst) {
            guard = self.work_came.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wait_until_done(&self, chunks: u64) {
        let is_done = || self.done.0.load(Ordering::SeqCst) == chunks;
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
    use crate::seat::Parts;

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
        let parts = Parts::One(Part { kernel: square, args: args.as_ptr(), tasks, work: 1 });
        let job = Job { parts, scratch: scratch.bytes_mut().as_mut_ptr(), scratch_stride: 128 };
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
        let parts = Parts::One(Part { kernel: outer, args: args.as_ptr(), tasks: 30, work: 1 });
        let job = Job { parts, scratch: std::ptr::null_mut(), scratch_stride: 0 };
        // SAFETY: `outer` reads the pool only and uses no scratch.
        unsafe { pool.launch(job) };
    }

    /// Parts of any sizes, some of them empty.
    #[test]
    fn every_task_of_every_part_runs_once() {
        let cases: [&[(u64, u64)]; 5] = [
            &[(1, 1), (1, 1)],
            &[(0, 5), (3, 100), (40, 1)],
            &[(1, 1); 9],
            &[(500, 7), (1, 3000), (0, 1), (77, 2)],
            &[],
        ];
        for threads in 1..=4 {
            let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
            let mut scratch = AlignedBuffer::zeroed(threads * 128);
            for case in cases {
                let mut outs: Vec<AlignedBuffer> =
                    case.iter().map(|&(tasks, _)| AlignedBuffer::zeroed(usize::try_from(tasks).unwrap() * 8)).collect();
                let args: Vec<[*mut u8; 1]> = outs.iter_mut().map(|out| [out.bytes_mut().as_mut_ptr()]).collect();
                let part = |(&(tasks, work), args): (&(u64, u64), &[*mut u8; 1])| Part {
                    kernel: square,
                    args: args.as_ptr(),
                    tasks,
                    work,
                };
                let parts: Vec<Part> = case.iter().zip(&args).map(part).collect();
                let scratch = scratch.bytes_mut().as_mut_ptr();
                let parts = Parts::Many(parts.as_ptr(), parts.len());
                let job = Job { parts, scratch, scratch_stride: 128 };
                // SAFETY: `square` writes each task's own number only; scratch has a place per thread.
                unsafe { pool.launch(job) };
                outs.iter().for_each(assert_squares);
            }
        }
    }

    #[test]
    fn a_limit_is_respected() {
        assert_eq!(Pool::with_limit(NonZeroUsize::new(1)).unwrap().threads(), 1);
        let all = Pool::with_limit(None).unwrap().threads();
        assert_eq!(all, cpu::available_threads().get());
    }
}
