//! Parameters and running state by path, in the order in which the program makes them.
//!
//! A path is made once by the first use of a layer; a further use of a shared layer finds it and must agree on its
//! type. Initialisers are evaluated at that moment into a graph of their own, so the main graph never holds them.

use crate::diagnostic::Span;
use nnc_graph::{TensorType, ValueId};
use std::collections::BTreeMap;

/// What kind of resident tensor an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resident {
    /// Trained by gradient.
    Parameter,
    /// Updated by `<-`.
    State,
}

/// One parameter or state.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it lives: `conv2d_1.w`.
    pub path: String,
    /// Parameter or state.
    pub kind: Resident,
    /// Its type.
    pub ty: TensorType,
    /// The leaf in the main graph.
    pub leaf: ValueId,
    /// What a read sees now: the leaf, or what `<-` or a step of a recipe wrote last.
    pub current: ValueId,
    /// Its first value, in the graph of initialisers; `None` after an error.
    pub first: Option<ValueId>,
    /// Whether it belongs to a frozen layer: nothing changes it.
    pub frozen: bool,
    /// Where it is declared.
    pub span: Span,
}

/// Every parameter and state of a program.
#[derive(Clone, Debug, Default)]
pub struct Store {
    entries: Vec<Entry>,
    by_path: BTreeMap<String, usize>,
}

impl Store {
    /// The entries in order of creation.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path`.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.by_path.get(path).map(|&at| &self.entries[at])
    }

    /// The entry at `path`, to be changed.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Entry> {
        self.by_path.get(path).map(|&at| &mut self.entries[at])
    }

    /// Enters one; a path that is taken is left as it is.
    pub fn insert(&mut self, entry: Entry) {
        if !self.by_path.contains_key(&entry.path) {
            self.by_path.insert(entry.path.clone(), self.entries.len());
            self.entries.push(entry);
        }
    }

    /// What every state and parameter is now: to be put back with [`Store::restore`].
    pub fn snapshot(&self) -> Vec<ValueId> {
        self.entries.iter().map(|entry| entry.current).collect()
    }

    /// Puts back what [`Store::snapshot`] gave; entries made since keep what they have.
    pub fn restore(&mut self, snapshot: &[ValueId]) {
        for (entry, &current) in self.entries.iter_mut().zip(snapshot) {
            entry.current = current;
        }
    }
}
