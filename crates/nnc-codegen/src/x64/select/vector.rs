//! Arithmetic: floats here, integer vectors in [`super::integer`], integers alone in [`super::scalar`].
//!
//! A float alone is computed as the first lane of a vector; the instruction does the same to lanes that mean nothing.

use super::super::forms::{self, Encoding, Form, Width};
use super::Selector;
use super::assemble::Rm;
use super::lanes::Lanes;
use super::memory::masked_forms;
use nnc_kernel::ir::{BinaryOp, CompareOp, Elem, ReduceOp, Type, UnaryOp, Value, scalar};
use regalloc2::VReg;

/// The form for f32, else that for f64.
pub(super) fn float_form(elem: Elem, single: Form, double: Form) -> Form {
    if elem == Elem::F32 { single } else { double }
}

impl Selector<'_> {
    pub(super) fn unary(&mut self, ty: Type, op: UnaryOp, a: Value) -> Lanes {
        let lanes = self.value(a);
        if Self::is_general(ty) {
            let result = self.scalar_unary(ty.elem, op, lanes.scalar());
            return Lanes::new(lanes.bits, vec![result]);
        }
        if Self::is_mask(ty) {
            return self.not_mask(&lanes);
        }
        let width = self.width(ty);
        if !ty.elem.is_float() {
            return self.integer_unary(ty, op, &lanes);
        }
        let sign = 1u64 << (ty.elem.bits() - 1);
        self.each(&lanes, |s, a| match op {
            UnaryOp::Neg => {
                let sign = s.constant_operand(ty.elem.bits(), sign, width);
                s.three(float_form(ty.elem, forms::PXOR, forms::PXORQ), width, a, sign)
            }
            UnaryOp::Abs => {
                let rest = s.constant_operand(ty.elem.bits(), sign - 1, width);
                s.three(float_form(ty.elem, forms::PAND, forms::PANDQ), width, a, rest)
            }
            UnaryOp::Sqrt => s.two(float_form(ty.elem, forms::SQRTPS, forms::SQRTPD), width, a),
            UnaryOp::Nearest => s.round(ty.elem, width, a, 0),
            UnaryOp::Floor => s.round(ty.elem, width, a, 1),
            UnaryOp::Ceil => s.round(ty.elem, width, a, 2),
            UnaryOp::Trunc => s.round(ty.elem, width, a, 3),
            UnaryOp::Not => unreachable!("refused by the verifier"),
        })
    }

    /// Rounds to an integer: nearest even, down, up, toward zero; inexact is not signalled.
    fn round(&mut self, elem: Elem, width: Width, a: VReg, mode: u8) -> VReg {
        self.two_by_number(float_form(elem, forms::ROUNDPS, forms::ROUNDPD), width, a, 8 | mode)
    }

    pub(super) fn binary(&mut self, ty: Type, op: BinaryOp, a: Value, b: Value) -> Lanes {
        if Self::is_general(ty) {
            return self.scalar_binary_of(ty, op, a, b);
        }
        if Self::is_mask(ty) {
            let (a, b) = (self.value(a), self.value(b));
            let b = self.mask_as(&b, ty.lanes, a.bits);
            return self.mask_binary(op, &a, &b);
        }
        if !ty.elem.is_float() {
            return self.integer_binary(ty, op, a, b);
        }
        let commutes = matches!(op, BinaryOp::Add | BinaryOp::Mul);
        let (a, b) = if commutes && self.known(a).is_some() { (b, a) } else { (a, b) };
        let may_be_nan = self.known(b).is_none_or(|bits| scalar::compare(ty.elem, CompareOp::Ne, bits, bits));
        let left = self.value(a);
        let mut parts = vec![];
        for (at, &left) in left.parts.iter().enumerate() {
            let right = self.operand(b, at);
            parts.push(self.float_binary(ty, op, left, right, may_be_nan));
        }
        Lanes::new(ty.elem.bits(), parts)
    }

    fn float_binary(&mut self, ty: Type, op: BinaryOp, a: VReg, b: Rm, b_may_be_nan: bool) -> VReg {
        let (elem, width) = (ty.elem, self.width(ty));
        let form = match op {
            BinaryOp::Add => float_form(elem, forms::ADDPS, forms::ADDPD),
            BinaryOp::Sub => float_form(elem, forms::SUBPS, forms::SUBPD),
            BinaryOp::Mul => float_form(elem, forms::MULPS, forms::MULPD),
            BinaryOp::Div => float_form(elem, forms::DIVPS, forms::DIVPD),
            BinaryOp::Min | BinaryOp::Max => return self.float_extreme(ty, op, a, b, b_may_be_nan),
            _ => unreachable!("refused by the verifier"),
        };
        self.three(form, width, a, b)
    }

    /// `b if b < a or b is NaN else a`. The instruction `min b, a` gives `b if b < a else a`.
    fn float_extreme(&mut self, ty: Type, op: BinaryOp, a: VReg, b: Rm, b_may_be_nan: bool) -> VReg {
        let (elem, width) = (ty.elem, self.width(ty));
        let form = match op {
            BinaryOp::Min => float_form(elem, forms::MINPS, forms::MINPD),
            _ => float_form(elem, forms::MAXPS, forms::MAXPD),
        };
        let b = self.in_register(b, elem.bits(), width);
        let chosen = self.three(form, width, b, a);
        if !b_may_be_nan {
            return chosen;
        }
        let is_nan = self.compare_floats(elem, width, b, b.into(), UNORDERED);
        self.choose(elem.bits(), width, is_nan, b.into(), chosen)
    }

    /// An operand in a register.
    pub(super) fn in_register(&mut self, operand: Rm, bits: u32, width: Width) -> VReg {
        match operand {
            Rm::Register(register) => register,
            Rm::Memory(place) if place.broadcast => {
                self.broadcast(bits, width, Rm::Memory(super::super::vcode::Place { broadcast: false, ..place }))
            }
            Rm::Memory(place) => self.two(forms::LOAD, width, Rm::Memory(place)),
        }
    }

    /// Operations that work alike on every part, for reductions.
    pub(super) fn plain_binary(&mut self, ty: Type, op: BinaryOp, a: &Lanes, b: &Lanes) -> Lanes {
        if Self::is_general(ty) {
            let result = self.scalar_binary(ty.elem, op, a.scalar(), b.scalar());
            return Lanes::new(a.bits, vec![result]);
        }
        if Self::is_mask(ty) {
            return self.mask_binary(op, a, b);
        }
        let pairs: Vec<(VReg, VReg)> = a.parts.iter().copied().zip(b.parts.iter().copied()).collect();
        let parts = pairs.into_iter().map(|(a, b)| {
            if ty.elem.is_float() {
                self.float_binary(ty, op, a, b.into(), true)
            } else {
                self.integer_part(ty, op, a, b)
            }
        });
        Lanes::new(a.bits, parts.collect())
    }

    /// A comparison of two vector registers: a mask register, or a vector with AVX2.
    pub(super) fn compare_floats(&mut self, elem: Elem, width: Width, a: VReg, b: Rm, predicate: u8) -> VReg {
        let form = float_form(elem, forms::CMPPS, forms::CMPPD);
        match self.encoding {
            Encoding::Evex => self.compare_to_mask(form, width, a, b, predicate),
            Encoding::Vex => self.three_by_number(form, width, a, b, predicate),
        }
    }

    /// `a` where a comparison's result holds, else `b`; lanes of `bits` bits.
    pub(super) fn choose(&mut self, bits: u32, width: Width, mask: VReg, a: Rm, b: VReg) -> VReg {
        if self.encoding == Encoding::Evex {
            let form = match bits {
                8 => forms::PBLENDMB,
                16 => forms::PBLENDMW,
                32 => forms::PBLENDMD,
                _ => forms::PBLENDMQ,
            };
            return self.blend(form, width, mask, b, a);
        }
        self.blend_by_bytes(width, mask, a, b)
    }

    pub(super) fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Lanes {
        let ty = self.phase.type_of(a);
        if Self::is_general(ty) {
            let (a, b) = (self.scalar(a), self.scalar(b));
            return Lanes::new(8, vec![self.scalar_compare(ty.elem, op, a, b)]);
        }
        let width = self.width(ty);
        let left = self.value(a);
        let mut parts = vec![];
        for (at, &left) in left.parts.iter().enumerate() {
            let right = self.operand(b, at);
            parts.push(if ty.elem.is_float() {
                self.compare_floats(ty.elem, width, left, right, predicate(op))
            } else {
                self.compare_integers(ty.elem, width, op, left, right)
            });
        }
        if ty.lanes == 1 {
            let truth = self.bool_of_mask(parts[0]);
            return Lanes::new(8, vec![truth]);
        }
        Lanes::new(ty.elem.bits(), parts)
    }

    pub(super) fn select(&mut self, ty: Type, mask: Value, a: Value, b: Value) -> Lanes {
        let mask_type = self.phase.type_of(mask);
        let mask = self.value(mask);
        if Self::is_general(ty) {
            let (a, b) = (self.scalar(a), self.scalar(b));
            return Lanes::new(ty.elem.bits(), vec![self.scalar_select(mask.scalar(), a, b)]);
        }
        let of_lanes = |s: &mut Self, bits: u32| {
            if mask_type.lanes == 1 {
                let (count, _) = s.layout(ty.lanes, bits);
                let mask = s.mask_of_bool(mask.scalar());
                return Lanes::new(bits, vec![mask; count]);
            }
            s.mask_as(&mask, ty.lanes, bits)
        };
        if Self::is_mask(ty) {
            let (a, b) = (self.value(a), self.value(b));
            let b = self.mask_as(&b, ty.lanes, a.bits);
            let mask = of_lanes(self, a.bits);
            return self.mask_select(&mask, &a, &b);
        }
        let (bits, width) = (ty.elem.bits(), self.width(ty));
        let mask = of_lanes(self, bits);
        if self.encoding == Encoding::Evex && self.known(b) == Some(0) && self.known(a).is_none() {
            let chosen = self.value(a);
            let pairs = mask.parts.iter().zip(&chosen.parts);
            return Lanes::new(bits, pairs.map(|(&mask, &part)| self.keep(bits, width, mask, part)).collect());
        }
        let other = self.value(b);
        let mut parts = vec![];
        for (at, &mask) in mask.parts.iter().enumerate() {
            let chosen = self.operand(a, at);
            parts.push(self.choose(bits, width, mask, chosen, other.parts[at]));
        }
        Lanes::new(bits, parts)
    }

    /// A register's lanes where a mask register holds, 0 elsewhere (AVX-512).
    pub(super) fn keep(&mut self, bits: u32, width: Width, mask: VReg, value: VReg) -> VReg {
        self.two_zeroing(masked_forms(bits).0, width, mask, value)
    }

    /// The sum takes the place of the register that it is added to, or, if that is a constant, of a factor.
    pub(super) fn fma(&mut self, ty: Type, a: Value, b: Value, c: Value) -> Lanes {
        let (elem, width) = (ty.elem, self.width(ty));
        let (a, b) = if self.known(a).is_some() { (b, a) } else { (a, b) };
        let count = self.layout(ty.lanes, elem.bits()).0;
        let mut parts = vec![];
        for at in 0..count {
            let left = self.value(a).parts[at];
            parts.push(if self.known(c).is_some_and(|bits| bits != 0) {
                let (right, sum) = (self.value(b).parts[at], self.operand(c, at));
                self.over(float_form(elem, forms::FMA213PS, forms::FMA213PD), width, left, right, sum)
            } else {
                let (right, sum) = (self.operand(b, at), self.value(c).parts[at]);
                self.over(float_form(elem, forms::FMA231PS, forms::FMA231PD), width, sum, left, right)
            });
        }
        Lanes::new(elem.bits(), parts)
    }

    /// The fixed tree: upper half onto lower half until one lane is left.
    pub(super) fn reduce(&mut self, op: ReduceOp, a: Value) -> Lanes {
        let ty = self.phase.type_of(a);
        let mut lanes = self.value(a);
        if ty.lanes == 1 {
            return lanes;
        }
        if Self::is_mask(ty) {
            let truth = self.reduce_mask(op, &lanes, ty.lanes);
            return Lanes::new(8, vec![truth]);
        }
        while lanes.parts.len() > 1 {
            let upper = Lanes::new(lanes.bits, lanes.parts.split_off(lanes.parts.len() / 2));
            let half = ty.with_lanes((lanes.parts.len() * self.full_width().bytes() / ty.elem.size()) as u8);
            lanes = self.plain_binary(half, op.binary(), &lanes, &upper);
        }
        let size = ty.elem.size();
        let mut bytes = (usize::from(ty.lanes) * size).min(self.full_width().bytes());
        let mut part = lanes.parts[0];
        while bytes > size {
            let width = Width::of(bytes);
            bytes /= 2;
            let upper = self.extract_bytes(part, width, bytes, bytes);
            let half = ty.with_lanes((bytes / size) as u8);
            // A single integer lane still lies in a vector.
            let half = if half.lanes == 1 { half.with_lanes((16 / size) as u8) } else { half };
            let [low, high] = [part, upper].map(|part| Lanes::new(lanes.bits, vec![part]));
            part = self.plain_binary(half, op.binary(), &low, &high).parts[0];
        }
        self.first_lane(part, ty.elem)
    }

    /// Applies `native` to every part.
    pub(super) fn each(&mut self, a: &Lanes, native: impl Fn(&mut Self, VReg) -> VReg) -> Lanes {
        Lanes::new(a.bits, a.parts.iter().map(|&a| native(self, a)).collect())
    }
}

/// Compares true if either is NaN.
pub(super) const UNORDERED: u8 = 3;
/// Compares true if neither is NaN.
pub(super) const ORDERED: u8 = 7;
/// `>=`, false with NaN.
pub(super) const GREATER_EQUAL: u8 = 13;

/// How the instructions number comparisons of floats.
fn predicate(op: CompareOp) -> u8 {
    match op {
        CompareOp::Eq => 0,
        CompareOp::Lt => 1,
        CompareOp::Le => 2,
        CompareOp::Ne => 4,
        CompareOp::Ge => GREATER_EQUAL,
        CompareOp::Gt => 14,
    }
}
