//! The documentation does what it says: `.nn` blocks of the README check, and its commands run.
//!
//! Each code of a diagnostic has an example on the page of the language, with what is said of it; `NNC_BLESS=1` writes
//! the messages anew.
//!
//! A `console` block is run in order in a folder with the examples; the commands of a block that shows an error must
//! fail. Blocks after `<!-- needs MNIST -->` are left out, since the data does not ship, and those after
//! `<!-- needs a quiet machine -->`, which succeed or fail by times.

mod common;

use common::{fails, ok};
use nnc_lang::diagnostic::Code;
use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What stands before a block that cannot be run here.
const NEEDS: [&str; 2] = ["<!-- needs MNIST -->", "<!-- needs a quiet machine -->"];

/// The blocks of a page that are marked with `language`, with whether they can be run here.
fn blocks(page: &str, language: &str) -> Vec<(String, bool)> {
    let text = fs::read_to_string(Path::new(ROOT).join(page)).expect("the page is there");
    let mut found = Vec::new();
    let mut current: Option<String> = None;
    let mut runnable = true;
    for line in text.lines() {
        match &mut current {
            None if line == format!("```{language}") => current = Some(String::new()),
            None if NEEDS.iter().any(|needs| line.contains(needs)) => runnable = false,
            None => {}
            Some(_) if line == "```" => {
                found.push((current.take().unwrap_or_default(), std::mem::replace(&mut runnable, true)))
            }
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    found
}

fn examples() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let from = Path::new(ROOT).join("dsl-examples");
    fs::create_dir(folder.path().join("data")).unwrap();
    for sub in ["", "data"] {
        for entry in fs::read_dir(from.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, folder.path().join(sub).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    folder
}

#[test]
fn the_models_of_the_readme_check() {
    let folder = examples();
    let found = blocks("README.md", "nn");
    assert!(!found.is_empty());
    for (block, _) in found {
        fs::write(folder.path().join("block.nn"), &block).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_nnc")).current_dir(folder.path()).args(["check", "block.nn"]).output();
        assert!(output.unwrap().status.success(), "{block}");
    }
}

#[test]
fn the_commands_of_the_readme_run() {
    run_commands("README.md");
}

#[test]
fn the_commands_of_the_page_on_compression_run() {
    run_commands("docs/compression.md");
}

#[test]
fn the_commands_of_the_page_on_memory_run() {
    run_commands("docs/memory.md");
}

fn run_commands(page: &str) {
    let folder = examples();
    let found = blocks(page, "console");
    assert!(found.iter().any(|(_, runnable)| *runnable));
    for (block, _) in found.iter().filter(|(_, runnable)| *runnable) {
        write_shown_files(folder.path(), block);
        let wanted = !block.contains("error[");
        for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let mut words = command.split_whitespace();
            let program = match words.next() {
                Some("nnc") => env!("CARGO_BIN_EXE_nnc").to_owned(),
                Some(other) => folder.path().join(other).display().to_string(),
                None => continue,
            };
            if command.starts_with("cat ") {
                continue;
            }
            let output = Command::new(program).current_dir(folder.path()).args(words).output().expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), wanted, "{command}\n{said}");
        }
    }
}

/// The example of `mixup` trains as it stands; in an `augment` it is refused.
#[test]
fn the_example_of_mixed_examples_runs() {
    let example =
        blocks("docs/language.md", "nn").into_iter().map(|(text, _)| text).find(|text| text.contains("mixup("));
    let example = example.expect("docs/language.md has an example of `mixup`");
    let folder = tempfile::tempdir().unwrap();
    let row = |row: usize| format!("{row},{},{},1,{}\n", row % 5, row % 7, row % 3);
    fs::write(folder.path().join("rows.csv"), (0..50).map(row).collect::<String>()).unwrap();
    fs::write(folder.path().join("net.nn"), &example).unwrap();
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    let augmented = example.replace("label: i32 =", "augment x = mixup(x, 0.7)\n    label: i32 =");
    fs::write(folder.path().join("net.nn"), augmented).unwrap();
    let said = fails(folder.path(), &["train", "net.nn", "--out", "other"]);
    assert!(said.contains("E0401") && said.contains("use it in the recipe, on the fields of a batch"), "{said}");
}

/// The example of an image and its mask: what moves them moves both alike.
#[test]
fn the_example_of_an_image_and_its_mask_runs() {
    let is_it = |text: &String| text.contains("augment both");
    let example = blocks("docs/language.md", "nn").into_iter().map(|(text, _)| text).find(is_it);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("net.nn"), example.expect("docs/language.md has it")).unwrap();
    ok(folder.path(), &["train", "net.nn", "--out", "run"]);
    let metrics = fs::read_to_string(folder.path().join("run/metrics.csv")).unwrap();
    let mut lines = metrics.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let at = lines.next().unwrap().iter().position(|name| name.ends_with("agree")).expect("the metric is there");
    let agreed: Vec<&str> = lines.map(|line| line[at]).filter(|value| !value.is_empty()).collect();
    assert!(!agreed.is_empty() && agreed.iter().all(|value| value.parse() == Ok(1.0)), "{metrics}");
}

/// What `nnc` says of an example, without the count of errors at its end.
fn said_of(folder: &Path, code: &str, example: &str) -> String {
    fs::write(folder.join("example.nn"), example).unwrap();
    let words: &[&str] = match code {
        "E0801" => &["run", "example.nn", "--input", "x=none.npy"],
        _ => &["check", "example.nn"],
    };
    let output = Command::new(env!("CARGO_BIN_EXE_nnc")).current_dir(folder).args(words).output().expect("it starts");
    let said = String::from_utf8(output.stderr).expect("a message is text");
    let is_count = |last: &str| last.ends_with(" error") || last.ends_with(" errors");
    match said.trim_end().rsplit_once('\n') {
        Some((message, last)) if is_count(last) => message.trim_end().to_owned(),
        Some(_) | None => said.trim_end().to_owned(),
    }
}

#[test]
fn every_code_has_an_example() {
    const MARKS: [&str; 2] = ["<!-- errors: NNC_BLESS=1 writes the messages anew -->\n", "\n<!-- end of errors -->"];
    let path = Path::new(ROOT).join("docs/language.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    let (head, rest) = page.split_once(MARKS[0]).expect("the page has the mark");
    let (section, tail) = rest.split_once(MARKS[1]).expect("the page has the mark");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut fresh = String::new();
    for code in Code::ALL {
        let (name, title) = (code.name(), code.title());
        let own = section.split("\n### ").find(|part| part.starts_with(&format!("{name}:")));
        let own = own.unwrap_or_else(|| panic!("docs/language.md has no example of {name}"));
        let example = own.split("```nn wrong\n").nth(1).and_then(|rest| rest.split("```").next());
        let example = example.unwrap_or_else(|| panic!("docs/language.md has no example of {name}"));
        let said = said_of(folder.path(), name, example);
        assert!(said.contains(&format!("[{name}]")), "the example of {name}:\n{said}");
        fresh.push_str(&format!("\n### {name}: {title}\n\n```nn wrong\n{example}```\n\n```text\n{said}\n```\n"));
    }
    if std::env::var_os("NNC_BLESS").is_some() {
        fs::write(&path, format!("{head}{}{fresh}{}{tail}", MARKS[0], MARKS[1])).expect("the page can be written");
    }
    assert!(section == fresh, "docs/language.md shows other messages; NNC_BLESS=1 writes them anew");
}

/// `$ cat FILE` in a block shows what is in a file: it is written, so that the next command finds it.
fn write_shown_files(folder: &Path, block: &str) {
    let mut into: Option<&str> = None;
    let mut content = String::new();
    for line in block.lines().chain(["$ "]) {
        if let Some(command) = line.strip_prefix("$ ") {
            if let Some(file) = into.take() {
                fs::write(folder.join(file), std::mem::take(&mut content)).unwrap();
            }
            into = command.strip_prefix("cat ");
        } else if into.is_some() {
            content.push_str(line);
            content.push('\n');
        }
    }
}
