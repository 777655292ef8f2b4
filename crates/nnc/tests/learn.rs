//! Statistics of the examples: what `learn_mean` and the others find, and that everything goes by them.

mod common;

use common::{fails, nnc, ok};
use std::fs;
use std::path::Path;

const FILE: &str = r#"
model Line(x: f32[N, 2]) -> f32[N] = x |> dense(1) |> reshape([N])

data points {
    train: (f32[2], f32) = csv("points.csv")
    test = every(5)
    centre = learn_mean(train.1)
    x: f32[2] = (train.0 - learn_mean(train.0)) / learn_std(train.0)
    high: f32[2] = learn_max(x)
    y: f32 = train.1 - centre - learn_min(train.1)
}

train Line on points {
    epochs = 1; batch = 2
    z = Line(x)
    minimize mse(z, y) + 0.0 * mean(high) using sgd(lr=0.1)
    answer value = 0.0 * z + centre
    answer scaled = x
}
"#;

/// Rows 0 and 5 are held out; the others are 1, 2, 3, 4 and twice 7, with a column that is always 3.
const ROWS: &str = "100,3,0\n1,3,10\n2,3,20\n3,3,30\n4,3,40\n-100,3,0\n7,3,70\n7,3,70\n";

/// The statistics of a kind that a file has, those with fewer elements first.
fn learnt(file: &Path, kind: &str) -> Vec<Vec<f64>> {
    let bytes = fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let number = |four: &[u8]| f64::from(f32::from_le_bytes(four.try_into().unwrap()));
    let numbers = |bytes: &[u8]| bytes.chunks_exact(4).map(number).collect::<Vec<f64>>();
    let of_kind = tensors.tensors().into_iter().filter(|(path, _)| path.starts_with(&format!("data:{kind}@")));
    let mut found: Vec<Vec<f64>> = of_kind.map(|(_, view)| numbers(view.data())).collect();
    found.sort_by_key(Vec::len);
    found
}

fn trained() -> tempfile::TempDir {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::write(folder.join("line.nn"), FILE).unwrap();
    fs::write(folder.join("points.csv"), ROWS).unwrap();
    ok(folder, &["train", "line.nn", "--out", "run"]);
    keep
}

#[test]
fn statistics_are_of_the_examples_that_are_trained_on() {
    let keep = trained();
    let file = keep.path().join("run/last.safetensors");
    assert_eq!(learnt(&file, "mean"), [vec![40.0], vec![4.0, 3.0]]);
    // The squares of the distances are 9, 4, 1, 0, 9, 9; the second column does not change.
    let spread = (32.0f64 / 6.0).sqrt();
    let found = &learnt(&file, "std")[0];
    assert!((found[0] - spread).abs() < 1e-6 && found[1] == 1.0, "{found:?}");
    assert_eq!(learnt(&file, "min"), [[10.0]]);
    // One of what others have changed.
    assert!((learnt(&file, "max")[0][0] - 3.0 / spread).abs() < 1e-6);
}

#[test]
fn programs_and_further_runs_go_by_what_was_learnt() {
    let keep = trained();
    let folder = keep.path();
    fs::write(folder.join("one.csv"), "4,3\n").unwrap();
    let weights = "run/last.safetensors";
    let answer = |name| {
        let out = nnc(folder, &["run", "line.nn", "--weights", weights, "-i", "x=one.csv", "--answer", name]);
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(answer("value").contains("40"), "{}", answer("value"));
    assert!(answer("scaled").contains('0') && !answer("scaled").contains('4'), "{}", answer("scaled"));
    // Other data: weights keep what they were trained with, a run of its own learns anew.
    fs::write(folder.join("points.csv"), ROWS.replace("7,3,70", "17,3,170")).unwrap();
    ok(folder, &["train", "line.nn", "--init", weights, "--out", "more"]);
    assert_eq!(learnt(&folder.join("more/last.safetensors"), "mean")[0], [40.0]);
    ok(folder, &["train", "line.nn", "--out", "other"]);
    assert!(learnt(&folder.join("other/last.safetensors"), "mean")[0][0] > 70.0);
}

#[test]
fn weights_without_statistics_start_a_training_and_do_nothing_else() {
    let keep = trained();
    let folder = keep.path();
    let bytes = fs::read(folder.join("run/last.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.tensors().into_iter().filter(|(name, _)| name.starts_with("dense"));
    fs::write(folder.join("bare.safetensors"), safetensors::serialize(kept, None).unwrap()).unwrap();
    ok(folder, &["train", "line.nn", "--init", "bare.safetensors", "--out", "more"]);
    assert_eq!(learnt(&folder.join("more/last.safetensors"), "mean")[0], [40.0]);
    let error = fails(folder, &["eval", "line.nn", "--weights", "bare.safetensors"]);
    assert!(error.contains("data:mean@"), "{error}");
}

#[test]
fn weights_serve_no_other_statistics_than_theirs() {
    let keep = trained();
    let folder = keep.path();
    let weights = "run/last.safetensors";
    // A line more, and one that computes the same: nothing is another statistic.
    let moved = FILE
        .replace("    centre = ", "    y_top = learn_max(train.1)\n    centre = ")
        .replace("+ 0.0 * mean(high)", "+ 0.0 * mean(high) * y_top[0]");
    fs::write(folder.join("line.nn"), &moved).unwrap();
    let error = fails(folder, &["eval", "line.nn", "--weights", weights]);
    assert!(error.contains("data:max@") && !error.contains("data:mean@"), "{error}");
    fs::write(folder.join("line.nn"), FILE.replace("learn_mean(train.1)", "learn_mean(train.1 * 2)")).unwrap();
    let error = fails(folder, &["eval", "line.nn", "--weights", weights]);
    assert!(error.contains("data:mean@"), "{error}");
}

#[test]
fn what_lacks_weights_is_not_told_by_a_path_that_nobody_wrote() {
    let keep = trained();
    fs::write(keep.path().join("row.csv"), "1,3\n").unwrap();
    for (answer, whose) in [
        ("value", "`dense_1.b` and 1 more and what is learned of the data have"),
        ("scaled", "what is learned of the data has"),
    ] {
        let error = fails(keep.path(), &["run", "line.nn", "--answer", answer, "--input", "row.csv"]);
        assert!(error.contains(&format!("{whose} no weights")) && !error.contains("data:"), "{answer}: {error}");
    }
}

#[test]
fn a_statistic_of_what_is_no_number_is_told_where_it_stands() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::write(folder.join("points.csv"), ROWS).unwrap();
    for odd in ["learn_std(sqrt(train.0 - 2))", "learn_max(log(train.0 - 2))"] {
        fs::write(folder.join("line.nn"), FILE.replace("learn_std(train.0)", odd)).unwrap();
        let error = fails(folder, &["train", "line.nn", "--out", "run"]);
        assert!(error.contains("line.nn:8") && error.contains("is NaN"), "{odd}: {error}");
    }
}
