//! Shapes that are large enough to be cut: into tasks, into blocks of k, into parts that a second phase adds.

mod common;

use common::{holds, put_out};
use nnc_graph::testing::input;
use nnc_graph::{BinaryOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Shape, TensorType, UnaryOp};

/// The two elements of a window lie further apart than the memory of a kernel can count.
#[test]
fn a_kernel_with_too_much_scratch_memory_is_refused() {
    let mut graph = Graph::new("long");
    let x = input(&mut graph, "x", &[1, 1, 5 << 30]);
    let w = input(&mut graph, "w", &[2, 1, 2]);
    let number = |number: i64| vec![Dim::from(number)];
    let attributes = ConvAttributes {
        stride: number(2),
        low: number(0),
        high: number(0),
        dilation: number(4 << 30),
        groups: Dim::from(1),
    };
    let y = graph.emit(Op::Conv(attributes), &[x, w]);
    put_out(&mut graph, y);
    let grouped = nnc_opt::fuse::partition(&graph, &nnc_opt::fuse::FuseOptions::ALL);
    for f32_lanes in [4, 8, 16] {
        let refused = nnc_kernel::lower(&graph, &grouped, &nnc_kernel::ir::Target::new(f32_lanes));
        assert!(matches!(refused, Err(nnc_kernel::LowerError::Unsupported(what)) if what.contains("scratch")));
    }
}

/// `a[m, k] * b[k, n]`, each transposed or not.
fn product(m: usize, n: usize, k: usize, transposed: (bool, bool)) -> Graph {
    let mut graph = Graph::new("product");
    let a = input(&mut graph, "a", &if transposed.0 { [k, m] } else { [m, k] });
    let b = input(&mut graph, "b", &if transposed.1 { [n, k] } else { [k, n] });
    let axis = |turned: bool, plain: usize| vec![if turned { 1 - plain } else { plain }];
    let op = Op::Dot { batch: 0, a_axes: axis(transposed.0, 1), b_axes: axis(transposed.1, 0) };
    let y = graph.emit(op, &[a, b]);
    put_out(&mut graph, y);
    graph
}

#[test]
fn products_of_every_orientation_and_ragged_sizes() {
    for transposed in [(false, false), (true, false), (false, true), (true, true)] {
        for (m, n, k) in [(1, 37, 19), (37, 1, 19), (2, 3, 5), (13, 29, 17), (25, 8, 64), (30, 2, 40), (5, 50, 1)] {
            holds(product(m, n, k, transposed), &[4, 8, 16]);
        }
    }
}

#[test]
fn a_deep_product_is_added_in_blocks_of_k() {
    holds(product(14, 70, 1300, (false, false)), &[4, 16]);
    holds(product(3, 21, 1100, (true, true)), &[4, 8]);
}

#[test]
fn a_row_times_a_large_matrix_reads_it_row_by_row() {
    holds(product(1, 1024, 520, (false, false)), &[8, 16]);
    holds(product(3, 1600, 330, (false, false)), &[4]);
}

/// No vector reaches past the last element of the matrix, and its columns are no whole number of vectors.
#[test]
fn columns_are_read_in_place_to_the_last_one() {
    for columns in [1, 7, 10, 17, 33, 50, 131] {
        let graph = product(3, columns, 40, (false, false));
        let grouped = nnc_opt::fuse::partition(&graph, &nnc_opt::fuse::FuseOptions::ALL);
        let lowered = nnc_kernel::lower(&graph, &grouped, &nnc_kernel::ir::Target::new(16)).unwrap();
        let is_in_place = lowered.report.iter().any(|kernel| kernel.how.contains("read in place"));
        assert_eq!(is_in_place, columns > 1, "{columns} columns; one is exchanged with the rows");
        holds(graph, &[4, 8, 16]);
    }
}

#[test]
fn few_results_of_many_terms_are_added_in_parts() {
    holds(product(33, 30, 9000, (false, false)), &[4, 8]);
}

#[test]
fn many_rows_are_cut_into_tasks() {
    holds(product(700, 33, 90, (true, false)), &[4, 8]);
    // Tasks of few rows share what a phase of its own packs.
    holds(product(350, 16, 400, (false, false)), &[8]);
    holds(product(350, 13, 500, (true, true)), &[4, 16]);
}

#[test]
fn a_batch_of_transposed_heads() {
    let mut graph = Graph::new("heads");
    let q = input(&mut graph, "q", &[2, 9, 3, 8]);
    let k = input(&mut graph, "k", &[2, 11, 3, 8]);
    let heads = |graph: &mut Graph, x| graph.emit(Op::Transpose(vec![0, 2, 1, 3]), &[x]);
    let (q, k) = (heads(&mut graph, q), heads(&mut graph, k));
    let y = graph.emit(Op::Dot { batch: 2, a_axes: vec![3], b_axes: vec![3] }, &[q, k]);
    put_out(&mut graph, y);
    holds(graph, &[4, 8, 16]);
}

#[test]
fn a_batch_of_tall_products_shares_what_is_packed() {
    let mut graph = Graph::new("tall");
    let (a, b) = (input(&mut graph, "a", &[2, 340, 500]), input(&mut graph, "b", &[2, 500, 13]));
    let y = graph.emit(Op::Dot { batch: 1, a_axes: vec![2], b_axes: vec![1] }, &[a, b]);
    put_out(&mut graph, y);
    holds(graph, &[4, 8]);
    for graph in convolutions([2, 300, 5, 9], [96, 300, 1, 1], 1, 0, 1) {
        holds(graph, &[8]);
    }
}

#[test]
fn a_long_epilogue_goes_by_way_of_memory() {
    let mut graph = Graph::new("gelu");
    let x = input(&mut graph, "x", &[30, 40]);
    let w = input(&mut graph, "w", &[40, 27]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    let t = graph.emit(Op::Unary(UnaryOp::Erf), &[y]);
    let e = graph.emit(Op::Unary(UnaryOp::Sigmoid), &[t]);
    let y = graph.emit(Op::Binary(BinaryOp::Mul), &[y, e]);
    put_out(&mut graph, y);
    holds(graph, &[4, 8, 16]);
}

fn pair(a: i64, b: i64) -> Vec<Dim> {
    vec![Dim::from(a), Dim::from(b)]
}

/// A convolution and both its transposes. An image of one row is padded along it only.
fn convolutions(x: [usize; 4], w: [usize; 4], stride: i64, padding: i64, groups: i64) -> [Graph; 3] {
    let around = pair(if x[2] == 1 { 0 } else { padding }, padding);
    let at = ConvAttributes {
        stride: pair(stride, stride),
        low: around.clone(),
        high: around,
        dilation: pair(1, 1),
        groups: Dim::from(groups),
    };
    let mut forward = Graph::new("conv");
    let image = input(&mut forward, "x", &x);
    let weights = input(&mut forward, "w", &w);
    let y = forward.emit(Op::Conv(at.clone()), &[image, weights]);
    let result = forward.ty(y).shape.sizes();
    put_out(&mut forward, y);
    let mut image_grad = Graph::new("conv_input_grad");
    let dy = input(&mut image_grad, "dy", &result);
    let weights = input(&mut image_grad, "w", &w);
    let spatial = |dims: &[usize]| dims.iter().map(|&size| Dim::from(size)).collect::<Vec<_>>();
    let dx = image_grad.emit(Op::ConvInputGrad { attributes: at.clone(), input: spatial(&x[2..]) }, &[dy, weights]);
    put_out(&mut image_grad, dx);
    let mut weight_grad = Graph::new("conv_weight_grad");
    let image = input(&mut weight_grad, "x", &x);
    let dy = input(&mut weight_grad, "dy", &result);
    let dw = weight_grad.emit(Op::ConvWeightGrad { attributes: at, kernel: spatial(&w[2..]) }, &[image, dy]);
    put_out(&mut weight_grad, dw);
    [forward, image_grad, weight_grad]
}

#[test]
fn convolutions_of_many_geometries() {
    let cases = [
        ([2, 3, 9, 14], [13, 3, 3, 3], 1, 1, 1),
        ([2, 16, 7, 7], [24, 16, 3, 3], 1, 1, 1),
        ([1, 4, 11, 12], [6, 2, 3, 2], 2, 1, 2),
        ([3, 12, 8, 8], [20, 12, 1, 1], 1, 0, 1),
        ([2, 6, 10, 10], [6, 1, 5, 5], 1, 2, 6),
        ([1, 2, 20, 31], [3, 2, 7, 4], 3, 3, 1),
    ];
    for (x, w, stride, padding, groups) in cases {
        for graph in convolutions(x, w, stride, padding, groups) {
            holds(graph, &[4, 8, 16]);
        }
    }
}

/// Transposes in the image with channels last: of single channels by phases, and of groups by way of the plain form.
#[test]
fn transposes_with_channels_last() {
    for (channels, groups) in [(21, 21), (16, 16), (12, 3), (9, 1)] {
        for (size, taps, [stride, padding, dilation]) in [
            ([11, 10], [3, 3], [2, 1, 1]),
            ([9, 13], [3, 5], [3, 1, 1]),
            ([12, 7], [5, 3], [2, 2, 2]),
            ([10, 9], [2, 1], [4, 0, 1]),
            ([5, 6], [1, 2], [2, 3, 1]),
            ([8, 9], [3, 3], [1, 1, 1]),
            ([9, 40], [3, 1], [2, 0, 3]),
        ] {
            let mut graph = Graph::new("transpose");
            let of = |number: usize| pair(number as i64, number as i64);
            let windows = |axis: usize| (size[axis] + 2 * padding - dilation * (taps[axis] - 1) - 1) / stride + 1;
            let dy = input(&mut graph, "dy", &[2, windows(0), windows(1), channels]);
            let w = input(&mut graph, "w", &[channels, channels / groups, taps[0], taps[1]]);
            let attributes = ConvAttributes {
                stride: of(stride),
                low: of(padding),
                high: of(padding),
                dilation: of(dilation),
                groups: Dim::from(groups),
            };
            let op = Op::ConvInputGradLast { attributes, input: size.map(Dim::from).to_vec() };
            let dx = graph.emit(op, &[dy, w]);
            put_out(&mut graph, dx);
            holds(graph, &[4, 8, 16]);
        }
    }
}

#[test]
fn a_convolution_of_many_channels_is_added_in_blocks() {
    for graph in convolutions([1, 90, 6, 7], [80, 90, 3, 3], 1, 1, 1) {
        holds(graph, &[4]);
    }
    let [forward, ..] = convolutions([1, 150, 4, 5], [64, 150, 3, 3], 1, 1, 1);
    holds(forward, &[8, 16]);
}

#[test]
fn rows_of_windows_and_panels_that_come_together() {
    for (size, rows, stride) in [(56, 5, 2), (28, 48, 1), (14, 48, 1)] {
        for graph in convolutions([1, 3, size, size], [rows, 3, 3, 3], stride, 1, 1) {
            holds(graph, &[8]);
        }
    }
    let [forward, ..] = convolutions([1, 2, 48, 48], [49, 2, 3, 3], 1, 1, 1);
    holds(forward, &[4, 8]);
    let [forward, ..] = convolutions([2, 3, 9, 12], [7, 3, 1, 1], 2, 0, 1);
    holds(forward, &[4, 8, 16]);
}

#[test]
fn convolutions_of_single_channels() {
    let cases = [
        ([2, 4, 9, 14], [8, 1, 3, 3], 2, 1, 4),
        ([1, 3, 8, 25], [3, 1, 3, 3], 1, 1, 3),
        ([1, 2, 7, 9], [2, 1, 2, 4], 3, 1, 2),
    ];
    for (x, w, stride, padding, groups) in cases {
        for graph in convolutions(x, w, stride, padding, groups) {
            holds(graph, &[4, 8, 16]);
        }
    }
}

#[test]
fn small_images_are_laid_out_several_at_a_time() {
    let cases =
        [([5, 9, 4, 4], [17, 9, 3, 3], 1), ([7, 3, 5, 4], [6, 3, 2, 3], 2), ([3, 40, 2, 2], [300, 40, 1, 1], 1)];
    for (x, w, stride) in cases {
        let padding = (w[2] as i64 - 1).min(1);
        for graph in convolutions(x, w, stride, padding, 1) {
            holds(graph, &[4, 8]);
        }
    }
}

#[test]
fn a_convolution_of_a_large_image_is_cut_into_lines() {
    for graph in convolutions([1, 3, 150, 150], [2, 3, 3, 3], 1, 1, 1) {
        holds(graph, &[4]);
    }
}

#[test]
fn convolutions_of_long_rows_are_cut_into_pieces() {
    let cases = [
        ([1, 2, 1, 30_000], [3, 2, 1, 5], 1, 2),
        ([1, 2, 1, 30_011], [3, 2, 1, 5], 2, 3),
        ([2, 1, 1, 30_100], [3, 1, 1, 4], 3, 0),
        ([1, 1, 1, 3_000], [2, 1, 1, 600], 2, 10),
        ([1, 40, 1, 3_000], [2, 40, 1, 30], 1, 7),
        ([1, 1, 3, 40_001], [2, 1, 3, 3], 1, 1),
        ([1, 1, 3, 40_001], [2, 1, 3, 3], 2, 1),
    ];
    for (x, w, stride, padding) in cases {
        for graph in convolutions(x, w, stride, padding, 1) {
            holds(graph, &[8]);
        }
    }
}

#[test]
fn long_reductions_are_added_in_parts() {
    let cases: [(&[usize], &[usize]); 7] = [
        (&[70_001], &[0]),
        (&[2, 66_003], &[1]),
        (&[9_000, 7], &[0]),
        (&[40, 5, 1500], &[0, 2]),
        (&[6000, 3, 9], &[0, 1]),
        (&[300, 41], &[1]),
        (&[17, 300], &[0]),
    ];
    for (dims, axes) in cases {
        let small = dims.iter().product::<usize>() < 20_000;
        for op in if small { vec![ReduceOp::Sum, ReduceOp::Max] } else { vec![ReduceOp::Sum] } {
            let mut graph = Graph::new("reduce");
            let x = input(&mut graph, "x", dims);
            let x = graph.emit(Op::Unary(UnaryOp::Tanh), &[x]);
            let y = graph.emit(Op::Reduce { op, axes: axes.to_vec() }, &[x]);
            put_out(&mut graph, y);
            holds(graph, &[4, 8]);
        }
    }
}

/// What is computed of a reduction's result counts once for each result, not for each term.
#[test]
fn operations_are_counted_where_they_are() {
    let mut graph = Graph::new("sum");
    let x = input(&mut graph, "x", &[256, 64]);
    let sum = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[x]);
    let y = graph.emit(Op::Unary(UnaryOp::Exp), &[sum]);
    graph.add_output("y", y, OutputKind::Result);
    let grouped = nnc_opt::fuse::partition(&graph, &nnc_opt::fuse::FuseOptions::ALL);
    let lowered = nnc_kernel::lower(&graph, &grouped, &nnc_kernel::ir::Target::new(8)).unwrap();
    let flops: Vec<u64> = lowered.report.iter().map(|kernel| kernel.flops).collect();
    assert_eq!(flops, [256 * 64 + 64 * 20]);
}

/// A convolution with channels last whose weights are a parameter, with a bias and an activation behind it.
fn channels_last(image: [usize; 4], kernel: [usize; 4], geometry: [usize; 3], groups: usize) -> Graph {
    let mut graph = Graph::new("last");
    let x = input(&mut graph, "x", &image);
    let mut param = |path: &str, dims: &[usize]| {
        let ty = TensorType::new(DType::F32, Shape::of(dims));
        graph.emit(Op::Param { path: path.to_owned(), ty }, &[])
    };
    let (w, bias) = (param("w", &kernel), param("bias", &[kernel[0]]));
    let both = |number: usize| vec![Dim::from(number as i64); 2];
    let [stride, padding, dilation] = geometry.map(both);
    let attributes =
        ConvAttributes { stride, low: padding.clone(), high: padding, dilation, groups: Dim::from(groups as i64) };
    let y = graph.emit(Op::ConvLast(attributes), &[x, w]);
    let shape = graph.ty(y).shape.clone();
    let bias = graph.emit(Op::Broadcast { shape, axes: vec![3] }, &[bias]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, bias]);
    put_out(&mut graph, y);
    graph
}

#[test]
fn convolutions_with_channels_last() {
    // Windows read in place, padded, strided, dilated; ragged channels; one line and one column.
    holds(channels_last([1, 9, 7, 5], [21, 5, 3, 3], [1, 0, 1], 1), &[4, 8, 16]);
    holds(channels_last([2, 8, 6, 3], [16, 3, 3, 3], [2, 1, 1], 1), &[4, 8, 16]);
    holds(channels_last([1, 12, 11, 6], [17, 6, 3, 2], [1, 2, 2], 1), &[8, 16]);
    holds(channels_last([2, 5, 5, 8], [24, 8, 1, 1], [2, 0, 1], 1), &[8]);
    holds(channels_last([1, 1, 30, 4], [9, 4, 1, 5], [1, 2, 1], 1), &[8]);
    // Terms a line of taps, a tap, and some channels of a tap at a time.
    holds(channels_last([1, 6, 5, 300], [16, 300, 3, 3], [1, 1, 1], 1), &[8]);
    holds(channels_last([1, 4, 4, 700], [16, 700, 3, 3], [2, 1, 1], 1), &[8]);
    holds(channels_last([1, 3, 3, 2600], [16, 2600, 1, 2], [1, 0, 1], 1), &[8]);
    // A long line is stood up.
    holds(channels_last([1, 1, 3000, 4], [16, 4, 1, 3], [1, 0, 1], 1), &[8]);
    holds(channels_last([1, 1, 1500, 8], [8, 1, 1, 3], [1, 0, 1], 8), &[8]);
    // Several tasks of lines and of output channels.
    holds(channels_last([1, 40, 28, 16], [80, 16, 3, 3], [2, 1, 1], 1), &[8]);
}

/// Weights that do not stay in the second cache: tasks go through them panel by panel, the rows of a tile over one or
/// several lines of windows, or as they come; ragged channels, a last task with fewer lines, one and several slabs of
/// terms.
#[test]
fn convolutions_panel_by_panel() {
    let cases = [
        channels_last([1, 7, 8, 128], [90, 128, 3, 2], [1, 1, 1], 1),
        channels_last([1, 13, 13, 256], [40, 256, 3, 3], [2, 1, 1], 1),
        channels_last([2, 10, 11, 256], [33, 256, 3, 3], [2, 1, 1], 1),
        channels_last([1, 5, 9, 2600], [40, 2600, 1, 1], [1, 0, 1], 1),
        channels_last([1, 15, 13, 40], [72, 40, 5, 5], [2, 2, 1], 1),
    ];
    for graph in cases {
        for lanes in [4, 8, 16] {
            let grouped = nnc_opt::fuse::partition(&graph, &nnc_opt::fuse::FuseOptions::ALL);
            let lowered = nnc_kernel::lower(&graph, &grouped, &nnc_kernel::ir::Target::new(lanes)).unwrap();
            let schedules: Vec<_> = lowered.report.iter().map(|kernel| &kernel.how).collect();
            assert!(schedules.iter().any(|how| how.contains("panel by panel")), "{lanes} lanes: {schedules:?}");
        }
        holds(graph, &[4, 8, 16]);
    }
}

/// Output channels that leave the last vector of a tile full, half full, and nearly empty: each width of vectors adds
/// alike.
#[test]
fn few_channels_and_what_is_left_over_of_many() {
    for columns in 1..=40 {
        holds(channels_last([1, 3, 4, 5], [columns, 5, 1, 1], [1, 0, 1], 1), &[4, 8, 16]);
        holds(channels_last([1, 4, 5, 3], [columns, 3, 3, 3], [2, 1, 1], 1), &[8, 16]);
        holds(channels_last([1, 3, 5, 4], [2 * columns, 2, 1, 3], [1, 0, 1], 2), &[8, 16]);
        holds(channels_last([1, 3, 4, columns], [columns, 1, 3, 3], [1, 1, 1], columns), &[8, 16]);
        holds(weight_grad_last([1, 4, 5, 3], [columns, 3, 3, 3], [1, 1, 1]), &[8, 16]);
    }
    // Sums that wait in memory for the next slab.
    for columns in [7, 8, 24, 40] {
        holds(channels_last([1, 2, 3, 300], [columns, 300, 3, 3], [1, 1, 1], 1), &[8, 16]);
    }
}

/// As the channels, of matrices that are packed in each run, once, or read where they lie.
#[test]
fn products_of_few_columns() {
    for columns in 1..=40 {
        for rows in [1, 5, 33] {
            holds(product(rows, columns, 9, (false, columns % 2 == 0)), &[4, 8, 16]);
        }
        holds(constant_product(7, 9, columns, columns % 2 == 0), &[4, 8, 16]);
    }
}

/// The transpose in the weights of images whose channels lie side by side, which are given in the plain form.
fn weight_grad_last(image: [usize; 4], kernel: [usize; 4], geometry: [usize; 3]) -> Graph {
    grouped_weight_grad_last(image, kernel, geometry, 1)
}

/// The same in groups.
fn grouped_weight_grad_last(
    image: [usize; 4],
    kernel: [usize; 4],
    [stride, padding, dilation]: [usize; 3],
    groups: usize,
) -> Graph {
    let mut graph = Graph::new("weights");
    let windows = |axis: usize| {
        let reach = dilation * (kernel[axis + 1] - 1) + 1;
        (image[axis] + 2 * padding - reach) / stride + 1
    };
    let x = input(&mut graph, "x", &image);
    let dy = input(&mut graph, "dy", &[image[0], windows(1), windows(2), kernel[0]]);
    let [x, dy] = [x, dy].map(|value| graph.emit(Op::Transpose(vec![0, 3, 1, 2]), &[value]));
    let both = |number: usize| vec![Dim::from(number as i64); 2];
    let attributes = ConvAttributes {
        stride: both(stride),
        low: both(padding),
        high: both(padding),
        dilation: both(dilation),
        groups: Dim::from(groups as i64),
    };
    let taps = kernel[2..].iter().map(|&size| Dim::from(size as i64)).collect();
    let dw = graph.emit(Op::ConvWeightGrad { attributes, kernel: taps }, &[x, dy]);
    put_out(&mut graph, dw);
    graph
}

/// Taps that lie far apart: what blocks copy is not many times the image, and the sums are those of the definition.
#[test]
fn taps_far_apart_are_copied_in_large_blocks() {
    holds(channels_last([1, 1, 1100, 64], [8, 64, 1, 2], [1, 0, 1030], 1), &[8]);
    let graph = channels_last([2, 1, 16000, 64], [64, 64, 1, 2], [1, 1, 1024], 1);
    let grouped = nnc_opt::fuse::partition(&graph, &nnc_opt::fuse::FuseOptions::ALL);
    let lowered = nnc_kernel::lower(&graph, &grouped, &nnc_kernel::ir::Target::new(8)).unwrap();
    let conv = lowered.report.iter().find(|kernel| kernel.name == "conv").unwrap();
    let tasks: u64 = conv.tasks.iter().sum();
    assert!(tasks <= 128, "{tasks} tasks copy 1024 places each");
}

#[test]
fn transposes_in_weights_with_channels_last() {
    // Lines of taps as runs; few, ragged and many channels; padding, strides, dilation.
    holds(weight_grad_last([2, 6, 7, 3], [9, 3, 3, 3], [1, 1, 1]), &[4, 8, 16]);
    holds(weight_grad_last([1, 9, 8, 5], [21, 5, 3, 2], [2, 1, 1]), &[4, 8, 16]);
    holds(weight_grad_last([3, 8, 8, 6], [16, 6, 3, 3], [1, 2, 2]), &[8, 16]);
    holds(weight_grad_last([2, 5, 5, 64], [16, 64, 3, 3], [1, 1, 1]), &[4, 8]);
    holds(weight_grad_last([2, 4, 4, 1], [8, 1, 2, 2], [1, 0, 1]), &[8]);
    // Parts are counted alike for every width; strides leave a rest, padding is wider than the image, taps lie far
    // apart.
    holds(weight_grad_last([3, 4, 7, 33], [64, 33, 3, 3], [1, 1, 1]), &[4, 8, 16]);
    holds(weight_grad_last([2, 8, 7, 5], [9, 5, 3, 3], [3, 0, 1]), &[4, 8]);
    holds(weight_grad_last([2, 2, 2, 5], [9, 5, 3, 3], [1, 4, 1]), &[8]);
    holds(weight_grad_last([1, 1, 900, 64], [8, 64, 1, 2], [1, 0, 640]), &[8]);
    // Several images at a time, several blocks of lines, several parts; a line that is stood up.
    holds(weight_grad_last([40, 4, 4, 8], [16, 8, 3, 3], [1, 1, 1]), &[8]);
    holds(weight_grad_last([3, 40, 30, 16], [32, 16, 3, 3], [1, 1, 1]), &[8]);
    holds(weight_grad_last([2, 1, 500, 4], [16, 4, 1, 1], [1, 0, 1]), &[8]);
}

#[test]
fn convolutions_of_single_channels_with_channels_last() {
    holds(channels_last([2, 7, 9, 21], [21, 1, 3, 3], [1, 1, 1], 21), &[4, 8, 16]);
    holds(channels_last([1, 10, 10, 40], [40, 1, 3, 3], [2, 1, 1], 40), &[8]);
    holds(channels_last([1, 9, 13, 16], [16, 1, 5, 5], [1, 2, 1], 16), &[8]);
    holds(channels_last([1, 9, 13, 19], [19, 1, 3, 2], [1, 0, 2], 19), &[8]);
    // Several channels for each of several groups.
    holds(channels_last([2, 5, 6, 8], [12, 4, 3, 3], [1, 1, 1], 2), &[8]);
}

/// Single channels: a slab of all taps, of some lines of taps, of some taps of a line; parts, blocks, tasks of
/// channels.
#[test]
fn transposes_in_weights_of_single_channels() {
    let single = |image: [usize; 4], taps: [usize; 2], geometry| {
        let channels = image[3];
        grouped_weight_grad_last(image, [channels, 1, taps[0], taps[1]], geometry, channels)
    };
    for (stride, dilation) in [(1, 1), (2, 1), (1, 2), (3, 2)] {
        for taps in [[3, 3], [5, 5], [1, 7], [4, 2]] {
            for padding in [0, 2] {
                holds(single([2, 9, 15, 21], taps, [stride, padding, dilation]), &[4, 8, 16]);
            }
        }
    }
    for channels in 2..=40 {
        holds(single([1, 4, 5, channels], [3, 3], [1, 1, 1]), &[8, 16]);
    }
    holds(single([1, 8, 40, 17], [1, 31], [1, 15, 1]), &[4, 8, 16]);
    holds(single([1, 15, 14, 5], [13, 13], [1, 6, 1]), &[4, 8, 16]);
    // Several blocks of lines, several parts; a line that is stood up; padding wider than the image; taps far apart.
    holds(single([9, 28, 28, 19], [3, 3], [1, 1, 1]), &[4, 8, 16]);
    holds(single([2, 60, 50, 33], [3, 3], [2, 1, 1]), &[4, 8, 16]);
    holds(single([2, 1, 500, 8], [1, 3], [1, 1, 1]), &[8, 16]);
    holds(single([2, 2, 2, 5], [3, 3], [1, 4, 1]), &[8, 16]);
    holds(single([1, 1, 900, 8], [1, 2], [1, 0, 640]), &[8, 16]);
    holds(single([1, 40, 30, 8], [2, 2], [1, 0, 25]), &[8, 16]);
}

/// The kernels of a lowered graph, by name.
fn kernel_names(graph: &Graph, target: &nnc_kernel::ir::Target) -> Vec<String> {
    let grouped = nnc_opt::fuse::partition(graph, &nnc_opt::fuse::FuseOptions::ALL);
    let lowered = nnc_kernel::lower(graph, &grouped, target).unwrap();
    lowered.report.into_iter().map(|kernel| kernel.name).collect()
}

/// Of both tile sizes, with tiles that reach behind the image's end, and several images.
#[test]
fn convolutions_by_winograd() {
    let target = nnc_kernel::ir::Target::new(8);
    for (image, rows) in [([1, 16, 12, 32], 48), ([2, 13, 15, 48], 32), ([1, 6, 6, 64], 64), ([1, 7, 7, 160], 160)] {
        let graph = channels_last(image, [rows, image[3], 3, 3], [1, 1, 1], 1);
        assert!(kernel_names(&graph, &target).contains(&"winograd".to_owned()), "{image:?}");
        let direct = nnc_kernel::ir::Target { winograd: false, ..target };
        assert!(!kernel_names(&graph, &direct).contains(&"winograd".to_owned()));
        holds(graph, &[8, 16]);
    }
    holds(channels_last([1, 12, 9, 32], [32, 32, 3, 3], [1, 0, 1], 1), &[8]);
    // Few channels, not all of them a whole vector; the last vector of a tile half full.
    for (image, rows) in [([1, 12, 9, 16], 8), ([2, 11, 8, 8], 24), ([1, 8, 8, 24], 40), ([1, 16, 16, 40], 16)] {
        let graph = channels_last(image, [rows, image[3], 3, 3], [1, 1, 1], 1);
        assert!(kernel_names(&graph, &target).contains(&"winograd".to_owned()), "{image:?}");
        holds(graph, &[4, 8, 16]);
    }
    // Blocks of tiles: some lines of an image, and some whole images, the last fewer.
    holds(channels_last([2, 50, 45, 32], [32, 32, 3, 3], [1, 1, 1], 1), &[8]);
    holds(channels_last([29, 9, 10, 32], [48, 32, 3, 3], [1, 1, 1], 1), &[8]);
}

fn constant_product(rows: usize, depth: usize, columns: usize, turned: bool) -> Graph {
    let mut graph = Graph::new("rows");
    let x = input(&mut graph, "x", &[rows, depth]);
    let dims = if turned { [columns, depth] } else { [depth, columns] };
    let ty = TensorType::new(DType::F32, Shape::of(&dims));
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty }, &[]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![usize::from(turned)] }, &[x, w]);
    put_out(&mut graph, y);
    graph
}

/// What a matrix leaves when it is packed goes where the next ones are packed to.
#[test]
fn memory_of_packed_matrices_comes_again() {
    let chain = |width: usize| {
        let mut graph = Graph::new("chain");
        let mut x = input(&mut graph, "x", &[64, width]);
        for path in ["first", "second", "third"] {
            let ty = TensorType::new(DType::F32, Shape::of(&[width, width]));
            let w = graph.emit(Op::Param { path: path.to_owned(), ty }, &[]);
            x = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
        }
        put_out(&mut graph, x);
        let grouped = nnc_opt::fuse::partition(&graph, &nnc_opt::fuse::FuseOptions::ALL);
        nnc_kernel::lower(&graph, &grouped, &nnc_kernel::ir::Target::new(8)).unwrap()
    };
    let large = chain(1024);
    assert_eq!(large.program.prepare, 3);
    assert_eq!(nnc_kernel::program::verify::verify_program(&large.program), Ok(()));
    let bytes: usize = large.program.reused.iter().map(|reuse| reuse.bytes).sum();
    // Of three times 4 MB the first is new, and where two meet on a page that is touched already.
    assert!(bytes >= 3 * nnc_kernel::program::PAGE, "{:?}", large.program.reused);
    assert!(large.program.reused.iter().any(|reuse| reuse.after == 0));
    assert!(chain(500).program.reused.is_empty(), "there is no whole page");
}

/// Rows by a parameter: packed once, before the first run.
#[test]
fn constant_matrices_are_packed_once() {
    // The last two are cut into parts by their shape, so that each width adds them alike.
    for (rows, depth, columns, packed) in
        [(7, 30, 40, 1), (64, 784, 33, 1), (130, 1500, 20, 1), (3, 50, 17, 1), (420, 4096, 5, 0), (4, 16384, 132, 0)]
    {
        for turned in [false, true] {
            let graph = constant_product(rows, depth, columns, turned);
            let grouped = nnc_opt::fuse::partition(&graph, &nnc_opt::fuse::FuseOptions::ALL);
            let lowered = nnc_kernel::lower(&graph, &grouped, &nnc_kernel::ir::Target::new(8)).unwrap();
            assert_eq!(lowered.program.prepare, packed, "{rows} x {depth} x {columns}");
            if packed == 1 {
                assert_eq!((lowered.report[0].name.as_str(), lowered.report[0].runs), ("pack", 0));
            }
            holds(graph, &[4, 8, 16]);
        }
    }
}

/// Two products of as many rows by one parameter read one packed matrix.
#[test]
fn a_matrix_of_two_products_is_packed_once() {
    let mut graph = Graph::new("tied");
    let w = TensorType::new(DType::F32, Shape::of(&[30, 30]));
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: w }, &[]);
    let mut x = input(&mut graph, "x", &[7, 30]);
    for _ in 0..2 {
        x = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    }
    put_out(&mut graph, x);
    let grouped = nnc_opt::fuse::partition(&graph, &nnc_opt::fuse::FuseOptions::ALL);
    let lowered = nnc_kernel::lower(&graph, &grouped, &nnc_kernel::ir::Target::new(8)).unwrap();
    assert_eq!(lowered.program.prepare, 1);
    holds(graph, &[4, 8, 16]);
}

/// The last strip of columns that lie as rows has one: nothing is looked for where the others would be, far behind it.
#[test]
fn columns_that_are_not_there_are_not_looked_for() {
    holds(product(1, 65, 512, (false, true)), &[4, 8, 16]);
}
