//! Scatter-add: `x` with updates added at run-time indices, and the elementwise work on the result, as an optimiser's
//! update of the table whose gradient this is.
//!
//! A task owns a block of the result that no other touches and walks all indices in order, so the terms of an element
//! are added in one order whatever the number of threads. The sums of the rows that some index names wait in scratch
//! memory; those of the others are `x`, so they are never written and read again. Where the result lies where it did
//! before and would not change there, other rows are not visited at all ([`rest`]). An index out of range is reported
//! and its update left out.

pub mod rest;

use crate::ir::{Builder, Direction, Elem, Memory, Value};
use crate::lower::anchor::stored;
use crate::lower::evaluate::{Known, Point};
use crate::lower::frame::{Axes, Frame, Read, Walk};
use crate::lower::indexed::{STATUS_INDEX, tell};
use crate::lower::loops::{Split, coordinates, span, widths_of};
use crate::lower::map::TASK_WORK;
use crate::lower::memory::{KernelDraft, Source};
use crate::lower::{LowerError, Lowering, cost};
use nnc_graph::{NodeId, ValueId};
use nnc_opt::fuse::Group;
use rest::Rest;

/// Sums that a task keeps in scratch memory, at most: a part of the second cache.
const MOST_SUMS: usize = 1 << 16;
/// Columns of a task where the rows are too few to be divided.
const COLUMNS: usize = 64;
/// A task does at least so many times more than walking the indices.
const WALK: usize = 16;

/// Lowers a scatter-add and the elementwise work on its result.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group, anchor: NodeId, batch: usize) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let &[outer, before, rows, inner] = &group.domain[..] else {
        return Err(LowerError::bug("a scatter-add along other axes than its own"));
    };
    let index_dims = graph.ty(node.operands[1]).shape.sizes();
    let count = index_dims[batch..].iter().product();
    let mut draft = KernelDraft::new("scatter_add");
    let x = operand(lowering, &mut draft, node.operands[0], &group.domain)?;
    let updates = operand(lowering, &mut draft, node.operands[2], &[outer, before, count, inner])?;
    let indices = stored(lowering, node.operands[1], &[outer, count])?;
    let indices = Walk::read(&mut draft, &indices);
    let fixed: Vec<_> = draft.args.iter().map(|arg| arg.0).collect();
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let status = lowering.status();
    let status = draft.param(status, Elem::I32, Direction::Out);
    let work = 1 + cost::of_nodes(graph, &group.nodes);
    let cut = Cut::new([outer * before, rows, inner], count, work);
    let result = node.results[0];
    let rest = Rest::new(&draft, &frame, (result, &x), &group.outputs);
    draft.how = cut.described(rest.is_some());
    let elem = crate::lower::memory::elem(graph.ty(result).dtype);
    let nodes = group.nodes.iter().copied().collect();
    let body = Body {
        sums: draft.builder.scratch(elem, ((cut.rows.grain + 1) * cut.columns.grain) as usize),
        named: draft.builder.scratch(Elem::I32, cut.rows.grain as usize),
        lanes: lowering.lanes(&nodes),
        operands: [x, updates],
        frame: &frame,
        outputs: &group.outputs,
        rest,
        indices,
        status,
        count,
        before,
        cut,
        anchor,
    };
    draft.builder.phase(cut.tasks(), |b, task| body.task(b, task));
    let work = outer * before * inner * (rows * work + count);
    lowering.launch_with(draft, &frame, work, &fixed)
}

/// An operand under the given dims; what is the same everywhere is no memory.
fn operand(
    lowering: &mut Lowering<'_>,
    draft: &mut KernelDraft,
    value: ValueId,
    dims: &[usize],
) -> Result<Read, LowerError> {
    if let Source::Uniform(elem, bits) = lowering.source(value)? {
        return Ok(Read::Uniform(elem, bits));
    }
    let place = stored(lowering, value, dims)?;
    Ok(Read::Memory(Walk::read(draft, &place)))
}

/// How the result is divided: owners (the axes before the indexed one), rows along that, columns behind it.
#[derive(Clone, Copy)]
struct Cut {
    owners: Split,
    rows: Split,
    columns: Split,
}

impl Cut {
    /// Of so many owners, rows and columns; `count` indices an owner, `work` operations an element.
    fn new([owners, rows, inner]: [usize; 3], count: usize, work: usize) -> Self {
        // Where most updates fall on a few rows, tasks that own rows would have unequal work.
        let columns = if count > rows { COLUMNS.min(inner) } else { inner.min(MOST_SUMS) };
        let least = (TASK_WORK / work).max(WALK * count) / columns;
        let grain = least.clamp(1, (MOST_SUMS / columns).min(rows).max(1));
        let one = (rows * work + count) * inner;
        Self {
            owners: Split::new(owners, TASK_WORK / one.max(1), 1),
            rows: Split::new(rows, grain, 1),
            columns: Split::new(inner, columns, 1),
        }
    }

    fn tasks(&self) -> u64 {
        self.owners.tasks() * self.rows.tasks() * self.columns.tasks()
    }

    fn described(&self, skips: bool) -> String {
        let (rows, columns) = (self.rows.grain, self.columns.grain);
        let rest = if skips { "; rows without an index stay as they are" } else { "" };
        format!("{rows} rows by {columns} columns a task{rest}")
    }
}

/// A block of the result: of rows and of columns, each from a start to an end.
#[derive(Clone, Copy)]
struct Block {
    /// The coordinates of the owner.
    owner: [Value; 2],
    rows: (Value, Value),
    columns: (Value, Value),
}

struct Body<'a, 'g> {
    frame: &'a Frame<'g>,
    outputs: &'a [ValueId],
    /// `x` as `[outer, before, rows, inner]`, the updates as `[outer, before, count, inner]`.
    operands: [Read; 2],
    /// `[outer, count]`.
    indices: Walk,
    /// The sums of a block's rows, and a spare row.
    sums: Memory,
    /// For each row of a block whether some index names it.
    named: Memory,
    status: Memory,
    rest: Option<Rest>,
    count: usize,
    before: usize,
    cut: Cut,
    lanes: u8,
    anchor: NodeId,
}

impl Body<'_, '_> {
    fn task(&self, b: &mut Builder, task: Value) {
        let Cut { owners, rows, columns } = self.cut;
        let counts = [owners, rows, columns].map(|split| split.tasks() as usize);
        let at = coordinates(b, task, &counts);
        let range = owners.bounds(b, at[0]);
        let (rows, columns) = (rows.bounds(b, at[1]), columns.bounds(b, at[2]));
        let zero = b.index(0);
        let scalar = Point { coordinates: vec![zero; 4], vector: 3, lanes: 1 };
        let mut known = Known::default();
        self.frame.hoist(b, &scalar, &mut known, |_| true);
        let stays = self.rest.as_ref().map(|rest| rest.stays(b, self.frame, &scalar, &known));
        let step = b.index(1);
        b.for_loop(range.0, range.1, step, &[], |b, owner, _| {
            let owner = coordinates(b, owner, &[self.cut.owners.total as usize / self.before, self.before]);
            let block = Block { owner: [owner[0], owner[1]], rows, columns };
            self.add_up(b, block);
            self.finish(b, block, &known, stays);
            vec![]
        });
    }

    /// Adds the updates that fall into a block, in their order.
    fn add_up(&self, b: &mut Builder, block: Block) {
        let size = b.sub(block.rows.1, block.rows.0);
        let widths = widths_of(b, size, self.lanes);
        let zero = b.index(0);
        span(b, (zero, size), &widths, |b, row, lanes| {
            let none = b.i32(0, lanes);
            b.store(self.named, row, none);
        });
        b.for_each(self.count as i64, |b, number| {
            let terms = [(block.owner[0], self.indices.strides[0]), (number, self.indices.strides[1])];
            let place = b.affine(&terms, self.indices.offset);
            let index = b.load(self.indices.memory, place, 1);
            let index = b.convert(index, Elem::I64);
            let here = is_between(b, index, block.rows);
            let add = |b: &mut Builder| {
                let row = b.sub(index, block.rows.0);
                self.add(b, block, number, (row, index));
                vec![]
            };
            b.if_else(here, add, |b| {
                let all = (zero, b.index(self.cut.rows.total));
                let inside = is_between(b, index, all);
                let outside = b.not(inside);
                b.if_then(outside, |b| tell(b, self.status, STATUS_INDEX, self.anchor));
                vec![]
            });
        });
    }

    /// Adds an update to a row of the block, which is row `index` of all.
    fn add(&self, b: &mut Builder, block: Block, number: Value, (row, index): (Value, Value)) {
        let [x, updates] = &self.operands;
        let named = b.load(self.named, row, 1);
        let (none, one) = (b.i32(0, 1), b.i32(1, 1));
        let is_first = b.eq(named, none);
        b.store(self.named, row, one);
        let each = |b: &mut Builder, sum: &dyn Fn(&mut Builder, Point) -> Value| {
            self.along(b, block, |b, column, lanes| {
                let update = self.frame.load(b, &self.point(block, number, column, lanes), updates, None);
                let before = sum(b, self.point(block, index, column, lanes));
                let after = b.add(before, update);
                let place = self.place(b, block, row, column);
                b.store(self.sums, place, after);
            });
            vec![]
        };
        b.if_else(
            is_first,
            |b| each(b, &|b, point| self.frame.load(b, &point, x, None)),
            |b| {
                each(b, &|b, point| {
                    let place = self.place(b, block, row, point.coordinates[3]);
                    b.load(self.sums, place, point.lanes)
                })
            },
        );
    }

    /// Computes what the block's elements become. `stays` tells whether rows that no index names need not be visited.
    fn finish(&self, b: &mut Builder, block: Block, known: &Known, stays: Option<Value>) {
        let x = &self.operands[0];
        let spare = b.index(self.cut.rows.grain);
        if matches!(x, Read::Uniform(..)) {
            self.fill(b, block, block.rows.0, spare);
        }
        let step = b.index(1);
        b.for_loop(block.rows.0, block.rows.1, step, &[], |b, index, _| {
            let row = b.sub(index, block.rows.0);
            let named = b.load(self.named, row, 1);
            let none = b.i32(0, 1);
            let is_named = b.ne(named, none);
            let visit = |b: &mut Builder| {
                if matches!(x, Read::Memory(_)) {
                    let is_other = b.not(is_named);
                    b.if_then(is_other, |b| self.fill(b, block, index, spare));
                }
                let from = b.select(is_named, row, spare);
                self.write(b, block, (from, index), known);
            };
            match stays {
                None => visit(b),
                Some(stays) => {
                    let moves = b.not(stays);
                    let is_visited = b.or(is_named, moves);
                    b.if_then(is_visited, visit);
                }
            }
            vec![]
        });
    }

    /// Fills the spare row of the sums with row `index` of `x`.
    fn fill(&self, b: &mut Builder, block: Block, index: Value, spare: Value) {
        self.along(b, block, |b, column, lanes| {
            let value = self.frame.load(b, &self.point(block, index, column, lanes), &self.operands[0], None);
            let place = self.place(b, block, spare, column);
            b.store(self.sums, place, value);
        });
    }

    /// Writes the outputs of row `index`, whose sums are row `from` of the block's.
    fn write(&self, b: &mut Builder, block: Block, (from, index): (Value, Value), known: &Known) {
        let result = self.frame.graph.node(self.anchor).results[0];
        self.along(b, block, |b, column, lanes| {
            let mut known = known.clone();
            let place = self.place(b, block, from, column);
            let sum = b.load(self.sums, place, lanes);
            known.bind(result, sum, lanes);
            let point = self.point(block, index, column, lanes);
            self.frame.evaluate_and_write(b, &point, &mut known, self.outputs);
        });
    }

    fn point(&self, block: Block, row: Value, column: Value, lanes: u8) -> Point {
        Point { coordinates: vec![block.owner[0], block.owner[1], row, column], vector: 3, lanes }
    }

    /// Where the sum of a column lies in a row of the block.
    fn place(&self, b: &mut Builder, block: Block, row: Value, column: Value) -> Value {
        b.affine(&[(row, self.cut.columns.grain), (column, 1), (block.columns.0, -1)], 0)
    }

    fn along(&self, b: &mut Builder, block: Block, body: impl FnMut(&mut Builder, Value, u8)) {
        let count = b.sub(block.columns.1, block.columns.0);
        let widths = widths_of(b, count, self.lanes);
        span(b, block.columns, &widths, body);
    }
}

fn is_between(b: &mut Builder, index: Value, (start, end): (Value, Value)) -> Value {
    let (after, before) = (b.ge(index, start), b.lt(index, end));
    b.and(after, before)
}
