//! Pooling: the maximum or the sum of each window, or the element of another value at the maximum's place.
//!
//! Windows lie along the result's innermost axis, one in each lane. The taps of a window are taken in row-major order.
//! Windows that move by two are read in whole vectors that are taken apart into even and odd lanes; those at the
//! borders that reach into padding are computed one by one. Padding is never read: a tap outside counts as the
//! identity. Images with channels last go by [`last`].

pub mod grad;
mod last;

use crate::ir::{Builder, Direction, Memory, Type, Value};
use crate::lower::anchor::stored;
use crate::lower::argmax::is_larger;
use crate::lower::evaluate::{Known, Point};
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{Split, coordinates, span, widths};
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::{LowerError, Lowering, cost};
use nnc_graph::{NodeId, WindowAttributes, WindowOp};
use nnc_opt::fuse::Group;

/// Work that makes a task.
const TASK_WORK: usize = 1 << 16;

/// What is computed of each window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Its maximum or sum.
    Whole(WindowOp),
    /// The second operand's element at the place of the first maximum.
    Pick,
}

/// The geometry of windows, in numbers.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// Extents of a window.
    pub size: Vec<usize>,
    /// Steps between windows.
    pub stride: Vec<usize>,
    /// Padding before.
    pub low: Vec<usize>,
    /// Spatial sizes of `x`.
    pub input: Vec<usize>,
    /// Spatial sizes of the result.
    pub output: Vec<usize>,
    /// Along the axes from this one on, only windows are asked for that do not reach into padding.
    pub inside_from: usize,
}

impl Geometry {
    /// From attributes, and the spatial sizes of both sides.
    pub fn new(attributes: &WindowAttributes, input: &[usize], output: &[usize]) -> Self {
        let sizes = |dims: &[nnc_graph::Dim]| dims.iter().map(nnc_graph::Dim::size).collect::<Vec<_>>();
        Self {
            size: sizes(&attributes.size),
            stride: sizes(&attributes.stride),
            low: sizes(&attributes.low),
            input: input.to_vec(),
            output: output.to_vec(),
            inside_from: input.len(),
        }
    }

    /// The windows along the innermost axis that do not reach into padding.
    pub fn inner_windows(&self) -> (usize, usize) {
        let last = self.size.len() - 1;
        let (size, stride, low) = (self.size[last], self.stride[last], self.low[last]);
        let start = low.div_ceil(stride).min(self.output[last]);
        let end = (self.input[last] + low).checked_sub(size).map_or(0, |room| room / stride + 1);
        (start, end.clamp(start, self.output[last]))
    }

    /// Whether no window reaches into padding along an axis.
    pub fn is_inside(&self, axis: usize) -> bool {
        if axis >= self.inside_from {
            return true;
        }
        let last = (self.output[axis] - 1) * self.stride[axis] + self.size[axis];
        self.low[axis] == 0 && last <= self.input[axis]
    }

    /// The offsets of the taps within a window, in row-major order.
    pub fn taps(&self) -> Vec<Vec<usize>> {
        let mut taps = vec![vec![]];
        for &size in &self.size {
            taps = taps.iter().flat_map(|tap| (0..size).map(move |at| [&tap[..], &[at]].concat())).collect();
        }
        taps
    }

    /// Whether windows are single elements along the innermost axis.
    pub fn is_single(&self) -> bool {
        let last = self.size.len() - 1;
        self.size[last] == 1 && self.stride[last] == 1 && self.low[last] == 0 && self.output[last] == self.input[last]
    }

    /// Whether the innermost axis is read in pairs of even and odd lanes.
    pub fn in_pairs(&self) -> bool {
        let last = self.size.len() - 1;
        self.size[last] == 2 && self.stride[last] == 2 && self.is_inside(last)
    }
}

/// Lowers a window op.
pub fn lower(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    kind: Kind,
    attributes: &WindowAttributes,
) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let dims = graph.ty(node.operands[0]).shape.sizes();
    let x = stored(lowering, node.operands[0], &dims)?;
    let other = if kind == Kind::Pick { Some(stored(lowering, node.operands[1], &dims)?) } else { None };
    let mut draft = KernelDraft::new("window");
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let memory = draft.param(x.buffer, x.elem, Direction::In);
    let other_memory = other.as_ref().map(|place| draft.param(place.buffer, place.elem, Direction::In));
    let geometry = Geometry::new(attributes, &dims[2..], &group.domain[2..]);
    let taps = geometry.taps().len();
    let body =
        Body { frame: &frame, group, anchor, kind, geometry, x: (memory, &x), other: other.as_ref().zip(other_memory) };
    let last = group.domain.len() - 1;
    let inner = group.domain[last];
    let lines: usize = group.domain[..last].iter().product();
    let work = taps + cost::of_nodes(graph, &group.nodes);
    let (start, end) = if kind == Kind::Pick { (0, 0) } else { body.geometry.inner_windows() };
    let widths = widths(end - start, lowering.lanes_of(x.elem));
    let split = Split::new(lines, TASK_WORK / (inner * work), 1);
    let by_places = last::serves(kind, &body.geometry);
    draft.builder.phase(split.tasks(), |b, task| match by_places {
        Some(op) => body.places(b, (task, split), op, &widths),
        None => body.task(b, task, split, &widths),
    });
    let fixed: Vec<_> = [Some(x.buffer), other.as_ref().map(|place| place.buffer)].into_iter().flatten().collect();
    lowering.launch_with(draft, &frame, lines * inner * work, &fixed)
}

struct Body<'a, 'g> {
    frame: &'a Frame<'g>,
    group: &'a Group,
    anchor: NodeId,
    kind: Kind,
    geometry: Geometry,
    x: (Memory, &'a Place),
    other: Option<(&'a Place, Memory)>,
}

impl Body<'_, '_> {
    fn task(&self, b: &mut Builder, task: Value, split: Split, widths: &[u8]) {
        let dims = &self.group.domain;
        let last = dims.len() - 1;
        let (start, end) = split.bounds(b, task);
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, line, _| {
            let outer = coordinates(b, line, &dims[..last]);
            let mut known = Known::default();
            let first = Point { coordinates: [&outer[..], &[b.index(0)]].concat(), vector: last, lanes: 1 };
            self.frame.hoist(b, &first, &mut known, |axis| axis == last);
            let (inner, outside) = match self.kind {
                Kind::Whole(_) => (self.geometry.inner_windows(), self.geometry.clone()),
                Kind::Pick => ((0, 0), self.geometry.clone()),
            };
            let inside = Geometry { inside_from: self.geometry.size.len() - 1, ..self.geometry.clone() };
            let parts: [(usize, usize, &[u8], &Geometry); 3] = [
                (0, inner.0, &[1], &outside),
                (inner.0, inner.1, widths, &inside),
                (inner.1, dims[last], &[1], &outside),
            ];
            for (from, to, widths, geometry) in parts.into_iter().filter(|part| part.0 < part.1) {
                let range = (b.index(from as i64), b.index(to as i64));
                span(b, range, widths, |b, at, lanes| {
                    let point = Point { coordinates: [&outer[..], &[at]].concat(), vector: last, lanes };
                    let value = self.window(b, geometry, &point);
                    let mut known = known.clone();
                    known.bind(self.frame.graph.node(self.anchor).results[0], value, lanes);
                    self.frame.evaluate_and_write(b, &point, &mut known, &self.group.outputs);
                });
            }
            vec![]
        });
    }

    fn window(&self, b: &mut Builder, geometry: &Geometry, point: &Point) -> Value {
        let (memory, place) = self.x;
        let taps = read_taps(b, geometry, memory, place, point);
        match self.kind {
            Kind::Whole(op) => fold(b, op, &taps),
            Kind::Pick => self.pick(b, &taps),
        }
    }

    fn pick(&self, b: &mut Builder, taps: &[Tap]) -> Value {
        let (place, memory) = self.other.expect("a pick has two operands");
        let moved = |b: &mut Builder, tap: &Tap| {
            let terms: Vec<(Value, i64)> = tap.at.iter().copied().zip(place.layout.strides.iter().copied()).collect();
            b.affine(&terms, place.layout.offset)
        };
        let best = first_maximum(b, taps, moved);
        b.load(memory, best, 1)
    }
}

/// An element of a window.
pub struct Tap {
    /// Its value; anything if it lies in padding.
    pub value: Value,
    /// A scalar bool: whether it lies inside; `None` if it always does.
    pub inside: Option<Value>,
    /// Its coordinates in `x`, brought into range.
    pub at: Vec<Value>,
}

impl Tap {
    /// The value, or `identity` if it lies in padding.
    pub fn or(&self, b: &mut Builder, identity: Value) -> Value {
        self.inside.map_or(self.value, |inside| b.select(inside, self.value, identity))
    }
}

/// The maximum or the sum of the taps of a window, in order.
pub fn fold(b: &mut Builder, op: WindowOp, taps: &[Tap]) -> Value {
    let ty = b.type_of(taps[0].value);
    let identity = match op {
        WindowOp::Max => b.number(ty, f64::NEG_INFINITY),
        WindowOp::Sum => b.zero(ty),
    };
    let values: Vec<Value> = taps.iter().map(|tap| tap.or(b, identity)).collect();
    values.iter().skip(1).fold(values[0], |all, &value| match op {
        WindowOp::Max => b.max(all, value),
        WindowOp::Sum => b.add(all, value),
    })
}

/// Of scalar taps the first maximum, NaN counting as largest: what `mark` makes of it.
pub fn first_maximum(b: &mut Builder, taps: &[Tap], mark: impl Fn(&mut Builder, &Tap) -> Value) -> Value {
    let lowest = b.number(b.type_of(taps[0].value), f64::NEG_INFINITY);
    let mut none_yet = b.bool(true, 1);
    let (mut best, mut place) = (lowest, b.index(0));
    for tap in taps {
        let mut larger = is_larger(b, tap.value, best);
        larger = b.or(larger, none_yet);
        if let Some(inside) = tap.inside {
            larger = b.and(larger, inside);
        }
        let mark = mark(b, tap);
        best = b.select(larger, tap.value, best);
        place = b.select(larger, mark, place);
        let later = b.not(larger);
        none_yet = b.and(none_yet, later);
    }
    place
}

/// Reads the windows at a point of the result, tap by tap in row-major order.
pub fn read_taps(b: &mut Builder, geometry: &Geometry, memory: Memory, x: &Place, point: &Point) -> Vec<Tap> {
    let mut taps = Vec::new();
    let last = geometry.size.len() - 1;
    let in_pairs = geometry.is_inside(last)
        && (geometry.size[last] > 1 && geometry.stride[last] == 2)
        && (x.layout.strides[last + 2] == 1 && point.lanes > 1);
    let mut odd = None;
    for tap in geometry.taps() {
        let (at, inside) = place_of(b, geometry, &tap, point);
        let terms: Vec<(Value, i64)> = at.iter().copied().zip(x.layout.strides.iter().copied()).collect();
        let offset = b.affine(&terms, x.layout.offset);
        let value = if in_pairs {
            // Nothing is read that is not of a window: from the third tap on, pairs begin an element before it.
            match (tap[last], odd.take()) {
                (1, Some(odd)) => odd,
                (0, _) => {
                    let (even, next) = load_pairs(b, memory, offset, point.lanes);
                    odd = Some(next);
                    even
                }
                _ => {
                    let before = b.add_index(offset, -1);
                    load_pairs(b, memory, before, point.lanes).1
                }
            }
        } else {
            let stride = x.layout.strides[at.len() - 1] * geometry.stride[geometry.stride.len() - 1] as i64;
            let stride = b.index(stride);
            b.load_strided(memory, offset, stride, point.lanes)
        };
        taps.push(Tap { value, inside, at });
    }
    taps
}

/// `2 * lanes` elements in a row, as the even and the odd ones.
pub fn load_pairs(b: &mut Builder, memory: Memory, offset: Value, lanes: u8) -> (Value, Value) {
    let first = b.load(memory, offset, lanes);
    let next = b.add_index(offset, i64::from(lanes));
    let second = b.load(memory, next, lanes);
    let even: Vec<u8> = (0..lanes).map(|lane| 2 * lane).collect();
    let odd: Vec<u8> = even.iter().map(|lane| lane + 1).collect();
    (b.shuffle(first, second, &even), b.shuffle(first, second, &odd))
}

/// The coordinates in `x` of a tap of the first lane's window, and whether they lie inside.
fn place_of(b: &mut Builder, geometry: &Geometry, tap: &[usize], point: &Point) -> (Vec<Value>, Option<Value>) {
    let mut at = point.coordinates[..2].to_vec();
    let mut all: Option<Value> = None;
    for (axis, &tap) in tap.iter().enumerate() {
        let moved = tap as i64 - geometry.low[axis] as i64;
        let place = b.affine(&[(point.coordinates[axis + 2], geometry.stride[axis] as i64)], moved);
        if geometry.is_inside(axis) {
            at.push(place);
            continue;
        }
        let (zero, last) = (b.index(0), b.index(geometry.input[axis] as i64 - 1));
        let (after, before) = (b.ge(place, zero), b.le(place, last));
        let inside = b.and(after, before);
        all = Some(all.map_or(inside, |all| b.and(all, inside)));
        let place = b.max(place, zero);
        at.push(b.min(place, last));
    }
    (at, all)
}

/// A vector or scalar of zeros like `value`.
pub fn zero_like(b: &mut Builder, value: Value) -> Value {
    let ty: Type = b.type_of(value);
    b.zero(ty)
}
