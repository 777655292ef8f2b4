//! How long the multiply-adds of a group of channels take, as the compiler predicts it.
//!
//! Kernels make more of some widths than of others: eight channels fill half of a vector, convolutions of few places
//! have other forms than those of many, and what is read takes its time, too. So what a group's multiply-adds take is
//! not guessed from its sizes: the evaluation is made and lowered without half of its channels, and [`predict`] tells
//! what that saves. It is predicted for one thread of a processor with vectors of sixteen floats, whatever this machine
//! is: the same weights lose the same channels everywhere.

use crate::compiled::{Engine, lower};
use crate::error::DriverError;
use crate::project::Project;
use nnc_codegen::Backend;
use nnc_graph::Graph;
use nnc_kernel::predict::{Machine, predict, run_seconds};
use nnc_lang::elaborate::RecipeInfo;
use nnc_opt::pipeline;
use nnc_opt::prune::channels::{Group, Label, Network, half, shrink};
use nnc_runtime::cpu::Isa;
use std::collections::BTreeSet;

/// What programs are predicted for.
const ENGINE: Engine = Engine::Native(Backend::X64(Isa::Avx512));

/// The least pace: what saves less time, or none, counts as this.
const LEAST: f64 = 0.1;

/// The predicted times of a network's evaluation.
pub struct Clock<'n> {
    network: &'n Network,
    evaluation: Graph,
    /// Seconds that go with a multiply-add, in the mean.
    mean: f64,
    /// Seconds with all channels that are there.
    whole: f64,
}

impl<'n> Clock<'n> {
    /// Those of the evaluation of so many examples, or of a batch if it cannot be made for as many.
    ///
    /// # Errors
    /// Diagnostics; a bug in the compiler.
    pub fn new(
        (project, recipe): (&Project, &RecipeInfo),
        network: &'n Network,
        rows: usize,
    ) -> Result<Self, DriverError> {
        let of = |rows: usize| project.unit.evaluate(&recipe.name, rows);
        // A program may want more than a few rows, as one with `x[0..8]` does.
        let evaluation = project.checked(of(rows).or_else(|_| of(Project::batch(recipe))))?;
        let mut clock = Self { network, evaluation, mean: 0.0, whole: 0.0 };
        clock.whole = clock.seconds(&network.gone)?;
        clock.mean = clock.whole / network.cost.of(&network.gone).max(1) as f64;
        Ok(clock)
    }

    /// The seconds that are saved with a multiply-add of a group of two channels or more, in the mean of its first
    /// half, by what a multiply-add of the network takes.
    ///
    /// # Errors
    /// A bug in the compiler.
    pub fn pace(&self, group: &Group, multiple: usize) -> Result<f64, DriverError> {
        let network = self.network;
        let gone: BTreeSet<Label> = network.gone.iter().chain(half(group, multiple)).copied().collect();
        let fewer = network.cost.of(&network.gone) - network.cost.of(&gone);
        let saved = self.whole - self.seconds(&gone)?;
        Ok((saved / fewer.max(1) as f64 / self.mean).max(LEAST))
    }

    /// The time of a run without some channels.
    fn seconds(&self, gone: &BTreeSet<Label>) -> Result<f64, DriverError> {
        let small = shrink(&self.evaluation, &self.network.record(gone)).map_err(DriverError::Internal)?;
        let optimised = pipeline::optimise(&small, &pipeline::Options::default())
            .map_err(|error| DriverError::Internal(error.to_string()))?;
        let lowered = lower(&optimised, ENGINE, None)?;
        Ok(run_seconds(&lowered, &predict(&lowered, &Machine::of(&ENGINE.target()), 1), 1))
    }
}
