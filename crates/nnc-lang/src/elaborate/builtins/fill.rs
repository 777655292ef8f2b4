//! Tensors out of nothing: constants, positions, random draws.
//!
//! `zeros()`, `ones()` and `full(v)` take their type from what the context asks for, such as the annotation of a
//! `param`; with a shape they are values. Random draws are counter-based (see `Op::Random`): each call site, use and
//! step has numbers of its own, whatever the order of evaluation.

use super::{Builtin, Call, emit};
use crate::diagnostic::Code;
use crate::elaborate::value::Value;
use nnc_graph::{BinaryOp, CompareOp, DType, Op, Shape, TensorType, UnaryOp, ValueId};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "zeros",
        parameters: &["shape?"],
        doc: "Zeros: of the annotated type as an initialiser, or f32 of a given shape.",
        run: |call| filled(call, 0, Some(0.0)),
    },
    Builtin {
        name: "ones",
        parameters: &["shape?"],
        doc: "Ones: of the annotated type as an initialiser, or f32 of a given shape.",
        run: |call| filled(call, 0, Some(1.0)),
    },
    Builtin {
        name: "full",
        parameters: &["value", "shape?"],
        doc: "One number everywhere: of the annotated type as an initialiser, or of a given shape.",
        run: |call| filled(call, 1, None),
    },
    Builtin {
        name: "iota",
        parameters: &["count"],
        doc: "The numbers 0 to `count - 1`, as i32.",
        run: |call| {
            let count = call.size(0)?;
            call.emit(Op::Iota { ty: TensorType::new(DType::I32, vec![count]), axis: 0 }, &[]).map(Value::Tensor)
        },
    },
    Builtin {
        name: "constant_of",
        parameters: &["numbers", "like"],
        doc: "A list of numbers as a vector with the dtype of `like`.",
        run: |call| {
            let like = call.tensor(1)?;
            let dtype = call.ty(like).dtype;
            call.tensor_as(0, Some(dtype)).map(Value::Tensor)
        },
    },
    Builtin {
        name: "uniform",
        parameters: &["shape"],
        doc: "Draws that are uniform on [0, 1), as f32.",
        run: |call| {
            let drawn = uniform(call)?;
            as_float(call, drawn)
        },
    },
    Builtin {
        name: "normal",
        parameters: &["shape"],
        doc: "Standard normal draws, as f32 (Box, Muller 1958).",
        run: normal,
    },
    Builtin {
        name: "bernoulli",
        parameters: &["probability", "shape"],
        doc: "Draws that are true with the given probability, as bool.",
        run: bernoulli,
    },
];

/// `shape_at` is where the shape stands among the arguments; without a `value` it is the first argument.
fn filled(call: &mut Call<'_, '_>, shape_at: usize, value: Option<f64>) -> Option<Value> {
    let ty = match (call.has(shape_at), call.expected.clone()) {
        (true, _) => {
            let shape = call.shape(shape_at)?;
            let dtype = call.expected.as_ref().map(|ty| ty.dtype);
            (dtype, shape)
        }
        (false, Some(ty)) => {
            // The dims of a result or an annotation, which may have become what none is.
            call.are_sizes(shape_at, &ty.shape)?;
            (Some(ty.dtype), ty.shape)
        }
        (false, None) => {
            let message = format!("`{}()` has no shape here", call.builtin.name);
            let help = format!("give it one, as in `{}`, or annotate what it initialises", example(call.builtin.name));
            let span = call.span;
            call.elaborator.report(crate::diagnostic::Diagnostic::new(Code::E0204, span, message).help(help));
            return None;
        }
    };
    let scalar = match value {
        Some(number) => {
            let dtype = ty.0.unwrap_or(call.elaborator.options.float);
            call.elaborator.graph.scalar(dtype, number)
        }
        None => call.tensor_as(0, ty.0)?,
    };
    if call.rank(scalar) != 0 {
        return call.fail(Code::E0305, 0, "`full` repeats a scalar");
    }
    Some(Value::Tensor(call.elaborator.graph.broadcast_scalar(scalar, &ty.1)))
}

fn example(name: &str) -> &'static str {
    match name {
        "full" => "full(0.5, [3, 4])",
        "ones" => "ones([3, 4])",
        _ => "zeros([3, 4])",
    }
}

/// Draws of a new stream, uniform on [0, 1), always f32.
fn draw(call: &mut Call<'_, '_>, shape: Shape) -> Option<ValueId> {
    let stream = call.elaborator.next_stream();
    let operands = call.elaborator.random_operands();
    call.emit(Op::Random { stream, shape }, &operands)
}

fn uniform(call: &mut Call<'_, '_>) -> Option<ValueId> {
    let shape = call.shape(0)?;
    draw(call, shape)
}

/// A drawn f32 in the program's float.
fn as_float(call: &mut Call<'_, '_>, drawn: ValueId) -> Option<Value> {
    let float = call.elaborator.options.float;
    Some(Value::Tensor(emit::cast(&mut call.elaborator.graph, drawn, float)))
}

/// `sqrt(-2 log(1 - u)) cos(2 pi v)`; `1 - u` is never 0.
fn normal(call: &mut Call<'_, '_>) -> Option<Value> {
    let shape = call.shape(0)?;
    let u = draw(call, shape.clone())?;
    let v = draw(call, shape.clone())?;
    let graph = &mut call.elaborator.graph;
    let ty = TensorType::new(DType::F32, shape);
    let one = graph.splat(&ty, 1.0);
    let rest = emit::binary(graph, BinaryOp::Sub, one, u);
    let log = graph.emit(Op::Unary(UnaryOp::Log), &[rest]);
    let square = emit::binary_number(graph, BinaryOp::Mul, log, -2.0);
    let radius = graph.emit(Op::Unary(UnaryOp::Sqrt), &[square]);
    let angle = emit::binary_number(graph, BinaryOp::Mul, v, std::f64::consts::TAU);
    let cosine = graph.emit(Op::Unary(UnaryOp::Cos), &[angle]);
    let drawn = emit::binary(graph, BinaryOp::Mul, radius, cosine);
    as_float(call, drawn)
}

fn bernoulli(call: &mut Call<'_, '_>) -> Option<Value> {
    let shape = call.shape(1)?;
    let probability = call.tensor_as(0, Some(DType::F32))?;
    let ty = call.ty(probability);
    if ty != TensorType::scalar(DType::F32) {
        return call.fail(Code::E0304, 0, format!("the probability is a scalar f32, not {ty}"));
    }
    let drawn = draw(call, shape.clone())?;
    let limit = call.elaborator.graph.broadcast_scalar(probability, &shape);
    call.emit(Op::Compare(CompareOp::Lt), &[drawn, limit]).map(Value::Tensor)
}
