//! What `nnc explain` says of zeros that are multiplied nevertheless: kernels leave out those of floats alone.

use nnc_driver::prune::TOLD;
use nnc_graph::{DType, Graph, NodeId, Op, ValueId};
use nnc_opt::products::is_product;
use std::collections::BTreeMap;

/// What is said of a kernel with such nodes, by the share of zeros of each tensor of numbers; nothing where there are
/// few.
pub(super) fn note(graph: &Graph, nodes: &[NodeId], zeros: &BTreeMap<String, f64>) -> Option<String> {
    nodes.iter().find_map(|&id| {
        let node = graph.node(id);
        let multiplied = match &node.op {
            op if is_product(op) && graph.ty(node.operands[0]).dtype == DType::U8 => "products of bytes multiply them",
            Op::DotStored(_) => "products of few bits multiply them",
            _ => return None,
        };
        let share = zeros.get(parameter(graph, node.operands[1])?).filter(|share| **share >= TOLD)?;
        Some(format!("; {:.0} % zeros, {multiplied}", 100.0 * share))
    })
}

/// The parameter that weights are brought into their form from.
fn parameter(graph: &Graph, mut value: ValueId) -> Option<&str> {
    loop {
        let node = graph.definition(value);
        if let Op::Param { path, .. } = &node.op {
            return Some(path);
        }
        value = *node.operands.first()?;
    }
}
