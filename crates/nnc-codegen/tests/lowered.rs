//! Whole graphs: what the lowering makes of every op and of random graphs, compiled, against the kernel interpreter,
//! bit for bit, at every width.

mod common;

use nnc_graph::testing::{
    GraphOptions, SparseProduct, graph_of_one_op, loop_names, op_names, random_graph_with, random_inputs,
    sparse_product,
};
use nnc_graph::{BinaryOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Shape, TensorType, text};
use nnc_kernel::ir::{Elem, Target, interpret};
use nnc_kernel::{Access, LowerError, Lowered, lower, plan};
use nnc_opt::fuse::{FuseOptions, partition};

fn lowered(graph: &Graph, fuse: &FuseOptions, f32_lanes: u8) -> Option<Lowered> {
    match lower(graph, &partition(graph, fuse), &Target::new(f32_lanes)) {
        Ok(lowered) => Some(lowered),
        Err(LowerError::Unsupported(_)) => None,
        Err(bug @ LowerError::Bug(_)) => panic!("{bug}\n{}", text::print(graph)),
    }
}

/// Whether the graph could be lowered; panics where the engines differ.
fn check(graph: &Graph, seed: u64) -> bool {
    let given = random_inputs(graph, seed);
    for (fuse, f32_lanes) in [(FuseOptions::ALL, 4), (FuseOptions::ALL, 16), (FuseOptions::NONE, 8)] {
        let Some(lowered) = lowered(graph, &fuse, f32_lanes) else { return false };
        let mut expected = vec![vec![0x5a; lowered.arena_bytes]];
        expected.extend(lowered.externals.iter().map(|external| plan::run::initial(external, &given).unwrap()));
        let initial = expected.clone();
        interpret::run(&lowered.program, &mut expected).unwrap();
        let written = lowered.externals.iter().enumerate().filter(|(_, external)| external.access != Access::Read);
        let list = written.map(|(number, external)| {
            (number + 1, Elem::from_name(external.ty.dtype.name()).unwrap(), &expected[number + 1][..])
        });
        common::export(&lowered.program, &initial, &list.collect::<Vec<_>>());
        for backend in common::backends() {
            let mut found = initial.clone();
            common::run_compiled(&lowered.program, backend, &mut found);
            for (number, external) in lowered.externals.iter().enumerate() {
                let elem = Elem::from_name(external.ty.dtype.name()).unwrap();
                if external.access == Access::Read {
                    continue;
                }
                let at = common::first_difference(elem, &expected[number + 1], &found[number + 1]);
                let (role, source) = (&external.role, text::print(graph));
                assert_eq!(at, None, "{backend}, {role:?} in {f32_lanes} lanes, seed {seed}:\n{source}");
            }
        }
    }
    true
}

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
