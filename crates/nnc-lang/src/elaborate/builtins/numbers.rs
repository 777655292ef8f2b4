//! Arithmetic on values known at compile time.
//!
//! Ints are exact and may be symbolic; a result beyond 64 bits is an error. `/` of ints is floor division, of anything
//! with a float true division. A float or bool that is unknown (in a body checked on its own) gives an unknown result.

use crate::elaborate::operators::Operator;
use crate::elaborate::value::Value;
use nnc_graph::{BinaryOp, CompareOp, Dim, UnaryOp};
use std::cmp::Ordering;
use std::rc::Rc;

/// What an operator gives.
pub(crate) enum Outcome {
    /// A value.
    Value(Value),
    /// Nothing, and why.
    Error(String),
    /// It has no meaning for such values.
    NoRule,
}

/// `a op b`.
pub(crate) fn binary(op: Operator, a: &Value, b: &Value) -> Outcome {
    match (a, b) {
        (Value::Poison, _) | (_, Value::Poison) => Outcome::Value(Value::Poison),
        (Value::Int(x), Value::Int(y)) => match op {
            Operator::Binary(op) => int_binary(op, x, y),
            Operator::Compare(op) => Outcome::Value(Value::Bool(compare_dims(op, x, y))),
            Operator::MatMul => Outcome::NoRule,
        },
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => floats(op, as_float(a), as_float(b)),
        (Value::Bool(x), Value::Bool(y)) => bools(op, *x, *y),
        (Value::Str(x), Value::Str(y)) => strings(op, x.as_deref(), y.as_deref()),
        (Value::List(x), Value::List(y)) => lists(op, x, y),
        _ => Outcome::NoRule,
    }
}

/// `op a`; `None` when it has no meaning.
pub(crate) fn unary(op: UnaryOp, a: &Value) -> Option<Value> {
    match (op, a) {
        (_, Value::Poison) => Some(Value::Poison),
        (UnaryOp::Not, Value::Bool(truth)) => Some(Value::Bool(truth.map(|truth| !truth))),
        (UnaryOp::Neg, Value::Int(x)) => Some(Value::Int(-x.clone())),
        (UnaryOp::Abs | UnaryOp::Sign, Value::Int(x)) => Some(match x.as_number() {
            Some(n) if op == UnaryOp::Abs => Value::int(n.saturating_abs()),
            Some(n) => Value::int(n.signum()),
            None => Value::Poison,
        }),
        (UnaryOp::Not, _) | (_, Value::Bool(_) | Value::Str(_) | Value::List(_) | Value::Tuple(_)) => None,
        (_, Value::Tensor(_) | Value::Function(_) | Value::Layer(_)) => None,
        (_, Value::Int(_) | Value::Float(_)) => Some(Value::Float(as_float(a).map(|x| function(op, x)))),
    }
}

/// A function of one float, in f64; the definition is that of the graph's op.
fn function(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sign if x == 0.0 => 0.0,
        UnaryOp::Sign => x.signum(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Erf => erf(x),
        UnaryOp::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => 1.0 / x.sqrt(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Not => f64::from(u8::from(x == 0.0)),
    }
}

/// The error function by a series of positive terms below 3 and its continued fraction above (Abramowitz, Stegun 1964,
/// 7.1.6 and 7.1.14); to about 1e-15.
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let size = x.abs();
    if size > 6.0 {
        return x.signum();
    }
    let scale = 2.0 / std::f64::consts::PI.sqrt();
    if size < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= 2.0 * x * x / (2.0 * f64::from(n) + 1.0);
            sum += term;
        }
        return scale * (-x * x).exp() * sum;
    }
    let fraction = (1..=60).rev().fold(size, |below, n| size + f64::from(n) / 2.0 / below);
    x.signum() * (1.0 - (-size * size).exp() / (fraction * std::f64::consts::PI.sqrt()))
}

/// A number as a float; `None` when it is unknown or no number.
pub(crate) fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(dim) => dim.as_number().map(|number| number as f64),
        Value::Float(number) => *number,
        _ => None,
    }
}

fn int_binary(op: BinaryOp, x: &Dim, y: &Dim) -> Outcome {
    if let (Some(a), Some(b)) = (x.as_number(), y.as_number()) {
        return known_ints(op, a, b);
    }
    let value = match op {
        BinaryOp::Add => Some(x.clone() + y.clone()),
        BinaryOp::Sub => Some(x.clone() - y.clone()),
        BinaryOp::Mul => Some(x.clone() * y.clone()),
        BinaryOp::Div => return quotient(x.floor_div(y)),
        BinaryOp::Rem => return quotient(x.remainder(y)),
        BinaryOp::Pow => match y.as_number().filter(|n| (0..=16).contains(n)) {
            Some(n) => Some((0..n).fold(Dim::from(1i64), |product, _| product * x.clone())),
            None => return Outcome::Value(Value::Poison),
        },
        BinaryOp::Max | BinaryOp::Min => match compare_dims(CompareOp::Ge, x, y) {
            Some(larger) => Some(if larger == (op == BinaryOp::Max) { x.clone() } else { y.clone() }),
            None => return Outcome::Value(Value::Poison),
        },
        BinaryOp::And | BinaryOp::Or => None,
    };
    value.map_or(Outcome::NoRule, |dim| Outcome::Value(Value::Int(dim)))
}

fn quotient(dim: Option<Dim>) -> Outcome {
    match dim {
        Some(dim) => Outcome::Value(Value::Int(dim)),
        None => Outcome::Error("a division by 0".to_owned()),
    }
}

fn known_ints(op: BinaryOp, a: i64, b: i64) -> Outcome {
    let result = match op {
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Sub => a.checked_sub(b),
        BinaryOp::Mul => a.checked_mul(b),
        BinaryOp::Div => return quotient(Dim::from(a).floor_div(&Dim::from(b))),
        BinaryOp::Rem => return quotient(Dim::from(a).remainder(&Dim::from(b))),
        BinaryOp::Pow if b < 0 => return Outcome::Value(Value::float((a as f64).powf(b as f64))),
        BinaryOp::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        BinaryOp::Max => Some(a.max(b)),
        BinaryOp::Min => Some(a.min(b)),
        BinaryOp::And | BinaryOp::Or => return Outcome::NoRule,
    };
    match result {
        Some(number) => Outcome::Value(Value::int(number)),
        None => Outcome::Error("the result does not fit into 64 bits".to_owned()),
    }
}

/// A comparison of two ints, `None` while it depends on a name.
fn compare_dims(op: CompareOp, x: &Dim, y: &Dim) -> Option<bool> {
    let difference = (x.clone() - y.clone()).as_number()?;
    Some(holds(op, difference.cmp(&0)))
}

fn holds(op: CompareOp, order: Ordering) -> bool {
    match op {
        CompareOp::Eq => order.is_eq(),
        CompareOp::Ne => order.is_ne(),
        CompareOp::Lt => order.is_lt(),
        CompareOp::Le => order.is_le(),
        CompareOp::Gt => order.is_gt(),
        CompareOp::Ge => order.is_ge(),
    }
}

fn floats(op: Operator, a: Option<f64>, b: Option<f64>) -> Outcome {
    let (Some(a), Some(b)) = (a, b) else {
        return match op {
            Operator::Compare(_) => Outcome::Value(Value::Bool(None)),
            Operator::Binary(BinaryOp::And | BinaryOp::Or) | Operator::MatMul => Outcome::NoRule,
            Operator::Binary(_) => Outcome::Value(Value::Float(None)),
        };
    };
    let value = match op {
        Operator::Compare(CompareOp::Ne) => Value::Bool(Some(a != b)),
        Operator::Compare(op) => Value::Bool(Some(a.partial_cmp(&b).is_some_and(|order| holds(op, order)))),
        Operator::MatMul | Operator::Binary(BinaryOp::And | BinaryOp::Or) => return Outcome::NoRule,
        Operator::Binary(BinaryOp::Add) => Value::float(a + b),
        Operator::Binary(BinaryOp::Sub) => Value::float(a - b),
        Operator::Binary(BinaryOp::Mul) => Value::float(a * b),
        Operator::Binary(BinaryOp::Div) if b == 0.0 => return Outcome::Error("a division by 0".to_owned()),
        Operator::Binary(BinaryOp::Div) => Value::float(a / b),
        Operator::Binary(BinaryOp::Rem) => Value::float(a - (a / b).floor() * b),
        Operator::Binary(BinaryOp::Pow) => Value::float(a.powf(b)),
        Operator::Binary(BinaryOp::Max) => Value::float(a.max(b)),
        Operator::Binary(BinaryOp::Min) => Value::float(a.min(b)),
    };
    Outcome::Value(value)
}

fn bools(op: Operator, a: Option<bool>, b: Option<bool>) -> Outcome {
    let both = |f: fn(bool, bool) -> bool| a.zip(b).map(|(a, b)| f(a, b));
    let truth = match op {
        Operator::Binary(BinaryOp::And) if a == Some(false) || b == Some(false) => Some(false),
        Operator::Binary(BinaryOp::Or) if a == Some(true) || b == Some(true) => Some(true),
        Operator::Binary(BinaryOp::And | BinaryOp::Or) => both(|a, b| a && b).or(None),
        Operator::Compare(CompareOp::Eq) => both(|a, b| a == b),
        Operator::Compare(CompareOp::Ne) => both(|a, b| a != b),
        Operator::Compare(CompareOp::Lt | CompareOp::Le | CompareOp::Gt | CompareOp::Ge) => return Outcome::NoRule,
        Operator::Binary(_) | Operator::MatMul => return Outcome::NoRule,
    };
    Outcome::Value(Value::Bool(truth))
}

fn strings(op: Operator, a: Option<&str>, b: Option<&str>) -> Outcome {
    let (Some(a), Some(b)) = (a, b) else { return Outcome::Value(Value::Poison) };
    match op {
        Operator::Compare(op) => Outcome::Value(Value::Bool(Some(holds(op, a.cmp(b))))),
        Operator::Binary(BinaryOp::Add) => Outcome::Value(Value::str(&format!("{a}{b}"))),
        Operator::Binary(_) | Operator::MatMul => Outcome::NoRule,
    }
}

/// `+` joins lists.
fn lists(op: Operator, a: &Rc<Vec<Value>>, b: &Rc<Vec<Value>>) -> Outcome {
    match op {
        Operator::Binary(BinaryOp::Add) => Outcome::Value(Value::list([a.as_slice(), b.as_slice()].concat())),
        Operator::Binary(_) | Operator::Compare(_) | Operator::MatMul => Outcome::NoRule,
    }
}

/// The sum, product, largest or smallest of numbers; `None` when one of them is no number.
pub(crate) fn fold(op: BinaryOp, items: &[Value]) -> Option<Value> {
    let unit = match op {
        BinaryOp::Add => Some(Value::int(0)),
        BinaryOp::Mul => Some(Value::int(1)),
        _ => None,
    };
    let mut result = unit.or_else(|| items.first().cloned())?;
    for item in items {
        result = match binary(Operator::Binary(op), &result, item) {
            Outcome::Value(value) => value,
            Outcome::Error(_) | Outcome::NoRule => return None,
        };
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: Outcome) -> Option<i64> {
        match value {
            Outcome::Value(Value::Int(dim)) => dim.as_number(),
            _ => None,
        }
    }

    #[test]
    fn ints_are_exact_and_divide_toward_minus_infinity() {
        assert_eq!(int(known_ints(BinaryOp::Div, -7, 2)), Some(-4));
        assert_eq!(int(known_ints(BinaryOp::Rem, -7, 2)), Some(1));
        assert_eq!(int(known_ints(BinaryOp::Pow, 2, 62)), Some(1 << 62));
        assert!(matches!(known_ints(BinaryOp::Pow, 2, 63), Outcome::Error(_)));
        assert!(matches!(known_ints(BinaryOp::Div, 1, 0), Outcome::Error(_)));
    }

    #[test]
    fn the_error_function_has_its_known_values() {
        for (x, y) in [(0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9), (-2.5, -0.999_593_047_982_555)] {
            assert!((erf(x) - y).abs() < 1e-15, "erf({x}) = {}", erf(x));
        }
        assert!((erf(3.5) - 0.999_999_256_901_627_7).abs() < 1e-15);
    }

    #[test]
    fn names_compare_when_their_difference_is_known() {
        let n = Dim::name("N");
        let more = n.clone() + Dim::from(1i64);
        assert_eq!(compare_dims(CompareOp::Lt, &n, &more), Some(true));
        assert_eq!(compare_dims(CompareOp::Lt, &n, &Dim::name("M")), None);
    }
}
