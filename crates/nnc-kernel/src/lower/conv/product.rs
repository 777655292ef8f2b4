//! A convolution of one group as a matrix product: its weights by the windows, or by the image itself where each window
//! is one element.

use super::windows::Windows;
use crate::ir::Direction;
use crate::lower::conv::Operands;
use crate::lower::frame::{Axes, Frame};
use crate::lower::matmul;
use crate::lower::matmul::shape::{self as shape, Right};
use crate::lower::memory::{KernelDraft, Place, Source};
use crate::lower::{LowerError, Lowering, map};
use nnc_graph::{NodeId, ValueId};
use nnc_opt::fuse::{Group, Layout};

/// A convolution of one group as a product of its weights and its windows, or of the image itself, of which `value`
/// tells the type, if windows have one element.
pub fn lower(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    operands: &Operands,
    value: Option<ValueId>,
) -> Result<(), LowerError> {
    let image = match value {
        Some(value) => operands.places(lowering, value)?,
        None => operands.image.clone(),
    };
    let mut draft = KernelDraft::new("conv");
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let elem = image.elem;
    let memory = draft.param(image.buffer, elem, Direction::In);
    let weights = &operands.weights;
    let images = image.layout.dims[0];
    let [_, row, term] = [0, 1, 2].map(|axis| weights.layout.strides[axis]);
    let depth = weights.layout.dims[2];
    let left = shape::Operand {
        buffer: weights.buffer,
        memory: draft.param(weights.buffer, elem, Direction::In),
        layout: Layout {
            dims: vec![images, operands.rows, depth],
            strides: vec![0, row, term],
            offset: weights.layout.offset,
        },
    };
    let right = match value {
        Some(_) => {
            let layout = image.layout.transpose(&[0, 2, 1]);
            Right::Strided(shape::Operand { buffer: image.buffer, memory, layout })
        }
        None => {
            let layout = image.layout.reshape(&[images, operands.channels, image.layout.dims[3], image.layout.dims[4]]);
            let layout = layout.ok_or_else(|| LowerError::bug("an axis of size 1 that is not dropped"))?;
            Right::Windows(Windows { buffer: image.buffer, memory, layout, axes: operands.axes })
        }
    };
    let operands = shape::Operands { left, right, batch: 1, flip: false, elem };
    let result = lowering.graph.node(anchor).results[0];
    matmul::emit(lowering, draft, &frame, operands, (result, &group.outputs))
}

impl Operands {
    /// Whether each window is one element of the image.
    pub fn is_pointwise(&self) -> bool {
        self.axes.iter().all(|axis| {
            axis.taps == 1 && axis.low == 0 && axis.insert == 1 && (axis.windows - 1) * axis.step < axis.source
        })
    }

    /// The elements of the image that windows of one element are, `[image, channel, place]`; copied if strides cannot
    /// say it.
    fn places(&self, lowering: &mut Lowering<'_>, value: ValueId) -> Result<Place, LowerError> {
        let image = &self.image;
        let [vertical, horizontal] = self.axes;
        let (images, channels) = (image.layout.dims[0], self.channels);
        let layout = image.layout.slice(&[
            (0, images, 1),
            (0, 1, 1),
            (0, channels, 1),
            (0, vertical.windows, vertical.step as i64),
            (0, horizontal.windows, horizontal.step as i64),
        ]);
        let dims = [images, channels, vertical.windows * horizontal.windows];
        if let Some(layout) = layout.reshape(&dims) {
            return Ok(Place { layout, ..image.clone() });
        }
        let buffer = lowering.temporary(layout.elements() * image.elem.size());
        let from = Source::Stored(Place { layout: layout.clone(), ..image.clone() });
        map::copy_as(lowering, value, from, (&layout.dims, buffer))?;
        Ok(Place { buffer, elem: image.elem, layout: Layout::contiguous(&dims) })
    }
}
