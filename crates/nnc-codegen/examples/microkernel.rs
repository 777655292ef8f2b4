//! Measures register tiles of the f32 matrix product in the kernel IR: GFLOP/s of one core, and how long each takes to
//! compile. `cargo run --release -p nnc-codegen --example microkernel [asm]`
//!
//! The tile is `rows x columns`; the right operand is packed `[k][columns]`.

use nnc_codegen::Backend;
use nnc_kernel::ir::{Elem, Kernel, KernelBuilder, Value};
use nnc_kernel::program::{ArgRef, Launch, Program};
use nnc_runtime::{AlignedBuffer, Code, Layout, Pool};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

const DEPTH: i64 = 256;
const REPEATS: u64 = 50_000;

/// A register tile to measure.
struct Shape {
    rows: i64,
    columns: i64,
    lanes: u8,
    unroll: u8,
    /// Whether the left operand is packed `[k][rows]`, or lies in place as `[rows][k]`.
    packed: bool,
}

/// One tile: `rows x columns` accumulators, `columns` a multiple of `lanes`.
fn tile(shape: &Shape) -> Kernel {
    let Shape { rows, columns, lanes, unroll, packed } = *shape;
    let mut kernel = KernelBuilder::new(format!("tile_{rows}x{columns}"));
    let left = kernel.input("left", Elem::F32);
    let right = kernel.input("right", Elem::F32);
    let out = kernel.output("out", Elem::F32);
    kernel.phase(REPEATS, |b, _| {
        let vectors = columns / i64::from(lanes);
        let zero = b.f32(0.0, lanes);
        let (start, end, step) = (b.index(0), b.index(DEPTH), b.index(1));
        let initial = vec![zero; (rows * vectors) as usize];
        let sums = b.for_unrolled(start, end, step, unroll, &initial, |b, k, sums| {
            let mut sums = sums.to_vec();
            let from_right = b.mul_index(k, columns);
            let row: Vec<Value> = (0..vectors)
                .map(|j| {
                    let at = b.add_index(from_right, j * i64::from(lanes));
                    b.load(right, at, lanes)
                })
                .collect();
            for i in 0..rows {
                let at = if packed { b.affine(&[(k, rows)], i) } else { b.add_index(k, i * DEPTH) };
                let scalar = b.load_splat(left, at, lanes);
                for j in 0..vectors {
                    let place = (i * vectors + j) as usize;
                    sums[place] = b.fma(scalar, row[j as usize], sums[place]);
                }
            }
            sums
        });
        for (place, &sum) in sums.iter().enumerate() {
            let at = b.index(place as i64 * i64::from(lanes));
            b.store(out, at, sum);
        }
    });
    kernel.finish()
}

/// Time this thread has spent on a processor: other work on the machine doesn't count.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps scheduler statistics");
    let nanoseconds: f64 = text.split(' ').next().and_then(|word| word.parse().ok()).expect("the first is a number");
    nanoseconds / 1e9
}

fn main() {
    let show = std::env::args().nth(1).is_some_and(|word| word == "asm");
    let pool = Arc::new(Pool::new(NonZeroUsize::MIN).expect("one thread"));
    let shape = |(rows, columns, lanes, unroll, packed)| Shape { rows, columns, lanes, unroll, packed };
    let backend = Backend::host();
    let narrow = [
        (4, 8, 4, 2, true),
        (4, 8, 4, 4, true),
        (4, 8, 8, 4, true),
        (4, 8, 4, 4, false),
        (6, 8, 4, 2, false),
        (8, 4, 4, 4, true),
        (8, 4, 4, 8, false),
        (12, 4, 4, 8, true),
    ];
    let wide = [
        (14, 32, 16, 1, true),
        (14, 32, 16, 4, true),
        (14, 32, 16, 4, false),
        (12, 32, 16, 4, true),
        (8, 48, 16, 4, true),
        (6, 64, 16, 4, true),
        (24, 16, 16, 4, true),
        (8, 32, 16, 4, false),
        (6, 16, 8, 4, true),
        (4, 24, 8, 4, true),
    ];
    let shapes: Vec<_> = match backend {
        Backend::Cranelift => narrow.to_vec(),
        Backend::X64(_) => wide.to_vec(),
    };
    for shape in shapes.into_iter().map(shape) {
        let Shape { rows, columns, lanes, unroll, packed } = shape;
        let kernel = tile(&shape);
        let args = (1..=3).map(|buffer| ArgRef::new(buffer, 0)).collect();
        let program = Program {
            kernels: vec![kernel],
            launches: vec![Launch { kernel: 0, args, serial: true, work: 1 }],
            ..Program::default()
        };
        if show {
            println!("{}", nnc_codegen::dump_asm(&program, backend).expect("compiles"));
        }
        let began = Instant::now();
        let (module, entry) = nnc_codegen::jit(&program, backend, NonZeroUsize::MIN).expect("compiles");
        let compile = began.elapsed();
        let sizes = [DEPTH * rows * 4, DEPTH * columns * 4, rows * columns * 4].map(|bytes| bytes as usize);
        let layout = Layout { externals: sizes.to_vec(), ..Layout::default() };
        let code = Code::from_jit(module, entry, layout).expect("the entry fits");
        let mut compiled = nnc_runtime::Program::new(code, Arc::clone(&pool));
        let mut buffers = sizes.map(AlignedBuffer::zeroed);
        let mut best = f64::INFINITY;
        for _ in 0..8 {
            let [left, right, out] = &mut buffers;
            let began = processor_seconds();
            compiled.run(&mut [left.into(), right.into(), out.into()]).expect("runs");
            best = best.min(processor_seconds() - began);
        }
        let flops = (2 * rows * columns * DEPTH) as f64 * REPEATS as f64;
        let rate = flops / best / 1e9;
        let place = if packed { "packed" } else { "in place" };
        println!(
            "{rows}x{columns} in {lanes} lanes, {place}, unrolled {unroll}: {rate:.1} GFLOP/s, compiled in {compile:.1?}"
        );
    }
}
