//! `layer target = NET(...) follows online rate=0.01`: a layer that nobody trains, and that moves to another one.
//!
//! Target networks, teachers and encoders of keys are such (V. Mnih and others, "Human-level control through deep
//! reinforcement learning", Nature 2015, with `every`; T. P. Lillicrap and others, "Continuous control with deep
//! reinforcement learning", ICLR 2016, with `rate`; A. Tarvainen, H. Valpola, "Mean teachers", NeurIPS 2017; J.-B.
//! Grill and others, "Bootstrap Your Own Latent", NeurIPS 2020).
//!
//! It is frozen, so that it is computed as outside of training and no gradient is derived by what it owns. At the end
//! of each iteration, or of each so-manieth, its parameters go a part of the way to what those of the other are then.
//! Its states become the other's, as those of a normalisation are running means already. A training starts with it
//! being what it follows, which whoever holds the tensors sees to ([`super::RecipeInfo::followers`]).

use super::RecipeInfo;
use super::build::Builder;
use super::minimize::choose;
use super::output::Wanted;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::elaborate::Elaborator;
use crate::elaborate::builtins::emit;
use crate::elaborate::scope::FrameKind;
use crate::elaborate::store::{Entry, Resident};
use crate::elaborate::value::Value;
use crate::elaborate::weight_names::{counterpart, is_below};
use crate::syntax::ast::{Follows, LayerStmt};
use nnc_graph::{BinaryOp, DType, TensorType, ValueId};
use std::collections::BTreeMap;

/// A layer that follows another one.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    /// Its path.
    pub path: String,
    /// The path of the layer that it follows.
    pub leader: String,
    /// The share of the way, above 0 and at most 1.
    rate: f64,
    /// In every so many iterations.
    every: i64,
    span: Span,
}

impl Follower {
    /// The path of what it follows with what it owns at a path.
    fn leads(&self, path: &str) -> Option<String> {
        counterpart(path, &self.path, &self.leader)
    }
}

impl RecipeInfo {
    /// The path of what a tensor follows, if it is of a layer that follows another one.
    pub fn leader(&self, path: &str) -> Option<String> {
        self.followers.iter().find_map(|(follower, leader)| counterpart(path, follower, leader))
    }

    /// The paths of what follows a tensor.
    pub fn following<'a>(&'a self, path: &'a str) -> impl Iterator<Item = String> + 'a {
        self.followers.iter().filter_map(move |(follower, leader)| counterpart(path, leader, follower))
    }
}

impl Elaborator<'_> {
    /// Remembers what a layer at a path follows.
    pub(crate) fn note_follower(&mut self, path: &str, stmt: &LayerStmt, follows: &Follows) {
        let span = follows.leader.span;
        if self.frames.last().is_none_or(|frame| frame.kind != FrameKind::Recipe) {
            let message = "a layer follows another one in a recipe, where they are trained";
            return self.fail(Code::E0107, span, message, Some("declare both in the `train` block".to_owned()));
        }
        if let Some((_, file)) = &stmt.from {
            let message = "a layer that follows another one begins as that is, not as a file says";
            return self.fail(Code::E0107, *file, message, Some("leave `from` out".to_owned()));
        }
        let Some(leader) = self.leader(follows) else { return };
        let Some(rate) = self.rate(follows) else { return };
        let every = follows.every.as_ref().map_or(Some(1), |every| self.every(every, "it moves", "every=1"));
        let Some(every) = every else { return };
        let follower = Follower { path: path.to_owned(), leader, rate, every, span };
        if self.followers.iter().all(|known| known.path != path) {
            self.followers.push(follower);
        }
    }

    /// The path of the layer that is followed.
    fn leader(&mut self, follows: &Follows) -> Option<String> {
        let name = &follows.leader;
        let bound = self.frames.last()?.bindings.get(&name.text).map(|binding| binding.value.clone());
        match bound {
            Some(Value::Layer(layer)) if !layer.frozen => Some(layer.path.clone()),
            Some(Value::Layer(_)) => {
                let message = format!("`{}` is not trained itself, so that there is nothing to follow", name.text);
                self.fail(Code::E0603, name.span, message, None);
                None
            }
            Some(Value::Poison) => None,
            Some(_) | None => {
                let message = format!("`{}` is no layer that is declared before this", name.text);
                self.fail(Code::E0201, name.span, message, Some("name a `layer` of this recipe".to_owned()));
                None
            }
        }
    }

    fn rate(&mut self, follows: &Follows) -> Option<f64> {
        let Some(expr) = &follows.rate else { return Some(1.0) };
        let value = self.eval(expr);
        let rate = self.float(&value, expr.span)?.unwrap_or(1.0);
        if rate > 0.0 && rate <= 1.0 {
            return Some(rate);
        }
        let message = format!("the share of the way that is gone lies above 0, and is at most 1: not {rate}");
        self.fail(Code::E0601, expr.span, message, Some("write `rate=0.01`".to_owned()));
        None
    }
}

impl Builder<'_> {
    /// Holds what follows to what is followed: both are used in each iteration, and own the same.
    pub(super) fn check_followers(&mut self) {
        let entries: Vec<Entry> = self.elaborator.store.entries().to_vec();
        for follower in self.elaborator.followers.clone() {
            let owns = |path: &str| entries.iter().any(|entry| is_below(path, &entry.path));
            if let Some(path) = [&follower.path, &follower.leader].into_iter().find(|path| !owns(path)) {
                let message = format!("the training uses nothing of `{path}`, so that nothing is followed");
                return self.elaborator.fail(Code::E0603, follower.span, message, Some(format!("use `{path}`")));
            }
            for entry in &entries {
                let Some(wanted) = follower.leads(&entry.path) else { continue };
                let found = entries.iter().find(|other| other.path == wanted);
                if found.is_none_or(|found| found.ty != entry.ty) {
                    self.report_unlike(&follower, entry, &wanted, found);
                    return;
                }
            }
        }
    }

    fn report_unlike(&mut self, follower: &Follower, entry: &Entry, wanted: &str, found: Option<&Entry>) {
        let there = found.map_or_else(|| "is not there".to_owned(), |found| format!("is {}", found.ty));
        let message = format!("`{}` is {}, and `{wanted}`, which it follows, {there}", entry.path, entry.ty);
        let diagnostic = Diagnostic::new(Code::E0302, follower.span, message);
        self.elaborator
            .report(diagnostic.help("use the same model with the same arguments on inputs of the same kind"));
    }

    /// In a step that rests in some iterations nothing may be used first that follows or is followed: it would be no
    /// part of the program of the others. `before` are the tensors that there were before it.
    pub(super) fn check_followed_in_step(&mut self, before: usize, place: Span) {
        let new: Vec<String> = self.elaborator.store.entries().iter().skip(before).map(|e| e.path.clone()).collect();
        let is_new = |path: &str| new.iter().any(|owned| is_below(path, owned));
        let part = |known: &Follower| [known.path.clone(), known.leader.clone()].into_iter().find(|path| is_new(path));
        if let Some(path) = self.elaborator.followers.iter().find_map(part) {
            let message = format!(
                "`{path}` follows, or is followed, and this step, which alone uses it, rests in some iterations"
            );
            let help = "use it before the steps, or in one that has no `every`".to_owned();
            self.elaborator.fail(Code::E0601, place, message, Some(help));
        }
    }

    /// What a training step writes for all that follows; `new` are the values that it writes for what is followed.
    pub(super) fn followed(&mut self, new: &BTreeMap<String, ValueId>, guard: ValueId) -> Vec<Wanted> {
        let entries: Vec<Entry> = self.elaborator.store.entries().to_vec();
        let mut wanted = Vec::new();
        for follower in self.elaborator.followers.clone() {
            for entry in &entries {
                let Some(leader) = follower.leads(&entry.path).and_then(|path| new.get(&path).copied()) else {
                    continue;
                };
                let moved = self.moved(&follower, entry, leader);
                let value = choose(&mut self.elaborator.graph, guard, moved, entry.leaf);
                wanted.push(Wanted { name: entry.path.clone(), value, updates: Some(entry.leaf) });
            }
        }
        wanted
    }

    /// What becomes of a tensor that follows one which is `leader` now.
    fn moved(&mut self, follower: &Follower, entry: &Entry, leader: ValueId) -> ValueId {
        let is_part = entry.kind == Resident::Parameter && follower.rate < 1.0;
        let graph = &mut self.elaborator.graph;
        let moved = match is_part {
            true => {
                let way = emit::binary(graph, BinaryOp::Sub, leader, entry.leaf);
                let step = emit::binary_number(graph, BinaryOp::Mul, way, follower.rate);
                emit::binary(graph, BinaryOp::Add, entry.leaf, step)
            }
            false => leader,
        };
        if follower.every == 1 {
            return moved;
        }
        let count = self.elaborator.input("$iteration", TensorType::scalar(DType::I64));
        let is_due = self.is_last_of(count, follower.every);
        choose(&mut self.elaborator.graph, is_due, moved, entry.leaf)
    }
}
