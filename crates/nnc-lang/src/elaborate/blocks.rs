//! The `data` and `train` blocks of a program.

use super::program::Program;
use super::{DataInfo, Options, RecipeInfo, recipe};
use crate::diagnostic::Diagnostic;

/// Checks every block.
pub(super) fn check_blocks(program: &Program, options: &Options) -> (Vec<DataInfo>, Vec<RecipeInfo>, Vec<Diagnostic>) {
    let blocks = recipe::check(program, options);
    (blocks.data, blocks.recipes, blocks.diagnostics)
}
