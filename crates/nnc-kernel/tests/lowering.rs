//! Lowered graphs on the kernel interpreter against the graph interpreter: every op and random graphs, fused and
//! unfused, and the same bits whatever the width of the machine.

mod common;

use common::check;
use nnc_graph::testing::{GraphOptions, graph_of_one_op, op_names, random_graph_with};
use nnc_graph::{DType, Graph};

fn check_seeds(name: &str, seeds: std::ops::Range<u64>, make: impl Fn(u64) -> Graph) {
    for seed in seeds {
        let graph = make(seed);
        if let Err(what) = check(&graph, seed) {
            panic!("{name}, seed {seed}: {what}\n{}", nnc_graph::text::print(&graph));
        }
    }
}

#[test]
fn every_op_computes_what_the_interpreter_does() {
    let mut failures = Vec::new();
    for name in op_names() {
        for seed in 0..40 {
            let options = GraphOptions { ops: 1, ..GraphOptions::default() };
            let graph = graph_of_one_op(name, seed, &options).expect("a known name");
            if let Err(what) = check(&graph, seed) {
                failures.push(format!("{name}, seed {seed}: {what}\n{}", nnc_graph::text::print(&graph)));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} ops fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn random_graphs_compute_what_the_interpreter_does() {
    check_seeds("random graph", 0..120, |seed| random_graph_with(seed, &GraphOptions::default()));
}

#[test]
fn random_graphs_in_f64() {
    let options = GraphOptions { float: DType::F64, ..GraphOptions::default() };
    check_seeds("random f64 graph", 0..40, |seed| random_graph_with(seed, &options));
}
