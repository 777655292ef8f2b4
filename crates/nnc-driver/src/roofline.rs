//! What this machine can do, measured: arithmetic, memory and cache, by kernels of our own.
//!
//! Memory bounds a kernel that moves more bytes than the caches hold. Fewer may still lie in a cache from the kernel
//! before, or from the run before; then the bound is what the first level gives that holds them, with the caches of all
//! cores together, so that a kernel hardly does better than its roofline. How large the caches are is what the system
//! says.
//!
//! (S. Williams, A. Waterman and D. Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
//! Architectures", Communications of the ACM, 2009.)

use crate::compiled::{Compiler, codegen_error};
use crate::error::DriverError;
use nnc_kernel::ir::{Builder, Elem, Kernel, KernelBuilder, Value};
use nnc_kernel::program::{ArgRef, Launch, Program as Kernels};
use nnc_opt::quantise::WORD;
use nnc_runtime::{AlignedBuffer, Code, ExternalBuffer, Layout, Program};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The limits of a machine with all threads of a pool at work.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Roofline {
    /// f32 operations a second, a multiply-add counted as two.
    pub flops: f64,
    /// The same of bytes, whose products are added in 32 bits.
    pub byte_operations: f64,
    /// Bytes read from memory a second.
    pub bytes: f64,
    /// The caches, from the cores outwards.
    pub caches: [Cache; LEVELS],
}

/// Levels of caches.
const LEVELS: usize = 3;

/// One level of caches, as all threads together see it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Cache {
    /// Bytes that it holds, of all cores that have one of their own.
    pub size: u64,
    /// Bytes read from it a second.
    pub bytes: f64,
}

/// What the operations of a kernel are done on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arithmetic {
    /// f32.
    Floats,
    /// Bytes that are multiplied, and added in 32 bits.
    Bytes,
}

/// What a kernel can at best be limited by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Arithmetic operations.
    Arithmetic,
    /// Arithmetic operations on bytes.
    #[serde(rename = "byte arithmetic")]
    ByteArithmetic,
    /// Moving its buffers from and to memory.
    Memory,
    /// Moving its buffers from and to the caches, which hold them.
    Cache,
}

impl Bound {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::ByteArithmetic => "byte arithmetic",
            Self::Memory => "memory",
            Self::Cache => "cache",
        }
    }
}

/// Independent chains of multiply-adds: enough to hide their latency.
const CHAINS: usize = 12;
/// What they multiply by: as bytes 0, 0, 0 and 63.
const FACTOR: f32 = 0.5;
/// Rounds of the chains in a task.
const ROUNDS: i64 = 1 << 16;
/// Bytes of the buffer that is read to measure memory: many times the cache that one core has to itself.
const STREAM: usize = 256 << 20;
/// Bytes that all tasks together read again and again to measure a cache.
const CACHED: usize = 32 << 20;
/// The sizes of the caches of a core, and of the one that all share, where the system does not say them.
const CACHE_SIZES: [u64; LEVELS] = [32 << 10, 256 << 10, 1 << 20];
/// Vectors that are read in a round.
const STREAMS: usize = 8;
/// The best run counts of as many as fit into this time, of at least [`LEAST_RUNS`]: other programs on the machine take
/// the processor away for some milliseconds.
const TIME: Duration = Duration::from_millis(60);
const LEAST_RUNS: usize = 3;

impl Roofline {
    /// Measures for about a third of a second.
    ///
    /// # Errors
    /// The machine is not supported, or a bug in the compiler.
    pub fn measure(compiler: &Compiler) -> Result<Self, DriverError> {
        let lanes = compiler.engine.target().f32_lanes;
        let tasks = 4 * compiler.pool.threads() as u64;
        let products = tasks as f64 * ROUNDS as f64 * CHAINS as f64 * f64::from(lanes);
        let seconds = |kernel: Kernel| best(compiler, kernel, tasks as usize * 64, tasks as usize * 256);
        let (floats, bytes) = (seconds(multiply_adds(tasks, lanes))?, seconds(byte_multiply_adds(tasks, lanes))?);
        let (flops, byte_operations) = (2.0 * products / floats, 2.0 * WORD as f64 * products / bytes);
        let rate = |bytes: usize, passes: i64| -> Result<f64, DriverError> {
            let count = elements_read(bytes, tasks, lanes);
            let seconds = best(compiler, read_all(tasks, lanes, count, passes), bytes, tasks as usize * 256)?;
            Ok(passes as f64 * tasks as f64 * count as f64 * 4.0 / seconds)
        };
        let bytes = rate(STREAM, 1)?;
        let sizes = cache_sizes();
        let mut caches = [Cache { size: 0, bytes }; LEVELS];
        // From the outside in, as an inner cache gives no less.
        for level in (0..LEVELS).rev() {
            let each = working_set(&sizes, level, tasks as usize);
            let passes = (CACHED / (tasks as usize * each)).max(1) as i64;
            let outer = caches.get(level + 1).map_or(bytes, |outer| outer.bytes);
            let cores = if level + 1 < LEVELS { compiler.pool.threads() as u64 } else { 1 };
            let measured = rate(tasks as usize * each, passes)?;
            caches[level] = Cache { size: sizes[level] * cores, bytes: measured.max(outer) };
        }
        Ok(Self { flops, byte_operations, bytes, caches })
    }

    /// The better of two measurements.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let mut caches = self.caches;
        caches.iter_mut().zip(other.caches).for_each(|(cache, other)| cache.bytes = cache.bytes.max(other.bytes));
        Self {
            flops: self.flops.max(other.flops),
            byte_operations: self.byte_operations.max(other.byte_operations),
            bytes: self.bytes.max(other.bytes),
            caches,
        }
    }

    /// The least seconds in which so many operations can be done on so many bytes, and what decides them.
    pub fn seconds(&self, (operations, on): (u64, Arithmetic), bytes: u64) -> (f64, Bound) {
        let moved = match self.caches.iter().find(|cache| bytes <= cache.size) {
            Some(cache) => (bytes as f64 / cache.bytes, Bound::Cache),
            None => (bytes as f64 / self.bytes, Bound::Memory),
        };
        let computed = match on {
            Arithmetic::Floats => (operations as f64 / self.flops, Bound::Arithmetic),
            Arithmetic::Bytes => (operations as f64 / self.byte_operations, Bound::ByteArithmetic),
        };
        if computed.0 >= moved.0 { computed } else { moved }
    }
}

/// The bytes that a task reads again and again to measure a level, so that no cache further in holds them: half of the
/// cache, or of a task's part of it where all share it, but the double of what is further in.
fn working_set(sizes: &[u64; LEVELS], level: usize, tasks: usize) -> usize {
    let sharing = if level + 1 < LEVELS { 1 } else { tasks as u64 };
    let inner = level.checked_sub(1).map_or(0, |inner| 2 * sizes[inner]);
    (sizes[level] / 2 / sharing).max(inner) as usize
}

/// The bytes of each level of data caches that the first processor reaches, as Linux tells them. A processor that has
/// fewer levels has its last one for all that are further out.
fn cache_sizes() -> [u64; LEVELS] {
    let mut sizes = [0; LEVELS];
    let caches = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").into_iter().flatten().flatten();
    for cache in caches {
        let read = |name: &str| std::fs::read_to_string(cache.path().join(name)).unwrap_or_default();
        let level = read("level").trim().parse::<usize>().ok().and_then(|level| level.checked_sub(1));
        let place = level.filter(|_| read("type").trim() != "Instruction").and_then(|level| sizes.get_mut(level));
        if let (Some(place), Some(size)) = (place, size_in_bytes(read("size").trim())) {
            *place = size.max(*place);
        }
    }
    if sizes[0] == 0 {
        return CACHE_SIZES;
    }
    for level in 1..LEVELS {
        sizes[level] = sizes[level].max(sizes[level - 1]);
    }
    sizes
}

/// `512K` or `32M` in bytes.
fn size_in_bytes(text: &str) -> Option<u64> {
    let scaled = |digits: &str, shift: u32| digits.parse::<u64>().ok()?.checked_mul(1 << shift);
    match (text.strip_suffix('K'), text.strip_suffix('M')) {
        (Some(digits), _) => scaled(digits, 10),
        (None, Some(digits)) => scaled(digits, 20),
        (None, None) => scaled(text, 0),
    }
}

/// Chains of multiply-adds in registers.
fn multiply_adds(tasks: u64, lanes: u8) -> Kernel {
    chains("multiply_adds", Elem::F32, (tasks, lanes), |b, factor, sum| b.fma(factor, factor, sum))
}

/// The same of words of four bytes, as products of quantised networks have them: the signed ones are at most
/// [`WEIGHT_LEVELS`](nnc_opt::quantise::WEIGHT_LEVELS), as those of [`FACTOR`] are.
fn byte_multiply_adds(tasks: u64, lanes: u8) -> Kernel {
    chains("byte_multiply_adds", Elem::I32, (tasks, lanes), |b, word, sum| {
        let (unsigned, signed) = (b.bitcast(word, Elem::U8), b.bitcast(word, Elem::I8));
        b.dot_i7(sum, unsigned, signed)
    })
}

/// Chains of steps that add to a sum, all with the same factor.
fn chains(
    name: &str,
    elem: Elem,
    (tasks, lanes): (u64, u8),
    step: impl Fn(&mut Builder, Value, Value) -> Value,
) -> Kernel {
    let mut kernel = KernelBuilder::new(name);
    let from = kernel.input("from", elem);
    let to = kernel.output("to", elem);
    kernel.phase(tasks, |b, task| {
        let place = b.mul_index(task, 16);
        let factor = b.load_splat(from, place, lanes);
        let (start, end, one) = (b.index(0), b.index(ROUNDS), b.index(1));
        let sums = b.for_unrolled(start, end, one, 4, &[factor; CHAINS], |b, _, sums| {
            sums.iter().map(|&sum| step(b, factor, sum)).collect()
        });
        let total = sums.into_iter().reduce(|a, c| b.add(a, c)).unwrap_or(factor);
        let place = b.mul_index(task, 64);
        b.store(to, place, total);
    });
    kernel.finish()
}

/// How many elements of a buffer of so many bytes each task reads: whole rounds, so that the last task ends inside it.
fn elements_read(bytes: usize, tasks: u64, lanes: u8) -> i64 {
    let round = STREAMS as i64 * i64::from(lanes);
    bytes as i64 / 4 / tasks as i64 / round * round
}

/// The sum of a buffer, of which each task reads so many elements so many times.
fn read_all(tasks: u64, lanes: u8, count: i64, passes: i64) -> Kernel {
    let mut kernel = KernelBuilder::new("read_all");
    let from = kernel.input("from", Elem::F32);
    let to = kernel.output("to", Elem::F32);
    kernel.phase(tasks, |b, task| {
        let start = b.mul_index(task, count);
        let end = b.add_index(start, count);
        let step = b.index(STREAMS as i64 * i64::from(lanes));
        let zero = b.f32(0.0, lanes);
        let sums = b.for_count(passes, &[zero; STREAMS], |b, _, sums| {
            b.for_loop(start, end, step, sums, |b, at, sums| {
                let add = |(number, &sum): (usize, &_)| {
                    let place = b.add_index(at, number as i64 * i64::from(lanes));
                    let value = b.load(from, place, lanes);
                    b.add(sum, value)
                };
                sums.iter().enumerate().map(add).collect()
            })
        });
        let total = sums.into_iter().reduce(|a, c| b.add(a, c)).unwrap_or(zero);
        let place = b.mul_index(task, 64);
        b.store(to, place, total);
    });
    kernel.finish()
}

/// Seconds of the fastest of several runs of a kernel with an input and an output of so many bytes.
fn best(compiler: &Compiler, kernel: Kernel, input: usize, output: usize) -> Result<f64, DriverError> {
    let args = (1..=2).map(|buffer| ArgRef::new(buffer, 0)).collect();
    let kernels = Kernels {
        kernels: vec![kernel],
        launches: vec![Launch { kernel: 0, args, serial: false, work: 1 }],
        ..Kernels::default()
    };
    let (module, entry) =
        nnc_codegen::jit(&kernels, compiler.engine.backend(), compiler.threads()).map_err(codegen_error)?;
    let internal = |error: String| DriverError::Internal(error);
    let layout = Layout { externals: vec![input, output], ..Layout::default() };
    let code = Code::from_jit(module, entry, layout).map_err(|error| internal(error.to_string()))?;
    let mut program = Program::new(code, compiler.pool.clone());
    let (mut from, mut to) = (AlignedBuffer::zeroed(input), AlignedBuffer::zeroed(output));
    // Pages that were never written may all be one page of zeros. Denormal numbers are slow on some processors.
    from.bytes_mut().chunks_mut(64).for_each(|line| line[..4].copy_from_slice(&FACTOR.to_le_bytes()));
    let mut best = f64::INFINITY;
    let started = Instant::now();
    let mut runs = 0;
    while runs < LEAST_RUNS || started.elapsed() < TIME {
        runs += 1;
        let mut externals = [ExternalBuffer::from(&mut from), ExternalBuffer::from(&mut to)];
        let began = Instant::now();
        program.run(&mut externals).map_err(|error| internal(error.to_string()))?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_end_inside_the_buffer_whatever_their_number() {
        for tasks in 1..200 {
            for lanes in [4, 8, 16] {
                let sets = (0..LEVELS).map(|level| tasks as usize * working_set(&CACHE_SIZES, level, tasks as usize));
                for bytes in sets.chain([STREAM]) {
                    let count = elements_read(bytes, tasks, lanes);
                    assert!(count > 0 && count % (STREAMS as i64 * i64::from(lanes)) == 0);
                    assert!(count * tasks as i64 * 4 <= bytes as i64, "{tasks} tasks, {lanes} lanes");
                }
            }
        }
    }

    #[test]
    fn what_fits_into_the_caches_is_not_bound_by_memory() {
        let caches = [(10, 4e9), (100, 2e9), (1000, 1e9)].map(|(size, bytes)| Cache { size, bytes });
        let machine = Roofline { flops: 1e9, byte_operations: 4e9, bytes: 1e8, caches };
        let seconds = |operations, bytes| machine.seconds((operations, Arithmetic::Floats), bytes);
        assert_eq!(seconds(1, 2000), (2e-5, Bound::Memory));
        assert_eq!(seconds(1, 1000), (1e-6, Bound::Cache));
        assert_eq!(seconds(1, 100), (5e-8, Bound::Cache));
        assert_eq!(seconds(2000, 1000), (2e-6, Bound::Arithmetic));
        assert_eq!(machine.seconds((8000, Arithmetic::Bytes), 1000), (2e-6, Bound::ByteArithmetic));
        assert_eq!(machine.seconds((2000, Arithmetic::Bytes), 1000), (1e-6, Bound::Cache));
    }

    #[test]
    fn a_level_is_measured_by_what_the_one_before_does_not_hold() {
        let sizes = [32 << 10, 1 << 20, 32 << 20];
        assert_eq!([0, 1, 2].map(|level| working_set(&sizes, level, 8)), [16 << 10, 512 << 10, 2 << 20]);
        assert!(cache_sizes().is_sorted() && cache_sizes()[0] > 0);
    }

    #[test]
    fn sizes_of_caches_are_read() {
        assert_eq!(size_in_bytes("32K"), Some(32 << 10));
        assert_eq!(size_in_bytes("8M"), Some(8 << 20));
        assert_eq!(size_in_bytes("900"), Some(900));
        assert_eq!(size_in_bytes("a lot"), None);
    }
}
