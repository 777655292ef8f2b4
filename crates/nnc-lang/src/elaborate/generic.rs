//! The check of a body on its own: its dims are distinct unknowns, its compile-time parameters are unknown.
//!
//! A second turn gives the compile-time parameters that have one their default, so that what an unknown `axis` hides is
//! seen as well. `...S` and unknown lists are tried with two elements. The graphs made here are thrown away.

use super::Elaborator;
use super::arguments::is_literal;
use super::program::ItemId;
use super::types::{FunctionType, has_no_axes, is_tensor};
use super::value::{Callable, Value};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{DimExpr, Expr, ExprKind, Function, Param, Type, TypeKind};
use nnc_graph::{Dim, Op, TensorType};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

impl Elaborator<'_> {
    /// Starts over with an empty graph; what was reported and how much work was done stay.
    fn restart(&mut self) {
        let report = std::mem::take(&mut self.report);
        let spent = self.spent;
        *self = Elaborator::new(self.program, self.options, &self.graph.name);
        self.report = report;
        self.spent = spent;
        self.generic = true;
        self.training_unknown = true;
    }

    /// Checks one function, model, optimizer or metric on its own.
    pub fn check_item(&mut self, item: ItemId) {
        let Some(function) = self.program.function(item) else { return };
        if self.program.is_broken(item) {
            return;
        }
        if !self.check_signature(function) {
            return;
        }
        let has_defaults = function.params.iter().any(|param| param.default.is_some() && !is_tensor(&param.ty));
        for with_defaults in [false, true] {
            if with_defaults && !has_defaults {
                continue;
            }
            self.restart();
            self.enter(item, function, "", Span::default());
            if self.bind_unknowns(function, with_defaults) {
                let result = self.run_body(function);
                self.check_duties(function, &result);
            }
            self.leave();
        }
    }

    /// Reports what is wrong with a signature by itself. False where a name in it stands for two things, so that its
    /// body says nothing.
    pub(super) fn check_signature(&mut self, function: &Function) -> bool {
        let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
        let mut compile_time: Option<&Param> = None;
        for param in &function.params {
            let name = &param.name;
            if let Some(before) = seen.insert(&name.text, name.span) {
                let message = format!("two parameters are called `{}`", name.text);
                self.report(Diagnostic::new(Code::E0202, name.span, message).with(before, "first here"));
            }
            // A scalar may stand anywhere: `lr: f32` of an optimizer; and what may be left out: `mask: bool[N, T] = true`.
            let has_dims = matches!(&param.ty.kind, TypeKind::Named { dims: Some(_), .. });
            match (is_tensor(&param.ty), compile_time) {
                (false, None) => compile_time = Some(param),
                (true, Some(before)) if has_dims && param.default.is_none() => {
                    let message = format!("`{}` is a tensor, and tensors come first", name.text);
                    self.report(Diagnostic::new(Code::E0204, name.span, message).with(before.name.span, "before this"));
                }
                (true, _) | (false, Some(_)) => {}
            }
        }
        self.refuse_dims_of_values(function)
    }

    /// A parameter may fix a dim of its name when it is an int that is known at compile time, as in
    /// `fn f(x: f32[N, K], K: int = 3)`. Of any other parameter the name would be a size and a value at once; false
    /// after an error.
    fn refuse_dims_of_values(&mut self, function: &Function) -> bool {
        let mut dims = Vec::new();
        let types = function.params.iter().map(|param| &param.ty).filter(|ty| is_tensor(ty)).chain(&function.result);
        for ty in types {
            super::dims::dim_names(ty, &mut dims);
            dims.extend(super::dims::rest_name(ty).cloned());
        }
        let mut ok = true;
        for param in function.params.iter().filter(|param| !may_be_size(&param.ty)) {
            let name = &param.name;
            let Some(dim) = dims.iter().find(|dim| dim.text == name.text) else { continue };
            let ty = self.program.text(param.ty.span);
            let message = format!("`{}` is a dim of this signature, and a parameter of type `{ty}`", name.text);
            let diagnostic = Diagnostic::new(Code::E0202, name.span, message).with(dim.span, "the dim");
            self.report(diagnostic.help("give one of them another name; only an `int` can say how large a dim is"));
            ok = false;
        }
        ok
    }

    /// Binds every parameter of the innermost frame to an unknown of its type. False after an error.
    pub(super) fn bind_unknowns(&mut self, function: &Function, with_defaults: bool) -> bool {
        self.bind_unknowns_but(function, with_defaults, &BTreeSet::new())
    }

    /// As [`Self::bind_unknowns`], but for the tensors called so, which are left out: they have their default.
    pub(super) fn bind_unknowns_but(
        &mut self,
        function: &Function,
        with_defaults: bool,
        left_out: &BTreeSet<String>,
    ) -> bool {
        let waits = |param: &Param| with_defaults && param.default.as_ref().is_some_and(|default| !is_literal(default));
        for param in function.params.iter().filter(|param| !waits(param)) {
            self.bind_setting(param, with_defaults);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.real = Some(self.options.float);
        }
        let tensors = || function.params.iter().filter(|param| is_tensor(&param.ty));
        let (there, absent): (Vec<&Param>, Vec<&Param>) =
            tensors().partition(|param| !left_out.contains(&param.name.text));
        there.iter().for_each(|param| self.bind_dims(&param.ty));
        // As in a call: a default may use dims, such as `hidden: int = 4 * C`.
        for param in function.params.iter().filter(|param| waits(param)) {
            self.bind_setting(param, with_defaults);
        }
        self.bind_open_result(function);
        let mut ok = true;
        for param in there {
            ok &= self.bind_input(param);
        }
        for param in absent {
            ok = ok && self.bind_left_out(function, param);
        }
        self.check_defaults(function) && ok
    }

    /// Binds a tensor to an input of the graph; false after an error.
    fn bind_input(&mut self, param: &Param) -> bool {
        let value = self.unknown_input(&param.ty, &param.name.text);
        let is_input = !value.is_poison();
        self.bind_parameter(param, value);
        is_input
    }

    /// Binds a tensor to its default; where that is a number for a scalar, to an input which has it unless the running
    /// program is told otherwise. False after an error.
    fn bind_left_out(&mut self, function: &Function, param: &Param) -> bool {
        let Some(default) = &param.default else { return true };
        let is_number = |value: &Value| matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_));
        if has_no_axes(&param.ty) {
            let value = self.eval(default);
            if is_number(&value) {
                return self.bind_input(param) && self.is_scalar_of(param, &value, default.span);
            }
        }
        let mut later = Vec::new();
        self.bind_default(param, default, &mut later);
        self.settle(function, later, default.span)
    }

    /// Whether a number is one of the dtype that a scalar is bound with; reports what is not.
    fn is_scalar_of(&mut self, param: &Param, number: &Value, place: Span) -> bool {
        let binding = self.frames.last().and_then(|frame| frame.bindings.get(&param.name.text));
        let Some(Value::Tensor(scalar)) = binding.map(|binding| binding.value.clone()) else { return true };
        let dtype = self.ty(scalar).dtype;
        self.scalar_from(&param.name, dtype, number, place).is_some()
    }

    /// Binds a compile-time parameter that is still open to its default, or to an unknown.
    fn bind_setting(&mut self, param: &Param, with_defaults: bool) {
        if is_tensor(&param.ty) || self.has_binding(&param.name.text) {
            return;
        }
        let value = match param.default.as_ref().filter(|_| with_defaults) {
            Some(default) => {
                let value = self.eval(default);
                self.fit(&param.ty, &value, default.span, &mut Vec::new()).unwrap_or(Value::Poison)
            }
            None => unknown(&param.ty, &param.name.text),
        };
        self.bind_parameter(param, value);
    }

    /// `...S` of a result that no parameter binds is what the context says, as in `fn zeros() -> f32[...S]`.
    fn bind_open_result(&mut self, function: &Function) {
        if let Some(Type { kind: TypeKind::Named { dims, .. }, .. }) = &function.result {
            for dim in dims.iter().flatten() {
                if let DimExpr::Rest(name) = dim {
                    self.bind_unbound(&name.text, unknown_dims(&name.text), name.span);
                }
            }
        }
    }

    /// A default must fit its parameter, also where it is never used. It says the dims that only its parameter has, as
    /// in `memory: f32[N, M, D] = x`.
    fn check_defaults(&mut self, function: &Function) -> bool {
        let mut ok = true;
        let mut known = Vec::new();
        for param in &function.params {
            let mut names = Vec::new();
            if is_tensor(&param.ty) {
                super::dims::dim_names(&param.ty, &mut names);
            }
            names.retain(|name| !known.contains(&name.text));
            known.extend(names.iter().map(|name| name.text.clone()));
            let Some(default) = &param.default else { continue };
            let value = self.eval(default);
            let Some(frame) = self.frames.last().cloned() else { continue };
            if let (Some(frame), Value::Tensor(_)) = (self.frames.last_mut(), &value) {
                names.iter().for_each(|name| drop(frame.bindings.remove(&name.text)));
            }
            let fitted = self.fit(&param.ty, &value, default.span, &mut Vec::new());
            if let Some(last) = self.frames.last_mut() {
                *last = frame;
            }
            if fitted.is_err() {
                let (wanted, found) = (self.program.text(param.ty.span), self.describe(&value));
                let message = format!("the default of `{}` is {found}, not {wanted}", param.name.text);
                self.report(Diagnostic::new(Code::E0303, default.span, message));
                ok = false;
            }
        }
        ok
    }

    fn bind_parameter(&mut self, param: &Param, value: Value) {
        if let Value::Tensor(tensor) = value {
            self.named.insert(tensor, param.name.text.clone());
            if !self.program.is_library(param.span) {
                self.born.insert(tensor, param.span);
            }
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(&param.name.text, value, param.name.span);
        }
    }

    /// Binds the names in the dims of a tensor type, each to itself.
    fn bind_dims(&mut self, ty: &Type) {
        match &ty.kind {
            TypeKind::Named { dims, .. } => {
                for dim in dims.iter().flatten() {
                    match dim {
                        DimExpr::Expr(expr) => self.bind_names(expr),
                        DimExpr::Rest(name) => {
                            self.bind_unbound(&name.text, unknown_dims(&name.text), name.span);
                        }
                    }
                }
            }
            TypeKind::Tuple(items) => items.iter().for_each(|item| self.bind_dims(item)),
            TypeKind::List(item) => self.bind_dims(item),
            TypeKind::Function(..) | TypeKind::Error => {}
        }
    }

    fn bind_names(&mut self, expr: &Expr) {
        if let ExprKind::Name(name) = &expr.kind {
            self.bind_unbound(name, Value::Int(Dim::name(name)), expr.span);
            return;
        }
        let mut names = Vec::new();
        super::dims::collect_names(expr, &mut names);
        for name in names {
            self.bind_unbound(&name.text, Value::Int(Dim::name(&name.text)), name.span);
        }
    }

    fn bind_unbound(&mut self, name: &str, value: Value, span: Span) {
        if let Some(frame) = self.frames.last_mut()
            && !frame.bindings.contains_key(name)
        {
            frame.bind(name, value, span);
        }
    }

    /// An input of the graph for a tensor parameter.
    fn unknown_input(&mut self, ty: &Type, name: &str) -> Value {
        match &ty.kind {
            TypeKind::Tuple(items) => {
                let parts =
                    items.iter().enumerate().map(|(at, item)| self.unknown_input(item, &format!("{name}.{at}")));
                Value::tuple(parts.collect())
            }
            TypeKind::List(item) => Value::list(vec![
                self.unknown_input(item, &format!("{name}.0")),
                self.unknown_input(item, &format!("{name}.1")),
            ]),
            TypeKind::Named { .. } | TypeKind::Function(..) | TypeKind::Error => {
                let Some(ty) = self.tensor_type(ty) else { return Value::Poison };
                self.typed_input(name, ty)
            }
        }
    }

    fn typed_input(&mut self, name: &str, ty: TensorType) -> Value {
        self.graph.add1(Op::Input { name: name.to_owned(), ty }, &[]).map_or(Value::Poison, Value::Tensor)
    }
}

/// Whether a parameter of this type may say the size of a dim, or be a list of sizes.
fn may_be_size(ty: &Type) -> bool {
    match &ty.kind {
        TypeKind::Named { name, dims: None } => name.text == "int",
        TypeKind::List(_) | TypeKind::Error => true,
        TypeKind::Named { .. } | TypeKind::Tuple(_) | TypeKind::Function(..) => false,
    }
}

/// What `...S` is tried with.
fn unknown_dims(name: &str) -> Value {
    Value::list((0..2).map(|at| Value::Int(Dim::name(&format!("{name}[{at}]")))).collect())
}

/// An unknown compile-time value of a type.
fn unknown(ty: &Type, name: &str) -> Value {
    match &ty.kind {
        TypeKind::Named { name: word, .. } => match word.text.as_str() {
            "int" => Value::Int(Dim::name(name)),
            "float" => Value::Float(None),
            "bool" => Value::Bool(None),
            "str" => Value::Str(None),
            _ => Value::Poison,
        },
        TypeKind::List(item) => Value::list((0..2).map(|at| unknown(item, &format!("{name}[{at}]"))).collect()),
        TypeKind::Tuple(items) => {
            Value::tuple(items.iter().enumerate().map(|(at, item)| unknown(item, &format!("{name}.{at}"))).collect())
        }
        TypeKind::Function(parameters, result) => {
            let ty = FunctionType { parameters: parameters.clone(), result: (**result).clone() };
            Value::Function(Rc::new(Callable::Opaque(Rc::new(ty))))
        }
        TypeKind::Error => Value::Poison,
    }
}
