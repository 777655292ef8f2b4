//! Statistics over the examples that are trained on, as `learn_mean(train.0)`: what they are, how they are computed,
//! and the state that a recipe keeps each in.
//!
//! A statistic is of the rows of `train` that are not held out, before anything is augmented. Its state,
//! `data:mean@0f5e21aa`, is written by no step; so checkpoints, programs and executables know it as they know weights.
//! The digits say what it is a statistic of: a block that computes something else finds no number in old weights.

use super::at_once::{AT_ONCE, at_once};
use super::{Block, Example};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::elaborate::Elaborator;
use crate::elaborate::recipe::copy::ancestors;
use crate::elaborate::store::{Entry, Resident};
use nnc_graph::text::print;
use nnc_graph::{DType, Graph, NodeId, Op, OutputKind, TensorType, ValueId, fnv1a};
use std::sync::Arc;

/// What is said of many examples by one number for each element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Statistic {
    /// The mean.
    Mean,
    /// The root of the mean squared distance from the mean; 1 where all examples are equal, so that one can divide by
    /// it.
    Std,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

impl Statistic {
    /// Its name: `mean`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Std => "std",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    /// The path of the state for this statistic of a value.
    pub(in crate::elaborate) fn path(self, graph: &Graph, of: ValueId) -> String {
        format!("data:{}@{:08x}", self.name(), fingerprint(graph, of) as u32)
    }

    /// What it is taken for before an example was seen: a standard normal distribution, or a range from 0 to 1.
    fn untaught(self) -> f64 {
        match self {
            Self::Mean | Self::Min => 0.0,
            Self::Std | Self::Max => 1.0,
        }
    }
}

/// A number for how a value is computed.
fn fingerprint(graph: &Graph, value: ValueId) -> u64 {
    let nodes: Vec<NodeId> = ancestors(graph, &[value]).into_iter().collect();
    let number = |value: &ValueId| nodes.binary_search(&graph.value(*value).node).ok();
    let told = nodes.iter().map(|&id| {
        let node = graph.node(id);
        let operands: Vec<Option<usize>> = node.operands.iter().map(number).collect();
        format!("{:?} {operands:?};", node.op)
    });
    fnv1a(told.collect::<String>().into_bytes())
}

/// A use of a statistic in the graph of an example.
#[derive(Clone, Debug)]
pub(crate) struct Taught {
    pub statistic: Statistic,
    /// The state of the recipes; also the name of the input.
    pub path: String,
    /// What it is a statistic of.
    pub of: ValueId,
    /// Where the graph reads it.
    pub leaf: ValueId,
    /// The use.
    pub span: Span,
}

/// A statistic, for whoever opens the data.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// What is said.
    pub statistic: Statistic,
    /// The state of each recipe on the data that it is kept in.
    pub path: String,
    /// The type of that.
    pub ty: TensorType,
    /// What it is a statistic of, for [`Lesson::AT_ONCE`] examples. Inputs: the raw tensors by the names `takes`, and
    /// earlier statistics by their paths. Its output `of` is f64, `[AT_ONCE, ..dims]`.
    pub graph: Arc<Graph>,
    /// The names of the inputs for the raw tensors, in the order of [`super::DataInfo::raw`].
    pub takes: Vec<String>,
    /// Where it is asked for.
    pub span: Span,
}

impl Lesson {
    /// How many examples a run of the graph looks at.
    pub const AT_ONCE: usize = AT_ONCE;
    /// The name of its output.
    pub const OF: &str = "of";
}

impl PartialEq for Lesson {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.takes == other.takes && print(&self.graph) == print(&other.graph)
    }
}

/// What is said of a block that learns other statistics in training than elsewhere.
pub(crate) fn differing_lessons(plain: Option<&Example>, training: Option<&Example>) -> Option<Diagnostic> {
    let (plain, training) = (&plain?.info.lessons, &training?.info.lessons);
    let odd = |ours: &'_ [Lesson], theirs: &[Lesson]| {
        ours.iter().find(|lesson| !theirs.contains(lesson)).map(|lesson| lesson.span)
    };
    let span = odd(training, plain).or_else(|| odd(plain, training))?;
    let message = "this is another number in training than elsewhere: a statistic cannot depend on `training`";
    Some(Diagnostic::new(Code::E0501, span, message).help("put it before the `if`"))
}

impl Block<'_> {
    /// The statistics that the block asks for, in the order in which they can be computed.
    pub(super) fn lessons(&mut self) -> Vec<Lesson> {
        let taught = self.elaborator.taught.take().unwrap_or_default();
        let mut lessons = Vec::with_capacity(taught.len());
        for (at, one) in taught.iter().enumerate() {
            lessons.extend(self.lesson(one, &taught[..at]));
        }
        lessons
    }

    fn lesson(&mut self, taught: &Taught, earlier: &[Taught]) -> Option<Lesson> {
        let ty = self.elaborator.ty(taught.leaf).clone();
        let example = &self.elaborator.graph;
        let needed = ancestors(example, &[taught.of]);
        if needed.iter().any(|&id| matches!(example.node(id).op, Op::Random { .. })) {
            let message = "this would differ from run to run: it draws random numbers";
            self.fail(Code::E0501, taught.span, message);
            return None;
        }
        let augmented = self.parts.fields.iter().zip(&self.parts.plain).filter(|(field, plain)| field.value != **plain);
        let nodes = |value: ValueId| self.elaborator.graph.value(value).node;
        if augmented.map(|(field, _)| nodes(field.value)).any(|node| needed.contains(&node)) {
            let help = "put it before the `augment`";
            self.fail_with_help(Code::E0501, taught.span, "statistics are of examples as they are in the files", help);
            return None;
        }
        match self.batched(taught.of, earlier) {
            Ok(graph) => Some(Lesson {
                statistic: taught.statistic,
                path: taught.path.clone(),
                ty,
                graph: Arc::new(graph),
                takes: self.source_names.clone(),
                span: taught.span,
            }),
            Err(reason) => {
                let message = format!("examples cannot be looked at side by side: {reason}");
                self.fail(Code::E0301, taught.span, message);
                None
            }
        }
    }

    /// A value of the example's graph for several examples.
    fn batched(&self, value: ValueId, earlier: &[Taught]) -> Result<Graph, String> {
        let raw = self.source_names.iter().cloned().zip(self.leaves.iter().map(|(_, raw)| raw.ty.clone()));
        let known = |graph: &mut Graph| {
            let input = |Taught { path, leaf, .. }: &Taught| {
                let op = Op::Input { name: path.clone(), ty: self.elaborator.ty(*leaf).clone() };
                (path.clone(), graph.emit(op, &[]))
            };
            earlier.iter().map(input).collect()
        };
        let (mut graph, found) = at_once("learn", (&self.elaborator.graph, &[value]), raw, known)?;
        let exact = graph.emit(Op::Cast(DType::F64), &found);
        graph.add_output(Lesson::OF, exact, OutputKind::Result);
        Ok(graph)
    }
}

impl Elaborator<'_> {
    /// The state that a recipe keeps a statistic in.
    pub(crate) fn taught_state(&mut self, lesson: &Lesson, span: Span) -> ValueId {
        let (path, ty) = (lesson.path.clone(), lesson.ty.clone());
        let leaf = self.graph.emit(Op::State { path: path.clone(), ty: ty.clone() }, &[]);
        let first = Some(self.first_values.splat(&ty, lesson.statistic.untaught()));
        let kind = Resident::State;
        self.store.insert(Entry { path, kind, ty, leaf, current: leaf, first, frozen: false, span });
        leaf
    }
}
