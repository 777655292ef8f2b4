//! How sparsity rises in a run of a recipe that prunes: from when on it is what was asked for.
//!
//! A schedule is a part of the training step, of the iteration alone, so that its graph is run by itself for iterations
//! in which masks are chosen. What went stays away, so that the most that was asked for is there once it was chosen.

use crate::error::DriverError;
use crate::project::Project;
use nnc_graph::{DType, Graph, Op, Tensor, interpret};
use nnc_lang::diagnostic::{Code, Diagnostic};
use nnc_lang::elaborate::{PruneInfo, RecipeInfo};
use nnc_opt::dce::eliminate_dead_code;
use nnc_opt::prune::SHARE;
use nnc_opt::rewrite::{Fuel, Rewriter};
use std::collections::BTreeMap;

/// A schedule is looked at in so many iterations at most, spread over those in which masks are chosen.
const LOOKED_AT: i64 = 1000;
/// Shares that differ by less are the same.
const SAME: f64 = 1e-6;

/// The iteration, counted from 0, of a run of so many from which on weights have all the zeros that the recipe asks
/// for; 0 if nothing is pruned.
///
/// # Errors
/// Diagnostics: of the recipe, or for a share that is none, or 0 whenever masks are chosen.
pub fn settled(project: &Project, recipe: &RecipeInfo, iterations: i64) -> Result<i64, DriverError> {
    let Some(asked) = &recipe.prune else { return Ok(0) };
    let due = iterations / asked.every;
    if due == 0 {
        return Ok(0);
    }
    let graph = project.checked(project.unit.train_step(&recipe.name, Project::batch(recipe)))?;
    let Some(schedule) = schedule(&graph) else { return Ok(asked.every - 1) };
    let count = due.min(LOOKED_AT);
    let choices = (1..=count).map(|at| at * due / count * asked.every - 1);
    let mut shares = Vec::new();
    for iteration in choices {
        let share = share(&schedule, iteration, iterations)?;
        if !(0.0..1.0).contains(&share) {
            return project.checked(Err(vec![no_share(asked, share, (iteration, iterations))]));
        }
        shares.push((iteration, share));
    }
    let most = shares.iter().fold(0f64, |most, (_, share)| most.max(*share));
    if most == 0.0 {
        return project.checked(Err(vec![nothing_goes(asked, (due * asked.every, iterations))]));
    }
    let first = shares.iter().find(|(_, share)| *share >= most - SAME);
    Ok(first.map_or(0, |(iteration, _)| *iteration))
}

fn no_share(asked: &PruneInfo, share: f64, (iteration, iterations): (i64, i64)) -> Diagnostic {
    let message = format!(
        "the share of the weights that go lies from 0 to below 1, and this is {share} in iteration {} of {iterations}",
        iteration + 1
    );
    Diagnostic::new(Code::E0601, asked.span, message)
}

fn nothing_goes(asked: &PruneInfo, (last, iterations): (i64, i64)) -> Diagnostic {
    let message = "nothing is ever pruned: the share of the weights that go is 0 whenever they are chosen";
    let help = format!(
        "weights are chosen last in iteration {last} of {iterations}: say a share above 0, begin earlier, or choose more \
         often (`every={}`)",
        asked.every
    );
    Diagnostic::new(Code::E0601, asked.span, message).help(help)
}

/// The share that goes, as a graph of the iteration alone; `None` if it depends on more.
fn schedule(step: &Graph) -> Option<Graph> {
    let share = step.outputs().iter().find(|output| output.name == SHARE)?.value;
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(step, &mut unlimited);
    let mut known = vec![false; step.value_count()];
    for (id, node) in step.nodes() {
        let is_known = match &node.op {
            Op::Input { name, .. } => matches!(name.as_str(), ITERATION | ITERATIONS),
            Op::Param { .. } | Op::State { .. } => false,
            _ => node.operands.iter().all(|operand| known[operand.index()]),
        };
        if is_known {
            node.results.iter().for_each(|result| known[result.index()] = true);
            rewriter.copy(id);
        }
    }
    let schedule = known[share.index()].then(|| rewriter.finish_with_results(&[(SHARE.to_owned(), share)]))?;
    Some(eliminate_dead_code(&schedule, &mut unlimited))
}

const ITERATION: &str = "$iteration";
const ITERATIONS: &str = "$iterations";

fn share(schedule: &Graph, iteration: i64, iterations: i64) -> Result<f64, DriverError> {
    let number = |number: i64| Tensor::from_bytes(DType::I64, &[], number.to_le_bytes().to_vec());
    let given = [(ITERATION, iteration), (ITERATIONS, iterations)];
    let given: BTreeMap<String, Tensor> =
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), number(value)?))).collect();
    let run = interpret::run(schedule, &given).map_err(|error| DriverError::Internal(error.to_string()))?;
    Ok(run.value(schedule.outputs()[0].value).to_f64()[0])
}
