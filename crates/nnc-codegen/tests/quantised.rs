//! Products of integers in every form that kernels have for them: whole small networks as quantisation writes them,
//! compiled, against the kernel interpreter, bit for bit, at every width.
//!
//! | what is multiplied | cases |
//! | --- | --- |
//! | rows | of one and of many; terms that are no whole words; the matrix turned; weights that the program rounds itself |
//! | windows | of one place and of many, strided, dilated, reaching outside, in one long line, in groups |
//! | single channels | with and without a stride, several for each, so many taps that sums are not exact in floats |
//! | activations | with a sign, whose 0 is 128, and without; rounded behind a bias, a residual sum, a relu, tanh |
//! | what is moved as bytes | maxima, slices, transposes, reshapes, concatenations of one range and of several |

mod common;

use common::graphs::check_on;
use nnc_graph::testing::{Rng, random_tensor};
use nnc_graph::{
    BinaryOp, ConvAttributes, DType, Dim, Graph, Node, Op, OutputKind, ReduceOp, Shape, SliceRange, Tensor, TensorType,
    UnaryOp, ValueId, WindowAttributes, WindowOp,
};
use nnc_opt::pipeline;
use nnc_opt::quantise::{Layer, Range, quantise, quantise_floats, sites};
use std::collections::BTreeMap;

/// A network under construction, of which each layer has a number.
struct Network {
    graph: Graph,
    layers: usize,
}

/// Taps, stride, padding, dilation, groups of a convolution.
#[derive(Clone, Copy)]
struct Windows {
    taps: [usize; 2],
    stride: usize,
    padding: [usize; 2],
    dilation: usize,
    groups: usize,
}

const PLACES: Windows = Windows { taps: [1, 1], stride: 1, padding: [0, 0], dilation: 1, groups: 1 };
const THREE: Windows = Windows { taps: [3, 3], padding: [1, 1], ..PLACES };

impl Network {
    /// With an input of this shape.
    fn new(dims: &[usize]) -> (Self, ValueId) {
        let mut graph = Graph::new("network");
        let ty = TensorType::new(DType::F32, Shape::of(dims));
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty }, &[]);
        (Self { graph, layers: 0 }, x)
    }

    fn param(&mut self, end: &str, dims: &[usize]) -> ValueId {
        let ty = TensorType::new(DType::F32, Shape::of(dims));
        self.graph.emit(Op::Param { path: format!("layer{}.{end}", self.layers), ty }, &[])
    }

    fn sizes(&self, value: ValueId) -> Vec<usize> {
        self.graph.ty(value).shape.sizes()
    }

    /// A convolution with a bias.
    fn conv(&mut self, x: ValueId, columns: usize, windows: Windows) -> ValueId {
        self.layers += 1;
        let channels = self.sizes(x)[1];
        let w = self.param("w", &[columns, channels / windows.groups, windows.taps[0], windows.taps[1]]);
        let both = |number: usize| vec![Dim::from(number); 2];
        let padding = windows.padding.map(Dim::from).to_vec();
        let attributes = ConvAttributes {
            stride: both(windows.stride),
            low: padding.clone(),
            high: padding,
            dilation: both(windows.dilation),
            groups: windows.groups.into(),
        };
        let y = self.graph.emit(Op::Conv(attributes), &[x, w]);
        self.with_bias(y, columns, 1)
    }

    /// Rows by a matrix, which may lie turned.
    fn dense(&mut self, x: ValueId, columns: usize, turned: bool) -> ValueId {
        self.layers += 1;
        let (rank, terms) = (self.sizes(x).len(), self.sizes(x).last().copied().unwrap());
        let w = self.param("w", &if turned { [columns, terms] } else { [terms, columns] });
        let op = Op::Dot { batch: 0, a_axes: vec![rank - 1], b_axes: vec![usize::from(turned)] };
        let y = self.graph.emit(op, &[x, w]);
        self.with_bias(y, columns, rank - 1)
    }

    fn with_bias(&mut self, y: ValueId, columns: usize, axis: usize) -> ValueId {
        let bias = self.param("b", &[columns]);
        let shape = self.graph.ty(y).shape.clone();
        let bias = self.graph.emit(Op::Broadcast { shape, axes: vec![axis] }, &[bias]);
        self.add(y, bias)
    }

    fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.graph.emit(Op::Binary(BinaryOp::Add), &[a, b])
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        let zero = self.graph.splat(&self.graph.ty(x).clone(), 0.0);
        self.graph.emit(Op::Binary(BinaryOp::Max), &[x, zero])
    }

    fn tanh(&mut self, x: ValueId) -> ValueId {
        self.graph.emit(Op::Unary(UnaryOp::Tanh), &[x])
    }

    /// Maxima, or sums, of two by two places.
    fn pool(&mut self, x: ValueId, op: WindowOp) -> ValueId {
        let (two, none) = (vec![Dim::from(2usize); 2], vec![Dim::from(0usize); 2]);
        let attributes = WindowAttributes { size: two.clone(), stride: two, low: none.clone(), high: none };
        self.graph.emit(Op::Window { op, attributes }, &[x])
    }

    fn joined(&mut self, parts: &[ValueId], axis: usize) -> ValueId {
        self.graph.emit(Op::Concat { axis }, parts)
    }

    /// A part of the channels.
    fn channels(&mut self, x: ValueId, start: usize, size: usize) -> ValueId {
        let sizes = self.sizes(x);
        let range = |(axis, whole): (usize, &usize)| match axis {
            1 => SliceRange { start: start.into(), size: size.into(), step: 1 },
            _ => SliceRange { start: 0usize.into(), size: (*whole).into(), step: 1 },
        };
        self.graph.emit(Op::Slice(sizes.iter().enumerate().map(range).collect()), &[x])
    }

    fn flat(&mut self, x: ValueId) -> ValueId {
        let sizes = self.sizes(x);
        let rest = sizes[1..].iter().product();
        self.graph.emit(Op::Reshape(Shape::of(&[sizes[0], rest])), &[x])
    }

    /// The graph, with this result.
    fn finished(mut self, y: ValueId) -> Graph {
        self.graph.add_output("y", y, OutputKind::Result);
        pipeline::inference(&self.graph).unwrap()
    }
}

/// What a quantised graph reads: weights with the largest that they may be, scales that bring sums back to where they
/// were.
fn given(graph: &Graph, seed: u64) -> BTreeMap<String, Tensor> {
    let mut rng = Rng::new(seed);
    let mut given = BTreeMap::new();
    for (_, node) in graph.nodes() {
        let (Op::Input { name, ty } | Op::Param { path: name, ty }) = &node.op else { continue };
        let dims = ty.shape.sizes();
        let count = dims.iter().product();
        let tensor = if ty.dtype == DType::I8 {
            let number = |at: usize, rng: &mut Rng| if at.is_multiple_of(5) { 64 } else { rng.int(-64, 64) };
            let numbers: Vec<f64> = (0..count).map(|at| number(at, &mut rng) as f64).collect();
            Tensor::from_f64(DType::I8, &dims, &numbers)
        } else if name.ends_with(".scale") {
            let numbers: Vec<f64> = (0..count).map(|_| rng.float(0.001, 0.01)).collect();
            Tensor::from_f64(DType::F32, &dims, &numbers)
        } else {
            random_tensor(&mut rng, ty.dtype, &dims)
        };
        given.insert(name.clone(), tensor);
    }
    given
}

/// Every product of a network with integers, by ranges of one kind, in one run and in the other; `count` are expected.
fn check_network(what: &str, graph: &Graph, count: usize) {
    let all = sites(graph);
    assert_eq!(all.len(), count, "{what}");
    for (seed, range) in
        [Range { scale: 1.0 / 64.0, signed: false }, Range { scale: 3.0 / 127.0, signed: true }].into_iter().enumerate()
    {
        let layer = |name: &str| {
            let summands = Some(range);
            Layer { summands, ..Layer::new(name, range) }
        };
        let layers: Vec<Layer> = all.iter().map(|site| layer(&site.name)).collect();
        check_integers(&format!("{what}, {range:?}"), &quantise(graph, &layers), (count, seed as u64));
        let ranges = all.iter().map(|site| (site.layer().to_owned(), range)).collect();
        let large = all.iter().filter(|site| !site.is_small()).count();
        check_integers(&format!("{what}, rounded by itself"), &quantise_floats(graph, &ranges), (large, seed as u64));
    }
}

fn check_integers(what: &str, graph: &Graph, (count, seed): (usize, u64)) {
    // Sums of windows are convolutions by ones, which are broadcast.
    let is_spread = |value| matches!(graph.definition(value).op, Op::Broadcast { .. });
    let is_product = |node: &Node| match node.op {
        Op::Conv(_) => !is_spread(node.operands[1]),
        ref op => matches!(op, Op::Dot { .. }),
    };
    let is_integer = |node: &Node| graph.ty(node.results[0]).dtype == DType::I32;
    let integers = graph.nodes().filter(|(_, node)| is_product(node) && is_integer(node)).count();
    assert_eq!(integers, count, "{what}");
    let optimised = pipeline::optimise(graph, &pipeline::Options::default()).unwrap().graph;
    let given = given(&optimised, seed + 1);
    assert!(check_on(&optimised, &given, seed), "{what}");
}

#[test]
fn rows_by_matrices() {
    for (rows, terms, columns) in [(1, 64, 40), (1, 51, 9), (7, 20, 33), (17, 18, 24)] {
        for turned in [false, true] {
            let (mut network, x) = Network::new(&[rows, terms]);
            let y = network.dense(x, columns, turned);
            let y = network.relu(y);
            let y = network.dense(y, 17, turned);
            let y = network.tanh(y);
            let y = network.dense(y, 20, !turned);
            check_network(&format!("{rows} x {terms} x {columns}, {turned}"), &network.finished(y), 3);
        }
    }
}

#[test]
fn rows_of_more_axes() {
    let (mut network, x) = Network::new(&[2, 5, 24]);
    let y = network.dense(x, 32, false);
    let y = network.relu(y);
    let y = network.dense(y, 16, false);
    let turned = network.graph.emit(Op::Transpose(vec![0, 2, 1]), &[y]);
    let y = network.dense(turned, 8, false);
    check_network("three axes", &network.finished(y), 3);
}

#[test]
fn windows() {
    let long = [1, 4, 1, 1030];
    for (what, image, columns, windows) in [
        ("places", [2, 12, 5, 7], 24, PLACES),
        ("few channels", [1, 3, 9, 8], 16, THREE),
        ("odd channels", [1, 13, 6, 5], 21, THREE),
        ("inside", [1, 8, 7, 9], 8, Windows { padding: [0, 0], ..THREE }),
        ("strided", [1, 16, 9, 9], 40, Windows { stride: 2, ..THREE }),
        ("strided places", [1, 16, 7, 7], 16, Windows { stride: 2, ..PLACES }),
        ("dilated", [1, 8, 9, 9], 16, Windows { dilation: 2, padding: [2, 2], ..THREE }),
        ("long taps", [1, 8, 4, 30], 16, Windows { taps: [1, 9], padding: [0, 4], ..PLACES }),
        ("a long line", long, 16, Windows { taps: [1, 5], padding: [0, 2], ..PLACES }),
        ("groups", [1, 16, 6, 6], 24, Windows { groups: 2, ..THREE }),
        ("groups of odd channels", [1, 24, 5, 6], 32, Windows { groups: 4, ..THREE }),
        ("many channels", [1, 256, 3, 4], 40, THREE),
    ] {
        let (mut network, x) = Network::new(&image);
        let y = network.conv(x, columns, windows);
        let y = network.relu(y);
        let y = network.conv(y, 16, PLACES);
        check_network(what, &network.finished(y), 2);
    }
}

#[test]
fn single_channels() {
    let single = |channels: usize| Windows { groups: channels, ..THREE };
    let wide = Windows { taps: [15, 15], padding: [7, 7], ..single(8) };
    for (what, channels, columns, windows) in [
        ("plain", 16, 16, single(16)),
        ("strided", 37, 37, Windows { stride: 2, ..single(37) }),
        ("dilated", 8, 8, Windows { dilation: 2, padding: [2, 2], ..single(8) }),
        ("lines", 24, 24, Windows { taps: [1, 7], padding: [0, 3], ..single(24) }),
        ("several for each", 16, 32, single(16)),
        ("too many taps for floats", 8, 8, wide),
    ] {
        let (mut network, x) = Network::new(&[1, 16, 9, 8]);
        let y = network.conv(x, channels, PLACES);
        let y = network.relu(y);
        let y = network.conv(y, columns, windows);
        let y = network.relu(y);
        let y = network.conv(y, 16, PLACES);
        check_network(what, &network.finished(y), 3);
    }
}

/// What is between products as integers, and what is not.
#[test]
fn networks_of_several_branches() {
    let (mut network, x) = Network::new(&[2, 8, 8, 8]);
    let a = network.conv(x, 16, THREE);
    let a = network.relu(a);
    let pooled = network.pool(a, WindowOp::Max);
    let b = network.conv(pooled, 8, PLACES);
    let b = network.tanh(b);
    let c = network.conv(pooled, 16, THREE);
    let sum = network.add(pooled, c);
    let sum = network.relu(sum);
    let part = network.channels(sum, 4, 8);
    let joined = network.joined(&[b, part, pooled], 1);
    let y = network.conv(joined, 12, THREE);
    let mean = network.pool(y, WindowOp::Sum);
    let mean = network.conv(mean, 8, PLACES);
    let turned = network.graph.emit(Op::Transpose(vec![0, 2, 3, 1]), &[mean]);
    let flat = network.flat(turned);
    let y = network.dense(flat, 10, false);
    check_network("branches", &network.finished(y), 6);
}

/// The same bytes read by several products, and by what wants floats.
#[test]
fn readers_of_one_value() {
    let (mut network, x) = Network::new(&[3, 20]);
    let shared = network.dense(x, 24, false);
    let shared = network.relu(shared);
    let a = network.dense(shared, 24, false);
    let b = network.dense(shared, 24, true);
    let sum = network.add(a, b);
    let sum = network.add(sum, shared);
    let total = network.graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1] }, &[sum]);
    network.graph.add_output("total", total, OutputKind::Result);
    let y = network.dense(sum, 16, false);
    check_network("readers", &network.finished(y), 4);
}
