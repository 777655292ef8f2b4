//! Small graphs whose results are known by hand.

use super::*;
use crate::{DType, Dim, ReduceOp, Shape, TensorType, UnaryOp, WindowAttributes, WindowOp};

fn given(pairs: &[(&str, Tensor)]) -> BTreeMap<String, Tensor> {
    pairs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
}

fn input(graph: &mut Graph, name: &str, dims: &[usize]) -> ValueId {
    graph.emit(Op::Input { name: name.to_owned(), ty: TensorType::new(DType::F32, Shape::of(dims)) }, &[])
}

fn tensor(dims: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F32, dims, values)
}

#[test]
fn a_matrix_product() {
    let mut graph = Graph::new("product");
    let (a, b) = (input(&mut graph, "a", &[2, 2]), input(&mut graph, "b", &[2, 2]));
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[a, b]);
    graph.add_output("y", y, OutputKind::Result);
    let inputs = given(&[("a", tensor(&[2, 2], &[1., 2., 3., 4.])), ("b", tensor(&[2, 2], &[5., 6., 7., 8.]))]);
    assert_eq!(run(&graph, &inputs).unwrap().output("y").unwrap().to_f64(), [19., 22., 43., 50.]);
}

#[test]
fn a_maximum_window_and_its_transposes() {
    let mut graph = Graph::new("pool");
    let x = input(&mut graph, "x", &[1, 1, 2, 4]);
    let dy = input(&mut graph, "dy", &[1, 1, 1, 2]);
    let two = || vec![Dim::from(2), Dim::from(2)];
    let none = || vec![Dim::from(0), Dim::from(0)];
    let attributes = WindowAttributes { size: two(), stride: two(), low: none(), high: none() };
    let y = graph.emit(Op::Window { op: WindowOp::Max, attributes: attributes.clone() }, &[x]);
    let spatial = vec![Dim::from(2), Dim::from(4)];
    let dx = graph.emit(Op::WindowGrad { op: WindowOp::Max, attributes: attributes.clone(), input: spatial }, &[x, dy]);
    let picked = graph.emit(Op::WindowPick(attributes), &[x, x]);
    for (name, value) in [("y", y), ("dx", dx), ("picked", picked)] {
        graph.add_output(name, value, OutputKind::Result);
    }
    let inputs = given(&[
        ("x", tensor(&[1, 1, 2, 4], &[1., 5., 7., 7., 5., 2., 0., 7.])),
        ("dy", tensor(&[1, 1, 1, 2], &[10., 20.])),
    ]);
    let run = run(&graph, &inputs).unwrap();
    assert_eq!(run.output("y").unwrap().to_f64(), [5., 7.]);
    assert_eq!(run.output("picked").unwrap().to_f64(), [5., 7.]);
    assert_eq!(run.output("dx").unwrap().to_f64(), [0., 10., 20., 0., 0., 0., 0., 0.]);
}

#[test]
fn a_wrong_type_and_a_missing_input_are_errors() {
    let mut graph = Graph::new("errors");
    let x = input(&mut graph, "x", &[2]);
    graph.add_output("x", x, OutputKind::Result);
    assert_eq!(run(&graph, &given(&[])).unwrap_err().to_string(), "`x` was not given");
    let wrong = given(&[("x", tensor(&[3], &[0.; 3]))]);
    assert_eq!(run(&graph, &wrong).unwrap_err().to_string(), "`x` is f32[2], but f32[3] was given");
}

#[test]
fn an_index_out_of_range_stops_the_run() {
    let mut graph = Graph::new("gather");
    let x = input(&mut graph, "x", &[3, 2]);
    let at = graph.emit(Op::Constant(Tensor::from_f64(DType::I32, &[2], &[2., 3.])), &[]);
    graph.emit(Op::Gather { axis: 0, batch: 0 }, &[x, at]);
    let error = run(&graph, &given(&[("x", tensor(&[3, 2], &[0.; 6]))])).unwrap_err();
    assert_eq!(error, InterpretError::OutOfRange { node: NodeId(2), fault: Fault { index: 3, length: 1, size: 3 } });
    assert!(error.to_string().ends_with(": 3 is not in 0..3"), "{error}");
}

#[test]
fn a_slice_that_reaches_too_far_is_told_where_it_may_begin() {
    let mut graph = Graph::new("slice");
    let x = input(&mut graph, "x", &[5]);
    let start = graph.emit(Op::Constant(Tensor::from_f64(DType::I64, &[], &[4.])), &[]);
    graph.emit(Op::DynamicSlice { axis: 0, size: Dim::from(2i64) }, &[x, start]);
    let error = run(&graph, &given(&[("x", tensor(&[5], &[0.; 5]))])).unwrap_err();
    assert_eq!(error, InterpretError::OutOfRange { node: NodeId(2), fault: Fault { index: 4, length: 2, size: 5 } });
    assert!(error.to_string().ends_with(": 4 is not in 0..4, where 2 of the 5 on the axis may begin"), "{error}");
}

#[test]
fn the_first_node_that_makes_a_nan_is_found() {
    let mut graph = Graph::new("nan");
    let x = input(&mut graph, "x", &[2]);
    let logarithm = graph.emit(Op::Unary(UnaryOp::Log), &[x]);
    graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[logarithm]);
    let run = run(&graph, &given(&[("x", tensor(&[2], &[1., -1.]))])).unwrap();
    assert_eq!(run.first_non_finite(&graph), Some(logarithm));
}

#[test]
fn the_error_function_agrees_with_tables() {
    let known = [(0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9), (2.0, 0.995_322_265_018_952_7)];
    for (x, y) in known.into_iter().chain([(3.0, 0.999_977_909_503_001_4), (-0.1, -0.112_462_916_018_284_9)]) {
        assert!((elementwise::erf(x) - y).abs() < 1e-15, "erf({x})");
    }
}
