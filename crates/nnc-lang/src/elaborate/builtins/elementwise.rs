//! Functions of numbers, element by element: of one, of two, casts, and choice.

use super::{Builtin, Call, emit, numbers};
use crate::diagnostic::Code;
use crate::elaborate::operators::Operator;
use crate::elaborate::value::Value;
use nnc_graph::{BinaryOp, DType, Op, UnaryOp, ValueId};

macro_rules! unary {
    ($name:literal, $op:ident, $doc:literal) => {
        Builtin { name: $name, parameters: &["x"], doc: $doc, run: |call| unary(call, UnaryOp::$op) }
    };
}

macro_rules! cast {
    ($name:literal, $doc:literal) => {
        Builtin { name: $name, parameters: &["x"], doc: $doc, run: |call| cast(call, $name) }
    };
}

pub(super) const TABLE: &[Builtin] = &[
    unary!("exp", Exp, "`e ** x`."),
    unary!("log", Log, "The natural logarithm; -inf at 0, NaN below."),
    unary!("tanh", Tanh, "The hyperbolic tangent."),
    unary!("erf", Erf, "The error function."),
    unary!("sigmoid", Sigmoid, "`1 / (1 + exp(-x))`."),
    unary!("sqrt", Sqrt, "The square root; NaN below 0."),
    unary!("rsqrt", Rsqrt, "`1 / sqrt(x)`."),
    unary!("sin", Sin, "The sine of an angle in radians."),
    unary!("cos", Cos, "The cosine of an angle in radians."),
    unary!("floor", Floor, "The largest whole number that is not above `x`."),
    unary!("ceil", Ceil, "The smallest whole number that is not below `x`."),
    unary!("round", Round, "The nearest whole number, ties to even."),
    unary!("abs", Abs, "`x` without its sign."),
    unary!("sign", Sign, "-1, 0 or 1."),
    Builtin {
        name: "maximum",
        parameters: &["a", "b"],
        doc: "The larger of two, element by element; NaN if either is.",
        run: |call| pair(call, BinaryOp::Max),
    },
    Builtin {
        name: "minimum",
        parameters: &["a", "b"],
        doc: "The smaller of two, element by element; NaN if either is.",
        run: |call| pair(call, BinaryOp::Min),
    },
    Builtin {
        name: "clip",
        parameters: &["x", "low", "high"],
        doc: "`x`, but not below `low` nor above `high`.",
        run: clip,
    },
    Builtin {
        name: "where",
        parameters: &["condition", "a", "b"],
        doc: "`a` where the condition holds, else `b`; the three broadcast.",
        run: choose,
    },
    Builtin {
        name: "stop_gradient",
        parameters: &["x"],
        doc: "`x`, but constant to `grad`.",
        run: |call| {
            let x = call.tensor(0)?;
            call.emit(Op::StopGradient, &[x]).map(Value::Tensor)
        },
    },
    cast!("f32", "As f32: rounded to nearest even."),
    cast!("f16", "As f16: rounded to nearest even."),
    cast!("bf16", "As bf16: rounded to nearest even."),
    cast!("f64", "As f64."),
    cast!("i8", "As i8: floats are truncated and saturate, ints wrap."),
    cast!("u8", "As u8: floats are truncated and saturate, ints wrap."),
    cast!("i16", "As i16: floats are truncated and saturate, ints wrap."),
    cast!("i32", "As i32: floats are truncated and saturate, ints wrap."),
    cast!("i64", "As i64: floats are truncated and saturate."),
    cast!("bool", "Whether it is not 0."),
    Builtin {
        name: "int",
        parameters: &["x"],
        doc: "A float known at compile time as an int: truncated.",
        run: to_int,
    },
    Builtin {
        name: "float",
        parameters: &["x"],
        doc: "An int known at compile time as a float.",
        run: |call| {
            let (value, span) = call.operand(0);
            call.elaborator.float(&value, span).map(Value::Float)
        },
    },
];

fn unary(call: &mut Call<'_, '_>, op: UnaryOp) -> Option<Value> {
    let (value, span) = call.operand(0);
    if let Value::Int(_) | Value::Float(_) | Value::Bool(_) = value {
        return match numbers::unary(op, &value) {
            Some(known) => Some(known),
            None => call.fail(Code::E0301, 0, format!("`{}` does not work on a bool", call.builtin.name)),
        };
    }
    let x = call.elaborator.tensor(&value, None, span)?;
    let ty = call.ty(x);
    let takes_ints = matches!(op, UnaryOp::Abs | UnaryOp::Sign);
    let fits = ty.dtype.is_float() || takes_ints && ty.dtype.is_int();
    if !fits {
        let message = format!("`{}` works on floats, not on {ty}", call.builtin.name);
        return call.fail_with_help(Code::E0304, 0, message, "convert it first: `f32(...)`".to_owned());
    }
    call.emit(Op::Unary(op), &[x]).map(Value::Tensor)
}

fn pair(call: &mut Call<'_, '_>, op: BinaryOp) -> Option<Value> {
    let (a, b) = (call.operand(0), call.operand(1));
    Some(call.elaborator.binary(Operator::Binary(op), &a, &b, call.span))
}

fn clip(call: &mut Call<'_, '_>) -> Option<Value> {
    let (x, low, high) = (call.operand(0), call.operand(1), call.operand(2));
    let raised = call.elaborator.binary(Operator::Binary(BinaryOp::Max), &x, &low, call.span);
    Some(call.elaborator.binary(Operator::Binary(BinaryOp::Min), &(raised, x.1), &high, call.span))
}

fn choose(call: &mut Call<'_, '_>) -> Option<Value> {
    if let Value::Bool(known) = call.value(0) {
        let is_tensor = [1, 2].into_iter().any(|at| matches!(call.value(at), Value::Tensor(_)));
        let truth = known?;
        if !is_tensor {
            return Some(call.value(if truth { 1 } else { 2 }));
        }
        let (a, b) = choices(call)?;
        let spans = [call.span_of(1), call.span_of(2)];
        let [a, b] = call.elaborator.broadcast_pair("where", [a, b], spans, call.span)?;
        return Some(Value::Tensor(if truth { a } else { b }));
    }
    let condition = call.tensor_as(0, Some(DType::Bool))?;
    let found = call.ty(condition);
    if found.dtype != DType::Bool {
        let message = format!("the condition of `where` is bool, not {found}");
        return call.fail_with_help(Code::E0304, 0, message, "compare it: `x != 0`".to_owned());
    }
    let (a, b) = choices(call)?;
    let spans = [call.span_of(0), call.span_of(1), call.span_of(2)];
    let [a, b] = call.elaborator.broadcast_pair("where", [a, b], [spans[1], spans[2]], call.span)?;
    let [condition, a] = call.elaborator.broadcast_pair("where", [condition, a], [spans[0], spans[1]], call.span)?;
    let shape = call.ty(condition).shape;
    let b = emit::stretch(&mut call.elaborator.graph, b, &shape);
    // A mask that was left out: there is nothing to choose, now and in derivatives.
    let graph = &call.elaborator.graph;
    if let Some(Op::Constant(truth)) = emit::everywhere(graph, condition).map(|truth| &graph.definition(truth).op) {
        return Some(Value::Tensor(if truth.bytes()[0] != 0 { a } else { b }));
    }
    call.emit(Op::Select, &[condition, a, b]).map(Value::Tensor)
}

/// The two choices in one dtype; two numbers are floats if one of them is.
fn choices(call: &mut Call<'_, '_>) -> Option<(ValueId, ValueId)> {
    let (a, b) = (call.operand(1), call.operand(2));
    let number = |value: &Value| matches!(value, Value::Int(_) | Value::Float(_));
    let a_float = matches!(a.0, Value::Float(_)) && number(&b.0);
    let b_float = matches!(b.0, Value::Float(_)) && number(&a.0);
    if a_float || b_float {
        let float = Some(call.elaborator.options.float);
        return Some((call.tensor_as(1, float)?, call.tensor_as(2, float)?));
    }
    let [a, b] = call.elaborator.same_dtype(Operator::Compare(nnc_graph::CompareOp::Eq), &a, &b, call.span)?;
    Some((a, b))
}

fn cast(call: &mut Call<'_, '_>, name: &str) -> Option<Value> {
    let dtype = call.elaborator.dtype(name)?;
    let (value, span) = call.operand(0);
    let x = match value {
        // A literal becomes the dtype by itself where it can; here any number does, as a cast says.
        Value::Float(Some(number)) if !dtype.is_float() => {
            let float = call.elaborator.tensor(&Value::float(number), Some(DType::F64), span)?;
            return call.emit(Op::Cast(dtype), &[float]).map(Value::Tensor);
        }
        Value::Int(_) | Value::Float(_) if dtype != DType::Bool => call.elaborator.tensor(&value, Some(dtype), span)?,
        Value::List(_) => call.elaborator.tensor(&value, Some(dtype), span)?,
        other => call.elaborator.tensor(&other, None, span)?,
    };
    if call.ty(x).dtype == dtype {
        return Some(Value::Tensor(x));
    }
    call.emit(Op::Cast(dtype), &[x]).map(Value::Tensor)
}

fn to_int(call: &mut Call<'_, '_>) -> Option<Value> {
    match call.value(0) {
        Value::Float(Some(number)) if number.abs() < 9e18 => Some(Value::int(number as i64)),
        Value::Float(Some(number)) => {
            call.fail(Code::E0301, 0, format!("{number:?} is no int: one has at most 64 bits"))
        }
        Value::Float(None) => Some(Value::Int(call.elaborator.fresh_dim())),
        Value::Int(dim) => Some(Value::Int(dim)),
        Value::Bool(Some(truth)) => Some(Value::int(i64::from(truth))),
        other => {
            let span = call.span_of(0);
            call.elaborator.mismatch(&other, "a number known at compile time", span)
        }
    }
}
