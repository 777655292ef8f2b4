//! The tensors that stay between runs: parameters, running state, optimiser state.
//!
//! Sorted by path, so that everything made from a store has one order. Paths that start with [`RESERVED`] are the
//! compiler's own (optimiser and metric state): part of a checkpoint, no part of a network's weights.

use crate::compiled::host_tensor;
use nnc_graph::{Graph, Op, Tensor, TensorType};
use nnc_runtime::AlignedBuffer;
use std::collections::BTreeMap;

/// What a path of the compiler's own starts with.
pub const RESERVED: char = '$';

/// One resident tensor.
#[derive(Debug)]
pub struct Entry {
    /// Its type; the shape is bound.
    pub ty: TensorType,
    /// Its data, row-major, little endian.
    pub buffer: AlignedBuffer,
}

/// Resident tensors by path.
#[derive(Debug, Default)]
pub struct Store {
    entries: BTreeMap<String, Entry>,
}

/// A tensor that weights and a program do not agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// The program has it, the weights do not.
    Missing {
        /// Its path.
        path: String,
        /// What the program wants.
        wanted: TensorType,
    },
    /// The weights have it, the program does not.
    Unknown {
        /// Its path.
        path: String,
        /// What the weights hold.
        found: TensorType,
    },
    /// Both have it, with different types.
    Different {
        /// Its path.
        path: String,
        /// What the program wants.
        wanted: TensorType,
        /// What the weights hold.
        found: TensorType,
    },
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { path, wanted } => write!(f, "{path}: the model has {wanted}, the file has no such tensor"),
            Self::Unknown { path, found } => write!(f, "{path}: the file has {found}, the model has no such tensor"),
            Self::Different { path, wanted, found } => {
                write!(f, "{path}: the model has {wanted}, the file has {found}")
            }
        }
    }
}

impl Store {
    /// The paths and types of every parameter and state of a graph, sorted by path.
    pub fn wanted(graph: &Graph) -> BTreeMap<String, TensorType> {
        let resident = |op: &Op| match op {
            Op::Param { path, ty } | Op::State { path, ty } => Some((path.clone(), ty.clone())),
            _ => None,
        };
        graph.nodes().filter_map(|(_, node)| resident(&node.op)).collect()
    }

    /// Puts a tensor in, over one that was there.
    pub fn insert(&mut self, path: &str, tensor: &Tensor) {
        let mut buffer = AlignedBuffer::zeroed(tensor.bytes().len());
        buffer.bytes_mut().copy_from_slice(tensor.bytes());
        self.entries.insert(path.to_owned(), Entry { ty: tensor.ty(), buffer });
    }

    /// The entry at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Every entry in the order of paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The first parameter or state that holds a NaN or an infinity, in the order of paths. What optimisers and metrics
    /// keep for themselves, under [`RESERVED`] names, does not count.
    pub fn first_not_finite(&self) -> Option<&str> {
        let own = |path: &str| path.starts_with(RESERVED);
        let bad = |entry: &Entry| {
            let size = entry.ty.dtype.size();
            let mut elements = entry.buffer.bytes().chunks_exact(size);
            entry.ty.dtype.is_float()
                && elements.any(|element| !nnc_graph::tensor::decode(entry.ty.dtype, element).is_finite())
        };
        self.iter().find(|(path, entry)| !own(path) && bad(entry)).map(|(path, _)| path)
    }

    /// Every entry in the order of paths, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Entry)> {
        self.entries.iter_mut().map(|(path, entry)| (path.as_str(), entry))
    }

    /// A copy of the tensor at a path.
    pub fn tensor(&self, path: &str) -> Option<Tensor> {
        self.get(path).map(|entry| host_tensor(&entry.ty, entry.buffer.bytes()))
    }

    /// Copies in every tensor of `weights` that fits by path and type; lists what does not fit on either side.
    /// Paths of the compiler's own are passed over.
    pub fn load_weights(&mut self, weights: &BTreeMap<String, Tensor>) -> Vec<Mismatch> {
        for (path, entry) in self.entries.iter_mut().filter(|(path, _)| !path.starts_with(RESERVED)) {
            if let Some(found) = weights.get(path).filter(|found| found.ty() == entry.ty) {
                entry.buffer.bytes_mut().copy_from_slice(found.bytes());
            }
        }
        self.mismatches(weights)
    }

    /// What does not fit on either side, by path or type. Paths of the compiler's own are passed over.
    pub fn mismatches(&self, weights: &BTreeMap<String, Tensor>) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        for (path, entry) in self.entries.iter().filter(|(path, _)| !path.starts_with(RESERVED)) {
            match weights.get(path) {
                None => mismatches.push(Mismatch::Missing { path: path.clone(), wanted: entry.ty.clone() }),
                Some(found) if found.ty() != entry.ty => mismatches.push(Mismatch::Different {
                    path: path.clone(),
                    wanted: entry.ty.clone(),
                    found: found.ty(),
                }),
                Some(_) => {}
            }
        }
        for (path, found) in weights.iter().filter(|(path, _)| !path.starts_with(RESERVED)) {
            if !self.entries.contains_key(path) {
                mismatches.push(Mismatch::Unknown { path: path.clone(), found: found.ty() });
            }
        }
        mismatches
    }

    /// Number of trainable and running values of the network itself, without the compiler's own.
    pub fn network_elements(&self) -> usize {
        let own = self.entries.iter().filter(|(path, _)| !path.starts_with(RESERVED));
        own.map(|(_, entry)| entry.ty.shape.elements().size()).sum()
    }
}
