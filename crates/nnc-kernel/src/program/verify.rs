//! The rules of a program. All violations are collected.
//!
//! - Kernels keep the rules of [`crate::ir::verify`].
//! - A launch names a kernel that exists and gives each parameter its memory, aligned to its element, which moves only
//!   with loops that stand around it.
//! - Loops lie within one another or apart, in order, and have launches and steps. Only outermost loops have stages,
//!   one for each of their launches, which are serial, an inner loop in one of them, and then no index.
//! - Launches side by side are two or more, of one phase each; sets lie apart, in order, after what prepares, within no
//!   loop with stages and across the bounds of none. None is given a place that another one writes.
//! - Pages that change their place are whole, and of an external that their launch is the last to read; no page comes
//!   to two places, or two to one.
//!
//! Not checked: that places lie in their buffers and that different ones share no bytes, since a launch does not say
//! how many it touches. The plan's arena has its own tests.

use super::{ArgRef, Loop, PAGE, Program, Reuse};
use crate::ir::verify::{Violation, verify};
use crate::ir::{Direction, Param};
use std::ops::Range;

/// Every rule that a program breaks.
///
/// # Errors
/// The violations, at least one.
pub fn verify_program(program: &Program) -> Result<(), Vec<Violation>> {
    let mut found: Vec<Violation> =
        program.kernels.iter().filter_map(|kernel| verify(kernel).err()).flatten().collect();
    let spent = program.spent();
    let parts = [
        of_each("launch", program.launches.len(), |number| launch(program, number)),
        of_each("loop", program.loops.len(), |number| repeated(program, number).map(str::to_owned)),
        of_each("set", program.abreast.len(), |number| together(program, number).map(str::to_owned)),
        of_each("reuse", program.reused.len(), |number| reused(program, &spent, number).map(str::to_owned)),
    ];
    found.extend(parts.into_iter().flatten());
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// What is wrong with each of `count` things of a kind.
fn of_each(kind: &str, count: usize, wrong: impl Fn(usize) -> Option<String>) -> Vec<Violation> {
    let found = (0..count).filter_map(|number| Some((number, wrong(number)?)));
    found.map(|(number, what)| Violation { place: format!("{kind} {number}"), what }).collect()
}

fn launch(program: &Program, number: usize) -> Option<String> {
    let launch = &program.launches[number];
    let Some(kernel) = program.kernels.get(launch.kernel as usize) else {
        return Some(format!("there is no kernel {}", launch.kernel));
    };
    let (name, wanted, given) = (&kernel.name, kernel.params.len(), launch.args.len());
    if wanted != given {
        return Some(format!("`{name}` takes {wanted} arguments, not {given}"));
    }
    let depth = program.loops.iter().filter(|each| each.launches.contains(&number)).count();
    let what = kernel.params.iter().zip(&launch.args).find_map(|(param, arg)| misplaced(param, arg, depth))?;
    Some(format!("an argument of `{name}` {what}"))
}

/// What is wrong with the place of an argument with `depth` loops around it.
fn misplaced(param: &Param, arg: &ArgRef, depth: usize) -> Option<&'static str> {
    let size = param.elem.size() as u64;
    let is_aligned = |bytes: u64| bytes.is_multiple_of(size);
    if !is_aligned(arg.offset) || !arg.strides.iter().all(|stride| is_aligned(stride.bytes.unsigned_abs())) {
        return Some("is not aligned to its element");
    }
    let moves = arg.strides.iter().any(|stride| stride.depth as usize >= depth);
    moves.then_some("moves with a loop that is not around it")
}

fn repeated(program: &Program, number: usize) -> Option<&'static str> {
    let each = &program.loops[number];
    let range = &each.launches;
    let after = &program.loops[number + 1..];
    let is_apart = |other: &Loop| other.launches.start >= range.end;
    let is_inside = |other: &Loop| other.launches.start >= range.start && other.launches.end <= range.end;
    if range.is_empty() || range.end > program.launches.len() || each.steps == 0 {
        Some("it has no launch or no step")
    } else if !after.iter().all(|other| is_apart(other) || is_inside(other)) {
        Some("a later one begins before it, or ends after it")
    } else if !each.stages.is_empty() && !has_good_stages(program, number) {
        Some("its stages are not whole, or not serial, or not outermost")
    } else {
        None
    }
}

/// Whether the stages of a loop keep the rules.
fn has_good_stages(program: &Program, number: usize) -> bool {
    let each = &program.loops[number];
    let (range, stages) = (&each.launches, &each.stages);
    let is_outermost = program.loops[..number].iter().all(|before| before.launches.end <= range.start);
    let is_serial = program.launches[range.clone()].iter().all(|launch| launch.serial);
    let inner = program.loops[number + 1..].iter().filter(|inner| inner.launches.end <= range.end);
    let of = |launches: &Range<usize>| &stages[launches.start - range.start..launches.end - range.start];
    stages.len() == range.len()
        && is_outermost
        && is_serial
        && each.index.is_none()
        && inner.into_iter().all(|inner| of(&inner.launches).iter().all(|stage| *stage == of(&inner.launches)[0]))
}

fn together(program: &Program, number: usize) -> Option<&'static str> {
    let range = &program.abreast[number];
    let earliest = program.abreast[..number].last().map_or(program.prepare, |before| before.end);
    let is_around = |each: &Loop| each.launches.start <= range.start && range.end <= each.launches.end;
    let is_apart = |each: &Loop| each.launches.end <= range.start || range.end <= each.launches.start;
    let is_whole = |each: &Loop| is_apart(each) || (is_around(each) && each.stages.is_empty());
    if range.len() < 2 || range.end > program.launches.len() {
        Some("it has no two launches")
    } else if range.start < earliest {
        Some("it begins among what prepares, or in a set before it")
    } else if !program.loops.iter().all(is_whole) {
        Some("it crosses the bound of a loop, or is in one with stages")
    } else if !range.clone().all(|at| has_one_phase(program, at)) {
        Some("a launch has several phases, which need a barrier")
    } else if range.clone().any(|at| (at + 1..range.end).any(|other| clash(program, at, other))) {
        Some("a launch is given a place that another one writes")
    } else {
        None
    }
}

fn reused(program: &Program, spent: &[Vec<u32>], number: usize) -> Option<&'static str> {
    let own = &program.reused[number];
    let meets = |one: usize, other: usize, bytes: usize| one < other + bytes && other < one + own.bytes;
    let clashes = |other: &Reuse| {
        meets(own.to, other.to, other.bytes)
            || (own.external == other.external && meets(own.from, other.from, other.bytes))
    };
    let mut touched = program.launches.iter().take(own.after + 1).flat_map(|launch| &launch.args);
    let pages = own.to as u64..(own.to + own.bytes) as u64;
    if own.bytes == 0 || ![own.from, own.to, own.bytes].iter().all(|bytes| bytes.is_multiple_of(PAGE)) {
        Some("it is not of whole pages")
    } else if !spent.get(own.after).is_some_and(|spent| spent.contains(&own.external)) {
        Some("its launch is not the last to read the external")
    } else if program.reused[..number].iter().any(clashes) {
        Some("one of the pages is in another place already")
    } else if touched.any(|arg| arg.buffer == 0 && pages.contains(&arg.offset)) {
        Some("what lies there in the arena was made before")
    } else {
        None
    }
}

fn has_one_phase(program: &Program, launch: usize) -> bool {
    let kernel = program.kernels.get(program.launches[launch].kernel as usize);
    kernel.is_some_and(|kernel| kernel.phases.len() == 1)
}

/// Whether two launches are given one place that one of them writes.
fn clash(program: &Program, one: usize, other: usize) -> bool {
    let is_one = |(a, writes_a): (&ArgRef, bool), (b, writes_b): (&ArgRef, bool)| {
        (writes_a || writes_b) && a.buffer == b.buffer && a.offset == b.offset
    };
    places(program, one).any(|a| places(program, other).any(|b| is_one(a, b)))
}

/// The places that a launch is given, and whether it writes there.
fn places(program: &Program, launch: usize) -> impl Iterator<Item = (&ArgRef, bool)> {
    let launch = &program.launches[launch];
    let params = program.kernels.get(launch.kernel as usize).map_or(&[][..], |kernel| &kernel.params);
    launch.args.iter().zip(params).map(|(arg, param)| (arg, param.direction != Direction::In))
}

#[cfg(test)]
mod tests {
    use super::super::Launch;
    use super::*;
    use crate::ir::{Elem, KernelBuilder};

    /// Two launches of a kernel that reads its first parameter and writes its second, at these places of the arena.
    fn program(places: [[u64; 2]; 2], phases: usize) -> Program {
        let mut builder = KernelBuilder::new("k");
        builder.param("x", Elem::F32, Direction::In);
        builder.param("y", Elem::F32, Direction::Out);
        (0..phases).for_each(|_| builder.phase(1, |_, _| {}));
        let args = |places: [u64; 2]| places.map(|place| ArgRef::new(0, place)).to_vec();
        let launch = |places| Launch { kernel: 0, args: args(places), serial: true, work: 1 };
        let (kernels, launches) = (vec![builder.finish()], places.map(launch).to_vec());
        Program { kernels, launches, abreast: std::iter::once(0..2).collect(), ..Program::default() }
    }

    fn told(program: &Program) -> Vec<String> {
        let found = verify_program(program).err().unwrap_or_default();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn launches_side_by_side_leave_each_other_alone() {
        assert!(told(&program([[0, 64], [0, 128]], 1)).is_empty());
        let shared = ["set 0: a launch is given a place that another one writes"];
        assert_eq!(told(&program([[0, 64], [64, 128]], 1)), shared);
        assert_eq!(told(&program([[0, 64], [0, 64]], 1)), shared);
        let phases = ["set 0: a launch has several phases, which need a barrier"];
        assert_eq!(told(&program([[0, 64], [0, 128]], 2)), phases);
    }

    /// The first launch makes something at `PAGE` of the arena out of external 0.
    #[test]
    fn only_whole_pages_that_are_free_change_their_place() {
        let mut good = Program { abreast: vec![], prepare: 1, ..program([[0, PAGE as u64], [0, 128]], 1) };
        good.launches[0].args[0] = ArgRef::new(1, 0);
        let reuse = Reuse { after: 0, external: 0, from: 0, to: 2 * PAGE, bytes: PAGE };
        let with = |reused: &[Reuse]| told(&Program { reused: reused.to_vec(), ..good.clone() });
        assert!(with(&[reuse, Reuse { from: PAGE, to: 0, ..reuse }]).is_empty());
        assert_eq!(with(&[Reuse { bytes: 64, ..reuse }]), ["reuse 0: it is not of whole pages"]);
        let early = ["reuse 0: its launch is not the last to read the external"];
        assert_eq!(with(&[Reuse { external: 1, ..reuse }]), early);
        let twice = ["reuse 1: one of the pages is in another place already"];
        assert_eq!(with(&[reuse, Reuse { to: 3 * PAGE, ..reuse }]), twice);
        assert_eq!(with(&[reuse, Reuse { from: PAGE, ..reuse }]), twice);
        assert_eq!(with(&[Reuse { to: PAGE, ..reuse }]), ["reuse 0: what lies there in the arena was made before"]);
    }

    #[test]
    fn launches_side_by_side_lie_within_bounds() {
        let good = program([[0, 64], [0, 128]], 1);
        let prepared = Program { prepare: 1, ..good.clone() };
        assert_eq!(told(&prepared), ["set 0: it begins among what prepares, or in a set before it"]);
        let twice = Program { abreast: vec![0..2, 1..3], ..good.clone() };
        assert_eq!(told(&twice), ["set 1: it has no two launches"]);
        let each = |launches| Loop { launches, steps: 2, reverse: false, index: None, stages: vec![] };
        assert!(told(&Program { loops: vec![each(0..2)], ..good.clone() }).is_empty());
        let crossed = Program { loops: vec![each(1..2)], ..good.clone() };
        assert_eq!(told(&crossed), ["set 0: it crosses the bound of a loop, or is in one with stages"]);
    }
}
