//! The `data` and `train` blocks of a program.

use super::program::Program;
use super::{DataInfo, Options, RecipeInfo};
use crate::diagnostic::Diagnostic;

/// Checks every block.
pub(super) fn check_blocks(
    _program: &Program,
    _options: &Options,
) -> (Vec<DataInfo>, Vec<RecipeInfo>, Vec<Diagnostic>) {
    (Vec::new(), Vec::new(), Vec::new())
}
