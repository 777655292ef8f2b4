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
    let place = match &call.elaborator.taught {
        None => Some("elsewhere nothing is known of other examples, nor in `augment` or `synthetic`"),
        Some(_) if call.elaborator.in_scan() => Some("and not in a `scan`, whose steps are no examples"),
        Some(_) => None,
    };
    if let Some(place) = place {
        let help = "bind it in the `data` block, as `centre = learn_mean(train.0)`: a recipe reads it like a field";
        let message = format!("`{name}` belongs into the expressions of a `data` block: {place}");
        call.elaborator.report(Diagnostic::new(Code::E0107, call.span, message).help(help));
        return None;
    }
    let taught = call.elaborator.taught.as_ref()?;
    let number = taught.iter().filter(|other| other.statistic == statistic).count() + 1;
    let path = format!("data:{}_{number}", statistic.name());
    let leaf = call.elaborator.graph.emit(Op::Input { name: path.clone(), ty }, &[]);
    let taught = Taught { statistic, path, of, leaf, span: call.span };
    call.elaborator.taught.as_mut()?.push(taught);
    Some(Value::Tensor(leaf))
}
