//! Pruning of given weights by magnitude, and the masks that say what was pruned; whole channels go by [`channels`].
//!
//! [`prune()`] zeroes elements of a session's weights, [`prune_model`] those of a model by itself, and puts a mask
//! beside each; what is written then is an ordinary file of weights. Whoever reads weights needs no mask, since what is
//! pruned is 0; training takes the masks, too ([`adopt`]), and keeps the zeros. The choice itself is
//! [`nnc_opt::prune`]'s; `bits` has masks as files have them, `layers` those of files that layers name. [`schedule`]
//! knows when a recipe that prunes has pruned all that it wants.

pub(crate) mod bits;
pub mod channels;
pub(crate) mod layers;
mod pace;
pub mod schedule;

use crate::checkpoint;
use crate::error::DriverError;
use crate::learned;
use crate::project::Project;
use crate::quantise::file;
use crate::session::Session;
use crate::store::{Entry, RESERVED, Store};
use nnc_data::Staged;
use nnc_graph::tensor::count_zeros;
use nnc_graph::{DType, Graph, Op, Tensor};
use nnc_opt::prune::channels::{Record, recorded_axis};
use nnc_opt::prune::{self, Block, Scope, Use, Weight, mask_path, masked_parameter};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is to be pruned.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The share of blocks that go, above 0 and below 1.
    pub sparsity: f64,
    /// What goes or stays together.
    pub block: Block,
    /// What the share is a share of.
    pub scope: Scope,
    /// Paths of parameters, or of layers, that may be pruned; empty for all.
    pub over: Vec<String>,
}

/// Why a parameter is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeftAlone {
    /// It was not asked for.
    NotAsked,
    /// It is of a layer that follows another one, whose zeros it has.
    Follows,
    /// It has one axis or none: a bias, or a factor of channels.
    Vector,
    /// Rows of it are picked by number.
    Table,
    /// It is no factor of a product.
    NotMultiplied,
    /// It is a factor, but no axis of it counts outputs, which blocks are made of.
    NoOutputs,
    /// Blocks are larger than it.
    SmallerThanBlock,
    /// It holds no floats.
    NoFloats,
}

impl std::fmt::Display for LeftAlone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "not asked for",
            Self::Follows => "has the zeros of what it follows",
            Self::Vector => "a vector",
            Self::Table => "rows are picked by number",
            Self::NotMultiplied => "no factor of a product",
            Self::NoOutputs => "no axis of it counts outputs",
            Self::SmallerThanBlock => "smaller than a block",
            Self::NoFloats => "no floats",
        })
    }
}

/// What became of a parameter.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Its path.
    pub path: String,
    /// Its dims.
    pub dims: Vec<usize>,
    /// Elements.
    pub elements: usize,
    /// Elements that are 0 now, if it was pruned, or why it was not.
    pub pruned: Result<usize, LeftAlone>,
}

/// Zeroes what counts least of a recipe's weights, and puts masks beside them. Gives what became of each parameter, in
/// the order of paths.
///
/// # Errors
/// As [`prune_model`]; diagnostics.
pub fn prune(session: &mut Session<'_>, project: &Project, request: &Request) -> Result<Vec<Row>, DriverError> {
    let recipe = session.recipe();
    let graph = project.graph(project.unit.evaluate(&recipe.name, Project::batch(recipe)))?;
    prune_led(session.store_mut(), &graph, &|path| recipe.leader(path), request)
}

/// As [`prune()`], of the weights in a store that a graph reads, as that of a model by itself: magnitudes need no data.
///
/// # Errors
/// [`DriverError::Usage`] for a path that names nothing, or when nothing may be pruned. Then nothing was changed.
pub fn prune_model(store: &mut Store, graph: &Graph, request: &Request) -> Result<Vec<Row>, DriverError> {
    prune_led(store, graph, &|_| None, request)
}

/// As [`prune_model`], where a parameter may follow another one, which `leader` tells.
fn prune_led(
    store: &mut Store,
    graph: &Graph,
    leader: &dyn Fn(&str) -> Option<String>,
    request: &Request,
) -> Result<Vec<Row>, DriverError> {
    let (uses, parameters) = (prune::uses(graph), parameters(graph));
    check_over(&request.over, &parameters)?;
    let judged = |path: &String| {
        let entry = store.get(path)?;
        let verdict = match leader(path) {
            Some(_) => Err(LeftAlone::Follows),
            None => judge(path, entry, uses.get(path).copied(), request),
        };
        Some((path.clone(), verdict))
    };
    let judged: Vec<(String, Result<usize, LeftAlone>)> = parameters.iter().filter_map(judged).collect();
    let chosen: Vec<(&String, usize)> =
        judged.iter().filter_map(|(path, verdict)| Some((path, *verdict.as_ref().ok()?))).collect();
    if chosen.is_empty() {
        return Err(DriverError::Usage(nothing_to_prune(&judged)));
    }
    let weights: Vec<Weight> = chosen.iter().filter_map(|(path, outputs)| weight(store, path, *outputs)).collect();
    let masks = prune::kept(&weights, request.sparsity, request.block, request.scope);
    for ((path, _), mask) in chosen.iter().zip(&masks) {
        apply(store, path, mask);
        let following = parameters.iter().filter(|other| leader(other).as_ref() == Some(*path));
        following.for_each(|other| zero(store, other, mask));
    }
    Ok(judged.into_iter().filter_map(|(path, verdict)| row(store, path, verdict)).collect())
}

/// The paths of the parameters of a graph, without states.
fn parameters(graph: &Graph) -> BTreeSet<String> {
    let path = |op: &Op| match op {
        Op::Param { path, .. } => Some(path.clone()),
        _ => None,
    };
    graph.nodes().filter_map(|(_, node)| path(&node.op)).collect()
}

/// The axis of outputs of a parameter that may be pruned.
fn judge(path: &str, entry: &Entry, used: Option<Use>, request: &Request) -> Result<usize, LeftAlone> {
    let dims = entry.ty.shape.sizes();
    if !request.over.is_empty() && !request.over.iter().any(|over| covers(over, path)) {
        return Err(LeftAlone::NotAsked);
    }
    if !entry.ty.dtype.is_float() {
        return Err(LeftAlone::NoFloats);
    }
    if dims.len() < 2 {
        return Err(LeftAlone::Vector);
    }
    let outputs = match used {
        Some(Use::Multiplied { outputs }) => outputs,
        Some(Use::Picked) => return Err(LeftAlone::Table),
        Some(Use::Elementwise) | None => return Err(LeftAlone::NotMultiplied),
    };
    if request.block == Block::ELEMENT {
        return Ok(outputs.unwrap_or(dims.len() - 1));
    }
    let outputs = outputs.ok_or(LeftAlone::NoOutputs)?;
    let elements: usize = dims.iter().product();
    let (rows, columns) = (elements / dims[outputs].max(1), dims[outputs]);
    match rows >= request.block.rows && columns >= request.block.columns {
        true => Ok(outputs),
        false => Err(LeftAlone::SmallerThanBlock),
    }
}

/// Whether a path is, or lies behind, what was asked for.
fn covers(over: &str, path: &str) -> bool {
    path == over || path.strip_prefix(over).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
}

fn check_over(over: &[String], parameters: &BTreeSet<String>) -> Result<(), DriverError> {
    let Some(wrong) = over.iter().find(|over| !parameters.iter().any(|path| covers(over, path))) else {
        return Ok(());
    };
    let meant = nnc_lang::diagnostic::closest(wrong, parameters.iter().flat_map(|path| with_layers(path)));
    let meant = meant.map(|meant| format!("; did you mean `{meant}`?"));
    let message = format!("--over {wrong}: no parameter has this path{}", meant.unwrap_or_default());
    Err(DriverError::Usage(message))
}

/// A path, and those of the layers that it lies in.
fn with_layers(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices(['.', '[']).map(|(end, _)| &path[..end]).chain([path])
}

fn nothing_to_prune(judged: &[(String, Result<usize, LeftAlone>)]) -> String {
    let listed: String =
        judged.iter().filter_map(|(path, verdict)| Some(format!("\n  {path}: {}", verdict.as_ref().err()?))).collect();
    format!("nothing of this can be pruned:{listed}")
}

fn weight(store: &Store, path: &str, outputs: usize) -> Option<Weight> {
    let tensor = store.tensor(path)?;
    Some(Weight { values: tensor.to_f64(), dims: tensor.dims().to_vec(), outputs })
}

/// Zeroes what a mask does not keep, and puts the mask beside the weight.
fn apply(store: &mut Store, path: &str, kept: &[bool]) {
    zero(store, path, kept);
    let Some(ty) = store.get(path).map(|entry| entry.ty.clone()) else { return };
    let mask: Vec<u8> = kept.iter().map(|&kept| u8::from(kept)).collect();
    let mask = Tensor::from_bytes(DType::Bool, &ty.shape.sizes(), mask).expect("a byte for each element");
    store.insert(&mask_path(path), &mask);
}

/// Zeroes what a mask does not keep.
fn zero(store: &mut Store, path: &str, kept: &[bool]) {
    let Some(tensor) = store.tensor(path) else { return };
    let size = tensor.dtype().size();
    let mut bytes = tensor.bytes().to_vec();
    for (element, _) in bytes.chunks_exact_mut(size).zip(kept).filter(|(_, kept)| !**kept) {
        element.fill(0);
    }
    let pruned = Tensor::from_bytes(tensor.dtype(), tensor.dims(), bytes).expect("as many bytes as before");
    store.insert(path, &pruned);
}

fn row(store: &Store, path: String, verdict: Result<usize, LeftAlone>) -> Option<Row> {
    let tensor = store.tensor(&path)?;
    let zeros = || tensor.to_f64().iter().filter(|value| **value == 0.0).count();
    let pruned = verdict.map(|_| zeros());
    Some(Row { path, dims: tensor.dims().to_vec(), elements: tensor.elements(), pruned })
}

/// The parameters that have a mask in a store.
pub fn masked(store: &Store) -> BTreeSet<String> {
    store.iter().filter_map(|(path, _)| masked_parameter(path)).map(str::to_owned).collect()
}

/// Takes masks of a file into a store that has the weights already, and zeroes what they do not keep. Of weights that
/// the file has without a mask, one that the store has keeps all: they are others than those that it was for.
///
/// # Errors
/// What is wrong with a mask, in words: it fits no parameter of the store, or not its shape.
pub fn adopt(store: &mut Store, tensors: &BTreeMap<String, Tensor>) -> Result<(), String> {
    let masks = masks(tensors);
    for &(parameter, mask) in &masks {
        let entry =
            store.get(parameter).ok_or_else(|| format!("it has a mask for `{parameter}`, which the model lacks"))?;
        check(parameter, &entry.ty.shape.sizes(), mask)?;
    }
    take(store, tensors, &masks);
    Ok(())
}

/// As [`adopt`], of a file that fits in part: masks of weights that were not taken are left out with them.
pub fn adopt_fitting(store: &mut Store, tensors: &BTreeMap<String, Tensor>) {
    let mut masks = masks(tensors);
    masks.retain(|(parameter, mask)| {
        store.get(parameter).is_some_and(|entry| check(parameter, &entry.ty.shape.sizes(), mask).is_ok())
    });
    take(store, tensors, &masks);
}

/// Takes masks that fit.
fn take(store: &mut Store, tensors: &BTreeMap<String, Tensor>, masks: &[(&str, &Tensor)]) {
    let is_whole = |parameter: &String| {
        tensors.contains_key(parameter) && masks.iter().all(|(masked, _)| *masked != parameter.as_str())
    };
    for parameter in masked(store).into_iter().filter(is_whole) {
        let count = store.get(&parameter).map_or(0, |entry| entry.ty.shape.elements().size());
        apply(store, &parameter, &vec![true; count]);
    }
    for (parameter, mask) in masks {
        let kept: Vec<bool> = mask.bytes().iter().map(|&byte| byte != 0).collect();
        apply(store, parameter, &kept);
    }
}

/// The masks among some tensors, by the parameters that they are for.
fn masks(tensors: &BTreeMap<String, Tensor>) -> Vec<(&str, &Tensor)> {
    tensors.iter().filter_map(|(path, tensor)| Some((masked_parameter(path)?, tensor))).collect()
}

/// Whether each mask among some tensors, and each record of channels, fits the tensor that it is for.
///
/// # Errors
/// What does not, in words.
pub fn check_tensors(tensors: &BTreeMap<String, Tensor>) -> Result<(), String> {
    Record::of_tensors(tensors)?;
    masks(tensors).into_iter().try_for_each(|(parameter, mask)| match tensors.get(parameter) {
        Some(tensor) => check(parameter, tensor.dims(), mask).and_then(|()| check_zeros(parameter, tensor, mask)),
        None if tensors.keys().any(|path| file::parameter(path) == parameter) => Ok(()),
        None => Err(format!("it has a mask for `{parameter}`, and no such tensor")),
    })
}

/// What a mask does not keep is 0: nobody who reads weights looks at their masks but training.
fn check_zeros(parameter: &str, tensor: &Tensor, mask: &Tensor) -> Result<(), String> {
    let (dtype, size) = (tensor.dtype(), tensor.dtype().size());
    let pruned = tensor.bytes().chunks_exact(size).zip(mask.bytes()).filter(|(_, kept)| **kept == 0);
    let count = pruned.filter(|(element, _)| count_zeros(dtype, element) == 0).count();
    match count {
        0 => Ok(()),
        _ => Err(format!(
            "{count} elements of `{parameter}` are not 0 though its mask prunes them: either was changed alone; prune these \
             weights again, or leave `$prune.{parameter}.bits` and `.dims` out of the file to keep them as they are"
        )),
    }
}

fn check(parameter: &str, dims: &[usize], mask: &Tensor) -> Result<(), String> {
    if mask.dtype() == DType::Bool && mask.dims() == dims {
        return Ok(());
    }
    let wanted = Tensor::from_bytes(DType::Bool, dims, vec![0; dims.iter().product()]).map(|tensor| tensor.ty());
    let wanted = wanted.map_or(String::new(), |ty| format!("; {ty} is wanted"));
    Err(format!("the mask of `{parameter}` is {}{wanted}", mask.ty()))
}

/// The least share of zeros at which a weight is told to the compiler: sparse kernels need about this much to be
/// faster.
pub const TOLD: f64 = 0.4;

/// The graph of a program that is compiled for these weights alone: those with many zeros are constants of it. A graph
/// that updates parameters stays as it is.
pub fn specialised(graph: &Graph, store: &Store) -> Graph {
    prune::known(graph, |path| store.get(path).filter(|entry| is_sparse(entry)).and_then(|_| store.tensor(path)))
}

fn is_sparse(entry: &Entry) -> bool {
    let (size, dims) = (entry.ty.dtype.size(), entry.ty.shape.sizes());
    if dims.len() < 2 || !entry.ty.dtype.is_float() {
        return false;
    }
    let elements = dims.iter().product::<usize>();
    if elements > 4 * SAMPLES && sampled_zeros(entry, elements) < TOLD / 2.0 {
        return false;
    }
    let allowed = elements - (TOLD * elements as f64).ceil() as usize;
    // Most weights have hardly a zero: whoever has more others than a sparse one may have is known by its first part.
    let others = |part: &[u8]| part.len() / size - count_zeros(entry.ty.dtype, part);
    let mut parts = entry.buffer.bytes().chunks(size * PART);
    let mut count = 0;
    parts.all(|part| {
        count += others(part);
        count <= allowed
    })
}

/// The share of zeros in a sample: an element of each of as many equal runs, at places that follow no pattern of rows.
fn sampled_zeros(entry: &Entry, elements: usize) -> f64 {
    let (dtype, size, run) = (entry.ty.dtype, entry.ty.dtype.size(), elements / SAMPLES);
    // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4).
    let within = |number: usize| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % run;
    let is_zero = |number: &usize| {
        let at = (number * run + within(*number)) * size;
        count_zeros(dtype, &entry.buffer.bytes()[at..at + size]) == 1
    };
    (0..SAMPLES).filter(is_zero).count() as f64 / SAMPLES as f64
}

/// Elements of a sample. With fewer zeros than half of what is asked for in it, a weight has not that many: the odds
/// are beyond reckoning, and at worst its product is computed as that of any weight, to the same bits.
const SAMPLES: usize = 2048;

/// Elements that are counted at a time.
const PART: usize = 4096;

/// Whether a path is that of a mask or of a record of channels.
pub fn is_told(path: &str) -> bool {
    masked_parameter(path).is_some() || recorded_axis(path).is_some()
}

/// Writes the weights, states, masks and records of a store, with what metadata of the weights inference reads.
///
/// # Errors
/// The file cannot be written; an earlier one then stands.
pub fn stage(path: &Path, store: &Store, metadata: Option<&str>) -> Result<Staged, DriverError> {
    checkpoint::stage(path, kept(store), &learned::to_infer(metadata))
}

/// What a file of weights has of a store: weights, states, masks and records.
pub fn kept(store: &Store) -> impl Iterator<Item = (&str, &Entry)> {
    let is_kept = |path: &str| !path.starts_with(RESERVED) || is_told(path);
    store.iter().filter(move |(path, _)| is_kept(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(mask: &Tensor) -> BTreeMap<String, Tensor> {
        let weight = Tensor::from_f64(DType::F32, &[2, 2], &[1., 2., 3., 4.]);
        BTreeMap::from([("a.w".to_owned(), weight), ("$prune.a.w.mask".to_owned(), mask.clone())])
    }

    #[test]
    fn a_mask_is_taken_with_its_zeros() {
        let given = tensors(&Tensor::from_f64(DType::Bool, &[2, 2], &[1., 0., 0., 1.]));
        let mut store = Store::of([("a.w", &given["a.w"])].into_iter());
        adopt(&mut store, &given).unwrap();
        assert_eq!(masked(&store), BTreeSet::from(["a.w".to_owned()]));
        assert_eq!(store.tensor("a.w").unwrap().to_f64(), [1., 0., 0., 4.]);
        assert_eq!(store.tensor("$prune.a.w.mask").unwrap(), given["$prune.a.w.mask"]);
    }

    #[test]
    fn a_mask_that_does_not_fit_changes_nothing() {
        let given = tensors(&Tensor::from_f64(DType::Bool, &[4], &[1., 0., 0., 1.]));
        assert_eq!(check_tensors(&given).unwrap_err(), "the mask of `a.w` is bool[4]; bool[2, 2] is wanted");
        let mut store = Store::of([("a.w", &given["a.w"])].into_iter());
        assert!(adopt(&mut store, &given).is_err());
        assert_eq!(store.tensor("a.w").unwrap(), given["a.w"]);
        assert_eq!(store.iter().count(), 1);
    }
}
