//! Copies that turn a matrix: what lies side by side in the source comes to lie far apart.
//!
//! A square of as many rows as a vector has lanes is loaded row by row, transposed in registers and stored row by row,
//! so that each line of a cache is read once and written once, and whole. A task goes through some of the source's
//! columns, a strip of rows at a time: it reads along the rows and writes to few lines at once (Chatterjee and Sen,
//! "Cache-efficient matrix transposition", 2000). What does not fill a square is copied element by element.

use super::loops::{Split, coordinates, span, widths};
use super::memory::{BufferId, KernelDraft, Place};
use super::{LowerError, Lowering};
use crate::ir::{Builder, Direction, Memory, Value};

/// Squares side by side that a task goes through at least.
const SQUARES: usize = 4;
/// Elements that are worth a task of their own.
const TASK: usize = 1 << 15;

/// A matrix in the source, and where it goes.
struct Turn {
    from: Memory,
    to: Memory,
    /// Rows and columns of a square.
    lanes: u8,
    /// Distance of two rows in the source.
    row: i64,
    /// Rows of the source, which lie side by side where they go.
    rows: i64,
    /// Distance, where they go, of two columns of the source.
    column: i64,
}

/// The axis whose elements lie side by side in the source, if the last one's do not and both are long enough for
/// squares.
pub fn axis(lowering: &Lowering<'_>, place: &Place, dims: &[usize]) -> Option<usize> {
    let (&inner, outer) = dims.split_last()?;
    let strides = &place.layout.strides;
    let across = (0..outer.len()).find(|&axis| strides[axis] == 1 && dims[axis] > 1)?;
    let lanes = usize::from(lowering.lanes_of(place.elem));
    let fits = matches!(place.elem.size(), 4 | 8) && inner >= lanes && dims[across] >= lanes;
    (fits && strides[outer.len()] > 1).then_some(across)
}

/// Copies what lies at a place, whose neighbours are those of [`axis`], into a buffer in row-major order.
///
/// # Errors
/// A bug in the compiler.
pub fn copy(
    lowering: &mut Lowering<'_>,
    (place, across): (&Place, usize),
    (dims, to): (&[usize], BufferId),
) -> Result<(), LowerError> {
    let mut draft = KernelDraft::new("copy");
    draft.how = format!("turned in squares of {} rows", lowering.lanes_of(place.elem));
    let last = dims.len() - 1;
    let layout = &place.layout;
    let target: Vec<i64> = (0..dims.len()).map(|axis| dims[axis + 1..].iter().product::<usize>() as i64).collect();
    let turn = Turn {
        from: draft.param(place.buffer, place.elem, Direction::In),
        to: draft.param(to, place.elem, Direction::Out),
        lanes: lowering.lanes_of(place.elem),
        row: layout.strides[last],
        rows: dims[last] as i64,
        column: target[across],
    };
    let unit = usize::from(turn.lanes);
    let columns = Split::even(dims[across], (TASK / dims[last]).max(SQUARES * unit), unit);
    let others: Vec<usize> = (0..last).filter(|&axis| axis != across).collect();
    let mut counts: Vec<usize> = others.iter().map(|&axis| dims[axis]).collect();
    counts.push(columns.tasks() as usize);
    draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
        let at = coordinates(b, task, &counts);
        let (at, part) = at.split_at(others.len());
        let begins = |b: &mut Builder, strides: &[i64], offset: i64| {
            let terms: Vec<(Value, i64)> =
                at.iter().zip(&others).map(|(&value, &axis)| (value, strides[axis])).collect();
            b.affine(&terms, offset)
        };
        let begins = (begins(b, &layout.strides, layout.offset), begins(b, &target, 0));
        let range = columns.bounds(b, part[0]);
        turn.strips(b, begins, range);
    });
    lowering.append(draft, vec![], 2 * dims.iter().product::<usize>())
}

impl Turn {
    /// All rows of the columns of a range, a strip of them at a time.
    fn strips(&self, b: &mut Builder, (source, target): (Value, Value), range: (Value, Value)) {
        let lanes = i64::from(self.lanes);
        let (zero, whole, strip) = (b.index(0), b.index(self.rows / lanes * lanes), b.index(lanes));
        b.for_loop(zero, whole, strip, &[], |b, row, _| {
            let begins = (b.affine(&[(source, 1), (row, self.row)], 0), b.add(target, row));
            span(b, range, &[self.lanes, 1], |b, column, width| match width == self.lanes {
                true => self.square(b, begins, column),
                false => self.piece(b, begins, column, self.lanes.into()),
            });
            vec![]
        });
        let rest = (self.rows % lanes) as usize;
        if rest > 0 {
            let begins = (b.affine(&[(source, 1), (whole, self.row)], 0), b.add(target, whole));
            span(b, range, &[1], |b, column, _| self.piece(b, begins, column, rest));
        }
    }

    /// A square that begins at a column.
    fn square(&self, b: &mut Builder, (source, target): (Value, Value), column: Value) {
        let first = b.add(source, column);
        let rows: Vec<Value> = (0..i64::from(self.lanes))
            .map(|row| {
                let place = b.add_index(first, row * self.row);
                b.load(self.from, place, self.lanes)
            })
            .collect();
        let first = b.affine(&[(target, 1), (column, self.column)], 0);
        for (at, turned) in b.transpose(&rows).into_iter().enumerate() {
            let place = b.add_index(first, at as i64 * self.column);
            b.store(self.to, place, turned);
        }
    }

    /// So many rows of a column that is no part of a square.
    fn piece(&self, b: &mut Builder, (source, target): (Value, Value), column: Value, rows: usize) {
        let (source, target) = (b.add(source, column), b.affine(&[(target, 1), (column, self.column)], 0));
        let stride = b.index(self.row);
        let range = (b.index(0), b.index(rows as i64));
        span(b, range, &widths(rows, self.lanes), |b, row, lanes| {
            let place = b.affine(&[(source, 1), (row, self.row)], 0);
            let value = b.load_strided(self.from, place, stride, lanes);
            let place = b.add(target, row);
            b.store(self.to, place, value);
        });
    }
}
