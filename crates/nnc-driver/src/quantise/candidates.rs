//! The products of a network that may be quantised, and what is chosen for each.

use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::project::Project;
use crate::quantise::examples::Examples;
use crate::quantise::weights::{self, Quantised};
use crate::quantise::{Outcome, Reason, Report, Request, Row, Times, Wanted, file, observe, timing};
use crate::store::Store;
use nnc_graph::{Graph, Tensor, TensorType};
use nnc_opt::quantise::{Layer, Range, Site, scales_path, sites, weights_path};
use std::collections::BTreeMap;

/// Weights that may be quantised, with the products by them.
pub struct Candidate {
    /// Its products, one at least.
    pub sites: Vec<Site>,
    made: Option<(Range, Quantised)>,
    /// What is told of it.
    pub row: Row,
}

/// All of a network.
pub struct Candidates {
    /// The program that is timed.
    graph: Graph,
    /// In program order.
    pub all: Vec<Candidate>,
    calibrated_on: Option<usize>,
    /// Seconds of a run, if that was asked for.
    times: Option<Times>,
}

impl Candidates {
    /// Every product of the first of some programs, with its range, as activations are in all of them or as it was trained,
    /// and its integers, or why it has none. `rows` are the examples of a call.
    ///
    /// # Errors
    /// No products, or what cannot be compiled or run.
    pub fn new(
        graphs: Vec<Graph>,
        rows: usize,
        (compiler, store): (&Compiler, &mut Store),
        (examples, calibrated_on): (&mut dyn Examples, usize),
        (request, trained): (&Request, &BTreeMap<String, Range>),
    ) -> Result<Self, DriverError> {
        let uses = by_name(sites(&graphs[0]));
        if uses.is_empty() {
            let message = "this network has no product of activations by weights outside of loops";
            return Err(DriverError::Usage(message.to_owned()));
        }
        let (seen, calibrated_on) = match trained.is_empty() {
            true => (observe::observe(&graphs, request.method, (compiler, store), examples)?, Some(calibrated_on)),
            false => (BTreeMap::new(), None),
        };
        let firsts: Vec<Site> = uses.iter().map(|uses| uses[0].clone()).collect();
        let floats = weights::floats(&graphs[0], &firsts, (compiler, store))?;
        let layers = layers_of(&firsts);
        let candidate = |((sites, weights), layer): ((Vec<Site>, Tensor), String)| {
            let first = &sites[0];
            let seen = seen.get(&first.name);
            let range = match calibrated_on {
                Some(_) => seen.and_then(|seen| seen.range(request.method)),
                None => trained.get(first.layer()).copied(),
            };
            let made = range.and_then(|range| Some((range, weights::quantise(first, &weights)?)));
            let choice = match (&made, range) {
                _ if first.is_small() => Err(Reason::Small),
                (Some((range, _)), _) => Ok(*range),
                (None, Some(_)) => Err(Reason::WeightsNotFinite),
                (None, None) if calibrated_on.is_none() => Err(Reason::NotTrained),
                (None, None) if seen.is_some_and(|seen| seen.most == 0.0) => Err(Reason::NeverExercised),
                (None, None) => Err(Reason::NotFinite),
            };
            let products = sites.iter().map(|site| site.products).sum::<usize>() / rows;
            let (name, elements) = (first.name.clone(), weights.elements());
            Candidate { made, row: Row { name, layer, elements, products, choice, times: None, drop: None }, sites }
        };
        let all = uses.into_iter().zip(floats).zip(layers).map(candidate).collect();
        Ok(Self { all, graph: graphs.into_iter().next().expect("there is one"), calibrated_on, times: None })
    }

    /// Leaves alone what integers do slower: first each product by itself, then the network, as what one product costs
    /// depends on whether its neighbours take and give bytes. The fastest of three is chosen: those that are faster by
    /// themselves, all, none.
    ///
    /// # Errors
    /// What cannot be compiled or run.
    pub fn time(&mut self, compiler: &Compiler) -> Result<(), DriverError> {
        let graph = &self.graph;
        for candidate in self.all.iter_mut().filter(|candidate| candidate.row.choice.is_ok()) {
            let mut whole = Times { float: 0.0, integers: 0.0 };
            for site in &candidate.sites {
                let times = timing::measure(graph, site, compiler)?;
                whole.float += times.float;
                whole.integers += times.integers;
            }
            candidate.row.times = Some(whole);
        }
        let share = |times: Option<Times>| times.map_or(1.0, |times| times.integers / times.float);
        self.times = self.whole_times(compiler)?;
        let every: Vec<_> = self.all.iter().map(|candidate| candidate.row.choice).collect();
        if self.leave(|row| row.times.is_some_and(|times| times.integers > times.float)) > 0 {
            let some = self.whole_times(compiler)?;
            if share(some) < share(self.times) {
                self.times = some;
            } else {
                self.all.iter_mut().zip(every).for_each(|(candidate, choice)| candidate.row.choice = choice);
            }
        }
        if share(self.times) > 1.0 {
            self.leave(|_| true);
            self.times = None;
        }
        Ok(())
    }

    /// Leaves those of the chosen products alone as slower that are meant; says how many.
    fn leave(&mut self, is_meant: impl Fn(&Row) -> bool) -> usize {
        let rows = self.all.iter_mut().map(|candidate| &mut candidate.row);
        let meant = rows.filter(|row| row.choice.is_ok() && is_meant(row));
        meant.map(|row| row.choice = Err(Reason::Slower)).count()
    }

    /// Times of the whole network as it is chosen now; nothing if no product is quantised.
    fn whole_times(&self, compiler: &Compiler) -> Result<Option<Times>, DriverError> {
        let layers = self.layers();
        match layers.is_empty() {
            true => Ok(None),
            false => timing::measure_all(&self.graph, &layers, compiler).map(Some),
        }
    }

    /// What is written and told: `wanted` says what a project's inference reads.
    ///
    /// # Errors
    /// As `wanted` has.
    pub fn outcome(
        self,
        (project, mut store): (&Project, Store),
        wanted: impl Fn(&Project) -> Result<Wanted, DriverError>,
    ) -> Result<Outcome, DriverError> {
        let layers = self.layers();
        layers.iter().map(file::range_tensor).for_each(|(path, tensor)| store.insert(&path, &tensor));
        self.tensors().iter().for_each(|(path, tensor)| store.insert(path, tensor));
        let bytes = |wanted: &Wanted| wanted.values().map(TensorType::bytes).sum();
        let before = bytes(&wanted(project)?);
        let wanted = wanted(&Project { quantised: layers, ..project.clone() })?;
        let (times, calibrated_on) = (self.times, self.calibrated_on);
        let rows = self.all.into_iter().map(|candidate| candidate.row).collect();
        let (measured, answers, bytes) = (None, Vec::new(), [before, bytes(&wanted)]);
        let report = Report { measured, calibrated_on, answers, times, bytes, rows };
        Ok(Outcome { report, store, wanted })
    }

    /// Those that are quantised.
    pub fn layers(&self) -> Vec<Layer> {
        self.all.iter().filter_map(Candidate::layer).collect()
    }

    /// The tensors of all that could be quantised.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let made = self.all.iter().filter_map(|candidate| Some((&candidate.row.name, &candidate.made.as_ref()?.1)));
        let both = made.flat_map(|(name, made)| {
            [(weights_path(name), made.weights.clone()), (scales_path(name), made.scales.clone())]
        });
        both.collect()
    }

    /// Takes the chosen product at `at` back to floats.
    pub fn refuse(&mut self, at: usize, reason: Reason) {
        self.all[at].row.choice = Err(reason);
        self.times = None;
    }
}

impl Candidate {
    /// Its range, if it is quantised.
    pub fn layer(&self) -> Option<Layer> {
        let input = self.row.choice.ok()?;
        Some(Layer { name: self.row.name.clone(), input })
    }
}

/// The sites of each name, in the order of the first.
fn by_name(sites: Vec<Site>) -> Vec<Vec<Site>> {
    let (mut places, mut found) = (BTreeMap::new(), Vec::<Vec<Site>>::new());
    for site in sites {
        let at = *places.entry(site.name.clone()).or_insert(found.len());
        match found.get_mut(at) {
            Some(uses) => uses.push(site),
            None => found.push(vec![site]),
        }
    }
    found
}

/// What sites are called where a short name does: the layer, if no other site has it, else the parameter, else all of it.
fn layers_of(sites: &[Site]) -> Vec<String> {
    let parameter = |site: &Site| site.name.split('@').next().unwrap_or_default().to_owned();
    let layer = |site: &Site| {
        let parameter = parameter(site);
        parameter.rsplit_once('.').map_or(parameter.clone(), |(layer, _)| layer.to_owned())
    };
    let shortest = |site: &Site| {
        let is_alone =
            |short: &dyn Fn(&Site) -> String| sites.iter().filter(|other| short(other) == short(site)).count() == 1;
        if is_alone(&layer) {
            layer(site)
        } else if is_alone(&parameter) {
            parameter(site)
        } else {
            site.name.clone()
        }
    };
    sites.iter().map(shortest).collect()
}
