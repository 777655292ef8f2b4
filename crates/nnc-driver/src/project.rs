//! A `.nn` file with what it uses, read and checked.

use crate::error::DriverError;
use crate::quantise::file;
use nnc_graph::{Graph, Tensor};
use nnc_lang::diagnostic::{Code, Diagnostic, Sources};
use nnc_lang::elaborate::{self, DataInfo, Loader, Options, RecipeInfo, Unit};
use nnc_opt::pipeline;
use nnc_opt::quantise::{self, Layer, Range};
use std::collections::BTreeMap;
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
    /// The ranges of layers, if its weights are floats that were trained with rounding: inference rounds as they were
    /// trained.
    pub rounded: BTreeMap<String, Range>,
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
                let (quantised, rounded) = (Vec::new(), BTreeMap::new());
                let mut project = Self { path: path.to_owned(), unit, warnings, sources, quantised, rounded };
                project.find_rounded()?;
                Ok(project)
            }
            None => {
                Err(DriverError::Diagnostics { diagnostics: checked.diagnostics, sources: Box::new(checked.sources) })
            }
        }
    }

    /// Finds the layers that recipes round while they train.
    fn find_rounded(&mut self) -> Result<(), DriverError> {
        for recipe in &self.unit.recipes {
            let Some(asked) = &recipe.quantise else { continue };
            let graph = self.graph(self.unit.train_step(&recipe.name, Self::batch(recipe)))?;
            let layers: Vec<String> =
                quantise::layers_to_round(&graph).into_iter().filter(|layer| asked.covers(layer)).collect();
            if layers.is_empty() {
                let message = "nothing that is trained here has a product that integers serve";
                let help =
                    "products of f32 activations by weights, with 16 terms and 8 channels or more, outside of loops";
                let diagnostic = Diagnostic::new(Code::E0603, asked.span, message).help(help);
                return self.checked(Err(vec![diagnostic]));
            }
            self.unit.rounded.insert(recipe.name.clone(), layers);
        }
        Ok(())
    }

    /// The project with weights that these tensors are: it rounds as they say.
    ///
    /// # Errors
    /// What is wrong with a range or its integers, in words.
    pub fn with_weights(self, tensors: &BTreeMap<String, Tensor>) -> Result<Self, String> {
        Ok(Self { quantised: file::layers(tensors)?, rounded: file::ranges(tensors)?, ..self })
    }

    /// The folder that data paths start at, when the user names no other.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// A graph, or its diagnostics with the texts they point into.
    ///
    /// # Errors
    /// [`DriverError::Diagnostics`].
    pub fn graph(&self, graph: Result<Graph, Vec<Diagnostic>>) -> Result<Graph, DriverError> {
        self.checked(graph)
    }

    /// A graph that updates nothing, with products of integers where the weights have them, or its diagnostics.
    ///
    /// # Errors
    /// [`DriverError::Diagnostics`], or a bug in the compiler.
    pub fn inference(&self, graph: Result<Graph, Vec<Diagnostic>>) -> Result<Graph, DriverError> {
        self.rounding(graph, &self.rounded)
    }

    /// As [`Self::inference`], with other ranges of layers whose weights are floats.
    ///
    /// # Errors
    /// As [`Self::inference`].
    pub fn rounding(
        &self,
        graph: Result<Graph, Vec<Diagnostic>>,
        rounded: &BTreeMap<String, Range>,
    ) -> Result<Graph, DriverError> {
        let graph = self.checked(graph)?;
        Ok(match (self.quantised.is_empty(), rounded.is_empty()) {
            (true, true) => graph,
            (true, false) => quantise::quantise_floats(&Self::before_rounding(&graph)?, rounded),
            (false, _) => quantise::quantise(&Self::before_rounding(&graph)?, &self.quantised),
        })
    }

    /// A training step, which rounds where its recipe says so, or its diagnostics.
    ///
    /// # Errors
    /// [`DriverError::Diagnostics`].
    pub fn training(&self, graph: Result<Graph, Vec<Diagnostic>>) -> Result<Graph, DriverError> {
        let graph = self.checked(graph)?;
        Ok(if self.unit.rounded.is_empty() { graph } else { quantise::fake_quantise(&graph) })
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
