//! Literate checks: `tests/check/*.nn` say on each line which diagnostics stand there, as `#~ E0302 some words of it`.
//! Every other diagnostic fails the test, as does every one that is missing.

use nnc_lang::diagnostic::{Diagnostic, Sources, render};
use nnc_lang::elaborate::{Loader, Options, check};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

struct Folder;

impl Loader for Folder {
    fn load(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(folder().join(path)).map_err(|_| "no such file".to_owned())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "nn"))
        .collect();
    cases.sort();
    cases
}

/// The expectations of a text: line from 1, code, words.
fn expected(text: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for mark in line.split("#~").skip(1) {
            let (code, words) = mark.trim().split_once(' ').unwrap_or((mark.trim(), ""));
            found.push((at + 1, code.to_owned(), words.trim().to_owned()));
        }
    }
    found
}

fn check_case(path: &Path) -> Result<BTreeSet<String>, String> {
    let text = fs::read_to_string(path).expect("a case can be read");
    let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
    let checked = check(&name, &text, &Folder, &Options::default());
    let mut left = expected(&text);
    let codes = left.iter().map(|(_, code, _)| code.clone()).collect();
    let mut wrong: Vec<String> = Vec::new();
    for diagnostic in &checked.diagnostics {
        let line = checked.sources.locate(diagnostic.primary.span).line;
        let fits = |(at, code, words): &(usize, String, String)| {
            *at == line && *code == diagnostic.code.name() && shown(diagnostic).contains(words.as_str())
        };
        match left.iter().position(fits) {
            Some(at) => drop(left.remove(at)),
            None => wrong.push(format!("not expected:\n{}", rendered(diagnostic, &checked.sources))),
        }
    }
    wrong.extend(left.iter().map(|(line, code, words)| format!("{name}:{line}: missing {code} {words}")));
    if wrong.is_empty() { Ok(codes) } else { Err(wrong.join("\n")) }
}

/// All the words of a diagnostic.
fn shown(diagnostic: &Diagnostic) -> String {
    let labels = diagnostic.secondary.iter().map(|label| label.text.as_str());
    let rest = [diagnostic.message.as_str(), &diagnostic.primary.text, diagnostic.help.as_deref().unwrap_or_default()];
    rest.into_iter().chain(labels).collect::<Vec<_>>().join("\n")
}

fn rendered(diagnostic: &Diagnostic, sources: &Sources) -> String {
    render(std::slice::from_ref(diagnostic), sources, false)
}

#[test]
fn every_case_reports_what_it_says() {
    let failures: Vec<String> = cases().iter().filter_map(|path| check_case(path).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Codes of the evaluator; those of syntax, data and recipes have their own suites.
const CODES: [&str; 28] = [
    "E0201", "E0202", "E0203", "E0204", "E0205", "E0206", "E0301", "E0302", "E0303", "E0304", "E0305", "E0306",
    "E0307", "E0308", "E0309", "E0310", "E0311", "E0401", "E0402", "E0403", "E0404", "E0405", "E0406", "E0407",
    "E0107", "E0701", "W0001", "W0002",
];

#[test]
fn every_code_has_a_case() {
    let seen: BTreeSet<String> = cases().iter().filter_map(|path| check_case(path).ok()).flatten().collect();
    let missing: Vec<&str> = CODES.into_iter().filter(|code| !seen.contains(*code)).collect();
    assert!(missing.is_empty(), "no case has {missing:?}");
}
