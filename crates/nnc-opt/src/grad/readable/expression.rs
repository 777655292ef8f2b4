//! Values as expressions, and the choice which of them get a line.
//!
//! The notation is the language's: infix operators by its precedence, `@` and `.T`, `x[:, new]` for a stretch along
//! axes that are not the last ones, `sum(x, axis=0)`.

use super::calls::{Call, calls};
use super::names::{Unique, is_strong, shown};
use nnc_graph::{
    BinaryOp, CompareOp, ConvAttributes, DType, Dim, Graph, Node, Op, ReduceOp, SliceRange, Tensor, TensorType, UnaryOp,
    ValueId, WindowAttributes, WindowOp,
};
use std::collections::BTreeMap;

/// An expression that is longer gets a line.
const LONGEST: usize = 60;

/// One step.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) expression: String,
    pub(super) ty: TensorType,
    pub(super) forward: bool,
}

/// How tightly an expression holds together, loosest first: the language's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tightness {
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
struct Expression {
    text: String,
    tightness: Tightness,
}

impl Expression {
    fn atom(text: impl Into<String>) -> Self {
        Self { text: text.into(), tightness: Tightness::Atom }
    }

    /// As an operand of something that needs at least this tightness.
    fn within(&self, tightness: Tightness) -> String {
        if self.tightness >= tightness { self.text.clone() } else { format!("({})", self.text) }
    }
}

pub(super) struct Writer<'g> {
    graph: &'g Graph,
    forward: &'g [bool],
    calls: BTreeMap<ValueId, Call>,
    /// How often each value is read, by nodes that print and by outputs.
    uses: Vec<usize>,
    trained: Vec<bool>,
    printed: BTreeMap<ValueId, Expression>,
    unique: Unique,
}

impl<'g> Writer<'g> {
    pub(super) fn new(graph: &'g Graph, forward: &'g [bool]) -> Self {
        let calls = calls(graph, forward);
        let mut unique = Unique::default();
        graph.nodes().filter_map(|(_, node)| node.op.leaf_name()).for_each(|name| drop(unique.name(name)));
        let (uses, trained) = (Vec::new(), depends_on_parameters(graph));
        let mut writer = Self { graph, forward, calls, uses, trained, printed: BTreeMap::new(), unique };
        writer.uses = writer.count_uses();
        writer
    }

    fn given(&self, value: ValueId) -> bool {
        let named = is_strong(self.graph, value) && !matches!(self.graph.definition(value).op, Op::Constant(_));
        named && !self.trained[value.index()] && self.forward[value.index()]
    }

    /// What the expression of a node reads: the arguments of a call, or the operands.
    fn reads(&self, node: &Node) -> Vec<ValueId> {
        match self.calls.get(&node.results[0]) {
            Some(call) => call.arguments.clone(),
            None if self.given(node.results[0]) => Vec::new(),
            None => node.operands.clone(),
        }
    }

    fn count_uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.graph.value_count()];
        self.graph.outputs().iter().for_each(|output| uses[output.value.index()] += 1);
        for (_, node) in self.graph.nodes().rev().filter(|(_, node)| node.op.leaf_name().is_none()) {
            if uses[node.results[0].index()] > 0 {
                self.reads(node).into_iter().for_each(|read| uses[read.index()] += 1);
            }
        }
        uses
    }

    /// Every line, in program order.
    pub(super) fn lines(mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (_, node) in self.graph.nodes() {
            let value = node.results[0];
            if self.uses[value.index()] == 0 {
                continue;
            }
            let expression = self.expression(node);
            let outputs = self.graph.outputs().iter().filter(|output| output.value == value);
            let mut names: Vec<String> = outputs.map(|output| output.name.clone()).collect();
            if names.is_empty() && self.needs_line(node, &expression) {
                let name = self.graph.value(value).name.as_deref().unwrap_or("t");
                names.push(self.unique.name(&shown(name)));
            }
            let forward = self.forward[value.index()];
            let ty = self.graph.ty(value).clone();
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
        let plain = match &node.op {
            Op::Broadcast { .. } | Op::Transpose(_) | Op::Cast(_) => !is_strong(self.graph, value),
            Op::Constant(_) | Op::Extent { .. } => true,
            op => op.leaf_name().is_some() || self.given(value),
        };
        let shared = self.uses[value.index()] > 1 && expression.text.len() > 8;
        !plain && (is_strong(self.graph, value) || shared || expression.text.len() > LONGEST)
    }

    fn text(&self, value: ValueId) -> Expression {
        self.printed.get(&value).cloned().unwrap_or_else(|| Expression::atom(value.to_string()))
    }

    fn list(&self, values: &[ValueId]) -> String {
        values.iter().map(|&value| self.text(value).text).collect::<Vec<_>>().join(", ")
    }

    fn expression(&self, node: &Node) -> Expression {
        let value = node.results[0];
        if let Some(call) = self.calls.get(&value) {
            return Expression::atom(format!("{}({})", call.function, self.list(&call.arguments)));
        }
        if self.given(value) {
            return Expression::atom(shown(self.graph.value(value).name.as_deref().unwrap_or_default()));
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
            Op::Input { name, .. } | Op::Param { path: name, .. } | Op::State { path: name, .. } => Expression::atom(name),
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
            Op::DynamicUpdate { axis } => call("update", &x[..2], format!("at={}, axis={axis}", self.text(x[2]).text)),
            Op::Gather { axis, batch } => call("gather", x, indexing(*axis, *batch)),
            Op::ScatterAdd { axis, batch } => call("scatter_add", x, indexing(*axis, *batch)),
            Op::Reduce { op, axes } => self.reduction(reduce_name(*op), x[0], axes),
            Op::ArgMax { axis } => call("argmax", x, format!("axis={axis}")),
            Op::Dot { batch, a_axes, b_axes } => self.dot(x, *batch, a_axes, b_axes),
            Op::Conv(at) => call("conv", x, conv(at)),
            Op::ConvInputGrad { attributes, .. } => call("conv_input_grad", x, conv(attributes)),
            Op::ConvWeightGrad { attributes, .. } => call("conv_weight_grad", x, conv(attributes)),
            Op::Window { op, attributes } => call(&format!("{}_pool", window_name(*op)), x, window(attributes)),
            Op::WindowGrad { op, attributes, .. } => {
                call(&format!("{}_pool_grad", window_name(*op)), x, window(attributes))
            }
            Op::WindowPick(attributes) => call("max_pool_pick", x, window(attributes)),
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

fn depends_on_parameters(graph: &Graph) -> Vec<bool> {
    let mut depends = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let trained = matches!(node.op, Op::Param { .. }) || node.operands.iter().any(|operand| depends[operand.index()]);
        node.results.iter().for_each(|result| depends[result.index()] = trained);
    }
    depends
}

fn constant(tensor: &Tensor) -> Expression {
    const LONGEST_LIST: usize = 4;
    let number = |value: &f64| match tensor.dtype() {
        DType::F32 => format!("{}", *value as f32),
        DType::Bool => (*value != 0.0).to_string(),
        DType::F16 | DType::Bf16 | DType::F64 | DType::I8 | DType::U8 | DType::I32 | DType::I64 => value.to_string(),
    };
    let values = tensor.to_f64();
    if let ([value], []) = (values.as_slice(), tensor.dims()) {
        let tightness = if *value < 0.0 { Tightness::Sign } else { Tightness::Atom };
        return Expression { text: number(value), tightness };
    }
    if values.len() > LONGEST_LIST {
        return Expression::atom(format!("constant {}", tensor.ty()));
    }
    Expression::atom(format!("[{}]", values.iter().map(number).collect::<Vec<_>>().join(", ")))
}

fn dims(dims: &[Dim]) -> String {
    format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "))
}

fn range_text(range: &SliceRange, dim: &Dim) -> String {
    let end = range.start.clone() + Dim::from(range.step) * range.size.clone();
    match range.step {
        1 if range.start.is(0) && range.size == *dim => ":".to_owned(),
        1 => format!("{}..{end}", range.start),
        step => format!("{}..{end} by {step}", range.start),
    }
}

fn indexing(axis: usize, batch: usize) -> String {
    if batch == 0 { format!("axis={axis}") } else { format!("axis={axis}, batch={batch}") }
}

/// The attributes that are not the usual ones.
fn conv(at: &ConvAttributes) -> String {
    let mut parts = strides_and_padding(&at.stride, &at.low, &at.high);
    if !at.dilation.iter().all(|dim| dim.is(1)) {
        parts.push(format!("dilation={}", one_or_all(&at.dilation)));
    }
    if !at.groups.is(1) {
        parts.push(format!("groups={}", at.groups));
    }
    parts.join(", ")
}

fn window(at: &WindowAttributes) -> String {
    let mut parts = vec![format!("size={}", one_or_all(&at.size))];
    if at.stride == at.size {
        parts.extend(strides_and_padding(&[], &at.low, &at.high));
    } else {
        parts.extend(strides_and_padding(&at.stride, &at.low, &at.high));
    }
    parts.join(", ")
}

fn strides_and_padding(stride: &[Dim], low: &[Dim], high: &[Dim]) -> Vec<String> {
    let mut parts = Vec::new();
    if !stride.iter().all(|dim| dim.is(1)) {
        parts.push(format!("stride={}", one_or_all(stride)));
    }
    if low != high {
        parts.push(format!("low={}, high={}", one_or_all(low), one_or_all(high)));
    } else if !low.iter().all(|dim| dim.is(0)) {
        parts.push(format!("padding={}", one_or_all(low)));
    }
    parts
}

/// One number when all are equal.
fn one_or_all(list: &[Dim]) -> String {
    match list {
        [first, rest @ ..] if rest.iter().all(|dim| dim == first) => first.to_string(),
        list => dims(list),
    }
}

fn compare_sign(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => "==",
        CompareOp::Ne => "!=",
        CompareOp::Lt => "<",
        CompareOp::Le => "<=",
        CompareOp::Gt => ">",
        CompareOp::Ge => ">=",
    }
}

fn reduce_name(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Product => "product",
        ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min | ReduceOp::Any | ReduceOp::All => op.name(),
    }
}

fn window_name(op: WindowOp) -> &'static str {
    match op {
        WindowOp::Max => "max",
        WindowOp::Sum => "sum",
    }
}
