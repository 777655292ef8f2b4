//! Batching a graph means running it for each example and stacking: every op of the random-graph generator, and every
//! graph op that the generator has no builder for, with each leaf batched or shared.

use nnc_graph::interpret::run;
use nnc_graph::scan::{BodyTypes, Scan};
use nnc_graph::testing::{GraphOptions, Rng, graph_of_one_op, op_names, random_graph, random_inputs};
use nnc_graph::{BinaryOp, DType, Dim, Graph, Op, OutputKind, ReduceOp, Shape, Tensor, TensorType, UnaryOp, ValueId};
use nnc_lang::elaborate::vectorise::{Lane, vectorise};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const N: usize = 3;

type Given = BTreeMap<String, Tensor>;

/// The leaves of a graph by name.
fn leaves(graph: &Graph) -> Vec<(String, TensorType)> {
    let leaf = |op: &Op| match op {
        Op::Input { name, ty } | Op::Param { path: name, ty } | Op::State { path: name, ty } => {
            Some((name.clone(), ty.clone()))
        }
        _ => None,
    };
    graph.nodes().filter_map(|(_, node)| leaf(&node.op)).collect()
}

/// The batched form of a graph with the outputs of the graph; the leaves in `shared` stay as they are.
fn batched(graph: &Graph, shared: &BTreeSet<String>) -> Result<Graph, String> {
    let wanted: Vec<ValueId> = graph.outputs().iter().map(|output| output.value).collect();
    let mut target = Graph::new("batched");
    let mut known: BTreeMap<String, Lane> = BTreeMap::new();
    let mut leaf = |target: &mut Graph, op: &Op| {
        let (Op::Input { name, ty } | Op::Param { path: name, ty } | Op::State { path: name, ty }) = op else {
            return Err("no leaf".to_owned());
        };
        let batched = !shared.contains(name);
        let dims = if batched { vec![Dim::from(N)] } else { Vec::new() };
        let ty = TensorType::new(ty.dtype, [dims, ty.shape.to_vec()].concat());
        let lane = known.entry(name.clone()).or_insert_with(|| {
            let value = target.emit(Op::Input { name: name.clone(), ty }, &[]);
            Lane { value, batched }
        });
        Ok(*lane)
    };
    let values = vectorise(graph, &wanted, &mut target, &Dim::from(N), &mut leaf)?;
    for (output, value) in graph.outputs().iter().zip(values) {
        target.add_output(&output.name, value, OutputKind::Result);
    }
    Ok(target)
}

/// The examples' tensors one after the other.
fn stacked(parts: &[&Tensor]) -> Tensor {
    let dims = [&[parts.len()], parts[0].dims()].concat();
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes().iter().copied()).collect();
    Tensor::from_bytes(parts[0].dtype(), &dims, bytes).expect("parts of one type")
}

fn given_for(graph: &Graph, examples: &[Given], shared: &BTreeSet<String>) -> Given {
    let of_leaf = |name: &String| {
        let parts: Vec<&Tensor> = examples.iter().map(|given| &given[name]).collect();
        if shared.contains(name) { parts[0].clone() } else { stacked(&parts) }
    };
    leaves(graph).into_iter().map(|(name, _)| (name.clone(), of_leaf(&name))).collect()
}

/// Compares a graph with its batched form on `examples`, whose shared leaves agree.
fn compare(what: &str, graph: &Graph, examples: &[Given], shared: &BTreeSet<String>) {
    let batched = batched(graph, shared).unwrap_or_else(|error| panic!("{what}: {error}"));
    nnc_graph::verify::verify(&batched).unwrap_or_else(|faults| panic!("{what}: {faults:#?}"));
    let runs: Vec<_> = examples.iter().map(|given| run(graph, given).expect("the example runs")).collect();
    let all = run(&batched, &given_for(graph, examples, shared)).unwrap_or_else(|error| panic!("{what}: {error}"));
    for output in graph.outputs() {
        let parts: Vec<&Tensor> = runs.iter().map(|run| run.output(&output.name).expect("an output")).collect();
        let (want, got) = (stacked(&parts), all.output(&output.name).expect("an output"));
        assert_eq!(want.ty(), got.ty(), "{what}: {}", output.name);
        for (want, got) in want.to_f64().into_iter().zip(got.to_f64()) {
            let close = (want - got).abs() <= 1e-5 * want.abs().max(1.0) || want.is_nan() && got.is_nan();
            assert!(close, "{what}: {} is {got}, not {want}", output.name);
        }
    }
}

/// Examples with random leaves; those in `shared` are the first one's.
fn examples(graph: &Graph, seed: u64, shared: &BTreeSet<String>) -> Vec<Given> {
    let mut examples: Vec<Given> =
        (0..N as u64).map(|at| random_inputs(graph, seed.wrapping_mul(31).wrapping_add(at))).collect();
    let first = examples[0].clone();
    for given in &mut examples[1..] {
        shared.iter().for_each(|name| drop(given.insert(name.clone(), first[name].clone())));
    }
    examples
}

/// The leaves that seeds depend on: examples share those.
fn seeds(graph: &Graph) -> BTreeSet<String> {
    let randoms = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Random { .. }));
    let mut stack: Vec<ValueId> = randoms.map(|(_, node)| node.operands[0]).collect();
    let mut found = BTreeSet::new();
    while let Some(value) = stack.pop() {
        let node = graph.definition(value);
        stack.extend(&node.operands);
        if let Op::Input { name, .. } | Op::Param { path: name, .. } | Op::State { path: name, .. } = &node.op {
            found.insert(name.clone());
        }
    }
    found
}

fn compare_each_way(what: &str, graph: &Graph, seed: u64) {
    let names: Vec<String> = leaves(graph).into_iter().map(|(name, _)| name).collect();
    let mut rng = Rng::new(seed);
    let seeds = seeds(graph);
    for turn in 0..3 {
        let is_shared = |name: &String, rng: &mut Rng| seeds.contains(name) || turn > 0 && rng.one_in(2);
        let shared: BTreeSet<String> = names.iter().filter(|name| is_shared(name, &mut rng)).cloned().collect();
        let examples = examples(graph, seed, &shared);
        compare(&format!("{what}, seed {seed}, shared {shared:?}"), graph, &examples, &shared);
    }
}

#[test]
fn every_op_of_the_generator() {
    for name in op_names() {
        for seed in 0..12 {
            let graph = graph_of_one_op(name, seed, &GraphOptions::default()).expect("a known op");
            compare_each_way(name, &graph, seed);
        }
    }
}

#[test]
fn random_graphs() {
    for seed in 0..60 {
        compare_each_way("random graph", &random_graph(seed), seed);
    }
}

fn input(graph: &mut Graph, name: &str, dtype: DType, dims: &[usize]) -> ValueId {
    graph.emit(Op::Input { name: name.to_owned(), ty: TensorType::new(dtype, Shape::of(dims)) }, &[])
}

fn of_result(op: Op, operands: &[(&str, DType, &[usize])]) -> Graph {
    let mut graph = Graph::new("one");
    let operands: Vec<ValueId> =
        operands.iter().map(|(name, dtype, dims)| input(&mut graph, name, *dtype, dims)).collect();
    let results = graph.add(op, &operands).expect("operands fit");
    for (at, result) in results.into_iter().enumerate() {
        graph.add_output(&format!("y{at}"), result, OutputKind::Result);
    }
    graph
}

/// Every way to share leaves, with run-time starts and indices that are given.
fn compare_with(what: &str, graph: &Graph, numbers: &BTreeMap<&str, Vec<Tensor>>) {
    let names: Vec<String> = leaves(graph).into_iter().map(|(name, _)| name).collect();
    for bits in 0..1u32 << names.len() {
        let shared: BTreeSet<String> =
            names.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, name)| name.clone()).collect();
        let mut examples = examples(graph, 5, &shared);
        for (at, given) in examples.iter_mut().enumerate() {
            for (name, values) in numbers {
                let place = if shared.contains(*name) { 0 } else { at };
                given.insert((*name).to_owned(), values[place].clone());
            }
        }
        compare(&format!("{what}, shared {shared:?}"), graph, &examples, &shared);
    }
}

#[test]
fn starts_and_indices_of_each_example() {
    let starts: Vec<Tensor> = [2, 0, 1].map(Tensor::scalar_i64).to_vec();
    let of = |values: [f64; 2]| Tensor::from_f64(DType::I32, &[2], &values);
    let indices = vec![of([0.0, 3.0]), of([1.0, 1.0]), of([2.0, 0.0])];
    for axis in 0..2 {
        let dims: &[usize] = &[4, 4];
        let mut part = [4, 4];
        part[axis] = 2;
        let slice = Op::DynamicSlice { axis, size: Dim::from(2usize) };
        let slice = of_result(slice, &[("x", DType::F32, dims), ("at", DType::I64, &[])]);
        compare_with("slice", &slice, &BTreeMap::from([("at", starts.clone())]));
        let update = Op::DynamicUpdate { axes: vec![axis] };
        let update = of_result(update, &[("x", DType::F32, dims), ("v", DType::F32, &part), ("at", DType::I64, &[])]);
        compare_with("update", &update, &BTreeMap::from([("at", starts.clone())]));
        let gather = of_result(Op::Gather { axis, batch: 0 }, &[("x", DType::F32, dims), ("i", DType::I32, &[2])]);
        compare_with("gather", &gather, &BTreeMap::from([("i", indices.clone())]));
        let updates = [("x", DType::F32, dims), ("i", DType::I32, &[2]), ("u", DType::F32, &part[..])];
        let scatter = of_result(Op::ScatterAdd { axis, batch: 0 }, &updates);
        compare_with("scatter", &scatter, &BTreeMap::from([("i", indices.clone())]));
    }
    let of = |values: [f64; 4]| Tensor::from_f64(DType::I32, &[4], &values);
    let rows = vec![of([0.0, 3.0, 1.0, 2.0]), of([1.0, 1.0, 0.0, 3.0]), of([2.0, 0.0, 3.0, 3.0])];
    let pick = of_result(Op::Gather { axis: 1, batch: 1 }, &[("x", DType::F32, &[4, 4]), ("i", DType::I32, &[4])]);
    compare_with("pick", &pick, &BTreeMap::from([("i", rows)]));
}

/// `h = h * w + x[i] + i`, with every way to share what goes in; also backwards.
#[test]
fn loops_of_each_example() {
    let ty = TensorType::new(DType::F32, Shape::of(&[3]));
    let types = BodyTypes { carries: vec![ty.clone()], slices: vec![ty.clone()], captures: vec![ty.clone()] };
    for reverse in [false, true] {
        let mut body = Scan::inputs("body", &types);
        let [index, h, x, w] = [0, 1, 2, 3].map(|at| body.nodes().nth(at).expect("an input").1.results[0]);
        let index = body.emit(Op::Cast(DType::F32), &[index]);
        let index = body.broadcast_scalar(index, &ty.shape);
        let product = body.emit(Op::Binary(BinaryOp::Mul), &[h, w]);
        let sum = body.emit(Op::Binary(BinaryOp::Add), &[product, x]);
        let next = body.emit(Op::Binary(BinaryOp::Add), &[sum, index]);
        Scan::outputs(&mut body, &[next], &[next, product]);
        let scan = Scan { body: Arc::new(body), length: Dim::from(4usize), reverse, carries: 1, slices: 1 };
        let operands = [("h", DType::F32, &[3usize][..]), ("x", DType::F32, &[4, 3]), ("w", DType::F32, &[3])];
        compare_with("scan", &of_result(Op::Scan(scan), &operands), &BTreeMap::new());
    }
}

#[test]
fn a_start_that_does_not_fit_is_caught() {
    let part = [("x", DType::F32, &[4usize][..]), ("v", DType::F32, &[2]), ("at", DType::I64, &[])];
    let update = of_result(Op::DynamicUpdate { axes: vec![0] }, &part);
    let shared = BTreeSet::new();
    let mut examples = examples(&update, 1, &shared);
    for (given, at) in examples.iter_mut().zip([0, 3, 1]) {
        given.insert("at".to_owned(), Tensor::scalar_i64(at));
    }
    let batched = batched(&update, &shared).expect("it has a batched form");
    assert!(run(&batched, &given_for(&update, &examples, &shared)).is_err());
}

#[test]
fn fillings_of_each_example() {
    let op = Op::Pad { low: vec![Dim::from(1usize)], high: vec![Dim::from(2usize)] };
    let pad = of_result(op, &[("x", DType::F32, &[3]), ("value", DType::F32, &[])]);
    compare_with("pad", &pad, &BTreeMap::new());
}

#[test]
fn draws_are_those_of_each_example() {
    let mut graph = Graph::new("draw");
    let seed = input(&mut graph, "$seed", DType::I64, &[]);
    let draw = input(&mut graph, "$draw", DType::I64, &[]);
    let op = Op::Random { stream: 77, shape: Shape::of(&[2, 2]) };
    let drawn = graph.emit(op, &[seed, draw]);
    graph.add_output("y", drawn, OutputKind::Result);
    let shared = BTreeSet::from(["$seed".to_owned()]);
    compare("random", &graph, &examples(&graph, 3, &shared), &shared);
}

#[test]
fn a_derivative_by_what_is_batched_is_one_of_each_example() {
    let mut graph = Graph::new("grad");
    let x = input(&mut graph, "x", DType::F64, &[4]);
    let e = graph.emit(Op::Unary(UnaryOp::Exp), &[x]);
    let y = graph.emit(Op::Binary(BinaryOp::Mul), &[e, x]);
    let loss = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[y]);
    let derivative = graph.emit(Op::Grad, &[loss, x]);
    graph.add_output("y", derivative, OutputKind::Result);
    let shared = BTreeSet::new();
    let examples = examples(&graph, 3, &shared);
    let all = nnc_opt::grad::expand(&batched(&graph, &shared).expect("it has a batched form"));
    let all = run(&all, &given_for(&graph, &examples, &shared)).expect("it runs");
    let got = all.output("y").expect("the output").to_f64();
    let want = examples.iter().flat_map(|given| given["x"].to_f64()).map(|x| x.exp() * (1.0 + x));
    got.into_iter().zip(want).for_each(|(got, want)| assert!((got - want).abs() < 1e-12 * want.abs().max(1.0)));
    assert!(batched(&graph, &BTreeSet::from(["x".to_owned()])).is_ok(), "nothing depends on the example");
}
