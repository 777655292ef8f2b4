//! The JSON report of a run, for other programs to read.

use crate::session::Session;
use crate::train::Outcome;
use serde_json::{Map, Value, json};

/// `test.*`, `epochs`, times, sizes, and with what it was run; one object.
pub fn report(session: &Session<'_>, outcome: &Outcome, arena_bytes: usize) -> Value {
    let test: Map<String, Value> =
        outcome.test.iter().flatten().map(|(name, value)| (name.clone(), json!(value))).collect();
    let seconds = outcome.train_time.as_secs_f64();
    json!({
        "recipe": session.recipe().name,
        "test": test,
        "epochs": outcome.epochs,
        "interrupted": outcome.interrupted,
        "train_seconds": seconds,
        "compile_seconds": outcome.compile_time.as_secs_f64(),
        "items_per_second": if seconds > 0.0 { outcome.items as f64 / seconds } else { 0.0 },
        "arena_bytes": arena_bytes,
        "parameters": session.parameter_count(),
        "seed": session.seed(),
        "threads": session.compiler().pool.threads(),
        "engine": session.compiler().engine.name(),
    })
}
