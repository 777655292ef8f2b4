//! Which programs quantised weights may be given to: those whose activations were looked at.
//!
//! A range holds for what it was found on. Another recipe of the same file, other `--set`, an answer that was added
//! later may give the same layer quite other activations. So a file keeps with each range what the activations were
//! computed by ([`nnc_opt::quantise::Site::mark`]), and a program that computes them otherwise is refused. What a
//! program computes behind its products, say another loss, does not matter.
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

/// The forms of a program in which products are quantised, by the number of rows, each made once.
pub struct Forms<'m> {
    project: &'m Project,
    make: Make<'m>,
    made: BTreeMap<usize, Graph>,
}

impl<'m> Forms<'m> {
    /// Those of what `make` makes.
    pub fn new(project: &'m Project, make: Make<'m>) -> Self {
        Self { project, make, made: BTreeMap::new() }
    }

    /// That for a number of rows.
    ///
    /// # Errors
    /// Diagnostics, or a bug in the compiler.
    pub fn of(&mut self, rows: usize) -> Result<&Graph, DriverError> {
        match self.made.contains_key(&rows) {
            true => Ok(&self.made[&rows]),
            false => self.keep(rows, (self.make)(rows)),
        }
    }

    fn keep(&mut self, rows: usize, made: Result<Graph, Vec<Diagnostic>>) -> Result<&Graph, DriverError> {
        let form = Project::before_rounding(&self.project.graph(made)?)?;
        let kept: &Graph = self.made.entry(rows).or_insert(form);
        Ok(kept)
    }

    /// The marks of the program, which runs on `rows` rows.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn marks(&mut self, rows: usize) -> Result<Marks, DriverError> {
        let mut found = Marks::new();
        for site in sites(self.marked(rows)?) {
            found.entry(site.name).or_default().insert(site.mark);
        }
        Ok(found)
    }

    /// The form that marks are taken of.
    fn marked(&mut self, rows: usize) -> Result<&Graph, DriverError> {
        for fixed in ROWS {
            let made = if self.made.contains_key(&fixed) { None } else { Some((self.make)(fixed)) };
            match made {
                None => return self.of(fixed),
                Some(Ok(graph)) => return self.keep(fixed, Ok(graph)),
                Some(Err(_)) => {}
            }
        }
        self.of(rows)
    }
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
        let mut forms = Forms::new(project, make);
        let graph = forms.of(rows)?.clone();
        Ok(Self { name, graph, marks: forms.marks(rows)? })
    }
}

/// Refuses a program, called `what`, that has other activations than those that the ranges of a project were found for.
///
/// # Errors
/// [`DriverError::Weights`] if its weights have other shapes; [`DriverError::Usage`] that names the first such layer;
/// diagnostics.
pub fn check(forms: &mut Forms<'_>, what: &str, rows: usize) -> Result<(), DriverError> {
    let project = forms.project;
    if project.quantised.is_empty() {
        return Ok(());
    }
    let marks = forms.marks(rows)?;
    let other = other_shapes(project, forms.of(rows)?);
    if !other.is_empty() {
        let reason = format!("these are the weights of another model, or of other settings:{other}");
        return Err(DriverError::Weights { path: project.origin.path.clone(), reason });
    }
    let is_known = |layer: &&Layer| marks.get(&layer.name).is_none_or(|marks| marks.is_subset(&layer.marks));
    let Some(unknown) = project.quantised.iter().find(|layer| !is_known(layer)) else { return Ok(()) };
    let name = unknown.name.split('@').next().unwrap_or_default();
    Err(DriverError::Usage(format!(
        "the weights were quantised for another model, another recipe, other settings or other inputs: what {what} multiplies \
         by `{name}` is computed otherwise than what was looked at, so that its range is not known; quantise the floats \
         again with these, or give the floats"
    )))
}

/// The layers whose weights have other dims in a program than their integers have in the file, one a line.
fn other_shapes(project: &Project, graph: &Graph) -> String {
    let mut said = BTreeSet::new();
    for site in sites(graph) {
        let dims = graph.ty(site.weights).shape.sizes();
        if let Some(found) = project.origin.dims.get(&site.name).filter(|found| **found != dims) {
            said.insert(format!("\n  {}: the model has {dims:?}, the file has {found:?}", site.name));
        }
    }
    said.into_iter().collect()
}
