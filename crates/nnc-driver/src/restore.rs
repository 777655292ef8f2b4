//! The floats that a file of integers, or of few bits, stands for, so that it is trained further.
//!
//! Stored bytes times their scales are the parameters again ([`nnc_opt::quantise::restored`],
//! [`nnc_opt::narrow::restored`]); masks and records of channels stay. Activations were looked at for the weights as
//! they were, so that their ranges are no part of it, but where the recipe itself rounds: it begins with them.

use crate::bench::failed;
use crate::checkpoint::Checkpoint;
use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::narrow;
use crate::project::Project;
use crate::quantise::{file, trained};
use crate::store::Store;
use nnc_graph::{Graph, Tensor};
use nnc_lang::elaborate::RecipeInfo;
use nnc_opt::narrow::Matrix;
use nnc_opt::quantise::Layer;
use std::collections::BTreeMap;
use std::path::Path;

/// A project whose weights are integers or of few bits, with the weights as floats: of what stays floats in the file as
/// it is there, of all else as it stands for, but for integers of other shapes than the model has.
///
/// # Errors
/// [`DriverError::Weights`] if the file does not say what a parameter was, diagnostics, or what cannot be compiled or
/// run.
pub fn floats(
    (project, recipe): (&Project, &RecipeInfo),
    compiler: &Compiler,
    (path, loaded): (&Path, Checkpoint),
) -> Result<(Project, Checkpoint), DriverError> {
    let Checkpoint { tensors, metadata } = loaded;
    let wrong = |reason| DriverError::Weights { path: path.to_owned(), reason };
    let of_floats = Project { quantised: Vec::new(), stored: Vec::new(), ..project.clone() };
    let graph = of_floats.graph(of_floats.unit.evaluate(&recipe.name, Project::batch(recipe)))?;
    let graph = Project::before_rounding(&graph)?;
    let missing = project.quantised.iter().filter(|layer| !has_floats(&tensors, layer));
    let fits = |layer: &&Layer| match nnc_opt::quantise::restored(&graph, &[layer]) {
        Ok(integers) => fits(&integers, &tensors),
        Err(_) => true,
    };
    let missing: Vec<&Layer> = missing.filter(fits).collect();
    let integers = nnc_opt::quantise::restored(&graph, &missing).map_err(|parameter| {
        let why = "what its integers stand for cannot be followed back to it: give the floats that they were made of";
        wrong(format!("`{parameter}` is quantised, and {why}"))
    })?;
    let typed = |matrix: &Matrix| Some((matrix.clone(), narrow::file::float_type(&tensors, matrix)?));
    let matrices: Vec<_> = project.stored.iter().filter_map(typed).collect();
    let stored = nnc_opt::narrow::restored(matrices.iter().map(|(matrix, ty)| (matrix, ty.clone())));
    let mut made = computed(&integers, compiler, (&tensors, path))?;
    made.extend(computed(&stored, compiler, (&tensors, path))?);
    let ranges = trained::tensors(&project.quantised);
    let mut left = tensors;
    left.retain(|path, _| !is_of_numbers(project, path));
    left.extend(made);
    left.extend(ranges);
    Ok((of_floats, Checkpoint { tensors: left, metadata }))
}

/// Whether the tensors of a file are of the types that a graph reads them with.
fn fits(graph: &Graph, tensors: &BTreeMap<String, Tensor>) -> bool {
    Store::wanted(graph).iter().all(|(name, ty)| tensors.get(name).is_none_or(|found| found.ty() == *ty))
}

/// Whether a file has the floats of what a layer multiplies by beside its integers.
fn has_floats(tensors: &BTreeMap<String, Tensor>, layer: &Layer) -> bool {
    tensors.contains_key(layer.parameter())
}

/// Whether a path is that of integers, of few bits, or of what is kept beside them.
fn is_of_numbers(project: &Project, path: &str) -> bool {
    file::is_range(path) || narrow::file::is_record(path) || project.numbers().any(|of| path == of)
}

/// The results of a graph that reads the tensors of a file alone, by name.
fn computed(
    graph: &Graph,
    compiler: &Compiler,
    (tensors, path): (&BTreeMap<String, Tensor>, &Path),
) -> Result<BTreeMap<String, Tensor>, DriverError> {
    if graph.outputs().is_empty() {
        return Ok(BTreeMap::new());
    }
    let wrong = |reason| DriverError::Weights { path: path.to_owned(), reason };
    let mut store = Store::default();
    for (name, ty) in Store::wanted(graph) {
        let found = tensors.get(&name).ok_or_else(|| wrong(format!("there is no `{name}`, which the model reads")))?;
        if found.ty() != ty {
            let reason =
                format!("these are the weights of another model: `{name}` is {}, the model has {ty}", found.ty());
            return Err(wrong(reason));
        }
        store.insert(&name, found);
    }
    let mut program = compiler.compile(graph)?;
    program.run(&mut store).map_err(failed)?;
    let value = |name: &str| {
        let value = program.output_tensor(name);
        value.ok_or_else(|| DriverError::Internal(format!("`{name}` was not computed")))
    };
    graph.outputs().iter().map(|output| Ok((output.name.clone(), value(&output.name)?))).collect()
}
