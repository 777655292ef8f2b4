//! What is told of the work on a network, while it is done.

use super::*;
use crate::compiled::Engine;
use crate::dataset::Wanted;
use crate::learned::Learned;
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;

const NETWORK: &str = "
fn drawn() -> (f32[64], i32) {
    return normal([64]), i32(floor(10 * uniform([])))
}

model Net(x: f32[N, 64]) -> f32[N, 10] {
    return x |> dense(96) |> relu |> dense(96) |> relu |> dense(10)
}

data made {
    train: (f32[64], i32) = synthetic(drawn, count=40)
    test: (f32[64], i32) = synthetic(drawn, count=20)
    x: f32[64] = train.0
    label: i32 = train.1
}

train Net on made {
    epochs = 1
    batch = 10
    logits = Net(x)
    minimize cross_entropy(logits, label) using sgd(lr=0.1)
}
";

#[test]
fn each_matrix_is_told_while_it_is_timed_rounded_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.nn");
    fs::write(&path, NETWORK).unwrap();
    let project = Project::load(&path, &Options::default()).unwrap_or_else(|e| panic!("{e:?}"));
    let recipe = project.recipe(None).unwrap();
    let pool = Arc::new(Pool::new(NonZeroUsize::MIN).unwrap());
    let compiler = Compiler { engine: Engine::host(), pool, passes: pipeline::Options::default(), tuning: None };
    let session = Session::without_files(&project, "Net", compiler.clone(), 1).unwrap();
    let dataset = Dataset::open(session.data(), folder.path(), 0, Wanted::All, &Learned::default()).unwrap();
    let heard = |measure: bool, max_drop: f64| {
        let request = Request { form: Stored::Nibbles { group: 8 }, is_exact: true, measure, examples: 40 };
        let mut heard = Vec::new();
        let how = (request, "loss", max_drop);
        narrow((&project, recipe), &compiler, session.store(), &dataset, how, &mut |what| heard.push(what.to_owned()))
            .unwrap();
        heard
    };
    let most = heard(false, 1e9);
    assert_eq!(
        most,
        [
            "rounding to the nearest numbers",
            "measuring the floats",
            "looking at activations",
            "rounding matrix 1 of 2 by examples",
            "rounding matrix 2 of 2 by examples",
            "measuring both roundings",
            "measuring what is stored",
        ]
    );
    let timed = heard(true, 1e9);
    assert_eq!(timed[1..3], ["timing matrix 1 of 2", "timing matrix 2 of 2"]);
    let least = heard(false, -1e9);
    assert!(least.ends_with(&["1", "2", "3"].map(|at| format!("looking for what costs most, {at} of 3"))), "{least:?}");
}
