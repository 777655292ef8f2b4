//! Parts of a concatenation that are made where they lie in the whole, and those that cannot be.

mod common;

use common::check;
use nnc_graph::testing::input;
use nnc_graph::{BinaryOp, ConvAttributes, Dim, Graph, Op, OutputKind, ReduceOp, Shape, UnaryOp, ValueId, text};
use nnc_kernel::ir::Target;
use nnc_opt::fuse::{FuseOptions, partition};

/// Kernels that concatenate.
fn concatenations(graph: &Graph) -> usize {
    let lowered = nnc_kernel::lower(graph, &partition(graph, &FuseOptions::ALL), &Target::new(8)).unwrap();
    let concatenates =
        |nodes: &[nnc_graph::NodeId]| nodes.iter().any(|&id| matches!(graph.node(id).op, Op::Concat { .. }));
    lowered.report.iter().filter(|kernel| concatenates(&kernel.nodes)).count()
}

fn holds(graph: &Graph, kernels: usize) {
    assert_eq!(concatenations(graph), kernels, "\n{}", text::print(graph));
    check(graph, 5).unwrap_or_else(|what| panic!("{what}\n{}", text::print(graph)));
}

/// Two convolutions of an image `[2, 6, 5, 4]` with a rectifier, of 9 and 16 channels.
fn branches(graph: &mut Graph) -> [ValueId; 2] {
    let x = input(graph, "x", &[2, 6, 5, 4]);
    [("v", 9, 3), ("w", 16, 1)].map(|(name, channels, taps)| {
        let w = input(graph, name, &[channels, 4, taps, taps]);
        let both = |number: usize| vec![Dim::from(number); 2];
        let (low, high) = (both(taps / 2), both(taps / 2));
        let attributes = ConvAttributes { stride: both(1), low, high, dilation: both(1), groups: Dim::from(1i64) };
        let y = graph.emit(Op::ConvLast(attributes), &[x, w]);
        let zeros = graph.ty(y).clone();
        let zeros = graph.splat(&zeros, 0.0);
        graph.emit(Op::Binary(BinaryOp::Max), &[y, zeros])
    })
}

fn joined(graph: &mut Graph, parts: &[ValueId], axis: usize) -> ValueId {
    let whole = graph.emit(Op::Concat { axis }, parts);
    graph.add_output("whole", whole, OutputKind::Result);
    let places = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1] }, &[whole]);
    graph.add_output("sums", places, OutputKind::Result);
    whole
}

#[test]
fn convolutions_write_their_channels_of_the_whole() {
    let mut graph = Graph::new("channels");
    let parts = branches(&mut graph);
    joined(&mut graph, &parts, 3);
    holds(&graph, 0);
}

/// A part is read by other kernels, too: along its own axes, as the image of a convolution, as rows of a product.
#[test]
fn parts_are_read_where_they_lie() {
    let mut graph = Graph::new("read");
    let parts = branches(&mut graph);
    joined(&mut graph, &parts, 3);
    let bent = graph.emit(Op::Unary(UnaryOp::Tanh), &[parts[0]]);
    graph.add_output("bent", bent, OutputKind::Result);
    let rows = graph.emit(Op::Reshape(Shape::of(&[60, 16])), &[parts[1]]);
    let w = input(&mut graph, "rows_w", &[16, 3]);
    let product = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[rows, w]);
    graph.add_output("product", product, OutputKind::Result);
    holds(&graph, 0);
}

/// Maps along any axis, of parts that are wholes themselves.
#[test]
fn wholes_are_parts_of_wholes() {
    for axis in 0..3 {
        let mut graph = Graph::new("nested");
        let x = input(&mut graph, "x", &[3, 4, 5]);
        let ops = [UnaryOp::Exp, UnaryOp::Tanh, UnaryOp::Neg];
        let parts = ops.map(|op| graph.emit(Op::Unary(op), &[x]));
        let fours = parts.map(|part| graph.emit(Op::Reshape(Shape::of(&[3, 4, 5])), &[part]));
        let inner = graph.emit(Op::Concat { axis }, &[fours[0], fours[1]]);
        let mut dims = [3, 4, 5];
        dims[axis] *= 2;
        let other = input(&mut graph, "other", &dims);
        let other = graph.emit(Op::Unary(UnaryOp::Abs), &[other]);
        joined(&mut graph, &[inner, other], (axis + 1) % 3);
        graph.add_output("third", fours[2], OutputKind::Result);
        holds(&graph, 0);
    }
}

#[test]
fn a_part_that_is_needed_in_a_row_stays_apart() {
    let mut graph = Graph::new("flat");
    let parts = branches(&mut graph);
    joined(&mut graph, &parts, 3);
    let flat = graph.emit(Op::Reshape(Shape::of(&[2, 270])), &[parts[0]]);
    let bent = graph.emit(Op::Unary(UnaryOp::Tanh), &[flat]);
    graph.add_output("bent", bent, OutputKind::Result);
    holds(&graph, 1);
}

#[test]
fn parts_that_are_given_stay_apart() {
    let mut graph = Graph::new("given");
    let [first, second] = branches(&mut graph);
    graph.add_output("first", first, OutputKind::Result);
    joined(&mut graph, &[first, second], 3);
    holds(&graph, 1);
    let mut graph = Graph::new("twice");
    let [first, second] = branches(&mut graph);
    joined(&mut graph, &[first, second, first], 3);
    holds(&graph, 1);
    let mut graph = Graph::new("input");
    let [first, _] = branches(&mut graph);
    let x = input(&mut graph, "other", &[2, 6, 5, 3]);
    joined(&mut graph, &[first, x], 3);
    holds(&graph, 1);
}
