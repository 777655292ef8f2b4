//! Indexing with compile-time bounds: `x[0, a..b, :, ..., new, -1]`, of tensors and of lists.

use super::Elaborator;
use super::builtins::emit;
use super::operators::Operand;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, Span};
use nnc_graph::{Dim, Op, SliceRange, TensorType, ValueId};

/// One entry between the brackets, evaluated.
#[derive(Clone, Debug)]
pub enum Index {
    /// `i`: the axis disappears. A negative number counts from the end.
    At(Value, Span),
    /// `a..b`, `a..`, `..b`: a range of the axis; negative bounds count from the end.
    Range(Option<Value>, Option<Value>, Span),
    /// `:`: the whole axis.
    All(Span),
    /// `...`: as many whole axes as are not named.
    Rest(Span),
    /// `new`: a new axis of size 1.
    New(Span),
}

/// What a tensor index does: ranges of the old axes, then which axes of that remain or are new.
#[derive(Default)]
struct Plan {
    ranges: Vec<SliceRange>,
    shape: Vec<Dim>,
}

impl Index {
    fn takes_axis(&self) -> bool {
        matches!(self, Self::At(..) | Self::Range(..) | Self::All(_))
    }

    fn span(&self) -> Span {
        match self {
            Self::At(_, span) | Self::Range(_, _, span) | Self::All(span) | Self::Rest(span) | Self::New(span) => *span,
        }
    }
}

impl Elaborator<'_> {
    /// `base[indices]`; `span` is the whole expression.
    pub fn index(&mut self, base: &Operand, indices: &[Index], span: Span) -> Value {
        let result = match &base.0 {
            Value::Tensor(x) => self.index_tensor(*x, base.1, indices, span).map(Value::Tensor),
            Value::List(items) => self.index_list(items, indices, span),
            Value::Tuple(items) => self.index_tuple(items, base.1, indices),
            other => self.mismatch(other, "a tensor or a list", base.1),
        };
        result.unwrap_or(Value::Poison)
    }

    /// Reports that parts of a tuple are taken by a dot.
    fn index_tuple(&mut self, items: &[Value], base: Span, indices: &[Index]) -> Option<Value> {
        let message = format!("expected a tensor or a list, found {}", self.describe_tuple(items));
        let part = match indices {
            [Index::At(Value::Int(dim), _)] => dim.as_number().and_then(|at| usize::try_from(at).ok()),
            _ => None,
        };
        let part = part.filter(|&at| at < items.len()).unwrap_or(0);
        let help = format!("a tuple's parts are `.0`, `.1`, ...: write `.{part}`");
        self.report(Diagnostic::new(Code::E0311, base, message).help(help));
        None
    }

    fn index_tensor(&mut self, x: ValueId, base: Span, indices: &[Index], span: Span) -> Option<ValueId> {
        let ty = self.ty(x).clone();
        let named = indices.iter().filter(|index| index.takes_axis()).count();
        if named > ty.shape.rank() {
            let extra = indices.iter().filter(|index| index.takes_axis()).nth(ty.shape.rank());
            let at = extra.map_or(span, Index::span);
            let message = format!("{named} indices, but {ty} has {} axes", ty.shape.rank());
            let diagnostic = Diagnostic::new(Code::E0307, at, message).with(base, ty.to_string());
            let diagnostic = self.with_birth(diagnostic, x, base);
            self.report(diagnostic);
            return None;
        }
        let mut plan = Plan::default();
        let mut rests = 0;
        for index in indices {
            if let Index::Rest(at) = index {
                rests += 1;
                if rests > 1 {
                    self.report(Diagnostic::new(Code::E0307, *at, "`...` stands once in an index"));
                    return None;
                }
                plan.keep(&ty.shape[plan.ranges.len()..][..ty.shape.rank() - named]);
            } else {
                self.plan_index(index, &ty, &mut plan)?;
            }
        }
        let done = plan.ranges.len();
        plan.keep(&ty.shape[done..]);
        self.apply_plan(x, &ty, plan, span)
    }

    fn plan_index(&mut self, index: &Index, ty: &TensorType, plan: &mut Plan) -> Option<()> {
        let axis = plan.ranges.len();
        match index {
            Index::At(value, at) => {
                let start = self.index_place(value, &ty.shape[axis], axis, ty, *at)?;
                plan.ranges.push(SliceRange { start, size: Dim::from(1i64), step: 1 });
            }
            Index::Range(from, to, at) => {
                let (start, size) = self.index_range([from, to], &ty.shape[axis], *at)?;
                plan.shape.push(size.clone());
                plan.ranges.push(SliceRange { start, size, step: 1 });
            }
            Index::All(_) => plan.keep(&ty.shape[axis..=axis]),
            Index::New(_) => plan.shape.push(Dim::from(1i64)),
            Index::Rest(_) => {}
        }
        Some(())
    }

    fn apply_plan(&mut self, x: ValueId, ty: &TensorType, plan: Plan, span: Span) -> Option<ValueId> {
        let whole = plan.ranges.iter().zip(ty.shape.iter()).all(|(range, dim)| *range == emit::whole(dim));
        let sliced = if whole {
            x
        } else {
            match self.emit(Op::Slice(plan.ranges), &[x], span) {
                Value::Tensor(sliced) => sliced,
                _ => return None,
            }
        };
        Some(emit::reshape(&mut self.graph, sliced, plan.shape))
    }

    /// A single place of an axis of `dim` entries.
    fn index_place(&mut self, value: &Value, dim: &Dim, axis: usize, ty: &TensorType, at: Span) -> Option<Dim> {
        if let Value::Tensor(x) = value {
            let found = self.ty(*x).to_string();
            let message = format!("an index between brackets is known at compile time, and this is {found}");
            let help = if self.ty(*x).shape.rank() == 0 {
                format!("write `slice(x, at=..., size=1, axis={axis})`")
            } else {
                format!("write `take(x, indices, axis={axis})`")
            };
            self.report(Diagnostic::new(Code::E0308, at, message).help(help));
            return None;
        }
        if let Value::List(_) = value {
            let help = format!("look entries up by an i32 tensor, `take(x, indices, axis={axis})`, or `stack` them");
            self.report(Diagnostic::new(Code::E0311, at, "expected an int, found a list").help(help));
            return None;
        }
        let asked = self.dim(value, at)?;
        let place = from_end(asked.clone(), dim);
        let inside = |n: i64| n >= 0 && (place.clone() - dim.clone()).as_number().is_none_or(|over| over < 0);
        let fits = match place.as_number() {
            Some(n) => inside(n),
            None => (place.clone() - dim.clone()).as_number().is_none_or(|over| over < 0),
        };
        if !fits {
            let message = format!("axis {axis} of {ty} has {dim} entries, so there is no entry {asked}");
            self.report(Diagnostic::new(Code::E0307, at, message));
            return None;
        }
        Some(place)
    }

    /// Start and size of a range of an axis of `dim` entries.
    fn index_range(&mut self, [from, to]: [&Option<Value>; 2], dim: &Dim, at: Span) -> Option<(Dim, Dim)> {
        let mut bound = |value: &Option<Value>, default: Dim| -> Option<Dim> {
            value.as_ref().map_or(Some(default), |value| self.dim(value, at))
        };
        let (from, to) = (bound(from, Dim::from(0i64))?, bound(to, dim.clone())?);
        let (start, end) = (from_end(from.clone(), dim), from_end(to.clone(), dim));
        let size = end.clone() - start.clone();
        let below = start.as_number().is_some_and(|n| n < 0);
        let above = (end.clone() - dim.clone()).as_number().is_some_and(|over| over > 0);
        if below || above || size.as_number().is_some_and(|n| n < 1) {
            let message = format!("the range {from}..{to} is empty or does not lie within 0..{dim}");
            self.report(Diagnostic::new(Code::E0307, at, message));
            return None;
        }
        Some((start, size))
    }

    /// A list takes one index: an entry, or a range, which gives a list and may be empty.
    fn index_list(&mut self, items: &[Value], indices: &[Index], span: Span) -> Option<Value> {
        let [index] = indices else {
            self.report(Diagnostic::new(Code::E0307, span, "a list takes one index"));
            return None;
        };
        let count = Dim::from(items.len());
        match index {
            Index::At(value, at) => {
                let asked = self.known_int(value, *at)?;
                let place = if asked < 0 { asked.saturating_add(items.len() as i64) } else { asked };
                let entry = usize::try_from(place).ok().and_then(|place| items.get(place));
                if entry.is_none() {
                    let message = format!("a list of {count} entries has no entry {asked}");
                    self.report(Diagnostic::new(Code::E0307, *at, message));
                }
                entry.cloned()
            }
            Index::Range(from, to, at) => {
                let mut bound = |value: &Option<Value>, default: usize| -> Option<usize> {
                    let Some(value) = value else { return Some(default) };
                    let place = from_end(self.dim(value, *at)?, &count);
                    let place = self.known_int(&Value::Int(place), *at)?;
                    usize::try_from(place).ok().map(|place| place.min(items.len()))
                };
                let (start, end) = (bound(from, 0)?, bound(to, items.len())?);
                Some(self.counted(Value::list(items.get(start..end).unwrap_or_default().to_vec()), span))
            }
            Index::All(_) | Index::Rest(_) => Some(self.counted(Value::list(items.to_vec()), span)),
            Index::New(at) => {
                self.report(Diagnostic::new(Code::E0307, *at, "`new` is for tensors"));
                None
            }
        }
    }
}

impl Plan {
    fn keep(&mut self, dims: &[Dim]) {
        self.ranges.extend(dims.iter().map(emit::whole));
        self.shape.extend(dims.iter().cloned());
    }
}

/// A place that counts from the end when it is negative.
fn from_end(place: Dim, dim: &Dim) -> Dim {
    if place.as_number().is_some_and(|n| n < 0) { place + dim.clone() } else { place }
}
