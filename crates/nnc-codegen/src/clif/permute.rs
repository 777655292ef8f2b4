//! Lane permutations and the dot-product steps.

use super::Translator;
use super::lanes::{Lanes, integer_vector, part_count, per_part, vector_type};
use cranelift_codegen::ir::{self, InstBuilder, types};
use nnc_kernel::ir::{Elem, Type, Value};

impl Translator<'_, '_> {
    pub(super) fn iota(&mut self, ty: Type) -> Lanes {
        let (bits, size) = (ty.elem.bits(), ty.elem.size());
        if ty.lanes == 1 {
            return self.constant(ty, 0);
        }
        let each = per_part(bits);
        let parts = (0..part_count(ty.lanes, bits)).map(|part| {
            let mut bytes = [0; 16];
            for (lane, place) in bytes.chunks_exact_mut(size).enumerate() {
                place.copy_from_slice(&number_bits(ty.elem, part * each + lane).to_le_bytes()[..size]);
            }
            self.vector_constant(vector_type(ty.elem), bytes)
        });
        Lanes::new(bits, parts.collect())
    }

    pub(super) fn constant(&mut self, ty: Type, number: u64) -> Lanes {
        let bits = ty.elem.bits();
        let scalar = |t: &mut Self| match ty.elem {
            Elem::F32 => t.b.ins().f32const(f32::from_bits(number as u32)),
            Elem::F64 => t.b.ins().f64const(f64::from_bits(number)),
            Elem::I64 => t.b.ins().iconst(types::I64, number as i64),
            _ => t.b.ins().iconst(super::lanes::scalar_type(ty.elem), number as i64 & ((1 << bits) - 1)),
        };
        if ty.lanes == 1 {
            return Lanes::new(bits, vec![scalar(self)]);
        }
        // A constant mask is made 32 bits wide, the width of most values it meets.
        let (bits, number) = if ty.elem == Elem::Bool { (32, number.wrapping_neg()) } else { (bits, number) };
        let native = if ty.elem == Elem::Bool { types::I32X4 } else { vector_type(ty.elem) };
        let integers = self.splat_bits(bits, number);
        let part = self.cast(integers, native);
        Lanes::new(bits, vec![part; part_count(ty.lanes, bits)])
    }

    pub(super) fn extract(&mut self, a: Value, lane: u8) -> Lanes {
        let ty = self.phase.type_of(a);
        let a = self.value(a);
        let scalar = self.lane(&a, ty, usize::from(lane));
        Lanes::new(ty.elem.bits(), vec![scalar])
    }

    pub(super) fn insert(&mut self, ty: Type, a: Value, scalar: Value, lane: u8) -> Lanes {
        let (mut a, scalar) = (self.value(a), self.value(scalar).scalar());
        if ty.lanes == 1 {
            return Lanes::new(ty.elem.bits(), vec![scalar]);
        }
        let scalar = match (ty.elem, a.bits) {
            (Elem::Bool, 8) => self.b.ins().ineg(scalar),
            (Elem::Bool, bits) => {
                let set = self.b.ins().ineg(scalar);
                self.b.ins().sextend(integer_vector(bits).lane_type(), set)
            }
            _ => scalar,
        };
        let each = per_part(a.bits);
        let part = usize::from(lane) / each;
        a.parts[part] = self.b.ins().insertlane(a.parts[part], scalar, lane % each as u8);
        a
    }

    /// Lane `i` of the result is lane `pattern[i]` of `a` followed by `b`.
    pub(super) fn shuffle(&mut self, a: Value, b: Value, pattern: &[u8]) -> Lanes {
        let ty = self.phase.type_of(a);
        let (left, right) = (self.value(a), self.value(b));
        let (lanes, result) = (usize::from(ty.lanes), ty.with_lanes(pattern.len() as u8));
        if ty.lanes == 1 || result.lanes == 1 {
            let picked: Vec<ir::Value> = pattern
                .iter()
                .map(|&lane| {
                    let lane = usize::from(lane);
                    if lane < lanes { self.lane(&left, ty, lane) } else { self.lane(&right, ty, lane - lanes) }
                })
                .collect();
            return self.assemble(result, &picked);
        }
        let right = if ty.elem == Elem::Bool { self.mask_as(&right, ty.lanes, left.bits) } else { right };
        let each = per_part(left.bits);
        let source = |lane: u8| {
            let lane = usize::from(lane);
            let (of, lane) = if lane < lanes { (&left, lane) } else { (&right, lane - lanes) };
            (of.parts[lane / each], lane % each)
        };
        let sources: Vec<(ir::Value, usize)> = pattern.iter().map(|&lane| source(lane)).collect();
        let parts = sources.chunks(each).map(|lanes| self.gather_part(lanes, left.bits));
        Lanes::new(left.bits, parts.collect())
    }

    /// One native vector from lanes of others, by as many shuffles of two as it takes.
    fn gather_part(&mut self, lanes: &[(ir::Value, usize)], bits: u32) -> ir::Value {
        let each = per_part(bits);
        let ty = self.b.func.dfg.value_type(lanes[0].0);
        let identity = |value| lanes.iter().enumerate().all(|(i, &(from, lane))| from == value && lane == i);
        if identity(lanes[0].0) {
            return lanes[0].0;
        }
        let mut distinct: Vec<ir::Value> = vec![];
        for &(from, _) in lanes {
            if !distinct.contains(&from) {
                distinct.push(from);
            }
        }
        // Lanes past the end mean nothing: they repeat the last pattern so that the shuffle stays simple.
        let wanted = |i: usize| lanes.get(i).copied().unwrap_or((lanes[i % lanes.len()].0, lanes[i % lanes.len()].1));
        let (first, second) = (distinct[0], distinct.get(1).copied().unwrap_or(distinct[0]));
        let size = bits as usize / 8;
        let mask = std::array::from_fn(|byte| {
            let (from, lane) = wanted(byte / size);
            let base = if from == second && second != first { 16 } else { 0 };
            (base + lane * size + byte % size) as u8
        });
        let mut result = self.shuffle_bytes(first, second, mask, ty);
        for &source in distinct.iter().skip(2) {
            let mask = std::array::from_fn(|byte| {
                let (from, lane) = wanted((byte / size).min(each - 1));
                if from == source { (16 + lane * size + byte % size) as u8 } else { byte as u8 }
            });
            result = self.shuffle_bytes(result, source, mask, ty);
        }
        result
    }

    /// Through memory: lanes of a table that is not known until the code runs.
    pub(super) fn look_up(&mut self, table: Value, indices: Value) -> Lanes {
        let (table_type, index_type) = (self.phase.type_of(table), self.phase.type_of(indices));
        let (table, indices) = (self.value(table), self.value(indices));
        if table_type.lanes == 1 {
            return self.splat(table.scalar(), table_type.with_lanes(index_type.lanes));
        }
        let table = if table_type.elem == Elem::Bool { self.mask_as(&table, table_type.lanes, 8) } else { table };
        let slot = self.spill(&table);
        let result = table_type.with_lanes(index_type.lanes);
        let native = super::lanes::scalar_type(table_type.elem);
        let shift = i64::from(table_type.elem.size().trailing_zeros());
        self.lane_by_lane(result, &[(&indices, index_type)], |t, lanes| {
            let index = t.extend_index(lanes[0]);
            let index = t.b.ins().band_imm_u(index, i64::from(table_type.lanes - 1));
            let offset = t.b.ins().ishl_imm_u(index, shift);
            let base = t.b.ins().stack_addr(types::I64, slot, 0);
            let address = t.b.ins().iadd(base, offset);
            let flags = t.memory_flags();
            let loaded = t.b.ins().load(native, flags, address, 0);
            if table_type.elem == Elem::Bool { t.b.ins().band_imm_u(loaded, 1) } else { loaded }
        })
    }

    /// An integer lane as an address offset. Only its value modulo a power of two, or an index in range, matters.
    pub(super) fn extend_index(&mut self, index: ir::Value) -> ir::Value {
        match self.b.func.dfg.value_type(index) {
            types::I64 => index,
            _ => self.b.ins().sextend(types::I64, index),
        }
    }

    /// Products of bytes fit 16 bits, their pairwise sums 32 (`pmaddwd`), so nothing saturates.
    pub(super) fn dot_i8(&mut self, acc: Value, a: Value, b: Value) -> Lanes {
        let ty = self.phase.type_of(acc);
        let wide = Type::vector(Elem::I32, ty.lanes);
        let (acc, a, b) = (self.value(acc), self.value(a), self.value(b));
        if ty.lanes == 1 {
            return self.dot_i8_scalar(&acc, &a, &b);
        }
        let parts = (0..part_count(wide.lanes, 32)).map(|i| {
            let low = self.dot_half(a.parts[i], b.parts[i], false);
            let high = self.dot_half(a.parts[i], b.parts[i], true);
            let sums = self.b.ins().iadd_pairwise(low, high);
            self.b.ins().iadd(acc.parts[i], sums)
        });
        Lanes::new(32, parts.collect())
    }

    fn dot_half(&mut self, a: ir::Value, b: ir::Value, high: bool) -> ir::Value {
        let (a, b) = if high {
            (self.b.ins().uwiden_high(a), self.b.ins().swiden_high(b))
        } else {
            (self.b.ins().uwiden_low(a), self.b.ins().swiden_low(b))
        };
        let (a_low, b_low) = (self.b.ins().swiden_low(a), self.b.ins().swiden_low(b));
        let (a_high, b_high) = (self.b.ins().swiden_high(a), self.b.ins().swiden_high(b));
        let (low, high) = (self.b.ins().imul(a_low, b_low), self.b.ins().imul(a_high, b_high));
        self.b.ins().iadd_pairwise(low, high)
    }

    fn dot_i8_scalar(&mut self, acc: &Lanes, a: &Lanes, b: &Lanes) -> Lanes {
        let mut sum = acc.scalar();
        for lane in 0..4 {
            let a = self.lane(a, Type::vector(Elem::U8, 4), lane);
            let b = self.lane(b, Type::vector(Elem::I8, 4), lane);
            let (a, b) = (self.b.ins().uextend(types::I32, a), self.b.ins().sextend(types::I32, b));
            let product = self.b.ins().imul(a, b);
            sum = self.b.ins().iadd(sum, product);
        }
        Lanes::new(32, vec![sum])
    }

    /// The even bf16 lanes are the low halves of 32-bit lanes, the odd ones the high halves.
    pub(super) fn dot_bf16(&mut self, acc: Value, a: Value, b: Value) -> Lanes {
        let ty = self.phase.type_of(acc);
        let (acc, a, b) = (self.value(acc), self.value(a), self.value(b));
        if ty.lanes == 1 {
            let (a, b) = (a.parts[0], b.parts[0]);
            let zero = self.splat_bits(32, 0);
            let zero = self.cast(zero, types::F32X4);
            let acc = self.b.ins().insertlane(zero, acc.scalar(), 0);
            let sum = self.dot_bf16_part(acc, a, b);
            return Lanes::new(32, vec![self.b.ins().extractlane(sum, 0)]);
        }
        let parts = (0..acc.parts.len()).map(|i| self.dot_bf16_part(acc.parts[i], a.parts[i], b.parts[i]));
        Lanes::new(32, parts.collect())
    }

    fn dot_bf16_part(&mut self, acc: ir::Value, a: ir::Value, b: ir::Value) -> ir::Value {
        let (a, b) = (self.cast(a, types::I32X4), self.cast(b, types::I32X4));
        let upper = self.splat_bits(32, 0xffff_0000);
        let widen_even = |t: &mut Self, pair| {
            let shifted = t.b.ins().ishl_imm_u(pair, 16);
            t.cast(shifted, types::F32X4)
        };
        let (a_even, b_even) = (widen_even(self, a), widen_even(self, b));
        let (a_odd, b_odd) = (self.b.ins().band(a, upper), self.b.ins().band(b, upper));
        let (a_odd, b_odd) = (self.cast(a_odd, types::F32X4), self.cast(b_odd, types::F32X4));
        let sum = self.b.ins().fma(a_even, b_even, acc);
        self.b.ins().fma(a_odd, b_odd, sum)
    }
}

/// The bits of a lane number in an element type.
fn number_bits(elem: Elem, number: usize) -> u64 {
    match elem {
        Elem::F32 => u64::from((number as f32).to_bits()),
        Elem::F64 => (number as f64).to_bits(),
        Elem::I8 | Elem::U8 | Elem::I16 | Elem::I32 | Elem::I64 => number as u64,
        Elem::F16 | Elem::Bf16 | Elem::Bool => unreachable!("refused by the verifier"),
    }
}
