//! A recipe in memory: its weights, and its programs compiled for each batch size on first use.
//!
//! This is the door for a host program: make a [`Session`], call [`Session::step`] with batches, [`Session::evaluate`]
//! and [`Session::answer_program`]. The training loop of [`crate::train`] is built on it.

use crate::checkpoint::Checkpoint;
use crate::compiled::{CompiledGraph, Compiler, RunError};
use crate::dataset::Part;
use crate::error::DriverError;
use crate::index_fault::IndexFault;
use crate::index_graph::{HELD, OUTSIDE, index_graph};
use crate::narrow;
use crate::pretrained;
use crate::project::Project;
use crate::prune;
use crate::quantise::file;
use crate::quantise::looked::Make;
use crate::quantise::trained;
use crate::store::{Mismatch, Store};
use nnc_data::{Batch, Batches};
use nnc_graph::{Graph, Op, OutputKind, Tensor};
use nnc_lang::elaborate::{DataInfo, RecipeInfo};
use nnc_opt::quantise::{RANGE, Range};
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Means over a split: every loss and every metric, in the order of the recipe.
pub type Metrics = Vec<(String, f64)>;

/// A metric that is a square matrix, such as how many examples of one class were taken for another, over a split.
#[derive(Clone, PartialEq, Debug)]
pub struct Matrix {
    /// What the metric is called.
    pub name: String,
    /// How many rows and columns it has.
    pub size: usize,
    /// The sums over all examples, row after row.
    pub values: Vec<f64>,
}

/// Which of a recipe's programs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Purpose {
    /// With the steps that are due.
    Train(BTreeSet<String>),
    Evaluate,
    Indices,
    Answer(Option<String>),
    Picture,
}

/// Where a step stands in its run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment {
    /// Steps before this one.
    pub iteration: i64,
    /// Steps of the whole run.
    pub iterations: i64,
    /// Epochs before this one.
    pub epoch: i64,
}

/// A recipe with its weights.
#[derive(Debug)]
pub struct Session<'a> {
    data: &'a DataInfo,
    seed: i64,
    store: Store,
    metric_start: BTreeMap<String, Tensor>,
    programs: Programs<'a>,
}

/// The programs of a recipe, compiled on first use.
#[derive(Debug)]
struct Programs<'a> {
    project: &'a Project,
    recipe: &'a RecipeInfo,
    compiler: Compiler,
    /// Parameters whose pruned elements stay 0.
    masked: BTreeSet<String>,
    /// Whether the weights stay what they are, so that programs are compiled for them alone.
    fixed: bool,
    /// How programs that update nothing round, as the store says: by layer, of training that rounded.
    rounded: BTreeMap<String, Range>,
    compiled: BTreeMap<(Purpose, usize), CompiledGraph>,
    compile_time: Duration,
}

impl Programs<'_> {
    fn get(&mut self, purpose: Purpose, rows: usize, store: &Store) -> Result<&mut CompiledGraph, DriverError> {
        let is_inference = matches!(purpose, Purpose::Evaluate | Purpose::Answer(_) | Purpose::Picture);
        if is_inference {
            self.follow_ranges(store)?;
        }
        let vacant = match self.compiled.entry((purpose, rows)) {
            Entry::Occupied(compiled) => return Ok(compiled.into_mut()),
            Entry::Vacant(vacant) => vacant,
        };
        let (unit, name) = (&self.project.unit, self.recipe.name.as_str());
        let project = self.project;
        let inference = |what: &str, make: Make<'_>| project.rounding((what, make, rows), &self.rounded);
        let mut graph = match &vacant.key().0 {
            Purpose::Train(due) => project.training(unit.train_steps(name, rows, due))?,
            Purpose::Indices => project.graph(unit.evaluate(name, rows))?,
            Purpose::Evaluate => inference("the evaluation", &|rows| unit.evaluate(name, rows))?,
            Purpose::Picture => inference("the pictures", &|rows| unit.pictures(name, rows))?,
            Purpose::Answer(answer) => {
                let what = answer.as_ref().map_or("the answer".to_owned(), |name| format!("the answer `{name}`"));
                inference(&what, &|rows| unit.answer(name, answer.as_deref(), rows))?
            }
        };
        if vacant.key().0 == Purpose::Indices {
            graph = index_graph(&graph, &self.recipe.data)
                .ok_or_else(|| DriverError::Internal("no index comes from data".to_owned()))?;
        }
        if matches!(vacant.key().0, Purpose::Train(_)) && !self.masked.is_empty() {
            graph = nnc_opt::prune::hold(&graph, &self.masked);
        }
        if self.fixed {
            graph = prune::specialised(&graph, store);
        }
        let compiled = self.compiler.compile(&graph)?;
        self.compile_time += compiled.compile_time;
        Ok(vacant.insert(compiled))
    }

    /// Lets go of the programs whose ranges are no longer those of the store.
    fn follow_ranges(&mut self, store: &Store) -> Result<(), DriverError> {
        let kept = store.iter().filter(|(path, _)| path.starts_with(RANGE));
        let kept = kept.filter_map(|(path, _)| Some((path.to_owned(), store.tensor(path)?))).collect();
        let rounded = trained::ranges(&kept).map_err(DriverError::Usage)?;
        if rounded != self.rounded {
            self.compiled.retain(|(purpose, _), _| matches!(purpose, Purpose::Train(_) | Purpose::Indices));
            self.rounded = rounded;
        }
        Ok(())
    }
}

/// What a training step gave.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// The losses, then the metrics of the batch; without those of steps that were not due.
    Done(Metrics),
    /// A loss was no finite number; what it would have changed was left as it was.
    Withheld {
        /// What it is called: `loss`, or `NAME.loss` of a step.
        name: String,
        /// The loss.
        loss: f64,
    },
}

impl<'a> Session<'a> {
    /// A session with first weights: those of the files that layers name, the others freshly initialised.
    ///
    /// # Errors
    /// Diagnostics of the recipe and of the files that its layers name, or a failure to compile its initialisation.
    pub fn new(project: &'a Project, recipe: &'a str, compiler: Compiler, seed: i64) -> Result<Self, DriverError> {
        let mut session = Self::without_files(project, recipe, compiler, seed)?;
        pretrained::load_into(project, &session.recipe().pretrained, &mut session.store)?;
        Ok(session)
    }

    /// A session with freshly initialised weights throughout, for a caller that puts others over them.
    ///
    /// # Errors
    /// Diagnostics of the recipe, or a failure to compile its initialisation.
    pub fn without_files(
        project: &'a Project,
        recipe: &'a str,
        compiler: Compiler,
        seed: i64,
    ) -> Result<Self, DriverError> {
        let recipe = project.recipe(Some(recipe))?;
        let data = project.data(&recipe.data)?;
        let init = project.first_values(project.unit.init(&recipe.name))?;
        let mut store = initial_store(&compiler, &init, seed)?;
        prune::channels::records(&project.channels).for_each(|(path, tensor)| store.insert(&path, &tensor));
        if !project.quantised.is_empty() {
            file::prepare(project, recipe, &mut store)?;
        }
        narrow::file::prepare(&project.stored, &mut store);
        let metrics = store.iter().map(|(path, _)| path).filter(|path| path.starts_with("$metric."));
        let metric_start = metrics.filter_map(|path| Some((path.to_owned(), store.tensor(path)?))).collect();
        let (masked, compiled, compile_time) = (prune::masked(&store), BTreeMap::new(), Duration::ZERO);
        let (fixed, rounded) = (false, BTreeMap::new());
        let programs = Programs { project, recipe, compiler, masked, fixed, rounded, compiled, compile_time };
        Ok(Self { data, seed, store, metric_start, programs })
    }

    /// The recipe.
    pub fn recipe(&self) -> &'a RecipeInfo {
        self.programs.recipe
    }

    /// The recipe's data block.
    pub fn data(&self) -> &'a DataInfo {
        self.data
    }

    /// Weights and state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Weights and state, to be changed.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Copies in every tensor that fits, by path and by the names that models say; lists what does not fit.
    pub fn load_weights(&mut self, weights: &BTreeMap<String, Tensor>) -> Vec<Mismatch> {
        let recipe = self.recipe();
        self.store.load_weights(weights, &recipe.pretrained.names)
    }

    /// Copies in the weights of a file, which must fit tensor by tensor.
    ///
    /// # Errors
    /// [`DriverError::Usage`] that lists what does not fit.
    pub fn load_exactly(&mut self, path: &Path, loaded: &Checkpoint) -> Result<(), DriverError> {
        let mismatches = self.load_weights(&loaded.tensors);
        match mismatches.is_empty() {
            true => {
                self.adopt_ranges(&loaded.tensors);
                Ok(())
            }
            false => {
                let (path, listed) = (path.display(), pretrained::listed(&mismatches));
                Err(DriverError::Usage(format!("{path} holds the weights of another model:{listed}")))
            }
        }
    }

    /// What does not fit on either side, as [`Self::load_weights`] would tell.
    pub fn mismatches(&self, weights: &BTreeMap<String, Tensor>) -> Vec<Mismatch> {
        self.store.mismatches(weights, &self.recipe().pretrained.names)
    }

    /// Says that the weights stay what they are from here on: programs other than the training step are compiled for them
    /// alone. Weights that are changed nevertheless make their programs wrong.
    pub fn fix_weights(&mut self) {
        self.programs.fixed = true;
        self.programs.compiled.clear();
    }

    /// Takes the masks of a file of pruned weights, whose weights were loaded: what they do not keep is and stays 0.
    ///
    /// # Errors
    /// What is wrong with a mask, in words; then nothing was changed.
    pub fn adopt_masks(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), String> {
        prune::adopt(&mut self.store, tensors)?;
        let masked = prune::masked(&self.store);
        if masked != self.programs.masked {
            self.programs.compiled.retain(|(purpose, _), _| !matches!(purpose, Purpose::Train(_)));
            self.programs.masked = masked;
        }
        Ok(())
    }

    /// Takes the ranges of weights that were trained with rounding, so that programs other than the training step round
    /// as it did; a store that has other ones loses them.
    pub fn adopt_ranges(&mut self, tensors: &BTreeMap<String, Tensor>) {
        for (path, tensor) in tensors.iter().filter(|(path, _)| path.starts_with(RANGE)) {
            self.store.insert(path, tensor);
        }
    }

    /// The compiler and its threads.
    pub fn compiler(&self) -> &Compiler {
        &self.programs.compiler
    }

    /// The seed of everything random.
    pub fn seed(&self) -> i64 {
        self.seed
    }

    /// Time spent compiling so far.
    pub fn compile_time(&self) -> Duration {
        self.programs.compile_time
    }

    /// The compiled training step for batches of `rows`, with all steps of the recipe.
    ///
    /// # Errors
    /// Diagnostics or a failure to compile.
    pub fn training_program(&mut self, rows: usize) -> Result<&mut CompiledGraph, DriverError> {
        let all = self.recipe().all_steps();
        self.programs.get(Purpose::Train(all), rows, &self.store)
    }

    /// The compiled answer for `rows` examples; `None` asks for the recipe's only one.
    ///
    /// # Errors
    /// Diagnostics or a failure to compile.
    pub fn answer_program(&mut self, answer: Option<&str>, rows: usize) -> Result<&mut CompiledGraph, DriverError> {
        self.programs.get(Purpose::Answer(answer.map(str::to_owned)), rows, &self.store)
    }

    /// One step of training on a batch.
    ///
    /// # Errors
    /// A failure to compile, or an index of the batch that is out of range.
    pub fn step(&mut self, batch: &Batch, moment: Moment) -> Result<Step, DriverError> {
        let recipe = self.recipe();
        let purpose = Purpose::Train(recipe.due(moment.iteration, moment.iterations));
        let program = self.programs.get(purpose.clone(), batch.rows, &self.store)?;
        fill(program, self.data, batch)?;
        program.set_i64("$seed", self.seed);
        program.set_i64("$iteration", moment.iteration);
        program.set_i64("$iterations", moment.iterations);
        program.set_i64("$epoch", moment.epoch);
        if let Some(draws) = program.input_mut("$draw") {
            let first = moment.epoch.wrapping_mul(DRAWS_PER_EPOCH);
            for (draw, index) in draws.chunks_exact_mut(8).zip(&batch.indices) {
                draw.copy_from_slice(&first.wrapping_add(*index as i64).to_le_bytes());
            }
        }
        if let Err(error) = program.run(&mut self.store) {
            return Err(self.explained(error, purpose, batch));
        }
        let metrics = read_metrics(program, recipe);
        let losses = recipe.losses();
        match metrics.iter().find(|(name, value)| !value.is_finite() && losses.contains(name)) {
            Some((name, loss)) => Ok(Step::Withheld { name: name.clone(), loss: *loss }),
            None => Ok(Step::Done(metrics)),
        }
    }

    /// In words, the first operation of the training step at `moment` on `rows` examples, the last that was done, that
    /// made a value which is no finite number from values that are; or the parameter or state that held one before.
    pub fn first_non_finite(&self, rows: usize, moment: Moment) -> Option<String> {
        let purpose = Purpose::Train(self.recipe().due(moment.iteration, moment.iterations));
        let program = self.programs.compiled.get(&(purpose, rows))?;
        let run = program.interpretation(&self.store).ok()?;
        let value = run.first_non_finite(&program.graph)?;
        let node = program.graph.definition(value);
        Some(match &node.op {
            Op::Param { path, .. } | Op::State { path, .. } => {
                format!("`{path}` held one before: the file of its weights, or a former step, put it there")
            }
            _ => format!("first made by {}", program.place_of(node)),
        })
    }

    /// Means of loss and metrics over a split.
    ///
    /// # Errors
    /// A failure to compile, or an index of the data that is out of range.
    pub fn evaluate(&mut self, part: &Part) -> Result<Metrics, DriverError> {
        self.measure(part).map(|(metrics, _)| metrics)
    }

    /// Means of loss and metrics over a split, and the sums of those that are matrices.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn measure(&mut self, part: &Part) -> Result<(Metrics, Vec<Matrix>), DriverError> {
        for (path, tensor) in &self.metric_start {
            self.store.insert(path, tensor);
        }
        let recipe = self.recipe();
        let size = Project::batch(recipe).min(part.rows.len().max(1));
        let mut batches = Batches::new(part.table.clone(), part.rows.clone(), size, 0)?;
        let mut means = Means::new(recipe);
        let mut matrices = Vec::new();
        while let Some(batch) = batches.next_batch()? {
            let program = self.programs.get(Purpose::Evaluate, batch.rows, &self.store)?;
            fill(program, self.data, batch)?;
            program.set_i64("$seed", self.seed);
            if let Err(error) = program.run(&mut self.store) {
                return Err(self.explained(error, Purpose::Evaluate, batch).in_files(part));
            }
            means.add(&read_metrics(program, recipe), batch.rows);
            add_matrices(&mut matrices, program, recipe);
        }
        Ok((means.finish(), matrices))
    }

    /// The pictures of the recipe, of the first batch of a split; random numbers are the same each time.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn pictures(&mut self, part: &Part) -> Result<Vec<(String, Tensor)>, DriverError> {
        let recipe = self.recipe();
        if recipe.pictures.is_empty() {
            return Ok(Vec::new());
        }
        let drawn = &recipe.pictures;
        let Some(program) = self.of_first_batch(Purpose::Picture, part)? else { return Ok(Vec::new()) };
        Ok(drawn.iter().filter_map(|name| Some((name.clone(), program.output_tensor(name)?))).collect())
    }

    /// What an answer without parameters is for the first batch of a split: its results by name.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn answer(&mut self, answer: &str, part: &Part) -> Result<Vec<(String, Tensor)>, DriverError> {
        let purpose = Purpose::Answer(Some(answer.to_owned()));
        let Some(program) = self.of_first_batch(purpose, part)? else { return Ok(Vec::new()) };
        let results = program.graph.outputs().iter().filter(|output| output.kind == OutputKind::Result);
        let tensor = |name: &str| Some((name.to_owned(), program.output_tensor(name)?));
        Ok(results.filter_map(|output| tensor(&output.name)).collect())
    }

    /// A program that has run on the first batch of a split, unless that has none.
    fn of_first_batch(&mut self, purpose: Purpose, part: &Part) -> Result<Option<&CompiledGraph>, DriverError> {
        let size = Project::batch(self.recipe()).min(part.rows.len().max(1));
        let mut batches = Batches::new(part.table.clone(), part.rows.clone(), size, 0)?;
        let Some(batch) = batches.next_batch()? else { return Ok(None) };
        let program = self.programs.get(purpose.clone(), batch.rows, &self.store)?;
        fill(program, self.data, batch)?;
        program.set_i64("$seed", self.seed);
        if let Err(error) = program.run(&mut self.store) {
            return Err(self.explained(error, purpose, batch).in_files(part));
        }
        Ok(self.programs.compiled.get(&(purpose, batch.rows)))
    }

    /// Looks at every index of a split that comes from the examples alone, as labels do, before it is computed with.
    ///
    /// # Errors
    /// A failure to compile, or an index that is out of range.
    pub fn check_indices(&mut self, part: &Part) -> Result<(), DriverError> {
        let Programs { project, recipe, .. } = self.programs;
        if index_graph(&project.graph(project.unit.evaluate(&recipe.name, 1))?, &recipe.data).is_none() {
            return Ok(());
        }
        let size = Project::batch(recipe).min(part.rows.len().max(1));
        let mut batches = Batches::new(part.table.clone(), part.rows.clone(), size, 0)?;
        while let Some(batch) = batches.next_batch()? {
            let program = self.programs.get(Purpose::Indices, batch.rows, &self.store)?;
            fill(program, self.data, batch)?;
            let stopped = match program.run(&mut self.store) {
                Ok(()) if program.output(OUTSIDE) != Some(&[1]) => continue,
                Ok(()) => RunError::OutOfRange(String::new()),
                Err(error) => error,
            };
            return Err(self.explained(stopped, Purpose::Evaluate, batch).in_files(part));
        }
        Ok(())
    }

    /// Why a run of a batch stopped, with the example that did it.
    fn explained(&mut self, error: RunError, purpose: Purpose, batch: &Batch) -> DriverError {
        match error {
            RunError::OutOfRange(_) => {}
            RunError::NotResident(_) => return DriverError::Internal(error.to_string()),
            RunError::Internal(why) => return DriverError::Internal(why),
        }
        if let Some(fault) = self.culprit(batch) {
            return DriverError::Index(fault);
        }
        let program = self.programs.compiled.get(&(purpose, batch.rows));
        let detail = program.and_then(|program| out_of_range(program, &self.store)).unwrap_or_default();
        let place = program.and_then(|program| program.place_out_of_range(&self.store));
        let place = place.map_or(String::new(), |place| format!(" ({place})"));
        let rows = batch.indices.iter().take(4).map(u64::to_string).collect::<Vec<_>>().join(", ");
        let more = if batch.rows > 4 { ", ..." } else { "" };
        DriverError::Usage(format!("an index is out of range{detail}{place}, in the batch of examples {rows}{more}"))
    }

    /// The first example of a batch that has an index out of range by itself: they are evaluated one by one, and the
    /// one that fails again with one field after the other replaced by zeros.
    fn culprit(&mut self, batch: &Batch) -> Option<IndexFault> {
        let program = self.programs.get(Purpose::Evaluate, 1, &self.store).ok()?;
        let (data, store) = (self.data, &mut self.store);
        let mut fails = |example: &Batch| -> Option<String> {
            fill(program, data, example).ok()?;
            match program.run(store) {
                Err(RunError::OutOfRange(_)) => Some(out_of_range(program, store).unwrap_or_default()),
                Ok(()) | Err(RunError::NotResident(_) | RunError::Internal(_)) => None,
            }
        };
        for place in 0..batch.rows {
            let example = example_of(batch, place);
            let Some(detail) = fails(&example) else { continue };
            let without = |at: usize| {
                let mut changed = example.clone();
                changed.fields[at].fill(0);
                changed
            };
            let guilty = (0..example.fields.len()).find(|&at| fails(&without(at)).is_none());
            let field = guilty.map(|at| (at, data.raw[at].name.clone()));
            let made_by = if self.is_held(&example) { None } else { self.maker(&example) };
            return Some(IndexFault { detail, field, row: batch.indices[place], made_by });
        }
        None
    }
}

impl Session<'_> {
    /// Whether an index that the example itself holds is out of range.
    fn is_held(&mut self, example: &Batch) -> bool {
        let Ok(program) = self.programs.get(Purpose::Indices, 1, &self.store) else { return false };
        if fill(program, self.data, example).is_err() {
            return false;
        }
        match program.run(&mut self.store) {
            Ok(()) => program.output(HELD) == Some(&[1]),
            Err(error) => matches!(error, RunError::OutOfRange(_)),
        }
    }

    /// The operation that an index out of range meets on an example.
    fn maker(&mut self, example: &Batch) -> Option<String> {
        let program = self.programs.get(Purpose::Evaluate, 1, &self.store).ok()?;
        fill(program, self.data, example).ok()?;
        program.place_out_of_range(&self.store)
    }
}

/// One example of a batch as a batch of its own.
fn example_of(batch: &Batch, place: usize) -> Batch {
    let part = |bytes: &Vec<u8>| {
        let size = bytes.len() / batch.rows;
        bytes[place * size..(place + 1) * size].to_vec()
    };
    Batch { rows: 1, indices: vec![batch.indices[place]], fields: batch.fields.iter().map(part).collect() }
}

/// More than any data set has examples, so that no two presentations share a number.
const DRAWS_PER_EPOCH: i64 = 1 << 32;

/// Runs an initialisation graph and keeps its outputs.
///
/// # Errors
/// A failure to compile.
pub fn initial_store(compiler: &Compiler, graph: &Graph, seed: i64) -> Result<Store, DriverError> {
    let mut program = compiler.compile(graph)?;
    program.set_i64("$seed", seed);
    program.run(&mut Store::default()).map_err(|error| DriverError::Internal(error.to_string()))?;
    let paths: Vec<String> = program.outputs().map(|(path, _)| path.to_owned()).collect();
    let mut store = Store::default();
    for path in paths {
        program.output_tensor(&path).into_iter().for_each(|tensor| store.insert(&path, &tensor));
    }
    Ok(store)
}

/// Copies the fields of a batch into the inputs that the program has.
pub(crate) fn fill(program: &mut CompiledGraph, data: &DataInfo, batch: &Batch) -> Result<(), DriverError> {
    for (field, bytes) in data.raw.iter().zip(&batch.fields) {
        let Some(input) = program.input_mut(&field.name) else { continue };
        if input.len() != bytes.len() {
            let (wanted, found) = (input.len(), bytes.len());
            return Err(DriverError::Internal(format!("field `{}` has {found} bytes, not {wanted}", field.name)));
        }
        input.copy_from_slice(bytes);
    }
    Ok(())
}

/// Which index is out of range, as the interpreter tells it.
fn out_of_range(program: &CompiledGraph, store: &Store) -> Option<String> {
    match program.interpretation(store) {
        Err(RunError::OutOfRange(detail)) => Some(detail),
        Ok(_) | Err(RunError::NotResident(_) | RunError::Internal(_)) => None,
    }
}

fn read_metrics(program: &CompiledGraph, recipe: &RecipeInfo) -> Metrics {
    recipe.measured().filter_map(|name| program.scalar(&name).map(|value| (name, value))).collect()
}

/// Adds what a batch gave to the matrices so far.
fn add_matrices(matrices: &mut Vec<Matrix>, program: &CompiledGraph, recipe: &RecipeInfo) {
    for (at, name) in recipe.matrices.iter().enumerate() {
        let Some(tensor) = program.output_tensor(name) else { continue };
        let values = tensor.to_f64();
        match matrices.get_mut(at) {
            Some(matrix) => matrix.values.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
            None => matrices.push(Matrix { name: name.clone(), size: tensor.dims()[0], values }),
        }
    }
}

/// A sum over examples; of an accumulating metric its last value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sum {
    /// Of which loss or metric.
    pub name: String,
    /// The sum of the means of batches, each times its examples.
    pub sum: f64,
    /// The examples; 0 for what no step has told of yet.
    pub rows: u64,
}

/// Means weighted by the size of each batch; an accumulating metric keeps its last value. What only some steps tell of
/// is the mean over their batches.
#[derive(Clone, Debug)]
pub struct Means {
    sums: Vec<Sum>,
    accumulates: Vec<String>,
}

impl Means {
    /// Nothing added yet.
    pub fn new(recipe: &RecipeInfo) -> Self {
        let accumulating = recipe.metrics.iter().filter(|metric| metric.accumulates);
        Self {
            sums: recipe.measured().map(|name| Sum { name, sum: 0.0, rows: 0 }).collect(),
            accumulates: accumulating.map(|metric| metric.name.clone()).collect(),
        }
    }

    /// Continues from former sums.
    pub fn restore(&mut self, sums: &[Sum]) {
        for sum in &mut self.sums {
            if let Some(former) = sums.iter().find(|former| former.name == sum.name) {
                sum.clone_from(former);
            }
        }
    }

    /// The sums so far.
    pub fn parts(&self) -> &[Sum] {
        &self.sums
    }

    /// Adds the means of a batch of `rows`.
    pub fn add(&mut self, metrics: &Metrics, rows: usize) {
        for (name, value) in metrics {
            let Some(sum) = self.sums.iter_mut().find(|sum| sum.name == *name) else { continue };
            sum.sum = if self.accumulates.contains(name) { *value } else { sum.sum + value * rows as f64 };
            sum.rows += rows as u64;
        }
    }

    /// The means, of what was told of.
    pub fn finish(&self) -> Metrics {
        let mean = |Sum { name, sum, rows }: &Sum| {
            (name.clone(), if self.accumulates.contains(name) { *sum } else { sum / *rows as f64 })
        };
        self.sums.iter().filter(|sum| sum.rows > 0).map(mean).collect()
    }
}
