//! Models by themselves: what they are given from outside, and what is told of it.

mod common;

use common::{Stored, fails, nnc, ok, write};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with `m.nn` and a table `x.csv` of two rows.
fn folder(source: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.nn"), source).unwrap();
    fs::write(folder.path().join("x.csv"), "1,2,3\n4,5,6\n").unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

/// The numbers of the answer to `x.csv`, and what was said.
fn answer(folder: &Path, words: &[&str]) -> (Vec<f64>, String) {
    let output = nnc(folder, &[&["run", "m.nn", "--json", "--input", "x=x.csv"], words].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (numbers(&String::from_utf8_lossy(&output.stdout)), said)
}

/// The numbers of the first answer that was printed as JSON, row by row.
fn numbers(json: &str) -> Vec<f64> {
    fn collect(value: &serde_json::Value, to: &mut Vec<f64>) {
        match value {
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, to)),
            number => to.extend(number.as_f64()),
        }
    }
    let told: serde_json::Value = serde_json::from_str(json).unwrap();
    let mut found = Vec::new();
    collect(&told["answers"]["result"]["values"], &mut found);
    if found.is_empty() {
        panic!("{told}");
    }
    found
}

#[test]
fn a_tensor_with_a_default_may_be_left_out() {
    let source = "model M(x: f32[N, 3], s: f32 = 2.0, w: f32[3] = [1.0, 10.0, 100.0], y: f32[N, D] = x) -> f32[N] {
        return s * sum(x * w, axis=-1) + sum(y, axis=-1)
    }";
    let (_keep, folder) = folder(source);
    assert_eq!(answer(&folder, &[]).0, [648.0, 1323.0]);
    assert_eq!(answer(&folder, &["--engine", "interp"]).0, [648.0, 1323.0]);
    assert_eq!(answer(&folder, &["--set", "s=0.5"]).0, [166.5, 342.0]);
    fs::write(folder.join("w.csv"), "1,1,1\n").unwrap();
    fs::write(folder.join("y.csv"), "7,1\n8,1\n").unwrap();
    let (given, _) = answer(&folder, &["--input", "w=w.csv", "--input", "y=y.csv"]);
    assert_eq!(given, [20.0, 39.0]);
    assert!(fails(&folder, &["run", "m.nn", "--input", "x=x.csv", "--set", "s=abc"]).contains("`s` is set to `abc`"));
    for command in ["bench", "profile"] {
        ok(&folder, &[command, "m.nn", "--seconds", "0.01"]);
    }
    for command in ["show", "explain"] {
        ok(&folder, &[command, "m.nn"]);
    }
    ok(&folder, &["build", "m.nn", "-o", "m"]);
    let run = |words: &[&str]| {
        let output = std::process::Command::new(folder.join("m")).current_dir(&folder).args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        numbers(&String::from_utf8_lossy(&output.stdout))
    };
    assert_eq!(run(&["x.csv", "--json"]), [648.0, 1323.0]);
    assert_eq!(run(&["x.csv", "--json", "--set", "s=0.5"]), [166.5, 342.0]);
}

#[test]
fn what_a_model_knows_at_compile_time_is_set() {
    let (_keep, folder) =
        folder("model M(x: f32[N, 3], k: int = 2, u: [int] = [1]) -> f32[N, k] { return dense(x, k) * u[0] }");
    let shown = |words: &[&str]| ok(&folder, &[&["show", "m.nn"], words].concat());
    assert!(shown(&[]).contains("f32[1, 2]") && shown(&["--set", "k=4"]).contains("f32[1, 4]"));
    for words in [
        &["explain", "m.nn"][..],
        &["dump", "m.nn", "--at=graph"],
        &["bench", "m.nn", "--seconds", "0.01"],
        &["profile", "m.nn", "--seconds", "0.01"],
    ] {
        ok(&folder, &[words, &["--set", "k=4"]].concat());
    }
    assert!(ok(&folder, &["dump", "m.nn", "--at=graph", "--set", "k=4"]).contains("f32[3, 4]"));
    let said = fails(&folder, &["show", "m.nn", "--set", "kk=4"]);
    assert!(said.contains("no model has a setting `kk` to be set") && said.contains("did you mean `k`?"), "{said}");
    assert!(
        fails(&folder, &["show", "m.nn", "--set", "k=many"]).contains("`k` is set to `many`, but takes a whole number")
    );
    assert!(fails(&folder, &["show", "m.nn", "--set", "u=1"]).contains("cannot be set from outside"));
    let two = "model A(x: f32[N, 3], k: int) -> f32[N, k] { return dense(x, k) }
        model B(x: f32[N, 3]) -> f32[N, 2] { return A(x, 2) }";
    fs::write(folder.join("m.nn"), two).unwrap();
    assert!(shown(&["--only", "A", "--set", "k=5"]).contains("f32[1, 5]"));
    assert!(fails(&folder, &["show", "m.nn", "--only", "A"]).contains("--set k=VALUE"));
    assert!(fails(&folder, &["show", "m.nn", "--set", "k=5"]).contains("`B` has no setting `k` to be set"));
}

#[test]
fn rows_that_depend_on_one_another_are_told_and_never_filled_up() {
    let (_keep, folder) = folder("model M(x: f32[N, 3]) -> f32[N, 3] { return x - mean(x, axis=0) }");
    let (alone, said) = answer(&folder, &[]);
    assert_eq!(alone, [0.0; 6]);
    assert!(said.contains("`result` (by `reduce` at m.nn:1) depends on other rows"), "{said}");
    assert!(said.contains("--bind N=2"), "{said}");
    let (together, said) = answer(&folder, &["--bind", "N=2"]);
    assert_eq!(together, [-1.5, -1.5, -1.5, 1.5, 1.5, 1.5]);
    assert!(!said.contains("depends"), "{said}");
    for words in [&["--bind", "N=4"][..], &["--bind", "N=4", "--engine", "interp"]] {
        let said = fails(&folder, &[&["run", "m.nn", "--input", "x=x.csv"], words].concat());
        assert!(said.contains("2 rows cannot be filled up to a multiple of 4: `--bind N=2`"), "{said}");
    }
    let said = nnc(&folder, &["build", "m.nn", "-o", "m"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("--bind N=64"));
    let output = std::process::Command::new(folder.join("m")).arg(folder.join("x.csv")).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("depends on other rows"));
    fs::write(folder.join("m.nn"), "model M(x: f32[N, 3]) -> f32[N, 3] { return x - mean(x, axis=1, keep=true) }")
        .unwrap();
    assert!(!answer(&folder, &[]).1.contains("depends"));
}

#[test]
fn sizes_in_formulas_and_of_lines_come_from_what_is_given() {
    let (_keep, folder) = folder("model M(x: f32[N, 2 * C + 1]) -> f32[N, C] { return x[:, 0..C] }");
    assert_eq!(answer(&folder, &[]).0, [1.0, 4.0]);
    fs::write(folder.join("m.nn"), "model M(x: f32[N, 2 * C]) -> f32[N, C] { return x[:, 0..C] }").unwrap();
    let said = fails(&folder, &["run", "m.nn", "--input", "x=x.csv"]);
    assert!(said.contains("no whole `C` makes `2 * C` in `x` the 3 that it has"), "{said}");
    fs::write(folder.join("m.nn"), "model M(x: f32[R, K]) -> f32[K] { return sum(x, axis=0) }").unwrap();
    assert_eq!(answer(&folder, &[]).0, [5.0, 7.0, 9.0]);
}

#[test]
fn programs_that_grow_without_end_are_refused() {
    let nested = |levels: usize| {
        let body = "y = grad(sum(y), wrt=x); ".repeat(levels);
        format!("model M(x: f32[N, 3]) -> f32[N, 3] {{ y = sin(x) * tanh(x); {body} return y }}")
    };
    let (_keep, folder) = folder(&nested(2));
    ok(&folder, &["dump", "m.nn", "--at=opt"]);
    fs::write(folder.join("m.nn"), nested(14)).unwrap();
    for words in
        [&["run", "m.nn", "--input", "x=x.csv"][..], &["build", "m.nn", "-o", "m"], &["dump", "m.nn", "--at=graph"]]
    {
        let said = fails(&folder, words);
        assert!(said.contains("E0406") && said.contains("m.nn:1:") && said.contains("derivative"), "{said}");
    }
}

#[test]
fn sizes_beyond_all_numbers_are_no_table() {
    let (_keep, sum) = folder("model M(x: f32[N, A, B, C]) -> f32[N, A, B, C] { return x + 1 }");
    let bind = ["--bind", "A=2147483648", "B=2147483648", "C=2147483648"];
    assert!(fails(&sum, &[&["show", "m.nn"][..], &bind].concat()).contains("larger than any memory"));
    ok(&sum, &["show", "m.nn", "--bind", "A=2147483648"]);
    let (_keep, folder) =
        folder("model M(x: f32[N, A, B, C]) -> f32[N, 2 * A, B / 2, C] { return reshape(x, [N, 2 * A, B / 2, C]) }");
    let bind = ["--bind", "A=2147483648", "B=2147483648", "C=4"];
    assert!(fails(&folder, &[&["build", "m.nn", "-o", "m"][..], &bind].concat()).contains("larger than any memory"));
}

/// Whether rows mix is looked for in programs for other numbers of rows, whose derivatives may outgrow all memory.
#[test]
fn programs_that_outgrow_memory_for_other_rows_are_not_looked_into() {
    let source = "model M(x: f32[N, 3]) -> f32[N, 3] {
    y = tanh(x)
    if N == 3 { for i in 0..16 { y = grad(sum(y * y * x), wrt=x) } }
    return y
}";
    let (_keep, folder) = folder(source);
    std::fs::write(folder.join("x.csv"), "0.5,0.25,1").unwrap();
    ok(&folder, &["run", "m.nn", "--input", "x=x.csv"]);
}

#[test]
fn odd_weights_are_told_once() {
    let (_keep, folder) = folder("model M(x: f32[N, 3]) -> f32[N, 2] { return dense(x, 2) }");
    let said = |bias: f32, others: &[&str]| {
        let own =
            [("dense_1.w", Stored::floats(&[3, 2], &[1.0; 6])), ("dense_1.b", Stored::floats(&[2], &[0.0, bias]))];
        let mut tensors: std::collections::BTreeMap<String, Stored> =
            own.map(|(name, tensor)| (name.to_owned(), tensor)).into();
        tensors.extend(others.iter().map(|name| ((*name).to_owned(), Stored::floats(&[1], &[f32::NAN]))));
        write(&folder.join("w.safetensors"), &tensors, None);
        let words = ["run", "m.nn", "--input", "x=x.csv", "--weights", "w.safetensors"];
        let output = nnc(&folder, &words);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(said(1.0, &["$optimizer.dense_1.w.m"]), "");
    let odd = said(f32::INFINITY, &[]);
    assert!(odd.contains("w.safetensors: `dense_1.b` holds a NaN or an infinity"), "{odd}");
    let odd = said(1.0, &["a", "b", "c", "d", "$x"]);
    assert!(odd.contains("nothing takes `a`, `b`, `c` and 1 more"), "{odd}");
    assert!(odd.contains("`a`, `b`, `c` and 1 more hold a NaN or an infinity"), "{odd}");
}

/// A default that its dtype cannot hold is told where it stands.
#[test]
fn a_default_that_does_not_fit_is_an_error() {
    for default in ["i8 = 200", "f32 = 1.0e60", "f16 = 70000.0"] {
        let source = format!("model M(x: f32[N, 3], s: {default}) -> f32[N, 3] {{ return x * f32(s) }}");
        let (_keep, folder) = folder(&source);
        let said = fails(&folder, &["run", "m.nn", "--input", "x=x.csv"]);
        assert!(said.contains("E0308") && said.contains("m.nn:1:"), "{default}: {said}");
    }
}
