//! Launches that prepare the same: one is enough.
//!
//! A weight that several products read, as a layer that is used many times does, or a loop and what comes before it, is
//! packed for each of them by itself. Of launches with the same code that read the same memory the first one stays, and
//! what the others would have made is read where it has made it.
//!
//! On entry what [`Line::prepare`] holds in order, before buffers have addresses; on exit fewer launches, and no launch
//! and no buffer that names what is gone. Only launches are looked at that write nothing but [`Home::Lasting`] buffers
//! of their own, and read nothing that is written more than once.

use super::Line;
use crate::ir::Direction;
use crate::lower::{Buffer, BufferId, Home, Pending};
use std::collections::BTreeMap;

/// Leaves one launch of those that prepare the same.
pub fn merge(line: &mut Line, buffers: &mut [Buffer]) {
    let writers = writers(line, buffers);
    let mut instead: BTreeMap<BufferId, BufferId> = BTreeMap::new();
    let mut kept: Vec<Pending> = Vec::new();
    // By what they read, the places of launches that may stand for others.
    let mut known: BTreeMap<Vec<BufferId>, Vec<usize>> = BTreeMap::new();
    for mut launch in std::mem::take(&mut line.prepare) {
        rename(&mut launch, &instead);
        if !is_plain(&launch, buffers, &writers) {
            kept.push(launch);
            continue;
        }
        let alike = known.entry(those(&launch, Direction::In)).or_default();
        match alike.iter().find(|&&at| kept[at].kernel.same_code(&launch.kernel)) {
            Some(&at) => {
                instead.extend(those(&launch, Direction::Out).into_iter().zip(those(&kept[at], Direction::Out)));
            }
            None => {
                alike.push(kept.len());
                kept.push(launch);
            }
        }
    }
    line.prepare = kept;
    line.launches.iter_mut().for_each(|launch| rename(launch, &instead));
    for buffer in buffers {
        if let Home::Row { of, .. } | Home::Part { of, .. } = &mut buffer.home {
            *of = *instead.get(of).unwrap_or(of);
        }
    }
}

/// How many arguments of launches write each buffer, or a part of it.
fn writers(line: &Line, buffers: &[Buffer]) -> Vec<usize> {
    let mut found = vec![0; buffers.len()];
    for launch in line.prepare.iter().chain(&line.launches) {
        let written = launch.args.iter().filter(|(_, direction)| *direction != Direction::In);
        written.for_each(|&(buffer, _)| found[super::arena::root(buffers, buffer).index()] += 1);
    }
    found
}

/// Whether a launch makes whole buffers of its own of what stays as it is.
fn is_plain(launch: &Pending, buffers: &[Buffer], writers: &[usize]) -> bool {
    let may = |&(buffer, direction): &(BufferId, Direction)| {
        let written = writers[super::arena::root(buffers, buffer).index()];
        match direction {
            Direction::In => written <= 1,
            Direction::Out => written == 1 && matches!(buffers[buffer.index()].home, Home::Lasting),
            Direction::InOut => false,
        }
    };
    launch.replaceable.is_empty() && launch.args.iter().all(may)
}

/// The buffers of a launch that it uses in one way, in order.
fn those(launch: &Pending, way: Direction) -> Vec<BufferId> {
    launch.args.iter().filter(|(_, direction)| *direction == way).map(|&(buffer, _)| buffer).collect()
}

fn rename(launch: &mut Pending, instead: &BTreeMap<BufferId, BufferId>) {
    let new = |buffer: &mut BufferId| *buffer = *instead.get(buffer).unwrap_or(buffer);
    launch.args.iter_mut().for_each(|(buffer, _)| new(buffer));
    launch.replaceable.iter_mut().for_each(|(output, operand)| [output, operand].into_iter().for_each(new));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::arena::tests::launch;
    use Direction::{In, InOut, Out};

    /// Buffer 0 is given, 1 to 4 last, 5 is a part of 2, 6 lies in the arena.
    fn buffers() -> Vec<Buffer> {
        let lasting = [Home::Lasting, Home::Lasting, Home::Lasting, Home::Lasting];
        let part = Home::Part { of: BufferId(2), start: 8 };
        let homes = [vec![Home::External(0)], lasting.to_vec(), vec![part, Home::Arena]].concat();
        homes.into_iter().map(|home| Buffer { bytes: 64, home, holds: None }).collect()
    }

    fn args(launches: &[Pending]) -> Vec<Vec<u32>> {
        launches.iter().map(|launch| launch.args.iter().map(|(buffer, _)| buffer.0).collect()).collect()
    }

    /// What follows from packed weights is shared as well, and so are parts of them.
    #[test]
    fn the_same_is_made_once() {
        let prepare = vec![
            launch(&[(0, In), (1, Out)], &[]),
            launch(&[(0, In), (2, Out)], &[]),
            launch(&[(1, In), (3, Out)], &[]),
            launch(&[(2, In), (4, Out)], &[]),
        ];
        let launches = vec![launch(&[(2, In), (4, In), (5, In), (6, Out)], &[])];
        let (mut line, mut buffers) = (Line { prepare, launches, ..Line::default() }, buffers());
        merge(&mut line, &mut buffers);
        assert_eq!(args(&line.prepare), [[0, 1], [1, 3]]);
        assert_eq!(args(&line.launches), [[1, 3, 5, 6]]);
        assert!(matches!(buffers[5].home, Home::Part { of: BufferId(1), .. }));
    }

    #[test]
    fn what_is_written_again_is_not_shared() {
        let prepare = vec![launch(&[(0, In), (1, Out)], &[]), launch(&[(0, In), (2, Out)], &[])];
        let launches = vec![launch(&[(2, InOut), (6, Out)], &[])];
        let (mut line, mut buffers) = (Line { prepare, launches, ..Line::default() }, buffers());
        merge(&mut line, &mut buffers);
        assert_eq!(args(&line.prepare), [[0, 1], [0, 2]]);
    }
}
