//! Indices out of range: whose fault they are, and where they stand.

mod common;

use common::{LABELLED, fails};
use std::fs;
use std::path::Path;

#[test]
fn a_label_out_of_range_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table: String = (0..20).map(|row| format!("1,2,3,4,{}\n", if row == 13 { 7 } else { row % 3 })).collect();
    fs::write(folder.join("table.csv"), table).unwrap();
    fs::write(folder.join("few.nn"), LABELLED.replace("SOURCE", "csv(\"table.csv\")")).unwrap();
    for engine in ["cranelift", "interp"] {
        let error = fails(folder, &["train", "few.nn", "--out", engine, "--engine", engine]);
        for part in ["table.csv, line 14, column 5:", "`label`", "7 is not in 0..3"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!folder.join(engine).exists(), "found before the training");
    }
}

#[test]
fn a_label_out_of_range_in_the_test_split_is_found_before_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table = |wrong: usize| -> String {
        (0..20).map(|row| format!("1,2,3,4,{}\n", if row == wrong { 3 } else { row % 3 })).collect()
    };
    fs::write(folder.join("table.csv"), table(99)).unwrap();
    fs::write(folder.join("test.csv"), "a,b,c,d,label\n\n".to_owned() + &table(6)).unwrap();
    let sources = "csv(\"table.csv\")\n    test: (f32[4], u8) = csv(\"test.csv\")";
    fs::write(folder.join("few.nn"), LABELLED.replace("SOURCE", sources)).unwrap();
    for engine in ["native", "interp"] {
        let error = fails(folder, &["train", "few.nn", "--out", engine, "--engine", engine]);
        assert!(error.contains("test.csv, line 9, column 5:") && error.contains("3 is not in 0..3"), "{error}");
        assert!(!folder.join(engine).exists(), "found before the training");
    }
}

#[test]
fn an_index_that_the_model_makes_is_not_blamed_on_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table: String = (0..20).map(|row| format!("1,2,3,4,{}\n", row % 3)).collect();
    fs::write(folder.join("table.csv"), table).unwrap();
    let model = "{
    param w: f32[3, 3] = ones()
    index = i32(0 * dense(x, 1)[:, 0]) + 5
    return take(w, index)
}";
    let text = LABELLED.replace("SOURCE", "csv(\"table.csv\")").replace("{ return dense(x, 3) }", model);
    fs::write(folder.join("few.nn"), text).unwrap();
    for engine in ["native", "interp"] {
        let error = fails(folder, &["train", "few.nn", "--out", engine, "--engine", engine]);
        for part in
            ["the model makes an index that is out of range: 5 is not in 0..3", "in `Few` at few.nn:", "in example"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("table.csv"), "{error}");
    }
}

/// A table of 20 rows with labels from 0 to 2, and a network whose text is changed.
fn table_and(folder: &Path, changes: &[(&str, &str)]) {
    let table: String = (0..20).map(|row| format!("1,2,3,4,{}\n", row % 3)).collect();
    fs::write(folder.join("table.csv"), table).unwrap();
    let text = LABELLED.replace("SOURCE", "csv(\"table.csv\")");
    let text = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    fs::write(folder.join("few.nn"), text).unwrap();
}

/// Changes of the network's text, whose fault the index is said to be, and which it is.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn an_index_that_is_computed_from_the_data_is_the_models() {
    let gathered = "{ return dense(x, 3) + take(ones([2, 3]), i32(x[:, 0])) }";
    let constant = "{ return dense(x, 3) + take(ones([2, 3]), iota(4))[0] }";
    let plain = "{ return dense(x, 3) }";
    let loss = "cross_entropy(logits, label)";
    let cases: [Case<'_>; 4] = [
        // Twice what the table holds.
        (&[(loss, "cross_entropy(logits, label * 2)")], "the model makes an index", ": 4 is not in 0..3"),
        (&[(plain, constant)], "the model makes an index", ": 2 is not in 0..2"),
        (&[(plain, gathered)], "table.csv, line 1: `x` holds an index that is out of range", ": 2 is not in 0..2"),
        // The block's own arithmetic makes a field.
        (&[("i32(train.1)", "i32(train.1) + 2")], "column 5: `label` holds an index", " is not in 0..3"),
    ];
    for (changes, whose, detail) in cases {
        let folder = tempfile::tempdir().unwrap();
        table_and(folder.path(), changes);
        let table: String = (0..20).map(|row| format!("2,2,3,4,{}\n", row % 3)).collect();
        fs::write(folder.path().join("table.csv"), table).unwrap();
        let error = fails(folder.path(), &["train", "few.nn", "--out", "run"]);
        assert!(error.contains(whose) && error.contains(detail), "{changes:?}: {error}");
        assert!(!folder.path().join("run").exists(), "found before the training");
    }
}

#[test]
fn an_index_that_only_training_makes_names_its_operation() {
    let folder = tempfile::tempdir().unwrap();
    let model = "{
    y = dense(x, 3)
    if training {
        y = y + take(ones([2, 3]), random_int(1) + 5)[new]
    }
    return y
}";
    table_and(folder.path(), &[("{ return dense(x, 3) }", model)]);
    let error = fails(folder.path(), &["train", "few.nn", "--out", "run"]);
    assert!(error.contains("an index is out of range: 5 is not in 0..2 (`gather` in `Few` at few.nn:"), "{error}");
}

#[test]
fn a_run_names_the_operation() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("few.nn"), "model Few(x: i32[N, 3]) -> f32[N, 3] = take(f32(iota(5)), 2 * x)\n").unwrap();
    fs::write(folder.join("row.csv"), "1,2,3\n").unwrap();
    for engine in ["native", "interp"] {
        let error = fails(folder, &["run", "few.nn", "--input", "row.csv", "--engine", engine]);
        assert!(
            error.contains("an index is out of range: 6 is not in 0..5 (`gather` in `Few` at few.nn:1)"),
            "{error}"
        );
    }
}
