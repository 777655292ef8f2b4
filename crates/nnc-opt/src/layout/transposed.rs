//! The transpose of a convolution in its image, with channels last: of single channels as it is, else as convolutions.
//!
//! Result `stride * q + p` of an axis is a sum over the taps `t` with `p + low = t * dilation` modulo the stride, of
//! element `q + (p + low - t * dilation) / stride` of the cotangent. So the results of each phase `p` are a convolution
//! by every so-manieth tap in reverse, one step apart, and no zeros between the elements of the cotangent are
//! multiplied (Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016). The phases of an
//! axis are put side by side, those that have no tap as zeros. The transpose of a convolution of single channels is
//! left to its kernel, which goes by the same phases.

use super::{FEW_CHANNELS, Layout, all_are, is_filled, is_single, is_unpadded};
use nnc_graph::{ConvAttributes, DType, Dim, Graph, Node, Op, Shape, SliceRange, TensorType, ValueId};

/// One axis of a transpose in numbers.
#[derive(Clone, Copy)]
struct Axis {
    stride: i64,
    low: i64,
    dilation: i64,
    taps: i64,
    /// Elements of the cotangent.
    from: i64,
    /// Elements of the result.
    to: i64,
}

/// A transpose that goes by phases.
struct Transpose {
    /// The cotangent, channels last.
    dy: ValueId,
    /// The weights.
    w: ValueId,
    axes: Vec<Axis>,
    /// The dtype of the results.
    sums: DType,
}

/// The convolution of an axis that makes the results of a phase.
struct Phase {
    /// Taps of the whole kernel, in reverse; `None` where it has none.
    taps: Option<SliceRange>,
    /// The part of the cotangent that it reads.
    read: SliceRange,
    low: i64,
    high: i64,
    dilation: i64,
}

impl Axis {
    /// Results of each phase, some perhaps beyond the last that is wanted.
    fn results(&self) -> i64 {
        (self.to + self.stride - 1) / self.stride
    }

    fn phase(&self, phase: i64) -> Phase {
        let at = phase + self.low;
        let meets = |tap: &i64| (at - tap * self.dilation).rem_euclid(self.stride) == 0;
        let taps: Vec<i64> = (0..self.taps).filter(meets).collect();
        let (Some(&first), Some(&last)) = (taps.first(), taps.last()) else {
            return Phase { taps: None, read: range(0, self.from), low: 0, high: 0, dilation: 1 };
        };
        let count = taps.len() as i64;
        let apart = if count > 1 { taps[1] - taps[0] } else { 1 };
        let dilation = if count > 1 { apart * self.dilation / self.stride } else { 1 };
        // The last tap reads the first element of a window, and comes first in the reversed kernel.
        let low = -((at - last * self.dilation) / self.stride);
        let high = self.results() - low + (count - 1) * dilation - self.from;
        let (before, behind) = ((-low).clamp(0, self.from - 1), (-high).clamp(0, self.from - 1));
        let read = range(before, (self.from - before - behind).max(1));
        let taps = SliceRange { start: Dim::from(last), size: Dim::from(count), step: -apart };
        debug_assert_eq!(first + apart * (count - 1), last, "taps of a phase are evenly apart");
        Phase { taps: Some(taps), read, low: low.max(0), high: high.max(0), dilation }
    }
}

/// All of an axis.
fn whole(dim: &Dim) -> SliceRange {
    SliceRange { start: Dim::from(0i64), size: dim.clone(), step: 1 }
}

fn range(start: i64, size: i64) -> SliceRange {
    SliceRange { start: Dim::from(start), size: Dim::from(size), step: 1 }
}

/// The axes of a transpose that goes by phases: of one group, with channels enough, in at most two axes of known sizes,
/// no phase of which reads beyond the padding that a convolution may have.
fn axes(graph: &Graph, node: &Node, at: &ConvAttributes) -> Option<Vec<Axis>> {
    let [dy, kernel, dx] = shapes(graph, node);
    if !at.groups.is(1) || !has_room(at, dx) {
        return None;
    }
    let axis = |i: usize| {
        Some(Axis {
            stride: at.stride[i].as_number()?,
            low: at.low[i].as_number()?,
            dilation: at.dilation[i].as_number()?,
            taps: kernel[i + 2].as_number()?,
            from: dy[i + 2].as_number()?,
            to: dx[i + 2].as_number()?,
        })
    };
    let axes: Option<Vec<Axis>> = (0..at.stride.len()).map(axis).collect();
    axes.filter(|axes| axes.iter().all(is_regular))
}

/// Whether an image has channels enough for vectors along them, and axes that kernels know.
fn has_room(at: &ConvAttributes, image: &Shape) -> bool {
    let channels = image[1].as_number();
    channels.is_some_and(|channels| channels >= FEW_CHANNELS as i64) && at.stride.len() <= 2
}

/// Whether a transpose is one of single channels that has a kernel.
fn is_of_single_channels(at: &ConvAttributes, [_, kernel, dx]: [&Shape; 3]) -> bool {
    is_single(at, kernel) && has_room(at, dx)
}

/// Whether the reach of every phase is what its padding and its part of the cotangent say.
fn is_regular(axis: &Axis) -> bool {
    (0..axis.stride).all(|phase| {
        let Phase { taps: Some(taps), read, low, high, dilation } = axis.phase(phase) else { return true };
        let (Some(count), Some(size)) = (taps.size.as_number(), read.size.as_number()) else { return false };
        low + size + high - dilation * (count - 1) == axis.results()
    })
}

/// Whether [`Layout::transposed`] serves a node.
pub(super) fn is_convertible(graph: &Graph, node: &Node) -> bool {
    let Op::ConvInputGrad { attributes, .. } = &node.op else { return false };
    is_of_single_channels(attributes, shapes(graph, node)) || axes(graph, node, attributes).is_some()
}

/// The shapes of the operands and of the result of a transpose.
fn shapes<'g>(graph: &'g Graph, node: &Node) -> [&'g Shape; 3] {
    [node.operands[0], node.operands[1], node.results[0]].map(|value| &graph.ty(value).shape)
}

impl Layout<'_> {
    /// A transpose with channels last.
    pub(super) fn transposed(&mut self, node: &Node, at: &ConvAttributes) -> Option<ValueId> {
        let old = self.rewriter.old();
        let shapes = shapes(old, node);
        if is_of_single_channels(at, shapes) {
            let op = Op::ConvInputGradLast { attributes: at.clone(), input: shapes[2][2..].to_vec() };
            let (dy, w) = (self.with_channels_last(node.operands[0]), self.plain(node.operands[1]));
            return Some(self.rewriter.emit(op, &[dy, w]));
        }
        if spreads_places(at, shapes) {
            return Some(self.spreading(node));
        }
        let axes = axes(old, node, at)?;
        let (dy, w) = (self.with_channels_last(node.operands[0]), self.plain(node.operands[1]));
        if is_filled(at, [shapes[2], shapes[1]]) {
            return Some(self.filling((dy, w), shapes));
        }
        let phases: Vec<Vec<Phase>> =
            axes.iter().map(|axis| (0..axis.stride).map(|phase| axis.phase(phase)).collect()).collect();
        let sums = old.ty(node.results[0]).dtype;
        let of = Transpose { dy, w, axes, sums };
        let made = self.phases(&of, &phases, &mut Vec::new());
        Some(self.cut(made, &of.axes))
    }

    /// The phases of the axes from that of `chosen` on, side by side: `[N, Q, stride, .., C]`, the axes before as they
    /// are.
    fn phases<'p>(&mut self, of: &Transpose, phases: &'p [Vec<Phase>], chosen: &mut Vec<&'p Phase>) -> ValueId {
        let depth = chosen.len();
        if depth == of.axes.len() {
            return self.phase(of, chosen);
        }
        let mut parts = Vec::new();
        for phase in &phases[depth] {
            chosen.push(phase);
            let part = self.phases(of, phases, chosen);
            chosen.pop();
            let mut dims = self.rewriter.ty(part).shape.0.clone();
            dims.insert(depth + 2, Dim::from(1i64));
            parts.push(self.rewriter.emit(Op::Reshape(dims.into()), &[part]));
        }
        let side_by_side = match parts[..] {
            [only] => only,
            _ => self.rewriter.emit(Op::Concat { axis: depth + 2 }, &parts),
        };
        let mut dims = self.rewriter.ty(side_by_side).shape.0.clone();
        let steps = dims.remove(depth + 2);
        dims[depth + 1] = dims[depth + 1].clone() * steps;
        self.rewriter.emit(Op::Reshape(dims.into()), &[side_by_side])
    }

    /// The results of one phase of every axis.
    fn phase(&mut self, of: &Transpose, phases: &[&Phase]) -> ValueId {
        let Transpose { dy, w, axes, sums } = of;
        let (dy, w) = (*dy, *w);
        let (from, kernel) = (self.rewriter.ty(dy).shape.0.clone(), self.rewriter.ty(w).clone());
        let taps: Option<Vec<SliceRange>> = phases.iter().map(|phase| phase.taps.clone()).collect();
        let Some(taps) = taps else {
            let places = axes.iter().map(|axis| Dim::from(axis.results()));
            let channels = kernel.shape[1].clone();
            let dims: Vec<Dim> = [from[0].clone()].into_iter().chain(places).chain([channels]).collect();
            let ty = TensorType::new(*sums, Shape(dims));
            return self.rewriter.graph_mut().splat(&ty, 0.0);
        };
        let ranges = [vec![whole(&kernel.shape[0]), whole(&kernel.shape[1])], taps].concat();
        let w = self.rewriter.emit(Op::Slice(ranges), &[w]);
        let w = self.rewriter.emit(Op::Transpose([1, 0].into_iter().chain(2..axes.len() + 2).collect()), &[w]);
        let reads = phases.iter().map(|phase| phase.read.clone());
        let ranges: Vec<SliceRange> =
            [whole(&from[0])].into_iter().chain(reads).chain([whole(&from[from.len() - 1])]).collect();
        let dy = self.rewriter.emit(Op::Slice(ranges), &[dy]);
        let each = |of: &dyn Fn(&Phase) -> i64| phases.iter().map(|phase| Dim::from(of(phase))).collect();
        let attributes = ConvAttributes {
            stride: each(&|_| 1),
            low: each(&|phase| phase.low),
            high: each(&|phase| phase.high),
            dilation: each(&|phase| phase.dilation),
            groups: Dim::from(1i64),
        };
        self.convolve(dy, w, &attributes)
    }

    /// What was made too much of is left out.
    fn cut(&mut self, made: ValueId, axes: &[Axis]) -> ValueId {
        let mut ranges: Vec<SliceRange> = self.rewriter.ty(made).shape.0.iter().map(whole).collect();
        for (range, axis) in ranges[1..].iter_mut().zip(axes) {
            range.size = Dim::from(axis.to);
        }
        self.rewriter.emit(Op::Slice(ranges), &[made])
    }

    /// The transpose of a convolution whose only window is the whole image: a product.
    fn filling(&mut self, (dy, w): (ValueId, ValueId), [dy_shape, kernel, dx]: [&Shape; 3]) -> ValueId {
        let rows = vec![dy_shape[0].clone(), dy_shape[1].clone()];
        let dy = self.rewriter.emit(Op::Reshape(rows.into()), &[dy]);
        let w = self.kernel_rows(w, kernel);
        let dx_rows = self.rewriter.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[dy, w]);
        let dims = super::permuted(&dx.0);
        self.rewriter.emit(Op::Reshape(dims.into()), &[dx_rows])
    }

    /// A transpose of a convolution as a product of places by (block, channel), and the blocks side by side.
    fn spreading(&mut self, node: &Node) -> ValueId {
        let (dy, w) = (self.with_channels_last(node.operands[0]), self.plain(node.operands[1]));
        let from = self.rewriter.ty(dy).shape.0.clone();
        let kernel = self.rewriter.ty(w).shape.clone();
        let reshape = |dims: Vec<Dim>| Op::Reshape(dims.into());
        let (rows, w) = (self.places(dy), self.kernel_rows(w, &kernel));
        let blocks = self.rewriter.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[rows, w]);
        let [channels, high, wide] = [1, 2, 3].map(|axis| kernel[axis].clone());
        let apart = [&from[..3], &[high.clone(), wide.clone(), channels.clone()]].concat();
        let blocks = self.rewriter.emit(reshape(apart), &[blocks]);
        let blocks = self.rewriter.emit(Op::Transpose(vec![0, 1, 3, 2, 4, 5]), &[blocks]);
        let together = vec![from[0].clone(), from[1].clone() * high, from[2].clone() * wide, channels];
        self.rewriter.emit(reshape(together), &[blocks])
    }
}

/// Whether the transpose of a convolution makes of each place a block of its own, and nothing but these blocks.
fn spreads_places(at: &ConvAttributes, [dy, kernel, dx]: [&Shape; 3]) -> bool {
    let is_flat = is_unpadded(at) && all_are(&at.dilation, 1) && at.groups.is(1);
    let is_whole = (2..dx.rank()).all(|axis| dx[axis] == dy[axis].clone() * kernel[axis].clone());
    is_flat && is_whole && at.stride.len() == 2 && at.stride[..] == kernel.0[2..]
}
