//! `nnc bench --compare`: the weights of several files beside each other.

mod common;

use common::{digits, fails, nnc, ok};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const FLOATS: &str = "floats/last.safetensors";

/// The digits, trained for an epoch, quantised and pruned.
fn forms() -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=2", "--out", "floats"]);
    ok(&folder, &["quantise", "digits.nn", "--weights", FLOATS, "--all", "-o", "small.safetensors"]);
    ok(&folder, &["prune", "digits.nn", "--weights", FLOATS, "--sparsity", "0.7", "-o", "pruned.safetensors"]);
    (keep, folder)
}

const LINE: [&str; 9] = [
    "bench",
    "digits.nn",
    "--seconds",
    "0.02",
    "--weights",
    FLOATS,
    "--compare",
    "small.safetensors",
    "pruned.safetensors",
];

#[test]
fn each_file_has_its_row() {
    let (_keep, folder) = forms();
    let told = ok(&folder, &LINE);
    let row = |name: &str| told.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{told}"));
    assert!(row("floats").contains("f32") && row("floats").contains("1.00x"), "{told}");
    assert!(row("small").contains("int8 3 of 4"), "{told}");
    assert!(row("pruned").contains("f32, pruned") && row("pruned").contains("70.0 %"), "{told}");
    assert!(told.contains("accuracy on 360 examples"), "{told}");

    let told = ok(&folder, &[&LINE[..], &["--json", "--plot", "plot.svg"]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    let files = told["files"].as_array().unwrap();
    assert_eq!((files.len(), &told["metric"], &told["examples"]), (3, &"accuracy".into(), &360.into()));
    for (file, weights) in files.iter().zip([FLOATS, "small.safetensors", "pruned.safetensors"]) {
        assert_eq!(file["weights"], weights);
        assert!(file["median"].as_f64().unwrap() > 0.0 && file["form"]["bytes"].as_u64().unwrap() > 0, "{file}");
        // The same measure as `nnc eval` takes.
        let eval = ok(&folder, &["eval", "digits.nn", "--weights", weights, "--json"]);
        let eval: Value = serde_json::from_str(&eval).unwrap();
        assert_eq!(file["metrics"], eval["test"], "{weights}");
    }
    assert!(files[1]["size"].as_f64().unwrap() < 0.35 && files[2]["size"] == 1.0, "{files:?}");
    let plot = fs::read_to_string(folder.join("plot.svg")).unwrap();
    assert!(plot.matches("<circle").count() == 3 && plot.contains("small.safetensors (int8 3 of 4)"), "{plot}");
}

#[test]
fn without_data_there_are_times() {
    let (_keep, folder) = forms();
    fs::remove_file(folder.join("data/digits.csv.gz")).unwrap();
    let output = nnc(&folder, &LINE);
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success() && out.contains("int8 3 of 4") && !out.contains("accuracy"), "{out}\n{err}");
    assert!(err.contains("times alone"), "{err}");
    let said = fails(&folder, &[&LINE[..], &["--metric", "accuracy"]].concat());
    assert!(said.contains("nothing is measured") && said.contains("digits.csv.gz"), "{said}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_keep, folder) = forms();
    let compare = |words: &[&str]| fails(&folder, &[&["bench", "digits.nn"], words].concat());
    assert!(compare(&["--compare", "small.safetensors"]).contains("--weights"));
    assert!(compare(&["--weights", FLOATS, "--metric", "loss"]).contains("--compare"));
    let with = |words: &[&str]| fails(&folder, &[&LINE[..], words].concat());
    assert!(with(&["--metric", "acuracy"]).contains("`accuracy`"));
    assert!(with(&["--answer", "none"]).contains("no answer `none`"));
    let before = fs::read(folder.join("small.safetensors")).unwrap();
    assert!(with(&["--plot", "small.safetensors"]).contains("is an input"));
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    assert!(with(&["--plot", "notes.txt"]).contains("no SVG picture"));
    assert_eq!(fs::read_to_string(folder.join("notes.txt")).unwrap(), "mine");
    assert_eq!(fs::read(folder.join("small.safetensors")).unwrap(), before);
    let other = "model Other(x: f32[N, 8]) -> f32[N, 2] { return dense(x, 2) }\n";
    fs::write(folder.join("other.nn"), other).unwrap();
    let said = fails(&folder, &["bench", "other.nn", "--weights", FLOATS, "--compare", FLOATS]);
    assert!(said.contains("another model"), "{said}");
}

/// Digits by a network whose normalisations are folded into the weights.
const NORMED: &str = "
model Net(image: f32[N, 1, 8, 8]) -> f32[N, 10] {
    x = image |> conv_norm_relu(16, kernel=3, padding=1) |> max_pool2d(2) |> conv_norm_relu(32, kernel=3, padding=1)
    return x |> flatten |> dense(32) |> relu |> dense(10)
}
data digits {
    train: (f32[64], u8) = csv(\"data/digits.csv.gz\")
    test = every(5)
    image: f32[1, 8, 8] = reshape(train.0 / 16, [1, 8, 8])
    label: i32 = i32(train.1)
}
train Net on digits {
    epochs = 2; batch = 64
    logits = Net(image)
    minimize cross_entropy(logits, label) using adamw(lr=3e-3)
    metric accuracy = accuracy(logits, label)
    answer probabilities = softmax(logits)
}
";

#[test]
fn products_of_fewer_channels_are_counted() {
    let (_keep, folder) = digits();
    fs::write(folder.join("digits.nn"), NORMED).unwrap();
    ok(&folder, &["train", "digits.nn", "--out", "floats"]);
    ok(&folder, &["prune", "digits.nn", "--weights", FLOATS, "--channels", "0.5", "-o", "narrow.safetensors"]);
    let line = [
        "quantise",
        "digits.nn",
        "--weights",
        "narrow.safetensors",
        "--all",
        "--max-drop",
        "100",
        "-o",
        "q.safetensors",
    ];
    let told: Value = serde_json::from_str(&ok(&folder, &[&line[..], &["--json"]].concat())).unwrap();
    let layers = told["layers"].as_array().unwrap();
    let count = layers.iter().filter(|layer| layer["choice"].get("int8").is_some()).count();
    let compared = ["bench", "digits.nn", "--seconds", "0.02", "--weights", FLOATS, "--compare", "q.safetensors"];
    let told = ok(&folder, &compared);
    assert!(count > 1 && told.contains(&format!("int8 {count} of {}, fewer channels", layers.len())), "{told}");
}
