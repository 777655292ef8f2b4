//! Small graphs of one op, as tests of several crates look at them.

use crate::{ConvAttributes, DType, Dim, Graph, Op, OutputKind, Shape, TensorType, ValueId};

/// An input of f32.
pub fn input(graph: &mut Graph, name: &str, dims: &[usize]) -> ValueId {
    graph.emit(Op::Input { name: name.to_owned(), ty: TensorType::new(DType::F32, Shape::of(dims)) }, &[])
}

/// `y[rows, columns] = a[rows, depth] * b[depth, columns]`.
pub fn dot(rows: usize, depth: usize, columns: usize) -> Graph {
    let mut graph = Graph::new("dot");
    let (a, b) = (input(&mut graph, "a", &[rows, depth]), input(&mut graph, "b", &[depth, columns]));
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[a, b]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

/// `y[1, rows, size, size]` of `x[1, channels, size, size]` and `w[rows, channels, taps, taps]`, padded to keep the size; `taps`
/// is odd.
pub fn conv(channels: usize, size: usize, rows: usize, taps: usize) -> Graph {
    let mut graph = Graph::new("conv");
    let x = input(&mut graph, "x", &[1, channels, size, size]);
    let w = input(&mut graph, "w", &[rows, channels, taps, taps]);
    let both = |number: usize| vec![Dim::from(number as i64); 2];
    let (low, high) = (both(taps / 2), both(taps / 2));
    let attributes = ConvAttributes { stride: both(1), low, high, dilation: both(1), groups: Dim::from(1) };
    let y = graph.emit(Op::Conv(attributes), &[x, w]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}
