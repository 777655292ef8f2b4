//! Loads and stores.

use super::{Builder, Memory};
use crate::ir::statement::{Access, Address, BinaryOp, Op, Statement, Store};
use crate::ir::types::{Type, Value};

/// Memory. Offsets are indices, counted in elements.
impl Builder {
    /// `lanes` elements in a row.
    pub fn load(&mut self, memory: Memory, offset: Value, lanes: u8) -> Value {
        self.load_as(memory, offset, Access::Contiguous, lanes)
    }

    /// One element in every lane.
    pub fn load_splat(&mut self, memory: Memory, offset: Value, lanes: u8) -> Value {
        self.load_as(memory, offset, Access::Splat, lanes)
    }

    /// Elements `stride` apart.
    pub fn load_strided(&mut self, memory: Memory, offset: Value, stride: Value, lanes: u8) -> Value {
        let access = if self.known_index(stride) == Some(1) { Access::Contiguous } else { Access::Strided(stride) };
        self.load_as(memory, offset, access, lanes)
    }

    /// The first `count` of `lanes` elements in a row, then zeros.
    pub fn load_tail(&mut self, memory: Memory, offset: Value, count: Value, lanes: u8) -> Value {
        let access = self.tail(count, lanes);
        self.load_as(memory, offset, access, lanes)
    }

    /// Elements in a row where the mask holds, else zeros.
    pub fn load_masked(&mut self, memory: Memory, offset: Value, mask: Value) -> Value {
        let lanes = self.lanes(mask);
        self.load_as(memory, offset, Access::Masked(mask), lanes)
    }

    /// The elements at `offset + indices[i]`; the indices are i32 or i64.
    pub fn load_indexed(&mut self, memory: Memory, offset: Value, indices: Value) -> Value {
        let lanes = self.lanes(indices);
        self.load_as(memory, offset, Access::Indexed(indices), lanes)
    }

    /// Any load.
    pub fn load_as(&mut self, memory: Memory, offset: Value, access: Access, lanes: u8) -> Value {
        let address = self.address(memory, offset);
        let value = self.fresh(Type::vector(memory.elem, lanes));
        self.push(Statement::Let(value, Op::Load(address, access)));
        value
    }

    /// Writes the lanes in a row.
    pub fn store(&mut self, memory: Memory, offset: Value, value: Value) {
        self.store_as(memory, offset, Access::Contiguous, value);
    }

    /// Writes the lanes `stride` elements apart.
    pub fn store_strided(&mut self, memory: Memory, offset: Value, stride: Value, value: Value) {
        let access = if self.known_index(stride) == Some(1) { Access::Contiguous } else { Access::Strided(stride) };
        self.store_as(memory, offset, access, value);
    }

    /// Writes the first `count` lanes in a row.
    pub fn store_tail(&mut self, memory: Memory, offset: Value, count: Value, value: Value) {
        let lanes = self.lanes(value);
        let access = self.tail(count, lanes);
        self.store_as(memory, offset, access, value);
    }

    /// Writes the lanes where the mask holds.
    pub fn store_masked(&mut self, memory: Memory, offset: Value, mask: Value, value: Value) {
        self.store_as(memory, offset, Access::Masked(mask), value);
    }

    /// Writes lane `i` at `offset + indices[i]`, in the order of lanes.
    pub fn store_indexed(&mut self, memory: Memory, offset: Value, indices: Value, value: Value) {
        self.store_as(memory, offset, Access::Indexed(indices), value);
    }

    /// Any store.
    pub fn store_as(&mut self, memory: Memory, offset: Value, access: Access, value: Value) {
        let address = self.address(memory, offset);
        self.push(Statement::Store(Store { address, access, value }));
    }

    /// A hint that the element will be read soon.
    pub fn prefetch(&mut self, memory: Memory, offset: Value) {
        let address = self.address(memory, offset);
        self.push(Statement::Prefetch(address));
    }

    fn tail(&self, count: Value, lanes: u8) -> Access {
        match self.known_index(count) {
            Some(known) if known >= i64::from(lanes) => Access::Contiguous,
            _ => Access::Tail(count),
        }
    }

    fn address(&self, memory: Memory, offset: Value) -> Address {
        if let Some(plus) = self.known_index(offset) {
            return Address { base: memory.base, index: None, plus };
        }
        if let Some(Op::Binary(BinaryOp::Add, x, constant)) = self.definitions[offset.index()]
            && let Some(plus) = self.known_index(constant)
        {
            return Address { base: memory.base, index: Some(x), plus };
        }
        Address { base: memory.base, index: Some(offset), plus: 0 }
    }
}
