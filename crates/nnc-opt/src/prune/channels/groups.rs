//! Groups of coupled channels: what a network can lose, and what that saves.
//!
//! Two channels are of one group if the same axes of the same values have them: those of all layers that a residual sum
//! connects, the heads of an attention, the hidden units of a layer. (Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any
//! Structural Pruning", CVPR 2023, whose groups are of layers; here they follow from the ops of the graph.)

use super::labels::{Fixed, Label, Labels};
use super::trace::{Channels, Traced};
use nnc_graph::{Graph, Op};
use std::collections::{BTreeMap, BTreeSet};

/// An axis of a parameter or state that has the channels of a group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    /// The path.
    pub path: String,
    /// The axis.
    pub axis: usize,
    /// Positions along it for each channel: more than one where places follow each channel, or a head has several
    /// units.
    pub positions: usize,
}

/// Channels that may go or stay one by one, and all that goes with each.
#[derive(Clone, Debug)]
pub struct Group {
    /// The parameters and states, in the order of paths.
    pub members: Vec<Member>,
    /// The classes of its channels that are still there, in their order.
    pub channels: Vec<Label>,
    /// Why they stay, if they must.
    pub fixed: Option<Fixed>,
}

impl Group {
    /// How many channels of a layer each of its channels is: several where those of the groups of a convolution, or of a
    /// head, only go together. Most members tell it: what a grouped convolution reads has one position for as many
    /// channels as there are groups, and behind `flatten` there is one for each place of an image.
    pub fn width(&self) -> usize {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        self.members.iter().for_each(|member| *counts.entry(member.positions).or_default() += 1);
        let most = counts.into_iter().max_by_key(|&(positions, count)| (count, std::cmp::Reverse(positions)));
        most.map_or(1, |(positions, _)| positions)
    }
}

/// The groups of traced graphs without those of `gone`, in program order. What parameters have no channels of is left
/// out, and so are taps of kernels and what the compiler keeps for itself.
pub fn groups(channels: &Channels, traced: &[Traced], gone: &BTreeSet<Label>) -> Vec<Group> {
    let places = places(&channels.labels, traced);
    let members = members(channels);
    let mut found: BTreeMap<(&[u32], Option<Fixed>), Group> = BTreeMap::new();
    for (&class, owned) in members.iter().filter(|(class, _)| !gone.contains(class)) {
        let fixed = channels.labels.fixed(class);
        if fixed == Some(Fixed::Places) {
            continue;
        }
        let key = (places.get(&class).map_or(&[][..], Vec::as_slice), fixed);
        let new = || Group { members: owned.clone(), channels: Vec::new(), fixed };
        found.entry(key).or_insert_with(new).channels.push(class);
    }
    let mut groups: Vec<Group> = found.into_values().collect();
    groups.sort_by_key(|group| group.channels.first().copied());
    groups
}

/// For each class the axes of values that have it, by number.
fn places(labels: &Labels, traced: &[Traced]) -> BTreeMap<Label, Vec<u32>> {
    let mut places: BTreeMap<Label, Vec<u32>> = BTreeMap::new();
    let mut number = 0;
    for graph in traced {
        graph.each_axis(&mut |axis| {
            for class in axis.iter().map(|&label| labels.class(label)).filter(|class| !class.is_reason()) {
                let of = places.entry(class).or_default();
                if of.last() != Some(&number) {
                    of.push(number);
                }
            }
            number += 1;
        });
    }
    places
}

/// For each class the axes of parameters and states that have it.
fn members(channels: &Channels) -> BTreeMap<Label, Vec<Member>> {
    let mut members: BTreeMap<Label, Vec<Member>> = BTreeMap::new();
    for (path, axes) in channels.residents.iter().filter(|(path, _)| !path.starts_with('$')) {
        for (axis, labels) in axes.iter().enumerate() {
            for &label in labels {
                let of = members.entry(channels.labels.class(label)).or_default();
                match of.last_mut().filter(|last| last.path == *path && last.axis == axis) {
                    Some(member) => member.positions += 1,
                    None => of.push(Member { path: path.clone(), axis, positions: 1 }),
                }
            }
        }
    }
    members
}

/// The multiply-adds of the products and convolutions of a graph, by what is left of their axes.
#[derive(Clone, Debug)]
pub struct Cost {
    terms: Vec<Term>,
}

/// A product of sizes.
#[derive(Clone, Debug)]
struct Term {
    /// Times that it is computed, by what stays in any case.
    times: u64,
    /// Classes along each axis that may lose some, beside the number of positions that stay.
    axes: Vec<(u64, Vec<Label>)>,
}

impl Cost {
    /// That of a graph.
    pub fn new(graph: &Graph, traced: &Traced, labels: &Labels) -> Self {
        let mut cost = Self { terms: Vec::new() };
        cost.add(graph, traced, (labels, 1));
        cost
    }

    fn add(&mut self, graph: &Graph, traced: &Traced, (labels, times): (&Labels, u64)) {
        for (id, node) in graph.nodes() {
            let axes = |at: usize| traced.axes(node.operands[at]);
            let result = || traced.axes(node.results[0]);
            let factors = match &node.op {
                Op::Dot { a_axes, .. } => {
                    let summed = a_axes.iter().map(|&axis| &axes(0)[axis]);
                    result().iter().chain(summed).collect::<Vec<_>>()
                }
                Op::Conv(_) | Op::ConvLast(_) => result().iter().chain(&axes(1)[1..]).collect(),
                Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. } => {
                    axes(0).iter().chain(&axes(1)[1..]).collect()
                }
                Op::Scan(scan) => {
                    let steps = times * scan.length.size() as u64;
                    self.add(&scan.body, &traced.bodies[&id], (labels, steps));
                    continue;
                }
                _ => continue,
            };
            let mut term = Term { times, axes: Vec::new() };
            for axis in factors {
                let (fixed, free): (Vec<Label>, Vec<Label>) =
                    axis.iter().map(|&label| labels.class(label)).partition(|&class| labels.fixed(class).is_some());
                match free.is_empty() {
                    true => term.times *= fixed.len() as u64,
                    false => term.axes.push((fixed.len() as u64, free)),
                }
            }
            self.terms.push(term);
        }
    }

    /// Multiply-adds without the channels of `gone`.
    pub fn of(&self, gone: &BTreeSet<Label>) -> u64 {
        self.terms.iter().map(|term| term.left(gone)).sum()
    }

    /// Those of the products that channels of a group take part in.
    pub fn of_group(&self, group: &Group, gone: &BTreeSet<Label>) -> u64 {
        let Some(first) = group.channels.first() else { return 0 };
        let reads = |term: &&Term| term.axes.iter().any(|(_, free)| free.contains(first));
        self.terms.iter().filter(reads).map(|term| term.left(gone)).sum()
    }
}

impl Term {
    fn left(&self, gone: &BTreeSet<Label>) -> u64 {
        let left = |(fixed, free): &(u64, Vec<Label>)| {
            fixed + free.iter().filter(|class| !gone.contains(class)).count() as u64
        };
        self.axes.iter().map(left).product::<u64>() * self.times
    }
}
