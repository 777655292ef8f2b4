//! The `.nn` front end: text to a checked tensor graph, with diagnostics and a formatter.
//!
//! ```text
//! text ─ syntax ─→ tree ─ elaborate ─→ Graph          what is wrong ─→ diagnostic
//! ```
//! | module | what it does |
//! | --- | --- |
//! | [`syntax`] | tokens, tree, parser, formatter |
//! | [`elaborate`] | names, types, shapes: the program run at compile time, and the graphs it makes |
//! | [`library`] | the standard library, in `.nn` |
//! | [`diagnostic`] | messages to the user: codes, spans, help |
#![forbid(unsafe_code)]

pub mod diagnostic;
pub mod elaborate;
pub mod library;
pub mod syntax;
