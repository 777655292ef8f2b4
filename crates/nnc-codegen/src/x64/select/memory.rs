//! Loads and stores.
//!
//! Rows of elements are register loads, short ones by the least move that holds them. Tails and masks are masked moves;
//! with AVX2 only lanes of 32 and 64 bits have them, others go one by one in a loop. Strided and indexed access goes
//! lane by lane: elements are put together in registers, which is faster than gathering on the processors measured.

use super::super::forms::{self, Encoding, Form, Width};
use super::super::vcode::{Base, Draft, Place, View};
use super::Selector;
use super::assemble::Rm;
use super::lanes::{Lanes, ROW};
use iced_x86::Code;
use nnc_kernel::ir::{Access, Address, Base as KernelBase, Elem, Store, Type};
use regalloc2::VReg;

/// The masked load and store of lanes with AVX-512; the load moves between registers, too.
pub(super) fn masked_forms(bits: u32) -> (Form, Form) {
    match bits {
        8 => (forms::LOAD8, forms::STORE8),
        16 => (forms::LOAD16, forms::STORE16),
        32 => (forms::LOAD32, forms::STORE32),
        _ => (forms::LOAD64, forms::STORE64),
    }
}

impl Selector<'_> {
    pub(super) fn place(&mut self, address: Address, elem: Elem) -> Place {
        let size = elem.size() as i64;
        let (base, mut plus) = match address.base {
            KernelBase::Param(param) => (self.params[param.index()], 0),
            KernelBase::Scratch(start) => (self.scratch, i64::from(start)),
        };
        plus += address.plus.wrapping_mul(size);
        let mut index = None;
        if let Some(value) = address.index {
            match self.known(value) {
                Some(number) => plus = plus.wrapping_add((number as i64).wrapping_mul(size)),
                None => {
                    let (register, more) = self.split(value);
                    plus = plus.wrapping_add(more.wrapping_mul(size));
                    index = Some((register, size as u8));
                }
            }
        }
        // Room for the lanes of one access.
        match i32::try_from(plus) {
            Ok(plus) if plus < i32::MAX - ROW as i32 => {
                Place { base: Base::Register(base), index, displacement: plus, broadcast: false }
            }
            _ => {
                let base = self.add_number(base, plus);
                Place { base: Base::Register(base), index, displacement: 0, broadcast: false }
            }
        }
    }

    /// The element `index` (a register) of `elem` elements on from a place.
    pub(super) fn element(&mut self, place: Place, index: VReg, elem: Elem) -> Place {
        let base = match (place.base, place.index) {
            (base, None) => return Place { base, index: Some((index, elem.size() as u8)), ..place },
            _ => self.load_address(&place),
        };
        Place { base: Base::Register(base), index: Some((index, elem.size() as u8)), displacement: 0, broadcast: false }
    }

    /// Offsets count elements of the parameter; those of scratch memory, which has no type of its own, f32.
    pub(super) fn prefetch(&mut self, address: Address) {
        let elem = match address.base {
            KernelBase::Scratch(_) => Elem::F32,
            KernelBase::Param(param) => self.elems[param.index()],
        };
        let place = self.place(address, elem);
        self.code.push(Draft::new(Code::Prefetcht0_m8).memory(&place));
    }

    pub(super) fn load(&mut self, ty: Type, address: Address, access: Access) -> Lanes {
        let place = self.place(address, ty.elem);
        match access {
            Access::Contiguous => self.load_row(ty, place),
            Access::Splat if ty.lanes > 1 && ty.elem != Elem::Bool => {
                let (count, width) = self.layout(ty.lanes, ty.elem.bits());
                let part = self.broadcast(ty.elem.bits(), width, Rm::Memory(place));
                Lanes::new(ty.elem.bits(), vec![part; count])
            }
            Access::Splat => {
                let scalar = self.load_scalar(ty.elem, place);
                self.splat(&scalar, ty)
            }
            Access::Strided(_) | Access::Indexed(_) => {
                let places = self.lane_places(ty, place, access);
                self.load_lanes(ty, &places)
            }
            Access::Tail(count) => {
                let count = self.scalar(count);
                self.load_tail(ty, place, count)
            }
            Access::Masked(mask) => {
                let mask = self.value(mask);
                if ty.lanes == 1 {
                    let count = self.quad_of(mask.scalar(), Elem::Bool);
                    return self.load_tail(ty, place, count);
                }
                self.load_masked(ty, place, &mask)
            }
        }
    }

    pub(super) fn store(&mut self, store: &Store) {
        let ty = self.phase.type_of(store.value);
        let place = self.place(store.address, ty.elem);
        let value = self.value(store.value);
        match store.access {
            Access::Contiguous => self.store_row(ty, place, &value),
            Access::Strided(_) | Access::Indexed(_) => {
                let places = self.lane_places(ty, place, store.access);
                for (lane, place) in places.into_iter().enumerate() {
                    let scalar = self.lane(&value, ty, lane);
                    self.store_scalar(ty.elem, place, &scalar);
                }
            }
            Access::Tail(count) => {
                let count = self.scalar(count);
                self.store_tail(ty, place, &value, count);
            }
            Access::Masked(mask) => {
                let mask = self.value(mask);
                if ty.lanes == 1 {
                    let count = self.quad_of(mask.scalar(), Elem::Bool);
                    return self.store_tail(ty, place, &value, count);
                }
                self.store_masked(ty, place, &value, &mask);
            }
            Access::Splat => unreachable!("refused by the verifier"),
        }
    }

    /// The element at a place; a float in a vector register, all else in a general one.
    pub(super) fn load_scalar(&mut self, elem: Elem, place: Place) -> Lanes {
        if elem.is_float() {
            let part = self.load_short(place, elem.size());
            return Lanes::new(elem.bits(), vec![part]);
        }
        let (code, view) = match elem {
            Elem::I8 => (Code::Movsx_r32_rm8, View::Double),
            Elem::U8 | Elem::Bool => (Code::Movzx_r32_rm8, View::Double),
            Elem::I16 => (Code::Movsx_r32_rm16, View::Double),
            Elem::F16 | Elem::Bf16 => (Code::Movzx_r32_rm16, View::Double),
            Elem::I32 | Elem::F32 => (Code::Mov_r32_rm32, View::Double),
            Elem::I64 | Elem::F64 => (Code::Mov_r64_rm64, View::Quad),
        };
        let to = self.code.general();
        self.code.push(Draft::new(code).def(to, view).memory(&place));
        if elem != Elem::Bool {
            return Lanes::new(elem.bits(), vec![to]);
        }
        let zero = self.load_number(0);
        Lanes::new(8, vec![self.scalar_compare(Elem::I32, nnc_kernel::ir::CompareOp::Ne, to, zero)])
    }

    pub(super) fn store_scalar(&mut self, elem: Elem, place: Place, value: &Lanes) {
        if elem.is_float() {
            return self.store_short(place, value.scalar(), elem.size());
        }
        let (code, view) = match elem.size() {
            1 => (Code::Mov_rm8_r8, View::Byte),
            2 => (Code::Mov_rm16_r16, View::Word),
            4 => (Code::Mov_rm32_r32, View::Double),
            _ => (Code::Mov_rm64_r64, View::Quad),
        };
        self.code.push(Draft::new(code).memory(&place).reads(value.scalar(), view));
    }

    /// Fewer than 16 bytes into the low end of a vector register.
    fn load_short(&mut self, place: Place, bytes: usize) -> VReg {
        let code = match (self.encoding, bytes) {
            (Encoding::Evex, 8) => Code::EVEX_Vmovq_xmm_xmmm64,
            (Encoding::Evex, 4) => Code::EVEX_Vmovd_xmm_rm32,
            (Encoding::Vex, 8) => Code::VEX_Vmovq_xmm_xmmm64,
            (Encoding::Vex, 4) => Code::VEX_Vmovd_xmm_rm32,
            _ => {
                let to = self.code.general();
                self.code.push(Draft::new(Code::Movzx_r32_rm16).def(to, View::Double).memory(&place));
                return self.vector_of(to, 32);
            }
        };
        self.two_views(code, View::X, Rm::Memory(place), View::X)
    }

    fn store_short(&mut self, place: Place, value: VReg, bytes: usize) {
        let code = match (self.encoding, bytes) {
            (Encoding::Evex, 8) => Code::EVEX_Vmovq_xmmm64_xmm,
            (Encoding::Evex, 4) => Code::EVEX_Vmovd_rm32_xmm,
            (Encoding::Vex, 8) => Code::VEX_Vmovq_xmmm64_xmm,
            (Encoding::Vex, 4) => Code::VEX_Vmovd_rm32_xmm,
            _ => {
                let low = self.general_of(value, 32);
                self.code.push(Draft::new(Code::Mov_rm16_r16).memory(&place).reads(low, View::Word));
                return;
            }
        };
        self.code.push(Draft::new(code).memory(&place).reads(value, View::X));
    }

    /// Elements that lie side by side.
    pub(super) fn load_row(&mut self, ty: Type, place: Place) -> Lanes {
        if ty.lanes == 1 {
            return self.load_scalar(ty.elem, place);
        }
        let bits = ty.elem.bits();
        let (count, width) = self.layout(ty.lanes, bits);
        let parts: Vec<VReg> = if ty.size() < 16 {
            vec![self.load_short(place, ty.size())]
        } else {
            let step = width.bytes() as i32;
            (0..count as i32).map(|part| self.two(forms::LOAD, width, Rm::Memory(place.plus(part * step)))).collect()
        };
        let lanes = Lanes::new(bits, parts);
        if ty.elem == Elem::Bool { self.bytes_to_mask(&lanes, width) } else { lanes }
    }

    pub(super) fn store_row(&mut self, ty: Type, place: Place, value: &Lanes) {
        if ty.lanes == 1 {
            return self.store_scalar(ty.elem, place, value);
        }
        let value = if ty.elem == Elem::Bool { self.mask_to_bytes(value, ty.lanes) } else { value.clone() };
        if ty.size() < 16 {
            return self.store_short(place, value.scalar(), ty.size());
        }
        let width = self.layout(ty.lanes, ty.elem.bits()).1;
        for (part, &register) in value.parts.iter().enumerate() {
            self.store_vector(forms::STORE, width, place.plus((part * width.bytes()) as i32), register);
        }
    }

    /// Bytes as truth values: those that are not 0 hold.
    fn bytes_to_mask(&mut self, bytes: &Lanes, width: Width) -> Lanes {
        let zero = self.zeros(width);
        self.each(bytes, |s, part| {
            s.compare_integers(Elem::I8, width, nnc_kernel::ir::CompareOp::Ne, part, zero.into())
        })
    }

    /// Truth values as bytes 0 and 1.
    fn mask_to_bytes(&mut self, mask: &Lanes, lanes: u8) -> Lanes {
        let mask = self.mask_as(mask, lanes, 8);
        let (_, width) = self.layout(lanes, 8);
        let one = self.constant_vector(8, 1, width);
        self.each(&mask, |s, mask| match s.encoding {
            Encoding::Evex => s.keep(8, width, mask, one),
            Encoding::Vex => s.three(forms::PAND, width, mask, one),
        })
    }

    /// The place of each lane.
    fn lane_places(&mut self, ty: Type, place: Place, access: Access) -> Vec<Place> {
        match access {
            Access::Strided(stride) => match self.known(stride) {
                Some(stride) => self.even_places(ty, place, stride as i64),
                None => {
                    let stride = self.scalar(stride);
                    let bytes = self.multiply_by(stride, ty.elem.size() as i64);
                    let mut base = self.load_address(&place);
                    let mut places = vec![];
                    for lane in 0..ty.lanes {
                        if lane > 0 {
                            base = self.general([Code::Add_r32_rm32, Code::Add_r64_rm64], true, base, bytes);
                        }
                        let base = Base::Register(base);
                        places.push(Place { base, index: None, displacement: 0, broadcast: false });
                    }
                    places
                }
            },
            Access::Indexed(indices) => {
                let of = self.phase.type_of(indices);
                let indices = self.value(indices);
                self.code.reserve(ROW);
                let table = Place::frame(0);
                self.store_row(of, table, &indices);
                (0..i32::from(ty.lanes))
                    .map(|lane| {
                        let index = self.load_scalar(of.elem, table.plus(lane * of.elem.size() as i32)).scalar();
                        let index = self.quad_of(index, of.elem);
                        self.element(place, index, ty.elem)
                    })
                    .collect()
            }
            _ => unreachable!("only strided and indexed lanes have places of their own"),
        }
    }

    fn even_places(&mut self, ty: Type, place: Place, stride: i64) -> Vec<Place> {
        let bytes = stride.wrapping_mul(ty.elem.size() as i64);
        let far = bytes.saturating_mul(i64::from(ty.lanes)).saturating_add(i64::from(place.displacement));
        if i32::try_from(far).is_ok() {
            return (0..i32::from(ty.lanes)).map(|lane| place.plus(lane * bytes as i32)).collect();
        }
        let mut places = vec![place];
        let mut base = self.load_address(&place);
        for _ in 1..ty.lanes {
            base = self.add_number(base, bytes);
            let base = Base::Register(base);
            places.push(Place { base, index: None, displacement: 0, broadcast: false });
        }
        places
    }

    /// A vector from elements at places of their own.
    fn load_lanes(&mut self, ty: Type, places: &[Place]) -> Lanes {
        if ty.lanes == 1 {
            return self.load_scalar(ty.elem, places[0]);
        }
        if ty.elem.size() < 4 {
            return self.load_lanes_by_frame(ty, places);
        }
        let size = ty.elem.size();
        let pieces: Vec<VReg> = if size == 8 {
            places.iter().map(|&place| self.load_short(place, 8)).collect()
        } else {
            places.chunks(4).map(|chunk| self.load_four(chunk)).collect()
        };
        let bytes = if size == 8 { 8 } else { 16 };
        Lanes::new(ty.elem.bits(), self.join_all(pieces, bytes))
    }

    /// Up to four elements of 32 bits.
    fn load_four(&mut self, places: &[Place]) -> VReg {
        let mut vector = self.load_short(places[0], 4);
        let code = match self.encoding {
            Encoding::Evex => Code::EVEX_Vinsertps_xmm_xmm_xmmm32_imm8,
            Encoding::Vex => Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8,
        };
        for (lane, place) in places.iter().enumerate().skip(1) {
            let to = self.code.vector();
            let draft = Draft::new(code).def(to, View::X).reads(vector, View::X).memory(place);
            self.code.push(draft.byte((lane as u8) << 4));
            vector = to;
        }
        vector
    }

    fn load_lanes_by_frame(&mut self, ty: Type, places: &[Place]) -> Lanes {
        // The first row of the frame may hold the indices.
        let row = Place::frame(ROW);
        self.code.reserve(2 * ROW);
        for (lane, &place) in places.iter().enumerate() {
            let scalar = self.load_scalar(ty.elem, place);
            self.store_scalar(ty.elem, row.plus((lane * ty.elem.size()) as i32), &scalar);
        }
        self.load_row(ty, row)
    }

    /// `count` brought into `0..=lanes`.
    fn clamp_count(&mut self, count: VReg, lanes: u8) -> VReg {
        let (zero, lanes) = (self.load_number(0), self.load_number(i64::from(lanes)));
        let count = self.scalar_binary(Elem::I64, nnc_kernel::ir::BinaryOp::Max, count, zero);
        self.scalar_binary(Elem::I64, nnc_kernel::ir::BinaryOp::Min, count, lanes)
    }

    /// The mask of the first `count` lanes.
    fn tail_mask(&mut self, ty: Type, count: VReg) -> Lanes {
        let bits = ty.elem.bits();
        let count = self.clamp_count(count, ty.lanes);
        match self.encoding {
            Encoding::Evex => {
                let all = self.load_number(-1);
                let low = self.keep_low_bits(all, count);
                let mask = self.mask_register(low);
                self.mask_as(&Lanes::new(8, vec![mask]), ty.lanes, bits)
            }
            Encoding::Vex => {
                let (parts, width) = self.layout(ty.lanes, bits);
                let elem = if bits == 32 { Elem::I32 } else { Elem::I64 };
                let first = self.vector_of(count, 64);
                let counts = self.broadcast(bits, width, first);
                let per = width.bytes() * 8 / bits as usize;
                let numbers: Vec<u8> = (0..parts * per)
                    .flat_map(|lane| (lane as u64).to_le_bytes()[..bits as usize / 8].to_vec())
                    .collect();
                let parts = numbers.chunks(width.bytes()).map(|chunk| {
                    let numbers = self.pool_vector(chunk, width);
                    self.compare_integers(elem, width, nnc_kernel::ir::CompareOp::Gt, counts, numbers.into())
                });
                Lanes::new(bits, parts.collect())
            }
        }
    }

    fn has_masked_moves(&self, elem: Elem) -> bool {
        self.encoding == Encoding::Evex || elem.size() >= 4
    }

    fn load_tail(&mut self, ty: Type, place: Place, count: VReg) -> Lanes {
        if ty.lanes > 1 && self.has_masked_moves(ty.elem) {
            let mask = self.tail_mask(ty, count);
            return self.load_masked(ty, place, &mask);
        }
        self.load_some(ty, place, count, None)
    }

    fn store_tail(&mut self, ty: Type, place: Place, value: &Lanes, count: VReg) {
        if ty.lanes > 1 && self.has_masked_moves(ty.elem) {
            let mask = self.tail_mask(ty, count);
            return self.store_masked(ty, place, value, &mask);
        }
        self.store_some(ty, place, value, count, None);
    }

    /// The mask for a masked move: no bit past the end.
    fn moving_mask(&mut self, ty: Type, mask: &Lanes) -> Lanes {
        let bits = ty.elem.bits();
        let mask = self.mask_as(mask, ty.lanes, bits);
        if ty.size() >= 16 {
            return mask;
        }
        match self.encoding {
            Encoding::Evex => {
                let low = self.mask_bits(mask.parts[0]);
                let low = self.general_by_number(Code::And_rm64_imm32, low, (1 << ty.lanes) - 1);
                Lanes::new(bits, vec![self.mask_register(low)])
            }
            Encoding::Vex => {
                let lanes: Vec<u8> = vec![0xff; ty.size()];
                let keep = self.pool_vector(&lanes, Width::X);
                self.each(&mask, |s, mask| s.three(forms::PAND, Width::X, mask, keep))
            }
        }
    }

    fn load_masked(&mut self, ty: Type, place: Place, mask: &Lanes) -> Lanes {
        if !self.has_masked_moves(ty.elem) {
            let lanes = self.load_number(i64::from(ty.lanes));
            return self.load_some(ty, place, lanes, Some(mask));
        }
        let bits = ty.elem.bits();
        let width = self.layout(ty.lanes, bits).1;
        let mask = self.moving_mask(ty, mask);
        let parts = mask.parts.iter().enumerate().map(|(part, &mask)| {
            let place = place.plus((part * width.bytes()) as i32);
            match self.encoding {
                Encoding::Evex => self.two_zeroing(masked_forms(bits).0, width, mask, Rm::Memory(place)),
                Encoding::Vex => {
                    let form = if bits == 32 { forms::MASKLOADD } else { forms::MASKLOADQ };
                    self.three(form, width, mask, Rm::Memory(place))
                }
            }
        });
        let lanes = Lanes::new(bits, parts.collect());
        if ty.elem == Elem::Bool { self.bytes_to_mask(&lanes, width) } else { lanes }
    }

    fn store_masked(&mut self, ty: Type, place: Place, value: &Lanes, mask: &Lanes) {
        if !self.has_masked_moves(ty.elem) {
            let lanes = self.load_number(i64::from(ty.lanes));
            return self.store_some(ty, place, value, lanes, Some(mask));
        }
        let bits = ty.elem.bits();
        let width = self.layout(ty.lanes, bits).1;
        let view = super::super::view(width);
        let mask = self.moving_mask(ty, mask);
        let value = if ty.elem == Elem::Bool { self.mask_to_bytes(value, ty.lanes) } else { value.clone() };
        for (part, (&mask, &register)) in mask.parts.iter().zip(&value.parts).enumerate() {
            let place = place.plus((part * width.bytes()) as i32);
            let draft = match self.encoding {
                Encoding::Evex => Draft::new(masked_forms(bits).1.code(self.encoding, width))
                    .memory(&place)
                    .reads(register, view)
                    .masked(mask, false),
                Encoding::Vex => {
                    let form = if bits == 32 { forms::MASKSTORED } else { forms::MASKSTOREQ };
                    Draft::new(form.code(self.encoding, width)).memory(&place).reads(mask, view).reads(register, view)
                }
            };
            self.code.push(draft);
        }
    }

    /// The first `count` lanes, of those only the ones that a mask has, one by one; the others are 0.
    fn load_some(&mut self, ty: Type, place: Place, count: VReg, mask: Option<&Lanes>) -> Lanes {
        let (row, truths) = (Place::frame(0), Place::frame(ROW));
        self.code.reserve(2 * ROW);
        let zero = self.make_constant(ty, 0);
        self.store_row(ty, row, &zero);
        self.each_lane(ty, count, mask.map(|mask| (mask, truths)), |s, lane| {
            let from = s.element(place, lane, ty.elem);
            let scalar = s.load_scalar(ty.elem, from);
            let to = s.element(row, lane, ty.elem);
            s.store_scalar(ty.elem, to, &scalar);
        });
        self.load_row(ty, row)
    }

    fn store_some(&mut self, ty: Type, place: Place, value: &Lanes, count: VReg, mask: Option<&Lanes>) {
        let (row, truths) = (Place::frame(0), Place::frame(ROW));
        self.code.reserve(2 * ROW);
        self.store_row(ty, row, value);
        self.each_lane(ty, count, mask.map(|mask| (mask, truths)), |s, lane| {
            let from = s.element(row, lane, ty.elem);
            let scalar = s.load_scalar(ty.elem, from);
            let to = s.element(place, lane, ty.elem);
            s.store_scalar(ty.elem, to, &scalar);
        });
    }

    /// Runs `body` for each of the first `count` lanes that a mask, kept at a place meanwhile, has.
    fn each_lane(&mut self, ty: Type, count: VReg, mask: Option<(&Lanes, Place)>, body: impl FnOnce(&mut Self, VReg)) {
        let count = self.clamp_count(count, ty.lanes);
        let truths = ty.mask();
        if let Some((mask, place)) = mask {
            self.store_row(truths, place, mask);
        }
        self.count_to(count, |s, lane| match mask {
            None => body(s, lane),
            Some((_, place)) => {
                let truth = s.element(place, lane, Elem::Bool);
                let truth = s.load_scalar(Elem::Bool, truth).scalar();
                s.when(truth, |s| body(s, lane));
            }
        });
    }
}
