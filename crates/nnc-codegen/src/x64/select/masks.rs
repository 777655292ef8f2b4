//! Masks: truth values of several lanes.
//!
//! With AVX-512 they lie in mask registers, of which an instruction reads as many bits as it has lanes; with AVX2 in
//! vectors, all bits of a lane set or none. Bits and lanes past the end mean nothing.

use super::super::forms::{self, Encoding, Width};
use super::super::vcode::{Draft, View};
use super::Selector;
use super::assemble::Rm;
use super::lanes::Lanes;
use iced_x86::Code;
use nnc_kernel::ir::{BinaryOp, Elem, ReduceOp};
use regalloc2::VReg;

impl Selector<'_> {
    /// The same truth value in every lane, of any width.
    pub(super) fn constant_mask(&mut self, truth: bool) -> VReg {
        match (self.encoding, truth) {
            (Encoding::Evex, truth) => {
                let number = self.load_number(if truth { -1 } else { 0 });
                self.mask_register(number)
            }
            (Encoding::Vex, true) => self.ones(Width::Y),
            (Encoding::Vex, false) => self.zeros(Width::Y),
        }
    }

    /// The bits of a general register as a mask register.
    pub(super) fn mask_register(&mut self, bits: VReg) -> VReg {
        let to = self.code.mask();
        self.code.push(Draft::new(Code::VEX_Kmovq_kr_r64).def(to, View::Mask).reads(bits, View::Quad));
        to
    }

    /// The bits of a mask register.
    pub(super) fn mask_bits(&mut self, mask: VReg) -> VReg {
        let to = self.code.general();
        self.code.push(Draft::new(Code::VEX_Kmovq_r64_kr).def(to, View::Quad).reads(mask, View::Mask));
        to
    }

    /// A truth value in every lane, of any width.
    pub(super) fn mask_of_bool(&mut self, truth: VReg) -> VReg {
        let bits = self.negate(truth);
        match self.encoding {
            Encoding::Evex => self.mask_register(bits),
            Encoding::Vex => {
                let first = self.vector_of(bits, 64);
                self.broadcast(64, Width::Y, first)
            }
        }
    }

    /// The first lane of what a comparison gives.
    pub(super) fn bool_of_mask(&mut self, mask: VReg) -> VReg {
        let bits = match self.encoding {
            Encoding::Evex => self.mask_bits(mask),
            Encoding::Vex => self.general_of(mask, 32),
        };
        self.lowest_bit(bits)
    }

    fn lowest_bit(&mut self, bits: VReg) -> VReg {
        self.general_by_number(Code::And_rm64_imm32, bits, 1)
    }

    pub(super) fn lane_of_mask(&mut self, mask: &Lanes, lanes: u8, lane: usize) -> VReg {
        let (_, width) = self.layout(lanes, mask.bits);
        let per = self.full_width().bytes() * 8 / mask.bits as usize;
        let (part, lane) = (mask.parts[lane / per], lane % per);
        let bits = match self.encoding {
            Encoding::Evex => {
                let bits = self.mask_bits(part);
                self.shift_by_number([Code::Shr_rm32_imm8, Code::Shr_rm64_imm8], true, bits, lane as u8)
            }
            Encoding::Vex => {
                let size = mask.bits as usize / 8;
                let first = self.extract_bytes(part, width, lane * size, size);
                self.general_of(first, 32)
            }
        };
        self.lowest_bit(bits)
    }

    pub(super) fn not_mask(&mut self, mask: &Lanes) -> Lanes {
        self.each(mask, |s, mask| match s.encoding {
            Encoding::Evex => {
                let to = s.code.mask();
                s.code.push(Draft::new(Code::VEX_Knotq_kr_kr).def(to, View::Mask).reads(mask, View::Mask));
                to
            }
            Encoding::Vex => s.not_vector(Width::Y, mask),
        })
    }

    fn mask_three(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        let to = self.code.mask();
        self.code.push(Draft::new(code).def(to, View::Mask).reads(a, View::Mask).reads(b, View::Mask));
        to
    }

    /// And, or, exclusive or, of masks with lanes of one width.
    pub(super) fn mask_binary(&mut self, op: BinaryOp, a: &Lanes, b: &Lanes) -> Lanes {
        let (code, form) = match op {
            BinaryOp::And => (Code::VEX_Kandq_kr_kr_kr, forms::PAND),
            BinaryOp::Or => (Code::VEX_Korq_kr_kr_kr, forms::POR),
            _ => (Code::VEX_Kxorq_kr_kr_kr, forms::PXOR),
        };
        let parts = a.parts.iter().zip(&b.parts).map(|(&a, &b)| match self.encoding {
            Encoding::Evex => self.mask_three(code, a, b),
            Encoding::Vex => self.three(form, Width::Y, a, b),
        });
        Lanes::new(a.bits, parts.collect())
    }

    /// `a` where the mask holds, else `b`: all masks with lanes of one width.
    pub(super) fn mask_select(&mut self, mask: &Lanes, a: &Lanes, b: &Lanes) -> Lanes {
        let chosen = self.mask_binary(BinaryOp::And, mask, a);
        let parts = mask.parts.iter().zip(&b.parts).map(|(&mask, &b)| match self.encoding {
            Encoding::Evex => self.mask_three(Code::VEX_Kandnq_kr_kr_kr, mask, b),
            Encoding::Vex => self.three(forms::PANDN, Width::Y, mask, b),
        });
        let other = Lanes::new(a.bits, parts.collect());
        self.mask_binary(BinaryOp::Or, &chosen, &other)
    }

    /// `a` in the bytes that the mask has, else `b` (AVX2).
    pub(super) fn blend_by_bytes(&mut self, width: Width, mask: VReg, a: Rm, b: VReg) -> VReg {
        let to = self.code.vector();
        let view = super::super::view(width);
        let draft = Draft::new(forms::PBLENDVB.code(self.encoding, width)).def(to, view).reads(b, view);
        let draft = match a {
            Rm::Register(register) => draft.reads(register, view),
            Rm::Memory(place) => draft.memory(&place),
        };
        self.code.push(draft.reads(mask, view));
        to
    }

    /// The mask with lanes of `bits` bits.
    pub(super) fn mask_as(&mut self, mask: &Lanes, lanes: u8, bits: u32) -> Lanes {
        let mut mask = mask.clone();
        while mask.bits > bits {
            mask = match self.encoding {
                Encoding::Evex => self.halve_mask(&mask),
                Encoding::Vex => self.halve_vector_mask(&mask, lanes),
            };
        }
        while mask.bits < bits {
            mask = match self.encoding {
                Encoding::Evex => self.double_mask(&mask, lanes),
                Encoding::Vex => self.double_vector_mask(&mask, lanes),
            };
        }
        mask
    }

    fn halve_mask(&mut self, mask: &Lanes) -> Lanes {
        let code = match 512 / mask.bits {
            8 => Code::VEX_Kunpckbw_kr_kr_kr,
            16 => Code::VEX_Kunpckwd_kr_kr_kr,
            _ => Code::VEX_Kunpckdq_kr_kr_kr,
        };
        let parts = mask.parts.chunks(2).map(|pair| match pair {
            [low, high] => self.mask_three(code, *high, *low),
            rest => rest[0],
        });
        Lanes::new(mask.bits / 2, parts.collect())
    }

    fn double_mask(&mut self, mask: &Lanes, lanes: u8) -> Lanes {
        let bits = mask.bits * 2;
        let (wanted, _) = self.layout(lanes, bits);
        let parts = (0..wanted).map(|index| match index % 2 {
            0 => mask.parts[index / 2],
            _ => {
                let to = self.code.mask();
                let draft = Draft::new(Code::VEX_Kshiftrq_kr_kr_imm8).def(to, View::Mask);
                self.code.push(draft.reads(mask.parts[index / 2], View::Mask).byte((512 / bits) as u8));
                to
            }
        });
        Lanes::new(bits, parts.collect())
    }

    fn halve_vector_mask(&mut self, mask: &Lanes, lanes: u8) -> Lanes {
        let pieces = self.pieces(mask, lanes);
        let form = match mask.bits {
            64 => None,
            32 => Some(forms::PACKSSDW),
            _ => Some(forms::PACKSSWB),
        };
        let (pieces, bytes) = self.pack_pieces(pieces, |s, a, b| match form {
            Some(form) => s.three(form, Width::X, a, b),
            None => s.three_by_number(forms::SHUFPS, Width::X, a, b, 0x88),
        });
        Lanes::new(mask.bits / 2, self.join_all(pieces, bytes))
    }

    fn double_vector_mask(&mut self, mask: &Lanes, lanes: u8) -> Lanes {
        let (from, to) = match mask.bits {
            8 => (Elem::I8, Elem::I16),
            16 => (Elem::I16, Elem::I32),
            _ => (Elem::I32, Elem::I64),
        };
        self.widen(mask, from, to, lanes)
    }

    /// All bits of a mask of at most 64 lanes, zeros past its end.
    pub(super) fn all_bits(&mut self, mask: &Lanes, lanes: u8) -> VReg {
        let mask = self.mask_as(mask, lanes, 8);
        let bits: Vec<VReg> = mask
            .parts
            .iter()
            .map(|&part| match self.encoding {
                Encoding::Evex => self.mask_bits(part),
                Encoding::Vex => {
                    let to = self.code.general();
                    let draft = Draft::new(Code::VEX_Vpmovmskb_r32_ymm).def(to, View::Double);
                    self.code.push(draft.reads(part, View::Y));
                    to
                }
            })
            .collect();
        let all = match bits[..] {
            [low, high] => {
                let high = self.shift_by_number([Code::Shl_rm32_imm8, Code::Shl_rm64_imm8], true, high, 32);
                self.general([Code::Or_r32_rm32, Code::Or_r64_rm64], true, low, high)
            }
            _ => bits[0],
        };
        if lanes == 64 {
            return all;
        }
        let count = self.load_number(i64::from(lanes));
        self.keep_low_bits(all, count)
    }

    /// The lowest `count` bits (at most 64).
    pub(super) fn keep_low_bits(&mut self, bits: VReg, count: VReg) -> VReg {
        let to = self.code.general();
        let draft = Draft::new(Code::VEX_Bzhi_r64_rm64_r64).def(to, View::Quad);
        self.code.push(draft.reads(bits, View::Quad).reads(count, View::Quad));
        to
    }

    /// Whether all lanes hold, or any.
    pub(super) fn reduce_mask(&mut self, op: ReduceOp, mask: &Lanes, lanes: u8) -> VReg {
        let bits = self.all_bits(mask, lanes);
        let (number, compare) = match op {
            ReduceOp::And => (u64::MAX >> (64 - u32::from(lanes)), nnc_kernel::ir::CompareOp::Eq),
            _ => (0, nnc_kernel::ir::CompareOp::Ne),
        };
        let number = self.load_number(number as i64);
        self.scalar_compare(Elem::I64, compare, bits, number)
    }
}
