//! What the examples that are trained on teach: their mean, spread and bounds, element by element.
//!
//! The number is not known here. A use makes an input of the example's graph, and says what it is a statistic of; the
//! recipes on the data keep it as a state, which whoever opens the data gives its value.

use super::{Builtin, Call};
use crate::diagnostic::{Code, Diagnostic};
use crate::elaborate::data::{Statistic, Taught};
use crate::elaborate::value::Value;
use nnc_graph::Op;

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "learn_mean",
        parameters: &["x"],
        doc: "The mean of a float `x` over the examples that are trained on, element by element; in `data` alone.",
        run: |call| learn(call, Statistic::Mean),
    },
    Builtin {
        name: "learn_std",
        parameters: &["x"],
        doc: "The standard deviation of a float `x` over the examples that are trained on, element by element, and 1 where all are equal; in `data` alone.",
        run: |call| learn(call, Statistic::Std),
    },
    Builtin {
        name: "learn_min",
        parameters: &["x"],
        doc: "The smallest value of a float `x` among the examples that are trained on, element by element; in `data` alone.",
        run: |call| learn(call, Statistic::Min),
    },
    Builtin {
        name: "learn_max",
        parameters: &["x"],
        doc: "The largest value of a float `x` among the examples that are trained on, element by element; in `data` alone.",
        run: |call| learn(call, Statistic::Max),
    },
];

fn learn(call: &mut Call<'_, '_>, statistic: Statistic) -> Option<Value> {
    let of = call.tensor(0)?;
    let ty = call.ty(of);
    let name = call.builtin.name;
    if !ty.dtype.is_float() {
        let help = format!("cast it: `{name}(f32(...))`");
        return call.fail_with_help(Code::E0303, 0, format!("`{name}` takes floats, and this is {ty}"), help);
    }
    if call.elaborator.generic {
        return Some(Value::Tensor(of));
    }
    if let Some((message, help)) = misplaced(call) {
        call.elaborator.report(Diagnostic::new(Code::E0107, call.span, message).help(help));
        return None;
    }
    let path = statistic.path(&call.elaborator.graph, of);
    let known = call.elaborator.taught.as_ref()?.iter().find(|taught| taught.path == path);
    if let Some(taught) = known {
        return Some(Value::Tensor(taught.leaf));
    }
    let leaf = call.elaborator.graph.emit(Op::Input { name: path.clone(), ty }, &[]);
    let taught = Taught { statistic, path, of, leaf, span: call.span };
    call.elaborator.taught.as_mut()?.push(taught);
    Some(Value::Tensor(leaf))
}

/// What is said of a use where there are no examples, with advice.
fn misplaced(call: &Call<'_, '_>) -> Option<(String, &'static str)> {
    let name = call.builtin.name;
    if call.elaborator.taught.is_none() {
        let message = format!(
            "`{name}` belongs into the expressions of a `data` block: elsewhere nothing is known of other examples, nor \
             in `augment` or `synthetic`"
        );
        let help = "bind it in the `data` block, as `centre = learn_mean(train.0)`: a recipe reads it like a field";
        return Some((message, help));
    }
    let message = format!("`{name}` cannot stand in a `scan`, whose steps are no examples");
    call.elaborator.in_scan().then_some((message, "bind it before the `scan`"))
}
