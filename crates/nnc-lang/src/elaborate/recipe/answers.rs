//! Answers with parameters or a block: `answer text(prompt: i32[N, P], length: int = 300) { ... }`.
//!
//! The body sees what the recipe has bound before it, and its parameters, which end with it. A tensor with axes is an
//! input of the graph; a scalar, as `temperature: f32 = 0.8`, is one too, and `--set` gives its value; what is known at
//! compile time, as `length: int = 300`, is set when the graph is made. Each such answer is checked with the dims of
//! its inputs as unknowns, and made alone, with the sizes that its inputs have.

use super::Purpose;
use super::build::Builder;
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::elaborate::outside::shown_setting;
use crate::elaborate::report::Report;
use crate::elaborate::scope::Binding;
use crate::elaborate::types::is_tensor;
use crate::elaborate::unused;
use crate::elaborate::value::Value;
use crate::syntax::ast::{Body, DimExpr, Function, FunctionKind, Ident, Param, Stmt, StmtKind, Type, TypeKind};
use nnc_graph::{DType, Tensor, TensorType};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What an `answer` takes.
#[derive(Clone, PartialEq, Debug)]
pub struct AnswerInfo {
    /// Its name.
    pub name: String,
    /// Its parameters in order; `None` when it is an expression of the recipe's own values, `answer NAME = EXPR`.
    pub parameters: Option<Vec<ParameterInfo>>,
}

/// A parameter of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct ParameterInfo {
    /// Its name.
    pub name: String,
    /// What gives it.
    pub kind: ParameterKind,
}

/// What gives a parameter of an answer.
#[derive(Clone, PartialEq, Debug)]
pub enum ParameterKind {
    /// A tensor with axes, from outside at each run. Its dims are names where they are open.
    Input(TensorType),
    /// A scalar of the running program: what `--set` says, else its default, if it has one. Of an answer that was only
    /// checked what `--set` says is not there where several answers of the recipe have the name.
    Scalar(DType, Option<Tensor>),
    /// Known when the graph is made; its value in words, unless it is a list. Values as of [`Self::Scalar`].
    Setting(Option<String>),
}

/// Which of the answers that have parameters or a block are made.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// All of them, to be checked: their dims are unknown.
    Checked,
    /// None.
    No,
    /// This one, with sizes for the dims of its inputs.
    One(String, BTreeMap<String, i64>),
}

impl Builder<'_> {
    /// An answer with parameters or a block.
    pub(super) fn answer_of(&mut self, name: &Ident, params: &[Param], result: Option<&Type>, body: &Body) {
        self.take(name, "$");
        let is_asked = match &self.asked {
            Asked::Checked => true,
            Asked::No => false,
            Asked::One(asked, _) => *asked == name.text,
        };
        if self.purpose != Purpose::Answer || !is_asked {
            return;
        }
        let function = Rc::new(Function {
            kind: FunctionKind::Fn,
            name: name.clone(),
            params: params.to_vec(),
            result: result.cloned(),
            body: body.clone(),
            signature: name.span,
        });
        let checking = matches!(self.asked, Asked::Checked);
        let errors = self.errors();
        let Some(outer) = self.elaborator.frames.last().cloned() else { return };
        self.elaborator.generic = checking;
        self.elaborator.begin_own("answer");
        let value = if self.open_answer(&function) { self.elaborator.run_body(&function) } else { Value::Poison };
        self.elaborator.generic = false;
        self.elaborator.own = None;
        if checking && self.errors() == errors {
            self.check_unused(&function);
        }
        if let Some(frame) = self.elaborator.frames.last_mut() {
            (frame.bindings, frame.unbound) = (outer.bindings, outer.unbound);
            (frame.real, frame.answer) = (outer.real, outer.answer);
        }
        let is_nothing = matches!(&value, Value::Tuple(items) if items.is_empty());
        if is_nothing && matches!(body, Body::Block(_)) {
            let message = format!("the answer `{}` ends without a `return`", name.text);
            return self.elaborator.fail(Code::E0407, name.span, message, None);
        }
        let place = if let Body::Expr(expr) = body { expr.span } else { name.span };
        self.put_answer(name, value, place);
    }

    /// How many errors there are so far.
    fn errors(&self) -> usize {
        let reported = self.elaborator.report.diagnostics().iter();
        reported.filter(|diagnostic| diagnostic.severity() == Severity::Error).count()
    }

    /// Binds the parameters; false after an error.
    fn open_answer(&mut self, function: &Rc<Function>) -> bool {
        let errors = self.errors();
        if let Some(frame) = self.elaborator.frames.last_mut() {
            function.params.iter().for_each(|param| drop(frame.bindings.remove(&param.name.text)));
            frame.answer = Some(function.clone());
        }
        if !self.elaborator.check_signature(function) {
            return false;
        }
        let kinds: Vec<Option<Kind>> = function.params.iter().map(|param| self.kind(param)).collect();
        for (param, kind) in function.params.iter().zip(&kinds) {
            if matches!(kind, Some(Kind::Input | Kind::Scalar)) {
                self.refuse_field(param);
            }
            if *kind == Some(Kind::Setting) {
                self.bind_set(function, param);
            }
            if *kind == Some(Kind::Input) {
                self.bind_sizes(function, param);
            }
        }
        if self.errors() > errors {
            return false;
        }
        let bound = self.elaborator.bind_unknowns(function, true);
        let parameters: Option<Vec<ParameterInfo>> =
            function.params.iter().zip(kinds).map(|(param, kind)| self.parameter(param, kind?)).collect();
        let Some(parameters) = parameters.filter(|_| bound) else { return false };
        self.answer_infos.push(AnswerInfo { name: function.name.text.clone(), parameters: Some(parameters) });
        true
    }

    /// What gives a parameter, by its type alone.
    fn kind(&mut self, param: &Param) -> Option<Kind> {
        let is_rest = |dims: &[DimExpr]| dims.iter().any(|dim| matches!(dim, DimExpr::Rest(_)));
        match &param.ty.kind {
            TypeKind::Named { .. } | TypeKind::List(_) if !is_tensor(&param.ty) => Some(Kind::Setting),
            TypeKind::Named { dims, .. } => match dims.as_deref() {
                None | Some([]) => Some(Kind::Scalar),
                Some(dims) if is_rest(dims) => {
                    let help = "write as many dims as it has, as in `f32[N, D]`".to_owned();
                    let message = format!("how many axes `{}` has is not known", param.name.text);
                    self.elaborator.fail(Code::E0310, param.ty.span, message, Some(help));
                    None
                }
                Some(_) => match &param.default {
                    Some(default) => {
                        let message =
                            format!("`{}` comes from outside at each run, and has no default", param.name.text);
                        self.elaborator.fail(Code::E0204, default.span, message, None);
                        None
                    }
                    None => Some(Kind::Input),
                },
            },
            TypeKind::Tuple(_) | TypeKind::List(_) | TypeKind::Function(..) => {
                let message = "an answer takes tensors, numbers, bools and strings";
                self.elaborator.fail(Code::E0310, param.ty.span, message, None);
                None
            }
            TypeKind::Error => None,
        }
    }

    /// A parameter and a field would be one input.
    fn refuse_field(&mut self, param: &Param) {
        let name = &param.name.text;
        if self.data.iter().flat_map(|data| &data.raw).any(|field| field.name == *name) {
            let message =
                format!("`{name}` is a field of `{}`, which the answer has without a parameter", self.train.data.text);
            self.elaborator.fail(Code::E0202, param.name.span, message, None);
        }
    }

    /// A parameter that is known at compile time: what `--set` says. Without that and without a default it is missing,
    /// unless the answer is only checked.
    fn bind_set(&mut self, function: &Function, param: &Param) {
        let name = &param.name;
        if let Some(text) = self.set_from_outside(name) {
            let (value, place) = self.elaborator.setting_of(param, &text);
            if let Some(frame) = self.elaborator.frames.last_mut() {
                frame.bind(&name.text, value, place);
            }
        } else if param.default.is_none() && !matches!(self.asked, Asked::Checked) {
            let message = format!("the answer `{}` also needs `{}`", function.name.text, name.text);
            let help = format!("give it with `--set {}=VALUE`", name.text);
            self.elaborator.fail(Code::E0204, name.span, message, Some(help));
        }
    }

    /// What `--set` says of a parameter. Answers may have parameters of one name and different kinds: while all are
    /// checked, it is for none of them.
    fn set_from_outside(&mut self, name: &Ident) -> Option<String> {
        self.settings.settable.insert(name.text.clone());
        let has = |stmt: &&Stmt| match &stmt.kind {
            StmtKind::Answer { params: Some(params), .. } => params.iter().any(|param| param.name.text == name.text),
            _ => false,
        };
        let is_shared = self.train.body.stmts.iter().filter(has).count() > 1;
        let text = self.given_setting(&name.text)?;
        (!is_shared || !matches!(self.asked, Asked::Checked)).then_some(text)
    }

    /// The dims of an input that are names: what the inputs have. While all answers are checked they are unknown, for
    /// `--bind P=8` is said of the one that is made.
    fn bind_sizes(&mut self, function: &Function, param: &Param) {
        let mut found = Vec::new();
        crate::elaborate::dims::dim_names(&param.ty, &mut found);
        let Asked::One(_, sizes) = &self.asked else { return self.unbind(&found) };
        let sizes = sizes.clone();
        for name in found {
            let is_parameter = function.params.iter().any(|param| param.name.text == name.text);
            if is_parameter || self.elaborator.has_binding(&name.text) {
                continue;
            }
            match sizes.get(&name.text) {
                Some(&size) => self.elaborator.bind_dim(&name.text, Value::int(size), name.span),
                None => {
                    let message = format!("the size `{}` of `{}` is not known", name.text, param.name.text);
                    let help = format!("give it with `--bind {}=64`", name.text);
                    self.elaborator.fail(Code::E0306, name.span, message, Some(help));
                }
            }
        }
    }

    /// Takes back what `--bind` says of these names.
    fn unbind(&mut self, names: &[Ident]) {
        let bind = &self.elaborator.options.bind;
        let Some(frame) = self.elaborator.frames.last_mut() else { return };
        for name in names.iter().filter(|name| name.text != "N" && bind.contains_key(&name.text)) {
            let is_given = |binding: &Binding| binding.span == self.train.name.span;
            if frame.bindings.get(&name.text).is_some_and(is_given) {
                frame.bindings.remove(&name.text);
            }
        }
    }

    /// A bound parameter, as it is told of.
    fn parameter(&mut self, param: &Param, kind: Kind) -> Option<ParameterInfo> {
        let name = param.name.text.clone();
        let kind = match kind {
            Kind::Setting => {
                let binding = self.elaborator.frames.last()?.bindings.get(&name)?;
                ParameterKind::Setting(shown_setting(&binding.value))
            }
            Kind::Input | Kind::Scalar => {
                let frame = self.elaborator.frames.last()?;
                let Some(Value::Tensor(tensor)) = frame.bindings.get(&name).map(|binding| binding.value.clone()) else {
                    return None;
                };
                let ty = self.elaborator.ty(tensor).clone();
                match kind {
                    Kind::Input => ParameterKind::Input(ty),
                    Kind::Scalar | Kind::Setting => {
                        ParameterKind::Scalar(ty.dtype, self.scalar_value(param, ty.dtype)?)
                    }
                }
            }
        };
        Some(ParameterInfo { name, kind })
    }

    /// What a scalar is: set from outside, or its default; the outer `None` after an error.
    fn scalar_value(&mut self, param: &Param, dtype: DType) -> Option<Option<Tensor>> {
        let name = &param.name;
        if let Some(text) = self.set_from_outside(name) {
            return self.elaborator.scalar_from_outside(name, dtype, &text).map(Some);
        }
        let Some(default) = &param.default else { return Some(None) };
        let value = self.elaborator.eval(default);
        self.elaborator.scalar_from(name, dtype, &value, default.span).map(Some)
    }

    /// What nothing reads in an answer is a mistake, as everywhere in a recipe.
    fn check_unused(&mut self, function: &Function) {
        let mut report = Report::default();
        unused::check_function(function, &mut report);
        for diagnostic in report.into_diagnostics() {
            self.elaborator.report(Diagnostic { code: Code::E0604, ..diagnostic });
        }
    }

    /// The names of all answers with what they take, in order of declaration.
    pub(super) fn answers_told(&self) -> Vec<AnswerInfo> {
        let told = self.answer_names().map(|name| {
            let known = self.answer_infos.iter().find(|info| info.name == name);
            known.cloned().unwrap_or(AnswerInfo { name: name.to_owned(), parameters: None })
        });
        told.collect()
    }
}

/// What gives a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Input,
    Scalar,
    Setting,
}
