//! One builder for each kind of op: draws operands, makes them fit, appends the op with what is known of its result.

use super::generator::{Fact, Generator};
use super::loops;
use crate::{
    BinaryOp, CompareOp, ConvAttributes, DType, Dim, Op, ReduceOp, Shape, SliceRange, Stored, Tensor, TensorType,
    UnaryOp, ValueId, WindowAttributes, WindowOp,
};

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
    ("conv_input_grad", conv_input_grad),
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

fn any(g: &mut Generator) -> ValueId {
    if g.rng.one_in(4) { g.integer() } else { g.float() }
}

fn reshape(g: &mut Generator) {
    let x = any(g);
    let elements = g.ty(x).shape.elements();
    let size = elements.size();
    let divisors: Vec<usize> = (1..=size).filter(|d| size.is_multiple_of(*d)).collect();
    let outer = g.rng.choose(&divisors);
    let dims = match g.rng.int(0, 2) {
        0 => vec![size],
        1 => vec![outer, size / outer],
        _ => vec![outer, 1, size / outer],
    };
    g.move_elements(Op::Reshape(Shape::of(&dims)), &[x]);
}

fn transpose(g: &mut Generator) {
    let x = any(g);
    let mut permutation: Vec<usize> = (0..g.ty(x).shape.rank()).collect();
    for last in (1..permutation.len()).rev() {
        let other = g.rng.index(last + 1);
        permutation.swap(last, other);
    }
    g.move_elements(Op::Transpose(permutation), &[x]);
}

fn broadcast(g: &mut Generator) {
    let x = any(g);
    let mut shape = Vec::new();
    let mut axes = Vec::new();
    for dim in g.ty(x).shape.iter() {
        if shape.len() + 1 < 4 && g.rng.one_in(3) {
            shape.push(Dim::from(g.rng.int(1, 3)));
        }
        axes.push(shape.len());
        shape.push(if dim.is(1) { Dim::from(g.rng.int(1, 3)) } else { dim.clone() });
    }
    if shape.len() < 3 {
        shape.push(Dim::from(g.rng.int(1, 3)));
    }
    g.move_elements(Op::Broadcast { shape: shape.into(), axes }, &[x]);
}

fn slice(g: &mut Generator) {
    let x = any(g);
    let mut ranges = Vec::new();
    for dim in g.ty(x).shape.iter() {
        let step = g.rng.choose(&[1, 1, 1, 2, -1, -2]);
        let length = dim.size() as i64;
        let size = g.rng.int(1, 1 + (length - 1) / i64::abs(step));
        let reach = (size - 1) * i64::abs(step);
        let low = g.rng.int(0, length - 1 - reach);
        let start = if step > 0 { low } else { low + reach };
        ranges.push(SliceRange { start: start.into(), size: size.into(), step });
    }
    g.move_elements(Op::Slice(ranges), &[x]);
}

fn pad(g: &mut Generator) {
    let x = any(g);
    let ty = g.ty(x);
    let value = g.of_type(&TensorType::scalar(ty.dtype));
    let draw = |g: &mut Generator| (0..ty.shape.rank()).map(|_| Dim::from(g.rng.int(0, 2))).collect::<Vec<_>>();
    let (low, high) = (draw(g), draw(g));
    let (a, b) = (g.fact(x), g.fact(value));
    let fact = Fact { bound: a.bound.max(b.bound), exact: a.exact && b.exact };
    g.emit(Op::Pad { low, high }, &[x, value], fact);
}

fn concat(g: &mut Generator) {
    let first = g.float_with_axes();
    let ty = g.ty(first);
    let axis = g.rng.index(ty.shape.rank());
    let mut parts = vec![first];
    let mut fact = g.fact(first);
    for _ in 0..g.rng.int(0, 2) {
        let mut shape = ty.shape.to_vec();
        shape[axis] = g.rng.int(1, 3).into();
        let part = g.of_type(&TensorType::new(ty.dtype, shape));
        let of_part = g.fact(part);
        fact = Fact { bound: fact.bound.max(of_part.bound), exact: fact.exact && of_part.exact };
        parts.push(part);
    }
    g.emit(Op::Concat { axis }, &parts, fact);
}

/// A run-time start from which `size` elements fit into `length`.
fn start(g: &mut Generator, size: i64, length: i64) -> ValueId {
    g.indices(&TensorType::scalar(DType::I64), length - size + 1)
}

fn dynamic_slice(g: &mut Generator) {
    let x = g.float_with_axes();
    let shape = g.ty(x).shape;
    let axis = g.rng.index(shape.rank());
    let length = shape[axis].size() as i64;
    let size = g.rng.int(1, length);
    let start = start(g, size, length);
    g.move_elements(Op::DynamicSlice { axis, size: size.into() }, &[x, start]);
}

fn dynamic_update(g: &mut Generator) {
    let x = g.float_with_axes();
    let ty = g.ty(x);
    let first = g.rng.index(ty.shape.rank());
    let mut axes = vec![first];
    axes.extend((0..ty.shape.rank()).find(|&axis| axis != first).filter(|_| g.rng.one_in(2)));
    let mut shape = ty.shape.to_vec();
    let mut starts = Vec::new();
    for &axis in &axes {
        let length = ty.shape[axis].size() as i64;
        let size = g.rng.int(1, length);
        shape[axis] = size.into();
        starts.push(start(g, size, length));
    }
    let value = g.of_type(&TensorType::new(ty.dtype, shape));
    let (a, b) = (g.fact(x), g.fact(value));
    let fact = Fact { bound: a.bound.max(b.bound), exact: a.exact && b.exact };
    g.emit(Op::DynamicUpdate { axes }, &[&[x, value][..], &starts].concat(), fact);
}

/// A float value, indices into it, and the axis and batch they are for.
fn indexed(g: &mut Generator) -> (ValueId, ValueId, usize, usize) {
    let x = g.float_with_axes();
    let shape = g.ty(x).shape;
    let axis = g.rng.index(shape.rank());
    let batch = g.rng.index(axis + 1);
    let mut index_shape = shape[..batch].to_vec();
    let further = g.rng.index(3).min(3 - shape.rank() + 1);
    index_shape.extend(g.shape(further).0);
    let dtype = g.rng.choose(&[DType::I32, DType::I64]);
    let indices = g.indices(&TensorType::new(dtype, index_shape), shape[axis].size() as i64);
    (x, indices, axis, batch)
}

fn gather(g: &mut Generator) {
    let (x, indices, axis, batch) = indexed(g);
    g.move_elements(Op::Gather { axis, batch }, &[x, indices]);
}

fn scatter_add(g: &mut Generator) {
    let (x, indices, axis, batch) = indexed(g);
    let types = [g.ty(x), g.ty(indices)];
    let updates = crate::infer(&Op::Gather { axis, batch }, &types).expect("drawn to fit")[0].clone();
    let count = updates.shape.elements().size() as f64;
    let updates = g.of_type(&updates);
    let bound = g.fact(x).bound + g.fact(updates).bound * count;
    g.emit(Op::ScatterAdd { axis, batch }, &[x, indices, updates], rounded(bound));
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

fn dot(g: &mut Generator) {
    let a = g.float_with_axes();
    let shape = g.ty(a).shape;
    let batch = g.rng.index(shape.rank().min(2));
    let contracted = batch + g.rng.index(shape.rank() - batch);
    let free = g.rng.int(1, 4);
    let mut b_shape = shape[..batch].to_vec();
    let contracted_last = g.rng.one_in(2);
    if contracted_last {
        b_shape.push(free.into());
    }
    b_shape.push(shape[contracted].clone());
    let b_axis = b_shape.len() - 1;
    if !contracted_last && g.rng.one_in(2) {
        b_shape.push(free.into());
    }
    let b = g.of_type(&TensorType::new(g.options.float, b_shape));
    let bound = g.fact(a).bound * g.fact(b).bound * shape[contracted].size() as f64;
    g.emit(Op::Dot { batch, a_axes: vec![contracted], b_axes: vec![b_axis] }, &[a, b], rounded(bound));
}

/// As the derivative of a layer on `[B, T, I]` by its weights: two axes are summed, in any order and place.
fn dot_of_two_axes(g: &mut Generator) {
    let a = g.float_of_rank(3);
    let shape = g.ty(a).shape;
    let free = g.rng.index(3);
    let mut a_axes: Vec<usize> = (0..3).filter(|axis| *axis != free).collect();
    if g.rng.one_in(2) {
        a_axes.swap(0, 1);
    }
    let first = g.rng.index(2);
    let mut b_shape = vec![shape[a_axes[0]].clone(), shape[a_axes[1]].clone()];
    b_shape.insert(first, Dim::from(g.rng.int(1, 4)));
    let b_axes = (0..3).filter(|axis| *axis != first).collect();
    let b = g.of_type(&TensorType::new(g.options.float, b_shape));
    let bound = g.fact(a).bound * g.fact(b).bound * 25.0;
    g.emit(Op::Dot { batch: 0, a_axes, b_axes }, &[a, b], rounded(bound));
}

/// Geometry that fits, and the types of `x`, `w` and `y`.
fn conv_case(g: &mut Generator) -> (ConvAttributes, [TensorType; 3]) {
    let dtype = g.options.float;
    conv_case_of(g, dtype, 2)
}

/// As [`conv_case`], of a dtype, with up to so many channels in a group.
fn conv_case_of(g: &mut Generator, dtype: DType, channels: i64) -> (ConvAttributes, [TensorType; 3]) {
    let spatial = 1 + g.rng.index(2);
    let groups = g.rng.choose(&[1, 1, 2]);
    let (per_group, out_per_group) = (g.rng.int(1, channels), g.rng.int(1, channels));
    let draw = |g: &mut Generator, low: i64, high: i64| -> Vec<Dim> {
        (0..spatial).map(|_| Dim::from(g.rng.int(low, high))).collect()
    };
    let (kernel, stride, dilation) = (draw(g, 1, 3), draw(g, 1, 2), draw(g, 1, 2));
    let (low, high, size) = (draw(g, 0, 2), draw(g, 0, 2), draw(g, 5, 6));
    let attributes = ConvAttributes { stride, low, high, dilation, groups: groups.into() };
    let batch = Dim::from(g.rng.int(1, 2));
    let x = TensorType::new(dtype, [vec![batch, (groups * per_group).into()], size].concat());
    let w_dtype = if dtype == DType::U8 { DType::I8 } else { dtype };
    let w = TensorType::new(w_dtype, [vec![(groups * out_per_group).into(), per_group.into()], kernel].concat());
    let y = crate::infer(&Op::Conv(attributes.clone()), &[x.clone(), w.clone()]).expect("drawn to fit")[0].clone();
    (attributes, [x, w, y])
}

fn product_bound(g: &Generator, a: ValueId, b: ValueId) -> Fact {
    rounded(g.fact(a).bound * g.fact(b).bound * 100.0)
}

fn conv(g: &mut Generator) {
    let (attributes, [x, w, _]) = conv_case(g);
    let (x, w) = (g.of_type(&x), g.of_type(&w));
    let fact = product_bound(g, x, w);
    g.emit(Op::Conv(attributes), &[x, w], fact);
}

fn conv_last(g: &mut Generator) {
    let (attributes, [mut x, w, _]) = conv_case(g);
    x.shape.0[1..].rotate_left(1);
    let (x, w) = (g.of_type(&x), g.of_type(&w));
    let fact = product_bound(g, x, w);
    g.emit(Op::ConvLast(attributes), &[x, w], fact);
}

/// Quantised numbers: factors of a byte, sums of four, which become floats. Half of the weights are known to be small.
fn bytes(g: &mut Generator, op: Op, [x, w]: [&TensorType; 2]) {
    let w = &TensorType::new(DType::I8, w.shape.clone());
    let (x, mut w) = (g.of_type(x), g.of_type(w));
    if g.rng.one_in(2) {
        let (ty, fact) = (g.ty(w), g.fact(w));
        for (op, limit) in [(BinaryOp::Max, -64.0), (BinaryOp::Min, 64.0)] {
            let limit = g.splat(&ty, limit);
            w = g.emit(Op::Binary(op), &[w, limit], fact);
        }
    }
    let fact = Fact { bound: 1e5, exact: true };
    let sums = g.emit(op, &[x, w], fact);
    let float = g.options.float;
    g.emit(Op::Cast(float), &[sums], fact);
}

fn dot_of_bytes(g: &mut Generator) {
    let [rows, depth, columns] = [6, 24, 40].map(|most| g.rng.int(1, most));
    let ty = |dims: [i64; 2]| TensorType::new(DType::U8, dims.map(Dim::from).to_vec());
    let (turned, x) = (g.rng.one_in(2), ty([rows, depth]));
    let (w, axis) = if turned { (ty([depth, columns]), 0) } else { (ty([columns, depth]), 1) };
    bytes(g, Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![axis] }, [&x, &w]);
}

/// A value of that type, of small numbers.
fn small(g: &mut Generator, ty: &TensorType) -> ValueId {
    let (x, share) = (g.of_type(ty), 1.0 / 1024.0);
    let by = g.splat(ty, share);
    let fact = rounded(g.fact(x).bound * share);
    g.emit(Op::Binary(BinaryOp::Mul), &[x, by], fact)
}

/// Rows by a matrix of few bits, of all numbers that these can be.
fn dot_stored(g: &mut Generator) {
    if g.options.float != DType::F32 {
        return dot(g);
    }
    let group = 8 * (1 + g.rng.index(3));
    let (depth, columns) = (group * (1 + g.rng.index(3)), 1 + g.rng.index(40));
    let stored = g.rng.choose(&[Stored::Bf16, Stored::Bytes { group }, Stored::Nibbles { group }]);
    let rows: Vec<Dim> = (0..1 + g.rng.index(2)).map(|_| Dim::from(g.rng.int(1, 5))).collect();
    let x = g.of_type(&TensorType::new(DType::F32, [rows, vec![Dim::from(depth)]].concat()));
    let ty = stored.matrix(depth, columns);
    let dims = ty.shape.sizes();
    let count: usize = dims.iter().product();
    let matrix = match ty.dtype {
        DType::Bf16 => {
            let numbers: Vec<f64> = (0..count).map(|_| g.rng.int(-100, 100) as f64 / 256.0).collect();
            Tensor::from_f64(DType::Bf16, &dims, &numbers)
        }
        dtype => {
            let bytes: Vec<u8> = (0..count).map(|_| g.rng.int(0, 255) as u8).collect();
            Tensor::from_bytes(dtype, &dims, bytes).expect("a byte for each")
        }
    };
    let bound = g.fact(x).bound * depth as f64;
    let matrix = g.emit(Op::Constant(matrix), &[], Fact { bound: 255.0, exact: true });
    let scales = stored.scales(depth, columns).map(|ty| small(g, &ty));
    let scale = scales.map_or(1.0, |scales| 128.0 * g.fact(scales).bound);
    let operands: Vec<ValueId> = [x, matrix].into_iter().chain(scales).collect();
    g.emit(Op::DotStored(stored), &operands, rounded(bound * scale));
}

fn conv_of_bytes(g: &mut Generator) {
    let (attributes, [mut x, w, _]) = conv_case_of(g, DType::U8, 12);
    if g.rng.one_in(3) {
        return bytes(g, Op::Conv(attributes), [&x, &w]);
    }
    x.shape.0[1..].rotate_left(1);
    bytes(g, Op::ConvLast(attributes), [&x, &w]);
}

fn conv_input_grad(g: &mut Generator) {
    let (attributes, [x, w, y]) = conv_case(g);
    let (dy, w) = (g.of_type(&y), g.of_type(&w));
    let fact = product_bound(g, dy, w);
    g.emit(Op::ConvInputGrad { attributes, input: x.shape[2..].to_vec() }, &[dy, w], fact);
}

fn conv_weight_grad(g: &mut Generator) {
    let (attributes, [x, w, y]) = conv_case(g);
    let (x, dy) = (g.of_type(&x), g.of_type(&y));
    let fact = product_bound(g, x, dy);
    g.emit(Op::ConvWeightGrad { attributes, kernel: w.shape[2..].to_vec() }, &[x, dy], fact);
}

/// Geometry that fits, and the types of `x` and `y`.
fn window_case(g: &mut Generator) -> (WindowAttributes, [TensorType; 2]) {
    let spatial = 1 + g.rng.index(2);
    let draw = |g: &mut Generator, low: i64, high: i64| -> Vec<Dim> {
        (0..spatial).map(|_| Dim::from(g.rng.int(low, high))).collect()
    };
    let (size, stride, room) = (draw(g, 1, 3), draw(g, 1, 3), draw(g, 3, 6));
    // Less padding than the window is wide: no window lies in padding alone.
    let padding = |g: &mut Generator| -> Vec<Dim> {
        size.iter().map(|size| Dim::from(g.rng.int(0, (size.size() as i64 - 1).min(1)))).collect()
    };
    let (low, high) = (padding(g), padding(g));
    let attributes = WindowAttributes { size, stride, low, high };
    let leading = vec![Dim::from(g.rng.int(1, 2)), Dim::from(g.rng.int(1, 3))];
    let x = TensorType::new(g.options.float, [leading, room].concat());
    let op = Op::Window { op: WindowOp::Sum, attributes: attributes.clone() };
    let y = crate::infer(&op, std::slice::from_ref(&x)).expect("drawn to fit")[0].clone();
    (attributes, [x, y])
}

fn window(g: &mut Generator) {
    let op = g.rng.choose(WindowOp::ALL);
    let (attributes, [x, _]) = window_case(g);
    let x = g.of_type(&x);
    let fact = g.fact(x);
    let fact = if op == WindowOp::Max { fact } else { rounded(fact.bound * 9.0) };
    g.emit(Op::Window { op, attributes }, &[x], fact);
}

fn window_of_bytes(g: &mut Generator) {
    let (attributes, [x, _]) = window_case(g);
    let x = g.of_type(&TensorType::new(DType::U8, x.shape));
    let fact = Fact { bound: 9.0, exact: true };
    let largest = g.emit(Op::Window { op: WindowOp::Max, attributes }, &[x], fact);
    let float = g.options.float;
    g.emit(Op::Cast(float), &[largest], fact);
}

fn window_grad(g: &mut Generator) {
    let op = g.rng.choose(WindowOp::ALL);
    let (attributes, [x, y]) = window_case(g);
    let input = x.shape[2..].to_vec();
    let dy = g.of_type(&y);
    let fact = rounded(g.fact(dy).bound * 9.0);
    let operands = match op {
        WindowOp::Sum => vec![dy],
        WindowOp::Max => {
            let x = g.of_type(&x);
            vec![g.exact(x), dy]
        }
    };
    g.emit(Op::WindowGrad { op, attributes, input }, &operands, fact);
}

fn window_pick(g: &mut Generator) {
    let (attributes, [x, _]) = window_case(g);
    let (at, v) = (g.of_type(&x), g.of_type(&x));
    let at = g.exact(at);
    let fact = g.fact(v);
    g.emit(Op::WindowPick(attributes), &[at, v], fact);
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
