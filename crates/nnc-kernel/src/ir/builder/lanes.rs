//! Operations across lanes.

use super::Builder;
use crate::ir::statement::{CompareOp, Op, ReduceOp};
use crate::ir::types::{Elem, Type, Value};

/// Lanes.
impl Builder {
    /// The lane numbers.
    pub fn iota(&mut self, ty: Type) -> Value {
        self.define(ty, Op::Iota)
    }

    /// The mask of the first `count` of `lanes` lanes; one for all that ask for the same in one scope.
    pub fn first_lanes(&mut self, count: Value, lanes: u8) -> Value {
        let ty = Type::vector(Elem::I32, lanes);
        let numbers = self.define_once(ty, Op::Iota);
        let count = self.define_once(Type::scalar(Elem::I32), Op::Convert(count));
        let count = if lanes == 1 { count } else { self.define_once(ty, Op::Splat(count)) };
        self.define_once(ty.mask(), Op::Compare(CompareOp::Lt, numbers, count))
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
    /// It takes log2(n) rounds: in general of interleaving rows that lie half the matrix apart.
    pub fn transpose(&mut self, rows: &[Value]) -> Vec<Value> {
        let n = rows.len();
        assert!(n.is_power_of_two() && rows.iter().all(|&row| usize::from(self.lanes(row)) == n), "a square");
        match n {
            8 => return self.transpose_eight(rows),
            16 => return self.transpose_sixteen(rows),
            _ => {}
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

    /// A square of eight as four of four, each transposed within the halves of a register, which then change places:
    /// each shuffle is an instruction of 256-bit vectors.
    fn transpose_eight(&mut self, rows: &[Value]) -> Vec<Value> {
        let upper = self.transpose_in_fours([rows[0], rows[1], rows[2], rows[3]]);
        let lower = self.transpose_in_fours([rows[4], rows[5], rows[6], rows[7]]);
        let halves = [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]];
        let pairs = halves.iter().flat_map(|half| upper.iter().zip(&lower).map(move |pair| (half, pair)));
        pairs.map(|(half, (&upper, &lower))| self.shuffle(upper, lower, half)).collect()
    }

    /// A square of sixteen as sixteen of four, each transposed within a quarter of a register; then quarters change
    /// places, as in a square of four: each shuffle is an instruction of 512-bit vectors.
    fn transpose_sixteen(&mut self, rows: &[Value]) -> Vec<Value> {
        let [a, b, c, d] = [0, 4, 8, 12].map(|at| self.transpose_in_fours([0, 1, 2, 3].map(|row| rows[at + row])));
        let quarters = |[i, j, k, l]: [u8; 4]| -> Vec<u8> {
            [i, j, 4 + k, 4 + l].into_iter().flat_map(|quarter| 4 * quarter..4 * quarter + 4).collect()
        };
        let pairs = [[0, 1, 0, 1], [2, 3, 2, 3]].map(quarters);
        let halves = [[0, 2, 0, 2], [1, 3, 1, 3]].map(quarters);
        let mut turned = Vec::with_capacity(16);
        for pair in &pairs {
            let joined: Vec<[Value; 2]> =
                (0..4).map(|i| [self.shuffle(a[i], b[i], pair), self.shuffle(c[i], d[i], pair)]).collect();
            for half in &halves {
                turned.extend(joined.iter().map(|&[upper, lower]| self.shuffle(upper, lower, half)));
            }
        }
        turned
    }

    /// Transposes the squares that lie side by side in four rows: in each four lanes, lane `j` of result `i` is lane
    /// `i` of row `j`.
    pub fn transpose_in_fours(&mut self, rows: [Value; 4]) -> [Value; 4] {
        let lanes = self.lanes(rows[0]);
        // A pattern of four lanes, two of each operand, in every four.
        let everywhere = |[i, j, k, l]: [u8; 4]| -> Vec<u8> {
            let in_four = |four: u8| [four + i, four + j, lanes + four + k, lanes + four + l];
            (0..lanes).step_by(4).flat_map(in_four).collect()
        };
        let pairs = [[0, 1, 0, 1], [2, 3, 2, 3]].map(everywhere);
        let [even, odd] = [[0, 2, 0, 2], [1, 3, 1, 3]].map(everywhere);
        let [[a, b], [c, d]] = pairs.map(|pattern| {
            let [first, second] = [[0, 1], [2, 3]].map(|[i, j]: [usize; 2]| self.shuffle(rows[i], rows[j], &pattern));
            [&even, &odd].map(|pattern| self.shuffle(first, second, pattern))
        });
        [a, b, c, d]
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
