//! What `run`, `build` and `bench` compile: a recipe's answer, or a model by itself when the file has no recipe.

use crate::checkpoint::Checkpoint;
use crate::dataset;
use crate::deploy::Subject;
use crate::error::DriverError;
use crate::learned::Learned;
use crate::pretrained::{self, Holding};
use crate::project::Project;
use crate::quantise::looked::{self, Forms};
use crate::sizes;
use crate::spelling::Tables;
use crate::stage::batch_of;
use crate::store::Store;
use nnc_data::{TokenTable, Vocabulary};
use nnc_graph::{DType, Dim, Graph, TensorType};
use nnc_lang::diagnostic::{Diagnostic, closest};
use nnc_lang::elaborate::weight_names::Pretrained;
use nnc_lang::elaborate::{DataInfo, ModelInfo, ParameterInfo, ParameterKind, RawField, RecipeInfo};
use nnc_opt::rows::{self, Mixed};
use nnc_stub::manifest::Reading;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::Path;

/// What an answer takes beside the fields of the data.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The answer, when there is one to be named.
    answer: Option<String>,
    /// Its parameters; their values are told by the graph that is made.
    pub(crate) parameters: Vec<ParameterInfo>,
    /// Of a model by itself, the inputs with dims that nothing says.
    pub(crate) open: Vec<(String, TensorType)>,
    /// Of a model by itself, the tensors with a default that are inputs all the same.
    given: BTreeSet<String>,
    /// Of a text, the dtype of the numbers of its characters or tokens.
    pub(crate) letters: Option<DType>,
    /// Whether these are byte-pair tokens.
    of_tokens: bool,
    /// The table of these, as weights know it.
    pub(crate) tokens: Option<TokenTable>,
}

impl Inputs {
    /// Those of the answer called `answer` of the recipe called `only`; each may be left out when there is one.
    ///
    /// # Errors
    /// A name that the file does not have.
    pub fn new(project: &Project, only: Option<&str>, answer: Option<&str>) -> Result<Self, DriverError> {
        if project.unit.recipes.is_empty() {
            let info = model_of(project, only)?;
            let (open, parameters) = (open_inputs(project, &info.name), info.parameters.clone());
            return Ok(Self { answer: answer.map(str::to_owned), open, parameters, ..Self::default() });
        }
        let recipe = project.recipe(only)?;
        let data = project.data(&recipe.data)?;
        let of_tokens = data.is_running_tokens();
        let letters = data.raw.first().filter(|_| of_tokens || data.is_text()).map(|field| field.ty.dtype);
        let asked = recipe.asked(answer).map_err(|name| unknown_answer(recipe, &name))?;
        let parameters = asked.and_then(|asked| asked.parameters.clone()).unwrap_or_default();
        let answer = answer.map(str::to_owned).or_else(|| asked.map(|asked| asked.name.clone()));
        Ok(Self { answer, parameters, letters, of_tokens, ..Self::default() })
    }

    /// The same where a model by itself is given those of its tensors with a default that `is_given` names.
    ///
    /// # Errors
    /// A name that the file does not have.
    pub fn with_optional(
        mut self,
        project: &Project,
        only: Option<&str>,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<Self, DriverError> {
        if project.unit.recipes.is_empty() {
            for (name, ty) in model_of(project, only)?.optional.iter().filter(|(name, _)| is_given(name)) {
                self.given.insert(name.clone());
                if !open_names(project, ty).is_empty() {
                    self.open.push((name.clone(), ty.clone()));
                }
            }
        }
        Ok(self)
    }

    /// The same for these weights: without names for characters, or a table of tokens, numbers are no text.
    #[must_use]
    pub fn held_to(self, learned: &Learned) -> Self {
        let tokens = learned.vocabularies.first().and_then(Vocabulary::tokens).filter(|_| self.of_tokens).cloned();
        let has_characters = learned.classes.as_ref().is_some_and(|characters| !characters.is_empty());
        let knows = if self.of_tokens { tokens.is_some() } else { has_characters };
        Self { letters: self.letters.filter(|_| knows), tokens, ..self }
    }

    /// What has to be given before the program is made, by name: the parameters that are tensors, and what a model
    /// leaves open.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        let parameters = self.parameters.iter().filter_map(|parameter| match &parameter.kind {
            ParameterKind::Input(ty) => Some((parameter.name.as_str(), ty)),
            ParameterKind::Scalar(..) | ParameterKind::Setting(_) => None,
        });
        parameters.chain(self.open.iter().map(|(name, ty)| (name.as_str(), ty)))
    }

    /// Whether numbers of this type are characters or tokens: those of a text's dtype, with an axis or more.
    pub fn is_text(&self, ty: &TensorType) -> bool {
        self.letters == Some(ty.dtype) && ty.shape.rank() > 0
    }

    /// What was set when the graph was made, as `length=300`.
    pub(crate) fn fixed(&self) -> Vec<String> {
        let settings = self.parameters.iter().filter_map(|parameter| match &parameter.kind {
            ParameterKind::Setting(value) => Some(format!("{}={}", parameter.name, value.as_ref()?)),
            ParameterKind::Input(_) | ParameterKind::Scalar(..) => None,
        });
        settings.collect()
    }
}

fn unknown_answer(recipe: &RecipeInfo, name: &str) -> DriverError {
    let names = || recipe.answers.iter().map(|answer| answer.name.as_str());
    let listed = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if name.is_empty() {
        return DriverError::Usage(format!("recipe `{}` has several answers; choose one of {listed}", recipe.name));
    }
    let message = format!("recipe `{}` has no answer `{name}`; it has {listed}", recipe.name);
    DriverError::Usage(match closest(name, names()) {
        Some(meant) => format!("{message}: did you mean `{meant}`?"),
        None => message,
    })
}

/// The dims of a model's inputs that neither the options nor `known` say, but the axis of examples.
pub fn open_dims(project: &Project, model: &str, known: &BTreeMap<String, i64>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, ty) in open_inputs(project, model) {
        let names = open_names(project, &ty).into_iter().filter(|name| !known.contains_key(name));
        names.for_each(|name| {
            if !found.contains(&name) {
                found.push(name)
            }
        });
    }
    found
}

/// The inputs of a model that have such dims, in which the sizes that the options say are put in.
fn open_inputs(project: &Project, model: &str) -> Vec<(String, TensorType)> {
    let inputs = project.unit.models.iter().filter(|info| info.name == model).flat_map(|info| &info.inputs);
    let open = inputs.filter(|(_, ty)| !open_names(project, ty).is_empty());
    open.map(|(name, ty)| (name.clone(), with_said_sizes(project, ty))).collect()
}

/// A type with the sizes that the options say, but for that of the rows.
fn with_said_sizes(project: &Project, ty: &TensorType) -> TensorType {
    let said = |name: &str| project.unit.said_size(name).filter(|_| name != sizes::ROWS).map(Dim::from);
    TensorType::new(
        ty.dtype,
        ty.shape.iter().map(|dim| dim.bind(&said).unwrap_or_else(|| dim.clone())).collect::<Vec<_>>(),
    )
}

/// The names of a type's dims that the options do not say. `S[0]` is one of the dims that `...S` stands for.
fn open_names(project: &Project, ty: &TensorType) -> Vec<String> {
    let mut names = Vec::new();
    ty.shape.iter().for_each(|dim| dim.names(&mut |name| names.push(name.to_owned())));
    names.retain(|name| name != sizes::ROWS && !name.contains('[') && !project.unit.is_bound(name));
    names
}

/// A model by itself for so many rows, with inputs of these sizes where the options say no others.
fn model_for(
    project: &Project,
    name: &str,
    (inputs, sizes): (&Inputs, &BTreeMap<String, i64>),
    rows: usize,
) -> Result<(Graph, Pretrained), Vec<Diagnostic>> {
    let said = sizes.iter().filter(|(dim, _)| !project.unit.is_bound(dim));
    let bind = batch_of(rows).into_iter().chain(said.map(|(dim, size)| (dim.clone(), *size))).collect();
    project.unit.model_with_weights(name, &bind, &inputs.given)
}

/// What a model by itself is called, with those of its inputs that have a default and are given.
fn called(name: &str, inputs: &Inputs) -> String {
    let given = inputs.given.iter().map(|input| format!("`{input}`")).collect::<Vec<_>>().join(" and ");
    if given.is_empty() { format!("the model `{name}`") } else { format!("the model `{name}`, given {given},") }
}

/// An answer of which a row depends on other rows, and where that is made.
fn shown(mixed: &Mixed) -> String {
    let output = &mixed.output;
    match &mixed.by {
        Some((op, Some(origin))) => format!("`{output}` (by `{op}` at {})", origin.place),
        Some((op, None)) => format!("`{output}` (by `{op}`)"),
        None => format!("`{output}`"),
    }
}

/// The graphs of an answer for `rows` rows and for one more.
#[derive(Debug)]
pub struct AnswerGraphs {
    name: String,
    /// The recipe, if it is an answer of one.
    recipe: Option<String>,
    source: String,
    classes: Vec<String>,
    inputs: Inputs,
    /// The sizes that its inputs tell.
    sizes: BTreeMap<String, i64>,
    /// The answers of which a row depends on other rows, once these were looked for.
    mixed: Vec<String>,
    /// How the inputs of a recipe are read.
    data: Option<DataInfo>,
    rows: usize,
    /// For `rows` rows.
    pub graph: Graph,
    wider: Graph,
    pretrained: Pretrained,
    holding: Holding,
}

impl AnswerGraphs {
    /// The answer called `answer` of the recipe called `only`; each may be left out when there is one.
    ///
    /// # Errors
    /// Diagnostics, or a name that the file does not have.
    pub fn new(project: &Project, only: Option<&str>, answer: Option<&str>, rows: usize) -> Result<Self, DriverError> {
        Self::sized(project, only, Inputs::new(project, only, answer)?, rows, &BTreeMap::new())
    }

    /// The answer with these inputs, whose open dims have these sizes.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn sized(
        project: &Project,
        only: Option<&str>,
        mut inputs: Inputs,
        rows: usize,
        sizes: &BTreeMap<String, i64>,
    ) -> Result<Self, DriverError> {
        let source = project.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if project.unit.recipes.is_empty() {
            let name = model_name(project, only)?;
            let made = |rows: usize| model_for(project, &name, (&inputs, sizes), rows);
            let model = |rows: usize| made(rows).map(|(graph, _)| graph);
            looked::check(&mut Forms::new(project, &model), &called(&name, &inputs), rows)?;
            let make = |rows: usize| -> Result<_, DriverError> {
                let (graph, pretrained) = project.checked(made(rows))?;
                Ok((project.rounded_graph(Ok(graph))?, pretrained))
            };
            let ((graph, pretrained), (wider, _)) = (make(rows)?, make(rows + 1)?);
            let (classes, data, holding) = (Vec::new(), None, Holding::Program);
            let (recipe, sizes, mixed) = (None, sizes.clone(), Vec::new());
            return Ok(Self {
                name,
                recipe,
                source,
                classes,
                inputs,
                sizes,
                mixed,
                data,
                rows,
                graph,
                wider,
                pretrained,
                holding,
            });
        }
        let recipe = project.recipe(only)?;
        let data = project.data(&recipe.data)?;
        let (classes, data) = (data.classes.clone().unwrap_or_default(), Some(data.clone()));
        let answer = inputs.answer.clone();
        let answer = answer.as_deref();
        // What an answer with parameters computes was not looked at when weights were quantised.
        let is_looked_at = recipe.asked(answer).ok().flatten().is_none_or(|asked| asked.parameters.is_none());
        let make = |rows: usize| project.unit.answer_sized(&recipe.name, answer, rows, sizes);
        let (graph, wider) = match is_looked_at {
            true => {
                let what = answer.map_or("the answer".to_owned(), |name| format!("the answer `{name}`"));
                project.inference_and_wider(&what, &make, rows)?
            }
            false => {
                let made = project.unit.answer_and_parameters(&recipe.name, answer, rows, sizes);
                let (graph, parameters) = project.checked(made)?;
                let both = (project.unobserved(Ok(graph))?, project.unobserved(make(rows + 1))?);
                inputs.parameters = parameters;
                both
            }
        };
        let (name, pretrained) = (recipe.model.clone(), recipe.pretrained.clone());
        let (recipe, sizes, mixed) = (Some(recipe.name.clone()), sizes.clone(), Vec::new());
        let holding = Holding::Part;
        Ok(Self { name, recipe, source, classes, inputs, sizes, mixed, data, rows, graph, wider, pretrained, holding })
    }

    /// The same, where it is known which answers have rows that depend on other rows.
    #[must_use]
    pub fn with_mixed(mut self, project: &Project) -> Self {
        let few = self.rows.max(2);
        // Programs that cannot be made for so many rows are run on fewer.
        let made = |rows: usize| self.made(project, rows).ok().filter(|graph| project.is_bounded(graph));
        if let (Some(few), Some(more)) = (made(few), made(few + 1)) {
            self.mixed = rows::mixed(&few, &more).iter().map(shown).collect();
        }
        self
    }

    /// The graph for so many rows as the front end makes it.
    pub(crate) fn made(&self, project: &Project, rows: usize) -> Result<Graph, Vec<Diagnostic>> {
        match &self.recipe {
            Some(recipe) => project.unit.answer_sized(recipe, self.inputs.answer.as_deref(), rows, &self.sizes),
            None => Ok(model_for(project, &self.name, (&self.inputs, &self.sizes), rows)?.0),
        }
    }

    /// Of a model by itself, the same where all that has a default has it.
    pub(crate) fn made_by_defaults(&self, project: &Project, rows: usize) -> Result<Graph, Vec<Diagnostic>> {
        let inputs = Inputs { given: BTreeSet::new(), ..self.inputs.clone() };
        Ok(model_for(project, &self.name, (&inputs, &self.sizes), rows)?.0)
    }

    /// Whether a model by itself is given what has a default.
    pub(crate) fn is_given_more(&self) -> bool {
        !self.inputs.given.is_empty()
    }

    /// A model by itself, with those of its inputs that have a default and are given.
    pub(crate) fn called(&self) -> String {
        called(&self.name, &self.inputs)
    }

    /// The answers of which a row depends on other rows, and what makes it so, if that was looked for.
    pub fn mixed(&self) -> &[String] {
        &self.mixed
    }

    /// What is deployed; class names and characters that the checkpoint learned are taken when the file has none.
    pub fn subject(&self, checkpoint: &Checkpoint) -> Subject<'_> {
        let learned = Learned::of(checkpoint);
        let inputs = self.inputs.clone().held_to(&learned);
        let taught = || match &inputs.tokens {
            Some(tokens) => tokens.names(),
            None => learned.classes.clone().unwrap_or_default(),
        };
        let classes = if self.classes.is_empty() { taught() } else { self.classes.clone() };
        Subject {
            name: self.name.clone(),
            source: self.source.clone(),
            readings: self.readings(inputs.letters.is_some(), &learned.vocabularies),
            words: self.words(&learned.vocabularies),
            mixed: self.mixed.clone(),
            inputs,
            classes,
            vocabularies: learned.vocabularies,
            graph: &self.graph,
            wider: &self.wider,
            rows: self.rows,
        }
    }

    /// How each raw tensor of the data is read from a file; weights may lack the characters, the words or the tokens.
    fn readings(&self, is_text: bool, tables: &[Vocabulary]) -> BTreeMap<String, Reading> {
        let Some(data) = &self.data else { return BTreeMap::new() };
        let unit = dataset::unit(data);
        let of = |field: &RawField| match field.table {
            Some(_) if data.is_running_tokens() && is_text => Reading::Characters,
            Some(_) if data.is_running_tokens() => Reading::Values,
            Some(table) if tables.get(table).is_some_and(|known| known.unit() == unit) => Reading::Words(table),
            None if data.is_text() && is_text => Reading::Characters,
            None if field.ty.shape.rank() > 0 => data.rate().map_or(Reading::Values, Reading::Sound),
            Some(_) | None => Reading::Values,
        };
        data.raw.iter().map(|field| (field.name.clone(), of(field))).collect()
    }

    /// The results that are words or tokens of a table, with the table. A running text is told of by its inputs.
    fn words(&self, tables: &[Vocabulary]) -> BTreeMap<String, usize> {
        let Some(data) = self.data.as_ref().filter(|data| !data.is_running_tokens()) else { return BTreeMap::new() };
        let unit = dataset::unit(data);
        if tables.len() != data.tables.len() || tables.iter().any(|known| known.unit() != unit) {
            return BTreeMap::new();
        }
        let fields = data.raw.iter().filter_map(|field| Some((field.name.as_str(), field.table?)));
        Tables { sizes: &data.tables, fields: fields.collect() }.spelled(&self.graph)
    }

    /// A store with the tensors that the answer needs, from a file given for all of it, of whose tensors nothing is
    /// left; by so many threads.
    ///
    /// # Errors
    /// [`DriverError::Weights`] that lists the tensors which differ.
    pub fn store(&self, checkpoint: &mut Checkpoint, path: &Path, threads: NonZeroUsize) -> Result<Store, DriverError> {
        pretrained::from_checkpoint(&self.pretrained.names, &Store::wanted(&self.graph), checkpoint, path, threads)
    }

    /// What is odd about weights that are given for all of the program, in words.
    ///
    /// # Errors
    /// Diagnostics.
    pub fn oddities(&self, project: &Project, weights: &Checkpoint) -> Result<Vec<String>, DriverError> {
        let mut paths: BTreeSet<String> = Store::wanted(&self.graph).into_keys().collect();
        // An answer needs a part of what its recipe has.
        if let Some(recipe) = &self.recipe {
            let first_values = project.checked(project.unit.init(recipe))?;
            paths.extend(first_values.outputs().iter().map(|output| output.name.clone()));
            paths.extend(project.numbers());
        }
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        Ok(pretrained::oddities(&self.pretrained.names, &paths, &weights.tensors))
    }

    /// Parameters and states without weights, with a verb; what is learned of the data has names that nobody wrote.
    fn without_weights(&self, missing: &[&str]) -> String {
        let lessons = self.data.iter().flat_map(|data| &data.lessons);
        let learnt: Vec<&str> = lessons.map(|lesson| lesson.path.as_str()).collect();
        let own: Vec<&str> = missing.iter().copied().filter(|path| !learnt.contains(path)).collect();
        let statistics = (own.len() < missing.len()).then(|| "what is learned of the data".to_owned());
        let named = own.first().map(|path| match own.len() - 1 {
            0 => format!("`{path}`"),
            more => format!("`{path}` and {more} more"),
        });
        let verb = if own.len() + usize::from(statistics.is_some()) == 1 { "has" } else { "have" };
        let whose: Vec<String> = named.into_iter().chain(statistics).collect();
        format!("{} {verb}", whose.join(" and "))
    }

    /// A store with the tensors that the answer needs, from the files that its layers name.
    ///
    /// # Errors
    /// Diagnostics of these files; [`DriverError::Usage`] when a parameter is in none of them.
    pub fn store_of_layers(&self, project: &Project) -> Result<Store, DriverError> {
        let wanted = Store::wanted(&self.graph);
        let tensors = pretrained::load_layers(project, &self.pretrained, &wanted, self.holding)?;
        let missing: Vec<&str> =
            wanted.keys().map(String::as_str).filter(|path| !tensors.contains_key(*path)).collect();
        if !missing.is_empty() {
            let whose = self.without_weights(&missing);
            return Err(DriverError::Usage(format!("{whose} no weights: give a file of them, `--weights FILE`")));
        }
        let read = tensors.iter().filter(|(path, _)| wanted.contains_key(*path));
        Ok(Store::of(read.map(|(path, tensor)| (path.as_str(), tensor))))
    }
}

/// The model called `only`, or the last one that the file declares.
///
/// # Errors
/// [`DriverError::Usage`] that lists what there is.
pub fn model_name(project: &Project, only: Option<&str>) -> Result<String, DriverError> {
    Ok(model_of(project, only)?.name.clone())
}

/// As [`model_name`], with what is known of it.
fn model_of<'p>(project: &'p Project, only: Option<&str>) -> Result<&'p ModelInfo, DriverError> {
    let models = &project.unit.models;
    let found = match only {
        Some(name) => models.iter().find(|model| model.name == name),
        None => models.last(),
    };
    found.ok_or_else(|| {
        let names = models.iter().map(|model| format!("`{}`", model.name)).collect::<Vec<_>>().join(", ");
        let file = project.path.display();
        DriverError::Usage(match only {
            Some(name) if !names.is_empty() => format!("{file} has no model `{name}`; it has {names}"),
            Some(_) | None => format!("{file} has no model"),
        })
    })
}
