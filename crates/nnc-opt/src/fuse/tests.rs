//! What joins and what does not, on small graphs.

use super::*;
use nnc_graph::{BinaryOp, DType, Dim, Op, OutputKind, ReduceOp, Shape, TensorType, UnaryOp};

fn input(graph: &mut Graph, name: &str, dims: &[usize]) -> ValueId {
    graph.emit(Op::Input { name: name.to_owned(), ty: TensorType::new(DType::F32, Shape::of(dims)) }, &[])
}

fn kernels(partition: &Partition) -> Vec<GroupKind> {
    let kinds = partition.groups.iter().map(|group| group.kind);
    kinds.filter(|kind| !matches!(kind, GroupKind::Leaf | GroupKind::View)).collect()
}

fn repeat(graph: &mut Graph, value: ValueId, dims: &[usize], axes: &[usize]) -> ValueId {
    graph.emit(Op::Broadcast { shape: Shape::of(dims), axes: axes.to_vec() }, &[value])
}

/// `softmax(x)` over the last axis, the row kept as `[N, 1]` in between, as a library would write it.
fn softmax(graph: &mut Graph, x: ValueId, rows: usize, row: usize) -> ValueId {
    let spread = |graph: &mut Graph, value| {
        let kept = graph.emit(Op::Reshape(Shape::of(&[rows, 1])), &[value]);
        repeat(graph, kept, &[rows, row], &[0, 1])
    };
    let largest = graph.emit(Op::Reduce { op: ReduceOp::Max, axes: vec![1] }, &[x]);
    let largest = spread(graph, largest);
    let shifted = graph.emit(Op::Binary(BinaryOp::Sub), &[x, largest]);
    let e = graph.emit(Op::Unary(UnaryOp::Exp), &[shifted]);
    let total = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1] }, &[e]);
    let total = spread(graph, total);
    graph.emit(Op::Binary(BinaryOp::Div), &[e, total])
}

#[test]
fn softmax_is_one_kernel() {
    let mut graph = Graph::new("softmax");
    let x = input(&mut graph, "x", &[8, 10]);
    let y = softmax(&mut graph, x, 8, 10);
    graph.add_output("y", y, OutputKind::Result);
    let fused = partition(&graph, &FuseOptions::ALL);
    assert_eq!(kernels(&fused), vec![GroupKind::Rows]);
    let unfused = partition(&graph, &FuseOptions::NONE);
    assert_eq!(kernels(&unfused).len(), 5);
    assert!(unfused.groups.iter().all(|group| group.nodes.len() == 1));
}

#[test]
fn bias_and_activation_are_the_epilogue_of_a_dot() {
    let mut graph = Graph::new("dense");
    let x = input(&mut graph, "x", &[8, 3]);
    let w = input(&mut graph, "w", &[3, 5]);
    let b = input(&mut graph, "b", &[5]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    let b = repeat(&mut graph, b, &[8, 5], &[1]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, b]);
    let y = graph.emit(Op::Unary(UnaryOp::Tanh), &[y]);
    graph.add_output("y", y, OutputKind::Result);
    let fused = partition(&graph, &FuseOptions::ALL);
    assert_eq!(kernels(&fused), vec![GroupKind::Anchor]);
    assert_eq!(fused.groups.last().unwrap().outputs, vec![y]);
    let plain = FuseOptions { epilogues: false, ..FuseOptions::ALL };
    assert_eq!(kernels(&partition(&graph, &plain)), vec![GroupKind::Anchor, GroupKind::Map]);
}

/// A state as small as a row is read along with the result, as a bias is; it is no update of a moment.
#[test]
fn a_state_that_is_repeated_is_read_by_the_epilogue() {
    let mut graph = Graph::new("normalised");
    let x = input(&mut graph, "x", &[64, 3]);
    let w = input(&mut graph, "w", &[3, 32]);
    let ty = TensorType::new(DType::F32, Shape::of(&[32]));
    let mean = graph.emit(Op::State { path: "mean".to_owned(), ty }, &[]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    let mean = repeat(&mut graph, mean, &[64, 32], &[1]);
    let y = graph.emit(Op::Binary(BinaryOp::Sub), &[y, mean]);
    graph.add_output("y", y, OutputKind::Result);
    assert_eq!(kernels(&partition(&graph, &FuseOptions::ALL)), vec![GroupKind::Anchor]);
}

#[test]
fn a_residual_that_the_dot_itself_reads_stays_outside() {
    let mut graph = Graph::new("residual");
    let x = input(&mut graph, "x", &[4, 4]);
    let h = graph.emit(Op::Unary(UnaryOp::Tanh), &[x]);
    let w = input(&mut graph, "w", &[4, 4]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[h, w]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, h]);
    graph.add_output("y", y, OutputKind::Result);
    let fused = partition(&graph, &FuseOptions::ALL);
    assert_eq!(kernels(&fused), vec![GroupKind::Map, GroupKind::Anchor]);
    assert!(fused.decisions.iter().any(|decision| decision.verdict == Verdict::Refused));
}

#[test]
fn a_transposed_reader_is_no_member() {
    let mut graph = Graph::new("transposed");
    let x = input(&mut graph, "x", &[4, 4]);
    let h = graph.emit(Op::Unary(UnaryOp::Exp), &[x]);
    let t = graph.emit(Op::Transpose(vec![1, 0]), &[h]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[h, t]);
    graph.add_output("y", y, OutputKind::Result);
    assert_eq!(kernels(&partition(&graph, &FuseOptions::ALL)), vec![GroupKind::Map, GroupKind::Map]);
}

#[test]
fn a_reshape_that_strides_cannot_say_is_a_copy() {
    let mut graph = Graph::new("copy");
    let x = input(&mut graph, "x", &[2, 3]);
    let t = graph.emit(Op::Transpose(vec![1, 0]), &[x]);
    let y = graph.emit(Op::Reshape(Shape(vec![Dim::from(6i64)])), &[t]);
    graph.add_output("y", y, OutputKind::Result);
    assert_eq!(kernels(&partition(&graph, &FuseOptions::ALL)), vec![GroupKind::Copy]);
}

/// Adam's arithmetic on a gradient belongs to the pass over its moments, even where it reads the gradient alone: else
/// the product would store two tensors in the place of one.
#[test]
fn an_update_is_a_pass_of_its_own() {
    let mut graph = Graph::new("adam");
    let (x, dy) = (input(&mut graph, "x", &[8, 64]), input(&mut graph, "dy", &[8, 64]));
    let ty = TensorType::new(DType::F32, Shape::of(&[64, 64]));
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty.clone() }, &[]);
    let m = graph.emit(Op::State { path: "m".to_owned(), ty }, &[]);
    let gradient = graph.emit(Op::Dot { batch: 0, a_axes: vec![0], b_axes: vec![0] }, &[x, dy]);
    let part = graph.emit(Op::Binary(BinaryOp::Mul), &[gradient, gradient]);
    let moment = graph.emit(Op::Binary(BinaryOp::Add), &[m, part]);
    let step = graph.emit(Op::Binary(BinaryOp::Div), &[gradient, moment]);
    let new = graph.emit(Op::Binary(BinaryOp::Sub), &[w, step]);
    graph.add_output("m", moment, OutputKind::Update(m));
    graph.add_output("w", new, OutputKind::Update(w));
    let fused = partition(&graph, &FuseOptions::ALL);
    assert_eq!(kernels(&fused), vec![GroupKind::Anchor, GroupKind::Map]);
    let product = fused.groups.iter().find(|group| group.kind == GroupKind::Anchor).unwrap();
    assert_eq!(product.outputs, vec![gradient]);
}
