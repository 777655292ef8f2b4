//! What a command reads: nothing is written over it, and what is no plain file is refused before it is waited for.

mod common;

use common::{EXAMPLES, Stored, fails, nnc, ok, write};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const NET: &str = "use \"lib.nn\"
model Net(x: f32[N, 4]) -> f32[N, 3] {
    layer first = dense(4) from \"part.safetensors\"
    return twice(first(x)) |> dense(3)
}
data table {
    train: (f32[4], u8) = csv(\"data/table.csv\")
    test = 0.2
    x: f32[4] = train.0
    label: i32 = i32(train.1)
}
train Net on table {
    epochs = 1; batch = 5
    logits = Net(x)
    minimize cross_entropy(logits, label) using sgd(lr=0.1)
    metric accuracy = accuracy(logits, label)
}
";

fn weights(path: &Path) {
    let tensors = [("w", Stored::floats(&[4, 4], &[0.1; 16])), ("b", Stored::floats(&[4], &[0.0; 4]))];
    write(path, &tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into(), None);
}

/// A network whose text, data and weights come from several files, after a training.
fn trained() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("data")).unwrap();
    let table: String = (0..20).map(|row| format!("{row},2,3,4,{}\n", row % 3)).collect();
    fs::write(path("data/table.csv"), table).unwrap();
    fs::write(path("lib.nn"), "fn twice(x: f32[...S]) -> f32[...S] = 2 * x\n").unwrap();
    fs::write(path("net.nn"), NET).unwrap();
    fs::write(path("row.csv"), "1,2,3,4\n").unwrap();
    weights(&path("part.safetensors"));
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    folder
}

#[test]
fn nothing_that_a_project_reads_is_written_over() {
    const W: [&str; 2] = ["--weights", "run/last.safetensors"];
    let commands: [(&str, &[&str]); 7] = [
        ("build", &[W[0], W[1], "-o"]),
        ("run", &[W[0], W[1], "-i", "row.csv", "-o"]),
        ("train", &["--out", "other", "--report"]),
        ("profile", &["--seconds", "0.01", "--trace"]),
        ("prune", &[W[0], W[1], "--sparsity", "0.5", "-o"]),
        ("quantise", &[W[0], W[1], "--weights-only", "int8", "-o"]),
        ("compress", &[W[0], W[1], "-o"]),
    ];
    let folder = trained();
    let folder = folder.path();
    for file in ["net.nn", "lib.nn", "data/table.csv", "part.safetensors"] {
        let before = fs::read(folder.join(file)).unwrap();
        for (command, words) in commands {
            let error = fails(folder, &[&[command, "net.nn"], words, &[file]].concat());
            assert!(error.contains("is an input, and would be overwritten"), "{command} {file}: {error}");
            assert_eq!(fs::read(folder.join(file)).unwrap(), before, "{command} {file}");
        }
    }
    assert!(!folder.join("other").exists());
}

#[test]
fn data_in_another_folder_and_folders_of_data_are_not_written_over() {
    let folder = trained();
    let folder = folder.path();
    fs::create_dir_all(folder.join("far/data")).unwrap();
    fs::rename(folder.join("data/table.csv"), folder.join("far/data/table.csv")).unwrap();
    let train = ["train", "net.nn", "--data", "far", "--out", "other", "--report", "far/data/table.csv"];
    assert!(fails(folder, &train).contains("is an input"));
    fs::create_dir_all(folder.join("photos/cat")).unwrap();
    fs::write(folder.join("photos/cat/1.png"), "a picture").unwrap();
    let pictures =
        NET.replace("csv(\"data/table.csv\")", "images(\"photos\")").replace("f32[4], u8", "u8[1, 2, 2], u8");
    let pictures = pictures.replace("x: f32[4] = train.0", "x: f32[4] = reshape(f32(train.0), [4])");
    fs::write(folder.join("pictures.nn"), pictures).unwrap();
    let run = ["run", "pictures.nn", "--weights", "run/last.safetensors", "-i", "row.csv", "-o", "photos/cat/1.png"];
    let error = fails(folder, &run);
    assert!(error.contains("photos/cat/1.png: is an input"), "{error}");
    assert_eq!(fs::read_to_string(folder.join("photos/cat/1.png")).unwrap(), "a picture");
    for new in ["photos/cat/2.png", "photos/answer.npy"] {
        let error = fails(folder, &[&run[..run.len() - 1], &[new]].concat());
        assert!(error.contains("lies in a folder that is a source of data"), "{error}");
        assert!(!folder.join(new).exists());
    }
}

#[test]
fn a_run_does_not_write_over_the_weights_that_it_begins_with() {
    let folder = trained();
    let folder = folder.path();
    fs::create_dir(folder.join("pre")).unwrap();
    fs::rename(folder.join("part.safetensors"), folder.join("pre/best.safetensors")).unwrap();
    fs::write(folder.join("net.nn"), NET.replace("part.safetensors", "pre/best.safetensors")).unwrap();
    let before = fs::read(folder.join("pre/best.safetensors")).unwrap();
    let error = fails(folder, &["train", "net.nn", "--out", "pre"]);
    assert!(error.contains("pre/best.safetensors: is an input"), "{error}");
    assert_eq!(fs::read(folder.join("pre/best.safetensors")).unwrap(), before);
}

#[test]
fn the_demo_leaves_files_of_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("digits.nn"), "my own\n").unwrap();
    let error = fails(folder.path(), &["demo", "--out", "."]);
    assert!(error.contains("digits.nn: there is another file already"), "{error}");
    assert_eq!(fs::read_to_string(folder.path().join("digits.nn")).unwrap(), "my own\n");
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn devices_and_pipes_are_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pipe(&folder.join("pipe"));
    fs::create_dir(folder.join("sub")).unwrap();
    let data =
        "data d { train: (f32[4], u8) = npy(\"pipe\", \"pipe\")\n x: f32[4] = train.0\n label: i32 = i32(train.1) }";
    let (from, to) = (NET.find("data table").unwrap(), NET.find("train Net").unwrap());
    let network = format!("{}{data}\n{}", &NET[..from], &NET[to..]).replace("on table", "on d");
    let network = network
        .replace("use \"lib.nn\"\n", "")
        .replace("twice(first(x))", "x")
        .replace("    layer first = dense(4) from \"part.safetensors\"\n", "");
    fs::write(folder.join("data.nn"), network).unwrap();
    for (name, text) in
        [("zero.nn", "use \"/dev/zero\"\n"), ("used.nn", "use \"pipe\"\n"), ("folder.nn", "use \"sub\"\n")]
    {
        fs::write(folder.join(name), text).unwrap();
    }
    let cases: [(&[&str], &str); 7] = [
        (&["check", "/dev/zero"], "/dev/zero: this is no plain file"),
        (&["check", "pipe"], "pipe: this is no plain file"),
        (&["fmt", "pipe"], "pipe: this is no plain file"),
        (&["check", "zero.nn"], "cannot use \"/dev/zero\": it is no plain file"),
        (&["check", "used.nn"], "cannot use \"pipe\": it is no plain file"),
        (&["check", "folder.nn"], "cannot use \"sub\": it is no plain file"),
        (&["train", "data.nn", "--out", "run"], "pipe: is a pipe, a file is expected here"),
    ];
    for (words, expected) in cases {
        let error = fails(folder, words);
        assert!(error.contains(expected), "nnc {}: {error}", words.join(" "));
    }
}

#[test]
fn a_text_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // It takes no room on the disk.
    fs::File::create(folder.join("large.nn")).unwrap().set_len((1 << 28) + 1).unwrap();
    fs::write(folder.join("uses.nn"), "use \"large.nn\"\n").unwrap();
    for (file, code) in [("large.nn", "E0101"), ("uses.nn", "E0205")] {
        let error = fails(folder, &["check", file]);
        assert!(error.contains(code) && error.contains("too large to be a program: it has 268435457 bytes"), "{error}");
    }
}

/// Runs `nnc` with so many KiB of address space.
fn within(kib: usize, folder: &Path, words: &[&str]) -> Output {
    let script = format!("ulimit -v {kib}; exec \"$0\" \"$@\"");
    let shell = &mut Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_nnc")]).args(words).current_dir(folder).output().unwrap()
}

#[test]
fn a_process_without_memory_for_the_front_end_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(Path::new(EXAMPLES).join("digits.nn"), folder.path().join("digits.nn")).unwrap();
    for words in [&["check", "digits.nn"][..], &["fmt", "digits.nn", "--check"]] {
        let output = within(200_000, folder.path(), words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("no memory for the stack of 256 MiB") && !said.contains("panicked"), "{said}");
        assert_eq!(said.matches("error[").count(), 1, "{said}");
    }
}

#[test]
fn a_layer_that_no_memory_holds_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wide.nn"), "model Wide(x: f32[N, 20000]) -> f32[N, 20000] = dense(x, 20000)\n")
        .unwrap();
    let output = within(1_500_000, folder.path(), &["bench", "wide.nn", "--seconds", "0.01", "--threads", "1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(
            "the weights and states are 1600080000 bytes, the largest of them `dense_1.w`, f32[20000, 20000]: 1526 MB"
        ) && said.contains("make the layers smaller"),
        "{said}"
    );
    assert!(!said.contains("batch"), "{said}");
}

#[test]
fn weights_that_the_rest_of_memory_does_not_hold_are_told_before_they_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let layers = "x |> dense(10000, bias=false) |> dense(10000, bias=false)";
    let text = format!(
        "model Wide(x: f32[N, 10000]) -> f32[N, 10000] = {layers}
        data d {{ train: (f32[10000], f32[10000]) = csv(\"d.csv\"); x: f32[10000] = train.0; y: f32[10000] = train.1 }}
        train Wide on d {{ epochs = 1; batch = 1; minimize mse(Wide(x), y) using sgd(lr=0.1) }}"
    );
    fs::write(folder.path().join("wide.nn"), text).unwrap();
    let row: Vec<&str> = vec!["1"; 20000];
    fs::write(folder.path().join("d.csv"), row.join(",") + "\n").unwrap();
    // Each fits, and both do, but not beside what the compiler itself has by then.
    for kib in [500_000, 800_000] {
        let output = within(kib, folder.path(), &["train", "wide.nn", "--threads", "1"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("the weights and states are 800000000 bytes"), "{said}");
        assert!(!said.contains("panicked") && !said.contains("allocation"), "{said}");
    }
}

#[test]
fn open_dims_are_as_large_as_what_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "model First(x: f32[N, T]) -> f32[N] = sum(x, axis=-1)
model Last(x: f32[N, T], y: f32[N, K, 2]) -> f32[N, T] = x + sum(sum(y, axis=-1), axis=-1, keep=true)
";
    fs::write(folder.join("net.nn"), text).unwrap();
    fs::write(folder.join("x.csv"), "1,2,3\n4,5,6\n").unwrap();
    fs::write(folder.join("y.csv"), "1,1,1,1\n2,2,2,2\n").unwrap();
    let output = nnc(folder, &["run", "net.nn", "--only", "First", "--input", "x.csv", "--json"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty() && out.contains("15"), "{out}{err}");
    // A table does not tell how its cells lie in two axes.
    let output = nnc(folder, &["run", "net.nn", "--input", "x=x.csv", "--input", "y=y.csv"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && err.contains("`K` is taken as 1") && err.contains("--bind K=64"), "{err}");
    let prune = ["prune", "net.nn", "--weights", "none.safetensors", "--sparsity", "0.5", "-o", "p.safetensors"];
    common::write(&folder.join("none.safetensors"), &std::collections::BTreeMap::new(), None);
    let output = nnc(folder, &prune);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("`T`, `K` are taken as 1") && err.contains("--bind T=64 K=64"), "{err}");
    let output = nnc(folder, &["run", "net.nn", "--bind", "K=2", "--input", "x=x.csv", "--input", "y=y.csv"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    assert_eq!(err, "of 2 models the last one is taken, `Last`; name another with `--only`, as `--only First`\n");
    let shown = nnc(folder, &["show", "net.nn", "--bind", "K=2", "T=3"]);
    assert_eq!(String::from_utf8_lossy(&shown.stderr), err);
    let error = fails(folder, &["run", "net.nn", "--only", "First", "--bind", "T=2", "--input", "x.csv"]);
    assert!(error.contains("x.csv"), "{error}");
}

/// A size that is given leaves the other one of a product to be solved for, and says the dim of a default.
#[test]
fn a_given_size_leaves_the_rest_to_what_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "model Grid(x: f32[N, H * W]) -> f32[N, H] = sum(reshape(x, [N, H, W]), axis=-1)
model Known(x: f32[N, T], k: f32[N, L] = 2) -> f32[N, L] = k + sum(x, axis=1)[:, new]
";
    fs::write(folder.join("net.nn"), text).unwrap();
    fs::write(folder.join("x.csv"), "1,1,1,2,2,2\n3,3,3,4,4,4\n").unwrap();
    let output = nnc(folder, &["run", "net.nn", "--only", "Grid", "--bind", "H=2", "--input", "x.csv", "--json"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty() && out.contains("12"), "{out}{err}");
    let error = fails(folder, &["run", "net.nn", "--only", "Grid", "--bind", "H=4", "--input", "x.csv"]);
    assert!(error.contains("no whole `W`"), "{error}");
    let known = ["run", "net.nn", "--only", "Known", "--bind", "L=3", "--input", "x=x.csv", "--json"];
    let output = nnc(folder, &known);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("23") && out.matches("11").count() == 3, "{out}{err}");
}
