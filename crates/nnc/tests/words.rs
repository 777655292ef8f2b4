//! Networks of words and of numbered things from the command line: trained, evaluated, run on a text as it is, and built.

mod common;

use common::{EXAMPLES, fails, ok};
use std::fs;
use std::process::Command;

const SOURCE: &str = "model Bag(text: i32[N, T]) -> f32[N, 2] {
    return masked_mean(embedding(text, 12, 4), is_word(text)) |> dense(2)
}
data films {
    train: (words[5], u8) = csv(\"a.tsv\", separator=\"\\t\", vocabulary=12, lowercase=true)
    test: (words[5], u8) = csv(\"a.tsv\", separator=\"\\t\")
    text: i32[5] = train.0
    label: i32 = i32(train.1)
    balance = label
    classes = [\"bad\", \"good\"]
}
train Bag on films {
    epochs = 40
    batch = 2
    logits = Bag(text)
    minimize cross_entropy(logits, label) using adam(lr=5e-2)
    metric accuracy = accuracy(logits, label)
    answer feeling = softmax(logits)
}
";

const SENTENCES: &str =
    "a good film\t1\na bad film\t0\nGood, good!\t1\nso bad\t0\nthe very good one here is it\t1\nbad film\t0\n";

#[test]
fn a_text_is_classified_as_it_is_given() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::write(folder.join("films.nn"), SOURCE).unwrap();
    fs::write(folder.join("a.tsv"), SENTENCES).unwrap();
    ok(folder, &["train", "films.nn", "--out", "run"]);
    let weights = ["--weights", "run/last.safetensors"];
    assert!(ok(folder, &[&["eval", "films.nn"][..], &weights].concat()).contains("accuracy 100.00 %"));
    fs::remove_file(folder.join("a.tsv")).unwrap();
    ok(folder, &[&["build", "films.nn", "-o", "films"][..], &weights].concat());
    fs::write(folder.join("texts.txt"), "a good one\nbad\n").unwrap();
    for given in [&["text=A good, lovely film"][..], &["texts.txt"], &["so bad", "--json"]] {
        let program =
            Command::new(folder.join("films")).current_dir(folder).arg("--input").args(given).output().unwrap();
        let printed = ok(folder, &[&["run", "films.nn", "--input"][..], given, &weights].concat());
        assert_eq!(printed, String::from_utf8_lossy(&program.stdout), "{given:?}");
    }
    let good = ok(folder, &[&["run", "films.nn", "--input", "text=good"][..], &weights].concat());
    assert!(good.contains("feeling: good"), "{good}");
    let missing = fails(folder, &[&["run", "films.nn", "--input", "text=other.txt"][..], &weights].concat());
    assert!(missing.contains("there is no such file"), "{missing}");
    let help = Command::new(folder.join("films")).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("text: i32[N, 5]  (the numbers of words; a text is read as such)"), "{help}");
    assert!(help.contains("A text may stand in place of its FILE"), "{help}");
}

#[test]
fn what_is_held_out_teaches_no_words() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    let held = "    test: (words[5], u8) = csv(\"a.tsv\", separator=\"\\t\")\n";
    assert!(SOURCE.contains(held));
    let source = SOURCE.replace(held, "    test = every(2)\n    validation = 0.4\n");
    fs::write(folder.join("films.nn"), source).unwrap();
    let sentences: String = (0..10).map(|row| format!("word{row} film\t{}\n", row % 4 / 2)).collect();
    fs::write(folder.join("a.tsv"), sentences).unwrap();
    ok(folder, &["train", "films.nn", "--out", "run", "--set", "epochs=1"]);
    let checkpoint = fs::read(folder.join("run/last.safetensors")).unwrap();
    let words = String::from_utf8_lossy(&checkpoint).into_owned();
    let learned: Vec<bool> = (0..10).map(|row| words.contains(&format!("word{row}"))).collect();
    assert!(learned.iter().step_by(2).all(|learned| !learned), "{learned:?}");
    assert_eq!(learned.iter().filter(|learned| **learned).count(), 3, "of five rows two are for validation");
    // The same rows are held out when the weights are measured, and numbered by the same table.
    ok(folder, &["eval", "films.nn", "--weights", "run/last.safetensors"]);
    ok(folder, &["train", "films.nn", "--out", "run", "--resume", "--set", "epochs=2"]);
}

/// Ratings of planted factors with noise of 0.1: what is held out is predicted nearly as well as it could be.
#[test]
fn planted_factors_are_found() {
    let keep = tempfile::tempdir().unwrap();
    fs::create_dir(keep.path().join("data")).unwrap();
    for name in ["matrix_factorisation.nn", "data/ratings.csv"] {
        fs::copy(format!("{EXAMPLES}/{name}"), keep.path().join(name)).unwrap();
    }
    let printed = ok(keep.path(), &["train", "matrix_factorisation.nn", "--out", "run"]);
    let tested = printed.lines().find(|line| line.starts_with("test on 191 examples")).unwrap();
    let error: f64 = tested.split_whitespace().last().unwrap().parse().unwrap();
    assert!((0.09..0.18).contains(&error), "{tested}");
}
