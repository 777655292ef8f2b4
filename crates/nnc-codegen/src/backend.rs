//! Which backend makes the code of kernels.

use crate::CodegenError;
use nnc_kernel::ir::Target;
use nnc_runtime::cpu::Isa;
use std::fmt;

/// What makes the machine code of kernels. The entry, which calls them, is always Cranelift's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Backend {
    /// Cranelift: the reference, with vectors of 128 bits.
    Cranelift,
    /// The full-width backend, for an instruction set.
    X64(Isa),
}

impl Backend {
    /// Every backend, in their order: one with more lanes or better instructions is greater.
    pub const ALL: [Self; 4] = [Self::Cranelift, Self::X64(Isa::Avx2), Self::X64(Isa::AvxVnni), Self::X64(Isa::Avx512)];

    /// The best for this machine.
    pub fn host() -> Self {
        Isa::host().map_or(Self::Cranelift, Self::X64)
    }

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cranelift => "cranelift",
            Self::X64(isa) => isa.name(),
        }
    }

    /// The backend of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == name)
    }

    /// The instruction set that its code needs.
    pub fn isa(self) -> Isa {
        match self {
            Self::Cranelift => Isa::Avx2,
            Self::X64(isa) => isa,
        }
    }

    /// Lanes of f32 in a vector register.
    pub fn f32_lanes(self) -> u8 {
        match self {
            Self::Cranelift => 4,
            Self::X64(Isa::Avx2 | Isa::AvxVnni) => 8,
            Self::X64(Isa::Avx512) => 16,
        }
    }

    /// What lowering may know of the machine that its code runs on.
    pub fn target(self) -> Target {
        let has_byte_products = match self {
            Self::Cranelift => false,
            Self::X64(isa) => isa.has_byte_products(),
        };
        Target { has_byte_products, ..Target::new(self.f32_lanes()) }
    }

    /// Whether this machine runs its code.
    ///
    /// # Errors
    /// The instructions that are missing.
    pub fn check(self) -> Result<(), CodegenError> {
        let missing = self.isa().missing();
        if missing.is_empty() {
            return Ok(());
        }
        Err(CodegenError::Features { isa: self.isa(), missing: missing.join(", ") })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
