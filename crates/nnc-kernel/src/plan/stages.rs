//! Loops whose inner loops run side by side, each some steps behind the one before: their launches as stages.
//!
//! A stage is what one thread runs in a step: one of the inner loops, and what is computed for it alone. A stage may
//! begin a step as soon as the one before has ended it, and nothing else holds it up, so stages must share no memory
//! that moves with no step. What a stage hands to the next is therefore a row of something that is stacked: the pass
//! `wavefront` of `nnc-opt` makes loops of this form. On entry launches in order, before they have addresses; whatever
//! does not keep the rules runs as any loop does.

use super::{Line, Repeat};
use crate::ir::Direction;
use crate::lower::{Buffer, BufferId, Home, Pending};
use std::collections::BTreeMap;

/// Most work of a launch that shares the threads with others: heavier ones are worth all threads by themselves.
pub const LIGHT_WORK: usize = 1 << 21;

/// Finds the stages of all loops that have some.
pub fn find(line: &mut Line, buffers: &[Buffer]) {
    for at in 0..line.loops.len() {
        if let Some(stages) = Search::new(line, buffers, at).and_then(Search::stages) {
            line.loops[at].stages = stages;
        }
    }
}

/// The search for the stages of one loop.
struct Search<'l> {
    launches: &'l [Pending],
    buffers: &'l [Buffer],
    /// For each launch the inner loop that it is in.
    inner: Vec<Option<u32>>,
}

/// What a launch does with a buffer.
#[derive(Clone, Copy)]
struct Touch {
    root: BufferId,
    /// Whether the place moves with the steps of the loop.
    moves: bool,
    writes: bool,
    reads: bool,
}

impl<'l> Search<'l> {
    /// Of an outermost loop that has several loops one after the other.
    fn new(line: &'l Line, buffers: &'l [Buffer], at: usize) -> Option<Self> {
        let each = &line.loops[at];
        let within = |inner: &Repeat, outer: &Repeat| {
            outer.launches.start <= inner.launches.start && inner.launches.end <= outer.launches.end
        };
        let is_outermost = line.loops[..at].iter().all(|outer| !within(each, outer));
        let inner: Vec<&Repeat> = line.loops[at + 1..].iter().filter(|inner| within(inner, each)).collect();
        let are_flat = inner.iter().is_sorted_by(|a, b| a.launches.end <= b.launches.start);
        if !is_outermost || inner.len() < 2 || !are_flat || each.index.is_some() {
            return None;
        }
        let launches = &line.launches[each.launches.clone()];
        let number = |at: usize| inner.iter().position(|inner| inner.launches.contains(&(each.launches.start + at)));
        let inner: Vec<Option<u32>> = (0..launches.len()).map(|at| number(at).map(|number| number as u32)).collect();
        let is_light = launches.iter().zip(&inner).all(|(launch, inner)| inner.is_none() || launch.work <= LIGHT_WORK);
        is_light.then_some(Self { launches, buffers, inner })
    }

    /// For each launch its stage; none if stages would get in each other's way.
    fn stages(self) -> Option<Vec<u32>> {
        let touches: Vec<Vec<Touch>> = self.launches.iter().map(|launch| self.touches(launch)).collect();
        let mut stages = self.inner.clone();
        // What is made for an inner loop belongs to it, what is made of one comes with it.
        for at in (0..stages.len()).rev() {
            let needed =
                || touches[at + 1..].iter().zip(&stages[at + 1..]).filter(|(later, _)| hands(&touches[at], later));
            stages[at] = stages[at].or_else(|| needed().filter_map(|(_, stage)| *stage).min());
        }
        for at in 0..stages.len() {
            let needs = || touches[..at].iter().zip(&stages[..at]).filter(|(sooner, _)| hands(sooner, &touches[at]));
            stages[at] = stages[at].or_else(|| needs().filter_map(|(_, stage)| *stage).max());
        }
        let stages: Vec<u32> = stages.into_iter().map(Option::unwrap_or_default).collect();
        are_apart(&touches, &stages).then_some(stages)
    }

    fn touches(&self, launch: &Pending) -> Vec<Touch> {
        let touch = |&(buffer, direction): &(BufferId, Direction)| {
            let (root, moves) = self.root(buffer);
            let (writes, reads) = (direction != Direction::In, direction != Direction::Out);
            Touch { root, moves, writes, reads }
        };
        launch.args.iter().map(touch).collect()
    }

    /// The buffer that a row lies in, and whether the row moves with the outermost loop.
    fn root(&self, buffer: BufferId) -> (BufferId, bool) {
        match self.buffers[buffer.index()].home {
            Home::Row { of, depth, .. } => {
                let (root, moves) = self.root(of);
                (root, moves || depth == 0)
            }
            Home::Part { of, .. } => self.root(of),
            Home::Arena | Home::Lasting | Home::External(_) => (buffer, false),
        }
    }
}

/// Whether a launch writes what a later one reads.
fn hands(sooner: &[Touch], later: &[Touch]) -> bool {
    let written = || sooner.iter().filter(|touch| touch.writes);
    later.iter().filter(|touch| touch.reads).any(|read| written().any(|write| write.root == read.root))
}

/// Whether stages share only what nobody writes, and rows that move with the steps, which go from earlier stages to
/// later ones.
fn are_apart(touches: &[Vec<Touch>], stages: &[u32]) -> bool {
    let mut by_buffer: BTreeMap<BufferId, Vec<(u32, Touch)>> = BTreeMap::new();
    for (touches, &stage) in touches.iter().zip(stages) {
        touches.iter().for_each(|touch| by_buffer.entry(touch.root).or_default().push((stage, *touch)));
    }
    by_buffer.values().all(|touches| {
        let is_one_stage = touches.iter().all(|(stage, _)| *stage == touches[0].0);
        let is_only_read = touches.iter().all(|(_, touch)| !touch.writes);
        let moves = touches.iter().all(|(_, touch)| touch.moves);
        is_one_stage || is_only_read || (moves && touches.is_sorted_by_key(|(stage, _)| *stage))
    })
}
