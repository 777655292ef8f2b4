//! Packing: a block of a matrix, copied into scratch memory so that a tile's columns lie side by side.
//!
//! The packed block is row-major with a row for each k. Rows are padded with zeros to whole vectors.

use super::loops::span;
use crate::ir::{Builder, Memory, Type, Value};

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

/// Packs `(rows, columns)` of a matrix into `(memory, stride)`.
pub fn pack(b: &mut Builder, from: &Matrix, (rows, columns): (Value, Value), to: (Memory, i64), lanes: u8) {
    if from.column != 1 && from.row == 1 {
        return pack_transposed(b, from, (rows, columns), to, lanes);
    }
    let (zero, one) = (b.index(0), b.index(1));
    b.for_loop(zero, rows, one, &[], |b, row, _| {
        let source = b.affine(&[(from.first, 1), (row, from.row)], 0);
        let target = b.mul_index(row, to.1);
        span(b, (zero, columns), &[lanes, 1], |b, at, lanes| {
            let along = b.mul_index(at, from.column);
            let place = b.add(source, along);
            let stride = b.index(from.column);
            let value = b.load_strided(from.memory, place, stride, lanes);
            let place = b.add(target, at);
            b.store(to.0, place, value);
        });
        pad(b, to.0, target, columns, lanes);
        vec![]
    });
}

/// Zeros from `columns` on to the next multiple of a vector.
fn pad(b: &mut Builder, memory: Memory, row: Value, columns: Value, lanes: u8) {
    let width = b.index(i64::from(lanes));
    let rest = b.rem(columns, width);
    let zero = b.index(0);
    let ragged = b.gt(rest, zero);
    b.if_then(ragged, |b| {
        let missing = b.sub(width, rest);
        let place = b.add(row, columns);
        let nothing = b.zero(Type::vector(memory.elem, 1));
        let one = b.index(1);
        b.for_loop(zero, missing, one, &[], |b, at, _| {
            let place = b.add(place, at);
            b.store(memory, place, nothing);
            vec![]
        });
    });
}

/// As [`pack`], for a matrix whose rows lie side by side: squares of a vector's size are transposed in registers.
fn pack_transposed(b: &mut Builder, from: &Matrix, (rows, columns): (Value, Value), to: (Memory, i64), lanes: u8) {
    let zero = b.index(0);
    // Along the columns of the packed block, `width` at a time; then the columns that are left, one by one.
    span(b, (zero, columns), &[lanes, 1], |b, column, width| {
        let along = b.mul_index(column, from.column);
        let source = b.add(from.first, along);
        if width == 1 {
            let one = b.index(1);
            b.for_loop(zero, rows, one, &[], |b, row, _| {
                let place = b.add(source, row);
                let value = b.load(from.memory, place, 1);
                let place = b.affine(&[(row, to.1), (column, 1)], 0);
                b.store(to.0, place, value);
                vec![]
            });
            return;
        }
        span(b, (zero, rows), &[lanes, 1], |b, row, height| {
            let first = b.add(source, row);
            let lines: Vec<Value> = (0..i64::from(width))
                .map(|line| {
                    let place = b.add_index(first, line * from.column);
                    b.load(from.memory, place, height)
                })
                .collect();
            let place = b.affine(&[(row, to.1), (column, 1)], 0);
            let turned = if height == width { b.transpose(&lines) } else { lines };
            if height == width {
                for (line, value) in turned.into_iter().enumerate() {
                    let place = b.add_index(place, line as i64 * to.1);
                    b.store(to.0, place, value);
                }
            } else {
                for (line, value) in turned.into_iter().enumerate() {
                    let place = b.add_index(place, line as i64);
                    b.store(to.0, place, value);
                }
            }
        });
    });
    let one = b.index(1);
    b.for_loop(zero, rows, one, &[], |b, row, _| {
        let target = b.mul_index(row, to.1);
        pad(b, to.0, target, columns, lanes);
        vec![]
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

/// Copies the elements of `range`, counted from both places.
pub fn copy_line(b: &mut Builder, from: (Memory, Value), to: (Memory, Value), range: (Value, Value), lanes: u8) {
    span(b, range, &[lanes, 1], |b, at, lanes| {
        let place = b.add(from.1, at);
        let value = b.load(from.0, place, lanes);
        let place = b.add(to.1, at);
        b.store(to.0, place, value);
    });
}
