//! Results: what a body gives against what its signature promises.

use super::types::Misfit;
use super::value::Value;
use super::{Elaborator, UseFact};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{DimExpr, Function, Type, TypeKind};
use nnc_graph::{Dim, TensorType, ValueId};

impl Elaborator<'_> {
    /// Holds a result to the declared type (E0302), in the frame of the callee; dims that only the result has bind
    /// here.
    pub(super) fn check_result(&mut self, function: &Function, value: Value, span: Span) -> Value {
        let Some(ty) = &function.result else { return value };
        match self.fit_whole(ty, &value, span) {
            Ok(value) => value,
            Err(misfit) => {
                self.report_result(function, ty, &value, misfit, span);
                Value::Poison
            }
        }
    }

    /// Fits a value to an annotation of a binding.
    pub fn fit_annotation(&mut self, ty: &Type, value: &Value, span: Span) -> Value {
        match self.fit_whole(ty, value, span) {
            Ok(value) => value,
            Err(misfit) => {
                let (found, wanted) = (self.describe(value), self.show_type(ty));
                let code = misfit.code.unwrap_or(Code::E0302);
                let diagnostic =
                    Diagnostic::new(code, span, format!("this is {found}, and the annotation says {wanted}"));
                self.report_with(diagnostic, misfit, span);
                Value::Poison
            }
        }
    }

    fn fit_whole(&mut self, ty: &Type, value: &Value, span: Span) -> Result<Value, Misfit> {
        let mut later = Vec::new();
        let value = self.fit(ty, value, span, &mut later)?;
        self.solve(later).map_err(|(misfit, _)| misfit)?;
        Ok(value)
    }

    /// Binds what the context says of a result: the annotation of a `param` gives `zeros()` its shape.
    pub(super) fn bind_expected(&mut self, function: &Function, expected: Option<&TensorType>, span: Span) {
        let (Some(ty), Some(expected)) = (&function.result, expected) else { return };
        let TypeKind::Named { name, dims } = &ty.kind else { return };
        let Some(frame) = self.frames.last_mut() else { return };
        if name.text == "real" && frame.real.is_none() && expected.dtype.is_float() {
            frame.real = Some(expected.dtype);
        }
        if let [DimExpr::Rest(rest)] = dims.as_deref().unwrap_or_default()
            && !frame.bindings.contains_key(&rest.text)
        {
            let dims = expected.shape.iter().cloned().map(Value::Int).collect();
            frame.bind(&rest.text, Value::list(dims), span);
        }
    }

    fn report_result(&mut self, function: &Function, ty: &Type, value: &Value, misfit: Misfit, span: Span) {
        let (found, promised) = (self.describe(value), self.show_type(ty));
        let name = &function.name.text;
        let mut diagnostic =
            Diagnostic::new(Code::E0302, span, format!("this returns {found}, but `{name}` promises {promised}"));
        let mut misfit = misfit;
        if let Value::Tensor(tensor) = value {
            diagnostic = self.explain_result(diagnostic, *tensor, ty, span);
            if diagnostic.help.is_some() {
                misfit.reason.clear();
            }
        }
        if diagnostic.secondary.is_empty() {
            diagnostic = diagnostic.with(ty.span, "promised here");
        }
        self.report_with(diagnostic, misfit, span);
    }

    /// What led to the result: the value that went into the last call, and `flatten` where that would help.
    fn explain_result(&self, diagnostic: Diagnostic, result: ValueId, ty: &Type, span: Span) -> Diagnostic {
        let Some(UseFact { callee, span: call, input: Some(input) }) = self.uses.get(&result) else {
            return self.with_birth(diagnostic, result, span);
        };
        let diagnostic = self.with_birth(diagnostic, *input, span);
        let TypeKind::Named { dims, .. } = &ty.kind else { return diagnostic };
        let (from, to) = (self.ty(*input), self.ty(result));
        let promised = dims.as_deref().unwrap_or_default().len();
        let keeps_leading = from.shape.rank() == to.shape.rank()
            && from.shape.rank() > 1
            && from.shape[..from.shape.rank() - 1] == to.shape[..to.shape.rank() - 1];
        if !keeps_leading || promised != 2 || to.shape.rank() <= 2 {
            return diagnostic;
        }
        let rest = from.shape[1..].iter().cloned().fold(Dim::from(1i64), |product, dim| product * dim);
        let flat = TensorType::new(from.dtype, vec![from.shape[0].clone(), rest]);
        let text = self.program.text(*call);
        diagnostic
            .label(format!("`{callee}` works on the last dim only"))
            .help(format!("put `flatten` before `{text}`: {from} becomes {flat}"))
    }
}
