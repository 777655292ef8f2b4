//! What the runtime must know of a lowered program: sizes, and which externals are only read.

use nnc_kernel::{Access, Lowered};
use nnc_runtime::Layout;

/// Alignment of the arena, a cache line.
const ARENA_ALIGN: usize = 64;

/// Sizes of the program's memory.
pub fn runtime_layout(lowered: &Lowered) -> Layout {
    Layout {
        arena_bytes: lowered.arena_bytes,
        arena_align: ARENA_ALIGN,
        scratch_bytes: lowered.scratch_bytes,
        externals: lowered.externals.iter().map(|external| external.bytes).collect(),
    }
}

/// The externals that the program never writes, by position.
pub fn read_only(lowered: &Lowered) -> Vec<usize> {
    let externals = lowered.externals.iter().enumerate();
    externals.filter(|(_, external)| external.access == Access::Read).map(|(at, _)| at).collect()
}
