//! Conversions and bit casts.
//!
//! Common vector conversions are sequences of native ones; those between 64-bit integers and floats go lane by lane.
//! f16 and bf16 are integers to Cranelift: they are widened by shifts (and, for f16, an exact subtraction that
//! normalises), and rounded in integers, after F. Giesen's `float_to_half_fast3_rtne` (public domain).

use super::Translator;
use super::lanes::{Lanes, part_count, per_part, scalar_type, vector_type};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, types};
use nnc_kernel::ir::{Elem, Type, Value};

impl Translator<'_, '_> {
    pub(super) fn convert(&mut self, ty: Type, a: Value) -> Lanes {
        let from = self.phase.type_of(a);
        let a = self.value(a);
        self.convert_lanes(&a, from, ty)
    }

    fn convert_lanes(&mut self, a: &Lanes, from: Type, ty: Type) -> Lanes {
        let storage = from.elem.is_storage_float() || ty.elem.is_storage_float();
        match (from.elem, ty.elem) {
            (from_elem, to) if from_elem == to => a.clone(),
            _ if storage && ty.lanes == 1 => self.convert_scalar_as_vector(a, from, ty),
            (_, Elem::Bool) => self.is_not_zero(a, from),
            _ if ty.lanes == 1 => {
                let converted = self.convert_scalar(a.scalar(), from.elem, ty.elem);
                Lanes::new(ty.elem.bits(), vec![converted])
            }
            (Elem::Bool, _) => self.mask_to_number(a, ty),
            (Elem::F16 | Elem::Bf16, _) => self.widen_storage_float(a, from, ty),
            (_, Elem::F16 | Elem::Bf16) => self.narrow_to_storage_float(a, ty),
            (Elem::F32, Elem::F64) => self.promote(a, ty),
            (Elem::F64, Elem::F32) => self.demote(a),
            (Elem::I8 | Elem::U8 | Elem::I16 | Elem::I32, Elem::F32) => self.integer_to_f32(a, from),
            (Elem::F32, Elem::I8 | Elem::U8 | Elem::I16 | Elem::I32) => self.f32_to_integer(a, ty),
            (from_elem, to) if from_elem.is_int() && to.is_int() => self.resize(a, from, ty),
            (from_elem, to) => {
                self.lane_by_lane(ty, &[(a, from)], |t, lanes| t.convert_scalar(lanes[0], from_elem, to))
            }
        }
    }

    /// A storage float alone is converted as the first lane of a vector.
    fn convert_scalar_as_vector(&mut self, a: &Lanes, from: Type, ty: Type) -> Lanes {
        let vector = self.first_lane(vector_type(from.elem), a.scalar());
        let vector = Lanes::new(a.bits, vec![vector]);
        let (from, to) = (from.with_lanes(4), ty.with_lanes(4));
        let converted = self.convert_lanes(&vector, from, to);
        let scalar = self.lane(&converted, to, 0);
        Lanes::new(ty.elem.bits(), vec![scalar])
    }

    fn convert_scalar(&mut self, a: ir::Value, from: Elem, to: Elem) -> ir::Value {
        let native = scalar_type(to);
        match (from.is_float(), to.is_float()) {
            (true, true) if to == Elem::F64 => self.b.ins().fpromote(native, a),
            (true, true) => self.b.ins().fdemote(native, a),
            (true, false) => self.float_to_integer_scalar(a, to),
            (false, true) if from == Elem::Bool || !from.is_signed() => self.b.ins().fcvt_from_uint(native, a),
            (false, true) => self.b.ins().fcvt_from_sint(native, a),
            (false, false) => self.resize_scalar(a, from, native),
        }
    }

    fn resize_scalar(&mut self, a: ir::Value, from: Elem, native: ir::Type) -> ir::Value {
        let have = self.b.func.dfg.value_type(a).bits();
        if have == native.bits() {
            a
        } else if have > native.bits() {
            self.b.ins().ireduce(native, a)
        } else if from.is_signed() {
            self.b.ins().sextend(native, a)
        } else {
            self.b.ins().uextend(native, a)
        }
    }

    /// Saturating; narrow results are clamped as 32-bit ones.
    fn float_to_integer_scalar(&mut self, a: ir::Value, to: Elem) -> ir::Value {
        let (least, most) = match to {
            Elem::I64 => return self.b.ins().fcvt_to_sint_sat(types::I64, a),
            Elem::I32 => return self.b.ins().fcvt_to_sint_sat(types::I32, a),
            Elem::U8 => (0, 255),
            Elem::I8 => (-128, 127),
            _ => (-32768, 32767),
        };
        let wide = self.b.ins().fcvt_to_sint_sat(types::I32, a);
        let (least, most) =
            (self.b.ins().iconst(types::I32, least & 0xffff_ffff), self.b.ins().iconst(types::I32, most));
        let wide = self.b.ins().smax(wide, least);
        let wide = self.b.ins().smin(wide, most);
        self.b.ins().ireduce(scalar_type(to), wide)
    }

    fn is_not_zero(&mut self, a: &Lanes, from: Type) -> Lanes {
        let zero = self.constant(from, 0);
        let parts = a.parts.iter().zip(&zero.parts).map(|(&a, &zero)| match from.elem.is_float() {
            true => self.b.ins().fcmp(FloatCC::NotEqual, a, zero),
            false => self.b.ins().icmp(IntCC::NotEqual, a, zero),
        });
        Lanes::new(if from.lanes == 1 { 8 } else { a.bits }, parts.collect())
    }

    fn mask_to_number(&mut self, a: &Lanes, ty: Type) -> Lanes {
        let mask = self.mask_as(a, ty.lanes, ty.elem.bits());
        let one = match ty.elem {
            Elem::F32 => u64::from(1f32.to_bits()),
            Elem::F64 => 1f64.to_bits(),
            _ => 1,
        };
        let one = self.splat_bits(ty.elem.bits(), one);
        self.each(&mask, |t, mask| {
            let bits = t.b.ins().band(mask, one);
            t.cast(bits, vector_type(ty.elem))
        })
    }

    fn promote(&mut self, a: &Lanes, ty: Type) -> Lanes {
        let parts = (0..part_count(ty.lanes, 64)).map(|i| {
            let source = a.parts[i / 2];
            let low =
                if i % 2 == 0 { source } else { self.shuffle_bytes(source, source, UPPER_HALF_DOWN, types::F32X4) };
            self.b.ins().fvpromote_low(low)
        });
        Lanes::new(64, parts.collect())
    }

    fn demote(&mut self, a: &Lanes) -> Lanes {
        let halves: Vec<ir::Value> = a.parts.iter().map(|&part| self.b.ins().fvdemote(part)).collect();
        let parts = halves.chunks(2).map(|pair| match *pair {
            [low, high] => self.shuffle_bytes(low, high, LOWER_HALVES, types::F32X4),
            _ => pair[0],
        });
        Lanes::new(32, parts.collect())
    }

    fn integer_to_f32(&mut self, a: &Lanes, from: Type) -> Lanes {
        let wide = self.resize(a, from, from.with_elem(Elem::I32));
        self.each(&wide, |t, part| t.b.ins().fcvt_from_sint(types::F32X4, part))
    }

    fn f32_to_integer(&mut self, a: &Lanes, ty: Type) -> Lanes {
        let mut lanes = self.each(a, |t, part| t.b.ins().fcvt_to_sint_sat(types::I32X4, part));
        if ty.elem.bits() <= 16 {
            lanes = self.narrow(&lanes, |t, a, b| t.b.ins().snarrow(a, b));
        }
        match ty.elem {
            Elem::I8 => self.narrow(&lanes, |t, a, b| t.b.ins().snarrow(a, b)),
            Elem::U8 => self.narrow(&lanes, |t, a, b| t.b.ins().unarrow(a, b)),
            _ => lanes,
        }
    }

    /// Integers to integers of another width: wider by the sign, narrower by dropping upper bits.
    fn resize(&mut self, a: &Lanes, from: Type, ty: Type) -> Lanes {
        let mut lanes = a.clone();
        while lanes.bits < ty.elem.bits() {
            lanes = self.widen(&lanes, ty.lanes, from.elem.is_signed());
        }
        while lanes.bits > ty.elem.bits() {
            let (mask, native) = match lanes.bits {
                64 => (keep_low(8), types::I32X4),
                32 => (keep_low(4), types::I16X8),
                _ => (keep_low(2), types::I8X16),
            };
            lanes = self.narrow(&lanes, |t, a, b| t.shuffle_bytes(a, b, mask, native));
        }
        lanes
    }

    fn widen(&mut self, a: &Lanes, lanes: u8, signed: bool) -> Lanes {
        let parts = (0..part_count(lanes, a.bits * 2)).map(|i| {
            let source = a.parts[i / 2];
            match (signed, i % 2 == 0) {
                (true, true) => self.b.ins().swiden_low(source),
                (true, false) => self.b.ins().swiden_high(source),
                (false, true) => self.b.ins().uwiden_low(source),
                (false, false) => self.b.ins().uwiden_high(source),
            }
        });
        Lanes::new(a.bits * 2, parts.collect())
    }

    /// Two parts to one of half the lane width.
    fn narrow(&mut self, a: &Lanes, native: impl Fn(&mut Self, ir::Value, ir::Value) -> ir::Value) -> Lanes {
        let parts = a.parts.chunks(2).map(|pair| native(self, pair[0], *pair.last().unwrap_or(&pair[0])));
        Lanes::new(a.bits / 2, parts.collect())
    }

    fn widen_storage_float(&mut self, a: &Lanes, from: Type, ty: Type) -> Lanes {
        let wide = self.widen(a, ty.lanes, false);
        match from.elem {
            Elem::Bf16 => self.each(&wide, |t, part| {
                let shifted = t.b.ins().ishl_imm_u(part, 16);
                t.cast(shifted, types::F32X4)
            }),
            _ => self.each(&wide, Self::widen_half),
        }
    }

    fn widen_half(&mut self, half: ir::Value) -> ir::Value {
        let magnitude = self.and_bits(half, 0x7fff);
        let shifted = self.b.ins().ishl_imm_u(magnitude, 13);
        let exponent = self.and_bits(shifted, 0x7c00 << 13);
        let rebias = self.splat_bits(32, (127 - 15) << 23);
        let normal = self.b.ins().iadd(shifted, rebias);
        let more = self.b.ins().iadd(normal, rebias);
        let top = self.splat_bits(32, 0x7c00 << 13);
        let is_top = self.b.ins().icmp(IntCC::Equal, exponent, top);
        let zero = self.splat_bits(32, 0);
        let is_small = self.b.ins().icmp(IntCC::Equal, exponent, zero);
        let one = self.splat_bits(32, 1 << 23);
        let raised = self.b.ins().iadd(normal, one);
        let raised = self.cast(raised, types::F32X4);
        let bias = self.splat_bits(32, 113 << 23);
        let bias = self.cast(bias, types::F32X4);
        let small = self.b.ins().fsub(raised, bias);
        let small = self.cast(small, types::I32X4);
        let result = self.b.ins().bitselect(is_small, small, normal);
        let result = self.b.ins().bitselect(is_top, more, result);
        let sign = self.and_bits(half, 0x8000);
        let sign = self.b.ins().ishl_imm_u(sign, 16);
        let result = self.b.ins().bor(result, sign);
        self.cast(result, types::F32X4)
    }

    fn narrow_to_storage_float(&mut self, a: &Lanes, ty: Type) -> Lanes {
        let wide = match ty.elem {
            Elem::Bf16 => self.each(a, Self::round_to_bf16),
            _ => self.each(a, Self::round_to_half),
        };
        self.narrow(&wide, |t, a, b| t.shuffle_bytes(a, b, keep_low(4), types::I16X8))
    }

    /// Adds half of the last place, less one if the kept part is even; the result lies in the low 16 bits.
    fn round_to_bf16(&mut self, a: ir::Value) -> ir::Value {
        let is_nan = self.b.ins().fcmp(FloatCC::Unordered, a, a);
        let bits = self.cast(a, types::I32X4);
        let upper = self.b.ins().ushr_imm_u(bits, 16);
        let odd = self.and_bits(upper, 1);
        let almost_half = self.splat_bits(32, 0x7fff);
        let rounded = self.b.ins().iadd(bits, almost_half);
        let rounded = self.b.ins().iadd(rounded, odd);
        let rounded = self.b.ins().ushr_imm_u(rounded, 16);
        let quiet = self.splat_bits(32, 0x40);
        let nan = self.b.ins().bor(upper, quiet);
        self.b.ins().bitselect(is_nan, nan, rounded)
    }

    fn round_to_half(&mut self, a: ir::Value) -> ir::Value {
        let bits = self.cast(a, types::I32X4);
        let magnitude = self.and_bits(bits, 0x7fff_ffff);
        let sign = self.b.ins().bxor(bits, magnitude);
        let infinity = self.splat_bits(32, 255 << 23);
        let is_nan = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, infinity);
        let limit = self.splat_bits(32, ((127 + 16) << 23) - 1);
        let is_large = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, limit);
        let least_normal = self.splat_bits(32, 113 << 23);
        let is_small = self.b.ins().icmp(IntCC::SignedLessThan, magnitude, least_normal);
        // Small: a float addition rounds at the place of the last denormal bit.
        let magic = self.splat_bits(32, ((127 - 15) + (23 - 10) + 1) << 23);
        let magic_float = self.cast(magic, types::F32X4);
        let float = self.cast(magnitude, types::F32X4);
        let small = self.b.ins().fadd(float, magic_float);
        let small = self.cast(small, types::I32X4);
        let small = self.b.ins().isub(small, magic);
        // Normal: rebias the exponent, add half of the last place.
        let odd = self.b.ins().ushr_imm_u(magnitude, 13);
        let odd = self.and_bits(odd, 1);
        let adjust = self.splat_bits(32, 0xc800_0fff);
        let normal = self.b.ins().iadd(magnitude, adjust);
        let normal = self.b.ins().iadd(normal, odd);
        let normal = self.b.ins().ushr_imm_u(normal, 13);
        let result = self.b.ins().bitselect(is_small, small, normal);
        let half_infinity = self.splat_bits(32, 0x7c00);
        let result = self.b.ins().bitselect(is_large, half_infinity, result);
        let half_nan = self.splat_bits(32, 0x7e00);
        let result = self.b.ins().bitselect(is_nan, half_nan, result);
        let sign = self.b.ins().ushr_imm_u(sign, 16);
        self.b.ins().bor(result, sign)
    }

    fn and_bits(&mut self, a: ir::Value, bits: u64) -> ir::Value {
        let bits = self.splat_bits(32, bits);
        self.b.ins().band(a, bits)
    }

    pub(super) fn bitcast(&mut self, ty: Type, a: Value) -> Lanes {
        let from = self.phase.type_of(a);
        let a = self.value(a);
        let bits = ty.elem.bits();
        if from.lanes == 1 && ty.lanes == 1 {
            let cast = self.cast(a.scalar(), scalar_type(ty.elem));
            return Lanes::new(bits, vec![cast]);
        }
        if from.lanes == 1 {
            let vector = self.first_lane(vector_type(from.elem), a.scalar());
            return Lanes::new(bits, vec![self.cast(vector, vector_type(ty.elem))]);
        }
        let vectors = Lanes { bits, ..self.each(&a, |t, part| t.cast(part, vector_type(ty.elem))) };
        if ty.lanes > 1 {
            return vectors;
        }
        debug_assert!(per_part(bits) > 1);
        let scalar = self.b.ins().extractlane(vectors.parts[0], 0);
        Lanes::new(bits, vec![scalar])
    }
}

const UPPER_HALF_DOWN: [u8; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15];
const LOWER_HALVES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];

/// The byte pattern that keeps the low half of each lane of `size` bytes of two vectors.
fn keep_low(size: u8) -> [u8; 16] {
    let half = size / 2;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        byte / half * size + byte % half
    })
}
