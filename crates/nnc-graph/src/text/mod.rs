//! The text form of a graph: [`print()`] and [`parse()`], with `print(parse(s)) == s` for every `s` that was printed.
//!
//! ```text
//! graph "mlp" {
//!   %0 = input "x" : f32[64, 784]
//!   %1 = param "dense_1.w" : f32[784, 10]
//!   %2 "logits" = dot[batch=0, a=[1], b=[0]](%0, %1) : f32[64, 10] // mlp.nn:7 dense dense_1
//!   %3 = constant -0.5 : f32
//!   output "logits" = %2
//!   update "dense_1.w" = %9 over %1
//! }
//! ```
//!
//! One line is one node: its results, each with the user's name for it if there is one; the op with its attributes,
//! unless its types say them; its operands; the types of its results; after `//` its origin as place, function and
//! path. Ids print as the graph names them. A constant of at most 16 elements is a list of numbers in row-major order
//! (no brackets around a scalar), a larger one, or one with a NaN, its bytes in hexadecimal: either way every bit
//! comes back. Blank lines, and lines that are only a comment, are skipped.
//!
//! The body of a `scan` stands before it, as a graph within the graph.
//!
//! [`parse()`] checks what it read with [`mod@crate::verify`], and gives an error with its line instead of panicking.

mod cursor;
mod ops;
mod parse;
mod print;

use crate::{Graph, Op};
use std::fmt;

/// Why a text is not a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Line, from 1; 0 when the graph as a whole is wrong.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ParseError {}

/// The text of a graph.
pub fn print(graph: &Graph) -> String {
    print::graph(graph)
}

/// The text of an op with its attributes, without what it is applied to; the body of a `scan` is not in it.
pub fn print_op(op: &Op) -> String {
    print::op(op)
}

/// The graph that a text describes.
///
/// # Errors
/// The first line that does not parse, or the first rule of [`mod@crate::verify`] that is broken.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    parse::graph(text)
}

#[cfg(test)]
mod tests;
