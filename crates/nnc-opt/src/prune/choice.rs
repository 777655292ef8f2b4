//! `with_choice`: a training step of a recipe that prunes, with the choice of its masks joined to it.
//!
//! The front end makes the choice of the inputs `$pruned.PATH.value` and `$pruned.PATH.gradient`, in the sizes of what
//! is left of a weight, so that it is one of the weights that there are when channels went. Here the parameter takes
//! the place of the one, and of the other what the step puts out by its name. The share that goes, [`SHARE`], is put
//! out no more.
//!
//! On entry a verified graph whose parameters have the sizes that are left; on exit the same without those inputs and
//! outputs, in which weights whose mask the step writes are 0 where that does not hold.

use super::{hold, masked_parameter};
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Graph, Op, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// The output of a training step that is the share of the weights that go, where it makes a choice.
pub const SHARE: &str = "$pruned.share";
/// What the names begin with of what the choice is made of.
const JUDGED: &str = "$pruned.";
const VALUE: &str = ".value";

/// The training step with its choice of masks; the graph itself if it makes none. `leader` as for [`hold()`].
pub fn with_choice(graph: &Graph, leader: &dyn Fn(&str) -> Option<String>) -> Graph {
    let chosen: BTreeSet<String> =
        graph.outputs().iter().filter_map(|output| masked_parameter(&output.name)).map(str::to_owned).collect();
    let is_judged = |name: &str| name.starts_with(JUDGED);
    if !graph.nodes().any(|(_, node)| matches!(&node.op, Op::Input { name, .. } if is_judged(name))) {
        return graph.clone();
    }
    let derivatives = graph.outputs().iter().filter(|output| is_judged(&output.name));
    let mut judged: BTreeMap<String, ValueId> = derivatives.map(|output| (output.name.clone(), output.value)).collect();
    for (_, node) in graph.nodes() {
        if let Op::Param { path, .. } = &node.op {
            judged.insert(format!("{JUDGED}{path}{VALUE}"), node.results[0]);
        }
    }
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        match &node.op {
            Op::Input { name, .. } if judged.contains_key(name) => {
                let value = rewriter.value(judged[name]);
                rewriter.replace(node.results[0], value);
            }
            _ => drop(rewriter.copy(id)),
        }
    }
    hold(&rewriter.finish_with(|output| !is_judged(&output.name)), &chosen, leader)
}
