//! Windows and their gradients: of planes and of images with channels last, padded, overlapping and apart.

mod common;

use common::{holds, lowered_run, put_out};
use nnc_graph::testing::{input, random_inputs};
use nnc_graph::{BinaryOp, DType, Dim, Graph, Op, OutputKind, Tensor, UnaryOp, WindowAttributes, WindowOp, interpret};
use nnc_opt::fuse::FuseOptions;
use std::collections::BTreeMap;

fn pair(a: usize, b: usize) -> Vec<Dim> {
    vec![Dim::from(a), Dim::from(b)]
}

#[test]
fn pooling_in_pairs_and_not() {
    for (size, stride, padding, dims) in [
        (2, 2, 0, [2, 3, 8, 14]),
        (2, 2, 0, [1, 2, 9, 11]),
        (3, 2, 1, [2, 2, 9, 10]),
        (3, 3, 0, [1, 2, 9, 12]),
        (3, 2, 1, [1, 2, 9, 40]),
        (3, 2, 0, [1, 1, 7, 35]),
        (3, 1, 1, [1, 2, 5, 21]),
        (5, 2, 2, [1, 1, 8, 37]),
    ] {
        let at = WindowAttributes {
            size: pair(size, size),
            stride: pair(stride, stride),
            low: pair(padding, padding),
            high: pair(padding, padding),
        };
        for op in [WindowOp::Max, WindowOp::Sum] {
            holds(pooling(&dims, op, &at), &[4, 8, 16]);
        }
    }
}

/// Pooling, and its transpose of a cotangent that is made of its result.
fn pooling(dims: &[usize], op: WindowOp, at: &WindowAttributes) -> Graph {
    let mut graph = Graph::new("pool");
    let x = input(&mut graph, "x", dims);
    let y = graph.emit(Op::Window { op, attributes: at.clone() }, &[x]);
    let dy = graph.emit(Op::Unary(UnaryOp::Tanh), &[y]);
    let operands = if op == WindowOp::Max { vec![x, dy] } else { vec![dy] };
    let input = dims[2..].iter().map(|&size| Dim::from(size)).collect();
    let dx = graph.emit(Op::WindowGrad { op, attributes: at.clone(), input }, &operands);
    let dx = graph.emit(Op::Binary(BinaryOp::Mul), &[dx, x]);
    put_out(&mut graph, dx);
    graph.add_output("pooled", y, OutputKind::Result);
    graph
}

/// Windows of images with channels last: of one element along the innermost axis.
#[test]
fn window_gradients_of_single_elements() {
    let cases = [
        ([2, 1, 6, 4, 19], [2, 2, 1], [2, 2, 1], [0, 0, 0]),
        ([2, 1, 7, 6, 11], [3, 3, 1], [2, 2, 1], [1, 1, 0]),
        ([1, 1, 5, 5, 8], [3, 2, 1], [1, 1, 1], [0, 0, 0]),
        ([1, 1, 6, 6, 5], [2, 3, 1], [3, 1, 1], [1, 2, 0]),
        ([2, 1, 4, 5, 21], [3, 3, 1], [1, 1, 1], [1, 1, 0]),
        ([1, 1, 2, 3, 7], [5, 5, 1], [1, 1, 1], [2, 2, 0]),
        ([1, 1, 8, 8, 3], [7, 7, 1], [1, 1, 1], [3, 3, 0]),
    ];
    for (dims, size, stride, low) in cases {
        for op in [WindowOp::Max, WindowOp::Sum] {
            let all = |numbers: [usize; 3]| numbers.map(Dim::from).to_vec();
            let at = WindowAttributes { size: all(size), stride: all(stride), low: all(low), high: all(low) };
            holds(pooling(&dims, op, &at), &[4, 8, 16]);
        }
    }
}

/// At a border, too, the first maximum inside gets all of a cotangent: where nothing is larger than what is beside the
/// image, where elements are equal, and where one is no number.
#[test]
fn window_gradients_of_infinities_and_ties() {
    let mut graph = Graph::new("pool");
    let [x, dy] = ["x", "dy"].map(|name| input(&mut graph, name, &[1, 1, 4, 4, 17]));
    let all = |numbers: [i64; 3]| numbers.map(Dim::from).to_vec();
    let at = WindowAttributes { size: all([3, 3, 1]), stride: all([1; 3]), low: all([1, 1, 0]), high: all([1, 1, 0]) };
    let input = [4, 4, 17].map(Dim::from).to_vec();
    let dx = graph.emit(Op::WindowGrad { op: WindowOp::Max, attributes: at, input }, &[x, dy]);
    graph.add_output("dx", dx, OutputKind::Result);
    let mut given = random_inputs(&graph, 5);
    let numbers = (0..16 * 17).map(|element| match (element / 17, element % 17) {
        (_, 0..4) => f64::NEG_INFINITY,
        (place, 4..8) => f64::from(place % 3),
        (5, 8..12) => f64::NAN,
        (place, _) => f64::from(place * 7 % 5),
    });
    let numbers: Vec<f64> = numbers.collect();
    given.insert("x".to_owned(), Tensor::from_f64(DType::F32, &[1, 1, 4, 4, 17], &numbers));
    let expected = interpret::run(&graph, &given).unwrap().value(dx).to_f64();
    for lanes in [4, 8, 16] {
        let run = lowered_run(&graph, &given, &FuseOptions::ALL, lanes).unwrap();
        let found = run.outputs["dx"].to_f64();
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= 1e-6, "{lanes} lanes, element {at}: {found} instead of {expected}");
        }
    }
}

/// Windows of one element along the innermost axis: every border, places that all reach into padding, windows larger
/// than the image or wholly in padding, one and three axes of places, and tasks that begin and end within a line.
#[test]
fn windows_of_images_with_channels_last() {
    let mut graphs = Vec::new();
    let mut add = |dims: &[usize], size: &[usize], stride: &[usize], low: &[usize], high: &[usize]| {
        let all = |numbers: &[usize]| numbers.iter().map(|&number| Dim::from(number)).collect();
        let at = WindowAttributes { size: all(size), stride: all(stride), low: all(low), high: all(high) };
        for op in [WindowOp::Max, WindowOp::Sum] {
            let mut graph = Graph::new("windows");
            let x = input(&mut graph, "x", dims);
            let y = graph.emit(Op::Window { op, attributes: at.clone() }, &[x]);
            put_out(&mut graph, y);
            graphs.push(graph);
        }
    };
    add(&[2, 3, 6, 5, 19], &[3, 3, 1], &[1, 1, 1], &[1, 1, 0], &[1, 1, 0]);
    add(&[1, 1, 40, 23, 80], &[3, 2, 1], &[2, 1, 1], &[1, 0, 0], &[0, 1, 0]);
    add(&[1, 1, 2, 3, 9], &[5, 5, 1], &[1, 2, 1], &[2, 2, 0], &[2, 2, 0]);
    add(&[1, 1, 4, 4, 9], &[2, 2, 1], &[2, 2, 1], &[2, 0, 0], &[0, 2, 0]);
    add(&[3, 1, 7, 20], &[3, 1], &[2, 1], &[1, 0], &[1, 0]);
    add(&[1, 2, 4, 5, 3, 17], &[2, 3, 3, 1], &[1, 2, 1, 1], &[0, 1, 1, 0], &[1, 1, 1, 0]);
    graphs.into_iter().for_each(|graph| holds(graph, &[4, 8, 16]));
}

/// At the borders a maximum takes a tap of the image twice: what is no number, infinite or a zero of either sign comes
/// out as of the taps in order.
#[test]
fn padded_maxima_of_no_numbers() {
    let all = |numbers: [usize; 3]| numbers.map(Dim::from).to_vec();
    let padding = all([1, 1, 0]);
    let at = WindowAttributes { size: all([3, 3, 1]), stride: all([1, 1, 1]), low: padding.clone(), high: padding };
    let mut graph = Graph::new("windows");
    let x = input(&mut graph, "x", &[1, 1, 4, 5, 9]);
    let y = graph.emit(Op::Window { op: WindowOp::Max, attributes: at }, &[x]);
    graph.add_output("y", y, OutputKind::Result);
    let odd = [f64::NAN, 0.0, -0.0, f64::NEG_INFINITY, -1.0, 0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, -2.0, -0.0];
    let numbers: Vec<f64> = (0..180).map(|at| odd[at * at % 11]).collect();
    let given = BTreeMap::from([("x".to_owned(), Tensor::from_f64(DType::F32, &[1, 1, 4, 5, 9], &numbers))]);
    let expected = interpret::run(&graph, &given).unwrap();
    for lanes in [4, 8, 16] {
        let ours = lowered_run(&graph, &given, &FuseOptions::ALL, lanes).unwrap();
        assert_eq!(ours.outputs["y"].bytes(), expected.value(y).bytes(), "{lanes} lanes");
    }
}
