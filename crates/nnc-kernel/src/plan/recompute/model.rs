//! The lives of a program's values, in launches, and how they change with what is dropped.

use crate::lower::cost;
use crate::plan::{Lowered, arena, in_use};
use nnc_graph::{Graph, NodeId, Op, ValueId};
use nnc_opt::fuse::{Class, GroupKind, Partition, Views, class};
use nnc_opt::recompute::{is_cheap, sources};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// A value that lies in the arena, or would if it were read late: the result of a product that only its own kernel has
/// read.
#[derive(Clone, PartialEq, Debug)]
pub struct Value {
    /// Which value of the graph.
    pub id: ValueId,
    /// What it takes.
    pub bytes: usize,
    /// The group that makes it.
    pub group: usize,
    /// Whether it lies there when nothing is dropped.
    pub is_stored: bool,
    /// Whether it is computed again with what reads it, instead of by a kernel of its own.
    pub is_cheap: bool,
    /// Whether it may be dropped at all.
    pub may_drop: bool,
    /// The launches that need it when nothing is dropped.
    needed: RangeInclusive<usize>,
    /// The first and the last launch of each group that reads it.
    uses: Vec<(usize, usize)>,
    /// The last launch before the longest pause.
    pub until: usize,
    /// Values of the model from which it is computed again.
    pub sources: Vec<usize>,
    /// Cycles that it takes to compute it again.
    pub work: f64,
}

/// How long a value lives.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Life {
    /// The first launch after the pause that reads it, if there is one: when it is computed again if it is dropped.
    pub again: Option<usize>,
    /// The last launch that needs it.
    pub last: usize,
}

/// What is to be expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outlook {
    /// By value.
    pub lives: Vec<Life>,
    /// Bytes in use, by launch.
    pub in_use: Vec<usize>,
}

impl Outlook {
    /// The fullest launch and its bytes.
    pub fn peak(&self) -> (usize, usize) {
        let most = self.in_use.iter().copied().enumerate().max_by_key(|&(at, bytes)| (bytes, std::cmp::Reverse(at)));
        most.unwrap_or_default()
    }
}

/// A program.
#[derive(Clone, Debug)]
pub struct Model {
    /// In program order, so that sources come first.
    pub values: Vec<Value>,
    /// The values of each group.
    pub groups: Vec<Vec<usize>>,
    /// For each node when it runs.
    pub times: Vec<usize>,
    /// Bytes in use, by launch, besides those of the values.
    fixed: Vec<usize>,
    /// What a group needs besides its values while it runs.
    workspaces: Vec<usize>,
}

/// Smaller values are not worth a thought.
const SMALL: usize = 1 << 12;

/// A pause is at least such a part of the launches.
const PAUSES: usize = 16;

/// Operations in a cycle, and bytes from memory in a cycle, roughly, of one core.
const FLOPS: f64 = 32.0;
const BYTES: f64 = 4.0;

impl Model {
    /// The values of a lowered graph, and what else fills its arena.
    pub fn new(graph: &Graph, partition: &Partition, lowered: &Lowered) -> Self {
        let spans = spans(graph, partition, lowered);
        let (group_of, views) = (partition.group_of(graph), Views::new(graph));
        let mut times = vec![0; graph.node_count()];
        graph.nodes().for_each(|(id, _)| {
            times[id.index()] = spans[group_of[id.index()]].as_ref().map_or(0, |span| *span.start())
        });
        let found = Finder { graph, partition, lowered, views, group_of, spans }.values();
        let mut model = Self { groups: vec![Vec::new(); partition.groups.len()], times, ..found };
        model.values.iter().enumerate().for_each(|(at, value)| model.groups[value.group].push(at));
        model
    }

    /// What is to be expected when some values are dropped.
    pub fn outlook(&self, dropped: &[bool]) -> Outlook {
        let lives = self.lives(dropped);
        let mut change = vec![0isize; self.fixed.len() + 1];
        let mut live = |range: RangeInclusive<usize>, bytes: usize| {
            change[*range.start()] += bytes as isize;
            change[*range.end() + 1] -= bytes as isize;
        };
        for (at, value) in self.values.iter().enumerate() {
            let life = lives[at];
            match (life.again, dropped[at]) {
                (Some(again), true) => {
                    live(again..=life.last, value.bytes);
                    if !value.is_cheap {
                        live(again..=again, self.workspaces[value.group]);
                    }
                    if value.is_stored {
                        live(*value.needed.start()..=value.until, value.bytes);
                    }
                }
                (Some(_), false) => live(*value.needed.start()..=life.last, value.bytes),
                (None, _) if value.is_stored => live(*value.needed.start()..=life.last, value.bytes),
                (None, _) => {}
            }
        }
        let sums = change.iter().scan(0isize, |sum, change| {
            *sum += change;
            Some(sum.unsigned_abs())
        });
        let in_use = sums.zip(&self.fixed).map(|(bytes, fixed)| bytes + fixed).collect();
        Outlook { lives, in_use }
    }

    /// Lives from the last value to the first, since what is computed again reads its sources then.
    fn lives(&self, dropped: &[bool]) -> Vec<Life> {
        let mut lives: Vec<Life> =
            self.values.iter().map(|value| Life { again: None, last: *value.needed.end() }).collect();
        let read = |lives: &mut Vec<Life>, at: usize, (first, last): (usize, usize)| {
            if last > self.values[at].until {
                let again = lives[at].again.map_or(first, |again| again.min(first));
                lives[at] = Life { again: Some(again), last: lives[at].last.max(last) };
            }
        };
        for at in (0..self.values.len()).rev() {
            self.values[at].uses.iter().for_each(|&span| read(&mut lives, at, span));
            if let (true, Some(again)) = (dropped[at], lives[at].again) {
                self.values[at].sources.iter().for_each(|&source| read(&mut lives, source, (again, again)));
            }
        }
        lives
    }
}

/// The first and the last launch of each group.
fn spans(graph: &Graph, partition: &Partition, lowered: &Lowered) -> Vec<Option<RangeInclusive<usize>>> {
    let group_of = partition.group_of(graph);
    let mut spans: Vec<Option<RangeInclusive<usize>>> = vec![None; partition.groups.len()];
    for (at, launch) in lowered.report.iter().enumerate() {
        let group = launch.scans.first().map(|scan| group_of[scan.index()]).or(launch.group);
        let Some(group) = group else { continue };
        let first = spans[group].as_ref().map_or(at, |span| *span.start());
        spans[group] = Some(first..=at);
    }
    spans
}

/// What each value in the arena takes, and the launches that need it.
type Buffers = BTreeMap<ValueId, (usize, RangeInclusive<usize>)>;

/// What values are looked for in.
struct Finder<'a> {
    graph: &'a Graph,
    partition: &'a Partition,
    lowered: &'a Lowered,
    views: Views,
    group_of: Vec<usize>,
    spans: Vec<Option<RangeInclusive<usize>>>,
}

impl Finder<'_> {
    fn values(&self) -> Model {
        let stored = self.partition.stored(self.graph);
        let mut buffers: Buffers = BTreeMap::new();
        let mut others = Vec::new();
        for buffer in &self.lowered.in_arena {
            match &buffer.holds {
                Some(held) if held.scans.is_empty() => {
                    buffers.insert(held.value, (buffer.bytes, buffer.needed.clone()));
                }
                Some(_) | None => others.push(buffer.clone()),
            }
        }
        let uses = self.uses();
        let mut places: BTreeMap<ValueId, usize> = BTreeMap::new();
        let mut values: Vec<Value> = Vec::new();
        for (id, node) in self.graph.nodes() {
            for &result in &node.results {
                let is_product = matches!(class(&node.op), Class::Anchor | Class::Reduce | Class::Loop);
                let is_unstored_product = is_product && !stored[result.index()];
                if !buffers.contains_key(&result) && !is_unstored_product {
                    continue;
                }
                let Some(value) = self.value(id, result, (&buffers, &stored, &places), &uses) else { continue };
                places.insert(result, values.len());
                values.push(value);
            }
        }
        let workspaces = self.spans.iter().map(|span| {
            let Some(span) = span else { return 0 };
            let inside = others
                .iter()
                .filter(|buffer| span.contains(buffer.needed.start()) && span.contains(buffer.needed.end()));
            in_use(&inside.cloned().collect::<Vec<_>>(), self.lowered.report.len()).into_iter().max().unwrap_or(0)
        });
        let workspaces = workspaces.collect();
        let fixed = in_use(&others, self.lowered.report.len());
        Model { values, groups: Vec::new(), times: Vec::new(), fixed, workspaces }
    }

    /// For each value the spans of the groups that read it, through any views.
    fn uses(&self) -> Vec<Vec<(usize, usize)>> {
        let mut uses = vec![Vec::new(); self.graph.value_count()];
        for (group, span) in self.partition.groups.iter().zip(&self.spans) {
            let Some(span) = span.as_ref().filter(|_| group.kind != GroupKind::View) else { continue };
            for &operand in group.nodes.iter().flat_map(|&node| &self.graph.node(node).operands) {
                let uses: &mut Vec<(usize, usize)> = &mut uses[self.views.base(operand).index()];
                let span = (*span.start(), *span.end());
                if uses.last() != Some(&span) {
                    uses.push(span);
                }
            }
        }
        uses
    }

    fn value(
        &self,
        node: NodeId,
        id: ValueId,
        (buffers, stored, places): (&Buffers, &[bool], &BTreeMap<ValueId, usize>),
        uses: &[Vec<(usize, usize)>],
    ) -> Option<Value> {
        let group = self.group_of[node.index()];
        let span = self.spans[group].clone()?;
        let op = &self.graph.node(node).op;
        let is_stored = buffers.contains_key(&id);
        let bytes = self.graph.ty(id).bytes().next_multiple_of(arena::ALIGNMENT);
        let (bytes, needed) = buffers.get(&id).cloned().unwrap_or((bytes, span.clone()));
        let from = sources(self.graph, &self.views, stored, id);
        let elementwise = cost::in_all(self.graph, &from.nodes) as f64;
        let kernels = self.lowered.report[span.clone()].iter().map(|kernel| (kernel.flops * kernel.runs) as f64);
        let flops = if is_cheap(op) { elementwise } else { kernels.sum() };
        let read: usize = from.values.iter().map(|&source| self.graph.ty(source).bytes()).sum();
        // Outside of its own group: what a group reads of itself is there with it.
        let uses: Vec<(usize, usize)> = if is_stored {
            uses[id.index()].iter().copied().filter(|use_| *use_ != (*span.start(), *span.end())).collect()
        } else {
            Vec::new()
        };
        let until = pause(*span.end(), &uses, (self.lowered.report.len() / PAUSES).max(2));
        let sources = from.values.iter().filter_map(|source| places.get(source).copied()).collect();
        let may_drop = bytes >= SMALL && !matches!(op, Op::DynamicUpdate { .. });
        let work = flops / FLOPS + (bytes + read) as f64 / BYTES;
        Some(Value {
            id,
            bytes,
            group,
            is_stored,
            is_cheap: is_cheap(op),
            may_drop,
            needed,
            uses,
            until,
            sources,
            work,
        })
    }
}

/// The last launch before the longest pause of a value that is made in launch `made`; the last of all if it is read
/// again and again, with pauses of less than `least` launches.
fn pause(made: usize, uses: &[(usize, usize)], least: usize) -> usize {
    let mut spans = uses.to_vec();
    spans.sort_unstable();
    let mut longest = (0, made);
    let mut last = made;
    for (first, end) in spans {
        let length = first.saturating_sub(last);
        if length > longest.0 {
            longest = (length, last);
        }
        last = last.max(end);
    }
    if longest.0 < least { last } else { longest.1 }
}
