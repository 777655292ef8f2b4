//! Whole graphs: what the lowering makes of every op and of random graphs, compiled, against the kernel interpreter,
//! bit for bit, at every width.

mod common;

use common::graphs::{check, lowered};
use nnc_graph::testing::{
    Attention, GraphOptions, Layers, Mask, PooledConvolution, SparseConvolution, SparseProduct, graph_of_one_op,
    loop_names, op_names, random_graph_with, sparse_convolution, sparse_product, table_update,
};
use nnc_graph::{BinaryOp, CompareOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Shape, TensorType};
use nnc_graph::{Stored, Tensor, WindowAttributes, WindowOp};
use nnc_opt::fuse::{FuseOptions, GroupKind};
use nnc_opt::quantise::{Layer, Range, quantise};

#[test]
fn every_op() {
    let mut lowerable = 0;
    for name in op_names() {
        for seed in 0..4 {
            if let Some(graph) = graph_of_one_op(name, seed, &GraphOptions::default()) {
                lowerable += usize::from(check(&graph, seed));
            }
        }
    }
    assert!(lowerable > 50, "only {lowerable} graphs could be lowered");
}

#[test]
fn loops() {
    for name in loop_names() {
        for seed in 0..12 {
            let graph = graph_of_one_op(name, seed, &GraphOptions::default()).unwrap();
            assert!(check(&graph, seed), "{name}, seed {seed}");
        }
    }
}

/// A convolution in three spatial axes, in groups, with a stride, and its gradients.
fn convolution_in_space() -> Graph {
    let mut graph = Graph::new("space");
    let mut input = |name: &str, sizes: [usize; 5]| {
        let ty = TensorType::new(DType::F32, Shape::of(&sizes));
        graph.emit(Op::Input { name: name.to_owned(), ty }, &[])
    };
    let (x, w) = (input("x", [2, 4, 5, 6, 7]), input("w", [6, 2, 3, 2, 3]));
    let dims = |sizes: [i64; 3]| sizes.map(Dim::from).to_vec();
    let (stride, dilation) = (dims([2, 1, 2]), dims([1, 2, 1]));
    let attributes =
        ConvAttributes { stride, low: dims([1, 0, 1]), high: dims([0, 1, 1]), dilation, groups: Dim::from(2i64) };
    let y = graph.emit(Op::Conv(attributes), &[x, w]);
    let square = graph.emit(Op::Binary(BinaryOp::Mul), &[y, y]);
    let loss = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: (0..5).collect() }, &[square]);
    let gradients = graph.add(Op::Grad, &[loss, x, w]).unwrap();
    for (name, value) in [("y", y), ("dx", gradients[0]), ("dw", gradients[1])] {
        graph.add_output(name, value, OutputKind::Result);
    }
    graph
}

/// A convolution of single channels, and its gradients.
fn single_channels([images, channels, high, wide]: [usize; 4], taps: [usize; 2], geometry: [usize; 3]) -> Graph {
    let mut graph = Graph::new("single");
    let mut input = |name: &str, sizes: [usize; 4]| {
        let ty = TensorType::new(DType::F32, Shape::of(&sizes));
        graph.emit(Op::Input { name: name.to_owned(), ty }, &[])
    };
    let x = input("x", [images, channels, high, wide]);
    let w = input("w", [channels, 1, taps[0], taps[1]]);
    let [stride, low, dilation] = geometry.map(|number| vec![Dim::from(number as i64); 2]);
    let attributes = ConvAttributes { stride, high: low.clone(), low, dilation, groups: Dim::from(channels as i64) };
    let y = graph.emit(Op::Conv(attributes), &[x, w]);
    let square = graph.emit(Op::Binary(BinaryOp::Mul), &[y, y]);
    let loss = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: (0..4).collect() }, &[square]);
    let gradients = graph.add(Op::Grad, &[loss, x, w]).unwrap();
    for (name, value) in [("y", y), ("dx", gradients[0]), ("dw", gradients[1])] {
        graph.add_output(name, value, OutputKind::Result);
    }
    graph
}

/// Slabs of all taps, of lines of taps and of a part of a line; strides, padding, dilation, odd channels, several
/// parts.
#[test]
fn convolutions_of_single_channels_and_their_gradients() {
    for (seed, (image, taps, geometry)) in [
        ([2, 21, 9, 8], [3, 3], [1, 1, 1]),
        ([1, 37, 9, 8], [3, 3], [2, 1, 1]),
        ([1, 11, 11, 9], [5, 5], [1, 2, 1]),
        ([1, 9, 13, 11], [5, 5], [2, 2, 1]),
        ([2, 8, 9, 10], [3, 3], [1, 2, 2]),
        ([1, 19, 5, 9], [1, 7], [1, 3, 1]),
        ([1, 10, 3, 40], [1, 31], [1, 15, 1]),
        ([9, 19, 28, 28], [3, 3], [1, 1, 1]),
    ]
    .into_iter()
    .enumerate()
    {
        let graph = single_channels(image, taps, geometry);
        let optimised = nnc_opt::optimise(&graph, &nnc_opt::Options::default()).unwrap();
        assert!(check(&optimised.graph, seed as u64), "{image:?} by {taps:?}, {geometry:?}");
    }
}

/// The transpose in the image, in one axis and in two, on a cotangent of its own and with what follows it: phases of
/// strides up to 5, by every tap or some, by none, and by taps that lie apart; more padding than taps reach; sizes that
/// end in any phase.
#[test]
fn transposes_of_convolutions_of_single_channels() {
    let along: &[(usize, usize, [usize; 4])] = &[
        (11, 3, [2, 1, 1, 1]),
        (12, 3, [2, 1, 0, 1]),
        (9, 3, [3, 1, 1, 1]),
        (13, 5, [2, 2, 2, 1]),
        (14, 3, [2, 2, 2, 2]),
        (16, 4, [3, 0, 2, 2]),
        (10, 1, [2, 0, 0, 1]),
        (10, 2, [5, 0, 0, 1]),
        (7, 1, [2, 3, 3, 1]),
        (1, 1, [4, 5, 0, 1]),
        (12, 7, [1, 3, 3, 1]),
        (1500, 3, [3, 1, 1, 1]),
    ];
    for (seed, &(size, taps, geometry)) in along.iter().enumerate() {
        for channels in [8, 16, 21, 37] {
            let line = transpose_of_single_channels(&[2, channels, size], &[taps], &[geometry]);
            assert!(check(&line, seed as u64), "{channels} channels, {size} by {taps}, {geometry:?}");
        }
        let (high, down, across) = along[(seed + 5) % (along.len() - 1)];
        let sides = [high, size.min(40)];
        let image = transpose_of_single_channels(&[1, 19, sides[0], sides[1]], &[down, taps], &[across, geometry]);
        assert!(check(&image, seed as u64), "{sides:?} by {down} x {taps}, {across:?} and {geometry:?}");
    }
    let large = transpose_of_single_channels(&[1, 40, 60, 58], &[3, 3], &[[2, 1, 1, 1]; 2]);
    assert!(check(&large, 1), "several tasks");
}

/// The transpose of a convolution in an image `[N, C, ...X]`, whose axes have stride, padding before and behind, and
/// dilation, with channels last, scaled by what has its shape.
fn transpose_of_single_channels(image: &[usize], taps: &[usize], axes: &[[usize; 4]]) -> Graph {
    let mut graph = Graph::new("transpose");
    let mut input = |name: &str, sizes: &[usize]| {
        let ty = TensorType::new(DType::F32, Shape::of(sizes));
        graph.emit(Op::Input { name: name.to_owned(), ty }, &[])
    };
    let windows = |axis: usize| {
        let [stride, low, high, dilation] = axes[axis];
        (image[axis + 2] + low + high - dilation * (taps[axis] - 1) - 1) / stride + 1
    };
    let places: Vec<usize> = (0..axes.len()).map(windows).collect();
    let dy = input("dy", &[&image[..2], &places[..]].concat());
    let w = input("w", &[&[image[1], 1][..], taps].concat());
    let factor = input("factor", image);
    let [stride, low, high, dilation] = [0, 1, 2, 3].map(|at| axes.iter().map(|axis| Dim::from(axis[at])).collect());
    let attributes = ConvAttributes { stride, low, high, dilation, groups: Dim::from(image[1]) };
    let size = image[2..].iter().map(|&size| Dim::from(size)).collect();
    let dx = graph.emit(Op::ConvInputGrad { attributes, input: size }, &[dy, w]);
    let scaled = graph.emit(Op::Binary(BinaryOp::Mul), &[dx, factor]);
    graph.add_output("scaled", scaled, OutputKind::Result);
    let made = nnc_opt::optimise(&graph, &nnc_opt::Options::default()).unwrap().graph;
    assert!(made.nodes().any(|(_, node)| matches!(node.op, Op::ConvInputGradLast { .. })));
    made
}

/// Windows that overlap, over images with channels last: inside, at the borders, and all of them at a border.
#[test]
fn windows_that_overlap() {
    for (seed, plain) in [
        PooledConvolution { window: [3; 2], ..PooledConvolution::new([14, 12], [3, 40], 1, 2) },
        PooledConvolution { window: [3; 2], stride: [1; 2], ..PooledConvolution::new([9, 7], [2, 19], 1, 2) },
        PooledConvolution { window: [2, 5], low: 1, ..PooledConvolution::new([3, 4], [2, 9], 1, 2) },
    ]
    .into_iter()
    .enumerate()
    {
        let summed = PooledConvolution { op: WindowOp::Sum, low: 1, after: true, images: 2, ..plain.clone() };
        let padded = PooledConvolution { low: 1, ..plain.clone() };
        for pooled in [plain, padded, summed] {
            assert!(check(&pooled.graph(), seed as u64), "{pooled:?}");
        }
    }
}

/// Windows over direct convolutions and Winograd's tiles, with the image stored and without, whole and not.
#[test]
fn windows_of_convolutions() {
    for (seed, plain) in [
        PooledConvolution::new([14, 12], [3, 40], 5, 2),
        PooledConvolution::new([18, 14], [32, 32], 3, 2),
        PooledConvolution::new([6, 8], [32, 64], 3, 2),
        PooledConvolution::new([13, 9], [2, 11], 1, 3),
    ]
    .into_iter()
    .enumerate()
    {
        let summed = PooledConvolution { op: WindowOp::Sum, images: 2, after: true, ..plain.clone() };
        let stored = PooledConvolution { stored: true, residual: true, ..plain.clone() };
        for pooled in [plain, summed, stored] {
            assert!(check(&pooled.graph(), seed as u64), "{pooled:?}");
        }
    }
}

#[test]
fn a_convolution_in_three_axes() {
    let optimised = nnc_opt::optimise(&convolution_in_space(), &nnc_opt::Options::default()).unwrap();
    assert!(check(&optimised.graph, 7));
}

#[test]
fn random_graphs() {
    let lowerable = (0..60).filter(|&seed| check(&random_graph_with(seed, &GraphOptions::default()), seed)).count();
    assert!(lowerable > 30, "only {lowerable} graphs could be lowered");
}

/// In one kernel, forward and backward, with every mask.
#[test]
fn attention() {
    for (seed, mask) in [Mask::None, Mask::Causal, Mask::Padding, Mask::Added].into_iter().enumerate() {
        let odd = Attention::new(&[2, 3], 67, 101, 7).masked(mask);
        let heads = Attention { heads: true, values: 13, ..odd.clone() };
        for attention in [odd.clone(), heads, odd.derived()] {
            let fuse = FuseOptions { kept_scores: 0, ..FuseOptions::ALL };
            let options = nnc_opt::Options { fuse, ..nnc_opt::Options::default() };
            let optimised = nnc_opt::optimise(&attention.graph(), &options).unwrap();
            let groups = optimised.partition.groups.iter();
            let found = groups.filter(|group| group.kind == GroupKind::Attention).count();
            assert_eq!(found, 1 + usize::from(attention.derivative));
            assert!(check(&optimised.graph, seed as u64));
        }
    }
}

/// Loops over blocks of steps, whose stages run at the same time.
#[test]
fn layers_side_by_side() {
    let plain = Layers::new(2, 1, 40, 19);
    let cases = [
        Layers { rows: 3, residual: true, ..plain.clone() },
        Layers { count: 3, reverse: true, ..plain.clone() },
        plain,
    ];
    for (seed, layers) in cases.iter().enumerate() {
        let options = nnc_opt::Options { least_chain: 0, ..nnc_opt::Options::default() };
        let graph = nnc_opt::optimise(&layers.graph(), &options).unwrap().graph;
        let program = lowered(&graph, &FuseOptions::ALL, 16).unwrap().program;
        let stages: Vec<u32> = program.loops.iter().map(|each| each.stage_count()).filter(|&count| count > 1).collect();
        assert_eq!(stages, [layers.count as u32]);
        for again in 0..4 {
            assert!(check(&graph, (seed + 10 * again) as u64), "{layers:?}");
        }
    }
}

/// The update of a table and the gradient by its rows, in one kernel.
#[test]
fn updates_of_tables() {
    for (seed, (dims, count)) in (0..).zip([([400, 300], 9), ([37, 20], 50), ([12, 200], 100), ([10, 1], 30)]) {
        for momentum in [false, true] {
            assert!(check(&table_update(dims, count, momentum), seed), "{dims:?}, {count} updates");
        }
    }
}

#[test]
fn sparse_products() {
    let product = SparseProduct { rows: 1, depth: 61, columns: 43, block: 1, sparsity: 0.9, turned: false };
    let cases = [
        product,
        SparseProduct { rows: 3, ..product },
        SparseProduct { rows: 37, turned: true, ..product },
        SparseProduct { rows: 1, columns: 90, block: 16, sparsity: 0.75, ..product },
        SparseProduct { rows: 20, columns: 44, block: 8, sparsity: 0.75, ..product },
    ];
    for (seed, product) in cases.iter().enumerate() {
        assert!(check(&sparse_product(product, seed as u64), seed as u64), "{product:?}");
    }
}

#[test]
fn sparse_convolutions() {
    let convolution = SparseConvolution { columns: 44, ..SparseConvolution::SMALL };
    let cases = [
        convolution,
        SparseConvolution { stride: [2, 2], image: [2, 8, 40, 19], ..convolution },
        SparseConvolution { block: 16, ..convolution },
        SparseConvolution { block: 16, padding: 0, stride: [2, 2], ..convolution },
    ];
    for (seed, convolution) in cases.iter().enumerate() {
        assert!(check(&sparse_convolution(convolution, seed as u64), seed as u64), "{convolution:?}");
    }
}

/// A convolution by a parameter, and a bias, what is added and an activation behind it.
fn convolution([image, kernel]: [[usize; 4]; 2], stride: usize, groups: usize) -> Graph {
    let mut graph = Graph::new("narrow");
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let input = |graph: &mut Graph, name: &str, dims: &[usize]| {
        graph.emit(Op::Input { name: name.to_owned(), ty: ty(dims) }, &[])
    };
    let x = input(&mut graph, "x", &image);
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(&kernel) }, &[]);
    let both = |number: usize| vec![Dim::from(number as i64); 2];
    let padding = both((kernel[2] - 1) / 2);
    let attributes = ConvAttributes {
        stride: both(stride),
        low: padding.clone(),
        high: padding,
        dilation: both(1),
        groups: Dim::from(groups as i64),
    };
    let y = graph.emit(Op::ConvLast(attributes), &[x, w]);
    let shape = graph.ty(y).shape.clone();
    let residual = input(&mut graph, "residual", &shape.sizes());
    let bias = input(&mut graph, "bias", &kernel[..1]);
    let bias = graph.emit(Op::Broadcast { shape, axes: vec![3] }, &[bias]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, bias]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, residual]);
    let y = graph.emit(Op::Unary(nnc_graph::UnaryOp::Tanh), &[y]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

/// Tiles whose last vector is full, half full or nearly empty.
#[test]
fn few_channels() {
    for columns in [1, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 23, 24, 25, 31, 32, 33, 39, 40] {
        let of = |image: [usize; 4], taps: usize, channels: usize| [image, [columns, channels, taps, taps]];
        assert!(check(&convolution(of([1, 3, 5, 4], 1, 4), 1, 1), 1), "1 x 1, {columns}");
        assert!(check(&convolution(of([1, 5, 6, 3], 3, 3), 2, 1), 2), "3 x 3, {columns}");
        assert!(check(&convolution(of([1, 3, 4, columns], 3, 1), 1, columns), 3), "single channels, {columns}");
        if columns % 8 == 0 {
            assert!(check(&convolution(of([1, 9, 8, 8], 3, 8), 1, 1), 4), "many places, {columns}");
            assert!(check(&convolution(of([1, 3, 4, 8], 3, 4), 1, 2), 5), "groups, {columns}");
        }
    }
}

/// Weights that tasks go through panel by panel, asking for the next one meanwhile; windows one line after the other in
/// a tile.
#[test]
fn many_channels() {
    assert!(check(&convolution([[1, 13, 13, 256], [40, 256, 3, 3]], 2, 1), 1), "strided");
    assert!(check(&convolution([[1, 7, 7, 256], [300, 256, 1, 1]], 1, 1), 2), "windows in place");
    assert!(check(&convolution([[1, 9, 11, 256], [33, 256, 3, 3]], 2, 1), 3), "ragged");
}

/// A product by a parameter with a short epilogue that reads and writes elements of several sizes: a bias, what is
/// added, and truth values that choose.
fn finished_product([rows, depth, columns]: [usize; 3]) -> Graph {
    let mut graph = Graph::new("finished");
    let ty = |dtype, dims: &[usize]| TensorType::new(dtype, Shape::of(dims));
    let input = |graph: &mut Graph, name: &str, ty| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]);
    let x = input(&mut graph, "x", ty(DType::F32, &[rows, depth]));
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(DType::F32, &[depth, columns]) }, &[]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    let shape = graph.ty(y).shape.clone();
    let bias = input(&mut graph, "bias", ty(DType::F32, &[columns]));
    let bias = graph.emit(Op::Broadcast { shape, axes: vec![1] }, &[bias]);
    let added = input(&mut graph, "added", ty(DType::F32, &[rows, columns]));
    let chosen = input(&mut graph, "chosen", ty(DType::Bool, &[rows, columns]));
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, bias]);
    let y = graph.emit(Op::Select, &[chosen, y, added]);
    let positive = graph.emit(Op::Compare(CompareOp::Gt), &[y, added]);
    let wide = graph.emit(Op::Cast(DType::F64), &[y]);
    for (name, value) in [("y", y), ("positive", positive), ("wide", wide)] {
        graph.add_output(name, value, OutputKind::Result);
    }
    graph
}

/// Edges of products whose epilogues stay in registers, and of some so deep that their sums wait in memory.
#[test]
fn epilogues_at_the_edge() {
    for columns in [1, 2, 3, 5, 8, 10, 15, 16, 17, 24, 31, 33, 50, 70] {
        for [rows, depth] in [[1, 20], [5, 7], [31, 31], [3, 3000]] {
            let graph = finished_product([rows, depth, columns]);
            assert!(check(&graph, 1), "{rows} x {depth} x {columns}");
        }
    }
}

/// Few rows by a matrix that is too large for the caches: the columns that come next are asked for, also behind the
/// last.
#[test]
fn few_rows_by_a_matrix_from_memory() {
    for [rows, depth, columns] in [[1, 1040, 520], [4, 1029, 777], [2, 4100, 129]] {
        let graph = finished_product([rows, depth, columns]);
        assert!(check(&graph, 1), "{rows} x {depth} x {columns}");
    }
}

fn floats(name: &str, dims: &[usize]) -> Op {
    Op::Input { name: name.to_owned(), ty: TensorType::new(DType::F32, Shape::of(dims)) }
}

/// Rows `x` by a stored matrix, with a bias and what follows it.
fn stored_product(x: Op, (depth, columns): (usize, usize), stored: Stored) -> Graph {
    let mut graph = Graph::new("stored");
    let (x, bias) = (graph.emit(x, &[]), graph.emit(floats("bias", &[columns]), &[]));
    let mut input = |name: &str, ty| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]);
    let scales = stored.scales(depth, columns).map(|ty| input("scales", ty));
    let ty = stored.matrix(depth, columns);
    let dims = ty.shape.sizes();
    let bytes = ty.bytes();
    // Brain floats below 2; any byte is a number otherwise.
    let byte = |at: usize| if ty.dtype == DType::Bf16 && at % 2 == 1 { 0x3f } else { (at * 167 % 251) as u8 };
    let matrix = Tensor::from_bytes(ty.dtype, &dims, (0..bytes).map(byte).collect::<Vec<_>>()).unwrap();
    let matrix = graph.emit(Op::Constant(matrix), &[]);
    let operands: Vec<_> = [x, matrix].into_iter().chain(scales).collect();
    let y = graph.emit(Op::DotStored(stored), &operands);
    let shape = graph.ty(y).shape.clone();
    let bias = graph.emit(Op::Broadcast { shape, axes: vec![1] }, &[bias]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, bias]);
    let y = graph.emit(Op::Unary(nnc_graph::UnaryOp::Tanh), &[y]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

/// Few rows and many, columns that fill panels and that do not.
#[test]
fn products_by_matrices_of_few_bits() {
    for (rows, columns) in [(1, 272), (1, 9), (3, 96), (13, 50), (40, 33)] {
        for stored in [Stored::Bf16, Stored::Bytes { group: 24 }, Stored::Nibbles { group: 24 }] {
            let graph = stored_product(floats("x", &[rows, 72]), (72, columns), stored);
            assert!(check(&graph, 3), "{rows} x {columns}, {stored}");
        }
    }
}

/// Groups that are no whole words, one group of all, the smallest groups; every number of rows of a tile.
#[test]
fn products_by_integers_in_groups_of_every_kind() {
    let bytes = [1, 3, 6, 72].map(|group| Stored::Bytes { group });
    let nibbles = [8, 72].map(|group| Stored::Nibbles { group });
    for (rows, stored) in (2..10).zip(bytes.into_iter().chain(nibbles).cycle()) {
        let graph = stored_product(floats("x", &[rows, 72]), (72, 37), stored);
        assert!(check(&graph, 5), "{rows} rows, {stored}");
    }
}

/// What has no step, the largest floats, the smallest, nothing at all, and all of them in one group.
#[test]
fn products_of_unusual_numbers_by_integers() {
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3.4e38, -1e-45, 1.2e-38, 0.0, -0.0, 1e-30, -1e20];
    for stored in [Stored::Bytes { group: 24 }, Stored::Nibbles { group: 24 }] {
        // Row by row one of them among ones, then all of them together.
        let number = |at: usize| match (at / 72, at % 72) {
            (row, term) if row < special.len() => {
                if term % 7 == 3 {
                    special[row]
                } else {
                    1.0
                }
            }
            (row, term) if row == special.len() => special[3 + term % 7],
            (_, term) => special[4 + term % 5],
        };
        let rows = special.len() + 2;
        let x = Tensor::from_f64(DType::F32, &[rows, 72], &(0..rows * 72).map(number).collect::<Vec<_>>());
        assert!(check(&stored_product(Op::Constant(x), (72, 40), stored), 1), "{stored}");
    }
}

/// Lines of several vectors, with equal largest elements, with NaN, and with what is left over.
#[test]
fn the_first_largest_of_many() {
    for (size, largest) in [(300, vec![17, 18, 140]), (256, vec![255]), (131, vec![130, 64, 65]), (97, vec![])] {
        let mut values: Vec<f64> = (0..2 * size).map(|at| ((at * 7919) % 1009) as f64).collect();
        for &at in &largest {
            values[at] = 5000.0;
            values[size + at] = f64::NAN;
        }
        let mut graph = Graph::new("argmax");
        let x = graph.emit(Op::Constant(Tensor::from_f64(DType::F32, &[2, size], &values)), &[]);
        let y = graph.emit(Op::ArgMax { axis: 1 }, &[x]);
        graph.add_output("y", y, OutputKind::Result);
        assert!(check(&graph, 0));
    }
}

/// A quantised network whose activations are read by convolutions, one of single channels, by a residual sum, and by
/// means of windows and of the image.
fn quantised(signed: bool, channels: usize) -> Graph {
    let mut graph = Graph::new("quantised");
    let both = |number: usize| vec![Dim::from(number); 2];
    let image = floats("x", &[2, channels, 9, 7]);
    let x = graph.emit(image, &[]);
    let conv = |graph: &mut Graph, x, path: &str, (groups, stride): (usize, usize)| {
        let ty = TensorType::new(DType::F32, Shape::of(&[channels, channels / groups, 3, 3]));
        let w = graph.emit(Op::Param { path: path.to_owned(), ty }, &[]);
        let (low, high) = (both(1), both(1));
        let at = ConvAttributes { stride: both(stride), low, high, dilation: both(1), groups: groups.into() };
        graph.emit(Op::Conv(at), &[x, w])
    };
    let y = conv(&mut graph, x, "first", (1, 1));
    let z = conv(&mut graph, y, "second", (1, 1));
    let sum = graph.emit(Op::Binary(BinaryOp::Add), &[z, y]);
    let single = conv(&mut graph, sum, "single", (channels, 1));
    let strided = conv(&mut graph, single, "strided", (channels, 2));
    let last = conv(&mut graph, sum, "third", (1, 1));
    let at = WindowAttributes { size: both(3), stride: both(2), low: both(1), high: both(1) };
    let windows = graph.emit(Op::Window { op: WindowOp::Sum, attributes: at }, &[sum]);
    let whole = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![2, 3] }, &[sum]);
    for (name, value) in [("last", last), ("strided", strided), ("windows", windows), ("whole", whole)] {
        graph.add_output(name, value, OutputKind::Result);
    }
    let layer = |name: &str| {
        let input = Range { scale: 0.02, signed };
        Layer::new(name, input)
    };
    let layers = ["first", "second", "single", "strided", "third"].map(layer);
    let made = quantise(&graph, &layers);
    nnc_opt::optimise(&made, &nnc_opt::Options::default()).unwrap().graph
}

#[test]
fn quantised_networks() {
    for (seed, channels) in [16, 20, 48, 64].into_iter().enumerate() {
        for signed in [false, true] {
            assert!(check(&quantised(signed, channels), seed as u64), "{channels} channels, signed {signed}");
        }
    }
}
