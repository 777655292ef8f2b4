//! Lane permutations and the dot-product steps.

use super::super::forms::{self, Encoding, Width};
use super::super::vcode::Place;
use super::Selector;
use super::lanes::{Lanes, ROW};
use iced_x86::Code;
use nnc_kernel::ir::{Type, Value};
use regalloc2::VReg;

impl Selector<'_> {
    pub(super) fn extract(&mut self, a: Value, lane: u8) -> Lanes {
        let ty = self.phase.type_of(a);
        let a = self.value(a);
        self.lane(&a, ty, usize::from(lane))
    }

    pub(super) fn insert(&mut self, ty: Type, a: Value, scalar: Value, lane: u8) -> Lanes {
        let (a, scalar) = (self.value(a), self.value(scalar));
        if ty.lanes == 1 {
            return scalar;
        }
        let row = Place::frame(0);
        self.code.reserve(ROW);
        self.store_row(ty, row, &a);
        self.store_scalar(ty.elem, row.plus(i32::from(lane) * ty.elem.size() as i32), &scalar);
        self.load_row(ty, row)
    }

    /// Lane `i` of the result is lane `pattern[i]` of `a` followed by `b`.
    pub(super) fn shuffle(&mut self, a: Value, b: Value, pattern: &[u8]) -> Lanes {
        let ty = self.phase.type_of(a);
        let (left, right) = (self.value(a), self.value(b));
        let result = ty.with_lanes(pattern.len() as u8);
        if ty.lanes > 1
            && result.lanes > 1
            && ty.elem.size() >= 4
            && let Some(parts) = self.shuffle_parts(ty, &left, &right, pattern)
        {
            return Lanes::new(left.bits, parts);
        }
        self.shuffle_by_frame(ty, &left, &right, pattern)
    }

    /// Through memory, lane by lane.
    fn shuffle_by_frame(&mut self, ty: Type, a: &Lanes, b: &Lanes, pattern: &[u8]) -> Lanes {
        let result = ty.with_lanes(pattern.len() as u8);
        let (first, second, row) = (Place::frame(0), Place::frame(ROW), Place::frame(2 * ROW));
        self.code.reserve(3 * ROW);
        self.store_row(ty, first, a);
        self.store_row(ty, second, b);
        for (at, &lane) in pattern.iter().enumerate() {
            let (from, lane) = if lane < ty.lanes { (first, lane) } else { (second, lane - ty.lanes) };
            let scalar = self.load_scalar(ty.elem, from.plus(i32::from(lane) * ty.elem.size() as i32));
            self.store_scalar(ty.elem, row.plus((at * ty.elem.size()) as i32), &scalar);
        }
        self.load_row(result, row)
    }

    /// By permutations of one or two registers; `None` where a part takes lanes of more.
    fn shuffle_parts(&mut self, ty: Type, a: &Lanes, b: &Lanes, pattern: &[u8]) -> Option<Vec<VReg>> {
        let per = self.full_width().bytes() / ty.elem.size();
        let lanes = usize::from(ty.lanes);
        let source = |&lane: &u8| {
            let lane = usize::from(lane);
            let (of, lane) = if lane < lanes { (a, lane) } else { (b, lane - lanes) };
            (of.parts[lane / per], lane % per)
        };
        let sources: Vec<(VReg, usize)> = pattern.iter().map(source).collect();
        let distinct = |chunk: &[(VReg, usize)]| {
            let mut found: Vec<VReg> = vec![];
            for &(register, _) in chunk {
                if !found.contains(&register) {
                    found.push(register);
                }
            }
            found
        };
        if sources.chunks(per).any(|chunk| distinct(chunk).len() > 2) {
            return None;
        }
        let parts = sources.chunks(per).map(|chunk| {
            let of = distinct(chunk);
            self.permute(ty.elem.size(), chunk, of[0], of.get(1).copied())
        });
        Some(parts.collect())
    }

    /// One register from lanes (of 4 or 8 bytes) of one or two.
    fn permute(&mut self, size: usize, lanes: &[(VReg, usize)], first: VReg, second: Option<VReg>) -> VReg {
        if second.is_none() && lanes.iter().enumerate().all(|(at, &(_, lane))| at == lane) {
            return first;
        }
        // In units of 32 bits.
        let units = size / 4;
        let full = self.full_width();
        let of_second = |register: VReg| u32::from(Some(register) == second);
        let numbers: Vec<(u32, u32)> = lanes
            .iter()
            .flat_map(|&(register, lane)| {
                (0..units).map(move |unit| (of_second(register), (lane * units + unit) as u32))
            })
            .collect();
        let bytes = |number: &dyn Fn((u32, u32)) -> u32| {
            numbers.iter().flat_map(|&pair| number(pair).to_le_bytes()).collect::<Vec<u8>>()
        };
        let Some(second) = second else {
            let indices = self.pool_vector(&bytes(&|(_, unit)| unit), full);
            return self.three(forms::PERMD, full, indices, first);
        };
        if let Some((shuffle, [a, b])) = single_shuffle(&numbers) {
            let [a, b] = [a, b].map(|of| if of == 0 { first } else { second });
            let (form, number) = shuffle.instruction(self.encoding);
            let width = if numbers.len() == 2 * FOUR { Width::Y } else { Width::Z };
            return self.three_by_number(form, width, a, b, number);
        }
        if self.encoding == Encoding::Evex {
            let indices = self.pool_vector(&bytes(&|(of, unit)| of * 16 + unit), full);
            return self.over(forms::PERMT2D, full, first, indices, second);
        }
        let indices = self.pool_vector(&bytes(&|(_, unit)| unit), full);
        let [first, second] = [first, second].map(|register| self.three(forms::PERMD, full, indices, register));
        let chosen = numbers.iter().enumerate().fold(0u8, |mask, (at, &(of, _))| mask | (of as u8) << at);
        self.three_by_number(forms::PBLENDD, full, first, second, chosen)
    }

    /// Lanes of a table that is not known until the code runs: a permutation where table and indices are one register
    /// of eight or sixteen lanes of 32 bits, else through memory.
    pub(super) fn look_up(&mut self, table: Value, indices: Value) -> Lanes {
        let (table_type, index_type) = (self.phase.type_of(table), self.phase.type_of(indices));
        let (table, indices) = (self.value(table), self.value(indices));
        let result = table_type.with_lanes(index_type.lanes);
        if table_type.lanes == 1 {
            return self.splat(&table, result);
        }
        let is_register = |ty: Type, lanes: &Lanes| ty.elem.size() == 4 && ty.lanes >= 8 && lanes.parts.len() == 1;
        if table_type.lanes == index_type.lanes && is_register(table_type, &table) && is_register(index_type, &indices)
        {
            let width = self.width(table_type);
            return Lanes::new(table.bits, vec![self.three(forms::PERMD, width, indices.parts[0], table.parts[0])]);
        }
        let (row, numbers, out) = (Place::frame(0), Place::frame(ROW), Place::frame(2 * ROW));
        self.code.reserve(3 * ROW);
        self.store_row(table_type, row, &table);
        self.store_row(index_type, numbers, &indices);
        for lane in 0..i32::from(index_type.lanes) {
            let place = numbers.plus(lane * index_type.elem.size() as i32);
            let index = self.load_scalar(index_type.elem, place).scalar();
            let index = self.general_by_number(Code::And_rm64_imm32, index, i32::from(table_type.lanes) - 1);
            let from = self.element(row, index, table_type.elem);
            let scalar = self.load_scalar(table_type.elem, from);
            self.store_scalar(table_type.elem, out.plus(lane * table_type.elem.size() as i32), &scalar);
        }
        self.load_row(result, out)
    }

    /// Sums of four products of bytes, exact, wrapping in 32 bits. `narrow` tells that the sums of two products fit 16
    /// bits.
    pub(super) fn dot_i8(&mut self, acc: Value, a: Value, b: Value, narrow: bool) -> Lanes {
        let ty = self.phase.type_of(acc);
        if ty.lanes == 1 {
            return self.dot_i8_scalar(acc, a, b, narrow);
        }
        let width = self.width(ty);
        let (acc, a, b) = (self.value(acc), self.value(a), self.value(b));
        let parts = (0..acc.parts.len()).map(|at| {
            let (acc, a, b) = (acc.parts[at], a.parts[at], b.parts[at]);
            self.add_products(width, acc, (a, b), narrow)
        });
        Lanes::new(32, parts.collect())
    }

    /// The accumulator of one lane is in a general register, its four bytes in vectors.
    fn dot_i8_scalar(&mut self, acc: Value, a: Value, b: Value, narrow: bool) -> Lanes {
        let (sum, a, b) = (self.scalar(acc), self.value(a).scalar(), self.value(b).scalar());
        let sum = self.vector_of(sum, 32);
        let sum = self.add_products(Width::X, sum, (a, b), narrow);
        Lanes::new(32, vec![self.general_of(sum, 32)])
    }

    fn add_products(&mut self, width: Width, acc: VReg, (a, b): (VReg, VReg), narrow: bool) -> VReg {
        match (self.isa.has_byte_products(), narrow) {
            (true, true | false) => self.over(forms::PDPBUSD, width, acc, a, b),
            (false, true) => self.dot_bytes(width, acc, a, b),
            (false, false) => self.dot_words(width, acc, a, b),
        }
    }

    /// Even and odd bytes as words, whose products and sums of two are exact in 32 bits.
    fn dot_words(&mut self, width: Width, acc: VReg, a: VReg, b: VReg) -> VReg {
        let low = self.constant_vector(16, 0xff, width);
        let even_a = self.three(forms::PAND, width, a, low);
        let odd_a = self.two_by_number(forms::PSRLW, width, a, 8);
        let even_b = self.two_by_number(forms::PSLLW, width, b, 8);
        let even_b = self.two_by_number(forms::PSRAW, width, even_b, 8);
        let odd_b = self.two_by_number(forms::PSRAW, width, b, 8);
        let even = self.three(forms::PMADDWD, width, even_a, even_b);
        let odd = self.three(forms::PMADDWD, width, odd_a, odd_b);
        let both = self.three(forms::PADDD, width, even, odd);
        self.onto(forms::PADDD, width, acc, both)
    }

    /// Products of bytes by numbers so small that the sums of two fit 16 bits.
    fn dot_bytes(&mut self, width: Width, acc: VReg, a: VReg, b: VReg) -> VReg {
        let pairs = self.three(forms::PMADDUBSW, width, a, b);
        let ones = self.constant_operand(16, 1, width);
        let fours = self.three(forms::PMADDWD, width, pairs, ones);
        self.onto(forms::PADDD, width, acc, fours)
    }

    /// Two fused multiply-adds of the halves of each lane, widened: the instruction for it rounds otherwise.
    pub(super) fn dot_bf16(&mut self, ty: Type, acc: Value, a: Value, b: Value) -> Lanes {
        let width = self.width(ty);
        let (acc, a, b) = (self.value(acc), self.value(a), self.value(b));
        let parts = (0..acc.parts.len()).map(|at| {
            let (a, b) = (a.parts[at], b.parts[at]);
            let upper = |s: &mut Self, x| {
                let mask = s.constant_operand(32, 0xffff_0000, width);
                s.three(forms::PAND, width, x, mask)
            };
            let [low_a, low_b] = [a, b].map(|x| self.two_by_number(forms::PSLLD, width, x, 16));
            let (high_a, high_b) = (upper(self, a), upper(self, b));
            let sum = self.over(forms::FMA231PS, width, acc.parts[at], low_a, low_b);
            self.over(forms::FMA231PS, width, sum, high_a, high_b)
        });
        Lanes::new(32, parts.collect())
    }
}

/// Units of 32 bits in 128 bits, which shuffles within do not leave.
const FOUR: usize = 4;

/// What one instruction without a table of indices does to two registers of 256 or 512 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shuffle {
    /// In each 128 bits two units of the first, then two of the second: two bits for each.
    Within(u8),
    /// Of 256 bits a half of the first, then one of the second.
    Halves([u8; 2]),
    /// Of 512 bits two quarters of the first, then two of the second.
    Quarters([u8; 4]),
}

impl Shuffle {
    /// The instruction and its number.
    fn instruction(self, encoding: Encoding) -> (forms::Form, u8) {
        match (self, encoding) {
            (Self::Within(number), Encoding::Vex | Encoding::Evex) => (forms::SHUFPS, number),
            (Self::Halves([low, high]), Encoding::Vex) => (forms::PERM2F128, low | (2 + high) << 4),
            (Self::Halves([low, high]), Encoding::Evex) => (forms::SHUFF32X4, low | high << 1),
            (Self::Quarters(of), Encoding::Vex | Encoding::Evex) => {
                (forms::SHUFF32X4, of.iter().rev().fold(0, |number, quarter| number << 2 | quarter))
            }
        }
    }
}

/// The instruction that takes eight or sixteen units of two registers at once, and which of them are its operands. Each
/// unit is the number of its register and its place there.
fn single_shuffle(units: &[(u32, u32)]) -> Option<(Shuffle, [u32; 2])> {
    if units.len() != 2 * FOUR && units.len() != 4 * FOUR {
        return None;
    }
    moved(units).or_else(|| within(units))
}

/// Whole 128 bits that change places: the first half of them of one register, the second of another.
fn moved(units: &[(u32, u32)]) -> Option<(Shuffle, [u32; 2])> {
    let whole = |four: &[(u32, u32)]| {
        let (of, start) = four[0];
        let follows = four.iter().zip(start..).all(|(&unit, at)| unit == (of, at));
        ((start as usize).is_multiple_of(FOUR) && follows).then_some((of, (start as usize / FOUR) as u8))
    };
    let fours: Vec<(u32, u8)> = units.chunks(FOUR).map(whole).collect::<Option<_>>()?;
    match fours[..] {
        [(a, low @ 0..2), (b, high @ 0..2)] => Some((Shuffle::Halves([low, high]), [a, b])),
        [(a, i), (c, j), (b, k), (d, l)] if a == c && b == d => Some((Shuffle::Quarters([i, j, k, l]), [a, b])),
        _ => None,
    }
}

/// Units that stay within their 128 bits, in all of them by the same pattern.
fn within(units: &[(u32, u32)]) -> Option<(Shuffle, [u32; 2])> {
    let [a, b] = [units[0].0, units[2].0];
    let own = |four: &[(u32, u32)]| four.iter().zip([a, a, b, b]).all(|(&(of, _), wanted)| of == wanted);
    let number = |(at, four): (usize, &[(u32, u32)])| {
        let base = (at * FOUR) as u32;
        let inside = own(four) && four.iter().all(|&(_, unit)| (base..base + FOUR as u32).contains(&unit));
        inside.then(|| four.iter().rev().fold(0, |number, &(_, unit)| number << 2 | (unit - base) as u8))
    };
    let mut numbers = units.chunks(FOUR).enumerate().map(number);
    let same = numbers.next()??;
    numbers.all(|number| number == Some(same)).then_some((Shuffle::Within(same), [a, b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_within_halves_and_of_halves_are_one_instruction() {
        let of = |pattern: [u32; 8]| pattern.map(|lane| (lane / 8, lane % 8));
        let in_halves = single_shuffle(&of([0, 2, 8, 10, 4, 6, 12, 14]));
        assert_eq!(in_halves, Some((Shuffle::Within(0b1000_1000), [0, 1])));
        let turned = single_shuffle(&of([10, 11, 2, 3, 14, 15, 6, 7]));
        assert_eq!(turned, Some((Shuffle::Within(0b1110_1110), [1, 0])));
        let halves = single_shuffle(&of([4, 5, 6, 7, 12, 13, 14, 15]));
        assert_eq!(halves, Some((Shuffle::Halves([1, 1]), [0, 1])));
        let numbers = [Encoding::Vex, Encoding::Evex].map(|encoding| Shuffle::Halves([1, 1]).instruction(encoding).1);
        assert_eq!(numbers, [0x31, 0b11]);
        assert!(single_shuffle(&of([0, 8, 1, 9, 2, 10, 3, 11])).is_none());
    }

    /// The same of 512 bits; a half of a register of 512 bits is no half of one of 256.
    #[test]
    fn shuffles_within_quarters_and_of_quarters_are_one_instruction() {
        let of = |lanes: &[u32]| lanes.iter().map(|lane| (lane / 16, lane % 16)).collect::<Vec<_>>();
        let quarters = |numbers: [u32; 4]| of(&numbers.map(|at| [0, 1, 2, 3].map(|lane| 4 * at + lane)).concat());
        let in_quarters = [0, 4, 8, 12].map(|base| [0, 2, 16, 18].map(|lane| base + lane)).concat();
        assert_eq!(single_shuffle(&of(&in_quarters)), Some((Shuffle::Within(0b1000_1000), [0, 1])));
        let shuffle = Shuffle::Quarters([1, 3, 0, 2]);
        assert_eq!(single_shuffle(&quarters([1, 3, 4, 6])), Some((shuffle, [0, 1])));
        assert_eq!(shuffle.instruction(Encoding::Evex).1, 0b1000_1101);
        assert!(single_shuffle(&quarters([0, 4, 1, 5])).is_none(), "one of each in turn");
        assert!(single_shuffle(&quarters([2, 5, 0, 0])[..8]).is_none());
    }
}
