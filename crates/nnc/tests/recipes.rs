//! Recipes as a user meets them: what is told of shapes that do not fit.

mod common;

use common::{command, fails, ok};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A file in a folder of its own, after changes.
fn written(text: &str, changes: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    fs::write(folder.path().join("net.nn"), text).unwrap();
    folder
}

const SHAPES: &str = "
fn make() -> (f32[6], f32) = (uniform([6]), 1.0)
data points {
    train: (f32[6], f32) = synthetic(make, count=64)
    validation: (f32[6], f32) = synthetic(make, count=3)
    x: f32[6] = train.0
    y: f32 = train.1
}
model Line(x: f32[N, D]) -> f32[N] = dense(x, 1)[:, 0]
train Line on points {
    epochs = 1; batch = 16
    minimize mse(Line(x), y) using adam
    answer each = Line(x)
    answer all = mean(Line(x))
}";

/// What trains can be run: an answer that would need other weights is refused before.
#[test]
fn an_answer_of_another_shape_is_refused_before_training() {
    let folder = written(SHAPES, &[("answer all = mean(Line(x))", "answer all = Line(x[:, 0..3])")]);
    let said = fails(folder.path(), &["train", "net.nn", "--out", "run"]);
    assert!(said.contains("E0404") && said.contains("is f32[6, 1] in training"), "{said}");
    assert!(said.contains("training uses it here") && !folder.path().join("run").exists(), "{said}");
}

/// A layer of the recipe that an answer with parameters uses alone is in the file of weights.
#[test]
fn what_an_answer_alone_uses_is_in_the_weights() {
    let own = "layer other = dense(units=2)\n    answer all(z: f32[N, 6]) = other(z)";
    let folder = written(SHAPES, &[("answer all = mean(Line(x))", own)]);
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    fs::write(folder.path().join("z.csv"), "1,2,3,4,5,6\n").unwrap();
    let line = ["run", "net.nn", "--weights", "run/last.safetensors", "--answer", "all", "--input", "z=z.csv"];
    ok(folder.path(), &line);
}

#[test]
fn a_picture_of_too_few_examples_says_how_many_there_are() {
    let folder = written(SHAPES, &[("answer each", "picture look = x[..4]\n    answer each")]);
    let said = fails(folder.path(), &["train", "net.nn", "--out", "run"]);
    assert!(said.contains("does not lie within 0..3") && said.contains("`N` is 3 here"), "{said}");
}

#[test]
fn an_answer_about_all_rows_says_how_to_have_more() {
    let folder = written(SHAPES, &[]);
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    fs::write(folder.path().join("x.csv"), "1,2,3,4,5,6\n6,5,4,3,2,1\n").unwrap();
    let line = ["run", "net.nn", "--weights", "run/last.safetensors", "--answer", "all", "--input", "x=x.csv"];
    let said = fails(folder.path(), &line);
    assert!(said.contains("`--bind N=2`"), "{said}");
    ok(folder.path(), &[&line[..], &["--bind", "N=2"]].concat());
}

/// Tensors that differ in their dtype alone are one warning.
#[test]
fn weights_of_another_dtype_are_one_warning() {
    let folder = written(SHAPES, &[]);
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    let path: &Path = folder.path();
    let line = ["train", "net.nn", "--dtype", "f64", "--init", "run/last.safetensors", "--out", "again"];
    let output = command(path, &line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.matches("not taken from").count() == 1, "{said}");
    assert!(said.contains("2 tensors, which are f32 in the file and f64 in the model"), "{said}");
}

/// What a training says of its network is what `show` says: running statistics are no parameters.
#[test]
fn a_training_counts_parameters_alone() {
    let folder = written(SHAPES, &[("= dense(x, 1)[:, 0]", "= dense(batch_norm(x), 1)[:, 0]")]);
    let said = ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    assert!(said.contains("Line: 19 parameters, 64 training examples"), "{said}");
    let shown: serde_json::Value =
        serde_json::from_str(&ok(folder.path(), &["show", "net.nn", "--bind", "D=6", "--json"])).unwrap();
    let whole = shown["layers"].as_array().unwrap().last().unwrap();
    assert_eq!(whole["parameters"], 19, "{whole}");
}
