//! The documentation does what it says: `.nn` blocks of the README check, and its commands run.
//!
//! A `console` block is run in order in a folder with the examples; the commands of a block that shows an error must
//! fail. Blocks after `<!-- needs MNIST -->` are left out, since the data does not ship.

use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The blocks of a page that are marked with `language`, with whether they can be run here.
fn blocks(page: &str, language: &str) -> Vec<(String, bool)> {
    let text = fs::read_to_string(Path::new(ROOT).join(page)).expect("the page is there");
    let mut found = Vec::new();
    let mut current: Option<String> = None;
    let mut runnable = true;
    for line in text.lines() {
        match &mut current {
            None if line == format!("```{language}") => current = Some(String::new()),
            None if line.contains("<!-- needs MNIST -->") => runnable = false,
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
    let folder = examples();
    let found = blocks("README.md", "console");
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
