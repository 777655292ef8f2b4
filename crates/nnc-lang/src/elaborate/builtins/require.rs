//! What a body asks of its compile-time arguments.

use super::{Builtin, Call};
use crate::diagnostic::{Code, Diagnostic};
use crate::elaborate::value::Value;

pub(super) const TABLE: &[Builtin] = &[Builtin {
    name: "require",
    parameters: &["condition", "message"],
    doc: "Nothing: a statement that makes a use of the body an error with this message, unless the condition holds.",
    run: require,
}];

/// Gives nothing, so that it stands as a statement; after an error the body is left, so that it is the only one. A
/// condition that is still unknown, as in a body that is checked on its own, is taken to hold; so is one of
/// which only a use decides that it is reached, as in the last `else` of a choice.
fn require(call: &mut Call<'_, '_>) -> Option<Value> {
    let (condition, at) = call.operand(0);
    let (message, place) = call.operand(1);
    let holds = call.elaborator.truth(&condition, at)?;
    let message = call.elaborator.text(&message, place)?;
    if holds == Some(false) && !call.elaborator.may_be_passed_over() {
        call.elaborator.report(Diagnostic::new(Code::E0204, at, &*message));
        call.elaborator.refused = true;
    }
    None
}
