//! How much an elaboration may do: what keeps a program that is small as text from taking all time or memory.
//!
//! Work is counted in expressions, and what is made of it in elements of lists, tuples and strings, with those that lie
//! in them, and in nodes of the graph. Whatever is used up is reported once (E0406) and ends the elaboration.

use super::Elaborator;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, Span};

/// How many frames may be open at once.
pub(super) const CALL_DEPTH: usize = 100;
/// How deep expressions and calls may nest in all: what keeps the evaluator's own stack bounded.
const EVALUATION_DEPTH: usize = 2_000;
/// How many iterations all loops of one body may unroll into.
pub(super) const UNROLLED: usize = 10_000;
/// How many expressions are evaluated in one elaboration before it is given up.
const WORK: usize = 1_000_000;
/// How many elements all lists, tuples and strings of one elaboration may have.
const ELEMENTS: usize = 4_000_000;
/// How many nodes a graph may have, before and after derivatives are made of `grad`.
pub const NODES: usize = 1_000_000;

/// What was used up so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent {
    work: usize,
    elements: usize,
}

impl Elaborator<'_> {
    /// Counts work and depth; false when either is used up, which is reported once.
    pub(super) fn may_go_on(&mut self, span: Span) -> bool {
        if self.spent.work >= WORK {
            return false;
        }
        self.spent.work += 1;
        let message = if self.spent.work == WORK {
            "this program takes too much work to elaborate: too many calls or iterations".to_owned()
        } else if self.depth >= EVALUATION_DEPTH {
            "expressions and calls nest too deeply here".to_owned()
        } else if self.graph.node_count() > NODES {
            format!("this program is too large: it has more than {NODES} operations")
        } else {
            return true;
        };
        self.give_up(span, message);
        false
    }

    /// Counts the elements of a list, a tuple or a string that was made; poison when there are too many in all.
    pub(super) fn counted(&mut self, value: Value, span: Span) -> Value {
        self.spent.elements += elements(&value, ELEMENTS.saturating_sub(self.spent.elements) + 1);
        if self.spent.elements <= ELEMENTS {
            return value;
        }
        if self.spent.work < WORK {
            self.give_up(span, format!("the lists and strings of this program have more than {ELEMENTS} elements"));
        }
        Value::Poison
    }

    fn give_up(&mut self, span: Span, message: String) {
        self.spent.work = WORK;
        self.report(Diagnostic::new(Code::E0406, span, message));
    }
}

/// How many elements a value has, with those that lie in them; at most about `most` are counted, since a list may hold
/// another one many times.
fn elements(value: &Value, most: usize) -> usize {
    match value {
        Value::List(items) | Value::Tuple(items) => {
            let mut found = items.len();
            for item in items.iter() {
                if found >= most {
                    break;
                }
                found += elements(item, most - found);
            }
            found
        }
        Value::Str(text) => text.as_ref().map_or(0, |text| text.len()),
        Value::Tensor(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) => 0,
        Value::Function(_) | Value::Layer(_) | Value::Poison => 0,
    }
}
