//! Arithmetic, comparisons and selection, part by part; lane by lane where no vector instruction serves.

use super::Translator;
use super::lanes::{Lanes, scalar_type};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, types};
use nnc_kernel::ir::{BinaryOp, CompareOp, Elem, ReduceOp, Type, UnaryOp, Value};

impl Translator<'_, '_> {
    pub(super) fn unary(&mut self, ty: Type, op: UnaryOp, a: Value) -> Lanes {
        let a = self.value(a);
        let float = ty.elem.is_float();
        self.each(&a, |t, a| match op {
            UnaryOp::Neg if float => t.b.ins().fneg(a),
            UnaryOp::Neg => t.b.ins().ineg(a),
            UnaryOp::Abs if float => t.b.ins().fabs(a),
            UnaryOp::Abs if ty.elem == Elem::U8 => a,
            UnaryOp::Abs => t.b.ins().iabs(a),
            UnaryOp::Sqrt => t.b.ins().sqrt(a),
            UnaryOp::Floor => t.b.ins().floor(a),
            UnaryOp::Ceil => t.b.ins().ceil(a),
            UnaryOp::Trunc => t.b.ins().trunc(a),
            UnaryOp::Nearest => t.b.ins().nearest(a),
            UnaryOp::Not if ty == Type::BOOL => t.b.ins().bxor_imm_u(a, 1),
            UnaryOp::Not => t.b.ins().bnot(a),
        })
    }

    pub(super) fn binary(&mut self, ty: Type, op: BinaryOp, a: Value, b: Value) -> Lanes {
        let known = self.known(b);
        match op {
            BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => self.shift(ty, op, a, b),
            BinaryOp::Div | BinaryOp::Rem if !ty.elem.is_float() => self.divide(ty, op, a, b),
            BinaryOp::Min | BinaryOp::Max if ty.elem.is_float() => {
                let may_be_nan = known.is_none_or(|bits| is_nan(ty.elem, bits));
                let (a, b) = (self.value(a), self.value(b));
                self.float_extreme(op, &a, &b, may_be_nan)
            }
            _ => {
                let (a, b) = (self.value(a), self.value(b));
                let b = if ty.elem == Elem::Bool && ty.lanes > 1 { self.mask_as(&b, ty.lanes, a.bits) } else { b };
                self.plain_binary(ty, op, &a, &b)
            }
        }
    }

    /// Operations that work alike on every part, shifts and divisions aside.
    pub(super) fn plain_binary(&mut self, ty: Type, op: BinaryOp, a: &Lanes, b: &Lanes) -> Lanes {
        if ty.elem.is_float() && matches!(op, BinaryOp::Min | BinaryOp::Max) {
            return self.float_extreme(op, a, b, true);
        }
        self.each_pair(a, b, |t, a, b| t.native_binary(ty, op, a, b))
    }

    fn native_binary(&mut self, ty: Type, op: BinaryOp, a: ir::Value, b: ir::Value) -> ir::Value {
        let float = ty.elem.is_float();
        match op {
            BinaryOp::Add if float => self.b.ins().fadd(a, b),
            BinaryOp::Add => self.b.ins().iadd(a, b),
            BinaryOp::Sub if float => self.b.ins().fsub(a, b),
            BinaryOp::Sub => self.b.ins().isub(a, b),
            BinaryOp::Mul if float => self.b.ins().fmul(a, b),
            BinaryOp::Mul if self.b.func.dfg.value_type(a) == types::I8X16 => self.multiply_bytes(a, b),
            BinaryOp::Mul => self.b.ins().imul(a, b),
            BinaryOp::Div => self.b.ins().fdiv(a, b),
            BinaryOp::Min | BinaryOp::Max => self.integer_extreme(ty, op, a, b),
            BinaryOp::And => self.b.ins().band(a, b),
            BinaryOp::Or => self.b.ins().bor(a, b),
            BinaryOp::Xor => self.b.ins().bxor(a, b),
            BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => {
                unreachable!("shifts and remainders have their own translation")
            }
        }
    }

    /// There is no product of byte lanes: it is the low half of that of 16-bit lanes.
    fn multiply_bytes(&mut self, a: ir::Value, b: ir::Value) -> ir::Value {
        let (a_low, b_low) = (self.b.ins().uwiden_low(a), self.b.ins().uwiden_low(b));
        let (a_high, b_high) = (self.b.ins().uwiden_high(a), self.b.ins().uwiden_high(b));
        let (low, high) = (self.b.ins().imul(a_low, b_low), self.b.ins().imul(a_high, b_high));
        let byte = self.splat_bits(16, 0xff);
        let (low, high) = (self.b.ins().band(low, byte), self.b.ins().band(high, byte));
        self.b.ins().unarrow(low, high)
    }

    fn integer_extreme(&mut self, ty: Type, op: BinaryOp, a: ir::Value, b: ir::Value) -> ir::Value {
        let least = op == BinaryOp::Min;
        if self.b.func.dfg.value_type(a) == types::I64X2 {
            let cc = if least { IntCC::SignedLessThan } else { IntCC::SignedGreaterThan };
            let mask = self.b.ins().icmp(cc, a, b);
            return self.b.ins().bitselect(mask, a, b);
        }
        match (ty.elem.is_signed(), least) {
            (true, true) => self.b.ins().smin(a, b),
            (true, false) => self.b.ins().smax(a, b),
            (false, true) => self.b.ins().umin(a, b),
            (false, false) => self.b.ins().umax(a, b),
        }
    }

    /// `b if b < a or b is NaN else a`. The first choice is x86's `minps b, a` in just this form.
    fn float_extreme(&mut self, op: BinaryOp, a: &Lanes, b: &Lanes, b_may_be_nan: bool) -> Lanes {
        self.each_pair(a, b, |t, a, b| {
            let less = if op == BinaryOp::Min { (b, a) } else { (a, b) };
            let condition = t.b.ins().fcmp(FloatCC::LessThan, less.0, less.1);
            let chosen = t.native_select(condition, b, a);
            if !b_may_be_nan {
                return chosen;
            }
            let is_nan = t.b.ins().fcmp(FloatCC::Unordered, b, b);
            t.native_select(is_nan, b, chosen)
        })
    }

    /// Selects by a condition that a native comparison of values like `a` gave.
    fn native_select(&mut self, condition: ir::Value, a: ir::Value, b: ir::Value) -> ir::Value {
        let ty = self.b.func.dfg.value_type(a);
        if !ty.is_vector() {
            return self.b.ins().select(condition, a, b);
        }
        let condition = self.cast(condition, ty);
        self.b.ins().bitselect(condition, a, b)
    }

    fn shift(&mut self, ty: Type, op: BinaryOp, a: Value, b: Value) -> Lanes {
        let (left, right) = (self.value(a), self.value(b));
        let native = |t: &mut Self, a, by| match op {
            BinaryOp::Shl => t.b.ins().ishl(a, by),
            BinaryOp::Shr => t.b.ins().ushr(a, by),
            _ => t.b.ins().sshr(a, by),
        };
        if let Some(by) = self.known(b) {
            let by = (by & u64::from(ty.elem.bits() - 1)) as i64;
            let by = self.b.ins().iconst(types::I32, by);
            return self.each(&left, |t, a| native(t, a, by));
        }
        self.lane_by_lane(ty, &[(&left, ty), (&right, ty)], |t, lanes| native(t, lanes[0], lanes[1]))
    }

    fn divide(&mut self, ty: Type, op: BinaryOp, a: Value, b: Value) -> Lanes {
        let (left, right) = (self.value(a), self.value(b));
        if let Some(divisor) = self.known(b)
            && divisor.is_power_of_two()
            && (ty.elem.bits() == 64 || divisor < 1 << (ty.elem.bits() - 1))
        {
            return self.divide_by_power(ty, op, &left, divisor);
        }
        if let (Type::INDEX, Some(divisor)) = (ty, self.known(b))
            && divisor as i64 > 0
        {
            let quotient = self.floor_quotient(left.scalar(), right.scalar(), op);
            return Lanes::new(64, vec![quotient]);
        }
        self.lane_by_lane(ty, &[(&left, ty), (&right, ty)], |t, lanes| t.divide_lane(ty.elem, op, lanes[0], lanes[1]))
    }

    fn divide_by_power(&mut self, ty: Type, op: BinaryOp, a: &Lanes, divisor: u64) -> Lanes {
        let bits = ty.elem.bits();
        self.each(a, |t, a| {
            let by = i64::from(divisor.trailing_zeros());
            if op == BinaryOp::Div {
                let by = t.b.ins().iconst(types::I32, by);
                return if ty.elem.is_signed() { t.b.ins().sshr(a, by) } else { t.b.ins().ushr(a, by) };
            }
            let native = t.b.func.dfg.value_type(a);
            let mask = if native.is_vector() {
                t.splat_bits(bits, divisor - 1)
            } else {
                t.b.ins().iconst(native, divisor as i64 - 1)
            };
            t.b.ins().band(a, mask)
        })
    }

    /// One quotient or remainder, computed in 64 bits so that only a divisor of 0 and -1 need care.
    fn divide_lane(&mut self, elem: Elem, op: BinaryOp, a: ir::Value, b: ir::Value) -> ir::Value {
        let native = scalar_type(elem);
        let widen = |t: &mut Self, value| match (native == types::I64, elem.is_signed()) {
            (true, _) => value,
            (false, true) => t.b.ins().sextend(types::I64, value),
            (false, false) => t.b.ins().uextend(types::I64, value),
        };
        let (a, b) = (widen(self, a), widen(self, b));
        // |b + 1| <= 1 (unsigned) exactly for -1 and 0.
        let next = self.b.ins().iadd_imm_s(b, 1);
        let special = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, next, 1);
        let one = self.b.ins().iconst(types::I64, 1);
        let safe = self.b.ins().select(special, one, b);
        let normal = self.floor_quotient(a, safe, op);
        // By -1 the quotient is -a (b * a), by 0 it is 0 (b * a); the remainder is 0 in both.
        let exceptional =
            if op == BinaryOp::Div { self.b.ins().imul(a, b) } else { self.b.ins().iconst(types::I64, 0) };
        let result = self.b.ins().select(special, exceptional, normal);
        if native == types::I64 { result } else { self.b.ins().ireduce(native, result) }
    }

    /// `floor(a / b)` or its remainder, for `b` neither 0 nor -1.
    fn floor_quotient(&mut self, a: ir::Value, b: ir::Value, op: BinaryOp) -> ir::Value {
        let quotient = self.b.ins().sdiv(a, b);
        let product = self.b.ins().imul(quotient, b);
        let rest = self.b.ins().isub(a, product);
        // The truncated quotient is one too large if the rest is not 0 and its sign differs from the divisor's.
        let signs = self.b.ins().bxor(rest, b);
        let differs = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
        let inexact = self.b.ins().icmp_imm_s(IntCC::NotEqual, rest, 0);
        let down = self.b.ins().band(differs, inexact);
        if op == BinaryOp::Div {
            let down = self.b.ins().uextend(types::I64, down);
            return self.b.ins().isub(quotient, down);
        }
        let zero = self.b.ins().iconst(types::I64, 0);
        let shift = self.b.ins().select(down, b, zero);
        self.b.ins().iadd(rest, shift)
    }

    pub(super) fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Lanes {
        let ty = self.phase.type_of(a);
        let (a, b) = (self.value(a), self.value(b));
        let mut lanes = self.each_pair(&a, &b, |t, a, b| {
            if ty.elem.is_float() {
                t.b.ins().fcmp(float_condition(op), a, b)
            } else {
                t.b.ins().icmp(integer_condition(op, ty.elem.is_signed()), a, b)
            }
        });
        lanes.bits = if ty.lanes == 1 { 8 } else { ty.elem.bits() };
        lanes
    }

    pub(super) fn select(&mut self, ty: Type, mask: Value, a: Value, b: Value) -> Lanes {
        let mask_type = self.phase.type_of(mask);
        let (mask, a, b) = (self.value(mask), self.value(a), self.value(b));
        let b = if ty.elem == Elem::Bool && ty.lanes > 1 { self.mask_as(&b, ty.lanes, a.bits) } else { b };
        if mask_type == Type::BOOL {
            return self.each_pair(&a, &b, |t, a, b| t.b.ins().select(mask.scalar(), a, b));
        }
        let mask = self.mask_as(&mask, ty.lanes, a.bits);
        self.select_parts(&mask, &a, &b)
    }

    pub(super) fn fma(&mut self, a: Value, b: Value, c: Value) -> Lanes {
        let (a, b, c) = (self.value(a), self.value(b), self.value(c));
        let parts = (0..a.parts.len()).map(|i| self.b.ins().fma(a.parts[i], b.parts[i], c.parts[i]));
        Lanes::new(a.bits, parts.collect())
    }

    /// The fixed tree: upper half onto lower half until one lane is left.
    pub(super) fn reduce(&mut self, op: ReduceOp, a: Value) -> Lanes {
        let ty = self.phase.type_of(a);
        let mut lanes = self.value(a);
        if ty.lanes == 1 {
            return lanes;
        }
        let mut width = usize::from(ty.lanes) / 2;
        let each = super::lanes::per_part(lanes.bits);
        while width >= each {
            let upper = Lanes::new(lanes.bits, lanes.parts.split_off(width / each));
            lanes = self.plain_binary(ty, op.binary(), &lanes, &upper);
            width /= 2;
        }
        while width > 0 {
            let upper = self.rotate(&lanes, width);
            lanes = self.plain_binary(ty, op.binary(), &lanes, &upper);
            width /= 2;
        }
        let scalar = self.lane(&lanes, ty, 0);
        Lanes::new(ty.elem.bits(), vec![scalar])
    }

    /// A one-part value with its lanes moved down by `by`.
    fn rotate(&mut self, lanes: &Lanes, by: usize) -> Lanes {
        let bytes = by * lanes.bits as usize / 8;
        let mask = std::array::from_fn(|i| ((i + bytes) % 16) as u8);
        let part = lanes.parts[0];
        let ty = self.b.func.dfg.value_type(part);
        Lanes::new(lanes.bits, vec![self.shuffle_bytes(part, part, mask, ty)])
    }

    /// Applies `native` to every part.
    pub(super) fn each(&mut self, a: &Lanes, native: impl Fn(&mut Self, ir::Value) -> ir::Value) -> Lanes {
        Lanes::new(a.bits, a.parts.iter().map(|&a| native(self, a)).collect())
    }

    /// Applies `native` to every pair of parts. Parts that are one value (splats) are done once.
    fn each_pair(
        &mut self,
        a: &Lanes,
        b: &Lanes,
        native: impl Fn(&mut Self, ir::Value, ir::Value) -> ir::Value,
    ) -> Lanes {
        Lanes::new(a.bits, a.parts.iter().zip(&b.parts).map(|(&a, &b)| native(self, a, b)).collect())
    }

    /// Applies `native` to the scalars of every lane.
    pub(super) fn lane_by_lane(
        &mut self,
        ty: Type,
        operands: &[(&Lanes, Type)],
        native: impl Fn(&mut Self, &[ir::Value]) -> ir::Value,
    ) -> Lanes {
        let lanes: Vec<ir::Value> = (0..usize::from(ty.lanes))
            .map(|lane| {
                let scalars: Vec<ir::Value> = operands.iter().map(|(of, ty)| self.lane(of, *ty, lane)).collect();
                native(self, &scalars)
            })
            .collect();
        self.assemble(ty, &lanes)
    }
}

fn is_nan(elem: Elem, bits: u64) -> bool {
    match elem {
        Elem::F32 => f32::from_bits(bits as u32).is_nan(),
        _ => f64::from_bits(bits).is_nan(),
    }
}

fn float_condition(op: CompareOp) -> FloatCC {
    match op {
        CompareOp::Eq => FloatCC::Equal,
        CompareOp::Ne => FloatCC::NotEqual,
        CompareOp::Lt => FloatCC::LessThan,
        CompareOp::Le => FloatCC::LessThanOrEqual,
        CompareOp::Gt => FloatCC::GreaterThan,
        CompareOp::Ge => FloatCC::GreaterThanOrEqual,
    }
}

fn integer_condition(op: CompareOp, signed: bool) -> IntCC {
    match (op, signed) {
        (CompareOp::Eq, _) => IntCC::Equal,
        (CompareOp::Ne, _) => IntCC::NotEqual,
        (CompareOp::Lt, true) => IntCC::SignedLessThan,
        (CompareOp::Le, true) => IntCC::SignedLessThanOrEqual,
        (CompareOp::Gt, true) => IntCC::SignedGreaterThan,
        (CompareOp::Ge, true) => IntCC::SignedGreaterThanOrEqual,
        (CompareOp::Lt, false) => IntCC::UnsignedLessThan,
        (CompareOp::Le, false) => IntCC::UnsignedLessThanOrEqual,
        (CompareOp::Gt, false) => IntCC::UnsignedGreaterThan,
        (CompareOp::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
    }
}
