//! `quantise(start=0.5, range=moving, momentum=0.99, over=net.body)`: training that rounds as integers will.
//!
//! The rounding itself is a pass over the finished graph (`nnc_opt::quantise`), which knows the products; it tells by
//! [`super::super::entry::Unit::rounded`] which layers there are. What it rounds by is kept here: of each layer the
//! largest magnitude of what it multiplies, `$quantise.LAYER.top`, and whether there were negative ones,
//! `$quantise.LAYER.sign`. What a step sees comes in as the inputs `$seen.LAYER.top` and `$seen.LAYER.sign`, in whose
//! place the pass puts values.
//!
//! A moving range is a state that a function of `.nn` moves. A learned one is a parameter, which is trained with the
//! layer by the optimiser of the layer; it begins, and begins anew where a step would bring it to 0 or below, with what
//! that step sees. The range of a layer that no `minimize` trains is a moving one all the same.

use super::build::{Builder, is_name};
use super::minimize::choose;
use super::{Purpose, QuantiseInfo};
use crate::diagnostic::{Code, Span, closest};
use crate::elaborate::store::{Entry, Resident};
use crate::elaborate::value::{Args, Value};
use crate::elaborate::weight_names::is_below;
use crate::library::MOVING_RANGE;
use crate::syntax::ast::{Arg, Expr, ExprKind, StmtKind};
use nnc_graph::{BinaryOp, CompareOp, DType, Op, TensorType, ValueId};

/// What stands for the rounding among the steps that are due.
pub(super) const ROUNDING: &str = "$quantise";
/// What the paths of ranges start with.
pub(super) const PREFIX: &str = "$quantise.";
/// The share of a moving range that stays in a step, unless the recipe says otherwise.
const MOMENTUM: f64 = 0.99;
const OPTIONS: [&str; 4] = ["start", "range", "momentum", "over"];
const HELP: &str = "it is `quantise(start=0.5, range=moving, momentum=0.99, over=LAYER)`, of which all may be left out";

/// How ranges come about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RangeKind {
    Moving,
    Learned,
}

/// What a recipe rounds while it trains.
pub(super) struct Quantisation {
    span: Span,
    start: f64,
    range: RangeKind,
    momentum: f64,
    over: String,
}

impl Builder<'_> {
    /// Executes the `quantise` of the recipe, wherever it stands: what is minimised depends on it.
    pub(super) fn quantise_first(&mut self) {
        if self.quantisation.is_some() {
            return;
        }
        let found = self.train.body.stmts.iter().find_map(|stmt| match &stmt.kind {
            StmtKind::Expr(Expr { kind: ExprKind::Call(callee, arguments), span }) if is_name(callee, "quantise") => {
                Some((arguments, *span))
            }
            _ => None,
        });
        if let Some((arguments, span)) = found {
            self.quantise(arguments, span);
        }
    }

    /// `quantise(...)`.
    pub(super) fn quantise(&mut self, arguments: &[Arg], span: Span) {
        if let Some(known) = &self.quantisation {
            if known.span != span {
                self.elaborator.fail(Code::E0601, span, "there is a `quantise` already", None);
            }
            return;
        }
        let (range, over) = (RangeKind::Moving, String::new());
        let mut quantisation = Quantisation { span, start: 0.0, range, momentum: MOMENTUM, over };
        // One with errors is there all the same, so that each is told once.
        if arguments.iter().all(|argument| self.quantise_option(argument, &mut quantisation).is_some()) {
            self.refuse_idle_momentum(arguments, quantisation.range);
        }
        self.quantisation = Some(quantisation);
    }

    fn quantise_option(&mut self, argument: &Arg, quantisation: &mut Quantisation) -> Option<()> {
        let (value, place) = (&argument.value, argument.value.span);
        let name = argument.name.as_ref().map(|name| name.text.as_str());
        match name {
            Some("start") => {
                let message = "rounding starts at a share of the training: from 0, and below 1";
                quantisation.start = self.share(value, message)?;
            }
            Some("momentum") => {
                let message = "the share of a range that stays in a step is from 0, and below 1";
                quantisation.momentum = self.share(value, message)?;
            }
            Some("range") => {
                let kind = match () {
                    () if is_name(value, "moving") => Some(RangeKind::Moving),
                    () if is_name(value, "learned") => Some(RangeKind::Learned),
                    () => None,
                };
                quantisation.range = self.told(kind, place, "a range is `moving` or `learned`")?;
            }
            Some("over") => quantisation.over = self.prefix(value)?,
            other => {
                let place = argument.name.as_ref().map_or(place, |name| name.span);
                let (message, help) = match other {
                    Some(name) => (format!("`quantise` has no `{name}`"), closest(name, OPTIONS)),
                    None => ("what `quantise` takes has names".to_owned(), None),
                };
                let help = help.map_or_else(|| HELP.to_owned(), |meant| format!("did you mean `{meant}`?"));
                self.elaborator.fail(Code::E0601, place, message, Some(help));
                return None;
            }
        }
        Some(())
    }

    /// A learned range is no mean, of which something would stay.
    fn refuse_idle_momentum(&mut self, arguments: &[Arg], range: RangeKind) {
        let mut names = arguments.iter().filter_map(|argument| argument.name.as_ref());
        if let (RangeKind::Learned, Some(momentum)) = (range, names.find(|name| name.text == "momentum")) {
            let message = "`momentum` is for `range=moving`: a learned range is moved by the optimiser";
            self.elaborator.fail(Code::E0601, momentum.span, message, None);
        }
    }

    /// A number from 0 to below 1 that is known at compile time.
    fn share(&mut self, value: &Expr, message: &str) -> Option<f64> {
        let given = self.elaborator.eval(value);
        let number = self.elaborator.float(&given, value.span)??;
        self.told((0.0..1.0).contains(&number).then_some(number), value.span, message)
    }

    fn told<T>(&mut self, found: Option<T>, place: Span, message: &str) -> Option<T> {
        if found.is_none() {
            self.elaborator.fail(Code::E0601, place, message, None);
        }
        found
    }

    /// What a recipe says of it.
    pub(super) fn quantise_info(&self) -> Option<QuantiseInfo> {
        let known = self.quantisation.as_ref()?;
        Some(QuantiseInfo { start: known.start, over: known.over.clone(), span: known.span })
    }

    /// The layers whose products this program rounds, and whether their ranges are learned.
    fn rounded_layers(&self) -> (Vec<String>, bool) {
        let is_due = self.steps.due.as_ref().is_none_or(|due| due.contains(ROUNDING));
        match &self.quantisation {
            Some(known) if is_due && self.purpose == Purpose::Train => {
                let layers = self.rounded.iter().filter(|layer| is_below(&known.over, layer));
                (layers.cloned().collect(), known.range == RangeKind::Learned)
            }
            Some(_) | None => (Vec::new(), false),
        }
    }

    /// The learned ranges of layers that a `minimize` trains, which it trains as well: each as `(layer, path, value)`.
    pub(super) fn learned_ranges(&mut self, trained: &[String]) -> Vec<(String, String, ValueId)> {
        let (layers, is_learned) = self.rounded_layers();
        let layers = layers.into_iter().filter(|layer| is_learned && trained.contains(layer));
        let mut found = Vec::new();
        for layer in layers {
            let path = top_path(&layer);
            let value = self.range_entry(path.clone(), Resident::Parameter);
            found.push((layer, path, value));
        }
        found
    }

    /// What the step does to the ranges.
    pub(super) fn move_ranges(&mut self) {
        for layer in self.rounded_layers().0 {
            let (top, sign) = (top_path(&layer), format!("{PREFIX}{layer}.sign"));
            let [seen_top, seen_sign] = ["top", "sign"]
                .map(|end| self.elaborator.input(&format!("$seen.{layer}.{end}"), TensorType::scalar(DType::F32)));
            let before = self.range_entry(sign.clone(), Resident::State);
            let joint = self.elaborator.graph.emit(Op::Binary(BinaryOp::Max), &[before, seen_sign]);
            self.set_range(&sign, joint);
            let moved = match self.elaborator.store.get(&top).map(|entry| (entry.leaf, entry.current)) {
                Some((leaf, current)) => Some(self.begun(&top, (leaf, current), seen_top)),
                None => self.moved_range(&top, seen_top),
            };
            moved.into_iter().for_each(|moved| self.set_range(&top, moved));
        }
    }

    /// A learned range after a step: what the step saw where it was not above 0 before it, or would not be after it.
    fn begun(&mut self, path: &str, (leaf, current): (ValueId, ValueId), seen: ValueId) -> ValueId {
        let trained = self.new_parameters.remove(path).unwrap_or(current);
        let graph = &mut self.elaborator.graph;
        let zero = graph.scalar(DType::F32, 0.0);
        [leaf, trained].into_iter().fold(trained, |range, number| {
            let is_range = graph.emit(Op::Compare(CompareOp::Gt), &[number, zero]);
            choose(graph, is_range, range, seen)
        })
    }

    fn moved_range(&mut self, path: &str, seen: ValueId) -> Option<ValueId> {
        let (momentum, place) = self.quantisation.as_ref().map(|known| (known.momentum, known.span))?;
        let before = self.range_entry(path.to_owned(), Resident::State);
        let function = self.library_function(MOVING_RANGE)?;
        let arguments = [Value::Tensor(before), Value::Tensor(seen), Value::float(momentum)];
        match self.elaborator.call(&function, Args::positional(arguments, place), place, None) {
            Value::Tensor(moved) => Some(moved),
            _ => None,
        }
    }

    /// A scalar that is 0 at first; the one of that path if it is there.
    fn range_entry(&mut self, path: String, kind: Resident) -> ValueId {
        if let Some(known) = self.elaborator.store.get(&path) {
            return known.current;
        }
        let elaborator = &mut self.elaborator;
        let ty = TensorType::scalar(DType::F32);
        let leaf = match kind {
            Resident::Parameter => Op::Param { path: path.clone(), ty: ty.clone() },
            Resident::State => Op::State { path: path.clone(), ty: ty.clone() },
        };
        let leaf = elaborator.graph.emit(leaf, &[]);
        let first = Some(elaborator.first_values.splat(&ty, 0.0));
        let span = self.train.name.span;
        elaborator.store.insert(Entry { path, kind, ty, leaf, current: leaf, first, frozen: false, span });
        leaf
    }

    fn set_range(&mut self, path: &str, value: ValueId) {
        if let Some(entry) = self.elaborator.store.get_mut(path) {
            entry.current = value;
        }
    }
}

fn top_path(layer: &str) -> String {
    format!("{PREFIX}{layer}.top")
}
