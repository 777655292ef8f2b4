//! Groups while they grow: what may join, and that no cycle arises.
//!
//! Dependencies run between groups of values that are no views; views are looked through. Each group keeps the set of
//! groups that it depends on, over any number of steps, as bits. Joining `a` and `b` makes a cycle exactly when a third
//! group stands on a path between them.

use super::class::{Class, class, is_point_operand};
use super::layout::{Layout, common_refinement};
use super::trace::{Reach, Views};
use super::{FuseOptions, GroupKind};
use crate::recompute::Copies;
use nnc_graph::{ConvAttributes, Graph, NodeId, Op, OutputKind, ValueId};

/// The most nodes of one group: beyond it code grows faster than memory traffic shrinks.
pub const NODE_LIMIT: usize = 128;
/// The longest row that a task keeps in cache, in elements.
const ROW_LIMIT: usize = 1 << 16;
/// From so many elements on an optimiser's update is a pass of its own.
const UPDATE: usize = 1 << 10;
/// Below so many elements a reduction is one task, so even a single row may be one.
const SMALL: usize = 1 << 14;

/// A group that may still grow.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What its kernel does.
    pub kind: GroupKind,
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// The node an anchor group is built around.
    pub anchor: Option<NodeId>,
    /// As [`super::Group::domain`].
    pub domain: Vec<usize>,
    /// For reductions: number of results.
    pub outer: usize,
    /// The groups that it depends on, over any number of steps.
    depends: Vec<u64>,
    /// How often other groups read what it computes.
    readers: usize,
    /// The first of its nodes that is no copy.
    first: Option<NodeId>,
    /// The last of the nodes that its copies are copies of.
    copied: Option<NodeId>,
    /// Whether it is still a group, not part of another.
    pub alive: bool,
}

/// All groups of a graph in the making.
#[derive(Debug)]
pub struct Drafts<'g> {
    graph: &'g Graph,
    /// What is allowed.
    pub options: FuseOptions,
    /// Nodes that are computed again.
    copies: &'g Copies,
    /// What each value is a view of.
    pub views: Views,
    /// Whether each value is put out.
    pub put_out: Vec<bool>,
    /// Whether each node is part of the arithmetic of an optimiser's update.
    feeds_update: Vec<bool>,
    /// The groups; joined ones are left behind, not alive.
    pub list: Vec<Draft>,
    /// The group of each node; `usize::MAX` for views.
    pub of: Vec<usize>,
}

/// The kind of fusion and the joined group's kind and domain.
pub struct Join {
    /// The word for the log.
    pub fusion: &'static str,
    /// As [`Draft::kind`].
    pub kind: GroupKind,
    /// As [`Draft::domain`].
    pub domain: Vec<usize>,
    /// As [`Draft::outer`].
    pub outer: usize,
}

/// Why two groups do not join; `Silent` when nobody would expect it.
pub enum Refusal {
    /// Not worth a line in the log.
    Silent,
    /// The kind of fusion and the reason.
    Because(&'static str, String),
}

/// Whether a group has a node that stands before what the other has a copy of, made so that it need not be kept.
pub fn is_before(a: &Draft, b: &Draft) -> bool {
    matches!((a.first, b.copied), (Some(first), Some(copied)) if first <= copied)
}

fn because<T>(fusion: &'static str, why: &str) -> Result<T, Refusal> {
    Err(Refusal::Because(fusion, why.to_owned()))
}

impl<'g> Drafts<'g> {
    /// No group yet.
    pub fn new(graph: &'g Graph, options: FuseOptions, copies: &'g Copies) -> Self {
        let mut put_out = vec![false; graph.value_count()];
        graph.outputs().iter().for_each(|output| put_out[output.value.index()] = true);
        let of = vec![usize::MAX; graph.nodes().len()];
        let feeds_update = feeds_update(graph);
        Self { graph, options, copies, views: Views::new(graph), put_out, feeds_update, list: Vec::new(), of }
    }

    /// The group that computes what `value` is a view of.
    pub fn group_of(&self, value: ValueId) -> usize {
        self.of[self.graph.value(self.views.base(value)).node.index()]
    }

    /// Opens a group for one node.
    pub fn open(&mut self, node: NodeId) -> usize {
        let at = self.list.len();
        let mut depends = Vec::new();
        for &operand in &self.graph.node(node).operands {
            let producer = self.group_of(operand);
            set(&mut depends, producer);
            union(&mut depends, &self.list[producer].depends);
            self.list[producer].readers += 1;
        }
        let (kind, domain, outer) = self.describe(node);
        let anchor = (kind == GroupKind::Anchor).then_some(node);
        let copied = self.copies.get(&node).copied();
        let first = copied.is_none().then_some(node);
        let nodes = vec![node];
        self.list.push(Draft { kind, nodes, anchor, domain, outer, depends, readers: 0, first, copied, alive: true });
        self.of[node.index()] = at;
        at
    }

    fn describe(&self, id: NodeId) -> (GroupKind, Vec<usize>, usize) {
        let node = self.graph.node(id);
        let sizes = |value: ValueId| self.graph.ty(value).shape.sizes();
        let result = sizes(node.results[0]);
        let outer = result.iter().product();
        match class(&node.op) {
            Class::Leaf => (GroupKind::Leaf, result, outer),
            Class::View => (GroupKind::Copy, result, outer),
            Class::Pointwise | Class::Indexed => (GroupKind::Map, squeezed(&result), outer),
            Class::Anchor => (GroupKind::Anchor, anchor_domain(self.graph, id), outer),
            Class::Loop => (GroupKind::Loop, Vec::new(), 1),
            Class::Reduce => {
                let full = sizes(node.operands[0]);
                let kind = if is_rows(&node.op, &full) { GroupKind::Rows } else { GroupKind::Reduce };
                let domain = if kind == GroupKind::Rows { row_domain(&full, outer) } else { full };
                (kind, domain, outer)
            }
        }
    }

    /// Whether groups `a` and `b` may become one.
    pub fn judge(&self, a: usize, b: usize) -> Result<Join, Refusal> {
        let (first, second) = (&self.list[a], &self.list[b]);
        if [first.kind, second.kind]
            .iter()
            .any(|kind| matches!(kind, GroupKind::Leaf | GroupKind::Copy | GroupKind::Loop | GroupKind::Attention))
        {
            return Err(Refusal::Silent);
        }
        if is_before(first, second) || is_before(second, first) {
            return Err(Refusal::Silent);
        }
        let join = self.compatible(first, second)?;
        if first.nodes.len() + second.nodes.len() > NODE_LIMIT {
            return because(join.fusion, "the kernel would be too large");
        }
        if self.reads_elsewhere(a, b) || self.reads_elsewhere(b, a) {
            return because(join.fusion, "one reads the other's result at other points");
        }
        if self.between(a, b) || self.between(b, a) {
            return because(join.fusion, "another kernel has to run between them");
        }
        Ok(join)
    }

    fn compatible(&self, a: &Draft, b: &Draft) -> Result<Join, Refusal> {
        use GroupKind::{Anchor, Attention, Copy, Leaf, Loop, Map, Pooled, Reduce, Rows, View};
        match (a.kind, b.kind) {
            (Map, Map) => self.map_and_map(a, b),
            (Map, Rows | Reduce) => self.map_and_reduction(a, b),
            (Rows | Reduce, Map) => self.map_and_reduction(b, a),
            (Rows, Rows) => self.rows_and_rows(a, b),
            (Map, Anchor) => self.map_and_anchor(a, b),
            (Anchor, Map) => self.map_and_anchor(b, a),
            (Reduce | Rows, Reduce | Rows) => because("reduction", "they reduce over different axes"),
            (Anchor, Anchor | Reduce | Rows) | (Reduce | Rows, Anchor) => Err(Refusal::Silent),
            (Leaf | View | Copy | Loop | Attention | Pooled, _)
            | (_, Leaf | View | Copy | Loop | Attention | Pooled) => Err(Refusal::Silent),
        }
    }

    fn map_and_map(&self, a: &Draft, b: &Draft) -> Result<Join, Refusal> {
        if !self.options.elementwise {
            return because("elementwise", "switched off");
        }
        match common_refinement(&a.domain, &b.domain) {
            Some(domain) => Ok(Join { fusion: "elementwise", kind: GroupKind::Map, outer: a.outer, domain }),
            None => because("elementwise", "their shapes differ"),
        }
    }

    /// `map` into the reduction `other`, before, between or after it.
    fn map_and_reduction(&self, map: &Draft, other: &Draft) -> Result<Join, Refusal> {
        if !self.options.reductions {
            return because("reduction", "switched off");
        }
        let (points, full) = (elements(&map.domain), elements(&other.domain));
        if full == other.outer || (points != full && points != other.outer) {
            return because("reduction", "their shapes differ");
        }
        let keep = |domain| Ok(Join { fusion: "reduction", kind: other.kind, outer: other.outer, domain });
        if points == other.outer {
            let outer_dims = outer_domain(self.graph, other);
            return match common_refinement(&map.domain, &outer_dims) {
                Some(_) if self.has_indexed(map) => because("reduction", "it reads from other places"),
                Some(domain) if domain == outer_dims => keep(other.domain.clone()),
                _ => because("reduction", "their shapes differ"),
            };
        }
        let Some(domain) = common_refinement(&map.domain, &other.domain) else {
            return because("reduction", "their shapes differ");
        };
        if other.kind == GroupKind::Rows {
            return keep(domain);
        }
        if map.nodes.iter().any(|&node| self.depends_on(node, other)) {
            return because("reduction", "it needs the finished sums");
        }
        if map.nodes.iter().any(|&node| self.escapes(node, &[map, other])) {
            return because("reduction", "its result is stored anyway");
        }
        if domain != squeezed(&other.domain) {
            return because("reduction", "their shapes differ");
        }
        keep(other.domain.clone())
    }

    fn has_indexed(&self, draft: &Draft) -> bool {
        draft.nodes.iter().any(|&node| class(&self.graph.node(node).op) == Class::Indexed)
    }

    fn depends_on(&self, node: NodeId, group: &Draft) -> bool {
        let operands = &self.graph.node(node).operands;
        operands.iter().any(|&operand| group.nodes.contains(&self.graph.value(self.views.base(operand)).node))
    }

    /// Whether a result of `node` is read, through any views, by nodes outside of `groups`, or put out.
    pub fn escapes(&self, node: NodeId, groups: &[&Draft]) -> bool {
        let mut pending: Vec<NodeId> = vec![node];
        while let Some(at) = pending.pop() {
            let results = &self.graph.node(at).results;
            if results.iter().any(|result| self.put_out[result.index()]) {
                return true;
            }
            for user in self.graph.users(at) {
                if self.of[user.index()] == usize::MAX && class(&self.graph.node(user).op) == Class::View {
                    pending.push(user);
                } else if !groups.iter().any(|group| group.nodes.contains(&user)) {
                    return true;
                }
            }
        }
        false
    }

    fn rows_and_rows(&self, a: &Draft, b: &Draft) -> Result<Join, Refusal> {
        if !self.options.rows {
            return because("rows", "switched off");
        }
        match common_refinement(&a.domain, &b.domain) {
            Some(domain) if a.outer == b.outer => {
                Ok(Join { fusion: "rows", kind: GroupKind::Rows, outer: a.outer, domain })
            }
            _ => because("rows", "their rows differ"),
        }
    }

    fn map_and_anchor(&self, map: &Draft, anchor: &Draft) -> Result<Join, Refusal> {
        let Some(node) = anchor.anchor else { return Err(Refusal::Silent) };
        if !takes_epilogue(&self.graph.node(node).op) {
            return Err(Refusal::Silent);
        }
        if !self.options.epilogues {
            return because("epilogue", "switched off");
        }
        if elements(&map.domain) != elements(&anchor.domain) {
            return because("epilogue", "their shapes differ");
        }
        if !map.nodes.iter().all(|&node| self.fits_epilogue(node, &anchor.domain)) {
            return because("epilogue", "an operand does not lie along the result's rows");
        }
        let adds_rows = matches!(self.graph.node(node).op, Op::ScatterAdd { .. });
        if !adds_rows && map.nodes.iter().any(|node| self.feeds_update[node.index()]) {
            return because("epilogue", "an update reads and writes whole tensors, which stream faster by themselves");
        }
        let domain = anchor.domain.clone();
        Ok(Join { fusion: "epilogue", kind: GroupKind::Anchor, outer: anchor.outer, domain })
    }

    /// Whether all that `node` reads can be walked along with `domain`.
    fn fits_epilogue(&self, node: NodeId, domain: &[usize]) -> bool {
        let node = self.graph.node(node);
        let along = |layout: &Layout| layout.reshape(domain).is_some();
        match &node.op {
            Op::Random { shape, .. } => {
                let counter = self.graph.ty(node.operands[1]).shape.sizes();
                let dims = self.graph.ty(node.results[0]).shape.sizes();
                let axes: Vec<usize> = (0..counter.len()).collect();
                let position = Layout::contiguous(&shape.sizes());
                let shape_axes: Vec<usize> = (counter.len()..dims.len()).collect();
                along(&self.views.layout(node.operands[1]).broadcast(&dims, &axes))
                    && along(&position.broadcast(&dims, &shape_axes))
            }
            op if is_point_operand(op) => node.operands.iter().all(|&value| along(self.views.layout(value))),
            _ => false,
        }
    }

    /// Whether a node of `reader` reads a value of `source` at other points than its own.
    pub fn reads_elsewhere(&self, reader: usize, source: usize) -> bool {
        self.list[reader].nodes.iter().any(|&id| {
            let node = self.graph.node(id);
            node.operands.iter().any(|&operand| self.group_of(operand) == source && !self.in_step(&node.op, operand))
        })
    }

    fn in_step(&self, op: &Op, operand: ValueId) -> bool {
        match (class(op), self.views.reach(operand)) {
            (Class::Pointwise | Class::Reduce, Reach::Same) | (Class::Pointwise, Reach::Repeated(_)) => true,
            (Class::Pointwise | Class::Reduce, _) => false,
            (Class::Leaf | Class::View | Class::Indexed | Class::Anchor | Class::Loop, _) => false,
        }
    }

    /// Whether a third group depends on `a` and is needed by `b`.
    fn between(&self, a: usize, b: usize) -> bool {
        if self.list[a].readers == self.reads(b, a) {
            return false;
        }
        let through = |middle: usize| middle != a && middle != b && get(&self.list[middle].depends, a);
        bits(&self.list[b].depends).any(|middle| self.list[middle].alive && through(middle))
    }

    /// Whether a group that is none of these depends on one of them and is needed by another.
    pub fn is_cyclic(&self, groups: &[usize]) -> bool {
        let is_between = |middle: usize| {
            let others = || groups.iter().filter(|&&group| group != middle);
            others().any(|&group| get(&self.list[group].depends, middle))
                && others().any(|&group| get(&self.list[middle].depends, group))
        };
        (0..self.list.len()).any(|middle| self.list[middle].alive && !groups.contains(&middle) && is_between(middle))
    }

    /// Makes `b` part of `a`.
    pub fn join(&mut self, a: usize, b: usize, join: Join) {
        let inside = self.reads(a, b) + self.reads(b, a);
        let gone = std::mem::take(&mut self.list[b].nodes);
        self.list[b].alive = false;
        for node in &gone {
            self.of[node.index()] = a;
        }
        let depends = std::mem::take(&mut self.list[b].depends);
        let Draft { anchor, first, copied, readers, .. } = self.list[b];
        let draft = &mut self.list[a];
        draft.readers = draft.readers + readers - inside;
        draft.nodes.extend(gone);
        draft.nodes.sort_unstable();
        draft.anchor = draft.anchor.or(anchor);
        draft.first = draft.first.into_iter().chain(first).min();
        draft.copied = draft.copied.max(copied);
        (draft.kind, draft.domain, draft.outer) = (join.kind, join.domain, join.outer);
        union(&mut draft.depends, &depends);
        unset(&mut draft.depends, a);
        unset(&mut draft.depends, b);
        // What nobody reads yet nobody depends on, as most groups when a node joins them.
        if draft.readers == 0 {
            return;
        }
        let depends = draft.depends.clone();
        for other in self.list.iter_mut().filter(|other| other.alive) {
            if get(&other.depends, b) {
                unset(&mut other.depends, b);
                set(&mut other.depends, a);
            }
            if get(&other.depends, a) {
                union(&mut other.depends, &depends);
            }
        }
    }

    /// How often group `reader` reads what `source` computes.
    fn reads(&self, reader: usize, source: usize) -> usize {
        let operands = self.list[reader].nodes.iter().flat_map(|&id| &self.graph.node(id).operands);
        operands.filter(|&&operand| self.group_of(operand) == source).count()
    }

    /// The groups that group `at` depends on, over any number of steps.
    pub fn dependencies(&self, at: usize) -> impl Iterator<Item = usize> {
        bits(&self.list[at].depends)
    }
}

/// For each node whether it is elementwise and leads, by elementwise nodes of one large size, to a parameter's new
/// value.
fn feeds_update(graph: &Graph) -> Vec<bool> {
    let size = |id: NodeId| elements(&graph.ty(graph.node(id).results[0]).shape.sizes());
    let mut feeds = vec![false; graph.node_count()];
    for output in graph.outputs() {
        if let OutputKind::Update(leaf) = output.kind
            && matches!(graph.definition(leaf).op, Op::Param { .. })
        {
            feeds[graph.value(output.value).node.index()] = true;
        }
    }
    for (id, node) in graph.nodes().rev() {
        let leads = |user: NodeId| feeds[user.index()] && size(user) == size(id);
        let is_update = feeds[id.index()] || graph.users(id).into_iter().any(leads);
        feeds[id.index()] = is_update && class(&node.op) == Class::Pointwise && size(id) >= UPDATE;
    }
    feeds
}

fn takes_epilogue(op: &Op) -> bool {
    let multiplies = matches!(op, Op::Dot { .. } | Op::Conv(_) | Op::ConvInputGrad { .. } | Op::ConvWeightGrad { .. });
    multiplies
        || matches!(op, Op::ConvLast(_) | Op::ConvInputGradLast { .. } | Op::DotStored(_) | Op::ScatterAdd { .. })
        || matches!(op, Op::Window { .. } | Op::WindowGrad { .. } | Op::WindowPick(_))
}

/// The axes along which an anchor's kernel walks its result: batch, rows and columns of a dot; image, channel and place
/// of a convolution, of single channels with lines apart; what is before the batch's end, before the rows, rows and
/// columns of a scatter-add; every axis of the others.
pub fn anchor_domain(graph: &Graph, id: NodeId) -> Vec<usize> {
    let node = graph.node(id);
    let sizes = graph.ty(node.results[0]).shape.sizes();
    match &node.op {
        Op::Dot { batch, a_axes, .. } => {
            let rows_end = graph.ty(node.operands[0]).shape.rank() - a_axes.len();
            [&sizes[..*batch], &[elements(&sizes[*batch..rows_end]), elements(&sizes[rows_end..])]].concat()
        }
        Op::DotStored(_) => {
            let rows_end = sizes.len() - 1;
            vec![elements(&sizes[..rows_end]), sizes[rows_end]]
        }
        Op::Conv(_) | Op::ConvInputGrad { .. } => vec![sizes[0], sizes[1], elements(&sizes[2..])],
        Op::ConvLast(at) | Op::ConvInputGradLast { attributes: at, .. }
            if is_single(at, &graph.ty(node.operands[1]).shape.sizes()) =>
        {
            let places = &sizes[1..sizes.len() - 1];
            let (lines, line) = places.split_at(places.len() - 1);
            vec![sizes[0], elements(lines), line[0], sizes[sizes.len() - 1]]
        }
        Op::ConvLast(_) | Op::ConvInputGradLast { .. } => {
            vec![sizes[0], elements(&sizes[1..sizes.len() - 1]), sizes[sizes.len() - 1]]
        }
        Op::ConvWeightGrad { .. } => vec![sizes[0], elements(&sizes[1..])],
        Op::ScatterAdd { axis, batch } => {
            let (outer, before, inner) = (&sizes[..*batch], &sizes[*batch..*axis], &sizes[*axis + 1..]);
            vec![elements(outer), elements(before), sizes[*axis], elements(inner)]
        }
        _ => sizes,
    }
}

/// Whether each output channel of a convolution is made of a channel of its own.
fn is_single(at: &ConvAttributes, kernel: &[usize]) -> bool {
    kernel[1] == 1 && kernel[0] > 1 && at.groups.is(kernel[0] as i64)
}

/// Whether the op reduces trailing axes in rows that a task can own.
fn is_rows(op: &Op, full: &[usize]) -> bool {
    let Op::Reduce { axes, .. } = op else { return false };
    let first = full.len() - axes.len();
    let trailing = !axes.is_empty() && axes.iter().copied().eq(first..full.len());
    let (rows, row) = (elements(&full[..first]), elements(&full[first..]));
    trailing && row > 1 && row <= ROW_LIMIT && (rows >= 4 || rows * row <= SMALL)
}

/// Dims without axes of size 1, cut between rows and within them.
fn row_domain(full: &[usize], outer: usize) -> Vec<usize> {
    let split = [outer, elements(full) / outer];
    common_refinement(full, &split).unwrap_or_else(|| split.to_vec())
}

fn squeezed(dims: &[usize]) -> Vec<usize> {
    dims.iter().copied().filter(|&size| size != 1).collect()
}

/// The dims over which a reduction's results are walked.
fn outer_domain(graph: &Graph, draft: &Draft) -> Vec<usize> {
    if draft.kind == GroupKind::Rows {
        return rows_of(&draft.domain, draft.outer).to_vec();
    }
    let reduction = draft.nodes.iter().map(|&node| graph.node(node)).find(|node| class(&node.op) == Class::Reduce);
    reduction.map(|node| squeezed(&graph.ty(node.results[0]).shape.sizes())).unwrap_or_default()
}

/// The part of a rows group's domain that counts `rows` rows.
pub fn rows_of(domain: &[usize], rows: usize) -> &[usize] {
    let mut product = 1;
    let end = domain.iter().position(|&size| {
        let before = product;
        product *= size;
        before == rows
    });
    &domain[..end.unwrap_or(domain.len())]
}

fn elements(dims: &[usize]) -> usize {
    dims.iter().product()
}

fn set(bits: &mut Vec<u64>, at: usize) {
    if bits.len() <= at / 64 {
        bits.resize(at / 64 + 1, 0);
    }
    bits[at / 64] |= 1 << (at % 64);
}

fn unset(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word &= !(1 << (at % 64));
    }
}

fn get(bits: &[u64], at: usize) -> bool {
    bits.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

fn union(into: &mut Vec<u64>, from: &[u64]) {
    if into.len() < from.len() {
        into.resize(from.len(), 0);
    }
    for (word, more) in into.iter_mut().zip(from) {
        *word |= more;
    }
}

fn bits(words: &[u64]) -> impl Iterator<Item = usize> {
    let each =
        |(at, &word): (usize, &u64)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit);
    words.iter().enumerate().flat_map(each)
}
