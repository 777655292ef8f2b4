//! Pruning as a user meets it: which weights go, that they stay away, and what is refused.

mod common;

use common::{Stored, altered, digits, fails, mask, nnc, ok};
use safetensors::{Dtype, SafeTensors};
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
        (&["-o", "p.safetensors", "--over", "conv2d"], "did you mean `conv2d_1`?"),
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
    let few = ["prune", "digits.nn", "--weights", DENSE, "--sparsity", "1e-9", "-o", "few.safetensors"];
    let said = String::from_utf8(nnc(&folder, &few).stderr).unwrap();
    assert!(said.contains("nothing is pruned: 0.000000001 of 13,584 elements is less than one"), "{said}");
}

#[test]
fn a_mask_that_does_not_fit_is_an_error_of_every_command() {
    let (_keep, folder) = trained();
    ok(&folder, &["prune", "digits.nn", "--weights", DENSE, "-o", "p.safetensors"]);
    altered(&folder, "p.safetensors", "p.safetensors", |tensors| {
        tensors.insert("$prune.dense_1.w.dims".to_owned(), Stored::whole(&[2], &[64, 128]));
    });
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

/// Writes the mask of `dense_1.w` as a byte for each element.
fn as_bytes(folder: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let (dims, mut kept) = mask(&folder.join(file), "dense_1.w");
    change(&mut kept);
    altered(folder, file, file, |tensors| {
        for end in ["bits", "dims"] {
            tensors.remove(&format!("$prune.dense_1.w.{end}"));
        }
        let mask = Stored { dtype: Dtype::BOOL, dims, bytes: kept };
        tensors.insert("$prune.dense_1.w.mask".to_owned(), mask);
    });
}

#[test]
fn masks_are_small_and_those_of_bytes_are_read_too() {
    let (_keep, folder) = trained();
    ok(&folder, &["prune", "digits.nn", "--weights", DENSE, "-o", "p.safetensors"]);
    let size = |file: &str| fs::metadata(folder.join(file)).unwrap().len() as usize;
    // 13,584 weights of four bytes, as many bits, and a header: no course of the training, no state of its optimiser.
    assert!(size("p.safetensors") < 13_706 * 4 + 13_584 / 8 + 3_000, "{}", size("p.safetensors"));
    let told = ok(&folder, &["prune", "digits.nn", "--weights", DENSE, "-o", "p.safetensors", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["file_bytes"], size("p.safetensors"));
    let kept = mask(&folder.join("p.safetensors"), "dense_1.w");
    as_bytes(&folder, "p.safetensors", |_| ());
    ok(&folder, &["eval", "digits.nn", "--weights", "p.safetensors"]);
    ok(&folder, &["train", "digits.nn", "--init", "p.safetensors", "--set", "epochs=1", "--out", "tuned"]);
    assert_eq!(mask(&folder.join("tuned/last.safetensors"), "dense_1.w"), kept);
    altered(&folder, "p.safetensors", "q.safetensors", |tensors| {
        let bits = Stored { dtype: Dtype::U8, dims: vec![3], bytes: vec![0; 3] };
        tensors.insert("$prune.dense_2.w.bits".to_owned(), bits);
    });
    let said = fails(&folder, &["eval", "digits.nn", "--weights", "q.safetensors"]);
    assert!(said.contains("the mask of `dense_2.w` has not a bit for each element"), "{said}");
}

#[test]
fn a_mask_of_odd_bytes_is_an_error() {
    let (_keep, folder) = trained();
    ok(&folder, &["prune", "digits.nn", "--weights", DENSE, "-o", "p.safetensors"]);
    as_bytes(&folder, "p.safetensors", |kept| kept[5] = 2);
    for words in [
        &["eval", "digits.nn", "--weights", "p.safetensors"][..],
        &["train", "digits.nn", "--init", "p.safetensors", "--out", "run"],
        &["prune", "digits.nn", "--weights", "p.safetensors", "-o", "q.safetensors"],
    ] {
        let said = fails(&folder, words);
        let wanted = "element 5 of `$prune.dense_1.w.mask` is the byte 2: a bool is 0 or 1";
        assert!(said.contains(wanted) && said.contains("p.safetensors"), "{said}");
    }
    assert!(!folder.join("run").exists() && !folder.join("q.safetensors").exists());
}

/// The digits with a recipe that prunes.
fn with_pruning(options: &str) -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let source = source.replace("    metric accuracy", &format!("    prune({options})\n    metric accuracy"));
    fs::write(folder.join("digits.nn"), source).unwrap();
    (keep, folder)
}

/// A recipe that prunes, and the zeros that it leaves in each weight.
fn pruned_in_training(options: &str) -> (TempDir, PathBuf, Vec<f64>) {
    let (keep, folder) = with_pruning(options);
    ok(&folder, &["train", "digits.nn", "--set", "epochs=2", "batch=128", "--out", "run"]);
    let share = |name: &&str| {
        let weights = floats(&folder.join("run/last.safetensors"), name);
        weights.iter().filter(|&&weight| weight == 0.0).count() as f64 / weights.len() as f64
    };
    let zeros = PRUNED.iter().map(share).collect();
    (keep, folder, zeros)
}

#[test]
fn a_recipe_prunes_each_layer_to_its_share() {
    for by in ["magnitude", "movement"] {
        let (_keep, _, zeros) = pruned_in_training(&format!("cubic(0.75), every=3, by={by}, scope=\"layer\""));
        assert!(zeros.iter().all(|share| (share - 0.75).abs() < 0.01), "{by}: {zeros:?}");
    }
}

/// Each block is of one kind, wherever the outputs lie: columns of a matrix, the first axis of a convolution.
#[test]
fn a_recipe_prunes_blocks() {
    let (_keep, folder, zeros) = pruned_in_training("cubic(0.75), every=3, scope=\"layer\", block=[1, 16]");
    // The blocks of `dense_2` are 64 of 10 outputs: smaller than a block, so that it stays.
    // `conv2d_1` has nine, of which six are the most that are no more than the share.
    let wanted = [6.0 / 9.0, 0.75, 0.75];
    assert!(zeros.iter().zip(wanted).all(|(share, wanted)| (share - wanted).abs() < 0.01), "{zeros:?}");
    assert!(zeros[3] < 0.1, "{zeros:?}");
    let last = folder.join("run/last.safetensors");
    let dense = mask(&last, "dense_1.w").1;
    assert!(dense.chunks_exact(16).all(|block| block.iter().all(|&kept| kept == block[0])));
    let conv = mask(&last, "conv2d_2.w").1;
    for input in 0..16 * 9 {
        for block in 0..2 {
            let kept = |output: usize| conv[(16 * block + output) * 16 * 9 + input];
            assert!((1..16).all(|output| kept(output) == kept(0)), "input {input}, block {block}");
        }
    }
    let bytes = fs::read(&last).unwrap();
    assert!(SafeTensors::deserialize(&bytes).unwrap().tensor("$prune.dense_2.w.bits").is_err());
    // What is chosen is what `nnc prune --block` would choose of the weights as they are.
    let again = ["prune", "digits.nn", "--weights", "run/last.safetensors", "--block", "1x16", "--scope", "layer"];
    ok(&folder, &[&again[..], &["--sparsity", "0.75", "-o", "again.safetensors"]].concat());
    assert_eq!(mask(&folder.join("again.safetensors"), "dense_1.w").1, dense);
}

/// The digits with a recipe that prunes by what a function gives for a weight.
fn judged_by(score: &str, options: &str) -> (TempDir, PathBuf) {
    let (keep, folder) = with_pruning(&format!("0.75, by=judge, every=3{options}"));
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let judge = format!("fn judge(p: real[...S], g: real[...S], score: real[...S]) -> real[...S] = {score}\n");
    fs::write(folder.join("digits.nn"), judge + &source).unwrap();
    (keep, folder)
}

const SHORT: [&str; 7] = ["train", "digits.nn", "--set", "epochs=1", "batch=128", "--out", "run"];

#[test]
fn of_equal_scores_the_first_go_so_many_as_are_asked_for() {
    for (options, alike) in [("", 1), (", scope=\"layer\"", 1), (", scope=\"layer\", block=[1, 16]", 16)] {
        let (_keep, folder) = judged_by("0 * p * g * score", options);
        ok(&folder, &SHORT);
        let mask = |name: &str| mask(&folder.join("run/last.safetensors"), name).1;
        let gone = |mask: &[u8]| mask.iter().filter(|&&kept| kept == 0).count() as f64 / mask.len() as f64;
        if options.is_empty() {
            let share = gone(&PRUNED.map(mask).concat());
            assert!((share - 0.75).abs() < 0.01, "{share}");
            continue;
        }
        let dense = mask("dense_1.w");
        assert!((gone(&dense) - 0.75).abs() < 0.01, "{options}: {}", gone(&dense));
        assert!(dense.is_sorted(), "{options}: the first go");
        assert!(dense.chunks_exact(alike).all(|block| block.iter().all(|&kept| kept == block[0])), "{options}");
    }
}

#[test]
fn a_score_that_is_no_number_is_an_error_and_nothing_goes() {
    for score in ["log(p) + 0 * g + 0 * score", "1 / (p - p) + 0 * g + 0 * score"] {
        let (_keep, folder) = judged_by(score, "");
        let said = fails(&folder, &SHORT);
        let wanted = "of the scores that `prune` chooses by are no finite numbers in iteration 3";
        assert!(said.contains(wanted), "{said}");
    }
}

/// What went from the weights that a layer begins with stays away, whether it is trained or frozen.
#[test]
fn the_masks_of_a_layers_own_file_hold_in_training() {
    let (_keep, folder) = digits();
    let text = |how: &str| {
        format!(
            "model Body(x: f32[N, 64]) -> f32[N, 64] = x |> dense(64) |> relu |> dense(64)
model Whole(x: f32[N, 64]) -> f32[N, 10] {{
    layer body = Body(){how}
    return body(x) |> relu |> dense(10)
}}
data digits {{
    train: (f32[64], u8) = csv(\"data/digits.csv.gz\")
    test = every(5)
    x: f32[64] = train.0 / 16
    label: i32 = i32(train.1)
}}
train Body on digits {{
    epochs = 1; batch = 128
    minimize mse(Body(x), x) using adam(lr=2e-3)
}}
train Whole on digits {{
    epochs = 1; batch = 128
    minimize cross_entropy(Whole(x), label) using adam(lr=2e-3)
}}
"
        )
    };
    fs::write(folder.join("net.nn"), text("")).unwrap();
    ok(&folder, &["train", "net.nn", "--only", "Body", "--out", "body"]);
    let prune = ["prune", "net.nn", "--only", "Body", "--weights", "body/last.safetensors", "--sparsity", "0.9"];
    ok(&folder, &[&prune[..], &["-o", "tap.safetensors"]].concat());
    for how in [" from \"tap.safetensors\"", " from \"tap.safetensors\" frozen"] {
        fs::write(folder.join("net.nn"), text(how)).unwrap();
        ok(&folder, &["train", "net.nn", "--only", "Whole", "--out", "whole"]);
        for layer in ["dense_1.w", "dense_2.w"] {
            let kept = mask(&folder.join("tap.safetensors"), layer).1;
            let last = folder.join("whole/last.safetensors");
            assert_eq!(mask(&last, &format!("body.{layer}")).1, kept, "{how}");
            let weights = floats(&last, &format!("body.{layer}"));
            assert!(weights.iter().zip(&kept).all(|(weight, kept)| *kept == 1 || *weight == 0.0), "{how}: {layer}");
        }
        // Weights that are given otherwise are others than those of the layer's file.
        let init = ["train", "net.nn", "--only", "Whole", "--init", "dense.safetensors", "--out", "other"];
        fs::write(folder.join("net.nn"), text("")).unwrap();
        ok(&folder, &["train", "net.nn", "--only", "Whole", "--out", "dense"]);
        fs::copy(folder.join("dense/last.safetensors"), folder.join("dense.safetensors")).unwrap();
        fs::write(folder.join("net.nn"), text(how)).unwrap();
        ok(&folder, &init);
        let weights = floats(&folder.join("other/last.safetensors"), "body.dense_1.w");
        assert!(weights.iter().filter(|&&weight| weight == 0.0).count() < 64, "{how}");
        ["whole", "dense", "other"].iter().for_each(|run| fs::remove_dir_all(folder.join(run)).unwrap());
    }
}

#[test]
fn blocks_that_nothing_has_are_an_error_with_its_place() {
    let (_keep, folder) = with_pruning("0.5, block=[1, 1000]");
    let said = fails(&folder, &["train", "digits.nn", "--out", "run"]);
    assert!(said.contains("E0603") && said.contains("a block of 1x1000") && said.contains("digits.nn:"), "{said}");
    assert!(!folder.join("run").exists());
}

/// The best weights are of the network that was asked for, not of one with fewer zeros.
#[test]
fn the_best_is_pruned() {
    let (_keep, folder) = with_pruning("cubic(0.75, end=0.7), every=2, scope=\"layer\"");
    ok(&folder, &["train", "digits.nn", "--set", "epochs=5", "batch=128", "--out", "run"]);
    for name in PRUNED {
        let weights = floats(&folder.join("run/best.safetensors"), name);
        let zeros = weights.iter().filter(|&&weight| weight == 0.0).count() as f64 / weights.len() as f64;
        assert!((zeros - 0.75).abs() < 0.01, "{name}: {zeros}");
    }
}

#[test]
fn a_schedule_that_leaves_its_bounds_is_an_error() {
    let (_keep, folder) = with_pruning("f32(iteration) / 20, every=5");
    let set = ["--set", "epochs=3", "batch=128"];
    let said = fails(&folder, &[&["train", "digits.nn", "--out", "run"][..], &set].concat());
    assert!(said.contains("E0601") && said.contains("from 0 to below 1, and this is 1.2"), "{said}");
    assert!(!folder.join("run/last.safetensors").exists());
}

/// A schedule that is 0 throughout, one that begins after the last choice; and one that begins before it.
#[test]
fn pruning_that_takes_nothing_is_an_error_with_its_place() {
    for pruning in ["f32(iteration) * 0, every=1", "cubic(0.5, begin=0.95, end=1.0), every=9"] {
        let (_keep, folder) = with_pruning(pruning);
        let set = ["--set", "epochs=1", "batch=128"];
        let said = fails(&folder, &[&["train", "digits.nn", "--out", "run"][..], &set].concat());
        let told = ["E0601", "digits.nn:", "nothing is ever pruned", "weights are chosen last in iteration"];
        assert!(told.iter().all(|told| said.contains(told)), "{said}");
        assert!(!folder.join("run/last.safetensors").exists());
    }
    let (_keep, folder) = with_pruning("cubic(0.5, begin=0.95, end=1.0), every=1");
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "batch=128", "--out", "run"]);
}

#[test]
fn pruning_that_never_chooses_is_told() {
    let (_keep, folder) = with_pruning("0.5, every=1000");
    let words = ["train", "digits.nn", "--set", "epochs=1", "--out", "run"];
    let said = String::from_utf8(nnc(&folder, &words).stderr).unwrap();
    assert!(said.contains("`prune` never chooses"), "{said}");
    assert!(folder.join("run/best.safetensors").exists());
}

/// Magnitudes need no data: a model by itself is pruned like any other.
#[test]
fn a_model_without_a_recipe_is_pruned() {
    let (_keep, folder) = trained();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let model = &source[source.find("model ").unwrap()..source.find("\ndata ").unwrap()];
    fs::write(folder.join("model.nn"), model).unwrap();
    let words = |file| ["prune", file, "--weights", DENSE, "--sparsity", "0.8", "--block", "1x16", "-o"];
    let report = ok(&folder, &[&words("model.nn")[..], &["m.safetensors"]].concat());
    assert!(report.contains("dense_1.b") && report.contains("a vector") && report.contains("wrote"), "{report}");
    ok(&folder, &[&words("digits.nn")[..], &["p.safetensors"]].concat());
    for name in ["conv2d_2.w", "dense_1.w", "$prune.dense_1.w.bits"] {
        let [model, recipe] = ["m.safetensors", "p.safetensors"].map(|file| tensor(&folder.join(file), name));
        assert!(model == recipe, "{name}");
    }
    // It goes on from there, runs, and is read by the recipe, too.
    let more = ["prune", "model.nn", "--weights", "m.safetensors", "--sparsity", "0.9", "-o", "n.safetensors"];
    ok(&folder, &more);
    let [before, after] = ["m.safetensors", "n.safetensors"].map(|file| floats(&folder.join(file), "dense_1.w"));
    assert!(before.iter().zip(&after).all(|(before, after)| *before != 0.0 || *after == 0.0));
    ok(&folder, &["explain", "model.nn", "--weights", "n.safetensors"]);
    ok(&folder, &["train", "digits.nn", "--init", "n.safetensors", "--out", "tuned", "--set", "epochs=1"]);
    let before = fs::read(folder.join(DENSE)).unwrap();
    for (more, wanted) in [
        (&["-o", DENSE][..], "is an input"),
        (&["-o", "q.safetensors", "--over", "dense_9"], "no parameter has this path"),
        (&["-o", "q.safetensors", "--channels", "0.5"], "a model without a recipe"),
    ] {
        let said = fails(&folder, &[&["prune", "model.nn", "--weights", DENSE][..], more].concat());
        assert!(said.contains(wanted), "{said}");
    }
    assert!(!folder.join("q.safetensors").exists() && fs::read(folder.join(DENSE)).unwrap() == before);
}

#[test]
fn a_recipe_that_prunes_goes_on_with_the_same_bits() {
    let (_keep, folder, _) = pruned_in_training("cubic(0.8), every=3");
    let whole = fs::read(folder.join("run/last.safetensors")).unwrap();
    let set = ["--set", "epochs=2", "batch=128"];
    ok(&folder, &[&["train", "digits.nn", "--out", "again"][..], &set].concat());
    assert!(whole == fs::read(folder.join("again/last.safetensors")).unwrap(), "two runs differ");
    let weights = floats(&folder.join("run/last.safetensors"), "dense_1.w");
    let held = mask(&folder.join("run/last.safetensors"), "dense_1.w").1;
    assert!(weights.iter().zip(&held).all(|(&weight, &kept)| kept == 1 || weight == 0.0));
    assert!(held.contains(&0));
    // What is trained on from there keeps its zeros, too.
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    fs::write(folder.join("plain.nn"), source.replace("    prune(cubic(0.8), every=3)\n", "")).unwrap();
    let init = ["train", "plain.nn", "--init", "run/last.safetensors", "--out", "tuned"];
    ok(&folder, &[&init[..], &["--set", "epochs=1", "batch=128"]].concat());
    assert_eq!(mask(&folder.join("tuned/last.safetensors"), "dense_1.w").1, held);
}

#[test]
fn sparse_weights_run_and_build_as_dense_ones_do() {
    let (_keep, folder) = trained();
    let sparse =
        ["prune", "digits.nn", "--weights", DENSE, "--sparsity", "0.9", "--scope", "layer", "-o", "p.safetensors"];
    ok(&folder, &sparse);
    let explained = ok(&folder, &["explain", "digits.nn", "--program", "answer", "--weights", "p.safetensors"]);
    assert!(explained.contains("90 % zeros: "), "{explained}");
    let row: Vec<String> = (0..64).map(|at| (at % 17).to_string()).collect();
    fs::write(folder.join("x.csv"), row.join(",") + "\n").unwrap();
    let run = ["run", "digits.nn", "--weights", "p.safetensors", "--input", "x.csv", "--json"];
    let native = ok(&folder, &run);
    let portable = ok(&folder, &[&run[..], &["--engine", "cranelift"]].concat());
    assert_eq!(native, portable);
    ok(&folder, &["build", "digits.nn", "--weights", "p.safetensors", "-o", "digits"]);
    let built =
        std::process::Command::new(folder.join("digits")).current_dir(&folder).args(["x.csv"]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

#[test]
fn a_mask_that_prunes_what_is_there_is_an_error() {
    let (_keep, folder) = trained();
    ok(&folder, &["prune", "digits.nn", "--weights", DENSE, "-o", "sparse.safetensors"]);
    altered(&folder, "sparse.safetensors", "odd.safetensors", |tensors| {
        let weights = floats(&folder.join(DENSE), "dense_1.w");
        tensors.insert("dense_1.w".to_owned(), Stored::floats(&[128, 64], &weights));
    });
    let said = fails(&folder, &["eval", "digits.nn", "--weights", "odd.safetensors"]);
    assert!(said.contains("elements of `dense_1.w` are not 0 though its mask prunes them"), "{said}");
    altered(&folder, "sparse.safetensors", "cut.safetensors", |tensors| {
        tensors.remove("$prune.dense_1.w.bits").unwrap();
    });
    let said = fails(&folder, &["eval", "digits.nn", "--weights", "cut.safetensors"]);
    assert!(said.contains("the mask of `dense_1.w`") && said.contains("prune the floats again"), "{said}");
}

/// Shares are counted in floats of 32 bits, whatever the weights are.
#[test]
fn weights_of_16_bits_are_pruned_by_a_recipe() {
    let (_keep, folder) = digits();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let model = "model Half(x: bf16[N, 1, 8, 8]) -> bf16[N, 10] = x |> flatten |> dense(32) |> relu |> dense(10)\n";
    let data = &source[source.find("\ndata ").unwrap() + 1..source.find("\ntrain ").unwrap()];
    let name = data["data ".len()..].split_whitespace().next().unwrap();
    let recipe = format!(
        "\ntrain Half on {name} {{\n    epochs = 1; batch = 16\n    logits = f32(Half(bf16(image)))\n    \
         minimize cross_entropy(logits, label) using adam(lr=1e-3)\n    prune(0.8, every=20)\n}}\n"
    );
    fs::write(folder.join("half.nn"), model.to_owned() + data + &recipe).unwrap();
    ok(&folder, &["train", "half.nn", "--out", "half"]);
    let (dims, kept) = mask(&folder.join("half/last.safetensors"), "dense_1.w");
    let share = kept.iter().filter(|&&kept| kept == 0).count() as f64 / kept.len() as f64;
    assert!(dims == [64, 32] && (0.6..=0.95).contains(&share), "{share}");
    fs::write(folder.join("half.nn"), model.to_owned() + data + &recipe.replace("prune(0.8, every=20)", "quantise()"))
        .unwrap();
    let said = fails(&folder, &["check", "half.nn"]);
    assert!(said.contains("the weights here are floats of 16 bits"), "{said}");
}

#[test]
fn what_follows_a_layer_has_its_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = "
        data d { train: f32[16] = csv(\"d.csv\"); x: f32[16] = train }
        model Net(x: f32[N, 16]) -> f32[N, 4] = x |> dense(16) |> relu |> dense(4)
        train nets on d {
            epochs = 1; batch = 2
            layer net = Net()
            layer target = Net() follows net
            minimize mean((net(x) - target(x) - 1) ** 2) using sgd(lr=0.1)
            answer of_net = net(x)
            answer of_target = target(x)
        }";
    fs::write(folder.join("net.nn"), source).unwrap();
    let row = |from: usize| (from..from + 16).map(|at| format!("{}", at % 7)).collect::<Vec<_>>().join(",");
    fs::write(folder.join("d.csv"), format!("{}\n{}\n{}\n{}\n", row(0), row(2), row(3), row(5))).unwrap();
    ok(folder, &["train", "net.nn", "--out", "run"]);
    let told = ok(
        folder,
        &["prune", "net.nn", "--weights", "run/last.safetensors", "--sparsity", "0.5", "-o", "small.safetensors"],
    );
    assert_eq!(told.matches("has the zeros of what it follows").count(), 4, "{told}");
    let answers = |weights: &str| {
        ["of_net", "of_target"].map(|name| {
            let line = ["run", "net.nn", "--weights", weights, "--answer", name, "--input", "x=d.csv", "--bind", "N=4"];
            ok(folder, &line).replace(name, "answer")
        })
    };
    let [net, target] = answers("small.safetensors");
    assert_eq!(net, target);
    assert_ne!(net, answers("run/last.safetensors")[0]);
    ok(folder, &["train", "net.nn", "--init", "small.safetensors", "--out", "further"]);
    let [net, target] = answers("further/last.safetensors");
    assert_eq!(net, target, "zeros stay");
}
