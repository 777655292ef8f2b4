//! Literate syntax errors: `tests/syntax/*.nn` say on each line what is reported there, as `#~ E0102 the message`;
//! `#~^` speaks of the line above. Every other diagnostic fails the test, and so does every one that is missing.
//!
//! `NNC_BLESS=1` writes what is reported into the files; read the difference before keeping it.

use nnc_lang::diagnostic::{Diagnostic, Severity, Sources, render};
use nnc_lang::syntax::parse;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A line from 1, and what is said of it: a code and a message.
type Expectation = (usize, String);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/syntax")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "nn"));
    cases.sort();
    cases
}

fn blessing() -> bool {
    std::env::var_os("NNC_BLESS").is_some()
}

/// What a text's marks say, in the order of lines.
fn expected(text: &str) -> Vec<Expectation> {
    let mut found = Vec::new();
    let mut above = 0;
    for (at, line) in text.lines().enumerate() {
        let only_marks = line.trim_start().starts_with("#~^");
        above = if only_marks { above } else { at + 1 };
        for mark in line.split("#~").skip(1) {
            found.push((above, mark.trim_start_matches('^').trim().to_owned()));
        }
    }
    found.sort();
    found
}

fn reported(text: &str) -> (Sources, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let file = sources.add("case.nn", text);
    let (_, diagnostics) = parse(file, text);
    (sources, diagnostics)
}

fn found(text: &str) -> Vec<Expectation> {
    let (sources, diagnostics) = reported(text);
    let place = |diagnostic: &Diagnostic| sources.locate(diagnostic.primary.span).line;
    let says = |diagnostic: &Diagnostic| format!("{} {}", diagnostic.code, diagnostic.message);
    let mut found: Vec<Expectation> = diagnostics.iter().map(|each| (place(each), says(each))).collect();
    found.sort();
    found
}

/// The text without its marks.
fn unmarked(text: &str) -> String {
    let kept = text.lines().filter(|line| !line.trim_start().starts_with("#~^"));
    kept.flat_map(|line| [line.split("#~").next().unwrap_or("").trim_end(), "\n"]).collect()
}

/// The text with marks that say what is reported. A line whose string is open gets its mark below.
fn marked(text: &str) -> String {
    let text = unmarked(text);
    let found = found(&text);
    let mut written = String::new();
    for (at, line) in text.lines().enumerate() {
        let marks: Vec<&String> = found.iter().filter(|(place, _)| *place == at + 1).map(|(_, says)| says).collect();
        written += line;
        if line.matches('"').count() % 2 == 0 {
            marks.iter().for_each(|mark| written += &format!(" #~ {mark}"));
            written += "\n";
        } else {
            written += "\n";
            marks.iter().for_each(|mark| written += &format!("#~^ {mark}\n"));
        }
    }
    written
}

#[test]
fn mistakes_are_reported_where_they_are() {
    let mut wrong = String::new();
    for path in cases() {
        let text = fs::read_to_string(&path).unwrap();
        if blessing() {
            fs::write(&path, marked(&text)).unwrap();
        } else if expected(&text) != found(&text) {
            wrong += &format!("{}\nexpected {:#?}\nfound {:#?}\n", path.display(), expected(&text), found(&text));
        }
    }
    assert!(wrong.is_empty(), "{wrong}NNC_BLESS=1 writes what is found into the files");
}

#[test]
fn every_code_of_the_syntax_has_a_case() {
    let texts: Vec<String> = cases().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut cased: BTreeSet<String> =
        texts.iter().flat_map(|text| expected(text)).map(|(_, says)| says.chars().take(5).collect()).collect();
    cased.insert("E0106".to_owned()); // Too long for a file: `tests/parse.rs` has it.
    let codes = nnc_lang::diagnostic::Code::ALL.iter().map(|code| code.name()).filter(|name| name.starts_with("E01"));
    let missing: Vec<&str> = codes.filter(|name| !cased.contains(*name)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

/// What the user sees, with its help: `tests/syntax/rendered.txt`.
#[test]
fn messages_are_rendered_as_the_user_sees_them() {
    let mut seen = String::new();
    for path in cases() {
        let (sources, diagnostics) = reported(&unmarked(&fs::read_to_string(&path).unwrap()));
        assert!(diagnostics.iter().all(|diagnostic| diagnostic.severity() == Severity::Error));
        seen += &format!("==== {}\n{}", path.file_name().unwrap().display(), render(&diagnostics, &sources, false));
    }
    let path = folder().join("rendered.txt");
    if blessing() {
        fs::write(&path, seen).unwrap();
    } else {
        assert_eq!(seen, fs::read_to_string(&path).unwrap(), "NNC_BLESS=1 writes what is found into the file");
    }
}

/// The `nn` blocks of the language's documentation are right.
#[test]
fn the_documentation_parses() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/language.md");
    let page = fs::read_to_string(path).unwrap();
    let blocks = page.split("```nn\n").skip(1).map(|block| block.split("```").next().unwrap_or(""));
    for block in blocks {
        assert_eq!(found(block), Vec::new(), "{block}");
    }
}
