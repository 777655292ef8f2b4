//! The parser on the forms of the language, and on what is wrong.

use nnc_lang::diagnostic::{Sources, render};
use nnc_lang::syntax::parse;

/// What is reported for a text, as the user sees it.
fn reported(text: &str) -> String {
    let mut sources = Sources::default();
    let file = sources.add("test.nn", text);
    let (_, diagnostics) = parse(file, text);
    render(&diagnostics, &sources, false)
}

#[test]
fn every_form_of_the_language_parses() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(reported(&text), "", "{}", path.display());
    }
}

#[test]
fn several_mistakes_are_reported_in_one_run() {
    let report = reported(
        "fn f(x: f32) -> f32 {\n    y = x +* 2\n    z = (x\n}\n\nmodel M(x: ) { return x }\nfn g(x: f32) -> f32 = x\n",
    );
    assert_eq!(report.matches("error[").count(), 3, "{report}");
}

#[test]
fn nesting_and_chains_are_bounded() {
    for text in ["(".repeat(100_000), "-".repeat(100_000), "[".repeat(100_000), "not ".repeat(100_000)] {
        assert!(reported(&format!("fn f(x: f32) -> f32 = {text}")).contains("E0106"));
    }
    for link in ["+x", "(x)", "[x]", ".y", " |> x", "**x"] {
        assert!(reported(&format!("fn f(x: f32) -> f32 = x{}", link.repeat(100_000))).contains("E0106"), "{link}");
    }
    assert!(reported(&format!("fn f(x: f32) -> f32 {{ {} }}", "if x {".repeat(10_000))).contains("E0106"));
}
