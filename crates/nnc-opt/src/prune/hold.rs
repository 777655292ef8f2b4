//! `hold`: a training step that keeps pruned weights at zero.
//!
//! What the step writes to a masked parameter is `select(mask, new, 0)`, and so is what it writes to the weights that a
//! running mean is made of. The mask is a state that the step reads and does not write. Zeros add nothing to what the
//! step computes forward, so that nothing else changes.
//!
//! On entry a verified graph; on exit the same with masked updates. A parameter whose mask the graph has already, as a
//! recipe that prunes does, is left to it.

use super::mask_path;
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{DType, Graph, Op, Output, OutputKind, TensorType};
use std::collections::BTreeSet;

/// The graph with the updates of these parameters masked.
pub fn hold(graph: &Graph, masked: &BTreeSet<String>) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    graph.nodes().for_each(|(id, _)| drop(rewriter.copy(id)));
    for output in graph.outputs() {
        if let Some(parameter) = written_parameter(output, masked).filter(|parameter| !has_mask(graph, parameter)) {
            mask(&mut rewriter, output, parameter);
        }
    }
    rewriter.finish()
}

/// The masked parameter that an output writes, itself or what it is the mean of.
fn written_parameter<'m>(output: &Output, masked: &'m BTreeSet<String>) -> Option<&'m str> {
    let OutputKind::Update(_) = output.kind else { return None };
    let name = output.name.as_str();
    let is_fast = |parameter: &String| {
        let path = name.strip_prefix("$optimizer.").and_then(|rest| rest.strip_suffix(".fast"));
        path.is_some_and(|path| path == parameter || path.ends_with(&format!(".{parameter}")))
    };
    masked.iter().find(|parameter| name == **parameter || is_fast(parameter)).map(String::as_str)
}

fn has_mask(graph: &Graph, parameter: &str) -> bool {
    let wanted = mask_path(parameter);
    graph.nodes().any(|(_, node)| matches!(&node.op, Op::State { path, .. } if *path == wanted))
}

/// Puts the masked value in the place of what an output writes.
fn mask(rewriter: &mut Rewriter<'_>, output: &Output, parameter: &str) {
    let value = rewriter.value(output.value);
    let ty = rewriter.ty(value).clone();
    let state = Op::State { path: mask_path(parameter), ty: TensorType::new(DType::Bool, ty.shape.clone()) };
    let known = rewriter.graph().nodes().find(|(_, node)| node.op == state).map(|(_, node)| node.results[0]);
    let mask = known.unwrap_or_else(|| rewriter.emit(state, &[]));
    let zero = rewriter.graph_mut().splat(&ty, 0.0);
    let kept = rewriter.emit(Op::Select, &[mask, value, zero]);
    rewriter.replace(output.value, kept);
}
