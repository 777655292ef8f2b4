//! A part that is updated and put back where it came from becomes one update of the whole.
//!
//! As when each layer of a decoder writes a place of its own part of a cache:
//!
//! ```text
//! part  = view of whole                   whole' = dynamic_update(whole, value', starts + start)
//! new   = dynamic_update(part, value, start)  →  new = the same view of whole'
//! whole' = dynamic_update(whole, view of new, starts)
//! ```
//!
//! What follows then reads the whole, and where nothing reads the old one any more, it is written in place: a step
//! costs what it adds, not what is there. The same with the whole seen another way, transposed or reshaped, and back.
//! Whether a part comes back to exactly where it was is read off strides ([`Layout`]); a view may slice, also at a
//! run-time start, and the way back must be without slices. Values, and starts that stop the step, are the same.
//!
//! Each pair is one rewrite. Cost: for each update the views of it and of its part.

use crate::fuse::Layout;
use crate::rewrite::{Fuel, Rewriter};
use crate::simplify::matching::number;
use nnc_graph::{Graph, Node, Op, Shape, ValueId};
use std::collections::BTreeMap;

/// The graph with updates of parts made updates of wholes.
pub fn put_back(graph: &Graph, fuel: &mut Fuel) -> Graph {
    if !graph.nodes().any(|(_, node)| matches!(node.op, Op::DynamicUpdate { .. })) {
        return graph.clone();
    }
    let readers = readers(graph);
    let mut rewriter = Rewriter::new(graph, fuel);
    let mut made: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        if let Some(&new) = node.results.first().and_then(|result| made.get(result)) {
            rewriter.replace(node.results[0], new);
            continue;
        }
        let pair = Pair::find(graph, &readers, node).filter(|pair| pair.can_move(&rewriter) && rewriter.spend());
        match pair {
            Some(pair) => {
                rewriter.at(id);
                let whole = pair.update_whole(&mut rewriter);
                let new = pair.part_of(&mut rewriter, whole);
                rewriter.replace(node.results[0], new);
                made.insert(pair.result, whole);
            }
            None => drop(rewriter.copy(id)),
        }
    }
    rewriter.finish()
}

/// For each value the nodes that read it.
fn readers(graph: &Graph) -> Vec<Vec<&Node>> {
    let mut readers = vec![Vec::new(); graph.value_count()];
    for (_, node) in graph.nodes() {
        node.operands.iter().for_each(|operand| readers[operand.index()].push(node));
    }
    readers
}

/// A region of a value: its layout, and run-time starts with the elements that each of them counts.
#[derive(PartialEq)]
struct Region {
    layout: Layout,
    moved: Vec<(ValueId, i64)>,
}

impl Region {
    /// All of a value.
    fn all(graph: &Graph, value: ValueId) -> Self {
        Self { layout: Layout::contiguous(&graph.ty(value).shape.sizes()), moved: Vec::new() }
    }

    /// What a view shows of it; none if strides cannot say it.
    fn view(mut self, graph: &Graph, node: &Node) -> Option<Self> {
        if let Op::DynamicSlice { axis, size } = &node.op {
            return self.starts(graph, *axis, node.operands[1], size.size());
        }
        self.layout = self.layout.view(&node.op)?;
        Some(self)
    }

    /// `size` elements of an axis from a start on.
    fn starts(mut self, graph: &Graph, axis: usize, start: ValueId, size: usize) -> Option<Self> {
        let last = self.layout.dims[axis].checked_sub(size)? as f64;
        match number(graph, start) {
            Some(known) if !(0.0..=last).contains(&known) => return None,
            Some(known) => self.layout.offset += known as i64 * self.layout.strides[axis],
            None => self.moved.push((start, self.layout.strides[axis])),
        }
        self.layout.dims[axis] = size;
        Some(self)
    }

    /// The same region in the one form that is compared: single places have no stride, starts are in order.
    fn normal(mut self) -> Self {
        let axes = self.layout.dims.iter().zip(&mut self.layout.strides);
        axes.filter(|(size, _)| **size == 1).for_each(|(_, stride)| *stride = 0);
        self.moved.sort_unstable();
        self
    }
}

/// An update of a part, and the value in which it is back in its place.
#[derive(Clone)]
struct Pair<'g> {
    graph: &'g Graph,
    /// The update of the part.
    node: &'g Node,
    whole: ValueId,
    /// The views from the whole to the part.
    there: Vec<&'g Node>,
    /// The views from what the update gives to what is put back.
    back: Vec<&'g Node>,
    /// The whole with the new part.
    result: ValueId,
    /// The axes along which it is put back, and the starts; none where the part is all of the whole, seen another way.
    axes: Vec<usize>,
    starts: Vec<ValueId>,
}

impl<'g> Pair<'g> {
    fn find(graph: &'g Graph, readers: &[Vec<&'g Node>], node: &'g Node) -> Option<Self> {
        let is_update = matches!(node.op, Op::DynamicUpdate { .. }) && graph.ty(node.results[0]).shape.is_bound();
        let there = if is_update { way_to(graph, node.operands[0]) } else { return None };
        let mut ways = vec![Vec::new()];
        while let Some(back) = ways.pop() {
            let end = back.last().map_or(node, |view: &&Node| *view).results[0];
            for at in 0..there.len() {
                let (whole, there) = (there[at].operands[0], there[at..].to_vec());
                let seen =
                    Self { graph, node, whole, there, back: back.clone(), result: end, axes: vec![], starts: vec![] };
                let puts = readers[end.index()].iter().filter_map(|reader| seen.put_by(reader));
                if let Some(pair) = puts.chain([seen.clone()]).find(Self::comes_back) {
                    return Some(pair);
                }
            }
            let views = readers[end.index()].iter().filter(|next| matches!(next.op, Op::Reshape(_) | Op::Transpose(_)));
            ways.extend(views.map(|view| [&back[..], &[*view]].concat()));
        }
        None
    }

    /// The pair with what may put the part back.
    fn put_by(&self, reader: &'g Node) -> Option<Self> {
        let Op::DynamicUpdate { axes } = &reader.op else { return None };
        let is_put = reader.operands[0] == self.whole && reader.operands[1] == self.result;
        let (result, axes, starts) = (reader.results[0], axes.clone(), reader.operands[2..].to_vec());
        is_put.then(|| Self { result, axes, starts, ..self.clone() })
    }

    /// Whether the part comes back to where it was, and the update can be said of the whole.
    fn comes_back(&self) -> bool {
        self.goes_and_comes().is_some_and(|same| same) && self.carried().is_some()
    }

    fn goes_and_comes(&self) -> Option<bool> {
        let mut ways = self.there.iter().chain(&self.back);
        let found = ways.try_fold(Region::all(self.graph, self.whole), |seen, view| seen.view(self.graph, view))?;
        let part = &self.graph.ty(self.back.last().map_or(self.node, |view| view).results[0]).shape;
        let mut puts = self.axes.iter().zip(&self.starts);
        let place = puts.try_fold(Region::all(self.graph, self.whole), |place, (&axis, &start)| {
            place.starts(self.graph, axis, start, part[axis].size())
        })?;
        Some(found.normal() == place.normal())
    }

    /// What the update writes, brought back as the part is: the views, and the axes of the whole that are those of the
    /// update; none if one of them is taken apart on the way, or the part is put along it, too.
    fn carried(&self) -> Option<(Vec<Op>, Vec<usize>)> {
        let Op::DynamicUpdate { axes } = &self.node.op else { return None };
        let sizes: Vec<usize> =
            axes.iter().map(|&axis| self.graph.ty(self.node.operands[1]).shape[axis].size()).collect();
        let (mut places, mut dims) = (axes.clone(), self.graph.ty(self.node.results[0]).shape.sizes());
        let mut views = Vec::new();
        for view in &self.back {
            let target = self.graph.ty(view.results[0]).shape.sizes();
            let op = match &view.op {
                Op::Transpose(permutation) => {
                    let moved = |place: &usize| permutation.iter().position(|from| from == place);
                    places = places.iter().map(moved).collect::<Option<_>>()?;
                    view.op.clone()
                }
                _ => {
                    places = places.iter().map(|&place| kept_axis(&dims, &target, place)).collect::<Option<_>>()?;
                    let mut smaller = target.clone();
                    places.iter().zip(&sizes).for_each(|(&place, &size)| smaller[place] = size);
                    Op::Reshape(Shape::of(&smaller))
                }
            };
            views.push(op);
            dims = target;
        }
        let apart = places.iter().all(|place| !self.axes.contains(place));
        apart.then_some((views, places))
    }

    /// Whether the starts of what puts back are known where the part is updated.
    fn can_move(&self, rewriter: &Rewriter<'_>) -> bool {
        self.starts
            .iter()
            .all(|&start| rewriter.mapped(start).is_some() || self.graph.definition(start).operands.is_empty())
    }

    fn update_whole(&self, rewriter: &mut Rewriter<'_>) -> ValueId {
        let (views, places) = self.carried().unwrap_or_else(|| panic!("compiler bug: a part that does not come back"));
        let value = rewriter.value(self.node.operands[1]);
        let value = views.into_iter().fold(value, |value, view| rewriter.emit(view, &[value]));
        let mut operands = vec![rewriter.value(self.whole), value];
        for &start in &self.starts {
            let known = rewriter.mapped(start);
            operands.push(known.unwrap_or_else(|| rewriter.emit(self.graph.definition(start).op.clone(), &[])));
        }
        operands.extend(self.node.operands[2..].iter().map(|&start| rewriter.value(start)));
        rewriter.emit(Op::DynamicUpdate { axes: [&self.axes[..], &places].concat() }, &operands)
    }

    /// The part as it is in the new whole.
    fn part_of(&self, rewriter: &mut Rewriter<'_>, whole: ValueId) -> ValueId {
        self.there.iter().fold(whole, |seen, view| {
            let starts = view.operands[1..].iter().map(|&start| rewriter.value(start));
            let operands: Vec<ValueId> = [seen].into_iter().chain(starts).collect();
            rewriter.emit(view.op.clone(), &operands)
        })
    }
}

/// The views that a value is seen through, from the outermost.
fn way_to(graph: &Graph, value: ValueId) -> Vec<&Node> {
    let mut way = Vec::new();
    let mut at = graph.definition(value);
    while matches!(at.op, Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::DynamicSlice { .. }) {
        if !graph.ty(at.operands[0]).shape.is_bound() {
            break;
        }
        way.push(at);
        at = graph.definition(at.operands[0]);
    }
    way.reverse();
    way
}

/// The axis of `to` that is axis `axis` of `from` in a reshape, if one is.
fn kept_axis(from: &[usize], to: &[usize], axis: usize) -> Option<usize> {
    let before = |dims: &[usize], axis: usize| dims[..axis].iter().product::<usize>();
    let same = |other: &usize| to[*other] == from[axis] && before(to, *other) == before(from, axis);
    (0..to.len()).find(same).filter(|_| from[axis] > 1)
}
