//! A program to machine code in a Cranelift module: each kernel that differs once, functions in parallel.
//!
//! Equal kernels are found by their content, names aside. Translation and Cranelift's own compilation of the functions
//! run on several threads; the results are put into the module one after the other, in the order of the program, so
//! that the same program gives the same bytes.

use crate::{Backend, CodegenError, clif, x64};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{self, UserFuncName};
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{FuncId, Linkage, Module, ModuleReloc};
use nnc_kernel::ir::{Direction, Elem, Kernel, Phase};
use nnc_kernel::program::Program;
use nnc_runtime::cpu::Isa;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A processor of an instruction set, as a target. What the machine that compiles has beside that, or lacks of it, is
/// not asked: code is the same whatever machine made it, and runs on the least that has the set.
///
/// Code is position independent though `is_pic` is off: that setting would go through a global offset table, while
/// functions known to be near are reached relative to the program counter without it.
///
/// The order of operations inside a loop is the kernel's: Cranelift's `opt_level=none` keeps it. Its mid-end would put
/// every pure operation where its result is first needed, all loads of a tile before all multiplications, and spill.
/// What that mid-end would fold and hoist the kernel builder has folded and hoisted already.
///
/// Without FMA, which x86-64-v3 has, a fused multiply-add would be a call to a library.
///
/// # Errors
/// If Cranelift does not know the machine.
pub fn target(isa: Isa) -> Result<OwnedTargetIsa, CodegenError> {
    let mut flags = settings::builder();
    let options = [
        ("opt_level", "none"),
        ("is_pic", "false"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        ("use_colocated_libcalls", "false"),
        ("preserve_frame_pointers", "false"),
    ];
    for (name, value) in options {
        flags.set(name, value).map_err(|error| CodegenError::Bug(format!("Cranelift's setting {name}: {error}")))?;
    }
    let mut builder =
        cranelift_native::builder_with_options(false).map_err(|reason| CodegenError::Host(reason.to_string()))?;
    // Vectors of 128 bits are all that Cranelift makes, so that AVX-512 adds nothing that is worth code of its own.
    match isa {
        Isa::Avx2 | Isa::AvxVnni | Isa::Avx512 => {
            // Cranelift's x86-64-v3 lacks AVX, without which it makes nothing of AVX2 and FMA.
            for name in ["x86-64-v3", "has_avx"] {
                builder.enable(name).map_err(|error| CodegenError::Host(format!("Cranelift's {name}: {error}")))?;
            }
        }
    }
    builder.finish(settings::Flags::new(flags)).map_err(|error| CodegenError::Host(error.to_string()))
}

/// One function to compile.
struct Task<'p> {
    kernel: &'p Kernel,
    phase: &'p Phase,
    id: FuncId,
}

/// A compiled function.
struct Compiled {
    bytes: Vec<u8>,
    alignment: u64,
    relocations: Vec<ModuleReloc>,
}

/// How code is made.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub backend: Backend,
    /// Whether the entry tells of each launch ([`nnc_runtime::abi::Table::mark`]).
    pub marks: bool,
}

/// Puts the program into `module` and gives its entry, exported under `entry_name`.
pub(crate) fn compile(
    program: &Program,
    settings: Settings,
    module: &mut impl Module,
    threads: NonZeroUsize,
    entry_name: &str,
) -> Result<FuncId, CodegenError> {
    let owner = first_equal(&program.kernels);
    let mut tasks = vec![];
    let mut functions: Vec<Vec<FuncId>> = vec![];
    for (index, kernel) in program.kernels.iter().enumerate() {
        let ids = match owner[index] {
            first if first < index => functions[first].clone(),
            _ => declare(module, kernel, index, &mut tasks)?,
        };
        functions.push(ids);
    }
    let compiled = compile_all(module.isa(), settings.backend, &tasks, threads)?;
    for (task, function) in tasks.iter().zip(compiled) {
        define(module, task.id, &function)?;
    }
    define_entry(program, settings.marks, module, &functions, entry_name)
}

fn declare<'p>(
    module: &mut impl Module,
    kernel: &'p Kernel,
    index: usize,
    tasks: &mut Vec<Task<'p>>,
) -> Result<Vec<FuncId>, CodegenError> {
    let signature = clif::kernel_signature(module.target_config().default_call_conv);
    let mut ids = vec![];
    for (number, phase) in kernel.phases.iter().enumerate() {
        let name = format!("kernel{index}_{number}");
        let id = module.declare_function(&name, Linkage::Local, &signature)?;
        tasks.push(Task { kernel, phase, id });
        ids.push(id);
    }
    Ok(ids)
}

/// For each kernel, the first that does the same.
pub(crate) fn first_equal(kernels: &[Kernel]) -> Vec<usize> {
    type Content<'k> = (Vec<(Elem, Direction)>, u32, &'k [Phase]);
    let mut seen: HashMap<Content<'_>, usize> = HashMap::new();
    let content = |kernel: &'_ Kernel| kernel.params.iter().map(|p| (p.elem, p.direction)).collect::<Vec<_>>();
    kernels
        .iter()
        .enumerate()
        .map(|(index, kernel)| *seen.entry((content(kernel), kernel.scratch, &kernel.phases)).or_insert(index))
        .collect()
}

fn compile_all(
    target: &dyn TargetIsa,
    backend: Backend,
    tasks: &[Task<'_>],
    threads: NonZeroUsize,
) -> Result<Vec<Compiled>, CodegenError> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = vec![];
        let mut kept = Kept::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(index) else { return done };
            done.push((index, compile_one(target, backend, task, &mut kept)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get().min(tasks.len())).map(|_| scope.spawn(worker)).collect();
        let mut all = worker();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, compiled)| compiled).collect()
}

/// What a thread keeps from one function to the next.
#[derive(Default)]
struct Kept {
    builders: FunctionBuilderContext,
    x64: x64::Context,
}

fn compile_one(
    target: &dyn TargetIsa,
    backend: Backend,
    task: &Task<'_>,
    kept: &mut Kept,
) -> Result<Compiled, CodegenError> {
    match backend {
        Backend::Cranelift => {
            let mut func = ir::Function::new();
            func.name = UserFuncName::user(0, task.id.as_u32());
            clif::translate(task.kernel, task.phase, target.frontend_config(), &mut func, &mut kept.builders);
            finish(target, func, task.id, &task.kernel.name)
        }
        Backend::X64(isa) => {
            let function = x64::compile(isa, task.kernel, task.phase, &mut kept.x64)?;
            Ok(Compiled { bytes: function.bytes, alignment: 64, relocations: vec![] })
        }
    }
}

fn finish(target: &dyn TargetIsa, func: ir::Function, id: FuncId, name: &str) -> Result<Compiled, CodegenError> {
    let mut context = cranelift_codegen::Context::for_function(func);
    context
        .compile(target, &mut ControlPlane::default())
        .map_err(|error| CodegenError::Bug(format!("Cranelift refused `{name}`: {:?}", error.inner)))?;
    let Some(code) = context.compiled_code() else {
        return Err(CodegenError::Bug(format!("Cranelift made no code of `{name}`")));
    };
    let relocations = code.buffer.relocs().iter();
    let relocations = relocations.map(|reloc| ModuleReloc::from_mach_reloc(reloc, &context.func, id)).collect();
    let alignment = u64::from(code.buffer.alignment).max(u64::from(target.function_alignment().minimum)).max(32);
    Ok(Compiled { bytes: code.buffer.data().to_vec(), alignment, relocations })
}

fn define(module: &mut impl Module, id: FuncId, function: &Compiled) -> Result<(), CodegenError> {
    module.define_function_bytes(id, function.alignment, &function.bytes, &function.relocations)?;
    Ok(())
}

/// Defines the entry, and before it the stages of loops. Code that tells of each launch runs them one after the other.
fn define_entry(
    program: &Program,
    marks: bool,
    module: &mut impl Module,
    kernels: &[Vec<FuncId>],
    name: &str,
) -> Result<FuncId, CodegenError> {
    let config = module.target_config();
    let none: Vec<Vec<FuncId>> = vec![vec![]; program.loops.len()];
    let mut stages = none.clone();
    for (place, each) in program.loops.iter().enumerate().filter(|(_, each)| !marks && each.stage_count() > 1) {
        for stage in 0..each.stage_count() {
            let name = format!("stage{place}_{stage}");
            let signature = clif::entry::stage_signature(config.default_call_conv);
            let id = module.declare_function(&name, Linkage::Local, &signature)?;
            define_caller(program, module, (id, &name), (kernels, &none), |declared, func| {
                clif::entry::build_stage(declared, (place, stage), config, func);
            })?;
            stages[place].push(id);
        }
    }
    let id = module.declare_function(name, Linkage::Export, &clif::entry::signature(config.default_call_conv))?;
    define_caller(program, module, (id, name), (kernels, &stages), |declared, func| {
        clif::entry::build(declared, marks, config, func);
    })?;
    Ok(id)
}

/// Defines a function that calls kernels and stages.
fn define_caller(
    program: &Program,
    module: &mut impl Module,
    (id, name): (FuncId, &str),
    (kernels, stages): (&[Vec<FuncId>], &[Vec<FuncId>]),
    build: impl FnOnce(clif::entry::Declared<'_>, &mut ir::Function),
) -> Result<(), CodegenError> {
    let mut func = ir::Function::new();
    func.name = UserFuncName::user(0, id.as_u32());
    let mut declared = |ids: &[Vec<FuncId>]| -> Vec<Vec<ir::FuncRef>> {
        let mut each = |ids: &Vec<FuncId>| ids.iter().map(|&id| module.declare_func_in_func(id, &mut func)).collect();
        ids.iter().map(&mut each).collect()
    };
    let (kernels, stages) = (declared(kernels), declared(stages));
    build(clif::entry::Declared { program, kernels: &kernels, stages: &stages }, &mut func);
    let compiled = finish(module.isa(), func, id, name)?;
    define(module, id, &compiled)
}
