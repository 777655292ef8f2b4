//! The graph of one example for several at a time, for whoever opens the data to run over all of them.

use crate::elaborate::vectorise::{Lane, vectorise};
use nnc_graph::{Dim, Graph, Op, TensorType, ValueId};
use std::collections::BTreeMap;

/// How many examples a run looks at or makes.
pub(super) const AT_ONCE: usize = 64;

/// A graph called `name` of the values `wanted` of `example`, for [`AT_ONCE`] examples, and these values in it. Its
/// inputs are those of `each`, with the examples in front; `shared` makes what is the same for all of them.
///
/// # Errors
/// In words, what cannot be computed side by side.
pub(super) fn at_once(
    name: &str,
    (example, wanted): (&Graph, &[ValueId]),
    each: impl Iterator<Item = (String, TensorType)>,
    shared: impl FnOnce(&mut Graph) -> Vec<(String, ValueId)>,
) -> Result<(Graph, Vec<ValueId>), String> {
    let n = Dim::from(AT_ONCE);
    let mut graph = Graph::new(name);
    let mut lanes: BTreeMap<String, Lane> = BTreeMap::new();
    for (name, ty) in each {
        let ty = TensorType::new(ty.dtype, [vec![n.clone()], ty.shape.to_vec()].concat());
        let value = graph.emit(Op::Input { name: name.clone(), ty }, &[]);
        lanes.insert(name, Lane { value, batched: true });
    }
    for (name, value) in shared(&mut graph) {
        lanes.insert(name, Lane { value, batched: false });
    }
    let mut leaf = |_: &mut Graph, op: &Op| match op {
        Op::Input { name, .. } => lanes.get(name).copied().ok_or_else(|| format!("no input `{name}`")),
        other => Err(format!("`{}` in an example", other.name())),
    };
    let values = vectorise(example, wanted, &mut graph, &n, &mut leaf)?;
    Ok((graph, values))
}
