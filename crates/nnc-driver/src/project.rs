//! A `.nn` file with what it uses, read and checked.

use crate::checkpoint::Checkpoint;
use crate::compiled::check_sizes;
use crate::error::DriverError;
use crate::prune::channels::adopt_channels;
use crate::quantise::file;
use crate::quantise::looked::{self, Forms, Make};
use crate::quantise::trained;
use nnc_graph::{Graph, Node, NodeId, Op, Tensor};
use nnc_lang::diagnostic::{Code, Diagnostic, Sources, Span};
use nnc_lang::elaborate::{self, DataInfo, Loader, NODES, Options, RecipeInfo, Unit};
use nnc_lang::syntax::lexer::LARGEST_TEXT;
use nnc_opt::grad;
use nnc_opt::narrow::{Matrix, narrow};
use nnc_opt::pipeline;
use nnc_opt::prune::channels::{self, Record};
use nnc_opt::prune::{self, Use};
use nnc_opt::quantise::{self, Layer, Range};
use std::collections::BTreeMap;
use std::fs;
use std::io;
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
    /// The matrices that its weights have in few bits.
    pub stored: Vec<Matrix>,
    /// Where these are from, for messages.
    pub origin: Origin,
    /// The channels that are left, as its weights say; every graph is made for them.
    pub channels: Record,
    /// The ranges of layers, if its weights are floats that were trained with rounding: inference rounds as they were
    /// trained.
    pub rounded: BTreeMap<String, Range>,
}

/// The file that quantised weights are from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// Its path.
    pub path: PathBuf,
    /// The dims of its integers by the name of their layer.
    pub dims: BTreeMap<String, Vec<usize>>,
}

impl Origin {
    fn new(path: &Path, loaded: &Checkpoint, layers: &[Layer]) -> Self {
        let dims = |layer: &Layer| {
            let integers = loaded.tensors.get(&quantise::weights_path(&layer.name))?;
            Some((layer.name.clone(), integers.dims().to_vec()))
        };
        Self { path: path.to_owned(), dims: layers.iter().filter_map(dims).collect() }
    }
}

/// Reads the files that `use` names, relative to the file that is compiled.
struct Folder(PathBuf);

impl Loader for Folder {
    fn load(&self, path: &str) -> Result<String, String> {
        let path = self.0.join(path);
        text_of(&path).map_err(|why| match why {
            NoText::Unreadable(error) => error.to_string(),
            NoText::TooLarge(bytes) => too_large(bytes),
            NoText::NotPlain => "it is no plain file".to_owned(),
            NoText::NotUtf8(at) => format!("byte {at} is not UTF-8 text: it is no .nn file"),
        })
    }

    fn identity(&self, path: &str) -> String {
        let whole = fs::canonicalize(self.0.join(path)).ok();
        whole.map_or_else(|| path.to_owned(), |whole| whole.to_string_lossy().into_owned())
    }
}

/// Why a file is no source text.
enum NoText {
    Unreadable(io::Error),
    /// It has so many bytes.
    TooLarge(u64),
    /// A folder, a device or a pipe: some of these have no end.
    NotPlain,
    /// It begins to be no text at this byte.
    NotUtf8(usize),
}

/// The text of a file; what it is is known before it is opened.
fn text_of(path: &Path) -> Result<String, NoText> {
    let kind = fs::metadata(path).map_err(NoText::Unreadable)?;
    if !kind.is_file() {
        return Err(NoText::NotPlain);
    }
    if kind.len() > LARGEST_TEXT as u64 {
        return Err(NoText::TooLarge(kind.len()));
    }
    let bytes = fs::read(path).map_err(NoText::Unreadable)?;
    String::from_utf8(bytes).map_err(|error| NoText::NotUtf8(error.utf8_error().valid_up_to()))
}

fn too_large(bytes: u64) -> String {
    format!("the file is too large to be a program: it has {bytes} bytes, and at most {LARGEST_TEXT} are read")
}

/// Reads a source text.
///
/// # Errors
/// It cannot be read, is no plain file or no text, or is larger than any `.nn` file.
pub fn read_source(path: &Path) -> Result<String, DriverError> {
    let shown = path.display();
    text_of(path).map_err(|why| match why {
        NoText::Unreadable(source) => DriverError::Io { doing: "read", path: path.to_owned(), source },
        NoText::NotPlain => DriverError::Usage(format!("{shown}: this is no plain file")),
        NoText::NotUtf8(at) => DriverError::Usage(format!("{shown}: byte {at} is not UTF-8 text: this is no .nn file")),
        NoText::TooLarge(bytes) => {
            let mut sources = Sources::default();
            let file = sources.add(&shown.to_string(), "");
            let span = Span { file, ..Span::default() };
            let diagnostics = vec![Diagnostic::new(Code::E0101, span, too_large(bytes))];
            DriverError::Diagnostics { diagnostics, sources: Box::new(sources) }
        }
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
                let mut project = Self {
                    path: path.to_owned(),
                    unit,
                    warnings,
                    sources,
                    quantised: Vec::new(),
                    stored: Vec::new(),
                    origin: Origin::default(),
                    channels: Record::default(),
                    rounded: BTreeMap::new(),
                };
                project.find_rounded()?;
                project.find_outputs()?;
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
                let diagnostic = nothing_to_round(&graph, asked.span);
                return self.checked(Err(vec![diagnostic]));
            }
            self.unit.rounded.insert(recipe.name.clone(), layers);
        }
        Ok(())
    }

    /// Finds along which axes the blocks of weights lie that recipes prune while they train.
    fn find_outputs(&mut self) -> Result<(), DriverError> {
        let has_blocks = |recipe: &&RecipeInfo| recipe.prune.as_ref().is_some_and(|prune| prune.has_blocks);
        let names: Vec<String> =
            self.unit.recipes.iter().filter(has_blocks).map(|recipe| recipe.name.clone()).collect();
        for name in names {
            let batch = Self::batch(self.recipe(Some(&name))?);
            let evaluation = self.graph(self.unit.evaluate(&name, batch))?;
            let outputs = prune::uses(&evaluation).into_iter().filter_map(|(path, used)| match used {
                Use::Multiplied { outputs } => Some((path, outputs?)),
                Use::Picked | Use::Elementwise => None,
            });
            self.unit.outputs.insert(name.clone(), outputs.collect());
            self.checked(self.unit.train_step(&name, batch))?;
        }
        Ok(())
    }

    /// The project with weights that these tensors are: it rounds as they say.
    ///
    /// # Errors
    /// What is wrong with a range or its integers, or with a stored matrix, in words.
    pub fn with_weights(self, tensors: &BTreeMap<String, Tensor>) -> Result<Self, String> {
        let stored = crate::narrow::file::matrices(tensors)?;
        Ok(Self { quantised: file::layers(tensors)?, rounded: trained::ranges(tensors)?, stored, ..self })
    }

    /// The project as a file of weights asks for it: its integers, stored matrices, ranges and channels.
    ///
    /// # Errors
    /// [`DriverError::Weights`] for what is wrong with one of these, or does not fit; diagnostics.
    pub fn with_file(self, only: Option<&str>, (path, loaded): (&Path, &Checkpoint)) -> Result<Self, DriverError> {
        let wrong = |reason| DriverError::Weights { path: path.to_owned(), reason };
        let project = self.with_weights(&loaded.tensors).map_err(wrong)?;
        let project = Self { origin: Origin::new(path, loaded, &project.quantised), ..project };
        adopt_channels(project, only, &loaded.tensors).map_err(|error| match error {
            DriverError::Usage(reason) => wrong(reason),
            error => error,
        })
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
        self.refuse_outgrown(&graph)?;
        channels::shrink(&graph, &self.channels).map_err(Self::does_not_fit)
    }

    /// Whether a program, as the front end makes it, can do without the channels that the weights lost.
    ///
    /// # Errors
    /// What it needs, in words.
    pub(crate) fn has_all_of(&self, graph: &Graph) -> Result<(), String> {
        channels::shrink(graph, &self.channels).map(|_| ())
    }

    /// Whether a program, as the front end makes it, has tensors of sizes that there are, and derivatives of it can be
    /// made: where neither is said yet.
    pub(crate) fn is_bounded(&self, graph: &Graph) -> bool {
        check_sizes(graph).is_ok() && grad::outgrows(graph, NODES).is_none()
    }

    /// Reports a `grad` that makes a program too large, as when many are nested: what it becomes only the passes know.
    fn refuse_outgrown(&self, graph: &Graph) -> Result<(), DriverError> {
        let Some(origin) = grad::outgrows(graph, NODES) else { return Ok(()) };
        let span = origin.and_then(|origin| self.sources.line(&origin.place)).unwrap_or_default();
        let message = format!("with this derivative the program has more than {NODES} operations");
        let help = "each `grad` of a `grad` makes a program several times as large";
        self.checked(Err(vec![Diagnostic::new(Code::E0406, span, message).help(help)]))
    }

    /// The first values of what a recipe keeps, or of a model, of the channels that the weights have; or its
    /// diagnostics.
    ///
    /// # Errors
    /// As [`Self::graph`].
    pub fn first_values(&self, graph: Result<Graph, Vec<Diagnostic>>) -> Result<Graph, DriverError> {
        channels::first_values(&self.checked(graph)?, &self.channels).map_err(Self::does_not_fit)
    }

    fn does_not_fit(why: String) -> DriverError {
        DriverError::Usage(format!("the weights lost channels, and do not fit this program: {why}"))
    }

    /// A program that updates no parameter, with products of integers where the weights have them, for `rows` rows; or
    /// its diagnostics. Errors call it `what`.
    ///
    /// # Errors
    /// As [`Self::graph`]; activations that weights were not quantised for, or a bug in the compiler.
    pub fn inference(&self, what: &str, make: Make<'_>, rows: usize) -> Result<Graph, DriverError> {
        self.rounding((what, make, rows), &self.rounded)
    }

    /// As [`Self::inference`], with other ranges of layers whose weights are floats.
    ///
    /// # Errors
    /// As [`Self::inference`].
    pub fn rounding(
        &self,
        (what, make, rows): (&str, Make<'_>, usize),
        rounded: &BTreeMap<String, Range>,
    ) -> Result<Graph, DriverError> {
        if self.quantised.is_empty() {
            return self.rounded_by(self.graph(make(rows))?, rounded);
        }
        let mut forms = Forms::new(self, make);
        looked::check(&mut forms, what, rows)?;
        Ok(self.of_integers(forms.of(rows)?))
    }

    /// As [`Self::inference`], for `rows` rows and for one more.
    ///
    /// # Errors
    /// As [`Self::inference`].
    pub fn inference_and_wider(&self, what: &str, make: Make<'_>, rows: usize) -> Result<(Graph, Graph), DriverError> {
        if self.quantised.is_empty() {
            return Ok((self.rounded_graph(make(rows))?, self.rounded_graph(make(rows + 1))?));
        }
        let mut forms = Forms::new(self, make);
        let graph = self.of_integers(forms.of(rows)?);
        let wider = self.of_integers(forms.of(rows + 1)?);
        looked::check(&mut forms, what, rows)?;
        Ok((graph, wider))
    }

    /// As [`Self::inference`], of a graph that is only looked at, or that is known to be one that was quantised for.
    ///
    /// # Errors
    /// As [`Self::graph`], or a bug in the compiler.
    pub fn rounded_graph(&self, graph: Result<Graph, Vec<Diagnostic>>) -> Result<Graph, DriverError> {
        self.rounded_by(self.graph(graph)?, &self.rounded)
    }

    fn rounded_by(&self, graph: Graph, rounded: &BTreeMap<String, Range>) -> Result<Graph, DriverError> {
        match (self.quantised.is_empty(), rounded.is_empty()) {
            (true, true) => self.stored_in(graph),
            (true, false) => {
                let graph = quantise::quantise_floats(&Self::before_rounding(&graph)?, rounded);
                Ok(narrow(&graph, &self.stored))
            }
            (false, _) => Ok(self.of_integers(&Self::before_rounding(&graph)?)),
        }
    }

    /// A graph with products of integers, and with tables as they are stored.
    fn of_integers(&self, graph: &Graph) -> Graph {
        narrow(&quantise::quantise(graph, &self.quantised), &self.stored)
    }

    /// As [`Self::inference`], of a program whose activations nobody looked at: its products are of floats, by the
    /// weights that the integers stand for, or as they are stored.
    ///
    /// # Errors
    /// As [`Self::inference`].
    pub fn unobserved(&self, graph: Result<Graph, Vec<Diagnostic>>) -> Result<Graph, DriverError> {
        let graph = self.graph(graph)?;
        if self.quantised.is_empty() {
            return self.stored_in(graph);
        }
        let graph = quantise::floats_of_integers(&Self::before_rounding(&graph)?, &self.quantised);
        Ok(narrow(&graph, &self.stored))
    }

    /// A graph with the matrices as they are stored.
    fn stored_in(&self, graph: Graph) -> Result<Graph, DriverError> {
        match self.stored.is_empty() {
            true => Ok(graph),
            false => Ok(narrow(&Self::before_rounding(&graph)?, &self.stored)),
        }
    }

    /// A training step of a recipe, which rounds and prunes where that says so, or its diagnostics.
    ///
    /// # Errors
    /// As [`Self::graph`].
    pub fn training(&self, graph: Result<Graph, Vec<Diagnostic>>, recipe: &RecipeInfo) -> Result<Graph, DriverError> {
        let graph = self.graph(graph)?;
        let rounded = if self.unit.rounded.is_empty() { graph } else { quantise::fake_quantise(&graph) };
        Ok(prune::with_choice(&rounded, &|path| recipe.leader(path)))
    }

    /// The paths of integers and of few bits, and of what is kept beside them.
    pub fn numbers(&self) -> impl Iterator<Item = String> {
        let integers = self.quantised.iter().flat_map(|layer| {
            [quantise::weights_path, quantise::scales_path, quantise::shifts_path].map(|of| of(&layer.name))
        });
        integers.chain(self.stored.iter().flat_map(|matrix| [matrix.stored_path(), matrix.scales_path()]))
    }

    /// Whether its weights are all floats, which alone are trained.
    pub fn has_floats(&self) -> bool {
        self.quantised.is_empty() && self.stored.is_empty()
    }

    /// The form of a graph that updates no parameter in which products are quantised.
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
                .find(|recipe| recipe.name == name || format!("{} on {}", recipe.name, recipe.data) == name)
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

/// What is said where a recipe rounds, and nothing of its training step can be.
fn nothing_to_round(graph: &Graph, place: Span) -> Diagnostic {
    let is_half = |(_, node): (NodeId, &Node)| matches!(&node.op, Op::Param { ty, .. } if ty.dtype.is_half());
    let (message, help) = match graph.nodes().any(is_half) {
        true => (
            "training rounds products of f32, and the weights here are floats of 16 bits",
            "train without `quantise`, and make integers of the weights afterwards: `nnc quantise FILE --weights W`",
        ),
        false => (
            "nothing that is trained here has a product that integers serve",
            "products of f32 activations by weights, with 16 terms and 8 channels or more, outside of loops",
        ),
    };
    Diagnostic::new(Code::E0603, place, message).help(help)
}
