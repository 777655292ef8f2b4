//! Which programs quantised weights may be given to: those whose activations were looked at.
//!
//! A range holds for what it was found on. Another recipe of the same file, other `--set`, an answer that was added later
//! may give the same layer quite other activations. So a file keeps with each range what the activations were computed by
//! ([`nnc_opt::quantise::Site::mark`]), and a program that computes them otherwise is refused. What a program computes
//! behind its products, say another loss, does not matter.
//!
//! Shapes are part of a mark, so that it is taken of the program for a fixed number of rows.

use crate::error::DriverError;
use crate::project::Project;
use nnc_graph::Graph;
use nnc_lang::diagnostic::Diagnostic;
use nnc_opt::quantise::{Layer, sites};
use std::collections::{BTreeMap, BTreeSet};

/// Makes a program for a number of rows.
pub type Make<'m> = &'m dyn Fn(usize) -> Result<Graph, Vec<Diagnostic>>;

/// Marks are taken for the first of these numbers of rows that the program can be made for: one with `x[0..8]` wants 8.
/// With one row, more would be simplified away than with several.
const ROWS: [usize; 4] = [2, 16, 128, 1024];

/// The marks of the activations of a program's products, by the names of these.
pub type Marks = BTreeMap<String, BTreeSet<u64>>;

/// Those of a program that runs on `rows` rows.
///
/// # Errors
/// Diagnostics, or a bug in the compiler.
pub fn marks(project: &Project, make: Make<'_>, rows: usize) -> Result<Marks, DriverError> {
    let made = ROWS.into_iter().map(make).find(Result::is_ok);
    let graph = project.graph(made.unwrap_or_else(|| make(rows)))?;
    let mut found = Marks::new();
    for site in sites(&Project::before_rounding(&graph)?) {
        found.entry(site.name).or_default().insert(site.mark);
    }
    Ok(found)
}

/// A program that is looked at.
pub struct Program {
    /// What it is called.
    pub name: String,
    /// The form in which products are quantised.
    pub graph: Graph,
    /// What its activations are computed by.
    pub marks: Marks,
}

impl Program {
    /// The program called `name` for `rows` rows.
    ///
    /// # Errors
    /// Diagnostics, or a bug in the compiler.
    pub fn new(project: &Project, name: String, make: Make<'_>, rows: usize) -> Result<Self, DriverError> {
        let graph = Project::before_rounding(&project.graph(make(rows))?)?;
        Ok(Self { name, graph, marks: marks(project, make, rows)? })
    }
}

/// Refuses a program, called `what`, that has other activations than those that the ranges of a project were found for.
///
/// # Errors
/// [`DriverError::Usage`] that names the first such layer; diagnostics.
pub fn check(project: &Project, what: &str, make: Make<'_>, rows: usize) -> Result<(), DriverError> {
    if project.quantised.is_empty() {
        return Ok(());
    }
    let marks = marks(project, make, rows)?;
    let is_known = |layer: &&Layer| marks.get(&layer.name).is_none_or(|marks| marks.is_subset(&layer.marks));
    let Some(unknown) = project.quantised.iter().find(|layer| !is_known(layer)) else { return Ok(()) };
    let name = unknown.name.split('@').next().unwrap_or_default();
    Err(DriverError::Usage(format!(
        "the weights were quantised for another model, another recipe or other settings: what {what} multiplies by `{name}` \
         is computed otherwise than what was looked at, so that its range is not known; quantise the floats again with \
         this recipe and these settings, or give the floats"
    )))
}
