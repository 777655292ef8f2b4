//! Two statements as one instruction, where the second is the only reader of the first: loads as memory operands, and
//! roundings of floats that become bytes.
//!
//! The reader of a load is a fused multiply-add, a conversion that extends, a look-up in a register, or puts it behind
//! another half of a register. Nothing stands between the two, so memory is read when it would have been read. The
//! instruction that makes integers rounds by itself.

use super::super::forms::{self, Width};
use super::super::vcode::{Draft, Place};
use super::Selector;
use super::assemble::Rm;
use super::lanes::Lanes;
use super::vector::float_form;
use iced_x86::Code;
use nnc_kernel::ir::{Access, Address, Block, Elem, Op, Phase, Statement, Type, UnaryOp, Value};

/// How often each value of a phase is read.
pub(super) fn uses(phase: &Phase) -> Vec<u32> {
    let mut uses = vec![0; phase.types.len()];
    count(&phase.body, &mut uses);
    uses
}

fn count(block: &Block, uses: &mut [u32]) {
    let mut read = |value: Value| uses[value.index()] += 1;
    block.results.iter().for_each(|&value| read(value));
    for statement in &block.statements {
        match statement {
            Statement::Let(_, op) => op.operands().into_iter().for_each(&mut read),
            Statement::Store(store) => {
                let rest = store.address.index.into_iter().chain(store.access.operand());
                rest.chain([store.value]).for_each(&mut read);
            }
            Statement::Prefetch(address) => address.index.into_iter().for_each(&mut read),
            Statement::For(inner) => {
                [inner.start, inner.end, inner.step].into_iter().for_each(&mut read);
                inner.initial.iter().for_each(|&value| read(value));
            }
            Statement::If(inner) => read(inner.condition),
        }
    }
    for statement in &block.statements {
        match statement {
            Statement::For(inner) => count(&inner.body, uses),
            Statement::If(inner) => [&inner.then, &inner.otherwise].into_iter().for_each(|block| count(block, uses)),
            Statement::Let(..) | Statement::Store(_) | Statement::Prefetch(_) => {}
        }
    }
}

impl Selector<'_> {
    /// Does two statements as one where the first is a load or a rounding that only the second reads; gives whether it
    /// did.
    pub(super) fn folds(&mut self, first: &Statement, second: Option<&Statement>) -> bool {
        if self.folds_rounding(first, second) {
            return true;
        }
        let (Statement::Let(loaded, Op::Load(address, Access::Contiguous)), Some(Statement::Let(result, op))) =
            (first, second)
        else {
            return false;
        };
        if self.uses[loaded.index()] != 1 {
            return false;
        }
        let lanes = match op {
            Op::Fma(a, b, c) => self.fma_of_memory(*result, [*a, *b, *c], (*loaded, *address)),
            Op::Convert(a) if a == loaded => self.converted_memory(*result, (*loaded, *address)),
            Op::LookUp(table, indices) if table == loaded => self.look_up_in_memory(*indices, (*loaded, *address)),
            Op::Shuffle(a, b, pattern) if b == loaded && a != loaded => {
                self.joined_with_memory(*a, pattern, (*loaded, *address))
            }
            _ => None,
        };
        let Some(lanes) = lanes else { return false };
        self.set(*result, lanes);
        true
    }

    /// As [`Self::folds`] for floats that are rounded and become unsigned bytes.
    fn folds_rounding(&mut self, first: &Statement, second: Option<&Statement>) -> bool {
        let (
            Statement::Let(rounded, Op::Unary(UnaryOp::Nearest, number)),
            Some(Statement::Let(result, Op::Convert(a))),
        ) = (first, second)
        else {
            return false;
        };
        let (from, ty) = (self.phase.type_of(*number), self.phase.type_of(*result));
        let fits = a == rounded && (from.elem, ty.elem) == (Elem::F32, Elem::U8) && ty.lanes > 1;
        if !fits || self.uses[rounded.index()] != 1 {
            return false;
        }
        let number = self.value(*number);
        let bytes = self.floats_to_bytes(&number, (from, ty), forms::CVTPS2DQ);
        self.set(*result, bytes);
        true
    }

    fn memory(&mut self, loaded: Value, address: Address) -> Place {
        let elem = self.phase.type_of(loaded).elem;
        self.place(address, elem)
    }

    /// Whether a value is one vector register without masks.
    fn is_one_register(&self, ty: Type) -> bool {
        ty.lanes > 1 && self.layout(ty.lanes, ty.elem.bits()).0 == 1 && self.width(ty).bytes() == ty.size()
    }

    fn fma_of_memory(&mut self, result: Value, [a, b, c]: [Value; 3], from: (Value, Address)) -> Option<Lanes> {
        let ty = self.phase.type_of(result);
        let factor = match (a == from.0, b == from.0) {
            (true, false) => b,
            (false, true) => a,
            (true, true) | (false, false) => return None,
        };
        if !self.is_one_register(ty) || self.known(factor).is_some() || self.known(c).is_some_and(|bits| bits != 0) {
            return None;
        }
        let [factor, sum] = [factor, c].map(|value| self.value(value).parts[0]);
        let place = self.memory(from.0, from.1);
        let form = float_form(ty.elem, forms::FMA231PS, forms::FMA231PD);
        let width = self.width(ty);
        Some(Lanes::new(ty.elem.bits(), vec![self.over(form, width, sum, factor, Rm::Memory(place))]))
    }

    fn converted_memory(&mut self, result: Value, from: (Value, Address)) -> Option<Lanes> {
        let (narrow, wide) = (self.phase.type_of(from.0), self.phase.type_of(result));
        if narrow == Type::scalar(Elem::I32) && wide == Type::INDEX {
            let (place, to) = (self.memory(from.0, from.1), self.code.general());
            self.code.push(Draft::new(Code::Movsxd_r64_rm32).def(to, super::super::vcode::View::Quad).memory(&place));
            return Some(Lanes::new(64, vec![to]));
        }
        let is_bytes = narrow.elem == Elem::U8 && wide.elem == Elem::I32 && self.is_one_register(wide);
        is_bytes.then(|| {
            let width = self.width(wide);
            let place = self.memory(from.0, from.1);
            Lanes::new(32, vec![self.two(forms::PMOVZXBD, width, Rm::Memory(place))])
        })
    }

    fn look_up_in_memory(&mut self, indices: Value, from: (Value, Address)) -> Option<Lanes> {
        let (table, numbers) = (self.phase.type_of(from.0), self.phase.type_of(indices));
        let is_register = |ty: Type| ty.elem.size() == 4 && ty.lanes >= 8 && self.is_one_register(ty);
        if table.lanes != numbers.lanes || !is_register(table) || !is_register(numbers) {
            return None;
        }
        let (width, indices) = (self.width(table), self.value(indices).parts[0]);
        let place = self.memory(from.0, from.1);
        Some(Lanes::new(32, vec![self.three(forms::PERMD, width, indices, Rm::Memory(place))]))
    }

    /// Four lanes of 32 bits in a register, then four in memory.
    fn joined_with_memory(&mut self, first: Value, pattern: &[u8], from: (Value, Address)) -> Option<Lanes> {
        let ty = self.phase.type_of(from.0);
        if ty.elem.size() != 4 || ty.lanes != 4 || !pattern.iter().copied().eq(0..8) {
            return None;
        }
        let first = self.value(first).parts[0];
        let place = self.memory(from.0, from.1);
        Some(Lanes::new(32, vec![self.three_by_number(forms::INSERTF128, Width::Y, first, Rm::Memory(place), 1)]))
    }
}
