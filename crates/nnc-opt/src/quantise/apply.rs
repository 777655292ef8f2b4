//! The rewrite to integers.
//!
//! The activations of a quantised product are rounded where they are made: behind what only moves or compares elements,
//! in the end at the value that these are taken of. What they are sums of is rounded, too, where nobody else reads it.
//! From there on integers are moved, and every reader of floats reads what the integers stand for, so that a value is
//! stored once. What follows from inputs alone stays as it is for others, since targets and numbers of classes may be
//! cut out of it; its integers are made beside. Both operands get more channels of zeros where the number of terms is
//! no multiple of four, as kernels multiply four terms at a time. A convolution of activations with a sign has a border
//! of its own around them, of what stands for 0.

use super::pool;
use super::rounded::{Rounded, rounded_values};
use super::sites::{Site, Sources, moves, result_channels, sites};
use super::weights::rounded_weights;
use super::{Layer, MIDDLE, Range, WEIGHT_LEVELS, WORD, scales_path, shifts_path, weights_path};
use crate::dce::eliminate_dead_code;
use crate::rewrite::{Fuel, Rewriter};
use crate::simplify::matching::number;
use nnc_graph::{
    BinaryOp, ConvAttributes, DType, Dim, Graph, Node, NodeId, Op, ReduceOp, Shape, TensorType, UnaryOp, ValueId,
};
use std::collections::BTreeMap;

/// How many ops a factor is followed back.
const CHAIN: usize = 8;

/// Integers that stand for floats.
#[derive(Clone, Copy)]
pub(super) struct Integers {
    /// In the new graph.
    pub value: ValueId,
    pub range: Range,
}

impl Integers {
    /// A convolution whose image has its border, of what stands for 0; where that is 0 it stays as it is.
    pub fn bordered(self, rewriter: &mut Rewriter<'_>, at: &ConvAttributes) -> (Op, ValueId) {
        let none = vec![Dim::from(0i64); at.low.len()];
        if !self.range.signed || at.low == none && at.high == none {
            return (Op::Conv(at.clone()), self.value);
        }
        let inside = ConvAttributes { low: none.clone(), high: none, ..at.clone() };
        let leading = [Dim::from(0i64), Dim::from(0i64)];
        let [low, high] = [&at.low, &at.high].map(|side| [&leading[..], &side[..]].concat());
        let zero = rewriter.graph_mut().scalar(DType::U8, f64::from(self.range.zero()));
        (Op::Conv(inside), rewriter.emit(Op::Pad { low, high }, &[self.value, zero]))
    }
}

/// Where the integers of weights come from.
enum Source<'l> {
    /// Parameters of their own: those of these layers.
    File(&'l [Layer]),
    /// The program rounds its floats.
    Floats,
}

/// The graph with those products quantised that `layers` name; layers that it has no product for are passed over.
/// Whatever else reads their weights reads the floats that the integers stand for.
pub fn quantise(graph: &Graph, layers: &[Layer]) -> Graph {
    rewritten(graph, layers, &Source::File(layers))
}

/// The graph with the floats that the integers of `layers` stand for in the place of their weights, for all who read
/// them: no product is one of integers.
pub fn floats_of_integers(graph: &Graph, layers: &[Layer]) -> Graph {
    rewritten(graph, &[], &Source::File(layers))
}

/// The graph with every product quantised that integers serve and that there is a range for, by the parameter that its
/// weights follow from ([`Site::layer`]). It reads the floats of weights, and rounds them itself.
pub fn quantise_floats(graph: &Graph, ranges: &BTreeMap<String, Range>) -> Graph {
    let served = sites(graph).into_iter().filter(|site| !site.is_small());
    let layer = |site: Site| {
        let input = *ranges.get(site.layer())?;
        Some(Layer::new(site.name, input))
    };
    rewritten(graph, &served.filter_map(layer).collect::<Vec<_>>(), &Source::Floats)
}

fn rewritten(graph: &Graph, layers: &[Layer], source: &Source<'_>) -> Graph {
    let by_name: BTreeMap<&str, &Layer> = layers.iter().map(|layer| (layer.name.as_str(), layer)).collect();
    let sites = sites(graph);
    let chosen = sites.iter().filter_map(|site| Some((site.node, (site, *by_name.get(site.name.as_str())?))));
    let chosen: BTreeMap<NodeId, (&Site, &Layer)> = chosen.collect();
    let sources = Sources::new(graph);
    let ranges = Ranges::of(graph, &sources, chosen.values());
    let mut unlimited = Fuel::new(None);
    let rewriter = Rewriter::new(graph, &mut unlimited);
    let integers = vec![None; graph.value_count()];
    let rounded = match source {
        Source::File(layers) => rounded_values(graph, layers),
        Source::Floats => BTreeMap::new(),
    };
    let (weights, shifts, shifted) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut pass = Pass { rewriter, sources, ranges, source, rounded, integers, weights, shifts, shifted };
    for (id, node) in graph.nodes() {
        pass.rewriter.at(id);
        match chosen.get(&id) {
            Some((site, layer)) => pass.product(node, site, layer),
            None => pass.other(id, node),
        }
        for &result in &node.results {
            pass.read_as_integers(result);
            if let (Some(range), None) = (pass.ranges.get(result), pass.integers[result.index()]) {
                pass.round(result, range);
            }
        }
    }
    let graph = pass.rewriter.finish();
    without_unread(&eliminate_dead_code(&graph, &mut unlimited))
}

/// The ranges of the values that are rounded, or joined of rounded ones: where activations of products come from by
/// moves of one value, or by sums of what nobody else reads. Several products that read the same have one range that
/// covers theirs.
#[derive(Default)]
struct Ranges {
    /// Of what products and sums read.
    direct: BTreeMap<ValueId, Range>,
    /// Of what is only read as a part of a concatenation.
    parts: BTreeMap<ValueId, Range>,
}

impl Ranges {
    fn of<'s>(graph: &Graph, sources: &Sources<'_>, chosen: impl Iterator<Item = &'s (&'s Site, &'s Layer)>) -> Self {
        let mut ranges = Self::default();
        for (site, layer) in chosen {
            ranges.note(graph, sources, (sources.origin(site.input), layer.input));
            if let Some(range) = layer.summands {
                let summands = sources.summands(site.input).into_iter();
                summands.for_each(|summand| ranges.note(graph, sources, (summand, range)));
            }
        }
        ranges
    }

    fn note(&mut self, graph: &Graph, sources: &Sources<'_>, (value, range): (ValueId, Range)) {
        note(&mut self.direct, value, range);
        self.note_parts(graph, sources, (value, range));
    }

    fn note_parts(&mut self, graph: &Graph, sources: &Sources<'_>, (value, range): (ValueId, Range)) {
        let node = graph.definition(value);
        if matches!(node.op, Op::Concat { .. }) {
            for &operand in &node.operands {
                let origin = sources.origin(operand);
                note(&mut self.parts, origin, range);
                self.note_parts(graph, sources, (origin, range));
            }
        }
    }

    fn get(&self, value: ValueId) -> Option<Range> {
        self.direct.get(&value).or_else(|| self.parts.get(&value)).copied()
    }
}

fn note(ranges: &mut BTreeMap<ValueId, Range>, value: ValueId, range: Range) {
    ranges.entry(value).and_modify(|known| *known = known.and(range)).or_insert(range);
}

/// The graph without the parameters and states that nothing reads: the floats that became integers.
pub(super) fn without_unread(graph: &Graph) -> Graph {
    let mut read = vec![false; graph.value_count()];
    let operands = graph.nodes().flat_map(|(_, node)| &node.operands);
    let given_out = graph.outputs().iter().map(|output| &output.value);
    operands.chain(given_out).for_each(|value| read[value.index()] = true);
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        let is_resident = matches!(node.op, Op::Param { .. } | Op::State { .. });
        if !is_resident || node.results.iter().any(|result| read[result.index()]) {
            rewriter.copy(id);
        }
    }
    rewriter.finish()
}

struct Pass<'a> {
    rewriter: Rewriter<'a>,
    sources: Sources<'a>,
    ranges: Ranges,
    /// By old value.
    integers: Vec<Option<Integers>>,
    source: &'a Source<'a>,
    /// What there are integers for, by old value.
    rounded: BTreeMap<ValueId, Rounded>,
    /// Integers and scales of weights by the name of their site.
    weights: BTreeMap<String, [ValueId; 2]>,
    /// What is added to results, by the name of their site.
    shifts: BTreeMap<String, ValueId>,
    /// Results that are shifted, by old value: what they are without it, and the numbers that are added to channels.
    shifted: BTreeMap<ValueId, [ValueId; 2]>,
}

impl Pass<'_> {
    /// Makes the integers of a value that is there.
    fn round(&mut self, old: ValueId, range: Range) -> Integers {
        let x = self.rewriter.value(old);
        let integers = Integers { value: self.rounded(x, range), range };
        self.stand_for(old, integers);
        integers
    }

    /// The integers of floats.
    fn rounded(&mut self, x: ValueId, range: Range) -> ValueId {
        let x = self.without_limits(x, range);
        let steps = f64::from(1.0 / range.scale);
        let scaled = match self.times(x, steps, CHAIN) {
            Some(scaled) => scaled,
            None => self.with_number(BinaryOp::Mul, x, steps),
        };
        let whole = self.rewriter.emit(Op::Unary(UnaryOp::Round), &[scaled]);
        // The cast saturates.
        let moved = if range.signed { self.with_number(BinaryOp::Add, whole, f64::from(MIDDLE)) } else { whole };
        self.rewriter.emit(Op::Cast(DType::U8), &[moved])
    }

    /// A value times a positive number, where that is a factor of what is broadcast or constant in it, so that nothing
    /// is multiplied point by point: `k max(s q + b, 0)` is `max((k s) q + k b, 0)`. So many steps back, at most.
    fn times(&mut self, x: ValueId, factor: f64, steps: usize) -> Option<ValueId> {
        let ty = self.rewriter.ty(x).clone();
        if let Some(number) = number(self.rewriter.graph(), x) {
            return Some(self.rewriter.graph_mut().splat(&ty, number * factor));
        }
        let steps = steps.checked_sub(1)?;
        let (op, operands) = self.rewriter.definition(x);
        let (op, operands) = (op.clone(), operands.to_vec());
        let operands = match op {
            Op::Broadcast { .. } => vec![self.with_number(BinaryOp::Mul, operands[0], factor)],
            Op::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Max | BinaryOp::Min) => {
                vec![self.times(operands[0], factor, steps)?, self.times(operands[1], factor, steps)?]
            }
            Op::Binary(BinaryOp::Mul) => match self.times(operands[1], factor, steps) {
                Some(second) => vec![operands[0], second],
                None => vec![self.times(operands[0], factor, steps)?, operands[1]],
            },
            _ => return None,
        };
        Some(self.rewriter.emit(op, &operands))
    }

    /// From here on integers stand for an old value; all further readers read what they stand for, unless it is data.
    fn stand_for(&mut self, old: ValueId, integers: Integers) {
        self.integers[old.index()] = Some(integers);
        if !self.sources.is_learned(old) {
            return;
        }
        let range = integers.range;
        let float = self.rewriter.emit(Op::Cast(DType::F32), &[integers.value]);
        let float = if range.signed { self.with_number(BinaryOp::Sub, float, f64::from(MIDDLE)) } else { float };
        let float = self.with_number(BinaryOp::Mul, float, f64::from(range.scale));
        self.rewriter.replace(old, float);
    }

    /// What limits are applied to that are no tighter than those of the bytes, which saturate: at 0, or where numbers
    /// become the largest byte anyway, as those of a relu that stops at 6 on activations up to 6.
    fn without_limits(&self, x: ValueId, range: Range) -> ValueId {
        let top = f64::from(range.levels() - 0.5) * f64::from(range.scale);
        let known = |value: ValueId| number(self.rewriter.graph(), value);
        let is_loose = |op: BinaryOp, limit: f64| match op {
            BinaryOp::Max => !range.signed && limit == 0.0,
            BinaryOp::Min => limit >= top,
            _ => false,
        };
        let (&Op::Binary(op), &[a, b]) = self.rewriter.definition(x) else { return x };
        match (known(a), known(b)) {
            (_, Some(limit)) if is_loose(op, limit) => self.without_limits(a, range),
            (Some(limit), _) if is_loose(op, limit) => self.without_limits(b, range),
            _ => x,
        }
    }

    fn with_number(&mut self, op: BinaryOp, x: ValueId, number: f64) -> ValueId {
        let ty = self.rewriter.ty(x).clone();
        let number = self.rewriter.graph_mut().splat(&ty, number);
        self.rewriter.emit(Op::Binary(op), &[x, number])
    }

    /// A node that is no product of integers.
    fn other(&mut self, id: NodeId, node: &Node) {
        let is_done = self.moved(node) || self.summed(node) || self.biased(node);
        if !is_done || !self.sources.is_learned(node.results[0]) {
            self.rewriter.copy(id);
        }
    }

    /// Adds integers instead of floats.
    fn summed(&mut self, node: &Node) -> bool {
        let learned = node.operands.first().filter(|operand| self.sources.is_learned(**operand));
        let Some(x) = learned.and_then(|operand| self.integers[operand.index()]) else { return false };
        let sum = pool::sum(&mut self.rewriter, node, x);
        sum.iter().for_each(|&sum| self.rewriter.replace(node.results[0], sum));
        sum.is_some()
    }

    /// Moves integers instead of floats, where all that is moved is integers. Those of other ranges than the one that
    /// is wanted of a concatenation are rounded once more.
    fn moved(&mut self, node: &Node) -> bool {
        if !moves(&node.op) && !matches!(node.op, Op::Concat { .. }) {
            return false;
        }
        let operands: Option<Vec<Integers>> = node.operands.iter().map(|value| self.integers[value.index()]).collect();
        let Some(operands) = operands else { return false };
        let wanted = self.ranges.get(node.results[0]);
        let range = wanted.unwrap_or(operands[0].range);
        if wanted.is_none() && operands.iter().any(|operand| operand.range != range) {
            return false;
        }
        let mut values = Vec::new();
        for (&old, operand) in node.operands.iter().zip(operands) {
            let float = self.rewriter.value(old);
            values.push(if operand.range == range { operand.value } else { self.rounded(float, range) });
        }
        let value = self.rewriter.emit(node.op.clone(), &values);
        self.stand_for(node.results[0], Integers { value, range });
        true
    }

    /// Adds a bias and the shift of a result in one step, where that result is no integers.
    fn biased(&mut self, node: &Node) -> bool {
        let (Op::Binary(BinaryOp::Add), &[a, b]) = (&node.op, &node.operands[..]) else { return false };
        let old = self.rewriter.old();
        let shifted = [(a, b), (b, a)].into_iter().find_map(|(result, added)| {
            let shift = self.shifted.get(&result).filter(|_| self.ranges.get(result).is_none())?;
            let (product, added) = (old.definition(result), old.definition(added));
            let is_bias =
                matches!(&added.op, Op::Broadcast { axes, .. } if axes[..] == [result_channels(old, product)]);
            is_bias.then(|| (product, *shift, added.operands[0]))
        });
        let Some((product, [y, shift], bias)) = shifted else { return false };
        let bias = self.rewriter.value(bias);
        let bias = self.rewriter.emit(Op::Binary(BinaryOp::Add), &[bias, shift]);
        let bias = self.along_channels(product, bias);
        let sum = self.rewriter.emit(Op::Binary(BinaryOp::Add), &[y, bias]);
        self.rewriter.replace(node.results[0], sum);
        true
    }

    /// A product of integers, and its result as floats.
    fn product(&mut self, node: &Node, site: &Site, layer: &Layer) {
        let range = layer.input;
        let x = match self.integers[site.input.index()] {
            Some(x) => x,
            None => self.round(site.input, range),
        };
        let [weights, scales] = self.weights(&site.name, (site.weights, site.channel_axis));
        let weights = self.with_number(BinaryOp::Max, weights, -f64::from(WEIGHT_LEVELS));
        let weights = self.with_number(BinaryOp::Min, weights, f64::from(WEIGHT_LEVELS));
        let sums = self.sums(&node.op, x, weights);
        let sums = match x.range.signed {
            true => self.without_middle(node, sums, (weights, site)),
            false => sums,
        };
        let sums = self.rewriter.emit(Op::Cast(DType::F32), &[sums]);
        let scales = self.with_number(BinaryOp::Mul, scales, f64::from(x.range.scale));
        let channels = TensorType::new(DType::F32, self.rewriter.ty(scales).shape.clone());
        let scales = self.along_channels(node, scales);
        let y = self.rewriter.emit(Op::Binary(BinaryOp::Mul), &[sums, scales]);
        let y = if layer.is_shifted { self.with_shift(node, y, (&site.name, channels)) } else { y };
        self.rewriter.replace(node.results[0], y);
    }

    /// The results of a product and what makes up for rounding.
    fn with_shift(&mut self, node: &Node, y: ValueId, (name, channels): (&str, TensorType)) -> ValueId {
        let shift = match self.shifts.get(name) {
            Some(&shift) => shift,
            None => self.rewriter.emit(Op::Param { path: shifts_path(name), ty: channels }, &[]),
        };
        self.shifts.insert(name.to_owned(), shift);
        self.shifted.insert(node.results[0], [y, shift]);
        let shift = self.along_channels(node, shift);
        self.rewriter.emit(Op::Binary(BinaryOp::Add), &[y, shift])
    }

    /// The integers and scales of weights whose output channels lie along an axis, the same for all of a name.
    fn weights(&mut self, name: &str, (old, channel_axis): (ValueId, usize)) -> [ValueId; 2] {
        if let Some(&made) = self.weights.get(name) {
            return made;
        }
        let made = match self.source {
            Source::File(_) => {
                let shape = self.rewriter.old().ty(old).shape.clone();
                let scales = TensorType::new(DType::F32, Shape(vec![shape[channel_axis].clone()]));
                let weights = Op::Param { path: weights_path(name), ty: TensorType::new(DType::I8, shape) };
                let scales = Op::Param { path: scales_path(name), ty: scales };
                [weights, scales].map(|parameter| self.rewriter.emit(parameter, &[]))
            }
            Source::Floats => {
                let weights = self.rewriter.value(old);
                let rounded = rounded_weights(self.rewriter.graph_mut(), weights, channel_axis);
                [self.rewriter.emit(Op::Cast(DType::I8), &[rounded.numbers]), rounded.scales]
            }
        };
        self.weights.insert(name.to_owned(), made);
        made
    }

    /// From here on an old value that a file has integers for is what these stand for.
    fn read_as_integers(&mut self, old: ValueId) {
        let Some(Rounded { name, channel_axis }) = self.rounded.remove(&old) else { return };
        let [weights, scales] = self.weights(&name, (old, channel_axis));
        let floats = self.rewriter.emit(Op::Cast(DType::F32), &[weights]);
        let shape = self.rewriter.ty(floats).shape.clone();
        let scales = self.rewriter.emit(Op::Broadcast { shape, axes: vec![channel_axis] }, &[scales]);
        let floats = self.rewriter.emit(Op::Binary(BinaryOp::Mul), &[floats, scales]);
        self.rewriter.replace(old, floats);
    }

    /// The sums of products with as many terms as kernels want.
    fn sums(&mut self, op: &Op, x: Integers, weights: ValueId) -> ValueId {
        let [terms_of_x, terms_of_w] = terms(op);
        let (op, x) = match op {
            Op::Conv(at) => x.bordered(&mut self.rewriter, at),
            _ => (op.clone(), x.value),
        };
        let x = self.with_whole_words(x, terms_of_x);
        let weights = self.with_whole_words(weights, terms_of_w);
        self.rewriter.emit(op, &[x, weights])
    }

    /// Sums without what they have too much because 0 is not 0.
    fn without_middle(&mut self, node: &Node, sums: ValueId, (weights, site): (ValueId, &Site)) -> ValueId {
        let excess = match &node.op {
            Op::ConvInputGrad { .. } => self.middle_at_places(node, weights),
            _ => self.middle_of_channels(node, (weights, site.channel_axis)),
        };
        self.rewriter.emit(Op::Binary(BinaryOp::Sub), &[sums, excess])
    }

    /// What the sums of each channel have too much.
    fn middle_of_channels(&mut self, node: &Node, (weights, channel_axis): (ValueId, usize)) -> ValueId {
        let rank = self.rewriter.ty(weights).shape.rank();
        let wide = self.rewriter.emit(Op::Cast(DType::I32), &[weights]);
        let axes = (0..rank).filter(|&axis| axis != channel_axis).collect();
        let of_channels = self.rewriter.emit(Op::Reduce { op: ReduceOp::Sum, axes }, &[wide]);
        let excess = self.with_number(BinaryOp::Mul, of_channels, f64::from(MIDDLE));
        self.along_channels(node, excess)
    }

    /// What the sums of the transpose of a convolution have too much, which differs from place to place as the taps do
    /// that meet there: those of an image that is 0 everywhere.
    fn middle_at_places(&mut self, node: &Node, weights: ValueId) -> ValueId {
        let old = self.rewriter.old();
        let mut image = TensorType::new(DType::U8, old.ty(node.operands[0]).shape.clone());
        image.shape.0[0] = Dim::from(1i64);
        let zeros = self.rewriter.graph_mut().splat(&image, f64::from(MIDDLE));
        let excess = self.rewriter.emit(node.op.clone(), &[zeros, weights]);
        let shape = old.ty(node.results[0]).shape.clone();
        let axes = (0..shape.rank()).collect();
        self.rewriter.emit(Op::Broadcast { shape, axes }, &[excess])
    }

    /// A number for each output channel, at every place of a product's result.
    fn along_channels(&mut self, node: &Node, numbers: ValueId) -> ValueId {
        let old = self.rewriter.old();
        let (shape, axis) = (old.ty(node.results[0]).shape.clone(), result_channels(old, node));
        self.rewriter.emit(Op::Broadcast { shape, axes: vec![axis] }, &[numbers])
    }

    /// A value with something behind the others along an axis whose size is no multiple of a word's terms: what is
    /// around them already, or zeros. Of two factors one has zeros.
    fn with_whole_words(&mut self, value: ValueId, axis: Option<usize>) -> ValueId {
        let ty = self.rewriter.ty(value).clone();
        let shape = ty.shape;
        let missing = axis.and_then(|axis| Some((axis, (-shape[axis].as_number()?).rem_euclid(WORD as i64))));
        let Some((axis, missing)) = missing.filter(|(_, missing)| *missing > 0) else { return value };
        let none = vec![Dim::from(0i64); shape.rank()];
        let (op, operands) = self.rewriter.definition(value);
        let (low, mut high, inner) = match op {
            Op::Pad { low, high } => (low.clone(), high.clone(), operands.to_vec()),
            _ => (none.clone(), none, vec![value, self.rewriter.graph_mut().scalar(ty.dtype, 0.0)]),
        };
        high[axis] = high[axis].clone() + Dim::from(missing);
        self.rewriter.emit(Op::Pad { low, high }, &inner)
    }
}

/// The axes of activations and weights along which terms are added; none where channels are single.
fn terms(op: &Op) -> [Option<usize>; 2] {
    match op {
        Op::Conv(at) if at.groups.is(1) => [Some(1), Some(1)],
        Op::ConvInputGrad { .. } => [Some(1), Some(0)],
        Op::Dot { a_axes, b_axes, .. } => [Some(a_axes[0]), Some(b_axes[0])],
        _ => [None, None],
    }
}
