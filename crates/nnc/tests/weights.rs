//! Weights from elsewhere, as a user meets them: files of PyTorch's make for layers and on the command line.

mod common;

use common::{fails, ok};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Writes a safetensors file: the length of the header, the header, the data
/// (<https://github.com/huggingface/safetensors>).
fn safetensors(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let (mut header, mut data) = (String::new(), Vec::new());
    for (name, dims, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let comma = if header.is_empty() { "" } else { "," };
        write!(
            header,
            "{comma}\"{name}\":{{\"dtype\":\"F32\",\"shape\":{dims:?},\"data_offsets\":[{start},{}]}}",
            data.len()
        )
        .unwrap();
    }
    let header = format!("{{{header}}}");
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    fs::write(path, bytes).unwrap();
}

const WEIGHT: &[f32] = &[1., 2., 3., 4., 5., 6.];

/// A network whose layer begins with a file, and an input. Its answer is `[1, 1] @ weight.T + bias`.
fn network(clauses: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let tensors: &[(&str, &[usize], &[f32])] =
        &[("body.weight", &[3, 2], WEIGHT), ("body.bias", &[3], &[0.5, 0., 0.]), ("head.bias", &[1], &[0.])];
    safetensors(&path.join("enc.safetensors"), tensors);
    let source =
        format!("model Net(x: f32[N, 2]) -> f32[N, 3] {{\n    layer enc = dense(3) {clauses}\n    return enc(x)\n}}\n");
    fs::write(path.join("net.nn"), source).unwrap();
    fs::write(path.join("x.csv"), "1,1\n").unwrap();
    (folder, path)
}

const NAMED: &str = "from \"enc.safetensors\" names = { \"body\": \"\", \"head\": \"_\" }";

/// The numbers of an answer that was written with `--output`.
fn floats(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    let data = &bytes[bytes.len() - 12..];
    data.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn a_layer_begins_with_its_file_and_an_executable_keeps_it() {
    let (_keep, folder) = network(NAMED);
    ok(&folder, &["run", "net.nn", "--input", "x.csv", "--output", "y.npy"]);
    assert_eq!(floats(&folder.join("y.npy")), [3.5, 7., 11.]);
    ok(&folder, &["build", "net.nn", "-o", "net"]);
    fs::remove_file(folder.join("enc.safetensors")).unwrap();
    let run = Command::new(folder.join("net")).current_dir(&folder).args(["x.csv", "--output", "z.npy"]).output();
    assert!(run.unwrap().status.success());
    assert_eq!(floats(&folder.join("z.npy")), [3.5, 7., 11.]);
    let gone = fails(&folder, &["run", "net.nn", "--input", "x.csv"]);
    assert!(gone.contains("error[E0801]") && gone.contains("enc.safetensors") && gone.contains("net.nn:2"), "{gone}");
}

#[test]
fn a_file_on_the_command_line_goes_by_the_same_names() {
    let (_keep, folder) = network(NAMED);
    let tensors: &[(&str, &[usize], &[f32])] =
        &[("enc.body.weight", &[3, 2], WEIGHT), ("enc.body.bias", &[3], &[9.; 3])];
    safetensors(&folder.join("all.safetensors"), tensors);
    ok(&folder, &["run", "net.nn", "--input", "x.csv", "--output", "y.npy", "--weights", "all.safetensors"]);
    assert_eq!(floats(&folder.join("y.npy")), [12., 16., 20.]);
    let tensors: &[(&str, &[usize], &[f32])] =
        &[("enc.body.weight", &[2, 3], WEIGHT), ("enc.body.bais", &[3], &[9.; 3])];
    safetensors(&folder.join("other.safetensors"), tensors);
    let said = fails(&folder, &["run", "net.nn", "--input", "x.csv", "--weights", "other.safetensors"]);
    assert!(said.contains("enc.w: the model has f32[2, 3], `enc.body.weight.T` of the file is f32[3, 2]"), "{said}");
    let meant = "the file has no `enc.body.bias`; did you mean `enc.body.bais`?";
    assert!(said.contains(&format!("enc.b: the model has f32[3], {meant}")), "{said}");
}

/// A file that says our names lacks one of ours.
#[test]
fn what_a_file_of_ours_lacks_has_our_name() {
    let (_keep, folder) = network("");
    safetensors(&folder.join("ours.safetensors"), &[("enc.w", &[2, 3], WEIGHT)]);
    let said = fails(&folder, &["run", "net.nn", "--input", "x.csv", "--weights", "ours.safetensors"]);
    assert!(said.contains("enc.b: the model has f32[3], the file has no such tensor"), "{said}");
}

#[test]
fn a_file_that_does_not_fit_is_an_error_at_its_name() {
    for (clauses, wanted) in [
        (
            "from \"enc.safetensors\" names = { \"body\": \"\" }",
            "head.bias: the file has f32[1], the model has no such tensor",
        ),
        ("from \"enc.safetensors\" names = { \"body\": \"\" }", "leaves a tensor out"),
        ("from \"enc.safetensors\"", "enc.w: the model has f32[2, 3], the file has no `weight`"),
        ("from \"enc.safetensors\" partial", "no tensor of \"enc.safetensors\" belongs to the layer `enc`"),
        (
            "from \"enc.safetensors\" names = { \"body.weight\": \"w\", \"body.bias\": \"b\", \"head\": \"_\" }",
            "enc.w: the model has f32[2, 3], `body.weight` of the file is f32[3, 2]",
        ),
        (
            "from \"enc.safetensors\" names = { \"body.weight[0/2].T\": \"w\", \"body.bias\": \"b\", \"head\": \"_\" }",
            "`body.weight` is f32[3, 2], and its first axis has no 2 equal parts",
        ),
        (
            "from \"enc.safetensors\" names = { \"body.bias + head.bias\": \"b\", \"body.weight.T\": \"w\" }",
            "adds f32[3] and f32[1]",
        ),
    ] {
        let (_keep, folder) = network(clauses);
        let said = fails(&folder, &["run", "net.nn", "--input", "x.csv"]);
        assert!(said.contains("error[E0801]") && said.contains("net.nn:2:"), "{said}");
        assert!(said.contains(wanted), "{clauses}\n{said}");
    }
    let (_keep, folder) = network("");
    let said = fails(&folder, &["run", "net.nn", "--input", "x.csv"]);
    assert!(said.contains("`enc.b` and 1 more have no weights: give a file of them, `--weights FILE`"), "{said}");
}

const FIT: &str = "
model Fit(x: f32[N, 1]) -> f32[N] { return concat([x, x], axis=1) |> dense(1) |> reshape([N]) }
data points {
    train: (f32, f32) = csv(\"x.csv\")
    x: f32[1] = train.0[new]
    y: f32 = train.1
}
train Fit on points {
    epochs = 1; batch = 1
    minimize mse(Fit(x), y) using sgd
}
";

#[test]
fn a_file_that_is_damaged_is_told_without_harm() {
    let (_keep, folder) = network("from \"enc.safetensors\"");
    let run = ["run", "net.nn", "--input", "x.csv"];
    let file = folder.join("enc.safetensors");
    safetensors(&file, &[("w", &[2, 3], &[f32::NAN; 6]), ("b", &[3], &[0.0; 3])]);
    let said = fails(&folder, &run);
    assert!(said.contains("error[E0801]: \"enc.safetensors\" holds a NaN or an infinity for `enc.w`"), "{said}");
    safetensors(&file, &[("w", &[2, 3], &[1.0; 6]), ("b", &[3], &[0.0; 3]), ("a\\u001b[31m\\nred", &[1], &[0.0])]);
    let said = fails(&folder, &run);
    assert!(said.contains("a\\u{1b}[31m\\nred: the file has f32[1]"), "{said}");
    // As first weights of a training they are found by the first loss.
    safetensors(&file, &[("dense_1.w", &[2, 1], &[1.0, f32::INFINITY]), ("dense_1.b", &[1], &[0.0])]);
    fs::write(folder.join("fit.nn"), FIT).unwrap();
    let said = fails(&folder, &["train", "fit.nn", "--out", "run", "--init", "enc.safetensors"]);
    assert!(said.contains("withheld\n  `dense_1.w` held one before"), "{said}");
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let said = fails(&folder, &run);
    assert!(said.contains("enc.safetensors: this is no plain file"), "{said}");
}

#[test]
fn another_dtype_and_a_part_are_asked_for() {
    let (_keep, folder) = network("from \"half.safetensors\" cast");
    let half = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    // 1, 2, 3, 4, 5, 6 and 0.5, 0, 0 as f16.
    let data = [half(&[0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600]), half(&[0x3800, 0, 0])].concat();
    let header = "{\"weight\":{\"dtype\":\"F16\",\"shape\":[3,2],\"data_offsets\":[0,12]},\
                  \"bias\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[12,18]}}";
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    fs::write(folder.join("half.safetensors"), file).unwrap();
    ok(&folder, &["run", "net.nn", "--input", "x.csv", "--output", "y.npy"]);
    assert_eq!(floats(&folder.join("y.npy")), [3.5, 7., 11.]);
    let source = fs::read_to_string(folder.join("net.nn")).unwrap();
    fs::write(folder.join("net.nn"), source.replace(" cast", "")).unwrap();
    let said = fails(&folder, &["run", "net.nn", "--input", "x.csv"]);
    assert!(said.contains("`weight.T` of the file is f16[2, 3]") && said.contains("`cast` behind"), "{said}");
}

/// A recipe whose first layer is pretrained and frozen: training leaves it alone, and the checkpoint has all of it.
#[test]
fn training_keeps_what_is_frozen() {
    let (_keep, folder) = network("");
    let source = format!(
        "data points {{
    train: (f32[2], f32[1]) = csv(\"points.csv\")
    x: f32[2] = train.0
    y: f32[1] = train.1
}}
train transfer on points {{
    epochs = 2; batch = 2
    layer enc = dense(3) {NAMED} frozen
    layer head = dense(1)
    minimize mse(head(enc(x)), y) using adam(lr=0.1)
    answer features = enc(x)
    answer y = head(enc(x))
}}
"
    );
    fs::write(folder.join("transfer.nn"), source).unwrap();
    fs::write(folder.join("points.csv"), "1,1,3\n2,1,4\n0,1,1\n1,0,2\n").unwrap();
    ok(&folder, &["train", "transfer.nn", "--out", "run"]);
    fs::remove_file(folder.join("enc.safetensors")).unwrap();
    let rest = ["--weights", "run/last.safetensors", "--answer", "features", "--output", "y.npy"];
    ok(&folder, &[&["run", "transfer.nn", "--input", "x.csv"][..], &rest].concat());
    assert_eq!(floats(&folder.join("y.npy")), [3.5, 7., 11.]);
    ok(&folder, &["train", "transfer.nn", "--out", "run", "--resume", "--set", "epochs=3"]);
}

/// Files in the format of MNIST's: squares whose place is the digit.
fn squares(folder: &Path, prefix: &str, count: u32) {
    let (mut images, mut labels) = (vec![0, 0, 8, 3], vec![0, 0, 8, 1]);
    images.extend([count, 28, 28].into_iter().flat_map(u32::to_be_bytes));
    labels.extend(count.to_be_bytes());
    for image in 0..count {
        let digit = image % 10;
        labels.push(digit as u8);
        let (row, column) = (3 + 7 * (digit / 4), 2 + 6 * (digit % 4));
        let inside = |at: u32| (row..row + 6).contains(&(at / 28)) && (column..column + 6).contains(&(at % 28));
        images.extend((0..28 * 28).map(|at| if inside(at) { 255 } else { (at * 7 + image) as u8 % 32 }));
    }
    // What is packed is told by the content, not by the name.
    fs::write(folder.join(format!("{prefix}-images-idx3-ubyte.gz")), images).unwrap();
    fs::write(folder.join(format!("{prefix}-labels-idx1-ubyte.gz")), labels).unwrap();
}

#[test]
fn the_transfer_example_learns_on_features_of_another_task() {
    let (_keep, folder) = common::digits();
    fs::copy(Path::new(common::EXAMPLES).join("transfer.nn"), folder.join("transfer.nn")).unwrap();
    squares(&folder, "train", 640);
    squares(&folder, "t10k", 100);
    let missing = fails(&folder, &["train", "transfer.nn", "--only", "transfer", "--out", "run"]);
    assert!(missing.contains("error[E0801]") && missing.contains("features/last.safetensors"), "{missing}");
    let words = ["train", "transfer.nn", "--only", "pretrain", "--data", ".", "--out", "features", "--set", "epochs=1"];
    ok(&folder, &words);
    let words = ["train", "transfer.nn", "--only", "transfer", "--out", "run", "--set", "epochs=20"];
    ok(&folder, &[&words[..], &["--report", "report.json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
    assert!(report["test"]["accuracy"].as_f64().unwrap() > 0.4, "{report}");
}

/// `follow.nn` whose layer `target` follows `net`, which begins with a file, trained with `words`; the weights of both
/// in the end, as their answers to the same row.
fn following(folder: &Path, run: &str, words: &[&str]) -> [String; 2] {
    ok(folder, &[&["train", "follow.nn", "--out", run], words].concat());
    let weights = format!("{run}/last.safetensors");
    let answer = |name: &str| {
        let line = ["run", "follow.nn", "--weights", &weights, "--answer", name, "--input", "x=one.csv"];
        ok(folder, &line)
    };
    [answer("of_net"), answer("of_target")]
}

#[test]
fn a_layer_that_follows_begins_as_what_it_follows_and_goes_on_from_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = |follows: &str| {
        format!(
            "data d {{ train: f32[2] = csv(\"d.csv\"); x: f32[2] = train }}
            train nets on d {{
                epochs = 2; batch = 2; rate = 0.0
                layer net = dense(1) from \"net.safetensors\"
                layer target = dense(1) {follows}
                minimize mean((net(x) - target(x) - 1) ** 2) over net using sgd(lr=rate)
                answer of_net = net(x)
                answer of_target = target(x)
            }}"
        )
    };
    fs::write(folder.join("d.csv"), "1,2\n3,4\n-1,1\n0,2\n").unwrap();
    fs::write(folder.join("one.csv"), "1,1\n").unwrap();
    safetensors(&folder.join("net.safetensors"), &[("w", &[2, 1], &[3.0, 4.0]), ("b", &[1], &[5.0])]);
    fs::write(folder.join("follow.nn"), source("follows net rate=0.5")).unwrap();
    let [net, target] = following(folder, "still", &[]);
    assert_eq!(net.replace("of_net", "of_target"), target, "the file is that of both");
    let [net, target] = following(folder, "apart", &["--set", "rate=0.1", "--seed", "3"]);
    assert_ne!(net.replace("of_net", "of_target"), target);
    let [_, kept] = following(folder, "whole", &["--init", "apart/last.safetensors", "--set", "epochs=1"]);
    assert_ne!(net.replace("of_net", "of_target"), kept, "the file has it");
    let lacking = |tensors: &mut std::collections::BTreeMap<String, common::Stored>| {
        tensors.retain(|path, _| !path.starts_with("target"));
    };
    common::altered(folder, "apart/last.safetensors", "part.safetensors", lacking);
    let theirs = |tensors: &mut std::collections::BTreeMap<String, common::Stored>| {
        let kept = std::mem::take(tensors).into_iter().filter(|(path, _)| !path.starts_with('$'));
        tensors.extend(kept.map(|(path, tensor)| (path.replace(".w", ".weight").replace(".b", ".bias"), tensor)));
        let turned = tensors.values_mut().filter(|tensor| tensor.dims.len() == 2);
        turned.for_each(|tensor| tensor.dims.reverse());
    };
    common::altered(folder, "apart/last.safetensors", "theirs.safetensors", theirs);
    let [_, named] = following(folder, "named", &["--init", "theirs.safetensors", "--set", "epochs=1"]);
    assert_eq!(named, kept, "the file has it by names of its own");
    let [again, begun] = following(folder, "lacking", &["--init", "part.safetensors", "--set", "epochs=1"]);
    assert_eq!(again.replace("of_net", "of_target"), begun, "the file lacks it");
    assert_eq!(again, net);
}
