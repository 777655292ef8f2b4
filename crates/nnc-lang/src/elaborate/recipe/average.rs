//! `minimize ... average=0.999`: weights that are used are a running mean of those that are trained.
//!
//! What a program answers and is evaluated with has the path of the parameter: the mean. The weights that the training
//! goes on with are a state beside those of the optimiser, `$optimizer.PATH.$fast`; in the first step they are the
//! parameter itself, which may come from a file. So the training step reads the parameter by way of [`trained_leaf`],
//! and writes both. The decay rises to what is asked for as `(1 + t) / (10 + t)`, so that a short training does not
//! remember its beginning.
//!
//! Averaging: B. T. Polyak, A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the
//! exponential form with this rise is that of TensorFlow's `ExponentialMovingAverage`.

use super::build::Builder;
use super::minimize::choose;
use super::output::{Wanted, known_input};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::elaborate::builtins::emit;
use crate::elaborate::store::{Entry, Resident};
use nnc_graph::{BinaryOp, CompareOp, DType, Graph, Op, TensorType, ValueId};

/// Stands for the mean of a parameter in a training step, where the parameter's own leaf is what is trained.
const MEAN: &str = "$mean.";

/// Beside the states of an optimiser, whose names have no `$`: what is trained.
pub(super) const FAST: &str = "$fast";

/// A parameter that is averaged.
pub(super) struct Averaged {
    /// Its path.
    path: String,
    /// The mean.
    mean: ValueId,
    /// The state that holds what is trained, and its path.
    fast: ValueId,
    fast_path: String,
    decay: f64,
    /// Where the recipe says so.
    place: Span,
}

impl Builder<'_> {
    /// From here on the parameter at `path` is the mean of what is trained, which is kept at `fast_path`; false when it
    /// is one already.
    pub(super) fn average(&mut self, (path, fast_path): (&str, String), decay: f64, place: Span) -> bool {
        if let Some(known) = self.averaged.iter().find(|known| known.path == path) {
            let message = format!("another step keeps a mean of `{path}` already");
            let diagnostic = Diagnostic::new(Code::E0601, place, message).with(known.place, "this one");
            self.elaborator.report(diagnostic.help("leave `average` out of one of them"));
            return false;
        }
        let Some(entry) = self.elaborator.store.get(path).cloned() else { return true };
        let graph = &mut self.elaborator.graph;
        let mean = graph.emit(Op::Input { name: format!("{MEAN}{path}"), ty: entry.ty.clone() }, &[]);
        let fast = graph.emit(Op::State { path: fast_path.clone(), ty: entry.ty.clone() }, &[]);
        let state = Entry { path: fast_path.clone(), kind: Resident::State, leaf: fast, current: fast, ..entry };
        self.elaborator.store.insert(state);
        self.averaged.push(Averaged { path: path.to_owned(), mean, fast, fast_path, decay, place });
        true
    }

    /// What a training step writes for an averaged parameter whose trained value becomes `new`; nothing for another
    /// one.
    pub(super) fn averages(&mut self, entry: &Entry, new: ValueId, guard: ValueId) -> Option<[Wanted; 2]> {
        let known = self.averaged.iter().find(|known| known.path == entry.path)?;
        let (mean, fast, fast_path, decay) = (known.mean, known.fast, known.fast_path.clone(), known.decay);
        let share = self.share_of_new(decay, entry.ty.dtype);
        let graph = &mut self.elaborator.graph;
        let share = graph.broadcast_scalar(share, &entry.ty.shape);
        let way = emit::binary(graph, BinaryOp::Sub, new, mean);
        let step = emit::binary(graph, BinaryOp::Mul, share, way);
        let moved = emit::binary(graph, BinaryOp::Add, mean, step);
        let moved = choose(graph, guard, moved, mean);
        Some([
            Wanted { name: fast_path, value: new, updates: Some(fast) },
            Wanted { name: entry.path.clone(), value: moved, updates: Some(mean) },
        ])
    }

    /// One less the decay of this step.
    fn share_of_new(&mut self, decay: f64, dtype: DType) -> ValueId {
        let count = self.elaborator.input("$iteration", TensorType::scalar(DType::I64));
        let graph = &mut self.elaborator.graph;
        let count = graph.emit(Op::Cast(dtype), &[count]);
        let (nine, ten) = (graph.scalar(dtype, 9.0), graph.scalar(dtype, 10.0));
        let below = emit::binary(graph, BinaryOp::Add, count, ten);
        let rise = emit::binary(graph, BinaryOp::Div, nine, below);
        let least = graph.scalar(dtype, 1.0 - decay);
        emit::binary(graph, BinaryOp::Max, rise, least)
    }

    /// What stands in a finished training step for a leaf that has to do with an average.
    pub(super) fn averaged_leaf(&self, target: &mut Graph, op: &Op) -> Option<ValueId> {
        match op {
            Op::Input { name, ty } => {
                let path = name.strip_prefix(MEAN)?;
                Some(leaf(target, Op::Param { path: path.to_owned(), ty: ty.clone() }))
            }
            Op::Param { path, .. } => {
                let known = self.averaged.iter().find(|known| known.path == *path)?;
                Some(trained_leaf(target, op, &known.fast_path))
            }
            Op::State { path, .. } if self.averaged.iter().any(|known| known.fast_path == *path) => {
                Some(leaf(target, op.clone()))
            }
            _ => None,
        }
    }
}

/// What is trained: the parameter itself in the first step, then the state beside it.
fn trained_leaf(target: &mut Graph, parameter: &Op, fast_path: &str) -> ValueId {
    let iteration = Op::Input { name: "$iteration".to_owned(), ty: TensorType::scalar(DType::I64) };
    let iteration = known_input(target, &iteration).unwrap_or_else(|| target.emit(iteration, &[]));
    let mean = leaf(target, parameter.clone());
    let ty = target.ty(mean).clone();
    let fast = leaf(target, Op::State { path: fast_path.to_owned(), ty });
    let zero = emit::int(target, DType::I64, 0);
    let is_first = target.emit(Op::Compare(CompareOp::Eq), &[iteration, zero]);
    choose(target, is_first, mean, fast)
}

/// A leaf of the target, made when it is first asked for.
fn leaf(target: &mut Graph, op: Op) -> ValueId {
    let known = target.nodes().find(|(_, node)| node.op == op).map(|(_, node)| node.results[0]);
    known.unwrap_or_else(|| target.emit(op, &[]))
}
