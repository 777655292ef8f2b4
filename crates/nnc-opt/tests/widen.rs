//! Floats that bytes stand for: read as bytes by the kernel that needs them, where that saves storing them.

use nnc_graph::{BinaryOp, DType, Graph, Op, OutputKind, ReduceOp, Shape, TensorType, UnaryOp, ValueId};
use nnc_opt::fuse::{FuseOptions, GroupKind, Partition, partition};

fn kernels(partition: &Partition) -> Vec<GroupKind> {
    let kinds = partition.groups.iter().map(|group| group.kind);
    kinds.filter(|kind| !matches!(kind, GroupKind::Leaf | GroupKind::View)).collect()
}

fn cast(graph: &mut Graph, x: ValueId, dtype: DType) -> ValueId {
    graph.emit(Op::Cast(dtype), &[x])
}

fn by_number(graph: &mut Graph, op: BinaryOp, x: ValueId, number: f64) -> ValueId {
    let number = graph.splat(&graph.ty(x).clone(), number);
    graph.emit(Op::Binary(op), &[x, number])
}

/// Bytes times a matrix of bytes, as floats.
fn bytes_product(graph: &mut Graph, x: ValueId, path: &str) -> ValueId {
    let ty = TensorType::new(DType::I8, Shape::of(&[32, 32]));
    let w = graph.emit(Op::Param { path: path.to_owned(), ty }, &[]);
    let sums = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    let sums = cast(graph, sums, DType::F32);
    by_number(graph, BinaryOp::Mul, sums, 0.01)
}

/// Bytes that a product makes, and the floats that they stand for.
fn made_bytes(graph: &mut Graph) -> [ValueId; 2] {
    let ty = TensorType::new(DType::U8, Shape::of(&[64, 32]));
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty }, &[]);
    let y = bytes_product(graph, x, "first");
    let whole = graph.emit(Op::Unary(UnaryOp::Round), &[y]);
    let bytes = cast(graph, whole, DType::U8);
    let wide = cast(graph, bytes, DType::F32);
    let wide = by_number(graph, BinaryOp::Sub, wide, 128.0);
    [bytes, by_number(graph, BinaryOp::Mul, wide, 0.5)]
}

/// The types of what the kernels store.
fn stored(graph: &Graph, partition: &Partition) -> Vec<DType> {
    partition.groups.iter().flat_map(|group| &group.outputs).map(|&value| graph.ty(value).dtype).collect()
}

#[test]
fn a_residual_sum_reads_the_bytes_that_a_product_reads() {
    let mut graph = Graph::new("residual");
    let [bytes, floats] = made_bytes(&mut graph);
    let y = bytes_product(&mut graph, bytes, "second");
    let sum = graph.emit(Op::Binary(BinaryOp::Add), &[y, floats]);
    graph.add_output("y", sum, OutputKind::Result);
    let fused = partition(&graph, &FuseOptions::ALL);
    assert_eq!(kernels(&fused), vec![GroupKind::Anchor, GroupKind::Anchor]);
    assert_eq!(stored(&graph, &fused), vec![DType::U8, DType::F32]);
}

#[test]
fn a_mean_reads_the_bytes_that_a_product_reads() {
    let mut graph = Graph::new("mean");
    let [bytes, floats] = made_bytes(&mut graph);
    let y = bytes_product(&mut graph, bytes, "second");
    let sum = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[floats]);
    graph.add_output("y", y, OutputKind::Result);
    graph.add_output("sum", sum, OutputKind::Result);
    let fused = partition(&graph, &FuseOptions::ALL);
    assert_eq!(stored(&graph, &fused).iter().filter(|&&dtype| dtype == DType::U8).count(), 1);
    assert!(!fused.groups.iter().any(|group| group.outputs.contains(&floats)));
}

/// What reads floats where no kernel can make them gets floats, and from the kernel that makes the bytes.
#[test]
fn floats_that_are_stored_anyway_are_made_with_the_bytes() {
    for is_product in [false, true] {
        let mut graph = Graph::new("floats");
        let [bytes, floats] = made_bytes(&mut graph);
        let y = bytes_product(&mut graph, bytes, "second");
        let sum = graph.emit(Op::Binary(BinaryOp::Add), &[y, floats]);
        graph.add_output("y", sum, OutputKind::Result);
        if is_product {
            let ty = TensorType::new(DType::F32, Shape::of(&[32, 32]));
            let w = graph.emit(Op::Input { name: "w".to_owned(), ty }, &[]);
            let z = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[floats, w]);
            graph.add_output("z", z, OutputKind::Result);
        } else {
            graph.add_output("floats", floats, OutputKind::Result);
        }
        let fused = partition(&graph, &FuseOptions::ALL);
        let maker = fused.groups.iter().find(|group| group.outputs.contains(&bytes)).unwrap();
        assert!(maker.outputs.contains(&floats));
    }
}

/// Rounding once more needs nothing that comes later: the kernel that makes the bytes does it.
#[test]
fn bytes_that_are_rounded_again_are_so_where_they_are_made() {
    let mut graph = Graph::new("again");
    let [bytes, floats] = made_bytes(&mut graph);
    let smaller = by_number(&mut graph, BinaryOp::Mul, floats, 0.3);
    let whole = graph.emit(Op::Unary(UnaryOp::Round), &[smaller]);
    let others = cast(&mut graph, whole, DType::U8);
    for (name, bytes) in [("second", bytes), ("third", others)] {
        let y = bytes_product(&mut graph, bytes, name);
        graph.add_output(name, y, OutputKind::Result);
    }
    let fused = partition(&graph, &FuseOptions::ALL);
    assert_eq!(kernels(&fused), vec![GroupKind::Anchor; 3]);
}
