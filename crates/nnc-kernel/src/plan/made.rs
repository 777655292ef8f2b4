//! What a launch reads in the arena or in an answer has been made by a launch before it.
//!
//! On entry launches stand in the order in which they run, those that prepare first. A loop reads the number of its
//! step, which no launch makes; what it carries is copied there before it begins. Memory is told by buffers, so that a
//! part counts for the whole. Broken, the rule means a bug in the compiler, and without it results that nobody could
//! explain.

use super::{External, Line, Role, arena};
use crate::ir::Direction;
use crate::lower::{Buffer, Home, LowerError};

/// Checks the rule for every launch.
///
/// # Errors
/// A launch that reads what none has made.
pub fn check(line: &Line, buffers: &[Buffer], externals: &[External]) -> Result<(), LowerError> {
    let is_given = |buffer: &Buffer| match buffer.home {
        Home::Arena | Home::Lasting => false,
        Home::External(at) => !matches!(externals[at].role, Role::Output(_)),
        Home::Row { .. } | Home::Part { .. } => true,
    };
    let mut made: Vec<bool> = buffers.iter().map(is_given).collect();
    let indices = line.loops.iter().filter_map(|each| each.index);
    indices.for_each(|index| made[arena::root(buffers, index).index()] = true);
    for launch in &line.launches {
        let roots = || launch.args.iter().map(|&(buffer, direction)| (arena::root(buffers, buffer), direction));
        // What a kernel writes itself it may read in a later phase.
        let own = |root| roots().any(|(other, direction)| other == root && direction != Direction::In);
        if roots().any(|(root, direction)| direction == Direction::In && !made[root.index()] && !own(root)) {
            return Err(LowerError::Bug(format!("`{}` reads what no launch before it has made", launch.kernel.name)));
        }
        roots().filter(|(_, direction)| *direction != Direction::In).for_each(|(root, _)| made[root.index()] = true);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Access;
    use crate::plan::arena::tests::{launch, straight};
    use nnc_graph::{DType, Shape, TensorType};

    #[test]
    fn what_is_read_is_made_before() {
        use Direction::{In, Out};
        let buffers = vec![
            Buffer { bytes: 64, home: Home::Arena, holds: None },
            Buffer { bytes: 64, home: Home::Lasting, holds: None },
            Buffer { bytes: 64, home: Home::External(0), holds: None },
        ];
        let ty = TensorType::new(DType::F32, Shape::of(&[16]));
        let externals = [External { role: Role::Input("x".to_owned()), ty, bytes: 64, access: Access::Read }];
        let check = |launches| super::check(&straight(launches), &buffers, &externals);
        let make = || launch(&[(2, In), (0, Out)], &[]);
        let read = || launch(&[(0, In), (1, Out)], &[]);
        assert!(check(vec![make(), read()]).is_ok());
        let found = check(vec![read(), make()]).unwrap_err().to_string();
        assert!(found.contains("reads what no launch before it has made"), "{found}");
    }
}
