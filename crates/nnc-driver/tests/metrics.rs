//! Metrics that accumulate, in a run: each epoch tells of all its examples, also where the run was stopped within it.

mod common;

use common::{compiler, train_into};
use nnc_driver::{Dataset, Learned, Project, Session, Wanted};
use nnc_lang::elaborate::Options;
use std::fs;
use std::path::Path;

/// Nothing is learnt, so that what is told of the epochs is told of the same network.
const STILL: &str = "
fn make() -> (f32[3], f32) = (normal([3]), uniform([]))
data points {
    train: (f32[3], f32) = synthetic(make, count=10)
    validation: (f32[3], f32) = synthetic(make, count=6)
    x: f32[3] = train.0
    y: f32 = train.1
}
train still on points {
    epochs = 2; batch = 4
    layer line = dense(units=1)
    error = line(x)[:, 0] - y
    minimize mean(error ** 2) using sgd(lr=0.0)
    metric root = root_mean_squared_error(line(x)[:, 0], y)
    answer value = line(x)
}";

/// The rows of `metrics.csv`, each column by its name.
fn rows(out: &Path) -> Vec<Vec<(String, f64)>> {
    let text = fs::read_to_string(out.join("metrics.csv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| {
        names.iter().map(|name| (*name).to_owned()).zip(line.split(',').map(|cell| cell.parse().unwrap())).collect()
    };
    lines.map(row).collect()
}

#[test]
fn an_epoch_tells_of_all_its_examples() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("still.nn");
    fs::write(&file, STILL).unwrap();
    let project = Project::load(&file, &Options::default()).unwrap();
    let run = |out: &Path, stops: &[usize]| {
        for (at, steps) in stops.iter().map(|&steps| Some(steps)).chain([None]).enumerate() {
            let mut session = Session::new(&project, "still", compiler(), 1).unwrap();
            let dataset = Dataset::open(session.data(), folder.path(), 1, Wanted::All, &Learned::default()).unwrap();
            train_into(&mut session, &dataset, (out, at > 0), steps).unwrap();
        }
        rows(out)
    };
    let whole = run(&folder.path().join("whole"), &[]);
    assert_eq!(whole.len(), 2);
    for row in &whole {
        for split in ["train", "validation"] {
            let value = |name: &str| row.iter().find(|(found, _)| *found == format!("{split}.{name}")).unwrap().1;
            let (root, loss) = (value("root"), value("loss"));
            assert!((root * root - loss).abs() < 1e-5 * loss, "{split}: {root} of {loss}");
        }
    }
    // Stopped within the first epoch, and within the second.
    assert_eq!(run(&folder.path().join("stopped"), &[2, 2]), whole);
}

/// What an evaluation keeps of weights that it has packed goes with them, also where the evaluation itself writes the
/// state of a metric into the same store.
#[test]
fn an_evaluation_after_a_training_step_sees_the_new_weights() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moves.nn");
    let deep = "model Deep(x: f32[N, 3]) -> f32[N, 1] = x |> dense(64) |> dense(1)";
    let text = format!("{deep}\n{}", STILL.replace("dense(units=1)", "Deep()").replace("lr=0.0", "lr=0.01"));
    fs::write(&file, text).unwrap();
    let project = Project::load(&file, &Options::default()).unwrap();
    let mut session = Session::new(&project, "still", compiler(), 1).unwrap();
    let dataset = Dataset::open(session.data(), folder.path(), 1, Wanted::All, &Learned::default()).unwrap();
    let part = dataset.shown().clone();
    let mut told = vec![session.evaluate(&part).unwrap()];
    for (at, steps) in [1, 1, 2].into_iter().enumerate() {
        train_into(&mut session, &dataset, (&folder.path().join("out"), at > 0), Some(steps)).unwrap();
        let now = session.evaluate(&part).unwrap();
        assert_eq!(session.evaluate(&part).unwrap(), now);
        let mut fresh = Session::new(&project, "still", compiler(), 1).unwrap();
        fresh.load_weights(&session.store().tensors().map(|(path, tensor)| (path.to_owned(), tensor)).collect());
        assert_eq!(fresh.evaluate(&part).unwrap(), now, "after {at}");
        assert!(!told.contains(&now));
        told.push(now);
    }
}
