//! Random kernels: arithmetic, masks, loops, choices, tails, scratch and phases.
//!
//! A kernel is grown from a list of numbers, each a decision, so that proptest shrinks kernels by shortening the list.

use nnc_kernel::ir::{
    BinaryOp, Builder, CompareOp, Direction, Elem, Kernel, KernelBuilder, Memory, ReduceOp, Type, UnaryOp, Value,
};
use nnc_kernel::program::ArgRef;

/// The element types of the memories: one input and one output of each.
pub const ELEMS: [Elem; 7] = [Elem::F32, Elem::F64, Elem::I8, Elem::U8, Elem::I16, Elem::I32, Elem::I64];
/// Elements of an output that a task may touch.
pub const ROOM: i64 = 256;
/// Tasks of each phase.
pub const TASKS: u64 = 3;

struct Grower<'a> {
    decisions: std::slice::Iter<'a, u32>,
    lanes: u8,
    inputs: Vec<Memory>,
    outputs: Vec<Memory>,
    scratch: Vec<Memory>,
    counts: Memory,
    /// What may be used here, the newest last.
    scope: Vec<Value>,
    /// The next free place in the outputs.
    slot: i64,
}

impl Grower<'_> {
    fn decide(&mut self, among: usize) -> usize {
        self.decisions.next().map_or(0, |&number| number as usize % among)
    }

    fn elem(&mut self) -> Elem {
        ELEMS[self.decide(ELEMS.len())]
    }

    fn ty(&mut self) -> Type {
        let elem = self.elem();
        let lanes = [1, self.lanes.div_ceil(2), self.lanes, self.lanes][self.decide(4)];
        Type::vector(elem, lanes)
    }

    /// A value of a type: one in scope, or new from memory or a constant.
    fn value(&mut self, b: &mut Builder, ty: Type) -> Value {
        let fitting: Vec<Value> = self.scope.iter().copied().filter(|&value| b.type_of(value) == ty).collect();
        let choice = self.decide(fitting.len() + 2);
        if let Some(&value) = fitting.iter().rev().nth(choice) {
            return value;
        }
        if ty.elem == Elem::Bool {
            let elem = self.elem();
            let (x, y) = (self.value(b, ty.with_elem(elem)), self.value(b, ty.with_elem(elem)));
            let op = CompareOp::ALL[self.decide(CompareOp::ALL.len())];
            return b.compare(op, x, y);
        }
        if choice == fitting.len() {
            let number = [0.0, 1.0, -3.0, 2.5, 8.0][self.decide(5)];
            return b.number(ty, number);
        }
        self.load(b, ty)
    }

    fn load(&mut self, b: &mut Builder, ty: Type) -> Value {
        let place = ELEMS.iter().position(|&elem| elem == ty.elem).unwrap();
        let memory = self.inputs[place];
        let at = b.index(self.decide(100) as i64);
        match self.decide(4) {
            0 => b.load_splat(memory, at, ty.lanes),
            1 => {
                let count = self.count(b);
                b.load_tail(memory, at, count, ty.lanes)
            }
            2 => {
                let mask = self.value(b, ty.mask());
                b.load_masked(memory, at, mask)
            }
            _ => b.load(memory, at, ty.lanes),
        }
    }

    /// A small index known at run time.
    fn count(&mut self, b: &mut Builder) -> Value {
        let at = b.index(self.decide(8) as i64);
        b.load(self.counts, at, 1)
    }

    fn operation(&mut self, b: &mut Builder) -> Value {
        let ty = self.ty();
        match self.decide(9) {
            0 => {
                let x = self.value(b, ty);
                let float = [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sqrt, UnaryOp::Floor, UnaryOp::Nearest];
                let int = [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Not];
                let op = if ty.elem.is_float() { float[self.decide(5)] } else { int[self.decide(3)] };
                b.unary(op, x)
            }
            1 | 2 => {
                let (x, y) = (self.value(b, ty), self.value(b, ty));
                let count = if ty.elem.is_float() { 5 } else { BinaryOp::ALL.len() };
                let float = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Min, BinaryOp::Max];
                let chosen = self.decide(count);
                b.binary(if ty.elem.is_float() { float[chosen] } else { BinaryOp::ALL[chosen] }, x, y)
            }
            3 => {
                let (mask, x, y) = (self.value(b, ty.mask()), self.value(b, ty), self.value(b, ty));
                b.select(mask, x, y)
            }
            4 => {
                let ty = ty.with_elem(if ty.elem == Elem::F64 { Elem::F64 } else { Elem::F32 });
                let (x, y, z) = (self.value(b, ty), self.value(b, ty), self.value(b, ty));
                b.fma(x, y, z)
            }
            5 => {
                let x = self.value(b, ty);
                let elem = self.elem();
                b.convert(x, elem)
            }
            6 => {
                let (mask, other) = (self.value(b, ty.mask()), self.value(b, ty.mask()));
                [BinaryOp::And, BinaryOp::Or, BinaryOp::Xor].map(|op| b.binary(op, mask, other))[self.decide(3)]
            }
            7 => {
                let x = self.value(b, ty);
                let op = [ReduceOp::Add, ReduceOp::Min, ReduceOp::Max][self.decide(3)];
                let sum = b.reduce(op, x);
                b.splat(sum, self.lanes)
            }
            _ => {
                let (x, y) = (self.value(b, ty), self.value(b, ty));
                let pattern: Vec<u8> = (0..self.lanes).map(|_| self.decide(2 * usize::from(ty.lanes)) as u8).collect();
                b.shuffle(x, y, &pattern)
            }
        }
    }

    fn store(&mut self, b: &mut Builder, task: Value) {
        let ty = self.ty();
        let value = self.value(b, ty);
        let place = ELEMS.iter().position(|&elem| elem == ty.elem).unwrap();
        let to_scratch = self.decide(4) == 0;
        let at = if to_scratch { b.index(self.slot) } else { b.affine(&[(task, ROOM)], self.slot) };
        let memory = if to_scratch { self.scratch[place] } else { self.outputs[place] };
        match self.decide(3) {
            0 if !to_scratch => {
                let count = self.count(b);
                b.store_tail(memory, at, count, value);
            }
            1 if !to_scratch => {
                let mask = self.value(b, ty.mask());
                b.store_masked(memory, at, mask, value);
            }
            _ => {
                b.store(memory, at, value);
                let back = b.load(memory, at, ty.lanes);
                self.scope.push(back);
            }
        }
        self.slot = (self.slot + i64::from(self.lanes)) % (ROOM - i64::from(self.lanes));
    }

    fn carried(&mut self, b: &mut Builder) -> Vec<Value> {
        (0..self.decide(4))
            .map(|_| {
                let ty = self.ty();
                let ty = if self.decide(4) == 0 { ty.mask() } else { ty };
                self.value(b, ty)
            })
            .collect()
    }

    /// Values of the same types as `like`.
    fn matching(&mut self, b: &mut Builder, like: &[Value]) -> Vec<Value> {
        like.iter()
            .map(|&value| {
                let ty = b.type_of(value);
                self.value(b, ty)
            })
            .collect()
    }

    fn block(&mut self, b: &mut Builder, task: Value, depth: usize) {
        for _ in 0..1 + self.decide(6) {
            if self.decisions.len() == 0 {
                return;
            }
            match self.decide(8) {
                0 if depth < 3 => self.for_loop(b, task, depth),
                1 if depth < 3 => self.choice(b, task, depth),
                2 | 3 => self.store(b, task),
                _ => {
                    let value = self.operation(b);
                    self.scope.push(value);
                }
            }
        }
    }

    fn for_loop(&mut self, b: &mut Builder, task: Value, depth: usize) {
        let initial = self.carried(b);
        let (start, end) = (b.index(self.decide(3) as i64), self.count(b));
        let step = b.index(1 + self.decide(2) as i64);
        let unroll = [1, 1, 2, 3][self.decide(4)];
        let results = b.for_unrolled(start, end, step, unroll, &initial, |b, index, carried| {
            let outside = self.scope.len();
            self.scope.push(index);
            self.scope.extend_from_slice(carried);
            self.block(b, task, depth + 1);
            let next = self.matching(b, carried);
            self.scope.truncate(outside);
            next
        });
        self.scope.extend(results);
    }

    fn choice(&mut self, b: &mut Builder, task: Value, depth: usize) {
        let condition = self.value(b, Type::BOOL);
        let like = self.carried(b);
        let outside = self.scope.len();
        let grower = std::cell::RefCell::new(self);
        let branch = |b: &mut Builder| {
            let mut grower = grower.borrow_mut();
            grower.block(b, task, depth + 1);
            let results = grower.matching(b, &like);
            grower.scope.truncate(outside);
            results
        };
        let results = b.if_else(condition, branch, branch);
        grower.into_inner().scope.extend(results);
    }
}

/// Grows a kernel. Its buffers: an input for each of [`ELEMS`], eight small counts, an output for each of [`ELEMS`].
pub fn grow(decisions: &[u32], lanes: u8) -> (Kernel, Vec<ArgRef>) {
    let mut kernel = KernelBuilder::new("random");
    let inputs = ELEMS.map(|elem| kernel.input(format!("in_{elem}"), elem)).to_vec();
    let counts = kernel.input("counts", Elem::I64);
    let outputs = ELEMS.map(|elem| kernel.param(format!("out_{elem}"), elem, Direction::InOut)).to_vec();
    let scratch = ELEMS.map(|elem| kernel.scratch(elem, ROOM as usize)).to_vec();
    let mut grower =
        Grower { decisions: decisions.iter(), lanes, inputs, outputs, scratch, counts, scope: vec![], slot: 0 };
    for _ in 0..2 {
        kernel.phase(TASKS, |b, task| {
            grower.scope = vec![task];
            grower.block(b, task, 0);
            grower.block(b, task, 0);
            grower.store(b, task);
        });
    }
    let args = (1..=15).map(|buffer| ArgRef::new(buffer, 0)).collect();
    (kernel.finish(), args)
}
