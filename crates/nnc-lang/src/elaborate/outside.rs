//! Values from outside, `--set NAME=VALUE`: what a text is read as, by the kind that it takes the place of.
//!
//! A recipe takes them for its settings and for the parameters of its answers; a model by itself for its own
//! parameters.

use super::Elaborator;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::syntax::ast::{Ident, Param, Type, TypeKind};
use nnc_graph::{DType, Tensor};
use std::collections::BTreeSet;

impl Elaborator<'_> {
    /// The value that is given from outside, at `place`, of the kind that is written.
    pub(super) fn overridden(&mut self, name: &Ident, written: &Value, text: &str, place: Span) -> Value {
        let whole = || text.parse::<i64>().ok();
        let float = || text.parse::<f64>().ok().filter(|number| number.is_finite());
        let (value, kind) = match written {
            Value::Int(_) => (whole().map(Value::int), "a whole number"),
            Value::Float(_) => (float().map(Value::float), "a number"),
            Value::Bool(_) => (text.parse().ok().map(|truth| Value::Bool(Some(truth))), "`true` or `false`"),
            Value::Str(_) => (Some(Value::str(text)), "a string"),
            Value::Tensor(_) | Value::List(_) | Value::Tuple(_) | Value::Function(_) => (None, "nothing from outside"),
            Value::Layer(_) | Value::Poison => (None, "nothing from outside"),
        };
        value.unwrap_or_else(|| {
            let message = format!("`{}` is set to `{text}`, but takes {kind}", name.text);
            let diagnostic = Diagnostic::new(Code::E0601, place, message);
            self.report(diagnostic.with(name.span, "which is bound here"));
            Value::Poison
        })
    }

    /// What `--set` gives for a parameter that is known at compile time, and where that stands.
    pub(super) fn setting_of(&mut self, param: &Param, text: &str) -> (Value, Span) {
        let name = &param.name;
        let place = self.program.given.setting(&name.text, text).value;
        let value = match sample(&param.ty) {
            Some(sample) => self.overridden(name, &sample, text, place),
            None => {
                let message = format!("`{}` is a list or a function, which cannot be set from outside", name.text);
                self.report(Diagnostic::new(Code::E0601, place, message));
                Value::Poison
            }
        };
        (value, place)
    }

    /// What `--set` gives for a scalar of the running program; `None` after an error.
    pub(super) fn scalar_from_outside(&mut self, name: &Ident, dtype: DType, text: &str) -> Option<Tensor> {
        let place = self.program.given.setting(&name.text, text).value;
        let value = self.overridden(name, &sample_of(dtype), text, place);
        self.scalar_from(name, dtype, &value, place)
    }

    /// A number known at compile time as a scalar of the running program; `None` after an error.
    pub(super) fn scalar_from(&mut self, name: &Ident, dtype: DType, value: &Value, place: Span) -> Option<Tensor> {
        let scalar = scalar_of(dtype, value);
        if scalar.is_none() && !value.is_poison() {
            let message = format!("`{}` is {dtype}, and this is {}", name.text, self.describe(value));
            let diagnostic = Diagnostic::new(Code::E0308, place, message);
            self.report(match is_number(value) {
                true => diagnostic,
                false => diagnostic.help("write a number that is known at compile time: no dim, and no other scalar"),
            });
        }
        scalar
    }
}

/// Says of a name that is set that there is none such, as `no recipe has a`; there are these.
pub(super) fn unknown_setting(none: &str, key: &str, settable: &BTreeSet<String>, span: Span) -> Diagnostic {
    let diagnostic = Diagnostic::new(Code::E0601, span, format!("{none} setting `{key}` to be set"));
    match closest(key, settable.iter().map(String::as_str)) {
        Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
        None if settable.is_empty() => diagnostic,
        None => diagnostic.note(format!("there are {}", settable.iter().cloned().collect::<Vec<_>>().join(", "))),
    }
}

/// A value known at compile time in words; `None` of what `--set` cannot say.
pub(super) fn shown_setting(value: &Value) -> Option<String> {
    match value {
        Value::Int(dim) => dim.as_number().map(|number| number.to_string()),
        Value::Float(number) => number.map(|number| number.to_string()),
        Value::Bool(truth) => truth.map(|truth| truth.to_string()),
        Value::Str(text) => text.as_ref().map(|text| text.to_string()),
        Value::Tensor(_) | Value::List(_) | Value::Tuple(_) => None,
        Value::Function(_) | Value::Layer(_) | Value::Poison => None,
    }
}

/// A value of a compile-time type, to tell what a text from outside is read as.
fn sample(ty: &Type) -> Option<Value> {
    let TypeKind::Named { name, .. } = &ty.kind else { return None };
    match name.text.as_str() {
        "int" => Some(Value::int(0)),
        "float" => Some(Value::float(0.0)),
        "bool" => Some(Value::Bool(Some(false))),
        "str" => Some(Value::str("")),
        _ => None,
    }
}

/// The same of a scalar of the running program.
fn sample_of(dtype: DType) -> Value {
    match dtype {
        DType::Bool => Value::Bool(Some(false)),
        dtype if dtype.is_float() => Value::float(0.0),
        _ => Value::int(0),
    }
}

/// Whether a value is a number that is known now.
fn is_number(value: &Value) -> bool {
    match value {
        Value::Int(dim) => dim.as_number().is_some(),
        Value::Float(number) => number.is_some(),
        Value::Bool(truth) => truth.is_some(),
        Value::Str(_) | Value::Tensor(_) | Value::List(_) | Value::Tuple(_) => false,
        Value::Function(_) | Value::Layer(_) | Value::Poison => false,
    }
}

/// A number as a scalar, if the dtype holds it.
fn scalar_of(dtype: DType, value: &Value) -> Option<Tensor> {
    match value {
        Value::Bool(truth) if dtype == DType::Bool => {
            Some(Tensor::from_f64(dtype, &[], &[f64::from(u8::from((*truth)?))]))
        }
        Value::Float(number) if dtype.is_float() => {
            let rounded = Tensor::from_f64(dtype, &[], &[(*number)?]);
            rounded.to_f64()[0].is_finite().then_some(rounded)
        }
        Value::Int(number) => {
            let number = number.as_number()?;
            match dtype {
                DType::Bool => None,
                DType::I64 => Some(Tensor::scalar_i64(number)),
                DType::I8
                | DType::U8
                | DType::I16
                | DType::I32
                | DType::F32
                | DType::F64
                | DType::F16
                | DType::Bf16 => {
                    let fits = dtype.whole_numbers().contains(&number);
                    fits.then(|| Tensor::from_f64(dtype, &[], &[number as f64]))
                }
            }
        }
        _ => None,
    }
}
