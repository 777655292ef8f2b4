//! PyTorch's files of weights, by the names that models give: layers of the library, and the networks of `dsl-examples`
//! against torchvision's. See `tests/parity/names.py`, which also made the answers.

use nnc_data::Column;
use nnc_driver::answer::AnswerGraphs;
use nnc_driver::checkpoint::Checkpoint;
use nnc_driver::deploy::Deployment;
use nnc_driver::{Compiler, Engine, Project};
use nnc_graph::{DType, Tensor};
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the project promises, relative to the largest number of an answer.
const TOLERANCE: f64 = 1e-4;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Numbers from -1 up to 1 that depend on the name: FNV-1a of it, and SplitMix64 from there.
fn numbers(name: &str, count: usize) -> Vec<f64> {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed: u64 = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn dims(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap() as usize).collect()
}

/// A tensor of a state_dict.
fn tensor(plan: &Value) -> (String, Tensor) {
    let (name, dims) = (plan["name"].as_str().unwrap(), dims(&plan["dims"]));
    let dtype = DType::from_name(plan["dtype"].as_str().unwrap()).unwrap();
    let (shift, scale) = (plan["shift"].as_f64().unwrap(), plan["scale"].as_f64().unwrap());
    let count = dims.iter().product();
    let values: Vec<f64> = match dtype {
        DType::F32 => numbers(name, count).iter().map(|number| shift + scale * number).collect(),
        _ => vec![0.0; count],
    };
    (name.to_owned(), Tensor::from_f64(dtype, &dims, &values))
}

fn compiler() -> Compiler {
    let pool = Arc::new(Pool::with_limit(NonZeroUsize::new(2)).unwrap());
    Compiler { engine: Engine::host(), pool, passes: pipeline::Options::default(), tuning: None }
}

/// What the case's model answers.
fn answer(case: &Value, folder: &Path, compiler: &Compiler) -> Vec<f64> {
    let name = case["name"].as_str().unwrap();
    let file = folder.join(format!("{}.nn", name.replace(' ', "_")));
    let examples = root().join("dsl-examples");
    fs::write(&file, case["source"].as_str().unwrap().replace('@', examples.to_str().unwrap())).unwrap();
    let project = Project::load(&file, &Options::default()).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let dims = dims(&case["dims"]);
    let graphs = AnswerGraphs::new(&project, None, None, dims[0]).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let tensors: BTreeMap<String, Tensor> = case["tensors"].as_array().unwrap().iter().map(tensor).collect();
    let mut checkpoint = Checkpoint { tensors, metadata: None };
    let store = graphs.store(&mut checkpoint, Path::new(name), compiler.threads());
    let mut store = store.unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut program = compiler.compile(&graphs.graph).unwrap();
    let values = numbers("x", dims.iter().product());
    let input = match case["size"].as_f64().unwrap() {
        0.0 => Tensor::from_f64(DType::F32, &dims, &values),
        size => {
            let whole: Vec<f64> = values.iter().map(|value| ((value + 1.0) / 2.0 * size).floor()).collect();
            Tensor::from_f64(DType::I32, &dims, &whole)
        }
    };
    program.input_mut("x").unwrap().copy_from_slice(input.bytes());
    program.run(&mut store).unwrap();
    // Of several results the first is PyTorch's answer.
    let output = program.outputs().map(|(name, _)| name.to_owned()).min().unwrap();
    let found = program.output_tensor(&output).unwrap();
    let deployment =
        Deployment::new(&graphs.subject(&Checkpoint::default()), store, compiler, &[compiler.engine]).unwrap();
    let mut engine = deployment.engine(compiler).unwrap();
    let port = engine.manifest().inputs[0].clone();
    let rows = if port.batched { dims[0] } else { 1 };
    let column = Column::new(port.row, rows, input.bytes().to_vec());
    // The first call packs the weights and lets go of them, the second has what was packed alone.
    for call in 1..=2 {
        let answers = engine.run(std::slice::from_ref(&column)).unwrap();
        let same = answers.iter().find(|answer| answer.port.name == output).unwrap();
        assert!(same.bytes == found.bytes(), "{name}: call {call} of the deployed program gives other bits");
    }
    // The same without copies, where the engine has its tensors; what is there is computed again by each call.
    engine.input_mut(0).unwrap()[..column.bytes.len()].copy_from_slice(&column.bytes);
    let at = engine.manifest().answers.iter().position(|port| port.name == output).unwrap();
    for _ in 0..2 {
        engine.step().unwrap();
        let same = &engine.answer(at).unwrap()[..found.bytes().len()];
        assert!(same == found.bytes(), "{name}: the answer in place has other bits");
    }
    assert!(engine.input_mut(1).is_none() && engine.answer(engine.manifest().answers.len()).is_none());
    found.to_f64()
}

#[test]
fn answers_are_those_of_pytorch() {
    let text = fs::read_to_string(root().join("tests/parity/names.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 26, "{} cases", cases.len());
    let (folder, compiler) = (tempfile::tempdir().unwrap(), compiler());
    for case in &cases {
        let wanted: Vec<f64> = case["answer"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        let found = answer(case, folder.path(), &compiler);
        assert_eq!(found.len(), wanted.len(), "{}", case["name"]);
        let largest = wanted.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let off = found.iter().zip(&wanted).fold(0.0f64, |most, (a, b)| most.max((a - b).abs())) / largest;
        assert!(off < TOLERANCE, "{}: differs by {off:.1e} of the largest", case["name"]);
    }
}
