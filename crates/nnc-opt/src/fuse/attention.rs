//! Attention: products, a reduction over the rows of what they give, and products that read the outcome, in one kernel.
//!
//! With `n` queries and `m` keys the scores are a matrix of `n x m` for each head, far larger than what goes in and
//! comes out. In a group of this kind it is nobody's output: a task has some of its rows in memory of its own, as in
//! FlashAttention (Dao and others 2022), but with whole rows, so that the order of additions is that of the single
//! kernels. What stands between the products is any elementwise work and any reductions over rows: a scale, masks of
//! any kind, softmax. So the derivative is a group of the same kind: scores made again (see [`crate::rescore`]), the
//! derivative by the weights, and products along rows (by the queries) and along columns (by keys and values).
//!
//! It is built of groups that are there: a rows group, the dots that it reads, with their epilogues, and the dots that
//! read it. **Invariant**: no value as large as the matrix leaves the group.

use super::merge::{Drafts, Join};
use super::trace::{Reach, Views};
use super::{Decision, GroupKind, Verdict, common_refinement};
use nnc_graph::{Graph, Node, NodeId, Op, ValueId};
use std::collections::BTreeSet;

/// The fewest rows of a matrix for which its keys are worth being packed.
const LEAST_ROWS: usize = 16;
/// The fewest keys for which a row is worth what surrounds it: shorter ones stay in a cache between kernels.
const LEAST_COLUMNS: usize = 96;
/// The fewest matrices that leave each thread some, where one has to be walked from its first row to its last.
const LEAST_MATRICES: usize = 4;

/// The size of the matrices that stay inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Matrices {
    /// How many.
    pub count: usize,
    /// Rows of one.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
}

impl Matrices {
    /// The results of a dot.
    pub fn of(graph: &Graph, dot: NodeId) -> Option<Self> {
        let node = graph.node(dot);
        let Op::Dot { batch, a_axes, .. } = &node.op else { return None };
        let sizes = graph.ty(node.results[0]).shape.sizes();
        let rows_end = graph.ty(node.operands[0]).shape.rank() - a_axes.len();
        let product = |sizes: &[usize]| sizes.iter().product::<usize>();
        let [count, rows, columns] = [&sizes[..*batch], &sizes[*batch..rows_end], &sizes[rows_end..]].map(product);
        Some(Self { count, rows, columns })
    }

    /// Elements of all.
    pub fn elements(&self) -> usize {
        self.count * self.rows * self.columns
    }
}

/// A product that reads a matrix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reader {
    /// The dot.
    pub dot: NodeId,
    /// Which of its operands is the matrix.
    pub operand: usize,
    /// Whether the terms lie along the rows of the matrix; else along its columns.
    pub along_rows: bool,
    /// What is computed of its result.
    pub epilogue: BTreeSet<NodeId>,
}

/// What the nodes of a group do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roles {
    /// The products that make matrices.
    pub scores: Vec<NodeId>,
    /// The products that read them.
    pub readers: Vec<Reader>,
    /// The nodes between.
    pub between: BTreeSet<NodeId>,
}

impl Roles {
    /// Of the nodes of a group, in program order.
    pub fn new(graph: &Graph, views: &Views, nodes: &[NodeId]) -> Self {
        let mut roles = Self::default();
        for &id in nodes {
            let node = graph.node(id);
            let source = |operand: &ValueId| graph.value(views.base(*operand)).node;
            let own = node.operands.iter().position(|operand| nodes.contains(&source(operand)));
            let is_epilogue = |reader: &Reader| {
                node.operands.iter().map(source).any(|from| from == reader.dot || reader.epilogue.contains(&from))
            };
            match (&node.op, own) {
                (Op::Dot { .. }, None) => roles.scores.push(id),
                (Op::Dot { .. }, Some(operand)) => {
                    let along_rows = contracts_last(graph, node, operand);
                    roles.readers.push(Reader { dot: id, operand, along_rows, epilogue: BTreeSet::new() });
                }
                _ => match roles.readers.iter_mut().find(|reader| is_epilogue(reader)) {
                    Some(reader) => _ = reader.epilogue.insert(id),
                    None => _ = roles.between.insert(id),
                },
            }
        }
        roles
    }
}

/// The axes of a dot's operand that are contracted.
fn contracted(node: &Node, operand: usize) -> (usize, &[usize]) {
    match &node.op {
        Op::Dot { batch, a_axes, b_axes } => (*batch, if operand == 0 { a_axes } else { b_axes }),
        _ => (0, &[]),
    }
}

/// Whether a dot contracts the last axes of an operand.
fn contracts_last(graph: &Graph, node: &Node, operand: usize) -> bool {
    let rank = graph.ty(node.operands[operand]).shape.rank();
    contracted(node, operand).1.iter().copied().eq(rank - contracted(node, operand).1.len()..rank)
}

/// Whether a dot reads an operand in its own order and contracts its last axes, as attention does its weights.
pub fn reads_columns(graph: &Graph, views: &Views, node: &Node, operand: usize) -> bool {
    let value = node.operands[operand];
    let (batch, axes) = contracted(node, operand);
    let has_rows = graph.ty(value).shape.rank() > batch + axes.len();
    has_rows && views.reach(value) == Reach::Same && contracts_last(graph, node, operand)
}

/// Whether a dot reads an operand as these matrices, one for each of its batch, along their rows or their columns.
fn reads_matrices(graph: &Graph, node: &Node, operand: usize, matrices: Matrices) -> bool {
    let (batch, axes) = contracted(node, operand);
    let sizes = graph.ty(node.operands[operand]).shape.sizes();
    let product = |sizes: &[usize]| sizes.iter().product::<usize>();
    let first = if contracts_last(graph, node, operand) { sizes.len() - axes.len() } else { batch };
    let cut = if first == batch { batch + axes.len() } else { first };
    let terms = if first == batch { matrices.rows } else { matrices.columns };
    axes.iter().copied().eq(first..first + axes.len())
        && product(&sizes[..batch]) == matrices.count
        && product(&sizes[first..first + axes.len()]) == terms
        && product(&sizes[batch..cut]) == matrices.rows
}

/// Groups that would become one.
struct Candidate {
    /// In the order in which they are joined.
    groups: Vec<usize>,
    domain: Vec<usize>,
}

/// Joins every rows group that stands between products with these, where it may be and is worth it.
pub fn join_all(graph: &Graph, drafts: &mut Drafts<'_>, decisions: &mut Vec<Decision>) {
    for at in 0..drafts.list.len() {
        if !drafts.list[at].alive || drafts.list[at].kind != GroupKind::Rows {
            continue;
        }
        let outer = drafts.list[at].outer;
        let mut search = Search::new(graph, drafts, at);
        let Some(ends) = search.walk() else { continue };
        let (verdict, why) = match search.candidate() {
            Ok(candidate) => {
                for &other in candidate.groups.iter().filter(|&&other| other != at) {
                    let domain = candidate.domain.clone();
                    drafts.join(at, other, Join { fusion: "attention", kind: GroupKind::Attention, outer, domain });
                }
                (Verdict::Done, "the matrix between them never is in memory".to_owned())
            }
            // Layers around a normalisation: nobody would expect it.
            Err(_) if contracted(graph.node(ends.0), 0).0 == 0 => continue,
            Err(why) => (Verdict::Refused, why),
        };
        let what =
            format!("{} with {}", super::greedy::described(graph, ends.1), super::greedy::described(graph, ends.0));
        decisions.push(Decision { verdict, kind: "attention", what, why, node: ends.1 });
    }
}

/// The neighbours of a rows group.
struct Search<'a, 'g> {
    graph: &'g Graph,
    drafts: &'a Drafts<'g>,
    rows: usize,
    full: usize,
    /// Groups of the matrix: the rows group, and what makes what it reads.
    inside: BTreeSet<usize>,
    scores: Vec<NodeId>,
    /// Dots that read the matrix, with the operand.
    readers: Vec<(NodeId, usize)>,
    /// Why a value as large as the matrix has to be stored.
    stored: Option<&'static str>,
}

impl<'a, 'g> Search<'a, 'g> {
    fn new(graph: &'g Graph, drafts: &'a Drafts<'g>, rows: usize) -> Self {
        let full = drafts.list[rows].domain.iter().product();
        let inside = BTreeSet::from([rows]);
        Self { graph, drafts, rows, full, inside, scores: Vec::new(), readers: Vec::new(), stored: None }
    }

    /// Finds what there is around the rows group. Gives a product on each side, if there is one.
    fn walk(&mut self) -> Option<(NodeId, NodeId)> {
        let mut pending = vec![self.rows];
        while let Some(at) = pending.pop() {
            let draft = &self.drafts.list[at];
            for &id in draft.nodes.iter().filter(|&&id| draft.anchor != Some(id)) {
                for &operand in &self.graph.node(id).operands {
                    let from = self.drafts.group_of(operand);
                    if !self.inside.contains(&from) && self.is_full(operand) && self.belongs(from) {
                        self.inside.insert(from);
                        pending.push(from);
                    }
                }
            }
        }
        self.scores = self.inside.iter().filter_map(|&at| self.drafts.list[at].anchor).collect();
        self.scores.sort_unstable();
        let nodes = self.inside.iter().flat_map(|&at| &self.drafts.list[at].nodes);
        let results = nodes.flat_map(|&id| &self.graph.node(id).results).copied();
        let full: Vec<ValueId> = results.filter(|&result| self.is_full(result)).collect();
        full.into_iter().for_each(|result| self.find_readers(result));
        self.readers.sort_unstable();
        Some((*self.scores.first()?, self.readers.first()?.0))
    }

    /// Whether a value, looked at through views, is as large as the matrix.
    fn is_full(&self, value: ValueId) -> bool {
        self.graph.ty(self.drafts.views.base(value)).shape.elements().size() == self.full
    }

    /// Whether a group makes what nobody outside needs: a product of that size, or elementwise work.
    fn belongs(&self, at: usize) -> bool {
        let draft = &self.drafts.list[at];
        let node = |id: NodeId| self.graph.node(id);
        match draft.kind {
            GroupKind::Anchor => draft.anchor.is_some_and(|id| matches!(node(id).op, Op::Dot { .. })),
            GroupKind::Map => {
                let groups: Vec<_> = self.inside.iter().chain([&at]).map(|&at| &self.drafts.list[at]).collect();
                !draft.nodes.iter().any(|&id| self.drafts.escapes(id, &groups))
            }
            GroupKind::Leaf | GroupKind::View | GroupKind::Copy | GroupKind::Reduce => false,
            GroupKind::Rows | GroupKind::Attention | GroupKind::Pooled | GroupKind::Loop => false,
        }
    }

    /// Notes the dots that read a value, through any views, and whether anything else does.
    fn find_readers(&mut self, value: ValueId) {
        let mut pending = vec![value];
        while let Some(at) = pending.pop() {
            if self.drafts.put_out[at.index()] {
                self.stored = Some("it is put out, so it is stored anyway");
            }
            for user in self.graph.users(self.graph.value(at).node) {
                let node = self.graph.node(user);
                if !node.operands.contains(&at) {
                    continue;
                }
                match self.drafts.of[user.index()] {
                    usize::MAX => pending.extend(&node.results),
                    group if self.inside.contains(&group) => {}
                    _ if matches!(node.op, Op::Dot { .. }) => {
                        let operands = node.operands.iter().enumerate().filter(|(_, operand)| **operand == at);
                        self.readers.extend(operands.map(|(operand, _)| (user, operand)));
                    }
                    _ => self.stored = Some("another kernel reads the matrix, so it is stored anyway"),
                }
            }
        }
    }

    /// What would be joined, or why it is not.
    fn candidate(&self) -> Result<Candidate, String> {
        self.worth().map_err(str::to_owned)?;
        let readers: BTreeSet<usize> = self.readers.iter().map(|(dot, _)| self.drafts.of[dot.index()]).collect();
        let groups: Vec<usize> = self.inside.iter().chain(&readers).copied().collect();
        self.fits(&readers).map_err(str::to_owned)?;
        let domain = self.domain().ok_or("their shapes differ")?;
        let nodes: usize = groups.iter().map(|&at| self.drafts.list[at].nodes.len()).sum();
        if nodes > super::merge::NODE_LIMIT {
            return Err("the kernel would be too large".to_owned());
        }
        if self.drafts.is_cyclic(&groups) {
            return Err("another kernel has to run between them".to_owned());
        }
        Ok(Candidate { groups, domain })
    }

    /// What shapes and places alone say against it.
    fn worth(&self) -> Result<(), &'static str> {
        if !self.drafts.options.attention {
            return Err("switched off");
        }
        if let Some(why) = self.stored {
            return Err(why);
        }
        let Some(matrices) = Matrices::of(self.graph, self.scores[0]) else { return Err("their shapes differ") };
        if self.scores.iter().any(|&dot| Matrices::of(self.graph, dot) != Some(matrices))
            || matrices.elements() != self.full
            || matrices.count * matrices.rows != self.drafts.list[self.rows].outer
        {
            return Err("the rows that are reduced are not those of the product");
        }
        if matrices.rows < LEAST_ROWS {
            return Err("few rows read their keys but once");
        }
        if matrices.columns < LEAST_COLUMNS {
            return Err("so short rows stay in a cache between kernels");
        }
        let weight = |&dot: &NodeId| {
            let right = self.drafts.views.base(self.graph.node(dot).operands[1]);
            matches!(self.graph.definition(right).op, Op::Param { .. } | Op::State { .. } | Op::Constant(_))
        };
        if self.scores.iter().any(weight) {
            return Err("the product is by a weight, which all rows share");
        }
        let along_rows = |&(dot, operand): &(NodeId, usize)| contracts_last(self.graph, self.graph.node(dot), operand);
        if matrices.count < LEAST_MATRICES && !self.readers.iter().all(along_rows) {
            return Err("sums along columns of a few matrices leave threads without work");
        }
        let reads = |&(dot, operand): &(NodeId, usize)| {
            let node = self.graph.node(dot);
            let is_plain = self.drafts.views.reach(node.operands[operand]) == Reach::Same;
            is_plain && reads_matrices(self.graph, node, operand, matrices)
        };
        if !self.readers.iter().all(reads) {
            return Err("a product reads the matrix in another order");
        }
        let dtype = self.graph.ty(self.graph.node(self.scores[0]).results[0]).dtype;
        let dots = self.scores.iter().copied().chain(self.readers.iter().map(|(dot, _)| *dot));
        let is_same = |&value: &ValueId| self.graph.ty(value).dtype == dtype;
        let has_same =
            |dot: NodeId| self.graph.node(dot).operands.iter().chain(&self.graph.node(dot).results).all(is_same);
        if !dtype.is_float() || !dots.into_iter().all(has_same) {
            return Err("they are products of different numbers");
        }
        Ok(())
    }

    /// Whether the groups read from one another only what a task has at hand.
    fn fits(&self, readers: &BTreeSet<usize>) -> Result<(), &'static str> {
        let elsewhere = "one reads the other's result at other points";
        let steps = |&a: &usize| self.inside.iter().any(|&b| a != b && self.drafts.reads_elsewhere(a, b));
        if self.inside.iter().any(steps) {
            return Err(elsewhere);
        }
        let (graph, drafts) = (self.graph, self.drafts);
        let groups_of = move |id: NodeId| graph.node(id).operands.iter().map(move |&value| drafts.group_of(value));
        for &at in &self.inside {
            if self.drafts.list[at].nodes.iter().any(|&id| groups_of(id).any(|from| readers.contains(&from))) {
                return Err("another kernel has to run between them");
            }
        }
        for &at in readers {
            for &id in &self.drafts.list[at].nodes {
                let own = groups_of(id).filter(|&from| self.inside.contains(&from)).count();
                let is_reader = self.readers.iter().any(|(dot, _)| *dot == id);
                let others = groups_of(id).any(|from| from != at && readers.contains(&from));
                if own != usize::from(is_reader) || others || self.drafts.list[at].anchor.is_none() {
                    return Err(elsewhere);
                }
            }
        }
        let is_scores = |&(dot, operand): &(NodeId, usize)| {
            let matrix = self.drafts.views.base(self.graph.node(dot).operands[operand]);
            self.scores.contains(&self.graph.value(matrix).node)
        };
        if self.readers.iter().any(is_scores) {
            return Err("nothing is computed between the products");
        }
        Ok(())
    }

    /// A refinement of the shapes of everything as large as the matrix.
    fn domain(&self) -> Option<Vec<usize>> {
        let matrices = Matrices::of(self.graph, self.scores[0])?;
        let mut domain = common_refinement(&[matrices.count * matrices.rows, matrices.columns], &[self.full])?;
        for &at in &self.inside {
            for &id in &self.drafts.list[at].nodes {
                let sizes = self.graph.ty(self.graph.node(id).results[0]).shape.sizes();
                if sizes.iter().product::<usize>() == self.full {
                    domain = common_refinement(&domain, &sizes)?;
                }
            }
        }
        common_refinement(&domain, &self.drafts.list[self.rows].domain)
    }
}
