//! Unification of the types in the source with the values that meet them.
//!
//! A value is given back as its type has it: a number becomes a tensor where one is wanted, one int a list of ints.
//! Names of dims bind in the innermost frame (see [`super::dims`]); `real` binds a float dtype there.

use super::Elaborator;
use super::dims::Equation;
use super::value::{Callable, Value};
use crate::diagnostic::{Code, Span};
use crate::syntax::ast::{DimExpr, Ident, Type, TypeKind};
use nnc_graph::{DType, Shape, TensorType};
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

pub(super) type Fit<T> = Result<T, Misfit>;

impl Misfit {
    pub(super) fn new(reason: impl Into<String>) -> Self {
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

/// Whether a type has no axes, as a scalar's.
pub fn has_no_axes(ty: &Type) -> bool {
    matches!(&ty.kind, TypeKind::Named { dims, .. } if dims.as_ref().is_none_or(Vec::is_empty))
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
        if let Some(small) = shape.iter().find(|dim| dim.as_number().is_some_and(|number| number < 1)) {
            let reason = format!("a dim would be {small}, and is at least 1");
            return Err(Misfit { code: Some(Code::E0309), ..Misfit::new(reason) });
        }
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
