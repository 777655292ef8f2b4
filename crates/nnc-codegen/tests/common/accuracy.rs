//! The math functions in f32 against references in f64, in units in the last place.
//!
//! The reference is the C library's in f64 (errors below one unit of f64), with the functions it lacks made of accurate
//! ones; it is rounded to f32 only to find special values.

use nnc_kernel::ir::{Builder, Elem, KernelBuilder, Value};
use nnc_kernel::math;
use nnc_kernel::program::{ArgRef, Launch, Program};
use nnc_runtime::{AlignedBuffer, Code, Layout, Pool};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Arguments in one run of a compiled function.
pub const BLOCK: usize = 1 << 16;

type Expand = fn(&mut Builder, Value) -> Value;

/// A function with its reference and allowed error.
pub struct Case {
    pub name: &'static str,
    pub expand: Expand,
    pub reference: fn(f64) -> f64,
    pub limit: f64,
    /// Arguments beyond are not checked.
    pub largest: f32,
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// Series and continued fraction (Abramowitz and Stegun 7.1.6 and 7.1.14), good to a few units of f64.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() || a > 6.0 {
        return if a.is_nan() { x } else { x.signum() };
    }
    if a < 1e-5 {
        // The next term of the series is below a unit in the last place.
        return x * std::f64::consts::FRAC_2_SQRT_PI * (1.0 - x * x / 3.0);
    }
    if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        let mut n = 0.0;
        while term > sum * 1e-18 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        return (sum * (-a * a).exp() * std::f64::consts::FRAC_2_SQRT_PI).copysign(x);
    }
    let mut fraction = 0.0;
    for k in (1..=60).rev() {
        fraction = f64::from(k) / 2.0 / (a + fraction);
    }
    let complement = (-a * a).exp() / (a + fraction) * std::f64::consts::FRAC_2_SQRT_PI / 2.0;
    (1.0 - complement).copysign(x)
}

/// The functions with the limits that `nnc_kernel::math` states.
pub fn cases() -> Vec<Case> {
    let all = f32::INFINITY;
    let turn = 1_048_576.0;
    vec![
        Case { name: "exp", expand: math::exp, reference: f64::exp, limit: 2.0, largest: all },
        Case { name: "log", expand: math::log, reference: f64::ln, limit: 2.0, largest: all },
        Case { name: "tanh", expand: math::tanh, reference: f64::tanh, limit: 2.0, largest: all },
        Case { name: "sigmoid", expand: math::sigmoid, reference: sigmoid, limit: 2.0, largest: all },
        Case { name: "erf", expand: math::erf, reference: erf, limit: 2.0, largest: all },
        Case { name: "sin", expand: math::sin, reference: f64::sin, limit: 1.0, largest: turn },
        Case { name: "cos", expand: math::cos, reference: f64::cos, limit: 1.0, largest: turn },
        Case { name: "rsqrt", expand: math::rsqrt, reference: |x| 1.0 / x.sqrt(), limit: 1.5, largest: all },
    ]
}

/// Compiles `y[i] = f(x[i])` over a block.
pub fn compile(expand: Expand, pool: &Arc<Pool>) -> nnc_runtime::Program {
    const LANES: u8 = 8;
    let mut kernel = KernelBuilder::new("map");
    let (x, y) = (kernel.input("x", Elem::F32), kernel.output("y", Elem::F32));
    kernel.phase(64, |b, task| {
        let base = b.mul_index(task, BLOCK as i64 / 64);
        b.for_each(BLOCK as i64 / 64 / i64::from(LANES), |b, i| {
            let at = b.mul_index(i, i64::from(LANES));
            let at = b.add(at, base);
            let value = b.load(x, at, LANES);
            let value = expand(b, value);
            b.store(y, at, value);
        });
    });
    let args = vec![ArgRef::new(1, 0), ArgRef::new(2, 0)];
    let program = Program {
        kernels: vec![kernel.finish()],
        launches: vec![Launch { kernel: 0, args, serial: false, work: 1 }],
        ..Program::default()
    };
    let (module, entry) =
        nnc_codegen::jit(&program, nnc_codegen::Backend::host(), NonZeroUsize::MIN).expect("compiles");
    let layout = Layout { externals: vec![BLOCK * 4; 2], ..Layout::default() };
    nnc_runtime::Program::new(Code::from_jit(module, entry, layout).expect("the entry fits"), Arc::clone(pool))
}

/// The function of a few numbers, and of zeros behind them.
#[allow(dead_code, reason = "the example has no use for it")]
pub fn apply(case: &Case, numbers: &[f32]) -> Vec<f32> {
    let pool = Arc::new(Pool::new(NonZeroUsize::MIN).expect("a pool"));
    let (mut x, mut y) = (AlignedBuffer::zeroed(BLOCK * 4), AlignedBuffer::zeroed(BLOCK * 4));
    x.as_mut_slice::<f32>()[..numbers.len()].copy_from_slice(numbers);
    compile(case.expand, &pool).run(&mut [(&mut x).into(), (&mut y).into()]).expect("runs");
    y.as_slice::<f32>().to_vec()
}

/// The distance of `found` from `exact` in units in the last place of f32; infinite if a special value is missed.
pub fn error(found: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if exact.is_nan() || rounded.is_infinite() || found.is_nan() || found.is_infinite() {
        let same = (found.is_nan() && exact.is_nan()) || found == rounded;
        let nearly = rounded.is_infinite() && found.abs() == f32::MAX && found.signum() == rounded.signum();
        return if same {
            0.0
        } else if nearly {
            1.0
        } else {
            f64::INFINITY
        };
    }
    // The unit is 2^-23 of the power of two below, by the bits of the exponent.
    let below = f64::from_bits(exact.abs().max(f64::from(f32::MIN_POSITIVE)).to_bits() & 0x7ff0_0000_0000_0000);
    (f64::from(found) - exact).abs() / (below / 8_388_608.0)
}

/// The largest error of a function over every `step`-th argument of all 2^32, with the argument and the result.
pub fn worst(case: &Case, step: usize, pool: &Arc<Pool>) -> (f64, f32, f32) {
    let mut compiled = compile(case.expand, pool);
    let mut worst = (0.0, 0.0f32, 0.0f32);
    let (mut x, mut y) = (AlignedBuffer::zeroed(BLOCK * 4), AlignedBuffer::zeroed(BLOCK * 4));
    for block in 0..(1usize << 32).div_ceil(step * BLOCK) {
        for (i, x) in x.as_mut_slice::<f32>().iter_mut().enumerate() {
            *x = f32::from_bits(((block * BLOCK + i) * step) as u32);
        }
        compiled.run(&mut [(&mut x).into(), (&mut y).into()]).expect("runs");
        for (&x, &y) in x.as_slice::<f32>().iter().zip(y.as_slice::<f32>()) {
            if x.abs() <= case.largest || x.is_nan() {
                let error = error(y, (case.reference)(f64::from(x)));
                if error > worst.0 {
                    worst = (error, x, y);
                }
            }
        }
    }
    worst
}
