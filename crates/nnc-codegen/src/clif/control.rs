//! Tasks, loops and choices as blocks.

use super::Translator;
use super::lanes::Lanes;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, Block, BlockArg, InstBuilder, types};
use nnc_kernel::ir::{self as kernel, Elem, For, If, Type, Value};

/// How a list of values lies in native ones.
struct Layout {
    /// Bits of a lane and number of parts of each value.
    shape: Vec<(u32, usize)>,
}

impl Layout {
    fn of(values: &[Lanes]) -> Self {
        Self { shape: values.iter().map(|lanes| (lanes.bits, lanes.parts.len())).collect() }
    }
}

fn native(values: &[Lanes]) -> impl Iterator<Item = ir::Value> + '_ {
    values.iter().flat_map(|lanes| lanes.parts.iter().copied())
}

fn args(values: &[Lanes]) -> Vec<BlockArg> {
    native(values).map(BlockArg::Value).collect()
}

fn with_index(index: ir::Value, values: &[Lanes]) -> Vec<BlockArg> {
    std::iter::once(index).chain(native(values)).map(BlockArg::Value).collect()
}

impl Translator<'_, '_> {
    /// The body for each task of `begin..end`; the last block is left open.
    pub(super) fn tasks(&mut self, begin: ir::Value, end: ir::Value) {
        let (body, done) = (self.b.create_block(), self.b.create_block());
        let task = self.b.append_block_param(body, types::I64);
        let any = self.b.ins().icmp(IntCC::UnsignedLessThan, begin, end);
        self.b.ins().brif(any, body, &[BlockArg::Value(begin)], done, &[]);
        self.b.switch_to_block(body);
        self.set(self.phase.task, Lanes::new(64, vec![task]));
        let phase = self.phase;
        self.scoped(|t| t.block(&phase.body));
        let next = self.b.ins().iadd_imm_s(task, 1);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, next, end);
        self.b.ins().brif(more, body, &[BlockArg::Value(next)], done, &[]);
        self.b.switch_to_block(done);
    }

    fn block(&mut self, block: &kernel::Block) -> Vec<Lanes> {
        for statement in &block.statements {
            self.statement(statement);
        }
        block.results.iter().map(|&value| self.value(value)).collect()
    }

    pub(super) fn for_loop(&mut self, statement: &For) {
        let initial: Vec<Lanes> = statement.initial.iter().map(|&value| self.value(value)).collect();
        let start = self.value(statement.start).scalar();
        let end = self.value(statement.end).scalar();
        let rounds = statement.trip_count(|value| self.known(value));
        let unroll = u64::from(statement.unroll.max(1)).min(rounds.unwrap_or(u64::MAX).max(1));
        let results = if unroll == 1 {
            self.rounds(statement, 1, start, end, &initial).1
        } else {
            self.unrolled(statement, unroll, start, end, &initial, rounds)
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
        start: ir::Value,
        end: ir::Value,
        initial: &[Lanes],
        rounds: Option<u64>,
    ) -> Vec<Lanes> {
        let main_end = self.advance(statement, end, 1 - unroll as i64);
        let (reached, carried) = self.rounds(statement, unroll, start, main_end, initial);
        match rounds {
            Some(rounds) if rounds % unroll == 0 => carried,
            _ => self.rounds(statement, 1, reached, end, &carried).1,
        }
    }

    /// Runs while `index < end`, `unroll` rounds for each test; gives the index reached and the carried values.
    ///
    /// The test stands before the rounds, so that a round's results have one use, the jump back: only then does
    /// Cranelift fold a load into the instruction that leads to them.
    fn rounds(
        &mut self,
        statement: &For,
        unroll: u64,
        start: ir::Value,
        end: ir::Value,
        initial: &[Lanes],
    ) -> (ir::Value, Vec<Lanes>) {
        let layout = Layout::of(initial);
        let [head, body, done] = std::array::from_fn(|_| self.b.create_block());
        let (reached, results) = self.block_params(head, &layout, initial);
        self.b.ins().jump(head, &with_index(start, initial));
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, reached, end);
        self.b.ins().brif(more, body, &[], done, &[]);
        self.b.switch_to_block(body);
        let carried = self.scoped(|t| t.some_rounds(statement, unroll, reached, &results, &layout));
        let index = self.advance(statement, reached, unroll as i64);
        self.b.ins().jump(head, &with_index(index, &carried));
        self.b.switch_to_block(done);
        (reached, results)
    }

    /// An index so many steps on.
    fn advance(&mut self, statement: &For, index: ir::Value, steps: i64) -> ir::Value {
        if let Some(step) = self.known(statement.step) {
            return self.b.ins().iadd_imm_s(index, (step as i64).wrapping_mul(steps));
        }
        let step = self.value(statement.step).scalar();
        let distance = self.b.ins().imul_imm_s(step, steps);
        self.b.ins().iadd(index, distance)
    }

    /// `count` rounds in line from `index` on; gives the carried values.
    fn some_rounds(
        &mut self,
        statement: &For,
        count: u64,
        mut index: ir::Value,
        initial: &[Lanes],
        layout: &Layout,
    ) -> Vec<Lanes> {
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
            carried = self.fit(&next, &statement.carried, layout);
        }
        carried
    }

    pub(super) fn choice(&mut self, statement: &If) {
        let condition = self.value(statement.condition).scalar();
        let [then, otherwise, merge] = std::array::from_fn(|_| self.b.create_block());
        self.b.ins().brif(condition, then, &[], otherwise, &[]);
        self.b.switch_to_block(then);
        let values = self.scoped(|t| t.block(&statement.then));
        let layout = Layout::of(&values);
        let results = self.value_params(merge, &layout, &values);
        self.b.ins().jump(merge, &args(&values));
        self.b.switch_to_block(otherwise);
        let values = self.scoped(|t| t.block(&statement.otherwise));
        let values = self.fit(&values, &statement.results, &layout);
        self.b.ins().jump(merge, &args(&values));
        self.b.switch_to_block(merge);
        for (&value, lanes) in statement.results.iter().zip(results) {
            self.set(value, lanes);
        }
    }

    /// An index and values as parameters of a block.
    fn block_params(&mut self, block: Block, layout: &Layout, like: &[Lanes]) -> (ir::Value, Vec<Lanes>) {
        let index = self.b.append_block_param(block, types::I64);
        (index, self.value_params(block, layout, like))
    }

    fn value_params(&mut self, block: Block, layout: &Layout, like: &[Lanes]) -> Vec<Lanes> {
        let types: Vec<ir::Type> = native(like).map(|value| self.b.func.dfg.value_type(value)).collect();
        let mut params = types.into_iter().map(|ty| self.b.append_block_param(block, ty));
        let lanes = layout.shape.iter().map(|&(bits, parts)| Lanes::new(bits, params.by_ref().take(parts).collect()));
        lanes.collect()
    }

    /// Masks brought to the lane width of the layout; all else is as it must be already.
    fn fit(&mut self, values: &[Lanes], defined_as: &[Value], layout: &Layout) -> Vec<Lanes> {
        let typed: Vec<Type> = defined_as.iter().map(|&value| self.phase.type_of(value)).collect();
        let fitted = values.iter().zip(typed).zip(&layout.shape).map(|((lanes, ty), &(bits, _))| {
            if ty.elem == Elem::Bool && ty.lanes > 1 { self.mask_as(lanes, ty.lanes, bits) } else { lanes.clone() }
        });
        fitted.collect()
    }
}
