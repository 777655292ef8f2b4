//! One builder for each kind of op: draws operands, makes them fit, appends the op with what is known of its result.

mod contraction;
mod movement;

use super::generator::{Fact, Generator};
use super::loops;
use crate::{BinaryOp, CompareOp, DType, Dim, Op, ReduceOp, TensorType, UnaryOp, ValueId};

use contraction::*;
use movement::*;

type Builder = fn(&mut Generator);

/// Every op that can run, by name.
pub(super) const BUILDERS: &[(&str, Builder)] = &[
    ("unary", unary),
    ("unary_of_jumps", unary_of_jumps),
    ("not", not),
    ("binary", binary),
    ("div", div),
    ("pow", pow),
    ("rem", rem),
    ("binary_int", binary_int),
    ("compare", compare),
    ("select", select),
    ("cast", cast),
    ("extent", extent),
    ("iota", iota),
    ("random", random),
    ("reshape", reshape),
    ("transpose", transpose),
    ("broadcast", broadcast),
    ("slice", slice),
    ("pad", pad),
    ("concat", concat),
    ("dynamic_slice", dynamic_slice),
    ("dynamic_update", dynamic_update),
    ("gather", gather),
    ("scatter_add", scatter_add),
    ("reduce", reduce),
    ("reduce_bool", reduce_bool),
    ("reduce_int", reduce_int),
    ("argmax", argmax),
    ("dot", dot),
    ("dot_of_two_axes", dot_of_two_axes),
    ("conv", conv),
    ("conv_last", conv_last),
    ("dot_of_bytes", dot_of_bytes),
    ("dot_stored", dot_stored),
    ("conv_of_bytes", conv_of_bytes),
    ("window_of_bytes", window_of_bytes),
    ("window_of_conv", window_of_conv),
    ("conv_input_grad", conv_input_grad),
    ("conv_input_grad_of_bytes", conv_input_grad_of_bytes),
    ("conv_input_grad_last", conv_input_grad_last),
    ("conv_weight_grad", conv_weight_grad),
    ("window", window),
    ("window_grad", window_grad),
    ("window_pick", window_pick),
];

/// Loops, by name.
pub(super) const LOOPS: &[(&str, Builder)] = &[("scan", loops::scan), ("counting_scan", loops::counting_scan)];

const EXACT: Fact = Fact { bound: 2.0, exact: true };

fn rounded(bound: f64) -> Fact {
    Fact { bound, exact: false }
}

/// `|x| + 1/2`: a denominator, or what a logarithm takes.
fn away_from_zero(g: &mut Generator, x: ValueId) -> ValueId {
    let (ty, fact) = (g.ty(x), g.fact(x));
    let magnitude = g.emit(Op::Unary(UnaryOp::Abs), &[x], fact);
    let half = g.splat(&ty, 0.5);
    g.emit(Op::Binary(BinaryOp::Add), &[magnitude, half], rounded(fact.bound + 0.5))
}

fn unary(g: &mut Generator) {
    use UnaryOp::{Abs, Cos, Erf, Exp, Log, Neg, Rsqrt, Sigmoid, Sin, Sqrt, Tanh};
    let op = g.rng.choose(&[Neg, Abs, Exp, Log, Tanh, Erf, Sigmoid, Sqrt, Rsqrt, Sin, Cos]);
    let mut x = g.float();
    if matches!(op, Log | Sqrt | Rsqrt) {
        x = away_from_zero(g, x);
    }
    if op == Exp && g.fact(x).bound > 4.0 {
        x = g.emit(Op::Unary(Tanh), &[x], rounded(1.0));
    }
    let fact = g.fact(x);
    let fact = match op {
        Neg | Abs => fact,
        Exp => rounded(fact.bound.exp()),
        Log => rounded(fact.bound.max(1.0)),
        _ => rounded(fact.bound.max(1.5)),
    };
    g.emit(Op::Unary(op), &[x], fact);
}

fn unary_of_jumps(g: &mut Generator) {
    let op = g.rng.choose(&[UnaryOp::Sign, UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Round]);
    let x = g.float();
    let x = g.exact(x);
    let bound = g.fact(x).bound + 1.0;
    g.emit(Op::Unary(op), &[x], Fact { bound, exact: true });
}

fn not(g: &mut Generator) {
    let x = condition(g);
    g.emit(Op::Unary(UnaryOp::Not), &[x], EXACT);
}

fn binary(g: &mut Generator) {
    use BinaryOp::{Add, Max, Min, Mul, Sub};
    let op = g.rng.choose(&[Add, Sub, Mul, Max, Min]);
    let a = g.float();
    let ty = g.ty(a);
    let b = g.of_type(&ty);
    let (x, y) = (g.fact(a), g.fact(b));
    let fact = match op {
        Max | Min => Fact { bound: x.bound.max(y.bound), exact: x.exact && y.exact },
        Mul => rounded(x.bound * y.bound),
        _ => rounded(x.bound + y.bound),
    };
    g.emit(Op::Binary(op), &[a, b], fact);
}

fn div(g: &mut Generator) {
    let a = g.float();
    let ty = g.ty(a);
    let b = g.of_type(&ty);
    let b = away_from_zero(g, b);
    let bound = g.fact(a).bound * 2.0;
    g.emit(Op::Binary(BinaryOp::Div), &[a, b], rounded(bound));
}

fn pow(g: &mut Generator) {
    let a = g.float();
    let ty = g.ty(a);
    let exponent = g.rng.choose(&[-1.0, 0.5, 1.0, 1.5, 2.0, 3.0]);
    let b = g.splat(&ty, exponent);
    let bound = g.fact(a).bound + 1.0;
    let a = if exponent.fract() != 0.0 || exponent < 0.0 { away_from_zero(g, a) } else { a };
    g.emit(Op::Binary(BinaryOp::Pow), &[a, b], rounded(bound.powi(3)));
}

fn rem(g: &mut Generator) {
    let a = g.float();
    let a = g.exact(a);
    let ty = g.ty(a);
    // By a power of two: then no rounding of the quotient can move its floor.
    let b = g.splat(&ty, 0.5);
    g.emit(Op::Binary(BinaryOp::Rem), &[a, b], Fact { bound: 0.5, exact: true });
}

fn binary_int(g: &mut Generator) {
    use BinaryOp::{Add, And, Div, Max, Min, Mul, Or, Rem, Sub};
    let op = g.rng.choose(&[Add, Sub, Mul, Div, Rem, Max, Min, And, Or]);
    let a = if matches!(op, And | Or) && g.rng.one_in(2) { condition(g) } else { g.integer() };
    let ty = g.ty(a);
    let b = g.of_type(&ty);
    g.emit(Op::Binary(op), &[a, b], EXACT);
}

fn compare(g: &mut Generator) {
    condition(g);
}

/// A comparison of two exact values of one random type.
fn condition(g: &mut Generator) -> ValueId {
    let a = if g.rng.one_in(3) { g.integer() } else { g.float() };
    let ty = g.ty(a);
    condition_on(g, &ty)
}

fn condition_on(g: &mut Generator, ty: &TensorType) -> ValueId {
    let (a, b) = (g.of_type(ty), g.of_type(ty));
    let (a, b) = (g.exact(a), g.exact(b));
    let op = g.rng.choose(CompareOp::ALL);
    g.emit(Op::Compare(op), &[a, b], EXACT)
}

fn select(g: &mut Generator) {
    let a = if g.rng.one_in(4) { g.integer() } else { g.float() };
    let ty = g.ty(a);
    let b = g.of_type(&ty);
    let condition = condition_on(g, &ty);
    let (x, y) = (g.fact(a), g.fact(b));
    g.emit(Op::Select, &[condition, a, b], Fact { bound: x.bound.max(y.bound), exact: x.exact && y.exact });
}

fn cast(g: &mut Generator) {
    if g.options.narrow_floats && g.rng.one_in(2) {
        let narrow = g.rng.choose(&[DType::F16, DType::Bf16]);
        let (x, float) = (g.float(), g.options.float);
        let fact = rounded(g.fact(x).bound * 1.01);
        let y = g.emit(Op::Cast(narrow), &[x], fact);
        g.emit(Op::Cast(float), &[y], fact);
        return;
    }
    let x = if g.rng.one_in(2) { g.integer() } else { g.float() };
    let x = g.exact(x);
    // An integer may have become as large as its type; only a small one is made a float.
    let to_float = g.ty(x).dtype.size() == 1;
    let to = if to_float { g.options.float } else { g.rng.choose(&[DType::I32, DType::I64, DType::U8, DType::Bool]) };
    g.emit(Op::Cast(to), &[x], Fact { bound: 256.0, exact: true });
}

fn extent(g: &mut Generator) {
    let size = g.rng.int(1, 9);
    let dtype = g.rng.choose(&[g.options.float, DType::I32, DType::I64]);
    g.emit(Op::Extent { dim: Dim::from(size), dtype }, &[], Fact { bound: 9.0, exact: true });
}

fn iota(g: &mut Generator) {
    let rank = 1 + g.rng.index(3);
    let dtype = g.rng.choose(&[g.options.float, DType::I32, DType::I64, DType::U8]);
    let (shape, axis) = (g.shape(rank), g.rng.index(rank));
    g.emit(Op::Iota { ty: TensorType::new(dtype, shape), axis }, &[], Fact { bound: 5.0, exact: true });
}

fn random(g: &mut Generator) {
    let seed = g.of_type(&TensorType::scalar(DType::I64));
    let rank = g.rng.index(2);
    let counter = g.shape(rank);
    let counter = g.of_type(&TensorType::new(DType::I64, counter));
    let rank = g.rng.index(3);
    let (stream, shape) = (g.rng.bits(), g.shape(rank));
    let y = g.emit(Op::Random { stream, shape }, &[seed, counter], Fact { bound: 1.0, exact: true });
    if g.options.float != DType::F32 {
        g.emit(Op::Cast(g.options.float), &[y], Fact { bound: 1.0, exact: true });
    }
}

fn some_axes(g: &mut Generator, rank: usize) -> Vec<usize> {
    let mut axes: Vec<usize> = (0..rank).filter(|_| g.rng.one_in(2)).collect();
    if axes.is_empty() && rank > 0 {
        axes.push(g.rng.index(rank));
    }
    axes
}

fn reduce(g: &mut Generator) {
    let op = g.rng.choose(&[ReduceOp::Sum, ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Product]);
    let mut x = g.float_with_axes();
    if op == ReduceOp::Product {
        x = g.emit(Op::Unary(UnaryOp::Tanh), &[x], rounded(1.0));
    }
    let ty = g.ty(x);
    let axes = some_axes(g, ty.shape.rank());
    let fact = g.fact(x);
    let fact = match op {
        ReduceOp::Sum => rounded(fact.bound * ty.shape.elements().size() as f64),
        ReduceOp::Product => rounded(1.0),
        ReduceOp::Max | ReduceOp::Min | ReduceOp::Any | ReduceOp::All => fact,
    };
    g.emit(Op::Reduce { op, axes }, &[x], fact);
}

fn reduce_bool(g: &mut Generator) {
    let op = g.rng.choose(&[ReduceOp::Any, ReduceOp::All]);
    let x = condition(g);
    let rank = g.ty(x).shape.rank();
    let axes = some_axes(g, rank);
    g.emit(Op::Reduce { op, axes }, &[x], EXACT);
}

fn reduce_int(g: &mut Generator) {
    let op = g.rng.choose(&[ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Product]);
    let x = g.integer();
    let rank = g.ty(x).shape.rank();
    let axes = some_axes(g, rank);
    g.emit(Op::Reduce { op, axes }, &[x], EXACT);
}

fn argmax(g: &mut Generator) {
    let x = g.float_with_axes();
    let x = g.exact(x);
    let rank = g.ty(x).shape.rank();
    let axis = g.rng.index(rank);
    g.emit(Op::ArgMax { axis }, &[x], EXACT);
}

/// `grad` of a sum of float values by leaves and by values on the way, with some `stop_gradient`.
pub(super) fn grad(g: &mut Generator) {
    let mut loss = g.number(g.options.float, 0.0);
    for _ in 0..4 {
        let x = g.float();
        let x = g.squash(x);
        let fact = g.fact(x);
        let x = if g.rng.one_in(4) { g.emit(Op::StopGradient, &[x], fact) } else { x };
        let total = g.total(x);
        let fact = rounded(g.fact(loss).bound + g.fact(total).bound);
        loss = g.emit(Op::Binary(BinaryOp::Add), &[loss, total], fact);
    }
    let wrt: Vec<ValueId> = (0..3).map(|_| g.float()).collect();
    let operands: Vec<ValueId> = [loss].into_iter().chain(wrt).collect();
    g.graph.add(Op::Grad, &operands).expect("floats");
    g.note_new(rounded(1e6));
}
