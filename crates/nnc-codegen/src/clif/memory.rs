//! Loads and stores.
//!
//! Rows of elements are native loads; short vectors go through a scalar of their size. What Cranelift has no
//! instruction for is made of smaller accesses: strided and indexed lane by lane; tails and masks as loops between the
//! memory and a stack slot, which keeps the code small (they occur at edges).

use super::Translator;
use super::lanes::{Lanes, part_count, scalar_type, vector_type};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, BlockArg, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, types};
use nnc_kernel::ir::{Access, Address, Base, Elem, Store, Type};

/// A native address: a register and a constant number of bytes.
#[derive(Clone, Copy)]
struct Place {
    base: ir::Value,
    plus: i32,
}

impl Translator<'_, '_> {
    /// The bounds are the verifier's and the interpreter's care: no access traps.
    pub(super) fn memory_flags(&self) -> MemFlagsData {
        MemFlagsData::new().with_notrap().with_endianness(ir::Endianness::Little)
    }

    fn place(&mut self, address: Address, elem: Elem) -> Place {
        let (mut base, mut plus) = match address.base {
            Base::Param(param) => (self.params[param.index()], 0),
            Base::Scratch(start) => (self.scratch, i64::from(start)),
        };
        let size = elem.size() as i64;
        plus += address.plus.wrapping_mul(size);
        if let Some(index) = address.index {
            let (index, more) = self.split(index);
            plus = plus.wrapping_add(more.wrapping_mul(size));
            let bytes = self.scale(index, elem);
            base = self.b.ins().iadd(base, bytes);
        }
        match i32::try_from(plus) {
            Ok(plus) => Place { base, plus },
            Err(_) => Place { base: self.b.ins().iadd_imm_s(base, plus), plus: 0 },
        }
    }

    fn scale(&mut self, index: ir::Value, elem: Elem) -> ir::Value {
        match elem.size().trailing_zeros() {
            0 => index,
            shift => self.b.ins().ishl_imm_u(index, i64::from(shift)),
        }
    }

    pub(super) fn load(&mut self, ty: Type, address: Address, access: Access) -> Lanes {
        let place = self.place(address, ty.elem);
        match access {
            Access::Contiguous => self.load_row(ty, place),
            Access::Splat => {
                let scalar = self.load_scalar(ty.elem, place);
                self.splat(scalar, ty)
            }
            Access::Strided(_) | Access::Indexed(_) => {
                let places = self.lane_places(ty, place, access);
                let lanes: Vec<ir::Value> = places.into_iter().map(|place| self.load_scalar(ty.elem, place)).collect();
                self.assemble(ty, &lanes)
            }
            Access::Tail(count) => {
                let count = self.value(count).scalar();
                self.load_some(ty, place, count, None)
            }
            Access::Masked(mask) => {
                let mask = self.value(mask);
                let count = self.b.ins().iconst(types::I64, i64::from(ty.lanes));
                self.load_some(ty, place, count, Some(mask))
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
                    self.store_native(scalar, place);
                }
            }
            Access::Tail(count) => {
                let count = self.value(count).scalar();
                self.store_some(ty, place, &value, count, None);
            }
            Access::Masked(mask) => {
                let mask = self.value(mask);
                let count = self.b.ins().iconst(types::I64, i64::from(ty.lanes));
                self.store_some(ty, place, &value, count, Some(mask));
            }
            Access::Splat => unreachable!("refused by the verifier"),
        }
    }

    fn load_native(&mut self, ty: ir::Type, place: Place) -> ir::Value {
        let flags = self.memory_flags();
        self.b.ins().load(ty, flags, place.base, place.plus)
    }

    fn store_native(&mut self, value: ir::Value, place: Place) {
        let flags = self.memory_flags();
        self.b.ins().store(flags, value, place.base, place.plus);
    }

    fn load_scalar(&mut self, elem: Elem, place: Place) -> ir::Value {
        let loaded = self.load_native(scalar_type(elem), place);
        if elem == Elem::Bool { self.b.ins().icmp_imm_u(IntCC::NotEqual, loaded, 0) } else { loaded }
    }

    fn load_row(&mut self, ty: Type, place: Place) -> Lanes {
        let bits = ty.elem.bits();
        if ty.lanes == 1 {
            let scalar = self.load_scalar(ty.elem, place);
            return Lanes::new(bits, vec![scalar]);
        }
        let native = vector_type(ty.elem);
        let parts: Vec<ir::Value> = match short_type(ty) {
            Some(short) => {
                let scalar = self.load_native(short, place);
                let scalar = if short == types::I16 { self.b.ins().uextend(types::I32, scalar) } else { scalar };
                let wide = if short == types::I64 { types::I64X2 } else { types::I32X4 };
                let vector = self.b.ins().scalar_to_vector(wide, scalar);
                vec![self.cast(vector, native)]
            }
            None => (0..part_count(ty.lanes, bits))
                .map(|part| self.load_native(native, Place { plus: place.plus + 16 * part as i32, ..place }))
                .collect(),
        };
        if ty.elem == Elem::Bool { self.bytes_to_mask(parts) } else { Lanes::new(bits, parts) }
    }

    fn bytes_to_mask(&mut self, parts: Vec<ir::Value>) -> Lanes {
        let zero = self.splat_bits(8, 0);
        let masks = parts.into_iter().map(|part| self.b.ins().icmp(IntCC::NotEqual, part, zero));
        Lanes::new(8, masks.collect())
    }

    /// The lanes as they lie in memory: a mask as bytes 0 or 1.
    fn memory_form(&mut self, ty: Type, value: &Lanes) -> Lanes {
        if ty.elem != Elem::Bool || ty.lanes == 1 {
            return value.clone();
        }
        let mask = self.mask_as(value, ty.lanes, 8);
        let one = self.splat_bits(8, 1);
        self.each(&mask, |t, part| t.b.ins().band(part, one))
    }

    fn store_row(&mut self, ty: Type, place: Place, value: &Lanes) {
        let value = self.memory_form(ty, value);
        let short = if ty.lanes == 1 { None } else { short_type(ty) };
        let Some(short) = short else {
            for (part, &native) in value.parts.iter().enumerate() {
                self.store_native(native, Place { plus: place.plus + 16 * part as i32, ..place });
            }
            return;
        };
        let vector = self.cast(value.parts[0], short.by(128 / short.bits()).unwrap_or(short));
        let scalar = self.b.ins().extractlane(vector, 0);
        self.store_native(scalar, place);
    }

    /// Where each lane lies.
    fn lane_places(&mut self, ty: Type, place: Place, access: Access) -> Vec<Place> {
        match access {
            Access::Strided(stride) => {
                let stride = self.value(stride).scalar();
                let step = self.scale(stride, ty.elem);
                let mut base = place.base;
                let mut places = vec![place];
                for _ in 1..ty.lanes {
                    base = self.b.ins().iadd(base, step);
                    places.push(Place { base, ..place });
                }
                places
            }
            Access::Indexed(indices) => {
                let index_type = self.phase.type_of(indices);
                let indices = self.value(indices);
                (0..usize::from(ty.lanes))
                    .map(|lane| {
                        let index = self.lane(&indices, index_type, lane);
                        let index = self.extend_index(index);
                        let bytes = self.scale(index, ty.elem);
                        Place { base: self.b.ins().iadd(place.base, bytes), ..place }
                    })
                    .collect()
            }
            Access::Contiguous | Access::Splat | Access::Tail(_) | Access::Masked(_) => {
                unreachable!("only strided and indexed lanes have places of their own")
            }
        }
    }

    fn load_some(&mut self, ty: Type, place: Place, count: ir::Value, mask: Option<Lanes>) -> Lanes {
        let row = Type { lanes: ty.lanes.max(2), ..ty };
        let slot = self.slot(row);
        let zero = self.splat_bits(8, 0);
        for part in 0..part_count(row.lanes, ty.elem.bits()) {
            self.b.ins().stack_store(types::I64, zero, slot, 16 * part as i32);
        }
        let to = Place { base: self.b.ins().stack_addr(types::I64, slot, 0), plus: 0 };
        self.copy_some(ty, place, to, count, mask);
        let loaded = self.load_row(row, to);
        if ty.lanes > 1 {
            return loaded;
        }
        let scalar = self.lane(&loaded, row, 0);
        Lanes::new(ty.elem.bits(), vec![scalar])
    }

    fn store_some(&mut self, ty: Type, place: Place, value: &Lanes, count: ir::Value, mask: Option<Lanes>) {
        let value = self.memory_form(ty, value);
        let slot = self.spill(&value);
        let from = Place { base: self.b.ins().stack_addr(types::I64, slot, 0), plus: 0 };
        self.copy_some(ty, from, place, count, mask);
    }

    /// A stack slot that holds the value.
    pub(super) fn spill(&mut self, value: &Lanes) -> ir::StackSlot {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 16 * value.parts.len() as u32, 4);
        let slot = self.b.create_sized_stack_slot(data);
        for (part, &native) in value.parts.iter().enumerate() {
            self.b.ins().stack_store(types::I64, native, slot, 16 * part as i32);
        }
        slot
    }

    fn slot(&mut self, ty: Type) -> ir::StackSlot {
        let bytes = 16 * part_count(ty.lanes, ty.elem.bits()) as u32;
        self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4))
    }

    /// Copies the first `count` elements (at most as many as lanes) of which the mask holds: without a mask by native
    /// vectors as far as they are full, then one by one.
    fn copy_some(&mut self, ty: Type, from: Place, to: Place, count: ir::Value, mask: Option<Lanes>) {
        let most = self.b.ins().iconst(types::I64, i64::from(ty.lanes));
        let count = self.b.ins().smin(count, most);
        let zero = self.b.ins().iconst(types::I64, 0);
        let Some(mask) = mask else {
            let each = (16 / ty.elem.size()) as i64;
            let mut start = zero;
            if i64::from(ty.lanes) >= each {
                let end = self.b.ins().iadd_imm_s(count, 1 - each);
                start = self.counted(zero, end, each, |t, lane| t.copy(types::I8X16, ty.elem, from, to, lane));
            }
            self.counted(start, count, 1, |t, lane| t.copy(integer_type(ty.elem), ty.elem, from, to, lane));
            return;
        };
        let bytes = if ty.lanes == 1 { mask } else { self.mask_as(&mask, ty.lanes, 8) };
        let slot = self.spill(&bytes);
        let mask = self.b.ins().stack_addr(types::I64, slot, 0);
        self.counted(zero, count, 1, |t, lane| {
            let flag = t.b.ins().iadd(mask, lane);
            let flag = t.load_native(types::I8, Place { base: flag, plus: 0 });
            let [copy, next] = std::array::from_fn(|_| t.b.create_block());
            t.b.ins().brif(flag, copy, &[], next, &[]);
            t.b.switch_to_block(copy);
            t.copy(integer_type(ty.elem), ty.elem, from, to, lane);
            t.b.ins().jump(next, &[]);
            t.b.switch_to_block(next);
        });
    }

    /// Copies a piece of type `piece` that begins at element `lane`.
    fn copy(&mut self, piece: ir::Type, elem: Elem, from: Place, to: Place, lane: ir::Value) {
        let bytes = self.scale(lane, elem);
        let (source, target) = (self.b.ins().iadd(from.base, bytes), self.b.ins().iadd(to.base, bytes));
        let value = self.load_native(piece, Place { base: source, ..from });
        self.store_native(value, Place { base: target, ..to });
    }

    /// `for lane in (start..end).step_by(step)`; gives the first number that is not below the end.
    fn counted(
        &mut self,
        start: ir::Value,
        end: ir::Value,
        step: i64,
        body: impl FnOnce(&mut Self, ir::Value),
    ) -> ir::Value {
        let [head, round, done] = std::array::from_fn(|_| self.b.create_block());
        let lane = self.b.append_block_param(head, types::I64);
        self.b.ins().jump(head, &[BlockArg::Value(start)]);
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, lane, end);
        self.b.ins().brif(more, round, &[], done, &[]);
        self.b.switch_to_block(round);
        body(self, lane);
        let next = self.b.ins().iadd_imm_s(lane, step);
        self.b.ins().jump(head, &[BlockArg::Value(next)]);
        self.b.switch_to_block(done);
        lane
    }
}

/// The integer that holds a vector of less than 128 bits.
fn short_type(ty: Type) -> Option<ir::Type> {
    match ty.size() {
        2 => Some(types::I16),
        4 => Some(types::I32),
        8 => Some(types::I64),
        _ => None,
    }
}

fn integer_type(elem: Elem) -> ir::Type {
    ir::Type::int(elem.bits() as u16).unwrap_or(types::I8)
}
