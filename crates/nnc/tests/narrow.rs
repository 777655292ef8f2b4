//! Weights of few bits as a user meets them: smaller files that every command takes, the same bits everywhere,
//! refusals.

mod common;

use common::{Stored, accuracy, altered, digits, fails, nnc, ok};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const FLOATS: &str = "floats/last.safetensors";

/// The digits, trained for a few epochs, and their weights in each form.
fn stored() -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=3", "--out", "floats"]);
    for form in ["bf16", "int8", "int4"] {
        let output = format!("{form}.safetensors");
        let line = ["quantise", "digits.nn", "--weights", FLOATS, "--weights-only", form, "--all"];
        ok(&folder, &[&line[..], &["--max-drop", "100", "-o", &output]].concat());
    }
    (keep, folder)
}

#[test]
fn files_become_small_and_stay_good() {
    let (_keep, folder) = stored();
    let size = |file: &str| fs::metadata(folder.join(file)).unwrap().len() as f64;
    let floats = accuracy(&folder, FLOATS, "native");
    for (form, share, lost) in [("bf16", 0.62, 0.01), ("int8", 0.45, 0.01), ("int4", 0.36, 0.05)] {
        let file = format!("{form}.safetensors");
        let smaller = size(&file) / size(FLOATS);
        assert!(smaller < share, "{form}: {smaller}");
        let accurate = accuracy(&folder, &file, "native");
        assert!((floats - accurate).abs() <= lost, "{form}: {floats} became {accurate}");
        assert_eq!(accurate, accuracy(&folder, &file, "interp"), "{form}");
    }
    let bytes = fs::read(folder.join("int4.safetensors")).unwrap();
    let names: Vec<String> = SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned).collect();
    let has = |name: &str| names.iter().any(|other| other == name);
    assert!(has("dense_1.w.stored") && has("dense_1.w.scales") && has("$stored.dense_1.w"), "{names:?}");
    assert!(!has("dense_1.w") && has("dense_1.b") && has("dense_2.w"), "{names:?}");
}

#[test]
fn examples_tell_better_numbers_for_the_same_scales() {
    let (_keep, folder) = stored();
    let line = ["quantise", "digits.nn", "--weights", FLOATS, "--weights-only", "int4", "--all", "--max-drop", "100"];
    let made = |file: &str, more: &[&str]| -> (f64, Value) {
        let told = ok(&folder, &[&line[..], &["--metric", "loss", "--json", "-o", file], more].concat());
        let told: Value = serde_json::from_str(&told).unwrap();
        (told["measured"]["drop"].as_f64().unwrap(), told["rounded_by"].clone())
    };
    let (nearest, by_none) = made("nearest.safetensors", &["--examples", "8"]);
    let (fitted, by) = made("fitted.safetensors", &[]);
    assert!(by_none.is_null() && by.as_u64().unwrap() >= 256, "{by_none} and {by}");
    assert!(fitted < nearest, "the loss grows by {fitted} %, with the nearest numbers by {nearest} %");
    let tensor = |file: &str, name: &str| -> Vec<u8> {
        let bytes = fs::read(folder.join(file)).unwrap();
        SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec()
    };
    let [scales, numbers] = ["scales", "stored"].map(|of| {
        let name = format!("dense_1.w.{of}");
        tensor("nearest.safetensors", &name) == tensor("fitted.safetensors", &name)
    });
    assert!(scales && !numbers);
    // Nothing is stored: nothing is rounded by any.
    let strict = ["quantise", "digits.nn", "--weights", FLOATS, "--weights-only", "int4", "--group", "128", "--all"];
    let told = ok(&folder, &[&strict[..], &["--metric", "loss", "--max-drop", "0", "--json", "-o", "s"]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    let is_stored = told["matrices"].as_array().unwrap().iter().any(|row| row["choice"]["bits"].is_u64());
    assert!(is_stored || told["rounded_by"].is_null(), "{told:#}");
    let line = ["quantise", "digits.nn", "--weights", FLOATS, "--weights-only", "bf16", "--examples", "64", "-o", "b"];
    let said = fails(&folder, &line);
    assert!(said.contains("--examples: bf16 is rounded to the nearest"), "{said}");
}

#[test]
fn every_engine_gives_the_same_bits() {
    let (_keep, folder) = stored();
    let pixels: Vec<String> = (0..64).map(|at| ((at * 7) % 17).to_string()).collect();
    fs::write(folder.join("row.csv"), pixels.join(",") + "\n").unwrap();
    for form in ["bf16", "int8", "int4"] {
        let file = format!("{form}.safetensors");
        let answer = |engine: &str, threads: &str| {
            let line = ["run", "digits.nn", "--weights", &file, "--engine", engine, "--threads", threads];
            ok(&folder, &[&line[..], &["--input", "row.csv", "--output", "y.npy"]].concat());
            fs::read(folder.join("y.npy")).unwrap()
        };
        let first = answer("native", "1");
        for (engine, threads) in [("native", "2"), ("cranelift", "1"), ("cranelift", "2")] {
            assert_eq!(answer(engine, threads), first, "{form}, {engine} on {threads}");
        }
        ok(&folder, &["build", "digits.nn", "--weights", &file, "-o", "digits"]);
        let mut command = Command::new(folder.join("digits"));
        let ran = command.args(["row.csv", "--output", "z.npy"]).current_dir(&folder).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(fs::read(folder.join("z.npy")).unwrap(), first, "the executable of {form}");
    }
}

#[test]
fn every_command_takes_the_file() {
    let (_keep, folder) = stored();
    let with = |words: &[&str]| ok(&folder, &[words, &["--weights", "int4.safetensors"]].concat());
    assert!(with(&["explain", "digits.nn"]).contains("int4 in groups of 64"));
    with(&["profile", "digits.nn", "--program", "eval", "--seconds", "0.05"]);
    with(&["bench", "digits.nn", "--seconds", "0.05"]);
    assert!(with(&["dump", "digits.nn", "--program", "answer", "--at", "graph"]).contains("dot_stored[bits=4"));
}

#[test]
fn networks_that_lost_channels_are_stored_too() {
    let (_keep, folder) = stored();
    ok(&folder, &["prune", "digits.nn", "--weights", FLOATS, "--channels", "0.4", "-o", "small.safetensors"]);
    let line = ["quantise", "digits.nn", "--weights", "small.safetensors", "--weights-only", "int8", "--group", "8"];
    ok(&folder, &[&line[..], &["--all", "--max-drop", "100", "-o", "both.safetensors"]].concat());
    let [floats, both] = ["small.safetensors", "both.safetensors"].map(|file| accuracy(&folder, file, "native"));
    assert!((floats - both).abs() <= 0.02, "{floats} became {both}");
    let line = ["bench", "digits.nn", "--weights", FLOATS, "--compare", "small.safetensors", "int4.safetensors"];
    let told = ok(&folder, &[&line[..], &["--seconds", "0.05"]].concat());
    assert!(told.contains("fewer channels") && told.contains("int4 weights"), "{told}");
}

/// A table that picks rows and multiplies; what it stands for is read by both.
#[test]
fn tables_that_are_the_last_layer_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "model Tied(tokens: i32[N, 4]) -> f32[N, 4, 96] {
    param table: f32[96, 64] = normal_init(std=0.5)
    return take(table, tokens) @ transpose(table)
}
";
    fs::write(folder.join("tied.nn"), text).unwrap();
    let values: Vec<u8> =
        (0..96 * 64).flat_map(|at| (((at * 7919) % 2003) as f32 / 1001.0 - 1.0).to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![96, 64], &values).unwrap();
    fs::write(folder.join("w.safetensors"), safetensors::serialize([("table", view)], None).unwrap()).unwrap();
    fs::write(folder.join("t.csv"), "0,5,95,7\n").unwrap();
    for form in ["bf16", "int8", "int4"] {
        let line = ["quantise", "tied.nn", "--weights", "w.safetensors", "--weights-only", form, "--all"];
        ok(folder, &[&line[..], &["-o", "q.safetensors"]].concat());
        let answer = |engine: &str| {
            let line = ["run", "tied.nn", "--weights", "q.safetensors", "--input", "t.csv", "--engine", engine];
            ok(folder, &[&line[..], &["--output", "y.npy"]].concat());
            fs::read(folder.join("y.npy")).unwrap()
        };
        assert_eq!(answer("native"), answer("cranelift"), "{form}");
    }
}

/// The file that a layer of a model without a recipe begins with is an input, too.
#[test]
fn files_of_layers_are_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "model Two(x: f32[N, 64]) -> f32[N, 8] {
    layer first = dense(64) from \"part.safetensors\"
    return first(x) |> dense(8)
}
";
    fs::write(folder.join("two.nn"), text).unwrap();
    let zeros = vec![0u8; 4 * 64 * 64];
    let view = |dims: &[usize]| {
        let bytes = &zeros[..4 * dims.iter().product::<usize>()];
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, dims.to_vec(), bytes).unwrap()
    };
    let part = [("w", view(&[64, 64])), ("b", view(&[64]))];
    let rest = [("dense_1.w", view(&[64, 8])), ("dense_1.b", view(&[8]))];
    let whole = [("first.w", view(&[64, 64])), ("first.b", view(&[64]))].into_iter().chain(rest);
    let before = safetensors::serialize(part, None).unwrap();
    fs::write(folder.join("part.safetensors"), &before).unwrap();
    fs::write(folder.join("w.safetensors"), safetensors::serialize(whole, None).unwrap()).unwrap();
    let line = ["quantise", "two.nn", "--weights", "w.safetensors", "--weights-only", "int8", "-o"];
    ok(folder, &[&line[..], &["q.safetensors"]].concat());
    assert!(fails(folder, &[&line[..], &["part.safetensors"]].concat()).contains("is an input"));
    assert_eq!(fs::read(folder.join("part.safetensors")).unwrap(), before);
}

#[test]
fn a_metric_that_drops_takes_matrices_back() {
    let (_keep, folder) = stored();
    let line = ["quantise", "digits.nn", "--weights", FLOATS, "--weights-only", "int4", "--metric", "loss"];
    let told = ok(&folder, &[&line[..], &["--max-drop", "0", "--json", "-o", "p.safetensors"]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    let [before, after] = ["before", "after"].map(|when| told["measured"][when].as_f64().unwrap());
    assert!(after <= before, "{told}");
}

#[test]
fn what_is_no_matrix_is_told() {
    let (_keep, folder) = stored();
    let line = ["quantise", "digits.nn", "--weights", FLOATS, "--weights-only", "int8", "-o", "p.safetensors"];
    let told = ok(&folder, &line);
    let row = told.lines().find(|line| line.starts_with("conv2d_2.w")).unwrap_or_else(|| panic!("{told}"));
    assert!(row.contains("32x16x3x3") && row.contains("it is no matrix"), "{told}");
    let row = told.lines().find(|line| line.starts_with("conv2d_1.w")).unwrap_or_else(|| panic!("{told}"));
    assert!(row.contains("it is no matrix"), "every product is listed, however small: {told}");
    assert!(!told.contains("conv2d_1.b"), "a bias is none: {told}");
}

#[test]
fn what_products_read_otherwise_is_no_small_matrix() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    let model = "model Net(x: f32[N, 128]) -> f32[N, 4] {
    param big: f32[64, 128] = glorot_uniform()
    return dense(x @ transpose(tanh(big), [1, 0]), 4)
}
";
    fs::write(folder.join("net.nn"), model).unwrap();
    let floats = |dims: &[usize]| Stored::floats(dims, &vec![0.5; dims.iter().product()]);
    let own = [("big", floats(&[64, 128])), ("dense_1.w", floats(&[64, 4])), ("dense_1.b", floats(&[4]))];
    let own = own.map(|(name, tensor)| (name.to_owned(), tensor)).into();
    common::write(&folder.join("w.safetensors"), &own, None);
    let line = ["quantise", "net.nn", "--weights", "w.safetensors", "--weights-only", "int8", "-o", "q.safetensors"];
    let said = fails(folder, &line);
    assert!(said.contains("`big`: products read what is made of it") && !said.contains("all have fewer"), "{said}");
}

#[test]
fn what_f64_has_not_is_said() {
    let (_keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--dtype", "f64", "--set", "epochs=1", "--out", "doubles"]);
    let line =
        ["quantise", "digits.nn", "--dtype", "f64", "--weights", "doubles/last.safetensors", "-o", "p.safetensors"];
    for words in [&[][..], &["--weights-only", "int8"]] {
        let said = fails(&folder, &[&line[..], words].concat());
        assert!(said.contains("of f64 are not") && said.contains("--dtype f64"), "{said}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_keep, folder) = stored();
    let quantise = |words: &[&str]| {
        fails(&folder, &[&["quantise", "digits.nn", "-o", "p.safetensors", "--weights"], words].concat())
    };
    assert!(quantise(&[FLOATS, "--weights-only", "int4", "--group", "12"]).contains("a multiple of 8"));
    assert!(quantise(&[FLOATS, "--weights-only", "int8", "--group", "4096"]).contains("`--group`"));
    assert!(quantise(&[FLOATS, "--group", "32"]).contains("--weights-only"));
    assert!(quantise(&[FLOATS, "--weights-only", "int8", "--range", "entropy"]).contains("cannot be used with"));
    assert!(quantise(&["int8.safetensors", "--weights-only", "int4"]).contains("are quantised"));
    assert!(!folder.join("p.safetensors").exists());
    assert!(quantise(&[FLOATS, "--weights-only", "bf16", "--group", "32"]).contains("bf16 has no scales"));
    let other = "model Other(x: f32[N, 8]) -> f32[N, 2] { return dense(x, 2) }\n";
    fs::write(folder.join("other.nn"), other).unwrap();
    fs::write(folder.join("x.csv"), "1,2,3,4,5,6,7,8\n").unwrap();
    let ran = fails(&folder, &["run", "other.nn", "--weights", "int8.safetensors", "--input", "x.csv"]);
    assert!(ran.contains("another model"), "{ran}");
    broken_records(&folder);
}

/// What is said of every file that cannot be so.
const DAMAGED: &str = "the file is damaged; quantise the floats again";

/// Records that are lies, each told in one sentence.
fn broken_records(folder: &Path) {
    for (numbers, told) in
        [([9, 64, 0], "no number of bits"), ([8, 48, 0], "other than its record"), ([4, 64, 0], "asks for")]
    {
        altered(folder, "int8.safetensors", "broken.safetensors", |tensors| {
            tensors.insert("$stored.dense_1.w".to_owned(), Stored::whole(&[3], &numbers));
        });
        let read = fails(folder, &["eval", "digits.nn", "--weights", "broken.safetensors"]);
        assert!(read.contains(told) && read.contains(DAMAGED), "{numbers:?}: {read}");
    }
    for (path, told) in [("dense_1.w.stored", "not there, though"), ("dense_1.w.scales", "not there, and")] {
        altered(folder, "int8.safetensors", "broken.safetensors", |tensors| drop(tensors.remove(path)));
        let read = fails(folder, &["eval", "digits.nn", "--weights", "broken.safetensors"]);
        assert!(read.contains(&format!("`{path}` is {told}")) && read.contains(DAMAGED), "{path}: {read}");
    }
}

/// A network whose matrices have 176 and 100 terms.
const ODD: &str = "
model Net(x: f32[N, 8]) -> f32[N, 4] { return dense(dense(dense(x, 176) |> relu, 100) |> relu, 64) |> dense(4) }
";

/// Each matrix has the largest groups that it can have; those that were asked for are taken, or the matrix is told of.
#[test]
fn groups_are_those_that_matrices_have() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::write(folder.join("odd.nn"), ODD).unwrap();
    let (first, second) = (vec![0.25; 176 * 100], vec![0.5; 100 * 64]);
    odd_weights(folder, &first, &second);
    let quantise = |more: &[&str]| {
        let line =
            ["quantise", "odd.nn", "--weights", "w.safetensors", "--all", "-o", "q.safetensors", "--weights-only"];
        nnc(folder, &[&line[..], more].concat())
    };
    let output = quantise(&["int4"]);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && out.contains("int4 in groups of 16"), "{out}{err}");
    assert!(err.contains("what has no whole groups stays f32: `dense_3.w` (100 terms; none would do)"), "{err}");
    let output = quantise(&["int8", "--group", "88"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("int8 in groups of 88"));
    let output = quantise(&["int8", "--group", "32"]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && err.contains("`dense_2.w` (176 terms; 8, 16, 88 would do)"), "{err}");
}

/// What is no number is told with its file and its parameter; where nothing else is there, nothing is written.
#[test]
fn weights_that_are_no_numbers_are_named() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::write(folder.join("odd.nn"), ODD.replace("100", "128")).unwrap();
    let (good, mut bad) = (vec![0.25; 176 * 128], vec![0.5; 128 * 64]);
    bad[7] = f32::NAN;
    odd_weights(folder, &good, &bad);
    let line = ["quantise", "odd.nn", "--weights", "w.safetensors", "--all", "-o", "q.safetensors"];
    let narrow = [&line[..], &["--weights-only", "int8"]].concat();
    let output = nnc(folder, &narrow);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && err.contains("`dense_3.w` of w.safetensors holds a NaN"), "{err}");
    fs::remove_file(folder.join("q.safetensors")).unwrap();
    odd_weights(folder, &vec![f32::NAN; 176 * 128], &bad);
    let said = fails(folder, &narrow);
    assert!(said.contains("w.safetensors: no matrix can be stored: `dense_2.w`, `dense_3.w` has a NaN"), "{said}");
    altered(folder, "w.safetensors", "w.safetensors", |tensors| {
        tensors.insert("dense_1.w".to_owned(), Stored::floats(&[8, 176], &[f32::NAN; 8 * 176]));
        tensors.insert("dense_4.w".to_owned(), Stored::floats(&[64, 4], &[f32::NAN; 64 * 4]));
    });
    fs::write(folder.join("x.csv"), "1,2,3,4,5,6,7,8\n").unwrap();
    let said = fails(folder, &[&line[..], &["--input", "x=x.csv"]].concat());
    assert!(said.contains("w.safetensors: `dense_") && said.contains("nothing is quantised"), "{said}");
    assert!(!folder.join("q.safetensors").exists());
}

/// The weights of the network with odd numbers of terms.
fn odd_weights(folder: &Path, second: &[f32], third: &[f32]) {
    let middle = second.len() / 176;
    let layers = [
        (8, 176, vec![0.1; 8 * 176]),
        (176, middle, second.to_vec()),
        (middle, 64, third.to_vec()),
        (64, 4, vec![0.2; 64 * 4]),
    ];
    let mut tensors = Vec::new();
    for (at, (terms, columns, values)) in (1..).zip(layers) {
        tensors.push((format!("dense_{at}.w"), Stored::floats(&[terms, columns], &values)));
        tensors.push((format!("dense_{at}.b"), Stored::floats(&[columns], &vec![0.0; columns])));
    }
    let views = tensors.iter().map(|(name, Stored { dtype, dims, bytes })| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, dims.clone(), bytes).unwrap())
    });
    fs::write(folder.join("w.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}
