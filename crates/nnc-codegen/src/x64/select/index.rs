//! Index arithmetic with constants left over until they are needed.
//!
//! An index is a register and a constant. Sums and products by constants carry the constant along, and an address
//! takes it as its displacement. So the rounds of an unrolled loop, whose counters differ by constants, share their
//! address arithmetic: it is done once, as [`Selector::shared`] finds it again.

use super::Selector;
use super::lanes::Lanes;
use iced_x86::Code;
use nnc_kernel::ir::{BinaryOp, Value};
use regalloc2::VReg;
use std::collections::HashMap;

/// The second operand of a shared computation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Right {
    Register(VReg),
    Number(i64),
}

/// Computations made in an open block.
pub(super) type Known = HashMap<(BinaryOp, VReg, Right), VReg>;

impl Selector<'_> {
    /// An index that is no constant as a register and a constant.
    pub(super) fn split(&self, value: Value) -> (VReg, i64) {
        match &self.values[value.index()] {
            Some(lanes) => (lanes.parts[0], lanes.plus),
            None => unreachable!("{value} is used before it is defined: the kernel was not verified"),
        }
    }

    /// A sum, or a product by a constant, of indices; `None` for all else.
    pub(super) fn index_binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Option<Lanes> {
        let (a, b) = match (op, self.known(a)) {
            (BinaryOp::Add | BinaryOp::Mul, Some(_)) => (b, a),
            _ => (a, b),
        };
        if self.known(a).is_some() {
            return None;
        }
        let (x, first) = self.split(a);
        let known = self.known(b).map(|bits| bits as i64);
        let (register, plus) = match (op, known) {
            (BinaryOp::Add, Some(number)) => (x, first.wrapping_add(number)),
            (BinaryOp::Sub, Some(number)) => (x, first.wrapping_sub(number)),
            (BinaryOp::Add, None) => {
                let (y, second) = self.split(b);
                (self.shared(op, x, Right::Register(y)), first.wrapping_add(second))
            }
            (BinaryOp::Mul, Some(number)) => (self.shared(op, x, Right::Number(number)), first.wrapping_mul(number)),
            _ => return None,
        };
        Some(Lanes { plus, ..Lanes::new(64, vec![register]) })
    }

    /// Runs `body` with computations of its own, which are forgotten after it.
    pub(super) fn scoped<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        self.known_indices.push(Known::new());
        let result = body(self);
        self.known_indices.pop();
        result
    }

    fn shared(&mut self, op: BinaryOp, a: VReg, b: Right) -> VReg {
        let key = (op, a, b);
        if let Some(&value) = self.known_indices.iter().rev().find_map(|known| known.get(&key)) {
            return value;
        }
        let value = match b {
            Right::Register(b) => self.general([Code::Add_r32_rm32, Code::Add_r64_rm64], true, a, b),
            Right::Number(number) => self.multiply_by(a, number),
        };
        if let Some(known) = self.known_indices.last_mut() {
            known.insert(key, value);
        }
        value
    }

    /// `a * number` in 64 bits.
    pub(super) fn multiply_by(&mut self, a: VReg, number: i64) -> VReg {
        if number > 0 && number.count_ones() == 1 {
            let by = number.trailing_zeros() as u8;
            return self.shift_by_number([Code::Shl_rm32_imm8, Code::Shl_rm64_imm8], true, a, by);
        }
        match i32::try_from(number) {
            Ok(number) => self.multiply_by_number(a, number),
            Err(_) => {
                let number = self.load_number(number);
                self.general([Code::Imul_r32_rm32, Code::Imul_r64_rm64], true, a, number)
            }
        }
    }
}
