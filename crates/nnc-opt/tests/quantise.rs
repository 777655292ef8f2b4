//! Quantised graphs on the interpreter: near to the floats that they stand for, and exact where they say so.

use nnc_graph::{
    BinaryOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, Shape, Tensor, TensorType, ValueId, WindowAttributes,
    WindowOp, interpret,
};
use nnc_opt::quantise::{Layer, Range, quantise, scales_path, sites, weights_path};
use std::collections::BTreeMap;

fn ty(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, Shape::of(dims))
}

fn relu(graph: &mut Graph, x: ValueId) -> ValueId {
    let zero = graph.splat(&graph.ty(x).clone(), 0.0);
    graph.emit(Op::Binary(BinaryOp::Max), &[x, zero])
}

fn conv(graph: &mut Graph, x: ValueId, path: &str, dims: &[usize], groups: usize) -> ValueId {
    let w = graph.emit(Op::Param { path: format!("{path}.w"), ty: ty(dims) }, &[]);
    let both = |number: usize| vec![Dim::from(number); 2];
    let padding = dims[2] / 2;
    let attributes = ConvAttributes {
        stride: both(1),
        low: both(padding),
        high: both(padding),
        dilation: both(1),
        groups: groups.into(),
    };
    graph.emit(Op::Conv(attributes), &[x, w])
}

/// An image with negative elements, three convolutions (one of single channels), pooling, a residual sum, a product.
fn network() -> Graph {
    let mut graph = Graph::new("network");
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[2, 3, 8, 8]) }, &[]);
    let y = conv(&mut graph, x, "first", &[8, 3, 3, 3], 1);
    let y = relu(&mut graph, y);
    let two = || vec![Dim::from(2usize); 2];
    let none = || vec![Dim::from(0usize); 2];
    let attributes = WindowAttributes { size: two(), stride: two(), low: none(), high: none() };
    let y = graph.emit(Op::Window { op: WindowOp::Max, attributes }, &[y]);
    let z = conv(&mut graph, y, "single", &[8, 1, 3, 3], 8);
    let z = conv(&mut graph, z, "second", &[8, 8, 3, 3], 1);
    let sum = graph.emit(Op::Binary(BinaryOp::Add), &[y, z]);
    let sum = relu(&mut graph, sum);
    let flat = graph.emit(Op::Reshape(Shape::of(&[2, 128])), &[sum]);
    let w = graph.emit(Op::Param { path: "head.w".to_owned(), ty: ty(&[128, 10]) }, &[]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[flat, w]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

/// Numbers from -1 to 1 that look random.
fn numbers(dims: &[usize], seed: usize) -> Tensor {
    let count: usize = dims.iter().product();
    let number = |at: usize| (((at + 1) * (seed * 2 + 7919)) % 2003) as f64 / 1001.0 - 1.0;
    Tensor::from_f64(DType::F32, dims, &(0..count).map(number).collect::<Vec<_>>())
}

fn given(graph: &Graph) -> BTreeMap<String, Tensor> {
    let leaves = graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Input { name, ty } | Op::Param { path: name, ty } => Some((name.clone(), ty.shape.sizes())),
        _ => None,
    });
    leaves.enumerate().map(|(seed, (name, dims))| (name.clone(), numbers(&dims, seed))).collect()
}

/// Every product quantised by what the interpreter sees, and the tensors that the graph then reads.
fn quantised(graph: &Graph, given: &BTreeMap<String, Tensor>) -> (Graph, BTreeMap<String, Tensor>) {
    let run = interpret::run(graph, given).unwrap();
    let (mut layers, mut tensors) = (Vec::new(), given.clone());
    for site in sites(graph) {
        let seen = run.value(site.input).to_f64();
        let (least, most) = seen.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
        let input = Range::covering(least as f32, most as f32).unwrap();
        let weights = run.value(site.weights);
        let inner: usize = weights.dims()[site.channel_axis + 1..].iter().product();
        let channel = |at: usize| at / inner % site.channels;
        let mut scales = vec![0f64; site.channels];
        let values = weights.to_f64();
        values.iter().enumerate().for_each(|(at, x)| scales[channel(at)] = scales[channel(at)].max(x.abs() / 64.0));
        let whole: Vec<f64> =
            values.iter().enumerate().map(|(at, x)| (x / scales[channel(at)]).round_ties_even()).collect();
        tensors.insert(weights_path(&site.name), Tensor::from_f64(DType::I8, weights.dims(), &whole));
        let scales: Vec<f64> = scales.iter().map(|scale| scale * f64::from(input.scale)).collect();
        tensors.insert(scales_path(&site.name), Tensor::from_f64(DType::F32, &[site.channels], &scales));
        layers.push(Layer { name: site.name, input });
    }
    (quantise(graph, &layers), tensors)
}

fn products(graph: &Graph, dtype: DType) -> usize {
    let is_product = |op: &Op| matches!(op, Op::Conv(_) | Op::Dot { .. });
    graph.nodes().filter(|(_, node)| is_product(&node.op) && graph.ty(node.results[0]).dtype == dtype).count()
}

#[test]
fn sites_have_the_names_of_their_layers() {
    let names: Vec<String> = sites(&network()).into_iter().map(|site| site.name).collect();
    assert_eq!(names, ["first", "single", "second", "head"]);
}

#[test]
fn integers_stay_near_to_the_floats() {
    let graph = network();
    let given = given(&graph);
    let (integers, tensors) = quantised(&graph, &given);
    assert_eq!((products(&integers, DType::I32), products(&integers, DType::F32)), (4, 0));
    let wanted = interpret::run(&graph, &given).unwrap().value(graph.outputs()[0].value).to_f64();
    let found = interpret::run(&integers, &tensors).unwrap().value(integers.outputs()[0].value).to_f64();
    let largest = wanted.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    for (wanted, found) in wanted.iter().zip(&found) {
        assert!((wanted - found).abs() < 0.05 * largest, "{wanted} became {found}, of {largest}");
    }
}

#[test]
fn numbers_that_are_whole_come_out_exactly() {
    let mut graph = Graph::new("whole");
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[1, 3, 5, 5]) }, &[]);
    let y = conv(&mut graph, x, "only", &[8, 3, 3, 3], 1);
    graph.add_output("y", y, OutputKind::Result);
    let whole = |tensor: &Tensor, most: f64| {
        let values: Vec<f64> = tensor.to_f64().iter().map(|x| (x * most).round()).collect();
        Tensor::from_f64(tensor.dtype(), tensor.dims(), &values)
    };
    let mut tensors = given(&graph);
    tensors.insert("x".to_owned(), whole(&tensors["x"], 127.0));
    tensors.insert("only.w".to_owned(), whole(&tensors["only.w"], 64.0));
    let layer = Layer { name: "only".to_owned(), input: Range { scale: 1.0, signed: true } };
    let integers = quantise(&graph, &[layer]);
    let weights = Tensor::from_f64(DType::I8, &[8, 3, 3, 3], &tensors["only.w"].to_f64());
    tensors.insert(weights_path("only"), weights);
    tensors.insert(scales_path("only"), Tensor::from_f64(DType::F32, &[8], &[1.0; 8]));
    let wanted = interpret::run(&graph, &tensors).unwrap().value(graph.outputs()[0].value).to_f64();
    let found = interpret::run(&integers, &tensors).unwrap().value(integers.outputs()[0].value).to_f64();
    assert_eq!(wanted, found, "borders and the middle of the range, too");
}

#[test]
fn layers_that_a_graph_lacks_change_nothing() {
    let graph = network();
    let layer = Layer { name: "other".to_owned(), input: Range { scale: 1.0, signed: true } };
    assert_eq!(products(&quantise(&graph, &[layer]), DType::F32), 4);
}
