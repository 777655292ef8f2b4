//! The transpose of pooling.
//!
//! Windows of a maximum that lie apart (as almost all do) are walked as in the forward direction: each tap's vector
//! gets the cotangent where it is the first maximum and 0 elsewhere, and goes through the epilogue in registers. In
//! general a task owns the plane of a channel: it clears it, adds every window's part in order, and then does the
//! epilogue. Windows of one element along the innermost axis, as those of images with channels last are, go a vector at
//! a time: all of it has the same taps in padding.

use crate::ir::{Builder, Direction, Memory, Type, Value};
use crate::lower::anchor::stored;
use crate::lower::argmax::is_larger;
use crate::lower::evaluate::{Known, Point};
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{Split, coordinates, nest, span, widths};
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::window::{Geometry, Tap, first_maximum, read_taps, zero_like};
use crate::lower::{LowerError, Lowering, cost};
use nnc_graph::{NodeId, WindowAttributes, WindowOp};
use nnc_opt::fuse::{Group, Layout};

/// Work that makes a task.
const TASK_WORK: usize = 1 << 16;

/// Lowers the gradient of a window op.
pub fn lower(
    lowering: &mut Lowering<'_>,
    group: &Group,
    anchor: NodeId,
    op: WindowOp,
    attributes: &WindowAttributes,
) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(anchor);
    let cotangent = node.operands[node.operands.len() - 1];
    let out_dims = graph.ty(cotangent).shape.sizes();
    let dy = stored(lowering, cotangent, &out_dims)?;
    let x = match op {
        WindowOp::Max => Some(stored(lowering, node.operands[0], &group.domain)?),
        WindowOp::Sum => None,
    };
    let mut draft = KernelDraft::new("window_grad");
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let geometry = Geometry::new(attributes, &group.domain[2..], &out_dims[2..]);
    let dy_memory = draft.param(dy.buffer, dy.elem, Direction::In);
    let x_memory = x.as_ref().map(|x| draft.param(x.buffer, x.elem, Direction::In));
    let lanes = lowering.lanes_of(dy.elem);
    let body =
        Body { frame: &frame, group, anchor, geometry, dy: (dy_memory, &dy), x: x_memory.zip(x.as_ref()), lanes };
    let total: usize = group.domain.iter().product();
    let work = 4 + cost::of_nodes(graph, &group.nodes);
    if body.is_apart() {
        let lines: usize = out_dims[..out_dims.len() - 1].iter().product();
        let split = Split::new(lines, TASK_WORK * lines / (total * work), 1);
        draft.builder.phase(split.tasks(), |b, task| body.apart(b, task, split));
    } else {
        let buffer = lowering.temporary(total * dy.elem.size());
        let raw = draft.param(buffer, dy.elem, Direction::InOut);
        let planes = group.domain[0] * group.domain[1];
        draft.builder.phase(planes as u64, |b, plane| body.plane(b, plane, raw));
    }
    let fixed: Vec<_> = [Some(dy.buffer), x.as_ref().map(|place| place.buffer)].into_iter().flatten().collect();
    lowering.launch_with(draft, &frame, total * work, &fixed)
}

/// The most taps of a window that are laid out in line for each width of vectors.
const MOST_TAPS: usize = 32;

struct Body<'a, 'g> {
    frame: &'a Frame<'g>,
    group: &'a Group,
    anchor: NodeId,
    geometry: Geometry,
    dy: (Memory, &'a Place),
    /// For a maximum, the operand of the forward op.
    x: Option<(Memory, &'a Place)>,
    lanes: u8,
}

impl Body<'_, '_> {
    /// Whether windows go a vector at a time: those of single elements along the innermost axis, with taps few enough
    /// to be laid out in line.
    fn by_vectors(&self) -> bool {
        self.geometry.is_single() && self.geometry.size.iter().product::<usize>() <= MOST_TAPS
    }

    /// Whether the quick way applies: a maximum over windows that touch along every axis and leave nothing over, the
    /// inner one in pairs or by vectors.
    fn is_apart(&self) -> bool {
        let g = &self.geometry;
        let contiguous = self.x.is_some_and(|(_, x)| x.layout.strides[x.layout.strides.len() - 1] == 1);
        let touching = |axis: usize| {
            g.size[axis] == g.stride[axis] && g.low[axis] == 0 && g.output[axis] * g.size[axis] == g.input[axis]
        };
        contiguous && (0..g.size.len()).all(touching) && (g.in_pairs() || self.by_vectors())
    }

    /// Some lines of windows, each lane a window.
    fn apart(&self, b: &mut Builder, task: Value, split: Split) {
        let out = &self.dy.1.layout.dims;
        let last = out.len() - 1;
        let (start, end) = split.bounds(b, task);
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, line, _| {
            let outer = coordinates(b, line, &out[..last]);
            let range = (b.index(0), b.index(out[last] as i64));
            span(b, range, &widths(out[last], self.lanes), |b, at, lanes| {
                let point = Point { coordinates: [&outer[..], &[at]].concat(), vector: last, lanes };
                self.windows(b, &point);
            });
            vec![]
        });
    }

    /// `lanes` windows side by side.
    fn windows(&self, b: &mut Builder, point: &Point) {
        let Some((memory, x)) = self.x else { return };
        let taps = read_taps(b, &self.geometry, memory, x, point);
        let cotangent = self.cotangent(b, point);
        let parts = shared_out(b, &taps, cotangent);
        if self.geometry.is_single() {
            for (tap, part) in taps.iter().zip(parts) {
                self.finish(b, &Point { coordinates: tap.at.clone(), ..point.clone() }, part);
            }
            return;
        }
        for pair in 0..taps.len() / 2 {
            self.write_pair(b, point, &taps[2 * pair].at, (parts[2 * pair], parts[2 * pair + 1]));
        }
    }

    /// The cotangent of the windows at a point.
    fn cotangent(&self, b: &mut Builder, point: &Point) -> Value {
        let (memory, dy) = self.dy;
        let terms: Vec<(Value, i64)> =
            point.coordinates.iter().copied().zip(dy.layout.strides.iter().copied()).collect();
        let place = b.affine(&terms, dy.layout.offset);
        let stride = b.index(dy.layout.strides[point.vector]);
        b.load_strided(memory, place, stride, point.lanes)
    }

    /// Writes two taps of each window, which lie side by side.
    fn write_pair(&self, b: &mut Builder, point: &Point, at: &[Value], (even, odd): (Value, Value)) {
        let lanes = point.lanes;
        let halves = if lanes == 1 {
            vec![even, odd]
        } else {
            let mixed = |from: u8| (0..lanes).map(|lane| (from + lane) / 2 + (lane % 2) * lanes).collect::<Vec<u8>>();
            vec![b.shuffle(even, odd, &mixed(0)), b.shuffle(even, odd, &mixed(lanes))]
        };
        for (half, value) in halves.into_iter().enumerate() {
            let mut point = Point { coordinates: at.to_vec(), ..point.clone() };
            let last = at.len() - 1;
            point.coordinates[last] = b.add_index(at[last], half as i64 * i64::from(lanes));
            self.finish(b, &point, value);
        }
    }

    fn finish(&self, b: &mut Builder, point: &Point, value: Value) {
        let mut known = Known::default();
        known.bind(self.frame.graph.node(self.anchor).results[0], value, point.lanes);
        self.frame.evaluate_and_write(b, point, &mut known, &self.group.outputs);
    }

    /// The plane of one channel of one image.
    fn plane(&self, b: &mut Builder, plane: Value, raw: Memory) {
        let dims = &self.group.domain;
        let spatial: usize = dims[2..].iter().product();
        let base = b.mul_index(plane, spatial as i64);
        let outer = coordinates(b, plane, &dims[..2]);
        let range = (b.index(0), b.index(spatial as i64));
        span(b, range, &[self.lanes, 1], |b, at, lanes| {
            let zero = b.zero(Type::vector(raw.elem, lanes));
            let place = b.add(base, at);
            b.store(raw, place, zero);
        });
        if self.by_vectors() {
            self.add_vectors(b, &outer, base, raw);
        } else {
            nest(b, &self.geometry.output, vec![], &mut |b, at, _| {
                let point = Point { coordinates: [&outer[..], at].concat(), vector: 0, lanes: 1 };
                self.add_window(b, &point, base, raw);
                vec![]
            });
        }
        let last = dims.len() - 1;
        nest(b, &dims[2..last], vec![], &mut |b, at, _| {
            let range = (b.index(0), b.index(dims[last] as i64));
            span(b, range, &widths(dims[last], self.lanes), |b, column, lanes| {
                let point = Point { coordinates: [&outer[..], at, &[column]].concat(), vector: last, lanes };
                let place = self.place_in_plane(b, base, &point.coordinates);
                let value = b.load(raw, place, lanes);
                self.finish(b, &point, value);
            });
            vec![]
        });
    }

    /// Adds the cotangents of windows of one element along the innermost axis, along which vectors lie.
    fn add_vectors(&self, b: &mut Builder, outer: &[Value], base: Value, raw: Memory) {
        let output = &self.geometry.output;
        let last = output.len() - 1;
        let range = (b.index(0), b.index(output[last] as i64));
        let inside = Geometry { inside_from: 0, ..self.geometry.clone() };
        nest(b, &output[..last], vec![], &mut |b, at, _| {
            let along = |b: &mut Builder, geometry: &Geometry| {
                span(b, range, &widths(output[last], self.lanes), |b, column, lanes| {
                    let coordinates = [outer, at, &[column]].concat();
                    let point = Point { vector: coordinates.len() - 1, coordinates, lanes };
                    self.add_vector(b, geometry, &point, (base, raw));
                });
                vec![]
            };
            match self.is_inside(b, at) {
                Some(is) => drop(b.if_else(is, |b| along(b, &inside), |b| along(b, &self.geometry))),
                None => drop(along(b, &inside)),
            }
            vec![]
        });
    }

    /// Whether the window at a place lies inside of the image; `None` if all do.
    fn is_inside(&self, b: &mut Builder, at: &[Value]) -> Option<Value> {
        let g = &self.geometry;
        let mut all: Option<Value> = None;
        for (axis, &at) in at.iter().enumerate().filter(|(axis, _)| !g.is_inside(*axis)) {
            let first = b.affine(&[(at, g.stride[axis] as i64)], -(g.low[axis] as i64));
            let (zero, most) = (b.index(0), b.index(g.input[axis] as i64 - g.size[axis] as i64));
            let (after, before) = (b.ge(first, zero), b.le(first, most));
            let inside = b.and(after, before);
            all = Some(all.map_or(inside, |all| b.and(all, inside)));
        }
        all
    }

    /// Adds the cotangents of a vector of windows, of such a geometry. Where a tap lies in padding, nothing is added to
    /// the element that is read in its place.
    fn add_vector(&self, b: &mut Builder, geometry: &Geometry, point: &Point, (base, raw): (Value, Memory)) {
        let cotangent = self.cotangent(b, point);
        let plane = Place { layout: Layout::contiguous(&self.group.domain), ..self.dy.1.clone() };
        let (memory, x) = self.x.unwrap_or((raw, &plane));
        let taps = read_taps(b, geometry, memory, x, point);
        let zero = zero_like(b, cotangent);
        let parts = match self.x {
            Some(_) => shared_out(b, &taps, cotangent),
            None => taps.iter().map(|tap| tap.inside.map_or(cotangent, |is| b.select(is, cotangent, zero))).collect(),
        };
        for (tap, part) in taps.iter().zip(parts) {
            let place = self.place_in_plane(b, base, &tap.at);
            let before = b.load(raw, place, point.lanes);
            let sum = b.add(before, part);
            b.store(raw, place, sum);
        }
    }

    /// Adds a window's cotangent to the plane.
    fn add_window(&self, b: &mut Builder, point: &Point, base: Value, raw: Memory) {
        let cotangent = self.cotangent(b, point);
        let add = |b: &mut Builder, place: Value| {
            let before = b.load(raw, place, 1);
            let sum = b.add(before, cotangent);
            b.store(raw, place, sum);
        };
        match self.x {
            Some((memory, x)) => {
                let taps = read_taps(b, &self.geometry, memory, x, point);
                let best = first_maximum(b, &taps, |b, tap| self.place_in_plane(b, base, &tap.at));
                add(b, best);
            }
            None => {
                let plane = Place { layout: Layout::contiguous(&self.group.domain), ..self.dy.1.clone() };
                for tap in read_taps(b, &self.geometry, raw, &plane, point) {
                    let place = self.place_in_plane(b, base, &tap.at);
                    match tap.inside {
                        Some(inside) => b.if_then(inside, |b| add(b, place)),
                        None => add(b, place),
                    }
                }
            }
        }
    }

    fn place_in_plane(&self, b: &mut Builder, base: Value, at: &[Value]) -> Value {
        let strides = Layout::contiguous(&self.group.domain[2..]).strides;
        let terms: Vec<(Value, i64)> = at[2..].iter().copied().zip(strides).collect();
        let within = b.affine(&terms, 0);
        b.add(base, within)
    }
}

/// What of the cotangent each tap of a window gets: the first maximum of those inside all, the others nothing.
fn shared_out(b: &mut Builder, taps: &[Tap], cotangent: Value) -> Vec<Value> {
    let zero = zero_like(b, cotangent);
    let lowest = b.number(b.type_of(taps[0].value), f64::NEG_INFINITY);
    let values: Vec<Value> = taps.iter().map(|tap| tap.or(b, lowest)).collect();
    // From the last tap back, so that each is compared with the largest of those before it.
    let mut largest = values[0];
    let mut wins = Vec::new();
    for &value in &values[1..] {
        let larger = is_larger(b, value, largest);
        wins.push(larger);
        largest = b.select(larger, value, largest);
    }
    let mut left = cotangent;
    let mut parts = vec![zero; taps.len()];
    for (tap, &win) in wins.iter().enumerate().rev() {
        parts[tap + 1] = b.select(win, left, zero);
        left = b.select(win, zero, left);
    }
    leave_to_first(b, taps, &mut parts, left);
    parts
}

/// Gives what no tap took by being larger than one before it to the first one inside.
fn leave_to_first(b: &mut Builder, taps: &[Tap], parts: &mut [Value], left: Value) {
    let mut none_before = b.bool(true, 1);
    for (tap, part) in taps.iter().zip(parts) {
        let Some(inside) = tap.inside else {
            *part = left;
            return;
        };
        let is_first = b.and(none_before, inside);
        // What a tap took is not left, so that one of the two is zero.
        let both = b.add(*part, left);
        *part = b.select(is_first, both, *part);
        let outside = b.not(inside);
        none_before = b.and(none_before, outside);
    }
}
