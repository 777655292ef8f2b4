//! What a model owns: `param`, `state` with its updates, and `layer`.
//!
//! A path is made by its first use. A further use of a shared layer finds it, and must agree on its type.

use super::Elaborator;
use super::scope::FrameKind;
use super::store::{Entry, Resident};
use super::value::{Args, Layer, Value};
use super::weight_names::LayerWeights;
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::syntax::ast::{Declaration, Expr, ExprKind, Ident, LayerStmt, NameRule, Type};
use nnc_graph::{Op, TensorType, ValueId};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What to do about a layer that is declared too late.
const DECLARE_BEFORE: &str = "declare it in the recipe, before this";

/// The parameters and states that training made, by path: their types, and where it uses the layer they are in.
pub(crate) type Made = BTreeMap<String, (TensorType, Option<Span>)>;

/// The layers that an answer or a picture makes itself. What they own would be in no file of weights.
#[derive(Clone, Debug)]
pub(crate) struct OwnLayers {
    /// `answer` or `picture`.
    pub word: &'static str,
    /// Path, name and place of each.
    layers: Vec<(String, String, Span)>,
}

impl Elaborator<'_> {
    /// `param` or `state`.
    pub(super) fn declare(&mut self, declaration: &Declaration, kind: Resident) {
        let Declaration { name, ty, init } = declaration;
        let value = self.resident(name, ty, init, kind);
        let Some(frame) = self.frames.last_mut() else { return };
        match value {
            Some((path, Resident::State, _)) => frame.bind_state(&name.text, &path, name.span),
            Some((_, Resident::Parameter, leaf)) => frame.bind(&name.text, Value::Tensor(leaf), name.span),
            None => frame.bind(&name.text, Value::Poison, name.span),
        }
    }

    fn resident(
        &mut self,
        name: &Ident,
        ty: &Type,
        init: &Expr,
        kind: Resident,
    ) -> Option<(String, Resident, ValueId)> {
        let frame = self.frames.last()?;
        let (allowed, word) = match kind {
            Resident::Parameter => (frame.kind.owns_parameters(), "param"),
            Resident::State => (frame.kind.owns_state(), "state"),
        };
        if !allowed {
            let message = format!("{} `{}` cannot own a `{word}`", frame.kind.article(), frame.kind.word());
            let diagnostic = Diagnostic::new(Code::E0401, name.span, message);
            let help =
                if frame.kind == FrameKind::Function { "declare it as a `model`" } else { "put it into a `model`" };
            self.report(diagnostic.help(help));
            return None;
        }
        let path = frame.path_of(&name.text);
        let ty = self.tensor_type(ty)?;
        self.has_one_size(name, &ty)?;
        self.take_path(&path, &name.text, name.span)?;
        self.is_trained_so(&path, &ty, name.span)?;
        if let Some(known) = self.store.get(&path) {
            let (leaf, current, place) = (known.leaf, known.current, known.span);
            if self.ty(leaf) == &ty {
                return Some((path, kind, current));
            }
            if self.unknown_branches == 0 {
                self.report_disagreement(&path, leaf, &ty, name.span, place);
                return None;
            }
        }
        let leaf = self.new_leaf(&path, &ty, kind, name.span)?;
        let first = self.first_value(&path, init, &ty);
        let (frozen, span) = (self.frozen, name.span);
        let entry = Entry { path: path.clone(), kind, ty, leaf, current: leaf, first, frozen, span };
        self.store.insert(entry);
        Some((path, kind, leaf))
    }

    /// In a recipe, what is kept from step to step has one size: `N` is the batch, which may be smaller at the end of
    /// an epoch, and the other names are sizes of what an answer is given.
    fn has_one_size(&mut self, name: &Ident, ty: &TensorType) -> Option<()> {
        if self.frames.iter().all(|frame| frame.kind != FrameKind::Recipe) {
            return Some(());
        }
        let mut open = None;
        let note = &mut |dim: &str| {
            if !dim.starts_with('?') {
                open.get_or_insert_with(|| dim.to_owned());
            }
        };
        ty.shape.iter().for_each(|dim| dim.names(note));
        let Some(open) = open else { return Some(()) };
        let what = if open == "N" { "the size of the batch" } else { "which an input of the answer says" };
        let message = format!("`{}` is {ty}, and what a model keeps cannot depend on `{open}`, {what}", name.text);
        let help = format!("leave `{open}` out of its shape: by broadcasting it goes with every row");
        self.report(Diagnostic::new(Code::E0401, name.span, message).help(help));
        None
    }

    /// What answers and pictures read is what training made, of the types that it gave.
    fn is_trained_so(&mut self, path: &str, ty: &TensorType, span: Span) -> Option<()> {
        let within = |layer: &str| path.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.'));
        if let Some(own) = &self.own
            && let Some((_, name, place)) = own.layers.iter().find(|(layer, _, _)| within(layer))
        {
            let message = format!("`{name}` is a layer of this {} alone: no training makes its weights", own.word);
            let help = format!("declare it in the recipe, as `layer NAME = {name}`, and use that here");
            let help = if self.program.text(*place) == name { DECLARE_BEFORE.to_owned() } else { help };
            self.report(Diagnostic::new(Code::E0401, *place, message).help(help));
            return None;
        }
        let made = Rc::clone(&self.made);
        let Some((known, used)) = made.get(path) else { return Some(()) };
        let agrees = known.dtype == ty.dtype
            && known.shape.rank() == ty.shape.rank()
            && known.shape.iter().zip(ty.shape.iter()).all(|(a, b)| self.dims_agree(a, b));
        if agrees || self.unknown_branches > 0 {
            return Some(());
        }
        let message = format!("`{path}` is {known} in training, here it would be {ty}");
        // Where the recipe uses the layer, whatever lies in between.
        let place = self.frames.get(1).map_or(span, |frame| frame.call_site);
        let diagnostic = Diagnostic::new(Code::E0404, place, message);
        let diagnostic = used.iter().fold(diagnostic, |told, &place| told.with(place, "training uses it here"));
        self.report(diagnostic.help("give the layer an input of the shape that training gives it"));
        None
    }

    /// Answers and pictures begin: layers that are made from here on are their own.
    pub(crate) fn begin_own(&mut self, word: &'static str) {
        self.own = Some(OwnLayers { word, layers: Vec::new() });
    }

    /// Notes a layer that is made in the frame at hand, if that is an answer's or a picture's.
    pub(super) fn note_own(&mut self, path: &str, name: &str, span: Span) {
        let is_recipe = self.frames.last().is_some_and(|frame| frame.kind == FrameKind::Recipe);
        if let Some(own) = self.own.as_mut().filter(|_| is_recipe) {
            own.layers.push((path.to_owned(), name.to_owned(), span));
        }
    }

    fn new_leaf(&mut self, path: &str, ty: &TensorType, kind: Resident, span: Span) -> Option<ValueId> {
        let (path, ty) = (path.to_owned(), ty.clone());
        let op = match kind {
            Resident::Parameter => Op::Param { path, ty },
            Resident::State => Op::State { path, ty },
        };
        Some(self.emit_all(op, &[], span)?[0])
    }

    fn take_path(&mut self, path: &str, name: &str, span: Span) -> Option<()> {
        let frame = self.frames.last_mut()?;
        match frame.take(path, span) {
            Ok(()) => Some(()),
            Err(before) => {
                let diagnostic = frame.taken_before((name, span), before);
                self.report(diagnostic);
                None
            }
        }
    }

    fn report_disagreement(&mut self, path: &str, leaf: ValueId, ty: &TensorType, span: Span, place: Span) {
        let message = format!("`{path}` is {} since the first use of this layer, here it would be {ty}", self.ty(leaf));
        let diagnostic = Diagnostic::new(Code::E0404, span, message);
        let diagnostic = if place == span { diagnostic } else { diagnostic.with(place, "declared here") };
        self.report(diagnostic.help("uses of one layer share its parameters: make a second layer"));
    }

    /// Evaluates an initialiser into the graph of first values.
    fn first_value(&mut self, path: &str, init: &Expr, ty: &TensorType) -> Option<ValueId> {
        std::mem::swap(&mut self.graph, &mut self.first_values);
        let outer = self.initialising.replace(self.frames.len().wrapping_sub(1));
        let outer_path = std::mem::replace(&mut self.initial_path, path.to_owned());
        let value = self.eval_expected(init, Some(ty));
        let first = self.fit_first(&value, path, ty, init.span);
        self.initial_path = outer_path;
        self.initialising = outer;
        std::mem::swap(&mut self.graph, &mut self.first_values);
        first
    }

    fn fit_first(&mut self, value: &Value, path: &str, ty: &TensorType, span: Span) -> Option<ValueId> {
        let tensor = self.tensor(value, Some(ty.dtype), span)?;
        let found = self.ty(tensor).clone();
        if found == *ty {
            return Some(tensor);
        }
        if found.shape.rank() == 0 && found.dtype == ty.dtype {
            return Some(self.graph.broadcast_scalar(tensor, &ty.shape));
        }
        let agrees = found.dtype == ty.dtype
            && found.shape.rank() == ty.shape.rank()
            && found.shape.iter().zip(ty.shape.iter()).all(|(a, b)| self.dims_agree(a, b));
        if !agrees {
            let message = format!("the first value is {found}, but `{path}` is {ty}");
            self.report(Diagnostic::new(Code::E0302, span, message));
        }
        None
    }

    pub(super) fn exec_update(&mut self, target: &Ident, expr: &Expr) {
        let value = self.eval(expr);
        if self.in_scan() {
            let message = format!("`{} <- ...` stands in a `scan`, whose steps cannot update state", target.text);
            self.report(Diagnostic::new(Code::E0401, target.span, message).help("carry the value with `with`"));
            return;
        }
        let Some(frame) = self.frames.last() else { return };
        let state = frame.bindings.get(&target.text).and_then(|binding| binding.state.clone());
        match state {
            Some(path) => self.update_state(&path, &value, expr.span),
            None if frame.kind == FrameKind::Optimizer && frame.first_parameter.as_ref() == Some(&target.text) => {
                self.update_first(target, &value, expr.span);
            }
            // A state whose declaration has an error.
            None if frame.bindings.get(&target.text).is_some_and(|binding| binding.value.is_poison()) => {}
            None => self.report_no_state(target),
        }
    }

    fn update_state(&mut self, path: &str, value: &Value, span: Span) {
        let Some(ty) = self.store.get(path).map(|entry| entry.ty.clone()) else { return };
        let Some(new) = self.updated(value, &ty, path, span) else { return };
        // To gradients a state is constant, also the one just written.
        let is_model = self.frames.last().is_some_and(|frame| frame.kind == FrameKind::Model);
        let new = if is_model { self.graph.add1(Op::StopGradient, &[new]).unwrap_or(new) } else { new };
        if let Some(entry) = self.store.get_mut(path) {
            entry.current = new;
        }
    }

    fn update_first(&mut self, target: &Ident, value: &Value, span: Span) {
        let known = self.frames.last().and_then(|frame| frame.bindings.get(&target.text)).map(|b| b.value.clone());
        let Some(Value::Tensor(old)) = known else { return };
        let ty = self.ty(old).clone();
        let Some(new) = self.updated(value, &ty, &target.text, span) else { return };
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(&target.text, Value::Tensor(new), target.span);
        }
    }

    /// The new value of a state; a number is repeated over its shape.
    fn updated(&mut self, value: &Value, ty: &TensorType, name: &str, span: Span) -> Option<ValueId> {
        let tensor = self.tensor(value, Some(ty.dtype), span)?;
        let found = self.ty(tensor).clone();
        if found == *ty {
            return Some(tensor);
        }
        if !matches!(value, Value::Tensor(_)) {
            return Some(self.graph.broadcast_scalar(tensor, &ty.shape));
        }
        let may_agree = found.shape.rank() == ty.shape.rank()
            && found.dtype == ty.dtype
            && found.shape.iter().zip(ty.shape.iter()).all(|(a, b)| self.dims_agree(a, b));
        if !may_agree {
            let message = format!("`{name}` is {ty}, and this is {found}");
            let diagnostic = self.with_birth(Diagnostic::new(Code::E0302, span, message), tensor, span);
            self.report(diagnostic);
        }
        None
    }

    fn report_no_state(&mut self, target: &Ident) {
        let message = format!("`{}` is no state, and `<-` writes one", target.text);
        let mut diagnostic = Diagnostic::new(Code::E0405, target.span, message);
        if let Some(frame) = self.frames.last() {
            let states = frame.bindings.iter().filter(|(_, b)| b.state.is_some()).map(|(name, _)| name.as_str());
            diagnostic = match closest(&target.text, states) {
                Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
                None if frame.bindings.contains_key(&target.text) => diagnostic.help("bind a value with `=`"),
                None => diagnostic,
            };
        }
        self.report(diagnostic);
    }

    pub(super) fn exec_layer(&mut self, stmt: &LayerStmt) {
        for clause in [stmt.partial, stmt.cast].into_iter().flatten().filter(|_| stmt.from.is_none()) {
            let message = format!("`{}` says how a file is loaded, and there is no `from`", self.program.text(clause));
            self.report(Diagnostic::new(Code::E0107, clause, message));
        }
        let layer = self.make_layer(&stmt.name, &stmt.value);
        if let Some(layer) = &layer {
            self.note_weights(&layer.path, stmt);
            stmt.follows.iter().for_each(|follows| self.note_follower(&layer.path, stmt, follows));
        }
        let frozen = stmt.frozen.is_some() || stmt.follows.is_some();
        let value = layer.map_or(Value::Poison, |layer| Value::Layer(Rc::new(Layer { frozen, ..layer })));
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(&stmt.name.text, value, stmt.name.span);
        }
    }

    /// Remembers the file and the names of a layer.
    fn note_weights(&mut self, path: &str, stmt: &LayerStmt) {
        self.add_names(path, &stmt.names, true);
        let Some((file, place)) = &stmt.from else { return };
        if self.pretrained.loads.iter().all(|load| load.layer != path) {
            let (partial, cast) = (stmt.partial.is_some(), stmt.cast.is_some());
            let (layer, file) = (path.to_owned(), file.clone());
            self.pretrained.loads.push(LayerWeights { layer, file, place: *place, partial, cast });
        }
    }

    /// `names = {...}` in the body of a model.
    pub(super) fn exec_names(&mut self, rules: &[NameRule], span: Span) {
        let Some(frame) = self.frames.last().filter(|frame| frame.kind == FrameKind::Model) else {
            let diagnostic = Diagnostic::new(Code::E0107, span, "`names` belongs into a `model`, or behind a `layer`");
            self.report(diagnostic);
            return;
        };
        let path = frame.path.clone();
        self.add_names(&path, rules, false);
    }

    fn add_names(&mut self, path: &str, rules: &[NameRule], outer: bool) {
        let mut wrong = Vec::new();
        self.pretrained.names.add(path, rules, outer, |span, message| wrong.push((span, message)));
        for (span, message) in wrong {
            self.report(Diagnostic::new(Code::E0802, span, message));
        }
    }

    fn make_layer(&mut self, name: &Ident, expr: &Expr) -> Option<Layer> {
        let frame = self.frames.last()?;
        if !frame.kind.owns_models() {
            let message = format!("{} `{}` cannot own a layer", frame.kind.article(), frame.kind.word());
            self.report(Diagnostic::new(Code::E0401, name.span, message).help("declare it as a `model`"));
            return None;
        }
        let (callee, arguments) = match &expr.kind {
            ExprKind::Call(callee, arguments) => (&**callee, arguments.as_slice()),
            _ => (expr, &[][..]),
        };
        let value = self.eval_callee(callee)?;
        let items = self.eval_arguments(arguments);
        let path = self.frames.last()?.path_of(&name.text);
        self.take_path(&path, &name.text, name.span)?;
        self.note_own(&path, &name.text, name.span);
        self.layer_of(&name.text, &path, &value, Args { items, expected: None }, expr.span)
    }
}
