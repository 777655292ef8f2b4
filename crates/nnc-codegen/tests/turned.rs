//! Copies that turn a matrix, in squares and around them, on every engine.

mod common;

use common::graphs::check;
use nnc_graph::{DType, Graph, Op, OutputKind, Shape, TensorType, interpret, testing::random_inputs};
use nnc_opt::fuse::FuseOptions;

/// `x` with its axes in another order.
fn turned(dtype: DType, dims: &[usize], axes: &[usize]) -> Graph {
    let mut graph = Graph::new("turned");
    let ty = TensorType::new(dtype, Shape::of(dims));
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty }, &[]);
    let y = graph.emit(Op::Transpose(axes.to_vec()), &[x]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

fn cases() -> Vec<Graph> {
    let mut graphs = Vec::new();
    for dtype in [DType::F32, DType::I32, DType::F64, DType::I64] {
        for [rows, columns] in [[16, 16], [4, 17], [17, 4], [31, 33], [48, 64], [100, 3], [130, 71], [1, 40], [600, 70]]
        {
            graphs.push(turned(dtype, &[rows, columns], &[1, 0]));
        }
        graphs.push(turned(dtype, &[3, 20, 5, 18], &[0, 3, 2, 1]));
        graphs.push(turned(dtype, &[17, 2, 3, 19], &[3, 1, 2, 0]));
        graphs.push(turned(dtype, &[17, 2, 3, 19], &[2, 3, 1, 0]));
    }
    graphs.push(turned(DType::U8, &[40, 40], &[1, 0]));
    graphs
}

#[test]
fn every_engine_turns_a_matrix() {
    for (seed, graph) in cases().iter().enumerate() {
        assert!(check(graph, seed as u64), "case {seed}");
    }
}

/// The kernel interpreter turns them as the graph interpreter does, to the bit.
#[test]
fn nothing_is_moved_elsewhere() {
    let mut in_squares = 0;
    for (seed, graph) in cases().iter().enumerate() {
        let given = random_inputs(graph, seed as u64);
        let expected = interpret::run(graph, &given).unwrap();
        let lowered = common::graphs::lowered(graph, &FuseOptions::ALL, 16).unwrap();
        in_squares += lowered.report.iter().filter(|kernel| kernel.how.contains("turned in squares")).count();
        let found = nnc_kernel::plan::run::run(&lowered, &given).unwrap();
        assert_eq!(&found.outputs["y"], expected.output("y").unwrap(), "case {seed}");
    }
    assert!(in_squares > cases().len() / 2, "only {in_squares} of {} go by squares", cases().len());
}
