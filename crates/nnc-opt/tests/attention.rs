//! Which graphs become attention groups, which do not and why, and what recomputation does for the derivative.

use nnc_graph::testing::{Attention, Mask, random_inputs};
use nnc_graph::{DType, Graph, Op, OutputKind, ReduceOp, Shape, TensorType, UnaryOp, ValueId, interpret};
use nnc_opt::fuse::{FuseOptions, GroupKind, Partition, Verdict, partition};
use nnc_opt::{Optimised, Options, optimise};

fn plain() -> Attention {
    Attention::new(&[2, 3], 32, 104, 8)
}

/// With scores made again for the derivative, however few they are.
fn optimised(graph: &Graph) -> Optimised {
    let fuse = FuseOptions { kept_scores: 0, ..FuseOptions::ALL };
    optimise(graph, &Options { fuse, ..Options::default() }).unwrap()
}

fn attentions(partition: &Partition) -> usize {
    partition.groups.iter().filter(|group| group.kind == GroupKind::Attention).count()
}

/// The reason for which a graph is not fused.
fn refusal(graph: &Graph, options: &FuseOptions) -> String {
    let groups = partition(graph, options);
    assert_eq!(attentions(&groups), 0);
    let mut decisions = groups.decisions.iter().filter(|decision| decision.kind == "attention");
    let decision = decisions.next().unwrap_or_else(|| panic!("nothing about attention in {:#?}", groups.decisions));
    assert_eq!(decision.verdict, Verdict::Refused);
    decision.why.clone()
}

fn dots(graph: &Graph) -> Vec<&nnc_graph::Node> {
    graph.nodes().map(|(_, node)| node).filter(|node| matches!(node.op, Op::Dot { .. })).collect()
}

/// The scores of a plain graph, and the weights.
fn inside(graph: &Graph) -> (ValueId, ValueId) {
    let dots = dots(graph);
    (dots[0].results[0], dots[1].operands[0])
}

#[test]
fn attention_is_one_group() {
    for mask in [Mask::None, Mask::Causal, Mask::Padding, Mask::Added] {
        let made = optimised(&plain().masked(mask).graph());
        assert_eq!(attentions(&made.partition), 1, "{mask:?}");
        let kernels = made.partition.groups.iter().filter(|group| !group.outputs.is_empty());
        let kinds: Vec<_> = kernels.map(|group| group.kind).filter(|kind| *kind != GroupKind::Map).collect();
        assert_eq!(kinds, [GroupKind::Attention], "{mask:?}");
        assert!(made.partition.decisions.iter().any(|d| d.kind == "attention" && d.verdict == Verdict::Done));
    }
}

#[test]
fn it_can_be_switched_off() {
    let graph = plain().graph();
    let off = FuseOptions { attention: false, ..FuseOptions::ALL };
    assert_eq!(refusal(&graph, &off), "switched off");
    let derived = plain().derived().graph();
    let made = optimise(&derived, &Options { fuse: off, ..Options::default() }).unwrap();
    assert_eq!(dots(&made.graph).len(), 6);
}

#[test]
fn scores_that_are_needed_elsewhere_are_stored() {
    let mut graph = plain().graph();
    let (scores, weights) = inside(&graph);
    graph.add_output("weights", weights, OutputKind::Result);
    assert!(refusal(&graph, &FuseOptions::ALL).contains("put out"));
    let mut graph = plain().graph();
    let turned = graph.emit(Op::Transpose(vec![0, 1, 3, 2]), &[scores]);
    let bent = graph.emit(Op::Unary(UnaryOp::Tanh), &[turned]);
    graph.add_output("bent", bent, OutputKind::Result);
    assert!(refusal(&graph, &FuseOptions::ALL).contains("another kernel reads the matrix"));
}

/// Whatever is reduced over rows stays inside, though, and may be put out.
#[test]
fn what_has_a_number_for_each_row_may_leave() {
    let mut graph = plain().graph();
    let (_, weights) = inside(&graph);
    let most = graph.emit(Op::Reduce { op: ReduceOp::Max, axes: vec![3] }, &[weights]);
    graph.add_output("most", most, OutputKind::Result);
    let groups = partition(&graph, &FuseOptions::ALL);
    assert_eq!(attentions(&groups), 1);
    let group = groups.groups.iter().find(|group| group.kind == GroupKind::Attention).unwrap();
    assert_eq!(group.outputs.len(), 2);
}

/// Softmax over the queries is no reduction of rows.
#[test]
fn another_axis_is_no_attention() {
    let mut graph = Graph::new("other");
    let ty = TensorType::new(DType::F32, Shape::of(&[4, 128, 128]));
    let [q, k, v] = ["q", "k", "v"].map(|name| graph.emit(Op::Input { name: name.to_owned(), ty: ty.clone() }, &[]));
    let scores = graph.emit(Op::Dot { batch: 1, a_axes: vec![2], b_axes: vec![2] }, &[q, k]);
    let e = graph.emit(Op::Unary(UnaryOp::Exp), &[scores]);
    let sum = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1] }, &[e]);
    let sum = graph.emit(Op::Broadcast { shape: Shape::of(&[4, 128, 128]), axes: vec![0, 2] }, &[sum]);
    let weights = graph.emit(Op::Binary(nnc_graph::BinaryOp::Div), &[e, sum]);
    let y = graph.emit(Op::Dot { batch: 1, a_axes: vec![2], b_axes: vec![1] }, &[weights, v]);
    graph.add_output("y", y, OutputKind::Result);
    assert_eq!(attentions(&partition(&graph, &FuseOptions::ALL)), 0);
}

#[test]
fn few_queries_are_no_matrix() {
    let graph = Attention::new(&[8], 1, 128, 16).graph();
    assert!(refusal(&graph, &FuseOptions::ALL).contains("few rows"));
}

/// The same values before and after, and one product more.
#[test]
fn the_derivative_makes_scores_again() {
    for mask in [Mask::None, Mask::Causal, Mask::Padding] {
        let graph = plain().masked(mask).derived().graph();
        let single = FuseOptions { attention: false, ..FuseOptions::ALL };
        let kept = optimise(&graph, &Options { fuse: single, ..Options::default() }).unwrap();
        let again = optimised(&graph);
        assert_eq!(dots(&kept.graph).len(), 6);
        assert_eq!(dots(&again.graph).len(), 7);
        assert_eq!(attentions(&again.partition), 2, "{mask:?}: {:#?}", again.partition.decisions);
        let given = random_inputs(&graph, 5);
        let of = |graph: &Graph| interpret::run(graph, &given).unwrap();
        let (before, after) = (of(&kept.graph), of(&again.graph));
        for (old, new) in kept.graph.outputs().iter().zip(again.graph.outputs()) {
            assert_eq!(before.value(old.value), after.value(new.value), "{} with {mask:?}", old.name);
        }
    }
}

/// Few scores stay in the caches until the derivative reads them; its own are one kernel's all the same.
#[test]
fn few_scores_are_kept_for_the_derivative() {
    let graph = plain().derived().graph();
    let kept = optimise(&graph, &Options::default()).unwrap();
    assert_eq!((dots(&kept.graph).len(), attentions(&kept.partition)), (6, 1));
    let options = FuseOptions { kept_scores: 6 * 32 * 104 * 4 - 1, ..FuseOptions::ALL };
    let again = optimise(&graph, &Options { fuse: options, ..Options::default() }).unwrap();
    assert_eq!((dots(&again.graph).len(), attentions(&again.partition)), (7, 2));
}

#[test]
fn short_rows_are_no_attention() {
    let graph = Attention::new(&[8], 64, 40, 16).graph();
    assert!(refusal(&graph, &FuseOptions::ALL).contains("short rows"));
}

/// Sums along the columns of a single matrix would be the work of one thread, so everything stays as it was.
#[test]
fn a_single_head_keeps_its_scores_for_the_derivative() {
    let made = optimised(&Attention::new(&[1], 32, 104, 8).derived().graph());
    assert_eq!(attentions(&made.partition), 0);
    assert_eq!(dots(&made.graph).len(), 6);
}

/// Two layers share a causal mask; each computes it by itself, forward and backward.
#[test]
fn a_mask_is_shared_by_layers() {
    let mut graph = Graph::new("layers");
    let shape = [4, 128, 128];
    let ty = |dtype, dims: &[usize]| TensorType::new(dtype, Shape::of(dims));
    let input = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(DType::F32, &shape) }, &[]);
    let numbers = graph.emit(Op::Iota { axis: 0, ty: ty(DType::I32, &[128]) }, &[]);
    let [rows, columns] =
        [0, 1].map(|axis| graph.emit(Op::Broadcast { shape: Shape::of(&[128, 128]), axes: vec![axis] }, &[numbers]));
    let table = graph.emit(Op::Compare(nnc_graph::CompareOp::Le), &[columns, rows]);
    let mask = graph.emit(Op::Broadcast { shape: Shape::of(&shape), axes: vec![1, 2] }, &[table]);
    let hidden = graph.splat(&ty(DType::F32, &shape), -1e30);
    let weights = ["q", "k", "v"]
        .map(|name| graph.emit(Op::Param { path: name.to_owned(), ty: ty(DType::F32, &[128, 128]) }, &[]));
    let mut x = input;
    for _ in 0..2 {
        let project = |w| graph.emit(Op::Dot { batch: 0, a_axes: vec![2], b_axes: vec![0] }, &[x, w]);
        let [q, k, v] = weights.map(project);
        let scores = graph.emit(Op::Dot { batch: 1, a_axes: vec![2], b_axes: vec![2] }, &[q, k]);
        let scores = graph.emit(Op::Select, &[mask, scores, hidden]);
        let e = graph.emit(Op::Unary(UnaryOp::Exp), &[scores]);
        let sum = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![2] }, &[e]);
        let sum = graph.emit(Op::Broadcast { shape: Shape::of(&shape), axes: vec![0, 1] }, &[sum]);
        let shares = graph.emit(Op::Binary(nnc_graph::BinaryOp::Div), &[e, sum]);
        x = graph.emit(Op::Dot { batch: 1, a_axes: vec![2], b_axes: vec![1] }, &[shares, v]);
    }
    let square = graph.emit(Op::Binary(nnc_graph::BinaryOp::Mul), &[x, x]);
    let loss = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0, 1, 2] }, &[square]);
    let gradient = graph.emit(Op::Grad, &[loss, input]);
    graph.add_output("gradient", gradient, OutputKind::Result);
    let made = optimised(&graph);
    assert_eq!(attentions(&made.partition), 4, "{:#?}", made.partition.decisions);
}
