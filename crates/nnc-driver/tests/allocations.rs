//! After the first step nothing is allocated: not by a training step, by itself or in a run, not by a batch that is
//! evaluated, not by an answer.
//!
//! `dhat` counts the allocations of all threads. The file has one test, since another would be counted, too.

use nnc_data::Batch;
use nnc_driver::session::{Moment, Step};
use nnc_driver::stage::{self, Which};
use nnc_driver::store::Store;
use nnc_driver::train::{Event, Observer, TrainOptions, train};
use nnc_driver::{Compiler, Dataset, Engine, Learned, Project, Session, Wanted};
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Allocations so far.
fn blocks() -> u64 {
    dhat::HeapStats::get().total_blocks
}

fn project(path: &str, set: &[(&str, &str)]) -> Project {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Project::load(&path, &Options { set, ..Options::default() }).unwrap()
}

fn compiler() -> Compiler {
    let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
    Compiler { engine: Engine::host(), pool: Arc::new(pool), passes: pipeline::Options::default(), tuning: None }
}

/// Examples of zeros.
fn batch(session: &Session<'_>, rows: usize) -> Batch {
    let fields = session.data().raw.iter().map(|raw| vec![0; rows * raw.ty.bytes()]).collect();
    Batch::new((0..rows as u64).collect(), fields)
}

/// Steps in two rounds; in the second nothing may be allocated.
fn check_steps(name: &str, session: &mut Session<'_>, rows: usize) {
    let batch = batch(session, rows);
    let mut round = |from: i64| {
        for iteration in from..from + 6 {
            let step = session.step(&batch, Moment { iteration, iterations: 12, epoch: 0 }).unwrap();
            assert!(matches!(step, Step::Done(_)), "{name}");
        }
    };
    round(0);
    let before = blocks();
    round(6);
    assert_eq!(blocks() - before, 0, "{name}: training steps allocate");
}

/// A run of an answer.
fn check_answer(name: &str, project: &Project, session: &Session<'_>) {
    let graph = stage::graph(project, None, Which::Answer, Some(2)).unwrap();
    let mut program = session.compiler().compile(&graph).unwrap();
    let mut store = Store::default();
    session.store().tensors().for_each(|(path, tensor)| store.insert(path, &tensor));
    program.run(&mut store).unwrap();
    let before = blocks();
    (0..5).for_each(|_| program.run(&mut store).unwrap());
    assert_eq!(blocks() - before, 0, "{name}: an answer allocates");
}

#[test]
fn nothing_is_allocated_after_the_first_step() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for (path, rows, set) in [
        ("benches/models/seed_cnn.nn", 16, &[][..]),
        ("benches/models/char_lstm.nn", 2, &[]),
        ("benches/models/nanogpt.nn", 2, &[]),
        ("dsl-examples/wgan_gp.nn", 4, &[("width", "2"), ("latent", "3"), ("critic_steps", "2")]),
    ] {
        let project = project(path, set);
        let recipe = project.recipe(None).unwrap().name.clone();
        let mut session = Session::new(&project, &recipe, compiler(), 0).unwrap();
        check_steps(path, &mut session, rows);
        // What the other draws is told by a seed alone.
        if path.starts_with("benches") {
            check_answer(path, &project, &session);
        }
    }
    check_evaluation();
    check_run();
}

/// The allocations of an evaluation do not grow with its batches.
fn check_evaluation() {
    let project = project("dsl-examples/digits.nn", &[]);
    let recipe = project.recipe(None).unwrap();
    let mut session = Session::new(&project, &recipe.name, compiler(), 0).unwrap();
    let dataset = Dataset::open(session.data(), project.folder(), 0, Wanted::All, &Learned::default()).unwrap();
    let batches = |count: usize| {
        let mut part = dataset.train.clone();
        part.rows.truncate(count * Project::batch(recipe));
        assert_eq!(part.rows.len(), count * Project::batch(recipe));
        part
    };
    let (few, many) = (batches(2), batches(20));
    let mut count = |part| {
        let before = blocks();
        session.evaluate(part).unwrap();
        blocks() - before
    };
    count(&few);
    count(&many);
    let (of_few, of_many) = (count(&few), count(&many));
    // Whether a thread has to wait, and makes a place to wait at, is a matter of time.
    assert!(of_many < of_few + 8, "{of_few} allocations for 2 batches, {of_many} for 20");
}

/// Counts the steps of a run that allocate.
#[derive(Default)]
struct Steps {
    before: u64,
    /// Steps that are not looked at: the first ones of an epoch, the last one, and those that complete or begin a point
    /// of the run's course.
    skipped: usize,
    looked_at: usize,
    allocating: usize,
}

impl Observer for Steps {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Step { step, steps, .. } = event {
            if self.skipped == 0 && *step > 3 && step < steps {
                self.looked_at += 1;
                self.allocating += usize::from(blocks() > self.before);
            }
            self.skipped = self.skipped.saturating_sub(1);
        }
        if let Event::Traced { .. } = event {
            self.skipped = 2;
        }
        self.before = blocks();
    }
}

/// In the steps of a run nothing is allocated, unless a thread has to wait and makes a place to wait at.
fn check_run() {
    let project = project("dsl-examples/digits.nn", &[]);
    let recipe = project.recipe(None).unwrap();
    let mut session = Session::new(&project, &recipe.name, compiler(), 0).unwrap();
    let dataset = Dataset::open(session.data(), project.folder(), 0, Wanted::All, &Learned::default()).unwrap();
    let options = TrainOptions { out: None, resume: false, checkpoint_every: None };
    let mut steps = Steps::default();
    train(&mut session, &dataset, &options, &mut steps, &AtomicBool::new(false)).unwrap();
    assert!(steps.looked_at > 100, "{}", steps.looked_at);
    assert!(steps.allocating * 10 < steps.looked_at, "{} of {} steps allocate", steps.allocating, steps.looked_at);
}
