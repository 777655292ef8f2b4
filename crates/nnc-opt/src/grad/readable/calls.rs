//! Calls of functions, found again: connected forward nodes of one origin of which only one value is used elsewhere.

use nnc_graph::{Graph, Node, NodeId, Op, OriginId, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// A call that prints as `function(arguments)`.
pub(super) struct Call {
    pub(super) function: String,
    /// What the body reads from outside, in the order of reading; constants are left out.
    pub(super) arguments: Vec<ValueId>,
}

/// Calls by the value that is their result.
pub(super) fn calls(graph: &Graph, forward: &[bool]) -> BTreeMap<ValueId, Call> {
    let is_body = |node: &Node| {
        let inside = !matches!(node.op, Op::Param { .. } | Op::Input { .. } | Op::State { .. } | Op::Constant(_));
        // A number has no place of its own: it is shared by whoever needs it.
        let number = is_repeated_constant(graph, node.results[0]);
        inside && !number && forward[node.results[0].index()] && node.origin.is_some()
    };
    let mut found = BTreeMap::new();
    for (result, body) in bodies(graph, is_body) {
        let origin = graph.origin_of(graph.node(result));
        let Some(function) = origin.map(|origin| origin.function.clone()) else { continue };
        // A model is called with parameters that are its own; its steps say more than its name.
        let is_function = function.starts_with(char::is_lowercase);
        let arguments = arguments(graph, &body);
        let owns = arguments.iter().any(|&argument| reads_leaf(graph, argument));
        let is_output = graph.outputs().iter().any(|output| graph.value(output.value).node == result);
        if is_function && !owns && !is_output && only_result_escapes(graph, &body, result) {
            found.insert(graph.node(result).results[0], Call { function, arguments });
        }
    }
    found
}

/// Connected nodes of one origin, by the last of them.
fn bodies(graph: &Graph, is_body: impl Fn(&Node) -> bool) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
    let mut group_of: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let mut groups: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    let origin = |id: NodeId| -> Option<OriginId> { graph.node(id).origin };
    for (id, node) in graph.nodes().filter(|(_, node)| is_body(node)) {
        let mut members = BTreeSet::from([id]);
        for &operand in &node.operands {
            let from = graph.value(operand).node;
            if origin(from) == origin(id)
                && let Some(group) = group_of.get(&from).and_then(|group| groups.remove(group))
            {
                members.extend(group);
            }
        }
        group_of.extend(members.iter().map(|&member| (member, id)));
        groups.insert(id, members);
    }
    groups
}

fn arguments(graph: &Graph, body: &BTreeSet<NodeId>) -> Vec<ValueId> {
    let mut arguments = Vec::new();
    for &operand in body.iter().flat_map(|&id| &graph.node(id).operands) {
        let outside = !body.contains(&graph.value(operand).node);
        let constant = matches!(graph.definition(operand).op, Op::Constant(_));
        if outside && !constant && !arguments.contains(&operand) && !is_repeated_constant(graph, operand) {
            arguments.push(operand);
        }
    }
    arguments
}

fn is_repeated_constant(graph: &Graph, value: ValueId) -> bool {
    let node = graph.definition(value);
    let repeated = matches!(node.op, Op::Broadcast { .. });
    repeated && matches!(graph.definition(node.operands[0]).op, Op::Constant(_))
}

fn reads_leaf(graph: &Graph, value: ValueId) -> bool {
    let node = graph.definition(value);
    match &node.op {
        Op::Param { .. } | Op::State { .. } => true,
        Op::Broadcast { .. } | Op::Reshape(_) => reads_leaf(graph, node.operands[0]),
        _ => false,
    }
}

fn only_result_escapes(graph: &Graph, body: &BTreeSet<NodeId>, result: NodeId) -> bool {
    let stays = |id: NodeId| graph.users(id).iter().all(|user| body.contains(user));
    body.iter().all(|&id| id == result || stays(id))
}
