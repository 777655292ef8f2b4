//! The rules of the kernel IR. All violations are collected.
//!
//! **Scope.** Every value is defined once and has an entry in [`Phase::types`]. It may be used after its definition in
//! the same block and in blocks inside. The index and carried values of a `for` belong to its body; results of `for`
//! and `if` to the block around. The body of a phase has no results.
//!
//! **Types.** Lanes are a power of two up to 64.
//! - Constants have no bits above their element's. `iota`: integers, f32, f64.
//! - Unary: the result has the operand's type; sqrt and roundings on f32 and f64, `not` on integers and bool, neg and
//!   abs on all but bool and storage floats.
//! - Binary: both operands and the result have one type. Floats: add, sub, mul, div, min, max. Integers: all.
//!   Bool: and, or, xor.
//! - Compare: operands of one type, floats or integers; a bool for each lane. Select: as many mask lanes as lanes, or
//!   one; both choices have the result's type. Fma: f32 or f64 throughout.
//! - Convert: as many lanes; a storage float converts only from and to f32. Bitcast: as many bytes; no bool.
//! - Splat, insert: a scalar of the same element. Extract, insert: a lane that exists. Shuffle: operands of one type,
//!   a pattern of lanes that exist, as long as the result. Look-up: integer indices, as many as the result's lanes.
//! - Reduce: of a number add, mul, min, max; of integers and bool and, or.
//! - Dots: operands as [`Op::DotI8`], [`Op::DotI7`] and [`Op::DotBf16`] say.
//!
//! **Memory.** A parameter is accessed with its own element, read and written only as its direction allows. Scratch
//! parts begin at a multiple of 64 inside the kernel's scratch. Offsets, counts and strides are scalar i64; masks and
//! indices (i32, i64) have the lanes of the access; a store is not splat.
//!
//! **Control.** Bounds of a `for` are scalar i64, a constant step is positive, unroll is at least 1; initial, carried,
//! body results and results agree in number and type. The condition of an `if` is a scalar bool; the results of both
//! branches agree with its results.
//!
//! Not checked here: that addresses lie in their memory (the interpreter checks each), and that tasks touch no memory
//! another one writes.

use super::statement::{Access, Address, Base, BinaryOp, Block, For, If, Op, ReduceOp, Statement, Store, UnaryOp};
use super::types::{Elem, Type, Value};
use super::{Kernel, Phase};
use std::fmt;

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The kernel's name, and the phase if it is in one.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Every rule that a kernel breaks.
///
/// # Errors
/// The violations, at least one.
pub fn verify(kernel: &Kernel) -> Result<(), Vec<Violation>> {
    let mut violations = vec![];
    for (number, phase) in kernel.phases.iter().enumerate() {
        let mut check =
            Check { kernel, phase, visible: vec![false; phase.types.len()], defined: vec![], found: vec![] };
        check.defined = vec![false; phase.types.len()];
        check.phase();
        let place = format!("kernel `{}`, phase {number}", kernel.name);
        violations.extend(check.found.into_iter().map(|what| Violation { place: place.clone(), what }));
    }
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

struct Check<'a> {
    kernel: &'a Kernel,
    phase: &'a Phase,
    /// Which values may be used here.
    visible: Vec<bool>,
    /// Which values have been defined anywhere.
    defined: Vec<bool>,
    found: Vec<String>,
}

impl Check<'_> {
    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.found.push(what());
        }
    }

    fn phase(&mut self) {
        let phase = self.phase;
        for (number, ty) in phase.types.iter().enumerate() {
            self.require(ty.is_valid(), || format!("v{number} has {} lanes", ty.lanes));
        }
        self.define(phase.task);
        self.expect(phase.task, Type::INDEX, "the task");
        self.require(phase.body.results.is_empty(), || "the body has results".to_string());
        self.block(&phase.body, &[]);
    }

    fn define(&mut self, value: Value) {
        match self.defined.get(value.index()) {
            None => self.found.push(format!("{value} has no type")),
            Some(true) => self.found.push(format!("{value} is defined twice")),
            Some(false) => {
                self.defined[value.index()] = true;
                self.visible[value.index()] = true;
            }
        }
    }

    /// The type of a value that is used here.
    fn used(&mut self, value: Value) -> Option<Type> {
        if self.visible.get(value.index()) != Some(&true) {
            self.found.push(format!("{value} is used where it is not defined"));
            return None;
        }
        Some(self.phase.type_of(value))
    }

    fn expect(&mut self, value: Value, ty: Type, role: &str) {
        if let Some(found) = self.used(value) {
            self.require(found == ty, || format!("{role} {value} is {found}, not {ty}"));
        }
    }

    /// Checks a block in which `locals` are defined on entry, then takes its definitions out of scope.
    fn block(&mut self, block: &Block, locals: &[Value]) {
        let outside = self.visible.clone();
        for &local in locals {
            self.define(local);
        }
        for statement in &block.statements {
            self.statement(statement);
        }
        for &result in &block.results {
            self.used(result);
        }
        self.visible = outside;
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(value, op) => {
                if let Some(&ty) = self.phase.types.get(value.index()) {
                    self.op(*value, ty, op);
                }
                self.define(*value);
            }
            Statement::Store(store) => self.store(store),
            Statement::Prefetch(address) => self.address(*address),
            Statement::For(statement) => self.for_loop(statement),
            Statement::If(statement) => self.choice(statement),
        }
    }

    fn for_loop(&mut self, statement: &For) {
        for (value, role) in [(statement.start, "start"), (statement.end, "end"), (statement.step, "step")] {
            self.expect(value, Type::INDEX, role);
        }
        self.require(statement.unroll > 0, || format!("the loop over {} is unrolled 0 times", statement.index));
        let initial: Vec<Option<Type>> = statement.initial.iter().map(|&value| self.used(value)).collect();
        let locals: Vec<Value> = [statement.index].iter().chain(&statement.carried).copied().collect();
        self.block(&statement.body, &locals);
        for &result in &statement.results {
            self.define(result);
        }
        self.require(self.phase.types.get(statement.index.index()) == Some(&Type::INDEX), || {
            format!("the index {} is no i64", statement.index)
        });
        let lists = [
            ("carried", &statement.carried),
            ("body's result", &statement.body.results),
            ("result", &statement.results),
        ];
        for (role, list) in lists {
            self.agree(&initial, list, &format!("{role} of the loop over {}", statement.index));
        }
    }

    fn choice(&mut self, statement: &If) {
        self.expect(statement.condition, Type::BOOL, "condition");
        self.block(&statement.then, &[]);
        self.block(&statement.otherwise, &[]);
        for &result in &statement.results {
            self.define(result);
        }
        let types: Vec<Option<Type>> =
            statement.results.iter().map(|value| self.phase.types.get(value.index()).copied()).collect();
        self.agree(&types, &statement.then.results, "results of the first branch");
        self.agree(&types, &statement.otherwise.results, "results of the second branch");
    }

    fn agree(&mut self, types: &[Option<Type>], values: &[Value], role: &str) {
        let found: Vec<Option<Type>> =
            values.iter().map(|value| self.phase.types.get(value.index()).copied()).collect();
        self.require(types == found, || format!("the {role} are {found:?}, not {types:?}"));
    }

    fn address(&mut self, address: Address) {
        if let Some(index) = address.index {
            self.expect(index, Type::INDEX, "offset");
        }
        match address.base {
            Base::Param(param) => {
                self.require(param.index() < self.kernel.params.len(), || format!("there is no parameter {param}"));
            }
            Base::Scratch(start) => self.require(start % 64 == 0 && start < self.kernel.scratch.max(1), || {
                format!("scratch at {start} of {} bytes", self.kernel.scratch)
            }),
        }
    }

    fn access(&mut self, address: Address, access: Access, ty: Type, writes: bool) {
        self.address(address);
        if let Base::Param(id) = address.base
            && let Some(param) = self.kernel.params.get(id.index())
        {
            self.require(param.elem == ty.elem, || format!("{id} holds {}, not {}", param.elem, ty.elem));
            let allowed = if writes { param.direction.writes() } else { param.direction.reads() };
            self.require(allowed, || format!("{id} is `{}`", param.direction.name()));
        }
        match access {
            Access::Contiguous => {}
            Access::Splat => self.require(!writes, || "a splat store".to_string()),
            Access::Strided(stride) => self.expect(stride, Type::INDEX, "stride"),
            Access::Tail(count) => self.expect(count, Type::INDEX, "count"),
            Access::Masked(mask) => self.expect(mask, ty.mask(), "mask"),
            Access::Indexed(indices) => {
                if let Some(found) = self.used(indices) {
                    let fits = matches!(found.elem, Elem::I32 | Elem::I64) && found.lanes == ty.lanes;
                    self.require(fits, || format!("the indices {indices} are {found}"));
                }
            }
        }
    }

    fn store(&mut self, store: &Store) {
        if let Some(ty) = self.used(store.value) {
            self.access(store.address, store.access, ty, true);
        }
    }

    fn op(&mut self, value: Value, ty: Type, op: &Op) {
        if let Op::Load(address, access) = op {
            return self.access(*address, *access, ty, false);
        }
        let types: Option<Vec<Type>> = op.operands().into_iter().map(|operand| self.used(operand)).collect();
        let Some(types) = types else { return };
        self.require(is_well_typed(op, ty, &types), || {
            let operands: Vec<String> = types.iter().map(ToString::to_string).collect();
            format!("{value}: {ty} = {op:?} on ({})", operands.join(", "))
        });
    }
}

/// The rules under **Types**, given the operands' types.
fn is_well_typed(op: &Op, ty: Type, types: &[Type]) -> bool {
    let elem = ty.elem;
    let all_same = types.iter().all(|&of| of == ty);
    let number = elem.is_float() || elem.is_int();
    match op {
        Op::Constant(bits) => bits & !super::scalar::mask(elem) == 0,
        Op::Iota => number,
        Op::Unary(op, _) => all_same && unary_takes(*op, elem),
        Op::Binary(op, ..) => all_same && binary_takes(*op, elem),
        Op::Compare(..) => {
            let of = types[0];
            types[1] == of && (of.elem.is_float() || of.elem.is_int()) && ty == of.mask()
        }
        Op::Select(..) => {
            let mask = types[0];
            mask.elem == Elem::Bool && (mask.lanes == ty.lanes || mask.lanes == 1) && types[1] == ty && types[2] == ty
        }
        Op::Fma(..) => elem.is_float() && all_same,
        Op::Convert(_) => {
            let from = types[0];
            let by_f32 = |storage: Elem, other: Elem| !storage.is_storage_float() || other == Elem::F32;
            from.lanes == ty.lanes && from.elem != elem && by_f32(from.elem, elem) && by_f32(elem, from.elem)
        }
        Op::Bitcast(_) => types[0].size() == ty.size() && elem != Elem::Bool && types[0].elem != Elem::Bool,
        Op::Splat(_) => types[0] == ty.with_lanes(1),
        Op::Extract(_, lane) => types[0].elem == elem && ty.lanes == 1 && *lane < types[0].lanes,
        Op::Insert(_, _, lane) => types[0] == ty && types[1] == ty.with_lanes(1) && *lane < ty.lanes,
        Op::Shuffle(_, _, pattern) => {
            let of = types[0];
            let exists = |&lane: &u8| u32::from(lane) < 2 * u32::from(of.lanes);
            types[1] == of && of.elem == elem && pattern.len() == usize::from(ty.lanes) && pattern.iter().all(exists)
        }
        Op::LookUp(..) => types[0].elem == elem && types[1].elem.is_int() && types[1].lanes == ty.lanes,
        Op::Reduce(op, _) => {
            let takes = match op {
                ReduceOp::Add | ReduceOp::Mul | ReduceOp::Min | ReduceOp::Max => number,
                ReduceOp::And | ReduceOp::Or => elem.is_int() || elem == Elem::Bool,
            };
            takes && types[0].elem == elem && ty.lanes == 1
        }
        Op::DotI8(..) | Op::DotI7(..) => is_dot(ty, types, [Elem::I32, Elem::U8, Elem::I8], 4),
        Op::DotBf16(..) => is_dot(ty, types, [Elem::F32, Elem::Bf16, Elem::Bf16], 2),
        Op::Load(..) => true,
    }
}

fn is_dot(ty: Type, types: &[Type], elems: [Elem; 3], group: u8) -> bool {
    let lanes = ty.lanes.saturating_mul(group);
    ty.elem == elems[0]
        && types[0] == ty
        && types[1] == Type::vector(elems[1], lanes)
        && types[2] == Type::vector(elems[2], lanes)
}

fn unary_takes(op: UnaryOp, elem: Elem) -> bool {
    match op {
        UnaryOp::Neg | UnaryOp::Abs => elem.is_float() || elem.is_int(),
        UnaryOp::Sqrt | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Nearest => elem.is_float(),
        UnaryOp::Not => elem.is_int() || elem == Elem::Bool,
    }
}

fn binary_takes(op: BinaryOp, elem: Elem) -> bool {
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Min | BinaryOp::Max => {
            elem.is_float() || elem.is_int()
        }
        BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => elem.is_int(),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => elem.is_int() || elem == Elem::Bool,
    }
}
