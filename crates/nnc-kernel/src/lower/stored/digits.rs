//! Rows of floats cut into small whole numbers, so that products by integers of few bits are exact.
//!
//! Each row is cut into groups of terms, those that share a scale of the matrix. A group whose largest magnitude lies
//! between `2^(e-1)` and `2^e` has the step `s = 2^(e-n)`; a term `x` becomes the whole number next to `x / s`, ties
//! to even. How it is written is a [`Cut`]: beside bytes `n = 20` and three digits of base 128,
//! `x = s (16384 d2 + 128 d1 + d0)`, `d0` and `d1` from -64 to 63, `d2` from -64 to 64; beside halves of bytes `n = 14`
//! and two of base 256, `x = s (256 d1 + d0)`, `d0` from -128 to 127, `d1` from -64 to 64. So a term is kept to `2^-n`
//! of the largest of its group, and digits times integers are what [`crate::ir::Op::DotI7`] adds on every machine. Half
//! a byte rounds weights so much that 14 bits are plenty, and arithmetic bounds its products, to which each digit adds
//! as much. Steps end at `2^-126`: groups that are all below `2^(n-126)` are kept to `2^-127`. A group with an infinity
//! or a NaN has the step NaN, and so has all that is computed of it.
//!
//! Integers of a matrix are unsigned, `zero` more than they stand for. The sum of a group's products so is `zero` times
//! the sum of its digits too large: what a sum begins with, in exact integers, takes that off again.
//!
//! In memory are words of 32 bits, `[row][digit][group][1 + word]`: what a sum begins with, then four neighbouring
//! terms a word, the lowest digit first. Terms that fill up the last word of a group are 0. Steps lie by themselves,
//! `[row][group]`. Rows are cut by launches of their own, so that products of the same rows, as the query, the key and
//! the value of attention are, share them and run side by side.

use crate::ir::{Builder, Direction, Elem, Memory, ReduceOp, Type, Value};
use crate::lower::anchor::stored;
use crate::lower::loops::Split;
use crate::lower::matmul::words::{ONES, TERMS};
use crate::lower::memory::{self, BufferId, KernelDraft, Place};
use crate::lower::prepare::Stage;
use crate::lower::{LowerError, Lowering};
use nnc_graph::ValueId;
use nnc_opt::fuse;
use std::collections::BTreeMap;

/// Floats keep their exponents from this bit on.
const EXPONENT: i32 = 23;
/// The kept exponents of a power of two and of its inverse add up to this.
const INVERSE: i32 = 254;
/// The most terms that a task cuts, about.
const TASK: usize = 1 << 14;
/// The most tasks that few terms are cut into.
const TASKS: usize = 8;
/// Operations that a term counts as where it is decided whether other threads help: cutting it is little work, but it
/// would have to come from the cache of the core that made it, and its digits would have to go back there.
const TERM_WORK: usize = 128;

/// How numbers are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cut {
    /// Digits of a number.
    pub digits: usize,
    /// Bits of a digit: its base is two to this.
    pub bits: usize,
    /// The largest magnitude of a number is at most two to this.
    magnitude: i32,
}

impl Cut {
    /// What is multiplied by bytes.
    pub const FOR_BYTES: Self = Self { digits: 3, bits: 7, magnitude: 20 };
    /// What is multiplied by halves of bytes.
    pub const FOR_NIBBLES: Self = Self { digits: 2, bits: 8, magnitude: 14 };

    /// Half of the base: the largest magnitude of a digit.
    fn half(self) -> i32 {
        1 << (self.bits - 1)
    }

    /// Between the exponents of a float and of the step of a group whose largest it is, as floats keep them.
    fn step_below(self) -> i32 {
        self.magnitude - 1
    }
}

/// How rows are cut, and where their digits lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Layout {
    /// Rows.
    pub rows: usize,
    /// Groups of a row.
    pub groups: usize,
    /// Terms of a group.
    pub group: usize,
    /// How a term is written.
    pub cut: Cut,
}

impl Layout {
    /// Words of a group, of one digit, without what a sum begins with.
    pub fn words(&self) -> usize {
        self.group.div_ceil(TERMS)
    }

    /// Words from a group to the next.
    pub fn group_words(&self) -> i64 {
        1 + self.words() as i64
    }

    /// Words from a digit of a row to the next.
    pub fn digit_words(&self) -> i64 {
        self.groups as i64 * self.group_words()
    }

    /// Words from a row to the next.
    pub fn row_words(&self) -> i64 {
        self.cut.digits as i64 * self.digit_words()
    }
}

/// Rows that are cut into digits, as a kernel reads them.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// How they lie.
    pub layout: Layout,
    /// Their digits, and what sums begin with.
    pub words: Memory,
    /// Their steps.
    pub steps: Memory,
}

/// What digits follow from, and where they and their steps are kept for products to come.
pub type Kept = BTreeMap<(ValueId, Layout, i32), [BufferId; 2]>;

impl Rows {
    /// The rows of a value, for integers so much above what they stand for: as they were cut before, or by a launch
    /// that is added.
    ///
    /// # Errors
    /// A bug in the compiler.
    pub fn of(
        lowering: &mut Lowering<'_>,
        draft: &mut KernelDraft,
        value: ValueId,
        layout: Layout,
        zero: i32,
    ) -> Result<Self, LowerError> {
        let key = (value, layout, zero);
        let buffers = match lowering.digits.get(&key) {
            // What is prepared is not made in every run, so that other launches cannot read it.
            Some(&kept) if lowering.stage == Stage::InPlace => kept,
            _ => cut(lowering, value, layout, zero)?,
        };
        if lowering.stage == Stage::InPlace {
            lowering.digits.insert(key, buffers);
        }
        Ok(Self::at(draft, buffers, layout, Direction::In))
    }

    /// The rows in these buffers: words, and steps.
    fn at(draft: &mut KernelDraft, [words, steps]: [BufferId; 2], layout: Layout, direction: Direction) -> Self {
        let words = draft.param(words, Elem::I32, direction);
        Self { layout, words, steps: draft.param(steps, Elem::F32, direction) }
    }

    /// Adds a phase that cuts rows, which lie `down` terms apart from `offset` on, group by group.
    fn cut(&self, draft: &mut KernelDraft, source: &Source, (down, offset): (i64, i64), zero: i32) {
        let Layout { rows, groups, group: terms, .. } = self.layout;
        let all = rows * groups;
        let split = Split::even(all, all.div_ceil(TASKS).min(TASK.div_ceil(terms)), 1);
        draft.builder.phase(split.tasks(), |b, task| {
            let (start, end) = split.bounds(b, task);
            let (one, groups) = (b.index(1), b.index(groups as i64));
            b.for_loop(start, end, one, &[], |b, at, _| {
                let (row, group) = (b.div(at, groups), b.rem(at, groups));
                let first = b.affine(&[(row, down), (group, terms as i64)], offset);
                self.cut_group(b, source, first, (row, group), zero);
                vec![]
            });
        });
    }

    /// Cuts a group of a row, whose terms begin at `first`.
    fn cut_group(&self, b: &mut Builder, source: &Source, first: Value, (row, group): (Value, Value), zero: i32) {
        let (step, inverse) = step(b, source, first);
        let at = b.affine(&[(row, self.layout.groups as i64), (group, 1)], 0);
        b.store(self.steps, at, step);
        let to = b.affine(&[(row, self.layout.row_words()), (group, self.layout.group_words())], 0);
        let mut totals = vec![b.i32(0, 1); source.cut.digits];
        for part in &source.parts {
            let none = b.zero(Type::vector(Elem::I32, part.lanes));
            let sums = part.for_each(b, &vec![none; source.cut.digits], |b, at, sums| {
                let terms = source.load(b, part, first, at);
                let digits = digits(b, terms, inverse, source.cut);
                self.store(b, &digits, (to, at));
                sums.iter().zip(digits).map(|(&sum, digit)| b.add(sum, digit)).collect()
            });
            for (total, sum) in totals.iter_mut().zip(sums) {
                let sum = b.reduce(ReduceOp::Add, sum);
                *total = b.add(*total, sum);
            }
        }
        for (digit, total) in totals.into_iter().enumerate() {
            let less = b.i32(-zero, 1);
            let begin = b.mul(total, less);
            let place = b.add_index(to, digit as i64 * self.layout.digit_words());
            b.store(self.words, place, begin);
        }
    }

    /// Writes the digits of terms from term `at` of a group on, whose words begin at `to`.
    fn store(&self, b: &mut Builder, digits: &[Value], (to, at): (Value, Value)) {
        let terms = b.index(TERMS as i64);
        let word = b.div(at, terms);
        for (digit, &numbers) in digits.iter().enumerate() {
            let bytes = b.convert(numbers, Elem::I8);
            let words = b.bitcast(bytes, Elem::I32);
            let place = b.affine(&[(to, 1), (word, 1)], 1 + digit as i64 * self.layout.digit_words());
            b.store(self.words, place, words);
        }
    }
}

/// Appends a launch that cuts the rows of a value; gives where their digits and their steps lie.
fn cut(lowering: &mut Lowering<'_>, value: ValueId, layout: Layout, zero: i32) -> Result<[BufferId; 2], LowerError> {
    let depth = layout.groups * layout.group;
    let place = in_order(lowering, value, [layout.rows, depth])?;
    let words = lowering.memory(layout.rows * layout.row_words() as usize * Elem::I32.size());
    let steps = lowering.memory(layout.rows * layout.groups * Elem::F32.size());
    let mut draft = KernelDraft::new("cut");
    draft.how = format!("rows as numbers of {} digits of {} bits", layout.cut.digits, layout.cut.bits);
    let rows = Rows::at(&mut draft, [words, steps], layout, Direction::Out);
    let x = draft.param(place.buffer, Elem::F32, Direction::In);
    let parts = parts(layout, lowering.lanes_of(Elem::F32));
    let source = Source { memory: x, parts, group: layout.group, cut: layout.cut };
    rows.cut(&mut draft, &source, (place.layout.strides[0], place.layout.offset), zero);
    let terms = layout.rows * depth;
    lowering.append(draft, vec![], terms * TERM_WORK)?;
    lowering.count(terms);
    Ok([words, steps])
}

/// Rows whose terms lie side by side.
fn in_order(lowering: &mut Lowering<'_>, value: ValueId, dims: [usize; 2]) -> Result<Place, LowerError> {
    let place = stored(lowering, value, &dims)?;
    if place.layout.strides[1] == 1 {
        return Ok(place);
    }
    let (elem, layout) = (place.elem, fuse::Layout::contiguous(&dims));
    let buffer = lowering.copied(value, memory::Source::Stored(place), &dims)?;
    Ok(Place { buffer, elem, layout })
}

/// Where terms come from.
struct Source {
    memory: Memory,
    /// How a group is walked.
    parts: Vec<Part>,
    /// Terms of a group.
    group: usize,
    cut: Cut,
}

impl Source {
    /// The terms from `at` on of a group that begins at `first`; beyond its end 0.
    fn load(&self, b: &mut Builder, part: &Part, first: Value, at: Value) -> Value {
        let place = b.add(first, at);
        if part.end <= self.group {
            return b.load(self.memory, place, part.lanes);
        }
        let end = b.index(self.group as i64);
        let left = b.sub(end, at);
        b.load_tail(self.memory, place, left, part.lanes)
    }
}

/// A part of a group that is walked in vectors of one width.
struct Part {
    start: usize,
    end: usize,
    lanes: u8,
}

impl Part {
    /// Walks the part, carrying values.
    fn for_each(
        &self,
        b: &mut Builder,
        carried: &[Value],
        body: impl FnOnce(&mut Builder, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let [start, end, step] = [self.start, self.end, usize::from(self.lanes)].map(|at| b.index(at as i64));
        b.for_unrolled(start, end, step, 4, carried, body)
    }
}

/// A group in whole vectors, then in whole words, of which the last may be filled up.
fn parts(layout: Layout, lanes: u8) -> Vec<Part> {
    let (wide, word) = (usize::from(lanes), TERMS as u8);
    let whole = layout.group / wide * wide;
    let full = layout.group / TERMS * TERMS;
    let parts = [(0, whole, lanes), (whole, full, word), (full, layout.words() * TERMS, word)];
    parts
        .into_iter()
        .filter(|(start, end, _)| start < end)
        .map(|(start, end, lanes)| Part { start, end, lanes })
        .collect()
}

/// The step of a group, NaN if not all of its terms are finite, and the power of two to multiply them by.
fn step(b: &mut Builder, source: &Source, first: Value) -> (Value, Value) {
    let largest = largest(b, source, first);
    let [by, below, least, inverse] = [EXPONENT, source.cut.step_below(), 1, INVERSE].map(|number| b.i32(number, 1));
    let exponent = b.shr(largest, by);
    let exponent = b.sub(exponent, below);
    let exponent = b.max(exponent, least);
    let power = |b: &mut Builder, exponent: Value| {
        let bits = b.shl(exponent, by);
        b.bitcast(bits, Elem::F32)
    };
    let step = power(b, exponent);
    let inverse = b.sub(inverse, exponent);
    let inverse = power(b, inverse);
    let largest = b.bitcast(largest, Elem::F32);
    // 0, but NaN if the largest is an infinity or a NaN.
    let nothing = b.sub(largest, largest);
    (b.add(step, nothing), inverse)
}

/// The bits of the largest magnitude of a group. As integers they have the order of the floats, and NaN is above all.
fn largest(b: &mut Builder, source: &Source, first: Value) -> Value {
    let mut largest = b.i32(0, 1);
    for part in &source.parts {
        let none = b.zero(Type::vector(Elem::I32, part.lanes));
        let most = part.for_each(b, &[none], |b, at, most| {
            let terms = source.load(b, part, first, at);
            let (bits, magnitude) = (b.bitcast(terms, Elem::I32), b.i32(i32::MAX, part.lanes));
            let bits = b.and(bits, magnitude);
            vec![b.max(most[0], bits)]
        });
        let most = b.reduce(ReduceOp::Max, most[0]);
        largest = b.max(largest, most);
    }
    largest
}

/// The digits of terms, the lowest first; `inverse` is one over their step.
fn digits(b: &mut Builder, terms: Value, inverse: Value, cut: Cut) -> Vec<Value> {
    let lanes = b.lanes(terms);
    let (inverse, ones) = (b.splat(inverse, lanes), b.f32(ONES, lanes));
    let rounded = b.fma(terms, inverse, ones);
    let bits = b.bitcast(rounded, Elem::I32);
    // With half of its base added to each digit, none borrows from the next.
    let halves: i32 = (0..cut.digits).map(|digit| cut.half() << (cut.bits * digit)).sum();
    let none = b.i32(ONES.to_bits() as i32 - halves, lanes);
    let number = b.sub(bits, none);
    let digit = |digit| {
        let upper = match digit {
            0 => number,
            _ => {
                let by = b.i32((cut.bits * digit) as i32, lanes);
                b.shr(number, by)
            }
        };
        let (mask, half) = (b.i32(2 * cut.half() - 1, lanes), b.i32(cut.half(), lanes));
        // The highest digit has what is left: as many as 64 where the largest was rounded up.
        let digit = if digit + 1 == cut.digits { upper } else { b.and(upper, mask) };
        b.sub(digit, half)
    };
    (0..cut.digits).map(digit).collect()
}
