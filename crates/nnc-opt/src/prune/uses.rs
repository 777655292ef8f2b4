//! What each parameter of a graph is used for: only matrices that are multiplied are worth pruning.
//!
//! A parameter is followed through casts, transposes and loops to the products and convolutions that read it. Where its
//! axes are cut or merged on the way, it is multiplied, but nobody can say which of its axes counts outputs.

use crate::parameters::{Traced, follow};
use nnc_graph::{Graph, Node, Op, ValueId};
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
    let path = |node: &Node| match &node.op {
        Op::Param { path, .. } => Some(path.clone()),
        _ => None,
    };
    let parameters = graph.nodes().filter_map(|(_, node)| path(node));
    let mut found: BTreeMap<String, Use> = parameters.map(|path| (path, Use::Elementwise)).collect();
    follow(graph, &mut |place| {
        for (at, &operand) in place.node.operands.iter().enumerate() {
            let read = place.parameter(operand).filter(|from| from.moved(&place.node.op).is_none());
            read.iter().for_each(|from| note(place.graph, &place.node.op, (at, operand), from, &mut found));
        }
    });
    found
}

/// Notes that an op reads a parameter.
fn note(graph: &Graph, op: &Op, (at, operand): (usize, ValueId), from: &Traced, found: &mut BTreeMap<String, Use>) {
    let rank = graph.ty(operand).shape.rank();
    let outputs = match (op, at) {
        (Op::Dot { batch, a_axes, .. }, 0) => only_free(rank, *batch, a_axes),
        (Op::Dot { batch, b_axes, .. }, _) => only_free(rank, *batch, b_axes),
        (Op::Conv(_) | Op::ConvLast(_), 1) => Some(0),
        (Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. }, _) => Some(1),
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
