//! One application of a primitive: its arguments by parameter, and what the primitives take out of them.
//!
//! Everything here gives `None` after it has reported what is wrong, and in silence when an argument is
//! [`Value::Poison`], or unknown in a body that is checked on its own.

use super::Builtin;
use crate::diagnostic::{Code, Diagnostic, Span, closest};
use crate::elaborate::Elaborator;
use crate::elaborate::operators::Operand;
use crate::elaborate::value::{Args, Value};
use nnc_graph::{DType, Dim, Op, Shape, TensorType, ValueId};

/// A primitive with its arguments.
pub(crate) struct Call<'c, 'p> {
    /// Where nodes and diagnostics go.
    pub elaborator: &'c mut Elaborator<'p>,
    /// The primitive.
    pub builtin: &'static Builtin,
    /// The whole call.
    pub span: Span,
    /// The type that the context wants.
    pub expected: Option<TensorType>,
    slots: Vec<Option<Operand>>,
}

/// Whether operands are places in others, which stop the program where they are out of range.
fn takes_places(op: &Op) -> bool {
    matches!(op, Op::Gather { .. } | Op::ScatterAdd { .. } | Op::DynamicSlice { .. } | Op::DynamicUpdate { .. })
}

/// A parameter's name without the mark of one that may be left out.
fn bare(parameter: &str) -> &str {
    parameter.trim_end_matches('?')
}

impl<'c, 'p> Call<'c, 'p> {
    /// Puts arguments to parameters: positional ones in order, then named ones.
    pub fn bind(
        elaborator: &'c mut Elaborator<'p>,
        builtin: &'static Builtin,
        args: &Args,
        span: Span,
    ) -> Option<Self> {
        let mut slots: Vec<Option<Operand>> = vec![None; builtin.parameters.len()];
        for (position, argument) in args.items.iter().enumerate() {
            let at = match &argument.name {
                Some((name, at)) => match builtin.parameters.iter().position(|parameter| bare(parameter) == name) {
                    Some(place) => place,
                    None => return unknown_argument(elaborator, builtin, name, *at),
                },
                None if position < slots.len() => position,
                None => return too_many(elaborator, builtin, args.items.len(), argument.span),
            };
            if slots[at].is_some() {
                let message = format!("`{}` is given twice", bare(builtin.parameters[at]));
                elaborator.report(Diagnostic::new(Code::E0204, argument.span, message));
                return None;
            }
            slots[at] = Some((argument.value.clone(), argument.span));
        }
        let missing = builtin.parameters.iter().zip(&slots).find(|(p, slot)| slot.is_none() && !p.ends_with('?'));
        if let Some((parameter, _)) = missing {
            let message = format!("`{}` needs `{parameter}`", builtin.name);
            let help = format!("it is `{}`", builtin.signature());
            elaborator.report(Diagnostic::new(Code::E0204, span, message).help(help));
            return None;
        }
        Some(Self { elaborator, builtin, span, expected: args.expected.clone(), slots })
    }

    /// Whether that argument was given.
    pub fn has(&self, at: usize) -> bool {
        self.slots[at].is_some()
    }

    /// An argument; poison when it was left out.
    pub fn operand(&self, at: usize) -> Operand {
        self.slots[at].clone().unwrap_or((Value::Poison, self.span))
    }

    /// An argument's value.
    pub fn value(&self, at: usize) -> Value {
        self.operand(at).0
    }

    /// Where an argument stands.
    pub fn span_of(&self, at: usize) -> Span {
        self.operand(at).1
    }

    /// An argument as a tensor; a number takes `dtype`, or else its own.
    pub fn tensor_as(&mut self, at: usize, dtype: Option<DType>) -> Option<ValueId> {
        let (value, span) = self.operand(at);
        self.elaborator.tensor(&value, dtype, span)
    }

    /// An argument as a tensor.
    pub fn tensor(&mut self, at: usize) -> Option<ValueId> {
        self.tensor_as(at, None)
    }

    /// The type of a graph value.
    pub fn ty(&self, value: ValueId) -> TensorType {
        self.elaborator.ty(value).clone()
    }

    /// Number of axes of a graph value.
    pub fn rank(&self, value: ValueId) -> usize {
        self.elaborator.ty(value).shape.rank()
    }

    /// Adds a node; operands that do not fit are reported at the call. What may stop the program when it runs is known
    /// by the line of its own call, if that is the user's.
    pub fn emit(&mut self, op: Op, operands: &[ValueId]) -> Option<ValueId> {
        let is_own = takes_places(&op) && !self.elaborator.program.is_library(self.span);
        let former = is_own.then(|| self.elaborator.enter_origin_at(self.span));
        let made = self.elaborator.emit(op, operands, self.span);
        if let Some(former) = former {
            self.elaborator.graph.set_origin(former);
        }
        match made {
            Value::Tensor(value) => Some(value),
            _ => None,
        }
    }

    /// Reports an error at an argument.
    pub fn fail<T>(&mut self, code: Code, at: usize, message: impl Into<String>) -> Option<T> {
        let span = self.span_of(at);
        self.elaborator.report(Diagnostic::new(code, span, message));
        None
    }

    /// Reports an error at an argument, with a likely fix.
    pub fn fail_with_help<T>(&mut self, code: Code, at: usize, message: String, help: String) -> Option<T> {
        let span = self.span_of(at);
        self.elaborator.report(Diagnostic::new(code, span, message).help(help));
        None
    }

    /// An int, which may be symbolic.
    pub fn dim(&mut self, at: usize) -> Option<Dim> {
        let (value, span) = self.operand(at);
        self.elaborator.dim(&value, span)
    }

    /// The size of an axis: an int that is at least 1 where it is known.
    pub fn size(&mut self, at: usize) -> Option<Dim> {
        let size = self.dim(at)?;
        self.are_sizes(at, std::slice::from_ref(&size))?;
        Some(size)
    }

    /// A shape: sizes as for [`Call::size`].
    pub fn shape(&mut self, at: usize) -> Option<Shape> {
        let sizes = self.dims(at)?;
        self.are_sizes(at, &sizes)?;
        Some(Shape(sizes))
    }

    /// Reports an argument that says a size below 1.
    pub fn are_sizes(&mut self, at: usize, sizes: &[Dim]) -> Option<()> {
        match sizes.iter().find(|size| size.as_number().is_some_and(|n| n < 1)) {
            Some(small) => self.fail(Code::E0309, at, format!("a dim is at least 1, not {small}")),
            None => Some(()),
        }
    }

    /// A list of ints, or one int as a list of one.
    pub fn dims(&mut self, at: usize) -> Option<Vec<Dim>> {
        let (value, span) = self.operand(at);
        self.elaborator.dims(&value, span)
    }

    /// A known int.
    pub fn int(&mut self, at: usize) -> Option<i64> {
        let (value, span) = self.operand(at);
        self.elaborator.known_int(&value, span)
    }

    /// A known bool; `default` when it was left out.
    pub fn truth_or(&mut self, at: usize, default: bool) -> Option<bool> {
        if !self.has(at) {
            return Some(default);
        }
        let (value, span) = self.operand(at);
        self.elaborator.truth(&value, span)?
    }

    /// An axis of a tensor of that rank; a negative number counts from the end.
    pub fn axis(&mut self, at: usize, rank: usize, default: i64) -> Option<usize> {
        let axis = if self.has(at) { self.int(at)? } else { default };
        self.normal_axis(at, axis, rank)
    }

    fn normal_axis(&mut self, at: usize, axis: i64, rank: usize) -> Option<usize> {
        let from_front = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        match usize::try_from(from_front).ok().filter(|&axis| axis < rank) {
            Some(axis) => Some(axis),
            None => {
                let last = rank as i64 - 1;
                let message = format!("there is no axis {axis} in a tensor of rank {rank}");
                let help = match rank {
                    0 => "a scalar has no axes".to_owned(),
                    _ => format!("its axes are 0 to {last}, or -{rank} to -1 from the end"),
                };
                self.fail_with_help(Code::E0307, at, message, help)
            }
        }
    }

    /// Axes of a tensor of that rank, increasing: one, a list, or all of them when left out.
    pub fn axes(&mut self, at: usize, rank: usize) -> Option<Vec<usize>> {
        if !self.has(at) {
            return Some((0..rank).collect());
        }
        let (value, span) = self.operand(at);
        let numbers = match value {
            Value::List(items) => items.iter().map(|item| self.elaborator.known_int(item, span)).collect(),
            one => self.elaborator.known_int(&one, span).map(|axis| vec![axis]),
        };
        let numbers: Vec<i64> = numbers?;
        let mut axes = Vec::with_capacity(numbers.len());
        for number in numbers {
            let axis = match all_but_of(number) {
                Some(kept) => {
                    let kept = self.normal_axis(at, kept, rank)?;
                    axes.extend((0..rank).filter(|&axis| axis != kept));
                    continue;
                }
                None => self.normal_axis(at, number, rank)?,
            };
            axes.push(axis);
        }
        axes.sort_unstable();
        if axes.windows(2).any(|pair| pair[0] == pair[1]) {
            return self.fail(Code::E0307, at, "an axis is named twice");
        }
        Some(axes)
    }

    /// One number for each of `count` axes, from a list or from one number for all; `default` when left out.
    pub fn per_axis(&mut self, at: usize, count: usize, default: i64) -> Option<Vec<Dim>> {
        if !self.has(at) {
            return Some(vec![Dim::from(default); count]);
        }
        let dims = self.dims(at)?;
        match dims.len() {
            1 => Some(vec![dims[0].clone(); count]),
            found if found == count => Some(dims),
            found => self.fail(Code::E0311, at, format!("{found} numbers for {count} axes")),
        }
    }
}

/// `all_but(axis)` travels as an int far below every axis, so that it can be passed on like one.
pub(crate) const ALL_BUT: i64 = -1_000_000_000;

/// Axes that `all_but` may name, counted from either end.
pub(crate) const ALL_BUT_REACH: i64 = 1_000_000;

fn all_but_of(number: i64) -> Option<i64> {
    let axis = number - ALL_BUT;
    (-ALL_BUT_REACH..=ALL_BUT_REACH).contains(&axis).then_some(axis)
}

fn unknown_argument<T>(elaborator: &mut Elaborator<'_>, builtin: &Builtin, name: &str, at: Span) -> Option<T> {
    let message = format!("`{}` has no parameter `{name}`", builtin.name);
    let known = builtin.parameters.iter().map(|parameter| bare(parameter));
    let help = match closest(name, known) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("it is `{}`", builtin.signature()),
    };
    elaborator.report(Diagnostic::new(Code::E0204, at, message).help(help));
    None
}

fn too_many<T>(elaborator: &mut Elaborator<'_>, builtin: &Builtin, found: usize, at: Span) -> Option<T> {
    let message = format!("`{}` takes {} arguments, not {found}", builtin.name, builtin.parameters.len());
    let help = match builtin.parameters.first() {
        Some(&"parts") => format!("it joins the tensors of a list: write `{}([a, b, c], axis=0)`", builtin.name),
        Some(_) | None => format!("it is `{}`", builtin.signature()),
    };
    elaborator.report(Diagnostic::new(Code::E0204, at, message).help(help));
    None
}
