//! Reductions over trailing axes with elementwise work before, between and after: a task owns whole rows.
//!
//! The row is walked in passes. Pass 0 computes the reductions that need nothing of others; what they give makes the
//! next pass possible, and so on; outputs of full size are written in the last. A costly member that several passes
//! need (the exponential of a softmax) is kept in scratch memory by the first of them.
//!
//! The row of an attention group comes out of products and goes into others: [`Lines`] says where it lies.

use super::accumulate::{Accumulators, Combine, Parts};
use super::evaluate::{Known, Point};
use super::frame::{Axes, Frame};
use super::loops::{Split, coordinates, nest, span, widths};
use super::map::TASK_WORK;
use super::memory::{KernelDraft, elem};
use super::{LowerError, Lowering, cost};
use crate::ir::{Builder, Memory, Type, Value};
use nnc_graph::{Graph, NodeId, Op, ReduceOp, ValueId};
use nnc_opt::fuse::{Class, Group, base, class, rows_of};
use std::collections::{BTreeMap, BTreeSet};

/// From this cost on a member is kept rather than computed again.
const KEEP_COST: usize = 8;
/// The most bytes of a row's members that are kept.
const KEEP_BYTES: usize = 1 << 18;

/// Lowers a rows group.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let mut draft = KernelDraft::new("rows");
    let passes = Passes::new(graph, &group.nodes, &group.outputs);
    let outer = rows_of(&group.domain, passes.rows).len();
    let classes = (0..group.domain.len()).map(|axis| u8::from(axis >= outer)).collect();
    let axes = Axes { dims: group.domain.clone(), classes };
    let members: BTreeSet<NodeId> = group.nodes.iter().copied().collect();
    let lanes = lowering.lanes(&members);
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, axes)?;
    let row: usize = group.domain[outer..].iter().product();
    let kept = passes.keep(graph, &mut draft, row);
    let work = cost::of_nodes(graph, &group.nodes) + 1;
    let outer = frame.axes.classes.iter().filter(|&&class| class == 0).count();
    let lines = Lines::default();
    let body =
        Body { frame: &frame, passes: &passes, outputs: &group.outputs, lines: &lines, kept: &kept, lanes, outer };
    let split = Split::even(passes.rows, TASK_WORK / (row * work), 1);
    draft.builder.phase(split.tasks(), |b, task| body.task(b, task, split));
    lowering.launch_counted(draft, &frame, passes.rows * row * work, cost::in_all(graph, &group.nodes))
}

/// Values of full size that lie in scratch memory, a line for each row: where row 0 begins is told for each row.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// What is there before; no members.
    pub read: Vec<(ValueId, Memory)>,
    /// Members that are left there, also where something was read.
    pub written: Vec<(ValueId, Memory)>,
}

/// A row whose elements from some place on are all equal, as a mask hides them: they are not walked.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    /// Members of full size, with what they are in the hidden elements.
    pub hidden: &'a [(ValueId, ValueId)],
    /// What no product exceeds that would lie in a line.
    pub bound: f64,
    /// The place, a multiple of 16 or the end of the row.
    pub end: Value,
    /// Whether it is before the end of the row.
    pub is_short: Value,
}

/// When each member is computed.
pub struct Passes {
    rows: usize,
    /// For members of full size the first pass in which they can be computed; for members of one element per row the
    /// first pass before which they can.
    at: BTreeMap<ValueId, usize>,
    full: BTreeSet<ValueId>,
    /// The reductions of each pass; the last pass also writes the outputs.
    reductions: Vec<Vec<NodeId>>,
    /// Members of full size that each pass needs.
    needed: Vec<BTreeSet<ValueId>>,
}

impl Passes {
    /// Of members in program order, some of which are needed when all is done.
    pub fn new(graph: &Graph, nodes: &[NodeId], outputs: &[ValueId]) -> Self {
        let is_reduction = |id: &NodeId| matches!(graph.node(*id).op, Op::Reduce { .. });
        let rows = nodes
            .iter()
            .find(|id| is_reduction(id))
            .map_or(1, |&id| graph.ty(graph.node(id).results[0]).shape.elements().size());
        let mut passes =
            Self { rows, at: BTreeMap::new(), full: BTreeSet::new(), reductions: Vec::new(), needed: Vec::new() };
        for &id in nodes {
            let node = graph.node(id);
            let of_operands = node.operands.iter().filter_map(|&operand| passes.at.get(&base(graph, operand))).max();
            let pass = of_operands.copied().unwrap_or(0);
            let result = node.results[0];
            if is_reduction(&id) {
                passes.reductions.resize(passes.reductions.len().max(pass + 1), Vec::new());
                passes.reductions[pass].push(id);
                passes.at.insert(result, pass + 1);
            } else {
                passes.at.insert(result, pass);
                if graph.ty(result).shape.elements().size() != rows {
                    passes.full.insert(result);
                }
            }
        }
        passes.find_needed(graph, outputs);
        passes
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    fn find_needed(&mut self, graph: &Graph, outputs: &[ValueId]) {
        let full_outputs: Vec<ValueId> = outputs.iter().copied().filter(|value| self.full.contains(value)).collect();
        let latest = full_outputs.iter().map(|value| self.at[value] + 1).max().unwrap_or(0);
        self.reductions.resize(self.reductions.len().max(latest), Vec::new());
        let last = self.reductions.len() - 1;
        for (pass, reductions) in self.reductions.iter().enumerate() {
            let mut pending: Vec<ValueId> =
                reductions.iter().map(|&id| base(graph, graph.node(id).operands[0])).collect();
            if pass == last {
                pending.extend(&full_outputs);
            }
            let mut needed = BTreeSet::new();
            while let Some(value) = pending.pop() {
                if self.full.contains(&value)
                    && needed.insert(value)
                    && class(&graph.definition(value).op) == Class::Pointwise
                {
                    pending.extend(graph.definition(value).operands.iter().map(|&operand| base(graph, operand)));
                }
            }
            self.needed.push(needed);
        }
    }

    /// Memory for what one pass keeps for the next ones, `row` elements each.
    pub fn keep(&self, graph: &Graph, draft: &mut KernelDraft, row: usize) -> BTreeMap<ValueId, Memory> {
        let keep = |value| (value, draft.builder.scratch(elem(graph.ty(value).dtype), row));
        self.worth_keeping(graph, row).into_iter().map(keep).collect()
    }

    fn worth_keeping(&self, graph: &Graph, row: usize) -> Vec<ValueId> {
        let mut room = KEEP_BYTES;
        let mut kept = Vec::new();
        for &value in &self.full {
            let uses = self.needed.iter().filter(|needed| needed.contains(&value)).count();
            let bytes = row * graph.ty(value).dtype.size();
            if uses > 1 && cost::of(&graph.definition(value).op) >= KEEP_COST && bytes <= room {
                room -= bytes;
                kept.push(value);
            }
        }
        kept
    }
}

/// A row as it is walked.
struct Extent<'a> {
    /// Its first point.
    first: Point,
    /// Where its lines begin.
    line: Value,
    cut: Option<Cut<'a>>,
}

/// What is done for a row.
pub struct Body<'a, 'g> {
    /// Its members, along the domain.
    pub frame: &'a Frame<'g>,
    /// When they are computed.
    pub passes: &'a Passes,
    /// What is stored.
    pub outputs: &'a [ValueId],
    /// What lies in scratch memory.
    pub lines: &'a Lines,
    /// What one pass keeps for the next ones.
    pub kept: &'a BTreeMap<ValueId, Memory>,
    /// Lanes of a vector.
    pub lanes: u8,
    /// Number of axes that count rows.
    pub outer: usize,
}

impl Body<'_, '_> {
    fn task(&self, b: &mut Builder, task: Value, split: Split) {
        let known = self.known(b);
        let (start, end) = split.bounds(b, task);
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, row, _| {
            let zero = b.index(0);
            self.row(b, row, &known, (zero, None));
            vec![]
        });
    }

    /// The first point of all.
    fn origin(&self, b: &mut Builder) -> Point {
        let zero = b.index(0);
        Point { coordinates: vec![zero; self.frame.axes.dims.len()], vector: 0, lanes: 1 }
    }

    /// What is the same in all rows.
    pub fn known(&self, b: &mut Builder) -> Known {
        let mut known = Known::default();
        let origin = self.origin(b);
        self.frame.hoist(b, &origin, &mut known, |_| true);
        known
    }

    /// All of the row with that number; its lines begin at `line`. Of a row that is cut it gives whether the elements
    /// that were left out may count: what is summed or left in lines is not 0 there.
    pub fn row(&self, b: &mut Builder, row: Value, known: &Known, (line, cut): (Value, Option<Cut<'_>>)) -> Value {
        let mut first = self.origin(b);
        let outer = coordinates(b, row, &self.frame.axes.dims[..self.outer]);
        first.coordinates[..self.outer].copy_from_slice(&outer);
        let extent = Extent { first, line, cut };
        self.passes(b, &extent, known.clone())
    }

    fn passes(&self, b: &mut Builder, extent: &Extent<'_>, mut known: Known) -> Value {
        let first = &extent.first;
        let mut doubt = b.bool(false, 1);
        self.frame.hoist(b, first, &mut known, |axis| axis >= self.outer);
        for pass in 0..self.passes.reductions.len() {
            self.row_members(b, first, &mut known, pass);
            let doubtful = self.pass(b, extent, &mut known, pass);
            doubt = b.or(doubt, doubtful);
        }
        self.row_members(b, first, &mut known, self.passes.reductions.len());
        for &output in self.outputs.iter().filter(|&output| !self.passes.full.contains(output)) {
            let value = self.frame.evaluate(b, first, &mut known, output);
            self.frame.write(b, first, output, value);
        }
        let Some(cut) = extent.cut else { return doubt };
        let mut hidden = self.hidden(b, extent, &known);
        for &(value, _) in &self.lines.written {
            let value = self.frame.evaluate(b, first, &mut hidden, value);
            let zero = b.zero(b.type_of(value));
            let counts = b.ne(value, zero);
            doubt = b.or(doubt, counts);
        }
        b.and(doubt, cut.is_short)
    }

    /// What is known in the hidden elements of a row, of which nothing is read but what is the same along it.
    fn hidden(&self, b: &mut Builder, extent: &Extent<'_>, known: &Known) -> Known {
        let mut hidden = known.clone();
        let Some(cut) = extent.cut else { return hidden };
        for &(value, memory) in &self.lines.read {
            let bound = b.number(Type::vector(memory.elem, 1), cut.bound);
            hidden.bind(value, bound, 1);
        }
        for &(value, instead) in cut.hidden {
            let instead = self.frame.evaluate(b, &extent.first, &mut hidden, instead);
            hidden.bind(value, instead, 1);
        }
        hidden
    }

    /// Members of one element for the row that can be computed before `pass`.
    fn row_members(&self, b: &mut Builder, first: &Point, known: &mut Known, pass: usize) {
        for (&value, &at) in &self.passes.at {
            if at == pass && !self.passes.full.contains(&value) {
                self.frame.evaluate(b, first, known, value);
            }
        }
    }

    /// One pass. Gives whether elements that are left out may count.
    fn pass(&self, b: &mut Builder, extent: &Extent<'_>, known: &mut Known, pass: usize) -> Value {
        let reductions = &self.passes.reductions[pass];
        let dims = &self.frame.axes.dims;
        let last = dims.len() - 1;
        let graph = self.frame.graph;
        let vectorises = self.frame.vectorises(last);
        let accumulators = Accumulators {
            reductions: reductions.iter().map(|&id| combine(graph, id)).collect(),
            parts: Parts::new(dims[last], vectorises),
            lanes: self.lanes,
        };
        let initial = accumulators.initial(b);
        let inner_known = known.clone();
        let sums = nest(b, &dims[self.outer..last], initial, &mut |b, middle, carried| {
            let mut point = extent.first.clone();
            point.coordinates[self.outer..last].copy_from_slice(middle);
            point.vector = last;
            let at_point =
                |b: &mut Builder, at, lanes| self.at_point(b, &point, &inner_known, (pass, extent.line), (at, lanes));
            let zero = b.index(0);
            match extent.cut {
                _ if reductions.is_empty() => {
                    let end = extent.cut.map_or_else(|| b.index(dims[last] as i64), |cut| cut.end);
                    let widths = if vectorises { widths(dims[last], self.lanes) } else { vec![1] };
                    span(b, (zero, end), &widths, |b, at, lanes| drop(at_point(b, at, lanes)));
                    carried
                }
                Some(cut) => accumulators.walk_range(b, carried, (zero, cut.end), at_point),
                None => accumulators.walk(b, carried, at_point),
            }
        });
        let results = if reductions.is_empty() { vec![] } else { accumulators.finish(b, &sums) };
        let mut doubt = b.bool(false, 1);
        let mut hidden = self.hidden(b, extent, known);
        for (&id, mut result) in reductions.iter().zip(results) {
            let (node, combine) = (graph.node(id), combine(graph, id));
            if let Some(cut) = extent.cut {
                let more = self.frame.evaluate(b, &extent.first, &mut hidden, node.operands[0]);
                let more = combine.enter(b, more);
                let (with_all, doubtful) = combine.with_equal(b, result, more, cut.is_short);
                (result, doubt) = (with_all, b.or(doubt, doubtful));
            }
            let to = elem(graph.ty(node.results[0]).dtype);
            let result = combine.leave(b, result, to);
            known.bind(node.results[0], result, 1);
        }
        doubt
    }

    /// What a pass does at a position of the row: keeps, writes, and gives what its reductions take in.
    fn at_point(
        &self,
        b: &mut Builder,
        row: &Point,
        known: &Known,
        (pass, line): (usize, Value),
        (at, lanes): (Value, u8),
    ) -> Vec<Value> {
        let mut point = Point { lanes, ..row.clone() };
        let last = point.coordinates.len() - 1;
        point.coordinates[last] = at;
        let mut known = known.clone();
        for &(value, memory) in &self.lines.read {
            let place = self.place_in_line(b, &point, line);
            let loaded = b.load(memory, place, lanes);
            known.bind(value, loaded, lanes);
        }
        let needed = &self.passes.needed[pass];
        let first_pass = |value: &ValueId| self.passes.needed.iter().position(|needed| needed.contains(value));
        for (&value, &memory) in self.kept.iter().filter(|(value, _)| needed.contains(value)) {
            let place = self.place_in_row(b, &point);
            if first_pass(&value) == Some(pass) {
                let computed = self.frame.evaluate(b, &point, &mut known, value);
                b.store(memory, place, computed);
            } else {
                let loaded = b.load(memory, place, lanes);
                known.bind(value, loaded, lanes);
            }
        }
        let operands = self.passes.reductions[pass].iter().map(|&id| self.frame.graph.node(id).operands[0]);
        let taken = operands.map(|operand| self.frame.evaluate(b, &point, &mut known, operand)).collect();
        if pass + 1 == self.passes.reductions.len() {
            // Written last: an output may take the place of what was just read.
            let left: Vec<Value> = self
                .lines
                .written
                .iter()
                .map(|(value, _)| self.frame.evaluate(b, &point, &mut known, *value))
                .collect();
            for (&(_, memory), value) in self.lines.written.iter().zip(left) {
                let place = self.place_in_line(b, &point, line);
                b.store(memory, place, value);
            }
            let full: Vec<ValueId> =
                self.outputs.iter().copied().filter(|output| self.passes.full.contains(output)).collect();
            self.frame.evaluate_and_write(b, &point, &mut known, &full);
        }
        taken
    }

    fn place_in_line(&self, b: &mut Builder, point: &Point, line: Value) -> Value {
        let place = self.place_in_row(b, point);
        b.add(place, line)
    }

    fn place_in_row(&self, b: &mut Builder, point: &Point) -> Value {
        let row = nnc_opt::fuse::Layout::contiguous(&self.frame.axes.dims[self.outer..]);
        let terms: Vec<(Value, i64)> =
            point.coordinates[self.outer..].iter().copied().zip(row.strides.iter().copied()).collect();
        b.affine(&terms, 0)
    }
}

/// The reduction that a node computes.
pub fn combine(graph: &Graph, id: NodeId) -> Combine {
    let node = graph.node(id);
    let op = match &node.op {
        Op::Reduce { op, .. } => *op,
        _ => ReduceOp::Sum,
    };
    Combine::new(op, elem(graph.ty(node.operands[0]).dtype))
}
