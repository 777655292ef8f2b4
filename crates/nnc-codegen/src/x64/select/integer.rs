//! Arithmetic of integer vectors.

use super::super::forms::{self, Encoding, Form, Width};
use super::Selector;
use super::assemble::Rm;
use super::lanes::Lanes;
use super::scalar::{is_power, shift_right};
use nnc_kernel::ir::{BinaryOp, CompareOp, Elem, Type, UnaryOp, Value};
use regalloc2::VReg;

/// Of forms for lanes of 8, 16, 32 and 64 bits the one for an element.
fn by_size(elem: Elem, forms: [Form; 4]) -> Form {
    forms[elem.size().trailing_zeros() as usize]
}

const ADD: [Form; 4] = [forms::PADDB, forms::PADDW, forms::PADDD, forms::PADDQ];
const SUB: [Form; 4] = [forms::PSUBB, forms::PSUBW, forms::PSUBD, forms::PSUBQ];
const ABS: [Form; 4] = [forms::PABSB, forms::PABSW, forms::PABSD, forms::PABSQ];
const MIN: [Form; 4] = [forms::PMINSB, forms::PMINSW, forms::PMINSD, forms::PMINSQ];
const MAX: [Form; 4] = [forms::PMAXSB, forms::PMAXSW, forms::PMAXSD, forms::PMAXSQ];
const EQUAL: [Form; 4] = [forms::PCMPEQB, forms::PCMPEQW, forms::PCMPEQD, forms::PCMPEQQ];
const GREATER: [Form; 4] = [forms::PCMPGTB, forms::PCMPGTW, forms::PCMPGTD, forms::PCMPGTQ];
const COMPARE: [Form; 4] = [forms::PCMPB, forms::PCMPW, forms::PCMPD, forms::PCMPQ];

impl Selector<'_> {
    pub(super) fn integer_unary(&mut self, ty: Type, op: UnaryOp, a: &Lanes) -> Lanes {
        let (elem, width) = (ty.elem, self.width(ty));
        self.each(a, |s, a| match op {
            UnaryOp::Not => s.not_vector(width, a),
            UnaryOp::Abs if elem == Elem::U8 => a,
            UnaryOp::Abs if elem == Elem::I64 && s.encoding == Encoding::Vex => {
                let zero = s.zeros(width);
                let negative = s.three(forms::PSUBQ, width, zero, a);
                let is_negative = s.three(forms::PCMPGTQ, width, zero, a);
                s.blend_by_bytes(width, is_negative, negative.into(), a)
            }
            UnaryOp::Abs => s.two(by_size(elem, ABS), width, a),
            UnaryOp::Neg => {
                let zero = s.zeros(width);
                s.three(by_size(elem, SUB), width, zero, a)
            }
            UnaryOp::Sqrt | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Nearest => {
                unreachable!("refused by the verifier")
            }
        })
    }

    pub(super) fn not_vector(&mut self, width: Width, a: VReg) -> VReg {
        let ones = self.ones(width);
        self.three(forms::PXOR, width, a, ones)
    }

    pub(super) fn integer_binary(&mut self, ty: Type, op: BinaryOp, a: Value, b: Value) -> Lanes {
        let known = self.known(b);
        let left = self.value(a);
        if let (BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar, Some(by)) = (op, known)
            && let Some(lanes) = self.shift_vector(ty, op, &left, by)
        {
            return lanes;
        }
        if let (BinaryOp::Div | BinaryOp::Rem, Some(divisor)) = (op, known)
            && is_power(ty.elem, divisor)
            && let Some(lanes) = self.divide_by_power(ty, op, &left, divisor)
        {
            return lanes;
        }
        let right = self.value(b);
        if self.has_part_form(ty.elem, op) {
            let parts = left.parts.iter().zip(&right.parts).map(|(&a, &b)| self.integer_part(ty, op, a, b));
            return Lanes::new(left.bits, parts.collect());
        }
        self.lane_by_lane(ty, &[(&left, ty), (&right, ty)], |s, lanes| {
            let result = s.scalar_binary(ty.elem, op, lanes[0].scalar(), lanes[1].scalar());
            Lanes::new(ty.elem.bits(), vec![result])
        })
    }

    /// Whether [`Self::integer_part`] does the operation.
    fn has_part_form(&self, elem: Elem, op: BinaryOp) -> bool {
        match op {
            BinaryOp::Div | BinaryOp::Rem => false,
            BinaryOp::Shl | BinaryOp::Shr => {
                elem.bits() >= 32 || (elem.bits() == 16 && self.encoding == Encoding::Evex)
            }
            BinaryOp::Sar => elem.bits() == 32 || (elem.bits() >= 16 && self.encoding == Encoding::Evex),
            _ => true,
        }
    }

    /// An operation on two registers.
    pub(super) fn integer_part(&mut self, ty: Type, op: BinaryOp, a: VReg, b: VReg) -> VReg {
        let (elem, width) = (ty.elem, self.width(ty));
        let form = match op {
            BinaryOp::Add => by_size(elem, ADD),
            BinaryOp::Sub => by_size(elem, SUB),
            BinaryOp::Mul => return self.multiply_part(elem, width, a, b),
            BinaryOp::Min if elem == Elem::U8 => forms::PMINUB,
            BinaryOp::Max if elem == Elem::U8 => forms::PMAXUB,
            BinaryOp::Min | BinaryOp::Max if elem == Elem::I64 && self.encoding == Encoding::Vex => {
                let (greater, less) = if op == BinaryOp::Min { (a, b) } else { (b, a) };
                let takes_b = self.three(forms::PCMPGTQ, width, greater, less);
                return self.blend_by_bytes(width, takes_b, b.into(), a);
            }
            BinaryOp::Min => by_size(elem, MIN),
            BinaryOp::Max => by_size(elem, MAX),
            BinaryOp::And => forms::PAND,
            BinaryOp::Or => forms::POR,
            BinaryOp::Xor => forms::PXOR,
            BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => return self.shift_part(elem, op, width, a, b),
            BinaryOp::Div | BinaryOp::Rem => unreachable!("goes lane by lane"),
        };
        self.three(form, width, a, b)
    }

    fn shift_part(&mut self, elem: Elem, op: BinaryOp, width: Width, a: VReg, b: VReg) -> VReg {
        let mask = self.constant_vector(elem.bits(), u64::from(elem.bits() - 1), width);
        let by = self.three(forms::PAND, width, b, mask);
        let forms = match op {
            BinaryOp::Shl => [forms::PSLLVW, forms::PSLLVW, forms::PSLLVD, forms::PSLLVQ],
            BinaryOp::Shr => [forms::PSRLVW, forms::PSRLVW, forms::PSRLVD, forms::PSRLVQ],
            _ => [forms::PSRAVW, forms::PSRAVW, forms::PSRAVD, forms::PSRAVQ],
        };
        self.three(by_size(elem, forms), width, a, by)
    }

    fn multiply_part(&mut self, elem: Elem, width: Width, a: VReg, b: VReg) -> VReg {
        match elem.bits() {
            8 => {
                // The low halves of products of 16-bit lanes: the even bytes, and the odd ones moved down.
                let even = self.three(forms::PMULLW, width, a, b);
                let low = self.constant_vector(16, 0xff, width);
                let even = self.three(forms::PAND, width, even, low);
                let [a, b] = [a, b].map(|value| self.two_by_number(forms::PSRLW, width, value, 8));
                let odd = self.three(forms::PMULLW, width, a, b);
                let odd = self.two_by_number(forms::PSLLW, width, odd, 8);
                self.three(forms::POR, width, even, odd)
            }
            16 => self.three(forms::PMULLW, width, a, b),
            32 => self.three(forms::PMULLD, width, a, b),
            _ if self.encoding == Encoding::Evex => self.three(forms::PMULLQ, width, a, b),
            _ => {
                let low = self.three(forms::PMULUDQ, width, a, b);
                let [upper_a, upper_b] = [a, b].map(|value| self.two_by_number(forms::PSRLQ, width, value, 32));
                let first = self.three(forms::PMULUDQ, width, upper_a, b);
                let second = self.three(forms::PMULUDQ, width, a, upper_b);
                let cross = self.three(forms::PADDQ, width, first, second);
                let cross = self.two_by_number(forms::PSLLQ, width, cross, 32);
                self.three(forms::PADDQ, width, low, cross)
            }
        }
    }

    /// Shifts by a constant; `None` where there is no instruction.
    fn shift_vector(&mut self, ty: Type, op: BinaryOp, a: &Lanes, by: u64) -> Option<Lanes> {
        let (bits, width) = (ty.elem.bits(), self.width(ty));
        let by = (by & u64::from(bits - 1)) as u8;
        let form = match (op, bits) {
            (BinaryOp::Shl, 16) => forms::PSLLW,
            (BinaryOp::Shl, 32) => forms::PSLLD,
            (BinaryOp::Shl, 64) => forms::PSLLQ,
            (BinaryOp::Shr, 16) => forms::PSRLW,
            (BinaryOp::Shr, 32) => forms::PSRLD,
            (BinaryOp::Shr, 64) => forms::PSRLQ,
            (BinaryOp::Sar, 16) => forms::PSRAW,
            (BinaryOp::Sar, 32) => forms::PSRAD,
            (BinaryOp::Sar, 64) if self.encoding == Encoding::Evex => forms::PSRAQ,
            _ => return None,
        };
        Some(self.each(a, |s, a| s.two_by_number(form, width, a, by)))
    }

    fn divide_by_power(&mut self, ty: Type, op: BinaryOp, a: &Lanes, divisor: u64) -> Option<Lanes> {
        if op == BinaryOp::Div {
            return self.shift_vector(ty, shift_right(ty.elem), a, u64::from(divisor.trailing_zeros()));
        }
        let width = self.width(ty);
        Some(self.each(a, |s, a| {
            let mask = s.constant_vector(ty.elem.bits(), divisor - 1, width);
            s.three(forms::PAND, width, a, mask)
        }))
    }

    /// A mask register, or a vector with AVX2.
    pub(super) fn compare_integers(&mut self, elem: Elem, width: Width, op: CompareOp, a: VReg, b: Rm) -> VReg {
        if self.encoding == Encoding::Evex {
            let number = match op {
                CompareOp::Eq => 0,
                CompareOp::Lt => 1,
                CompareOp::Le => 2,
                CompareOp::Ne => 4,
                CompareOp::Ge => 5,
                CompareOp::Gt => 6,
            };
            let form = if elem == Elem::U8 { forms::PCMPUB } else { by_size(elem, COMPARE) };
            return self.compare_to_mask(form, width, a, b, number);
        }
        let b = self.in_register(b, elem.bits(), width);
        let (negated, equal, a, b) = match op {
            CompareOp::Eq => (false, true, a, b),
            CompareOp::Ne => (true, true, a, b),
            CompareOp::Gt => (false, false, a, b),
            CompareOp::Le => (true, false, a, b),
            CompareOp::Lt => (false, false, b, a),
            CompareOp::Ge => (true, false, b, a),
        };
        let result = if equal {
            self.three(by_size(elem, EQUAL), width, a, b)
        } else {
            // Unsigned bytes are ordered as signed ones when their upper bit is turned.
            let turn = |s: &mut Self, value| {
                let sign = s.constant_operand(8, 0x80, width);
                s.three(forms::PXOR, width, value, sign)
            };
            let (a, b) = if elem == Elem::U8 { (turn(self, a), turn(self, b)) } else { (a, b) };
            self.three(by_size(elem, GREATER), width, a, b)
        };
        if negated { self.not_vector(width, result) } else { result }
    }
}
