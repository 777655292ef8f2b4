//! What each parameter of a graph is used for: only matrices that are multiplied are worth pruning.
//!
//! A parameter is followed through casts, transposes and loops to the products and convolutions that read it. Where its
//! axes are cut or merged on the way, it is multiplied, but nobody can say which of its axes counts outputs.

use nnc_graph::{Graph, Op, Scan, ValueId};
use std::collections::BTreeMap;

/// What a parameter is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// It is a factor of products or convolutions.
    Multiplied {
        /// The axis of its outputs, when that is the same wherever it is read.
        outputs: Option<usize>,
    },
    /// Rows of it are picked by number.
    Picked,
    /// It is added to, or multiplied with, one element at a time.
    Elementwise,
}

/// The use of every parameter of a graph, by path.
pub fn uses(graph: &Graph) -> BTreeMap<String, Use> {
    let mut found = BTreeMap::new();
    walk(graph, vec![None; graph.value_count()], &mut found);
    found
}

/// A parameter, or what was made of it by moving elements.
#[derive(Clone, Debug)]
struct Traced {
    path: String,
    /// The parameter's axis that each axis is, while that can be said.
    axes: Option<Vec<usize>>,
}

fn walk(graph: &Graph, mut traced: Vec<Option<Traced>>, found: &mut BTreeMap<String, Use>) {
    for (_, node) in graph.nodes() {
        if let Op::Param { path, ty } = &node.op {
            let axes = Some((0..ty.shape.rank()).collect());
            traced[node.results[0].index()] = Some(Traced { path: path.clone(), axes });
            found.entry(path.clone()).or_insert(Use::Elementwise);
            continue;
        }
        if let Op::Scan(scan) = &node.op {
            walk_body(scan, &node.operands, &traced, found);
        }
        for (at, operand) in node.operands.iter().enumerate() {
            let Some(from) = traced[operand.index()].clone() else { continue };
            match passed(&node.op, &from) {
                Some(moved) => traced[node.results[0].index()] = Some(moved),
                None => note(graph, &node.op, (at, *operand), &from, found),
            }
        }
    }
}

/// A body reads captured values as they are.
fn walk_body(scan: &Scan, operands: &[ValueId], traced: &[Option<Traced>], found: &mut BTreeMap<String, Use>) {
    let mut inside = vec![None; scan.body.value_count()];
    let first = scan.carries + scan.slices;
    for (at, operand) in operands.iter().skip(first).enumerate() {
        inside[scan.capture(at).index()] = traced[operand.index()].clone();
    }
    walk(&scan.body, inside, found);
}

/// What an op makes of a parameter that only moves its elements.
fn passed(op: &Op, from: &Traced) -> Option<Traced> {
    let axes = match op {
        Op::Cast(_) | Op::StopGradient => from.axes.clone(),
        Op::Transpose(order) => from.axes.as_ref().map(|axes| order.iter().map(|&axis| axes[axis]).collect()),
        Op::Reshape(_) | Op::Slice(_) | Op::Pad { .. } | Op::Concat { .. } | Op::Broadcast { .. } => None,
        _ => return None,
    };
    Some(Traced { path: from.path.clone(), axes })
}

/// Notes that an op reads a parameter.
fn note(graph: &Graph, op: &Op, (at, operand): (usize, ValueId), from: &Traced, found: &mut BTreeMap<String, Use>) {
    let rank = graph.ty(operand).shape.rank();
    let outputs = match (op, at) {
        (Op::Dot { batch, a_axes, .. }, 0) => only_free(rank, *batch, a_axes),
        (Op::Dot { batch, b_axes, .. }, _) => only_free(rank, *batch, b_axes),
        (Op::Conv(_) | Op::ConvLast(_), 1) => Some(0),
        (Op::ConvInputGrad { .. }, _) => Some(1),
        (Op::Gather { .. }, 0) => {
            found.entry(from.path.clone()).and_modify(|known| *known = joined(*known, Use::Picked));
            return;
        }
        _ => return,
    };
    let outputs = outputs.zip(from.axes.as_ref()).map(|(axis, axes)| axes[axis]);
    found.entry(from.path.clone()).and_modify(|known| *known = joined(*known, Use::Multiplied { outputs }));
}

/// The only axis of a factor that is neither shared nor summed over.
fn only_free(rank: usize, batch: usize, contracted: &[usize]) -> Option<usize> {
    let mut free = (batch..rank).filter(|axis| !contracted.contains(axis));
    free.next().filter(|_| free.next().is_none())
}

/// Both uses of one parameter: a table that is also a factor, as tied embeddings are, is a table.
fn joined(known: Use, new: Use) -> Use {
    match (known, new) {
        (Use::Picked, _) | (_, Use::Picked) => Use::Picked,
        (Use::Elementwise, other) | (other, Use::Elementwise) => other,
        (Use::Multiplied { outputs: a }, Use::Multiplied { outputs: b }) => {
            Use::Multiplied { outputs: a.filter(|_| a == b) }
        }
    }
}
