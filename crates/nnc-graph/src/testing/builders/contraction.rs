//! Products, convolutions and windows.

use super::super::generator::{Fact, Generator};
use super::rounded;
use crate::{
    BinaryOp, ConvAttributes, DType, Dim, Op, Stored, Tensor, TensorType, ValueId, WindowAttributes, WindowOp,
};

pub(super) fn dot(g: &mut Generator) {
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
pub(super) fn dot_of_two_axes(g: &mut Generator) {
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
pub(super) fn conv_case(g: &mut Generator) -> (ConvAttributes, [TensorType; 3]) {
    let dtype = g.options.float;
    conv_case_of(g, dtype, 2)
}

/// As [`conv_case`], of a dtype, with up to so many channels in a group.
pub(super) fn conv_case_of(g: &mut Generator, dtype: DType, channels: i64) -> (ConvAttributes, [TensorType; 3]) {
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

pub(super) fn product_bound(g: &Generator, a: ValueId, b: ValueId) -> Fact {
    rounded(g.fact(a).bound * g.fact(b).bound * 100.0)
}

pub(super) fn conv(g: &mut Generator) {
    let (attributes, [x, w, _]) = conv_case(g);
    let (x, w) = (g.of_type(&x), g.of_type(&w));
    let fact = product_bound(g, x, w);
    g.emit(Op::Conv(attributes), &[x, w], fact);
}

pub(super) fn conv_last(g: &mut Generator) {
    let (attributes, [mut x, w, _]) = conv_case(g);
    x.shape.0[1..].rotate_left(1);
    let (x, w) = (g.of_type(&x), g.of_type(&w));
    let fact = product_bound(g, x, w);
    g.emit(Op::ConvLast(attributes), &[x, w], fact);
}

/// Quantised numbers: factors of a byte, sums of four, which become floats. Half of the weights are known to be small.
pub(super) fn bytes(g: &mut Generator, op: Op, [x, w]: [&TensorType; 2]) {
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

pub(super) fn dot_of_bytes(g: &mut Generator) {
    let [rows, depth, columns] = [6, 24, 40].map(|most| g.rng.int(1, most));
    let ty = |dims: [i64; 2]| TensorType::new(DType::U8, dims.map(Dim::from).to_vec());
    let (turned, x) = (g.rng.one_in(2), ty([rows, depth]));
    let (w, axis) = if turned { (ty([depth, columns]), 0) } else { (ty([columns, depth]), 1) };
    bytes(g, Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![axis] }, [&x, &w]);
}

/// A value of that type, of small numbers.
pub(super) fn small(g: &mut Generator, ty: &TensorType) -> ValueId {
    let (x, share) = (g.of_type(ty), 1.0 / 1024.0);
    let by = g.splat(ty, share);
    let fact = rounded(g.fact(x).bound * share);
    g.emit(Op::Binary(BinaryOp::Mul), &[x, by], fact)
}

/// Rows by a matrix of few bits, of all numbers that these can be.
pub(super) fn dot_stored(g: &mut Generator) {
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

pub(super) fn conv_of_bytes(g: &mut Generator) {
    let (attributes, [mut x, w, _]) = conv_case_of(g, DType::U8, 12);
    if g.rng.one_in(3) {
        return bytes(g, Op::Conv(attributes), [&x, &w]);
    }
    x.shape.0[1..].rotate_left(1);
    bytes(g, Op::ConvLast(attributes), [&x, &w]);
}

pub(super) fn conv_input_grad(g: &mut Generator) {
    let (attributes, [x, w, y]) = conv_case(g);
    let (dy, w) = (g.of_type(&y), g.of_type(&w));
    let fact = product_bound(g, dy, w);
    g.emit(Op::ConvInputGrad { attributes, input: x.shape[2..].to_vec() }, &[dy, w], fact);
}

pub(super) fn conv_input_grad_of_bytes(g: &mut Generator) {
    let (attributes, [x, w, y]) = conv_case_of(g, DType::U8, 12);
    let mut dy = TensorType::new(DType::U8, y.shape);
    let input = x.shape[2..].to_vec();
    if g.rng.one_in(2) {
        return bytes(g, Op::ConvInputGrad { attributes, input }, [&dy, &w]);
    }
    dy.shape.0[1..].rotate_left(1);
    bytes(g, Op::ConvInputGradLast { attributes, input }, [&dy, &w]);
}

pub(super) fn conv_input_grad_last(g: &mut Generator) {
    let (attributes, [x, w, mut y]) = conv_case(g);
    y.shape.0[1..].rotate_left(1);
    let (dy, w) = (g.of_type(&y), g.of_type(&w));
    let fact = product_bound(g, dy, w);
    g.emit(Op::ConvInputGradLast { attributes, input: x.shape[2..].to_vec() }, &[dy, w], fact);
}

pub(super) fn conv_weight_grad(g: &mut Generator) {
    let (attributes, [x, w, y]) = conv_case(g);
    let (x, dy) = (g.of_type(&x), g.of_type(&y));
    let fact = product_bound(g, x, dy);
    g.emit(Op::ConvWeightGrad { attributes, kernel: w.shape[2..].to_vec() }, &[x, dy], fact);
}

/// Geometry that fits, and the types of `x` and `y`.
pub(super) fn window_case(g: &mut Generator) -> (WindowAttributes, [TensorType; 2]) {
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

pub(super) fn window(g: &mut Generator) {
    let op = g.rng.choose(WindowOp::ALL);
    let (attributes, [x, _]) = window_case(g);
    let x = g.of_type(&x);
    let fact = g.fact(x);
    let fact = if op == WindowOp::Max { fact } else { rounded(fact.bound * 9.0) };
    g.emit(Op::Window { op, attributes }, &[x], fact);
}

/// Windows over what a convolution with channels last makes, channel by channel.
pub(super) fn window_of_conv(g: &mut Generator) {
    let (attributes, [mut x, w, _]) = conv_case(g);
    x.shape.0[1..].rotate_left(1);
    let (x, w) = (g.of_type(&x), g.of_type(&w));
    let fact = product_bound(g, x, w);
    let y = g.emit(Op::ConvLast(attributes), &[x, w], fact);
    let ty = g.ty(y);
    let zeros = g.splat(&ty, 0.0);
    let y = g.emit(Op::Binary(BinaryOp::Max), &[y, zeros], fact);
    let dims = ty.shape.0;
    let one_channel = [&dims[..1], &[Dim::from(1i64)], &dims[1..]].concat();
    let y = g.emit(Op::Reshape(one_channel.into()), &[y], fact);
    let places = dims.len() - 2;
    let size: Vec<i64> = dims[1..=places].iter().map(|dim| g.rng.int(1, (dim.size() as i64).min(2))).collect();
    let list = |of: &dyn Fn(usize) -> i64, last: i64| (0..places).map(of).chain([last]).map(Dim::from).collect();
    let overlap = i64::from(g.rng.one_in(3));
    let attributes = WindowAttributes {
        size: list(&|axis| size[axis], 1),
        stride: list(&|axis| (size[axis] - overlap).max(1), 1),
        low: list(&|_| 0, 0),
        high: list(&|_| 0, 0),
    };
    let op = g.rng.choose(WindowOp::ALL);
    let fact = if op == WindowOp::Max { fact } else { rounded(fact.bound * 4.0) };
    g.emit(Op::Window { op, attributes }, &[y], fact);
}

pub(super) fn window_of_bytes(g: &mut Generator) {
    let (attributes, [x, _]) = window_case(g);
    let x = g.of_type(&TensorType::new(DType::U8, x.shape));
    let fact = Fact { bound: 9.0, exact: true };
    let largest = g.emit(Op::Window { op: WindowOp::Max, attributes }, &[x], fact);
    let float = g.options.float;
    g.emit(Op::Cast(float), &[largest], fact);
}

pub(super) fn window_grad(g: &mut Generator) {
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

pub(super) fn window_pick(g: &mut Generator) {
    let (attributes, [x, _]) = window_case(g);
    let (at, v) = (g.of_type(&x), g.of_type(&x));
    let at = g.exact(at);
    let fact = g.fact(v);
    g.emit(Op::WindowPick(attributes), &[at, v], fact);
}
