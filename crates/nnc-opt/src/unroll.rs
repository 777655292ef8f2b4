//! Loops become straight code: each step of a scan is laid out behind the one before.
//!
//! What a loop stacked and another one scans is handed on step by step, so that stacks which only the steps of other
//! loops read are never made. Steps are numbered by constants. Cost: linear in the nodes of the result.

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Dim, Graph, Op, Scan, Shape, SliceRange, Tensor, ValueId};
use std::collections::BTreeMap;

/// How many nodes the graph has when every loop is laid out.
pub fn unrolled_nodes(graph: &Graph) -> usize {
    let nodes = graph.nodes().map(|(_, node)| match &node.op {
        Op::Scan(scan) => unrolled_nodes(&scan.body).saturating_mul(scan.length.size()),
        _ => 1,
    });
    nodes.fold(0, usize::saturating_add)
}

/// The graph without loops.
pub fn unroll(graph: &Graph) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    let mut rows = Rows::new();
    for (id, node) in graph.nodes() {
        let Op::Scan(scan) = &node.op else {
            rewriter.copy(id);
            continue;
        };
        let operands = rewriter.operands(node);
        rewriter.at(id);
        let results = lay_out(rewriter.graph_mut(), scan, &operands, &mut rows);
        node.results.iter().zip(results).for_each(|(&old, new)| rewriter.replace(old, new));
    }
    rewriter.finish()
}

/// The rows of values that were stacked.
type Rows = BTreeMap<ValueId, Vec<ValueId>>;

fn lay_out(graph: &mut Graph, scan: &Scan, operands: &[ValueId], rows: &mut Rows) -> Vec<ValueId> {
    let length = scan.length.size();
    let mut carried = operands[..scan.carries].to_vec();
    let (scanned, captured) = operands[scan.carries..].split_at(scan.slices);
    let mut stacked = vec![vec![None; length]; scan.stacked().len()];
    for round in 0..length {
        let step = if scan.reverse { length - 1 - round } else { round };
        let index = graph.emit(Op::Constant(Tensor::scalar_i64(step as i64)), &[]);
        let slices: Vec<ValueId> = scanned.iter().map(|&value| row(graph, value, step, rows)).collect();
        let given = [vec![index], carried, slices, captured.to_vec()].concat();
        let values = one_step(graph, &scan.body, &given, rows);
        carried = scan.next().iter().map(|value| values[value]).collect();
        for (rows, value) in stacked.iter_mut().zip(scan.stacked()) {
            rows[step] = Some(values[&value]);
        }
    }
    let stacked = stacked.into_iter().map(|values| {
        let values: Vec<ValueId> = values.into_iter().flatten().collect();
        let stack = stack(graph, &values);
        rows.insert(stack, values);
        stack
    });
    let stacked: Vec<ValueId> = stacked.collect();
    [carried, stacked].concat()
}

/// The values of a body on such inputs.
fn one_step(graph: &mut Graph, body: &Graph, given: &[ValueId], rows: &mut Rows) -> BTreeMap<ValueId, ValueId> {
    let mut values: BTreeMap<ValueId, ValueId> = (0..).map(ValueId).zip(given.iter().copied()).collect();
    for (_, node) in body.nodes().skip(given.len()) {
        let operands: Vec<ValueId> = node.operands.iter().map(|operand| values[operand]).collect();
        let results = match &node.op {
            Op::Scan(scan) => lay_out(graph, scan, &operands, rows),
            op => graph
                .add(op.clone(), &operands)
                .unwrap_or_else(|error| panic!("compiler bug: laying out a loop: {error}")),
        };
        values.extend(node.results.iter().copied().zip(results));
    }
    values
}

/// Row `step` of a value along axis 0.
fn row(graph: &mut Graph, value: ValueId, step: usize, rows: &Rows) -> ValueId {
    if let Some(rows) = rows.get(&value) {
        return rows[step];
    }
    let shape = graph.ty(value).shape.clone();
    let whole = |dim: &Dim| SliceRange { start: Dim::from(0usize), size: dim.clone(), step: 1 };
    let mut ranges: Vec<SliceRange> = shape.iter().map(whole).collect();
    ranges[0] = SliceRange { start: Dim::from(step), size: Dim::from(1usize), step: 1 };
    let row = graph.emit(Op::Slice(ranges), &[value]);
    graph.emit(Op::Reshape(Shape::from(shape[1..].to_vec())), &[row])
}

/// Values side by side along a new axis 0.
fn stack(graph: &mut Graph, values: &[ValueId]) -> ValueId {
    let with_axis = |graph: &mut Graph, &value: &ValueId| {
        let shape: Vec<Dim> = std::iter::once(Dim::from(1usize)).chain(graph.ty(value).shape.iter().cloned()).collect();
        graph.emit(Op::Reshape(Shape::from(shape)), &[value])
    };
    let parts: Vec<ValueId> = values.iter().map(|value| with_axis(graph, value)).collect();
    match parts[..] {
        [only] => only,
        _ => graph.emit(Op::Concat { axis: 0 }, &parts),
    }
}
