//! `minimize LOSS [over PART] using OPTIMISER [, clip_norm=1.0] [, accumulate=4] [, average=0.999]`, or `minimize LOSS`
//! alone, where what learns are states that models update by rules of their own.
//!
//! One `grad` gives the derivatives by every parameter that some part covers and the loss depends on. The body of the
//! optimiser is elaborated for each parameter, its states at `$optimizer.PATH.NAME`. Clipping scales all gradients by
//! one number, from their joint norm.

use super::accumulate::Step;
use super::average::FAST;
use super::build::Builder;
use super::copy::differentiable_ancestors;
use super::prune::Trained;
use super::{Accumulation, OPTIMIZER_PREFIX, Purpose, quantise};
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::elaborate::LayerUse;
use crate::elaborate::builtins::emit;
use crate::elaborate::program::ItemId;
use crate::elaborate::resident;
use crate::elaborate::store::{Entry, Resident};
use crate::elaborate::value::{Args, Argument, Callable, Value};
use crate::elaborate::weight_names::is_below;
use crate::library::CLIP_SCALE;
use crate::syntax::ast::{Expr, ExprKind, FunctionKind, Ident, ItemKind, Minimize, MinimizePart};
use nnc_graph::{BinaryOp, NodeId, Op, ReduceOp, ValueId};
use std::collections::BTreeSet;
use std::rc::Rc;

/// `over PART using OPTIMISER`, evaluated.
struct Part {
    /// Paths begin with it; empty for everything.
    prefix: String,
    span: Span,
    optimizer: ItemId,
    arguments: Vec<Argument>,
    /// The call behind `using`.
    using: Span,
}

/// `clip_norm`, `accumulate`, `average`.
#[derive(Default)]
struct Extras {
    clip_norm: Option<(Value, Span)>,
    accumulate: Option<i64>,
    average: Option<(f64, Span)>,
}

/// The options that `minimize` has.
const OPTIONS: [&str; 3] = ["clip_norm", "accumulate", "average"];

/// A parameter with what is done to it.
pub(super) struct Target {
    pub path: String,
    /// What it is now.
    pub value: ValueId,
    part: usize,
    pub gradient: ValueId,
}

impl Builder<'_> {
    pub(super) fn minimize(&mut self, minimize: &Minimize, span: Span) {
        if !self.needs_loss() {
            return;
        }
        let loss = self.elaborator.eval(&minimize.loss);
        let Some(loss) = self.scalar(&loss, minimize.loss.span, "a loss") else {
            self.trained = None;
            return;
        };
        self.add_loss(loss);
        if self.purpose != Purpose::Train {
            return;
        }
        if minimize.parts.is_empty() {
            return self.without_optimiser(loss, span);
        }
        self.quantise_first();
        let Some(extras) = self.extras(&minimize.options) else {
            self.trained = None;
            return;
        };
        let accumulation = |every| Accumulation { step: self.steps.open.clone(), every };
        self.accumulations.extend(extras.accumulate.map(accumulation));
        let step = extras.accumulate.map(|every| self.count_updates(every));
        let parts: Option<Vec<Part>> = minimize.parts.iter().map(|part| self.part(part)).collect();
        match parts {
            Some(parts) => {
                if let Some(targets) = self.targets(&parts, loss, span) {
                    self.update_all(&parts, targets, &extras, step.clone());
                }
            }
            None => self.trained = None,
        }
        if let Some(step) = step {
            self.elaborator.inputs.extend(step.former);
        }
    }

    /// A loss that is told and nothing is derived of: models learn by updates of their own.
    fn without_optimiser(&mut self, loss: ValueId, span: Span) {
        let reached = differentiable_ancestors(&self.elaborator.graph, &[loss]);
        let is_reached = |entry: &&Entry| reached.contains(&self.elaborator.graph.value(entry.current).node);
        let entries = self.elaborator.store.entries().iter().filter(|entry| !entry.frozen);
        let parameter = entries.clone().filter(is_reached).find(|entry| entry.kind == Resident::Parameter);
        let learns = entries.clone().any(|entry| entry.kind == Resident::State && entry.current != entry.leaf);
        let message = match parameter {
            Some(parameter) => format!("nothing says how `{}` is trained", parameter.path),
            None if learns => return,
            None => "this trains nothing: there is no optimiser, and no model updates a state".to_owned(),
        };
        self.trained = None;
        self.elaborator.fail(
            Code::E0602,
            span,
            message,
            Some("write `using adam(lr=1e-3)` behind the loss".to_owned()),
        );
    }

    fn extras(&mut self, options: &[(Ident, Expr)]) -> Option<Extras> {
        let mut extras = Extras::default();
        for (at, (name, expr)) in options.iter().enumerate() {
            if options[..at].iter().any(|(before, _)| before.text == name.text) {
                let message = format!("`{}` is there already", name.text);
                self.elaborator.fail(Code::E0601, name.span, message, None);
                return None;
            }
            let value = self.elaborator.eval(expr);
            match name.text.as_str() {
                "clip_norm" => {
                    let number = self.elaborator.float(&value, expr.span)?;
                    if number.is_some_and(|number| number <= 0.0) {
                        self.elaborator.fail(Code::E0601, expr.span, "the norm to clip at is above 0", None);
                        return None;
                    }
                    extras.clip_norm = Some((value, expr.span));
                }
                "accumulate" => {
                    let every = self.elaborator.known_int(&value, expr.span)?;
                    if every < 1 {
                        self.elaborator.fail(Code::E0601, expr.span, "at least 1 step is accumulated", None);
                        return None;
                    }
                    extras.accumulate = Some(every).filter(|&every| every > 1);
                }
                "average" => {
                    if self.is_seldom() {
                        let message = "a step that rests in some iterations keeps no mean of its weights";
                        self.elaborator.fail(Code::E0601, name.span, message, Some("leave `average` out".to_owned()));
                        return None;
                    }
                    let decay = self.elaborator.float(&value, expr.span)?;
                    if decay.is_some_and(|decay| decay <= 0.0 || decay >= 1.0) {
                        let message = "the share of the mean that stays in a step lies between 0 and 1";
                        self.elaborator.fail(Code::E0601, expr.span, message, Some("write `average=0.999`".to_owned()));
                        return None;
                    }
                    extras.average = decay.map(|decay| (decay, name.span));
                }
                other => {
                    let message = format!("`minimize` has no option `{other}`");
                    let help = match closest(other, OPTIONS) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "there are `clip_norm`, `accumulate` and `average`".to_owned(),
                    };
                    self.elaborator.fail(Code::E0601, name.span, message, Some(help));
                    return None;
                }
            }
        }
        Some(extras)
    }

    fn part(&mut self, part: &MinimizePart) -> Option<Part> {
        let (prefix, span) = match &part.over {
            Some(over) => (self.prefix(over)?, over.span),
            None => (String::new(), part.using.span),
        };
        let (callee, arguments) = match &part.using.kind {
            ExprKind::Call(callee, arguments) => (&**callee, arguments.as_slice()),
            _ => (&part.using, &[][..]),
        };
        let value = self.elaborator.eval_callee(callee)?;
        let optimizer = match &value {
            Value::Function(callable) => match **callable {
                Callable::Item(item) => Some(item),
                Callable::Builtin(_) | Callable::Opaque(_) => None,
            },
            _ => None,
        };
        let is_optimizer = |item: &ItemId| {
            self.elaborator.program.function(*item).is_some_and(|function| function.kind == FunctionKind::Optimizer)
        };
        let Some(optimizer) = optimizer.filter(is_optimizer) else {
            let message = "this is no optimizer";
            let help = "`using` takes one, as in `using adam(lr=1e-3)`".to_owned();
            self.elaborator.fail(Code::E0311, callee.span, message, Some(help));
            return None;
        };
        let arguments = self.elaborator.eval_arguments(arguments);
        Some(Part { prefix, span, optimizer, arguments, using: part.using.span })
    }

    /// The path that `over` names: a layer, the model, or a part of either.
    pub(super) fn prefix(&mut self, over: &Expr) -> Option<String> {
        let text: String = self.elaborator.program.text(over.span).chars().filter(|c| !c.is_whitespace()).collect();
        let (first, rest) = match text.find(['.', '[']) {
            Some(at) => text.split_at(at),
            None => (text.as_str(), ""),
        };
        let rest = rest.trim_start_matches('.');
        let frame = self.elaborator.frames.last()?;
        let bound = frame.bindings.get(first).map(|binding| binding.value.clone());
        match bound {
            Some(Value::Layer(layer)) => {
                let joint = if layer.path.is_empty() || rest.is_empty() { "" } else { "." };
                Some(format!("{}{joint}{rest}", layer.path))
            }
            Some(Value::Poison) => None,
            Some(_) | None => {
                let layers = frame.bindings.iter().filter(|(_, b)| matches!(b.value, Value::Layer(_)));
                let layers: Vec<&str> = layers.map(|(name, _)| name.as_str()).collect();
                let help = closest(first, layers).map(|meant| format!("did you mean `{meant}`?"));
                self.elaborator.fail(Code::E0201, over.span, format!("`{first}` is no layer of this recipe"), help);
                None
            }
        }
    }

    /// The parameters that are trained, with their gradients.
    fn targets(&mut self, parts: &[Part], loss: ValueId, span: Span) -> Option<Vec<Target>> {
        let reached = differentiable_ancestors(&self.elaborator.graph, &[loss]);
        let entries: Vec<Entry> = self.elaborator.store.entries().to_vec();
        let mut found: Vec<(String, ValueId, usize)> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == Resident::Parameter && !entry.frozen) {
            let covers = |part: &Part| is_below(&part.prefix, &entry.path);
            let part = (0..parts.len()).filter(|&at| covers(&parts[at])).max_by_key(|&at| parts[at].prefix.len());
            let is_reached = reached.contains(&self.elaborator.graph.value(entry.current).node);
            if let Some(part) = part.filter(|_| is_reached) {
                found.push((entry.path.clone(), entry.current, part));
            }
        }
        if let Some(trained) = &mut self.trained {
            trained.extend(found.iter().map(|(path, _, _)| path.clone()));
        }
        for (at, part) in parts.iter().enumerate() {
            if found.iter().any(|(_, _, part)| *part == at) {
                continue;
            }
            match found.iter().find(|(path, _, _)| is_below(&part.prefix, path)) {
                // Of two that say the same, the later one has the parameters.
                Some((_, _, other)) if parts[*other].prefix == part.prefix => self.report_covered(&parts[*other], part),
                Some((_, _, other)) => self.report_covered(part, &parts[*other]),
                None => self.report_idle(part, &reached, span),
            }
            return None;
        }
        let paths: Vec<String> = found.iter().map(|(path, _, _)| path.clone()).collect();
        for (layer, path, value) in self.learned_ranges(&paths) {
            let of_layer = found.iter().find(|(path, _, _)| *path == layer).map(|(_, _, part)| *part);
            self.trained.iter_mut().for_each(|trained| trained.extend([path.clone()]));
            found.extend(of_layer.map(|part| (path, value, part)));
        }
        let operands: Vec<ValueId> = std::iter::once(loss).chain(found.iter().map(|(_, value, _)| *value)).collect();
        let gradients = self.elaborator.emit_grad(&operands, span)?;
        let targets = found.into_iter().zip(gradients);
        Some(targets.map(|((path, value, part), gradient)| Target { path, value, part, gradient }).collect())
    }

    /// Warns of the parameters that no `minimize` of the recipe reaches.
    pub(super) fn report_unreached(&mut self) {
        let Some(trained) = &self.trained else { return };
        let entries = self.elaborator.store.entries().iter();
        let parameters = entries.filter(|entry| entry.kind == Resident::Parameter && !entry.frozen);
        let entries: Vec<Entry> = parameters.filter(|entry| !trained.contains(&entry.path)).cloned().collect();
        if entries.is_empty() {
            return;
        }
        let which = if self.minimized.is_some() { "this `minimize` does" } else { "the steps do" };
        let place = self.minimized.unwrap_or(self.train.name.span);
        self.report_untrained(&entries, &format!("for {which} not reach them"), place);
    }

    /// What the recipe has made: the types that answers and pictures are held to.
    pub(super) fn made(&self) -> resident::Made {
        let elaborator = &self.elaborator;
        let place = |path: &str| {
            let within = |layer: &LayerUse| is_below(&layer.path, path);
            let uses = elaborator.layers.iter().rev().filter(|layer| within(layer));
            uses.filter_map(|layer| elaborator.uses.get(&layer.output)).map(|fact| fact.span).next()
        };
        let entries = elaborator.store.entries().iter();
        entries.map(|entry| (entry.path.clone(), (entry.ty.clone(), place(&entry.path)))).collect()
    }

    /// Warns of the parameters that answers or pictures have and the training, which has made those of `made`, has not.
    pub(super) fn report_unlearnt(&mut self, made: &resident::Made) {
        let entries = self.elaborator.store.entries().iter();
        let own =
            |entry: &&Entry| entry.kind == Resident::Parameter && !entry.frozen && !made.contains_key(&entry.path);
        let entries: Vec<Entry> = entries.filter(own).cloned().collect();
        if !entries.is_empty() {
            let which = if self.purpose == Purpose::Picture { "pictures" } else { "answers" };
            self.report_untrained(&entries, &format!("for only {which} use them"), self.train.name.span);
        }
    }

    fn report_untrained(&mut self, entries: &[Entry], reason: &str, place: Span) {
        let names: Vec<String> = entries.iter().map(|entry| format!("`{}`", entry.path)).collect();
        let message = format!("never trained, {reason}: {}", names.join(", "));
        let mut diagnostic = Diagnostic::new(Code::W0003, place, message);
        for entry in entries.iter().filter(|entry| !self.elaborator.program.is_library(entry.span)) {
            diagnostic = diagnostic.with(entry.span, format!("`{}`", entry.path));
        }
        self.elaborator.report(diagnostic);
    }

    /// A part of which all is in other ones is an error.
    fn report_covered(&mut self, part: &Part, other: &Part) {
        let message = "other parts cover all of this already";
        let diagnostic = Diagnostic::new(Code::E0603, part.span, message).with(other.span, "as this one");
        self.elaborator.report(diagnostic.help("leave one of them out: a parameter is trained by one optimiser"));
    }

    /// A part that covers nothing which is to be trained is an error.
    fn report_idle(&mut self, part: &Part, reached: &BTreeSet<NodeId>, span: Span) {
        let entries = self.elaborator.store.entries().iter();
        let covered: Vec<&Entry> =
            entries.filter(|entry| entry.kind == Resident::Parameter && is_below(&part.prefix, &entry.path)).collect();
        let is_former = |entry: &&Entry| {
            entry.current != entry.leaf && reached.contains(&self.elaborator.graph.value(entry.leaf).node)
        };
        if covered.is_empty()
            && let Some((owner, parts)) = self.parts_beside(part)
        {
            let wrong = part.prefix.rsplit('.').next().unwrap_or_default();
            let help = match closest(wrong, parts.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{owner}.{meant}`?"),
                None => format!(
                    "there are {}",
                    parts.iter().map(|name| format!("`{owner}.{name}`")).collect::<Vec<_>>().join(", ")
                ),
            };
            return self.elaborator.fail(
                Code::E0603,
                part.span,
                format!("`{owner}` has no part `{wrong}`"),
                Some(help),
            );
        }
        let all_frozen = !covered.is_empty() && covered.iter().all(|entry| entry.frozen);
        let message = match part.prefix.as_str() {
            _ if covered.iter().any(is_former) => {
                "the loss depends on these parameters only as they were before a step trained them"
            }
            "" if all_frozen => "every layer is frozen: there is no parameter to be trained",
            prefix if all_frozen => &format!("`{prefix}` is frozen: nothing of it is trained"),
            _ if !covered.is_empty() => "the loss depends on no parameter that this covers",
            "" if !self.elaborator.store.entries().is_empty() => {
                "there is no parameter to be trained; where models update their states instead, leave `using` out"
            }
            "" => "there is no parameter to be trained: the loss uses no model",
            prefix => &format!("the loss does not depend on `{prefix}`: nothing of it is used before this"),
        };
        let help = message.ends_with("trained them").then(|| "use the model inside of this step".to_owned());
        let place = if part.prefix.is_empty() { span } else { part.span };
        self.elaborator.fail(Code::E0603, place, message, help);
    }

    /// Of a part that is not there, what it would be in as it is written, and the parts that this has.
    fn parts_beside(&self, part: &Part) -> Option<(String, Vec<String>)> {
        let text: String = self.elaborator.program.text(part.span).chars().filter(|c| !c.is_whitespace()).collect();
        let (owner, _) = text.rsplit_once('.')?;
        let prefix = part.prefix.rsplit_once('.').map_or("", |(prefix, _)| prefix);
        let mut parts: Vec<String> = Vec::new();
        for entry in self.elaborator.store.entries().iter().filter(|entry| is_below(prefix, &entry.path)) {
            let rest = entry.path[prefix.len()..].trim_start_matches('.');
            let name = rest.split('.').next().unwrap_or_default().to_owned();
            if entry.kind == Resident::Parameter && !name.is_empty() && !parts.contains(&name) {
                parts.push(name);
            }
        }
        (!parts.is_empty()).then(|| (owner.to_owned(), parts))
    }

    fn update_all(&mut self, parts: &[Part], mut targets: Vec<Target>, extras: &Extras, step: Option<Step>) {
        if let Some(every) = extras.accumulate {
            for target in &mut targets {
                target.gradient = self.accumulated(target, every);
            }
        }
        if let Some((limit, place)) = &extras.clip_norm {
            self.clip(&mut targets, limit, *place);
        }
        let before = self.elaborator.store.snapshot();
        let trained = |target: &Target| {
            let (path, value, gradient) = (target.path.clone(), target.value, target.gradient);
            Trained { path, value, gradient }
        };
        self.trained_weights.extend(targets.iter().map(trained));
        for target in &targets {
            if let Some(new) = self.update(&parts[target.part], target) {
                self.new_parameters.insert(target.path.clone(), new);
            }
        }
        if let Some(step) = step {
            self.hold_back(&targets, &before, step);
        }
        if let Some((decay, place)) = extras.average {
            for target in targets.iter().filter(|target| !target.path.starts_with(quantise::PREFIX)) {
                let fast_path = format!("{}.{FAST}", self.optimizer_path(&target.path));
                if !self.average((&target.path, fast_path), decay, place) {
                    break;
                }
            }
        }
    }

    /// Where the optimiser of the step at hand keeps its states of a parameter.
    pub(super) fn optimizer_path(&self, parameter: &str) -> String {
        match &self.steps.open {
            Some(step) => format!("{OPTIMIZER_PREFIX}{step}.{parameter}"),
            None => format!("{OPTIMIZER_PREFIX}{parameter}"),
        }
    }

    /// Elaborates the optimiser's body for one parameter.
    fn update(&mut self, part: &Part, target: &Target) -> Option<ValueId> {
        let path = self.optimizer_path(&target.path);
        let elaborator = &mut self.elaborator;
        let function = elaborator.program.function(part.optimizer)?;
        let tensors = [target.value, target.gradient].map(|value| (Value::Tensor(value), part.using));
        let tensors = tensors.map(|(value, span)| Argument { name: None, value, span });
        let items = tensors.into_iter().chain(part.arguments.iter().cloned()).collect();
        let args = Args { items, expected: None };
        let matched = elaborator.match_arguments(function, &args, part.using, false)?;
        elaborator.check_rate(function, &matched);
        elaborator.enter(part.optimizer, function, &path, part.using);
        if elaborator.bind_arguments(function, &matched, part.using) {
            elaborator.run_body(function);
        }
        let frame = elaborator.leave()?;
        let parameter = function.params.first()?;
        match frame.bindings.get(&parameter.name.text).map(|binding| &binding.value) {
            Some(Value::Tensor(new)) if *new != target.value => Some(*new),
            _ => None,
        }
    }

    /// Scales all gradients so that their joint norm is at most `limit`.
    fn clip(&mut self, targets: &mut [Target], limit: &Value, place: Span) {
        let graph = &mut self.elaborator.graph;
        let dtype = emit::joint_float(graph, targets.iter().map(|target| target.gradient));
        let mut total: Option<ValueId> = None;
        for target in targets.iter() {
            let rank = graph.ty(target.gradient).shape.rank();
            let gradient = emit::cast(graph, target.gradient, dtype);
            let square = emit::binary(graph, BinaryOp::Mul, gradient, gradient);
            let sum = match rank {
                0 => square,
                _ => graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: (0..rank).collect() }, &[square]),
            };
            total = Some(total.map_or(sum, |total| emit::binary(graph, BinaryOp::Add, total, sum)));
        }
        let Some(total) = total else { return };
        let is_scale = |item: &ItemKind| matches!(item, ItemKind::Function(f) if f.name.text == CLIP_SCALE);
        let mut library = self.elaborator.program.library_items();
        let Some((item, _)) = library.find(|(_, item)| is_scale(&item.kind)) else { return };
        let callee = Value::Function(Rc::new(Callable::Item(item)));
        let args = Args::positional([Value::Tensor(total), limit.clone()], place);
        let Value::Tensor(scale) = self.elaborator.call(&callee, args, place, None) else { return };
        for target in targets.iter_mut() {
            let graph = &mut self.elaborator.graph;
            let ty = graph.ty(target.gradient).clone();
            let scale = emit::cast(graph, scale, ty.dtype);
            let scale = graph.broadcast_scalar(scale, &ty.shape);
            target.gradient = emit::binary(graph, BinaryOp::Mul, target.gradient, scale);
        }
    }
}

/// `a` where the scalar condition holds, else `b`.
pub(super) fn choose(graph: &mut nnc_graph::Graph, condition: ValueId, a: ValueId, b: ValueId) -> ValueId {
    let shape = graph.ty(a).shape.clone();
    let condition = graph.broadcast_scalar(condition, &shape);
    graph.emit(Op::Select, &[condition, a, b])
}
