//! A recipe in memory: its weights, and its programs compiled for each batch size on first use.
//!
//! This is the door for a host program: make a [`Session`], call [`Session::step`] with batches, [`Session::evaluate`]
//! and [`Session::answer_program`]. The training loop of [`crate::train`] is built on it.

use crate::compiled::{CompiledGraph, Compiler, RunError};
use crate::dataset::Part;
use crate::error::DriverError;
use crate::project::Project;
use crate::store::Store;
use nnc_data::{Batch, Batches};
use nnc_graph::{Graph, Tensor};
use nnc_lang::elaborate::{DataInfo, RecipeInfo};
use std::collections::BTreeMap;
use std::time::Duration;

/// Means over a split: `loss` and every metric, in the order of the recipe.
pub type Metrics = Vec<(String, f64)>;

/// Which of a recipe's programs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Purpose {
    Train,
    Evaluate,
    Answer(Option<String>),
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
    project: &'a Project,
    recipe: &'a RecipeInfo,
    data: &'a DataInfo,
    compiler: Compiler,
    seed: i64,
    store: Store,
    metric_start: BTreeMap<String, Tensor>,
    programs: BTreeMap<(Purpose, usize), CompiledGraph>,
    compile_time: Duration,
}

/// What a training step gave.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// `loss`, then the metrics of the batch.
    Done(Metrics),
    /// The loss was no finite number; no parameter and no state was changed.
    Withheld {
        /// The loss.
        loss: f64,
    },
}

impl<'a> Session<'a> {
    /// A session with freshly initialised weights.
    ///
    /// # Errors
    /// Diagnostics of the recipe, or a failure to compile its initialisation.
    pub fn new(project: &'a Project, recipe: &'a str, compiler: Compiler, seed: i64) -> Result<Self, DriverError> {
        let recipe = project.recipe(Some(recipe))?;
        let data = project.data(&recipe.data)?;
        let mut session = Self {
            project,
            recipe,
            data,
            compiler,
            seed,
            store: Store::default(),
            metric_start: BTreeMap::new(),
            programs: BTreeMap::new(),
            compile_time: Duration::ZERO,
        };
        session.initialise()?;
        Ok(session)
    }

    fn initialise(&mut self) -> Result<(), DriverError> {
        let graph = self.project.graph(self.project.unit.init(&self.recipe.name))?;
        self.store = initial_store(&self.compiler, &graph, self.seed)?;
        let is_metric = |(path, _): &(&str, _)| path.starts_with("$metric.");
        let paths: Vec<String> = self.store.iter().filter(is_metric).map(|(path, _)| path.to_owned()).collect();
        let start = paths.into_iter().filter_map(|path| self.store.tensor(&path).map(|tensor| (path, tensor)));
        self.metric_start = start.collect();
        Ok(())
    }

    /// The recipe.
    pub fn recipe(&self) -> &'a RecipeInfo {
        self.recipe
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

    /// The compiler and its threads.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// The seed of everything random.
    pub fn seed(&self) -> i64 {
        self.seed
    }

    /// Time spent compiling so far.
    pub fn compile_time(&self) -> Duration {
        self.compile_time
    }

    fn program(&mut self, purpose: Purpose, rows: usize) -> Result<&mut CompiledGraph, DriverError> {
        let key = (purpose, rows);
        if !self.programs.contains_key(&key) {
            let (unit, name) = (&self.project.unit, self.recipe.name.as_str());
            let graph = match &key.0 {
                Purpose::Train => unit.train_step(name, rows),
                Purpose::Evaluate => unit.evaluate(name, rows),
                Purpose::Answer(answer) => unit.answer(name, answer.as_deref(), rows),
            };
            let compiled = self.compiler.compile(&self.project.graph(graph)?)?;
            self.compile_time += compiled.compile_time;
            self.programs.insert(key.clone(), compiled);
        }
        Ok(self.programs.get_mut(&key).expect("it was put in above"))
    }

    /// The compiled training step for batches of `rows`.
    ///
    /// # Errors
    /// Diagnostics or a failure to compile.
    pub fn training_program(&mut self, rows: usize) -> Result<&mut CompiledGraph, DriverError> {
        self.program(Purpose::Train, rows)
    }

    /// The compiled answer for `rows` examples; `None` asks for the recipe's only one.
    ///
    /// # Errors
    /// Diagnostics or a failure to compile.
    pub fn answer_program(&mut self, answer: Option<&str>, rows: usize) -> Result<&mut CompiledGraph, DriverError> {
        self.program(Purpose::Answer(answer.map(str::to_owned)), rows)
    }

    /// One step of training on a batch.
    ///
    /// # Errors
    /// A failure to compile, or an index of the batch that is out of range.
    pub fn step(&mut self, batch: &Batch, moment: Moment) -> Result<Step, DriverError> {
        let (data, seed) = (self.data, self.seed);
        let table_rows = moment.epoch.wrapping_mul(DRAWS_PER_EPOCH);
        self.program(Purpose::Train, batch.rows)?;
        let program = self.programs.get_mut(&(Purpose::Train, batch.rows)).expect("it was put in above");
        fill(program, data, batch)?;
        program.set_i64("$seed", seed);
        program.set_i64("$iteration", moment.iteration);
        program.set_i64("$iterations", moment.iterations);
        program.set_i64("$epoch", moment.epoch);
        if let Some(draws) = program.input_mut("$draw") {
            for (draw, index) in draws.chunks_exact_mut(8).zip(&batch.indices) {
                draw.copy_from_slice(&table_rows.wrapping_add(*index as i64).to_le_bytes());
            }
        }
        program.run(&mut self.store).map_err(|error| run_error(explained(error, program, &self.store), batch))?;
        let metrics = read_metrics(program, self.recipe);
        match metrics.first() {
            Some((_, loss)) if !loss.is_finite() => Ok(Step::Withheld { loss: *loss }),
            _ => Ok(Step::Done(metrics)),
        }
    }

    /// In words, the first operation of the last training step on `rows` examples that made a value which is no
    /// finite number from values that are.
    pub fn first_non_finite(&self, rows: usize) -> Option<String> {
        let program = self.programs.get(&(Purpose::Train, rows))?;
        let run = program.interpretation(&self.store).ok()?;
        let value = run.first_non_finite(&program.graph)?;
        let node = program.graph.definition(value);
        let origin = node.origin.map(|id| program.graph.origin(id));
        let place = origin.map_or(String::new(), |origin| {
            let path = if origin.path.is_empty() { String::new() } else { format!(" ({})", origin.path) };
            format!(" in `{}`{path} at {}", origin.function, origin.place)
        });
        Some(format!("`{}`{place}", node.op.name()))
    }

    /// Means of loss and metrics over a split.
    ///
    /// # Errors
    /// A failure to compile, or an index of the data that is out of range.
    pub fn evaluate(&mut self, part: &Part) -> Result<Metrics, DriverError> {
        for (path, tensor) in &self.metric_start {
            self.store.insert(path, tensor);
        }
        let size = usize::try_from(self.recipe.batch).unwrap_or(1).clamp(1, part.rows.len().max(1));
        let mut batches = Batches::new(part.table.clone(), part.rows.clone(), size, 0)?;
        let mut means = Means::new(self.recipe);
        while let Some(batch) = batches.next_batch()? {
            let data = self.data;
            self.program(Purpose::Evaluate, batch.rows)?;
            let program = self.programs.get_mut(&(Purpose::Evaluate, batch.rows)).expect("it was put in above");
            fill(program, data, batch)?;
            program.set_i64("$seed", self.seed);
            program.run(&mut self.store).map_err(|error| run_error(explained(error, program, &self.store), batch))?;
            means.add(&read_metrics(program, self.recipe), batch.rows);
        }
        Ok(means.finish())
    }
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
fn fill(program: &mut CompiledGraph, data: &DataInfo, batch: &Batch) -> Result<(), DriverError> {
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

/// The same error as the interpreter tells it, which knows the index.
fn explained(error: RunError, program: &CompiledGraph, store: &Store) -> RunError {
    match error {
        RunError::OutOfRange(_) => program.interpretation(store).err().unwrap_or(error),
        RunError::NotResident(_) | RunError::Internal(_) => error,
    }
}

fn run_error(error: RunError, batch: &Batch) -> DriverError {
    match error {
        RunError::OutOfRange(detail) => {
            let rows = batch.indices.iter().take(4).map(u64::to_string).collect::<Vec<_>>().join(", ");
            DriverError::Usage(format!("an index is out of range{detail}, in the batch of examples {rows}, ..."))
        }
        RunError::NotResident(_) | RunError::Internal(_) => DriverError::Internal(error.to_string()),
    }
}

fn read_metrics(program: &CompiledGraph, recipe: &RecipeInfo) -> Metrics {
    let names = std::iter::once("loss").chain(recipe.metrics.iter().map(|metric| metric.name.as_str()));
    names.filter_map(|name| Some((name.to_owned(), program.scalar(name)?))).collect()
}

/// Means weighted by the size of each batch; an accumulating metric keeps its last value.
#[derive(Clone, Debug)]
pub struct Means {
    sums: Metrics,
    accumulates: Vec<String>,
    rows: u64,
}

impl Means {
    /// Nothing added yet.
    pub fn new(recipe: &RecipeInfo) -> Self {
        let accumulating = recipe.metrics.iter().filter(|metric| metric.accumulates);
        Self { sums: Vec::new(), accumulates: accumulating.map(|metric| metric.name.clone()).collect(), rows: 0 }
    }

    /// Continues from sums over `rows` examples.
    pub fn restore(&mut self, sums: Metrics, rows: u64) {
        (self.sums, self.rows) = (sums, rows);
    }

    /// The sums so far, and over how many examples.
    pub fn parts(&self) -> (&Metrics, u64) {
        (&self.sums, self.rows)
    }

    /// Adds the means of a batch of `rows`.
    pub fn add(&mut self, metrics: &Metrics, rows: usize) {
        if self.sums.is_empty() {
            self.sums = metrics.iter().map(|(name, _)| (name.clone(), 0.0)).collect();
        }
        for ((name, sum), (_, value)) in self.sums.iter_mut().zip(metrics) {
            *sum = if self.accumulates.contains(name) { *value } else { *sum + value * rows as f64 };
        }
        self.rows += rows as u64;
    }

    /// The means.
    pub fn finish(&self) -> Metrics {
        let rows = self.rows.max(1) as f64;
        let mean = |(name, sum): &(String, f64)| {
            (name.clone(), if self.accumulates.contains(name) { *sum } else { sum / rows })
        };
        self.sums.iter().map(mean).collect()
    }
}
