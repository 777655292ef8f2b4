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
        let help = "number what is there from 0, or let the model tell more apart";
        for part in ["table.csv, line 14, column 5:", "`label`", "7 is not in 0..3", help] {
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

/// Also where the evaluation is made of a whole batch alone, and of the last smaller one not at all.
#[test]
fn a_label_out_of_range_is_found_in_batches_that_are_divided() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table: String = (0..23).map(|row| format!("1,2,3,4,{}\n", if row == 13 { 7 } else { row % 3 })).collect();
    fs::write(folder.join("table.csv"), table).unwrap();
    let text = LABELLED.replace("SOURCE", "csv(\"table.csv\")").replace("batch = 5", "batch = 4");
    let text = text.replace("validation = 0.2\n", "");
    let halved = text.replace("    metric", "    metric first = mean(logits[..N / 2])\n    metric");
    fs::write(folder.join("few.nn"), halved).unwrap();
    let error = fails(folder, &["train", "few.nn", "--out", "run"]);
    assert!(error.contains("7 is not in 0..3") && error.contains("batch of examples 12, 13, 14, 15"), "{error}");
    assert!(!folder.join("run").exists(), "found before the training");
}

/// An index that no single example makes is told with its place.
#[test]
fn an_index_of_the_batch_alone_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table: String = (0..20).map(|row| format!("1,2,3,4,{}\n", row % 3)).collect();
    fs::write(folder.join("table.csv"), table).unwrap();
    let text = LABELLED.replace("SOURCE", "csv(\"table.csv\")");
    let text =
        text.replace("    minimize", "    far = take(logits, iota(N) % 3 * 100)\n    minimize 0.0 * mean(far) +");
    fs::write(folder.join("few.nn"), text).unwrap();
    let error = fails(folder, &["train", "few.nn", "--out", "run"]);
    for part in ["100 is not in 0..", "few.nn:12", "in the batch of examples"] {
        assert!(error.contains(part), "{part}: {error}");
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
    assert!(error.contains("an index is out of range: 5 is not in 0..2 (`take` in `Few` at few.nn:5)"), "{error}");
}

#[test]
fn a_run_names_the_operation() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "model Few(x: i32[N, 3]) -> f32[N, 3] {\n    twice = 2 * x\n    return take(f32(iota(5)), twice)\n}\n";
    fs::write(folder.join("few.nn"), text).unwrap();
    fs::write(folder.join("row.csv"), "1,2,0\n1,2,3\n").unwrap();
    for engine in ["native", "interp"] {
        let error = fails(folder, &["run", "few.nn", "--input", "row.csv", "--engine", engine]);
        assert!(
            error.contains(
                "an index is out of range: 6 is not in 0..5 (`take` in `Few` at few.nn:3), in row 1 of the input"
            ),
            "{error}"
        );
    }
}

#[test]
fn a_number_of_an_input_is_named_with_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "model Few(t: i32[N, 3]) -> f32[N, 3, 4] {
    param w: f32[5, 4] = ones()
    return take(w, t)
}
data table {
    train: (i32[3], f32) = csv(\"table.csv\")
    t: i32[3] = train.0
    y: f32 = train.1
}
train Few on table {
    epochs = 1; batch = 2
    minimize mse(mean(Few(t), axis=[1, 2]), y) using sgd(lr=0.1)
    answer p = Few(t)
}
";
    fs::write(folder.join("few.nn"), text).unwrap();
    fs::write(folder.join("table.csv"), "0,1,2,0.5\n2,3,4,0.5\n").unwrap();
    fs::write(folder.join("rows.csv"), "0,1,2\n2,3,4\n4,5,-1\n").unwrap();
    common::ok(folder, &["train", "few.nn", "--out", "run"]);
    let weights = ["--weights", "run/last.safetensors"];
    common::ok(folder, &[&["build", "few.nn"], &weights[..], &["-o", "few"]].concat());
    let expected = "an index is out of range: `t` holds 5 in row 2, counted from 0, which is not in 0..5";
    for engine in ["native", "interp"] {
        let run = ["--input", "rows.csv", "--engine", engine];
        let error = fails(folder, &[&["run", "few.nn"], &weights[..], &run].concat());
        assert!(error.contains(expected), "{error}");
    }
    let built = std::process::Command::new(folder.join("few")).arg(folder.join("rows.csv")).output().unwrap();
    let error = String::from_utf8_lossy(&built.stderr);
    assert!(!built.status.success() && error.contains(expected), "{error}");
}

#[test]
fn a_label_out_of_range_beside_words_is_no_word() {
    let folder = tempfile::tempdir().unwrap();
    let texts: String = (0..20).map(|row| format!("a b,{}\n", if row == 7 { 3 } else { row % 3 })).collect();
    let model = ("model Few(x: f32[N, 4])", "model Few(x: i32[N, 4])");
    let changes = [
        model,
        ("{ return dense(x, 3) }", "{ return dense(mean(embedding(x, 9, 4), axis=1), 3) }"),
        ("(f32[4], u8)", "(words[4], u8)"),
        ("csv(\"table.csv\")", "csv(\"table.csv\", vocabulary=9, header=false)"),
        ("x: f32[4]", "x: i32[4]"),
    ];
    table_and(folder.path(), &changes);
    fs::write(folder.path().join("table.csv"), texts).unwrap();
    let error = fails(folder.path(), &["train", "few.nn", "--out", "run"]);
    assert!(
        error.contains("line 8, column 2: `label` holds an index that is out of range: 3 is not in 0..3"),
        "{error}"
    );
    assert!(error.contains("number what is there from 0") && !error.contains("vocabulary"), "{error}");
}

#[test]
fn names_of_classes_are_held_to_the_model_and_to_the_labels() {
    let label = "    label: i32 = i32(train.1)\n";
    let named = |classes: &str| format!("{label}    classes = [{classes}]\n");
    let (loss, metric) = ("cross_entropy(logits, label)", "    metric accuracy = accuracy(logits, label)\n");
    let other_loss = "mse(logits[:, 0], f32(label))";
    let told =
        |count: &str| format!("`classes` of `table` names {count}, and the model tells 3 apart: `label` is in 0..3");
    let of_file = "table.csv has the label 2 (`label`): they are numbered from 0".to_owned();
    for (classes, loss_now, expected) in [
        ("\"bad\"", loss, told("1 class")),
        ("\"a\", \"b\"", loss, told("2 classes")),
        ("\"a\", \"b\", \"c\", \"d\"", loss, told("4 classes")),
        ("\"a\", \"b\", \"a\"", loss, "the class `a` is named twice".to_owned()),
        ("\"a\", \"b\"", other_loss, of_file),
    ] {
        let folder = tempfile::tempdir().unwrap();
        table_and(folder.path(), &[(label, &named(classes)), (loss, loss_now), (metric, "")]);
        let error = fails(folder.path(), &["train", "few.nn", "--out", "run"]);
        assert!(error.contains(&expected), "{classes}: {error}");
        assert!(!folder.path().join("run").exists());
    }
    let folder = tempfile::tempdir().unwrap();
    table_and(folder.path(), &[(label, &named("\"a\", \"b\", \"c\""))]);
    common::ok(folder.path(), &["train", "few.nn", "--out", "run"]);
}

#[test]
fn an_example_that_holds_no_number_is_named() {
    let folder = tempfile::tempdir().unwrap();
    table_and(folder.path(), &[("csv(\"table.csv\")", "npy(\"x.npy\", \"y.npy\")"), ("    validation = 0.2\n", "")]);
    let numbers: Vec<u8> =
        (0..80u8).flat_map(|at| if at == 54 { f32::NAN } else { f32::from(at) }.to_le_bytes()).collect();
    let labels: Vec<u8> = (0..20).map(|row| row % 3).collect();
    nnc_data::write_npy(&folder.path().join("x.npy"), nnc_data::DType::F32, &[20, 4], &numbers).unwrap();
    nnc_data::write_npy(&folder.path().join("y.npy"), nnc_data::DType::U8, &[20], &labels).unwrap();
    let error = fails(folder.path(), &["train", "few.nn", "--out", "run"]);
    assert!(error.contains("the data hold it: `x` of example 13, counted from 0, has the number NaN"), "{error}");
}
