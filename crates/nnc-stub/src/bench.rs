//! Measures how long one call of a program takes.

use crate::engine::{Engine, EngineError};
use std::fmt;
use std::time::{Duration, Instant};

/// Calls that are not counted: the first touch pages, wake threads and fill caches.
const WARM_UP: usize = 3;
/// More samples than this say nothing more.
const MOST_SAMPLES: usize = 1_000_000;

/// The latency of one call.
#[derive(Clone, PartialEq, Debug)]
pub struct Measurement {
    /// Calls that were timed.
    pub calls: usize,
    /// Rows that one call computes.
    pub batch: usize,
    /// Threads that computed.
    pub threads: usize,
    /// The median.
    pub median: Duration,
    /// The shortest.
    pub min: Duration,
    /// The first and the third quartile.
    pub quartiles: (Duration, Duration),
}

/// Calls the program with what is loaded for about `time`, at least once.
///
/// # Errors
/// As [`Engine::step`].
pub fn measure(engine: &mut Engine<'_>, time: Duration) -> Result<Measurement, EngineError> {
    for _ in 0..WARM_UP {
        engine.step()?;
    }
    let mut samples = Vec::new();
    let start = Instant::now();
    while samples.is_empty() || (start.elapsed() < time && samples.len() < MOST_SAMPLES) {
        let call = Instant::now();
        engine.step()?;
        samples.push(call.elapsed());
    }
    samples.sort_unstable();
    Ok(summarise(&samples, engine.manifest().batch, engine.threads()))
}

/// Reads the statistics off sorted samples; there is at least one.
fn summarise(sorted: &[Duration], batch: usize, threads: usize) -> Measurement {
    let at = |quarters: usize| sorted[(sorted.len() - 1) * quarters / 4];
    let (median, min, quartiles) = (at(2), at(0), (at(1), at(3)));
    Measurement { calls: sorted.len(), batch, threads, median, min, quartiles }
}

impl Measurement {
    /// Rows per second at the median latency.
    #[allow(clippy::cast_precision_loss, reason = "for display")]
    pub fn rows_per_second(&self) -> f64 {
        self.batch as f64 / self.median.as_secs_f64().max(1e-9)
    }

    /// As a JSON object; times in seconds.
    pub fn to_json(&self) -> String {
        let seconds = |time: Duration| time.as_secs_f64();
        format!(
            "{{\"calls\":{},\"batch\":{},\"threads\":{},\"median_seconds\":{:.9},\"min_seconds\":{:.9},\
             \"quartile_seconds\":[{:.9},{:.9}],\"items_per_second\":{:.3}}}",
            self.calls,
            self.batch,
            self.threads,
            seconds(self.median),
            seconds(self.min),
            seconds(self.quartiles.0),
            seconds(self.quartiles.1),
            self.rows_per_second(),
        )
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = if self.batch == 1 { "row" } else { "rows" };
        let threads = if self.threads == 1 { "thread" } else { "threads" };
        writeln!(f, "{} calls of {} {rows} on {} {threads}", self.calls, self.batch, self.threads)?;
        writeln!(f, "  median  {:.3?}", self.median)?;
        writeln!(f, "  min     {:.3?}", self.min)?;
        writeln!(f, "  spread  {:.3?} to {:.3?} (middle half)", self.quartiles.0, self.quartiles.1)?;
        writeln!(f, "  items   {:.0} per second", self.rows_per_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_sorted_samples() {
        let sorted: Vec<Duration> = (1..=9).map(Duration::from_micros).collect();
        let found = summarise(&sorted, 4, 2);
        assert_eq!(found.median, Duration::from_micros(5));
        assert_eq!(found.min, Duration::from_micros(1));
        assert_eq!(found.quartiles, (Duration::from_micros(3), Duration::from_micros(7)));
        assert_eq!(found.rows_per_second().round(), 800_000.0);
        assert!(found.to_json().contains("\"median_seconds\":0.000005000"));
        assert_eq!(summarise(&sorted[..1], 1, 1).median, Duration::from_micros(1));
    }
}
