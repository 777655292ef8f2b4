//! `prune(cubic(0.9), every=50, by=movement, over=net.body, scope="global", block=[1, 16])`: weights that go while
//! training.
//!
//! Beside each weight that may go lies a mask, a state at `$prune.PATH.mask`. In every `every`-th iteration masks are
//! chosen anew: all weights of a scope are judged by a function of `.nn`, and those of the lowest scores go, of equal
//! ones the first, so many that the sparsity is what it should be then. What went stays away. Where a score of what is
//! left is no finite number the whole step changes nothing, and the output `$prune.unjudged` counts them. In the other
//! iterations nothing of the choice is in the program. What a step writes to a weight is 0 where the mask does not
//! hold: that is a pass of `nnc_opt::prune`.
//!
//! A function that reads the score from before keeps it in a state, `$prune.PATH.score`.
//!
//! Of a network that lost channels the weights that are left are judged, which the rest of the step is not of yet. So
//! the choice is made of the inputs `$pruned.PATH.value` and `$pruned.PATH.gradient`, in the sizes that [`Unit::left`]
//! tells, in whose place a pass puts the weight and what the output `$pruned.PATH.gradient` is.
//!
//! Blocks lie along the outputs of a weight, which depend on the products that read it. [`Unit::outputs`] tells; a
//! weight that it does not know has no blocks, and stays as it is. The output `$pruned.share` is the share that goes.
//!
//! [`Unit::left`]: super::super::entry::Unit::left
//! [`Unit::outputs`]: super::super::entry::Unit::outputs

use super::blocks::{self, Block};
use super::build::Builder;
use super::copy::differentiable_ancestors;
use super::{PruneInfo, Purpose};
use crate::diagnostic::{Code, Span};
use crate::elaborate::builtins::emit;
use crate::elaborate::store::{Entry, Resident};
use crate::elaborate::value::{Args, Callable, Value};
use crate::elaborate::weight_names::is_below;
use crate::library::{LOWEST, MAGNITUDE};
use crate::syntax::ast::{Arg, Expr, ItemKind};
use nnc_graph::{
    BinaryOp, CompareOp, DType, Dim, Graph, Op, ReduceOp, Shape, SliceRange, TensorType, UnaryOp, ValueId,
};
use std::rc::Rc;

/// What stands for the choice of masks among the steps that are due.
pub(super) const CHOICE: &str = "$prune";
/// What the names of that begin with which the choice is made of.
const JUDGED: &str = "$pruned.";
/// Masks are chosen anew after so many steps unless the recipe says otherwise.
const EVERY: i64 = 100;
const HELP: &str = "it is `prune(cubic(0.9), every=100, by=magnitude, over=LAYER, scope=\"global\", block=[1, 1])`";
/// What the number of scores is put out as that are no finite numbers.
pub(super) const UNJUDGED: &str = "$prune.unjudged";
/// What the share that goes is put out as.
pub(super) const SHARE: &str = "$pruned.share";
/// The largest side of a block.
const LARGEST_BLOCK: i64 = 1024;

/// What a recipe prunes.
pub(super) struct Pruning {
    span: Span,
    sparsity: (Value, Span),
    by: Option<(Value, Span)>,
    over: String,
    every: i64,
    is_global: bool,
    block: Block,
}

impl Pruning {
    /// What a recipe says of it.
    pub(super) fn info(&self) -> PruneInfo {
        PruneInfo { every: self.every, has_blocks: self.block != blocks::ELEMENT, span: self.span }
    }
}

/// A weight that a step trains.
#[derive(Clone)]
pub(super) struct Trained {
    pub path: String,
    /// What it is before the step.
    pub value: ValueId,
    pub gradient: ValueId,
}

/// The derivative by a weight, and what stands for it in the choice of masks.
pub(super) struct Derivative {
    /// What both are called.
    pub name: String,
    pub stand_in: ValueId,
    pub value: ValueId,
}

/// A weight that may go.
struct Weight {
    path: String,
    mask: ValueId,
    score: ValueId,
    /// Where each score stands among those of the weight, the same for all of a block.
    place: ValueId,
}

impl Builder<'_> {
    /// `prune(...)`.
    pub(super) fn prune(&mut self, arguments: &[Arg], span: Span) {
        if self.pruning.is_some() {
            return self.elaborator.fail(Code::E0601, span, "there is a `prune` already", None);
        }
        let Some(first) = arguments.iter().find(|argument| is(argument, "sparsity", arguments)) else {
            let message = "`prune` is told how many of the weights go";
            return self.elaborator.fail(Code::E0601, span, message, Some(HELP.to_owned()));
        };
        let sparsity = (self.elaborator.eval(&first.value), first.value.span);
        if self.check_sparsity(&sparsity).is_none() {
            return;
        }
        let (over, block) = (String::new(), blocks::ELEMENT);
        let mut pruning = Pruning { span, sparsity, by: None, over, every: EVERY, is_global: true, block };
        for argument in arguments.iter().filter(|argument| !is(argument, "sparsity", arguments)) {
            if self.prune_option(argument, &mut pruning).is_none() {
                return;
            }
        }
        self.pruning = Some(pruning);
    }

    /// Whether a sparsity that is a number is a share that may go.
    fn check_sparsity(&mut self, (sparsity, place): &(Value, Span)) -> Option<()> {
        let number = match sparsity {
            Value::Float(number) => *number,
            Value::Int(number) => number.as_number().map(|number| number as f64),
            Value::Bool(_) | Value::Str(_) | Value::Tensor(_) | Value::List(_) | Value::Tuple(_) => None,
            Value::Function(_) | Value::Layer(_) | Value::Poison => None,
        };
        let Some(wrong) = number.filter(|number| !(*number > 0.0 && *number < 1.0)) else { return Some(()) };
        let message = format!("the share of the weights that go lies between 0 and 1, and this is {wrong}");
        self.elaborator.fail(Code::E0601, *place, message, None);
        None
    }

    /// `block=[1, 16]`.
    fn block(&mut self, value: &Expr) -> Option<Block> {
        let given = self.elaborator.eval(value);
        let sides = self.elaborator.dims(&given, value.span)?;
        let side = |side: &Dim| side.as_number().filter(|side| (1..=LARGEST_BLOCK).contains(side));
        let known: Option<Vec<i64>> = sides.iter().map(side).collect();
        if let Some([rows, columns]) = known.as_deref() {
            return Some([*rows as usize, *columns as usize]);
        }
        let message = format!("a block is `[inputs, outputs]`, with sides from 1 to {LARGEST_BLOCK}");
        self.elaborator.fail(Code::E0601, value.span, message, Some("as `block=[1, 16]`".to_owned()));
        None
    }

    fn prune_option(&mut self, argument: &Arg, pruning: &mut Pruning) -> Option<()> {
        let (value, place) = (&argument.value, argument.value.span);
        match argument.name.as_ref().map(|name| name.text.as_str()) {
            Some("every") => {
                let given = self.elaborator.eval(value);
                pruning.every = self.elaborator.known_int(&given, place)?;
                if pruning.every < 1 {
                    let message = format!("masks are chosen after at least 1 step, not {}", pruning.every);
                    self.elaborator.fail(Code::E0601, place, message, None);
                    return None;
                }
            }
            Some("by") => pruning.by = Some((self.elaborator.eval_callee(value)?, place)),
            Some("over") => pruning.over = self.prefix(value)?,
            Some("block") => pruning.block = self.block(value)?,
            Some("scope") => match self.elaborator.eval(value) {
                Value::Str(Some(scope)) if matches!(&*scope, "global" | "layer") => {
                    pruning.is_global = &*scope == "global";
                }
                _ => {
                    let message = "a scope is \"global\" or \"layer\"";
                    self.elaborator.fail(Code::E0601, place, message, None);
                    return None;
                }
            },
            other => {
                let place = argument.name.as_ref().map_or(place, |name| name.span);
                let message = format!("`prune` has no `{}`", other.unwrap_or("second argument"));
                self.elaborator.fail(Code::E0601, place, message, Some(HELP.to_owned()));
                return None;
            }
        }
        Some(())
    }

    /// What the training step does to masks and scores.
    pub(super) fn apply_pruning(&mut self) {
        let Some(pruning) = self.pruning.take() else { return };
        if self.check_pruning(&pruning).is_some() && self.purpose == Purpose::Train {
            self.choose_masks(&pruning);
        }
        self.pruning = Some(pruning);
    }

    /// Whether the pruning goes together with the rest of the recipe.
    fn check_pruning(&mut self, pruning: &Pruning) -> Option<()> {
        let other = match () {
            () if !self.steps.declared.is_empty() => "steps",
            () if !self.accumulations.is_empty() => "`accumulate`",
            () if !self.averaged.is_empty() => "`average`",
            () => return Some(()),
        };
        let message = format!("a recipe with {other} does not prune yet");
        let help = "prune what it has trained: `nnc prune`, then `nnc train --init`".to_owned();
        self.elaborator.fail(Code::E0701, pruning.span, message, Some(help));
        None
    }

    fn choose_masks(&mut self, pruning: &Pruning) {
        let trained = self.trained_weights.clone();
        let may_go = trained.iter().filter(|trained| self.may_go(trained, pruning));
        let may_go: Vec<Trained> = may_go.cloned().collect();
        if may_go.is_empty() {
            let message = match pruning.block {
                blocks::ELEMENT => "nothing that is trained here has two axes, as what is pruned has".to_owned(),
                [rows, columns] => {
                    format!("nothing that is trained here is a factor of products with a block of {rows}x{columns}")
                }
            };
            return self.elaborator.fail(Code::E0603, pruning.span, message, None);
        }
        let weights: Option<Vec<Weight>> = may_go.iter().map(|trained| self.judged(pruning, trained)).collect();
        let Some(mut weights) = weights else { return };
        if pruning.is_global {
            // All together are one tensor.
            let graph = &mut self.elaborator.graph;
            let dtype = emit::joint_float(graph, weights.iter().map(|weight| weight.score));
            weights.iter_mut().for_each(|weight| weight.score = emit::cast(graph, weight.score, dtype));
        }
        let is_due = self.steps.due.as_ref().is_none_or(|due| due.contains(CHOICE));
        let groups: Vec<&[Weight]> = if pruning.is_global { vec![&weights] } else { weights.chunks(1).collect() };
        for group in groups.into_iter().filter(|_| is_due) {
            let Some(gone) = self.lowest(pruning, group) else { return };
            self.mask_updates(group, gone);
        }
    }

    /// A matrix, or more, that the loss does not only pick rows of, and that has a block.
    fn may_go(&self, trained: &Trained, pruning: &Pruning) -> bool {
        let graph = &self.elaborator.graph;
        let ty = graph.ty(trained.value);
        let mut readers = graph.nodes();
        let is_table =
            readers.any(|(_, node)| matches!(node.op, Op::Gather { .. }) && node.operands[0] == trained.value);
        let is_matrix = ty.shape.rank() >= 2 && ty.dtype.is_float() && !is_table;
        is_matrix && is_below(&pruning.over, &trained.path) && self.has_block(trained, pruning.block)
    }

    /// Whether a weight has a block; nobody asks before outputs are known.
    fn has_block(&self, trained: &Trained, block: Block) -> bool {
        let Some(outputs) = &self.outputs else { return true };
        let fits = |axis: &usize| blocks::fits(block, &self.left_of(trained).shape.sizes(), *axis);
        block == blocks::ELEMENT || outputs.get(&trained.path).is_some_and(fits)
    }

    /// The places of the scores of a weight, or of its blocks.
    fn places(&mut self, trained: &Trained, shape: &Shape, block: Block) -> ValueId {
        let graph = &mut self.elaborator.graph;
        let flat = TensorType::new(DType::I32, Shape::from(vec![shape.elements()]));
        let places = graph.emit(Op::Iota { ty: flat, axis: 0 }, &[]);
        let places = graph.emit(Op::Reshape(shape.clone()), &[places]);
        if block == blocks::ELEMENT {
            return places;
        }
        let places = graph.emit(Op::Cast(DType::F32), &[places]);
        let places = self.of_blocks(trained, places, block);
        self.elaborator.graph.emit(Op::Cast(DType::I32), &[places])
    }

    /// The scores of a weight, or of its blocks.
    fn of_blocks(&mut self, trained: &Trained, scores: ValueId, block: Block) -> ValueId {
        let outputs = self.outputs.as_ref().and_then(|outputs| outputs.get(&trained.path)).copied();
        match outputs.filter(|_| block != blocks::ELEMENT) {
            Some(outputs) => blocks::means(&mut self.elaborator.graph, scores, outputs, block),
            None => scores,
        }
    }

    /// The type of what is left of a weight.
    fn left_of(&self, trained: &Trained) -> TensorType {
        let mut ty = self.elaborator.ty(trained.value).clone();
        for (&axis, &size) in self.left.get(&trained.path).into_iter().flatten() {
            ty.shape.0[axis] = Dim::from(size);
        }
        ty
    }

    /// The mask and the score of a weight; what they are kept in is made.
    fn judged(&mut self, pruning: &Pruning, trained: &Trained) -> Option<Weight> {
        let ty = self.left_of(trained);
        let path = |what: &str| format!("$prune.{}.{what}", trained.path);
        let mask = self.kept_state(path("mask"), TensorType::new(DType::Bool, ty.shape.clone()), 1.0);
        let before = self.elaborator.graph.emit(Op::State { path: path("score"), ty: ty.clone() }, &[]);
        let (by, place) = match &pruning.by {
            Some(by) => by.clone(),
            None => (self.library_function(MAGNITUDE)?, pruning.span),
        };
        let [value, gradient] = ["value", "gradient"]
            .map(|what| self.elaborator.input(&format!("{JUDGED}{}.{what}", trained.path), ty.clone()));
        let name = format!("{JUDGED}{}.gradient", trained.path);
        self.derivatives.push(Derivative { name, stand_in: gradient, value: trained.gradient });
        let args = [value, gradient, before].map(Value::Tensor);
        let score = match self.elaborator.call(&by, Args::positional(args, place), place, None) {
            Value::Tensor(score) if *self.elaborator.ty(score) == ty => score,
            Value::Poison => return None,
            other => {
                let shown = self.elaborator.describe(&other);
                let message = format!("`by` gives a score for each element of a weight, and this gives {shown}");
                self.elaborator.fail(Code::E0311, place, message, None);
                return None;
            }
        };
        let reads = differentiable_ancestors(&self.elaborator.graph, &[score]);
        if reads.contains(&self.elaborator.graph.value(before).node) {
            self.enter_state(path("score"), (before, score), 0.0);
        }
        // Shares are counted in whole floats.
        let score = match ty.dtype.is_half() {
            true => self.elaborator.graph.emit(Op::Cast(DType::F32), &[score]),
            false => score,
        };
        let score = self.of_blocks(trained, score, pruning.block);
        let place = self.places(trained, &ty.shape, pruning.block);
        Some(Weight { path: trained.path.clone(), mask, score, place })
    }

    /// A state that nothing has changed yet, with one number as its first value throughout.
    fn kept_state(&mut self, path: String, ty: TensorType, first: f64) -> ValueId {
        let leaf = self.elaborator.graph.emit(Op::State { path: path.clone(), ty }, &[]);
        self.enter_state(path, (leaf, leaf), first);
        leaf
    }

    fn enter_state(&mut self, path: String, (leaf, current): (ValueId, ValueId), first: f64) {
        let elaborator = &mut self.elaborator;
        let ty = elaborator.ty(leaf).clone();
        let first = Some(elaborator.first_values.splat(&ty, first));
        let span = self.train.name.span;
        elaborator.store.insert(Entry { path, kind: Resident::State, ty, leaf, current, first, frozen: false, span });
    }

    pub(super) fn library_function(&self, name: &str) -> Option<Value> {
        let mut library = self.elaborator.program.library_items();
        let is_it = |item: &ItemKind| matches!(item, ItemKind::Function(function) if function.name.text == name);
        library.find(|(_, item)| is_it(&item.kind)).map(|(item, _)| Value::Function(Rc::new(Callable::Item(item))))
    }

    /// Which of some weights go, side by side. What went before counts as the least, and as the first of these.
    fn lowest(&mut self, pruning: &Pruning, weights: &[Weight]) -> Option<ValueId> {
        let (sparsity, place) = &pruning.sparsity;
        let share = self.scalar(sparsity, *place, "a sparsity")?;
        self.pruned_share = Some(share);
        let graph = &mut self.elaborator.graph;
        let (scores, masks) = (flat(graph, weights, |weight| weight.score), flat(graph, weights, |weight| weight.mask));
        let shape = graph.ty(scores).shape.clone();
        let infinity = graph.splat(&graph.ty(scores).clone(), f64::INFINITY);
        let kept = graph.emit(Op::Select, &[masks, scores, infinity]);
        let least = graph.emit(Op::Reduce { op: ReduceOp::Min, axes: vec![0] }, &[kept]);
        let least = graph.broadcast_scalar(least, &shape);
        let scores = graph.emit(Op::Select, &[masks, scores, least]);
        self.note_unjudged(kept, masks);
        let graph = &mut self.elaborator.graph;
        let places = places_of_all(graph, weights);
        let first = graph.splat(&graph.ty(places).clone(), -1.0);
        let places = graph.emit(Op::Select, &[masks, places, first]);
        let dtype = graph.ty(scores).dtype;
        let share = emit::cast(graph, share, dtype);
        let function = self.library_function(LOWEST)?;
        let args = Args::positional([scores, places, share].map(Value::Tensor), *place);
        match self.elaborator.call(&function, args, *place, None) {
            Value::Tensor(gone) => Some(gone),
            _ => None,
        }
    }

    /// Counts the scores of what is left that are no finite numbers.
    fn note_unjudged(&mut self, kept: ValueId, masks: ValueId) {
        let graph = &mut self.elaborator.graph;
        let ty = graph.ty(kept).clone();
        let infinity = graph.splat(&ty, f64::INFINITY);
        let size = graph.emit(Op::Unary(UnaryOp::Abs), &[kept]);
        let is_finite = graph.emit(Op::Compare(CompareOp::Lt), &[size, infinity]);
        let counts = TensorType::new(DType::F32, ty.shape);
        let [one, none] = [1.0, 0.0].map(|number| graph.splat(&counts, number));
        let odd = graph.emit(Op::Select, &[is_finite, none, one]);
        let odd = graph.emit(Op::Select, &[masks, odd, none]);
        let count = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[odd]);
        self.unjudged = Some(match self.unjudged {
            Some(others) => emit::binary(graph, BinaryOp::Add, others, count),
            None => count,
        });
    }

    /// What the step writes to the masks of weights: what does not go of what they held.
    fn mask_updates(&mut self, weights: &[Weight], gone: ValueId) {
        let graph = &mut self.elaborator.graph;
        let stays = graph.emit(Op::Unary(UnaryOp::Not), &[gone]);
        let mut start = Dim::from(0i64);
        for weight in weights {
            let shape = graph.ty(weight.score).shape.clone();
            let size = shape.elements();
            let part = SliceRange { start: start.clone(), size: size.clone(), step: 1 };
            let own = graph.emit(Op::Slice(vec![part]), &[stays]);
            let own = graph.emit(Op::Reshape(shape), &[own]);
            let mask = emit::binary(graph, BinaryOp::And, weight.mask, own);
            start = start + size;
            if let Some(entry) = self.elaborator.store.get_mut(&format!("$prune.{}.mask", weight.path)) {
                entry.current = mask;
            }
        }
    }
}

/// Something of each weight, one behind the other.
fn flat(graph: &mut Graph, weights: &[Weight], value: fn(&Weight) -> ValueId) -> ValueId {
    let parts = weights.iter().map(|weight| line(graph, value(weight))).collect();
    joined(graph, parts)
}

/// A tensor with one axis.
fn line(graph: &mut Graph, value: ValueId) -> ValueId {
    let elements = graph.ty(value).shape.elements();
    graph.emit(Op::Reshape(Shape::from(vec![elements])), &[value])
}

/// Parts of one axis, one behind the other.
fn joined(graph: &mut Graph, parts: Vec<ValueId>) -> ValueId {
    if parts.len() == 1 { parts[0] } else { graph.emit(Op::Concat { axis: 0 }, &parts) }
}

/// The places of all scores of some weights, those of a weight behind those of the one before.
fn places_of_all(graph: &mut Graph, weights: &[Weight]) -> ValueId {
    let (mut before, mut parts) = (Dim::from(0i64), Vec::new());
    for weight in weights {
        let own = line(graph, weight.place);
        let shape = graph.ty(own).shape.clone();
        let offset = graph.emit(Op::Extent { dim: before.clone(), dtype: DType::I32 }, &[]);
        let offset = graph.broadcast_scalar(offset, &shape);
        parts.push(emit::binary(graph, BinaryOp::Add, own, offset));
        before = before + shape.elements();
    }
    joined(graph, parts)
}

/// Whether an argument is the one of this name, which may also stand first without a name.
fn is(argument: &Arg, name: &str, all: &[Arg]) -> bool {
    match &argument.name {
        Some(own) => own.text == name,
        None => std::ptr::eq(argument, &raw const all[0]),
    }
}
