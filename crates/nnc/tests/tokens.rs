//! A network of byte-pair tokens from the command line: trained, evaluated, run on a text, and built.

mod common;

use common::{fails, ok};
use std::fs;
use std::process::Command;

const SOURCE: &str = "model Lm(tokens: i32[N, T]) -> f32[N, T, 300] {
    return tokens |> embedding(300, 16) |> gru(16) |> dense(300)
}
data tale {
    train: tokens[9] = text(\"a.txt\", vocabulary=300)
    test = 0.2
    tokens: i32[8] = train[0..8]
    next: i32[8] = train[1..9]
}
train Lm on tale {
    epochs = 20
    batch = 4
    logits = Lm(tokens)
    minimize cross_entropy(logits, next) using adam(lr=3e-2)
    answer guess = softmax(logits[:, -1])
    answer text(prompt: i32[N, P], length: int = 4) -> i32[N, P + length] {
        best = argmax(Lm(prompt)[:, -1], axis=-1)
        return concat([prompt, broadcast_to(best[:, new], [N, length])], axis=1)
    }
}
";

#[test]
fn text_goes_in_and_comes_out() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::write(folder.join("lm.nn"), SOURCE).unwrap();
    fs::write(folder.join("a.txt"), "the house was in the wood, the wood was on the hill;\n".repeat(20)).unwrap();
    ok(folder, &["train", "lm.nn", "--out", "run"]);
    let weights = ["--weights", "run/last.safetensors"];
    ok(folder, &[&["eval", "lm.nn"][..], &weights].concat());
    fs::remove_file(folder.join("a.txt")).unwrap();
    let run = |words: &[&str]| ok(folder, &[&["run", "lm.nn"][..], words, &weights].concat());
    let said = run(&["--answer", "text", "--input", "prompt=the wood, \u{c4}pfel"]);
    assert!(said.starts_with("the wood, \u{c4}pfel") && said.len() > 19, "{said}");
    let json = run(&["--answer", "text", "--input", "prompt=the", "--json", "--set", "length=1"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["answers"]["text"]["text"][0].as_str().unwrap().starts_with("the"), "{json}");
    // A window for each eight tokens of a file; classes are called by their texts.
    fs::write(folder.join("more.txt"), "the house was in the wood, the wood was on the hill").unwrap();
    assert!(run(&["--answer", "guess", "--input", "more.txt"]).starts_with("guess:"));

    let build = ["build", "lm.nn", "--answer", "text", "--bind", "P=6", "-o", "tale"];
    ok(folder, &[&build[..], &weights].concat());
    let program = |words: &[&str]| {
        let output = Command::new(folder.join("tale")).current_dir(folder).args(words).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let bound = run(&["--answer", "text", "--bind", "P=6", "--input", "prompt=the wood"]);
    assert_eq!(program(&["the wood"]).0, bound);
    assert!(bound.starts_with("\n\n\n\nthe wood"), "{bound}");
    let long = program(&["xyz xyz xyz"]).1;
    assert!(long.contains("tokens, and at most 6 are taken"), "{long}");
    let help = program(&["--help"]).0;
    assert!(help.contains("prompt: i32[N, 6]  (the numbers of a text's tokens)"), "{help}");

    // Weights of tokens are not those of characters.
    let letters = SOURCE.replace("tokens[9]", "i32[9]");
    fs::write(folder.join("letters.nn"), letters).unwrap();
    fs::write(folder.join("a.txt"), "the house").unwrap();
    let other = fails(folder, &[&["eval", "letters.nn"][..], &weights].concat());
    assert!(other.contains("different characters, but `vocabulary=300` is declared"), "{other}");
}
