//! Which values are computed again instead of kept, so that the arena becomes smaller.
//!
//! The choice is a pure function of a lowered program and a number of bytes. Its [`model`] has each value's life in
//! launches. A value that is read, then long not, and read again is dropped for the longest such pause.
//!
//! Greedy: as long as too much is in use at the fullest launch, of what lies idle there that is dropped which takes the
//! least work for a byte; what makes another launch as full is taken back. So cheap values go first, then the products
//! of the largest tensors. Since a chain of dropped values that is made again is there as a whole for a while, some
//! products are set aside beforehand as checkpoints that stay: none, or one after each of so many equal parts of the
//! bytes. The choice that fits with the least work is taken.
//!
//! Sources: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost", 2016, for checkpoints by a
//! budget of bytes; Jain et al., "Checkmate", 2020, for the cost of what is dropped; XLA's rematerialisation pass for
//! the greedy choice at the peak. Cost: for each number of parts, values times (values + launches).

mod model;

use crate::plan::Lowered;
use model::{Model, Outlook};
use nnc_graph::Graph;
use nnc_opt::fuse::Partition;
use nnc_opt::recompute::{Choice, Dropped};
use std::collections::BTreeSet;

/// Into how many parts the bytes are cut by checkpoints; the first has none.
const PARTS: [usize; 12] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32];

/// A choice, and what is expected of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// What is dropped.
    pub choice: Choice,
    /// Bytes in use at the fullest launch, as far as can be told before it is lowered.
    pub bytes: usize,
    /// What it costs to compute it all again, in cycles of a core, roughly.
    pub work: f64,
}

/// The cheapest plan by which no more than `bytes` of the arena are in use at a time; else the one by which least are.
pub fn plan(graph: &Graph, partition: &Partition, lowered: &Lowered, bytes: usize) -> Plan {
    let model = Model::new(graph, partition, lowered);
    let plans = PARTS.iter().map(|&parts| Greedy::new(&model, parts).until(bytes));
    let cheapest = plans.min_by(|a, b| {
        let excess = |greedy: &Greedy<'_>| greedy.outlook.peak().1.saturating_sub(bytes);
        (excess(a), a.work()).partial_cmp(&(excess(b), b.work())).unwrap_or(std::cmp::Ordering::Equal)
    });
    cheapest.map_or_else(|| Plan { choice: Choice::default(), bytes: 0, work: 0.0 }, |greedy| greedy.plan())
}

/// The choice in the making.
struct Greedy<'m> {
    model: &'m Model,
    /// By value of the model.
    dropped: Vec<bool>,
    /// What stays in any case.
    kept: Vec<bool>,
    outlook: Outlook,
}

impl<'m> Greedy<'m> {
    /// Nothing is dropped yet; checkpoints cut the bytes into so many parts.
    fn new(model: &'m Model, parts: usize) -> Self {
        let dropped = vec![false; model.values.len()];
        let outlook = model.outlook(&dropped);
        Self { model, dropped, kept: checkpoints(model, parts), outlook }
    }

    /// Drops values until so many bytes are enough, or nothing helps.
    fn until(mut self, bytes: usize) -> Self {
        let mut refused: BTreeSet<Vec<usize>> = BTreeSet::new();
        let mut has_taken = false;
        loop {
            let (at, peak) = self.outlook.peak();
            if peak <= bytes {
                return self;
            }
            match self.best_taken(at, peak, &mut refused) {
                true => has_taken = true,
                // What did not help once may, by now.
                false if has_taken => {
                    refused.clear();
                    has_taken = false;
                }
                false => return self,
            }
        }
    }

    /// Drops the bundle of the greatest worth that helps at launch `at`, the fullest; notes those that do not help.
    fn best_taken(&mut self, at: usize, peak: usize, refused: &mut BTreeSet<Vec<usize>>) -> bool {
        let bundles = self.bundles(at).into_iter().filter(|bundle| !refused.contains(bundle));
        let mut bundles: Vec<(f64, Vec<usize>)> =
            bundles.filter_map(|bundle| Some((self.worth(&bundle, at)?, bundle))).collect();
        bundles.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        bundles.into_iter().any(|(_, bundle)| {
            let taken = self.take(&bundle, at, peak);
            if !taken {
                refused.insert(bundle);
            }
            taken
        })
    }

    /// What may be dropped together: each value that lies idle at a launch; those of one group that are cheap; all of a
    /// group; and each of these with whatever would have to be kept for it instead.
    fn bundles(&self, at: usize) -> BTreeSet<Vec<usize>> {
        let values = &self.model.values;
        let mut bundles = BTreeSet::new();
        for value in (0..values.len()).filter(|&value| self.is_idle(value, at) && self.may_drop(value)) {
            let mates = self.model.groups[values[value].group].iter().copied();
            let idle: BTreeSet<usize> = mates.filter(|&mate| self.is_idle(mate, at) && self.may_drop(mate)).collect();
            let cheap: BTreeSet<usize> = idle.iter().copied().filter(|&mate| values[mate].is_cheap).collect();
            for bundle in [BTreeSet::from([value]), cheap, idle] {
                bundles.insert(self.with_sources(&bundle, at).into_iter().collect());
                bundles.insert(bundle.into_iter().collect());
            }
        }
        bundles.remove(&Vec::new());
        bundles
    }

    fn may_drop(&self, value: usize) -> bool {
        !self.dropped[value] && !self.kept[value] && self.model.values[value].may_drop
    }

    /// A bundle with the sources that would have to be kept for it, and with theirs, as far as they may be dropped.
    fn with_sources(&self, bundle: &BTreeSet<usize>, at: usize) -> BTreeSet<usize> {
        let mut whole = bundle.clone();
        loop {
            let more: Vec<usize> =
                self.lingering(&whole, at).into_iter().filter(|&value| self.may_drop(value)).collect();
            if more.is_empty() {
                return whole;
            }
            whole.extend(more);
        }
    }

    /// Sources of a bundle that lie there at a launch only for its sake.
    fn lingering(&self, bundle: &BTreeSet<usize>, at: usize) -> BTreeSet<usize> {
        let values = &self.model.values;
        let sources = bundle.iter().flat_map(|&value| values[value].sources.iter().copied());
        let lies_there = |source: usize| {
            let life = &self.outlook.lives[source];
            if values[source].is_stored { life.last >= at } else { life.again.is_some() }
        };
        sources.filter(|&source| !bundle.contains(&source) && !self.dropped[source] && !lies_there(source)).collect()
    }

    /// Whether a value lies there at a launch, and is not read for a while before and after it.
    fn is_idle(&self, value: usize, at: usize) -> bool {
        let (values, life) = (&self.model.values[value], &self.outlook.lives[value]);
        let later = life.again.is_some_and(|again| at < again);
        values.is_stored && values.until < at && later
    }

    /// Bytes that are free at a launch without these, for each cycle of work; none if none are.
    fn worth(&self, bundle: &[usize], at: usize) -> Option<f64> {
        let values = &self.model.values;
        let bytes = |value: usize| values[value].bytes;
        let freed: usize = bundle.iter().filter(|&&value| self.is_idle(value, at)).map(|&value| bytes(value)).sum();
        let whole: BTreeSet<usize> = bundle.iter().copied().collect();
        let kept: usize = self.lingering(&whole, at).into_iter().map(bytes).sum();
        let work: f64 = bundle.iter().map(|&value| values[value].work).sum();
        (freed > kept).then(|| (freed - kept) as f64 / work.max(1.0))
    }

    /// Drops a bundle if less is in use at launch `at` then, and nowhere more than the peak was.
    fn take(&mut self, bundle: &[usize], at: usize, peak: usize) -> bool {
        bundle.iter().for_each(|&value| self.dropped[value] = true);
        let outlook = self.model.outlook(&self.dropped);
        let helps = outlook.in_use[at] < peak && outlook.peak().1 <= peak;
        match helps {
            true => self.outlook = outlook,
            false => bundle.iter().for_each(|&value| self.dropped[value] = false),
        }
        helps
    }

    fn work(&self) -> f64 {
        let dropped = self.model.values.iter().zip(&self.dropped).filter(|(_, dropped)| **dropped);
        dropped.map(|(value, _)| value.work).sum()
    }

    fn plan(&self) -> Plan {
        let values = self.model.values.iter().enumerate().filter(|(at, _)| self.dropped[*at]);
        let dropped = values.filter_map(|(at, value)| {
            let again = self.outlook.lives[at].again?;
            Some((value.id, Dropped { until: value.until, again }))
        });
        let choice = Choice { dropped: dropped.collect(), times: self.model.times.clone() };
        Plan { choice, bytes: self.outlook.peak().1, work: self.work() }
    }
}

/// Values of products that stay: each time that so much is passed, one.
fn checkpoints(model: &Model, parts: usize) -> Vec<bool> {
    let is_product = |value: &model::Value| value.may_drop && !value.is_cheap;
    let all: usize = model.values.iter().filter(|value| is_product(value)).map(|value| value.bytes).sum();
    let mut kept = vec![false; model.values.len()];
    let mut passed = 0;
    for (at, value) in model.values.iter().enumerate().filter(|(_, value)| is_product(value)) {
        passed += value.bytes;
        if parts > 1 && passed >= all.div_ceil(parts) {
            kept[at] = true;
            passed = 0;
        }
    }
    kept
}
