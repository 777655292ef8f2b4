//! The right operand of a product packed whole, by a launch of its own: once and for all if it is constant.
//!
//! Panel `n` holds columns `n * width` and on, a tile's width of them: `[term][column]`. A tile then reads memory from
//! one end to the other, and no run of the program packs it again.

use super::pack::{self, Matrix, Packed};
use super::tile::Tile;
use crate::ir::Direction;
use crate::lower::loops::Split;
use crate::lower::memory::{BufferId, KernelDraft, Place};
use crate::lower::{LowerError, Lowering};
use nnc_graph::ValueId;

/// Elements that a task packs, about.
const TASK: usize = 1 << 16;

/// Elements of all panels of a matrix.
fn elements(columns: usize, depth: usize, tile: Tile) -> usize {
    columns.next_multiple_of(tile.columns()) * depth
}

/// Packs `place`, `[column, outer term, inner term]` by strides, which holds `value` or a part of it.
///
/// # Errors
/// A bug in the compiler.
pub fn pack(lowering: &mut Lowering<'_>, value: ValueId, place: &Place, tile: Tile) -> Result<BufferId, LowerError> {
    let [columns, outer, inner] = [0, 1, 2].map(|axis| place.layout.dims[axis]);
    let [along, down, step] = [0, 1, 2].map(|axis| place.layout.strides[axis]);
    let depth = outer * inner;
    lowering.preparing(lowering.stage_of(value), |lowering| {
        let total = elements(columns, depth, tile);
        let buffer = lowering.memory(total * place.elem.size());
        let mut draft = KernelDraft::new("pack");
        let from = draft.param(place.buffer, place.elem, Direction::In);
        let to = draft.param(buffer, place.elem, Direction::Out);
        let packed = Packed::panels(to, depth as i64, tile.columns() as i64);
        let split = Split::new(columns, TASK / depth, tile.columns());
        draft.builder.phase(split.tasks(), |b, task| {
            let (start, end) = split.bounds(b, task);
            let (terms, count) = (b.index(inner as i64), b.sub(end, start));
            b.for_each(outer as i64, |b, at| {
                let first = b.affine(&[(start, along), (at, down)], place.layout.offset);
                let matrix = Matrix { memory: from, first, row: step, column: along };
                let first = b.affine(&[(start, depth as i64), (at, inner as i64 * packed.row)], 0);
                pack::pack(b, &matrix, (terms, count), (&packed, first), &tile.widths());
            });
        });
        lowering.append(draft, vec![], total)?;
        Ok(buffer)
    })
}
