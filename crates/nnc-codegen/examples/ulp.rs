//! Checks the accuracy of the math functions, and prints the largest error of each in units in the last place.
//!
//! `cargo run --release -p nnc-codegen --example ulp [STEP]`: the f32 functions on every STEP-th of all 2^32 arguments
//! (1, all of them, by default), as compiled code. Ends with an error if a limit is passed.

#[path = "../tests/common/accuracy.rs"]
mod accuracy;

use nnc_runtime::Pool;
use std::sync::Arc;

fn main() {
    let step: usize = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1);
    let pool = Arc::new(Pool::with_limit(None).expect("threads"));
    let mut failed = false;
    for case in accuracy::cases() {
        let (error, x, y) = accuracy::worst(&case, step.max(1), &pool);
        failed |= error > case.limit;
        let verdict = if error > case.limit { "TOO LARGE" } else { "ok" };
        println!("{:8} {error:.3} ulp at {x:e} (gives {y:e}), limit {}: {verdict}", case.name, case.limit);
    }
    std::process::exit(i32::from(failed));
}
