//! Channels that go, as a user meets it: smaller files that every command takes, and what is refused.

mod common;

use common::{digits, fails, mask, nnc, ok};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The digits, trained for two epochs.
fn trained() -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=2", "--out", "dense"]);
    (keep, folder)
}

const DENSE: &str = "dense/last.safetensors";
const SMALL: &str = "small.safetensors";

/// Half of the multiply-adds of the trained digits go.
fn halve(folder: &Path) {
    ok(folder, &["prune", "digits.nn", "--weights", DENSE, "--channels", "0.5", "-o", SMALL]);
}

fn with<T>(file: &Path, of: impl FnOnce(&SafeTensors<'_>) -> T) -> T {
    let bytes = fs::read(file).unwrap();
    of(&SafeTensors::deserialize(&bytes).unwrap())
}

fn shape(file: &Path, name: &str) -> Vec<usize> {
    with(file, |tensors| tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).shape().to_vec())
}

fn bytes(file: &Path, name: &str) -> Vec<u8> {
    with(file, |tensors| tensors.tensor(name).unwrap().data().to_vec())
}

#[test]
fn tensors_get_smaller_and_the_record_says_what_was_kept() {
    let (_keep, folder) = trained();
    let words = ["prune", "digits.nn", "--weights", DENSE, "--channels", "0.5", "-o", SMALL, "--json"];
    let report: Value = serde_json::from_str(&ok(&folder, &words)).unwrap();
    let [before, after] = [0, 1].map(|at| report["multiply_adds"][at].as_f64().unwrap());
    // 9 * 16 * 64 + 9 * 16 * 32 * 16 + 128 * 64 + 64 * 10.
    assert_eq!(before, 91_776.0);
    assert!(after <= before / 2.0 && after > before / 4.0, "{after}");
    let small = folder.join(SMALL);
    let [first, second, hidden] = ["conv2d_1.b", "conv2d_2.b", "dense_1.b"].map(|name| shape(&small, name)[0]);
    assert_eq!(shape(&small, "conv2d_1.w"), [first, 1, 3, 3]);
    assert_eq!(shape(&small, "conv2d_2.w"), [second, first, 3, 3]);
    assert_eq!(shape(&small, "dense_1.w"), [4 * second, hidden]);
    assert_eq!(shape(&small, "dense_2.w"), [hidden, 10]);
    let kept = bytes(&small, "$prune.conv2d_1.w.channels.0");
    assert_eq!((kept.len(), kept.iter().filter(|&&kept| kept == 1).count()), (16, first));
    assert_eq!(kept, bytes(&small, "$prune.conv2d_2.w.channels.1"));
    // What was kept is what it was.
    let (whole, left) = (bytes(&folder.join(DENSE), "conv2d_1.b"), bytes(&small, "conv2d_1.b"));
    let wanted: Vec<u8> =
        whole.chunks(4).zip(&kept).filter(|(_, kept)| **kept == 1).flat_map(|(b, _)| b).copied().collect();
    assert_eq!(left, wanted);
}

#[test]
fn every_command_takes_the_small_network() {
    let (_keep, folder) = trained();
    halve(&folder);
    let eval = ["eval", "digits.nn", "--weights", SMALL, "--json"];
    let native = ok(&folder, &eval);
    for engine in ["cranelift", "avx2"] {
        assert_eq!(ok(&folder, &[&eval[..], &["--engine", engine]].concat()), native, "{engine}");
    }
    assert_eq!(ok(&folder, &[&eval[..], &["--threads", "1"]].concat()), native);
    ok(&folder, &["bench", "digits.nn", "--weights", SMALL, "--seconds", "0.05"]);
    ok(&folder, &["profile", "digits.nn", "--program", "answer", "--weights", SMALL]);
    ok(&folder, &["explain", "digits.nn", "--weights", SMALL]);
    let hidden = shape(&folder.join(SMALL), "dense_1.b")[0];
    let dump = ok(&folder, &["dump", "digits.nn", "--at", "graph", "--program", "answer", "--weights", SMALL]);
    assert!(dump.contains(&format!("f32[1, {hidden}]")), "{dump}");
    // First values are of the small network, too.
    let first = ok(&folder, &["dump", "digits.nn", "--at", "graph", "--program", "init", "--weights", SMALL]);
    let made =
        |name: &str| first.lines().find(|line| line.contains(&format!("\"{name}\""))).unwrap_or_default().to_owned();
    for (name, size) in [("dense_1.b", format!("[{hidden}]")), ("$optimizer.dense_2.w.m", format!("[{hidden}, 10]"))] {
        let value = made(name);
        let value = value.rsplit(' ').find(|word| word.starts_with('%')).unwrap_or_else(|| panic!("{name}: {first}"));
        let defined =
            first.lines().find(|line| line.trim_start().starts_with(&format!("{value} "))).unwrap_or_default();
        assert!(defined.contains(&size), "{name}: {defined}\n{first}");
    }
    let row: Vec<String> = (0..64).map(|at| (at % 17).to_string()).collect();
    fs::write(folder.join("x.csv"), row.join(",") + "\n").unwrap();
    let run = ok(&folder, &["run", "digits.nn", "--weights", SMALL, "--input", "x.csv", "--json"]);
    ok(&folder, &["build", "digits.nn", "--weights", SMALL, "-o", "digits"]);
    let built = Command::new(folder.join("digits")).current_dir(&folder).args(["x.csv", "--json"]).output().unwrap();
    assert_eq!(String::from_utf8(built.stdout).unwrap(), run);
}

#[test]
fn training_goes_on_with_what_is_left_and_can_be_resumed() {
    let (_keep, folder) = trained();
    halve(&folder);
    let set = |epochs: &'static str| ["--set", epochs, "batch=128"];
    let train = |words: &[&str], epochs| ok(&folder, &[&["train", "digits.nn"], words, &set(epochs)].concat());
    let told = train(&["--init", SMALL, "--out", "whole"], "epochs=2");
    assert!(told.contains("test on"), "{told}");
    let last = folder.join("whole/last.safetensors");
    for name in ["dense_1.w", "conv2d_2.w"] {
        assert_eq!(shape(&last, name), shape(&folder.join(SMALL), name));
    }
    let record = "$prune.dense_1.w.channels.1";
    assert_eq!(bytes(&last, record), bytes(&folder.join(SMALL), record));
    let states = with(&last, |tensors| {
        let states =
            tensors.names().into_iter().filter(|name| name.starts_with("$optimizer.") && name.contains("dense_1.w"));
        states.map(|name| tensors.tensor(name).unwrap().shape().to_vec()).collect::<Vec<_>>()
    });
    assert!(states.contains(&shape(&last, "dense_1.w")), "{states:?}");
    ok(&folder, &["eval", "digits.nn", "--weights", "whole/last.safetensors"]);
    // The run goes on as one that was never stopped does, though nobody names the first file any more.
    train(&["--out", "whole", "--resume"], "epochs=3");
    assert_eq!(shape(&last, "dense_1.w"), shape(&folder.join(SMALL), "dense_1.w"));
    assert_eq!(bytes(&last, record), bytes(&folder.join(SMALL), record));
}

#[test]
fn other_ways_to_compress_come_before_and_after() {
    let (_keep, folder) = trained();
    halve(&folder);
    let prune = |from: &str, words: &[&str], to: &str| {
        ok(&folder, &[&["prune", "digits.nn", "--weights", from], words, &["-o", to]].concat());
        ok(&folder, &["eval", "digits.nn", "--weights", to]);
    };
    prune(SMALL, &["--channels", "0.3"], "again.safetensors");
    let counts = |file: &str| shape(&folder.join(file), "conv2d_2.w")[0] + shape(&folder.join(file), "dense_2.w")[0];
    assert!(counts("again.safetensors") < counts(SMALL));
    assert_eq!(
        bytes(&folder.join("again.safetensors"), "$prune.dense_1.w.channels.1").len(),
        64,
        "of the declared ones"
    );
    prune(SMALL, &["--sparsity", "0.5"], "zeros.safetensors");
    let file = folder.join("zeros.safetensors");
    assert_eq!(mask(&file, "dense_1.w").0, shape(&file, "dense_1.w"));
    prune("zeros.safetensors", &["--channels", "0.3"], "both.safetensors");
    let file = folder.join("both.safetensors");
    assert_eq!(mask(&file, "dense_1.w").0, shape(&file, "dense_1.w"));
    ok(
        &folder,
        &["train", "digits.nn", "--init", "both.safetensors", "--set", "epochs=1", "batch=256", "--out", "run"],
    );
    ok(&folder, &["quantise", "digits.nn", "--weights", SMALL, "--all", "--max-drop", "100", "-o", "int8.safetensors"]);
    ok(&folder, &["eval", "digits.nn", "--weights", "int8.safetensors"]);
    ok(&folder, &["explain", "digits.nn", "--program", "answer", "--weights", "int8.safetensors"]);
    let said = fails(&folder, &["prune", "digits.nn", "--weights", "int8.safetensors", "--channels", "0.5", "-o", "x"]);
    assert!(said.contains("quantised"), "{said}");
}

#[test]
fn only_what_is_asked_for_goes() {
    let (_keep, folder) = trained();
    let words = ["prune", "digits.nn", "--weights", DENSE, "--channels", "0.02", "--over", "dense_2", "-o", SMALL];
    let report = ok(&folder, &words);
    assert!(report.contains("not asked for") && report.contains("measured together"), "{report}");
    assert_eq!(shape(&folder.join(SMALL), "conv2d_2.w"), [32, 16, 3, 3]);
    assert_eq!(shape(&folder.join(SMALL), "dense_1.w"), [128, 48]);
}

/// The mean of the pictures has channels, too, but no layer makes it.
/// The share goes in either way, for so many examples as are said.
#[test]
fn time_counts_where_it_is_asked_for() {
    let (_keep, folder) = trained();
    for rows in ["N=1", "N=64"] {
        let line = ["prune", "digits.nn", "--weights", DENSE, "--channels", "0.5", "--by-time", "--bind", rows];
        let told: Value = serde_json::from_str(&ok(&folder, &[&line[..], &["-o", SMALL, "--json"]].concat())).unwrap();
        let [before, after] = [0, 1].map(|at| told["multiply_adds"][at].as_u64().unwrap());
        assert!(after * 2 <= before && after > 0, "{told:#}");
        ok(&folder, &["eval", "digits.nn", "--weights", SMALL]);
    }
    let said = fails(&folder, &["prune", "digits.nn", "--weights", DENSE, "--sparsity", "0.5", "--by-time", "-o", "x"]);
    assert!(said.contains("--by-time"), "{said}");
}

/// An answer that nobody asks for, and that needs a channel which is gone, is no reason to quantise nothing.
#[test]
fn an_answer_that_needs_what_is_gone_is_left_out_of_integers() {
    let (_keep, folder) = digits();
    let text = "model Enc(x: f32[N, 64]) -> f32[N, 32] = x |> dense(48) |> relu |> dense(32)
model Dec(z: f32[N, 32]) -> f32[N, 64] = z |> dense(48) |> relu |> dense(64)
data digits {
    train: (f32[64], u8) = csv(\"data/digits.csv.gz\")
    test = every(5)
    x: f32[64] = train.0 / 16
}
train both on digits {
    epochs = 1; batch = 128
    layer enc = Enc()
    layer dec = Dec()
    minimize mse(dec(enc(x)), x) using adam(lr=1e-3)
    answer rec = dec(enc(x))
    answer from_code(code: f32[32]) = dec(code[new])[0]
    answer twice(of: f32[4]) = of * 2
}
";
    fs::write(folder.join("code.nn"), text).unwrap();
    ok(&folder, &["train", "code.nn", "--out", "dense"]);
    let prune = ["prune", "code.nn", "--weights", DENSE, "--channels", "0.2", "--over", "enc.dense_2"];
    ok(&folder, &[&prune[..], &["--multiple", "4", "-o", SMALL]].concat());
    let line = ["quantise", "code.nn", "--weights", SMALL, "--all", "--max-drop", "100", "-o", "q.safetensors"];
    let output = nnc(&folder, &line);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{out}\n{err}");
    assert!(err.contains("answer `from_code` cannot be made of weights that lost channels"), "{err}");
    assert!(out.contains("answer `twice` reads nothing that was rounded"), "{out}");
    ok(&folder, &["eval", "code.nn", "--weights", "q.safetensors"]);
}

/// What a grouped convolution reads only goes with the same channel of all groups, and is told as all of these.
#[test]
fn channels_that_go_together_are_told_with_their_number() {
    let (_keep, folder) = digits();
    let text = "model Net(image: f32[N, 1, 8, 8]) -> f32[N, 10] {
    x = image |> conv2d(32, kernel=3, padding=1) |> batch_norm |> relu
    x = x |> conv2d(32, kernel=3, padding=1, groups=4) |> relu
    return x |> flatten |> dense(10)
}
data digits {
    train: (f32[64], u8) = csv(\"data/digits.csv.gz\")
    image: f32[1, 8, 8] = reshape(train.0 / 16, [1, 8, 8])
    label: i32 = i32(train.1)
}
train Net on digits {
    epochs = 1; batch = 256
    minimize cross_entropy(Net(image), label) using adam(lr=1e-3)
}
";
    fs::write(folder.join("net.nn"), text).unwrap();
    ok(&folder, &["train", "net.nn", "--out", "dense"]);
    let told = ok(&folder, &["prune", "net.nn", "--weights", DENSE, "--channels", "0.4", "-o", SMALL]);
    let line = told.lines().find(|line| line.starts_with("batch_norm_1")).unwrap();
    assert!(line.contains("32 in 8  16 in 4"), "{told}");
    assert_eq!(shape(&folder.join(SMALL), "conv2d_1.b"), [16]);
}

#[test]
fn statistics_of_data_are_no_layers() {
    let (_keep, folder) = digits();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let source = source.replace("reshape(train.0 / 16, ", "reshape((train.0 - learn_mean(train.0)) / 16, ");
    assert!(source.contains("learn_mean"));
    fs::write(folder.join("digits.nn"), source).unwrap();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "dense"]);
    let words = ["prune", "digits.nn", "--weights", DENSE, "--channels", "0.5", "-o", SMALL, "--json"];
    let report = ok(&folder, &words);
    assert!(report.contains("conv2d_1.w") && !report.contains("data:"), "{report}");
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_overwritten() {
    let (_keep, folder) = trained();
    let prune = ["prune", "digits.nn", "--weights", DENSE];
    for (more, wanted) in [
        (&["-o", DENSE, "--channels", "0.5"][..], "is an input"),
        (&["-o", SMALL, "--channels", "1.5"], "between 0 and 1"),
        (&["-o", SMALL, "--channels", "0"], "between 0 and 1"),
        (&["-o", SMALL, "--channels", "0.5", "--multiple", "0"], "from 1 to"),
        (&["-o", SMALL, "--channels", "0.5", "--sparsity", "0.5"], "cannot be used with"),
        (&["-o", SMALL, "--channels", "0.99"], "% of the multiply-adds can go at most, not 99.0 %"),
        (&["-o", SMALL, "--channels", "0.5", "--over", "dense_9"], "no parameter has this path"),
        (&["-o", SMALL, "--channels", "0.5", "--over", "dense_2.b"], "no channels of this can go"),
    ] {
        let before = fs::read(folder.join(DENSE)).unwrap();
        let said = fails(&folder, &[&prune[..], more].concat());
        assert!(said.contains(wanted), "{said}");
        assert!(!folder.join(SMALL).exists());
        assert_eq!(fs::read(folder.join(DENSE)).unwrap(), before);
    }
}

#[test]
fn a_record_that_does_not_fit_is_an_error_of_every_command() {
    let (_keep, folder) = trained();
    halve(&folder);
    // A model of other widths.
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    fs::write(folder.join("other.nn"), source.replace("dense(64)", "dense(80)")).unwrap();
    // A file whose record keeps another number of channels than its tensor has.
    let bytes = fs::read(folder.join(SMALL)).unwrap();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, safetensors::tensor::TensorView<'_>)> = whole.tensors();
    let full = vec![1; 64];
    for (name, view) in &mut tensors {
        if name == "$prune.dense_1.b.channels.0" {
            *view = safetensors::tensor::TensorView::new(view.dtype(), vec![64], &full).unwrap();
        }
    }
    fs::write(folder.join("wrong.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
    for (file, weights, wanted) in [
        ("other.nn", SMALL, "it keeps some of 64 along axis 0 of `dense_1.b`, which is [80]"),
        ("digits.nn", "wrong.safetensors", "`$prune.dense_1.b.channels.0` keeps 64 of axis 0 of `dense_1.b`"),
    ] {
        for words in [
            &["eval", file, "--weights", weights][..],
            &["train", file, "--init", weights, "--out", "run"],
            &["prune", file, "--weights", weights, "--channels", "0.2", "-o", "q.safetensors"],
            &["bench", file, "--weights", weights],
            &["run", file, "--weights", weights, "--input", "x.csv"],
        ] {
            let said = fails(&folder, words);
            assert!(said.contains(wanted) && said.contains(weights), "{words:?}: {said}");
        }
    }
    assert!(!folder.join("run").exists() && !folder.join("q.safetensors").exists());
}

/// A recipe that prunes and rounds while it trains takes a small network, and judges the weights that are left of it.
#[test]
fn what_follows_begins_as_what_lost_channels() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = |target: &str, read: &str| {
        format!(
            "data d {{ train: f32[16] = csv(\"d.csv\"); x: f32[16] = train }}
            model Net(x: f32[N, 16]) -> f32[N, 4] = x |> dense(16) |> relu |> dense(4)
            train nets on d {{
                epochs = 1; batch = 2; rate = 0.0
                layer net = Net()
                {target}
                minimize mean((net(x) - {read} - 1) ** 2) over net using sgd(lr=rate)
                answer of_net = net(x)
                answer of_target = {read} + 0 * net(x)
            }}"
        )
    };
    fs::write(folder.join("alone.nn"), source("", "net(x)")).unwrap();
    fs::write(folder.join("both.nn"), source("layer target = Net() follows net", "target(x)")).unwrap();
    let row = |from: usize| (from..from + 16).map(|at| format!("{}", at % 7)).collect::<Vec<_>>().join(",");
    fs::write(folder.join("d.csv"), format!("{}\n{}\n{}\n", row(0), row(2), row(3))).unwrap();
    ok(folder, &["train", "alone.nn", "--out", "run"]);
    let line = ["prune", "alone.nn", "--weights", "run/last.safetensors", "--channels", "0.4", "-o", "s.safetensors"];
    ok(folder, &line);
    ok(folder, &["train", "both.nn", "--init", "s.safetensors", "--out", "further"]);
    let further = folder.join("further/last.safetensors");
    assert_eq!(shape(&further, "target.dense_1.w"), shape(&folder.join("s.safetensors"), "net.dense_1.w"));
    assert_eq!(bytes(&further, "target.dense_1.w"), bytes(&further, "net.dense_1.w"));
    assert_eq!(bytes(&further, "target.dense_2.w"), bytes(&further, "net.dense_2.w"));
    ok(folder, &["train", "both.nn", "--init", "further/last.safetensors", "--out", "again"]);
}

#[test]
fn recipes_that_prune_take_what_lost_channels() {
    let (_keep, folder) = trained();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let more = |words: &str| source.replace("    metric accuracy", &format!("    {words}\n    metric accuracy"));
    for (options, rounds) in [
        ("cubic(0.8, end=0.5), every=3", false),
        ("0.8, every=3, by=movement, scope=\"layer\"", false),
        ("cubic(0.8, end=0.5), every=3", true),
    ] {
        let rounding = if rounds { "\n    quantise(start=0.5)" } else { "" };
        fs::write(folder.join("digits.nn"), more(&format!("prune({options}){rounding}"))).unwrap();
        halve(&folder);
        let small = folder.join(SMALL);
        let train = |words: &[&str]| ok(&folder, &[&["train", "digits.nn", "--out", "run"], words].concat());
        train(&["--init", SMALL, "--set", "epochs=2", "batch=128"]);
        train(&["--resume", "--set", "epochs=3", "batch=128"]);
        let last = folder.join("run/last.safetensors");
        let (mut zeros, mut elements) = (0, 0);
        for name in ["conv2d_1.w", "conv2d_2.w", "dense_1.w", "dense_2.w"] {
            assert_eq!(shape(&last, name), shape(&small, name));
            let (dims, kept) = mask(&last, name);
            assert_eq!(dims, shape(&small, name));
            let weights = bytes(&last, name);
            let gone = weights.chunks(4).zip(&kept).filter(|(_, kept)| **kept == 0);
            assert!(gone.clone().all(|(weight, _)| weight.iter().all(|&byte| byte == 0)), "{options}: {name}");
            (zeros, elements) = (zeros + gone.count(), elements + kept.len());
        }
        let share = zeros as f64 / elements as f64;
        assert!((share - 0.8).abs() < 0.01, "{options}: {share} of what is left is zero");
        ok(&folder, &["eval", "digits.nn", "--weights", "run/last.safetensors"]);
        ok(
            &folder,
            &["prune", "digits.nn", "--weights", "run/last.safetensors", "--channels", "0.2", "-o", "b.safetensors"],
        );
        let again = mask(&folder.join("b.safetensors"), "conv2d_2.w").0;
        assert_eq!(again, shape(&folder.join("b.safetensors"), "conv2d_2.w"));
        fs::remove_dir_all(folder.join("run")).unwrap();
    }
}

/// Groups that would have two steps of 16 lose as much as those that have four.
#[test]
fn layers_lose_the_same_share() {
    let (_keep, folder) = trained();
    let words =
        ["prune", "digits.nn", "--weights", DENSE, "--channels", "0.3", "--scope", "layer", "-o", SMALL, "--json"];
    let report: Value = serde_json::from_str(&ok(&folder, &words)).unwrap();
    let groups = report["groups"].as_array().unwrap().iter().filter(|group| group["left_alone"].is_null());
    let number = |value: &Value| value.as_f64().unwrap();
    let left: Vec<f64> = groups.map(|group| number(&group["channels"][1]) / number(&group["channels"][0])).collect();
    assert!(left.len() == 3 && left.iter().all(|left| (0.75..=0.875).contains(left)), "{left:?}");
    let [before, after] = [0, 1].map(|at| number(&report["multiply_adds"][at]));
    assert!((0.55..=0.7).contains(&(after / before)), "{after} of {before}");
}
