//! Panels of a matrix of few bits: how it is packed, and how its elements become floats on the way to a product.
//!
//! Panel `n` holds a tile's width of columns, `[term][column]`. Of four bits eight neighbouring terms of a column make a word,
//! the first lowest, so that a vector of words gives eight vectors of elements by shifts. Scales are packed the same way,
//! `[group][column]`. What follows from constants is packed once.

use super::anchor::stored;
use super::loops::Split;
use super::memory::{BufferId, KernelDraft, Place};
use super::tile::Tile;
use super::{LowerError, Lowering, panels};
use crate::ir::{BinaryOp, Builder, Direction, Elem, Memory, Type, Value};
use nnc_graph::stored::{NIBBLE_ZERO, NIBBLES};
use nnc_graph::{Stored, ValueId};
use nnc_opt::fuse::Layout;

/// Bytes of a word.
const BYTES: usize = 4;
/// Words that a task packs, about.
const TASK: usize = 1 << 15;

/// A packed matrix: its buffer, and that of its scales.
pub struct Packed {
    /// The matrix.
    pub matrix: BufferId,
    /// Its scales, if it has some.
    pub scales: Option<BufferId>,
}

/// Type of what a panel is made of.
pub fn elem(form: Stored) -> Elem {
    match form {
        Stored::Bf16 => Elem::Bf16,
        Stored::Bytes { .. } => Elem::I8,
        Stored::Nibbles { .. } => Elem::I32,
    }
}

/// Terms of an element of a panel.
pub fn terms(form: Stored) -> usize {
    match form {
        Stored::Bf16 | Stored::Bytes { .. } => 1,
        Stored::Nibbles { .. } => NIBBLES,
    }
}

/// Packs a matrix of so many terms and columns.
///
/// # Errors
/// A bug in the compiler.
pub fn pack(
    lowering: &mut Lowering<'_>,
    form: Stored,
    operands: &[ValueId],
    (depth, columns): (usize, usize),
    tile: Tile,
) -> Result<Packed, LowerError> {
    let matrix = match form {
        Stored::Bf16 | Stored::Bytes { .. } => as_it_is(lowering, operands[0], (depth, columns), tile)?,
        Stored::Nibbles { .. } => words(lowering, operands[0], (depth, columns), tile)?,
    };
    let scales = form.group().map(|group| as_it_is(lowering, operands[1], (depth / group, columns), tile));
    Ok(Packed { matrix, scales: scales.transpose()? })
}

/// Packs rows by columns, element by element.
fn as_it_is(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    (rows, columns): (usize, usize),
    tile: Tile,
) -> Result<BufferId, LowerError> {
    let place = stored(lowering, value, &[rows, columns])?;
    let [down, along] = [place.layout.strides[0], place.layout.strides[1]];
    let layout = Layout { dims: vec![columns, 1, rows], strides: vec![along, 0, down], offset: place.layout.offset };
    panels::pack(lowering, value, &Place { layout, ..place }, tile)
}

/// Packs bytes `[depth / 2, columns]`, each of two terms, as words.
fn words(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    (depth, columns): (usize, usize),
    tile: Tile,
) -> Result<BufferId, LowerError> {
    let place = stored(lowering, value, &[depth / 2, columns])?;
    let lines = depth / NIBBLES;
    lowering.preparing(lowering.is_constant(value), |lowering| {
        let total = columns.next_multiple_of(tile.columns()) * lines;
        let buffer = lowering.memory(total * Elem::I32.size());
        let mut draft = KernelDraft::new("pack");
        let from = draft.param(place.buffer, Elem::U8, Direction::In);
        let to = draft.param(buffer, Elem::I32, Direction::Out);
        let split = Split::new(columns, TASK / lines.max(1), tile.columns());
        let source = Bytes { memory: from, layout: &place.layout, columns };
        draft.builder.phase(split.tasks(), |b, task| {
            let (start, end) = split.bounds(b, task);
            let width = b.index(tile.columns() as i64);
            b.for_loop(start, end, width, &[], |b, column, _| {
                let panel = b.mul_index(column, lines as i64);
                b.for_each(lines as i64, |b, line| {
                    let first = b.affine(&[(panel, 1), (line, tile.columns() as i64)], 0);
                    source.pack_line(b, (line, column), (to, first), tile);
                });
                vec![]
            });
        });
        lowering.append(draft, vec![], total)?;
        Ok(buffer)
    })
}

/// Bytes of two terms each.
struct Bytes<'a> {
    memory: Memory,
    layout: &'a Layout,
    columns: usize,
}

impl Bytes<'_> {
    /// Packs a line of words of a panel; columns beyond the last are 0.
    fn pack_line(&self, b: &mut Builder, (line, column): (Value, Value), (to, first): (Memory, Value), tile: Tile) {
        let all = b.index(self.columns as i64);
        for vector in (0..tile.columns()).step_by(usize::from(tile.lanes)) {
            let column = b.add_index(column, vector as i64);
            let left = b.sub(all, column);
            let mut word = b.zero(Type::vector(Elem::I32, tile.lanes));
            for byte in 0..BYTES {
                let row = b.affine(&[(line, BYTES as i64)], byte as i64);
                let value = self.load(b, (row, column), left, tile.lanes);
                let shift = b.i32(8 * byte as i32, tile.lanes);
                let value = b.binary(BinaryOp::Shl, value, shift);
                word = b.binary(BinaryOp::Or, word, value);
            }
            let place = b.add_index(first, vector as i64);
            b.store(to, place, word);
        }
    }

    /// A vector of bytes along the columns, of which `left` are there.
    fn load(&self, b: &mut Builder, (row, column): (Value, Value), left: Value, lanes: u8) -> Value {
        let [down, along] = [self.layout.strides[0], self.layout.strides[1]];
        let place = b.affine(&[(row, down), (column, along)], self.layout.offset);
        let bytes = match along {
            1 => b.load_tail(self.memory, place, left, lanes),
            _ => self.load_each(b, place, along, left, lanes),
        };
        b.convert(bytes, Elem::I32)
    }

    /// The same one by one: columns that lie apart.
    fn load_each(&self, b: &mut Builder, place: Value, along: i64, left: Value, lanes: u8) -> Value {
        let mut vector = b.zero(Type::vector(Elem::U8, lanes));
        for lane in 0..lanes {
            let (at, one) = (b.add_index(place, i64::from(lane) * along), b.index(1));
            let left = b.add_index(left, -i64::from(lane));
            let count = b.min(left, one);
            let byte = b.load_tail(self.memory, at, count, 1);
            vector = b.insert(vector, byte, lane);
        }
        vector
    }
}

/// How elements of a packed matrix become floats.
pub struct Reader {
    form: Stored,
    /// The floats that four bits stand for, where vectors are as long as that.
    table: Option<Value>,
    lanes: u8,
}

/// Numbers of four bits.
const NUMBERS: u8 = 16;

impl Reader {
    /// What is the same for all elements.
    pub fn new(b: &mut Builder, form: Stored, lanes: u8) -> Self {
        let is_looked_up = matches!(form, Stored::Nibbles { .. }) && lanes == NUMBERS;
        let table = is_looked_up.then(|| {
            let places = b.iota(Type::vector(Elem::I32, lanes));
            let zero = b.i32(NIBBLE_ZERO as i32, lanes);
            let numbers = b.sub(places, zero);
            b.convert(numbers, Elem::F32)
        });
        Self { form, table, lanes }
    }

    /// A vector of elements as they lie in memory.
    pub fn load(&self, b: &mut Builder, memory: Memory, place: Value) -> Value {
        b.load(memory, place, self.lanes)
    }

    /// The floats of one of its terms, without their scales.
    pub fn floats(&self, b: &mut Builder, elements: Value, term: usize) -> Value {
        match (self.form, self.table) {
            (Stored::Bf16 | Stored::Bytes { .. }, _) => b.convert(elements, Elem::F32),
            (Stored::Nibbles { .. }, Some(table)) => {
                let number = self.shifted(b, elements, term);
                b.look_up(table, number)
            }
            (Stored::Nibbles { .. }, None) => {
                let number = self.shifted(b, elements, term);
                let (mask, zero) = (b.i32(15, self.lanes), b.i32(NIBBLE_ZERO as i32, self.lanes));
                let number = b.binary(BinaryOp::And, number, mask);
                let number = b.sub(number, zero);
                b.convert(number, Elem::F32)
            }
        }
    }

    /// A word whose lowest four bits are those of a term.
    fn shifted(&self, b: &mut Builder, word: Value, term: usize) -> Value {
        if term == 0 {
            return word;
        }
        let shift = b.i32(4 * term as i32, self.lanes);
        b.binary(BinaryOp::Shr, word, shift)
    }
}
