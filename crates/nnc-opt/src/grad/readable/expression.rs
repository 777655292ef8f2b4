//! Values as expressions, and the choice which of them get a line.
//!
//! The notation is the language's: infix operators by its precedence, `@` and `.T`, `x[:, new]` for a stretch along
//! axes that are not the last ones, `sum(x, axis=0)`.

use super::calls::{Call, calls};
use super::data::Data;
use super::names::{Unique, base, is_strong};
use super::notation::{compare_sign, constant, conv, dims, indexing, range_text, reduce_name, window, window_name};
use nnc_graph::{BinaryOp, Graph, Node, Op, ReduceOp, TensorType, UnaryOp, ValueId};
use std::collections::BTreeMap;

/// An expression that is longer gets a line.
const LONGEST: usize = 80;

/// One step.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) expression: String,
    /// Of a loop, the types of all that is used of it.
    pub(super) ty: String,
    pub(super) forward: bool,
}

/// How tightly an expression holds together, loosest first: the language's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tightness {
    Or,
    And,
    Not,
    Compare,
    Sum,
    Product,
    Sign,
    Power,
    Atom,
}

#[derive(Clone)]
pub(super) struct Expression {
    pub(super) text: String,
    pub(super) tightness: Tightness,
}

impl Expression {
    pub(super) fn atom(text: impl Into<String>) -> Self {
        Self { text: text.into(), tightness: Tightness::Atom }
    }

    /// As an operand of something that needs at least this tightness.
    pub(super) fn within(&self, tightness: Tightness) -> String {
        if self.tightness >= tightness { self.text.clone() } else { format!("({})", self.text) }
    }
}

pub(super) struct Writer<'g> {
    pub(super) graph: &'g Graph,
    pub(super) forward: &'g [bool],
    pub(super) calls: BTreeMap<ValueId, Call>,
    /// How often each value is read, by nodes that print and by outputs.
    pub(super) uses: Vec<usize>,
    pub(super) data: Data,
    pub(super) printed: BTreeMap<ValueId, Expression>,
    pub(super) unique: Unique,
}

impl<'g> Writer<'g> {
    pub(super) fn new(graph: &'g Graph, forward: &'g [bool]) -> Self {
        let calls = calls(graph, forward);
        let mut unique = Unique::default();
        reserve_names(graph, &mut unique);
        let data = Data::find(graph, forward, &mut unique);
        let mut writer = Self { graph, forward, calls, uses: Vec::new(), data, printed: BTreeMap::new(), unique };
        writer.uses = writer.count_uses();
        writer
    }

    /// Names and types of the data that the steps start from.
    pub(super) fn given(&self) -> Vec<(String, TensorType)> {
        let name = |node: &Node| match (&node.op, self.data.names.get(&node.results[0])) {
            (_, Some(name)) | (Op::Input { name, .. }, None) => Some(name.clone()),
            _ => None,
        };
        let used = self.graph.nodes().filter(|(_, node)| self.uses[node.results[0].index()] > 0);
        used.filter_map(|(_, node)| Some((name(node)?, self.graph.ty(node.results[0]).clone()))).collect()
    }

    /// What the expression of a node reads: the arguments of a call, or the operands.
    fn reads(&self, node: &Node) -> Vec<ValueId> {
        match self.calls.get(&node.results[0]) {
            _ if self.data.names.contains_key(&node.results[0]) => Vec::new(),
            Some(call) => call.arguments.clone(),
            None => node.operands.clone(),
        }
    }

    pub(super) fn count_uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.graph.value_count()];
        self.graph.outputs().iter().for_each(|output| uses[output.value.index()] += 1);
        for (_, node) in self.graph.nodes().rev().filter(|(_, node)| node.op.leaf_name().is_none()) {
            if node.results.iter().any(|result| uses[result.index()] > 0) {
                self.reads(node).into_iter().for_each(|read| uses[read.index()] += 1);
            }
        }
        uses
    }

    /// Every line, in program order.
    pub(super) fn lines(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (_, node) in self.graph.nodes() {
            let value = node.results[0];
            if node.results.iter().all(|result| self.uses[result.index()] == 0) || self.printed.contains_key(&value) {
                continue;
            }
            if let Op::Scan(scan) = &node.op {
                lines.extend(self.loop_lines(node, scan));
                continue;
            }
            let expression = self.expression(node);
            let outputs = self.graph.outputs().iter().filter(|output| output.value == value);
            let mut names: Vec<String> = outputs.map(|output| output.name.clone()).collect();
            if names.is_empty() && self.needs_line(node, &expression) {
                let name = self.graph.value(value).name.as_deref().unwrap_or("t");
                names.push(self.unique.shown(name));
            }
            let forward = self.forward[value.index()];
            let ty = self.graph.ty(value).to_string();
            let mut called = expression;
            for name in names {
                lines.push(Line { name: name.clone(), expression: called.text.clone(), ty: ty.clone(), forward });
                called = Expression::atom(name);
            }
            self.printed.insert(value, called);
        }
        lines
    }

    fn needs_line(&self, node: &Node, expression: &Expression) -> bool {
        let value = node.results[0];
        if self.data.names.contains_key(&value) {
            return false;
        }
        let plain = match &node.op {
            Op::Broadcast { .. } | Op::Transpose(_) | Op::Cast(_) => !is_strong(self.graph, value),
            Op::Constant(_) | Op::Extent { .. } => true,
            op => op.leaf_name().is_some(),
        };
        let long = expression.text.len() > LONGEST;
        let shared = self.uses[value.index()] > 1 && expression.text.len() > 8;
        let named = is_strong(self.graph, value) && !self.is_bound_again(value);
        !plain && (named || shared || long)
    }

    /// Whether the only use of a value is a value that the user gave the same name: `y = x @ w; y = y + b`.
    fn is_bound_again(&self, value: ValueId) -> bool {
        let users = self.graph.users(self.graph.value(value).node);
        let name = |value: ValueId| self.graph.value(value).name.as_deref().map(base);
        let [user] = users.as_slice() else { return false };
        self.uses[value.index()] == 1 && name(value) == name(self.graph.node(*user).results[0])
    }

    pub(super) fn text(&self, value: ValueId) -> Expression {
        self.printed.get(&value).cloned().unwrap_or_else(|| Expression::atom(value.to_string()))
    }

    fn list(&self, values: &[ValueId]) -> String {
        values.iter().map(|&value| self.text(value).text).collect::<Vec<_>>().join(", ")
    }

    fn expression(&self, node: &Node) -> Expression {
        let value = node.results[0];
        if let Some(name) = self.data.names.get(&value) {
            return Expression::atom(name);
        }
        if let Some(call) = self.calls.get(&value) {
            return Expression::atom(format!("{}({})", call.function, self.list(&call.arguments)));
        }
        if let Some(mean) = self.mean(node) {
            return mean;
        }
        self.operation(node)
    }

    /// Flat dispatch: one line or call for each op.
    fn operation(&self, node: &Node) -> Expression {
        let x = &node.operands;
        let first = |tightness| self.text(x[0]).within(tightness);
        let call = |name: &str, operands: &[ValueId], rest: String| {
            let rest = if rest.is_empty() { rest } else { format!(", {rest}") };
            Expression::atom(format!("{name}({}{rest})", self.list(operands)))
        };
        let shape = self.graph.ty(node.results[0]).shape.clone();
        match &node.op {
            Op::Input { name, .. } | Op::Param { path: name, .. } | Op::State { path: name, .. } => {
                Expression::atom(name)
            }
            Op::Constant(tensor) => constant(tensor),
            Op::Extent { dim, .. } => Expression::atom(dim.to_string()),
            Op::Iota { axis, .. } => Expression::atom(format!("iota({}, axis={axis})", dims(&shape))),
            Op::Random { .. } => Expression::atom(format!("uniform({})", dims(&shape))),
            Op::Unary(op) => self.unary(*op, x[0]),
            Op::Binary(op) => self.binary(*op, x[0], x[1]),
            Op::Compare(op) => self.infix(compare_sign(*op), Tightness::Compare, x[0], x[1]),
            Op::Select => call("where", x, String::new()),
            Op::Cast(dtype) => call(dtype.name(), x, String::new()),
            Op::Reshape(shape) => call("reshape", x, dims(shape)),
            Op::Transpose(permutation) if permutation.len() == 2 => {
                Expression::atom(format!("{}.T", first(Tightness::Atom)))
            }
            Op::Transpose(permutation) => call("transpose", x, format!("{permutation:?}")),
            Op::Broadcast { axes, .. } => self.stretch(x[0], axes, shape.rank()),
            Op::Slice(ranges) => {
                let source = self.graph.ty(x[0]).shape.clone();
                let ranges = ranges.iter().zip(source.iter()).map(|(range, dim)| range_text(range, dim));
                Expression::atom(format!("{}[{}]", first(Tightness::Atom), ranges.collect::<Vec<_>>().join(", ")))
            }
            Op::Pad { low, high } => {
                let sides = format!("low={}, high={}", dims(low), dims(high));
                call("pad", &x[..1], format!("{sides}, value={}", self.text(x[1]).text))
            }
            Op::Concat { axis } => call("concat", x, format!("axis={axis}")),
            Op::DynamicSlice { axis, size } => {
                call("slice", &x[..1], format!("at={}, size={size}, axis={axis}", self.text(x[1]).text))
            }
            Op::DynamicUpdate { axes } => {
                let list = |texts: Vec<String>| {
                    if let [one] = &texts[..] { one.clone() } else { format!("({})", texts.join(", ")) }
                };
                let starts = list(x[2..].iter().map(|&start| self.text(start).text).collect());
                let axes = list(axes.iter().map(usize::to_string).collect());
                call("update", &x[..2], format!("at={starts}, axis={axes}"))
            }
            Op::Gather { axis, batch } => call("gather", x, indexing(*axis, *batch)),
            Op::ScatterAdd { axis, batch } => {
                self.one_hot(x).unwrap_or_else(|| call("scatter_add", x, indexing(*axis, *batch)))
            }
            Op::Reduce { op, axes } => self.reduction(reduce_name(*op), x[0], axes),
            Op::ArgMax { axis } => call("argmax", x, format!("axis={axis}")),
            Op::Dot { batch, a_axes, b_axes } => self.dot(x, *batch, a_axes, b_axes),
            Op::DotStored(stored) => call("dot_stored", x, format!("bits={}", stored.bits())),
            Op::Conv(at) => call("conv", x, conv(at)),
            Op::ConvLast(at) => call("conv_last", x, conv(at)),
            Op::ConvInputGrad { attributes, .. } => call("conv_input_grad", x, conv(attributes)),
            Op::ConvInputGradLast { attributes, .. } => call("conv_input_grad_last", x, conv(attributes)),
            Op::ConvWeightGrad { attributes, .. } => call("conv_weight_grad", x, conv(attributes)),
            Op::Window { op, attributes } => call(&format!("{}_pool", window_name(*op)), x, window(attributes)),
            Op::WindowGrad { op, attributes, .. } => {
                call(&format!("{}_pool_grad", window_name(*op)), x, window(attributes))
            }
            Op::WindowPick(attributes) => call("max_pool_pick", x, window(attributes)),
            Op::Scan(scan) => call("scan", x, format!("steps={}", scan.length)),
            Op::Grad => call("grad", x, String::new()),
            Op::StopGradient => call("stop_gradient", x, String::new()),
        }
    }

    fn unary(&self, op: UnaryOp, x: ValueId) -> Expression {
        let operand = self.text(x);
        match op {
            UnaryOp::Neg => {
                Expression { text: format!("-{}", operand.within(Tightness::Sign)), tightness: Tightness::Sign }
            }
            UnaryOp::Not => {
                Expression { text: format!("not {}", operand.within(Tightness::Not)), tightness: Tightness::Not }
            }
            op => Expression::atom(format!("{}({})", op.name(), operand.text)),
        }
    }

    fn binary(&self, op: BinaryOp, a: ValueId, b: ValueId) -> Expression {
        match op {
            BinaryOp::Add => self.infix("+", Tightness::Sum, a, b),
            BinaryOp::Sub => self.infix("-", Tightness::Sum, a, b),
            BinaryOp::Mul if a == b => {
                let text = format!("{} ** 2", self.text(a).within(Tightness::Atom));
                Expression { text, tightness: Tightness::Power }
            }
            BinaryOp::Mul => self.infix("*", Tightness::Product, a, b),
            BinaryOp::Div => self.infix("/", Tightness::Product, a, b),
            BinaryOp::Rem => self.infix("%", Tightness::Product, a, b),
            BinaryOp::Pow => {
                let (a, b) = (self.text(a).within(Tightness::Atom), self.text(b).within(Tightness::Atom));
                Expression { text: format!("{a} ** {b}"), tightness: Tightness::Power }
            }
            BinaryOp::And => self.infix("and", Tightness::And, a, b),
            BinaryOp::Or => self.infix("or", Tightness::Or, a, b),
            BinaryOp::Max => Expression::atom(format!("maximum({})", self.list(&[a, b]))),
            BinaryOp::Min => Expression::atom(format!("minimum({})", self.list(&[a, b]))),
        }
    }

    /// Left-associative: the right operand holds tighter.
    fn infix(&self, sign: &str, tightness: Tightness, a: ValueId, b: ValueId) -> Expression {
        let tighter = match tightness {
            Tightness::Or => Tightness::And,
            Tightness::And => Tightness::Not,
            Tightness::Not | Tightness::Compare => Tightness::Sum,
            Tightness::Sum => Tightness::Product,
            Tightness::Product => Tightness::Sign,
            Tightness::Sign | Tightness::Power | Tightness::Atom => Tightness::Atom,
        };
        let left = if tightness == Tightness::Compare { tighter } else { tightness };
        let (a, b) = (self.text(a).within(left), self.text(b).within(tighter));
        Expression { text: format!("{a} {sign} {b}"), tightness }
    }

    /// A stretch along leading axes goes without saying.
    fn stretch(&self, x: ValueId, axes: &[usize], rank: usize) -> Expression {
        let trailing = axes.iter().rev().zip((0..rank).rev()).all(|(axis, last)| *axis == last);
        if trailing {
            return self.text(x);
        }
        let first = axes[0];
        let marks: Vec<&str> = (first..rank).map(|axis| if axes.contains(&axis) { ":" } else { "new" }).collect();
        Expression::atom(format!("{}[{}]", self.text(x).within(Tightness::Atom), marks.join(", ")))
    }

    fn reduction(&self, name: &str, x: ValueId, axes: &[usize]) -> Expression {
        let all = axes.len() == self.graph.ty(x).shape.rank();
        let axis = match axes {
            _ if all => String::new(),
            [axis] => format!(", axis={axis}"),
            axes => format!(", axis={axes:?}"),
        };
        Expression::atom(format!("{name}({}{axis})", self.text(x).text))
    }

    /// `sum(x) / n` and `sum(x) * (1 / n)` are means.
    fn mean(&self, node: &Node) -> Option<Expression> {
        let (sum, number, divides) = match node.op {
            Op::Binary(BinaryOp::Div) => (node.operands[0], node.operands[1], true),
            Op::Binary(BinaryOp::Mul) => (node.operands[0], node.operands[1], false),
            _ => return None,
        };
        let reduction = self.graph.definition(sum);
        let Op::Reduce { op: ReduceOp::Sum, axes } = &reduction.op else { return None };
        let (x, number) = (reduction.operands[0], crate::simplify::matching::number(self.graph, number)?);
        let shape = &self.graph.ty(x).shape;
        let count = axes.iter().try_fold(1i64, |product, &axis| product.checked_mul(shape[axis].as_number()?))? as f64;
        let is_mean = if divides { number == count } else { (number * count - 1.0).abs() < 1e-6 };
        let inside = self.uses[sum.index()] == 1 && !is_strong(self.graph, sum);
        (is_mean && inside).then(|| self.reduction("mean", x, axes))
    }

    /// One number added at one place of each row of zeros.
    fn one_hot(&self, x: &[ValueId]) -> Option<Expression> {
        let number = |value| crate::simplify::matching::number(self.graph, value);
        let (shape, rows) = (&self.graph.ty(x[0]).shape, self.graph.ty(x[1]).shape.rank());
        if number(x[0]) != Some(0.0) || number(x[2]).is_none() || shape.rank() != rows + 1 {
            return None;
        }
        let text = format!("{} * one_hot({}, {})", self.text(x[2]).text, self.text(x[1]).text, shape[rows]);
        Some(Expression { text, tightness: Tightness::Product })
    }

    fn dot(&self, x: &[ValueId], batch: usize, a_axes: &[usize], b_axes: &[usize]) -> Expression {
        let rank = |value: ValueId| self.graph.ty(value).shape.rank();
        let turned = |value: ValueId, turn: bool| {
            let text = self.text(value).within(Tightness::Atom);
            if turn { format!("{text}.T") } else { text }
        };
        let plain = batch == 0 && rank(x[0]) <= 2 && rank(x[1]) <= 2;
        if let ([a_axis], [b_axis], true) = (a_axes, b_axes, plain) {
            let a = turned(x[0], rank(x[0]) == 2 && *a_axis == 0);
            let b = turned(x[1], rank(x[1]) == 2 && *b_axis == 1);
            return Expression { text: format!("{a} @ {b}"), tightness: Tightness::Product };
        }
        let batch = if batch == 0 { String::new() } else { format!(", batch={batch}") };
        Expression::atom(format!("dot({}, axes=({a_axes:?}, {b_axes:?}){batch})", self.list(x)))
    }
}

/// Leaves keep their names, except that an input lends its name to the data that is made from it.
fn reserve_names(graph: &Graph, unique: &mut Unique) {
    for (_, node) in graph.nodes() {
        match &node.op {
            Op::Param { path, .. } | Op::State { path, .. } => drop(unique.name(path)),
            _ => {}
        }
    }
}
