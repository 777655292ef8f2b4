//! Which windows join the convolution that they are over, and which do not and why.

use nnc_graph::testing::PooledConvolution;
use nnc_graph::{Graph, Op, OutputKind, UnaryOp, ValueId};
use nnc_opt::fuse::{Decision, FuseOptions, GroupKind, Partition, Verdict, partition};

fn plain() -> PooledConvolution {
    PooledConvolution::new([8, 6], [3, 16], 5, 2)
}

fn pooled(partition: &Partition) -> usize {
    partition.groups.iter().filter(|group| group.kind == GroupKind::Pooled).count()
}

fn decision(graph: &Graph, options: &FuseOptions) -> Decision {
    let groups = partition(graph, options);
    let mut decisions = groups.decisions.iter().filter(|decision| decision.kind == "pooling");
    let decision = decisions.next().unwrap_or_else(|| panic!("nothing about windows in {:#?}", groups.decisions));
    assert_eq!(pooled(&groups), usize::from(decision.verdict == Verdict::Done));
    decision.clone()
}

/// The reason for which windows stay apart.
fn refusal(pooled: &PooledConvolution) -> String {
    let decision = decision(&pooled.graph(), &FuseOptions::ALL);
    assert_eq!(decision.verdict, Verdict::Refused, "{pooled:?}");
    decision.why
}

fn result_of(graph: &Graph, is_wanted: impl Fn(&Op) -> bool) -> ValueId {
    graph.nodes().find(|(_, node)| is_wanted(&node.op)).unwrap().1.results[0]
}

#[test]
fn a_convolution_and_its_windows_are_one_group() {
    let graph = PooledConvolution { residual: true, after: true, ..plain() }.graph();
    let groups = partition(&graph, &FuseOptions::ALL);
    let kernels: Vec<_> = groups.groups.iter().filter(|group| !group.outputs.is_empty()).collect();
    assert_eq!(kernels.len(), 1, "{kernels:#?}");
    assert_eq!((kernels[0].kind, kernels[0].outputs.len()), (GroupKind::Pooled, 1));
    assert!(decision(&graph, &FuseOptions::ALL).why.contains("no memory but the caches"));
}

#[test]
fn it_can_be_switched_off() {
    let off = FuseOptions { pooling: false, ..FuseOptions::ALL };
    assert_eq!(decision(&plain().graph(), &off).why, "switched off");
}

#[test]
fn what_windows_are_over_may_leave() {
    let stored = PooledConvolution { stored: true, ..plain() };
    let graph = stored.graph();
    assert_eq!(decision(&graph, &FuseOptions::ALL).verdict, Verdict::Done);
    let groups = partition(&graph, &FuseOptions::ALL);
    let group = groups.groups.iter().find(|group| group.kind == GroupKind::Pooled).unwrap();
    assert_eq!(group.outputs.len(), 3);
    let odd = PooledConvolution { size: [7, 6], ..stored };
    assert!(refusal(&odd).contains("leave out some of its lines"));
}

#[test]
fn windows_that_share_places_stay_apart() {
    let overlapping = PooledConvolution { window: [3; 2], ..plain() };
    let padded_too = PooledConvolution { low: 1, ..overlapping.clone() };
    let across_only = PooledConvolution { window: [2, 3], ..plain() };
    for pooled in [overlapping, padded_too, across_only] {
        let why = refusal(&pooled);
        assert!(why.starts_with("its windows overlap: ") && why.contains("takes longer than to read"), "{why}");
    }
    let padded = PooledConvolution { low: 1, ..plain() };
    assert!(refusal(&padded).starts_with("its windows are padded: "));
}

/// What is computed of windows may need something that needs the convolution.
#[test]
fn another_kernel_between_them_keeps_them_apart() {
    let mut graph = PooledConvolution { stored: true, ..plain() }.graph();
    let image = graph.outputs().iter().find(|output| output.name == "image").unwrap().value;
    let y = graph.outputs().iter().find(|output| output.name == "y").unwrap().value;
    let last = graph.emit(Op::Reduce { op: nnc_graph::ReduceOp::Sum, axes: vec![0, 1, 2] }, &[image]);
    let shape = graph.ty(y).shape.clone();
    let last = graph.emit(Op::Broadcast { shape, axes: vec![3] }, &[last]);
    let sum = graph.emit(Op::Binary(nnc_graph::BinaryOp::Add), &[y, last]);
    graph.add_output("sum", sum, OutputKind::Result);
    let decision = decision(&graph, &FuseOptions::ALL);
    assert!(decision.verdict == Verdict::Done || decision.why.contains("between"), "{decision:?}");
}

/// Of two poolings of one image one is taken with it, and the other reads what is stored.
#[test]
fn of_two_windows_one_joins() {
    let mut graph = plain().graph();
    let window = result_of(&graph, |op| matches!(op, Op::Window { .. }));
    let image = graph.definition(window).operands[0];
    let op = graph.definition(window).op.clone();
    let bent = graph.emit(Op::Unary(UnaryOp::Tanh), &[image]);
    let other = graph.emit(op, &[bent]);
    graph.add_output("other", other, OutputKind::Result);
    assert_eq!(pooled(&partition(&graph, &FuseOptions::ALL)), 1);
}
