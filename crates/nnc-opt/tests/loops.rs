//! Loops: what the pipeline makes of them and of their derivatives computes the same; the weights' gradients stand
//! behind the backward loop; and loops are tidied.

use nnc_graph::testing::{GraphOptions, graph_of_one_op, loop_names, random_inputs};
use nnc_graph::{
    BinaryOp, BodyTypes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Scan, Shape, TensorType, UnaryOp, ValueId,
    interpret, verify,
};
use nnc_opt::{Fuel, Options, grad, optimise, tidy};
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
fn loops_with_derivatives_go_through_the_pipeline() {
    let options = GraphOptions { float: DType::F64, ..GraphOptions::default() };
    for name in loop_names() {
        for seed in 0..40 {
            let mut graph = graph_of_one_op(name, seed, &options).unwrap();
            differentiate(&mut graph);
            let plain = grad::expand(&graph);
            verify::verify_lowerable(&plain).unwrap();
            let optimised = optimise(&graph, &Options::default()).unwrap().graph;
            let given = random_inputs(&graph, seed);
            let (a, b) = (interpret::run(&plain, &given).unwrap(), interpret::run(&optimised, &given).unwrap());
            for (output, value) in a.outputs() {
                assert_eq!(Some(value), b.output(output), "{name}, seed {seed}, {output}");
            }
        }
    }
}

/// `h = tanh(x @ w + h @ u)`: the forward and the backward loop, which carries nothing but the cotangent of `h`, and
/// the weights' gradients as one product each.
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

/// A loop of four steps that carries `h` and, for nothing, `c`; that stacks `h` and, unused, `x`; scans `x` twice; and
/// captures `w` and the number 2: `h = h * (w * 2) + x`.
fn untidy() -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let types =
        BodyTypes { carries: vec![ty(&[3]), ty(&[3])], slices: vec![ty(&[3]); 2], captures: vec![ty(&[3]), ty(&[3])] };
    let mut body = Scan::inputs("untidy", &types);
    let mut binary = |op, a, b| body.emit(Op::Binary(op), &[a, b]);
    let (h, c, x, w, two) = (ValueId(1), ValueId(2), ValueId(4), ValueId(5), ValueId(6));
    let factor = binary(BinaryOp::Mul, w, two);
    let product = binary(BinaryOp::Mul, h, factor);
    let next = binary(BinaryOp::Add, product, x);
    let idle = binary(BinaryOp::Add, c, factor);
    Scan::outputs(&mut body, &[next, idle], &[next, x]);
    let mut graph = Graph::new("untidy");
    let mut input = |name: &str, dims: &[usize]| graph.emit(Op::Input { name: name.to_owned(), ty: ty(dims) }, &[]);
    let (start, steps, weights) = (input("start", &[3]), input("steps", &[4, 3]), input("weights", &[3]));
    let two = graph.splat(&ty(&[3]), 2.0);
    let scan = Scan { body: Arc::new(body), length: Dim::from(4usize), reverse: false, carries: 2, slices: 2 };
    let results = graph.add(Op::Scan(scan), &[start, start, steps, steps, weights, two]).unwrap();
    graph.add_output("all", results[2], OutputKind::Result);
    graph
}

#[test]
fn a_loop_keeps_what_its_steps_need() {
    let graph = untidy();
    let mut fuel = Fuel::new(None);
    let tidied = tidy::tidy_loops(&graph, &mut fuel);
    verify::verify_lowerable(&tidied).unwrap();
    let again = tidy::tidy_loops(&tidied, &mut fuel);
    let loops = loops(&again);
    assert_eq!((loops.len(), loops[0].carries, loops[0].slices, loops[0].captures()), (1, 1, 1, 1));
    assert_eq!(loops[0].stacked().len(), 1);
    let inside = loops[0].body.nodes().filter(|(_, node)| matches!(node.op, Op::Binary(_))).count();
    assert_eq!(inside, 2, "the product of what is captured stands before the loop");
    let given = random_inputs(&graph, 3);
    let (a, b) = (interpret::run(&graph, &given).unwrap(), interpret::run(&again, &given).unwrap());
    assert_eq!(a.output("all"), b.output("all"));
}

#[test]
fn tidying_spends_fuel() {
    let graph = untidy();
    let tidied = tidy::tidy_loops(&graph, &mut Fuel::new(Some(0)));
    assert_eq!(nnc_graph::text::print(&tidied), nnc_graph::text::print(&graph));
}

/// `h = tanh(h + row of xs)` over five steps, where each step reads its row in a way of its own.
fn reading(row: impl Fn(&mut Graph, ValueId, ValueId) -> ValueId) -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F64, Shape::of(dims));
    let types = BodyTypes { carries: vec![ty(&[3])], slices: vec![], captures: vec![ty(&[5, 3])] };
    let mut body = Scan::inputs("reading", &types);
    let (step, h, xs) = (ValueId(0), ValueId(1), ValueId(2));
    let row = row(&mut body, xs, step);
    let sum = body.emit(Op::Binary(BinaryOp::Add), &[h, row]);
    let next = body.emit(Op::Unary(UnaryOp::Tanh), &[sum]);
    Scan::outputs(&mut body, &[next], &[]);
    let mut graph = Graph::new("reading");
    let mut input = |name: &str, dims: &[usize]| graph.emit(Op::Input { name: name.to_owned(), ty: ty(dims) }, &[]);
    let operands = [input("h", &[3]), input("xs", &[5, 3])];
    let scan = Scan { body: Arc::new(body), length: Dim::from(5usize), reverse: false, carries: 1, slices: 0 };
    let last = graph.emit(Op::Scan(scan), &operands);
    graph.add_output("last", last, OutputKind::Result);
    differentiate(&mut graph);
    graph
}

/// What a step reads of a captured value is all that its share of the cotangent is added to, so that the steps together
/// cost as much as the value is long, not its square.
#[test]
fn shares_of_rows_are_added_where_they_are() {
    let flat = |body: &mut Graph, row: ValueId| body.emit(Op::Reshape(Shape::of(&[3])), &[row]);
    let sliced = reading(|body, xs, step| {
        let row = body.emit(Op::DynamicSlice { axis: 0, size: Dim::from(1usize) }, &[xs, step]);
        flat(body, row)
    });
    let taken = reading(|body, xs, step| body.emit(Op::Gather { axis: 0, batch: 0 }, &[xs, step]));
    let gathered = reading(|body, xs, step| {
        let indices = body.emit(Op::Reshape(Shape::of(&[1])), &[step]);
        let row = body.emit(Op::Gather { axis: 0, batch: 0 }, &[xs, indices]);
        flat(body, row)
    });
    let given = random_inputs(&sliced, 7);
    let mut found = Vec::new();
    for graph in [&sliced, &taken, &gathered] {
        let expanded = grad::expand(graph);
        verify::verify_lowerable(&expanded).unwrap();
        let backward = loops(&expanded).into_iter().find(|scan| scan.reverse).expect("a loop that walks back");
        let is_whole = |value: ValueId| backward.body.ty(value).shape.sizes() == [5, 3];
        let mut sums = backward.body.nodes().filter(|(_, node)| node.op == Op::Binary(BinaryOp::Add));
        assert!(sums.all(|(_, node)| !is_whole(node.results[0])), "the whole is added in each step");
        let run = interpret::run(&expanded, &given).unwrap();
        found.push(run.outputs().map(|(_, value)| value.to_f64()).collect::<Vec<_>>());
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
    assert!(found[0][2].iter().all(|slope| slope.abs() > 1e-6), "{:?}", found[0]);
}
