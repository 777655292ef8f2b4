//! Quantised weights in a file: of each layer its weights (`NAME.q8`, i8), its scales (`NAME.scale`), what is added to
//! its results (`NAME.shift`, where there are examples to find it by) and the range of its activations
//! (`$quantised.NAME`: the scale, and 1 if there are negative ones; the same two numbers once more for what they are
//! sums of, where that is quantised) with what these were computed by (`$looked.NAME`, i64:
//! [`crate::quantise::looked`]), beside the floats that are left.

use crate::checkpoint;
use crate::error::DriverError;
use crate::learned;
use crate::narrow;
use crate::project::Project;
use crate::quantise::{Drift, Moved, Outcome, Wanted};
use crate::store::{Entry, RESERVED, Store};
use nnc_data::Staged;
use nnc_graph::{DType, Tensor};
use nnc_lang::elaborate::{AnswerInfo, ParameterKind, RecipeInfo};
use nnc_opt::narrow::STORED;
use nnc_opt::prune::channels::recorded_axis;
use nnc_opt::prune::masked_parameter;
use nnc_opt::quantise::{INTEGERS, Layer, Range, WEIGHT_LEVELS, scales_path, shifts_path, weights_path};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the path of the range of integers starts with.
const RANGE: &str = "$quantised.";
/// What the path of the marks of a range starts with.
const MARKS: &str = "$looked.";

/// Whether a path is that of a range of integers, or of its marks.
pub(crate) fn is_range(path: &str) -> bool {
    path.starts_with(RANGE) || path.starts_with(MARKS)
}

/// The tensors that keep a layer's ranges and its marks, and their paths.
pub fn range_tensors(layer: &Layer) -> [(String, Tensor); 2] {
    let ranges = std::iter::once(layer.input).chain(layer.summands);
    let numbers: Vec<f64> =
        ranges.flat_map(|range| [f64::from(range.scale), f64::from(u8::from(range.signed))]).collect();
    let range = Tensor::from_f64(DType::F32, &[numbers.len()], &numbers);
    let marks: Vec<u8> = layer.marks.iter().flat_map(|mark| mark.to_le_bytes()).collect();
    let marks = Tensor::from_bytes(DType::I64, &[layer.marks.len()], marks).expect("eight bytes for each");
    [(format!("{RANGE}{}", layer.name), range), (format!("{MARKS}{}", layer.name), marks)]
}

/// The quantised layers of a file, by name; none if its weights are floats.
///
/// # Errors
/// What is wrong with a range, or with the integers that it is for, in words.
pub fn layers(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<Layer>, String> {
    let named = tensors.iter().filter_map(|(path, tensor)| Some((path.strip_prefix(RANGE)?, tensor)));
    named.map(|(name, range)| layer(tensors, name, range)).collect()
}

/// The parameter that a tensor of a file is, or that it stands for as integers or in few bits.
pub fn parameter(path: &str) -> &str {
    let of_integers = path.strip_suffix(INTEGERS).and_then(|name| name.split('@').next());
    of_integers.or_else(|| path.strip_suffix(STORED)).unwrap_or(path)
}

/// Integers are not rounded again.
///
/// # Errors
/// These weights are quantised, or badly so, in words.
pub fn refuse(tensors: &BTreeMap<String, Tensor>) -> Result<(), String> {
    match layers(tensors)?.is_empty() && narrow::file::matrices(tensors)?.is_empty() {
        true => Ok(()),
        false => {
            let floats = "give the floats that they were made of, or what `train --init` makes of these";
            Err(format!("these weights are quantised: {floats}"))
        }
    }
}

fn layer(tensors: &BTreeMap<String, Tensor>, name: &str, range: &Tensor) -> Result<Layer, String> {
    let (input, summands) =
        ranges_of(range).ok_or_else(|| lie(&format!("{RANGE}{name}"), "no scale above 0 with a sign of 0 or 1"))?;
    let find = |path: &str| tensors.get(path).ok_or_else(|| lie(path, "not there, though there is a range for it"));
    let path = weights_path(name);
    let weights = find(&path)?;
    let fits = |number: &f64| number.abs() <= f64::from(WEIGHT_LEVELS);
    if weights.dtype() != DType::I8 || !weights.to_f64().iter().all(fits) {
        return Err(lie(&path, &format!("{}, no integers from -{WEIGHT_LEVELS} to {WEIGHT_LEVELS}", weights.ty())));
    }
    let path = scales_path(name);
    let scales = find(&path)?;
    if !are_scales(scales, 0.0) || scales.dims().len() != 1 || !weights.dims().contains(&scales.elements()) {
        return Err(lie(&path, &format!("{}, no scale from 0 for each channel", scales.ty())));
    }
    let path = shifts_path(name);
    let shifts = tensors.get(&path);
    if shifts.is_some_and(|shifts| !are_scales(shifts, f64::MIN) || shifts.dims() != scales.dims()) {
        return Err(lie(&path, "no finite number for each channel"));
    }
    let path = format!("{MARKS}{name}");
    let marks = find(&path)?;
    if marks.dtype() != DType::I64 {
        return Err(lie(&path, "no list of what the range was found for"));
    }
    let marks = marks.to_i64().into_iter().map(i64::cast_unsigned).collect();
    Ok(Layer { name: name.to_owned(), input, summands, marks, is_shifted: shifts.is_some() })
}

/// The ranges that a tensor tells, that of what is summed only where it has four numbers.
fn ranges_of(ranges: &Tensor) -> Option<(Range, Option<Range>)> {
    let numbers = ranges.to_f64();
    let range = |numbers: &[f64]| {
        let &[scale, signed @ (0.0 | 1.0)] = numbers else { return None };
        let is_scale = ranges.dtype() == DType::F32 && scale > 0.0 && scale.is_finite();
        is_scale.then_some(Range { scale: scale as f32, signed: signed == 1.0 })
    };
    match numbers.split_at_checked(2)? {
        (input, []) => Some((range(input)?, None)),
        (input, summands) => Some((range(input)?, Some(range(summands)?))),
    }
}

/// Whether a tensor holds finite floats from `least` on, at least one.
pub(crate) fn are_scales(tensor: &Tensor, least: f64) -> bool {
    let is_scale = |number: &f64| number.is_finite() && *number >= least;
    tensor.dtype() == DType::F32 && tensor.elements() > 0 && tensor.to_f64().iter().all(is_scale)
}

/// What is said of a tensor that is not what its path says.
pub(crate) fn lie(path: &str, is: &str) -> String {
    format!("`{path}` is {is}: the file is damaged; quantise the floats again")
}

/// The tensors that inference of a recipe reads: its evaluation, its answers and its pictures. What small numbers of
/// rows read is among it, as a product by one row may be no product any more.
///
/// # Errors
/// Diagnostics, or a bug in the compiler.
pub fn wanted(project: &Project, recipe: &RecipeInfo) -> Result<Wanted, DriverError> {
    let mut wanted = needed(project, recipe)?;
    for answer in with_parameters(recipe) {
        match of_samples(project, recipe, answer)? {
            Read::Of(read) => wanted.extend(read),
            Read::Unknown => wanted.extend(floats_left(project, recipe)?),
            Read::Gone(_) => {}
        }
    }
    Ok(wanted)
}

/// What becomes of the answers with parameters of a recipe, in order of declaration.
///
/// # Errors
/// A bug in the compiler.
pub fn drifts(project: &Project, recipe: &RecipeInfo) -> Result<Vec<Drift>, DriverError> {
    let needed = needed(project, recipe)?;
    let is_all_there = floats_left(project, recipe)?.keys().all(|path| needed.contains_key(path));
    let is_rounded = |path: &String| parameter(path) != path;
    let drift = |answer: &AnswerInfo| -> Result<Drift, DriverError> {
        let moved = match of_samples(project, recipe, answer)? {
            Read::Of(read) if read.keys().any(is_rounded) => Moved::WeightsAlone { is_known: true },
            Read::Of(_) => Moved::Untouched,
            Read::Unknown => Moved::WeightsAlone { is_known: is_all_there },
            Read::Gone(why) => Moved::Gone { why },
        };
        Ok(Drift { answer: answer.name.clone(), moved })
    };
    with_parameters(recipe).map(drift).collect()
}

/// The answers that take more than examples, whose graphs are only known for what is given.
fn with_parameters(recipe: &RecipeInfo) -> impl Iterator<Item = &AnswerInfo> {
    recipe.answers.iter().filter(|answer| answer.parameters.is_some())
}

/// As [`wanted`], but for the answers with parameters.
fn needed(project: &Project, recipe: &RecipeInfo) -> Result<Wanted, DriverError> {
    let (unit, name) = (&project.unit, recipe.name.as_str());
    let mut needed = Wanted::new();
    for rows in rows(recipe) {
        let plain = recipe.answers.iter().filter(|answer| answer.parameters.is_none());
        let answers = plain.map(|answer| unit.answer(name, Some(&answer.name), rows));
        let pictures = (!recipe.pictures.is_empty()).then(|| unit.pictures(name, rows));
        for made in std::iter::once(unit.evaluate(name, rows)).chain(answers).chain(pictures) {
            // A program may want more than a few rows, as one with `x[0..8]` does.
            if rows == Project::batch(recipe) || made.is_ok() {
                needed.extend(Store::wanted(&project.rounded_graph(made)?));
            }
        }
    }
    Ok(needed)
}

/// Numbers of rows that programs may read different tensors for.
fn rows(recipe: &RecipeInfo) -> BTreeSet<usize> {
    BTreeSet::from([1, 2, Project::batch(recipe)])
}

/// Sizes of what is given to an answer, to be tried until it can be made.
const SAMPLES: [i64; 4] = [8, 2, 1, 32];

/// What an answer with parameters reads.
enum Read {
    /// These tensors, when it is given samples.
    Of(Wanted),
    /// It cannot be made of any, as where a setting has no value.
    Unknown,
    /// Channels that the weights lost, for a reason in words.
    Gone(String),
}

/// As the smallest samples show it that it can be made of.
fn of_samples(project: &Project, recipe: &RecipeInfo, answer: &AnswerInfo) -> Result<Read, DriverError> {
    let mut open = Vec::new();
    for parameter in answer.parameters.iter().flatten() {
        if let ParameterKind::Input(ty) = &parameter.kind {
            ty.shape.iter().for_each(|dim| dim.names(&mut |name| open.push(name.to_owned())));
        }
    }
    let mut read = Read::Unknown;
    for rows in rows(recipe) {
        let sizes = |size: i64| open.iter().map(|name| (name.clone(), size)).collect();
        let make = |size: i64| project.unit.answer_sized(&recipe.name, Some(&answer.name), rows, &sizes(size));
        if let Some(made) = SAMPLES.into_iter().find_map(|size| make(size).ok()) {
            if let Err(why) = project.has_all_of(&made) {
                return Ok(Read::Gone(why));
            }
            let mut wanted = Store::wanted(&project.unobserved(Ok(made))?);
            if let Read::Of(before) = read {
                wanted.extend(before);
            }
            read = Read::Of(wanted);
        }
    }
    Ok(read)
}

/// The floats that nothing stands for, whoever reads them.
fn floats_left(project: &Project, recipe: &RecipeInfo) -> Result<Wanted, DriverError> {
    let mut left = floats(project, recipe)?;
    left.retain(|path, _| project.quantised.iter().all(|layer| layer.name != *path));
    narrow::file::stand_in(&project.stored, &mut left);
    Ok(left)
}

/// The weights and states of a recipe's network, as its first values are.
fn floats(project: &Project, recipe: &RecipeInfo) -> Result<Wanted, DriverError> {
    let graph = project.first_values(project.unit.init(&recipe.name))?;
    let own = graph.outputs().iter().filter(|output| !output.name.starts_with(RESERVED));
    Ok(own.map(|output| (output.name.clone(), graph.ty(output.value).clone())).collect())
}

/// Brings a freshly initialised store to what the programs of a session read. Gives the floats that a file may hold
/// beside that, for answers with parameters.
///
/// # Errors
/// As [`wanted`].
pub fn prepare(project: &Project, recipe: &RecipeInfo, store: &mut Store) -> Result<Wanted, DriverError> {
    let needed = needed(project, recipe)?;
    store.hold_to(&needed);
    let mut spare = floats(project, recipe)?;
    spare.retain(|path, _| !needed.contains_key(path));
    Ok(spare)
}

/// Writes what inference reads, with what metadata of the weights inference reads.
///
/// # Errors
/// The file cannot be written; an earlier one then stands.
pub fn stage(path: &Path, outcome: &Outcome, metadata: Option<&str>) -> Result<Staged, DriverError> {
    checkpoint::stage(path, kept(outcome), &learned::to_infer(metadata))
}

/// What inference reads, with its ranges, and the masks of all weights that are there in whatever form. Where no
/// product is one of integers, the floats keep the ranges that they were trained with, and compute what they did.
pub fn kept(outcome: &Outcome) -> impl Iterator<Item = (&str, &Entry)> {
    let kept: BTreeSet<&str> = outcome.wanted.keys().map(|path| parameter(path)).collect();
    let are_floats = outcome.report.rows.iter().all(|row| row.choice.is_err());
    let is_read = move |path: &str| match path.starts_with(RESERVED) {
        true if path.starts_with(nnc_opt::quantise::RANGE) => are_floats,
        true => {
            let is_kept_mask = masked_parameter(path).is_some_and(|parameter| kept.contains(parameter));
            is_range(path) || narrow::file::is_record(path) || recorded_axis(path).is_some() || is_kept_mask
        }
        false => outcome.wanted.contains_key(path),
    };
    outcome.store.iter().filter(move |(path, _)| is_read(path))
}
