//! Arithmetic, comparison and logic, on compile-time values and on tensors.
//!
//! Numbers known at compile time are computed: see `numbers`. A number that meets a tensor takes its dtype, an int also
//! a float's, a float never an int's. Two tensors have one dtype, and broadcast by the rule of the language: a missing
//! leading dim, or a dim that is a literal 1, stretches; any other dims must be equal. `@` is numpy's matrix product.

use super::Elaborator;
use super::builtins::{emit, numbers};
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast;
use nnc_graph::{BinaryOp, CompareOp, DType, Dim, Op, TensorType, UnaryOp, ValueId};

/// What stands between two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `+ - * / % **`, `and`, `or`, `maximum`, `minimum`.
    Binary(BinaryOp),
    /// `== != < <= > >=`.
    Compare(CompareOp),
    /// `@`.
    MatMul,
}

/// A value and where it stands.
pub type Operand = (Value, Span);

impl From<ast::BinaryOperator> for Operator {
    fn from(operator: ast::BinaryOperator) -> Self {
        use ast::BinaryOperator as Source;
        match operator {
            Source::Add => Self::Binary(BinaryOp::Add),
            Source::Sub => Self::Binary(BinaryOp::Sub),
            Source::Mul => Self::Binary(BinaryOp::Mul),
            Source::Div => Self::Binary(BinaryOp::Div),
            Source::Rem => Self::Binary(BinaryOp::Rem),
            Source::Pow => Self::Binary(BinaryOp::Pow),
            Source::And => Self::Binary(BinaryOp::And),
            Source::Or => Self::Binary(BinaryOp::Or),
            Source::MatMul => Self::MatMul,
            Source::Eq => Self::Compare(CompareOp::Eq),
            Source::Ne => Self::Compare(CompareOp::Ne),
            Source::Lt => Self::Compare(CompareOp::Lt),
            Source::Le => Self::Compare(CompareOp::Le),
            Source::Gt => Self::Compare(CompareOp::Gt),
            Source::Ge => Self::Compare(CompareOp::Ge),
        }
    }
}

impl From<ast::UnaryOperator> for UnaryOp {
    fn from(operator: ast::UnaryOperator) -> Self {
        match operator {
            ast::UnaryOperator::Neg => UnaryOp::Neg,
            ast::UnaryOperator::Not => UnaryOp::Not,
        }
    }
}

impl Operator {
    /// How it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::MatMul => "@",
            Self::Binary(op) => match op {
                BinaryOp::Add => "+",
                BinaryOp::Sub => "-",
                BinaryOp::Mul => "*",
                BinaryOp::Div => "/",
                BinaryOp::Rem => "%",
                BinaryOp::Pow => "**",
                BinaryOp::Max => "maximum",
                BinaryOp::Min => "minimum",
                BinaryOp::And => "and",
                BinaryOp::Or => "or",
            },
            Self::Compare(op) => match op {
                CompareOp::Eq => "==",
                CompareOp::Ne => "!=",
                CompareOp::Lt => "<",
                CompareOp::Le => "<=",
                CompareOp::Gt => ">",
                CompareOp::Ge => ">=",
            },
        }
    }

    fn op(self) -> Option<Op> {
        match self {
            Self::Binary(op) => Some(Op::Binary(op)),
            Self::Compare(op) => Some(Op::Compare(op)),
            Self::MatMul => None,
        }
    }
}

/// Two shapes as one by the rule of the language, or the pair of dims that do not go together.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, (Dim, Dim)> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[Dim], axis: usize| -> Option<Dim> {
        let missing = rank - shape.len();
        axis.checked_sub(missing).map(|axis| shape[axis].clone())
    };
    let pair = |axis: usize| match (dim(a, axis), dim(b, axis)) {
        (Some(x), Some(y)) if x == y || y.is(1) => Ok(x),
        (Some(x), Some(y)) if x.is(1) => Ok(y),
        (Some(x), Some(y)) => Err((x, y)),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) => Ok(Dim::from(1i64)),
    };
    (0..rank).map(pair).collect()
}

impl Elaborator<'_> {
    /// `a op b`.
    pub fn binary(&mut self, op: Operator, a: &Operand, b: &Operand, span: Span) -> Value {
        if a.0.is_poison() || b.0.is_poison() {
            return Value::Poison;
        }
        if !matches!(a.0, Value::Tensor(_)) && !matches!(b.0, Value::Tensor(_)) {
            return self.known_binary(op, a, b, span);
        }
        if let (Operator::Binary(BinaryOp::Pow), Value::Tensor(base)) = (op, &a.0)
            && let Some(power) = self.known_power(*base, &b.0)
        {
            return Value::Tensor(power);
        }
        let result = match op {
            Operator::MatMul => self.same_dtype(op, a, b, span).and_then(|[x, y]| self.matmul([x, y], a, b, span)),
            Operator::Binary(_) | Operator::Compare(_) => self.elementwise(op, a, b, span),
        };
        result.map_or(Value::Poison, Value::Tensor)
    }

    /// `op a`: negation of a number, `not` of a bool.
    pub fn unary(&mut self, op: UnaryOp, a: &Operand, span: Span) -> Value {
        match &a.0 {
            Value::Poison => Value::Poison,
            Value::Tensor(x) => self.emit(Op::Unary(op), &[*x], span),
            known => match numbers::unary(op, known) {
                Some(value) => value,
                None => {
                    let word = if op == UnaryOp::Not { "not" } else { "-" };
                    self.does_not_work(&format!("`{word}`"), &[a], span)
                }
            },
        }
    }

    fn known_binary(&mut self, op: Operator, a: &Operand, b: &Operand, span: Span) -> Value {
        match numbers::binary(op, &a.0, &b.0) {
            numbers::Outcome::Value(value) => self.counted(value, span),
            numbers::Outcome::Error(message) => {
                self.report(Diagnostic::new(Code::E0301, span, message));
                Value::Poison
            }
            numbers::Outcome::NoRule => self.does_not_work(&format!("`{}`", op.symbol()), &[a, b], span),
        }
    }

    /// Reports that an operation has no meaning for these values.
    fn does_not_work(&mut self, what: &str, operands: &[&Operand], span: Span) -> Value {
        let found: Vec<String> = operands.iter().map(|operand| self.describe(&operand.0)).collect();
        let message = format!("{what} does not work on {}", found.join(" and "));
        let mut diagnostic = Diagnostic::new(Code::E0301, span, message);
        for operand in operands {
            diagnostic = diagnostic.with(operand.1, self.describe(&operand.0));
        }
        self.report(diagnostic);
        Value::Poison
    }

    /// Both operands as tensors of one dtype: a number takes the other's.
    pub(super) fn same_dtype(&mut self, op: Operator, a: &Operand, b: &Operand, span: Span) -> Option<[ValueId; 2]> {
        let dtype_of = |elaborator: &Self, value: &Value| match value {
            Value::Tensor(x) => Some(elaborator.ty(*x).dtype),
            _ => None,
        };
        let (of_a, of_b) = (dtype_of(self, &a.0), dtype_of(self, &b.0));
        let x = self.number_as(&a.0, of_b, a.1)?;
        let y = self.number_as(&b.0, of_a, b.1)?;
        if self.ty(x).dtype == self.ty(y).dtype {
            return Some([x, y]);
        }
        self.report_dtypes(op.symbol(), x, y, [a.1, b.1], span);
        None
    }

    /// A value as a tensor of a dtype, which an int must fit.
    fn number_as(&mut self, value: &Value, dtype: Option<DType>, span: Span) -> Option<ValueId> {
        if let (Value::Int(dim), Some(dtype)) = (value, dtype)
            && dtype != DType::Bool
            && dim.as_number().is_some_and(|number| !dtype.whole_numbers().contains(&number))
        {
            let message = format!("{dim} is no {dtype}");
            self.report(
                Diagnostic::new(Code::E0304, span, message).help("convert the other side first, as `i32(...)`"),
            );
            return None;
        }
        self.tensor(value, dtype, span)
    }

    fn report_dtypes(&mut self, symbol: &str, a: ValueId, b: ValueId, spans: [Span; 2], span: Span) {
        let (ta, tb) = (self.ty(a).clone(), self.ty(b).clone());
        let message = format!("`{symbol}` of {ta} and {tb}: their dtypes differ");
        let mut diagnostic = Diagnostic::new(Code::E0304, span, message);
        diagnostic = self.explained(diagnostic, a, spans[0]);
        diagnostic = self.explained(diagnostic, b, spans[1]);
        // A float is the likelier wish than losing the fraction.
        let dtype = if tb.dtype.is_float() || !ta.dtype.is_float() { tb.dtype } else { ta.dtype };
        self.report(diagnostic.help(format!("dtypes never change by themselves: convert one with `{dtype}(...)`")));
    }

    /// Adds to a diagnostic what type the operand at `span` has, and where it was made when that is elsewhere.
    pub(super) fn explained(&self, diagnostic: Diagnostic, value: ValueId, span: Span) -> Diagnostic {
        let diagnostic = diagnostic.with(span, self.ty(value).to_string());
        self.with_birth(diagnostic, value, span)
    }

    /// An elementwise operation on two operands, broadcast. `None` after an error.
    pub(super) fn elementwise(&mut self, op: Operator, a: &Operand, b: &Operand, span: Span) -> Option<ValueId> {
        let [x, y] = self.same_dtype(op, a, b, span)?;
        let [x, y] = self.broadcast_pair(op.symbol(), [x, y], [a.1, b.1], span)?;
        match self.emit(op.op()?, &[x, y], span) {
            Value::Tensor(result) => Some(result),
            _ => None,
        }
    }

    /// Both tensors in their common shape.
    pub(super) fn broadcast_pair(
        &mut self,
        symbol: &str,
        [x, y]: [ValueId; 2],
        spans: [Span; 2],
        span: Span,
    ) -> Option<[ValueId; 2]> {
        let shapes = [self.ty(x).shape.clone(), self.ty(y).shape.clone()];
        match broadcast(&shapes[0], &shapes[1]) {
            Ok(shape) => {
                let x = emit::stretch(&mut self.graph, x, &shape);
                Some([x, emit::stretch(&mut self.graph, y, &shape)])
            }
            Err(pair) => {
                self.report_broadcast(symbol, [x, y], spans, pair, span);
                None
            }
        }
    }

    fn report_broadcast(
        &mut self,
        symbol: &str,
        [x, y]: [ValueId; 2],
        spans: [Span; 2],
        (a, b): (Dim, Dim),
        span: Span,
    ) {
        let (tx, ty) = (self.ty(x).clone(), self.ty(y).clone());
        let message = format!("`{symbol}` of {tx} and {ty}: the dims {a} and {b} do not go together");
        let mut diagnostic = Diagnostic::new(Code::E0305, span, message);
        diagnostic = self.explained(diagnostic, x, spans[0]);
        diagnostic = self.explained(diagnostic, y, spans[1]);
        diagnostic = self.with_dim_birth(diagnostic, x, &a);
        diagnostic = self.with_dim_birth(diagnostic, y, &b);
        self.report(diagnostic.help(broadcast_help(&tx, &ty)));
    }

    /// A power that is known, by multiplication, root or reciprocal; `None` when it takes the general function.
    fn known_power(&mut self, base: ValueId, exponent: &Value) -> Option<ValueId> {
        let is_float = self.ty(base).dtype.is_float();
        let graph = &mut self.graph;
        let root = |op: UnaryOp| is_float.then_some(Op::Unary(op));
        match exponent {
            Value::Int(power) => {
                let power = power.as_number()?;
                let magnitude = u32::try_from(power.unsigned_abs()).ok().filter(|&n| (1..=64).contains(&n))?;
                if power < 0 && !is_float {
                    return None;
                }
                let product = multiplied(graph, base, magnitude);
                if power > 0 {
                    return Some(product);
                }
                let ty = graph.ty(base).clone();
                let one = graph.splat(&ty, 1.0);
                Some(emit::binary(graph, BinaryOp::Div, one, product))
            }
            Value::Float(Some(0.5)) => Some(graph.emit(root(UnaryOp::Sqrt)?, &[base])),
            Value::Float(Some(-0.5)) => Some(graph.emit(root(UnaryOp::Rsqrt)?, &[base])),
            Value::Float(_) | Value::Tensor(_) | Value::Bool(_) | Value::Str(_) | Value::List(_) => None,
            Value::Tuple(_) | Value::Function(_) | Value::Layer(_) | Value::Poison => None,
        }
    }

    /// The matrix product of numpy: the last axis of `a` with the second to last of `b` (its only one, for a vector);
    /// axes before those are batch axes and broadcast.
    fn matmul(&mut self, [x, y]: [ValueId; 2], a: &Operand, b: &Operand, span: Span) -> Option<ValueId> {
        let (tx, ty) = (self.ty(x).clone(), self.ty(y).clone());
        let (rx, ry) = (tx.shape.rank(), ty.shape.rank());
        if rx == 0 || ry == 0 {
            let message = format!("`@` of {tx} and {ty}: a scalar is no matrix");
            let diagnostic = self.explained(Diagnostic::new(Code::E0301, span, message), x, a.1);
            let diagnostic = self.explained(diagnostic, y, b.1);
            self.report(diagnostic.help("multiply by a scalar with `*`"));
            return None;
        }
        let inner = ry.saturating_sub(2);
        if tx.shape[rx - 1] != ty.shape[inner] {
            self.report_inner(&tx.shape[rx - 1], &ty.shape[inner], [x, y], [a.1, b.1], span);
            return None;
        }
        let op =
            |batch: usize, a_axis: usize, b_axis: usize| Op::Dot { batch, a_axes: vec![a_axis], b_axes: vec![b_axis] };
        let (op, operands) = if ry <= 2 || rx == 1 {
            (op(0, rx - 1, inner), [x, y])
        } else {
            let operands = self.broadcast_batch([x, y], [a.1, b.1], span)?;
            let batch = (rx - 2).max(ry - 2);
            (op(batch, batch + 1, batch), operands)
        };
        match self.emit(op, &operands, span) {
            Value::Tensor(result) => Some(result),
            _ => None,
        }
    }

    fn report_inner(&mut self, k: &Dim, j: &Dim, [x, y]: [ValueId; 2], spans: [Span; 2], span: Span) {
        let (tx, ty) = (self.ty(x).clone(), self.ty(y).clone());
        let message = format!("`@` of {tx} and {ty}: the inner dims {k} and {j} differ");
        let mut diagnostic = Diagnostic::new(Code::E0301, span, message);
        diagnostic = self.explained(diagnostic, x, spans[0]);
        diagnostic = self.explained(diagnostic, y, spans[1]);
        diagnostic = self.with_dim_birth(diagnostic, x, k);
        diagnostic = self.with_dim_birth(diagnostic, y, j);
        if ty.shape.rank() == 2 && ty.shape[1] == *k {
            diagnostic = diagnostic.help("the right side fits when it is transposed: `transpose(..., [1, 0])`");
        }
        self.report(diagnostic);
    }

    /// Two stacks of matrices with their batch axes in one shape.
    fn broadcast_batch(&mut self, [x, y]: [ValueId; 2], spans: [Span; 2], span: Span) -> Option<[ValueId; 2]> {
        let (sx, sy) = (self.ty(x).shape.to_vec(), self.ty(y).shape.to_vec());
        let (bx, mx) = sx.split_at(sx.len() - 2);
        let (by, my) = sy.split_at(sy.len() - 2);
        match broadcast(bx, by) {
            Ok(batch) => {
                let x = emit::stretch(&mut self.graph, x, &[&batch, mx].concat());
                Some([x, emit::stretch(&mut self.graph, y, &[&batch, my].concat())])
            }
            Err(pair) => {
                self.report_broadcast("@", [x, y], spans, pair, span);
                None
            }
        }
    }
}

/// `base` to the power `n` ≥ 1, by repeated squaring.
fn multiplied(graph: &mut nnc_graph::Graph, base: ValueId, n: u32) -> ValueId {
    let half = if n > 1 { multiplied(graph, base, n / 2) } else { return base };
    let square = emit::binary(graph, BinaryOp::Mul, half, half);
    if n % 2 == 1 { emit::binary(graph, BinaryOp::Mul, square, base) } else { square }
}

fn broadcast_help(x: &TensorType, y: &TensorType) -> String {
    let (vector, other) = if x.shape.rank() < y.shape.rank() { (x, y) } else { (y, x) };
    let along = |dim: &Dim| other.shape.iter().position(|candidate| candidate == dim);
    match (vector.shape.rank(), vector.shape.first().and_then(along)) {
        (1, Some(axis)) => {
            format!("to lay {vector} along axis {axis} of {other}, write `on_axis(v, x, axis={axis})`")
        }
        _ => "only a missing leading dim or a literal 1 stretches; a named dim never does".to_owned(),
    }
}
