//! From common options to a project, a compiler, a data set.

use crate::arguments::{EngineOptions, FileOptions, PassOptions, TuneOptions};
use crate::given::Givens;
use crate::terminal;
use crate::{Failure, output};
use nnc_driver::answer::{AnswerGraphs, Inputs, model_name, open_dims};
use nnc_driver::checkpoint::{self, Checkpoint};
use nnc_driver::fit::{Fitted, fit};
use nnc_driver::prune::channels::records;
use nnc_driver::prune::{adopt, is_told};
use nnc_driver::quantise::{self, trained};
use nnc_driver::stage::Which;
use nnc_driver::store::Store;
use nnc_driver::tune::{self, Cache, Win};
use nnc_driver::{
    Compiler, Dataset, DriverError, Engine, Learned, Project, Session, dataset, executable, learned, restore,
};
use nnc_graph::{DType, Graph, Tensor};
use nnc_kernel::Tuning;
use nnc_lang::elaborate::{Options, RecipeInfo};
use nnc_opt::{fuse::FuseOptions, pipeline};
use nnc_runtime::Pool;
use nnc_stub::arguments::too_many_threads;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How pictures that are written here begin.
const PICTURE: &[u8; 4] = b"<svg";

/// Reads and checks the file, and prints its warnings.
pub(crate) fn project(options: &FileOptions) -> Result<Project, Failure> {
    let project = Project::load(&options.file, &language_options(options)?)?;
    if !project.warnings.is_empty() {
        terminal::print_diagnostics(&project.warnings, &project.sources);
    }
    Ok(project)
}

/// What the front end is asked for.
pub(crate) fn language_options(options: &FileOptions) -> Result<Options, Failure> {
    let float = if options.dtype == "f64" { DType::F64 } else { DType::F32 };
    let only = options.only.clone();
    Ok(Options { bind: bindings(&options.bind)?, set: settings(&options.set)?, only, float })
}

/// The largest size of a dim that can be asked for.
const MOST: i64 = 1 << 31;

/// `N=64 T=10` as a map.
pub(crate) fn bindings(list: &[String]) -> Result<BTreeMap<String, i64>, Failure> {
    let pair = |text: &String| -> Result<(String, i64), Failure> {
        let wrong = || Failure::Message(format!("--bind {text}: write a dim and a size from 1 to {MOST}, as `N=64`"));
        let (name, size) = text.split_once('=').ok_or_else(wrong)?;
        let size: i64 = size.trim().parse().map_err(|_| wrong())?;
        if !(1..=MOST).contains(&size) {
            return Err(wrong());
        }
        Ok((name.trim().to_owned(), size))
    };
    distinct("--bind", list.iter().map(pair))
}

/// How many examples `--bind N=...` asks for.
pub(crate) fn rows(options: &FileOptions) -> Result<Option<usize>, Failure> {
    let bound = bindings(&options.bind)?.get("N").copied();
    Ok(bound.map(|rows| usize::try_from(rows).expect("a size is from 1 to MOST")))
}

/// Names with their values; a name that is given twice is a mistake.
fn distinct<T>(
    option: &str,
    pairs: impl Iterator<Item = Result<(String, T), Failure>>,
) -> Result<BTreeMap<String, T>, Failure> {
    let mut found = BTreeMap::new();
    for pair in pairs {
        let (name, value) = pair?;
        if found.contains_key(&name) {
            return Err(Failure::Message(format!("{option} {name}=...: `{name}` is given twice")));
        }
        found.insert(name, value);
    }
    Ok(found)
}

/// Refuses a size for `N` where the recipe's batch decides.
pub(crate) fn refuse_batch_size(options: &FileOptions) -> Result<(), Failure> {
    match bindings(&options.bind)?.get("N") {
        Some(size) => Err(Failure::Message(format!("--bind N={size}: the recipe says it; use `--set batch={size}`"))),
        None => Ok(()),
    }
}

/// `epochs=3 lr=0.01` as a map.
fn settings(list: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| -> Result<(String, String), Failure> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::Message(format!("--set {text}: write a setting and its value, as `epochs=3`")))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    distinct("--set", list.iter().map(pair))
}

/// The file of weights, when one is given.
fn checkpoint(file: Option<&Path>) -> Result<Checkpoint, DriverError> {
    file.map_or_else(|| Ok(Checkpoint::default()), checkpoint::load)
}

/// A project with a file of weights, if one is given, and as that asks for it.
pub(crate) fn weighted(options: &FileOptions, weights: Option<&Path>) -> Result<(Project, Checkpoint), Failure> {
    let (project, loaded) = (project(options)?, checkpoint(weights)?);
    let Some(path) = weights else { return Ok((project, loaded)) };
    let project = project.with_file(options.only.as_deref(), (path, &loaded))?;
    for layer in trained::idle(&loaded.tensors, &project.rounded) {
        let why = "the training that rounded others gave it nothing but 0, or it is too small for integers";
        terminal::print_warning(&format!("{}: `{layer}` stays f32, as {why}", path.display()));
    }
    Ok((project, loaded))
}

/// What is trained further: weights as they are, or the floats that integers and few bits stand for, with a remark.
pub(crate) fn of_floats(
    project: Project,
    options: &FileOptions,
    compiler: &Compiler,
    (weights, loaded): (Option<&Path>, Checkpoint),
) -> Result<(Project, Checkpoint), Failure> {
    let Some(path) = weights.filter(|_| !project.has_floats()) else { return Ok((project, loaded)) };
    let recipe = project.recipe(options.only.as_deref())?;
    let restored = restore::floats((&project, recipe), compiler, (path, loaded))?;
    let numbers = if project.quantised.is_empty() { "few bits" } else { "integers" };
    output::remark(&format!("{}: training goes on with the floats that its {numbers} stand for", path.display()));
    Ok(restored)
}

/// Integers are not rounded again, and no run goes on with them.
pub(crate) fn refuse_quantised(weights: &Path, loaded: &Checkpoint) -> Result<(), DriverError> {
    let wrong = |reason| DriverError::Weights { path: weights.to_owned(), reason };
    quantise::file::refuse(&loaded.tensors).map_err(wrong)
}

/// Weights that are no finite numbers have no magnitude to be pruned by.
pub(crate) fn refuse_not_finite(weights: &Path, store: &Store) -> Result<(), DriverError> {
    let Some(path) = store.first_not_finite() else { return Ok(()) };
    let reason = format!("`{path}` holds a NaN or an infinity, which has no magnitude");
    Err(DriverError::Weights { path: weights.to_owned(), reason })
}

/// Refuses settings that only answers of the recipe have: a training makes none, so they would do nothing.
pub(crate) fn refuse_settings_of_answers(recipe: &RecipeInfo, options: &FileOptions) -> Result<(), Failure> {
    let parameters = || recipe.answers.iter().flat_map(|answer| answer.parameters.iter().flatten());
    let is_of_answers =
        |name: &String| !recipe.settings.contains(name) && parameters().any(|parameter| parameter.name == *name);
    match settings(&options.set)?.into_keys().find(is_of_answers) {
        Some(name) => Err(Failure::Message(format!(
            "--set {name}: only answers have `{name}`, and a training makes none; give it to `nnc run` or `nnc build`"
        ))),
        None => Ok(()),
    }
}

/// Says which model is taken when a file has several, and nobody named one.
pub(crate) fn note_model(project: &Project, options: &FileOptions) {
    let models = &project.unit.models;
    if let ([first, .., taken], None) = (models.as_slice(), &options.only) {
        let (taken, first) = (&taken.name, &first.name);
        output::remark(&format!(
            "of {} models the last one is taken, `{taken}`; name another with `--only`, as `--only {first}`",
            models.len()
        ));
    }
}

/// Says which dims of a model by itself are taken as 1: nothing says them, nor what is given, of the sizes `known`.
pub(crate) fn note_open_dims(project: &Project, model: &str, known: &BTreeMap<String, i64>) {
    let open = open_dims(project, model, known);
    if open.is_empty() {
        return;
    }
    let listed = open.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let given = open.iter().map(|name| format!("{name}=64")).collect::<Vec<_>>().join(" ");
    let (are, them) = if open.len() == 1 { ("is", "it") } else { ("are", "them") };
    output::remark(&format!(
        "{listed} {are} taken as 1: the model leaves {them} open; give {them} with `--bind {given}`"
    ));
}

/// As [`note_model`] and [`note_open_dims`], for a command that makes the program of a file without a recipe.
pub(crate) fn note_choices(
    project: &Project,
    options: &FileOptions,
    known: &BTreeMap<String, i64>,
) -> Result<(), DriverError> {
    if project.unit.recipes.is_empty() {
        note_model(project, options);
        note_open_dims(project, &model_name(project, options.only.as_deref())?, known);
    }
    Ok(())
}

/// All that a command reads, over which it writes nothing: the files of its project, whose data are in the folder
/// `data` or in its own, and `others` that the command line names.
pub(crate) fn reads<'o>(
    project: &Project,
    data: Option<&Path>,
    others: impl IntoIterator<Item = &'o Path>,
) -> Vec<PathBuf> {
    let mut found = project.reads(data);
    found.extend(others.into_iter().map(Path::to_owned));
    found
}

fn paths(files: &[PathBuf]) -> Vec<&Path> {
    files.iter().map(PathBuf::as_path).collect()
}

/// Refuses a place for what is written that one of the files has which are read, or where no regular file is.
pub(crate) fn check_target(target: &Path, reads: &[PathBuf]) -> Result<(), Failure> {
    executable::check_target(target, &paths(reads)).map_err(|error| Failure::Message(error.to_string()))
}

/// As [`check_target`], also of a place where something else than weights is, or that cannot be written.
pub(crate) fn check_weights_target(output: &Path, reads: &[PathBuf]) -> Result<(), DriverError> {
    checkpoint::check_target(output, &paths(reads))
}

/// As [`check_target`], also of a place where something else than a picture is, or that cannot be written.
pub(crate) fn check_plot_target(plot: &Path, reads: &[PathBuf]) -> Result<(), Failure> {
    check_target(plot, reads)?;
    if plot.exists() && !is_picture(plot) {
        let message =
            format!("{}: this is no SVG picture, and would be overwritten; choose another name", plot.display());
        return Err(Failure::Message(message));
    }
    Ok(nnc_data::check_writable(plot).map_err(DriverError::from)?)
}

/// Whether a file begins as the pictures that are written here do.
fn is_picture(path: &Path) -> bool {
    let mut start = [0; PICTURE.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *PICTURE
}

/// The program that is asked for; unless one is, the training step, or of integers, which are not trained, the answer.
pub(crate) fn program(asked: Option<Which>, project: &Project) -> Result<Which, Failure> {
    match (asked, project.has_floats() || project.unit.recipes.is_empty()) {
        (Some(Which::Train), false) => Err(Failure::Message(
            "--program train: quantised weights are not trained, but as the floats that they stand for; choose answer or eval".to_owned(),
        )),
        (Some(asked), _) => Ok(asked),
        (None, true) => Ok(Which::Train),
        (None, false) => Ok(Which::Answer),
    }
}

/// The weights of an answer: from what was loaded of a file for all of it, whose tensors are then let go; without one,
/// from the files that its layers name. So many threads turn what has to be turned.
pub(crate) fn weights(
    project: &Project,
    graphs: &AnswerGraphs,
    (file, loaded): (Option<&Path>, &mut Checkpoint),
    threads: NonZeroUsize,
) -> Result<Store, DriverError> {
    let Some(path) = file else { return graphs.store_of_layers(project) };
    graphs.store(loaded, path, threads)
}

/// Says what is odd about weights that are run as they are, since nothing else tells of it.
pub(crate) fn note_oddities(
    project: &Project,
    graphs: &AnswerGraphs,
    (file, loaded): (Option<&Path>, &Checkpoint),
) -> Result<(), DriverError> {
    let Some(path) = file else { return Ok(()) };
    for oddity in graphs.oddities(project, loaded)? {
        terminal::print_warning(&format!("{}: {oddity}", path.display()));
    }
    Ok(())
}

/// What `run` and `quantise` compute: an answer, or a model by itself, as what is given makes it. Dims that it leaves
/// open are as large as that; of what has a default, those that are given are inputs.
pub(crate) fn called(
    project: &Project,
    (file, answer): (&FileOptions, Option<&str>),
    loaded: &Checkpoint,
    given: &mut Givens<'_>,
) -> Result<AnswerGraphs, Failure> {
    let only = file.only.as_deref();
    let declared = Inputs::new(project, only, answer)?;
    let taken = declared.clone().held_to(&Learned::of(loaded));
    let taken = taken.with_optional(project, only, |name| given.names(name))?;
    let tensors = given.tensors(&taken).map_err(|failure| match loaded.tensors.is_empty() {
        true => without_letters(failure, &declared),
        false => failure,
    })?;
    let sizes = taken.sizes(&tensors)?;
    note_choices(project, file, &sizes)?;
    Ok(AnswerGraphs::sized(project, only, taken, rows(file)?.unwrap_or(1), &sizes)?)
}

/// A text was looked for as a file, for without weights no character has a number: these are what lacks.
fn without_letters(failure: Failure, declared: &Inputs) -> Failure {
    let text = declared.tensors().find(|(_, ty)| declared.is_text(ty)).map(|(name, _)| name);
    match (failure, text) {
        (Failure::Driver(DriverError::Data(_)), Some(name)) => Failure::Message(format!(
            "`{name}` is a text, whose numbers are in the weights, and there are no weights: give a file of them, `--weights FILE`"
        )),
        (failure, _) => failure,
    }
}

/// A model by itself with the weights of a file, their masks and records, which are made smaller and written elsewhere.
/// With nothing given it is any program that reads them.
pub(crate) fn opened_model(
    project: &Project,
    (file, weights_file): (&FileOptions, &Path),
    loaded: &mut Checkpoint,
    given: Option<&mut Givens<'_>>,
) -> Result<(AnswerGraphs, Store), Failure> {
    let graphs = match given {
        Some(given) => called(project, (file, None), loaded, given)?,
        None => {
            note_choices(project, file, &BTreeMap::new())?;
            AnswerGraphs::new(project, file.only.as_deref(), None, rows(file)?.unwrap_or(1))?
        }
    };
    let told: BTreeMap<String, Tensor> =
        loaded.tensors.iter().filter(|(path, _)| is_told(path)).map(|(path, of)| (path.clone(), of.clone())).collect();
    let mut store = weights(project, &graphs, (Some(weights_file), loaded), NonZeroUsize::MIN)?;
    let wrong = |reason| DriverError::Weights { path: weights_file.to_owned(), reason };
    adopt(&mut store, &told).map_err(wrong)?;
    records(&project.channels).for_each(|(path, tensor)| store.insert(&path, &tensor));
    Ok((graphs, store))
}

/// As [`weights`], of a file that is read once more.
pub(crate) fn weights_again(
    project: &Project,
    graphs: &AnswerGraphs,
    file: Option<&Path>,
) -> Result<Store, DriverError> {
    weights(project, graphs, (file, &mut checkpoint(file)?), NonZeroUsize::MIN)
}

/// The path in `name=path`, `name=@path` or `path`.
pub(crate) fn path_of(given: &str) -> &Path {
    Path::new(given.split_once('=').map_or(given, |(_, path)| path.strip_prefix('@').unwrap_or(path)))
}

/// Weights of a recipe that other weights are made of, by its data.
#[derive(Clone, Copy)]
pub(crate) struct Trained<'o> {
    pub(crate) file: &'o FileOptions,
    pub(crate) weights: &'o Path,
    /// The folder of the data, if it is not the file's own.
    pub(crate) data: Option<&'o Path>,
}

/// A recipe with its weights and its data.
pub(crate) fn opened<'p>(
    project: &'p Project,
    trained: Trained<'_>,
    compiler: &Compiler,
    loaded: &Checkpoint,
) -> Result<(&'p RecipeInfo, Session<'p>, Dataset), Failure> {
    refuse_batch_size(trained.file)?;
    let recipe = project.recipe(trained.file.only.as_deref())?;
    let mut session = Session::without_files(project, &recipe.name, compiler.clone(), 0)?;
    session.load_exactly(trained.weights, loaded)?;
    let wrong = |reason| DriverError::Weights { path: trained.weights.to_owned(), reason };
    session.adopt_masks(&loaded.tensors).map_err(wrong)?;
    let root = trained.data.unwrap_or(project.folder());
    let seed = learned::seed(recipe, loaded) as u64;
    let dataset = Dataset::open(session.data(), root, seed, dataset::Wanted::All, &Learned::of(loaded))?;
    Ok((recipe, session, dataset))
}

/// A compiler with its threads.
pub(crate) fn compiler(options: &EngineOptions) -> Result<Compiler, Failure> {
    if options.engine == Engine::Interpreter && options.passes.max_memory.is_some() {
        let message = "--max-memory is for native code: the interpreter keeps every value".to_owned();
        return Err(Failure::Message(message));
    }
    let passes = passes(options.passes, options.fuel);
    Ok(Compiler { engine: options.engine, pool: pool(options.threads)?, passes, tuning: None })
}

/// A native compiler on so many threads.
pub(crate) fn native(threads: Option<NonZeroUsize>, engine: Engine, options: PassOptions) -> Result<Compiler, Failure> {
    Ok(Compiler { engine, pool: pool(threads)?, passes: passes(options, None), tuning: None })
}

/// Makes a compiler know the fastest schedules for a graph, if that is asked for, and says which they are. Runs write
/// into `store` as the graph does.
pub(crate) fn tune(
    options: TuneOptions,
    compiler: &mut Compiler,
    graph: &Graph,
    store: &mut Store,
) -> Result<(), Failure> {
    let Some(time) = options.tune else { return Ok(()) };
    if compiler.engine == Engine::Interpreter {
        let message = "--tune is for native code: the interpreter has no schedules".to_owned();
        return Err(DriverError::Usage(message).into());
    }
    let (tuning, report) = tune::tune(graph, store, compiler, (&Cache::of_user(compiler), time))?;
    compiler.tuning = Some(Arc::new(tuning));
    let (products, known) = (terminal::counted(report.products, "product"), report.known);
    output::remark(&format!(
        "of {products} that can be cut in several ways, {known} had been measured in earlier runs; {} now run in another way than \
         without --tune",
        report.wins.len()
    ));
    if report.left > 0 {
        let left = terminal::counted(report.left, "product");
        output::remark(&format!("for {left} the time was too short, so that nothing is kept of them"));
    }
    if !report.wins.is_empty() {
        let heading = ["time", "", "gain", "launches", "from", "to"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(heading).chain(report.wins.iter().map(win)).collect();
        output::remark(terminal::table(&rows).trim_end());
    }
    if let Some(why) = &report.warning {
        terminal::print_warning(&format!("what tuning found is not kept: {why}"));
    }
    Ok(())
}

fn win(win: &Win) -> Vec<String> {
    let mut row = match win.seconds {
        Some((before, after)) => {
            let gain = format!("{:.2}x", before / after.max(1e-12));
            vec![terminal::duration(before), terminal::duration(after), gain]
        }
        None => vec![String::new(), String::new(), "known".to_owned()],
    };
    row.extend([win.launches.to_string(), win.before.clone(), win.after.clone()]);
    row
}

fn pool(threads: Option<NonZeroUsize>) -> Result<Arc<Pool>, Failure> {
    if let Some(remark) = too_many_threads(threads) {
        output::remark(&remark);
    }
    let started = Pool::with_limit(threads);
    started.map(Arc::new).map_err(|error| Failure::Message(format!("cannot start threads: {error}")))
}

/// The passes of an ordinary compilation.
pub(crate) fn passes(options: PassOptions, fuel: Option<u64>) -> pipeline::Options {
    let fuse = if options.no_fuse { FuseOptions::NONE } else { FuseOptions::ALL };
    let max_memory = options.max_memory.map(NonZeroUsize::get);
    pipeline::Options { fuse, fuel, winograd: !options.no_winograd, max_memory, ..pipeline::Options::default() }
}

/// A graph as it is lowered for an engine by the schedules that are known, within the memory that `passes` allow all
/// threads of this machine.
pub(crate) fn fitted(
    graph: &Graph,
    (engine, threads): (Engine, Option<NonZeroUsize>),
    passes: &pipeline::Options,
    tuning: Option<&Tuning>,
) -> Result<Fitted, Failure> {
    nnc_driver::compiled::check_sizes(graph)?;
    let optimised = nnc_opt::optimise(graph, passes).map_err(|error| DriverError::Internal(error.to_string()))?;
    let all = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = threads.unwrap_or_else(all);
    Ok(fit(optimised, (engine, threads), passes, tuning)?)
}

/// The name of the only recipe, or of the one asked for.
pub(crate) fn recipe<'p>(project: &'p Project, options: &FileOptions) -> Result<&'p str, DriverError> {
    project.recipe(options.only.as_deref()).map(|recipe| recipe.name.as_str())
}
