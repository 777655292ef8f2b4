//! What is told of a quantised network: every product with its choice and reason, and where it leaves bytes.

mod common;

use common::{digits, ok};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const FLOATS: &str = "floats/last.safetensors";

/// A network with products of every kind: of weights, in a loop, of two activations, transposed, by a constant.
const NET: &str = "
model Net(x: f32[N, 8, 16]) -> f32[N, 8] {
    table = f32(iota(16))[:, new] * f32(iota(8)) / 999.0
    h = concat([x, x @ table], axis=-1) |> dense(24) |> relu |> lstm(16)
    h = h + attention(h, h, h)
    z = reshape(h, [N, 8, 4, 4]) |> conv_transpose2d(8, kernel=4, stride=2, padding=1) |> relu
    return z |> flatten |> dense(8)
}
data table {
    train: f32[136] = csv(\"t.csv\")
    validation = 0.25
    x: f32[8, 16] = reshape(train[0..128], [8, 16])
    y: f32[8] = train[128..136]
}
train Net on table {
    epochs = 1; batch = 8
    z = Net(x)
    minimize mean((z - y) ** 2) using adam(lr=0.01)
    metric mae = mean(abs(z - y))
    answer guess = z
}
";

fn trained() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let number = |at: usize| (((at + 1) * 7919) % 2003) as f32 / 1001.0 - 1.0;
    let row = |row: usize| (0..136).map(|at| number(row * 31 + at).to_string()).collect::<Vec<_>>().join(",") + "\n";
    fs::write(folder.path().join("t.csv"), (0..32).map(row).collect::<String>()).unwrap();
    fs::write(folder.path().join("net.nn"), NET).unwrap();
    ok(folder.path(), &["train", "net.nn", "--out", "floats"]);
    folder
}

fn quantised(folder: &Path, more: &[&str]) -> Value {
    let line = ["quantise", "net.nn", "--weights", FLOATS, "--all", "--max-drop", "100", "--json", "-o"];
    serde_json::from_str(&ok(folder, &[&line[..], &["q.safetensors"], more].concat())).unwrap()
}

/// The reason why the only row of a name stays f32, or nothing.
fn reason<'v>(rows: &'v Value, key: &str, is_meant: impl Fn(&str) -> bool) -> Vec<Option<&'v str>> {
    let rows = rows.as_array().unwrap().iter().filter(|row| is_meant(row[key].as_str().unwrap()));
    rows.map(|row| row["choice"]["f32"].as_str()).collect()
}

#[test]
fn every_product_is_listed_with_its_reason() {
    let folder = trained();
    let told = quantised(folder.path(), &[]);
    let of = |is_meant: &dyn Fn(&str) -> bool| reason(&told["layers"], "layer", is_meant);
    for layer in ["dense_1", "dense_2", "conv_transpose2d_1"] {
        assert_eq!(of(&|name| name == layer), [None], "{told:#}");
    }
    let mut recurrent = of(&|name| name.starts_with("lstm_1"));
    recurrent.sort_unstable();
    assert_eq!(recurrent, [None, Some("in a loop")], "{told:#}");
    // Of queries by keys, and of what they give by values.
    assert_eq!(of(&|name| name.starts_with("attention")), [Some("product of two activations"); 2], "{told:#}");
    assert_eq!(of(&|name| name.starts_with("Net at")), [Some("product by a constant")], "{told:#}");
    let steps = |name: &str| {
        let rows = told["layers"].as_array().unwrap().iter();
        rows.filter(|row| row["layer"] == name).map(|row| row["products"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(steps("dense_1"), 8 * 24 * 24, "{told:#}");
    let line = ["quantise", "net.nn", "--weights", FLOATS, "--all", "--max-drop", "100", "-o", "p.safetensors"];
    let shown = ok(folder.path(), &line);
    assert!(shown.contains("in a loop") && shown.contains("product of two activations"), "{shown}");
}

#[test]
fn weights_alone_list_every_product_too() {
    let folder = trained();
    let told = quantised(folder.path(), &["--weights-only", "bf16"]);
    let of = |is_meant: &dyn Fn(&str) -> bool| reason(&told["matrices"], "path", is_meant);
    // Of queries by keys, and of what they give by values.
    assert_eq!(of(&|name| name.starts_with("attention")), [Some("product of two activations"); 2], "{told:#}");
    assert_eq!(of(&|name| name == "conv_transpose2d_1.w"), [Some("it is no matrix")], "{told:#}");
    assert_eq!(of(&|name| name.starts_with("Net at")), [Some("product by a constant")], "{told:#}");
}

/// Without `--all` both forms of each are timed, and what is slower stays as it is.
#[test]
fn weights_alone_are_timed_by_a_row() {
    let (_keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "floats"]);
    let line = ["quantise", "digits.nn", "--weights", FLOATS, "--weights-only", "int8", "--max-drop", "100", "--json"];
    let told: Value = serde_json::from_str(&ok(&folder, &[&line[..], &["-o", "q.safetensors"]].concat())).unwrap();
    let row = told["matrices"].as_array().unwrap().iter().find(|row| row["path"] == "dense_1.w").unwrap();
    let [floats, stored] = ["f32", "stored"].map(|form| row["seconds"][form].as_f64().unwrap());
    match stored > floats {
        true => assert_eq!(row["choice"]["f32"], "slower, even for one row", "{told:#}"),
        false => assert_eq!(row["choice"]["bits"], 8, "{told:#}"),
    }
    let told: Value =
        serde_json::from_str(&ok(&folder, &[&line[..], &["--all", "-o", "q.safetensors"]].concat())).unwrap();
    let row = told["matrices"].as_array().unwrap().iter().find(|row| row["path"] == "dense_1.w").unwrap();
    assert!(row["seconds"].is_null() && row["choice"]["bits"] == 8, "{told:#}");
}

/// A transposed convolution has integers, and no floats beside them; every engine gives the same bits.
#[test]
fn transposed_convolutions_have_the_same_bits_everywhere() {
    let folder = trained();
    let folder = folder.path();
    quantised(folder, &[]);
    let bytes = fs::read(folder.join("q.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let names = file.names();
    let is_up = |name: &&&str| name.starts_with("conv_transpose2d_1.w");
    assert!(names.iter().any(|name| name.starts_with("conv_transpose2d_1.w@") && name.ends_with(".q8")), "{names:?}");
    assert!(!names.iter().filter(is_up).any(|name| **name == *"conv_transpose2d_1.w"), "{names:?}");
    let answer = |engine: &str, threads: &str| {
        let line = ["run", "net.nn", "--weights", "q.safetensors", "--engine", engine, "--threads", threads];
        ok(folder, &[&line[..], &["--input", "x=t.csv", "--output", "y.npy"]].concat());
        fs::read(folder.join("y.npy")).unwrap()
    };
    let first = answer("native", "1");
    for (engine, threads) in [("native", "2"), ("cranelift", "1"), ("cranelift", "2")] {
        assert!(answer(engine, threads) == first, "{engine} on {threads}");
    }
}

/// Rounded while it is trained, it is one network with the same bits, as floats and as integers.
#[test]
fn transposed_convolutions_are_rounded_in_training_too() {
    let folder = trained();
    let folder = folder.path();
    let rounded = NET.replace("epochs = 1", "epochs = 4").replace("    metric", "    quantise(start=0.5)\n    metric");
    fs::write(folder.join("net.nn"), rounded).unwrap();
    ok(folder, &["train", "net.nn", "--out", "rounded"]);
    let line =
        ["quantise", "net.nn", "--weights", "rounded/last.safetensors", "--all", "--json", "-o", "q.safetensors"];
    let told: Value = serde_json::from_str(&ok(folder, &line)).unwrap();
    assert_eq!(reason(&told["layers"], "layer", |name| name == "conv_transpose2d_1"), [None], "{told:#}");
    let answer = |weights: &str, engine: &str| {
        let line = ["run", "net.nn", "--weights", weights, "--engine", engine, "--input", "x=t.csv"];
        ok(folder, &[&line[..], &["--output", "y.npy"]].concat());
        fs::read(folder.join("y.npy")).unwrap()
    };
    let first = answer("rounded/last.safetensors", "native");
    for (weights, engine) in [("q.safetensors", "native"), ("q.safetensors", "cranelift"), ("q.safetensors", "interp")]
    {
        assert!(answer(weights, engine) == first, "{weights} on {engine}");
    }
}

/// Where nothing can be quantised, the reasons are told.
#[test]
fn a_network_without_products_by_weights_says_why() {
    let (_keep, folder) = digits();
    let text = "model Loop(x: f32[N, 4, 8]) -> f32[N, 4, 4] { return x @ swap(x, 1, 2) }\n";
    fs::write(folder.join("loop.nn"), text).unwrap();
    fs::write(folder.join("x.csv"), (0..32).map(|at| at.to_string()).collect::<Vec<_>>().join(",")).unwrap();
    let nothing: [(&str, safetensors::tensor::TensorView<'_>); 0] = [];
    fs::write(folder.join("w.safetensors"), safetensors::serialize(nothing, None).unwrap()).unwrap();
    let line = ["quantise", "loop.nn", "--weights", "w.safetensors", "--input", "x=x.csv", "-o", "q.safetensors"];
    let said = common::fails(&folder, &line);
    assert!(said.contains("product of two activations"), "{said}");
    assert!(!folder.join("q.safetensors").exists());
}

#[test]
fn explain_tells_where_bytes_are_left() {
    let folder = trained();
    let folder = folder.path();
    let floats = ["explain", "net.nn", "--weights", FLOATS, "--program", "answer"];
    assert!(!ok(folder, &floats).contains("int8:"), "there are no bytes in floats");
    quantised(folder, &[]);
    let line = ["explain", "net.nn", "--weights", "q.safetensors", "--program", "answer"];
    let shown = ok(folder, &line);
    assert!(shown.contains("int8: 4 layers with products of bytes"), "{shown}");
    assert!(shown.contains("result `guess`") && shown.contains("loop"), "{shown}");
    let told: Value = serde_json::from_str(&ok(folder, &[&line[..], &["--json"]].concat())).unwrap();
    let crossings = told["int8"]["crossings"].as_array().unwrap();
    let last = crossings.iter().find(|one| one["needed_by"][0] == "result `guess`").unwrap();
    // One example has eight floats.
    assert!(last["made_by"] == "dense_2" && last["becomes"] == "floats" && last["bytes"] == 32, "{told:#}");
    assert!(crossings.iter().any(|one| one["becomes"] == "bytes"), "{told:#}");
    assert_eq!(told["int8"]["layers_of_bytes"].as_array().unwrap().len(), 4, "{told:#}");
}
