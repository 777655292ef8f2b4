//! `minimize ... accumulate=4`: an update in every so-manieth step, by the mean of their gradients.
//!
//! A running mean of gradients is kept in a state beside the optimiser's, and every update but each k-th is held back.
//! `iteration` and `iterations` then count updates, for the optimiser and its schedules.

use super::OPTIMIZER_PREFIX;
use super::build::Builder;
use super::minimize::{Target, choose};
use crate::elaborate::builtins::emit;
use crate::elaborate::store::{Entry, Resident};
use nnc_graph::{BinaryOp, Op, ValueId};

/// Beside the states of an optimiser, whose names have no `$`: the mean of the gradients since the last update.
const ACCUMULATED: &str = "$accumulated";

/// Counting updates instead of steps.
#[derive(Clone)]
pub(super) struct Step {
    /// Whether this step updates.
    applies: ValueId,
    /// The inputs that were replaced meanwhile.
    pub former: [(String, ValueId); 2],
}

impl Builder<'_> {
    /// From here on `iteration` and `iterations` count updates, of which every `every`-th step makes one.
    pub(super) fn count_updates(&mut self, every: i64) -> Step {
        let former = self.slow_down(every);
        let applies = self.is_last_of(former[0].1, every);
        Step { applies, former }
    }

    /// The mean of the gradients since the last update, kept in a state.
    pub(super) fn accumulated(&mut self, target: &Target, every: i64) -> ValueId {
        let path = format!("{}.{ACCUMULATED}", self.optimizer_path(&target.path));
        let elaborator = &mut self.elaborator;
        let ty = elaborator.ty(target.gradient).clone();
        let leaf = elaborator.graph.emit(Op::State { path: path.clone(), ty: ty.clone() }, &[]);
        let first = elaborator.first_values.splat(&ty, 0.0);
        let share = emit::binary_number(&mut elaborator.graph, BinaryOp::Mul, target.gradient, 1.0 / every as f64);
        let sum = emit::binary(&mut elaborator.graph, BinaryOp::Add, leaf, share);
        let span = self.train.name.span;
        let kind = Resident::State;
        elaborator.store.insert(Entry { path, kind, ty, leaf, current: sum, first: Some(first), frozen: false, span });
        sum
    }

    /// Keeps everything as it was in steps that do not update, and empties what was accumulated in those that do.
    pub(super) fn hold_back(&mut self, targets: &[Target], before: &[ValueId], step: Step) {
        for target in targets {
            let path = format!("{}.{ACCUMULATED}", self.optimizer_path(&target.path));
            let graph = &mut self.elaborator.graph;
            if let Some(new) = self.new_parameters.get_mut(&target.path) {
                *new = choose(graph, step.applies, *new, target.value);
            }
            if let Some(entry) = self.elaborator.store.get_mut(&path) {
                let empty = graph.splat(&entry.ty, 0.0);
                entry.current = choose(graph, step.applies, empty, entry.current);
            }
        }
        let states: Vec<Entry> = self.elaborator.store.entries().to_vec();
        for (at, entry) in states.iter().enumerate() {
            let is_own = entry.path.starts_with(OPTIMIZER_PREFIX) && !entry.path.ends_with(ACCUMULATED);
            let changed = before.get(at).is_none_or(|former| *former != entry.current) && entry.current != entry.leaf;
            if is_own && changed {
                let held = choose(&mut self.elaborator.graph, step.applies, entry.current, entry.leaf);
                if let Some(entry) = self.elaborator.store.get_mut(&entry.path) {
                    entry.current = held;
                }
            }
        }
    }
}
