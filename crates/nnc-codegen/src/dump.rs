//! The kernels of a program, each once, for people to read.
//!
//! A kernel is called as C calls functions on Linux, with four arguments ([`nnc_runtime::abi::KernelFn`]): RDI points
//! to the addresses of its parameters, RSI and RDX hold the first task and the one behind the last, RCX points to the
//! scratch memory of the thread. Assembly begins with what that is for each kernel.

use crate::compile::first_equal;
use crate::{Backend, CodegenError, clif, x64};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir;
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::FunctionBuilderContext;
use nnc_kernel::ir::{Kernel, Param, Phase};
use nnc_kernel::program::Program;

/// As Cranelift is given them.
pub(crate) fn clif(program: &Program, target: &dyn TargetIsa) -> Result<String, CodegenError> {
    each_phase(program, |kernel, phase| Ok(translated(kernel, phase, target).display().to_string()))
}

/// As assembly.
pub(crate) fn assembly(program: &Program, backend: Backend, target: &dyn TargetIsa) -> Result<String, CodegenError> {
    let mut context = x64::Context::default();
    each_phase(program, |kernel, phase| match backend {
        Backend::Cranelift => {
            let code = cranelift_assembly(target, translated(kernel, phase, target))?;
            Ok(arguments(kernel, phase) + &code)
        }
        Backend::X64(isa) => {
            let code = x64::compile(isa, kernel, phase, &mut context)?;
            let listing = x64::disassembly::disassemble(&code, &kernel.params);
            Ok(arguments(kernel, phase) + &frame(code.frame) + &listing)
        }
    })
}

/// What a kernel is called with, by registers.
fn arguments(kernel: &Kernel, phase: &Phase) -> String {
    let param = |(at, param): (usize, &Param)| {
        let Param { name, elem, direction } = param;
        format!(";   [rdi+{}] {name}: {elem} {}\n", 8 * at, direction.name())
    };
    let mut text: String = kernel.params.iter().enumerate().map(param).collect();
    text += &format!(";   rsi, rdx: the first task and the one behind the last, of {}\n", phase.tasks);
    if kernel.scratch > 0 {
        text += &format!(";   rcx: {} bytes of scratch memory\n", kernel.scratch);
    }
    text
}

/// What lies in the frame.
fn frame(x64::Frame { spilled, temporary }: x64::Frame) -> String {
    let mut text = String::new();
    if spilled > 0 {
        text += &format!(";   [rsp]: {spilled} bytes of registers that there was no room for\n");
    }
    if temporary > 0 {
        text += &format!(";   [rsp+{spilled}]: {temporary} bytes that instructions hand on\n");
    }
    text
}

fn each_phase(
    program: &Program,
    mut show: impl FnMut(&Kernel, &Phase) -> Result<String, CodegenError>,
) -> Result<String, CodegenError> {
    let mut out = String::new();
    let owner = first_equal(&program.kernels);
    for (index, kernel) in program.kernels.iter().enumerate().filter(|(index, _)| owner[*index] == *index) {
        for (number, phase) in kernel.phases.iter().enumerate() {
            out += &format!("; kernel {index} `{}`, phase {number}\n", kernel.name);
            out += &show(kernel, phase)?;
            out.push('\n');
        }
    }
    Ok(out)
}

fn translated(kernel: &Kernel, phase: &Phase, target: &dyn TargetIsa) -> ir::Function {
    let mut func = ir::Function::new();
    clif::translate(kernel, phase, target.frontend_config(), &mut func, &mut FunctionBuilderContext::new());
    func
}

fn cranelift_assembly(target: &dyn TargetIsa, func: ir::Function) -> Result<String, CodegenError> {
    let mut context = cranelift_codegen::Context::for_function(func);
    context.set_disasm(true);
    let code = context
        .compile(target, &mut ControlPlane::default())
        .map_err(|error| CodegenError::Bug(format!("Cranelift: {:?}", error.inner)))?;
    Ok(code.vcode.clone().unwrap_or_default())
}
