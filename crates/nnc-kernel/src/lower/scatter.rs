//! Scatter-add: a copy of `x`, to which updates are added at run-time indices.
//!
//! A task owns a part of the result that no other touches (outer axes, or a block of the inner ones) and walks all
//! updates in order, so the sums are added in one order whatever the number of threads. An index out of range is
//! reported and its update left out.

use super::anchor::stored;
use super::frame::{Axes, Frame, Walk};
use super::indexed::{STATUS_INDEX, tell};
use super::loops::{Split, coordinates, span, widths};
use super::memory::KernelDraft;
use super::{LowerError, Lowering};
use crate::ir::{Builder, Direction, Elem, Memory, Value};
use nnc_graph::NodeId;
use nnc_opt::fuse::Group;
use std::collections::BTreeSet;

/// Inner elements that one task owns.
const BLOCK: usize = 256;

/// Lowers a scatter-add.
pub fn lower(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    (axis, batch): (usize, usize),
) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let dims = graph.ty(node.operands[0]).shape.sizes();
    let index_dims = graph.ty(node.operands[1]).shape.sizes();
    let size = |dims: &[usize]| dims.iter().product::<usize>();
    let (outer, before, inner) = (size(&dims[..batch]), size(&dims[batch..axis]), size(&dims[axis + 1..]));
    let count = size(&index_dims[batch..]);
    let x = stored(lowering, node.operands[0], &[outer, before, dims[axis], inner])?;
    let indices = stored(lowering, node.operands[1], &[outer, count])?;
    let updates = stored(lowering, node.operands[2], &[outer, before, count, inner])?;
    let mut draft = KernelDraft::new("scatter_add");
    let frame = Frame::new(lowering, &mut draft, BTreeSet::new(), &[], Axes::apart(&[]))?;
    let target = lowering.store(node.results[0])?;
    let body = Body {
        x: Walk::read(&mut draft, &x),
        indices: Walk::read(&mut draft, &indices),
        updates: Walk::read(&mut draft, &updates),
        result: draft.param(target.buffer, target.elem, Direction::InOut),
        status: {
            let status = lowering.status();
            draft.param(status, Elem::I32, Direction::Out)
        },
        rows: dims[axis],
        count,
        owner: [outer, before],
        block: Split { total: inner as i64, grain: BLOCK.min(inner) as i64 },
        lanes: lowering.lanes_of(x.elem),
        node: anchor,
    };
    let tasks = (outer * before) as u64 * body.block.tasks();
    draft.builder.phase(tasks, |b, task| body.task(b, task));
    let work = size(&dims) + outer * before * count * inner;
    debug_assert!(group.outputs.len() <= 1);
    lowering.launch(draft, &frame, work)
}

struct Body {
    /// `[outer, before, rows, inner]`.
    x: Walk,
    /// `[outer, count]`.
    indices: Walk,
    /// `[outer, before, count, inner]`.
    updates: Walk,
    result: Memory,
    status: Memory,
    rows: usize,
    count: usize,
    owner: [usize; 2],
    block: Split,
    lanes: u8,
    node: NodeId,
}

impl Body {
    fn task(&self, b: &mut Builder, task: Value) {
        let at = coordinates(b, task, &[self.owner[0], self.owner[1], self.block.tasks() as usize]);
        let range = self.block.bounds(b, at[2]);
        let inner = self.block.total;
        let rows = self.rows as i64;
        let result = b.affine(&[(at[0], self.owner[1] as i64 * rows * inner), (at[1], rows * inner)], 0);
        b.for_each(rows, |b, row| {
            let from = self.line(b, &self.x, (at[0], at[1], row));
            let to = b.affine(&[(result, 1), (row, inner)], 0);
            self.along(b, range, |b, column, lanes| {
                let value = load(b, &self.x, from, column, lanes);
                let place = b.add(to, column);
                b.store(self.result, place, value);
            });
        });
        b.for_each(self.count as i64, |b, number| {
            let place =
                b.affine(&[(at[0], self.indices.strides[0]), (number, self.indices.strides[1])], self.indices.offset);
            let index = b.load(self.indices.memory, place, 1);
            let index = b.convert(index, Elem::I64);
            let inside = self.inside(b, index);
            let from = self.line(b, &self.updates, (at[0], at[1], number));
            let to = b.affine(&[(result, 1), (index, inner)], 0);
            let add = |b: &mut Builder| {
                self.along(b, range, |b, column, lanes| {
                    let value = load(b, &self.updates, from, column, lanes);
                    let place = b.add(to, column);
                    let before = b.load(self.result, place, lanes);
                    let sum = b.add(before, value);
                    b.store(self.result, place, sum);
                });
                vec![]
            };
            b.if_else(inside, add, |b| {
                tell(b, self.status, STATUS_INDEX, self.node);
                vec![]
            });
        });
    }

    fn inside(&self, b: &mut Builder, index: Value) -> Value {
        let (zero, end) = (b.index(0), b.index(self.rows as i64));
        let (after, before) = (b.ge(index, zero), b.lt(index, end));
        b.and(after, before)
    }

    /// Where a line of the inner axis begins.
    fn line(&self, b: &mut Builder, walk: &Walk, (outer, before, row): (Value, Value, Value)) -> Value {
        let terms = [(outer, walk.strides[0]), (before, walk.strides[1]), (row, walk.strides[2])];
        b.affine(&terms, walk.offset)
    }

    fn along(&self, b: &mut Builder, range: (Value, Value), body: impl FnMut(&mut Builder, Value, u8)) {
        span(b, range, &widths(self.block.grain as usize, self.lanes), body);
    }
}

fn load(b: &mut Builder, walk: &Walk, line: Value, column: Value, lanes: u8) -> Value {
    let place = b.affine(&[(line, 1), (column, walk.strides[3])], 0);
    let stride = b.index(walk.strides[3]);
    b.load_strided(walk.memory, place, stride, lanes)
}
