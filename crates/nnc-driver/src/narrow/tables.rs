//! What is left of a network in floats when its products are of integers, in integers of eight bits: tables whose rows
//! are picked by number, with a scale for each row, and matrices of products in loops, with a scale for each output. A
//! loop multiplies the floats that these stand for, as nobody looked at its activations.

use super::{Chosen, LEAST_ELEMENTS, Matrices, Reason, Row, Trial, file};
use crate::compiled::Compiler;
use crate::dataset::Part;
use crate::error::DriverError;
use crate::project::Project;
use crate::quantise::held::hold;
use nnc_graph::{Graph, Stored, Tensor};
use nnc_lang::elaborate::RecipeInfo;
use nnc_opt::narrow::{Candidate, Matrix, candidates, deep_tables, tables};
use std::collections::BTreeMap;

/// The tables of a network and the matrices of its loops, and what stands for those that are stored.
#[derive(Debug, Default)]
pub struct Tables {
    /// What became of each.
    pub rows: Vec<Row>,
    /// Those that are stored.
    pub matrices: Vec<Matrix>,
    /// What stands for them, with records.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Tables {
    /// Those that an inference graph reads, of such floats, all stored that can be.
    ///
    /// # Errors
    /// A bug in the compiler.
    pub fn of(graph: &Graph, floats: &BTreeMap<String, Tensor>) -> Result<Self, DriverError> {
        Ok(chosen(graph, floats)?.into())
    }

    /// As [`Self::of`] of a recipe's evaluation, as far as the metric is held: gives it, too. The project may have
    /// integers already, and `tensors` has all that its programs read.
    ///
    /// # Errors
    /// What cannot be compiled or run.
    pub fn held(
        (project, recipe): (&Project, &RecipeInfo),
        (compiler, part): (&Compiler, &Part),
        tensors: &BTreeMap<String, Tensor>,
        (metric, before, max_drop): (&str, f64, f64),
    ) -> Result<Option<(Self, f64)>, DriverError> {
        let graph = project.graph(project.unit.evaluate(&recipe.name, Project::batch(recipe)))?;
        let mut chosen = chosen(&graph, tensors)?;
        if chosen.rows.iter().all(|row| row.choice == Err(Reason::Small)) {
            return Ok(None);
        }
        let trial = Trial { project, recipe, compiler, floats: tensors, part: part.clone(), metric };
        let count = chosen.rows.len();
        let mut matrices = Matrices { trial: &trial, chosen: &mut chosen };
        let after = hold(&mut matrices, count, (recipe.better(metric), before, max_drop), &mut |_| {})?;
        Ok(Some((chosen.into(), after)))
    }
}

fn chosen(graph: &Graph, floats: &BTreeMap<String, Tensor>) -> Result<Chosen, DriverError> {
    let graph = Project::before_rounding(graph)?;
    let of_loops = candidates(&graph).into_iter().filter(|found| found.in_loops).map(|found| (found, true));
    let found = tables(&graph).into_iter().map(|found| (found, false)).chain(of_loops);
    let stored = |(found, by_floats): (Candidate, bool)| {
        let whole = Stored::Bytes { group: found.dims[found.terms_axis] };
        let matrix = Matrix { by_floats, ..found.stored(whole) };
        (found, matrix)
    };
    let mut chosen = Chosen::new(found.map(stored), floats);
    let deep = deep_tables(&graph).into_iter().filter(|(_, dims)| dims.iter().product::<usize>() >= LEAST_ELEMENTS);
    chosen.rows.extend(deep.map(|(path, dims)| Row::no_matrix(&path, &dims)));
    Ok(chosen)
}

impl From<Chosen> for Tables {
    fn from(chosen: Chosen) -> Self {
        let matrices = chosen.matrices();
        let made = matrices.iter().flat_map(|matrix| chosen.tensors_of(matrix));
        let tensors = made.chain(matrices.iter().map(file::record)).collect();
        Self { rows: chosen.rows, matrices, tensors }
    }
}
