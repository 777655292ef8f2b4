//! The tensors that stay between runs: parameters, running state, optimiser state.
//!
//! Sorted by path, so that everything made from a store has one order. Paths that start with [`RESERVED`] are the
//! compiler's own (optimiser and metric state): part of a checkpoint, no part of a network's weights.

use crate::compiled::host_tensor;
use crate::pretrained::{Taken, Taking};
use nnc_graph::{Graph, Op, Tensor, TensorType};
use nnc_lang::elaborate::weight_names::WeightNames;
use nnc_runtime::AlignedBuffer;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

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
    version: u64,
}

/// Versions given so far, of all stores: no two states have the same.
static VERSIONS: AtomicU64 = AtomicU64::new(0);

/// A tensor that weights and a program do not agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// The program has it, the weights do not.
    Missing {
        /// Its path.
        path: String,
        /// What the program wants.
        wanted: TensorType,
        /// What it is called in the weights.
        absent: String,
        /// What they have that is called much like it.
        meant: Option<String>,
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
        /// What it is made of in the weights.
        asked: String,
        /// What the weights hold.
        found: TensorType,
    },
    /// What it is made of cannot be put together.
    Unusable {
        /// Its path.
        path: String,
        /// What it is made of in the weights.
        asked: String,
        /// Why.
        reason: String,
    },
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { path, wanted, absent, meant } => {
                let name = if absent == path { "no such tensor".to_owned() } else { format!("no `{absent}`") };
                let meant = meant.as_ref().map(|meant| format!("; did you mean `{}`?", shown(meant)));
                write!(f, "{path}: the model has {wanted}, the file has {name}{}", meant.unwrap_or_default())
            }
            Self::Unknown { path, found } => {
                write!(f, "{}: the file has {found}, the model has no such tensor", shown(path))
            }
            Self::Different { path, wanted, asked, found } => {
                let name = if asked == path { "the file has".to_owned() } else { format!("`{asked}` of the file is") };
                write!(f, "{path}: the model has {wanted}, {name} {found}")
            }
            Self::Unusable { path, asked, reason } => write!(f, "{path}: `{asked}` cannot be made: {reason}"),
        }
    }
}

/// A name that a file says, on one line: it may hold anything.
fn shown(name: &str) -> String {
    match name {
        "" => "a tensor without a name".to_owned(),
        _ => name
            .chars()
            .map(|letter| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() })
            .collect(),
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

    /// A store that holds these tensors.
    pub fn of<'t>(tensors: impl Iterator<Item = (&'t str, &'t Tensor)>) -> Self {
        let mut store = Self::default();
        tensors.for_each(|(path, tensor)| store.insert(path, tensor));
        store
    }

    /// Puts a tensor in, over one that was there.
    pub fn insert(&mut self, path: &str, tensor: &Tensor) {
        self.touch();
        let buffer = AlignedBuffer::from_slice(tensor.bytes());
        self.entries.insert(path.to_owned(), Entry { ty: tensor.ty(), buffer });
    }

    /// As [`Self::insert`], of what is made where it stays.
    pub(crate) fn insert_buffer(&mut self, path: &str, ty: TensorType, buffer: AlignedBuffer) {
        self.touch();
        self.entries.insert(path.to_owned(), Entry { ty, buffer });
    }

    /// Drops what is not wanted, but for the compiler's own, and puts in zeros for what is lacking.
    pub(crate) fn hold_to(&mut self, wanted: &BTreeMap<String, TensorType>) {
        self.entries.retain(|path, _| path.starts_with(RESERVED) || wanted.contains_key(path));
        for (path, ty) in wanted {
            if self.get(path).is_none() {
                let zeros = vec![0; ty.bytes()];
                self.insert(path, &host_tensor(ty, &zeros));
            }
        }
        self.touch();
    }

    /// Takes the tensor at a path out.
    pub(crate) fn take(&mut self, path: &str) -> Option<Entry> {
        self.touch();
        self.entries.remove(path)
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
        let bad = |entry: &Entry| !nnc_graph::tensor::is_finite(entry.ty.dtype, entry.buffer.bytes());
        self.iter().find(|(path, entry)| !own(path) && bad(entry)).map(|(path, _)| path)
    }

    /// Every entry in the order of paths, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Entry)> {
        self.touch();
        self.buffers_mut()
    }

    /// As [`Self::iter_mut`], for a program that may change them: [`Self::touch`] says that it did.
    pub(crate) fn buffers_mut(&mut self) -> impl Iterator<Item = (&str, &mut Entry)> {
        self.entries.iter_mut().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Names what the store holds now; it has another name whenever it may hold something else.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Notes that it may hold something else from here on.
    pub(crate) fn touch(&mut self) {
        self.version = VERSIONS.fetch_add(1, Ordering::Relaxed) + 1;
    }

    /// A copy of the tensor at a path.
    pub fn tensor(&self, path: &str) -> Option<Tensor> {
        self.get(path).map(|entry| host_tensor(&entry.ty, entry.buffer.bytes()))
    }

    /// A copy of every tensor, in the order of paths.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Tensor)> {
        self.iter().map(|(path, entry)| (path, host_tensor(&entry.ty, entry.buffer.bytes())))
    }

    /// Another store with the same tensors.
    pub fn copied(&self) -> Self {
        let mut store = Self::default();
        self.tensors().for_each(|(path, tensor)| store.insert(path, &tensor));
        store
    }

    /// Copies in every tensor of `weights` that fits, by path and by the names that models say; lists what does not fit
    /// on either side. Paths of the compiler's own are passed over.
    pub fn load_weights(&mut self, weights: &BTreeMap<String, Tensor>, names: &WeightNames) -> Vec<Mismatch> {
        let taken = self.taken(weights, names);
        self.touch();
        for (path, made) in &taken.tensors {
            let entry = self.entries.get_mut(path);
            entry.into_iter().for_each(|entry| made.write(entry.buffer.bytes_mut()));
        }
        taken.mismatches
    }

    /// What does not fit on either side, as [`Self::load_weights`] would tell.
    pub fn mismatches(&self, weights: &BTreeMap<String, Tensor>, names: &WeightNames) -> Vec<Mismatch> {
        self.taken(weights, names).mismatches
    }

    fn taken<'t>(&self, weights: &'t BTreeMap<String, Tensor>, names: &WeightNames) -> Taken<'t> {
        let wanted = self.entries.iter().map(|(path, entry)| (path.clone(), entry.ty.clone())).collect();
        Taking::whole(names).take(&wanted, weights)
    }
}
