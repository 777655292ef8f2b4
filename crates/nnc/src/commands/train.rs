//! `nnc train FILE`.

use crate::arguments::Train;
use crate::plots::{self, Recorder};
use crate::terminal::{self, GOOD, QUIET, STRONG};
use crate::{Failure, output, setup};
use indicatif::{ProgressBar, ProgressStyle};
use nnc_data::{check_writable, write_atomically};
use nnc_driver::checkpoint::Checkpoint;
use nnc_driver::stage::{self, Which};
use nnc_driver::store::Mismatch;
use nnc_driver::train::{Event, Observer, Outcome, TrainOptions, files_of, prepare_folder, remarks, train};
use nnc_driver::{Dataset, DriverError, Learned, Project, Session, Wanted, report};
use nnc_graph::DType;
use nnc_lang::elaborate::RecipeInfo;
use nnc_stub::present::printable;
use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub(crate) fn run(options: &Train) -> Result<(), Failure> {
    setup::refuse_batch_size(&options.file)?;
    let (project, loaded) = given(options)?;
    let mut compiler = setup::compiler(&options.engine)?;
    let was_rounded = !project.quantised.is_empty();
    let (project, loaded) = setup::of_floats(project, &options.file, &compiler, (options.init.as_deref(), loaded))?;
    let recipe = setup::recipe(&project, &options.file)?;
    setup::refuse_settings_of_answers(project.recipe(Some(recipe))?, &options.file)?;
    let seed = options.seed.or(project.recipe(Some(recipe))?.seed).unwrap_or(0);
    if options.tuning.tune.is_some() {
        let step = stage::graph(&project, Some(recipe), Which::Train, None)?;
        let mut values = stage::store(&project, Some(recipe), (&step, None), &compiler, None)?;
        setup::tune(options.tuning, &mut compiler, &step, &mut values)?;
    }
    // What a run goes on with is in its folder, and what lost channels is not what layers name.
    let is_given = options.resume || !project.channels.is_empty();
    let open = if is_given { Session::without_files } else { Session::new };
    let mut session = open(&project, recipe, compiler, seed)?;
    let root = options.data.as_deref().unwrap_or(project.folder());
    let learned = match &options.init {
        Some(weights) => start_from(&mut session, weights, (&loaded, was_rounded))?,
        None => Learned::default(),
    };
    drop(loaded);
    let dataset = Dataset::open(session.data(), root, seed as u64, Wanted::All, &learned)?;
    dataset.parts().try_for_each(|part| session.check_indices(part))?;
    session.check_classes(&dataset.train)?;
    let out = options.out.clone().unwrap_or_else(|| new_folder(&project));
    let training = TrainOptions {
        out: Some(out.clone()),
        resume: options.resume,
        checkpoint_every: options.checkpoint_every.map(NonZeroU64::get),
    };
    let reads = setup::reads(&project, options.data.as_deref(), options.init.as_deref());
    // A plot whose place is taken by a folder is not drawn; that ends no training.
    let drawn = drawn_files(&out, project.recipe(Some(recipe))?);
    own_files(&out)
        .chain(drawn)
        .filter(|file| file.is_file())
        .try_for_each(|file| setup::check_target(&file, &reads))?;
    let _unless_used = NewFolders::of(&out);
    prepare_folder(&training)?;
    if let Some(report) = &options.report {
        check_report(report, &out, &reads)?;
    }
    introduce(&session, &dataset, &out)?;
    dataset.remarks().into_iter().for_each(|remark| output::remark(&printable(remark)));
    remarks(&session, &dataset).iter().for_each(|remark| output::remark(remark));
    let interrupt = on_interrupt()?;
    let mut bar = Bar::new(interrupt.clone());
    let classes = dataset.learned.classes.as_deref().unwrap_or_default();
    let mut recorder = Recorder::new(&out, recipe, classes);
    let outcome = train(&mut session, &dataset, &training, &mut Both(&mut bar, &mut recorder), &interrupt);
    bar.finish();
    let outcome = close(recorder, outcome, &out)?;
    if let Some(file) = &options.report {
        let text = format!("{:#}\n", report::report(&session, &outcome, bar.arena_bytes));
        write_atomically(file, |to| to.write_all(text.as_bytes())).map_err(DriverError::from)?;
    }
    if options.engine.time_passes {
        print_passes(&mut session, &dataset)?;
    }
    if outcome.interrupted {
        output::remark("interrupted after the step; continue with");
        output::remark(&format!("  {STRONG}{} --resume{STRONG:#}", resume_command(options, &out)));
    }
    if let Some(failure) = bar.failure.filter(|failure| !failure.is_closed_pipe()) {
        return Err(failure);
    }
    if outcome.interrupted {
        return Err(Failure::Interrupted);
    }
    if outcome.items == 0 {
        let epochs = terminal::counted(usize::try_from(outcome.epochs).expect("epochs are at most 2^31"), "epoch");
        return output::line(&format!(
            "{QUIET}nothing was left to train after {epochs}; weights in {}{QUIET:#}",
            out.display()
        ));
    }
    let rate = outcome.items as f64 / outcome.train_time.as_secs_f64().max(1e-9);
    output::line(&format!(
        "{QUIET}{} of training, {:.0} items/s; weights in {}{QUIET:#}",
        terminal::duration(outcome.train_time.as_secs_f64()),
        rate,
        out.display()
    ))
}

/// The project as the weights ask for that a run begins with, or goes on with, and these.
fn given(options: &Train) -> Result<(Project, Checkpoint), Failure> {
    let given = options.init.clone().or_else(|| last_of(options));
    let (project, loaded) = setup::weighted(&options.file, given.as_deref())?;
    if let (Some(last), true) = (&given, options.resume) {
        setup::refuse_quantised(last, &loaded)?;
    }
    Ok((project, loaded))
}

/// The folders that a run makes for itself, innermost first. When it is over, by whatever error, those that nothing
/// came into go again.
struct NewFolders(Vec<PathBuf>);

impl NewFolders {
    /// Of those that a path names, the ones that are not there yet.
    fn of(out: &Path) -> Self {
        Self(out.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect())
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        // One that something is in cannot be removed, nor can those around it.
        self.0.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// Completes the plots of a run; one that left no checkpoint leaves none.
fn close(recorder: Recorder, outcome: Result<Outcome, DriverError>, out: &Path) -> Result<Outcome, Failure> {
    if outcome.is_err() && !files_of(out).iter().any(|file| file.exists()) {
        recorder.discard();
    } else if let Some(complaint) = recorder.finish() {
        terminal::print_warning(&complaint);
    }
    Ok(outcome?)
}

/// What a run writes into its folder.
fn own_files(out: &Path) -> impl Iterator<Item = PathBuf> {
    files_of(out).into_iter().chain(plots::files_of(out))
}

/// The files of a run's folder that have names of what its recipe draws: `NAME-003.png`, `NAME-test.svg`.
fn drawn_files(out: &Path, recipe: &RecipeInfo) -> impl Iterator<Item = PathBuf> {
    let is_of = |file: &str, stem: &str, ending: &str| {
        file.strip_prefix(stem).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(ending))
    };
    let is_drawn = move |file: &PathBuf| {
        file.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            recipe.pictures.iter().any(|stem| is_of(name, stem, ".png"))
                || recipe.matrices.iter().any(|stem| is_of(name, stem, ".svg"))
        })
    };
    fs::read_dir(out).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_drawn)
}

/// A report that cannot be written should be known before the training, not after it.
fn check_report(report: &Path, out: &Path, reads: &[PathBuf]) -> Result<(), Failure> {
    if own_files(out).any(|file| is_same_place(report, &file)) {
        let message = format!("--report {}: the run itself writes that file; choose another name", report.display());
        return Err(Failure::Message(message));
    }
    setup::check_target(report, reads)?;
    check_writable(report).map_err(|error| Failure::Driver(error.into()))
}

/// Whether two paths name the same file, which need not be there.
fn is_same_place(a: &Path, b: &Path) -> bool {
    let folder = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).canonicalize().ok()
    };
    a.file_name() == b.file_name() && folder(a).is_some_and(|found| folder(b) == Some(found))
}

fn resume_command(options: &Train, out: &Path) -> String {
    let mut words: Vec<String> = std::env::args().collect();
    words.retain(|word| word != "--resume");
    if options.out.is_none() {
        words.extend(["--out".to_owned(), out.display().to_string()]);
    }
    words.join(" ")
}

/// Copies weights in, and lists what did not match; gives the characters, words and tokens that they were trained on,
/// if they are as many as the data has: their numbers are kept. Integers bring the ranges along that they were rounded
/// by.
fn start_from(
    session: &mut Session<'_>,
    weights: &Path,
    (loaded, was_rounded): (&Checkpoint, bool),
) -> Result<Learned, Failure> {
    let mut mismatches = session.load_weights(&loaded.tensors);
    mismatches.retain(|mismatch| !session.is_learnt(mismatch));
    warn_of(&mismatches, weights);
    session.adopt_fitting_masks(&loaded.tensors);
    if was_rounded {
        session.go_on_with_ranges(&loaded.tensors);
    }
    let Learned { classes, vocabularies } = Learned::of(loaded);
    let (declared, tables) = (session.data().vocabulary(), &session.data().tables);
    let unit = nnc_driver::dataset::unit(session.data());
    let fit = vocabularies.len() == tables.len()
        && vocabularies.iter().zip(tables).all(|(table, &size)| table.size() <= size && table.unit() == unit);
    Ok(Learned {
        classes: classes.filter(|characters| declared == Some(characters.len())),
        vocabularies: if fit { vocabularies } else { Vec::new() },
    })
}

/// Lists what was not taken from a file; tensors that differ in their dtype alone are counted.
fn warn_of(mismatches: &[Mismatch], weights: &Path) {
    let dtypes = |mismatch: &Mismatch| match mismatch {
        Mismatch::Different { wanted, found, .. } if wanted.shape == found.shape => Some((found.dtype, wanted.dtype)),
        Mismatch::Different { .. } | Mismatch::Missing { .. } | Mismatch::Unknown { .. } => None,
        Mismatch::Unusable { .. } => None,
    };
    let mut counts: BTreeMap<(DType, DType), usize> = BTreeMap::new();
    for mismatch in mismatches {
        match dtypes(mismatch) {
            Some(pair) => *counts.entry(pair).or_default() += 1,
            None => terminal::print_warning(&format!("not taken from {}: {mismatch}", weights.display())),
        }
    }
    for ((found, wanted), count) in counts {
        let (file, tensors) = (weights.display(), if count == 1 { "tensor, which is" } else { "tensors, which are" });
        terminal::print_warning(&format!(
            "not taken from {file}: {count} {tensors} {found} in the file and {wanted} in the model; `--dtype` says what \
             `f32` means in the model, and `cast` behind the file's name at a `layer` converts"
        ));
    }
}

/// The checkpoint that a run goes on with, if it is there.
fn last_of(options: &Train) -> Option<PathBuf> {
    let folder = options.out.as_deref().filter(|_| options.resume)?;
    let [last, ..] = files_of(folder);
    last.exists().then_some(last)
}

/// A folder below `runs/` that is not there yet.
fn new_folder(project: &Project) -> PathBuf {
    let stem = project.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    let mut candidates = std::iter::once(stem.clone()).chain(numbered).map(|name| Path::new("runs").join(name));
    candidates.find(|path| !path.exists()).unwrap_or_else(|| Path::new("runs").join(stem))
}

fn introduce(session: &Session<'_>, dataset: &Dataset, out: &Path) -> Result<(), Failure> {
    let rows = |part: Option<usize>, name: &str| {
        part.map_or(String::new(), |rows| format!(", {} {name}", terminal::grouped(rows as u64)))
    };
    output::line(&format!(
        "{STRONG}{}{STRONG:#}: {} parameters, {} training examples{}{}; run folder {}",
        session.recipe().name,
        terminal::grouped(session.parameter_count() as u64),
        terminal::grouped(dataset.train.rows.len() as u64),
        rows(dataset.validation.as_ref().map(|part| part.rows.len()), "validation"),
        rows(dataset.test.as_ref().map(|part| part.rows.len()), "test"),
        out.display()
    ))
}

/// A flag that the first SIGINT sets; the second one ends the process.
fn on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    let handler = move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::Message(format!("cannot catch Ctrl-C: {error}")))?;
    Ok(flag)
}

fn print_passes(session: &mut Session<'_>, dataset: &Dataset) -> Result<(), Failure> {
    let batch = Project::batch(session.recipe()).min(dataset.train.rows.len());
    output::remark(terminal::passes(&session.training_program(batch)?.log).trim_end());
    Ok(())
}

/// Shows a run: a bar on a terminal, plain lines elsewhere.
struct Bar {
    bar: Option<ProgressBar>,
    started: Instant,
    items: u64,
    /// Of the training step.
    arena_bytes: usize,
    /// Why nothing can be shown any more; then the run is interrupted, as its results would be lost.
    failure: Option<Failure>,
    interrupt: Arc<AtomicBool>,
}

impl Bar {
    fn new(interrupt: Arc<AtomicBool>) -> Self {
        Self { bar: None, started: Instant::now(), items: 0, arena_bytes: 0, failure: None, interrupt }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A line that stays, above the bar when there is one.
    fn line(&mut self, text: &str) {
        let printed = match &self.bar {
            Some(bar) => bar.suspend(|| output::line(text)),
            None => output::line(text),
        };
        if let Err(failure) = printed {
            self.failure.get_or_insert(failure);
            self.interrupt.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for Bar {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Compiled { time, arena_bytes } => {
                self.arena_bytes = *arena_bytes;
                let (time, arena) = (terminal::duration(time.as_secs_f64()), terminal::bytes(*arena_bytes as u64));
                self.line(&format!("{QUIET}training step compiled in {time}, arena {arena}{QUIET:#}"));
                self.started = Instant::now();
            }
            Event::Step { epoch, epochs, step, steps, rows, means } => {
                self.items += *rows as u64;
                if !std::io::stderr().is_terminal() {
                    return;
                }
                let bar = self.bar.get_or_insert_with(|| new_bar(epochs * *steps as u64));
                bar.set_position(epoch * *steps as u64 + *step as u64);
                let rate = self.items as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
                bar.set_message(format!("{}  {rate:.0} items/s", terminal::metrics(means)));
            }
            Event::Epoch { row, epochs, improved, .. } => {
                let validation = row.validation.as_ref();
                let validated =
                    validation.map_or(String::new(), |v| format!("  | validation {}", terminal::metrics(v)));
                let mark = if *improved && validation.is_some() { format!(" {GOOD}*{GOOD:#}") } else { String::new() };
                let train = terminal::metrics(&row.train);
                self.line(&format!("epoch {:>3}/{epochs}  {train}{validated}{mark}", row.epoch));
            }
            Event::StoppedEarly { epoch, best } => {
                self.line(&format!("stopped early after epoch {epoch}: epoch {best} was the best"));
            }
            Event::Begun { .. } | Event::Traced { .. } | Event::Saved { .. } | Event::Drawn { .. } => {}
            Event::Tested { metrics, rows, .. } => {
                let (rows, metrics) = (terminal::counted(*rows, "example"), terminal::metrics(metrics));
                self.line(&format!("{GOOD}test{GOOD:#} on {rows}: {STRONG}{metrics}{STRONG:#}"));
            }
        }
    }
}

/// Two that hear of the same run.
struct Both<'a>(&'a mut Bar, &'a mut Recorder);

impl Observer for Both<'_> {
    fn event(&mut self, event: &Event<'_>) {
        self.0.event(event);
        self.1.event(event);
    }
}

fn new_bar(steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30.green} {percent:>3} %  {msg}  {eta} left");
    ProgressBar::new(steps).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
