//! Stored matrices on the interpreter: products by them, in loops and turned, are those by the floats that they stand
//! for.

use nnc_graph::{BodyTypes, DType, Graph, Node, Op, OutputKind, Scan, Shape, Stored, Tensor, TensorType, ValueId};
use nnc_graph::{interpret, verify::verify};
use nnc_opt::narrow::{Matrix, candidates, narrow, round, tables};
use nnc_opt::pipeline::{Options, optimise};
use std::collections::BTreeMap;
use std::sync::Arc;

fn ty(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, Shape::of(dims))
}

fn param(graph: &mut Graph, path: &str, dims: &[usize]) -> ValueId {
    graph.emit(Op::Param { path: path.to_owned(), ty: ty(dims) }, &[])
}

fn dot(graph: &mut Graph, a: (ValueId, usize), b: (ValueId, usize)) -> ValueId {
    graph.emit(Op::Dot { batch: 0, a_axes: vec![a.1], b_axes: vec![b.1] }, &[a.0, b.0])
}

/// A table of 20 tokens that is the last layer, too; a loop with a product; a product from the left.
fn network() -> Graph {
    let mut graph = Graph::new("network");
    let tokens = TensorType::new(DType::I32, Shape::of(&[3]));
    let tokens = graph.emit(Op::Input { name: "tokens".to_owned(), ty: tokens }, &[]);
    let table = param(&mut graph, "table", &[20, 16]);
    let x = graph.emit(Op::Gather { axis: 0, batch: 0 }, &[table, tokens]);
    let step = param(&mut graph, "step", &[16, 16]);
    let types = BodyTypes { carries: vec![ty(&[3, 16])], slices: vec![], captures: vec![ty(&[16, 16])] };
    let mut body = Scan::inputs("body", &types);
    let turned = body.emit(Op::Transpose(vec![1, 0]), &[ValueId(2)]);
    let next = dot(&mut body, (ValueId(1), 1), (turned, 1));
    let next = body.emit(Op::Unary(nnc_graph::UnaryOp::Tanh), &[next]);
    Scan::outputs(&mut body, &[next], &[]);
    let scan = Scan { body: Arc::new(body), length: 4.into(), reverse: false, carries: 1, slices: 0 };
    let x = graph.emit(Op::Scan(scan), &[x, step]);
    let left = param(&mut graph, "left", &[16, 8]);
    let y = dot(&mut graph, (left, 0), (x, 1));
    graph.add_output("left", y, OutputKind::Result);
    let head = graph.emit(Op::Transpose(vec![1, 0]), &[table]);
    let y = dot(&mut graph, (x, 1), (head, 0));
    graph.add_output("scores", y, OutputKind::Result);
    graph
}

fn given() -> BTreeMap<String, Tensor> {
    let numbers = |dims: &[usize], seed: usize| {
        let count: usize = dims.iter().product();
        let number = |at: usize| (((at + 1) * (seed * 2 + 7919)) % 2003) as f64 / 4006.0 - 0.25;
        Tensor::from_f64(DType::F32, dims, &(0..count).map(number).collect::<Vec<_>>())
    };
    let tokens = Tensor::from_f64(DType::I32, &[3], &[2.0, 19.0, 0.0]);
    let tensors = [("table", numbers(&[20, 16], 1)), ("step", numbers(&[16, 16], 2)), ("left", numbers(&[16, 8], 3))];
    tensors.into_iter().chain([("tokens", tokens)]).map(|(name, tensor)| (name.to_owned(), tensor)).collect()
}

fn stored_ops(graph: &Graph) -> usize {
    let of = |op: &Op| match op {
        Op::DotStored(_) => 1,
        Op::Scan(scan) => stored_ops(&scan.body),
        _ => 0,
    };
    graph.nodes().map(|(_, node)| of(&node.op)).sum()
}

#[test]
fn matrices_of_products_are_found() {
    let found = candidates(&network());
    let found: Vec<_> =
        found.iter().map(|found| (found.path.as_str(), found.dims, found.terms_axis, found.products)).collect();
    let expected =
        [("step", [16, 16], 0, 4 * 3 * 16 * 16), ("left", [16, 8], 0, 3 * 16 * 8), ("table", [20, 16], 1, 3 * 16 * 20)];
    assert_eq!(found, expected);
    let in_loops = candidates(&network()).into_iter().filter(|found| found.in_loops).map(|found| found.path);
    assert_eq!(in_loops.collect::<Vec<_>>(), ["step"]);
}

fn turned_of(float: &Tensor) -> Tensor {
    let &[rows, columns] = float.dims() else { unreachable!("a matrix") };
    Tensor::from_bytes(DType::F32, &[columns, rows], float.bytes().to_vec()).unwrap()
}

#[test]
fn tables_are_what_no_product_reads() {
    let mut graph = Graph::new("tables");
    let (words, tied, turned) = (
        param(&mut graph, "words", &[20, 16]),
        param(&mut graph, "tied", &[20, 16]),
        param(&mut graph, "turned", &[16, 20]),
    );
    let tokens = TensorType::new(DType::I32, Shape::of(&[3]));
    let tokens = graph.emit(Op::Input { name: "tokens".to_owned(), ty: tokens }, &[]);
    let turned = graph.emit(Op::Transpose(vec![1, 0]), &[turned]);
    let rows: Vec<ValueId> = [words, tied, turned, words]
        .into_iter()
        .map(|table| graph.emit(Op::Gather { axis: 0, batch: 0 }, &[table, tokens]))
        .collect();
    let scores = dot(&mut graph, (rows[0], 1), (tied, 1));
    for (name, value) in [("rows", rows[1]), ("columns", rows[2]), ("again", rows[3]), ("scores", scores)] {
        graph.add_output(name, value, OutputKind::Result);
    }
    let found: Vec<_> = tables(&graph).into_iter().map(|found| (found.path, found.dims, found.terms_axis)).collect();
    assert_eq!(found, [("words".to_owned(), [20, 16], 1)]);

    let matrix =
        Matrix { path: "words".to_owned(), terms_axis: 1, form: Stored::Bytes { group: 16 }, by_floats: false };
    let float = given()["table"].clone();
    let made = round(&matrix, &float).unwrap();
    let narrowed = narrow(&graph, std::slice::from_ref(&matrix));
    verify(&narrowed).unwrap();
    assert_eq!(stored_ops(&narrowed), 0);
    let stored = [(matrix.stored_path(), made.stored), (matrix.scales_path(), made.scales.unwrap())];
    let others = [("words", float.clone()), ("tied", float.clone()), ("turned", turned_of(&float))];
    let others = others.map(|(path, tensor)| (path.to_owned(), tensor));
    let tensors: BTreeMap<String, Tensor> =
        stored.into_iter().chain(others).chain([("tokens".to_owned(), given()["tokens"].clone())]).collect();
    let standing = floats_of(&matrix, &float, &tensors);
    let whole = tensors.iter().map(|(path, tensor)| (path.clone(), tensor.clone()));
    let whole = whole.chain([("words".to_owned(), standing)]).collect();
    let (run, expected) = (interpret::run(&narrowed, &tensors).unwrap(), interpret::run(&graph, &whole).unwrap());
    for ((name, tensor), (_, expected)) in run.outputs().zip(expected.outputs()) {
        assert_eq!(tensor.to_f64(), expected.to_f64(), "{name}");
    }
}

#[test]
fn products_read_what_is_stored() {
    let (graph, floats) = (network(), given());
    for form in [Stored::Bf16, Stored::Bytes { group: 8 }, Stored::Nibbles { group: 16 }] {
        let chosen: Vec<Matrix> = candidates(&graph).iter().map(|found| found.stored(form)).collect();
        let (mut tensors, mut standing) = (floats.clone(), floats.clone());
        for matrix in &chosen {
            let float = tensors.remove(&matrix.path).unwrap();
            let made = round(matrix, &float).unwrap();
            tensors.insert(matrix.stored_path(), made.stored.clone());
            made.scales.iter().for_each(|scales| drop(tensors.insert(matrix.scales_path(), scales.clone())));
            standing.insert(matrix.path.clone(), floats_of(matrix, &float, &tensors));
        }
        let narrowed = narrow(&graph, &chosen);
        verify(&narrowed).unwrap();
        assert_eq!(stored_ops(&narrowed), 3);
        let (run, expected) =
            (interpret::run(&narrowed, &tensors).unwrap(), interpret::run(&graph, &standing).unwrap());
        for ((name, tensor), (_, expected)) in run.outputs().zip(expected.outputs()) {
            let pairs = tensor.to_f64().into_iter().zip(expected.to_f64());
            pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{form}, {name}: {a} {b}"));
        }
        // Where products read floats, too, what is stored is only another way to keep them.
        let by_floats: Vec<Matrix> = chosen.into_iter().map(|matrix| Matrix { by_floats: true, ..matrix }).collect();
        let widened = narrow(&graph, &by_floats);
        verify(&widened).unwrap();
        assert_eq!(stored_ops(&widened), 0);
        let run = interpret::run(&widened, &tensors).unwrap();
        for ((name, tensor), (_, expected)) in run.outputs().zip(expected.outputs()) {
            assert_eq!(tensor, expected, "{form}, {name}");
        }
    }
}

/// What a stored matrix stands for.
fn floats_of(matrix: &Matrix, float: &Tensor, tensors: &BTreeMap<String, Tensor>) -> Tensor {
    let mut graph = Graph::new("floats");
    let leaf = |(path, ty)| Op::Param { path, ty };
    let operands: Vec<ValueId> =
        matrix.tensors(&float.ty()).into_iter().map(|tensor| graph.emit(leaf(tensor), &[])).collect();
    let mut value = matrix.form.floats(&mut graph, &operands);
    if matrix.terms_axis == 1 {
        value = graph.emit(Op::Transpose(vec![1, 0]), &[value]);
    }
    interpret::run(&graph, tensors).unwrap().value(value).clone()
}

/// A row that is picked is one that lies together, whatever the floats are made of.
#[test]
fn rows_of_stored_tables_lie_together() {
    for (is_tied, form) in [false, true].into_iter().flat_map(|is_tied| {
        [Stored::Bf16, Stored::Bytes { group: 16 }, Stored::Nibbles { group: 16 }].map(|form| (is_tied, form))
    }) {
        let mut graph = Graph::new("table");
        let tokens = TensorType::new(DType::I32, Shape::of(&[3]));
        let tokens = graph.emit(Op::Input { name: "tokens".to_owned(), ty: tokens }, &[]);
        let table = param(&mut graph, "table", &[20, 16]);
        let rows = graph.emit(Op::Gather { axis: 0, batch: 0 }, &[table, tokens]);
        let y = if is_tied { dot(&mut graph, (rows, 1), (table, 1)) } else { rows };
        graph.add_output("y", y, OutputKind::Result);
        let matrix = Matrix { path: "table".to_owned(), terms_axis: 1, form, by_floats: false };
        let narrowed = narrow(&graph, &[matrix]);
        assert_eq!(stored_ops(&narrowed), usize::from(is_tied));
        let made = optimise(&narrowed, &Options::default()).unwrap().graph;
        let is_gather = |node: &&Node| matches!(node.op, Op::Gather { .. });
        let gather = made.nodes().map(|(_, node)| node).find(is_gather).unwrap();
        let op = &made.definition(gather.operands[0]).op;
        assert!(!matches!(op, Op::Transpose(_)), "{form}, {is_tied}: a row is read across what is made of");
    }
}

#[test]
fn what_cannot_be_stored_so_stays() {
    let graph = network();
    let odd = Matrix { path: "step".to_owned(), terms_axis: 0, form: Stored::Bytes { group: 5 }, by_floats: false };
    let absent = Matrix { path: "nowhere".to_owned(), ..odd.clone() };
    let narrowed = narrow(&graph, &[odd, absent]);
    assert_eq!(stored_ops(&narrowed), 0);
    assert!(candidates(&narrowed).iter().any(|found| found.path == "step"));
}
