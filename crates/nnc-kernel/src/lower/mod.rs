//! From a grouped graph to kernels and launches.
//!
//! On entry the graph is verified and lowerable: no `grad`, every dim a number. Each group becomes at most one kernel;
//! values without a kernel of their own (views, uniform constants) become strides and immediates of their readers. On
//! exit every launch names buffers, and [`crate::plan`] gives them addresses.
//!
//! **Invariant**: what is computed, and in which order terms are added, is decided by shapes alone; the target decides
//! how many lanes do it at a time.
//!
//! | room | what it lowers |
//! | --- | --- |
//! | [`memory`], [`launches`], [`placed`] | places of values, launches, parts that are made in a whole |
//! | [`frame`], [`evaluate`], [`loops`] | a group along its domain, a member at a point |
//! | [`scalar`], [`indexed`] | elementwise ops; ops that read from other places |
//! | [`map`], [`rows`], [`reduce`], [`accumulate`], [`update`] | elementwise groups; reductions; updates in place |
//! | [`turn`] | copies that turn a matrix |
//! | [`matmul`] | matrix products: the microkernel, the loops around it, packing, how they are cut |
//! | [`conv`], [`winograd`], [`depthwise`] | convolutions, their transposes, and pooling that is taken in |
//! | [`sparse`] | products and convolutions by constant matrices with many zeros |
//! | [`stored`] | products by matrices of few bits |
//! | [`attention`] | products with reductions over rows between them |
//! | [`window`], [`argmax`], [`scatter`] | what has loops of its own |
//! | [`scan`], [`trail`], [`prepare`] | loops over time; what they carry and stack; what is made once |
//! | [`anchor`], [`tuning`], [`cost`] | which node is lowered where; other schedules; the work of an op |

mod accumulate;
mod anchor;
mod argmax;
mod attention;
mod conv;
pub(crate) mod cost;
mod depthwise;
mod evaluate;
mod frame;
mod indexed;
mod launches;
mod loops;
mod map;
mod matmul;
mod memory;
mod placed;
mod prepare;
mod reduce;
mod rows;
mod scalar;
mod scan;
mod scatter;
mod sparse;
mod stored;
mod trail;
mod tuning;
mod turn;
mod update;
mod window;
mod winograd;

pub use indexed::{STATUS_INDEX, STATUS_SLICE};
pub use memory::{Buffer, BufferId, Held, Home};
pub use tuning::{Alternatives, Choice, Tuning};

use crate::ir::{Direction, Elem, Kernel, Target};
use crate::plan::{self, Access, External, Line, Lowered, Role, Schedule};
use memory::{Place, Source, elem};
use nnc_graph::{DType, Graph, NodeId, Op, OutputKind, Shape, TensorType, ValueId};
use nnc_opt::fuse::{Class, Group, GroupKind, Layout, Partition, base, class};
use prepare::Stage;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why a graph cannot be lowered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LowerError {
    /// Something that kernels do not do yet.
    Unsupported(String),
    /// A bug in the compiler.
    Bug(String),
}

impl LowerError {
    /// A bug, described.
    pub fn bug(what: &str) -> Self {
        Self::Bug(what.to_owned())
    }
}

impl fmt::Display for LowerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(what) => write!(f, "not supported yet: {what}"),
            Self::Bug(what) => write!(f, "compiler bug while making kernels: {what}"),
        }
    }
}

impl std::error::Error for LowerError {}

/// A launch whose buffers have no addresses yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What runs.
    pub kernel: Kernel,
    /// The buffer of each parameter.
    pub args: Vec<(BufferId, Direction)>,
    /// `(output, operand)`: the output may take the operand's place if that is not needed any more.
    pub replaceable: Vec<(BufferId, BufferId)>,
    /// The group it runs, as a place in the partition of the graph or the body; `None` for copies at the ends.
    pub group: Option<usize>,
    /// The loops around it, from the outside in.
    pub scans: Vec<NodeId>,
    /// Operations, roughly, every member counted at every point: what decides whether threads are woken.
    pub work: usize,
    /// How the work is cut, in words.
    pub how: String,
    /// Other ways to cut it, if there are some and they are asked for.
    pub alternatives: Option<Alternatives>,
    /// Operations, roughly, each member counted where it is computed: what is reported.
    pub flops: usize,
}

/// A program in the making.
#[derive(Debug)]
pub struct Lowering<'g> {
    /// What is lowered.
    pub graph: &'g Graph,
    target: Target,
    tuning: Option<&'g Tuning>,
    sources: Vec<Option<Source>>,
    /// Buffers decided before their value is computed: outputs, and parameters updated in place.
    planned: BTreeMap<ValueId, BufferId>,
    /// Values that lie in a concatenation of them.
    parts: placed::Parts,
    /// Results of run-time updates that may lie where their first operand does.
    written_in_place: BTreeSet<ValueId>,
    buffers: Vec<Buffer>,
    externals: Vec<External>,
    line: Line,
    status: Option<BufferId>,
    group: Option<usize>,
    /// The loops whose body `graph` is, from the outside in.
    scans: Vec<NodeId>,
    /// For each value whether it is the same in every run.
    constants: Vec<bool>,
    /// For each value whether it is the same in every step of the innermost loop.
    fixed: Vec<bool>,
    /// When what is made now runs.
    stage: Stage,
    /// What runs before the first step of the innermost loop.
    ahead: Vec<Pending>,
    /// Digits of rows that a kernel of this graph has cut.
    digits: stored::digits::Kept,
}

/// Lowers a graph grouped by `partition` for `target`.
///
/// # Errors
/// A dtype or op that kernels do not do yet, or a bug in the compiler.
pub fn lower(graph: &Graph, partition: &Partition, target: &Target) -> Result<Lowered, LowerError> {
    lower_with(graph, partition, target, None)
}

/// As [`lower`], with the schedules that a tuning names; then each launch tells which others there are
/// ([`KernelReport::alternatives`](crate::KernelReport)).
///
/// # Errors
/// As [`lower`].
pub fn lower_with(
    graph: &Graph,
    partition: &Partition,
    target: &Target,
    tuning: Option<&Tuning>,
) -> Result<Lowered, LowerError> {
    let mut lowering = Lowering {
        graph,
        target: *target,
        tuning,
        sources: vec![None; graph.value_count()],
        planned: BTreeMap::new(),
        parts: placed::Parts::default(),
        written_in_place: BTreeSet::new(),
        buffers: Vec::new(),
        externals: Vec::new(),
        line: Line::default(),
        status: None,
        group: None,
        scans: Vec::new(),
        constants: match graph.keeps_parameters() {
            true => prepare::constants(graph, |_| false),
            false => vec![false; graph.value_count()],
        },
        fixed: vec![false; graph.value_count()],
        stage: Stage::InPlace,
        ahead: Vec::new(),
        digits: stored::digits::Kept::new(),
    };
    refuse_storage_floats(graph)?;
    lowering.leaves()?;
    let destinations = lowering.destinations()?;
    lowering.lower_all(partition, &destinations)?;
    plan::assemble(partition, lowering.line, lowering.buffers, lowering.externals)
}

/// Floats of 16 bits are read as stored matrices, moved, and made from and into f32: nothing computes with them.
fn refuse_storage_floats(graph: &Graph) -> Result<(), LowerError> {
    let is_storage = |value: &ValueId| graph.ty(*value).dtype.is_half();
    for (_, node) in graph.nodes() {
        match &node.op {
            Op::Scan(scan) => refuse_storage_floats(&scan.body)?,
            Op::Param { .. } | Op::State { .. } | Op::Input { .. } | Op::Constant(_) | Op::DotStored(_) => {}
            Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast { .. } | Op::Slice(_) | Op::Gather { .. } => {}
            Op::Cast(DType::F32 | DType::F16 | DType::Bf16) => {}
            _ => {
                if let Some(&value) = node.operands.iter().chain(&node.results).find(|value| is_storage(value)) {
                    let dtype = graph.ty(value).dtype;
                    return Err(LowerError::Bug(format!("{} of {dtype} tensors in kernels", node.op.name())));
                }
            }
        }
    }
    Ok(())
}

/// Where an output is to be.
#[derive(Clone, Copy, Debug)]
struct Destination {
    value: ValueId,
    /// None if it comes there of itself.
    buffer: Option<BufferId>,
    /// The leaf whose buffer that is, if it is one.
    updates: Option<ValueId>,
}

impl<'g> Lowering<'g> {
    /// Lowers every group of a graph whose leaves have sources; each output comes to its destination.
    fn lower_all(&mut self, partition: &Partition, destinations: &[Destination]) -> Result<(), LowerError> {
        let updates = destinations.iter().enumerate().filter_map(|(at, to)| Some((at, to.updates?))).collect();
        let schedule = Schedule::new(self.graph, partition, &updates);
        let late = self.outputs(&schedule, destinations)?;
        self.written_in_place = schedule.written_in_place;
        self.parts = self.parts_of(partition);
        for &at in &schedule.order {
            self.group = Some(at);
            let group = &partition.groups[at];
            let prepared = self.settle(group);
            let stage = if prepared { Stage::Once } else { Stage::InPlace };
            self.preparing(stage, |lowering| lowering.lower_group(group))?;
        }
        self.group = None;
        for (value, saved, to) in late {
            let source = saved.map_or_else(|| self.source(value), Ok)?;
            map::copy(self, value, source, to)?;
        }
        Ok(())
    }

    fn lower_group(&mut self, group: &Group) -> Result<(), LowerError> {
        match group.kind {
            GroupKind::Leaf | GroupKind::View => Ok(()),
            _ if group.outputs.is_empty() => Ok(()),
            GroupKind::Copy => self.lower_copy(group),
            GroupKind::Map if update::lower(self, group)? || self.is_joined(group)? => Ok(()),
            GroupKind::Map => map::lower(self, group),
            GroupKind::Rows => rows::lower(self, group),
            GroupKind::Reduce => reduce::lower(self, group),
            GroupKind::Anchor => anchor::lower(self, group),
            GroupKind::Attention => attention::lower(self, group),
            GroupKind::Pooled => conv::pooling::lower(self, group),
            GroupKind::Loop => scan::lower(self, group),
        }
    }

    /// A reshape of elements that do not lie in order: they are copied, in the operand's order.
    fn lower_copy(&mut self, group: &Group) -> Result<(), LowerError> {
        let node = self.graph.node(group.nodes[0]);
        let place = self.store(node.results[0])?;
        let source = self.source(node.operands[0])?;
        map::copy(self, node.operands[0], source, place.buffer)
    }

    /// Externals and sources of everything that needs no kernel.
    fn leaves(&mut self) -> Result<(), LowerError> {
        for (_, node) in self.graph.nodes().filter(|(_, node)| class(&node.op) == Class::Leaf) {
            let value = node.results[0];
            if self.sources[value.index()].is_some() {
                continue; // an input of a body
            }
            let ty = self.graph.ty(value).clone();
            let role = match &node.op {
                Op::Input { name, .. } => Role::Input(name.clone()),
                Op::Param { path, .. } => Role::Param(path.clone()),
                Op::State { path, .. } => Role::State(path.clone()),
                Op::Constant(tensor) => match memory::uniform(tensor) {
                    Some(bits) => {
                        self.sources[value.index()] = Some(Source::Uniform(elem(ty.dtype), bits));
                        continue;
                    }
                    None => Role::Constant(tensor.clone()),
                },
                Op::Extent { dim, dtype } => {
                    let number = nnc_graph::Tensor::scalar(*dtype, dim.size() as f64);
                    let bits = memory::uniform(&number).unwrap_or_default();
                    self.sources[value.index()] = Some(Source::Uniform(elem(ty.dtype), bits));
                    continue;
                }
                _ => return Err(LowerError::bug("a leaf that is none")),
            };
            let buffer = self.external(role, ty.clone(), Access::Read);
            let layout = Layout::contiguous(&ty.shape.sizes());
            self.sources[value.index()] = Some(Source::Stored(Place { buffer, elem: elem(ty.dtype), layout }));
        }
        Ok(())
    }

    /// Where the graph's outputs are to be: results in externals, updates in the leaves' own.
    fn destinations(&mut self) -> Result<Vec<Destination>, LowerError> {
        let outputs = self.graph.outputs().iter().map(|output| {
            let (buffer, updates) = match output.kind {
                OutputKind::Update(leaf) => (self.leaf_buffer(leaf)?, Some(leaf)),
                OutputKind::Result => {
                    let ty = self.graph.ty(output.value).clone();
                    (self.external(Role::Output(output.name.clone()), ty, Access::Write), None)
                }
            };
            Ok(Destination { value: output.value, buffer: Some(buffer), updates })
        });
        outputs.collect()
    }

    /// Decides where outputs are made. Gives the copies to be made when all else is done, with the source of what was
    /// saved.
    fn outputs(
        &mut self,
        schedule: &Schedule,
        destinations: &[Destination],
    ) -> Result<Vec<(ValueId, Option<Source>, BufferId)>, LowerError> {
        let mut late = Vec::new();
        for (at, &Destination { value, buffer, updates }) in destinations.iter().enumerate() {
            let Some(buffer) = buffer else { continue };
            let direct = match updates {
                Some(_) => schedule.in_place.contains(&at),
                None => schedule.is_computed(self.graph, value),
            };
            if direct && !self.planned.contains_key(&value) {
                self.planned.insert(value, buffer);
            } else if !schedule.is_leaf(self.graph, value) {
                late.push((value, None, buffer));
            } else if updates.is_none() {
                // Now, before a leaf is updated.
                let source = self.source(value)?;
                map::copy(self, value, source, buffer)?;
            } else {
                let saved = self.save(value)?;
                late.push((value, Some(saved), buffer));
            }
        }
        Ok(late)
    }

    /// A copy of a value as it is now, before a leaf is updated.
    fn save(&mut self, value: ValueId) -> Result<Source, LowerError> {
        let ty = self.graph.ty(value).clone();
        let buffer = self.temporary(ty.bytes());
        let source = self.source(value)?;
        map::copy(self, value, source, buffer)?;
        let layout = Layout::contiguous(&ty.shape.sizes());
        Ok(Source::Stored(Place { buffer, elem: elem(ty.dtype), layout }))
    }

    fn leaf_buffer(&mut self, leaf: ValueId) -> Result<BufferId, LowerError> {
        match &self.sources[leaf.index()] {
            Some(Source::Stored(place)) => {
                let buffer = place.buffer;
                if let Home::External(external) = self.buffers[buffer.index()].home {
                    self.externals[external].access = Access::ReadWrite;
                }
                Ok(buffer)
            }
            _ => Err(LowerError::bug("an update of something that is no parameter or state")),
        }
    }

    fn external(&mut self, role: Role, ty: TensorType, access: Access) -> BufferId {
        let bytes = ty.bytes();
        self.externals.push(External { role, ty, bytes, access });
        self.buffers.push(Buffer { bytes, home: Home::External(self.externals.len() - 1), holds: None });
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// Memory in the arena for what launches hand on, or one keeps for itself.
    pub fn temporary(&mut self, bytes: usize) -> BufferId {
        self.buffers.push(Buffer { bytes, home: Home::Arena, holds: None });
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// The memory in which kernels leave a code when an index is out of range.
    pub fn status(&mut self) -> BufferId {
        if let Some(status) = self.status {
            return status;
        }
        let ty = TensorType::new(DType::I32, Shape::of(&[4]));
        let status = self.external(Role::Status, ty, Access::Write);
        self.status = Some(status);
        status
    }

    /// Whether `value` already lies somewhere.
    pub fn is_readable(&self, value: ValueId) -> bool {
        self.sources[base(self.graph, value).index()].is_some()
    }

    /// Where `value` is read from; views of what is stored are stored. What a loop takes of an inner axis has strides of
    /// its own, along which a view may not walk: it is then one of a copy.
    pub fn source(&mut self, value: ValueId) -> Result<Source, LowerError> {
        if let Some(source) = &self.sources[value.index()] {
            return Ok(source.clone());
        }
        let node = self.graph.definition(value);
        if class(&node.op) != Class::View {
            return Err(LowerError::Bug(format!("{value} is read before it is computed")));
        }
        let source = match self.source(node.operands[0])? {
            Source::Uniform(elem, bits) => Source::Uniform(elem, bits),
            Source::Stored(place) => Source::Stored(match place.layout.view(&node.op) {
                Some(layout) => Place { layout, ..place },
                None => {
                    let copied = self.in_order(node.operands[0])?;
                    let layout = copied.layout.view(&node.op);
                    Place { layout: layout.ok_or_else(|| LowerError::bug("a copy that was not made"))?, ..copied }
                }
            }),
        };
        self.sources[value.index()] = Some(source.clone());
        Ok(source)
    }

    /// Copies a value in row-major order; from now on it is read from there.
    pub fn in_order(&mut self, value: ValueId) -> Result<Place, LowerError> {
        let (source, dims) = (self.source(value)?, self.graph.ty(value).shape.sizes());
        let elem = source.elem();
        let buffer = self.copied(value, source, &dims)?;
        let place = Place { buffer, elem, layout: Layout::contiguous(&dims) };
        self.sources[value.index()] = Some(Source::Stored(place.clone()));
        Ok(place)
    }

    /// Gives a value that is about to be computed its place: row-major, in a buffer of its own, or where it lies in a
    /// whole.
    pub fn store(&mut self, value: ValueId) -> Result<Place, LowerError> {
        if let Some(place) = self.placed(value)? {
            self.sources[value.index()] = Some(Source::Stored(place.clone()));
            return Ok(place);
        }
        let ty = self.graph.ty(value).clone();
        let buffer = match self.planned.get(&value) {
            Some(&buffer) => buffer,
            None => {
                let buffer = self.memory(ty.bytes());
                self.buffers[buffer.index()].holds = Some(Held { scans: self.scans.clone(), value });
                buffer
            }
        };
        let place = Place { buffer, elem: elem(ty.dtype), layout: Layout::contiguous(&ty.shape.sizes()) };
        self.sources[value.index()] = Some(Source::Stored(place.clone()));
        Ok(place)
    }

    /// Lanes of a vector for these nodes: as many as the machine has of the widest float.
    pub fn lanes(&self, nodes: &BTreeSet<NodeId>) -> u8 {
        let is_double = |value: &ValueId| self.graph.ty(*value).dtype == DType::F64;
        let double = nodes.iter().any(|&id| {
            let node = self.graph.node(id);
            node.results.iter().chain(&node.operands).any(is_double)
        });
        if double { self.target.f32_lanes / 2 } else { self.target.f32_lanes }
    }

    /// Lanes of a vector of `elem`.
    pub fn lanes_of(&self, elem: Elem) -> u8 {
        if elem == Elem::F64 { self.target.f32_lanes / 2 } else { self.target.f32_lanes }
    }
}
