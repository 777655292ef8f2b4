//! A `.nn` file with what it uses, read and checked.

use crate::error::DriverError;
use nnc_graph::Graph;
use nnc_lang::diagnostic::{Diagnostic, Sources};
use nnc_lang::elaborate::{self, DataInfo, Loader, Options, RecipeInfo, Unit};
use nnc_opt::pipeline;
use nnc_opt::prune::channels::{self, Record};
use nnc_opt::quantise::{self, Layer};
use std::fs;
use std::path::{Path, PathBuf};

/// A checked file.
#[derive(Clone, Debug)]
pub struct Project {
    /// Where it is.
    pub path: PathBuf,
    /// What it declares.
    pub unit: Unit,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
    /// The texts of it and of what it uses.
    pub sources: Sources,
    /// The products that inference does with integers, as its weights say.
    pub quantised: Vec<Layer>,
    /// The channels that are left, as its weights say; every graph is made for them.
    pub channels: Record,
}

/// Reads the files that `use` names, relative to the file that is compiled.
struct Folder(PathBuf);

impl Loader for Folder {
    fn load(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(self.0.join(path)).map_err(|error| error.to_string())
    }
}

/// Every `.nn` file is smaller than this, in bytes; a larger one is something else.
const LARGEST_SOURCE: u64 = 16 << 20;

/// Reads a source text.
///
/// # Errors
/// It cannot be read, is no text, or is larger than any `.nn` file.
pub fn read_source(path: &Path) -> Result<String, DriverError> {
    let failed = |source| DriverError::Io { doing: "read", path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST_SOURCE {
        return Err(DriverError::Usage(format!("{} has {length} bytes: this is no .nn file", path.display())));
    }
    let bytes = fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        DriverError::Usage(format!("{}: byte {at} is not UTF-8 text: this is no .nn file", path.display()))
    })
}

impl Project {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`DriverError::Diagnostics`] when it has errors, [`DriverError::Io`] when it cannot be read.
    pub fn load(path: &Path, options: &Options) -> Result<Self, DriverError> {
        let text = read_source(path)?;
        let folder = Folder(path.parent().unwrap_or(Path::new("")).to_owned());
        let checked = elaborate::check(&path.display().to_string(), &text, &folder, options);
        match checked.unit {
            Some(unit) => {
                let (warnings, sources) = (checked.diagnostics, checked.sources);
                Ok(Self {
                    path: path.to_owned(),
                    unit,
                    warnings,
                    sources,
                    quantised: Vec::new(),
                    channels: Record::default(),
                })
            }
            None => {
                Err(DriverError::Diagnostics { diagnostics: checked.diagnostics, sources: Box::new(checked.sources) })
            }
        }
    }

    /// The folder that data paths start at, when the user names no other.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// A graph of the channels that the weights have, or its diagnostics with the texts they point into.
    ///
    /// # Errors
    /// [`DriverError::Diagnostics`]; [`DriverError::Usage`] if it needs channels that are gone.
    pub fn graph(&self, graph: Result<Graph, Vec<Diagnostic>>) -> Result<Graph, DriverError> {
        let graph = self.checked(graph)?;
        channels::narrow(&graph, &self.channels)
            .map_err(|why| DriverError::Usage(format!("the weights lost channels, and do not fit this program: {why}")))
    }

    /// As [`Self::graph`], of a graph that updates nothing, with products of integers where the weights have them.
    ///
    /// # Errors
    /// As [`Self::graph`], or a bug in the compiler.
    pub fn inference(&self, graph: Result<Graph, Vec<Diagnostic>>) -> Result<Graph, DriverError> {
        self.rounded(self.graph(graph)?)
    }

    /// A graph of [`Self::graph`] that updates nothing, with products of integers where the weights have them.
    ///
    /// # Errors
    /// A bug in the compiler.
    pub fn rounded(&self, graph: Graph) -> Result<Graph, DriverError> {
        if self.quantised.is_empty() {
            return Ok(graph);
        }
        Ok(quantise::quantise(&Self::before_rounding(&graph)?, &self.quantised))
    }

    /// The form of a graph that updates nothing in which products are quantised.
    ///
    /// # Errors
    /// A bug in the compiler.
    pub fn before_rounding(graph: &Graph) -> Result<Graph, DriverError> {
        pipeline::inference(graph).map_err(|error| DriverError::Internal(error.to_string()))
    }

    /// What the front end made, or its diagnostics with the texts they point into.
    ///
    /// # Errors
    /// [`DriverError::Diagnostics`].
    pub fn checked<T>(&self, made: Result<T, Vec<Diagnostic>>) -> Result<T, DriverError> {
        made.map_err(|diagnostics| DriverError::Diagnostics { diagnostics, sources: Box::new(self.sources.clone()) })
    }

    /// The recipe called `name`, or the only one.
    ///
    /// # Errors
    /// [`DriverError::Usage`] that lists what there is.
    pub fn recipe(&self, name: Option<&str>) -> Result<&RecipeInfo, DriverError> {
        let recipes = &self.unit.recipes;
        let listed = || recipes.iter().map(|recipe| format!("`{}`", recipe.name)).collect::<Vec<_>>().join(", ");
        let file = self.path.display();
        match (name, recipes.as_slice()) {
            (_, []) => Err(DriverError::Usage(format!(
                "{file} has no `train` block: add one that says how the model is trained (see `nnc new`)"
            ))),
            (None, [only]) => Ok(only),
            (None, _) => Err(DriverError::Usage(format!("{file} has several recipes, choose one of {}", listed()))),
            (Some(name), _) => recipes
                .iter()
                .find(|recipe| recipe.name == name)
                .ok_or_else(|| DriverError::Usage(format!("{file} has no recipe `{name}`; it has {}", listed()))),
        }
    }

    /// The examples of a step of a recipe.
    pub fn batch(recipe: &RecipeInfo) -> usize {
        usize::try_from(recipe.batch).expect("the front end takes a batch from 1")
    }

    /// The data block called `name`.
    ///
    /// # Errors
    /// [`DriverError::Internal`]: the front end checks that it exists.
    pub fn data(&self, name: &str) -> Result<&DataInfo, DriverError> {
        let found = self.unit.data.iter().find(|data| data.name == name);
        found.ok_or_else(|| DriverError::Internal(format!("data `{name}` is not declared")))
    }
}
