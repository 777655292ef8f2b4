//! Annotations: what a type in the source stands for, and unification with the values that meet it.
//!
//! A dim that is a bare name binds when it is first met and is compared from then on; an expression is checked once its
//! names are bound, or solved when it is linear in one name that nothing else binds. `...S` binds a list of ints.
//! `real` binds a float dtype. While a body is checked on its own, a dim with a division that was not carried out, or
//! an unknown one, equals everything.

use super::Elaborator;
use super::report::is_divided;
use super::value::{Callable, Value};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{BinaryOperator, DimExpr, Expr, ExprKind, Ident, IndexItem, Type, TypeKind, UnaryOperator};
use nnc_graph::{DType, Dim, Shape, TensorType};
use std::rc::Rc;

/// The type of a function-typed parameter.
#[derive(Clone, Debug)]
pub struct FunctionType {
    /// Types of its arguments.
    pub parameters: Vec<Type>,
    /// Type of its result.
    pub result: Type,
}

/// Why a value does not fit a type.
#[derive(Clone, Debug)]
pub struct Misfit {
    /// Which kind of mistake; the context may have a better one.
    pub code: Option<Code>,
    /// What differs, in words; empty when the types say it.
    pub reason: String,
    /// Places that explain.
    pub labels: Vec<(Span, String)>,
    /// What to try.
    pub help: Option<String>,
}

/// A dim whose names were not bound when it was met.
#[derive(Clone, Debug)]
pub struct Equation {
    expression: Expr,
    actual: Dim,
    span: Span,
}

/// Why a dim has no value now.
enum Unsolved {
    /// A name in it is not bound.
    Unbound(Ident),
    /// Not an int expression, or one that only the evaluator can do.
    Other,
}

type Fit<T> = Result<T, Misfit>;

impl Misfit {
    fn new(reason: impl Into<String>) -> Self {
        Self { code: None, reason: reason.into(), labels: Vec::new(), help: None }
    }

    fn silent() -> Self {
        Self::new("")
    }
}

/// Whether values of this type are tensors.
pub fn is_tensor(ty: &Type) -> bool {
    match &ty.kind {
        TypeKind::Named { name, .. } => !matches!(name.text.as_str(), "int" | "float" | "bool" | "str") || has_dims(ty),
        TypeKind::Tuple(items) => items.iter().any(is_tensor),
        TypeKind::List(item) => is_tensor(item),
        TypeKind::Function(..) | TypeKind::Error => false,
    }
}

/// `bool[N]` is a tensor, `bool` a compile-time value.
fn has_dims(ty: &Type) -> bool {
    matches!(&ty.kind, TypeKind::Named { dims: Some(_), .. })
}

impl Elaborator<'_> {
    /// Fits `value` to `ty` in the innermost frame, binding the names in `ty`; gives the value as the type has it.
    /// Dims that wait for other arguments go to `later`.
    pub fn fit(&mut self, ty: &Type, value: &Value, span: Span, later: &mut Vec<Equation>) -> Fit<Value> {
        if value.is_poison() {
            return Ok(Value::Poison);
        }
        match &ty.kind {
            TypeKind::Named { name, dims } => self.fit_named(name, dims.as_deref(), value, span, later),
            TypeKind::Tuple(types) => self.fit_tuple(types, value, span, later),
            TypeKind::List(item) => self.fit_list(item, value, span, later),
            TypeKind::Function(parameters, result) => fit_function(parameters, result, value),
            TypeKind::Error => Ok(Value::Poison),
        }
    }

    fn fit_named(
        &mut self,
        name: &Ident,
        dims: Option<&[DimExpr]>,
        value: &Value,
        span: Span,
        later: &mut Vec<Equation>,
    ) -> Fit<Value> {
        let fits = match (name.text.as_str(), dims, value) {
            ("int", None, Value::Int(_)) | ("str", None, Value::Str(_)) | ("float", None, Value::Float(_)) => true,
            ("bool", None, Value::Bool(_)) => true,
            ("float", None, Value::Int(dim)) => {
                return Ok(Value::Float(dim.as_number().map(|number| number as f64)));
            }
            _ => false,
        };
        if fits {
            return Ok(value.clone());
        }
        if matches!(name.text.as_str(), "int" | "float" | "str") || name.text == "bool" && dims.is_none() {
            // A run-time bool may be promised or taken where the annotation is the scalar `bool`.
            let scalar_bool = matches!(value, Value::Tensor(tensor)
                if name.text == "bool" && *self.ty(*tensor) == TensorType::scalar(DType::Bool));
            return if scalar_bool { Ok(value.clone()) } else { Err(Misfit::new("")) };
        }
        self.fit_tensor(name, dims.unwrap_or_default(), value, span, later)
    }

    fn fit_tensor(
        &mut self,
        name: &Ident,
        dims: &[DimExpr],
        value: &Value,
        span: Span,
        later: &mut Vec<Equation>,
    ) -> Fit<Value> {
        let wanted = self.wanted_dtype(name)?;
        match value {
            Value::Tensor(tensor) => {
                let ty = self.ty(*tensor).clone();
                self.fit_dtype(name, wanted, ty.dtype)?;
                self.fit_shape(dims, &ty.shape, span, later)?;
                Ok(value.clone())
            }
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => {
                let dtype = wanted.unwrap_or(self.options.float);
                self.fit_literal(dtype, dims, value, span, later)
            }
            Value::Str(_) | Value::Tuple(_) | Value::Function(_) | Value::Layer(_) => Err(Misfit::new("")),
            Value::Poison => Ok(Value::Poison),
        }
    }

    /// A compile-time value where a tensor is wanted: a number is repeated over the shape.
    fn fit_literal(
        &mut self,
        dtype: DType,
        dims: &[DimExpr],
        value: &Value,
        span: Span,
        later: &mut Vec<Equation>,
    ) -> Fit<Value> {
        let Some(tensor) = self.tensor(value, Some(dtype), span) else { return Ok(Value::Poison) };
        if self.ty(tensor).shape.rank() > 0 {
            let shape = self.ty(tensor).shape.clone();
            self.fit_shape(dims, &shape, span, later)?;
            return Ok(Value::Tensor(tensor));
        }
        let shape = match self.quiet_shape(dims) {
            Some(shape) => shape,
            None => match dims {
                [DimExpr::Rest(name)] => {
                    self.bind_dim(&name.text, Value::list(Vec::new()), span);
                    Shape::scalar()
                }
                _ => return Err(Misfit::new("a number has no shape of its own")),
            },
        };
        Ok(Value::Tensor(self.graph.broadcast_scalar(tensor, &shape)))
    }

    /// The dtype an annotation names; `None` for a `real` that is not bound yet.
    fn wanted_dtype(&mut self, name: &Ident) -> Fit<Option<DType>> {
        if name.text == "real" {
            return Ok(self.frames.last().and_then(|frame| frame.real));
        }
        match self.dtype(&name.text) {
            Some(dtype) => Ok(Some(dtype)),
            None => {
                self.report_unknown_type(name);
                Err(Misfit::silent())
            }
        }
    }

    fn fit_dtype(&mut self, name: &Ident, wanted: Option<DType>, found: DType) -> Fit<()> {
        match wanted {
            Some(wanted) if wanted == found => Ok(()),
            None if found.is_float() => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.real = Some(found);
                }
                Ok(())
            }
            Some(wanted) => Err(Misfit {
                code: Some(Code::E0304),
                help: Some(format!("write `{wanted}(...)` to convert it")),
                ..Misfit::new(format!("{found} is not {wanted}"))
            }),
            None => Err(Misfit {
                code: Some(Code::E0304),
                help: Some("write `f32(...)` to convert it".to_owned()),
                ..Misfit::new(format!("`{}` is a float, not {found}", name.text))
            }),
        }
    }

    fn fit_tuple(&mut self, types: &[Type], value: &Value, span: Span, later: &mut Vec<Equation>) -> Fit<Value> {
        let Value::Tuple(items) = value else { return Err(Misfit::new("")) };
        if items.len() != types.len() {
            return Err(Misfit::new(format!("{} elements, not {}", items.len(), types.len())));
        }
        let fitted: Fit<Vec<Value>> =
            types.iter().zip(items.iter()).map(|(ty, item)| self.fit(ty, item, span, later)).collect();
        fitted.map(Value::tuple)
    }

    /// A list; one element may stand for a list of it.
    fn fit_list(&mut self, item: &Type, value: &Value, span: Span, later: &mut Vec<Equation>) -> Fit<Value> {
        let items = match value {
            Value::List(items) => items.to_vec(),
            single => vec![single.clone()],
        };
        let fitted: Fit<Vec<Value>> = items.iter().map(|value| self.fit(item, value, span, later)).collect();
        fitted.map(Value::list)
    }

    /// Unifies the dims of an annotation with a shape.
    fn fit_shape(&mut self, dims: &[DimExpr], actual: &[Dim], span: Span, later: &mut Vec<Equation>) -> Fit<()> {
        let rest = dims.iter().position(|dim| matches!(dim, DimExpr::Rest(_)));
        let fixed = dims.len() - usize::from(rest.is_some());
        if actual.len() < fixed || rest.is_none() && actual.len() != fixed {
            let least = if rest.is_some() { "at least " } else { "" };
            return Err(Misfit::new(format!("{}, not {least}{fixed}", axes(actual.len()))));
        }
        let stretch = actual.len() - fixed;
        let mut at = 0;
        let mut expressions = Vec::new();
        for dim in dims {
            match dim {
                DimExpr::Rest(name) => {
                    self.fit_rest(name, &actual[at..at + stretch], span)?;
                    at += stretch;
                }
                DimExpr::Expr(expression) => {
                    match bare_name(expression).filter(|name| !self.is_bound(name)) {
                        Some(name) => self.bind_dim(name, Value::Int(actual[at].clone()), span),
                        None => expressions.push((expression, at)),
                    }
                    at += 1;
                }
            }
        }
        for (expression, at) in expressions {
            self.fit_dim(expression, &actual[at], at, span, later)?;
        }
        Ok(())
    }

    fn fit_rest(&mut self, name: &Ident, actual: &[Dim], span: Span) -> Fit<()> {
        let found: Vec<Value> = actual.iter().cloned().map(Value::Int).collect();
        let Some(binding) = self.frames.last().and_then(|frame| frame.bindings.get(&name.text)) else {
            self.bind_dim(&name.text, Value::list(found), span);
            return Ok(());
        };
        let (known, place) = (binding.value.clone(), binding.span);
        let Value::List(known) = known else { return Ok(()) };
        let agrees = known.len() == actual.len()
            && known.iter().zip(actual).all(|(known, dim)| match known {
                Value::Int(known) => self.dims_agree(known, dim),
                _ => true,
            });
        if agrees {
            return Ok(());
        }
        let shown: Vec<String> = known.iter().map(|dim| self.show_int(dim)).collect();
        let found: Vec<String> = actual.iter().map(Dim::to_string).collect();
        let text = format!("`...{}` is [{}] from here", name.text, shown.join(", "));
        let reason = format!("`...{}` is [{}] and [{}]", name.text, shown.join(", "), found.join(", "));
        Err(Misfit { labels: vec![(place, text)], ..Misfit::new(reason) })
    }

    fn fit_dim(
        &mut self,
        expression: &Expr,
        actual: &Dim,
        axis: usize,
        span: Span,
        later: &mut Vec<Equation>,
    ) -> Fit<()> {
        match self.quiet_dim(expression, None) {
            Ok(wanted) if self.dims_agree(&wanted, actual) => Ok(()),
            Ok(wanted) => Err(self.dim_misfit(expression, &wanted, actual, axis)),
            Err(Unsolved::Unbound(_)) => {
                later.push(Equation { expression: expression.clone(), actual: actual.clone(), span });
                Ok(())
            }
            Err(Unsolved::Other) => match self.eval(expression) {
                Value::Int(wanted) if self.dims_agree(&wanted, actual) => Ok(()),
                Value::Int(wanted) => Err(self.dim_misfit(expression, &wanted, actual, axis)),
                Value::Poison => Ok(()),
                other => {
                    self.mismatch::<()>(&other, "an int for a dim", expression.span);
                    Ok(())
                }
            },
        }
    }

    /// Says which dim differs, and where its name was bound.
    fn dim_misfit(&self, expression: &Expr, wanted: &Dim, actual: &Dim, axis: usize) -> Misfit {
        let text = self.program.text(expression.span);
        let shown = if text == wanted.to_string() { text.to_owned() } else { format!("`{text}` = {wanted}") };
        let mut misfit = Misfit::new(format!("dim {axis} is {actual}, not {shown}"));
        let Some(frame) = self.frames.last() else { return misfit };
        let mut names = Vec::new();
        collect_names(expression, &mut names);
        for name in names {
            if let Some(binding) = frame.bindings.get(&name.text) {
                misfit.labels.push((binding.span, format!("`{}` is {} from here", name.text, self.show_int(&binding.value))));
            }
        }
        misfit
    }

    /// Solves the dims that had to wait. What stays open is reported (E0306).
    pub fn solve(&mut self, mut equations: Vec<Equation>) -> Result<(), (Misfit, Span)> {
        while !equations.is_empty() {
            let before = equations.len();
            let mut open = Vec::new();
            for equation in equations {
                if !self.solve_one(&equation).map_err(|misfit| (misfit, equation.span))? {
                    open.push(equation);
                }
            }
            if open.len() == before {
                let equation = &open[0];
                let text = self.program.text(equation.expression.span);
                let reason = format!("`{text} = {}` does not say what its names are", equation.actual);
                return Err((Misfit { code: Some(Code::E0306), ..Misfit::new(reason) }, equation.span));
            }
            equations = open;
        }
        Ok(())
    }

    /// Whether the equation is settled: true, or solved for its one unknown name.
    fn solve_one(&mut self, equation: &Equation) -> Fit<bool> {
        let Equation { expression, actual, span } = equation;
        let unknown = match self.quiet_dim(expression, None) {
            Ok(wanted) if self.dims_agree(&wanted, actual) => return Ok(true),
            Ok(wanted) => return Err(self.dim_misfit(expression, &wanted, actual, 0)),
            Err(Unsolved::Unbound(name)) => name,
            Err(Unsolved::Other) => return Ok(false),
        };
        let at = |elaborator: &Self, value: Dim| elaborator.quiet_dim(expression, Some((&unknown.text, value))).ok();
        let name = Dim::name("?solved");
        let (Some(form), Some(zero), Some(one)) =
            (at(self, name.clone()), at(self, Dim::from(0i64)), at(self, Dim::from(1i64)))
        else {
            return Ok(false);
        };
        let slope = one - zero.clone();
        if form != slope.clone() * name + zero.clone() || slope.is(0) {
            return Ok(false);
        }
        let rest = actual.clone() - zero;
        let (Some(solution), Some(remainder)) = (rest.floor_div(&slope), rest.remainder(&slope)) else { return Ok(false) };
        if !remainder.is(0) && !(self.generic && is_divided(&remainder)) {
            let text = self.program.text(expression.span);
            let reason = format!("no whole `{}` makes `{text}` = {actual}", unknown.text);
            return Err(Misfit { code: Some(Code::E0306), ..Misfit::new(reason) });
        }
        self.bind_dim(&unknown.text, Value::Int(solution), *span);
        Ok(true)
    }

    /// Whether two dims are one, as far as can be told now.
    pub fn dims_agree(&self, a: &Dim, b: &Dim) -> bool {
        a == b || self.generic && (is_open(a) || is_open(b))
    }

    fn is_bound(&self, name: &str) -> bool {
        self.frames.last().is_some_and(|frame| frame.bindings.contains_key(name))
    }

    fn bind_dim(&mut self, name: &str, value: Value, span: Span) {
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(name, value, span);
        }
    }

    fn show_int(&self, value: &Value) -> String {
        match value {
            Value::Int(dim) => dim.to_string(),
            other => self.describe(other),
        }
    }

    /// The value of a dim expression from the names bound in the innermost frame and one more.
    fn quiet_dim(&self, expression: &Expr, extra: Option<(&str, Dim)>) -> Result<Dim, Unsolved> {
        let both = |a: &Expr, b: &Expr| Ok((self.quiet_dim(a, extra.clone())?, self.quiet_dim(b, extra.clone())?));
        match &expression.kind {
            ExprKind::Int(number) => Ok(Dim::from(*number)),
            ExprKind::Paren(inner) => self.quiet_dim(inner, extra),
            ExprKind::Unary(UnaryOperator::Neg, inner) => Ok(-self.quiet_dim(inner, extra)?),
            ExprKind::Name(name) => match extra {
                Some((unknown, value)) if unknown == name => Ok(value),
                _ => self.quiet_name(name, expression.span),
            },
            ExprKind::Index(base, items) => self.quiet_element(base, items),
            ExprKind::Binary(operator, a, b) => {
                let (a, b) = both(a, b)?;
                match operator {
                    BinaryOperator::Add => Ok(a + b),
                    BinaryOperator::Sub => Ok(a - b),
                    BinaryOperator::Mul => Ok(a * b),
                    BinaryOperator::Div => a.floor_div(&b).ok_or(Unsolved::Other),
                    BinaryOperator::Rem => a.remainder(&b).ok_or(Unsolved::Other),
                    BinaryOperator::MatMul | BinaryOperator::Pow | BinaryOperator::Eq | BinaryOperator::Ne => {
                        Err(Unsolved::Other)
                    }
                    BinaryOperator::Lt | BinaryOperator::Le | BinaryOperator::Gt | BinaryOperator::Ge => {
                        Err(Unsolved::Other)
                    }
                    BinaryOperator::And | BinaryOperator::Or => Err(Unsolved::Other),
                }
            }
            _ => Err(Unsolved::Other),
        }
    }

    fn quiet_name(&self, name: &str, span: Span) -> Result<Dim, Unsolved> {
        match self.frames.last().and_then(|frame| frame.bindings.get(name)) {
            None => Err(Unsolved::Unbound(Ident { text: name.to_owned(), span })),
            Some(binding) => match &binding.value {
                Value::Int(dim) => Ok(dim.clone()),
                _ => Err(Unsolved::Other),
            },
        }
    }

    /// `kernel[0]`, `kernel[-1]` of a list that is bound.
    fn quiet_element(&self, base: &Expr, items: &[IndexItem]) -> Result<Dim, Unsolved> {
        let (ExprKind::Name(name), [IndexItem::At(at)]) = (&base.kind, items) else { return Err(Unsolved::Other) };
        let Some(binding) = self.frames.last().and_then(|frame| frame.bindings.get(name)) else {
            return Err(Unsolved::Unbound(Ident { text: name.clone(), span: base.span }));
        };
        let Value::List(list) = &binding.value else { return Err(Unsolved::Other) };
        let at = self.quiet_dim(at, None)?.as_number().ok_or(Unsolved::Other)?;
        let from = if at < 0 { at + list.len() as i64 } else { at };
        match usize::try_from(from).ok().and_then(|from| list.get(from)) {
            Some(Value::Int(dim)) => Ok(dim.clone()),
            _ => Err(Unsolved::Other),
        }
    }

    fn quiet_shape(&self, dims: &[DimExpr]) -> Option<Shape> {
        let mut shape = Vec::new();
        for dim in dims {
            match dim {
                DimExpr::Expr(expression) => shape.push(self.quiet_dim(expression, None).ok()?),
                DimExpr::Rest(name) => match &self.frames.last()?.bindings.get(&name.text)?.value {
                    Value::List(items) => {
                        for item in items.iter() {
                            let Value::Int(dim) = item else { return None };
                            shape.push(dim.clone());
                        }
                    }
                    _ => return None,
                },
            }
        }
        Some(Shape(shape))
    }

    /// The tensor type of an annotation whose names are bound, in silence.
    pub fn quiet_type(&self, ty: &Type) -> Option<TensorType> {
        let TypeKind::Named { name, dims } = &ty.kind else { return None };
        let real = self.frames.last().and_then(|frame| frame.real);
        let dtype = if name.text == "real" { real } else { self.dtype(&name.text) }?;
        Some(TensorType { dtype, shape: self.quiet_shape(dims.as_deref().unwrap_or_default())? })
    }

    /// The tensor type of an annotation; what is unbound or no tensor is reported.
    pub fn tensor_type(&mut self, ty: &Type) -> Option<TensorType> {
        let TypeKind::Named { name, dims } = &ty.kind else {
            if !matches!(ty.kind, TypeKind::Error) {
                self.report(Diagnostic::new(Code::E0310, ty.span, "this must be the type of a tensor"));
            }
            return None;
        };
        let dtype = match self.frames.last().and_then(|frame| frame.real) {
            Some(real) if name.text == "real" => real,
            None if name.text == "real" => self.options.float,
            _ => match self.dtype(&name.text) {
                Some(dtype) => dtype,
                None => {
                    self.report_unknown_type(name);
                    return None;
                }
            },
        };
        let mut shape = Vec::new();
        for dim in dims.as_deref().unwrap_or_default() {
            match dim {
                DimExpr::Expr(expression) => shape.push(self.declared_dim(expression)?),
                DimExpr::Rest(name) => shape.extend(self.rest_dims(name)?),
            }
        }
        Some(TensorType::new(dtype, shape))
    }

    fn declared_dim(&mut self, expression: &Expr) -> Option<Dim> {
        let value = self.eval(expression);
        let dim = self.dim(&value, expression.span)?;
        if dim.as_number().is_some_and(|number| number < 1) {
            let message = format!("a dim is at least 1, and this is {dim}");
            self.report(Diagnostic::new(Code::E0309, expression.span, message));
            return None;
        }
        Some(dim)
    }

    /// The dims that `...S` stands for.
    pub fn rest_dims(&mut self, name: &Ident) -> Option<Vec<Dim>> {
        let bound = self.frames.last().and_then(|frame| frame.bindings.get(&name.text)).map(|b| b.value.clone());
        match bound {
            Some(value @ Value::List(_)) => self.dims(&value, name.span),
            Some(Value::Poison) => None,
            Some(other) => self.mismatch(&other, "a list of ints after `...`", name.span),
            None => {
                let message = format!("`...{}` is not bound here", name.text);
                self.report(Diagnostic::new(Code::E0201, name.span, message));
                None
            }
        }
    }

    fn report_unknown_type(&mut self, name: &Ident) {
        let known = DType::ALL.iter().map(|dtype| dtype.name()).chain(["real", "int", "float", "bool", "str"]);
        let mut diagnostic = Diagnostic::new(Code::E0310, name.span, format!("there is no type `{}`", name.text));
        if let Some(meant) = crate::diagnostic::closest(&name.text, known) {
            diagnostic = diagnostic.help(format!("did you mean `{meant}`?"));
        }
        self.report(diagnostic);
    }

    /// An annotation with what is bound put in: `f32[N, 10]`.
    pub fn show_type(&self, ty: &Type) -> String {
        match &ty.kind {
            TypeKind::Named { name, dims } => {
                let real = self.frames.last().and_then(|frame| frame.real).filter(|_| name.text == "real");
                let dtype = real.map_or(name.text.clone(), |real| real.name().to_owned());
                match dims.as_deref() {
                    None | Some([]) => dtype,
                    Some(dims) => {
                        let shown: Vec<String> = dims.iter().map(|dim| self.show_dim(dim)).filter(|d| !d.is_empty()).collect();
                        if shown.is_empty() { dtype } else { format!("{dtype}[{}]", shown.join(", ")) }
                    }
                }
            }
            TypeKind::Tuple(items) => {
                let shown: Vec<String> = items.iter().map(|item| self.show_type(item)).collect();
                format!("({})", shown.join(", "))
            }
            TypeKind::List(_) | TypeKind::Function(..) | TypeKind::Error => self.program.text(ty.span).to_owned(),
        }
    }

    fn show_dim(&self, dim: &DimExpr) -> String {
        match dim {
            DimExpr::Expr(expression) => match self.quiet_dim(expression, None) {
                Ok(value) => value.to_string(),
                Err(_) => self.program.text(expression.span).to_owned(),
            },
            DimExpr::Rest(name) => match self.frames.last().and_then(|frame| frame.bindings.get(&name.text)) {
                Some(binding) => match &binding.value {
                    Value::List(items) => {
                        items.iter().map(|item| self.show_int(item)).collect::<Vec<_>>().join(", ")
                    }
                    _ => format!("...{}", name.text),
                },
                None => format!("...{}", name.text),
            },
        }
    }
}

/// What can be called fits a function type; whether it fits the uses is seen there.
fn fit_function(parameters: &[Type], result: &Type, value: &Value) -> Fit<Value> {
    match value {
        Value::Function(callable) => match &**callable {
            Callable::Opaque(known) if known.parameters.len() != parameters.len() => {
                Err(Misfit::new(format!("it takes {} arguments", known.parameters.len())))
            }
            Callable::Opaque(_) | Callable::Item(_) | Callable::Builtin(_) => Ok(value.clone()),
        },
        Value::Layer(_) => Ok(value.clone()),
        Value::Poison => Ok(Value::Function(Rc::new(Callable::Opaque(Rc::new(FunctionType {
            parameters: parameters.to_vec(),
            result: result.clone(),
        }))))),
        _ => Err(Misfit::new("")),
    }
}

/// Whether a dim may turn out to be anything: a division is open in it, or it is unknown.
fn is_open(dim: &Dim) -> bool {
    dim.as_number().is_none() && (is_divided(dim) || dim.to_string().contains('?'))
}

/// The name that an expression is.
fn bare_name(expression: &Expr) -> Option<&str> {
    match &expression.kind {
        ExprKind::Name(name) => Some(name),
        _ => None,
    }
}

/// Every name in a dim expression.
pub fn collect_names(expression: &Expr, names: &mut Vec<Ident>) {
    match &expression.kind {
        ExprKind::Name(name) => names.push(Ident { text: name.clone(), span: expression.span }),
        ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => collect_names(inner, names),
        ExprKind::Binary(_, a, b) => {
            collect_names(a, names);
            collect_names(b, names);
        }
        ExprKind::Index(base, _) => collect_names(base, names),
        _ => {}
    }
}

/// Every name that stands alone as a dim of a tensor type.
pub fn dim_names(ty: &Type, names: &mut Vec<Ident>) {
    match &ty.kind {
        TypeKind::Named { dims, .. } => {
            for dim in dims.iter().flatten() {
                match dim {
                    DimExpr::Expr(expr) => collect_names(expr, names),
                    DimExpr::Rest(_) => {}
                }
            }
        }
        TypeKind::Tuple(items) => items.iter().for_each(|item| dim_names(item, names)),
        TypeKind::List(item) => dim_names(item, names),
        TypeKind::Function(..) | TypeKind::Error => {}
    }
}

fn axes(count: usize) -> String {
    if count == 1 { "1 dim".to_owned() } else { format!("{count} dims") }
}
