//! Settings of a recipe: `epochs`, `batch`, `seed`, `stop_early`, and whatever number the block binds to a name; each
//! may be set from outside with `--set`.

use super::StopEarly;
use super::better::{Better, Direction};
use super::build::Builder;
use super::step::loss_names;
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::elaborate::value::Value;
use crate::syntax::ast::{Arg, Block, Expr, ExprKind, Ident, StmtKind};
use std::collections::{BTreeMap, BTreeSet};

/// The settings that every recipe understands.
const SETTINGS: [&str; 3] = ["epochs", "batch", "seed"];

/// The most epochs, and examples in a batch: 2 to the power of 31. Products with it are far from what an i64 holds.
const MOST: i64 = 1 << 31;

/// What a recipe sets.
#[derive(Default)]
pub(super) struct Settings {
    pub epochs: Option<i64>,
    pub batch: Option<i64>,
    pub seed: Option<i64>,
    pub stop_early: Option<Stop>,
    /// Names that may be set from outside.
    pub settable: BTreeSet<String>,
    seen: BTreeMap<String, Span>,
}

/// `stop_early(...)` as it stands there.
pub(super) struct Stop {
    on: String,
    patience: i64,
    /// What is written, or else the name tells.
    better: Option<Direction>,
    span: Span,
}

impl Stop {
    /// What it says, if all is told; else there is a diagnostic.
    pub(super) fn info(&self) -> Option<StopEarly> {
        Some(StopEarly { on: self.on.clone(), patience: self.patience, better: self.better? })
    }
}

/// How `stop_early` is written.
const STOP_EARLY: &str = "`stop_early(on=validation.loss, patience=3)`";

impl Builder<'_> {
    /// What `--set` says of a name, if this is a recipe that it is said of.
    pub(super) fn given_setting(&self, name: &str) -> Option<String> {
        self.elaborator.options.set.get(name).filter(|_| self.is_set).cloned()
    }

    /// Executes a binding that is a setting, or a number that is set from outside; false when it is neither.
    pub(super) fn setting(&mut self, name: &Ident, expr: &Expr) -> bool {
        let is_setting = SETTINGS.contains(&name.text.as_str());
        let is_plain = is_setting || is_literal(expr);
        if !is_plain {
            return false;
        }
        self.settings.settable.insert(name.text.clone());
        let set = self.given_setting(&name.text);
        if !is_setting && set.is_none() {
            return false;
        }
        let written = self.elaborator.eval(expr);
        let (value, place) = match set {
            Some(text) => {
                let place = self.elaborator.program.given.setting(&name.text, &text).value;
                (self.elaborator.overridden(name, &written, &text, place), place)
            }
            None => (written, expr.span),
        };
        if is_setting && self.steps.open.is_some() {
            let message = format!("`{}` is set in the recipe itself, not in a step", name.text);
            self.elaborator.fail(Code::E0107, name.span, message, None);
        } else if is_setting {
            self.set(name, &value, place);
        }
        self.elaborator.bind_name(name, value);
        true
    }

    fn set(&mut self, name: &Ident, value: &Value, span: Span) {
        if let Some(before) = self.settings.seen.insert(name.text.clone(), name.span) {
            let diagnostic = Diagnostic::new(Code::E0202, name.span, format!("`{}` is set twice", name.text));
            return self.elaborator.report(diagnostic.with(before, "first here"));
        }
        let Some(number) = self.elaborator.known_int(value, span) else { return };
        let (least, most) = if name.text == "seed" { (0, i64::MAX) } else { (1, MOST) };
        if !(least..=most).contains(&number) {
            let bound = if number < least { format!("least {least}") } else { format!("most {most}") };
            let message = format!("`{}` is at {bound}, not {number}", name.text);
            return self.elaborator.fail(Code::E0601, span, message, None);
        }
        match name.text.as_str() {
            "epochs" => self.settings.epochs = Some(number),
            "batch" => self.settings.batch = Some(number),
            _ => self.settings.seed = Some(number),
        }
    }

    /// A binding that nothing reads is a mistake: most often a setting that is spelt wrong.
    pub(super) fn unused(&mut self, name: &Ident) {
        match closest(&name.text, SETTINGS) {
            Some(meant) => {
                let message = format!("there is no setting `{}`, and nothing reads it", name.text);
                self.elaborator.fail(Code::E0601, name.span, message, Some(format!("did you mean `{meant}`?")));
            }
            None => {
                let message = format!("nothing reads `{}`", name.text);
                let help = format!("the settings are {}", SETTINGS.map(|name| format!("`{name}`")).join(", "));
                self.elaborator.fail(Code::E0604, name.span, message, Some(help));
            }
        }
    }

    /// `stop_early(on=validation.loss, patience=3, better=smaller)`.
    pub(super) fn stop_early(&mut self, arguments: &[Arg], span: Span) {
        if let Some(before) = &self.settings.stop_early {
            let diagnostic = Diagnostic::new(Code::E0202, span, "there is a `stop_early` already");
            let diagnostic = diagnostic.with(before.span, "the first");
            return self.elaborator.report(diagnostic.help("a recipe watches one measure: leave one of them out"));
        }
        let (mut on, mut patience, mut better) = (None, 3, None);
        for (position, argument) in arguments.iter().enumerate() {
            let by_place = ["on", "patience", "better"].get(position).copied();
            match argument.name.as_ref().map_or(by_place, |name| Some(&*name.text)) {
                Some("better") => better = self.direction(&argument.value),
                Some("on") => on = self.watched(&argument.value),
                Some("patience") => {
                    let value = self.elaborator.eval(&argument.value);
                    let Some(number) = self.elaborator.known_int(&value, argument.value.span) else { return };
                    if number < 1 {
                        let message = format!("the patience is at least 1, not {number}");
                        return self.elaborator.fail(Code::E0601, argument.value.span, message, None);
                    }
                    patience = number;
                }
                other => {
                    let place = argument.name.as_ref().map_or(argument.value.span, |name| name.span);
                    let shown = other.unwrap_or("a fourth argument");
                    let message = format!("`stop_early` has no `{shown}`");
                    return self.elaborator.fail(Code::E0601, place, message, Some(format!("it is {STOP_EARLY}")));
                }
            }
        }
        match on {
            Some(on) => {
                let better = better.or_else(|| Better::of(&on).direction());
                self.settings.stop_early = Some(Stop { on, patience, better, span });
            }
            None => {
                let help = format!("write {STOP_EARLY}");
                self.elaborator.fail(Code::E0601, span, "`stop_early` watches something", Some(help));
            }
        }
    }

    /// `larger` or `smaller`.
    fn direction(&mut self, expr: &Expr) -> Option<Direction> {
        match &expr.kind {
            ExprKind::Name(name) if name == "larger" => Some(Direction::Larger),
            ExprKind::Name(name) if name == "smaller" => Some(Direction::Smaller),
            _ => {
                let help = "write `better=larger` or `better=smaller`".to_owned();
                self.elaborator.fail(Code::E0601, expr.span, "`better` is a direction", Some(help));
                None
            }
        }
    }

    /// `validation.loss`.
    fn watched(&mut self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Name(name) => Some(name.clone()),
            ExprKind::Field(split, metric) => Some(format!("{}.{}", self.watched(split)?, metric.text)),
            _ => None,
        }
    }

    /// What must be set, and whether what is watched exists.
    pub(super) fn check_settings(&mut self) {
        if !self.settings.seen.contains_key("epochs") {
            self.missing("this recipe does not say how many epochs to train", "write `epochs = 5`");
        }
        if !self.settings.seen.contains_key("batch") {
            self.missing("this recipe does not say how many examples are in a batch", "write `batch = 64`");
        }
        if let Some(stop) = self.settings.stop_early.take() {
            self.check_watched(&stop);
            self.settings.stop_early = Some(stop);
        }
    }

    /// What is watched exists, and it is told what is better.
    fn check_watched(&mut self, stop: &Stop) {
        let span = stop.span;
        let (split, metric) = stop.on.split_once('.').unwrap_or((&stop.on, ""));
        let losses = loss_names(&self.steps.declared);
        let mut metrics = Vec::new();
        metric_names(&self.train.body, &mut metrics);
        let is_matrix = |name: &&String| self.matrices.iter().any(|(matrix, _)| matrix == *name);
        let metrics = metrics.iter().filter(|name| !is_matrix(name));
        let known: Vec<&str> = losses.iter().chain(metrics).map(String::as_str).collect();
        let is_source =
            |data: &crate::elaborate::data::DataInfo| data.splits.iter().any(|split| split.name == "validation");
        let has_validation = self.data.as_ref().is_some_and(|data| data.validation.is_some() || is_source(data));
        if !matches!(split, "train" | "validation") {
            let message = format!("there is no split `{split}` to watch");
            self.elaborator.fail(Code::E0601, span, message, Some("watch `validation.loss`".to_owned()));
        } else if split == "validation" && !has_validation {
            let message = format!("`{}` has no validation part to watch", self.train.data.text);
            self.elaborator.fail(Code::E0601, span, message, Some("write `validation = 0.1` in the data".to_owned()));
        } else if self.matrices.iter().any(|(name, _)| name == metric) {
            let message = format!("`{}` is a matrix: none is better than another", stop.on);
            self.elaborator.fail(Code::E0601, span, message, Some(format!("watch `{split}.loss`")));
        } else if !known.contains(&metric) {
            let message = format!("there is no metric `{metric}` to watch");
            let listed = |names: &[&str]| names.iter().map(|name| format!("`{split}.{name}`")).collect::<Vec<_>>();
            let help = match closest(metric, known.iter().copied()) {
                Some(meant) => format!("did you mean `{split}.{meant}`?"),
                None => format!("there are {}", listed(&known).join(", ")),
            };
            self.elaborator.fail(Code::E0601, span, message, Some(help));
        } else if stop.better.is_none() {
            let message = format!("nothing tells whether a larger `{metric}` is better, or a smaller one");
            let help = format!("write `stop_early(on={}, better=larger)`, or `smaller`", stop.on);
            self.elaborator.fail(Code::E0601, span, message, Some(help));
        }
    }
}

/// The names of metrics in a recipe and its steps.
fn metric_names(block: &Block, names: &mut Vec<String>) {
    for stmt in &block.stmts {
        match &stmt.kind {
            StmtKind::Metric { name, .. } => names.push(name.text.clone()),
            StmtKind::Step { body, .. } => metric_names(body, names),
            _ => {}
        }
    }
}

/// Whether an expression is a number, bool or string as such.
fn is_literal(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Str(_) | ExprKind::Bool(_) => true,
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => is_literal(inner),
        _ => false,
    }
}
