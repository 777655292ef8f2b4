//! The finished graphs: what a recipe puts out, and what that needs.
//!
//! Every update of a training step is guarded: it takes place only when the loss is finite, and every score that
//! weights are pruned by, so that a step with a NaN leaves everything as it was. What a `step` changed is guarded by
//! the step itself.

use super::METRIC_PREFIX;
use super::build::Builder;
use super::copy::{ancestors, copy};
use super::minimize::choose;
use super::prune::{Derivative, SHARE, UNJUDGED};
use crate::diagnostic::{Code, Diagnostic, closest};
use crate::elaborate::Elaborator;
use crate::elaborate::store::Entry;
use crate::elaborate::value::Value;
use nnc_graph::{BinaryOp, CompareOp, Graph, Op, OutputKind, UnaryOp, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// An output that is to be declared: with the leaf that it updates.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) value: ValueId,
    pub(super) updates: Option<ValueId>,
}

impl Wanted {
    fn result(name: &str, value: ValueId) -> Self {
        Self { name: name.to_owned(), value, updates: None }
    }
}

pub(super) fn train_step(mut builder: Builder<'_>) -> Graph {
    let mut wanted = loss_and_metrics(&builder);
    let guard = all_finite(&mut builder);
    let entries: Vec<Entry> = builder.elaborator.store.entries().to_vec();
    let mut written = BTreeMap::new();
    for entry in &entries {
        let Some(guard) = guard else { continue };
        let new = builder.new_parameters.get(&entry.path).copied().unwrap_or(entry.current);
        let value = guarded(&mut builder, new, entry.leaf, guard);
        written.insert(entry.path.clone(), value);
        match builder.averages(entry, value, guard) {
            Some(both) => wanted.extend(both),
            None if new != entry.leaf && !entry.frozen => {
                wanted.push(Wanted { name: entry.path.clone(), value, updates: Some(entry.leaf) });
            }
            None => {}
        }
    }
    wanted.extend(guard.iter().flat_map(|&guard| builder.followed(&written, guard)));
    wanted.extend(read_derivatives(&builder, &wanted));
    wanted.extend(builder.unjudged.map(|count| Wanted::result(UNJUDGED, count)));
    wanted.extend(builder.pruned_share.map(|share| Wanted::result(SHARE, share)));
    finish(&builder, "train", &wanted)
}

/// The derivatives that the choice of masks reads, if it is wanted.
fn read_derivatives(builder: &Builder<'_>, wanted: &[Wanted]) -> Vec<Wanted> {
    let graph = &builder.elaborator.graph;
    let values: Vec<ValueId> = wanted.iter().map(|output| output.value).collect();
    let needed = ancestors(graph, &values);
    let is_read = |derivative: &&Derivative| needed.contains(&graph.value(derivative.stand_in).node);
    let read = builder.derivatives.iter().filter(is_read);
    read.map(|derivative| Wanted::result(&derivative.name, derivative.value)).collect()
}

/// A new value where the loss is finite, else the old one.
fn guarded(builder: &mut Builder<'_>, new: ValueId, old: ValueId, guard: ValueId) -> ValueId {
    if new == old || builder.steps.settled.contains(&new) {
        return new;
    }
    choose(&mut builder.elaborator.graph, guard, new, old)
}

pub(super) fn evaluate(builder: Builder<'_>) -> Graph {
    let mut wanted = loss_and_metrics(&builder);
    wanted.extend(builder.matrices.iter().map(|(name, value)| Wanted::result(name, *value)));
    let entries = builder.elaborator.store.entries().iter();
    for entry in entries.filter(|entry| entry.path.starts_with(METRIC_PREFIX) && entry.current != entry.leaf) {
        let (name, value) = (entry.path.clone(), entry.current);
        wanted.push(Wanted { name, value, updates: Some(entry.leaf) });
    }
    finish(&builder, "evaluate", &wanted)
}

pub(super) fn answer(builder: Builder<'_>, name: Option<&str>) -> Result<Graph, Vec<Diagnostic>> {
    let mut wanted = Vec::new();
    for answer in builder.answers.iter().filter(|answer| name.is_none_or(|name| answer.name == name)) {
        match &answer.value {
            Value::Tensor(value) => wanted.push(Wanted::result(&answer.name, *value)),
            Value::Tuple(items) | Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    if let Value::Tensor(value) = item {
                        wanted.push(Wanted::result(&format!("{}.{at}", answer.name), *value));
                    }
                }
            }
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Str(_) => {}
            Value::Function(_) | Value::Layer(_) | Value::Poison => {}
        }
    }
    if let (Some(name), true) = (name, wanted.is_empty()) {
        let known = builder.answers.iter().map(|answer| answer.name.as_str());
        let diagnostic = Diagnostic::new(Code::E0201, builder.train.name.span, format!("there is no answer `{name}`"));
        return Err(vec![match closest(name, known) {
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None => diagnostic,
        }]);
    }
    Ok(finish(&builder, "answer", &wanted))
}

/// The first values of what the elaborations own, those of the first one first.
pub(super) fn first_values(name: &str, elaborators: [&Elaborator<'_>; 2]) -> Graph {
    let mut graph = Graph::new(&format!("{name}.init"));
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for elaborator in elaborators {
        let entries = elaborator.store.entries().iter();
        let new: Vec<(&str, ValueId)> = entries
            .filter_map(|entry| Some((entry.path.as_str(), entry.first?)))
            .filter(|(path, _)| known.insert(path))
            .collect();
        let wanted: Vec<ValueId> = new.iter().map(|(_, value)| *value).collect();
        let values = copy(&elaborator.first_values, &wanted, &mut graph, &mut known_input);
        for ((path, _), value) in new.into_iter().zip(values) {
            graph.add_output(path, value, OutputKind::Result);
        }
    }
    graph
}

/// The input of that name that the target has already.
pub(super) fn known_input(target: &mut Graph, op: &Op) -> Option<ValueId> {
    let Op::Input { name, .. } = op else { return None };
    let mut nodes =
        target.nodes().filter(|(_, node)| matches!(&node.op, Op::Input { name: known, .. } if known == name));
    nodes.next().map(|(_, node)| node.results[0])
}

fn loss_and_metrics(builder: &Builder<'_>) -> Vec<Wanted> {
    let losses = builder.losses.iter().map(|loss| Wanted::result(&loss.name(), loss.value));
    losses.chain(builder.metrics.iter().map(|metric| Wanted::result(&metric.info.name, metric.value))).collect()
}

/// Whether every loss is finite, and every score that was judged by; `None` without any.
fn all_finite(builder: &mut Builder<'_>) -> Option<ValueId> {
    let graph = &mut builder.elaborator.graph;
    let mut each: Vec<ValueId> = builder.losses.iter().map(|loss| is_finite(graph, loss.value)).collect();
    if let Some(count) = builder.unjudged {
        let none = graph.scalar(graph.ty(count).dtype, 0.0);
        each.push(graph.emit(Op::Compare(CompareOp::Eq), &[count, none]));
    }
    each.into_iter().reduce(|a, b| graph.emit(Op::Binary(BinaryOp::And), &[a, b]))
}

/// Whether a scalar is neither infinite nor NaN.
pub(super) fn is_finite(graph: &mut Graph, loss: ValueId) -> ValueId {
    let size = graph.emit(Op::Unary(UnaryOp::Abs), &[loss]);
    let infinity = graph.scalar(graph.ty(loss).dtype, f64::INFINITY);
    graph.emit(Op::Compare(CompareOp::Lt), &[size, infinity])
}

/// A graph with these outputs and what they need.
fn finish(builder: &Builder<'_>, word: &str, wanted: &[Wanted]) -> Graph {
    let elaborator = &builder.elaborator;
    let mut graph = Graph::new(&format!("{}.{word}", builder.train.name.text));
    let values: Vec<ValueId> =
        wanted.iter().flat_map(|output| std::iter::once(output.value).chain(output.updates)).collect();
    let mut leaf = |target: &mut Graph, op: &Op| builder.averaged_leaf(target, op).or_else(|| known_input(target, op));
    let mut copies = copy(&elaborator.graph, &values, &mut graph, &mut leaf).into_iter();
    for output in wanted {
        let Some(value) = copies.next() else { break };
        let kind = match output.updates.and_then(|_| copies.next()) {
            Some(leaf) => OutputKind::Update(leaf),
            None => OutputKind::Result,
        };
        graph.add_output(&output.name, value, kind);
    }
    graph
}
