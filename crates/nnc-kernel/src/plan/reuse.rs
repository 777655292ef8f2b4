//! Memory of externals that nothing reads any more, in the place of memory of the arena that nothing has touched yet.
//!
//! Weights leave their pages behind when they are packed. Given back to the system, these would come again as other
//! pages for the next packed weights, each cleared first, which takes longer than packing does. So they are put where
//! the arena is touched next, and what they hold there means nothing, as what any memory of the arena holds at first.
//!
//! Only whole pages are handed on, so the first packed weights, and what lies on a page that is touched already, take
//! new ones. No more pages are in use than when the first weights are packed: what is handed on was there.

use crate::program::{PAGE, Reuse};
use std::ops::Range;

/// What launches that prepare do with memory, in bytes.
pub struct Facts<'a> {
    /// For each of them the parts of the arena that it touches.
    pub touched: &'a [Vec<Range<usize>>],
    /// For each of them the externals that are read no more after it.
    pub spent: &'a [Vec<u32>],
    /// The size of each external.
    pub externals: &'a [usize],
    /// The size of the arena.
    pub arena: usize,
}

/// Which pages are handed on, in the order of the launches. Those that are touched earlier get theirs first.
pub fn find(facts: &Facts<'_>) -> Vec<Reuse> {
    let first = first_touches(facts);
    let mut order: Vec<usize> = (0..first.len()).collect();
    order.sort_by_key(|&page| first[page]);
    let mut order = order.into_iter().peekable();
    let mut found: Vec<Reuse> = Vec::new();
    for (after, spent) in facts.spent.iter().enumerate() {
        for &external in spent {
            for from in 0..facts.externals[external as usize] / PAGE {
                while order.next_if(|&page| first[page] <= after).is_some() {}
                let Some(to) = order.next() else { return found };
                add(&mut found, Reuse { after, external, from: from * PAGE, to: to * PAGE, bytes: PAGE });
            }
        }
    }
    found
}

/// For each whole page of the arena the launch that touches it first; of those that no launch here touches, more than
/// all.
fn first_touches(facts: &Facts<'_>) -> Vec<usize> {
    let mut first = vec![usize::MAX; facts.arena / PAGE];
    let count = first.len();
    for (at, ranges) in facts.touched.iter().enumerate() {
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let pages = (range.start / PAGE).min(count)..range.end.div_ceil(PAGE).min(count);
            first[pages].iter_mut().for_each(|first| *first = at.min(*first));
        }
    }
    first
}

/// Adds a page; one that follows on the last goes with it.
fn add(found: &mut Vec<Reuse>, page: Reuse) {
    match found.last_mut() {
        Some(last)
            if (last.after, last.external) == (page.after, page.external)
                && (last.from + last.bytes, last.to + last.bytes) == (page.from, page.to) =>
        {
            last.bytes += page.bytes;
        }
        Some(_) | None => found.push(page),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first launch packs external 0 to pages 3 and 4 and a part of 5, the second one external 1 to pages 0 and 1.
    #[test]
    fn pages_go_where_the_arena_is_touched_next() {
        let parts = [3 * PAGE..5 * PAGE + 64, 0..2 * PAGE];
        let touched = parts.map(|part| std::iter::once(part).collect::<Vec<_>>());
        let (spent, externals) = ([vec![0], vec![1]], [3 * PAGE - 1, 2 * PAGE]);
        let facts = Facts { touched: &touched, spent: &spent, externals: &externals, arena: 6 * PAGE + 64 };
        let reuse = |after, external, from, to, pages| Reuse {
            after,
            external,
            from: from * PAGE,
            to: to * PAGE,
            bytes: pages * PAGE,
        };
        // Page 5 is touched in part, and what is behind page 5 is no whole page.
        assert_eq!(find(&facts), [reuse(0, 0, 0, 0, 2), reuse(1, 1, 0, 2, 1)]);
        assert_eq!(find(&Facts { arena: 2 * PAGE, ..facts }), [reuse(0, 0, 0, 0, 2)]);
    }

    #[test]
    fn what_is_smaller_than_a_page_stays() {
        let touched = [vec![], vec![]];
        let facts = Facts { touched: &touched, spent: &[vec![0], vec![]], externals: &[PAGE - 1], arena: 9 * PAGE };
        assert!(find(&facts).is_empty());
    }
}
