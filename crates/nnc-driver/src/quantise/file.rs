//! Quantised weights in a file: of each layer its weights (`NAME.q8`, i8), its scales (`NAME.scale`) and the range of its
//! activations (`$quantised.NAME`: the scale, and 1 if there are negative ones) with what these were computed by
//! (`$looked.NAME`, i64: [`crate::quantise::looked`]), beside the floats that are left.

use crate::checkpoint;
use crate::error::DriverError;
use crate::narrow;
use crate::project::Project;
use crate::prune::channels::fitted;
use crate::quantise::Outcome;
use crate::store::{Entry, RESERVED, Store};
use nnc_data::Staged;
use nnc_graph::{DType, Graph, Tensor, TensorType};
use nnc_lang::elaborate::RecipeInfo;
use nnc_opt::prune::channels::recorded_axis;
use nnc_opt::quantise::{self, Layer, Range, scales_path, weights_path};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the path of the range of integers starts with.
const RANGE: &str = "$quantised.";
/// What the path of the marks of a range starts with.
const MARKS: &str = "$looked.";

/// The tensors that keep a layer's range and its marks, and their paths.
pub fn range_tensors(layer: &Layer) -> [(String, Tensor); 2] {
    let numbers = [f64::from(layer.input.scale), f64::from(u8::from(layer.input.signed))];
    let range = Tensor::from_f64(DType::F32, &[2], &numbers);
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

/// The ranges that weights were trained with, by layer: none unless their recipe rounds, and had begun to. A layer that never
/// saw anything but 0 has none.
///
/// # Errors
/// What is wrong with a range, in words.
pub fn ranges(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Range>, String> {
    let mut found = BTreeMap::new();
    for (path, top) in tensors {
        let Some(layer) = path.strip_prefix(quantise::RANGE).and_then(|rest| rest.strip_suffix(quantise::TOP)) else {
            continue;
        };
        let sign = tensors.get(&format!("{}{layer}{}", quantise::RANGE, quantise::SIGN));
        let [Some(top), Some(sign)] = [Some(top), sign].map(|end| end.and_then(scalar)) else {
            return Err(format!("the range of `{layer}` that was trained is no magnitude and sign"));
        };
        let least = if sign > 0.0 { -top } else { 0.0 };
        found.extend(Range::covering(least, top).map(|range| (layer.to_owned(), range)));
    }
    Ok(found)
}

/// The number that a tensor is.
fn scalar(tensor: &Tensor) -> Option<f32> {
    match tensor.to_f64()[..] {
        [number] if tensor.dtype() == DType::F32 && number.is_finite() => Some(number as f32),
        _ => None,
    }
}

/// Integers are neither trained nor rounded again.
///
/// # Errors
/// These weights are quantised, or badly so, in words.
pub fn refuse(tensors: &BTreeMap<String, Tensor>) -> Result<(), String> {
    match layers(tensors)?.is_empty() && narrow::file::matrices(tensors)?.is_empty() {
        true => Ok(()),
        false => Err("these weights are quantised: give the floats that they were made of".to_owned()),
    }
}

fn layer(tensors: &BTreeMap<String, Tensor>, name: &str, range: &Tensor) -> Result<Layer, String> {
    let numbers = range.to_f64();
    let wrong = || format!("the range of the quantised `{name}` is no scale and sign");
    let [scale, signed] = numbers[..] else { return Err(wrong()) };
    let is_scale = range.dtype() == DType::F32 && scale > 0.0 && scale.is_finite();
    let is_sign = signed == 0.0 || signed == 1.0;
    if !is_scale || !is_sign {
        return Err(wrong());
    }
    for (path, dtype) in [(weights_path(name), DType::I8), (scales_path(name), DType::F32)] {
        if tensors.get(&path).is_none_or(|tensor| tensor.dtype() != dtype) {
            return Err(format!("there is a range for `{name}`, but no `{path}` of {dtype}"));
        }
    }
    let marks = tensors.get(&format!("{MARKS}{name}")).filter(|marks| marks.dtype() == DType::I64);
    let marks = marks.ok_or_else(|| format!("what the range of the quantised `{name}` was found for is not told"))?;
    let marks = marks.to_i64().into_iter().map(i64::cast_unsigned).collect();
    Ok(Layer { name: name.to_owned(), input: Range { scale: scale as f32, signed: signed == 1.0 }, marks })
}

/// The tensors that inference of a recipe reads: its evaluation, its answers and its pictures. What small numbers of rows
/// read is among it, as a product by one row may be no product any more. An answer with parameters has no graph before
/// these are known, and is not quantised: then all floats are wanted.
///
/// # Errors
/// Diagnostics, or a bug in the compiler.
pub fn wanted(project: &Project, recipe: &RecipeInfo) -> Result<BTreeMap<String, TensorType>, DriverError> {
    let (unit, name) = (&project.unit, recipe.name.as_str());
    let mut wanted = BTreeMap::new();
    let batch = Project::batch(recipe);
    for rows in BTreeSet::from([1, 2, batch]) {
        let plain = recipe.answers.iter().filter(|answer| answer.parameters.is_none());
        let answers = plain.map(|answer| unit.answer(name, Some(&answer.name), rows));
        let pictures = (!recipe.pictures.is_empty()).then(|| unit.pictures(name, rows));
        for made in std::iter::once(unit.evaluate(name, rows)).chain(answers).chain(pictures) {
            // A program may want more than a few rows, as one with `x[0..8]` does.
            if rows == batch || made.is_ok() {
                wanted.extend(Store::wanted(&project.rounded_graph(made)?));
            }
        }
    }
    if recipe.answers.iter().any(|answer| answer.parameters.is_some()) {
        let made = made(&project.checked(unit.init(name))?);
        wanted.extend(made.into_iter().map(|(path, ty)| (path.clone(), fitted(&path, &ty, project))));
    }
    Ok(wanted)
}

/// The results of a graph.
fn made(graph: &Graph) -> BTreeMap<String, TensorType> {
    graph.outputs().iter().map(|output| (output.name.clone(), graph.ty(output.value).clone())).collect()
}

/// Brings a freshly initialised store to what quantised inference reads.
///
/// # Errors
/// As [`wanted`].
pub fn prepare(project: &Project, recipe: &RecipeInfo, store: &mut Store) -> Result<(), DriverError> {
    store.hold_to(&wanted(project, recipe)?);
    Ok(())
}

/// Writes what inference reads, with the metadata that the weights came with.
///
/// # Errors
/// The file cannot be written; an earlier one then stands.
pub fn stage(path: &Path, outcome: &Outcome, metadata: Option<&str>) -> Result<Staged, DriverError> {
    checkpoint::stage(path, kept(outcome), metadata.unwrap_or_default())
}

/// What inference reads, with its ranges.
pub fn kept(outcome: &Outcome) -> impl Iterator<Item = (&str, &Entry)> {
    let is_read = |path: &str| match path.starts_with(RESERVED) {
        true => path.starts_with(RANGE) || path.starts_with(MARKS) || recorded_axis(path).is_some(),
        false => outcome.wanted.contains_key(path),
    };
    outcome.store.iter().filter(move |(path, _)| is_read(path))
}
