//! The sums of products by a matrix of integers: integers times the digits of rows, which are exact.
//!
//! Of each element of a tile there are a sum for each digit, in i32, and the whole, in f32. At the end of a group the
//! sums of the digits become one float by fused multiply-adds; that times the step of the row's group, a power of
//! two, and then the scale of the column's, is added to the whole by another. Integers have no order, so the bits of a
//! result depend on the shape alone.

use super::digits::{Cut, Rows};
use super::panels::Reader;
use crate::ir::{Builder, Elem, Memory, Type, Value};
use crate::lower::matmul::tile::Tile;
use crate::lower::matmul::words::Factors;
use crate::lower::stored::{Corner, unroll};

/// Rows of digits by panels of words.
pub struct Digits {
    /// The rows.
    pub rows: Rows,
    /// The panels, `[line][column]` each.
    pub matrix: Memory,
    /// How a word is read.
    pub reader: Reader,
    /// The scales, `[group][column]` of each panel.
    pub scales: Memory,
    /// Groups of digits that share a scale.
    pub scaled: usize,
    /// Columns of a panel.
    pub width: usize,
}

/// Sums of digits, `[digit][row][vector]`.
type Sums = Vec<Value>;

impl Digits {
    /// The sums of a tile, group by group.
    pub fn sums(&self, b: &mut Builder, tile: Tile, corner: Corner) -> Vec<Value> {
        let zero = b.zero(Type::vector(Elem::F32, tile.lanes));
        let zeros = vec![zero; tile.rows * tile.vectors];
        b.for_count(self.rows.layout.groups as i64, &zeros, |b, group, sums| {
            let parts = self.group_sums(b, tile, corner, group);
            let scales = self.scales(b, tile, (group, corner.1));
            let steps = self.steps(b, tile, (corner.0, group));
            let added = sums.iter().enumerate().map(|(at, &sum)| {
                let part = whole(b, self.rows.layout.cut, digits_of(&parts, at, sums.len()));
                let part = b.mul(part, steps[at / tile.vectors]);
                b.fma(part, scales[at % tile.vectors], sum)
            });
            added.collect()
        })
    }

    /// The scales of a group, for each vector of a tile's columns.
    fn scales(&self, b: &mut Builder, tile: Tile, (group, column): (Value, Value)) -> Vec<Value> {
        let (scaled, groups) = (b.index(self.scaled as i64), self.rows.layout.groups / self.scaled);
        let scale = b.div(group, scaled);
        let first = b.affine(&[(column, groups as i64), (scale, self.width as i64)], 0);
        (0..tile.vectors).map(|vector| load_vector(b, self.scales, tile, first, vector)).collect()
    }

    /// The steps of a group, for each row of a tile.
    fn steps(&self, b: &mut Builder, tile: Tile, (row, group): (Value, Value)) -> Vec<Value> {
        let groups = self.rows.layout.groups as i64;
        let first = b.affine(&[(row, groups), (group, 1)], 0);
        let steps = (0..tile.rows as i64).map(|row| {
            let place = b.add_index(first, row * groups);
            b.load_splat(self.rows.steps, place, tile.lanes)
        });
        steps.collect()
    }

    /// The sums of a group, by its number.
    fn group_sums(&self, b: &mut Builder, tile: Tile, (row, column): Corner, group: Value) -> Sums {
        let (layout, words) = (self.rows.layout, self.reader.words());
        let lines = layout.words() / words;
        let digits = b.affine(&[(row, layout.row_words()), (group, layout.group_words())], 0);
        let sums = self.begin(b, tile, digits);
        let many = unroll(lines, layout.cut.digits * tile.rows * tile.vectors * words);
        let panel = b.affine(&[(column, (layout.groups * lines) as i64), (group, (lines * self.width) as i64)], 0);
        let [zero, end, step] = [0, lines, many].map(|at| b.index(at as i64));
        b.for_loop(zero, end, step, &sums, |b, line, sums| {
            let place = b.affine(&[(panel, 1), (line, self.width as i64)], 0);
            let digits = b.affine(&[(digits, 1), (line, words as i64)], 1);
            (0..many).fold(sums.to_vec(), |sums, round| {
                let place = b.add_index(place, (round * self.width) as i64);
                let digits = b.add_index(digits, (round * words) as i64);
                self.line(b, tile, (digits, place), sums)
            })
        })
    }

    /// What the sums of a group begin with.
    fn begin(&self, b: &mut Builder, tile: Tile, first: Value) -> Sums {
        let each = (0..self.rows.layout.cut.digits).flat_map(|digit| (0..tile.rows).map(move |row| (row, digit)));
        each.flat_map(|at| vec![self.word(b, tile, first, at); tile.vectors]).collect()
    }

    /// A word of a digit of a row of a tile in all lanes; that of the first row's lowest digit lies at `first`.
    fn word(&self, b: &mut Builder, tile: Tile, first: Value, (row, digit): (usize, usize)) -> Value {
        let layout = self.rows.layout;
        let on = row as i64 * layout.row_words() + digit as i64 * layout.digit_words();
        let place = b.add_index(first, on);
        b.load_splat(self.rows.words, place, tile.lanes)
    }

    /// The terms of one line of a panel.
    fn line(&self, b: &mut Builder, tile: Tile, (digits, place): (Value, Value), mut sums: Vec<Value>) -> Vec<Value> {
        let factors = Factors::Bytes { narrow: true };
        let stored: Vec<_> = (0..tile.vectors).map(|vector| load_vector(b, self.matrix, tile, place, vector)).collect();
        for word in 0..self.reader.words() {
            let bytes: Vec<_> = stored.iter().map(|&stored| self.reader.bytes(b, stored, word)).collect();
            let first = b.add_index(digits, word as i64);
            for digit in 0..self.rows.layout.cut.digits {
                for row in 0..tile.rows {
                    let x = self.word(b, tile, first, (row, digit));
                    for (vector, &bytes) in bytes.iter().enumerate() {
                        let sum = &mut sums[(digit * tile.rows + row) * tile.vectors + vector];
                        *sum = factors.multiply_add(b, bytes, x, *sum);
                    }
                }
            }
        }
        sums
    }
}

/// A vector of a line that begins at `first`.
fn load_vector(b: &mut Builder, memory: Memory, tile: Tile, first: Value, vector: usize) -> Value {
    let place = b.add_index(first, (vector * usize::from(tile.lanes)) as i64);
    b.load(memory, place, tile.lanes)
}

/// The sums of the digits of the element at `at` of a tile of so many.
fn digits_of(sums: &Sums, at: usize, elements: usize) -> impl Iterator<Item = Value> + use<'_> {
    sums.iter().skip(at).step_by(elements).copied()
}

/// The number of some digits, the lowest first, as a float.
fn whole(b: &mut Builder, cut: Cut, digits: impl Iterator<Item = Value>) -> Value {
    let floats: Vec<Value> = digits.map(|digit| b.convert(digit, Elem::F32)).collect();
    let (lowest, rest) = floats.split_first().expect("a number has digits");
    rest.iter().zip(1..).fold(*lowest, |number, (&float, digit)| {
        let base = b.f32((1 << (cut.bits * digit)) as f32, b.lanes(float));
        b.fma(float, base, number)
    })
}
