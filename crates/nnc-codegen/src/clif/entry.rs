//! The entry of a program: the launches one after the other, and loops around them.
//!
//! For each launch the argument addresses are written to one array on the stack; each phase is then either called here
//! (serial) or handed to the runtime's `launch` by the function table. Launches that run side by side are handed over
//! together. A loop with stages has a function for each of them, of one step, and the runtime calls these.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, AbiParam, FuncRef, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use nnc_kernel::program::{ArgRef, Launch, Loop, Program, Reuse};
use nnc_runtime::abi::offset;
use std::collections::BTreeMap;
use std::ops::Range;

/// The native signature of [`nnc_runtime::abi::EntryFn`].
pub(crate) fn signature(call_conv: CallConv) -> Signature {
    takes(1, call_conv)
}

/// The native signature of [`nnc_runtime::abi::StageFn`].
pub(crate) fn stage_signature(call_conv: CallConv) -> Signature {
    takes(3, call_conv)
}

/// The signature of a function that takes so many numbers and addresses.
fn takes(count: usize, call_conv: CallConv) -> Signature {
    let mut signature = Signature::new(call_conv);
    signature.params = vec![AbiParam::new(types::I64); count];
    signature
}

/// A program whose functions are declared.
#[derive(Clone, Copy)]
pub(crate) struct Declared<'p> {
    pub program: &'p Program,
    /// For each kernel its phases.
    pub kernels: &'p [Vec<FuncRef>],
    /// For each loop its stages, if these are to run at the same time.
    pub stages: &'p [Vec<FuncRef>],
}

struct Entry<'a, 'f> {
    b: &'a mut FunctionBuilder<'f>,
    declared: Declared<'a>,
    context: ir::Value,
    /// The runtime's functions.
    table: ir::Value,
    buffer_table: ir::Value,
    call_conv: CallConv,
    /// Signatures of functions of the runtime, by the number of their parameters and results.
    signatures: BTreeMap<(usize, usize), ir::SigRef>,
    /// Whether the runtime is told of each launch.
    marks: bool,
    scratch: ir::Value,
    /// Argument addresses of the launches that run together.
    args: ir::StackSlot,
    /// What the runtime is handed.
    parts: ir::StackSlot,
    buffers: BTreeMap<u32, ir::Value>,
    /// The loops around what is built, from the outside in.
    around: Vec<Around>,
}

/// A phase of a launch as it is called or handed to the runtime.
#[derive(Clone, Copy)]
struct Handed {
    function: FuncRef,
    /// Where its arguments begin in the array.
    args: i32,
    tasks: u64,
    /// What a task takes.
    work: u64,
}

/// A loop that is being built.
struct Around {
    /// Place in [`Program::launches`] of the first launch behind it.
    end: usize,
    block: ir::Block,
    /// The number of the step.
    step: ir::Value,
    steps: u64,
    reverse: bool,
}

/// Builds the entry; with `marks` it tells of each launch.
pub(crate) fn build(declared: Declared<'_>, marks: bool, config: TargetFrontendConfig, func: &mut ir::Function) {
    let program = declared.program;
    build_function(declared, signature(config.default_call_conv), config, func, |entry, _| {
        entry.marks = marks;
        let call = entry.call_runtime(offset::TABLE_SCRATCH, &[entry.context], 1);
        entry.scratch = entry.b.inst_results(call)[0];
        entry.prepare();
        entry.walk(program.prepare..program.launches.len(), &program.loops, |_| true);
        entry.mark(program.launches.len());
    });
}

/// Builds a stage of the loop at `place`: one step of it.
pub(crate) fn build_stage(
    declared: Declared<'_>,
    (place, stage): (usize, u32),
    config: TargetFrontendConfig,
    func: &mut ir::Function,
) {
    let program = declared.program;
    let each = &program.loops[place];
    build_function(declared, stage_signature(config.default_call_conv), config, func, |entry, params| {
        let [_, step, scratch] = *params else { unreachable!("the signature has three parameters") };
        entry.scratch = scratch;
        let step = if each.reverse { entry.steps_left(each, step) } else { step };
        let block = entry.b.current_block().unwrap_or_else(|| unreachable!("a function has a first block"));
        entry.around.push(Around { end: usize::MAX, block, step, steps: each.steps, reverse: each.reverse });
        let is_own = |number: usize| each.stages[number - each.launches.start] == stage;
        entry.walk(each.launches.clone(), &program.loops[place + 1..], is_own);
    });
}

/// Builds a function whose first parameter is the context; `body` gets all of them.
fn build_function(
    declared: Declared<'_>,
    signature: Signature,
    config: TargetFrontendConfig,
    func: &mut ir::Function,
    body: impl FnOnce(&mut Entry<'_, '_>, &[ir::Value]),
) {
    func.signature = signature;
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(func, &mut context);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let params = builder.block_params(block).to_vec();
    let program = declared.program;
    let most = (0..program.launches.len()).map(|first| program.launches[program.together(first)].iter());
    let (launches, args) = most.fold((1, 1), |(launches, args), together| {
        (launches.max(together.len()), args.max(together.map(|launch| launch.args.len()).sum()))
    });
    let mut slot = |bytes: usize| {
        builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 3))
    };
    let (args, parts) = (slot(8 * args), slot(offset::PART_BYTES * launches));
    let mut field = |at: usize| {
        let flags = MemFlagsData::trusted().with_readonly();
        builder.ins().load(types::I64, flags, params[0], at as i32)
    };
    let (table, buffer_table) = (field(offset::CONTEXT_TABLE), field(offset::CONTEXT_BUFFERS));
    let mut entry = Entry {
        b: &mut builder,
        declared,
        context: params[0],
        table,
        buffer_table,
        call_conv: config.default_call_conv,
        signatures: BTreeMap::new(),
        marks: false,
        scratch: params[0],
        args,
        parts,
        buffers: BTreeMap::new(),
        around: vec![],
    };
    body(&mut entry, &params);
    builder.ins().return_(&[]);
    builder.seal_all_blocks();
    builder.finalize(config);
}

impl Entry<'_, '_> {
    fn buffer(&mut self, index: u32) -> ir::Value {
        if let Some(&address) = self.buffers.get(&index) {
            return address;
        }
        let flags = MemFlagsData::trusted().with_readonly();
        let address = self.b.ins().load(types::I64, flags, self.buffer_table, 8 * index as i32);
        self.buffers.insert(index, address);
        address
    }

    /// Calls the function at `field` of the runtime's table, which has so many results.
    fn call_runtime(&mut self, field: usize, args: &[ir::Value], results: usize) -> ir::Inst {
        let flags = MemFlagsData::trusted().with_readonly();
        let function = self.b.ins().load(types::I64, flags, self.table, field as i32);
        let (b, call_conv) = (&mut *self.b, self.call_conv);
        let signature = *self.signatures.entry((args.len(), results)).or_insert_with(|| {
            let mut signature = takes(args.len(), call_conv);
            signature.returns = vec![AbiParam::new(types::I64); results];
            b.import_signature(signature)
        });
        self.b.ins().call_indirect(signature, function, args)
    }

    /// The launches that make what lasts, behind a test whether they are wanted.
    fn prepare(&mut self) {
        let program = self.declared.program;
        if program.prepare == 0 {
            return;
        }
        let (first, behind) = (self.b.create_block(), self.b.create_block());
        let flags = MemFlagsData::trusted().with_readonly();
        let wanted = self.b.ins().load(types::I64, flags, self.context, offset::CONTEXT_PREPARE as i32);
        self.b.ins().brif(wanted, first, &[], behind, &[]);
        self.b.switch_to_block(first);
        for (number, spent) in program.spent().iter().enumerate() {
            self.launch(number..number + 1);
            program.reused.iter().filter(|reuse| reuse.after == number).for_each(|reuse| self.reuse(reuse));
            spent.iter().for_each(|&external| self.spend(external));
        }
        self.b.ins().jump(behind, &[]);
        self.b.switch_to_block(behind);
        // What was loaded on the way is not at hand on the other one.
        self.buffers.clear();
    }

    /// Those of some launches that `is_own` picks, with the loops around them, of which it picks all or nothing;
    /// `loops` are all that may begin among them, in order.
    fn walk(&mut self, numbers: Range<usize>, loops: &[Loop], is_own: impl Fn(usize) -> bool) {
        let first = self.declared.program.loops.len() - loops.len();
        let mut loops = loops.iter().enumerate().peekable();
        let mut number = numbers.start;
        while number < numbers.end {
            let mut staged = None;
            while let Some((at, each)) = loops.next_if(|(_, each)| each.launches.start <= number) {
                match &self.declared.stages[first + at][..] {
                    // Loops of what was left out.
                    _ if each.launches.start < number || !is_own(number) => {}
                    [] => self.begin(each),
                    stages => staged = staged.or(Some((each, stages))),
                }
            }
            if let Some((each, stages)) = staged {
                self.pipeline(each, stages);
                number = each.launches.end;
                continue;
            }
            let together = if self.marks { number..number + 1 } else { self.declared.program.together(number) };
            number = together.end;
            if is_own(together.start) {
                self.launch(together);
            }
            while self.around.last().is_some_and(|around| around.end == number) {
                self.end();
            }
        }
    }

    /// All steps of a loop with stages.
    fn pipeline(&mut self, each: &Loop, stages: &[FuncRef]) {
        let bytes = 8 * stages.len() as u32;
        let list = self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3));
        for (at, &stage) in stages.iter().enumerate() {
            let code = self.b.ins().func_addr(types::I64, stage);
            self.b.ins().stack_store(types::I64, code, list, 8 * at as i32);
        }
        let list = self.b.ins().stack_addr(types::I64, list, 0);
        let count = self.b.ins().iconst(types::I64, stages.len() as i64);
        let steps = self.b.ins().iconst(types::I64, each.steps as i64);
        self.call_runtime(offset::TABLE_PIPELINE, &[self.context, list, count, steps], 0);
    }

    /// The number of a step, of a loop whose last step comes first, when so many have been.
    fn steps_left(&mut self, each: &Loop, done: ir::Value) -> ir::Value {
        let last = self.b.ins().iconst(types::I64, each.steps as i64 - 1);
        self.b.ins().isub(last, done)
    }

    /// Some launches that run together: all phases of one, or the only phase of each.
    fn launch(&mut self, numbers: Range<usize>) {
        let Declared { program, kernels, .. } = self.declared;
        self.mark(numbers.start);
        let launches = &program.launches[numbers];
        let (mut places, mut place) = (vec![], 0);
        for launch in launches {
            places.push(place);
            place = self.arguments(launch, place);
        }
        let phases = |(launch, &args): (&Launch, &i32)| {
            let number = launch.kernel as usize;
            let phases: Vec<Handed> = (program.kernels[number].phases.iter().zip(&kernels[number]))
                .map(|(phase, &function)| Handed {
                    function,
                    args,
                    tasks: phase.tasks,
                    work: launch.work_of_task(phase),
                })
                .collect();
            phases
        };
        let all: Vec<Handed> = launches.iter().zip(&places).flat_map(phases).collect();
        match launches {
            [launch] if launch.serial => all.iter().for_each(|&part| self.call(part)),
            [_] => all.chunks(1).for_each(|part| self.hand_over(part)),
            _ => self.hand_over(&all),
        }
    }

    fn mark(&mut self, launch: usize) {
        if self.marks {
            let launch = self.b.ins().iconst(types::I64, launch as i64);
            self.call_runtime(offset::TABLE_MARK, &[self.context, launch], 0);
        }
    }

    /// Tells the runtime that an external is not needed any more.
    fn spend(&mut self, external: u32) {
        let external = self.b.ins().iconst(types::I64, i64::from(external));
        self.call_runtime(offset::TABLE_SPEND, &[self.context, external], 0);
    }

    /// Has the runtime put pages of an external, which is not needed any more, in the place of pages of the arena.
    fn reuse(&mut self, reuse: &Reuse) {
        let numbers = [u64::from(reuse.external), reuse.from as u64, reuse.to as u64, reuse.bytes as u64];
        let numbers = numbers.map(|number| self.b.ins().iconst(types::I64, number as i64));
        let args: Vec<ir::Value> = std::iter::once(self.context).chain(numbers).collect();
        self.call_runtime(offset::TABLE_REUSE, &args, 0);
    }

    /// Writes a launch's arguments from a place of the array on, and gives the place behind them.
    fn arguments(&mut self, launch: &Launch, mut place: i32) -> i32 {
        for arg in &launch.args {
            let address = self.address(arg);
            self.b.ins().stack_store(types::I64, address, self.args, place);
            place += 8;
        }
        place
    }

    fn address(&mut self, arg: &ArgRef) -> ir::Value {
        let buffer = self.buffer(arg.buffer);
        let start = self.b.ins().iadd_imm_s(buffer, arg.offset as i64);
        arg.strides.iter().fold(start, |address, stride| {
            let step = self.around[stride.depth as usize].step;
            let moved = self.b.ins().imul_imm_s(step, stride.bytes);
            self.b.ins().iadd(address, moved)
        })
    }

    /// Opens a loop. It has at least one step, so the test stands at its end, and what a step loads once is there
    /// behind the loop.
    fn begin(&mut self, each: &Loop) {
        let block = self.b.create_block();
        let step = self.b.append_block_param(block, types::I64);
        let first = if each.reverse { each.steps - 1 } else { 0 };
        let first = self.b.ins().iconst(types::I64, first as i64);
        self.b.ins().jump(block, &[first.into()]);
        self.b.switch_to_block(block);
        let (end, steps, reverse) = (each.launches.end, each.steps, each.reverse);
        if let Some(index) = &each.index {
            let address = self.address(index);
            self.b.ins().store(MemFlagsData::trusted(), step, address, 0);
        }
        self.around.push(Around { end, block, step, steps, reverse });
    }

    /// Closes the innermost loop.
    fn end(&mut self) {
        let Some(around) = self.around.pop() else { return };
        let behind = self.b.create_block();
        let (next, last) = if around.reverse { (-1, 0) } else { (1, around.steps as i64 - 1) };
        let more = self.b.ins().icmp_imm_s(IntCC::NotEqual, around.step, last);
        let next = self.b.ins().iadd_imm_s(around.step, next);
        self.b.ins().brif(more, around.block, &[next.into()], behind, &[]);
        self.b.switch_to_block(behind);
    }

    /// Runs all tasks here.
    fn call(&mut self, part: Handed) {
        let args = self.b.ins().stack_addr(types::I64, self.args, part.args);
        let begin = self.b.ins().iconst(types::I64, 0);
        let count = self.b.ins().iconst(types::I64, part.tasks as i64);
        self.b.ins().call(part.function, &[args, begin, count, self.scratch]);
    }

    /// Has the runtime run some phases side by side.
    fn hand_over(&mut self, parts: &[Handed]) {
        for (at, part) in parts.iter().enumerate() {
            let code = self.b.ins().func_addr(types::I64, part.function);
            let args = self.b.ins().stack_addr(types::I64, self.args, part.args);
            let tasks = self.b.ins().iconst(types::I64, part.tasks as i64);
            let work = self.b.ins().iconst(types::I64, part.work as i64);
            for (field, value) in [
                (offset::PART_KERNEL, code),
                (offset::PART_ARGS, args),
                (offset::PART_TASKS, tasks),
                (offset::PART_WORK, work),
            ] {
                self.b.ins().stack_store(types::I64, value, self.parts, (at * offset::PART_BYTES + field) as i32);
            }
        }
        let list = self.b.ins().stack_addr(types::I64, self.parts, 0);
        let count = self.b.ins().iconst(types::I64, parts.len() as i64);
        self.call_runtime(offset::TABLE_LAUNCH, &[self.context, list, count], 0);
    }
}
