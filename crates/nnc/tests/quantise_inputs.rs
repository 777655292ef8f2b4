//! `nnc quantise` of a model by itself takes what `nnc run` takes: inputs that have a default, and open dims.

mod common;

use common::{Stored, fails, nnc, ok, write};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const SOURCE: &str = "model Two(a: f32[N, 32], ids: i32[N, T], b: f32[N, 32] = 0.5) -> f32[N, 32] {
    param table: f32[64, 32] = normal_init(std=0.3)
    e = mean(take(table, ids), axis=1)
    h = concat([a, e, b |> dense(32) |> relu], axis=1) |> dense(64) |> relu
    return h |> dense(32)
}
";
/// Without the input that has a default, and with it.
const FEW: [&str; 4] = ["-i", "a=a.csv", "-i", "ids=ids.csv"];
const ALL: [&str; 6] = ["-i", "a=a.csv", "-i", "ids=ids.csv", "-i", "b=b.csv"];

/// A folder with `two.nn`, its weights and inputs of five rows, of seven words each.
fn folder() -> (TempDir, PathBuf) {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().to_owned();
    fs::write(folder.join("two.nn"), SOURCE).unwrap();
    let of = |dims: &[usize], step: usize| {
        let count = dims.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|at| ((at * step) % 41) as f32 / 100.0 - 0.2).collect();
        Stored::floats(dims, &values)
    };
    let tensors = [
        ("table", of(&[64, 32], 7)),
        ("dense_1.w", of(&[32, 32], 13)),
        ("dense_1.b", of(&[32], 3)),
        ("dense_2.w", of(&[96, 64], 17)),
        ("dense_2.b", of(&[64], 5)),
        ("dense_3.w", of(&[64, 32], 11)),
        ("dense_3.b", of(&[32], 2)),
    ];
    let tensors: BTreeMap<String, Stored> = tensors.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
    write(&folder.join("floats.safetensors"), &tensors, None);
    let table = |columns: usize, value: &dyn Fn(usize) -> String| -> String {
        let line = |row: usize| (0..columns).map(|at| value(row * columns + at)).collect::<Vec<_>>().join(",") + "\n";
        (0..5).map(line).collect()
    };
    let halves = |at: usize| format!("{:.1}", (at % 9) as f32 / 2.0 - 2.0);
    fs::write(folder.join("a.csv"), table(32, &halves)).unwrap();
    fs::write(folder.join("b.csv"), table(32, &|at| halves(at * 5))).unwrap();
    fs::write(folder.join("ids.csv"), table(7, &|at| (at % 64).to_string())).unwrap();
    (keep, folder)
}

#[test]
fn inputs_with_a_default_are_taken() {
    let (_keep, folder) = folder();
    let quantise = |given: &[&str], to: &str| {
        let line = ["quantise", "two.nn", "--weights", "floats.safetensors", "--all", "-o", to];
        ok(&folder, &[&line[..], given].concat())
    };
    let run = |weights: &str, given: &[&str], engine: &str| {
        let line = ["run", "two.nn", "--weights", weights, "--engine", engine, "--json", "--bind", "N=5"];
        nnc(&folder, &[&line[..], given].concat())
    };
    let told = quantise(&ALL, "with.safetensors");
    assert!(told.contains("dense_1    1,024          1,024  int8") && told.contains("moves by"), "{told}");
    // What was looked at is the call that was given, and the same without what has a default.
    for given in [&ALL[..], &FEW] {
        let answers = ["native", "cranelift", "interp"].map(|engine| run("with.safetensors", given, engine));
        for answer in &answers {
            assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        }
        assert!(answers[0].stdout == answers[1].stdout);
        assert_ne!(answers[0].stdout, run("floats.safetensors", given, "native").stdout);
    }
    for command in ["bench", "build", "explain"] {
        let more: &[&str] = match command {
            "bench" => &["--seconds", "0.01"],
            "build" => &["-o", "two"],
            _ => &[],
        };
        ok(&folder, &[&[command, "two.nn", "--weights", "with.safetensors", "--bind", "T=7"], more].concat());
    }
    // Nobody looked at what is given now.
    quantise(&FEW, "without.safetensors");
    assert!(run("without.safetensors", &FEW, "native").status.success());
    let refused = run("without.safetensors", &ALL, "native");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("the model `Two`, given `b`, multiplies by `dense_"), "{said}");
}

#[test]
fn open_dims_are_those_of_what_is_given() {
    let (_keep, folder) = folder();
    let line = ["quantise", "two.nn", "--weights", "floats.safetensors", "--all", "-o", "q.safetensors"];
    let bound = ok(&folder, &[&line[..], &FEW, &["--bind", "T=7"]].concat());
    assert_eq!(ok(&folder, &[&line[..], &FEW].concat()), bound);
    let said = fails(&folder, &[&line[..], &["-i", "a=a.csv"]].concat());
    assert!(said.contains("--input ids=PATH is missing"), "{said}");
    // Weights alone do not ask what they are multiplied by.
    ok(&folder, &[&line[..], &["--weights-only", "bf16"]].concat());
    ok(&folder, &["prune", "two.nn", "--weights", "floats.safetensors", "-o", "p.safetensors"]);
    for file in ["q.safetensors", "p.safetensors"] {
        ok(&folder, &[&["run", "two.nn", "--weights", file][..], &ALL].concat());
    }
}
