//! What a run tells while it goes on.

use super::history::{History, Row};
use super::trace::Point;
use crate::session::{Matrix, Metrics};
use std::path::Path;
use std::time::Duration;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The run begins, or goes on after what is there from before.
    Begun {
        /// What was done before.
        history: &'a History,
    },
    /// The training step is compiled.
    Compiled {
        /// How long it took.
        time: Duration,
        /// Memory for intermediate values.
        arena_bytes: usize,
    },
    /// A step is done.
    Step {
        /// Whole epochs before.
        epoch: u64,
        /// Epochs of the run.
        epochs: u64,
        /// Steps done in this epoch.
        step: usize,
        /// Steps of an epoch.
        steps: usize,
        /// Examples of this step.
        rows: usize,
        /// Means of loss and metrics over the epoch so far.
        means: &'a Metrics,
    },
    /// The step before this completes a point of the run's course.
    Traced {
        /// Means over some steps.
        point: &'a Point,
    },
    /// An epoch is done and validated.
    Epoch {
        /// Its means.
        row: &'a Row,
        /// All epochs so far.
        history: &'a History,
        /// Metrics that are matrices, of the validation split.
        matrices: &'a [Matrix],
        /// Epochs of the run.
        epochs: u64,
        /// Whether it is the best so far.
        improved: bool,
    },
    /// Early stopping ends the run.
    StoppedEarly {
        /// The last epoch.
        epoch: u64,
        /// The best one.
        best: u64,
    },
    /// A checkpoint is complete.
    Saved {
        /// Its file.
        path: &'a Path,
    },
    /// A picture is complete.
    Drawn {
        /// Its file.
        path: &'a Path,
    },
    /// The result was measured on the test split.
    Tested {
        /// Loss and metrics.
        metrics: &'a Metrics,
        /// Metrics that are matrices.
        matrices: &'a [Matrix],
        /// Examples.
        rows: usize,
    },
}

/// Hears of what happens in a run.
pub trait Observer {
    /// Called in the order of events, from the thread that trains.
    fn event(&mut self, event: &Event<'_>);
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event<'_>) {}
}
