//! Measures that say nothing, and measures that are 0, of what makes networks smaller.

mod common;

use common::{digits, fails, nnc, ok};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const FLOATS: &str = "floats/last.safetensors";

/// The digits, trained a little, with measures that are odd.
fn trained() -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let odd = "metric accuracy = accuracy(logits, label)
    metric nan_error = log(accuracy(logits, label) - 2.0)
    metric inf_reward = 1.0 / (accuracy(logits, label) * 0.0)
    metric far_error = relu(0.8 - accuracy(logits, label))";
    let source = source.replace("metric accuracy = accuracy(logits, label)", odd);
    fs::write(folder.join("digits.nn"), source).unwrap();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=3", "--out", "floats"]);
    (keep, folder)
}

#[test]
fn a_measure_that_is_no_number_is_an_error() {
    let (_keep, folder) = trained();
    let made = ["-o", "made.safetensors"];
    for (line, more) in [
        (&["quantise", "--all"][..], &made[..]),
        (&["quantise", "--all", "--weights-only", "int8"], &made),
        (&["compress", "--epochs", "0", "--seconds", "0.01"], &made),
        (&["bench", "--compare", FLOATS, "--seconds", "0.01"], &[]),
    ] {
        for (metric, told) in [("nan_error", "`nan_error` is NaN"), ("inf_reward", "`inf_reward` is inf")] {
            let words = [line, more, &["digits.nn", "--weights", FLOATS, "--metric", metric]].concat();
            let said = fails(&folder, &words);
            assert!(said.contains(told) && said.contains("`accuracy`"), "{line:?}: {said}");
        }
    }
    assert!(!folder.join("made.safetensors").exists());
}

/// Per cent of 0 say nothing.
#[test]
fn what_was_0_is_told_in_itself() {
    let (_keep, folder) = trained();
    let rough = ["--range", "percentile", "--percentile", "1", "--all", "-o", "made.safetensors"];
    let line = ["quantise", "digits.nn", "--weights", FLOATS, "--metric", "far_error"];
    let output = nnc(&folder, &[&line[..], &rough].concat());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(" from 0 alone)"), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("(+0."), "{told}");
}
