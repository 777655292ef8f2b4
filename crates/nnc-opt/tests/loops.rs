//! Loops: laid out as straight code they compute the same, and the weights' gradients stand behind the backward loop.

use nnc_graph::testing::{GraphOptions, graph_of_one_op, loop_names, random_inputs};
use nnc_graph::{
    BinaryOp, BodyTypes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Scan, Shape, TensorType, UnaryOp, ValueId,
    interpret, verify,
};
use nnc_opt::{grad, unroll};
use std::sync::Arc;

fn is_double(graph: &Graph, value: ValueId) -> bool {
    graph.ty(value).dtype == DType::F64
}

/// Puts out the derivatives of the sum of each float result by each float leaf.
fn differentiate(graph: &mut Graph) {
    let results: Vec<ValueId> = graph.outputs().iter().map(|output| output.value).collect();
    let leaves = graph.nodes().filter(|(_, node)| node.op.is_leaf()).map(|(_, node)| node.results[0]);
    let leaves: Vec<ValueId> = leaves.filter(|&leaf| is_double(graph, leaf)).collect();
    let results: Vec<ValueId> = results.into_iter().filter(|&value| is_double(graph, value)).collect();
    for (number, value) in results.into_iter().enumerate() {
        let axes = (0..graph.ty(value).shape.rank()).collect();
        let loss = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes }, &[value]);
        let gradients = graph.add(Op::Grad, &[vec![loss], leaves.clone()].concat()).unwrap();
        for (at, gradient) in gradients.into_iter().enumerate() {
            graph.add_output(&format!("derivative {number} {at}"), gradient, OutputKind::Result);
        }
    }
}

fn loops(graph: &Graph) -> Vec<&Scan> {
    let loops = graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Scan(scan) => Some(scan),
        _ => None,
    });
    loops.collect()
}

#[test]
fn loops_with_derivatives_are_laid_out() {
    let options = GraphOptions { float: DType::F64, ..GraphOptions::default() };
    for name in loop_names() {
        for seed in 0..40 {
            let mut graph = graph_of_one_op(name, seed, &options).unwrap();
            differentiate(&mut graph);
            let looped = grad::expand(&graph);
            verify::verify_lowerable(&looped).unwrap();
            let straight = unroll::unroll(&looped);
            verify::verify_lowerable(&straight).unwrap();
            assert!(loops(&straight).is_empty());
            let given = random_inputs(&graph, seed);
            let (a, b) = (interpret::run(&looped, &given).unwrap(), interpret::run(&straight, &given).unwrap());
            for (output, value) in a.outputs() {
                assert_eq!(Some(value), b.output(output), "{name}, seed {seed}, {output}");
            }
        }
    }
}

/// `h = tanh(x @ w + h @ u)`: the forward and the backward loop, which carries nothing but the cotangent of `h`, and the
/// weights' gradients as one product each.
#[test]
fn gradients_of_weights_are_one_product() {
    let ty = |dims: &[usize]| TensorType::new(DType::F64, Shape::of(dims));
    let types =
        BodyTypes { carries: vec![ty(&[2, 3])], slices: vec![ty(&[2, 4])], captures: vec![ty(&[4, 3]), ty(&[3, 3])] };
    let mut body = Scan::inputs("rnn", &types);
    let product = |body: &mut Graph, a: u32, b: u32| {
        body.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[ValueId(a), ValueId(b)])
    };
    let (input, recurrent) = (product(&mut body, 2, 3), product(&mut body, 1, 4));
    let sum = body.emit(Op::Binary(BinaryOp::Add), &[input, recurrent]);
    let next = body.emit(Op::Unary(UnaryOp::Tanh), &[sum]);
    Scan::outputs(&mut body, &[next], &[next]);
    let mut graph = Graph::new("rnn");
    let leaves = [ty(&[2, 3]), ty(&[5, 2, 4]), ty(&[4, 3]), ty(&[3, 3])].into_iter().enumerate();
    let operands: Vec<ValueId> =
        leaves.map(|(at, ty)| graph.emit(Op::Input { name: format!("x{at}"), ty }, &[])).collect();
    let scan = Scan { body: Arc::new(body), length: Dim::from(5usize), reverse: false, carries: 1, slices: 1 };
    let results = graph.add(Op::Scan(scan), &operands).unwrap();
    graph.add_output("y", results[1], OutputKind::Result);
    differentiate(&mut graph);
    let expanded = grad::expand(&graph);
    let loops = loops(&expanded);
    assert_eq!(loops.len(), 2, "the forward loop is not run twice");
    assert_eq!((loops[0].reverse, loops[1].reverse), (false, true));
    assert_eq!(loops[1].carries, 1);
    let products = expanded.nodes().filter(|(_, node)| matches!(node.op, Op::Dot { .. })).count();
    assert_eq!(products, 2);
}
