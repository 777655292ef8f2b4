//! Files of compressed weights that lie: each is told, with the file, the tensor and what to do, and nothing is
//! written.

mod common;

use common::{Stored, altered, digits, fails, nnc, ok};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FLOATS: &str = "floats/last.safetensors";
const BROKEN: &str = "broken.safetensors";

/// The digits, trained for an epoch by a recipe with such an option more.
fn trained(option: &str) -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    let source = fs::read_to_string(folder.join("digits.nn")).unwrap();
    let source = source.replace("    metric accuracy", &format!("    {option}\n    metric accuracy"));
    fs::write(folder.join("digits.nn"), source).unwrap();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "floats"]);
    (keep, folder)
}

/// Every command refuses what `change` makes of a file, and says `told`.
fn refused(folder: &Path, file: &str, told: &[&str], change: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    altered(folder, file, BROKEN, change);
    for line in [
        &["eval", "digits.nn"][..],
        &["explain", "digits.nn"],
        &["quantise", "digits.nn", "-o", "made"],
        &["prune", "digits.nn", "-o", "made"],
        &["build", "digits.nn", "-o", "made"],
    ] {
        let said = fails(folder, &[line, &["--weights", BROKEN]].concat());
        for told in [&[BROKEN], told].concat() {
            assert!(said.contains(told), "{line:?} does not say {told:?}: {said}");
        }
    }
    assert!(!folder.join("made").exists());
}

#[test]
fn scales_of_few_bits_are_numbers() {
    let (_keep, folder) = trained("");
    for form in ["int8", "int4"] {
        let line = ["quantise", "digits.nn", "--weights", FLOATS, "--weights-only", form, "--max-drop", "100"];
        ok(&folder, &[&line[..], &["--all", "-o", &format!("{form}.safetensors")]].concat());
    }
    for (form, lie) in
        [("int8", f32::NAN), ("int8", f32::INFINITY), ("int8", -0.5), ("int4", f32::NEG_INFINITY), ("int4", f32::NAN)]
    {
        let told = ["`dense_1.w.scales`", "quantise the floats again"];
        refused(&folder, &format!("{form}.safetensors"), &told, |tensors| {
            tensors.get_mut("dense_1.w.scales").unwrap().bytes[4..8].copy_from_slice(&lie.to_le_bytes());
        });
    }
}

#[test]
fn integers_and_their_scales_and_ranges_are_such() {
    let (_keep, folder) = trained("");
    let line = ["quantise", "digits.nn", "--weights", FLOATS, "--all", "--max-drop", "100", "-o", "q.safetensors"];
    ok(&folder, &line);
    let again = "quantise the floats again";
    for lie in [f32::NAN, f32::INFINITY, -0.5] {
        refused(&folder, "q.safetensors", &["`dense_1.w.scale`", again], |tensors| {
            tensors.get_mut("dense_1.w.scale").unwrap().bytes[4..8].copy_from_slice(&lie.to_le_bytes());
        });
    }
    for lie in [
        &[0.0, 0.0][..],
        &[f32::NAN, 0.0],
        &[-1.0, 0.0],
        &[f32::INFINITY, 1.0],
        &[1.0, 0.5],
        &[1.0],
        &[],
        &[1.0, 0.0, 1.0],
        &[1.0, 0.0, 0.0, 0.0],
    ] {
        refused(&folder, "q.safetensors", &["`$quantised.dense_1.w`", again], |tensors| {
            tensors.insert("$quantised.dense_1.w".to_owned(), Stored::floats(&[lie.len()], lie));
        });
    }
    refused(&folder, "q.safetensors", &["`dense_1.w.scale`", again], |tensors| {
        tensors.insert("dense_1.w.scale".to_owned(), Stored::floats(&[0], &[]));
    });
    refused(&folder, "q.safetensors", &["`dense_1.w.scale`", again], |tensors| {
        tensors.insert("dense_1.w.scale".to_owned(), Stored::floats(&[3], &[1.0; 3]));
    });
    refused(&folder, "q.safetensors", &["`dense_1.w.q8`", again], |tensors| {
        tensors.get_mut("dense_1.w.q8").unwrap().bytes[7] = 65;
    });
    let no_shifts = [(&[3][..], 0.0), (&[64], f32::NAN), (&[64, 1], 0.0)];
    for (dims, lie) in no_shifts {
        refused(
            &folder,
            "q.safetensors",
            &["`dense_1.w.shift` is no finite number for each channel", again],
            |tensors| {
                let of_channels =
                    tensors.insert("dense_1.w.shift".to_owned(), Stored::floats(dims, &vec![lie; dims[0]]));
                assert_eq!(of_channels.expect("the layer is shifted").dims, [64]);
            },
        );
    }
    refused(&folder, "q.safetensors", &["`$looked.dense_1.w`", again], |tensors| {
        drop(tensors.remove("$looked.dense_1.w"));
    });
}

/// A range that was trained is a magnitude and a sign.
#[test]
fn ranges_that_were_trained_are_such() {
    let (_keep, folder) = trained("quantise()");
    let [top, sign] = ["$quantise.dense_1.w.top", "$quantise.dense_1.w.sign"];
    let told = |path: &str| [format!("`{path}`"), "another checkpoint".to_owned()];
    let lies = [(top, -1.0), (top, f32::NAN), (top, f32::INFINITY), (sign, 0.5), (sign, -1.0), (sign, f32::NAN)];
    for (path, lie) in lies {
        let told = told(path);
        refused(&folder, FLOATS, &told.each_ref().map(String::as_str), |tensors| {
            tensors.insert(path.to_owned(), Stored::floats(&[], &[lie]));
        });
    }
    for path in [top, sign] {
        let told = told(path);
        refused(&folder, FLOATS, &told.each_ref().map(String::as_str), |tensors| {
            tensors.insert(path.to_owned(), Stored::floats(&[2], &[1.0, 1.0]));
        });
        refused(&folder, FLOATS, &told.each_ref().map(String::as_str), |tensors| drop(tensors.remove(path)));
    }
    // Nothing but 0 seen, though something negative was.
    let both = told(top);
    refused(&folder, FLOATS, &both.each_ref().map(String::as_str), |tensors| {
        tensors.insert(top.to_owned(), Stored::floats(&[], &[0.0]));
        tensors.insert(sign.to_owned(), Stored::floats(&[], &[1.0]));
    });
}

/// A layer that saw nothing but 0 in its training stays one of floats, which is said.
#[test]
fn a_layer_without_a_range_is_named() {
    let (_keep, folder) = trained("quantise()");
    altered(&folder, FLOATS, "idle.safetensors", |tensors| {
        tensors.insert("$quantise.dense_1.w.top".to_owned(), Stored::floats(&[], &[0.0]));
    });
    let output = nnc(&folder, &["eval", "digits.nn", "--weights", "idle.safetensors"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("`dense_1.w`") && said.contains("nothing but 0"), "{said}");
    let begun = nnc(&folder, &["eval", "digits.nn", "--weights", FLOATS]);
    assert!(!String::from_utf8_lossy(&begun.stderr).contains("nothing but 0"));
}
