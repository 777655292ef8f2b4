//! Bytes as the factors of a product: four neighbouring terms make a word of 32 bits.
//!
//! Where the terms of both operands lie side by side and are a multiple of four, a product takes words for elements: a
//! quarter as many, and a step multiplies four terms at once ([`crate::ir::Op::DotI8`]). Elsewhere the operands are
//! widened to i32 first, or to f32 where sums are so few that they are exact. Sums of integers wrap, so all ways give
//! the same bits.

use crate::ir::{Builder, Direction, Elem, Target, Value};
use crate::lower::loops::{Split, span};
use crate::lower::memory::{KernelDraft, Place, Source};
use crate::lower::{LowerError, Lowering, base};
use nnc_graph::{BinaryOp, DType, Graph, Op, ValueId};
use nnc_opt::fuse::Layout;
use nnc_opt::quantise::{WEIGHT_LEVELS, WORD};
use nnc_opt::simplify::matching::number;
use std::fmt;

/// Terms of a word.
pub const TERMS: usize = 4;
/// The largest magnitude of a narrow factor: the sum of two products with unsigned bytes fits 16 bits.
const NARROW: f64 = 64.0;
// What quantisation makes is what is fast here.
const _: () = assert!(WORD == TERMS && WEIGHT_LEVELS as f64 <= NARROW);
/// Elements that a task widens.
const TASK: usize = 1 << 16;

/// What an element of the operands of a product is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Factors {
    /// One factor.
    One,
    /// A word: the factors of four neighbouring terms, unsigned bytes by signed ones.
    Bytes {
        /// Whether the signed ones are known to be narrow.
        narrow: bool,
    },
}

impl fmt::Display for Factors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "",
            Self::Bytes { narrow: true } => " of narrow bytes",
            Self::Bytes { narrow: false } => " of bytes",
        })
    }
}

impl Factors {
    /// Terms of an element.
    pub fn terms(self) -> usize {
        match self {
            Self::One => 1,
            Self::Bytes { .. } => TERMS,
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
            Self::Bytes { narrow } => {
                let (x, y) = (b.bitcast(x, Elem::U8), b.bitcast(y, Elem::I8));
                if narrow { b.dot_i7(sum, x, y) } else { b.dot_i8(sum, x, y) }
            }
        }
    }

    /// Vectors that a step needs besides those of sums and operands: the repeated element of A, and of bytes on
    /// machines that have no instruction for four of them, their halves and what cuts these.
    pub fn working(self, target: Target) -> usize {
        match self {
            Self::One | Self::Bytes { narrow: true } => 1,
            Self::Bytes { narrow: false } if target.has_byte_products => 1,
            Self::Bytes { narrow: false } => 5,
        }
    }
}

/// The place of bytes as words along its last axis, if they lie so.
fn grouped(place: &Place) -> Option<Place> {
    let layout = &place.layout;
    let last = layout.dims.len() - 1;
    let is_whole = |stride: &i64| stride % TERMS as i64 == 0;
    let fits = place.elem.size() == 1
        && layout.dims[last].is_multiple_of(TERMS)
        && layout.strides[last] == 1
        && is_whole(&layout.offset)
        && layout.strides[..last].iter().all(is_whole);
    fits.then(|| {
        let part = |stride: &i64| stride / TERMS as i64;
        let mut words = Layout {
            dims: layout.dims.clone(),
            strides: layout.strides.iter().map(part).collect(),
            offset: part(&layout.offset),
        };
        words.dims[last] /= TERMS;
        words.strides[last] = 1;
        Place { buffer: place.buffer, elem: Elem::I32, layout: words }
    })
}

/// The operands of a product as kernels multiply them: bytes as words where `has_terms` side by side, a multiple of
/// four.
///
/// # Errors
/// A bug in the compiler.
pub fn factors(
    lowering: &mut Lowering<'_>,
    (x, left): (ValueId, &Place),
    (w, right): (ValueId, &Place),
    has_terms: bool,
) -> Result<(Place, Place, Factors), LowerError> {
    if has_terms && let Some(words) = words(lowering, (x, left), (w, right))? {
        return Ok(words);
    }
    Ok((widened(lowering, x, left, DType::I32)?, widened(lowering, w, right, DType::I32)?, Factors::One))
}

/// The operands of a product as words, if both can be had so; what they hold, or a part of it, is brought into order
/// where its terms are far apart.
fn words(
    lowering: &mut Lowering<'_>,
    left: (ValueId, &Place),
    right: (ValueId, &Place),
) -> Result<Option<(Place, Place, Factors)>, LowerError> {
    if !are_bytes(left.1, right.1) {
        return Ok(None);
    }
    let factors = Factors::Bytes { narrow: is_narrow(lowering.graph, right.0) };
    Ok(Some((in_order(lowering, left)?, in_order(lowering, right)?, factors)))
}

/// Whether the operands of a product can be had as words: unsigned bytes and signed ones, in whole words of terms.
pub fn are_bytes(left: &Place, right: &Place) -> bool {
    let is_whole = |place: &Place| place.layout.dims.last().is_some_and(|terms| terms.is_multiple_of(TERMS));
    left.elem == Elem::U8 && right.elem == Elem::I8 && is_whole(left) && is_whole(right)
}

/// Bytes as words, copied if they do not lie so.
fn in_order(lowering: &mut Lowering<'_>, (value, place): (ValueId, &Place)) -> Result<Place, LowerError> {
    if let Some(words) = grouped(place) {
        return Ok(words);
    }
    let dims = &place.layout.dims;
    let buffer = lowering.copied(value, Source::Stored(place.clone()), dims)?;
    let ordered = Place { buffer, elem: place.elem, layout: Layout::contiguous(dims) };
    grouped(&ordered).ok_or_else(|| LowerError::bug("bytes in order that are no words"))
}

/// Whether integers are clamped to the range of narrow factors where they are made.
fn is_narrow(graph: &Graph, value: ValueId) -> bool {
    let padded = graph.definition(base(graph, value));
    let value = if matches!(padded.op, Op::Pad { .. }) { padded.operands[0] } else { value };
    let limited = |op: BinaryOp, value: ValueId| {
        let node = graph.definition(base(graph, value));
        (node.op == Op::Binary(op)).then(|| (node.operands[0], number(graph, node.operands[1])))
    };
    let Some((inner, Some(most))) = limited(BinaryOp::Min, value) else { return false };
    let least = limited(BinaryOp::Max, inner).and_then(|(_, least)| least);
    most <= NARROW && least.is_some_and(|least| least >= -NARROW)
}

/// Whether sums of so many products of bytes, and all on the way to them, are exact in f32, with room for [`whole`].
pub fn are_exact_in_floats(terms: usize) -> bool {
    const LARGEST_PRODUCT: usize = 255 * 128;
    terms * LARGEST_PRODUCT < 1 << (f32::MANTISSA_DIGITS - 2)
}

/// Next to this float, 1.5 * 2^23, the last bit of a float counts ones.
pub const ONES: f32 = 12_582_912.0;

/// Floats below 2^22 that are whole, as i32.
pub fn whole(b: &mut Builder, number: Value) -> Value {
    let lanes = b.lanes(number);
    let beside = b.f32(ONES, lanes);
    let beside = b.add(number, beside);
    let (bits, zero) = (b.bitcast(beside, Elem::I32), b.i32(ONES.to_bits() as i32, lanes));
    b.sub(bits, zero)
}

/// The operand of a product, which holds `value` or a part of it, with elements that kernels multiply one by one: bytes
/// become numbers of `dtype`, i32 or f32.
///
/// # Errors
/// A bug in the compiler.
pub fn widened(lowering: &mut Lowering<'_>, value: ValueId, place: &Place, dtype: DType) -> Result<Place, LowerError> {
    if place.elem.size() > 1 {
        return Ok(place.clone());
    }
    let dims = place.layout.dims.clone();
    let count: usize = dims.iter().product();
    let (elem, wide) = (place.elem, crate::lower::memory::elem(dtype));
    let narrow = lowering.copied(value, Source::Stored(place.clone()), &dims)?;
    lowering.preparing(lowering.stage_of(value), |lowering| {
        let buffer = lowering.memory(count * dtype.size());
        let mut draft = KernelDraft::new("widen");
        let from = draft.param(narrow, elem, Direction::In);
        let to = draft.param(buffer, wide, Direction::Out);
        let lanes = 2 * lowering.lanes_of(wide);
        let split = Split::new(count, TASK, usize::from(lanes));
        draft.builder.phase(split.tasks(), |b, task| {
            let range = split.bounds(b, task);
            span(b, range, &[lanes, 1], |b, at, lanes| {
                let value = b.load(from, at, lanes);
                let value = b.convert(value, wide);
                b.store(to, at, value);
            });
        });
        lowering.append(draft, vec![], count)?;
        Ok(Place { buffer, elem: wide, layout: Layout::contiguous(&dims) })
    })
}

#[cfg(test)]
mod tests {
    use super::super::tile::Tile;
    use super::*;

    /// An instruction for bytes needs no registers besides those that a multiply-add needs, whatever the factors.
    #[test]
    fn tiles_of_bytes_are_as_large_where_one_instruction_multiplies_them() {
        for lanes in [8, 16] {
            let sums = |factors, has_byte_products| {
                let target = Target { has_byte_products, ..Target::new(lanes) };
                let tile = Tile::choose_among(100, 1000, (lanes, factors), (target, &|_| true)).0;
                tile.rows * tile.vectors
            };
            let bytes = Factors::Bytes { narrow: false };
            assert_eq!(sums(bytes, true), sums(Factors::One, true));
            assert_eq!(sums(bytes, true), sums(Factors::Bytes { narrow: true }, true));
            assert!(sums(bytes, false) < sums(bytes, true));
        }
    }
}
