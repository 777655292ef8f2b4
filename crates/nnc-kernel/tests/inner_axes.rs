//! Loops over inner axes of a tensor: the strides of what a step takes walk over the axes outside of it, so that they
//! do not walk along a kernel's domain, which has the rows of a product or of a reduction as one axis.

mod common;

use common::check;
use nnc_graph::{
    BinaryOp, BodyTypes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Scan, Shape, TensorType, UnaryOp, ValueId,
};
use std::sync::Arc;

/// Dims of what a step takes.
const SLICE: [usize; 3] = [3, 4, 6];

/// What a step makes of its slice and of a matrix of 6 by 6.
type Step = fn(&mut Graph, ValueId, ValueId) -> ValueId;

fn loop_over(axis: usize, step: Step) -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let types = BodyTypes { carries: vec![], slices: vec![ty(&SLICE)], captures: vec![ty(&[6, 6])] };
    let mut body = Scan::inputs("body", &types);
    let made = step(&mut body, ValueId(1), ValueId(2));
    Scan::outputs(&mut body, &[], &[made]);
    let mut graph = Graph::new("loop");
    let mut dims = SLICE.to_vec();
    dims.insert(axis, 5);
    let order = std::iter::once(axis).chain((0..4).filter(|&at| at != axis)).collect();
    let inputs = [("x", ty(&dims)), ("w", ty(&[6, 6]))];
    let [x, w] = inputs.map(|(name, ty)| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]));
    let turned = graph.emit(Op::Transpose(order), &[x]);
    let scan = Scan { body: Arc::new(body), length: Dim::from(5usize), reverse: false, carries: 0, slices: 1 };
    let results = graph.add(Op::Scan(scan), &[turned, w]).unwrap();
    graph.add_output("y", results[0], OutputKind::Result);
    graph
}

fn holds(step: Step) {
    for axis in 0..4 {
        check(&loop_over(axis, step), 1).unwrap_or_else(|what| panic!("axis {axis}: {what}"));
    }
}

fn dot(body: &mut Graph, t: ValueId, w: ValueId) -> ValueId {
    body.emit(Op::Dot { batch: 0, a_axes: vec![2], b_axes: vec![0] }, &[t, w])
}

fn add(body: &mut Graph, a: ValueId, b: ValueId) -> ValueId {
    body.emit(Op::Binary(BinaryOp::Add), &[a, b])
}

/// The largest element of each row, along the row.
fn largest(body: &mut Graph, t: ValueId) -> ValueId {
    let most = body.emit(Op::Reduce { op: ReduceOp::Max, axes: vec![2] }, &[t]);
    body.emit(Op::Broadcast { shape: Shape::of(&SLICE), axes: vec![0, 1] }, &[most])
}

#[test]
fn a_slice_is_added_to_a_product() {
    holds(|body, t, w| {
        let product = dot(body, t, w);
        add(body, t, product)
    });
}

#[test]
fn a_slice_is_normalised_by_its_rows() {
    holds(|body, t, _| {
        let most = largest(body, t);
        let moved = add(body, t, most);
        let all = body.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![2] }, &[moved]);
        let all = body.emit(Op::Broadcast { shape: Shape::of(&SLICE), axes: vec![0, 1] }, &[all]);
        body.emit(Op::Binary(BinaryOp::Mul), &[moved, all])
    });
}

#[test]
fn a_slice_is_added_to_a_product_and_to_a_reduction() {
    holds(|body, t, w| {
        let (product, most) = (dot(body, t, w), largest(body, t));
        let sum = add(body, product, most);
        add(body, sum, t)
    });
}

#[test]
fn a_slice_is_joined_to_a_product() {
    holds(|body, t, w| {
        let product = dot(body, t, w);
        let joined = body.emit(Op::Concat { axis: 1 }, &[t, product]);
        let bent = body.emit(Op::Unary(UnaryOp::Tanh), &[joined]);
        body.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1] }, &[bent])
    });
}

#[test]
fn views_of_a_slice_are_added_to_a_product() {
    holds(|body, t, w| {
        let product = dot(body, t, w);
        let turned = body.emit(Op::Transpose(vec![1, 0, 2]), &[t]);
        let flat = body.emit(Op::Reshape(Shape::of(&SLICE)), &[turned]);
        add(body, product, flat)
    });
    holds(|body, t, w| {
        let product = dot(body, t, w);
        let [flat, product] = [t, product].map(|value| body.emit(Op::Reshape(Shape::of(&[12, 6])), &[value]));
        add(body, flat, product)
    });
}
