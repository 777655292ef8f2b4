//! `nnc compress`: a search over pruning, other numbers and both.

mod common;

use common::{EXAMPLES, digits, fails, nnc, ok};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FLOATS: &str = "floats/best.safetensors";

/// The digits, trained a little.
fn trained() -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=3", "--out", "floats"]);
    (keep, folder)
}

/// A search that takes no time to speak of.
fn words<'w>(more: &[&'w str]) -> Vec<&'w str> {
    let fixed = ["compress", "digits.nn", "--weights", FLOATS, "-o", "out.safetensors", "--seconds", "0.02"];
    [&fixed[..], more].concat()
}

fn eval(folder: &Path, weights: &str) -> f64 {
    let told = ok(folder, &["eval", "digits.nn", "--weights", weights, "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    told["test"]["accuracy"].as_f64().unwrap()
}

#[test]
fn every_form_is_measured_and_one_is_written() {
    let (_keep, folder) = trained();
    let asked = [
        "--target-speedup",
        "1",
        "--max-drop",
        "100",
        "--epochs",
        "1",
        "--rows",
        "32",
        "--json",
        "--keep",
        "all",
        "--plot",
        "plot.svg",
    ];
    let told: Value = serde_json::from_str(&ok(&folder, &words(&asked))).unwrap();
    let networks = told["networks"].as_array().unwrap();
    // What is made further depends on times; of these all are tried.
    let left_out = told["left_out"].as_array().unwrap();
    let named = |name: &str| networks.iter().chain(left_out).find(|one| one["network"] == name);
    for name in ["whole, floats", "whole, int8", "whole, bf16 weights", "whole, int8 weights", "whole, int4 weights"] {
        assert!(named(name).is_some(), "{name}\n{told:#}");
    }
    // Every way was made, or it says why not.
    assert!(left_out.iter().all(|one| !one["why"].as_str().unwrap().is_empty()), "{told:#}");
    for cut in ["channels", "elements", "blocks"] {
        let is_of = |one: &&Value| one["network"].as_str().unwrap().starts_with(cut);
        assert!(networks.iter().chain(left_out).filter(is_of).count() > 1, "{cut}\n{told:#}");
    }
    assert!(named("whole, floats").unwrap()["drop"] == 0.0, "{told:#}");
    assert!(named("whole, int8 weights").unwrap()["measured"]["size"].as_f64().unwrap() < 0.7, "{told:#}");
    assert!(networks.iter().any(|one| one["frontier"] == true), "{told:#}");
    // A name says what was taken out, which is what is 0.
    for one in networks {
        let name = one["network"].as_str().unwrap();
        let share = name.split_once("elements -").or_else(|| name.split_once("blocks -"));
        let Some((_, share)) = share else { continue };
        let said: f64 = share.split(' ').next().unwrap().parse().unwrap();
        let zeros = 100.0 * one["measured"]["form"]["zeros"].as_f64().unwrap();
        assert!((said - zeros).abs() < 1.0, "{name}: {zeros} %");
    }
    // What was made is what its file holds.
    let chosen = &networks[told["chosen"].as_u64().unwrap() as usize];
    let kept = format!("all/{}.safetensors", chosen["file"].as_str().unwrap());
    assert_eq!(fs::read(folder.join("out.safetensors")).unwrap(), fs::read(folder.join(&kept)).unwrap());
    assert_eq!(told["test"][0].as_f64().unwrap(), eval(&folder, FLOATS));
    assert_eq!(told["test"][1].as_f64().unwrap(), eval(&folder, "out.safetensors"));
    assert_eq!(fs::read_dir(folder.join("all")).unwrap().count(), networks.len());
    let plot = fs::read_to_string(folder.join("plot.svg")).unwrap();
    assert_eq!(plot.matches("<circle").count(), networks.len(), "{plot}");
}

#[test]
fn a_target_that_nothing_meets_writes_nothing() {
    let (_keep, folder) = trained();
    fs::copy(folder.join(FLOATS), folder.join("out.safetensors")).unwrap();
    let before = fs::read(folder.join("out.safetensors")).unwrap();
    let asked = ["--target-speedup", "900", "--epochs", "0"];
    let output = nnc(&folder, &words(&asked));
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert_eq!(output.status.code(), Some(1), "{out}\n{err}");
    assert!(err.contains("no network is 900 times as fast") && err.contains("the fastest that is: "), "{err}");
    assert!(out.contains("whole, floats") && out.contains("frontier"), "{out}");
    assert_eq!(fs::read(folder.join("out.safetensors")).unwrap(), before);
}

/// Why a network is not among those that were made is what `nnc quantise` says of it.
/// What a network lacks is what its row says, whatever the recipe would take out of it while it trains.
#[test]
fn a_recipe_that_prunes_takes_nothing_more() {
    let (_keep, folder) = trained();
    let text = fs::read_to_string(folder.join("digits.nn")).unwrap();
    fs::write(folder.join("digits.nn"), text.replace("    minimize", "    prune(0.8)\n    minimize")).unwrap();
    let asked = ["--target-speedup", "1", "--max-drop", "100", "--epochs", "1", "--rows", "32", "--keep", "all"];
    let told = ok(&folder, &words(&asked));
    let kept = fs::read_dir(folder.join("all")).unwrap().map(|entry| entry.unwrap().path());
    let of_channels = kept.filter(|path| {
        path.to_string_lossy().contains("channels-") && path.to_string_lossy().ends_with("-floats.safetensors")
    });
    let mut found = 0;
    for path in of_channels {
        let bytes = fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let weights = file.tensor("dense_1.w").unwrap();
        let zeros = weights.data().chunks_exact(4).filter(|four| four.iter().all(|byte| *byte == 0)).count();
        assert!(zeros < weights.data().len() / 40, "{}: {zeros} zeros", path.display());
        found += 1;
    }
    assert!(found > 0 || told.contains("passed over channels"), "{told}");
}

#[test]
fn reasons_are_those_of_quantise() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::create_dir(folder.join("data")).unwrap();
    for name in ["linear_regression.nn", "data/iris.csv"] {
        fs::copy(Path::new(EXAMPLES).join(name), folder.join(name)).unwrap();
    }
    ok(folder, &["train", "linear_regression.nn", "--set", "epochs=2", "--out", "floats"]);
    let line = ["compress", "linear_regression.nn", "--weights", FLOATS, "--target-speedup", "1", "--epochs", "0"];
    let output = nnc(folder, &[&line[..], &["--seconds", "0.02", "-o", "out.safetensors"]].concat());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("passed over whole, int8: everything stays f32: few terms\n"), "{told}");
}

#[test]
fn what_cannot_be_searched_is_refused_before() {
    let (_keep, folder) = trained();
    assert!(fails(&folder, &words(&["--metric", "acuracy"])).contains("`accuracy`"));
    fs::create_dir(folder.join("full")).unwrap();
    fs::write(folder.join("full/x"), "x").unwrap();
    assert!(fails(&folder, &words(&["--keep", "full"])).contains("there is something already"));
    assert!(fails(&folder, &words(&["--keep", "digits.nn/all"])).contains("cannot be written"));
    assert!(fails(&folder, &words(&["--plot", "digits.nn"])).contains("digits.nn"));
    assert!(fails(&folder, &words(&["--plot", "out.png"])).contains("a name that ends in `.svg` is wanted"));
    fs::write(folder.join("notes.svg"), "mine").unwrap();
    assert!(fails(&folder, &words(&["--plot", "notes.svg"])).contains("no SVG picture"));
    assert_eq!(fs::read_to_string(folder.join("notes.svg")).unwrap(), "mine");
    assert!(fails(&folder, &words(&["--keep", "./all.svg", "--plot", "all.svg"])).contains("written twice"));
    assert!(fails(&folder, &words(&["--rows", "18446744073709551615"])).contains("from 1 to 1048576"));
    assert!(fails(&folder, &words(&["--target-speedup", "0.5"])).contains("from 1 to 1000"));
    let over = ["compress", "digits.nn", "--weights", FLOATS, "-o", FLOATS];
    assert!(fails(&folder, &over).contains("is an input"));
    let over = ["compress", "digits.nn", "--weights", FLOATS, "-o", "data/digits.csv.gz"];
    assert!(fails(&folder, &over).contains("digits.csv.gz"));
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    fs::write(folder.join("rounded.nn"), source.replacen("metric ", "quantise(start=0)\n    metric ", 1)).unwrap();
    ok(&folder, &["train", "rounded.nn", "--set", "epochs=1", "--out", "rounded"]);
    let rounded = ["compress", "rounded.nn", "--weights", "rounded/best.safetensors", "-o", "out.safetensors"];
    assert!(fails(&folder, &rounded).contains("trained with rounding"));
    ok(&folder, &["quantise", "digits.nn", "--weights", FLOATS, "--all", "-o", "small.safetensors"]);
    let quantised = ["compress", "digits.nn", "--weights", "small.safetensors", "-o", "out.safetensors"];
    assert!(fails(&folder, &quantised).contains("these weights are quantised"));
    assert!(!folder.join("out.safetensors").exists());
}
