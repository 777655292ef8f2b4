//! Numbers of matrices by examples: those that results change least with, not each the nearest
//! ([`crate::quantise::rounding`]).
//!
//! It serves matrices that nothing but products outside of loops reads: rows of a table are best as near as can be.

use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::narrow::chosen::Chosen;
use crate::quantise::examples::Examples;
use crate::quantise::moments::{self, Moments};
use crate::quantise::rounding::{Channel, numbers};
use crate::store::Store;
use nnc_graph::{Graph, Op, Tensor};
use nnc_opt::narrow::{Levels, Matrix, Rounded};
use nnc_opt::quantise::{Site, sites};
use std::collections::BTreeMap;

/// What stands for the chosen matrices of a graph by examples, as far as they tell of it. `store` has all that the graph
/// reads; `told` hears how far it is.
///
/// # Errors
/// What cannot be compiled or run.
pub fn find(
    graph: &Graph,
    (chosen, floats): (&Chosen, &BTreeMap<String, Tensor>),
    (compiler, store): (&Compiler, &mut Store),
    examples: &mut dyn Examples,
    told: &mut dyn FnMut(&str),
) -> Result<BTreeMap<String, Rounded>, DriverError> {
    let all = sites(graph);
    let uses = |(path, (matrix, _)): (&String, &(Matrix, Rounded))| {
        let is_stored = chosen.rows.iter().any(|row| row.path == *path && row.choice.is_ok());
        let uses = if is_stored { uses(graph, &all, matrix) } else { Vec::new() };
        moments::are_found(graph, &uses).then(|| (path.clone(), uses))
    };
    let (paths, products): (Vec<String>, Vec<Vec<Site>>) = chosen.made.iter().filter_map(uses).unzip();
    let products: Vec<&[Site]> = products.iter().map(Vec::as_slice).collect();
    let (mut fitted, mut done) = (BTreeMap::new(), 0);
    told("looking at activations");
    let mut round = |places: &[usize], moments: Moments| {
        done += places.len();
        told(&format!("rounding matrix {done} of {} by examples", paths.len()));
        let given = |&at: &usize| {
            let (matrix, nearest) = &chosen.made[&paths[at]];
            Some((at, (columns(matrix, &floats[&paths[at]], nearest)?, Levels::of(matrix.form)?)))
        };
        let (places, given): (Vec<usize>, Vec<_>) = places.iter().filter_map(given).unzip();
        let numbers = numbers(&given, &moments, compiler.pool.threads());
        for (at, numbers) in places.into_iter().zip(numbers.into_iter().flatten()) {
            let (path, (matrix, nearest)) = (&paths[at], &chosen.made[&paths[at]]);
            let made = nearest.with_numbers(matrix, &floats[path], &numbers);
            fitted.extend(made.map(|made| (path.clone(), made)));
        }
    };
    moments::find(graph, &products, (compiler, store), examples, &mut round)?;
    Ok(fitted)
}

/// The products by a matrix, if nothing else reads it.
fn uses(graph: &Graph, all: &[Site], matrix: &Matrix) -> Vec<Site> {
    let is_own = |site: &&Site| {
        let is_read = matches!(&graph.definition(site.weights).op, Op::Param { path, .. } if *path == matrix.path);
        is_read && site.channel_axis == 1 - matrix.terms_axis
    };
    let uses: Vec<Site> = all.iter().filter(is_own).cloned().collect();
    let parameters =
        graph.nodes().filter(|(_, node)| matches!(&node.op, Op::Param { path, .. } if *path == matrix.path));
    let readers = parameters.flat_map(|(id, _)| graph.users(id));
    let are_uses = readers.into_iter().all(|reader| uses.iter().any(|site| site.node == reader));
    if are_uses { uses } else { Vec::new() }
}

/// The columns of a matrix with the scales of the nearest numbers.
fn columns(matrix: &Matrix, floats: &Tensor, nearest: &Rounded) -> Option<Vec<Channel>> {
    let (terms, width) = matrix.sizes(&floats.ty())?;
    let group = Levels::of(matrix.form)?.group;
    let (values, scales) = (floats.to_f64(), nearest.scales.as_ref()?.to_f64());
    let (down, along) = matrix.strides((terms, width));
    let column = |n: usize| Channel {
        weights: (0..terms).map(|k| values[k * down + n * along] as f32).collect(),
        scales: (0..terms / group).map(|at| scales[at * width + n] as f32).collect(),
    };
    Some((0..width).map(column).collect())
}
