//! What the instructions of a straight line of code keep busy: a port model in the manner of static analysers.
//!
//! (Laukemann et al., "Automated Instruction Stream Throughput Prediction for Intel and AMD Microarchitectures", 2018.)

use super::machine::{ISSUE, Machine};
use crate::ir::{Access, BinaryOp, Elem, Op, Phase, Type, UnaryOp, Value};

/// Cycles for which each resource of a core is busy.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Ports {
    /// Multiplications, multiply-adds, divisions.
    pub multiply: f64,
    /// Additions of floats, comparisons.
    pub add: f64,
    /// All vector instructions.
    pub vector: f64,
    /// Loads.
    pub load: f64,
    /// Stores.
    pub store: f64,
    /// Instructions, whatever they do.
    pub issue: f64,
}

impl Ports {
    /// The time of the busiest.
    pub fn cycles(&self) -> f64 {
        [self.add, self.vector, self.load, self.store, self.issue].into_iter().fold(self.multiply, f64::max)
    }

    /// Adds so many instructions that any scalar port takes.
    pub fn scalar(&mut self, count: f64) {
        self.issue += count / ISSUE;
    }

    /// Adds what an operation of a phase does.
    pub fn operation(&mut self, machine: &Machine, phase: &Phase, ty: Type, op: &Op) {
        let elem_of = |value: &Value| phase.type_of(*value).elem;
        match op {
            // Constants are operands in memory or immediates; index arithmetic is mostly part of addresses.
            Op::Constant(_) | Op::Iota => {}
            _ if ty.lanes == 1 && matches!(ty.elem, Elem::I64 | Elem::Bool) => self.index(op),
            Op::Load(_, access) => self.load(machine, ty, *access),
            Op::Unary(UnaryOp::Sqrt, _) => self.divide(machine, ty),
            Op::Binary(BinaryOp::Div | BinaryOp::Rem, _, _) if ty.elem.is_float() => self.divide(machine, ty),
            Op::Binary(BinaryOp::Div | BinaryOp::Rem, _, _) => self.by_lanes(ty, 12.0),
            Op::Binary(BinaryOp::Mul, _, _) => self.multiply(machine, ty, 1.0),
            Op::Fma(..) => self.multiply(machine, ty, 1.0),
            Op::DotI8(..) | Op::DotI7(..) | Op::DotBf16(..) => self.dot(machine, ty, op),
            Op::Binary(BinaryOp::Add | BinaryOp::Sub, _, _) | Op::Compare(..) if ty.elem.is_float() => {
                self.add(machine, ty, 1.0);
            }
            Op::Binary(BinaryOp::Min | BinaryOp::Max, _, _) => self.add(machine, ty, 1.5),
            Op::Binary(..) | Op::Unary(..) | Op::Compare(..) | Op::Select(..) | Op::Splat(_) => {
                self.vector(machine, ty, 1.0);
            }
            Op::Bitcast(_) => {}
            Op::Convert(from) => {
                let wider = ty.with_elem(if elem_of(from).size() > ty.elem.size() { elem_of(from) } else { ty.elem });
                self.vector(machine, wider, 2.0);
            }
            Op::Extract(..) | Op::Insert(..) => self.vector(machine, Type::scalar(ty.elem), 2.0),
            Op::Shuffle(..) | Op::LookUp(..) => self.vector(machine, ty, 2.0),
            Op::Reduce(_, of) => {
                let steps = f64::from(phase.type_of(*of).lanes).log2();
                self.vector(machine, phase.type_of(*of), 2.0 * steps);
            }
        }
    }

    /// Adds a store.
    pub fn store(&mut self, machine: &Machine, ty: Type, access: Access) {
        match access {
            Access::Masked(_) if !machine.leaves_out_lanes() => self.by_lanes(ty, 1.0),
            Access::Contiguous | Access::Splat | Access::Masked(_) => {
                self.store += machine.slots(ty.size());
                self.issue += machine.instructions(ty.size()) / ISSUE;
            }
            Access::Tail(_) => self.by_lanes(ty, 1.0),
            Access::Strided(_) | Access::Indexed(_) => {
                self.by_lanes(ty, 1.0);
                self.store += f64::from(ty.lanes);
            }
        }
    }

    fn load(&mut self, machine: &Machine, ty: Type, access: Access) {
        match access {
            Access::Contiguous => {
                self.load += machine.slots(ty.size()) / 2.0;
                self.issue += machine.instructions(ty.size()) / ISSUE;
            }
            // A repeated element comes by one load of its size, and is often an operand of the multiply-add.
            Access::Splat => {
                self.load += machine.instructions(ty.size()) / 2.0;
                self.issue += 0.5 * machine.instructions(ty.size()) / ISSUE;
            }
            Access::Tail(_) | Access::Masked(_) => self.by_lanes(ty, 1.0),
            Access::Strided(_) | Access::Indexed(_) => {
                self.by_lanes(ty, 1.0);
                self.load += f64::from(ty.lanes) / 2.0;
            }
        }
    }

    /// Index arithmetic and truth values.
    fn index(&mut self, op: &Op) {
        match op {
            Op::Binary(BinaryOp::Div | BinaryOp::Rem, _, _) => self.multiply += 8.0,
            Op::Load(..) => self.load += 0.5,
            _ => self.scalar(0.5),
        }
    }

    fn multiply(&mut self, machine: &Machine, ty: Type, count: f64) {
        self.multiply += count * machine.slots(ty.size()) / 2.0;
        self.vector(machine, ty, count);
    }

    fn add(&mut self, machine: &Machine, ty: Type, count: f64) {
        self.add += count * machine.slots(ty.size()) / 2.0;
        self.vector(machine, ty, count);
    }

    /// Instructions that three of four vector ports take.
    fn vector(&mut self, machine: &Machine, ty: Type, count: f64) {
        self.vector += count * machine.slots(ty.size()) / 3.0;
        self.issue += count * machine.instructions(ty.size()) / ISSUE;
    }

    /// Divisions and square roots of floats.
    fn divide(&mut self, machine: &Machine, ty: Type) {
        let each = if ty.elem == Elem::F64 { 7.0 } else { 5.0 };
        self.multiply += each * machine.slots(ty.size());
        self.vector(machine, ty, 1.0);
    }

    /// Products of bytes: an instruction where there is one for them, else a few.
    fn dot(&mut self, machine: &Machine, ty: Type, op: &Op) {
        let count = match (op, machine.has_byte_products) {
            (Op::DotI8(..) | Op::DotI7(..), true) => 1.0,
            (Op::DotI7(..), false) => 2.0,
            (Op::DotI8(..), false) => 6.0,
            _ => 4.0,
        };
        self.multiply(machine, ty, count);
    }

    /// What goes lane by lane.
    fn by_lanes(&mut self, ty: Type, each: f64) {
        self.scalar(each * ISSUE / 2.0 * f64::from(ty.lanes));
    }
}
