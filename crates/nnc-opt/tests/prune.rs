//! Pruned weights stay at zero whatever a training step does, and what is told of them is what they are used for.

use nnc_graph::testing::{Rng, random_tensor};
use nnc_graph::{BinaryOp, DType, Graph, Op, OutputKind, Shape, Tensor, TensorType, UnaryOp, interpret};
use nnc_opt::prune::{Use, hold, known, mask_path, uses};
use std::collections::{BTreeMap, BTreeSet};

fn float(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, Shape::of(dims))
}

/// `w <- w - x`, and `$optimizer.w.$fast <- w - x`.
fn step() -> Graph {
    let mut graph = Graph::new("step");
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: float(&[2, 3]) }, &[]);
    let fast = graph.emit(Op::State { path: "$optimizer.w.$fast".to_owned(), ty: float(&[2, 3]) }, &[]);
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: float(&[2, 3]) }, &[]);
    let new = graph.emit(Op::Binary(BinaryOp::Sub), &[w, x]);
    let other = graph.emit(Op::Binary(BinaryOp::Sub), &[fast, x]);
    graph.add_output("w", new, OutputKind::Update(w));
    graph.add_output("$optimizer.w.$fast", other, OutputKind::Update(fast));
    graph
}

#[test]
fn a_held_step_writes_zeros_where_the_mask_does_not_hold() {
    let held = hold(&step(), &BTreeSet::from(["w".to_owned()]), &|_| None);
    let mut rng = Rng::new(1);
    let mask = Tensor::from_f64(DType::Bool, &[2, 3], &[1., 0., 1., 0., 0., 1.]);
    let mut given: BTreeMap<String, Tensor> = ["w", "$optimizer.w.$fast", "x"]
        .map(|name| (name.to_owned(), random_tensor(&mut rng, DType::F32, &[2, 3])))
        .into_iter()
        .collect();
    given.insert(mask_path("w"), mask.clone());
    let run = interpret::run(&held, &given).unwrap();
    for output in held.outputs() {
        let written = run.value(output.value).to_f64();
        let kept = mask.to_f64();
        assert!(written.iter().zip(&kept).all(|(&value, &kept)| (value != 0.0) == (kept == 1.0)), "{written:?}");
    }
    assert!(hold(&step(), &BTreeSet::new(), &|_| None).nodes().eq(step().nodes()));
}

#[test]
fn a_mean_is_that_of_its_own_parameter() {
    let mut graph = Graph::new("step");
    let ty = || TensorType::new(DType::F32, Shape::of(&[4]));
    for path in ["a.w", "big.a.w"] {
        let w = graph.emit(Op::Param { path: path.to_owned(), ty: ty() }, &[]);
        for step in ["", "first."] {
            let path = format!("$optimizer.{step}{path}.$fast");
            let fast = graph.emit(Op::State { path: path.clone(), ty: ty() }, &[]);
            let new = graph.emit(Op::Binary(BinaryOp::Add), &[w, fast]);
            graph.add_output(&path, new, OutputKind::Update(fast));
        }
    }
    let held = hold(&graph, &BTreeSet::from(["a.w".to_owned()]), &|_| None);
    nnc_graph::verify::verify(&held).unwrap();
    let masks = held.outputs().iter().map(|output| matches!(held.definition(output.value).op, Op::Select));
    assert_eq!(masks.collect::<Vec<_>>(), [true, true, false, false]);
}

#[test]
fn what_follows_a_pruned_layer_has_its_zeros() {
    let mut graph = Graph::new("step");
    for path in ["online.w", "online_too.w", "target.w"] {
        let ty = TensorType::new(DType::F32, Shape::of(&[4]));
        let w = graph.emit(Op::Param { path: path.to_owned(), ty }, &[]);
        let new = graph.emit(Op::Unary(UnaryOp::Exp), &[w]);
        graph.add_output(path, new, OutputKind::Update(w));
    }
    let leader = |path: &str| (path == "target.w").then(|| "online.w".to_owned());
    let held = hold(&graph, &BTreeSet::from(["online.w".to_owned()]), &leader);
    let mut given: BTreeMap<String, Tensor> = ["online.w", "online_too.w", "target.w"]
        .map(|path| (path.to_owned(), Tensor::from_f64(DType::F32, &[4], &[0.5; 4])))
        .into();
    given.insert(mask_path("online.w"), Tensor::from_f64(DType::Bool, &[4], &[1., 0., 0., 1.]));
    let run = interpret::run(&held, &given).unwrap();
    let zeros: Vec<_> = run.outputs().map(|(_, value)| value.to_f64().iter().filter(|x| **x == 0.0).count()).collect();
    assert_eq!(zeros, [2, 0, 2]);
}

#[test]
fn parameters_are_what_reads_them() {
    let mut graph = Graph::new("uses");
    let mut param = |path: &str, dims: &[usize]| graph.emit(Op::Param { path: path.to_owned(), ty: float(dims) }, &[]);
    let (table, weight, bias) = (param("table", &[5, 4]), param("weight", &[3, 4]), param("bias", &[2, 3]));
    let index = TensorType::new(DType::I32, Shape::of(&[2]));
    let index = graph.emit(Op::Input { name: "i".to_owned(), ty: index }, &[]);
    let rows = graph.emit(Op::Gather { axis: 0, batch: 0 }, &[table, index]);
    let turned = graph.emit(Op::Transpose(vec![1, 0]), &[weight]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[rows, turned]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, bias]);
    graph.add_output("y", y, OutputKind::Result);
    let found = uses(&graph);
    assert_eq!(found["table"], Use::Picked);
    assert_eq!(found["weight"], Use::Multiplied { outputs: Some(0) });
    assert_eq!(found["bias"], Use::Elementwise);
    let tensor = Tensor::from_f64(DType::F32, &[3, 4], &[0.5; 12]);
    let told = known(&graph, |path| (path == "weight").then(|| tensor.clone()));
    assert!(told.nodes().any(|(_, node)| node.op == Op::Constant(tensor.clone())));
}
