//! Dtypes that only the interpreter computes in so far: a warning (W0004) where an item first names one.
//!
//! A value gets such a dtype by a type or by a conversion that is written down, so the words of the source tell.

use super::program::Program;
use crate::diagnostic::{Code, Diagnostic};
use crate::syntax::lexer::{TokenKind, tokens};

/// The dtypes.
const NARROW: [&str; 2] = ["f16", "bf16"];

/// Warnings about the user's own items.
pub(super) fn check(program: &Program) -> Vec<Diagnostic> {
    let first = |(_, item): (_, &crate::syntax::ast::Item)| {
        let text = program.sources.text(item.span.file);
        let tokens = tokens(item.span.file, text, &mut Vec::new());
        let named = tokens.into_iter().find(|token| {
            let inside = item.span.start <= token.span.start && token.span.end <= item.span.end;
            inside && token.kind == TokenKind::Word && NARROW.contains(&program.sources.slice(token.span))
        })?;
        let message = format!("native code does not compute in {} yet", program.sources.slice(named.span));
        Some(Diagnostic::new(Code::W0004, named.span, message).help("`--engine interp` runs it"))
    };
    program.user_items().filter_map(first).collect()
}
