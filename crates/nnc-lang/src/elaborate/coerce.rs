//! Literals that meet tensors, and compile-time values out of expressions.
//!
//! A number is a compile-time value until a tensor or an annotation asks for a dtype; then it becomes a constant of
//! that dtype: an int becomes a float where one is wanted, a float never becomes an int. The functions that take
//! something known out of a value report what is not (E0311, E0308); while a body is checked on its own, an unknown
//! value gives `None` in silence.

use super::Elaborator;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, Span};
use nnc_graph::{DType, Dim, Op, Tensor, TensorType, ValueId};

impl Elaborator<'_> {
    /// The value as a tensor. A number takes `dtype`, or else i32 or the program's float; `None` after an error.
    pub fn tensor(&mut self, value: &Value, dtype: Option<DType>, span: Span) -> Option<ValueId> {
        match value {
            Value::Tensor(tensor) => Some(*tensor),
            Value::Int(dim) => self.int_tensor(dim, dtype.unwrap_or(DType::I32), span),
            Value::Float(number) => self.float_tensor(*number, dtype.unwrap_or(self.options.float), span),
            Value::Bool(truth) => self.bool_tensor(*truth, dtype, span),
            Value::List(items) => self.list_tensor(items, dtype, span),
            Value::Poison => None,
            Value::Str(_) | Value::Tuple(_) | Value::Function(_) | Value::Layer(_) => {
                let found = self.describe(value);
                self.report(Diagnostic::new(
                    Code::E0311,
                    span,
                    format!("expected a tensor or a number, found {found}"),
                ));
                None
            }
        }
    }

    fn int_tensor(&mut self, dim: &Dim, dtype: DType, span: Span) -> Option<ValueId> {
        if dtype == DType::Bool {
            self.report(Diagnostic::new(Code::E0311, span, "expected a bool, found an int").help("write `x != 0`"));
            return None;
        }
        match dim.as_number() {
            Some(number) => self.constant(dtype, number as f64, number),
            None => self.graph.add1(Op::Extent { dim: dim.clone(), dtype }, &[]).ok(),
        }
    }

    fn constant(&mut self, dtype: DType, value: f64, exact: i64) -> Option<ValueId> {
        let tensor = match dtype {
            DType::I64 => Tensor::scalar_i64(exact),
            DType::F32 | DType::F16 | DType::Bf16 | DType::F64 => Tensor::scalar(dtype, value),
            DType::I8 | DType::U8 | DType::I16 | DType::I32 | DType::Bool => Tensor::scalar(dtype, value),
        };
        self.graph.add1(Op::Constant(tensor), &[]).ok()
    }

    fn float_tensor(&mut self, number: Option<f64>, dtype: DType, span: Span) -> Option<ValueId> {
        if !dtype.is_float() {
            let shown = number.map_or("a float".to_owned(), |number| format!("the float {number}"));
            let message = format!("{shown} does not become {dtype} by itself");
            self.report(Diagnostic::new(Code::E0304, span, message).help(format!("write `{dtype}(...)`")));
            return None;
        }
        match number {
            Some(number) => self.graph.add1(Op::Constant(Tensor::scalar(dtype, number)), &[]).ok(),
            None => match self.unknown_tensor(TensorType::scalar(dtype)) {
                Value::Tensor(value) => Some(value),
                _ => None,
            },
        }
    }

    fn bool_tensor(&mut self, truth: Option<bool>, dtype: Option<DType>, span: Span) -> Option<ValueId> {
        if dtype.is_some_and(|dtype| dtype != DType::Bool) {
            let wanted = dtype.unwrap_or(DType::Bool);
            let message = format!("expected {wanted}, found a bool");
            self.report(Diagnostic::new(Code::E0304, span, message).help(format!("write `{wanted}(...)`")));
            return None;
        }
        match truth {
            Some(truth) => {
                self.graph.add1(Op::Constant(Tensor::scalar(DType::Bool, f64::from(u8::from(truth)))), &[]).ok()
            }
            None => match self.unknown_tensor(TensorType::scalar(DType::Bool)) {
                Value::Tensor(value) => Some(value),
                _ => None,
            },
        }
    }

    /// A list of numbers as a constant vector.
    fn list_tensor(&mut self, items: &[Value], dtype: Option<DType>, span: Span) -> Option<ValueId> {
        if items.is_empty() {
            self.report(Diagnostic::new(Code::E0311, span, "an empty list is no tensor: a dim is at least 1"));
            return None;
        }
        let is_float = items.iter().any(|item| matches!(item, Value::Float(_)));
        let dtype = dtype.unwrap_or(if is_float { self.options.float } else { DType::I32 });
        if let Some(values) = known_numbers(items).filter(|_| dtype.is_float() || !is_float) {
            return self.graph.add1(Op::Constant(Tensor::from_f64(dtype, &[values.len()], &values)), &[]).ok();
        }
        let mut parts = Vec::with_capacity(items.len());
        for item in items {
            let scalar = self.tensor(item, Some(dtype), span)?;
            if self.ty(scalar).shape.rank() != 0 {
                self.report(Diagnostic::new(Code::E0311, span, "only a list of scalars becomes a tensor by itself"));
                return None;
            }
            parts.push(self.graph.add1(Op::Reshape(nnc_graph::Shape::of(&[1])), &[scalar]).ok()?);
        }
        self.graph.add1(Op::Concat { axis: 0 }, &parts).ok()
    }

    /// An int that is a number now. Symbolic ints are reported, or silent while a body is checked on its own.
    pub fn known_int(&mut self, value: &Value, span: Span) -> Option<i64> {
        let dim = self.dim(value, span)?;
        if dim.as_number().is_none() && !self.generic {
            self.report(
                Diagnostic::new(
                    Code::E0308,
                    span,
                    format!("this must be a known number, and `{dim}` is not bound yet"),
                )
                .help("bind it, as with `--bind N=1`"),
            );
        }
        dim.as_number()
    }

    /// An int, which may be symbolic.
    pub fn dim(&mut self, value: &Value, span: Span) -> Option<Dim> {
        match value {
            Value::Int(dim) => Some(dim.clone()),
            other => self.mismatch(other, "an int", span),
        }
    }

    /// A float, or an int taken as one. While a body is checked on its own it may be unknown: `Some(None)`.
    pub fn float(&mut self, value: &Value, span: Span) -> Option<Option<f64>> {
        match value {
            Value::Float(number) => Some(*number),
            Value::Int(dim) => Some(dim.as_number().map(|number| number as f64)),
            other => self.mismatch(other, "a float", span),
        }
    }

    /// A truth value, `Some(None)` when it is unknown in a body that is checked on its own.
    pub fn truth(&mut self, value: &Value, span: Span) -> Option<Option<bool>> {
        match value {
            Value::Bool(truth) => Some(*truth),
            other => self.mismatch(other, "a bool known at compile time", span),
        }
    }

    /// A string; `None` also when it is unknown in a body that is checked on its own.
    pub fn text(&mut self, value: &Value, span: Span) -> Option<std::rc::Rc<str>> {
        match value {
            Value::Str(text) => text.clone(),
            other => self.mismatch(other, "a string", span),
        }
    }

    /// A list of ints, or one int as a list of one.
    pub fn dims(&mut self, value: &Value, span: Span) -> Option<Vec<Dim>> {
        match value {
            Value::Int(dim) => Some(vec![dim.clone()]),
            Value::List(items) => items.iter().map(|item| self.dim(item, span)).collect(),
            other => self.mismatch(other, "a list of ints", span),
        }
    }

    /// Reports that `value` is not what was wanted, unless it is poison.
    pub fn mismatch<T>(&mut self, value: &Value, wanted: &str, span: Span) -> Option<T> {
        if !value.is_poison() {
            let found = self.describe(value);
            let mut diagnostic = Diagnostic::new(Code::E0311, span, format!("expected {wanted}, found {found}"));
            if let Value::Tensor(_) = value {
                diagnostic = diagnostic.help("a tensor is only known when the program runs");
            }
            self.report(diagnostic);
        }
        None
    }

    /// A value in words: `f32[N, 10]`, `the int 3`.
    pub fn describe(&self, value: &Value) -> String {
        match value {
            Value::Tensor(tensor) => self.ty(*tensor).to_string(),
            Value::Int(dim) => format!("the int {dim}"),
            Value::Float(Some(number)) => format!("the float {}", shown(*number)),
            Value::Str(Some(text)) => format!("the string {text:?}"),
            Value::Bool(Some(truth)) => format!("the bool {truth}"),
            Value::Tuple(items) => self.describe_tuple(items),
            Value::Float(None) | Value::Str(None) | Value::Bool(None) => value.kind().to_owned(),
            Value::List(_) | Value::Function(_) | Value::Layer(_) | Value::Poison => value.kind().to_owned(),
        }
    }

    /// A tuple in words: its parts, as far as a line holds them.
    pub fn describe_tuple(&self, items: &[Value]) -> String {
        const SHOWN: usize = 4;
        let parts: Vec<String> = items.iter().take(SHOWN).map(|item| self.describe(item)).collect();
        let parts = parts.join(", ");
        match items.len() {
            count if count > SHOWN => format!("({parts}, ...) of {count} parts"),
            _ => format!("({parts})"),
        }
    }
}

/// A float as it is written: with an exponent, where there would be many zeros.
fn shown(number: f64) -> String {
    let is_long = number != 0.0 && number.is_finite() && !(1e-5..1e16).contains(&number.abs());
    if is_long { format!("{number:e}") } else { number.to_string() }
}

/// The numbers of a list, when all are known.
fn known_numbers(items: &[Value]) -> Option<Vec<f64>> {
    let number = |item: &Value| match item {
        Value::Int(dim) => dim.as_number().map(|number| number as f64),
        Value::Float(number) => *number,
        Value::Bool(_) | Value::Str(_) | Value::Tensor(_) | Value::List(_) | Value::Tuple(_) => None,
        Value::Function(_) | Value::Layer(_) | Value::Poison => None,
    };
    items.iter().map(number).collect()
}
