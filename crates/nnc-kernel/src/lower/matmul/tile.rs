//! The microkernel of matrix products: a tile of the result in registers.
//!
//! `C[i, j] += Σ_k A[i, k] * B[k, j]` for `rows` rows and `vectors` vectors of columns. Each step of k loads the
//! vectors of B, repeats one element of A for each row, and issues `rows * vectors` fused multiply-adds; the terms of
//! one element of C follow one another in the order of k, whatever the tile. (Goto and van de Geijn, "Anatomy of
//! High-Performance Matrix Multiplication", 2008; Van Zee and van de Geijn, "BLIS", 2015.)

use super::words::Factors;
use crate::ir::{Builder, Memory, Target, Type, Value};
use std::fmt;

/// The size of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// Rows of C.
    pub rows: usize,
    /// Vectors in a row of C.
    pub vectors: usize,
    /// Lanes of a vector.
    pub lanes: u8,
    /// Lanes of the last vector of a row, a power of two.
    pub last: u8,
    /// What an element of A and B is.
    pub factors: Factors,
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile {} x {}{}", self.rows, self.columns(), self.factors)
    }
}

impl Tile {
    /// Columns of C.
    pub fn columns(&self) -> usize {
        (self.vectors - 1) * usize::from(self.lanes) + usize::from(self.last)
    }

    /// Lanes of a vector of a row.
    fn width(&self, vector: usize) -> u8 {
        if vector + 1 == self.vectors { self.last } else { self.lanes }
    }

    /// The lanes of the vectors that columns are packed in: a row is a whole number of the last of them.
    pub fn widths(&self) -> Vec<u8> {
        if self.vectors == 1 || self.last == self.lanes { vec![self.last] } else { vec![self.lanes, self.last] }
    }

    /// Where one tile is as wide as all columns, the same with a last vector no wider than it must be. That is never
    /// more work, and less on the many cores that multiply 256 bits at a time and take two steps for 512. In rows of
    /// several vectors the narrow one repeats the element of A by itself, which costs nothing where a multiply-add can
    /// do that.
    pub fn narrowed(self, columns: usize, target: Target) -> Self {
        if columns > self.vectors * usize::from(self.lanes) || (self.vectors > 1 && target.f32_lanes < WIDE) {
            return self;
        }
        self.part(columns)
    }

    /// The first `columns` columns of a tile, which has no more in whole vectors.
    pub fn part(self, columns: usize) -> Self {
        let lanes = usize::from(self.lanes);
        let vectors = columns.div_ceil(lanes).max(1);
        let rest = columns - (vectors - 1) * lanes;
        let widths = std::iter::successors(Some(self.lanes), |width| Some(width / 2));
        let last = widths.take_while(|&width| width >= NARROWEST.min(self.lanes) && usize::from(width) >= rest).last();
        Self { vectors, last: last.unwrap_or(self.lanes), ..self }
    }

    /// The tile for a product of so many rows and columns: of those whose sums, vectors of B and repeated element of A
    /// fit into the registers, the one with the least [`Tile::cost`]; the first of equals, so the choice is pure.
    pub fn choose(rows: usize, columns: usize, lanes: u8, target: Target) -> Self {
        Self::choose_for(rows, columns, (lanes, Factors::One), target)
    }

    /// As [`Self::choose`], for elements of several factors.
    pub fn choose_for(rows: usize, columns: usize, (lanes, factors): (u8, Factors), target: Target) -> Self {
        Self::choose_among(rows, columns, (lanes, factors), (target, &|_| true)).0
    }

    /// As [`Self::choose_for`], of those with such numbers of rows, one of them 1; and its cost.
    pub fn choose_among(
        rows: usize,
        columns: usize,
        (lanes, factors): (u8, Factors),
        (target, fits): (Target, &dyn Fn(usize) -> bool),
    ) -> (Self, f64) {
        let of_one_row = (Self { rows: 1, vectors: 1, lanes, last: lanes, factors }, f64::INFINITY);
        let candidates = Self::candidates(rows, columns, (lanes, factors), (target, fits));
        candidates.fold(of_one_row, |least, candidate| if candidate.1 < least.1 { candidate } else { least })
    }

    /// The tiles that [`Self::choose_among`] looks at, the one of least cost first, each with its cost.
    pub fn ranked_among(
        rows: usize,
        columns: usize,
        (lanes, factors): (u8, Factors),
        (target, fits): (Target, &dyn Fn(usize) -> bool),
    ) -> Vec<(Self, f64)> {
        let mut ranked: Vec<_> = Self::candidates(rows, columns, (lanes, factors), (target, fits)).collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        ranked
    }

    /// The tiles whose sums, vectors of B and repeated element of A fit into the registers, with their costs.
    fn candidates(
        rows: usize,
        columns: usize,
        (lanes, factors): (u8, Factors),
        (target, fits): (Target, &dyn Fn(usize) -> bool),
    ) -> impl Iterator<Item = (Self, f64)> {
        let registers = target.registers();
        // A multiply-add of 128 bits overwrites a factor, so the repeated element takes no register of its own, but a
        // second vector of B costs a copy of it (see the notes in `crate::ir`).
        let narrow = target.f32_lanes == 4;
        let most = if narrow { 8 } else { registers };
        let working = factors.working(target);
        let sizes = (1..=MOST_VECTORS)
            .flat_map(move |vectors| (1..=most.min(rows.max(1))).map(move |rows_of_tile| (rows_of_tile, vectors)));
        sizes
            .filter(move |&(rows_of_tile, vectors)| {
                let sums = rows_of_tile * vectors;
                fits(rows_of_tile) && sums + vectors + working <= registers && !(narrow && vectors > 1 && sums > 8)
            })
            .map(move |(rows_of_tile, vectors)| {
                let candidate = Self { rows: rows_of_tile, vectors, lanes, last: lanes, factors };
                (candidate, candidate.cost(rows, columns, narrow))
            })
    }

    /// Cycles for one step of k over the whole product, in halves.
    fn cost(&self, rows: usize, columns: usize, narrow: bool) -> f64 {
        let lanes = usize::from(self.lanes);
        let (down, rest_rows) = (rows / self.rows, rows % self.rows);
        let (across, rest_columns) = (columns / self.columns(), columns % self.columns());
        let rest_vectors = rest_columns.div_ceil(lanes);
        let line = |rows: usize| across as f64 * step(rows, self.vectors, narrow) + step(rows, rest_vectors, narrow);
        down as f64 * line(self.rows) + line(rest_rows)
    }

    /// The time of a tile of fewer rows, as a share of that of this one.
    pub fn share(&self, rows: usize) -> f64 {
        step(rows, self.vectors, false) / step(self.rows, self.vectors, false)
    }
}

/// Cycles for one step of k of a tile, in halves: two multiply-adds and two loads each cycle, and no tile faster than
/// the latency of the multiply-adds that follow one another in a sum.
fn step(rows: usize, vectors: usize, narrow: bool) -> f64 {
    if rows * vectors == 0 {
        return 0.0;
    }
    let copies = if narrow { rows * (vectors - 1) } else { 0 };
    let issued = (rows * vectors).max(rows + vectors) + copies;
    // Tiles near the latency bound have nothing to hide a cache miss behind.
    (issued as f64).max(LATENCY) + TILE_OVERHEAD
}

/// The fewest columns that fill the narrowest tile that is as good as a full one.
pub fn fewest_columns(lanes: u8, target: Target) -> usize {
    usize::from(if target.f32_lanes < WIDE { lanes } else { lanes / 2 })
}

/// The most rows of A that a tile reads where they lie, with so many bytes from one to the next. Rows a multiple of
/// 4096 bytes apart all share the same lines of a first cache of 64 sets, which has eight ways at least; some are left
/// to B.
pub fn most_rows(bytes: usize) -> usize {
    if bytes > 0 && bytes.is_multiple_of(4096) { 6 } else { usize::MAX }
}

/// The lanes of vectors whose multiply-adds repeat an element of memory to all lanes, and that many cores work on by
/// halves.
const WIDE: u8 = 16;
/// The fewest lanes of a vector of a tile.
const NARROWEST: u8 = 4;
/// The most vectors in a row of a tile.
const MOST_VECTORS: usize = 8;
/// Half cycles from a multiply-add to the next that takes its result: four cycles on Zen and recent Intel cores.
const LATENCY: f64 = 8.0;
/// Half cycles for what surrounds a tile, shared out over the steps of k.
const TILE_OVERHEAD: f64 = 0.7;
/// Bytes of a line of the caches.
const LINE: i64 = 64;
/// The most steps of k that are laid out in line.
const UNROLL: i64 = 8;
/// Multiply-adds that are laid out in line, about.
const UNROLLED_PRODUCTS: i64 = 64;

/// One loop over k, from the outermost in; strides in elements.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Number of rounds.
    pub count: Value,
    /// Elements of A for each round.
    pub a: i64,
    /// Elements of B for each round.
    pub b: i64,
}

/// How far apart rows lie that are windows of an image, line after line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spacing {
    /// Windows in a line.
    pub across: usize,
    /// Elements from window to window.
    pub column: i64,
    /// Elements from line to line.
    pub line: i64,
}

impl Spacing {
    /// Elements from the first row of a tile, which begins a line unless it lies within one, to another.
    pub fn offset(&self, row: usize) -> i64 {
        (row / self.across) as i64 * self.line + (row % self.across) as i64 * self.column
    }
}

/// Where the rows of A begin.
#[derive(Clone, Debug)]
pub enum Rows {
    /// The first row, and the distance of rows.
    Even(Value, i64),
    /// The first row, and how the others lie.
    Lines(Value, Spacing),
    /// Each row by itself.
    Each(Vec<Value>),
}

/// What of B is asked for while a tile multiplies, so that it is near when its turn comes.
#[derive(Clone, Copy, Debug)]
pub enum Ahead {
    /// A part of a packed panel.
    Panel(Share),
    /// Of each term, the columns of the tile that follows: its rows come from memory.
    Columns,
}

/// What a tile asks for of a packed panel.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The first element that this tile asks for.
    pub start: Value,
    /// So many elements from there on are asked for
    pub share: i64,
    /// while the tile goes through so many: those of one term.
    pub term: i64,
}

impl Share {
    /// Elements that are asked for while a tile goes through some whole terms of B.
    fn elements(&self, passed: i64) -> i64 {
        passed / self.term * self.share
    }
}

/// The operands of a tile.
#[derive(Clone, Debug)]
pub struct Panels {
    /// Memory of A.
    pub a: Memory,
    /// Its rows.
    pub rows: Rows,
    /// Memory of B.
    pub b: Memory,
    /// The first element of B; columns lie side by side.
    pub columns: Value,
    /// How many columns may be read.
    pub width: usize,
    /// What is asked for meanwhile.
    pub ahead: Option<Ahead>,
}

impl Panels {
    /// The part of a panel that is asked for.
    fn share(&self) -> Option<Share> {
        match self.ahead {
            Some(Ahead::Panel(share)) => Some(share),
            Some(Ahead::Columns) | None => None,
        }
    }

    /// Elements of a line of a cache.
    fn line(&self) -> i64 {
        LINE / self.b.elem.size() as i64
    }

    /// Asks for the line that is a tile's columns behind a vector of B, if they come from memory: between the loads, as
    /// they wait when many are asked for at once.
    fn ask_beside(&self, b: &mut Builder, tile: Tile, vector: usize, place: Value) {
        let first = vector as i64 * i64::from(tile.lanes);
        if let Some(Ahead::Columns) = self.ahead
            && first % self.line() == 0
        {
            let behind = (tile.columns() as i64 + self.line() - 1) / self.line() * self.line();
            let place = b.add_index(place, behind);
            b.prefetch(self.b, place);
        }
    }

    /// A vector of B, which begins at `place`.
    fn column(&self, b: &mut Builder, tile: Tile, vector: usize, place: Value) -> Value {
        let lanes = tile.width(vector);
        let left = self.width - vector * usize::from(tile.lanes);
        if left >= usize::from(lanes) {
            return b.load(self.b, place, lanes);
        }
        let left = b.index(left as i64);
        let mask = b.first_lanes(left, lanes);
        b.load_masked(self.b, place, mask)
    }
}

/// Adds the products to `accumulators`, which are in row-major order, and gives their new values.
pub fn multiply(
    b: &mut Builder,
    tile: Tile,
    panels: &Panels,
    levels: &[Level],
    accumulators: Vec<Value>,
) -> Vec<Value> {
    let zero = b.index(0);
    descend(b, tile, panels, levels, Moved { a: zero, b: zero, asked: zero }, accumulators)
}

/// Elements into A, into B, and into what is asked for.
#[derive(Clone, Copy)]
struct Moved {
    a: Value,
    b: Value,
    asked: Value,
}

/// The loops over k that are left, `moved` elements into A and B. The innermost is laid out several steps at a time:
/// a divisor of its length if there is one, else there is a rest.
fn descend(
    b: &mut Builder,
    tile: Tile,
    panels: &Panels,
    levels: &[Level],
    moved: Moved,
    accumulators: Vec<Value>,
) -> Vec<Value> {
    let Some((level, inner)) = levels.split_first() else { return accumulators };
    let (zero, one) = (b.index(0), b.index(1));
    let along = |b: &mut Builder, at: Value| {
        let (along_a, along_b) = (b.mul_index(at, level.a), b.mul_index(at, level.b));
        let along_asked = b.mul_index(at, panels.share().map_or(0, |share| share.elements(level.b)));
        Moved { a: b.add(moved.a, along_a), b: b.add(moved.b, along_b), asked: b.add(moved.asked, along_asked) }
    };
    if let Some(offsets) = offsets_in_line(b, levels, tile) {
        let places = Places::new(b, panels, moved);
        let step = |sums, &offset: &(i64, i64)| places.step(b, tile, panels, offset, sums);
        return offsets.iter().fold(accumulators, step);
    }
    if !inner.is_empty() {
        return b.for_loop(zero, level.count, one, &accumulators, |b, at, sums| {
            let moved = along(b, at);
            descend(b, tile, panels, inner, moved, sums.to_vec())
        });
    }
    let unroll = unroll(b.known_index(level.count), tile);
    let many = b.index(unroll);
    let rest = b.rem(level.count, many);
    let whole = b.sub(level.count, rest);
    let sums = b.for_loop(zero, whole, many, &accumulators, |b, at, sums| {
        let moved = along(b, at);
        let places = Places::new(b, panels, moved);
        (0..unroll).fold(sums.to_vec(), |sums, round| {
            places.ask(b, panels, (level.b, round));
            places.step(b, tile, panels, (round * level.a, round * level.b), sums)
        })
    });
    b.for_loop(whole, level.count, one, &sums, |b, at, sums| {
        let moved = along(b, at);
        Places::new(b, panels, moved).step(b, tile, panels, (0, 0), sums.to_vec())
    })
}

/// The elements of A and B that each step of nested short loops is on, in order, if all fit in line: the taps of a
/// convolution.
fn offsets_in_line(b: &Builder, levels: &[Level], tile: Tile) -> Option<Vec<(i64, i64)>> {
    let counts: Option<Vec<i64>> = levels.iter().map(|level| b.known_index(level.count)).collect();
    let steps: i64 = counts.as_ref()?.iter().product();
    if levels.len() < 2 || steps * (tile.rows * tile.vectors) as i64 > 2 * UNROLLED_PRODUCTS {
        return None;
    }
    let mut offsets = vec![(0, 0)];
    for (level, count) in levels.iter().zip(counts?) {
        offsets = offsets
            .iter()
            .flat_map(|&(a, b)| (0..count).map(move |round| (a + round * level.a, b + round * level.b)))
            .collect();
    }
    Some(offsets)
}

/// How many steps are laid out in line: all of a short loop, else the largest divisor that is not too small. Large
/// tiles have work enough in fewer.
fn unroll(count: Option<i64>, tile: Tile) -> i64 {
    let most = (UNROLLED_PRODUCTS / (tile.rows * tile.vectors) as i64).clamp(4, UNROLL);
    match count {
        Some(count) if count <= 2 * most => count.max(1),
        Some(count) => (3..=most).rev().find(|by| count % by == 0).unwrap_or(most),
        None => most,
    }
}

/// Where a step reads: all further offsets are constants.
struct Places {
    columns: Value,
    rows: Vec<Value>,
    asked: Option<Value>,
}

impl Places {
    fn new(b: &mut Builder, panels: &Panels, moved: Moved) -> Self {
        let columns = b.add(panels.columns, moved.b);
        let rows = match &panels.rows {
            Rows::Even(first, _) | Rows::Lines(first, _) => vec![b.add(*first, moved.a)],
            Rows::Each(rows) => rows.iter().map(|&row| b.add(row, moved.a)).collect(),
        };
        let asked = panels.share().map(|share| b.add(share.start, moved.asked));
        Self { columns, rows, asked }
    }

    /// Asks for what a tile is to ask for in a round of the innermost loop, whose rounds go through so many elements of
    /// B.
    fn ask(&self, b: &mut Builder, panels: &Panels, (step, round): (i64, i64)) {
        let (Some(share), Some(asked)) = (panels.share(), self.asked) else { return };
        let line = panels.line();
        let lines = |rounds: i64| (rounds * share.elements(step) + line - 1) / line;
        for at in lines(round)..lines(round + 1) {
            let place = b.add_index(asked, at * line);
            b.prefetch(panels.b, place);
        }
    }

    /// A step so many elements of A and B on.
    fn step(
        &self,
        b: &mut Builder,
        tile: Tile,
        panels: &Panels,
        (on_a, on_b): (i64, i64),
        mut sums: Vec<Value>,
    ) -> Vec<Value> {
        let mut columns = Vec::new();
        for vector in 0..tile.vectors {
            let place = b.add_index(self.columns, on_b + (vector * usize::from(tile.lanes)) as i64);
            columns.push(panels.column(b, tile, vector, place));
            panels.ask_beside(b, tile, vector, place);
        }
        for row in 0..tile.rows {
            let place = match &panels.rows {
                Rows::Even(_, step) => b.add_index(self.rows[0], on_a + row as i64 * step),
                Rows::Lines(_, spacing) => b.add_index(self.rows[0], on_a + spacing.offset(row)),
                Rows::Each(_) => b.add_index(self.rows[row], on_a),
            };
            let mut element = b.load_splat(panels.a, place, tile.width(0));
            for (vector, &column) in columns.iter().enumerate() {
                if b.lanes(element) != tile.width(vector) {
                    element = b.load_splat(panels.a, place, tile.width(vector));
                }
                let sum = &mut sums[row * tile.vectors + vector];
                *sum = tile.factors.multiply_add(b, element, column, *sum);
            }
        }
        sums
    }
}

/// Accumulators of value 0.
pub fn zeros(b: &mut Builder, tile: Tile, memory: Memory) -> Vec<Value> {
    let row: Vec<Value> =
        (0..tile.vectors).map(|vector| b.zero(Type::vector(memory.elem, tile.width(vector)))).collect();
    row.repeat(tile.rows)
}

/// A tile that lies in memory from `first` on, rows `stride` apart.
pub fn load(b: &mut Builder, tile: Tile, memory: Memory, first: Value, stride: i64) -> Vec<Value> {
    let mut values = Vec::new();
    for (number, (row, column)) in places(tile).enumerate() {
        let place = b.add_index(first, row * stride + column);
        values.push(b.load(memory, place, tile.width(number % tile.vectors)));
    }
    values
}

/// Writes a tile to memory from `first` on, rows `stride` apart.
pub fn store(b: &mut Builder, tile: Tile, memory: Memory, first: Value, stride: i64, values: &[Value]) {
    for ((row, vector), &value) in places(tile).zip(values) {
        let place = b.add_index(first, row * stride + vector);
        b.store(memory, place, value);
    }
}

/// Row, and first column of the vector, of each accumulator.
pub fn places(tile: Tile) -> impl Iterator<Item = (i64, i64)> {
    let lanes = i64::from(tile.lanes);
    (0..tile.rows as i64).flat_map(move |row| (0..tile.vectors as i64).map(move |vector| (row, vector * lanes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rows: usize, columns: usize, f32_lanes: u8) -> (usize, usize) {
        let tile = Tile::choose(rows, columns, f32_lanes, Target::new(f32_lanes));
        (tile.rows, tile.vectors)
    }

    /// The sums hide the latency of the multiply-adds, and with the vectors of B and an element of A they fit.
    #[test]
    fn tiles_of_large_products_fill_the_registers() {
        for (rows, columns) in [(1024, 1024), (1000, 513), (64, 3136), (128, 784), (256, 196), (512, 49), (64, 512)] {
            for (lanes, registers, least) in [(8, 16, 10), (16, 32, 20)] {
                let (down, across) = chosen(rows, columns, lanes);
                let used = down * across + across + 1;
                assert!(used <= registers && down * across >= least, "{rows}x{columns}: {down}x{across}");
            }
        }
    }

    /// The last vector is the narrowest that holds what is left, and nothing of a full tile changes.
    #[test]
    fn the_last_vector_is_narrow() {
        let shape = |columns: usize, lanes: u8| {
            let target = Target::new(lanes);
            let tile = Tile::choose(100, columns, lanes, target).narrowed(columns, target);
            (tile.vectors, tile.last, tile.columns())
        };
        assert_eq!(shape(8, 16), (1, 8, 8));
        assert_eq!(shape(3, 16), (1, 4, 4));
        assert_eq!(shape(9, 16), (1, 16, 16));
        assert_eq!(shape(24, 16), (2, 8, 24));
        assert_eq!(shape(40, 16), (3, 8, 40));
        assert_eq!(shape(32, 16), (2, 16, 32));
        assert_eq!(shape(4, 8), (1, 4, 4));
        // A vector of 256 bits is no more work than one of 128, which would need its own element of A.
        assert_eq!(shape(12, 8), (2, 8, 16));
        assert_eq!(shape(3, 4), (1, 4, 4));
        let tile = Tile::choose(100, 1000, 16, Target::new(16));
        assert_eq!(tile.part(2 * 16 + 5), Tile { vectors: 3, last: 8, ..tile });
        assert_eq!(tile.part(tile.columns()), tile);
    }
}
