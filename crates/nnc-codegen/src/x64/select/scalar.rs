//! Integers and truth values in general registers.
//!
//! Numbers of 8 and 16 bits are kept extended to 32 ([`Selector::canonical`]), so that 32-bit comparisons order them,
//! the unsigned ones too.

use super::super::vcode::{Draft, Kind, View, general};
use super::Selector;
use super::lanes::Lanes;
use iced_x86::Code;
use nnc_kernel::ir::{BinaryOp, CompareOp, Elem, Type, UnaryOp, Value};
use regalloc2::{Operand, VReg};

const ADD: [Code; 2] = [Code::Add_r32_rm32, Code::Add_r64_rm64];
const SUB: [Code; 2] = [Code::Sub_r32_rm32, Code::Sub_r64_rm64];
const MUL: [Code; 2] = [Code::Imul_r32_rm32, Code::Imul_r64_rm64];
const AND: [Code; 2] = [Code::And_r32_rm32, Code::And_r64_rm64];
const OR: [Code; 2] = [Code::Or_r32_rm32, Code::Or_r64_rm64];
const XOR: [Code; 2] = [Code::Xor_r32_rm32, Code::Xor_r64_rm64];
const NEG: [Code; 2] = [Code::Neg_rm32, Code::Neg_rm64];
const NOT: [Code; 2] = [Code::Not_rm32, Code::Not_rm64];
const SHL: [Code; 2] = [Code::Shl_rm32_imm8, Code::Shl_rm64_imm8];
const SHR: [Code; 2] = [Code::Shr_rm32_imm8, Code::Shr_rm64_imm8];
const SAR: [Code; 2] = [Code::Sar_rm32_imm8, Code::Sar_rm64_imm8];
const SHLX: [Code; 2] = [Code::VEX_Shlx_r32_rm32_r32, Code::VEX_Shlx_r64_rm64_r64];
const SHRX: [Code; 2] = [Code::VEX_Shrx_r32_rm32_r32, Code::VEX_Shrx_r64_rm64_r64];
const SARX: [Code; 2] = [Code::VEX_Sarx_r32_rm32_r32, Code::VEX_Sarx_r64_rm64_r64];
const CMP: [Code; 2] = [Code::Cmp_r32_rm32, Code::Cmp_r64_rm64];
const TEST: [Code; 2] = [Code::Test_rm32_r32, Code::Test_rm64_r64];

impl Selector<'_> {
    /// A number of an element's bits, in a register whose upper part means nothing, extended as scalars are kept.
    pub(super) fn canonical(&mut self, register: VReg, elem: Elem) -> VReg {
        match elem {
            Elem::I8 => self.general_move(Code::Movsx_r32_rm8, View::Double, register, View::Byte),
            Elem::U8 | Elem::Bool => self.general_move(Code::Movzx_r32_rm8, View::Double, register, View::Byte),
            Elem::I16 => self.general_move(Code::Movsx_r32_rm16, View::Double, register, View::Word),
            Elem::F16 | Elem::Bf16 => self.general_move(Code::Movzx_r32_rm16, View::Double, register, View::Word),
            Elem::I32 | Elem::I64 | Elem::F32 | Elem::F64 => register,
        }
    }

    /// Extended by its sign (u8: by zeros) to 64 bits.
    pub(super) fn quad_of(&mut self, register: VReg, elem: Elem) -> VReg {
        match elem {
            Elem::I64 => register,
            _ => self.general_move(Code::Movsxd_r64_rm32, View::Quad, register, View::Double),
        }
    }

    pub(super) fn multiply_by_number(&mut self, a: VReg, number: i32) -> VReg {
        let to = self.code.general();
        let draft = Draft::new(Code::Imul_r64_rm64_imm32).def(to, View::Quad).reads(a, View::Quad);
        self.code.push(draft.extended(number));
        to
    }

    pub(super) fn negate(&mut self, a: VReg) -> VReg {
        self.general_unary(NEG, true, a)
    }

    pub(super) fn scalar_unary(&mut self, elem: Elem, op: UnaryOp, a: VReg) -> VReg {
        let quad = elem == Elem::I64;
        let result = match op {
            UnaryOp::Not if elem == Elem::Bool => {
                let one = self.load_number(1);
                return self.general(XOR, false, a, one);
            }
            UnaryOp::Not => self.general_unary(NOT, quad, a),
            UnaryOp::Abs if elem == Elem::U8 => return a,
            UnaryOp::Abs => {
                let negative = self.general_unary(NEG, quad, a);
                let codes = [Code::Cmovs_r32_rm32, Code::Cmovs_r64_rm64];
                self.general(codes, quad, negative, a)
            }
            UnaryOp::Neg => self.general_unary(NEG, quad, a),
            UnaryOp::Sqrt | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Nearest => {
                unreachable!("refused by the verifier")
            }
        };
        self.canonical(result, elem)
    }

    pub(super) fn scalar_binary(&mut self, elem: Elem, op: BinaryOp, a: VReg, b: VReg) -> VReg {
        let quad = elem == Elem::I64;
        match op {
            BinaryOp::And => self.general(AND, quad, a, b),
            BinaryOp::Or => self.general(OR, quad, a, b),
            BinaryOp::Xor => self.general(XOR, quad, a, b),
            BinaryOp::Min => self.scalar_extreme(quad, a, b, [Code::Cmovg_r32_rm32, Code::Cmovg_r64_rm64]),
            BinaryOp::Max => self.scalar_extreme(quad, a, b, [Code::Cmovl_r32_rm32, Code::Cmovl_r64_rm64]),
            BinaryOp::Div | BinaryOp::Rem => {
                let (a, b) = (self.quad_of(a, elem), self.quad_of(b, elem));
                let result = self.divide(a, b, op);
                self.canonical(result, elem)
            }
            BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => self.scalar_shift(elem, op, a, b),
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => {
                let codes = match op {
                    BinaryOp::Add => ADD,
                    BinaryOp::Sub => SUB,
                    _ => MUL,
                };
                let result = self.general(codes, quad, a, b);
                self.canonical(result, elem)
            }
        }
    }

    /// `b` where comparing `a` with it gives the condition of `codes`, else `a`.
    fn scalar_extreme(&mut self, quad: bool, a: VReg, b: VReg, codes: [Code; 2]) -> VReg {
        self.compare_general(CMP, quad, a, b);
        self.general(codes, quad, a, b)
    }

    /// Sets the flags.
    fn compare_general(&mut self, codes: [Code; 2], quad: bool, a: VReg, b: VReg) {
        let view = if quad { View::Quad } else { View::Double };
        self.code.push(Draft::new(codes[usize::from(quad)]).reads(a, view).reads(b, view));
    }

    fn scalar_shift(&mut self, elem: Elem, op: BinaryOp, a: VReg, b: VReg) -> VReg {
        let quad = elem == Elem::I64;
        let (a, by) = (self.shifted_operand(elem, op, a), self.shift_amount(elem, b));
        let codes = match op {
            BinaryOp::Shl => SHLX,
            BinaryOp::Shr => SHRX,
            _ => SARX,
        };
        let view = if quad { View::Quad } else { View::Double };
        let to = self.code.general();
        self.code.push(Draft::new(codes[usize::from(quad)]).def(to, view).reads(a, view).reads(by, view));
        self.canonical(to, elem)
    }

    /// Shifts by a constant.
    fn shift_by_constant(&mut self, elem: Elem, op: BinaryOp, a: VReg, by: u64) -> VReg {
        let a = self.shifted_operand(elem, op, a);
        let by = (by & u64::from(elem.bits() - 1)) as u8;
        let codes = match op {
            BinaryOp::Shl => SHL,
            BinaryOp::Shr => SHR,
            _ => SAR,
        };
        let result = self.shift_by_number(codes, elem == Elem::I64, a, by);
        self.canonical(result, elem)
    }

    /// Bits that come in from above must be those of the element: zeros, or its sign, whatever its signedness.
    fn shifted_operand(&mut self, elem: Elem, op: BinaryOp, a: VReg) -> VReg {
        match (op, elem) {
            (BinaryOp::Shr, Elem::I8) => self.canonical(a, Elem::U8),
            (BinaryOp::Shr, Elem::I16) => self.canonical(a, Elem::F16),
            (BinaryOp::Sar, Elem::U8) => self.canonical(a, Elem::I8),
            _ => a,
        }
    }

    /// Modulo the element's bits, which the instruction does for 32 and 64.
    fn shift_amount(&mut self, elem: Elem, b: VReg) -> VReg {
        if elem.bits() >= 32 {
            return b;
        }
        let mask = self.load_number(i64::from(elem.bits() - 1));
        self.general(AND, false, b, mask)
    }

    /// `a / b` rounded down or its remainder, in 64 bits; by 0 gives 0.
    fn divide(&mut self, a: VReg, b: VReg, op: BinaryOp) -> VReg {
        // |b + 1| <= 1 (unsigned) exactly for -1 and 0, by which the instruction must not divide.
        let next = self.add_number(b, 1);
        let one = self.load_number(1);
        let zero = self.load_number(0);
        self.compare_general(CMP, true, next, one);
        let safe = self.general([Code::Cmovbe_r32_rm32, Code::Cmovbe_r64_rm64], true, b, one);
        let normal = self.floor_quotient(a, safe, op);
        // By -1 the quotient is -a (b * a), by 0 it is 0 (b * a); the remainder is 0 in both.
        let exceptional = if op == BinaryOp::Div { self.general(MUL, true, a, b) } else { zero };
        self.compare_general(CMP, true, next, one);
        self.general([Code::Cmovbe_r32_rm32, Code::Cmovbe_r64_rm64], true, normal, exceptional)
    }

    /// `floor(a / b)` or its remainder, for `b` neither 0 nor -1.
    fn floor_quotient(&mut self, a: VReg, b: VReg, op: BinaryOp) -> VReg {
        let (quotient, rest) = (self.code.general(), self.code.general());
        let mut draft = Draft::of(Kind::Divide);
        draft = draft.late(b, View::Quad).implicit(Operand::reg_fixed_use(a, general::RAX));
        draft = draft.implicit(Operand::reg_fixed_def(quotient, general::RAX));
        self.code.push(draft.implicit(Operand::reg_fixed_def(rest, general::RDX)));
        // The truncated quotient is one too large if the rest is not 0 and its sign differs from the divisor's.
        let zero = self.load_number(0);
        let adjusted = match op {
            BinaryOp::Div => self.add_number(quotient, -1),
            _ => self.general(ADD, true, rest, b),
        };
        let signs = self.general(XOR, true, rest, b);
        self.compare_general(TEST, true, signs, signs);
        let kept = if op == BinaryOp::Div { quotient } else { rest };
        let chosen = self.general([Code::Cmovs_r32_rm32, Code::Cmovs_r64_rm64], true, kept, adjusted);
        self.compare_general(CMP, true, rest, zero);
        self.general([Code::Cmove_r32_rm32, Code::Cmove_r64_rm64], true, chosen, kept)
    }

    /// `floor(a / divisor)` or its remainder in 64 bits, for a positive constant, by the product with its reciprocal.
    ///
    /// A negative `a` is turned into `-a - 1`, and its quotient back. For `x` below 2^63 and `l` the bits of
    /// `divisor - 1`, `floor(x / divisor)` is the upper part of `x * ceil(2^(63 + l) / divisor)` (T. Granlund and P.
    /// Montgomery, "Division by Invariant Integers using Multiplication", 1994).
    fn divide_by_constant(&mut self, a: VReg, divisor: u64, op: BinaryOp) -> VReg {
        if divisor == 1 {
            return if op == BinaryOp::Div { a } else { self.load_number(0) };
        }
        let bits = u64::BITS - (divisor - 1).leading_zeros();
        let reciprocal = (1u128 << (63 + bits)).div_ceil(u128::from(divisor)) as i64;
        let sign = self.shift_by_number(SAR, true, a, 63);
        let positive = self.general(XOR, true, a, sign);
        let factor = self.load_number(reciprocal);
        let [upper, lower] = [self.code.general(), self.code.general()];
        let product = Draft::new(Code::Mul_rm64).reads(factor, View::Quad);
        let product = product.implicit(Operand::reg_fixed_use(positive, general::RAX));
        let product = product.implicit(Operand::reg_fixed_def(lower, general::RAX));
        self.code.push(product.implicit(Operand::reg_fixed_def(upper, general::RDX)));
        let quotient = self.shift_by_number(SHR, true, upper, bits as u8 - 1);
        let quotient = self.general(XOR, true, quotient, sign);
        if op == BinaryOp::Div {
            return quotient;
        }
        let whole = self.multiply_by(quotient, divisor as i64);
        self.general(SUB, true, a, whole)
    }

    /// Operations on an integer or truth value alone.
    pub(super) fn scalar_binary_of(&mut self, ty: Type, op: BinaryOp, a: Value, b: Value) -> Lanes {
        let elem = ty.elem;
        let left = self.scalar(a);
        let known = self.known(b);
        let power = known.filter(|&divisor| is_power(elem, divisor));
        let result = match (op, known, power) {
            (BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar, Some(by), _) => self.shift_by_constant(elem, op, left, by),
            (BinaryOp::Div, _, Some(divisor)) => {
                self.shift_by_constant(elem, shift_right(elem), left, u64::from(divisor.trailing_zeros()))
            }
            (BinaryOp::Rem, _, Some(divisor)) => {
                let mask = self.load_number(divisor as i64 - 1);
                self.general(AND, elem == Elem::I64, left, mask)
            }
            (BinaryOp::Div | BinaryOp::Rem, Some(divisor), _) if elem == Elem::I64 && divisor as i64 > 0 => {
                self.divide_by_constant(left, divisor, op)
            }
            _ => {
                let right = self.scalar(b);
                self.scalar_binary(elem, op, left, right)
            }
        };
        Lanes::new(elem.bits(), vec![result])
    }

    pub(super) fn scalar_compare(&mut self, elem: Elem, op: CompareOp, a: VReg, b: VReg) -> VReg {
        let code = match op {
            CompareOp::Eq => Code::Sete_rm8,
            CompareOp::Ne => Code::Setne_rm8,
            CompareOp::Lt => Code::Setl_rm8,
            CompareOp::Le => Code::Setle_rm8,
            CompareOp::Gt => Code::Setg_rm8,
            CompareOp::Ge => Code::Setge_rm8,
        };
        self.compare_general(CMP, elem == Elem::I64, a, b);
        let to = self.code.general();
        self.code.push(Draft::new(code).def(to, View::Byte));
        self.canonical(to, Elem::Bool)
    }

    /// `a` if the truth value holds, else `b`, all in general registers.
    pub(super) fn scalar_select(&mut self, condition: VReg, a: VReg, b: VReg) -> VReg {
        self.compare_general(TEST, false, condition, condition);
        self.general([Code::Cmovne_r32_rm32, Code::Cmovne_r64_rm64], true, b, a)
    }
}

/// Whether an integer constant is a power of two that is positive in its type.
pub(super) fn is_power(elem: Elem, number: u64) -> bool {
    number.is_power_of_two() && (elem == Elem::U8 || number < 1 << (elem.bits() - 1))
}

/// The shift that divides by powers of two, rounding down.
pub(super) fn shift_right(elem: Elem) -> BinaryOp {
    if elem.is_signed() { BinaryOp::Sar } else { BinaryOp::Shr }
}
