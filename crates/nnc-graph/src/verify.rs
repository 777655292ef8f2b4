//! The rules a graph keeps. Every broken one is reported, not only the first.
//!
//! [`verify`], of any graph:
//! 1. The nodes and values refer to each other: a node's results are values that name it as their node, and every value
//!    is a result of its node.
//! 2. The operands of a node exist and are defined by nodes before it, so program order is a topological order.
//! 3. The types of a node's results are what [`crate::infer()`] gives for its operands' types.
//! 4. The edges that petgraph holds are those that the operands say, as often as they say it.
//! 5. The names of inputs and the paths of parameters and states are not empty, and no two are equal.
//! 6. The origin of a node is in the table of origins.
//! 7. Every output is a value of the graph; no two have one name.
//! 8. The body of a `scan` keeps the rules itself.
//! 9. An update writes a parameter or a state, is called by its path, and its value has the target's type.
//!
//! [`verify_lowerable`], of what is interpreted or lowered, besides:
//! 10. There is no `grad`, in bodies neither.
//! 11. Every dim is a number, in the types of values and in the attributes of ops.
//!
//! A broken rule is a bug in the compiler, or an error in a text that was parsed. Cost: linear, but for sorting.

use crate::{Dim, Graph, Node, NodeId, Op, OutputKind, TensorType, ValueId, infer};
use std::collections::BTreeSet;

/// Checks rules 1 to 9.
///
/// # Errors
/// One message for each breach, in program order.
pub fn verify(graph: &Graph) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    for (id, node) in graph.nodes() {
        check_node(graph, id, node, &mut problems);
    }
    // The rest may follow ids, which rules 1 and 2 have to vouch for.
    if problems.is_empty() {
        check_values(graph, &mut problems);
        check_edges(graph, &mut problems);
        check_leaf_names(graph, &mut problems);
        check_outputs(graph, &mut problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Checks rules 1 to 11.
///
/// # Errors
/// As [`verify`].
pub fn verify_lowerable(graph: &Graph) -> Result<(), Vec<String>> {
    verify(graph)?;
    let mut problems = Vec::new();
    for (id, node) in graph.nodes() {
        if node.op == Op::Grad {
            problems.push(format!("{id}: `grad` is not expanded"));
        }
        if let Op::Scan(scan) = &node.op {
            check_body(id, verify_lowerable(&scan.body), &mut problems);
        }
        for dim in node.op.attribute_dims().into_iter().filter(|dim| dim.as_number().is_none()) {
            problems.push(format!("{id}: `{}` holds the dim `{dim}`, which is not bound", node.op.name()));
        }
        for &result in &node.results {
            if !graph.ty(result).shape.is_bound() {
                problems.push(format!("{id}: {result} is {}, which has a dim that is not bound", graph.ty(result)));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn check_node(graph: &Graph, id: NodeId, node: &Node, problems: &mut Vec<String>) {
    let exists = |value: &ValueId| value.index() < graph.value_count();
    if !node.operands.iter().chain(&node.results).all(exists) {
        problems.push(format!("{id}: uses or defines a value that does not exist"));
        return;
    }
    for &result in &node.results {
        if graph.value(result).node != id {
            problems.push(format!("{id}: its result {result} is said to be of {}", graph.value(result).node));
        }
    }
    for &operand in node.operands.iter().filter(|operand| graph.value(**operand).node >= id) {
        problems.push(format!("{id}: its operand {operand} is not defined before it"));
    }
    if node.origin.is_some_and(|origin| origin.index() >= graph.origins().len()) {
        problems.push(format!("{id}: its origin is not in the table"));
    }
    if let Op::Scan(scan) = &node.op {
        check_body(id, verify(&scan.body), problems);
    }
    check_types(graph, id, node, problems);
}

fn check_body(id: NodeId, checked: Result<(), Vec<String>>, problems: &mut Vec<String>) {
    let breaches = checked.err().unwrap_or_default();
    problems.extend(breaches.into_iter().map(|breach| format!("{id}: in its body: {breach}")));
}

fn check_types(graph: &Graph, id: NodeId, node: &Node, problems: &mut Vec<String>) {
    let operands: Vec<TensorType> = node.operands.iter().map(|&operand| graph.ty(operand).clone()).collect();
    let found: Vec<&TensorType> = node.results.iter().map(|&result| graph.ty(result)).collect();
    match infer(&node.op, &operands) {
        Err(error) => problems.push(format!("{id}: {error}")),
        Ok(types) if types.iter().ne(found.iter().copied()) => {
            let list = |types: &[String]| types.join(", ");
            let right: Vec<String> = types.iter().map(TensorType::to_string).collect();
            let found: Vec<String> = found.into_iter().map(TensorType::to_string).collect();
            problems.push(format!("{id}: `{}` gives {}, not {}", node.op.name(), list(&right), list(&found)));
        }
        Ok(_) => {}
    }
}

fn check_values(graph: &Graph, problems: &mut Vec<String>) {
    for value in (0..graph.value_count() as u32).map(ValueId) {
        let node = graph.value(value).node;
        if node.index() >= graph.node_count() || !graph.node(node).results.contains(&value) {
            problems.push(format!("{value}: is no result of {node}"));
        }
    }
}

fn check_edges(graph: &Graph, problems: &mut Vec<String>) {
    let mut expected: Vec<(NodeId, NodeId)> = graph
        .nodes()
        .flat_map(|(id, node)| node.operands.iter().map(move |&operand| (graph.value(operand).node, id)))
        .collect();
    expected.sort_unstable();
    if expected != graph.edges() {
        problems.push("the stored edges are not those of the operands".to_owned());
    }
}

fn check_leaf_names(graph: &Graph, problems: &mut Vec<String>) {
    let mut known = BTreeSet::new();
    for (id, node) in graph.nodes() {
        let Some(name) = node.op.leaf_name() else { continue };
        if name.is_empty() {
            problems.push(format!("{id}: `{}` has no name", node.op.name()));
        } else if !known.insert(name) {
            problems.push(format!("{id}: a second leaf is called `{name}`"));
        }
    }
}

fn check_outputs(graph: &Graph, problems: &mut Vec<String>) {
    let mut known = BTreeSet::new();
    for output in graph.outputs() {
        let name = &output.name;
        if !known.insert(name) {
            problems.push(format!("a second output is called `{name}`"));
        }
        let exists = |value: ValueId| value.index() < graph.value_count();
        match output.kind {
            _ if !exists(output.value) => problems.push(format!("output `{name}`: {} does not exist", output.value)),
            OutputKind::Result => {}
            OutputKind::Update(target) if !exists(target) => {
                problems.push(format!("update `{name}`: {target} does not exist"));
            }
            OutputKind::Update(target) => check_update(graph, name, output.value, target, problems),
        }
    }
}

fn check_update(graph: &Graph, name: &str, value: ValueId, target: ValueId, problems: &mut Vec<String>) {
    match &graph.definition(target).op {
        Op::Param { path, .. } | Op::State { path, .. } if path == name => {}
        Op::Param { path, .. } | Op::State { path, .. } => {
            problems.push(format!("update `{name}`: it writes `{path}`, so that is its name"));
        }
        other => problems.push(format!("update `{name}`: it writes `{}`, no parameter and no state", other.name())),
    }
    if graph.ty(value) != graph.ty(target) {
        problems.push(format!("update `{name}`: {} is written over {}", graph.ty(value), graph.ty(target)));
    }
}

impl Op {
    /// The name of an input, or the path of a parameter or state.
    pub fn leaf_name(&self) -> Option<&str> {
        match self {
            Op::Input { name, .. } | Op::Param { path: name, .. } | Op::State { path: name, .. } => Some(name),
            _ => None,
        }
    }

    /// Every dim among the attributes, apart from the types of leaves.
    pub fn attribute_dims(&self) -> Vec<&Dim> {
        match self {
            Op::Extent { dim, .. } => vec![dim],
            Op::Random { shape, .. } | Op::Reshape(shape) | Op::Broadcast { shape, .. } => shape.iter().collect(),
            Op::Slice(ranges) => ranges.iter().flat_map(|range| [&range.start, &range.size]).collect(),
            Op::Pad { low, high } => low.iter().chain(high).collect(),
            Op::DynamicSlice { size, .. } => vec![size],
            Op::Scan(scan) => vec![&scan.length],
            Op::Conv(at) | Op::ConvLast(at) => conv_dims(at).collect(),
            Op::ConvInputGrad { attributes, input: further }
            | Op::ConvInputGradLast { attributes, input: further }
            | Op::ConvWeightGrad { attributes, kernel: further } => conv_dims(attributes).chain(further).collect(),
            Op::Window { attributes, .. } | Op::WindowPick(attributes) => window_dims(attributes).collect(),
            Op::WindowGrad { attributes, input, .. } => window_dims(attributes).chain(input).collect(),
            Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) | Op::Iota { .. } => Vec::new(),
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Transpose(_) => Vec::new(),
            Op::Concat { .. } | Op::DynamicUpdate { .. } | Op::Gather { .. } | Op::ScatterAdd { .. } => Vec::new(),
            Op::Reduce { .. } | Op::ArgMax { .. } | Op::Dot { .. } | Op::DotStored(_) => Vec::new(),
            Op::Grad | Op::StopGradient => Vec::new(),
        }
    }
}

fn conv_dims(at: &crate::ConvAttributes) -> impl Iterator<Item = &Dim> {
    at.stride.iter().chain(&at.low).chain(&at.high).chain(&at.dilation).chain([&at.groups])
}

fn window_dims(at: &crate::WindowAttributes) -> impl Iterator<Item = &Dim> {
    at.size.iter().chain(&at.stride).chain(&at.low).chain(&at.high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{GraphOptions, random_graph_with};
    use crate::{DType, Shape};

    fn leaf(graph: &mut Graph, path: &str, sizes: &[usize]) -> ValueId {
        graph.emit(Op::Param { path: path.to_owned(), ty: TensorType::new(DType::F32, Shape::of(sizes)) }, &[])
    }

    #[test]
    fn random_graphs_keep_the_rules() {
        for seed in 0..200 {
            let with_grad = GraphOptions { grad: true, ..GraphOptions::default() };
            verify(&random_graph_with(seed, &with_grad)).unwrap();
            verify_lowerable(&random_graph_with(seed, &GraphOptions::default())).unwrap();
        }
    }

    #[test]
    fn every_breach_is_reported() {
        let mut graph = Graph::new("broken");
        let a = leaf(&mut graph, "a", &[2]);
        let twin = leaf(&mut graph, "a", &[3]);
        let sum = graph.emit(Op::Binary(crate::BinaryOp::Add), &[a, a]);
        graph.add_output("y", sum, OutputKind::Result);
        graph.add_output("y", sum, OutputKind::Update(twin));
        graph.add_output("z", sum, OutputKind::Update(sum));
        assert_eq!(
            verify(&graph).unwrap_err(),
            [
                "n1: a second leaf is called `a`",
                "a second output is called `y`",
                "update `y`: it writes `a`, so that is its name",
                "update `y`: f32[2] is written over f32[3]",
                "update `z`: it writes `add`, no parameter and no state",
            ]
        );
    }

    #[test]
    fn an_unbound_dim_and_a_grad_are_not_lowered() {
        let mut graph = Graph::new("unbound");
        let ty = TensorType::scalar(DType::F32);
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty }, &[]);
        graph.emit(Op::Extent { dim: Dim::name("N"), dtype: DType::F32 }, &[]);
        graph.emit(Op::Grad, &[x, x]);
        verify(&graph).unwrap();
        assert_eq!(
            verify_lowerable(&graph).unwrap_err(),
            ["n1: `extent` holds the dim `N`, which is not bound", "n2: `grad` is not expanded"]
        );
    }
}
