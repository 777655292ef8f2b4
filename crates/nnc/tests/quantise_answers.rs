//! Answers with parameters of quantised networks: nothing showed their activations, so that they compute with floats,
//! by the weights that the integers stand for. No floats are kept for them.

mod common;

use common::{EXAMPLES, fails, nnc, ok};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const FLOATS: &str = "floats/last.safetensors";

/// The tensors of a file of weights, without the compiler's own, and their bytes.
fn network(file: &Path) -> (Vec<String>, usize) {
    let bytes = fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own: Vec<_> = file.tensors().into_iter().filter(|(name, _)| !name.starts_with('$')).collect();
    let size = own.iter().map(|(_, view)| view.data().len()).sum();
    (own.into_iter().map(|(name, _)| name).collect(), size)
}

/// What is said and told by `nnc quantise FILE --all`.
fn quantise(folder: &Path, file: &str, more: &[&str]) -> (Value, String) {
    let line = ["quantise", file, "--weights", FLOATS, "--all", "--max-drop", "100", "-o", "q.safetensors", "--json"];
    let output = nnc(folder, &[&line[..], more].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

#[test]
fn a_text_is_generated_from_integers_alone() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::create_dir(folder.join("data")).unwrap();
    for name in ["rhyme.nn", "data/rhyme.txt"] {
        fs::copy(Path::new(EXAMPLES).join(name), folder.join(name)).unwrap();
    }
    ok(folder, &["train", "rhyme.nn", "--out", "floats"]);
    let (told, said) = quantise(folder, "rhyme.nn", &[]);
    assert!(!said.contains("`text`"), "{said}");
    assert!(told["answers"].to_string().contains("\"f32_by_rounded_weights\":true"), "{told:#}");
    let (names, size) = network(&folder.join("q.safetensors"));
    assert!(names.contains(&"dense_1.w.q8".to_owned()) && !names.contains(&"dense_1.w".to_owned()), "{names:?}");
    assert_eq!(told["bytes"][1].as_u64().unwrap(), size as u64);
    assert!(size < network(&folder.join(FLOATS)).1, "{size} bytes");

    let text = fs::read_to_string(folder.join("data/rhyme.txt")).unwrap();
    for engine in ["native", "cranelift", "interp"] {
        let line = ["run", "rhyme.nn", "--weights", "q.safetensors", "--input", "prompt=T", "--engine", engine];
        assert_eq!(ok(folder, &line), format!("{text}\n"), "{engine}");
    }
    let ran = nnc(folder, &["run", "rhyme.nn", "--weights", "q.safetensors", "--input", "prompt=T"]);
    assert_eq!(String::from_utf8_lossy(&ran.stderr), "", "what integers of other answers need is no surplus");
    let with = |words: &[&str]| ok(folder, &[words, &["--weights", "q.safetensors"]].concat());
    with(&["build", "rhyme.nn", "--bind", "P=1", "-o", "recite"]);
    let ran = Command::new(folder.join("recite")).arg("T").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), format!("{text}\n"), "{}", String::from_utf8_lossy(&ran.stderr));
    with(&["bench", "rhyme.nn", "--bind", "P=1", "--seconds", "0.05"]);
    let compared = ok(
        folder,
        &["bench", "rhyme.nn", "--weights", FLOATS, "--compare", "q.safetensors", "--bind", "P=1", "--seconds", "0.02"],
    );
    let row = compared.lines().find(|line| line.starts_with("q.safetensors")).unwrap();
    assert!(row.contains("int8 weights") && !row.contains(" of "), "it computes in floats: {compared}");
    with(&["profile", "rhyme.nn", "--program", "answer", "--bind", "P=1", "--seconds", "0.05"]);
    with(&["explain", "rhyme.nn", "--program", "answer", "--bind", "P=1"]);
}

/// Normalisation that is folded into a convolution, a table that is the last layer, too, and answers of all kinds.
const MANY: &str = "
model Body(x: f32[N, 4, 6, 6]) -> f32[N, 8] {
    x = x |> conv2d(16, kernel=3, padding=1) |> batch_norm |> relu |> conv2d(16, kernel=3) |> batch_norm |> relu
    return x |> global_avg_pool2d |> dense(8)
}
model Net(x: f32[N, 4, 6, 6], words: i32[N, 5]) -> f32[N, 40] {
    param table: f32[40, 32] = normal_init(std=0.3)
    y = dense(mean(take(table, words), axis=1), 32) |> relu |> dense(24) |> relu
    return concat([Body(x), y], axis=1) @ transpose(table)
}
fn example() -> (f32[4, 6, 6], i32[5], i32) {
    image = normal([4, 6, 6])
    return image, i32(uniform([5]) * 40), i32(mean(image[0]) > 0.0) * 7
}
data made {
    train: (f32[4, 6, 6], i32[5], i32) = synthetic(example, count=400)
    validation = 0.25; test = 0.2
    x: f32[4, 6, 6] = train.0
    words: i32[5] = train.1
    label: i32 = train.2
}
train Net on made {
    epochs = 2; batch = 20
    z = Net(x, words)
    minimize cross_entropy(z, label) using adam(lr=0.01)
    metric accuracy = accuracy(z, label)
    answer plain = z
    answer by(k: f32 = 1.0) = Net(x, words) * k
ANSWERS}
";

fn many(answers: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("many.nn"), MANY.replace("ANSWERS", answers)).unwrap();
    ok(folder.path(), &["train", "many.nn", "--out", "floats"]);
    folder
}

/// Where no answer can tell whether weights that examples rounded are better, they are taken.
#[test]
fn what_no_answer_tells_of_is_refined() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = MANY.replace("    answer plain = z\n", "").replace("ANSWERS", "");
    fs::write(folder.join("many.nn"), text).unwrap();
    ok(folder, &["train", "many.nn", "--out", "floats"]);
    let (told, _) = quantise(folder, "many.nn", &[]);
    assert!(told["weights_rounded_by_examples"] == true && told["means_set_right"] == true, "{told:#}");
}

/// The numbers of an answer of the first example.
fn numbers(folder: &Path, weights: &str, answer: &str, more: &[&str]) -> Vec<f64> {
    let line = ["run", "many.nn", "--weights", weights, "--answer", answer, "--json"];
    let told: Value = serde_json::from_str(&ok(folder, &[&line[..], more].concat())).unwrap();
    let values = &told["answers"][answer]["values"][0];
    values.as_array().unwrap_or_else(|| panic!("{told:#}")).iter().map(|value| value.as_f64().unwrap()).collect()
}

fn far(floats: &[f64], rounded: &[f64]) -> f64 {
    let largest = floats.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    floats.iter().zip(rounded).fold(0f64, |far, (a, b)| far.max((a - b).abs())) / largest
}

#[test]
fn no_floats_stay_for_answers_that_can_be_made() {
    let keep = many("");
    let folder = keep.path();
    let (told, said) = quantise(folder, "many.nn", &[]);
    assert!(!said.contains("kept"), "{said}");
    let (names, size) = network(&folder.join("q.safetensors"));
    let floats: Vec<&String> = names.iter().filter(|name| name.ends_with(".w") || *name == "table").collect();
    assert!(floats.is_empty(), "{names:?}");
    assert!(size as f64 <= 0.5 * told["bytes"][0].as_f64().unwrap(), "{told:#}");
    ok(folder, &["eval", "many.nn", "--weights", "q.safetensors"]);
    let image: Vec<String> = (0..4 * 36).map(|at| format!("{:.3}", (at * 37 % 101) as f64 / 50.0 - 1.0)).collect();
    fs::write(folder.join("x.csv"), image.join(",") + "\n").unwrap();
    fs::write(folder.join("w.csv"), "3,1,39,20,7\n").unwrap();
    for (answer, input) in [
        ("plain", &["--input", "x=x.csv", "--input", "words=w.csv"][..]),
        ("by", &["--input", "x=x.csv", "--input", "words=w.csv", "--set", "k=3"][..]),
    ] {
        let [floats, rounded] = [FLOATS, "q.safetensors"].map(|weights| numbers(folder, weights, answer, input));
        let far = far(&floats, &rounded);
        assert!(far > 0.0 && far < 0.05, "{answer} is {far} off");
        let interpreted = numbers(folder, "q.safetensors", answer, &[input, &["--engine", "interp"]].concat());
        assert!(self::far(&rounded, &interpreted) < 1e-3, "{answer}: {rounded:?}, {interpreted:?}");
    }
}

/// What a setting is that has no default only who runs it knows: floats stay that integers may not stand for, and files
/// are read with and without it.
#[test]
fn floats_stay_for_answers_that_nobody_can_make() {
    let keep = many("    answer deep(k: int) = Net(x, words) * 2.0 ** k\n");
    let folder = keep.path();
    let (_, said) = quantise(folder, "many.nn", &[]);
    assert!(said.contains("`deep` cannot be made without values for all settings") && said.contains("--set"), "{said}");
    let (names, _) = network(&folder.join("q.safetensors"));
    assert!(names.iter().any(|name| name.ends_with("conv2d_1.w")), "{names:?}");
    assert!(!names.iter().any(|name| name.ends_with("dense_1.w")), "integers stand for it everywhere: {names:?}");
    ok(folder, &["eval", "many.nn", "--weights", "q.safetensors"]);
    ok(folder, &["eval", "many.nn", "--weights", "q.safetensors", "--set", "k=1"]);
    let (_, said) = quantise(folder, "many.nn", &["--set", "k=3"]);
    assert!(!said.contains("`deep`"), "{said}");
    let (fewer, _) = network(&folder.join("q.safetensors"));
    assert!(!fewer.iter().any(|name| name.ends_with("conv2d_1.w")), "{fewer:?}");
    ok(folder, &["eval", "many.nn", "--weights", "q.safetensors"]);
}

#[test]
fn a_percentile_is_of_its_own_range() {
    let keep = many("");
    let folder = keep.path();
    let line = ["quantise", "many.nn", "--weights", FLOATS, "--all", "-o", "p.safetensors"];
    let said = fails(folder, &[&line[..], &["--percentile", "99"]].concat());
    assert!(said.contains("--percentile 99") && said.contains("--range percentile"), "{said}");
    assert!(!folder.join("p.safetensors").exists());
    let scales = |more: &[&str]| -> Vec<f64> {
        let told = ok(folder, &[&line[..], more, &["--json"]].concat());
        let told: Value = serde_json::from_str(&told).unwrap();
        let layers = told["layers"].as_array().unwrap().iter();
        layers.filter_map(|layer| layer["choice"]["int8"]["scale"].as_f64()).collect()
    };
    let all = scales(&["--range", "minmax"]);
    let most = scales(&["--range", "percentile"]);
    let some = scales(&["--range", "percentile", "--percentile", "90"]);
    let mse = scales(&[]);
    let is_less = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b);
    assert!(is_less(&some, &most) && is_less(&most, &all) && is_less(&mse, &all), "{some:?} {most:?} {mse:?} {all:?}");
}
