//! What is left in floats by the products of a quantised network: tables whose rows are picked by number, and the
//! matrices of its loops.

mod common;

use common::{altered, fails, ok};
use serde_json::Value;
use std::fs;

/// Sentences of six words out of 600, whose class is how many of them are below 300.
const SENTENCES: &str = "
model Sentences(text: i32[N, 6]) -> f32[N, 3] {
    return mean(embedding(text, 600, 16), axis=1) |> dense(32) |> relu |> dense(3)
}
data sentences {
    train: (i32[6], u8) = csv(\"sentences.csv\")
    validation = 0.2
    text: i32[6] = train.0
    label: i32 = i32(train.1)
}
train Sentences on sentences {
    epochs = 3; batch = 32
    logits = Sentences(text)
    minimize cross_entropy(logits, label) using adam(lr=0.01)
    metric accuracy = accuracy(logits, label)
    answer scores = softmax(logits)
    answer given(words: i32[N, 6]) = Sentences(words)
}
";

/// A folder with the sentences and the model.
fn sentences(model: &str) -> tempfile::TempDir {
    let keep = tempfile::tempdir().unwrap();
    let word = |at: usize| at * 7919 % 600;
    let line = |row: usize| {
        let words: Vec<usize> = (0..6).map(|place| word(6 * row + place)).collect();
        let low = words.iter().filter(|&&word| word < 300).count();
        let words: Vec<String> = words.iter().map(usize::to_string).collect();
        format!("{},{}\n", words.join(","), low / 3)
    };
    fs::write(keep.path().join("sentences.csv"), (0..400).map(line).collect::<String>()).unwrap();
    fs::write(keep.path().join("s.nn"), model).unwrap();
    keep
}

/// The loop multiplies the floats that the integers stand for: on every engine alike, and in an answer that nothing
/// looked at.
#[test]
fn matrices_of_loops_are_stored_in_bytes() {
    let model = SENTENCES.replace("mean(embedding(text, 600, 16), axis=1)", "gru(embedding(text, 600, 16), 40)[:, -1]");
    let keep = sentences(&model);
    let folder = keep.path();
    ok(folder, &["train", "s.nn", "--out", "floats"]);
    let floats = "floats/last.safetensors";
    let quantise = ["quantise", "s.nn", "--weights", floats, "--all", "--max-drop", "100", "-o", "q.safetensors"];
    let told = ok(folder, &quantise);
    assert!(told.contains("in a loop, multiplied as floats"), "{told}");
    let told = ok(folder, &[&quantise[..], &["--json"]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    let [table, matrix] = [0, 1].map(|at| &told["tables"][at]);
    assert!(table["path"] == "embedding_1.w" && table["in_loop"] == false, "{told:#}");
    let path = "gru_1.block[0].gru_layer_1.u";
    assert!(matrix["path"] == path && matrix["in_loop"] == true && matrix["int8"] == true, "{told:#}");
    assert!(matrix["error"].as_f64().unwrap() < 0.01, "{told:#}");
    let [before, after] = [0, 1].map(|at| told["bytes"][at].as_f64().unwrap());
    // A small network: what is added to results, a float for each channel, counts.
    assert!(after < 0.34 * before, "{told:#}");
    altered(folder, "q.safetensors", "again.safetensors", |tensors| {
        assert!(!tensors.contains_key(path), "the floats are gone");
        assert_eq!(tensors[&format!("{path}.stored")].dims, [40, 120]);
        assert_eq!(tensors[&format!("{path}.scales")].dims, [1, 120]);
        assert_eq!(tensors[&format!("$stored.{path}")].dims, [4]);
    });
    fs::write(folder.join("one.csv"), "1,2,3,400,500,599\n").unwrap();
    for answer in [["scores", "text=one.csv"], ["given", "words=one.csv"]] {
        let run = |engine: &str| {
            let run = ["run", "s.nn", "--weights", "q.safetensors", "--answer", answer[0], "--input", answer[1]];
            ok(folder, &[&run[..], &["--engine", engine, "--json"]].concat())
        };
        assert_eq!(run("native"), run("cranelift"));
    }
    ok(folder, &["bench", "s.nn", "--weights", floats, "--compare", "q.safetensors", "--seconds", "0.05"]);
    // A record that says something else is refused.
    altered(folder, "q.safetensors", "odd.safetensors", |tensors| {
        let record = tensors.get_mut(&format!("$stored.{path}")).unwrap();
        *record.bytes.iter_mut().rev().nth(7).unwrap() = 3;
    });
    let said = fails(folder, &["run", "s.nn", "--weights", "odd.safetensors", "--answer", "scores"]);
    assert!(said.contains("is no number of bits, group and axis"), "{said}");
}

#[test]
fn tables_of_words_are_stored_in_bytes() {
    let keep = sentences(SENTENCES);
    let folder = keep.path();
    ok(folder, &["train", "s.nn", "--out", "floats"]);
    let floats = "floats/last.safetensors";
    let told = ok(
        folder,
        &["quantise", "s.nn", "--weights", floats, "--all", "--max-drop", "100", "-o", "q.safetensors", "--json"],
    );
    let told: Value = serde_json::from_str(&told).unwrap();
    let table = &told["tables"][0];
    assert!(table["path"] == "embedding_1.w" && table["int8"] == true, "{told:#}");
    assert!(table["error"].as_f64().unwrap() < 0.01, "{told:#}");
    altered(folder, "q.safetensors", "again.safetensors", |tensors| {
        assert!(!tensors.contains_key("embedding_1.w"), "an answer with parameters reads what is stored, too");
        assert_eq!(tensors["embedding_1.w.stored"].bytes.len(), 600 * 16);
        assert_eq!(tensors["embedding_1.w.scales"].dims, [1, 600]);
    });
    let run = |engine: &str, weights: &str| {
        let words = [
            "run",
            "s.nn",
            "--weights",
            weights,
            "--answer",
            "given",
            "--input",
            "words=one.csv",
            "--engine",
            engine,
            "--json",
        ];
        ok(folder, &words)
    };
    fs::write(folder.join("one.csv"), "1,2,3,400,500,599\n").unwrap();
    assert_eq!(run("native", "q.safetensors"), run("cranelift", "q.safetensors"));
    assert_ne!(run("native", "q.safetensors"), run("native", floats));
    // A table that costs too much goes back.
    let told = ok(
        folder,
        &[
            "quantise",
            "s.nn",
            "--weights",
            floats,
            "--all",
            "--metric",
            "loss",
            "--max-drop",
            "0",
            "-o",
            "r.safetensors",
            "--json",
        ],
    );
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["measured"]["drop"].as_f64().unwrap() <= 0.0, "{told:#}");
}
