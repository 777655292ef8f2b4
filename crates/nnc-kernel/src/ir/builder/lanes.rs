//! Operations across lanes.

use super::Builder;
use crate::ir::statement::{Op, ReduceOp};
use crate::ir::types::{Type, Value};

/// Lanes.
impl Builder {
    /// The lane numbers.
    pub fn iota(&mut self, ty: Type) -> Value {
        self.define(ty, Op::Iota)
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
