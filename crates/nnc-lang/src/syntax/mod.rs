//! Text to tree, and tree to formatted text.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`lexer`] | text to tokens, by `logos`; comments are kept aside |
//! | [`lines`] | where statements end: line ends that count, brackets that pair |
//! | [`ast`] | the tree |
//! | [`parser`] | tokens to tree; never fails, reports |
//! | [`mod@format`] | canonical spaces and indentation |
//!
//! **Invariant**: no text makes this panic, hang or overflow the stack.

pub mod ast;
pub mod format;
pub mod lexer;
pub mod lines;
pub mod parser;

use crate::diagnostic::{Diagnostic, FileId};

/// Parses a file. The tree is whole whatever the text is; what is wrong with it is in the diagnostics.
pub fn parse(file: FileId, text: &str) -> (ast::Module, Vec<Diagnostic>) {
    on_large_stack(|| parse_here(file, text))
}

/// Runs `work` on a thread whose stack holds [`parser::DEPTH`] levels in an unoptimised build, too.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        match worker.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => panic!("no thread for the front end: {error}"),
        }
    })
}

/// Bytes of that stack; only what is used is ever backed by memory.
const STACK: usize = 256 << 20;

fn parse_here(file: FileId, text: &str) -> (ast::Module, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let tokens = lexer::tokens(file, text, &mut diagnostics);
    let tokens = lines::statements(tokens, text, &mut diagnostics);
    let module = parser::module(file, text, &tokens, &mut diagnostics);
    crate::diagnostic::sort(&mut diagnostics);
    (module, diagnostics)
}
