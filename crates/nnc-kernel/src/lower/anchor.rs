//! Nodes with a kernel of their own.

use super::{LowerError, Lowering};
use nnc_opt::fuse::Group;

/// Lowers an anchor group.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<(), LowerError> {
    let Some(anchor) = group.anchor else { return Err(LowerError::bug("an anchor group without an anchor")) };
    let node = lowering.graph.node(anchor);
    Err(LowerError::Unsupported(node.op.name().to_owned()))
}
