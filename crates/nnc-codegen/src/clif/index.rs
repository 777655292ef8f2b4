//! Index arithmetic with constants left over until they are needed.
//!
//! An index is a native value and a constant. Sums and products by constants carry the constant along, and an address
//! takes it as its displacement. So the rounds of an unrolled loop, whose counters differ by constants, share their
//! address arithmetic: it is done once, as [`Translator::shared`] finds it again.

use super::Translator;
use super::lanes::Lanes;
use cranelift_codegen::ir::{self, InstBuilder};
use nnc_kernel::ir::{BinaryOp, Value};
use std::collections::HashMap;

/// The second operand of a shared computation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Right {
    Value(ir::Value),
    Number(i64),
}

/// Computations made in an open block.
pub(super) type Known = HashMap<(BinaryOp, ir::Value, Right), ir::Value>;

impl Translator<'_, '_> {
    /// An index as a native value and a constant.
    pub(super) fn split(&self, value: Value) -> (ir::Value, i64) {
        match &self.values[value.index()] {
            Some(lanes) => (lanes.parts[0], lanes.plus),
            None => unreachable!("{value} is used before it is defined: the kernel was not verified"),
        }
    }

    /// A sum, or a product by a constant, of indices; `None` for all else.
    pub(super) fn index_binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Option<Lanes> {
        let (x, first) = self.split(a);
        let known = self.known(b).map(|bits| bits as i64);
        let (native, plus) = match (op, known) {
            (BinaryOp::Add, Some(number)) => (x, first.wrapping_add(number)),
            (BinaryOp::Add, None) => {
                let (y, second) = self.split(b);
                (self.shared(op, x, Right::Value(y)), first.wrapping_add(second))
            }
            (BinaryOp::Mul, Some(number)) => (self.shared(op, x, Right::Number(number)), first.wrapping_mul(number)),
            _ => return None,
        };
        Some(Lanes { plus, ..Lanes::new(64, vec![native]) })
    }

    /// Runs `body` with computations of its own, which are forgotten after it.
    pub(super) fn scoped<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        self.known_indices.push(Known::new());
        let result = body(self);
        self.known_indices.pop();
        result
    }

    fn shared(&mut self, op: BinaryOp, a: ir::Value, b: Right) -> ir::Value {
        let key = (op, a, b);
        if let Some(&value) = self.known_indices.iter().rev().find_map(|known| known.get(&key)) {
            return value;
        }
        let value = match b {
            Right::Value(b) => self.b.ins().iadd(a, b),
            Right::Number(number) if number > 0 && number.count_ones() == 1 => {
                self.b.ins().ishl_imm_u(a, i64::from(number.trailing_zeros()))
            }
            Right::Number(number) => self.b.ins().imul_imm_s(a, number),
        };
        if let Some(known) = self.known_indices.last_mut() {
            known.insert(key, value);
        }
        value
    }
}
