//! A recipe in memory: its weights, and its programs compiled for each batch size on first use.
//!
//! This is the door for a host program: make a [`Session`], call [`Session::step`] with batches, [`Session::evaluate`]
//! and [`Session::answer_program`]. The training loop of [`crate::train`] is built on it.

mod faults;
mod metrics;
mod programs;

pub use metrics::{Matrix, Means, Metrics, Sum};

use crate::checkpoint::Checkpoint;
use crate::compiled::{CompiledGraph, Compiler};
use crate::dataset::Part;
use crate::error::DriverError;
use crate::follow;
use crate::lessons;
use crate::narrow;
use crate::pretrained;
use crate::project::Project;
use crate::prune;
use crate::quantise::{Wanted, file};
use crate::store::{Mismatch, RESERVED, Store};
use metrics::add_matrices;
pub(crate) use metrics::copy;
use nnc_data::{Batch, Batches};
use nnc_graph::{Graph, Op, OutputKind, Tensor};
use nnc_lang::elaborate::{DataInfo, RecipeInfo};
use nnc_opt::quantise::RANGE;
use programs::{Programs, Purpose};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

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
    /// Floats that a file of integers may hold for answers with parameters, which no program here reads.
    spare: Wanted,
    metric_start: BTreeMap<String, Tensor>,
    /// States for statistics of the data, of which nothing is known yet.
    untaught: BTreeSet<String>,
    programs: Programs<'a>,
}

/// What a training step gave, lent until the next one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Step<'s> {
    /// The losses, then the metrics of the batch; without those of steps that were not due.
    Done(&'s Metrics),
    /// A loss was no finite number; what it would have changed was left as it was.
    Withheld {
        /// What it is called: `loss`, or `NAME.loss` of a step.
        name: &'s str,
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
        follow::begin(session.recipe(), &mut session.store, |_| false);
        session.programs.masked = prune::masked(&session.store);
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
        let spare = match project.quantised.is_empty() {
            true => Wanted::new(),
            false => file::prepare(project, recipe, &mut store)?,
        };
        narrow::file::prepare(&project.stored, &mut store);
        let metrics = store.iter().map(|(path, _)| path).filter(|path| path.starts_with("$metric."));
        let metric_start = metrics.filter_map(|path| Some((path.to_owned(), store.tensor(path)?))).collect();
        let programs = Programs::new(project, recipe, compiler, prune::masked(&store));
        let untaught = data.lessons.iter().map(|lesson| lesson.path.clone()).collect();
        Ok(Self { data, seed, store, spare, metric_start, untaught, programs })
    }

    /// The recipe.
    pub fn recipe(&self) -> &'a RecipeInfo {
        self.programs.recipe
    }

    /// The iteration, counted from 0, of a run of so many from which on what is trained is the network that was asked
    /// for: with all the zeros that the recipe wants, and rounded if it rounds.
    ///
    /// # Errors
    /// Diagnostics of the recipe.
    pub fn settled(&self, iterations: i64) -> Result<i64, DriverError> {
        let recipe = self.recipe();
        let pruned = prune::schedule::settled(self.programs.project, recipe, iterations)?;
        let rounded = recipe.quantise.as_ref().map_or(0.0, |known| (known.start * iterations as f64).ceil());
        Ok(pruned.max(rounded as i64))
    }

    /// How many numbers the parameters of the network are, frozen ones too, as `nnc show` counts them: without its
    /// states, and without what is kept for optimisers and metrics.
    pub fn parameter_count(&self) -> usize {
        let states = &self.recipe().states;
        let own = self.store.iter().filter(|(path, _)| !path.starts_with(RESERVED) && !states.contains(*path));
        own.map(|(_, entry)| entry.ty.shape.elements().size()).sum()
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

    /// Copies in every tensor that fits, by path and by the names that models say; lists what does not fit. Layers that
    /// follow others, and that are not there, begin as these.
    pub fn load_weights(&mut self, weights: &BTreeMap<String, Tensor>) -> Vec<Mismatch> {
        let recipe = self.recipe();
        let mut mismatches = self.store.load_weights(weights, &recipe.pretrained.names);
        let known =
            |path: &String| weights.get(path).map(Tensor::ty) == self.store.get(path).map(|entry| entry.ty.clone());
        self.untaught.retain(|path| !known(path));
        let is_missing =
            |mismatch: &Mismatch, wanted: &str| matches!(mismatch, Mismatch::Missing { path, .. } if path == wanted);
        let is_there = |path: &str| mismatches.iter().all(|mismatch| !is_missing(mismatch, path));
        let begun = follow::begin(recipe, &mut self.store, is_there);
        let has_begun = |mismatch: &Mismatch| begun.iter().any(|path| is_missing(mismatch, path));
        mismatches.retain(|mismatch| !self.is_spare(mismatch) && !has_begun(mismatch));
        mismatches
    }

    /// Whether something is of no use here, but of some to answers with parameters.
    fn is_spare(&self, mismatch: &Mismatch) -> bool {
        matches!(mismatch, Mismatch::Unknown { path, found } if self.spare.get(path) == Some(found))
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

    /// Computes the statistics that the data block asks for by the examples of `part`, but for those that weights
    /// brought along. [`crate::train::train`] does so before its first step.
    ///
    /// # Errors
    /// A failure to compile, or an index of an example that is out of range.
    pub fn learn(&mut self, part: &Part) -> Result<(), DriverError> {
        let untaught = std::mem::take(&mut self.untaught);
        let Programs { project, compiler, .. } = &self.programs;
        lessons::learn(self.data, part, (project, compiler), &mut self.store, &untaught)
    }

    /// Whether something that weights lack is a statistic, which [`Self::learn`] computes.
    pub fn is_learnt(&self, mismatch: &Mismatch) -> bool {
        matches!(mismatch, Mismatch::Missing { path, .. } if self.untaught.contains(path))
    }

    /// Says that the weights stay what they are from here on: programs other than the training step are compiled for
    /// them alone. Weights that are changed nevertheless make their programs wrong.
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
        self.hold_masks();
        Ok(())
    }

    /// As [`Self::adopt_masks`], of weights that fit in part: masks of those that do not are left out.
    pub fn adopt_fitting_masks(&mut self, tensors: &BTreeMap<String, Tensor>) {
        prune::adopt_fitting(&mut self.store, tensors);
        self.hold_masks();
    }

    /// Has the training step hold the masks that there are now.
    fn hold_masks(&mut self) {
        let masked = prune::masked(&self.store);
        if masked != self.programs.masked {
            self.programs.compiled.retain(|(purpose, _), _| !matches!(purpose, Purpose::Train(_)));
            self.programs.masked = masked;
        }
    }

    /// Takes the ranges of weights that were trained with rounding, so that programs other than the training step round
    /// as it did; a store that has other ones loses them.
    pub fn adopt_ranges(&mut self, tensors: &BTreeMap<String, Tensor>) {
        for (path, tensor) in tensors.iter().filter(|(path, _)| path.starts_with(RANGE)) {
            self.store.insert(path, tensor);
        }
    }

    /// Takes ranges for a recipe that rounds while it trains, which it then goes on with; one that does not has no
    /// place for them.
    pub fn go_on_with_ranges(&mut self, tensors: &BTreeMap<String, Tensor>) {
        for (path, tensor) in tensors.iter().filter(|(path, _)| path.starts_with(RANGE)) {
            if self.store.get(path).is_some_and(|entry| entry.ty == tensor.ty()) {
                self.store.insert(path, tensor);
            }
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
        let purpose = self.programs.turn(all);
        Ok(&mut self.programs.get(purpose, rows, &self.store)?.program)
    }

    /// Whether the recipe is without fault for training on batches of `rows`; nothing is compiled.
    ///
    /// # Errors
    /// Its diagnostics.
    pub fn check_training(&self, rows: usize) -> Result<(), DriverError> {
        let Programs { project, recipe, .. } = self.programs;
        project.checked(project.unit.train_step(&recipe.name, rows)).map(drop)
    }

    /// The compiled measure for batches of `rows`.
    ///
    /// # Errors
    /// Diagnostics or a failure to compile.
    pub fn evaluation_program(&mut self, rows: usize) -> Result<&mut CompiledGraph, DriverError> {
        Ok(&mut self.programs.get(Purpose::Evaluate, rows, &self.store)?.program)
    }

    /// The compiled answer for `rows` examples; `None` asks for the recipe's only one.
    ///
    /// # Errors
    /// Diagnostics or a failure to compile.
    pub fn answer_program(&mut self, answer: Option<&str>, rows: usize) -> Result<&mut CompiledGraph, DriverError> {
        let purpose = Purpose::Answer(answer.map(str::to_owned));
        Ok(&mut self.programs.get(purpose, rows, &self.store)?.program)
    }

    /// Metrics that accumulate begin anew. [`crate::train::train`] does so before each epoch, [`Self::measure`] before
    /// a split.
    pub fn reset_metrics(&mut self) {
        if self.metric_start.is_empty() {
            return;
        }
        for (path, entry) in self.store.iter_mut() {
            if let Some(start) = self.metric_start.get(path) {
                entry.buffer.bytes_mut().copy_from_slice(start.bytes());
            }
        }
    }

    /// One step of training on a batch. Metrics that accumulate tell of all since [`Self::reset_metrics`]. After the
    /// first of its kind, for as many rows, nothing is allocated.
    ///
    /// # Errors
    /// A failure to compile, an index of the batch that is out of range, or scores that nothing can be pruned by.
    pub fn step(&mut self, batch: &Batch, moment: Moment) -> Result<Step<'_>, DriverError> {
        let purpose = self.programs.due(moment.iteration, moment.iterations);
        let program = &mut self.programs.get(purpose.clone(), batch.rows, &self.store)?.program;
        fill(program, self.data, batch)?;
        program.set_i64("$seed", self.seed);
        program.set_i64("$iteration", moment.iteration);
        program.set_i64("$iterations", moment.iterations);
        program.set_i64("$epoch", moment.epoch);
        if let Some(draws) = program.input_mut("$draw") {
            let first = moment.epoch.wrapping_mul(DRAWS_PER_EPOCH);
            for (draw, number) in draws.chunks_exact_mut(8).zip(&batch.draws) {
                draw.copy_from_slice(&first.wrapping_add(*number as i64).to_le_bytes());
            }
        }
        if let Err(error) = program.run(&mut self.store) {
            return Err(self.explained(error, purpose, batch));
        }
        let ready = self.programs.get(purpose, batch.rows, &self.store)?;
        ready.tell();
        match ready.bad_loss() {
            Some((name, loss)) => Ok(Step::Withheld { name, loss }),
            None => ready.judged(moment.iteration).map(|()| Step::Done(ready.told())),
        }
    }

    /// In words, the first operation of the training step at `moment` on a batch, the last that was done, that made a
    /// value which is no finite number from values that are; or the parameter, the state or the example that held one
    /// before.
    pub fn first_non_finite(&self, batch: &Batch, moment: Moment) -> Option<String> {
        let purpose = self.programs.known(moment.iteration, moment.iterations)?;
        let program = &self.programs.compiled.get(&(purpose, batch.rows))?.program;
        let run = program.interpretation(&self.store).ok()?;
        let value = run.first_non_finite(&program.graph)?;
        let node = program.graph.definition(value);
        Some(match &node.op {
            Op::Param { path, .. } | Op::State { path, .. } => {
                format!("`{path}` held one before: the file of its weights, or a former step, put it there")
            }
            Op::Input { name, .. } => faults::held_by_example(name, run.value(value), batch),
            _ => format!("first made by {}", program.place_of(node)),
        })
    }

    /// Means of loss and metrics over a split. For each batch after the first, nothing is allocated.
    ///
    /// # Errors
    /// A failure to compile, or an index of the data that is out of range.
    pub fn evaluate(&mut self, part: &Part) -> Result<Metrics, DriverError> {
        self.measure(part).map(|(metrics, _)| metrics)
    }

    /// Means of loss and metrics over a split, and the sums of those that are matrices. Each batch draws its own random
    /// numbers, the same ones each time.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn measure(&mut self, part: &Part) -> Result<(Metrics, Vec<Matrix>), DriverError> {
        self.reset_metrics();
        let recipe = self.recipe();
        let mut batches = Batches::new(part.table.clone(), part.rows.clone(), self.batch_of(part), 0)?;
        let mut means = Means::new(recipe);
        let mut matrices = Vec::new();
        let mut seed = self.seed;
        while let Some(batch) = batches.next_batch()? {
            let ready = self.programs.get(Purpose::Evaluate, batch.rows, &self.store)?;
            let program = &mut ready.program;
            fill(program, self.data, batch)?;
            program.set_i64("$seed", seed);
            seed = seed.wrapping_add(NEXT_BATCH);
            if let Err(error) = program.run(&mut self.store) {
                return Err(self.explained(error, Purpose::Evaluate, batch).in_files(part));
            }
            let ready = self.programs.get(Purpose::Evaluate, batch.rows, &self.store)?;
            means.add(ready.tell(), batch.rows);
            add_matrices(&mut matrices, &ready.program, recipe);
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

    /// How many examples the first batch of a split has.
    fn batch_of(&self, part: &Part) -> usize {
        Project::batch(self.recipe()).min(part.rows.len().max(1))
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
        let mut batches = Batches::new(part.table.clone(), part.rows.clone(), self.batch_of(part), 0)?;
        let Some(batch) = batches.next_batch()? else { return Ok(None) };
        let program = &mut self.programs.get(purpose.clone(), batch.rows, &self.store)?.program;
        fill(program, self.data, batch)?;
        program.set_i64("$seed", self.seed);
        if let Err(error) = program.run(&mut self.store) {
            return Err(self.explained(error, purpose, batch).in_files(part));
        }
        Ok(self.programs.compiled.get(&(purpose, batch.rows)).map(|ready| &ready.program))
    }
}

/// From the seed of one batch of an evaluation to that of the next: an odd number far from those that users choose.
const NEXT_BATCH: i64 = 0x4f1b_bcdc_bfa5_3e0b;
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
    let mut store = Store::default();
    program.into_outputs().for_each(|(path, ty, buffer)| store.insert_buffer(&path, ty, buffer));
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
