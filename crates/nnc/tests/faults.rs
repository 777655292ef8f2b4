//! What can go wrong around a command: full disks, closed pipes, places that cannot be written, options and data that
//! do not fit. Each is a message that names the place, and nothing half-done is left behind.

mod common;

use common::{LABELLED, command, digits, fails, nnc, ok};
use nnc_data::{DType, encode_npy};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use zip::write::SimpleFileOptions;

/// Every command that prints, after `nnc train digits.nn --out run`.
const COMMANDS: [&[&str]; 19] = [
    &["--help"],
    &["--version"],
    &["new", "fresh"],
    &["check", "digits.nn"],
    &["check", "digits.nn", "--json"],
    &["show", "digits.nn"],
    &["show", "digits.nn", "--json"],
    &["fmt", "untidy.nn", "--check"],
    &["train", "digits.nn", "--out", "other", "--set", "epochs=1"],
    &["eval", "digits.nn", "--weights", "run/last.safetensors"],
    &["eval", "digits.nn", "--weights", "run/last.safetensors", "--json"],
    &["run", "digits.nn", "--weights", "run/last.safetensors", "--input", "row.csv"],
    &["build", "digits.nn", "--weights", "run/last.safetensors", "-o", "digits"],
    &["grad", "digits.nn"],
    &["dump", "digits.nn", "--at", "graph"],
    &["bench", "digits.nn", "--seconds", "0.01"],
    &["explain", "digits.nn"],
    &["explain", "digits.nn", "--json"],
    &["demo", "--out", "demo"],
];

fn row() -> String {
    vec!["3"; 64].join(",") + "\n"
}

fn trained(folder: &Path) {
    ok(folder, &["train", "digits.nn", "--out", "run", "--set", "epochs=1"]);
    fs::write(folder.join("row.csv"), row()).unwrap();
    fs::write(folder.join("untidy.nn"), "fn f( x: f32 )->f32=x\n").unwrap();
}

fn full_disk() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_full_disk_is_one_clear_line() {
    let (_keep, folder) = digits();
    trained(&folder);
    for words in COMMANDS {
        let output = command(&folder, words).stdout(full_disk()).stderr(Stdio::piped()).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{words:?}\n{said}");
        let faults: Vec<&str> = said.lines().filter(|line| line.starts_with("error")).collect();
        assert!(matches!(faults[..], [fault] if fault.contains("No space left")), "{words:?}\n{said}");
        assert!(!said.contains("panicked"), "{words:?}\n{said}");
    }
    let output = command(&folder, &["check", "none.nn"]).stdout(full_disk()).stderr(full_disk()).status().unwrap();
    assert_eq!(output.code(), Some(1), "an error that cannot be shown is still one");
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let (_keep, folder) = digits();
    trained(&folder);
    let quiet = COMMANDS.iter().filter(|words| !matches!(words[0], "train" | "fmt" | "demo" | "new"));
    for words in quiet {
        let mut child = command(&folder, words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}\n{}", said(&output));
    }
}

#[test]
fn a_training_that_nobody_reads_stops_and_can_be_resumed() {
    let (_keep, folder) = digits();
    let words = ["train", "digits.nn", "--out", "run", "--set", "epochs=500"];
    let mut child = command(&folder, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("/500") {}
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(said(&output).contains("--resume") && !said(&output).contains("error"), "{}", said(&output));
    assert!(folder.join("run/last.safetensors").exists());
}

/// Runs `nnc` where no file can grow beyond so many blocks of 512 bytes.
fn on_a_small_disk(folder: &Path, blocks: usize, words: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_nnc")]).args(words).current_dir(folder).output().unwrap()
}

#[test]
fn a_disk_that_is_full_at_the_first_checkpoint_leaves_nothing() {
    let (_keep, folder) = digits();
    let output = on_a_small_disk(&folder, 64, &["train", "digits.nn", "--out", "run"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("safetensors: cannot be written"), "{}", said(&output));
    assert!(!folder.join("run").exists());
}

#[test]
fn a_new_file_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = on_a_small_disk(folder.path(), 0, &["new", "mynet"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("mynet.nn"), "{}", said(&output));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn places_are_tried_before_the_training() {
    let (_keep, folder) = digits();
    let train = ["train", "digits.nn", "--set", "epochs=1000000"];
    for (more, part) in [
        (&["--out", "run", "--report", "none/report.json"][..], "none/report.json"),
        (&["--out", "run", "--report", "digits.nn"], "is an input"),
        (&["--out", "run", "--report", "data/digits.csv.gz"], "is an input"),
        (&["--out", "run", "--report", "data"], "not a regular file"),
        (&["--out", "run", "--report", "run/last.safetensors"], "the run itself writes that file"),
        (&["--out", "./run", "--report", "data/../run/best.safetensors"], "the run itself writes that file"),
        (&["--out", "run/../run", "--report", "run/metrics.csv"], "the run itself writes that file"),
        (&["--out", "digits.nn"], "digits.nn"),
        // Nobody, not even root, may put a file there.
        (&["--out", "/proc/self"], "/proc/self/last.safetensors"),
    ] {
        let error = fails(&folder, &[&train[..], more].concat());
        assert!(error.contains(part), "{more:?}: {error}");
    }
    assert!(!folder.join("run").exists());
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "run", "--report", "./run/report.json"]);
    assert!(folder.join("run/report.json").exists());
}

#[test]
fn options_that_do_not_fit_are_shown_where_they_are() {
    let (_keep, folder) = digits();
    let most = i64::MAX.to_string();
    let batch = format!("batch={most}");
    let epochs = format!("epochs={most}");
    let cases: &[(&[&str], &str)] = &[
        (&["train", "digits.nn", "--set", &batch], "`batch` is at most"),
        (&["train", "digits.nn", "--set", &epochs], "`epochs` is at most"),
        (&["train", "digits.nn", "--set", "batch=abc"], "--set batch=abc"),
        (&["train", "digits.nn", "--set", "bacth=3"], "did you mean `batch`?"),
        (&["train", "digits.nn", "--bind", "N=3"], "--set batch=3"),
        (&["eval", "digits.nn", "--weights", "x", "--bind", "N=3"], "--set batch=3"),
        (&["show", "digits.nn", "--bind", "M=3"], "--bind M=3"),
        (&["check", "digits.nn", "--bind", "M=3"], "leaves no dim `M` open"),
        (&["show", "digits.nn", "--bind", "N=99999999999"], "2147483648"),
        (&["show", "digits.nn", "--only", "Digit"], "has no model `Digit`; it has `Digits`"),
        (&["train", "digits.nn", "--set", "epochs=1", "epochs=2"], "given twice"),
        (&["train", "digits.nn", "--checkpoint-every", "0"], "--checkpoint-every"),
        (&["train", "digits.nn", "--out", "none", "--resume"], "no none/last.safetensors"),
        (&["new", ".."], "no name for a file"),
        (&["new", "digits"], "digits.nn is there already"),
    ];
    for (words, expected) in cases {
        let error = fails(&folder, words);
        assert!(error.contains(expected), "nnc {}: {error}", words.join(" "));
    }
    assert!(!folder.join("none").exists());
}

#[test]
fn arrays_of_an_archive_are_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut archive = zip::ZipWriter::new(fs::File::create(folder.join("table.npz")).unwrap());
    let numbers: Vec<u8> = (0..80u8).flat_map(|at| f32::from(at).to_le_bytes()).collect();
    let labels: Vec<u8> = (0..20).map(|row| row % 3).collect();
    for (name, dtype, dims, bytes) in [("x", DType::F32, &[20, 4][..], numbers), ("y", DType::U8, &[20], labels)] {
        archive.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        encode_npy(&mut archive, dtype, dims, &bytes).unwrap();
    }
    archive.finish().unwrap().flush().unwrap();
    let source = |arrays: &str| LABELLED.replace("SOURCE", &format!("npz(\"table.npz\", arrays=[{arrays}])"));
    fs::write(folder.join("few.nn"), source("\"x\", \"y\"")).unwrap();
    ok(folder, &["train", "few.nn", "--out", "run"]);
    fs::write(folder.join("wrong.nn"), source("\"x\", \"z\"")).unwrap();
    let error = fails(folder, &["train", "wrong.nn", "--out", "wrong"]);
    assert!(error.contains("table.npz") && error.contains("no array `z`") && error.contains("`x`, `y`"), "{error}");
    fs::write(folder.join("short.nn"), source("\"x\"")).unwrap();
    assert!(fails(folder, &["train", "short.nn", "--out", "short"]).contains("1 array is given for 2 declared fields"));
}

#[test]
fn tensors_of_a_file_are_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let numbers: Vec<u8> = (0..80u8).flat_map(|at| f32::from(at).to_le_bytes()).collect();
    let labels: Vec<u8> = (0..20).map(|row| row % 3).collect();
    let tensors = [
        ("x", TensorView::new(Dtype::F32, vec![20, 4], &numbers).unwrap()),
        ("y", TensorView::new(Dtype::U8, vec![20], &labels).unwrap()),
    ];
    fs::write(folder.join("table.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
    let source = |names| LABELLED.replace("SOURCE", &format!("safetensors(\"table.safetensors\", tensors=[{names}])"));
    fs::write(folder.join("few.nn"), source("\"x\", \"y\"")).unwrap();
    ok(folder, &["train", "few.nn", "--out", "run"]);
    fs::write(folder.join("wrong.nn"), source("\"x\", \"z\"")).unwrap();
    let error = fails(folder, &["train", "wrong.nn", "--out", "wrong"]);
    assert!(error.contains("table.safetensors") && error.contains("no array `z`"), "{error}");
}

#[test]
fn an_answer_is_not_written_over_what_it_is_made_from() {
    let (_keep, folder) = digits();
    trained(&folder);
    let run = ["run", "digits.nn", "--weights", "run/last.safetensors", "-i", "row.csv", "-o"];
    for output in ["row.csv", "./digits.nn", "run/last.safetensors"] {
        assert!(fails(&folder, &[&run[..], &[output]].concat()).contains("is an input"), "{output}");
    }
    let profile = ["profile", "digits.nn", "--seconds", "0.01", "--trace"];
    for (trace, part) in [("digits.nn", "is an input"), ("none/trace.json", "none/trace.json")] {
        assert!(fails(&folder, &[&profile[..], &[trace]].concat()).contains(part), "{trace}");
    }
    assert_eq!(fs::read_to_string(folder.join("row.csv")).unwrap(), row());
    assert!(nnc(&folder, &["eval", "digits.nn", "--weights", "run/last.safetensors"]).status.success());
}
