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

    /// The tile for vectors of so many lanes: accumulators, one row of B and one element of A fill the registers
    /// (16 of up to 256 bits, 32 of 512 bits).
    pub fn for_lanes(lanes: u8, is_wide: bool) -> Self {
        Self { rows: if is_wide { 12 } else { 6 }, vectors: 2, lanes }
    }
}

/// One loop over k, from the outermost in; strides in elements.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Number of rounds.
    pub count: Value,
    /// Elements of A for each round.
    pub a: i64,
    /// Elements of B for each round.
    pub b: i64,
    /// Rounds laid out in line.
    pub unroll: u8,
}

/// Where the rows of A begin.
#[derive(Clone, Debug)]
pub enum Rows {
    /// The first row, and the distance of rows.
    Even(Value, i64),
    /// Each row by itself.
    Each(Vec<Value>),
}

impl Rows {
    fn starts(&self, b: &mut Builder, count: usize) -> Vec<Value> {
        match self {
            Self::Even(first, step) => (0..count).map(|row| b.add_index(*first, row as i64 * step)).collect(),
            Self::Each(rows) => rows.clone(),
        }
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

/// The loops over k that are left, `moved` elements into A and B.
fn descend(
    b: &mut Builder,
    tile: Tile,
    panels: &Panels,
    levels: &[Level],
    moved: (Value, Value),
    accumulators: Vec<Value>,
) -> Vec<Value> {
    let Some((level, inner)) = levels.split_first() else { return step(b, tile, panels, moved, accumulators) };
    let (start, one) = (b.index(0), b.index(1));
    b.for_unrolled(start, level.count, one, level.unroll, &accumulators, |b, at, accumulators| {
        let (along_a, along_b) = (b.mul_index(at, level.a), b.mul_index(at, level.b));
        let moved = (b.add(moved.0, along_a), b.add(moved.1, along_b));
        descend(b, tile, panels, inner, moved, accumulators.to_vec())
    })
}

/// One step of k.
fn step(
    b: &mut Builder,
    tile: Tile,
    panels: &Panels,
    moved: (Value, Value),
    mut accumulators: Vec<Value>,
) -> Vec<Value> {
    let first = b.add(panels.columns, moved.1);
    let mut columns = Vec::new();
    for vector in 0..tile.vectors {
        let place = b.add_index(first, (vector * usize::from(tile.lanes)) as i64);
        columns.push(b.load(panels.b, place, tile.lanes));
    }
    let rows = match &panels.rows {
        Rows::Even(first, step) => {
            let first = b.add(*first, moved.0);
            Rows::Even(first, *step).starts(b, tile.rows)
        }
        Rows::Each(rows) => rows.iter().map(|&row| b.add(row, moved.0)).collect(),
    };
    for (row, &place) in rows.iter().enumerate() {
        let element = b.load_splat(panels.a, place, tile.lanes);
        for (vector, &column) in columns.iter().enumerate() {
            let sum = &mut accumulators[row * tile.vectors + vector];
            *sum = multiply_add(b, element, column, *sum);
        }
    }
    accumulators
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
