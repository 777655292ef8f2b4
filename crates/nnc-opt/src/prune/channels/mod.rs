//! Structured pruning: channels, hidden units and heads that go, and graphs that get smaller by it.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`mod@labels`] | which positions of which axes stay or go together: union-find |
//! | [`mod@known`] | what is known of a value: its labels, and where it is 0 |
//! | `separate` | one number over a shape, anew for each reader, so that it joins none |
//! | [`mod@trace`], `rules`, `movement`, `products` | the walk through a graph, and the rule of each op |
//! | [`mod@groups`] | groups of coupled channels, and the multiply-adds that they take part in |
//! | [`mod@choose`] | the channels that count least |
//! | [`mod@record`] | what a file of weights says of it |
//! | [`mod@shrink`] | the graph with smaller shapes |
//! | [`mod@first`] | the first values of what is left |
//!
//! **Contract.** The small network computes what the large one does when, for every channel that went, all weights and
//! states that are its own are 0: the filter that makes it, its bias and its normalisation, and the columns of all
//! filters that read it. Divisors that came from the number of channels stay as they are. Where that cannot be, as
//! where `softmax` or `layer_norm` measure channels together, they stay. Numbers that are drawn at random, as for
//! `dropout`, are drawn for the smaller shape. A training step is that of the small network.

pub mod choose;
pub mod first;
pub mod groups;
pub mod known;
pub mod labels;
mod movement;
mod products;
pub mod record;
mod rules;
mod separate;
pub mod shrink;
pub mod trace;

pub use choose::{Free, Stays, Wanted, choose, half, importance, stays};
pub use first::first_values;
pub use groups::{Cost, Group, Member, groups};
pub use labels::{Fixed, Label};
pub use record::{Record, kept_path, recorded_axis, without};
pub use shrink::{gone, shrink};
pub use trace::{Channels, Traced};

use nnc_graph::{Graph, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// The channels of a network, followed through its programs.
#[derive(Clone, Debug)]
pub struct Network {
    channels: Channels,
    traced: Vec<Traced>,
    /// The multiply-adds of the first program.
    pub cost: Cost,
    /// What is gone already.
    pub gone: BTreeSet<Label>,
}

impl Network {
    /// That of some programs, at least one, of a model that lost what a record says. The cost is that of the first.
    ///
    /// # Errors
    /// What of the record does not fit, in words.
    pub fn new(graphs: &[Graph], record: &Record) -> Result<Self, String> {
        let mut channels = Channels::default();
        let graphs: Vec<Graph> = graphs.iter().map(separate::separate).collect();
        let traced: Vec<Traced> = graphs.iter().map(|graph| channels.trace(graph)).collect();
        if let Some((unknown, ..)) = record.iter().find(|(resident, ..)| !channels.residents.contains_key(*resident)) {
            return Err(format!("it keeps channels of `{unknown}`, which the model lacks"));
        }
        let gone = gone(&channels, record)?;
        let cost = Cost::new(&graphs[0], &traced[0], &channels.labels);
        Ok(Self { channels, traced, cost, gone })
    }

    /// The groups of channels that are there.
    pub fn groups(&self) -> Vec<Group> {
        groups(&self.channels, &self.traced, &self.gone)
    }

    /// What channels are worth, by class; see [`importance`].
    pub fn importance(&self, tensor: impl Fn(&str) -> Option<Tensor>) -> BTreeMap<Label, f64> {
        importance(&self.channels, &self.gone, tensor)
    }

    /// What is left of each parameter and state without the channels of `gone`, also of those that the compiler keeps
    /// for itself.
    pub fn record(&self, gone: &BTreeSet<Label>) -> Record {
        let mut record = Record::default();
        for (path, axes) in &self.channels.residents {
            for (axis, labels) in axes.iter().enumerate() {
                let kept = labels.iter().map(|&label| !gone.contains(&self.channels.labels.class(label))).collect();
                record.insert(path, axis, kept);
            }
        }
        record
    }
}
