//! Random loops: recurrent networks with gates, several carried values, reverse steps, and loops in loops.

use super::generator::{Fact, Generator};
use crate::{BinaryOp, BodyTypes, DType, Dim, Graph, Op, Scan, Shape, TensorType, UnaryOp, ValueId};
use std::sync::Arc;

/// The sizes of a loop: steps, rows, elements of a slice, elements of what is carried.
struct Sizes {
    steps: usize,
    rows: usize,
    slice: usize,
    state: usize,
}

/// What a random loop is like.
#[derive(Clone, Copy)]
struct Traits {
    gated: bool,
    with_index: bool,
    stacks_carry: bool,
    nested: bool,
    reverse: bool,
}

/// A loop over a random sequence.
pub(super) fn scan(g: &mut Generator) {
    let mut size = |most: i64| g.rng.int(1, most) as usize;
    let sizes = Sizes { steps: size(4), rows: size(3), slice: size(3), state: size(3) };
    let traits = Traits {
        gated: g.rng.one_in(2),
        with_index: g.rng.one_in(2),
        stacks_carry: g.rng.one_in(3),
        nested: g.rng.one_in(3),
        reverse: g.rng.one_in(2),
    };
    let ty = |dims: &[usize]| TensorType::new(g.options.float, Shape::of(dims));
    let state = ty(&[sizes.rows, sizes.state]);
    let types = BodyTypes {
        carries: vec![state.clone(), state.clone()],
        slices: vec![ty(&[sizes.rows, sizes.slice])],
        captures: vec![ty(&[sizes.slice, sizes.state]), ty(&[sizes.state, sizes.state]), ty(&[sizes.state])],
    };
    let op = random_loop(&types, &sizes, traits);
    let sequence = ty(&[sizes.steps, sizes.rows, sizes.slice]);
    let all = [&types.carries[..], &[sequence], &types.captures[..]].concat();
    let operands: Vec<ValueId> = all.iter().map(|ty| g.of_type(ty)).collect();
    let added = g.graph.add(op, &operands);
    added.unwrap_or_else(|error| panic!("drawn to fit: {error}"));
    g.note_new(Fact { bound: 8.0, exact: false });
}

fn random_loop(types: &BodyTypes, sizes: &Sizes, traits: Traits) -> Op {
    let mut body = Scan::inputs("step", types);
    let [index, h, c, x, w, u, b] = [0, 1, 2, 3, 4, 5, 6].map(ValueId);
    let input = product(&mut body, x, w);
    let recurrent = product(&mut body, h, u);
    let spread = body.emit(Op::Broadcast { shape: body.ty(h).shape.clone(), axes: vec![1] }, &[b]);
    let mut z = binary(&mut body, BinaryOp::Add, input, recurrent);
    z = binary(&mut body, BinaryOp::Add, z, spread);
    if traits.with_index {
        let number = body.emit(Op::Cast(body.ty(h).dtype), &[index]);
        let number = body.broadcast_scalar(number, &body.ty(h).shape.clone());
        z = binary(&mut body, BinaryOp::Mul, z, number);
    }
    if traits.nested {
        z = inner_loop(&mut body, z, u, sizes);
    }
    let mut next = body.emit(Op::Unary(UnaryOp::Tanh), &[z]);
    let mut carried = c;
    if traits.gated {
        let gate = body.emit(Op::Unary(UnaryOp::Sigmoid), &[z]);
        let kept = binary(&mut body, BinaryOp::Mul, gate, c);
        carried = binary(&mut body, BinaryOp::Add, kept, next);
        carried = body.emit(Op::Unary(UnaryOp::Tanh), &[carried]);
        next = binary(&mut body, BinaryOp::Mul, gate, carried);
    }
    let stacked = if traits.stacks_carry { vec![next, h] } else { vec![next] };
    Scan::outputs(&mut body, &[next, carried], &stacked);
    let length = Dim::from(sizes.steps);
    Op::Scan(Scan { body: Arc::new(body), length, reverse: traits.reverse, carries: 2, slices: 1 })
}

/// Two steps of `z = tanh(z @ u) + index`.
fn inner_loop(graph: &mut Graph, z: ValueId, u: ValueId, sizes: &Sizes) -> ValueId {
    let ty = |value: ValueId| graph.ty(value).clone();
    let types = BodyTypes { carries: vec![ty(z)], slices: vec![], captures: vec![ty(u)] };
    let mut body = Scan::inputs("inner", &types);
    let moved = product(&mut body, ValueId(1), ValueId(2));
    let bent = body.emit(Op::Unary(UnaryOp::Tanh), &[moved]);
    let number = body.emit(Op::Cast(body.ty(bent).dtype), &[ValueId(0)]);
    let number = body.broadcast_scalar(number, &Shape::of(&[sizes.rows, sizes.state]));
    let next = binary(&mut body, BinaryOp::Add, bent, number);
    Scan::outputs(&mut body, &[next], &[]);
    let scan = Scan { body: Arc::new(body), length: Dim::from(2usize), reverse: false, carries: 1, slices: 0 };
    graph.emit(Op::Scan(scan), &[z, u])
}

fn product(graph: &mut Graph, a: ValueId, b: ValueId) -> ValueId {
    graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[a, b])
}

fn binary(graph: &mut Graph, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
    graph.emit(Op::Binary(op), &[a, b])
}

/// A loop that counts: integers only.
pub(super) fn counting_scan(g: &mut Generator) {
    let number = TensorType::scalar(DType::I64);
    let types = BodyTypes { carries: vec![number.clone()], slices: vec![], captures: vec![number.clone()] };
    let mut body = Scan::inputs("count", &types);
    let next = binary(&mut body, BinaryOp::Add, ValueId(1), ValueId(2));
    let stacked = binary(&mut body, BinaryOp::Mul, next, ValueId(0));
    Scan::outputs(&mut body, &[next], &[stacked]);
    let length = Dim::from(g.rng.int(1, 5));
    let (first, by) = (g.of_type(&number), g.of_type(&number));
    let scan = Scan { body: Arc::new(body), length, reverse: g.rng.one_in(2), carries: 1, slices: 0 };
    let added = g.graph.add(Op::Scan(scan), &[first, by]);
    added.unwrap_or_else(|error| panic!("drawn to fit: {error}"));
    g.note_new(Fact { bound: 100.0, exact: true });
}
