//! Kernels through the whole compiler: matrix products, convolutions and a row-wise softmax, on two threads.
//!
//! Throughput counts a multiply-add as two operations, so criterion's `elem/s` is FLOP/s.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nnc_driver::store::Store;
use nnc_driver::{CompiledGraph, Compiler, Engine};
use nnc_graph::{ConvAttributes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Shape, TensorType, UnaryOp, ValueId};
use nnc_runtime::Pool;
use std::num::NonZeroUsize;
use std::sync::Arc;

fn compiler() -> Compiler {
    let pool = Pool::with_limit(NonZeroUsize::new(2)).expect("threads start");
    Compiler { engine: Engine::host(), pool: Arc::new(pool), passes: nnc_opt::Options::default(), tuning: None }
}

fn input(graph: &mut Graph, name: &str, dims: &[usize]) -> ValueId {
    graph.emit(Op::Input { name: name.to_owned(), ty: TensorType::new(DType::F32, Shape::of(dims)) }, &[])
}

fn compile(mut graph: Graph, result: ValueId) -> CompiledGraph {
    graph.add_output("y", result, OutputKind::Result);
    compiler().compile(&graph).expect("the graph compiles")
}

fn dot(m: usize, k: usize, n: usize) -> CompiledGraph {
    let mut graph = Graph::new("dot");
    let (a, b) = (input(&mut graph, "a", &[m, k]), input(&mut graph, "b", &[k, n]));
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[a, b]);
    compile(graph, y)
}

/// A 3x3 convolution with padding 1 of `images` images of side `side`.
fn conv(images: usize, channels: usize, outputs: usize, side: usize) -> CompiledGraph {
    let mut graph = Graph::new("conv");
    let x = input(&mut graph, "x", &[images, channels, side, side]);
    let w = input(&mut graph, "w", &[outputs, channels, 3, 3]);
    let both = |n: i32| vec![Dim::from(n), Dim::from(n)];
    let attributes =
        ConvAttributes { stride: both(1), low: both(1), high: both(1), dilation: both(1), groups: Dim::from(1) };
    let y = graph.emit(Op::Conv(attributes), &[x, w]);
    compile(graph, y)
}

fn softmax(rows: usize, columns: usize) -> CompiledGraph {
    let mut graph = Graph::new("softmax");
    let x = input(&mut graph, "x", &[rows, columns]);
    let stretch = Op::Broadcast { shape: Shape::of(&[rows, columns]), axes: vec![0] };
    let largest = graph.emit(Op::Reduce { op: ReduceOp::Max, axes: vec![1] }, &[x]);
    let largest = graph.emit(stretch.clone(), &[largest]);
    let shifted = graph.emit(Op::Binary(nnc_graph::BinaryOp::Sub), &[x, largest]);
    let powers = graph.emit(Op::Unary(UnaryOp::Exp), &[shifted]);
    let sum = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1] }, &[powers]);
    let sum = graph.emit(stretch, &[sum]);
    let y = graph.emit(Op::Binary(nnc_graph::BinaryOp::Div), &[powers, sum]);
    compile(graph, y)
}

fn kernels(criterion: &mut Criterion) {
    let mut run = |name: &str, size: String, operations: u64, mut program: CompiledGraph| {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(operations)).sample_size(20);
        let mut store = Store::default();
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| program.run(&mut store).expect("it runs"));
        });
        group.finish();
    };
    for (m, k, n) in [(256, 256, 256), (1024, 1024, 1024), (64, 3136, 128), (1, 1024, 1024), (31, 31, 31)] {
        run("dot", format!("{m}x{k}x{n}"), 2 * (m * k * n) as u64, dot(m, k, n));
    }
    for (images, channels, outputs, side) in [(64, 32, 64, 14), (64, 1, 32, 28), (1, 64, 64, 56)] {
        let operations = 2 * (images * outputs * side * side * channels * 9) as u64;
        run(
            "conv3x3",
            format!("{images}x{channels}x{outputs}x{side}"),
            operations,
            conv(images, channels, outputs, side),
        );
    }
    run("softmax", "1024x1000".to_owned(), 1024 * 1000, softmax(1024, 1000));
}

criterion_group!(benches, kernels);
criterion_main!(benches);
