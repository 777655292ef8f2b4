//! Numbers that stand for what values are computed by, from which inputs, parameters and constants.
//!
//! They outlive a build: files of weights have names and marks that are made of them. So they are hashes of the text
//! form of ops, which is kept, and know nothing of ids, of places in the source or of names that a person gave.

use nnc_graph::{Graph, Node, Op, fnv1a, text};

/// A number for each value of a graph: the hash of its op, its operands' numbers and its type.
pub(super) fn fingerprints(graph: &Graph) -> Vec<u64> {
    let mut hashes: Vec<u64> = vec![0; graph.value_count()];
    for (_, node) in graph.nodes() {
        let op = of_op(node);
        for (at, result) in node.results.iter().enumerate() {
            let operands = node.operands.iter().flat_map(|operand| hashes[operand.index()].to_le_bytes());
            let ty = format!("{at} {}", graph.ty(*result));
            hashes[result.index()] = fnv1a(op.to_le_bytes().into_iter().chain(operands).chain(ty.bytes()));
        }
    }
    hashes
}

/// What a node does to its operands.
fn of_op(node: &Node) -> u64 {
    match &node.op {
        Op::Constant(tensor) => fnv1a(tensor.bytes().iter().copied()),
        Op::Scan(scan) => {
            let inside = fingerprints(&scan.body);
            let results = scan.body.outputs().iter().flat_map(|output| inside[output.value.index()].to_le_bytes());
            fnv1a(text::print_op(&node.op).bytes().chain(results))
        }
        op => fnv1a(text::print_op(op).bytes()),
    }
}
