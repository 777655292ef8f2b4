//! Places in the arena: live ranges, in-place reuse, offsets.
//!
//! A buffer lives from the first launch that uses it to the last; one that is used inside of a loop and outside of it,
//! or in a loop with stages, lives as long as the loop, and one that lasts from run to run always. Launches side by
//! side are one moment. An output takes its operand's place when the kernel allows it and the operand is used no more;
//! the two then share one slot. Slots are placed by decreasing size, each at the lowest offset where no slot that lives
//! at the same time lies (first fit by size; Pisarchyk and Lee 2020).

use super::Line;
use crate::lower::{Buffer, BufferId, Home};
use std::ops::{Range, RangeInclusive};

/// Offsets, and sizes of buffers, are multiples of so many bytes.
pub const ALIGNMENT: usize = 64;

/// Where each buffer of the arena lies.
pub struct Arena {
    /// By buffer; externals have none.
    pub offsets: Vec<Option<usize>>,
    /// Size of the whole.
    pub bytes: usize,
    /// Every buffer in it with the launches from the first to the last that need it, by buffer. Where another takes its
    /// place, the launch that does so counts for that one alone.
    pub live: Vec<(BufferId, RangeInclusive<usize>)>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    bytes: usize,
    first: usize,
    last: usize,
    /// Whether it is used inside of a loop and outside of it, so that each step finds what others left.
    crosses: bool,
}

/// Places every buffer that launches use; the first `prepared` of these do not run every time, those of each range
/// `abreast` run side by side.
pub fn place(line: &Line, buffers: &[Buffer], prepared: usize, abreast: &[Range<usize>]) -> Arena {
    let mut ranges = live_ranges(line, buffers, prepared);
    let moments = moments(line.launches.len(), abreast);
    for slot in ranges.iter_mut().flatten() {
        (slot.first, slot.last) = (moments[slot.first].start, moments[slot.last].end - 1);
    }
    let mut slots = ranges.clone();
    let owner = share((line, &moments), buffers, &mut slots, &mut ranges);
    let mut by_size: Vec<usize> = (0..buffers.len()).filter(|&at| owner[at] == at && slots[at].is_some()).collect();
    by_size.sort_by_key(|&at| (std::cmp::Reverse(slots[at].map_or(0, |slot| slot.bytes)), at));
    let mut offsets: Vec<Option<usize>> = vec![None; buffers.len()];
    let mut placed: Vec<(usize, Slot)> = Vec::new();
    let mut bytes = 0;
    for at in by_size {
        let Some(slot) = slots[at] else { continue };
        let offset = lowest_gap(&placed, slot);
        bytes = bytes.max(offset + slot.bytes);
        placed.push((offset, slot));
        placed.sort_by_key(|&(offset, slot)| (offset, slot.first));
        offsets[at] = Some(offset);
    }
    let of_owner = |at: usize| offsets[owner[at]];
    let offsets = (0..buffers.len()).map(of_owner).collect();
    let live = ranges.iter().enumerate().filter_map(|(at, slot)| Some((BufferId(at as u32), (*slot)?)));
    let live = live.map(|(buffer, slot)| (buffer, slot.first..=slot.last)).collect();
    Arena { offsets, bytes: bytes.next_multiple_of(ALIGNMENT), live }
}

fn live_ranges(line: &Line, buffers: &[Buffer], prepared: usize) -> Vec<Option<Slot>> {
    let mut slots: Vec<Option<Slot>> = vec![None; buffers.len()];
    let last = line.launches.len().saturating_sub(1);
    let mut touch = |buffer: BufferId, at: usize| {
        let buffer = root(buffers, buffer);
        let bytes = buffers[buffer.index()].bytes.next_multiple_of(ALIGNMENT);
        let slot = &mut slots[buffer.index()];
        match buffers[buffer.index()].home {
            // What only launches that prepare need does not last.
            Home::Lasting if at >= prepared => *slot = Some(Slot { bytes, first: 0, last, crosses: true }),
            Home::Arena | Home::Lasting => {
                let slot = slot.get_or_insert(Slot { bytes, first: at, last: at, crosses: false });
                (slot.first, slot.last) = (slot.first.min(at), slot.last.max(at));
            }
            Home::External(_) | Home::Row { .. } | Home::Part { .. } => {}
        }
    };
    for (at, launch) in line.launches.iter().enumerate() {
        launch.args.iter().for_each(|&(buffer, _)| touch(buffer, at));
    }
    // The number of a step is written before its first launch, and may be read by any.
    for each in &line.loops {
        each.index.into_iter().for_each(|index| {
            touch(index, each.launches.start);
            touch(index, each.launches.end - 1);
        });
    }
    for each in &line.loops {
        let (start, end) = (each.launches.start, each.launches.end - 1);
        for slot in slots.iter_mut().flatten() {
            let meets = slot.first <= end && slot.last >= start;
            // Stages of a loop are in different steps at the same time.
            if meets && (slot.first < start || slot.last > end || !each.stages.is_empty()) {
                (slot.first, slot.last, slot.crosses) = (slot.first.min(start), slot.last.max(end), true);
            }
        }
    }
    slots
}

/// For each launch those that it runs side by side with, itself among them.
fn moments(launches: usize, abreast: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut moments: Vec<Range<usize>> = (0..launches).map(|at| at..at + 1).collect();
    abreast.iter().for_each(|range| moments[range.clone()].fill(range.clone()));
    moments
}

/// The buffer that a row or a part lies in, over any number of them.
pub fn root(buffers: &[Buffer], buffer: BufferId) -> BufferId {
    match buffers[buffer.index()].home {
        Home::Row { of, .. } | Home::Part { of, .. } => root(buffers, of),
        Home::Arena | Home::Lasting | Home::External(_) => buffer,
    }
}

/// Joins outputs with the operands whose place they take, and ends the ranges of these. Gives for each buffer the one
/// whose slot it lies in.
fn share(
    (line, moments): (&Line, &[Range<usize>]),
    buffers: &[Buffer],
    slots: &mut [Option<Slot>],
    ranges: &mut [Option<Slot>],
) -> Vec<usize> {
    let mut owner: Vec<usize> = (0..buffers.len()).collect();
    let touches = |at: usize, buffer: usize| {
        line.launches[at]
            .args
            .iter()
            .any(|arg| root(buffers, arg.0).index() == root(buffers, BufferId(buffer as u32)).index())
    };
    for (at, launch) in line.launches.iter().enumerate() {
        let now = &moments[at];
        let mut taken: Vec<usize> = Vec::new();
        for &(BufferId(output), BufferId(operand)) in &launch.replaceable {
            let (output, replaced, operand) = (output as usize, operand as usize, owner[operand as usize]);
            let (Some(new), Some(old)) = (slots[output], slots[operand]) else { continue };
            let free = owner[output] == output && new.first == now.start && old.last == now.end - 1;
            let free = free && new.bytes == old.bytes && !new.crosses && !old.crosses;
            let free = free && !now.clone().any(|other| other != at && touches(other, replaced));
            if free && output != operand && !taken.contains(&operand) {
                taken.push(operand);
                owner[output] = operand;
                slots[operand] = Some(Slot { last: new.last, ..old });
                slots[output] = None;
                ranges[replaced].iter_mut().for_each(|range| range.last = now.start - 1);
            }
        }
    }
    // A slot taken over twice in a row: follow to the first owner.
    for at in 0..owner.len() {
        while owner[owner[at]] != owner[at] {
            owner[at] = owner[owner[at]];
        }
    }
    owner
}

fn lowest_gap(placed: &[(usize, Slot)], slot: Slot) -> usize {
    let mut offset = 0;
    for &(start, other) in placed {
        let together = other.first <= slot.last && slot.first <= other.last;
        if together && start < offset + slot.bytes && offset < start + other.bytes {
            offset = start + other.bytes;
        }
    }
    offset
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "ranges are of launches, and there may be one")]
pub(super) mod tests {
    use super::*;
    use crate::ir::{Direction, KernelBuilder};
    use crate::lower::Pending;
    use crate::plan::Repeat;

    pub fn launch(args: &[(u32, Direction)], replaceable: &[(u32, u32)]) -> Pending {
        Pending {
            kernel: KernelBuilder::new("k").finish(),
            args: args.iter().map(|&(buffer, direction)| (BufferId(buffer), direction)).collect(),
            replaceable: replaceable.iter().map(|&(a, b)| (BufferId(a), BufferId(b))).collect(),
            group: None,
            scans: vec![],
            work: 0,
            how: String::new(),
            alternatives: None,
            flops: 0,
        }
    }

    pub fn straight(launches: Vec<Pending>) -> Line {
        Line { launches, ..Line::default() }
    }

    #[test]
    fn a_chain_in_place_needs_one_slot_and_a_straight_chain_two() {
        use Direction::{In, Out};
        let buffers = vec![Buffer { bytes: 100, home: Home::Arena, holds: None }; 4];
        let chain = |inplace: bool| {
            let pair = |a, b| if inplace { vec![(a, b)] } else { vec![] };
            straight(vec![
                launch(&[(0, Out)], &[]),
                launch(&[(0, In), (1, Out)], &pair(1, 0)),
                launch(&[(1, In), (2, Out)], &pair(2, 1)),
                launch(&[(2, In), (3, Out)], &pair(3, 2)),
            ])
        };
        assert_eq!(place(&chain(true), &buffers, 0, &[]).bytes, 128);
        assert_eq!(place(&chain(false), &buffers, 0, &[]).bytes, 256);
    }

    #[test]
    fn an_operand_that_is_read_later_keeps_its_place() {
        use Direction::{In, Out};
        let buffers = vec![Buffer { bytes: 64, home: Home::Arena, holds: None }; 3];
        let launches = straight(vec![
            launch(&[(0, Out)], &[]),
            launch(&[(0, In), (1, Out)], &[(1, 0)]),
            launch(&[(0, In), (1, In), (2, Out)], &[]),
        ]);
        let arena = place(&launches, &buffers, 0, &[]);
        assert_ne!(arena.offsets[0], arena.offsets[1]);
    }

    /// Buffer 0 is read by both launches side by side, 1 by one of them; 2 and 3 could take their places.
    #[test]
    fn of_launches_side_by_side_none_takes_the_place_of_what_another_reads() {
        use Direction::{In, Out};
        let buffers = vec![Buffer { bytes: 64, home: Home::Arena, holds: None }; 4];
        let launches = straight(vec![
            launch(&[(0, Out), (1, Out)], &[]),
            launch(&[(0, In), (2, Out)], &[(2, 0)]),
            launch(&[(0, In), (1, In), (3, Out)], &[(3, 0), (3, 1)]),
            launch(&[(2, In), (3, In)], &[]),
        ]);
        let one_by_one = place(&launches, &buffers, 0, &[]);
        assert_eq!((one_by_one.offsets[3], one_by_one.bytes), (one_by_one.offsets[0], 192));
        let arena = place(&launches, &buffers, 0, &[1..3]);
        assert_eq!((arena.offsets[3], arena.bytes), (arena.offsets[1], 192));
        assert!(arena.offsets[2] != arena.offsets[0] && arena.offsets[2] != arena.offsets[1]);
    }

    /// Buffer 0 is carried by the loop, 1 and 2 are a step's own, 3 is read by every step.
    #[test]
    fn what_a_loop_carries_and_captures_lives_as_long_as_the_loop() {
        use Direction::{In, Out};
        let buffers = vec![Buffer { bytes: 64, home: Home::Arena, holds: None }; 5];
        let launches = vec![
            launch(&[(0, Out), (3, Out)], &[]),
            launch(&[(0, In), (3, In), (1, Out)], &[(1, 3)]),
            launch(&[(1, In), (2, Out)], &[(2, 1)]),
            launch(&[(2, In), (0, Out)], &[(0, 2)]),
            launch(&[(0, In), (4, Out)], &[]),
        ];
        let loops = vec![Repeat { launches: 1..4, steps: 3, reverse: false, index: None, stages: vec![] }];
        let arena = place(&Line { launches, loops, ..Line::default() }, &buffers, 0, &[]);
        let offsets = &arena.offsets;
        assert!(offsets[1] != offsets[3] && offsets[1] != offsets[0], "{offsets:?}");
        assert!(offsets[2] == offsets[1], "a step's own value may be replaced: {offsets:?}");
        assert!(offsets[0] != offsets[3] && offsets[0] != offsets[2], "{offsets:?}");
    }
}
