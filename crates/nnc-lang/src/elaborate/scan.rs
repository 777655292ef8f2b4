//! `scan`: a loop that the program runs, not the compiler.
//!
//! The body is evaluated once, in the graph around it, on stand-ins for the step's number, its slice and what is
//! carried; then the nodes that depend on a stand-in are cut out as the body of an [`Op::Scan`] (`cut`). Everything
//! else that the body reads is captured, so what is the same in every step is computed once, before the loop;
//! parameters that the body declares stand before it too. The nodes that were cut out stay behind, dead.
//!
//! Names that the body binds hold inside it; a carried name goes on with what it is bound to at the end of the body.
//! What `yield` gives is stacked along the axis that is walked. The value of the loop is a tuple: what was stacked, in
//! the order of the `yield`s, then the last carried values; or the one value that there is.

mod cut;
mod earlier;

use super::Elaborator;
use super::builtins::emit;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{Expr, ExprKind, Ident, Scan as Source};
use cut::Cut;
pub use earlier::Earlier;
use nnc_graph::{DType, Dim, Op, Scan, Shape, Tensor, ValueId};

/// A loop of more steps than this is a mistake: it would not end.
const MOST_STEPS: i64 = 1 << 31;

/// A scan whose body is evaluated.
#[derive(Clone, Debug)]
pub struct OpenScan {
    /// How many frames were open at its body: `yield` belongs to the body itself.
    depth: usize,
    /// Branches of unknown conditions that were open.
    branches: usize,
    /// The number of the step.
    index: ValueId,
    /// How many steps there are.
    length: Dim,
    /// What was given to be stacked, with the places.
    stacked: Vec<(ValueId, Span)>,
    /// Something yielded has no type, or is yielded in a branch that may not be taken.
    unknown: bool,
}

/// What a scan walks.
struct Walk {
    length: Dim,
    /// What each name walks.
    items: Vec<Item>,
    /// The walked axis of the first one, along which results are stacked.
    axis: usize,
}

/// What one name of a scan walks.
enum Item {
    /// A range that begins with this number.
    Numbers(Dim),
    /// A tensor, with the walked axis in front.
    Slices(ValueId),
    /// A tensor of one whole number or truth, as a mask that was left out: what every slice of it is.
    Alike(ValueId),
}

/// What stands for a step while the body is evaluated.
struct Steps {
    /// Its number.
    index: ValueId,
    /// The slices of walked tensors.
    slices: Vec<ValueId>,
    /// What each name is bound to.
    values: Vec<Value>,
}

/// A tensor of which a step has a slice.
struct Sliced<'s> {
    name: &'s Ident,
    whole: ValueId,
    stand_in: ValueId,
}

impl Walk {
    /// What has slices in the steps of a scan.
    fn slices<'s>(&self, scan: &'s Source, steps: &Steps) -> Vec<Sliced<'s>> {
        let tensors = scan.walks.iter().zip(&self.items).filter_map(|((name, _), item)| match item {
            Item::Slices(whole) => Some((name, *whole)),
            Item::Numbers(_) | Item::Alike(_) => None,
        });
        tensors.zip(&steps.slices).map(|((name, whole), &stand_in)| Sliced { name, whole, stand_in }).collect()
    }
}

/// A carried value.
struct Carried<'s> {
    name: &'s Ident,
    first: ValueId,
    span: Span,
    stand_in: ValueId,
}

impl Elaborator<'_> {
    pub(super) fn eval_scan(&mut self, scan: &Source, span: Span) -> Value {
        let walk = self.walk(scan, span);
        let firsts: Vec<Option<ValueId>> = scan.carries.iter().map(|(_, first)| self.first_carried(first)).collect();
        let (Some(walk), Some(firsts)) = (walk, firsts.into_iter().collect::<Option<Vec<_>>>()) else {
            self.exec_poisoned(scan);
            return Value::Poison;
        };
        let begin = self.begin_loop();
        let Some(steps) = self.stand_ins(&walk, span) else { return Value::Poison };
        let stand_in = |graph: &mut nnc_graph::Graph, first: ValueId| graph.emit(Op::StopGradient, &[first]);
        let carried: Vec<Carried<'_>> = scan
            .carries
            .iter()
            .zip(firsts)
            .map(|((name, source), first)| Carried {
                name,
                first,
                span: source.span,
                stand_in: stand_in(&mut self.graph, first),
            })
            .collect();
        carried.iter().for_each(|carried| self.stands_for(carried.stand_in, carried.first));
        let slices = walk.slices(scan, &steps);
        slices.iter().for_each(|sliced| self.stands_for(sliced.stand_in, sliced.whole));
        let length = walk.length.clone();
        let (depth, branches) = (self.frames.len(), self.unknown_branches);
        self.scans.push(OpenScan { depth, branches, index: steps.index, length, stacked: vec![], unknown: false });
        let next = self.exec_body(scan, steps.values, &carried);
        let Some(open) = self.scans.pop() else { return Value::Poison };
        let Some(next) = next.filter(|_| !open.unknown) else { return Value::Poison };
        carried.iter().zip(&next).for_each(|(carried, &next)| self.stands_for(carried.stand_in, next));
        self.refuse_earlier(begin, &carried, &slices);
        let stand_ins = [vec![steps.index], carried.iter().map(|c| c.stand_in).collect(), steps.slices].concat();
        let stacked: Vec<ValueId> = open.stacked.iter().map(|&(value, _)| value).collect();
        let cut = Cut::new(&self.graph, begin.node, &stand_ins, &[next, stacked].concat());
        self.emit_scan(scan, &walk, (&carried, &open.stacked), cut, span)
    }

    /// `yield`: a value, or a tuple of them.
    pub(super) fn exec_yield(&mut self, expr: &Expr, place: Span) {
        if !self.is_body_of_scan() {
            let message = "`yield` belongs into the body of a `scan`";
            self.report(Diagnostic::new(Code::E0107, place, message));
            return;
        }
        let values = match self.eval(expr) {
            Value::Tuple(items) => items.to_vec(),
            value => vec![value],
        };
        for value in values {
            let tensor = self.tensor(&value, None, expr.span);
            let in_branch = self.scans.last().is_some_and(|open| open.branches != self.unknown_branches);
            let Some(open) = self.scans.last_mut() else { return };
            match tensor {
                Some(tensor) if !in_branch => open.stacked.push((tensor, expr.span)),
                Some(_) | None => open.unknown = true,
            }
        }
    }

    /// Whether what is evaluated is the body of a scan itself, not that of a function that it calls.
    pub(super) fn is_body_of_scan(&self) -> bool {
        self.scans.last().is_some_and(|open| open.depth == self.frames.len())
    }

    /// Whether the body of a scan is evaluated, or something that it calls.
    pub(super) fn in_scan(&self) -> bool {
        !self.scans.is_empty()
    }

    /// The number of this step among those of all loops around it, from 1; `None` outside of loops.
    pub(super) fn step_number(&mut self) -> Option<ValueId> {
        let open: Vec<(ValueId, Dim)> = self.scans.iter().map(|open| (open.index, open.length.clone())).collect();
        let mut number: Option<ValueId> = None;
        for (index, length) in open {
            let outer = match number {
                Some(outer) => {
                    let length = self.graph.emit(Op::Extent { dim: length, dtype: DType::I64 }, &[]);
                    Some(self.graph.emit(Op::Binary(nnc_graph::BinaryOp::Mul), &[outer, length]))
                }
                None => None,
            };
            let inner = match outer {
                Some(outer) => self.graph.emit(Op::Binary(nnc_graph::BinaryOp::Add), &[outer, index]),
                None => index,
            };
            let one = self.graph.emit(Op::Constant(Tensor::scalar_i64(1)), &[]);
            number = Some(self.graph.emit(Op::Binary(nnc_graph::BinaryOp::Add), &[inner, one]));
        }
        number
    }

    fn walk(&mut self, scan: &Source, span: Span) -> Option<Walk> {
        let axis = scan.axis.as_ref().map(|axis| (self.eval(axis), axis.span));
        let axis = match axis {
            Some((value, place)) => Some((self.known_int(&value, place)?, place)),
            None => None,
        };
        let mut whole: Option<Walk> = None;
        for (_, over) in &scan.walks {
            let (length, item, along) = match &over.kind {
                ExprKind::Range(from, to) => self.walked_range((from, to), over.span, axis.unwrap_or((0, span)))?,
                _ => self.walked_tensor(over, axis.unwrap_or((0, over.span)))?,
            };
            match &mut whole {
                Some(walk) if walk.length == length => walk.items.push(item),
                Some(walk) => {
                    // In a body on its own there may turn out to be as many.
                    if !(self.generic && self.dims_agree(&walk.length, &length)) {
                        let message = format!("this has {length} steps, and what is walked before it {}", walk.length);
                        self.report(Diagnostic::new(Code::E0301, over.span, message));
                    }
                    return None;
                }
                None => whole = Some(Walk { length, items: vec![item], axis: along }),
            }
        }
        whole
    }

    /// The steps of a range, and the axis along which results are stacked.
    fn walked_range(
        &mut self,
        (from, to): (&Expr, &Expr),
        span: Span,
        (axis, place): (i64, Span),
    ) -> Option<(Dim, Item, usize)> {
        let (first, end) = self.range_bounds(from, to)?;
        let length = end - first.clone();
        if let Some(length) = length.as_number().filter(|length| !(1..=MOST_STEPS).contains(length)) {
            self.report_steps(length, to, span);
            return None;
        }
        let Ok(axis) = usize::try_from(axis) else {
            let message = format!("axis {axis} of what is stacked over a range");
            self.report(Diagnostic::new(Code::E0307, place, message).help("count from 0"));
            return None;
        };
        Some((length, Item::Numbers(first), axis))
    }

    /// The steps along an axis of a tensor, and that axis.
    fn walked_tensor(&mut self, over: &Expr, (axis, place): (i64, Span)) -> Option<(Dim, Item, usize)> {
        let x = match self.eval(over) {
            Value::Tensor(x) => x,
            Value::Poison => return None,
            other => return self.mismatch(&other, "a tensor or a range such as `0..n`", over.span),
        };
        let rank = self.ty(x).shape.rank();
        let at = if axis < 0 { axis + rank as i64 } else { axis };
        let Some(at) = usize::try_from(at).ok().filter(|&at| at < rank) else {
            let message = format!("there is no axis {axis} in {}", self.ty(x));
            self.report(Diagnostic::new(Code::E0307, place, message));
            return None;
        };
        let length = self.ty(x).shape[at].clone();
        // Of a float there may be a derivative.
        let number = emit::everywhere(&self.graph, x).filter(|_| !self.ty(x).dtype.is_float());
        if let Some(number) = number {
            let mut shape = self.ty(x).shape.clone();
            shape.0.remove(at);
            return Some((length, Item::Alike(self.graph.broadcast_scalar(number, &shape)), at));
        }
        let tensor = self.moved_axis(x, at, 0);
        Some((length, Item::Slices(tensor), at))
    }

    /// Too few or too many steps. Says where the numbers of names in the end of a range are from: `--set length=0`.
    fn report_steps(&mut self, length: i64, end: &Expr, span: Span) {
        let message = match length {
            ..1 => "a `scan` of no steps".to_owned(),
            _ => format!("a `scan` of {length} steps; there may be {MOST_STEPS}"),
        };
        let mut diagnostic = Diagnostic::new(Code::E0309, span, message);
        let mut names = Vec::new();
        super::dims::collect_names(end, &mut names);
        for name in names {
            let binding = self.frames.last().and_then(|frame| frame.bindings.get(&name.text));
            if let Some(binding) = binding.filter(|binding| binding.span != span) {
                let text = format!("`{}` is {} from here", name.text, self.show_int(&binding.value));
                diagnostic = diagnostic.with(binding.span, text);
            }
        }
        self.report(diagnostic);
    }

    fn first_carried(&mut self, first: &Expr) -> Option<ValueId> {
        let value = self.eval(first);
        self.tensor(&value, None, first.span)
    }

    /// What stands for the steps.
    fn stand_ins(&mut self, walk: &Walk, span: Span) -> Option<Steps> {
        let zero = self.graph.emit(Op::Constant(Tensor::scalar_i64(0)), &[]);
        let index = self.graph.emit(Op::StopGradient, &[zero]);
        let mut steps = Steps { index, slices: vec![], values: vec![] };
        for item in &walk.items {
            let value = match item {
                Item::Numbers(first) if first.is(0) => Value::Tensor(index),
                Item::Numbers(first) => {
                    let first = self.graph.emit(Op::Extent { dim: first.clone(), dtype: DType::I64 }, &[]);
                    self.emit(Op::Binary(nnc_graph::BinaryOp::Add), &[first, index], span)
                }
                Item::Slices(tensor) => {
                    let slice = self.stand_in_slice(*tensor, zero, span)?;
                    steps.slices.push(slice);
                    Value::Tensor(slice)
                }
                Item::Alike(slice) => Value::Tensor(*slice),
            };
            steps.values.push(value);
        }
        Some(steps)
    }

    /// The first slice of a walked tensor, with a node of its own.
    fn stand_in_slice(&mut self, tensor: ValueId, zero: ValueId, span: Span) -> Option<ValueId> {
        let row = Op::DynamicSlice { axis: 0, size: Dim::from(1i64) };
        let Value::Tensor(row) = self.emit(row, &[tensor, zero], span) else { return None };
        let shape = Shape::from(self.ty(tensor).shape[1..].to_vec());
        let Value::Tensor(slice) = self.emit(Op::Reshape(shape), &[row], span) else { return None };
        Some(slice)
    }

    /// Evaluates the body, and gives the next carried values; `None` after an error.
    fn exec_body(&mut self, scan: &Source, items: Vec<Value>, carried: &[Carried<'_>]) -> Option<Vec<ValueId>> {
        let first = carried.iter().map(|carried| Value::Tensor(carried.stand_in)).collect();
        let ends: Vec<Option<ValueId>> = self.in_own_scope(scan, items, first, |this| {
            carried.iter().map(|carried| this.next_carried(carried)).collect()
        });
        ends.into_iter().collect()
    }

    /// Evaluates the body on such values; what it binds ends when `after` has been asked.
    fn in_own_scope<T>(
        &mut self,
        scan: &Source,
        items: Vec<Value>,
        carried: Vec<Value>,
        after: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let outer = self.frames.last().map(|frame| (frame.bindings.clone(), frame.unbound.clone()));
        scan.walks.iter().zip(items).for_each(|((name, _), value)| self.bind_name(name, value));
        scan.carries.iter().zip(carried).for_each(|((name, _), value)| self.bind_name(name, value));
        self.exec_block(&scan.body);
        let result = after(self);
        if let (Some(frame), Some((bindings, unbound))) = (self.frames.last_mut(), outer) {
            (frame.bindings, frame.unbound) = (bindings, unbound);
        }
        result
    }

    /// What a carried name is bound to at the end of the body: of the type it began with.
    fn next_carried(&mut self, carried: &Carried<'_>) -> Option<ValueId> {
        let binding = self.frames.last()?.bindings.get(&carried.name.text)?.clone();
        let first = self.ty(carried.first).clone();
        let next = self.tensor(&binding.value, Some(first.dtype), binding.span)?;
        let found = self.ty(next).clone();
        if found == first {
            return Some(next);
        }
        let may_agree = |(a, b): (&Dim, &Dim)| a == b || a.as_number().is_none() || b.as_number().is_none();
        let has_rank = found.dtype == first.dtype && found.shape.rank() == first.shape.rank();
        if self.generic && has_rank && found.shape.iter().zip(first.shape.iter()).all(may_agree) {
            return None; // dims that may turn out to be equal
        }
        let name = &carried.name.text;
        let message = format!("`{name}` is {first} at first, and {found} after a step");
        let diagnostic = Diagnostic::new(Code::E0312, binding.span, message);
        self.report(diagnostic.with(carried.span, format!("{first}, its first value")));
        None
    }

    /// The body with nothing known, for the errors in it.
    fn exec_poisoned(&mut self, scan: &Source) {
        let (depth, branches) = (self.frames.len(), self.unknown_branches);
        let length = Dim::from(1i64);
        self.scans.push(OpenScan { depth, branches, index: ValueId(0), length, stacked: vec![], unknown: true });
        let poison = |count: usize| vec![Value::Poison; count];
        self.in_own_scope(scan, poison(scan.walks.len()), poison(scan.carries.len()), |_| ());
        self.scans.pop();
    }

    fn emit_scan(
        &mut self,
        source: &Source,
        walk: &Walk,
        (carried, stacked): (&[Carried<'_>], &[(ValueId, Span)]),
        cut: Cut,
        span: Span,
    ) -> Value {
        for &(value, place) in stacked {
            if walk.axis > self.ty(value).shape.rank() {
                let message = format!("what is stacked along axis {} has the type {}", walk.axis, self.ty(value));
                self.report(Diagnostic::new(Code::E0307, place, message));
                return Value::Poison;
            }
        }
        let slices: Vec<ValueId> = walk
            .items
            .iter()
            .filter_map(|item| match item {
                Item::Slices(tensor) => Some(*tensor),
                Item::Numbers(_) | Item::Alike(_) => None,
            })
            .collect();
        let firsts: Vec<ValueId> = carried.iter().map(|carried| carried.first).collect();
        let (body, captures) = cut.body(&self.graph, carried.len());
        let scan = Scan {
            body: body.into(),
            length: walk.length.clone(),
            reverse: source.reverse,
            carries: firsts.len(),
            slices: slices.len(),
        };
        let Some(results) = self.emit_all(Op::Scan(scan), &[firsts, slices, captures].concat(), span) else {
            return Value::Poison;
        };
        let (last, stacks) = results.split_at(carried.len());
        let stacks = stacks.iter().map(|&stack| self.moved_axis(stack, 0, walk.axis)).collect::<Vec<_>>();
        let mut values: Vec<Value> = stacks.iter().chain(last).map(|&value| Value::Tensor(value)).collect();
        match values.len() {
            1 => values.remove(0),
            _ => Value::tuple(values),
        }
    }

    /// `x` with one axis moved to another place.
    fn moved_axis(&mut self, x: ValueId, from: usize, to: usize) -> ValueId {
        if from == to {
            return x;
        }
        let mut order: Vec<usize> = (0..self.ty(x).shape.rank()).filter(|&axis| axis != from).collect();
        order.insert(to, from);
        self.graph.emit(Op::Transpose(order), &[x])
    }
}
