//! The derivative of a loss by each parameter, written as a person would.
//!
//! The graph is cut down to the loss and the derivatives, expanded and simplified, and then printed in two parts: the
//! forward values, and the cotangents, where `d_x` stands for the derivative of the loss by `x`. Each line is one
//! step: a value that the user named, that is used several times, or whose expression would be long has a name
//! ([`names`]); all else stands inside the expression that uses it ([`expression`]). A call of a library function of
//! which only the result is used prints as that call ([`calls`]); what comes from the data alone prints as a name
//! ([`data`]), and a loop as a block ([`loops`]).

mod calls;
mod data;
mod expression;
mod loops;
mod names;
mod notation;

use crate::rewrite::{Fuel, Rewriter, with_results};
use crate::runner::Runner;
use crate::{OptError, grad, pipeline};
use expression::Writer;
use nnc_graph::{Graph, Node, Op, ValueId};
use std::fmt::{self, Write};

/// The end of the path of what is trained, beside the states of an optimiser, where a recipe averages.
const FAST: &str = ".$fast";

/// Why there is nothing to print.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadableError {
    /// The graph differentiates by no parameter.
    NoGradient,
    /// It does not differentiate by this parameter, but by those.
    NotDifferentiatedBy {
        /// What was asked for.
        path: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A bug in the compiler.
    Invalid(OptError),
}

impl fmt::Display for ReadableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGradient => f.write_str("nothing is differentiated by a parameter here"),
            Self::NotDifferentiatedBy { path, known } => {
                write!(f, "the loss is not differentiated by `{path}`, but by {}", known.join(", "))
            }
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadableError {}

impl From<OptError> for ReadableError {
    fn from(error: OptError) -> Self {
        Self::Invalid(error)
    }
}

/// The derivatives by every parameter that `graph`, which still has its `grad`s, differentiates by; or by one of them.
/// What is trained of a parameter that a recipe averages prints as the parameter.
///
/// # Errors
/// [`ReadableError`].
pub fn readable(graph: &Graph, by: Option<&str>) -> Result<String, ReadableError> {
    let graph = &trained_as_parameters(graph);
    let derivatives = derivatives(graph);
    let known: Vec<String> = derivatives.iter().map(|(path, ..)| path.clone()).collect();
    let wanted: Vec<_> = derivatives.into_iter().filter(|(path, ..)| by.is_none_or(|by| by == path)).collect();
    match (wanted.is_empty(), by) {
        (false, _) => {}
        (true, Some(by)) if !known.is_empty() => {
            return Err(ReadableError::NotDifferentiatedBy { path: by.to_owned(), known });
        }
        (true, _) => return Err(ReadableError::NoGradient),
    }
    let named = names::give_every_value_a_name(graph);
    let results = results(&wanted);
    let cut = with_results(&named, &results);
    let mut runner = Runner::new(None, true, false);
    let plain = pipeline::clean_up(grad::expand(&cut), &mut runner, true)?;
    Ok(print(&plain))
}

/// The graph in which the parameter itself stands for what is trained of it. A recipe that averages trains a state
/// beside the parameter: in the first step its value, which a `select` chooses, is the parameter's.
fn trained_as_parameters(graph: &Graph) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        match averaged_parameter(graph, node) {
            Some(parameter) => {
                let parameter = rewriter.value(parameter);
                rewriter.replace(node.results[0], parameter);
            }
            None => drop(rewriter.copy(id)),
        }
    }
    rewriter.finish()
}

/// The parameter that a node chooses in the first step, and after it what is trained of it.
fn averaged_parameter(graph: &Graph, node: &Node) -> Option<ValueId> {
    let (Op::Select, &[_, first, then]) = (&node.op, node.operands.as_slice()) else { return None };
    let is_parameter = matches!(graph.definition(first).op, Op::Param { .. });
    let is_trained = matches!(&graph.definition(then).op, Op::State { path, .. } if path.ends_with(FAST));
    (is_parameter && is_trained).then_some(first)
}

/// Path, loss and derivative of each parameter that is differentiated by.
fn derivatives(graph: &Graph) -> Vec<(String, ValueId, ValueId)> {
    let mut found = Vec::new();
    for (_, node) in graph.nodes().filter(|(_, node)| node.op == Op::Grad) {
        for (&wrt, &result) in node.operands[1..].iter().zip(&node.results) {
            if let Op::Param { path, .. } = &graph.definition(wrt).op {
                found.push((path.clone(), node.operands[0], result));
            }
        }
    }
    found
}

/// The losses, each once, and the derivatives, by name.
fn results(wanted: &[(String, ValueId, ValueId)]) -> Vec<(String, ValueId)> {
    let mut losses: Vec<ValueId> = wanted.iter().map(|(_, loss, _)| *loss).collect();
    losses.sort_unstable();
    losses.dedup();
    let several = losses.len() > 1;
    let loss_name = |at: usize| if several { format!("loss_{}", at + 1) } else { "loss".to_owned() };
    let losses = losses.into_iter().enumerate().map(|(at, loss)| (loss_name(at), loss));
    losses.chain(wanted.iter().map(|(path, _, gradient)| (format!("d_{path}"), *gradient))).collect()
}

/// For each value, whether it is one that a loss is computed from.
fn forward_values(graph: &Graph) -> Vec<bool> {
    let mut forward = vec![false; graph.value_count()];
    for output in graph.outputs().iter().filter(|output| output.name.starts_with("loss")) {
        forward[output.value.index()] = true;
    }
    for (_, node) in graph.nodes().rev() {
        if node.results.iter().any(|result| forward[result.index()]) {
            node.operands.iter().for_each(|operand| forward[operand.index()] = true);
        }
    }
    forward
}

fn print(graph: &Graph) -> String {
    let forward = forward_values(graph);
    let mut writer = Writer::new(graph, &forward);
    let lines = writer.lines();
    let given = writer.given();
    let names = lines.iter().map(|line| &line.name).chain(given.iter().map(|(name, _)| name));
    let width = names.map(|name| name.chars().count()).max().unwrap_or_default().min(28);
    let mut text = String::from("# given\n");
    for (name, ty) in given {
        let _ = writeln!(text, "{name:width$} : {ty}");
    }
    let (before, after): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.forward);
    for (title, part) in [("forward", before), ("backward: d_x is the derivative of the loss by x", after)] {
        let _ = writeln!(text, "\n# {title}");
        for line in part {
            let _ = writeln!(text, "{:width$} = {}  # {}", line.name, line.expression, line.ty);
        }
    }
    text
}
