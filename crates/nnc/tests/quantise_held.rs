//! What quantised weights are held to: data stay exact, only programs that were looked at take them, nothing is
//! overwritten.

mod common;

use common::{Stored, altered, fails, nnc, ok};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const FLOATS: &str = "floats/last.safetensors";

/// Rows with features, targets and a number of a class; another data block of the same rows, ten times as large.
const NET: &str = "
model Net(x: f32[N, 16]) -> f32[N, 8] { return x |> dense(24) |> relu |> dense(8) }
data table {
    train: f32[25] = csv(\"t.csv\")
    SPLIT
    x: f32[16] = train[0..16]
    y: f32[8] = train[16..24]
    class: i32 = i32(train[24])
}
data far {
    train: f32[25] = csv(\"t.csv\")
    test = 0.25
    x: f32[16] = train[0..16] * 10
    y: f32[8] = train[16..24]
    class: i32 = i32(train[24])
}
train Net on table {
    epochs = 2; batch = 16
    scale = 1.0
    weight = 1.0
    z = Net(x * scale)
    minimize weight * mean((z - y) ** 2) using adam(lr=0.01)
    metric mae = mean(abs(z - y))
    answer guess = z
    answer best = argmax(z, axis=-1)
    answer number = class
    MORE
}
train Net on far {
    epochs = 2; batch = 16
    z = Net(x)
    minimize mean((z - y) ** 2) using adam(lr=0.01)
    answer guess = z
    answer number = class
}
";

/// The network with such a split and such answers, trained with `words`, in a folder with its data.
fn trained(split: &str, more: &str, words: &[&str]) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let number = |at: usize| (((at + 1) * 7919) % 2003) as f32 / 1001.0 - 1.0;
    let sized = |row: usize, at: usize| match at {
        0..16 => number(row * 31 + at),
        16..24 => number(row * 17 + at) * 1000.0,
        _ => (row % 7) as f32,
    };
    let row = |row: usize| (0..25).map(|at| sized(row, at).to_string()).collect::<Vec<_>>().join(",");
    fs::write(folder.path().join("t.csv"), (0..64).map(|at| row(at) + "\n").collect::<String>()).unwrap();
    fs::write(folder.path().join("net.nn"), NET.replace("SPLIT", split).replace("MORE", more)).unwrap();
    let line = ["train", "net.nn", "--only", "Net", "--out", "floats"];
    let told = ok(folder.path(), &[&line[..], words].concat());
    (folder, told)
}

/// Quantises it whatever is lost; gives what was said on both outputs.
fn quantise(folder: &Path) -> (String, String) {
    let line = ["quantise", "net.nn", "--only", "Net", "--weights", FLOATS, "--all", "--max-drop", "100"];
    let output = nnc(folder, &[&line[..], &["-o", "q.safetensors"]].concat());
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{out}\n{err}");
    (out, err)
}

#[test]
fn targets_and_classes_are_not_rounded() {
    let (folder, _) = trained("test = 0.25", "answer target = y\n    answer features = x", &[]);
    let folder = folder.path();
    let (out, err) = quantise(folder);
    assert!(out.contains("-128 to 127") && !err.contains("moves by"), "{out}\n{err}");
    for answer in ["target", "number", "features"] {
        let values = |weights: &str| {
            let line = ["run", "net.nn", "--only", "Net", "--answer", answer, "--weights", weights];
            ok(folder, &[&line[..], &["--input", "t.csv", "--output", "y.npy"]].concat());
            fs::read(folder.join("y.npy")).unwrap()
        };
        assert_eq!(values(FLOATS), values("q.safetensors"), "{answer}");
    }
    let answers = ["target", "number", "features"].map(|name| out.lines().find(|line| line.contains(name)).unwrap());
    assert!(answers[0].contains("0.00 % in the mean") && answers[1].contains("changes in 0 of 16"), "{answers:?}");
    assert!(out.contains("answer `best` changes in "), "{out}");
}

#[test]
fn only_what_was_looked_at_takes_the_file() {
    let (folder, _) = trained("test = 0.25", "", &[]);
    let folder = folder.path();
    quantise(folder);
    let line = ["eval", "net.nn", "--weights", "q.safetensors"];
    for same in [&["--set", "batch=8"][..], &["--set", "weight=3"], &["--set", "epochs=9"]] {
        ok(folder, &[&line[..], &["--only", "Net"], same].concat());
    }
    let refused = |words: &[&str]| {
        let said = fails(folder, words);
        assert!(said.contains("quantise the floats again") && said.contains("dense_1.w"), "{said}");
    };
    refused(&[&line[..], &["--only", "Net", "--set", "scale=4"]].concat());
    refused(&[&line[..], &["--only", "Net on far"]].concat());
    let run = ["run", "net.nn", "--weights", "q.safetensors", "--answer", "guess", "--input", "t.csv"];
    ok(folder, &[&run[..], &["--only", "Net"]].concat());
    refused(&[&run[..], &["--only", "Net on far"]].concat());
    let build = ["build", "net.nn", "--weights", "q.safetensors", "--answer", "guess", "-o", "net"];
    refused(&[&build[..], &["--only", "Net", "--set", "scale=4"]].concat());
    assert!(!folder.join("net").exists());
}

/// A measure whose name says nothing gets better as `stop_early` says, for whoever asks.
#[test]
fn the_recipe_says_which_way_a_measure_gets_better() {
    let stop = |way: &str| format!("metric goal = mean(abs(z - y))\n    stop_early(on=validation.goal, better={way})");
    let (folder, _) = trained("test = 0.25\n    validation = 0.25", &stop("smaller"), &[]);
    let folder = folder.path();
    let line = ["quantise", "net.nn", "--only", "Net", "--weights", FLOATS, "--all", "--metric", "goal", "--json"];
    let drops = ["smaller", "larger"].map(|way| {
        let source = NET.replace("SPLIT", "test = 0.25\n    validation = 0.25").replace("MORE", &stop(way));
        fs::write(folder.join("net.nn"), source).unwrap();
        let told = ok(folder, &[&line[..], &["--max-drop", "100", "-o", "q.safetensors"]].concat());
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        told["measured"]["drop"].as_f64().unwrap()
    });
    assert!(drops[0] != 0.0 && (drops[0] + drops[1]).abs() < 1e-9, "{drops:?}");
}

#[test]
fn pictures_are_looked_at() {
    let (folder, _) = trained("test = 0.25", "picture all = reshape(Net(x * 40), [N, 1, 2, 4])", &[]);
    let (_, err) = quantise(folder.path());
    assert!(err.contains("a picture makes 2 ranges wider, that of `dense_2` 40."), "{err}");
}

#[test]
fn a_wide_answer_is_named() {
    let (folder, _) = trained("test = 0.25", "answer wide = Net(x * 50)", &[]);
    let (_, err) = quantise(folder.path());
    assert!(err.contains("answer `wide` makes 2 ranges wider, that of `dense_2` 50."), "{err}");
}

#[test]
fn nothing_else_is_overwritten() {
    let (folder, _) = trained("test = 0.25", "", &[]);
    let folder = folder.path();
    let model = "model Head(x: f32[N, 25]) -> f32[N, 8] { return dense(x, 8) }\n";
    fs::write(folder.join("head.nn"), model).unwrap();
    let layered = NET.replace("SPLIT", "test = 0.25").replace("MORE", "");
    let from = "layer first = dense(24) from \"part.safetensors\"\n    return x |> first";
    let layered = layered.replace("return x |> dense(24)", from);
    fs::write(folder.join("layered.nn"), layered).unwrap();
    fs::copy(folder.join(FLOATS), folder.join("part.safetensors")).unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    let before = |name: &str| fs::read(folder.join(name)).unwrap();
    for (command, more) in [("quantise", "--all"), ("prune", "--json")] {
        for name in ["t.csv", "notes.txt", "net.nn", FLOATS] {
            let kept = before(name);
            let said = fails(folder, &[command, "net.nn", "--only", "Net", "--weights", FLOATS, more, "-o", name]);
            assert!(said.contains("choose another name"), "{command} {name}: {said}");
            assert_eq!(before(name), kept, "{command} {name}");
        }
        let line = [command, "layered.nn", "--only", "Net", "--weights", FLOATS, more, "-o", "part.safetensors"];
        let kept = before("part.safetensors");
        let said = fails(folder, &line);
        assert!(said.contains("is an input"), "{command}: {said}");
        assert_eq!(before("part.safetensors"), kept, "{command}");
    }
    let line = ["quantise", "head.nn", "--weights", FLOATS, "--input", "x=t.csv", "--all", "-o", "t.csv"];
    assert!(fails(folder, &line).contains("choose another name"));
}

#[test]
fn the_split_is_that_of_the_training() {
    let (folder, told) = trained("test = 0.25", "", &["--seed", "7"]);
    let folder = folder.path();
    let test = |text: &str| text.lines().find(|line| line.starts_with("test on")).unwrap().to_owned();
    let eval = ok(folder, &["eval", "net.nn", "--only", "Net", "--weights", FLOATS]);
    assert_eq!(test(&told), test(&eval));
    let (out, err) = quantise(folder);
    let mae = |text: &str| text.split("mae ").nth(1).unwrap().split_whitespace().next().unwrap()[..5].to_owned();
    assert_eq!(mae(&test(&told)), mae(&out), "{told}\n{out}");
    assert!(!err.contains("neither"), "{err}");
}

#[test]
fn a_measure_on_what_was_trained_on_is_told() {
    let (folder, _) = trained("", "", &[]);
    let (_, err) = quantise(folder.path());
    assert!(err.contains("neither a validation nor a test split"), "{err}");
}

#[test]
fn an_answer_may_want_more_examples_than_there_are() {
    let (folder, _) = trained("validation = 0.1", "answer few = z[0..8]", &[]);
    let folder = folder.path();
    let (out, err) = quantise(folder);
    assert!(out.contains("answer `few` moves by") && out.contains("answer `guess` moves by"), "{out}\n{err}");
    let line = ["run", "net.nn", "--only", "Net", "--answer", "few", "--weights", "q.safetensors"];
    ok(folder, &[&line[..], &["--bind", "N=64", "--input", "t.csv"]].concat());
    // A batch is more than there is.
    let (folder, _) = trained("validation = 0.1", "answer few = z[0..60]", &["--set", "batch=64"]);
    let line = ["quantise", "net.nn", "--only", "Net", "--weights", FLOATS, "--all", "--set", "batch=64"];
    let output = nnc(folder.path(), &[&line[..], &["-o", "q.safetensors"]].concat());
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.contains("answer `few` cannot be made of 58 examples"), "{err}");
}

#[test]
fn a_layer_is_not_loaded_from_integers() {
    let (folder, _) = trained("test = 0.25", "", &[]);
    let folder = folder.path();
    quantise(folder);
    let text = "model Half(x: f32[N, 16]) -> f32[N, 24] {
    layer dense_1 = dense(24) from \"q.safetensors\"
    return dense_1(x)
}
";
    fs::write(folder.join("half.nn"), text).unwrap();
    fs::write(folder.join("x.csv"), ["1"; 16].join(",") + "\n").unwrap();
    let said = fails(folder, &["run", "half.nn", "--input", "x.csv"]);
    assert!(said.contains("\"q.safetensors\": these weights are quantised"), "{said}");
    assert!(!said.contains("the model has"), "{said}");
}

/// With one row there is nothing to repeat along, but the factors of normalisation go into the weights as with several.
#[test]
fn a_convolution_of_whole_images_is_the_same_for_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "model Whole(x: f32[N, 8, 4, 4]) -> f32[N, 16, 1, 1] {
    return x |> conv2d(16, kernel=4) |> batch_norm |> relu
}
data drawn {
    train: f32[128] = csv(\"d.csv\")
    test = 0.25
    x: f32[8, 4, 4] = reshape(train, [8, 4, 4])
}
train Whole on drawn {
    epochs = 1; batch = 8
    y = Whole(x)
    minimize mean((y - 1) ** 2) using sgd(lr=0.01)
    answer guess = y
}
";
    fs::write(folder.join("net.nn"), text).unwrap();
    let number = |at: usize| (((at + 1) * 7919) % 2003) as f32 / 1001.0 - 1.0;
    let row = |row: usize| (0..128).map(|at| number(row * 131 + at).to_string()).collect::<Vec<_>>().join(",");
    fs::write(folder.join("d.csv"), (0..32).map(|at| row(at) + "\n").collect::<String>()).unwrap();
    ok(folder, &["train", "net.nn", "--out", "floats"]);
    ok(folder, &["quantise", "net.nn", "--weights", FLOATS, "--all", "--max-drop", "100", "-o", "q.safetensors"]);
    for rows in ["N=1", "N=2", "N=5"] {
        let line = ["dump", "net.nn", "--weights", "q.safetensors", "--program", "answer", "--at", "graph"];
        let graph = ok(folder, &[&line[..], &["--bind", rows]].concat());
        assert!(graph.contains(".q8\""), "{rows}\n{graph}");
        assert!(!graph.contains("param \"conv2d_1.w\""), "{rows}\n{graph}");
    }
}

/// A file of weights alone has no states of metrics; those that accumulate over a split are taken all the same.
#[test]
fn metrics_that_accumulate_are_taken_of_weights_alone() {
    let (folder, _) = trained("test = 0.25", "metric error = root_mean_squared_error(z, y)", &[]);
    let folder = folder.path();
    let prune = ["prune", "net.nn", "--only", "Net", "--weights", FLOATS];
    ok(folder, &[&prune[..], &["--sparsity", "0.3", "-o", "p.safetensors"]].concat());
    ok(folder, &[&prune[..], &["--channels", "0.2", "-o", "c.safetensors"]].concat());
    for weights in ["p.safetensors", "c.safetensors"] {
        let line = ["quantise", "net.nn", "--only", "Net", "--weights", weights, "--all", "--max-drop", "100"];
        let told = ok(folder, &[&line[..], &["--metric", "error", "-o", "q.safetensors"]].concat());
        assert!(told.contains("error "), "{told}");
        ok(folder, &["eval", "net.nn", "--only", "Net", "--weights", "q.safetensors"]);
    }
}

/// Weights by the names of another tool are the same weights.
#[test]
fn weights_of_other_names_are_quantised_as_they_are_read() {
    let (folder, _) = trained("test = 0.25", "", &[]);
    let folder = folder.path();
    altered(folder, FLOATS, "named.safetensors", |tensors| {
        tensors.retain(|name, _| !name.starts_with('$'));
        for layer in ["dense_1", "dense_2"] {
            let bias = tensors.remove(&format!("{layer}.b")).unwrap();
            tensors.insert(format!("{layer}.bias"), bias);
            let Stored { dtype, dims, bytes } = tensors.remove(&format!("{layer}.w")).unwrap();
            let (rows, columns) = (dims[0], dims[1]);
            let element = |row: usize, column: usize| &bytes[4 * (row * columns + column)..][..4];
            let turned = (0..columns).flat_map(|column| (0..rows).flat_map(move |row| element(row, column)));
            let turned = Stored { dtype, dims: vec![columns, rows], bytes: turned.copied().collect() };
            tensors.insert(format!("{layer}.weight"), turned);
        }
    });
    let test = |weights: &str| ok(folder, &["eval", "net.nn", "--only", "Net", "--weights", weights]);
    assert_eq!(test("named.safetensors"), test(FLOATS));
    let quantised = |from: &str, to: &str| {
        let line = ["quantise", "net.nn", "--only", "Net", "--weights", from, "--all", "--max-drop", "100", "-o", to];
        ok(folder, &line);
        test(to)
    };
    assert_eq!(quantised("named.safetensors", "a.safetensors"), quantised(FLOATS, "b.safetensors"));
}
