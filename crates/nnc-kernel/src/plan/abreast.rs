//! Light launches side by side.
//!
//! Launches of which none touches what another writes become one launch of the pool, whose parts they are: threads are
//! called once for all of them, and small ones share a task. Such are the updates of biases and of other small
//! parameters, and the derivatives by an operand and by a weight. To bring them together, a light launch moves behind
//! later ones that do not need it, as far as there is company. Heavy launches are worth all threads by themselves; so
//! the update of a large parameter stays where it is, right behind its gradient: that is still in the caches there, and
//! its memory is free for the next one. Updates that follow one another are one launch, however heavy.
//!
//! On entry launches in order, before they have addresses; on exit an order in which every launch still comes after all
//! that it has to wait for. Loops keep their places, and nothing moves into or out of one.

use super::{Line, arena, stages};
use crate::ir::Direction;
use crate::lower::{Buffer, BufferId, Home, Pending};
use std::collections::VecDeque;
use std::ops::Range;

/// The most memory of the arena that launches side by side touch: it stays in a second cache.
const MOST_BYTES: usize = 1 << 20;
/// So much comes back from a cache further away in less time than a launch takes: it may wait for longer.
const FEW_BYTES: usize = 1 << 14;
/// How many launches are looked at to find company.
const AHEAD: usize = 32;
/// The most launches of a set: their arguments lie on the stack of the caller.
const MOST_LAUNCHES: usize = 256;

/// Puts launches side by side, those after the first `prepared`; gives the ranges.
pub fn arrange(line: &mut Line, buffers: &[Buffer], prepared: usize) -> Vec<Range<usize>> {
    let facts: Vec<Facts> = line.launches.iter().map(|launch| Facts::new(launch, buffers)).collect();
    let (mut order, mut found): (Vec<usize>, _) = ((0..prepared).collect(), vec![]);
    for segment in segments(line, prepared) {
        for set in in_sets(segment, &facts) {
            let work: usize = set.launches.iter().map(|&at| line.launches[at].work).sum();
            if set.launches.len() > 1 && work >= super::assemble::SERIAL_WORK {
                found.push(order.len()..order.len() + set.launches.len());
            }
            order.extend(set.launches);
        }
    }
    let mut launches: Vec<Option<Pending>> = line.launches.drain(..).map(Some).collect();
    line.launches = order.iter().filter_map(|&at| launches[at].take()).collect();
    found
}

/// Runs of launches after each other in the same loops; those of loops with stages are left in one piece each.
fn segments(line: &Line, prepared: usize) -> Vec<Range<usize>> {
    let around = |at: usize| line.loops.iter().filter(move |each| each.launches.contains(&at));
    let is_staged = |at: usize| around(at).any(|each| !each.stages.is_empty());
    let mut found: Vec<Range<usize>> = vec![];
    for at in prepared..line.launches.len() {
        let loops = |at: usize| around(at).map(|each| &each.launches);
        let continues = at > prepared && !is_staged(at) && loops(at - 1).eq(loops(at));
        match found.last_mut() {
            Some(last) if continues => last.end = at + 1,
            _ => found.push(at..at + 1),
        }
    }
    found
}

/// Launches that run side by side, by their places in the line.
struct Set {
    launches: Vec<usize>,
    /// Together what each of them is.
    all: Kind,
    /// Bytes of the arena that they touch.
    bytes: usize,
}

/// A segment as sets that follow one another.
fn in_sets(segment: Range<usize>, facts: &[Facts]) -> VecDeque<Set> {
    let mut sets: VecDeque<Set> = VecDeque::new();
    for at in segment.rev() {
        let own = &facts[at];
        match company(own, &sets, facts) {
            Some(set) => {
                let set = &mut sets[set];
                set.launches.insert(0, at);
                set.bytes += own.bytes;
                set.all = set.all.and(own.kind);
            }
            None => sets.push_front(Set { launches: vec![at], all: own.kind, bytes: own.bytes }),
        }
    }
    sets
}

/// The last of some sets that a launch before them can join.
fn company(own: &Facts, sets: &VecDeque<Set>, facts: &[Facts]) -> Option<usize> {
    let ahead = if own.kind.is_light { AHEAD } else { 1 };
    let mut found = None;
    for (place, set) in sets.iter().enumerate().take(ahead) {
        if set.launches.iter().any(|&other| own.conflicts(&facts[other])) {
            break;
        }
        let all = set.all.and(own.kind);
        let fits = all.is_light && set.bytes + own.bytes <= MOST_BYTES;
        let has_room = set.launches.len() < MOST_LAUNCHES;
        if has_room && all.has_one_phase && (fits || (all.is_update && place == 0)) {
            found = Some(place);
        }
        if !set.all.is_light && own.bytes > FEW_BYTES {
            break;
        }
    }
    found
}

/// What a launch is, or every one of several.
#[derive(Clone, Copy)]
struct Kind {
    has_one_phase: bool,
    is_light: bool,
    /// Whether it writes nothing in the arena: then nobody waits for it, and it takes no memory.
    is_update: bool,
}

impl Kind {
    fn and(self, other: Self) -> Self {
        Self {
            has_one_phase: self.has_one_phase && other.has_one_phase,
            is_light: self.is_light && other.is_light,
            is_update: self.is_update && other.is_update,
        }
    }
}

/// What matters of a launch.
struct Facts {
    kind: Kind,
    /// Bytes of the arena that it touches.
    bytes: usize,
    /// The buffers that it touches, and whether it writes them.
    touched: Vec<(BufferId, bool)>,
}

impl Facts {
    fn new(launch: &Pending, buffers: &[Buffer]) -> Self {
        let touched: Vec<(BufferId, bool)> = (launch.args.iter())
            .map(|&(buffer, direction)| (arena::root(buffers, buffer), direction != Direction::In))
            .collect();
        let is_own = |buffer: &BufferId| {
            matches!(buffers[buffer.index()].home, Home::Arena | Home::Row { .. } | Home::Part { .. })
        };
        let mut own: Vec<BufferId> = launch.args.iter().map(|arg| arg.0).filter(is_own).collect();
        own.sort_unstable();
        own.dedup();
        let is_external = |buffer: &BufferId| matches!(buffers[buffer.index()].home, Home::External(_));
        let kind = Kind {
            has_one_phase: launch.kernel.phases.len() == 1,
            is_light: launch.work <= stages::LIGHT_WORK,
            is_update: touched.iter().all(|(buffer, writes)| !writes || is_external(buffer)),
        };
        Self { kind, bytes: own.iter().map(|buffer| buffers[buffer.index()].bytes).sum(), touched }
    }

    /// Whether one touches what the other writes.
    fn conflicts(&self, other: &Self) -> bool {
        let clash = |a: &(BufferId, bool), b: &(BufferId, bool)| a.0 == b.0 && (a.1 || b.1);
        self.touched.iter().any(|a| other.touched.iter().any(|b| clash(a, b)))
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "ranges are of launches, and there may be one")]
mod tests {
    use super::*;
    use crate::ir::KernelBuilder;
    use crate::plan::Repeat;
    use Direction::{In, Out};

    const LIGHT: usize = 1 << 18;
    const HEAVY: usize = 1 << 30;

    /// A launch of one phase that is called by the work that it does, and touches such buffers.
    fn launch(work: usize, args: &[(u32, Direction)]) -> Pending {
        let mut builder = KernelBuilder::new("k");
        builder.phase(1, |_, _| {});
        Pending {
            kernel: builder.finish(),
            args: args.iter().map(|&(buffer, direction)| (BufferId(buffer), direction)).collect(),
            replaceable: vec![],
            group: None,
            scans: vec![],
            work,
            how: String::new(),
            alternatives: None,
            flops: 0,
        }
    }

    /// The first buffer of each launch in their new order, and what runs side by side; buffers have so many bytes.
    fn arranged(launches: Vec<Pending>, loops: Vec<Repeat>, bytes: usize) -> (Vec<u32>, Vec<Range<usize>>) {
        let buffers = vec![Buffer { bytes, home: Home::Arena, holds: None }; 10];
        let mut line = Line { launches, loops, ..Line::default() };
        let found = arrange(&mut line, &buffers, 0);
        (line.launches.iter().map(|launch| launch.args[0].0.0).collect(), found)
    }

    #[test]
    fn what_shares_nothing_that_is_written_runs_side_by_side() {
        let readers = |last| vec![launch(LIGHT, &[(0, Out), (9, In)]), launch(LIGHT, &[(1, Out), (last, In)])];
        assert_eq!(arranged(readers(9), vec![], 64).1, [0..2]);
        assert!(arranged(readers(0), vec![], 64).1.is_empty());
        let over = vec![launch(LIGHT, &[(0, Out), (1, In)]), launch(LIGHT, &[(1, Out)])];
        assert!(arranged(over, vec![], 64).1.is_empty(), "one writes over what the other reads");
        assert!(arranged(readers(9), vec![], MOST_BYTES).1.is_empty(), "they would not stay in a cache");
    }

    /// The first launch waits for the last one beyond a heavy one and one that stays where it is.
    #[test]
    fn a_light_launch_goes_behind_what_does_not_need_it() {
        let launches = |first: &[(u32, Direction)]| {
            let heavy = launch(HEAVY, &[(1, Out)]);
            let (then, last) = (launch(LIGHT, &[(2, Out), (1, In)]), launch(LIGHT, &[(3, Out), (2, In)]));
            vec![launch(LIGHT, first), heavy, then, last]
        };
        assert_eq!(arranged(launches(&[(0, Out)]), vec![], 64), (vec![1, 2, 0, 3], vec![2..4]));
        let (order, found) = arranged(launches(&[(0, Out), (3, In)]), vec![], 64);
        assert_eq!((order, found), (vec![1, 0, 2, 3], vec![1..3]));
        let (order, found) = arranged(launches(&[(0, Out), (1, In)]), vec![], 64);
        assert_eq!((order, found), (vec![0, 1, 2, 3], vec![]), "the heavy one writes what it reads");
        let (order, found) = arranged(launches(&[(0, Out)]), vec![], FEW_BYTES + 64);
        assert_eq!((order, found), (vec![0, 1, 2, 3], vec![]), "what it needs would come from afar");
    }

    /// Buffers 0 and 1 are parameters.
    #[test]
    fn updates_that_follow_one_another_are_one_launch() {
        let mut buffers = vec![Buffer { bytes: 2 * MOST_BYTES, home: Home::Arena, holds: None }; 4];
        (0..2).for_each(|at| buffers[at].home = Home::External(at));
        let update = |work, of| launch(work, &[(of, Direction::InOut), (of + 2, In)]);
        let mut line = Line { launches: vec![update(HEAVY, 0), update(LIGHT, 1)], ..Line::default() };
        assert_eq!(arrange(&mut line, &buffers, 0), [0..2]);
        let between = launch(HEAVY, &[(3, Out)]);
        let mut line = Line { launches: vec![update(HEAVY, 0), between, update(LIGHT, 1)], ..Line::default() };
        assert!(arrange(&mut line, &buffers, 0).is_empty(), "the first one's memory is free for the other gradient");
    }

    #[test]
    fn nothing_leaves_a_loop() {
        let launches = || (0..4).map(|at| launch(LIGHT, &[(at, Out)])).collect::<Vec<_>>();
        let each = |launches, stages| Repeat { launches, steps: 3, reverse: false, index: None, stages };
        assert_eq!(arranged(launches(), vec![], 64).1, [0..4]);
        assert_eq!(arranged(launches(), vec![each(1..3, vec![])], 64), (vec![0, 1, 2, 3], vec![1..3]));
        assert!(arranged(launches(), vec![each(0..4, vec![0, 0, 1, 1])], 64).1.is_empty(), "stages run by themselves");
    }
}
