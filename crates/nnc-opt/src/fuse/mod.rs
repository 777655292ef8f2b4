//! Fusion: which nodes share a kernel.
//!
//! A [`Partition`] puts every node of a graph into exactly one [`Group`]; the graph itself stays as it is. Groups form
//! an acyclic graph; each becomes at most one kernel. With every kind switched off each node is a group of its own.
//!
//! - Views (reshape, transpose, broadcast, slice) are groups without a kernel: their readers walk strides ([`Layout`]).
//!   Inside a group an operand that is a view of a member is looked through when it names the same points of the
//!   group's domain ([`Reach`]).
//! - A *map* computes elementwise nodes of one number of elements, point by point; it may have many outputs, as an
//!   optimiser's update does.
//! - A *rows* group has reductions over the trailing axes, and elementwise work before, between and after them: a task
//!   owns whole rows, so softmax or layer normalisation is one kernel and the row stays in cache.
//! - A *reduce* group is a reduction over any axes, with the elementwise work before it and, on its result, after it.
//! - An *attention* group has products on both sides of a rows group: what they give and take stays in a task
//!   (`attention.rs`).
//! - A *pooled* group is a convolution and the windows over what it makes (`pooling.rs`).
//! - An *anchor* (dot, convolution, window and the like) takes elementwise work on its result as its epilogue.
//! - A *loop* is a scan; its body has a partition of its own.
//!
//! The algorithm is greedy in program order: a node joins the groups of its operands as far as no cycle arises
//! (`merge.rs`). Floats that stored bytes stand for are left to the group that reads them (`widen.rs`). Whether a join
//! was done or refused, and why, is logged as a [`Decision`] for `nnc explain`.

pub mod attention;
mod class;
mod greedy;
mod layout;
mod merge;
mod outputs;
pub mod pooling;
mod trace;
mod widen;

pub use class::{Class, class, is_point_operand};
pub use greedy::{partition, partition_with};
pub use layout::{Layout, common_refinement};
pub use merge::{anchor_domain, rows_of};
pub use trace::{Reach, Views, base};

use nnc_graph::{Graph, NodeId, ValueId};

/// Which kinds of fusion are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FuseOptions {
    /// Elementwise nodes with one another.
    pub elementwise: bool,
    /// Elementwise nodes into the reductions that read them or that they read.
    pub reductions: bool,
    /// Several reductions over the same rows.
    pub rows: bool,
    /// Elementwise nodes into the dot, convolution or window whose result they read.
    pub epilogues: bool,
    /// Products with the reductions over rows between them.
    pub attention: bool,
    /// Windows with the convolution whose result they are over.
    pub pooling: bool,
    /// Independent chains of scalars with one another.
    pub scalars: bool,
    /// Scores of attention are kept for its derivative if they have at most so many bytes, and else made again.
    pub kept_scores: usize,
}

/// What the caches hold beside everything else: making scores again costs a product more.
const KEPT_SCORES: usize = 8 << 20;

impl FuseOptions {
    /// Everything on.
    pub const ALL: Self = Self {
        elementwise: true,
        reductions: true,
        rows: true,
        epilogues: true,
        attention: true,
        pooling: true,
        scalars: true,
        kept_scores: KEPT_SCORES,
    };
    /// Everything off: each node by itself.
    pub const NONE: Self = Self {
        elementwise: false,
        reductions: false,
        rows: false,
        epilogues: false,
        attention: false,
        pooling: false,
        scalars: false,
        kept_scores: KEPT_SCORES,
    };

    /// Everything on but one kind, for each kind, by its name.
    pub fn without_each() -> [(&'static str, Self); 7] {
        [
            ("elementwise", Self { elementwise: false, ..Self::ALL }),
            ("reductions", Self { reductions: false, ..Self::ALL }),
            ("rows", Self { rows: false, ..Self::ALL }),
            ("epilogues", Self { epilogues: false, ..Self::ALL }),
            ("attention", Self { attention: false, ..Self::ALL }),
            ("pooling", Self { pooling: false, ..Self::ALL }),
            ("scalars", Self { scalars: false, ..Self::ALL }),
        ]
    }
}

impl Default for FuseOptions {
    fn default() -> Self {
        Self::ALL
    }
}

/// What a group's kernel does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GroupKind {
    /// Input, parameter, state or constant: no kernel.
    Leaf,
    /// A view: no kernel.
    View,
    /// A reshape of a view that strides cannot say: its elements are copied.
    Copy,
    /// Elementwise work on a domain.
    Map,
    /// One reduction with elementwise work before it and on its result.
    Reduce,
    /// Reductions over trailing axes with elementwise work around them.
    Rows,
    /// A node with a kernel of its own, and elementwise work on its result.
    Anchor,
    /// Products, reductions over the rows of what they give, and products that read the outcome.
    Attention,
    /// A convolution, windows over what it makes, and elementwise work on both.
    Pooled,
    /// A scan: the kernels of its body, again and again.
    Loop,
}

impl GroupKind {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::View => "view",
            Self::Copy => "copy",
            Self::Map => "map",
            Self::Reduce => "reduce",
            Self::Rows => "rows",
            Self::Anchor => "anchor",
            Self::Attention => "attention",
            Self::Pooled => "pooled",
            Self::Loop => "loop",
        }
    }
}

/// Nodes that share a kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// What the kernel does.
    pub kind: GroupKind,
    /// The nodes, in program order.
    pub nodes: Vec<NodeId>,
    /// For an anchor group, the node that it is built around; for a pooled one the convolution.
    pub anchor: Option<NodeId>,
    /// Sizes of the points that are walked: a common refinement of the shapes of its full-size members. For `Reduce`,
    /// `Rows` and `Attention` the operand of the reduction; for `Anchor` and `Pooled` the anchor's result.
    pub domain: Vec<usize>,
    /// Values that are needed outside of the group and so are stored, in program order.
    pub outputs: Vec<ValueId>,
    /// For a loop, the groups of its body.
    pub body: Option<Box<Partition>>,
}

/// Whether two groups were joined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// They were.
    Done,
    /// They were not.
    Refused,
}

/// One fusion considered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// What came of it.
    pub verdict: Verdict,
    /// Which kind of fusion: `elementwise`, `reduction`, `rows`, `epilogue`, `attention`, `pooling`, `scalars`.
    pub kind: &'static str,
    /// The nodes, as `relu %12 into conv %9`.
    pub what: String,
    /// The reason.
    pub why: String,
    /// The node that would join.
    pub node: NodeId,
}

/// The groups of a graph, in an order in which they can run, and how they came about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Partition {
    /// In a topological order; ties are broken by the first node.
    pub groups: Vec<Group>,
    /// Every fusion that was considered.
    pub decisions: Vec<Decision>,
}

impl Partition {
    /// For each node the place of its group in [`Partition::groups`].
    pub fn group_of(&self, graph: &Graph) -> Vec<usize> {
        let mut of = vec![usize::MAX; graph.nodes().len()];
        for (at, group) in self.groups.iter().enumerate() {
            for node in &group.nodes {
                of[node.index()] = at;
            }
        }
        of
    }

    /// For each value whether a group stores it.
    pub fn stored(&self, graph: &Graph) -> Vec<bool> {
        let mut stored = vec![false; graph.value_count()];
        let outputs = self.groups.iter().flat_map(|group| &group.outputs);
        outputs.for_each(|value| stored[value.index()] = true);
        stored
    }

    /// Every fusion that was considered, those in the bodies of loops included.
    pub fn all_decisions(&self) -> Vec<&Decision> {
        let bodies = self.groups.iter().filter_map(|group| group.body.as_deref());
        self.decisions.iter().chain(bodies.flat_map(Self::all_decisions)).collect()
    }
}

#[cfg(test)]
mod tests;
