//! Tasks, loops and choices as blocks.

use super::super::vcode::{Condition, Draft, Kind, Label, View};
use super::Selector;
use super::lanes::Lanes;
use iced_x86::Code;
use nnc_kernel::ir::{self as kernel, For, If, Type, Value};
use regalloc2::VReg;

/// How a list of values lies in registers: bits of a lane and number of parts of each.
struct Layout {
    shape: Vec<(u32, usize)>,
}

impl Layout {
    fn of(values: &[Lanes]) -> Self {
        Self { shape: values.iter().map(|lanes| (lanes.bits, lanes.parts.len())).collect() }
    }
}

fn registers(values: &[Lanes]) -> impl Iterator<Item = VReg> + '_ {
    values.iter().flat_map(|lanes| lanes.parts.iter().copied())
}

fn with_index(index: VReg, values: &[Lanes]) -> Vec<VReg> {
    std::iter::once(index).chain(registers(values)).collect()
}

/// The end of a loop: a register or a number.
#[derive(Clone, Copy)]
enum Bound {
    Register(VReg),
    Number(i32),
}

impl Selector<'_> {
    /// The body for each task of `begin..end`; the last block is left open.
    pub(super) fn tasks(&mut self, begin: VReg, end: VReg) {
        self.count(begin, end, Condition::Below, |s, task| {
            s.set(s.phase.task, Lanes::new(64, vec![task]));
            let phase = s.phase;
            s.block(&phase.body);
        });
    }

    /// Runs `body` for each number from `start` on while it is less than `end`, as `condition` compares.
    fn count(&mut self, start: VReg, end: VReg, condition: Condition, body: impl FnOnce(&mut Self, VReg)) {
        let [head, inside, done] = std::array::from_fn(|_| self.code.label());
        let at = self.code.param(head, start);
        self.code.jump(head, &[start]);
        self.code.begin(head);
        let test = Draft::of(Kind::Branch(Code::Cmp_r64_rm64, condition));
        self.code.branch(test.reads(at, View::Quad).reads(end, View::Quad), inside, done);
        self.code.begin(inside);
        self.scoped(|s| body(s, at));
        let next = self.add_number(at, 1);
        self.code.jump(head, &[next]);
        self.code.begin(done);
    }

    fn block(&mut self, block: &kernel::Block) -> Vec<Lanes> {
        let mut statements = block.statements.iter().peekable();
        while let Some(statement) = statements.next() {
            if self.folds(statement, statements.peek().copied()) {
                statements.next();
            } else {
                self.statement(statement);
            }
        }
        block.results.iter().map(|&value| self.value(value)).collect()
    }

    pub(super) fn for_loop(&mut self, statement: &For) {
        let initial: Vec<Lanes> = statement.initial.iter().map(|&value| self.value(value)).collect();
        let start = self.scalar(statement.start);
        let end = match self.known(statement.end).map(|bits| i32::try_from(bits as i64)) {
            Some(Ok(end)) => Bound::Number(end),
            _ => Bound::Register(self.scalar(statement.end)),
        };
        let rounds = statement.trip_count(|value| self.known(value));
        let unroll = u64::from(statement.unroll.max(1)).min(rounds.unwrap_or(u64::MAX).max(1));
        let results = match rounds {
            Some(1) => self.scoped(|s| s.some_rounds(statement, 1, start, &initial)),
            _ if unroll == 1 => self.rounds(statement, 1, start, end, &initial).1,
            _ => self.unrolled(statement, unroll, start, end, &initial, rounds),
        };
        for (&value, lanes) in statement.results.iter().zip(results) {
            self.set(value, lanes);
        }
    }

    /// A loop of `unroll` rounds at a time, then one for the rest.
    fn unrolled(
        &mut self,
        statement: &For,
        unroll: u64,
        start: VReg,
        end: Bound,
        initial: &[Lanes],
        rounds: Option<u64>,
    ) -> Vec<Lanes> {
        let limit = match end {
            Bound::Register(end) => end,
            Bound::Number(end) => self.load_number(i64::from(end)),
        };
        let main_end = self.advance(statement, limit, 1 - unroll as i64);
        let (reached, carried) = self.rounds(statement, unroll, start, Bound::Register(main_end), initial);
        match rounds {
            Some(rounds) if rounds % unroll == 0 => carried,
            _ => self.rounds(statement, 1, reached, end, &carried).1,
        }
    }

    /// Runs while `index < end`, `unroll` rounds for each test; gives the index reached and the carried values.
    fn rounds(
        &mut self,
        statement: &For,
        unroll: u64,
        start: VReg,
        end: Bound,
        initial: &[Lanes],
    ) -> (VReg, Vec<Lanes>) {
        let [head, body, done] = std::array::from_fn(|_| self.code.label());
        let reached = self.code.param(head, start);
        let results = self.params_like(head, initial);
        self.code.jump(head, &with_index(start, initial));
        self.code.begin(head);
        let test = match end {
            Bound::Register(end) => Draft::of(Kind::Branch(Code::Cmp_r64_rm64, Condition::Less))
                .reads(reached, View::Quad)
                .reads(end, View::Quad),
            Bound::Number(end) => {
                Draft::of(Kind::Branch(Code::Cmp_rm64_imm32, Condition::Less)).reads(reached, View::Quad).extended(end)
            }
        };
        self.code.branch(test, body, done);
        self.code.begin(body);
        let carried = self.scoped(|s| s.some_rounds(statement, unroll, reached, &results));
        let index = self.advance(statement, reached, unroll as i64);
        self.code.jump(head, &with_index(index, &carried));
        self.code.begin(done);
        (reached, results)
    }

    /// An index so many steps on.
    fn advance(&mut self, statement: &For, index: VReg, steps: i64) -> VReg {
        if let Some(step) = self.known(statement.step) {
            return self.add_number(index, (step as i64).wrapping_mul(steps));
        }
        let step = self.scalar(statement.step);
        let distance = self.multiply_by(step, steps);
        self.general([Code::Add_r32_rm32, Code::Add_r64_rm64], true, index, distance)
    }

    /// `count` rounds in line from `index` on; gives the carried values.
    fn some_rounds(&mut self, statement: &For, count: u64, mut index: VReg, initial: &[Lanes]) -> Vec<Lanes> {
        let layout = Layout::of(initial);
        let known_step = self.known(statement.step).map(|step| step as i64);
        let mut carried = initial.to_vec();
        for round in 0..count {
            let plus = known_step.map_or(0, |step| step.wrapping_mul(round as i64));
            if known_step.is_none() && round > 0 {
                index = self.advance(statement, index, 1);
            }
            self.set(statement.index, Lanes { plus, ..Lanes::new(64, vec![index]) });
            for (&value, lanes) in statement.carried.iter().zip(&carried) {
                self.set(value, lanes.clone());
            }
            let next = self.block(&statement.body);
            carried = self.fit(&next, &statement.carried, &layout);
        }
        carried
    }

    pub(super) fn choice(&mut self, statement: &If) {
        let condition = self.scalar(statement.condition);
        let [then, otherwise, merge] = std::array::from_fn(|_| self.code.label());
        let test = Draft::of(Kind::Branch(Code::Test_rm32_r32, Condition::NotEqual));
        self.code.branch(test.reads(condition, View::Double).reads(condition, View::Double), then, otherwise);
        self.code.begin(then);
        let values = self.scoped(|s| s.block(&statement.then));
        let layout = Layout::of(&values);
        let results = self.params_like(merge, &values);
        self.code.jump(merge, &registers(&values).collect::<Vec<_>>());
        self.code.begin(otherwise);
        let values = self.scoped(|s| s.block(&statement.otherwise));
        let values = self.fit(&values, &statement.results, &layout);
        self.code.jump(merge, &registers(&values).collect::<Vec<_>>());
        self.code.begin(merge);
        for (&value, lanes) in statement.results.iter().zip(results) {
            self.set(value, lanes);
        }
    }

    /// Runs `body` for each number from 0 to `count`, exclusive.
    pub(super) fn count_to(&mut self, count: VReg, body: impl FnOnce(&mut Self, VReg)) {
        let zero = self.load_number(0);
        self.count(zero, count, Condition::Less, body);
    }

    /// Runs `body` if a general register is not 0.
    pub(super) fn when(&mut self, condition: VReg, body: impl FnOnce(&mut Self)) {
        let [then, done, skip] = std::array::from_fn(|_| self.code.label());
        let test = Draft::of(Kind::Branch(Code::Test_rm32_r32, Condition::NotEqual));
        self.code.branch(test.reads(condition, View::Double).reads(condition, View::Double), then, skip);
        self.code.begin(then);
        self.scoped(body);
        self.code.jump(done, &[]);
        self.code.begin(skip);
        self.code.jump(done, &[]);
        self.code.begin(done);
    }

    /// Parameters of a block for values that lie as these.
    fn params_like(&mut self, label: Label, like: &[Lanes]) -> Vec<Lanes> {
        like.iter()
            .map(|lanes| {
                let parts = lanes.parts.iter().map(|&part| self.code.param(label, part)).collect();
                Lanes::new(lanes.bits, parts)
            })
            .collect()
    }

    /// Masks brought to the lane width of the layout; all else is as it must be already.
    fn fit(&mut self, values: &[Lanes], defined_as: &[Value], layout: &Layout) -> Vec<Lanes> {
        let typed: Vec<Type> = defined_as.iter().map(|&value| self.phase.type_of(value)).collect();
        let fitted = values.iter().zip(typed).zip(&layout.shape).map(|((lanes, ty), &(bits, _))| {
            if Self::is_mask(ty) { self.mask_as(lanes, ty.lanes, bits) } else { lanes.clone() }
        });
        fitted.collect()
    }
}
