//! From which level of the memory each launch takes its data.
//!
//! What a launch touches lies in the caches if little else was touched since it was touched last, in the same run or in
//! the one before (Mattson et al., "Evaluation Techniques for Storage Hierarchies", 1970: the reuse distance, here in
//! bytes and for whole buffers).

use super::machine::Machine;
use super::walk::Touched;
use crate::plan::Lowered;

/// Bytes that a launch moves.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Traffic {
    /// From the cache next to a core.
    pub first: f64,
    /// From the second cache.
    pub second: f64,
    /// From the cache that all cores share.
    pub shared: f64,
    /// From and to memory; half of what is written is read before.
    pub memory: f64,
    /// Bytes in whose time none are moved, since others are scattered: of the shared cache, and of memory.
    pub lost: [f64; 2],
    /// Buffers whose first bytes come from the shared cache, and from memory.
    pub fetched: [f64; 2],
}

impl Traffic {
    /// Adds what was touched so many bytes ago, with the shares of it that are scattered and written.
    fn add(
        &mut self,
        distance: f64,
        moved: f64,
        (scattered, written): (f64, f64),
        (machine, threads): (&Machine, usize),
    ) {
        let [first, second, shared] = machine.caches;
        let cores = threads as f64;
        let lost = moved * machine.scattered * scattered;
        match distance {
            near if near <= first * cores / 2.0 => self.first += moved,
            near if near <= second * cores => self.second += moved,
            near if near <= shared => {
                self.shared += moved;
                self.lost[0] += lost;
                self.fetched[0] += 1.0;
            }
            _ => {
                let again = 1.0 + 0.5 * written;
                self.memory += moved * again;
                self.lost[1] += lost * again;
                self.fetched[1] += 1.0;
            }
        }
    }

    /// All of it.
    pub fn bytes(&self) -> f64 {
        self.first + self.second + self.shared + self.memory
    }
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug)]
struct Place {
    buffer: u32,
    start: u64,
    end: u64,
}

impl Place {
    /// Whether most of `self` is a part of `other`.
    fn lies_in(&self, other: &Self) -> bool {
        let common = self.end.min(other.end).saturating_sub(self.start.max(other.start));
        self.buffer == other.buffer && 2 * common >= self.end - self.start
    }
}

/// What each launch of a run moves, of runs that follow one another. `touched` are the bytes that it loads and stores
/// of each parameter, at most its buffer's size.
pub fn traffic(lowered: &Lowered, touched: &[Vec<Touched>], machine: &Machine, threads: usize) -> Vec<Traffic> {
    let program = &lowered.program;
    let order = order(lowered);
    let mut at = 0.0;
    let mut last: Vec<(Place, f64)> = Vec::new();
    let mut found = vec![Traffic::default(); program.launches.len()];
    // The second run finds what the first left; so does the second round of a loop. What is prepared comes before both.
    let prepared: Vec<usize> = (0..program.prepare).collect();
    for &launch in prepared.iter().chain(&order).chain(&order) {
        let mut traffic = Traffic::default();
        let args = &program.launches[launch].args;
        let before = at;
        for (arg, (touched, &size)) in args.iter().zip(touched[launch].iter().zip(&lowered.report[launch].sizes)) {
            if touched.bytes() == 0.0 {
                continue;
            }
            let place = Place { buffer: arg.buffer, start: arg.offset, end: arg.offset + size.max(1) };
            let bytes = touched.bytes();
            let moved = bytes.min(size as f64);
            let seen = last.iter().filter(|(other, _)| place.lies_in(other)).map(|&(_, when)| when);
            let distance = seen.reduce(f64::max).map_or(f64::INFINITY, |when| before - when + moved);
            let scattered = touched.scattered / bytes;
            traffic.add(distance, moved, (scattered, touched.stored / bytes), (machine, threads));
            at += moved;
            last.retain(|(other, _)| !other.lies_in(&place));
            last.push((place, at));
        }
        found[launch] = traffic;
    }
    found
}

/// The launches of a run in the order in which they run, each loop twice; those that prepare are no part of it.
fn order(lowered: &Lowered) -> Vec<usize> {
    let program = &lowered.program;
    let mut order: Vec<usize> = Vec::new();
    let mut at = program.prepare;
    while at < program.launches.len() {
        let outer = program.loops.iter().find(|each| each.launches.start == at);
        let end = outer.map_or(at + 1, |each| each.launches.end);
        for _ in 0..if outer.is_some() { 2 } else { 1 } {
            order.extend(at..end);
        }
        at = end;
    }
    order
}
