//! Transposes between rows and vectors that lie along them, for sparse kernels.
//!
//! Four terms of eight rows are two halves of four registers, which memory fills directly; transposing squares of four
//! within the halves takes eight shuffles. Whatever the width of the machine's vectors, this is done by registers of
//! 256 bits, as wider ones need a round of shuffles more.

use crate::ir::{Builder, Memory, Value};
use crate::lower::loops::span;
use crate::lower::matmul::pack::Matrix;

/// Terms of a square.
const SQUARE: u8 = 4;
/// Rows of two squares.
pub const ROWS: u8 = 8;

/// Copies `rows` by `terms` of a matrix to `[term][row]`, from the place `first` on, terms `stride` apart.
pub fn turn(
    b: &mut Builder,
    from: &Matrix,
    (rows, terms): (Value, Value),
    (to, first, stride): (Memory, Value, i64),
    lanes: u8,
) {
    let zero = b.index(0);
    span(b, (zero, rows), &widths(lanes), |b, row, width| {
        let along = b.mul_index(row, from.row);
        let (source, target) = (b.add(from.first, along), b.add(first, row));
        let terms_at_once = if width > 1 && from.column == 1 { vec![SQUARE, 1] } else { vec![1] };
        span(b, (zero, terms), &terms_at_once, |b, term, count| {
            let source = b.affine(&[(source, 1), (term, from.column)], 0);
            let values = match count {
                SQUARE => columns(b, (from.memory, source, from.row), width),
                _ => {
                    let step = b.index(from.row);
                    vec![b.load_strided(from.memory, source, step, width)]
                }
            };
            let target = b.affine(&[(target, 1), (term, stride)], 0);
            for (at, value) in values.into_iter().enumerate() {
                let place = b.add_index(target, at as i64 * stride);
                b.store(to, place, value);
            }
        });
    });
}

/// How many rows are taken together: two squares, one, then single rows.
fn widths(lanes: u8) -> Vec<u8> {
    [ROWS, SQUARE, 1].into_iter().filter(|&width| width <= lanes).collect()
}

/// Four columns of so many lines, a vector each: the lines begin at a place and lie `step` apart.
pub fn columns(b: &mut Builder, (memory, first, step): (Memory, Value, i64), lines: u8) -> Vec<Value> {
    let four = |b: &mut Builder, line: i64| {
        let place = b.add_index(first, line * step);
        b.load(memory, place, SQUARE)
    };
    let rows = [0, 1, 2, 3].map(|line| {
        let upper = four(b, line);
        if lines == SQUARE {
            return upper;
        }
        let lower = four(b, line + i64::from(SQUARE));
        b.concat(upper, lower)
    });
    b.transpose_in_fours(rows).to_vec()
}
