//! Ops whose elements come from other places than their own: padding, concatenation, gathers, run-time slices, counting
//! and random numbers.
//!
//! Each operand is walked along the *result*: a gather's operand, for example, has stride 0 along the axes of the
//! indices, and the index times its stride is added at run time. Nothing out of range is read: an index is clamped, and
//! the kernel leaves a code in the status memory.

use super::evaluate::{Point, offset};
use super::frame::{Frame, Read, Walk};
use super::memory::{Place, Source};
use super::scalar::progression;
use super::{LowerError, Lowering};
use crate::ir::{Builder, Elem, Memory, ReduceOp, Value};
use crate::math;
use nnc_graph::{Graph, NodeId, Op, Shape};
use nnc_opt::fuse::Layout;

/// The status code of an index that a gather cannot follow.
pub const STATUS_INDEX: i32 = 1;
/// The status code of a run-time slice that does not fit.
pub const STATUS_SLICE: i32 = 2;

/// Whether the op checks indices at run time.
pub fn may_fail(op: &Op) -> bool {
    matches!(op, Op::Gather { .. } | Op::DynamicSlice { .. } | Op::DynamicUpdate { .. })
}

/// The axes of the result whose coordinate the op needs, as layouts whose "offset" is that coordinate.
/// For `Random` it is the position within its own shape, filed under axis 0.
pub fn coordinates(graph: &Graph, id: NodeId) -> Vec<(usize, Layout)> {
    let node = graph.node(id);
    let dims = graph.ty(node.results[0]).shape.sizes();
    let along = |axis: usize| {
        let mut strides = vec![0; dims.len()];
        strides[axis] = 1;
        (axis, Layout { dims: dims.clone(), strides, offset: 0 })
    };
    match &node.op {
        Op::Iota { axis, .. } | Op::Concat { axis } => vec![along(*axis)],
        Op::DynamicUpdate { axes } => axes.iter().copied().map(along).collect(),
        Op::Random { shape, .. } => {
            let first = dims.len() - shape.rank();
            let axes: Vec<usize> = (first..dims.len()).collect();
            vec![(0, Layout::contiguous(&shape.sizes()).broadcast(&dims, &axes))]
        }
        Op::Pad { low, high } => {
            let padded = |axis: &usize| !(low[*axis].is(0) && high[*axis].is(0));
            (0..dims.len()).filter(padded).map(along).collect()
        }
        _ => Vec::new(),
    }
}

/// The operands, each laid out along the result.
pub fn operands(lowering: &mut Lowering<'_>, id: NodeId) -> Result<Vec<(usize, Source)>, LowerError> {
    let node = lowering.graph.node(id).clone();
    let dims = lowering.graph.ty(node.results[0]).shape.sizes();
    let mut found = Vec::new();
    for (at, &operand) in node.operands.iter().enumerate() {
        let source = match lowering.source(operand)? {
            Source::Uniform(elem, bits) => Source::Uniform(elem, bits),
            Source::Stored(place) => {
                let layout = along_result(lowering.graph, id, at, &place.layout, &dims);
                Source::Stored(Place { layout, ..place })
            }
        };
        found.push((at, source));
    }
    Ok(found)
}

/// Operand `at`, which has layout `x`, along a result of size `dims`.
fn along_result(graph: &Graph, id: NodeId, at: usize, x: &Layout, dims: &[usize]) -> Layout {
    let node = graph.node(id);
    let moved = |back: &[i64]| Layout {
        dims: dims.to_vec(),
        strides: x.strides.clone(),
        offset: x.offset - back.iter().zip(&x.strides).map(|(low, stride)| low * stride).sum::<i64>(),
    };
    let scalar = || Layout { dims: dims.to_vec(), strides: vec![0; dims.len()], offset: x.offset };
    match (&node.op, at) {
        (Op::Random { .. }, 1) => x.broadcast(dims, &(0..x.dims.len()).collect::<Vec<_>>()),
        (Op::Pad { low, .. }, 0) => moved(&Shape(low.clone()).sizes().iter().map(|&l| l as i64).collect::<Vec<_>>()),
        (Op::Concat { axis }, _) => {
            let before = node.operands[..at].iter().map(|&part| graph.ty(part).shape[*axis].size() as i64).sum();
            let mut back = vec![0; dims.len()];
            back[*axis] = before;
            moved(&back)
        }
        (Op::DynamicSlice { .. }, 0) | (Op::DynamicUpdate { .. }, 0 | 1) => moved(&vec![0; dims.len()]),
        (Op::Gather { axis, batch }, _) => gather_layout(x, at, (*axis, *batch), dims),
        _ => scalar(),
    }
}

fn gather_layout(x: &Layout, at: usize, (axis, batch): (usize, usize), dims: &[usize]) -> Layout {
    let mut strides = vec![0; dims.len()];
    // The result has the axes of `x` before `axis`, the further axes of the indices, and the axes of `x` after it.
    let indexed = if at == 0 { dims.len() + 1 - x.dims.len() } else { x.dims.len() - batch };
    for (to, stride) in strides.iter_mut().enumerate() {
        let from = match at {
            0 if to < axis => Some(to),
            0 if to >= axis + indexed => Some(to + 1 - indexed),
            1 if to < batch => Some(to),
            1 if (axis..axis + indexed).contains(&to) => Some(to - axis + batch),
            _ => None,
        };
        *stride = from.map_or(0, |from| x.strides[from]);
    }
    Layout { dims: dims.to_vec(), strides, offset: x.offset }
}

/// Elements of the moved operand for each step of a run-time index, for each of them.
pub fn steps(lowering: &mut Lowering<'_>, id: NodeId) -> Result<Vec<i64>, LowerError> {
    let node = lowering.graph.node(id).clone();
    let (operand, axes) = match &node.op {
        Op::Gather { axis, .. } | Op::DynamicSlice { axis, .. } => (node.operands[0], std::slice::from_ref(axis)),
        Op::DynamicUpdate { axes } => (node.operands[1], &axes[..]),
        _ => return Ok(Vec::new()),
    };
    Ok(match lowering.source(operand)? {
        Source::Stored(place) => axes.iter().map(|&axis| place.layout.strides[axis]).collect(),
        Source::Uniform(..) => vec![0; axes.len()],
    })
}

/// The places along each axis of the result at which the op begins to read elsewhere.
fn seams(frame: &Frame<'_>, id: NodeId) -> Vec<(usize, Vec<usize>)> {
    let node = frame.graph.node(id);
    let size = |operand: usize, along: usize| frame.graph.ty(node.operands[operand]).shape[along].size();
    match &node.op {
        Op::Pad { low, .. } => {
            let ends = |along: usize| vec![low[along].size(), low[along].size() + size(0, along)];
            (0..low.len()).map(|along| (along, ends(along))).collect()
        }
        Op::Concat { axis } => {
            let mut end = 0;
            let ends = (0..node.operands.len()).map(|operand| {
                end += size(operand, *axis);
                end
            });
            vec![(*axis, ends.collect())]
        }
        // It starts anywhere.
        Op::DynamicUpdate { axes } => axes.iter().map(|&axis| (axis, vec![1])).collect(),
        _ => Vec::new(),
    }
}

/// How the coordinate of an op along an axis of its own follows from those of a kernel.
struct Follows {
    /// What a step along the kernel's axis that is asked for adds.
    step: i64,
    /// What steps along the other ones add; no zeros.
    others: Vec<u64>,
}

impl Follows {
    fn new(frame: &Frame<'_>, id: NodeId, along: usize, axis: usize) -> Option<Self> {
        let factors = frame.coordinates.get(&(id, along)).filter(|factors| factors[axis] != 0)?;
        let others = factors.iter().enumerate().filter(|(at, factor)| *at != axis && **factor != 0);
        Some(Self { step: factors[axis], others: others.map(|(_, factor)| factor.unsigned_abs()).collect() })
    }

    /// Whether it is that of the kernel's axis.
    fn is_same(&self) -> bool {
        self.step == 1 && self.others.is_empty()
    }
}

/// Where along a kernel's `axis` the op begins to read elsewhere, if these places are the same whatever the other
/// coordinates are.
pub fn seams_along(frame: &Frame<'_>, id: NodeId, axis: usize) -> Vec<usize> {
    let is_fixed = !matches!(frame.graph.node(id).op, Op::DynamicUpdate { .. });
    let same = |along: usize| Follows::new(frame, id, along, axis).is_some_and(|follows| follows.is_same());
    seams(frame, id).into_iter().filter(|(along, _)| is_fixed && same(*along)).flat_map(|(_, seams)| seams).collect()
}

/// How many neighbours along `axis` the op can be computed for at once, if the first one's coordinate is a multiple of
/// that: a power of two; `None` is any number. Where the elements come from must not change among them, but for what
/// [`seams_along`] says where the kernel itself stops there.
pub fn neighbours(frame: &Frame<'_>, id: NodeId, axis: usize, stops: bool) -> Option<usize> {
    let is_fixed = !matches!(frame.graph.node(id).op, Op::DynamicUpdate { .. });
    let between = |(along, seams): (usize, Vec<usize>)| {
        let follows = Follows::new(frame, id, along, axis)?;
        if stops && is_fixed && follows.is_same() {
            return None;
        }
        let all = seams.iter().map(|&seam| seam as u64).chain(follows.others).fold(0, |all, number| all | number);
        Some(if follows.step == 1 { 1 << all.trailing_zeros().min(6) } else { 1 })
    };
    seams(frame, id).into_iter().filter_map(between).min()
}

/// The op at a point.
pub fn compute(frame: &Frame<'_>, b: &mut Builder, point: &Point, id: NodeId) -> Value {
    let cursor = Cursor { frame, point, id };
    match &frame.graph.node(id).op {
        Op::Iota { axis, ty } => {
            let elem = super::memory::elem(ty.dtype);
            let counter = if elem == Elem::I64 { Elem::I64 } else { Elem::I32 };
            let number = cursor.coordinate_lanes(b, *axis, counter);
            b.convert(number, elem)
        }
        Op::Random { stream, .. } => cursor.random(b, *stream),
        Op::Pad { .. } => cursor.pad(b),
        Op::Concat { axis } => cursor.concat(b, *axis),
        Op::DynamicSlice { axis, size } => cursor.dynamic_slice(b, *axis, size.size() as i64),
        Op::DynamicUpdate { axes } => cursor.dynamic_update(b, axes),
        Op::Gather { axis, .. } => cursor.gather(b, *axis),
        op => panic!("compiler bug: `{}` is not indexed", op.name()),
    }
}

/// A node at a point.
struct Cursor<'a, 'g> {
    frame: &'a Frame<'g>,
    point: &'a Point,
    id: NodeId,
}

impl Cursor<'_, '_> {
    fn operand(&self, at: usize) -> &Read {
        &self.frame.indexed[&(self.id, at)]
    }

    fn load(&self, b: &mut Builder, at: usize, moved: Option<Value>) -> Value {
        self.frame.load(b, self.point, self.operand(at), moved)
    }

    /// Operand `at`, which does not change from lane to lane, as a scalar.
    fn load_scalar(&self, b: &mut Builder, at: usize) -> Value {
        let scalar = Point { lanes: 1, ..self.point.clone() };
        self.frame.load(b, &scalar, self.operand(at), None)
    }

    fn size(&self, operand: usize, axis: usize) -> i64 {
        let node = self.frame.graph.node(self.id);
        self.frame.graph.ty(node.operands[operand]).shape[axis].size() as i64
    }

    /// The coordinate of the first lane.
    fn coordinate(&self, b: &mut Builder, axis: usize) -> Value {
        let factors = &self.frame.coordinates[&(self.id, axis)];
        let terms: Vec<(Value, i64)> =
            self.point.coordinates.iter().copied().zip(factors.iter().copied()).filter(|term| term.1 != 0).collect();
        b.affine(&terms, 0)
    }

    fn coordinate_lanes(&self, b: &mut Builder, axis: usize, elem: Elem) -> Value {
        let first = self.coordinate(b, axis);
        let factors = &self.frame.coordinates[&(self.id, axis)];
        let factor = if self.point.lanes == 1 { 0 } else { factors[self.point.vector] };
        progression(b, first, factor, self.point.lanes, elem)
    }

    /// The uniform numbers that `Op::Random` defines.
    fn random(&self, b: &mut Builder, stream: u64) -> Value {
        let lanes = self.point.lanes;
        let (seed, counter) = (self.load_scalar(b, 0), self.load(b, 1, None));
        let seed = b.splat(seed, lanes);
        let (seed_low, seed_high) = words(b, seed);
        let (counter_low, counter_high) = words(b, counter);
        let low = b.i32(stream as u32 as i32, lanes);
        let high = b.i32((stream >> 32) as u32 as i32, lanes);
        let high = b.xor(high, counter_high);
        let key = [b.xor(seed_low, low), b.xor(seed_high, high)];
        let position = self.coordinate_lanes(b, 0, Elem::I32);
        let [word, _] = math::threefry2x32(b, key, [position, counter_low]);
        math::uniform_f32(b, word)
    }

    fn pad(&self, b: &mut Builder) -> Value {
        let frame = self.frame;
        let Op::Pad { low, .. } = &frame.graph.node(self.id).op else { unreachable!("only called for a pad") };
        let mut inside = b.bool(true, 1);
        for (axis, low) in low.iter().enumerate() {
            if frame.coordinates.contains_key(&(self.id, axis)) {
                let at = self.coordinate(b, axis);
                let (low, size) = (low.size() as i64, self.size(0, axis));
                let (first, end) = (b.index(low), b.index(low + size));
                let (after, before) = (b.ge(at, first), b.lt(at, end));
                let within = b.and(after, before);
                inside = b.and(inside, within);
            }
        }
        b.if_else(inside, |b| vec![self.load(b, 0, None)], |b| vec![self.load(b, 1, None)])[0]
    }

    fn concat(&self, b: &mut Builder, axis: usize) -> Value {
        let at = self.coordinate(b, axis);
        self.concat_from(b, axis, at, 0, 0)
    }

    fn concat_from(&self, b: &mut Builder, axis: usize, at: Value, part: usize, start: i64) -> Value {
        if part + 1 == self.frame.graph.node(self.id).operands.len() {
            return self.load(b, part, None);
        }
        let end = start + self.size(part, axis);
        let bound = b.index(end);
        let here = b.lt(at, bound);
        let load = |b: &mut Builder| vec![self.load(b, part, None)];
        b.if_else(here, load, |b| vec![self.concat_from(b, axis, at, part + 1, end)])[0]
    }

    fn start(&self, b: &mut Builder, operand: usize, last: i64) -> Value {
        let start = self.load_scalar(b, operand);
        bounded_start(b, start, last, (self.frame.status, self.id))
    }

    fn dynamic_slice(&self, b: &mut Builder, axis: usize, size: i64) -> Value {
        let start = self.start(b, 1, self.size(0, axis) - size);
        let moved = b.mul_index(start, self.frame.steps[&self.id][0]);
        self.load(b, 0, Some(moved))
    }

    fn dynamic_update(&self, b: &mut Builder, axes: &[usize]) -> Value {
        let (mut inside, mut moved) = (b.bool(true, 1), b.index(0));
        for (at, (&axis, step)) in axes.iter().zip(&self.frame.steps[&self.id]).enumerate() {
            let size = self.size(1, axis);
            let start = self.start(b, 2 + at, self.size(0, axis) - size);
            let here = self.coordinate(b, axis);
            let end = b.add_index(start, size);
            let (after, before) = (b.ge(here, start), b.lt(here, end));
            let within = b.and(after, before);
            inside = b.and(inside, within);
            let back = b.mul_index(start, -step);
            moved = b.add(moved, back);
        }
        b.if_else(inside, |b| vec![self.load(b, 1, Some(moved))], |b| vec![self.load(b, 0, None)])[0]
    }

    fn gather(&self, b: &mut Builder, axis: usize) -> Value {
        let (size, step) = (self.size(0, axis), self.frame.steps[&self.id][0]);
        let indices_move = match self.operand(1) {
            Read::Memory(walk) => self.point.lanes > 1 && walk.strides[self.point.vector] != 0,
            Read::Uniform(..) => false,
        };
        let index = if indices_move { self.load(b, 1, None) } else { self.load_scalar(b, 1) };
        let index = b.convert(index, Elem::I64);
        let index = self.checked(b, index, size);
        let ty = b.type_of(index);
        let step = b.number(ty, step as f64);
        let moved = b.mul(index, step);
        match self.operand(0) {
            Read::Memory(walk) if indices_move => self.load_lanes(b, walk, moved),
            read => self.frame.load(b, self.point, read, (!indices_move).then_some(moved)),
        }
    }

    /// One element for each lane, `moved` elements on from where the lane stands.
    fn load_lanes(&self, b: &mut Builder, walk: &Walk, moved: Value) -> Value {
        let first = offset(b, self.point, walk, None);
        let zero = b.index(0);
        let along = progression(b, zero, walk.strides[self.point.vector], self.point.lanes, Elem::I64);
        let lanes = b.add(along, moved);
        b.load_indexed(walk.memory, first, lanes)
    }

    /// Indices brought into `0..size`; told to the status memory if one was outside.
    fn checked(&self, b: &mut Builder, index: Value, size: i64) -> Value {
        let ty = b.type_of(index);
        let (zero, last) = (b.zero(ty), b.number(ty, (size - 1) as f64));
        let (below, above) = (b.lt(index, zero), b.gt(index, last));
        let outside = b.or(below, above);
        let outside = b.reduce(ReduceOp::Or, outside);
        report(b, outside, STATUS_INDEX, (self.frame.status, self.id));
        let index = b.max(index, zero);
        b.min(index, last)
    }
}

/// A run-time start brought into `0..=last`; told to the status memory if it was outside.
pub fn bounded_start(b: &mut Builder, start: Value, last: i64, teller: (Option<Memory>, NodeId)) -> Value {
    let start = b.convert(start, Elem::I64);
    let (zero, last) = (b.index(0), b.index(last));
    let (below, above) = (b.lt(start, zero), b.gt(start, last));
    let outside = b.or(below, above);
    report(b, outside, STATUS_SLICE, teller);
    let start = b.max(start, zero);
    b.min(start, last)
}

/// Leaves a code and the node's number in the status memory if `bad` holds.
fn report(b: &mut Builder, bad: Value, code: i32, (status, id): (Option<Memory>, NodeId)) {
    let Some(status) = status else { return };
    b.if_then(bad, |b| tell(b, status, code, id));
}

/// Leaves a code and the node's number in the status memory.
pub fn tell(b: &mut Builder, status: Memory, code: i32, id: NodeId) {
    let (first, second) = (b.index(0), b.index(1));
    let (code, node) = (b.i32(code, 1), b.i32(id.0 as i32, 1));
    b.store(status, first, code);
    b.store(status, second, node);
}

/// The low and the high word of i64 lanes, as i32.
fn words(b: &mut Builder, number: Value) -> (Value, Value) {
    let shift = b.number(b.type_of(number), 32.0);
    let high = b.shr(number, shift);
    (b.convert(number, Elem::I32), b.convert(high, Elem::I32))
}
