//! Panels of a matrix of few bits, and how the integers of one are read.
//!
//! Panel `n` holds a tile's width of columns. Brain floats lie as they are, `[term][column]`. Integers are unsigned,
//! more by a zero ([`Reader::zero`]) than what they stand for; those of neighbouring terms of a column make a word of
//! 32 bits, the first lowest, and words lie as `[line][column]`. Of int8 four terms make a word. Of int4 eight do: the
//! lower halves of its bytes are the first four, the upper halves the others. Groups are whole lines, filled up with
//! bytes that nothing is multiplied by. Scales are packed as `[group][column]`. What follows from constants is packed
//! once.

use super::digits::{Cut, Layout as Groups};
use crate::ir::{BinaryOp, Builder, Direction, Elem, Memory, Type, Value};
use crate::lower::anchor::stored;
use crate::lower::loops::Split;
use crate::lower::matmul::panels;
use crate::lower::matmul::tile::Tile;
use crate::lower::matmul::words::TERMS;
use crate::lower::memory::{BufferId, KernelDraft, Place};
use crate::lower::{LowerError, Lowering};
use nnc_graph::ValueId;
use nnc_graph::stored::NIBBLE_ZERO;
use nnc_opt::fuse::Layout;

/// Words that a task packs, about.
const TASK: usize = 1 << 15;
/// Bits of half a byte.
const NIBBLE: usize = 4;

/// How the integers of a panel are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// In bytes.
    Bytes,
    /// In halves of bytes.
    Nibbles,
}

impl Reader {
    /// What stands for 0.
    pub fn zero(self) -> i32 {
        match self {
            Self::Bytes => 128,
            Self::Nibbles => NIBBLE_ZERO as i32,
        }
    }

    /// How what is multiplied by them is written.
    pub fn cut(self) -> Cut {
        match self {
            Self::Bytes => Cut::FOR_BYTES,
            Self::Nibbles => Cut::FOR_NIBBLES,
        }
    }

    /// Words of four bytes that a word of a panel gives.
    pub fn words(self) -> usize {
        match self {
            Self::Bytes => 1,
            Self::Nibbles => 2,
        }
    }

    /// One of the words of bytes that a vector of words gives.
    pub fn bytes(self, b: &mut Builder, stored: Value, word: usize) -> Value {
        let lanes = b.lanes(stored);
        match self {
            Self::Bytes => stored,
            Self::Nibbles => {
                let (by, mask) = (b.i32(NIBBLE as i32, lanes), b.i32(0x0f0f_0f0f, lanes));
                let stored = if word == 0 { stored } else { b.shr(stored, by) };
                b.and(stored, mask)
            }
        }
    }
}

/// Packs rows by columns, element by element.
///
/// # Errors
/// A bug in the compiler.
pub fn as_it_is(
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

/// Packs integers, of the terms of all groups by `columns`, as words.
///
/// # Errors
/// A bug in the compiler.
pub fn words(
    lowering: &mut Lowering<'_>,
    value: ValueId,
    reader: Reader,
    (groups, columns): (Groups, usize),
    tile: Tile,
) -> Result<BufferId, LowerError> {
    let depth = groups.groups * groups.group;
    let (elem, bytes) = match reader {
        Reader::Bytes => (Elem::I8, depth),
        Reader::Nibbles => (Elem::U8, depth / 2),
    };
    let place = stored(lowering, value, &[bytes, columns])?;
    let lines = groups.groups * groups.words() / reader.words();
    lowering.preparing(lowering.stage_of(value), |lowering| {
        let total = columns.next_multiple_of(tile.columns()) * lines;
        let buffer = lowering.memory(total * Elem::I32.size());
        let mut draft = KernelDraft::new("pack");
        let memory = draft.param(place.buffer, elem, Direction::In);
        let to = draft.param(buffer, Elem::I32, Direction::Out);
        let split = Split::new(columns, TASK / lines.max(1), tile.columns());
        let source = Source { reader, memory, layout: &place.layout, columns, groups };
        draft.builder.phase(split.tasks(), |b, task| {
            let (start, end) = split.bounds(b, task);
            let width = b.index(tile.columns() as i64);
            b.for_loop(start, end, width, &[], |b, column, _| {
                let panel = b.mul_index(column, lines as i64);
                source.pack_panel(b, column, (to, panel), tile);
                vec![]
            });
        });
        lowering.append(draft, vec![], total)?;
        Ok(buffer)
    })
}

/// Integers as a graph keeps them.
struct Source<'a> {
    reader: Reader,
    memory: Memory,
    layout: &'a Layout,
    columns: usize,
    groups: Groups,
}

/// A vector of columns: the first of its panel, its place there, and how many there are from it on.
#[derive(Clone, Copy)]
struct Columns {
    first: Value,
    left: Value,
    lanes: u8,
}

impl Source<'_> {
    /// Packs a panel, group by group.
    fn pack_panel(&self, b: &mut Builder, column: Value, (to, panel): (Memory, Value), tile: Tile) {
        let (terms, width) = (TERMS * self.reader.words(), tile.columns() as i64);
        let (whole, rest) = (self.groups.group / terms, self.groups.group % terms);
        let lines = (whole + rest.min(1)) as i64;
        b.for_each(self.groups.groups as i64, |b, group| {
            let place = b.affine(&[(panel, 1), (group, lines * width)], 0);
            let term = b.mul_index(group, self.groups.group as i64);
            b.for_each(whole as i64, |b, line| {
                let place = b.affine(&[(place, 1), (line, width)], 0);
                let term = b.affine(&[(term, 1), (line, terms as i64)], 0);
                self.pack_line(b, (term, terms), column, (to, place), tile);
            });
            if rest > 0 {
                let place = b.add_index(place, whole as i64 * width);
                let term = b.add_index(term, (whole * terms) as i64);
                self.pack_line(b, (term, rest), column, (to, place), tile);
            }
        });
    }

    /// Packs a line of words, of so many terms; columns beyond the last mean nothing.
    fn pack_line(
        &self,
        b: &mut Builder,
        (term, count): (Value, usize),
        column: Value,
        (to, first): (Memory, Value),
        tile: Tile,
    ) {
        let all = b.index(self.columns as i64);
        for vector in (0..tile.columns()).step_by(usize::from(tile.lanes)) {
            let first_column = b.add_index(column, vector as i64);
            let left = b.sub(all, first_column);
            let columns = Columns { first: first_column, left, lanes: tile.lanes };
            let word = match self.reader {
                Reader::Bytes => self.word_of_bytes(b, (term, count), columns),
                Reader::Nibbles => self.word_of_nibbles(b, term, columns),
            };
            let place = b.add_index(first, vector as i64);
            b.store(to, place, word);
        }
    }

    /// A vector of words of up to four bytes.
    fn word_of_bytes(&self, b: &mut Builder, (term, count): (Value, usize), columns: Columns) -> Value {
        let parts = (0..count).map(|at| {
            let row = b.add_index(term, at as i64);
            let number = self.load(b, row, columns);
            let zero = b.i32(self.reader.zero(), columns.lanes);
            let byte = b.add(number, zero);
            shifted(b, BinaryOp::Shl, byte, 8 * at)
        });
        let parts: Vec<Value> = parts.collect();
        any(b, &parts, columns.lanes)
    }

    /// A vector of words of eight halves of bytes. Two neighbouring terms lie in a byte of the graph.
    fn word_of_nibbles(&self, b: &mut Builder, term: Value, columns: Columns) -> Value {
        let two = b.index(2);
        let first = b.div(term, two);
        let mut parts = Vec::new();
        for at in 0..TERMS {
            let row = b.add_index(first, at as i64);
            let both = self.load(b, row, columns);
            for half in 0..2 {
                let term = 2 * at + half;
                let number = shifted(b, BinaryOp::Shr, both, NIBBLE * half);
                let mask = b.i32(0x0f, columns.lanes);
                let number = b.and(number, mask);
                let to = 8 * (term % TERMS) + NIBBLE * (term / TERMS);
                parts.push(shifted(b, BinaryOp::Shl, number, to));
            }
        }
        any(b, &parts, columns.lanes)
    }

    /// A vector along the columns; those that are not there are 0.
    fn load(&self, b: &mut Builder, row: Value, columns: Columns) -> Value {
        let [down, along] = [self.layout.strides[0], self.layout.strides[1]];
        let place = b.affine(&[(row, down), (columns.first, along)], self.layout.offset);
        let bytes = match along {
            1 => b.load_tail(self.memory, place, columns.left, columns.lanes),
            _ => self.load_each(b, place, along, columns),
        };
        b.convert(bytes, Elem::I32)
    }

    /// The same one by one: columns that lie apart.
    fn load_each(&self, b: &mut Builder, place: Value, along: i64, columns: Columns) -> Value {
        let mut vector = b.zero(Type::vector(self.memory.elem, columns.lanes));
        for lane in 0..columns.lanes {
            let (at, one) = (b.add_index(place, i64::from(lane) * along), b.index(1));
            let left = b.add_index(columns.left, -i64::from(lane));
            let count = b.min(left, one);
            let byte = b.load_tail(self.memory, at, count, 1);
            vector = b.insert(vector, byte, lane);
        }
        vector
    }
}

/// A shift by a number of bits.
fn shifted(b: &mut Builder, op: BinaryOp, value: Value, by: usize) -> Value {
    if by == 0 {
        return value;
    }
    let by = b.i32(by as i32, b.lanes(value));
    b.binary(op, value, by)
}

/// All bits of some vectors.
fn any(b: &mut Builder, parts: &[Value], lanes: u8) -> Value {
    let none = b.zero(Type::vector(Elem::I32, lanes));
    parts.iter().copied().reduce(|all, part| b.binary(BinaryOp::Or, all, part)).unwrap_or(none)
}
