//! Rules of ops whose place is known at run time. The start and the indices are integers and have no derivative.

use super::builder::Builder;
use super::rules::Site;
use nnc_graph::{DType, Dim, Op, ValueId};

pub(super) fn dynamic_slice(b: &mut Builder<'_>, site: &Site<'_>, axis: usize) -> Option<ValueId> {
    let zeros = b.zeros(site.operands[0]);
    Some(b.emit(Op::DynamicUpdate { axes: vec![axis] }, &[zeros, site.cotangent, site.operands[1]]))
}

pub(super) fn dynamic_update(b: &mut Builder<'_>, site: &Site<'_>, axes: &[usize]) -> Option<ValueId> {
    let (value, starts) = (site.operands[1], &site.operands[2..]);
    match site.wanted {
        0 => {
            let zeros = b.zeros(value);
            let operands = [&[site.cotangent, zeros][..], starts].concat();
            Some(b.emit(Op::DynamicUpdate { axes: axes.to_vec() }, &operands))
        }
        1 => {
            let shape = b.shape(value).clone();
            let along = axes.iter().zip(starts);
            Some(along.fold(site.cotangent, |part, (&axis, &start)| {
                b.emit(Op::DynamicSlice { axis, size: shape[axis].clone() }, &[part, start])
            }))
        }
        _ => None,
    }
}

pub(super) fn gather(b: &mut Builder<'_>, site: &Site<'_>, axis: usize, batch: usize) -> Option<ValueId> {
    let (zeros, indices) = (b.zeros(site.operands[0]), site.operands[1]);
    if b.shape(indices).rank() > 0 {
        return Some(b.emit(Op::ScatterAdd { axis, batch }, &[zeros, indices, site.cotangent]));
    }
    // One row is written, not added: nobody has to look for others that meet it.
    let mut shape = b.shape(site.cotangent).clone();
    shape.0.insert(axis, Dim::from(1i64));
    let row = b.emit(Op::Reshape(shape), &[site.cotangent]);
    let start = b.emit(Op::Cast(DType::I64), &[indices]);
    Some(b.emit(Op::DynamicUpdate { axes: vec![axis] }, &[zeros, row, start]))
}

pub(super) fn scatter_add(b: &mut Builder<'_>, site: &Site<'_>, axis: usize, batch: usize) -> Option<ValueId> {
    match site.wanted {
        0 => Some(site.cotangent),
        2 => Some(b.emit(Op::Gather { axis, batch }, &[site.cotangent, site.operands[1]])),
        _ => None,
    }
}
