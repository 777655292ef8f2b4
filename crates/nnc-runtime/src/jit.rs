//! Ownership of code that Cranelift's JIT has finished.

use crate::abi::EntryFn;
use cranelift_codegen::ir::Signature;
use cranelift_jit::JITModule;
use cranelift_module::{FuncId, Module, ModuleError};

/// Why a module was not taken.
#[derive(Debug, thiserror::Error)]
pub enum JitError {
    /// Cranelift could not finish the module: no memory, or the system refused to protect it.
    #[error("the code could not be made executable: {0}")]
    Finish(#[from] Box<ModuleError>),
    /// The entry is not a function of one address without a result.
    #[error("bug in the compiler: the entry has the signature {0}")]
    Signature(String),
}

/// A finished module and its entry; frees the code with it.
pub(crate) struct JitCode {
    /// `None` only while being dropped.
    module: Option<JITModule>,
    entry: EntryFn,
}

// SAFETY: the code is never changed after it is finished, so it may be called from any thread;
// of the module nothing else is used but `free_memory`, which takes it by value.
unsafe impl Sync for JitCode {}

impl JitCode {
    pub(crate) fn new(mut module: JITModule, entry: FuncId) -> Result<Self, JitError> {
        let signature = &module.declarations().get_function_decl(entry).signature;
        if !is_entry(signature, &module) {
            return Err(JitError::Signature(signature.to_string()));
        }
        module.finalize_definitions().map_err(Box::new)?;
        let address = module.get_finalized_function(entry);
        // SAFETY: `address` is the start of a finished function whose declared signature was just
        // compared with `EntryFn`'s; it stays valid until `free_memory`, which `drop` alone calls.
        let entry = unsafe { std::mem::transmute::<*const u8, EntryFn>(address) };
        Ok(Self { module: Some(module), entry })
    }

    pub(crate) fn entry(&self) -> EntryFn {
        self.entry
    }
}

impl Drop for JitCode {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the entry is handed out only inside this crate and called only by
            // `Program::run`, which borrows the program, and so this, for the whole call; workers
            // have left the program's kernels when a launch returns.
            unsafe { module.free_memory() };
        }
    }
}

fn is_entry(signature: &Signature, module: &JITModule) -> bool {
    let pointer = module.target_config().pointer_type();
    let takes_address = matches!(signature.params.as_slice(), [only] if only.value_type == pointer);
    takes_address && signature.returns.is_empty() && signature.call_conv == module.target_config().default_call_conv
}

#[cfg(test)]
mod tests {
    use crate::{AlignedBuffer, Code, JitError, Layout, Pool, Program};
    use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, UserFuncName, types};
    use cranelift_codegen::settings::{self, Configurable};
    use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
    use cranelift_jit::{JITBuilder, JITModule};
    use cranelift_module::{FuncId, Linkage, Module, default_libcall_names};
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    fn module() -> JITModule {
        let mut flags = settings::builder();
        flags.set("opt_level", "speed").unwrap();
        let isa = cranelift_native::builder().unwrap().finish(settings::Flags::new(flags)).unwrap();
        JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()))
    }

    fn declare(module: &mut JITModule, params: usize) -> (FuncId, Signature) {
        let mut signature = module.make_signature();
        let pointer = module.target_config().pointer_type();
        signature.params.resize(params, AbiParam::new(pointer));
        let id = module.declare_function("entry", Linkage::Export, &signature).unwrap();
        (id, signature)
    }

    /// A function that doubles the first f32 of external 0.
    fn define_double(module: &mut JITModule) -> FuncId {
        let (id, signature) = declare(module, 1);
        let mut context = module.make_context();
        context.func.signature = signature;
        context.func.name = UserFuncName::user(0, id.as_u32());
        let mut builders = FunctionBuilderContext::new();
        let mut builder = FunctionBuilder::new(&mut context.func, &mut builders);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        builder.seal_all_blocks();
        let flags = MemFlagsData::trusted();
        let program = builder.block_params(block)[0];
        let buffers = builder.ins().load(types::I64, flags, program, 8);
        let external = builder.ins().load(types::I64, flags, buffers, 8);
        let value = builder.ins().load(types::F32, flags, external, 0);
        let sum = builder.ins().fadd(value, value);
        builder.ins().store(flags, sum, external, 0);
        builder.ins().return_(&[]);
        builder.finalize(module.target_config());
        module.define_function(id, &mut context).unwrap();
        id
    }

    #[test]
    fn runs_and_frees_compiled_code() {
        let pool = Arc::new(Pool::new(NonZeroUsize::MIN).unwrap());
        for _ in 0..50 {
            let mut module = module();
            let entry = define_double(&mut module);
            let layout = Layout { externals: vec![4], ..Layout::default() };
            let code = Code::from_jit(module, entry, layout).unwrap();
            let mut program = Program::new(code, Arc::clone(&pool));
            let mut value = AlignedBuffer::from_slice(&[1.5f32]);
            program.run(&mut [(&mut value).into()]).unwrap();
            assert_eq!(value.as_slice::<f32>(), [3.0]);
        }
    }

    #[test]
    fn refuses_another_signature() {
        let mut module = module();
        let (entry, _) = declare(&mut module, 2);
        let refused = Code::from_jit(module, entry, Layout::default());
        assert!(matches!(refused, Err(JitError::Signature(_))));
    }
}
