//! Loss and metrics of the steps, in a few hundred points however long the run is.
//!
//! The steps of a run are cut into windows of equal length, and each window becomes one point, the mean over its steps.
//! The points are a part of the checkpoint, so that a resumed run has those of one that was never stopped.

use crate::session::{Means, Metrics, Sum};
use nnc_lang::elaborate::RecipeInfo;
use serde::{Deserialize, Serialize};

/// At most this many points are made of a run.
const POINTS: u64 = 400;

/// Means over some steps in a row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Steps done at its end.
    pub iteration: u64,
    /// Means over its steps, of what is a finite number.
    pub train: Metrics,
}

/// The course of a run, step by step.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Trace {
    /// In order.
    pub points: Vec<Point>,
    /// Sums over the steps since the last point.
    open: Vec<Sum>,
}

impl Trace {
    /// Takes in a step, after which `iteration` of the run's `iterations` are done; gives the point that it completes.
    pub(super) fn add(
        &mut self,
        recipe: &RecipeInfo,
        (metrics, rows): (&Metrics, usize),
        iteration: u64,
        iterations: u64,
    ) -> Option<&Point> {
        let mut window = Means::with_sums(recipe, std::mem::take(&mut self.open));
        window.add(metrics.iter().filter(|(_, value)| value.is_finite()), rows);
        let stride = iterations.div_ceil(POINTS).max(1);
        if iteration < iterations && !iteration.is_multiple_of(stride) {
            self.open = window.into_parts();
            return None;
        }
        self.points.push(Point { iteration, train: window.finish() });
        self.points.last()
    }
}
