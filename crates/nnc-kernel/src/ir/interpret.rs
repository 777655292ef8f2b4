//! The kernel interpreter: the definition of what a kernel does, with every access checked.
//!
//! Slow and plain. Tasks run in order, phases one after the other. Scratch memory is filled with a pattern before each
//! task, so that a kernel that relies on what a task left behind gives other results here than anywhere.

use super::scalar;
use super::statement::{Access, Address, Base, Block, For, Op, Statement, Store};
use super::types::{Elem, Type, Value};
use super::{Kernel, Phase};
use crate::program::{ArgRef, Loop, Program};
use std::fmt;
use std::ops::Range;

/// What is in scratch memory before a task.
const SCRATCH_PATTERN: u8 = 0xa5;
/// Bytes of a page of memory, on most machines.
const PAGE: usize = 4096;

/// An error in a kernel, found while it ran: a compiler bug.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The kernel's name.
    pub kernel: String,
    /// Which phase.
    pub phase: usize,
    /// Which task.
    pub task: u64,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel `{}`, phase {}, task {}: {}", self.kernel, self.phase, self.task, self.what)
    }
}

impl std::error::Error for Fault {}

/// Runs every launch of a verified program on `buffers` (0 is the arena, then the externals).
///
/// # Errors
/// At the first access outside a buffer, or loop that does not advance.
pub fn run(program: &Program, buffers: &mut [Vec<u8>]) -> Result<(), Fault> {
    let mut steps = Vec::new();
    run_range(program, 0..program.launches.len(), &program.loops, &mut steps, buffers)
}

/// Runs some launches, among which are `loops`; `steps` are those of the loops around.
fn run_range(
    program: &Program,
    range: Range<usize>,
    loops: &[Loop],
    steps: &mut Vec<u64>,
    buffers: &mut [Vec<u8>],
) -> Result<(), Fault> {
    let mut at = range.start;
    let mut rest = loops;
    while at < range.end {
        let Some((first, others)) = rest.split_first().filter(|(first, _)| first.launches.start == at) else {
            let launch = &program.launches[at];
            let args: Vec<ArgRef> = launch.args.iter().map(|arg| arg.at(steps)).collect();
            run_kernel(&program.kernels[launch.kernel as usize], &args, buffers)?;
            at += 1;
            continue;
        };
        let inner = others.iter().take_while(|inner| inner.launches.start < first.launches.end).count();
        run_loop(program, first, &others[..inner], steps, buffers)?;
        rest = &others[inner..];
        at = first.launches.end;
    }
    Ok(())
}

fn run_loop(
    program: &Program,
    each: &Loop,
    inner: &[Loop],
    steps: &mut Vec<u64>,
    buffers: &mut [Vec<u8>],
) -> Result<(), Fault> {
    for round in 0..each.steps {
        let step = if each.reverse { each.steps - 1 - round } else { round };
        if let Some(index) = &each.index {
            let place = index.at(steps);
            let (start, number) = (place.offset as usize, step as i64);
            buffers[place.buffer as usize][start..start + 8].copy_from_slice(&number.to_le_bytes());
        }
        steps.push(step);
        run_range(program, each.launches.clone(), inner, steps, buffers)?;
        steps.pop();
    }
    Ok(())
}

/// Runs one verified kernel whose parameters lie at `args`.
///
/// # Errors
/// As [`run`].
pub fn run_kernel(kernel: &Kernel, args: &[ArgRef], buffers: &mut [Vec<u8>]) -> Result<(), Fault> {
    for (number, phase) in kernel.phases.iter().enumerate() {
        let scratch = vec![SCRATCH_PATTERN; kernel.scratch as usize];
        let mut run = Run { kernel, phase, args, buffers, scratch, values: vec![vec![]; phase.types.len()] };
        for task in 0..phase.tasks {
            run.task(task).map_err(|what| Fault { kernel: kernel.name.clone(), phase: number, task, what })?;
        }
    }
    Ok(())
}

struct Run<'a> {
    kernel: &'a Kernel,
    phase: &'a Phase,
    args: &'a [ArgRef],
    buffers: &'a mut [Vec<u8>],
    scratch: Vec<u8>,
    /// The lanes of each value.
    values: Vec<Vec<u64>>,
}

type Outcome<T = ()> = Result<T, String>;

impl Run<'_> {
    fn task(&mut self, task: u64) -> Outcome {
        self.scratch.fill(SCRATCH_PATTERN);
        self.values[self.phase.task.index()] = vec![task];
        let phase = self.phase;
        self.block(&phase.body)?;
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Outcome<Vec<Vec<u64>>> {
        for statement in &block.statements {
            self.statement(statement)?;
        }
        Ok(block.results.iter().map(|&value| self.lanes(value).to_vec()).collect())
    }

    fn statement(&mut self, statement: &Statement) -> Outcome {
        match statement {
            Statement::Let(value, op) => {
                let lanes = self.op(self.phase.type_of(*value), op)?;
                self.values[value.index()] = lanes;
            }
            Statement::Store(store) => self.store(store)?,
            Statement::Prefetch(_) => {}
            Statement::For(statement) => self.for_loop(statement)?,
            Statement::If(statement) => {
                let block = if self.scalar(statement.condition) != 0 { &statement.then } else { &statement.otherwise };
                let results = self.block(block)?;
                self.bind(&statement.results, results);
            }
        }
        Ok(())
    }

    fn for_loop(&mut self, statement: &For) -> Outcome {
        let [mut index, end, step] =
            [statement.start, statement.end, statement.step].map(|value| self.scalar(value) as i64);
        if step <= 0 {
            return Err(format!("the loop over {} has step {step}", statement.index));
        }
        let mut carried: Vec<Vec<u64>> = statement.initial.iter().map(|&value| self.lanes(value).to_vec()).collect();
        while index < end {
            self.values[statement.index.index()] = vec![index as u64];
            self.bind(&statement.carried, carried);
            carried = self.block(&statement.body)?;
            index = index.wrapping_add(step);
        }
        self.bind(&statement.results, carried);
        Ok(())
    }

    fn bind(&mut self, names: &[Value], values: Vec<Vec<u64>>) {
        for (name, lanes) in names.iter().zip(values) {
            self.values[name.index()] = lanes;
        }
    }

    fn lanes(&self, value: Value) -> &[u64] {
        &self.values[value.index()]
    }

    fn scalar(&self, value: Value) -> u64 {
        self.values[value.index()][0]
    }

    fn elem(&self, value: Value) -> Elem {
        self.phase.type_of(value).elem
    }

    fn op(&mut self, ty: Type, op: &Op) -> Outcome<Vec<u64>> {
        let elem = ty.elem;
        let count = usize::from(ty.lanes);
        let each = |of: &dyn Fn(usize) -> u64| (0..count).map(of).collect::<Vec<u64>>();
        Ok(match op {
            Op::Constant(bits) => vec![*bits; count],
            Op::Iota => each(&|i| scalar::of_f64(elem, i as f64)),
            Op::Unary(op, a) => each(&|i| scalar::unary(elem, *op, self.lanes(*a)[i])),
            Op::Binary(op, a, b) => each(&|i| scalar::binary(elem, *op, self.lanes(*a)[i], self.lanes(*b)[i])),
            Op::Compare(op, a, b) => {
                let of = self.elem(*a);
                each(&|i| u64::from(scalar::compare(of, *op, self.lanes(*a)[i], self.lanes(*b)[i])))
            }
            Op::Select(mask, a, b) => {
                let mask = self.lanes(*mask);
                each(&|i| if mask[i % mask.len()] != 0 { self.lanes(*a)[i] } else { self.lanes(*b)[i] })
            }
            Op::Fma(a, b, c) => each(&|i| scalar::fma(elem, self.lanes(*a)[i], self.lanes(*b)[i], self.lanes(*c)[i])),
            Op::Convert(a) => each(&|i| scalar::convert(self.elem(*a), elem, self.lanes(*a)[i])),
            Op::Bitcast(a) => from_bytes(elem, &to_bytes(self.elem(*a), self.lanes(*a))),
            Op::Splat(a) => vec![self.scalar(*a); count],
            Op::Extract(a, lane) => vec![self.lanes(*a)[usize::from(*lane)]],
            Op::Insert(a, scalar, lane) => {
                let mut lanes = self.lanes(*a).to_vec();
                lanes[usize::from(*lane)] = self.scalar(*scalar);
                lanes
            }
            Op::Shuffle(a, b, pattern) => {
                let both = [self.lanes(*a), self.lanes(*b)].concat();
                pattern.iter().map(|&lane| both[usize::from(lane)]).collect()
            }
            Op::LookUp(table, indices) => {
                let table = self.lanes(*table);
                each(&|i| table[self.lanes(*indices)[i] as usize & (table.len() - 1)])
            }
            Op::Reduce(op, a) => {
                let mut lanes = self.lanes(*a).to_vec();
                while lanes.len() > 1 {
                    let upper = lanes.split_off(lanes.len() / 2);
                    lanes = lanes.iter().zip(upper).map(|(&a, b)| scalar::binary(elem, op.binary(), a, b)).collect();
                }
                lanes
            }
            Op::DotI7(_, a, b) if !self.pairs_fit(*a, *b) => {
                return Err("two products of a `dot_i7` do not fit 16 bits together".to_owned());
            }
            Op::DotI8(acc, a, b) | Op::DotI7(acc, a, b) => each(&|i| {
                let product = |j: usize| byte_product(self.lanes(*a)[j], self.lanes(*b)[j]);
                let sum = (4 * i..4 * i + 4).map(product).fold(self.lanes(*acc)[i] as i32, i32::wrapping_add);
                u64::from(sum as u32)
            }),
            Op::DotBf16(acc, a, b) => each(&|i| {
                let step = |sum, j: usize| scalar::fma(elem, self.lanes(*a)[j] << 16, self.lanes(*b)[j] << 16, sum);
                step(step(self.lanes(*acc)[i], 2 * i), 2 * i + 1)
            }),
            Op::Load(address, access) => self.load(ty, *address, *access)?,
        })
    }

    /// Whether the sums of neighbouring products of unsigned by signed bytes fit 16 bits.
    fn pairs_fit(&self, a: Value, b: Value) -> bool {
        let mut pairs = self.lanes(a).chunks(2).zip(self.lanes(b).chunks(2));
        pairs.all(|(a, b)| {
            let sum: i32 = a.iter().zip(b).map(|(&a, &b)| byte_product(a, b)).sum();
            i16::try_from(sum).is_ok()
        })
    }

    /// The element that an address names, counted from the base.
    fn start(&self, address: Address) -> i64 {
        address.index.map_or(0, |index| self.scalar(index) as i64).wrapping_add(address.plus)
    }

    /// For each lane the element it touches, counted from the base, or `None` where it touches nothing.
    fn places(&self, lanes: u8, address: Address, access: Access) -> Vec<Option<i64>> {
        let start = self.start(address);
        let lanes = 0..i64::from(lanes);
        let place = |lane: i64| match access {
            Access::Contiguous => Some(lane),
            Access::Splat => Some(0),
            Access::Strided(stride) => Some(lane.wrapping_mul(self.scalar(stride) as i64)),
            Access::Tail(count) => (lane < self.scalar(count) as i64).then_some(lane),
            Access::Masked(mask) => (self.lanes(mask)[lane as usize] != 0).then_some(lane),
            Access::Indexed(indices) => Some(scalar::integer(self.elem(indices), self.lanes(indices)[lane as usize])),
        };
        lanes.map(|lane| place(lane).map(|place| start.wrapping_add(place))).collect()
    }

    fn load(&mut self, ty: Type, address: Address, access: Access) -> Outcome<Vec<u64>> {
        let places = self.places(ty.lanes, address, access);
        if places.iter().all(Option::is_none) {
            self.check_near(address, ty)?;
        }
        let mut lanes = Vec::with_capacity(places.len());
        for place in places {
            lanes.push(match place {
                Some(place) => from_bytes(ty.elem, self.bytes(address.base, place, ty.elem)?)[0],
                None => 0,
            });
        }
        Ok(lanes)
    }

    fn store(&mut self, store: &Store) -> Outcome {
        let ty = self.phase.type_of(store.value);
        let places = self.places(ty.lanes, store.address, store.access);
        let lanes = self.lanes(store.value).to_vec();
        for (place, lane) in places.into_iter().zip(lanes) {
            if let Some(place) = place {
                let bytes = to_bytes(ty.elem, &[lane]);
                self.bytes(store.address.base, place, ty.elem)?.copy_from_slice(&bytes);
            }
        }
        Ok(())
    }

    /// Refuses a load that touches nothing, but begins more than a page behind the end of its buffer, which may be an
    /// arena: a processor takes long to find out that there is no memory.
    fn check_near(&self, address: Address, ty: Type) -> Outcome {
        let start = self.start(address);
        let (length, what) = match address.base {
            Base::Param(param) => {
                let arg = &self.args[param.index()];
                let length = self.buffers.get(arg.buffer as usize).map_or(0, Vec::len);
                (length.saturating_sub(arg.offset as usize), self.kernel.params[param.index()].name.as_str())
            }
            Base::Scratch(start) => (self.scratch.len().saturating_sub(start as usize), "scratch"),
        };
        let most = ((length + PAGE) / ty.elem.size()) as i64;
        if start > most {
            return Err(format!("nothing is loaded from element {start} of `{what}`, far behind its {length} bytes"));
        }
        Ok(())
    }

    /// The memory of one element.
    fn bytes(&mut self, base: Base, place: i64, elem: Elem) -> Outcome<&mut [u8]> {
        let (memory, start, what) = match base {
            Base::Param(param) => {
                let arg = &self.args[param.index()];
                let name = &self.kernel.params[param.index()].name;
                let buffer = self.buffers.get_mut(arg.buffer as usize);
                let buffer = buffer.ok_or_else(|| format!("`{name}` is in buffer {}, which is missing", arg.buffer))?;
                (buffer, arg.offset as i64, name.as_str())
            }
            Base::Scratch(start) => (&mut self.scratch, i64::from(start), "scratch"),
        };
        let size = elem.size();
        let begin = place.checked_mul(size as i64).and_then(|bytes| bytes.checked_add(start));
        let begin = begin.and_then(|begin| usize::try_from(begin).ok());
        let length = memory.len();
        begin
            .and_then(|begin| memory.get_mut(begin..begin.checked_add(size)?))
            .ok_or_else(|| format!("element {place} of `{what}` is outside its buffer of {length} bytes"))
    }
}

/// An unsigned byte times a signed one.
fn byte_product(a: u64, b: u64) -> i32 {
    i32::from(a as u8) * i32::from(b as i8)
}

fn to_bytes(elem: Elem, lanes: &[u64]) -> Vec<u8> {
    lanes.iter().flat_map(|lane| lane.to_le_bytes()[..elem.size()].to_vec()).collect()
}

fn from_bytes(elem: Elem, bytes: &[u8]) -> Vec<u64> {
    let lane = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_le_bytes(word);
        if elem == Elem::Bool { u64::from(bits != 0) } else { bits }
    };
    bytes.chunks_exact(elem.size()).map(lane).collect()
}
