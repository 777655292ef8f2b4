//! Windows over what a convolution with channels last makes, while that is at hand.
//!
//! The direct product keeps the lines that a task's windows need in scratch memory of the task, a block of channels
//! wide, and goes over them at its end. Winograd's form has its results in registers, a tile at a time, and whole
//! windows in each. Which is which, and where neither is worth it so that windows get a kernel of their own, is for the
//! lowerings of these to say. The taps of a window are taken in row-major order in either case, as by
//! [`crate::lower::window`].

use super::last;
use crate::ir::{Builder, Value};
use crate::lower::evaluate::{Known, Point};
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{span, widths_of, within};
use crate::lower::matmul::product::Kept;
use crate::lower::memory::KernelDraft;
use crate::lower::window::{Geometry, Tap, fold};
use crate::lower::{LowerError, Lowering, anchor};
use nnc_graph::{Graph, NodeId, Op, ValueId, WindowOp};
use nnc_opt::fuse::pooling::Parts;
use nnc_opt::fuse::{Group, GroupKind, anchor_domain, base};
use std::collections::BTreeSet;

/// What became of windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// They are taken where the convolution is made.
    Done,
    /// They are to be taken of its result in memory; why.
    Apart(&'static str),
}

/// Windows over the result of a convolution.
pub struct Pooling {
    /// What is computed of each.
    op: WindowOp,
    /// Along lines, places of a line, and channels.
    pub geometry: Geometry,
    /// What they are over.
    pub value: ValueId,
    /// What else of the convolution is stored.
    pub stored: Vec<ValueId>,
    /// The windows and their epilogue.
    group: Group,
    window: NodeId,
}

/// Lowers a pooled group.
///
/// # Errors
/// A bug in the compiler.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let parts = Parts::of(graph, group).ok_or_else(|| LowerError::bug("a pooled group without windows"))?;
    let conv = group.anchor.ok_or_else(|| LowerError::bug("a pooled group without a convolution"))?;
    let Op::ConvLast(attributes) = &graph.node(conv).op else {
        return Err(LowerError::bug("windows over what is no convolution"));
    };
    let pooling = Pooling::new(graph, group, &parts)?;
    let mut outputs = pooling.stored.clone();
    if !outputs.contains(&pooling.value) {
        outputs.push(pooling.value);
    }
    let whole = Group { kind: GroupKind::Anchor, nodes: parts.before, outputs, ..group.clone() };
    match last::lower_with_windows(lowering, (&whole, conv), attributes, &pooling)? {
        Outcome::Done => Ok(()),
        Outcome::Apart(why) => {
            anchor::lower(lowering, &pooling.group)?;
            lowering.remark(why);
            Ok(())
        }
    }
}

impl Pooling {
    fn new(graph: &Graph, group: &Group, parts: &Parts) -> Result<Self, LowerError> {
        let node = graph.node(parts.window);
        let Op::Window { op, attributes } = &node.op else { return Err(LowerError::bug("windows that are none")) };
        let (input, domain) = (graph.ty(node.operands[0]).shape.sizes(), anchor_domain(graph, parts.window));
        let is_before = |value: &ValueId| parts.before.contains(&graph.value(*value).node);
        let (stored, outputs) = group.outputs.iter().partition(|value| is_before(value));
        Ok(Self {
            op: *op,
            geometry: Geometry::new(attributes, &input[2..], &domain[2..]),
            value: base(graph, node.operands[0]),
            stored,
            group: Group {
                kind: GroupKind::Anchor,
                nodes: parts.after.clone(),
                anchor: Some(parts.window),
                domain,
                outputs,
                body: None,
            },
            window: parts.window,
        })
    }

    /// Lines from window to window, and how many there are of which windows are.
    pub fn lines(&self) -> (usize, usize) {
        let Geometry { stride, input, output, .. } = &self.geometry;
        (stride[0], (output[0] * stride[0]).min(input[0]))
    }

    /// Windows in a tile of so many places an edge, down and across, if no tile of the image cuts through one.
    pub fn windows_in(&self, edge: usize) -> Option<[usize; 2]> {
        let stride = &self.geometry.stride;
        let is_whole = [0, 1].iter().all(|&axis| edge.is_multiple_of(stride[axis]));
        is_whole.then(|| [edge / stride[0], edge / stride[1]])
    }
}

/// Windows in a kernel that makes what they are over.
pub struct Pool<'a, 'g> {
    /// The windows.
    pub pooling: &'a Pooling,
    frame: Frame<'g>,
}

impl<'a, 'g> Pool<'a, 'g> {
    /// Makes room for what comes of the windows.
    ///
    /// # Errors
    /// A bug in the compiler.
    pub fn new(lowering: &mut Lowering<'g>, draft: &mut KernelDraft, pooling: &'a Pooling) -> Result<Self, LowerError> {
        let Pooling { group, window, .. } = pooling;
        let members: BTreeSet<NodeId> = group.nodes.iter().copied().filter(|id| id != window).collect();
        let frame = Frame::new(lowering, draft, members, &group.outputs, Axes::apart(&group.domain))?;
        Ok(Self { pooling, frame })
    }

    /// What is computed of a window, and of that; the point is one of the windows.
    pub fn finish(&self, b: &mut Builder, point: &Point, taps: &[Tap]) {
        let pooled = fold(b, self.pooling.op, taps);
        let mut known = Known::default();
        known.bind(self.frame.graph.node(self.pooling.window).results[0], pooled, point.lanes);
        self.frame.evaluate_and_write(b, point, &mut known, &self.pooling.group.outputs);
    }

    /// The windows of an image from one line of them to another, of some channels, over lines that are kept.
    pub fn lines(
        &self,
        b: &mut Builder,
        (image, windows): (Value, (Value, Value)),
        channels: (Value, Value),
        kept: &Kept,
        lanes: u8,
    ) {
        let geometry = &self.pooling.geometry;
        let line = geometry.input[1] as i64 * kept.row;
        let [down_step, across_step] = [geometry.stride[0] as i64 * line, geometry.stride[1] as i64 * kept.row];
        let taps = geometry.taps();
        let (zero, one) = (b.index(0), b.index(1));
        let count = b.sub(channels.1, channels.0);
        let widths = widths_of(b, count, lanes);
        b.for_loop(windows.0, windows.1, one, &[], |b, down, _| {
            b.for_each(geometry.output[1] as i64, |b, across| {
                let first = b.affine(&[(kept.first, 1), (down, down_step), (across, across_step)], 0);
                span(b, channels, &widths, |b, channel, lanes| {
                    let place = b.add(first, channel);
                    let tap = |tap: &Vec<usize>| {
                        let place = b.add_index(place, tap[0] as i64 * line + tap[1] as i64 * kept.row);
                        Tap { value: b.load(kept.memory, place, lanes), inside: None, at: vec![] }
                    };
                    let taps: Vec<Tap> = taps.iter().map(tap).collect();
                    let point = Point { coordinates: vec![image, zero, down, across, channel], vector: 4, lanes };
                    self.finish(b, &point, &taps);
                });
            });
            vec![]
        });
    }

    /// The windows of a tile of a convolution whose results are known: `(line, column)` is the tile's place in the grid
    /// of tiles, `value` gives a result at a place of the image and of the tile.
    pub fn tile(
        &self,
        b: &mut Builder,
        point: &Point,
        ((line, column), edge): ((Value, Value), usize),
        mut value: impl FnMut(&mut Builder, [Value; 2], [usize; 2]) -> Value,
    ) {
        let Some(windows) = self.pooling.windows_in(edge) else { unreachable!("tiles that cut windows are refused") };
        let Geometry { stride, input, output, .. } = &self.pooling.geometry;
        let reach = [0, 1].map(|axis| input[axis].div_ceil(edge) * windows[axis]);
        let zero = b.index(0);
        for i in 0..windows[0] {
            let down = b.affine(&[(line, windows[0] as i64)], i as i64);
            for j in 0..windows[1] {
                let across = b.affine(&[(column, windows[1] as i64)], j as i64);
                let body = |b: &mut Builder| {
                    let mut taps = Vec::new();
                    for tap in self.pooling.geometry.taps() {
                        let at = [i * stride[0] + tap[0], j * stride[1] + tap[1]];
                        let top = b.affine(&[(line, edge as i64)], at[0] as i64);
                        let left = b.affine(&[(column, edge as i64)], at[1] as i64);
                        taps.push(Tap { value: value(b, [top, left], at), inside: None, at: vec![] });
                    }
                    let coordinates = vec![point.coordinates[0], zero, down, across, point.coordinates[2]];
                    self.finish(b, &Point { coordinates, vector: 4, lanes: point.lanes }, &taps);
                };
                within(b, down, (output[0], reach[0]), |b| within(b, across, (output[1], reach[1]), body));
            }
        }
    }
}
