//! Pruning as a user meets it: which weights go, that they stay away, and what is refused.

mod common;

use common::{digits, fails, nnc, ok};
use safetensors::SafeTensors;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The digits, trained for an epoch.
fn trained() -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "dense"]);
    (keep, folder)
}

const DENSE: &str = "dense/last.safetensors";

/// The bytes of a tensor of a file.
fn tensor(file: &Path, name: &str) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec()
}

fn floats(file: &Path, name: &str) -> Vec<f32> {
    tensor(file, name).chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

const PRUNED: [&str; 4] = ["conv2d_1.w", "conv2d_2.w", "dense_1.w", "dense_2.w"];

#[test]
fn the_share_goes_and_training_keeps_it_away() {
    let (_keep, folder) = trained();
    let report = ok(&folder, &["prune", "digits.nn", "--weights", DENSE, "--sparsity", "0.8", "-o", "p.safetensors"]);
    assert!(report.contains("dense_1.b") && report.contains("a vector") && report.contains("80.0 %"), "{report}");
    let zeros = |file: &str, name: &str| -> Vec<bool> {
        floats(&folder.join(file), name).iter().map(|&value| value == 0.0).collect()
    };
    let before: Vec<Vec<bool>> = PRUNED.iter().map(|name| zeros("p.safetensors", name)).collect();
    let gone = before.iter().flatten().filter(|&&zero| zero).count();
    let all = before.iter().flatten().count();
    assert_eq!(gone, (0.8 * all as f64).round() as usize);
    ok(&folder, &["eval", "digits.nn", "--weights", "p.safetensors"]);
    for engine in ["native", "cranelift"] {
        let set = ["--set", "epochs=1", "batch=512", "--engine", engine];
        let train = ["train", "digits.nn", "--init", "p.safetensors", "--out", engine];
        ok(&folder, &[&train[..], &set[..]].concat());
        for (name, before) in PRUNED.iter().zip(&before) {
            let after = zeros(&format!("{engine}/last.safetensors"), name);
            assert_eq!(&after, before, "{name} on {engine}");
        }
    }
    // A run that goes on keeps them, too.
    ok(&folder, &["train", "digits.nn", "--out", "native", "--resume", "--set", "epochs=2", "batch=512"]);
    assert_eq!(zeros("native/last.safetensors", "dense_1.w"), before[2]);
}

#[test]
fn blocks_and_layers_are_pruned_as_asked() {
    let (_keep, folder) = trained();
    let words = ["prune", "digits.nn", "--weights", DENSE, "--block", "1x16", "--scope", "layer", "--sparsity", "0.75"];
    let report = ok(&folder, &[&words[..], &["--over", "dense_1", "dense_2", "-o", "p.safetensors"]].concat());
    assert!(report.contains("not asked for") && report.contains("smaller than a block"), "{report}");
    let weights = floats(&folder.join("p.safetensors"), "dense_1.w");
    let blocks: Vec<bool> = weights.chunks_exact(16).map(|block| block.iter().all(|&value| value == 0.0)).collect();
    assert_eq!(blocks.iter().filter(|&&zero| zero).count(), blocks.len() * 3 / 4);
    assert_eq!(weights.iter().filter(|&&value| value != 0.0).count(), weights.len() / 4);
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_overwritten() {
    let (_keep, folder) = trained();
    for (more, wanted) in [
        (&["-o", DENSE][..], "is an input"),
        (&["-o", "p.safetensors", "--sparsity", "1.5"], "between 0 and 1"),
        (&["-o", "p.safetensors", "--block", "0x3"], "inputs by outputs"),
        (&["-o", "p.safetensors", "--over", "dense_1.weight"], "no parameter has this path"),
        (&["-o", "p.safetensors", "--over", "dense_1.b"], "nothing of this can be pruned"),
    ] {
        let before = fs::read(folder.join(DENSE)).unwrap();
        let said = fails(&folder, &[&["prune", "digits.nn", "--weights", DENSE][..], more].concat());
        assert!(said.contains(wanted), "{said}");
        assert!(!folder.join("p.safetensors").exists());
        assert_eq!(fs::read(folder.join(DENSE)).unwrap(), before);
    }
}

#[test]
fn what_is_not_as_expected_is_told() {
    let (_keep, folder) = trained();
    let words = ["prune", "digits.nn", "--weights", DENSE, "-o", "p.safetensors"];
    ok(&folder, &words);
    let again = ["prune", "digits.nn", "--weights", "p.safetensors", "--sparsity", "0.5", "-o", "q.safetensors"];
    let said = String::from_utf8(nnc(&folder, &again).stderr).unwrap();
    assert!(said.contains("90.0 % of what may be pruned is zero, not 50.0 %"), "{said}");
}

#[test]
fn a_mask_that_does_not_fit_is_an_error_of_every_command() {
    let (_keep, folder) = trained();
    ok(&folder, &["prune", "digits.nn", "--weights", DENSE, "-o", "p.safetensors"]);
    let bytes = fs::read(folder.join("p.safetensors")).unwrap();
    let text = String::from_utf8_lossy(&bytes[8..]);
    let at = 8 + text.find("$prune.dense_1.w.mask").unwrap();
    let shape = at + String::from_utf8_lossy(&bytes[at..]).find("[128,64]").unwrap();
    let mut wrong = bytes;
    wrong[shape..shape + 8].copy_from_slice(b"[64,128]");
    fs::write(folder.join("p.safetensors"), wrong).unwrap();
    for words in [
        &["eval", "digits.nn", "--weights", "p.safetensors"][..],
        &["train", "digits.nn", "--init", "p.safetensors", "--out", "run"],
        &["prune", "digits.nn", "--weights", "p.safetensors", "-o", "q.safetensors"],
    ] {
        let said = fails(&folder, words);
        assert!(said.contains("the mask of `dense_1.w` is bool[64, 128]; bool[128, 64] is wanted"), "{said}");
    }
    assert!(!folder.join("run").exists() && !folder.join("q.safetensors").exists());
}
