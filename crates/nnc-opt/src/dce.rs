//! Dead code elimination: keeps what an output needs, in order.
//!
//! Inputs, parameters and states stay, needed or not: they are the graph's signature. Each node left out is one
//! rewrite. Linear in the number of nodes.

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Graph, NodeId, OutputKind};

/// The graph without the nodes that no output needs.
pub fn eliminate_dead_code(graph: &Graph, fuel: &mut Fuel) -> Graph {
    let mut kept = live_nodes(graph);
    let mut rewriter = Rewriter::new(graph, fuel);
    // A dead node that is kept for want of fuel needs its operands, so the fuel goes to the last nodes first.
    for (id, node) in graph.nodes().rev() {
        if !kept[id.index()] && !rewriter.spend() {
            kept[id.index()] = true;
        }
        if kept[id.index()] {
            node.operands.iter().for_each(|&operand| kept[graph.value(operand).node.index()] = true);
        }
    }
    for (id, _) in graph.nodes() {
        if kept[id.index()] {
            rewriter.copy(id);
        }
    }
    rewriter.finish()
}

/// For each node, whether an output needs it or it is a leaf.
pub fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.node_count()];
    let mut mark = |id: NodeId| live[id.index()] = true;
    for output in graph.outputs() {
        mark(graph.value(output.value).node);
        if let OutputKind::Update(target) = output.kind {
            mark(graph.value(target).node);
        }
    }
    for (id, node) in graph.nodes().rev() {
        live[id.index()] |= node.op.is_leaf();
        if live[id.index()] {
            node.operands.iter().for_each(|&operand| live[graph.value(operand).node.index()] = true);
        }
    }
    live
}
