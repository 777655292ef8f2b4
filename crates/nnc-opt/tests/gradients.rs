//! Every op's gradient against central differences in f64, first and second order, and the conventions at kinks.
//!
//! The loss is a weighted sum of all float results of a random graph around one op; a weighted sum of its gradients is
//! the loss whose gradient is the second order. Random arguments are off the kinks.

use nnc_graph::testing::{
    GraphOptions, Rng, graph_of_one_op, op_names, random_graph_with, random_inputs, random_tensor,
};
use nnc_graph::{
    BinaryOp, CompareOp, DType, Graph, Op, OutputKind, ReduceOp, Shape, SliceRange, Tensor, TensorType, UnaryOp,
    ValueId, interpret, verify,
};
use nnc_opt::grad;
use std::collections::BTreeMap;

const STEP: f64 = 1e-5;
/// Elements of one leaf that are checked.
const MOST_ELEMENTS: usize = 10;

type Given = BTreeMap<String, Tensor>;

fn f64_options() -> GraphOptions {
    GraphOptions { float: DType::F64, ..GraphOptions::default() }
}

fn sum_all(graph: &mut Graph, x: ValueId) -> ValueId {
    let axes = (0..graph.ty(x).shape.rank()).collect();
    graph.emit(Op::Reduce { op: ReduceOp::Sum, axes }, &[x])
}

fn mul(graph: &mut Graph, a: ValueId, b: ValueId) -> ValueId {
    graph.emit(Op::Binary(BinaryOp::Mul), &[a, b])
}

/// `Σ weight · value` with random constant weights.
fn weighted_sum(graph: &mut Graph, values: &[ValueId], rng: &mut Rng) -> ValueId {
    let mut total = graph.scalar(DType::F64, 0.0);
    for &value in values {
        let sizes = graph.ty(value).shape.sizes();
        let weights = graph.emit(Op::Constant(random_tensor(rng, DType::F64, &sizes)), &[]);
        let product = mul(graph, value, weights);
        let part = sum_all(graph, product);
        total = graph.emit(Op::Binary(BinaryOp::Add), &[total, part]);
    }
    total
}

fn float_results(graph: &Graph) -> Vec<ValueId> {
    let results = graph.outputs().iter().filter(|output| output.kind == OutputKind::Result);
    results.map(|output| output.value).filter(|&value| graph.ty(value).dtype == DType::F64).collect()
}

fn float_leaves(graph: &Graph) -> Vec<(String, ValueId)> {
    let leaves = graph.nodes().filter_map(|(_, node)| Some((node.op.leaf_name()?.to_owned(), node.results[0])));
    leaves.filter(|(_, value)| graph.ty(*value).dtype == DType::F64).collect()
}

/// Adds the loss, and its derivative by each float leaf; twice for the second order. Gives the leaves.
fn with_gradients(graph: &mut Graph, order: usize, rng: &mut Rng) -> Vec<String> {
    let leaves = float_leaves(graph);
    let wrt: Vec<ValueId> = leaves.iter().map(|(_, value)| *value).collect();
    let mut loss = weighted_sum(graph, &float_results(graph), rng);
    for _ in 1..order {
        let gradients = graph.add(Op::Grad, &[vec![loss], wrt.clone()].concat()).unwrap();
        loss = weighted_sum(graph, &gradients, rng);
    }
    let gradients = graph.add(Op::Grad, &[vec![loss], wrt].concat()).unwrap();
    graph.add_output("$loss", loss, OutputKind::Result);
    for ((name, _), gradient) in leaves.iter().zip(gradients) {
        graph.add_output(&format!("$d {name}"), gradient, OutputKind::Result);
    }
    leaves.into_iter().map(|(name, _)| name).collect()
}

fn loss_at(graph: &Graph, given: &Given, name: &str, at: usize, step: f64) -> f64 {
    let mut given = given.clone();
    let mut values = given[name].to_f64();
    values[at] += step;
    let moved = Tensor::from_f64(DType::F64, given[name].dims(), &values);
    given.insert(name.to_owned(), moved);
    interpret::run(graph, &given).unwrap().output("$loss").unwrap().to_f64()[0]
}

/// Compares; gives how many derivatives were not 0.
fn check(case: &str, mut graph: Graph, seed: u64, order: usize, tolerance: f64) -> usize {
    let leaves = with_gradients(&mut graph, order, &mut Rng::new(seed));
    verify::verify(&graph).unwrap();
    let expanded = grad::expand(&graph);
    verify::verify_lowerable(&expanded).unwrap();
    let given = random_inputs(&graph, seed);
    let run = interpret::run(&expanded, &given).unwrap();
    let mut not_zero = 0;
    for name in leaves {
        let gradient = run.output(&format!("$d {name}")).unwrap().to_f64();
        for (at, &exact) in gradient.iter().enumerate().take(MOST_ELEMENTS) {
            let above = loss_at(&expanded, &given, &name, at, STEP);
            let below = loss_at(&expanded, &given, &name, at, -STEP);
            let difference = (above - below) / (2.0 * STEP);
            let scale = 1.0 + exact.abs() + difference.abs();
            let text = nnc_graph::text::print(&graph);
            assert!(
                (exact - difference).abs() <= tolerance * scale,
                "{case}, seed {seed}, order {order}: d/d{name}[{at}] is {exact}, differences give {difference}\n{text}"
            );
            not_zero += usize::from(exact != 0.0);
        }
    }
    not_zero
}

/// Ops through which no derivative flows.
fn is_flat(name: &str) -> bool {
    [
        "unary_of_jumps",
        "not",
        "binary_int",
        "compare",
        "cast",
        "extent",
        "iota",
        "random",
        "reduce_bool",
        "reduce_int",
        "argmax",
        "dot_of_bytes",
        "conv_of_bytes",
        "conv_input_grad_of_bytes",
        "window_of_bytes",
    ]
    .contains(&name)
}

#[test]
fn first_order_of_every_op() {
    for name in op_names() {
        let cases = (0..24).map(|seed| (seed, graph_of_one_op(name, seed, &f64_options()).unwrap()));
        let not_zero: usize = cases.map(|(seed, graph)| check(name, graph, seed, 1, 1e-6)).sum();
        assert!(is_flat(name) || not_zero > 0, "{name}: every derivative is 0");
    }
}

#[test]
fn second_order_of_every_op() {
    for name in op_names() {
        for seed in 0..12 {
            check(name, graph_of_one_op(name, seed, &f64_options()).unwrap(), seed, 2, 1e-5);
        }
    }
}

#[test]
fn loops_in_first_and_second_order() {
    let mut not_zero = 0;
    for seed in 0..60 {
        let graph = graph_of_one_op("scan", seed, &f64_options()).unwrap();
        not_zero += check("scan", graph.clone(), seed, 1, 1e-6);
        not_zero += check("scan", graph, seed, 2, 1e-5);
    }
    assert!(not_zero > 500, "{not_zero}");
}

#[test]
fn random_graphs() {
    for seed in 0..40 {
        check("random", random_graph_with(seed, &GraphOptions { ops: 8, ..f64_options() }), seed, 1, 1e-4);
    }
}

#[test]
fn random_graphs_with_grad_inside_expand() {
    for seed in 0..100 {
        let graph = random_graph_with(seed, &GraphOptions { grad: true, ..GraphOptions::default() });
        verify::verify_lowerable(&grad::expand(&graph)).unwrap();
    }
}

/// A graph under construction with one f64 input `x`, and optionally `y`.
struct Case {
    graph: Graph,
}

impl Case {
    fn new() -> Self {
        Self { graph: Graph::new("case") }
    }

    fn input(&mut self, name: &str, size: usize) -> ValueId {
        let ty = TensorType::new(DType::F64, Shape::of(&[size]));
        self.graph.emit(Op::Input { name: name.to_owned(), ty }, &[])
    }

    /// The derivative of the sum of `y` by `x`.
    fn grad(&mut self, y: ValueId, x: ValueId) -> ValueId {
        let loss = sum_all(&mut self.graph, y);
        self.graph.add1(Op::Grad, &[loss, x]).unwrap()
    }

    fn run(mut self, result: ValueId, given: &[(&str, &[f64])]) -> Vec<f64> {
        self.graph.add_output("result", result, OutputKind::Result);
        let tensor = |values: &[f64]| Tensor::from_f64(DType::F64, &[values.len()], values);
        let given = given.iter().map(|(name, values)| ((*name).to_owned(), tensor(values))).collect();
        interpret::run(&grad::expand(&self.graph), &given).unwrap().output("result").unwrap().to_f64()
    }
}

fn derivative_of_unary(op: UnaryOp, at: &[f64]) -> Vec<f64> {
    let mut case = Case::new();
    let x = case.input("x", at.len());
    let y = case.graph.emit(Op::Unary(op), &[x]);
    let d = case.grad(y, x);
    case.run(d, &[("x", at)])
}

fn derivative_of_binary(op: BinaryOp, wanted: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut case = Case::new();
    let operands = [case.input("a", a.len()), case.input("b", b.len())];
    let y = case.graph.emit(Op::Binary(op), &operands);
    let d = case.grad(y, operands[wanted]);
    case.run(d, &[("a", a), ("b", b)])
}

#[test]
fn conventions_at_kinks() {
    assert_eq!(derivative_of_unary(UnaryOp::Abs, &[-2.0, 0.0, 3.0]), [-1.0, 0.0, 1.0]);
    assert_eq!(derivative_of_unary(UnaryOp::Sqrt, &[0.0, 4.0]), [f64::INFINITY, 0.25]);
    assert_eq!(derivative_of_binary(BinaryOp::Max, 0, &[1.0, 2.0, 3.0], &[2.0; 3]), [0.0, 0.5, 1.0]);
    assert_eq!(derivative_of_binary(BinaryOp::Max, 1, &[1.0, 2.0, 3.0], &[2.0; 3]), [1.0, 0.5, 0.0]);
    assert_eq!(derivative_of_binary(BinaryOp::Min, 0, &[1.0, 2.0, 3.0], &[2.0; 3]), [1.0, 0.5, 0.0]);
    assert_eq!(
        derivative_of_binary(BinaryOp::Pow, 0, &[0.0, 0.0, 0.0, 3.0], &[0.0, 1.0, 2.0, 0.0]),
        [0.0, 1.0, 0.0, 0.0]
    );
    assert_eq!(derivative_of_binary(BinaryOp::Pow, 1, &[0.0, 0.0, 1.0], &[0.0, 2.0, 5.0]), [0.0; 3]);
}

#[test]
fn a_maximum_is_shared_by_equals() {
    let mut case = Case::new();
    let x = case.input("x", 4);
    let y = case.graph.emit(Op::Reduce { op: ReduceOp::Max, axes: vec![0] }, &[x]);
    let d = case.grad(y, x);
    assert_eq!(case.run(d, &[("x", &[1.0, 3.0, 3.0, 2.0])]), [0.0, 0.5, 0.5, 0.0]);
}

#[test]
fn a_product_differentiates_at_zeros() {
    let product = Op::Reduce { op: ReduceOp::Product, axes: vec![0] };
    let mut case = Case::new();
    let x = case.input("x", 5);
    let y = case.graph.emit(product.clone(), &[x]);
    let d = case.grad(y, x);
    assert_eq!(case.run(d, &[("x", &[2.0, 0.0, 3.0, 1.0, 5.0])]), [0.0, 30.0, 0.0, 0.0, 0.0]);
    // Two zeros: the first order is 0, the mixed second order is the product of the others.
    let mut case = Case::new();
    let x = case.input("x", 3);
    let y = case.graph.emit(product, &[x]);
    let d = case.grad(y, x);
    let dd = case.grad(d, x);
    assert_eq!(case.run(dd, &[("x", &[0.0, 0.0, 7.0])]), [7.0, 7.0, 0.0]);
}

#[test]
fn the_derivative_by_a_value_on_the_way() {
    let mut case = Case::new();
    let x = case.input("x", 2);
    let square = mul(&mut case.graph, x, x);
    let y = mul(&mut case.graph, square, square);
    let d = case.grad(y, square);
    assert_eq!(case.run(d, &[("x", &[2.0, 3.0])]), [8.0, 18.0]);
}

#[test]
fn what_does_not_matter_has_derivative_zero() {
    let mut case = Case::new();
    let (x, y) = (case.input("x", 2), case.input("y", 2));
    let stopped = case.graph.emit(Op::StopGradient, &[x]);
    let condition = case.graph.emit(Op::Compare(CompareOp::Lt), &[x, y]);
    let chosen = case.graph.emit(Op::Select, &[condition, stopped, y]);
    let loss = sum_all(&mut case.graph, chosen);
    let gradients = case.graph.add(Op::Grad, &[loss, x, y]).unwrap();
    let both = case.graph.emit(Op::Concat { axis: 0 }, &gradients);
    assert_eq!(case.run(both, &[("x", &[1.0, 5.0]), ("y", &[2.0, 3.0])]), [0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn a_state_is_constant() {
    let mut case = Case::new();
    let x = case.input("x", 1);
    let state = case.graph.emit(Op::State { path: "m".to_owned(), ty: case.graph.ty(x).clone() }, &[]);
    let y = mul(&mut case.graph, x, state);
    let d = case.grad(y, x);
    assert_eq!(case.run(d, &[("x", &[3.0]), ("m", &[7.0])]), [7.0]);
}

#[test]
fn a_gradient_of_a_gradient_penalty() {
    // d/dx of (d/dx x^3)^2 = d/dx 9 x^4 = 36 x^3.
    let mut case = Case::new();
    let x = case.input("x", 2);
    let square = mul(&mut case.graph, x, x);
    let cube = mul(&mut case.graph, square, x);
    let first = case.grad(cube, x);
    let penalty = mul(&mut case.graph, first, first);
    let second = case.grad(penalty, x);
    assert_eq!(case.run(second, &[("x", &[1.0, 2.0])]), [36.0, 288.0]);
}

/// Results that are slices of `x`, which is `[4, 6]`, along an axis: `(start, size, step)` of each. All of `x` is used as well,
/// between them.
fn slices(axis: usize, ranges: &[(usize, usize, i64)]) -> Graph {
    let mut graph = Graph::new("slices");
    let ty = TensorType::new(DType::F64, Shape::of(&[4, 6]));
    let given = graph.emit(Op::Input { name: "x".to_owned(), ty }, &[]);
    let x = graph.emit(Op::Unary(UnaryOp::Tanh), &[given]);
    for (at, &(start, size, step)) in ranges.iter().enumerate() {
        let whole = |size: usize| SliceRange { start: 0usize.into(), size: size.into(), step: 1 };
        let mut all = vec![whole(4), whole(6)];
        all[axis] = SliceRange { start: start.into(), size: size.into(), step };
        let slice = graph.emit(Op::Slice(all), &[x]);
        let bent = mul(&mut graph, slice, slice);
        graph.add_output(&format!("slice {at}"), bent, OutputKind::Result);
        if at == 0 {
            let bent = mul(&mut graph, x, x);
            graph.add_output("whole", bent, OutputKind::Result);
        }
    }
    graph
}

fn count(graph: &Graph, is_one: impl Fn(&Op) -> bool) -> usize {
    graph.nodes().filter(|(_, node)| is_one(&node.op)).count()
}

/// An axis, and slices along it: start, size, step.
type Slices = (usize, &'static [(usize, usize, i64)]);

#[test]
fn slices_that_cut_a_value_to_pieces_have_one_share() {
    let in_pieces: [Slices; 3] = [
        (0, &[(2, 2, 1), (0, 2, 1)]),
        (1, &[(0, 1, 1), (3, 3, 1), (1, 2, 1)]),
        (0, &[(3, 1, 1), (1, 2, 1), (0, 1, 1)]),
    ];
    // A gap, an overlap, a piece twice, every other element.
    let others: [Slices; 4] = [
        (1, &[(0, 2, 1), (3, 3, 1)]),
        (1, &[(0, 4, 1), (3, 3, 1)]),
        (0, &[(0, 2, 1), (0, 2, 1), (2, 2, 1)]),
        (1, &[(0, 3, 2), (1, 3, 2)]),
    ];
    for (pieces, (axis, ranges)) in in_pieces.map(|case| (1, case)).into_iter().chain(others.map(|case| (0, case))) {
        let graph = slices(axis, ranges);
        let case = format!("{ranges:?} along {axis}");
        assert!(check(&case, graph.clone(), 1, 1, 1e-6) > 0 && check(&case, graph.clone(), 1, 2, 1e-5) > 0);
        let mut graph = graph;
        with_gradients(&mut graph, 1, &mut Rng::new(1));
        let expanded = grad::expand(&graph);
        let joined = count(&expanded, |op| matches!(op, Op::Concat { .. }));
        let padded = count(&expanded, |op| matches!(op, Op::Pad { .. }));
        assert_eq!((joined, padded > 0), (pieces, pieces == 0), "{case}\n{}", nnc_graph::text::print(&expanded));
    }
}

/// With zeros added, -0 would become +0.
#[test]
fn pieces_keep_the_sign_of_a_zero() {
    let mut graph = Graph::new("zeros");
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: TensorType::new(DType::F64, Shape::of(&[4])) }, &[]);
    let mut loss = graph.scalar(DType::F64, 0.0);
    for start in [0usize, 2] {
        let slice = graph.emit(Op::Slice(vec![SliceRange { start: start.into(), size: 2usize.into(), step: 1 }]), &[x]);
        let zeros = graph.emit(Op::Constant(Tensor::from_f64(DType::F64, &[2], &[-0.0, 0.0])), &[]);
        let product = mul(&mut graph, slice, zeros);
        let sum = sum_all(&mut graph, product);
        loss = graph.emit(Op::Binary(BinaryOp::Add), &[loss, sum]);
    }
    let gradient = graph.add(Op::Grad, &[loss, x]).unwrap()[0];
    graph.add_output("gradient", gradient, OutputKind::Result);
    let run = interpret::run(&grad::expand(&graph), &random_inputs(&graph, 1)).unwrap();
    let signs = run.output("gradient").unwrap().to_f64().iter().map(|x| x.is_sign_negative()).collect::<Vec<_>>();
    assert_eq!(signs, [true, false, true, false]);
}
