//! Graphs for inference: channels side by side, the same values, and between convolutions nothing is turned back; factors
//! of channels in the weights.

use nnc_graph::testing::random_inputs;
use nnc_graph::{
    BinaryOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Shape, SliceRange, TensorType, UnaryOp,
    ValueId, WindowAttributes, WindowOp, interpret,
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

/// Blocks with a rest behind them are no product.
#[test]
fn transposes_with_a_rest_stay() {
    let (mut net, x) = Net::new(&[1, 3, 4, 4]);
    let x = net.conv(x, 8, 3, (1, 1, 1));
    let w = net.param(&[8, 8, 2, 2]);
    let op = Op::ConvInputGrad { attributes: Net::geometry(2, 0, 1), input: dims(&[9, 9]) };
    let y = net.graph.emit(op, &[x, w]);
    net.graph.add_output("y", y, OutputKind::Result);
    assert_eq!(count(&same_values(&net.graph), "conv_input_grad"), 1);
}

#[test]
fn graphs_that_update_or_have_few_channels_stay() {
    let unchanged = |graph: &Graph| {
        let optimised = optimise(graph, &Options::default()).unwrap().graph;
        assert!(optimised.nodes().any(|(_, node)| node.op.name() == "conv"));
        assert!(!optimised.nodes().any(|(_, node)| node.op.name() == "conv_last"));
    };
    let (mut net, x) = Net::new(&[1, 3, 6, 6]);
    let y = net.conv(x, 4, 3, (1, 1, 1));
    net.graph.add_output("y", y, OutputKind::Result);
    unchanged(&net.graph);
    let (mut net, x) = Net::new(&[1, 3, 6, 6]);
    let y = net.conv(x, 8, 3, (1, 1, 1));
    net.graph.add_output("y", y, OutputKind::Result);
    let state = net.param(&[1]);
    let sum = net.graph.emit(Op::Binary(BinaryOp::Add), &[state, state]);
    net.graph.add_output("p2", sum, OutputKind::Update(state));
    unchanged(&net.graph);
}
