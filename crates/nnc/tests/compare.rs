//! `nnc bench --compare`: the weights of several files beside each other.

mod common;

use common::{digits, fails, mask, nnc, ok};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
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

/// Floats that are rounded when they run, as they were trained to be, do their products with integers.
#[test]
fn what_was_trained_with_rounding_says_how_many_products_are_of_integers() {
    let (_keep, folder) = digits();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    fs::write(folder.join("digits.nn"), source.replace("    metric accuracy", "    quantise()\n    metric accuracy"))
        .unwrap();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "floats"]);
    let told = ok(&folder, &["bench", "digits.nn", "--seconds", "0.02", "--weights", FLOATS, "--compare", FLOATS]);
    assert!(
        told.lines().filter(|line| line.starts_with("floats") && line.contains("int8 3 of 4")).count() == 2,
        "{told}"
    );
}

#[test]
fn a_plot_is_svg() {
    let (_keep, folder) = digits();
    for line in [&["bench", "--weights", "w", "--compare", "v"][..], &["compress", "--weights", "w", "-o", "c"]] {
        let said = fails(&folder, &[line, &["digits.nn", "--plot", "fr.png"]].concat());
        assert!(said.contains("a name that ends in `.svg` is wanted"), "{said}");
        assert!(!folder.join("fr.png").exists());
    }
}

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
    assert!(with(&["--plot", "small.safetensors"]).contains("a name that ends in `.svg` is wanted"));
    fs::write(folder.join("notes.svg"), "mine").unwrap();
    assert!(with(&["--plot", "notes.svg"]).contains("no SVG picture"));
    assert_eq!(fs::read_to_string(folder.join("notes.svg")).unwrap(), "mine");
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

/// What is pruned stays so in whatever numbers, and its zeros are counted; explained is that bytes multiply them.
#[test]
fn zeros_and_masks_are_those_of_the_weights() {
    let (_keep, folder) = forms();
    let quantise = ["quantise", "digits.nn", "--weights", "pruned.safetensors", "--all", "--max-drop", "100", "-o"];
    ok(&folder, &[&quantise[..], &["p8.safetensors"]].concat());
    ok(&folder, &[&quantise[..], &["p4.safetensors", "--weights-only", "int4"]].concat());
    let line = ["bench", "digits.nn", "--seconds", "0.02", "--weights", FLOATS, "--json", "--compare"];
    let told = ok(&folder, &[&line[..], &["p8.safetensors", "p4.safetensors"]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    let files = told["files"].as_array().unwrap();
    for (file, words) in files[1..].iter().zip(["int8 3 of 4, pruned", "int4 weights, pruned"]) {
        let zeros = file["form"]["zeros"].as_f64().unwrap();
        assert!(file["form"]["words"] == words && (0.7..0.8).contains(&zeros), "{file}");
    }
    let dense = mask(&folder.join("pruned.safetensors"), "dense_1.w");
    for file in ["p8.safetensors", "p4.safetensors"] {
        assert_eq!(mask(&folder.join(file), "dense_1.w"), dense);
        let tuned = format!("tuned-{file}");
        ok(&folder, &["train", "digits.nn", "--init", file, "--set", "epochs=1", "--out", &tuned]);
        assert_eq!(mask(&folder.join(tuned).join("last.safetensors"), "dense_1.w"), dense, "{file}");
        let explained = ok(&folder, &["explain", "digits.nn", "--program", "answer", "--weights", file]);
        let numbers = if file == "p8.safetensors" { "bytes" } else { "few bits" };
        assert!(explained.contains(&format!("% zeros, products of {numbers} multiply them")), "{explained}");
    }
    let size = |file: &str| fs::metadata(folder.join(file)).unwrap().len() as f64;
    assert!(size("p8.safetensors") < 0.4 * size("pruned.safetensors"), "{}", size("p8.safetensors"));
}

/// Integers of another shape than the model has are named, as floats are, and all others are taken; so are weights with
/// masks.
#[test]
fn what_does_not_fit_is_left_out() {
    let (_keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "floats"]);
    ok(&folder, &["quantise", "digits.nn", "--weights", FLOATS, "--all", "--max-drop", "100", "-o", "q.safetensors"]);
    ok(&folder, &["prune", "digits.nn", "--weights", FLOATS, "--sparsity", "0.5", "-o", "pruned.safetensors"]);
    let narrow = fs::read_to_string(folder.join("digits.nn")).unwrap().replace("dense(64)", "dense(48)");
    fs::write(folder.join("narrow.nn"), narrow).unwrap();
    for (file, out) in [("q.safetensors", "of-integers"), ("pruned.safetensors", "of-pruned")] {
        let line = ["train", "narrow.nn", "--init", file, "--set", "epochs=1", "--out", out];
        let trained = nnc(&folder, &line);
        let said = String::from_utf8(trained.stderr).unwrap();
        let told = format!("not taken from {file}: ");
        assert!(trained.status.success() && said.contains(&told) && said.contains("dense_1.w"), "{said}");
        assert!(!said.contains("conv2d_2"), "{said}");
    }
}

/// Integers and few bits are trained further as the floats that they stand for, also with a normalisation folded in.
#[test]
fn what_numbers_stand_for_is_trained_further() {
    let (_keep, folder) = digits();
    fs::write(folder.join("digits.nn"), NORMED).unwrap();
    ok(&folder, &["train", "digits.nn", "--out", "floats"]);
    let quantise = ["quantise", "digits.nn", "--weights", FLOATS, "--all", "--max-drop", "100"];
    // By so few examples each number is the nearest.
    let nearest = [&quantise[..], &["--examples", "8", "-o"]].concat();
    ok(&folder, &[&nearest[..], &["q8.safetensors"]].concat());
    ok(&folder, &[&quantise[..], &["-o", "bf16.safetensors", "--weights-only", "bf16"]].concat());
    for form in ["int8", "int4"] {
        ok(&folder, &[&nearest[..], &[&format!("{form}.safetensors"), "--weights-only", form]].concat());
    }
    // Nothing is learned: what comes out is what goes in.
    fs::write(folder.join("still.nn"), NORMED.replace("adamw(lr=3e-3)", "sgd(lr=0.0)")).unwrap();
    fs::write(
        folder.join("rounded.nn"),
        NORMED.replace("adamw(lr=3e-3)", "sgd(lr=0.0)\n    quantise(start=0.0, momentum=0.9999999)"),
    )
    .unwrap();
    // Of four bits the largest values are clipped where all others gain by it.
    for (file, far) in [("q8", 1.0 / 128.0), ("bf16", 1.0 / 256.0), ("int8", 1.0 / 254.0), ("int4", 0.25)] {
        let file = format!("{file}.safetensors");
        let line = ["train", "still.nn", "--init", &file, "--set", "epochs=1", "--out", "still"];
        let trained = nnc(&folder, &line);
        let said = String::from_utf8(trained.stderr).unwrap();
        assert!(trained.status.success() && said.contains("training goes on with the floats"), "{said}");
        assert!(!said.contains("not taken"), "{said}");
        for name in names(&folder, FLOATS, ".w") {
            let [given, made] = [FLOATS, "still/last.safetensors"].map(|file| floats(&folder, file, &name));
            let largest = given.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let worst = given.iter().zip(&made).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(worst <= 1.01 * far * largest, "{file}, {name}: {worst} of {largest}");
        }
        fs::remove_dir_all(folder.join("still")).unwrap();
    }
    ok(&folder, &["train", "rounded.nn", "--init", "q8.safetensors", "--set", "epochs=1", "--out", "rounded"]);
    for name in names(&folder, "q8.safetensors", ".q8") {
        let name = name.trim_end_matches(".q8");
        let [scale, sign] = floats(&folder, "q8.safetensors", &format!("$quantised.{name}"))[..] else {
            panic!("{name}")
        };
        let layer = name.split('@').next().unwrap();
        let top = floats(&folder, "rounded/last.safetensors", &format!("$quantise.{layer}.top"))[0];
        let wanted = scale * if sign == 1.0 { 127.0 } else { 255.0 };
        assert!((top / wanted - 1.0).abs() < 1e-5, "{layer}: {top}, not {wanted}");
    }
}

fn names(folder: &Path, file: &str, end: &str) -> Vec<String> {
    let bytes = fs::read(folder.join(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let is_meant = |name: &&str| name.ends_with(end) && !name.starts_with('$');
    tensors.names().into_iter().filter(is_meant).map(str::to_owned).collect()
}

fn floats(folder: &Path, file: &str, name: &str) -> Vec<f32> {
    let bytes = fs::read(folder.join(file)).unwrap();
    let data = SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec();
    data.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Weights of other settings are told by their shapes, those of another dtype in a line.
#[test]
fn what_differs_is_said() {
    let (_keep, folder) = digits();
    let wide = NORMED.replace("dense(32)", "dense(width)").replace("epochs = 2", "epochs = 1");
    let wide = wide.replace("model Net(image: f32[N, 1, 8, 8])", "model Net(image: f32[N, 1, 8, 8], width: int = 32)");
    let wide = wide.replace("logits = Net(image)", "width = 32\n    logits = Net(image, width=width)");
    fs::write(folder.join("wide.nn"), wide).unwrap();
    ok(&folder, &["train", "wide.nn", "--out", "floats"]);
    let line = ["quantise", "wide.nn", "--weights", FLOATS, "--all", "--max-drop", "100", "-o", "q8.safetensors"];
    ok(&folder, &line);
    let other = fails(&folder, &["bench", "wide.nn", "--weights", "q8.safetensors", "--set", "width=48"]);
    let differs = "the model has [512, 48], the file has [512, 32]";
    assert!(other.contains(differs) && other.contains("q8.safetensors"), "{other}");
    let doubles = fails(&folder, &["eval", "wide.nn", "--weights", FLOATS, "--dtype", "f64"]);
    assert!(doubles.contains("leave out `--dtype f64`") && !doubles.contains("dense_1.w"), "{doubles}");
}
