//! Loop kernels to machine code.
//!
//! Kernels go through one of two backends ([`Backend`]): Cranelift, with vectors of 128 bits, or `x64`, with those of
//! AVX2, with AVX-VNNI or without, or AVX-512. They give the same bits. The straight line of launches between them is Cranelift's.
//!
//! [`jit`] compiles a [`Program`] into memory, [`object()`] into an object file, [`image()`] into bytes that a built
//! executable maps as they are. All three put the same functions through one door, [`cranelift_module::Module`].
//! The code has no external symbol: it reaches the runtime by the table in its context ([`nnc_runtime::abi`]).
#![forbid(unsafe_code)]

mod backend;
mod clif;
mod compile;
mod dump;
mod image;
mod x64;

pub use backend::Backend;
pub use compile::target;
pub use image::Image;

use compile::Settings;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use nnc_kernel::program::Program;
use nnc_runtime::cpu::Isa;
use std::num::NonZeroUsize;

/// Under this name the entry is exported.
pub const ENTRY: &str = "nnc_entry";

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// Cranelift does not know this machine.
    #[error("this machine is not supported: {0}")]
    Host(String),
    /// A processor without the instructions that code is to be made for.
    #[error("this processor lacks {missing}, which code for {} needs", isa.name())]
    Features {
        /// What code was to be made for.
        isa: Isa,
        /// Names of the instructions.
        missing: String,
    },
    /// A mistake in the compiler.
    #[error("bug in the compiler: {0}")]
    Bug(String),
}

impl From<cranelift_module::ModuleError> for CodegenError {
    fn from(error: cranelift_module::ModuleError) -> Self {
        Self::Bug(format!("Cranelift's module: {error}"))
    }
}

/// Compiles a verified program into memory on `threads` threads; gives the module and its entry, which
/// `nnc_runtime::Code::from_jit` takes.
///
/// # Errors
/// If the machine is not supported, or by a mistake in the compiler.
pub fn jit(program: &Program, backend: Backend, threads: NonZeroUsize) -> Result<(JITModule, FuncId), CodegenError> {
    jit_with(program, Settings { backend, marks: false }, threads)
}

/// As [`jit`], but the entry tells the runtime when each launch begins, so that it can be measured
/// (`nnc_runtime::Program::run_timed`).
///
/// # Errors
/// As [`jit`].
pub fn jit_to_measure(
    program: &Program,
    backend: Backend,
    threads: NonZeroUsize,
) -> Result<(JITModule, FuncId), CodegenError> {
    jit_with(program, Settings { backend, marks: true }, threads)
}

fn jit_with(program: &Program, settings: Settings, threads: NonZeroUsize) -> Result<(JITModule, FuncId), CodegenError> {
    settings.backend.check()?;
    let builder = JITBuilder::with_isa(target(settings.backend.isa())?, default_libcall_names());
    let mut module = JITModule::new(builder);
    let entry = compile::compile(program, settings, &mut module, threads, ENTRY)?;
    Ok((module, entry))
}

/// Compiles a verified program to a relocatable object file that exports [`ENTRY`] and imports nothing.
///
/// # Errors
/// As [`jit`].
pub fn object(program: &Program, backend: Backend, threads: NonZeroUsize) -> Result<Vec<u8>, CodegenError> {
    let builder = ObjectBuilder::new(target(backend.isa())?, "program", default_libcall_names())?;
    let mut module = ObjectModule::new(builder);
    compile::compile(program, Settings { backend, marks: false }, &mut module, threads, ENTRY)?;
    module.finish().emit().map_err(|error| CodegenError::Bug(format!("the object file: {error}")))
}

/// Compiles a verified program to position-independent bytes, to be mapped read-execute.
///
/// # Errors
/// As [`jit`].
pub fn image(program: &Program, backend: Backend, threads: NonZeroUsize) -> Result<Image, CodegenError> {
    image::lay_out(&object(program, backend, threads)?)
}

/// The kernels as Cranelift sees them.
///
/// # Errors
/// As [`jit`].
pub fn dump_clif(program: &Program) -> Result<String, CodegenError> {
    dump::clif(program, target(Backend::Cranelift.isa())?.as_ref())
}

/// The kernels as assembly.
///
/// # Errors
/// As [`jit`].
pub fn dump_asm(program: &Program, backend: Backend) -> Result<String, CodegenError> {
    dump::assembly(program, backend, target(backend.isa())?.as_ref())
}
