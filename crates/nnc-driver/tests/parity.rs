//! The loss of every training step against PyTorch's, from the same weights and batches: see `tests/parity/README.md`.
//!
//! The saved losses of PyTorch in f32 and f64 are 3e-7 apart (relative), so what is asserted in f32 is far above
//! rounding, and the f64 test is the sharp one: it has nothing to hide a wrong constant or a missing term in.

use nnc_data::Batches;
use nnc_driver::session::{Moment, Step};
use nnc_driver::{Compiler, Dataset, Engine, Learned, Project, Session, Wanted, checkpoint};
use nnc_graph::{DType, Tensor};
use nnc_lang::elaborate::Options;
use nnc_opt::{fuse::FuseOptions, pipeline};
use nnc_runtime::Pool;
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the project promises for f32.
const F32_TOLERANCE: f64 = 1e-4;
/// Thousands of times what rounding in f64 does to these losses.
const F64_TOLERANCE: f64 = 1e-12;

/// A network with its saved run.
struct Twin {
    /// The `.nn` file.
    file: PathBuf,
    /// Where its data paths start.
    data: PathBuf,
    /// PyTorch's initial weights.
    weights: PathBuf,
    batch: usize,
    /// For how many steps PyTorch follows itself in f32 from weights that differ in their last bit.
    well_conditioned: usize,
    /// PyTorch's loss by step, in f32 and in f64.
    f32: Vec<f64>,
    f64: Vec<f64>,
}

/// How nnc runs it.
struct Way {
    engine: Engine,
    fuse: FuseOptions,
    threads: usize,
    float: DType,
}

fn native() -> Way {
    Way { engine: Engine::host(), fuse: FuseOptions::ALL, threads: 2, float: DType::F32 }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity")
}

impl Twin {
    fn new(file: PathBuf, data: PathBuf, saved: &Path, name: &str) -> Self {
        let text = std::fs::read_to_string(saved.join(format!("{name}_losses.json"))).unwrap();
        let run: Value = serde_json::from_str(&text).unwrap();
        let losses =
            |key: &str| run[key].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect::<Vec<_>>();
        let weights = saved.join(format!("{name}_init.safetensors"));
        let number = |key: &str| usize::try_from(run[key].as_u64().unwrap()).unwrap();
        let (batch, well_conditioned) = (number("batch"), number("well_conditioned_steps"));
        Self { file, data, weights, batch, well_conditioned, f32: losses("f32"), f64: losses("f64") }
    }

    /// A run whose numbers are kept beside its `.nn` file.
    fn kept(name: &str) -> Self {
        Self::new(folder().join(format!("{name}_parity.nn")), folder(), &folder(), name)
    }

    fn digits() -> Self {
        Self::kept("digits")
    }

    /// The losses of the first `steps` steps through nnc.
    fn losses(&self, way: &Way, steps: usize) -> Vec<f64> {
        let project = Project::load(&self.file, &Options { float: way.float, ..Options::default() }).unwrap();
        let recipe = project.recipe(None).unwrap().name.clone();
        let pool = Pool::new(NonZeroUsize::new(way.threads).unwrap()).unwrap();
        let passes = pipeline::Options { fuse: way.fuse, ..pipeline::Options::default() };
        let compiler = Compiler { engine: way.engine, pool: Arc::new(pool), passes, tuning: None };
        let mut session = Session::new(&project, &recipe, compiler, 0).unwrap();
        let mismatches = session.load_weights(&self.initial_weights(way.float));
        assert_eq!(mismatches.len(), 0, "{mismatches:?}");
        let dataset = Dataset::open(session.data(), &self.data, 0, Wanted::All, &Learned::default()).unwrap();
        let order = self.order(dataset.train.rows.len(), steps);
        let mut batches = Batches::new(dataset.train.table, order, self.batch, 0).unwrap();
        let mut losses = Vec::new();
        while let Some(batch) = batches.next_batch().unwrap() {
            let moment = Moment { iteration: losses.len() as i64, iterations: steps as i64, epoch: 0 };
            match session.step(batch, moment).unwrap() {
                Step::Done(metrics) => losses.push(metrics[0].1),
                Step::Withheld { loss, .. } => panic!("step {} was withheld: its loss is {loss}", losses.len()),
            }
        }
        losses
    }

    fn initial_weights(&self, float: DType) -> BTreeMap<String, Tensor> {
        let tensors = checkpoint::load(&self.weights).unwrap().tensors;
        let converted = |tensor: Tensor| Tensor::from_f64(float, tensor.dims(), &tensor.to_f64());
        tensors.into_iter().map(|(path, tensor)| (path, converted(tensor))).collect()
    }

    /// Whole batches of the rows in their order, from the start again after the last whole one.
    fn order(&self, rows: usize, steps: usize) -> Vec<u64> {
        let whole = (rows / self.batch * self.batch) as u64;
        (0..whole).cycle().take(steps * self.batch).collect()
    }
}

/// Asserts that each loss is PyTorch's within `tolerance`, relative; gives the largest relative difference.
fn assert_follows(found: &[f64], wanted: &[f64], tolerance: f64) -> f64 {
    let apart = |(found, wanted): (&f64, &f64)| (found - wanted).abs() / wanted.abs();
    for (step, pair) in found.iter().zip(wanted).enumerate() {
        let relative = apart(pair);
        assert!(relative <= tolerance, "step {step}: {} is {relative:.1e} from PyTorch's {}", pair.0, pair.1);
    }
    found.iter().zip(wanted).map(apart).fold(0.0, f64::max)
}

#[test]
fn native_code_follows_pytorch_for_100_steps() {
    let twin = Twin::digits();
    assert_eq!((twin.well_conditioned, twin.f32.len()), (100, 100));
    let losses = twin.losses(&native(), 100);
    let largest = assert_follows(&losses, &twin.f32, F32_TOLERANCE);
    println!("largest relative difference {largest:.1e}");
    assert_eq!(losses, twin.losses(&Way { threads: 1, ..native() }, 100), "one thread gives other bits than two");
}

#[test]
fn unfused_code_follows_pytorch_for_100_steps() {
    let twin = Twin::digits();
    let losses = twin.losses(&Way { fuse: FuseOptions::NONE, ..native() }, 100);
    assert_follows(&losses, &twin.f32, F32_TOLERANCE);
}

#[test]
fn in_f64_native_code_follows_pytorch_to_twelve_digits() {
    let twin = Twin::digits();
    let losses = twin.losses(&Way { float: DType::F64, ..native() }, 100);
    let largest = assert_follows(&losses, &twin.f64, F64_TOLERANCE);
    println!("largest relative difference {largest:.1e}");
}

/// An embedding, an LSTM that reads from both ends, a GRU and a block of a transformer; `adamw` with a decay, a
/// schedule and a limit for the norm of the gradients.
#[test]
fn sequences_follow_pytorch_for_100_steps() {
    let twin = Twin::kept("sequences");
    assert_eq!((twin.well_conditioned, twin.f32.len()), (100, 100));
    let single = assert_follows(&twin.losses(&native(), 100), &twin.f32, F32_TOLERANCE);
    let double = twin.losses(&Way { float: DType::F64, ..native() }, 100);
    let double = assert_follows(&double, &twin.f64, F64_TOLERANCE);
    println!("largest relative difference in f32 {single:.1e}, in f64 {double:.1e}");
}

/// The reference interpreter is slow, so it takes a few steps only.
#[test]
fn the_interpreter_follows_pytorch() {
    let twin = Twin::digits();
    let way = Way { engine: Engine::Interpreter, ..native() };
    let losses = twin.losses(&way, 3);
    assert_follows(&losses, &twin.f32, F32_TOLERANCE);
}

/// Needs the numbers that `tests/parity/mnist.py` writes, and the data.
#[test]
#[ignore = "needs MNIST and saved runs: see tests/parity/README.md"]
fn the_mnist_examples_follow_pytorch_for_100_steps() {
    let path = |variable: &str| {
        let value = std::env::var_os(variable).unwrap_or_else(|| panic!("set {variable}: see tests/parity/README.md"));
        // Tests run in the folder of their crate; what a user writes is relative to the workspace.
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(value)
    };
    for name in ["mnist_cnn", "mnist_mlp"] {
        let file = folder().join(format!("{name}_parity.nn"));
        let twin = Twin::new(file, path("NNC_MNIST"), &path("NNC_PARITY"), name);
        let double = twin.losses(&Way { float: DType::F64, ..native() }, twin.f64.len());
        let largest = assert_follows(&double, &twin.f64, F64_TOLERANCE);
        println!("{name}: f64: {} steps, largest relative difference {largest:.1e}", double.len());
        let steps = twin.well_conditioned;
        let largest = assert_follows(&twin.losses(&native(), steps), &twin.f32, F32_TOLERANCE);
        println!("{name}: f32: {steps} steps, largest relative difference {largest:.1e}");
    }
}
