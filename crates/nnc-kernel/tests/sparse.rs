//! Products by constant matrices with many zeros: every form computes what the interpreter does, and the dense
//! product's bits.

mod common;

use common::check;
use nnc_graph::testing::{SparseConvolution, SparseProduct, random_inputs, sparse_convolution, sparse_product};
use nnc_graph::{Graph, Op};
use nnc_kernel::ir::Target;
use nnc_kernel::plan::run::run;
use nnc_kernel::{Lowered, lower};
use nnc_opt::fuse::{FuseOptions, partition};

const PRODUCT: SparseProduct =
    SparseProduct { rows: 1, depth: 61, columns: 43, block: 1, sparsity: 0.9, turned: false };

fn lowered(graph: &Graph, lanes: u8) -> Lowered {
    lower(graph, &partition(graph, &FuseOptions::ALL), &Target::new(lanes)).unwrap()
}

/// How the last kernel does its work, in words.
fn how(graph: &Graph) -> String {
    lowered(graph, 8).report.last().unwrap().how.clone()
}

#[test]
fn every_form_is_right_on_every_width() {
    let cases = [
        ("looked up", PRODUCT),
        ("blocks", SparseProduct { rows: 3, depth: 8, columns: 40, sparsity: 0.95, ..PRODUCT }),
        ("looked up", SparseProduct { rows: 2, columns: 128, depth: 160, turned: true, ..PRODUCT }),
        ("single elements", SparseProduct { rows: 45, columns: 140, depth: 120, ..PRODUCT }),
        ("single elements", SparseProduct { rows: 64, columns: 100, depth: 100, turned: true, ..PRODUCT }),
        ("single elements", SparseProduct { rows: 40, columns: 140, depth: 300, sparsity: 0.93, ..PRODUCT }),
        ("1x16", SparseProduct { rows: 1, columns: 80, block: 16, sparsity: 0.75, ..PRODUCT }),
        ("1x16", SparseProduct { rows: 2, columns: 90, block: 16, sparsity: 0.75, ..PRODUCT }),
        ("1x16", SparseProduct { rows: 32, columns: 48, block: 16, sparsity: 0.7, turned: true, ..PRODUCT }),
        ("1x8", SparseProduct { rows: 20, columns: 44, block: 8, sparsity: 0.85, ..PRODUCT }),
    ];
    let mut others = Vec::new();
    for (seed, (form, product)) in cases.iter().enumerate() {
        let graph = sparse_product(product, seed as u64);
        check(&graph, seed as u64).unwrap_or_else(|what| panic!("{product:?}: {what}"));
        let how = how(&graph);
        if !how.contains(form) {
            others.push(format!("{product:?} is {how}, not {form}"));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// The same graph with the weights as a parameter that nothing is known of.
fn with_unknown_weights(graph: &Graph) -> (Graph, nnc_graph::Tensor) {
    let mut weights = None;
    let mut made = Graph::new("dense");
    for (_, node) in graph.nodes() {
        let op = match &node.op {
            Op::Constant(tensor) if tensor.elements() > 1 => {
                weights = Some(tensor.clone());
                Op::Param { path: "w".to_owned(), ty: tensor.ty() }
            }
            op => op.clone(),
        };
        made.emit(op, &node.operands);
    }
    graph.outputs().iter().for_each(|output| made.add_output(&output.name, output.value, output.kind));
    (made, weights.expect("a constant matrix"))
}

#[test]
fn the_bits_are_those_of_the_dense_product() {
    for rows in [1, 4, 48] {
        let graph = sparse_product(&SparseProduct { rows, ..PRODUCT }, 5);
        let mut given = random_inputs(&graph, 5);
        let sparse = run(&lowered(&graph, 8), &given).unwrap();
        let (dense, weights) = with_unknown_weights(&graph);
        given.insert("w".to_owned(), weights);
        let dense = run(&lowered(&dense, 8), &given).unwrap();
        assert_eq!(sparse.outputs["y"], dense.outputs["y"], "{rows} rows");
    }
}

#[test]
fn what_would_not_be_faster_stays_dense_and_says_so() {
    let product = SparseProduct { rows: 48, columns: 64, depth: 64, sparsity: 0.5, ..PRODUCT };
    let how = how(&sparse_product(&product, 1));
    assert!(how.contains("zeros, dense as sparse would take"), "{how}");
}

#[test]
fn degenerate_matrices_are_right() {
    // Nothing is left, and nothing is zero but one element.
    for (sparsity, rows) in [(1.1, 1), (1.1, 40), (0.0, 1)] {
        let product = SparseProduct { rows, sparsity, columns: 20, ..PRODUCT };
        check(&sparse_product(&product, 3), 3).unwrap_or_else(|what| panic!("{product:?}: {what}"));
    }
}

/// Checks every case, and that it takes the form.
fn check_convolutions(cases: &[SparseConvolution], form: &str) {
    let mut others = Vec::new();
    for (seed, case) in cases.iter().enumerate() {
        let graph = sparse_convolution(case, seed as u64);
        check(&graph, seed as u64).unwrap_or_else(|what| panic!("{case:?}: {what}"));
        let how = how(&graph);
        if !how.contains(form) {
            others.push(format!("{case:?} is {how}"));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// Several blocks of lines, parts of a line, every remainder of a stride, taps that lie apart, windows that reach
/// outside or stay inside, several images.
#[test]
fn convolutions_by_single_elements_are_right_on_every_width() {
    let cases = [
        SparseConvolution::SMALL,
        SparseConvolution { image: [2, 30, 33, 24], columns: 20, ..SparseConvolution::SMALL },
        SparseConvolution { image: [1, 3, 150, 24], columns: 20, ..SparseConvolution::SMALL },
        SparseConvolution { stride: [2, 2], ..SparseConvolution::SMALL },
        SparseConvolution { stride: [1, 3], image: [1, 7, 40, 33], padding: 0, ..SparseConvolution::SMALL },
        SparseConvolution { dilation: 2, padding: 3, ..SparseConvolution::SMALL },
        SparseConvolution { dilation: 3, stride: [2, 2], padding: 2, taps: [2, 3], ..SparseConvolution::SMALL },
        SparseConvolution { taps: [1, 5], padding: 2, columns: 130, ..SparseConvolution::SMALL },
        SparseConvolution {
            taps: [7, 7],
            image: [1, 20, 20, 3],
            stride: [2, 2],
            padding: 3,
            ..SparseConvolution::SMALL
        },
    ];
    check_convolutions(&cases, "single elements");
}

/// Windows that lie in the image or in a copy, evenly spaced or not, few of them, the last channels no whole block.
#[test]
fn convolutions_by_blocks_are_right_on_every_width() {
    let blocks = SparseConvolution { block: 16, sparsity: 0.85, ..SparseConvolution::SMALL };
    let cases = [
        blocks,
        SparseConvolution { image: [2, 30, 12, 24], columns: 40, stride: [2, 2], ..blocks },
        SparseConvolution { image: [2, 9, 13, 24], padding: 0, ..blocks },
        SparseConvolution { dilation: 2, taps: [2, 3], padding: 2, ..blocks },
        SparseConvolution { image: [1, 5, 3, 32], padding: 0, columns: 90, ..blocks },
        SparseConvolution { image: [1, 40, 30, 64], stride: [1, 2], ..blocks },
    ];
    check_convolutions(&cases, "blocks of 1x16");
}

#[test]
fn convolutions_have_the_bits_of_the_dense_one_that_adds_every_term() {
    for (stride, block) in [(1, 1), (2, 1), (1, 16), (2, 16)] {
        let graph =
            sparse_convolution(&SparseConvolution { stride: [stride; 2], block, ..SparseConvolution::SMALL }, 5);
        assert!(how(&graph).contains("times as fast"), "stride {stride}, 1x{block}");
        let mut given = random_inputs(&graph, 5);
        let sparse = run(&lowered(&graph, 8), &given).unwrap();
        let (dense, weights) = with_unknown_weights(&graph);
        given.insert("w".to_owned(), weights);
        let every_term = Target { winograd: false, ..Target::new(8) };
        let dense = lower(&dense, &partition(&dense, &FuseOptions::ALL), &every_term).unwrap();
        let dense = run(&dense, &given).unwrap();
        assert_eq!(sparse.outputs["y"], dense.outputs["y"], "stride {stride}, 1x{block}");
    }
}

#[test]
fn a_convolution_with_few_zeros_stays_dense_and_says_so() {
    let how = how(&sparse_convolution(&SparseConvolution { sparsity: 0.5, ..SparseConvolution::SMALL }, 1));
    assert!(how.contains("zeros, dense as sparse would take"), "{how}");
}

#[test]
fn degenerate_convolutions_are_right() {
    // Nothing is left; nothing is zero but one element; an image without channels enough for a vector.
    let small = SparseConvolution { image: [1, 5, 4, 16], ..SparseConvolution::SMALL };
    for case in [
        SparseConvolution { sparsity: 1.1, ..small },
        SparseConvolution { sparsity: 1.1, block: 16, columns: 17, ..small },
        SparseConvolution { sparsity: 0.0, ..small },
        SparseConvolution { image: [1, 5, 4, 1], ..small },
    ] {
        check(&sparse_convolution(&case, 3), 3).unwrap_or_else(|what| panic!("{case:?}: {what}"));
    }
}
