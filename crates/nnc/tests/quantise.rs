//! Quantisation as a user meets it: what is chosen, that every engine gives the same bits, and what is refused.

mod common;

use common::{accuracy, digits, fails, nnc, ok};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const FLOATS: &str = "floats/last.safetensors";

/// The digits, trained for a few epochs, and quantised whatever the time says.
fn quantised() -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=3", "--out", "floats"]);
    ok(&folder, &["quantise", "digits.nn", "--weights", FLOATS, "--all", "-o", "q.safetensors"]);
    (keep, folder)
}

fn names(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned).collect()
}

#[test]
fn the_network_stays_as_good_and_becomes_small() {
    let (_keep, folder) = quantised();
    let names = names(&folder.join("q.safetensors"));
    assert!(
        names.iter().any(|name| name == "dense_1.w.q8") && !names.iter().any(|name| name == "dense_1.w"),
        "{names:?}"
    );
    let [floats, integers] = [FLOATS, "q.safetensors"].map(|file| accuracy(&folder, file, "native"));
    assert!((floats - integers).abs() <= 0.02, "{floats} became {integers}");
    let told = ok(&folder, &["quantise", "digits.nn", "--weights", FLOATS, "--all", "-o", "p.safetensors", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let [before, after] = [0, 1].map(|at| told["bytes"][at].as_f64().unwrap());
    assert!(after < 0.35 * before, "{after} of {before}");
    // What a file of weights taught stays with it.
    assert_eq!(fs::read(folder.join("p.safetensors")).unwrap(), fs::read(folder.join("q.safetensors")).unwrap());
}

#[test]
fn every_engine_gives_the_same_bits() {
    let (_keep, folder) = quantised();
    let answer = |engine: &str, threads: &str| {
        let line = ["run", "digits.nn", "--weights", "q.safetensors", "--engine", engine, "--threads", threads];
        let input = ["--input", "row.csv", "--output", "y.npy"];
        ok(&folder, &[&line[..], &input[..]].concat());
        fs::read(folder.join("y.npy")).unwrap()
    };
    let pixels: Vec<String> = (0..64).map(|at| ((at * 7) % 17).to_string()).collect();
    fs::write(folder.join("row.csv"), pixels.join(",") + "\n").unwrap();
    let first = answer("native", "1");
    for (engine, threads) in [("native", "2"), ("cranelift", "1"), ("cranelift", "2")] {
        assert_eq!(answer(engine, threads), first, "{engine} on {threads}");
    }
    assert_eq!(accuracy(&folder, "q.safetensors", "interp"), accuracy(&folder, "q.safetensors", "cranelift"));
    ok(&folder, &["build", "digits.nn", "--weights", "q.safetensors", "-o", "digits"]);
    let ran = Command::new(folder.join("digits")).args(["row.csv", "--output", "z.npy"]).current_dir(&folder).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(fs::read(folder.join("z.npy")).unwrap(), first, "the executable");
}

#[test]
fn every_command_takes_the_file() {
    let (_keep, folder) = quantised();
    let with = |words: &[&str]| ok(&folder, &[words, &["--weights", "q.safetensors"]].concat());
    assert!(with(&["explain", "digits.nn", "--program", "answer"]).contains("of narrow bytes"));
    with(&["profile", "digits.nn", "--program", "answer", "--seconds", "0.05"]);
    with(&["bench", "digits.nn", "--seconds", "0.05"]);
    assert!(with(&["explain", "digits.nn"]).contains("of narrow bytes"), "not the training step");
    assert!(with(&["dump", "digits.nn", "--program", "answer", "--at", "graph"]).contains("dense_1.w.q8"));
    let kernels = with(&["dump", "digits.nn", "--program", "answer", "--at", "kernel"]);
    assert!(kernels.contains("dot_i7"), "four terms at a time");
}

#[test]
fn a_metric_that_drops_takes_products_back() {
    let (_keep, folder) = quantised();
    let line = ["quantise", "digits.nn", "--weights", FLOATS, "--all", "--metric", "loss", "--max-drop", "0", "--json"];
    let told = ok(&folder, &[&line[..], &["-o", "p.safetensors"]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["measured"]["drop"].as_f64().unwrap() <= 0.0, "{told}");
    for method in ["percentile", "entropy"] {
        let line = ["quantise", "digits.nn", "--weights", FLOATS, "--all", "--range", method, "-o", "p.safetensors"];
        ok(&folder, &line);
        let [floats, integers] = [FLOATS, "p.safetensors"].map(|file| accuracy(&folder, file, "native"));
        assert!((floats - integers).abs() <= 0.03, "{method}: {floats} became {integers}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_keep, folder) = quantised();
    let before = fs::read(folder.join(FLOATS)).unwrap();
    let quantise = |words: &[&str]| fails(&folder, &[&["quantise", "digits.nn", "--weights"], words].concat());
    assert!(quantise(&["q.safetensors", "-o", "p.safetensors"]).contains("are quantised"));
    assert!(quantise(&[FLOATS, "-o", FLOATS]).contains("safetensors"));
    assert!(quantise(&[FLOATS, "-o", "p.safetensors", "--metric", "acuracy"]).contains("`accuracy`"));
    assert!(quantise(&[FLOATS, "-o", "p.safetensors", "--examples", "0"]).contains("whole number from 1"));
    assert!(quantise(&[FLOATS, "-o", "p.safetensors", "--max-drop", "-1"]).contains("from 0 to 100"));
    assert!(!folder.join("p.safetensors").exists());
    assert_eq!(fs::read(folder.join(FLOATS)).unwrap(), before);
    let explained = fails(&folder, &["explain", "digits.nn", "--program", "train", "--weights", "q.safetensors"]);
    assert!(explained.contains("not trained"), "{explained}");
    fs::copy(folder.join("q.safetensors"), folder.join("floats/last.safetensors")).unwrap();
    let resumed = fails(&folder, &["train", "digits.nn", "--resume", "--out", "floats"]);
    assert!(resumed.contains("are quantised"), "{resumed}");
    let other = "model Other(x: f32[N, 8]) -> f32[N, 2] { return dense(x, 2) }\n";
    fs::write(folder.join("other.nn"), other).unwrap();
    fs::write(folder.join("x.csv"), "1,2,3,4,5,6,7,8\n").unwrap();
    let ran = fails(&folder, &["run", "other.nn", "--weights", "q.safetensors", "--input", "x.csv"]);
    assert!(ran.contains("another model"), "{ran}");
}

/// Half of the network never has an input: told by name, and left as it was.
#[test]
fn what_is_never_exercised_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows: String = (0..64).map(|at| format!("{},{},{},1,{}\n", at % 5, at % 7, at % 3, at % 2)).collect();
    fs::write(folder.join("t.csv"), rows).unwrap();
    let text = "model Two(x: f32[N, 4]) -> f32[N, 2] {
    h = dense(x, 32) |> relu
    return dense(h, 2) + dense(dense(relu(h * 0.0 - 0.0), 16), 2)
}
data table {
    train: (f32[4], u8) = csv(\"t.csv\")
    validation = 0.25
    x: f32[4] = train.0
    label: i32 = i32(train.1)
}
train Two on table {
    epochs = 1; batch = 8
    minimize cross_entropy(Two(x), label) using sgd(lr=0.1)
}
";
    fs::write(folder.join("two.nn"), text).unwrap();
    ok(folder, &["train", "two.nn", "--out", "run"]);
    let line = ["quantise", "two.nn", "--weights", "run/last.safetensors", "-o", "q.safetensors", "--all"];
    let output = nnc(folder, &line);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.contains("never exercise `dense_3`"), "{err}");
    ok(folder, &["dump", "two.nn", "--weights", "q.safetensors", "--program", "eval", "--at", "graph"]);
}

/// Layers with two matrices, used twice, used otherwise by answers; branches of different ranges; a part and a whole.
const TANGLED: &str = "
model both(x: f32[N, I], units: int) -> f32[N, units] {
    param v: f32[I, units] = glorot_uniform()
    param w: f32[I, units] = glorot_uniform()
    return x @ v + relu(x) @ w
}
model Net(x: f32[N, 16]) -> f32[N, 4] {
    layer encode = both(24)
    a = relu(encode(x))
    b = relu(encode(x * 0.5)) * 4
    joined = concat([a, b], axis=1)
    part = dense(joined[:, 0..24], 16)
    return dense(concat([part, joined], axis=1), 4)
}
data table {
    train: f32[20] = csv(\"t.csv\")
    validation = 0.25
    x: f32[16] = train[0..16]
    y: f32[4] = train[16..20] * 3
}
train Net on table {
    epochs = 3; batch = 16
    z = Net(x)
    minimize mean((z - y) ** 2) using adam(lr=0.01)
    metric mae = mean(abs(z - y))
    answer guess = z
    answer other = Net(x * 3 - 1)
    answer sized(k: int = 2) { return Net(x) * k }
}
";

#[test]
fn answers_stay_near_however_layers_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let number = |at: usize| (((at + 1) * 7919) % 2003) as f32 / 1001.0 - 1.0;
    let row = |row: usize| (0..20).map(|at| number(row * 31 + at).to_string()).collect::<Vec<_>>().join(",");
    fs::write(folder.join("t.csv"), (0..128).map(|at| row(at) + "\n").collect::<String>()).unwrap();
    fs::write(folder.join("net.nn"), TANGLED).unwrap();
    ok(folder, &["train", "net.nn", "--out", "floats"]);
    let told = ok(
        folder,
        &["quantise", "net.nn", "--weights", FLOATS, "--all", "--max-drop", "20", "-o", "q.safetensors", "--json"],
    );
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["measured"]["metric"], "mae");
    let layers: Vec<&str> =
        told["layers"].as_array().unwrap().iter().map(|row| row["layer"].as_str().unwrap()).collect();
    assert!(layers.contains(&"encode.v") && layers.contains(&"encode.w"), "{layers:?}");
    for answer in ["guess", "other", "sized"] {
        let values = |weights: &str| -> Vec<f64> {
            ok(
                folder,
                &["run", "net.nn", "--answer", answer, "--weights", weights, "--input", "x=t.csv", "--output", "y.npy"],
            );
            let bytes = fs::read(folder.join("y.npy")).unwrap();
            let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            let floats = bytes[header..].chunks_exact(4);
            floats.map(|four| f64::from(f32::from_le_bytes([four[0], four[1], four[2], four[3]]))).collect()
        };
        let (floats, integers) = (values(FLOATS), values("q.safetensors"));
        let largest = floats.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        assert!(floats.len() == integers.len() && floats.len() > 3, "{answer}");
        for (float, integer) in floats.iter().zip(&integers) {
            assert!((float - integer).abs() < 0.1 * largest, "{answer}: {float} became {integer}, of {largest}");
        }
    }
}

/// The digits with a recipe that rounds, trained for a few epochs.
fn rounded_in_training(options: &str, more: &[&str]) -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let source = source.replace("    metric accuracy", &format!("    {options}\n    metric accuracy"));
    fs::write(folder.join("digits.nn"), source).unwrap();
    ok(&folder, &[&["train", "digits.nn", "--set", "epochs=3", "--out", "floats"], more].concat());
    (keep, folder)
}

fn answers(folder: &Path, weights: &str, engine: &str) -> Vec<u8> {
    let pixels = |row: usize| (0..64).map(|at| ((at * (row + 3)) % 17).to_string()).collect::<Vec<_>>().join(",");
    fs::write(folder.join("rows.csv"), (0..16).map(|row| pixels(row) + "\n").collect::<String>()).unwrap();
    let line = ["run", "digits.nn", "--weights", weights, "--engine", engine, "--input", "rows.csv"];
    ok(folder, &[&line[..], &["--output", "y.npy"]].concat());
    fs::read(folder.join("y.npy")).unwrap()
}

/// What was trained with rounding is, as floats and as integers, one network with the same bits.
#[test]
fn what_was_trained_with_rounding_loses_nothing() {
    for options in ["quantise(start=0.4)", "quantise(range=learned, start=0.4)"] {
        let (_keep, folder) = rounded_in_training(options, &[]);
        let line = ["quantise", "digits.nn", "--weights", FLOATS, "--all", "-o", "q.safetensors"];
        let told = ok(&folder, &line);
        assert!(told.contains("ranges as they were trained") && !told.contains("calibrated"), "{told}");
        let names = names(&folder.join("q.safetensors"));
        assert!(names.iter().any(|name| name == "dense_1.w.q8"), "{names:?}");
        assert!(!names.iter().any(|name| name == "dense_1.w" || name.starts_with("$quantise.")), "{names:?}");
        for engine in ["native", "cranelift", "interp"] {
            let [floats, integers] = [FLOATS, "q.safetensors"].map(|file| accuracy(&folder, file, engine));
            assert_eq!(floats, integers, "{options} on {engine}");
            assert!(floats > 0.8, "{options}: {floats}");
            let [floats, integers] = [FLOATS, "q.safetensors"].map(|file| answers(&folder, file, engine));
            assert_eq!(floats, integers, "{options} on {engine}");
        }
        // Without the rounding it is another network.
        let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
        fs::write(folder.join("digits.nn"), source.replace(options, "")).unwrap();
        assert_eq!(answers(&folder, FLOATS, "native"), answers(&folder, "q.safetensors", "native"), "the file says it");
        let explained = ok(&folder, &["explain", "digits.nn", "--weights", FLOATS, "--program", "answer"]);
        assert!(explained.contains("of narrow bytes"), "{explained}");
    }
}

/// A run that is killed on either side of the start goes on with the same bits, on every engine, whatever else is in
/// the recipe.
#[test]
fn a_recipe_that_rounds_goes_on_with_the_same_bits() {
    for options in ["quantise(start=0.5)", "quantise(range=learned, start=0.5)\n    prune(cubic(0.5), every=3)"] {
        let (_keep, folder) = rounded_in_training(options, &[]);
        let more = ["--set", "epochs=4", "--checkpoint-every", "3"];
        let line = |out| [&["train", "digits.nn", "--out", out][..], &more].concat();
        ok(&folder, &line("whole"));
        ok(&folder, &[&line("other")[..], &["--threads", "1", "--engine", "cranelift"]].concat());
        let whole = fs::read(folder.join("whole/last.safetensors")).unwrap();
        assert!(whole == fs::read(folder.join("other/last.safetensors")).unwrap(), "{options}: engines differ");
        assert!(floats_of(&whole, "$quantise.dense_1.w.top")[0] > 0.0, "{options}");
        let resumed = || match folder.join("killed/last.safetensors").exists() {
            true => [&line("killed")[..], &["--resume"]].concat(),
            false => line("killed"),
        };
        for wait in [100, 150, 200] {
            let mut child = common::command(&folder, &resumed()).stdout(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_millis(wait));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        ok(&folder, &resumed());
        for file in ["last.safetensors", "best.safetensors", "metrics.csv"] {
            let read = |run: &str| fs::read(folder.join(run).join(file)).unwrap();
            assert!(read("whole") == read("killed"), "{options}: {file} differs");
        }
    }
}

fn floats_of(file: &[u8], name: &str) -> Vec<f32> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let words = tensors.tensor(name).unwrap().data().to_vec();
    words.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Normalisation by the batch, dropout, a residual sum, and two steps of which one trains what is rounded.
const NORMED: &str = "
model Body(image: f32[N, 1, 8, 8]) -> f32[N, 16, 4, 4] {
    x = image |> conv_norm_relu(16, kernel=3, padding=1) |> max_pool2d(2)
    return x |> residual_block(16) |> dropout(0.2)
}
model Head(x: f32[N, 16, 4, 4]) -> f32[N, 10] = x |> flatten |> dense(32) |> relu |> dense(10)
data digits {
    train: (f32[64], u8) = csv(\"data/digits.csv.gz\")
    test = every(5)
    image: f32[1, 8, 8] = reshape(train.0 / 16, [1, 8, 8])
    label: i32 = i32(train.1)
}
train net on digits {
    epochs = 3; batch = 64
    layer body = Body()
    layer head = Head()
    MINIMISE
    quantise(start=0.3, RANGE)
    metric accuracy = accuracy(head(body(image)), label)
    answer probabilities = softmax(head(body(image)))
}
";

#[test]
fn normalised_networks_and_steps_are_rounded_as_they_were_trained() {
    let whole = "minimize cross_entropy(head(body(image)), label) using adam(lr=3e-3)";
    let steps = format!("step first {{ {whole} }}\n step second every 2 {{ {whole} }}");
    let both = format!("{whole}, accumulate=2, average=0.9, clip_norm=1.0");
    for (minimise, range) in
        [(whole, "over=body"), (&steps, "range=learned"), (&both, "range=learned"), (&both, "over=head")]
    {
        let (_keep, folder) = digits();
        let source = NORMED.replace("MINIMISE", minimise).replace("RANGE", range);
        fs::write(folder.join("digits.nn"), source).unwrap();
        ok(&folder, &["train", "digits.nn", "--out", "floats"]);
        let line = ["quantise", "digits.nn", "--weights", FLOATS, "--all", "-o", "q.safetensors", "--json"];
        let told: Value = serde_json::from_str(&ok(&folder, &line)).unwrap();
        let rows = told["layers"].as_array().unwrap();
        for row in rows {
            let name = row["name"].as_str().unwrap();
            let is_asked = range.strip_prefix("over=").is_none_or(|part| name.starts_with(part));
            let is_large = name != "body.conv_norm_relu_1.conv2d_1.w" && row["weights"].as_u64() > Some(144);
            assert_eq!(!row["choice"]["int8"].is_null(), is_asked && is_large, "{minimise}, {range}: {row}");
        }
        let [floats, integers] = [FLOATS, "q.safetensors"].map(|file| accuracy(&folder, file, "native"));
        assert!(floats == integers && floats > 0.5, "{minimise}, {range}: {floats} became {integers}");
        let [floats, integers] = [FLOATS, "q.safetensors"].map(|file| answers(&folder, file, "native"));
        assert_eq!(floats, integers, "{minimise}, {range}");
    }
}

#[test]
fn a_recipe_without_products_to_round_says_so() {
    let (_keep, folder) = digits();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let model = source.find("model ").unwrap();
    let end = model + source[model..].find("\n}\n").unwrap() + 3;
    let small = "model Digits(image: f32[N, 1, 8, 8]) -> f32[N, 10] = image |> avg_pool2d(4) |> flatten |> dense(10)\n";
    let source = format!("{}{small}{}", &source[..model], &source[end..]);
    fs::write(folder.join("digits.nn"), source.replace("    metric acc", "    quantise(start=0.5)\n    metric acc"))
        .unwrap();
    let said = fails(&folder, &["train", "digits.nn", "--out", "run"]);
    assert!(
        said.contains("E0603") && said.contains("integers serve") && said.contains("quantise(start=0.5)"),
        "{said}"
    );
    assert!(!folder.join("run").exists());
}

/// The best that is tested is a rounded one, even where an epoch of floats was better; one that never rounds says so.
#[test]
fn what_is_not_rounded_yet_is_not_the_best() {
    let (_keep, folder) = rounded_in_training("quantise(start=0.7)", &[]);
    let best = fs::read(folder.join("floats/best.safetensors")).unwrap();
    assert!(floats_of(&best, "$quantise.dense_1.w.top")[0] > 0.0);
    let line = ["train", "digits.nn", "--set", "epochs=1", "batch=1000", "--out", "late"];
    let output = nnc(&folder, &line);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("`quantise` never begins"), "{said}");
    assert!(!folder.join("late/best.safetensors").exists());
}

#[test]
fn a_range_that_is_none_is_refused() {
    let (_keep, folder) = rounded_in_training("quantise()", &[]);
    let mut file = fs::read(folder.join(FLOATS)).unwrap();
    let text = String::from_utf8_lossy(&file).into_owned();
    let at = text.find("$quantise.dense_1.w.sign").unwrap();
    file[at + "$quantise.dense_1.w.".len()] = b'x';
    fs::write(folder.join("bad.safetensors"), &file).unwrap();
    for words in [&["eval", "digits.nn"][..], &["quantise", "digits.nn", "-o", "q.safetensors"]] {
        let said = fails(&folder, &[words, &["--weights", "bad.safetensors"]].concat());
        assert!(said.contains("bad.safetensors") && said.contains("`$quantise.dense_1.w."), "{said}");
    }
    assert!(!folder.join("q.safetensors").exists());
}

/// A range that a step of the optimiser makes nothing of begins anew, so that a checkpoint has it.
#[test]
fn a_learned_range_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let row = |row: usize| (0..16).map(|at| format!("{}", ((at * 7 + row * 5) % 13) as f32 / 3.0)).collect::<Vec<_>>();
    fs::write(folder.join("t.csv"), (0..8).map(|at| row(at).join(",") + "\n").collect::<String>()).unwrap();
    for sign in ["", "-"] {
        let text = format!(
            "model Net(x: f32[N, 16]) -> f32[N, 8] {{ return dense(x, 8) }}
data table {{
    train: f32[16] = csv(\"t.csv\")
    x: f32[16] = train
}}
train Net on table {{
    epochs = 2; batch = 8
    minimize {sign}mean(Net(x)) using sgd(lr=1000)
    quantise(range=learned)
}}
"
        );
        fs::write(folder.join("net.nn"), text).unwrap();
        ok(folder, &["train", "net.nn", "--out", "run"]);
        let file = fs::read(folder.join("run/last.safetensors")).unwrap();
        let top = floats_of(&file, "$quantise.dense_1.w.top")[0];
        assert!(top > 0.0, "{sign}: {top}");
        fs::remove_dir_all(folder.join("run")).unwrap();
    }
}

/// Floats that were trained with rounding, and of which nothing becomes integers, stay what they were.
#[test]
fn what_stays_floats_keeps_the_ranges_of_its_training() {
    let (_keep, folder) = rounded_in_training("quantise(start=0.4)", &[]);
    common::altered(&folder, FLOATS, "few.safetensors", |tensors| {
        let top = tensors["$quantise.dense_1.w.top"].clone();
        let sign = tensors["$quantise.dense_1.w.sign"].clone();
        tensors.retain(|path, _| !path.starts_with("$quantise."));
        // Too few terms for integers.
        tensors.extend([("$quantise.conv2d_1.w.top".to_owned(), top), ("$quantise.conv2d_1.w.sign".to_owned(), sign)]);
    });
    let output =
        common::nnc(&folder, &["quantise", "digits.nn", "--weights", "few.safetensors", "-o", "q.safetensors"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the file has floats, with the ranges that they were trained with"), "{said}");
    let names = names(&folder.join("q.safetensors"));
    assert!(names.iter().any(|name| name == "$quantise.conv2d_1.w.top"), "{names:?}");
    let [before, after] = ["few.safetensors", "q.safetensors"].map(|file| accuracy(&folder, file, "native"));
    assert_eq!(before, after);
}

/// A model by itself is quantised by the rows that it is given, and says how far its results move.
#[test]
fn a_model_takes_as_many_rows_as_are_given() {
    let (_keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "floats"]);
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let model = &source[source.find("model ").unwrap()..source.find("\ndata ").unwrap()];
    fs::write(folder.join("model.nn"), model).unwrap();
    answers(&folder, FLOATS, "native");
    let line = ["quantise", "model.nn", "--weights", FLOATS, "--all", "-o", "q.safetensors", "-i", "rows.csv"];
    let told = ok(&folder, &line);
    assert!(told.contains("answer `") && told.contains(" moves by "), "{told}");
    for (more, wanted) in [
        (&["--bind", "N=3"][..], "these are 16 rows, and --bind N says 3"),
        (&["--metric", "accuracy"], "--metric: a model without a `train` block"),
        (&["--max-drop", "1"], "--max-drop: a model without a `train` block"),
        (&["--examples", "3"], "--examples: a model without a `train` block"),
    ] {
        let said = fails(&folder, &[&line[..], more].concat());
        assert!(said.contains(wanted), "{said}");
    }
}
