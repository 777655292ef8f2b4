//! What a phase does, counted on its code: cycles of its tasks while all data are in the first cache, and the bytes
//! that it touches of each parameter.
//!
//! Indices are followed as far as they are known. A loop whose rounds differ, since bounds inside depend on its
//! counter, is looked at in its first, middle and last round, and so are tasks. What depends on data (the lengths of
//! lists, say) is guessed: [`GUESSED_ROUNDS`], and the dearer branch.

use super::machine::{LATENCY, LOOP_END, Machine};
use super::ports::Ports;
use crate::ir::{Access, Address, Base, BinaryOp, Block, For, If, Op, Phase, Statement, Type, Value, fold};
use std::collections::BTreeMap;

/// Rounds of a loop whose bounds depend on data.
const GUESSED_ROUNDS: f64 = 16.0;

/// Bytes of a line of a cache.
const LINE: usize = 64;
/// Places so many bytes apart share the sets of a first cache.
const PAGE: i64 = 4096;
/// So many of them stay in it together.
const WAYS: usize = 8;

/// What a phase does.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Work {
    /// Tasks.
    pub tasks: u64,
    /// Cycles of all tasks on one core.
    pub cycles: f64,
    /// Bytes loaded and stored of each parameter.
    pub touched: Vec<Touched>,
}

/// Bytes of a parameter, each time counted.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Touched {
    /// That are loaded.
    pub loaded: f64,
    /// That are stored.
    pub stored: f64,
    /// Of both, those that no prefetcher follows: far from the ones of the round before, or, where the code does not
    /// ask for what comes next, of so many places in the same sets of a cache that they push one another out.
    pub scattered: f64,
}

impl Touched {
    /// All bytes.
    pub fn bytes(&self) -> f64 {
        self.loaded + self.stored
    }

    /// Both together, the second so many times.
    #[must_use]
    pub fn plus(self, other: Self, times: f64) -> Self {
        Self {
            loaded: self.loaded + times * other.loaded,
            stored: self.stored + times * other.stored,
            scattered: self.scattered + times * other.scattered,
        }
    }
}

/// The work of a phase of a kernel with so many parameters.
pub fn work(phase: &Phase, params: usize, machine: &Machine) -> Work {
    let mut walk = Walk {
        phase,
        machine,
        known: vec![None; phase.types.len()],
        cycles: 0.0,
        touched: vec![Touched::default(); params],
        varies: 0,
        depth: 1,
    };
    for (task, times) in samples(phase.tasks) {
        walk.known[phase.task.index()] = Some(Known { number: task as i64, depth: 1, slope: 1 });
        walk.block(&phase.body, times);
    }
    Work { tasks: phase.tasks, cycles: walk.cycles, touched: walk.touched }
}

/// Which of some rounds are looked at, and for how many each stands.
fn samples(count: u64) -> Vec<(u64, f64)> {
    match count {
        0..=2 => (0..count).map(|round| (round, 1.0)).collect(),
        _ => vec![(0, 1.0), (count / 2, (count - 2) as f64), (count - 1, 1.0)],
    }
}

/// A known index.
#[derive(Clone, Copy)]
struct Known {
    number: i64,
    /// The innermost loop whose counter it depends on: 0 for none, 1 for the number of the task.
    depth: u32,
    /// How it moves from one round of that loop to the next.
    slope: i64,
}

impl Known {
    /// Of two, by what they are made into.
    fn joined(self, other: Self, number: i64, slope: i64) -> Self {
        Self { number, depth: self.depth.max(other.depth), slope }
    }

    /// The slope if the counter of depth `depth` moves.
    fn slope_at(self, depth: u32) -> i64 {
        if self.depth == depth { self.slope } else { 0 }
    }
}

/// An access of a block.
struct Place {
    param: usize,
    bytes: usize,
    /// The address in the parameter, in bytes.
    at: i64,
    /// How it moves with the rounds of the loop.
    stride: i64,
}

struct Walk<'p> {
    phase: &'p Phase,
    machine: &'p Machine,
    known: Vec<Option<Known>>,
    cycles: f64,
    touched: Vec<Touched>,
    /// A bit for each depth that a bound or a branch depended on since it was cleared.
    varies: u64,
    /// Of the loop that is walked.
    depth: u32,
}

impl Walk<'_> {
    fn block(&mut self, block: &Block, times: f64) {
        let mut ports = Ports::default();
        let (mut places, mut asked) = (Vec::new(), Vec::new());
        for statement in &block.statements {
            match statement {
                Statement::Let(value, op) => {
                    if let Op::Load(address, access) = op {
                        let ty = self.phase.type_of(*value);
                        let bytes = if *access == Access::Splat { ty.elem.size() } else { ty.size() };
                        let touched = Touched { loaded: bytes as f64, ..Touched::default() };
                        self.touch(address, (bytes, ty.elem.size()), (touched, times), &mut places);
                    }
                    self.operation(*value, op, &mut ports);
                }
                Statement::Store(store) => {
                    let ty = self.phase.type_of(store.value);
                    let touched = Touched { stored: ty.size() as f64, ..Touched::default() };
                    self.touch(&store.address, (ty.size(), ty.elem.size()), (touched, times), &mut places);
                    ports.store(self.machine, ty, store.access);
                }
                Statement::Prefetch(address) => {
                    asked.push(address.base);
                    ports.scalar(1.0);
                }
                Statement::For(each) => self.for_loop(each, times),
                Statement::If(each) => self.branch(each, times),
            }
        }
        self.cycles += times * ports.cycles() * self.machine.friction;
        self.scatter(&places, (&asked, times));
    }

    fn operation(&mut self, value: Value, op: &Op, ports: &mut Ports) {
        let ty = self.phase.type_of(value);
        self.known[value.index()] = self.evaluate(ty, op);
        ports.operation(self.machine, self.phase, ty, op);
    }

    fn touch(
        &mut self,
        address: &Address,
        (bytes, size): (usize, usize),
        (touched, times): (Touched, f64),
        places: &mut Vec<Place>,
    ) {
        let Base::Param(param) = address.base else { return };
        let param = param.index();
        self.touched[param] = self.touched[param].plus(touched, times);
        if let Some(index) = address.index.and_then(|value| self.known[value.index()]) {
            let at = (index.number + address.plus) * size as i64;
            places.push(Place { param, bytes, at, stride: index.slope_at(self.depth) * size as i64 });
        }
    }

    /// Counts the bytes of a block's accesses that are [`Touched::scattered`].
    fn scatter(&mut self, places: &[Place], (asked, times): (&[Base], f64)) {
        for place in places {
            let alike = |other: &&Place| other.param == place.param && other.stride == place.stride;
            let together: usize = places.iter().filter(alike).map(|other| other.bytes).sum();
            let is_far = place.stride.unsigned_abs() as usize >= 2 * together.max(LINE);
            let in_set = |other: &&Place| other.param == place.param && (other.at - place.at) % PAGE == 0;
            let is_asked =
                || asked.iter().any(|base| matches!(base, Base::Param(param) if param.index() == place.param));
            let is_crowded = places.len() > WAYS && places.iter().filter(in_set).count() > WAYS && !is_asked();
            if is_far || is_crowded {
                self.touched[place.param].scattered += times * place.bytes as f64;
            }
        }
    }

    fn for_loop(&mut self, each: &For, times: f64) {
        let bounds = [each.start, each.end, each.step].map(|value| self.known[value.index()]);
        bounds.iter().flatten().for_each(|known| self.varies |= 1 << known.depth.min(63));
        let rounds = each.trip_count(|value| self.known[value.index()].map(|known| known.number as u64));
        let chain = self.chain(each);
        let before = self.cycles;
        let count = match (rounds, bounds[0], bounds[2]) {
            (Some(rounds), Some(start), Some(step)) => {
                self.rounds(each, (rounds, start.number, step.number), times);
                rounds as f64
            }
            _ => {
                self.known[each.index.index()] = None;
                self.round(each, times * GUESSED_ROUNDS);
                GUESSED_ROUNDS
            }
        };
        let least = before + times * count * chain;
        self.cycles = self.cycles.max(least) + if count > 1.0 { times * LOOP_END } else { 0.0 };
    }

    /// The rounds of a loop from a start on by a step.
    fn rounds(&mut self, each: &For, (count, start, step): (u64, i64, i64), times: f64) {
        self.depth += 1;
        let depth = self.depth;
        let outer = std::mem::replace(&mut self.varies, 0);
        let mut left = samples(count).into_iter();
        let at = |round: u64| Some(Known { number: start + step * round as i64, depth, slope: step });
        if let Some((first, _)) = left.next() {
            self.known[each.index.index()] = at(first);
            let (cycles, touched) = (self.cycles, self.touched.clone());
            self.round(each, times);
            if self.varies & (1 << depth.min(63)) == 0 {
                let rest = (count - 1) as f64;
                self.cycles += rest * (self.cycles - cycles);
                self.touched
                    .iter_mut()
                    .zip(&touched)
                    .for_each(|(now, before)| *now = now.plus(now.plus(*before, -1.0), rest));
            } else {
                for (round, rounds) in left {
                    self.known[each.index.index()] = at(round);
                    self.round(each, times * rounds);
                }
            }
        }
        self.depth -= 1;
        self.varies = outer | self.varies & !(1 << depth.min(63));
    }

    fn round(&mut self, each: &For, times: f64) {
        each.carried.iter().for_each(|value| self.known[value.index()] = None);
        self.block(&each.body, times);
        let mut control = Ports::default();
        control.scalar(2.0 / f64::from(each.unroll.max(1)));
        self.cycles += times * control.cycles();
    }

    fn branch(&mut self, each: &If, times: f64) {
        match self.known[each.condition.index()] {
            Some(known) => {
                self.varies |= 1 << known.depth.min(63);
                self.block(if known.number != 0 { &each.then } else { &each.otherwise }, times);
            }
            None => {
                let before = (self.cycles, self.touched.clone());
                self.block(&each.then, times);
                let then = (self.cycles, std::mem::replace(&mut self.touched, before.1));
                self.cycles = before.0;
                self.block(&each.otherwise, times);
                if then.0 > self.cycles {
                    (self.cycles, self.touched) = then;
                }
            }
        }
    }

    /// Cycles that one round must wait for the one before: the longest way from a carried value to what replaces it, in
    /// loops without others in them.
    fn chain(&self, each: &For) -> f64 {
        let is_plain = |statement: &Statement| !matches!(statement, Statement::For(_) | Statement::If(_));
        if each.carried.is_empty() || !each.body.statements.iter().all(is_plain) {
            return 0.0;
        }
        let mut of: BTreeMap<Value, f64> = each.carried.iter().map(|&value| (value, 0.0)).collect();
        for statement in &each.body.statements {
            if let Statement::Let(value, op) = statement {
                let longest = op.operands().iter().filter_map(|operand| of.get(operand)).copied().reduce(f64::max);
                if let Some(longest) = longest {
                    of.insert(*value, longest + self.latency(self.phase.type_of(*value), op));
                }
            }
        }
        each.body.results.iter().filter_map(|result| of.get(result)).copied().fold(0.0, f64::max)
    }

    fn latency(&self, ty: Type, op: &Op) -> f64 {
        match op {
            Op::Constant(_) | Op::Iota | Op::Bitcast(_) => 0.0,
            Op::Reduce(_, of) => 5.0 * f64::from(self.phase.type_of(*of).lanes).log2(),
            _ if ty.elem.is_float() => LATENCY,
            Op::DotI8(..) | Op::DotI7(..) => LATENCY,
            _ => 1.0,
        }
    }

    /// The number of an index or of a truth value, where it follows from known ones.
    fn evaluate(&self, ty: Type, op: &Op) -> Option<Known> {
        let of = |value: &Value| self.known[value.index()];
        match op {
            _ if ty.lanes > 1 || ty.elem.is_float() => None,
            Op::Constant(bits) => Some(Known { number: *bits as i64, depth: 0, slope: 0 }),
            Op::Binary(op, a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                Some(a.joined(b, fold::binary(*op, a.number, b.number), slope(*op, a, b)))
            }
            Op::Compare(op, a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                Some(a.joined(b, i64::from(fold::compare(*op, a.number, b.number)), 0))
            }
            Op::Select(condition, a, b) => {
                let condition = of(condition)?;
                let chosen = of(if condition.number != 0 { a } else { b })?;
                Some(condition.joined(chosen, chosen.number, chosen.slope_at(condition.depth.max(chosen.depth))))
            }
            Op::Convert(a) => of(a),
            _ => None,
        }
    }
}

/// The slope of what two indices make: that of linear functions; 0 of others.
fn slope(op: BinaryOp, a: Known, b: Known) -> i64 {
    let depth = a.depth.max(b.depth);
    let (da, db) = (a.slope_at(depth), b.slope_at(depth));
    match op {
        BinaryOp::Add => da + db,
        BinaryOp::Sub => da - db,
        BinaryOp::Mul => da * b.number + db * a.number,
        BinaryOp::Shl => da << (b.number & 63),
        BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::Min
        | BinaryOp::Max
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shr
        | BinaryOp::Sar => 0,
    }
}
