//! Sums and other reductions along a row, in an order that the row's length alone decides.
//!
//! The row is walked in blocks of 16, then of 4, then one by one. Lane `i` of 16 logical lanes takes element `i` of
//! each block of 16, whatever the width of the machine; 4 further lanes and one scalar take the rest. At the end the 16
//! lanes are combined by a tree of halves, and so are the 4; then the three parts are combined in that order.

use crate::ir::{BinaryOp, Builder, Elem, ReduceOp as LaneOp, Type, Value};
use nnc_graph::ReduceOp;

/// Logical lanes of the main part.
pub const LANES: usize = 16;
/// Lanes of the middle part.
const MIDDLE: usize = 4;

/// A reduction as the kernel computes it: truth values are combined as integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Combine {
    op: ReduceOp,
    elem: Elem,
}

impl Combine {
    /// The reduction `op` of elements of type `elem`.
    pub fn new(op: ReduceOp, elem: Elem) -> Self {
        Self { op, elem: if elem == Elem::Bool { Elem::I32 } else { elem } }
    }

    /// The element that is accumulated.
    pub fn elem(&self) -> Elem {
        self.elem
    }

    /// The value of an empty range.
    pub fn identity(&self, b: &mut Builder, lanes: u8) -> Value {
        let number = match self.op {
            ReduceOp::Sum | ReduceOp::Any => 0.0,
            ReduceOp::Product | ReduceOp::All => 1.0,
            ReduceOp::Max => f64::NEG_INFINITY,
            ReduceOp::Min => f64::INFINITY,
        };
        b.number(Type::vector(self.elem, lanes), number)
    }

    /// What is combined for an element read.
    pub fn enter(&self, b: &mut Builder, value: Value) -> Value {
        b.convert(value, self.elem)
    }

    /// What comes out, as the element `to`.
    pub fn leave(&self, b: &mut Builder, value: Value, to: Elem) -> Value {
        b.convert(value, to)
    }

    fn binary(&self) -> BinaryOp {
        match self.op {
            ReduceOp::Sum => BinaryOp::Add,
            ReduceOp::Product => BinaryOp::Mul,
            ReduceOp::Max => BinaryOp::Max,
            ReduceOp::Min => BinaryOp::Min,
            ReduceOp::Any => BinaryOp::Or,
            ReduceOp::All => BinaryOp::And,
        }
    }

    fn lanes(&self) -> LaneOp {
        match self.op {
            ReduceOp::Sum => LaneOp::Add,
            ReduceOp::Product => LaneOp::Mul,
            ReduceOp::Max => LaneOp::Max,
            ReduceOp::Min => LaneOp::Min,
            ReduceOp::Any => LaneOp::Or,
            ReduceOp::All => LaneOp::And,
        }
    }

    /// A result with any number of further elements, all equal to `more`, if there are any; and whether that is
    /// doubtful.
    pub fn with_equal(&self, b: &mut Builder, result: Value, more: Value, are_there: Value) -> (Value, Value) {
        match self.op {
            ReduceOp::Max | ReduceOp::Min => {
                let all = self.combine(b, result, more);
                (b.select(are_there, all, result), b.bool(false, 1))
            }
            ReduceOp::Sum => {
                let zero = b.zero(b.type_of(more));
                (result, b.ne(more, zero))
            }
            ReduceOp::Product | ReduceOp::Any | ReduceOp::All => (result, b.bool(true, 1)),
        }
    }

    /// Two values combined.
    pub fn combine(&self, b: &mut Builder, x: Value, y: Value) -> Value {
        b.binary(self.binary(), x, y)
    }
}

/// How an axis is walked: numbers of blocks of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts {
    /// Blocks of 16.
    pub main: usize,
    /// Blocks of 4.
    pub middle: usize,
    /// Single elements.
    pub single: usize,
}

impl Parts {
    /// Of an axis of so many elements; one that cannot be vectorised is walked one by one.
    pub fn new(length: usize, vectorises: bool) -> Self {
        if !vectorises {
            return Self { main: 0, middle: 0, single: length };
        }
        Self { main: length / LANES, middle: length % LANES / MIDDLE, single: length % MIDDLE }
    }
}

/// Accumulators of several reductions along one axis.
#[derive(Clone, Debug)]
pub struct Accumulators {
    /// What is computed.
    pub reductions: Vec<Combine>,
    /// How the axis is walked.
    pub parts: Parts,
    /// Lanes of a vector of the machine, at most 16.
    pub lanes: u8,
}

impl Accumulators {
    fn vectors(&self) -> usize {
        if self.parts.main > 0 { LANES / usize::from(self.lanes) } else { 0 }
    }

    /// Number of values that one reduction carries.
    fn stride(&self) -> usize {
        self.vectors() + usize::from(self.parts.middle > 0) + usize::from(self.parts.single > 0)
    }

    /// The values carried, before the first element.
    pub fn initial(&self, b: &mut Builder) -> Vec<Value> {
        let mut values = Vec::new();
        for reduction in &self.reductions {
            for _ in 0..self.vectors() {
                values.push(reduction.identity(b, self.lanes));
            }
            if self.parts.middle > 0 {
                values.push(reduction.identity(b, MIDDLE as u8));
            }
            if self.parts.single > 0 {
                values.push(reduction.identity(b, 1));
            }
        }
        values
    }

    /// Walks the axis once. `element` gives for a position and a number of lanes what each reduction takes in.
    pub fn walk(
        &self,
        b: &mut Builder,
        carried: Vec<Value>,
        mut element: impl FnMut(&mut Builder, Value, u8) -> Vec<Value>,
    ) -> Vec<Value> {
        let Parts { main, middle, single } = self.parts;
        let vectors = self.vectors();
        let mut values = carried;
        let mut from = 0;
        let kinds = [(main, LANES, vectors, 0), (middle, MIDDLE, 1, vectors), (single, 1, 1, self.stride() - 1)];
        for (blocks, block, count, slot) in kinds {
            let to = from + (blocks * block) as i64;
            if blocks > 0 {
                let lanes = if block == LANES { self.lanes } else { block as u8 };
                let (start, end, step) = (b.index(from), b.index(to), b.index(block as i64));
                values = b.for_loop(start, end, step, &values, |b, at, values| {
                    self.block(b, values, (slot, count, lanes), at, &mut element)
                });
            }
            from = to;
        }
        values
    }

    /// Walks a part of the axis that begins at a multiple of 16 (the last may end anywhere). The blocks that follow the
    /// main ones lie at the axis's end, so only the last part has them.
    pub fn walk_range(
        &self,
        b: &mut Builder,
        carried: Vec<Value>,
        (start, end): (Value, Value),
        mut element: impl FnMut(&mut Builder, Value, u8) -> Vec<Value>,
    ) -> Vec<Value> {
        let Parts { main, middle, single } = self.parts;
        let (main_end, middle_end) = (main * LANES, main * LANES + middle * MIDDLE);
        let total = middle_end + single;
        let vectors = self.vectors();
        let kinds = [
            (main, 0, main_end, LANES, vectors, 0),
            (middle, main_end, middle_end, MIDDLE, 1, vectors),
            (single, middle_end, total, 1, 1, self.stride() - 1),
        ];
        let mut values = carried;
        for (blocks, from, to, block, count, slot) in kinds {
            if blocks > 0 {
                let lanes = if block == LANES { self.lanes } else { block as u8 };
                let (from, to, step) = (b.index(from as i64), b.index(to as i64), b.index(block as i64));
                let (from, to) = (b.max(start, from), b.min(end, to));
                values = b.for_loop(from, to, step, &values, |b, at, values| {
                    self.block(b, values, (slot, count, lanes), at, &mut element)
                });
            }
        }
        values
    }

    /// One block at `at`: `count` vectors of `lanes`, accumulated from place `slot` on of each reduction.
    fn block(
        &self,
        b: &mut Builder,
        values: &[Value],
        (slot, count, lanes): (usize, usize, u8),
        at: Value,
        element: &mut impl FnMut(&mut Builder, Value, u8) -> Vec<Value>,
    ) -> Vec<Value> {
        let mut values = values.to_vec();
        for vector in 0..count {
            let position = b.add_index(at, (vector * usize::from(lanes)) as i64);
            let taken = element(b, position, lanes);
            for (number, (reduction, value)) in self.reductions.iter().zip(taken).enumerate() {
                let place = number * self.stride() + slot + vector;
                let value = reduction.enter(b, value);
                values[place] = reduction.combine(b, values[place], value);
            }
        }
        values
    }

    /// The scalar result of each reduction.
    pub fn finish(&self, b: &mut Builder, values: &[Value]) -> Vec<Value> {
        let mut results = Vec::new();
        for (number, reduction) in self.reductions.iter().enumerate() {
            let own = &values[number * self.stride()..(number + 1) * self.stride()];
            let mut parts = Vec::new();
            if self.parts.main > 0 {
                parts.push(self.main_tree(b, reduction, &own[..self.vectors()]));
            }
            if self.parts.middle > 0 {
                parts.push(b.reduce(reduction.lanes(), own[self.vectors()]));
            }
            if self.parts.single > 0 {
                parts.push(own[self.stride() - 1]);
            }
            let first = parts.first().copied().unwrap_or_else(|| reduction.identity(b, 1));
            results.push(parts.iter().skip(1).fold(first, |sum, &part| reduction.combine(b, sum, part)));
        }
        results
    }

    /// The tree of halves over 16 lanes that lie in several vectors.
    fn main_tree(&self, b: &mut Builder, reduction: &Combine, vectors: &[Value]) -> Value {
        let mut vectors = vectors.to_vec();
        while vectors.len() > 1 {
            let half = vectors.len() / 2;
            vectors = (0..half).map(|i| reduction.combine(b, vectors[i], vectors[i + half])).collect();
        }
        b.reduce(reduction.lanes(), vectors[0])
    }
}
