//! Contractions: a batch of matrix products, operands by strides.
//!
//! Rows are the free axes of `a`, columns those of `b`, or the other way round when there are too few columns for a
//! vector. [`crate::lower::matmul`] does the rest.

use super::shape::{Operand, Operands, Right, STREAMED, parts};
use super::tile;
use super::words;
use crate::ir::Direction;
use crate::lower::conv;
use crate::lower::frame::{Axes, Frame};
use crate::lower::matmul;
use crate::lower::memory::{KernelDraft, Place, Source, elem};
use crate::lower::sparse::{self, Outcome};
use crate::lower::{LowerError, Lowering};
use nnc_graph::{DType, NodeId, Op, ValueId};
use nnc_opt::fuse::{Group, Layout};

/// So few rows leave nothing to share between them.
const FEW_ROWS: usize = 4;

/// Lowers a dot with its epilogue.
///
/// # Errors
/// An element that kernels do not multiply yet, or a bug in the compiler.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group, anchor: NodeId) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let Op::Dot { batch, a_axes, b_axes } = &node.op else { return Err(LowerError::bug("a dot that is none")) };
    let a = matrix_operand(lowering, node.operands[0], *batch, a_axes)?;
    let b = matrix_operand(lowering, node.operands[1], *batch, b_axes)?;
    let why_dense = match *batch {
        0 => match sparse::lower(lowering, (group, anchor), (node.operands[1], b_axes), (&a, &b))? {
            Outcome::Done => return Ok(()),
            Outcome::Dense(why) => why,
        },
        _ => None,
    };
    lower_dense(lowering, (group, anchor), (*batch, &a, &b))?;
    why_dense.iter().for_each(|why| lowering.remark(why));
    Ok(())
}

/// Lowers a dot whose matrices are full.
fn lower_dense(
    lowering: &mut Lowering<'_>,
    (group, anchor): (&Group, NodeId),
    (batch, a, b): (usize, &Place, &Place),
) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let [left, right] = [node.operands[0], node.operands[1]];
    if batch == 0 && is_packed_once(lowering, right, (a, b)) {
        let (a, b, factors) = words::factors(lowering, (left, a), (right, b), true)?;
        let operands = conv::last::of_rows(&a, &b, factors);
        return conv::last::emit(lowering, (group, anchor, None), (right, &operands));
    }
    let wide = DType::I32;
    let (a, b) = (&words::widened(lowering, left, a, wide)?, &words::widened(lowering, right, b, wide)?);
    let mut draft = KernelDraft::new("dot");
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let elem = elem(graph.ty(node.results[0]).dtype);
    let operand = |draft: &mut KernelDraft, place: &Place| Operand {
        buffer: place.buffer,
        memory: draft.param(place.buffer, elem, Direction::In),
        layout: place.layout.clone(),
    };
    let (left, right) = (operand(&mut draft, a), operand(&mut draft, b));
    let (rows, columns) = (a.layout.dims[batch], b.layout.dims[batch]);
    let flip = columns < tile::fewest_columns(lowering.lanes_of(elem), lowering.target) && rows > columns;
    let (left, right) = if flip { (right, left) } else { (left, right) };
    let operands = Operands { left, right: Right::Strided(right), batch, flip, elem };
    matmul::emit(lowering, draft, &frame, operands, (node.results[0], &group.outputs))
}

/// Whether a product is one of rows by a matrix that is worth packing for all runs, or all steps of a loop: one that
/// comes from memory and is read but once in a run, row by row, is better off where it is. In a loop it is read in
/// every step. The terms of rows have to lie side by side, but for bytes, which are brought into order where they
/// don't; and bytes are only multiplied as such when they are packed, else they are four times as many to read.
fn is_packed_once(lowering: &Lowering<'_>, b: ValueId, (left, right): (&Place, &Place)) -> bool {
    let (rows, columns) = (left.layout.dims[0], right.layout.dims[0]);
    let lanes = usize::from(lowering.lanes_of(left.elem));
    let is_large = right.layout.elements() >= STREAMED;
    let is_read_once = lowering.scans.is_empty();
    let are_bytes = words::are_bytes(left, right);
    let is_in_place = right.layout.strides[0] == 1 && columns.is_multiple_of(lanes);
    let streams = is_large && is_read_once && rows <= FEW_ROWS && is_in_place && !are_bytes;
    let fewest = tile::fewest_columns(lowering.lanes_of(left.elem), lowering.target);
    // Sums that are cut into parts are so by the shape alone, whatever else is chosen here.
    let is_cut = left.elem.is_float() && parts(rows * columns, left.layout.dims[1]).tasks() > 1;
    let is_in_order = left.layout.strides[1] == 1 || are_bytes;
    lowering.is_fixed(b) && is_in_order && columns >= fewest && !streams && !is_cut
}

/// An operand as `[batch..., free, contracted]` by strides, copied if strides cannot say it.
///
/// # Errors
/// A bug in the compiler.
pub fn matrix_operand(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    batch: usize,
    contracted: &[usize],
) -> Result<Place, LowerError> {
    let dims = lowering.graph.ty(value).shape.sizes();
    let free: Vec<usize> = (batch..dims.len()).filter(|axis| !contracted.contains(axis)).collect();
    let order: Vec<usize> = (0..batch).chain(free.iter().copied()).chain(contracted.iter().copied()).collect();
    let size = |axes: &[usize]| axes.iter().map(|&axis| dims[axis]).product::<usize>();
    let shape = [&dims[..batch], &[size(&free), size(contracted)]].concat();
    let elem = elem(lowering.graph.ty(value).dtype);
    let source = lowering.source(value)?;
    if let Source::Stored(place) = &source
        && let Some(layout) = place.layout.transpose(&order).reshape(&shape)
    {
        return Ok(Place { layout, ..place.clone() });
    }
    // Elements that lie side by side stay so, and are copied as vectors.
    let lies_free = |place: &Place| free.iter().any(|&axis| place.layout.strides[axis] == 1 && dims[axis] > 1);
    let free_last = matches!(&source, Source::Stored(place) if lies_free(place));
    let copied: Vec<usize> = match free_last {
        true => (0..batch).chain(contracted.iter().copied()).chain(free.iter().copied()).collect(),
        false => order,
    };
    let ordered = match source {
        Source::Stored(place) => Source::Stored(Place { layout: place.layout.transpose(&copied), ..place }),
        uniform @ Source::Uniform(..) => uniform,
    };
    let copied_dims: Vec<usize> = copied.iter().map(|&axis| dims[axis]).collect();
    let buffer = lowering.copied(value, ordered, &copied_dims)?;
    let layout = match free_last {
        true => {
            let swapped: Vec<usize> = (0..batch).chain([batch + 1, batch]).collect();
            Layout::contiguous(&[&dims[..batch], &[size(contracted), size(&free)]].concat()).transpose(&swapped)
        }
        false => Layout::contiguous(&shape),
    };
    Ok(Place { buffer, elem, layout })
}
