//! Answers with parameters on the command line: a text from a prompt, by `nnc run` and by an executable.

mod common;

use common::{EXAMPLES, fails, nnc, ok};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder with the rhyme and a network that has learnt it a little.
fn rhyme(epochs: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("data")).unwrap();
    for name in ["rhyme.nn", "data/rhyme.txt"] {
        fs::copy(Path::new(EXAMPLES).join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().to_owned();
    ok(&path, &["train", "rhyme.nn", "--out", "run", "--set", &format!("epochs={epochs}")]);
    (folder, path)
}

const RUN: [&str; 4] = ["run", "rhyme.nn", "--weights", "run/last.safetensors"];

fn run(folder: &Path, words: &[&str]) -> String {
    ok(folder, &[&RUN[..], words].concat())
}

#[test]
fn a_rhyme_is_learnt_by_heart() {
    let (_keep, folder) = rhyme("150");
    let text = fs::read_to_string(folder.join("data/rhyme.txt")).unwrap();
    assert_eq!(run(&folder, &["--input", "prompt=T"]), format!("{text}\n"));
    // Without the name, from a file, and with another length.
    assert_eq!(run(&folder, &["--input", "T", "--set", "length=3"]), "Twin\n");
    fs::write(folder.join("start.txt"), "Twinkle, t").unwrap();
    assert_eq!(run(&folder, &["--input", "prompt=@start.txt", "--set", "length=5"]), "Twinkle, twinkl\n");
    let json = run(&folder, &["--input", "prompt=Twi", "--set", "length=4", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["answers"]["text"]["text"], serde_json::json!(["Twinkle"]));
    assert_eq!(json["answers"]["text"]["shape"], serde_json::json!([1, 7]));
    ok(&folder, &[&RUN[..], &["--input", "T", "--set", "length=3", "--output", "out.txt"]].concat());
    assert_eq!(fs::read_to_string(folder.join("out.txt")).unwrap(), "Twin\n");
    // The file of a run is an input of another.
    ok(&folder, &[&RUN[..], &["--input", "T", "--set", "length=3", "--output", "out.npy"]].concat());
    assert_eq!(run(&folder, &["--input", "prompt=@out.npy", "--set", "length=4"]), "Twinkle,\n");
}

/// Without weights no character has a number, and a text is not looked for as a file.
#[test]
fn a_text_without_weights_is_told_to_need_them() {
    let said = fails(Path::new(EXAMPLES), &["run", "rhyme.nn", "--input", "prompt=Twi"]);
    assert!(said.contains("there are no weights: give a file of them, `--weights FILE`"), "{said}");
    assert!(!said.contains("no such file"), "{said}");
}

#[test]
fn an_executable_generates_as_run_does() {
    let (_keep, folder) = rhyme("3");
    let warm = ["--set", "temperature=1.5", "--seed", "3"];
    let build = [
        "build",
        "rhyme.nn",
        "--weights",
        "run/last.safetensors",
        "-o",
        "recite",
        "--bind",
        "P=4",
        "--set",
        "length=20",
    ];
    ok(&folder, &build);
    let recite = |words: &[&str]| {
        let output = Command::new(folder.join("recite")).args(words).output().expect("it starts");
        (output.status.success(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
    };
    let by_run = run(
        &folder,
        &[&["--input", "prompt=Like", "--set", "length=20"][..], &["temperature=1.5", "--seed", "3"]].concat(),
    );
    let (works, text) = recite(&[&["Like"][..], &warm].concat());
    assert!(works, "{text}");
    assert_eq!(text, by_run);
    assert_ne!(recite(&["Like", "--set", "temperature=1.5", "--seed", "4"]).1, by_run);
    // A shorter text has line ends before it, here and there.
    let short = recite(&["T"]).1;
    assert!(short.starts_with("\n\n\nT"), "{short}");
    assert_eq!(run(&folder, &["--input", "T", "--bind", "P=4", "--set", "length=20"]), short);
    // Several texts are several rows.
    let both = recite(&["Like", "Up a"]).1;
    assert!(both.starts_with("text 0:\nLike") && both.contains("\ntext 1:\nUp a"), "{both}");
    for (words, part) in [
        (&["Like "][..], "prompt: has 5 characters, and at most 4 are taken"),
        (&["Zoo"], "prompt, line 1: the character `Z` (U+005A) is not among the 30"),
        (&["T", "--set", "length=9"], "this program was built with length=20"),
        (&["T", "--set", "heat=9"], "there is no such option, only `temperature`"),
        (&["T", "--set", "temperature=hot"], "this is no f32"),
        (&[], "nothing is given for the input `prompt`"),
    ] {
        let (works, said) = recite(words);
        assert!(!works && said.contains(part), "{words:?}: {said}");
    }
    let help = recite(&["--help"]).1;
    for part in ["recite [OPTIONS] TEXT...", "prompt: i32[N, 4]", "temperature: f32 = 0", "length=20", "--seed N"] {
        assert!(help.contains(part), "{part} is missing in {help}");
    }
}

#[test]
fn every_engine_says_the_same() {
    let (_keep, folder) = rhyme("3");
    let words = ["--input", "prompt=Tw", "--set", "length=12", "temperature=1", "--seed", "5"];
    let native = run(&folder, &words);
    for engine in ["cranelift", "avx2", "interp"] {
        assert_eq!(run(&folder, &[&words[..], &["--engine", engine]].concat()), native, "{engine}");
    }
    assert_eq!(run(&folder, &[&words[..], &["--no-fuse"]].concat()), native);
}

#[test]
fn what_is_wrong_with_a_generation_is_said() {
    let (_keep, folder) = rhyme("1");
    for (words, part) in [
        (&["--answer", "texts", "--input", "T"][..], "has no answer `texts`; it has `text`: did you mean `text`?"),
        (&["--set", "length=3"], "--input prompt=TEXT is missing"),
        (&["--input", "promt=R"], "did you mean `prompt`?"),
        (&["--input", "prompt="], "prompt: is empty"),
        (&["--input", "prompt=Zoo"], "prompt, line 1: the character `Z` (U+005A) is not among the 30"),
        (&["--input", "prompt=Up", "--set", "lenght=3"], "did you mean `length`?"),
        (&["--input", "prompt=Up", "--set", "length=0"], "a `scan` of no steps"),
        (&["--input", "prompt=Up", "--set", "length=many"], "`length` is set to `many`, but takes a whole number"),
        (&["--input", "prompt=Up", "--set", "temperature=hot"], "takes a number"),
        (&["--input", "prompt=@none.txt"], "none.txt: there is no such file"),
        (&["--input", "prompt=Up", "--seed", "-1"], "a seed is a whole number from 0"),
    ] {
        let said = fails(&folder, &[&RUN[..], words].concat());
        assert!(said.contains(part), "{words:?}: {said}");
    }
    let said = fails(&folder, &["build", "rhyme.nn", "--weights", "run/last.safetensors", "-o", "recite"]);
    assert!(said.contains("E0306") && said.contains("--bind P=64"), "{said}");
    // A word that is a file as well is the text itself, and that is said.
    fs::write(folder.join("Up"), "x").unwrap();
    let output = nnc(&folder, &[&RUN[..], &["--input", "prompt=Up", "--set", "length=3"]].concat());
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("write `@Up` for the file"));
}

/// A folder with a network on points, its data, and weights.
fn points() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    let source = "model Net(x: f32[N, 2]) -> f32[N, 3] { return dense(x, 3) }
        data points {
            train: (f32[2], f32[3]) = csv(\"points.csv\")
            x: f32[2] = train.0
            y: f32[3] = train.1
        }
        train Net on points {
            epochs = 1; batch = 2
            p = Net(x)
            minimize mse(p, y) using sgd(lr=1e-3)
            answer plain = p
            answer noise(count: int = 3, scale: f32 = 1.0) = scale * normal([count, 2])
            answer total(z: f32[N, K], w: f32[K], shift: i64) = z @ w + f32(shift)
            answer both(z: f32[N, 2]) = Net(z) + p
        }";
    fs::write(path.join("net.nn"), source).unwrap();
    fs::write(path.join("points.csv"), "1,2,3,4,5\n2,3,4,5,6\n").unwrap();
    fs::write(path.join("z.csv"), "1,2,3\n4,5,6\n").unwrap();
    fs::write(path.join("w.csv"), "1,0,2\n").unwrap();
    fs::write(path.join("short.csv"), "1,0\n").unwrap();
    ok(&path, &["train", "net.nn", "--out", "run"]);
    (folder, path)
}

#[test]
fn answers_take_tensors_numbers_and_nothing() {
    let (_keep, folder) = points();
    let weights = ["run", "net.nn", "--weights", "run/last.safetensors", "--answer"];
    let run = |words: &[&str]| ok(&folder, &[&weights[..], words].concat());
    let refused = |words: &[&str]| fails(&folder, &[&weights[..], words].concat());
    // Without a field and without an input.
    let noise = run(&["noise", "--set", "count=2", "--seed", "1"]);
    assert!(noise.starts_with("noise: [[") && noise.matches(", [").count() == 1, "{noise}");
    assert_ne!(noise, run(&["noise", "--set", "count=2", "--seed", "2"]));
    assert_eq!(run(&["noise", "--set", "count=1", "scale=0"]).replace('-', ""), "noise: [[0, 0]]\n");
    // Rows of one input, and another that all of them share.
    let total = ["total", "--input", "z=z.csv", "--input", "w=w.csv", "--set", "shift=10"];
    assert_eq!(run(&total), "total: f32[2]\n  0: 17\n  1: 26\n");
    assert_eq!(run(&[&total[..], &["--engine", "interp"]].concat()), "total: f32[2]\n  0: 17\n  1: 26\n");
    // With a field of the data.
    assert!(run(&["both", "--input", "z=short.csv", "--input", "x=short.csv"]).starts_with("both: ["));
    for (words, part) in [
        (
            &["total", "--input", "z=z.csv", "--input", "w=short.csv", "--set", "shift=1"][..],
            "`K` is 3 in `z`, and 2 in `w`",
        ),
        (&["total", "--input", "z=z.csv", "--input", "w=w.csv"], "`shift` is not given; write --set shift=VALUE"),
        (&["total", "--input", "z=z.csv", "--set", "shift=1"], "--input w=PATH is missing"),
        (&["total", "--input", "z=z.csv", "--input", "v=w.csv", "--set", "shift=1"], "--input w=PATH is missing"),
        (&["noise", "--input", "z=z.csv"], "--input z=z.csv: this answer has no inputs"),
        (&["nois"], "did you mean `noise`?"),
        (&["both", "--input", "z=z.csv", "--input", "x=short.csv"], "z.csv"),
    ] {
        let said = refused(words);
        assert!(said.contains(part), "{words:?}: {said}");
    }
    // An executable without inputs.
    let words = [
        "build",
        "net.nn",
        "--weights",
        "run/last.safetensors",
        "--answer",
        "noise",
        "-o",
        "noise",
        "--set",
        "count=2",
    ];
    ok(&folder, &words);
    let output = Command::new(folder.join("noise")).args(["--seed", "1"]).output().expect("it starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), noise);
}

/// What is set is for the answer that is asked for, whoever else has a parameter of that name.
#[test]
fn a_parameter_of_two_answers_is_set_for_the_one_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let source = "data points { train: (f32[2], f32) = csv(\"p.csv\"); x: f32[2] = train.0; y: f32 = train.1 }
        model Net(x: f32[N, 2]) -> f32[N] = dense(x, 1)[:, 0]
        train Net on points {
            epochs = 1; batch = 2
            minimize mse(Net(x), y) using sgd
            answer a(v: f32[N, 2], t: f32 = 0.5, more: f32) = v * t + more
            answer b(v: f32[N, 2], t: f32 = 0.5, more: f32) = v * t - more
            answer c(v: f32[N, 2], k: int = 2, t: f32 = 1.0 * k) = v * k + t
            answer d(v: f32[N, 2], k: int = 2) = v - k
        }";
    fs::write(folder.join("net.nn"), source).unwrap();
    fs::write(folder.join("v.csv"), "1,2\n").unwrap();
    let run = |words: &[&str]| ok(folder, &[&["run", "net.nn", "--input", "v=v.csv", "--answer"], words].concat());
    assert_eq!(run(&["a", "--set", "more=1"]), "a: [1.5, 2]\n");
    assert_eq!(run(&["a", "--set", "t=5", "more=1"]), "a: [6, 11]\n");
    assert_eq!(run(&["b", "--set", "t=5", "more=1"]), "b: [4, 9]\n");
    assert_eq!(run(&["c", "--set", "k=5"]), "c: [10, 15]\n");
    let build = |words: &[&str]| ok(folder, &[&["build", "net.nn", "-o", "it", "--answer"], words].concat());
    let it = |words: &[&str]| {
        let output = Command::new(folder.join("it")).current_dir(folder).args(words).output().expect("it starts");
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    build(&["b", "--set", "t=5", "more=1"]);
    assert_eq!(it(&["v.csv"]), "b: [4, 9]\n");
    assert!(it(&["--help"]).contains("t: f32 = 5"), "{}", it(&["--help"]));
    build(&["c", "--set", "k=5"]);
    assert_eq!(it(&["v.csv"]), "c: [10, 15]\n");
    assert!(it(&["--help"]).contains("k=5"), "{}", it(&["--help"]));
    assert!(it(&["v.csv", "--set", "k=2"]).contains("this program was built with k=5"));
}

#[test]
fn a_file_takes_one_tensor_and_no_text_as_a_picture() {
    let (_keep, folder) = rhyme("1");
    let said = fails(&folder, &[&RUN[..], &["--input", "prompt=T", "--output", "text.png"]].concat());
    assert!(said.contains("text.png: the answer is a text, no picture"), "{said}");
    assert!(!folder.join("text.png").exists());
    fs::write(folder.join("two.nn"), "model Two(x: f32[N, 2]) -> (f32[N, 2], f32[N, 2]) = (x, 2 * x)\n").unwrap();
    fs::write(folder.join("x.csv"), "1,2\n").unwrap();
    let said = fails(&folder, &["run", "two.nn", "--input", "x.csv", "--output", "y.npy"]);
    assert!(said.contains("a file holds one tensor, and these are `result.0`, `result.1`"), "{said}");
}
