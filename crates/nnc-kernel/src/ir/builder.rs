//! Making kernels: [`KernelBuilder`] for the whole, [`Builder`] for the body of a phase.
//!
//! Values are ids and can be copied freely. On the way the builder
//! - puts each constant once at the head of the phase,
//! - folds index arithmetic on constants and drops `x + 0`, `x * 1` and the like,
//! - reuses an equal index computation of the same or an enclosing block,
//! - moves what does not change in a loop before it (everything but loads),
//! - moves a constant summand of an offset into the address.
//!
//! Mistakes in types are compiler bugs: the verifier reports them all; the builder only asserts what it needs to go on.

use super::fold::{self, Identity};
use super::statement::{
    Access, Address, Base, BinaryOp, Block, CompareOp, Direction, For, If, Op, Param, ReduceOp, Statement, Store,
    UnaryOp,
};
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
}

impl KernelBuilder {
    /// A kernel without parameters and phases.
    pub fn new(name: impl Into<String>) -> Self {
        Self { kernel: Kernel { name: name.into(), params: vec![], scratch: 0, phases: vec![] } }
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
    pub fn scratch(&mut self, elem: Elem, count: usize) -> Memory {
        let start = self.kernel.scratch;
        self.kernel.scratch += (count * elem.size()).next_multiple_of(64) as u32;
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
        let body = Block { statements, results: vec![] };
        self.kernel.phases.push(Phase { tasks, task, types: builder.types, body });
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
    /// The index computations made in it.
    known: HashMap<Op, Value>,
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

/// Arithmetic. Index arithmetic is folded; everything else is taken as it is.
impl Builder {
    /// A function of one operand.
    pub fn unary(&mut self, op: UnaryOp, a: Value) -> Value {
        self.define(self.type_of(a), Op::Unary(op, a))
    }

    /// A function of two operands of one type.
    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        if self.type_of(a) == Type::INDEX {
            return self.index_binary(op, a, b);
        }
        self.define(self.type_of(a), Op::Binary(op, a, b))
    }

    /// A comparison.
    pub fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Value {
        if let (Some(a), Some(b)) = (self.known_index(a), self.known_index(b)) {
            return self.bool(fold::compare(op, a, b), 1);
        }
        self.define(self.type_of(a).mask(), Op::Compare(op, a, b))
    }

    /// `a` where the mask holds, else `b`. The mask may be a scalar.
    pub fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
        match self.definitions[mask.index()] {
            Some(Op::Constant(1)) => a,
            Some(Op::Constant(0)) => b,
            _ if a == b => a,
            _ => self.define(self.type_of(a), Op::Select(mask, a, b)),
        }
    }

    /// `a * b + c`, rounded once.
    pub fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.define(self.type_of(c), Op::Fma(a, b, c))
    }

    /// Converts to another element. f16 and bf16 go by way of f32.
    pub fn convert(&mut self, a: Value, elem: Elem) -> Value {
        let from = self.type_of(a);
        if from.elem == elem {
            return a;
        }
        let by_f32 = (from.elem.is_storage_float() && elem != Elem::F32)
            || (elem.is_storage_float() && from.elem != Elem::F32);
        let a = if by_f32 { self.define(from.with_elem(Elem::F32), Op::Convert(a)) } else { a };
        self.define(from.with_elem(elem), Op::Convert(a))
    }

    /// The same bits as `elem` in as many lanes as fit.
    pub fn bitcast(&mut self, a: Value, elem: Elem) -> Value {
        let from = self.type_of(a);
        if from.elem == elem {
            return a;
        }
        let ty = Type::vector(elem, (from.size() / elem.size()) as u8);
        self.define(ty, Op::Bitcast(a))
    }

    fn index_binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        let (a, b) = if fold::commutes(op) && self.known_index(a).is_some() { (b, a) } else { (a, b) };
        let Some(right) = self.known_index(b) else {
            return self.define(Type::INDEX, Op::Binary(op, a, b));
        };
        if let Some(left) = self.known_index(a) {
            return self.index(fold::binary(op, left, right));
        }
        match fold::identity(op, right) {
            Some(Identity::Same) => return a,
            Some(Identity::Number(number)) => return self.index(number),
            None => {}
        }
        match op {
            BinaryOp::Sub => {
                let negated = self.index(right.wrapping_neg());
                self.index_binary(BinaryOp::Add, a, negated)
            }
            BinaryOp::Add | BinaryOp::Mul => self.reassociate(op, a, right),
            _ => self.define(Type::INDEX, Op::Binary(op, a, b)),
        }
    }

    /// `(x op constant) op right` as `x op (constant op right)`.
    fn reassociate(&mut self, op: BinaryOp, a: Value, right: i64) -> Value {
        if let Some(Op::Binary(inner, x, constant)) = self.definitions[a.index()]
            && inner == op
            && let Some(constant) = self.known_index(constant)
        {
            let constant = self.index(fold::binary(op, constant, right));
            return self.index_binary(op, x, constant);
        }
        let constant = self.index(right);
        self.define(Type::INDEX, Op::Binary(op, a, constant))
    }

    /// `a + number` on indices.
    pub fn add_index(&mut self, a: Value, number: i64) -> Value {
        let number = self.index(number);
        self.add(a, number)
    }

    /// `a * number` on indices.
    pub fn mul_index(&mut self, a: Value, number: i64) -> Value {
        let number = self.index(number);
        self.mul(a, number)
    }

    /// `Σ value * factor + plus` on indices.
    pub fn affine(&mut self, terms: &[(Value, i64)], plus: i64) -> Value {
        let mut sum = self.index(0);
        for &(value, factor) in terms {
            let term = self.mul_index(value, factor);
            sum = self.add(sum, term);
        }
        self.add_index(sum, plus)
    }
}

macro_rules! shorthand {
    ($inner:ident, $enum:ident: $($name:ident = $variant:ident ($($arg:ident),*)),* $(,)?) => {
        /// Short forms, named as the operations they stand for.
        impl Builder {
            $(
                #[doc = concat!("[`", stringify!($enum), "::", stringify!($variant), "`].")]
                pub fn $name(&mut self, $($arg: Value),*) -> Value {
                    self.$inner($enum::$variant, $($arg),*)
                }
            )*
        }
    };
}

shorthand!(unary, UnaryOp: neg = Neg(a), abs = Abs(a), sqrt = Sqrt(a), floor = Floor(a), ceil = Ceil(a),
    trunc = Trunc(a), nearest = Nearest(a), not = Not(a));
shorthand!(binary, BinaryOp: add = Add(a, b), sub = Sub(a, b), mul = Mul(a, b), div = Div(a, b), rem = Rem(a, b),
    min = Min(a, b), max = Max(a, b), and = And(a, b), or = Or(a, b), xor = Xor(a, b), shl = Shl(a, b),
    shr = Shr(a, b), sar = Sar(a, b));
shorthand!(compare, CompareOp: eq = Eq(a, b), ne = Ne(a, b), lt = Lt(a, b), le = Le(a, b), gt = Gt(a, b),
    ge = Ge(a, b));

/// Lanes.
impl Builder {
    /// The lane numbers.
    pub fn iota(&mut self, ty: Type) -> Value {
        self.define(ty, Op::Iota)
    }

    /// A scalar in every one of `lanes` lanes.
    pub fn splat(&mut self, a: Value, lanes: u8) -> Value {
        if self.lanes(a) == lanes {
            return a;
        }
        self.define(self.type_of(a).with_lanes(lanes), Op::Splat(a))
    }

    /// One lane as a scalar.
    pub fn extract(&mut self, a: Value, lane: u8) -> Value {
        if self.lanes(a) == 1 {
            return a;
        }
        self.define(self.type_of(a).with_lanes(1), Op::Extract(a, lane))
    }

    /// `a` with one lane replaced by a scalar.
    pub fn insert(&mut self, a: Value, scalar: Value, lane: u8) -> Value {
        self.define(self.type_of(a), Op::Insert(a, scalar, lane))
    }

    /// Lanes `pattern[i]` of `a` followed by `b`.
    pub fn shuffle(&mut self, a: Value, b: Value, pattern: &[u8]) -> Value {
        let ty = self.type_of(a).with_lanes(pattern.len() as u8);
        self.define(ty, Op::Shuffle(a, b, pattern.into()))
    }

    /// `count` lanes of `a` from lane `start`.
    pub fn slice(&mut self, a: Value, start: u8, count: u8) -> Value {
        if start == 0 && count == self.lanes(a) {
            return a;
        }
        let pattern: Vec<u8> = (start..start + count).collect();
        self.shuffle(a, a, &pattern)
    }

    /// The lanes of `a`, then those of `b`.
    pub fn concat(&mut self, a: Value, b: Value) -> Value {
        let pattern: Vec<u8> = (0..2 * self.lanes(a)).collect();
        self.shuffle(a, b, &pattern)
    }

    /// Transposes `rows`, as many values as each has lanes: lane `j` of result `i` is lane `i` of row `j`.
    /// It takes log2(n) rounds of interleaving rows that lie half the matrix apart.
    pub fn transpose(&mut self, rows: &[Value]) -> Vec<Value> {
        let n = rows.len();
        assert!(n.is_power_of_two() && rows.iter().all(|&row| usize::from(self.lanes(row)) == n), "a square");
        let low: Vec<u8> = (0..n as u8).map(|i| i / 2 + (i % 2) * n as u8).collect();
        let high: Vec<u8> = low.iter().map(|&lane| lane + n as u8 / 2).collect();
        let mut rows = rows.to_vec();
        for _ in 0..n.trailing_zeros() {
            rows = (0..n)
                .map(|i| {
                    let pattern = if i % 2 == 0 { &low } else { &high };
                    self.shuffle(rows[i / 2], rows[i / 2 + n / 2], pattern)
                })
                .collect();
        }
        rows
    }

    /// Lane `indices[i]` of a table value.
    pub fn look_up(&mut self, table: Value, indices: Value) -> Value {
        let ty = self.type_of(table).with_lanes(self.lanes(indices));
        self.define(ty, Op::LookUp(table, indices))
    }

    /// All lanes combined to a scalar, as [`Op::Reduce`] says.
    pub fn reduce(&mut self, op: ReduceOp, a: Value) -> Value {
        if self.lanes(a) == 1 {
            return a;
        }
        self.define(self.type_of(a).with_lanes(1), Op::Reduce(op, a))
    }

    /// [`Op::DotI8`].
    pub fn dot_i8(&mut self, acc: Value, a: Value, b: Value) -> Value {
        self.define(self.type_of(acc), Op::DotI8(acc, a, b))
    }

    /// [`Op::DotBf16`].
    pub fn dot_bf16(&mut self, acc: Value, a: Value, b: Value) -> Value {
        self.define(self.type_of(acc), Op::DotBf16(acc, a, b))
    }
}

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

/// Control.
impl Builder {
    /// `for index in (start..end).step_by(step)`, carrying values: `body` gets the index and the carried values and
    /// gives their next ones; the result is the last. A loop known to run at most once is laid out in line.
    pub fn for_loop(
        &mut self,
        start: Value,
        end: Value,
        step: Value,
        initial: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        self.for_unrolled(start, end, step, 1, initial, body)
    }

    /// [`Self::for_loop`] from 0 by 1 to a number known now.
    pub fn for_count(
        &mut self,
        count: i64,
        initial: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (start, end, step) = (self.index(0), self.index(count), self.index(1));
        self.for_loop(start, end, step, initial, body)
    }

    /// [`Self::for_loop`] from 0 by 1 without carried values.
    pub fn for_each(&mut self, count: i64, body: impl FnOnce(&mut Self, Value)) {
        self.for_count(count, &[], |b, index, _| {
            body(b, index);
            vec![]
        });
    }

    /// [`Self::for_loop`], with `unroll` rounds laid out in line by the backend.
    pub fn for_unrolled(
        &mut self,
        start: Value,
        end: Value,
        step: Value,
        unroll: u8,
        initial: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        if let (Some(from), Some(to), Some(by)) =
            (self.known_index(start), self.known_index(end), self.known_index(step))
            && from.saturating_add(by) >= to
        {
            return if from < to { body(self, start, initial) } else { initial.to_vec() };
        }
        self.open(true);
        let index = self.fresh(Type::INDEX);
        let carried: Vec<Value> = initial.iter().map(|&value| self.fresh(self.type_of(value))).collect();
        let next = body(self, index, &carried);
        let body = self.close(next);
        let results: Vec<Value> = initial.iter().map(|&value| self.fresh(self.type_of(value))).collect();
        let initial = initial.to_vec();
        let statement = For { index, start, end, step, unroll, initial, carried, results: results.clone(), body };
        self.push(Statement::For(Box::new(statement)));
        results
    }

    /// Runs one of two blocks and gives its values, which have the same types in both.
    pub fn if_else(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Self) -> Vec<Value>,
        otherwise: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        match self.definitions[condition.index()] {
            Some(Op::Constant(1)) => return then(self),
            Some(Op::Constant(0)) => return otherwise(self),
            _ => {}
        }
        self.open(false);
        let values = then(self);
        let then = self.close(values);
        self.open(false);
        let values = otherwise(self);
        let otherwise = self.close(values);
        let results: Vec<Value> = then.results.iter().map(|&value| self.fresh(self.type_of(value))).collect();
        self.push(Statement::If(Box::new(If { condition, then, otherwise, results: results.clone() })));
        results
    }

    /// Runs a block if the condition holds.
    pub fn if_then(&mut self, condition: Value, then: impl FnOnce(&mut Self)) {
        self.if_else(
            condition,
            |b| {
                then(b);
                vec![]
            },
            |_| vec![],
        );
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
        let shared = ty == Type::INDEX || ty == Type::BOOL;
        if shared && let Some(&value) = self.blocks.iter().rev().find_map(|block| block.known.get(&op)) {
            return value;
        }
        let home = self.home(&op);
        let value = self.fresh(ty);
        self.depths[value.index()] = home as u32 + 1;
        let block = &mut self.blocks[home];
        block.statements.push(Statement::Let(value, op.clone()));
        if shared {
            block.known.insert(op.clone(), value);
            self.definitions[value.index()] = Some(op);
        }
        value
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
