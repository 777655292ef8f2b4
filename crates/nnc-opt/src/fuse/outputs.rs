//! Which values of a group are needed outside of it, and so are stored.

use super::GroupKind;
use super::merge::Drafts;
use nnc_graph::{Graph, ValueId};

/// The values of group `at` that other groups or the caller read, through any views, in program order.
pub fn stored(graph: &Graph, drafts: &Drafts<'_>, at: usize) -> Vec<ValueId> {
    let draft = &drafts.list[at];
    if draft.kind == GroupKind::Leaf {
        return Vec::new();
    }
    let values = draft.nodes.iter().flat_map(|&node| graph.node(node).results.iter().copied());
    values.filter(|&value| is_needed(graph, drafts, at, value)).collect()
}

fn is_needed(graph: &Graph, drafts: &Drafts<'_>, at: usize, value: ValueId) -> bool {
    drafts.put_out[value.index()]
        || graph.users(graph.value(value).node).into_iter().any(|user| {
            let node = graph.node(user);
            let reads = node.operands.contains(&value);
            if !reads {
                return false;
            }
            let is_view = drafts.views.base(node.results[0]) != node.results[0];
            if is_view {
                return node.results.iter().any(|&view| is_needed(graph, drafts, at, view));
            }
            drafts.of[user.index()] != at
        })
}
