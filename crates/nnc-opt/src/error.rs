//! What can go wrong after the front end: only bugs of the compiler.

use std::fmt;

/// A pass gave a graph that breaks the rules, or was given one. The message says which, for a report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptError {
    /// The pass after which the graph was found broken.
    pub pass: String,
    /// Every rule that is broken.
    pub problems: Vec<String>,
}

impl OptError {
    /// An error of one problem.
    pub fn new(pass: &str, problem: impl Into<String>) -> Self {
        Self { pass: pass.to_owned(), problems: vec![problem.into()] }
    }
}

impl fmt::Display for OptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compiler bug: the graph is not valid after `{}`: {}", self.pass, self.problems.join("; "))
    }
}

impl std::error::Error for OptError {}
