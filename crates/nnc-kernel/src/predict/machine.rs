//! What the predictions know of a processor: fixed descriptions, one for each vector width, with an instruction for
//! products of bytes or without.
//!
//! They describe a core as Zen 4 is described by its vendor (AMD, "Software Optimization Guide for the AMD Zen4
//! Microarchitecture", 2023; Fog, "Instruction tables", 2023): vectors of 512 bits go through ports of 256 in two
//! halves. Nothing here is measured while compiling, so that the same source has the same predictions everywhere;
//! [`Machine::with_rates`] lets a profile put in what it measured.

use crate::ir::Target;

/// A processor, with times in cycles of one core.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Machine {
    /// Cycles a second.
    pub hertz: f64,
    /// Bytes of a vector register: what one instruction works on.
    pub vector_bytes: usize,
    /// Bytes that a port works on in one cycle.
    pub port_bytes: usize,
    /// Whether one instruction multiplies the bytes of a vector and adds four neighbours.
    pub has_byte_products: bool,
    /// Bytes of the cache next to a core, of the second one, and of the part that a program may find for itself of the
    /// one that all share.
    pub caches: [f64; 3],
    /// Bytes a cycle that a core reads from the second cache.
    pub second_cache_rate: f64,
    /// From the shared cache.
    pub shared_cache_rate: f64,
    /// Bytes a second that one core reads from memory, and that all read together.
    pub memory_rates: [f64; 2],
    /// Cycles until the first bytes of a buffer are there, from the shared cache and from memory.
    pub latencies: [f64; 2],
    /// Cycles of a launch, whatever it does.
    pub launch: f64,
    /// Cycles until all threads of the pool have begun and ended a phase.
    pub barrier: f64,
    /// Cycles of a chunk of tasks that a thread takes.
    pub chunk: f64,
    /// How much longer scattered bytes take to come from afar, less 1.
    pub scattered: f64,
    /// The share of the time for moving data that arithmetic does not hide.
    pub unhidden: f64,
    /// How much longer the instructions of a loop take than the ports would need, in real code.
    pub friction: f64,
}

/// Latency of an addition or a multiplication of floats, in cycles.
pub const LATENCY: f64 = 4.0;
/// Instructions that a core takes up in a cycle.
pub const ISSUE: f64 = 6.0;
/// Cycles that the end of a loop costs: its branch is predicted wrongly.
pub const LOOP_END: f64 = 9.0;

impl Machine {
    /// The description of the target.
    pub fn of(target: &Target) -> Self {
        Self {
            hertz: 3.7e9,
            vector_bytes: 4 * usize::from(target.f32_lanes),
            port_bytes: 32,
            has_byte_products: target.has_byte_products,
            caches: [32e3, 1e6, 24e6],
            second_cache_rate: 32.0,
            shared_cache_rate: 26.0,
            memory_rates: [26e9, 33e9],
            latencies: [60.0, 350.0],
            launch: 150.0,
            barrier: 1800.0,
            chunk: 60.0,
            scattered: 0.7,
            unhidden: 0.3,
            friction: 1.03,
        }
    }

    /// Whether a store with a mask is a store like any other.
    pub fn leaves_out_lanes(&self) -> bool {
        self.vector_bytes == 64
    }

    /// The same with the clock at which so many f32 operations a second are done on `threads` threads, and memory that
    /// gives so many bytes a second to all of them.
    #[must_use]
    pub fn with_rates(self, flops: f64, bytes: f64, threads: usize) -> Self {
        let scale = flops / self.peak(threads);
        let [one, all] = self.memory_rates;
        let expected = self.memory_rate(threads);
        Self { hertz: self.hertz * scale, memory_rates: [one * bytes / expected, all * bytes / expected], ..self }
    }

    /// f32 operations a second on so many cores, a multiply-add counted as two.
    pub fn peak(&self, threads: usize) -> f64 {
        let halves = (self.vector_bytes as f64 / self.port_bytes as f64).max(1.0);
        threads as f64 * self.hertz * 2.0 * 2.0 * (self.vector_bytes / 4) as f64 / halves
    }

    /// Bytes a second from memory to so many cores together.
    pub fn memory_rate(&self, threads: usize) -> f64 {
        let [one, all] = self.memory_rates;
        (one * threads as f64).min(all)
    }

    /// Halves that an instruction on so many bytes is cut into at the ports.
    pub fn slots(&self, bytes: usize) -> f64 {
        bytes.div_ceil(self.port_bytes).max(1) as f64
    }

    /// Instructions for a value of so many bytes.
    pub fn instructions(&self, bytes: usize) -> f64 {
        bytes.div_ceil(self.vector_bytes).max(1) as f64
    }
}
