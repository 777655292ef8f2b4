//! The choice of the channels that go.
//!
//! What a channel is worth is the sum of the squares of all weights that are its own, divided by the mean of its group,
//! so that groups of different layers compare (Fang and others, 2023, section 3.3). Multiply-adds of different layers
//! take different times, so it is divided by the pace of the group ([`Free`]), too: of channels that are worth as much,
//! those go whose multiply-adds take longest. The least go first, in steps that keep vectors full, until a share of the
//! multiply-adds is gone; the last step of a group stays. Where the same share is to go of each group, it is the share
//! of a group that a step ends at by which steps are ordered, and steps are so small that shares differ little.

use super::groups::{Cost, Group};
use super::labels::{Fixed, Label};
use super::trace::Channels;
use crate::prune::Scope;
use nnc_graph::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is to go.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Wanted {
    /// The share of the multiply-adds, above 0 and below 1.
    pub share: f64,
    /// Whether the least channels of all groups go, or the same share of each group.
    pub scope: Scope,
    /// What the number of channels that stay is a multiple of, where it changes and the group is large enough.
    pub multiple: usize,
}

/// Why a group is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stays {
    /// Its channels must stay.
    Fixed(Fixed),
    /// It was not asked for.
    NotAsked,
    /// One channel is the least.
    Single,
    /// No product gets smaller by it.
    NoProducts,
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(reason) => reason.fmt(f),
            Self::NotAsked => f.write_str("not asked for"),
            Self::Single => f.write_str("a single one"),
            Self::NoProducts => f.write_str("no product gets smaller"),
        }
    }
}

/// A group that may lose channels.
#[derive(Clone, Copy, Debug)]
pub struct Free<'g> {
    /// The group.
    pub group: &'g Group,
    /// The time that goes with one of its multiply-adds, in that of the network's mean one: above 0. It counts where
    /// the least channels of all groups go.
    pub pace: f64,
}

/// Channels of a group that go together, and their rank among all.
struct Step {
    group: usize,
    rank: f64,
    channels: Vec<Label>,
}

/// What the channels of each class are worth, by the tensors of parameters, which lack what is `gone` already.
pub fn importance(
    channels: &Channels,
    gone: &BTreeSet<Label>,
    tensor: impl Fn(&str) -> Option<Tensor>,
) -> BTreeMap<Label, f64> {
    let mut worth: BTreeMap<Label, f64> = BTreeMap::new();
    for (path, axes) in channels.residents.iter().filter(|(path, _)| !path.starts_with('$')) {
        let Some(tensor) = tensor(path).filter(|tensor| tensor.dtype().is_float()) else { continue };
        let values = tensor.to_f64();
        for (axis, labels) in axes.iter().enumerate() {
            let inner: usize = tensor.dims()[axis + 1..].iter().product();
            let left = labels.iter().map(|&label| channels.labels.class(label)).filter(|class| !gone.contains(class));
            let left: Vec<Label> = left.collect();
            for (run, &class) in values.chunks_exact(inner).zip(left.iter().cycle()) {
                *worth.entry(class).or_default() += run.iter().map(|value| value * value).sum::<f64>();
            }
        }
    }
    worth
}

/// Steps that a group has at least, where its channels are enough. The same share can be taken of each group only where
/// all of them have several.
fn least_steps(scope: Scope) -> usize {
    match scope {
        Scope::Global => 2,
        Scope::Layer => 8,
    }
}

/// How many channels of a group go at a time, so that each axis that has them keeps a multiple of so many positions;
/// half as many, or a quarter and so on, in a group that would have fewer steps than it should.
fn step(group: &Group, multiple: usize, scope: Scope) -> usize {
    let positions = group.members.iter().map(|member| member.positions).min().unwrap_or(1);
    let mut step = multiple / common_divisor(multiple, positions);
    while step > 1 && group.channels.len() < least_steps(scope) * step {
        step = step.div_ceil(2);
    }
    step
}

/// About half of the channels of a group of two or more, as steps come: so many as leave whole steps. Which ones they
/// are does not matter to how long the rest takes.
pub fn half(group: &Group, multiple: usize) -> &[Label] {
    let left = (group.channels.len() / 2).next_multiple_of(step(group, multiple, Scope::Global));
    &group.channels[left..]
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Why a group stays, if it does; `asked` tells whether it was asked for.
pub fn stays(group: &Group, asked: bool, cost: &Cost, gone: &BTreeSet<Label>) -> Option<Stays> {
    match group.fixed {
        Some(reason) => Some(Stays::Fixed(reason)),
        None if !asked => Some(Stays::NotAsked),
        None if cost.of_group(group, gone) == 0 => Some(Stays::NoProducts),
        None if group.channels.len() == 1 => Some(Stays::Single),
        None => None,
    }
}

/// What is gone when the share of the multiply-adds is, together with what was before.
///
/// # Errors
/// The share of all that may go, if that is less.
pub fn choose(
    groups: &[Free<'_>],
    worth: &BTreeMap<Label, f64>,
    (cost, before): (&Cost, &BTreeSet<Label>),
    wanted: Wanted,
) -> Result<BTreeSet<Label>, f64> {
    let each = groups.iter().enumerate();
    let mut steps: Vec<Step> = each.flat_map(|(at, free)| steps((at, free), worth, wanted)).collect();
    steps.sort_by(|a, b| a.rank.total_cmp(&b.rank).then_with(|| a.channels.cmp(&b.channels)));
    let whole = cost.of(before) as f64;
    let without = |steps: &[Step]| -> BTreeSet<Label> {
        before.iter().chain(steps.iter().flat_map(|step| &step.channels)).copied().collect()
    };
    let share = |steps: &[Step]| 1.0 - cost.of(&without(steps)) as f64 / whole.max(1.0);
    if share(&steps) < wanted.share {
        return Err(share(&steps));
    }
    let counts: Vec<usize> = (0..=steps.len()).collect();
    steps.truncate(counts.partition_point(|&count| share(&steps[..count]) < wanted.share));
    let last = steps.last().map_or(0.0, |step| step.rank);
    let may_stay = |step: &Step| match wanted.scope {
        Scope::Global => true,
        Scope::Layer => step.rank == last,
    };
    spare(&mut steps, may_stay, |steps| share(steps) >= wanted.share);
    Ok(without(&steps))
}

/// Takes those steps back that may stay and are not needed, those of the highest rank first; of a group only its last
/// can be.
fn spare(steps: &mut Vec<Step>, may_stay: impl Fn(&Step) -> bool, is_enough: impl Fn(&[Step]) -> bool) {
    for at in (0..steps.len()).rev().filter(|&at| may_stay(&steps[at])).collect::<Vec<_>>() {
        let step = steps.remove(at);
        let is_last = steps[at..].iter().all(|later| later.group != step.group);
        if !is_last || !is_enough(steps) {
            steps.insert(at, step);
        }
    }
}

/// The steps in which a group loses its channels, the least first.
fn steps((at, free): (usize, &Free<'_>), worth: &BTreeMap<Label, f64>, wanted: Wanted) -> Vec<Step> {
    let Free { group, pace } = *free;
    let mut ranked: Vec<(f64, Label)> =
        group.channels.iter().map(|&class| (worth.get(&class).copied().unwrap_or_default(), class)).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mean = ranked.iter().map(|(worth, _)| worth).sum::<f64>() / ranked.len() as f64;
    let (size, count) = (step(group, wanted.multiple, wanted.scope), ranked.len());
    // The first step leaves a multiple.
    let first = (count - 1) % size + 1;
    let (mut start, mut end, mut made) = (0, first, Vec::new());
    while end < count {
        let part = &ranked[start..end];
        let rank = match wanted.scope {
            Scope::Global => {
                let worth = part.iter().map(|(worth, _)| worth).sum::<f64>() / part.len() as f64;
                worth / mean.max(1e-30) / pace
            }
            Scope::Layer => end as f64 / count as f64,
        };
        made.push(Step { group: at, rank, channels: part.iter().map(|&(_, class)| class).collect() });
        (start, end) = (end, end + size);
    }
    made
}
