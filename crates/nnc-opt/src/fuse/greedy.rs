//! The partition itself: nodes in program order join the groups of their operands.

use super::class::{Class, class};
use super::merge::{Drafts, Refusal};
use super::{Decision, FuseOptions, Group, GroupKind, Partition, Verdict};
use super::{attention, outputs, pooling, widen};
use crate::recompute::Copies;
use nnc_graph::{Graph, NodeId, Op};
use std::collections::BTreeSet;

/// Groups the nodes of a graph whose dims are bound.
pub fn partition(graph: &Graph, options: &FuseOptions) -> Partition {
    partition_with(graph, options, &Copies::new())
}

/// As [`partition`], of a graph in which some nodes are copies: they stay out of the groups of what they are copies of.
pub fn partition_with(graph: &Graph, options: &FuseOptions, copies: &Copies) -> Partition {
    let greedy = |apart: &BTreeSet<NodeId>| grouped(graph, options, copies, apart);
    let plain = greedy(&BTreeSet::new());
    let apart = widen::casts_for_readers(graph, &plain);
    if apart.is_empty() {
        return plain;
    }
    let tried = greedy(&apart);
    let taken_in = widen::taken_in(graph, &tried, &apart);
    let tried = if taken_in == apart { tried } else { greedy(&taken_in) };
    // Where a reader was part of a larger kernel that it is not part of now, nothing is won.
    if tried.groups.len() <= plain.groups.len() { tried } else { plain }
}

/// The groups, with some casts kept out of those of their operands.
fn grouped(graph: &Graph, options: &FuseOptions, copies: &Copies, apart: &BTreeSet<NodeId>) -> Partition {
    let mut drafts = Drafts::new(graph, *options, copies);
    let mut decisions = Vec::new();
    for (id, node) in graph.nodes() {
        let is_view = drafts.views.base(node.results[0]) != node.results[0];
        if !is_view {
            drafts.open(id);
            match apart.contains(&id) {
                true => decisions.push(left_to_reader(graph, id)),
                false => join_operands(graph, &mut drafts, id, &mut decisions),
            }
        }
    }
    pooling::join_all(graph, &mut drafts, &mut decisions);
    attention::join_all(graph, &mut drafts, &mut decisions);
    if options.scalars {
        join_scalars(graph, &mut drafts, &mut decisions);
    }
    let mut groups = in_order(graph, &drafts);
    for group in &mut groups {
        if let Op::Scan(scan) = &graph.node(group.nodes[0]).op {
            group.body = Some(Box::new(partition(&scan.body, options)));
        }
    }
    Partition { groups, decisions }
}

/// Joins the group of `id` with those of its operands, as far as that goes.
fn join_operands(graph: &Graph, drafts: &mut Drafts<'_>, id: NodeId, decisions: &mut Vec<Decision>) {
    let joinable = matches!(class(&graph.node(id).op), Class::Pointwise | Class::Reduce);
    for &operand in graph.node(id).operands.iter().filter(|_| joinable) {
        let (producer, own) = (drafts.group_of(operand), drafts.of[id.index()]);
        if producer != own {
            let source = graph.value(drafts.views.base(operand)).node;
            attempt(graph, drafts, (producer, source), (own, id), decisions);
        }
    }
}

/// Why a cast does not join its operand.
fn left_to_reader(graph: &Graph, id: NodeId) -> Decision {
    let source = graph.value(graph.node(id).operands[0]).node;
    let what = format!("{} with {}", described(graph, id), described(graph, source));
    let why = "the bytes are stored, and whoever reads what they stand for reads them".to_owned();
    Decision { verdict: Verdict::Refused, kind: "elementwise", what, why, node: id }
}

/// Tries to join `own`, for the sake of `id`, to `producer`, the group of `source`.
fn attempt(
    graph: &Graph,
    drafts: &mut Drafts<'_>,
    (producer, source): (usize, NodeId),
    (own, id): (usize, NodeId),
    decisions: &mut Vec<Decision>,
) {
    let (verdict, kind, why) = match drafts.judge(producer, own) {
        Err(Refusal::Silent) => return,
        Err(Refusal::Because(kind, why)) => (Verdict::Refused, kind, why),
        Ok(join) => {
            let kind = join.fusion;
            drafts.join(producer, own, join);
            (Verdict::Done, kind, "its operand is at hand".to_owned())
        }
    };
    let what = format!("{} with {}", described(graph, id), described(graph, source));
    decisions.push(Decision { verdict, kind, what, why, node: id });
}

/// A node as reports name it.
pub fn described(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let value = node.results[0];
    match graph.function_of(node) {
        Some(function) => format!("{} {value} ({function})", node.op.name()),
        None => format!("{} {value}", node.op.name()),
    }
}

/// Joins groups of scalars that do not depend on one another in a cycle: one launch instead of many.
fn join_scalars(graph: &Graph, drafts: &mut Drafts<'_>, decisions: &mut Vec<Decision>) {
    let is_scalar = |drafts: &Drafts<'_>, at: usize| {
        let draft = &drafts.list[at];
        draft.alive && draft.kind == GroupKind::Map && draft.domain.is_empty()
    };
    let candidates: Vec<usize> = (0..drafts.list.len()).filter(|&at| is_scalar(drafts, at)).collect();
    let mut heads: Vec<usize> = Vec::new();
    for at in candidates {
        let node = drafts.list[at].nodes[0];
        let found = heads.iter().rev().find_map(|&head| drafts.judge(head, at).ok().map(|join| (head, join)));
        match found {
            Some((head, join)) => {
                drafts.join(head, at, join);
                let what = format!("{} with other scalars", described(graph, node));
                let why = "a launch of its own would cost more".to_owned();
                decisions.push(Decision { verdict: Verdict::Done, kind: "scalars", what, why, node });
            }
            None => heads.push(at),
        }
    }
}

/// The finished groups, views among them, so that each stands after those it depends on.
fn in_order(graph: &Graph, drafts: &Drafts<'_>) -> Vec<Group> {
    let alive: Vec<usize> = (0..drafts.list.len()).filter(|&at| drafts.list[at].alive).collect();
    let mut missing: Vec<usize> = drafts.list.iter().map(|_| 0).collect();
    for &at in &alive {
        missing[at] = drafts.dependencies(at).count();
    }
    let ready_key = |at: usize| (drafts.list[at].nodes[0], at);
    let mut ready: BTreeSet<_> = alive.iter().filter(|&&at| missing[at] == 0).map(|&at| ready_key(at)).collect();
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); drafts.list.len()];
    for &at in &alive {
        for dependency in drafts.dependencies(at) {
            followers[dependency].push(at);
        }
    }
    let views = views_by_base(graph, drafts);
    let mut groups = Vec::new();
    while let Some((_, at)) = ready.pop_first() {
        let draft = &drafts.list[at];
        let (anchor, domain) = (draft.anchor, draft.domain.clone());
        let outputs = outputs::stored(graph, drafts, at);
        groups.push(Group { kind: draft.kind, nodes: draft.nodes.clone(), anchor, domain, outputs, body: None });
        groups.extend(views[at].iter().map(|&node| view_group(graph, node)));
        for &follower in &followers[at] {
            missing[follower] -= 1;
            if missing[follower] == 0 {
                ready.insert(ready_key(follower));
            }
        }
    }
    groups
}

fn view_group(graph: &Graph, node: NodeId) -> Group {
    let domain = graph.ty(graph.node(node).results[0]).shape.sizes();
    Group { kind: GroupKind::View, nodes: vec![node], anchor: None, domain, outputs: Vec::new(), body: None }
}

fn views_by_base(graph: &Graph, drafts: &Drafts<'_>) -> Vec<Vec<NodeId>> {
    let mut views = vec![Vec::new(); drafts.list.len()];
    for (id, node) in graph.nodes() {
        if drafts.of[id.index()] == usize::MAX {
            views[drafts.group_of(node.results[0])].push(id);
        }
    }
    views
}
