//! Structured pruning of a recipe's weights: channels that go, tensors that get smaller, and the record of it.
//!
//! The `.nn` file declares the full widths. What was kept is in the file of weights, `$prune.PATH.channels.AXIS`, and
//! from there in [`Project::channels`](crate::Project::channels), by which every graph of the project is made smaller.
//! The analysis and the choice are [`nnc_opt::prune::channels`]'s; how long what may go takes is `pace`'s.

use super::pace::Clock;
use super::{Scope, check_over, covers, parameters};
use crate::error::DriverError;
use crate::project::Project;
use crate::session::Session;
use crate::store::{RESERVED, Store};
use nnc_graph::{Graph, Tensor};
use nnc_lang::elaborate::{DataInfo, RecipeInfo};
use nnc_opt::prune::channels::{Free, Group, Network, Record, Stays, Wanted, choose, recorded_axis, stays, without};
use nnc_opt::prune::judged_parameter;
use std::collections::{BTreeMap, BTreeSet};

/// What is to go.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The share of the multiply-adds that go, above 0 and below 1.
    pub share: f64,
    /// Whether the least channels of all groups go, or the same share of each.
    pub scope: Scope,
    /// What the number of channels that stay is a multiple of, where it changes and the group is large enough.
    pub multiple: usize,
    /// Paths of parameters, or of layers, whose groups may lose channels; empty for all.
    pub over: Vec<String>,
    /// The examples of a run whose time counts, too, with [`Scope::Global`]; none where the worth of channels alone does.
    pub timed: Option<usize>,
}

/// What became of a group of coupled channels.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The parameters and states that have its channels, each with the axis.
    pub members: Vec<(String, usize)>,
    /// Channels before and after.
    pub channels: [usize; 2],
    /// How many channels of a layer each is: [`Group::width`].
    pub width: usize,
    /// Multiply-adds of an example, of all products that its channels take part in, before and after.
    pub multiply_adds: [u64; 2],
    /// Why it was left alone, if it was.
    pub stays: Option<Stays>,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The groups in program order.
    pub rows: Vec<Row>,
    /// Multiply-adds of the evaluation of an example, before and after.
    pub multiply_adds: [u64; 2],
    /// Elements of parameters, before and after, as `nnc show` counts them.
    pub elements: [usize; 2],
    /// Bytes of parameters and states.
    pub bytes: [usize; 2],
}

/// Removes the channels that count least from a session's weights and masks, and puts the record beside them. The
/// session's programs are still those of the weights before.
///
/// # Errors
/// [`DriverError::Usage`] for a path that names nothing, when nothing may go, or not as much. Then nothing was changed.
pub fn prune_channels(session: &mut Session<'_>, project: &Project, request: &Request) -> Result<Report, DriverError> {
    let recipe = session.recipe();
    let network = network(project, recipe, &project.channels)?;
    check_over(&request.over, &parameters(&project.graph(evaluation(project, recipe))?))?;
    let groups = layers(network.groups(), session.data());
    let store = session.store_mut();
    let judged: Vec<Option<Stays>> = groups.iter().map(|group| judge(group, &network, request)).collect();
    let free: Vec<&Group> = groups.iter().zip(&judged).filter(|(_, stays)| stays.is_none()).map(|(g, _)| g).collect();
    if free.is_empty() {
        return Err(DriverError::Usage(nothing_may_go(&groups, &judged)));
    }
    let worth = network.importance(|path| store.tensor(path));
    let wanted = Wanted { share: request.share, scope: request.scope, multiple: request.multiple };
    let free = timed(&free, (project, recipe), &network, request)?;
    let gone = choose(&free, &worth, (&network.cost, &network.gone), wanted).map_err(|most| too_much(most, request))?;
    let rows = Project::batch(recipe) as u64;
    let costs = |group: &Group| [&network.gone, &gone].map(|gone| network.cost.of_group(group, gone) / rows);
    let left = |group: &Group| group.channels.iter().filter(|class| !gone.contains(class)).count();
    let row = |(group, stays): (&Group, Option<Stays>)| Row {
        members: group.members.iter().map(|member| (member.path.clone(), member.axis)).collect(),
        channels: [group.channels.len(), left(group)],
        width: group.width(),
        multiply_adds: costs(group),
        stays,
    };
    let rows_of_groups = groups.iter().zip(judged).map(row).collect();
    let before = sizes(store, &recipe.states);
    cut(store, &project.channels, &network.record(&gone));
    let after = sizes(store, &recipe.states);
    Ok(Report {
        rows: rows_of_groups,
        multiply_adds: [&network.gone, &gone].map(|gone| network.cost.of(gone) / rows),
        elements: [before.0, after.0],
        bytes: [before.1, after.1],
    })
}

/// Groups with the time that goes with their multiply-adds, where that counts.
fn timed<'g>(
    groups: &[&'g Group],
    (project, recipe): (&Project, &RecipeInfo),
    network: &Network,
    request: &Request,
) -> Result<Vec<Free<'g>>, DriverError> {
    let clock = match (request.scope, request.timed) {
        (Scope::Global, Some(rows)) => Some(Clock::new((project, recipe), network, rows)?),
        (Scope::Global, None) | (Scope::Layer, _) => None,
    };
    let pace = |group: &Group| clock.as_ref().map_or(Ok(1.0), |clock| clock.pace(group, request.multiple));
    groups.iter().map(|&group| Ok(Free { group, pace: pace(group)? })).collect()
}

fn evaluation(project: &Project, recipe: &RecipeInfo) -> Result<Graph, Vec<nnc_lang::diagnostic::Diagnostic>> {
    project.unit.evaluate(&recipe.name, Project::batch(recipe))
}

/// The channels of a recipe, followed through all of its programs whose sizes are known, the evaluation first.
fn network(project: &Project, recipe: &RecipeInfo, record: &Record) -> Result<Network, DriverError> {
    let (unit, name, batch) = (&project.unit, recipe.name.as_str(), Project::batch(recipe));
    let plain = recipe.answers.iter().filter(|answer| answer.parameters.is_none());
    let answers = plain.map(|answer| unit.answer(name, Some(&answer.name), batch));
    let pictures = (!recipe.pictures.is_empty()).then(|| unit.pictures(name, batch));
    let first = [evaluation(project, recipe), unit.train_step(name, batch)];
    let graphs: Result<Vec<Graph>, DriverError> =
        first.into_iter().chain(answers).chain(pictures).map(|made| project.checked(made)).collect();
    Network::new(&graphs?, record).map_err(DriverError::Usage)
}

/// The groups of what a model has: statistics of data are no layers.
fn layers(mut groups: Vec<Group>, data: &DataInfo) -> Vec<Group> {
    let is_statistic = |path: &str| data.lessons.iter().any(|lesson| lesson.path == path);
    groups.iter_mut().for_each(|group| group.members.retain(|member| !is_statistic(&member.path)));
    groups.retain(|group| !group.members.is_empty());
    groups
}

fn judge(group: &Group, network: &Network, request: &Request) -> Option<Stays> {
    let asked = |over: &String| group.members.iter().any(|member| covers(over, &member.path));
    let is_asked = request.over.is_empty() || request.over.iter().any(asked);
    stays(group, is_asked, &network.cost, &network.gone)
}

fn nothing_may_go(groups: &[Group], judged: &[Option<Stays>]) -> String {
    let line = |(group, stays): (&Group, &Option<Stays>)| {
        let first = group.members.first()?;
        Some(format!("\n  {} axis {}: {}", first.path, first.axis, stays.as_ref()?))
    };
    let listed: String = groups.iter().zip(judged).filter_map(line).collect();
    format!("no channels of this can go:{listed}")
}

fn too_much(most: f64, request: &Request) -> DriverError {
    let [asked, most] = [request.share, most].map(|share| share * 100.0);
    DriverError::Usage(format!(
        "{most:.1} % of the multiply-adds can go at most, not {asked:.1} %, as a multiple of {} channels stays where there are \
         as many (`nnc prune --multiple` says how many)",
        request.multiple
    ))
}

/// Elements of parameters, and the bytes of these and of states.
fn sizes(store: &Store, states: &BTreeSet<String>) -> (usize, usize) {
    let own = store.iter().filter(|(path, _)| !path.starts_with(RESERVED));
    own.fold((0, 0), |(elements, bytes), (path, entry)| {
        let more = if states.contains(path) { 0 } else { entry.ty.shape.elements().size() };
        (elements + more, bytes + entry.ty.bytes())
    })
}

/// What a path of the store has the channels of: a mask and a score those of their parameter.
fn resident(path: &str) -> &str {
    judged_parameter(path).unwrap_or(path)
}

/// Brings a store from what one record says is left to what another does, which keeps no more, and puts that beside it.
fn cut(store: &mut Store, before: &Record, after: &Record) {
    let paths: Vec<String> = store.iter().map(|(path, _)| path.to_owned()).collect();
    for path in paths {
        for (axis, kept) in after.of(resident(&path)) {
            let Some(tensor) = store.tensor(&path) else { continue };
            let known = before.of(resident(&path)).find(|(other, _)| *other == axis).map(|(_, kept)| kept);
            let was_there = |at: usize| known.is_none_or(|known| known[at]);
            let kept: Vec<bool> = (0..kept.len()).filter(|&at| was_there(at)).map(|at| kept[at]).collect();
            store.insert(&path, &without(&tensor, axis, &kept));
        }
    }
    records(after).for_each(|(path, tensor)| store.insert(&path, &tensor));
}

/// What a file of weights keeps of a record: that of the network's own tensors.
pub fn records(record: &Record) -> impl Iterator<Item = (String, Tensor)> {
    let own = |path: &str| recorded_axis(path).is_some_and(|(resident, _)| !resident.starts_with(RESERVED));
    record.tensors().filter(move |(path, _)| own(path))
}

/// The record of a file with what it says of layers that others follow said of these, too, where they begin as what they
/// follow: what the file lacks of them.
fn with_followers(recipe: &RecipeInfo, record: Record, tensors: &BTreeMap<String, Tensor>) -> Record {
    let mut whole = record.clone();
    for (path, axis, kept) in record.iter() {
        let lacking = recipe.following(path).filter(|follower| !tensors.contains_key(follower));
        lacking.for_each(|follower| whole.insert(&follower, axis, kept.to_vec()));
    }
    whole
}

/// A project whose graphs are those of a file of weights that lost channels, if it did. Of a recipe it is told from its
/// training step what the optimiser keeps of them.
///
/// # Errors
/// What does not fit, in words; or diagnostics.
pub fn adopt_channels(
    project: Project,
    only: Option<&str>,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<Project, DriverError> {
    let record = Record::of_tensors(tensors).map_err(DriverError::Usage)?;
    if record.is_empty() || project.unit.recipes.is_empty() {
        return Ok(Project { channels: record, ..project });
    }
    let recipe = project.recipe(only)?;
    let record = with_followers(recipe, record, tensors);
    let network = network(&project, recipe, &record)?;
    let channels = network.record(&network.gone);
    let mut unit = project.unit;
    for (path, axis, kept) in channels.iter() {
        unit.left.entry(path.to_owned()).or_default().insert(axis, kept.iter().filter(|&&kept| kept).count());
    }
    Ok(Project { channels, unit, ..project })
}
