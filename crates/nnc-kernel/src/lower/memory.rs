//! Memory as the lowering sees it: buffers without addresses, and the places of values in them.
//!
//! A buffer is an external (input, parameter, output, ...), a part of the arena that the plan will place, or lies in
//! another buffer, as a row that moves with the steps of a loop or in one place.

use super::tuning::Alternatives;
use crate::ir::{Direction, Elem, Kernel, KernelBuilder, Memory};
use nnc_graph::{DType, NodeId, Tensor, ValueId};
use nnc_opt::fuse::Layout;

/// Names a buffer of a program in the making.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BufferId(pub u32);

impl BufferId {
    /// Its place in the table of buffers.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A piece of memory.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Its size.
    pub bytes: usize,
    /// Where it is.
    pub home: Home,
    /// The value that it is made for; none for what only a kernel needs.
    pub holds: Option<Held>,
}

/// A value of the graph that is lowered, or of a body in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// The loops around it, from the outside in.
    pub scans: Vec<NodeId>,
    /// The value.
    pub value: ValueId,
}

/// Where a buffer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// In the arena, where the plan will place it.
    Arena,
    /// In the arena as well, made once: if a run reads it, nothing else ever lies there, so that it lasts from run to
    /// run.
    Lasting,
    /// With the caller: a place in the list of externals.
    External(usize),
    /// Inside of another buffer: in step `i` of a loop, `start + i * stride` bytes from its start.
    Row {
        /// The other buffer.
        of: BufferId,
        /// Bytes to the row of step 0.
        start: u64,
        /// Bytes from row to row.
        stride: i64,
        /// How many loops stand around the one whose steps are meant.
        depth: u32,
    },
    /// Inside of another buffer, in one place.
    Part {
        /// The other buffer.
        of: BufferId,
        /// Bytes to it.
        start: u64,
    },
}

/// Where a value lies.
#[derive(Clone, Debug)]
pub struct Place {
    /// In which memory.
    pub buffer: BufferId,
    /// Type of its elements.
    pub elem: Elem,
    /// Where each element lies.
    pub layout: Layout,
}

/// Where a value comes from when it is read.
#[derive(Clone, Debug)]
pub enum Source {
    /// The same bits everywhere: an immediate of the kernel.
    Uniform(Elem, u64),
    /// Memory.
    Stored(Place),
}

impl Source {
    /// Type of the elements.
    pub fn elem(&self) -> Elem {
        match self {
            Self::Uniform(elem, _) => *elem,
            Self::Stored(place) => place.elem,
        }
    }
}

/// The element type of memory that holds a dtype.
pub fn elem(dtype: DType) -> Elem {
    match dtype {
        DType::F32 => Elem::F32,
        DType::F64 => Elem::F64,
        DType::I8 => Elem::I8,
        DType::U8 => Elem::U8,
        DType::I16 => Elem::I16,
        DType::I32 => Elem::I32,
        DType::I64 => Elem::I64,
        DType::Bool => Elem::Bool,
        DType::F16 => Elem::F16,
        DType::Bf16 => Elem::Bf16,
    }
}

/// The bits that every element of a tensor has, if they are the same everywhere.
pub fn uniform(tensor: &Tensor) -> Option<u64> {
    let size = tensor.dtype().size();
    let mut elements = tensor.bytes().chunks_exact(size);
    let first = elements.next()?;
    let bits = first.iter().rev().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
    elements.all(|element| element == first).then_some(bits)
}

/// A kernel while it is built, with the buffers that its parameters stand for.
#[derive(Debug)]
pub struct KernelDraft {
    /// The kernel itself.
    pub builder: KernelBuilder,
    /// For each parameter its buffer.
    pub args: Vec<(BufferId, Direction)>,
    /// How the work is cut, in words: tile, blocks, algorithm.
    pub how: String,
    /// Other ways to cut it.
    pub alternatives: Option<Alternatives>,
    memories: Vec<Memory>,
}

impl KernelDraft {
    /// A kernel without parameters.
    pub fn new(name: &str) -> Self {
        let builder = KernelBuilder::new(name);
        Self { builder, args: Vec::new(), how: String::new(), alternatives: None, memories: Vec::new() }
    }

    /// The parameter that stands for a buffer used in such a way. Bytes that are read as words, too, are two
    /// parameters.
    pub fn param(&mut self, buffer: BufferId, elem: Elem, direction: Direction) -> Memory {
        let mut known = self.args.iter().zip(&self.memories);
        if let Some((_, memory)) = known.find(|&(&arg, memory)| arg == (buffer, direction) && memory.elem == elem) {
            return *memory;
        }
        let name = match direction {
            Direction::In => format!("in{}", self.args.len()),
            Direction::Out => format!("out{}", self.args.len()),
            Direction::InOut => format!("work{}", self.args.len()),
        };
        let memory = self.builder.param(name, elem, direction);
        self.args.push((buffer, direction));
        self.memories.push(memory);
        memory
    }

    /// The kernel and the buffers of its parameters.
    pub fn finish(self) -> (Kernel, Vec<(BufferId, Direction)>) {
        (self.builder.finish(), self.args)
    }
}
