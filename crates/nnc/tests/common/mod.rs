//! The built program in a fresh folder, on the data that ships with it.
#![allow(dead_code, reason = "no suite needs all of it")]

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dsl-examples");

/// A command of `nnc`, not started yet.
pub fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nnc"));
    command.current_dir(folder).args(words);
    command
}

pub fn nnc(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().expect("nnc starts")
}

/// Runs a command that must succeed; gives what it printed.
pub fn ok(folder: &Path, words: &[&str]) -> String {
    let output = nnc(folder, words);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "nnc {}\n{out}\n{err}", words.join(" "));
    out.into_owned()
}

/// Runs a command that must fail without a panic; gives its complaint.
pub fn fails(folder: &Path, words: &[&str]) -> String {
    let output = nnc(folder, words);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    assert!(code == Some(1) || code == Some(2), "nnc {} ended with {code:?}\n{err}", words.join(" "));
    assert!(!err.contains("panicked") && !err.contains("bug in"), "{err}");
    err
}

/// A folder with the digits example and its data.
pub fn digits() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("data")).unwrap();
    for name in ["digits.nn", "data/digits.csv.gz"] {
        fs::copy(Path::new(EXAMPLES).join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

/// The accuracy of the digits example on its test split.
pub fn accuracy(folder: &Path, weights: &str, engine: &str) -> f64 {
    let text = ok(folder, &["eval", "digits.nn", "--weights", weights, "--engine", engine, "--json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    told["test"]["accuracy"].as_f64().unwrap()
}

/// A network for a table with labels, whose `SOURCE` is to be put in.
pub const LABELLED: &str = "
model Few(x: f32[N, 4]) -> f32[N, 3] { return dense(x, 3) }
data table {
    train: (f32[4], u8) = SOURCE
    validation = 0.2
    x: f32[4] = train.0
    label: i32 = i32(train.1)
}
train Few on table {
    epochs = 2; batch = 5
    logits = Few(x)
    minimize cross_entropy(logits, label) using sgd(lr=0.1)
    metric accuracy = accuracy(logits, label)
}
";

/// A tensor of a file of weights.
#[derive(Clone)]
pub struct Stored {
    pub dtype: Dtype,
    pub dims: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Stored {
    pub fn floats(dims: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, dims: dims.to_vec(), bytes }
    }

    pub fn whole(dims: &[usize], values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::I64, dims: dims.to_vec(), bytes }
    }
}

/// The dims of the mask of a parameter in a file of weights, and a byte for each element.
pub fn mask(file: &Path, parameter: &str) -> (Vec<usize>, Vec<u8>) {
    let bytes = fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let part = |end: &str| file.tensor(&format!("$prune.{parameter}.{end}")).unwrap().data().to_vec();
    let size = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().unwrap()) as usize;
    let dims: Vec<usize> = part("dims").chunks_exact(8).map(size).collect();
    let bits = part("bits");
    let kept = (0..dims.iter().product()).map(|at: usize| bits[at / 8] >> (at % 8) & 1).collect();
    (dims, kept)
}

/// Writes the tensors of a file of weights, with what is kept beside them, after `change`.
pub fn altered(folder: &Path, from: &str, to: &str, change: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    let bytes = fs::read(folder.join(from)).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: &TensorView<'_>| Stored {
        dtype: view.dtype(),
        dims: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    let mut tensors: BTreeMap<String, Stored> =
        file.tensors().iter().map(|(name, view)| (name.clone(), tensor(view))).collect();
    change(&mut tensors);
    write(&folder.join(to), &tensors, header.metadata().clone());
}

/// Writes a file of weights.
pub fn write(path: &Path, tensors: &BTreeMap<String, Stored>, metadata: Option<HashMap<String, String>>) {
    let views = tensors.iter().map(|(name, tensor)| {
        let Stored { dtype, dims, bytes } = tensor;
        (name.clone(), TensorView::new(*dtype, dims.clone(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, metadata).unwrap()).unwrap();
}
