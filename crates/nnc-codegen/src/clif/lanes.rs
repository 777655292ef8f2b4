//! How a kernel value lies in native registers.
//!
//! A scalar is one native scalar (bool: an i8 that is 0 or 1). A vector is a row of 128-bit native vectors; the last
//! (and only) one of a short vector has lanes that mean nothing. A mask has all bits of a lane set or none; its lanes
//! are as wide as those of the values it was made from, and are widened or narrowed where it is used with others.

use super::Translator;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, types};
use nnc_kernel::ir::{Elem, Type};

/// The native values of one kernel value.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// Bits of a lane.
    pub bits: u32,
    /// In the order of lanes.
    pub parts: Vec<ir::Value>,
    /// Of an index: a constant that is still to be added (see [`super::index`]). [`Translator::value`] gives 0.
    pub plus: i64,
}

impl Lanes {
    pub(super) fn new(bits: u32, parts: Vec<ir::Value>) -> Self {
        Self { bits, parts, plus: 0 }
    }

    /// The native value of a scalar.
    pub(super) fn scalar(&self) -> ir::Value {
        self.parts[0]
    }
}

/// The native type of a scalar.
pub(super) fn scalar_type(elem: Elem) -> ir::Type {
    match elem {
        Elem::F32 => types::F32,
        Elem::F64 => types::F64,
        Elem::F16 | Elem::Bf16 | Elem::I16 => types::I16,
        Elem::I8 | Elem::U8 | Elem::Bool => types::I8,
        Elem::I32 => types::I32,
        Elem::I64 => types::I64,
    }
}

/// The native vector of such lanes (not for bool, whose lanes have no one width).
pub(super) fn vector_type(elem: Elem) -> ir::Type {
    let scalar = scalar_type(elem);
    scalar.by(128 / scalar.bits()).unwrap_or(scalar)
}

/// The native vector of integer lanes of `bits` bits.
pub(super) fn integer_vector(bits: u32) -> ir::Type {
    match bits {
        8 => types::I8X16,
        16 => types::I16X8,
        32 => types::I32X4,
        _ => types::I64X2,
    }
}

/// How many lanes of `bits` bits a native vector has.
pub(super) fn per_part(bits: u32) -> usize {
    128 / bits as usize
}

/// How many native vectors `lanes` lanes of `bits` bits take.
pub(super) fn part_count(lanes: u8, bits: u32) -> usize {
    (usize::from(lanes) * bits as usize).div_ceil(128)
}

impl Translator<'_, '_> {
    /// The value's bits as another native type of the same size.
    pub(super) fn cast(&mut self, value: ir::Value, to: ir::Type) -> ir::Value {
        if self.b.func.dfg.value_type(value) == to {
            return value;
        }
        let flags = ir::MemFlagsData::new().with_endianness(ir::Endianness::Little);
        self.b.ins().bitcast(to, flags, value)
    }

    /// A native vector with the given 16 bytes.
    pub(super) fn vector_constant(&mut self, ty: ir::Type, bytes: [u8; 16]) -> ir::Value {
        let constant = self.b.func.dfg.constants.insert(bytes.as_slice().into());
        self.b.ins().vconst(ty, constant)
    }

    /// A native vector with `number` in every lane of `bits` bits.
    pub(super) fn splat_bits(&mut self, bits: u32, number: u64) -> ir::Value {
        let mut bytes = [0; 16];
        for lane in bytes.chunks_exact_mut(bits as usize / 8) {
            lane.copy_from_slice(&number.to_le_bytes()[..bits as usize / 8]);
        }
        self.vector_constant(integer_vector(bits), bytes)
    }

    /// Bytes picked from two native vectors, the result as `ty`.
    pub(super) fn shuffle_bytes(&mut self, a: ir::Value, b: ir::Value, mask: [u8; 16], ty: ir::Type) -> ir::Value {
        let (a, b) = (self.cast(a, types::I8X16), self.cast(b, types::I8X16));
        let mask = self.b.func.dfg.immediates.push(mask.as_slice().into());
        let picked = self.b.ins().shuffle(a, b, mask);
        self.cast(picked, ty)
    }

    /// A lane as a native scalar; of a mask, 0 or 1.
    pub(super) fn lane(&mut self, of: &Lanes, ty: Type, lane: usize) -> ir::Value {
        if ty.lanes == 1 {
            return of.scalar();
        }
        let each = per_part(of.bits);
        let extracted = self.b.ins().extractlane(of.parts[lane / each], (lane % each) as u8);
        if ty.elem != Elem::Bool {
            return extracted;
        }
        let byte = if of.bits == 8 { extracted } else { self.b.ins().ireduce(types::I8, extracted) };
        self.b.ins().band_imm_u(byte, 1)
    }

    /// A value from its lanes as native scalars (of a mask, 0 or 1).
    pub(super) fn assemble(&mut self, ty: Type, lanes: &[ir::Value]) -> Lanes {
        let bits = ty.elem.bits();
        if ty.lanes == 1 {
            return Lanes::new(bits, lanes.to_vec());
        }
        let vector = vector_type(ty.elem);
        let each = per_part(bits);
        let mut parts: Vec<ir::Value> = lanes.chunks(each).map(|chunk| self.part_from_lanes(vector, chunk)).collect();
        if ty.elem == Elem::Bool {
            let zero = self.splat_bits(8, 0);
            parts = parts.iter().map(|&part| self.b.ins().icmp(IntCC::NotEqual, part, zero)).collect();
        }
        Lanes::new(bits, parts)
    }

    fn part_from_lanes(&mut self, vector: ir::Type, lanes: &[ir::Value]) -> ir::Value {
        let mut part = self.first_lane(vector, lanes[0]);
        for (index, &lane) in lanes.iter().enumerate().skip(1) {
            part = self.b.ins().insertlane(part, lane, index as u8);
        }
        part
    }

    /// A native vector with `scalar` in its first lane; the others mean nothing. Cranelift moves scalars of 32 and 64
    /// bits to vectors, so narrower ones are widened on the way.
    pub(super) fn first_lane(&mut self, vector: ir::Type, scalar: ir::Value) -> ir::Value {
        if self.b.func.dfg.value_type(scalar).bits() >= 32 {
            return self.b.ins().scalar_to_vector(vector, scalar);
        }
        let wide = self.b.ins().uextend(types::I32, scalar);
        let wide = self.b.ins().scalar_to_vector(types::I32X4, wide);
        self.cast(wide, vector)
    }

    /// The same scalar in every lane.
    pub(super) fn splat(&mut self, scalar: ir::Value, ty: Type) -> Lanes {
        let bits = ty.elem.bits();
        if ty.lanes == 1 {
            return Lanes::new(bits, vec![scalar]);
        }
        let scalar = if ty.elem == Elem::Bool { self.b.ins().ineg(scalar) } else { scalar };
        let part = self.b.ins().splat(vector_type(ty.elem), scalar);
        Lanes::new(bits, vec![part; part_count(ty.lanes, bits)])
    }

    /// A mask of `lanes` lanes with lanes of `bits` bits.
    pub(super) fn mask_as(&mut self, mask: &Lanes, lanes: u8, bits: u32) -> Lanes {
        let mut mask = mask.clone();
        while mask.bits > bits {
            mask = self.halve_mask(&mask);
        }
        while mask.bits < bits {
            mask = self.double_mask(&mask, lanes);
        }
        mask
    }

    fn halve_mask(&mut self, mask: &Lanes) -> Lanes {
        let pairs: Vec<(ir::Value, ir::Value)> =
            mask.parts.chunks(2).map(|pair| (pair[0], *pair.last().unwrap_or(&pair[0]))).collect();
        let parts = pairs.into_iter().map(|(a, b)| match mask.bits {
            64 => self.shuffle_bytes(a, b, PICK_LOW_OF_64, types::I32X4),
            _ => self.b.ins().snarrow(a, b),
        });
        Lanes::new(mask.bits / 2, parts.collect())
    }

    fn double_mask(&mut self, mask: &Lanes, lanes: u8) -> Lanes {
        let bits = mask.bits * 2;
        let wanted = part_count(lanes, bits);
        let parts = (0..wanted).map(|index| match index % 2 {
            0 => self.b.ins().swiden_low(mask.parts[index / 2]),
            _ => self.b.ins().swiden_high(mask.parts[index / 2]),
        });
        Lanes::new(bits, parts.collect())
    }

    /// The mask's first part as it must stand in a `bitselect` of such values.
    pub(super) fn select_parts(&mut self, mask: &Lanes, a: &Lanes, b: &Lanes) -> Lanes {
        let parts = (0..a.parts.len()).map(|index| {
            let ty = self.b.func.dfg.value_type(a.parts[index]);
            let condition = self.cast(mask.parts[index], ty);
            self.b.ins().bitselect(condition, a.parts[index], b.parts[index])
        });
        Lanes::new(a.bits, parts.collect())
    }
}

/// The low halves of the 64-bit lanes of two vectors.
const PICK_LOW_OF_64: [u8; 16] = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
