//! `--max-memory` on the command line.

mod common;

use common::{EXAMPLES, digits, fails, ok};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The arena of a training step, its size without recomputation, and how much is computed again.
fn explained(folder: &Path, limit: &[&str]) -> (u64, u64, usize) {
    let words = [&["explain", "resnet_cifar.nn", "--program", "train", "--json"], limit].concat();
    let told: Value = serde_json::from_str(&ok(folder, &words)).unwrap();
    let bytes = |key: &str| told[key].as_u64().unwrap();
    (bytes("arena_bytes"), bytes("arena_bytes_of_all"), told["computed_again"].as_array().unwrap().len())
}

#[test]
fn explain_shows_what_is_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(Path::new(EXAMPLES).join("resnet_cifar.nn"), folder.join("resnet_cifar.nn")).unwrap();
    let (arena, all, again) = explained(folder, &[]);
    assert_eq!((arena, again), (all, 0));
    let limit = (arena * 3 / 4).to_string();
    let (less, of_all, again) = explained(folder, &["--max-memory", &limit]);
    assert!(less < arena * 3 / 4 && of_all == all && again > 0, "{less} of {arena} bytes, {again} operations");
    let text = ok(folder, &["explain", "resnet_cifar.nn", "--program", "train", "--max-memory", &limit]);
    assert!(text.contains("computed again: "), "{text}");
    let said = fails(folder, &["explain", "resnet_cifar.nn", "--program", "train", "--max-memory", "1MB"]);
    for part in
        ["`ResNetCifar.train` does not fit into 1.0 MB", "weights and states", "resnet_cifar.nn:", "--set batch=N"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn training_in_less_memory_writes_the_same_weights() {
    let (_keep, folder) = digits();
    let train = |out: &str, limit: &[&str]| {
        ok(&folder, &[&["train", "digits.nn", "--set", "epochs=1", "--out", out], limit].concat());
        fs::read(folder.join(out).join("last.safetensors")).unwrap()
    };
    let all = train("all", &[]);
    let said = fails(&folder, &["train", "digits.nn", "--out", "none", "--max-memory", "1kB"]);
    assert!(said.contains("`Digits.init` does not fit into 1.0 kB"), "the first values are made first: {said}");
    assert!(said.contains("smaller layers") && !said.contains("batch"), "and not of examples: {said}");
    let said = fails(&folder, &["train", "digits.nn", "--out", "none", "--max-memory", "200kB"]);
    assert!(said.contains("`Digits.train` does not fit"), "{said}");
    assert!(!folder.join("none").exists(), "nothing is left of a run that did not begin");
    fs::create_dir(folder.join("mine")).unwrap();
    fails(&folder, &["train", "digits.nn", "--out", "mine/a/b", "--max-memory", "200kB"]);
    assert_eq!(fs::read_dir(folder.join("mine")).unwrap().count(), 0, "nor of the folders around it");
    fails(&folder, &["train", "digits.nn", "--out", "mine", "--max-memory", "200kB"]);
    assert!(folder.join("mine").exists(), "a folder that was there stays");
    let said = fails(&folder, &["explain", "digits.nn", "--program", "train", "--max-memory", "1kB"]);
    let least = said.split("it needs ").nth(1).and_then(|rest| rest.split(" kB").next()).unwrap();
    let least: f64 = least.parse().unwrap();
    // What is said is rounded.
    let limit = format!("{:.1}kB", least + 0.1);
    assert!(train("less", &["--max-memory", &limit]) == all);
}

#[test]
fn the_interpreter_has_no_limit() {
    let (_keep, folder) = digits();
    let said = fails(&folder, &["train", "digits.nn", "--engine", "interp", "--max-memory", "1GB"]);
    assert!(said.contains("--max-memory is for native code"), "{said}");
    let said = fails(&folder, &["train", "digits.nn", "--max-memory", "much"]);
    assert!(said.contains("as 512MB, 1.5GB, 2GiB"), "{said}");
}
