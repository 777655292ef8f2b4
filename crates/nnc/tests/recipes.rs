//! Recipes as a user meets them: what is told of shapes that do not fit.

mod common;

use common::{command, fails, ok};
use serde_json::Value;
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

/// A recipe that takes halves of a batch, in its loss and in a metric, trains where each batch has two; where the last
/// one of a split has not, that is said of so many.
#[test]
fn what_divides_a_batch_is_made_of_a_batch() {
    let halves = "a, b = split(Line(x), 2, axis=0)
    minimize mse(Line(x), y) + 0.1 * mse(a, b) using adam
    metric apart = mean(abs(a - b))
    metric first = mean(Line(x)[..N / 2])";
    let changes = [("minimize mse(Line(x), y) using adam", halves), ("count=3", "count=4")];
    let folder = written(SHAPES, &changes);
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    let folder = written(SHAPES, &changes[..1]);
    let said = fails(folder.path(), &["train", "net.nn", "--out", "run"]);
    assert!(said.contains("3 does not split into 2 equal parts") && said.contains("`N` is 3 here"), "{said}");
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

/// What is set is said of the recipe that is asked for, whatever the others have of that name.
#[test]
fn settings_are_those_of_the_recipe_that_is_asked_for() {
    let other = "
        train other on points {
            epochs = 1; batch = 8
            weight = 3.5
            layer net = Line()
            minimize mse(net(x), y) * weight using sgd
            answer each = net(x)
        }";
    let more = "weight = 3; rate = 1e-3; minimize mse(Line(x), y) * weight using adam(lr=rate)";
    let folder = written(&format!("{SHAPES}{other}"), &[("minimize mse(Line(x), y) using adam", more)]);
    let line = |only, set| ["train", "net.nn", "--out", only, "--only", only, "--set", set];
    ok(folder.path(), &line("other", "weight=2.5"));
    ok(folder.path(), &line("Line", "rate=1e-2"));
    let said = fails(folder.path(), &line("Line", "weight=2.5"));
    assert!(said.contains("`weight` is set to `2.5`, but takes a whole number"), "{said}");
    let said = fails(folder.path(), &line("other", "rate=1e-2"));
    assert!(said.contains("the recipe `other` has no setting `rate` to be set"), "{said}");
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

/// One value has no variance: a batch of one, and an epoch that ends in one, are refused before anything is trained.
#[test]
fn batch_norm_trains_on_no_batch_of_one_value_in_a_channel() {
    let normed = ("= dense(x, 1)[:, 0]", "= dense(batch_norm(x), 1)[:, 0]");
    let tested = ("x: f32[6] =", "test: (f32[6], f32) = synthetic(make, count=3)\n    x: f32[6] =");
    let folder = written(SHAPES, &[normed, tested]);
    let refused = |setting: &str| fails(folder.path(), &["train", "net.nn", "--out", "run", "--set", setting]);
    let said = refused("batch=1");
    assert!(said.contains("E0204") && said.contains("batches of 2 or more"), "{said}");
    let said = refused("batch=63");
    assert!(said.contains("E0204") && said.contains("has 1 of the 64 examples: choose another `batch`"), "{said}");
    assert!(!folder.path().join("run").exists(), "{said}");
    // Outside of training one is enough, and so is one of several places.
    fs::write(folder.path().join("x.csv"), "1,2,3,4,5,6\n").unwrap();
    ok(folder.path(), &["train", "net.nn", "--out", "run", "--set", "batch=62"]);
    let weights = ["--weights", "run/last.safetensors", "--answer", "each", "--input", "x=x.csv"];
    ok(folder.path(), &[&["run", "net.nn"][..], &weights].concat());
    let eval = ["eval", "net.nn", "--weights", "run/last.safetensors", "--set", "batch=1"];
    ok(folder.path(), &eval);
    let places = ("= dense(x, 1)[:, 0]", "= dense(reshape(batch_norm(x[:, new]), [N, D]), 1)[:, 0]");
    ok(written(SHAPES, &[places]).path(), &["train", "net.nn", "--out", "run", "--set", "batch=1"]);
}

/// `--only` names what is shown by its model or by its recipe, and takes several inputs after one `--input`.
#[test]
fn a_recipe_is_shown_by_its_name() {
    let other = "model Other(x: f32[N, 6]) -> f32[N] = dense(x, 1)[:, 0]\nmodel Line";
    let label = "train fine on points {
    epochs = 1; batch = 16
    layer line = Line()
    minimize mse(line(x), y) using adam
    answer y = line(x)
}
train Line on";
    let folder = written(SHAPES, &[("model Line", other), ("train Line on", label)]);
    assert!(ok(folder.path(), &["show", "net.nn", "--only", "Line", "--bind", "D=6"]).contains("Line"));
    let said = fails(folder.path(), &["show", "net.nn", "--only", "fine"]);
    assert!(said.contains("the recipe `fine` has layers of its own") && said.contains("`Other`, `Line`"), "{said}");
    let sum = written("model Sum(a: f32[N, 2], b: f32[N, 2]) -> f32[N, 2] = a + b", &[]);
    ["a.csv", "b.csv"].iter().for_each(|name| fs::write(sum.path().join(name), "1,2\n").unwrap());
    ok(sum.path(), &["run", "net.nn", "--input", "a=a.csv", "b=b.csv"]);
}

/// Examples of one batch and of another draw different numbers in an evaluation, and the same ones in the next.
#[test]
fn each_batch_of_an_evaluation_draws_its_own_numbers() {
    let metrics = "noise = normal([N])\n    metric first = mean(noise)\n    metric square = mean(noise ** 2)";
    let metrics = format!("{metrics}\n    answer each");
    let split = "test: (f32[6], f32) = synthetic(make, count=4)\n    x: f32[6] =";
    let changes = [("answer each", metrics.as_str()), ("batch = 16", "batch = 1"), ("x: f32[6] =", split)];
    let folder = written(SHAPES, &changes);
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    let told = || ok(folder.path(), &["eval", "net.nn", "--weights", "run/last.safetensors", "--json"]);
    let (once, again) = (told(), told());
    let of = |text: &str| serde_json::from_str::<Value>(text).unwrap()["test"].clone();
    let number = |name: &str| of(&once)[name].as_f64().unwrap_or_else(|| panic!("{once}"));
    assert!((number("square") - number("first").powi(2)).abs() > 1e-3, "{once}");
    assert_eq!(of(&once), of(&again));
}

/// What a run draws has names of its own; a source of the data that has such a name stays.
#[test]
fn nothing_is_drawn_over_the_data() {
    let table = "metric table = confusion(i32(x[:, 0]), i32(y), 2)\n    answer each";
    let source = "test: (f32[6], f32) = csv(\"run/table-test.svg\")\n    x: f32[6]";
    let folder = written(SHAPES, &[("answer each", table), ("x: f32[6]", source)]);
    let rows = "a,b,c,d,e,f,g\n0,0,0,0,0,0,0\n";
    fs::create_dir(folder.path().join("run")).unwrap();
    fs::write(folder.path().join("run/table-test.svg"), rows).unwrap();
    let said = fails(folder.path(), &["train", "net.nn", "--out", "run"]);
    assert!(said.contains("table-test.svg"), "{said}");
    assert_eq!(fs::read_to_string(folder.path().join("run/table-test.svg")).unwrap(), rows);
    ok(folder.path(), &["train", "net.nn", "--out", "other"]);
}

/// Scores are told as probabilities, probabilities and what is made of them as they are; whole numbers are no scores.
#[test]
fn answers_about_classes_are_told_as_what_they_are() {
    let model = "model Two(x: f32[N, D]) -> f32[N, 2] = dense(x, 2)\nmodel Line";
    let loss = "layer two = Two()\n    z = two(x)\n    minimize mse(Line(x), y) + 0 * mean(z)";
    let answers = "answer scores = z
    answer shares = softmax(z)
    answer mixed = 0.5 * softmax(z) + 0.5 * softmax(2 * z)
    answer marks = i64(z > 0)
    answer each";
    let classes = "classes = [\"no\", \"yes\"]\n    y: f32 =";
    let loss = ("minimize mse(Line(x), y)", loss);
    let changes = [("model Line", model), loss, ("answer each", answers), ("y: f32 =", classes)];
    let folder = written(SHAPES, &changes);
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    fs::write(folder.path().join("x.csv"), "1,2,3,4,5,6\n").unwrap();
    let told = |answer: &str| {
        let weights = ["run", "net.nn", "--weights", "run/last.safetensors"];
        ok(folder.path(), &[&weights[..], &["--answer", answer, "--input", "x=x.csv", "--json"]].concat())
    };
    for (answer, are_shares) in [("scores", true), ("shares", true), ("mixed", false), ("marks", false)] {
        assert_eq!(told(answer).contains("probability"), are_shares, "{answer}: {}", told(answer));
    }
}

/// What has no shape by itself, and what is larger than any memory, is said to be.
#[test]
fn a_model_without_a_shape_and_one_without_end_are_refused() {
    let folder = written("model P(x: f32[...B, 4]) -> f32[...B, 4] = x * 2\n", &[]);
    ok(folder.path(), &["check", "net.nn"]);
    for command in [&["show", "net.nn"][..], &["explain", "net.nn"], &["dump", "net.nn", "--at", "opt"]] {
        let said = fails(folder.path(), command);
        assert!(said.contains("E0204") && said.contains("any number of dims"), "{said}");
    }
    let text = "model A(x: f32[N, 4]) -> f32[N, 4] = x + sum(zeros([4294967296, 4294967296]))\n";
    let folder = written(text, &[]);
    for command in [&["explain", "net.nn"][..], &["dump", "net.nn", "--at", "opt"]] {
        let said = fails(folder.path(), command);
        assert!(said.contains("larger than any memory"), "{said}");
    }
}

/// A map of Kohonen's: what it learns are states, by a rule of its own.
const MAP: &str = "
fn point() -> f32[2] = uniform([2])
data points {
    train: f32[2] = synthetic(point, count=256)
    x: f32[2] = train
}
model Map(x: f32[N, D], units: int = 10) -> (i32[N], f32) {
    state w: f32[units, D] = uniform_init(0.5)
    distance = sum((x[:, new] - w) ** 2, axis=-1)
    winner = argmin(distance, axis=-1)
    if training {
        near = exp(-f32(winner[:, new] - iota(units)) ** 2 / 2)
        total = sum(near, axis=0)
        w <- w + 0.3 * ((transpose(near) @ x) / (total[:, new] + 1e-6) - w) * (total / (total + 1))[:, new]
    }
    return winner, mean(min(distance, axis=-1))
}
train map on points {
    epochs = 10; batch = 16
    layer map = Map()
    winner, error = map(x)
    minimize error
    answer winner = winner
}";

#[test]
fn a_model_may_learn_by_a_rule_of_its_own() {
    let folder = written(MAP, &[]);
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    let told = fs::read_to_string(folder.path().join("run/metrics.csv")).unwrap();
    let (head, epochs) = told.split_once('\n').expect("a line of names");
    let column = head.split(',').position(|name| name == "train.loss").unwrap_or_else(|| panic!("{head}"));
    let losses = epochs.lines().map(|line| line.split(',').nth(column).and_then(|loss| loss.parse().ok()));
    let losses: Vec<f64> = losses.collect::<Option<_>>().unwrap_or_else(|| panic!("{told}"));
    assert!(losses.len() == 10 && losses[9] < 0.5 * losses[0], "{losses:?}");
    ok(folder.path(), &["train", "net.nn", "--out", "run", "--resume", "--set", "epochs=11"]);
}

/// However the paths to it are spelt, a file is used once.
#[test]
fn two_spellings_of_a_path_are_one_file() {
    let uses = "use \"./parts/../parts/base.nn\"\nuse \"parts/base.nn\"\nuse \"parts/deep.nn\"\n";
    let folder = written(&format!("{uses}{SHAPES}"), &[("answer all = mean(Line(x))", "answer all = mean(twice(y))")]);
    fs::create_dir(folder.path().join("parts")).unwrap();
    fs::write(folder.path().join("parts/base.nn"), "fn twice(x: f32[...S]) -> f32[...S] = 2 * x\n").unwrap();
    let deep = "use \"./base.nn\"\nfn four(x: f32[...S]) -> f32[...S] = twice(twice(x))\n";
    fs::write(folder.path().join("parts/deep.nn"), deep).unwrap();
    ok(folder.path(), &["check", "net.nn"]);
}

/// A training does nothing with the parameter of an answer.
#[test]
fn what_only_an_answer_has_is_not_set_for_a_training() {
    let folder =
        written(SHAPES, &[("answer all = mean(Line(x))", "answer all(z: f32[N, 6], t: f32 = 1.0) = Line(z) * t")]);
    let said = fails(folder.path(), &["train", "net.nn", "--set", "t=4", "--out", "run"]);
    assert!(said.contains("only answers have `t`"), "{said}");
    ok(folder.path(), &["train", "net.nn", "--set", "epochs=2", "--out", "run"]);
}
