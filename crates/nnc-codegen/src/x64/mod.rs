//! The full-width backend for x86-64: kernel IR to machine code with AVX2 and FMA, with AVX-VNNI too, or with AVX-512.
//!
//! 1. `select`: the body of a phase becomes instructions on virtual registers ([`vcode`]); structured control becomes
//!    blocks with parameters. The kernel's order of operations is kept.
//! 2. `regalloc2` gives each a register or a place in the frame.
//! 3. [`emit`] encodes the result with iced-x86; the bytes are position independent and carry their constants.
//!
//! Every operation of the kernel IR has its code here, on every element type and number of lanes; what the instruction
//! sets lack goes lane by lane through the frame. The result of each operation is that of the kernel interpreter, to
//! the bit (NaN payloads aside), so that all instruction sets and Cranelift agree.
//!
//! A function has the signature of [`nnc_runtime::abi::KernelFn`] and runs the tasks `begin..end`.

pub(crate) mod disassembly;
mod emit;
mod forms;
mod select;
mod vcode;

use crate::CodegenError;
use forms::{Encoding, Width};
use nnc_kernel::ir::{Kernel, Phase};
pub(crate) use nnc_runtime::cpu::Isa;
use regalloc2::{MachineEnv, PReg, PRegSet, RegClass, RegallocOptions};
use vcode::View;

/// The code of a phase.
#[derive(Debug)]
pub(crate) struct Function {
    /// Position independent, to be placed at a multiple of 64.
    pub bytes: Vec<u8>,
    /// Where blocks begin.
    pub labels: Vec<usize>,
    /// Where the code ends; constants follow.
    pub code_end: usize,
    /// What the frame holds, from its low end.
    pub frame: Frame,
}

/// Parts of a frame, in bytes, each a multiple of 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    /// Registers that there was no room for.
    pub spilled: usize,
    /// What instructions hand on through memory.
    pub temporary: usize,
}

/// What one thread keeps between functions.
#[derive(Default)]
pub(crate) struct Context {
    allocator: regalloc2::Ctx,
}

/// Compiles a phase of a verified kernel.
pub(crate) fn compile(
    isa: Isa,
    kernel: &Kernel,
    phase: &Phase,
    context: &mut Context,
) -> Result<Function, CodegenError> {
    let bug = |what: String| CodegenError::Bug(format!("`{}` for {isa:?}: {what}", kernel.name));
    let encoding = Encoding::of(isa);
    let code = select::select(isa, kernel, phase);
    let options = RegallocOptions { validate_ssa: cfg!(debug_assertions), ..RegallocOptions::default() };
    let output = regalloc2::run_with_ctx(&code, &environment(encoding), &options, &mut context.allocator)
        .map_err(|error| bug(format!("register allocation: {error:?}")))?;
    emit::emit(encoding, &code, output).map_err(|error| bug(format!("encoding: {error}")))
}

/// The registers that may be used: those that a function may overwrite are preferred.
fn environment(encoding: Encoding) -> MachineEnv {
    let set = |class: RegClass, numbers: &mut dyn Iterator<Item = usize>| {
        numbers.fold(PRegSet::empty(), |set, number| set.with(PReg::new(number, class)))
    };
    MachineEnv {
        preferred_regs_by_class: [
            set(RegClass::Int, &mut [0, 1, 2, 6, 7, 8, 9, 10, 11].into_iter()),
            set(RegClass::Float, &mut (0..encoding.registers())),
            // k0 cannot be named as a mask of an instruction.
            set(RegClass::Vector, &mut (1..8)),
        ],
        non_preferred_regs_by_class: [
            set(RegClass::Int, &mut vcode::general::KEPT.into_iter()),
            PRegSet::empty(),
            PRegSet::empty(),
        ],
        scratch_by_class: [None; 3],
        fixed_stack_slots: vec![],
    }
}

/// How an instruction of a width sees a vector register.
fn view(width: Width) -> View {
    match width {
        Width::X => View::X,
        Width::Y => View::Y,
        Width::Z => View::Z,
    }
}
