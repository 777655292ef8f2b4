//! Quantised graphs on the interpreter: near to the floats that they stand for, and exact where they say so.

use nnc_graph::{
    BinaryOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Shape, SliceRange, Tensor, TensorType,
    UnaryOp, ValueId, WindowAttributes, WindowOp, interpret, verify,
};
use nnc_opt::fuse::{FuseOptions, partition};
use nnc_opt::quantise::{
    Change, Layer, Range, Sources, Unserved, crossings, floats_of_integers, layers_to_round, left_out, quantise,
    scales_path, shifts_path, sites, weights_path,
};
use std::collections::{BTreeMap, BTreeSet};

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
    let (layers, made) = rounded(graph, given);
    (quantise(graph, &layers), given.clone().into_iter().chain(made).collect())
}

/// The layers of a graph with the ranges that the interpreter sees, and their integers.
fn rounded(graph: &Graph, given: &BTreeMap<String, Tensor>) -> (Vec<Layer>, BTreeMap<String, Tensor>) {
    let run = interpret::run(graph, given).unwrap();
    let (mut layers, mut tensors) = (BTreeMap::<String, Layer>::new(), BTreeMap::new());
    let sources = Sources::new(graph);
    let range = |values: Vec<ValueId>| {
        let seen = values.into_iter().flat_map(|value| run.value(value).to_f64());
        let (least, most) = seen.fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
        Range::covering(least as f32, most as f32)
    };
    for site in sites(graph) {
        let input = range(sources.roots(site.input)).unwrap();
        let new = Layer { summands: range(sources.summands(site.input)), ..layer(&site.name, input) };
        layers.entry(site.name.clone()).and_modify(|other| other.input = other.input.and(input)).or_insert(new);
        let weights = run.value(site.weights);
        let inner: usize = weights.dims()[site.channel_axis + 1..].iter().product();
        let channel = |at: usize| at / inner % site.channels;
        let mut scales = vec![0f64; site.channels];
        let values = weights.to_f64();
        values.iter().enumerate().for_each(|(at, x)| scales[channel(at)] = scales[channel(at)].max(x.abs() / 64.0));
        let whole: Vec<f64> =
            values.iter().enumerate().map(|(at, x)| (x / scales[channel(at)]).round_ties_even()).collect();
        tensors.insert(weights_path(&site.name), Tensor::from_f64(DType::I8, weights.dims(), &whole));
        tensors.insert(scales_path(&site.name), Tensor::from_f64(DType::F32, &[site.channels], &scales));
    }
    (layers.into_values().collect(), tensors)
}

fn layer(name: &str, input: Range) -> Layer {
    Layer::new(name, input)
}

/// Holds the integers of a graph to its floats, relative to the largest.
fn stays_near(graph: &Graph, tolerance: f64) -> Graph {
    let given = given(graph);
    let (integers, tensors) = quantised(graph, &given);
    verify::verify(&integers).unwrap();
    let wanted = interpret::run(graph, &given).unwrap().value(graph.outputs()[0].value).to_f64();
    let found = interpret::run(&integers, &tensors).unwrap().value(integers.outputs()[0].value).to_f64();
    let largest = wanted.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    for (wanted, found) in wanted.iter().zip(&found) {
        assert!((wanted - found).abs() < tolerance * largest, "{wanted} became {found}, of {largest}");
    }
    integers
}

fn products(graph: &Graph, dtype: DType) -> usize {
    let is_product = |op: &Op| matches!(op, Op::Conv(_) | Op::ConvInputGrad { .. } | Op::Dot { .. });
    graph.nodes().filter(|(_, node)| is_product(&node.op) && graph.ty(node.results[0]).dtype == dtype).count()
}

#[test]
fn sites_have_the_names_of_their_weights() {
    let names: Vec<String> = sites(&network()).into_iter().map(|site| site.name).collect();
    assert_eq!(names, ["first.w", "single.w", "second.w", "head.w"]);
}

#[test]
fn integers_stay_near_to_the_floats() {
    let integers = stays_near(&network(), 0.05);
    assert_eq!((products(&integers, DType::I32), products(&integers, DType::F32)), (4, 0));
}

fn image(graph: &mut Graph) -> ValueId {
    graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[1, 8, 6, 6]) }, &[])
}

fn scaled(graph: &mut Graph, x: ValueId, factor: f64) -> ValueId {
    let factor = graph.splat(&graph.ty(x).clone(), factor);
    graph.emit(Op::Binary(BinaryOp::Mul), &[x, factor])
}

/// The transpose of a convolution of so many channels to 8: kernel, stride, padding, dilation.
fn transposed(graph: &mut Graph, x: ValueId, path: &str, [kernel, stride, padding, dilation]: [usize; 4]) -> ValueId {
    let from = graph.ty(x).shape.sizes();
    let w = graph.emit(Op::Param { path: format!("{path}.w"), ty: ty(&[from[1], 8, kernel, kernel]) }, &[]);
    let both = |number: usize| vec![Dim::from(number); 2];
    let side = |size: usize| Dim::from((size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding);
    let attributes = ConvAttributes {
        stride: both(stride),
        low: both(padding),
        high: both(padding),
        dilation: both(dilation),
        groups: 1usize.into(),
    };
    let input = vec![side(from[2]), side(from[3])];
    graph.emit(Op::ConvInputGrad { attributes, input }, &[x, w])
}

/// Windows that tile the result, that overlap, that leave gaps; activations with and without a sign, whose 0 counts
/// differently at the border; channels that are no whole words.
#[test]
fn transposes_of_convolutions_are_quantised() {
    for geometry in [[2, 2, 0, 1], [4, 2, 1, 1], [3, 2, 1, 1], [3, 1, 1, 1], [2, 3, 0, 1], [3, 2, 2, 2]] {
        for (channels, is_signed) in [(8, true), (8, false), (18, true)] {
            let mut graph = Graph::new("up");
            let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[2, channels, 5, 4]) }, &[]);
            let x = if is_signed { x } else { relu(&mut graph, x) };
            let y = transposed(&mut graph, x, "up", geometry);
            let y = relu(&mut graph, y);
            let y = conv(&mut graph, y, "last", &[8, 8, 3, 3], 1);
            graph.add_output("y", y, OutputKind::Result);
            if sites(&graph).iter().any(nnc_opt::quantise::Site::is_small) {
                continue;
            }
            let integers = stays_near(&graph, 0.05);
            assert_eq!(products(&integers, DType::F32), 0, "{geometry:?}");
            let layers: Vec<String> = sites(&graph).iter().map(|site| site.layer().to_owned()).collect();
            assert_eq!(layers, ["up.w", "last.w"]);
        }
    }
}

/// Products that are no sites, each with its reason; what is the same in every run is none.
#[test]
fn every_product_is_a_site_or_has_a_reason() {
    let mut graph = Graph::new("others");
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[4, 16]) }, &[]);
    let param = |graph: &mut Graph, path: &str, dims: &[usize]| {
        graph.emit(Op::Param { path: path.to_owned(), ty: ty(dims) }, &[])
    };
    let dot = |graph: &mut Graph, batch: usize, [a_axis, b_axis]: [usize; 2], [a, b]: [ValueId; 2]| {
        graph.emit(Op::Dot { batch, a_axes: vec![a_axis], b_axes: vec![b_axis] }, &[a, b])
    };
    let (left, right) = (param(&mut graph, "low.a", &[16, 8]), param(&mut graph, "low.b", &[8, 16]));
    let product = dot(&mut graph, 0, [1, 0], [left, right]);
    let y = dot(&mut graph, 0, [1, 0], [x, product]);
    let scores = dot(&mut graph, 0, [1, 1], [y, x]);
    let first = param(&mut graph, "first.w", &[4, 4]);
    let mixed = dot(&mut graph, 0, [1, 0], [first, scores]);
    let cube = param(&mut graph, "cube.w", &[4, 4, 8]);
    let each = graph.emit(Op::Reshape(Shape::of(&[4, 1, 4])), &[mixed]);
    let batched = dot(&mut graph, 1, [2, 1], [each, cube]);
    let wide = dot(&mut graph, 0, [1, 0], [mixed, cube]);
    let image = graph.emit(Op::Reshape(Shape::of(&[1, 4, 4, 1])), &[mixed]);
    let kernel = param(&mut graph, "up.w", &[4, 8, 2, 2]);
    let both = |number: usize| vec![Dim::from(number); 2];
    let attributes =
        ConvAttributes { stride: both(2), low: both(0), high: both(0), dilation: both(1), groups: 2usize.into() };
    let input = vec![Dim::from(8usize), Dim::from(2usize)];
    let up = graph.emit(Op::ConvInputGrad { attributes, input }, &[image, kernel]);
    let table = graph.splat(&ty(&[16, 8]), 0.5);
    let known = dot(&mut graph, 0, [1, 0], [x, table]);
    for (name, value) in [("batched", batched), ("wide", wide), ("up", up), ("known", known)] {
        graph.add_output(name, value, OutputKind::Result);
    }
    assert_eq!(sites(&graph).iter().map(|site| site.layer().to_owned()).collect::<Vec<_>>(), ["low.a"]);
    let found: Vec<(Option<String>, usize, Unserved)> = left_out(&graph)
        .into_iter()
        .map(|product| (product.weights.map(|(path, _)| path), product.products, product.why))
        .collect();
    let of = |path: &str, products, why| (Some(path.to_owned()), products, why);
    let expected = [
        (None, 4 * 4 * 16, Unserved::TwoActivations),
        of("first.w", 4 * 4 * 4, Unserved::WeightsFirst),
        of("cube.w", 4 * 8 * 4, Unserved::Batched),
        of("cube.w", 4 * 32 * 4, Unserved::NoMatrix),
        of("up.w", 16 * 8 * 4, Unserved::GroupedTranspose),
        (None, 4 * 8 * 16, Unserved::Constant),
    ];
    assert_eq!(found, expected);
}

/// Bytes up to 255 times weights up to 64 fit i32 as long as there are no more than 131,586 of them.
#[test]
fn sums_that_32_bits_may_not_hold_stay_floats() {
    let by_matrix = |terms: usize| {
        let mut graph = Graph::new("matrix");
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[1, terms]) }, &[]);
        let w = graph.emit(Op::Param { path: "wide.w".to_owned(), ty: ty(&[terms, 8]) }, &[]);
        let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
        graph.add_output("y", y, OutputKind::Result);
        graph
    };
    let by_taps = |channels: usize| {
        let mut graph = Graph::new("taps");
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[1, channels, 3, 3]) }, &[]);
        let y = conv(&mut graph, x, "wide", &[8, channels, 3, 3], 1);
        graph.add_output("y", y, OutputKind::Result);
        graph
    };
    for (fits, too_many) in [(by_matrix(131_586), by_matrix(131_587)), (by_taps(14_620), by_taps(14_621))] {
        assert_eq!((sites(&fits).len(), left_out(&fits)), (1, Vec::new()));
        assert_eq!(sites(&too_many), []);
        assert_eq!(left_out(&too_many).iter().map(|product| product.why).collect::<Vec<_>>(), [Unserved::ManyTerms]);
        assert_eq!(layers_to_round(&too_many), Vec::<String>::new());
        // Integers of other making are read as the floats that they stand for.
        let read = quantise(&too_many, &[layer("wide.w", Range { scale: 0.1, signed: false })]);
        verify::verify(&read).unwrap();
        let dtypes = |graph: &Graph, name: &str| -> Vec<DType> {
            let named = |op: &Op| op.name() == name;
            let products = graph.nodes().filter(|(_, node)| named(&node.op));
            products.map(|(_, node)| graph.ty(node.operands[0]).dtype).collect()
        };
        let name = too_many.nodes().last().map(|(_, node)| node.op.name()).unwrap();
        assert_eq!(dtypes(&read, name), [DType::F32]);
        let integers = weights_path("wide.w");
        assert!(read.nodes().any(|(_, node)| node.op.leaf_name() == Some(&integers)));
    }
}

/// A picture of bytes that nobody rounded, a product of bytes, an exponential, a product that stays one of floats.
#[test]
fn crossings_are_where_kernels_read_or_write_floats_of_bytes() {
    let mut graph = Graph::new("crossings");
    let picture = TensorType::new(DType::U8, Shape::of(&[4, 16]));
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: picture }, &[]);
    let x = graph.emit(Op::Cast(DType::F32), &[x]);
    let x = scaled(&mut graph, x, 1.0 / 255.0);
    let dot = |graph: &mut Graph, x: ValueId, path: &str| {
        let w = graph.emit(Op::Param { path: path.to_owned(), ty: ty(&[16, 16]) }, &[]);
        graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w])
    };
    let y = dot(&mut graph, x, "first.w");
    let y = relu(&mut graph, y);
    let y = dot(&mut graph, y, "second.w");
    let sums = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1] }, &[y]);
    let apart = graph.emit(Op::Unary(UnaryOp::Exp), &[y]);
    let y = dot(&mut graph, apart, "third.w");
    graph.add_output("sums", sums, OutputKind::Result);
    graph.add_output("y", y, OutputKind::Result);
    let range = Range { scale: 0.1, signed: false };
    let integers = quantise(&graph, &[layer("first.w", range), layer("second.w", range)]);
    let found = crossings(&integers, &partition(&integers, &FuseOptions::ALL));
    let (first, rest) = found.split_first().unwrap();
    assert_eq!(
        (first.change, first.bytes, &first.readers[..]),
        (Change::ToBytes, 64, &["product of bytes of dot".to_owned()][..])
    );
    assert!(rest.iter().all(|crossing| crossing.change == Change::ToFloats && crossing.bytes == 256), "{found:?}");
    let readers: BTreeSet<&str> = rest.iter().flat_map(|crossing| &crossing.readers).map(String::as_str).collect();
    assert!(readers.contains("reduction of reduce") && readers.len() == 2, "{found:?}");
    assert!(crossings(&graph, &partition(&graph, &FuseOptions::ALL)).is_empty(), "there are no bytes in floats");
}

/// Branches of other ranges, one of them read by a product of its own as well.
#[test]
fn concatenated_branches_have_one_range() {
    let mut graph = Graph::new("branches");
    let x = image(&mut graph);
    let a = conv(&mut graph, x, "a", &[8, 8, 3, 3], 1);
    let a = relu(&mut graph, a);
    let small = conv(&mut graph, a, "small", &[8, 8, 1, 1], 1);
    let large = scaled(&mut graph, small, 30.0);
    let both = graph.emit(Op::Concat { axis: 1 }, &[a, large]);
    let y = conv(&mut graph, both, "last", &[8, 16, 1, 1], 1);
    graph.add_output("y", y, OutputKind::Result);
    let integers = stays_near(&graph, 0.05);
    assert_eq!((products(&integers, DType::I32), products(&integers, DType::F32)), (3, 0));
}

/// A part of a value feeds a product, all of it a sum.
#[test]
fn the_range_of_a_part_does_not_cut_the_whole() {
    let mut graph = Graph::new("parts");
    let x = image(&mut graph);
    let large = scaled(&mut graph, x, 100.0);
    let both = graph.emit(Op::Concat { axis: 1 }, &[x, large]);
    let w = graph.emit(Op::Param { path: "mix.w".to_owned(), ty: ty(&[16]) }, &[]);
    let w = graph.emit(Op::Broadcast { shape: Shape::of(&[1, 16, 6, 6]), axes: vec![1] }, &[w]);
    let mixed = graph.emit(Op::Binary(BinaryOp::Mul), &[both, w]);
    let all = |size: usize| SliceRange { start: 0.into(), size: size.into(), step: 1 };
    let part = graph.emit(Op::Slice([1, 8, 6, 6].map(all).to_vec()), &[mixed]);
    let y = conv(&mut graph, part, "of_part", &[8, 8, 1, 1], 1);
    let whole = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1, 2, 3] }, &[mixed]);
    let sum = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1, 2, 3] }, &[y]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[whole, sum]);
    graph.add_output("y", y, OutputKind::Result);
    let integers = stays_near(&graph, 0.05);
    assert_eq!(products(&integers, DType::I32), 1);
}

/// What a layer is used on several times has one set of integers, and a range for all.
#[test]
fn weights_that_are_used_twice_are_kept_once() {
    let mut graph = Graph::new("twice");
    let x = image(&mut graph);
    let y = conv(&mut graph, x, "shared", &[8, 8, 3, 3], 1);
    let y = conv(&mut graph, y, "shared", &[8, 8, 3, 3], 1);
    graph.add_output("y", y, OutputKind::Result);
    assert_eq!(sites(&graph).iter().map(|site| site.name.as_str()).collect::<Vec<_>>(), ["shared.w", "shared.w"]);
    let integers = stays_near(&graph, 0.1);
    assert_eq!(products(&integers, DType::I32), 2);
    assert!(!integers.nodes().any(|(_, node)| matches!(&node.op, Op::Param { path, .. } if path == "shared.w")));
}

/// A program that makes other weights of a parameter, or lays channels along another axis, does not get these integers.
#[test]
fn other_weights_of_a_parameter_are_left_alone() {
    let with = |change: &dyn Fn(&mut Graph, ValueId) -> ValueId| {
        let mut graph = Graph::new("one");
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[4, 16]) }, &[]);
        let w = graph.emit(Op::Param { path: "head.w".to_owned(), ty: ty(&[16, 16]) }, &[]);
        let w = change(&mut graph, w);
        let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
        graph.add_output("y", y, OutputKind::Result);
        graph
    };
    let plain = with(&|_, w| w);
    let halved = with(&|graph, w| scaled(graph, w, 0.5));
    let thirds = with(&|graph, w| scaled(graph, w, 1.0 / 3.0));
    let mut turned = Graph::new("turned");
    let x = turned.emit(Op::Input { name: "x".to_owned(), ty: ty(&[4, 16]) }, &[]);
    let w = turned.emit(Op::Param { path: "head.w".to_owned(), ty: ty(&[16, 16]) }, &[]);
    let y = turned.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![1] }, &[x, w]);
    turned.add_output("y", y, OutputKind::Result);
    let graphs = [plain, halved, thirds, turned];
    for one in &graphs {
        let (layers, _) = rounded(one, &given(one));
        for other in &graphs {
            let is_same = std::ptr::eq(one, other);
            assert_eq!(products(&quantise(other, &layers), DType::I32), usize::from(is_same), "{layers:?}");
        }
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
    let integers = quantise(&graph, &[layer("only.w", Range { scale: 1.0, signed: true })]);
    let weights = Tensor::from_f64(DType::I8, &[8, 3, 3, 3], &tensors["only.w"].to_f64());
    tensors.insert(weights_path("only.w"), weights);
    tensors.insert(scales_path("only.w"), Tensor::from_f64(DType::F32, &[8], &[1.0; 8]));
    let wanted = interpret::run(&graph, &tensors).unwrap().value(graph.outputs()[0].value).to_f64();
    let found = interpret::run(&integers, &tensors).unwrap().value(integers.outputs()[0].value).to_f64();
    assert_eq!(wanted, found, "borders and the middle of the range, too");
}

#[test]
fn layers_that_a_graph_lacks_change_nothing() {
    let graph = network();
    let layer = layer("other", Range { scale: 1.0, signed: true });
    assert_eq!(products(&quantise(&graph, &[layer]), DType::F32), 4);
}

fn columns(graph: &mut Graph, x: ValueId, start: usize, size: usize) -> ValueId {
    let all = SliceRange { start: 0.into(), size: 4usize.into(), step: 1 };
    graph.emit(Op::Slice(vec![all, SliceRange { start: start.into(), size: size.into(), step: 1 }]), &[x])
}

/// Features, targets a thousand times as large, and numbers of classes are cut out of one row: only the features are
/// rounded, for the product alone, and by their own range.
#[test]
fn what_is_data_stays_exact_for_others() {
    let mut graph = Graph::new("row");
    let row = graph.emit(Op::Input { name: "row".to_owned(), ty: ty(&[4, 24]) }, &[]);
    let features = columns(&mut graph, row, 0, 16);
    let flat = graph.emit(Op::Reshape(Shape::of(&[4, 4, 4])), &[features]);
    let back = graph.emit(Op::Reshape(Shape::of(&[4, 16])), &[flat]);
    let w = graph.emit(Op::Param { path: "head.w".to_owned(), ty: ty(&[16, 8]) }, &[]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[back, w]);
    let target = columns(&mut graph, row, 16, 8);
    for (name, value) in [("y", y), ("target", target), ("features", features), ("flat", flat), ("row", row)] {
        graph.add_output(name, value, OutputKind::Result);
    }
    let mut given = given(&graph);
    let sized = |(at, x): (usize, f64)| if at % 24 < 16 { x } else { x * 1e3 };
    let mixed: Vec<f64> = given["row"].to_f64().into_iter().enumerate().map(sized).collect();
    given.insert("row".to_owned(), Tensor::from_f64(DType::F32, &[4, 24], &mixed));
    let (layers, _) = rounded(&graph, &given);
    assert!(layers[0].input.scale < 1.01 / 127.0, "{layers:?}");
    let (integers, tensors) = quantised(&graph, &given);
    assert_eq!(products(&integers, DType::I32), 1);
    let [wanted, found] = [(&graph, &given), (&integers, &tensors)].map(|(graph, tensors)| {
        let run = interpret::run(graph, tensors).unwrap();
        graph.outputs().iter().map(|output| run.value(output.value).to_f64()).collect::<Vec<_>>()
    });
    assert_eq!(wanted[1..], found[1..], "targets, features and the row itself");
    let furthest = wanted[0].iter().zip(&found[0]).fold(0f64, |most, (a, b)| most.max((a - b).abs()));
    assert!(furthest > 0.0 && furthest < 0.05, "{furthest}");
}

/// Marks tell apart what activations are computed by, whatever else a graph holds, and do not depend on names of
/// values.
#[test]
fn marks_say_what_activations_are_computed_by() {
    let mark = |factor: f64, beside: bool| {
        let mut graph = Graph::new("one");
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[4, 16]) }, &[]);
        if beside {
            let other = scaled(&mut graph, x, 9.0);
            graph.add_output("other", other, OutputKind::Result);
        }
        let x = scaled(&mut graph, x, factor);
        let w = graph.emit(Op::Param { path: "head.w".to_owned(), ty: ty(&[16, 16]) }, &[]);
        let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
        graph.add_output("y", y, OutputKind::Result);
        sites(&graph)[0].mark
    };
    assert_eq!(mark(0.5, false), mark(0.5, true));
    assert_ne!(mark(0.5, false), mark(0.25, false));
}

/// The floats that the integers of a layer stand for, along an axis of channels.
fn stood_for(tensors: &BTreeMap<String, Tensor>, name: &str, channel_axis: usize) -> Tensor {
    let (weights, scales) = (&tensors[&weights_path(name)], tensors[&scales_path(name)].to_f64());
    let dims = weights.dims();
    let inner: usize = dims[channel_axis + 1..].iter().product();
    let float = |(at, number): (usize, f64)| number * scales[at / inner % dims[channel_axis]];
    Tensor::from_f64(DType::F32, dims, &weights.to_f64().into_iter().enumerate().map(float).collect::<Vec<_>>())
}

/// Nobody looked at the activations: products are of floats, by what the integers stand for, and no floats are read.
#[test]
fn unobserved_products_read_what_integers_stand_for() {
    let graph = network();
    let given = given(&graph);
    let (layers, made) = rounded(&graph, &given);
    let read = floats_of_integers(&graph, &layers);
    verify::verify(&read).unwrap();
    assert_eq!((products(&read, DType::I32), products(&read, DType::F32)), (0, 4));
    let mut of_rounded = given.clone();
    let axis = |name: &str| usize::from(name == "head.w");
    of_rounded
        .extend(layers.iter().map(|layer| (layer.name.clone(), stood_for(&made, &layer.name, axis(&layer.name)))));
    let wanted = interpret::run(&graph, &of_rounded).unwrap().value(graph.outputs()[0].value).clone();
    let integers: BTreeMap<String, Tensor> =
        made.into_iter().chain(given.into_iter().filter(|(name, _)| name == "x")).collect();
    let found = interpret::run(&read, &integers).unwrap().value(read.outputs()[0].value).clone();
    for (wanted, found) in wanted.to_f64().iter().zip(found.to_f64()) {
        assert!((wanted - found).abs() < 1e-5, "{wanted}, {found}");
    }
}

/// A table of tokens that is the last layer, too: its rows are picked from what the integers of the product stand for.
#[test]
fn other_readers_of_a_layer_read_what_integers_stand_for() {
    let mut graph = Graph::new("tied");
    let places = TensorType::new(DType::I32, Shape::of(&[3]));
    let places = graph.emit(Op::Input { name: "places".to_owned(), ty: places }, &[]);
    let table = graph.emit(Op::Param { path: "table".to_owned(), ty: ty(&[20, 16]) }, &[]);
    let rows = graph.emit(Op::Gather { axis: 0, batch: 0 }, &[table, places]);
    let scores = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![1] }, &[rows, table]);
    graph.add_output("y", scores, OutputKind::Result);
    let mut given = given(&graph);
    given.insert("places".to_owned(), Tensor::from_f64(DType::I32, &[3], &[7.0, 0.0, 19.0]));
    let (layers, made) = rounded(&graph, &given);
    assert!(layers.len() == 1 && layers[0].name.starts_with("table@"), "{layers:?}");
    let integers = quantise(&graph, &layers);
    verify::verify(&integers).unwrap();
    let reads_floats =
        |graph: &Graph| graph.nodes().any(|(_, node)| matches!(&node.op, Op::Param { path, .. } if path == "table"));
    assert!(!reads_floats(&integers) && !reads_floats(&floats_of_integers(&graph, &layers)));
    assert_eq!(products(&integers, DType::I32), 1);
    let table = stood_for(&made, &layers[0].name, 0);
    let all: BTreeMap<String, Tensor> = given.into_iter().filter(|(name, _)| name == "places").chain(made).collect();
    let run = interpret::run(&floats_of_integers(&graph, &layers), &all).unwrap();
    let found = run.value(floats_of_integers(&graph, &layers).outputs()[0].value).to_f64();
    let rows: Vec<Vec<f64>> = table.to_f64().chunks(16).map(<[f64]>::to_vec).collect();
    let wanted = [7, 0, 19].iter().flat_map(|&at| {
        let row = rows[at].clone();
        rows.clone().into_iter().map(move |other| row.iter().zip(&other).map(|(a, b)| a * b).sum::<f64>())
    });
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-5, "{found}, {wanted}");
    }
}

/// Means of windows and of whole images, of what a convolution reads as well.
fn averaged(is_signed: bool) -> Graph {
    let mut graph = Graph::new("averaged");
    let x = image(&mut graph);
    let y = conv(&mut graph, x, "first", &[8, 8, 3, 3], 1);
    let y = if is_signed { y } else { relu(&mut graph, y) };
    let z = conv(&mut graph, y, "second", &[8, 8, 1, 1], 1);
    let [size, stride, border] = [3usize, 2, 1].map(|number| vec![Dim::from(number); 2]);
    let attributes = WindowAttributes { size, stride, low: border.clone(), high: border };
    let windows = graph.emit(Op::Window { op: WindowOp::Sum, attributes }, &[y]);
    let windows = scaled(&mut graph, windows, 1.0 / 9.0);
    let whole = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![2, 3] }, &[y]);
    let whole = scaled(&mut graph, whole, 1.0 / 36.0);
    for (name, value) in [("windows", windows), ("whole", whole), ("z", z)] {
        graph.add_output(name, value, OutputKind::Result);
    }
    graph
}

#[test]
fn bytes_are_added_as_whole_numbers() {
    for is_signed in [false, true] {
        let graph = averaged(is_signed);
        let given = given(&graph);
        let (integers, tensors) = quantised(&graph, &given);
        verify::verify(&integers).unwrap();
        let sums = |node: &nnc_graph::Node| matches!(node.op, Op::Reduce { .. } | Op::Window { .. } | Op::Conv(_));
        let is_float = |node: &nnc_graph::Node| integers.ty(node.results[0]).dtype.is_float();
        assert!(!integers.nodes().any(|(_, node)| sums(node) && is_float(node)));
        let [wanted, found] = [(&graph, &given), (&integers, &tensors)].map(|(graph, tensors)| {
            let run = interpret::run(graph, tensors).unwrap();
            graph.outputs().iter().map(|output| run.value(output.value).to_f64()).collect::<Vec<_>>()
        });
        for (wanted, found) in wanted.iter().zip(&found) {
            let largest = wanted.iter().fold(0f64, |largest, x| largest.max(x.abs()));
            let furthest = wanted.iter().zip(found).fold(0f64, |most, (a, b)| most.max((a - b).abs()));
            assert!(furthest < 0.05 * largest, "by {furthest}, of {largest}, signed {is_signed}");
        }
    }
}

/// A convolution whose channels' means a product reads; somebody else may read what they are means of.
fn headed(other: bool) -> Graph {
    let mut graph = Graph::new("headed");
    let x = image(&mut graph);
    let y = conv(&mut graph, x, "first", &[8, 8, 3, 3], 1);
    let y = relu(&mut graph, y);
    let flat = graph.emit(Op::Reshape(Shape::of(&[1, 8, 36])), &[y]);
    let mean = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![2] }, &[flat]);
    let mean = scaled(&mut graph, mean, 1.0 / 36.0);
    let w = graph.emit(Op::Param { path: "head.w".to_owned(), ty: ty(&[8, 10]) }, &[]);
    let z = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[mean, w]);
    graph.add_output("z", z, OutputKind::Result);
    if other {
        let apart = graph.emit(Op::Unary(UnaryOp::Exp), &[y]);
        graph.add_output("apart", apart, OutputKind::Result);
    }
    graph
}

/// What nobody reads but a mean before a product is bytes, by a range of its own, which is wider than that of means.
#[test]
fn what_only_means_read_is_bytes() {
    let graph = headed(false);
    let (layers, _) = rounded(&graph, &given(&graph));
    let head = layers.iter().find(|layer| layer.name == "head.w").unwrap();
    assert!(head.summands.unwrap().scale > 1.5 * head.input.scale, "{head:?}");
    let sums = |graph: &Graph, dtype: DType| {
        let is_sum = |op: &Op| matches!(op, Op::Reduce { op: ReduceOp::Sum, axes } if *axes == [2]);
        graph.nodes().filter(|(_, node)| is_sum(&node.op) && graph.ty(node.results[0]).dtype == dtype).count()
    };
    let integers = stays_near(&graph, 0.05);
    assert_eq!((sums(&integers, DType::I32), sums(&integers, DType::F32)), (1, 0));
    let read_elsewhere = stays_near(&headed(true), 0.05);
    assert_eq!((sums(&read_elsewhere, DType::I32), sums(&read_elsewhere, DType::F32)), (0, 1));
}

/// Data is added as it was given: integers of it are made for a product alone.
#[test]
fn sums_of_data_stay_exact() {
    let mut graph = Graph::new("data");
    let x = image(&mut graph);
    let y = conv(&mut graph, x, "only", &[8, 8, 3, 3], 1);
    let sum = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![2, 3] }, &[x]);
    graph.add_output("y", y, OutputKind::Result);
    graph.add_output("sum", sum, OutputKind::Result);
    let given = given(&graph);
    let (integers, tensors) = quantised(&graph, &given);
    let [wanted, found] = [(&graph, &given), (&integers, &tensors)]
        .map(|(graph, tensors)| interpret::run(graph, tensors).unwrap().value(graph.outputs()[1].value).to_f64());
    assert_eq!(wanted, found);
}

/// What is added to the results of a product is added to its bias where it has one, and to the results where it has
/// none.
#[test]
fn shifts_are_added_once() {
    let graph = network();
    let mut given = given(&graph);
    let (mut layers, made) = rounded(&graph, &given);
    given.extend(made);
    let plain = quantise(&graph, &layers);
    let sums = |graph: &Graph| graph.nodes().filter(|(_, node)| node.op == Op::Binary(BinaryOp::Add)).count();
    let wanted = interpret::run(&plain, &given).unwrap().value(plain.outputs()[0].value).to_f64();
    layers.iter_mut().filter(|layer| layer.name == "head.w").for_each(|layer| layer.is_shifted = true);
    let shift: Vec<f64> = (0..10).map(|at| f64::from(at) - 4.5).collect();
    given.insert(shifts_path("head.w"), Tensor::from_f64(DType::F32, &[10], &shift));
    let shifted = quantise(&graph, &layers);
    verify::verify(&shifted).unwrap();
    let found = interpret::run(&shifted, &given).unwrap().value(shifted.outputs()[0].value).to_f64();
    for (at, (wanted, found)) in wanted.iter().zip(&found).enumerate() {
        assert!(
            (wanted + shift[at % 10] - found).abs() < 1e-4 * wanted.abs().max(1.0),
            "{wanted} became {found} at {at}"
        );
    }
    assert_eq!(sums(&shifted), sums(&plain) + 1);
    let (mut biased, bias) = (Graph::new("biased"), TensorType::new(DType::F32, Shape::of(&[16])));
    let x = biased.emit(Op::Input { name: "x".to_owned(), ty: ty(&[4, 32]) }, &[]);
    let w = biased.emit(Op::Param { path: "w".to_owned(), ty: ty(&[32, 16]) }, &[]);
    let b = biased.emit(Op::Param { path: "b".to_owned(), ty: bias }, &[]);
    let y = biased.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    let b = biased.emit(Op::Broadcast { shape: Shape::of(&[4, 16]), axes: vec![1] }, &[b]);
    let y = biased.emit(Op::Binary(BinaryOp::Add), &[b, y]);
    biased.add_output("y", y, OutputKind::Result);
    let layer = Layer { is_shifted: true, ..layer("w", Range::covering(-1.0, 1.0).unwrap()) };
    let shifted = quantise(&biased, &[layer]);
    let wide = shifted
        .nodes()
        .filter(|(_, node)| node.op == Op::Binary(BinaryOp::Add) && shifted.ty(node.results[0]).shape.rank() == 2);
    let wide: Vec<_> = wide.filter(|(_, node)| shifted.ty(node.results[0]).dtype == DType::F32).collect();
    let reads_bias = wide.iter().any(|(_, node)| {
        node.operands.iter().any(|&operand| matches!(shifted.definition(operand).op, Op::Broadcast { .. }))
    });
    assert!(
        reads_bias && wide.iter().filter(|(_, node)| shifted.ty(node.results[0]).shape.sizes() == [4, 16]).count() == 1
    );
}

/// What is added to shifted results may be a leaf: an input, a parameter of their own shape, a constant.
#[test]
fn what_is_added_to_shifted_results_may_be_no_bias() {
    let mut graph = Graph::new("residual");
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[4, 32]) }, &[]);
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(&[32, 32]) }, &[]);
    let own = graph.emit(Op::Param { path: "own".to_owned(), ty: ty(&[4, 32]) }, &[]);
    let product = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    let sum = graph.emit(Op::Binary(BinaryOp::Add), &[product, x]);
    let again = graph.emit(Op::Binary(BinaryOp::Add), &[own, product]);
    graph.add_output("y", sum, OutputKind::Result);
    graph.add_output("z", again, OutputKind::Result);
    let mut given = given(&graph);
    let (layers, made) = rounded(&graph, &given);
    given.extend(made);
    given.insert(shifts_path("w"), Tensor::from_f64(DType::F32, &[32], &[2.0; 32]));
    let plain = quantise(&graph, &layers);
    let layers: Vec<Layer> = layers.into_iter().map(|layer| Layer { is_shifted: true, ..layer }).collect();
    let shifted = quantise(&graph, &layers);
    verify::verify(&shifted).unwrap();
    let (wanted, found) = (interpret::run(&plain, &given).unwrap(), interpret::run(&shifted, &given).unwrap());
    for ((_, wanted), (_, found)) in wanted.outputs().zip(found.outputs()) {
        for (wanted, found) in wanted.to_f64().iter().zip(found.to_f64()) {
            assert!((wanted + 2.0 - found).abs() < 1e-4, "{wanted} became {found}");
        }
    }
}
