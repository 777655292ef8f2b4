//! What a group reads and writes, along its domain.
//!
//! The domain is a list of axes; every member of the group is computed at its points. Each operand and output gets one
//! stride for each axis of the domain. Neighbouring axes along which everything walks as one are joined, so that an
//! elementwise kernel on contiguous operands is a single loop whatever the rank.

use super::indexed;
use super::memory::{KernelDraft, Place, Source};
use super::{LowerError, Lowering};
use crate::ir::{Direction, Elem, Memory, Target};
use nnc_graph::{Graph, NodeId, ValueId};
use nnc_opt::fuse::{Class, Layout, base, class};
use std::collections::{BTreeMap, BTreeSet};

/// An operand along the domain.
#[derive(Clone, Debug)]
pub enum Read {
    /// The same bits everywhere.
    Uniform(Elem, u64),
    /// Memory walked with one stride for each axis.
    Memory(Walk),
}

/// Memory walked along the domain.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The parameter.
    pub memory: Memory,
    /// Elements for each step along each axis of the domain.
    pub strides: Vec<i64>,
    /// Of the domain's first point.
    pub offset: i64,
}

impl Walk {
    /// What lies at `place`, read along its own axes.
    pub fn read(draft: &mut KernelDraft, place: &Place) -> Self {
        let memory = draft.param(place.buffer, place.elem, Direction::In);
        Self { memory, strides: place.layout.strides.clone(), offset: place.layout.offset }
    }
}

impl Read {
    /// What comes from `source`, along its own axes.
    pub fn of(draft: &mut KernelDraft, source: &Source) -> Self {
        match source {
            Source::Uniform(elem, bits) => Self::Uniform(*elem, *bits),
            Source::Stored(place) => Self::Memory(Walk::read(draft, place)),
        }
    }
}

/// The axes of a domain, with the class of each: axes of different classes are never joined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Axes {
    /// Sizes, outermost first.
    pub dims: Vec<usize>,
    /// A number for each axis; what it means is up to the kernel.
    pub classes: Vec<u8>,
}

impl Axes {
    /// Axes that a kernel walks one by one: none is dropped or joined.
    pub fn apart(dims: &[usize]) -> Self {
        Self { dims: dims.to_vec(), classes: (0..dims.len()).map(|axis| APART + axis as u8).collect() }
    }
}

/// From this class on an axis stays as it is.
const APART: u8 = 128;

/// A group laid out along its domain.
#[derive(Debug)]
pub struct Frame<'g> {
    /// The graph the group is of.
    pub graph: &'g Graph,
    /// The machine.
    pub target: Target,
    /// Nodes computed point by point.
    pub members: BTreeSet<NodeId>,
    /// The axes.
    pub axes: Axes,
    /// Operands read at the point itself.
    pub reads: BTreeMap<ValueId, Read>,
    /// Operands read at other points, by node and operand: the walk along the node's result.
    pub indexed: BTreeMap<(NodeId, usize), Read>,
    /// For each node and axis of its result the coordinate along that axis, as factors for the domain's axes.
    pub coordinates: BTreeMap<(NodeId, usize), Vec<i64>>,
    /// Outputs.
    pub writes: BTreeMap<ValueId, Walk>,
    /// For each node with a run-time index the elements that one step of it moves its operand.
    pub steps: BTreeMap<NodeId, Vec<i64>>,
    /// Where a kernel tells of an index out of range.
    pub status: Option<Memory>,
}

/// What a layout in the making is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Read(ValueId),
    Indexed(NodeId, usize),
    Coordinate(NodeId, usize),
    Write(ValueId),
}

/// Axes, and the layouts along them.
struct Plan {
    axes: Axes,
    layouts: BTreeMap<Key, (Option<Source>, Layout)>,
    steps: BTreeMap<NodeId, Vec<i64>>,
}

impl<'g> Frame<'g> {
    /// Lays out `members` along `axes`; `outputs` are stored at their places. `lift` brings a layout of a member's
    /// shape onto the axes.
    pub fn new(
        lowering: &mut Lowering<'g>,
        draft: &mut KernelDraft,
        members: BTreeSet<NodeId>,
        outputs: &[ValueId],
        axes: Axes,
    ) -> Result<Self, LowerError> {
        let graph = lowering.graph;
        let mut plan = Plan { axes, layouts: BTreeMap::new(), steps: BTreeMap::new() };
        for &id in &members {
            plan.operands(lowering, &members, id)?;
        }
        for &output in outputs {
            let place = lowering.store(output)?;
            plan.layouts.insert(Key::Write(output), (Some(Source::Stored(place.clone())), place.layout));
        }
        plan.lift()?;
        plan.join_axes();
        let mut frame = Self {
            graph,
            target: lowering.target,
            members,
            axes: plan.axes,
            reads: BTreeMap::new(),
            indexed: BTreeMap::new(),
            coordinates: BTreeMap::new(),
            writes: BTreeMap::new(),
            steps: plan.steps,
            status: None,
        };
        let may_fail = |id: &NodeId| indexed::may_fail(&graph.node(*id).op);
        if frame.members.iter().any(may_fail) {
            let status = lowering.status();
            frame.status = Some(draft.param(status, Elem::I32, Direction::Out));
        }
        for (key, (source, layout)) in plan.layouts {
            frame.enter(draft, key, source, layout);
        }
        Ok(frame)
    }

    fn enter(&mut self, draft: &mut KernelDraft, key: Key, source: Option<Source>, layout: Layout) {
        let walk = |memory| Walk { memory, strides: layout.strides.clone(), offset: layout.offset };
        let read = |draft: &mut KernelDraft, source: Option<Source>| match source {
            Some(Source::Uniform(elem, bits)) => Some(Read::Uniform(elem, bits)),
            Some(Source::Stored(place)) => {
                Some(Read::Memory(walk(draft.param(place.buffer, place.elem, Direction::In))))
            }
            None => None,
        };
        match (key, source) {
            (Key::Coordinate(node, axis), _) => {
                self.coordinates.insert((node, axis), layout.strides.clone());
            }
            (Key::Write(value), Some(Source::Stored(place))) => {
                let memory = draft.param(place.buffer, place.elem, Direction::Out);
                self.writes.insert(value, walk(memory));
            }
            (Key::Read(value), source) => self.reads.extend(read(draft, source).map(|read| (value, read))),
            (Key::Indexed(node, at), source) => {
                self.indexed.extend(read(draft, source).map(|read| ((node, at), read)));
            }
            (Key::Write(_), _) => {}
        }
    }

    /// The member value that `value` is, or is a view of; `None` when it is read from memory.
    pub fn member_of(&self, value: ValueId) -> Option<ValueId> {
        let base = base(self.graph, value);
        self.members.contains(&self.graph.value(base).node).then_some(base)
    }

    /// Whether every member can be computed for several neighbours along `axis` at once, wherever they begin.
    pub fn vectorises(&self, axis: usize) -> bool {
        self.members.iter().all(|&id| indexed::neighbours(self, id, axis, false).is_none())
    }

    /// At most so many `lanes` along `axis` as every member can be computed in at once, if the first lane's coordinate
    /// is a multiple of their number; or, if the kernel stops at the places of [`Self::seams_along`], whatever it is.
    pub fn lanes_along(&self, axis: usize, lanes: u8, stops: bool) -> u8 {
        let most = self.members.iter().filter_map(|&id| indexed::neighbours(self, id, axis, stops)).min();
        most.map_or(lanes, |most| lanes.min(most as u8))
    }

    /// Where along `axis` some member begins to read elsewhere, in order, and where the axis ends.
    pub fn seams_along(&self, axis: usize) -> Vec<usize> {
        let size = self.axes.dims[axis];
        let all = self.members.iter().flat_map(|&id| indexed::seams_along(self, id, axis)).chain([size]);
        let inside: BTreeSet<usize> = all.filter(|&seam| seam > 0 && seam <= size).collect();
        inside.into_iter().collect()
    }

    /// The buffers that output `value` may be written over: each element is read only where it is written.
    pub fn replaceable(&self, value: ValueId) -> Vec<Memory> {
        let Some(write) = self.writes.get(&value) else { return Vec::new() };
        let mut found: Vec<Memory> = Vec::new();
        for read in self.reads.values() {
            match read {
                Read::Memory(walk) if walk.strides == write.strides && walk.offset == 0 && write.offset == 0 => {
                    found.push(walk.memory);
                }
                Read::Memory(_) | Read::Uniform(..) => {}
            }
        }
        found.retain(|memory| {
            let elsewhere = |read: &Read| match read {
                Read::Memory(walk) => walk.memory == *memory && (walk.strides != write.strides || walk.offset != 0),
                Read::Uniform(..) => false,
            };
            let indexed = |read: &Read| matches!(read, Read::Memory(walk) if walk.memory == *memory);
            memory.elem.size() == write.memory.elem.size()
                && !self.reads.values().any(elsewhere)
                && !self.indexed.values().any(indexed)
        });
        found.dedup();
        found
    }
}

impl Plan {
    /// Notes the layouts of everything that a node reads from memory.
    fn operands(
        &mut self,
        lowering: &mut Lowering<'_>,
        members: &BTreeSet<NodeId>,
        id: NodeId,
    ) -> Result<(), LowerError> {
        let graph = lowering.graph;
        let node = graph.node(id);
        if class(&node.op) == Class::Indexed {
            self.steps.insert(id, indexed::steps(lowering, id)?);
            for (axis, layout) in indexed::coordinates(graph, id) {
                self.layouts.insert(Key::Coordinate(id, axis), (None, layout));
            }
            for (at, source) in indexed::operands(lowering, id)? {
                let layout = layout_of_source(&source, graph, node.results[0]);
                self.layouts.insert(Key::Indexed(id, at), (Some(source), layout));
            }
            return Ok(());
        }
        for &operand in &node.operands {
            let inside = members.contains(&graph.value(base(graph, operand)).node);
            if !inside && lowering.is_readable(operand) {
                let (source, layout) = self.read(lowering, operand)?;
                self.layouts.insert(Key::Read(operand), (Some(source), layout));
            }
        }
        Ok(())
    }

    /// An operand that is read at the point itself: copied where its strides, as those of a slice that a loop takes of
    /// an inner axis, do not walk along the axes.
    fn read(&self, lowering: &mut Lowering<'_>, operand: ValueId) -> Result<(Source, Layout), LowerError> {
        let source = lowering.source(operand)?;
        let layout = layout_of_source(&source, lowering.graph, operand);
        if self.lifted(&layout).is_some() {
            return Ok((source, layout));
        }
        let place = lowering.in_order(operand)?;
        let layout = place.layout.clone();
        Ok((Source::Stored(place), layout))
    }

    /// Brings every layout onto the axes.
    fn lift(&mut self) -> Result<(), LowerError> {
        let lifted = |layout: &Layout| {
            self.lifted(layout).ok_or_else(|| LowerError::bug("an operand does not lie along its group's domain"))
        };
        let all: Result<Vec<Layout>, LowerError> = self.layouts.values().map(|(_, layout)| lifted(layout)).collect();
        self.layouts.values_mut().zip(all?).for_each(|((_, layout), lifted)| *layout = lifted);
        Ok(())
    }

    /// A layout along the axes, if strides can say it: that of fewer elements lies along those of class 0 only.
    fn lifted(&self, layout: &Layout) -> Option<Layout> {
        let dims = &self.axes.dims;
        if layout.elements() == dims.iter().product::<usize>() {
            return layout.reshape(dims);
        }
        let kept: Vec<usize> = (0..dims.len()).filter(|&axis| self.axes.classes[axis] == 0).collect();
        let kept_dims: Vec<usize> = kept.iter().map(|&axis| dims[axis]).collect();
        layout.reshape(&kept_dims).map(|outer| outer.broadcast(dims, &kept))
    }

    fn join_axes(&mut self) {
        let strides: Vec<&mut Vec<i64>> = self.layouts.values_mut().map(|(_, layout)| &mut layout.strides).collect();
        join_axes(&mut self.axes, strides);
    }
}

/// Drops axes of size 1 and joins neighbours of one class along which all strides walk as one.
pub fn join_axes(axes: &mut Axes, mut strides: Vec<&mut Vec<i64>>) {
    let mut axis = axes.dims.len();
    while axis > 0 {
        axis -= 1;
        let size = axes.dims[axis];
        let joined = axis + 1 < axes.dims.len()
            && axes.classes[axis] == axes.classes[axis + 1]
            && strides.iter().all(|s| s[axis] == s[axis + 1] * axes.dims[axis + 1] as i64);
        let stays = axes.classes[axis] >= APART || (size != 1 && !joined);
        if stays {
            continue;
        }
        if size != 1 {
            axes.dims[axis + 1] *= size;
        }
        axes.dims.remove(axis);
        axes.classes.remove(axis);
        for walk in &mut strides {
            walk.remove(axis);
        }
    }
}

fn layout_of_source(source: &Source, graph: &Graph, value: ValueId) -> Layout {
    match source {
        Source::Stored(Place { layout, .. }) => layout.clone(),
        Source::Uniform(..) => {
            let dims = graph.ty(value).shape.sizes();
            Layout { strides: vec![0; dims.len()], dims, offset: 0 }
        }
    }
}
