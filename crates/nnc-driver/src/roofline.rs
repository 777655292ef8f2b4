//! What this machine can do, measured: arithmetic and memory, by kernels of our own.
//!
//! (S. Williams, A. Waterman and D. Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
//! Architectures", Communications of the ACM, 2009.)

use crate::compiled::{Compiler, codegen_error};
use crate::error::DriverError;
use nnc_kernel::ir::{Elem, Kernel, KernelBuilder};
use nnc_kernel::program::{ArgRef, Launch, Program as Kernels};
use nnc_runtime::{AlignedBuffer, Code, ExternalBuffer, Layout, Program};
use serde::Serialize;
use std::time::Instant;

/// The limits of a machine with all threads of a pool at work.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Roofline {
    /// f32 operations a second, a multiply-add counted as two.
    pub flops: f64,
    /// Bytes read from memory a second.
    pub bytes: f64,
}

/// Independent chains of multiply-adds: enough to hide their latency.
const CHAINS: usize = 12;
/// Rounds of the chains in a task.
const ROUNDS: i64 = 1 << 16;
/// Bytes of the buffer that is read to measure memory: many times the cache that one core has to itself.
const STREAM: usize = 256 << 20;
/// Vectors that are read in a round.
const STREAMS: usize = 8;
/// The best of so many runs counts.
const RUNS: usize = 5;

impl Roofline {
    /// Measures for about a fifth of a second.
    ///
    /// # Errors
    /// The machine is not supported, or a bug in the compiler.
    pub fn measure(compiler: &Compiler) -> Result<Self, DriverError> {
        let lanes = compiler.engine.target().f32_lanes;
        let tasks = 4 * compiler.pool.threads() as u64;
        let products = tasks as f64 * ROUNDS as f64 * CHAINS as f64 * f64::from(lanes);
        let arithmetic = best(compiler, multiply_adds(tasks, lanes), tasks as usize * 64, tasks as usize * 256)?;
        let memory = best(compiler, read_all(tasks, lanes), STREAM, tasks as usize * 256)?;
        let read = tasks as f64 * elements_read(tasks, lanes) as f64 * 4.0;
        Ok(Self { flops: 2.0 * products / arithmetic, bytes: read / memory })
    }

    /// The least seconds in which so many operations and bytes can be done.
    pub fn seconds(&self, flops: f64, bytes: f64) -> f64 {
        (flops / self.flops).max(bytes / self.bytes)
    }
}

/// Chains of multiply-adds in registers.
fn multiply_adds(tasks: u64, lanes: u8) -> Kernel {
    let mut kernel = KernelBuilder::new("multiply_adds");
    let from = kernel.input("from", Elem::F32);
    let to = kernel.output("to", Elem::F32);
    kernel.phase(tasks, |b, task| {
        let place = b.mul_index(task, 16);
        let factor = b.load_splat(from, place, lanes);
        let zero = b.f32(0.0, lanes);
        let (start, end, step) = (b.index(0), b.index(ROUNDS), b.index(1));
        let sums = b.for_unrolled(start, end, step, 4, &[zero; CHAINS], |b, _, sums| {
            sums.iter().map(|&sum| b.fma(factor, factor, sum)).collect()
        });
        let total = sums.into_iter().reduce(|a, c| b.add(a, c)).unwrap_or(zero);
        let place = b.mul_index(task, 64);
        b.store(to, place, total);
    });
    kernel.finish()
}

/// How many elements of the buffer each task reads: whole rounds, so that the last task ends inside it.
fn elements_read(tasks: u64, lanes: u8) -> i64 {
    let round = STREAMS as i64 * i64::from(lanes);
    STREAM as i64 / 4 / tasks as i64 / round * round
}

/// The sum of a large buffer.
fn read_all(tasks: u64, lanes: u8) -> Kernel {
    let mut kernel = KernelBuilder::new("read_all");
    let from = kernel.input("from", Elem::F32);
    let to = kernel.output("to", Elem::F32);
    let count = elements_read(tasks, lanes);
    kernel.phase(tasks, |b, task| {
        let start = b.mul_index(task, count);
        let end = b.add_index(start, count);
        let step = b.index(STREAMS as i64 * i64::from(lanes));
        let zero = b.f32(0.0, lanes);
        let sums = b.for_loop(start, end, step, &[zero; STREAMS], |b, at, sums| {
            let add = |(number, &sum): (usize, &_)| {
                let place = b.add_index(at, number as i64 * i64::from(lanes));
                let value = b.load(from, place, lanes);
                b.add(sum, value)
            };
            sums.iter().enumerate().map(add).collect()
        });
        let total = sums.into_iter().reduce(|a, c| b.add(a, c)).unwrap_or(zero);
        let place = b.mul_index(task, 64);
        b.store(to, place, total);
    });
    kernel.finish()
}

/// Seconds of the fastest of several runs of a kernel with an input and an output of so many bytes.
fn best(compiler: &Compiler, kernel: Kernel, input: usize, output: usize) -> Result<f64, DriverError> {
    let args = (1..=2).map(|buffer| ArgRef { buffer, offset: 0 }).collect();
    let kernels = Kernels { kernels: vec![kernel], launches: vec![Launch { kernel: 0, args, serial: false }] };
    let (module, entry) =
        nnc_codegen::jit(&kernels, compiler.engine.backend(), compiler.threads()).map_err(codegen_error)?;
    let internal = |error: String| DriverError::Internal(error);
    let layout = Layout { externals: vec![input, output], ..Layout::default() };
    let code = Code::from_jit(module, entry, layout).map_err(|error| internal(error.to_string()))?;
    let mut program = Program::new(code, compiler.pool.clone());
    let (mut from, mut to) = (AlignedBuffer::zeroed(input), AlignedBuffer::zeroed(output));
    // Pages that were never written may all be one page of zeros. Denormal numbers are slow on some processors.
    from.bytes_mut().chunks_mut(64).for_each(|line| line[..4].copy_from_slice(&0.5f32.to_le_bytes()));
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
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
                let count = elements_read(tasks, lanes);
                assert!(count > 0 && count % (STREAMS as i64 * i64::from(lanes)) == 0);
                assert!(count * tasks as i64 * 4 <= STREAM as i64, "{tasks} tasks, {lanes} lanes");
            }
        }
    }
}
