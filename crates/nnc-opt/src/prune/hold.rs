//! `hold`: a training step that keeps pruned weights at zero.
//!
//! What the step writes to a masked parameter is `select(mask, new, 0)`, and so is what it writes to the weights that a
//! running mean is made of, and to those of a layer that follows the parameter's. The mask is what the step writes to
//! it, or else the state. Zeros add nothing to what the step computes forward, so that nothing else changes.
//!
//! On entry a verified graph; on exit the same with masked updates. One that is masked already stays as it is.

use super::mask_path;
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{DType, Graph, Op, Output, OutputKind, TensorType};
use std::collections::BTreeSet;

/// The graph with the updates of these parameters masked; `leader` tells the parameter that one follows, if it does.
pub fn hold(graph: &Graph, masked: &BTreeSet<String>, leader: &dyn Fn(&str) -> Option<String>) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    graph.nodes().for_each(|(id, _)| drop(rewriter.copy(id)));
    let parameters: BTreeSet<&str> = graph.nodes().filter_map(|(_, node)| parameter(&node.op)).collect();
    for output in graph.outputs() {
        if let Some(parameter) = written_parameter(output, (masked, &parameters), leader) {
            mask(&mut rewriter, output, parameter);
        }
    }
    rewriter.finish()
}

/// The masked parameter that an output writes: itself, what it is the mean of, or what follows it.
fn written_parameter<'m>(
    output: &Output,
    (masked, parameters): (&'m BTreeSet<String>, &BTreeSet<&str>),
    leader: &dyn Fn(&str) -> Option<String>,
) -> Option<&'m str> {
    let OutputKind::Update(_) = output.kind else { return None };
    let name = output.name.as_str();
    // Behind the name of a step, if there is one; of two parameters that end alike it is the longer one's.
    let of_mean = name.strip_prefix("$optimizer.").and_then(|rest| rest.strip_suffix(".$fast")).and_then(|path| {
        let ends = |parameter: &&&str| path == **parameter || path.ends_with(&format!(".{parameter}"));
        parameters.iter().filter(ends).max_by_key(|parameter| parameter.len())
    });
    let is_fast = |parameter: &String| of_mean.is_some_and(|path| *path == parameter.as_str());
    let led = leader(name);
    let is_written =
        |parameter: &&String| name == **parameter || is_fast(parameter) || led.as_ref() == Some(*parameter);
    masked.iter().find(is_written).map(String::as_str)
}

/// The path of a parameter.
fn parameter(op: &Op) -> Option<&str> {
    match op {
        Op::Param { path, .. } => Some(path),
        _ => None,
    }
}

/// Puts the masked value in the place of what an output writes.
fn mask(rewriter: &mut Rewriter<'_>, output: &Output, parameter: &str) {
    let value = rewriter.value(output.value);
    let ty = rewriter.ty(value).clone();
    let path = mask_path(parameter);
    let written = rewriter.old().outputs().iter().find(|written| written.name == path);
    let written = written.map(|written| rewriter.value(written.value));
    let state = Op::State { path, ty: TensorType::new(DType::Bool, ty.shape.clone()) };
    let known = rewriter.graph().nodes().find(|(_, node)| node.op == state).map(|(_, node)| node.results[0]);
    let mask = written.or(known).unwrap_or_else(|| rewriter.emit(state, &[]));
    let zero = rewriter.graph_mut().splat(&ty, 0.0);
    let kept = rewriter.emit(Op::Select, &[mask, value, zero]);
    rewriter.replace(output.value, kept);
}
