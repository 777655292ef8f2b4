//! 16-bit integers as the factors of a product: two neighbouring terms make a word of 32 bits.
//!
//! Where the terms of both operands lie side by side and are even in number, a product takes words for elements: half as
//! many, and a step multiplies two terms at once ([`crate::ir::Op::DotI16`]). Elsewhere the operands are widened to i32
//! first. Sums of integers wrap, so both ways give the same bits.

use super::loops::{Split, span};
use super::memory::{KernelDraft, Place, Source};
use super::{LowerError, Lowering};
use crate::ir::{Builder, Direction, Elem, Value};
use nnc_graph::{DType, ValueId};
use nnc_opt::fuse::Layout;

/// Elements that a task widens.
const TASK: usize = 1 << 16;

/// What an element of the operands of a product is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Factors {
    /// One factor.
    One,
    /// A word: the factors of two neighbouring terms, 16-bit integers.
    Pairs,
}

impl Factors {
    /// Terms of an element.
    pub fn terms(self) -> usize {
        match self {
            Self::One => 1,
            Self::Pairs => 2,
        }
    }

    /// `sum` plus the products of an element of each operand; of floats rounded once.
    pub fn multiply_add(self, b: &mut Builder, x: Value, y: Value, sum: Value) -> Value {
        match self {
            Self::One if b.type_of(sum).elem.is_float() => b.fma(x, y, sum),
            Self::One => {
                let product = b.mul(x, y);
                b.add(product, sum)
            }
            Self::Pairs => {
                let (x, y) = (b.bitcast(x, Elem::I16), b.bitcast(y, Elem::I16));
                b.dot_i16(sum, x, y)
            }
        }
    }
}

/// The place of 16-bit integers as words along its last axis, if they lie so.
pub fn paired(place: &Place) -> Option<Place> {
    let layout = &place.layout;
    let last = layout.dims.len() - 1;
    let is_even = |stride: &i64| stride % 2 == 0;
    let fits = place.elem == Elem::I16
        && layout.dims[last].is_multiple_of(2)
        && layout.strides[last] == 1
        && is_even(&layout.offset)
        && layout.strides[..last].iter().all(is_even);
    fits.then(|| {
        let mut words = Layout {
            dims: layout.dims.clone(),
            strides: layout.strides.iter().map(|stride| stride / 2).collect(),
            offset: layout.offset / 2,
        };
        words.dims[last] /= 2;
        words.strides[last] = 1;
        Place { buffer: place.buffer, elem: Elem::I32, layout: words }
    })
}

/// The operands of a product as words, if both lie so; the right one, of such dims, is brought into that order if it is
/// constant.
///
/// # Errors
/// A bug in the compiler.
pub fn pairs(
    lowering: &mut Lowering<'_>,
    left: &Place,
    (value, right): (ValueId, &Place),
) -> Result<Option<(Place, Place)>, LowerError> {
    let Some(left) = paired(left) else { return Ok(None) };
    if let Some(right) = paired(right) {
        return Ok(Some((left, right)));
    }
    if !lowering.is_constant(value) || right.layout.dims.last().is_none_or(|terms| terms % 2 > 0) {
        return Ok(None);
    }
    let dims = &right.layout.dims;
    let buffer = lowering.copied(value, Source::Stored(right.clone()), dims)?;
    let ordered = Place { buffer, elem: Elem::I16, layout: Layout::contiguous(dims) };
    Ok(paired(&ordered).map(|right| (left, right)))
}

/// The operand of a product, which holds `value` or a part of it, with elements that kernels multiply one by one: 16-bit
/// integers become i32.
///
/// # Errors
/// A bug in the compiler.
pub fn widened(lowering: &mut Lowering<'_>, value: ValueId, place: Place) -> Result<Place, LowerError> {
    if place.elem != Elem::I16 {
        return Ok(place);
    }
    let dims = place.layout.dims.clone();
    let count: usize = dims.iter().product();
    let narrow = lowering.copied(value, Source::Stored(place), &dims)?;
    lowering.preparing(lowering.is_constant(value), |lowering| {
        let buffer = lowering.memory(count * DType::I32.size());
        let mut draft = KernelDraft::new("widen");
        let from = draft.param(narrow, Elem::I16, Direction::In);
        let to = draft.param(buffer, Elem::I32, Direction::Out);
        let lanes = 2 * lowering.lanes_of(Elem::I32);
        let split = Split::new(count, TASK, usize::from(lanes));
        draft.builder.phase(split.tasks(), |b, task| {
            let range = split.bounds(b, task);
            span(b, range, &[lanes, 1], |b, at, lanes| {
                let value = b.load(from, at, lanes);
                let value = b.convert(value, Elem::I32);
                b.store(to, at, value);
            });
        });
        lowering.append(draft, vec![], count)?;
        Ok(Place { buffer, elem: Elem::I32, layout: Layout::contiguous(&dims) })
    })
}
