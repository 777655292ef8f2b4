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

use crate::diagnostic::{Code, Diagnostic, FileId, Span};

/// Parses a file. The tree is whole whatever the text is; what is wrong with it is in the diagnostics.
pub fn parse(file: FileId, text: &str) -> (ast::Module, Vec<Diagnostic>) {
    on_large_stack(|| Ok(parse_here(file, text))).unwrap_or_else(|found| (ast::Module::default(), found))
}

/// Runs `work` on a thread whose stack holds [`parser::DEPTH`] levels in an unoptimised build, too.
///
/// # Errors
/// Those of `work`; that the system has no memory for such a stack.
pub(crate) fn on_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, Vec<Diagnostic>> + Send,
) -> Result<T, Vec<Diagnostic>> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        match worker.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => Err(vec![no_stack(&error)]),
        }
    })
}

/// The system refuses a stack. Without one, a text that nests deeply would end the process.
fn no_stack(error: &std::io::Error) -> Diagnostic {
    let message = format!("there is no memory for the stack of {} MiB that nesting may take: {error}", STACK >> 20);
    Diagnostic::new(Code::E0106, Span::default(), message).help("allow the process more memory (`ulimit -v`)")
}

/// Bytes of that stack; only what is used is ever backed by memory.
const STACK: usize = 256 << 20;

/// As [`parse`], on a stack that is large already.
pub(crate) fn parse_here(file: FileId, text: &str) -> (ast::Module, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let tokens = lexer::tokens(file, text, &mut diagnostics);
    let tokens = lines::statements(tokens, text, &mut diagnostics);
    let module = parser::module(file, text, &tokens, &mut diagnostics);
    crate::diagnostic::sort(&mut diagnostics);
    (module, diagnostics)
}
