//! Instruction selection: the body of a phase as instructions on virtual registers.
//!
//! How values lie in registers is told in [`lanes`]. Constants have no register of their own: they are memory operands
//! or are made where they are used.

mod assemble;
mod control;
mod convert;
mod folding;
mod index;
mod integer;
mod lanes;
mod masks;
mod memory;
mod permute;
mod scalar;
mod vector;

use super::Isa;
use super::forms::{Encoding, Width};
use super::vcode::{Draft, Kind, VCode, general};
use lanes::Lanes;
use nnc_kernel::ir::{Elem, Kernel, Op, Phase, Statement, Type, Value};
use regalloc2::{Operand, VReg};

/// The state of selecting for one phase.
struct Selector<'a> {
    isa: Isa,
    /// How its vector instructions are encoded, which nearly all of selection asks in the place of the set.
    encoding: Encoding,
    code: VCode,
    phase: &'a Phase,
    /// Each value defined so far that is no constant.
    values: Vec<Option<Lanes>>,
    /// The bits of each value that is a constant.
    constants: Vec<Option<u64>>,
    params: Vec<VReg>,
    /// The element of each parameter.
    elems: Vec<Elem>,
    scratch: VReg,
    /// Index computations of the open blocks, the innermost last.
    known_indices: Vec<index::Known>,
    /// How often each value is read.
    uses: Vec<u32>,
}

/// Selects for a phase of a verified kernel.
pub(super) fn select(isa: Isa, kernel: &Kernel, phase: &Phase) -> VCode {
    let encoding = Encoding::of(isa);
    let mut code = VCode::new(encoding.full_width().bytes());
    let start = code.label();
    code.begin(start);
    let [args, begin, end, scratch] = std::array::from_fn(|_| code.general());
    code.push(
        Draft::of(Kind::Entry)
            .implicit(Operand::reg_fixed_def(args, general::RDI))
            .implicit(Operand::reg_fixed_def(begin, general::RSI))
            .implicit(Operand::reg_fixed_def(end, general::RDX))
            .implicit(Operand::reg_fixed_def(scratch, general::RCX)),
    );
    let count = phase.types.len();
    let mut selector = Selector {
        isa,
        encoding,
        code,
        phase,
        values: vec![None; count],
        constants: vec![None; count],
        params: vec![],
        elems: kernel.params.iter().map(|param| param.elem).collect(),
        scratch,
        known_indices: vec![],
        uses: folding::uses(phase),
    };
    selector.params = (0..kernel.params.len()).map(|at| selector.load_quad(args, 8 * at as i32)).collect();
    selector.tasks(begin, end);
    selector.code.finish();
    selector.code
}

impl Selector<'_> {
    /// A value in registers; a constant is made here.
    fn value(&mut self, value: Value) -> Lanes {
        if let Some(bits) = self.known(value) {
            return self.make_constant(self.phase.type_of(value), bits);
        }
        match &self.values[value.index()] {
            Some(lanes) if lanes.plus == 0 => lanes.clone(),
            Some(lanes) => {
                let (register, plus) = (lanes.parts[0], lanes.plus);
                Lanes::new(lanes.bits, vec![self.add_number(register, plus)])
            }
            None => unreachable!("{value} is used before it is defined: the kernel was not verified"),
        }
    }

    /// The register of a scalar.
    fn scalar(&mut self, value: Value) -> VReg {
        self.value(value).scalar()
    }

    /// The bits of a value that is a constant.
    fn known(&self, value: Value) -> Option<u64> {
        self.constants[value.index()]
    }

    fn set(&mut self, value: Value, lanes: Lanes) {
        self.values[value.index()] = Some(lanes);
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(value, Op::Constant(bits)) => self.constants[value.index()] = Some(*bits),
            Statement::Let(value, op) => {
                let lanes = self.op(*value, op);
                self.set(*value, lanes);
            }
            Statement::Store(store) => self.store(store),
            Statement::Prefetch(address) => self.prefetch(*address),
            Statement::For(statement) => self.for_loop(statement),
            Statement::If(statement) => self.choice(statement),
        }
    }

    fn op(&mut self, value: Value, op: &Op) -> Lanes {
        let ty = self.phase.type_of(value);
        if let (Type::INDEX, Op::Binary(op, a, b)) = (ty, op)
            && let Some(lanes) = self.index_binary(*op, *a, *b)
        {
            return lanes;
        }
        match op {
            Op::Constant(bits) => self.make_constant(ty, *bits),
            Op::Iota => self.iota(ty),
            Op::Unary(op, a) => self.unary(ty, *op, *a),
            Op::Binary(op, a, b) => self.binary(ty, *op, *a, *b),
            Op::Compare(op, a, b) => self.compare(*op, *a, *b),
            Op::Select(mask, a, b) => self.select(ty, *mask, *a, *b),
            Op::Fma(a, b, c) => self.fma(ty, *a, *b, *c),
            Op::Convert(a) => {
                let from = self.phase.type_of(*a);
                let a = self.value(*a);
                self.convert(&a, from, ty)
            }
            Op::Bitcast(a) => self.bitcast(ty, *a),
            Op::Splat(a) => {
                let scalar = self.value(*a);
                self.splat(&scalar, ty)
            }
            Op::Extract(a, lane) => self.extract(*a, *lane),
            Op::Insert(a, scalar, lane) => self.insert(ty, *a, *scalar, *lane),
            Op::Shuffle(a, b, pattern) => self.shuffle(*a, *b, pattern),
            Op::LookUp(table, indices) => self.look_up(*table, *indices),
            Op::Reduce(op, a) => self.reduce(*op, *a),
            Op::DotI8(acc, a, b) => self.dot_i8(*acc, *a, *b, false),
            Op::DotI7(acc, a, b) => self.dot_i8(*acc, *a, *b, true),
            Op::DotBf16(acc, a, b) => self.dot_bf16(ty, *acc, *a, *b),
            Op::Load(address, access) => self.load(ty, *address, *access),
        }
    }

    /// The width of a vector register in full.
    fn full_width(&self) -> Width {
        self.encoding.full_width()
    }

    /// Whether a value lies in a general register: integers and truth values alone.
    fn is_general(ty: Type) -> bool {
        ty.lanes == 1 && !ty.elem.is_float()
    }

    /// Whether a value is a mask of several lanes.
    fn is_mask(ty: Type) -> bool {
        ty.elem == Elem::Bool && ty.lanes > 1
    }
}
