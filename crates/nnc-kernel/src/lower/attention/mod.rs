//! Attention: rows of a matrix that a task makes by products, works on, and multiplies on, in memory of its own.
//!
//! A task has some rows of a matrix and walks them in blocks. For a block it computes the scores, rows by keys, into
//! scratch memory, goes through each row as a rows group does ([`crate::lower::rows`]), and multiplies what is left
//! there: along its rows (softmax by values, the derivative of scores by keys), or along its columns (the derivatives
//! by keys and values), whose sums wait in scratch memory for the next block. Right operands are packed before: by a
//! phase of its own where several tasks share a matrix, else by the task.
//!
//! Every sum is over the same terms in the same order as in the single kernels, whatever the blocks, so the bits are
//! the same. Whole rows need no rescaling, as online softmax does (Milakov and Gimelshein 2018); a block has the fewer
//! rows the longer they are.

pub mod mask;
pub mod products;
pub mod shape;

use crate::ir::{Builder, Memory, Value};
use crate::lower::evaluate::Known;
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::coordinates;
use crate::lower::matmul::dot::matrix_operand;
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::rows::{Body, Cut, Lines, Passes};
use crate::lower::{LowerError, Lowering, cost};
use mask::Horizon;
use nnc_graph::{Graph, NodeId, Op, ValueId};
use nnc_opt::fuse::attention::{Matrices, Reader, Roles};
use nnc_opt::fuse::{Group, Views, base, rows_of};
use products::{Factor, Limits, Mix, Scores};
use shape::Shape;
use std::collections::{BTreeMap, BTreeSet};

/// Lowers an attention group.
///
/// # Errors
/// A bug in the compiler.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let views = Views::new(graph);
    let roles = Roles::new(graph, &views, &group.nodes);
    let matrices = roles.scores.first().and_then(|&dot| Matrices::of(graph, dot));
    let matrices = matrices.ok_or_else(|| LowerError::bug("attention without scores"))?;
    let operands = Operands::new(lowering, &roles)?;
    let mut draft = KernelDraft::new("attention");
    let read: Vec<ValueId> = roles.scores.iter().map(|&dot| graph.node(dot).results[0]).collect();
    let written: BTreeSet<ValueId> = roles.readers.iter().map(|reader| matrix_of(graph, reader)).collect();
    // Keys along several axes of the domain are not counted from first to last.
    let has_one_axis = rows_of(&group.domain, matrices.count * matrices.rows).len() + 1 == group.domain.len();
    let horizon = Horizon::find(graph, &views, &roles, matrices).filter(|_| has_one_axis);
    let kept = read.len().max(written.len());
    let shape = Shape::new(lowering, &roles, matrices, (kept, horizon.is_some()));
    draft.how = shape.to_string();
    let lines = lines(&mut draft, &shape, read, written);
    let inner = Inner::new(lowering, &mut draft, group, &roles)?;
    let mut scores = Vec::new();
    for (places, &(_, to)) in operands.scores.iter().zip(&lines.read) {
        scores.push(Scores::new(lowering, &mut draft, places, to, &shape));
    }
    let mut readers = Vec::new();
    for (reader, place) in roles.readers.iter().zip(&operands.readers) {
        let matrix = matrix_of(graph, reader);
        let from = lines.written.iter().find(|(value, _)| *value == matrix).map(|(_, memory)| *memory);
        let from = from.ok_or_else(|| LowerError::bug("a product reads a matrix that is not there"))?;
        readers.push(Mix::new(lowering, &mut draft, (group, reader), (place, from), &shape)?);
    }
    let (body, horizon) = (inner.body(&lines), horizon.as_ref().zip(shape.unit));
    let kernel = Attention { shape: &shape, body, scores: &scores, readers: &readers, horizon };
    kernel.phases(&mut draft);
    let dots = roles.scores.iter().copied().chain(roles.readers.iter().map(|reader| reader.dot));
    let products: usize = dots.map(|dot| 2 * multiply_adds(graph, dot)).sum();
    let elementwise = matrices.elements() * (cost::of_nodes(graph, &inner.nodes) + 1);
    lowering.append(draft, vec![], products + elementwise)?;
    lowering.count(products + cost::in_all(graph, &group.nodes));
    Ok(())
}

/// The member that a product reads.
fn matrix_of(graph: &Graph, reader: &Reader) -> ValueId {
    base(graph, graph.node(reader.dot).operands[reader.operand])
}

/// Multiply-adds of a dot.
fn multiply_adds(graph: &Graph, dot: NodeId) -> usize {
    let node = graph.node(dot);
    let Op::Dot { a_axes, .. } = &node.op else { return 0 };
    let sizes = graph.ty(node.operands[0]).shape.sizes();
    let terms: usize = a_axes.iter().map(|&axis| sizes[axis]).product();
    terms * graph.ty(node.results[0]).shape.elements().size()
}

/// The operands of all products as `[batch..., free, contracted]`.
struct Operands {
    /// Left and right.
    scores: Vec<(Place, Place)>,
    /// What the matrix is multiplied by.
    readers: Vec<Place>,
}

impl Operands {
    fn new(lowering: &mut Lowering<'_>, roles: &Roles) -> Result<Self, LowerError> {
        let mut scores = Vec::new();
        for &dot in &roles.scores {
            scores.push((operand(lowering, dot, 0)?, operand(lowering, dot, 1)?));
        }
        let mut readers = Vec::new();
        for reader in &roles.readers {
            readers.push(operand(lowering, reader.dot, 1 - reader.operand)?);
        }
        Ok(Self { scores, readers })
    }
}

fn operand(lowering: &mut Lowering<'_>, dot: NodeId, at: usize) -> Result<Place, LowerError> {
    let node = lowering.graph.node(dot);
    let Op::Dot { batch, a_axes, b_axes } = &node.op else { return Err(LowerError::bug("a dot that is none")) };
    matrix_operand(lowering, node.operands[at], *batch, if at == 0 { a_axes } else { b_axes })
}

/// Where a block's matrices lie: those that are read take the places of those that come out of products.
fn lines(draft: &mut KernelDraft, shape: &Shape, read: Vec<ValueId>, written: BTreeSet<ValueId>) -> Lines {
    let count = read.len().max(written.len());
    let elements = shape.block * shape.stride;
    let memories: Vec<Memory> = (0..count).map(|_| draft.builder.scratch(shape.elem, elements)).collect();
    let placed = |values: Vec<ValueId>| values.into_iter().zip(memories.iter().copied()).collect();
    Lines { read: placed(read), written: placed(written.into_iter().collect()) }
}

/// What is between the products.
struct Inner<'g> {
    nodes: Vec<NodeId>,
    outputs: Vec<ValueId>,
    frame: Frame<'g>,
    passes: Passes,
    kept: BTreeMap<ValueId, Memory>,
    lanes: u8,
    /// Axes that count rows.
    outer: usize,
}

impl<'g> Inner<'g> {
    fn new(
        lowering: &mut Lowering<'g>,
        draft: &mut KernelDraft,
        group: &Group,
        roles: &Roles,
    ) -> Result<Self, LowerError> {
        let graph = lowering.graph;
        let nodes: Vec<NodeId> = roles.between.iter().copied().collect();
        let is_own = |value: &ValueId| roles.between.contains(&graph.value(*value).node);
        let outputs: Vec<ValueId> = group.outputs.iter().copied().filter(is_own).collect();
        let read = roles.readers.iter().map(|reader| matrix_of(graph, reader));
        let needed: Vec<ValueId> = outputs.iter().copied().chain(read).collect();
        let passes = Passes::new(graph, &nodes, &needed);
        let outer = rows_of(&group.domain, passes.rows()).len();
        let row = group.domain[outer..].iter().product();
        let classes = (0..group.domain.len()).map(|axis| u8::from(axis >= outer)).collect();
        let axes = Axes { dims: group.domain.clone(), classes };
        let lanes = lowering.lanes(&roles.between);
        let frame = Frame::new(lowering, draft, roles.between.clone(), &outputs, axes)?;
        let outer = frame.axes.classes.iter().filter(|&&class| class == 0).count();
        let kept = passes.keep(graph, draft, row);
        Ok(Self { nodes, outputs, frame, passes, kept, lanes, outer })
    }

    fn body<'a>(&'a self, lines: &'a Lines) -> Body<'a, 'g> {
        let Self { frame, passes, outputs, kept, lanes, outer, .. } = self;
        Body { frame, passes, outputs, lines, kept, lanes: *lanes, outer: *outer }
    }
}

/// A kernel and its memory.
struct Attention<'a, 'g> {
    shape: &'a Shape,
    body: Body<'a, 'g>,
    scores: &'a [Scores],
    readers: &'a [Mix<'g>],
    /// A mask behind which keys are left out, and what their number is a multiple of.
    horizon: Option<(&'a Horizon, usize)>,
}

impl Attention<'_, '_> {
    fn phases(&self, draft: &mut KernelDraft) {
        let shape = self.shape;
        let count = shape.matrices.count;
        if shape.shares_packed() {
            draft.builder.phase(count as u64, |b, matrix| self.pack(b, matrix));
        }
        let counts = [count, shape.tasks.tasks() as usize];
        draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
            let at = coordinates(b, task, &counts);
            let rows = shape.tasks.bounds(b, at[1]);
            self.task(b, at[0], rows);
        });
    }

    /// Packs the right operands of a matrix.
    fn pack(&self, b: &mut Builder, matrix: Value) {
        self.factors().for_each(|factor| factor.pack(b, matrix));
    }

    fn factors(&self) -> impl Iterator<Item = &Factor> {
        self.scores.iter().map(|scores| &scores.right).chain(self.readers.iter().map(|reader| &reader.right))
    }

    /// Some rows of a matrix.
    fn task(&self, b: &mut Builder, matrix: Value, (start, end): (Value, Value)) {
        let shape = self.shape;
        if !shape.shares_packed() {
            self.pack(b, matrix);
        }
        self.readers.iter().for_each(|reader| reader.begin(b, shape));
        let known = self.body.known(b);
        let horizon = self.horizon.map(|(horizon, unit)| (horizon, unit, self.is_small(b, horizon, matrix)));
        let step = b.index(shape.block as i64);
        b.for_loop(start, end, step, &[], |b, row, _| {
            let to = b.add(row, step);
            let rows = (row, b.min(to, end));
            match horizon {
                Some((horizon, unit, is_small)) => {
                    let end = self.end(b, (horizon, unit), rows.1);
                    let all = b.index(shape.matrices.columns as i64);
                    let end = b.select(is_small, end, all);
                    self.seen(b, horizon, (matrix, rows, end), &known);
                }
                None => {
                    let end = b.index(shape.matrices.columns as i64);
                    self.block(b, (matrix, rows, end), &known, None);
                }
            }
            vec![]
        });
        self.readers.iter().for_each(|reader| reader.finish(b, shape, matrix));
    }

    /// Whether what a matrix is multiplied by is so small that it does not count where that is 0, and so are the
    /// operands of products that are not computed.
    fn is_small(&self, b: &mut Builder, horizon: &Horizon, matrix: Value) -> Value {
        let products = self.scores.iter().filter(|_| horizon.relies_on_products);
        let products = products.flat_map(|scores| [&scores.left, &scores.right.from]);
        let factors = self.readers.iter().map(|reader| &reader.right.from);
        let how = (self.shape.lanes, Limits::of(self.shape.elem));
        let truth = b.bool(true, 1);
        products.chain(factors).fold(truth, |all, operand| {
            let one = operand.is_small(b, matrix, how);
            b.and(all, one)
        })
    }

    /// The column, a multiple of the unit, from which on all rows before `row` see nothing.
    fn end(&self, b: &mut Builder, (horizon, unit): (&Horizon, usize), row: Value) -> Value {
        let unit = unit as i64;
        let (least, most) = (b.index(unit), b.index(self.shape.matrices.columns as i64));
        let end = b.add_index(row, horizon.offset + unit - 1);
        let panels = b.div(end, least);
        let end = b.mul_index(panels, unit);
        let end = b.max(end, least);
        b.min(end, most)
    }

    /// A block up to `end`; once more and as a whole if what is hidden counts.
    fn seen(
        &self,
        b: &mut Builder,
        horizon: &Horizon,
        (matrix, rows, end): (Value, (Value, Value), Value),
        known: &Known,
    ) {
        let (zero, one, two) = (b.index(0), b.index(1), b.index(2));
        let all = b.index(self.shape.matrices.columns as i64);
        b.for_loop(zero, two, one, &[end, one], |b, _, carried| {
            let (end, is_due) = (carried[0], b.gt(carried[1], zero));
            let block = |b: &mut Builder| {
                let bound = Limits::of(self.shape.elem).product;
                let cut = Cut { hidden: &horizon.hidden, bound, end, is_short: b.lt(end, all) };
                vec![self.block(b, (matrix, rows, end), known, Some(cut))]
            };
            let doubts = b.if_else(is_due, block, |_| vec![zero]);
            vec![all, doubts[0]]
        });
    }

    /// A block up to the column `end`. Gives the number 0 if that is all, or 1 if what was left out may count: then
    /// nothing is multiplied on.
    fn block(
        &self,
        b: &mut Builder,
        (matrix, rows, end): (Value, (Value, Value), Value),
        known: &Known,
        cut: Option<Cut<'_>>,
    ) -> Value {
        let shape = self.shape;
        self.scores.iter().for_each(|scores| scores.run(b, shape, matrix, (rows, end)));
        let (zero, one) = (b.index(0), b.index(1));
        let doubts = b.for_loop(rows.0, rows.1, one, &[zero], |b, row, doubts| {
            let number = b.affine(&[(matrix, shape.matrices.rows as i64), (row, 1)], 0);
            let line = b.sub(row, rows.0);
            let line = b.mul_index(line, shape.stride as i64);
            let doubt = self.body.row(b, number, known, (line, cut));
            let doubt = b.select(doubt, one, zero);
            vec![b.max(doubts[0], doubt)]
        });
        let read = |b: &mut Builder| {
            self.readers.iter().for_each(|reader| reader.run(b, shape, matrix, (rows, end)));
        };
        match cut {
            Some(_) => {
                let is_all = b.eq(doubts[0], zero);
                b.if_then(is_all, read);
            }
            None => read(b),
        }
        doubts[0]
    }
}
