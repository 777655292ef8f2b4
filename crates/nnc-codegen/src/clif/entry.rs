//! The entry of a program: the launches one after the other, and loops around them.
//!
//! For each launch the argument addresses are written to one array on the stack; each phase is then either called
//! here (serial) or handed to the runtime's `launch` by the function table.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, AbiParam, FuncRef, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use nnc_kernel::program::{ArgRef, Launch, Loop, Program};
use nnc_runtime::abi::offset;
use std::collections::BTreeMap;

/// The native signature of [`nnc_runtime::abi::EntryFn`].
pub(crate) fn signature(call_conv: CallConv) -> Signature {
    let mut signature = Signature::new(call_conv);
    signature.params = vec![AbiParam::new(types::I64)];
    signature
}

struct Entry<'a, 'f> {
    b: &'a mut FunctionBuilder<'f>,
    context: ir::Value,
    launcher: (ir::SigRef, ir::Value),
    /// The runtime's function that is told of each launch.
    mark: Option<ir::Value>,
    table: ir::Value,
    /// Of a function of the runtime that takes the context and a number.
    notice: ir::SigRef,
    scratch: ir::Value,
    args: ir::StackSlot,
    buffers: BTreeMap<u32, ir::Value>,
    buffer_table: ir::Value,
    /// The loops around what is built, from the outside in.
    around: Vec<Around>,
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

/// Builds the entry. `functions[k]` are the phases of kernel `k`; with `marks` it tells of each launch.
pub(crate) fn build(
    program: &Program,
    marks: bool,
    functions: &[Vec<FuncRef>],
    config: TargetFrontendConfig,
    func: &mut ir::Function,
) {
    func.signature = signature(config.default_call_conv);
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(func, &mut context);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let mut entry = prologue(program, marks, config, &mut builder, block);
    entry.prepare(program, functions);
    let mut loops = program.loops.iter().peekable();
    for number in program.prepare..program.launches.len() {
        while let Some(each) = loops.next_if(|each| each.launches.start == number) {
            entry.begin(each);
        }
        entry.launch(program, number, functions);
        while entry.around.last().is_some_and(|around| around.end == number + 1) {
            entry.end();
        }
    }
    entry.mark(program.launches.len());
    builder.ins().return_(&[]);
    builder.seal_all_blocks();
    builder.finalize(config);
}

fn prologue<'a, 'f>(
    program: &Program,
    marks: bool,
    config: TargetFrontendConfig,
    b: &'a mut FunctionBuilder<'f>,
    block: ir::Block,
) -> Entry<'a, 'f> {
    let context = b.block_params(block)[0];
    let field = |b: &mut FunctionBuilder<'f>, of, at: usize| {
        b.ins().load(types::I64, MemFlagsData::trusted().with_readonly(), of, at as i32)
    };
    let table = field(b, context, offset::CONTEXT_TABLE);
    let buffer_table = field(b, context, offset::CONTEXT_BUFFERS);
    let launch = field(b, table, offset::TABLE_LAUNCH);
    let get_scratch = field(b, table, offset::TABLE_SCRATCH);
    let mut launch_signature = Signature::new(config.default_call_conv);
    launch_signature.params = vec![AbiParam::new(types::I64); 4];
    let launch_signature = b.import_signature(launch_signature);
    let mut scratch_signature = signature(config.default_call_conv);
    scratch_signature.returns = vec![AbiParam::new(types::I64)];
    let scratch_signature = b.import_signature(scratch_signature);
    let call = b.ins().call_indirect(scratch_signature, get_scratch, &[context]);
    let scratch = b.inst_results(call)[0];
    let mut notice = Signature::new(config.default_call_conv);
    notice.params = vec![AbiParam::new(types::I64); 2];
    let notice = b.import_signature(notice);
    let mark = marks.then(|| field(b, table, offset::TABLE_MARK));
    let most = program.launches.iter().map(|launch| launch.args.len()).max().unwrap_or(0);
    let args = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * most.max(1) as u32, 3));
    let launcher = (launch_signature, launch);
    let (buffers, around) = (BTreeMap::new(), vec![]);
    Entry { b, context, launcher, mark, table, notice, scratch, args, buffers, buffer_table, around }
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

    /// The launches that make what lasts, behind a test whether they are wanted.
    fn prepare(&mut self, program: &Program, functions: &[Vec<FuncRef>]) {
        if program.prepare == 0 {
            return;
        }
        let (first, behind) = (self.b.create_block(), self.b.create_block());
        let flags = MemFlagsData::trusted().with_readonly();
        let wanted = self.b.ins().load(types::I64, flags, self.context, offset::CONTEXT_PREPARE as i32);
        self.b.ins().brif(wanted, first, &[], behind, &[]);
        self.b.switch_to_block(first);
        for (number, spent) in program.spent().iter().enumerate() {
            self.launch(program, number, functions);
            spent.iter().for_each(|&external| self.spend(external));
        }
        self.b.ins().jump(behind, &[]);
        self.b.switch_to_block(behind);
        // What was loaded on the way is not at hand on the other one.
        self.buffers.clear();
    }

    /// All phases of a launch.
    fn launch(&mut self, program: &Program, number: usize, functions: &[Vec<FuncRef>]) {
        let launch = &program.launches[number];
        self.mark(number);
        let kernel = &program.kernels[launch.kernel as usize];
        self.arguments(launch);
        for (phase, &function) in kernel.phases.iter().zip(&functions[launch.kernel as usize]) {
            self.run(function, phase.tasks, launch.serial);
        }
    }

    fn mark(&mut self, launch: usize) {
        if let Some(mark) = self.mark {
            let launch = self.b.ins().iconst(types::I64, launch as i64);
            self.b.ins().call_indirect(self.notice, mark, &[self.context, launch]);
        }
    }

    /// Tells the runtime that an external is not needed any more.
    fn spend(&mut self, external: u32) {
        let flags = MemFlagsData::trusted().with_readonly();
        let spend = self.b.ins().load(types::I64, flags, self.table, offset::TABLE_SPEND as i32);
        let external = self.b.ins().iconst(types::I64, i64::from(external));
        self.b.ins().call_indirect(self.notice, spend, &[self.context, external]);
    }

    fn arguments(&mut self, launch: &Launch) {
        for (place, arg) in launch.args.iter().enumerate() {
            let address = self.address(arg);
            self.b.ins().stack_store(types::I64, address, self.args, 8 * place as i32);
        }
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

    fn run(&mut self, function: FuncRef, tasks: u64, serial: bool) {
        let args = self.b.ins().stack_addr(types::I64, self.args, 0);
        let count = self.b.ins().iconst(types::I64, tasks as i64);
        if serial {
            let begin = self.b.ins().iconst(types::I64, 0);
            self.b.ins().call(function, &[args, begin, count, self.scratch]);
            return;
        }
        let code = self.b.ins().func_addr(types::I64, function);
        let (signature, launch) = self.launcher;
        self.b.ins().call_indirect(signature, launch, &[self.context, code, args, count]);
    }
}
