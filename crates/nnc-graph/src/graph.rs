//! Storage of a graph: nodes, values, outputs, origins.
//!
//! A node's operand list is the truth; petgraph's edges are derived from it when the node is added, and nothing
//! outside this file sees petgraph. Nodes are only ever appended, and their operands exist before them, so
//! program order is a topological order and ties break by id. A pass makes a new graph instead of editing one.

use crate::{DType, Op, Shape, TensorType, TypeError, infer};
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub u32);
        impl $name {
            /// Position in the table it indexes.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(/** Names a node. */ NodeId, "n");
id!(/** Names a value; prints as `%7`. */ ValueId, "%");
id!(/** Names an entry of the table of origins. */ OriginId, "o");

/// One application of an op.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// What is applied.
    pub op: Op,
    /// To what, in order.
    pub operands: Vec<ValueId>,
    /// What it defines.
    pub results: Vec<ValueId>,
    /// Where in the source it comes from: a hint for fusion and reports, never part of the meaning.
    pub origin: Option<OriginId>,
}

/// One SSA value.
#[derive(Clone, PartialEq, Debug)]
pub struct Value {
    /// Its type.
    pub ty: TensorType,
    /// The node that defines it.
    pub node: NodeId,
    /// The user's name for it, if there is one.
    pub name: Option<String>,
}

/// Where nodes come from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    /// The library or user function whose body made the node: `layer_norm`.
    pub function: String,
    /// The use it belongs to: `block[0].layer_norm_1`; empty at the top.
    pub path: String,
    /// `file:line` in the user's own source.
    pub place: String,
}

/// What becomes of an output.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OutputKind {
    /// Handed to the caller.
    Result,
    /// Written over the parameter or state that this value is, when the run ends.
    Update(ValueId),
}

/// One output of a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Unique among the outputs; for an update the path it writes.
    pub name: String,
    /// What is put out.
    pub value: ValueId,
    /// Where to.
    pub kind: OutputKind,
}

/// A tensor program.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// What it is called, in dumps.
    pub name: String,
    nodes: DiGraph<Node, ()>,
    values: Vec<Value>,
    outputs: Vec<Output>,
    origins: Vec<Origin>,
    current_origin: Option<OriginId>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// An empty graph with the name and the origins of this one, so that ids of origins mean the same in both.
    pub fn successor(&self) -> Self {
        Self { name: self.name.clone(), origins: self.origins.clone(), ..Self::default() }
    }

    /// Appends a node and gives its results.
    ///
    /// # Errors
    /// The typing rule of the op that the operands break.
    pub fn add(&mut self, op: Op, operands: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let types: Vec<TensorType> = operands.iter().map(|&value| self.ty(value).clone()).collect();
        let result_types = infer(&op, &types)?;
        let node = NodeId(self.nodes.node_count() as u32);
        let first = self.values.len() as u32;
        let results: Vec<ValueId> = (first..first + result_types.len() as u32).map(ValueId).collect();
        self.values.extend(result_types.into_iter().map(|ty| Value { ty, node, name: None }));
        let index = self.nodes.add_node(Node {
            op,
            operands: operands.to_vec(),
            results: results.clone(),
            origin: self.current_origin,
        });
        for operand in operands {
            self.nodes.add_edge(NodeIndex::new(self.values[operand.index()].node.index()), index, ());
        }
        Ok(results)
    }

    /// Appends a node that has one result.
    ///
    /// # Errors
    /// As [`Graph::add`].
    pub fn add1(&mut self, op: Op, operands: &[ValueId]) -> Result<ValueId, TypeError> {
        Ok(self.add(op, operands)?[0])
    }

    /// Appends a node whose operands a pass knows to fit.
    ///
    /// # Panics
    /// If they do not: a bug in the compiler.
    pub fn emit(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.emit_all(op, operands)[0]
    }

    /// As [`Self::emit`]; gives all results.
    ///
    /// # Panics
    /// As [`Self::emit`].
    pub fn emit_all(&mut self, op: Op, operands: &[ValueId]) -> Vec<ValueId> {
        let described = op.name();
        self.add(op, operands).unwrap_or_else(|error| panic!("compiler bug: `{described}`: {error}"))
    }

    /// A scalar constant.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> ValueId {
        self.emit(Op::Constant(crate::Tensor::scalar(dtype, value)), &[])
    }

    /// A constant of any shape with one value everywhere.
    pub fn splat(&mut self, ty: &TensorType, value: f64) -> ValueId {
        let scalar = self.scalar(ty.dtype, value);
        self.broadcast_scalar(scalar, &ty.shape)
    }

    /// A scalar repeated over `shape`.
    pub fn broadcast_scalar(&mut self, scalar: ValueId, shape: &Shape) -> ValueId {
        if shape.rank() == 0 {
            return scalar;
        }
        self.emit(Op::Broadcast { shape: shape.clone(), axes: Vec::new() }, &[scalar])
    }

    /// Declares an output.
    pub fn add_output(&mut self, name: &str, value: ValueId, kind: OutputKind) {
        self.outputs.push(Output { name: name.to_owned(), value, kind });
    }

    /// Nodes appended from here on carry this origin. Gives the former one, to be put back.
    pub fn set_origin(&mut self, origin: Option<OriginId>) -> Option<OriginId> {
        std::mem::replace(&mut self.current_origin, origin)
    }

    /// The id of an origin, entered when it is new.
    pub fn intern_origin(&mut self, origin: Origin) -> OriginId {
        let at = self.origins.iter().rposition(|known| *known == origin).unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        OriginId(at as u32)
    }

    /// Gives a value the user's name for it.
    pub fn set_name(&mut self, value: ValueId, name: &str) {
        self.values[value.index()].name = Some(name.to_owned());
    }

    /// The node with that id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[NodeIndex::new(id.index())]
    }

    /// The value with that id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.values[id.index()].ty
    }

    /// The node that defines a value.
    pub fn definition(&self, id: ValueId) -> &Node {
        self.node(self.values[id.index()].node)
    }

    /// Every node in program order, which is a topological order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> + ExactSizeIterator {
        self.nodes.raw_nodes().iter().enumerate().map(|(at, node)| (NodeId(at as u32), &node.weight))
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.node_count()
    }

    /// Number of values; their ids are 0 to this.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The outputs in order of declaration.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Whether no parameter is updated: the graph is no training step. States may be, such as those of a metric that
    /// adds up over batches.
    pub fn keeps_parameters(&self) -> bool {
        self.updated().all(|leaf| matches!(self.definition(leaf).op, Op::State { .. }))
    }

    /// The parameters and states that a run writes anew; all others stay as they are.
    pub fn updated(&self) -> impl Iterator<Item = ValueId> {
        self.outputs.iter().filter_map(|output| match output.kind {
            OutputKind::Result => None,
            OutputKind::Update(leaf) => Some(leaf),
        })
    }

    /// The table of origins.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// An entry of the table of origins.
    pub fn origin(&self, id: OriginId) -> &Origin {
        &self.origins[id.index()]
    }

    /// Where a node comes from; `None` for those that a pass made of nothing in the source.
    pub fn origin_of(&self, node: &Node) -> Option<&Origin> {
        node.origin.map(|id| self.origin(id))
    }

    /// The library function, model or block that a node comes from; `None` where the source names none.
    pub fn function_of(&self, node: &Node) -> Option<&str> {
        self.origin_of(node).map(|origin| origin.function.as_str()).filter(|function| !function.is_empty())
    }

    /// The nodes that use a result of `id`, in program order, each once.
    pub fn users(&self, id: NodeId) -> Vec<NodeId> {
        let outgoing = self.nodes.neighbors_directed(NodeIndex::new(id.index()), Direction::Outgoing);
        let mut users: Vec<NodeId> = outgoing.map(|index| NodeId(index.index() as u32)).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// The edges as petgraph has them, as `(from, to)` sorted: for the verifier, which compares them with the operands.
    pub fn edges(&self) -> Vec<(NodeId, NodeId)> {
        let mut edges: Vec<_> = self
            .nodes
            .raw_edges()
            .iter()
            .map(|edge| (NodeId(edge.source().index() as u32), NodeId(edge.target().index() as u32)))
            .collect();
        edges.sort_unstable();
        edges
    }
}
