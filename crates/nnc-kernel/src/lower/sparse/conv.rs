//! Convolutions by sparse constant weights: only the taps and channels that are not zero are multiplied.
//!
//! Windows are the rows of a product, terms are taps, then channels, as in the dense kernel that adds every term, so
//! that the result has its bits. Single elements have vectors along neighbouring windows of the image, which is
//! transposed a block at a time ([`super::planes`]); the rest is the product of rows ([`super::elements`]). Blocks have
//! vectors along output channels, and windows are read as they lie ([`super::windows`]). Where the dense kernel would
//! go by Winograd's form, which rounds otherwise, this one must be faster than that.

use super::cost::{Product, together};
use super::elements::{Blocks, Body};
use super::lists::{Form, Lists};
use super::pattern::Pattern;
use super::planes::Planes;
use super::windows;
use crate::ir::{Direction, Elem, Memory};
use crate::lower::conv::last::Operands;
use crate::lower::evaluate::Point;
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::coordinates;
use crate::lower::matmul::product::Target;
use crate::lower::memory::KernelDraft;
use crate::lower::sparse::{Decision, Outcome, Sizes, Tables, constant, decide};
use crate::lower::{LowerError, Lowering};
use nnc_graph::{NodeId, ValueId};
use nnc_opt::fuse::Group;

/// Lowers a convolution by the constant weights `value` if that is worth it; `share` is what of the arithmetic of every
/// term the dense kernel does.
///
/// # Errors
/// A bug in the compiler.
pub fn lower(
    lowering: &mut Lowering<'_>,
    (group, anchor): (&Group, NodeId),
    (value, operands): (ValueId, &Operands),
    share: f64,
) -> Result<Outcome, LowerError> {
    let (image, weights) = (&operands.image.layout, &operands.weights.layout);
    if operands.image.elem != Elem::F32 || !lowering.is_constant(value) || !lowering.scans.is_empty() {
        return Ok(Outcome::Dense(None));
    }
    let rank = lowering.graph.ty(value).shape.rank();
    let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let [columns, taps, channels] = [0, 1, 2].map(|axis| weights.dims[axis]);
    let Some(pattern) = Pattern::of(lowering.graph, value, &order, (columns, taps * channels)) else {
        return Ok(Outcome::Dense(None));
    };
    let images = image.dims[0];
    let rows = images * operands.axes[0].windows * operands.axes[1].windows;
    let planes = Planes::new(operands.axes, channels);
    match decide(&Product { rows, pattern: &pattern, share, windows: Some((images, &planes)) }) {
        Decision::Dense(why) => Ok(Outcome::Dense(why)),
        Decision::Sparse(form, mut draft) => {
            if share < 1.0 {
                draft.how.push_str(", than Winograd's form; every term is added");
            }
            emit(lowering, (group, anchor), operands, (&pattern, &planes), (form, *draft))?;
            Ok(Outcome::Done)
        }
    }
}

fn emit(
    lowering: &mut Lowering<'_>,
    (group, anchor): (&Group, NodeId),
    operands: &Operands,
    (pattern, planes): (&Pattern, &Planes),
    (form, mut draft): (Form, KernelDraft),
) -> Result<(), LowerError> {
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let row_axis = usize::from(operands.has_images);
    let result = lowering.graph.node(anchor).results[0];
    let target = Target {
        frame: &frame,
        result,
        outputs: &group.outputs,
        row_axis,
        column_axis: row_axis + 1,
        spill: None,
        kept: None,
    };
    let images = operands.image.layout.dims[0];
    let places = operands.axes[0].windows * operands.axes[1].windows;
    let sizes = Sizes { rows: places, columns: pattern.columns, depth: pattern.depth };
    let packed = match form {
        Form::Blocks(_) | Form::LookUp => {
            let shape = windows::Shape::new(operands, pattern.columns);
            let lists = Lists::in_order(pattern, form, together(form, places)).placed(|term| shape.place(term));
            let tables = Tables::new(lowering, &mut draft, &lists, (&operands.weights, pattern))?;
            windows::emit(lowering, &mut draft, target, &sizes, (&shape, &tables));
            tables.packed
        }
        Form::Elements => {
            let all = Sizes { rows: images * places, ..sizes };
            let blocks = Blocks::whole(&all, pattern.count(), planes.places());
            let (lists, order) = blocks.lists(pattern);
            let lists = lists.placed(|term| planes.place(term));
            let tables = Tables::new(lowering, &mut draft, &lists, (&operands.weights, pattern))?;
            let order = constant(lowering, &mut draft, &order);
            emit_elements(lowering, &mut draft, (&target, operands), (&blocks, planes), (&tables, order));
            tables.packed
        }
    };
    let work = 2 * images * places * pattern.count();
    lowering.launch_with(draft, &frame, work, &[operands.image.buffer, packed])
}

/// The phase of single elements.
fn emit_elements(
    lowering: &Lowering<'_>,
    draft: &mut KernelDraft,
    (target, operands): (&Target<'_, '_>, &Operands),
    (blocks, planes): (&Blocks, &Planes),
    (tables, order): (&Tables, Memory),
) {
    let body = Body::new(lowering, draft, blocks, (tables, order), planes.elements());
    let memory = draft.param(operands.image.buffer, operands.image.elem, Direction::In);
    let lanes = lowering.lanes_of(Elem::F32);
    let counts = [operands.image.layout.dims[0], planes.blocks(), blocks.cuts() as usize];
    draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
        let at = coordinates(b, task, &counts);
        let block = planes.block(b, (&operands.image, memory, at[0]), at[1], lanes);
        let zero = b.index(0);
        let coordinates = [&at[..target.row_axis], &[zero, zero]].concat();
        let point = Point { coordinates, vector: target.column_axis, lanes: 1 };
        body.task(b, (target, &point), &block, at[2]);
    });
}
