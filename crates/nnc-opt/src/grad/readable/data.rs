//! Values that come from the data alone, and print as a name: how they are prepared says nothing about a derivative.

use super::names::{Unique, is_strong};
use nnc_graph::{Graph, Node, Op, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// The names of such values.
pub(super) struct Data {
    pub(super) names: BTreeMap<ValueId, String>,
}

impl Data {
    /// Forward values that no parameter matters to: those that the user named, and those that a contraction or
    /// convolution reads if they come from one input, by that input's name.
    pub(super) fn find(graph: &Graph, forward: &[bool], unique: &mut Unique) -> Self {
        let (trained, inputs) = (depends_on_parameters(graph), inputs_of(graph));
        let mut names = BTreeMap::new();
        for (id, node) in graph.nodes() {
            let value = node.results[0];
            let fixed = matches!(node.op, Op::Constant(_)) || node.op.leaf_name().is_some();
            let from_data = |value: ValueId| !trained[value.index()] && forward[value.index()];
            let users = graph.users(id);
            let leaves = users.iter().any(|&user| !from_data(graph.node(user).results[0]));
            if fixed || !from_data(value) || !leaves {
                continue;
            }
            if is_strong(graph, value) {
                names.insert(value, unique.shown(graph.value(value).name.as_deref().unwrap_or_default()));
            } else if let [input] = inputs[value.index()].iter().collect::<Vec<_>>()[..]
                && users.iter().any(|&user| is_layer(graph.node(user)))
            {
                // The input itself is not shown then, and lends its name.
                names.insert(value, input.clone());
            }
        }
        Self { names }
    }
}

fn is_layer(node: &Node) -> bool {
    matches!(
        node.op,
        Op::Dot { .. }
            | Op::DotStored(_)
            | Op::Conv(_)
            | Op::ConvLast(_)
            | Op::ConvInputGrad { .. }
            | Op::ConvInputGradLast { .. }
            | Op::ConvWeightGrad { .. }
    )
}

fn depends_on_parameters(graph: &Graph) -> Vec<bool> {
    let mut depends = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let trained =
            matches!(node.op, Op::Param { .. }) || node.operands.iter().any(|operand| depends[operand.index()]);
        node.results.iter().for_each(|result| depends[result.index()] = trained);
    }
    depends
}

/// For each value the inputs that it is computed from, without the compiler's own.
fn inputs_of(graph: &Graph) -> Vec<BTreeSet<String>> {
    let mut inputs: Vec<BTreeSet<String>> = vec![BTreeSet::new(); graph.value_count()];
    for (_, node) in graph.nodes() {
        let mut all: BTreeSet<String> =
            node.operands.iter().flat_map(|operand| inputs[operand.index()].iter().cloned()).collect();
        match &node.op {
            Op::Input { name, .. } if !name.starts_with('$') => drop(all.insert(name.clone())),
            _ => {}
        }
        node.results.iter().for_each(|result| inputs[result.index()] = all.clone());
    }
    inputs
}
