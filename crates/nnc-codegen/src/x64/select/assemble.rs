//! Short ways to write instructions.

use super::super::forms::{self, Encoding, Form, Width};
use super::super::vcode::{Base, Draft, Place, View};
use super::super::view;
use super::Selector;
use iced_x86::Code;
use regalloc2::VReg;

/// A register or a place in memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rm {
    Register(VReg),
    Memory(Place),
}

impl From<VReg> for Rm {
    fn from(register: VReg) -> Self {
        Self::Register(register)
    }
}

fn rm(draft: Draft, operand: Rm, view: View) -> Draft {
    match operand {
        Rm::Register(register) => draft.reads(register, view),
        Rm::Memory(place) => draft.memory(&place),
    }
}

/// Vector instructions; each gives its result.
impl Selector<'_> {
    /// `op(a)`.
    pub(super) fn two(&mut self, form: Form, width: Width, a: impl Into<Rm>) -> VReg {
        self.two_widths((form, width), width, a, width)
    }

    /// `op(a)` whose result and operand have widths of their own; `key` says by which the encoding is chosen.
    pub(super) fn two_widths(&mut self, key: (Form, Width), to: Width, a: impl Into<Rm>, from: Width) -> VReg {
        let code = key.0.code(self.encoding, key.1);
        self.two_views(code, view(to), a.into(), view(from))
    }

    /// The lowest lane of a vector register in every lane.
    pub(super) fn broadcast(&mut self, bits: u32, width: Width, a: impl Into<Rm>) -> VReg {
        let form = match bits {
            8 => forms::BROADCASTB,
            16 => forms::BROADCASTW,
            32 => forms::BROADCASTD,
            _ => forms::BROADCASTQ,
        };
        self.two_widths((form, width), width, a, Width::X)
    }

    /// An instruction whose result and operand have views of their own.
    pub(super) fn two_views(&mut self, code: Code, to: View, a: Rm, from: View) -> VReg {
        let result = self.code.vector();
        let draft = Draft::new(code).def(result, to);
        self.code.push(rm(draft, a, from));
        result
    }

    /// `op(a, number)`.
    pub(super) fn two_by_number(&mut self, form: Form, width: Width, a: impl Into<Rm>, number: u8) -> VReg {
        let to = self.code.vector();
        let draft = Draft::new(form.code(self.encoding, width)).def(to, view(width));
        self.code.push(rm(draft, a.into(), view(width)).byte(number));
        to
    }

    /// `op(a, b)`.
    pub(super) fn three(&mut self, form: Form, width: Width, a: VReg, b: impl Into<Rm>) -> VReg {
        let to = self.code.vector();
        let draft = Draft::new(form.code(self.encoding, width)).def(to, view(width)).reads(a, view(width));
        self.code.push(rm(draft, b.into(), view(width)));
        to
    }

    /// `op(a, b, number)`.
    pub(super) fn three_by_number(&mut self, form: Form, width: Width, a: VReg, b: impl Into<Rm>, number: u8) -> VReg {
        let to = self.code.vector();
        let draft = Draft::new(form.code(self.encoding, width)).def(to, view(width)).reads(a, view(width));
        self.code.push(rm(draft, b.into(), view(width)).byte(number));
        to
    }

    /// `op(over, a, b)`; the result takes the place of `over`.
    pub(super) fn over(&mut self, form: Form, width: Width, over: VReg, a: VReg, b: impl Into<Rm>) -> VReg {
        let to = self.code.vector();
        let draft = Draft::new(form.code(self.encoding, width)).def_over(to, over, view(width)).reads(a, view(width));
        self.code.push(rm(draft, b.into(), view(width)));
        to
    }

    /// `op(onto, a)` of two operands, into the register of the first.
    pub(super) fn onto(&mut self, form: Form, width: Width, onto: VReg, a: VReg) -> VReg {
        let to = self.code.vector();
        let draft = Draft::new(form.code(self.encoding, width)).def_onto(to, onto, view(width)).reads(a, view(width));
        self.code.push(draft);
        to
    }

    /// `op(a, b, number)` into a mask register.
    pub(super) fn compare_to_mask(&mut self, form: Form, width: Width, a: VReg, b: impl Into<Rm>, number: u8) -> VReg {
        let to = self.code.mask();
        let draft = Draft::new(form.code(self.encoding, width)).def(to, View::Mask).reads(a, view(width));
        self.code.push(rm(draft, b.into(), view(width)).byte(number));
        to
    }

    /// `b` where the mask register holds, else `a`.
    pub(super) fn blend(&mut self, form: Form, width: Width, mask: VReg, a: VReg, b: impl Into<Rm>) -> VReg {
        let to = self.code.vector();
        let draft = Draft::new(form.code(self.encoding, width)).def(to, view(width)).reads(a, view(width));
        self.code.push(rm(draft, b.into(), view(width)).masked(mask, false));
        to
    }

    /// `op(a)` in the lanes of a mask register, 0 in the others.
    pub(super) fn two_zeroing(&mut self, form: Form, width: Width, mask: VReg, a: impl Into<Rm>) -> VReg {
        let to = self.code.vector();
        let draft = Draft::new(form.code(self.encoding, width)).def(to, view(width));
        self.code.push(rm(draft, a.into(), view(width)).masked(mask, true));
        to
    }

    /// All bits 0.
    pub(super) fn zeros(&mut self, width: Width) -> VReg {
        // Of one register with itself: known to processors as the start of a new value.
        let to = self.code.vector();
        let code = forms::PXOR.code(self.encoding, width.min(Width::Y));
        let view = view(width.min(Width::Y));
        self.code.push(Draft::new(code).def_of_itself(to, view));
        to
    }

    /// All bits 1.
    pub(super) fn ones(&mut self, width: Width) -> VReg {
        if self.encoding == Encoding::Evex {
            return self.constant_vector(32, 0xffff_ffff, width);
        }
        let to = self.code.vector();
        let code = forms::PCMPEQD.code(self.encoding, width);
        self.code.push(Draft::new(code).def_of_itself(to, view(width)));
        to
    }

    /// Stores a register in full.
    pub(super) fn store_vector(&mut self, form: Form, width: Width, place: Place, value: VReg) {
        let draft = Draft::new(form.code(self.encoding, width)).memory(&place).reads(value, view(width));
        self.code.push(draft);
    }

    /// So many bytes at an offset of a vector register, brought to its low end.
    pub(super) fn extract_bytes(&mut self, part: VReg, width: Width, at: usize, count: usize) -> VReg {
        let (mut part, mut at) = (part, at);
        if width == Width::Z && count < 64 && at >= 32 && count <= 32 {
            part = self.upper_half(part, Width::Z);
            at -= 32;
        }
        if at >= 16 && count <= 16 {
            part = self.upper_half(part, Width::Y);
            at -= 16;
        }
        match at {
            0 => part,
            _ => self.two_by_number(forms::PSRLDQ, Width::X, part, at as u8),
        }
    }

    /// The upper half of a register of 64 or 32 bytes.
    pub(super) fn upper_half(&mut self, part: VReg, width: Width) -> VReg {
        let (code, from, to) = match (self.encoding, width) {
            (Encoding::Evex, Width::Z) => (Code::EVEX_Vextracti64x4_ymmm256_k1z_zmm_imm8, View::Z, View::Y),
            (Encoding::Evex, _) => (Code::EVEX_Vextracti32x4_xmmm128_k1z_ymm_imm8, View::Y, View::X),
            (Encoding::Vex, _) => (Code::VEX_Vextracti128_xmmm128_ymm_imm8, View::Y, View::X),
        };
        let result = self.code.vector();
        self.code.push(Draft::new(code).def(result, to).reads(part, from).byte(1));
        result
    }

    /// Two registers whose low `bytes` count, one after the other in one.
    pub(super) fn join(&mut self, low: VReg, high: VReg, bytes: usize) -> VReg {
        let form = match bytes {
            1 => forms::PUNPCKLBW,
            2 => forms::PUNPCKLWD,
            4 => forms::PUNPCKLDQ,
            8 => forms::PUNPCKLQDQ,
            _ => return self.join_wide(low, high, bytes),
        };
        self.three(form, Width::X, low, high)
    }

    fn join_wide(&mut self, low: VReg, high: VReg, bytes: usize) -> VReg {
        let (code, whole, half) = match (self.encoding, bytes) {
            (Encoding::Evex, 32) => (Code::EVEX_Vinserti64x4_zmm_k1z_zmm_ymmm256_imm8, View::Z, View::Y),
            (Encoding::Evex, _) => (Code::EVEX_Vinserti32x4_ymm_k1z_ymm_xmmm128_imm8, View::Y, View::X),
            (Encoding::Vex, _) => (Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8, View::Y, View::X),
        };
        let to = self.code.vector();
        self.code.push(Draft::new(code).def(to, whole).reads(low, whole).reads(high, half).byte(1));
        to
    }

    /// Pieces of `bytes` bytes joined to registers as full as they come.
    pub(super) fn join_all(&mut self, mut pieces: Vec<VReg>, mut bytes: usize) -> Vec<VReg> {
        while pieces.len() > 1 && bytes < self.full_width().bytes() {
            pieces = pieces.chunks(2).map(|pair| self.join(pair[0], pair[1], bytes)).collect();
            bytes *= 2;
        }
        pieces
    }
}

/// General instructions.
impl Selector<'_> {
    /// `a op b` in 32 or 64 bits.
    pub(super) fn general(&mut self, codes: [Code; 2], quad: bool, a: VReg, b: VReg) -> VReg {
        let view = if quad { View::Quad } else { View::Double };
        let to = self.code.general();
        self.code.push(Draft::new(codes[usize::from(quad)]).def_over(to, a, view).reads(b, view));
        to
    }

    /// `op a` in 32 or 64 bits, in place.
    pub(super) fn general_unary(&mut self, codes: [Code; 2], quad: bool, a: VReg) -> VReg {
        let view = if quad { View::Quad } else { View::Double };
        let to = self.code.general();
        self.code.push(Draft::new(codes[usize::from(quad)]).def_over(to, a, view));
        to
    }

    /// `a op number` in 64 bits.
    pub(super) fn general_by_number(&mut self, code: Code, a: VReg, number: i32) -> VReg {
        let to = self.code.general();
        self.code.push(Draft::new(code).def_over(to, a, View::Quad).extended(number));
        to
    }

    /// `a op number` in 32 or 64 bits, for shifts.
    pub(super) fn shift_by_number(&mut self, codes: [Code; 2], quad: bool, a: VReg, by: u8) -> VReg {
        let view = if quad { View::Quad } else { View::Double };
        let to = self.code.general();
        self.code.push(Draft::new(codes[usize::from(quad)]).def_over(to, a, view).byte(by));
        to
    }

    /// A move or extension.
    pub(super) fn general_move(&mut self, code: Code, to: View, a: VReg, from: View) -> VReg {
        let result = self.code.general();
        self.code.push(Draft::new(code).def(result, to).reads(a, from));
        result
    }

    /// A number in a general register.
    pub(super) fn load_number(&mut self, number: i64) -> VReg {
        let to = self.code.general();
        let draft = match (u32::try_from(number), i32::try_from(number)) {
            (Ok(number), _) => Draft::new(Code::Mov_r32_imm32).def(to, View::Double).double(number as i32),
            (_, Ok(number)) => Draft::new(Code::Mov_rm64_imm32).def(to, View::Quad).extended(number),
            _ => Draft::new(Code::Mov_r64_imm64).def(to, View::Quad).quad(number),
        };
        self.code.push(draft);
        to
    }

    /// `a + number` in 64 bits, flags untouched.
    pub(super) fn add_number(&mut self, a: VReg, number: i64) -> VReg {
        match i32::try_from(number) {
            Ok(0) => a,
            Ok(number) => self.load_address(&Place {
                base: Base::Register(a),
                index: None,
                displacement: number,
                broadcast: false,
            }),
            Err(_) => {
                let number = self.load_number(number);
                self.general([Code::Add_r32_rm32, Code::Add_r64_rm64], true, a, number)
            }
        }
    }

    /// The address of a place.
    pub(super) fn load_address(&mut self, place: &Place) -> VReg {
        let to = self.code.general();
        self.code.push(Draft::new(Code::Lea_r64_m).def(to, View::Quad).memory(place));
        to
    }

    /// The 64 bits at an address.
    pub(super) fn load_quad(&mut self, base: VReg, displacement: i32) -> VReg {
        let place = Place { base: Base::Register(base), index: None, displacement, broadcast: false };
        let to = self.code.general();
        self.code.push(Draft::new(Code::Mov_r64_rm64).def(to, View::Quad).memory(&place));
        to
    }

    /// A general register as the lowest lane of a vector register.
    pub(super) fn vector_of(&mut self, general: VReg, bits: u32) -> VReg {
        let (code, view) = match (self.encoding, bits) {
            (Encoding::Evex, 64) => (Code::EVEX_Vmovq_xmm_rm64, View::Quad),
            (Encoding::Evex, _) => (Code::EVEX_Vmovd_xmm_rm32, View::Double),
            (Encoding::Vex, 64) => (Code::VEX_Vmovq_xmm_rm64, View::Quad),
            (Encoding::Vex, _) => (Code::VEX_Vmovd_xmm_rm32, View::Double),
        };
        self.two_views(code, View::X, Rm::Register(general), view)
    }

    /// The lowest lane of a vector register in a general one; what is above `bits` bits means nothing.
    pub(super) fn general_of(&mut self, vector: VReg, bits: u32) -> VReg {
        let (code, view) = match (self.encoding, bits) {
            (Encoding::Evex, 64) => (Code::EVEX_Vmovq_rm64_xmm, View::Quad),
            (Encoding::Evex, _) => (Code::EVEX_Vmovd_rm32_xmm, View::Double),
            (Encoding::Vex, 64) => (Code::VEX_Vmovq_rm64_xmm, View::Quad),
            (Encoding::Vex, _) => (Code::VEX_Vmovd_rm32_xmm, View::Double),
        };
        let to = self.code.general();
        self.code.push(Draft::new(code).def(to, view).reads(vector, View::X));
        to
    }
}
