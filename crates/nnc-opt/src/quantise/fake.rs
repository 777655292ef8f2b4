//! Fake quantisation: a training step that computes in floats what products of integers will give.
//!
//! Activations and weights of each product are rounded as [`super::apply`] and [`super::weights`] round them, and the
//! rounded floats take their place, so that weights learn to live with it. The derivative goes straight through, as if
//! nothing were rounded, but is 0 for activations that the range cuts off (Jacob et al., "Quantization and Training of
//! Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018; Bengio, Leonard, Courville, "Estimating or
//! Propagating Gradients Through Stochastic Neurons", 2013):
//!
//! ```text
//! y = stop_gradient(fake) + (x' - stop_gradient(x'))      x' = select(inside, x, stop_gradient(x))
//! ```
//!
//! The difference is exactly 0, or NaN where `x` is no finite number, which the step must not lose.
//!
//! **The range** of a layer, named by the parameter it multiplies by, is two scalars of f32 in the graph that the front
//! end makes: `$quantise.LAYER.top`, the largest magnitude that is told apart, and the state `$quantise.LAYER.sign`, 1
//! once something negative was seen. Each step tells the front end what it saw, in place of the inputs
//! `$seen.LAYER.top` and `$seen.LAYER.sign`. While `top` is 0 a step goes by what it sees itself. Where `top` is a
//! parameter it is learned: the derivative of `y` by it is that of Esser et al. ("Learned Step Size Quantization",
//! 2020), `round(v) - v` inside of the range for `v = x / scale`, and the limit beyond, times their `1 / sqrt(features
//! * levels)`, for a magnitude instead of a step.
//!
//! On entry the graph of a training step with its `grad` nodes, every dim bound; on exit one without inputs `$seen`.
//! Layers that it has no `top` for are left alone. Activations that products read as they are given are rounded for the
//! product alone, all others where they are made, for whoever reads them.

use super::sites::{Site, Sources, sites};
use super::weights::rounded_weights;
use super::{MIDDLE, Range};
use crate::rewrite::{Fuel, Rewriter};
use crate::unfold::unfold_convolutions;
use nnc_graph::{
    BinaryOp, CompareOp, DType, Graph, Node, NodeId, Op, OutputKind, ReduceOp, Shape, TensorType, UnaryOp, ValueId,
};
use std::collections::{BTreeMap, BTreeSet};

/// What the path of a range starts with.
pub const RANGE: &str = "$quantise.";
/// What the path of a layer's largest magnitude ends with.
pub const TOP: &str = ".top";
/// What the path of a layer's sign ends with.
pub const SIGN: &str = ".sign";
/// What the name of what a step saw starts with.
const SEEN: &str = "$seen.";

/// The layers of a training step that integers serve, in program order: the parameter that each multiplies by.
pub fn layers_to_round(graph: &Graph) -> Vec<String> {
    let graph = unfold_convolutions(graph);
    let sites = sites(&with_plain_weights(&graph));
    let mut found = Vec::new();
    for site in sites.iter().filter(|site| !site.is_small()) {
        if !found.iter().any(|layer| layer == site.layer()) {
            found.push(site.layer().to_owned());
        }
    }
    found
}

/// The training step with its products rounded for which there is a range.
pub fn fake_quantise(graph: &Graph) -> Graph {
    let graph = &unfold_convolutions(graph);
    let plain = with_plain_weights(graph);
    let mut unlimited = Fuel::new(None);
    let mut pass = Pass::new(Rewriter::new(graph, &mut unlimited));
    let sites = sites(&plain);
    let sites = sites.into_iter().filter(|site| !site.is_small() && pass.layers.contains_key(site.layer()));
    let sites: BTreeMap<NodeId, Site> = sites.map(|site| (site.node, site)).collect();
    let places = Places::of(&plain, sites.values());
    for (id, node) in graph.nodes() {
        pass.rewriter.at(id);
        match sites.get(&id) {
            Some(site) => pass.product(node, site),
            None => pass.other(id, node),
        }
        for &result in &node.results {
            if let Some(layers) = places.get(result) {
                let value = pass.rewriter.value(result);
                let value = pass.activations(value, layers);
                pass.rewriter.replace(result, value);
            }
        }
    }
    pass.rewriter.finish()
}

/// The graph with every parameter that a step of the recipe has changed, or whose mean is trained, read as the
/// parameter itself, so that weights can be told from activations. Every id stays.
fn with_plain_weights(graph: &Graph) -> Graph {
    let mut plain: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for output in graph.outputs() {
        let OutputKind::Update(_) = output.kind else { continue };
        let mut value = output.value;
        while let Some(former) = before_step(graph, value) {
            plain.insert(value, former);
            value = former;
        }
    }
    for (_, node) in graph.nodes() {
        if let Some(mean) = averaged(graph, node) {
            plain.insert(node.results[0], mean);
        }
    }
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        rewriter.copy(id);
        if let Some(&former) = node.results.first().and_then(|result| plain.get(result)) {
            let former = rewriter.value(former);
            rewriter.replace(node.results[0], former);
        }
    }
    rewriter.finish()
}

/// What a value was before a step settled it: `stop_gradient(select(is finite, new, former))`.
fn before_step(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let settled = graph.definition(value);
    let chosen = (settled.op == Op::StopGradient).then(|| graph.definition(settled.operands[0]))?;
    (chosen.op == Op::Select).then(|| chosen.operands[2])
}

/// The parameter whose trained form, of which it is the mean, a node takes: `select(is first, mean, fast)`.
fn averaged(graph: &Graph, node: &Node) -> Option<ValueId> {
    if node.op != Op::Select {
        return None;
    }
    let [mean, fast] = [1, 2].map(|at| &graph.definition(node.operands[at]).op);
    match (mean, fast) {
        (Op::Param { path: mean, .. }, Op::State { path: fast, .. }) if fast.ends_with(&format!("{mean}.$fast")) => {
            Some(node.operands[1])
        }
        _ => None,
    }
}

/// Names of layers.
type Layers = BTreeSet<String>;

/// Where activations are rounded, and for which layers, as in [`super::apply`].
#[derive(Default)]
struct Places {
    direct: BTreeMap<ValueId, Layers>,
    /// What is only read as a part of a concatenation.
    parts: BTreeMap<ValueId, Layers>,
}

impl Places {
    fn of<'s>(graph: &Graph, sites: impl Iterator<Item = &'s Site>) -> Self {
        let (mut places, sources) = (Self::default(), Sources::new(graph));
        for site in sites {
            let whole = sources.origin(site.input);
            for value in std::iter::once(whole).chain(sources.roots(site.input)) {
                let found = if value == whole { &mut places.direct } else { &mut places.parts };
                if sources.is_learned(value) {
                    found.entry(value).or_default().insert(site.layer().to_owned());
                }
            }
        }
        places
    }

    fn get(&self, value: ValueId) -> Option<&Layers> {
        self.direct.get(&value).or_else(|| self.parts.get(&value))
    }
}

/// A range under way: two scalars.
#[derive(Clone, Copy)]
struct Ends {
    top: ValueId,
    sign: ValueId,
}

/// The range of a layer.
#[derive(Clone, Copy)]
struct Kept {
    /// Before the step.
    before: Ends,
    is_learned: bool,
    /// What the step saw so far.
    seen: Option<Ends>,
}

struct Pass<'a> {
    rewriter: Rewriter<'a>,
    sources: Sources<'a>,
    layers: BTreeMap<String, Kept>,
    /// Rounded weights, and what products read as it was given: by new value, and the axis of channels or the layer.
    weights: BTreeMap<(ValueId, usize), ValueId>,
    given: BTreeMap<(ValueId, String), ValueId>,
}

impl<'a> Pass<'a> {
    /// Starts with the ranges, which stand before all else.
    fn new(mut rewriter: Rewriter<'a>) -> Self {
        let mut layers = BTreeMap::new();
        for (_, node) in rewriter.old().nodes() {
            let (path, is_learned) = match &node.op {
                Op::Param { path, .. } => (path, true),
                Op::State { path, .. } => (path, false),
                _ => continue,
            };
            let Some(layer) = path.strip_prefix(RANGE).and_then(|rest| rest.strip_suffix(TOP)) else { continue };
            let top = rewriter.emit(node.op.clone(), &[]);
            let ty = TensorType::scalar(DType::F32);
            let sign = rewriter.emit(Op::State { path: format!("{RANGE}{layer}{SIGN}"), ty }, &[]);
            layers.insert(layer.to_owned(), Kept { before: Ends { top, sign }, is_learned, seen: None });
        }
        Self {
            sources: Sources::new(rewriter.old()),
            rewriter,
            layers,
            weights: BTreeMap::new(),
            given: BTreeMap::new(),
        }
    }

    /// A node that is no product to be rounded.
    fn other(&mut self, id: NodeId, node: &Node) {
        match self.end(&node.op) {
            Some(value) => self.rewriter.replace(node.results[0], value),
            None => {
                self.rewriter.copy(id);
            }
        }
    }

    /// The value that stands for an end of a range, or for what was seen of it.
    fn end(&self, op: &Op) -> Option<ValueId> {
        let name = op.leaf_name()?;
        let of = |rest: &str, ends: fn(&Kept) -> Ends| {
            let named = |end: &str| rest.strip_suffix(end).and_then(|layer| self.layers.get(layer));
            named(TOP).map(|kept| ends(kept).top).or_else(|| named(SIGN).map(|kept| ends(kept).sign))
        };
        match (op, name.strip_prefix(RANGE), name.strip_prefix(SEEN)) {
            (Op::Param { .. } | Op::State { .. }, Some(rest), _) => of(rest, |kept| kept.before),
            (Op::Input { .. }, _, Some(rest)) => of(rest, |kept| kept.seen.unwrap_or(kept.before)),
            _ => None,
        }
    }

    fn product(&mut self, node: &Node, site: &Site) {
        let [x, w] = [0, 1].map(|at| self.rewriter.value(node.operands[at]));
        let is_given = !self.sources.is_learned(site.input);
        let x = if is_given { self.given(x, site) } else { x };
        let key = (w, site.channel_axis);
        let w = match self.weights.get(&key) {
            Some(&known) => known,
            None => self.weights(w, site.channel_axis),
        };
        self.weights.insert(key, w);
        let y = self.rewriter.emit(node.op.clone(), &[x, w]);
        self.rewriter.replace(node.results[0], y);
    }

    fn given(&mut self, x: ValueId, site: &Site) -> ValueId {
        let key = (x, site.layer().to_owned());
        let rounded = match self.given.get(&key) {
            Some(&known) => known,
            None => self.activations(x, &Layers::from([key.1.clone()])),
        };
        self.given.insert(key, rounded);
        rounded
    }

    fn weights(&mut self, w: ValueId, channel_axis: usize) -> ValueId {
        let graph = self.rewriter.graph_mut();
        let shape = graph.ty(w).shape.clone();
        let rounded = rounded_weights(graph, w, channel_axis);
        let scales = self.rewriter.emit(Op::Broadcast { shape, axes: vec![channel_axis] }, &[rounded.scales]);
        let fake = self.binary(BinaryOp::Mul, rounded.numbers, scales);
        self.straight_through(fake, w)
    }

    /// `fake` with the derivative of `x`.
    fn straight_through(&mut self, fake: ValueId, x: ValueId) -> ValueId {
        let fake = self.rewriter.emit(Op::StopGradient, &[fake]);
        self.with_derivative(fake, x)
    }

    /// `y` with the derivative of `x` as well.
    fn with_derivative(&mut self, y: ValueId, x: ValueId) -> ValueId {
        let still = self.rewriter.emit(Op::StopGradient, &[x]);
        let nothing = self.binary(BinaryOp::Sub, x, still);
        self.binary(BinaryOp::Add, y, nothing)
    }

    /// Activations rounded in a range that covers those of some layers.
    fn activations(&mut self, x: ValueId, layers: &Layers) -> ValueId {
        let seen = self.looked_at(x);
        let Some(range) = self.range(layers, seen) else { return x };
        let shape = self.rewriter.ty(x).shape.clone();
        let [one, narrow] = [1.0, -f64::from(MIDDLE)].map(|number| self.number(number));
        let below = self.binary(BinaryOp::Mul, range.sign, narrow);
        let wide = self.number(f64::from(Range { scale: 1.0, signed: false }.levels()));
        let levels = self.binary(BinaryOp::Add, below, wide);
        let scale = self.binary(BinaryOp::Div, range.top, levels);
        let scale = self.positive_or(scale, one);
        let steps = self.binary(BinaryOp::Div, one, scale);
        let [least, most, scale, steps] =
            [below, levels, scale, steps].map(|end| self.rewriter.graph_mut().broadcast_scalar(end, &shape));
        let scaled = self.binary(BinaryOp::Mul, x, steps);
        let whole = self.rewriter.emit(Op::Unary(UnaryOp::Round), &[scaled]);
        let number = self.binary(BinaryOp::Max, whole, least);
        let number = self.binary(BinaryOp::Min, number, most);
        let fake = self.binary(BinaryOp::Mul, number, scale);
        let inside = self.rewriter.emit(Op::Compare(CompareOp::Eq), &[whole, number]);
        let still = self.rewriter.emit(Op::StopGradient, &[x]);
        let passing = self.rewriter.emit(Op::Select, &[inside, x, still]);
        let y = self.straight_through(fake, passing);
        if !layers.iter().any(|layer| self.layers[layer].is_learned) {
            return y;
        }
        let lost = self.binary(BinaryOp::Sub, whole, scaled);
        let by_step = self.rewriter.emit(Op::Select, &[inside, lost, number]);
        let top = self.learned(range.top, levels, by_step);
        self.with_derivative(y, top)
    }

    /// A number whose derivative by the largest magnitude `top` is `by_step`, scaled as learning wants it.
    fn learned(&mut self, top: ValueId, levels: ValueId, by_step: ValueId) -> ValueId {
        let shape = self.rewriter.ty(by_step).shape.clone();
        let features: usize = shape.sizes().iter().skip(1).product();
        let share = self.number(1.0 / features.max(1) as f64);
        let share = self.binary(BinaryOp::Mul, levels, share);
        let share = self.rewriter.emit(Op::Unary(UnaryOp::Sqrt), &[share]);
        let by_step = self.rewriter.emit(Op::StopGradient, &[by_step]);
        let [share, top] = [share, top].map(|number| self.rewriter.graph_mut().broadcast_scalar(number, &shape));
        let by_top = self.binary(BinaryOp::Mul, by_step, share);
        self.binary(BinaryOp::Mul, top, by_top)
    }

    /// What is seen of some activations.
    fn looked_at(&mut self, x: ValueId) -> Ends {
        let x = self.rewriter.emit(Op::StopGradient, &[x]);
        let axes: Vec<usize> = (0..self.rewriter.ty(x).shape.rank()).collect();
        let [least, most] =
            [ReduceOp::Min, ReduceOp::Max].map(|op| self.rewriter.emit(Op::Reduce { op, axes: axes.clone() }, &[x]));
        let below = self.rewriter.emit(Op::Unary(UnaryOp::Neg), &[least]);
        let zero = self.number(0.0);
        let is_below = self.rewriter.emit(Op::Compare(CompareOp::Lt), &[least, zero]);
        let sign = self.rewriter.emit(Op::Cast(DType::F32), &[is_below]);
        Ends { top: self.binary(BinaryOp::Max, most, below), sign }
    }

    /// The range that covers those of some layers, which have seen so much more now.
    fn range(&mut self, layers: &Layers, seen: Ends) -> Option<Ends> {
        let mut whole = None;
        for layer in layers {
            let Kept { before, seen: earlier, .. } = self.layers[layer];
            let seen = self.joined(earlier, seen);
            let top = self.positive_or(before.top, seen.top);
            let own = Ends { top, sign: self.binary(BinaryOp::Max, before.sign, seen.sign) };
            whole = Some(self.joined(whole, own));
            self.layers.entry(layer.clone()).and_modify(|kept| kept.seen = Some(seen));
        }
        whole
    }

    fn joined(&mut self, before: Option<Ends>, more: Ends) -> Ends {
        let Some(before) = before else { return more };
        let top = self.binary(BinaryOp::Max, before.top, more.top);
        Ends { top, sign: self.binary(BinaryOp::Max, before.sign, more.sign) }
    }

    /// A scalar, or another one unless it is above 0.
    fn positive_or(&mut self, scalar: ValueId, other: ValueId) -> ValueId {
        let zero = self.number(0.0);
        let is_positive = self.rewriter.emit(Op::Compare(CompareOp::Gt), &[scalar, zero]);
        self.rewriter.emit(Op::Select, &[is_positive, scalar, other])
    }

    fn number(&mut self, number: f64) -> ValueId {
        let ty = TensorType::new(DType::F32, Shape(Vec::new()));
        self.rewriter.graph_mut().splat(&ty, number)
    }

    fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
        self.rewriter.emit(Op::Binary(op), &[a, b])
    }
}
