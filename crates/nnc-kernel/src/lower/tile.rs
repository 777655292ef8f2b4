//! The microkernel of matrix products: a tile of the result in registers.
//!
//! `C[i, j] += Σ_k A[i, k] * B[k, j]` for `rows` rows and `vectors` vectors of columns. Each step of k loads the vectors of B,
//! repeats one element of A for each row, and issues `rows * vectors` fused multiply-adds; the terms of one element of
//! C follow one another in the order of k, whatever the tile. (Goto and van de Geijn, "Anatomy of High-Performance
//! Matrix Multiplication", 2008; Van Zee and van de Geijn, "BLIS", 2015.)

use crate::ir::{Builder, Memory, Type, Value};

/// The size of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// Rows of C.
    pub rows: usize,
    /// Vectors in a row of C.
    pub vectors: usize,
    /// Lanes of a vector.
    pub lanes: u8,
}

impl Tile {
    /// Columns of C.
    pub fn columns(&self) -> usize {
        self.vectors * usize::from(self.lanes)
    }

    /// The tile for a product of so many rows: with 16 registers up to 8 rows by one vector, with 32 by two; fewer rows by
    /// more vectors, so that enough sums are under way to hide the latency of a multiply-add. More than 8 rows are no
    /// faster and need more code. Rows are shared out evenly, since the last tile is as small as what is left.
    pub fn for_rows(rows: usize, lanes: u8, registers: usize) -> Self {
        let wide = registers / 16;
        let vectors = match rows {
            0..=1 => 8,
            2 => 4,
            3..=4 => 2,
            _ => 1,
        };
        Self { rows: rows.div_ceil(rows.div_ceil(MOST_ROWS)).max(1), vectors: vectors * wide, lanes }
    }
}

/// The most rows of a tile.
const MOST_ROWS: usize = 8;
/// The most steps of k that are laid out in line.
const UNROLL: i64 = 8;

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

/// Where the rows of A begin.
#[derive(Clone, Debug)]
pub enum Rows {
    /// The first row, and the distance of rows.
    Even(Value, i64),
    /// Each row by itself.
    Each(Vec<Value>),
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
    descend(b, tile, panels, levels, (zero, zero), accumulators)
}

/// The loops over k that are left, `moved` elements into A and B. The innermost is laid out several steps at a time:
/// a divisor of its length if there is one, else there is a rest.
fn descend(
    b: &mut Builder,
    tile: Tile,
    panels: &Panels,
    levels: &[Level],
    moved: (Value, Value),
    accumulators: Vec<Value>,
) -> Vec<Value> {
    let Some((level, inner)) = levels.split_first() else { return accumulators };
    let (zero, one) = (b.index(0), b.index(1));
    let along = |b: &mut Builder, at: Value| {
        let (along_a, along_b) = (b.mul_index(at, level.a), b.mul_index(at, level.b));
        (b.add(moved.0, along_a), b.add(moved.1, along_b))
    };
    if !inner.is_empty() {
        return b.for_loop(zero, level.count, one, &accumulators, |b, at, sums| {
            let moved = along(b, at);
            descend(b, tile, panels, inner, moved, sums.to_vec())
        });
    }
    let unroll = unroll(b.known_index(level.count));
    let many = b.index(unroll);
    let rest = b.rem(level.count, many);
    let whole = b.sub(level.count, rest);
    let sums = b.for_loop(zero, whole, many, &accumulators, |b, at, sums| {
        let moved = along(b, at);
        let places = Places::new(b, panels, moved);
        (0..unroll).fold(sums.to_vec(), |sums, round| places.step(b, tile, panels, level, round, sums))
    });
    b.for_loop(whole, level.count, one, &sums, |b, at, sums| {
        let moved = along(b, at);
        Places::new(b, panels, moved).step(b, tile, panels, level, 0, sums.to_vec())
    })
}

/// How many steps are laid out in line: all of a short loop, else the largest divisor that is not too small.
fn unroll(count: Option<i64>) -> i64 {
    match count {
        Some(count) if count <= 2 * UNROLL => count.max(1),
        Some(count) => (4..=UNROLL).rev().find(|by| count % by == 0).unwrap_or(UNROLL),
        None => UNROLL,
    }
}

/// Where a step reads: all further offsets are constants.
struct Places {
    columns: Value,
    rows: Vec<Value>,
}

impl Places {
    fn new(b: &mut Builder, panels: &Panels, moved: (Value, Value)) -> Self {
        let columns = b.add(panels.columns, moved.1);
        let rows = match &panels.rows {
            Rows::Even(first, _) => vec![b.add(*first, moved.0)],
            Rows::Each(rows) => rows.iter().map(|&row| b.add(row, moved.0)).collect(),
        };
        Self { columns, rows }
    }

    /// Step `round` of those laid out in line.
    fn step(
        &self,
        b: &mut Builder,
        tile: Tile,
        panels: &Panels,
        level: &Level,
        round: i64,
        mut sums: Vec<Value>,
    ) -> Vec<Value> {
        let mut columns = Vec::new();
        for vector in 0..tile.vectors {
            let place = b.add_index(self.columns, round * level.b + (vector * usize::from(tile.lanes)) as i64);
            columns.push(b.load(panels.b, place, tile.lanes));
        }
        for row in 0..tile.rows {
            let place = match &panels.rows {
                Rows::Even(_, step) => b.add_index(self.rows[0], round * level.a + row as i64 * step),
                Rows::Each(_) => b.add_index(self.rows[row], round * level.a),
            };
            let element = b.load_splat(panels.a, place, tile.lanes);
            for (vector, &column) in columns.iter().enumerate() {
                let sum = &mut sums[row * tile.vectors + vector];
                *sum = multiply_add(b, element, column, *sum);
            }
        }
        sums
    }
}

/// `a * b + c`, for floats rounded once.
pub fn multiply_add(b: &mut Builder, x: Value, y: Value, sum: Value) -> Value {
    if b.type_of(sum).elem.is_float() {
        return b.fma(x, y, sum);
    }
    let product = b.mul(x, y);
    b.add(product, sum)
}

/// Accumulators of value 0.
pub fn zeros(b: &mut Builder, tile: Tile, memory: Memory) -> Vec<Value> {
    let zero = b.zero(Type::vector(memory.elem, tile.lanes));
    vec![zero; tile.rows * tile.vectors]
}

/// A tile that lies in memory from `first` on, rows `stride` apart.
pub fn load(b: &mut Builder, tile: Tile, memory: Memory, first: Value, stride: i64) -> Vec<Value> {
    let mut values = Vec::new();
    for (row, vector) in places(tile) {
        let place = b.add_index(first, row * stride + vector);
        values.push(b.load(memory, place, tile.lanes));
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
