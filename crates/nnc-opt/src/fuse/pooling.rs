//! Windows over the result of a convolution, taken where it is made: the image that they are over never is in memory,
//! or, where something else reads it, is not read again.
//!
//! A group of this kind is a convolution with channels last and its epilogue, windows of places over what comes of
//! them, and the epilogue of the windows. A task makes the places of whole windows: with those that overlap, two tasks
//! would make the same. A task keeps a few lines, so that this would be about a tenth of the convolution, which takes
//! longer than reading the image from a cache, or from memory. It is built of groups that are there: that of the
//! convolution and that of the windows.

use super::greedy::described;
use super::merge::{Draft, Drafts, Join, NODE_LIMIT, is_before};
use super::trace::Reach;
use super::{Decision, Group, GroupKind, Verdict};
use nnc_graph::{Dim, Graph, NodeId, Op, ValueId, WindowAttributes};

/// What the nodes of a group of this kind do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    /// The convolution and its epilogue.
    pub before: Vec<NodeId>,
    /// The windows.
    pub window: NodeId,
    /// The windows and their epilogue.
    pub after: Vec<NodeId>,
}

impl Parts {
    /// Of a group of kind [`GroupKind::Pooled`]; `None` of any other.
    pub fn of(graph: &Graph, group: &Group) -> Option<Self> {
        let elements = |id: NodeId| graph.ty(graph.node(id).results[0]).shape.elements().size();
        let places = elements(group.anchor?);
        let window = group.nodes.iter().copied().find(|&id| matches!(graph.node(id).op, Op::Window { .. }))?;
        let (before, after) = group.nodes.iter().partition(|&&id| elements(id) == places);
        Some(Self { before, window, after })
    }
}

/// Joins windows with the convolutions that they are over, where that may be and is worth it.
pub fn join_all(graph: &Graph, drafts: &mut Drafts<'_>, decisions: &mut Vec<Decision>) {
    for at in 0..drafts.list.len() {
        let Some(candidate) = Candidate::of(graph, drafts, at) else { continue };
        let judged = candidate.judge();
        let (from, node) = (candidate.from, candidate.window);
        let what = format!("{} with {}", described(graph, candidate.window), described(graph, candidate.conv));
        let verdict = if judged.is_ok() { Verdict::Done } else { Verdict::Refused };
        if judged.is_ok() {
            let Draft { domain, outer, .. } = drafts.list[from].clone();
            drafts.join(from, at, Join { fusion: "pooling", kind: GroupKind::Pooled, outer, domain });
        }
        let why = judged.unwrap_or_else(|why| why).to_owned();
        decisions.push(Decision { verdict, kind: "pooling", what, why, node });
    }
}

/// Windows over places, and the convolution that makes these.
struct Candidate<'a, 'g> {
    graph: &'g Graph,
    drafts: &'a Drafts<'g>,
    /// The group of the windows.
    at: usize,
    /// That of the convolution.
    from: usize,
    window: NodeId,
    conv: NodeId,
    windows: &'g WindowAttributes,
}

impl<'a, 'g> Candidate<'a, 'g> {
    /// The windows that group `at` is built around, if they are over places of what a convolution makes, which has
    /// images, two axes of places and channels.
    fn of(graph: &'g Graph, drafts: &'a Drafts<'g>, at: usize) -> Option<Self> {
        let anchor_of = |at: usize| {
            let draft: &Draft = &drafts.list[at];
            draft.anchor.filter(|_| draft.alive && draft.kind == GroupKind::Anchor)
        };
        let window = anchor_of(at)?;
        let Op::Window { attributes: windows, .. } = &graph.node(window).op else { return None };
        let operand = graph.node(window).operands[0];
        let from = drafts.group_of(operand);
        let conv = anchor_of(from)?;
        let Op::ConvLast(attributes) = &graph.node(conv).op else { return None };
        let images = &graph.ty(graph.node(conv).results[0]).shape.0;
        let one_channel = [&images[..1], &[Dim::from(1i64)], &images[1..]].concat();
        let is_float = |value: ValueId| graph.ty(value).dtype.is_float();
        let found = Self { graph, drafts, at, from, window, conv, windows };
        let fits = attributes.groups.is(1)
            && images.len() == 4
            && drafts.views.reach(operand) == Reach::Same
            && graph.ty(operand).shape.0 == one_channel
            && found.is_of_places()
            && is_float(operand)
            && is_float(graph.node(conv).operands[0]);
        fits.then_some(found)
    }

    /// Whether windows lie along the two axes of places, and are fewer than these.
    fn is_of_places(&self) -> bool {
        let WindowAttributes { size, stride, .. } = self.windows;
        self.elements(self.window) < self.elements(self.conv) && size[2].is(1) && stride[2].is(1)
    }

    fn elements(&self, id: NodeId) -> usize {
        self.graph.ty(self.graph.node(id).results[0]).shape.elements().size()
    }

    /// What is gained, or why they stay apart.
    fn judge(&self) -> Result<&'static str, &'static str> {
        let (window, conv) = (&self.drafts.list[self.at], &self.drafts.list[self.from]);
        if !self.drafts.options.pooling {
            return Err("switched off");
        }
        if self.overlap() {
            return Err(
                "its windows overlap: two tasks would make the lines that they share, which takes longer than \
                        to read what they are over",
            );
        }
        if self.are_padded() {
            return Err("its windows are padded: at the borders they are not of whole blocks of places");
        }
        let is_stored = conv.nodes.iter().any(|&node| self.drafts.escapes(node, &[window, conv]));
        if is_stored && !self.is_whole() {
            return Err("what they are over is stored anyway, and they leave out some of its lines");
        }
        if self.epilogue_reads_images() {
            return Err("one reads the other's result at other points");
        }
        if window.nodes.len() + conv.nodes.len() > NODE_LIMIT {
            return Err("the kernel would be too large");
        }
        if self.drafts.is_cyclic(&[self.at, self.from]) || is_before(window, conv) || is_before(conv, window) {
            return Err("another kernel has to run between them");
        }
        Ok(match is_stored {
            true => "what they are over is stored, but not read again",
            false => "what they are over is in no memory but the caches",
        })
    }

    /// Whether a place is in two windows.
    fn overlap(&self) -> bool {
        let WindowAttributes { size, stride, .. } = self.windows;
        size.iter().zip(stride).any(|(size, stride)| size.size() > stride.size())
    }

    /// Whether a place of a window may be in padding.
    fn are_padded(&self) -> bool {
        let WindowAttributes { low, high, .. } = self.windows;
        low.iter().chain(high).any(|dim| !dim.is(0))
    }

    /// Whether each line of the image is in a window.
    fn is_whole(&self) -> bool {
        let lines = self.graph.ty(self.graph.node(self.conv).results[0]).shape[1].size();
        let (size, stride) = (&self.windows.size[0], &self.windows.stride[0]);
        size == stride && lines.is_multiple_of(stride.size())
    }

    /// Whether the epilogue of the windows reads what the convolution makes.
    fn epilogue_reads_images(&self) -> bool {
        let nodes = self.drafts.list[self.at].nodes.iter().filter(|&&id| id != self.window);
        let mut operands = nodes.flat_map(|&id| &self.graph.node(id).operands);
        operands.any(|&operand| self.drafts.group_of(operand) == self.from)
    }
}
