//! Names for every value, given before differentiation so that cotangents are called after them.
//!
//! A user's name is *strong*: its value gets a line of its own. A value without one is called after the function or use
//! that it comes from; that name is *weak* and serves only if a line is needed. Until it is shown a name is its value's
//! key, `y#12` or `~relu#9` if it is weak; what is shown is unique, and numbered in the order of the lines: the second
//! `x` is `x_2`, and its cotangent `d_x_2`.

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Graph, Node, ValueId};
use std::collections::BTreeMap;

pub(super) const WEAK: char = '~';

/// Whether a value has a name that the user gave, or `d_` and such a name.
pub(super) fn is_strong(graph: &Graph, value: ValueId) -> bool {
    graph.value(value).name.as_ref().is_some_and(|name| !name.contains(WEAK))
}

/// Hands out names, each once.
#[derive(Default)]
pub(super) struct Unique {
    taken: BTreeMap<String, usize>,
    /// The names under which weak ones have been shown.
    shown: BTreeMap<String, String>,
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

    /// The name as it is shown for a key. `d_` goes with its value; the same name again gets a number of its own.
    pub(super) fn shown(&mut self, key: &str) -> String {
        let (before, key) = split(key);
        let new = !self.shown.contains_key(key);
        if new {
            let shown = self.name(base(key));
            self.shown.insert(key.to_owned(), shown);
        }
        let shown = self.shown[key].clone();
        if new && before.is_empty() { shown } else { self.name(&format!("{before}{shown}")) }
    }
}

/// The `d_`s in front of a key, and the rest.
fn split(key: &str) -> (&str, &str) {
    let start = key.find(|c| c != 'd' && c != '_').unwrap_or(0);
    // Only whole pairs: a name may begin with a `d` itself.
    let pairs = (0..start).step_by(2).take_while(|&at| key[at..].starts_with("d_")).count();
    if key.contains('#') { key.split_at(2 * pairs) } else { ("", key) }
}

/// The name without what makes it a key.
pub(super) fn base(key: &str) -> &str {
    let name = key.split('#').next().unwrap_or(key);
    name.strip_prefix(WEAK).unwrap_or(name)
}

/// The same graph with a unique key as the name of every value but those of leaves, which are called by their own.
pub(super) fn give_every_value_a_name(graph: &Graph) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        let results = rewriter.copy(id);
        for value in results.into_iter().filter(|_| node.op.leaf_name().is_none()) {
            let name = match &rewriter.graph().value(value).name {
                Some(name) => format!("{}#{}", name.strip_prefix("recipe.").unwrap_or(name), value.0),
                None => format!("{WEAK}{}#{}", weak_base(graph, node), value.0),
            };
            rewriter.graph_mut().set_name(value, &name);
        }
    }
    rewriter.finish()
}

/// The use of the function that a node belongs to, as `conv2d_1`, else the function.
fn weak_base(graph: &Graph, node: &Node) -> String {
    let Some(origin) = graph.origin_of(node) else { return "t".to_owned() };
    let last = origin.path.rsplit('.').next().unwrap_or_default();
    match (last.starts_with(&origin.function), origin.function.is_empty()) {
        (true, false) => origin.path.clone(),
        (false, false) => origin.function.clone(),
        (_, true) => "t".to_owned(),
    }
}
