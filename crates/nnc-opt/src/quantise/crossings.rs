//! Where a quantised network leaves bytes, and where it comes back to them.
//!
//! Looked at is what kernels read and write, as fusion groups nodes into them: what stays inside of a kernel, as the
//! scaling of a product's sums before they are rounded, moves nothing. A crossing is
//!
//! - a kernel without a product of bytes that reads bytes as the floats they stand for. If it writes bytes again,
//!   floats are only on the way;
//! - a product of bytes whose kernel writes floats, as somebody needs them, or its sums as they are;
//! - a kernel that reads floats alone and writes bytes.
//!
//! Whoever only moves elements needs nothing: its own readers do. What follows from weights alone is made once, and is
//! none. Bodies of loops, which are of floats, are not looked into.

use super::sites::moves;
use crate::constants::weights;
use crate::fuse::{Group, GroupKind, Partition, Views};
use crate::products::{is_product, place};
use crate::simplify::matching::number;
use nnc_graph::{BinaryOp, DType, Graph, Node, NodeId, Op, OutputKind, ValueId, WindowOp};

/// What numbers become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Bytes, or sums of products of bytes, become floats.
    ToFloats,
    /// Sums of products of bytes stay as they are, in 32 bits.
    ToSums,
    /// Floats become bytes.
    ToBytes,
    /// Bytes become floats and bytes again in one kernel.
    Between,
}

/// A place where a network leaves bytes, or comes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crossing {
    /// What becomes of the numbers.
    pub change: Change,
    /// The layer that made them, else the function and the line of the source.
    pub place: String,
    /// The bytes that are read or written there.
    pub bytes: usize,
    /// Who needs them so.
    pub readers: Vec<String>,
}

impl Crossing {
    /// Whether both are the same but for how much is moved.
    fn is_like(&self, other: &Self) -> bool {
        (self.change, &self.place, &self.readers) == (other.change, &other.place, &other.readers)
    }
}

/// The crossings of a graph that is ready to be lowered, in the order in which kernels run; those of a layer that are
/// alike are one.
pub fn crossings(graph: &Graph, partition: &Partition) -> Vec<Crossing> {
    let (views, group_of) = (Views::new(graph), partition.group_of(graph));
    let network = Network { graph, views, group_of, constant: weights(graph), data: data(graph) };
    let works = |group: &&Group| !matches!(group.kind, GroupKind::Leaf | GroupKind::View);
    let mut found: Vec<Crossing> = Vec::new();
    for crossing in partition.groups.iter().filter(works).flat_map(|group| network.crossings(group)) {
        match found.iter_mut().find(|known| known.is_like(&crossing)) {
            Some(known) => known.bytes += crossing.bytes,
            None => found.push(crossing),
        }
    }
    found
}

struct Network<'g> {
    graph: &'g Graph,
    views: Views,
    group_of: Vec<usize>,
    /// By value: whether it is the same in every run.
    constant: Vec<bool>,
    /// By value: whether it is given, or moved of what is given, as the bytes of a picture are that nobody rounded.
    data: Vec<bool>,
}

/// For each value whether it is given, or moved of such values.
fn data(graph: &Graph) -> Vec<bool> {
    let mut data = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let is_data = match &node.op {
            Op::Input { .. } => true,
            Op::Cast(_) => false,
            _ => node.operands.iter().any(|operand| data[operand.index()]),
        };
        node.results.iter().for_each(|result| data[result.index()] = is_data && graph.ty(*result).dtype == DType::U8);
    }
    data
}

impl<'g> Network<'g> {
    fn crossings(&self, group: &Group) -> Vec<Crossing> {
        let product = group.nodes.iter().any(|&id| self.multiplies_bytes(self.graph.node(id)));
        let outputs = || group.outputs.iter().copied().filter(|output| !self.constant[output.index()]);
        let writes_floats = outputs().any(|output| !self.is_bytes(output));
        let mut found = Vec::new();
        for (bytes, reader) in self.read_as_floats(group) {
            let change = if writes_floats { Change::ToFloats } else { Change::Between };
            found.push(self.crossing(change, bytes, vec![described(self.graph, reader)]));
        }
        for output in outputs().filter(|_| product) {
            let change = match self.dtype(output) {
                DType::F32 => Change::ToFloats,
                DType::I32 => Change::ToSums,
                _ => continue,
            };
            found.push(self.crossing(change, output, self.readers(output)));
        }
        let from_floats = !product && !self.reads(group).any(|value| self.is_bytes(value));
        let made = |output: &ValueId| from_floats && self.is_bytes(*output);
        found.extend(outputs().filter(made).map(|output| self.crossing(Change::ToBytes, output, self.readers(output))));
        found
    }

    fn crossing(&self, change: Change, value: ValueId, readers: Vec<String>) -> Crossing {
        let place = place(self.graph, self.graph.definition(value));
        Crossing { change, place, bytes: self.graph.ty(value).bytes(), readers }
    }

    fn dtype(&self, value: ValueId) -> DType {
        self.graph.ty(value).dtype
    }

    /// Whether a value is of activations in bytes.
    fn is_bytes(&self, value: ValueId) -> bool {
        self.dtype(value) == DType::U8 && !self.constant[value.index()] && !self.data[value.index()]
    }

    fn multiplies_bytes(&self, node: &Node) -> bool {
        is_product(&node.op) && self.is_bytes(node.operands[0])
    }

    /// What a group reads that others made.
    fn reads<'n>(&'n self, group: &'n Group) -> impl Iterator<Item = ValueId> + 'n {
        let operands = group.nodes.iter().flat_map(|&id| &self.graph.node(id).operands);
        operands.map(|&operand| self.views.base(operand)).filter(|&value| !self.is_of(group, value))
    }

    fn is_of(&self, group: &Group, value: ValueId) -> bool {
        group.nodes.contains(&self.graph.value(value).node)
    }

    /// The bytes that a group reads as floats, each once, with who in it needs them.
    fn read_as_floats(&self, group: &Group) -> Vec<(ValueId, &'g Node)> {
        let mut found: Vec<(ValueId, &Node)> = Vec::new();
        for &id in &group.nodes {
            let node = self.graph.node(id);
            if node.op != Op::Cast(DType::F32) || !self.is_bytes(node.operands[0]) {
                continue;
            }
            let bytes = self.views.base(node.operands[0]);
            if !self.is_of(group, bytes) && found.iter().all(|(known, _)| *known != bytes) {
                found.push((bytes, self.reader_of(group, id)));
            }
        }
        found
    }

    /// The first node of a group that reads what bytes stand for: behind their scale.
    fn reader_of(&self, group: &Group, cast: NodeId) -> &'g Node {
        let mut at = cast;
        loop {
            let node = self.graph.node(at);
            let inside = |user: &NodeId| group.nodes.contains(user);
            let Some(user) = self.graph.users(at).into_iter().find(inside) else { return node };
            at = user;
            if !self.is_of_scale(self.graph.node(user)) {
                return self.graph.node(user);
            }
        }
    }

    /// Whether a node is a part of what makes floats of bytes: a difference or a product with a number.
    fn is_of_scale(&self, node: &Node) -> bool {
        let with_number = node.operands.iter().any(|&operand| number(self.graph, operand).is_some());
        matches!(node.op, Op::Binary(BinaryOp::Sub | BinaryOp::Mul)) && with_number
    }

    /// Who needs a value that is stored: nodes of other groups, and results, each once.
    fn readers(&self, value: ValueId) -> Vec<String> {
        let own = self.group_of[self.graph.value(value).node.index()];
        let mut found = Vec::new();
        self.add_readers((value, own), &mut found);
        found
    }

    /// Adds who needs a value, but for nodes of one's own group; behind those that move its elements, or cast them,
    /// whoever needs what they make.
    fn add_readers(&self, (value, own): (ValueId, usize), found: &mut Vec<String>) {
        let results =
            self.graph.outputs().iter().filter(|output| output.kind == OutputKind::Result && output.value == value);
        let add = |name: String, found: &mut Vec<String>| {
            if !found.contains(&name) {
                found.push(name);
            }
        };
        results.for_each(|output| add(format!("result `{}`", output.name), found));
        for id in self.graph.users(self.graph.value(value).node) {
            let node = self.graph.node(id);
            if !node.operands.contains(&value) {
                continue;
            }
            let moves = moves(&node.op)
                || matches!(node.op, Op::Cast(_) | Op::Concat { .. } | Op::Pad { .. } | Op::Broadcast { .. });
            match moves {
                true => self.add_readers((node.results[0], own), found),
                false if own != self.group_of[id.index()] => add(described(self.graph, node), found),
                false => {}
            }
        }
    }
}

/// What a node does, and where in the source it comes from. Reductions are called by their function, which says more.
fn described(graph: &Graph, node: &Node) -> String {
    let place = place(graph, node);
    let function = graph.function_of(node);
    let what = match &node.op {
        op if is_product(op) && graph.ty(node.operands[0]).dtype == DType::U8 => "product of bytes",
        op if is_product(op) => "product of floats",
        Op::Scan(_) => "loop",
        Op::Window { op: WindowOp::Sum, .. } => "average pool",
        Op::Reduce { .. } => {
            function.filter(|name| !name.is_empty() && !place.starts_with(name)).unwrap_or("reduction")
        }
        op => op.name(),
    };
    format!("{what} of {place}")
}
