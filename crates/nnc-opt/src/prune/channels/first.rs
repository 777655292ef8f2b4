//! The first values of what is left: a graph that makes tensors of the declared widths, and then takes what was kept of
//! them.

use super::super::judged_parameter;
use super::record::Record;
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{DType, Graph, Op, Tensor, ValueId};

/// The graph, whose results are parameters and states by path, with those of them that lost channels cut. Masks and
/// scores are cut as their parameters are.
///
/// # Errors
/// A record that does not fit a result, in words.
pub fn first_values(graph: &Graph, record: &Record) -> Result<Graph, String> {
    if record.is_empty() {
        return Ok(graph.clone());
    }
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    graph.nodes().for_each(|(id, _)| drop(rewriter.copy(id)));
    let mut results = Vec::new();
    for output in graph.outputs() {
        let resident = judged_parameter(&output.name).unwrap_or(&output.name);
        let whole = rewriter.value(output.value);
        let left = record.of(resident).try_fold(whole, |value, axis| kept(&mut rewriter, resident, value, axis))?;
        results.push((output.name.clone(), left));
    }
    Ok(rewriter.finish_on(&results))
}

/// What is kept of a value along an axis.
fn kept(
    rewriter: &mut Rewriter<'_>,
    resident: &str,
    value: ValueId,
    (axis, kept): (usize, &[bool]),
) -> Result<ValueId, String> {
    let ty = rewriter.ty(value);
    if ty.shape.get(axis).is_none_or(|size| size.size() != kept.len()) {
        let count = kept.len();
        return Err(format!("it keeps some of {count} along axis {axis} of `{resident}`, which is {ty}"));
    }
    let places: Vec<f64> = (0..kept.len()).filter(|&at| kept[at]).map(|at| at as f64).collect();
    let places = Op::Constant(Tensor::from_f64(DType::I32, &[places.len()], &places));
    let places = rewriter.emit(places, &[]);
    Ok(rewriter.emit(Op::Gather { axis, batch: 0 }, &[value, places]))
}
