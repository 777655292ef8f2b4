//! Diagnostics of an elaboration: where an error is shown, and what was said before.
//!
//! An error inside the standard library is shown at the user's call, with the library's line as a second span; one
//! inside a body of the user's own names the use that led to it. The same code at the same place is reported once,
//! whether it was found while a body was checked on its own or at a use.

use super::Elaborator;
use crate::diagnostic::{Code, Diagnostic, Severity, Span};
use nnc_graph::{Dim, Op, TypeError, ValueId};
use std::collections::BTreeSet;

/// What was reported.
#[derive(Clone, Debug, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    seen: BTreeSet<(Code, Span)>,
}

impl Report {
    /// Adds one, unless its code was reported at its place.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        if self.seen.insert((diagnostic.code, diagnostic.primary.span)) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Everything reported, in order.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Everything reported, in order.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    /// Whether an error is among them.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity() == Severity::Error)
    }
}

impl Elaborator<'_> {
    /// Reports a diagnostic, at the place in the user's own source that it belongs to.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        if self.is_undecided(&diagnostic) {
            self.undecided = true;
            return;
        }
        let placed = self.placed(diagnostic);
        self.report.add(placed);
    }

    /// Whether shapes that do not go together may well do so once dims are known: a dim in the message has a division
    /// that was not carried out, or is unknown. Dims stand in it as they are, the source's own words in backticks.
    fn is_undecided(&self, diagnostic: &Diagnostic) -> bool {
        let about_shapes = matches!(diagnostic.code, Code::E0301 | Code::E0305 | Code::E0307 | Code::E0309);
        let mut dims = diagnostic.message.split('`').step_by(2);
        let has_open = dims.any(|text| [" / ", " % ", "?"].iter().any(|open| text.contains(open)));
        about_shapes && (self.compared_branches > 0 || has_open)
    }

    fn placed(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        let inside = diagnostic.primary.span;
        let Some(user) = self.user_frame() else { return diagnostic };
        if self.program.is_library(inside) {
            let label = std::mem::take(&mut diagnostic.primary.text);
            let name = &self.frames[user].name;
            diagnostic.primary.span = self.frames[user].call_site;
            let text = if label.is_empty() { format!("in `{name}` of the standard library") } else { label };
            diagnostic.secondary.retain(|label| !self.program.is_library(label.span));
            return diagnostic.with(inside, text);
        }
        let frame = &self.frames[self.frames.len() - 1];
        let declared = frame.declared;
        let in_body = inside.file == declared.file && inside.start >= declared.start && inside.end <= declared.end;
        let is_said = diagnostic.secondary.iter().any(|label| label.span == frame.call_site);
        let is_used =
            in_body && !is_said && frame.call_site != Span::default() && !self.program.is_library(frame.call_site);
        let label = format!("in this use of `{}`", frame.name);
        if is_used { diagnostic.with(frame.call_site, label) } else { diagnostic }
    }

    /// The innermost frame that was called from the user's own source.
    fn user_frame(&self) -> Option<usize> {
        (0..self.frames.len()).rev().find(|&at| {
            let site = self.frames[at].call_site;
            site != Span::default() && !self.program.is_library(site)
        })
    }

    /// The innermost place in the user's own source that is being elaborated.
    pub fn user_span(&self) -> Span {
        self.user_frame().map_or_else(
            || self.frames.last().map(|frame| frame.declared).unwrap_or_default(),
            |at| self.frames[at].call_site,
        )
    }

    /// Reports a node that could not be added.
    pub fn report_type_error(&mut self, error: &TypeError, operands: &[ValueId], span: Span) {
        let code = if error.message.contains("does not fit into") || error.message.contains("below 1") {
            Code::E0309
        } else {
            Code::E0301
        };
        let mut diagnostic = Diagnostic::new(code, span, format!("`{}`: {}", error.op, error.message));
        for &operand in operands {
            diagnostic = self.with_birth(diagnostic, operand, span);
        }
        self.report(diagnostic);
    }

    /// Says where a value comes from, when that is in the user's source and not what is pointed at already.
    pub fn with_birth(&self, diagnostic: Diagnostic, value: ValueId, span: Span) -> Diagnostic {
        let Some(&place) = self.born.get(&value) else { return diagnostic };
        let known = place == span || diagnostic.secondary.iter().any(|label| label.span == place);
        if known || place == Span::default() {
            return diagnostic;
        }
        let ty = self.ty(value);
        let text = match self.named.get(&value) {
            Some(name) => format!("`{name}` is {ty} from here"),
            None => format!("{ty} from here"),
        };
        diagnostic.with(place, text)
    }

    /// Says where a dim of a value comes from, when that is not where the value does.
    pub fn with_dim_birth(&self, diagnostic: Diagnostic, value: ValueId, dim: &Dim) -> Diagnostic {
        let origin = self.dim_origin(value, dim);
        let Some(&place) = self.born.get(&origin) else { return diagnostic };
        let known = diagnostic.primary.span == place || diagnostic.secondary.iter().any(|label| label.span == place);
        if origin == value || known || place == Span::default() {
            return diagnostic;
        }
        let text = match self.named.get(&origin).filter(|_| self.graph.definition(origin).op.is_leaf()) {
            Some(name) => format!("{dim} is a dim of `{name}`"),
            None => format!("{dim} comes from here"),
        };
        diagnostic.with(place, text)
    }

    /// The earliest value that has the dim, back along the calls and operators of the user's source.
    fn dim_origin(&self, value: ValueId, dim: &Dim) -> ValueId {
        let has_dim = |value: &ValueId| self.ty(*value).shape.contains(dim);
        let mut origin = value;
        // Inputs are older than results, so this ends.
        loop {
            let node = self.graph.definition(origin);
            let before = match self.uses.get(&origin) {
                Some(fact) => fact.input,
                None if node.op.is_elementwise() => node.operands.iter().copied().find(has_dim),
                None => None,
            };
            match before.filter(|before| *before < origin && has_dim(before)) {
                Some(before) => origin = before,
                None => return origin,
            }
        }
    }

    /// Whether a misfit may vanish once dims are known: a division that was not carried out is involved.
    pub(super) fn undecidable(&self, op: &Op, operands: &[ValueId]) -> bool {
        let in_op = format!("{op:?}").contains("Quotient") || format!("{op:?}").contains("Remainder");
        in_op || operands.iter().any(|&operand| self.ty(operand).shape.iter().any(is_divided))
    }
}

/// Whether a dim has a division or remainder in it that could not be carried out.
pub fn is_divided(dim: &Dim) -> bool {
    dim.as_number().is_none() && dim.to_string().contains(['/', '%'])
}
