//! Numbers values in the order of their definitions, so that kernels that do the same are equal, and read well.

use crate::ir::Phase;
use crate::ir::statement::{Access, Address, Block, Op, Statement};
use crate::ir::types::{Type, Value};

/// Renumbers the values of a phase; those that are not defined in it lose their types.
pub(super) fn renumber(phase: &mut Phase) {
    let mut numbers = Numbers { old: std::mem::take(&mut phase.types), types: vec![], new: vec![] };
    numbers.new = vec![None; numbers.old.len()];
    numbers.define(&mut phase.task);
    numbers.block(&mut phase.body);
    phase.types = numbers.types;
}

struct Numbers {
    old: Vec<Type>,
    types: Vec<Type>,
    new: Vec<Option<Value>>,
}

impl Numbers {
    fn define(&mut self, value: &mut Value) {
        let number = Value(self.types.len() as u32);
        self.types.push(self.old[value.index()]);
        self.new[value.index()] = Some(number);
        *value = number;
    }

    fn define_all(&mut self, values: &mut [Value]) {
        for value in values {
            self.define(value);
        }
    }

    fn read(&self, value: &mut Value) {
        if let Some(number) = self.new[value.index()] {
            *value = number;
        }
    }

    fn read_all<'v>(&self, values: impl IntoIterator<Item = &'v mut Value>) {
        for value in values {
            self.read(value);
        }
    }

    fn address(&self, address: &mut Address) {
        self.read_all(&mut address.index);
    }

    fn access(&self, access: &mut Access) {
        match access {
            Access::Contiguous | Access::Splat => {}
            Access::Strided(value) | Access::Tail(value) | Access::Masked(value) | Access::Indexed(value) => {
                self.read(value);
            }
        }
    }

    fn block(&mut self, block: &mut Block) {
        for statement in &mut block.statements {
            self.statement(statement);
        }
        self.read_all(&mut block.results);
    }

    fn statement(&mut self, statement: &mut Statement) {
        match statement {
            Statement::Let(value, op) => {
                self.operands(op);
                self.define(value);
            }
            Statement::Store(store) => {
                self.address(&mut store.address);
                self.access(&mut store.access);
                self.read(&mut store.value);
            }
            Statement::Prefetch(address) => self.address(address),
            Statement::For(statement) => {
                self.read_all([&mut statement.start, &mut statement.end, &mut statement.step]);
                self.read_all(&mut statement.initial);
                self.define(&mut statement.index);
                self.define_all(&mut statement.carried);
                self.block(&mut statement.body);
                self.define_all(&mut statement.results);
            }
            Statement::If(statement) => {
                self.read(&mut statement.condition);
                self.block(&mut statement.then);
                self.block(&mut statement.otherwise);
                self.define_all(&mut statement.results);
            }
        }
    }

    fn operands(&self, op: &mut Op) {
        match op {
            Op::Constant(_) | Op::Iota => {}
            Op::Unary(_, a) | Op::Convert(a) | Op::Bitcast(a) | Op::Splat(a) | Op::Extract(a, _) | Op::Reduce(_, a) => {
                self.read(a)
            }
            Op::Binary(_, a, b)
            | Op::Compare(_, a, b)
            | Op::Insert(a, b, _)
            | Op::Shuffle(a, b, _)
            | Op::LookUp(a, b) => self.read_all([a, b]),
            Op::Select(a, b, c) | Op::Fma(a, b, c) | Op::DotI8(a, b, c) | Op::DotI7(a, b, c) | Op::DotBf16(a, b, c) => {
                self.read_all([a, b, c]);
            }
            Op::Load(address, access) => {
                self.address(address);
                self.access(access);
            }
        }
    }
}
