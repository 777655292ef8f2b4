//! A reduction over any axes, with elementwise work on its operand before and on its result after it.
//!
//! If the innermost axis of the domain is reduced, each result is a row of its own, summed as [`super::accumulate`]
//! says, carried over the outer reduced axes. Else results lie side by side: each lane of a vector is a result, and the
//! reduced elements follow one another in order. When there is much to reduce and there are few results, the outermost
//! reduced axis is cut into parts, their number given by the shape; a second phase combines them in order.

use super::accumulate::{Accumulators, Combine, Parts};
use super::evaluate::{Known, Point};
use super::frame::{Axes, Frame};
use super::loops::{Split, coordinates, nest, span, widths};
use super::map::TASK_WORK;
use super::memory::{KernelDraft, elem};
use super::rows::combine;
use super::{LowerError, Lowering, cost};
use crate::ir::{Builder, Direction, Memory, Value};
use nnc_graph::{NodeId, Op, ValueId};
use nnc_opt::fuse::Group;
use std::collections::BTreeSet;

/// Results that one task computes side by side, in vectors.
const VECTORS: usize = 4;
/// The most parts of a reduction.
const MAX_PARTS: usize = 64;
/// Operations that a term counts for where a reduction is cut.
const WORK_OF_TERM: usize = 4;

/// Lowers a reduce group.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let Some((id, reduced)) = group.nodes.iter().find_map(|&id| match &graph.node(id).op {
        Op::Reduce { axes, .. } => Some((id, axes.clone())),
        _ => None,
    }) else {
        return Err(LowerError::bug("a reduce group without a reduction"));
    };
    let mut draft = KernelDraft::new("reduce");
    let classes = (0..group.domain.len()).map(|axis| u8::from(reduced.contains(&axis))).collect();
    let axes = Axes { dims: group.domain.clone(), classes };
    let members: BTreeSet<NodeId> = group.nodes.iter().copied().collect();
    let lanes = lowering.lanes(&members);
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, axes)?;
    let shape = Shape::new(&frame, id, lanes);
    let work = cost::of_nodes(graph, &group.nodes) + 1;
    let parts = shape.parts();
    let results = shape.results();
    let body = Body { frame: &frame, shape: &shape, outputs: &group.outputs, id };
    if parts.tasks() > 1 {
        let buffer = lowering.temporary(parts.tasks() as usize * results * shape.combine.elem().size());
        let partial = draft.param(buffer, shape.combine.elem(), Direction::InOut);
        let units = shape.units(1, work);
        draft.builder.phase(units.tasks() * parts.tasks(), |b, task| {
            body.partial(b, task, (units, parts), partial);
        });
        draft.builder.phase(1, |b, _| body.combine_parts(b, parts, partial));
    } else {
        let units = shape.units(results, work);
        draft.builder.phase(units.tasks(), |b, task| body.whole(b, task, units));
    }
    let total: usize = frame.axes.dims.iter().product();
    lowering.launch_counted(draft, &frame, total * work, cost::in_all(graph, &group.nodes))
}

/// The axes of a reduction.
struct Shape {
    dims: Vec<usize>,
    /// The axes that stay.
    kept: Vec<usize>,
    /// The axes that are reduced, outermost first.
    reduced: Vec<usize>,
    /// Whether the innermost axis is reduced.
    along: bool,
    combine: Combine,
    lanes: u8,
    vectorises: bool,
}

impl Shape {
    fn new(frame: &Frame<'_>, id: NodeId, lanes: u8) -> Self {
        let Axes { dims, classes } = frame.axes.clone();
        let of_class = |class: u8| (0..dims.len()).filter(|&axis| classes[axis] == class).collect::<Vec<_>>();
        let along = classes.last() == Some(&1);
        let vectorises = !dims.is_empty() && frame.vectorises(dims.len() - 1);
        let combine = combine(frame.graph, id);
        Self { kept: of_class(0), reduced: of_class(1), dims, along, combine, lanes, vectorises }
    }

    fn results(&self) -> usize {
        self.kept.iter().map(|&axis| self.dims[axis]).product()
    }

    fn terms(&self) -> usize {
        self.reduced.iter().map(|&axis| self.dims[axis]).product()
    }

    /// How the outermost reduced axis is cut: by shapes alone, whatever else the kernel computes. Where parts begin is
    /// where sums are rounded.
    fn parts(&self) -> Split {
        let Some(&first) = self.reduced.first() else { return Split::new(1, 1, 1) };
        let length = self.dims[first];
        let wanted = (self.terms() * self.results() * WORK_OF_TERM / TASK_WORK).min(MAX_PARTS);
        if wanted <= 1 || self.results() > 256 || self.terms() < 2048 {
            return Split::new(length, length, 1);
        }
        let unit = if self.reduced.len() == 1 && self.along { 16 } else { 1 };
        Split::new(length, length.div_ceil(wanted), unit)
    }

    /// The kept points in units: single results, or blocks of the innermost axis; `results` is how many there are to
    /// share out (1: as few tasks as the blocks allow).
    fn units(&self, results: usize, work: usize) -> Split {
        let count = if self.along { self.results() } else { self.outer_results() * self.blocks() };
        let of_one = self.terms() * work * if self.along { 1 } else { self.block().min(self.inner()) };
        let grain = if results > 1 { TASK_WORK / of_one.max(1) } else { count };
        Split::new(count, grain, 1)
    }

    /// Size of the innermost axis, when it stays.
    fn inner(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    fn block(&self) -> usize {
        VECTORS * usize::from(self.lanes)
    }

    fn blocks(&self) -> usize {
        self.inner().div_ceil(self.block())
    }

    fn outer_results(&self) -> usize {
        self.results() / self.inner().max(1)
    }

    fn kept_dims(&self) -> Vec<usize> {
        self.kept.iter().map(|&axis| self.dims[axis]).collect()
    }
}

struct Body<'a, 'g> {
    frame: &'a Frame<'g>,
    shape: &'a Shape,
    outputs: &'a [ValueId],
    id: NodeId,
}

impl Body<'_, '_> {
    fn origin(&self, b: &mut Builder) -> Point {
        let zero = b.index(0);
        let rank = self.shape.dims.len();
        Point { coordinates: vec![zero; rank], vector: rank.saturating_sub(1), lanes: 1 }
    }

    /// All of some results.
    fn whole(&self, b: &mut Builder, task: Value, units: Split) {
        let (start, end) = units.bounds(b, task);
        let length = self.shape.reduced.first().map_or(1, |&axis| self.shape.dims[axis]);
        let range = (b.index(0), b.index(length as i64));
        self.for_units(b, (start, end), &mut |b, point| {
            let mut known = Known::default();
            let moves = |axis| self.shape.reduced.contains(&axis) || (point.lanes > 1 && axis == point.vector);
            self.frame.hoist(b, point, &mut known, moves);
            let value = self.reduce(b, point, &known, range);
            self.finish(b, point, value);
        });
    }

    /// One part of some results, to `partial[part][result]`.
    fn partial(&self, b: &mut Builder, task: Value, (units, parts): (Split, Split), partial: Memory) {
        let many = b.index(parts.tasks() as i64);
        let (unit, part) = (b.div(task, many), b.rem(task, many));
        let (start, end) = units.bounds(b, unit);
        let range = parts.bounds(b, part);
        let results = self.shape.results() as i64;
        self.for_units(b, (start, end), &mut |b, point| {
            let value = self.reduce(b, point, &Known::default(), range);
            let place = self.result_number(b, point);
            let place = b.affine(&[(part, results), (place, 1)], 0);
            b.store(partial, place, value);
        });
    }

    /// Adds up the parts of every result in order.
    fn combine_parts(&self, b: &mut Builder, parts: Split, partial: Memory) {
        let results = self.shape.results() as i64;
        let (start, end) = (b.index(0), b.index(self.unit_count() as i64));
        self.for_units(b, (start, end), &mut |b, point| {
            let place = self.result_number(b, point);
            let identity = self.shape.combine.identity(b, point.lanes);
            let sum = b.for_count(parts.tasks() as i64, &[identity], |b, part, sum| {
                let place = b.affine(&[(part, results), (place, 1)], 0);
                let value = b.load(partial, place, point.lanes);
                vec![self.shape.combine.combine(b, sum[0], value)]
            });
            self.finish(b, point, sum[0]);
        });
    }

    fn unit_count(&self) -> usize {
        if self.shape.along { self.shape.results() } else { self.shape.outer_results() * self.shape.blocks() }
    }

    /// Calls `body` at each result of the units, or at each vector of results.
    fn for_units(&self, b: &mut Builder, (start, end): (Value, Value), body: &mut dyn FnMut(&mut Builder, &Point)) {
        let shape = self.shape;
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, unit, _| {
            let mut point = self.origin(b);
            if shape.along || shape.kept.is_empty() {
                for (&axis, at) in shape.kept.iter().zip(coordinates(b, unit, &shape.kept_dims())) {
                    point.coordinates[axis] = at;
                }
                body(b, &point);
                return vec![];
            }
            let outer_kept = &shape.kept[..shape.kept.len() - 1];
            let blocks = b.index(shape.blocks() as i64);
            let (outer, block) = (b.div(unit, blocks), b.rem(unit, blocks));
            let outer_dims: Vec<usize> = outer_kept.iter().map(|&axis| shape.dims[axis]).collect();
            for (&axis, at) in outer_kept.iter().zip(coordinates(b, outer, &outer_dims)) {
                point.coordinates[axis] = at;
            }
            let columns = Split { total: shape.inner() as i64, grain: shape.block() as i64 };
            let range = columns.bounds(b, block);
            let widths = if shape.vectorises { widths(shape.inner(), shape.lanes) } else { vec![1] };
            span(b, range, &widths, |b, at, lanes| {
                let mut point = Point { lanes, ..point.clone() };
                point.coordinates[shape.dims.len() - 1] = at;
                body(b, &point);
            });
            vec![]
        });
    }

    /// The reduction at a result or a vector of results, over `range` of the outermost reduced axis.
    fn reduce(&self, b: &mut Builder, point: &Point, known: &Known, range: (Value, Value)) -> Value {
        if self.shape.along {
            self.reduce_along(b, point, known, range)
        } else {
            self.reduce_across(b, point, known, range)
        }
    }

    /// Results side by side: every lane takes its own terms in order.
    fn reduce_across(&self, b: &mut Builder, point: &Point, known: &Known, (start, end): (Value, Value)) -> Value {
        let shape = self.shape;
        let identity = shape.combine.identity(b, point.lanes);
        let Some((&first, rest)) = shape.reduced.split_first() else {
            return self.term(b, point, known);
        };
        let rest_dims: Vec<usize> = rest.iter().map(|&axis| shape.dims[axis]).collect();
        let step = b.index(1);
        b.for_loop(start, end, step, &[identity], |b, at, sum| {
            let mut point = point.clone();
            point.coordinates[first] = at;
            nest(b, &rest_dims, sum.to_vec(), &mut |b, inner, sum| {
                for (&axis, &at) in rest.iter().zip(inner) {
                    point.coordinates[axis] = at;
                }
                let term = self.term(b, &point, known);
                vec![shape.combine.combine(b, sum[0], term)]
            })
        })[0]
    }

    /// One result, its terms in the logical lanes of a row.
    fn reduce_along(&self, b: &mut Builder, point: &Point, known: &Known, (start, end): (Value, Value)) -> Value {
        let shape = self.shape;
        let (&last, outer) = shape.reduced.split_last().expect("the innermost axis is reduced");
        let parts = Parts::new(shape.dims[last], shape.vectorises);
        let sums = Accumulators { reductions: vec![shape.combine], parts, lanes: shape.lanes };
        let initial = sums.initial(b);
        let walk = |b: &mut Builder, point: &Point, carried: Vec<Value>| {
            let term = |b: &mut Builder, at: Value, lanes: u8| {
                let mut point = Point { lanes, vector: last, ..point.clone() };
                point.coordinates[last] = at;
                vec![self.term(b, &point, known)]
            };
            if outer.is_empty() { sums.walk_range(b, carried, (start, end), term) } else { sums.walk(b, carried, term) }
        };
        let Some((&first, middle)) = outer.split_first() else {
            let values = walk(b, point, initial);
            return sums.finish(b, &values)[0];
        };
        let middle_dims: Vec<usize> = middle.iter().map(|&axis| shape.dims[axis]).collect();
        let step = b.index(1);
        let values = b.for_loop(start, end, step, &initial, |b, at, carried| {
            let mut point = point.clone();
            point.coordinates[first] = at;
            nest(b, &middle_dims, carried.to_vec(), &mut |b, inner, carried| {
                for (&axis, &at) in middle.iter().zip(inner) {
                    point.coordinates[axis] = at;
                }
                walk(b, &point, carried)
            })
        });
        sums.finish(b, &values)[0]
    }

    /// The operand at a point, as it is accumulated.
    fn term(&self, b: &mut Builder, point: &Point, known: &Known) -> Value {
        let operand = self.frame.graph.node(self.id).operands[0];
        let value = self.frame.evaluate(b, point, &mut known.clone(), operand);
        self.shape.combine.enter(b, value)
    }

    /// The members on the result, and the outputs.
    fn finish(&self, b: &mut Builder, point: &Point, value: Value) {
        let graph = self.frame.graph;
        let result = graph.node(self.id).results[0];
        let to = elem(graph.ty(result).dtype);
        let mut known = Known::default();
        let value = self.shape.combine.leave(b, value, to);
        known.bind(result, value, point.lanes);
        self.frame.evaluate_and_write(b, point, &mut known, self.outputs);
    }

    /// The row-major number of a result.
    fn result_number(&self, b: &mut Builder, point: &Point) -> Value {
        let strides = nnc_opt::fuse::Layout::contiguous(&self.shape.kept_dims()).strides;
        let terms: Vec<(Value, i64)> =
            self.shape.kept.iter().map(|&axis| point.coordinates[axis]).zip(strides).collect();
        b.affine(&terms, 0)
    }
}
