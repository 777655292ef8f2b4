//! Packing: a block of a matrix, copied into scratch memory so that a tile's columns lie side by side.
//!
//! The packed block has a row for each k; its columns lie in panels as wide as a tile ([`Packed::panels`]), so that a
//! tile reads memory from one end to the other. Rows are padded with zeros to whole vectors.

#[cfg(doc)]
use super::tile::Tile;
use crate::ir::{Builder, Memory, Type, Value};
use crate::lower::loops::{span, widths, widths_of};

/// Rows so many elements apart are asked for before they are read, as no hardware sees them coming.
const FAR: i64 = 512;
/// How many rows ahead.
const AHEAD: i64 = 12;
/// Vectors that a round of a loop copies.
const VECTORS: u8 = 4;
/// Elements of a line of the cache, if they have four bytes.
const CACHE_LINE: usize = 16;

/// A matrix by strides, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Where it lies.
    pub memory: Memory,
    /// Its first element.
    pub first: Value,
    /// Elements between rows.
    pub row: i64,
    /// Elements between columns.
    pub column: i64,
}

/// A packed block: where element `(k, column)` lies.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    /// The memory.
    pub memory: Memory,
    /// Elements between rows.
    pub row: i64,
    /// Elements for each column before a panel: panel `n` begins `n * panel * column` elements on.
    pub column: i64,
    /// Columns that lie side by side; a multiple of a vector.
    pub panel: i64,
}

impl Packed {
    /// Panels of `panel` columns, each with its `depth` rows in a row: a tile reads memory from one end to the other.
    pub fn panels(memory: Memory, depth: i64, panel: i64) -> Self {
        Self { memory, row: panel, column: depth, panel }
    }

    /// Where a column lies when the first one lies at `first`.
    fn place(&self, b: &mut Builder, first: Value, column: Value) -> Value {
        let panel = b.index(self.panel);
        let within = b.rem(column, panel);
        let before = b.sub(column, within);
        b.affine(&[(before, self.column), (within, 1), (first, 1)], 0)
    }
}

/// Packs `(rows, columns)` of a matrix; its first element goes to the place `first`, where a panel begins or further
/// down in it. Columns are packed in the widths of [`Tile::widths`]: panels are whole numbers of the last one, and more
/// than one panel are of the first one, too.
pub fn pack(
    b: &mut Builder,
    from: &Matrix,
    (rows, columns): (Value, Value),
    (to, first): (&Packed, Value),
    widths: &[u8],
) {
    if from.column == 1 {
        let whole = pack_panels(b, from, (rows, columns), (to, first), widths);
        return pack_vectors(b, from, (rows, (whole, columns)), (to, first), widths);
    }
    if from.row == 1 {
        return pack_turned(b, from, (rows, columns), (to, first), widths);
    }
    let (zero, lanes) = (b.index(0), widths[0]);
    // Along the columns, a vector at a time; then the columns that are left, one by one.
    span(b, (zero, columns), &[lanes, 1], |b, column, width| {
        let along = b.mul_index(column, from.column);
        let source = b.add(from.first, along);
        let target = to.place(b, first, column);
        let one = b.index(1);
        b.for_unrolled(zero, rows, one, 4, &[], |b, row, _| {
            let place = b.affine(&[(source, 1), (row, from.row)], 0);
            let stride = b.index(from.column);
            let value = b.load_strided(from.memory, place, stride, width);
            let place = b.affine(&[(target, 1), (row, to.row)], 0);
            b.store(to.memory, place, value);
            vec![]
        });
    });
    pad(b, (rows, columns), (to, first), grain(widths));
}

/// The lanes that panels are whole numbers of.
fn grain(widths: &[u8]) -> u8 {
    *widths.last().expect("columns are packed in some width")
}

/// Walks columns in such widths, the last time with how many are left if they are fewer.
fn strips(
    b: &mut Builder,
    (start, end): (Value, Value),
    widths: &[u8],
    mut body: impl FnMut(&mut Builder, Value, u8, Option<Value>),
) {
    let whole = span(b, (start, end), widths, |b, column, width| body(b, column, width, None));
    let ragged = b.lt(whole, end);
    b.if_then(ragged, |b| {
        let left = b.sub(end, whole);
        body(b, whole, grain(widths), Some(left));
    });
}

/// Packs whole panels of rows whose elements lie side by side, row by row: memory is read in long runs. Gives how many
/// columns that were.
fn pack_panels(
    b: &mut Builder,
    from: &Matrix,
    (rows, columns): (Value, Value),
    (to, first): (&Packed, Value),
    widths: &[u8],
) -> Value {
    let (zero, one, panel) = (b.index(0), b.index(1), b.index(to.panel));
    let rest = b.rem(columns, panel);
    let whole = b.sub(columns, rest);
    b.for_loop(zero, rows, one, &[], |b, row, _| {
        let source = b.affine(&[(from.first, 1), (row, from.row)], 0);
        let target = b.affine(&[(first, 1), (row, to.row)], 0);
        b.for_loop(zero, whole, panel, &[], |b, column, _| {
            let source = b.add(source, column);
            let target = b.affine(&[(target, 1), (column, to.column)], 0);
            let lines = if from.row >= FAR { to.panel } else { 0 };
            for line in (0..lines).step_by(CACHE_LINE) {
                let ahead = b.add_index(source, AHEAD * from.row + line);
                b.prefetch(from.memory, ahead);
            }
            let mut vector = 0;
            for &width in widths {
                while vector + i64::from(width) <= to.panel {
                    let place = b.add_index(source, vector);
                    let value = b.load(from.memory, place, width);
                    let place = b.add_index(target, vector);
                    b.store(to.memory, place, value);
                    vector += i64::from(width);
                }
            }
            vec![]
        });
        vec![]
    });
    whole
}

/// Packs the columns of a range, of rows whose elements lie side by side, a vector at a time; zeros fill the last one
/// up.
fn pack_vectors(
    b: &mut Builder,
    from: &Matrix,
    (rows, range): (Value, (Value, Value)),
    (to, first): (&Packed, Value),
    widths: &[u8],
) {
    let (zero, one) = (b.index(0), b.index(1));
    strips(b, range, widths, |b, column, width, left| {
        let (source, target) = (b.add(from.first, column), to.place(b, first, column));
        let mask = left.map(|left| b.first_lanes(left, width));
        b.for_unrolled(zero, rows, one, 4, &[], |b, row, _| {
            let place = b.affine(&[(source, 1), (row, from.row)], 0);
            let value = match mask {
                Some(mask) => b.load_masked(from.memory, place, mask),
                None => b.load(from.memory, place, width),
            };
            let place = b.affine(&[(target, 1), (row, to.row)], 0);
            b.store(to.memory, place, value);
            vec![]
        });
    });
}

/// Packs columns whose elements lie side by side, a vector of columns at a time; of the last one, those that are not
/// there are zeros.
fn pack_turned(
    b: &mut Builder,
    from: &Matrix,
    (rows, columns): (Value, Value),
    (to, first): (&Packed, Value),
    widths: &[u8],
) {
    let zero = b.index(0);
    strips(b, (zero, columns), widths, |b, column, width, left| {
        let along = b.mul_index(column, from.column);
        let (source, target) = (b.add(from.first, along), to.place(b, first, column));
        pack_strip(b, from, (source, rows, left), (to, target), width);
    });
}

/// Packs a vector of columns, of which only so many are there if that is told: squares are transposed in registers. In
/// the place of a column that is not there nothing is read of the first one: far behind the last one may be no memory,
/// and there a processor takes its time to read nothing.
fn pack_strip(
    b: &mut Builder,
    from: &Matrix,
    (source, rows, left): (Value, Value, Option<Value>),
    (to, target): (&Packed, Value),
    width: u8,
) {
    let zero = b.index(0);
    let start = |b: &mut Builder, line: i64| {
        let place = b.add_index(source, line * from.column);
        let Some(left) = left else { return place };
        let line = b.index(line);
        let is_there = b.lt(line, left);
        b.select(is_there, place, source)
    };
    let starts: Vec<Value> = (0..i64::from(width)).map(|line| start(b, line)).collect();
    let is_followed = left.is_none() && b.known_index(rows) == Some(from.column);
    span(b, (zero, rows), &[width, 1], |b, row, height| {
        if is_followed && height == width {
            ask_for_strip(b, from, (source, row), width);
        }
        let lines: Vec<Value> = (0..i64::from(width))
            .zip(&starts)
            .map(|(line, &start)| {
                let place = b.add(start, row);
                let Some(left) = left else { return b.load(from.memory, place, height) };
                let elements = b.affine(&[(left, i64::from(height))], -line * i64::from(height));
                let mask = b.first_lanes(elements, height);
                b.load_masked(from.memory, place, mask)
            })
            .collect();
        let place = b.affine(&[(target, 1), (row, to.row)], 0);
        let (turned, step) = if height == width { (b.transpose(&lines), to.row) } else { (lines, 1) };
        for (line, value) in turned.into_iter().enumerate() {
            let place = b.add_index(place, line as i64 * step);
            b.store(to.memory, place, value);
        }
    });
}

/// Asks for a part of the strip of columns that follows the one at `source`, a square from `row` on: columns lie one
/// behind the other.
fn ask_for_strip(b: &mut Builder, from: &Matrix, (source, row): (Value, Value), width: u8) {
    let width = i64::from(width);
    let first = b.affine(&[(source, 1), (row, width)], width * from.column);
    for at in (0..width * width).step_by(CACHE_LINE) {
        let place = b.add_index(first, at);
        b.prefetch(from.memory, place);
    }
}

/// Zeros after the last column, to the end of a vector.
fn pad(b: &mut Builder, (rows, columns): (Value, Value), (to, first): (&Packed, Value), lanes: u8) {
    let (zero, one, width) = (b.index(0), b.index(1), b.index(i64::from(lanes)));
    let rest = b.rem(columns, width);
    let ragged = b.gt(rest, zero);
    b.if_then(ragged, |b| {
        let missing = b.sub(width, rest);
        let nothing = b.zero(Type::vector(to.memory.elem, 1));
        b.for_loop(zero, missing, one, &[], |b, at, _| {
            let column = b.add(columns, at);
            let target = to.place(b, first, column);
            b.for_loop(zero, rows, one, &[], |b, row, _| {
                let place = b.affine(&[(target, 1), (row, to.row)], 0);
                b.store(to.memory, place, nothing);
                vec![]
            });
            vec![]
        });
    });
}

/// Zeros in the first `count` elements of scratch memory.
pub fn clear(b: &mut Builder, memory: Memory, count: usize, lanes: u8) {
    let (start, end) = (b.index(0), b.index(count as i64));
    span(b, (start, end), &[lanes, 1], |b, at, lanes| {
        let zero = b.zero(Type::vector(memory.elem, lanes));
        b.store(memory, at, zero);
    });
}

/// Copies the elements of `range`, counted from both places: some vectors in a round of a loop, then the rest.
pub fn copy_line(b: &mut Builder, from: (Memory, Value), to: (Memory, Value), range: (Value, Value), lanes: u8) {
    let length = b.sub(range.1, range.0);
    let wide = VECTORS * lanes;
    let widths = match b.known_index(length) {
        Some(length) if length >= i64::from(wide) => {
            [vec![wide], widths(length as usize % usize::from(wide), lanes)].concat()
        }
        Some(_) | None => widths_of(b, length, lanes),
    };
    span(b, range, &widths, |b, at, lanes| {
        let place = b.add(from.1, at);
        let value = b.load(from.0, place, lanes);
        let value = as_stored(b, value, to.0);
        let place = b.add(to.1, at);
        b.store(to.0, place, value);
    });
}

/// A value as an element of a memory.
pub fn as_stored(b: &mut Builder, value: Value, to: Memory) -> Value {
    if b.type_of(value).elem == to.elem { value } else { b.convert(value, to.elem) }
}
