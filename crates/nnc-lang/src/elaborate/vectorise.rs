//! From one example to a batch: a graph written for a single example is inlined with an axis `N` in front.
//!
//! One batching rule per op, in the way of `vmap` (Frostig, Johnson, Leary 2018). A value of the batched graph is a
//! [`Lane`]: either it has the axis (`batched`) or it is the same for every example and is computed once. An op all of
//! whose operands are unbatched is copied as it is. The meaning is that of running the example's graph for each
//! example and stacking the results; the tests hold every rule to that.
//!
//! On entry the example's graph is well typed and has no outputs that update state. On exit the target holds the
//! nodes it needs, and what was asked for comes back with the axis in front.

mod scan;

use nnc_graph::{
    BinaryOp, CompareOp, ConvAttributes, DType, Dim, Graph, Node, NodeId, Op, Origin, ReduceOp, Shape, SliceRange,
    Stored, TensorType, ValueId, WindowOp,
};
use std::collections::BTreeMap;

/// A value of the batched graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lane {
    /// Where it is.
    pub value: ValueId,
    /// Whether its first axis is the batch; else it is the same for every example.
    pub batched: bool,
}

/// Inlines what `wanted` (values of `example`) need into `target`, for a batch of `n`. `leaf` gives the lane of an
/// input, parameter or state by its name or path; its type, with or without `n` in front, must be the leaf's.
///
/// The results are batched: a value that does not depend on the example is repeated.
///
/// # Errors
/// In words, what has no batched form: a derivative by something that all examples share, or a per-example seed.
pub fn vectorise(
    example: &Graph,
    wanted: &[ValueId],
    target: &mut Graph,
    n: &Dim,
    leaf: &mut dyn FnMut(&mut Graph, &Op) -> Result<Lane, String>,
) -> Result<Vec<ValueId>, String> {
    let needed = needed_nodes(example, wanted);
    let mut batcher = Batcher { target, n: n.clone() };
    let mut lanes: BTreeMap<ValueId, Lane> = BTreeMap::new();
    for (id, node) in example.nodes().filter(|(id, _)| needed[id.index()]) {
        let origin = example.origin_of(node).cloned();
        let operands: Vec<Lane> = node.operands.iter().map(|operand| lanes[operand]).collect();
        let results = batcher.inline(node, &operands, origin, leaf)?;
        debug_assert_eq!(results.len(), node.results.len(), "node {id} has all its results");
        for (&old, lane) in node.results.iter().zip(results) {
            if let Some(name) = &example.value(old).name {
                batcher.target.set_name(lane.value, name);
            }
            lanes.insert(old, lane);
        }
    }
    Ok(wanted.iter().map(|value| batcher.lifted(lanes[value])).collect())
}

/// Which nodes the wanted values depend on.
fn needed_nodes(graph: &Graph, wanted: &[ValueId]) -> Vec<bool> {
    let mut needed = vec![false; graph.node_count()];
    let mut stack: Vec<NodeId> = wanted.iter().map(|&value| graph.value(value).node).collect();
    while let Some(id) = stack.pop() {
        if !std::mem::replace(&mut needed[id.index()], true) {
            stack.extend(graph.node(id).operands.iter().map(|&operand| graph.value(operand).node));
        }
    }
    needed
}

struct Batcher<'a> {
    target: &'a mut Graph,
    n: Dim,
}

fn batched(value: ValueId) -> Lane {
    Lane { value, batched: true }
}

/// Axis numbers behind the new first axis.
fn behind(axes: &[usize]) -> Vec<usize> {
    axes.iter().map(|axis| axis + 1).collect()
}

/// The permutation of `rank` axes that moves `axis` to the front.
fn to_front(axis: usize, rank: usize) -> Vec<usize> {
    std::iter::once(axis).chain((0..rank).filter(|&other| other != axis)).collect()
}

impl Batcher<'_> {
    fn inline(
        &mut self,
        node: &Node,
        operands: &[Lane],
        origin: Option<Origin>,
        leaf: &mut dyn FnMut(&mut Graph, &Op) -> Result<Lane, String>,
    ) -> Result<Vec<Lane>, String> {
        if node.op.is_leaf() {
            return Ok(vec![leaf(self.target, &node.op)?]);
        }
        let origin = origin.map(|origin| self.target.intern_origin(origin));
        let former = self.target.set_origin(origin);
        let results = if operands.iter().any(|lane| lane.batched) {
            self.batch(&node.op, operands)
        } else {
            let values: Vec<ValueId> = operands.iter().map(|lane| lane.value).collect();
            let added = self.target.add(node.op.clone(), &values).map_err(|error| error.to_string());
            added.map(|results| results.into_iter().map(|value| Lane { value, batched: false }).collect())
        };
        self.target.set_origin(former);
        results
    }

    fn emit(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.target.emit(op, operands)
    }

    fn ty(&self, value: ValueId) -> TensorType {
        self.target.ty(value).clone()
    }

    fn shape(&self, value: ValueId) -> Vec<Dim> {
        self.target.ty(value).shape.to_vec()
    }

    /// `shape` with the batch in front.
    fn with_n(&self, shape: &[Dim]) -> Shape {
        Shape([std::slice::from_ref(&self.n), shape].concat())
    }

    /// The lane's value with the batch axis, repeated when it has none.
    fn lifted(&mut self, lane: Lane) -> ValueId {
        if lane.batched {
            return lane.value;
        }
        let shape = self.shape(lane.value);
        let axes = (1..=shape.len()).collect();
        let shape = self.with_n(&shape);
        self.emit(Op::Broadcast { shape, axes }, &[lane.value])
    }

    fn all_lifted(&mut self, operands: &[Lane]) -> Vec<ValueId> {
        operands.iter().map(|&lane| self.lifted(lane)).collect()
    }

    /// The rule of each op when at least one operand is batched. Flat dispatch: one line or call for each op.
    #[allow(clippy::too_many_lines, reason = "one arm for each op")]
    fn batch(&mut self, op: &Op, operands: &[Lane]) -> Result<Vec<Lane>, String> {
        let value = match op {
            Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) => return no_operands(op),
            Op::Extent { .. } | Op::Iota { .. } => return no_operands(op),
            Op::Random { .. } => self.random(op, operands)?,
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::StopGradient => {
                let lifted = self.all_lifted(operands);
                self.emit(op.clone(), &lifted)
            }
            Op::Reshape(shape) => {
                let shape = self.with_n(shape);
                self.emit(Op::Reshape(shape), &[operands[0].value])
            }
            Op::Transpose(permutation) => {
                let permutation = [vec![0], behind(permutation)].concat();
                self.emit(Op::Transpose(permutation), &[operands[0].value])
            }
            Op::Broadcast { shape, axes } => {
                let (shape, axes) = (self.with_n(shape), [vec![0], behind(axes)].concat());
                self.emit(Op::Broadcast { shape, axes }, &[operands[0].value])
            }
            Op::Slice(ranges) => {
                let all = SliceRange { start: Dim::from(0i64), size: self.n.clone(), step: 1 };
                let ranges = [vec![all], ranges.clone()].concat();
                self.emit(Op::Slice(ranges), &[operands[0].value])
            }
            Op::Pad { low, high } => self.pad(low, high, operands),
            Op::Concat { axis } => {
                let lifted = self.all_lifted(operands);
                self.emit(Op::Concat { axis: axis + 1 }, &lifted)
            }
            Op::DynamicSlice { axis, size } => self.dynamic_slice(*axis, size, operands),
            Op::DynamicUpdate { axes } => self.dynamic_update(axes, operands),
            Op::Gather { axis, batch } => self.gather(*axis, *batch, operands[0], operands[1]),
            Op::ScatterAdd { axis, batch } => {
                let lifted = self.all_lifted(operands);
                self.emit(Op::ScatterAdd { axis: axis + 1, batch: batch + 1 }, &lifted)
            }
            Op::Reduce { op, axes } => self.emit(Op::Reduce { op: *op, axes: behind(axes) }, &[operands[0].value]),
            Op::ArgMax { axis } => self.emit(Op::ArgMax { axis: axis + 1 }, &[operands[0].value]),
            Op::Dot { batch, a_axes, b_axes } => self.dot(*batch, a_axes, b_axes, operands),
            Op::DotStored(stored) => self.dot_stored(*stored, operands),
            Op::Conv(_) | Op::ConvLast(_) | Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. }
                if !operands[1].batched =>
            {
                self.over_merged_batch(op, &[operands[0]], Some(operands[1].value))
            }
            Op::Conv(attributes) => self.conv(attributes, operands),
            Op::ConvLast(attributes) => {
                self.with_channels_first(operands, |rule, operands| rule.conv(attributes, operands))
            }
            Op::ConvInputGrad { attributes, input } => self.conv_input_grad(attributes, input, operands),
            Op::ConvInputGradLast { attributes, input } => {
                self.with_channels_first(operands, |rule, operands| rule.conv_input_grad(attributes, input, operands))
            }
            Op::ConvWeightGrad { attributes, kernel } => self.conv_weight_grad(attributes, kernel, operands),
            Op::Window { .. } | Op::WindowGrad { op: WindowOp::Sum | WindowOp::Max, .. } | Op::WindowPick(_) => {
                self.over_merged_batch(op, operands, None)
            }
            Op::Grad => return self.grad(operands),
            Op::Scan(scan) => return self.scan(scan, operands),
        };
        Ok(vec![batched(value)])
    }

    fn random(&mut self, op: &Op, operands: &[Lane]) -> Result<ValueId, String> {
        if operands[0].batched {
            return Err("a seed of its own for each example".to_owned());
        }
        Ok(self.emit(op.clone(), &[operands[0].value, operands[1].value]))
    }

    /// A filling that differs from example to example is put in by a mask of the elements that are there.
    fn pad(&mut self, low: &[Dim], high: &[Dim], operands: &[Lane]) -> ValueId {
        let zero = std::slice::from_ref(&Dim::from(0i64)).to_vec();
        let op = Op::Pad { low: [zero.clone(), low.to_vec()].concat(), high: [zero, high.to_vec()].concat() };
        let x = self.lifted(operands[0]);
        if !operands[1].batched {
            return self.emit(op, &[x, operands[1].value]);
        }
        let ty = self.ty(x);
        let inside = self.target.splat(&TensorType::new(DType::Bool, ty.shape), 1.0);
        let (outside, zero) = (self.target.scalar(DType::Bool, 0.0), self.target.scalar(ty.dtype, 0.0));
        let inside = self.emit(op.clone(), &[inside, outside]);
        let padded = self.emit(op, &[x, zero]);
        let shape = self.ty(padded).shape;
        let filling = self.emit(Op::Broadcast { shape, axes: vec![0] }, &[operands[1].value]);
        self.emit(Op::Select, &[inside, padded, filling])
    }

    /// `[N, size]` indices: `start[n] + 0, 1, ...`.
    fn run_of_indices(&mut self, start: ValueId, size: &Dim) -> ValueId {
        let ty = TensorType::new(DType::I64, vec![self.n.clone(), size.clone()]);
        let start = self.emit(Op::Broadcast { shape: ty.shape.clone(), axes: vec![0] }, &[start]);
        let offset = self.emit(Op::Iota { ty, axis: 1 }, &[]);
        self.emit(Op::Binary(BinaryOp::Add), &[start, offset])
    }

    /// A start of its own for each example makes a gather.
    fn dynamic_slice(&mut self, axis: usize, size: &Dim, operands: &[Lane]) -> ValueId {
        let [x, start] = [operands[0], operands[1]];
        if !start.batched {
            return self.emit(Op::DynamicSlice { axis: axis + 1, size: size.clone() }, &[x.value, start.value]);
        }
        let indices = batched(self.run_of_indices(start.value, size));
        self.gather(axis, 0, x, indices)
    }

    /// A start of its own for each example: each place of the axis takes its element of `value` or keeps its own.
    /// The count of writes to each place is made by a scatter, so that a start that does not fit is caught as ever.
    fn dynamic_update(&mut self, axes: &[usize], operands: &[Lane]) -> ValueId {
        let [x, value] = [self.lifted(operands[0]), self.lifted(operands[1])];
        if operands[2..].iter().all(|start| !start.batched) {
            let starts = operands[2..].iter().map(|start| start.value);
            let operands: Vec<ValueId> = [x, value].into_iter().chain(starts).collect();
            return self.emit(Op::DynamicUpdate { axes: axes.iter().map(|axis| axis + 1).collect() }, &operands);
        }
        let (axis, start) = (axes[0], operands[2]);
        if axes.len() > 1 {
            // A part along the first axis, updated along the others, is put back.
            let size = self.shape(value)[axis + 1].clone();
            let part = batched(self.dynamic_slice(axis, &size, &[batched(x), start]));
            let inner = [&[part, batched(value)], &operands[3..]].concat();
            let part = batched(self.dynamic_update(&axes[1..], &inner));
            return self.dynamic_update(&axes[..1], &[batched(x), part, start]);
        }
        let shape = self.shape(x);
        let (extent, size) = (shape[axis + 1].clone(), self.shape(value)[axis + 1].clone());
        let places = TensorType::new(DType::I64, vec![self.n.clone(), extent]);
        let indices = self.run_of_indices(start.value, &size);
        let written = self.written(&places, indices);
        let broadcast = Op::Broadcast { shape: Shape(shape), axes: vec![0, axis + 1] };
        let written = self.emit(broadcast, &[written]);
        let source = self.source_places(&places, start.value, &size);
        let taken = self.emit(Op::Gather { axis: axis + 1, batch: 1 }, &[value, source]);
        self.emit(Op::Select, &[written, taken, x])
    }

    /// `bool[N, D]`: the places that the indices name.
    fn written(&mut self, places: &TensorType, indices: ValueId) -> ValueId {
        let counts = TensorType::new(DType::I32, places.shape.clone());
        let ones = TensorType::new(DType::I32, self.ty(indices).shape);
        let (zeros, ones) = (self.target.splat(&counts, 0.0), self.target.splat(&ones, 1.0));
        let counts = self.emit(Op::ScatterAdd { axis: 1, batch: 1 }, &[zeros, indices, ones]);
        self.emit(Op::Compare(CompareOp::Gt), &[counts, zeros])
    }

    /// `i64[N, D]`: for each place the element of a run from `start` that lies there, clamped to the run.
    fn source_places(&mut self, places: &TensorType, start: ValueId, size: &Dim) -> ValueId {
        let place = self.emit(Op::Iota { ty: places.clone(), axis: 1 }, &[]);
        let start = self.emit(Op::Broadcast { shape: places.shape.clone(), axes: vec![0] }, &[start]);
        let offset = self.emit(Op::Binary(BinaryOp::Sub), &[place, start]);
        let last = Op::Extent { dim: size.clone() - Dim::from(1i64), dtype: DType::I64 };
        let last = self.emit(last, &[]);
        let last = self.target.broadcast_scalar(last, &places.shape);
        let first = self.target.splat(places, 0.0);
        let offset = self.emit(Op::Binary(BinaryOp::Min), &[offset, last]);
        self.emit(Op::Binary(BinaryOp::Max), &[offset, first])
    }

    fn gather(&mut self, axis: usize, batch: usize, x: Lane, indices: Lane) -> ValueId {
        if batch == 0 && !x.batched {
            let y = self.emit(Op::Gather { axis, batch }, &[x.value, indices.value]);
            return self.move_to_front(y, axis);
        }
        if batch == 0 && !indices.batched {
            return self.emit(Op::Gather { axis: axis + 1, batch }, &[x.value, indices.value]);
        }
        let [x, indices] = [self.lifted(x), self.lifted(indices)];
        self.emit(Op::Gather { axis: axis + 1, batch: batch + 1 }, &[x, indices])
    }

    fn move_to_front(&mut self, x: ValueId, axis: usize) -> ValueId {
        if axis == 0 {
            return x;
        }
        let permutation = to_front(axis, self.ty(x).shape.rank());
        self.emit(Op::Transpose(permutation), &[x])
    }

    /// An operand that all examples share is multiplied by the whole batch at once.
    fn dot(&mut self, batch: usize, a_axes: &[usize], b_axes: &[usize], operands: &[Lane]) -> ValueId {
        let [a, b] = [operands[0], operands[1]];
        if batch == 0 && !b.batched {
            let op = Op::Dot { batch, a_axes: behind(a_axes), b_axes: b_axes.to_vec() };
            return self.emit(op, &[a.value, b.value]);
        }
        if batch == 0 && !a.batched {
            let op = Op::Dot { batch, a_axes: a_axes.to_vec(), b_axes: behind(b_axes) };
            let free = self.ty(a.value).shape.rank() - a_axes.len();
            let y = self.emit(op, &[a.value, b.value]);
            return self.move_to_front(y, free);
        }
        let lifted = self.all_lifted(operands);
        self.emit(Op::Dot { batch: batch + 1, a_axes: behind(a_axes), b_axes: behind(b_axes) }, &lifted)
    }

    /// Matrices that differ from example to example lie below one another, which is a stored matrix again; of its
    /// numbers there is a product for each group, whose sums are multiplied by the scales and added.
    fn dot_stored(&mut self, stored: Stored, operands: &[Lane]) -> ValueId {
        if operands[1..].iter().all(|operand| !operand.batched) {
            let values: Vec<ValueId> = operands.iter().map(|operand| operand.value).collect();
            return self.emit(Op::DotStored(stored), &values);
        }
        let lifted = self.all_lifted(operands);
        let (mut shape, n) = (self.shape(lifted[0]), self.n.clone());
        let terms = shape.pop().expect("rows have terms");
        let rows = shape[1..].iter().fold(Dim::from(1i64), |rows, dim| rows * dim.clone());
        let group = stored.group().map_or(terms.clone(), Dim::from);
        let groups = terms.floor_div(&group).expect("groups divide the terms");
        let x = self.emit(Op::Reshape(Shape(vec![n.clone(), rows, groups.clone(), group.clone()])), &[lifted[0]]);
        let x = self.emit(Op::Transpose(vec![0, 2, 1, 3]), &[x]);
        let below = self.merge(lifted[1], 0);
        let numbers = stored.without_scales(self.target, below);
        let numbers = self.split(numbers, 0, &[n, groups, group]);
        let mut sums = self.emit(Op::Dot { batch: 2, a_axes: vec![3], b_axes: vec![2] }, &[x, numbers]);
        if let Some(&scales) = lifted.get(2) {
            let wide = self.ty(sums).shape;
            let scales = self.emit(Op::Broadcast { shape: wide, axes: vec![0, 1, 3] }, &[scales]);
            sums = self.emit(Op::Binary(BinaryOp::Mul), &[sums, scales]);
        }
        let columns = self.shape(sums)[3].clone();
        let y = self.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1] }, &[sums]);
        self.emit(Op::Reshape(Shape([shape, vec![columns]].concat())), &[y])
    }

    /// An op that works on each entry of its first axis alone: the batch is merged into that axis. `shared` is a
    /// further operand that stays as it is.
    fn over_merged_batch(&mut self, op: &Op, operands: &[Lane], shared: Option<ValueId>) -> ValueId {
        let lifted = self.all_lifted(operands);
        let own = self.shape(lifted[0])[1].clone();
        let mut merged: Vec<ValueId> = lifted.iter().map(|&x| self.merge(x, 0)).collect();
        merged.extend(shared);
        let y = self.emit(op.clone(), &merged);
        self.split(y, 0, &[self.n.clone(), own])
    }

    /// Axes `axis` and `axis + 1` become one.
    fn merge(&mut self, x: ValueId, axis: usize) -> ValueId {
        let shape = self.shape(x);
        let merged = shape[axis].clone() * shape[axis + 1].clone();
        let shape = [&shape[..axis], &[merged], &shape[axis + 2..]].concat();
        self.emit(Op::Reshape(Shape(shape)), &[x])
    }

    /// Axis `axis` becomes several.
    fn split(&mut self, x: ValueId, axis: usize, into: &[Dim]) -> ValueId {
        let shape = self.shape(x);
        let shape = [&shape[..axis], into, &shape[axis + 1..]].concat();
        self.emit(Op::Reshape(Shape(shape)), &[x])
    }

    /// `[N, B, C, ...] -> [B, N * C, ...]`: the examples side by side as channel groups.
    fn side_by_side(&mut self, x: ValueId) -> ValueId {
        let rank = self.ty(x).shape.rank();
        let swapped = self.emit(Op::Transpose(to_front(1, rank)), &[x]);
        self.merge(swapped, 1)
    }

    /// `[B, N * C, ...] -> [N, B, C, ...]`.
    fn apart_again(&mut self, x: ValueId, channels: &Dim) -> ValueId {
        let split = self.split(x, 1, &[self.n.clone(), channels.clone()]);
        self.move_to_front(split, 1)
    }

    fn per_example(&self, attributes: &ConvAttributes) -> ConvAttributes {
        ConvAttributes { groups: self.n.clone() * attributes.groups.clone(), ..attributes.clone() }
    }

    /// Weights of its own for each example: one convolution with a group for each example's groups.
    fn conv(&mut self, attributes: &ConvAttributes, operands: &[Lane]) -> ValueId {
        let [x, w] = [self.lifted(operands[0]), self.lifted(operands[1])];
        let channels = self.shape(w)[1].clone();
        let (x, w) = (self.side_by_side(x), self.merge(w, 0));
        let y = self.emit(Op::Conv(self.per_example(attributes)), &[x, w]);
        self.apart_again(y, &channels)
    }

    /// A rule for an image with channels first, of one with channels last on both sides.
    fn with_channels_first(&mut self, operands: &[Lane], rule: impl FnOnce(&mut Self, &[Lane]) -> ValueId) -> ValueId {
        let x = self.lifted(operands[0]);
        let rank = self.ty(x).shape.rank();
        let first = self.emit(Op::Transpose([0, 1, rank - 1].into_iter().chain(2..rank - 1).collect()), &[x]);
        let y = rule(self, &[Lane { value: first, batched: true }, operands[1]]);
        self.emit(Op::Transpose([0, 1].into_iter().chain(3..rank).chain([2]).collect()), &[y])
    }

    fn conv_input_grad(&mut self, attributes: &ConvAttributes, input: &[Dim], operands: &[Lane]) -> ValueId {
        let [dy, w] = [self.lifted(operands[0]), self.lifted(operands[1])];
        let channels = self.shape(w)[2].clone() * attributes.groups.clone();
        let (dy, w) = (self.side_by_side(dy), self.merge(w, 0));
        let op = Op::ConvInputGrad { attributes: self.per_example(attributes), input: input.to_vec() };
        let dx = self.emit(op, &[dy, w]);
        self.apart_again(dx, &channels)
    }

    fn conv_weight_grad(&mut self, attributes: &ConvAttributes, kernel: &[Dim], operands: &[Lane]) -> ValueId {
        let [x, dy] = [self.lifted(operands[0]), self.lifted(operands[1])];
        let channels = self.shape(dy)[2].clone();
        let (x, dy) = (self.side_by_side(x), self.side_by_side(dy));
        let op = Op::ConvWeightGrad { attributes: self.per_example(attributes), kernel: kernel.to_vec() };
        let dw = self.emit(op, &[x, dy]);
        self.split(dw, 0, &[self.n.clone(), channels])
    }

    /// Examples do not touch each other, so the derivative of the sum of their losses is the derivative of each.
    fn grad(&mut self, operands: &[Lane]) -> Result<Vec<Lane>, String> {
        let (loss, wrt) = operands.split_first().ok_or("a derivative of nothing")?;
        if !loss.batched || wrt.iter().any(|lane| !lane.batched) {
            return Err("the derivative of an example by a value that all examples share".to_owned());
        }
        let sum = Op::Reduce { op: nnc_graph::ReduceOp::Sum, axes: vec![0] };
        let loss = self.emit(sum, &[loss.value]);
        let values: Vec<ValueId> = std::iter::once(loss).chain(wrt.iter().map(|lane| lane.value)).collect();
        let results = self.target.add(Op::Grad, &values).map_err(|error| error.to_string())?;
        Ok(results.into_iter().map(batched).collect())
    }
}

fn no_operands(op: &Op) -> Result<Vec<Lane>, String> {
    Err(format!("`{}` has no operands", op.name()))
}
