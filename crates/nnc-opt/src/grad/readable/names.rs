//! Names for every value, given before differentiation so that cotangents are called after them.
//!
//! A user's name is *strong*: its value gets a line of its own. A value without one is called after the function or use
//! that it comes from; that name is *weak*, marked by `~`, and serves only if a line is needed. Names are unique: the
//! second `x` is `x_2`.

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Graph, Node, ValueId};
use std::collections::BTreeMap;

const WEAK: char = '~';

/// Whether a value has a name that the user gave, or `d_` and such a name.
pub(super) fn is_strong(graph: &Graph, value: ValueId) -> bool {
    graph.value(value).name.as_ref().is_some_and(|name| !name.contains(WEAK))
}

/// Hands out names, each once.
#[derive(Default)]
pub(super) struct Unique {
    taken: BTreeMap<String, usize>,
}

impl Unique {
    pub(super) fn name(&mut self, base: &str) -> String {
        if !self.taken.contains_key(base) {
            self.taken.insert(base.to_owned(), 1);
            return base.to_owned();
        }
        loop {
            let count = self.taken.entry(base.to_owned()).or_default();
            *count += 1;
            let name = format!("{base}_{count}");
            if !self.taken.contains_key(&name) {
                self.taken.insert(name.clone(), 1);
                return name;
            }
        }
    }
}

/// The name as it is shown.
pub(super) fn shown(name: &str) -> String {
    name.replace(WEAK, "")
}

/// The same graph with a unique name for every value but those of leaves, which are called by their own.
pub(super) fn give_every_value_a_name(graph: &Graph) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    let mut unique = Unique::default();
    graph.nodes().filter_map(|(_, node)| node.op.leaf_name()).for_each(|name| drop(unique.name(name)));
    for (id, node) in graph.nodes() {
        let results = rewriter.copy(id);
        for value in results.into_iter().filter(|_| node.op.leaf_name().is_none()) {
            let name = match &rewriter.graph().value(value).name {
                Some(name) => unique.name(name),
                None => format!("{WEAK}{}", unique.name(&weak_base(graph, node))),
            };
            rewriter.graph_mut().set_name(value, &name);
        }
    }
    rewriter.finish()
}

/// The use that a node belongs to, else the function, else only that it is a value.
fn weak_base(graph: &Graph, node: &Node) -> String {
    let Some(origin) = node.origin.map(|id| graph.origin(id)) else { return "t".to_owned() };
    match (origin.path.is_empty(), origin.function.is_empty()) {
        (false, _) => origin.path.clone(),
        (true, false) => origin.function.clone(),
        (true, true) => "t".to_owned(),
    }
}
