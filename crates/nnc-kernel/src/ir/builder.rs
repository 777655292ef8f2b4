//! Making kernels: [`KernelBuilder`] for the whole, [`Builder`] for the body of a phase.
//!
//! Values are ids and can be copied freely. On the way the builder
//! - puts each constant once at the head of the phase,
//! - folds index arithmetic on constants and drops `x + 0`, `x * 1` and the like,
//! - reuses an equal index computation of the same or an enclosing block,
//! - moves what does not change in a loop before it (everything but loads),
//! - moves a constant summand of an offset into the address,
//! - and at the end drops what nobody uses and numbers the rest in order.
//!
//! Mistakes in types are compiler bugs: the verifier reports them all; the builder only asserts what it needs to go on.

mod arithmetic;
mod control;
mod dead;
mod lanes;
mod memory;
mod renumber;

use super::statement::{Base, Block, Direction, Op, Param, Statement};
use super::types::{Elem, ParamId, Type, Value};
use super::{Kernel, Phase};
use std::collections::HashMap;

/// Typed memory that a body may address: a parameter or a part of scratch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Memory {
    /// Where it begins.
    pub base: Base,
    /// Type of its elements.
    pub elem: Elem,
}

/// Makes a kernel.
#[derive(Debug)]
pub struct KernelBuilder {
    kernel: Kernel,
    /// Bytes of scratch memory, also where the kernel cannot count so many.
    scratch_bytes: u64,
}

impl KernelBuilder {
    /// The most bytes of scratch memory that a kernel can count.
    pub const MOST_SCRATCH: u64 = u32::MAX as u64 & !63;

    /// A kernel without parameters and phases.
    pub fn new(name: impl Into<String>) -> Self {
        let kernel = Kernel { name: name.into(), params: vec![], scratch: 0, phases: vec![] };
        Self { kernel, scratch_bytes: 0 }
    }

    /// Adds a parameter.
    pub fn param(&mut self, name: impl Into<String>, elem: Elem, direction: Direction) -> Memory {
        let id = ParamId(self.kernel.params.len() as u32);
        self.kernel.params.push(Param { name: name.into(), elem, direction });
        Memory { base: Base::Param(id), elem }
    }

    /// Adds a parameter that is only read.
    pub fn input(&mut self, name: impl Into<String>, elem: Elem) -> Memory {
        self.param(name, elem, Direction::In)
    }

    /// Adds a parameter that is only written.
    pub fn output(&mut self, name: impl Into<String>, elem: Elem) -> Memory {
        self.param(name, elem, Direction::Out)
    }

    /// Reserves scratch memory for `count` elements, aligned to 64 bytes.
    ///
    /// A kernel with more of it than [`Self::MOST_SCRATCH`] must not be run; ask [`Self::scratch_bytes`].
    pub fn scratch(&mut self, elem: Elem, count: usize) -> Memory {
        let start = self.kernel.scratch;
        let bytes = (count as u64).saturating_mul(elem.size() as u64).saturating_add(63) & !63;
        self.scratch_bytes = self.scratch_bytes.saturating_add(bytes);
        self.kernel.scratch = self.scratch_bytes.min(Self::MOST_SCRATCH) as u32;
        Memory { base: Base::Scratch(start), elem }
    }

    /// Adds a parallel range of `tasks`; `body` gets the task's number.
    pub fn phase(&mut self, tasks: u64, body: impl FnOnce(&mut Builder, Value)) {
        let mut builder = Builder::default();
        let task = builder.fresh(Type::INDEX);
        builder.open(false);
        body(&mut builder, task);
        let rest = builder.close(vec![]);
        let mut statements = builder.prelude;
        statements.extend(rest.statements);
        let mut body = Block { statements, results: vec![] };
        dead::remove_dead(&mut body, builder.types.len());
        let mut phase = Phase { tasks, task, types: builder.types, body };
        renumber::renumber(&mut phase);
        self.kernel.phases.push(phase);
    }

    /// Bytes of scratch memory reserved so far.
    pub fn scratch_bytes(&self) -> u64 {
        self.scratch_bytes
    }

    /// The kernel.
    pub fn finish(self) -> Kernel {
        self.kernel
    }
}

/// Makes the body of a phase, statement by statement.
#[derive(Debug, Default)]
pub struct Builder {
    types: Vec<Type>,
    /// The operation of each value that folding looks at.
    definitions: Vec<Option<Op>>,
    prelude: Vec<Statement>,
    constants: HashMap<(Type, u64), Value>,
    /// How many blocks are open around the definition of each value; 0 for constants and the task.
    depths: Vec<u32>,
    /// The innermost last.
    blocks: Vec<OpenBlock>,
}

/// A block that is being built.
#[derive(Debug)]
struct OpenBlock {
    statements: Vec<Statement>,
    /// The index computations and masks made in it.
    known: HashMap<(Type, Op), Value>,
    /// Whether computations that don't depend on the block may move out of it: so for a loop's body, but not for a
    /// branch, where they would run without need.
    is_loop: bool,
}

/// Types and constants.
impl Builder {
    /// The type of a value.
    pub fn type_of(&self, value: Value) -> Type {
        self.types[value.index()]
    }

    /// The number of lanes of a value.
    pub fn lanes(&self, value: Value) -> u8 {
        self.type_of(value).lanes
    }

    /// A constant by its bits, the same in every lane.
    pub fn constant(&mut self, ty: Type, bits: u64) -> Value {
        if let Some(&value) = self.constants.get(&(ty, bits)) {
            return value;
        }
        let value = self.fresh(ty);
        self.depths[value.index()] = 0;
        self.definitions[value.index()] = Some(Op::Constant(bits));
        self.prelude.push(Statement::Let(value, Op::Constant(bits)));
        self.constants.insert((ty, bits), value);
        value
    }

    /// A number of any type, rounded to it (integers: truncated and saturated).
    pub fn number(&mut self, ty: Type, number: f64) -> Value {
        let bits = super::scalar::of_f64(ty.elem, number);
        self.constant(ty, bits)
    }

    /// An index constant.
    pub fn index(&mut self, number: i64) -> Value {
        self.constant(Type::INDEX, number as u64)
    }

    /// An f32 constant in `lanes` lanes.
    pub fn f32(&mut self, number: f32, lanes: u8) -> Value {
        self.constant(Type::vector(Elem::F32, lanes), u64::from(number.to_bits()))
    }

    /// An i32 constant in `lanes` lanes.
    pub fn i32(&mut self, number: i32, lanes: u8) -> Value {
        self.constant(Type::vector(Elem::I32, lanes), u64::from(number as u32))
    }

    /// A mask constant.
    pub fn bool(&mut self, truth: bool, lanes: u8) -> Value {
        self.constant(Type::vector(Elem::Bool, lanes), u64::from(truth))
    }

    /// All bits 0.
    pub fn zero(&mut self, ty: Type) -> Value {
        self.constant(ty, 0)
    }

    /// The number an index is known to be.
    pub fn known_index(&self, value: Value) -> Option<i64> {
        match self.definitions[value.index()] {
            Some(Op::Constant(bits)) if self.type_of(value) == Type::INDEX => Some(bits as i64),
            _ => None,
        }
    }
}

/// Inside.
impl Builder {
    fn fresh(&mut self, ty: Type) -> Value {
        let value = Value(self.types.len() as u32);
        self.types.push(ty);
        self.definitions.push(None);
        self.depths.push(self.blocks.len() as u32);
        value
    }

    fn push(&mut self, statement: Statement) {
        self.innermost().statements.push(statement);
    }

    fn innermost(&mut self) -> &mut OpenBlock {
        self.blocks.last_mut().expect("a block is open while a body is built")
    }

    fn open(&mut self, is_loop: bool) {
        self.blocks.push(OpenBlock { statements: vec![], known: HashMap::new(), is_loop });
    }

    fn close(&mut self, results: Vec<Value>) -> Block {
        let block = self.blocks.pop().expect("every close has its open");
        Block { statements: block.statements, results }
    }

    /// Adds a definition before the loops it does not depend on, or finds the same index computation in scope.
    fn define(&mut self, ty: Type, op: Op) -> Value {
        if ty == Type::INDEX || ty == Type::BOOL {
            return self.define_once(ty, op);
        }
        self.define_anew(ty, &op).0
    }

    /// Adds a definition, or finds the same in scope.
    fn define_once(&mut self, ty: Type, op: Op) -> Value {
        let key = (ty, op);
        if let Some(&value) = self.blocks.iter().rev().find_map(|block| block.known.get(&key)) {
            return value;
        }
        let (value, home) = self.define_anew(ty, &key.1);
        self.definitions[value.index()] = Some(key.1.clone());
        self.blocks[home].known.insert(key, value);
        value
    }

    /// Adds a definition before the loops it does not depend on; gives the block where it stands, too.
    fn define_anew(&mut self, ty: Type, op: &Op) -> (Value, usize) {
        let home = self.home(op);
        let value = self.fresh(ty);
        self.depths[value.index()] = home as u32 + 1;
        self.blocks[home].statements.push(Statement::Let(value, op.clone()));
        (value, home)
    }

    /// The outermost open block where the operation may stand.
    fn home(&self, op: &Op) -> usize {
        let needed = op.operands().iter().map(|value| self.depths[value.index()] as usize).max().unwrap_or(0);
        let mut home = self.blocks.len() - 1;
        while home > 0 && home >= needed && self.blocks[home].is_loop {
            home -= 1;
        }
        home
    }
}
