//! Conversions and bit casts.
//!
//! Floats become integers by clamping to the range of the result first, NaN becoming 0; where the range's end is no
//! float, the instruction's answer for what is too large is mended. What goes through 64-bit integers goes lane by lane
//! with AVX2.

use super::super::forms::{self, Encoding, Form, Width};
use super::super::vcode::{Draft, View};
use super::Selector;
use super::lanes::{Lanes, ROW};
use super::vector::{GREATER_EQUAL, ORDERED, UNORDERED, float_form};
use iced_x86::Code;
use nnc_kernel::ir::{CompareOp, Elem, Type, Value, scalar};
use regalloc2::VReg;

impl Selector<'_> {
    pub(super) fn convert(&mut self, a: &Lanes, from: Type, ty: Type) -> Lanes {
        let storage = from.elem.is_storage_float() || ty.elem.is_storage_float();
        let wide = self.encoding == Encoding::Evex;
        match (from.elem, ty.elem) {
            (from_elem, to) if from_elem == to => a.clone(),
            _ if storage && ty.lanes == 1 => self.convert_storage_scalar(a, from, ty),
            (_, Elem::Bool) => self.is_not_zero(a, from),
            (Elem::Bool, _) if ty.lanes > 1 => self.mask_to_number(a, ty),
            (Elem::F32, Elem::F64) => self.promote(a, ty),
            (Elem::F64, Elem::F32) => self.narrow_by(forms::CVTPD2PS, a, from, ty),
            _ if ty.lanes == 1 => self.convert_scalar(a, from.elem, ty.elem),
            (Elem::F16, _) => self.half_to_single(a, ty),
            (Elem::Bf16, _) => self.brain_to_single(a, ty),
            (_, Elem::F16) => self.single_to_half(a, ty),
            (_, Elem::Bf16) => self.single_to_brain(a, ty),
            (Elem::I64, Elem::F64) if wide => self.each(a, |s, a| s.two(forms::CVTQQ2PD, s.width(ty), a)),
            (Elem::I64, Elem::F32) if wide => self.narrow_by(forms::CVTQQ2PS, a, from, ty),
            (Elem::I64, Elem::F32 | Elem::F64) | (Elem::F32 | Elem::F64, Elem::I64) if !wide => {
                self.lane_by_lane(ty, &[(a, from)], |s, lanes| s.convert_scalar(&lanes[0], from.elem, ty.elem))
            }
            (_, Elem::F32 | Elem::F64) => self.integers_to_floats(a, from, ty),
            (Elem::F32, Elem::I64) => {
                let double = from.with_elem(Elem::F64);
                let promoted = self.promote(a, double);
                self.doubles_to_quads(&promoted, ty)
            }
            (Elem::F64, Elem::I64) => self.doubles_to_quads(a, ty),
            (Elem::F32 | Elem::F64, _) => self.floats_to_integers(a, from, ty),
            (from_elem, to) => self.resize(a, from_elem, to, ty.lanes),
        }
    }

    /// A storage float alone is converted as the first lane of a vector.
    fn convert_storage_scalar(&mut self, a: &Lanes, from: Type, ty: Type) -> Lanes {
        let first = if from.elem.is_float() { a.scalar() } else { self.vector_of(a.scalar(), 32) };
        let (from, to) = (from.with_lanes(4), ty.with_lanes(4));
        let converted = self.convert(&Lanes::new(a.bits, vec![first]), from, to);
        self.first_lane(converted.parts[0], ty.elem)
    }

    fn is_not_zero(&mut self, a: &Lanes, from: Type) -> Lanes {
        if Self::is_general(from) {
            let zero = self.load_number(0);
            return Lanes::new(8, vec![self.scalar_compare(from.elem, CompareOp::Ne, a.scalar(), zero)]);
        }
        let width = self.width(from);
        let zero = self.zeros(width);
        let parts: Vec<VReg> = a
            .parts
            .iter()
            .map(|&part| {
                if from.elem.is_float() {
                    self.compare_floats(from.elem, width, part, zero.into(), 4)
                } else {
                    self.compare_integers(from.elem, width, CompareOp::Ne, part, zero.into())
                }
            })
            .collect();
        if from.lanes == 1 {
            return Lanes::new(8, vec![self.bool_of_mask(parts[0])]);
        }
        Lanes::new(from.elem.bits(), parts)
    }

    fn mask_to_number(&mut self, mask: &Lanes, ty: Type) -> Lanes {
        let (bits, width) = (ty.elem.bits(), self.width(ty));
        let mask = self.mask_as(mask, ty.lanes, bits);
        let one = self.constant_vector(bits, scalar::of_f64(ty.elem, 1.0), width);
        self.each(&mask, |s, mask| match s.encoding {
            Encoding::Evex => s.keep(bits, width, mask, one),
            Encoding::Vex => s.three(forms::PAND, width, mask, one),
        })
        .with_bits(bits)
    }

    fn convert_scalar(&mut self, a: &Lanes, from: Elem, to: Elem) -> Lanes {
        let converted = match (from.is_float(), to.is_float()) {
            (true, false) => self.float_to_integer(a.scalar(), from, to),
            (false, true) => {
                let quad = self.quad_of(a.scalar(), from);
                self.quad_to_float(quad, to)
            }
            // From one integer to another: as 64 bits, then cut.
            _ => {
                let quad = if to == Elem::I64 { self.quad_of(a.scalar(), from) } else { a.scalar() };
                self.canonical(quad, to)
            }
        };
        Lanes::new(to.bits(), vec![converted])
    }

    fn quad_to_float(&mut self, quad: VReg, to: Elem) -> VReg {
        let code = match (self.encoding, to) {
            (Encoding::Evex, Elem::F32) => Code::EVEX_Vcvtsi2ss_xmm_xmm_rm64_er,
            (Encoding::Evex, _) => Code::EVEX_Vcvtsi2sd_xmm_xmm_rm64_er,
            (Encoding::Vex, Elem::F32) => Code::VEX_Vcvtsi2ss_xmm_xmm_rm64,
            (Encoding::Vex, _) => Code::VEX_Vcvtsi2sd_xmm_xmm_rm64,
        };
        let upper = self.zeros(Width::X);
        let result = self.code.vector();
        self.code.push(Draft::new(code).def(result, View::X).reads(upper, View::X).reads(quad, View::Quad));
        result
    }

    /// Saturating; NaN gives 0.
    fn float_to_integer(&mut self, a: VReg, from: Elem, to: Elem) -> VReg {
        let double = if from == Elem::F32 { self.two(forms::CVTPS2PD, Width::X, a) } else { a };
        let number = self.without_nan(Elem::F64, Width::X, double);
        let code = match self.encoding {
            Encoding::Evex => Code::EVEX_Vcvttsd2si_r64_xmmm64_sae,
            Encoding::Vex => Code::VEX_Vcvttsd2si_r64_xmmm64,
        };
        let truncate = |s: &mut Self, number: VReg| {
            let to = s.code.general();
            s.code.push(Draft::new(code).def(to, View::Quad).reads(number, View::X));
            to
        };
        if to != Elem::I64 {
            let clamped = self.clamp(Elem::F64, Width::X, number, to);
            let result = truncate(self, clamped);
            return self.canonical(result, to);
        }
        // Too large gives the least number; all bits turned, that is the largest.
        let result = truncate(self, number);
        let limit = self.constant_operand(64, TWO_TO_63, Width::X);
        let too_large = self.compare_floats(Elem::F64, Width::X, number, limit, GREATER_EQUAL);
        let too_large = self.bool_of_mask(too_large);
        let turn = self.negate(too_large);
        self.general([Code::Xor_r32_rm32, Code::Xor_r64_rm64], true, result, turn)
    }

    /// NaN becomes 0.
    fn without_nan(&mut self, elem: Elem, width: Width, a: VReg) -> VReg {
        match self.encoding {
            Encoding::Evex => {
                let is_number = self.compare_floats(elem, width, a, a.into(), ORDERED);
                self.keep(elem.bits(), width, is_number, a)
            }
            Encoding::Vex => {
                let is_nan = self.compare_floats(elem, width, a, a.into(), UNORDERED);
                self.three(forms::PANDN, width, is_nan, a)
            }
        }
    }

    /// A float brought into the range of an integer type whose ends are floats of its type.
    fn clamp(&mut self, elem: Elem, width: Width, a: VReg, to: Elem) -> VReg {
        let (least, most) = match to {
            Elem::I8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
            Elem::U8 => (0.0, f64::from(u8::MAX)),
            Elem::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
            _ => (f64::from(i32::MIN), f64::from(i32::MAX)),
        };
        let least = self.constant_operand(elem.bits(), scalar::of_f64(elem, least), width);
        let most = self.constant_operand(elem.bits(), scalar::of_f64(elem, most), width);
        let raised = self.three(float_form(elem, forms::MAXPS, forms::MAXPD), width, a, least);
        self.three(float_form(elem, forms::MINPS, forms::MINPD), width, raised, most)
    }

    fn floats_to_integers(&mut self, a: &Lanes, from: Type, ty: Type) -> Lanes {
        let width = self.width(from);
        if (from.elem, ty.elem) == (Elem::F32, Elem::U8) {
            return self.floats_to_bytes(a, (from, ty), forms::CVTTPS2DQ);
        }
        let number = self.each(a, |s, a| s.without_nan(from.elem, width, a));
        let int = ty.with_elem(Elem::I32);
        let integers = match (from.elem, ty.elem) {
            (Elem::F32, Elem::I32) => self.each(&number, |s, a| {
                let result = s.two(forms::CVTTPS2DQ, width, a);
                let limit = s.constant_operand(32, u64::from(2f32.powi(31).to_bits()), width);
                let too_large = s.compare_floats(Elem::F32, width, a, limit, GREATER_EQUAL);
                let most = s.constant_operand(32, u64::from(i32::MAX as u32), width);
                s.choose(32, width, too_large, most, result)
            }),
            (Elem::F32, _) => self.each(&number, |s, a| {
                let clamped = s.clamp(Elem::F32, width, a, ty.elem);
                s.two(forms::CVTTPS2DQ, width, clamped)
            }),
            _ => {
                let clamped = self.each(&number, |s, a| s.clamp(Elem::F64, width, a, ty.elem));
                self.narrow_by(forms::CVTTPD2DQ, &clamped, from, int)
            }
        };
        self.resize(&integers.with_bits(32), Elem::I32, ty.elem, ty.lanes)
    }

    /// Unsigned bytes of f32, by an instruction that makes integers of 32 bits. The maximum of a NaN and 0 is 0, as
    /// that comes second. With AVX-512 the upper end is left to a step that narrows with saturation; what is too large
    /// for 32 bits counts as 2^31 there.
    pub(super) fn floats_to_bytes(&mut self, a: &Lanes, (from, ty): (Type, Type), by: Form) -> Lanes {
        let width = self.width(from);
        let number = self.each(a, |s, a| match s.encoding {
            Encoding::Evex => {
                let zero = s.constant_operand(32, 0, width);
                s.three(forms::MAXPS, width, a, zero)
            }
            Encoding::Vex => s.clamp(Elem::F32, width, a, ty.elem),
        });
        let integers = self.each(&number, |s, a| s.two(by, width, a));
        match self.encoding {
            Encoding::Evex => self.narrow_by(forms::PMOVUSDB, &integers, from, ty),
            Encoding::Vex => self.resize(&integers, Elem::I32, ty.elem, ty.lanes),
        }
    }

    /// Saturating, with AVX-512.
    fn doubles_to_quads(&mut self, a: &Lanes, ty: Type) -> Lanes {
        let width = self.width(ty);
        self.each(a, |s, a| {
            let number = s.without_nan(Elem::F64, width, a);
            let result = s.two(forms::CVTTPD2QQ, width, number);
            let limit = s.constant_operand(64, TWO_TO_63, width);
            let too_large = s.compare_floats(Elem::F64, width, number, limit, GREATER_EQUAL);
            let most = s.constant_operand(64, i64::MAX as u64, width);
            s.choose(64, width, too_large, most, result)
        })
    }

    fn integers_to_floats(&mut self, a: &Lanes, from: Type, ty: Type) -> Lanes {
        let ints = self.resize(a, from.elem, Elem::I32, ty.lanes);
        if ty.elem == Elem::F32 {
            return self.each(&ints, |s, a| s.two(forms::CVTDQ2PS, s.width(ty), a));
        }
        self.widen_by(forms::CVTDQ2PD, &ints, 4, ty)
    }

    fn promote(&mut self, a: &Lanes, ty: Type) -> Lanes {
        self.widen_by(forms::CVTPS2PD, a, 4, ty)
    }

    fn half_to_single(&mut self, a: &Lanes, ty: Type) -> Lanes {
        self.widen_by(forms::CVTPH2PS, a, 2, ty)
    }

    fn brain_to_single(&mut self, a: &Lanes, ty: Type) -> Lanes {
        let width = self.width(ty);
        let wide = self.widen_by(forms::PMOVZXWD, a, 2, ty);
        self.each(&wide, |s, a| s.two_by_number(forms::PSLLD, width, a, 16))
    }

    fn single_to_half(&mut self, a: &Lanes, ty: Type) -> Lanes {
        let from = ty.with_elem(Elem::F32);
        let (_, width) = self.layout(ty.lanes, 32);
        let half = Width::of(width.bytes() / 2);
        let code = forms::CVTPS2PH.code(self.encoding, width);
        let pieces: Vec<VReg> = a
            .parts
            .iter()
            .map(|&part| {
                let to = self.code.vector();
                let (to_view, from_view) = (super::super::view(half), super::super::view(width));
                self.code.push(Draft::new(code).def(to, to_view).reads(part, from_view).byte(0));
                to
            })
            .collect();
        let bytes = from.size().min(self.full_width().bytes()) / 2;
        Lanes::new(16, self.join_all(pieces, bytes))
    }

    /// Rounds to nearest even in integers; NaN stays one.
    fn single_to_brain(&mut self, a: &Lanes, ty: Type) -> Lanes {
        let (_, width) = self.layout(ty.lanes, 32);
        let rounded = self.each(a, |s, a| {
            let upper = s.two_by_number(forms::PSRLD, width, a, 16);
            let one = s.constant_vector(32, 1, width);
            let odd = s.three(forms::PAND, width, upper, one);
            let half = s.constant_vector(32, 0x7fff, width);
            let sum = s.three(forms::PADDD, width, a, half);
            let sum = s.three(forms::PADDD, width, sum, odd);
            let rounded = s.two_by_number(forms::PSRLD, width, sum, 16);
            let quiet = s.constant_vector(32, 0x40, width);
            let nan = s.three(forms::POR, width, upper, quiet);
            let is_nan = s.compare_floats(Elem::F32, width, a, a.into(), UNORDERED);
            s.choose(32, width, is_nan, nan.into(), rounded)
        });
        self.resize(&rounded, Elem::I32, Elem::I16, ty.lanes)
    }

    /// An integer type to another: extended, or cut to its lower bits.
    pub(super) fn resize(&mut self, a: &Lanes, from: Elem, to: Elem, lanes: u8) -> Lanes {
        match from.size().cmp(&to.size()) {
            std::cmp::Ordering::Equal => a.clone(),
            std::cmp::Ordering::Less => self.widen(a, from, to, lanes),
            std::cmp::Ordering::Greater if self.encoding == Encoding::Evex => {
                let form = match (from.size(), to.size()) {
                    (2, _) => forms::PMOVWB,
                    (4, 1) => forms::PMOVDB,
                    (4, _) => forms::PMOVDW,
                    (_, 1) => forms::PMOVQB,
                    (_, 2) => forms::PMOVQW,
                    _ => forms::PMOVQD,
                };
                let vector = |elem: Elem| Type::vector(elem, lanes);
                self.narrow_by(form, a, vector(from), vector(to))
            }
            std::cmp::Ordering::Greater => self.cut(a, from, to, lanes),
        }
    }

    /// Extends integers by their sign (u8 and bits: by zeros).
    pub(super) fn widen(&mut self, a: &Lanes, from: Elem, to: Elem, lanes: u8) -> Lanes {
        let form = match (from.is_signed(), from.size(), to.size()) {
            (true, 1, 2) => forms::PMOVSXBW,
            (true, 1, 4) => forms::PMOVSXBD,
            (true, 1, _) => forms::PMOVSXBQ,
            (true, 2, 4) => forms::PMOVSXWD,
            (true, 2, _) => forms::PMOVSXWQ,
            (true, ..) => forms::PMOVSXDQ,
            (false, 1, 2) => forms::PMOVZXBW,
            (false, 1, 4) => forms::PMOVZXBD,
            (false, 1, _) => forms::PMOVZXBQ,
            (false, 2, 4) => forms::PMOVZXWD,
            (false, 2, _) => forms::PMOVZXWQ,
            (false, ..) => forms::PMOVZXDQ,
        };
        self.widen_by(form, a, from.size(), Type::vector(to, lanes))
    }

    /// An instruction whose lanes are wider than those of its operand, which have `size` bytes.
    fn widen_by(&mut self, form: Form, a: &Lanes, size: usize, ty: Type) -> Lanes {
        let full = self.full_width().bytes();
        let (count, width) = self.layout(ty.lanes, ty.elem.bits());
        let (_, narrow) = self.layout(ty.lanes, size as u32 * 8);
        let bytes = width.bytes() / ty.elem.size() * size;
        let parts = (0..count).map(|part| {
            let at = part * bytes;
            let piece = self.extract_bytes(a.parts[at / full], narrow, at % full, bytes);
            self.two_widths((form, width), width, piece, Width::of(bytes))
        });
        Lanes::new(ty.elem.bits(), parts.collect())
    }

    /// An instruction whose lanes are narrower than those of its operand; its encoding goes by the operand's width.
    fn narrow_by(&mut self, form: Form, a: &Lanes, from: Type, ty: Type) -> Lanes {
        let width = self.width(from);
        let bytes = width.bytes() / from.elem.size() * ty.elem.size();
        let used = from.size().min(self.full_width().bytes()) / from.elem.size() * ty.elem.size();
        let pieces = a.parts.iter().map(|&a| self.two_widths((form, width), Width::of(bytes), a, width));
        let pieces = pieces.collect();
        Lanes::new(ty.elem.bits(), self.join_all(pieces, used))
    }

    /// The lower bits of integers, halving them as often as it takes (AVX2).
    fn cut(&mut self, a: &Lanes, from: Elem, to: Elem, lanes: u8) -> Lanes {
        let mut a = a.clone();
        let mut size = from.size();
        while size > to.size() {
            let pieces = self.pieces(&a, lanes);
            let packed = self.pack_pieces(pieces, |s, a, b| match size {
                8 => s.three_by_number(forms::SHUFPS, Width::X, a, b, 0x88),
                4 => {
                    let [a, b] = [a, b].map(|piece| s.lower_half_of_lanes(piece, 32));
                    s.three(forms::PACKUSDW, Width::X, a, b)
                }
                _ => {
                    let [a, b] = [a, b].map(|piece| s.lower_half_of_lanes(piece, 16));
                    s.three(forms::PACKUSWB, Width::X, a, b)
                }
            });
            size /= 2;
            a = Lanes::new(size as u32 * 8, self.join_all(packed.0, packed.1));
        }
        a
    }

    fn lower_half_of_lanes(&mut self, piece: VReg, bits: u32) -> VReg {
        let mask = self.constant_operand(bits, (1 << (bits / 2)) - 1, Width::X);
        self.three(forms::PAND, Width::X, piece, mask)
    }

    /// A vector as registers of 16 bytes (AVX2).
    pub(super) fn pieces(&mut self, a: &Lanes, lanes: u8) -> Vec<VReg> {
        let (_, width) = self.layout(lanes, a.bits);
        let mut pieces = vec![];
        for &part in &a.parts {
            pieces.push(part);
            if width == Width::Y {
                pieces.push(self.upper_half(part, Width::Y));
            }
        }
        pieces
    }

    /// Pairs of pieces made one by `pack`, or a single one with itself; gives the bytes of each that count.
    pub(super) fn pack_pieces(
        &mut self,
        pieces: Vec<VReg>,
        pack: impl Fn(&mut Self, VReg, VReg) -> VReg,
    ) -> (Vec<VReg>, usize) {
        let bytes = if pieces.len() > 1 { 16 } else { 8 };
        let packed = pieces.chunks(2).map(|pair| pack(self, pair[0], pair[pair.len() - 1])).collect();
        (packed, bytes)
    }

    pub(super) fn bitcast(&mut self, ty: Type, a: Value) -> Lanes {
        let from = self.phase.type_of(a);
        let a = self.value(a);
        let bits = ty.elem.bits();
        match (Self::is_general(from), Self::is_general(ty)) {
            (false, false) => a.with_bits(bits),
            (true, true) => Lanes::new(bits, vec![self.canonical(a.scalar(), ty.elem)]),
            (true, false) if bits >= 32 && ty.lanes == 1 => Lanes::new(bits, vec![self.vector_of(a.scalar(), bits)]),
            (false, true) if from.lanes == 1 => Lanes::new(bits, vec![self.general_of(a.scalar(), bits)]),
            _ => {
                let place = super::super::vcode::Place::frame(0);
                self.code.reserve(ROW);
                self.store_row(from, place, &a);
                self.load_row(ty, place)
            }
        }
    }
}

impl Lanes {
    /// The same registers seen as lanes of so many bits.
    pub(super) fn with_bits(self, bits: u32) -> Self {
        Self { bits, ..self }
    }
}

/// 2^63 as f64.
const TWO_TO_63: u64 = 0x43e0_0000_0000_0000;
