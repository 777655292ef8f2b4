//! A model by itself: what it is given from outside, and its graph.
//!
//! Its tensors are inputs. One that has a default may be left out: a number for a scalar stays an input, which `--set`
//! gives another value; any other default is computed in the graph, unless the tensor is given all the same. What is
//! known at compile time has the value of a recipe (`train Lm(vocab=65) on text`), of `--set` where the file has no
//! recipe, or its default.

use super::Elaborator;
use super::arguments::Matched;
use super::outside::{shown_setting, unknown_setting};
use super::program::{ItemId, Program};
use super::recipe::{ParameterInfo, ParameterKind};
use super::scope::{Frame, FrameKind};
use super::types::{has_no_axes, is_tensor};
use super::value::{Args, Argument, Value};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{Function, FunctionKind, ItemKind, Param};
use nnc_graph::{DType, Op, Tensor, TensorType};
use std::collections::{BTreeMap, BTreeSet};

/// A model of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Its inputs in order, with dims as they are named; those that have a default are not among them.
    pub inputs: Vec<(String, TensorType)>,
    /// Tensors with a default that may be given as inputs all the same.
    pub optional: Vec<(String, TensorType)>,
    /// What `--set` gives: scalars of the running program that have a default, and what is known at compile time.
    pub parameters: Vec<ParameterInfo>,
    /// Its result; `None` when that depends on compile-time arguments, or is a tuple.
    pub result: Option<TensorType>,
    /// Whether it has compile-time arguments without a value: only a use can build it.
    pub needs_arguments: bool,
}

/// Whether a parameter is a tensor that may be left out.
fn is_optional(param: &Param) -> bool {
    is_tensor(&param.ty) && param.default.is_some()
}

/// The names of a model's tensors that have a default and are not given.
fn left_out(function: &Function, given: &BTreeSet<String>) -> BTreeSet<String> {
    let optional = function.params.iter().filter(|param| is_optional(param)).map(|param| param.name.text.clone());
    optional.filter(|name| !given.contains(name)).collect()
}

/// The names that `--set` may have in a file without a recipe: parameters of its models.
pub(super) fn settable(program: &Program) -> BTreeSet<String> {
    let is_model = |item: &ItemKind| matches!(item, ItemKind::Function(f) if f.kind == FunctionKind::Model);
    let models = program.user_items().filter(|(_, item)| is_model(&item.kind));
    models.filter_map(|(id, _)| program.function(id)).flat_map(settable_of).collect()
}

/// The same of one model: what is known at compile time, and scalars with a default.
fn settable_of(function: &Function) -> impl Iterator<Item = String> {
    let is_settable = |param: &&Param| !is_tensor(&param.ty) || is_optional(param) && has_no_axes(&param.ty);
    function.params.iter().filter(is_settable).map(|param| param.name.text.clone())
}

/// The inputs of the graph that is being made, but for those of the compiler's own.
fn inputs(elaborator: &Elaborator<'_>) -> Vec<(String, TensorType)> {
    let inputs = elaborator.graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Input { name, ty } if !name.starts_with(['?', '$']) => Some((name.clone(), ty.clone())),
        _ => None,
    });
    inputs.collect()
}

impl Elaborator<'_> {
    /// What a model takes and gives, when its own signature says so.
    pub(super) fn model_info(&mut self, item: ItemId) -> Option<ModelInfo> {
        let function = self.program.function(item)?;
        let name = function.name.text.clone();
        let optional_names = left_out(function, &BTreeSet::new());
        let whole = inputs(&self.tried(item, function, &BTreeSet::new()));
        let mut tried = self.tried(item, function, &optional_names);
        let taken = inputs(&tried);
        let (scalars, inputs): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|(input, _)| optional_names.contains(input));
        let is_scalar = |name: &String| scalars.iter().any(|(scalar, _)| scalar == name);
        let optional =
            whole.into_iter().filter(|(name, _)| optional_names.contains(name) && !is_scalar(name)).collect();
        let result = function.result.as_ref().and_then(|ty| tried.quiet_type(ty));
        let is_open = |param: &Param| {
            !is_tensor(&param.ty) && param.default.is_none() && self.set_from_outside(&param.name.text).is_none()
        };
        let needs_arguments = function.params.iter().any(is_open);
        let parameters = function.params.iter().filter_map(|param| tried.told(param, &scalars)).collect();
        Some(ModelInfo { name, inputs, optional, parameters, result, needs_arguments })
    }

    /// An elaboration in which the parameters of a model are bound, with unknown dims; what it reports is not shown.
    fn tried(&self, item: ItemId, function: &Function, left_out: &BTreeSet<String>) -> Elaborator<'_> {
        let mut tried = Elaborator::new(self.program, self.options, &function.name.text);
        tried.generic = true;
        let settings = tried.set_arguments(function, vec![None; function.params.len()]);
        tried.enter(item, function, "", Span::default());
        tried.bind_arguments_only(function, &settings);
        tried.bind_unknowns_but(function, true, left_out);
        tried
    }

    /// A bound parameter that `--set` gives, as it is told of.
    fn told(&mut self, param: &Param, scalars: &[(String, TensorType)]) -> Option<ParameterInfo> {
        let name = param.name.text.clone();
        let kind = match scalars.iter().find(|(scalar, _)| *scalar == name) {
            Some((_, ty)) => ParameterKind::Scalar(ty.dtype, self.scalar_default(param, ty.dtype)),
            None if is_tensor(&param.ty) => return None,
            None => {
                let binding = self.frames.last()?.bindings.get(&name)?;
                ParameterKind::Setting(shown_setting(&binding.value))
            }
        };
        Some(ParameterInfo { name, kind })
    }

    /// What a scalar is unless the running program says otherwise; `None` after an error.
    fn scalar_default(&mut self, param: &Param, dtype: DType) -> Option<Tensor> {
        if let Some(text) = self.set_from_outside(&param.name.text) {
            return self.scalar_from_outside(&param.name, dtype, &text);
        }
        let default = param.default.as_ref()?;
        let value = self.eval(default);
        self.scalar_from(&param.name, dtype, &value, default.span)
    }

    /// What `--set` gives for a model's parameter; a recipe's settings are its own.
    fn set_from_outside(&self, name: &str) -> Option<String> {
        self.options.set.get(name).filter(|_| !self.program.has_recipes()).cloned()
    }

    /// Elaborates a model of the user's with bound dims; its outputs are declared. Of the tensors with a default those
    /// called `given` are inputs.
    pub(super) fn build_model(
        &mut self,
        name: &str,
        bind: &BTreeMap<String, i64>,
        given: &BTreeSet<String>,
    ) -> Option<()> {
        let program = self.program;
        let is_wanted = |item: &ItemKind| matches!(item, ItemKind::Function(f) if f.name.text == name && f.kind == FunctionKind::Model);
        let found = program.user_items().find(|(_, item)| is_wanted(&item.kind));
        let Some((item, _)) = found else {
            let place = Span { file: program.modules[0].file, ..Span::default() };
            self.report(Diagnostic::new(Code::E0201, place, format!("there is no model `{name}` in this file")));
            return None;
        };
        let function = program.function(item)?;
        let left_out = left_out(function, given);
        let settings = self.root_settings(name, item, function)?;
        self.refuse_open_rest(name, function, &left_out)?;
        self.enter(item, function, "", Span::default());
        self.bind_root_sizes(function, bind, &left_out);
        self.bind_arguments_only(function, &settings);
        let is_bound = self.bind_unknowns_but(function, true, &left_out) && self.scalars_fit(function);
        let result = if is_bound { self.run_body(function) } else { Value::Poison };
        self.leave();
        self.put_out("result", &result);
        self.finish_updates();
        (!result.is_poison()).then_some(())
    }

    /// Whether what `--set` gives for scalars is theirs; reports what is not.
    fn scalars_fit(&mut self, function: &Function) -> bool {
        let mut fit = true;
        for param in function.params.iter().filter(|param| is_optional(param)) {
            let Some(text) = self.set_from_outside(&param.name.text) else { continue };
            let bound = self.frames.last().and_then(|frame| frame.bindings.get(&param.name.text));
            if let Some(Value::Tensor(scalar)) = bound.map(|binding| binding.value.clone()) {
                let dtype = self.ty(scalar).dtype;
                fit &= self.scalar_from_outside(&param.name, dtype, &text).is_some();
            }
        }
        fit
    }

    /// Reports an input of any number of dims: what is made by itself has a shape.
    fn refuse_open_rest(&mut self, name: &str, function: &Function, left_out: &BTreeSet<String>) -> Option<()> {
        let is_input = |param: &&Param| is_tensor(&param.ty) && !left_out.contains(&param.name.text);
        let tensors = function.params.iter().filter(is_input);
        let Some(rest) = tensors.filter_map(|param| super::dims::rest_name(&param.ty)).next() else { return Some(()) };
        let message = format!("`{name}` takes any number of dims here, so it is no network by itself");
        let help = format!("name the dims, or write a model that does and calls `{name}`");
        self.report(Diagnostic::new(Code::E0204, rest.span, message).help(help));
        None
    }

    /// The compile-time arguments of a model by itself. Reports what is missing, and settings that it does not have.
    fn root_settings(&mut self, name: &str, item: ItemId, function: &Function) -> Option<Matched> {
        let program = self.program;
        let arguments = program.user_items().find_map(|(id, found)| match &found.kind {
            ItemKind::Train(train) if train.name.text == name => Some((id, train.arguments.as_deref()?)),
            ItemKind::Use(_) | ItemKind::Function(_) | ItemKind::Data(_) | ItemKind::Train(_) => None,
        });
        let (module, arguments) = arguments.map_or((item.module, &[][..]), |(id, arguments)| (id.module, arguments));
        self.push(Frame::new(FrameKind::Recipe, name, "", module, Span::default()));
        let args = Args { items: self.eval_arguments(arguments), expected: None };
        self.leave();
        let matched = self.match_arguments(function, &args, function.signature, true)?;
        let matched = self.set_arguments(function, matched);
        self.refuse_unknown_settings(name, function)?;
        let is_missing = |(param, given): &(&Param, &Option<Argument>)| {
            given.is_none() && param.default.is_none() && !is_tensor(&param.ty)
        };
        if let Some((param, _)) = function.params.iter().zip(&matched).find(is_missing) {
            let message =
                format!("`{name}` has compile-time arguments without a default: a recipe or model gives them");
            let diagnostic = Diagnostic::new(Code::E0204, function.signature, message);
            let help = format!("or `--set {}=VALUE` does", param.name.text);
            self.report(if program.has_recipes() { diagnostic } else { diagnostic.help(help) });
            return None;
        }
        Some(matched)
    }

    /// The compile-time arguments with what `--set` gives.
    fn set_arguments(&mut self, function: &Function, matched: Matched) -> Matched {
        let set = |(param, argument): (&Param, Option<Argument>)| {
            let text = self.set_from_outside(&param.name.text).filter(|_| !is_tensor(&param.ty));
            let Some(text) = text else { return argument };
            let (value, span) = self.setting_of(param, &text);
            Some(Argument { name: None, value, span })
        };
        function.params.iter().zip(matched).map(set).collect()
    }

    /// Reports what is set and no parameter of the model.
    fn refuse_unknown_settings(&mut self, name: &str, function: &Function) -> Option<()> {
        let settable: BTreeSet<String> = settable_of(function).collect();
        let is_unknown = |key: &&String| self.set_from_outside(key).is_some() && !settable.contains(*key);
        let unknown: Vec<(&String, &String)> = self.options.set.iter().filter(|(key, _)| is_unknown(key)).collect();
        for (key, value) in &unknown {
            let place = self.program.given.setting(key, value).name;
            self.report(unknown_setting(&format!("`{name}` has no"), key, &settable, place));
        }
        unknown.is_empty().then_some(())
    }

    /// Binds the dims of the inputs that are still names: those of tensors with a default only where a size is given.
    fn bind_root_sizes(&mut self, function: &Function, bind: &BTreeMap<String, i64>, left_out: &BTreeSet<String>) {
        let is_parameter = |name: &str| function.params.iter().any(|param| param.name.text == name);
        let Some(frame) = self.frames.last_mut() else { return };
        for param in function.params.iter().filter(|param| is_tensor(&param.ty)) {
            let mut names = Vec::new();
            super::dims::dim_names(&param.ty, &mut names);
            let unless_given = (!left_out.contains(&param.name.text)).then_some(1);
            for name in names.into_iter().filter(|name| !is_parameter(&name.text)) {
                let given = bind.get(&name.text).or_else(|| self.options.bind.get(&name.text)).copied();
                if let Some(size) = given.or(unless_given) {
                    frame.bind(&name.text, Value::int(size), name.span);
                }
            }
        }
    }
}
