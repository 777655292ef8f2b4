//! Products by constant matrices with many zeros: every form computes what the interpreter does, and the dense product's
//! bits.

mod common;

use common::check;
use nnc_graph::testing::{SparseProduct, random_inputs, sparse_product};
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
        ("1x8", SparseProduct { rows: 20, columns: 44, block: 8, sparsity: 0.75, ..PRODUCT }),
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
