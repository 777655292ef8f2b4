//! What a type in the source stands for: as a tensor type, and in the words of a message.

use super::Elaborator;
use super::dims::rest_name;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic};
use crate::syntax::ast::{DimExpr, Expr, Function, Ident, Type, TypeKind};
use nnc_graph::{DType, Dim, Shape, TensorType};

impl Elaborator<'_> {
    pub(super) fn quiet_shape(&self, dims: &[DimExpr]) -> Option<Shape> {
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
                let diagnostic = self.unbound_rest(name);
                self.report(diagnostic);
                None
            }
        }
    }

    /// A `...S` that nothing says. Where it is the result's, as that of `fn zeros() -> f32[...S]`, the context should.
    fn unbound_rest(&self, name: &Ident) -> Diagnostic {
        let function = self.frames.last().and_then(|frame| self.program.function(frame.item?));
        let is_result = |function: &&Function| {
            function.result.as_ref().and_then(rest_name).is_some_and(|rest| rest.text == name.text)
        };
        let Some(function) = function.filter(is_result) else {
            return Diagnostic::new(Code::E0201, name.span, format!("`...{}` is not bound here", name.text));
        };
        let function = &function.name.text;
        let message = format!("`{function}` takes its shape from what it is for, and nothing says one here");
        let help = format!(
            "`param w: f32[4, 3] = {function}(...)` says it, as any type before a `=` does; values of a shape are drawn \
             with `normal([4, 3])`"
        );
        Diagnostic::new(Code::E0201, name.span, message).help(help)
    }

    pub(super) fn report_unknown_type(&mut self, name: &Ident) {
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
                        let shown: Vec<String> =
                            dims.iter().map(|dim| self.show_dim(dim)).filter(|d| !d.is_empty()).collect();
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
                    Value::List(items) => items.iter().map(|item| self.show_int(item)).collect::<Vec<_>>().join(", "),
                    _ => format!("...{}", name.text),
                },
                None => format!("...{}", name.text),
            },
        }
    }
}
