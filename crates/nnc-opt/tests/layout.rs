//! Channels side by side: the same values, and between convolutions nothing is turned back; factors of channels in the
//! weights.

use nnc_graph::testing::random_inputs;
use nnc_graph::{
    BinaryOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Shape, SliceRange, TensorType, UnaryOp,
    ValueId, WindowAttributes, WindowOp, interpret, text,
};
use nnc_opt::{Options, optimise};

fn ty(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F64, Shape::of(dims))
}

fn dims(numbers: &[usize]) -> Vec<Dim> {
    numbers.iter().map(|&number| Dim::from(number as i64)).collect()
}

struct Net {
    graph: Graph,
    params: usize,
}

impl Net {
    fn new(image: &[usize]) -> (Self, ValueId) {
        let mut graph = Graph::new("net");
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(image) }, &[]);
        (Self { graph, params: 0 }, x)
    }

    fn param(&mut self, dims: &[usize]) -> ValueId {
        self.params += 1;
        self.graph.emit(Op::Param { path: format!("p{}", self.params), ty: ty(dims) }, &[])
    }

    fn geometry(stride: usize, padding: usize, groups: usize) -> ConvAttributes {
        let (stride, low, dilation) = (dims(&[stride; 2]), dims(&[padding; 2]), dims(&[1; 2]));
        ConvAttributes { stride, high: low.clone(), low, dilation, groups: Dim::from(groups as i64) }
    }

    fn conv(
        &mut self,
        x: ValueId,
        rows: usize,
        taps: usize,
        (stride, padding, groups): (usize, usize, usize),
    ) -> ValueId {
        let channels = self.graph.ty(x).shape[1].size() / groups;
        let w = self.param(&[rows, channels, taps, taps]);
        self.graph.emit(Op::Conv(Self::geometry(stride, padding, groups)), &[x, w])
    }

    fn spread(&mut self, x: ValueId, rows: usize) -> ValueId {
        let shape = self.graph.ty(x).shape.sizes();
        let w = self.param(&[shape[1], rows, 2, 2]);
        let op = Op::ConvInputGrad { attributes: Self::geometry(2, 0, 1), input: dims(&[2 * shape[2], 2 * shape[3]]) };
        self.graph.emit(op, &[x, w])
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        let zero = self.graph.splat(&self.graph.ty(x).clone(), 0.0);
        self.graph.emit(Op::Binary(BinaryOp::Max), &[x, zero])
    }

    /// A number for each channel.
    fn bias(&mut self, x: ValueId) -> ValueId {
        let shape = self.graph.ty(x).shape.clone();
        let bias = self.param(&[shape[1].size()]);
        let bias = self.graph.emit(Op::Broadcast { shape, axes: vec![1] }, &[bias]);
        self.graph.emit(Op::Binary(BinaryOp::Add), &[x, bias])
    }

    fn pool(&mut self, x: ValueId) -> ValueId {
        let two = dims(&[2, 2]);
        let attributes = WindowAttributes { size: two.clone(), stride: two, low: dims(&[0, 0]), high: dims(&[0, 0]) };
        self.graph.emit(Op::Window { op: WindowOp::Max, attributes }, &[x])
    }
}

/// A small network with everything that lies between convolutions.
fn network() -> Graph {
    let (mut net, x) = Net::new(&[2, 3, 8, 12]);
    let a = net.conv(x, 8, 3, (1, 1, 1));
    let a = net.bias(a);
    let a = net.relu(a);
    let deep = net.conv(a, 8, 3, (1, 1, 8));
    let narrow = net.pool(deep);
    let narrow = net.conv(narrow, 16, 1, (1, 0, 1));
    let wide = net.spread(narrow, 8);
    let both = net.graph.emit(Op::Concat { axis: 1 }, &[wide, a]);
    let zero = net.graph.scalar(DType::F64, 0.0);
    let padding = |ends: [usize; 2]| dims(&[0, 0, ends[0], ends[1]]);
    let padded = net.graph.emit(Op::Pad { low: padding([1, 0]), high: padding([0, 2]) }, &[both, zero]);
    let whole = |size: usize| SliceRange { start: Dim::from(0), size: Dim::from(size as i64), step: 1 };
    let ranges = vec![whole(2), whole(12), whole(9), SliceRange { step: 2, ..whole(7) }];
    let cut = net.graph.emit(Op::Slice(ranges), &[padded]);
    let last = net.conv(cut, 12, 3, (2, 0, 1));
    let last = net.graph.emit(Op::Unary(UnaryOp::Abs), &[last]);
    let mean = net.graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![2, 3] }, &[last]);
    let rows = net.graph.emit(Op::Reduce { op: ReduceOp::Max, axes: vec![3] }, &[last]);
    let flat = net.graph.emit(Op::Reshape(vec![Dim::from(2), Dim::from(12 * 12)].into()), &[last]);
    for (name, value) in [("last", last), ("mean", mean), ("rows", rows), ("flat", flat)] {
        net.graph.add_output(name, value, OutputKind::Result);
    }
    net.graph
}

fn count(graph: &Graph, name: &str) -> usize {
    graph.nodes().filter(|(_, node)| node.op.name() == name).count()
}

/// The optimised graph, which computes what the given one does.
fn same_values(graph: &Graph) -> Graph {
    let optimised = optimise(graph, &Options::default()).unwrap().graph;
    for seed in 0..3 {
        let given = random_inputs(graph, seed);
        let (expected, found) = (interpret::run(graph, &given).unwrap(), interpret::run(&optimised, &given).unwrap());
        for (before, after) in graph.outputs().iter().zip(optimised.outputs()) {
            let (x, y) = (expected.value(before.value).to_f64(), found.value(after.value).to_f64());
            let largest = x.iter().fold(1.0f64, |most, x| most.max(x.abs()));
            let close = x.iter().zip(&y).all(|(x, y)| (x - y).abs() <= 1e-12 * largest);
            assert!(close && x.len() == y.len(), "{}: {x:?}\n{y:?}", before.name);
        }
    }
    optimised
}

/// Something for each channel, of a parameter.
fn with_channels(net: &mut Net, op: BinaryOp, x: ValueId) -> ValueId {
    let shape = net.graph.ty(x).shape.clone();
    let vector = net.param(&[shape[1].size()]);
    let repeated = net.graph.emit(Op::Broadcast { shape, axes: vec![1] }, &[vector]);
    net.graph.emit(Op::Binary(op), &[x, repeated])
}

/// A convolution with what normalisation does to it; `watched` says which step's result is asked for, too.
fn normalised(watched: Option<usize>) -> Graph {
    let (mut net, x) = Net::new(&[2, 3, 6, 5]);
    let mut y = net.conv(x, 8, 3, (1, 1, 1));
    for (at, op) in [BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Add].into_iter().enumerate() {
        if op == BinaryOp::Div {
            // Far from zero.
            let vector = net.param(&[8]);
            let vector = net.graph.emit(Op::Unary(UnaryOp::Exp), &[vector]);
            let shape = net.graph.ty(y).shape.clone();
            let repeated = net.graph.emit(Op::Broadcast { shape, axes: vec![1] }, &[vector]);
            y = net.graph.emit(Op::Binary(op), &[y, repeated]);
        } else {
            y = with_channels(&mut net, op, y);
        }
        if watched == Some(at) {
            net.graph.add_output("watched", y, OutputKind::Result);
        }
    }
    let y = net.relu(y);
    net.graph.add_output("y", y, OutputKind::Result);
    net.graph
}

#[test]
fn factors_of_channels_go_into_weights() {
    let elements = |graph: &Graph, node: &nnc_graph::Node| graph.ty(node.results[0]).shape.elements().size();
    let on_images = |graph: &Graph, op: &str| {
        let all = graph.nodes().filter(|(_, node)| node.op.name() == op && elements(graph, node) == 480);
        all.count()
    };
    let absorbed = same_values(&normalised(None));
    let text = nnc_graph::text::print(&absorbed);
    let ops = ["sub", "mul", "div", "add"].map(|op| on_images(&absorbed, op));
    assert_eq!((count(&absorbed, "conv_last"), ops), (1, [0, 0, 0, 1]), "{text}");
    // What is asked for in between is computed as it was.
    let watched = same_values(&normalised(Some(1)));
    assert_eq!(on_images(&watched, "div") + on_images(&watched, "mul"), 1, "{}", nnc_graph::text::print(&watched));
}

#[test]
fn the_same_values() {
    let graph = network();
    let optimised = same_values(&graph);
    let count = |name: &str| count(&optimised, name);
    assert_eq!((count("conv"), count("conv_last"), count("conv_input_grad")), (0, 3, 0));
    assert_eq!(count("dot"), 2, "{}", nnc_graph::text::print(&optimised));
    // The image, the weights and blocks of the transpose, and what is asked for in the plain form.
    assert!(count("transpose") <= 6, "{}", nnc_graph::text::print(&optimised));
}

/// A convolution `[N, 8, H, W] -> [N, 9, ..]` of the given geometry, and its two transposes on cotangents of their own.
fn transposes(image: [usize; 2], taps: [usize; 2], geometry: [usize; 3]) -> Option<Graph> {
    transposes_of([8, 9, 1], image, taps, geometry)
}

/// The same with channels, output channels and groups.
fn transposes_of(
    [channels, rows, groups]: [usize; 3],
    image: [usize; 2],
    taps: [usize; 2],
    [stride, padding, dilation]: [usize; 3],
) -> Option<Graph> {
    let (mut net, x) = Net::new(&[2, channels, image[0], image[1]]);
    let reach = |axis: usize| (image[axis] + 2 * padding).checked_sub(dilation * (taps[axis] - 1) + 1);
    let windows = [reach(0)? / stride + 1, reach(1)? / stride + 1];
    let attributes = ConvAttributes { dilation: dims(&[dilation; 2]), ..Net::geometry(stride, padding, groups) };
    let w = net.param(&[rows, channels / groups, taps[0], taps[1]]);
    let y = net.graph.emit(Op::Conv(attributes.clone()), &[x, w]);
    let dy = net.graph.emit(Op::Input { name: "dy".to_owned(), ty: ty(&[2, rows, windows[0], windows[1]]) }, &[]);
    let op = Op::ConvInputGrad { attributes: attributes.clone(), input: dims(&image) };
    let dx = net.graph.emit(op, &[dy, w]);
    let dw = net.graph.emit(Op::ConvWeightGrad { attributes, kernel: dims(&taps) }, &[x, dy]);
    for (name, value) in [("y", y), ("dx", dx), ("dw", dw)] {
        net.graph.add_output(name, value, OutputKind::Result);
    }
    Some(net.graph)
}

#[test]
fn transposes_of_every_geometry_become_convolutions() {
    let (mut seen, mut stay) = (0, 0);
    for image in [[6, 5], [7, 9]] {
        for taps in [[1, 1], [2, 3], [4, 4], [5, 3], image] {
            for stride in 1..4 {
                for padding in [0, 1, 3] {
                    for dilation in [1, 2] {
                        let Some(graph) = transposes(image, taps, [stride, padding, dilation]) else { continue };
                        let optimised = same_values(&graph);
                        seen += 1;
                        stay += count(&optimised, "conv_input_grad");
                    }
                }
            }
        }
    }
    // Those of which a phase reads nothing but padding stay as they are.
    assert!(seen > 120 && stay * 10 < seen, "{stay} of {seen} geometries stay");
}

/// Of single channels they stay what they are, and nothing but what is given is turned.
#[test]
fn transposes_of_single_channels_have_their_channels_last() {
    for (image, taps, geometry) in [
        ([6, 5], [3, 3], [1, 1, 1]),
        ([7, 9], [3, 3], [2, 1, 1]),
        ([8, 8], [5, 5], [2, 2, 1]),
        ([9, 7], [3, 3], [1, 2, 2]),
        ([9, 7], [1, 3], [3, 1, 1]),
        ([7, 9], [1, 1], [2, 0, 1]),
    ] {
        let optimised = same_values(&transposes_of([9, 9, 9], image, taps, geometry).unwrap());
        let counts = ["conv_input_grad", "conv", "conv_input_grad_last", "conv_last"].map(|op| count(&optimised, op));
        assert_eq!(counts, [0, 0, 1, 1]);
    }
    // Several output channels for each channel stay as they are.
    let optimised = same_values(&transposes_of([9, 18, 9], [6, 5], [3, 3], [1, 1, 1]).unwrap());
    assert_eq!(count(&optimised, "conv_input_grad"), 1);
}

/// Pooling between convolutions, backward: nothing is turned but the image and the weights.
#[test]
fn gradients_of_pooling() {
    let (mut net, x) = Net::new(&[2, 3, 8, 8]);
    let a = net.conv(x, 8, 3, (1, 1, 1));
    let pooled = net.pool(a);
    let y = net.conv(pooled, 8, 3, (1, 1, 1));
    let squares = net.graph.emit(Op::Binary(BinaryOp::Mul), &[y, y]);
    let loss = net.graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0, 1, 2, 3] }, &[squares]);
    let weights: Vec<ValueId> = net
        .graph
        .nodes()
        .filter(|(_, node)| matches!(node.op, Op::Param { .. }))
        .map(|(_, node)| node.results[0])
        .collect();
    let given = [&[loss][..], &weights].concat();
    let gradients = net.graph.add(Op::Grad, &given).unwrap();
    for (at, &value) in gradients.iter().enumerate() {
        net.graph.add_output(&format!("g{at}"), value, OutputKind::Result);
    }
    let optimised = same_values(&nnc_opt::grad::expand(&net.graph));
    assert_eq!((count(&optimised, "conv_input_grad"), count(&optimised, "window_grad")), (0, 1));
    let plain = optimised.nodes().filter(|(_, node)| node.op.name() == "window_grad");
    let ranks: Vec<usize> = plain.map(|(_, node)| optimised.ty(node.results[0]).shape.rank()).collect();
    assert_eq!(ranks, [5], "{}", nnc_graph::text::print(&optimised));
}

/// In one axis, too.
#[test]
fn transposes_in_one_axis() {
    let mut graph = Graph::new("one");
    let dy = graph.emit(Op::Input { name: "dy".to_owned(), ty: ty(&[2, 3, 5]) }, &[]);
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(&[3, 8, 4]) }, &[]);
    let [stride, padding, one] = [2i64, 1, 1].map(|number| vec![Dim::from(number)]);
    let attributes =
        ConvAttributes { stride, low: padding.clone(), high: padding, dilation: one, groups: Dim::from(1i64) };
    let dx = graph.emit(Op::ConvInputGrad { attributes, input: dims(&[10]) }, &[dy, w]);
    graph.add_output("dx", dx, OutputKind::Result);
    let optimised = same_values(&graph);
    assert_eq!((count(&optimised, "conv_last"), count(&optimised, "conv_input_grad")), (2, 0));
}

/// Convolutions of a whole image are products, forward and backward.
#[test]
fn convolutions_of_whole_images_are_products() {
    let optimised = same_values(&transposes([4, 4], [4, 4], [1, 0, 1]).unwrap());
    let counts = ["dot", "conv_last", "conv_input_grad", "conv_weight_grad"].map(|op| count(&optimised, op));
    assert_eq!(counts, [3, 0, 0, 0], "{}", nnc_graph::text::print(&optimised));
}

#[test]
fn graphs_with_few_channels_stay() {
    let (mut net, x) = Net::new(&[1, 3, 6, 6]);
    let y = net.conv(x, 4, 3, (1, 1, 1));
    net.graph.add_output("y", y, OutputKind::Result);
    let optimised = optimise(&net.graph, &Options::default()).unwrap().graph;
    assert_eq!((count(&optimised, "conv"), count(&optimised, "conv_last")), (1, 0));
}

/// What changes a graph as a whole or not at all is one rewrite, and needs fuel for it.
#[test]
fn a_layout_is_one_rewrite() {
    let (mut net, x) = Net::new(&[2, 3, 8, 8]);
    let first = net.conv(x, 8, 3, (1, 1, 1));
    let second = net.conv(first, 8, 3, (1, 1, 1));
    net.graph.add_output("y", second, OutputKind::Result);
    let count = |fuel: Option<u64>, pass: &str| {
        let optimised = optimise(&net.graph, &Options { fuel, ..Options::default() }).unwrap();
        let records = optimised.log.records.iter().filter(|record| record.pass == pass);
        let is_moved = text::print(&optimised.graph).contains("conv_last");
        (records.map(|record| record.rewrites).sum::<u64>(), is_moved)
    };
    assert_eq!(count(None, "layout"), (1, true));
    assert_eq!(count(Some(0), "layout"), (0, false));
}

/// Kernels do not compute with 16 bits, fuel or not.
#[test]
fn halves_are_widened_without_fuel() {
    let mut graph = Graph::new("half");
    let ty = TensorType::new(DType::F16, Shape::of(&[4]));
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty }, &[]);
    let y = graph.emit(Op::Unary(UnaryOp::Exp), &[x]);
    graph.add_output("y", y, OutputKind::Result);
    let optimised = optimise(&graph, &Options { fuel: Some(0), ..Options::default() }).unwrap();
    let exp = optimised.graph.nodes().find(|(_, node)| matches!(node.op, Op::Unary(UnaryOp::Exp)));
    assert_eq!(optimised.graph.ty(exp.unwrap().1.results[0]).dtype, DType::F32);
    assert_eq!(optimised.log.rewrites(), 0);
}
