//! What a training step of a recipe chooses to prune, on the interpreter: of equal scores the first, and nothing where
//! a score is no number.

use nnc_graph::{DType, OutputKind, Tensor, interpret, verify};
use nnc_lang::elaborate::{Loader, Options, Unit, check};
use nnc_opt::grad;
use nnc_opt::prune::{UNJUDGED, with_choice};
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

struct NoFiles;

impl Loader for NoFiles {
    fn load(&self, path: &str) -> Result<String, String> {
        Err(format!("{path} is not there"))
    }
}

/// A recipe that prunes `share` of two matrices, of 8 by 4 and 4 by 4 weights, by a score.
fn recipe(share: &str, score: &str) -> Unit {
    let text = format!(
        "fn judge(p: real[...S], g: real[...S], score: real[...S]) -> real[...S] = {score}
        model Net(x: f32[N, 8]) -> f32[N, 4] = x |> dense(4) |> dense(4)
        data rows {{
            train: f32[8] = csv(\"a.csv\")
            x: f32[8] = train
        }}
        train Net on rows {{
            epochs = 1; batch = 2
            minimize mean(Net(x) ** 2) using sgd(lr=0.1)
            prune({share}, by=judge, every=1)
        }}"
    );
    let checked = check("net.nn", &text, &NoFiles, &Options::default());
    checked.unit.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
}

/// What the recipe starts with, with two examples.
fn given(unit: &Unit) -> Tensors {
    let seed = BTreeMap::from([("$seed".to_owned(), Tensor::scalar_i64(1))]);
    let run = interpret::run(&unit.init("Net").unwrap(), &seed).unwrap();
    let mut given: Tensors = run.outputs().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    let rows: Vec<f64> = (0..16).map(|at| f64::from(at % 5) - 2.0).collect();
    given.insert("x".to_owned(), Tensor::from_f64(DType::F32, &[2, 8], &rows));
    for (name, number) in [("$seed", 0), ("$iteration", 0), ("$epoch", 0), ("$iterations", 2)] {
        given.insert(name.to_owned(), Tensor::scalar_i64(number));
    }
    given
}

/// Does a step; gives how many scores were no numbers.
fn step(unit: &Unit, given: &mut Tensors) -> f64 {
    let graph = with_choice(&unit.train_step("Net", 2).unwrap(), &|_| None);
    verify::verify(&graph).unwrap();
    let graph = grad::expand(&graph);
    let run = interpret::run(&graph, given).unwrap();
    let changed = graph.outputs().iter().filter(|output| output.kind != OutputKind::Result);
    let changed: Tensors = changed.map(|out| (out.name.clone(), run.output(&out.name).unwrap().clone())).collect();
    let odd = run.output(UNJUDGED).unwrap().to_f64()[0];
    given.extend(changed);
    odd
}

/// The masks of both matrices, one behind the other.
fn masks(given: &Tensors) -> Vec<f64> {
    ["dense_1.w", "dense_2.w"].iter().flat_map(|path| given[&format!("$prune.{path}.mask")].to_f64()).collect()
}

#[test]
fn of_equal_scores_the_first_go_and_what_went_goes_on() {
    let unit = recipe("0.25 + 0.25 * f32(iteration)", "0 * p * g * score");
    let mut given = given(&unit);
    for (iteration, gone) in [(0, 12), (1, 24)] {
        given.insert("$iteration".to_owned(), Tensor::scalar_i64(iteration));
        assert_eq!(step(&unit, &mut given), 0.0);
        let wanted: Vec<f64> = (0..48).map(|at| f64::from(u8::from(at >= gone))).collect();
        assert_eq!(masks(&given), wanted, "iteration {iteration}");
        let weights = given["dense_1.w"].to_f64();
        assert!(weights[..gone.min(32)].iter().all(|&weight| weight == 0.0), "{weights:?}");
    }
}

/// What went before is the least, wherever it stands: of the others, all equal now, only what is missing goes.
#[test]
fn what_went_before_counts_among_equal_scores() {
    let unit = recipe("0.5", "0 * p * g * score");
    let mut given = given(&unit);
    let before: Vec<f64> = (0..16).map(|at| f64::from(u8::from(at < 4))).collect();
    given.insert("$prune.dense_2.w.mask".to_owned(), Tensor::from_f64(DType::Bool, &[4, 4], &before));
    step(&unit, &mut given);
    let masks = masks(&given);
    assert_eq!(masks.iter().filter(|&&kept| kept == 0.0).count(), 24);
    assert_eq!(masks[32..], before[..], "these are the twelve that went before");
    assert!(masks[..12].iter().all(|&kept| kept == 0.0) && masks[12..32].iter().all(|&kept| kept == 1.0));
}

#[test]
fn scores_that_differ_decide_alone() {
    let unit = recipe("0.5", "abs(p) + 0 * g + 0 * score");
    let mut given = given(&unit);
    let weights: Vec<f64> = (0..32).map(|at| f64::from(at * 7 % 32 + 1)).collect();
    given.insert("dense_1.w".to_owned(), Tensor::from_f64(DType::F32, &[8, 4], &weights));
    given.insert("dense_2.w".to_owned(), Tensor::from_f64(DType::F32, &[4, 4], &[100.0; 16]));
    step(&unit, &mut given);
    let wanted = weights.iter().map(|&weight| f64::from(u8::from(weight > 24.0))).chain([1.0; 16]);
    assert_eq!(masks(&given), wanted.collect::<Vec<_>>());
}

#[test]
fn a_score_that_is_no_number_changes_nothing_and_is_counted() {
    let unit = recipe("0.5", "1 / p + 0 * g + 0 * score");
    let mut given = given(&unit);
    let weights: Vec<f64> = (0..16).map(|at| f64::from(at.max(2) - 2)).collect();
    given.insert("dense_2.w".to_owned(), Tensor::from_f64(DType::F32, &[4, 4], &weights));
    let before = given.clone();
    assert_eq!(step(&unit, &mut given), 3.0, "1 / 0 is infinite");
    assert_eq!(given, before);
    // What is gone needs no score.
    let kept: Vec<f64> = (0..16).map(|at| f64::from(u8::from(at > 2))).collect();
    given.insert("$prune.dense_2.w.mask".to_owned(), Tensor::from_f64(DType::Bool, &[4, 4], &kept));
    assert_eq!(step(&unit, &mut given), 0.0);
    assert_eq!(masks(&given).iter().filter(|&&kept| kept == 0.0).count(), 24);
}
