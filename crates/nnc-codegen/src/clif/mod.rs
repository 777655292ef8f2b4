//! The Cranelift backend: the body of a kernel phase as a Cranelift function.
//!
//! One function has the signature of [`nnc_runtime::abi::KernelFn`]: it loads the base addresses of the parameters once
//! and runs the tasks `begin..end`. Structured control becomes blocks with parameters; a `for` is laid out with its
//! test at the end. Index arithmetic is left to Cranelift's own folding and hoisting.

mod arithmetic;
mod control;
mod convert;
pub(crate) mod entry;
mod index;
mod lanes;
mod memory;
mod permute;

use cranelift_codegen::ir::{self, AbiParam, InstBuilder, MemFlagsData, Signature, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use lanes::Lanes;
use nnc_kernel::ir::{Kernel, Op, Phase, Statement, Type, Value};

/// The state of translating one phase.
struct Translator<'a, 'f> {
    b: &'a mut FunctionBuilder<'f>,
    phase: &'a Phase,
    /// The native form of each value that is defined so far.
    values: Vec<Option<Lanes>>,
    /// The bits of each value that is a constant.
    constants: Vec<Option<u64>>,
    params: Vec<ir::Value>,
    scratch: ir::Value,
    /// Index computations of the open blocks, the innermost last.
    known_indices: Vec<index::Known>,
}

/// The native signature of a kernel.
pub(crate) fn kernel_signature(call_conv: CallConv) -> Signature {
    let mut signature = Signature::new(call_conv);
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature
}

/// Translates a phase of a verified kernel.
pub(crate) fn translate(
    kernel: &Kernel,
    phase: &Phase,
    config: cranelift_codegen::isa::TargetFrontendConfig,
    func: &mut ir::Function,
    context: &mut FunctionBuilderContext,
) {
    func.signature = kernel_signature(config.default_call_conv);
    let mut builder = FunctionBuilder::new(func, context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let [args, begin, end, scratch] = *builder.block_params(entry) else {
        unreachable!("the signature has four parameters")
    };
    let flags = MemFlagsData::trusted().with_readonly().with_can_move();
    let params = (0..kernel.params.len()).map(|i| builder.ins().load(types::I64, flags, args, 8 * i as i32)).collect();
    let mut translator = Translator {
        b: &mut builder,
        phase,
        values: vec![None; phase.types.len()],
        constants: vec![None; phase.types.len()],
        params,
        scratch,
        known_indices: vec![],
    };
    translator.tasks(begin, end);
    builder.ins().return_(&[]);
    builder.seal_all_blocks();
    builder.finalize(config);
}

impl Translator<'_, '_> {
    fn value(&mut self, value: Value) -> Lanes {
        match &self.values[value.index()] {
            Some(lanes) if lanes.plus == 0 => lanes.clone(),
            Some(lanes) => {
                let (native, plus) = (lanes.parts[0], lanes.plus);
                Lanes::new(lanes.bits, vec![self.b.ins().iadd_imm_s(native, plus)])
            }
            None => unreachable!("{value} is used before it is defined: the kernel was not verified"),
        }
    }

    /// The bits of a value that is a constant.
    fn known(&self, value: Value) -> Option<u64> {
        self.constants[value.index()]
    }

    fn set(&mut self, value: Value, lanes: Lanes) {
        self.values[value.index()] = Some(lanes);
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(value, op) => {
                if let Op::Constant(bits) = op {
                    self.constants[value.index()] = Some(*bits);
                }
                let lanes = self.op(*value, op);
                self.set(*value, lanes);
            }
            Statement::Store(store) => self.store(store),
            // Cranelift has no prefetch instruction; the hint is dropped.
            Statement::Prefetch(_) => {}
            Statement::For(statement) => self.for_loop(statement),
            Statement::If(statement) => self.choice(statement),
        }
    }

    fn op(&mut self, value: Value, op: &Op) -> Lanes {
        let ty = self.phase.type_of(value);
        if let (Type::INDEX, Op::Binary(op, a, b)) = (ty, op)
            && let Some(lanes) = self.index_binary(*op, *a, *b)
        {
            return lanes;
        }
        match op {
            Op::Constant(bits) => self.constant(ty, *bits),
            Op::Iota => self.iota(ty),
            Op::Unary(op, a) => self.unary(ty, *op, *a),
            Op::Binary(op, a, b) => self.binary(ty, *op, *a, *b),
            Op::Compare(op, a, b) => self.compare(*op, *a, *b),
            Op::Select(mask, a, b) => self.select(ty, *mask, *a, *b),
            Op::Fma(a, b, c) => self.fma(*a, *b, *c),
            Op::Convert(a) => self.convert(ty, *a),
            Op::Bitcast(a) => self.bitcast(ty, *a),
            Op::Splat(a) => {
                let scalar = self.value(*a).scalar();
                self.splat(scalar, ty)
            }
            Op::Extract(a, lane) => self.extract(*a, *lane),
            Op::Insert(a, scalar, lane) => self.insert(ty, *a, *scalar, *lane),
            Op::Shuffle(a, b, pattern) => self.shuffle(*a, *b, pattern),
            Op::LookUp(table, indices) => self.look_up(*table, *indices),
            Op::Reduce(op, a) => self.reduce(*op, *a),
            Op::DotI8(acc, a, b) | Op::DotI7(acc, a, b) => self.dot_i8(*acc, *a, *b),
            Op::DotBf16(acc, a, b) => self.dot_bf16(*acc, *a, *b),
            Op::Load(address, access) => self.load(ty, *address, *access),
        }
    }
}
