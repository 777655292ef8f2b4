//! Finished machine code, from wherever it came, with the memory layout that it was compiled for.

use crate::abi::EntryFn;
use crate::image::Image;
use crate::program::Layout;
use std::fmt;

#[cfg(feature = "jit")]
use crate::jit::{JitCode, JitError};

/// The code of one program. It stays in memory, readable and executable but never writable, until
/// this is dropped.
pub struct Code {
    source: Source,
    layout: Layout,
    read_only: Vec<bool>,
}

enum Source {
    #[cfg(feature = "jit")]
    Jit(Box<JitCode>),
    /// In a segment of this very executable, which is there as long as the process.
    Own(EntryFn),
}

impl Code {
    /// Takes a finished JIT module and its entry.
    ///
    /// This is a safe function that trusts its caller: the code must be what the compiler of this
    /// workspace made from a verified kernel program with this very `layout`. Nothing here can
    /// check machine code; the checks are the verifiers of the graph and kernel languages, and the
    /// tests that compare every engine with the interpreter. Code from another source needs the
    /// same care as `unsafe`.
    ///
    /// # Errors
    /// If the module is not finished or its entry has another signature than [`EntryFn`].
    #[cfg(feature = "jit")]
    pub fn from_jit(
        module: cranelift_jit::JITModule,
        entry: cranelift_module::FuncId,
        layout: Layout,
    ) -> Result<Self, JitError> {
        Ok(Self::new(Source::Jit(Box::new(JitCode::new(module, entry)?)), layout))
    }

    /// The code that `nnc build` has appended to this executable. Trusts the file in the same way
    /// as [`Self::from_jit`] trusts its caller: an executable runs what is in it.
    ///
    /// # Errors
    /// If `entry` is no offset into the image's code.
    pub fn from_image(image: &Image, entry: usize, layout: Layout) -> Result<Self, OutsideCode> {
        let entry = image.entry(entry).ok_or(OutsideCode { entry })?;
        Ok(Self::new(Source::Own(entry), layout))
    }

    /// Takes a function of this process.
    ///
    /// # Safety
    /// The function keeps to `layout`: it reads and writes only within the buffers of its context.
    pub unsafe fn from_entry(entry: EntryFn, layout: Layout) -> Self {
        Self::new(Source::Own(entry), layout)
    }

    fn new(source: Source, layout: Layout) -> Self {
        let read_only = vec![false; layout.externals.len()];
        Self { source, layout, read_only }
    }

    /// Declares externals that the code never writes, so that shared memory may be passed for
    /// them. The compiler knows which these are; the trust of the constructors extends to it.
    #[must_use]
    pub fn with_read_only(mut self, externals: &[usize]) -> Self {
        for &index in externals {
            if let Some(flag) = self.read_only.get_mut(index) {
                *flag = true;
            }
        }
        self
    }

    /// The memory that the code was compiled for.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn is_read_only(&self, external: usize) -> bool {
        self.read_only.get(external).copied().unwrap_or(false)
    }

    pub(crate) fn entry(&self) -> EntryFn {
        match &self.source {
            #[cfg(feature = "jit")]
            Source::Jit(code) => code.entry(),
            Source::Own(entry) => *entry,
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// An entry offset that lies outside the image's code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the entry at byte {entry} is outside the program's code")]
pub struct OutsideCode {
    entry: usize,
}
