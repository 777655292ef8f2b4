//! Small graphs of one op or a few, as tests of several crates look at them.

use crate::{BinaryOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, Shape, TensorType, UnaryOp, ValueId};

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

/// `y[1, rows, size, size]` of `x[1, channels, size, size]` and `w[rows, channels, taps, taps]`, padded to keep the
/// size; `taps` is odd.
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

/// A step of descent on a table `w[rows, columns]` of which `count` rows were picked by `index`, of `updates[count,
/// columns]`: with a momentum `v` or without. Indices are 9 at most.
pub fn table_update([rows, columns]: [usize; 2], count: usize, momentum: bool) -> Graph {
    let mut graph = Graph::new("table");
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let table = ty(&[rows, columns]);
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: table.clone() }, &[]);
    let (updates, rate) = (input(&mut graph, "updates", &[count, columns]), input(&mut graph, "rate", &[]));
    let numbers = TensorType::new(DType::I32, Shape::of(&[count]));
    let index = graph.emit(Op::Input { name: "index".to_owned(), ty: numbers }, &[]);
    let index = graph.emit(Op::Unary(UnaryOp::Abs), &[index]);
    let zeros = graph.splat(&table, 0.0);
    let mut step = graph.emit(Op::ScatterAdd { axis: 0, batch: 0 }, &[zeros, index, updates]);
    if momentum {
        let v = graph.emit(Op::State { path: "v".to_owned(), ty: table.clone() }, &[]);
        let share = graph.splat(&table, 0.875);
        let kept = graph.emit(Op::Binary(BinaryOp::Mul), &[share, v]);
        step = graph.emit(Op::Binary(BinaryOp::Add), &[kept, step]);
        graph.add_output("v", step, OutputKind::Update(v));
    }
    let rate = graph.emit(Op::Broadcast { shape: table.shape, axes: vec![] }, &[rate]);
    let step = graph.emit(Op::Binary(BinaryOp::Mul), &[rate, step]);
    let after = graph.emit(Op::Binary(BinaryOp::Sub), &[w, step]);
    graph.add_output("w", after, OutputKind::Update(w));
    graph
}
