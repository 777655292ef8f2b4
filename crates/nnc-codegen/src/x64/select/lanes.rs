//! How a kernel value lies in registers.
//!
//! An integer or truth value alone is in a general register, extended by its sign (u8, f16, bf16 and bool: by zeros) to
//! 32 bits; of an i32 the upper half of the register means nothing. A float alone is the first lane of a vector
//! register. A vector is a row of full vector registers, or one of the least width that holds it; lanes past its end
//! mean nothing.
//!
//! A mask is, with AVX-512, a row of mask registers, each for the lanes of one vector register when lanes have
//! [`Lanes::bits`] bits; with AVX2, a row of vectors with all bits of a lane set or none. Masks are brought to the lane
//! width of what they are used with ([`super::masks`]).

use super::super::forms::{self, Encoding, Width};
use super::super::vcode::{Base, Place};
use super::Selector;
use super::assemble::Rm;
use nnc_kernel::ir::{Elem, Type, Value};
use regalloc2::VReg;

/// The registers of one kernel value.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// Bits of a lane.
    pub bits: u32,
    /// In the order of lanes.
    pub parts: Vec<VReg>,
    /// Of an index: a constant that is still to be added. [`Selector::value`] gives 0.
    pub plus: i64,
}

impl Lanes {
    pub(super) fn new(bits: u32, parts: Vec<VReg>) -> Self {
        Self { bits, parts, plus: 0 }
    }

    /// The register of a value that has one.
    pub(super) fn scalar(&self) -> VReg {
        self.parts[0]
    }
}

/// A number repeated to fill so many bytes.
pub(super) fn repeated(bits: u32, number: u64, bytes: usize) -> Vec<u8> {
    number.to_le_bytes()[..bits as usize / 8].repeat(bytes / (bits as usize / 8))
}

impl Selector<'_> {
    /// The registers that lanes of so many bits take, and the width of each.
    pub(super) fn layout(&self, lanes: u8, bits: u32) -> (usize, Width) {
        let bytes = usize::from(lanes) * bits as usize / 8;
        let full = self.full_width();
        (bytes.div_ceil(full.bytes()), Width::of(bytes).min(full))
    }

    /// The width of the registers of a type (not of a mask).
    pub(super) fn width(&self, ty: Type) -> Width {
        self.layout(ty.lanes, ty.elem.bits()).1
    }

    /// A constant in registers.
    pub(super) fn make_constant(&mut self, ty: Type, number: u64) -> Lanes {
        let bits = ty.elem.bits();
        if Self::is_general(ty) {
            let number = nnc_kernel::ir::scalar::integer(ty.elem, number);
            return Lanes::new(bits, vec![self.load_number(number)]);
        }
        if Self::is_mask(ty) {
            let (count, _) = self.layout(ty.lanes, 32);
            let mask = self.constant_mask(number != 0);
            return Lanes::new(32, vec![mask; count]);
        }
        let (count, width) = self.layout(ty.lanes, bits);
        let part = self.constant_vector(bits, number, width);
        Lanes::new(bits, vec![part; count])
    }

    /// A vector register with `number` in every lane of `bits` bits.
    pub(super) fn constant_vector(&mut self, bits: u32, number: u64, width: Width) -> VReg {
        if number == 0 {
            return self.zeros(width);
        }
        let pool = self.code.constant(&repeated(bits, number, bits as usize / 8));
        let place = Place { base: Base::Pool(pool), index: None, displacement: 0, broadcast: false };
        self.broadcast(bits, width, Rm::Memory(place))
    }

    /// A constant as an operand: from memory. EVEX instructions repeat elements of 32 and 64 bits.
    pub(super) fn constant_operand(&mut self, bits: u32, number: u64, width: Width) -> Rm {
        let broadcast = self.encoding == Encoding::Evex && bits >= 32;
        let bytes = if broadcast { bits as usize / 8 } else { width.bytes() };
        let pool = self.code.constant(&repeated(bits, number, bytes));
        Rm::Memory(Place { base: Base::Pool(pool), index: None, displacement: 0, broadcast })
    }

    /// Part `at` of a vector or float as the last operand of an instruction whose lanes have as many bits as the
    /// value's.
    pub(super) fn operand(&mut self, value: Value, at: usize) -> Rm {
        match self.known(value) {
            Some(bits) => {
                let ty = self.phase.type_of(value);
                let (lane, width) = (ty.elem.bits(), self.width(ty));
                self.constant_operand(lane, bits, width)
            }
            None => Rm::Register(self.value(value).parts[at]),
        }
    }

    /// The lane number in each lane.
    pub(super) fn iota(&mut self, ty: Type) -> Lanes {
        let number = |lane: usize| nnc_kernel::ir::scalar::of_f64(ty.elem, lane as f64);
        if Self::is_general(ty) {
            return self.make_constant(ty, number(0));
        }
        let size = ty.elem.size();
        let bytes: Vec<u8> =
            (0..usize::from(ty.lanes)).flat_map(|lane| number(lane).to_le_bytes()[..size].to_vec()).collect();
        self.pool_row(ty, &bytes)
    }

    /// A vector constant with differing lanes.
    pub(super) fn pool_row(&mut self, ty: Type, bytes: &[u8]) -> Lanes {
        let (_, width) = self.layout(ty.lanes, ty.elem.bits());
        let parts = bytes.chunks(width.bytes()).map(|chunk| self.pool_vector(chunk, width)).collect();
        Lanes::new(ty.elem.bits(), parts)
    }

    /// A vector register with the given bytes, zeros after them.
    pub(super) fn pool_vector(&mut self, bytes: &[u8], width: Width) -> VReg {
        let mut bytes = bytes.to_vec();
        bytes.resize(width.bytes(), 0);
        let pool = self.code.constant(&bytes);
        let place = Place { base: Base::Pool(pool), index: None, displacement: 0, broadcast: false };
        self.two(forms::LOAD, width, Rm::Memory(place))
    }

    /// A scalar in every lane.
    pub(super) fn splat(&mut self, scalar: &Lanes, ty: Type) -> Lanes {
        let bits = ty.elem.bits();
        if ty.lanes == 1 {
            return scalar.clone();
        }
        if ty.elem == Elem::Bool {
            let mask = self.mask_of_bool(scalar.scalar());
            let (count, _) = self.layout(ty.lanes, 32);
            return Lanes::new(32, vec![mask; count]);
        }
        let (count, width) = self.layout(ty.lanes, bits);
        let first = if ty.elem.is_float() { scalar.scalar() } else { self.vector_of(scalar.scalar(), bits) };
        let part = self.broadcast(bits, width, first);
        Lanes::new(bits, vec![part; count])
    }

    /// A lane as a scalar.
    pub(super) fn lane(&mut self, of: &Lanes, ty: Type, lane: usize) -> Lanes {
        if ty.lanes == 1 {
            return of.clone();
        }
        if ty.elem == Elem::Bool {
            let scalar = self.lane_of_mask(of, ty.lanes, lane);
            return Lanes::new(8, vec![scalar]);
        }
        let (_, width) = self.layout(ty.lanes, of.bits);
        let size = ty.elem.size();
        let at = lane * size;
        let part = of.parts[at / width.bytes()];
        let first = self.extract_bytes(part, width, at % width.bytes(), size);
        self.first_lane(first, ty.elem)
    }

    /// The first lane of a vector register as a scalar.
    pub(super) fn first_lane(&mut self, vector: VReg, elem: Elem) -> Lanes {
        let scalar = if elem.is_float() {
            vector
        } else {
            let general = self.general_of(vector, elem.bits());
            self.canonical(general, elem)
        };
        Lanes::new(elem.bits(), vec![scalar])
    }

    /// A value by its lanes, through memory: `lane` gives each result from the scalars of the operands.
    pub(super) fn lane_by_lane(
        &mut self,
        ty: Type,
        operands: &[(&Lanes, Type)],
        lane: impl Fn(&mut Self, &[Lanes]) -> Lanes,
    ) -> Lanes {
        let places: Vec<Place> = (0..=operands.len()).map(|at| Place::frame(at * ROW)).collect();
        self.code.reserve((operands.len() + 1) * ROW);
        for (&(lanes, ty), &place) in operands.iter().zip(&places) {
            self.store_row(ty, place, lanes);
        }
        let result = places[operands.len()];
        for at in 0..i32::from(ty.lanes) {
            let element = |place: Place, ty: Type| place.plus(at * ty.elem.size() as i32);
            let scalars: Vec<Lanes> = operands
                .iter()
                .zip(&places)
                .map(|(&(_, ty), &place)| self.load_scalar(ty.elem, element(place, ty)))
                .collect();
            let scalar = lane(self, &scalars);
            self.store_scalar(ty.elem, element(result, ty), &scalar);
        }
        self.load_row(ty, result)
    }
}

/// Temporary memory for one value: the longest vector of the widest lanes.
pub(super) const ROW: usize = 64 * 8;
