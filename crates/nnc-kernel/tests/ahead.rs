//! What a loop makes ahead of its first step: matrices that every step multiplies by, packed once for all of them.

mod common;

use common::check;
use nnc_graph::testing::input;
use nnc_graph::{BinaryOp, BodyTypes, DType, Dim, Graph, Op, OutputKind, Scan, Shape, TensorType, UnaryOp, ValueId};
use nnc_kernel::Lowered;
use nnc_kernel::ir::Target;
use nnc_opt::fuse::{FuseOptions, partition};
use std::sync::Arc;

const ROWS: usize = 5;
const WIDTH: usize = 37;

fn ty(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, Shape::of(dims))
}

/// `h = tanh(h * w) + x`, over so many steps; `turned` multiplies by the transpose. Operands are h, x, w.
fn recurrence(steps: usize, turned: bool) -> Scan {
    let (state, matrix) = (ty(&[ROWS, WIDTH]), ty(&[WIDTH, WIDTH]));
    let types = BodyTypes { carries: vec![state.clone()], slices: vec![state], captures: vec![matrix] };
    let mut body = Scan::inputs("recurrence", &types);
    let dot = Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![usize::from(turned)] };
    let product = body.emit(dot, &[ValueId(1), ValueId(3)]);
    let bent = body.emit(Op::Unary(UnaryOp::Tanh), &[product]);
    let next = body.emit(Op::Binary(BinaryOp::Add), &[bent, ValueId(2)]);
    Scan::outputs(&mut body, &[next], &[next]);
    Scan { body: Arc::new(body), length: Dim::from(steps), reverse: false, carries: 1, slices: 1 }
}

fn loop_of(steps: usize, turned: bool) -> Graph {
    let mut graph = Graph::new("loop");
    let h = input(&mut graph, "h", &[ROWS, WIDTH]);
    let x = input(&mut graph, "x", &[steps, ROWS, WIDTH]);
    let w = input(&mut graph, "w", &[WIDTH, WIDTH]);
    let results = graph.add(Op::Scan(recurrence(steps, turned)), &[h, x, w]).unwrap();
    graph.add_output("y", results[1], OutputKind::Result);
    graph
}

/// A loop over matrices, in whose body a loop multiplies by the one of the step.
fn loop_of_loops(matrices: usize, steps: usize) -> Graph {
    let (state, matrix) = (ty(&[ROWS, WIDTH]), ty(&[WIDTH, WIDTH]));
    let types = BodyTypes { carries: vec![state], slices: vec![matrix], captures: vec![ty(&[steps, ROWS, WIDTH])] };
    let mut body = Scan::inputs("outer", &types);
    let inner = body.add(Op::Scan(recurrence(steps, false)), &[ValueId(1), ValueId(3), ValueId(2)]).unwrap();
    Scan::outputs(&mut body, &[inner[0]], &[inner[1]]);
    let mut graph = Graph::new("loops");
    let h = input(&mut graph, "h", &[ROWS, WIDTH]);
    let ws = input(&mut graph, "ws", &[matrices, WIDTH, WIDTH]);
    let x = input(&mut graph, "x", &[steps, ROWS, WIDTH]);
    let scan = Scan { body: Arc::new(body), length: Dim::from(matrices), reverse: true, carries: 1, slices: 1 };
    let results = graph.add(Op::Scan(scan), &[h, ws, x]).unwrap();
    graph.add_output("y", results[1], OutputKind::Result);
    graph
}

/// How often each kernel of that name runs in one run of the program.
fn runs(lowered: &Lowered, name: &str) -> Vec<u64> {
    lowered.report.iter().filter(|kernel| kernel.name == name).map(|kernel| kernel.runs).collect()
}

fn lowered(graph: &Graph) -> Lowered {
    nnc_kernel::lower(graph, &partition(graph, &FuseOptions::ALL), &Target::new(8)).unwrap()
}

#[test]
fn a_captured_matrix_is_packed_before_the_loop() {
    for turned in [false, true] {
        let graph = loop_of(6, turned);
        let lowered = lowered(&graph);
        assert_eq!((runs(&lowered, "pack"), runs(&lowered, "dot")), (vec![1], vec![6]));
        assert_eq!(lowered.program.prepare, 0, "the matrix is another in the next run");
        check(&graph, 3).unwrap();
    }
}

#[test]
fn two_steps_pack_for_themselves() {
    let graph = loop_of(2, false);
    assert_eq!(runs(&lowered(&graph), "pack"), Vec::<u64>::new());
    check(&graph, 3).unwrap();
}

#[test]
fn a_loop_in_a_loop_packs_in_every_step_of_the_outer_one() {
    let graph = loop_of_loops(2, 4);
    let lowered = lowered(&graph);
    assert_eq!((runs(&lowered, "pack"), runs(&lowered, "dot")), (vec![2], vec![8]));
    check(&graph, 3).unwrap();
}

/// `y = x * w`, with a count of examples that the run updates, or with weights that it updates.
fn product_that_updates(path: &str) -> Graph {
    let mut graph = Graph::new("evaluation");
    let x = input(&mut graph, "x", &[ROWS, WIDTH]);
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(&[WIDTH, WIDTH]) }, &[]);
    let seen = graph.emit(Op::State { path: "seen".to_owned(), ty: ty(&[WIDTH, WIDTH]) }, &[]);
    let scaled = graph.emit(Op::Unary(UnaryOp::Tanh), &[w]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, scaled]);
    let leaf = if path == "w" { w } else { seen };
    let next = graph.emit(Op::Binary(BinaryOp::Add), &[leaf, leaf]);
    graph.add_output("y", y, OutputKind::Result);
    graph.add_output(path, next, OutputKind::Update(leaf));
    graph
}

#[test]
fn weights_are_prepared_once_beside_a_state_that_changes() {
    let graph = product_that_updates("seen");
    let program = lowered(&graph);
    let once: Vec<&str> = program.report.iter().filter(|kernel| kernel.runs == 0).map(|kernel| &*kernel.name).collect();
    assert!(once.contains(&"map"), "the tanh of the weights: {once:?}");
    assert_eq!(program.report.iter().filter(|kernel| kernel.runs > 0).count(), 2, "the product and the count");
    check(&graph, 3).unwrap();
}

#[test]
fn weights_that_change_are_prepared_in_every_run() {
    let graph = product_that_updates("w");
    assert_eq!(lowered(&graph).program.prepare, 0);
    check(&graph, 3).unwrap();
}
