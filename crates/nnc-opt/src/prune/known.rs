//! `known`: parameters whose values are known when a program is compiled become constants of its graph.
//!
//! Where zeros lie in a constant matrix can be compiled into kernels. Only for graphs that update no parameter: the
//! program is right for these weights alone.

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Graph, Op, Tensor};

/// The graph with a constant for each parameter that `tensor_of` gives one for, of the parameter's type; the graph
/// itself if it updates one.
pub fn known(graph: &Graph, tensor_of: impl Fn(&str) -> Option<Tensor>) -> Graph {
    if !graph.keeps_parameters() {
        return graph.clone();
    }
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        let tensor = match &node.op {
            Op::Param { path, ty } => tensor_of(path).filter(|tensor| tensor.ty() == *ty),
            _ => None,
        };
        match tensor {
            Some(tensor) => {
                rewriter.at(id);
                let constant = rewriter.emit(Op::Constant(tensor), &[]);
                rewriter.replace(node.results[0], constant);
            }
            None => drop(rewriter.copy(id)),
        }
    }
    rewriter.finish()
}
