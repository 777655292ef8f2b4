//! The products of a network that may be quantised, and what is chosen for each.

use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::narrow::tables::Tables;
use crate::project::Project;
use crate::quantise::examples::Examples;
use crate::quantise::looked::Program;
use crate::quantise::moments::{self, Moments};
use crate::quantise::observe::{self, Method, Observation, Observations, Role};
use crate::quantise::rounding::{self, Given};
use crate::quantise::weights::{self, Quantised};
use crate::quantise::{Outcome, Reason, Report, Request, Row, Times, Wanted, Widened, file, rows};
use crate::quantise::{shifts, timing};
use crate::store::Store;
use nnc_graph::{Graph, NodeId, Tensor, TensorType};
use nnc_opt::quantise::{Layer, Range, Site, scales_path, shifts_path, sites, weights_path};
use std::collections::{BTreeMap, BTreeSet};

/// Weights that may be quantised, with the products by them.
pub struct Candidate {
    /// Its products, one at least.
    pub sites: Vec<Site>,
    /// The weights as floats.
    floats: Tensor,
    /// They as whole numbers, each the nearest, unless one is no finite number.
    made: Option<Quantised>,
    /// The range of what its activations are sums of, if there is one.
    summands: Option<Range>,
    /// What its activations are computed by, in all programs that were looked at.
    marks: BTreeSet<u64>,
    refined: Refined,
    /// What is told of it.
    pub row: Row,
}

/// What is made better by examples once ranges are known.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Refinement {
    /// Weights become the numbers that results change least with: [`rounding`].
    Weights,
    /// What rounding takes from results in the mean is added to them: [`shifts`].
    Means,
}

impl Refinement {
    /// What is being done.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Weights => "rounding the weights by examples",
            Self::Means => "setting the means right",
        }
    }
}

/// What refinements made of a product, where they were asked for.
#[derive(Clone, Default, Debug)]
pub struct Refined {
    /// Whole numbers in the place of the nearest ones.
    weights: Option<Tensor>,
    /// What is added to results.
    shift: Option<Tensor>,
}

/// Of fewer examples it is more these examples that integers are made better for.
pub const LEAST_EXAMPLES: usize = 32;

/// All of a network.
pub struct Candidates {
    /// The program that is timed.
    graph: Graph,
    /// The examples of a run of it.
    rows: usize,
    /// In program order.
    pub all: Vec<Candidate>,
    /// What is told of the products that cannot be quantised, each with its place among the nodes of the program.
    left_out: Vec<(NodeId, Row)>,
    calibrated_on: Option<usize>,
    /// Seconds of a run, if that was asked for.
    times: Option<Times>,
}

impl Candidates {
    /// Every product of the first of some programs, with its range, as activations are in all of them or as it was
    /// trained, and its integers, or why it has none. `rows` are the examples of a call.
    ///
    /// # Errors
    /// No products, or what cannot be compiled or run.
    pub fn new(
        programs: Vec<Program>,
        rows: usize,
        (compiler, store): (&Compiler, &mut Store),
        (examples, calibrated_on): (&mut dyn Examples, usize),
        (request, trained): (&Request, &BTreeMap<String, Range>),
    ) -> Result<Self, DriverError> {
        let uses = by_name(sites(&programs[0].graph));
        if uses.is_empty() {
            return Err(DriverError::Usage(rows::why_nothing(&programs[0].graph)));
        }
        let graphs = programs.iter().map(|program| &program.graph);
        let (seen, calibrated_on) = match trained.is_empty() {
            true => (observe::observe(graphs, request.method, (compiler, store), examples)?, Some(calibrated_on)),
            false => (Observations::new(), None),
        };
        let firsts: Vec<Site> = uses.iter().map(|uses| uses[0].clone()).collect();
        let floats = weights::floats(&programs[0].graph, &firsts, (compiler, store))?;
        let candidate = |(sites, weights): (Vec<Site>, Tensor)| {
            let first = &sites[0];
            let summands = seen.get(&(first.name.clone(), Role::Summands)).and_then(|seen| seen.range(request.method));
            let seen = seen.get(&(first.name.clone(), Role::Input));
            let range = match calibrated_on {
                Some(_) => range(seen, request.method),
                None => trained.get(first.layer()).copied().ok_or(Reason::NotTrained),
            };
            let made = weights::quantise(first, &weights);
            let choice = choice(first, range, made.is_some());
            let products = sites.iter().map(|site| site.products).sum::<usize>() / rows;
            let (name, elements) = (first.name.clone(), weights.elements());
            let widened = seen.and_then(|seen| widened(seen, &programs));
            let marks = programs.iter().filter_map(|program| program.marks.get(&name)).flatten().copied().collect();
            let layer = String::new();
            let row = Row { name, layer, elements, products, choice, widened, times: None, drop: None };
            Candidate { floats: weights, made, summands, marks, refined: Refined::default(), row, sites }
        };
        let mut all: Vec<Candidate> = uses.into_iter().zip(floats).map(candidate).collect();
        let graph = programs.into_iter().next().expect("there is one").graph;
        let mut left_out = rows::left_out_rows(&graph, rows);
        let named = all.iter_mut().map(|candidate| &mut candidate.row);
        rows::name_layers(named.chain(left_out.iter_mut().map(|(_, row)| row)));
        Ok(Self { all, left_out, graph, rows, calibrated_on, times: None })
    }

    /// Leaves alone what integers do slower: first each product by itself, then the network, as what one product costs
    /// depends on whether its neighbours take and give bytes. The fastest of three is chosen: those that are faster by
    /// themselves, all, none. `store` has all that the program reads.
    ///
    /// # Errors
    /// What cannot be compiled or run.
    pub fn time(&mut self, compiler: &Compiler, store: &Store) -> Result<(), DriverError> {
        for candidate in self.all.iter_mut().filter(|candidate| candidate.row.choice.is_ok()) {
            candidate.row.times = candidate.times(&self.graph, compiler)?;
        }
        let share = |times: Option<Times>| times.map_or(1.0, |times| times.integers / times.float);
        let store = self.beside(store);
        self.times = self.whole_times(compiler, &store)?;
        let every: Vec<_> = self.all.iter().map(|candidate| candidate.row.choice).collect();
        let is_slower = |row: &Row| row.times.is_some_and(|times| times.integers > times.float);
        if self.leave(Reason::Slower, is_slower) > 0 {
            let some = self.whole_times(compiler, &store)?;
            if share(some) < share(self.times) {
                self.times = some;
            } else {
                self.all.iter_mut().zip(every).for_each(|(candidate, choice)| candidate.row.choice = choice);
            }
        }
        if share(self.times) > 1.0 {
            self.leave(Reason::NetworkSlower, |_| true);
        }
        Ok(())
    }

    /// Whether so many examples are enough to refine integers by, and ranges not those of a training, which saw the
    /// rounding.
    pub fn may_be_refined(&self, count: usize) -> bool {
        self.calibrated_on.is_some() && count >= LEAST_EXAMPLES
    }

    /// Refines what is rounded of the chosen products, by so many examples, if it [may be](Self::may_be_refined).
    /// `store` has all that the program reads.
    ///
    /// # Errors
    /// What cannot be compiled or run.
    pub fn refine(
        &mut self,
        refinement: Refinement,
        (compiler, store): (&Compiler, &Store),
        (examples, count): (&mut dyn Examples, usize),
    ) -> Result<(), DriverError> {
        if !self.may_be_refined(count) {
            return Ok(());
        }
        let mut store = self.beside(store);
        match refinement {
            Refinement::Weights => self.fit((compiler, &mut store), examples),
            Refinement::Means => self.shift((compiler, &mut store), examples),
        }
    }

    /// What refinements made, to come back to.
    pub fn refined(&self) -> Vec<Refined> {
        self.all.iter().map(|candidate| candidate.refined.clone()).collect()
    }

    /// Comes back to what refinements made; by nothing, to what was before all of them.
    pub fn refined_by(&mut self, refined: Vec<Refined>) {
        let refined = refined.into_iter().chain(std::iter::repeat_with(Refined::default));
        self.all.iter_mut().zip(refined).for_each(|(candidate, refined)| candidate.refined = refined);
    }

    fn fit(
        &mut self,
        (compiler, store): (&Compiler, &mut Store),
        examples: &mut dyn Examples,
    ) -> Result<(), DriverError> {
        let graph = &self.graph;
        let is_found =
            |candidate: &&mut Candidate| candidate.row.choice.is_ok() && moments::are_found(graph, &candidate.sites);
        let mut chosen: Vec<&mut Candidate> = self.all.iter_mut().filter(is_found).collect();
        let uses: Vec<Vec<Site>> = chosen.iter().map(|candidate| candidate.sites.clone()).collect();
        let products: Vec<&[Site]> = uses.iter().map(Vec::as_slice).collect();
        let mut round = |places: &[usize], moments: Moments| {
            let given = |&at: &usize| {
                let Candidate { sites, floats, made, .. } = &*chosen[at];
                Some((at, (&sites[0], floats, made.as_ref()?)))
            };
            let (places, given): (Vec<usize>, Vec<Given<'_>>) = places.iter().filter_map(given).unzip();
            let made = rounding::round(&given, &moments, compiler.pool.threads());
            let mut made = made.into_iter().flatten();
            places.into_iter().for_each(|at| chosen[at].refined.weights = made.next());
        };
        moments::find(graph, &products, (compiler, store), examples, &mut round)
    }

    fn shift(
        &mut self,
        (compiler, store): (&Compiler, &mut Store),
        examples: &mut dyn Examples,
    ) -> Result<(), DriverError> {
        let chosen = self.all.iter_mut().filter(|candidate| candidate.row.choice.is_ok());
        let mut chosen: Vec<&mut Candidate> = chosen.collect();
        let products = chosen.iter().filter_map(|candidate| Some((candidate.layer()?, &candidate.sites[..])));
        let found = shifts::find(&self.graph, products.collect(), (compiler, store), examples)?;
        chosen.iter_mut().zip(found).for_each(|(candidate, shift)| candidate.refined.shift = Some(shift));
        Ok(())
    }

    /// Whether a refinement is made of any that is chosen.
    pub fn are_refined(&self, refinement: Refinement) -> bool {
        let mut chosen = self.all.iter().filter(|candidate| candidate.row.choice.is_ok());
        chosen.any(|candidate| match refinement {
            Refinement::Weights => candidate.refined.weights.is_some(),
            Refinement::Means => candidate.refined.shift.is_some(),
        })
    }

    /// Leaves those of the chosen products alone that are meant; says how many.
    fn leave(&mut self, reason: Reason, is_meant: impl Fn(&Row) -> bool) -> usize {
        let rows = self.all.iter_mut().map(|candidate| &mut candidate.row);
        let meant = rows.filter(|row| row.choice.is_ok() && is_meant(row));
        meant.map(|row| row.choice = Err(reason)).count()
    }

    /// Times of the whole network as it is chosen now; nothing if no product is quantised.
    fn whole_times(&self, compiler: &Compiler, store: &Store) -> Result<Option<Times>, DriverError> {
        let layers = self.layers();
        match layers.is_empty() {
            true => Ok(None),
            false => timing::measure_all(&self.graph, &layers, (compiler, store)).map(Some),
        }
    }

    /// The tensors of a store, with the integers beside them.
    fn beside(&self, store: &Store) -> Store {
        let mut all = store.copied();
        self.tensors().iter().for_each(|(path, tensor)| all.insert(path, tensor));
        all
    }

    /// What is written and told: `wanted` says what a project's inference reads.
    ///
    /// # Errors
    /// As `wanted` has.
    pub fn outcome(
        self,
        (project, mut store): (&Project, Store),
        tables: Tables,
        wanted: impl Fn(&Project) -> Result<Wanted, DriverError>,
    ) -> Result<Outcome, DriverError> {
        let layers = self.layers();
        layers.iter().flat_map(file::range_tensors).for_each(|(path, tensor)| store.insert(&path, &tensor));
        self.tensors().iter().for_each(|(path, tensor)| store.insert(path, tensor));
        let bytes = |wanted: &Wanted| wanted.values().map(TensorType::bytes).sum();
        let before = bytes(&wanted(project)?);
        tables.tensors.iter().for_each(|(path, tensor)| store.insert(path, tensor));
        let wanted = wanted(&Project { quantised: layers, stored: tables.matrices, ..project.clone() })?;
        let (times, run, calibrated_on) = (self.times, self.rows, self.calibrated_on);
        let [are_fitted, are_shifted] = [Refinement::Weights, Refinement::Means].map(|of| self.are_refined(of));
        let served = self.all.into_iter().map(|candidate| (candidate.sites[0].node, candidate.row));
        let mut rows: Vec<(NodeId, Row)> = served.chain(self.left_out).collect();
        rows.sort_by_key(|(node, _)| *node);
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        let (measured, answers, bytes) = (None, Vec::new(), [before, bytes(&wanted)]);
        let report = Report {
            measured,
            calibrated_on,
            are_fitted,
            are_shifted,
            answers,
            times,
            run,
            bytes,
            rows,
            tables: tables.rows,
        };
        Ok(Outcome { report, store, wanted })
    }

    /// Those that are quantised.
    pub fn layers(&self) -> Vec<Layer> {
        self.all.iter().filter_map(Candidate::layer).collect()
    }

    /// The tensors of all that could be quantised.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let made = self.all.iter().filter_map(|candidate| Some((candidate, candidate.made.as_ref()?)));
        let both = made.flat_map(|(candidate, made)| {
            let (name, numbers) = (&candidate.row.name, candidate.refined.weights.as_ref().unwrap_or(&made.weights));
            [(weights_path(name), numbers.clone()), (scales_path(name), made.scales.clone())]
        });
        let shifted =
            self.all.iter().filter_map(|candidate| Some((&candidate.row.name, candidate.refined.shift.clone()?)));
        both.chain(shifted.map(|(name, shift)| (shifts_path(name), shift))).collect()
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
        let (name, marks) = (self.row.name.clone(), self.marks.clone());
        Some(Layer { name, input, summands: self.summands, marks, is_shifted: self.refined.shift.is_some() })
    }

    /// Seconds of its products, by floats and by integers; nothing where it has no integers.
    fn times(&self, graph: &Graph, compiler: &Compiler) -> Result<Option<Times>, DriverError> {
        let Some(made) = &self.made else { return Ok(None) };
        let mut whole = Times { float: 0.0, integers: 0.0 };
        for site in &self.sites {
            let times = timing::measure((graph, site), (&self.floats, made), compiler)?;
            whole.float += times.float;
            whole.integers += times.integers;
        }
        Ok(Some(whole))
    }
}

/// The range that a method finds in what was seen, or why there is none.
fn range(seen: Option<&Observation>, method: Method) -> Result<Range, Reason> {
    let seen = seen.ok_or(Reason::NeverExercised)?;
    seen.range(method).ok_or_else(|| match seen.ends().magnitude() {
        0.0 => Reason::NeverExercised,
        magnitude if magnitude.is_finite() => Reason::Vanishing,
        _ => Reason::NotFinite,
    })
}

/// The range of a product's activations, or why it stays one of floats.
fn choice(site: &Site, range: Result<Range, Reason>, has_integers: bool) -> Result<Range, Reason> {
    if site.is_small() {
        return Err(if site.has_few_terms() { Reason::FewTerms } else { Reason::FewChannels });
    }
    if has_integers { range } else { Err(Reason::WeightsNotFinite) }
}

/// A program with activations more than this many times as large as those of the first one is told of.
const WIDE: f32 = 2.0;

/// The program that makes a range much wider than the first one would have it.
fn widened(seen: &Observation, programs: &[Program]) -> Option<Widened> {
    let magnitudes = seen.by_program.iter().map(|ends| ends.magnitude());
    let (widest, magnitude) = magnitudes.enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let times = magnitude / seen.by_program[0].magnitude();
    (times.is_finite() && times > WIDE).then(|| Widened { by: programs[widest].name.clone(), times })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantise::histogram::Histogram;
    use crate::quantise::observe::Ends;

    #[test]
    fn why_there_is_no_range_is_told_apart() {
        let found = |least: f32, most: f32| {
            let seen = Observation { by_program: vec![Ends { least, most }], histogram: Histogram::default() };
            range(Some(&seen), Method::MinMax).map(|range| range.signed)
        };
        assert_eq!(found(-1.0, 2.0), Ok(true));
        assert_eq!(found(0.0, 0.0), Err(Reason::NeverExercised));
        assert_eq!(found(0.0, 1e-40), Err(Reason::Vanishing));
        assert_eq!(found(f32::NAN, f32::NAN), Err(Reason::NotFinite));
        assert_eq!(found(0.0, f32::INFINITY), Err(Reason::NotFinite));
    }
}
