//! Operations across lanes.

use super::Builder;
use crate::ir::statement::{Op, ReduceOp};
use crate::ir::types::{Elem, Type, Value};

/// Lanes.
impl Builder {
    /// The lane numbers.
    pub fn iota(&mut self, ty: Type) -> Value {
        self.define(ty, Op::Iota)
    }

    /// The mask of the first `count` of `lanes` lanes.
    pub fn first_lanes(&mut self, count: Value, lanes: u8) -> Value {
        let numbers = self.iota(Type::vector(Elem::I32, lanes));
        let count = self.convert(count, Elem::I32);
        let count = self.splat(count, lanes);
        self.lt(numbers, count)
    }

    /// A scalar in every one of `lanes` lanes.
    pub fn splat(&mut self, a: Value, lanes: u8) -> Value {
        if self.lanes(a) == lanes {
            return a;
        }
        self.define(self.type_of(a).with_lanes(lanes), Op::Splat(a))
    }

    /// One lane as a scalar.
    pub fn extract(&mut self, a: Value, lane: u8) -> Value {
        if self.lanes(a) == 1 {
            return a;
        }
        self.define(self.type_of(a).with_lanes(1), Op::Extract(a, lane))
    }

    /// `a` with one lane replaced by a scalar.
    pub fn insert(&mut self, a: Value, scalar: Value, lane: u8) -> Value {
        self.define(self.type_of(a), Op::Insert(a, scalar, lane))
    }

    /// Lanes `pattern[i]` of `a` followed by `b`.
    pub fn shuffle(&mut self, a: Value, b: Value, pattern: &[u8]) -> Value {
        let ty = self.type_of(a).with_lanes(pattern.len() as u8);
        self.define(ty, Op::Shuffle(a, b, pattern.into()))
    }

    /// `count` lanes of `a` from lane `start`.
    pub fn slice(&mut self, a: Value, start: u8, count: u8) -> Value {
        if start == 0 && count == self.lanes(a) {
            return a;
        }
        let pattern: Vec<u8> = (start..start + count).collect();
        self.shuffle(a, a, &pattern)
    }

    /// The lanes of `a`, then those of `b`.
    pub fn concat(&mut self, a: Value, b: Value) -> Value {
        let pattern: Vec<u8> = (0..2 * self.lanes(a)).collect();
        self.shuffle(a, b, &pattern)
    }

    /// Transposes `rows`, as many values as each has lanes: lane `j` of result `i` is lane `i` of row `j`.
    /// It takes log2(n) rounds of interleaving rows that lie half the matrix apart.
    pub fn transpose(&mut self, rows: &[Value]) -> Vec<Value> {
        let n = rows.len();
        assert!(n.is_power_of_two() && rows.iter().all(|&row| usize::from(self.lanes(row)) == n), "a square");
        if n == 8 {
            return self.transpose_eight(rows);
        }
        let low: Vec<u8> = (0..n as u8).map(|i| i / 2 + (i % 2) * n as u8).collect();
        let high: Vec<u8> = low.iter().map(|&lane| lane + n as u8 / 2).collect();
        let mut rows = rows.to_vec();
        for _ in 0..n.trailing_zeros() {
            rows = (0..n)
                .map(|i| {
                    let pattern = if i % 2 == 0 { &low } else { &high };
                    self.shuffle(rows[i / 2], rows[i / 2 + n / 2], pattern)
                })
                .collect();
        }
        rows
    }

    /// A square of eight as four of four, each transposed within the halves of a register, which then change places: each
    /// shuffle is an instruction of 256-bit vectors.
    fn transpose_eight(&mut self, rows: &[Value]) -> Vec<Value> {
        // A pattern of four lanes, two of each operand, in both halves.
        let both = |[i, j, k, l]: [u8; 4]| [i, j, 8 + k, 8 + l, 4 + i, 4 + j, 12 + k, 12 + l];
        let (low, high) = (both([0, 1, 0, 1]), both([2, 3, 2, 3]));
        let (even, odd) = (both([0, 2, 0, 2]), both([1, 3, 1, 3]));
        let mut columns = [Vec::new(), Vec::new()];
        for (four, columns) in rows.chunks_exact(4).zip(&mut columns) {
            for half in [&low, &high] {
                let (first, second) = (self.shuffle(four[0], four[1], half), self.shuffle(four[2], four[3], half));
                columns.extend([&even, &odd].map(|pattern| self.shuffle(first, second, pattern)));
            }
        }
        let halves = [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]];
        let pairs = halves.iter().flat_map(|half| columns[0].iter().zip(&columns[1]).map(move |pair| (half, pair)));
        pairs.map(|(half, (&upper, &lower))| self.shuffle(upper, lower, half)).collect()
    }

    /// Lane `indices[i]` of a table value.
    pub fn look_up(&mut self, table: Value, indices: Value) -> Value {
        let ty = self.type_of(table).with_lanes(self.lanes(indices));
        self.define(ty, Op::LookUp(table, indices))
    }

    /// All lanes combined to a scalar, as [`Op::Reduce`] says.
    pub fn reduce(&mut self, op: ReduceOp, a: Value) -> Value {
        if self.lanes(a) == 1 {
            return a;
        }
        self.define(self.type_of(a).with_lanes(1), Op::Reduce(op, a))
    }

    /// [`Op::DotI7`].
    pub fn dot_i7(&mut self, acc: Value, a: Value, b: Value) -> Value {
        self.define(self.type_of(acc), Op::DotI7(acc, a, b))
    }

    /// [`Op::DotI8`].
    pub fn dot_i8(&mut self, acc: Value, a: Value, b: Value) -> Value {
        self.define(self.type_of(acc), Op::DotI8(acc, a, b))
    }

    /// [`Op::DotBf16`].
    pub fn dot_bf16(&mut self, acc: Value, a: Value, b: Value) -> Value {
        self.define(self.type_of(acc), Op::DotBf16(acc, a, b))
    }
}
