//! The training loop: epochs of steps, validation, early stopping, checkpoints, and the final test.
//!
//! A run is a pure function of file, data, seed and settings. What has happened so far is a [`Progress`], which goes
//! into every checkpoint; a resumed run continues from it and ends with the same bits as one that was never stopped.
//! Nothing here prints: an [`Observer`] hears of everything.

mod history;
mod observer;
mod progress;
mod trace;

pub use history::{History, Row};
pub use observer::{Event, Observer, Silent};
pub use progress::Progress;
pub use trace::{Point, Trace};

use crate::checkpoint;
use crate::dataset::{Dataset, field_type};
use crate::error::DriverError;
use crate::pretrained::listed;
use crate::project::Project;
use crate::quantise;
use crate::session::{self, Means, Metrics, Moment, Session, Step};
use crate::store::RESERVED;
use nnc_data::{Batch, Batches, Staged};
use nnc_graph::Tensor;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How a run is done.
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// The run's folder; nothing is written without one.
    pub out: Option<PathBuf>,
    /// Continue from `last.safetensors` of the folder when it is there.
    pub resume: bool,
    /// Also write a checkpoint after every so many steps, besides the one at the end of each epoch.
    pub checkpoint_every: Option<u64>,
}

/// A step whose loss is no finite number.
#[derive(Clone, PartialEq, Debug)]
pub struct NotFinite {
    /// What the loss is called.
    pub name: String,
    /// The loss.
    pub loss: f64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// Step within the epoch, from 1.
    pub step: usize,
    /// What made the first value that is no finite number, in words, when the replay found it.
    pub operation: Option<String>,
    /// The last good checkpoint.
    pub checkpoint: Option<PathBuf>,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name == "loss" { "loss".to_owned() } else { format!("`{}`", self.name) };
        write!(
            f,
            "the {name} of step {} in epoch {} is {}; its update was withheld",
            self.step, self.epoch, self.loss
        )?;
        if let Some(operation) = &self.operation {
            write!(f, "\n  {operation}")?;
        }
        if let Some(checkpoint) = &self.checkpoint {
            write!(f, "\n  the last good checkpoint is {}", checkpoint.display())?;
        }
        write!(f, "\n  try a smaller learning rate, `clip_norm=1.0`, or look at the inputs")
    }
}

/// How a run ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// Whether it was interrupted before its end; then nothing was tested.
    pub interrupted: bool,
    /// Loss and metrics on the test split.
    pub test: Option<Metrics>,
    /// Epochs done.
    pub epochs: u64,
    /// Time in steps, validation and checkpoints, without compiling.
    pub train_time: Duration,
    /// Examples trained on in this process.
    pub items: u64,
    /// Time spent compiling.
    pub compile_time: Duration,
}

/// Trains until the last epoch, early stopping, or an interrupt. Labels that are out of range stop it where they are
/// met; [`Session::check_indices`] finds them before.
///
/// # Errors
/// Data, compile and file errors; [`DriverError::NotFinite`] for a loss that is no finite number.
pub fn train(
    session: &mut Session<'_>,
    dataset: &Dataset,
    options: &TrainOptions,
    observer: &mut dyn Observer,
    interrupt: &AtomicBool,
) -> Result<Outcome, DriverError> {
    check_last_batch(session, dataset.train.rows.len())?;
    let mut run = Run::prepare(session, dataset, options)?;
    observer.event(&Event::Begun { history: &run.progress.history });
    let batch = run.batch.min(dataset.train.rows.len().max(1));
    let program = run.session.training_program(batch)?;
    observer.event(&Event::Compiled { time: program.compile_time, arena_bytes: program.arena_bytes() });
    let started = Instant::now();
    let compiled_before = run.session.compile_time();
    if run.progress.iteration == 0 {
        run.draw_epoch(0, observer)?;
    }
    let interrupted = run.epochs(observer, interrupt)?;
    let compiled_meanwhile = run.session.compile_time() - compiled_before;
    let train_time = started.elapsed().saturating_sub(compiled_meanwhile);
    let test = if interrupted { None } else { run.test(observer)? };
    Ok(Outcome {
        interrupted,
        test,
        epochs: run.progress.history.rows.len() as u64,
        train_time,
        items: run.items,
        compile_time: run.session.compile_time(),
    })
}

/// What ends an epoch of so many examples may be a smaller batch, which the recipe must be able to train on, too.
///
/// # Errors
/// The diagnostics of such a batch, which would else come after an epoch.
fn check_last_batch(session: &Session<'_>, examples: usize) -> Result<(), DriverError> {
    let batch = Project::batch(session.recipe()).min(examples.max(1));
    let last = match examples % batch {
        0 if batch > 1 => return Ok(()),
        0 => batch,
        rest => rest,
    };
    let mut checked = session.check_training(last);
    if let Err(DriverError::Diagnostics { diagnostics, .. }) = &mut checked {
        let note = format!("the last batch of an epoch has {last} of the {examples} examples: choose another `batch`");
        diagnostics.iter_mut().for_each(|diagnostic| diagnostic.notes.push(note.clone()));
    }
    checked
}

/// What is worth telling of a run before it begins, a line each: steps that are never done, gradients that are
/// collected and never used, rounding that never begins, and pruning that never chooses.
pub fn remarks(session: &Session<'_>, dataset: &Dataset) -> Vec<String> {
    let recipe = session.recipe();
    let batches = dataset.train.rows.len().div_ceil(Project::batch(recipe));
    let iterations = recipe.epochs.saturating_mul(i64::try_from(batches).unwrap_or(i64::MAX));
    let idle = recipe.steps.iter().filter(|step| step.every > iterations);
    let told = idle.map(|step| {
        let (name, every) = (&step.name, step.every);
        format!("the step `{name}` is never done: it is `every {every}`, and there are {iterations} iterations")
    });
    let every = |name: &str| recipe.steps.iter().find(|step| step.name == name).map_or(1, |step| step.every);
    let lost = recipe.accumulations.iter().filter_map(|accumulation| {
        let (step, done) = match &accumulation.step {
            Some(name) => (format!("the step `{name}`"), iterations / every(name)),
            None => ("the run".to_owned(), iterations),
        };
        let steps = if done == 1 { "iteration" } else { "iterations" };
        let told = format!("`accumulate={}` never updates: {step} has {done} {steps}", accumulation.every);
        (done < accumulation.every).then_some(told)
    });
    let is_late = recipe.quantise.is_some() && !recipe.rounds(iterations - 1, iterations);
    let late = is_late.then(|| format!("`quantise` never begins: it would after the last of {iterations} iterations"));
    let idle = recipe.prune.as_ref().filter(|prune| prune.every > iterations).map(|prune| {
        format!("`prune` never chooses: it is `every={}`, and there are {iterations} iterations", prune.every)
    });
    told.chain(lost).chain(late).chain(idle).collect()
}

/// Makes the run's folder, and tries whether a checkpoint can be written there. [`train`] does so, too; a caller that
/// wants to put more into the folder can do so before.
///
/// # Errors
/// It cannot be made or written to, there is an earlier run in it, or none that can be resumed.
pub fn prepare_folder(options: &TrainOptions) -> Result<(), DriverError> {
    let Some(out) = &options.out else { return Ok(()) };
    let last = out.join(LAST);
    match (options.resume, last.exists()) {
        (true, false) => {
            return Err(DriverError::Usage(format!("there is no {} to resume from", last.display())));
        }
        (false, true) => {
            return Err(DriverError::Usage(format!(
                "{} is there from an earlier run: continue it with `--resume`, or name another folder with `--out`",
                last.display()
            )));
        }
        (true, true) | (false, false) => {}
    }
    fs::create_dir_all(out).map_err(|source| DriverError::Io { doing: "create", path: out.clone(), source })?;
    Ok(nnc_data::check_writable(&last)?)
}

/// The files of a run's folder, whether they are there yet or not.
pub fn files_of(folder: &Path) -> [PathBuf; 3] {
    [LAST, BEST, METRICS].map(|name| folder.join(name))
}

/// A run under way.
struct Run<'r, 's, 'p> {
    session: &'r mut Session<'p>,
    dataset: &'s Dataset,
    options: &'s TrainOptions,
    progress: Progress,
    best: Option<BTreeMap<String, Tensor>>,
    batch: usize,
    batches_per_epoch: usize,
    epochs: u64,
    items: u64,
    /// From this iteration on, counted from 0, an epoch may be the best.
    settled: i64,
}

/// What is said of a run whose state, apart from the weights, is of other parts than the recipe's: at `path`.
fn another_optimiser(path: &str) -> String {
    format!(
        "the run was started with another optimiser or metric, as `{path}` tells: resume it with the same, or begin \
         another run with `--init`"
    )
}

const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
const METRICS: &str = "metrics.csv";

impl<'r, 's, 'p> Run<'r, 's, 'p> {
    fn prepare(
        session: &'r mut Session<'p>,
        dataset: &'s Dataset,
        options: &'s TrainOptions,
    ) -> Result<Self, DriverError> {
        let recipe = session.recipe();
        let batch = Project::batch(recipe);
        let epochs = u64::try_from(recipe.epochs).expect("the front end takes epochs from 1");
        let rows = dataset.train.rows.len();
        let progress = Progress::new(session.seed(), batch, rows);
        let batches_per_epoch = rows.div_ceil(batch);
        let settled = session.settled(epochs.saturating_mul(batches_per_epoch as u64) as i64)?;
        let mut run = Self {
            session,
            dataset,
            options,
            progress,
            best: None,
            batch,
            batches_per_epoch,
            epochs,
            items: 0,
            settled,
        };
        run.open_folder()?;
        Ok(run)
    }

    fn open_folder(&mut self) -> Result<(), DriverError> {
        prepare_folder(self.options)?;
        match &self.options.out {
            Some(out) if self.options.resume => {
                [LAST, BEST, METRICS].iter().for_each(|name| nnc_data::remove_leftovers(&out.join(name)));
                self.restore(&out.join(LAST), &out.join(BEST))
            }
            Some(_) | None => self.session.learn(&self.dataset.train),
        }
    }

    fn restore(&mut self, last: &Path, best: &Path) -> Result<(), DriverError> {
        let wrong = |reason: String| DriverError::Weights { path: last.to_owned(), reason };
        let loaded = checkpoint::load(last)?;
        let text = loaded.metadata.ok_or_else(|| wrong("this is no checkpoint of a run, only weights".to_owned()))?;
        let progress = Progress::parse(&text).map_err(wrong)?;
        quantise::file::refuse(&loaded.tensors).map_err(wrong)?;
        let mismatches = self.session.mismatches(&loaded.tensors);
        if !mismatches.is_empty() {
            return Err(wrong(format!("these are the weights of another model:{}", listed(&mismatches))));
        }
        self.session.adopt_masks(&loaded.tensors).map_err(wrong)?;
        let kept = |path: &str| path.starts_with(RESERVED);
        let other = loaded.tensors.keys().find(|path| kept(path) && self.session.store().get(path).is_none());
        if let Some(path) = other {
            return Err(wrong(another_optimiser(path)));
        }
        progress.continues(&self.progress).map_err(wrong)?;
        if progress.learned() != self.dataset.learned {
            let reason = "it was trained on other classes, characters, words or tokens than the data has now";
            return Err(wrong(reason.to_owned()));
        }
        for (path, entry) in self.session.store_mut().iter_mut() {
            let tensor = loaded.tensors.get(path).filter(|tensor| tensor.ty() == entry.ty);
            let tensor = tensor.ok_or_else(|| wrong(another_optimiser(path)))?;
            entry.buffer.bytes_mut().copy_from_slice(tensor.bytes());
        }
        if best.exists() && progress.best.is_some() {
            self.best = Some(checkpoint::load(best)?.tensors);
        }
        self.progress = progress;
        Ok(())
    }

    /// Gives whether the run was interrupted.
    fn epochs(&mut self, observer: &mut dyn Observer, interrupt: &AtomicBool) -> Result<bool, DriverError> {
        while self.progress.epoch < self.epochs && !self.progress.stopped_early {
            if self.steps(observer, interrupt)? {
                self.save_last(observer)?;
                return Ok(true);
            }
            self.end_epoch(observer)?;
        }
        Ok(false)
    }

    /// The rest of the current epoch. Gives whether it was interrupted. After the first step nothing is allocated but
    /// by the observer, for checkpoints, and for the points of the run's course.
    fn steps(&mut self, observer: &mut dyn Observer, interrupt: &AtomicBool) -> Result<bool, DriverError> {
        let train = &self.dataset.train;
        let epoch = self.progress.epoch;
        let number = u32::try_from(epoch).expect("epochs are at most 2^31");
        let order = train.order(self.session.data().balance, self.progress.seed as u64, number);
        let mut batches = Batches::new(train.table.clone(), order, self.batch, self.progress.batch)?;
        if self.progress.batch == 0 {
            self.session.reset_metrics();
        }
        let mut means = Means::new(self.session.recipe());
        means.restore(&self.progress.sums);
        let (mut metrics, mut told) = (Metrics::new(), Metrics::new());
        while let Some(batch) = batches.next_batch()? {
            self.step(batch, &mut metrics)?;
            means.add(&metrics, batch.rows);
            self.progress.batch += 1;
            self.progress.iteration += 1;
            self.items += batch.rows as u64;
            let (step, steps) = (self.progress.batch, self.batches_per_epoch);
            means.finish_into(&mut told);
            observer.event(&Event::Step { epoch, epochs: self.epochs, step, steps, rows: batch.rows, means: &told });
            let iteration = self.progress.iteration;
            let iterations = self.iterations();
            let told = (&metrics, batch.rows);
            let trace = &mut self.progress.history.trace;
            if let Some(point) = trace.add(self.session.recipe(), told, iteration, iterations) {
                observer.event(&Event::Traced { point });
            }
            let stopped = interrupt.load(Ordering::Relaxed);
            let due = self.options.checkpoint_every.is_some_and(|every| self.progress.iteration.is_multiple_of(every));
            if stopped || due {
                self.progress.sums = means.parts().to_vec();
            }
            if stopped {
                return Ok(true);
            }
            if due {
                self.save_last(observer)?;
            }
        }
        self.progress.sums = means.into_parts();
        Ok(false)
    }

    /// Steps of the whole run.
    fn iterations(&self) -> u64 {
        self.epochs * self.batches_per_epoch as u64
    }

    /// A step, whose losses and metrics it puts into `metrics`.
    fn step(&mut self, batch: &Batch, metrics: &mut Metrics) -> Result<(), DriverError> {
        let moment = Moment {
            iteration: self.progress.iteration as i64,
            iterations: self.iterations() as i64,
            epoch: self.progress.epoch as i64,
        };
        match self.session.step(batch, moment).map_err(|error| error.in_files(&self.dataset.train))? {
            Step::Done(told) => {
                session::copy(told.iter().map(|(name, value)| (name.as_str(), *value)), metrics);
                Ok(())
            }
            Step::Withheld { name, loss } => {
                let name = name.to_owned();
                let last = self.options.out.as_ref().map(|out| out.join(LAST));
                Err(DriverError::NotFinite(Box::new(NotFinite {
                    name,
                    loss,
                    epoch: self.progress.epoch + 1,
                    step: self.progress.batch + 1,
                    operation: self.session.first_non_finite(batch, moment),
                    checkpoint: last.filter(|path| path.exists()),
                })))
            }
        }
    }

    fn end_epoch(&mut self, observer: &mut dyn Observer) -> Result<(), DriverError> {
        let mut means = Means::new(self.session.recipe());
        means.restore(&std::mem::take(&mut self.progress.sums));
        let measured = self.dataset.validation.as_ref().map(|part| self.session.measure(part)).transpose()?;
        let (validation, matrices) = measured.unzip();
        let row = Row {
            epoch: self.progress.epoch + 1,
            iteration: self.progress.iteration,
            train: means.finish(),
            validation,
        };
        self.progress.end_epoch();
        // What is not pruned or rounded yet is no candidate.
        let counts = self.progress.iteration as i64 > self.settled;
        let improved = counts && self.progress.judge(&row, self.session.recipe().stop_early.as_ref());
        self.progress.history.rows.push(row.clone());
        if improved {
            self.keep_best();
        }
        self.save_epoch(improved, observer)?;
        self.draw_epoch(row.epoch, observer)?;
        let (history, matrices) = (&self.progress.history, &matrices.unwrap_or_default());
        observer.event(&Event::Epoch { row: &row, history, matrices, epochs: self.epochs, improved });
        if self.progress.stopped_early {
            observer.event(&Event::StoppedEarly { epoch: row.epoch, best: self.progress.best_epoch });
        }
        Ok(())
    }

    fn keep_best(&mut self) {
        let store = self.session.store();
        let tensors = store.iter().filter_map(|(path, _)| Some((path.to_owned(), store.tensor(path)?)));
        self.best = Some(tensors.collect());
    }

    /// Writes the files of an epoch: all are complete on the device before the first takes its place. The best goes
    /// first: a run that ends in between repeats the epoch, and with it the best.
    fn save_epoch(&self, improved: bool, observer: &mut dyn Observer) -> Result<(), DriverError> {
        let Some(out) = &self.options.out else { return Ok(()) };
        let best = improved.then(|| self.stage(&out.join(BEST))).transpose()?;
        let path = out.join(LAST);
        let last = self.stage(&path)?;
        let table = self.progress.history.to_csv();
        let metrics = Staged::new(&out.join(METRICS), |file| file.write_all(table.as_bytes()))?;
        for staged in best.into_iter().chain([last, metrics]) {
            staged.commit()?;
        }
        observer.event(&Event::Saved { path: &path });
        Ok(())
    }

    /// Writes the pictures of an epoch, as `NAME-003.png`.
    fn draw_epoch(&mut self, epoch: u64, observer: &mut dyn Observer) -> Result<(), DriverError> {
        let Some(out) = &self.options.out else { return Ok(()) };
        for (name, picture) in self.session.pictures(self.dataset.shown())? {
            let path = out.join(format!("{name}-{epoch:03}.png"));
            nnc_data::write_pictures(&path, field_type(&picture.ty()).dtype, picture.dims(), picture.bytes())?;
            observer.event(&Event::Drawn { path: &path });
        }
        Ok(())
    }

    /// Writes a checkpoint in the middle of an epoch.
    fn save_last(&self, observer: &mut dyn Observer) -> Result<(), DriverError> {
        let Some(out) = &self.options.out else { return Ok(()) };
        let path = out.join(LAST);
        self.stage(&path)?.commit()?;
        observer.event(&Event::Saved { path: &path });
        Ok(())
    }

    /// A checkpoint whose weights are all numbers; others would replace the last good one.
    fn stage(&self, path: &Path) -> Result<Staged, DriverError> {
        if let Some(tensor) = self.session.store().first_not_finite() {
            let message = format!("`{tensor}` holds a NaN or an infinity, although the loss was finite");
            let help = "the checkpoint before this is kept: a smaller learning rate, `clip_norm`, or a loss and layers without a division by 0 may help";
            return Err(DriverError::Usage(format!("{message}; {help}")));
        }
        let metadata = self.progress.to_text(&self.dataset.learned);
        checkpoint::stage(path, self.session.store().iter(), &metadata)
    }

    /// Loss and metrics on the test split, with the best weights when validation chose some.
    fn test(&mut self, observer: &mut dyn Observer) -> Result<Option<Metrics>, DriverError> {
        if let (Some(best), true) = (&self.best, self.dataset.validation.is_some()) {
            self.session.load_weights(best);
            self.session.adopt_ranges(best);
        }
        let Some(part) = &self.dataset.test else { return Ok(None) };
        let (metrics, matrices) = self.session.measure(part)?;
        observer.event(&Event::Tested { metrics: &metrics, matrices: &matrices, rows: part.rows.len() });
        Ok(Some(metrics))
    }
}
