//! Carried values of a loop that are stacked as well: all of them lie in one buffer, one after the other.
//!
//! A stack may hold what each step reads of a carried value, or what it makes of it. Both are parts of one sequence:
//!
//! ```text
//! first value | made by step 0 | made by step 1 | ... | made by the last step
//! `- what the steps read, stacked ------------'
//!               `- what the steps make, stacked ----------------------------'
//! ```
//!
//! So a step puts the next value behind the one it reads, and neither is copied to a stack. A loop that walks backwards
//! fills the buffer from its end. A stack that must lie elsewhere, with the caller or in a row of the loop around, is no
//! part of it.

use super::Lowering;
use super::memory::{Held, Place, elem};
use nnc_graph::{Scan, ValueId};
use nnc_opt::fuse::Layout;
use std::collections::BTreeMap;

/// Fewest steps that are worth a copy of the last value, where that must lie elsewhere.
const LEAST_STEPS: usize = 2;

/// All that a carried value is, in the order of the steps.
pub struct Trail {
    /// What the first step reads.
    pub first: Place,
    /// What the steps read, stacked.
    pub before: Place,
    /// What the steps make, stacked.
    pub after: Place,
    /// What the last step makes.
    pub last: Place,
}

/// The trails of a loop.
#[derive(Default)]
pub struct Trails {
    /// By the place of the carried value.
    pub carried: BTreeMap<usize, Trail>,
    /// Where stacks lie in one of them, by the place of the stacked value.
    pub stacks: BTreeMap<usize, Place>,
}

/// When a stacked value is the carried one of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// The one that it reads.
    Before,
    /// The one that it makes.
    After,
}

/// Finds the trails of a loop that has such results, and gives them memory.
pub fn find(lowering: &mut Lowering<'_>, scan: &Scan, results: &[ValueId]) -> Trails {
    let mut trails = Trails::default();
    if scan.length.size() < LEAST_STEPS {
        return trails;
    }
    let (stacked, next, results) = (scan.stacked(), scan.next(), &results[scan.carries..]);
    for (at, &after) in next.iter().enumerate() {
        let when = |value: ValueId| match value {
            _ if value == scan.carry(at) => Some(When::Before),
            _ if value == after => Some(When::After),
            _ => None,
        };
        let is_free =
            |stack: usize| !trails.stacks.contains_key(&stack) && !lowering.planned.contains_key(&results[stack]);
        let known = stacked.iter().enumerate().filter_map(|(stack, &value)| Some((stack, when(value)?)));
        let left: Vec<(usize, When)> = known.filter(|&(stack, _)| is_free(stack)).collect();
        let Some(&(stack, _)) = left.first() else { continue };
        let trail = Trail::new(lowering, scan, at, results[stack]);
        trails.stacks.extend(left.into_iter().map(|(stack, when)| {
            let place = if when == When::Before { &trail.before } else { &trail.after };
            (stack, place.clone())
        }));
        trails.carried.insert(at, trail);
    }
    trails
}

impl Trail {
    /// The trail of the carried value at a place; it is reported as the memory of `result`.
    fn new(lowering: &mut Lowering<'_>, scan: &Scan, at: usize, result: ValueId) -> Self {
        let ty = scan.body.ty(scan.carry(at)).clone();
        let (steps, dims) = (scan.length.size(), ty.shape.sizes());
        let buffer = lowering.memory((steps + 1) * ty.bytes());
        lowering.buffers[buffer.index()].holds = Some(Held { scans: lowering.scans.clone(), value: result });
        let elements = dims.iter().product::<usize>();
        let from = |row: usize, dims: &[usize]| {
            let layout = Layout { offset: (row * elements) as i64, ..Layout::contiguous(dims) };
            Place { buffer, elem: elem(ty.dtype), layout }
        };
        let stack = [&[steps], &dims[..]].concat();
        let ([first, last], [before, after]) = match scan.reverse {
            false => ([0, steps], [0, 1]),
            true => ([steps, 0], [1, 0]),
        };
        Self {
            first: from(first, &dims),
            before: from(before, &stack),
            after: from(after, &stack),
            last: from(last, &dims),
        }
    }
}
