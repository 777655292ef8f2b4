//! Tables whose rows are picked by number, in quantised networks.

mod common;

use common::{altered, ok};
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

#[test]
fn tables_of_words_are_stored_in_bytes() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    let word = |at: usize| at * 7919 % 600;
    let line = |row: usize| {
        let words: Vec<usize> = (0..6).map(|place| word(6 * row + place)).collect();
        let low = words.iter().filter(|&&word| word < 300).count();
        let words: Vec<String> = words.iter().map(usize::to_string).collect();
        format!("{},{}\n", words.join(","), low / 3)
    };
    fs::write(folder.join("sentences.csv"), (0..400).map(line).collect::<String>()).unwrap();
    fs::write(folder.join("s.nn"), SENTENCES).unwrap();
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
