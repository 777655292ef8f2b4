//! The `.nn` front end: text to a checked tensor graph, with diagnostics and a formatter.
//!
//! ```text
//! text ─ syntax ─→ tree ─ elaborate ─→ Graph          what is wrong ─→ diagnostic
//! ```
//! | module | what it does |
//! | --- | --- |
//! | [`syntax`] | tokens, tree, parser, formatter |
//! | [`diagnostic`] | messages to the user: codes, spans, help |
#![forbid(unsafe_code)]

pub mod diagnostic;
pub mod syntax;
