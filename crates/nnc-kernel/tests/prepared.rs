//! What is made once, before the first run: graphs that mostly compute with parameters, in which some of what follows
//! from them must be made in every run all the same.

mod common;

use common::check;
use nnc_graph::testing::{GraphOptions, random_graph_with};
use nnc_graph::{Graph, Op, OutputKind, ValueId, text};
use std::collections::BTreeSet;

/// The graph with all but one input as parameters, and without updates.
fn of_parameters(graph: &Graph) -> Graph {
    let mut made = Graph::new("of parameters");
    let is_input = |op: &Op| matches!(op, Op::Input { .. });
    let input = graph.nodes().filter(|(_, node)| is_input(&node.op)).map(|(id, _)| id).next_back();
    for (id, node) in graph.nodes() {
        let op = match &node.op {
            Op::Input { name, ty } if Some(id) != input => Op::Param { path: name.clone(), ty: ty.clone() },
            op => op.clone(),
        };
        // Every value gets the number that it had.
        made.add(op, &node.operands).unwrap();
    }
    let values = made.nodes().flat_map(|(_, node)| node.results.clone()).collect::<Vec<_>>();
    // Results that follow from parameters alone, too.
    let others = values.into_iter().filter(|value| value.index() % 5 == 0);
    let results: BTreeSet<ValueId> = graph.outputs().iter().map(|output| output.value).chain(others).collect();
    for value in results {
        made.add_output(&format!("result {value}"), value, OutputKind::Result);
    }
    made
}

#[test]
fn random_graphs_of_parameters_compute_what_the_interpreter_does() {
    for seed in 0..200 {
        let graph = of_parameters(&random_graph_with(seed, &GraphOptions { ops: 40, ..GraphOptions::default() }));
        check(&graph, seed).unwrap_or_else(|what| panic!("seed {seed}: {what}\n{}", text::print(&graph)));
    }
}

#[track_caller]
fn checked(lines: &str) {
    let graph = text::parse(lines).unwrap_or_else(|error| panic!("{error}"));
    check(&graph, 1).unwrap_or_else(|what| panic!("{what}"));
}

/// A value that is given out is made in every run; so is what follows from a part of it, though a view has no kernel
/// that would come behind.
#[test]
fn what_is_read_through_a_view_comes_behind_what_it_views() {
    checked(
        r#"graph "slice" {
  %0 = input "x" : f32[4]
  %1 = param "p" : f32[8, 8]
  %2 = add(%1, %1) : f32[8, 8]
  %3 = slice[start=[1, 0], step=[1, 1]](%2) : f32[3, 8]
  %4 = reduce[op=max, axes=[0, 1]](%3) : f32
  %5 = broadcast[axes=[]](%4) : f32[4]
  %6 = add(%0, %5) : f32[4]
  output "y" = %6
  output "v" = %2
}"#,
    );
}

/// The same for a value that shares a kernel with one that changes.
#[test]
fn what_is_read_of_a_shared_kernel_comes_behind_it() {
    checked(
        r#"graph "shared" {
  %0 = input "x" : f32[8, 8]
  %1 = param "p" : f32[8, 8]
  %2 = exp(%1) : f32[8, 8]
  %3 = mul(%2, %0) : f32[8, 8]
  %4 = slice[start=[1, 0], step=[1, 1]](%2) : f32[3, 8]
  %5 = reduce[op=max, axes=[0, 1]](%4) : f32
  %6 = broadcast[axes=[]](%5) : f32[8]
  %7 = slice[start=[0, 0], step=[1, 1]](%0) : f32[1, 8]
  %8 = reshape(%7) : f32[8]
  %9 = add(%8, %6) : f32[8]
  output "y" = %9
  output "z" = %3
}"#,
    );
}
