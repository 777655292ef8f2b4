//! The graph of a model whose weights lost channels, with smaller shapes throughout.
//!
//! Channels are followed from the axes that the record names to all values that have them, and every op is made anew
//! for what is left. Of a constant the elements that stay are taken; numbers that were drawn for a smaller shape are
//! others.
//!
//! On entry a verified graph with bound dims, `grad` not expanded, so that derivatives are those of the small network;
//! on exit the same for tensors of the recorded sizes. Cost: linear in the sizes of all axes.

use super::labels::{Axis, Label};
use super::record::{Record, without};
use super::separate::separate;
use super::trace::{Channels, Traced};
use crate::rewrite::{Fuel, Rewriter, with_body};
use nnc_graph::{ConvAttributes, Dim, Graph, Node, NodeId, Op, Shape, SliceRange, Tensor, TensorType, ValueId};
use std::collections::BTreeSet;

/// The graph without the channels that the record says are gone.
///
/// # Errors
/// What of the record does not fit the graph, in words.
pub fn shrink(graph: &Graph, record: &Record) -> Result<Graph, String> {
    if record.is_empty() {
        return Ok(graph.clone());
    }
    let separate = separate(graph);
    let mut channels = Channels::default();
    let traced = channels.trace(&separate);
    let gone = gone(&channels, record)?;
    if gone.is_empty() {
        return Ok(graph.clone());
    }
    let left = Left { channels: &channels, gone: &gone };
    let mut is_empty = false;
    traced.each_axis(&mut |axis| is_empty |= left.count(axis) == 0 && !axis.is_empty());
    match is_empty {
        true => Err("no channel is left where this program reads some of them".to_owned()),
        false => Ok(left.rebuilt(&separate, &traced)),
    }
}

/// The classes of channels that a record says are gone.
///
/// # Errors
/// What of the record does not fit, in words.
pub fn gone(channels: &Channels, record: &Record) -> Result<BTreeSet<Label>, String> {
    let mut gone = BTreeSet::new();
    for (resident, axis, kept) in record.iter() {
        let Some(axes) = channels.residents.get(resident) else { continue };
        let Some(labels) = axes.get(axis).filter(|labels| labels.len() == kept.len()) else {
            let dims: Vec<String> = axes.iter().map(|axis| axis.len().to_string()).collect();
            let (count, dims) = (kept.len(), dims.join(", "));
            return Err(format!("it keeps some of {count} along axis {axis} of `{resident}`, which is [{dims}]"));
        };
        for (at, &label) in labels.iter().enumerate().filter(|(at, _)| !kept[*at]) {
            if let Some(reason) = channels.labels.fixed(label) {
                let what = format!("channel {at} along axis {axis} of `{resident}`");
                return Err(format!("{what} is gone, but this program cannot do without it: {reason}"));
            }
            gone.insert(channels.labels.class(label));
        }
    }
    check_whole(channels, record, &gone)?;
    Ok(gone)
}

/// Whether channels that belong together are gone together. What the compiler keeps for itself, as optimisers do,
/// follows its parameter and need not be recorded.
fn check_whole(channels: &Channels, record: &Record, gone: &BTreeSet<Label>) -> Result<(), String> {
    for (resident, axes) in channels.residents.iter().filter(|(resident, _)| !resident.starts_with('$')) {
        for (axis, labels) in axes.iter().enumerate() {
            let kept = record.of(resident).find(|(recorded, _)| *recorded == axis).map(|(_, kept)| kept);
            let is_told = |at: usize| kept.is_some_and(|kept| !kept[at]);
            let differs = |(at, label): (usize, &Label)| gone.contains(&channels.labels.class(*label)) != is_told(at);
            if let Some(at) = labels.iter().enumerate().position(differs) {
                let what = format!("channel {at} along axis {axis} of `{resident}`");
                return Err(format!("{what} is there, but channels that it belongs to are gone"));
            }
        }
    }
    Ok(())
}

/// What is left of axes.
struct Left<'c> {
    channels: &'c Channels,
    gone: &'c BTreeSet<Label>,
}

impl Left<'_> {
    fn keeps(&self, label: Label) -> bool {
        !self.gone.contains(&self.channels.labels.class(label))
    }

    fn count(&self, labels: &[Label]) -> usize {
        labels.iter().filter(|&&label| self.keeps(label)).count()
    }

    fn shape(&self, axes: &[Axis]) -> Shape {
        Shape::of(&axes.iter().map(|axis| self.count(axis)).collect::<Vec<_>>())
    }

    fn rebuilt(&self, graph: &Graph, traced: &Traced) -> Graph {
        let mut unlimited = Fuel::new(None);
        let mut rewriter = Rewriter::new(graph, &mut unlimited);
        for (id, node) in graph.nodes() {
            let op = self.resized(id, node, traced);
            rewriter.copy_as(id, op);
        }
        rewriter.finish()
    }

    /// An op for what is left of its operands and its result. Flat dispatch.
    fn resized(&self, id: NodeId, node: &Node, traced: &Traced) -> Op {
        let axes = |value: ValueId| traced.axes(value);
        let operand = |at: usize| axes(node.operands[at]);
        let shape = || self.shape(axes(node.results[0]));
        let retyped = |ty: &TensorType| TensorType::new(ty.dtype, shape());
        match &node.op {
            Op::Input { name, ty } => Op::Input { name: name.clone(), ty: retyped(ty) },
            Op::Param { path, ty } => Op::Param { path: path.clone(), ty: retyped(ty) },
            Op::State { path, ty } => Op::State { path: path.clone(), ty: retyped(ty) },
            Op::Constant(tensor) => Op::Constant(self.taken(tensor, axes(node.results[0]))),
            Op::Iota { ty, axis } => Op::Iota { ty: retyped(ty), axis: *axis },
            Op::Random { stream, .. } => {
                let shape = self.shape(&axes(node.results[0])[operand(1).len()..]);
                Op::Random { stream: *stream, shape }
            }
            Op::Reshape(_) => Op::Reshape(shape()),
            Op::Broadcast { axes, .. } => Op::Broadcast { shape: shape(), axes: axes.clone() },
            Op::Slice(ranges) => {
                let results = axes(node.results[0]).iter();
                let sliced = ranges.iter().zip(operand(0).iter().zip(results));
                Op::Slice(sliced.map(|(range, (from, to))| self.range(range, from, to)).collect())
            }
            Op::Pad { low, high } => self.padded((low, high), axes(node.results[0])),
            Op::Conv(attributes) => Op::Conv(self.grouped(attributes, operand(0), operand(1))),
            Op::ConvInputGrad { attributes, input } => Op::ConvInputGrad {
                attributes: self.grouped(attributes, axes(node.results[0]), operand(1)),
                input: input.clone(),
            },
            Op::Scan(scan) => with_body(scan, |body| self.rebuilt(body, &traced.bodies[&id])),
            Op::Extent { .. } | Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select => node.op.clone(),
            Op::Cast(_) | Op::StopGradient | Op::Transpose(_) | Op::Concat { .. } | Op::Grad => node.op.clone(),
            Op::DynamicSlice { .. } | Op::DynamicUpdate { .. } | Op::Gather { .. } => node.op.clone(),
            Op::ScatterAdd { .. } | Op::Reduce { .. } | Op::ArgMax { .. } | Op::Dot { .. } => node.op.clone(),
            Op::Window { .. } | Op::WindowGrad { .. } | Op::WindowPick(_) => node.op.clone(),
            Op::DotStored(_) | Op::ConvLast(_) | Op::ConvInputGradLast { .. } => node.op.clone(),
            Op::ConvWeightGrad { .. } => node.op.clone(),
        }
    }

    fn taken(&self, tensor: &Tensor, axes: &[Axis]) -> Tensor {
        axes.iter().enumerate().fold(tensor.clone(), |tensor, (at, axis)| {
            let kept: Vec<bool> = axis.iter().map(|&label| self.keeps(label)).collect();
            if kept.iter().all(|&kept| kept) { tensor } else { without(&tensor, at, &kept) }
        })
    }

    /// The range of what is left of `from` that is what is left of `to`.
    fn range(&self, range: &SliceRange, from: &[Label], to: &[Label]) -> SliceRange {
        let first = to.iter().position(|&label| self.keeps(label)).unwrap_or_default();
        let first = (range.start.size() as i64 + first as i64 * range.step) as usize;
        SliceRange { start: Dim::from(self.count(&from[..first])), size: Dim::from(self.count(to)), step: range.step }
    }

    fn padded(&self, (low, high): (&[Dim], &[Dim]), axes: &[Axis]) -> Op {
        let before = |(axis, low): (&Axis, &Dim)| Dim::from(self.count(&axis[..low.size()]));
        let after = |(axis, high): (&Axis, &Dim)| Dim::from(self.count(&axis[axis.len() - high.size()..]));
        Op::Pad { low: axes.iter().zip(low).map(before).collect(), high: axes.iter().zip(high).map(after).collect() }
    }

    /// The attributes of a convolution between images of many channels and weights that read some of them each.
    fn grouped(&self, attributes: &ConvAttributes, images: &[Axis], weights: &[Axis]) -> ConvAttributes {
        let groups = Dim::from(self.count(&images[1]) / self.count(&weights[1]));
        ConvAttributes { groups, ..attributes.clone() }
    }
}
