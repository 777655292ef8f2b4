//! Tensors with their axes in reverse order, written by several threads.
//!
//! A matrix goes tile by tile: the lines of the source that a tile is made of are read once, and each of its columns
//! becomes a whole line of the result. Threads have columns of their own, which are neighbouring rows of the result.

use std::num::NonZeroUsize;

/// Elements side by side that are moved together: a line of the processor's cache of f32.
const BLOCK: usize = 16;

/// Tiles side by side, so that a line of the source is read on while the page is at hand.
const TILES: usize = 4;

/// A matrix of fewer bytes is not worth a second thread.
const SHARED: usize = 1 << 18;

/// Writes elements of `size` bytes with their axes, of these sizes, in reverse order.
pub(crate) fn write_transposed(bytes: &[u8], dims: &[usize], size: usize, to: &mut [u8], threads: NonZeroUsize) {
    match dims {
        [] | [_] => to.copy_from_slice(bytes),
        [rows, columns] => write_transposed_matrix(bytes, (*rows, *columns), size, to, threads),
        // The last axis goes to the front, and what is left is transposed: [A, B, C] is [A * B, C] first.
        [rest @ .., last] => {
            let rows: usize = rest.iter().product();
            let mut front = vec![0; bytes.len()];
            write_transposed_matrix(bytes, (rows, *last), size, &mut front, threads);
            let slice = (rows * size).max(1);
            let parts = front.chunks_exact(slice).zip(to.chunks_exact_mut(slice));
            parts.for_each(|(part, to)| write_transposed(part, rest, size, to, NonZeroUsize::MIN));
        }
    }
}

fn write_transposed_matrix(bytes: &[u8], dims: (usize, usize), size: usize, to: &mut [u8], threads: NonZeroUsize) {
    match size {
        1 => turn::<1>(bytes, dims, to, threads),
        2 => turn::<2>(bytes, dims, to, threads),
        4 => turn::<4>(bytes, dims, to, threads),
        8 => turn::<8>(bytes, dims, to, threads),
        _ => unreachable!("an element has 1, 2, 4 or 8 bytes"),
    }
}

/// Writes a matrix of elements of `SIZE` bytes transposed.
fn turn<const SIZE: usize>(bytes: &[u8], (rows, columns): (usize, usize), to: &mut [u8], threads: NonZeroUsize) {
    if rows * columns == 0 {
        return;
    }
    let source = Source { elements: bytes.as_chunks::<SIZE>().0, rows, columns };
    let (to, _) = to.as_chunks_mut::<SIZE>();
    let threads = if bytes.len() < SHARED { 1 } else { threads.get() };
    let each = columns.div_ceil(threads).next_multiple_of(BLOCK * TILES);
    std::thread::scope(|scope| {
        let mut parts = to.chunks_mut(each * rows).enumerate();
        let own = parts.next();
        for (part, to) in parts {
            scope.spawn(move || source.write_columns(part * each, to));
        }
        own.into_iter().for_each(|(_, to)| source.write_columns(0, to));
    });
}

/// A matrix of elements of `SIZE` bytes, row-major.
#[derive(Clone, Copy)]
struct Source<'a, const SIZE: usize> {
    elements: &'a [[u8; SIZE]],
    rows: usize,
    columns: usize,
}

impl<const SIZE: usize> Source<'_, SIZE> {
    /// Writes the columns from `first` on, as many as there is room for, each as a row.
    fn write_columns(self, first: usize, to: &mut [[u8; SIZE]]) {
        let width = BLOCK * TILES;
        for (strip, to) in to.chunks_mut(width * self.rows).enumerate() {
            for row in (0..self.rows).step_by(BLOCK) {
                for (tile, to) in to.chunks_mut(BLOCK * self.rows).enumerate() {
                    let column = first + strip * width + tile * BLOCK;
                    match to.len() == BLOCK * self.rows && row + BLOCK <= self.rows {
                        true => self.write_tile((row, column), to),
                        false => self.write_rest((row, column), to),
                    }
                }
            }
        }
    }

    /// Writes a whole tile; `to` has all elements of its columns.
    fn write_tile(self, (row, column): (usize, usize), to: &mut [[u8; SIZE]]) {
        let mut tile = [[[0; SIZE]; BLOCK]; BLOCK];
        for (line, at) in tile.iter_mut().zip(row..) {
            line.copy_from_slice(&self.elements[at * self.columns + column..][..BLOCK]);
        }
        for (column, to) in to.chunks_exact_mut(self.rows).enumerate() {
            to[row..row + BLOCK].copy_from_slice(&std::array::from_fn::<_, BLOCK, _>(|row| tile[row][column]));
        }
    }

    /// Writes what is left of a tile at the end of the rows or the columns.
    fn write_rest(self, (row, column): (usize, usize), to: &mut [[u8; SIZE]]) {
        let rows = row..self.rows.min(row + BLOCK);
        for (to, column) in to.chunks_exact_mut(self.rows).zip(column..) {
            let elements = rows.clone().map(|row| self.elements[row * self.columns + column]);
            to[rows.clone()].iter_mut().zip(elements).for_each(|(to, element)| *to = element);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers from 0 on, transposed by so many threads.
    fn turned(rows: usize, columns: usize, threads: usize) -> Vec<u32> {
        let bytes: Vec<u8> = (0..(rows * columns) as u32).flat_map(u32::to_le_bytes).collect();
        let mut to = vec![0; bytes.len()];
        write_transposed(&bytes, &[rows, columns], 4, &mut to, NonZeroUsize::new(threads).unwrap());
        to.as_chunks::<4>().0.iter().map(|element| u32::from_le_bytes(*element)).collect()
    }

    #[test]
    fn every_element_finds_its_place_by_any_number_of_threads() {
        for (rows, columns) in [(0, 3), (1, 1), (2, 3), (16, 64), (17, 65), (70, 45), (300, 257), (33, 2100)] {
            let place = |at: usize| ((at % rows) * columns + at / rows) as u32;
            let expected: Vec<u32> = (0..rows * columns).map(place).collect();
            for threads in 1..4 {
                assert_eq!(turned(rows, columns, threads), expected, "{rows} x {columns}, {threads} threads");
            }
        }
    }

    #[test]
    fn elements_have_any_size() {
        let turned = |size: usize| {
            let bytes: Vec<u8> = (0..6 * size as u8).collect();
            let mut to = vec![0; bytes.len()];
            write_transposed(&bytes, &[2, 3], size, &mut to, NonZeroUsize::MIN);
            to.chunks(size).map(|element| element[0] / size as u8).collect::<Vec<u8>>()
        };
        for size in [1, 2, 4, 8] {
            assert_eq!(turned(size), [0, 3, 1, 4, 2, 5]);
        }
    }
}
