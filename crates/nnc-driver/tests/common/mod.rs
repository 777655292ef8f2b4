//! What the tests of texts share: a compiler, and training that stops after some steps.

use nnc_driver::train::{Event, Observer, Outcome, TrainOptions, train};
use nnc_driver::{Compiler, Dataset, DriverError, Engine, Session};
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// For this machine, on two threads.
pub fn compiler() -> Compiler {
    let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
    Compiler { engine: Engine::host(), pool: Arc::new(pool), passes: pipeline::Options::default(), tuning: None }
}

/// Ends a run after so many steps, if that is said.
struct Stop<'a> {
    left: Option<usize>,
    interrupt: &'a AtomicBool,
}

impl Observer for Stop<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let (Event::Step { .. }, Some(left)) = (event, &mut self.left) {
            *left -= 1;
            self.interrupt.store(*left == 0, Ordering::Relaxed);
        }
    }
}

/// Trains into the folder `out`, for `steps` steps or to the end.
pub fn train_into(
    session: &mut Session<'_>,
    dataset: &Dataset,
    (out, resume): (&Path, bool),
    steps: Option<usize>,
) -> Result<Outcome, DriverError> {
    let options = TrainOptions { out: Some(out.to_owned()), resume, checkpoint_every: None };
    let interrupt = AtomicBool::new(false);
    train(session, dataset, &options, &mut Stop { left: steps, interrupt: &interrupt }, &interrupt)
}
